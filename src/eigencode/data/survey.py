"""What a fit needs of the rows of a source beside their scale, found in the same pass: some rows, second moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from eigencode.data.scaling import Scaler
from eigencode.data.sources import CHUNK_CELLS


class Survey:
    r"""Some rows of a source, and the second moments of those that are learned from.

    The moments are sums of :math:`(x - c)(x - c)^T` for a center c near the mean, in float64, so that those of the
    scaled rows, about their own mean, follow without loss.

    Parameters
    ----------
    numbers : ndarray
        Numbers of the rows to keep, in ascending order.
    center : ndarray of shape (d,) or None
        c; None to leave the moments out.

    Examples
    --------
    >>> survey = Survey(np.array([0, 3]), center=np.zeros(1))
    >>> for block in survey.of([np.array([[1.0], [2.0]]), np.array([[3.0], [6.0]])]):
    ...     survey.add(block)
    >>> survey.rows[:, 0].tolist()
    [1.0, 6.0]
    """

    def __init__(self, numbers: np.ndarray, center: np.ndarray | None) -> None:
        self.numbers, self.is_complete = numbers, False
        self._kept: list[np.ndarray] = []
        self._center, self._n_rows = center, 0
        d = 0 if center is None else len(center)
        self._total: np.ndarray = np.zeros(d)
        self._squares: np.ndarray = np.zeros((d, d))

    def of(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks of all rows in order, of which some rows are kept."""
        done, self._kept = 0, []
        for block in blocks:
            first, last = np.searchsorted(self.numbers, [done, done + len(block)])
            self._kept.append(block[self.numbers[first:last] - done])
            yield block
            done += len(block)
        self.is_complete = True

    def add(self, rows: np.ndarray) -> None:
        """Rows that are learned from."""
        if self._center is None:
            return
        n_rows = max(CHUNK_CELLS // rows.shape[1], 1)
        for first in range(0, len(rows), n_rows):
            part = rows[first : first + n_rows] - self._center
            self._total += part.sum(0)
            self._squares += part.T @ part
        self._n_rows += len(rows)

    @property
    def rows(self) -> np.ndarray:
        """The rows that are kept."""
        return np.concatenate(self._kept)

    def second_moment(self, scaler: Scaler) -> np.ndarray | None:
        """The mean of z z^T for scaled rows z, shape (d, d); None if it is not known, as with gaps."""
        if self._center is None or not self.is_complete or any(scaler.logarithmic):
            return None
        mean, shift = self._total / self._n_rows, scaler.center - self._center
        moment = self._squares / self._n_rows - np.outer(mean, shift) - np.outer(shift, mean) + np.outer(shift, shift)
        with np.errstate(over="ignore", invalid="ignore"):
            moment /= np.outer(scaler.divisor, scaler.divisor)
        moment[scaler.constant], moment[:, scaler.constant] = 0.0, 0.0
        return moment if np.isfinite(moment).all() else None
