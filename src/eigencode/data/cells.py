"""Columns of any type converted to numbers, and errors that name the columns that cannot be, each with a cell."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa

from eigencode.data.sources import ArraySource
from eigencode.errors import CellTypeError, DataError, enumerated

LARGEST_INTEGER = 2**64 - 1
"""The largest integer that an array can hold."""

DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)

MIXED = "Pass a data frame, as of pandas.DataFrame(X), whose columns may be of any type; or leave them out"

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


NONFINITE = {"gaps": "gaps (NaN)", "infinite": "infinite cells (inf)"}
"""Kinds of cells that are no finite numbers, and what messages call them."""


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


def refuse_gaps(array: np.ndarray, names: Sequence[object] | None = None, role: str = "X") -> None:
    """Raise `DataError` if an array has NaN or infinite cells; the message names their columns and first rows.

    Examples
    --------
    >>> refuse_gaps(np.array([[1.0, 2.0], [np.nan, 3.0]]), ["age", "income"])
    Traceback (most recent call last):
        ...
    eigencode.errors.DataError: X has gaps (NaN). Got 1 in column 'age' (row 1, counted from 0). \
Fill them, drop their rows, or leave the columns out.
    """
    _refuse(NONFINITE, array, names, role)


def refuse_infinite(array: np.ndarray, names: Sequence[object] | None = None, role: str = "X") -> None:
    """Raise `DataError` if an array has infinite cells; the message names their columns and first rows.

    Examples
    --------
    >>> refuse_infinite(np.array([[1.0, np.nan], [np.inf, 3.0]]))
    Traceback (most recent call last):
        ...
    eigencode.errors.DataError: X has infinite cells (inf). Got 1 in column 0 (row 1, counted from 0). \
Fill them, drop their rows, or leave the columns out.
    """
    _refuse({"infinite": NONFINITE["infinite"]}, array, names, role)


def _refuse(kinds: Mapping[str, str], array: np.ndarray, names: Sequence[object] | None, role: str) -> None:
    """Raise an error if an array has cells of some kinds."""
    if array.dtype.kind != "f" or not array.size or _has_finite_sum(array):
        return
    table = array if array.ndim == 2 else array.reshape(len(array), -1)
    nonfinite = find_nonfinite(table)
    advice = "Fill them, drop their rows, or leave the columns out" if role == "X" else "Fill them, or drop their rows"
    for kind, what in kinds.items():
        if counts := nonfinite[kind]:
            labels = column_labels(range(table.shape[1]) if names is None else names)
            found = [
                f"{count}{f' in {labels[j]}' if array.ndim == 2 else ''} ({'first in ' if count > 1 else ''}row {row})"
                for j, (count, row) in counts.items()
            ]
            found[0] = found[0].removesuffix(")") + ", counted from 0)"
            raise DataError(f"{role} has {what}", got=enumerated(found), hint=advice)


def refuse_empty_columns(array: np.ndarray, names: Sequence[object] | None = None) -> None:
    """Raise `DataError` if all cells of some columns are gaps (NaN); the message names these columns.

    Examples
    --------
    >>> refuse_empty_columns(np.array([[1.0, np.nan], [np.nan, np.nan]]), ["age", "income"])
    Traceback (most recent call last):
        ...
    eigencode.errors.DataError: X has columns without any number. Got column 'income'. Leave them out.
    """
    if array.dtype.kind != "f" or _has_finite_sum(array):
        return
    is_empty = np.all([np.isnan(chunk).all(0) for chunk in ArraySource(array).chunks()], axis=0)
    if is_empty.any():
        labels = column_labels(range(array.shape[1]) if names is None else names)
        found = enumerated([labels[j] for j in np.flatnonzero(is_empty).tolist()])
        raise DataError("X has columns without any number", got=found, hint="Leave them out")


def find_nonfinite(table: np.ndarray) -> dict[str, dict[int, tuple[int, int]]]:
    """Find the NaN and infinite cells of a table of shape (n, d), reading it a chunk at a time.

    Returns, under "gaps" (NaN) and "infinite", the count of such cells and the row of the first, for each column number
    that has such cells.
    """
    found: dict[str, dict[int, tuple[int, int]]] = {"gaps": {}, "infinite": {}}
    if table.dtype.kind != "f" or _has_finite_sum(table):
        return found
    start = 0
    for chunk in ArraySource(table).chunks():
        for kind, mask in (("gaps", np.isnan(chunk)), ("infinite", np.isinf(chunk))):
            counts, rows = mask.sum(0), mask.argmax(0)
            for j in np.flatnonzero(counts).tolist():
                count, row = found[kind].get(j, (0, start + int(rows[j])))
                found[kind][j] = count + int(counts[j]), row
        start += len(chunk)
    return {kind: dict(sorted(counts.items())) for kind, counts in found.items()}


def _has_finite_sum(array: np.ndarray) -> bool:
    """A quick test: if the sum is finite, all cells are."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(array.sum(dtype=np.float64)))


def _non_numeric_error(wrong: dict[str, NonNumeric], role: str) -> DataError:
    """The error for columns that are not numbers, about all those of the first one's kind."""
    kind = next(iter(wrong.values())).kind
    what, advice = KINDS[kind]
    shown = [
        label if found.row is None else f"{label} (as {_cell_text(found.cell)} in row {found.row})"
        for label, found in wrong.items()
        if found.kind == kind
    ]
    return CellTypeError(f"{role} has {what}", got=enumerated(shown), hint=advice)


def _cell_text(cell: object) -> str:
    """A cell as a message shows it: at most 60 characters, dates as they are usually written."""
    text = str(cell) if isinstance(cell, DATES) else repr(cell)
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
