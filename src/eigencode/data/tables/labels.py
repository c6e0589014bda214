"""Columns of labels: booleans, and categories with and without an order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
import pyarrow as pa

from eigencode.data.tables import types
from eigencode.data.tables.kinds import Block, Kind, listed, require
from eigencode.domains import OneOf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencode.data.tables.values import Values

MOST_CELLS = 64
"""Most categories of a column that have a cell of their own."""

RAREST = 1 / 2000
"""A category that occurs in a smaller share of the rows shares a cell with all rare ones."""


@dataclass(frozen=True)
class Boolean(Kind):
    """True and False, or 1 and 0."""

    kind: Annotated[str, OneOf(["boolean"])] = "boolean"
    title = "a column of booleans"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """Booleans by type, or whole numbers that are 0 and 1."""
        if values.kind == "boolean":
            return "booleans"
        is_binary = values.is_number and values.is_whole and values.n_different == 2
        return "only 0 and 1" if is_binary and set(np.unique(values.present)) == {0, 1} else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """Nothing, but that there are no other values."""
        require(values.kind == "boolean" or set(np.unique(values.present)) <= {0, 1}, values, cls.title)
        return cls()

    def allows(self, values: Values) -> np.ndarray:
        """0 and 1."""
        return np.isin(values.numbers, (0, 1)) | values.missing

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One cell."""
        return (("boolean", 1),)

    @property
    def summary(self) -> str:
        """The two values."""
        return "true or false"

    def encode(self, values: Values) -> np.ndarray:
        """1 for true; numbers above one half are."""
        numbers = values.numbers
        return np.where(np.isnan(numbers), np.nan, numbers > 0.5).astype(np.float32)[:, None]

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """True where that is at least as likely as not."""
        missing = np.isnan(cells[:, 0])
        return types.numbers_as(np.where(missing, np.nan, cells[:, 0] >= 0.5), kind)


@dataclass(frozen=True)
class Labels(Kind):
    """One of several labels: an indicator for each, and one for all that are rare or were not seen.

    Attributes
    ----------
    labels : tuple of str
        The labels that have a cell, as text.
    rare : tuple of str
        The other labels fitted, the most frequent first; what the last cell is decoded to is the first of them.
    categories : tuple of str
        All categories of the column's type in its order, used or not; () if the type has none.
    """

    labels: tuple[str, ...]
    rare: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The labels, those with most rows first; those of a categorical type in its order."""
        require(values.kind not in ("nothing", "other"), values, cls.title)
        fewest = len(values) * RAREST
        frequent = [label for label, count in values.counts.items() if count > fewest][:MOST_CELLS]
        rare = tuple(label for label in values.counts if label not in set(frequent))
        categories = tuple(values.coded[1].to_pylist()) if values.kind == "category" else ()
        return cls(cls._ordered(frequent or list(values.counts)[:1], categories), rare, categories)

    @staticmethod
    def _ordered(labels: Sequence[str], categories: Sequence[str]) -> tuple[str, ...]:
        present = set(labels)
        return tuple(label for label in categories if label in present) or tuple(labels)

    def allows(self, values: Values) -> np.ndarray:
        """The labels fitted."""
        codes, labels = values.coded
        known = {*self.labels, *self.rare}
        return np.array([*(label in known for label in labels.to_pylist()), True])[codes]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One block of indicators, the last for labels that are rare or were not seen."""
        return (("category", len(self.labels) + 1),)

    @property
    def cell_names(self) -> list[str]:
        """The labels."""
        return [*(f" = {label}" for label in self.labels), " = another"]

    @property
    def summary(self) -> str:
        """The labels."""
        more = f"; {len(self.rare)} rare ones share a cell" if self.rare else ""
        return f"{len(self.labels)} categories: {listed(self.labels)}{more}"

    def encode(self, values: Values) -> np.ndarray:
        """Indicators."""
        codes, labels = values.coded
        index = {label: number for number, label in enumerate(self.labels)}
        numbers = np.array([*(index.get(label, len(index)) for label in labels.to_pylist()), -1])[codes]
        cells = np.zeros((len(values), self.width), dtype=np.float32)
        cells[np.arange(len(values)), numbers] = 1
        cells[values.missing] = np.nan
        return cells

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """The most likely label; of rare ones the most frequent."""
        labels = [*self.labels, *self.rare[:1]]
        numbers = np.where(np.isnan(cells), -np.inf, cells)[:, : len(labels)].argmax(1)
        found = pa.array(numbers, mask=np.isnan(cells).any(1))
        return self._as_type(found, labels, kind)

    def _as_type(self, numbers: pa.Array, labels: Sequence[str], kind: pa.DataType) -> pa.Array:
        """Labels by their numbers as a column of a type."""
        if not pa.types.is_dictionary(kind):
            return pa.array(labels, pa.string()).take(numbers).cast(kind)
        index = {label: number for number, label in enumerate(self.categories)}
        codes = pa.array([index.get(label) for label in labels], kind.index_type).take(numbers)
        values = pa.array(self.categories, pa.string()).cast(kind.value_type)
        return pa.DictionaryArray.from_arrays(codes, values, ordered=kind.ordered)


@dataclass(frozen=True)
class Category(Labels):
    """Categories without an order."""

    kind: Annotated[str, OneOf(["category"])] = "category"
    title = "a column of categories"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """A categorical type, or text; number columns only where the user says so."""
        if values.kind == "category":
            return "a categorical type"
        if values.is_mixed:
            return "values of several types"
        is_label = values.kind == "text" and not (values.is_number or values.time_format)
        return "text with few different values" if is_label else None


@dataclass(frozen=True)
class Ordered(Labels):
    """Categories in an order."""

    kind: Annotated[str, OneOf(["ordered"])] = "ordered"
    title = "a column of ordered categories"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """A categorical type with an order."""
        return "an ordered categorical type" if values.kind == "category" and values.type.ordered else None

    @classmethod
    def in_order(cls, values: Values, order: Sequence[str]) -> Self:
        """With the order that the user gives."""
        found = cls.learn(values)
        return cls(cls._ordered(found.labels, order), found.rare, found.categories)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One block of indicators."""
        return (("ordered", len(self.labels) + 1),)
