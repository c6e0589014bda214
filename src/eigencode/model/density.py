r"""Density of the codes: a mixture of Gaussians, which makes any autoencoder generative.

.. math:: p(z) = \sum_{c=1}^m \pi_c \, N(z; \mu_c, \Sigma_c)

An autoencoder with a point code has no distribution of codes. A mixture fitted to the codes of the training rows is
one; for deterministic encoders, its decoded samples are at least as good as those of a variational autoencoder
(Ghosh et al., 2020, who call it ex-post density estimation).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular
from scipy.spatial.distance import cdist

from eigencode.errors import DataError, OptionError, is_int
from eigencode.model.codes import as_codes, as_weights, standards, systematic
from eigencode.model.expectation_maximisation import NOT_DEFINITE, Fits, Gaussians

CANDIDATES = (1, 2, 4, 8, 16, 32)
"""Numbers of components that are tried, in this order."""

CHOICE_ROWS = 10_000
"""Most rows from which the number of components is chosen; all rows are fitted afterwards."""

ROWS_A_COMPONENT = 5
"""Fewest rows per component for which a number of components is tried."""

ROWS_A_COLUMN = 5
"""Fewest rows per component and column for full covariances: each of the k (k + 1) / 2 numbers of a covariance is then
estimated from ten of the rows' numbers."""

FULL_PRODUCTS = 2e10
"""Most multiplications n m k^2 of one iteration over full covariances, which take a few seconds."""

MOST_DENSITIES = 2**23
"""Most densities of a code under a component that are computed at a time."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians over codes of k numbers.

    Its fields define it: float64 arrays, or nested lists as in JSON, so that ``Mixture(**fields)`` restores it.

    Parameters
    ----------
    weights : array of shape (m,)
        Probability of each component; they sum to 1.
    means : array of shape (m, k)
        In the codes' units.
    covariances : array of shape (m, k, k), or (g, k, k)
        Symmetric and positive definite, in the codes' units squared.
    groups : array of int of shape (m,), optional
        Which of the g covariances each component has; without it each has its own.

    Examples
    --------
    >>> import numpy as np
    >>> two = Mixture(
    ...     weights=[0.5, 0.5], means=[[-3.0], [3.0]], covariances=[[[1.0]], [[1.0]]]
    ... )
    >>> two.sample(4, np.random.default_rng(0)).shape
    (4, 1)
    >>> two.log_prob([[0.0], [3.0]]).round(3)
    array([-5.419, -1.612])
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    groups: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        m, k = self.means.shape if self.means.ndim == 2 else (0, 0)
        groups = np.arange(m) if self.groups is None else np.array(self.groups)
        object.__setattr__(self, "groups", groups)
        g = len(self.covariances)
        if not m or not k or self.weights.shape != (m,) or self.covariances.shape != (g, k, k) or groups.shape != (m,):
            shapes = ", ".join(str(a.shape) for a in (self.weights, self.means, self.covariances))
            raise DataError("Weights, means and covariances must have shapes (m,), (m, k) and (m, k, k)", got=shapes)
        if not np.isin(groups, np.arange(g)).all():
            raise DataError("The groups of a mixture must be the numbers of covariances, one for each component")
        if not (self.weights >= 0).all() or not math.isclose(self.weights.sum(), 1.0, rel_tol=1e-6):
            raise DataError("The weights of a mixture must be probabilities that sum to 1", got=f"{self.weights}")
        if not np.isfinite(self.means).all() or not np.isfinite(self._roots).all():
            raise DataError("The means and covariances of a mixture must be finite numbers")

    @cached_property
    def _roots(self) -> np.ndarray:
        """The lower triangular roots of the covariances, shape (m, k, k)."""
        try:
            return np.linalg.cholesky(self.covariances)
        except np.linalg.LinAlgError as error:
            raise DataError(NOT_DEFINITE) from error

    @property
    def n_components(self) -> int:
        """The number m of Gaussians."""
        return len(self.weights)

    def beside_normals(self, q: int) -> Mixture:
        """The density of codes and, behind them, of q standard normal numbers."""
        k = self.means.shape[1]
        covariances = np.tile(np.eye(k + q), (len(self.covariances), 1, 1))
        covariances[:, :k, :k] = self.covariances
        return Mixture(self.weights, np.pad(self.means, ((0, 0), (0, q))), covariances, self.groups)

    def log_prob(self, codes: ArrayLike) -> np.ndarray:
        r"""The log-density of each code, in nats, shape (n,).

        .. math:: \log \sum_c \pi_c \exp\left( -\tfrac12 \lVert L_c^{-1} (z - \mu_c) \rVert^2
            - \sum_i \log L_{c,ii} - \tfrac k2 \log 2\pi \right), \qquad \Sigma_c = L_c L_c^\top

        Parameters
        ----------
        codes : array of shape (n, k)
            Codes in the mixture's units.
        """
        codes = as_codes(codes)
        k = self.means.shape[1]
        if codes.shape[1] != k:
            raise DataError(f"The mixture is over codes of {k} numbers", got=f"{codes.shape[1]}")
        step = max(MOST_DENSITIES // self.n_components, 1)
        parts = [self.log_joint(codes[first : first + step]) for first in range(0, len(codes), step)]
        return np.concatenate([np.logaddexp.reduce(part, axis=1) for part in parts] or [np.zeros(0)])

    def log_joint(self, codes: np.ndarray) -> np.ndarray:
        """The log-density of each code and component, shape (n, m)."""
        with np.errstate(divide="ignore"):  # a component may have probability zero
            joint = np.tile(np.log(self.weights)[:, None], len(codes))
        for own, root in self._groups_and_roots():
            center = self.means[own[0]]
            from_center, means = (_whitened(x - center, root) for x in (codes, self.means[own]))
            log_volume = np.log(np.diagonal(root)).sum() + 0.5 * codes.shape[1] * math.log(2 * math.pi)
            joint[own] -= log_volume + 0.5 * cdist(means, from_center, "sqeuclidean")
        return joint.T  # whole rows are written much faster than columns

    def _groups_and_roots(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The components of each covariance, and its root."""
        owns = (np.flatnonzero(self.groups == g) for g in range(len(self._roots)))
        return ((own, root) for own, root in zip(owns, self._roots, strict=True) if len(own))

    def sample(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw n independent codes, shape (n, k), from a NumPy generator."""
        drawn = generator.choice(self.n_components, size=n, p=self.weights / self.weights.sum())
        codes = generator.standard_normal((n, self.means.shape[1]))
        for group, root in enumerate(self._roots):
            own = self.groups[drawn] == group
            codes[own] = self.means[drawn[own]] + codes[own] @ root.T
        return codes


def _whitened(gaps: np.ndarray, root: np.ndarray) -> np.ndarray:
    """L^-1 times each row, for a lower triangular L; a division if it is diagonal."""
    diagonal = np.diagonal(root)
    if np.count_nonzero(root) == len(root):
        return gaps / diagonal
    return solve_triangular(root, gaps.T, lower=True, check_finite=False).T


def fit_mixture(
    codes: ArrayLike,
    seed: int,
    n_components: int | str = "auto",
    sample_weight: ArrayLike | None = None,
    validation_fraction: float = 0.2,
    most: int = CANDIDATES[-1],
    bic_rows: int = 0,
) -> Mixture:
    r"""Fit a mixture of Gaussians to codes by expectation-maximisation.

    The codes are standardised first, so that codes in other units give the same mixture in those units; variances are
    regularised in proportion to the codes' variances. A constant column gets a very small variance.

    With ``n_components="auto"``, 1, 2, 4, 8, 16 and 32 components are tried on the training rows, and a number replaces
    a smaller one if the log-likelihood of the validation rows is higher by more than one standard error of the
    difference. The search ends when two numbers in a row are not better. The chosen mixture is then fitted further to
    all rows. Equal rows are all in training or all in validation. Of few rows (``bic_rows``) the number with the least
    BIC of all different rows is taken instead, since the fifth of them tells little.

    Covariances are full if there are at least 5 k rows per component and an iteration takes at most 2e10
    multiplications (n m k^2), and diagonal otherwise.

    Parameters
    ----------
    codes : array of shape (n, k)
        Finite numbers; at least one row.
    seed : int
        Seed of the split and of the starts.
    n_components : int or 'auto'
        The number m of components, reduced to the number of different rows if that is smaller.
    sample_weight : array of shape (n,), optional
        Weight of each row, not negative. Rows are repeated or left out in proportion: of n rows with positive weight,
        row i occurs :math:`n w_i / \sum w` times, rounded up or down by deterministic systematic resampling.
    validation_fraction : float in (0, 1)
        Share of the rows for validation, by which the number of components is chosen.
    most : int
        The largest number of components that 'auto' tries.
    bic_rows : int
        Up to so many rows 'auto' takes the number of components with the least BIC (Schwarz, 1978).

    Returns
    -------
    Mixture
        Components in order of weight, largest first.

    Raises
    ------
    DataError
        If the codes are not a table of finite numbers, or the weights are wrong.
    OptionError
        If an option is outside its domain.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(400, 2))
    >>> mixture = fit_mixture(noise + 10 * (np.arange(400) % 2)[:, None], seed=0)
    >>> mixture.means.shape
    (2, 2)
    """
    _check_options(n_components, validation_fraction)
    rows = as_codes(codes)
    if not len(rows):
        raise DataError("A mixture needs at least one code", got="none")
    if sample_weight is not None:
        rows = rows[systematic(as_weights(sample_weight, len(rows)))]
    center, divisor = standards(rows)
    rows = (rows - center) / divisor
    few = rows[np.random.default_rng(seed).permutation(len(rows))[:CHOICE_ROWS]]
    fits = Fits(lambda n, m: can_be_full(n, m, rows.shape[1], len(rows)), seed)
    if n_components == "auto" and len(rows) <= bic_rows:
        different = np.unique(rows, axis=0)
        sizes = candidates(min(most, len(different) // ROWS_A_COMPONENT))
        found = min((fits(different, m) for m in sizes), key=lambda each: each.bic(different))
    elif n_components == "auto":
        found = best_of_sizes(few, seed, validation_fraction, fits, candidates(most))
    else:
        found = fits(few, min(int(n_components), len(np.unique(few, axis=0))))
    return in_units(fits.further(found, rows), center, divisor)


def candidates(most: int) -> list[int]:
    """The numbers of components that are tried: 1, and others up to the largest."""
    return [m for m in CANDIDATES if m == 1 or m <= most]


def best_of_sizes(
    rows: np.ndarray,
    seed: int,
    fraction: float,
    fitted: Callable[[np.ndarray, int], Gaussians],
    sizes: Sequence[int] = CANDIDATES,
) -> Gaussians:
    """Choose the number of components on validation rows; return its mixture, ``fitted`` to the training rows."""
    copy_of = _copies(rows)
    is_validation = _validation_mask(copy_of, seed, fraction)
    training, validation = rows[~is_validation], rows[is_validation]
    n_different = len(np.unique(copy_of[~is_validation]))
    best, failures = fitted(training, sizes[0]), 0
    for m in sizes[1:]:
        if n_different < m * ROWS_A_COMPONENT or failures == 2:
            break
        candidate = fitted(training, m)
        gain = candidate.score_samples(validation) - best.score_samples(validation)
        if gain.mean() > gain.std() / math.sqrt(len(gain)):
            best, failures = candidate, 0
        else:
            failures += 1
    return best


def _copies(rows: np.ndarray) -> np.ndarray:
    """A number for each row, the same for equal rows."""
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _validation_mask(copy_of: np.ndarray, seed: int, fraction: float) -> np.ndarray:
    """Whether each row is for validation, the same for equal rows; of two different rows, at least one of each."""
    different = np.random.default_rng(seed).permutation(np.unique(copy_of))
    n_validation = min(max(1, round(fraction * len(different))), len(different) - 1)
    return np.isin(copy_of, different[:n_validation])


def can_be_full(n: int, m: int, k: int, n_all: int) -> bool:
    """Whether n rows are enough for m full covariances of k columns, and fitting ``n_all`` rows is fast enough."""
    return n >= ROWS_A_COLUMN * k * m and n_all * m * k**2 <= FULL_PRODUCTS


def in_units(found: Gaussians, center: np.ndarray, divisor: np.ndarray) -> Mixture:
    """The mixture of standardised codes in the codes' own units, the largest component first."""
    order = found.weights.argsort(descending=True, stable=True)
    weights, means, covariances = (each[order].numpy() for each in (found.weights, found.means, found.covariances))
    return Mixture(weights / weights.sum(), means * divisor + center, covariances * np.outer(divisor, divisor))


def _check_options(n_components: int | str, validation_fraction: float) -> None:
    is_count = is_int(n_components) and int(n_components) >= 1
    if not is_count and n_components != "auto":
        raise OptionError("n_components must be a whole number of at least 1, or 'auto'", got=f"{n_components!r}")
    if not isinstance(validation_fraction, Real) or not 0 < validation_fraction < 1:
        raise OptionError("validation_fraction must be a number between 0 and 1", got=f"{validation_fraction!r}")
