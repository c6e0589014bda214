"""Domains: the values that a field may have, written beside its type; values read from a file are checked against them.

``Annotated[int, Interval(1)]`` is a whole number of at least 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, get_args


@dataclass(frozen=True)
class Interval:
    """Finite numbers between two bounds.

    Parameters
    ----------
    low, high : float
        The bounds, both included.
    open_low : bool
        Exclude the lower bound.

    Examples
    --------
    >>> 0 in Interval(0), 0 in Interval(0, open_low=True), float("nan") in Interval()
    (True, False, False)
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, number: float) -> bool:
        is_finite = isinstance(number, int) or math.isfinite(number)
        return is_finite and (self.low < number if self.open_low else self.low <= number) and number <= self.high

    def __str__(self) -> str:
        low = "" if self.low == -math.inf else f"{'above' if self.open_low else 'of at least'} {self.low:g}"
        high = "" if self.high == math.inf else f"at most {self.high:g}"
        return " ".join(["a finite number", " and ".join(filter(None, [low, high]))]).strip()


class OneOf(tuple[str, ...]):
    """One of a few strings.

    Examples
    --------
    >>> "adam" in OneOf(["adam", "lbfgs"])
    True
    """

    __slots__ = ()

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self))}"


MOST = 2**62
"""The largest count; a stream has this many steps to go, since it has no last one."""

Count = Annotated[int, Interval(1, MOST)]
"""A whole number of at least 1."""

Index = Annotated[int, Interval(0, MOST)]
"""A whole number of at least 0."""

Positive = Annotated[float, Interval(0, open_low=True)]
"""A finite number above 0."""

NotNegative = Annotated[float, Interval(0)]
"""A finite number of at least 0."""

Share = Annotated[float, Interval(0, 1)]
"""A number from 0 to 1."""


def is_optional(kind: Any) -> bool:
    """Whether a type admits None."""
    return type(None) in get_args(kind)
