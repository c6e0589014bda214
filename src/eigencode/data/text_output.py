"""Tables written as delimited text."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from eigencode.data.tables import types

WRITTEN = 1 << 16
"""Rows that are written at a time."""


class CsvWriter:
    """Writes a header, and the rows of one table after the other; only cells that need quotes have them."""

    def __init__(self, file: BinaryIO, names: Sequence[str], separator: str) -> None:
        self._file, self._separator = file, separator
        if any(_needs_quotes(pa.chunked_array([[name]]), separator) for name in names):
            self._write_quoted([names])
        else:
            file.write((separator.join(names) + "\n").encode())

    def write_table(self, table: pa.Table) -> None:
        """Write the rows."""
        for first in range(0, table.num_rows, WRITTEN):
            part = table.slice(first, WRITTEN)
            texts = [_as_text(column) for column in part.columns]
            if any(
                _needs_quotes(text, self._separator)
                for text, kind in zip(texts, part.schema.types, strict=True)
                if types.class_of(kind) not in ("number", "boolean", "time")
            ):
                self._write_quoted(zip(*(text.cast(pa.string()).to_pylist() for text in texts), strict=True))
            else:
                # pyarrow quotes the names in the header, whatever the style of the cells is.
                options = pa.csv.WriteOptions(include_header=False, delimiter=self._separator, quoting_style="none")
                pa.csv.write_csv(pa.table(texts, names=table.column_names), self._file, options)

    def _write_quoted(self, rows: Iterable[Iterable[object]]) -> None:
        """Quote the cells that need it; pyarrow would quote all text."""
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=self._separator, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to write."""


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in a type that pyarrow writes as text: categories by their values, True and False, 2.0."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _as_text(column.cast(kind.value_type))
    if pa.types.is_boolean(kind):
        return pc.if_else(column, "True", "False")
    if pa.types.is_floating(kind):
        text = column.cast(pa.float32()).cast(pa.string()) if kind == pa.float16() else column.cast(pa.string())
        is_whole = pc.match_substring_regex(text, r"^-?\d+$")
        return pc.if_else(is_whole, pc.binary_join_element_wise(text, ".0", ""), text)
    if types.class_of(kind) in ("number", "text", "time", "nothing"):
        return column
    return pa.chunked_array([[None if cell is None else str(cell) for cell in column.to_pylist()]], pa.string())


def _needs_quotes(column: pa.ChunkedArray, separator: str) -> bool:
    """Whether a cell of text has a separator, a quote, or the end of a line."""
    found = pc.match_substring_regex(column.cast(pa.string()), f'["\r\n{separator}]')
    return bool(pc.any(found).as_py())
