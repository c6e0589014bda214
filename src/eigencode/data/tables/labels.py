"""Columns of labels: booleans, and categories with and without an order."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from eigencode.data.tables import hashing, types
from eigencode.data.tables.kinds import Block, Kind, listed, require
from eigencode.domains import OneOf
from eigencode.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencode.data.tables.values import Values

MOST_CELLS = 64
"""Most categories of a column that have a cell of their own."""

RAREST = 1 / 2000
"""A category that occurs in a smaller share of the rows shares a cell with all rare ones."""

CODED_SHARE = 0.05
"""Share of the rows with rare categories from which these are told apart, by a code."""


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

    def allows(self, x: Any) -> Any:
        """0 and 1."""
        return (x == 0) | (x == 1) | (x != x)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One cell."""
        return (("boolean", 1),)

    @property
    def summary(self) -> str:
        """The two values."""
        return "true or false"

    def cells(self, x: Any, xp: Any = np) -> Any:
        """1 for true; numbers above one half are."""
        found = xp.where(xp.isnan(x), math.nan, xp.where(x > 0.5, 1.0, 0.0))
        return xp.asarray(found, dtype=xp.float32)[..., None]

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """1 where true is at least as likely as not."""
        return xp.where(xp.isnan(cells[..., 0]), math.nan, xp.where(cells[..., 0] >= 0.5, 1.0, 0.0))

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """True where that is at least as likely as not."""
        return types.numbers_as(self.mean(cells), kind)


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
    rarest: ClassVar[float] = RAREST
    has_order: ClassVar[bool] = False

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The labels, those with most rows first; those of a categorical type in its order."""
        require(values.kind not in ("nothing", "other"), values, cls.title)
        fewest = len(values) * cls.rarest
        frequent = [label for label, count in values.counts.items() if count > fewest][:MOST_CELLS]
        rare = tuple(label for label in values.counts if label not in set(frequent))
        categories = tuple(values.coded[1].to_pylist()) if values.kind == "category" else ()
        return cls(cls._ordered(frequent or list(values.counts)[:1], categories), rare, categories)

    @staticmethod
    def _ordered(labels: Sequence[str], categories: Sequence[str]) -> tuple[str, ...]:
        present = set(labels)
        return tuple(label for label in categories if label in present) or tuple(labels)

    def numbers(self, values: Values) -> np.ndarray:
        """The number of the label in `labels` and then `rare`, or the next number for any other."""
        codes, labels = values.coded
        index = {label: number for number, label in enumerate((*self.labels, *self.rare))}
        return np.array([*(index.get(label, len(index)) for label in labels.to_pylist()), np.nan])[codes]

    def places(self, values: Sequence[Any]) -> Sequence[Any]:
        """The numbers of labels in their order, if there is one and it has all of them."""
        index = {label: number for number, label in enumerate(self.labels if self.has_order else ())}
        return [index[str(value)] for value in values] if index.keys() >= set(map(str, values)) else values

    def allows(self, x: Any) -> Any:
        """The labels fitted."""
        return (x < len(self.labels) + len(self.rare)) | (x != x)

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
        more = f"; rare ones that share a cell: {len(self.rare)}" if self.rare else ""
        return f"{len(self.labels)} categories: {listed(self.labels)}{more}"

    @property
    def computation(self) -> tuple[Any, ...]:
        """How many labels there are."""
        return (type(self), len(self.labels), len(self.rare))

    def cells(self, x: Any, xp: Any = np) -> Any:
        """Indicators, by one look-up; a gap has the last row of the table."""
        last = len(self._table) - 1
        rows = xp.where(xp.isnan(x), last, x.clip(0, last - 1))
        return xp.asarray(self._table)[xp.asarray(rows, dtype=xp.int64)]

    @cached_property
    def _table(self) -> np.ndarray:
        """The cells of each label, of any other, and of a gap."""
        cells = self._cells_of([*self.labels, *self.rare, None])
        return np.concatenate([cells, np.full((1, self.width), np.nan, np.float32)])

    def _cells_of(self, labels: Sequence[Any]) -> np.ndarray:
        """The cells of labels, shape (n, width)."""
        index = {label: number for number, label in enumerate(self.labels)}
        numbers = np.array([index.get(label, len(index)) for label in labels], dtype=np.intp)
        return np.eye(len(index) + 1, dtype=np.float32)[numbers]

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """The most likely label; of rare ones the most frequent, or that of the code."""
        labels = [*self.labels, *self.rare]
        missing = np.isnan(cells[:, : len(self.labels) + bool(self.rare)]).any(1)
        return self.as_type(pa.array(self.mean(cells), mask=missing), labels, kind)

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """The numbers of the most likely labels, those of rare ones after the others."""
        return self._shares(cells, xp).argmax(-1)

    def _shares(self, cells: Any, xp: Any) -> Any:
        """The probabilities of the labels, and of the rare ones together if there are some."""
        shares = cells[..., : len(self.labels) + bool(self.rare)]
        return xp.where(xp.isnan(shares), -math.inf, shares)

    def as_type(self, numbers: pa.Array, labels: Sequence[str], kind: pa.DataType) -> pa.Array:
        """Labels by their numbers as a column of a type."""
        if not pa.types.is_dictionary(kind):
            return pa.array(labels, pa.string()).take(numbers).cast(kind)
        index = {label: number for number, label in enumerate(self.categories)}
        codes = pa.array([index.get(label) for label in labels], kind.index_type).take(numbers)
        values = pa.array(self.categories, pa.string()).cast(kind.value_type)
        return pa.DictionaryArray.from_arrays(codes, values, ordered=kind.ordered)


@dataclass(frozen=True)
class Category(Labels):
    """Categories without an order.

    Where many rows have rare labels, these have further cells with the bits of a code, which are gaps for the other
    labels. The labels of ``rare`` are in the order of their codes then.

    Attributes
    ----------
    n_bits : int
        The number of these cells.
    """

    n_bits: int = 0

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

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The labels, and whether the rare ones have codes."""
        found = super().learn(values)
        n_rare = sum(values.counts[label] for label in found.rare)
        is_coded = len(found.rare) > 1 and n_rare >= CODED_SHARE * sum(values.counts.values())
        return replace(found, n_bits=(len(found.rare) - 1).bit_length()) if is_coded else found

    def coded_by(self, values: Values, others: Sequence[np.ndarray]) -> Category:
        """With codes by the cells of the other columns in the same rows."""
        index = {label: number for number, label in enumerate(self.rare)}
        codes, labels = values.coded
        numbers = np.array([*(index.get(label, -1) for label in labels.to_pylist()), -1])[codes]
        order = hashing.order(*hashing.profiles(numbers, len(self.rare), others))
        return replace(self, rare=tuple(self.rare[number] for number in order))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One block of indicators; another of bits."""
        return (*super().blocks, ("code", self.n_bits)) if self.n_bits else super().blocks

    @property
    def cell_names(self) -> list[str]:
        """The labels, and the bits."""
        return [*super().cell_names, *(f" bit {number + 1}" for number in range(self.n_bits))]

    @property
    def summary(self) -> str:
        """The labels."""
        how = f"have codes of {self.n_bits} bits" if self.n_bits else "share a cell"
        return super().summary.replace("share a cell", how)

    @property
    def computation(self) -> tuple[Any, ...]:
        """How many labels and bits there are."""
        return (*super().computation, self.n_bits)

    def _cells_of(self, labels: Sequence[Any]) -> np.ndarray:
        """Indicators, and the bits of rare labels."""
        index = {label: number for number, label in enumerate(self.rare if self.n_bits else ())}
        numbers = np.array([index.get(label, -1) for label in labels], dtype=np.int64)
        bits = hashing.bits_of(numbers, len(index) or 1, self.n_bits).astype(np.float32)
        bits[numbers < 0] = np.nan
        return np.concatenate([super()._cells_of(labels), bits], axis=1)

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """The numbers of the most likely labels; a rare one is as likely as its code, all its bits together."""
        if not self.n_bits:
            return super().mean(cells, xp)
        shares, bits = self._shares(cells, xp), xp.nan_to_num(cells[..., -self.n_bits :], nan=1.0)
        code = shares[..., -1:] * xp.maximum(bits, 1 - bits).prod(-1)[..., None]
        found = xp.concatenate([shares[..., :-1], code], axis=-1).argmax(-1)
        return found + xp.where(found == len(self.labels), hashing.numbers_of(bits >= 0.5, len(self.rare), xp), 0)


@dataclass(frozen=True)
class Ordered(Labels):
    """Categories in an order.

    Attributes
    ----------
    unlisted : tuple of str
        Those of ``rare`` that are not in the order that the user gave.
    """

    unlisted: tuple[str, ...] = ()

    kind: Annotated[str, OneOf(["ordered"])] = "ordered"
    title = "a column of ordered categories"
    rarest = 0.0
    has_order = True

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """A categorical type with an order."""
        return "an ordered categorical type" if values.kind == "category" and values.type.ordered else None

    @classmethod
    def in_order(cls, values: Values, order: Sequence[str]) -> Ordered | Ranked:
        """With the order that the user gives; by rank where it has many values."""
        if set(order).isdisjoint(values.counts):
            what = f"Column {values.name!r} cannot be ordered so: none of its values is listed"
            raise DataError(what, got=f"the values {listed(tuple(values.counts))}")
        unlisted = tuple(label for label in values.counts if label not in set(order))
        if len(order) > MOST_CELLS:
            return replace(Ranked.learn(values), labels=tuple(order), unlisted=unlisted)
        labels = tuple(label for label in order if label in values.counts)
        return cls(labels, unlisted, cls.learn(values).categories, unlisted)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One block of indicators."""
        return (("ordered", len(self.labels) + 1),)


@dataclass(frozen=True)
class Ranked(Labels):
    """Many categories in an order: the number of a label in it.

    Attributes
    ----------
    unlisted : tuple of str
        Labels that are not in the order that the user gave, and are gaps to the model.
    """

    unlisted: tuple[str, ...] = ()

    kind: Annotated[str, OneOf(["ranked"])] = "ranked"
    title = "a column of many ordered categories"
    has_order = True

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """A categorical type with an order, and more labels than have cells of their own."""
        is_ordered = values.kind == "category" and values.type.ordered
        return "an ordered categorical type" if is_ordered and len(values.counts) > MOST_CELLS else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """All labels of the type, or those that occur, in the order of their text."""
        require(values.kind not in ("nothing", "other"), values, cls.title)
        categories = tuple(values.coded[1].to_pylist()) if values.kind == "category" else ()
        return cls(categories or tuple(sorted(values.counts)), (), categories)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One cell, a number."""
        return (("real", 1),)

    @property
    def cell_names(self) -> list[str]:
        """None of its own."""
        return [""]

    def _cells_of(self, labels: Sequence[Any]) -> np.ndarray:
        """The numbers of labels."""
        index = {label: number for number, label in enumerate(self.labels)}
        return np.array([[index.get(label, np.nan)] for label in labels], dtype=np.float32)

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """The labels of the nearest numbers."""
        numbers = np.nan_to_num(self.mean(cells)).astype(np.int64)
        return self.as_type(pa.array(numbers, mask=np.isnan(cells[:, 0])), self.labels, kind)

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """The nearest numbers."""
        return xp.round(cells[..., 0]).clip(0, len(self.labels) - 1)
