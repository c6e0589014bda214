r"""Residuals: what a decoder leaves of the columns, which have covariances where the code is a point.

.. math:: x = g(z) + L u + \epsilon, \qquad u \sim N(0, I), \quad \epsilon \sim N(0, \mathrm{diag}(\psi))

So residuals are further components of the code, which a decoder with the columns of L beside it decodes.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

MOST_FACTORS = 32
"""Most columns of L."""


def residual_loadings(residuals: np.ndarray, n_known: np.ndarray) -> np.ndarray:
    """L, shape (d, q), of residuals of shape (n, d), which are 0 in gaps; ``n_known`` counts each column's known cells.

    The covariance of few residuals is drawn to independent columns (Ledoit & Wolf, 2004). With at most 33 columns it is
    then L L' + D exactly, where D is a share of the columns' variances, the smallest eigenvalue of the correlations.
    """
    deviations = np.sqrt(np.square(residuals).sum(0) / np.maximum(n_known, 1))
    varies = deviations > 0
    q = min(int(varies.sum()) - 1, MOST_FACTORS)
    if q < 1:
        return np.zeros((residuals.shape[1], 0))
    scaled = residuals[:, varies] / deviations[varies] * np.sqrt(len(residuals) / n_known[varies])
    values, vectors = np.linalg.eigh(ledoit_wolf(scaled, assume_centered=True)[0])
    roots = np.sqrt(np.maximum(values[-q:] - values[-q - 1], 0.0))
    loadings = np.zeros((residuals.shape[1], q))
    loadings[varies] = deviations[varies, None] * vectors[:, -q:] * roots
    return loadings


class WithResiduals(nn.Module):
    """A decoder of codes and, behind them, of residuals: the outputs, of which the first d are moved by L u."""

    def __init__(self, decoder: nn.Module, loadings: Tensor) -> None:
        super().__init__()
        self.decoder = decoder
        self.loadings = loadings

    def forward(self, z: Tensor) -> Tensor:
        """Outputs for codes and residuals of shape (n, k + q); those of codes alone have no residuals."""
        q = self.loadings.shape[1]
        output: Tensor = self.decoder(z[:, : z.shape[1] - q])
        moved = z[:, z.shape[1] - q :] @ self.loadings.T
        return output + torch.nn.functional.pad(moved, (0, output.shape[1] - moved.shape[1]))
