r"""Likelihoods: what the decoder's output says of the columns, p(x|z)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from eigencode.parts.base import Part
from eigencode.parts.distributions import Distribution, Gaussian


@dataclass(frozen=True)
class Units:
    """The data's units seen from the model's: data = scaled * divisor + center, each of shape (d,)."""

    center: Tensor
    divisor: Tensor


class Likelihood(Part):
    """Turns the decoder's un-activated output into a distribution of the scaled columns.

    Attributes
    ----------
    own_units : bool
        True where the distribution only makes sense in the data's own units, as counts and shares do: rows are then
        brought back to them before they are judged.

    Examples
    --------
    A likelihood of your own is one method returning a distribution, here the hyperbolic secant's:

    >>> import math, torch
    >>> from eigencode.parts import Distribution, Likelihood
    >>> class Secant(Distribution):
    ...     def __init__(self, mean):
    ...         self.location = mean
    ...
    ...     mean = property(lambda self: self.location)
    ...
    ...     def log_prob(self, x):
    ...         u = math.pi / 2 * (x - self.location).abs()
    ...         return -u - torch.log1p(torch.exp(-2 * u))
    ...
    ...     def sample(self, generator):
    ...         u = torch.rand(self.location.shape, generator=generator)
    ...         return self.location + 2 / math.pi * torch.log(torch.tan(math.pi / 2 * u))
    >>> class SecantLikelihood(Likelihood):
    ...     def forward(self, output):
    ...         return Secant(output)
    """

    own_units: bool = False
    center: Tensor
    divisor: Tensor

    def setup(self, n_features: int, units: Units | None = None) -> None:
        """Make the tensors; without ``units`` the model's are taken to be the data's."""
        if self.own_units:
            units = units or Units(torch.zeros(n_features), torch.ones(n_features))
            self.register_buffer("center", units.center)
            self.register_buffer("divisor", units.divisor)

    def width(self, n_features: int) -> int:
        """Numbers the decoder gives for each row."""
        return n_features

    def target(self, x: Tensor) -> Tensor:
        """Scaled rows of shape (n, d) in the units that the distribution is over."""
        return x * self.divisor + self.center if self.own_units else x

    def scaled_mean(self, p: Distribution) -> Tensor:
        """The mean of a distribution in the model's units, shape (n, d)."""
        return (p.mean - self.center) / self.divisor if self.own_units else p.mean

    def calibrate(self, x: Tensor, output: Tensor) -> None:
        """Set parameters of its own, such as a variance, to their best for the start's outputs of scaled rows."""

    def constant(self, x: Tensor) -> Tensor:
        """The decoder's best output that ignores the code, shape (width,): where its bias starts."""
        return x.mean(0)

    @abstractmethod
    def forward(self, output: Tensor) -> Distribution:
        """The distribution p(x|z) of a decoder's output of shape (n, width)."""


class GaussianLikelihood(Likelihood):
    r"""Normal with a fixed variance around the decoder's output: squared error.

    .. math:: -\log p(x|z) = \frac{1}{2 v} \lVert x - g(z) \rVert^2 + \frac d2 \log(2 \pi v)

    With v = 1/2 it is the squared error plus a constant, so that every penalty's weight is the textbook's.

    Parameters
    ----------
    variance : float
        v, in units of the scaled columns.

    Examples
    --------
    >>> import torch
    >>> p = GaussianLikelihood()(torch.tensor([[0.0]]))
    >>> (p.log_prob(torch.tensor([[0.0]])) - p.log_prob(torch.tensor([[3.0]]))).item()
    9.0
    """

    def __init__(self, variance: float = 0.5) -> None:
        super().__init__()
        self.variance = variance

    def forward(self, output: Tensor) -> Gaussian:
        """A normal around each cell of the output."""
        return Gaussian(output, self.variance)

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """All of every direction, whatever the variance."""
        return torch.ones_like(eigenvalues)
