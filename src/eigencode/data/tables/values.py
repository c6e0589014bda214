"""The cells of one column of a frame, and what can be counted about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.tables import types
from eigencode.errors import CellTypeError

NUMERALS = 20
"""Numbers written as text are numbers where a column has more different ones than this, else categories."""


@dataclass(frozen=True, eq=False)
class Values:
    """The cells of one column.

    Attributes
    ----------
    name : object
        The column's name.
    cells : pa.Array
        The cells, null where there is a gap.
    dtype : str
        The type in the frame's own library, as text.
    is_mixed : bool
        Whether the cells are of several Python types; each is then its JSON text.
    native : series or None
        The column of the frame that they were read from.
    """

    name: Any
    cells: pa.Array
    dtype: str = ""
    is_mixed: bool = False
    native: Any = None

    def __len__(self) -> int:
        return len(self.cells)

    def of_rows(self, rows: np.ndarray) -> Values:
        """The same of some rows, by their numbers."""
        return Values(self.name, self.cells.take(pa.array(rows)), self.dtype, self.is_mixed)

    def or_gaps_of(self, kind: pa.DataType) -> Values:
        """The same; if all are gaps, gaps of a type: pandas has them as floats, whatever the column has elsewhere."""
        return replace(self, cells=pa.nulls(len(self), kind)) if self.n_gaps == len(self) else self

    @property
    def type(self) -> pa.DataType:
        """The Arrow type of the cells."""
        return self.cells.type

    @property
    def type_name(self) -> str:
        """The type for people: that of the frame's library, or for objects the first one's."""
        objects = self.native if self.dtype == "object" and self.native is not None else ()
        return next((type(cell).__name__ for cell in objects if cell is not None), self.dtype or str(self.type))

    @cached_property
    def kind(self) -> str:
        """The class of the type, by `types.class_of`."""
        return types.class_of(self.type)

    @cached_property
    def missing(self) -> np.ndarray:
        """Whether each cell is a gap, shape (n,)."""
        if pa.types.is_floating(self.type):
            return np.isnan(self.numbers)
        null: np.ndarray = self.cells.is_null().to_numpy(zero_copy_only=False)
        return null

    @property
    def n_gaps(self) -> int:
        """Number of gaps."""
        return int(self.missing.sum())

    @cached_property
    def n_different(self) -> int:
        """Number of different values, gaps not counted."""
        if self.kind == "number" and not pa.types.is_floating(self.type):
            return int(pc.count_distinct(self.cells).as_py())  # large integers are no floats
        if self.kind in ("number", "boolean"):
            return len(np.unique(self.present))
        return len(np.unique(self.coded[0][~self.missing]))

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How often each value occurs, as text, the most frequent first; ties in the order of the text."""
        codes, labels = self.coded[0], self.coded[1].to_pylist()
        counts = np.bincount(codes[codes >= 0], minlength=len(labels))
        present = sorted((-int(count), label) for count, label in zip(counts, labels, strict=True) if count)
        return {label: -count for count, label in present}

    @cached_property
    def coded(self) -> tuple[np.ndarray, pa.Array]:
        """The number of each cell's value, -1 for gaps, and the different values as text."""
        found = self.cells if self.kind == "category" else self.cells.dictionary_encode()
        codes = found.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        codes = np.where(self.missing, -1, codes)
        return codes, found.dictionary.cast(pa.string())

    @cached_property
    def numbers(self) -> np.ndarray:
        """The cells as numbers, NaN for gaps; float32 for types that fit into it, else float64."""
        cells = self.cells.cast(self.type.value_type) if self.kind == "category" else self.cells
        dtype = np.float32 if str(cells.type) in SINGLE else np.float64
        try:
            found = cells.cast(pa.float32() if dtype is np.float32 else pa.float64(), safe=False)
        except pa.ArrowException as error:
            raise self.unfit("numbers") from error
        values: np.ndarray = found.to_numpy(zero_copy_only=False)
        return values

    @cached_property
    def present(self) -> np.ndarray:
        """The finite numbers, in float64."""
        return self.numbers[np.isfinite(self.numbers)].astype(np.float64)

    @cached_property
    def is_number(self) -> bool:
        """Whether the cells are numbers; also as text, where there are many and none begins with an idle zero."""
        return self.kind == "number" or (self.kind == "text" and not self.is_mixed and self._are_numerals())

    @cached_property
    def time_format(self) -> str | None:
        """How the cells are written if they are times as text; None if they are none, or few different ones."""
        if self.kind != "text" or self.is_mixed or len(self.coded[1]) <= NUMERALS:
            return None
        return types.time_format(self.coded[1])

    def _are_numerals(self) -> bool:
        labels = self.coded[1]
        if len(labels) <= NUMERALS or pc.any(pc.match_substring_regex(labels, "^0[0-9]")).as_py():
            return False
        try:
            labels.cast(pa.float64())
        except pa.ArrowException:
            return False
        return True

    @cached_property
    def is_whole(self) -> bool:
        """Whether all numbers are whole, as type or, where gaps made floats of them, as values."""
        if self.kind == "number" and pa.types.is_floating(self.type) and not self.n_gaps:
            return False
        return bool(len(self.present)) and bool((self.present == np.rint(self.present)).all())

    def unfit(self, wanted: str, is_fit: Callable[[pa.Scalar], bool] | None = None) -> CellTypeError:
        """The error for a column that is not of a kind; it names the first cell that is not."""
        known, is_fit = np.flatnonzero(~self.missing).tolist(), is_fit or _is_number
        row = next((row for row in known if not is_fit(self.cells[row])), next(iter(known), 0))
        return CellTypeError(
            f"Column {self.name!r} should have {wanted}",
            got=f"{self.cells[row].as_py()!r:.60} in row {row}, of type {self.dtype or self.type}",
            hint="Correct it, or name it in 'missing_values' if it stands for a gap",
        )


SINGLE = ("float", "halffloat", "int8", "int16", "uint8", "uint16", "bool", "null")
"""Types whose values are numbers of float32."""


def _is_number(cell: pa.Scalar) -> bool:
    try:
        cell.cast(pa.float64())
    except pa.ArrowException:
        return False
    return True
