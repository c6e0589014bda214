"""BaseAutoencoder: what every estimator of this package does."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor
from tqdm.auto import tqdm

from eigencode.composition import Composition
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.errors import DataError, ResultWarning
from eigencode.estimators.preparation import prepare
from eigencode.options import AutoencoderOptions, check_options
from eigencode.parts.likelihoods import Units
from eigencode.training import loop
from eigencode.training.noise import resolve_seed
from eigencode.training.state import TrainingState


@dataclass(eq=False, repr=False)
class BaseAutoencoder(AutoencoderOptions, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Fits a composition to rows, and answers with it."""

    # -- fitting

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the autoencoder to rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Numbers without gaps: a NumPy array, a pandas, polars or pyarrow table, a torch tensor, nested lists.
        y : None
            Ignored; present for pipelines.

        Returns
        -------
        self
            The fitted estimator, with the best weights found.
        """
        epochs = tqdm(self.iter_fit(X, y), desc=type(self).__name__, unit=" epochs", disable=not self.verbose)
        try:
            for row in epochs:
                epochs.set_postfix(held_out=f"{row['held_out_objective']:.5g}", refresh=False)
        except KeyboardInterrupt:
            message = "Training was interrupted; the best weights so far are kept."
            warnings.warn(message, ResultWarning, stacklevel=2)
        return self

    def iter_fit(self, X: Any, y: Any = None) -> Iterator[dict[str, float]]:
        """Fit step by step: an iterator that trains one epoch for each row of history it yields.

        Options and rows are checked at once, before the first epoch. Inside the loop the current weights answer; when
        the iterator ends, or is left by ``break`` and dropped, the best ones do.

        Parameters
        ----------
        X : array-like of shape (n, d)
            As for ``fit``.
        y : None
            Ignored.

        Returns
        -------
        iterator of dict
            ``epoch``, ``step``, ``learning_rate``, and the mean objective a row (in the model's units) on the
            training rows during the epoch and on the held-out rows after it.
        """
        check_options(self)
        array = validate_data(self, X, dtype="numeric", ensure_min_samples=2)
        self.seed_ = resolve_seed(self.random_state)
        self.scaler_ = Scaler.fit(ArraySource(array), self.scale)
        self.scale_ = self.scaler_.kind
        dtype = np.float64 if self.precision == "float64" else np.float32
        rows = torch.from_numpy(np.concatenate(list(self.scaler_.chunks(array, dtype))))
        units = Units(torch.from_numpy(self.scaler_.center), torch.from_numpy(self.scaler_.divisor))
        run = prepare(self, rows, self.seed_, units)
        self.composition_ = run.state.composition
        self.objective_ = run.work.objective
        self.execution_ = run.work.execution
        self.n_components_ = self.composition_.n_components
        self.hidden_, self.start_, self.optimizer_ = run.hidden, run.start, run.optimizer
        self.explained_variance_ratio_ = run.spectrum.explained_variance_ratio(self.n_components_)
        loop.begin(run.state, run.work)
        self.history_ = run.state.history
        self.best_epoch_ = 0
        self.baseline_ = None if run.baseline is None else self._as_baseline(run.baseline, run.work)
        return self._train(run.state, run.work)

    def _train(self, state: TrainingState, work: loop.Work) -> Iterator[dict[str, float]]:
        try:
            yield from loop.epochs(state, work)
        finally:
            state.restore_best()
            state.parameters.release()
            self.best_epoch_ = 0 if state.best is None else state.best.epoch

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
        return baseline

    # -- answers

    def transform(self, X: Any) -> np.ndarray:
        """Encode rows: the mean of q(z|x).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n, n_components_)
            Codes, row i of row i, in X's float type; the same at every call.
        """
        return self._answer(X, lambda model, x, clipped: model.encode(clipped).mean)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes: the mean of p(x|z), in the data's units.

        Parameters
        ----------
        X : array-like of shape (n, n_components_)
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
            decoded = [
                model.likelihood.scaled_mean(model.decode(self._tensor(part))) for part in ArraySource(codes).chunks()
            ]
        return self._in_data_units(torch.cat(decoded).cpu().numpy())

    def reconstruct(self, X: Any) -> np.ndarray:
        """Encode and decode rows: the mean of p(x|z) at the mean code, in the data's units.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n, d)
            Rows, in X's float type.
        """
        return self._in_data_units(self._answer(X, _scaled_reconstruction))

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
        units = torch.from_numpy(np.ones_like(self.scaler_.divisor) if scaled else self.scaler_.divisor)

        def error(model: Composition, x: Tensor, clipped: Tensor) -> Tensor:
            gap = (x - _scaled_reconstruction(model, x, clipped)) * units.to(x)
            return gap.square().sum(1)

        return self._answer(X, error)

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

    # -- the path of one answer

    def _answer(self, X: Any, function: Callable[[Composition, Tensor, Tensor], Tensor]) -> np.ndarray:
        """Apply a function of the model, scaled rows, and these rows clipped for the network, a chunk at a time."""
        check_is_fitted(self)
        array = validate_data(self, X, dtype="numeric", reset=False)
        dtype = _float_type(array.dtype)
        model, limit = self._model_in(dtype), self.scaler_.limit
        found = []
        with torch.inference_mode():
            for chunk in self.scaler_.chunks(array, dtype):
                x = self._tensor(chunk)
                found.append(function(model, x, x.clamp(-limit, limit)))
        return torch.cat(found).cpu().numpy()

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.execution_.device)

    def _model_in(self, dtype: np.dtype) -> Composition:
        """The composition in a precision: itself where it is kept so, else a copy."""
        wanted = torch.float64 if dtype == np.float64 else torch.float32
        if all(p.dtype == wanted for p in self.composition_.parameters()):
            return self.composition_
        return copy.deepcopy(self.composition_).to(wanted)

    def _in_data_units(self, rows: np.ndarray) -> np.ndarray:
        return self.scaler_.inverse_transform(rows).astype(rows.dtype)

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


def _scaled_reconstruction(model: Composition, x: Tensor, clipped: Tensor) -> Tensor:
    return model.likelihood.scaled_mean(model.reconstruct(clipped))


def _float_type(dtype: np.dtype) -> np.dtype:
    """The type of answers: float64 for rows in float64 or wide integers, float32 for all that fits into it."""
    return np.result_type(dtype, np.float32) if dtype.kind != "O" else np.dtype(np.float64)
