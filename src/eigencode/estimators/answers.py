"""Answers: what every fitted autoencoder can be asked, and the path of one answer."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from eigencode.composition import Composition
from eigencode.data.cells import refuse_gaps
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.errors import OptionError
from eigencode.estimators.inputs import float_type, read_codes, read_rows
from eigencode.estimators.preparation import check_values
from eigencode.parts.distributions import Distribution
from eigencode.training.execution import Execution


class Answers(BaseEstimator):
    """The questions to a fitted composition: rows in the data's units in, answers in them out."""

    composition_: Composition
    scaler_: Scaler
    execution_: Execution
    n_components_: int
    hidden_: tuple[int, ...]
    start_: str
    optimizer_: str
    seed_: int
    explained_variance_ratio_: list[float]
    history_: list[dict[str, float]]
    best_epoch_: int
    best_objective_: float
    notes_: list[str]

    saved_attributes: ClassVar[Mapping[str, Any]] = {}
    """Fitted attributes that a file keeps, with their types."""

    @property
    def scale_(self) -> str:
        """The scale used where the option said 'auto'."""
        return self.scaler_.kind

    def transform(self, X: Any, *, n_components: int | None = None) -> Any:
        """Encode rows: the mean of q(z|x).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_components : int, optional
            Give the first components of an ordered code only.

        Returns
        -------
        ndarray of shape (n, k), or what ``set_output`` asks for
            Codes, row i of row i, in X's float type; the same at every call. A frame has X's index and the names of
            ``get_feature_names_out``.
        """
        kept = self._kept(n_components)
        # scikit-learn names all components, so a frame is cut once it has its names.
        codes = _wrap_data_with_container("transform", self._codes(X), X, self)
        return codes if kept == self.n_components_ else getattr(codes, "iloc", codes)[:, :kept]

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
        codes = read_codes(X, self.get_feature_names_out(), type(self).__name__)
        model = self._model_in(codes.dtype)
        with torch.inference_mode():
            decoded = [
                mean_in_own_units(model, model.decode(self._tensor(part))) for part in ArraySource(codes).chunks()
            ]
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
        answer = self._answer(
            X, lambda model, x, clipped: mean_in_own_units(model, _reconstruction(model, clipped, kept))
        )
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

        def log_likelihood(model: Composition, x: Tensor, clipped: Tensor) -> Tensor:
            return model.reconstruct(clipped).log_prob(model.likelihood.target(x)).sum(1)

        return self._judged(X, log_likelihood) + self._log_jacobian

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

    def _codes(self, X: Any) -> np.ndarray:
        """The codes as an array, whatever ``set_output`` says of ``transform``."""
        return self._answer(X, lambda model, x, clipped: model.encode(clipped).mean)

    def _judged(self, X: Any, function: Callable[[Composition, Tensor, Tensor], Tensor]) -> np.ndarray:
        """An answer that asks the likelihood about the rows, once their values are checked."""
        check_is_fitted(self)
        array = self._numbers(X)
        self._check_values(array)
        return self._answer_of(array, function)

    @property
    def _log_jacobian(self) -> float:
        """What a log-density gains in the data's units; one that is over these has it already."""
        return 0.0 if self.composition_.likelihood.own_units else self.scaler_.log_jacobian

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
        return self._answer_of(self._numbers(X, finite=False), function)

    def _answer_of(self, array: np.ndarray, function: Callable[[Composition, Tensor, Tensor], Tensor]) -> np.ndarray:
        """The same for an array of numbers."""
        dtype = float_type(array.dtype)
        model, limit = self._model_in(dtype), self.scaler_.limit
        answer, n_done = np.empty(0), 0
        with torch.inference_mode():
            for chunk in self.scaler_.chunks(array, dtype):
                x = self._tensor(chunk)
                low, high = map(float, x.aminmax())
                if not (math.isfinite(low) and math.isfinite(high)):
                    refuse_gaps(array, getattr(self, "feature_names_in_", None))
                is_usual = -limit <= low and high <= limit
                found = function(model, x, x if is_usual else x.clamp(-limit, limit)).cpu().numpy()
                if not n_done:
                    answer = np.empty((len(array), *found.shape[1:]), found.dtype)
                answer[n_done : n_done + len(found)] = found
                n_done += len(found)
        return answer

    def _squared_errors(self, X: Any, sizes: Iterable[int], scaled: bool) -> np.ndarray:
        """Squared error of each row with the first components of its code, one column for each number of them."""
        units = torch.from_numpy(np.ones_like(self.scaler_.divisor) if scaled else self.scaler_.divisor)

        def errors(model: Composition, x: Tensor, clipped: Tensor) -> Tensor:
            gaps = [(x - _scaled_reconstruction(model, clipped, kept)) * units.to(x) for kept in sizes]
            return torch.stack([gap.square().sum(1) for gap in gaps], dim=1)

        return self._answer(X, errors)

    def _check_values(self, array: np.ndarray) -> None:
        """Refuse rows with values that the likelihood cannot be asked about."""
        check_values(self.composition_.likelihood, ArraySource(array), getattr(self, "feature_names_in_", None))

    def _numbers(self, X: Any, reset: bool = False, finite: bool = True) -> np.ndarray:
        """Rows checked against what was fitted, in the numeric type they came in."""
        return read_rows(self, X, reset=reset, finite=finite).array

    def _tensor(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.require(rows, requirements=("C", "W"))).to(self.execution_.device)

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


def mean_in_own_units(model: Composition, p: Distribution) -> Tensor:
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
