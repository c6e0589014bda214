"""Code: what the encoder's output means, q(z|x)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from eigencode.parts.base import Term

if TYPE_CHECKING:
    pass


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

    is_stochastic: bool = False
    """Whether a code is drawn, so that a pass takes noise."""

    is_ordered: bool = False
    """Whether the first components are worth the most, so that a shorter code is a prefix of a longer one."""

    is_elementwise: bool = False
    """Whether component j of the mean code is a function of number j of the encoder's output alone.

    The Jacobian of an encoder of one layer is then known in closed form. A subclass with a ``forward`` of its own
    declares it anew; see `declares`.
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


def declares(code: Code, name: str) -> bool:
    """Whether a code says a property of its ``forward``, by an attribute that is at least as near as that method.

    What a class says of itself is not taken for true of a subclass that computes something else.

    Examples
    --------
    >>> from eigencode.parts import Point
    >>> from eigencode.parts.distributions import Delta
    >>> class Softmax(Point):
    ...     def forward(self, output):
    ...         return Delta(output.softmax(-1))
    >>> declares(Point(), "is_elementwise"), declares(Softmax(), "is_elementwise")
    (True, False)
    """
    if name in vars(code):
        return bool(vars(code)[name])
    said = next(cls for cls in type(code).__mro__ if name in vars(cls) or "forward" in vars(cls))
    return name in vars(said) and bool(getattr(code, name))
