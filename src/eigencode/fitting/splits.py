"""Splits of rows into training and validation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eigencode.errors import DataError
from eigencode.training.rng import generator

MOST_VALIDATION_ROWS = 50_000
"""Most rows for validation: the standard error of a mean of so many rows is 0.5 % of their standard deviation."""

Split = tuple[Tensor, Tensor]
"""Row numbers for training, and for validation, each in ascending order."""


def validation_size(n_rows: int, fraction: float) -> int:
    """Number of validation rows: a share of all, up to a fixed number; at least one row is left for training."""
    return min(round(n_rows * fraction), n_rows - 1, MOST_VALIDATION_ROWS)


def at_random(n_rows: int, fraction: float, seed: int) -> Split:
    """Draw the validation rows at random."""
    order = torch.randperm(n_rows, generator=generator(seed, "split"))
    n_validation = validation_size(n_rows, fraction)
    return order[n_validation:].sort().values, order[:n_validation].sort().values


def last(n_rows: int, fraction: float) -> Split:
    """Use the last rows for validation, for rows in order of time."""
    return torch.arange(n_rows).tensor_split([n_rows - validation_size(n_rows, fraction)])  # type: ignore[return-value]


def by_groups(groups: np.ndarray, fraction: float, seed: int) -> Split:
    """Draw whole groups for validation, until they have about the given share of the rows.

    Raises
    ------
    DataError
        If there is only one group, so that none would be left for training.
    """
    if fraction == 0:
        return torch.arange(len(groups)), torch.empty(0, dtype=torch.int64)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError(
            "There must be at least two groups, one of them for validation",
            got="one group",
            hint="Use validation_fraction=0, or give no groups",
        )
    order = torch.randperm(len(sizes), generator=generator(seed, "split")).numpy()
    before = np.cumsum(sizes[order]) - sizes[order] / 2
    n_chosen = int((before <= validation_size(len(groups), fraction)).sum())
    chosen = order[: min(max(n_chosen, 1), len(sizes) - 1)]
    is_chosen = torch.from_numpy(np.isin(group, chosen))
    return torch.nonzero(~is_chosen).flatten(), torch.nonzero(is_chosen).flatten()
