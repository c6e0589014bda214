"""TrainingTable: the checked numbers that a model is fitted to, before scaling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from eigencode.data.block_sources import StreamedCells
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.data.streamed_rows import representative_numbers
from eigencode.data.tables.compact import rows_of
from eigencode.errors import DataError
from eigencode.fitting import splits
from eigencode.fitting.terms import likelihood_of
from eigencode.model.pca import EXACT_SIZE

if TYPE_CHECKING:
    from eigencode.data.tables import Schema

HEAVIEST = 1e30
"""Largest ratio of a row's weight to the mean weight; float32 cannot represent sums with larger ones.

A row whose ratio is below its inverse weighs nothing: in float32 that weight may be zero.
"""


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """Rows of numbers in the data's units.

    Attributes
    ----------
    array : ndarray of shape (n, d)
        The rows for training and, if ``validation`` is None, those for validation.
    rest : iterator of ndarray, or None
        Rows for training after these, which can be read once, a block at a time.
    weights : ndarray of shape (n,) or None
        Weight of each row; None where all weigh 1.
    validation : ndarray of shape (m, d) or None
        Separately given validation rows.
    groups : ndarray of shape (n,) or None
        The group of each row; rows of one group are all for training, or all for validation.
    fraction : float
        The share of the rows for validation.
    takes_last : bool
        Whether the last rows are for validation, and not random ones.
    split_seed : int
        Seed of a random split. Models that are trained one after the other share it, so that none is trained on rows
        that another uses for validation.
    """

    array: np.ndarray
    rest: Iterator[np.ndarray] | None = None
    weights: np.ndarray | None = None
    validation: np.ndarray | None = None
    groups: np.ndarray | None = None
    fraction: float = 0.0
    takes_last: bool = False
    split_seed: int = 0

    @property
    def arrays(self) -> list[np.ndarray]:
        """The rows, and the validation rows that are given apart."""
        return [self.array] if self.validation is None else [self.array, self.validation]

    @cached_property
    def validation_numbers(self) -> Tensor:
        """Numbers of the validation rows, in ascending order; separately given ones are counted after ``array``."""
        n_rows = len(self.array)
        if self.validation is not None:
            return torch.arange(n_rows, n_rows + len(self.validation))
        n_validation = splits.validation_size(n_rows, self.array.shape[1], self.fraction)
        if self.groups is not None and self.fraction > 0:
            return splits.by_groups(self.groups, n_validation, self.split_seed)
        if self.takes_last:
            return splits.last(n_rows, n_validation)
        return splits.at_random(n_rows, n_validation, self.split_seed)

    @property
    def is_separate(self) -> bool:
        """Whether nothing is learned from the validation rows, neither a scale nor a start."""
        is_chosen = self.validation is not None or self.groups is not None or self.takes_last
        return is_chosen and len(self.validation_numbers) > 0

    @property
    def source(self) -> ArraySource:
        """The rows from which a scale is computed, a chunk at a time: without validation rows that are separate."""
        return ArraySource(self.array, without=self._without)

    @property
    def source_weights(self) -> np.ndarray | None:
        """The weights of these rows."""
        return None if self.weights is None else np.delete(self.weights, self._without)

    def scaler(self, scale: str, likelihood: Any, columns: Schema | None = None) -> Scaler:
        """The scale of the rows, for the options 'scale' and 'likelihood'."""
        cells = likelihood_of(likelihood, columns).cells(self.array.shape[1])
        logarithmic = tuple(cell.is_logarithmic for cell in cells)
        is_mixed = columns is not None and not columns.is_real
        kind = "standard" if scale == "auto" and is_mixed else scale
        return Scaler.fit(self.source, kind, self.source_weights, logarithmic if any(logarithmic) else ())

    @property
    def _without(self) -> np.ndarray:
        """Numbers of the rows in ``array`` from which no scale is computed."""
        numbers = self.validation_numbers.numpy()
        return numbers if self.is_separate and self.validation is None else numbers[:0]

    def described(self, columns: Sequence[str] | None) -> dict[str, Any]:
        """What the model is fitted to, by the names in a message; ``columns`` are those of the array."""
        given = {"sample_weight": self.weights, "validation_data": self.validation, "groups": self.groups}
        return {"X": self.array, "columns": None if columns is None else list(columns), **given}

    def surveyed(self) -> TrainingTable:
        """The same, of which a table that stays in its files keeps what a start needs in the pass for the scale."""
        cells: Any = self.array
        if not isinstance(cells, StreamedCells):
            return self
        numbers = self.validation_numbers.numpy()
        own = numbers[numbers < len(cells)]
        numbers = np.union1d(own, representative_numbers(cells, own, self.is_separate))
        with_moment = self.weights is None and cells.n_cells <= EXACT_SIZE
        surveyed: Any = cells.surveyed(numbers, with_moment=with_moment)
        return replace(self, array=surveyed)

    def weighted(self, sample_weight: np.ndarray | None, unit: float | None = None) -> tuple[TrainingTable, float]:
        """The rows that weigh something, their weights divided by a unit, and the unit: by default the mean weight.

        A row weighs something if its weight is above 1e-30 of the unit, or of the largest weight. The weights are None
        if all are 1.
        """
        if sample_weight is None and unit in (None, 1.0):
            return self, 1.0
        weights = np.ones(len(self.array)) if sample_weight is None else sample_weight
        largest = weights.max(initial=0.0)
        if unit is None and largest == 0:
            raise DataError("All sample weights are zero", hint="Give some rows a positive weight")
        kept: Any = weights > (largest if unit is None else unit) / HEAVIEST
        if unit is None:
            # Divided before they are summed, so that the sum of the largest numbers does not overflow.
            unit = float(largest * (weights[kept] / largest).mean())
        with np.errstate(over="ignore"):
            weights = weights / (unit or 1.0)
        if largest > 0 and weights.max() > HEAVIEST:
            raise DataError(
                "The weights of a block must be comparable with those of the first",
                got=f"{largest:g}, and a mean of {unit:g} before",
            )
        found = self if kept.all() else self._of(kept)  # a memory map is not copied without need
        left = None if (weights[kept] == 1).all() else weights[kept]
        return replace(found, weights=left), unit or 1.0

    def _of(self, kept: np.ndarray) -> TrainingTable:
        """Some of the rows, without weights."""
        groups = None if self.groups is None else self.groups[kept]
        return replace(self, array=rows_of(self.array, kept), groups=groups)
