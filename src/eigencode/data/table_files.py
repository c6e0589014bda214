"""Table files: the few questions that a file of any format answers, so that all else is written once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from eigencode.data.contents import Content
from eigencode.errors import DataError, EigencodeError, FileError

SHOWN_AT_MOST = 200
"""Letters that an error shows of another library's message."""


@dataclass(frozen=True)
class TextOptions:
    """How text is to be read as a table, where that is not to be found out.

    Attributes
    ----------
    separator : str, optional
        The character between cells.
    decimal : str, optional
        The decimal mark, a point or a comma.
    encoding : str, optional
        How letters are bytes: 'utf-8', 'latin-1' and so on.
    header : bool, default True
        Whether the first line holds the names of the columns.
    names : sequence of str
        Names of the columns; the first line is a row then.
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool = True
    names: Sequence[str] = ()


DEFAULT = TextOptions()


class TableFile(ABC):
    """A file of some format, of which only the header has been read.

    Attributes
    ----------
    name : str
        What messages call it, quoted.
    names : list of str or None
        Names of its columns, where it has them.
    n_columns : int
        Their number.
    notes : list of str
        What was assumed about it, where that was not plain.
    hint_on_header : str or None
        What to do where names may be a row, or a row names.
    hint_on_cells : str or None
        What to do where no column is one of numbers.
    is_needed_whole : bool
        Whether a model reads all columns that are asked for, so that none can be left out.
    """

    name: str
    names: list[str] | None
    n_columns: int
    notes: list[str]
    hint_on_header: str | None = None
    hint_on_cells: str | None = None
    is_needed_whole: bool = False

    @abstractmethod
    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        """Read the header."""

    @cached_property
    def labels(self) -> list[str]:
        """What the columns are called: their names, or else their positions."""
        return self.names if self.names is not None else [str(position) for position in range(self.n_columns)]

    @abstractmethod
    def read(self, positions: Sequence[int]) -> pa.Table | np.ndarray:
        """The columns at these positions, whatever their type."""

    def where(self, rows: Sequence[int]) -> list[str]:
        """How a person finds these rows in the file."""
        return [f"row {row + 1}" for row in rows]

    @staticmethod
    @abstractmethod
    def write(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
        """Write columns of equal length into an open file."""


@contextmanager
def foreign_errors(name: str, format_name: str) -> Iterator[None]:
    """Say in our words what goes wrong in another library while a file is read."""
    try:
        yield
    except EigencodeError:
        raise
    except MemoryError as error:
        raise DataError(
            f"Reading {name} needs more memory than there is", hint="Read fewer columns, or a part of the rows"
        ) from error
    except Exception as error:
        # A damaged file can fail anywhere in a reader, with any of Python's errors.
        said = " ".join(str(error).split()).rstrip(".")[:SHOWN_AT_MOST] or type(error).__name__
        raise FileError(
            f"{name} cannot be read as {format_name}", got=f"the error {said}", hint="It may be damaged, or cut off"
        ) from error


def named_or_refused(name: str, n_columns: int, names: Sequence[str]) -> list[str] | None:
    """Names given for columns that have none, checked to be as many; None where none are given."""
    if names and len(names) != n_columns:
        raise DataError(f"{name} has {n_columns} columns, and takes as many names", got=f"{len(names)} in --names")
    return list(names) or None
