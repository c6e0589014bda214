r"""Unlikeness: what an anomaly detector measures of a row, and how it is joined to one score.

With D(x) in nats, the distance r(x) to the nearest row fitted, and the tail t of each
(`eigencode.detection.tails`), the score is

.. math:: t_D(D(x)) + t_r(r(x)) + m \, \log_2 \max(1, \text{distance from the centre, in units of the farthest row})

where m is the largest sum of the first two terms of a row fitted. So a row at twice the distance of the farthest row
fitted scores above all of these, in any direction, along what the autoencoder reconstructs too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from eigencode import model
from eigencode.batch import Batch
from eigencode.detection.neighbors import NearestRows, farther
from eigencode.detection.suspicion import NormalDensity
from eigencode.detection.tails import Tail
from eigencode.domains import NotNegative, Positive
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.model import Composition

MOST_KNOWN = 10_000
"""Rows fitted that new rows are compared with; of more, so many are drawn at random."""

SMALLEST_NOISE = 1e-6
"""Smallest variance of the residuals, beside that of the scaled rows."""

SMALLEST_CELL = 1e-6
"""Smallest reach of a column, beside the size of its center: differences below it may be rounding."""


@dataclass(frozen=True, eq=False)
class Unlikeness:
    """What is measured of a row, by the rows that were fitted.

    Attributes
    ----------
    mixture : Mixture
        The density of the codes.
    noise : float
        Variance s^2 of the residuals of scaled rows, a cell.
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
    commonest : float
        Minus the log-density of the commonest code of a row fitted.
    density : NormalDensity
        A normal density of scaled rows, by which suspicious cells are found.
    """

    mixture: model.Mixture
    noise: Positive
    tail: Tail
    nearest: NearestRows | None
    nearest_tail: Tail | None
    reach: np.ndarray
    radius: Positive
    highest: NotNegative
    commonest: float
    density: NormalDensity

    @classmethod
    def of(cls, autoencoder: BaseAutoencoder, rows: np.ndarray, neighbors: bool, seed: int) -> Self:
        """What is known from the rows fitted, of shape (n, d)."""
        residuals, codes = answers(autoencoder, rows)
        cells = _cells(autoencoder, rows)
        noise = _noise(residuals, cells, autoencoder.n_components_)
        mixture = model.fit_mixture(codes, seed)
        known = np.random.default_rng(seed).permutation(len(rows))[:MOST_KNOWN]
        nats = _nats(residuals[known], codes[known], noise, mixture)
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
            mixture,
            noise,
            tail,
            nearest,
            nearest_tail,
            reach,
            radius,
            float(sums.max()),
            float(-mixture.log_prob(codes[known]).max()),
            _density(scaler.transform(rows.astype(np.float64))),
        )

    def parts(self, autoencoder: BaseAutoencoder, rows: np.ndarray) -> dict[str, np.ndarray]:
        """D of each row, and the terms of its score: the tails of D and of the distance, and what far rows get."""
        cells, nats = _cells(autoencoder, rows), self.nats(autoencoder, rows)
        neighbors = np.zeros(len(rows))
        if self.nearest is not None and self.nearest_tail is not None:
            neighbors = self.nearest_tail(self.nearest.distances(cells))
        return {
            "nats": nats,
            "nats_tail": self.tail(nats),
            "neighbors": neighbors,
            "beyond": self.highest * farther(cells, self.reach, self.radius),
        }

    def scores(self, autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
        """The score of each row, shape (n,): higher for rows more unlike those fitted."""
        parts = self.parts(autoencoder, rows)
        return parts["nats_tail"] + parts["neighbors"] + parts["beyond"]

    def nats(self, autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
        """D of each row, shape (n,)."""
        return _nats(*answers(autoencoder, rows), self.noise, self.mixture)

    def fits(self, n_cells: int, n_components: int) -> bool:
        """Whether it is of rows of so many cells and codes of so many components."""
        tails = [self.tail, *([self.nearest_tail] if self.nearest_tail is not None else [])]
        known = None if self.nearest is None else self.nearest.rows.shape[1:]
        return (
            self.reach.shape == (n_cells,)
            and self.mixture.means.shape[1] == n_components
            and known == (None if self.nearest_tail is None else (n_cells,))
            and all(tail.is_sound for tail in tails)
            and self.density.center.shape == (n_cells,)
            and self.density.is_sound
        )


def _nats(residuals: np.ndarray, codes: np.ndarray, noise: float, mixture: model.Mixture) -> np.ndarray:
    """D of each row, shape (n,), from the residuals of its scaled cells and its code."""
    found: np.ndarray = np.square(residuals).sum(1) / (2 * noise) - mixture.log_prob(codes)
    return found


def answers(autoencoder: BaseAutoencoder, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The residuals of scaled cells, 0 in gaps, shape (n, d), and the codes, shape (n, k), in float64."""

    def both(composition: Composition, clean: Batch, seen: Batch) -> Tensor:
        z = composition.encode(*seen.cells).mean
        return torch.cat([autoencoder._difference(composition, clean, composition.decode(z), True), z], dim=1)

    d = len(autoencoder.scaler_.center)
    found = autoencoder._in_float64(rows, both)
    return found[:, :d], found[:, d:]


def _cells(autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
    """Scaled cells in float64, 0 in gaps."""
    return np.nan_to_num(autoencoder.scaler_.transform(rows.astype(np.float64)), nan=0.0)


def _noise(residuals: np.ndarray, cells: np.ndarray, n_components: int) -> float:
    """The variance of a residual of a cell; a code of k numbers takes k of the d directions of the residuals."""
    n, d = residuals.shape
    found = float(np.square(residuals).sum()) / (n * max(d - n_components, 1))
    return max(found, SMALLEST_NOISE * float(cells.var()), np.finfo(np.float64).tiny)


def _density(scaled: np.ndarray) -> NormalDensity:
    """The most likely normal density of scaled rows with gaps."""
    x = torch.from_numpy(scaled)
    found = model.fit_gaussian(Batch(x.nan_to_num(0.0), ~x.isnan()))
    return NormalDensity(*(values.numpy() for values in (found.center, found.loadings, found.noise)))
