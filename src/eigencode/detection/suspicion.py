r"""Suspicious cells: cells that differ from what the other cells of their row say, by a normal density of rows.

With the precision matrix P and u = P (x - m), cell j differs from its mean given all others by u_j / P_jj, which in
units of its standard deviation is :math:`z_j = u_j / \sqrt{P_{jj}}`. One wrong cell changes what is expected of the
others, so the cell with the largest z is hidden, and the z of the others are computed again without it, until no cell
is suspicious. Hiding cell j changes

.. math:: u \leftarrow u - v z_j, \qquad \mathrm{diag}(P) \leftarrow \mathrm{diag}(P) - v^2, \qquad
    v = P_{:j} / \sqrt{P_{jj}}

and lowers the squared Mahalanobis distance of the row by :math:`z_j^2`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats

MOST_HIDDEN = 5
"""Suspicious cells of a row, at most, and half of its cells."""

LEVEL = 0.01
"""Probability that a row of the normal density has a suspicious cell."""


CHUNK_NUMBERS = 2**22
"""Numbers of the matrices of some rows at a time."""


@dataclass(frozen=True, eq=False)
class NormalDensity:
    """A normal density of rows, with the covariance W W' + D.

    Attributes
    ----------
    center : ndarray of shape (d,)
        The mean.
    loadings : ndarray of shape (d, k)
        W.
    noise : ndarray of shape (d,)
        The diagonal of D.
    """

    center: np.ndarray
    loadings: np.ndarray
    noise: np.ndarray

    @property
    def is_sound(self) -> bool:
        """Whether the shapes fit together, as those of a damaged file may not."""
        d = len(self.center)
        return self.center.shape == self.noise.shape == self.loadings.shape[:1] == (d,) and bool((self.noise > 0).all())

    def expected_without(self, rows: np.ndarray, columns: slice) -> np.ndarray:
        """The mean of some columns given the other cells of rows of shape (n, d) without gaps."""
        precision = np.linalg.inv(self.covariance)
        change = (rows - self.center) @ precision[:, columns] @ np.linalg.inv(precision[columns, columns])
        found: np.ndarray = rows[:, columns] - change
        return found

    @property
    def covariance(self) -> np.ndarray:
        """The covariance of rows, shape (d, d)."""
        found: np.ndarray = self.loadings @ self.loadings.T + np.diag(self.noise)
        return found

    def suspicious_cells(self, rows: np.ndarray) -> Suspicion:
        """The suspicious cells of rows of shape (n, d) without gaps, and what is expected of each cell."""
        precision = np.linalg.inv(self.covariance)
        n_rows = max(CHUNK_NUMBERS // len(self.center), 1)
        chunks = [rows[first : first + n_rows] for first in range(0, len(rows), n_rows)]
        parts = [suspicious_cells(chunk, self.center, precision) for chunk in chunks]
        most = max(part.hidden.shape[1] for part in parts)
        hidden = [np.pad(part.hidden, ((0, 0), (0, most - part.hidden.shape[1])), constant_values=-1) for part in parts]
        return Suspicion(np.concatenate(hidden), np.concatenate([part.expected for part in parts]))


@dataclass(frozen=True, eq=False)
class Suspicion:
    """The suspicious cells of rows.

    Attributes
    ----------
    hidden : ndarray of int of shape (n, q)
        Their column numbers, the most suspicious first; -1 for none.
    expected : ndarray of shape (n, d)
        The mean of each cell given the cells of its row that are not suspicious, but for itself.
    """

    hidden: np.ndarray
    expected: np.ndarray


def suspicious_cells(rows: np.ndarray, center: np.ndarray, precision: np.ndarray) -> Suspicion:
    """Find the suspicious cells of rows of shape (n, d), and what is expected of each cell.

    Examples
    --------
    >>> covariance = np.array([[1.0, 0.99, 0.99], [0.99, 1.0, 0.99], [0.99, 0.99, 1.0]])
    >>> found = suspicious_cells(np.array([[1.0, 1.0, -1.0]]), np.zeros(3), np.linalg.inv(covariance))
    >>> found.hidden.tolist(), found.expected.round(1).tolist()
    ([[2]], [[1.0, 1.0, 1.0]])
    """
    n, d = rows.shape
    everyone, limit = np.arange(n), scipy.stats.chi2.isf(LEVEL / d, 1)
    error = (rows - center) @ precision
    diagonal, is_hidden = np.tile(np.diag(precision), (n, 1)), np.zeros((n, d), dtype=bool)
    steps: list[np.ndarray] = []
    first, chosen = error.copy(), []
    for _ in range(min(MOST_HIDDEN, d // 2)):
        squares = np.where(is_hidden, 0.0, np.square(error) / diagonal)
        j = squares.argmax(1)
        is_active = squares[everyone, j] > limit
        if not is_active.any():
            break
        column = precision[j] - sum(v * v[everyone, j, None] for v in steps)
        root = np.sqrt(diagonal[everyone, j, None])
        step = np.where(is_active[:, None], column / root, 0.0)
        error = error - step * error[everyone, j, None] / root
        is_hidden[everyone, j] |= is_active
        diagonal = np.where(is_hidden, 1.0, diagonal - np.square(step))
        steps.append(step)
        chosen.append(np.where(is_active, j, -1))
    hidden = np.array(chosen, dtype=np.int64).reshape(-1, n).T
    differences = np.where(is_hidden, 0.0, error / diagonal)
    return Suspicion(hidden, rows - differences - _deltas(first - error, hidden, precision))


def _deltas(change: np.ndarray, hidden: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """By how much hidden cells differ from their means given the others: P_HH delta_H = (P (x - m) - u)_H."""
    found, safe = np.zeros_like(change), np.maximum(hidden, 0)
    both = (hidden >= 0)[:, :, None] & (hidden >= 0)[:, None, :]
    matrices = np.where(both, precision[safe[:, :, None], safe[:, None, :]], np.eye(hidden.shape[1]))
    right = np.where(hidden >= 0, np.take_along_axis(change, safe, 1), 0.0)
    deltas = np.linalg.solve(matrices, right[:, :, None])[:, :, 0]
    for index in range(hidden.shape[1]):
        rows = np.flatnonzero(hidden[:, index] >= 0)
        found[rows, hidden[rows, index]] = deltas[rows, index]
    return found
