"""Columns of times and durations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
import pyarrow as pa

from eigencode.data.tables import types
from eigencode.data.tables.kinds import Block, Kind, require
from eigencode.domains import OneOf

if TYPE_CHECKING:
    from eigencode.data.tables.values import Values

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Clock(Kind):
    """Times or durations, in seconds.

    Attributes
    ----------
    low, high : float
        The range of the values fitted, in seconds; times are since 1970 (UTC).
    """

    low: float
    high: float
    of: ClassVar[str]

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """By type."""
        return f"the type {values.type}" if values.kind == cls.of else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The range."""
        require(values.kind == cls.of and values.n_gaps < len(values), values, cls.title)
        found = types.seconds(values.cells)
        return cls(float(np.nanmin(found)), float(np.nanmax(found)))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One cell, the seconds."""
        return (("real", 1),)

    def encode(self, values: Values) -> np.ndarray:
        """Seconds."""
        if values.kind not in (self.of, "nothing"):
            raise values.unfit("times" if self.of == "time" else "durations")
        if values.kind == "nothing":
            return np.full((len(values), 1), np.nan)
        return types.seconds(values.cells)[:, None]

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """Times or durations, rounded to the units of their type."""
        return types.from_seconds(cells[:, 0].astype(np.float64), kind)


@dataclass(frozen=True)
class Time(Clock):
    """Dates, and times of a date."""

    kind: Annotated[str, OneOf(["time"])] = "time"
    of = "time"
    title = "a column of times"

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


def _shown(seconds: float) -> str:
    """A time as a date, with its time of the day if it is not midnight."""
    try:
        found = EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds:g} seconds from 1970"
    return f"{found:%Y-%m-%d}" if seconds % 86_400 == 0 else f"{found:%Y-%m-%d %H:%M:%S}"
