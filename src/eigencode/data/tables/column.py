"""Column: what one column of a frame is, its cells, and the column made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from eigencode.data.tables import types
from eigencode.data.tables.excluded import Constant, Identifier, Text
from eigencode.data.tables.hints import hint_on
from eigencode.data.tables.kinds import Excluded, Kind, listed
from eigencode.data.tables.labels import Boolean, Category, Labels, Ordered, Ranked
from eigencode.data.tables.numeric import Count, Positive, Real, Share, ZeroInflated
from eigencode.data.tables.times import Duration, Time
from eigencode.data.tables.values import Values
from eigencode.errors import DataError, OptionError, did_you_mean

AnyKind = (
    Constant | Boolean | Identifier | Text | Ranked | Ordered | Category | Time | Duration | ZeroInflated | Count
    | Share | Positive | Real
)  # fmt: skip
"""All kinds, in the order in which they are asked whether a column is of theirs."""

KINDS: dict[str, type[Kind]] = {kind.kind: kind for kind in AnyKind.__args__}
"""The kinds by the names that the option 'columns' knows."""


@dataclass(frozen=True)
class Column:
    """One column of a frame.

    Attributes
    ----------
    name : object
        Its name.
    kind : Kind
        What it is, with its values' range or its categories.
    reason : str
        Why.
    n_gaps : int
        Number of gaps in the rows fitted.
    type : str
        The Arrow type of its cells.
    native_type : str
        Its type in the frame's own library.
    is_mixed : bool
        Whether its cells are of several Python types.
    hint : str
        What is odd about it; "" if nothing is.
    """

    name: Any
    kind: AnyKind
    reason: str
    n_gaps: int
    type: str
    native_type: str
    is_mixed: bool = False
    hint: str = ""

    @classmethod
    def infer(cls, values: Values, wanted: Any = None, plain: bool = False) -> Column:
        """Find out what a column is.

        Parameters
        ----------
        values : Values
            Its cells.
        wanted : str or sequence of str, optional
            The name of a kind, or ordered categories.
        plain : bool
            Whether numbers and booleans are just numbers, as for a likelihood that is given for them.
        """
        kind, reason = _asked_for(values, wanted) if wanted is not None else _recognised(values, plain)
        is_number = isinstance(kind, Identifier) and values.kind == "number"
        hint = hint_on(values) if wanted is None and not is_number else ""
        return cls(
            values.name, kind, reason, values.n_gaps, types.text_of(values.type), values.dtype, values.is_mixed, hint
        )

    def learned_from(self, values: Values, wanted: Any = None) -> Column:
        """The same column with the labels, range and gaps of other values; those of its kind stay if these have none.

        ``wanted`` is what the user asked for, as in `infer`.
        """
        if not self.kind.width:
            return self
        kind = self.kind
        with suppress(DataError):
            kind = type(kind).learn(values) if isinstance(wanted, str | None) else _asked_for(values, wanted)[0]
        return replace(self, kind=kind, n_gaps=values.n_gaps)

    @property
    def is_numeric(self) -> bool:
        """Whether its type is one of numbers, or of booleans; periods of pandas have numbers, and are none."""
        return types.class_of(self.arrow) in ("number", "boolean") and not self.native_type.startswith("period[")

    def encode(self, values: Values) -> np.ndarray:
        """Its cells in rows like those fitted; `DataError` if the column is of another type now."""
        return self.kind.encode(self._checked(values))

    def allows(self, values: Values) -> np.ndarray:
        """Whether each value is one that the column can have."""
        return np.asarray(self.kind.allows(self.numbers(values)))

    def numbers(self, values: Values) -> np.ndarray:
        """A number for each value, shape (n,), by its kind."""
        return self.kind.numbers(self._checked(values))

    def as_fitted(self, values: Values) -> Values:
        """The values in the type fitted; `DataError` if one of them cannot be in such a column."""
        if not (allowed := self.allows(values)).all():
            row = int(allowed.argmin())
            labels = getattr(self.kind, "labels", ())
            raise DataError(
                f"Column {self.name!r}, {self.description}, cannot have a value that is given",
                got=f"{values.cells[row].as_py()!r:.60} in row {row}",
                hint=f"Known labels: {listed(labels)}" if labels else "Leave it as a gap to draw it",
            )
        if isinstance(self.kind, Labels):
            codes, labels = self._checked(values).coded
            return self.values_of(self.kind.as_type(pa.array(codes, mask=codes < 0), labels.to_pylist(), self.arrow))
        return values

    def _checked(self, values: Values) -> Values:
        """The values in the type fitted, if labels are looked up by it; text if several types were fitted."""
        if self.is_mixed and not values.is_mixed:
            cells = [None if cell is None else self._as_json(cell) for cell in values.cells.to_pylist()]
            values = Values(values.name, pa.array(cells, pa.string()), values.dtype, is_mixed=True)
        fitted = self.arrow.value_type if pa.types.is_dictionary(self.arrow) else self.arrow
        values = values.or_gaps_of(fitted)
        if not isinstance(self.kind, Labels):
            return values
        found = values.type.value_type if values.kind == "category" else values.type
        is_whole = pa.types.is_integer(found) or (values.kind == "number" and values.is_whole)  # floats by gaps
        is_numeral = types.is_text(fitted) and is_whole and all(map(str.isdigit, self.kind.labels))
        if not is_numeral and len({types.class_of(fitted), types.class_of(found)} - {"nothing"}) > 1:
            raise values.unfit(f"{types.class_of(fitted)}, as in fitting")
        if found == fitted:
            return values
        cells = values.cells.cast(found) if values.kind == "category" else values.cells
        cells = cells.cast(pa.int64()) if is_numeral else cells
        return Values(values.name, cells.cast(fitted, safe=False), values.dtype, values.is_mixed)

    def _as_json(self, cell: Any) -> str:
        """A cell as a label of a column of several types; 1.0 is 1, if that was fitted and 1.0 was not."""
        text = json.dumps(cell, default=str)
        labels = (*getattr(self.kind, "labels", ()), *getattr(self.kind, "rare", ()))
        return text.removesuffix(".0") if isinstance(cell, float) and text not in labels else text

    def values_of(self, cells: pa.Array) -> Values:
        """Decoded cells as values of the type fitted."""
        return Values(self.name, cells, self.native_type, self.is_mixed)

    @property
    def is_coded(self) -> bool:
        """Whether it has categories that are told apart by codes."""
        return isinstance(self.kind, Category) and self.kind.n_bits > 0

    def coded_by(self, values: Values, others: Sequence[np.ndarray]) -> Column:
        """With codes by the cells of the other columns in the same rows."""
        return replace(self, kind=self.kind.coded_by(values, others))  # type: ignore[union-attr]

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type fitted."""
        return types.type_of(self.type)

    @property
    def facts(self) -> dict[str, Any]:
        """The same as JSON values."""
        kind = self.kind.kind
        return {
            "name": self.name,
            "kind": kind,
            "values": self.kind.summary,
            "gaps": self.n_gaps,
            "reason": self.reason,
            "notes": self.notes,
        }

    @property
    def notes(self) -> list[str]:
        """Sentences: that it is left out, or not taken as it is."""
        remarks = [self.hint] if self.hint else []
        if isinstance(self.kind, Identifier | Text) or (isinstance(self.kind, Constant) and self.kind.value is None):
            remarks = [f"is left out: {self.reason}", *remarks]
        found = [f"column {self.name!r} {what}" for what in remarks]
        if unlisted := getattr(self.kind, "unlisted", ()):
            what = "are taken as one" if isinstance(self.kind, Ordered) else "are gaps to the model"
            found.append(f"values of column {self.name!r} that are not in its order {what}: {listed(unlisted)}")
            return found
        rare = len(getattr(self.kind, "rare", ()))
        bits = getattr(self.kind, "n_bits", 0)
        how = f"are told apart by {bits} cells" if bits else "are taken as one"
        if rare == 1:
            return [*found, f"1 rare category of column {self.name!r} is taken as unseen ones are"]
        return [*found, f"{rare} rare categories of column {self.name!r} {how}"] if rare else found

    @property
    def description(self) -> str:
        """Kind, values, gaps and reason, on one line."""
        gaps = f"{self.n_gaps} gap{'s' if self.n_gaps > 1 else ''}, " if self.n_gaps else ""
        return f"{self.kind.kind}: {self.kind.summary} ({gaps}{self.reason})"


def _recognised(values: Values, plain: bool) -> tuple[Any, str]:
    if plain and values.kind in ("number", "boolean") and values.n_gaps < len(values):
        return Real.learn(values), "numbers"
    for kind in KINDS.values():
        if (reason := kind.recognise(values)) is not None:
            return kind.learn(values), reason
    return Text.learn(values), f"cells of type {values.type_name}"


def _asked_for(values: Values, wanted: Any) -> tuple[Any, str]:
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return Ordered.in_order(values, [str(label) for label in wanted]), "as asked for"
    if wanted not in KINDS:
        raise OptionError(
            f"The kind of column {values.name!r} is not known",
            got=f"{wanted!r}",
            hint=did_you_mean(wanted, KINDS) if isinstance(wanted, str) else did_you_mean("", KINDS),
        )
    if not issubclass(KINDS[wanted], Excluded) and values.n_gaps == len(values):
        raise DataError(f"Column {values.name!r} has only gaps", got=f"columns={{{values.name!r}: {wanted!r}}}")
    return KINDS[wanted].learn(values), "as asked for"
