"""Windows: each row of a time series together with the rows before it, as one row."""

from __future__ import annotations

from typing import Any

import narwhals as nw
import numpy as np

from eigencode.data.containers import NamedArray
from eigencode.data.tables import Schema, as_frame
from eigencode.data.tables.labels import Boolean
from eigencode.data.tables.numeric import Number
from eigencode.data.tables.times import Clock
from eigencode.errors import OWN_COLUMNS, DataError, did_you_mean

LONGEST_STEP = 1.5
"""A longer step in time, in medians of the steps forward, is a gap."""


def without_time(X: Any, name: str | None) -> tuple[Any, np.ndarray | None]:
    """Rows without their column of times, and these times; None where there is no such column."""
    if name is None:
        return X, None
    frame = as_frame(X)
    if frame is None:
        raise DataError(f"There is no column {name!r} of times", got="an array", hint="Give a frame")
    if name not in frame.columns:
        hint = did_you_mean(name, frame.columns, OWN_COLUMNS)
        raise DataError(f"The table has no column {name!r} of times", hint=hint)
    times = frame[name]
    if times.null_count() or not (times.dtype.is_temporal() or times.dtype.is_numeric()):
        raise DataError(f"Column {name!r} must have a time or a number in each row", got=f"the type {times.dtype}")
    if not times.is_sorted():
        raise DataError(f"Rows must be in the order of {name!r}", got="a later row before an earlier one")
    numbers = times.cast(nw.Datetime("us")) if times.dtype == nw.Date else times
    return frame.drop(name).to_native(), numbers.to_numpy()


def require_numbers(schema: Schema) -> None:
    """Raise `DataError` for the first column whose cells are neither numbers nor booleans, or that has no cells."""
    for column in schema.columns:
        if not (isinstance(column.kind, Number | Boolean) and column.is_numeric):
            is_clock = isinstance(column.kind, Clock)
            raise DataError(
                "Windows are of columns of numbers and booleans",
                got=f"column {column.name!r}, {column.description}",
                hint="Leave it out" + (", or name it in 'time'" if is_clock else ""),
            )


def series_starts(n_rows: int, times: np.ndarray | None) -> np.ndarray:
    """For each row, the number of the first row of its series, which begins after each gap in time.

    Rows of the same time are no step.

    Examples
    --------
    >>> series_starts(6, np.array([0, 1, 2, 10, 11, 12])).tolist()
    [0, 0, 0, 3, 3, 3]
    >>> series_starts(7, np.array([0, 0, 0, 1, 1, 9, 9])).tolist()
    [0, 0, 0, 0, 0, 5, 5]
    """
    if times is None or n_rows < 2:
        return np.zeros(n_rows, dtype=np.int64)
    steps = np.diff(times)
    forward = steps[steps > steps.dtype.type(0)]
    longest = LONGEST_STEP * np.median(forward) if len(forward) else steps[0]
    is_start = np.concatenate([[True], steps > longest])
    return np.maximum.accumulate(np.where(is_start, np.arange(n_rows), 0))


def window_rows(starts: np.ndarray, width: int) -> np.ndarray:
    """For each row the numbers of the rows of its window, which ends with it, shape (n, width).

    The first rows of a series have the first whole window of it; a series that is shorter has its first row repeated.

    Examples
    --------
    >>> window_rows(np.array([0, 0, 0, 3]), 2).tolist()
    [[0, 1], [0, 1], [1, 2], [3, 3]]
    """
    n = len(starts)
    later = np.append(starts[1:] != starts[:-1], True)
    last = np.flatnonzero(later)[np.cumsum(later) - later]
    ends = np.minimum(np.maximum(np.arange(n), starts + width - 1), last)
    return np.maximum(ends[:, None] - np.arange(width)[::-1], starts[:, None])


def as_windows(rows: NamedArray, starts: np.ndarray, width: int) -> NamedArray:
    """The window of each row as one row, the oldest cells first; names say by how many rows they are earlier."""
    array = rows.array[window_rows(starts, width)]
    names = rows.names or [f"x{j}" for j in range(rows.n_columns)]
    lags = [f"[t-{lag}]" if lag else "[t]" for lag in range(width - 1, -1, -1)]
    return NamedArray(array.reshape(len(array), -1), [f"{name}{lag}" for lag in lags for name in names])
