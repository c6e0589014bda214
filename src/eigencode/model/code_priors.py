r"""Priors of codes at the start of training: mixtures of Gaussians, of many rows fitted quickly.

Training fits a prior further, so few iterations are enough there. In each, the log-density of a Gaussian and the
moments of rows are linear in the rows and in the products of their columns, which are computed once:

.. math:: \log \pi_c N(x; \mu_c, \Sigma_c) = a_c + (P_c \mu_c)^\top x - \tfrac12 \sum_{ij} P_{c,ij} x_i x_j, \qquad
    P_c = \Sigma_c^{-1}
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from eigencode.errors import DataError
from eigencode.model.codes import standards
from eigencode.model.density import REGULARISATION, Mixture, best_of_sizes, can_be_full, candidates, fit_mixture

ROUGH_FROM, ROUGH_ROWS = 4e6, 4096
"""A mixture of n rows of k columns is fitted with few iterations, and its size chosen from few rows, if n k^2 is more
than this."""

COMPARED_ROWS = 1024
"""At least so many rows are compared under a prior and under the standard normal: their gains have a standard error of
a thirtieth of their deviation."""

ENOUGH_ROWS = 10
"""Rows for each Gaussian, and column of full covariances, that determine it; so many are compared with a single one if
there are many rows."""

STARTS, SHORT_ITERATIONS, FIRST_ITERATIONS, ITERATIONS = 2, 3, 5, 40
"""Numbers of first runs on the few rows, and of most iterations: of each, of the most likely one, which is continued,
and on all rows afterwards."""

FIRST_GAIN, GAIN = 1e-3, 0.1
"""Gain of an iteration that is the last, in nats a row, on few rows, where iterations are cheap, and on many: the first
steps of training gain more in its time."""

MOST_FULL = 64
"""Most columns of codes for full covariances, since they have k (k + 1) / 2 products."""

NARROW = 1e-3
"""Smallest variance of a Gaussian, in standardised codes, for which float32 is precise enough."""

ACTIVE = 0.99
"""Posterior variance below which a component of the code says something of its row; the prior's is 1."""

NARROWEST = 0.5
"""Smallest variance of a prior's Gaussian in any direction, in units of the noise of codes; for smaller ones a normal
posterior would have to be much narrower than it is."""


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
    is_rough = len(codes) * len(left) ** 2 > ROUGH_FROM
    scores = rough_mixture(codes, most) if is_rough else fit_mixture(codes, 0, most=most)
    if scores.n_components == 1:
        return None
    inner = _without_noise(scores.covariances, noise)
    covariances = np.tile(np.eye(len(variances)), (scores.n_components, 1, 1))
    covariances[:, np.ix_(active, active)[0], np.ix_(active, active)[1]] = inner
    centers = np.zeros((scores.n_components, len(variances)))
    centers[:, active] = scores.means
    of_rows = Mixture(scores.weights, scores.means, inner + np.diag(noise))
    normal = Mixture(np.ones(1), np.zeros((1, len(noise))), np.diag(1 + noise)[None])
    few = codes[:: max(len(codes) // COMPARED_ROWS, 1)]
    gains = of_rows.log_prob(few) - normal.log_prob(few)
    return Mixture(scores.weights, centers, covariances) if gains.mean() > 0 else None


def _without_noise(covariances: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Covariances T minus those of the noise, in no direction smaller than the smallest ones."""
    root = np.sqrt(noise)
    units = np.outer(root, root)
    if not (covariances * (1 - np.eye(len(noise)))).any():
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
    for dtype in (torch.float32, torch.float64):
        try:
            found = _rough(rows, most, dtype)
            break
        except np.linalg.LinAlgError:
            continue
    else:
        raise DataError("The covariances of a mixture must be positive definite")
    order = found.weights.argsort(descending=True, stable=True)
    weights, means = found.weights[order].numpy(), found.means[order].numpy()
    covariances = found.covariances[order].numpy()
    return Mixture(weights / weights.sum(), means * divisor + center, covariances * np.outer(divisor, divisor))


def _rough(rows: np.ndarray, most: int, dtype: torch.dtype) -> Gaussians:
    """The same for standardised rows, in a given precision."""
    (n_all, k), is_narrow = rows.shape, rows.shape[1] <= MOST_FULL
    few = rows[np.random.default_rng(0).permutation(n_all)[:ROUGH_ROWS]]

    def fitted(training: np.ndarray, m: int) -> Gaussians:
        products = Products(torch.from_numpy(training).to(dtype), is_narrow and can_be_full(len(training), m, k, n_all))
        best = max((_first(products, m, seed) for seed in range(STARTS if m > 1 else 1)), key=lambda first: first[1])[0]
        return improved(products, best.shares(products), FIRST_ITERATIONS, FIRST_GAIN)

    # Training has all rows for what the prior learns; Gaussians that are idle at its start do not catch up.
    largest = candidates(min(most, n_all // (ENOUGH_ROWS * (k if is_narrow else 1))))[-1]
    sizes = (1, largest) if n_all > ROUGH_ROWS else candidates(most)
    chosen = best_of_sizes(few, 0, 0.2, fitted, sizes)
    products = Products(torch.from_numpy(rows).to(dtype), chosen.is_full)
    return improved(products, chosen.shares(products), ITERATIONS, GAIN if n_all > ROUGH_ROWS else FIRST_GAIN)


def _first(products: Products, m: int, seed: int) -> tuple[Gaussians, float]:
    """A mixture after few iterations from k-means, and the mean log-density of the rows."""
    labels = KMeans(m, n_init=1, random_state=seed).fit(products.rows.numpy()).labels_
    shares = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), m).to(products.rows)
    found = improved(products, shares, SHORT_ITERATIONS, FIRST_GAIN)
    return found, float(found.log_joint(products).logsumexp(1).mean())


def improved(products: Products, shares: Tensor, most: int, least_gain: float) -> Gaussians:
    """The mixture after iterations from the rows' first shares of its components, until one gains little."""
    found, before = Gaussians.of(products, shares), -math.inf
    for _ in range(most):
        joint = found.log_joint(products)
        densities = joint.logsumexp(1)
        now = float(densities.mean(dtype=torch.float64))
        if not now - before > least_gain:
            break
        found, before = Gaussians.of(products, (joint - densities[:, None]).exp_()), now
    return found


@dataclass(frozen=True, eq=False)
class Products:
    """Rows and the products of their columns.

    Attributes
    ----------
    rows : Tensor
        Standardised codes, shape (n, k).
    is_full : bool
        Whether the products are those of all pairs of columns, or the squares alone.
    """

    rows: Tensor
    is_full: bool

    @property
    def pairs(self) -> Tensor:
        """The two columns of each product, shape (2, f)."""
        k = self.rows.shape[1]
        return torch.triu_indices(k, k) if self.is_full else torch.arange(k).expand(2, k)

    @cached_property
    def values(self) -> Tensor:
        """The products, shape (n, f)."""
        if not self.is_full:
            return self.rows.square()
        (n, k), first = self.rows.shape, 0
        found = self.rows.new_empty(n, k * (k + 1) // 2)
        for column in range(k):
            part = slice(first, first := first + k - column)
            torch.mul(self.rows[:, column, None], self.rows[:, column:], out=found[:, part])
        return found


@dataclass(frozen=True, eq=False)
class Gaussians:
    """A mixture of m Gaussians, in float64.

    Attributes
    ----------
    weights, means, covariances : Tensor
        Of shape (m,), (m, k) and (m, k, k).
    is_full : bool
        Whether the covariances have other numbers than variances.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    is_full: bool

    @classmethod
    def of(cls, products: Products, shares: Tensor) -> Gaussians:
        """The most likely mixture for given shares of the rows, shape (n, m)."""
        sizes = shares.sum(0, dtype=torch.float64) + 10 * torch.finfo(torch.float64).eps
        means = (shares.T @ products.rows).double() / sizes[:, None]
        (first, second), (m, k) = products.pairs, means.shape
        covariances = torch.zeros(m, k, k, dtype=torch.float64)
        moments = (shares.T @ products.values).double() / sizes[:, None]
        covariances[:, first, second] = moments - means[:, first] * means[:, second]
        covariances[:, second, first] = covariances[:, first, second]
        covariances.diagonal(dim1=-2, dim2=-1).add_(REGULARISATION)
        return cls(sizes / sizes.sum(), means, covariances, products.is_full)

    def log_joint(self, products: Products) -> Tensor:
        """The log-density of each row and component, shape (n, m)."""
        (first, second), like, (precisions, log_volumes) = products.pairs, products.rows, self._precisions
        if like.dtype == torch.float32 and float(log_volumes.exp().min()) < math.sqrt(NARROW):
            raise np.linalg.LinAlgError("A Gaussian is too narrow for float32")
        slopes = (precisions @ self.means[..., None])[..., 0]
        constant = self.weights.log() - log_volumes.sum(-1) - 0.5 * (slopes * self.means).sum(-1)
        constant -= 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        factors = precisions[:, first, second] * torch.where(first == second, -0.5, -1.0)
        joint = torch.addmm(constant.to(like), like, slopes.T.to(like))
        return joint.addmm_(products.values, factors.T.to(like))

    @property
    def _precisions(self) -> tuple[Tensor, Tensor]:
        """Inverses of the covariances, and the logarithms of the diagonals of their roots, shape (m, k)."""
        if not self.is_full:
            variances = self.covariances.diagonal(dim1=-2, dim2=-1)
            return torch.diag_embed(1 / variances), 0.5 * variances.log()
        roots, failures = torch.linalg.cholesky_ex(self.covariances)
        if failures.any():
            raise np.linalg.LinAlgError("A covariance is not positive definite")
        return torch.cholesky_inverse(roots), roots.diagonal(dim1=-2, dim2=-1).log()

    def shares(self, products: Products) -> Tensor:
        """The probability of each component given the row, shape (n, m)."""
        return self.log_joint(products).softmax(1)

    def score_samples(self, rows: np.ndarray) -> np.ndarray:
        """The log-density of each standardised row."""
        return self.log_joint(Products(torch.from_numpy(rows), self.is_full)).logsumexp(1).numpy()
