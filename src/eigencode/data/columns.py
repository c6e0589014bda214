"""Columns of a table file: whether they have the types fitted, and which of them look like numbers but are text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.dialects import NUMBER
from eigencode.data.table_files import TableFile
from eigencode.data.tables import types
from eigencode.errors import DataError, enumerated

SAMPLED = 1000
"""Cells of a column of text by which it is found to be nearly numbers."""

FEW = 20
"""Different cells up to which text like 1st or 5% is a category."""

CELL_AT_MOST = 40
"""Characters of a cell that a message shows."""

ODD = {
    r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?": "write numbers without commas between thousands",
    r"[+-]?\d*,\d+": "write all numbers with the same decimal mark (--decimal , reads 1,5)",
    r"[+-]?\d{1,3}(?:[.,' \u00a0\u202f]\d{3})+(?:[.,]\d+)?": "write numbers without separators of thousands",
    r"\d{1,4}([-./])\d{1,2}\1\d{1,4}(?:[ T].*)?": "write dates as year-month-day, as 2020-12-31",
    rf"[^\w\s]?{NUMBER}[^\d\s]{{1,8}}|[^\w\s+-]{{1,3}}{NUMBER}": "write numbers without units or signs beside them",
}
"""Patterns of cells that people read as numbers or dates, and what to change."""


def refuse_infinite(file: TableFile, table: pa.Table) -> None:
    """Raise `DataError` for infinite cells, with their columns and first lines."""
    found = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        wide = column.cast(pa.float32()) if column.type == pa.float16() else column  # for pyarrow before 18
        if pa.types.is_floating(column.type) and pc.any(is_infinite := pc.is_inf(wide)).as_py():
            found[name] = pc.sum(is_infinite).as_py(), pc.index(is_infinite, True).as_py()
    if found:
        got = [f"{n} in column {name!r} (the first in {file.where([row])[0]})" for name, (n, row) in found.items()]
        raise DataError(f"{file.name} has infinite cells", got=enumerated(got), hint="Fill them, or drop their rows")


def refuse_other_types(file: TableFile, table: pa.Table, fitted: Mapping[str, str]) -> None:
    """Raise `DataError` for text in columns that were numbers or times in fitting; ``fitted`` has types by name."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = types.type_of(fitted.get(name, "null"))
        if types.is_text(column.type) and types.class_of(kind) in ("number", "boolean", "time", "duration"):
            row = next((row for row, cell in enumerate(column) if cell.is_valid and not _is_of(cell, kind)), None)
            if row is not None:
                raise DataError(
                    f"Column {name!r} of {file.name} must have {types.class_of(kind)}s, as in fitting",
                    got=f"{_shown(column[row].as_py())} in {file.where([row])[0]}",
                    hint="Correct this cell, or leave it empty if it stands for a gap",
                )


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
        cells = column.slice(0, SAMPLED).drop_null().to_pylist()
        if _is_nearly_numbers(cells):
            yield _note_on(file, name, column)
        elif file.hint_on_cells and any(letter.isdigit() for letter in "".join(cells[:1])):
            yield f"there is only one column, {_shown(name)}: {file.hint_on_cells}"


def _is_nearly_numbers(cells: list[str]) -> bool:
    """Whether most cells are numbers, or most are odd ones and there are many different."""
    n_numbers = sum(bool(re.fullmatch(NUMBER, cell, re.ASCII)) for cell in cells)
    n_odd = sum(_advice(cell) is not None for cell in cells) if len(set(cells)) > FEW else n_numbers
    return 2 * max(n_numbers, n_odd) > len(cells)


def _advice(cell: str) -> str | None:
    """What to change in a cell that is nearly a number."""
    cell = cell.strip(" \t")
    if re.fullmatch(NUMBER, unicodedata.normalize("NFKC", cell).replace("\u2212", "-"), re.ASCII):
        return "write numbers with the digits 0 to 9, the sign - and plain spaces alone"
    return next((advice for pattern, advice in ODD.items() if re.fullmatch(pattern, cell, re.ASCII)), None)


def _note_on(file: TableFile, name: str, column: pa.ChunkedArray) -> str:
    wrong = pc.fill_null(pc.invert(pc.match_substring_regex(column, f"^(?:{NUMBER})$")), False)
    count, row = pc.sum(wrong).as_py(), pc.index(wrong, True).as_py()
    if not count:
        return f"column {name!r} has numbers with zeros before them, and is read as text"
    cell = column[row].as_py()
    others = f" and {count - 1} more cells" if count > 1 else ""
    hint = file.hint_on_header or _advice(cell) or "correct them, or name cells that stand for gaps in --missing-values"
    return f"column {name!r} is read as text, because of {_shown(cell)} in {file.where([row])[0]}{others}: {hint}"


def _shown(cell: str) -> str:
    cell = cell.strip(" \t")
    return repr(cell if len(cell) <= CELL_AT_MOST else cell[: CELL_AT_MOST - 3] + "...")
