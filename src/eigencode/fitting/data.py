"""Data: the scaled rows that a model is fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.data.gaps import hide_gaps
from eigencode.data.mapped_rows import require_finite
from eigencode.data.memory import require_memory
from eigencode.data.rows import ResidentRows, Rows
from eigencode.data.scaling import Scaler
from eigencode.data.streamed_rows import StreamedRows
from eigencode.fitting.large_rows import large_rows, with_rest
from eigencode.fitting.table import TrainingTable
from eigencode.model.gaussian import Gaussian, fit_gaussian
from eigencode.model.pca import EXACT_SIZE, decomposed
from eigencode.parts.base import Sizes, Units

if TYPE_CHECKING:
    from eigencode.data.tables import Schema

CALIBRATION_ROWS = 8192
"""Most rows from which a likelihood's own parameters are estimated at the start."""

START_CELLS = 2**23
"""Cells of the rows from which a start is computed that is an approximation of the objective, and no optimum of it."""

TYPICAL_CELLS, TYPICAL_ROWS = 2**21, 256
"""Most cells of the rows that represent weighted ones (a few megabytes), unless these are fewer rows than that."""


@dataclass(frozen=True, eq=False)
class Data:
    """Scaled rows for training and for validation, and the units that they were scaled from.

    Attributes
    ----------
    rows : Rows
        The rows, their split and their weights.
    units : Units
        The map from scaled values to the data's units.
    columns : Schema or None
        What each column of a frame is; None for an array.
    image_shape : tuple of int
        Channels, height and width of rows that are images; () if they are none.
    """

    rows: Rows
    units: Units
    columns: Schema | None = None
    image_shape: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        table: TrainingTable,
        scaler: Scaler,
        dtype: torch.dtype,
        columns: Schema | None = None,
        image_shape: tuple[int, ...] = (),
    ) -> Data:
        """The rows of a table, scaled a chunk at a time, and divided into those for training and for validation."""
        units, n_rows = Units.of(scaler), sum(map(len, table.arrays))
        weight = None
        if table.weights is not None:
            weight = torch.ones(n_rows, dtype=dtype)
            weight[: len(table.weights)] = torch.from_numpy(table.weights)
        rows = large_rows(table, weight, scaler, dtype) or _resident(table, weight, scaler, dtype)
        return cls(with_rest(rows, table, scaler), units, columns, image_shape)

    def __repr__(self) -> str:
        rows = self.rows
        n_training = "an unknown number of" if rows.n_training is None else rows.n_training
        split = f"{n_training} rows for training, {rows.n_validation} for validation"
        return f"Data({split}, {rows.n_features} columns, {rows.dtype} on {rows.device})"

    @cached_property
    def _every(self) -> Batch:
        """The rows from which the start is computed, which may be a copy."""
        return self.rows.representative()

    @cached_property
    def typical(self) -> Batch:
        """Rows repeated or left out in proportion to their weights."""
        every = self._every
        if every.weight is None:
            return every
        numbers = _systematic_sample(every.weight, self.rows.n_features)
        return replace(every.map(lambda tensor: tensor[numbers]), weight=None)

    @property
    def n_represented(self) -> float:
        """How many rows of equal weights `typical` stands for: as many as say as much as all (Kish, 1965)."""
        if self._every.weight is None:
            return self.rows.n_usable
        weight = self._every.weight.double()
        return self.rows.n_usable * float(weight.mean().square() / weight.square().mean())

    @cached_property
    def gaussian(self) -> Gaussian | None:
        """The normal density of rows with gaps, None if there are none."""
        return fit_gaussian(self.typical) if self.rows.has_gaps and self.typical.observed is not None else None

    @cached_property
    def weighed(self) -> Batch:
        """Rows times the square roots of their weights, so that their second moments are the weighted ones.

        With gaps, rows that have the covariance of the normal density.
        """
        if self.gaussian is not None:
            return self.gaussian.rows_of_moment
        every = self._every
        if self.rows.has_more and self.rows.n_features <= EXACT_SIZE and every.observed is None:
            return self._rows_of_moment()
        return every if every.weight is None else Batch(every.x * every.weight.sqrt()[:, None], every.observed)

    @cached_property
    def few_weighed(self) -> Batch:
        """Some of `weighed`, chosen at random, if they have very many cells."""
        rows = self.weighed
        n_rows = max(START_CELLS // self.rows.n_features, CALIBRATION_ROWS)
        if len(rows) <= n_rows:
            return rows
        numbers = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:n_rows].sort().values
        return rows.map(lambda tensor: tensor[numbers])

    def _rows_of_moment(self) -> Batch:
        """One row for each column, with the second moments of all rows; in float64, by one pass over all rows."""
        moment = self.rows.second_moment() if isinstance(self.rows, StreamedRows) else None
        values, vectors = decomposed(_second_moment(self.rows) if moment is None else moment)
        return Batch((self.rows.n_features * values.clamp(min=0)).sqrt()[:, None] * vectors.T)

    @property
    def sample(self) -> Batch:
        """Rows from which single numbers of a start are estimated."""
        return self.typical.thinned(CALIBRATION_ROWS)

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of the data that are given to the parts."""
        n_rows, (low, high) = self.rows.n_training, self._every.range()
        return Sizes(self.rows.n_features, 1, n_rows, self.units, low, high)


def _resident(table: TrainingTable, weight: Tensor | None, scaler: Scaler, dtype: torch.dtype) -> ResidentRows:
    """The rows in memory, in one tensor."""
    held_out, n_rows, d = table.validation_numbers, sum(map(len, table.arrays)), table.array.shape[1]
    require_memory(n_rows * d * dtype.itemsize, "The scaled table", "Try fewer rows at a time with partial_fit")
    x, observed, first, done = torch.empty(n_rows, d, dtype=dtype), None, 0, 0
    for array in table.arrays:
        for written in scaler.scale_into(x[first : (first := first + len(array))].numpy(), array):
            part = slice(done, done := done + len(written))
            cells = hide_gaps(x[part])
            if cells.observed is not None:
                observed = torch.ones(n_rows, d, dtype=torch.bool) if observed is None else observed
                x[part], observed[part] = cells.x, cells.observed
            require_finite(x[part])
    is_training = torch.ones(n_rows, dtype=torch.bool).index_fill(0, held_out, False)
    training = torch.nonzero(is_training).flatten().to(torch.int32 if n_rows < 2**31 else torch.int64)
    return ResidentRows(Batch.of_filled(x, observed, weight), training, held_out, table.is_separate)


def _second_moment(rows: Rows) -> Tensor:
    """The weighted mean of z z^T over all usable rows z, in float64."""
    total, moment = 0.0, torch.zeros(rows.n_features, rows.n_features, dtype=torch.float64)
    for block in rows.blocks():
        weight = torch.ones(len(block)) if block.weight is None else block.weight
        moment += (block.x.double() * weight.double()[:, None]).T @ block.x.double()
        total += float(weight.sum(dtype=torch.float64))
    return moment / total


def _systematic_sample(weights: Tensor, n_columns: int) -> Tensor:
    """Row numbers, each repeated in proportion to its weight, up to rounding.

    As many as there are rows, or more if there are few rows, to round less; the memory of the result is bounded.
    """
    cumulative = weights.double().cumsum(0)
    n_draws = min(max(len(weights), 2 * CALIBRATION_ROWS), max(TYPICAL_CELLS // n_columns, TYPICAL_ROWS))
    positions = (torch.arange(n_draws, dtype=torch.float64) + 0.5) * (cumulative[-1] / n_draws)
    return torch.searchsorted(cumulative, positions).clamp_(max=len(weights) - 1)
