"""Priors of codes at the start of training: mixtures of Gaussians, of many rows fitted quickly.

Training fits a prior further, so few iterations are enough there.
"""

from __future__ import annotations

import numpy as np
import torch

from eigencode.errors import DataError
from eigencode.model.codes import standards
from eigencode.model.density import Mixture, best_of_sizes, can_be_full, candidates, fit_mixture, in_units
from eigencode.model.expectation_maximisation import MOST_PAIRS, Effort, Fits, Gaussians
from eigencode.threads import one_thread

ROUGH_FROM, ROUGH_ROWS = 500, 4096
"""Rows from which on a mixture is fitted with few iterations, and most rows that its size is then chosen from."""

COMPARED_ROWS = 1024
"""At least so many rows are compared under a prior and under the standard normal: their gains have a standard error of
a thirtieth of their deviation."""

ENOUGH_ROWS = 10
"""Rows for each Gaussian, and column of full covariances, that determine it; so many are compared with a single one if
there are many rows."""

ROUGH = Effort((2, 3, 2**21), (1, 10, 2**22), (2, 100, 2**23))
"""Few runs and iterations, more of them where they have few products."""

GAIN = 2**-25
"""Gain of an iteration on all rows that is the last, in nats a row, for each product, since the first steps of training
gain more in the time of an iteration with many."""

ACTIVE = 0.99
"""Posterior variance below which a component of the code says something of its row; the prior's is 1."""

NARROWEST = 0.5
"""Smallest variance of a prior's Gaussian in any direction, in units of the noise of codes; for smaller ones a normal
posterior would have to be much narrower than it is."""


@one_thread()
def mixture_prior(means: np.ndarray, variances: np.ndarray, most: int) -> Mixture | None:
    """The prior of codes under which rows are likelier than under the standard normal, None if none is found.

    A row whose posterior under the standard normal is N(mu, s^2) has the likelihood N(z; y, r) of its code, with
    r = s^2 / (1 - s^2) and y = mu / (1 - s^2). So a mixture with covariances T that fits the y of all rows belongs to a
    prior with the covariances T - r. Where these were too narrow they are not T - r, so the likelihood of the y, that
    of the rows up to a constant, is compared with that under the standard normal.

    Parameters
    ----------
    means, variances : ndarray
        mu of each row, shape (n, k), and s^2, shape (k,), the same for all rows; of float64.
    most : int
        The largest number of Gaussians.
    """
    active = variances < ACTIVE
    if not active.any() or most < 2:
        return None
    left = 1 - variances[active]
    noise, codes = variances[active] / left, means[:, active] / left
    scores = rough_mixture(codes, most) if len(codes) >= ROUGH_FROM else fit_mixture(codes, 0, most=most)
    if scores.n_components == 1:
        return None
    inner = _without_noise(scores.covariances, noise)
    covariances = np.tile(np.eye(len(variances)), (scores.n_components, 1, 1))
    covariances[:, np.ix_(active, active)[0], np.ix_(active, active)[1]] = inner
    centers = np.zeros((scores.n_components, len(variances)))
    centers[:, active] = scores.means
    few = codes[:: max(len(codes) // COMPARED_ROWS, 1)]
    of_rows = _gaussians(scores.weights, scores.means, inner + np.diag(noise))
    normal = _gaussians(np.ones(1), np.zeros((1, len(noise))), np.diag(1 + noise)[None])
    gains = of_rows.score_samples(few) - normal.score_samples(few)
    return Mixture(scores.weights, centers, covariances) if gains.mean() > 0 else None


def _gaussians(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> Gaussians:
    """A mixture whose densities torch computes; those of NumPy and SciPy have threads of their own."""
    given = torch.tensor(weights), torch.tensor(means), torch.tensor(covariances)
    return Gaussians(*given, is_full=not _are_diagonal(covariances))


def _are_diagonal(covariances: np.ndarray) -> bool:
    """Whether covariances, shape (m, k, k), are variances alone."""
    return not (covariances * (1 - np.eye(covariances.shape[-1]))).any()


def _without_noise(covariances: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Covariances T minus those of the noise, in no direction smaller than the smallest ones."""
    root = np.sqrt(noise)
    units = np.outer(root, root)
    if _are_diagonal(covariances):
        return np.maximum(covariances / units - np.eye(len(noise)), NARROWEST * np.eye(len(noise))) * units
    values, vectors = np.linalg.eigh(covariances / units)
    return (vectors * np.maximum(values - 1, NARROWEST)[:, None]) @ vectors.transpose(0, 2, 1) * units


def rough_mixture(codes: np.ndarray, most: int) -> Mixture:
    """A mixture of at most so many Gaussians, by few iterations, with the number of them chosen on few of the rows.

    It is chosen as by `fit_mixture`, with the same form of covariances. Components are in order of weight, largest
    first. Expectation-maximisation is in float32 unless a Gaussian becomes too narrow for it.
    """
    center, divisor = standards(codes)
    rows = (codes - center) / divisor
    try:
        found = _rough(rows, most, torch.float32)
    except DataError:
        found = _rough(rows, most, torch.float64)
    return in_units(found, center, divisor)


def _rough(rows: np.ndarray, most: int, dtype: torch.dtype) -> Gaussians:
    """The same for standardised rows, in a given precision."""
    (n_all, k), is_narrow = rows.shape, rows.shape[1] <= MOST_PAIRS
    few = rows[np.random.default_rng(0).permutation(n_all)[:ROUGH_ROWS]]
    fits = Fits(lambda n, m: is_narrow and can_be_full(n, m, k, n_all), 0, ROUGH, dtype)
    # Training has all rows for what the prior learns; Gaussians that are idle at its start do not catch up.
    largest = candidates(min(most, n_all // (ENOUGH_ROWS * (k if is_narrow else 1))))[-1]
    sizes = (1, largest) if n_all > ROUGH_ROWS else candidates(most)
    return fits.further(best_of_sizes(few, 0, 0.2, fits, sizes), rows, GAIN)
