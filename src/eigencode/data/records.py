"""Records: the lines and cells of delimited text, as pyarrow's parser takes them, for headers and for messages.

Rows are never read this way: pyarrow parses them.
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
"""A cell in quotes, in which two of them are one of its letters, and which may not end."""

OPENING = re.compile(rb"(?<![^\r\n,;\t| ])" + QUOTED.pattern)
"""A quoted cell, whatever the separator may be."""


@dataclass(frozen=True)
class Record:
    """One row of text: the raw cells, the number of its first line, and where the next one begins.

    Attributes
    ----------
    cells : list of bytes
        As they are written, quotes and all.
    line : int
        Number of its first line, counted from 1.
    end : int
        Offset of the first byte after it.
    """

    cells: list[bytes]
    line: int
    end: int


def records(text: memoryview, separator: bytes, start: int = 0, line: int = 1) -> Iterator[Record]:
    r"""The records of a text from an offset on, without its blank lines.

    Examples
    --------
    >>> [(record.cells, record.line) for record in records(memoryview(b'a,"b\nc"\n\n1,2'), b",")]
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
    """The lines of a text from an offset on that are not blank, with their numbers."""
    for number, match in enumerate(LINE.finditer(text, start), line):
        if match[1]:
            yield number, match[1]


@cache
def _cell(separator: bytes) -> re.Pattern[bytes]:
    """A cell and what ends it. Nothing in it is tried twice, so that no text takes long."""
    plain = rb"[^" + re.escape(separator) + rb"\r\n]*+"
    return re.compile(
        b"(" + _whole(QUOTED.pattern) + plain + b"|" + plain + b")(" + re.escape(separator) + b"|" + LINE_END + rb"|\Z)"
    )


def _whole(pattern: bytes) -> bytes:
    """A pattern without its groups."""
    return pattern.replace(b'"(', b'"(?:', 1).replace(b'("|', b'(?:"|')


def unquoted(cell: bytes) -> bytes:
    """What a raw cell says.

    Examples
    --------
    >>> unquoted(b'"5"" pipe"'), unquoted(b"plain")
    (b'5" pipe', b'plain')
    """
    match = QUOTED.match(cell)
    return match[1].replace(b'""', b'"') + cell[match.end() :] if match else cell


def split_words(word: str) -> list[str]:
    """The names in a list with commas, in which quotes keep a comma from separating.

    Examples
    --------
    >>> split_words("a, b"), split_words('a,"b,c"')
    (['a', 'b'], ['a', 'b,c'])
    """
    if not word:
        return [""]
    found = re.sub(r"\s*,\s*", ",", word).encode()
    return [unquoted(cell).decode() for record in records(memoryview(found), b",") for cell in record.cells]
