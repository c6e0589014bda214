"""The density of the cells of rows, by which an anomaly detector finds suspicious cells."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from sklearn.mixture import GaussianMixture

from eigencode import model
from eigencode.batch import Batch
from eigencode.detection.suspicion import CellDensity
from eigencode.lazy import torch

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

LABELS = {"boolean", "category", "ordered"}
"""Families of columns whose cells are labels."""

MOST_CELLS = 64
"""Cells of a row up to which the density may be a mixture."""

NUMBERS = (2, 4, 8)
"""Numbers of normal densities that are tried beside one."""

ROWS_A_COLUMN = 4
"""Fewest rows a normal density and column."""

VALIDATION = 0.2
"""Share of the rows by which the number is chosen."""

RIDGE = 3e-2
"""Share of a cell's variance that is added to it: a cell that others determine is not compared any closer."""

FLAT = 1e-6
"""Smallest variance of a cell, beside the mean one."""

FEWEST = 0.5
"""Rows that a label counts as if it had, where no row fitted has it."""


def cell_density(autoencoder: BaseAutoencoder, rows: np.ndarray, seed: int) -> CellDensity:
    """The density of the scaled cells of rows of shape (n, d), NaN in gaps.

    It is a mixture of as many normal densities as are best for validation rows; with labels or gaps it is one, by EM.
    """
    schema, scaler = autoencoder.columns_, autoencoder.scaler_
    scaled = scaler.transform(rows.astype(np.float64))
    has_labels = schema is not None and any(family in LABELS for family, _ in schema.blocks)
    is_plain = not has_labels and scaled.shape[1] <= MOST_CELLS and not np.isnan(scaled).any()
    mixture = None
    if is_plain:
        with suppress(ValueError):  # of scikit-learn, for columns that are singular in a part of the rows
            mixture = _mixture(scaled, seed)
    mixture = mixture or _normal(scaled)
    if schema is None or not has_labels:
        return CellDensity.of_numbers(*mixture)
    families, widths = zip(*schema.blocks, strict=True)
    is_label = np.repeat([family in LABELS for family in families], widths)
    known = (~np.isnan(rows)).sum(0)
    shares = np.where(is_label, (np.nansum(rows, axis=0) + FEWEST) / (known + 2 * FEWEST), np.nan)
    zeros, ones = (scaler.transform(np.full((1, len(shares)), float(value)))[0] for value in (0, 1))
    return CellDensity(*mixture, np.array(widths), shares, zeros, ones)


def _normal(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, mean and covariance of one normal density, of rows with gaps."""
    x = torch.from_numpy(scaled)
    found = model.fit_gaussian(Batch(x.nan_to_num(0.0), ~x.isnan()))
    covariance = (found.loadings @ found.loadings.T + found.noise.diag()).numpy()
    variances = covariance.diagonal()
    smallest = max(FLAT * float(variances.mean()), np.finfo(np.float64).tiny)
    return np.ones(1), found.center.numpy()[None], (covariance + RIDGE * np.diag(np.maximum(variances, smallest)))[None]


def _mixture(scaled: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Weights, means and covariances of the best mixture, None where one normal density is as good."""
    n, d = scaled.shape
    rows = scaled[np.random.default_rng(seed).permutation(n)]
    validation, training = np.split(rows, [round(VALIDATION * n)])
    if not scaled.var(0).all() or len(training) < NUMBERS[0] * ROWS_A_COLUMN * d:
        return None
    found, best = None, _fitted(training, 1, seed).score(validation)
    for m in NUMBERS:
        if len(training) < m * ROWS_A_COLUMN * d:
            break
        candidate = _fitted(training, m, seed)
        if (score := candidate.score(validation)) <= best:
            break
        found, best = candidate, score
    return None if found is None else (found.weights_, found.means_, found.covariances_)


def _fitted(rows: np.ndarray, m: int, seed: int) -> GaussianMixture:
    ridge = RIDGE * float(rows.var(0).min())
    return GaussianMixture(m, reg_covar=ridge, max_iter=100, tol=1e-2, random_state=seed % 2**32).fit(rows)
