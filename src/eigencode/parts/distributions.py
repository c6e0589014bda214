r"""Distributions of codes and of columns, with the methods that training needs.

``torch.distributions`` validates arguments and recomputes constants at each call, which takes about a third of the time
of a small network's step. A distribution is over rows of shape (..., d): ``log_prob`` gives one number for each cell,
in nats, so that missing cells can be left out before summing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, softplus

LINEAR_FROM = 40.0
"""Above this, log(1 + exp(logit)) equals the logit in float64."""


class Distribution(ABC):
    """A distribution of rows with independent cells.

    Attributes
    ----------
    mean : Tensor
        Expectation, shape (..., d): a property, or an attribute that the constructor sets.
    """

    if TYPE_CHECKING:  # an abstract property could not be set

        @property
        def mean(self) -> Tensor:
            """Expectation, shape (..., d)."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let a subclass whose ``log_prob`` is of its own, or of a mixin, not inherit the sum of another one."""
        super().__init_subclass__(**kwargs)
        nearest = next(vars(one) for one in cls.__mro__ if {"log_prob", "row_log_prob"} & vars(one).keys())
        if "row_log_prob" not in nearest:
            cls.row_log_prob = Distribution.row_log_prob  # type: ignore[method-assign]

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (or log-probability) of each cell, in nats, shape (..., d)."""

    def row_log_prob(self, x: Tensor) -> Tensor:
        """The sum over the cells of each row, shape (...): what training asks for where no cell is hidden."""
        return self.log_prob(x).sum(-1)

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw for each row, shape (..., d)."""


@dataclass(frozen=True)
class Delta:
    """All mass at one point: the code of a deterministic encoder, z = f(x)."""

    value: Tensor

    @property
    def mean(self) -> Tensor:
        """The point itself, shape (..., k)."""
        return self.value

    @property
    def variance(self) -> None:
        """None, since a point has no variance."""

    def draw(self, noise: Tensor | None) -> Tensor:
        """The point itself."""
        return self.value

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-probability of the point: 0, shape (...)."""
        return z.new_zeros(z.shape[:-1])


@dataclass(frozen=True)
class Gaussian(Distribution):
    r"""Normal with one variance for all cells.

    .. math:: \log N(x; m, v) = -\frac{(x - m)^2}{2 v} - \frac12 \log(2 \pi v)
    """

    location: Tensor
    variance: float

    @property
    def mean(self) -> Tensor:
        """The location m, shape (..., d)."""
        return self.location

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.rsub(self._squares(x), self._constant, alpha=0.5 / self.variance)

    def row_log_prob(self, x: Tensor) -> Tensor:
        """The sum over the cells of each row, shape (...), scaled after the sum, which saves passes over cells."""
        return torch.rsub(self._squares(x).sum(-1), self._constant * self.location.shape[-1], alpha=0.5 / self.variance)

    def _squares(self, x: Tensor) -> Tensor:
        # mse_loss takes two passes over the cells forward and backward; the square of a difference takes six.
        return mse_loss(self.location, x.expand_as(self.location), reduction="none")

    @property
    def _constant(self) -> float:
        return -0.5 * math.log(2 * math.pi * self.variance)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw m + sqrt(v) * eps, shape (..., d)."""
        noise = torch.empty_like(self.location).normal_(generator=generator)
        return self.location + math.sqrt(self.variance) * noise


@dataclass(frozen=True)
class DiagonalGaussian(Distribution):
    r"""Normal with a tensor of variances: one for all cells, for each column or for each cell.

    .. math:: \log N(x; m, v) = -\frac{(x - m)^2}{2 v} - \frac12 \log(2 \pi v)
    """

    location: Tensor
    variance: Tensor

    @property
    def mean(self) -> Tensor:
        """The location m, shape (..., d)."""
        return self.location

    def log_prob(self, x: Tensor) -> Tensor:
        squares = (x - self.location).square() / self.variance
        return -0.5 * (squares + self.variance.log() + math.log(2 * math.pi))

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw m + sqrt(v) * eps, shape (..., d)."""
        noise = torch.empty_like(self.location).normal_(generator=generator)
        return self.location + self.variance.sqrt() * noise


@dataclass(frozen=True)
class Laplace(Distribution):
    r"""Laplace's first law of errors, the double exponential; m is its mean and its median.

    .. math:: \log p(x) = -\frac{|x - m|}{b} - \log(2 b)
    """

    location: Tensor
    scale: Tensor

    @property
    def mean(self) -> Tensor:
        """The location m, shape (..., d)."""
        return self.location

    def log_prob(self, x: Tensor) -> Tensor:
        return -(x - self.location).abs() / self.scale - self.scale.log() - math.log(2)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw m + b * (e1 - e2) from two exponential variables, shape (..., d)."""
        first, second = (torch.empty_like(self.location).exponential_(generator=generator) for _ in range(2))
        return self.location + self.scale * (first - second)


@dataclass(frozen=True)
class StudentT(Distribution):
    r"""Student's t around a location m, with nu degrees of freedom and scale s.

    .. math:: \log p(x) = -\frac{\nu + 1}{2} \log\left(1 + \frac{(x - m)^2}{\nu s^2}\right) - \log s
        + \log \Gamma\left(\frac{\nu + 1}{2}\right) - \log \Gamma\left(\frac{\nu}{2}\right) - \frac12 \log(\pi \nu)

    With one degree of freedom or fewer there is no mean, and the median is used.
    """

    location: Tensor
    scale: Tensor
    degrees: float

    @property
    def mean(self) -> Tensor:
        """The location m, shape (..., d)."""
        return self.location

    def log_prob(self, x: Tensor) -> Tensor:
        nu = self.degrees
        constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(math.pi * nu)
        tails = torch.log1p(((x - self.location) / self.scale).square() / nu)
        return constant - 0.5 * (nu + 1) * tails - self.scale.log()

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw m + s * eps / sqrt(g), with g chi-squared over its degrees of freedom; shape (..., d)."""
        noise = torch.empty_like(self.location).normal_(generator=generator)
        half = torch.full_like(self.location, self.degrees / 2)
        precision = torch._standard_gamma(half, generator=generator) / half
        return self.location + self.scale * noise * precision.rsqrt()


@dataclass(frozen=True)
class Bernoulli(Distribution):
    r"""1 with probability p = 1 / (1 + exp(-logit)), else 0.

    .. math:: \log p(x) = x \log p + (1 - x) \log(1 - p)

    For shares x between 0 and 1 this is the negative cross-entropy: largest at p = x, but not a normalised density.
    """

    logit: Tensor

    @property
    def mean(self) -> Tensor:
        """The probability p, shape (..., d)."""
        return self.logit.sigmoid()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of each cell, in nats, shape (..., d); finite at every finite logit."""
        # One softplus takes half the time of two log-sigmoids; it is most of a step's time besides matrix products.
        return x * self.logit - softplus(self.logit, threshold=LINEAR_FROM)

    def sample(self, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self.mean, generator=generator)


@dataclass(frozen=True)
class Poisson(Distribution):
    r"""Counts of independent events with a mean number (rate) lambda.

    .. math:: \log p(x) = x \log \lambda - \lambda - \log x!

    For large counts it is computed as the log-probability at the best rate, x itself, minus the deviance: in the
    formula above large terms nearly cancel, which loses all digits in float32.
    """

    log_rate: Tensor

    @property
    def mean(self) -> Tensor:
        """The rate lambda, shape (..., d)."""
        return self.log_rate.exp()

    def log_prob(self, x: Tensor) -> Tensor:
        small = x.clamp(max=_STIRLING_FROM)
        direct = small * self.log_rate - self.log_rate.exp() - torch.lgamma(small + 1)
        large = x.clamp(min=_STIRLING_FROM)
        away = self.log_rate - large.log()
        at_best = -0.5 * (2 * math.pi * large).log() - _stirling_rest(large)
        return torch.where(x < _STIRLING_FROM, direct, at_best - large * (away.expm1() - away))

    def sample(self, generator: torch.Generator) -> Tensor:
        return torch.poisson(self.mean, generator=generator)


@dataclass(frozen=True)
class NegativeBinomial(Distribution):
    r"""Counts with mean m and variance m + a m^2: a Poisson with a gamma-distributed rate.

    With r = 1 / a,

    .. math:: \log p(x) = \log \frac{\Gamma(x + r)}{\Gamma(r) \, x!}
        + r \log \frac{r}{r + m} + x \log \frac{m}{r + m}

    As the dispersion a goes to 0 it becomes the Poisson. The arithmetic is exact for large r, and for large counts,
    whose log-probability is computed as that at the best mean, x itself, minus the deviance.
    """

    log_mean: Tensor
    dispersion: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean m, shape (..., d)."""
        return self.log_mean.exp()

    def log_prob(self, x: Tensor) -> Tensor:
        r = 1 / self.dispersion
        large = x.clamp(min=_STIRLING_FROM)
        away = self.log_mean - large.log()
        at_best = _log_at_own_mean(large, r) - _deviance_of_log_mean(away, large, r)
        # For means far below a large count the direct sum is exact enough, and does not overflow.
        is_direct = (x < _STIRLING_FROM) | (away < -_FAR)
        return torch.where(is_direct, self._direct_log_prob(x.masked_fill(~is_direct, 0.0), r), at_best)

    def _direct_log_prob(self, x: Tensor, r: Tensor) -> Tensor:
        """The formula term by term, exact for small counts."""
        spread = torch.log1p(self.mean * self.dispersion)
        # The ratio of gamma functions over r^x, then m^x / (1 + m/r)^(r + x); the powers of r cancel.
        return _log_rising(x, r) - torch.lgamma(x + 1) + x * (self.log_mean - spread) - r * spread

    def sample(self, generator: torch.Generator) -> Tensor:
        """Counts, from a rate drawn for each cell; shape (..., d)."""
        shape = (1 / self.dispersion).expand_as(self.log_mean)
        rate = torch._standard_gamma(shape.contiguous(), generator=generator) * self.dispersion * self.mean
        return torch.poisson(rate, generator=generator)


def _log_rising(x: Tensor, r: Tensor) -> Tensor:
    r"""Log of Gamma(r + x) / (Gamma(r) r^x), by Stirling's series if both gammas are large and nearly equal."""
    large, small = r.clamp(min=_STIRLING_FROM), r.clamp(max=_STIRLING_FROM)
    series = (large + x - 0.5) * torch.log1p(x / large) - x + _stirling_rest(large + x) - _stirling_rest(large)
    direct = torch.lgamma(small + x) - torch.lgamma(small) - x * small.log()
    return torch.where(r > _STIRLING_FROM, series, direct)


def _log_at_own_mean(x: Tensor, r: Tensor) -> Tensor:
    """The log-probability of a count of at least ``_STIRLING_FROM`` if the mean equals the count."""
    small, large = r.clamp(max=_STIRLING_FROM), r.clamp(min=_STIRLING_FROM)
    # log Gamma(r) - r log r + r
    direct = torch.lgamma(small) - small * small.log() + small
    series = -0.5 * (large / (2 * math.pi)).log() + _stirling_rest(large)
    of_r = torch.where(r > _STIRLING_FROM, series, direct)
    return -0.5 * ((r + x).log() + x.log()) + _stirling_rest(r + x) - _stirling_rest(x) - of_r


def _deviance_of_log_mean(away: Tensor, x: Tensor, r: Tensor) -> Tensor:
    """The log-probability lost by a log-mean this far from log x, in nats, computed from the smaller of x and r."""
    away = away.clamp(min=-_FAR)
    of_count, of_r = ((part / (x + r)).clamp(max=0.5) for part in (x, r))  # no logarithm of 0 in the branch not taken
    by_count = (x + r) * (of_count * away.expm1()).log1p() - x * away
    by_r = (x + r) * (of_r * (-away).expm1()).log1p() + r * away
    return torch.where(x < r, by_count, by_r)


_FAR = 20.0
"""Largest difference of logarithms for the deviance; its exponential does not overflow float32 by far."""

_STIRLING_FROM = 16.0
"""Smallest argument for which three terms of the series below are exact to 1e-11."""


def _stirling_rest(r: Tensor) -> Tensor:
    """The error of Stirling's formula for log Gamma(r), for r of at least ``_STIRLING_FROM``."""
    square = r.square()
    return (1 / 12 - (1 / 360 - 1 / (1260 * square)) / square) / r
