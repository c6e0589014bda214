"""Dialects of delimited text: the separator and the decimal mark, as given or as detected from the first lines.

The separator is the one that gives all lines the same number of cells, more than one. The decimal mark is a comma if
more cells look like 1,5 than like 1.5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from eigencode.data.records import ANY_LINE_END, OPENING, records, unquoted
from eigencode.data.table_files import TextOptions
from eigencode.errors import OptionError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe", " ": "space"}
"""Names of the separators that are tried, the most likely first."""

SAMPLE = 1 << 18
"""Bytes from which the dialect is detected, and the rest of the line after them."""

SAMPLE_LINES, SAMPLE_CELLS = 2000, 100_000

GAPS = (
    "", "?", "-", "--", ".", "NA", "na", "N/A", "n/a", "n.a.", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "NAN",
    "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "NULL", "Null", "null", "None", "none", "nil",
)  # fmt: skip
"""Cells that mean a missing value."""

NUMBER = r"[ \t]*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[ \t]*"
"""A number with a decimal point, as a regular expression."""

_NUMBER = re.compile(NUMBER.encode())
_COMMA = re.compile(rb"[ \t]*[+-]?\d*,\d+(?:[eE][+-]?\d+)?[ \t]*")
_POINT = re.compile(rb"[ \t]*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?[ \t]*")
QUOTED_COMMA = re.compile(rb'"[ \t]*[+-]?\d*,\d+[ \t]*"')
_THOUSANDS = re.compile(rb"[ \t]*[+-]?[1-9]\d{0,2}(?:,\d{3})+[ \t]*")
_GAPS = frozenset(gap.encode() for gap in GAPS)


@dataclass(frozen=True)
class Dialect:
    """How to read a text as a table.

    ``start`` is the offset of the header, or of the first row if there is none, and ``line`` the number of the line
    that begins there, counted from 1. ``trailing``: every line ends with a separator, after which there is no cell.
    """

    separator: str
    decimal: str
    start: int = 0
    line: int = 1
    trailing: bool = False

    def is_number(self, cell: bytes) -> bool:
        """Whether a cell is a number."""
        return bool(_NUMBER.fullmatch(cell.replace(b",", b".", 1) if self.decimal == "," else cell))


def detect_dialect(text: memoryview, options: TextOptions, default: str) -> Dialect:
    r"""Detect the dialect of a text in UTF-8; ``default`` is the separator if none can be detected.

    Examples
    --------
    >>> detect_dialect(memoryview(b"a;b\n1,5;2\n"), TextOptions(), ",")
    Dialect(separator=';', decimal=',', start=0, line=1, trailing=False)
    """
    separator, decimal = parse_separator(options.separator), parse_decimal(options.decimal)
    start = 0
    # Excel may write the separator in a line before the header.
    if match := re.match(rb'"?sep=(.)"?(?:\r\n|\r|\n)', text):
        start, separator = match.end(), separator or match[1].decode("latin-1")
    lines = _sample_lines(text, start)
    if separator is None:
        # A decimal comma can be the separator too only if such numbers are in quotes.
        excluded = decimal if not QUOTED_COMMA.search(text, start, start + SAMPLE) else None
        separator = _detect_separator(lines, excluded, default)
    decimal = decimal or _detect_decimal(text, start, separator)
    return Dialect(separator, decimal, start, 2 if start else 1, _is_trailing(lines, separator.encode()))


def parse_separator(text: str | None) -> str | None:
    """The separator for a character or a name, such as 'tab'."""
    by_name = {**{name: mark for mark, name in SEPARATORS.items()}, "\\t": "\t"}
    found = by_name.get(text or "", text)
    if found is not None and (len(found) != 1 or not found.isascii() or found in '"\r\n\0'):
        hint = f"Names are {', '.join(SEPARATORS.values())}"
        raise OptionError("A separator is one character or its name", got=repr(text), hint=hint)
    return found


def parse_decimal(text: str | None) -> str | None:
    """The decimal mark for a character or a name."""
    found = {"point": ".", "comma": ","}.get(text or "", text)
    if found not in (None, ".", ","):
        raise OptionError("A decimal mark is a point or a comma", got=repr(text))
    return found


def gap_cells(gaps: Sequence[str] = GAPS) -> list[str]:
    """Cells that pyarrow reads as missing: these values, also with a space before or after them."""
    return [before + gap + after for gap in gaps for before in ("", " ") for after in ("", " ")]


# -- detection


def _sample_lines(text: memoryview, start: int) -> list[bytes]:
    """The first lines that are not blank; a quoted cell with separators in it is replaced by x."""
    cut = ANY_LINE_END.search(text, start + SAMPLE)
    sample = OPENING.sub(_without_separators, bytes(text[start : cut.end() if cut else len(text)]))
    return [line for line in ANY_LINE_END.split(sample) if line][:SAMPLE_LINES]


def _without_separators(quoted: re.Match[bytes]) -> bytes:
    return b"x" if re.search(rb"[\r\n,;\t| ]", quoted[1]) or not quoted[1] else quoted[1]


def _detect_separator(lines: Sequence[bytes], excluded: str | None, default: str) -> str:
    """The separator with the same number of cells in all lines; of several, the one with the most numbers."""
    candidates = [mark for mark in dict.fromkeys([default, *SEPARATORS]) if mark != excluded]
    fitting = [mark for mark in candidates if _agreement(lines, mark.encode()) == 1]
    if fitting:
        return max(fitting, key=lambda mark: _share_of_numbers(lines, mark.encode())) if fitting[1:] else fitting[0]
    # Lines of different lengths are an error, which the parser raises; all or most of them still have the separator.
    likely = [mark for mark in candidates[:-1] if all(mark.encode() in line for line in lines) and lines]
    likely += [mark for mark in candidates[:-1] if _agreement(lines, mark.encode()) > 0.5]
    return max(likely, key=lambda mark: _agreement(lines, mark.encode()), default=candidates[0])


def _agreement(lines: Sequence[bytes], mark: bytes) -> float:
    """Share of lines with as many cells as the first line, 0 if the first line has one cell only."""
    if not lines or not (n_marks := lines[0].count(mark)):
        # If all lines but the header end with a separator, the table has one column.
        is_one_column = len(lines) > 1 and mark != b" " and all(_ends_with(line, mark, 1) for line in lines[1:])
        return float(is_one_column)
    if mark == b" " and (lines[0].startswith(mark) or any(mark * 2 in line for line in lines)):
        return 0.0
    agreeing = sum(line.count(mark) == n_marks or _ends_with(line, mark, n_marks + 1) for line in lines)
    return agreeing / len(lines)


def _ends_with(line: bytes, mark: bytes, n_marks: int) -> bool:
    """Whether a line ends with a separator, the last of ``n_marks``."""
    return line.endswith(mark) and line.count(mark) == n_marks


def _share_of_numbers(lines: Sequence[bytes], mark: bytes) -> float:
    """Share of cells that are numbers or gaps, in the first lines."""
    cells = [cell.strip() for line in lines[:100] for cell in line.split(mark)]
    return sum(bool(_NUMBER.fullmatch(cell.replace(b",", b".", 1))) or cell in _GAPS for cell in cells) / len(cells)


def _is_trailing(lines: Sequence[bytes], mark: bytes) -> bool:
    """Whether every row ends with a separator; the header may or may not."""
    rows = lines[1:] or lines
    if not rows or not all(line.endswith(mark) for line in rows):
        return False
    n_marks = lines[0].count(mark) + (not lines[0].endswith(mark))
    return all(line.count(mark) == n_marks for line in rows) and (lines[0].endswith(mark) or len(lines) > 1)


def _detect_decimal(text: memoryview, start: int, separator: str) -> str:
    """A comma if more cells look like 1,5 than like 1.5, and if these commas cannot be separators of thousands."""
    if separator == "," and not QUOTED_COMMA.search(text, start, start + SAMPLE):
        return "."
    cells = [
        unquoted(cell)
        for record in islice(records(text, separator.encode(), start), SAMPLE_LINES)
        for cell in record.cells[: SAMPLE_CELLS // 10]
    ][:SAMPLE_CELLS]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    points = sum(bool(_POINT.fullmatch(cell)) for cell in cells)
    # With semicolons between cells, commas are decimal marks; with another separator, 1,234 may mean 1234.
    if separator != ";" and all(_THOUSANDS.fullmatch(cell) for cell in commas):
        return "."
    return "," if len(commas) > points else "."
