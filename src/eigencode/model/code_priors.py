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

from eigencode.batch import equal_parts
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

STARTS, SHORT_ITERATIONS, FIRST_ITERATIONS, ITERATIONS = 2, 1, 2, 40
"""Numbers of first runs on the few rows, and of most iterations: of each, of the most likely one, which is continued,
and on all rows afterwards."""

FIRST_GAIN, GAIN = 1e-3, 0.2
"""Gain of an iteration that is the last, in nats a row, on few rows, where iterations are cheap, and on many: the first
steps of training gain more in its time."""

LEAST_EXPONENT = -60.0
"""Smallest logarithm of a component's probability given a row, beside that of the likeliest one."""

PART_CELLS, LEAST_ROWS = 2**20, 512
"""Most products of the rows after which the mixture is improved, unless these are fewer rows than that."""

TINY = 10 * torch.finfo(torch.float64).eps
"""Added to the sizes of components, to divide by them."""

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

    made: dict[tuple[int, bool], Products] = {}

    def products_of(given: np.ndarray, is_full: bool) -> Products:
        """The rows' products, once for all numbers of Gaussians."""
        key = len(given), is_full
        if key not in made:
            made[key] = Products(torch.from_numpy(given).to(dtype), is_full)
        return made[key]

    def fitted(training: np.ndarray, m: int) -> Gaussians:
        products = products_of(training, is_narrow and can_be_full(len(training), m, k, n_all))
        if m == 1:
            return Gaussians.of(products, products.rows.new_ones(1, len(products.rows)))
        shares, _ = max((_first(products, m, seed) for seed in range(STARTS)), key=lambda first: first[1])
        return improved(products, shares, FIRST_ITERATIONS, FIRST_GAIN)

    # Training has all rows for what the prior learns; Gaussians that are idle at its start do not catch up.
    largest = candidates(min(most, n_all // (ENOUGH_ROWS * (k if is_narrow else 1))))[-1]
    sizes = (1, largest) if n_all > ROUGH_ROWS else candidates(most)
    chosen = best_of_sizes(few, 0, 0.2, fitted, sizes)
    products = products_of(rows, chosen.is_full)
    shares, _ = chosen.shares_and_densities(products)
    return improved(products, shares, ITERATIONS, GAIN if n_all > ROUGH_ROWS else FIRST_GAIN)


def _first(products: Products, m: int, seed: int) -> tuple[Tensor, float]:
    """The rows' shares of a mixture after few iterations from k-means, and their mean log-density."""
    labels = KMeans(m, n_init=1, random_state=seed).fit(products.rows.double().numpy()).labels_
    shares = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), m).T.to(products.rows)
    shares, densities = improved(products, shares, SHORT_ITERATIONS, FIRST_GAIN).shares_and_densities(products)
    return shares, float(densities.mean())


def improved(products: Products, shares: Tensor, most: int, least_gain: float) -> Gaussians:
    """The mixture after iterations from the rows' first shares of its components, until one gains little.

    An iteration takes a part of the rows at a time, and has the most likely mixture for the last shares of all rows
    after each (Neal & Hinton, 1998), which needs fewer iterations than one mixture after all rows.
    """
    parts = products.parts
    owns = [
        part.sums(few) for part, few in zip(parts, shares.split([len(part.rows) for part in parts], 1), strict=True)
    ]
    total = torch.stack(owns).sum(0)
    found, before = Gaussians.of_sums(total, products), -math.inf
    for _ in range(most):
        now = 0.0
        for number, part in enumerate(parts):
            few, densities = found.of_part(part)
            now += float(densities.sum(dtype=torch.float64)) / len(products.rows)
            own = part.sums(few)
            total += own - owns[number]
            found, owns[number] = Gaussians.of_sums(total, products), own
        if not now - before > least_gain:
            break
        before = now
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

    @cached_property
    def pairs(self) -> Tensor:
        """The two columns of each product, shape (2, f)."""
        k = self.rows.shape[1]
        return torch.triu_indices(k, k) if self.is_full else torch.arange(k).expand(2, k)

    @cached_property
    def places(self) -> Tensor:
        """Where the product of each two of all columns is, shape (k k,), if all pairs have one."""
        k, (first, second) = self.rows.shape[1], self.pairs
        found = first.new_empty(k, k)
        found[first, second] = found[second, first] = torch.arange(len(first))
        return found.flatten()

    @cached_property
    def values(self) -> Tensor:
        """The columns of the rows, and then the products, shape (k + f, n)."""
        (n, k), (_, f) = self.rows.shape, self.pairs.shape
        columns, found, first = self.rows.T.contiguous(), self.rows.new_empty(k + f, n), k
        found[:k] = columns
        if not self.is_full:
            torch.square(columns, out=found[k:])
            return found
        for column in range(k):
            part = slice(first, first := first + k - column)
            torch.mul(columns[column], columns[column:], out=found[part])
        return found

    @cached_property
    def parts(self) -> list[Products]:
        """A few rows each, whose products stay in the processor's cache."""
        (n, k), (_, f) = self.rows.shape, self.pairs.shape
        slices = list(equal_parts(n, max(PART_CELLS // (k + f), LEAST_ROWS)))
        return [self] if len(slices) == 1 else [Products(self.rows[part], self.is_full) for part in slices]

    def sums(self, shares: Tensor) -> Tensor:
        """The sums of the shares of some components, and of the values times these, shape (m, 1 + k + f)."""
        return torch.cat([shares.sum(1)[:, None], shares @ self.values.T], 1).double()


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
        """The most likely mixture for given shares of the rows, shape (m, n)."""
        return cls.of_sums(products.sums(shares), products)

    @classmethod
    def of_sums(cls, sums: Tensor, products: Products) -> Gaussians:
        """The same for the sums of the shares, and of the rows' values times these."""
        sizes, (first, second), k = sums[:, 0] + TINY, products.pairs, products.rows.shape[1]
        means, moments = (sums[:, 1:] / sizes[:, None]).split([k, len(first)], 1)
        found = moments - means[:, first] * means[:, second]
        covariances = found[:, products.places].view(-1, k, k) if products.is_full else found.diag_embed()
        covariances.diagonal(dim1=-2, dim2=-1).add_(REGULARISATION)
        return cls(sizes / sizes.sum(), means, covariances, products.is_full)

    def log_joint(self, products: Products) -> Tensor:
        """The log-density of each component and row, shape (m, n)."""
        (first, second), like, (precisions, log_volumes) = products.pairs, products.rows, self._precisions
        if like.dtype == torch.float32 and float(log_volumes.exp().min()) < math.sqrt(NARROW):
            raise np.linalg.LinAlgError("A Gaussian is too narrow for float32")
        slopes = (precisions @ self.means[..., None])[..., 0]
        constant = self.weights.log() - log_volumes.sum(-1) - 0.5 * (slopes * self.means).sum(-1)
        constant -= 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        factors = precisions.flatten(1)[:, first * self.means.shape[1] + second] * torch.where(
            first == second, -0.5, -1.0
        )
        return torch.addmm(constant[:, None].to(like), torch.cat([slopes, factors], 1).to(like), products.values)

    def of_part(self, products: Products) -> tuple[Tensor, Tensor]:
        """The `shares_and_densities` of rows whose products are in the processor's cache."""
        joint = self.log_joint(products)
        most = joint.amax(0)
        # Smaller exponentials are next to nothing, and processors take long for those below the smallest normal number.
        shares = joint.sub_(most).clamp_(min=LEAST_EXPONENT).exp_()
        total = shares.sum(0)
        return shares.div_(total), most.add_(total.log_())

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

    def shares_and_densities(self, products: Products) -> tuple[Tensor, Tensor]:
        """The probability of each component given the row, shape (m, n), and the log-density of the row, shape (n,)."""
        shares, densities = zip(*map(self.of_part, products.parts), strict=True)
        return torch.cat(shares, 1), torch.cat(densities)

    def score_samples(self, rows: np.ndarray) -> np.ndarray:
        """The log-density of each standardised row."""
        return self.shares_and_densities(Products(torch.from_numpy(rows), self.is_full))[1].numpy()
