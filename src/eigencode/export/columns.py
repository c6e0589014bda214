"""Mixed columns as one tensor of numbers: to the cells of a model, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from eigencode.data.tables import Schema, as_frame
from eigencode.data.tables.frames import columns_of


class TableColumns:
    """The map between a table as a tensor of shape (n, d), a number for each cell, and cells of shape (n, n_cells).

    A boolean is 0 or 1, a time is in seconds since 1970 (UTC), a duration in seconds, and a category is the number of
    its label in ``labels``, or the next number for any other label. A gap is NaN.

    Parameters
    ----------
    schema : Schema
        The columns; those that the model does not see are left out.
    """

    def __init__(self, schema: Schema) -> None:
        self.parts: list[tuple[Any, slice]] = [(column, part) for column, part in schema._parts() if column.kind.width]

    @property
    def labels(self) -> Mapping[Any, list[str]]:
        """The labels of each category, by the name of its column, in the order of their numbers."""
        kinds = {column.name: column.kind for column, _ in self.parts}
        return {name: [*kind.labels, *kind.rare] for name, kind in kinds.items() if hasattr(kind, "labels")}

    def cells(self, X: Tensor) -> Tensor:
        """The cells of rows."""
        return torch.cat([_cells(column.kind, x) for (column, _), x in zip(self.parts, X.unbind(1), strict=True)], 1)

    def columns(self, means: Tensor) -> Tensor:
        """Rows of the means of cells, shape (n, d)."""
        found = [_column(column.kind, means[:, part], column.arrow) for column, part in self.parts]
        return torch.stack(found, dim=1)

    def numbers(self, frame: Any) -> np.ndarray:
        """A table as numbers, shape (n, d), in float64."""
        table: Any = as_frame(frame)
        found = {values.name: values for values in columns_of(table)}
        return np.stack([self._numbers(column, found[column.name]) for column, _ in self.parts], axis=1)

    def _numbers(self, column: Any, values: Any) -> np.ndarray:
        """The numbers of one column, shape (n,)."""
        if column.name not in self.labels:
            is_clock = column.kind.kind in ("time", "duration")
            return column.kind.encode(values)[:, 0] if is_clock else values.numbers.astype(np.float64)
        codes, labels = values.coded
        index = {label: number for number, label in enumerate(self.labels[column.name])}
        return np.array([*(index.get(label, len(index)) for label in labels.to_pylist()), np.nan])[codes]


def _cells(kind: Any, x: Tensor) -> Tensor:
    """The cells of a column of shape (n,), shape (n, width)."""
    gap = x.isnan()
    if hasattr(kind, "labels"):
        table = torch.from_numpy(kind._cells_of([*kind.labels, *kind.rare, None])).double()
        found = table[x.masked_fill(gap, 0.0).long().clamp(0, len(table) - 1)]
        return found.masked_fill(gap[:, None], torch.nan)
    if kind.kind == "boolean":
        x = (x > 0.5).double().masked_fill(gap, torch.nan)
    elif kind.kind == "count":
        x = x.round()
    elif kind.kind == "positive":
        x = (torch.where((x < 0) | (x + kind.shift <= 0), kind.low, x) + kind.shift).log()
    elif kind.kind == "zero-inflated":
        is_zero = (x <= 0).double().masked_fill(gap, torch.nan)
        return torch.stack([is_zero, torch.where(x > 0, x, torch.nan).log()], dim=1)
    return x[:, None]


def _column(kind: Any, cells: Tensor, type_: pa.DataType) -> Tensor:
    """A column of shape (n,) from the means of its cells."""
    if hasattr(kind, "labels"):
        return _labels(kind, cells).double()
    x = cells[:, -1].exp() if any(kind.is_logarithm) else cells[:, 0]
    if kind.kind == "boolean":
        return (x >= 0.5).double()
    if kind.kind in ("time", "duration"):
        return (x / kind.unit).round() * kind.unit if kind.unit else x
    low, high = (0.0 if kind.low >= 0 else -np.inf), (1.0 if kind.kind == "share" else np.inf)
    x = (x - getattr(kind, "shift", 0.0)).clamp(low, high)
    if kind.kind == "positive" and kind.is_whole and kind.low > 0:
        x = x.clamp(min=1.0)
    if kind.kind == "zero-inflated":
        x = (1 - cells[:, 0].clamp(0, 1)) * x
    return x.round() if kind.is_whole and not pa.types.is_floating(type_) else x


def _labels(kind: Any, cells: Tensor) -> Tensor:
    """The numbers of the most likely labels, as the column decodes them."""
    if kind.kind == "ranked":
        return cells[:, 0].round().clamp(0, len(kind.labels) - 1)
    shares, n_bits = cells[:, : len(kind.labels) + bool(kind.rare)], getattr(kind, "n_bits", 0)
    if not n_bits:
        return shares.argmax(1)
    bits = cells[:, -n_bits:].nan_to_num(1.0)
    code = shares[:, -1:] * bits.maximum(1 - bits).prod(1, keepdim=True)
    found = torch.cat([shares[:, :-1], code], dim=1).argmax(1)
    codes = ((bits >= 0.5).long() * 2 ** torch.arange(n_bits - 1, -1, -1)).sum(1)
    number = torch.div(codes * len(kind.rare), 2**n_bits, rounding_mode="floor")
    return torch.where(found == len(kind.labels), found + number, found)
