"""Cells: columns of any type as numbers, or an error that names the column and shows a cell."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pyarrow as pa

from eigencode.data.sources import ArraySource
from eigencode.errors import CellTypeError, DataError

NAMED_AT_MOST = 5
"""Columns that an error names before it only counts."""

LARGEST_INTEGER = 2**64 - 1
"""The largest integer that an array can hold."""

DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)

KINDS = {
    "dates": ("columns of dates or times", "Turn them into numbers, as days since a first day, or leave them out"),
    "text": (
        "columns that are not numbers",
        "Leave them out, or make numbers of them: one column for each category, as pandas.get_dummies does",
    ),
    "numerals": ("columns of numbers written as text", "Turn them into numbers first, with .astype(float)"),
    "complex": (
        "columns of complex numbers",
        "Give real and imaginary parts as two columns. Complex data not supported",
    ),
    "large": ("integers too large for 64 bits", "Give them as floats"),
    "other": ("cells that are no numbers", "Make each a number: a float() argument must be a string or a real number"),
}
"""What a column may hold that no autoencoder can read: what it is called, and what to try."""


@dataclass(frozen=True)
class Misfit:
    """A column that cannot be read as numbers.

    Attributes
    ----------
    kind : str
        Why, a key of ``KINDS``.
    cell : object
        A cell that shows it.
    row : int or None
        The cell's row, where it is known.
    """

    kind: str
    cell: object
    row: int | None = None


def as_numbers(column: Any) -> np.ndarray | Misfit:
    """One column as an array of numbers, its gaps as NaN, or the reason why not.

    Parameters
    ----------
    column : ndarray of shape (n,), pyarrow ChunkedArray, or pandas Series
        Cells of any type.

    Returns
    -------
    ndarray of shape (n,) or Misfit
        Numbers in the column's own type; float64 for integers with gaps and for Python objects.

    Examples
    --------
    >>> as_numbers(np.array([1, None, True], dtype=object))
    array([ 1., nan,  1.])
    >>> as_numbers(np.array(["1", "?"]))
    Misfit(kind='text', cell='?', row=1)
    """
    if isinstance(column, pa.ChunkedArray):
        return _from_arrow(column)
    if not isinstance(column, np.ndarray):
        return _from_series(column)
    kind = column.dtype.kind
    if kind in "biuf":
        return column.astype(column.dtype.newbyteorder("="), copy=False)
    if kind in "mM":
        return _first("dates", column)
    if kind == "c":
        return _first("complex", column)
    return _from_objects(column.tolist(), len(column))


def stacked(columns: Sequence[Any], labels: Sequence[str], role: str) -> np.ndarray:
    """Columns side by side, shape (n, d), in the narrowest type that holds them all.

    Raises
    ------
    DataError
        Naming the columns that are no numbers, each with a cell.
    """
    read = [as_numbers(column) for column in columns]
    misfits = {label: found for label, found in zip(labels, read, strict=True) if isinstance(found, Misfit)}
    if misfits:
        raise _misfitting(misfits, role)
    numbers = [found for found in read if isinstance(found, np.ndarray)]
    array = np.empty((len(numbers[0]), len(numbers)), np.result_type(*numbers), order="F")
    for place, column in enumerate(numbers):
        array[:, place] = column
    return array


def labels_of(names: Sequence[object] | None, n_columns: int) -> list[str]:
    """What messages call each column: by its name, else by its number."""
    return [f"column {name!r}" for name in names] if names is not None else [f"column {j}" for j in range(n_columns)]


def refuse_gaps(array: np.ndarray, names: Sequence[object] | None = None, role: str = "X") -> None:
    """Raise `DataError` where a cell is NaN or infinite, naming its column and row.

    Examples
    --------
    >>> refuse_gaps(np.array([[1.0, 2.0], [np.nan, 3.0]]), ["age", "income"])
    Traceback (most recent call last):
        ...
    eigencode.errors.DataError: X has gaps (NaN). Got 1 in column 'age' (row 1, counted from 0). \
Fill them, drop their rows, or leave the columns out.
    """
    if array.dtype.kind != "f" or not array.size:
        return
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    table = array.reshape(len(array), -1)
    advice = "Fill them, drop their rows, or leave the columns out" if role == "X" else "Fill them, or drop their rows"
    for what, test in (("gaps (NaN)", np.isnan), ("infinite cells (inf)", np.isinf)):
        if counts := _counts(table, test):
            labels = labels_of(names, table.shape[1])
            found = [
                f"{count}{f' in {labels[j]}' if array.ndim == 2 else ''} ({'first in ' if count > 1 else ''}row {row})"
                for j, (count, row) in counts.items()
            ]
            found[0] = found[0].removesuffix(")") + ", counted from 0)"
            raise DataError(f"{role} has {what}", got=enumerated(found), hint=advice)


def enumerated(items: Sequence[str]) -> str:
    """A few items, and how many more there are."""
    more = f" and {len(items) - NAMED_AT_MOST} more" if len(items) > NAMED_AT_MOST else ""
    return ", ".join(items[:NAMED_AT_MOST]) + more


def _counts(table: np.ndarray, test: Any) -> dict[int, tuple[int, int]]:
    """For each column with cells that a test finds, how many and the first one's row."""
    counts: dict[int, tuple[int, int]] = {}
    done = 0
    for chunk in ArraySource(table).chunks():
        found = test(chunk)
        for j in np.flatnonzero(found.any(0)).tolist():
            count, row = counts.get(j, (0, done + int(found[:, j].argmax())))
            counts[j] = (count + int(found[:, j].sum()), row)
        done += len(chunk)
    return dict(sorted(counts.items()))


def _misfitting(misfits: dict[str, Misfit], role: str) -> DataError:
    """The error for columns that are no numbers, by the kind of the first."""
    kind = next(iter(misfits.values())).kind
    what, advice = KINDS[kind]
    shown = [
        label if found.row is None else f"{label} (as {_shown(found.cell)} in row {found.row})"
        for label, found in misfits.items()
        if found.kind == kind
    ]
    return CellTypeError(f"{role} has {what}", got=enumerated(shown), hint=advice)


def _shown(cell: object) -> str:
    """A cell as a message shows it, long ones cut; dates as they are usually written."""
    text = str(cell) if isinstance(cell, DATES) else repr(cell)
    return text if len(text) <= 60 else text[:57] + "..."


def _first(kind: str, cells: np.ndarray) -> Misfit:
    """A misfit shown by the first cell that is there, if any."""
    there = np.flatnonzero(~np.isnat(cells)) if kind == "dates" else np.arange(len(cells))
    row = int(there[0]) if len(there) else None
    return Misfit(kind, None if row is None else cells[row], row)


def _from_arrow(column: pa.ChunkedArray) -> np.ndarray | Misfit:
    """An Arrow column; nulls become NaN."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _from_arrow(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if pa.types.is_dictionary(kind) and _is_number(kind.value_type):
        return _from_arrow(column.cast(kind.value_type))
    if pa.types.is_temporal(kind):
        return _telling("dates", column)
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


def _telling(kind: str, column: pa.ChunkedArray) -> Misfit:
    """A misfit shown by an Arrow column's first cell that is there."""
    for row, cell in enumerate(column):
        if cell.is_valid:
            return Misfit(kind, str(cell), row)
    return Misfit(kind, None)


def _from_series(column: Any) -> np.ndarray | Misfit:
    """A column of a pandas frame."""
    kind = column.dtype
    if type(kind).__name__ == "SparseDtype":
        column = column.sparse.to_dense()
        kind = column.dtype
    if hasattr(kind, "pyarrow_dtype"):
        found = pa.array(column.array)
        return _from_arrow(found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found]))
    if hasattr(kind, "categories"):
        # Categories of integers with gaps have no integer type to become.
        is_number = kind.categories.dtype.kind in "biuf"
        wanted = np.float64 if is_number and column.hasnans else kind.categories.dtype if is_number else object
        return as_numbers(column.to_numpy(wanted))
    if kind.kind in "mM" or type(kind).__name__ in ("PeriodDtype", "IntervalDtype"):
        there = np.flatnonzero(column.notna())
        return Misfit("dates", column.iloc[there[0]], int(there[0])) if len(there) else Misfit("dates", None)
    if kind.kind in "biuf" and hasattr(kind, "numpy_dtype"):
        has_gaps = bool(column.isna().any())
        wanted = np.dtype(np.float64) if has_gaps and kind.kind != "f" else kind.numpy_dtype
        return column.to_numpy(wanted, na_value=np.nan) if has_gaps else column.to_numpy(wanted)
    return as_numbers(np.asarray(column) if kind.kind in "biufc" else column.to_numpy(object))


def _from_objects(cells: Iterable[Any], n_cells: int) -> np.ndarray | Misfit:
    """Python objects as float64, None and pandas' NA as NaN; what cannot be one is shown."""
    numbers, numeral = np.full(n_cells, np.nan), None
    for row, cell in enumerate(cells):
        if is_missing(cell):
            continue
        found = _number(cell)
        if isinstance(found, float):
            numbers[row] = found
        elif found != "numerals":
            return Misfit(found, cell, row)
        elif numeral is None:
            numeral = Misfit(found, cell, row)
    return numbers if numeral is None else numeral


def _number(cell: Any) -> float | str:
    """A cell as a float, or the kind of misfit that it is."""
    if isinstance(cell, str | bytes):
        return "numerals" if _reads_as_number(cell) else "text"
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


def _reads_as_number(cell: str | bytes) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_missing(cell: Any) -> bool:
    """Whether a Python object stands for a gap: None, NaN, or pandas' marks."""
    pandas = sys.modules.get("pandas")
    is_nan = isinstance(cell, float | np.floating) and bool(np.isnan(cell))
    return cell is None or is_nan or (pandas is not None and (cell is pandas.NA or cell is pandas.NaT))
