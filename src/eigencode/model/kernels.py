"""Kernel densities of codes: a mixture with a Gaussian around each code, where that is better than few Gaussians."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from eigencode.model.codes import as_codes, as_weights, standards, systematic
from eigencode.model.density import Mixture, fit_mixture
from eigencode.model.expectation_maximisation import LEAST_EXPONENT

BANDWIDTHS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75)
"""Bandwidths that are tried, in units of the deviations of a mixture's Gaussian; 1 is the Gaussian itself."""

BIC_ROWS = 500
"""Up to so many codes the number of Gaussians has the least BIC: a fifth of them is too few for a choice."""

KERNELS = 2048
"""Most Gaussians around single codes."""


def fit_density(codes: ArrayLike, seed: int, sample_weight: ArrayLike | None = None) -> Mixture:
    r"""The mixture of `fit_mixture`, or the same with a Gaussian around each code, if that is a better density.

    Codes of rows with categories, zeros and other values that repeat lie in clumps, which few Gaussians miss. With a
    bandwidth s each Gaussian becomes a kernel density of its own codes that has its mean and covariance:

    .. math:: N(\mu, \Sigma) \to \frac1n \sum_i N\left( \mu + \sqrt{1 - s^2} \, (z_i - \mu), s^2 \Sigma \right)

    s has the largest likelihood of codes that are left out one by one; s = 1, the mixture itself, is kept unless
    another is better by more than one standard error. Equal codes are left out together. At most
    2,048 codes have a Gaussian.

    Parameters
    ----------
    codes : array of shape (n, k)
        Finite numbers; at least one row.
    seed : int
        Seed of the split, of the starts and of the choice of codes.
    sample_weight : array of shape (n,), optional
        Weight of each row, as for `fit_mixture`.

    Returns
    -------
    Mixture
        With the covariances of few groups where each code has a Gaussian.
    """
    mixture = fit_mixture(codes, seed, sample_weight=sample_weight, bic_rows=BIC_ROWS)
    rows = as_codes(codes)
    if sample_weight is not None:
        rows = rows[systematic(as_weights(sample_weight, len(rows)))]
    return _smoothed(mixture, np.random.default_rng(seed).permutation(rows)[:KERNELS])


def _smoothed(mixture: Mixture, rows: np.ndarray) -> Mixture:
    """The mixture, or the one with a Gaussian around each row."""
    joint = mixture.log_joint(rows)
    nearest = joint.argmax(1)
    center, divisor = standards(rows)
    copy_of = np.unique(((rows - center) / divisor).round(4), axis=0, return_inverse=True)[1].reshape(-1)
    is_same = copy_of[:, None] == copy_of
    best, plain, gain = mixture, np.logaddexp.reduce(joint, axis=1), 0.0
    for s in BANDWIDTHS if not is_same.all() else ():
        centers = mixture.means[nearest]
        weights = np.full(len(rows), 1 / len(rows))
        candidate = Mixture(
            weights, centers + math.sqrt(1 - s**2) * (rows - centers), s**2 * mixture.covariances, nearest
        )
        others = candidate.log_joint(rows).T
        others[is_same] = -np.inf
        differences = log_sums(others) - plain
        error = differences.std() / math.sqrt(len(rows))
        if differences.mean() > max(error, gain):
            best, gain = candidate, differences.mean()
    return best


def log_sums(logarithms: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of each column's exponentials; one of them must be above 0.

    Processors take long for exponentials below the smallest normal number, so they are cut where they are next to
    nothing beside the largest.
    """
    most = logarithms.max(0)
    found: np.ndarray = np.log(np.exp(np.maximum(logarithms - most, LEAST_EXPONENT)).sum(0)) + most
    return found
