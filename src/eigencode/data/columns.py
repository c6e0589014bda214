"""Columns of a table file as one array of finite numbers, or an error that shows which cells are not finite numbers.

One error names all columns that cannot be used, so that all of them can be corrected at once.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.cells import find_nonfinite
from eigencode.data.dialects import NUMBER
from eigencode.data.memory import require_memory
from eigencode.data.table_files import READ_LESS, TableFile, translated_errors
from eigencode.errors import DataError, enumerated

NAMED_AT_MOST = 5
"""Columns that an error describes; it only counts the others."""

EXCLUDED_AT_MOST = 30
"""Columns that a hint names in an --exclude flag."""

CELL_AT_MOST = 40
"""Characters of a cell that an error shows."""

DATE = r"\s*\d{1,4}([-./])\d{1,2}([-./])\d{1,4}([ T].*)?"
THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}(?:[.,' \u00a0\u202f]\d{3})+(?:[.,]\d+)?\s*")
BESIDE = re.compile(rf"[^\w\s]?{NUMBER}[^\d\s]{{1,8}}|[^\w\s+-]{{1,3}}{NUMBER}", re.ASCII)
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+\s*")

KINDS = {
    "text": "columns that are not numbers",
    "dates": "columns of dates or times",
    "gaps": "gaps",
    "infinite": "infinite cells",
}
"""What can be wrong with a column, in the order in which an error lists it."""


@dataclass(frozen=True)
class Problem:
    """Why a column cannot be used.

    Its kind in ``KINDS``, its label, the first row with such a cell, this cell (None for gaps and infinite cells), the
    number of such cells, and whether they are few, most being numbers.
    """

    kind: str
    label: str
    row: int
    cell: str | None
    count: int
    few: bool = True

    def described(self, where: str) -> str:
        """The column as a message describes it; ``where`` is the line or row of the cell."""
        if self.cell is None:
            return f"{self.count} in column {self.label!r} (the first in {where})"
        more = f", and {self.count - 1} more" if self.few and self.count > 1 else ""
        cell = self.cell.strip(" \t")
        shown = cell if len(cell) <= CELL_AT_MOST else cell[: CELL_AT_MOST - 3] + "..."
        return f"{self.label!r} (as {shown!r} in {where}{more})"


def read_numbers(file: TableFile, positions: Sequence[int]) -> np.ndarray:
    """Read the columns with these numbers as an array of shape (n, d), in the narrowest type that holds all of them.

    `DataError` if there are no rows, or a column has cells that are not finite numbers.
    """
    labels = [file.labels[position] for position in positions]
    found = file.read(positions)
    if not len(found):
        raise DataError(f"{file.name} has no rows", hint=file.hint_on_header)
    if isinstance(found, pa.Table):
        columns = found.columns
        del found
        with translated_errors(file.name, "a table of numbers"):
            columns = [_without_dictionary(column) for column in columns]
            problems = [
                each for label, column in zip(labels, columns, strict=True) for each in _problems(column, label)
            ]
            _raise_if_any(file, problems, labels)
            rows = _as_array(file, columns)
    else:
        rows = found
    problems = [
        Problem(kind, labels[j], row, None, count)
        for kind, cells in find_nonfinite(rows).items()
        for j, (count, row) in cells.items()
    ]
    _raise_if_any(file, problems, labels)
    return rows.view(np.uint8) if rows.dtype == bool else rows


def _without_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with its values in place of their numbers in a dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _as_array(file: TableFile, columns: list[pa.ChunkedArray]) -> np.ndarray:
    """Convert Arrow columns to one array in column order, so that a data frame over it needs no copy.

    Each column is removed from the list once it is copied, to save memory.
    """
    types = [_number_type(column.type) for column in columns]
    shape, dtype = (len(columns[0]), len(columns)), np.result_type(*(kind for kind in types if kind is not None))
    require_memory(dtype.itemsize * shape[0] * shape[1], f"Reading {file.name}", READ_LESS)
    rows = np.empty(shape, dtype, order="F")
    for position, kind in enumerate(types):
        column = columns[position].cast(pa.from_numpy_dtype(kind))
        columns[position] = None
        first = 0
        for chunk in column.chunks:
            rows[first : first + len(chunk), position] = chunk.to_numpy(zero_copy_only=False)
            first += len(chunk)
    return rows


def _number_type(kind: pa.DataType) -> np.dtype | None:
    """The NumPy type for a numeric Arrow type, else None. A column that has only gaps counts as numeric."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if pa.types.is_boolean(kind):
        return np.dtype(np.uint8)
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return np.dtype(np.float64)
    return None


# -- finding problems


def _problems(column: pa.ChunkedArray, label: str) -> Iterable[Problem]:
    """Why an Arrow column cannot be used as numbers, if there is a reason."""
    if pa.types.is_temporal(column.type):
        row = _first_true(pc.is_valid(column))
        yield Problem("dates", label, row, str(column[row]), len(column) - column.null_count, few=False)
    elif _number_type(column.type) is None:
        yield _text_problem(column, label)
    elif column.null_count:
        yield Problem("gaps", label, _first_true(pc.is_null(column)), None, column.null_count)


def _text_problem(column: pa.ChunkedArray, label: str) -> Problem:
    """The first cell that is not a number, and how many there are, in a column of text or of another type."""
    n_values = len(column) - column.null_count
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        row = _first_true(pc.is_valid(column)) if n_values else 0
        return Problem("text", label, row, f"{column.type}: {column[row]}", n_values, few=False)
    wrong = pc.fill_null(pc.invert(pc.match_substring_regex(column, f"^{NUMBER}$")), False)
    count = pc.sum(wrong).as_py() or 0
    row = _first_true(wrong) if count else _first_true(pc.is_valid(column)) if n_values else 0
    dates = pc.sum(pc.match_substring_regex(column, f"^{DATE}$")).as_py() or 0
    kind = "dates" if 2 * dates > n_values else "text"
    return Problem(kind, label, row, str(column[row]), count, few=0 < 2 * count < n_values)


def _first_true(mask: pa.ChunkedArray) -> int:
    """The first row where a mask is true, 0 if there is none."""
    return max(int(pc.index(mask, True).as_py()), 0)


# -- the error


def _raise_if_any(file: TableFile, problems: Sequence[Problem], labels: Sequence[str]) -> None:
    """Raise one error for all columns that cannot be used; ``labels`` are those of all columns that are read."""
    if not problems:
        return
    by_kind = {kind: found for kind in KINDS if (found := [each for each in problems if each.kind == kind])}
    raise DataError(
        f"{file.name} has {', and '.join(KINDS[kind] for kind in by_kind)}",
        got="; ".join(_listed(file, found) for found in by_kind.values()),
        hint=_hint(file, by_kind, is_any_left=len({problem.label for problem in problems}) < len(labels)),
    )


def _listed(file: TableFile, problems: Sequence[Problem]) -> str:
    """The first few columns, each with its first wrong cell, and how many more there are."""
    shown = problems[:NAMED_AT_MOST]
    lines = file.where([problem.row for problem in shown])
    described = [problem.described(line) for problem, line in zip(shown, lines, strict=True)]
    return enumerated(described, NAMED_AT_MOST, len(problems))


def _hint(file: TableFile, by_kind: Mapping[str, Sequence[Problem]], *, is_any_left: bool) -> str | None:
    """What to do: one sentence for cells that are not numbers, and one for gaps and infinite cells."""
    wrong = [*by_kind.get("text", ()), *by_kind.get("dates", ())]
    missing = [*by_kind.get("gaps", ()), *by_kind.get("infinite", ())]
    advice = [file.hint_on_header] if file.hint_on_header else []
    if wrong:
        changes = [_hint_on_text(wrong), "turn dates into numbers" if "dates" in by_kind else ""]
        if file.hint_on_cells and "text" in by_kind and any(letter.isdigit() for letter in wrong[0].cell or ""):
            changes.append(file.hint_on_cells)
        advice.append(_sentence([*changes, _exclude_flag(file, wrong)]))
    if missing:
        gaps = "gaps" in by_kind
        fill = "fill the gaps" if gaps else "fill these cells"
        drop = "drop their rows (as dropna of pandas does)" if gaps else "drop their rows"
        later = "; columns with gaps come in a later version" if gaps else ""
        exclude = _exclude_flag(file, missing, as_well=bool(wrong)) if is_any_left else ""
        advice.append(_sentence([fill, drop, exclude]) + later)
    return ". ".join(sentence for sentence in advice if sentence) or None


def _exclude_flag(file: TableFile, problems: Sequence[Problem], *, as_well: bool = False) -> str:
    """How to leave columns out, '' if that is not possible; ``as_well`` as others that the hint has named before."""
    labels = list(dict.fromkeys(problem.label for problem in problems))
    if file.needs_all_columns or len(labels) == len(file.labels):
        return ""
    if as_well:
        named = f": add {shlex.join(labels)} to --exclude" if len(labels) <= EXCLUDED_AT_MOST else ""
        return f"leave their columns out as well{named}"
    if len(labels) > EXCLUDED_AT_MOST:
        return "choose the columns of numbers with --columns"
    return f"leave {'it' if len(labels) == 1 else 'them'} out with --exclude {shlex.join(labels)}"


def _sentence(choices: Sequence[str]) -> str:
    """A sentence that offers some choices; empty ones are left out."""
    *others, last = [choice for choice in choices if choice] or [""]
    text = ", ".join([*others, f"or {last}" if others else last])
    return text[:1].upper() + text[1:]


def _hint_on_text(problems: Sequence[Problem]) -> str:
    """What to do about cells that are nearly numbers, by how they are written."""
    cells = [problem.cell or "" for problem in problems]
    if any(re.fullmatch(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?\s*", cell) for cell in cells):
        return "write numbers without commas between thousands"
    if any(DECIMAL_COMMA.fullmatch(cell) for cell in cells):
        return "write all numbers with the same decimal mark (--decimal , reads 1,5)"
    if any(THOUSANDS.fullmatch(cell) for cell in cells):
        return "write numbers without separators of thousands"
    if any(re.fullmatch(NUMBER, cell, re.ASCII) for cell in cells):
        return "save numbers as numbers, not as text"
    if any(re.fullmatch(NUMBER, unicodedata.normalize("NFKC", cell).replace("\u2212", "-")) for cell in cells):
        return "write numbers with the digits 0 to 9, the sign - and plain spaces alone"
    if any(problem.few for problem in problems):
        return "correct these cells"
    if any(BESIDE.fullmatch(cell) for cell in cells):
        return "write numbers alone, without units or signs beside them"
    return ""
