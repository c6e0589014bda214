"""Files: tables of numbers on disk, chosen and checked column by column, and written whole or not at all.

The file's ending says the format; ``formats.py`` has what differs between them.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa

from eigencode.data.formats import FORMATS, Csv, TableFile, is_number
from eigencode.data.outputs import atomic_file, known_ending
from eigencode.data.sources import ArraySource
from eigencode.errors import DataError, FileError, MissingFileError, as_path, did_you_mean, file_error

NAMED_AT_MOST = 5
"""Columns that an error names before it only counts."""


@dataclass(frozen=True)
class Table:
    """Rows of numbers, and the names of their columns where the file has them.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
        Finite numbers, in the narrowest type that holds all columns; those of an NPY file stay on disk, mapped.
    names : list of str or None
        Names of the columns.
    """

    rows: np.ndarray
    names: list[str] | None = None

    @property
    def frame(self) -> pa.Table | np.ndarray:
        """The rows as scikit-learn reads names: an Arrow table over the same memory, or the bare array."""
        if self.names is None:
            return self.rows
        return pa.Table.from_arrays([pa.array(column) for column in self.rows.T], names=self.names)


# -- reading


def read_table(
    path: str | os.PathLike[str] | BinaryIO, *, columns: Sequence[str] = (), exclude: Sequence[str] = ()
) -> Table:
    """Read a CSV, Parquet or NPY file of numbers.

    Parameters
    ----------
    path : path-like or binary file
        The file; one that is open holds CSV and is read to its end. A CSV's first line is its header, unless it holds
        numbers (other than 0, 1, 2 and so on).
    columns : sequence of str
        Columns to read, in this order; all of them where empty. Columns without names are called '0', '1' and so on.
    exclude : sequence of str
        Columns to leave out.

    Returns
    -------
    Table
        Rows and names.

    Raises
    ------
    FileError
        If there is no such file, or it cannot be read as what its ending says.
    DataError
        If a column asked for is not there, or the chosen ones hold anything but finite numbers.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_columns(f"{folder}/rows.csv", {"x": np.array([1.5, 2.0]), "y": np.array([0, 1])})
    ...     table = read_table(f"{folder}/rows.csv", exclude=["y"])
    >>> table.names, table.rows.tolist()
    (['x'], [[1.5], [2.0]])
    """
    file = _open(path)
    return _read(file, list(_choose(file, columns, exclude).values()))


def read_matching(
    path: str | os.PathLike[str] | BinaryIO,
    names: Sequence[str] | None,
    n_columns: int,
    *,
    columns: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Table:
    """Read the columns that a model was fitted on, by name where both sides have names, else by place.

    Parameters
    ----------
    path : path-like or binary file
        The file, as for `read_table`.
    names : sequence of str or None
        Names wanted, in the order wanted. Other columns of the file are passed over unread.
    n_columns : int
        Number of columns wanted, which is all that can be checked without names.
    columns, exclude : sequence of str
        As for `read_table`, to choose by hand where there are no names to choose by.

    Returns
    -------
    Table
        Rows, under the names wanted.

    Raises
    ------
    FileError, DataError
        As `read_table`; a column that is missing is named.
    """
    file = _open(path)
    places = _choose(file, columns, exclude)
    if names is None or file.names is None:
        if len(places) != n_columns:
            raise DataError(f"{str(file.path)!r} must have {n_columns} columns, as fitted", got=str(len(places)))
        return Table(_read(file, list(places.values())).rows, None if names is None else list(names))
    if missing := [name for name in names if name not in places]:
        raise DataError(
            f"{str(file.path)!r} lacks columns that the model reads",
            got=f"none named {_enumerated([repr(name) for name in missing])}",
            hint=did_you_mean(missing[0], places),
        )
    return _read(file, [places[name] for name in names])


# -- writing


def write_columns(path: str | os.PathLike[str], columns: Mapping[str, np.ndarray]) -> None:
    """Write columns of equal length to a CSV, Parquet or NPY file, whole or not at all.

    Parameters
    ----------
    path : path-like
        Where to; an existing file is replaced. An NPY file keeps no names, and has one type for all columns.
    columns : mapping of str to ndarray of shape (n,)
        The columns by name, in order.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    kind = FORMATS[known_ending(Path(as_path(path)), FORMATS)]
    with atomic_file(path) as file:
        kind.write(file, columns)


def _open(path: str | os.PathLike[str] | BinaryIO) -> TableFile:
    """A file's header, with columns that can be told apart."""
    is_stream = hasattr(path, "read")
    file = _open_stream(cast(BinaryIO, path)) if is_stream else _open_file(Path(as_path(cast(str, path))))
    if twice := [repr(name) for name, count in Counter(file.labels).items() if count > 1]:
        raise DataError(f"{str(file.path)!r} has more than one column of the same name", got=_enumerated(twice))
    return file


def _open_stream(stream: BinaryIO) -> TableFile:
    """A stream can be read once, so it is read as a whole."""
    return Csv(Path(getattr(stream, "name", "<stream>")), stream.read())


def _open_file(path: Path) -> TableFile:
    kind = FORMATS[known_ending(path, FORMATS)]
    try:
        return kind(path)
    except FileNotFoundError as error:
        neighbours = [item.name for item in path.parent.glob("*") if item.suffix.lower() in FORMATS]
        hint = did_you_mean(path.name, neighbours)
        raise MissingFileError(f"There is no file {str(path)!r}", hint=hint) from error
    except (FileError, DataError):
        raise
    except OSError as error:
        raise file_error(error, f"Cannot read {str(path)!r}", got=f"the error {error.strerror or error}") from error


def _choose(file: TableFile, columns: Sequence[str], exclude: Sequence[str]) -> dict[str, int]:
    """The places of the columns that are asked for, by what they are called."""
    places = {name: place for place, name in enumerate(file.labels)}
    for name in [*columns, *exclude]:
        if name not in places:
            raise DataError(f"{str(file.path)!r} has no column {name!r}", hint=did_you_mean(name, places))
    chosen = {name: places[name] for name in columns or places if name not in set(exclude)}
    if not chosen:
        raise DataError(f"No column of {str(file.path)!r} is left", got=f"exclude={list(exclude)}")
    return chosen


def _read(file: TableFile, places: Sequence[int]) -> Table:
    """The columns at these places, checked to be finite numbers."""
    labels = file.labels
    labels = [labels[place] for place in places]
    if "" in labels:
        raise DataError(
            f"Column {places[labels.index('')] + 1} of {str(file.path)!r} has no name",
            hint="Name it, or leave it out with --exclude '' where it only numbers the rows, as a pandas index does",
        )
    found = file.read(places)
    rows = _as_array(file.path, found, labels) if isinstance(found, pa.Table) else found
    if rows.dtype.kind not in "iufb":
        raise DataError(f"{str(file.path)!r} must hold real numbers", got=f"the type {rows.dtype}")
    if not len(rows):
        raise DataError(f"{str(file.path)!r} has no rows")
    _refuse_counted(file.path, "NaN or infinite cells", _non_finite(rows), labels)
    return Table(rows.view(np.uint8) if rows.dtype == bool else rows, None if file.names is None else labels)


def _as_array(path: Path, table: pa.Table, labels: Sequence[str]) -> np.ndarray:
    """Arrow's columns as one array, column after column, so that `Table.frame` needs no copy."""
    _refuse_text(path, table)
    _refuse_counted(path, "gaps", [column.null_count for column in table.columns], labels)
    types = [_number_type(column.type) for column in table.columns]
    rows = np.empty(table.shape, np.result_type(*types), order="F")
    for place, (column, kind) in enumerate(zip(table.columns, types, strict=True)):
        rows[:, place] = column.cast(pa.from_numpy_dtype(kind)).to_numpy()
    return rows


def _number_type(kind: pa.DataType) -> np.dtype | None:
    """The array type of an Arrow type that is a number, else None. A column of gaps alone may be one."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if pa.types.is_boolean(kind):
        return np.dtype(np.uint8)
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return np.dtype(np.float64)
    return None


def _non_finite(rows: np.ndarray) -> np.ndarray:
    """Number of cells of each column that are NaN or infinite, a chunk in memory at a time."""
    if rows.dtype.kind != "f":
        return np.zeros(rows.shape[1], int)
    counts = [(~np.isfinite(chunk)).sum(0) for chunk in ArraySource(rows).chunks()]
    return np.sum(counts, axis=0)


# -- refusing


def _refuse_text(path: Path, table: pa.Table) -> None:
    """Name the columns that are not numbers, each with a cell that shows it."""
    text = [name for name in table.column_names if _number_type(table[name].type) is None]
    if not text:
        return
    shown = [f"{name!r} (as {_telling_cell(table[name])!r})" for name in text[:NAMED_AT_MOST]]
    separator = next((mark for mark in ";\t|" if len(text) == table.num_columns == 1 and mark in text[0]), None)
    if separator is not None:
        advice = f"Its cells seem to be separated by {separator!r}: write it with commas"
    elif len(text) <= NAMED_AT_MOST:
        advice = f"Leave them out with --exclude {shlex.join(text)}"
    else:
        advice = "Choose the columns of numbers with --columns"
    raise DataError(
        f"{str(path)!r} has columns that are not numbers", got=_enumerated(shown, n_items=len(text)), hint=advice
    )


def _telling_cell(column: pa.ChunkedArray) -> object:
    """The first cell that does not read as a number."""
    for cell in column:
        value = cell.as_py()
        if value is not None and not is_number(str(value)):
            return value
    return column[0].as_py()


def _refuse_counted(path: Path, what: str, counts: Iterable[int], labels: Sequence[str]) -> None:
    """Name the columns in which there is any of what should not be, with its count."""
    found = [f"{count} in column {label!r}" for label, count in zip(labels, counts, strict=True) if count]
    if found:
        raise DataError(
            f"{str(path)!r} has {what}",
            got=_enumerated(found),
            hint="Fill them, drop their rows, or leave the columns out with --exclude",
        )


def _enumerated(items: Sequence[str], n_items: int | None = None) -> str:
    """A few items, and how many more there are."""
    n_items = n_items or len(items)
    shown = ", ".join(items[:NAMED_AT_MOST])
    return shown if n_items <= NAMED_AT_MOST else f"{shown} and {n_items - NAMED_AT_MOST} more"
