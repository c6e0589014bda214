"""Sources of rows that are larger than memory: tables that are read a block at a time, more than once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from eigencode.data.contents import cannot_read
from eigencode.data.sources import kept_rows
from eigencode.data.table_files import translated_errors
from eigencode.errors import DataError, FileError

SAMPLE_ROWS = 100_000
"""Rows from which the kinds of columns are inferred."""

BLOCK_ROWS = 2**15
"""Most rows of a block."""

LANES = 4
"""Groups of rows that are read in turn."""


class BlockSource(ABC):
    """A table of which blocks of rows are read in order, and groups of rows in any order."""

    @property
    @abstractmethod
    def groups(self) -> Sequence[int]:
        """The number of rows of each group, in the order of the rows."""

    @abstractmethod
    def read(self, group: int) -> Iterator[Any]:
        """The rows of a group in order, in blocks of at most `BLOCK_ROWS`: frames or arrays."""

    def __len__(self) -> int:
        return sum(self.groups)

    def sample(self) -> Any:
        """The first rows of groups at equal distances, about `SAMPLE_ROWS` together: a frame or an array."""
        n_groups = min(len(self.groups), 10)
        chosen = np.linspace(0, len(self.groups) - 1, n_groups).astype(int).tolist()
        found = [block for group in chosen for block in _first_rows(self.read(group), SAMPLE_ROWS // n_groups)]
        return np.concatenate(found) if isinstance(found[0], np.ndarray) else pa.Table.from_batches(found)

    def in_turn(self, order: Sequence[int]) -> Iterator[tuple[Any, int]]:
        """Blocks of the groups in an order, of a few groups in turn; each with the number of its first row."""
        first = np.cumsum([0, *self.groups])
        waiting = iter(order)
        lanes: list[Iterator[tuple[Any, int]]] = []
        while True:
            while len(lanes) < LANES and (group := next(waiting, None)) is not None:
                lanes.append(_numbered(self.read(group), int(first[group])))
            if not lanes:
                return
            for lane in list(lanes):
                if (found := next(lane, None)) is None:
                    lanes.remove(lane)
                else:
                    yield found


def _first_rows(blocks: Iterator[Any], n_rows: int) -> Iterator[Any]:
    for block in blocks:
        yield block[:n_rows]
        n_rows -= len(block)
        if n_rows <= 0:
            return


def _numbered(blocks: Iterator[Any], first: int) -> Iterator[tuple[Any, int]]:
    for block in blocks:
        yield block, first
        first += len(block)


class ParquetSource(BlockSource):
    """Parquet files with the same columns, one after the other; their row groups are the groups.

    Parameters
    ----------
    paths : sequence of path-like
        The files.
    """

    def __init__(self, paths: Sequence[Any]) -> None:
        self._paths = [Path(path) for path in paths]
        found: list[tuple[int, int, int]] = []
        self._schema: pa.Schema | None = None
        for number, path in enumerate(self._paths):
            with self._open(path) as file:
                self._check(path, file.schema_arrow)
                metadata = file.metadata
            rows = ((group, metadata.row_group(group).num_rows) for group in range(metadata.num_row_groups))
            found += [(number, group, n_rows) for group, n_rows in rows if n_rows]
        self._groups = found
        if not found:
            raise DataError(f"{str(self._paths[0])!r} has no rows")

    @property
    def groups(self) -> Sequence[int]:
        """The number of rows of each row group."""
        return [n_rows for *_, n_rows in self._groups]

    @cached_property
    def names(self) -> list[str]:
        """Columns, without the index of a pandas frame."""
        schema = cast(pa.Schema, self._schema)
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        return [name for name in schema.names if name not in index]

    def read(self, group: int) -> Iterator[pa.RecordBatch]:
        """The rows of a row group."""
        number, which, _ = self._groups[group]
        path = self._paths[number]
        with self._open(path) as file, translated_errors(repr(str(path)), "Parquet"):
            self._check(path, file.schema_arrow)
            for batch in file.iter_batches(BLOCK_ROWS, row_groups=[which], columns=self.names, use_threads=False):
                yield batch.select(self.names)

    def _open(self, path: Path) -> pa.parquet.ParquetFile:
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise cannot_read(path, error) from error
        with translated_errors(repr(str(path)), "Parquet"):
            return pa.parquet.ParquetFile(path, memory_map=True, pre_buffer=False)

    def _check(self, path: Path, schema: pa.Schema) -> None:
        """Raise an error unless a file has the columns of the first one."""
        if self._schema is None:
            self._schema = schema
        for name in [*self._schema.names, *schema.names]:
            found, wanted = (each.get_field_index(name) for each in (schema, self._schema))
            kinds = [None if at < 0 else each.field(at).type for each, at in ((schema, found), (self._schema, wanted))]
            if kinds[0] != kinds[1]:
                raise FileError(
                    "Parquet files that are read together must have the same columns",
                    got=f"column {name!r} is {_said(kinds[0])} in {str(path)!r} and {_said(kinds[1])} in "
                    f"{str(self._paths[0])!r}",
                )


def _said(kind: pa.DataType | None) -> str:
    return "missing" if kind is None else str(kind)


@dataclass(frozen=True, eq=False)
class StreamedCells:
    """Cells of a source: an array of shape (n, d) that is read from its beginning each time.

    Attributes
    ----------
    source : BlockSource
        The table.
    encode : callable
        Gives the cells of a block as an array, or raises an error that names one.
    n_cells : int
        d.
    dtype : numpy.dtype
        The type of the cells.
    """

    source: BlockSource
    encode: Callable[[Any], np.ndarray]
    n_cells: int
    dtype: np.dtype
    ndim: int = 2

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, int]:
        """N and d."""
        return len(self), self.n_cells

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self) * self.n_cells

    def cells(self, block: Any) -> np.ndarray:
        """The cells of a block, in the type of all."""
        return self.encode(block).astype(self.dtype, copy=False)

    def blocks(self) -> Iterator[np.ndarray]:
        """All cells in order."""
        for group in range(len(self.source.groups)):
            yield from map(self.cells, self.source.read(group))

    def read_chunks(self, n_rows: int, without: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """All cells in order, at most so many rows at a time, without the rows of some numbers."""
        done = 0
        for block in self.blocks():
            kept = block if without is None or not len(without) else block[kept_rows(without, done, len(block))]
            done += len(block)
            yield from (kept[first : first + n_rows] for first in range(0, len(kept), n_rows))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The cells of some rows, given by their numbers in ascending order or as a mask."""
        numbers, done = np.flatnonzero(rows) if rows.dtype == bool else rows, 0
        found = [np.empty((0, self.n_cells), self.dtype)]
        for block in self.blocks() if len(numbers) else ():
            first, last = np.searchsorted(numbers, [done, done + len(block)])
            found.append(block[numbers[first:last] - done])
            done += len(block)
        return np.concatenate(found)

    def sum(self, dtype: Any = None) -> Any:
        """The sum of all cells."""
        return sum(block.sum(dtype=dtype) for block in self.blocks())
