"""Columns of numbers: real, shares, counts, positive and skewed, and those that are zero in most rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import pyarrow as pa

from eigencode.data.tables import types
from eigencode.data.tables.kinds import Block, Kind, require, short
from eigencode.domains import OneOf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencode.data.tables.values import Values

SKEWED = 1.0
"""Skewness from which a positive column is modelled by its logarithm, if that is less than half as skewed."""

MOST_ZERO = 0.5
"""Share of zeros from which a column is zero-inflated."""

SHIFTS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75)
"""Quantiles of the positive numbers that are tried as what is added before the logarithm."""

MOST_DECIMALS = 6
"""Numbers with more decimals are drawn without rounding."""

COUNT_MEAN = 30.0
"""Counts with a larger mean are real: a continuous density fits them as well."""


@dataclass(frozen=True)
class Number(Kind):
    """A column of numbers.

    Attributes
    ----------
    low, high : float
        The range of the values fitted.
    is_whole : bool
        Whether all values are whole numbers; then decoded ones are, but for means in a column of floats.
    decimals : int or None
        To which numbers that are drawn are rounded, as all values fitted were; None if these have too many.
    """

    low: float
    high: float
    is_whole: bool
    decimals: int | None = None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The range."""
        present = values.present
        require(len(present) > 0, values, cls.title)
        return cls(float(present.min()), float(present.max()), values.is_whole, _decimals(present, values.type))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One cell, which is any number."""
        return (("real", 1),)

    @property
    def summary(self) -> str:
        """The range."""
        return f"{'whole, ' if self.is_whole else ''}from {short(self.low)} to {short(self.high)}"

    @property
    def computation(self) -> tuple[Any, ...]:
        """Whether no number was below 0."""
        return (type(self), self.low >= 0)

    def cells(self, x: Any, xp: Any = np) -> Any:
        """The numbers themselves."""
        return x[..., None]

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """The numbers, not below 0 if none was."""
        return self._bounded(cells[..., 0], xp)

    def decode(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """The numbers, rounded if all were whole, and not below 0 if none was."""
        return self._as_type(self._likeliest(cells), kind)

    def decode_mean(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """The numbers, not rounded if the type has fractions."""
        return self._as_type(self.mean(cells), kind, rounds=not pa.types.is_floating(kind))

    def decode_drawn(self, cells: np.ndarray, kind: pa.DataType) -> pa.Array:
        """The numbers, within the range fitted and with no more decimals."""
        values = self._likeliest(cells)
        values = values if self.decimals is None else values.round(self.decimals)
        return self._as_type(values.clip(self.low, self.high), kind)

    def _as_type(self, values: np.ndarray, kind: pa.DataType, rounds: bool = True) -> pa.Array:
        return types.numbers_as(np.rint(values) if self.is_whole and rounds else values, kind)

    def _likeliest(self, cells: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.mean(cells)
        return found

    def _bounded(self, values: Any, xp: Any) -> Any:
        return values.clip(min=0) if self.low >= 0 else values


@dataclass(frozen=True)
class Real(Number):
    """Any numbers."""

    kind: Annotated[str, OneOf(["real"])] = "real"
    title = "a column of numbers"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """Numbers that no other kind describes better."""
        if values.is_number:
            what = "periods, by their number" if values.dtype.startswith("period[") else "numbers"
            return what if values.n_different > 1 else f"{what}, all the same"
        return None


@dataclass(frozen=True)
class Share(Number):
    """Numbers from 0 to 1."""

    kind: Annotated[str, OneOf(["share"])] = "share"
    title = "a column of shares"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """From 0 to 1, with some in between."""
        if values.is_number and not values.is_whole and (values.present >= 0).all() and (values.present <= 1).all():
            between = (values.present > 0) & (values.present < 1)
            return "numbers from 0 to 1" if between.any() and values.n_different > 2 else None
        return None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The range, which has to lie between 0 and 1."""
        require((values.present >= 0) & (values.present <= 1), values, cls.title)
        return super().learn(values)

    def allows(self, x: Any) -> Any:
        """Those from 0 to 1."""
        return ~((x < 0) | (x > 1))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One cell from 0 to 1."""
        return (("share", 1),)

    def _bounded(self, values: Any, xp: Any) -> Any:
        return values.clip(0, 1)


@dataclass(frozen=True)
class Count(Number):
    """Counts: 0, 1, 2 and so on."""

    kind: Annotated[str, OneOf(["count"])] = "count"
    title = "a column of counts"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """Small whole numbers from 0 on, which spread as counts do."""
        present = values.present if values.is_number and values.is_whole else np.empty(0)
        if not len(present) or present.min() != 0 or values.n_different <= 2:
            return None
        is_count = present.mean() < COUNT_MEAN and present.var() >= 0.8 * present.mean()
        return "small whole numbers from 0 on" if is_count else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The range, whose numbers have to be whole and not negative."""
        require((values.present == np.rint(values.present)) & (values.present >= 0), values, cls.title)
        return super().learn(values)

    def allows(self, x: Any) -> Any:
        """Whole ones from 0 on."""
        return ~((x < 0) | (x % 1 > 0))

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One cell with a count."""
        return (("count", 1),)

    def cells(self, x: Any, xp: Any = np) -> Any:
        """The counts; a mean, as of a gap that was filled, is rounded."""
        return xp.round(x)[..., None]

    @property
    def highest(self) -> list[float]:
        """The largest count."""
        return [self.high]


@dataclass(frozen=True)
class Positive(Number):
    """Numbers of a wide range that are positive, or zero in some rows, modelled by log(x + c).

    Attributes
    ----------
    shift : float
        c: 0 if all numbers are above zero, else that with which the logarithms are least skewed.
    """

    shift: float = 0.0
    kind: Annotated[str, OneOf(["positive"])] = "positive"
    title = "a column of positive numbers"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """None below zero, and far less skewed as logarithms."""
        if not values.is_number or values.n_different < 10 or values.present.min() < 0:
            return None
        raw, shift = _skewness(values.present), _shift(values.present)
        is_better = raw > SKEWED and abs(_skewness(np.log(values.present + shift))) < raw / 2
        return ("positive and skewed" if not shift else "skewed, and none below zero") if is_better else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The range, whose numbers have to be at least 0, and the shift."""
        require(values.present >= 0, values, cls.title)
        require(bool(values.present.any()), values, cls.title)
        return replace(super().learn(values), shift=_shift(values.present))

    @property
    def is_logarithm(self) -> list[bool]:
        """It is."""
        return [True]

    @property
    def highest(self) -> list[float]:
        """The largest logarithm."""
        return [math.log(self.high + self.shift)]

    @property
    def computation(self) -> tuple[Any, ...]:
        """Whether 0 is possible, and whether the smallest number is 1."""
        return (type(self), self._has_zeros, self._is_from_one)

    def joined(self, kinds: Sequence[Self]) -> Self:
        """A kind with the shifts and the smallest numbers of all columns."""
        shift, low = np.array([(kind.shift, kind.low) for kind in kinds]).T
        return replace(self, shift=shift, low=low)

    @property
    def _has_zeros(self) -> bool:
        return bool(np.any(self.shift))

    @property
    def _is_from_one(self) -> bool:
        return self.is_whole and bool(np.all(np.greater(self.low, 0)))

    def allows(self, x: Any) -> Any:
        """Those from 0 on; 0 only if some rows fitted had it."""
        return ~(x < 0) if self._has_zeros else ~(x <= 0)

    def cells(self, x: Any, xp: Any = np) -> Any:
        """Logarithms; a number below those that are possible has that of the smallest one fitted."""
        x, low, shift = (xp.asarray(each, dtype=xp.float64) for each in (x, self.low, self.shift))
        return xp.log(xp.where(self.allows(x), x, low) + shift)[..., None]

    def _bounded(self, values: Any, xp: Any) -> Any:
        found = (_exponential(values, xp) - xp.asarray(self.shift, dtype=xp.float64)).clip(min=0)
        return found.clip(min=1) if self._is_from_one else found

    def log_jacobian(self, cells: np.ndarray) -> np.ndarray:
        """Minus the logarithm of the value plus c."""
        return np.nan_to_num(-cells[:, 0])


@dataclass(frozen=True)
class ZeroInflated(Number):
    """Numbers that are zero in most rows and else positive of a wide range: [is it zero, its logarithm]."""

    kind: Annotated[str, OneOf(["zero-inflated"])] = "zero-inflated"
    title = "a column of zeros and positive numbers"

    @classmethod
    def recognise(cls, values: Values) -> str | None:
        """Most numbers are zero, the others positive and large or not whole."""
        if not values.is_number or values.n_different < 10 or values.present.min() < 0:
            return None
        share, others = (values.present == 0).mean(), values.present[values.present > 0]
        is_wide = not values.is_whole or others.mean() >= COUNT_MEAN
        return f"{share:.0%} zeros, else positive" if share >= MOST_ZERO and is_wide else None

    @classmethod
    def learn(cls, values: Values) -> Self:
        """The range, whose numbers must not be negative."""
        require(values.present >= 0, values, cls.title)
        require(bool(values.present.any()), values, cls.title)
        return super().learn(values)

    def allows(self, x: Any) -> Any:
        """Those from 0 on."""
        return ~(x < 0)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Whether it is zero; its logarithm, a gap where it is zero."""
        return (("boolean", 1), ("real", 1))

    @property
    def cell_names(self) -> list[str]:
        """Zero, and the logarithm."""
        return [" is zero", ""]

    def cells(self, x: Any, xp: Any = np) -> Any:
        """1 for zero; a number below zero is one."""
        x = xp.asarray(x, dtype=xp.float64)
        is_zero = xp.where(xp.isnan(x), x, xp.where(x <= 0, 1.0, 0.0))
        return xp.stack([is_zero, xp.log(xp.where(x > 0, x, math.nan))], axis=-1)

    @property
    def is_logarithm(self) -> list[bool]:
        """The second cell is."""
        return [False, True]

    @property
    def highest(self) -> list[float]:
        """The largest logarithm."""
        return [math.inf, math.log(self.high)]

    def mean(self, cells: Any, xp: Any = np) -> Any:
        """The probability that it is not zero, times the exponential."""
        share = 1 - cells[..., 0].clip(0, 1)
        return xp.where(share == 0, 0.0, share * self._bounded(_exponential(cells[..., 1], xp), xp))

    def _likeliest(self, cells: np.ndarray) -> np.ndarray:
        """Zero where that is more likely than not, else the exponential."""
        is_zero = np.where(np.isnan(cells[:, 0]), np.nan, cells[:, 0] >= 0.5)
        return np.where(is_zero == 1, 0.0, self.mean(np.stack([0 * is_zero, cells[:, 1]], 1)))

    def log_jacobian(self, cells: np.ndarray) -> np.ndarray:
        """Minus the logarithm of the value, where it is not zero."""
        return np.nan_to_num(-cells[:, 1])


def _decimals(values: np.ndarray, type_: pa.DataType) -> int | None:
    """The fewest decimals to which rounding changes none of the numbers; None for more than six."""
    rounding = float(np.finfo(np.float32).eps) / 2 if pa.types.is_float32(type_) else 1e-12
    return next((n for n in range(MOST_DECIMALS + 1) if np.allclose(values.round(n), values, rounding, 0)), None)


def _exponential(values: Any, xp: Any) -> Any:
    with np.errstate(over="ignore"):
        return xp.exp(xp.asarray(values, dtype=xp.float64)).clip(max=xp.finfo(xp.float64).max)


def _shift(values: np.ndarray) -> float:
    """What is added to numbers before their logarithm: 0, or if some are zero one of the smaller positive ones."""
    if values.min() > 0:
        return 0.0
    shifts = np.quantile(values[values > 0], SHIFTS)
    return float(min(shifts, key=lambda shift: abs(_skewness(np.log(values + shift)))))


def _skewness(values: np.ndarray) -> float:
    """The mean third power of standardised values."""
    scaled = values / np.abs(values).max()
    scaled = scaled - scaled.mean()
    spread = scaled.std()
    return float(((scaled / spread) ** 3).mean()) if spread > 0 else 0.0
