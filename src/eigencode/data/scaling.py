"""Scaling: always centred, then divided by one number or by one for each column."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch

from eigencode.data.sources import NETWORK_CELLS, ArraySource, Source
from eigencode.domains import OneOf, Positive
from eigencode.errors import DataError

CACHED_CELLS = 2**16
"""Cells that stay in the processor's cache while they are scaled."""


@dataclass(frozen=True)
class ColumnStatistics:
    """Count, mean, variance (divided by n), minimum and maximum of each column, in float64.

    Mean and variance may be weighted.
    """

    n_rows: int
    mean: np.ndarray
    variance: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def of(cls, source: Source, weights: np.ndarray | None = None) -> ColumnStatistics:
        """Read the source once, merging exact statistics of its chunks (Chan, Golub & LeVeque, 1983).

        Chunks are brought into one layout first, since NumPy's sums round differently by rows and by columns.
        """
        n, done = 0.0, 0
        mean = squares = np.zeros(source.shape[1])
        low, high = np.full(source.shape[1], np.inf), np.full(source.shape[1], -np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            for chunk in source.chunks():
                part = chunk.astype(np.float64, order="C")
                w = None if weights is None else weights[done : done + len(part)]
                done += len(part)
                m = len(part) if w is None else w.sum()
                part_mean = np.average(part, axis=0, weights=w)
                low, high = np.minimum(low, part.min(0)), np.maximum(high, part.max(0))
                part -= part_mean
                gap = part_mean - mean
                inside = np.einsum("ij,ij->j", part, part if w is None else part * w[:, None])
                squares = squares + inside + gap**2 * (n * m / (n + m))
                n += m
                mean = mean + gap * (m / n)
        return cls(done, mean, squares / n, low, high)

    @property
    def constant(self) -> np.ndarray:
        """Whether a column has one value only, up to float64's rounding."""
        rounding = 16 * np.finfo(np.float64).eps * np.maximum(np.abs(self.minimum), np.abs(self.maximum))
        return self.maximum - self.minimum <= rounding


def columns_are_commensurate(statistics: ColumnStatistics) -> bool:
    """Whether the columns share one range, as the pixels of an image do.

    The rule: at least half of the columns that vary span at least half of the range of all columns together.
    """
    varying = ~statistics.constant
    if not varying.any():
        return True
    low, high = statistics.minimum[varying], statistics.maximum[varying]
    return bool(np.median(high - low) >= 0.5 * (high.max() - low.min()))


@dataclass(frozen=True)
class Scaler:
    """The map between the data's units and the model's.

    Attributes
    ----------
    kind : str
        'common', 'standard' or 'none'.
    center, divisor : ndarray of shape (d,)
        Scaled = (x - center) / divisor, in float64.
    limit : float
        Size beyond which a scaled cell is extreme: the network's input is clipped there, targets and scores never.
        It is ten times the largest scaled cell seen in fitting, and at least 10.
    """

    kind: Annotated[str, OneOf(["common", "standard", "none"])]
    center: np.ndarray
    divisor: np.ndarray
    limit: Positive

    def __post_init__(self) -> None:
        shapes = {(self.center.ndim, self.center.shape), (1, self.divisor.shape)}
        if len(shapes) > 1 or not all(values.dtype == np.float64 for values in (self.center, self.divisor)):
            raise DataError(
                "Centre and divisor of a scale must be float64 numbers, one for each column",
                got=f"shapes {self.center.shape} and {self.divisor.shape}",
            )
        if not np.isfinite(self.center).all() or not ((self.divisor > 0) & np.isfinite(self.divisor)).all():
            raise DataError("The centres of a scale must be finite, its divisors finite and above zero")

    @classmethod
    def fit(cls, source: Source, scale: str, weights: np.ndarray | None = None) -> Scaler:
        """Measure the source's columns and choose the scale, 'auto' by `columns_are_commensurate`.

        ``weights``, of shape (n,), count each row by its own.
        """
        found = ColumnStatistics.of(source, weights)
        too_large = ~np.isfinite(found.variance)
        if too_large.any():
            columns = np.flatnonzero(too_large).tolist()
            raise DataError(
                "Some columns have values too large for their variance to be a float64 number",
                got=f"columns {columns[:5]}, up to {np.abs([found.minimum, found.maximum]).max():.3g}",
                hint="Divide those columns by a constant first",
            )
        if scale == "auto":
            scale = "common" if columns_are_commensurate(found) else "standard"
        divisor = np.ones_like(found.mean)
        if scale == "common":
            divisor[:] = np.sqrt(found.variance.mean()) if not found.constant.all() else 1.0
        elif scale == "standard":
            divisor = np.where(found.constant, 1.0, np.sqrt(found.variance))
        # A spread so small that its square underflows leaves nothing to divide by.
        divisor[divisor == 0] = 1.0
        largest = np.maximum(found.maximum - found.mean, found.mean - found.minimum) / divisor
        limit = min(max(10.0, 10.0 * float(largest.max())), sys.float_info.max)
        return cls(scale, found.mean, divisor, limit)

    def transform(self, rows: np.ndarray) -> np.ndarray:
        """Scale rows, in float64."""
        scaled = rows.astype(np.float64, order="C")
        scaled -= self.center
        scaled /= self.divisor
        return scaled

    def chunks(self, array: np.ndarray, dtype: np.dtype | type) -> Iterator[np.ndarray]:
        """Scaled blocks of an array's rows for a network, of the given type and centred without loss.

        float32 stays what it is, on all threads; any other type goes by way of float64.
        """
        is_single = array.dtype == dtype == np.float32 and self._suits_float32
        scale = self._in_float32() if is_single else partial(self._in_float64, dtype=dtype)
        for chunk in ArraySource(array, NETWORK_CELLS).chunks():
            yield scale(chunk)

    def _in_float64(self, rows: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
        """A few rows at a time, which stay in the processor's cache meanwhile."""
        scaled = np.empty(rows.shape, dtype)
        n_rows = max(CACHED_CELLS // max(rows.shape[1], 1), 1)
        for first in range(0, len(rows), n_rows):
            part = slice(first, first + n_rows)
            with np.errstate(over="ignore"):  # infinities in a narrower type are for the caller to find
                scaled[part] = self.transform(rows[part])
        return scaled

    def _in_float32(self) -> Callable[[np.ndarray], np.ndarray]:
        """Centre by the leading digits of the centre, then by its rest: both steps round the result alone."""
        center = self.center.astype(np.float32)
        rest, factor = (self.center - center) / -self.divisor, 1 / self.divisor
        leading, rest_, factor_ = (torch.from_numpy(values.astype(np.float32)) for values in (center, rest, factor))

        def scale(rows: np.ndarray) -> np.ndarray:
            scaled = torch.from_numpy(np.require(rows, requirements=("C", "W"))) - leading
            return torch.addcmul(rest_, scaled, factor_, out=scaled).numpy()

        return scale

    @property
    def _suits_float32(self) -> bool:
        """Whether centre and divisor are numbers of full precision in float32."""
        return bool((np.abs(self.center) < 1e30).all() and (self.divisor > 1e-30).all() and (self.divisor < 1e30).all())

    def inverse_transform(self, rows: np.ndarray) -> np.ndarray:
        """Bring scaled rows back to the data's units, in float64."""
        return rows * self.divisor + self.center

    @property
    def log_jacobian(self) -> float:
        """Sum of the log-derivatives: what a log-density in scaled units gains in the data's."""
        return -float(np.log(self.divisor).sum())
