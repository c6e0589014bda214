"""Containers: rows, labels or weights of any common type, converted to an array and the names of its columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import scipy.sparse

from eigencode.data.cells import as_numbers, column_labels, stack_columns
from eigencode.data.images import ImageLayout
from eigencode.data.tables.compact import followed_by, rows_of
from eigencode.errors import CellTypeError, DataError
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.data.tables import Schema

WHAT_TO_PASS = "Pass a NumPy array, a pandas, polars or Arrow table, or a torch tensor"


@dataclass(frozen=True)
class NamedArray:
    """An array of numbers, and the names of its columns where they have any.

    Attributes
    ----------
    array : ndarray
        Numbers in the narrowest type that holds all columns; gaps are NaN.
    names : list of str or None
        One for each column.
    layout : ImageLayout or None
        The layout of the images that the rows were, if they were images.
    schema : Schema or None
        What the columns are, if the rows were a frame and the array has its cells.
    frame : frame or None
        The frame that the rows were.
    """

    array: np.ndarray
    names: list[str] | None = None
    layout: ImageLayout | None = None
    schema: Schema | None = None
    frame: Any = None

    @property
    def n_columns(self) -> int:
        """Number of columns, which of a frame of mixed columns differs from that of the cells in the array."""
        return self.array.shape[1] if self.schema is None else len(self.schema.columns)

    @property
    def is_mixed(self) -> bool:
        """Whether the array has the cells of a frame of mixed columns."""
        return self.schema is not None and not self.schema.is_plain

    def __getitem__(self, rows: slice | np.ndarray) -> NamedArray:
        """Some of the rows, by their numbers or as a slice."""
        return replace(self, array=rows_of(self.array, rows), frame=None if self.frame is None else self.frame[rows])

    def followed_by(self, numbers: np.ndarray) -> NamedArray:
        """The cells with further columns behind them, in float64 as labels may be large."""
        return NamedArray(followed_by(self.array, numbers.astype(np.float64)))

    @property
    def cell_names(self) -> list[str] | None:
        """A name for each column of the array, if there are any."""
        return self.schema.cell_names if self.schema is not None and self.is_mixed else self.names


def read(X: Any, role: str = "X") -> NamedArray:
    """Convert any container (an array, a frame, a tensor, nested lists) to an array and the names of its columns.

    The array has any shape, shares memory with ``X`` if possible, and has NaN for gaps. `CellTypeError` names the
    columns that have anything else: dates, text, objects. ``role`` is what messages call ``X``.

    Examples
    --------
    >>> import pyarrow as pa
    >>> found = read(pa.table({"age": [30, None], "height": [1.8, 1.6]}))
    >>> found.names, found.array.tolist()
    (['age', 'height'], [[30.0, 1.8], [nan, 1.6]])
    """
    if isinstance(X, NamedArray):
        return X
    if _is_pandas(X, "DataFrame"):
        return _from_pandas(X, role)
    if isinstance(X, pa.RecordBatchReader):
        X = X.read_all()
    refuse_non_tables(X, role)
    if (table := _as_arrow(X)) is not None:
        return _from_arrow(table, role)
    return NamedArray(_as_numeric(as_array(X, role), role, label_of(X)))


def as_array(X: Any, role: str = "X") -> np.ndarray:
    """Convert anything but a data frame to an array of any type, which may be text."""
    if isinstance(X, torch.Tensor):
        return _from_tensor(X, role)
    refuse_non_tables(X, role)
    if isinstance(X, list | tuple) and len(X) and all(isinstance(row, torch.Tensor) for row in X):
        X = [_from_tensor(row, role) for row in X]
    if isinstance(X, np.ma.MaskedArray):
        return _with_masked_gaps(X)
    if isinstance(X, pa.Array):
        X = pa.chunked_array([X])
    if isinstance(X, pa.ChunkedArray) or _is_pandas(X, "Series"):
        found = as_numbers(X)
        return found if isinstance(found, np.ndarray) else np.array([*X.to_numpy(), None], dtype=object)[:-1]
    try:
        array = np.asarray(X)
    except Exception as error:  # a container of another library can raise anything in its own conversion
        raise DataError(f"{role} cannot be read as an array", got=_why_not(X, error), hint=WHAT_TO_PASS) from error
    # NumPy turns numbers beside text into text; as objects, the cells stay what they are.
    return np.array(X, dtype=object) if array.dtype.kind in "US" and isinstance(X, list | tuple) else array


def label_of(X: Any) -> str:
    """What messages call a single column: the name that a series or a frame has for it, if it has one."""
    columns: Any = getattr(X, "column_names", getattr(X, "columns", ()))
    name = columns[0] if len(columns) == 1 else getattr(X, "name", None)
    return f"column {name!r}" if isinstance(name, str) and name else "a cell"


def _as_numeric(array: np.ndarray, role: str, label: str = "a cell") -> np.ndarray:
    """Convert an array of any type to numbers in the same shape, or raise an error that names a cell."""
    if array.dtype.names is not None:
        hint = "Use numpy.lib.recfunctions.structured_to_unstructured, or a pandas DataFrame"
        raise CellTypeError(f"{role} is a structured array", got=f"the type {array.dtype}", hint=hint)
    if array.dtype.kind in "biuf":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 2 and array.shape[1]:
        return stack_columns(list(array.T), column_labels(range(array.shape[1])), role)
    return stack_columns([array.ravel()], [label], role)[:, 0].reshape(array.shape)


def _is_pandas(X: Any, kind: str) -> bool:
    """Whether an object is a pandas DataFrame or Series; pandas is not imported."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(X, getattr(pandas, kind))


def _from_pandas(frame: Any, role: str) -> NamedArray:
    names = names_of(list(frame.columns), role)
    kinds = set(frame.dtypes)
    if len(kinds) == 1 and isinstance(kind := kinds.pop(), np.dtype) and kind.kind in "biuf":
        return NamedArray(_as_numeric(frame.to_numpy(), role), names)
    if not frame.shape[1]:
        return NamedArray(np.empty(frame.shape), names)
    columns = [frame.iloc[:, j] for j in range(frame.shape[1])]
    return NamedArray(stack_columns(columns, column_labels(frame.columns), role), names)


def names_of(columns: list[Any], role: str = "X") -> list[str] | None:
    """Names of columns by scikit-learn's rule: all are strings, or the columns have no names."""
    n_strings = sum(isinstance(name, str) for name in columns)
    if 0 < n_strings < len(columns):
        odd = next(name for name in columns if not isinstance(name, str))
        raise CellTypeError(
            "Feature names are only supported if all input features have string names",
            got=f"the name {odd!r} beside {n_strings} strings in {role}",
            hint="Use X.columns = X.columns.astype(str)",
        )
    return [str(name) for name in columns] if n_strings else None


def _as_arrow(X: Any) -> pa.Table | None:
    """Convert a table of another library to an Arrow table, over the same memory if possible; None for other types."""
    if isinstance(X, pa.Table):
        return X
    if isinstance(X, np.ndarray | torch.Tensor | pa.Array | pa.ChunkedArray) or not hasattr(X, "columns"):
        return pa.Table.from_batches([X]) if isinstance(X, pa.RecordBatch) else None
    try:
        if hasattr(X, "__arrow_c_stream__") or hasattr(X, "__arrow_c_array__"):
            return pa.table(X)
        if hasattr(X, "__dataframe__"):
            from pyarrow.interchange import from_dataframe

            return from_dataframe(X)
    except (pa.ArrowException, TypeError, ValueError, RuntimeError) as error:
        raise DataError("The table cannot be read", got=f"the error {error}", hint=WHAT_TO_PASS) from error
    return None


def _from_arrow(table: pa.Table, role: str) -> NamedArray:
    names = [str(name) for name in table.column_names]
    if not names:
        return NamedArray(np.empty((table.num_rows, 0)))
    return NamedArray(stack_columns(table.columns, column_labels(names), role), names)


def _from_tensor(tensor: Tensor, role: str) -> np.ndarray:
    """Convert a tensor to an array, from any device and with or without a gradient."""
    if tensor.layout != torch.strided or tensor.is_nested:
        kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise CellTypeError(
            f"{role} is a sparse or nested tensor, but dense data is required",
            got=f"the layout {kind}",
            hint="Use .to_dense(), or .to_padded_tensor(0.0) of a nested one",
        )
    if tensor.is_complex():
        hint = "Give real and imaginary parts as two columns. Complex data not supported"
        raise CellTypeError(f"{role} has complex numbers", got=f"the type {tensor.dtype}", hint=hint)
    try:
        values = tensor.detach().cpu()
        if values.is_quantized:
            values = values.dequantize()
        # NumPy has no bfloat16, and no floats narrower than float16.
        if values.is_floating_point() and values.dtype not in (torch.float16, torch.float32, torch.float64):
            values = values.float()
        return values.resolve_neg().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise DataError(f"{role} is a tensor whose values cannot be read", got=f"the error {error}") from error


def refuse_non_tables(X: Any, role: str) -> None:
    """Raise `DataError` for types that are not tables, with a hint for each."""
    if isinstance(X, torch.Tensor | np.ndarray):
        return
    for test, what, hint in NON_TABLES:
        if test(X):
            raise CellTypeError(f"{role} is {what}, not a table of numbers", got=f"a {type(X).__name__}", hint=hint)


NON_TABLES: tuple[tuple[Callable[[Any], bool], str, str], ...] = (
    (lambda X: X is None, "nothing", WHAT_TO_PASS),
    (lambda X: isinstance(X, type), "a class", WHAT_TO_PASS),
    (
        lambda X: isinstance(X, str | bytes | os.PathLike),
        "a string or a path",
        "Read the file first, as with pandas.read_csv or numpy.load",
    ),
    (lambda X: "LazyFrame" in type(X).__name__, "a query that has not run", "Use X.collect()"),
    (
        lambda X: isinstance(X, torch.utils.data.Dataset | torch.utils.data.DataLoader),
        "a source of blocks",
        "Give each block to partial_fit, as in `for block in loader: model.partial_fit(block)`, or stack them all into "
        "one tensor",
    ),
    (scipy.sparse.issparse, "a sparse matrix", "Sparse data was passed, but dense data is required: use X.toarray()"),
    (lambda X: type(X).__name__.endswith("DatasetDict"), "several datasets", "Choose one, as with X['train']"),
    (lambda X: isinstance(X, Mapping), "a mapping", "Use pandas.DataFrame(X), or pandas.DataFrame([X]) of one row"),
    (
        lambda X: isinstance(X, list | tuple) and len(X) > 0 and isinstance(X[0], Mapping),
        "a list of mappings",
        "Use pandas.DataFrame(X)",
    ),
    (
        lambda X: isinstance(X, Iterator | set | frozenset),
        "an iterator or set",
        "Make a list of it: list(X), or give each block to partial_fit",
    ),
    (lambda X: hasattr(X, "dask") or hasattr(X, "compute"), "a query that has not run", "Use X.compute()"),
    (lambda X: hasattr(X, "toPandas"), "a query that has not run", "Use X.toPandas()"),
)
"""Types that are not tables: a test for each, what the message calls it, and the hint."""


def _with_masked_gaps(X: np.ma.MaskedArray) -> np.ndarray:
    """The cells of a masked array, with NaN in those that are masked."""
    masked = np.ma.getmaskarray(X)
    if not masked.any():
        return X.data
    found = X.data.astype(X.dtype if X.dtype.kind == "f" else np.float64 if X.dtype.kind in "biu" else object)
    found[masked] = np.nan
    return found


def _why_not(X: Any, error: Exception) -> str:
    """Why nested lists cannot become an array: a row of another length, else NumPy's error."""
    lengths = [len(row) if isinstance(row, Sized) else 0 for row in X] if isinstance(X, list | tuple) else []
    odd = next((row for row, length in enumerate(lengths) if length != lengths[0]), None)
    return f"the error {error}" if odd is None else f"{lengths[odd]} cells in row {odd}, and {lengths[0]} in row 0"
