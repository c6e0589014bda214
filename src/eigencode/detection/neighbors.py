"""Nearest rows: the distance of each row to the nearest of the rows that are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sklearn.neighbors import NearestNeighbors


@dataclass(frozen=True, eq=False)
class NearestRows:
    """Known rows, and the Euclidean distance to the nearest of them.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
        Without gaps.

    Examples
    --------
    >>> known = NearestRows(np.array([[0.0], [1.0], [5.0]]))
    >>> known.distances(np.array([[1.0], [7.0]])), known.leave_one_out()
    (array([0., 2.]), array([1., 1., 4.]))
    """

    rows: np.ndarray

    @cached_property
    def _index(self) -> NearestNeighbors:
        return NearestNeighbors(n_neighbors=1).fit(self.rows)

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """The distance of each row to the nearest known one, shape (n,)."""
        found: np.ndarray = self._index.kneighbors(rows)[0][:, 0]
        return found

    def leave_one_out(self) -> np.ndarray:
        """The distance of each known row to the nearest other one, shape (n,)."""
        found: np.ndarray = self._index.kneighbors()[0][:, 0]
        return found


def farther(rows: np.ndarray, largest: np.ndarray, radius: float) -> np.ndarray:
    r"""By how many doublings a row is farther from the centre 0 than every known row, 0 for those that are not.

    .. math:: \log_2 \max\left( 1, \frac{\lVert x \rVert}{\max_i \lVert x_i \rVert},
        \max_j \frac{|x_j|}{\max_i |x_{ij}|} \right)

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Rows about the centre.
    largest : ndarray of shape (d,)
        The largest size of each column of the known rows.
    radius : float
        The largest norm of a known row.

    Examples
    --------
    >>> farther(np.array([[1.0, 1.0], [8.0, 0.0]]), np.array([2.0, 1.0]), 2.0)
    array([0., 2.])
    """
    sizes = np.abs(rows)
    highest = np.maximum((sizes / largest).max(1), np.linalg.norm(rows, axis=1) / radius)
    return np.log2(np.maximum(highest, 1.0))
