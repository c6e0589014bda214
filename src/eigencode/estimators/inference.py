"""Inference: what every fitted autoencoder can be asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import check_is_fitted

from eigencode.data.answers import write_answers
from eigencode.data.images import rows_to_images
from eigencode.data.sources import ArraySource, chunk_rows
from eigencode.errors import DataError, OptionError, is_int, warn
from eigencode.estimators.evaluation import Evaluation
from eigencode.estimators.inputs import mean_of_rows, read_codes, read_rows, shape_asked_for
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.batch import Batch
    from eigencode.estimators.evaluation import Question
    from eigencode.model import Composition
    from eigencode.parts import Distribution

LARGEST = sys.float_info.max
"""The largest number of float64."""


class Inference(Evaluation):
    """The questions to a fitted composition: rows in the data's units in, answers in them out."""

    @property
    def scale_(self) -> str:
        """The scale used where the option is 'auto'."""
        return self.scaler_.kind

    def transform(
        self, X: Any, *, n_components: int | None = None, output: str | os.PathLike[str] | None = None
    ) -> Any:
        """Encode rows: the mean of q(z|x).

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_components : int, optional
            Give the first components of an ordered code only.
        output : path-like, optional
            Write the codes to this file, a block at a time, and return None: a .parquet, .arrow, .csv, .tsv or .npy
            file, which is there when it is complete.

        Returns
        -------
        ndarray of shape (n, k), or what ``set_output`` asks for
            Codes, row i of row i, in X's float type; the same at every call. A frame has X's index and the names of
            ``get_feature_names_out``.
        """
        kept = self._kept(n_components)
        if output is not None:
            names = self.get_feature_names_out()[:kept]
            return self._write(output, X, lambda block: self._codes(block)[:, :kept], names)
        # scikit-learn names all components, so a frame is cut once it has its names.
        codes = _wrap_data_with_container("transform", self._codes(X), X, self)
        return codes if kept == self.n_components_ else getattr(codes, "iloc", codes)[:, :kept]

    def inverse_transform(self, X: Any) -> Any:
        """Decode codes: the mean of p(x|z), in the data's units.

        Parameters
        ----------
        X : array-like of shape (n, k)
            Codes.

        Returns
        -------
        ndarray of shape (n, d), or a frame where one was fitted
            Rows. A frame has the library, the types and the categories of the one fitted; of each category the most
            likely one is given.
        """
        check_is_fitted(self)
        codes = read_codes(X, self.get_feature_names_out(), type(self).__name__)
        model, n_rows = self._model_in(codes.dtype), chunk_rows(len(self.scaler_.center))

        def blocks() -> Iterator[np.ndarray]:
            for first in range(0, len(codes), n_rows):
                p = model.decode(self._tensor(codes[first : first + n_rows]))
                yield self._in_data_units(p.mean)

        return self._as_table(len(codes), blocks(), mean=True)

    def reconstruct(
        self, X: Any, *, n_components: int | None = None, output: str | os.PathLike[str] | None = None
    ) -> Any:
        """Encode and decode rows: the mean of p(x|z) at the mean code, in the data's units.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        n_components : int, optional
            Reconstruct from the first components of an ordered code only.
        output : path-like, optional
            Write the rows to this file, a block at a time, and return None: a .parquet, .arrow, .csv, .tsv or .npy
            file, which is there when it is complete.

        Returns
        -------
        ndarray of shape (n, d), or a frame where one was fitted
            Rows, in X's float type; a frame has the types and categories of the one fitted, and X's index. Images, in
            X's shape, where X is an array of images.
        """
        kept = self._kept(n_components)
        if output is not None:
            return self._write(output, X, partial(self.reconstruct, n_components=n_components))
        given = read_rows(self, X, finite=False)

        def rebuilt(model: Composition, rows: Batch, seen: Batch) -> Tensor:
            return _reconstruction(model, seen, kept).mean

        blocks = self._answers(given.array, rebuilt, self._in_data_units)
        rows = self._as_table(len(given.array), blocks, given.frame, mean=True)
        return rows if given.layout is None else given.layout.images(rows)

    def _write(
        self, output: str | os.PathLike[str], X: Any, ask: Callable[[Any], Any], names: Sequence[str] | None = None
    ) -> None:
        """Write the answers to a question about rows, a block at a time; ``names`` are those of an array's columns."""
        names = getattr(self, "feature_names_in_", None) if names is None else names
        write_answers(output, X, self._n_cells, lambda block, _: ask(block), names)

    def as_images(self, rows: np.ndarray) -> np.ndarray:
        """Rows of a model of images as images, such as those from ``sample`` and ``inverse_transform``.

        Parameters
        ----------
        rows : array-like of shape (n, d)
            Rows in the data's units, each with its numbers in the order (channels, height, width).

        Returns
        -------
        ndarray of shape (n, h, w) or (n, h, w, c)
            The same numbers, neither rounded nor clipped.
        """
        check_is_fitted(self)
        if not (shape := self.image_shape_ or shape_asked_for(self)):
            raise DataError(
                f"This {type(self).__name__} was fitted on rows, not on images",
                hint="Fit it on an array of images, or on rows with image_shape=(channels, height, width)",
            )
        array = np.asarray(rows)
        if array.ndim != 2 or array.shape[1] != self.n_features_in_:
            raise DataError(f"Rows of {self.n_features_in_} columns are needed", got=f"the shape {array.shape}")
        return rows_to_images(shape, array)

    def reconstruction_error(self, X: Any, *, scaled: bool = False) -> np.ndarray:
        """Squared error of each row's reconstruction, summed over the columns, without gaps.

        Of a frame of mixed columns it is summed over their cells: numbers in their own units, those that are positive
        and skewed as logarithms, times in seconds, and 0 or 1 for each category. There ``scaled=True`` says more.

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
            Errors, in float64, whose range holds the squares of all numbers of float32.
        """
        check_is_fitted(self)
        return self._squared_errors(X, [self.n_components_], scaled)[:, 0]

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-likelihood of each row given its own code, log p(x | f(x)), in nats and in the data's units.

        It is not a density of x, since the code depends on the row. Gaps are left out.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.

        Returns
        -------
        ndarray of shape (n,)
            Nats, in float64.
        """
        return self._log_densities(X, self._score)

    def _score(self, model: Composition, rows: Batch, seen: Batch) -> Tensor:
        """``score_samples`` in the model's units."""
        cells = model.reconstruct(*seen.cells).log_prob(model.likelihood.target(*rows.cells))
        return rows.selected(cells).sum(1)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean of ``score_samples``, in nats a row; higher is better.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows like those fitted.
        y : None
            Ignored.
        sample_weight : array-like of shape (n,), optional
            Weight of each row in the mean.

        Returns
        -------
        float
            Nats.
        """
        return mean_of_rows(self.score_samples(X), sample_weight)

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

    def _codes(self, X: Any) -> np.ndarray:
        """The codes as an array, also if ``set_output`` has chosen another container for ``transform``."""
        return self._answer(X, lambda model, rows, seen: model.encode(*seen.cells).mean)

    def _log_densities(self, X: Any, function: Question) -> np.ndarray:
        """Log-densities of checked rows in the data's units, in float64, and further columns of a function."""
        check_is_fitted(self)
        array = self._numbers(X)
        self._check_values(array)
        return self._log_densities_of(array, function)

    def _log_densities_of(self, array: np.ndarray, function: Question) -> np.ndarray:
        """The same of cells that were read; those outside the likelihood's support are moved to it."""
        found, first = self._in_float64(array, function), 0
        densities = found if found.ndim == 1 else found[:, 0]
        derivatives = self._log_derivatives
        for chunk in ArraySource(array).chunks():
            part = densities[first : first + len(chunk)]
            part += derivatives.sum() - np.isnan(chunk) @ derivatives  # without gaps
            if self.columns_ is not None:  # columns that are modelled by their logarithms
                part += self.columns_.log_jacobian(chunk)
            first += len(chunk)
        return found

    @property
    def _log_derivatives(self) -> np.ndarray:
        """What each column adds to a log-density in scaled units, shape (d,)."""
        return np.where(self._has_own_units, 0.0, self.scaler_.log_jacobian)

    def _kept(self, n_components: int | None) -> int:
        """The number of components to use; an error if the code is not ordered."""
        check_is_fitted(self)
        if n_components is None:
            return self.n_components_
        is_pca = self.init_ == "linear" and self.best_epoch_ == 0
        if not (self.composition_.code.is_ordered or is_pca):
            raise OptionError(
                "Only an ordered code can be cut to its first components",
                got=f"n_components={n_components} for a code without an order",
                hint="Fit with ordered=True",
            )
        if not is_int(n_components) or not 1 <= int(n_components) <= self.n_components_:
            raise OptionError(f"n_components must be an int from 1 to {self.n_components_}", got=f"{n_components!r}")
        return int(n_components)

    def _scaled_mean(self, model: Composition, p: Distribution) -> Tensor:
        """The mean of p(x|z) in the model's units, in which a constant column is 0."""
        mean, constant = model.likelihood.scaled(p.mean), self.scaler_.constant
        return mean.index_fill(-1, torch.tensor(constant, device=mean.device), 0) if constant else mean

    def _difference(self, model: Composition, rows: Batch, p: Distribution, scaled: bool) -> Tensor:
        """Rows minus their reconstructions, in the model's units or in the likelihood's own; 0 in gaps."""
        if scaled:
            return rows.selected(rows.x - self._scaled_mean(model, p))
        target, constant = model.likelihood.target(*rows.cells), self.scaler_.constant
        found = target - p.mean
        if constant:
            values = np.where(self._has_own_units[constant], self.scaler_.constant_values, 0.0)
            found[:, constant] = target[:, constant] - torch.from_numpy(values).to(found)
        return rows.selected(found)

    def _squared_errors(self, X: Any, sizes: Iterable[int], scaled: bool) -> np.ndarray:
        """Squared error of each row with the first components of its code, one column for each number of them."""
        check_is_fitted(self)
        units = np.where(scaled | self._has_own_units, 1.0, self.scaler_.divisor)
        largest = units.max()
        weights = torch.from_numpy(units / largest).to(self.execution_.device)
        if not (scaled or self.scaler_.has_squares):
            what = "Squares of numbers of such sizes are outside float64's range: errors may be 0 or inf."
            warn(f"{what} Try scaled=True.")

        def errors(model: Composition, rows: Batch, seen: Batch) -> Tensor:
            rebuilt = (_reconstruction(model, seen, kept) for kept in sizes)
            differences = [self._difference(model, rows, p, scaled) for p in rebuilt]
            # Weights come before squares, and the scaled cells are numbers: no column is infinite and counts nothing.
            weighted = (difference.double().clamp_(-LARGEST, LARGEST).mul_(weights) for difference in differences)
            return torch.stack([difference.square_().sum(1) for difference in weighted], dim=1)

        found = self._in_float64(self._numbers(X, finite=False), errors)
        with np.errstate(over="ignore"):
            found *= largest
            found *= largest
        return found


def _reconstruction(model: Composition, rows: Batch, n_components: int) -> Distribution:
    """p(x|z) at the first components of the mean code, the others zero."""
    z = model.encode(*rows.cells).mean
    if n_components < z.shape[1]:
        z = torch.nn.functional.pad(z[:, :n_components], (0, z.shape[1] - n_components))
    return model.decode(z)
