r"""Reasons: how much each column of a row adds to what an anomaly detector measures of it.

The suspicious cells of a row are found by a normal density of rows (`eigencode.detection.suspicion`), and replaced one
after the other, the most suspicious first, by their means given the cells that are not suspicious. A suspicious cell
adds what its replacement takes from D. The rest, of the row with all of them replaced, is divided: each column has its
squared residual; the columns share the code's :math:`-\log p(z)`, what the commonest code has equally, and what is
above it in proportion to the squares of their cells' distances from their means. So the contributions add up to D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eigencode.estimators.unlikeness import answers

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.estimators.unlikeness import Unlikeness


@dataclass(frozen=True, eq=False)
class Reasons:
    """What each cell of some rows adds, in nats, and what was expected of it.

    Attributes
    ----------
    contributions, expected : ndarray of shape (n, d)
        The contributions, in nats, and the mean of each cell given the cells of its row that are not suspicious, in
        the data's units.
    """

    contributions: np.ndarray
    expected: np.ndarray

    @classmethod
    def of(cls, unlikeness: Unlikeness, autoencoder: BaseAutoencoder, rows: np.ndarray) -> Reasons:
        """The reasons of rows of shape (n, d), in the data's units."""
        scaler, everyone = autoencoder.scaler_, np.arange(len(rows))
        given = rows.astype(np.float64)
        scaled = scaler.transform(_without_gaps(autoencoder, given))
        found = unlikeness.density.suspicious_cells(scaled)
        expected = scaler.inverse_transform(found.expected, np.dtype(np.float64))
        contributions, before = np.zeros_like(scaled), unlikeness.nats(autoencoder, given)
        for columns in found.hidden.T:
            some = everyone[columns >= 0]
            column = columns[some]
            given[some, column], scaled[some, column] = expected[some, column], found.expected[some, column]
            after = unlikeness.nats(autoencoder, given[some])
            contributions[some, column] += before[some] - after
            before[some] = after
        residuals, codes = answers(autoencoder, given)
        contributions += np.square(residuals) / (2 * unlikeness.noise) + _of_codes(unlikeness, codes, scaled)
        return cls(contributions, expected)


def _of_codes(unlikeness: Unlikeness, codes: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """The share of each column in minus the log-density of a code, shape (n, d)."""
    density = unlikeness.density
    squares = np.square(scaled - density.center) / np.diag(density.covariance) + np.finfo(np.float64).tiny
    excess = -unlikeness.mixture.log_prob(codes) - unlikeness.commonest
    shares = squares / squares.sum(1, keepdims=True)
    found: np.ndarray = unlikeness.commonest / scaled.shape[1] + excess[:, None] * shares
    return found


def _without_gaps(autoencoder: BaseAutoencoder, rows: np.ndarray) -> np.ndarray:
    """Rows whose gaps are filled by their means given the known cells."""
    has_gaps = np.isnan(rows).any(1)
    if not has_gaps.any():
        return rows
    filled = rows.copy()
    imputed = autoencoder._answer_of(rows[has_gaps], autoencoder._expected, autoencoder._in_data_units)
    filled[has_gaps] = np.where(np.isnan(rows[has_gaps]), imputed, rows[has_gaps])
    return filled
