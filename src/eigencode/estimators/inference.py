"""Answers: what every fitted autoencoder can be asked, and the path of one answer."""

from __future__ import annotations

import copy
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import check_is_fitted

from eigencode import fitting
from eigencode.data.cells import refuse_gaps
from eigencode.data.images import rows_to_images
from eigencode.data.scaling import Scaler
from eigencode.data.sources import chunk_rows
from eigencode.errors import DataError, OptionError, ResultWarning
from eigencode.estimators.inputs import float_type, mean_of_rows, read_codes, read_rows, shape_asked_for
from eigencode.estimators.persistence import Saved
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.model import Composition
    from eigencode.parts import Distribution
    from eigencode.training import Execution

    Question = Callable[[Composition, Tensor, Tensor], Tensor]
    """A function of the model, of scaled rows, and of these rows as the encoder sees them."""

    Finish = Callable[[Tensor], np.ndarray]
    """What makes an answer's part for a chunk of rows of what a question gave."""

FARTHEST_SQUARED = 1e100
"""Scaled cells of smaller size have squares that are numbers of float64, and so have sums of them."""

LARGEST = sys.float_info.max
"""The largest number of float64."""

FAR_CELL = "Look for a wrong cell there: it is more than 1e100 times its column's spread away from the rows fitted"

LONGEST = 80
"""Letters of an answer that are shown."""

FAR_WEIGHTS = "Its weights are far from those that a fit gives: fit it again"
"""Why a model has no finite answer, where its columns are of usual sizes."""


def to_array(found: Tensor) -> np.ndarray:
    """A tensor's numbers as they are."""
    return found.cpu().numpy()


class Answers(Saved):
    """The questions to a fitted composition: rows in the data's units in, answers in them out."""

    composition_: Composition
    scaler_: Scaler
    execution_: Execution
    n_components_: int
    hidden_: tuple[int, ...]
    init_: str
    optimizer_: str
    seed_: int
    explained_variance_ratio_: list[float]
    history_: list[dict[str, float]]
    best_epoch_: int
    best_objective_: float
    notes_: list[str]

    image_shape: Any
    image_shape_: tuple[int, ...]
    pixel_range_: tuple[float, ...]

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
        model, n_rows = self._model_in(codes.dtype), chunk_rows(len(self.scaler_.center))

        def blocks() -> Iterator[np.ndarray]:
            for first in range(0, len(codes), n_rows):
                p = model.decode(self._tensor(codes[first : first + n_rows]))
                yield self._in_data_units(mean_in_own_units(model, p))

        return numbers_only(filled(len(codes), blocks()))

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
            Rows, in X's float type; images, in X's shape, where X is an array of images.
        """
        kept = self._kept(n_components)
        given = read_rows(self, X, finite=False)
        rows = numbers_only(
            self._answer_of(
                given.array,
                lambda model, x, clipped: mean_in_own_units(model, _reconstruction(model, clipped, kept)),
                self._in_data_units,
            )
        )
        return rows if given.layout is None else given.layout.images(rows)

    def as_images(self, rows: np.ndarray) -> np.ndarray:
        """Rows as images, for a model of images: what ``sample`` and ``inverse_transform`` give, to be looked at.

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
            Errors, in float64, whose range holds the squares of all numbers of float32.
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
            Nats, in float64.
        """

        def log_likelihood(model: Composition, x: Tensor, clipped: Tensor) -> Tensor:
            return model.reconstruct(clipped).log_prob(model.likelihood.target(x)).sum(1)

        return self._judged(X, log_likelihood) + self._log_jacobian

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

    # -- the path of one answer

    def _codes(self, X: Any) -> np.ndarray:
        """The codes as an array, whatever ``set_output`` says of ``transform``."""
        return self._answer(X, lambda model, x, clipped: model.encode(clipped).mean)

    def _judged(self, X: Any, function: Question) -> np.ndarray:
        """An answer that asks the likelihood about the rows, once their values are checked; in float64."""
        check_is_fitted(self)
        array = self._numbers(X)
        self._check_values(array)
        return self._in_float64(array, function)

    @property
    def _log_jacobian(self) -> float:
        """What a log-density gains in the data's units; one that is over these has it already."""
        return 0.0 if self.composition_.likelihood.in_data_units else self.scaler_.log_jacobian

    def _kept(self, n_components: int | None) -> int:
        """How many components to use, checked against what the code can be cut to."""
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
        if not 1 <= n_components <= self.n_components_:
            raise OptionError(f"n_components must be in 1..{self.n_components_}", got=f"{n_components}")
        return n_components

    def _answer(self, X: Any, function: Question, finish: Finish = to_array) -> np.ndarray:
        """Apply a function of the model, scaled rows, and these rows as the encoder sees them, a chunk at a time."""
        check_is_fitted(self)
        return numbers_only(self._answer_of(self._numbers(X, finite=False), function, finish))

    def _answer_of(self, array: np.ndarray, function: Question, finish: Finish = to_array) -> np.ndarray:
        """The same for an array of numbers; what ``finish`` makes of each chunk's answer is the whole's.

        Where the array has the first columns only, the function sees no others.
        """
        dtype, scaler = float_type(array.dtype), self.scaler_.of_columns(slice(array.shape[1]))
        model = self._model_in(dtype)

        def blocks() -> Iterator[np.ndarray]:
            for chunk in scaler.chunks(array, dtype):
                x = self._tensor(chunk)
                low, high = map(float, x.aminmax())
                if not (math.isfinite(low) and math.isfinite(high)):
                    refuse_gaps(array, getattr(self, "feature_names_in_", None))
                limit, constant = scaler.limit, scaler.constant
                is_usual = -limit <= low and high <= limit and not (constant and x[:, constant].any())
                yield finish(function(model, x, x if is_usual else self._seen(x)))

        return filled(len(array), blocks())

    def _seen(self, x: Tensor) -> Tensor:
        """Scaled rows as the encoder sees them: extreme cells clipped, and nothing in columns that were constant.

        No weight was ever learned for such a column, so that another value there would say something at random.
        """
        limit = self.scaler_.limit
        constant = [column for column in self.scaler_.constant if column < x.shape[-1]]
        seen = x.clamp(-limit, limit)
        return seen.index_fill(-1, torch.tensor(constant, device=x.device), 0) if constant else seen

    def _scaled_mean(self, model: Composition, p: Distribution) -> Tensor:
        """The mean of p(x|z) in the model's units, in which a constant column is 0."""
        mean, constant = model.likelihood.scaled_mean(p), self.scaler_.constant
        return mean.index_fill(-1, torch.tensor(constant, device=mean.device), 0) if constant else mean

    def _gap(self, model: Composition, x: Tensor, p: Distribution, is_own: bool) -> Tensor:
        """What scaled rows and their reconstructions differ by, in the model's units or in the likelihood's own."""
        if not is_own:
            return x - self._scaled_mean(model, p)
        gap, constant = model.likelihood.target(x) - p.mean, self.scaler_.constant
        if constant:
            values = torch.from_numpy(self.scaler_.constant_values).to(gap)
            gap[:, constant] = model.likelihood.target(x)[:, constant] - values
        return gap

    def _squared_errors(self, X: Any, sizes: Iterable[int], scaled: bool) -> np.ndarray:
        """Squared error of each row with the first components of its code, one column for each number of them."""
        check_is_fitted(self)
        is_own = self.composition_.likelihood.in_data_units and not scaled
        units = np.ones_like(self.scaler_.divisor) if scaled or is_own else self.scaler_.divisor
        largest = units.max()
        weights = torch.from_numpy(units / largest).to(self.execution_.device)
        if not (scaled or self.scaler_.has_squares):
            message = "Squares of numbers of such sizes are outside float64's range: errors may be 0 or inf."
            warnings.warn(f"{message} Try scaled=True.", ResultWarning, stacklevel=3)

        def errors(model: Composition, x: Tensor, clipped: Tensor) -> Tensor:
            rebuilt = (_reconstruction(model, clipped, kept) for kept in sizes)
            gaps = [self._gap(model, x, p, is_own) for p in rebuilt]
            # Weights come before squares, and the scaled cells are numbers: no column is infinite and counts nothing.
            weighted = (gap.double().clamp_(-LARGEST, LARGEST).mul_(weights) for gap in gaps)
            return torch.stack([gap.square_().sum(1) for gap in weighted], dim=1)

        found = self._in_float64(self._numbers(X, finite=False), errors)
        with np.errstate(over="ignore"):
            found *= largest
            found *= largest
        return found

    def _in_float64(self, array: np.ndarray, function: Question) -> np.ndarray:
        """An answer as float64; where float32 has no such squares, as for rows far from all that were fitted, by it."""
        found = self._answer_of(array, function).astype(np.float64, copy=False)
        wild = ~np.isfinite(found.reshape(len(found), -1)).all(1)
        if wild.any() and float_type(array.dtype) == np.float32:
            found[wild] = self._answer_of(array[wild].astype(np.float64), function)
        with np.errstate(over="ignore"):
            far = np.abs(self.scaler_.transform(array[wild])).max(initial=0.0)
        hint = FAR_CELL if far > FARTHEST_SQUARED else FAR_WEIGHTS
        _require_numbers(found[wild], np.flatnonzero(wild), hint)
        return found

    def _check_values(self, array: np.ndarray) -> None:
        """Refuse rows with values that the likelihood cannot be asked about."""
        fitting.check_values(self.composition_.likelihood, array, getattr(self, "feature_names_in_", None))

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

    def _in_data_units(self, means: Tensor) -> np.ndarray:
        """What `mean_in_own_units` or a draw gave, as rows in the data's units."""
        rows = means.cpu().numpy()
        if not self.composition_.likelihood.in_data_units:
            return self.scaler_.inverse_transform(rows, rows.dtype)
        constant = self.scaler_.constant
        if constant:
            rows = rows.copy()
            rows[:, constant] = self.scaler_.constant_values
        return rows


def mean_in_own_units(model: Composition, p: Distribution) -> Tensor:
    """The mean of p(x|z) in the units that p is over, where no rounding takes a rate or a share out of its range."""
    return p.mean if model.likelihood.in_data_units else model.likelihood.scaled_mean(p)


def _reconstruction(model: Composition, x: Tensor, n_components: int) -> Distribution:
    """p(x|z) at the first components of the mean code, the others zero."""
    z = model.encode(x).mean
    if n_components < z.shape[1]:
        z = torch.nn.functional.pad(z[:, :n_components], (0, z.shape[1] - n_components))
    return model.decode(z)


def numbers_only(answers: np.ndarray, hint: str = FAR_WEIGHTS) -> np.ndarray:
    """The answers, which are finite numbers for all rows."""
    # A sum needs no memory of its own; that of the largest numbers alone may be none.
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(answers.sum(dtype=np.float64))
    if not math.isfinite(total):
        _require_numbers(answers, np.arange(len(answers)), hint)
    return answers


def _require_numbers(answers: np.ndarray, rows: np.ndarray, hint: str) -> None:
    """Refuse answers that are no finite numbers; ``rows`` are the numbers of the rows that they belong to."""
    wild = ~np.isfinite(answers).all(tuple(range(1, answers.ndim)))
    if wild.any():
        raise DataError(
            "The model has no finite answer to some rows",
            got=f"{answers[wild][0]} for row {rows[wild][0]}"[:LONGEST],
            hint=hint,
        )


def filled(n_rows: int, blocks: Iterator[np.ndarray]) -> np.ndarray:
    """An array of so many rows, made once and filled a block at a time; the blocks are computed without gradients."""
    answer, n_done = np.empty(0), 0
    with torch.inference_mode():
        for block in blocks:
            if not n_done:
                answer = np.empty((n_rows, *block.shape[1:]), block.dtype)
            answer[n_done : n_done + len(block)] = block
            n_done += len(block)
    return answer
