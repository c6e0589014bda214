"""Mixed columns as one tensor of numbers: to the cells of a model, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from eigencode.data.tables import Schema, as_frame
from eigencode.data.tables.excluded import Constant
from eigencode.data.tables.frames import columns_of
from eigencode.data.tables.labels import Labels
from eigencode.data.tables.numeric import Number
from eigencode.data.tables.times import Clock
from eigencode.data.tables.types import class_of, limits_of, units_a_second

SHORTER = {pa.float16(): torch.float16, pa.float32(): torch.float32}
"""Types of cells that have fewer digits than what is computed."""


class NumberTypes:
    """What the types of columns make of numbers: the same as `eigencode.data.tables.types.numbers_as`, for all columns.

    Parameters
    ----------
    columns : sequence of Column
        The columns; the numbers of those that have no numbers, as times, stay as they are.
    """

    def __init__(self, columns: Sequence[Any]) -> None:
        types = [column.arrow if isinstance(column.kind, Number) else pa.float64() for column in columns]
        self.shorter = {type_: np.array([each == type_ for each in types]) for type_ in SHORTER if type_ in types}
        self.are_booleans = np.array([pa.types.is_boolean(each) for each in types])
        wholes = [getattr(column.kind, "is_whole", False) for column in columns]
        self.n_steps = np.array([_steps(type_, is_whole) for type_, is_whole in zip(types, wholes, strict=True)])
        self.limits = np.array([limits_of(type_) for type_ in types]).T
        self.have_steps = np.array([not pa.types.is_float64(column.arrow) for column in columns])
        """Which columns have steps between their values: those of any type but the float64 of what is computed."""
        self.widths = np.array([_width(column, n) for column, n in zip(columns, self.n_steps, strict=True)])

    def steps(self, x: np.ndarray) -> np.ndarray:
        """How wide a step is at each number of shape (n, d); infinity for labels, whose numbers have no order."""
        found = np.broadcast_to(self.widths, x.shape).copy()
        for type_, are_such in self.shorter.items():
            found[:, are_such] = np.spacing(np.abs(x[:, are_such]).astype(type_.to_pandas_dtype()))
        return found

    def rounded(self, x: Tensor) -> Tensor:
        """Numbers of shape (n, d), in float64, as cells of the types have them."""
        if np.isfinite(self.limits).any():
            x = x.clamp(*map(torch.from_numpy, self.limits))
        if self.n_steps.any():
            n_steps = torch.from_numpy(np.maximum(self.n_steps, 1.0))
            x = torch.where(torch.from_numpy(self.n_steps > 0), (x * n_steps).round() / n_steps, x)
        if self.are_booleans.any():
            x = torch.where(torch.from_numpy(self.are_booleans) & ~x.isnan(), x.ge(0.5).double(), x)
        for type_, are_such in self.shorter.items():
            x = torch.where(torch.from_numpy(are_such), x.to(SHORTER[type_]).double(), x)
        return x


def _width(column: Any, n_steps: float) -> float:
    """How wide a step of a column is, infinity if that is not known."""
    if n_steps or pa.types.is_boolean(column.arrow):
        return 1.0 / (n_steps or 1.0)
    if isinstance(column.kind, Clock):
        is_written = class_of(column.arrow) not in ("time", "duration")
        return column.kind.unit or (1.0 if is_written else 1.0 / units_a_second(column.arrow))
    return 0.0 if pa.types.is_floating(column.arrow) else math.inf


def _steps(type_: pa.DataType, is_whole: bool) -> float:
    """Number of steps from 0 to 1 between numbers of a type; 0 for floats, which are not rounded."""
    if pa.types.is_boolean(type_) or pa.types.is_floating(type_):
        return 0.0
    if is_whole or pa.types.is_integer(type_):
        return 1.0
    return 10.0**type_.scale if pa.types.is_decimal(type_) else 0.0


class Group:
    """Columns that are computed as one: a graph of a hundred columns takes a hundred times as long otherwise.

    Parameters
    ----------
    kind : Kind
        The kind of all of them.
    columns, cells : sequence of int
        The numbers of the columns and of their cells.
    """

    def __init__(self, kind: Any, columns: Sequence[int], cells: Sequence[int]) -> None:
        self.kind = kind
        self.columns, self.cells = torch.tensor(columns), torch.tensor(cells, dtype=torch.int64)

    def cells_of(self, X: Tensor) -> Tensor:
        """The cells of rows, shape (n, n_cells)."""
        return self.kind.cells(X.index_select(1, self.columns), torch).double().flatten(1)

    def means_of(self, means: Tensor) -> Tensor:
        """The columns of the means of cells, shape (n, n_columns)."""
        cells = means.index_select(1, self.cells).unflatten(1, (len(self.columns), self.kind.width))
        return self.kind.mean(cells, torch).double()

    def allowed(self, X: Tensor) -> Tensor:
        """Whether each number is one that its column can have, shape (n, n_columns)."""
        return self.kind.allows(X.index_select(1, self.columns))


class TableColumns:
    """The map between a table as a tensor of shape (n, d), a number for each cell, and cells of shape (n, n_cells).

    A boolean is 0 or 1, a time is in seconds since 1970 (UTC), a duration in seconds, and a category is the number of
    its label in ``labels``, or the next number for any other label. A gap is NaN.

    Parameters
    ----------
    schema : Schema
        The columns; those that the model does not see are left out.
    constants : bool
        Whether columns of one value, which have no cells, are among them: 0 is that value, and 1 any other.
    """

    def __init__(self, schema: Schema, constants: bool = False) -> None:
        self.is_plain = schema.is_plain
        self.parts: list[tuple[Any, slice]] = [
            (column, part)
            for column, part in schema._parts()
            if column.kind.width or (constants and isinstance(column.kind, Constant))
        ]
        self.types = NumberTypes([column for column, _ in self.parts])
        together: dict[Any, list[int]] = {}
        for number, (column, _) in enumerate(self.parts):
            together.setdefault(column.kind.computation, []).append(number)
        self.groups = [self._group(numbers) for numbers in together.values()]
        self.column_order = torch.cat([group.columns for group in self.groups]).argsort()
        self.cell_order = torch.cat([group.cells for group in self.groups]).argsort()

    def _group(self, numbers: Sequence[int]) -> Group:
        """The columns of these numbers."""
        parts = [self.parts[number] for number in numbers]
        kinds = [column.kind for column, _ in parts]
        cells = [cell for _, part in parts for cell in range(part.start, part.stop)]
        return Group(kinds[0].joined(kinds), numbers, cells)

    @property
    def labels(self) -> Mapping[Any, list[str]]:
        """The labels of each category, by the name of its column, in the order of their numbers."""
        kinds = {column.name: column.kind for column, _ in self.parts}
        constants = {name: [kind.value] for name, kind in kinds.items() if not kind.width}
        return constants | {name: [*kind.labels, *kind.rare] for name, kind in kinds.items() if hasattr(kind, "labels")}

    def cells(self, X: Tensor) -> Tensor:
        """The cells of rows."""
        found = [group.cells_of(X) for group in self.groups if group.kind.width]
        return torch.cat(found, dim=1).index_select(1, self.cell_order)

    def renumbered(self, X: Tensor, of: TableColumns) -> Tensor:
        """Rows with the numbers that labels have here, from those of other columns of the same kinds."""
        pairs = zip(self.parts, of.parts, X.unbind(1), strict=True)
        return torch.stack([_renumbered(x, theirs.kind, own.kind) for (own, _), (theirs, _), x in pairs], dim=1)

    def allowed(self, X: Tensor) -> Tensor:
        """Whether each number is one that its column can have, shape (n, d)."""
        return torch.cat([group.allowed(X) for group in self.groups], dim=1).index_select(1, self.column_order)

    def columns(self, means: Tensor) -> Tensor:
        """Rows of the means of cells, shape (n, d), as the types of the columns have them."""
        if self.is_plain:
            return self.types.rounded(means.double().clamp(*map(torch.from_numpy, self._ends)))
        found = torch.cat([group.means_of(means) for group in self.groups], dim=1)
        return self.types.rounded(found.index_select(1, self.column_order))

    @property
    def _ends(self) -> np.ndarray:
        """The smallest and the largest mean of each column of a plain table, shape (2, d)."""
        ends = np.array([[-np.inf], [np.inf]])
        return np.stack([column.kind.mean(ends) for column, _ in self.parts], axis=1)

    def numbers(self, frame: Any) -> np.ndarray:
        """A table as numbers, shape (n, d), in float64."""
        table: Any = as_frame(frame)
        found = {values.name: values for values in columns_of(table)}
        columns = [column.numbers(found[column.name]).astype(np.float64) for column, _ in self.parts]
        return np.stack(columns, axis=1)


def _renumbered(x: Tensor, kind: Any, to: Any) -> Tensor:
    """Numbers of labels of a kind as those of another; what the other does not know has its number for any other."""
    if not isinstance(kind, Labels) or kind == to:
        return x
    index = {label: number for number, label in enumerate((*to.labels, *to.rare))}
    numbers = [*(index.get(label, len(index)) for label in (*kind.labels, *kind.rare)), len(index)]
    found = torch.tensor(numbers, dtype=x.dtype)[x.nan_to_num(0.0).clamp(0, len(numbers) - 1).long()]
    return found.where(~x.isnan(), x)
