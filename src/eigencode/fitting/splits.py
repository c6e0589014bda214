"""Splits: which rows are learned from, and which are for validation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eigencode.errors import DataError
from eigencode.training.rng import generator

MOST_VALIDATION_ROWS = 50_000
"""Rows for validation at most: with these the error of a mean is half a per cent of the rows' spread."""

Split = tuple[Tensor, Tensor]
"""Numbers of the rows to learn from, and of those for validation, each in order."""


def validation_size(n_rows: int, fraction: float) -> int:
    """How many rows are for validation: a share, but at least one stays to learn from, and no more than are needed."""
    return min(round(n_rows * fraction), n_rows - 1, MOST_VALIDATION_ROWS)


def at_random(n_rows: int, fraction: float, seed: int) -> Split:
    """A share of the rows, drawn at random, for validation."""
    order = torch.randperm(n_rows, generator=generator(seed, "split"))
    n_validation = validation_size(n_rows, fraction)
    return order[n_validation:].sort().values, order[:n_validation].sort().values


def last(n_rows: int, fraction: float) -> Split:
    """The last rows for validation, as rows in order of time want it."""
    return torch.arange(n_rows).tensor_split([n_rows - validation_size(n_rows, fraction)])  # type: ignore[return-value]


def by_groups(groups: np.ndarray, fraction: float, seed: int) -> Split:
    """Whole groups for validation, drawn at random until they have about a share of the rows; at least one if any.

    Raises
    ------
    DataError
        If there is one group only, so that none would be left to learn from.
    """
    if fraction == 0:
        return torch.arange(len(groups)), torch.empty(0, dtype=torch.int64)
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError(
            "Groups must be two at least, one of them for validation",
            got="one group",
            hint="Use validation_fraction=0, or give no groups",
        )
    order = torch.randperm(len(sizes), generator=generator(seed, "split")).numpy()
    before = np.cumsum(sizes[order]) - sizes[order] / 2
    n_chosen = int((before <= validation_size(len(groups), fraction)).sum())
    chosen = order[: min(max(n_chosen, 1), len(sizes) - 1)]
    is_chosen = torch.from_numpy(np.isin(group, chosen))
    return torch.nonzero(~is_chosen).flatten(), torch.nonzero(is_chosen).flatten()
