r"""Suspicious cells: cells that differ from what the other cells of their row say, by a density of rows.

The density is a mixture of normal densities of all cells. How surprising the cells b of a column are, given other cells
C of the row, is measured in nats beside the likeliest values:

.. math:: s_b = \log \frac{\sum_k w_k \, p_k(x_C) \max_v p_k(v | x_C)}{\sum_k w_k \, p_k(x_C) \, p_k(x_b | x_C)}

which is :math:`z^2 / 2` for one number and one normal density. Labels have probabilities by Bayes' rule (linear
discriminant analysis): that of the likeliest label is compared with that of the label that is there.

One wrong cell makes others look wrong, and two wrong ones may fit together, so that a third one looks wrong. So columns
are hidden, each given the others that are left, and the suspicious ones are the set S with the largest
:math:`\sum_{b \in S} (s_b - s_0)`, where s_0 is what one column of a row has rarely. The best few sets of each size are
extended by one column. What is expected of a column, and how surprising it is, is then said given the columns that are
not suspicious, for the hidden ones too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.stats
from scipy.special import softmax

MOST_HIDDEN = 5
"""Suspicious columns of a row, at most, and half of its columns."""

SETS = 4
"""Sets of columns of one size that are extended by a further column."""

LEVEL = 0.01
"""Probability that a row of a normal density has a suspicious cell."""

CHUNK_NUMBERS = 2**21
"""Numbers of the arrays of some rows at a time."""


@dataclass(frozen=True, eq=False)
class CellDensity:
    """A mixture of m normal densities of rows of d cells, and which of the cells are one column.

    Attributes
    ----------
    weights, means, covariances : ndarray of shape (m,), (m, d) and (m, d, d)
        Of the mixture; it has one density where there are labels.
    widths : ndarray of int of shape (c,)
        Number of cells of each column, in their order.
    shares : ndarray of shape (d,)
        Of cells of labels, the share of rows that have the label; NaN for numbers. One cell is a label and its
        contrary.
    zeros, ones : ndarray of shape (d,)
        What 0 and 1 are in such a cell.

    Examples
    --------
    >>> covariance = np.array([[[1.0, 0.99, 0.99], [0.99, 1.0, 0.99], [0.99, 0.99, 1.0]]])
    >>> density = CellDensity.of_numbers(np.ones(1), np.zeros((1, 3)), covariance)
    >>> found = density.suspicion(np.array([[1.0, 1.0, -1.0]]))
    >>> found.hidden.tolist(), found.expected.round(1).tolist()
    ([[False, False, True]], [[1.0, 1.0, 1.0]])
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    widths: np.ndarray
    shares: np.ndarray
    zeros: np.ndarray
    ones: np.ndarray

    @classmethod
    def of_numbers(cls, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> CellDensity:
        """The density of rows whose columns are a number each."""
        d = means.shape[1]
        return cls(weights, means, covariances, np.ones(d, dtype=int), np.full(d, np.nan), np.zeros(d), np.ones(d))

    @property
    def is_sound(self) -> bool:
        """Whether the values fit together, as those of a damaged file may not."""
        m, d = self.means.shape if self.means.ndim == 2 else (0, 0)
        if self.weights.shape != (m,) or self.covariances.shape != (m, d, d) or not m:
            return False
        if any(values.shape != (d,) for values in (self.shares, self.zeros, self.ones)) or self.widths.sum() != d:
            return False
        is_definite = (np.linalg.eigvalsh(self.covariances) > 0).all()
        return bool(is_definite and (self.widths > 0).all() and (m == 1 or np.isnan(self.shares).all()))

    def suspicion(self, rows: np.ndarray) -> Suspicion:
        """The suspicious columns of rows of shape (n, d), NaN in gaps."""
        size = max(CHUNK_NUMBERS // self.means.size, 1)
        parts = [self._suspicion(rows[first : first + size]) for first in range(0, max(len(rows), 1), size)]
        return Suspicion(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))

    def completed(self, rows: np.ndarray) -> np.ndarray:
        """Rows of shape (n, d) whose gaps (NaN) are filled by what is expected of them."""
        _, expected = self._given(rows, np.zeros((len(rows), len(self.widths)), dtype=bool))
        return np.where(np.isnan(rows), expected, rows)

    def _suspicion(self, rows: np.ndarray) -> Suspicion:
        surprise, expected = self._given(rows, np.zeros((len(rows), len(self.widths)), dtype=bool))
        hidden = self._hidden(rows, surprise)
        if len(odd := np.flatnonzero(hidden.any(1))):
            surprise[odd], expected[odd] = self._given(rows[odd], hidden[odd])
        return Suspicion(hidden, surprise, expected)

    def _hidden(self, rows: np.ndarray, surprise: np.ndarray) -> np.ndarray:
        """The suspicious columns, by how surprising each is given all others: a set for each row, shape (n, c)."""
        hidden, n_columns = np.zeros(surprise.shape, dtype=bool), surprise.shape[1]
        limit = scipy.stats.chi2.isf(LEVEL / n_columns, 1) / 2
        active = np.flatnonzero(surprise.max(1, initial=0.0) > limit)
        sets, gains, best = hidden[active, None], np.zeros((len(active), 1)), np.zeros(len(active))
        surprise = surprise[active, None]
        for _ in range(min(MOST_HIDDEN, n_columns // 2)):
            sets, gains = _extended(sets, gains, surprise - limit)
            is_better = gains[:, 0] > best
            active, sets, gains, best = active[is_better], sets[is_better], gains[is_better], gains[is_better, 0]
            if not len(active):
                break
            hidden[active] = sets[:, 0]
            each = np.repeat(rows[active], sets.shape[1], axis=0)
            surprise = self._given(each, sets.reshape(len(each), n_columns))[0].reshape(sets.shape)
        return hidden

    def _given(self, rows: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How surprising each column is given the others that are not hidden, and what is expected of each cell."""
        surprise, expected = np.zeros(hidden.shape), np.empty_like(rows)
        is_gap = np.isnan(rows)
        states = np.where(is_gap, 2, np.repeat(hidden, self.widths, axis=1)).astype(np.int8)
        patterns, pattern_of = np.unique(states, axis=0, return_inverse=True)
        order = pattern_of.reshape(-1).argsort(kind="stable")
        ends = np.bincount(pattern_of.reshape(-1), minlength=len(patterns)).cumsum()
        for pattern, group in zip(patterns, np.split(order, ends[:-1]), strict=True):
            conditional = _Conditional(self, rows[group], pattern == 0)
            surprise[group], expected[group] = conditional.of_numbers()
            for column in self._joint:
                cells = self._slices[column]
                surprise[group, column], expected[group, cells] = conditional.of(cells)
        return surprise, expected

    @cached_property
    def _joint(self) -> np.ndarray:
        """The columns that are not one number."""
        return np.flatnonzero((self.widths > 1) | ~np.isnan(self.shares[self.firsts]))

    @cached_property
    def firsts(self) -> np.ndarray:
        """The first cell of each column."""
        found: np.ndarray = self.widths.cumsum() - self.widths
        return found

    @cached_property
    def _slices(self) -> list[slice]:
        """The cells of each column."""
        return [slice(end - width, end) for end, width in zip(self.widths.cumsum(), self.widths, strict=True)]

    @cached_property
    def precisions(self) -> np.ndarray:
        """The inverses of the covariances."""
        return np.linalg.inv(self.covariances)

    @cached_property
    def log_volumes(self) -> np.ndarray:
        """The logarithm of the determinant of each precision matrix, and twice that of each weight, shape (m,)."""
        found: np.ndarray = np.linalg.slogdet(self.precisions)[1] + 2 * np.log(self.weights)
        return found


class _Conditional:
    """Columns given the clean cells of some rows, which are the same cells in all of these rows.

    Arrays have the densities of the mixture as their first axis. With the precision matrix P of all cells, and O for
    those that are not clean, :math:`x_O - E[x_O | x_C] = x_O - m_O + P_{OO}^{-1} P_{OC} (x_C - m_C)`, with the
    covariance :math:`P_{OO}^{-1}`, and the precision matrix of the clean cells is
    :math:`P_{CC} - P_{CO} P_{OO}^{-1} P_{OC}`.
    """

    def __init__(self, density: CellDensity, rows: np.ndarray, is_clean: np.ndarray) -> None:
        self.density, self.is_clean, P = density, is_clean, density.precisions
        c, o = np.flatnonzero(is_clean), np.flatnonzero(~is_clean)
        self.position = np.where(is_clean, is_clean.cumsum(), (~is_clean).cumsum()) - 1
        self.covariance = np.linalg.inv(P[:, o[:, None], o])
        change = self.covariance @ P[:, o[:, None], c]
        self.precision = P[:, c[:, None], c] - P[:, c[:, None], o] @ change
        distances = rows[None, :, c] - density.means[:, None, c]
        self.pull = distances @ self.precision
        volumes = density.log_volumes - np.linalg.slogdet(P[:, o[:, None], o])[1]
        self.logs = volumes[:, None] / 2 - np.einsum("mnc,mnc->mn", distances, self.pull) / 2
        self.means = density.means[:, None, o] - distances @ change.swapaxes(1, 2)
        self.rows = rows.copy()
        self.rows[:, o] = np.einsum("mn,mno->no", softmax(self.logs, axis=0), self.means)
        self.given, self.clean, self.others = rows, c, o

    def of_numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """How surprising each column is, shape (n, c), and the expected cells, shape (n, d), as if all were numbers."""
        x, expected, surprise = self.given, self.rows.copy(), np.zeros(self.given.shape)
        sharpness = np.diagonal(self.precision, axis1=1, axis2=2)[:, None]
        differences = self.pull / sharpness
        modes = self.logs[:, :, None] + self.pull * differences / 2
        surprise[:, self.clean] = _log_sum(modes) - _log_sum(self.logs)[:, None]
        shares = softmax(modes - np.log(sharpness) / 2, axis=0)
        expected[:, self.clean] -= np.einsum("mnc,mnc->nc", shares, differences)
        if len(self.others):
            spread = np.diagonal(self.covariance, axis1=1, axis2=2)[:, None]
            modes = self.logs[:, :, None] - np.log(spread) / 2
            squares = np.square(x[:, self.others] - self.means) / (2 * spread)
            surprise[:, self.others] = _log_sum(modes) - _log_sum(modes - squares)
        return np.nan_to_num(surprise[:, self.density.firsts]), expected

    def of(self, cells: slice) -> tuple[np.ndarray, np.ndarray]:
        """How surprising a column is, shape (n,), and its expected cells, shape (n, w)."""
        is_known = ~np.isnan(self.given[0, cells])
        numbers = np.arange(cells.start, cells.stop)
        known = numbers[is_known]
        expected = self.rows[:, cells].copy()
        if not len(known):
            return np.zeros(len(expected)), self._likeliest(numbers, expected)
        x, at = self.given[:, known], self.position[known]
        if self.is_clean[known[0]]:
            precision = self.precision[:, at[:, None], at]
            differences = self.pull[:, :, at] @ np.linalg.inv(precision)
            spread = np.einsum("mnw,mnw->mn", differences, self.pull[:, :, at]) / 2
            modes = self.logs + spread
            logs = modes - np.linalg.slogdet(precision)[1][:, None] / 2
        else:
            precision = np.linalg.inv(self.covariance[:, at[:, None], at])
            differences = x - self.means[:, :, at]
            spread = np.einsum("mnw,mwv,mnv->mn", differences, precision, differences) / 2
            logs, modes = self.logs, self.logs + np.linalg.slogdet(precision)[1][:, None] / 2
        expected[:, is_known] = x - np.einsum("mn,mnw->nw", softmax(logs, axis=0), differences)
        if np.isnan(self.density.shares[known]).all():
            return _log_sum(modes) - _log_sum(modes - spread), expected
        return self._of_labels(known, x, expected[:, is_known], precision[0])

    def _of_labels(
        self, numbers: np.ndarray, x: np.ndarray, expected: np.ndarray, precision: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same for a column of labels, by their probabilities given the clean cells."""
        labels, logs = self._labels(numbers)
        nats = logs - _quadratic(labels, expected, precision)
        there = np.square(x[:, None] - labels).sum(2).argmin(1)
        likeliest = nats.argmax(1)
        everyone = np.arange(len(x))
        return nats[everyone, likeliest] - nats[everyone, there], labels[likeliest]

    def _likeliest(self, numbers: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """The likeliest label of a column without known cells; numbers as they are."""
        if np.isnan(self.density.shares[numbers]).all():
            return expected
        at = self.position[numbers]
        labels, logs = self._labels(numbers)
        nats = logs - _quadratic(labels, expected, np.linalg.inv(self.covariance[0][at[:, None], at]))
        return labels[nats.argmax(1)]

    def _labels(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cells of each label of a column, shape (l, w), and what is added to its logarithmic density given others.

        That is the logarithm of its share, minus its density without the others.
        """
        own = self.density
        zeros, ones, shares = own.zeros[numbers], own.ones[numbers], own.shares[numbers]
        is_true = np.array([[0], [1]]) if len(numbers) == 1 else np.eye(len(numbers))
        labels = np.where(is_true, ones, zeros)
        shares = np.array([1 - shares[0], shares[0]]) if len(numbers) == 1 else shares
        precision = np.linalg.inv(own.covariances[0][numbers[:, None], numbers])
        return labels, np.log(shares) + _quadratic(labels, own.means[:, numbers], precision)[0]


def _extended(sets: np.ndarray, gains: np.ndarray, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best sets that have one column more, best first, shape (n, k, c), and their gains, shape (n, k).

    ``sets`` have the shape (n, m, c), and ``more`` of the same shape is what each column adds to the gain of a set.
    """
    n, m, c = sets.shape
    found = np.where(sets, -np.inf, gains[:, :, None] + more).reshape(n, m * c)
    chosen = np.argsort(-found, axis=1, kind="stable")[:, : SETS**2]
    found = np.take_along_axis(found, chosen, axis=1)
    larger = np.take_along_axis(sets, (chosen // c)[:, :, None], axis=1) | np.eye(c, dtype=bool)[chosen % c]
    # The same set comes from several smaller ones. Sums of random integers say which are the same.
    keys = larger @ np.random.default_rng(0).integers(2**62, size=c)
    is_double = np.tril(keys[:, :, None] == keys[:, None], -1).any(2)
    best = np.argsort(np.where(is_double, np.inf, -found), axis=1, kind="stable")[:, :SETS]
    return np.take_along_axis(larger, best[:, :, None], axis=1), np.take_along_axis(found, best, axis=1)


def _log_sum(logs: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of exponentials over the first axis."""
    largest = logs.max(0)
    found: np.ndarray = largest + np.log(np.exp(logs - largest).sum(0))
    return found


def _quadratic(labels: np.ndarray, centers: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Half of the squared distance of each label, shape (l, w), to each center, shape (n, w): shape (n, l)."""
    own = np.einsum("lw,wv,lv->l", labels, precision, labels) / 2
    of_centers = np.einsum("nw,wv,nv->n", centers, precision, centers) / 2
    found: np.ndarray = own + of_centers[:, None] - centers @ precision @ labels.T
    return found


@dataclass(frozen=True, eq=False)
class Suspicion:
    """The suspicious columns of rows, and what is expected.

    Attributes
    ----------
    hidden : ndarray of bool of shape (n, c)
        Which columns are suspicious.
    surprise : ndarray of shape (n, c)
        How surprising each column is given those that are not suspicious, in nats; 0 where it is missing.
    expected : ndarray of shape (n, d)
        The mean of each cell given the other columns that are not suspicious; of labels, the likeliest one.
    """

    hidden: np.ndarray
    surprise: np.ndarray
    expected: np.ndarray
