"""Columns of a table file: whether they have the types fitted, and which of them look like numbers but are text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.table_files import TableFile
from eigencode.data.tables import hints, types
from eigencode.errors import DataError, enumerated


def refuse_infinite(file: TableFile, table: pa.Table, first_row: int = 0) -> None:
    """Raise `DataError` for infinite cells, with their columns and lines; the table begins with a row of the file."""
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        wide = column.cast(pa.float32()) if column.type == pa.float16() else column  # for pyarrow before 18
        if pa.types.is_floating(column.type) and pc.any(is_infinite := pc.is_inf(wide)).as_py():
            found[name] = pc.sum(is_infinite).as_py(), first_row + pc.index(is_infinite, True).as_py()
    if found:
        got = [f"{n} in column {name!r} (the first in {file.where([row])[0]})" for name, (n, row) in found.items()]
        raise DataError(f"{file.name} has infinite cells", got=enumerated(got), hint="Fill them, or drop their rows")


def refuse_other_types(file: TableFile, table: pa.Table, fitted: Mapping[str, str], first_row: int = 0) -> None:
    """Raise `DataError` for text in columns that were numbers or times in fitting; ``fitted`` has types by name."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = types.type_of(fitted.get(name, "null"))
        if types.is_text(column.type) and types.class_of(kind) in ("number", "boolean", "time", "duration"):
            row = _first_not_of(column, kind)
            if row is not None:
                raise DataError(
                    f"Column {name!r} of {file.name} must have {types.class_of(kind)}s, as in fitting",
                    got=f"{hints.shown(column[row].as_py())} in {file.where([first_row + row])[0]}",
                    hint="Correct this cell, or leave it empty if it stands for a gap",
                )


def _first_not_of(column: pa.ChunkedArray, kind: pa.DataType) -> int | None:
    """The row of the first cell that is of another type: with a decimal comma too, if there is such a cell."""
    for cells in (pc.replace_substring(column, ",", "."), column):
        for row, cell in enumerate(cells):
            if cell.is_valid and not _is_of(cell, kind):
                return row
    return None


def _is_of(cell: pa.Scalar, kind: pa.DataType) -> bool:
    try:
        cell.cast(kind)
    except pa.ArrowException:
        return False
    return True


def notes_on_text(file: TableFile, table: pa.Table) -> Iterator[str]:
    """Sentences on columns of text that are nearly numbers or dates, with the first cell that is none."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not types.is_text(column.type) or name in file.options.text:
            continue
        some = column.slice(0, hints.SAMPLED).drop_null()
        cells = some.to_pylist()
        if types.time_format(some.combine_chunks()):
            continue
        if hints.is_nearly_numbers(cells):
            yield _note_on(file, name, column)
        elif file.hint_on_cells and any(letter.isdigit() for letter in "".join(cells[:1])):
            yield f"there is only one column, {hints.shown(name)}: {file.hint_on_cells}"


def _note_on(file: TableFile, name: str, column: pa.ChunkedArray) -> str:
    wrong = hints.not_numbers(column)
    count, row = pc.sum(wrong).as_py(), pc.index(wrong, True).as_py()
    if not count:
        return f"column {name!r} has numbers with zeros before them, and is read as text"
    cell = column[row].as_py()
    others = f" and {count - 1} more cells" if count > 1 else ""
    advice = hints.advice_on(cell) or "correct them, or name cells that stand for gaps in --missing-values"
    if file.hint_on_header:
        advice = file.hint_on_header[0].lower() + file.hint_on_header[1:]
    found = f"because of {hints.shown(cell)} in {file.where([row])[0]}{others}: {advice}"
    return f"column {name!r} is read as text, {found}"
