r"""Likelihoods of shares and counts, which are over the data's own units whatever the rows were scaled to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from eigencode.parts.distributions import Bernoulli, NegativeBinomial, Poisson
from eigencode.parts.likelihoods.base import SETTLING_CELLS, Likelihood, SpreadLikelihood, evenly_sampled

SMALLEST_MEAN = 1e-6
"""Mean at which the bias of a column of nothing but zeros (or ones) starts, since the best one is infinitely far."""

LARGEST_EXPONENT = 30.0
"""Past this the mean of a count, exp(output), grows linearly in the output, so that it stays a finite number."""


INTERCEPT_STEPS = 8
"""Newton's steps to a bias, from the best one without a code."""

SMALLEST_CURVATURE = 0.5
"""Share of the largest curvature that every column has at least: steps along flat ones would leave the expansion.

At 1 the expansion of a Bernoulli would bound it from above (Boehning & Lindsay, 1988), and no step be too long.
"""


class BernoulliLikelihood(Likelihood):
    r"""Bernoulli with the decoder's output as its logit: cross-entropy.

    .. math:: -\log p(x|z) = -\sum_j x_j \log p_j + (1 - x_j) \log(1 - p_j), \qquad p = \frac{1}{1 + e^{-g(z)}}

    Columns are of zeros and ones, or of shares between them, as pixels are. For shares the sum is least at p = x, and
    the fit is a good one, but it is not the logarithm of a normalised density of x: scores then compare models of the
    same rows, and nothing else.

    Examples
    --------
    >>> import torch
    >>> p = BernoulliLikelihood()(torch.tensor([[0.0, 1000.0]]))
    >>> p.mean
    tensor([[0.5000, 1.0000]])
    >>> p.log_prob(torch.tensor([[1.0, 0.0]]))
    tensor([[-6.9315e-01, -1.0000e+03]])
    """

    in_data_units = True
    support = "unit interval"

    def constant(self, x: Tensor) -> Tensor:
        """The logits of the columns' means."""
        return self.target(x).mean(0).clamp(SMALLEST_MEAN, 1 - SMALLEST_MEAN).logit()

    def intercept(self, x: Tensor, output: Tensor) -> Tensor:
        """The logits beside these outputs that give each column its mean, by Newton's steps."""
        mean = self.target(x).mean(0).clamp(SMALLEST_MEAN, 1 - SMALLEST_MEAN)
        bias = mean.logit()
        for _ in range(INTERCEPT_STEPS):
            p = (output + bias).sigmoid()
            curvature = (p * (1 - p)).mean(0).clamp(min=SMALLEST_MEAN)
            bias = bias + ((mean - p.mean(0)) / curvature).clamp(-1, 1)
        return bias

    def working_units(self, x: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        """A column's curvature in its logit is p (1 - p)."""
        p = self.target(x.double()).mean(0)
        return [_newton(self.divisor, p * (1 - p), torch.ones_like(p))]

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """All of every direction of the working response."""
        return torch.ones_like(eigenvalues)

    def forward(self, output: Tensor) -> Bernoulli:
        """A Bernoulli for each cell of the output."""
        return Bernoulli(output)


class CountLikelihood(Likelihood):
    """A likelihood of counts with the decoder's output as the logarithm of their mean."""

    in_data_units = True
    support = "counts"
    overdispersed: ClassVar[bool] = False
    """Whether the variance may exceed the mean."""

    def constant(self, x: Tensor) -> Tensor:
        """The logarithms of the columns' means, which are best for both of the kinds below."""
        return self.target(x).mean(0).clamp(min=SMALLEST_MEAN).log()

    def intercept(self, x: Tensor, output: Tensor) -> Tensor:
        """The logarithms beside these outputs that give each column its mean."""
        mean = self.target(x).mean(0).clamp(min=SMALLEST_MEAN)
        return mean.log() - output.logsumexp(0) + math.log(len(output))

    def working_units(self, x: Tensor) -> Sequence[tuple[Tensor, Tensor]]:
        """A column's curvature in its log mean m is m / (1 + a m), a the dispersion that the rows show.

        Scaled logarithms are responses as they are, with that curvature as the columns' weight or without weights;
        of scaled counts themselves there is one Newton step.
        """
        counts = self.target(x.double())
        mean = counts.mean(0).clamp(min=SMALLEST_MEAN)
        excess = (counts.var(0, correction=0) - mean).clamp(min=0) / mean.square()
        inflation = 1 + self.overdispersed * excess * mean
        if self.logarithmic is None:
            return [_newton(self.divisor, mean / inflation, 1 / inflation)]
        root = (mean / inflation).sqrt()
        return [(self.divisor * root, 1 / root), (self.divisor, torch.ones_like(root))]

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """All of every direction of the working response."""
        return torch.ones_like(eigenvalues)


class PoissonLikelihood(CountLikelihood):
    r"""Poisson with the decoder's output as its log rate.

    .. math:: -\log p(x|z) = \sum_j \lambda_j - x_j \log \lambda_j + \log x_j!, \qquad \lambda = e^{g(z)}

    Columns are counts of events; their variance is their mean. Past an output of 30 the rate grows linearly, so that
    it stays finite.

    Examples
    --------
    >>> import torch
    >>> p = PoissonLikelihood()(torch.tensor([[0.0, 1.0]]))
    >>> p.mean
    tensor([[1.0000, 2.7183]])
    >>> p.log_prob(torch.tensor([[0.0, 2.0]]))
    tensor([[-1.0000, -1.4114]])
    """

    def forward(self, output: Tensor) -> Poisson:
        """A Poisson for each cell of the output."""
        return Poisson(_bounded(output))


class NegativeBinomialLikelihood(CountLikelihood, SpreadLikelihood):
    r"""Negative binomial with the decoder's output as its log mean: counts that vary more than a Poisson's.

    .. math:: E\,x_j = m_j = e^{g_j(z)}, \qquad \mathrm{Var}\,x_j = m_j + a_j m_j^2

    As for counts of molecules in cells, or of purchases; with no dispersion a it is the Poisson. Past an output of 30
    the mean grows linearly, so that it stays finite.

    Parameters
    ----------
    dispersion : float, 'learned' or 'per_feature'
        a. A learned one never falls below 1e-6, where it cannot be told from the Poisson.

    Examples
    --------
    >>> import torch
    >>> part = NegativeBinomialLikelihood(dispersion=0.5)
    >>> p = part(torch.full((100_000, 1), 2.0).log())
    >>> draws = p.sample(torch.Generator().manual_seed(0))
    >>> round(draws.mean().item(), 1), round(draws.var().item(), 1)  # 2 and 2 + 0.5 * 2^2
    (2.0, 4.0)
    """

    spread_name = "dispersion"
    overdispersed = True
    floor = 1e-6

    def __init__(self, dispersion: float | str = "per_feature") -> None:
        super().__init__()
        self.dispersion = dispersion

    def forward(self, output: Tensor) -> NegativeBinomial:
        """A negative binomial for each cell of the output."""
        return NegativeBinomial(_bounded(output), self.current_spread(output))

    def best_spread(self, x: Tensor, output: Tensor) -> Tensor:
        """The likeliest dispersion, by golden sections of its logarithm."""
        # Each trial takes two log-gammas a cell, so that fewer cells than usual have to do: training goes on from here.
        counts, log_mean = (evenly_sampled(rows, SETTLING_CELLS // 4).double() for rows in (x, _bounded(output)))
        width = counts.shape[1] if self.spread == "per_feature" else 1

        def worth(log_dispersion: Tensor) -> Tensor:
            return self.pooled(NegativeBinomial(log_mean, log_dispersion.exp()).log_prob(counts))

        low, high = (counts.new_full((width,), bound).log() for bound in (self.floor, 1e3))
        return _golden_section(worth, low, high).exp().to(output.dtype)


def _newton(divisor: Tensor, curvature: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Working units of outputs with a curvature, and a gradient of slope times the residual in the data's units."""
    root = curvature.clamp(min=SMALLEST_CURVATURE * curvature.max().clamp(min=1e-12)).sqrt()
    return divisor * slope / root, 1 / root


def _golden_section(worth: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, n_steps: int = 28) -> Tensor:
    """Where each of several functions is largest between two bounds, for functions that only rise and then fall."""
    share = (5**0.5 - 1) / 2
    left, right = high - share * (high - low), low + share * (high - low)
    at_left, at_right = worth(left), worth(right)
    for _ in range(n_steps):
        leftward = at_left > at_right
        low, high = torch.where(leftward, low, left), torch.where(leftward, right, high)
        new = torch.where(leftward, high - share * (high - low), low + share * (high - low))
        at_new = worth(new)
        left, right = torch.where(leftward, new, right), torch.where(leftward, left, new)
        at_left, at_right = torch.where(leftward, at_new, at_right), torch.where(leftward, at_left, at_new)
    return (low + high) / 2


def _bounded(log_mean: Tensor) -> Tensor:
    """The logarithm of a mean that is exp(output) up to a bound, and a straight line past it."""
    beyond = (log_mean - LARGEST_EXPONENT).relu()
    return log_mean - beyond + beyond.log1p()
