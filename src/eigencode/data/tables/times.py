"""Columns of times and durations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eigencode.data.tables import types
from eigencode.data.tables.kinds import Block, Kind, require
from eigencode.domains import OneOf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencode.data.tables.values import Values

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


UNITS = 86_400, 3_600, 60, 1
"""Seconds of the units to which decoded values are rounded, if all values fitted were whole ones."""


@dataclass(frozen=True)
class Clock(Kind):
    """Times or durations, in seconds.

    Attributes
    ----------
    low, high : float
        The range of the values fitted, in seconds; times are since 1970 (UTC).
    unit : float
        The largest unit, in seconds, of which all values are multiples; 0 if they are finer than a second.
    format : str
        How times are written, in a column of text; "" in others.
    """

    low: float
    high: float
    unit: float = 0.0
    format: str = ""
    of: ClassVar[str]

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """By type."""
        return f"the type {values.type}" if values.kind == cls.of else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The range and the unit; of text with few different times too, which `recognise` takes for labels."""
        is_text = cls.of == "time" and values.kind == "text" and not values.is_mixed
        format_ = (types.time_format(values.coded[1]) or "") if is_text else ""
        require((values.kind == cls.of or bool(format_)) and values.n_gaps < len(values), values, cls.title)
        found = cls._seconds(values, format_)
        found = found[~np.isnan(found)]
        unit = next((float(unit) for unit in UNITS if not (found % unit).any()), 0.0)
        return cls(float(found.min()), float(found.max()), unit, format_)

    @classmethod
    def _seconds(cls, values: Values, format_: str) -> np.ndarray:
        """Seconds; text is read in this format, or in one that all of it has."""
        cells: pa.Array | None = values.cells
        if values.kind == "text" and cls.of == "time":
            format_ = format_ or types.time_format(values.cells.cast(pa.string()).drop_null()) or ""
            cells = types.times_of(values.cells, format_) if format_ else None
        if cells is None or values.kind not in (cls.of, "text", "nothing"):
            wanted = "times" if cls.of == "time" else "durations"
            raise values.unfit(f"{wanted}, as {format_}" if format_ else wanted, lambda cell: _is_time(cell, format_))
        return np.full(len(values), np.nan) if values.kind == "nothing" else types.seconds(cells)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One cell, the seconds."""
        return (("real", 1),)

    def numbers(self, values: Values) -> np.ndarray:
        """Seconds."""
        return self._seconds(values, self.format)

    def places(self, values: Sequence[Any]) -> Sequence[Any]:
        """Text as times, if all of it can be read."""
        if not self.format or not all(isinstance(value, str) for value in values):
            return values
        times = types.times_of(pa.array(values, pa.string()), self.format)
        return values if times is None else list(times.to_pylist())

    @property
    def computation(self) -> tuple[Any, ...]:
        """The unit."""
        return (type(self), self.unit)

    def cells(self, x: Any, xp: Any = np) -> Any:
        """The seconds themselves."""
        return x[..., None]

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """Seconds, rounded to the unit."""
        seconds = xp.asarray(cells[..., 0], dtype=xp.float64)
        return xp.round(seconds / self.unit) * self.unit if self.unit else seconds

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Times or durations, rounded to their unit and to that of their type."""
        seconds = self.mean(cells)
        if not self.format:
            return types.from_seconds(seconds, kind)
        return pc.strftime(types.from_seconds(seconds, pa.timestamp("s")), format=self.format).cast(kind)

    def decode_drawn(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Those within the range fitted."""
        return self.decode(cells.clip(self.low, self.high), kind)


@dataclass(frozen=True)
class Time(Clock):
    """Dates, and times of a date."""

    kind: Annotated[str, OneOf(["time"])] = "time"
    of = "time"
    title = "a column of times"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """By type, or text with many different times."""
        return super().recognise(values) or (f"text as {values.time_format}" if values.time_format else None)

    @property
    def summary(self) -> str:
        """The range."""
        return f"from {_shown(self.low)} to {_shown(self.high)}"


@dataclass(frozen=True)
class Duration(Clock):
    """Durations, and times of a day."""

    kind: Annotated[str, OneOf(["duration"])] = "duration"
    of = "duration"
    title = "a column of durations"

    @property
    def summary(self) -> str:
        """The range."""
        return f"from {timedelta(seconds=self.low)} to {timedelta(seconds=self.high)}"


def _is_time(cell: pa.Scalar, format_: str) -> bool:
    """Whether a text is a time."""
    texts = pa.array([cell.as_py()], pa.string()) if types.is_text(cell.type) else None
    found = None if texts is None else types.times_of(texts, format_) if format_ else types.time_format(texts)
    return found is not None


def _shown(seconds: float) -> str:
    """A time as a date, with its time of the day if it is not midnight."""
    try:
        found = EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds:g} seconds from 1970"
    return f"{found:%Y-%m-%d}" if seconds % 86_400 == 0 else f"{found:%Y-%m-%d %H:%M:%S}"
