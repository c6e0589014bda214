"""Tables of numbers: reading columns of files of any format, choosing and checking them, and writing tables.

The formats are in ``formats.py``, the checks that columns are numbers in ``columns.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from eigencode.data.columns import read_numbers
from eigencode.data.contents import PathOrFile, list_files
from eigencode.data.formats import FOLDER_ENDINGS, FORMATS, TableFile, TextOptions, open_table
from eigencode.data.records import split_names
from eigencode.data.table_files import DEFAULT
from eigencode.data.writing import atomic_write, known_ending
from eigencode.errors import DataError, as_path, did_you_mean, enumerated


@dataclass(frozen=True)
class Table:
    """Rows of numbers, shape (n, d), the names of their columns if the file has names, and what was assumed in reading.

    The rows are finite, in the narrowest type that holds all columns; those of an NPY file are a memory map.
    """

    rows: np.ndarray
    names: list[str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> pa.Table | np.ndarray:
        """The rows with their names: an Arrow table over the same memory, or the array if there are no names."""
        if self.names is None:
            return self.rows
        return pa.Table.from_arrays([pa.array(column) for column in self.rows.T], names=self.names)


# -- reading


def read_table(
    source: PathOrFile | Sequence[PathOrFile],
    *,
    columns: Sequence[str] = (),
    exclude: Sequence[str] = (),
    text: TextOptions = DEFAULT,
) -> Table:
    """Read tables of numbers: CSV and its relatives, Parquet, Arrow IPC or NPY, compressed or not.

    Parameters
    ----------
    source : path-like, binary file, or a sequence of these
        The file, a folder, a pattern such as ``part-*.csv``, or several of them; their rows are concatenated. The
        format of a file without an ending, such as a pipe, is found from its first bytes, and is CSV otherwise.
    columns, exclude : sequence of str
        Columns to read, in this order (all if empty), and to leave out. Each string is one name, or several with commas
        between them. Columns without names are called '0', '1' and so on.
    text : TextOptions
        How to read text; what is not given is detected.

    Raises
    ------
    FileError, DataError
        If a file cannot be read, a column does not exist or has cells that are not finite numbers, or several files do
        not have the same columns.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_columns(f"{folder}/rows.csv", {"x": np.array([1.5, 2.0]), "y": np.array([0, 1])})
    ...     table = read_table(f"{folder}/rows.csv", exclude=["y"])
    >>> table.names, table.rows.tolist()
    (['x'], [[1.5], [2.0]])
    """
    first, *others = list_files(source, FOLDER_ENDINGS)
    file = _open(first, text)
    positions = _choose_columns(file, columns, exclude)
    tables = [_read_columns(file, list(positions.values()))]
    for other in others:
        tables.append(_read_same_columns(_open(other, text), file, list(positions), is_all=not (columns or exclude)))
    return _concatenated(tables)


def read_matching(
    source: PathOrFile | Sequence[PathOrFile],
    names: Sequence[str] | None,
    n_columns: int,
    *,
    columns: Sequence[str] = (),
    exclude: Sequence[str] = (),
    text: TextOptions = DEFAULT,
) -> Table:
    """Read the columns that a model was fitted on: by name if model and file have names, else by position.

    The table has the model's ``names`` in their order; other columns of the file are not read. Without names, only the
    number of columns can be checked. The other arguments and errors are those of `read_table`.
    """
    tables = []
    for path in list_files(source, FOLDER_ENDINGS):
        file = _open(path, text)
        tables.append(_read_fitted(file, names, n_columns, _choose_columns(file, columns, exclude)))
    return _concatenated(tables)


def _read_fitted(file: TableFile, names: Sequence[str] | None, n_columns: int, positions: Mapping[str, int]) -> Table:
    """Read the columns of one file that a model was fitted on; ``positions`` are those chosen, by their labels."""
    file.needs_all_columns = True
    if names is None or file.names is None:
        if len(positions) != n_columns:
            raise DataError(f"{file.name} must have {n_columns} columns, as fitted", got=str(len(positions)))
        table = _read_columns(file, list(positions.values()))
        return replace(table, names=None if names is None else list(names))
    if missing := [name for name in names if name not in positions]:
        raise DataError(
            f"{file.name} lacks columns that the model reads",
            got=f"none named {enumerated([repr(name) for name in missing])}",
            hint=file.hint_on_header or did_you_mean(missing[0], positions),
        )
    return _read_columns(file, [positions[name] for name in names])


def _read_same_columns(file: TableFile, first: TableFile, labels: list[str], *, is_all: bool) -> Table:
    """Read the same columns of a further file as of the first one; ``is_all`` if these are all that the first has."""
    if (file.names is None) != (first.names is None):
        with_names, without = (file, first) if first.names is None else (first, file)
        raise DataError(f"{without.name} has no names of columns, but {with_names.name} has them")
    positions = {label: position for position, label in enumerate(file.labels)}
    missing = [label for label in labels if label not in positions]
    more = [label for label in positions if label not in first.labels] if is_all else []
    if missing or more:
        has = f"{file.name} has {f'no column {missing[0]!r}' if missing else f'an extra column {more[0]!r}'}"
        hint = file.hint_on_header or "Choose columns that all files have with --columns"
        what = f"Files that are read together must have the same columns: {has}, unlike {first.name}"
        raise DataError(what, hint=hint)
    return _read_columns(file, [positions[label] for label in labels])


def _concatenated(tables: Sequence[Table]) -> Table:
    """The rows of all tables, which have the same columns, and their notes without repetitions."""
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    rows = tables[0].rows if len(tables) == 1 else np.concatenate([table.rows for table in tables])
    return Table(rows, tables[0].names, notes)


def _read_columns(file: TableFile, positions: Sequence[int]) -> Table:
    """Read the columns with these numbers, checked to be finite numbers and to have names if any column has."""
    labels = [file.labels[position] for position in positions]
    if "" in labels:
        raise DataError(
            f"Column {positions[labels.index('')] + 1} of {file.name} has no name",
            hint="Name it, or leave it out with --exclude '' if it only numbers the rows, as a pandas index does",
        )
    notes = tuple(f"{file.name[1:-1]}: {note}." for note in file.notes)
    return Table(read_numbers(file, positions), None if file.names is None else labels, notes)


def _open(source: PathOrFile, text: TextOptions) -> TableFile:
    """Read a file's header, and check that no two columns have the same name, or none."""
    names = [name for typed in text.names for name in split_names(typed)]
    file = open_table(source, replace(text, names=names))
    if (n_unnamed := file.labels.count("")) > 1:
        first = file.labels.index("") + 1
        hint = "Name them, or choose the columns of the table with --names and --columns"
        raise DataError(f"{n_unnamed} columns of {file.name} have no names", got=f"column {first} first", hint=hint)
    if repeated := [repr(name) for name, count in Counter(file.labels).items() if count > 1]:
        what = f"{file.name} has more than one column of the same name"
        raise DataError(what, got=enumerated(repeated), hint=file.hint_on_header)
    return file


def _choose_columns(file: TableFile, columns: Sequence[str], exclude: Sequence[str]) -> dict[str, int]:
    """The numbers of the columns to read, by their labels."""
    positions = {label: position for position, label in enumerate(file.labels)}
    included, excluded = _names_in(columns, positions), set(_names_in(exclude, positions))
    for name in [*included, *excluded]:
        if name not in positions:
            hint = file.hint_on_header or did_you_mean(name, positions)
            raise DataError(f"{file.name} has no column {name!r}", hint=hint)
    chosen = {name: positions[name] for name in included or positions if name not in excluded}
    if not chosen:
        if not positions:
            raise DataError(f"{file.name} has no columns")
        got = f"{enumerated([repr(name) for name in sorted(excluded)])} to exclude"
        raise DataError(f"No column of {file.name} is left", got=got)
    return chosen


def _names_in(texts: Iterable[str], known: Mapping[str, int]) -> list[str]:
    """Names of columns in strings, each of which is one name, or several with commas between them."""
    return [name for text in texts for name in ([text] if text in known else split_names(text))]


# -- writing


def write_columns(path: str | os.PathLike[str], columns: Mapping[str, np.ndarray]) -> None:
    """Write columns of equal length to a file, in this order; if writing fails, an existing file is unchanged.

    An NPY file has no names, and one type for all columns.
    """
    kind = FORMATS[known_ending(Path(as_path(path)), FORMATS)]
    with atomic_write(path) as file:
        kind.write(file, columns)
