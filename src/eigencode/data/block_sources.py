"""Sources of rows that are larger than memory: tables that are read a block at a time, more than once."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from eigencode.data.sources import CellsOnDemand, joined_rows, kept_rows, rejoined, rows_of_block
from eigencode.data.survey import Survey
from eigencode.data.table_files import BLOCK_ROWS
from eigencode.errors import DataError

T = TypeVar("T")

SAMPLE_ROWS = 100_000
"""Rows from which the kinds of columns are inferred."""

DATASET_GROUP = 2**17
"""Rows of a part of a dataset."""

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
        """The rows of a group in order, a block at a time: Arrow tables or arrays."""

    def __len__(self) -> int:
        return sum(self.groups)

    def blocks(self, n_rows: int) -> Iterator[Any]:
        """All rows in order, in frames or arrays of so many rows."""
        every = (block for group in range(len(self.groups)) for block in self.read(group))
        return rejoined(every, n_rows)

    def where(self, group: int) -> str:
        """What messages call a group."""
        return f"group {group}"

    def sample(self) -> Any:
        """The first rows of groups at equal distances, about `SAMPLE_ROWS` together: a frame or an array."""
        return joined_rows([block for group, n in self._sampled() for block in _first_rows(self.read(group), n)])

    def sample_numbers(self) -> np.ndarray:
        """The numbers of the rows of `sample`."""
        first = np.cumsum([0, *self.groups])
        return np.concatenate([first[group] + np.arange(n) for group, n in self._sampled()])

    def _sampled(self) -> list[tuple[int, int]]:
        """Groups, and how many of the first rows of each are in the sample."""
        sizes = self.groups
        n_groups = min(len(sizes), 10)
        chosen = np.linspace(0, len(sizes) - 1, n_groups).astype(int).tolist()
        return [(group, min(sizes[group], SAMPLE_ROWS // n_groups)) for group in chosen]

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


@dataclass(frozen=True, eq=False)
class PartOfSource(BlockSource):
    """A range of the rows of a source, of which only the groups with such rows are read.

    Attributes
    ----------
    source : BlockSource
        The source.
    rows : slice
        The numbers of the rows.
    """

    source: BlockSource
    rows: slice

    @cached_property
    def _within(self) -> list[tuple[int, slice]]:
        """The groups that have rows of the range, and which of their rows."""
        sizes = self.source.groups
        firsts = np.cumsum([0, *sizes]).tolist()
        ranges = (
            slice(max(self.rows.start - first, 0), min(self.rows.stop - first, n))
            for first, n in zip(firsts, sizes, strict=False)
        )
        return [(group, own) for group, own in enumerate(ranges) if own.start < own.stop]

    @property
    def groups(self) -> Sequence[int]:
        return [own.stop - own.start for _, own in self._within]

    def read(self, group: int) -> Iterator[Any]:
        number, own = self._within[group]
        first = 0
        for block in self.source.read(number):
            part = block[max(own.start - first, 0) : max(own.stop - first, 0)]
            if len(part):
                yield part
            first += len(block)
            if first >= own.stop:
                return

    def where(self, group: int) -> str:
        return self.source.where(self._within[group][0])


def part_of_rows(rows: Any, numbers: slice) -> Any:
    """A range of the rows of a frame, an array or a source."""
    return PartOfSource(rows, numbers) if isinstance(rows, BlockSource) else getattr(rows, "iloc", rows)[numbers]


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


class DatasetSource(BlockSource):
    """A dataset of Hugging Face, whose rows are in Arrow files.

    Parameters
    ----------
    dataset : datasets.Dataset
        The dataset; slices of it are read as Arrow tables.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset.with_format("arrow")
        self.n_columns = len(dataset.column_names)

    @property
    def groups(self) -> Sequence[int]:
        n_rows = len(self._dataset)
        return [min(DATASET_GROUP, n_rows - first) for first in range(0, n_rows, DATASET_GROUP)]

    def read(self, group: int) -> Iterator[Any]:
        last = min((group + 1) * DATASET_GROUP, len(self._dataset))
        for first in range(group * DATASET_GROUP, last, BLOCK_ROWS):
            table = self._dataset[first : min(first + BLOCK_ROWS, last)]
            yield table.replace_schema_metadata(None)


def dataset_source(X: Any) -> DatasetSource | None:
    """A dataset of Hugging Face as a source; None for anything else. Its package is not imported."""
    datasets = sys.modules.get("datasets")
    return DatasetSource(X) if datasets is not None and isinstance(X, datasets.Dataset) else None


def answers_of(rows: Any, n_columns: int, ask: Callable[[Any, int], T]) -> Iterator[T]:
    """The answers to a question about blocks of rows and the number of the first row of each, in order.

    Together they are the answer for all rows, bit for bit: networks see the same chunks of them.

    Parameters
    ----------
    rows : frame, array-like, or a source of ``blocks``
        The rows.
    n_columns : int
        Number of cells of a row, which says how many rows a block has.
    ask : callable
        The question.
    """
    first, n_rows = 0, rows_of_block(n_columns)
    table = getattr(rows, "iloc", rows)
    in_memory = (table[begin : begin + n_rows] for begin in range(0, len(rows), n_rows))
    for block in rows.blocks(n_rows) if hasattr(rows, "blocks") else in_memory:
        with located(f"In the rows from {first:,} on", bool(first)):
            answer = ask(block, first)
        yield answer
        first += len(block)


@contextmanager
def located(where: str, is_told: bool = True) -> Iterator[None]:
    """Errors about rows say where these are."""
    try:
        yield
    except DataError as error:
        if not is_told:
            raise
        raise type(error)(f"{where}: {error.what}", got=error.got, hint=error.hint) from error


@dataclass(frozen=True, eq=False)
class StreamedCells(CellsOnDemand):
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
    center : ndarray of shape (d,) or None
        The means of some rows.
    survey : Survey or None
        What the first pass over all rows finds out beside its own purpose.
    """

    source: BlockSource
    encode: Callable[[Any], np.ndarray]
    n_cells: int
    dtype: np.dtype
    center: np.ndarray | None = None
    survey: Survey | None = None

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        """N and d."""
        return len(self.source), self.n_cells

    def cells(self, block: Any) -> np.ndarray:
        """The cells of a block, in the type of all."""
        return self.encode(block).astype(self.dtype, copy=False)

    def blocks(self) -> Iterator[np.ndarray]:
        """All cells in order."""
        for group in range(len(self.source.groups)):
            with located(f"In {self.source.where(group)}"):
                yield from map(self.cells, self.source.read(group))

    def read_chunks(self, n_rows: int, without: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """All cells in order, so many rows at a time, without the rows of some numbers."""
        return rejoined(self._kept(np.empty(0, np.int64) if without is None else without), n_rows)

    def _kept(self, without: np.ndarray) -> Iterator[np.ndarray]:
        survey = None if self.survey is None or self.survey.is_complete else self.survey
        done = 0
        for block in self.blocks() if survey is None else survey.of(self.blocks()):
            kept = block[kept_rows(without, done, len(block))] if len(without) else block
            if survey is not None:
                survey.add(kept)
            yield kept
            done += len(block)

    def surveyed(self, numbers: np.ndarray, *, with_moment: bool) -> StreamedCells:
        """The same cells, of which the first pass keeps some rows, and second moments if asked for."""
        return replace(self, survey=Survey(numbers, self.center if with_moment else None))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The cells of some rows, given by their numbers in ascending order or as a mask."""
        numbers, done = np.flatnonzero(rows) if rows.dtype == bool else rows, 0
        if self.survey is not None and self.survey.is_complete and np.array_equal(numbers, self.survey.numbers):
            return self.survey.rows
        found = [np.empty((0, self.n_cells), self.dtype)]
        for block in self.blocks() if len(numbers) else ():
            first, last = np.searchsorted(numbers, [done, done + len(block)])
            found.append(block[numbers[first:last] - done])
            done += len(block)
        return np.concatenate(found)

    def sum(self, dtype: Any = None) -> Any:
        """The sum of all cells."""
        return sum(block.sum(dtype=dtype) for block in self.blocks())
