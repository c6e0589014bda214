"""Tables written to binary files one after the other, in types that later cells may widen."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet

from eigencode.data.cells import column_labels, stack_columns
from eigencode.data.table_files import BLOCK_ROWS
from eigencode.data.tables import types
from eigencode.errors import CellTypeError, DataError


class TypedWriter(ABC):
    """Writes one table after the other in the types of the first, or in wider ones that later cells need.

    Whole numbers that are followed by fractions need floats, and booleans that are followed by other numbers than 0 and
    1 need numbers: all rows before are then written again.
    """

    def __init__(self, file: BinaryIO, schema: Any) -> None:
        self._file, self._n_rows = file, 0
        self._begin(schema)

    @abstractmethod
    def _begin(self, schema: Any) -> None:
        """Begin to write to the file."""

    @abstractmethod
    def _end(self) -> None:
        """Write what completes the file."""

    @abstractmethod
    def _read(self, file: BinaryIO) -> Iterator[Any]:
        """The rows of such a file that is complete, a few at a time."""

    @abstractmethod
    def _widened(self, rows: Any) -> Any:
        """The types in which all rows can be written, these among them; None if those of the file hold them."""

    @abstractmethod
    def _write(self, rows: Any) -> None:
        """Write rows in the types of the file; an error if a cell does not fit."""

    @staticmethod
    def _rows_of(table: pa.Table) -> Any:
        """The rows of a table as they are written."""
        return table

    def write_table(self, table: pa.Table) -> None:
        """Write the rows; an error if a cell does not fit into a type that the rows before have, or can have."""
        rows = self._rows_of(table)
        if self._n_rows and (wider := self._widened(rows)) is not None:
            self._write_again(wider)
        self._write(rows)
        self._n_rows += len(rows)

    def _write_again(self, schema: Any) -> None:
        """Write all rows once more, in other types."""
        self._end()
        with tempfile.TemporaryFile() as before:
            self._file.seek(0)
            shutil.copyfileobj(self._file, before)
            self._file.seek(0)
            self._file.truncate()
            self._begin(schema)
            before.seek(0)
            for rows in self._read(before):
                self._write(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()


class ColumnsWriter(TypedWriter):
    """The same where each column has a type of its own."""

    _schema: pa.Schema
    _writer: pa.parquet.ParquetWriter | pa.ipc.RecordBatchFileWriter

    def _end(self) -> None:
        self._writer.close()

    def _widened(self, rows: pa.Table) -> pa.Schema | None:
        schema = self._schema
        for number, (column, field) in enumerate(zip(rows.columns, self._schema, strict=True)):
            if not self._holds(column, field) and _is_like(column.type, field.type):
                schema = schema.set(number, field.with_type(column.type))
        return None if schema is self._schema else schema

    def _holds(self, column: pa.ChunkedArray, field: pa.Field) -> bool:
        """Whether the type of a column can hold further cells with all their digits."""
        with suppress(pa.ArrowException):
            return column.type == field.type or types.keeps_digits(column, field.type)
        return False

    def _write(self, rows: pa.Table) -> None:
        columns = [self._checked(column, field) for column, field in zip(rows.columns, self._schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def _checked(self, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
        try:
            return self._in_type_of(column, field)
        except pa.ArrowException as error:
            raise DataError(
                f"A column of such a file has one type, and {field.name!r} has another one from row {self._n_rows} on",
                got=f"{column.type} and {field.type}",
                hint="Give that column one type that holds all its cells, or write a .csv file",
            ) from error

    def _in_type_of(self, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
        """A column in the type that it has in the file."""
        return column if column.type == field.type else types.cast(column, field.type)


def _is_like(kind: pa.DataType, other: pa.DataType) -> bool:
    """Whether two types are of one class, or the second one is that of gaps alone, or of booleans before numbers."""
    before, now = types.class_of(other), types.class_of(kind)
    return before in (now, "nothing") or (before, now) == ("boolean", "number")


class ParquetWriter(ColumnsWriter):
    """The same for Parquet."""

    def _begin(self, schema: pa.Schema) -> None:
        self._schema, self._writer = schema, pa.parquet.ParquetWriter(self._file, schema)

    def _read(self, file: BinaryIO) -> Iterator[pa.Table]:
        for batch in pa.parquet.ParquetFile(file).iter_batches(BLOCK_ROWS, use_threads=False):
            yield pa.Table.from_batches([batch])


class ArrowWriter(ColumnsWriter):
    """The same for Arrow files, in which a column of categories has one list of labels, to which more may be added."""

    def _begin(self, schema: pa.Schema) -> None:
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._schema, self._writer = schema, pa.ipc.new_file(self._file, schema, options=options)
        self._labels: dict[str, pa.Array] = {}

    def _read(self, file: BinaryIO) -> Iterator[pa.Table]:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(number)])

    def _in_type_of(self, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
        kind = field.type
        if not pa.types.is_dictionary(kind):
            return super()._in_type_of(column, field)
        found = super()._in_type_of(column, field).combine_chunks()
        labels = self._labels.setdefault(field.name, found.dictionary)
        if not labels.equals(found.dictionary):
            new = found.dictionary.filter(pc.invert(pc.is_in(found.dictionary, labels)))
            if len(new) and not len(labels):
                raise pa.ArrowInvalid("Nothing can be added to an empty list of labels")
            labels = self._labels[field.name] = pa.concat_arrays([labels, pc.unique(new)])
            codes = pc.index_in(found.cast(kind.value_type), labels).cast(kind.index_type)
            found = pa.DictionaryArray.from_arrays(codes, labels, ordered=kind.ordered)
        return pa.chunked_array([found])


def stacked(table: pa.Table) -> np.ndarray:
    """The numbers of a table, in a type that holds those of all columns."""
    try:
        return stack_columns(table.columns, column_labels(table.column_names), "The table")
    except CellTypeError as error:
        hint = "An NPY file has numbers only: write a .parquet, .arrow or .csv file"
        raise CellTypeError(error.what, got=error.got, hint=hint) from error


class NpyWriter(TypedWriter):
    """The same for the rows of one array; the number of rows is set in the header at the end."""

    def __init__(self, file: BinaryIO, dtype: np.dtype, n_columns: int) -> None:
        self._n_columns = n_columns
        super().__init__(file, dtype)

    def _begin(self, schema: np.dtype) -> None:
        self._dtype = schema
        self._write_header(0)

    def _write_header(self, n_rows: int) -> None:
        # Headers of arrays that may grow have room for the digits of the number of rows.
        given = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(self._file, {**given, "shape": (n_rows, self._n_columns)})

    def _end(self) -> None:
        self._file.seek(0)
        self._write_header(self._n_rows)
        self._file.seek(0, 2)

    def _read(self, file: BinaryIO) -> Iterator[np.ndarray]:
        np.lib.format.read_magic(file)
        dtype = np.lib.format.read_array_header_1_0(file)[2]
        while cells := file.read(BLOCK_ROWS * self._n_columns * dtype.itemsize):
            yield np.frombuffer(cells, dtype).reshape(-1, self._n_columns)

    @staticmethod
    def _rows_of(table: pa.Table) -> np.ndarray:
        return stacked(table)

    def _widened(self, rows: np.ndarray) -> np.dtype | None:
        dtype = np.result_type(rows.dtype, self._dtype)
        return None if dtype == self._dtype else dtype

    def _write(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
