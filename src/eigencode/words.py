"""Numbers as words and figures of a sentence."""

from __future__ import annotations

import math

LONGEST = 1e15
"""Numbers from this size on are written with a power of ten."""


def duration(seconds: float) -> str:
    """A duration, rounded for reading.

    Examples
    --------
    >>> duration(8.2), duration(200), duration(9000)
    ('about 8 s', 'about 3 min', 'about 2.5 h')
    """
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.2g} h"


def clock(seconds: float) -> str:
    """A duration as minutes and seconds.

    Examples
    --------
    >>> clock(200), clock(9000)
    ('03:20', '2:30:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def form(n: int, one: str, many: str) -> str:
    """The form of a word beside a number.

    Examples
    --------
    >>> f"1 of 9 rows {form(1, 'is', 'are')} left out"
    '1 of 9 rows is left out'
    """
    return one if n == 1 else many


def counted(n: int, noun: str, plural: str = "") -> str:
    """A number and a noun, in the plural if it is not 1.

    Examples
    --------
    >>> counted(1, "step"), counted(2344, "step")
    ('1 step', '2,344 steps')
    >>> counted(2, "column has", "columns have")
    '2 columns have'
    """
    return f"{n:,} {form(n, noun, plural or f'{noun}s')}"


def figures(value: float, digits: int) -> str:
    """A number of so many significant digits, and all those before the decimal point.

    Examples
    --------
    >>> figures(0.123456789, 4), figures(198726.4, 4), figures(1e20, 4)
    ('0.1235', '198726', '1e+20')
    """
    is_long = 10 ** (digits - 1) <= abs(value) < LONGEST
    return f"{value:.0f}" if is_long else f"{value:.{digits}g}"


def percent(share: float) -> str:
    """A share in percent; 0 % and 100 % are exactly that, and others have as many digits as tell them from these.

    Examples
    --------
    >>> percent(0.126), percent(1.0), percent(0.995), percent(0.99996), percent(1 - 1e-9)
    ('13 %', '100 %', '99.5 %', '99.996 %', 'more than 99.999 %')
    >>> percent(0.0), percent(0.0004), percent(1e-9), percent(-0.003), percent(float("nan"))
    ('0 %', '0.04 %', 'less than 0.001 %', '-0.3 %', 'unknown')
    """
    if not math.isfinite(share):
        return "unknown"
    for decimals in range(4):
        shown = f"{100 * share:.{decimals}f}"
        if share in (0, 1) or float(shown) not in (0, 100):
            return f"{shown} %"
    return "less than 0.001 %" if share < 0.5 else "more than 99.999 %"
