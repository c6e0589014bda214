"""TrainingTable: the checked numbers that a model is fitted to, before scaling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eigencode.data.sources import ArraySource
from eigencode.errors import DataError

HEAVIEST = 1e30
"""Largest ratio of a row's weight to the mean weight; float32 cannot represent sums with larger ones."""


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """Rows of numbers in the data's units.

    Attributes
    ----------
    array : ndarray of shape (n, d)
        The rows for training and, if ``validation`` is None, those for validation.
    weights : ndarray of shape (n,) or None
        Weight of each row; None where all weigh 1.
    validation : ndarray of shape (m, d) or None
        Separately given validation rows.
    groups : ndarray of shape (n,) or None
        The group of each row; rows of one group are all for training, or all for validation.
    """

    array: np.ndarray
    weights: np.ndarray | None = None
    validation: np.ndarray | None = None
    groups: np.ndarray | None = None

    @property
    def source(self) -> ArraySource:
        """The rows, a chunk at a time."""
        return ArraySource(self.array)

    def weighted(self, sample_weight: np.ndarray | None, unit: float | None = None) -> tuple[TrainingTable, float]:
        """The rows of positive weight, their weights divided by a unit, and the unit: by default the mean weight.

        The weights are None if all are 1.
        """
        if sample_weight is None and unit in (None, 1.0):
            return self, 1.0
        weights = np.ones(len(self.array)) if sample_weight is None else sample_weight
        largest = weights.max(initial=0.0)
        if unit is None and largest == 0:
            raise DataError("All sample weights are zero", hint="Give some rows a positive weight")
        if unit is None:
            # Divided before they are summed, so that the sum of the largest numbers does not overflow.
            unit = float(largest * (weights[weights > 0] / largest).mean())
        with np.errstate(over="ignore"):
            weights = weights / (unit or 1.0)
        if largest > 0 and weights.max() > HEAVIEST:
            raise DataError(
                "The weights of a block must be comparable with those of the first",
                got=f"{largest:g} beside a mean of {unit:g}",
            )
        kept = weights > 0
        groups = None if self.groups is None else self.groups[kept]
        left = None if (weights[kept] == 1).all() else weights[kept]
        return replace(self, array=self.array[kept], weights=left, groups=groups), unit or 1.0
