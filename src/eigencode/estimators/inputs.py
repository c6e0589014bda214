"""Inputs of estimators: rows, codes, labels, weights and groups, read from any container and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from eigencode.data.block_sources import BlockSource, StreamedCells, located
from eigencode.data.cells import DATES, is_missing, stack_columns
from eigencode.data.containers import NamedArray, as_array, label_of, names_of, read, refuse_non_tables
from eigencode.data.gaps import missing_values_of, refuse_gaps, refuse_infinite, with_gaps
from eigencode.data.images import PIXEL_TYPES, ImageLayout
from eigencode.data.named_files import opened
from eigencode.data.one_pass import OnePass
from eigencode.data.rows_by_number import RowsByNumber
from eigencode.data.tables import Schema, as_frame
from eigencode.data.windows import require_numbers
from eigencode.errors import DataError, OptionError, warn

CENTER_ROWS = 4096
"""Rows of a sample whose mean is near that of all."""


def read_rows(estimator: Any, X: Any, *, reset: bool = False, finite: bool = True) -> NamedArray:
    """Rows as numbers, whose columns are compared with those fitted or, with ``reset``, kept as those to fit.

    Parameters
    ----------
    estimator : estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are compared or, with ``reset``, set.
    X : array-like of shape (n, d)
        Any container that `eigencode.data.containers.read` knows; or images, which become rows.
    reset : bool, default False
        Whether this begins a fit, which takes two rows at least.
    finite : bool, default True
        Whether to refuse infinite cells. Gaps (NaN) are never refused.

    Returns
    -------
    NamedArray
        In the numeric type that they came in; gaps are NaN.
    """
    X = opened(X)
    if isinstance(X, BlockSource):
        return _streamed(estimator, X, reset, finite)
    if isinstance(X, OnePass):
        raise DataError(
            f"Rows that can be read once do not fit into memory, which {type(estimator).__name__} needs here",
            got=f"more than {len(X.head)} rows",
            hint="Give output=, the name of a file, or one block at a time; an autoencoder is fitted to them by fit",
        )
    frame = None if isinstance(X, NamedArray) else as_frame(X)
    if reset:
        refuse_twins(X)
        estimator.columns_ = X.schema if isinstance(X, NamedArray) else _inferred(estimator, frame)
    schema: Schema | None = getattr(estimator, "columns_", None)
    if schema is None or schema.is_plain or isinstance(X, NamedArray):
        rows = _numbers(estimator, X, frame, reset)
    else:
        rows = _cells(estimator, X if frame is None else frame, schema, reset)
    if finite:
        refuse_infinite(rows.array, rows.cell_names)
    return rows


def _streamed(estimator: Any, source: BlockSource, reset: bool, finite: bool) -> NamedArray:
    """Rows that are read a block at a time; a sample of them says what the columns are."""
    sample = read_rows(estimator, source.sample(), reset=reset, finite=finite)
    dtype = sample.array.dtype if sample.array.dtype.kind == "f" else float_type(sample.array.dtype)
    some = np.asarray(sample.array[:CENTER_ROWS], np.float64)
    cells = StreamedCells(
        source,
        lambda block: np.asarray(read_rows(estimator, block, finite=finite).array),
        some.shape[1],
        dtype,
        some.mean(0),
    )
    return replace(sample, array=cells, frame=None)  # type: ignore[arg-type]


def read_first_rows(estimator: Any, X: Any) -> tuple[Any, Iterator[np.ndarray] | None]:
    """The rows that a fit begins with, and the cells of those that can be read once after them, a block at a time."""
    X = opened(X)
    if not isinstance(X, OnePass):
        return read_rows(estimator, X, reset=True).array, None
    array = np.asarray(read_rows(estimator, X.head, reset=True).array)
    array = array.astype(float_type(array.dtype), copy=False)

    def cells(number: int, block: Any) -> np.ndarray:
        with located(f"In block {number} after the first {len(array)} rows"):
            return np.asarray(read_rows(estimator, block).array).astype(array.dtype, copy=False)

    return array, (cells(number, block) for number, block in enumerate(X.rest))


@contextmanager
def named(argument: str) -> Iterator[None]:
    """Errors for rows that were given as another argument than X say so."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"In {argument!r}: {error.what}", got=error.got, hint=error.hint) from error


def _inferred(estimator: Any, frame: Any) -> Schema | None:
    """What the columns of a frame are, by the options of the autoencoder; those of one that is fitted are its own."""
    model = getattr(estimator, "_given", estimator)
    if model is not estimator and model.__sklearn_is_fitted__():
        return getattr(model, "columns_", None)
    if frame is None:
        if model.columns:
            what = "'columns' needs rows whose columns have names"
            raise OptionError(what, got="rows without names", hint="Give them names first")
        return None
    check_shape(np.broadcast_to(np.False_, frame.shape), 2)
    names_of(list(frame.columns))
    schema = Schema.infer(frame, model.columns, missing_values_of(model), plain=not model._has_auto_likelihood)
    if getattr(estimator, "window", None) is None:
        return schema
    require_numbers(schema)
    return None  # cells of windows are the numbers themselves, whatever their columns' kinds


def _numbers(estimator: Any, X: Any, frame: Any, reset: bool) -> NamedArray:
    """Rows of numbers, each of which is a cell."""
    is_made = isinstance(X, RowsByNumber)
    rows = _made(estimator, X, reset) if isinstance(X, RowsByNumber) else _flattened(estimator, read(X), reset)
    check_shape(rows.array, 2 if reset else 1)
    _check_names(estimator, rows.names, reset)
    _check_width(estimator, rows.n_columns, reset)
    if isinstance(X, NamedArray):
        return rows
    array = rows.array if is_made else with_gaps(rows.array, missing_values_of(estimator))
    return replace(rows, array=array, schema=getattr(estimator, "columns_", None), frame=frame)


def _made(estimator: Any, X: RowsByNumber, reset: bool) -> NamedArray:
    """Rows that are made when they are asked for; images must have the shape fitted."""
    if reset:
        estimator.image_shape_ = X.image_shape or shape_asked_for(estimator)
    if X.image_shape and X.image_shape != tuple(estimator.image_shape_):
        what = f"Images must have (channels, height, width) = {tuple(estimator.image_shape_)}, as in fit"
        raise DataError(what, got=f"{X.image_shape}")
    return NamedArray(X, layout=ImageLayout.usual(X.image_shape) if X.image_shape else None)  # type: ignore[arg-type]


def _cells(estimator: Any, table: Any, schema: Schema, reset: bool) -> NamedArray:
    """Rows of mixed columns as cells; an array has its columns in the order of those fitted."""
    is_array = not hasattr(table, "columns")
    table = as_array(table) if is_array else table
    check_shape(np.broadcast_to(np.False_, table.shape), 2 if reset else 1)
    names = None if is_array else names_of(list(table.columns))
    needed = schema if is_array else schema.of(table)
    _check_names(estimator, names, reset, needed)
    _check_width(estimator, table.shape[1] + len(schema.columns) - len(needed.columns), reset)
    if reset:
        estimator.image_shape_ = shape_asked_for(estimator)
    cells = schema.encode(table, missing_values_of(estimator))
    return NamedArray(cells, names, schema=schema, frame=None if is_array else table)


def framed(rows: NamedArray, X: Any) -> NamedArray:
    """Rows of mixed columns with a frame also where they were an array, by which cells of another schema are made."""
    if rows.schema is None or not rows.is_mixed or rows.frame is not None or isinstance(X, NamedArray):
        return rows
    return replace(rows, frame=as_frame(rows.schema.frame_of(as_array(X))))


def shape_asked_for(estimator: Any) -> tuple[int, ...]:
    """The shape of images in an estimator's options; () if there is none."""
    shape = getattr(estimator, "image_shape", None)
    return tuple(shape) if isinstance(shape, list | tuple) and len(shape) == 3 else ()


def _flattened(estimator: Any, rows: NamedArray, reset: bool) -> NamedArray:
    """Images as rows; the shape is compared with the fitted one or, with ``reset``, set."""
    known = (() if reset else getattr(estimator, "image_shape_", ())) or shape_asked_for(estimator)
    if known and not reset:
        _refuse_one_image(rows.array.shape, known, estimator.n_features_in_)
    if rows.array.ndim in (3, 4) and (
        rows.array.dtype.name in PIXEL_TYPES or known or getattr(estimator, "image_shape", None) == "auto"
    ):
        layout = ImageLayout.of(rows.array.shape, known or None)
        if not (reset or known or layout.axes == "hw"):
            raise DataError(
                f"This {type(estimator).__name__} was fitted on rows, not on images",
                got=f"an array of shape {rows.array.shape}",
                hint="Flatten the images as they were then, or fit on an array of images",
            )
        rows = NamedArray(layout.rows(rows.array), None, layout)
    if reset:
        estimator.image_shape_ = shape_asked_for(estimator) if rows.layout is None else rows.layout.image_shape
    return rows


def _refuse_one_image(shape: tuple[int, ...], known: tuple[int, ...], n_columns: int) -> None:
    """Raise an error for a single image, which has no axis of rows."""
    alone = {known[1:], known, (*known[1:], known[0])} if known[0] > 1 else {known[1:]}
    if shape in alone and not (len(shape) == 2 and shape[1] == n_columns):
        raise DataError(
            "Images must form an array of shape (n, h, w) or (n, h, w, c)",
            got=f"one image, of shape {shape}",
            hint="Pass X[None], an array of one image",
        )


def read_codes(codes: Any, names: Sequence[str], owner: str) -> np.ndarray:
    """Codes of shape (n, k) in a float type; the names of their columns are checked."""
    found = read(codes, "X")
    check_shape(found.array, 1)
    if found.array.shape[1] != len(names):
        raise DataError(
            f"Codes of this {owner} have {len(names)} columns",
            got=f"an array of shape {found.array.shape}",
            hint="Pass what transform returned",
        )
    if found.names is not None and found.names != list(names) and set(found.names) == set(names):
        raise DataError("The codes' columns are in another order", got=str(found.names), hint=f"Use X[{list(names)}]")
    refuse_gaps(found.array, found.names)
    return found.array.astype(float_type(found.array.dtype), copy=False)


def require_in_memory(owner: str, rows: NamedArray) -> None:
    """Raise an error for a table that stays in its files."""
    if isinstance(rows.array, StreamedCells):
        raise DataError(
            f"{owner} needs all rows in memory",
            got=f"a table of {len(rows.array)} rows and {rows.array.n_cells} cells a row, which stays in its files",
            hint="Give it a part of them",
        )


def read_weights(sample_weight: Any, n_rows: int, role: str = "sample_weight") -> np.ndarray:
    """Weights of rows, shape (n,), in float64; one number is the weight of every row; ``role`` is their name."""
    weights = read(sample_weight, role).array
    if weights.ndim == 2 and weights.shape[1] == 1 and not isinstance(sample_weight, np.ndarray | list):
        weights = weights[:, 0]  # a frame of one column
    if weights.ndim == 0:
        weights = np.full(n_rows, weights)
    if weights.ndim != 1:
        what = role.replace("_", " ").capitalize()
        raise DataError(f"{what}s must be 1D array or scalar", got=f"the shape {weights.shape}")
    check_lengths(weights, n_rows, role)
    refuse_gaps(weights, role=role)
    if (weights < 0).any():
        row = int((weights < 0).argmax())
        raise DataError(f"Negative values in data passed to `{role}`", got=f"{weights[row]} in row {row}")
    return weights.astype(np.float64)


def read_groups(groups: Any, n_rows: int) -> np.ndarray:
    """The group of each row, numbers or text, shape (n,)."""
    found = _one_column(np.asarray(groups), "groups")
    check_lengths(found, n_rows, "groups")
    missing = [row for row, cell in enumerate(found.tolist()) if is_missing(cell)]
    if missing:
        raise DataError("groups has gaps", got=f"{len(missing)}, the first in row {missing[0]}", hint="Name each group")
    return found if found.dtype.kind in "biufUS" else found.astype(str)


def mean_of_rows(values: Any, sample_weight: Any = None) -> float:
    """The mean of one number a row, in float64, weighted if weights are given."""
    values = np.asarray(values, dtype=np.float64)
    if sample_weight is None:
        return float(values.mean())
    weights = read_weights_of_score(sample_weight, len(values))
    return float(np.average(values[weights > 0], weights=weights[weights > 0]))


def read_weights_of_score(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Weights of rows for a mean, shape (n,), divided by the largest."""
    weights = read_weights(sample_weight, n_rows)
    if not weights.any():
        raise DataError("All sample weights are zero", hint="Give some rows a positive weight")
    return weights / weights.max()


def read_classes(y: Any, n_rows: int, owner: str) -> np.ndarray:
    """The class of each row, numbers or text, shape (n,); an error for gaps."""
    labels = _labels(y, owner)
    if labels.dtype.kind == "c":
        stack_columns([labels.ravel()], [label_of(y)], "y")  # raises the error for complex numbers
    labels = _one_column(labels)
    check_lengths(labels, n_rows, "y")
    refuse_gaps(labels, role="y")
    if labels.dtype == object and (gaps := [row for row, cell in enumerate(labels) if is_missing(cell)]):
        raise DataError("y has gaps", got=f"{len(gaps)}, the first in row {gaps[0]}", hint="Drop their rows")
    # NumPy gives times in nanoseconds out as integers, so they are known by their type alone.
    is_time = labels.dtype.kind in "mM"
    if is_time or (labels.dtype == object and any(isinstance(cell, DATES) for cell in labels[:1].tolist())):
        stack_columns([labels], [label_of(y)], "y")  # raises the error for dates
    try:
        check_classification_targets(labels)
        np.unique(labels)
    except (TypeError, ValueError) as error:
        raise DataError("y cannot be read as classes", got=f"the error {error}", hint=CLASSES) from error
    return labels


def read_targets(y: Any, n_rows: int, owner: str) -> np.ndarray:
    """Numeric labels, shape (n, c), in their own type."""
    if y is None:
        _labels(y, owner)
    rows = read(y, "y")
    targets = rows.array
    check_lengths(targets, n_rows, "y")
    refuse_gaps(targets, rows.names, "y")
    if targets.ndim == 2 and targets.shape[1] > 1:
        return targets
    return _one_column(targets)[:, None]


CLASSES = "Labels of classes are integers or text, of one type; numbers in between are for AutoencoderRegressor"


def _one_column(labels: np.ndarray, role: str = "y") -> np.ndarray:
    """Labels of shape (n,); a column of shape (n, 1) is flattened with scikit-learn's warning."""
    if labels.ndim != 1 and not (labels.ndim == 2 and labels.shape[1] == 1):
        raise DataError(f"{role} should be a 1d array", got=f"the shape {labels.shape}")
    return column_or_1d(labels, warn=True)


def _labels(y: Any, owner: str) -> np.ndarray:
    """Labels of any type from any container, as an array."""
    if y is None:
        raise DataError(f"{owner} requires y to be passed, but the target y is None")
    refuse_non_tables(y, "y")
    if hasattr(y, "columns") and len(y.columns) == 1:
        y = y[y.columns[0]] if not isinstance(y, pa.RecordBatch | pa.Table) else y.columns[0]
    return read(y, "y").array if hasattr(y, "columns") else as_array(y, "y")


def check_shape(array: np.ndarray, min_rows: int) -> None:
    """Raise an error for arrays that are not two-dimensional, or have too few rows."""
    if array.ndim != 2:
        kind = "scalar array" if array.ndim == 0 else f"{array.ndim}D array"
        hint = "Reshape your data with X.reshape(len(X), -1)"
        if array.ndim < 2:
            hint = (
                "Reshape your data with X.reshape(-1, 1) if it has a single column or X.reshape(1, -1) if it is one "
                "row; of a frame take frame[['name']] or frame.iloc[[0]]"
            )
        elif array.ndim < 5:
            hint += ", or give image_shape='auto' if these are images"
        raise DataError(f"Expected 2D array, got {kind} instead", got=f"the shape {array.shape}", hint=hint)
    for n_found, least, what in ((array.shape[0], min_rows, "sample(s)"), (array.shape[1], 1, "feature(s)")):
        if n_found < least:
            raise DataError(
                f"Found array with {n_found} {what} (shape={array.shape}) while a minimum of {least} is required"
            )


def check_lengths(array: np.ndarray, n_rows: int, role: str) -> None:
    """Raise an error unless there is one label or weight for each row."""
    if array.ndim == 0 or len(array) != n_rows:
        raise DataError(
            f"X and {role} have inconsistent numbers of samples", got=f"{n_rows} rows and the shape {array.shape}"
        )


def float_type(dtype: np.dtype) -> np.dtype:
    """The type of results: float32 if the type of the rows fits into it, else float64."""
    return np.dtype(np.float32) if np.can_cast(dtype, np.float32) else np.dtype(np.float64)


def check_given(given: Any) -> None:
    """Refuse cells of rows to be drawn that are no table, or have two columns of one name."""
    if isinstance(given, Mapping):
        refuse_non_tables(given, "'given'")
    refuse_twins(given)


def refuse_twins(X: Any) -> None:
    """Refuse a frame with two columns of one name."""
    is_pandas = hasattr(X, "iloc")
    names = X.names if isinstance(X, NamedArray) else getattr(X, "columns" if is_pandas else "column_names", None)
    strings = [name for name in names if isinstance(name, str)] if isinstance(names, Iterable) else []
    twice = sorted(name for name, count in Counter(strings).items() if count > 1)
    if twice:
        raise DataError(
            "Two columns have the same name",
            got=", ".join(map(repr, twice)),
            hint="Rename one, or leave it out",
        )


def _check_width(estimator: Any, n_columns: int, reset: bool) -> None:
    model = getattr(estimator, "_given", estimator)
    if reset and model is not estimator and model.__sklearn_is_fitted__():
        _check_width(model, n_columns * (getattr(estimator, "window", None) or 1), False)
    if reset:
        estimator.n_features_in_ = n_columns
    elif n_columns != estimator.n_features_in_:
        raise DataError(
            f"X has {n_columns} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} "
            "features as input"
        )


def _check_names(estimator: Any, names: list[str] | None, reset: bool, needed: Schema | None = None) -> None:
    """Compare the names of columns as scikit-learn does, for frames of every kind."""
    fitted = getattr(estimator, "feature_names_in_", None)
    owner = type(estimator).__name__
    if fitted is not None and needed is not None:
        fitted = np.array(needed.names, dtype=object)
    if reset:
        vars(estimator).pop("feature_names_in_", None)
        if names is not None:
            estimator.feature_names_in_ = np.array(names, dtype=object)
    elif fitted is None and names is not None:
        warn(f"X has feature names, but {owner} was fitted without feature names", UserWarning)
    elif fitted is not None and names is None:
        warn(f"X does not have valid feature names, but {owner} was fitted with feature names", UserWarning)
    elif fitted is not None and names != fitted.tolist():
        raise _other_names(names or [], fitted.tolist())


def _other_names(names: list[str], fitted: list[str]) -> DataError:
    """The error for columns of other names or in another order, with scikit-learn's text."""
    unseen = sorted(set(names) - set(fitted))
    missing = sorted(set(fitted) - set(names))
    message, lists = "The feature names should match those that were passed during fit", list[str]()
    for what, found in (
        ("Feature names unseen at fit time", unseen),
        ("Feature names seen at fit time, yet now missing", missing),
    ):
        if found:
            names_found = [*found[:5], *(["..."] if len(found) > 5 else [])]
            lists.append(f"{what}:\n" + "\n".join(f"- {name}" for name in names_found))
    if lists:
        message = "\n".join([f"{message}.", *lists])
        hint = "Choose columns by name, as with X[list(model.feature_names_in_)]"
        if missing:
            renamed = "Rename columns, or add" if unseen else "Add"
            hint = f"{renamed} what is missing; gaps will do, as of X.reindex(columns=model.feature_names_in_)"
        return DataError(message, hint=hint)
    first = next(j for j, (name, seen) in enumerate(zip(names, fitted, strict=True)) if name != seen)
    return DataError(
        f"{message}.\nFeature names must be in the same order as they were in fit",
        got=f"{names[first]!r} where {fitted[first]!r} was",
        hint="Use X[list(model.feature_names_in_)]",
    )
