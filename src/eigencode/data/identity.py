"""Fingerprints of rows, by which a model tells those that it was fitted to from others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from eigencode.data.sources import CACHED_CELLS, ArraySource, over_chunks

MOST_CELLS = 2**26
"""Cells of the largest table that has a fingerprint, which takes a pass over them."""

MIXED = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with about as many bits of each kind, by which the bits of a product are mixed."""


def fingerprint(array: Any) -> str | None:
    """16 hexadecimal digits for rows of cells in any order; None for very many, and for rows that stay in their files.

    Cells count as 32-bit numbers, so that the same rows in another numeric type have the same fingerprint. Each row has
    a hash, a sum of its bits times odd random numbers modulo 2**64, and these are added.

    Examples
    --------
    >>> rows = np.array([[0.5, 1.0], [2.0, np.nan]])
    >>> fingerprint(rows) == fingerprint(rows[::-1].astype(np.float32))
    True
    >>> fingerprint(rows) == fingerprint(rows + 1)
    False
    """
    if hasattr(array, "read_chunks"):
        return None
    return _by_blocks(lambda hashed: over_chunks(hashed, ArraySource(array)), array.shape)


def fingerprint_of(blocks: Iterable[np.ndarray], shape: tuple[int, int]) -> str | None:
    """The same of rows of this shape that are given a block at a time."""
    return _by_blocks(lambda hashed: map(hashed, blocks), shape)


def _by_blocks(each: Callable[[Callable[[np.ndarray], int]], Iterable[int]], shape: tuple[int, int]) -> str | None:
    """The fingerprint of rows of this shape; ``each`` calls a function for each block of them."""
    if shape[0] * shape[1] > MOST_CELLS:
        return None
    keys = np.random.default_rng(0).integers(2**64, size=shape[1], dtype=np.uint64) | np.uint64(1)
    return f"{sum(each(partial(_hash, keys))) % 2**64:016x}"


def _hash(keys: np.ndarray, block: np.ndarray) -> int:
    """The sum of the hashes of some rows."""
    total = 0
    for chunk in ArraySource(block, CACHED_CELLS).chunks():
        with np.errstate(over="ignore"):
            cells = np.add(chunk, np.float32(0), dtype=np.float32, casting="unsafe", order="C")  # one zero
        if np.isnan(cells.min(initial=0)):
            cells[np.isnan(cells)] = np.nan  # one NaN
        rows = np.einsum("ij,j->i", cells.view(np.uint32), keys, dtype=np.uint64, casting="safe")
        mixed = (rows ^ (rows >> np.uint64(32))) * MIXED
        total += int((mixed ^ (mixed >> np.uint64(32))).sum(dtype=np.uint64))
    return total
