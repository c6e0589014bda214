"""Records: the lines and cells of delimited text, by the rules of pyarrow's parser, for headers and error messages.

The rows themselves are parsed by pyarrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

LINE_END = rb"\r\n|\r|\n"
ANY_LINE_END = re.compile(LINE_END)
LINE = re.compile(rb"([^\r\n]*+)(" + LINE_END + rb"|\Z)")
QUOTED = re.compile(rb'"([^"]*+(?:""[^"]*+)*+)("|\Z)')
"""A cell in quotes, in which "" stands for one quote; the closing quote may be missing."""

OPENING = re.compile(rb"(?<![^\r\n,;\t| ])" + QUOTED.pattern)
"""A quoted cell after any of the separators."""


@dataclass(frozen=True)
class Record:
    """One row of text: its raw cells with their quotes, the number of its first line, and the offset after its end."""

    cells: list[bytes]
    line: int
    end: int


def records(text: memoryview, separator: bytes, start: int = 0, line: int = 1) -> Iterator[Record]:
    r"""Yield the records of a text that begin at or after the offset ``start``, without blank lines.

    Examples
    --------
    >>> text = memoryview(b'a,"b\nc"\n\n1,2')
    >>> [(record.cells, record.line) for record in records(text, b",")]
    [([b'a', b'"b\nc"'], 1), ([b'1', b'2'], 4)]
    """
    cells: list[bytes] = []
    first = line
    for match in _cell(separator).finditer(text, start):
        cell, end = match[1], match[2]
        cells.append(cell)
        if cell.startswith(b'"'):
            line += len(ANY_LINE_END.findall(cell))
        if end == separator:
            continue
        line += 1
        if cells != [b""]:
            yield Record(cells, first, match.end())
        if not end:
            return
        cells, first = [], line


def lines(text: memoryview, start: int = 0, line: int = 1) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that begin at or after the offset ``start`` and are not blank, with their numbers."""
    for number, match in enumerate(LINE.finditer(text, start), line):
        if match[1]:
            yield number, match[1]


@cache
def _cell(separator: bytes) -> re.Pattern[bytes]:
    """The pattern of a cell and what ends it; it never backtracks, so that no text takes long."""
    mark = re.escape(separator)
    quoted = QUOTED.pattern.replace(b'"(', b'"(?:', 1).replace(b'("|', b'(?:"|')  # without its groups
    plain = rb"[^" + mark + rb"\r\n]*+"
    return re.compile(b"(" + quoted + plain + b"|" + plain + b")(" + mark + b"|" + LINE_END + rb"|\Z)")


def unquoted(cell: bytes) -> bytes:
    """The text of a raw cell, without quotes.

    Examples
    --------
    >>> unquoted(b'"5"" pipe"'), unquoted(b"plain")
    (b'5" pipe', b'plain')
    """
    match = QUOTED.match(cell)
    return match[1].replace(b'""', b'"') + cell[match.end() :] if match else cell


def split_names(text: str) -> list[str]:
    """Split a list of names at its commas; a name in quotes may have commas.

    Examples
    --------
    >>> split_names("a, b"), split_names('a,"b,c"')
    (['a', 'b'], ['a', 'b,c'])
    """
    if not text:
        return [""]
    found = re.sub(r"\s*,\s*", ",", text).encode()
    return [unquoted(cell).decode() for record in records(memoryview(found), b",") for cell in record.cells]
