r"""Mixtures of Gaussians by expectation-maximisation.

In each iteration the log-density of a Gaussian and the moments of rows are linear in the rows and in the products of
their columns, which are computed once:

.. math:: \log \pi_c N(x; \mu_c, \Sigma_c) = a_c + (P_c \mu_c)^\top x - \tfrac12 \sum_{ij} P_{c,ij} x_i x_j, \qquad
    P_c = \Sigma_c^{-1}
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from eigencode.batch import equal_parts
from eigencode.errors import DataError
from eigencode.lazy import torch
from eigencode.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

REGULARISATION = 1e-6
"""Added to the variances of standardised codes, as a share of their variance."""

ITERATIONS = 100
"""Most iterations on all rows."""

LEAST_GAIN = 1e-3
"""Gain of an iteration that is the last, in nats a row."""

LEAST_EXPONENT = -60.0
"""Smallest logarithm of a component's probability given a row, beside that of the likeliest one."""

PART_CELLS, LEAST_ROWS = 3 * 2**20, 512
"""Most products of the rows after which the mixture is improved, unless these are fewer rows than that."""

KEPT_CELLS = 2**24
"""Most products that are kept over the iterations; more are computed in each."""

MOST_PAIRS = 64
"""Most columns whose k (k + 1) / 2 products are computed; more are whitened for each Gaussian."""

TINY = 10 * float(np.finfo(np.float64).eps)
"""Added to the sizes of components, to divide by them."""

NOT_DEFINITE = "The covariances of a mixture must be positive definite"

NARROW = 1e-3
"""Smallest variance of a Gaussian, in standardised codes, for which float32 is precise enough."""


@dataclass(frozen=True)
class Effort:
    """How many runs and iterations a fit has, as (fewest, most, products that all may have if they are more).

    Attributes
    ----------
    starts : tuple of int
        First runs from different k-means, of which the most likely one is continued (Biernacki, Celeux & Govaert,
        2003).
    short, further : tuple of int
        Iterations of each first run, and of the one that is continued.
    """

    starts: tuple[int, int, int]
    short: tuple[int, int, int]
    further: tuple[int, int, int]


THOROUGH = Effort((3, 5, 2**18), (10, 10, 0), (100, 100, 0))
"""As for a density that is not trained further."""


class Fits:
    """Fits of mixtures with different numbers of Gaussians to standardised rows.

    Parameters
    ----------
    can_be_full : callable
        Whether so many rows are enough for m full covariances.
    seed : int
        Seed of k-means.
    effort : Effort
        Numbers of runs and iterations.
    dtype : torch.dtype, optional
        Of the products; float64 by default.
    """

    def __init__(
        self,
        can_be_full: Callable[[int, int], bool],
        seed: int = 0,
        effort: Effort = THOROUGH,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.can_be_full, self.seed, self.effort, self.dtype = can_be_full, seed, effort, dtype or torch.float64
        self._made: list[tuple[np.ndarray, Products]] = []

    def __call__(self, rows: np.ndarray, m: int) -> Gaussians:
        """A mixture of m Gaussians, fitted to rows of shape (n, k)."""
        products = self._products(rows, self.can_be_full(len(rows), m))
        if m == 1:
            return Gaussians.of(products, products.rows.new_ones(1, len(products.rows)))
        runs = [self._first(products, m, start) for start in range(number_within(products, *self.effort.starts))]
        shares, _ = max(runs, key=lambda run: run[1])
        return improved(products, shares, number_within(products, *self.effort.further), LEAST_GAIN)

    def further(self, found: Gaussians, rows: np.ndarray, gain: float = 0.0) -> Gaussians:
        """A mixture after iterations with all rows, until one gains less than that a product."""
        products = self._products(rows, found.is_full)
        shares = (found.of_part(part)[0] for part in products.parts)  # those of all rows may need much memory
        return improved(products, shares, ITERATIONS, max(gain * products.size, LEAST_GAIN))

    def _products(self, rows: np.ndarray, is_full: bool) -> Products:
        """The rows' products, once for all numbers of Gaussians."""
        for given, products in self._made:
            if given is rows and products.is_full == is_full:
                return products
        products = Products(torch.from_numpy(rows).to(self.dtype), is_full)
        self._made.append((rows, products))
        return products

    def _first(self, products: Products, m: int, start: int) -> tuple[Sequence[Tensor], float]:
        """The rows' shares of a mixture after few iterations from k-means, and their mean log-density."""
        means = KMeans(m, n_init=1, random_state=(self.seed + start) % 2**32)
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer different rows than that
            labels = means.fit(products.rows.double().numpy()).labels_
        shares = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), m).T.to(products.rows)
        found = improved(products, products.split(shares), number_within(products, *self.effort.short), LEAST_GAIN)
        of_parts, densities = zip(*map(found.of_part, products.parts), strict=True)
        return of_parts, float(torch.cat(densities).mean())


def number_within(products: Products, fewest: int, most: int, n_products: int) -> int:
    """How often all products can be computed if they are about so many together, within limits."""
    return min(max(n_products // products.size, fewest), most)


def improved(products: Products, shares: Iterable[Tensor], most: int, least_gain: float) -> Gaussians:
    """The mixture after iterations from the rows' first shares of its components, a part each, until one gains little.

    An iteration takes a part of the rows at a time, and has the most likely mixture for the last shares of all rows
    after each (Neal & Hinton, 1998), which needs fewer iterations than one mixture after all rows.
    """
    parts = products.parts
    sums = [part.sums(few) for part, few in zip(parts, shares, strict=True)]
    nothing = torch.zeros_like(sums[0])
    found, before = Gaussians.of_sums(sum(sums, nothing), products), -math.inf
    for _ in range(most):
        now, done = 0.0, nothing
        # Old sums are left out, not subtracted: the rounding of large ones would be all of a component that got small.
        *left, _ = accumulate(reversed(sums), initial=nothing)
        for number, part in enumerate(parts):
            few, densities = found.of_part(part)
            now += float(densities.sum(dtype=torch.float64)) / len(products.rows)
            sums[number] = part.sums(few)
            done = done + sums[number]
            found = Gaussians.of_sums(done + left.pop(), products)
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
    is_kept : bool
        Whether they are computed once.
    """

    rows: Tensor
    is_full: bool
    is_kept: bool = True

    @property
    def is_wide(self) -> bool:
        """Whether the products are too many to be computed once."""
        return self.is_full and self.rows.shape[1] > MOST_PAIRS

    @property
    def size(self) -> int:
        """Number of all values that are computed once."""
        n, k = self.rows.shape
        return n * (k if self.is_wide else k + pairs_of(k, self.is_full).shape[1])

    @property
    def values(self) -> Tensor:
        """The columns of the rows, and then the products, shape (k + f, n)."""
        return self._kept if self.is_kept else self._computed()

    @cached_property
    def _kept(self) -> Tensor:
        """The values, computed once."""
        return self._computed()

    def _computed(self) -> Tensor:
        """The values."""
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
        if len(slices) == 1:
            return [self]
        return [Products(self.rows[part], self.is_full, self.size <= KEPT_CELLS) for part in slices]

    def split(self, shares: Tensor) -> Sequence[Tensor]:
        """The shares of each part's rows, from those of all, shape (m, n)."""
        return shares.split([len(part.rows) for part in self.parts], 1)

    def sums(self, shares: Tensor) -> Tensor:
        """The sums of the shares of some components, and of the values times these, shape (m, 1 + k + f)."""
        if not self.is_wide:
            return torch.cat([shares.sum(1)[:, None], (self.values @ shares.T).T], 1).double()
        first, second = pairs_of(self.rows.shape[1], True)
        moments = [((self.rows.T * share) @ self.rows)[first, second] for share in shares]
        return torch.cat([shares.sum(1)[:, None], shares @ self.rows, torch.stack(moments)], 1).double()


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
        return improved(products, products.split(shares), 0, 0.0)

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
        if products.rows.dtype == torch.float32 and float(self._volumes.min()) < math.sqrt(NARROW):
            raise DataError("A Gaussian is too narrow for float32")
        if products.is_wide:
            own = self.means.to(products.rows), self._halves.to(products.rows)
            squares = [((products.rows - mean) @ half.T).square().sum(1) for mean, half in zip(*own, strict=True)]
            return self._constants.to(products.rows)[:, None] - 0.5 * torch.stack(squares)
        constant, factors = self._coefficients
        return torch.addmm(constant.to(products.rows), factors.to(products.rows), products.values)

    def of_part(self, products: Products) -> tuple[Tensor, Tensor]:
        """The probability of each component given the row, shape (m, n), and the log-density of the row, shape (n,).

        For rows whose products are in the processor's cache.
        """
        joint = self.log_joint(products)
        most = joint.amax(0)
        # Smaller exponentials are next to nothing, and processors take long for those below the smallest normal number.
        shares = joint.sub_(most).clamp_(min=LEAST_EXPONENT).exp_()
        total = shares.sum(0)
        return shares.div_(total), most.add_(total.log_())

    @cached_property
    def _roots(self) -> Tensor:
        """The lower triangular roots of the covariances, shape (m, k, k)."""
        roots, failures = torch.linalg.cholesky_ex(self.covariances)
        if failures.any():
            raise DataError(NOT_DEFINITE)
        return roots

    @cached_property
    def _volumes(self) -> Tensor:
        """The diagonals of the roots, shape (m, k)."""
        if self.is_full:
            return self._roots.diagonal(dim1=-2, dim2=-1)
        variances = self.covariances.diagonal(dim1=-2, dim2=-1)
        if not (variances > 0).all():
            raise DataError(NOT_DEFINITE)
        return variances.sqrt()

    @cached_property
    def _halves(self) -> Tensor:
        """The inverses of the roots, shape (m, k, k)."""
        return torch.linalg.solve_triangular(self._roots, torch.eye(self._roots.shape[-1]).to(self._roots), upper=False)

    @cached_property
    def _constants(self) -> Tensor:
        """The log-density of each component at its mean, shape (m,)."""
        k = self.means.shape[1]
        return self.weights.log() - self._volumes.log().sum(1) - 0.5 * k * math.log(2 * math.pi)

    @cached_property
    def _coefficients(self) -> tuple[Tensor, Tensor]:
        """The constants of the log-densities, shape (m, 1), and the factors of the values, shape (m, k + f)."""
        k = self.means.shape[1]
        if self.is_full:
            precisions = self._halves.mT @ self._halves
            slopes = (precisions @ self.means[..., None])[..., 0]
            # A product of two columns stands for both orders of them.
            first, second = pairs_of(k, True)
            factors = precisions.flatten(1).index_select(1, first * k + second)
            factors *= torch.where(first == second, -0.5, -1.0)
        else:
            precisions = self._volumes.square().reciprocal()
            slopes, factors = self.means * precisions, -0.5 * precisions
        constant = self._constants - 0.5 * (slopes * self.means).sum(1)
        return constant[:, None], torch.cat([slopes, factors], 1)

    @property
    def n_numbers(self) -> int:
        """How many numbers the mixture has that are fitted."""
        m, k = self.means.shape
        return m * (k + pairs_of(k, self.is_full).shape[1]) + m - 1

    def bic(self, rows: np.ndarray) -> float:
        """The Bayesian information criterion of standardised rows (Schwarz, 1978)."""
        return -2 * float(self.score_samples(rows).sum()) + self.n_numbers * math.log(len(rows))

    def score_samples(self, rows: np.ndarray) -> np.ndarray:
        """The log-density of each standardised row."""
        parts = Products(torch.from_numpy(rows), self.is_full).parts
        return torch.cat([self.of_part(part)[1] for part in parts]).numpy()
