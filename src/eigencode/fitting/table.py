"""TrainingTable: checked numbers as a model is fitted to, before they are scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eigencode.data.sources import ArraySource
from eigencode.errors import DataError

HEAVIEST = 1e30
"""Weight, beside the mean, up to which float32 can count a row."""


@dataclass(frozen=True, eq=False)
class TrainingTable:
    """Rows of numbers in the data's own units.

    Attributes
    ----------
    array : ndarray of shape (n, d)
        The rows to learn from and, where no others are given, those for validation among them.
    weights : ndarray of shape (n,) or None
        Weight of each row; None where all weigh 1.
    validation : ndarray of shape (m, d) or None
        Rows for validation, given apart.
    groups : ndarray of shape (n,) or None
        The group of each row; rows of one group are all to learn from, or all for validation.
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
        """Those rows that weigh anything, with their weights in a unit, and the unit: by default the mean weight.

        There are no weights at all where all are 1.
        """
        if sample_weight is None and unit in (None, 1.0):
            return self, 1.0
        weights = np.ones(len(self.array)) if sample_weight is None else sample_weight
        largest = weights.max(initial=0.0)
        if unit is None and largest == 0:
            raise DataError("All sample weights are zero", hint="Give some rows a positive weight")
        if unit is None:
            # Divided first, the sum of the largest numbers is a number too.
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
