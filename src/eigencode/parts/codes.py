"""Codes: what the encoder's output means, q(z|x)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from eigencode.parts.base import Part
from eigencode.parts.distributions import Delta


class Posterior(Protocol):
    """A distribution of codes that can be drawn from with noise given from outside."""

    @property
    def mean(self) -> Tensor:
        """The expected code, shape (n, k)."""

    def draw(self, noise: Tensor | None) -> Tensor:
        """A code for each row, differentiable, shape (n, k)."""


class Code(Part):
    """Turns the encoder's output into a distribution of codes.

    A subclass says how many numbers it wants from the encoder for k codes, what noise one draw takes, and the
    distribution itself.
    """

    is_stochastic: bool = False
    """Whether a code is drawn, so that a pass takes noise."""

    def width(self, n_components: int) -> int:
        """Numbers the encoder gives for each row."""
        return n_components

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor | None:
        """The noise of one draw, or None where the code is deterministic."""
        return None

    @abstractmethod
    def forward(self, output: Tensor) -> Posterior:
        """The distribution q(z|x) of an encoder's output of shape (n, width)."""


class Point(Code):
    """The deterministic code z = f(x).

    Examples
    --------
    >>> import torch
    >>> Point()(torch.tensor([[1.0, 2.0]])).mean
    tensor([[1., 2.]])
    """

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """All of every direction: squared error alone is minimised by PCA (Baldi & Hornik, 1989)."""
        return torch.ones_like(eigenvalues)

    def forward(self, output: Tensor) -> Delta:
        """A point mass at the output."""
        return Delta(output)
