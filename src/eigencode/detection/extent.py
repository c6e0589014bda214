r"""Extent: how far out the known rows are, and by how many doublings other rows are farther.

.. math:: e(x) = \log_2 \max\left( 1, \frac{\lVert x \rVert}{\max_i \lVert x_i \rVert},
    \frac1c \max_j \frac{|x_j|}{\max_i |x_{ij}|} \right)

compares a row with the farthest of them, as a whole and in each column. With many columns and few rows, most new rows
are the farthest in some column. So the ratios of columns are in units of a margin c, at least 1, which one row fitted
in a hundred exceeds when it is compared with the others. A column that is constant in the known rows, as the cell of a
label is that they do not have, has no size to compare with: a row that differs in it is half a doubling farther, and
more only by its norm, so that a row at twice the distance of the farthest still scores above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from eigencode.domains import Positive

SHARE = 0.99
"""Share of the rows that are within the margin."""

FLAT = 2**0.5
"""The ratio of a cell that differs in a column that is constant otherwise."""


@dataclass(frozen=True, eq=False)
class Extent:
    """The extent of rows about the centre 0.

    Attributes
    ----------
    reach : ndarray of shape (d,)
        The largest size of each column.
    radius : float
        The largest norm of a row.
    margin : float
        c.
    are_flat : ndarray of bool of shape (d,)
        Which columns are constant, but for rounding.

    Examples
    --------
    >>> extent = Extent(np.array([2.0, 1.0]), 2.0, 1.0, np.array([False, False]))
    >>> extent.farther(np.array([[1.0, 1.0], [8.0, 0.0]]))
    array([0., 2.])
    """

    reach: np.ndarray
    radius: Positive
    margin: Positive
    are_flat: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, smallest: np.ndarray) -> Self:
        """The extent of rows of shape (n, d), in each column at least ``smallest``, shape (d,)."""
        sizes = np.abs(rows)
        others = np.maximum(np.where(sizes == sizes.max(0), _second(sizes), sizes.max(0)), smallest)
        # A column that is constant but for one row is compared with as it would be without that row.
        is_alone = ((rows == rows.max(0)) & (_second(rows) == rows.min(0))) | (
            (rows == rows.min(0)) & (-_second(-rows) == rows.max(0))
        )
        ratios = np.where(is_alone & (sizes > smallest), FLAT, sizes / others)
        margin = float(np.quantile(ratios.max(1), SHARE))
        radius = max(float(np.linalg.norm(rows, axis=1).max()), float(smallest.min()))
        largest = sizes.max(0)
        return cls(np.maximum(largest, smallest), radius, max(margin, 1.0), largest <= smallest)

    def farther(self, rows: np.ndarray) -> np.ndarray:
        """By how many doublings rows of shape (n, d) are farther out than these, shape (n,)."""
        sizes, ratio = np.abs(rows), np.linalg.norm(rows, axis=1) / self.radius
        ratios = np.where(self.are_flat, FLAT * (sizes > self.reach), sizes / self.reach) / self.margin
        found: np.ndarray = np.log2(np.maximum(1.0, np.maximum(ratio, ratios.max(1))))
        return found

    def is_sound(self, n_columns: int) -> bool:
        """Whether the values fit together, as those of a damaged file may not."""
        are_shapes = self.reach.shape == self.are_flat.shape == (n_columns,)
        return are_shapes and bool((self.reach > 0).all()) and self.margin >= 1


def _second(rows: np.ndarray) -> np.ndarray:
    """The second largest value of each column, or the only one."""
    found: np.ndarray = np.partition(rows, -2, axis=0)[-2] if len(rows) > 1 else rows[0]
    return found
