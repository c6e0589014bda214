r"""Extent: how far out the known rows are, and by how much others are farther.

With the distance r(x) of a row from the centre, beside that of the farthest known row, and
:math:`u = \log_2 \max(1, r(x) / \max_i r(x_i))` for by how many doublings it is farther,

.. math:: e(x) = 4 u^2 \text{ up to } u = 1, \qquad 4 (2 u - 1) \text{ beyond.}

So a row that is a little farther than all known ones gets little, and :math:`e` grows by at least 4 from a row beyond
them to one that is twice as far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from eigencode.data.scaling import Scaler
from eigencode.domains import Positive

STEEPNESS = 4.0
"""e of a row that is twice as far as all known ones."""

LARGEST = 1e100
"""Largest size of a standardised number or scaled cell: squares of larger ones are infinite."""


def beyond(ratios: np.ndarray) -> np.ndarray:
    """The measure e, from the distances of rows beside that of the farthest known one.

    Examples
    --------
    >>> beyond(np.array([0.5, 1.0, 2.0, 4.0])).tolist()
    [0.0, 0.0, 4.0, 12.0]
    """
    doublings = np.log2(np.maximum(ratios, 1.0))
    return STEEPNESS * np.where(doublings < 1, np.square(doublings), 2 * doublings - 1)


@dataclass(frozen=True, eq=False)
class NumberExtent:
    """The extent of the numbers of a frame in their own units, some of which are logarithms to a model, or impossible.

    Attributes
    ----------
    center, divisor : ndarray of shape (d,)
        Mean and deviation of each column.
    radius : float
        The largest norm of a standardised row.

    Examples
    --------
    >>> extent = NumberExtent.of(np.array([[1.0, 10.0], [3.0, 30.0]]))
    >>> extent.ratios(np.array([[2.0, 20.0], [4.0, 40.0]])).tolist()
    [0.0, 2.0]
    """

    center: np.ndarray
    divisor: np.ndarray
    radius: Positive

    @classmethod
    def of(cls, numbers: np.ndarray) -> Self:
        """The extent of rows of shape (n, d), NaN in gaps."""
        largest = np.maximum(np.abs(np.nan_to_num(numbers)).max(0, initial=0.0), np.finfo(np.float64).tiny)
        known = np.ma.masked_invalid(numbers / largest)  # the squares of these are finite
        center, spread = (np.ma.filled(each, 0.0) * largest for each in (known.mean(0), known.std(0)))
        found = cls(center, np.where(spread > 0, spread, np.maximum(np.abs(center), 1.0)), 1.0)
        return cls(center, found.divisor, max(float(found.ratios(numbers).max(initial=0.0)), 1.0))

    def ratios(self, numbers: np.ndarray) -> np.ndarray:
        """The distance of each row beside that of the farthest known one, shape (n,)."""
        standardised = np.nan_to_num((numbers - self.center) / self.divisor).clip(-LARGEST, LARGEST)
        found: np.ndarray = np.linalg.norm(standardised, axis=1) / self.radius
        return found

    @property
    def is_sound(self) -> bool:
        """Whether the values fit together, as those of a damaged file may not."""
        return self.center.shape == self.divisor.shape and self.center.ndim == 1 and bool((self.divisor > 0).all())


def reach_of(scaler: Scaler) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest cells whose nats can be computed, each of shape (d,)."""
    with np.errstate(over="ignore"):
        reach = LARGEST * scaler.divisor
    return scaler.center - reach, scaler.center + reach
