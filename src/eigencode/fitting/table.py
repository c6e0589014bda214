"""TrainingTable: the checked numbers that a model is fitted to, before scaling."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencode.data.mapped_rows import is_mapped
from eigencode.data.sources import ArraySource
from eigencode.errors import DataError
from eigencode.fitting import splits

if TYPE_CHECKING:
    from eigencode.options import AutoencoderOptions

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
    weights : ndarray of shape (n,) or None
        Weight of each row; None where all weigh 1.
    validation : ndarray of shape (m, d) or None
        Separately given validation rows.
    groups : ndarray of shape (n,) or None
        The group of each row; rows of one group are all for training, or all for validation.
    split_seed : int or None
        Seed of a random split; None for the model's own. Models that are trained one after the other share it, so that
        none is trained on rows that another uses for validation.
    split : (Tensor, Tensor) or None
        Numbers of the training and of the validation rows.
    n_validation : int
        Number of validation rows within ``array``.
    is_separate : bool
        Whether nothing is learned from the validation rows, neither a scale nor a start.
    """

    array: np.ndarray
    weights: np.ndarray | None = None
    validation: np.ndarray | None = None
    groups: np.ndarray | None = None
    split_seed: int | None = None
    split: splits.Split | None = None
    n_validation: int = 0
    is_separate: bool = False

    @property
    def source(self) -> ArraySource:
        """The rows, a chunk at a time."""
        return ArraySource(self.array)

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
                got=f"{largest:g} beside a mean of {unit:g}",
            )
        kept = slice(None) if kept.all() else kept  # a memory map is not copied without need
        groups = None if self.groups is None else self.groups[kept]
        left = None if (weights[kept] == 1).all() else weights[kept]
        return replace(self, array=self.array[kept], weights=left, groups=groups), unit or 1.0

    def divided(self, options: AutoencoderOptions, seed: int) -> TrainingTable:
        """The table with its rows divided into those for training and for validation.

        A large memory map has its random split computed row by row, and none is stored.
        """
        n_rows, fraction = len(self.array), options.validation_fraction
        seed = seed if self.split_seed is None else self.split_seed
        if self.validation is not None:
            return replace(self, split_seed=seed, is_separate=True)
        if self.groups is not None:
            split = splits.by_groups(self.groups, fraction, seed)
        elif options.validation == "last":
            split = splits.last(n_rows, fraction)
        elif is_mapped(self.array):
            return replace(self, split_seed=seed, n_validation=splits.validation_size(n_rows, fraction))
        else:
            split = splits.at_random(n_rows, fraction, seed)
        is_separate = len(split[1]) > 0 and (self.groups is not None or options.validation == "last")
        return replace(self, split_seed=seed, split=split, n_validation=len(split[1]), is_separate=is_separate)

    @property
    def for_statistics(self) -> TrainingTable:
        """The rows from which a scale is computed: without those for validation if these are separate."""
        if not self.is_separate or self.split is None:
            return self
        numbers = self.split[0].numpy()
        # The first rows are a view, so that a memory map is not copied.
        training: Any = slice(len(numbers)) if len(numbers) == numbers[-1] + 1 else numbers
        weights = None if self.weights is None else self.weights[training]
        return replace(self, array=self.array[training], weights=weights)
