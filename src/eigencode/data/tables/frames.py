"""Frames of any library: their columns as Arrow arrays, and frames of the same library made of such arrays."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.tables.values import Values
from eigencode.errors import CellTypeError, DataError

LARGEST_INTEGER = 2**63 - 1


def as_frame(X: Any) -> nw.DataFrame[Any] | None:
    """A frame of any library as one of narwhals, over the same memory; None for anything else."""
    if isinstance(X, pa.RecordBatch):
        X = pa.Table.from_batches([X])
    try:
        found = nw.from_native(X, eager_only=True, pass_through=True)
    except nw.exceptions.DuplicateError:
        return None  # the reader of names says which
    return found if isinstance(found, nw.DataFrame) else None


def library_of(frame: nw.DataFrame[Any]) -> str:
    """The name of a frame's library: pandas, polars, pyarrow and so on."""
    return frame.implementation.name.lower()


def names_of(frame: nw.DataFrame[Any]) -> list[Any]:
    """The names of the columns, which pandas does not require to be strings."""
    return list(frame.columns)


def columns_of(frame: nw.DataFrame[Any], missing_values: Sequence[Any] = ()) -> Iterator[Values]:
    """The columns of a frame, one after the other, with gaps where cells are missing or among ``missing_values``."""
    for series in frame.iter_columns():
        native = series.to_native()
        is_sparse = hasattr(getattr(native, "dtype", None), "fill_value")
        column = native.sparse.to_dense().to_numpy() if is_sparse else series
        yield values_of(series.name, column, dtype_of(native), missing_values)


def values_of(name: Any, column: Any, dtype: str = "", missing_values: Sequence[Any] = ()) -> Values:
    """The cells of a column: a series of narwhals, or an array of any type."""
    try:
        cells = pa.array(column, from_pandas=True) if isinstance(column, np.ndarray) else column.to_arrow()
        is_mixed = False
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        cells, is_mixed = _from_objects(name, column.tolist() if isinstance(column, np.ndarray) else column.to_list())
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
    if isinstance(cells.type, pa.BaseExtensionType):
        cells = cells.storage
    return Values(name, _without(cells, missing_values), dtype or str(cells.type), is_mixed)


def _from_objects(name: Any, cells: list[Any]) -> tuple[pa.Array, bool]:
    """Python objects that Arrow takes for no single type: their JSON text, or floats if they are large integers."""
    present = [cell for cell in cells if not _is_gap(cell)]
    if any(isinstance(cell, complex | np.complexfloating) for cell in present):
        hint = "Give real and imaginary parts as two columns. Complex data not supported"
        raise CellTypeError(f"X has complex numbers in column {name!r}", hint=hint)
    if all(isinstance(cell, Real) and not isinstance(cell, bool | np.bool_) for cell in present):
        return pa.array([None if _is_gap(cell) else float(cell) for cell in cells], pa.float64()), False
    try:
        return pa.array([None if _is_gap(cell) else json.dumps(cell, default=_plain) for cell in cells]), True
    except (TypeError, ValueError):
        return pa.array([None if _is_gap(cell) else str(cell).encode() for cell in cells], pa.binary()), False


def _is_gap(cell: Any) -> bool:
    """Whether an object is a gap; those of pandas are not equal to themselves or have no truth value."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float | np.floating) and bool(np.isnan(cell))


def _plain(cell: Any) -> Any:
    """A number of NumPy as one of Python."""
    if isinstance(cell, np.generic):
        return cell.item()
    raise TypeError


def _without(cells: pa.Array, missing_values: Sequence[Any]) -> pa.Array:
    """Cells with gaps instead of the values that stand for gaps."""
    for value in missing_values:
        labels = cells.dictionary if pa.types.is_dictionary(cells.type) else cells
        try:
            sought = pa.scalar(value).cast(labels.type)
        except (pa.ArrowException, TypeError):
            continue  # a column of another type has no such value
        if pa.types.is_dictionary(cells.type):
            hidden = pc.equal(labels, sought).take(cells.indices)
            indices = pc.if_else(hidden.fill_null(False), None, cells.indices)
            cells = pa.DictionaryArray.from_arrays(indices, labels, ordered=cells.type.ordered)
        else:
            cells = pc.if_else(pc.equal(cells, sought).fill_null(False), pa.scalar(None, cells.type), cells)
    return cells


def dtype_of(series: Any) -> str:
    """The type of a native column as text; that of categories says the type of these too."""
    dtype = getattr(series, "dtype", None)
    categories = getattr(dtype, "categories", None)
    if type(dtype).__name__ == "CategoricalDtype":
        return f"category[{getattr(categories, 'dtype', 'object')}]"
    return "" if dtype is None else str(dtype)


def frame_of(
    library: str, names: Sequence[Any], dtypes: Sequence[str], columns: Sequence[Any], index: Any = None
) -> Any:
    """A native frame of a library.

    Parameters
    ----------
    library : str
        Its name.
    names : sequence
        The columns' names.
    dtypes : sequence of str
        What `dtype_of` says of each column.
    columns : sequence of pa.Array or native columns
        The columns.
    index : pandas.Index, optional
        The index of a pandas frame.
    """
    if library == "pandas":
        return _pandas_frame(names, dtypes, columns, index)
    native = [column if isinstance(column, pa.Array | pa.ChunkedArray) else column.to_arrow() for column in columns]
    backend: Any = library
    return nw.from_arrow(pa.table(native, names=[str(name) for name in names]), backend=backend).to_native()


def _pandas_frame(names: Sequence[Any], dtypes: Sequence[str], columns: Sequence[Any], index: Any) -> Any:
    pandas = imported_pandas()
    n_rows = len(columns[0]) if len(columns) else 0
    index = pandas.RangeIndex(n_rows) if index is None else index
    series = {
        number: (_pandas_series(pandas, column, dtype) if isinstance(column, pa.Array) else column).set_axis(index)
        for number, (column, dtype) in enumerate(zip(columns, dtypes, strict=True))
    }
    frame = pandas.DataFrame(series, index=index)
    frame.columns = pandas.Index(names)
    return frame


def imported_pandas() -> Any:
    """pandas, which is needed for answers of models that were fitted on its frames only."""
    try:
        return import_module("pandas")
    except ImportError as error:
        what = "The model was fitted on a frame of pandas, which is not installed"
        raise DataError(what, hint="Install pandas") from error


def objects_of(cells: pa.Array) -> Any:
    """A pandas series of Python objects from their JSON texts."""
    found = [None if cell is None else json.loads(cell) for cell in cells.to_pylist()]
    return imported_pandas().Series(found, dtype=object)


def _pandas_series(pandas: Any, cells: pa.Array, dtype: str) -> Any:
    """A series of a type; where that has no gaps and there are some, of the type that pandas takes then."""
    if dtype.endswith("[pyarrow]"):
        return pandas.Series(pandas.arrays.ArrowExtensionArray(cells))
    if dtype.startswith("category["):
        found = cells.to_pandas()
        categories = found.cat.categories.astype(dtype.removeprefix("category[").removesuffix("]"))
        return found.cat.rename_categories(categories)
    try:
        wanted = pandas.api.types.pandas_dtype(dtype)
    except TypeError:
        return cells.to_pandas()
    if hasattr(wanted, "__from_arrow__"):
        return pandas.Series(wanted.__from_arrow__(cells))
    has_no_room = cells.null_count > 0 and wanted.kind in "iub"
    return cells.to_pandas() if has_no_room else cells.to_pandas().astype(wanted)
