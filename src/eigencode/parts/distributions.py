r"""Distributions of codes and of columns, as small as training needs them.

``torch.distributions`` validates arguments and recomputes constants at each call, which costs about a third of a
small network's step; these keep one formula each. A distribution is over rows of shape (n, d): ``log_prob`` gives one
number a cell, in nats, so that unobserved cells can be left out before summing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Distribution(ABC):
    """A distribution of rows with independent cells."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Expectation, shape (n, d)."""

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (or log-probability) of each cell, in nats, shape (n, d)."""

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Tensor:
        """One draw for each row, shape (n, d)."""


@dataclass(frozen=True)
class Delta:
    """All mass at one point: the code of a deterministic encoder, z = f(x)."""

    value: Tensor

    @property
    def mean(self) -> Tensor:
        """The point itself, shape (n, k)."""
        return self.value

    def draw(self, noise: Tensor | None) -> Tensor:
        """The point itself, whatever the noise."""
        return self.value


@dataclass(frozen=True)
class Gaussian(Distribution):
    r"""Normal with one variance for all cells.

    .. math:: \log N(x; m, v) = -\frac{(x - m)^2}{2 v} - \frac12 \log(2 \pi v)
    """

    location: Tensor
    variance: float

    @property
    def mean(self) -> Tensor:
        """The location m, shape (n, d)."""
        return self.location

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density of each cell, in nats, shape (n, d)."""
        constant = self.location.new_tensor(-0.5 * math.log(2 * math.pi * self.variance))
        residual = x - self.location
        return torch.addcmul(constant, residual, residual, value=-0.5 / self.variance)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw m + sqrt(v) * eps, shape (n, d)."""
        noise = torch.empty_like(self.location).normal_(generator=generator)
        return self.location + math.sqrt(self.variance) * noise
