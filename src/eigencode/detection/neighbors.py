r"""Known rows: how far each row is from the nearest of them, and from a larger group of them.

The distance to the nearest row finds rows apart from all others. The mean distance to the nearest twentieth of the rows
finds rows of a small group apart from the bulk, which are near to each other.

A row that is known itself would be its own nearest row. So one row that is equal to it does not count; with two equal
ones the distance is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from sklearn.neighbors import NearestNeighbors

from eigencode.detection.tails import Tail

MOST_KNOWN = 10_000
"""Rows that new rows are compared with; of more, so many are drawn at random."""

MOST_GROUPED = 1_000
"""Of these, rows among which the groups are."""

GROUP = 20
"""A group is the nearest of so many rows, at least `SMALLEST_GROUP`."""

SMALLEST_GROUP = 5

REMOTE = 0.8
"""Share of the rows that are nearer to their group than a remote row is to its own."""

CLOSE = 0.5
"""Share of the rows that have a nearest row within the distance of a close one."""


@dataclass(frozen=True, eq=False)
class KnownRows:
    """Known rows, and the Euclidean distances to the nearest of them.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
        Without gaps.
    n_grouped : int
        The number of rows, the first ones, among which the groups are.
    has_held_out : bool
        Whether rows that were held out are among them.
    nearest_tail, group_tail : Tail
        Of the distance to the nearest row, and of the mean distance to a group.
    """

    rows: np.ndarray
    n_grouped: int
    has_held_out: bool
    nearest_tail: Tail
    group_tail: Tail

    @classmethod
    def of(cls, rows: np.ndarray, held_out: np.ndarray) -> Self:
        """Rows of shape (n, d) in a random order, by which the tails are known, and held-out ones, if not too many.

        Examples
        --------
        >>> known = KnownRows.of(np.arange(20.0)[:, None] ** 2, held_out=np.array([[500.0]]))
        >>> known.distances(np.array([[490.0], [500.0]]))[0].tolist()
        [10.0, 139.0]
        """
        rows = rows[:MOST_KNOWN]
        n_grouped, has_held_out = min(len(rows), MOST_GROUPED), 0 < len(held_out) <= MOST_KNOWN - len(rows)
        nearest, group = Distances(rows, n_grouped)(rows)
        known = np.concatenate([rows, held_out]) if has_held_out else rows
        return cls(known, n_grouped, has_held_out, Tail.of(nearest), Tail.of(group))

    @cached_property
    def distances(self) -> Distances:
        """The distances of rows to these."""
        return Distances(self.rows, self.n_grouped)

    def tails(self, rows: np.ndarray, held_out: np.ndarray | None = None) -> np.ndarray:
        """The sum of the tails of both distances, shape (n,); ``held_out`` says which rows are held-out known ones."""
        nearest, group = self.distances(rows, held_out if self.has_held_out else None)
        return self.nearest_tail(nearest) + self.group_tail(group)

    def is_sound(self, n_columns: int) -> bool:
        """Whether the values fit together, as those of a damaged file may not."""
        is_table = self.rows.ndim == 2 and self.rows.shape[1] == n_columns and 0 < self.n_grouped <= len(self.rows)
        return is_table and self.nearest_tail.is_sound and self.group_tail.is_sound


class Distances:
    """Distances to the nearest of some rows, and to the nearest group of the first ``n_grouped`` of them."""

    def __init__(self, rows: np.ndarray, n_grouped: int) -> None:
        n_group = min(max(n_grouped // GROUP, SMALLEST_GROUP), n_grouped)
        self._nearest = NearestNeighbors(n_neighbors=min(3, len(rows))).fit(rows)
        self._group = NearestNeighbors(n_neighbors=min(n_group + 1, n_grouped)).fit(rows[:n_grouped])

    def __call__(self, rows: np.ndarray, are_known: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The distance of each row to the nearest, and the mean distance to its group, both of shape (n,).

        Parameters
        ----------
        rows : ndarray of shape (n, d)
            Rows.
        are_known : ndarray of bool of shape (n,), optional
            Which of them are treated as if they were not among the known rows, where they are.
        """
        nearest = self._nearest.kneighbors(rows)[0]
        if are_known is not None:
            nearest[are_known] = _without_first(nearest[are_known])
        group = _without_equal(self._group.kneighbors(rows)[0])
        return _without_equal(nearest)[:, 0], group[:, :-1].mean(1) if group.shape[1] > 1 else group[:, 0]


def _without_first(distances: np.ndarray) -> np.ndarray:
    """Ascending distances from the second on; the last one is there twice."""
    return np.concatenate([distances[:, 1:], distances[:, -1:]], axis=1)


def _without_equal(distances: np.ndarray) -> np.ndarray:
    """Ascending distances without the first where it is 0."""
    return np.where(distances[:, :1] == 0, _without_first(distances), distances)


class Groups:
    """Small groups apart from the bulk of some rows: near to each other, but far from most.

    Anomalies of one kind among the rows are such a group, and would make each other look normal.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Rows without gaps, in a random order.

    Examples
    --------
    >>> bulk = np.random.default_rng(0).normal(size=(500, 2))
    >>> groups = Groups(np.concatenate([bulk, 8 + 0.01 * bulk[:10]]))
    >>> groups.contain(np.array([[0.0, 0.0], [8.0, 8.0], [-7.0, 9.0]]))
    array([False,  True, False])
    """

    def __init__(self, rows: np.ndarray) -> None:
        known = rows[:MOST_KNOWN]
        self._distances = Distances(known, min(len(known), MOST_GROUPED))
        nearest, group = self._distances(known)
        self._close, self._remote = np.quantile(nearest, CLOSE), np.quantile(group, REMOTE)

    def contain(self, rows: np.ndarray) -> np.ndarray:
        """Which rows are in such a group, shape (n,)."""
        nearest, group = self._distances(rows)
        found: np.ndarray = (nearest < self._close) & (group > self._remote)
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
