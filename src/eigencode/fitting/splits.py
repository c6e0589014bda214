"""Splits of rows into training and validation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eigencode.data.permutation import MOST_SHUFFLED_ROWS, Permutation
from eigencode.errors import DataError
from eigencode.training.rng import generator

MOST_VALIDATION_ROWS = 50_000
"""Most rows for validation: the standard error of a mean of so many rows is 0.5 % of their standard deviation."""


def validation_size(n_rows: int, fraction: float) -> int:
    """Number of validation rows: a share of all, up to a fixed number; at least one row is left for training."""
    return min(round(n_rows * fraction), n_rows - 1, MOST_VALIDATION_ROWS)


def at_random(n_rows: int, fraction: float, seed: int) -> Tensor:
    """Numbers of validation rows drawn at random, in ascending order."""
    n_validation, source = validation_size(n_rows, fraction), generator(seed, "split")
    if n_rows > MOST_SHUFFLED_ROWS:
        order = Permutation(n_rows, int(torch.randint(2**31, (1,), generator=source)))
        return order(torch.arange(n_validation)).sort().values
    return torch.randperm(n_rows, generator=source)[:n_validation].sort().values


def last(n_rows: int, fraction: float) -> Tensor:
    """Numbers of the last rows, as validation rows of a table in order of time."""
    return torch.arange(n_rows - validation_size(n_rows, fraction), n_rows)


def by_groups(groups: np.ndarray, fraction: float, seed: int) -> Tensor:
    """Numbers of the rows of groups drawn at random, about the given share of the rows.

    A group that would bring their number farther from the share is left out; if all would, the smallest is drawn.
    Groups are numbered in the order of their first rows, so their names do not matter.
    """
    if fraction == 0:
        return torch.empty(0, dtype=torch.int64)
    _, first, group, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError(
            "There must be at least two groups, one of them for validation",
            got="one group",
            hint="Use validation_fraction=0, or give no groups",
        )
    order = first.argsort()[torch.randperm(len(sizes), generator=generator(seed, "split")).numpy()]
    chosen = _near(sizes[order], validation_size(len(groups), fraction))
    return torch.from_numpy(np.flatnonzero(np.isin(group, order[chosen])))


def _near(sizes: np.ndarray, n_rows: int) -> list[int]:
    """Numbers of groups, in order, each of which brings the sum of their sizes nearer to a number of rows."""
    chosen: list[int] = []
    for number, size in enumerate(sizes.tolist()):
        if size / 2 <= n_rows:
            chosen.append(number)
            n_rows -= size
    return chosen[: len(sizes) - 1] or [int(sizes.argmin())]
