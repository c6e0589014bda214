"""Code: what the encoder's output means, q(z|x)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from eigencode.parts.base import Term


class Posterior(Protocol):
    """A distribution of codes that can be drawn from with noise given from outside."""

    @property
    def mean(self) -> Tensor:
        """The expected code, shape (n, k)."""

    @property
    def variance(self) -> Tensor | None:
        """Variance of each component, shape (n, k), or None for a point."""

    def draw(self, noise: Tensor | None) -> Tensor:
        """A code for each row, differentiable, shape (n, k)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log q(z|x) in nats, for codes of shape (..., n, k); 0 for a point."""


class Code(Term):
    """Turns the encoder's output into a distribution of codes.

    A subclass says how many numbers it wants from the encoder for k codes, what noise one draw takes, and the
    distribution itself.
    """

    is_ordered: bool = False
    """Whether the first components are worth the most, so that a shorter code is a prefix of a longer one."""

    is_elementwise: bool = False
    """Whether component j of the mean code is a function of number j of the encoder's output alone.

    The Jacobian of an encoder of one layer is then known in closed form.
    """

    is_identity: bool = False
    """Whether the mean code is the first k numbers of the encoder's output, as they are."""

    def width(self, n_components: int) -> int:
        """Numbers the encoder gives for each row."""
        return n_components

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor | None:
        """The noise of one draw, or None where the code is deterministic."""
        return None

    def outputs_of_variance(self, variance: Tensor) -> Tensor:
        """What the encoder has to give past the first k numbers for codes of a variance, shape (width - k,)."""
        return variance.new_empty(0)

    @abstractmethod
    def forward(self, output: Tensor) -> Posterior:
        """The distribution q(z|x) of an encoder's output of shape (n, width)."""
