r"""Priors of codes at the start of training: mixtures of Gaussians, of many rows fitted quickly.

Training fits a prior further, so few iterations are enough there. In each, the log-density of a Gaussian and the
moments of rows are linear in the rows and in the products of their columns, which are computed once:

.. math:: \log \pi_c N(x; \mu_c, \Sigma_c) = a_c + (P_c \mu_c)^\top x - \tfrac12 \sum_{ij} P_{c,ij} x_i x_j, \qquad
    P_c = \Sigma_c^{-1}
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from eigencode.batch import equal_parts
from eigencode.errors import DataError
from eigencode.model.codes import standards
from eigencode.model.density import REGULARISATION, Mixture, best_of_sizes, can_be_full, candidates, fit_mixture

ROUGH_FROM, ROUGH_ROWS = 500, 4096
"""Rows from which on a mixture is fitted with few iterations, and most rows that its size is then chosen from."""

COMPARED_ROWS = 1024
"""At least so many rows are compared under a prior and under the standard normal: their gains have a standard error of
a thirtieth of their deviation."""

ENOUGH_ROWS = 10
"""Rows for each Gaussian, and column of full covariances, that determine it; so many are compared with a single one if
there are many rows."""

STARTS, SHORT, FURTHER = (2, 3, 2**21), (1, 10, 2**22), (2, 100, 2**23)
"""Limits on the few rows: of the number of first runs, of the iterations of each, and of those of the most likely one,
which is continued. The fewest, the most, and the products that all may have if they are more than the fewest."""

ITERATIONS = 100
"""Most iterations on all rows."""

FIRST_GAIN, GAIN = 1e-3, 2**-25
"""Gain of an iteration that is the last, in nats a row, on the few rows, and for each product of all rows, since the
first steps of training gain more in the time of an iteration with many."""

LEAST_EXPONENT = -60.0
"""Smallest logarithm of a component's probability given a row, beside that of the likeliest one."""

PART_CELLS, LEAST_ROWS = 3 * 2**20, 512
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
    scores = rough_mixture(codes, most) if len(codes) >= ROUGH_FROM else fit_mixture(codes, 0, most=most)
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
        runs = [_first(products, m, seed) for seed in range(number_within(products, *STARTS))]
        shares, _ = max(runs, key=lambda run: run[1])
        return improved(products, shares, number_within(products, *FURTHER), FIRST_GAIN)

    # Training has all rows for what the prior learns; Gaussians that are idle at its start do not catch up.
    largest = candidates(min(most, n_all // (ENOUGH_ROWS * (k if is_narrow else 1))))[-1]
    sizes = (1, largest) if n_all > ROUGH_ROWS else candidates(most)
    chosen = best_of_sizes(few, 0, 0.2, fitted, sizes)
    products = products_of(rows, chosen.is_full)
    shares, _ = chosen.shares_and_densities(products)
    return improved(products, shares, ITERATIONS, max(GAIN * products.size, FIRST_GAIN))


def _first(products: Products, m: int, seed: int) -> tuple[Tensor, float]:
    """The rows' shares of a mixture after few iterations from k-means, and their mean log-density."""
    labels = KMeans(m, n_init=1, random_state=seed).fit(products.rows.double().numpy()).labels_
    shares = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), m).T.to(products.rows)
    found = improved(products, shares, number_within(products, *SHORT), FIRST_GAIN)
    shares, densities = found.shares_and_densities(products)
    return shares, float(densities.mean())


def number_within(products: Products, fewest: int, most: int, n_products: int) -> int:
    """How often all products can be computed if they are about so many together, within limits."""
    return min(max(n_products // products.size, fewest), most)


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


@lru_cache(4)
def pairs_of(k: int, is_full: bool) -> Tensor:
    """The two columns of each product, shape (2, f): all pairs of k columns, or each with itself."""
    return torch.triu_indices(k, k) if is_full else torch.arange(k).expand(2, k)


@lru_cache(4)
def offsets_of(k: int) -> Tensor:
    """The index of the product of each two of k columns, shape (k k,), if all pairs have one."""
    first, second = pairs_of(k, True)
    found = first.new_empty(k, k)
    found[first, second] = found[second, first] = torch.arange(len(first))
    return found.flatten()


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
    def size(self) -> int:
        """Number of all values."""
        n, k = self.rows.shape
        return n * (k + pairs_of(k, self.is_full).shape[1])

    @cached_property
    def values(self) -> Tensor:
        """The columns of the rows, and then the products, shape (k + f, n)."""
        (n, k), (_, f) = self.rows.shape, pairs_of(self.rows.shape[1], self.is_full).shape
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
        n = len(self.rows)
        slices = list(equal_parts(n, max(PART_CELLS * n // self.size, LEAST_ROWS)))
        return [self] if len(slices) == 1 else [Products(self.rows[part], self.is_full) for part in slices]

    def sums(self, shares: Tensor) -> Tensor:
        """The sums of the shares of some components, and of the values times these, shape (m, 1 + k + f)."""
        return torch.cat([shares.sum(1)[:, None], (self.values @ shares.T).T], 1).double()


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
        sizes, k = sums[:, 0] + TINY, products.rows.shape[1]
        means, moments = (sums[:, 1:] / sizes[:, None]).tensor_split([k], 1)
        if products.is_full:
            covariances = moments.index_select(1, offsets_of(k)).view(-1, k, k)
            covariances -= means[:, :, None] * means[:, None]
        else:
            covariances = (moments - means.square()).diag_embed()
        covariances.diagonal(dim1=-2, dim2=-1).add_(REGULARISATION)
        return cls(sizes / sizes.sum(), means, covariances, products.is_full)

    def log_joint(self, products: Products) -> Tensor:
        """The log-density of each component and row, shape (m, n)."""
        constant, factors, narrowest = self._coefficients
        if products.rows.dtype == torch.float32 and narrowest < math.sqrt(NARROW):
            raise np.linalg.LinAlgError("A Gaussian is too narrow for float32")
        return torch.addmm(constant.to(products.rows), factors.to(products.rows), products.values)

    def of_part(self, products: Products) -> tuple[Tensor, Tensor]:
        """The `shares_and_densities` of rows whose products are in the processor's cache."""
        joint = self.log_joint(products)
        most = joint.amax(0)
        # Smaller exponentials are next to nothing, and processors take long for those below the smallest normal number.
        shares = joint.sub_(most).clamp_(min=LEAST_EXPONENT).exp_()
        total = shares.sum(0)
        return shares.div_(total), most.add_(total.log_())

    @cached_property
    def _coefficients(self) -> tuple[Tensor, Tensor, float]:
        """What the log-densities are linear by: constants, shape (m, 1), and factors of the values, shape (m, k + f).

        The third is the smallest element on the diagonal of a root of a covariance.
        """
        k = self.means.shape[1]
        if self.is_full:
            roots, failures = torch.linalg.cholesky_ex(self.covariances)
            if failures.any():
                raise np.linalg.LinAlgError("A covariance is not positive definite")
            halves = torch.linalg.solve_triangular(roots, torch.eye(k).to(roots), upper=False)
            precisions, volumes = halves.mT @ halves, roots.diagonal(dim1=-2, dim2=-1)
            slopes = (precisions @ self.means[..., None])[..., 0]
            # A product of two columns stands for both orders of them.
            first, second = pairs_of(k, True)
            factors = precisions.flatten(1).index_select(1, first * k + second)
            factors *= torch.where(first == second, -0.5, -1.0)
        else:
            variances = self.covariances.diagonal(dim1=-2, dim2=-1)
            volumes, slopes, factors = variances.sqrt(), self.means / variances, -0.5 / variances
        constant = self.weights.log() - volumes.log().sum(1) - 0.5 * (slopes * self.means).sum(1)
        constant -= 0.5 * k * math.log(2 * math.pi)
        return constant[:, None], torch.cat([slopes, factors], 1), float(volumes.min())

    def shares_and_densities(self, products: Products) -> tuple[Tensor, Tensor]:
        """The probability of each component given the row, shape (m, n), and the log-density of the row, shape (n,)."""
        shares, densities = zip(*map(self.of_part, products.parts), strict=True)
        return torch.cat(shares, 1), torch.cat(densities)

    def score_samples(self, rows: np.ndarray) -> np.ndarray:
        """The log-density of each standardised row."""
        return self.shares_and_densities(Products(torch.from_numpy(rows), self.is_full))[1].numpy()
