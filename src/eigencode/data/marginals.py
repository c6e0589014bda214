"""Marginals: columns of drawn rows moved to the distributions of the columns of real rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import ks_2samp

LEVELS = 1024
"""Most quantiles of a column."""

FEW_REPEATS = 0.9
"""Share of different values from which a column is continuous, so that values between its quantiles are possible."""

SIGNIFICANCE = 0.05
"""Probability with which a column that differs by chance only is taken as one that differs."""


@dataclass(frozen=True, eq=False)
class Marginals:
    r"""Quantiles of real columns and of drawn ones, by which a drawn number becomes a real one of the same rank.

    .. math:: T(x) = F_{real}^{-1}(F_{drawn}(x))

    A value that is drawn again and again has the ranks of all of these, of which one is drawn. Columns with values that
    repeat, as prices and counts do, get only values that they have; others are interpolated. So no value is beyond the
    real ones. Where no column differs by more than chance (the test of Kolmogorov and Smirnov), none is moved, since
    the quantiles of few rows have chance in them that a smooth density has not. Else all are, so that columns keep what
    they have to do with each other.

    Attributes
    ----------
    columns : list of int
        The columns that are moved.
    real, drawn : list of array
        The quantiles of each column, in ascending order; an empty array for one that stays as it is.

    Examples
    --------
    >>> import numpy as np
    >>> real, drawn = np.repeat([[0.0], [5.0]], 20, axis=0), np.linspace(-1, 9, 40)[:, None]
    >>> Marginals.of(real, drawn, [0]).moved(
    ...     np.array([[-3.0], [8.0]]), np.random.default_rng(0)
    ... ).tolist()
    [[0.0], [5.0]]
    """

    columns: list[int]
    real: list[np.ndarray]
    drawn: list[np.ndarray]

    @classmethod
    def of(cls, real: np.ndarray, drawn: np.ndarray, columns: Sequence[int]) -> Self:
        """From real and drawn rows, each of shape (n, d); NaN is left out."""
        pairs = [[_known(rows[:, column]) for rows in (real, drawn)] for column in columns]
        found = [[_quantiles(values) for values in pair] for pair in (pairs if _differ(pairs) else ())]
        return cls(list(columns)[: len(found)], [pair[0] for pair in found], [pair[1] for pair in found])

    def is_sound(self, n_columns: int) -> bool:
        """Whether rows of so many columns can be moved by them."""
        if not len(self.columns) == len(self.real) == len(self.drawn):
            return False
        quantiles = [*self.real, *self.drawn]
        is_sorted = all(q.ndim == 1 and np.isfinite(q).all() and (np.diff(q) >= 0).all() for q in quantiles)
        return is_sorted and all(0 <= column < n_columns for column in self.columns)

    def moved(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Drawn rows of shape (n, d) with their columns moved; NaN stays."""
        found = rows.copy()
        for column, real, drawn in zip(self.columns, self.real, self.drawn, strict=True):
            if len(real) and len(drawn):
                known = ~np.isnan(rows[:, column])
                found[known, column] = _moved(rows[known, column], real, drawn, generator)
        return found

    def undone(self, rows: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Real rows of shape (n, d) with their columns moved to the distributions of drawn ones; NaN stays.

        A value beyond those fitted stays as far beyond the last of them.
        """
        found = Marginals(self.columns, self.drawn, self.real).moved(rows, generator)
        for column, real, drawn in zip(self.columns, self.real, self.drawn, strict=True):
            if len(real) and len(drawn):
                found[:, column] += rows[:, column] - rows[:, column].clip(real[0], real[-1])
        return found


def _known(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)].astype(np.float64)


def _differ(pairs: Sequence[Sequence[np.ndarray]]) -> bool:
    """Whether the two distributions of any pair differ by more than chance."""
    return any(ks_2samp(*pair, method="asymp").pvalue < SIGNIFICANCE for pair in pairs if all(map(len, pair)))


def _quantiles(values: np.ndarray) -> np.ndarray:
    n = min(len(values), LEVELS)
    if not n:
        return values
    return np.quantile(values, (np.arange(n) + 0.5) / n, method="inverted_cdf")


def _moved(values: np.ndarray, real: np.ndarray, drawn: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    different, first, counts = np.unique(drawn, return_index=True, return_counts=True)
    level = np.interp(values, different, (first + counts / 2) / len(drawn))
    n_equal = np.searchsorted(drawn, values, "right") - np.searchsorted(drawn, values, "left")
    level += np.where(n_equal > 1, (generator.random(len(values)) - 0.5) * n_equal / len(drawn), 0.0)
    if len(np.unique(real)) < FEW_REPEATS * len(real):
        return real[(level * len(real)).astype(int).clip(0, len(real) - 1)]
    return np.interp(level * len(real) - 0.5, np.arange(len(real)), real)
