r"""Unlikeness: what an anomaly detector measures of a row, and how it is joined to one score.

With D(x) in nats, the distance r(x) to the nearest row fitted, and the tail t of each
(`eigencode.detection.tails`), the score is

.. math:: t_D(D(x)) + t_r(r(x)) + m \, \log_2 \max(1, \text{distance from the centre, in units of the farthest row})

where m is the largest sum of the first two terms of a row fitted, and D is that of `RowNats`. So a row at twice the
distance of the farthest row fitted scores above all of these, in any direction, along what the autoencoder
reconstructs too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from eigencode.detection.neighbors import NearestRows, farther
from eigencode.detection.tails import Tail
from eigencode.domains import NotNegative, Positive
from eigencode.estimators.cell_density import cell_density
from eigencode.estimators.row_nats import RowNats

if TYPE_CHECKING:
    from eigencode.data.containers import NamedArray
    from eigencode.estimators.base import BaseAutoencoder

MOST_KNOWN = 10_000
"""Rows fitted that new rows are compared with; of more, so many are drawn at random."""

USUAL = 0.95
"""Share of the rows fitted whose values have a usual D."""

SMALLEST_CELL = 1e-6
"""Smallest reach of a column, beside the size of its center: differences below it may be rounding."""


@dataclass(frozen=True, eq=False)
class Unlikeness:
    """What is measured of a row, by the rows that were fitted.

    Attributes
    ----------
    row_nats : RowNats
        D.
    tail : Tail
        Of D.
    nearest : NearestRows or None
        Scaled rows fitted, 0 in gaps.
    nearest_tail : Tail or None
        Of the distance to the nearest other row.
    reach : ndarray of shape (d,)
        The largest size of each scaled column.
    radius : float
        The largest norm of a scaled row.
    highest : float
        m, the largest sum of the tails of a row fitted.
    usual : float
        D of the values of a row, without the states of columns, of which one row fitted in twenty has more.
    """

    row_nats: RowNats
    tail: Tail
    nearest: NearestRows | None
    nearest_tail: Tail | None
    reach: np.ndarray
    radius: Positive
    highest: NotNegative
    usual: float

    @classmethod
    def of(cls, autoencoder: BaseAutoencoder, given: NamedArray, neighbors: bool, seed: int) -> Self:
        """What is known from the rows fitted."""
        rows, cells = given.array, _cells(autoencoder, given.array)
        known = np.random.default_rng(seed).permutation(len(rows))[:MOST_KNOWN]
        row_nats = RowNats.of(autoencoder, rows, cell_density(autoencoder, rows[known], seed), seed)
        of_values = row_nats.of_values(autoencoder, rows[known])
        nats = of_values + row_nats.of_states(autoencoder, given[known]).sum(1)
        tail = Tail.of(nats)
        sums, nearest, nearest_tail = tail(nats), None, None
        if neighbors:
            nearest = NearestRows(cells[known])
            distances = nearest.leave_one_out()
            nearest_tail = Tail.of(distances)
            sums = sums + nearest_tail(distances)
        scaler = autoencoder.scaler_
        smallest = np.maximum(SMALLEST_CELL * np.abs(scaler.center) / scaler.divisor, SMALLEST_CELL)
        reach = np.maximum(np.abs(cells).max(0), smallest)
        radius = max(float(np.linalg.norm(cells, axis=1).max()), SMALLEST_CELL)
        return cls(
            row_nats,
            tail,
            nearest,
            nearest_tail,
            reach,
            radius,
            float(sums.max()),
            float(np.quantile(of_values, USUAL)),
        )

    def parts(self, autoencoder: BaseAutoencoder, given: NamedArray) -> dict[str, np.ndarray]:
        """D of each row, and the terms of its score: the tails of D and of the distance, and what far rows get."""
        cells, nats = _cells(autoencoder, given.array), self.row_nats(autoencoder, given)
        neighbors = np.zeros(len(cells))
        if self.nearest is not None and self.nearest_tail is not None:
            neighbors = self.nearest_tail(self.nearest.distances(cells))
        return {
            "nats": nats,
            "nats_tail": self.tail(nats),
            "neighbors": neighbors,
            "beyond": self.highest * farther(cells, self.reach, self.radius),
        }

    def scores(self, autoencoder: BaseAutoencoder, given: NamedArray) -> np.ndarray:
        """The score of each row, shape (n,): higher for rows more unlike those fitted."""
        parts = self.parts(autoencoder, given)
        return parts["nats_tail"] + parts["neighbors"] + parts["beyond"]

    def fits(self, autoencoder: BaseAutoencoder) -> bool:
        """Whether it is of rows and codes of an autoencoder."""
        n_cells = len(autoencoder.scaler_.center)
        tails = [self.tail, *([self.nearest_tail] if self.nearest_tail is not None else [])]
        known = None if self.nearest is None else self.nearest.rows.shape[1:]
        return (
            self.reach.shape == (n_cells,)
            and self.row_nats.fits(autoencoder.columns_, n_cells, autoencoder.n_components_)
            and known == (None if self.nearest_tail is None else (n_cells,))
            and all(tail.is_sound for tail in tails)
        )


def _cells(autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
    """Scaled cells in float64, 0 in gaps."""
    return np.nan_to_num(autoencoder.scaler_.transform(rows.astype(np.float64)), nan=0.0)
