"""BaseAutoencoder: what every estimator of this package does."""

from __future__ import annotations

import copy
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import _check_sample_weight, check_array, check_is_fitted, validate_data
from torch import Tensor, nn
from tqdm.auto import tqdm

from eigencode.composition import Composition
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.errors import DataError, OptionError, ResultWarning, TrainingError
from eigencode.estimators.diagnosis import notes
from eigencode.estimators.preparation import Preparation, check_values, likelihood_of, prepare, resume
from eigencode.options import AutoencoderOptions, check_options
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods import Units
from eigencode.training import loop
from eigencode.training.execution import require_memory
from eigencode.training.noise import resolve_seed
from eigencode.training.state import TrainingState

ENDLESS = 2**62
"""Steps of a run without a known end."""


@dataclass(eq=False, repr=False)
class BaseAutoencoder(AutoencoderOptions, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
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
            warnings.warn(message, ResultWarning, stacklevel=2)
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
        self.notes_ = notes(state, work.objective, work.rows, baseline)

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

    # -- answers

    def transform(self, X: Any, *, n_components: int | None = None) -> np.ndarray:
        """Encode rows: the mean of q(z|x).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_components : int, optional
            Give the first components of an ordered code only.

        Returns
        -------
        ndarray of shape (n, k)
            Codes, row i of row i, in X's float type; the same at every call.
        """
        kept = self._kept(n_components)
        return self._answer(X, lambda model, x, clipped: model.encode(clipped).mean[:, :kept])

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes: the mean of p(x|z), in the data's units.

        Parameters
        ----------
        X : array-like of shape (n, k)
            Codes.

        Returns
        -------
        ndarray of shape (n, d)
            Rows.
        """
        check_is_fitted(self)
        codes = check_array(X, dtype=(np.float64, np.float32))
        if codes.shape[1] != self.n_components_:
            raise DataError(
                f"Codes of this {type(self).__name__} have {self.n_components_} columns",
                got=f"an array of shape {codes.shape}",
                hint="Pass what transform returned",
            )
        model = self._model_in(codes.dtype)
        with torch.inference_mode():
            decoded = [_mean(model, model.decode(self._tensor(part))) for part in ArraySource(codes).chunks()]
        return self._in_data_units(torch.cat(decoded).cpu().numpy())

    def reconstruct(self, X: Any, *, n_components: int | None = None) -> np.ndarray:
        """Encode and decode rows: the mean of p(x|z) at the mean code, in the data's units.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_components : int, optional
            Reconstruct from the first components of an ordered code only.

        Returns
        -------
        ndarray of shape (n, d)
            Rows, in X's float type.
        """
        kept = self._kept(n_components)
        answer = self._answer(X, lambda model, x, clipped: _mean(model, _reconstruction(model, clipped, kept)))
        return self._in_data_units(answer)

    def reconstruction_error(self, X: Any, *, scaled: bool = False) -> np.ndarray:
        """Squared error of each row's reconstruction, summed over the columns.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        scaled : bool, default False
            Measure in the model's scaled units, where every column weighs the same under ``scale="standard"``,
            instead of the data's.

        Returns
        -------
        ndarray of shape (n,)
            Errors, in X's float type.
        """
        check_is_fitted(self)
        return self._squared_errors(X, [self.n_components_], scaled)[:, 0]

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-likelihood of each row given its own code, log p(x | f(x)), in nats and in the data's units.

        It is not a density of x: the code was chosen with the row in sight.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n,)
            Nats, in X's float type.
        """
        check_is_fitted(self)
        self._check_values(X)
        # A density changes with the units it is over; one in the data's own units is there already.
        log_jacobian = 0.0 if self.composition_.likelihood.own_units else self.scaler_.log_jacobian

        def log_likelihood(model: Composition, x: Tensor, clipped: Tensor) -> Tensor:
            return model.reconstruct(clipped).log_prob(model.likelihood.target(x)).sum(1) + log_jacobian

        return self._answer(X, log_likelihood)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of ``score_samples``, in nats a row; higher is better.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        y : None
            Ignored.

        Returns
        -------
        float
            Nats.
        """
        return float(self.score_samples(X).mean(dtype=np.float64))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted model to one ``.safetensors`` file, whole or not at all.

        Parameters
        ----------
        path : path-like
            Where to; an existing file is replaced.
        """
        from eigencode.storage import save

        save(self, path)

    def reconstruction_error_by_size(self, X: Any, *, scaled: bool = False) -> np.ndarray:
        """Mean squared error a row with the first 1, 2, ... components of an ordered code.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        scaled : bool, default False
            Measure in the model's scaled units.

        Returns
        -------
        ndarray of shape (k,)
            Entry j - 1 is the error with j components; ``baseline_`` gives the linear model's beside it.
        """
        self._kept(1)
        return self._squared_errors(X, range(1, self.n_components_ + 1), scaled).mean(0)

    # -- the path of one answer

    def _kept(self, n_components: int | None) -> int:
        """How many components to use, checked against what the code can be cut to."""
        check_is_fitted(self)
        if n_components is None:
            return self.n_components_
        is_pca = self.start_ == "linear" and self.best_epoch_ == 0
        if not (self.composition_.code.is_ordered or is_pca):
            raise OptionError(
                "Only an ordered code can be cut to its first components",
                got=f"n_components={n_components} for a code without an order",
                hint="Fit with ordered=True",
            )
        if not 1 <= n_components <= self.n_components_:
            raise OptionError(f"n_components must be in 1..{self.n_components_}", got=f"{n_components}")
        return n_components

    def _answer(self, X: Any, function: Callable[[Composition, Tensor, Tensor], Tensor]) -> np.ndarray:
        """Apply a function of the model, scaled rows, and these rows clipped for the network, a chunk at a time."""
        check_is_fitted(self)
        array = self._numbers(X)
        dtype = _float_type(array.dtype)
        model, limit = self._model_in(dtype), self.scaler_.limit
        found = []
        with torch.inference_mode():
            for chunk in self.scaler_.chunks(array, dtype):
                x = self._tensor(chunk)
                found.append(function(model, x, x.clamp(-limit, limit)))
        return torch.cat(found).cpu().numpy()

    def _squared_errors(self, X: Any, sizes: Iterable[int], scaled: bool) -> np.ndarray:
        """Squared error of each row with the first components of its code, one column for each number of them."""
        units = torch.from_numpy(np.ones_like(self.scaler_.divisor) if scaled else self.scaler_.divisor)

        def errors(model: Composition, x: Tensor, clipped: Tensor) -> Tensor:
            gaps = [(x - _scaled_reconstruction(model, clipped, kept)) * units.to(x) for kept in sizes]
            return torch.stack([gap.square().sum(1) for gap in gaps], dim=1)

        return self._answer(X, errors)

    def _check_values(self, X: Any) -> None:
        """Refuse rows with values that the likelihood cannot be asked about."""
        likelihood = self.composition_.likelihood
        if likelihood.support != "real":
            array = self._numbers(X)
            check_values(likelihood, ArraySource(array), getattr(self, "feature_names_in_", None))

    def _numbers(self, X: Any, reset: bool = False) -> np.ndarray:
        """Rows checked by scikit-learn's rules, in the numeric type they came in."""
        array = validate_data(self, X, dtype="numeric", reset=reset, ensure_min_samples=2 if reset else 1)
        if array.dtype.kind not in "biuf":
            raise DataError(
                "Columns must be numbers",
                got=f"an array of {array.dtype}",
                hint="Turn dates and text into numbers first",
            )
        return array

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.execution_.device)

    def _model_in(self, dtype: np.dtype) -> Composition:
        """The composition in a precision: itself where it is kept so, else a copy."""
        wanted = torch.float64 if dtype == np.float64 else torch.float32
        if all(p.dtype == wanted for p in self.composition_.parameters()):
            return self.composition_
        return copy.deepcopy(self.composition_).to(wanted)

    def _in_data_units(self, rows: np.ndarray) -> np.ndarray:
        if self.composition_.likelihood.own_units:
            return rows
        # Rows at the very end of their type's range may be rebuilt a rounding beyond it.
        range_ = np.finfo(rows.dtype)
        return self.scaler_.inverse_transform(rows).clip(range_.min, range_.max).astype(rows.dtype)

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


def _mean(model: Composition, p: Distribution) -> Tensor:
    """The mean of p(x|z) in the units that p is over, where no rounding takes a rate or a share out of its range."""
    return p.mean if model.likelihood.own_units else model.likelihood.scaled_mean(p)


def _scaled_reconstruction(model: Composition, x: Tensor, n_components: int) -> Tensor:
    """The mean of p(x|z) in the model's units, at the first components of the mean code."""
    return model.likelihood.scaled_mean(_reconstruction(model, x, n_components))


def _reconstruction(model: Composition, x: Tensor, n_components: int) -> Distribution:
    """p(x|z) at the first components of the mean code, the others zero."""
    z = model.encode(x).mean
    if n_components < z.shape[1]:
        z = nn.functional.pad(z[:, :n_components], (0, z.shape[1] - n_components))
    return model.decode(z)


def _weighted(array: np.ndarray, sample_weight: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows that weigh anything, and their weights with mean 1; no weights at all where all are equal."""
    if sample_weight is None:
        return array, None
    weights = _check_sample_weight(sample_weight, array, dtype=np.float64, ensure_non_negative=True)
    array, weights = array[weights > 0], weights[weights > 0]
    if len(array) < 2:
        raise DataError("Fitting takes at least two rows of positive weight", got=f"{len(array)}")
    return array, None if (weights == weights[0]).all() else weights / weights.mean()


def _float_type(dtype: np.dtype) -> np.dtype:
    """The type of answers: float32 for rows in types that fit into it, else float64."""
    return np.dtype(np.float32) if np.can_cast(dtype, np.float32) else np.dtype(np.float64)
