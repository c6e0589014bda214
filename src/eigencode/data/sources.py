"""Sources of rows, which are read a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from eigencode.threads import in_threads

R = TypeVar("R")

CHUNK_ROWS = 8192
"""Most rows of a chunk."""

CHUNK_CELLS = 2**20
"""Most cells of a chunk, unless its rows are very wide: what is made of them takes little memory, and products of wide
rows take the same time with hundreds of rows as with thousands."""

CACHED_CELLS = 2**16
"""Cells that are changed at a time in several passes, so that they stay in the fastest cache."""

BLOCK_CELLS = 2**22
"""Most cells of a block in a pass over all rows in order."""


class CellsOnDemand:
    """An array of shape (n, d) whose cells are made or read when they are asked for."""

    shape: tuple[int, int]
    dtype: np.dtype
    ndim = 2

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of cells."""
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes that all cells would take in memory."""
        return self.size * self.dtype.itemsize


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

    Examples
    --------
    >>> source = ArraySource(np.arange(6).reshape(3, 2))
    >>> source.shape, [chunk.tolist() for chunk in source.chunks()]
    ((3, 2), [[[0, 1], [2, 3], [4, 5]]])
    """

    array: np.ndarray
    n_cells: int = CHUNK_CELLS
    without: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        n_rows, n_columns = self.array.shape
        return n_rows - len(self.without), n_columns

    def chunks(self) -> Iterator[np.ndarray]:
        """Consecutive blocks of at most ``CHUNK_ROWS`` rows."""
        n_chunk, n_rows = chunk_rows(self.array.shape[1], self.n_cells), self.shape[0]
        if hasattr(self.array, "read_chunks"):  # cells that are read from their beginning
            yield from self.array.read_chunks(n_chunk, self.without)
            return
        for first in range(0, n_rows, n_chunk):
            rows: slice | np.ndarray = slice(first, first + n_chunk)
            if len(self.without):
                rows = numbers_without(self.without, np.arange(first, min(first + n_chunk, n_rows)))
            yield self.array[rows]


def over_chunks(function: Callable[..., R], source: Source, weights: np.ndarray | None = None) -> Iterator[R]:
    """A function of each chunk of a source and the weights of its rows, in order, with as many threads as torch has.

    One thread if the cells are not in an array or a memory map: what reads or makes them may write the next rows into
    the memory of those before. A function of chunks alone is called without weights.

    Examples
    --------
    >>> list(over_chunks(len, ArraySource(np.zeros((9000, 2)))))
    [8192, 808]
    """
    is_in_memory = isinstance(getattr(source, "array", None), np.ndarray)
    return (in_threads if is_in_memory else map)(lambda part: function(*part), _parts(source, weights))


def _parts(source: Source, weights: np.ndarray | None) -> Iterator[tuple[np.ndarray, ...]]:
    """Chunks, with the weights of their rows if there are any."""
    done = 0
    for chunk in source.chunks():
        yield (chunk,) if weights is None else (chunk, weights[done : done + len(chunk)])
        done += len(chunk)


def numbers_without(excluded: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The numbers of the rows at some positions, counted without some rows whose numbers are in ascending order.

    Examples
    --------
    >>> numbers_without(np.array([0, 2]), np.arange(3))
    array([1, 3, 4])
    """
    # Row p comes after every excluded row that has at most p others before it.
    return positions + np.searchsorted(excluded - np.arange(len(excluded)), positions, side="right")


def kept_rows(excluded: np.ndarray, first: int, n_rows: int) -> np.ndarray:
    """Numbers of the rows of a block, counted from its first row, without some rows of the table in ascending order.

    Examples
    --------
    >>> kept_rows(np.array([0, 11, 12]), first=10, n_rows=4)
    array([0, 3])
    """
    low, high = np.searchsorted(excluded, [first, first + n_rows])
    return np.delete(np.arange(n_rows), excluded[low:high] - first)


def chunk_rows(n_columns: int, n_cells: int = CHUNK_CELLS) -> int:
    """Number of rows in a chunk of this many columns."""
    return min(CHUNK_ROWS, max(n_cells // max(n_columns, 1), 128))


def rows_of_block(n_columns: int) -> int:
    """Rows of a block: as many chunks for a network as are not wider than one of many columns."""
    n_rows = chunk_rows(n_columns)
    return n_rows * max(BLOCK_CELLS // (n_rows * max(n_columns, 1)), 1)


def rejoined(blocks: Iterable[Any], n_rows: int) -> Iterator[Any]:
    """The rows of arrays or of Arrow tables, in blocks of exactly so many rows, but for the last one.

    Examples
    --------
    >>> [block.tolist() for block in rejoined([np.arange(3), np.arange(3, 5)], 2)]
    [[0, 1], [2, 3], [4]]
    """
    waiting: list[Any] = []
    for block in blocks:
        waiting.append(block)
        while (n_waiting := sum(map(len, waiting))) >= n_rows:
            whole = joined_rows(waiting)
            yield whole[:n_rows]
            waiting = [whole[n_rows:]] if n_waiting > n_rows else []
    if waiting:
        yield joined_rows(waiting)


def joined_rows(blocks: Sequence[Any]) -> Any:
    """The rows of arrays or of Arrow tables of the same columns, one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks) if isinstance(blocks[0], np.ndarray) else pa.concat_tables(blocks)
