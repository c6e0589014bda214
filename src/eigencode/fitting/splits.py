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


MOST_VALIDATION_CELLS = 2**27
"""Most cells for validation (512 MB in float32), since these rows are kept in memory; 256 rows may have more."""


def validation_size(n_rows: int, n_features: int, fraction: float) -> int:
    """Number of validation rows: a share of all, up to a fixed number; at least one row is left for training.

    Examples
    --------
    >>> validation_size(1_000, 20, 0.1), validation_size(10**7, 20, 0.1)
    (100, 50000)
    >>> validation_size(10**7, 16_384, 0.1)
    8192
    """
    most = min(MOST_VALIDATION_ROWS, max(MOST_VALIDATION_CELLS // n_features, 256))
    return min(round(n_rows * fraction), n_rows - 1, most)


def at_random(n_rows: int, n_validation: int, seed: int) -> Tensor:
    """Numbers of so many validation rows drawn at random, in ascending order."""
    source = generator(seed, "split")
    if n_rows > MOST_SHUFFLED_ROWS:
        order = Permutation(n_rows, int(torch.randint(2**31, (1,), generator=source)))
        return order(torch.arange(n_validation)).sort().values
    return torch.randperm(n_rows, generator=source)[:n_validation].sort().values


def last(n_rows: int, n_validation: int) -> Tensor:
    """Numbers of the last rows, as validation rows of a table in order of time."""
    return torch.arange(n_rows - n_validation, n_rows)


def by_groups(groups: np.ndarray, n_validation: int, seed: int) -> Tensor:
    """Numbers of the rows of groups drawn at random, about as many as asked for.

    A group that would bring their number farther from it is left out; if all would, the smallest is drawn. Groups are
    numbered in the order of their first rows, so their names do not matter.
    """
    _, first, group, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError(
            "There must be at least two groups, one of them for validation",
            got="one group",
            hint="Use validation_fraction=0, or give no groups",
        )
    order = first.argsort()[torch.randperm(len(sizes), generator=generator(seed, "split")).numpy()]
    chosen = _near(sizes[order], n_validation)
    return torch.from_numpy(np.flatnonzero(np.isin(group, order[chosen])))


def _near(sizes: np.ndarray, n_rows: int) -> list[int]:
    """Numbers of groups, in order, each of which brings the sum of their sizes nearer to a number of rows."""
    chosen: list[int] = []
    for number, size in enumerate(sizes.tolist()):
        if size / 2 <= n_rows:
            chosen.append(number)
            n_rows -= size
    return chosen[: len(sizes) - 1] or [int(sizes.argmin())]
