"""Parts of a text that end with a record, and the types of columns that are parsed a part at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

NEWLINE, RETURN, QUOTE = b'\n\r"'


@dataclass(frozen=True)
class Piece:
    """A part of a text: its bytes, the number of its first row, and the types of columns by their numbers."""

    begin: int
    end: int
    first_row: int
    types: Mapping[str, pa.DataType]


def pieces(text: pa.Buffer, begin: int, size: int) -> Iterator[tuple[int, int]]:
    r"""Begin and end of the parts of a text, each of about so many bytes; each ends with a record.

    Examples
    --------
    >>> list(pieces(pa.py_buffer(b'1,2\n3,"4\n"\n5,6\n'), begin=0, size=9))
    [(0, 4), (4, 11), (11, 15)]
    """
    cells = np.frombuffer(text, np.uint8)
    while begin < len(cells):
        end = min(begin + size, len(cells))
        while end < len(cells) and not (found := _last_end(cells[begin:end])):
            end = min(end + size, len(cells))  # a record that is longer
        if end < len(cells):
            end = begin + found
            end += int(cells[end - 1] == RETURN and cells[end] == NEWLINE)
        yield begin, end
        begin = end


def _last_end(part: np.ndarray) -> int:
    """The number of bytes up to the last end of a line outside of quotes, 0 if there is none."""
    is_end, is_quote = (part == NEWLINE) | (part == RETURN), part == QUOTE
    if is_quote.any():
        is_end &= np.cumsum(is_quote, dtype=np.uint8) % 2 == 0
    return len(part) - int(is_end[::-1].argmax()) if is_end.any() else 0


def may_have_long_record(text: pa.Buffer, block: int) -> bool:
    """Whether a record may be longer than a block: half a block of text has no line's end outside of quotes."""
    cells, is_quoted, half = np.frombuffer(text, np.uint8), False, block // 2
    for begin in range(0, len(cells) - half if len(cells) > block else 0, half):
        part = cells[begin : begin + half]
        within = (np.cumsum(part == QUOTE, dtype=np.uint8) % 2).astype(bool) ^ is_quoted
        if not (((part == NEWLINE) | (part == RETURN)) & ~within).any():
            return True
        is_quoted = bool(within[-1])
    return False


def wider(kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type of a column that has cells of two types, as pyarrow infers it for both together.

    Examples
    --------
    >>> (
    ...     wider(pa.int64(), pa.float64()),
    ...     wider(pa.null(), pa.date32()),
    ...     wider(pa.int64(), pa.bool_()),
    ... )
    (DataType(double), DataType(date32[day]), DataType(string))
    """
    if kind == other or pa.types.is_null(other):
        return kind
    if pa.types.is_null(kind):
        return other
    if {kind, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    times = [each for each in (kind, other) if pa.types.is_timestamp(each)]
    if times and all(pa.types.is_timestamp(each) or pa.types.is_date(each) for each in (kind, other)):
        zones = {each.tz for each in times}
        if len(zones) == 1:
            return pa.timestamp("ns" if any(each.unit == "ns" for each in times) else times[0].unit, zones.pop())
    return pa.string()
