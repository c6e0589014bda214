"""Tables: columns of numbers from files of any of the formats, chosen, matched and checked; and written whole.

What differs between formats is in ``formats.py``; what keeps a column from being numbers is in ``columns.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from eigencode.data.columns import enumerated, numbers_of
from eigencode.data.contents import Source, expanded
from eigencode.data.formats import FOLDER_ENDINGS, FORMATS, TableFile, TextOptions, open_table
from eigencode.data.outputs import atomic_file, known_ending
from eigencode.data.records import split_words
from eigencode.data.table_files import DEFAULT
from eigencode.errors import DataError, as_path, did_you_mean


@dataclass(frozen=True)
class Table:
    """Rows of numbers, and the names of their columns where the file has them.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
        Finite numbers, in the narrowest type that holds all columns; those of an NPY file stay on disk, mapped.
    names : list of str or None
        Names of the columns.
    notes : tuple of str
        What was assumed in reading, where it was not plain.
    """

    rows: np.ndarray
    names: list[str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> pa.Table | np.ndarray:
        """The rows as scikit-learn reads names: an Arrow table over the same memory, or the bare array."""
        if self.names is None:
            return self.rows
        return pa.Table.from_arrays([pa.array(column) for column in self.rows.T], names=self.names)


# -- reading


def read_table(
    source: Source | Sequence[Source],
    *,
    columns: Sequence[str] = (),
    exclude: Sequence[str] = (),
    text: TextOptions = DEFAULT,
) -> Table:
    """Read tables of numbers: CSV and its relatives, Parquet, Arrow IPC or NPY, compressed or not.

    Parameters
    ----------
    source : path-like, binary file, or a sequence of these
        The file, a folder, a pattern as ``part-*.csv``, or several of them: rows one after the other. What has no
        ending, as a pipe, is known by its first bytes, and is else CSV.
    columns : sequence of str
        Columns to read, in this order; all of them where empty. Columns without names are called '0', '1' and so on.
        A word is one name, or several with commas between them.
    exclude : sequence of str
        Columns to leave out.
    text : TextOptions
        How text is to be read, where that is not to be found out.

    Returns
    -------
    Table
        Rows and names.

    Raises
    ------
    FileError
        If there is no such file, or it cannot be read as what it seems to be.
    DataError
        If a column asked for is not there, the chosen ones hold anything but finite numbers, or several files do not
        have the same columns.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_columns(f"{folder}/rows.csv", {"x": np.array([1.5, 2.0]), "y": np.array([0, 1])})
    ...     table = read_table(f"{folder}/rows.csv", exclude=["y"])
    >>> table.names, table.rows.tolist()
    (['x'], [[1.5], [2.0]])
    """
    first, *others = expanded(source, FOLDER_ENDINGS)
    file = _opened(first, text)
    positions = _chosen(file, columns, exclude)
    parts = [_part(file, list(positions.values()))]
    for other in others:
        parts.append(_same_columns(_opened(other, text), file, list(positions), is_all=not (columns or exclude)))
    return _together(parts)


def read_matching(
    source: Source | Sequence[Source],
    names: Sequence[str] | None,
    n_columns: int,
    *,
    columns: Sequence[str] = (),
    exclude: Sequence[str] = (),
    text: TextOptions = DEFAULT,
) -> Table:
    """Read the columns that a model was fitted on, by name where both sides have names, else by position.

    Parameters
    ----------
    source : path-like, binary file, or a sequence of these
        The files, as for `read_table`.
    names : sequence of str or None
        Names wanted, in the order wanted. Other columns of the file are passed over unread.
    n_columns : int
        Number of columns wanted, which is all that can be checked without names.
    columns, exclude : sequence of str
        As for `read_table`, to choose by hand where there are no names to choose by.
    text : TextOptions
        As for `read_table`.

    Returns
    -------
    Table
        Rows, under the names wanted.

    Raises
    ------
    FileError, DataError
        As `read_table`; a column that is missing is named.
    """
    parts = []
    for one in expanded(source, FOLDER_ENDINGS):
        file = _opened(one, text)
        parts.append(_matched(file, names, n_columns, _chosen(file, columns, exclude)))
    return _together(parts)


def _matched(file: TableFile, names: Sequence[str] | None, n_columns: int, positions: Mapping[str, int]) -> Table:
    """The columns of one file that a model was fitted on."""
    file.is_needed_whole = True
    if names is None or file.names is None:
        if len(positions) != n_columns:
            raise DataError(f"{file.name} must have {n_columns} columns, as fitted", got=str(len(positions)))
        part = _part(file, list(positions.values()))
        return Table(part.rows, None if names is None else list(names), part.notes)
    if missing := [name for name in names if name not in positions]:
        raise DataError(
            f"{file.name} lacks columns that the model reads",
            got=f"none named {enumerated([repr(name) for name in missing])}",
            hint=file.hint_on_header or did_you_mean(missing[0], positions),
        )
    return _part(file, [positions[name] for name in names])


def _same_columns(file: TableFile, first: TableFile, labels: list[str], *, is_all: bool) -> Table:
    """The columns of a further file, which has to have those of the first one, by name where they have names."""
    if (file.names is None) != (first.names is None):
        with_names, without = (file, first) if first.names is None else (first, file)
        raise DataError(f"{without.name} has no names of columns, and {with_names.name} has")
    positions = {label: position for position, label in enumerate(file.labels)}
    missing = [label for label in labels if label not in positions]
    more = [label for label in positions if label not in first.labels] if is_all else []
    if missing or more:
        said = f"no column {missing[0]!r}" if missing else f"a column {more[0]!r} more"
        raise DataError(
            f"Files that are read together must have the same columns: {file.name} has {said}, unlike {first.name}",
            hint=file.hint_on_header or "Choose columns that all have with --columns",
        )
    return _part(file, [positions[label] for label in labels])


def _together(parts: Sequence[Table]) -> Table:
    """The rows of several tables of the same columns, and each note once."""
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    rows = parts[0].rows if len(parts) == 1 else np.concatenate([part.rows for part in parts])
    return Table(rows, parts[0].names, notes)


def _part(file: TableFile, positions: Sequence[int]) -> Table:
    """The columns of one file at these positions, checked to be finite numbers."""
    labels = [file.labels[position] for position in positions]
    if "" in labels:
        raise DataError(
            f"Column {positions[labels.index('')] + 1} of {file.name} has no name",
            hint="Name it, or leave it out with --exclude '' where it only numbers the rows, as a pandas index does",
        )
    notes = tuple(f"{file.name[1:-1]}: {note}." for note in file.notes)
    return Table(numbers_of(file, positions), None if file.names is None else labels, notes)


def _opened(source: Source, text: TextOptions) -> TableFile:
    """A file's header, with columns that can be told apart."""
    names = [name for word in text.names for name in split_words(word)]
    file = open_table(source, replace(text, names=names))
    if (n_unnamed := file.labels.count("")) > 1:
        first = file.labels.index("") + 1
        hint = "Name them, or choose the columns of the table with --names and --columns"
        raise DataError(f"{n_unnamed} columns of {file.name} have no names", got=f"column {first} first", hint=hint)
    if twice := [repr(name) for name, count in Counter(file.labels).items() if count > 1]:
        raise DataError(
            f"{file.name} has more than one column of the same name", got=enumerated(twice), hint=file.hint_on_header
        )
    return file


def _chosen(file: TableFile, columns: Sequence[str], exclude: Sequence[str]) -> dict[str, int]:
    """The positions of the columns that are asked for, by what they are called."""
    positions = {label: position for position, label in enumerate(file.labels)}
    wanted, unwanted = _names_in(columns, positions), set(_names_in(exclude, positions))
    for name in [*wanted, *unwanted]:
        if name not in positions:
            hint = file.hint_on_header or did_you_mean(name, positions)
            raise DataError(f"{file.name} has no column {name!r}", hint=hint)
    chosen = {name: positions[name] for name in wanted or positions if name not in unwanted}
    if not chosen:
        if not positions:
            raise DataError(f"{file.name} has no columns")
        got = f"{enumerated([repr(name) for name in sorted(unwanted)])} to exclude"
        raise DataError(f"No column of {file.name} is left", got=got)
    return chosen


def _names_in(words: Iterable[str], known: Mapping[str, int]) -> list[str]:
    """Names of columns in words that each are one, or several with commas between them."""
    return [name for word in words for name in ([word] if word in known else split_words(word))]


# -- writing


def write_columns(path: str | os.PathLike[str], columns: Mapping[str, np.ndarray]) -> None:
    """Write columns of equal length to a file, whole or not at all.

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
