"""Data: the scaled rows that a model is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.data.compact_rows import CompactRows
from eigencode.data.mapped_rows import JoinedArrays, MappedRows, is_mapped, require_finite
from eigencode.data.memory import require_memory
from eigencode.data.rows import ResidentRows, Rows
from eigencode.data.scaling import Scaler
from eigencode.data.tables.compact import CompactCells
from eigencode.fitting.table import TrainingTable
from eigencode.model.gaussian import Gaussian, fit_gaussian
from eigencode.model.pca import EXACT_SIZE
from eigencode.parts.base import Sizes, Units

CALIBRATION_ROWS = 8192
"""Most rows from which a likelihood's own parameters are estimated at the start."""

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
    """

    rows: Rows
    units: Units

    @classmethod
    def of(cls, table: TrainingTable, scaler: Scaler, dtype: torch.dtype) -> Data:
        """The rows of a table, scaled and divided into those for training and for validation."""
        units, held_out, n_rows = Units.of(scaler), table.held_out, len(table.array)
        arrays = [table.array] if table.validation is None else [table.array, table.validation]
        n_all = sum(map(len, arrays))
        weight = None if table.weights is None else torch.from_numpy(table.weights).to(dtype)
        if weight is not None and n_all > n_rows:
            weight = torch.cat([weight, weight.new_ones(n_all - n_rows)])
        if is_mapped(table.array):
            array = table.array if table.validation is None else JoinedArrays(*arrays)
            return cls(MappedRows(array, scaler, dtype, held_out, table.is_separate, weight), units)
        is_training = torch.ones(n_all, dtype=torch.bool).index_fill(0, held_out, False)
        training = torch.nonzero(is_training).flatten()
        split: dict[str, Any] = {"training": training, "validation_numbers": held_out, "is_separate": table.is_separate}
        if isinstance(table.array, CompactCells) and table.validation is None:
            return cls(CompactRows.of(table.array, scaler, dtype, weight=weight, **split), units)
        return cls(ResidentRows(replace(scaled(arrays, scaler, dtype), weight=weight), **split), units)

    def __repr__(self) -> str:
        rows = self.rows
        n_training = "an unknown number of" if rows.n_training is None else rows.n_training
        split = f"{n_training} rows for training, {rows.n_validation} for validation"
        return f"Data({split}, {rows.n_features} columns, {rows.dtype} on {rows.device})"

    @cached_property
    def typical(self) -> Batch:
        """Rows repeated or left out in proportion to their weights."""
        every = self.rows.representative()
        if every.weight is None:
            return every
        numbers = _systematic_sample(every.weight, self.rows.n_features)
        return replace(every.map(lambda tensor: tensor[numbers]), weight=None)

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
        every = self.rows.representative()
        if self.rows.has_more and self.rows.n_features <= EXACT_SIZE and every.observed is None:
            return self._rows_of_moment()
        return every if every.weight is None else Batch(every.x * every.weight.sqrt()[:, None], every.observed)

    def _rows_of_moment(self) -> Batch:
        """One row for each column, with the second moments of all rows; in float64, by one pass over all rows."""
        d, total = self.rows.n_features, 0.0
        moment = torch.zeros(d, d, dtype=torch.float64)
        for block in self.rows.blocks():
            weight = torch.ones(len(block)) if block.weight is None else block.weight
            moment += (block.x.double() * weight.double()[:, None]).T @ block.x.double()
            total += float(weight.sum(dtype=torch.float64))
        values, vectors = torch.linalg.eigh(moment / total)
        return Batch((d * values.clamp(min=0)).sqrt()[:, None] * vectors.T)

    @property
    def sample(self) -> Batch:
        """Rows from which single numbers of a start are estimated."""
        return self.typical.thinned(CALIBRATION_ROWS)

    @cached_property
    def sizes(self) -> Sizes:
        """The sizes of the data that are given to the parts."""
        every, n_rows = self.rows.representative(), self.rows.n_training
        low, high = every.range()
        return Sizes(self.rows.n_features, 1, n_rows, self.units, low, high)


def _systematic_sample(weights: Tensor, n_columns: int) -> Tensor:
    """Row numbers, each repeated in proportion to its weight, up to rounding.

    As many as there are rows, or more if there are few rows, to round less; the memory of the result is bounded.
    """
    cumulative = weights.double().cumsum(0)
    n_draws = min(max(len(weights), 2 * CALIBRATION_ROWS), max(TYPICAL_CELLS // n_columns, TYPICAL_ROWS))
    positions = (torch.arange(n_draws, dtype=torch.float64) + 0.5) * (cumulative[-1] / n_draws)
    return torch.searchsorted(cumulative, positions).clamp_(max=len(weights) - 1)


def scaled(arrays: Sequence[np.ndarray], scaler: Scaler, dtype: torch.dtype) -> Batch:
    """Scaled rows of several arrays in the precision of the weights, a chunk at a time; gaps are hidden cells."""
    shape = sum(map(len, arrays)), arrays[0].shape[1]
    require_memory(
        shape[0] * shape[1] * dtype.itemsize, "The scaled table", "Try fewer rows at a time with partial_fit"
    )
    rows = torch.empty(shape, dtype=dtype)
    first = 0
    for array in arrays:
        for chunk in scaler.chunks(array, np.float64 if dtype == torch.float64 else np.float32):
            rows[first : first + len(chunk)] = torch.from_numpy(chunk)
            first += len(chunk)
    found = Batch.with_gaps(rows)
    require_finite(found.x)
    return found
