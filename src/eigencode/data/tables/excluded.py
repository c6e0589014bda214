"""Columns that the model does not see: those of one value, identifiers, and free text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.tables.kinds import Excluded
from eigencode.domains import OneOf
from eigencode.errors import DataError

if TYPE_CHECKING:
    from eigencode.data.tables.values import Values

FEWEST = 20
"""Rows from which different values in all rows say something."""

MOST_LABELS = 64
"""Text with more different values than this, in more than half of the rows, is free text."""

NAMES = re.compile(r"(.*[_\W]|)(id|uuid|guid|key|index)", re.IGNORECASE)
"""Names of identifiers."""


@dataclass(frozen=True)
class Constant(Excluded):
    """One value in all rows, or gaps only.

    Attributes
    ----------
    value : str or None
        The value, as text; None if there are only gaps.
    categories : tuple of str
        All categories of the column's type, in its order.
    """

    value: str | None = None
    categories: tuple[str, ...] = ()
    kind: Annotated[str, OneOf(["constant"])] = "constant"
    title = "a column of one value"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """At most one value, which is no number: numbers stay in the model, so that another one counts as an error."""
        if values.n_gaps == len(values):
            return "only gaps"
        is_one = values.kind in ("text", "boolean", "category") and values.n_different == 1
        return "one value in all rows" if is_one else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The value."""
        labels = [] if values.n_gaps == len(values) else list(values.counts)
        if len(labels) > 1:
            raise DataError(f"Column {values.name!r} cannot be {cls.title}", got=f"{len(labels)} different values")
        categories = tuple(values.coded[1].to_pylist()) if values.kind == "category" else ()
        return cls(labels[0] if labels else None, categories)

    def numbers(self, values: Values) -> np.ndarray:
        """0 for the one value, 1 for others."""
        if self.value is None or values.kind in ("nothing", "other"):
            return super().numbers(values)
        codes, labels = values.coded
        return np.array([*(label != self.value for label in labels.to_pylist()), np.nan])[codes]

    @property
    def computation(self) -> tuple[Any, ...]:
        """Nothing: each value is the number 0."""
        return (type(self),)

    def allows(self, x: Any) -> Any:
        """The one value."""
        return (x == 0) | (x != x)

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """The value in all rows."""
        if pa.types.is_dictionary(kind):
            index = None if self.value is None else self.categories.index(self.value)
            values = pa.array(self.categories, pa.string()).cast(kind.value_type)
            codes = pa.array([index] * len(cells), kind.index_type)
            return pa.DictionaryArray.from_arrays(codes, values, ordered=kind.ordered)
        if self.value is None:
            return pa.nulls(len(cells), kind)
        return pa.array([self.value] * len(cells), pa.string()).cast(kind)

    @property
    def summary(self) -> str:
        """The value."""
        return "no value" if self.value is None else f"always {self.value!r:.40}"


@dataclass(frozen=True)
class Identifier(Excluded):
    """Numbers or names of rows, each different: they say which row it is, and nothing that could be learned.

    Attributes
    ----------
    largest : int or None
        The largest number; drawn rows are numbered on from it. None for text.
    """

    largest: int | None = None
    kind: Annotated[str, OneOf(["identifier"])] = "identifier"
    title = "a column of identifiers"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """As many different values as rows, and a form or a name that says so."""
        is_candidate = values.kind == "text" or (values.is_number and values.is_whole)
        if not is_candidate or len(values) < FEWEST or values.n_gaps or values.n_different < len(values):
            return None
        if values.time_format:
            return None
        if values.kind == "text" and not values.is_number:
            spaces = pc.sum(pc.match_substring(values.cells, " ")).as_py()
            return "a different text in each row" if spaces < len(values) / 2 else None
        named = isinstance(values.name, str) and NAMES.fullmatch(values.name) is not None
        steps = np.diff(values.present)
        if values.present[0] in (0, 1) and (steps == 1).all():
            return "the numbers of the rows"
        is_large = values.present.max() > 2**53
        return "a different number in each row" if named or is_large else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The largest number."""
        largest = pc.max(values.cells).as_py() if values.kind == "number" else None
        return cls(None if largest is None else int(largest))

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Numbers after the largest one; gaps for text."""
        if self.largest is None:
            return super().decode(cells, kind)
        first = self.largest + 1
        try:
            return pa.array(range(first, first + len(cells)), pa.uint64() if first >= 2**63 else pa.int64()).cast(kind)
        except (pa.ArrowException, OverflowError):  # beyond the largest number of the type
            return super().decode(cells, kind)


@dataclass(frozen=True)
class Text(Excluded):
    """Free text, and cells of other types that are no values of a table."""

    kind: Annotated[str, OneOf(["text"])] = "text"
    title = "a column of free text"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """A different text in most rows, or a type that is none of a table's."""
        if values.kind == "other":
            return f"cells of type {values.type_name}"
        n_present = len(values) - values.n_gaps
        is_free = values.kind == "text" and values.n_different > max(MOST_LABELS, n_present / 2)
        is_free |= values.kind == "text" and len(values) >= FEWEST and values.n_different == n_present
        if not is_free or values.is_number or values.time_format:
            return None
        return f"{values.n_different} different texts in {len(values)} rows"

    @classmethod
    def learn(cls, values: Values) -> Self:
        """Nothing."""
        return cls()
