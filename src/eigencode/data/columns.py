"""Columns: those of a table file as one array of finite numbers, or an error that shows which cell is none.

Text, dates, gaps and infinite cells are refused together, so that one answer says all that is to be done.
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

from eigencode.data.dialects import NUMBER
from eigencode.data.memory import require_memory
from eigencode.data.sources import ArraySource
from eigencode.data.table_files import TableFile, foreign_errors
from eigencode.errors import DataError

NAMED_AT_MOST = 5
"""Columns that an error describes before it only counts."""

EXCLUDED_AT_MOST = 30
"""Columns that an error proposes to leave out by name."""

CELL_AT_MOST = 40
"""Letters of a cell that an error shows."""

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
"""What can be wrong with a column, in the order in which it is told."""


@dataclass(frozen=True)
class Problem:
    """Why a column cannot be used.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    label : str
        The column.
    row : int
        The first row that shows it.
    cell : str or None
        What is there, where that tells something.
    count : int
        Number of such cells.
    few : bool
        Whether most cells are as they should be.
    """

    kind: str
    label: str
    row: int
    cell: str | None
    count: int
    few: bool = True

    def described(self, where: str) -> str:
        """The column in a few words."""
        if self.cell is None:
            return f"{self.count} in column {self.label!r} (the first in {where})"
        more = f", and {self.count - 1} more" if self.few and self.count > 1 else ""
        return f"{self.label!r} (as {_short(self.cell)!r} in {where}{more})"


def numbers_of(file: TableFile, positions: Sequence[int]) -> np.ndarray:
    """The columns of a file at these positions, checked to be finite numbers.

    Parameters
    ----------
    file : TableFile
        The file.
    positions : sequence of int
        The columns.

    Returns
    -------
    ndarray of shape (n, d)
        In the narrowest type that holds all columns.

    Raises
    ------
    DataError
        If there are no rows, or a column has anything but finite numbers.
    """
    labels = [file.labels[position] for position in positions]
    found = file.read(positions)
    if not len(found):
        raise DataError(f"{file.name} has no rows", hint=file.hint_on_header)
    if isinstance(found, pa.Table):
        columns = found.columns
        del found
        with foreign_errors(file.name, "a table of numbers"):
            columns = [_plain(column) for column in columns]
            problems = [
                problem for label, column in zip(labels, columns, strict=True) for problem in _seen(column, label)
            ]
            refuse(file, problems, labels)
            rows = _as_array(file, columns)
    else:
        rows = found
    refuse(file, _not_finite(rows, labels), labels)
    return rows.view(np.uint8) if rows.dtype == bool else rows


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without a dictionary of its values."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _as_array(file: TableFile, columns: list[pa.ChunkedArray]) -> np.ndarray:
    """Arrow's columns as one array, column after column, so that a frame over it needs no copy; they are given up."""
    types = [_number_type(column.type) for column in columns]
    shape, dtype = (len(columns[0]), len(columns)), np.result_type(*(kind for kind in types if kind is not None))
    require_memory(
        dtype.itemsize * shape[0] * shape[1], f"Reading {file.name}", "Read fewer columns, or a part of the rows"
    )
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
    """The array type of an Arrow type that is a number, else None. A column of gaps alone may be one."""
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if pa.types.is_boolean(kind):
        return np.dtype(np.uint8)
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return np.dtype(np.float64)
    return None


# -- what is wrong with a column


def _seen(column: pa.ChunkedArray, label: str) -> Iterable[Problem]:
    """What keeps one of Arrow's columns from being numbers, if anything."""
    if pa.types.is_temporal(column.type):
        row = _first(pc.is_valid(column))
        yield Problem("dates", label, row, str(column[row]), len(column) - column.null_count, few=False)
    elif _number_type(column.type) is None:
        yield _text(column, label)
    elif column.null_count:
        yield Problem("gaps", label, _first(pc.is_null(column)), None, column.null_count)


def _text(column: pa.ChunkedArray, label: str) -> Problem:
    """The first cell that is not a number, among columns that are not."""
    n_values = len(column) - column.null_count
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        row = _first(pc.is_valid(column)) if n_values else 0
        return Problem("text", label, row, f"{column.type}: {column[row]}", n_values, few=False)
    wrong = pc.fill_null(pc.invert(pc.match_substring_regex(column, f"^{NUMBER}$")), False)
    count = pc.sum(wrong).as_py() or 0
    row = _first(wrong) if count else _first(pc.is_valid(column)) if n_values else 0
    dates = pc.sum(pc.match_substring_regex(column, f"^{DATE}$")).as_py() or 0
    kind = "dates" if 2 * dates > n_values else "text"
    return Problem(kind, label, row, str(column[row]), count, few=0 < 2 * count < n_values)


def _first(mask: pa.ChunkedArray) -> int:
    """The first row where a mask is true; 0 where it is nowhere."""
    return max(int(pc.index(mask, True).as_py()), 0)


def _not_finite(rows: np.ndarray, labels: Sequence[str]) -> list[Problem]:
    """Cells that are NaN or infinite, found a chunk in memory at a time."""
    if rows.dtype.kind != "f":
        return []
    gaps, infinite = _Counter(labels), _Counter(labels)
    first = 0
    for chunk in ArraySource(rows).chunks():
        if not np.isfinite(chunk).all():
            gaps.add(np.isnan(chunk), first)
            infinite.add(np.isinf(chunk), first)
        first += len(chunk)
    return [*gaps.problems("gaps"), *infinite.problems("infinite")]


class _Counter:
    """Counts cells of each column, and keeps the first row of each."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = labels
        self.counts, self.rows = np.zeros(len(labels), int), np.full(len(labels), -1)

    def add(self, mask: np.ndarray, first: int) -> None:
        """Count the cells of a chunk whose first row this is."""
        counts = mask.sum(0)
        new = (self.counts == 0) & (counts > 0)
        self.rows[new] = first + mask.argmax(0)[new]
        self.counts += counts

    def problems(self, kind: str) -> list[Problem]:
        """The columns that have any."""
        found = zip(self.labels, self.rows, self.counts, strict=True)
        return [Problem(kind, label, int(row), None, int(count)) for label, row, count in found if count]


# -- saying so


def refuse(file: TableFile, problems: Sequence[Problem], labels: Sequence[str]) -> None:
    """Raise one error for all columns that cannot be used, of those that are read."""
    if not problems:
        return
    by_kind = {kind: [problem for problem in problems if problem.kind == kind] for kind in KINDS}
    by_kind = {kind: found for kind, found in by_kind.items() if found}
    raise DataError(
        f"{file.name} has {', and '.join(KINDS[kind] for kind in by_kind)}",
        got="; ".join(_listed(file, found) for found in by_kind.values()),
        hint=_advice(file, by_kind, is_any_left=len({problem.label for problem in problems}) < len(labels)),
    )


def _listed(file: TableFile, problems: Sequence[Problem]) -> str:
    """A few columns, each with the first cell that shows what is wrong, and how many more there are."""
    shown = problems[:NAMED_AT_MOST]
    places = file.where([problem.row for problem in shown])
    return enumerated(
        [problem.described(where) for problem, where in zip(shown, places, strict=True)], n_items=len(problems)
    )


def _advice(file: TableFile, by_kind: Mapping[str, Sequence[Problem]], *, is_any_left: bool) -> str | None:
    """What to do about it, a sentence for what is no number and one for what is missing."""
    wrong = [*by_kind.get("text", ()), *by_kind.get("dates", ())]
    missing = [*by_kind.get("gaps", ()), *by_kind.get("infinite", ())]
    advice = [file.hint_on_header] if file.hint_on_header else []
    if wrong:
        changes = [_advice_on_text(wrong), "turn dates into numbers" if "dates" in by_kind else ""]
        if file.hint_on_cells and "text" in by_kind and any(letter.isdigit() for letter in wrong[0].cell or ""):
            changes.append(file.hint_on_cells)
        advice.append(_sentence([*changes, _left_out(file, wrong)]))
    if missing:
        gaps = "gaps" in by_kind
        fill = "fill the gaps" if gaps else "fill these cells"
        drop = "drop their rows (as dropna of pandas does)" if gaps else "drop their rows"
        later = "; columns with gaps come in a later version" if gaps else ""
        left_out = _left_out(file, missing, of_gaps=bool(wrong)) if is_any_left else ""
        advice.append(_sentence([fill, drop, left_out]) + later)
    return ". ".join(sentence for sentence in advice if sentence) or None


def _left_out(file: TableFile, problems: Sequence[Problem], *, of_gaps: bool = False) -> str:
    """How to leave columns out, '' where none can be; those with gaps too, after others."""
    labels = list(dict.fromkeys(problem.label for problem in problems))
    if file.is_needed_whole or len(labels) == len(file.labels):
        return ""
    if of_gaps:
        named = f": add {shlex.join(labels)} to --exclude" if len(labels) <= EXCLUDED_AT_MOST else ""
        return f"leave their columns out as well{named}"
    if len(labels) > EXCLUDED_AT_MOST:
        return "choose the columns of numbers with --columns"
    return f"leave {'it' if len(labels) == 1 else 'them'} out with --exclude {shlex.join(labels)}"


def _sentence(choices: Sequence[str]) -> str:
    """Some things to do, of which one is enough; '' are none."""
    *others, last = [choice for choice in choices if choice] or [""]
    said = ", ".join([*others, f"or {last}" if others else last])
    return said[:1].upper() + said[1:]


def _advice_on_text(problems: Sequence[Problem]) -> str:
    """What to do about cells that nearly are numbers."""
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


def enumerated(items: Sequence[str], n_items: int | None = None) -> str:
    """A few items, and how many more there are."""
    n_items = n_items or len(items)
    shown = ", ".join(items[:NAMED_AT_MOST])
    return shown if n_items <= NAMED_AT_MOST else f"{shown} and {n_items - NAMED_AT_MOST} more"


def _short(cell: str) -> str:
    cell = cell.strip(" \t")
    return cell if len(cell) <= CELL_AT_MOST else cell[: CELL_AT_MOST - 3] + "..."
