r"""Reasons: how much each column of a row adds to what an anomaly detector measures of it.

The suspicious columns of a row are found first, and how surprising each column is given the others that are not
suspicious (`eigencode.detection.suspicion`). That is brought to the scale of gaps and labels, by :math:`-\log` of the
share of rows in which some column is as surprising (`eigencode.detection.tails`): with many columns, one of them is
surprising more often than a column without gaps has one. With this t of a column and the term o of its state (known,
missing, or impossible) beside that of its usual state, :math:`u_j = o_j - \min o_j + t_j`, a column adds

.. math:: c_j = u_j + e \, \frac{u_j^2}{\sum_i u_i^2} + \frac{D - \sum_i u_i - e}{n_\text{columns}}

to D, where e is by how much D exceeds what a row has usually, and all t.
So the contributions add up to D, and columns of a usual row have about the same.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from eigencode.data.cells import is_missing
from eigencode.data.gaps import missing_values_of
from eigencode.data.tables.frames import columns_of, frame_of
from eigencode.errors import DataError, OptionError, positive_int
from eigencode.estimators.row_nats import cells_of, is_allowed, used_columns

if TYPE_CHECKING:
    from eigencode.data.containers import NamedArray
    from eigencode.data.tables import Column, Schema
    from eigencode.data.tables.kinds import Kind
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.estimators.unlikeness import Unlikeness

SMALLEST = 1e-9
"""Smallest u of a column."""


@dataclass(frozen=True, eq=False)
class Reasons:
    """What each column of some rows adds to D.

    Attributes
    ----------
    model : estimator
        The autoencoder.
    given : NamedArray
        The rows.
    contributions : ndarray of shape (n, c)
        In nats.
    expected : ndarray of shape (n, d)
        What is expected of each cell given the columns that are not suspicious, in the data's units.
    """

    model: BaseAutoencoder
    given: NamedArray
    contributions: np.ndarray
    expected: np.ndarray

    @classmethod
    def of(cls, unlikeness: Unlikeness, model: BaseAutoencoder, given: NamedArray) -> Reasons:
        """The reasons of rows."""
        row_nats = unlikeness.row_nats
        tails, expected = row_nats.surprise(model, given.array)
        values, states = row_nats.of_values(model, given.array), row_nats.of_states(model, given)
        rare = np.maximum(tails + states - row_nats.usual_states, SMALLEST)
        excess = np.maximum(values - tails.sum(1) - unlikeness.usual, 0.0)
        squares = np.square(rare / rare.max(1, keepdims=True))
        shared = values + states.sum(1) - rare.sum(1) - excess
        contributions = rare + (excess / squares.sum(1))[:, None] * squares + (shared / rare.shape[1])[:, None]
        return cls(model, given, contributions, model.scaler_.inverse_transform(expected))

    def ranked(self, n_columns: int | None) -> dict[str, np.ndarray]:
        """A table with a line for each row and column, the columns of a row by their contributions."""
        order = np.argsort(-self.contributions, axis=1, kind="stable")[:, :n_columns]
        n, n_kept = order.shape
        rows, columns = np.repeat(np.arange(n), n_kept), order.ravel()
        observed, expected = self._values(rows, columns)
        allowed = np.broadcast_to(is_allowed(self.model, self.given), self.contributions.shape)[rows, columns]
        return {
            "row": rows,
            "rank": np.tile(np.arange(1, n_kept + 1), n),
            "column": self._names[columns],
            "contribution": self.contributions[rows, columns],
            "observed": observed,
            "expected": expected,
            "direction": self._directions(columns, observed, expected, allowed),
        }

    def _directions(
        self, columns: np.ndarray, observed: np.ndarray, expected: np.ndarray, allowed: np.ndarray
    ) -> np.ndarray:
        """How values of some columns differ from what is expected."""
        if (schema := self._schema) is None:
            above = np.where(observed > expected, "above", "below")
            return np.where(np.isnan(observed), "missing", np.where(observed == expected, "as expected", above))
        kinds = [schema.columns[column].kind for column in used_columns(schema)]
        each = zip(columns, observed, expected, allowed, strict=True)
        return np.array([_direction(kinds[column], *values) for column, *values in each])

    @property
    def _schema(self) -> Schema | None:
        """What the columns are, if they are not just numbers."""
        schema = self.model.columns_
        return None if schema is None or schema.is_plain else schema

    @property
    def _names(self) -> np.ndarray:
        if self._schema is None:
            known = self.model._cell_names
            return np.array([f"x{j}" for j in range(self.expected.shape[1])] if known is None else known, dtype=object)
        return np.array(self._schema.names, dtype=object)[used_columns(self._schema)]

    def _values(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values of some columns of some rows, and what is expected of them."""
        cells, schema, frame = self.given.array, self._schema, self.given.frame
        if schema is None:
            return cells[rows, columns], self.expected[rows, columns]
        missing = missing_values_of(self.model)
        gaps = {v.name: v.missing for v in columns_of(frame, missing)} if missing and frame is not None else {}
        observed, expected = np.empty((2, len(rows)), dtype=object)
        slices = cells_of(schema, cells.shape[1])
        for number, (column, part) in enumerate(zip(used_columns(schema), slices, strict=True)):
            column, here = schema.columns[column], np.flatnonzero(columns == number)
            of = rows[here]
            expected[here] = _as_python(schema, column, self.expected[of, part])
            if frame is None or column.name not in frame.columns:
                observed[here] = _as_python(schema, column, cells[of, part])
            else:
                found = _objects(frame[column.name].to_list())
                found[gaps.get(column.name, [])] = None
                observed[here] = found[of]
        return observed, expected


def _as_python(schema: Schema, column: Column, cells: np.ndarray) -> list[Any]:
    """Decoded cells of a column as Python values; periods of pandas, which have numbers in Arrow, as periods."""
    found = column.kind.decode(cells, column.arrow)
    if schema.library == "pandas" and column.native_type.startswith("period["):
        return list(frame_of("pandas", [column.values_of(found)]).iloc[:, 0])
    return list(found.to_pylist())


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """Which rows of a table are explained.

    Attributes
    ----------
    numbers : ndarray of int or None
        Their numbers, ascending; None for all rows.
    n_rows : int or None
        The number of rows of the table, if it is known.
    """

    numbers: np.ndarray | None = None
    n_rows: int | None = None

    @classmethod
    def of(cls, rows: Any, X: Any = None) -> ChosenRows:
        """The rows of a mask, or of numbers from 0, checked if X has a known number of rows; all for None."""
        if rows is None:
            return cls()
        chosen = cls._of(np.asarray(_in_order_of(X, rows)))
        if hasattr(X, "__len__"):
            chosen.check(len(X))
        return chosen

    @classmethod
    def _of(cls, given: np.ndarray) -> ChosenRows:
        if given.ndim != 1 or (len(given) and given.dtype.kind not in "biu"):
            got = f"the shape {given.shape}" if given.ndim != 1 else f"the type {given.dtype}"
            raise OptionError("'rows' must be a mask of the rows of X, or their numbers", got=got)
        if given.dtype == bool:
            return cls(np.flatnonzero(given), len(given))
        is_signed = given.max(initial=0) <= np.iinfo(np.int64).max  # else the error has the number that was given
        return cls(np.unique(given.astype(np.int64) if is_signed else given))

    def among(self, first: int, n_rows: int) -> np.ndarray:
        """Those among so many rows from ``first`` on, counted from there."""
        if self.numbers is None:
            return np.arange(n_rows)
        begin, end = np.searchsorted(self.numbers, [first, first + n_rows])
        return self.numbers[begin:end] - first

    def check(self, n_rows: int) -> None:
        """Raise an error unless they are rows of a table of so many."""
        if self.n_rows not in (None, n_rows):
            raise DataError("A mask must have an item for each row of X", got=f"{self.n_rows:,} and {n_rows:,} rows")
        if self.numbers is not None and len(self.numbers) and not 0 <= self.numbers[0] <= self.numbers[-1] < n_rows:
            wrong = self.numbers[0] if self.numbers[0] < 0 else self.numbers[-1]
            raise OptionError(f"'rows' must be from 0 to {n_rows - 1:,}, as X has {n_rows:,} rows", got=f"{wrong}")


def _in_order_of(X: Any, rows: Any) -> Any:
    """A mask of labelled rows in the order of a frame that has the same labels in another one."""
    is_labelled = hasattr(X, "iloc") and hasattr(rows, "iloc") and rows.ndim == 1
    if not is_labelled or rows.dtype.kind != "b" or X.index.equals(rows.index):
        return rows
    own, given = ([None if is_missing(label) else label for label in labelled.index] for labelled in (X, rows))
    places = {label: place for place, label in enumerate(given)}
    order = [places.get(label, -1) for label in own]
    is_permuted = sorted(order) == list(range(len(given)))
    return rows.iloc[order] if is_permuted else rows


def check_question(n_columns: Any, output: Any) -> None:
    """Raise an error for a wrong number of columns or form of the answer."""
    if output not in ("frame", "records"):
        raise OptionError("'output' must be 'frame' or 'records'", got=f"{output!r}")
    if n_columns is not None:
        positive_int("'n_columns'", n_columns)


def explained(
    unlikeness: Unlikeness, model: BaseAutoencoder, given: NamedArray, own: np.ndarray, n_columns: int | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The reasons of some of the rows given, and the parts of their scores; empty ones of no rows."""
    some = given[own if len(own) else np.zeros(1, np.int64)]
    table = Reasons.of(unlikeness, model, some).ranked(n_columns)
    parts, kept = unlikeness.parts(model, some), table["row"] < len(own)
    of_rows = {name: values[: len(own)] for name, values in parts.items()}
    return {name: values[kept] for name, values in table.items()}, of_rows


def in_form(table: dict[str, np.ndarray], of_rows: dict[str, np.ndarray], output: str, library: str) -> Any:
    """Reasons, a line for each row and column, with what is known of each row: a frame of a library, or records."""
    if output == "records":
        return as_records(table, of_rows)
    n_kept = len(table["rank"]) // max(len(of_rows["row"]), 1)
    repeated = {name: np.repeat(np.asarray(values), n_kept) for name, values in of_rows.items()}
    return as_frame(table | repeated, library)


def as_frame(table: dict[str, np.ndarray], library: str) -> Any:
    """A frame of a library; values of several types are text where the library has no columns of them."""
    if library != "pandas":
        table = {name: _as_text(values) if values.dtype == object else values for name, values in table.items()}
    backend: Any = library
    return nw.from_dict(table, backend=backend).to_native()


def as_records(table: dict[str, np.ndarray], of_rows: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """For each row a dictionary of JSON values, with its reasons in a list."""
    names = [name for name in table if name not in ("row", "rank")]
    lines = zip(*(map(_plain, table[name].tolist()) for name in names), strict=True)
    reasons = [dict(zip(names, line, strict=True)) for line in lines]
    n_rows = len(next(iter(of_rows.values())))
    n_kept = len(reasons) // max(n_rows, 1)
    rows = zip(*(map(_plain, values.tolist()) for values in of_rows.values()), strict=True)
    return [
        {**dict(zip(of_rows, row, strict=True)), "reasons": reasons[i * n_kept : (i + 1) * n_kept]}
        for i, row in enumerate(rows)
    ]


def _plain(value: Any) -> Any:
    """A value of JSON: dates as text, gaps as None."""
    if is_missing(value):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value if isinstance(value, int | float | str | bool) else str(value)


def _as_text(values: np.ndarray) -> np.ndarray:
    found = _objects([None if (plain := _plain(value)) is None else str(plain) for value in values])
    return found if len(found) else found.astype(str)  # without a text in it polars does not know the type


def _objects(values: list[Any]) -> np.ndarray:
    """Values as an array of objects."""
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _direction(kind: Kind, observed: Any, expected: Any, allowed: bool) -> str:
    if is_missing(observed):
        return "missing"
    if is_missing(expected):
        return "other" if allowed else "unseen"
    observed, expected = kind.places([_moment(observed), _moment(expected)])
    if observed == expected:
        return "as expected"
    if isinstance(observed, str | bool) or isinstance(expected, str | bool):
        return "other" if allowed else "unseen"
    return "above" if observed > expected else "below"


def _moment(value: Any) -> Any:
    """A date or a time as one without a zone, in UTC: rows may have other types of times than those fitted."""
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return datetime.datetime.combine(value, datetime.time())
    if getattr(value, "tzinfo", None) is not None and isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def joined(tables: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The columns of several tables, one table behind the other."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
