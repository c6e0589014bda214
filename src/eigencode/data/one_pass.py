"""Blocks of rows that can be read only once: iterators, loaders, Arrow streams."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa

from eigencode.data.containers import as_array
from eigencode.data.rows_by_number import first_part, is_torch_dataset
from eigencode.data.sources import joined_rows, rejoined
from eigencode.data.table_files import BLOCK_ROWS
from eigencode.data.tables import as_frame, as_table
from eigencode.errors import DataError, EigencodeError

A_BLOCK = "Yield arrays of shape (m, d), or frames"


@dataclass(frozen=True, eq=False)
class OnePass:
    """The first rows of a stream, in memory, and the blocks after them.

    Attributes
    ----------
    head : frame or array
        The first rows.
    rest : iterator of frames or arrays
        The blocks after them, which can be read once.
    """

    head: Any
    rest: Iterator[Any]

    def blocks(self, n_rows: int) -> Iterator[Any]:
        """All rows in order, once, in blocks of so many rows."""
        return rejoined(chain([self.head], self.rest), n_rows)

    def __len__(self) -> int:
        """Number of the first rows."""
        return len(self.head)


def read_stream(X: Any, n_cells: int) -> Any:
    """The rows of a stream: a frame or an array if it has fewer cells, else a `OnePass`; None for anything else."""
    items = _items_of(X)
    if items is None:
        return None
    blocks, first, n_read = _checked(items, type(X).__name__), [], 0
    for block in blocks:
        first.append(block)
        n_read += block.shape[0] * block.shape[1]
        if n_read >= n_cells:
            return OnePass(joined_rows(first), blocks)
    if not first:
        raise DataError(f"A {type(X).__name__} gave no rows", hint=A_BLOCK)
    return joined_rows(first)


def _items_of(X: Any) -> Iterator[Any] | None:
    """What a stream gives one after the other; None for what is no stream."""
    datasets = sys.modules.get("datasets")
    if datasets is not None and isinstance(X, datasets.IterableDataset):
        return X.with_format("arrow").iter(BLOCK_ROWS)
    if isinstance(X, pa.RecordBatchReader):
        return iter(X)
    if "LazyFrame" in type(X).__name__ or hasattr(X, "__array__") or as_frame(X) is not None:
        return None
    if hasattr(X, "__arrow_c_stream__") and hasattr(X, "columns"):  # as a relation of DuckDB
        return iter(pa.RecordBatchReader.from_stream(X))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(X, torch.utils.data.DataLoader | torch.utils.data.IterableDataset):
        return iter(X)
    is_dataset = is_torch_dataset(X) or hasattr(X, "columns")
    is_stream = isinstance(X, Iterator) or (isinstance(X, Iterable) and not hasattr(X, "__len__"))
    return iter(X) if is_stream and not is_dataset else None


def _checked(items: Iterator[Any], name: str) -> Iterator[Any]:
    """The items as Arrow tables or arrays with the same columns; errors give the number of the block."""
    first: Any = None
    for number, item in enumerate(_each(items, name)):
        block = _block_of(first_part(item), f"Block {number} of a {name}")
        if first is None:
            first = block[:0]
        if not len(block):
            continue
        if isinstance(first, pa.Table) != isinstance(block, pa.Table) or block.shape[1] != first.shape[1]:
            got = f"{_said(block)} after {_said(first)}"
            raise DataError(f"Block {number} of a {name} must have the columns of the first", got=got)
        yield _as_first(block, first, f"Block {number} of a {name}") if isinstance(block, pa.Table) else block


def _each(items: Iterator[Any], name: str) -> Iterator[Any]:
    """The items; an error of the one who makes them says after how many it came."""
    number = 0
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except EigencodeError:
            raise
        except Exception as error:  # the user's code may raise anything
            got = f"the error {type(error).__name__}: {error}"
            raise DataError(f"A {name} failed after {number} blocks", got=got) from error
        yield item
        number += 1


def _block_of(item: Any, name: str) -> Any:
    if (frame := as_frame(item)) is not None:
        return as_table(frame)
    found = as_array(item, name)
    if found.ndim != 2:
        raise DataError(f"{name} must be a table of rows", got=f"the shape {found.shape}", hint=A_BLOCK)
    return found


def _as_first(block: pa.Table, first: pa.Table, name: str) -> pa.Table:
    """A table with the types of the first one."""
    try:
        return block.select(first.column_names).cast(first.schema)
    except (pa.ArrowException, KeyError) as error:
        what = f"{name} must have the columns of the first"
        raise DataError(what, got=f"the error {' '.join(str(error).split())[:200]}") from error


def _said(block: Any) -> str:
    kind = "a frame" if isinstance(block, pa.Table) else "an array"
    return f"{kind} of {block.shape[1]} columns"
