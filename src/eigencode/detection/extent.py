r"""Extent: how far out the known rows are, and by how many doublings other rows are farther.

.. math:: e(x) = \log_2 \max\left( 1, \frac{\lVert x \rVert}{\max_i \lVert x_i \rVert},
    \frac1c \max_j \frac{|x_j|}{\max_i |x_{ij}|} \right)

compares a row with the farthest of them, as a whole and in each column. With many columns and few rows, most new rows
are the farthest in some column. So the ratios of columns are in units of a margin c, at least 1, which one row fitted
in a hundred exceeds when it is compared with the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from eigencode.domains import Positive

SHARE = 0.99
"""Share of the rows that are within the margin."""


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

    Examples
    --------
    >>> Extent(np.array([2.0, 1.0]), 2.0, 1.0).farther(np.array([[1.0, 1.0], [8.0, 0.0]]))
    array([0., 2.])
    """

    reach: np.ndarray
    radius: Positive
    margin: Positive

    @classmethod
    def of(cls, rows: np.ndarray, smallest: np.ndarray) -> Self:
        """The extent of rows of shape (n, d), in each column at least ``smallest``, shape (d,)."""
        sizes = np.abs(rows)
        others = np.maximum(np.where(sizes == sizes.max(0), _second(sizes), sizes.max(0)), smallest)
        # A column that is constant but for one row is compared with as it would be without that row.
        is_alone = ((rows == rows.max(0)) & (_second(rows) == rows.min(0))) | (
            (rows == rows.min(0)) & (-_second(-rows) == rows.max(0))
        )
        margin = float(np.quantile((sizes / np.where(is_alone, smallest, others)).max(1), SHARE))
        radius = max(float(np.linalg.norm(rows, axis=1).max()), float(smallest.min()))
        return cls(np.maximum(sizes.max(0), smallest), radius, max(margin, 1.0))

    def farther(self, rows: np.ndarray) -> np.ndarray:
        """By how many doublings rows of shape (n, d) are farther out than these, shape (n,)."""
        of_columns = (np.abs(rows) / self.reach).max(1) / self.margin
        found: np.ndarray = np.log2(np.maximum(1.0, np.maximum(np.linalg.norm(rows, axis=1) / self.radius, of_columns)))
        return found

    def is_sound(self, n_columns: int) -> bool:
        """Whether the values fit together, as those of a damaged file may not."""
        return self.reach.shape == (n_columns,) and bool((self.reach > 0).all()) and self.margin >= 1


def _second(rows: np.ndarray) -> np.ndarray:
    """The second largest value of each column, or the only one."""
    found: np.ndarray = np.partition(rows, -2, axis=0)[-2] if len(rows) > 1 else rows[0]
    return found
