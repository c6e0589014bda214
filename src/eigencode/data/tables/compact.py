"""CompactCells: the cells of a large frame, which are made of its columns a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from eigencode.data.sources import ArraySource, CellsOnDemand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eigencode.data.tables.column import Column
    from eigencode.data.tables.values import Values

COMPACT_FROM = 2**23
"""Cells of a frame from which they are made when they are needed, and not all at once."""

LAZY = ("number", "time", "duration")
"""Kinds of types whose cells are made from the frame's own buffers; of others the different values are numbered."""


@dataclass(frozen=True, eq=False)
class CompactCells(CellsOnDemand):
    """Cells of the columns of a frame: an array of shape (n, d), of which rows are made when they are asked for.

    A column of numbers or times stays what it is, usually in the frame's own memory. Of other columns there is a number
    for each row, a byte where there are few different values, and a table of the cells of each value.

    Attributes
    ----------
    lazy : tuple of (Column, slice, Values)
        Columns, the numbers of their cells, and their values.
    codes : ndarray of shape (n, c)
        For each row and each of the other columns, the number of its value.
    tables : tuple of (slice, ndarray of shape (m, width))
        The numbers of their cells, and the cells of their values; the last are those of a gap.
    shape : tuple of int
        n and d.
    dtype : numpy.dtype
        The type of the cells.
    beside : ndarray of shape (n, b) or None
        Further cells, the last ones of each row, as they are.
    """

    lazy: tuple[tuple[Column, slice, Values], ...]
    codes: np.ndarray
    tables: tuple[tuple[slice, np.ndarray], ...]
    shape: tuple[int, int]
    dtype: np.dtype
    beside: np.ndarray | None = None

    @classmethod
    def of(
        cls, columns: Iterable[tuple[Column, slice, Values]], shape: tuple[int, int], dtype: type[np.floating]
    ) -> CompactCells:
        """The cells of columns, each with the numbers of its cells."""
        lazy, coded = [], []
        for column, part, values in columns:
            if values.kind in LAZY and values.type.bit_width > 8:
                lazy.append((column, part, values))
            elif column.kind.width:
                coded.append((part, *_coded(column, values)))
        least = np.min_scalar_type(max((len(table) for *_, table in coded), default=0))
        codes = np.empty((shape[0], len(coded)), least)
        for number, (_, found, _) in enumerate(coded):
            codes[:, number] = found
        return cls(tuple(lazy), codes, tuple((part, table) for part, _, table in coded), shape, np.dtype(dtype))

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The cells of some rows, given as a slice, by their numbers, or as a mask."""
        codes = self.codes[rows]
        cells = np.empty((len(codes), self.shape[1]), self.dtype)
        for column, part, values in self.lazy:
            cells[:, part] = column.encode(replace(values, cells=_some(values.cells, rows), native=None))
        for number, (part, table) in enumerate(self.tables):
            cells[:, part] = table[codes[:, number]]
        if self.beside is not None:
            cells[:, -self.beside.shape[1] :] = self.beside[rows]
        return cells

    def of_rows(self, rows: slice | np.ndarray) -> CompactCells:
        """The same of some rows, given as a slice, by their numbers, or as a mask."""
        codes, beside = self.codes[rows], None if self.beside is None else self.beside[rows]
        lazy = [(c, part, replace(v, cells=_some(v.cells, rows), native=None)) for c, part, v in self.lazy]
        shape = len(codes), self.shape[1]
        return replace(self, lazy=tuple(lazy), codes=codes, shape=shape, beside=beside)

    def followed_by(self, numbers: np.ndarray) -> CompactCells:
        """With further cells of shape (n, b) behind those of each row, in float64."""
        shape = len(self), self.shape[1] + numbers.shape[1]
        return replace(self, shape=shape, beside=numbers, dtype=np.dtype(np.float64))

    def with_values_of(self, other: CompactCells | np.ndarray) -> tuple[CompactCells, np.ndarray]:
        """The same cells with the values of other rows in the tables too, and the codes of those rows."""
        if isinstance(other, CompactCells) and other.tabled.tolist() != self.tabled.tolist():
            other = np.asarray(other)  # columns that have other types there
        pairs = [_added(part, table, other, number) for number, (part, table) in enumerate(self.tables)]
        least = np.min_scalar_type(max((len(table) for table, _ in pairs), default=0))
        codes = np.empty((len(other), len(pairs)), least)
        for number, (_, found) in enumerate(pairs):
            codes[:, number] = found
        tables = tuple((part, table) for (part, _), (table, _) in zip(self.tables, pairs, strict=True))
        return replace(self, tables=tables, codes=self.codes.astype(least, copy=False)), codes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        cells = np.concatenate(list(self.chunks())) if len(self) else self[:0]
        return cells if dtype is None else cells.astype(dtype, copy=False)

    def chunks(self) -> Iterator[np.ndarray]:
        """All cells, some rows at a time."""
        return ArraySource(self).chunks()  # type: ignore[arg-type]

    def sum(self, dtype: Any = None) -> Any:
        """The sum of all cells."""
        return sum(chunk.sum(dtype=dtype) for chunk in self.chunks())

    def astype(self, dtype: Any, copy: bool = True) -> np.ndarray:
        """All cells as an array."""
        return self.__array__(dtype)

    @cached_property
    def numbered(self) -> np.ndarray:
        """Numbers of the cells that are not of tables."""
        return np.setdiff1d(np.arange(self.shape[1]), self.tabled)

    @cached_property
    def tabled(self) -> np.ndarray:
        """Numbers of the cells that are of tables, one table after the other."""
        return np.concatenate([np.empty(0, np.int64), *(np.arange(part.start, part.stop) for part, _ in self.tables)])

    @cached_property
    def examples(self) -> np.ndarray:
        """Cells of shape (m, d): row i has the i-th row of each table, or its last one; other cells are 0."""
        n_rows = max((len(table) for _, table in self.tables), default=0)
        cells = np.zeros((n_rows, self.shape[1]), self.dtype)
        for part, table in self.tables:
            cells[:, part] = table[np.arange(n_rows).clip(max=len(table) - 1)]
        return cells


def _coded(column: Column, values: Values) -> tuple[np.ndarray, np.ndarray]:
    """The number of each row's value, and the cells of each value; the last are those of a gap."""
    found = values.cells if values.kind == "category" else values.cells.dictionary_encode()
    n_labels = len(found.dictionary)
    every = pa.array([*range(n_labels), None], found.indices.type)
    labels = pa.DictionaryArray.from_arrays(every, found.dictionary, ordered=found.type.ordered)
    cells = labels if values.kind == "category" else labels.cast(values.type)
    table = column.encode(replace(values, cells=cells, native=None))
    table, which = np.unique(table, axis=0, return_inverse=True, equal_nan=True)
    return which[found.indices.fill_null(n_labels).to_numpy(zero_copy_only=False)], table


def _added(part: slice, table: np.ndarray, other: CompactCells | np.ndarray, number: int) -> tuple[np.ndarray, Any]:
    """A table with the values of other rows too, and the codes of these; ``number`` is that of the table."""
    if isinstance(other, CompactCells):
        added, codes = other.tables[number][1], other.codes[:, number]
    else:
        comparable = np.nan_to_num(other[:, part], nan=np.inf)  # no cell is infinite
        _, first, codes = np.unique(comparable, axis=0, return_index=True, return_inverse=True)
        added = other[first, part]
    return np.concatenate([table, added]), codes.astype(np.int64) + len(table)


def rows_of(cells: Any, rows: slice | np.ndarray) -> Any:
    """Some rows of an array, or of a compact one, which stays compact."""
    return cells.of_rows(rows) if isinstance(cells, CompactCells) else cells[rows]


def followed_by(cells: Any, numbers: np.ndarray) -> Any:
    """An array with further columns, numbers in float64; a compact one stays compact."""
    return cells.followed_by(numbers) if isinstance(cells, CompactCells) else np.hstack([cells, numbers])


def _some(cells: pa.Array, rows: slice | np.ndarray) -> pa.Array:
    """The cells of some rows."""
    if isinstance(rows, slice):
        first, stop, step = rows.indices(len(cells))
        return cells.slice(first, stop - first) if step == 1 else cells.take(pa.array(np.arange(first, stop, step)))
    return cells.filter(pa.array(rows)) if rows.dtype == bool else cells.take(pa.array(rows))
