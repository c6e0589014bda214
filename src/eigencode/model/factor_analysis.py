r"""Factor analysis: the best linear model with a standard normal code and one noise variance a column.

.. math:: x = W z + \epsilon, \qquad z \sim N(0, I), \quad \epsilon \sim N(0, \mathrm{diag}(\psi))

For given variances, W is the principal directions of the columns divided by their noise's deviations, as in
probabilistic PCA. What is left is a function of the variances alone, with a simple gradient (Joreskog, 1967).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from eigencode.model.pca import Spectrum, decomposed, spectrum_of_moment

SMALLEST_NOISE = 2e-6
"""Smallest variance of a column's noise, in scaled units; without it the likelihood may have no upper bound."""

MOST_PRODUCTS = 1e10
"""The number of eigendecompositions times d^3 is about this at most, which takes some seconds: a quarter for each of
three first values, and one for the best of them."""

SEARCHES = 80
"""With fewer evaluations in all (from 500 columns on) only one of the first values is improved."""

OUT_OF_EVALUATIONS = 1
"""The status of scipy's L-BFGS where it has not converged."""

WIDE, LOOSE = 256, 1e-3
"""Above so many columns only the leading eigenvectors are computed, by Lanczos iterations to this tolerance: 40 of 784
take a seventh of the time."""


@dataclass(frozen=True)
class FactorAnalysis:
    """Factors of scaled columns.

    Attributes
    ----------
    noise : Tensor
        Variance of each column's noise, shape (d,), in float64.
    spectrum : Spectrum
        Principal directions of the columns divided by the noise's deviations.
    beta : float
        Weight of the divergence; with 1 the bound is the likelihood.
    """

    noise: Tensor
    spectrum: Spectrum
    beta: float


def factor_analysis(
    covariance: Tensor, n_components: int, beta: float = 1.0, smallest: float | Tensor = SMALLEST_NOISE
) -> FactorAnalysis:
    r"""Maximise the evidence lower bound of a linear model in the columns' noise variances, by L-BFGS.

    With l_i the eigenvalues of the covariance S of the columns divided by the noise's deviations, minus twice the bound
    is, up to a constant,

    .. math:: \sum_j \log \psi_j + \sum_j S_{jj} / \psi_j
        - \sum_{i \le k} \left[ (l_i - \beta)^+ - \beta \log \max(l_i / \beta, 1) \right]

    for k factors and the divergence's weight beta; S, of shape (d, d), is in float64. No
    noise variance is below ``smallest``, one number or one a column.

    Examples
    --------
    >>> loadings = torch.tensor([[2.0], [1.0], [1.0]], dtype=torch.float64)
    >>> covariance = loadings @ loadings.T + torch.diag(torch.tensor([0.5, 1.0, 2.0]))
    >>> factor_analysis(covariance, 1).noise.round(decimals=3)
    tensor([0.5000, 1.0000, 2.0000], dtype=torch.float64)
    """
    beta, total = max(beta, 1e-12), covariance.diagonal()
    is_wide = len(total) > WIDE and n_components <= len(total) // 8

    def leading(noise: Tensor) -> tuple[Tensor, Tensor]:
        divided = _divided(covariance, noise)
        if not is_wide:
            values, vectors = torch.linalg.eigh(divided)
            return values.flip(0)[:n_components], vectors.flip(1)[:, :n_components]
        found = eigsh(divided.numpy(), n_components, v0=np.ones(len(divided)), tol=LOOSE)
        return torch.from_numpy(found[0]), torch.from_numpy(found[1])

    def cost(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        noise = torch.from_numpy(logarithms).exp()
        values, vectors = leading(noise)
        kept = (values - beta).clamp(min=0)
        explained = (vectors.square() * kept).sum(1)  # in units of the noise
        gain = (kept - beta * (kept / beta).log1p()).sum()
        residual = total / noise - explained
        return float(logarithms.sum() + (total / noise).sum() - gain), (1 - residual).numpy()

    least = torch.as_tensor(smallest, dtype=torch.float64).clamp(min=SMALLEST_NOISE).expand_as(total)
    noise = _best_noise(cost, _first_values(covariance, n_components), least)
    return FactorAnalysis(noise, spectrum_of_moment(_divided(covariance, noise), n_components), beta)


def _divided(covariance: Tensor, noise: Tensor) -> Tensor:
    """The covariance of the columns divided by the noise's deviations, in the only new memory of its size."""
    root = noise.sqrt()
    products = torch.outer(root, root)
    return torch.div(covariance, products, out=products)


Cost = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""A function of the logarithms of variances, and its gradient."""


def _best_noise(cost: Cost, firsts: Sequence[Tensor], least: Tensor) -> Tensor:
    """The variances with the least cost, from the best of several first values.

    Of few columns each first value is improved until it converges. Where only few evaluations are affordable, each
    variance is first replaced by what the factors of the first value leave of it, which is as good as about four steps
    of L-BFGS, and the best of these values is improved.
    """
    affordable = MOST_PRODUCTS / len(least) ** 3
    if affordable < SEARCHES:
        shorter = [_left_over(cost, first.clamp(min=least)) for first in firsts]
        best = min(shorter, key=lambda noise: cost(_logarithms(noise, least))[0])
        return torch.from_numpy(_minimised(cost, best, least, affordable / 3).x).exp()
    found = min((_minimised(cost, first, least, affordable / 4) for first in firsts), key=lambda found: found.fun)
    if found.status == OUT_OF_EVALUATIONS:
        found = _minimised(cost, torch.from_numpy(found.x).exp(), least, affordable / 4)
    return torch.from_numpy(found.x).exp()


def _left_over(cost: Cost, noise: Tensor) -> Tensor:
    """What the factors for given variances leave of each column's variance: at the optimum, the same variances."""
    _, gradient = cost(noise.log().numpy())
    return noise * (1 - torch.from_numpy(gradient)).clamp(min=0)


def _logarithms(noise: Tensor, least: Tensor) -> np.ndarray:
    """The arguments of a cost."""
    logarithms: np.ndarray = noise.clamp(min=least).log().numpy()
    return logarithms


def _minimised(cost: Cost, first: Tensor, least: Tensor, affordable: float) -> scipy.optimize.OptimizeResult:
    """The minimum over the logarithms of variances, not below the least, from a first value."""
    options = {"maxfun": int(np.clip(affordable, 5, 1000)), "maxiter": 1000, "ftol": 1e-13, "gtol": 1e-9}
    bounds = scipy.optimize.Bounds(least.log().numpy())
    begin = _logarithms(first, least)
    return scipy.optimize.minimize(cost, begin, jac=True, method="L-BFGS-B", bounds=bounds, options=options)


def _first_values(covariance: Tensor, n_components: int) -> tuple[Tensor, Tensor, Tensor]:
    """First values of the noise's variances, from all of a column's variance to the least that is left of it.

    They are the variance of each column, that beside the others, 1 / (S^-1)_jj where S is regular, and that beside the
    first principal directions.
    """
    total, (values, vectors) = covariance.diagonal(), decomposed(covariance)
    squares, least = vectors.square_(), max(float(values[-1]), 1.0) * 1e-6
    residual = 1 / (squares @ (1 / values.clamp(min=least)))
    return total, residual, total - squares[:, -n_components:] @ values[-n_components:]
