"""Table files that are larger than memory, read a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pyarrow as pa

from eigencode.data.block_sources import BlockSource
from eigencode.data.contents import changed, refuse_changed, status_of
from eigencode.data.files import FileColumns, Table
from eigencode.errors import DataError, FileError


class Group(NamedTuple):
    """A part of a file: the file's number, what reads the part, its number of rows, and its first row in the file."""

    file: int
    key: Any
    n_rows: int
    first_row: int


class FileSource(BlockSource):
    """Table files of one format with the same columns, one after the other.

    Their groups are the row groups of Parquet, the record batches of Arrow IPC, parts of 16 MB of a text, and parts of
    131,072 rows of an NPY file. No file stays open.

    Parameters
    ----------
    files : iterable of FileColumns
        The columns of each file.
    """

    def __init__(self, files: Iterable[FileColumns]) -> None:
        self._openers: list[Callable[[], FileColumns]] = []
        self._paths: list[Path] = []
        self._status: list[tuple[int, ...]] = []
        self._groups: list[Group] = []
        schemas = [self._add(file) for file in files]
        self._schema = None if schemas[0] is None else self._common(cast(list[pa.Schema], schemas))

    def _add(self, columns: FileColumns) -> pa.Schema | None:
        """Take a file in; return the types of its columns."""
        self._paths.append(Path(cast(str, columns.path)))
        self._status.append(status_of(self._paths[-1]))
        self._openers.append(columns.opener())
        first, groups = 0, columns.groups()
        if not groups:
            raise DataError(f"{columns.file.name} has no rows", hint=columns.file.hint_on_header or "Remove it")
        for key, n_rows in groups:
            self._groups.append(Group(len(self._paths) - 1, key, n_rows, first))
            first += n_rows
        self._names = columns.names
        return columns.schema(groups[0][0])

    def _common(self, schemas: list[pa.Schema]) -> pa.Schema:
        """The types that hold the columns of all files."""
        found = schemas[0]
        for path, schema in zip(self._paths, schemas, strict=True):
            try:
                found = pa.unify_schemas([found, schema], promote_options="permissive")
            except pa.ArrowException as error:
                name = next(name for name in found.names if not _go_together(found.field(name), schema.field(name)))
                kinds = f"{schema.field(name).type} in {str(path)!r} and {found.field(name).type} before"
                raise FileError(
                    "Files that are read together must have the same columns", got=f"column {name!r} is {kinds}"
                ) from error
        return found

    @property
    def groups(self) -> Sequence[int]:
        """The number of rows of each group."""
        return [group.n_rows for group in self._groups]

    def where(self, group: int) -> str:
        found = self._groups[group]
        first = f"{found.first_row:,} to {found.first_row + found.n_rows - 1:,}"
        return f"rows {first} of {str(self._paths[found.file])!r}"

    def read(self, group: int) -> Iterator[Any]:
        """The rows of a group."""
        file, key, n_rows, first_row = self._groups[group]
        refuse_changed(self._paths[file], self._status[file])
        for cells in self._openers[file]().read_group(key, first_row):
            if isinstance(cells, pa.Table) and cells.schema != self._schema:
                cells = cells.cast(self._schema)
            yield Table(cells, self._names).frame
            n_rows -= len(cells)
        if n_rows:
            raise changed(self._paths[file])


def _go_together(field: pa.Field, other: pa.Field) -> bool:
    try:
        pa.unify_schemas([pa.schema([field]), pa.schema([other])], promote_options="permissive")
    except pa.ArrowException:
        return False
    return True
