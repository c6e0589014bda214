"""BaseAutoencoder: what every estimator of this package does."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor
from tqdm.auto import tqdm

from eigencode.composition import Composition
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.errors import DataError, InterruptedWarning, TrainingError
from eigencode.estimators.diagnosis import notes
from eigencode.estimators.generation import Generation
from eigencode.estimators.preparation import Preparation, check_values, likelihood_of, prepare, resume
from eigencode.options import AutoencoderOptions, check_options
from eigencode.parts.base import Units
from eigencode.training import loop
from eigencode.training.execution import require_memory
from eigencode.training.noise import resolve_seed
from eigencode.training.state import TrainingState

ENDLESS = 2**62
"""Steps of a run without a known end."""


@dataclass(eq=False, repr=False)
class BaseAutoencoder(AutoencoderOptions, ClassNamePrefixFeaturesOutMixin, TransformerMixin, Generation):
    """Fits a composition to rows, and answers with it."""

    # -- fitting

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the autoencoder to rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Numbers without gaps: a NumPy array, a pandas, polars or pyarrow table, a torch tensor, nested lists.
        y : None
            Ignored; present for pipelines.
        sample_weight : array-like of shape (n,), optional
            Weight of each row in scale, start, objective and choice of the best epoch. Only their ratios matter; a row
            of weight zero is left out.

        Returns
        -------
        self
            The fitted estimator, with the best weights found.
        """
        epochs = tqdm(
            self.iter_fit(X, y, sample_weight), desc=type(self).__name__, unit=" epochs", disable=not self.verbose
        )
        try:
            for row in epochs:
                epochs.set_postfix(held_out=f"{row['held_out_objective']:.5g}", refresh=False)
        except KeyboardInterrupt:
            message = "Training was interrupted; the best weights so far are kept."
            warnings.warn(message, InterruptedWarning, stacklevel=2)
        if self.verbose:
            for note in self.notes_:
                tqdm.write(f"note: {note}", file=sys.stderr)
        return self

    def iter_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Iterator[dict[str, float]]:
        """Fit step by step: an iterator that trains one epoch for each row of history it yields.

        Options and rows are checked at once, before the first epoch. Inside the loop the current weights answer; when
        the iterator ends, or is left by ``break`` and dropped, the best ones do.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As for ``fit``.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), optional
            As for ``fit``.

        Returns
        -------
        iterator of dict
            ``epoch``, ``step``, ``learning_rate``, and the mean objective a row (in the model's units) on the
            training rows during the epoch and on the held-out rows after it.
        """
        run = self._begin(X, sample_weight)
        loop.begin(run.state, run.work)
        self.history_ = run.state.history
        self.best_epoch_, self.best_objective_ = 0, run.state.history[0]["held_out_objective"]
        self.baseline_ = None if run.baseline is None else self._as_baseline(run.baseline, run.work)
        return self._train(run.state, run.work)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take one pass over a block of rows, and keep what was learned from earlier blocks.

        The first block settles scale, code size, start and step size, so it should be typical and not small. There are
        no held-out rows and no decay of the step size: the last weights are the model's.

        Parameters
        ----------
        X : array-like of shape (n, d)
            A block of rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), optional
            Weight of each row.

        Returns
        -------
        self
        """
        if not hasattr(self, "stream_state_"):
            options = replace(self._training_options(), validation_fraction=0.0, max_seconds=None)
            if options.optimizer == "auto":
                # L-BFGS would carry one block's curvature over to the next.
                options.optimizer = "adam"
            run = self._begin(X, sample_weight, options)
            state, work = run.state, run.work
            # A stream has no known end: after the warm-up the step size stays.
            state.schedule.decay_from = state.schedule.end = ENDLESS
            self.history_, self.best_epoch_, self.baseline_ = state.history, 0, None
        else:
            check_options(self)
            self._check_values(X)
            array = self._numbers(X)
            array, weights = _weighted(array, sample_weight)
            state, work = resume(self, self._scaled(array), weights)
        try:
            loop.one_pass(state, work)
        finally:
            self.stream_state_ = state.state_dict()
            state.parameters.release()
        self.history_ = state.history
        self.best_epoch_, self.best_objective_ = state.epoch, state.history[-1]["training_objective"]
        return self

    def _begin(self, X: Any, sample_weight: Any, options: AutoencoderOptions | None = None) -> Preparation:
        """Check options and rows, fit the scale, and prepare a run; a refusal leaves the estimator as it was."""
        before = self.__dict__.copy()
        try:
            return self._prepared(X, sample_weight, options)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _prepared(self, X: Any, sample_weight: Any, options: AutoencoderOptions | None) -> Preparation:
        """The run, and every attribute known before the training."""
        check_options(self)
        self.__dict__.pop("stream_state_", None)
        array = self._numbers(X, reset=True)
        check_values(likelihood_of(self), ArraySource(array), getattr(self, "feature_names_in_", None))
        array, weights = _weighted(array, sample_weight)
        self.seed_ = resolve_seed(self.random_state)
        self.scaler_ = Scaler.fit(ArraySource(array), self.scale, weights)
        self.scale_ = self.scaler_.kind
        units = Units(torch.from_numpy(self.scaler_.center), torch.from_numpy(self.scaler_.divisor))
        run = prepare(options or self._training_options(), self._scaled(array), self.seed_, units, weights)
        self.composition_ = run.state.composition
        self.objective_ = run.work.objective
        self.execution_ = run.work.execution
        self.n_components_ = self.composition_.n_components
        self.hidden_, self.start_, self.optimizer_ = run.hidden, run.start, run.optimizer
        self.explained_variance_ratio_ = run.spectrum.explained_variance_ratio(self.n_components_)
        self.notes_: list[str] = []
        return run

    def _training_options(self) -> AutoencoderOptions:
        """The options as training is to read them; named autoencoders may settle some."""
        return self

    def _scaled(self, array: np.ndarray) -> Tensor:
        """Scaled rows as one tensor in the weights' precision, filled a chunk at a time."""
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        require_memory(array.size * dtype.itemsize, "The scaled table", "Try fewer rows at a time with partial_fit")
        rows = torch.empty(array.shape, dtype=dtype)
        first = 0
        for chunk in self.scaler_.chunks(array, np.float64):
            rows[first : first + len(chunk)] = torch.from_numpy(chunk)
            first += len(chunk)
        return rows

    def _train(self, state: TrainingState, work: loop.Work) -> Iterator[dict[str, float]]:
        # An iterator that is never begun leaves nothing to put right: the start is the model.
        try:
            for row in loop.epochs(state, work):
                self.best_epoch_ = state.epoch  # the weights that answer inside the loop
                yield row
        finally:
            state.restore_best()
            state.parameters.release()
            if self.composition_ is state.composition:  # no newer fit has taken the place of this one
                self._conclude(state, work)
        if not math.isfinite(self.best_objective_):
            raise TrainingError(
                "Training found no weights with a finite objective",
                got=f"{self.best_objective_} at the start and at every epoch",
                hint="Look for extreme weights, penalties or learning rates",
            )

    def _conclude(self, state: TrainingState, work: loop.Work) -> None:
        """Set what is known after training only."""
        if state.best is not None:
            self.best_epoch_, self.best_objective_ = state.best.epoch, state.best.objective
        rival = self.baseline_ if self.hidden_ else None
        baseline = None if rival is None else rival.history_[0]["held_out_objective"]
        self.notes_ = notes(state, work.rows, baseline)

    def _as_baseline(self, composition: Composition, work: loop.Work) -> BaseAutoencoder:
        """The linear model of the same kind as a fitted estimator of its own."""
        options = {"hidden": (), "encoder": None, "decoder": None, "start": "linear", "max_epochs": 0}
        baseline: BaseAutoencoder = clone(self).set_params(**options)
        shared = {name: value for name, value in vars(self).items() if name.endswith("_")}
        baseline.__dict__.update(shared)
        baseline.composition_ = composition.to(self.execution_.device)
        baseline.hidden_, baseline.start_, baseline.baseline_ = (), "linear", None
        objective = loop.evaluate_mean(composition, work, self.seed_)
        baseline.history_ = [{"epoch": 0, "step": 0, "held_out_objective": objective}]
        baseline.best_objective_ = objective
        return baseline

    # -- scikit-learn's contract

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "history_")


def _weighted(array: np.ndarray, sample_weight: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows that weigh anything, and their weights with mean 1; no weights at all where all are equal."""
    if sample_weight is None:
        return array, None
    weights = _check_sample_weight(sample_weight, array, dtype=np.float64, ensure_non_negative=True)
    array, weights = array[weights > 0], weights[weights > 0]
    if len(array) < 2:
        raise DataError("Fitting takes at least two rows of positive weight", got=f"{len(array)}")
    return array, None if (weights == weights[0]).all() else weights / weights.mean()
