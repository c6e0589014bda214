r"""Known rows: how far each row is from the nearest of them, from a larger group, and beside the rows about it.

The distance to the nearest row finds rows apart from all others. The mean distance to the nearest twentieth of the rows
finds rows of a small group apart from the bulk, which are near to each other. The third measure is local: with the mean
distance s(x) to the nearest five rows N(x) fitted,

.. math:: \log s(x) - \log \frac{1}{\lvert N(x) \rvert} \sum_{i \in N(x)} s(x_i)

finds rows beside a dense group, which are not far by what is usual elsewhere (the local outlier factor without its
reachability; Breunig et al., 2000; Schubert et al., 2014). All rows that are as far as the fifth are in N(x): otherwise
which of them are would depend on rounding, where columns have few values.

A row that is known itself would be its own nearest row. So one row that is equal to it does not count; with two equal
ones the distance is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from eigencode.detection import index
from eigencode.detection.index import NearestIndex
from eigencode.detection.tails import TIES, Tail
from eigencode.domains import NotNegative

MOST_KNOWN = 10_000
"""Rows by which tails and small groups are known; of more, so many are drawn at random."""

MOST_GROUPED = 1_000
"""Of these, rows among which the groups are."""

GROUP = 20
"""A group is the nearest of so many rows, at least `SMALLEST_GROUP`."""

SMALLEST_GROUP = 5

LOCAL = 5
"""Rows about a row."""

REMOTE = 0.8
"""Share of the rows that are nearer to their group than a remote row is to its own."""

CLOSE = 0.5
"""Share of the rows that have a nearest row within the distance of a close one."""

ROUNDING = 1e-6
"""Distances below this share of a row's norm are those of equal rows, but for the rounding of 32-bit numbers."""

CHUNK_NUMBERS = 2**21
"""Distances of some rows to all known ones at a time."""

TIGHTEST = 1e-3
"""Smallest distance that counts for the local measure, beside the mean distance of known rows to those about them."""


class Neighbors:
    """The nearest of some rows; one that is equal to a row does not count.

    Parameters
    ----------
    rows : ndarray of shape (m, d)
        Rows without gaps.
    k : int
        How many are asked for, at most.
    rounding : float
        Distances below it are those of equal rows too.

    Examples
    --------
    >>> nearest = Neighbors(np.array([[0.0], [0.0], [3.0]]), k=1)
    >>> nearest(np.array([[3.0], [1.0], [0.0]]))[0].tolist()
    [[3.0], [1.0], [0.0]]
    """

    def __init__(self, rows: np.ndarray, k: int, rounding: float = 0.0) -> None:
        self.rows, self.k, self.rounding = rows, min(k, len(rows)), rounding
        self._index = _index(rows, min(k + 2, len(rows)))

    def __call__(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The distances of each row to the nearest, ascending, and their numbers, both of shape (n, k)."""
        return self.without_equal(*self.all(rows))

    def all(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same with equal rows, of shape (n, k + 2) or as many as there are."""
        distances, numbers = self._index.kneighbors(rows)
        limit = self._rounded(rows)
        # Small ones are computed again, since a difference of squares may have lost their digits.
        i, j = (distances < limit[:, None] / np.sqrt(ROUNDING)).nonzero()
        exact = np.linalg.norm(rows[i] - self.rows[numbers[i, j]], axis=1)
        distances[i, j] = np.where(exact < limit[i], 0.0, exact)
        order = distances.argsort(1, kind="stable")
        return np.take_along_axis(distances, order, 1), np.take_along_axis(numbers, order, 1)

    def without_equal(self, distances: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of these, without the first where its distance is 0."""
        is_equal = distances[:, :1] == 0
        kept = [np.where(is_equal, _without_first(each), each)[:, : self.k] for each in (distances, numbers)]
        return kept[0], kept[1]

    def mean_about(
        self, values: np.ndarray, rows: np.ndarray, distances: np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """The mean value of the k nearest of each row, and of all that are as far as the last of these, shape (n,).

        ``distances`` and ``numbers`` are those of `all`.
        """
        is_equal = distances[:, 0] == 0
        reach = (1 + TIES) * self.without_equal(distances, numbers)[0][:, -1]
        are_about = distances <= reach[:, None]
        are_about[:, 0] &= ~is_equal
        found = (values[numbers] * are_about).sum(1) / are_about.sum(1)
        many = np.flatnonzero(are_about[:, -1])  # there may be more of them
        if not len(many) or isinstance(self._index, NearestIndex):
            return found
        for part in np.array_split(many, len(many) * len(self.rows) // CHUNK_NUMBERS + 1):
            squares = euclidean_distances(rows[part], self.rows, squared=True)
            about = squares <= np.square(np.maximum(reach, self._rounded(rows)))[part, None]
            own = is_equal[part]
            found[part] = (about @ values - own * values[numbers[part, 0]]) / (about.sum(1) - own)
        return found

    def _rounded(self, rows: np.ndarray) -> np.ndarray:
        """Distances of each row below which another one is equal to it."""
        found: np.ndarray = ROUNDING * np.linalg.norm(rows, axis=1) + self.rounding
        return found


def _index(rows: np.ndarray, k: int) -> NearestNeighbors | NearestIndex:
    return NearestIndex(rows, k) if len(rows) > index.MOST_EXACT else NearestNeighbors(n_neighbors=k).fit(rows)


def _without_first(found: np.ndarray) -> np.ndarray:
    """Columns from the second on; the last one is there twice."""
    return np.concatenate([found[:, 1:], found[:, -1:]], axis=1)


@dataclass(frozen=True, eq=False)
class KnownRows:
    """Known rows, and three measures of Euclidean distances to them.

    Attributes
    ----------
    rows : ndarray of shape (n, d)
        Without gaps; those fitted first, then those that were held out.
    spacings : ndarray of shape (m,)
        s of each row fitted.
    rounding : float
        Distances below it are those of equal rows.
    nearest_tail, group_tail, local_tail : Tail
        Of the distance to the nearest row, of the mean distance to a group, and of the local measure.
    """

    rows: np.ndarray
    spacings: np.ndarray
    rounding: NotNegative
    nearest_tail: Tail
    group_tail: Tail
    local_tail: Tail

    @classmethod
    def of(cls, rows: np.ndarray, held_out: np.ndarray, offset: float = 0.0, most: int = MOST_KNOWN) -> Self:
        """Rows of shape (m, d) in a random order, by which the tails are known, and held-out ones, if not too many.

        ``offset`` is the distance of their centre from what was 0 before they were scaled: numbers were rounded there.

        Examples
        --------
        >>> known = KnownRows.of(np.arange(20.0)[:, None] ** 2, held_out=np.array([[500.0]]))
        >>> known.measures(np.array([[490.0], [500.0]]))[0].tolist()
        [10.0, 139.0]
        """
        rows = rows[:most]
        neighbors = Neighbors(rows, LOCAL)
        found = neighbors.all(rows)
        distances = neighbors.without_equal(*found)[0]
        spacings, group = distances.mean(1), _groups_of(rows)(rows[:MOST_KNOWN])[0].mean(1)
        measures = distances[:, 0], group, _local(spacings, spacings, neighbors.mean_about(spacings, rows, *found))
        tails = [Tail.of(each[:MOST_KNOWN]) for each in measures]
        known = np.concatenate([rows, held_out]) if len(held_out) <= most - len(rows) else rows
        rounding = min(ROUNDING * offset, TIGHTEST * float(np.median(distances[:, 0])))
        return cls(known, spacings, rounding, *tails)

    def measures(
        self, rows: np.ndarray, held_out: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The distance of each row to the nearest, the mean distance to its group, and the local measure.

        ``held_out`` says which of the rows are known ones that were held out; each is compared with the others.
        """
        everything, numbers = self._fitted.all(rows)
        distances = self._fitted.without_equal(everything, numbers)[0]
        nearest = distances[:, 0]
        if self._held_out is not None:
            others = self._held_out.all(rows)[0]
            if held_out is not None:
                others[held_out] = _without_first(others[held_out])
            joined = np.sort(np.concatenate([everything, others], axis=1), axis=1)
            nearest = np.where(joined[:, 0] == 0, joined[:, 1], joined[:, 0])
        about = self._fitted.mean_about(self.spacings, rows, everything, numbers)
        return nearest, self._groups(rows)[0].mean(1), _local(distances.mean(1), self.spacings, about)

    def tails(self, rows: np.ndarray, held_out: np.ndarray | None = None) -> np.ndarray:
        """The sum of the tails of the measures, shape (n,).

        That of the group counts twice: the two others see how near a few rows are, which may be anomalies too.
        """
        nearest, group, local = self.measures(rows, held_out)
        return self.nearest_tail(nearest) + 2 * self.group_tail(group) + self.local_tail(local)

    def is_sound(self, n_columns: int) -> bool:
        """Whether the values fit together, as those of a damaged file may not."""
        is_table = self.rows.ndim == 2 and self.rows.shape[1] == n_columns and self.spacings.ndim == 1
        is_sized = 0 < len(self.spacings) <= len(self.rows) and bool((self.spacings >= 0).all())
        return is_table and is_sized and all(t.is_sound for t in (self.nearest_tail, self.group_tail, self.local_tail))

    @cached_property
    def _fitted(self) -> Neighbors:
        return Neighbors(self.rows[: len(self.spacings)], LOCAL, self.rounding)

    @cached_property
    def _held_out(self) -> Neighbors | None:
        held_out = self.rows[len(self.spacings) :]
        return Neighbors(held_out, 1, self.rounding) if len(held_out) else None

    @cached_property
    def _groups(self) -> Neighbors:
        return _groups_of(self.rows[: len(self.spacings)], self.rounding)


def _groups_of(rows: np.ndarray, rounding: float = 0.0) -> Neighbors:
    """The nearest twentieth of the first `MOST_GROUPED` rows."""
    known = rows[:MOST_GROUPED]
    return Neighbors(known, max(len(known) // GROUP, SMALLEST_GROUP), rounding)


def _local(spacing: np.ndarray, spacings: np.ndarray, about: np.ndarray) -> np.ndarray:
    """The local measure, from s of rows, s of known rows, and the mean s of the rows about each row, shape (n,)."""
    least = max(TIGHTEST * float(spacings.mean()), np.finfo(np.float64).tiny)
    found: np.ndarray = np.log(spacing + least) - np.log(about + least)
    return found


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
        self._nearest, self._group = Neighbors(known, 1), _groups_of(known)
        nearest, group = self._measures(known)
        self._close, self._remote = np.quantile(nearest, CLOSE), np.quantile(group, REMOTE)

    def contain(self, rows: np.ndarray) -> np.ndarray:
        """Which rows are in such a group, shape (n,)."""
        nearest, group = self._measures(rows)
        found: np.ndarray = (nearest < self._close) & (group > self._remote)
        return found

    def _measures(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._nearest(rows)[0][:, 0], self._group(rows)[0].mean(1)
