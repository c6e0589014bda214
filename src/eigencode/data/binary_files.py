"""Binary formats: Parquet, Arrow IPC and NPY."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from eigencode.data.contents import Content
from eigencode.data.memory import require_room
from eigencode.data.table_files import DEFAULT, TableFile, TextOptions, foreign_errors, named_or_refused
from eigencode.errors import DataError, FileError, OptionError


class Parquet(TableFile):
    """Apache Parquet."""

    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        self.name, self.notes, self._size = content.name, [], content.buffer.size
        refuse_text_options(self.name, "Parquet", options, is_named=True)
        with foreign_errors(self.name, "Parquet"):
            self._file = pa.parquet.ParquetFile(pa.BufferReader(content.buffer))
            self._schema = self._file.schema_arrow
            # The index of a pandas frame is stored as a column, and is not one.
            index = (self._schema.pandas_metadata or {}).get("index_columns", [])
            self.names = [name for name in self._schema.names if name not in index]
        self.n_columns = len(self.names)

    def read(self, positions: Sequence[int]) -> pa.Table:
        """Read the columns and no others."""
        chosen = [self.labels[position] for position in positions]
        with foreign_errors(self.name, "Parquet"):
            n_rows = self._file.metadata.num_rows
            require_room(n_rows * sum(_width(self._schema.field(name).type) for name in chosen), self._size, self.name)
            # A name with a point could be part of another column, which is read with it.
            return self._file.read(columns=chosen).select(chosen)

    @staticmethod
    def write(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
        """Write each column in its own type."""
        pa.parquet.write_table(pa.table(dict(columns)), file)


class Arrow(TableFile):
    """Arrow's interprocess format, which Feather is too: a file or a stream."""

    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        self.name, self.notes, self._content = content.name, [], content
        refuse_text_options(self.name, "Arrow", options, is_named=True)
        with foreign_errors(self.name, "Arrow IPC"):
            schema = self._batches().schema
            index = (schema.pandas_metadata or {}).get("index_columns", [])
            self._positions = [i for i, name in enumerate(schema.names) if name not in index]
            self.names = [schema.names[i] for i in self._positions]
            self._schema = schema
        self.n_columns = len(self.names)

    def read(self, positions: Sequence[int]) -> pa.Table:
        """Read the columns and no others, a batch at a time, as memory for them lasts."""
        fields = [self._positions[position] for position in positions]
        found, size = [], 0
        with foreign_errors(self.name, "Arrow IPC"):
            for batch in self._each_batch(sorted(fields)):
                batch.validate(full=True)
                size += max(batch.nbytes, sum(_width(column.type) for column in batch.columns) * batch.num_rows)
                require_room(size, self._content.buffer.size, self.name)
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

    @staticmethod
    def write(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
        """Write an Arrow file, each column in its own type."""
        table = pa.table(dict(columns))
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)


class Npy(TableFile):
    """NumPy's own format: one array, without names. It is mapped into memory, not read."""

    def __init__(self, content: Content, options: TextOptions = DEFAULT) -> None:
        self.name, self.notes = content.name, []
        refuse_text_options(self.name, "NPY", options)
        if content.starts_with(b"PK\x03\x04"):
            raise FileError(f"{self.name} is not NPY", got="an .npz archive", hint="Save one array with numpy.save")
        with foreign_errors(self.name, "an array of numbers"):
            self._array = self._mapped(content.buffer)
        self.n_columns = self._array.shape[1]
        self.names = named_or_refused(self.name, self.n_columns, options.names)

    def read(self, positions: Sequence[int]) -> np.ndarray:
        """The mapped array, or a copy of some columns."""
        all_in_order = list(positions) == list(range(self.n_columns))
        return self._array if all_in_order else self._array[:, list(positions)]

    @staticmethod
    def write(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
        """Write one array, in a type that holds all columns."""
        np.save(file, np.column_stack(list(columns.values())), allow_pickle=False)

    def _mapped(self, buffer: pa.Buffer) -> np.ndarray:
        """The array over the file's own bytes."""
        stream = pa.BufferReader(buffer)
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = reader(stream)
        self._refuse(shape, dtype)
        n_bytes, there = math.prod(shape) * dtype.itemsize, buffer.size - stream.tell()
        if n_bytes > there:
            raise FileError(f"{self.name} is cut off", got=f"{there} bytes of an array of {n_bytes}")
        array = np.frombuffer(buffer.slice(stream.tell(), n_bytes), dtype)
        array = array.reshape(shape, order="F" if in_columns else "C")
        return array if dtype.isnative and dtype.itemsize <= 8 else array.astype(_native(dtype))

    def _refuse(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Refuse what is no table of real numbers."""
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
                hint="Images are rows once reshaped: array.reshape(len(array), -1)" if len(shape) > 2 else None,
            )
        if min(shape) < 0:
            raise FileError(f"{self.name} is damaged", got=f"the shape {shape}")


def refuse_text_options(name: str, format_name: str, options: TextOptions, *, is_named: bool = False) -> None:
    """Refuse what is said of text about a file that is none."""
    given = {"separator": options.separator, "decimal": options.decimal, "encoding": options.encoding}
    flags = [f"--{flag}" for flag, value in given.items() if value is not None]
    flags += ["--no-header"] if is_named and not options.header else []
    flags += ["--names"] if is_named and options.names else []
    if flags:
        raise OptionError(f"{flags[0]} is for text, or columns without names", got=f"{format_name} in {name}")


def _width(kind: pa.DataType) -> int:
    """Bytes of a cell, about."""
    try:
        return max(kind.bit_width // 8, 1)
    except ValueError:
        return 8


def _native(dtype: np.dtype) -> np.dtype:
    """The machine's own type of the same numbers, of 8 bytes at most."""
    return np.dtype(np.float64) if dtype.itemsize > 8 else dtype.newbyteorder("=")
