"""The Gaussian code of variational autoencoders."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.errors import positive_int
from eigencode.parts.base import Sizes
from eigencode.parts.codes.base import Code

if TYPE_CHECKING:
    from eigencode.model.composition import Composition
    from eigencode.model.initialization import LinearProblem, LinearStart


WIDEST = 4.0
"""Largest ratio of a posterior's variance to its prior's."""


LOG_VARIANCE_BOUND = 30.0
"""Bound of a posterior's log-variance; its exponential does not overflow by far."""


@dataclass(frozen=True)
class DiagonalPosterior:
    r"""A normal with independent components, q(z|x) = N(mu, diag(sigma^2)), drawn as z = mu + sigma * eps."""

    location: Tensor
    log_variance: Tensor

    @property
    def mean(self) -> Tensor:
        """The location mu, shape (n, k)."""
        return self.location

    @property
    def variance(self) -> Tensor:
        """sigma^2, shape (n, k)."""
        return self.log_variance.exp()

    @property
    def entropy(self) -> Tensor:
        """H(q) in nats, shape (n,)."""
        return 0.5 * (self.log_variance + (1 + math.log(2 * math.pi))).sum(-1)

    def draw(self, noise: Tensor | None) -> Tensor:
        """Draw mu + sigma * eps for standard normal noise of shape (..., n, k); mu without noise."""
        if noise is None:
            return self.location
        return self.location + (0.5 * self.log_variance).exp() * noise.to(self.location)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log q(z|x) in nats, for codes of shape (..., n, k); shape (..., n)."""
        squares = (z - self.location).square() / self.variance
        return -0.5 * (squares + self.log_variance + math.log(2 * math.pi)).sum(-1)


class GaussianCode(Code):
    r"""The stochastic code of variational autoencoders: the encoder gives each component a mean and a log-variance.

    .. math:: q(z|x) = N(\mu(x), \mathrm{diag}(\sigma^2(x))), \qquad z = \mu + \sigma \epsilon, \quad
        \epsilon \sim N(0, I)

    In this form a draw is differentiable in mu and sigma (Kingma & Welling, 2014). With several draws per row the
    objective is the importance-weighted bound, a tighter bound on log p(x) (Burda, Grosse & Salakhutdinov, 2016).

    Parameters
    ----------
    n_draws : int
        Codes drawn for each row.

    Examples
    --------
    >>> import torch
    >>> q = GaussianCode()(torch.tensor([[2.0, -1.0, 0.0, 0.0]]))
    >>> q.mean, q.variance
    (tensor([[ 2., -1.]]), tensor([[1., 1.]]))
    >>> q.draw(torch.tensor([[0.5, 0.5]]))
    tensor([[ 2.5000, -0.5000]])
    """

    ignores_idle_components = True
    is_stochastic = True
    is_elementwise = True
    is_identity = True

    _ceiling: float = LOG_VARIANCE_BOUND

    def __init__(self, n_draws: int = 1) -> None:
        super().__init__()
        self.n_draws = n_draws

    def setup(self, sizes: Sizes) -> None:
        positive_int("The 'n_draws' parameter of GaussianCode", self.n_draws)

    def join(self, composition: Composition) -> None:
        """Bound the variance by a few times the prior's.

        A posterior is hardly ever wider than its prior, but the exponential of the encoder's output for an unusual row
        can be arbitrarily large.
        """
        variance = None if composition.prior is None else composition.prior.variance
        self._ceiling = LOG_VARIANCE_BOUND if variance is None else math.log(WIDEST * variance)

    def width(self, n_components: int) -> int:
        """Two outputs for each component."""
        return 2 * n_components

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise, shape (n, k), or (m, n, k) for m draws a row."""
        draws = () if self.n_draws == 1 else (int(self.n_draws),)
        return torch.randn((*draws, n_rows, n_components), generator=generator, device=generator.device)

    def outputs_of_variance(self, variance: Tensor) -> Tensor:
        """The logarithms of the variances, shape (k,)."""
        return variance.log()

    def linear_start(self, problem: LinearProblem) -> LinearStart | None:
        """With a prior, it shrinks nothing itself; without one there is no optimum: the variance would go to 0."""
        return None if problem.composition.prior is None else problem.shrunk(torch.ones_like(problem.eigenvalues))

    def forward(self, output: Tensor) -> DiagonalPosterior:
        """The normal with the output's first half as its mean and its second half as its log-variance."""
        mean, log_variance = output.chunk(2, dim=-1)
        return DiagonalPosterior(mean, log_variance.clamp(-LOG_VARIANCE_BOUND, self._ceiling))
