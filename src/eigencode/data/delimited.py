"""Delimited text: CSV and its relatives, as spreadsheets and programs write them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from eigencode.data.contents import Content, in_arrow_memory
from eigencode.data.dialects import GAPS, SAMPLE_LINES, SEPARATORS, detect_dialect, gap_cells
from eigencode.data.memory import require_memory
from eigencode.data.records import ANY_LINE_END, QUOTED, Record, lines, records, unquoted
from eigencode.data.table_files import (
    BLOCK_ROWS,
    DEFAULT,
    READ_LESS,
    SHOWN_AT_MOST,
    TableFile,
    TextOptions,
    check_names,
    translated_errors,
)  # fmt: skip
from eigencode.data.text_output import CsvWriter
from eigencode.data.text_pieces import Piece, may_have_long_record, pieces, wider
from eigencode.errors import DataError, FileError, OptionError, did_you_mean
from eigencode.words import counted

BLOCK = 1 << 24
"""Bytes of the blocks in which text is parsed, by several threads."""

LARGEST_BLOCK = (1 << 31) - 1
"""Bytes of one block at most, into which a record must fit."""

CODE = re.compile(rb"[ \t]*0\d+[ \t]*")
"""A number with a zero before it, which is no number but a code."""

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the first bytes of a text; UTF-32 before UTF-16, whose mark is the beginning of UTF-32's."""

ENCODINGS = (
    "utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "mac-roman", "shift-jis", "gb18030",
)  # fmt: skip
"""Encodings that hints name."""

BINARY = {
    b"PK\x03\x04": "a zip archive, as .xlsx and .npz files are",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"PAR1\x15": "Parquet",
    b"ARROW1\0\0": "Arrow IPC",
    b"\x93NUMPY": "NPY",
    b"\x89HDF": "HDF5",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
    **dict.fromkeys((b"\x1f\x8b", b"BZh91AY&SY", b"\x28\xb5\x2f\xfd"), "a compressed file in a compressed file"),
    b"\xfd7zXZ": "a file compressed by xz",
    b"\x7fELF": "a program",
}
"""Files that are not text, by their first bytes."""

MARKUP = {b'{"': "JSON", b"[{": "JSON", b"<html": "a web page", b"<!DOCTYPE": "a web page", b"<?xml": "XML"}
"""Texts that are not tables, by their first bytes."""

WIDE = 1000
"""Number of columns from which a list of gaps for each column takes more memory than a copy of the text."""

CELL_BYTES = 8
"""Bytes of a parsed cell."""


class Csv(TableFile):
    """Text with a separator between cells, in any of the usual dialects."""

    separator = ","
    """The separator that the ending of the file stands for."""

    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        self.name, self.notes, self.options = content.name, [], options
        self._refuse_binary(content)
        self._buffer = self._in_utf8(content, options.encoding)
        self._text = memoryview(self._buffer)
        self._dialect = detect_dialect(self._text, options, self.separator)
        self._separator = self._dialect.separator.encode()
        first = next(self._records(), None)
        if first is None:
            raise DataError(f"{self.name} is empty", hint="A table needs names of its columns, and rows")
        self._note_dialect(options, first)
        cells = first.cells
        if len(cells) == 1:
            several = "write one character, such as a comma, between cells instead of several spaces"
            one = "name the character between cells with --separator"
            self.hint_on_cells = several if b"  " in cells[0].strip() else one
        has_extra_cell = self._dialect.trailing and not cells[-1]
        self.n_columns = len(cells) - has_extra_cell
        self.names = check_names(self.name, self.n_columns, options.names)
        if not options.header or options.names:
            if not any(self._dialect.is_number(unquoted(cell)) for cell in cells):
                self.hint_on_header = "If the first line has names, leave out --no-header and --names"
        elif self.names is None:
            self.names = [self._decoded(cell, first.line, i).strip() for i, cell in enumerate(cells[: self.n_columns])]
            self._note_numbers(cells[: self.n_columns], first.line)
            n_lines = len(ANY_LINE_END.findall(self._text, self._dialect.start, first.end))
            self._dialect = replace(self._dialect, start=first.end, line=self._dialect.line + n_lines)

    # -- the header

    def _refuse_binary(self, content: Content) -> None:
        if kind := next((kind for magic, kind in BINARY.items() if content.starts_with(magic)), None):
            hint = "Unpack it first" if "compressed" in kind else "Give it the ending of its format, or save it as CSV"
            raise FileError(f"{self.name} is not text", got=kind, hint=hint)
        if kind := next((kind for magic, kind in MARKUP.items() if content.starts_with(magic)), None):
            raise FileError(f"{self.name} is not text with a separator", got=kind, hint="Save the table as CSV")

    def _in_utf8(self, content: Content, encoding: str | None) -> pa.Buffer:
        """The text in UTF-8, without a byte order mark."""
        buffer = content.buffer
        mark = next((mark for mark in BYTE_ORDER_MARKS if content.starts_with(mark)), b"")
        if encoding is None and BYTE_ORDER_MARKS.get(mark, "utf-8") != "utf-8":
            encoding = BYTE_ORDER_MARKS[mark]
            self.notes.append(f"read as text in {encoding.upper()}")
        if encoding is None or _is_utf8(encoding):
            self._refuse_utf16(content)
            return buffer.slice(len(mark) if mark == codecs.BOM_UTF8 else 0)
        self.is_mapped = False
        require_memory(4 * buffer.size, f"Reading {self.name}", "Save it as text in UTF-8")
        try:
            content_bytes = buffer.to_pybytes()
            decoded = content_bytes.decode(encoding).removeprefix("\ufeff").encode()
            if b"\n" in content_bytes and not ANY_LINE_END.search(decoded):
                raise UnicodeError("no line of it ends")
            return in_arrow_memory([decoded])
        except LookupError as error:
            raise _no_such_encoding(encoding) from error
        except (UnicodeError, OverflowError) as error:
            raise FileError(
                f"{self.name} is not text in {encoding}",
                got=f"the error {str(error)[:SHOWN_AT_MOST]}",
                hint=f"Try another --encoding: {', '.join(ENCODINGS[:4])}",
            ) from error

    def _refuse_utf16(self, content: Content) -> None:
        """UTF-16 without a byte order mark has a zero byte beside every ASCII character."""
        head = content.buffer.slice(0, min(content.buffer.size, 4096)).to_pybytes()
        for encoding, zeros, others in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
            if zeros.count(0) > len(zeros) / 2 and not others.count(0):
                hint = f"It seems to be UTF-16: read it with --encoding {encoding}"
                raise FileError(f"{self.name} is not text in UTF-8", got="zeros between its characters", hint=hint)

    def _decoded(self, cell: bytes, line: int, position: int) -> str:
        if found := re.search(rb"[\x00-\x08\x0e-\x1f]", cell):
            hint = "It may be damaged, or have another format"
            raise FileError(f"{self.name} is not text", got=f"the byte {found[0][0]:#04x} in line {line}", hint=hint)
        try:
            return unquoted(cell).decode()
        except UnicodeDecodeError as error:
            raise self._not_utf8(error, line, f"column {position + 1}") from error

    def _not_utf8(self, error: UnicodeDecodeError, line: int, column: str) -> FileError:
        bad, shown = error.object[error.start], error.object[:40].decode("latin-1")
        return FileError(
            f"{self.name} is not text in UTF-8",
            got=f"the byte {bad:#04x} in line {line}, {column}, which is {shown!r} in Latin-1",
            hint="Read it with --encoding latin-1, or save it as 'CSV UTF-8'",
        )

    def _note_dialect(self, options: TextOptions, first: Record) -> None:
        """Note the separator and the decimal mark that were detected."""
        dialect, found = self._dialect, []
        if options.separator is None and dialect.separator != self.separator and len(first.cells) > 1:
            found.append(f"separator {SEPARATORS.get(dialect.separator, repr(dialect.separator))}")
        if options.decimal is None and dialect.decimal == ",":
            found.append("decimal comma")
        if found:
            self.notes.append(f"read with {' and '.join(found)}")

    def _note_numbers(self, cells: Sequence[bytes], line: int) -> None:
        """Note that the line of names has numbers, and so may be a row."""
        numbers = [cell for cell in map(unquoted, cells) if self._dialect.is_number(cell)]
        if numbers:
            self.hint_on_header = "If the first line is a row, give --no-header or --names"
            what = "numbers" if len(numbers) == len(cells) else f"a number ({numbers[0].decode().strip()})"
            self.notes.append(
                f"line {line}, which has {what}, was read as the names of the columns; "
                "if it is a row, give --no-header or --names"
            )

    # -- the rows

    def read(self, positions: Sequence[int], text: Sequence[int] = ()) -> pa.Table:
        """Parse the columns; the types of those that are not named as text are inferred from their cells."""
        require_memory(2 * CELL_BYTES * self.n_rows * len(positions), f"Reading {self.name}", READ_LESS)
        whole = Piece(self._dialect.start, self._buffer.size, 0, self._text_types(text))
        return self._read_piece(whole, positions, self._refuse_open_quote)

    def groups(self, positions: Sequence[int], text: Sequence[int] = ()) -> list[tuple[Piece, int]]:
        """Parts of the text, each with the types of the columns in all of them, for which it is parsed once."""
        self._refuse_open_quote()
        given, found, first = self._text_types(text), [], 0
        kinds: dict[str, pa.DataType] = {}
        for begin, end in pieces(self._buffer, self._dialect.start, BLOCK):
            table = self._read_piece(Piece(begin, end, first, given), positions)
            for position, kind in zip(positions, table.schema.types, strict=True):
                kinds[str(position)] = wider(kinds.get(str(position), pa.null()), kind)
            found.append((Piece(begin, end, first, kinds), len(table)))
            first += len(table)
        return [(piece, n_rows) for piece, n_rows in found if n_rows]

    def read_group(self, group: Piece, positions: Sequence[int], text: Sequence[int] = ()) -> Iterator[pa.Table]:
        table = self._read_piece(group, positions)
        for first in range(0, len(table), BLOCK_ROWS):
            yield table[first : first + BLOCK_ROWS]

    def types(self, group: Piece, positions: Sequence[int]) -> list[pa.DataType]:
        return [group.types[str(position)] for position in positions]

    def _text_types(self, text: Sequence[int]) -> dict[str, pa.DataType]:
        """The type of the columns whose cells stay text, by their numbers."""
        named = (i for i, label in enumerate(self.labels) if label in self.options.text)
        return {str(position): pa.string() for position in {*text, *self._codes(), *named}}

    def _read_piece(self, piece: Piece, positions: Sequence[int], check: Callable[[], None] = lambda: None) -> pa.Table:
        """Parse columns of a part of the text, and check the cells after another check."""
        extra = [str(self.n_columns)] if self._dialect.trailing else []
        chosen = [str(position) for position in positions]
        table = self._parsed(piece, chosen + extra)
        check()
        if extra and table.num_columns and table[extra[0]].null_count < table.num_rows:
            row = piece.first_row + pc.index(pc.is_valid(table[extra[0]]), True).as_py()
            what = f"Every line of {self.name} must have {counted(self.n_columns, 'cell')}, as the first line has"
            raise DataError(what, got=f"one more in {self.where([row])[0]}")
        self._refuse_bytes(table, positions, piece.first_row)
        return table.select(chosen).rename_columns([self.labels[position] for position in positions])

    def _codes(self) -> set[int]:
        """Columns that have cells such as 01234 in the first lines: codes, whose zeros would be lost in numbers."""
        sampled = (record.cells for record in islice(self._records(), SAMPLE_LINES))
        return {i for cells in sampled for i, cell in enumerate(cells) if CODE.fullmatch(unquoted(cell))}

    def _parsed(self, piece: Piece, chosen: list[str]) -> pa.Table:
        data = self._buffer.slice(piece.begin, piece.end - piece.begin)
        with translated_errors(self.name, "CSV"):
            try:
                return self._parsed_in_blocks(data, chosen, piece.types)
            except pa.ArrowInvalid as error:
                if "Empty CSV file" in str(error):
                    return pa.table({name: pa.array([], pa.float64()) for name in chosen})
                self._refuse_ragged()
                raise

    def _parsed_in_blocks(
        self, data: pa.Buffer, chosen: list[str], column_types: Mapping[str, pa.DataType]
    ) -> pa.Table:
        names = [str(position) for position in range(self.n_columns + self._dialect.trailing)]
        # Many versions of pyarrow never return if threads read a record that is longer than a block.
        is_long = may_have_long_record(data, BLOCK)
        block = min(data.size, LARGEST_BLOCK) if is_long else BLOCK
        return pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(column_names=names, block_size=block, use_threads=not is_long),
            pa.csv.ParseOptions(delimiter=self._dialect.separator, newlines_in_values=True),
            pa.csv.ConvertOptions(
                include_columns=chosen,
                column_types=dict(column_types),
                decimal_point=self._dialect.decimal,
                null_values=self._gap_cells(),
                strings_can_be_null=True,
            ),
        )

    def _gap_cells(self) -> list[str]:
        """Cells that mean a gap; for a wide table, only those in the text, since pyarrow copies the list per column."""
        gaps = (*GAPS, *self.options.gaps)
        if self.n_columns < WIDE:
            return gap_cells(gaps)
        text = bytes(self._text)
        return gap_cells([gap for gap in gaps if gap.encode() in text])

    @cached_property
    def n_rows(self) -> int:
        """Number of rows, by the length of the first ones."""
        sampled = list(islice(self._records(), 100))
        n_bytes = self._buffer.size - self._dialect.start
        return n_bytes * len(sampled) // (sampled[-1].end - self._dialect.start) if sampled else 0

    def where(self, rows: Sequence[int]) -> list[str]:
        """The lines in which these rows begin, as 'line 3'."""
        asked, found = set(rows), {}
        for row, line in enumerate(self._first_lines()):
            if row in asked:
                found[row] = f"line {line}"
                if len(found) == len(asked):
                    break
        return [found.get(row, f"row {row + 1}") for row in rows]

    def _records(self) -> Iterator[Record]:
        return records(self._text, self._separator, self._dialect.start, self._dialect.line)

    def _first_lines(self) -> Iterator[int]:
        """Numbers of the lines in which rows begin."""
        if self._n_quotes():
            return (record.line for record in self._records())
        return (number for number, _ in lines(self._text, self._dialect.start, self._dialect.line))

    def _n_quotes(self) -> int:
        return sum(bytes(self._text[i : i + BLOCK]).count(b'"') for i in range(0, len(self._text), BLOCK))

    # -- errors

    def _refuse_ragged(self) -> None:
        """Raise an error that names the first line of another length; pyarrow's threads do not know its number."""
        n_cells = self.n_columns + self._dialect.trailing
        for record in self._records():
            if len(record.cells) != n_cells:
                raise DataError(
                    f"Every line of {self.name} must have {counted(n_cells, 'cell')}, as the first line has",
                    got=f"{len(record.cells)} in line {record.line}",
                    hint=self._hint_on_lines(record),
                )

    def _hint_on_lines(self, record: Record) -> str:
        """A hint for a line of another length: it may be no row, or the separator may be wrong."""
        is_number = all(self._dialect.is_number(unquoted(cell)) for cell in record.cells)
        if self.n_columns == 1 and not (is_number and len(record.cells) == 2):
            return "If the first line is a title or a comment, remove it"
        if record.cells[0].lstrip().startswith((b"#", b"//")):
            return "Remove lines of comments"
        if self.n_columns == 1 and self._dialect.separator == ",":
            return "If a comma is the decimal mark, give --decimal ,"
        mark = SEPARATORS.get(self._dialect.separator, repr(self._dialect.separator))
        return f"If the cells are not separated by a {mark}, name the separator with --separator"

    def _refuse_open_quote(self) -> None:
        """Raise an error if a quote is never closed, since all lines after it are then read as one cell."""
        if self._n_quotes() % 2 == 0:
            return
        for record in self._records():
            for cell in record.cells:
                match = QUOTED.match(cell)
                if match and not match[2]:
                    raise DataError(f"{self.name} has a cell whose quote is not closed", got=f"line {record.line}")

    def _refuse_bytes(self, table: pa.Table, positions: Sequence[int], first_row: int) -> None:
        """Raise an error that shows the first cell that is not text in UTF-8."""
        for position in positions:
            column = table[str(position)]
            for row, cell in enumerate(column.to_pylist() if pa.types.is_binary(column.type) else ()):
                try:
                    (cell or b"").decode()
                except UnicodeDecodeError as error:
                    line = int(self.where([first_row + row])[0].split()[1])
                    raise self._not_utf8(error, line, f"column {self.labels[position]!r}") from error

    @classmethod
    def writer(cls, file: BinaryIO, first: pa.Table) -> CsvWriter:
        """A header and the shortest decimals that read back as the same numbers."""
        return CsvWriter(file, first.column_names, cls.separator)


class Tsv(Csv):
    """Text with tabs between cells."""

    separator = "\t"


def _is_utf8(encoding: str) -> bool:
    """Whether an encoding is UTF-8 under one of its names."""
    try:
        return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    except (LookupError, ValueError, TypeError) as error:
        raise _no_such_encoding(encoding) from error


def _no_such_encoding(encoding: str) -> OptionError:
    hint = did_you_mean(encoding, ENCODINGS)
    return OptionError("There is no such encoding of text", got=repr(encoding), hint=hint)
