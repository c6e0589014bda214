"""Tables: reading columns of files of any format, choosing and matching them, and writing tables.

The formats are in ``formats.py``, checks of the columns' types in ``columns.py``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from eigencode.data.cells import column_labels, stack_columns
from eigencode.data.columns import notes_on_text, refuse_infinite, refuse_other_types
from eigencode.data.contents import PathOrFile, ending_of, list_files, read_content
from eigencode.data.formats import FOLDER_ENDINGS, FORMATS, TableFile, TextOptions, open_table
from eigencode.data.records import split_names
from eigencode.data.table_files import DEFAULT
from eigencode.data.tables import types
from eigencode.data.writing import atomic_write, known_ending
from eigencode.errors import OWN_COLUMNS, DataError, as_path, did_you_mean, enumerated


@dataclass(frozen=True)
class Table:
    """Rows of a file, shape (n, d), the names of their columns if the file has names, and what was assumed in reading.

    Attributes
    ----------
    cells : pa.Table, ndarray or BlockSource
        The columns, each in its own type, with nulls for gaps; or the array of an NPY file, which is a memory map; or
        files that are read a block at a time.
    names : list of str or None
        One for each column.
    notes : tuple of str
        Sentences.
    """

    cells: Any
    names: list[str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> Any:
        """What an estimator takes: an Arrow table, an array if there are only numbers and no names, or a source."""
        if isinstance(self.cells, pa.Table):
            is_numeric = {types.class_of(kind) for kind in self.cells.schema.types} <= {"number", "boolean", "nothing"}
            return self.rows if self.names is None and is_numeric else self.cells
        if self.names is None or not isinstance(self.cells, np.ndarray):
            return self.cells
        return pa.Table.from_arrays([pa.array(column) for column in self.cells.T], names=self.names)

    @property
    def columns(self) -> Any:
        """The frame, of which each column can be described."""
        return self.frame

    @property
    def rows(self) -> np.ndarray:
        """The rows as numbers, in the narrowest type that holds all columns, NaN for gaps; `DataError` for others."""
        if isinstance(self.cells, pa.Table):
            columns = self.cells.columns
            return stack_columns(columns, column_labels(self.cells.column_names), "The table")
        return self.cells

    def __len__(self) -> int:
        return len(self.cells)


@dataclass(frozen=True)
class FileColumns:
    """Columns of one file: their numbers in it, their names if it has any, and the Arrow types they had in fitting."""

    path: PathOrFile
    file: TableFile
    positions: list[int]
    names: list[str] | None
    fitted: Mapping[str, str]

    def __post_init__(self) -> None:
        if "" in self.labels:
            raise DataError(
                f"Column {self.positions[self.labels.index('')] + 1} of {self.file.name} has no name",
                hint="Name it, or leave it out with --exclude '' if it only numbers the rows, as a pandas index does",
            )

    @property
    def labels(self) -> list[str]:
        """What messages call the columns."""
        return self.names or [self.file.labels[position] for position in self.positions]

    @property
    def _text(self) -> list[int]:
        """Numbers of the columns whose cells are text even if they look like numbers."""
        pairs = zip(self.positions, self.labels, strict=True)
        return [position for position, label in pairs if _is_text(self.fitted.get(label, ""))]

    def read(self) -> Table:
        """All rows, of which there must be one."""
        cells = self.file.read(self.positions, self._text)
        if not len(cells):
            raise DataError(f"{self.file.name} has no rows", hint=self.file.hint_on_header)
        cells = self._checked(cells)
        is_table = isinstance(cells, pa.Table) and not self.fitted
        return Table(cells, self.names, self.notes(notes_on_text(self.file, cells) if is_table else ()))

    def notes(self, more: Iterable[str] = ()) -> tuple[str, ...]:
        """What was assumed in reading, as sentences."""
        return tuple(f"{self.file.name[1:-1]}: {note}." for note in [*self.file.notes, *more])

    @property
    def can_be_read_in_parts(self) -> bool:
        """Whether the file can be opened again and again at no cost: it is neither a pipe nor has to be decoded."""
        path = self.path
        if hasattr(path, "read") or ending_of(Path(as_path(path)))[1] or not os.path.isfile(path):
            return False
        return self.file.is_mapped

    def opener(self) -> Callable[[], FileColumns]:
        """A function that opens the file once more, for the same columns; it keeps nothing of the file itself."""
        kind, options, own = type(self.file), self.file.options, (self.positions, self.names, self.fitted)
        path = self.path
        return lambda: FileColumns(path, kind(read_content(path), options), *own)

    def groups(self) -> list[tuple[Any, int]]:
        """Parts of the rows, each read on its own, with the number of rows of each."""
        return self.file.groups(self.positions, self._text)

    def schema(self, group: Any) -> pa.Schema | None:
        """The types of the columns, None of an array."""
        kinds = self.file.types(group, self.positions)
        return None if kinds is None else pa.schema(list(zip(self.labels, kinds, strict=True)))

    def read_group(self, group: Any, first_row: int) -> Iterator[pa.Table | np.ndarray]:
        """The rows of a group in order, a block at a time; its first row has a number in the file."""
        for cells in self.file.read_group(group, self.positions, self._text):
            yield self._checked(cells, first_row)
            first_row += len(cells)

    def _checked(self, cells: pa.Table | np.ndarray, first_row: int = 0) -> pa.Table | np.ndarray:
        """Cells under the columns' names, without infinite ones, and with those of other types refused."""
        if isinstance(cells, pa.Table):
            cells = cells.rename_columns(self.labels)
            refuse_infinite(self.file, cells, first_row)
            refuse_other_types(self.file, cells, self.fitted, first_row)
        return cells


# -- reading


def read_table(source: PathOrFile | Sequence[PathOrFile], **given: Any) -> Table:
    """Read tables: CSV and its relatives, Parquet, Arrow IPC or NPY, compressed or not.

    Columns of text have the types of their cells: integers, floats, booleans, dates, times, else text. Cells such as
    NA are gaps. A column with a zero before other digits, as in 01234, is text. The arguments and errors are those of
    `columns_of_files`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_columns(
    ...         f"{folder}/rows.csv",
    ...         {"size": np.array([1.5, 2.0]), "color": np.array(["red", "NA"])},
    ...     )
    ...     table = read_table(f"{folder}/rows.csv")
    >>> table.frame.to_pylist()
    [{'size': 1.5, 'color': 'red'}, {'size': 2.0, 'color': None}]
    """
    return concatenated([each.read() for each in columns_of_files(source, **given)])


def columns_of_files(
    source: PathOrFile | Sequence[PathOrFile],
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    text: TextOptions = DEFAULT,
    fitted: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[FileColumns]:
    """The columns of each file that are to be read.

    Parameters
    ----------
    source : path-like, binary file, or a sequence of these
        The file, a folder, a pattern such as ``part-*.csv``, or several of them; their rows are concatenated. The
        format of a file without an ending, such as a pipe, is found from its first bytes, and is CSV otherwise.
    include, exclude : sequence of str
        Columns to read, in this order (all if empty), and to leave out. Each string is one name, or several with commas
        between them. Columns without names are called '0', '1' and so on.
    text : TextOptions
        How to read text; what is not given is detected.
    fitted : mapping of str to str
        The Arrow types that columns had in fitting, by name.

    Raises
    ------
    FileError, DataError
        If a file cannot be read, a column does not exist or has infinite cells, or several files do not have the same
        columns.
    """
    first, *others = list_files(source, FOLDER_ENDINGS)
    file = _open(first, text)
    positions = _choose_columns(file, include, exclude)
    names = None if file.names is None else list(positions)
    yield FileColumns(first, file, list(positions.values()), names, fitted)
    for other in others:
        same = _same_columns(_open(other, text), file, list(positions), is_all=not (include or exclude))
        yield FileColumns(other, *same, names, fitted)


def matching_columns(
    source: PathOrFile | Sequence[PathOrFile],
    names: Sequence[str] | None,
    n_columns: int,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    also: Sequence[str] = (),
    text: TextOptions = DEFAULT,
    fitted: Mapping[str, str] = MappingProxyType({}),
    optional: Sequence[str] = (),
) -> Iterator[FileColumns]:
    """The columns that a model was fitted on: by name if model and file have names, else by position.

    They are the model's ``names`` in their order, without ``optional`` ones that the file lacks, and then the columns
    ``also``; others of the file are not read. Without names, only the number of columns can be checked. The other
    arguments and errors are those of `columns_of_files`.
    """
    for path in list_files(source, FOLDER_ENDINGS):
        file = _open(path, text)
        chosen = _choose_columns(file, include, exclude)
        needed = names if names is None else [name for name in names if name in chosen or name not in optional]
        if also:
            chosen |= _choose_columns(file, also, ())
        yield _fitted_columns(path, file, needed, n_columns, chosen, fitted, also)


def _fitted_columns(
    path: PathOrFile,
    file: TableFile,
    names: Sequence[str] | None,
    n_columns: int,
    positions: Mapping[str, int],
    fitted: Mapping[str, str],
    also: Sequence[str],
) -> FileColumns:
    """The columns of one file that a model was fitted on; ``positions`` are those chosen, by their labels."""
    if names is None or file.names is None:
        if also:
            raise DataError("Columns are named, but the file or the model has no names", got=f"{also[0]!r}")
        if len(positions) != n_columns:
            raise DataError(f"{file.name} must have {n_columns} columns, as fitted", got=str(len(positions)))
        return FileColumns(path, file, list(positions.values()), None if names is None else list(names), fitted)
    if missing := [name for name in names if name not in positions]:
        raise DataError(
            f"{file.name} lacks columns that the model reads",
            got=f"none named {enumerated([repr(name) for name in missing])}",
            hint=file.hint_on_header or did_you_mean(missing[0], positions, OWN_COLUMNS),
        )
    names = list(dict.fromkeys([*names, *also]))
    if more := [repr(name) for name in positions if name not in names]:
        file.notes.append(f"not read, since the model does not have them: {enumerated(more)}")
    return FileColumns(path, file, [positions[name] for name in names], list(names), fitted)


def _same_columns(file: TableFile, first: TableFile, labels: list[str], *, is_all: bool) -> tuple[TableFile, list[int]]:
    """A further file, and the numbers of the first one's columns in it; ``is_all`` if these are all of the first."""
    if (file.names is None) != (first.names is None):
        with_names, without = (file, first) if first.names is None else (first, file)
        raise DataError(f"{without.name} has no names of columns, but {with_names.name} has them")
    positions = {label: position for position, label in enumerate(file.labels)}
    missing = [label for label in labels if label not in positions]
    more = [label for label in positions if label not in first.labels] if is_all else []
    if missing or more:
        has = f"{file.name} has {f'no column {missing[0]!r}' if missing else f'an extra column {more[0]!r}'}"
        hint = file.hint_on_header or "Choose columns that all files have with --include"
        what = f"Files that are read together must have the same columns: {has}, unlike {first.name}"
        raise DataError(what, hint=hint)
    return file, [positions[label] for label in labels]


def concatenated(tables: Sequence[Table]) -> Table:
    """The rows of all tables, which have the same columns, and their notes without repetitions."""
    notes = tuple(dict.fromkeys(note for table in tables for note in table.notes))
    frames = [table.cells for table in tables]
    if len(frames) == 1:
        return replace(tables[0], notes=notes)
    if not all(isinstance(frame, pa.Table) for frame in frames):
        return Table(np.concatenate([table.rows for table in tables]), tables[0].names, notes)
    try:
        joined = pa.concat_tables(frames, promote_options="permissive")
    except pa.ArrowException as error:
        name, *found = next(_different_types(frames))
        got = f"{found[0]} in one file and {found[1]} in another"
        raise DataError(f"Column {name!r} has several types", got=got, hint="Correct the file that differs") from error
    return Table(joined, tables[0].names, notes)


def _different_types(frames: Sequence[pa.Table]) -> Iterator[tuple[str, pa.DataType, pa.DataType]]:
    """Columns whose types in two tables do not go together: the name, and both types."""
    first = frames[0].schema
    for frame in frames[1:]:
        for field in frame.schema:
            kinds = field.type, first.field(field.name).type
            if len({types.class_of(kind) for kind in kinds} - {"nothing"}) > 1:
                yield field.name, *kinds
    yield "of the first file", first.types[0], first.types[0]


def _is_text(kind: str) -> bool:
    """Whether an Arrow type, as text, is that of text or of categories that are text."""
    return kind in ("string", "large_string", "string_view") or kind.startswith("dictionary<values=string")


def _open(source: PathOrFile, text: TextOptions) -> TableFile:
    """Read a file's header, and check that no two columns have the same name, or none."""
    names = [name for typed in text.names for name in split_names(typed)]
    file = open_table(source, replace(text, names=names))
    if (n_unnamed := file.labels.count("")) > 1:
        first = file.labels.index("") + 1
        hint = "Name them, or choose the columns of the table with --names and --include"
        raise DataError(f"{n_unnamed} columns of {file.name} have no names", got=f"column {first} first", hint=hint)
    if repeated := [repr(name) for name, count in Counter(file.labels).items() if count > 1]:
        what = f"{file.name} has more than one column of the same name"
        hint = file.hint_on_header or "Rename one"
        raise DataError(what, got=enumerated(repeated), hint=hint)
    return file


def _choose_columns(file: TableFile, include: Sequence[str], exclude: Sequence[str]) -> dict[str, int]:
    """The numbers of the columns to read, by their labels."""
    positions = {label: position for position, label in enumerate(file.labels)}
    included, excluded = _names_in(include, positions), set(_names_in(exclude, positions))
    for name in [*included, *excluded]:
        if name not in positions:
            hint = file.hint_on_header or did_you_mean(name, positions, OWN_COLUMNS)
            raise DataError(f"{file.name} has no column {name!r}", hint=hint)
    if positions.get("") == 0 and len(positions) > 1 and not included and "" not in excluded:
        file.notes.append("the first column has no name and is left out, as an index that pandas writes")
        excluded.add("")
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


def write_columns(path: str | os.PathLike[str], columns: pa.Table | Mapping[str, np.ndarray]) -> None:
    """Write columns of equal length to a file, in this order; if writing fails, an existing file is unchanged.

    An NPY file has no names, and one type for all columns, which have to be numbers.
    """
    with table_writer(path) as write:
        write(columns)


@contextmanager
def table_writer(path: str | os.PathLike[str]) -> Iterator[Callable[[pa.Table | Mapping[str, np.ndarray]], None]]:
    """A function that writes tables with the same columns to a file, one after the other: `write_columns` in parts.

    The file is there when all are written: a reader sees it whole or not at all.
    """
    kind = FORMATS[known_ending(Path(as_path(path)), FORMATS)]
    with atomic_write(path) as file, writing_to(kind, file) as write:
        yield write


@contextmanager
def writing_to(
    kind: type[TableFile], file: BinaryIO
) -> Iterator[Callable[[pa.Table | Mapping[str, np.ndarray]], None]]:
    """A function that writes tables to an open file in a format."""
    with ExitStack() as stack:
        writers: list[Any] = []

        def write(columns: pa.Table | Mapping[str, np.ndarray]) -> None:
            table = as_arrow(columns)
            if not writers:
                writers.append(stack.enter_context(kind.writer(file, table)))
            writers[0].write_table(table)

        yield write


def as_arrow(columns: pa.Table | Mapping[str, np.ndarray]) -> pa.Table:
    """Columns as an Arrow table."""
    return columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
