"""Scaling: columns are centred, then divided by one number or by one for each column; counts by their logarithms."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Annotated, Any

import numpy as np

from eigencode.batch import over_rows
from eigencode.data.sources import CACHED_CELLS, ArraySource, Source, over_chunks
from eigencode.domains import OneOf, Positive
from eigencode.errors import DataError
from eigencode.lazy import torch

SAFE_EXPONENT = 400
"""Squares of numbers between 2^-400 and 2^400, and of their smallest differences, have full precision in float64."""

SMALLEST_SQUARED = 1e-150
"""Squared errors of columns with a smaller spread underflow in float64; those above its inverse overflow."""

LARGEST_DIVISOR = 2.0**1000
"""With a larger divisor, a column and its centre are halved before they are subtracted, to avoid an overflow."""

HALF = 0.5
"""Added to a count before its logarithm is taken, so that the logarithm of zero is finite."""


@dataclass(frozen=True)
class ColumnStatistics:
    """Count, mean, standard deviation (of n, not n - 1), minimum and maximum of each column, in float64.

    Mean and deviation may be weighted. They are exact for very large and very small columns too: their squares are
    summed in units of a power of two of about the column's size, which prevents overflow and underflow. Gaps (NaN) are
    left out; all is 0 in a column without any number.
    """

    n_rows: int
    mean: np.ndarray
    deviation: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    has_gaps: bool = False

    @classmethod
    def of(
        cls, source: Source, weights: np.ndarray | None = None, logarithmic: Sequence[bool] = ()
    ) -> ColumnStatistics:
        """Read the source once and merge the exact statistics of its chunks, which several threads compute.

        They are merged in the chunks' order, so that the result does not depend on the number of threads.
        """
        rooms = threading.local()
        found = None
        for part in over_chunks(partial(_Moments.of, rooms, logarithmic), source, weights):
            found = part if found is None else found.merged(part)
        if found is None:
            return cls(0, *np.zeros((4, source.shape[1])))
        is_empty = found.low > found.high
        low, high = np.where(is_empty, 0.0, found.low), np.where(is_empty, 0.0, found.high)
        deviation = np.ldexp(np.sqrt(found.squares / np.where(is_empty, 1.0, found.n)), found.exponent)
        mean = np.ldexp(found.mean, found.exponent).clip(low, high)
        return cls(found.n_rows, mean, deviation, low, high, found.has_gaps)

    @cached_property
    def constant(self) -> np.ndarray:
        """Whether each column has only one value, up to rounding in float64; shape (d,)."""
        with np.errstate(over="ignore"):
            spread = self.maximum - self.minimum
        return (spread <= _rounding(self.minimum, self.maximum)) | (self.deviation == 0)


@dataclass(frozen=True)
class _Moments:
    """Statistics of some rows that can be merged with those of others (Chan, Golub & LeVeque, 1983).

    ``mean`` and ``squares``, the sum of squares about it, are in units of 2 ** exponent; ``n`` is the total weight of
    each column's known cells. All but two have shape (d,).
    """

    n_rows: int
    n: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    exponent: np.ndarray
    has_gaps: bool

    @classmethod
    def of(
        cls, rooms: threading.local, logarithmic: Sequence[bool], chunk: np.ndarray, weights: np.ndarray | None = None
    ) -> _Moments:
        """Those of rows of shape (m, d); ``rooms`` has memory that each thread uses again.

        The copy is in C order, since NumPy's sums are rounded differently in another order.
        """
        if len(getattr(rooms, "cells", ())) < len(chunk):
            rooms.cells = np.empty(chunk.shape)
        part = rooms.cells[: len(chunk)]  # new memory for each chunk would take longer than the copy
        part[:] = chunk
        take_logarithms(part, logarithmic)
        given = chunk if chunk.itemsize < part.itemsize and not any(logarithmic) else part
        least = over_rows(np.minimum.reduce, np.minimum, given)
        is_complete = not np.isnan(least).any()
        least = least if is_complete else over_rows(np.fmin.reduce, np.fmin, given)
        nothing = np.full(chunk.shape[1], np.inf)  # of columns without any number
        low, high = np.fmin(nothing, least), np.fmax(-nothing, over_rows(np.fmax.reduce, np.fmax, given))
        exponent = _exponent(np.maximum(-low, high))
        if exponent.any():
            part = np.ldexp(part, -exponent)
        n, mean, squares = _moments(part, weights, None if is_complete else np.isnan(part))
        return cls(len(chunk), n, mean, squares, low, high, exponent, not is_complete)

    def merged(self, other: _Moments) -> _Moments:
        """Those of these rows and of others after them."""
        low, high = np.fmin(self.low, other.low), np.fmax(self.high, other.high)
        exponent = _exponent(np.maximum(-low, high))
        (mean, squares), (further, inside) = self._in_units(exponent), other._in_units(exponent)
        gap = further - mean
        n = self.n + other.n
        total = np.maximum(n, np.finfo(np.float64).tiny)  # a column may have no number yet
        squares = squares + inside + gap**2 * (self.n * other.n / total)
        mean = mean + gap * (other.n / total)
        n_rows, has_gaps = self.n_rows + other.n_rows, self.has_gaps or other.has_gaps
        return _Moments(n_rows, n, mean, squares, low, high, exponent, has_gaps)

    def _in_units(self, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and squares in units of 2 ** exponent."""
        change = self.exponent - exponent
        if not change.any():
            return self.mean, self.squares
        return np.ldexp(self.mean, change), np.ldexp(self.squares, 2 * change)


def _moments(
    part: np.ndarray, weights: np.ndarray | None, missing: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Total weight, mean, and sum of squares about the mean, of each column's known cells; ``part`` is overwritten."""
    if missing is None:
        m = np.full(part.shape[1], len(part) if weights is None else weights.sum(), dtype=np.float64)
        mean = np.average(part, axis=0, weights=weights)
        part -= mean
    else:
        known = ~missing if weights is None else ~missing * weights[:, None]
        m = known.sum(0, dtype=np.float64)
        mean = np.where(missing, 0.0, part * known).sum(0) / np.where(m > 0, m, 1.0)
        part -= mean
        part[missing] = 0.0
    return m, mean, np.einsum("ij,ij->j", part, part if weights is None else part * weights[:, None])


def _exponent(size: np.ndarray) -> np.ndarray:
    """The exponent of the power of two that is about a column's size; 0 if its squares neither over- nor underflow."""
    is_safe = (size == 0) | (size >= 2.0**-SAFE_EXPONENT) & (size <= 2.0**SAFE_EXPONENT)
    return np.where(is_safe, 0, np.frexp(size)[1])


def _rounding(*values: np.ndarray, dtype: np.dtype | type = np.float64) -> np.ndarray:
    """The largest difference between values of these sizes that rounding can explain."""
    found: np.ndarray = 16 * float(np.finfo(dtype).eps) * np.max(np.abs(values), axis=0)
    return found


def take_logarithms(rows: np.ndarray, logarithmic: Sequence[bool]) -> np.ndarray:
    """Replace counts by log(count + 1/2) in some columns of rows of shape (n, d), in place; negative numbers are 0.

    Examples
    --------
    >>> take_logarithms(np.array([[0.5, 3.0]]), (True, False)).tolist()
    [[0.0, 3.0]]
    """
    if any(logarithmic):
        columns: Any = slice(None) if all(logarithmic) else np.flatnonzero(logarithmic)
        rows[:, columns] = np.log(np.maximum(rows[:, columns], 0.0) + HALF)
    return rows


def _take_exponentials(rows: np.ndarray, logarithmic: Sequence[bool]) -> None:
    """Undo `take_logarithms`, in place."""
    if any(logarithmic):
        columns = np.flatnonzero(logarithmic)
        rows[:, columns] = np.exp(rows[:, columns]) - HALF


def columns_are_commensurate(statistics: ColumnStatistics) -> bool:
    """Whether the columns share one range, as the pixels of an image do.

    The rule: at least half of the columns that vary span at least half of the range of all columns together.
    """
    varying = ~statistics.constant
    if not varying.any():
        return True
    low, high = statistics.minimum[varying] / 2, statistics.maximum[varying] / 2  # halves, whose difference is a number
    return bool(np.median(high - low) >= 0.5 * (high.max() - low.min()))


@dataclass(frozen=True)
class Scaler:
    """The map between the data's units and the model's scaled units.

    Attributes
    ----------
    kind : str
        'common', 'standard' or 'none'.
    center, divisor : ndarray of shape (d,)
        Scaled = (x - center) / divisor, in float64.
    limit : float
        The input of the network is clipped to [-limit, limit]; targets and scores are not clipped. It is ten times
        the largest scaled cell seen in fitting, and at least 10.
    constant : list of int
        Numbers of the columns that had only one value, their center. The inverse transform sets them to this value.
    logarithmic : tuple of bool
        For each column, whether x is the logarithm of (count + 1/2), as for likelihoods with a log link; () if no
        column is.
    has_gaps : bool
        Whether some of the cells seen in fitting were missing (NaN).

    Examples
    --------
    >>> from eigencode.data.sources import ArraySource
    >>> scaler = Scaler.fit(ArraySource(np.array([[1.0, 0.1], [3.0, 0.1]])), "standard")
    >>> scaler.transform(np.array([[3.0, 0.1]])), scaler.constant
    (array([[1., 0.]]), [1])
    >>> scaler.inverse_transform(np.array([[-1.0, 0.7]]))
    array([[1. , 0.1]])
    """

    kind: Annotated[str, OneOf(["common", "standard", "none"])]
    center: np.ndarray
    divisor: np.ndarray
    limit: Positive
    constant: list[int] = field(default_factory=list)
    logarithmic: tuple[bool, ...] = ()
    has_gaps: bool = False

    def __post_init__(self) -> None:
        shapes = {(self.center.ndim, self.center.shape), (1, self.divisor.shape)}
        if len(shapes) > 1 or not all(values.dtype == np.float64 for values in (self.center, self.divisor)):
            raise DataError(
                "Center and divisor of a scaler must be float64 arrays with one number for each column",
                got=f"shapes {self.center.shape} and {self.divisor.shape}",
            )
        if len(self.logarithmic) not in (0, len(self.center)):
            raise DataError(
                "A scaler must have one 'logarithmic' for each column, or none",
                got=f"{len(self.logarithmic)} of {len(self.center)}",
            )
        if not np.isfinite(self.center).all() or not ((self.divisor > 0) & np.isfinite(self.divisor)).all():
            raise DataError("The centers of a scaler must be finite, its divisors finite and above zero")
        if not set(self.constant) <= set(range(len(self.center))):
            raise DataError("The constant columns of a scaler must be numbers of its columns", got=f"{self.constant}")

    @classmethod
    def fit(
        cls, source: Source, scale: str, weights: np.ndarray | None = None, logarithmic: Sequence[bool] = ()
    ) -> Scaler:
        """Compute the statistics of the source's columns and choose the scale, 'auto' by `columns_are_commensurate`.

        ``weights``, of shape (n,), are those of the rows; ``logarithmic`` says which columns are counts, to be scaled
        by their logarithms.
        """
        found = ColumnStatistics.of(source, weights, logarithmic)
        if scale == "auto":
            scale = "common" if columns_are_commensurate(found) else "standard"
        divisor = np.ones_like(found.mean)
        if scale == "common" and not found.constant.all():
            divisor[:] = _root_mean_square(np.where(found.constant, 0.0, found.deviation))
        elif scale == "standard":
            divisor = np.where(found.constant, 1.0, found.deviation)
        constant = np.flatnonzero(found.constant).tolist()
        scaler = cls(scale, found.mean, divisor, np.inf, constant, tuple(logarithmic), found.has_gaps)
        largest = np.abs(scaler._centred(np.stack([found.minimum, found.maximum]))).max(initial=0.0)
        return replace(scaler, limit=min(max(10.0, 10.0 * float(largest)), sys.float_info.max))

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """Scale rows of shape (n, d), in float64."""
        return self._centred(take_logarithms(rows.astype(np.float64, order="C"), self.logarithmic))

    def _centred(self, scaled: np.ndarray) -> np.ndarray:
        """Centre and divide in place."""
        half = np.where(self.divisor > LARGEST_DIVISOR, 0.5, 1.0)
        if (half < 1).any():  # the difference of two of the largest numbers overflows
            scaled *= half
        scaled -= half * self.center
        scaled /= half * self.divisor
        if self.constant:
            self._round_off(scaled)
        return scaled

    def _round_off(self, scaled: np.ndarray) -> None:
        """Set differences in constant columns to zero if rounding explains them: divided, they could be large."""
        cells, center = scaled[:, self.constant], self.center[self.constant]
        with np.errstate(over="ignore"):
            cells[np.abs(cells) <= _rounding(center) / self.divisor[self.constant]] = 0
        scaled[:, self.constant] = cells

    def chunks(self, array: np.ndarray, dtype: np.dtype | type) -> Iterator[np.ndarray]:
        """Yield scaled blocks of an array's rows for a network, in a type; centring loses no precision.

        float32 is scaled in float32, with all threads; any other type in float64.
        """
        scale = self._scaling(array.dtype, dtype)
        for chunk in ArraySource(array).chunks():
            scale(chunk, scaled := np.empty(chunk.shape, dtype))
            yield scaled

    def scale_into(self, scaled: np.ndarray, array: np.ndarray) -> Iterator[np.ndarray]:
        """Write all scaled rows of an array into another one, as `chunks` makes them; yield each part of it."""
        scale, first = self._scaling(array.dtype, scaled.dtype), 0
        for chunk in ArraySource(array).chunks():
            part = scaled[first : (first := first + len(chunk))]
            scale(chunk, part)
            yield part

    def _scaling(self, given: np.dtype, dtype: np.dtype | type) -> Callable[[np.ndarray, np.ndarray], None]:
        """A function that scales rows of a given type into an array of another type."""
        return self._in_float32() if given == dtype == np.float32 and self._suits_float32 else self._in_float64

    def _in_float64(self, rows: np.ndarray, scaled: np.ndarray) -> None:
        """Scale in float64, a few rows at a time, so that they stay in the processor's cache."""
        n_rows = max(CACHED_CELLS // max(rows.shape[1], 1), 1)
        for first in range(0, len(rows), n_rows):
            part = slice(first, first + n_rows)
            with np.errstate(over="ignore"):  # the caller looks for infinities in a narrower type
                scaled[part] = self.transform(rows[part])

    def _in_float32(self) -> Callable[[np.ndarray, np.ndarray], None]:
        """A function that subtracts the centre's leading digits, then the rest of them: only the result is rounded."""
        center = self.center.astype(np.float32)
        rest, factor = (self.center - center) / -self.divisor, 1 / self.divisor
        leading, rest_, factor_ = (torch.from_numpy(values.astype(np.float32)) for values in (center, rest, factor))

        def scale(rows: np.ndarray, scaled: np.ndarray) -> None:
            out = torch.from_numpy(scaled)
            if abs(rows.strides[0]) < abs(rows.strides[1]):  # torch transposes faster than NumPy
                given = torch.from_numpy(np.require(rows.T, requirements="W")).t()
            else:
                given = torch.from_numpy(np.require(rows, requirements=("C", "W")))
            # Both passes while the cells are in the cache.
            n_rows = max(CACHED_CELLS * torch.get_num_threads() // max(rows.shape[1], 1), 1)
            subtract, add_product = torch.sub, torch.addcmul
            for few, part in zip(given.split(n_rows), out.split(n_rows), strict=True):
                subtract(few.contiguous(), leading, out=part)
                add_product(rest_, part, factor_, out=part)

        return scale

    @property
    def _suits_float32(self) -> bool:
        """Whether centre and divisor neither overflow nor underflow in float32."""
        return not any(self.logarithmic) and bool(
            (np.abs(self.center) < 1e30).all() and (self.divisor > 1e-30).all() and (self.divisor < 1e30).all()
        )

    def inverse_transform(self, rows: np.ndarray, dtype: np.dtype | type = np.float64) -> np.ndarray:
        """Convert scaled rows to the data's units, in float64 or rounded to another type."""
        restored, range_ = np.empty(rows.shape, dtype), np.finfo(dtype)
        factor = self.divisor.copy()
        factor[self.constant] = 0
        n_rows = max(CACHED_CELLS // max(rows.shape[1], 1), 1)
        with np.errstate(over="ignore"):
            for first in range(0, len(rows), n_rows):
                part = slice(first, first + n_rows)
                block = rows[part] * factor
                block += self.center
                _take_exponentials(block, self.logarithmic)
                # Rounding can take rows just beyond the range of their type.
                restored[part] = block.clip(range_.min, range_.max, out=block)
        return restored

    def updated(self, rows: np.ndarray) -> Scaler:
        """A scaler that has seen further rows, of shape (n, d): columns with another value are no longer constant."""
        has_gaps = self.has_gaps or bool(np.isnan(rows).any())
        if not self.constant:
            return replace(self, has_gaps=has_gaps)
        center, dtype = self.center[self.constant], rows.dtype if rows.dtype.kind == "f" else np.float64
        logarithmic = np.array(self.logarithmic or [False] * len(self.center))[self.constant]
        differences = np.abs(take_logarithms(rows[:, self.constant].astype(np.float64), logarithmic.tolist()) - center)
        still = ~(differences > _rounding(center, dtype=dtype)).any(0)  # a gap (NaN) says nothing
        return replace(self, constant=np.array(self.constant)[still].tolist(), has_gaps=has_gaps)

    def of_columns(self, which: slice) -> Scaler:
        """The scaler of some of the columns."""
        numbers, constant = range(len(self.center))[which], set(self.constant)
        if len(numbers) == len(self.center):
            return self
        return replace(
            self,
            center=self.center[which],
            divisor=self.divisor[which],
            constant=[j for j, column in enumerate(numbers) if column in constant],
            logarithmic=self.logarithmic[which],
        )

    @property
    def constant_values(self) -> np.ndarray:
        """The value of each constant column, in the data's units."""
        rows = self.center[None].copy()
        _take_exponentials(rows, self.logarithmic)
        values = np.where(self.logarithmic, rows[0].round(), rows[0]) if self.logarithmic else rows[0]
        return values[self.constant]

    @property
    def has_squares(self) -> bool:
        """Whether squared errors in the data's units neither overflow nor underflow in float64."""
        sizes = np.delete(self.divisor, self.constant)
        return not len(sizes) or SMALLEST_SQUARED < sizes.max() < 1 / SMALLEST_SQUARED

    @property
    def log_jacobian(self) -> np.ndarray:
        """Logarithms of the scaling's derivatives, shape (d,): log-density in data units minus that in scaled units."""
        return -np.log(self.divisor)


def _root_mean_square(values: np.ndarray) -> float:
    """The root of the mean of squares, without overflow or underflow."""
    exponent = np.frexp(values.max())[1]
    return float(np.ldexp(np.sqrt(np.square(np.ldexp(values, -exponent)).mean()), exponent))
