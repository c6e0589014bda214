"""Frames of any library: their columns as Arrow arrays, and frames of the same library made of such arrays."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from numbers import Real
from typing import Any, cast

import narwhals as nw
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.tables import types
from eigencode.data.tables.values import Values
from eigencode.errors import CellTypeError, DataError

SINGLE = (nw.Float32, nw.Int8, nw.Int16, nw.UInt8, nw.UInt16)
"""Types of columns whose numbers are numbers of float32."""

SPARSE_FLOATS = re.compile(r"Sparse\[(float\d+), (.+)\]")
"""Text of a sparse type of pandas for floats: their type, and the value that is left out."""

NOT_OF_NUMBERS = ("boolean", "time", "duration"), ("time", "duration")
"""Classes of columns in which no number stands for a gap, and those in which no boolean does."""

NO_ARROW_TYPE = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""Errors for columns whose cells have no one Arrow type."""


def as_frame(X: Any) -> nw.DataFrame[Any] | None:
    """A frame of any library as one of narwhals, over the same memory; None for anything else."""
    if isinstance(X, pa.RecordBatch):
        X = pa.Table.from_batches([X])
    try:
        found = nw.from_native(X, eager_only=True, pass_through=True)
    except nw.exceptions.DuplicateError:
        return None  # the reader of names says which
    return found if isinstance(found, nw.DataFrame) else None


def as_table(frame: nw.DataFrame[Any]) -> pa.Table:
    """A frame of any library as an Arrow table; columns of cells that Arrow has no one type for are text."""
    try:
        found = frame.to_arrow()
    except NO_ARROW_TYPE:
        columns = [_as_arrow_column(series) for series in frame.iter_columns()]
        found = pa.table(columns, names=[str(name) for name in frame.columns])
    for number, column in enumerate(found.columns):
        if pa.types.is_dictionary(column.type) and isinstance(column.type.value_type, pa.BaseExtensionType):
            found = found.set_column(number, found.column_names[number], _as_text(frame[:, number]))  # as of intervals
    return found


def _as_arrow_column(series: nw.Series[Any]) -> pa.Array | pa.ChunkedArray:
    """A column of a frame; its cells as text if they are of several types."""
    native = series.to_native()
    if _is_sparse(native):
        return pa.array(native.sparse.to_dense().to_numpy(), from_pandas=True)
    try:
        return series.to_arrow()
    except NO_ARROW_TYPE:
        return _as_text(series)


def _as_text(series: nw.Series[Any]) -> pa.Array:
    """The cells of a column as Python shows them."""
    return pa.array([None if _is_gap(cell) else str(cell) for cell in series.to_list()], pa.string())


def _is_sparse(native: Any) -> bool:
    """Whether a column of a frame is a sparse one of pandas."""
    return hasattr(getattr(native, "dtype", None), "fill_value")


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
        column = native.sparse.to_dense().to_numpy() if _is_sparse(native) else series
        dtype = dtype_of(native) or period_of(getattr(native, "type", None))
        if dtype.startswith("category[interval") or (
            dtype == "category[object]" and not _are_text(native.cat.categories)
        ):
            column = _with_json_categories(native)
        found = values_of(series.name, column, dtype, missing_values)
        is_mixed = found.is_mixed or isinstance(column, pa.DictionaryArray)
        yield replace(found, is_mixed=is_mixed, native=native)


def values_of(name: Any, column: Any, dtype: str = "", missing_values: Sequence[Any] = ()) -> Values:
    """The cells of a column: a series of narwhals, or an array of any type."""
    is_mixed = False
    try:
        is_native = isinstance(column, np.ndarray | pa.Array)
        cells = pa.array(column, from_pandas=True) if is_native else column.to_arrow()
    except NO_ARROW_TYPE:
        cells, is_mixed = _from_objects(name, column.tolist() if isinstance(column, np.ndarray) else column.to_list())
    if isinstance(cells, pa.ChunkedArray):
        cells = cells.combine_chunks()
    if isinstance(cells.type, pa.BaseExtensionType):
        cells = cells.storage
    if pa.types.is_dictionary(cells.type) and isinstance(cells.type.value_type, pa.BaseExtensionType):
        cells = cells.dictionary.storage.take(cells.indices)  # as of intervals, of which Arrow finds no equal ones
    elif pa.types.is_dictionary(cells.type):
        cells = _with_distinct_labels(cells)
    return Values(name, _without(cells, missing_values), dtype or str(cells.type), is_mixed)


def _with_distinct_labels(cells: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same cells over labels that are all different, and none of which is null."""
    labels = pc.unique(cells.dictionary).drop_null()
    if len(labels) == len(cells.dictionary):
        return cells
    numbers = pc.index_in(cells.dictionary, labels).cast(cells.type.index_type)
    return pa.DictionaryArray.from_arrays(numbers.take(cells.indices), labels, ordered=cells.type.ordered)


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


def _are_text(categories: Any) -> bool:
    """Whether all categories are text, which pandas before version 3 keeps as objects."""
    return all(isinstance(category, str) for category in categories)


def _with_json_categories(series: Any) -> pa.DictionaryArray:
    """A categorical pandas series whose categories are of several types or intervals, as JSON text."""
    codes = series.cat.codes.to_numpy()
    texts = [json.dumps(category, default=_plain) for category in series.cat.categories]
    indices = pa.array(codes, mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(texts, pa.string()), ordered=series.cat.ordered)


def _is_gap(cell: Any) -> bool:
    """Whether an object is a gap; those of pandas are not equal to themselves or have no truth value."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(cell, float | np.floating) and bool(np.isnan(cell))


def _plain(cell: Any) -> Any:
    """A number of NumPy as one of Python, an interval of pandas as its ends."""
    if isinstance(cell, np.generic):
        return cell.item()
    if hasattr(cell, "closed"):
        return {name: getattr(cell, name) for name in ("left", "right", "closed")}
    raise TypeError


def _unplain(cell: dict[str, Any]) -> Any:
    """An interval of its ends."""
    return imported_pandas().Interval(**cell) if set(cell) == {"left", "right", "closed"} else cell


def _without(cells: pa.Array, missing_values: Sequence[Any]) -> pa.Array:
    """Cells with gaps instead of the values that stand for gaps."""
    for value in missing_values:
        labels = cells.dictionary if pa.types.is_dictionary(cells.type) else cells
        if types.class_of(labels.type) in NOT_OF_NUMBERS[isinstance(value, bool)] and isinstance(value, Real):
            continue  # Arrow would make True of -999, and a time of 0
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


def period_of(kind: Any) -> str:
    """The pandas type of an Arrow type of periods, as text; "" for other types."""
    return f"period[{kind.freq}]" if getattr(kind, "extension_name", "") == "pandas.period" else ""


def _with_type(column: Values) -> pa.Array:
    """The cells of a column for an Arrow table, in which periods have a type of their own."""
    wanted = imported_pandas().api.types.pandas_dtype(column.dtype) if column.dtype.startswith("period[") else None
    if wanted is None or column.type != pa.int64():
        return column.cells
    like = wanted.construct_array_type()([0], dtype=wanted).__arrow_array__().type
    return pa.ExtensionArray.from_storage(like, column.cells)


def frame_of(library: str, columns: Iterable[Values], like: Any = None) -> Any:
    """A native frame of a library from its columns; with the index of the frame ``like``, where it has one."""
    if library == "pandas":
        return _pandas_frame(columns, nw.to_native(like, pass_through=True))
    backend, columns = cast(Any, library), list(columns)
    is_made = [column.kind != "other" or column.native is None for column in columns]
    of = _with_type if library == "pyarrow" else (lambda column: column.cells)
    cells = [of(column) if made else pa.nulls(len(column)) for column, made in zip(columns, is_made, strict=True)]
    frame = nw.from_arrow(pa.table(cells, names=[str(column.name) for column in columns]), backend=backend)
    for column, own in zip(columns, cells, strict=True):
        if column.dtype.startswith("Enum(") and pa.types.is_dictionary(own.type):
            frame = frame.with_columns(nw.col(column.name).cast(nw.Enum(own.dictionary.to_pylist())))
        elif column.kind == "other" and column.native is not None:
            frame = frame.with_columns(nw.from_native(column.native, series_only=True).alias(column.name))
    return frame.to_native()


def _pandas_frame(columns: Iterable[Values], like: Any) -> Any:
    """A frame of pandas, whose columns are made and copied one after the other."""
    pandas = imported_pandas()
    names, series, index = [], {}, like.index if isinstance(like, pandas.DataFrame) else None
    for number, column in enumerate(columns):
        names.append(column.name)
        index = pandas.RangeIndex(len(column)) if index is None else index
        series[number] = _pandas_series(pandas, column).copy()
        series[number].index = index
    frame = pandas.DataFrame(series, index=index, copy=False)
    is_same = isinstance(like, pandas.DataFrame) and list(like.columns) == names
    frame.columns = like.columns if is_same else pandas.Index(names)
    return frame


def imported_pandas() -> Any:
    """pandas, which is needed for answers of models that were fitted on its frames only."""
    try:
        return import_module("pandas")
    except ImportError as error:
        what = "The model was fitted on a frame of pandas, which is not installed"
        raise DataError(what, hint="Install pandas") from error


def _pandas_series(pandas: Any, column: Values) -> Any:
    """A series of a type; where that has no gaps and there are some, of the type that pandas takes then."""
    cells, dtype = column.cells, column.dtype
    if isinstance(column.native, pandas.Series):
        return column.native
    if types.class_of(cells.type) in ("nothing", "other") and not dtype.endswith("[pyarrow]"):
        return pandas.Series([None] * len(cells), dtype=dtype if dtype.startswith("interval[float") else object)
    if column.is_mixed and pa.types.is_dictionary(cells.type):
        labels = cells.to_pandas().cat
        found = [json.loads(text, object_hook=_unplain) for text in labels.categories]
        return labels.rename_categories([tuple(cell) if isinstance(cell, list) else cell for cell in found])
    if column.is_mixed:
        found = [None if cell is None else json.loads(cell) for cell in cells.to_pylist()]
        return pandas.Series(found, dtype=object)
    if dtype.endswith("[pyarrow]"):
        return pandas.Series(pandas.arrays.ArrowExtensionArray(cells))
    if dtype.startswith("category["):
        found = cells.to_pandas()
        categories = found.cat.categories.astype(dtype.removeprefix("category[").removesuffix("]"))
        return found.cat.rename_categories(categories)
    try:
        sparse = SPARSE_FLOATS.fullmatch(dtype)  # which pandas reads from text only if NaN is what is left out
        wanted = pandas.SparseDtype(sparse[1], float(sparse[2])) if sparse else pandas.api.types.pandas_dtype(dtype)
    except TypeError:
        return cells.to_pandas()
    if hasattr(wanted, "__from_arrow__"):
        return pandas.Series(wanted.__from_arrow__(cells))
    has_no_room = cells.null_count > 0 and wanted.kind in "iub"
    found = cells.to_pandas(integer_object_nulls=wanted.kind == "O")
    return found if has_no_room else found.astype(wanted)
