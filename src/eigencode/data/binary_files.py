"""Binary formats: Parquet, Arrow IPC and NPY."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from eigencode.data.binary_writers import ArrowWriter, NpyWriter, ParquetWriter, TypedWriter, stacked
from eigencode.data.contents import Content
from eigencode.data.memory import require_memory_to_decompress
from eigencode.data.table_files import BLOCK_ROWS, DEFAULT, TableFile, TextOptions, check_names, translated_errors
from eigencode.errors import DataError, FileError, OptionError, enumerated

HEAD = 2**20
"""Bytes at the beginning of an Arrow file in which pandas' description of its columns is sought."""

NPY_GROUP = 2**17
"""Rows of a part of an NPY file."""


class Parquet(TableFile):
    """Apache Parquet."""

    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        self.name, self.notes, self._size = content.name, [], content.buffer.size
        refuse_text_options(self.name, "Parquet", options, is_named=True)
        with translated_errors(self.name, "Parquet"):
            self._file = pa.parquet.ParquetFile(pa.BufferReader(content.buffer))
            self._schema = self._file.schema_arrow
            # The index of a pandas frame is stored as a column, but is not a column of the frame.
            index = (self._schema.pandas_metadata or {}).get("index_columns", [])
            self.names = [name for name in self._schema.names if name not in index]
        self.n_columns = len(self.names)

    def read(self, positions: Sequence[int], text: Sequence[int] = ()) -> pa.Table:
        """Read these columns only."""
        chosen = [self.labels[position] for position in positions]
        with translated_errors(self.name, "Parquet"):
            n_bytes = self._file.metadata.num_rows * sum(_cell_bytes(self._schema.field(name).type) for name in chosen)
            require_memory_to_decompress(n_bytes, self._size, self.name)
            # Parquet also reads columns of which a name with a point would be a part.
            return self._file.read(columns=chosen).select(chosen)

    @property
    def n_rows(self) -> int:
        return self._file.metadata.num_rows

    def groups(self, positions: Sequence[int], text: Sequence[int] = ()) -> list[tuple[int, int]]:
        """The row groups that have rows."""
        metadata = self._file.metadata
        sizes = ((group, metadata.row_group(group).num_rows) for group in range(metadata.num_row_groups))
        return [(group, n_rows) for group, n_rows in sizes if n_rows]

    def read_group(self, group: int, positions: Sequence[int], text: Sequence[int] = ()) -> Iterator[pa.Table]:
        chosen = [self.labels[position] for position in positions]
        with translated_errors(f"Row group {group} of {self.name}", "Parquet"):
            for batch in self._file.iter_batches(BLOCK_ROWS, row_groups=[group], columns=chosen, use_threads=False):
                yield pa.Table.from_batches([batch]).select(chosen)

    def types(self, group: int, positions: Sequence[int]) -> list[pa.DataType]:
        return [self._schema.field(self.labels[position]).type for position in positions]

    @staticmethod
    def writer(file: BinaryIO, first: pa.Table) -> TypedWriter:
        """Each column has its own type."""
        return ParquetWriter(file, first.schema)


class Arrow(TableFile):
    """Arrow's interprocess format, as a file or a stream; Feather is the same format."""

    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        self.name, self.notes, self._content = content.name, [], content
        refuse_text_options(self.name, "Arrow", options, is_named=True)
        with translated_errors(self.name, "Arrow IPC"):
            schema = self._read_schema()
            index = (schema.pandas_metadata or {}).get("index_columns", [])
            self._positions = [i for i, name in enumerate(schema.names) if name not in index]
            self.names = [schema.names[i] for i in self._positions]
            self._schema = schema
        self.n_columns = len(self.names)

    def _read_schema(self) -> pa.Schema:
        """The names and types of the columns; an error that names those which pandas writes and cannot read."""
        try:
            return self._batches().schema
        except TypeError as error:
            head = self._content.buffer.slice(0, min(HEAD, self._content.buffer.size)).to_pybytes()
            if (found := re.search(rb'\{"index_columns".*?"pandas_version": "[^"]*"\}', head)) is None:
                raise
            columns = json.loads(found[0])["columns"]
            names = [f"{column['name']!r}" for column in columns if column["pandas_type"] == "categorical"]
            raise DataError(
                f"{self.name} has a column whose categories are intervals, which pandas writes but cannot read again",
                got=f"the categorical columns {enumerated(names)}",
                hint="Write its cells as text, with frame[name].astype(str)",
            ) from error

    def read(self, positions: Sequence[int], text: Sequence[int] = ()) -> pa.Table:
        """Read these columns only, a batch at a time, with a check of the memory for each."""
        fields = [self._positions[position] for position in positions]
        found, size = [], 0
        with translated_errors(self.name, "Arrow IPC"):
            for batch in self._each_batch(sorted(fields)):
                batch.validate(full=True)
                size += max(batch.nbytes, sum(_cell_bytes(column.type) for column in batch.columns) * batch.num_rows)
                require_memory_to_decompress(size, self._content.buffer.size, self.name)
                found.append(batch)
            chosen = [self._schema.field(i) for i in sorted(fields)]
            table = pa.Table.from_batches(found, pa.schema(chosen))
            return table.select([sorted(fields).index(field) for field in fields])

    def _batches(self, fields: Sequence[int] | None = None) -> pa.ipc.RecordBatchFileReader:
        options = pa.ipc.IpcReadOptions(included_fields=None if fields is None else list(fields))
        is_file = self._content.starts_with(b"ARROW1")
        opened = pa.ipc.open_file if is_file else pa.ipc.open_stream
        return opened(pa.BufferReader(self._content.buffer), options=options)

    def _each_batch(self, fields: Sequence[int]) -> Iterable[pa.RecordBatch]:
        reader = self._batches(fields)
        if isinstance(reader, pa.ipc.RecordBatchFileReader):
            return (reader.get_batch(i) for i in range(reader.num_record_batches))
        return reader

    @property
    def n_rows(self) -> int:
        with translated_errors(self.name, "Arrow IPC"):
            return sum(batch.num_rows for batch in self._each_batch(self._positions[:1]))

    def groups(self, positions: Sequence[int], text: Sequence[int] = ()) -> list[tuple[int, int]]:
        """The record batches that have rows."""
        with translated_errors(self.name, "Arrow IPC"):
            sizes = enumerate(batch.num_rows for batch in self._each_batch(self._positions[:1]))
            return [(number, n_rows) for number, n_rows in sizes if n_rows]

    def read_group(self, group: int, positions: Sequence[int], text: Sequence[int] = ()) -> Iterator[pa.Table]:
        with translated_errors(f"Record batch {group} of {self.name}", "Arrow IPC"):
            fields = [self._positions[position] for position in positions]
            reader = self._batches(sorted(fields))
            is_file = isinstance(reader, pa.ipc.RecordBatchFileReader)
            batch = reader.get_batch(group) if is_file else next(islice(reader, group, None))
            batch.validate(full=True)
            table = pa.Table.from_batches([batch]).select([sorted(fields).index(field) for field in fields])
        for first in range(0, len(table), BLOCK_ROWS):
            yield table[first : first + BLOCK_ROWS]

    def types(self, group: int, positions: Sequence[int]) -> list[pa.DataType]:
        return [self._schema.field(self.labels[position]).type for position in positions]

    @staticmethod
    def writer(file: BinaryIO, first: pa.Table) -> TypedWriter:
        """An Arrow file, each column in its own type."""
        return ArrowWriter(file, first.schema)


class Npy(TableFile):
    """NumPy's format: one array without names, which is a memory map of the file."""

    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        self.name, self.notes = content.name, []
        refuse_text_options(self.name, "NPY", options)
        if content.starts_with(b"PK\x03\x04"):
            raise FileError(f"{self.name} is not NPY", got="an .npz archive", hint="Save one array with numpy.save")
        with translated_errors(self.name, "an array of numbers"):
            self._array = self._mapped(content.buffer)
        self.n_columns = self._array.shape[1]
        self.names = check_names(self.name, self.n_columns, options.names)

    def read(self, positions: Sequence[int], text: Sequence[int] = ()) -> np.ndarray:
        """The mapped array, or a copy of some columns."""
        all_in_order = list(positions) == list(range(self.n_columns))
        return self._array if all_in_order else self._array[:, list(positions)]

    @property
    def n_rows(self) -> int:
        return len(self._array)

    def groups(self, positions: Sequence[int], text: Sequence[int] = ()) -> list[tuple[int, int]]:
        """Ranges of rows, by their beginnings."""
        return [(first, min(NPY_GROUP, self.n_rows - first)) for first in range(0, self.n_rows, NPY_GROUP)]

    def read_group(self, group: int, positions: Sequence[int], text: Sequence[int] = ()) -> Iterator[np.ndarray]:
        for first in range(group, min(group + NPY_GROUP, self.n_rows), BLOCK_ROWS):
            yield self._array[first : min(first + BLOCK_ROWS, group + NPY_GROUP), list(positions)]

    def types(self, group: int, positions: Sequence[int]) -> None:
        return None

    @staticmethod
    def writer(file: BinaryIO, first: pa.Table) -> NpyWriter:
        """One array, in a type that holds all columns."""
        return NpyWriter(file, stacked(first).dtype, first.num_columns)

    def _mapped(self, buffer: pa.Buffer) -> np.ndarray:
        """The array over the file's own bytes, after checks of its header."""
        stream = pa.BufferReader(buffer)
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = reader(stream)
        self._check_header(shape, dtype)
        n_bytes, n_found = math.prod(shape) * dtype.itemsize, buffer.size - stream.tell()
        if n_bytes > n_found:
            raise FileError(f"{self.name} is cut off", got=f"{n_found} bytes of an array of {n_bytes}")
        array = np.frombuffer(buffer.slice(stream.tell(), n_bytes), dtype)
        array = array.reshape(shape, order="F" if fortran_order else "C")
        return (
            array
            if dtype.isnative and dtype.itemsize <= 8
            else array.astype(np.float64 if dtype.itemsize > 8 else dtype.newbyteorder("="))
        )

    def _check_header(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Raise an error if the array is not a table of real numbers."""
        if dtype.kind not in "iufb":
            hint = None
            if dtype.names:
                hint = "Save numpy.lib.recfunctions.structured_to_unstructured(array), or a Parquet file"
            elif dtype.kind == "O":
                hint = "Save array.astype(float)"
            raise DataError(f"{self.name} must hold real numbers", got=f"the type {dtype}", hint=hint)
        if len(shape) != 2:
            raise DataError(
                f"{self.name} must hold an array of two dimensions, rows and columns",
                got=f"the shape {shape}",
                hint="Reshape images to rows: array.reshape(len(array), -1)" if len(shape) > 2 else None,
            )
        if min(shape) < 0:
            raise FileError(f"{self.name} is damaged", got=f"the shape {shape}")


def refuse_text_options(name: str, format_name: str, options: TextOptions, *, is_named: bool = False) -> None:
    """Raise an error if options for text are given for a file of another format; ``is_named`` if it has names."""
    given = {"separator": options.separator, "decimal": options.decimal, "encoding": options.encoding}
    flags = [f"--{flag}" for flag, value in given.items() if value is not None]
    flags += ["--no-header"] if is_named and not options.header else []
    flags += ["--names"] if is_named and options.names else []
    if flags:
        raise OptionError(f"{flags[0]} is for text, or columns without names", got=f"{format_name} in {name}")


def _cell_bytes(kind: pa.DataType) -> int:
    """Bytes of a cell of an Arrow type, 8 where the width is not fixed."""
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:
        return 8
