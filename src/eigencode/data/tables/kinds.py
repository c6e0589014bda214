"""Kinds of columns: what a column's cells become for a model, and how cells become the column again."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from eigencode.errors import DataError, enumerated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencode.data.tables.values import Values

Block = tuple[str, int]
"""The family of a likelihood, and the number of cells that it is over; they are hidden and seen together."""


@dataclass(frozen=True)
class Kind(ABC):
    """What a column is, with all that was learned of it: plain values, which a model file can keep."""

    title: ClassVar[str]

    @classmethod
    @abstractmethod
    def recognise(cls, values: Values) -> str | None:
        """The reason why a column is of this kind, None if it is not."""

    @classmethod
    @abstractmethod
    def learn(cls, values: Values) -> Self:
        """The kind with what it has to know of a column; `DataError` if the column cannot be of this kind."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """The blocks of cells, in order; () for a column that the model does not see."""

    @property
    def width(self) -> int:
        """Number of cells."""
        return sum(width for _, width in self.blocks)

    def encode(self, values: Values) -> np.ndarray:
        """The cells of shape (n, width), NaN for gaps."""
        found: np.ndarray = self.cells(self.numbers(values))
        return found

    def numbers(self, values: Values) -> np.ndarray:
        """A number for each value, shape (n,), NaN for gaps; of a label its number, and of a time its seconds."""
        return values.numbers

    # Of numbers and cells as arrays of NumPy or tensors of torch, by the functions of ``xp``, of any number of rows and
    # columns: numbers of shape (...) and cells of shape (..., width).

    @property
    def computation(self) -> tuple[Any, ...]:
        """What `cells`, `mean` and `allows` depend on: columns in which it is equal can be computed as one."""
        return (self,)

    def joined(self, kinds: Sequence[Self]) -> Self:
        """One kind for columns in which `computation` is equal; numbers of them have the shape (..., n_columns)."""
        return self

    @abstractmethod
    def cells(self, x: Any, xp: Any = np) -> Any:
        """The cells of numbers."""

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """The numbers that means of cells stand for, not rounded; of labels that of the likeliest."""
        return cells[..., 0]

    def places(self, values: Sequence[Any]) -> Sequence[Any]:
        """What values are compared by, where they have an order that they do not show: times as text, ranks."""
        return values

    def allows(self, x: Any) -> Any:
        """Whether each number is that of a value that such a column can have; for gaps too."""
        return (x == x) | True

    @abstractmethod
    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """A column of a type from cells of shape (n, width)."""

    def decode_drawn(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """A column of draws: none of its values is beyond those fitted."""
        return self.decode(cells, kind)

    def decode_mean(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """A column of means: not rounded where its type has fractions, as pandas' type of whole numbers with gaps."""
        return self.decode(cells, kind)

    @property
    def is_logarithm(self) -> list[bool]:
        """Whether each cell is the logarithm of a number."""
        return [False] * self.width

    @property
    def highest(self) -> list[float]:
        """The largest value fitted of each cell that is modelled by a logarithm, infinity for others."""
        return [math.inf] * self.width

    def log_jacobian(self, cells: np.ndarray) -> np.ndarray:
        """The log-density of each value minus that of its cells, shape (n,)."""
        return np.zeros(len(cells))

    @property
    def cell_names(self) -> list[str]:
        """What tells the cells of one column apart, as a suffix."""
        return [""] * self.width

    @property
    @abstractmethod
    def summary(self) -> str:
        """The values in a few characters, as "from 0 to 80"."""


@dataclass(frozen=True)
class Excluded(Kind):
    """A column that is no part of the model: it has no cells, and is passed on where an answer has the same rows."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """None."""
        return ()

    def numbers(self, values: Values) -> np.ndarray:
        """None: zeros."""
        return np.zeros(len(values), dtype=np.float32)

    def cells(self, x: Any, xp: Any = np) -> Any:
        """No cells."""
        return x[..., None][..., :0]

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """Zeros."""
        return cells.sum(-1)

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Gaps."""
        return pa.nulls(len(cells), kind)

    @property
    def summary(self) -> str:
        """That it is left out."""
        return "left out"


def short(number: float) -> str:
    """A number for people.

    Examples
    --------
    >>> short(512.3292), short(80.0), short(1e9)
    ('512.329', '80', '1e+09')
    """
    return f"{number:.6g}"


def listed(labels: tuple[str, ...]) -> str:
    """A few labels with commas between them."""
    cut = (label if len(label) <= 20 else f"{label[:17]}..." for label in labels)
    plain = (bool(label) and label.strip() == label and label.isprintable() for label in labels)
    return enumerated([label if is_plain else repr(label) for label, is_plain in zip(cut, plain, strict=True)], 4)


def require(condition: bool | np.ndarray, values: Values, wanted: str) -> None:
    """Raise `DataError` where a column, or one of its numbers, cannot be of the kind that the user asked for."""
    are_fit = np.asarray(condition)
    if not are_fit.all():
        got = f"{values.present[int(are_fit.argmin())]:g}" if are_fit.ndim else f"{values.kind} ({values.dtype})"
        raise DataError(f"Column {values.name!r} cannot be {wanted}", got=got)
