"""Columns of any type converted to numbers, and errors that name the columns that cannot be, each with a cell."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa

from eigencode.errors import CellTypeError, DataError, enumerated

LARGEST_INTEGER = 2**64 - 1
"""The largest integer that an array can hold."""

DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)

MIXED = "Pass a data frame, as of pandas.DataFrame(X), whose columns may be of any type; or leave them out"

NUMBERS = "Only numbers can be used here: correct these cells, or leave them out"

KINDS = {
    "dates": ("columns of dates or times", MIXED),
    "text": ("columns that are not numbers", MIXED),
    "numerals": ("columns of numbers written as text", "Turn them into numbers first, with .astype(float)"),
    "complex": (
        "columns of complex numbers",
        "Give real and imaginary parts as two columns. Complex data not supported",
    ),
    "large": ("integers too large for 64 bits", "Give them as floats"),
    "other": ("cells that are not numbers", "Make each a number: a float() argument must be a string or a real number"),
}
"""Kinds of columns that cannot be read as numbers: the description and the hint in the error."""


@dataclass(frozen=True)
class NonNumeric:
    """Why a column cannot be converted to numbers: a key of ``KINDS``; the first such cell and its row, if known."""

    kind: str
    cell: object
    row: int | None = None


def as_numbers(column: Any) -> np.ndarray | NonNumeric:
    """Convert a column (an array, an Arrow column or a pandas Series) to numbers, or say why that is not possible.

    The array has the column's own type, with NaN for gaps; float64 for integers with gaps and for Python objects.

    Examples
    --------
    >>> as_numbers(np.array([1, None, True], dtype=object))
    array([ 1., nan,  1.])
    >>> as_numbers(np.array(["1", "?"]))
    NonNumeric(kind='text', cell='?', row=1)
    """
    if isinstance(column, pa.ChunkedArray):
        return _from_arrow(column)
    if not isinstance(column, np.ndarray):
        return _from_series(column)
    kind = column.dtype.kind
    if kind in "biuf":
        return column.astype(column.dtype.newbyteorder("="), copy=False)
    if kind in "mM":
        return _first_cell("dates", column)
    if kind == "c":
        return _first_cell("complex", column)
    return _from_objects(column.tolist(), len(column))


def stack_columns(columns: Sequence[Any], labels: Sequence[str], role: str) -> np.ndarray:
    """Convert d columns of n cells to one array of shape (n, d), in the narrowest type that holds all of them.

    `CellTypeError` names the columns that are not numbers by their ``labels``, and the table by its ``role``.
    """
    read = [as_numbers(column) for column in columns]
    wrong = {label: found for label, found in zip(labels, read, strict=True) if isinstance(found, NonNumeric)}
    if wrong:
        raise _non_numeric_error(wrong, role)
    numbers = [found for found in read if isinstance(found, np.ndarray)]
    array = np.empty((len(numbers[0]), len(numbers)), np.result_type(*numbers), order="F")
    for j, column in enumerate(numbers):
        array[:, j] = column
    return array


def column_labels(names: Iterable[object]) -> list[str]:
    """What messages call each column, by its name or number."""
    return [f"column {name!r}" for name in names]


def _non_numeric_error(wrong: dict[str, NonNumeric], role: str) -> DataError:
    """The error for columns that are not numbers, about all those of the first one's kind."""
    kind = next(iter(wrong.values())).kind
    what, advice = KINDS[kind]
    shown = [
        label if found.row is None else f"{label} (as {_cell_text(found.cell)} in row {found.row})"
        for label, found in wrong.items()
        if found.kind == kind
    ]
    if advice == MIXED and (role != "X" or any("'" in label for label in wrong)):
        advice = NUMBERS  # a frame of any columns is no help
    return CellTypeError(f"{role} has {what}", got=enumerated(shown), hint=advice)


def _cell_text(cell: object) -> str:
    """A cell as a message shows it: at most 60 characters, dates as they are usually written."""
    text = str(cell) if isinstance(cell, DATES) else repr(cell.item() if isinstance(cell, np.generic) else cell)
    return text if len(text) <= 60 else text[:57] + "..."


def _first_cell(kind: str, cells: np.ndarray) -> NonNumeric:
    """The first cell that is not missing, if there is one."""
    rows = np.flatnonzero(~np.isnat(cells)) if kind == "dates" else np.arange(len(cells))
    row = int(rows[0]) if len(rows) else None
    return NonNumeric(kind, None if row is None else cells[row], row)


def _from_arrow(column: pa.ChunkedArray) -> np.ndarray | NonNumeric:
    """Convert an Arrow column; nulls become NaN."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _from_arrow(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if pa.types.is_dictionary(kind) and _is_number(kind.value_type):
        return _from_arrow(column.cast(kind.value_type))
    if pa.types.is_temporal(kind):
        return _first_valid("dates", column)
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8()) if column.null_count else column
    elif not _is_number(kind):
        return _from_objects((cell.as_py() for cell in column), len(column))
    if column.null_count and pa.types.is_integer(column.type):
        column = column.cast(pa.float64(), safe=False)
    return column.to_numpy()


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _first_valid(kind: str, column: pa.ChunkedArray) -> NonNumeric:
    """The first cell of an Arrow column that is not null, if there is one."""
    for row, cell in enumerate(column):
        if cell.is_valid:
            return NonNumeric(kind, str(cell), row)
    return NonNumeric(kind, None)


def _from_series(column: Any) -> np.ndarray | NonNumeric:
    """Convert a column of a pandas frame."""
    kind = column.dtype
    if type(kind).__name__ == "SparseDtype":
        column = column.sparse.to_dense()
        kind = column.dtype
    if hasattr(kind, "pyarrow_dtype"):
        found = pa.array(column.array)
        return _from_arrow(found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found]))
    if hasattr(kind, "categories"):
        # Integers have no value for gaps, so categories of integers with gaps become floats.
        is_number = kind.categories.dtype.kind in "biuf"
        dtype = np.float64 if is_number and column.hasnans else kind.categories.dtype if is_number else object
        return as_numbers(column.to_numpy(dtype))
    if kind.kind in "mM" or type(kind).__name__ in ("PeriodDtype", "IntervalDtype"):
        rows = np.flatnonzero(column.notna())
        return NonNumeric("dates", column.iloc[rows[0]], int(rows[0])) if len(rows) else NonNumeric("dates", None)
    if kind.kind in "biuf" and hasattr(kind, "numpy_dtype"):
        has_gaps = bool(column.isna().any())
        dtype = np.dtype(np.float64) if has_gaps and kind.kind != "f" else kind.numpy_dtype
        return column.to_numpy(dtype, na_value=np.nan) if has_gaps else column.to_numpy(dtype)
    return as_numbers(np.asarray(column) if kind.kind in "biufc" else column.to_numpy(object))


def _from_objects(cells: Iterable[Any], n_cells: int) -> np.ndarray | NonNumeric:
    """Convert Python objects to float64, with NaN for None and pandas' NA."""
    numbers, numeral = np.full(n_cells, np.nan), None
    for row, cell in enumerate(cells):
        if is_missing(cell):
            continue
        found = _number(cell)
        if isinstance(found, float):
            numbers[row] = found
        elif found != "numerals":
            return NonNumeric(found, cell, row)
        elif numeral is None:
            numeral = NonNumeric(found, cell, row)
    return numbers if numeral is None else numeral


def _number(cell: Any) -> float | str:
    """A cell as a float, or the reason why it is none, a key of ``KINDS``."""
    if isinstance(cell, str | bytes):
        try:
            float(cell)
        except ValueError:
            return "text"
        return "numerals"
    if isinstance(cell, DATES) or hasattr(cell, "ordinal"):
        return "dates"
    if isinstance(cell, complex | np.complexfloating):
        return "complex"
    if isinstance(cell, Integral) and abs(int(cell)) > LARGEST_INTEGER:
        return "large"
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return "other"


def is_missing(cell: Any) -> bool:
    """Whether a Python object is a missing value: None, NaN, or pandas' NA and NaT."""
    pandas = sys.modules.get("pandas")
    is_nan = isinstance(cell, float | np.floating) and bool(np.isnan(cell))
    return cell is None or is_nan or (pandas is not None and (cell is pandas.NA or cell is pandas.NaT))
