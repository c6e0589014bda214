"""Categories of many values: an order of the values in which those that go with similar rows are neighbours.

The number of a value in this order, in binary, is its code: the first bits say what it is like, the last ones which it
is. It is a semantic hash (Weiss, Torralba & Fergus, 2009) of the means of the other columns, in which no two values
have the same code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_ROWS = 50_000
"""Rows by which values are compared."""

SHRINKAGE = 5.0
"""Rows of the mean of all that are added to those of each value."""

MOST_AXES = 8
"""Principal directions of the means along which values are divided."""

LEVELS = 10
"""Times that all groups of values are halved; within the last ones the order is that of frequency."""


def profiles(numbers: np.ndarray, n_values: int, blocks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the other columns' cells for each value, standardised and drawn to 0 where rows are few.

    Parameters
    ----------
    numbers : ndarray of shape (n,)
        The number of each row's value, -1 for none.
    n_values : int
        How many values there are.
    blocks : sequence of ndarray of shape (n, width)
        The cells of each other column, NaN for gaps.

    Returns
    -------
    means : ndarray of shape (n_values, d)
    counts : ndarray of shape (n_values,)
        Rows of each value.
    """
    rows = numbers >= 0
    counts = np.bincount(numbers[rows], minlength=n_values).astype(float)
    found = [np.zeros((n_values, 0))]
    for block in blocks:
        cells = np.ma.masked_invalid(block.astype(np.float64))
        spread = np.ma.filled(cells.std(0), 0.0)
        scaled = np.ma.filled((cells - cells.mean(0)) / np.where(spread > 0, spread, 1.0), 0.0)[rows]
        sums = np.stack([np.bincount(numbers[rows], cell, n_values) for cell in scaled.T], axis=1)
        found.append(sums / (counts[:, None] + SHRINKAGE) / np.sqrt(block.shape[1]))
    return np.concatenate(found, axis=1), counts


def order(means: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers of the values in an order in which those with similar means are neighbours.

    All values are halved by their principal component of the largest variance, and the halves again, each time along
    the direction with the largest variance that is left within the groups.

    Examples
    --------
    >>> order(np.array([[1.0], [-2.0], [3.0], [-1.0]]), np.ones(4)).tolist()
    [1, 3, 0, 2]
    """
    groups = [np.arange(len(means))]
    if not means.any():
        return groups[0]
    weighted = (means - np.average(means, axis=0, weights=counts)) * np.sqrt(counts)[:, None]
    directions = np.linalg.eigh(weighted.T @ weighted)[1][:, : -MOST_AXES - 1 : -1]
    signs = np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    scores = means @ (directions * signs)
    for _ in range(min(LEVELS, int(len(means) - 1).bit_length())):
        axis = np.sum([len(group) * scores[group].var(0) for group in groups], axis=0).argmax()
        groups = [
            half
            for group in groups
            for half in np.array_split(group[scores[group, axis].argsort(kind="stable")], 2)
            if len(half)
        ]
    return np.concatenate(groups)


def bits_of(numbers: np.ndarray, n_values: int, n_bits: int) -> np.ndarray:
    """Numbers below ``n_values`` as rows of 0 and 1, which are spread over all codes of so many bits.

    Examples
    --------
    >>> bits_of(np.arange(3), 3, 2).tolist()
    [[0, 0], [1, 0], [1, 1]]
    """
    codes = -(-(numbers << n_bits) // n_values)
    return (codes[:, None] >> np.arange(n_bits)[::-1]) & 1


def numbers_of(bits: Any, n_values: int, xp: Any = np) -> Any:
    """The inverse of `bits_of`, by NumPy or torch; bits that are no code have the number of the next one below."""
    n_bits = bits.shape[-1]
    codes = (bits * 2 ** xp.arange(n_bits - 1, -1, -1)).sum(-1)
    return codes * n_values // 2**n_bits
