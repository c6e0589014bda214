"""Code: the distribution q(z|x) given the encoder's output."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from eigencode.parts.base import Term


class Posterior(Protocol):
    """A distribution of codes from which draws are made by given noise.

    Attributes
    ----------
    mean : Tensor
        The expected code, shape (n, k): a property, or an attribute that the constructor sets.
    variance : Tensor or None
        Variance of each component, shape (n, k); None for a point.
    """

    if TYPE_CHECKING:  # a property of this class could not be set

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
    """Maps the encoder's output to a distribution of codes.

    A subclass defines how many outputs of the encoder it needs for k components, the noise of one draw, and the
    distribution.
    """

    is_ordered: bool = False
    """Whether the components are in order of importance, so that the first m are the best code of size m."""

    is_elementwise: bool = False
    """Whether component j of the mean code is a function of the encoder's output j only.

    The Jacobian of an encoder of one layer then has a closed form.
    """

    is_identity: bool = False
    """Whether the mean code is the first k outputs of the encoder, unchanged."""

    def width(self, n_components: int) -> int:
        """Number of outputs of the encoder for a code of ``n_components``."""
        return n_components

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor | None:
        """The noise of one draw, or None if the code is deterministic."""
        return None

    def outputs_of_variance(self, variance: Tensor) -> Tensor:
        """The encoder's outputs after the first k that give codes of a variance, shape (width - k,)."""
        return variance.new_empty(0)

    @abstractmethod
    def forward(self, output: Tensor) -> Posterior:
        """The distribution q(z|x) of an encoder's output of shape (n, width)."""
