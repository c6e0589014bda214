r"""Density of the codes: a mixture of Gaussians, which makes any autoencoder generative.

.. math:: p(z) = \sum_{c=1}^m \pi_c \, N(z; \mu_c, \Sigma_c)

An autoencoder with a point code says nothing of which codes occur. A mixture fitted to the codes of the training rows
afterwards does, and for deterministic encoders its samples decode at least as well as those of a variational one
(Ghosh et al., 2020, who call it ex-post density estimation).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from eigencode.data.containers import read
from eigencode.errors import DataError, OptionError

CANDIDATES = (1, 2, 4, 8, 16, 32)
"""Numbers of components that are tried, in this order."""

CHOICE_ROWS = 10_000
"""Rows that the number of components is chosen on; all rows are fitted afterwards."""

ROWS_A_COMPONENT = 5
"""Rows that a component must have on average, or it is not tried."""

ROWS_A_COLUMN = 5
"""Rows a column that a component with a full covariance must have on average: then each of its k (k + 1) / 2 numbers
is estimated from ten of the rows' numbers."""

FULL_PRODUCTS = 2e10
"""Multiply-adds that one iteration over full covariances may cost, n m k^2: a few seconds' work."""

REGULARISATION = 1e-6
"""Added to the variances of standardised codes, as a share of their variance."""

SPREAD_FLOOR = 1e-3
"""A column is standardised by no less than this share of the columns' common standard deviation."""

LEVEL_FLOOR = 1e-4
"""A column is standardised by no less than this share of its mean: with the regularisation that blurs it by 1e-7 of its
mean, which is float32's rounding."""

LARGEST_CODE = 1e100
"""Codes of larger size are refused, and those of less than its inverse are zero: their squares must be numbers too."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """A mixture of Gaussians over codes of k numbers.

    Its fields are all there is to it: plain float64 arrays (or nested lists, as JSON has them), so that
    ``Mixture(**fields)`` restores it.

    Parameters
    ----------
    weights : array of shape (m,)
        Probability of each component; they sum to 1.
    means : array of shape (m, k)
        In the codes' units.
    covariances : array of shape (m, k, k)
        Symmetric and positive definite, in the codes' units squared.

    Examples
    --------
    >>> import numpy as np
    >>> two = Mixture(weights=[0.5, 0.5], means=[[-3.0], [3.0]], covariances=[[[1.0]], [[1.0]]])
    >>> two.sample(4, np.random.default_rng(0)).shape
    (4, 1)
    >>> two.log_prob([[0.0], [3.0]]).round(3)
    array([-5.419, -1.612])
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        m, k = self.means.shape if self.means.ndim == 2 else (0, 0)
        if not m or not k or self.weights.shape != (m,) or self.covariances.shape != (m, k, k):
            shapes = ", ".join(str(a.shape) for a in (self.weights, self.means, self.covariances))
            raise DataError("Weights, means and covariances must have shapes (m,), (m, k) and (m, k, k)", got=shapes)
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
            raise DataError("The covariances of a mixture must be positive definite") from error

    @property
    def n_components(self) -> int:
        """The number m of Gaussians."""
        return len(self.weights)

    def log_prob(self, codes: ArrayLike) -> np.ndarray:
        r"""The log-density of each code, in nats, shape (n,).

        .. math:: \log \sum_c \pi_c \exp\left( -\tfrac12 \lVert L_c^{-1} (z - \mu_c) \rVert^2
            - \sum_i \log L_{c,ii} - \tfrac k2 \log 2\pi \right), \qquad \Sigma_c = L_c L_c^\top

        Parameters
        ----------
        codes : array of shape (n, k)
            Codes in the mixture's units.
        """
        codes = _as_codes(codes)
        k = self.means.shape[1]
        if codes.shape[1] != k:
            raise DataError(f"The mixture is over codes of {k} numbers", got=f"{codes.shape[1]}")
        with np.errstate(divide="ignore"):  # a component may have probability zero
            log_weights = np.log(self.weights)
        joint = np.empty((len(codes), self.n_components))
        for c, (mean, root) in enumerate(zip(self.means, self._roots, strict=True)):
            standard = np.linalg.solve(root, (codes - mean).T)
            log_volume = np.log(np.diagonal(root)).sum() + 0.5 * k * math.log(2 * math.pi)
            joint[:, c] = log_weights[c] - log_volume - 0.5 * np.square(standard).sum(0)
        return np.logaddexp.reduce(joint, axis=1)

    def sample(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Draw n independent codes, shape (n, k), from a NumPy generator."""
        drawn = generator.choice(self.n_components, size=n, p=self.weights / self.weights.sum())
        codes = generator.standard_normal((n, self.means.shape[1]))
        for c, (mean, root) in enumerate(zip(self.means, self._roots, strict=True)):
            own = drawn == c
            codes[own] = mean + codes[own] @ root.T
        return codes


def fit_mixture(
    codes: ArrayLike,
    seed: int,
    n_components: int | str = "auto",
    sample_weight: ArrayLike | None = None,
    validation_fraction: float = 0.2,
) -> Mixture:
    r"""Fit a mixture of Gaussians to codes by expectation-maximisation.

    The codes are standardised first, so that codes in other units give the same mixture in those units, and variances
    are regularised relative to the codes'. A column without spread becomes a very narrow one.

    With ``n_components="auto"``, 1, 2, 4, 8, 16 and 32 components are tried on a part of the rows, and one number
    replaces a smaller one where the log-likelihood of the other rows is higher by more than one standard error of the
    difference. The search ends when two in a row have failed to. The mixture chosen is then fitted to all rows, from
    where it is. Equal rows stay on the same side, so that no row is judged by its own copy.

    Covariances are full where the rows are at least 5 k a component and an iteration costs at most 2e10 products
    (n m k^2), and diagonal otherwise.

    Parameters
    ----------
    codes : array of shape (n, k)
        Finite numbers; at least one row.
    seed : int
        Of the split and of the starts.
    n_components : int or 'auto'
        m; never more than there are different rows.
    sample_weight : array of shape (n,), optional
        Weight of each row, not negative. Rows are repeated or left out in proportion: of n rows with any weight, row i
        occurs :math:`n w_i / \sum w` times, rounded up or down by systematic resampling, which draws nothing.
    validation_fraction : float in (0, 1)
        Share of the rows that judge the number of components.

    Returns
    -------
    Mixture
        Components in order of weight, largest first.

    Raises
    ------
    DataError
        Where the codes are not a table of finite numbers, or the weights do not fit.
    OptionError
        Where an option is outside its domain.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).normal(size=(400, 2))
    >>> mixture = fit_mixture(noise + 10 * (np.arange(400) % 2)[:, None], seed=0)
    >>> mixture.means.shape
    (2, 2)
    """
    _check_options(n_components, validation_fraction)
    rows = _as_codes(codes)
    if not len(rows):
        raise DataError("A mixture needs at least one code", got="none")
    if sample_weight is not None:
        rows = rows[_systematic(_as_weights(sample_weight, len(rows)))]
    center, divisor = _standards(rows)
    rows = (rows - center) / divisor
    _, copy_of = np.unique(rows, axis=0, return_inverse=True)
    copy_of = copy_of.reshape(-1)
    part = np.random.default_rng(seed).permutation(len(rows))[:CHOICE_ROWS]
    if n_components == "auto":
        estimator = _choose(rows[part], copy_of[part], len(rows), seed, validation_fraction)
    else:
        n_different = len(np.unique(copy_of[part]))
        estimator = _fitted(rows[part], min(int(n_components), n_different), len(rows), seed)
    return _in_units(_fitted_further(estimator, rows), center, divisor)


def _choose(
    rows: np.ndarray, copy_of: np.ndarray, n_all: int, seed: int, validation_fraction: float
) -> GaussianMixture:
    """The mixture with the number of components that held-out rows ask for, fitted to the other rows."""
    is_held_out = _held_out(copy_of, seed, validation_fraction)
    training, held_out = rows[~is_held_out], rows[is_held_out]
    n_different = len(np.unique(copy_of[~is_held_out]))
    best, failures = _fitted(training, 1, n_all, seed), 0
    for m in CANDIDATES[1:]:
        if n_different < m * ROWS_A_COMPONENT or failures == 2:
            break
        candidate = _fitted(training, m, n_all, seed)
        gain = candidate.score_samples(held_out) - best.score_samples(held_out)
        if gain.mean() > gain.std() / math.sqrt(len(gain)):
            best, failures = candidate, 0
        else:
            failures += 1
    return best


def _held_out(copy_of: np.ndarray, seed: int, fraction: float) -> np.ndarray:
    """Whether each row is held out, copies of a row alike; one row at least is not, and one is if there are two."""
    different = np.random.default_rng(seed).permutation(np.unique(copy_of))
    n_held_out = min(max(1, round(fraction * len(different))), len(different) - 1)
    return np.isin(copy_of, different[:n_held_out])


def _fitted(rows: np.ndarray, m: int, n_all: int, seed: int) -> GaussianMixture:
    """A mixture of m components; ``n_all`` rows are to be fitted later.

    Of a few short runs, each from its own k-means, the likeliest goes on (Biernacki, Celeux & Govaert, 2003).
    """
    short = GaussianMixture(
        m,
        covariance_type="full" if _can_be_full(len(rows), m, rows.shape[1], n_all) else "diag",
        reg_covar=REGULARISATION,
        max_iter=10,
        n_init=1 if m == 1 else 3,
        random_state=seed % 2**32,
    )
    return _fitted_further(_quietly_fitted(short, rows), rows)


def _can_be_full(n: int, m: int, k: int, n_all: int) -> bool:
    """Whether m full covariances of k columns can be estimated from n rows, and afforded for all rows."""
    return n >= ROWS_A_COLUMN * k * m and n_all * m * k**2 <= FULL_PRODUCTS


def _fitted_further(estimator: GaussianMixture, rows: np.ndarray) -> GaussianMixture:
    """The same components fitted to these rows, from where they are."""
    return _quietly_fitted(estimator.set_params(warm_start=True, max_iter=100), rows)


def _quietly_fitted(estimator: GaussianMixture, rows: np.ndarray) -> GaussianMixture:
    """A fitted mixture. That it could still gain a little, or that k-means met equal rows, is no reason to warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(rows if len(rows) > 1 else np.repeat(rows, 2, axis=0))


def _in_units(estimator: GaussianMixture, center: np.ndarray, divisor: np.ndarray) -> Mixture:
    """The mixture of standardised codes in the codes' own units, the largest component first."""
    order = np.argsort(-estimator.weights_, kind="stable")
    covariances = estimator.covariances_[order]
    if estimator.covariance_type == "diag":
        covariances = covariances[:, :, None] * np.eye(len(center))
    weights = estimator.weights_[order]
    return Mixture(
        weights / weights.sum(), estimator.means_[order] * divisor + center, covariances * np.outer(divisor, divisor)
    )


def _standards(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Center and divisor of each column; a column of (nearly) one value is divided by a small share of the others'."""
    center, deviation = rows.mean(0), rows.std(0)
    floor = np.maximum(SPREAD_FLOOR * math.sqrt(np.square(deviation).mean()), LEVEL_FLOOR * np.abs(center))
    divisor = np.maximum(deviation, floor)
    divisor[divisor == 0] = divisor.max() or LEVEL_FLOOR  # zeros alone have no size: one is as good as another
    return center, np.maximum(divisor, 1 / LARGEST_CODE)


def _systematic(weights: np.ndarray) -> np.ndarray:
    """Row numbers in proportion to weights: where evenly spaced points fall among the cumulated weights.

    There are as many points as rows of any weight, so that rows of equal weight are the rows themselves.
    """
    cumulated = np.cumsum(weights / weights.max())
    n = np.count_nonzero(weights)
    return np.searchsorted(cumulated, (np.arange(n) + 0.5) * (cumulated[-1] / n), side="right")


def _as_codes(codes: ArrayLike) -> np.ndarray:
    rows = read(codes, "codes").array.astype(np.float64)
    if rows.ndim != 2 or not rows.shape[1]:
        raise DataError("Codes must be a table of rows and columns", got=f"shape {rows.shape}")
    if rows.size and not np.abs(rows).max() <= LARGEST_CODE:
        raise DataError(f"Codes must be finite numbers, of size {LARGEST_CODE:g} at most", got="larger ones or NaN")
    return rows


def _as_weights(sample_weight: ArrayLike, n_rows: int) -> np.ndarray:
    weights = read(sample_weight, "sample_weight").array.astype(np.float64)
    if weights.shape != (n_rows,) or not (np.isfinite(weights) & (weights >= 0)).all() or not weights.any():
        raise DataError(
            f"sample_weight must be {n_rows} finite numbers, none negative and not all zero",
            got=f"shape {weights.shape}" if weights.shape != (n_rows,) else "others",
        )
    return weights


def _check_options(n_components: int | str, validation_fraction: float) -> None:
    is_count = isinstance(n_components, Integral) and not isinstance(n_components, bool) and n_components >= 1
    if not is_count and n_components != "auto":
        raise OptionError("n_components must be a whole number of at least 1, or 'auto'", got=f"{n_components!r}")
    if not isinstance(validation_fraction, Real) or not 0 < validation_fraction < 1:
        raise OptionError("validation_fraction must be a number between 0 and 1", got=f"{validation_fraction!r}")
