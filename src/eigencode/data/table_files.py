"""Table files: the interface that files of every format have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from eigencode.data.contents import Content
from eigencode.errors import DataError, EigencodeError, FileError

SHOWN_AT_MOST = 200
"""Characters that an error shows of another library's message."""

BLOCK_ROWS = 2**15
"""Most rows that are read at a time from a part of a file."""

READ_LESS = "Read fewer columns, or a part of the rows"


@dataclass(frozen=True)
class TextOptions:
    """How to read text as a table; a separator, decimal mark or encoding of None is detected.

    ``header`` says whether the first line has the names of the columns; with ``names``, it is a row. ``gaps`` are cells
    that mean a gap beside the usual ones, and ``text`` the columns whose cells are text even if they look like numbers.
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool = True
    names: Sequence[str] = ()
    gaps: Sequence[str] = ()
    text: Sequence[str] = ()


DEFAULT = TextOptions()


class TableFile(ABC):
    """A table file of any format; its header has been read, its rows have not.

    Messages use its name in quotes, the notes on what was assumed in reading it, and two hints: if the names may be a
    row or the first row may be names, and if there is only one column. ``is_mapped`` is False if it was decoded.
    """

    name: str
    names: list[str] | None
    n_columns: int
    notes: list[str]
    options: TextOptions = DEFAULT
    is_mapped: bool = True
    hint_on_header: str | None = None
    hint_on_cells: str | None = None

    @abstractmethod
    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        """Read the header."""

    @cached_property
    def labels(self) -> list[str]:
        """What messages call the columns: their names, or their numbers if they have no names."""
        return self.names if self.names is not None else [str(position) for position in range(self.n_columns)]

    @abstractmethod
    def read(self, positions: Sequence[int], text: Sequence[int] = ()) -> pa.Table | np.ndarray:
        """Read the columns with these numbers; ``text`` are those whose cells stay text, if the file has no types."""

    @property
    @abstractmethod
    def n_rows(self) -> int:
        """Number of rows, of text about."""

    @abstractmethod
    def groups(self, positions: Sequence[int], text: Sequence[int] = ()) -> list[tuple[Any, int]]:
        """Parts of the rows, each read on its own: what `read_group` takes, and the number of rows."""

    @abstractmethod
    def read_group(
        self, group: Any, positions: Sequence[int], text: Sequence[int] = ()
    ) -> Iterator[pa.Table | np.ndarray]:
        """The rows of a group in order, at most `BLOCK_ROWS` at a time; the other arguments are those of ``read``."""

    @abstractmethod
    def types(self, group: Any, positions: Sequence[int]) -> list[pa.DataType] | None:
        """The types of columns, as in all groups; None of an array."""

    def where(self, rows: Sequence[int]) -> list[str]:
        """What messages call these rows: a line or row of the file, counted from 1."""
        return [f"row {row + 1}" for row in rows]

    @staticmethod
    @abstractmethod
    def writer(file: BinaryIO, first: pa.Table) -> Any:
        """A context whose ``write_table`` writes tables like the first one, one after the other, into an open file."""


@contextmanager
def translated_errors(name: str, format_name: str) -> Iterator[None]:
    """Raise errors of another library, which reads a file, as errors of this package."""
    try:
        yield
    except EigencodeError:
        raise
    except MemoryError as error:
        raise DataError(f"Reading {name} needs more memory than there is", hint=READ_LESS) from error
    except Exception as error:
        # A damaged file can make a reader fail anywhere, with any type of error.
        message = " ".join(str(error).split()).rstrip(".")[:SHOWN_AT_MOST] or type(error).__name__
        what, hint = f"{name} cannot be read as {format_name}", "It may be damaged or cut off"
        raise FileError(what, got=f"the error {message}", hint=hint) from error


def check_names(name: str, n_columns: int, names: Sequence[str]) -> list[str] | None:
    """Names given for the columns of a file without names, one for each; None if none are given."""
    if names and len(names) != n_columns:
        raise DataError(f"{name} has {n_columns} columns, and needs as many names", got=f"{len(names)} in --names")
    return list(names) or None
