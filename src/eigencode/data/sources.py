"""Sources of rows, which are read a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

CHUNK_ROWS = 8192
"""Most rows of a chunk."""

CHUNK_CELLS = 2**20
"""Most cells of a chunk, unless its rows are very wide; they stay in the processor's cache while they are reread."""

NETWORK_CELLS = 2**22
"""Most cells of a chunk for a network: matrix products are fastest with thousands of rows."""


class Source(Protocol):
    """Rows of numbers that can be read in order, and more than once."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""

    def chunks(self) -> Iterator[np.ndarray]:
        """Consecutive blocks of rows, each of shape (m, n_columns), in the source's own type."""


@dataclass(frozen=True)
class ArraySource:
    """Rows of an array, which may be a memory map, of any numeric type and layout.

    Parameters
    ----------
    array : ndarray of shape (n, d)
        The rows.
    n_cells : int, default CHUNK_CELLS
        Most cells of a chunk.

    Examples
    --------
    >>> source = ArraySource(np.arange(6).reshape(3, 2))
    >>> source.shape, [chunk.tolist() for chunk in source.chunks()]
    ((3, 2), [[[0, 1], [2, 3], [4, 5]]])
    """

    array: np.ndarray
    n_cells: int = CHUNK_CELLS

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        n_rows, n_columns = self.array.shape
        return n_rows, n_columns

    def chunks(self) -> Iterator[np.ndarray]:
        """Consecutive blocks of at most ``CHUNK_ROWS`` rows."""
        n_rows = chunk_rows(self.array.shape[1], self.n_cells)
        for first in range(0, len(self.array), n_rows):
            yield self.array[first : first + n_rows]


def chunk_rows(n_columns: int, n_cells: int = NETWORK_CELLS) -> int:
    """Number of rows in a chunk of this many columns."""
    return min(CHUNK_ROWS, max(n_cells // max(n_columns, 1), 256))
