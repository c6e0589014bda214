"""Gaps: NaN in scaled rows becomes hidden cells of a batch; columns that may have none are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencode.batch import Batch
from eigencode.data.cells import column_labels
from eigencode.data.sources import CACHED_CELLS, ArraySource, over_chunks
from eigencode.errors import DataError, enumerated

if TYPE_CHECKING:
    from torch import Tensor

NONFINITE = {"gaps": "gaps (NaN)", "infinite": "infinite cells (inf)"}
"""Kinds of cells that are no finite numbers, and what messages call them."""


def missing_values_of(estimator: Any) -> tuple[Any, ...]:
    """The values that stand for gaps in the rows of an estimator, or of the one that it was given."""
    given = getattr(getattr(estimator, "_given", estimator), "missing_values", None)
    if isinstance(given, Sequence) and not isinstance(given, str):
        return tuple(given)
    return () if given is None else (given,)


def with_gaps(array: np.ndarray, missing_values: Sequence[Any]) -> np.ndarray:
    """An array of numbers with NaN instead of the values that stand for gaps."""
    values = np.array([value for value in missing_values if not isinstance(value, str)])
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            narrow = values.astype(array.dtype)  # -99.9 has other digits in float32
        values = narrow[np.isinf(narrow) == np.isinf(values.astype(np.float64))]  # those for which it has room
    is_gap = np.isin(array, values) if len(values) else np.False_
    return np.where(is_gap, np.nan, array) if is_gap.any() else array


def hide_gaps(x: Tensor, weight: Tensor | None = None) -> Batch:
    """Scaled rows as a batch whose hidden cells are the gaps (NaN); without gaps its mask is None.

    Examples
    --------
    >>> import torch
    >>> hide_gaps(torch.tensor([[1.0, float("nan")]]))
    Batch(x=tensor([[1., 0.]]), observed=tensor([[ True, False]]), weight=None)
    """
    observed = ~x.isnan() if bool(x.sum().isnan()) else None  # a sum needs no memory
    return Batch(x, None if observed is None or observed.all() else observed, weight)


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
    if array.dtype.kind != "f" or not array.size:
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
    is_streamed = hasattr(array, "read_chunks")  # it is not read for this alone
    if array.dtype.kind != "f" or is_streamed:
        return
    is_empty = np.ones(array.shape[1], dtype=bool)
    for chunk in ArraySource(array, CACHED_CELLS).chunks():
        if not is_empty.any():
            return
        is_empty &= np.isnan(chunk).all(0)
    if is_empty.any():
        labels = column_labels(range(array.shape[1]) if names is None else names)
        found = enumerated([labels[j] for j in np.flatnonzero(is_empty).tolist()])
        raise DataError("X has columns without any number", got=found, hint="Leave them out")


def has_numbers(array: np.ndarray) -> bool:
    """Whether some cell of an array is no gap."""
    return any(not np.isnan(chunk).all() for chunk in ArraySource(array).chunks())


def find_nonfinite(table: np.ndarray) -> dict[str, dict[int, tuple[int, int]]]:
    """Find the NaN and infinite cells of a table of shape (n, d), reading it a chunk at a time.

    Returns, under "gaps" (NaN) and "infinite", the count of such cells and the row of the first, for each column number
    that has such cells.
    """
    found: dict[str, dict[int, tuple[int, int]]] = {"gaps": {}, "infinite": {}}
    if table.dtype.kind != "f" or _is_finite(table):
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


def _is_finite(array: np.ndarray) -> bool:
    """Whether all cells are finite: the smallest and the largest are NaN if any cell is."""
    ends = over_chunks(lambda chunk: (chunk.min(initial=0), chunk.max(initial=0)), ArraySource(array))
    return all(np.isfinite(low) and np.isfinite(high) for low, high in ends)
