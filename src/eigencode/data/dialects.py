"""Dialects: how a text is a table, found by a rule from its first lines, or as it is asked for.

The separator is the one that gives every line the same number of cells, more than one. The decimal mark is a comma
where more cells look like 1,5 than like 1.5.
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
"""What separates cells, the likeliest first."""

SAMPLE = 1 << 18
"""Bytes that are looked at; always one whole line at least."""

SAMPLE_LINES, SAMPLE_CELLS = 2000, 100_000

GAPS = (
    *(
        "",
        "?",
        "-",
        "--",
        ".",
        "NA",
        "na",
        "N/A",
        "n/a",
        "n.a.",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "<NA>",
        "NaN",
        "nan",
        "NAN",
    ),
    *("-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "NULL", "Null", "null", "None", "none", "nil"),
)
"""What a cell says that has no value."""


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
    """How a text is a table.

    Attributes
    ----------
    separator, decimal : str
        The characters between cells and within numbers.
    start : int
        Offset of the header, or of the first row where there is none.
    line : int
        Number of the line that begins there.
    trailing : bool
        Whether every line ends with a separator, after which there is no cell.
    """

    separator: str
    decimal: str
    start: int = 0
    line: int = 1
    trailing: bool = False

    def is_number(self, cell: bytes) -> bool:
        """Whether a cell reads as a number."""
        return bool(_NUMBER.fullmatch(cell.replace(b",", b".", 1) if self.decimal == "," else cell))


def dialect_of(text: memoryview, options: TextOptions, plain: str) -> Dialect:
    r"""Find out how a text is a table.

    Parameters
    ----------
    text : memoryview
        The text, in UTF-8.
    options : TextOptions
        What is known of it.
    plain : str
        The separator where none is found.

    Examples
    --------
    >>> dialect_of(memoryview(b"a;b\n1,5;2\n"), TextOptions(), ",")
    Dialect(separator=';', decimal=',', start=0, line=1, trailing=False)
    """
    separator, decimal = separator_named(options.separator), decimal_named(options.decimal)
    start = 0
    # Excel names the separator in a line of its own.
    if match := re.match(rb'"?sep=(.)"?(?:\r\n|\r|\n)', text):
        start, separator = match.end(), separator or match[1].decode("latin-1")
    lines = _sample_lines(text, start)
    if separator is None:
        # Where commas are decimal marks they separate only if numbers stand in quotes.
        unlikely = decimal if not QUOTED_COMMA.search(text, start, start + SAMPLE) else None
        separator = _found(lines, unlikely, plain)
    decimal = decimal or _decimal(text, start, separator)
    return Dialect(separator, decimal, start, 2 if start else 1, _is_trailing(lines, separator.encode()))


def separator_named(word: str | None) -> str | None:
    """The separator that a word is or names."""
    named = {**{name: mark for mark, name in SEPARATORS.items()}, "\\t": "\t"}
    found = named.get(word or "", word)
    if found is not None and (len(found) != 1 or not found.isascii() or found in '"\r\n\0'):
        raise OptionError(
            "A separator is one character", got=repr(word), hint=f"Known by name are {', '.join(SEPARATORS.values())}"
        )
    return found


def decimal_named(word: str | None) -> str | None:
    """The decimal mark that a word is or names."""
    found = {"point": ".", "comma": ","}.get(word or "", word)
    if found not in (None, ".", ","):
        raise OptionError("A decimal mark is a point or a comma", got=repr(word))
    return found


def gap_cells(gaps: Sequence[str] = GAPS) -> list[str]:
    """Gaps as pyarrow compares cells: with the spaces that may stand around them."""
    return [before + gap + after for gap in gaps for before in ("", " ") for after in ("", " ")]


# -- the rule


def _sample_lines(text: memoryview, start: int) -> list[bytes]:
    """The first lines that are not blank; what quotes hold is put in one word where it could be misread."""
    cut = ANY_LINE_END.search(text, start + SAMPLE)
    sample = OPENING.sub(_plain, bytes(text[start : cut.end() if cut else len(text)]))
    return [line for line in ANY_LINE_END.split(sample) if line][:SAMPLE_LINES]


def _plain(quoted: re.Match[bytes]) -> bytes:
    return b"x" if re.search(rb"[\r\n,;\t| ]", quoted[1]) or not quoted[1] else quoted[1]


def _found(lines: Sequence[bytes], unlikely: str | None, plain: str) -> str:
    """The separator of some lines: the same number of cells in all, then most numbers, then the likeliest."""
    candidates = [mark for mark in dict.fromkeys([plain, *SEPARATORS]) if mark != unlikely]
    fitting = [mark for mark in candidates if _agreement(lines, mark.encode()) == 1]
    if fitting:
        return max(fitting, key=lambda mark: _share_of_numbers(lines, mark.encode())) if fitting[1:] else fitting[0]
    # Lines of different lengths are refused later, by number; all or most of them still show the separator.
    shown = [mark for mark in candidates[:-1] if all(mark.encode() in line for line in lines) and lines]
    shown += [mark for mark in candidates[:-1] if _agreement(lines, mark.encode()) > 0.5]
    return max(shown, key=lambda mark: _agreement(lines, mark.encode()), default=candidates[0])


def _agreement(lines: Sequence[bytes], mark: bytes) -> float:
    """Share of lines with as many cells as the first one, if those are more than one."""
    if not lines or not (n_marks := lines[0].count(mark)):
        # A separator at each line's end but the header's makes one column of two.
        return 1.0 if len(lines) > 1 and mark != b" " and all(_closes(line, mark, 1) for line in lines[1:]) else 0.0
    if mark == b" " and (lines[0].startswith(mark) or any(mark * 2 in line for line in lines)):
        return 0.0
    agreeing = sum(line.count(mark) == n_marks or _closes(line, mark, n_marks + 1) for line in lines)
    return agreeing / len(lines)


def _closes(line: bytes, mark: bytes, n_marks: int) -> bool:
    return line.endswith(mark) and line.count(mark) == n_marks


def _share_of_numbers(lines: Sequence[bytes], mark: bytes) -> float:
    """Share of cells that are numbers or gaps, in the first lines."""
    cells = [cell.strip() for line in lines[:100] for cell in line.split(mark)]
    return sum(bool(_NUMBER.fullmatch(cell.replace(b",", b".", 1))) or cell in _GAPS for cell in cells) / len(cells)


def _is_trailing(lines: Sequence[bytes], mark: bytes) -> bool:
    """Whether every row ends with a separator; the header may do without."""
    rows = lines[1:] or lines
    if not rows or not all(line.endswith(mark) for line in rows):
        return False
    n_marks = lines[0].count(mark) + (not lines[0].endswith(mark))
    return all(line.count(mark) == n_marks for line in rows) and (lines[0].endswith(mark) or len(lines) > 1)


def _decimal(text: memoryview, start: int, separator: str) -> str:
    """A comma where cells look like 1,5 and fewer like 1.5, and it cannot stand between thousands."""
    if separator == "," and not QUOTED_COMMA.search(text, start, start + SAMPLE):
        return "."
    cells = [
        unquoted(cell)
        for record in islice(records(text, separator.encode(), start), SAMPLE_LINES)
        for cell in record.cells[: SAMPLE_CELLS // 10]
    ][:SAMPLE_CELLS]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    points = sum(bool(_POINT.fullmatch(cell)) for cell in cells)
    # Where semicolons separate, commas are decimal marks; elsewhere 1,234 may be a thousand.
    if separator != ";" and all(_THOUSANDS.fullmatch(cell) for cell in commas):
        return "."
    return "," if len(commas) > points else "."
