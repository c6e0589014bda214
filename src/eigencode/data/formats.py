"""Formats: CSV, Parquet and NPY, each answering the same few questions, so that all else is written once."""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from eigencode.errors import DataError, FileError

CSV_BLOCK = 1 << 24
"""Bytes that CSV is parsed in. One line must fit: this is room for about a million columns."""


class TableFile(ABC):
    """A file of some format, of which only the header has been read.

    Attributes
    ----------
    path : Path
        The file.
    names : list of str or None
        Names of its columns, where it has them.
    n_columns : int
        Their number.
    """

    path: Path
    names: list[str] | None
    n_columns: int

    @abstractmethod
    def __init__(self, path: Path) -> None:
        """Read the header."""

    @property
    def labels(self) -> list[str]:
        """What the columns are called: their names, or else their places."""
        return self.names if self.names is not None else [str(place) for place in range(self.n_columns)]

    @abstractmethod
    def read(self, places: Sequence[int]) -> pa.Table | np.ndarray:
        """The columns at these places, whatever their type."""

    @staticmethod
    @abstractmethod
    def write(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
        """Write columns of equal length into an open file."""


class Csv(TableFile):
    """Comma-separated text in UTF-8, with or without a header line; of a file, or all that a stream held."""

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        self.path, self._content = path, content
        first, line = self._first_row()
        self.n_columns = len(first)
        self.names = None if is_row_of_numbers(first) else first
        self._lines_to_skip = 0 if self.names is None else line

    def read(self, places: Sequence[int]) -> pa.Table:
        """Parse the columns, their types by what is in them."""
        names = self.labels
        chosen = [names[place] for place in places]
        try:
            return pa.csv.read_csv(
                self.path if self._content is None else pa.BufferReader(self._content),
                pa.csv.ReadOptions(column_names=names, skip_rows=self._lines_to_skip, block_size=CSV_BLOCK),
                pa.csv.ParseOptions(newlines_in_values=True),
                pa.csv.ConvertOptions(include_columns=chosen),
            )
        except pa.ArrowInvalid as error:
            # A header with no row after it is an error to Arrow, and a table without rows to us.
            if "Empty CSV file" in str(error):
                return pa.table({name: pa.array([], pa.float64()) for name in chosen})
            self._refuse_ragged()
            raise FileError(
                f"{str(self.path)!r} cannot be read as CSV", got=f"the error {str(error).rstrip('.')}"
            ) from error

    @staticmethod
    def write(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
        """Write a header and the shortest decimals that read back as the same numbers."""
        pa.csv.write_csv(pa.table(dict(columns)), file)

    def _first_row(self) -> tuple[list[str], int]:
        """The cells of the first line that is not blank, and the number of lines up to its end."""
        for row, line in self._rows():
            return row, line
        raise DataError(f"{str(self.path)!r} is empty", hint="A CSV needs a header line, and a line for each row")

    def _rows(self) -> Iterator[tuple[list[str], int]]:
        try:
            binary = open(self.path, "rb") if self._content is None else io.BytesIO(self._content)  # noqa: SIM115
            with io.TextIOWrapper(binary, newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file)
                yield from ((row, reader.line_num) for row in reader if row)
        except UnicodeDecodeError as error:
            raise FileError(f"{str(self.path)!r} is not text in UTF-8", hint="Save it as 'CSV UTF-8'") from error

    def _refuse_ragged(self) -> None:
        """Name the first line whose number of cells is not the header's, which Arrow's threads do not know."""
        for row, line in self._rows():
            if len(row) != self.n_columns:
                raise DataError(
                    f"Every line of {str(self.path)!r} must have {self.n_columns} cells, as its first one",
                    got=f"{len(row)} in line {line}",
                )


class Parquet(TableFile):
    """Apache Parquet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pa.parquet.ParquetFile(path, memory_map=True)
        except pa.ArrowInvalid as error:
            raise FileError(
                f"{str(path)!r} cannot be read as Parquet", got=f"the error {str(error).rstrip('.')}"
            ) from error
        schema = self._file.schema_arrow
        # The index of a pandas frame is stored as a column, and is not one.
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self.names = [name for name in schema.names if name not in index]
        self.n_columns = len(self.names)

    def read(self, places: Sequence[int]) -> pa.Table:
        """Read the columns and no others."""
        names = self.labels
        return self._file.read(columns=[names[place] for place in places])

    @staticmethod
    def write(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
        """Write each column in its own type."""
        pa.parquet.write_table(pa.table(dict(columns)), file)


class Npy(TableFile):
    """NumPy's own format: one array, no names. It is mapped into memory, not read."""

    def __init__(self, path: Path) -> None:
        self.path, self.names = path, None
        try:
            self._array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FileError(
                f"{str(path)!r} cannot be read as an array of numbers", got=f"the error {str(error).rstrip('.')}"
            ) from error
        shape = self._array.shape
        if len(shape) != 2:
            raise DataError(
                f"{str(path)!r} must hold an array of two dimensions, rows and columns",
                got=f"the shape {shape}",
                hint="Images are rows once reshaped: array.reshape(len(array), -1)" if len(shape) > 2 else None,
            )
        self.n_columns = shape[1]

    def read(self, places: Sequence[int]) -> np.ndarray:
        """The mapped array, or a copy of some columns."""
        all_in_order = list(places) == list(range(self.n_columns))
        return self._array if all_in_order else self._array[:, places]

    @staticmethod
    def write(file: BinaryIO, columns: Mapping[str, np.ndarray]) -> None:
        """Write one array, in a type that holds all columns."""
        np.save(file, np.column_stack(list(columns.values())), allow_pickle=False)


FORMATS: dict[str, type[TableFile]] = {".csv": Csv, ".parquet": Parquet, ".npy": Npy}
"""Formats by the ending of their files."""


def is_row_of_numbers(cells: Sequence[str]) -> bool:
    """Whether a first line is a row and no header: numbers only, and not pandas' default names 0, 1, 2, ...

    Examples
    --------
    >>> is_row_of_numbers(["0.5", "1e3"]), is_row_of_numbers(["0.5", "x"]), is_row_of_numbers(["0", "1", "2"])
    (True, False, False)
    """
    if len(cells) > 2 and list(cells) == [str(place) for place in range(len(cells))]:
        return False
    return all(map(is_number, cells))


def is_number(cell: str) -> bool:
    """Whether text reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
