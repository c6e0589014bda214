"""Columns that are not what they seem: text that is nearly numbers, times of the rows, categories nearly the same."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.dialects import NUMBER
from eigencode.data.tables import types

if TYPE_CHECKING:
    from eigencode.data.tables.values import Values

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
    r"[^\w\s]\d{1,3}(?:,\d{3})+(?:\.\d+)?": "write numbers without signs before them, or commas between thousands",
    rf"[^\w\s]?{NUMBER}[^\d\s]{{1,8}}|[^\w\s+-]{{1,3}}{NUMBER}": "write numbers without units or signs beside them",
}
"""Patterns of cells that people read as numbers or dates, and what to change."""


def is_nearly_numbers(cells: list[str]) -> bool:
    """Whether most cells are numbers, or most are odd ones and there are many different."""
    n_numbers = sum(bool(re.fullmatch(NUMBER, cell, re.ASCII)) for cell in cells)
    n_odd = sum(advice_on(cell) is not None for cell in cells) if len(set(cells)) > FEW else n_numbers
    return 2 * max(n_numbers, n_odd) > len(cells)


def advice_on(cell: str) -> str | None:
    """What to change in a cell that is nearly a number."""
    cell = cell.strip(" \t")
    if re.fullmatch(NUMBER, unicodedata.normalize("NFKC", cell).replace("\u2212", "-"), re.ASCII):
        return "write numbers with the digits 0 to 9, the sign - and plain spaces alone"
    return next((advice for pattern, advice in ODD.items() if re.fullmatch(pattern, cell, re.ASCII)), None)


def shown(cell: str) -> str:
    """A cell in quotes, shortened."""
    cell = cell.strip(" \t")
    return repr(cell if len(cell) <= CELL_AT_MOST else cell[: CELL_AT_MOST - 3] + "...")


def hint_on(values: Values) -> str:
    """What is noteworthy in a column, as the rest of a sentence that begins with its name; "" if nothing is."""
    if values.is_number:
        is_large = values.is_whole and np.abs(values.present).max(initial=0) > 2**53
        return "has whole numbers beyond 2**53, which are rounded to floats" if is_large else _sentinel(values.present)
    if values.kind == "time" or values.time_format:
        return _times_of_rows(values)
    if values.is_mixed or values.kind not in ("text", "category"):
        return ""
    return (values.kind == "text" and _nearly_numbers(values)) or _nearly_the_same(list(values.counts))


def _sentinel(numbers: np.ndarray) -> str:
    """A smallest or largest number that is in several rows, far from all others, and looks like a code.

    It is one of nines only, as -999, the only one below 0, or in more rows than any other, as -99.5 among prices.
    """
    for end in (numbers.min(initial=0), numbers.max(initial=0)):
        others = numbers[numbers != end]
        count = len(numbers) - len(others)
        if end == 0 or not 2 <= count < len(others) or np.abs(others - end).min() <= np.ptp(others):
            continue
        is_nines = re.fullmatch("-?99+", f"{end:.0f}") is not None
        if is_nines or end < 0 <= others.min() or count > np.unique(others, return_counts=True)[1].max():
            return f"is {end:.15g} in {count} rows: name it in 'missing_values' if it stands for a gap"
    return ""


def _times_of_rows(values: Values) -> str:
    """That rows are in the order of their times: new ones have times of which the model knows nothing."""
    times = types.seconds(types.times_of(values.cells, values.time_format) if values.time_format else values.cells)
    known = times[~np.isnan(times)]
    steps = np.diff(known)
    if len(known) < FEW or not steps.any() or not ((steps >= 0).all() or (steps <= 0).all()):
        return ""
    return (
        "is in the order of the rows, and rows of other times are unusual in it: name it in 'columns' as 'identifier' "
        "if the model is for such rows"
    )


def _nearly_numbers(values: Values) -> str:
    """Which cell makes a column text."""
    cells = values.cells.cast(pa.string())  # of views of text there are few functions
    if not is_nearly_numbers(cells.slice(0, SAMPLED).drop_null().to_pylist()):
        return ""
    if (row := pc.index(not_numbers(cells), True).as_py()) < 0:
        return ""
    cell = cells[row].as_py()
    advice = advice_on(cell) or "correct it, or name it in 'missing_values' if it stands for a gap"
    return f"is taken as text, because of {shown(cell)} in row {row}: {advice}"


def not_numbers(cells: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Whether each cell of text is no number; where some are none with a decimal comma either, only those count."""
    plain, with_comma = (
        pc.fill_null(pc.invert(pc.match_substring_regex(some, f"^(?:{NUMBER})$")), False)
        for some in (cells, pc.replace_substring(cells, ",", "."))
    )
    return with_comma if pc.any(with_comma).as_py() else plain


def _nearly_the_same(labels: list[str]) -> str:
    """Two labels that differ only by spaces around them, or by capital letters."""
    alike = defaultdict(list)
    for label in labels[:SAMPLED]:
        alike[label.strip().casefold()].append(label)
    twins = next((group for group in alike.values() if len(group) > 1), [])
    return f"has categories that differ only by spaces or capitals, as {twins[0]!r} and {twins[1]!r}" if twins else ""
