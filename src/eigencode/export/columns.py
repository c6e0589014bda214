"""Mixed columns as one tensor of numbers: to the cells of a model, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from eigencode.data.tables import Schema, as_frame
from eigencode.data.tables.excluded import Constant
from eigencode.data.tables.frames import columns_of
from eigencode.data.tables.labels import Labels


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
        self.parts: list[tuple[Any, slice]] = [
            (column, part)
            for column, part in schema._parts()
            if column.kind.width or (constants and isinstance(column.kind, Constant))
        ]

    @property
    def labels(self) -> Mapping[Any, list[str]]:
        """The labels of each category, by the name of its column, in the order of their numbers."""
        kinds = {column.name: column.kind for column, _ in self.parts}
        constants = {name: [kind.value] for name, kind in kinds.items() if not kind.width}
        return constants | {name: [*kind.labels, *kind.rare] for name, kind in kinds.items() if hasattr(kind, "labels")}

    def cells(self, X: Tensor) -> Tensor:
        """The cells of rows."""
        kinds = [(column.kind, x) for (column, _), x in zip(self.parts, X.unbind(1), strict=True)]
        return torch.cat([kind.cells(x, torch).double() for kind, x in kinds if kind.width], dim=1)

    def renumbered(self, X: Tensor, of: TableColumns) -> Tensor:
        """Rows with the numbers that labels have here, from those of other columns of the same kinds."""
        pairs = zip(self.parts, of.parts, X.unbind(1), strict=True)
        return torch.stack([_renumbered(x, theirs.kind, own.kind) for (own, _), (theirs, _), x in pairs], dim=1)

    def allowed(self, X: Tensor) -> Tensor:
        """Whether each number is one that its column can have, shape (n, d)."""
        kinds = [(column.kind, x) for (column, _), x in zip(self.parts, X.unbind(1), strict=True)]
        return torch.stack([kind.allows(x) for kind, x in kinds], dim=1)

    def columns(self, means: Tensor) -> Tensor:
        """Rows of the means of cells, shape (n, d)."""
        return torch.stack([_mean(column, means[:, part]) for column, part in self.parts], dim=1)

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


def _mean(column: Any, cells: Tensor) -> Tensor:
    """The numbers of a column from the means of its cells, shape (n,); whole in a column of whole numbers."""
    found: Tensor = column.kind.mean(cells, torch).double()
    is_whole = getattr(column.kind, "is_whole", False) and not pa.types.is_floating(column.arrow)
    return found.round() if is_whole else found
