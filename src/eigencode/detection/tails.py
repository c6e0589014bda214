r"""Tails: measures of different units on one scale, by how few rows have more.

.. math:: t(s) = -\log \frac{\#\{i : s_i \ge s\}}{n + 1}

at the scores of n known rows, linear between them. Scores that differ by no more than rounding are one score, so that t
is not steep between them: rows of few different values have many equal distances, each rounded in its own way. Beyond
the largest, a generalised Pareto distribution of the highest scores continues it:

.. math:: t(s) = t(s_{\max}) + h(s) - h(s_{\max}), \qquad
    h(s) = \frac1\xi \log\left( 1 + \xi \, \frac{s - u}{\beta} \right), \quad \xi \ge 0

where h is minus the logarithm of the survival function beyond u. With :math:`\xi < 0` it would be infinite somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

HIGHEST = 0.1
"""Share of the scores, and `FEWEST` of them at least, by which the tail is estimated."""

FEWEST = 10

SHORTEST = 1e-6
"""Smallest scale of the tail, beside the spread of the scores."""

TIES = 1e-6
"""Scores or distances that are larger than another one by less than this share are equal to it."""

MOST_CELLS = 10_000
"""Cells by which the tail of all columns is known."""

FAR = 30.0
"""From this value on, the probability for c columns is c times that for one."""


@dataclass(frozen=True, eq=False)
class Tail:
    """The tail of a measure, by its values for known rows.

    Attributes
    ----------
    scores : ndarray of shape (m,)
        The different scores of the known rows, ascending.
    logarithms : ndarray of shape (m,)
        t of each.
    start, shape, scale : float
        u, xi and beta of the generalised Pareto distribution.

    Examples
    --------
    >>> tail = Tail.of([1.0, 2.0, 3.0])
    >>> shares = np.exp(-tail([1.0, 2.0, 3.0]))  # of rows that score as much, this one too
    >>> shares.round(2)
    array([0.75, 0.5 , 0.25])
    >>> bool(tail([1e6])[0] > tail([1e5])[0] > tail([3.0])[0])
    True
    """

    scores: np.ndarray
    logarithms: np.ndarray
    start: float
    shape: float
    scale: float

    @classmethod
    def of(cls, scores: ArrayLike) -> Self:
        """The tail of known rows, by their scores of shape (n,)."""
        ascending = np.sort(np.asarray(scores, dtype=np.float64))
        first = _firsts(ascending)
        n_high = min(max(round(HIGHEST * len(ascending)), FEWEST), len(ascending) - 1)
        start = ascending[-n_high - 1]
        shape, scale = pareto(ascending[len(ascending) - n_high :] - start)
        shortest = SHORTEST * max(float(ascending.std()), abs(float(ascending[-1]))) or 1.0
        logarithms = np.log(len(ascending) + 1) - np.log(len(ascending) - first)
        return cls(ascending[first], logarithms, float(start), shape, max(scale, shortest, 1e-100))

    def __call__(self, scores: ArrayLike) -> np.ndarray:
        """The value t of each score, shape (n,)."""
        scores = np.asarray(scores, dtype=np.float64)
        largest = self.scores[-1]
        beyond = self._hazard(np.maximum(scores, largest)) - self._hazard(largest)
        return np.interp(scores, self.scores, self.logarithms) + beyond

    @property
    def is_sound(self) -> bool:
        """Whether the values fit together, as those of a damaged file may not."""
        is_one = self.scores.ndim == 1 and self.scores.shape == self.logarithms.shape and len(self.scores) > 0
        return is_one and bool((np.diff(self.scores) > 0).all()) and self.shape >= 0 and self.scale > 0

    def _hazard(self, scores: np.ndarray) -> np.ndarray:
        """The cumulated hazard h of the generalised Pareto distribution."""
        excess = (scores - self.start) / self.scale
        return np.log1p(self.shape * excess) / self.shape if self.shape else excess


@dataclass(frozen=True, eq=False)
class ColumnTails:
    r"""How rare it is that some column of a row is as surprising as one of them is.

    With the share F of known rows in which that column is as surprising, and the share G of all cells that are, it is
    :math:`-\log(1 - (1 - (F + G) / 2)^c)` for c columns. F is of columns with long tails, and G is more certain.

    Attributes
    ----------
    own : list of Tail
        Of each column.
    joint : Tail
        Of all columns.
    """

    own: list[Tail]
    joint: Tail

    @classmethod
    def of(cls, scores: np.ndarray) -> Self:
        """The tails of columns, by what known rows have, shape (n, c)."""
        step = max(scores.size // MOST_CELLS, 1)
        return cls([Tail.of(column) for column in scores.T], Tail.of(scores.T.ravel()[::step]))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """The value of each column of rows, shape (n, c)."""
        own = np.stack([tail(column) for tail, column in zip(self.own, scores.T, strict=True)], axis=1)
        found = np.log(2) - np.logaddexp(-own, -self.joint(scores))
        c = scores.shape[1]
        near = -np.log(-np.expm1(c * np.log1p(-np.exp(-np.minimum(found, FAR)))))
        return np.where(found < FAR, near, found - np.log(c))


def _firsts(ascending: np.ndarray) -> np.ndarray:
    """The number of the first of each score, of scores that ascend, shape (m,).

    Examples
    --------
    >>> _firsts(np.array([0.0, 0.0, 0.3, 0.1 + 0.2, 0.4])).tolist()
    [0, 2, 4]
    """
    usual = float(np.median(np.abs(ascending)))
    firsts, last = [], -np.inf
    for number, score in enumerate(ascending.tolist()):
        if score > last:
            firsts.append(number)
            last = score + TIES * max(abs(score), usual)
    return np.array(firsts)


def pareto(excess: np.ndarray) -> tuple[float, float]:
    r"""Shape and scale of a generalised Pareto distribution by probability-weighted moments (Hosking & Wallis, 1987).

    .. math:: \xi = 2 - \frac{b_0}{b_0 - 2 b_1}, \quad \beta = \frac{2 b_0 b_1}{b_0 - 2 b_1}, \qquad
        b_r = E[X (1 - F(X))^r]

    A negative shape is replaced by 0, the exponential distribution, whose scale is the mean.
    """
    n = len(excess)
    if n < 2:
        return 0.0, float(excess.sum())
    b0 = float(excess.mean())
    b1 = float((np.sort(excess) * np.linspace(1, 0, n)).mean())
    # A difference of 0 is of equal numbers.
    is_heavy = b0 < 2 * (b0 - 2 * b1)
    return (2 - b0 / (b0 - 2 * b1), 2 * b0 * b1 / (b0 - 2 * b1)) if is_heavy else (0.0, b0)
