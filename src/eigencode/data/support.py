"""Support: which kinds of values columns have, and the error for a value outside a model's support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eigencode.data.sources import Source, over_chunks
from eigencode.errors import DataError

SUPPORTS = {"real": "numbers", "unit interval": "numbers from 0 to 1", "counts": "counts (0, 1, 2, ...)"}
"""Kinds of values by name, and what messages call them."""

PIXEL_ENDS = (255, 65_535)
"""The largest pixels of 8 and of 16 bits."""

CLOSE = 1e-3
"""Shares this far outside the range from 0 to 1 are taken for rounding errors."""


@dataclass(frozen=True)
class ColumnSupport:
    """Which kinds of values each column has.

    ``outside`` has, for each name in ``SUPPORTS``, the first value of each column that is not of that kind, NaN if all
    are.

    Examples
    --------
    >>> from eigencode.data.sources import ArraySource
    >>> found = ColumnSupport.of(ArraySource(np.array([[0.0, 0.5, -1.0], [3.0, 1.0, 2.0]])))
    >>> found.within("counts").tolist(), found.within("unit interval").tolist()
    ([True, False, False], [False, True, False])
    """

    outside: dict[str, np.ndarray]

    @classmethod
    def of(cls, source: Source) -> ColumnSupport:
        """Read the source once; missing cells (NaN) are of every kind."""
        n_columns = source.shape[1]
        outside = {name: np.full(n_columns, np.nan) for name in SUPPORTS}
        for chunk in source.chunks():
            for name, wrong in _outside(chunk).items():
                new = wrong.any(0) & np.isnan(outside[name])
                if new.any():
                    columns = np.flatnonzero(new)
                    outside[name][columns] = chunk[wrong[:, columns].argmax(0), columns]
        return cls(outside)

    def within(self, support: str) -> np.ndarray:
        """Whether all values of each column are of this kind, shape (d,)."""
        return np.isnan(self.outside[support])


def check_support(
    source: Source,
    support: str | Sequence[str],
    names: Sequence[str] | None = None,
    *,
    owner: str = "This model",
    advice: Mapping[str, str] | None = None,
    shares: str | None = None,
) -> None:
    """Raise `DataError` if a column has a value that is not of a kind in ``SUPPORTS``; it names the first such column.

    ``support`` is one kind, or one for each column. ``owner`` is what needs such values, and ``advice`` has a hint for
    each kind of which all columns may be: the first that applies is used. ``shares`` is the hint instead if shares are
    needed and all columns are whole numbers, such as pixels from 0 to 255; "{largest}" in it is replaced by the number
    to divide by.

    Examples
    --------
    >>> from eigencode.data.sources import ArraySource
    >>> rows = ArraySource(np.array([[1, 2], [0, -3]]))
    >>> advice = {"real": "Use a normal"}
    >>> names = ["visits", "balance"]
    >>> check_support(rows, "counts", names, owner="A Poisson", advice=advice)
    Traceback (most recent call last):
        ...
    eigencode.errors.DataError: A Poisson needs counts (0, 1, 2, ...), but not all of column 'balance' are. \
    Got -3 there. Use a normal.
    """
    wanted = np.array([support] * source.shape[1] if isinstance(support, str) else support)
    if (wanted == "real").all():
        return
    kinds = set(wanted.tolist())
    if all(over_chunks(lambda chunk: all(_is_within(chunk, kind) for kind in kinds), source)):
        return
    found = ColumnSupport.of(source)
    wrong = np.flatnonzero(np.any([(wanted == kind) & ~found.within(kind) for kind in SUPPORTS], axis=0))
    if not len(wrong):
        return
    first = int(wrong[0])
    support = str(wanted[first])
    column = f"column {first}" if names is None else f"column {str(names[first])!r}"
    more = "" if len(wrong) == 1 else f" (nor those of {len(wrong) - 1} more)"
    fitting = [text for kind, text in (advice or {}).items() if found.within(kind).all()]
    low, high = _range(source)
    if support == "unit interval" and low >= -CLOSE and high <= 1 + CLOSE:
        fitting.insert(0, "They are shares up to rounding: clip them to the range from 0 to 1 first")
    elif shares is not None and support == "unit interval" and found.within("counts").all():
        largest = next((end for end in PIXEL_ENDS if end / 2 < high <= end), high)
        if largest <= PIXEL_ENDS[0] or largest in PIXEL_ENDS:
            fitting.insert(0, shares.format(largest=f"{largest:.0f}"))
    raise DataError(
        f"{owner} needs {SUPPORTS[support]}, but not all of {column} are{more}",
        got=f"{_digits(found.outside[support][first])} there",
        hint=next(iter(fitting), None),
    )


def _range(source: Source) -> tuple[float, float]:
    """The smallest and the largest cell."""
    ends = [(np.fmin.reduce(chunk, axis=None), np.fmax.reduce(chunk, axis=None)) for chunk in source.chunks()]
    return float(np.fmin.reduce([low for low, _ in ends])), float(np.fmax.reduce([high for _, high in ends]))


def _digits(value: float) -> str:
    """A number with all its digits."""
    return repr(float(value)).removesuffix(".0")


def _is_within(chunk: np.ndarray, kind: str) -> bool:
    """A quick test of a whole chunk, which is not passed by some chunks with gaps or with other kinds of columns."""
    if kind == "real":
        return True
    low, high = chunk.min(initial=0), chunk.max(initial=0)
    if kind == "unit interval":
        return bool(low >= 0 and high <= 1)
    return bool(low >= 0 and (chunk.dtype.kind != "f" or (np.floor(chunk) == chunk).all()))


def _outside(chunk: np.ndarray) -> dict[str, np.ndarray]:
    """Which cells of a chunk are not of each kind. NaN counts as of every kind, since comparisons with it are false."""
    if chunk.dtype.kind == "b":
        chunk = chunk.astype(np.uint8)
    negative = chunk < 0
    return {
        "real": np.zeros(chunk.shape, dtype=bool),
        "unit interval": negative | (chunk > 1),
        "counts": negative | (np.abs(chunk - np.floor(chunk)) > 0),
    }
