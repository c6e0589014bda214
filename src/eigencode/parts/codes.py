"""Codes: what the encoder's output means, q(z|x)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from eigencode.parts.base import Sizes, Word
from eigencode.parts.distributions import Delta
from eigencode.parts.networks import activation_module


class Posterior(Protocol):
    """A distribution of codes that can be drawn from with noise given from outside."""

    @property
    def mean(self) -> Tensor:
        """The expected code, shape (n, k)."""

    def draw(self, noise: Tensor | None) -> Tensor:
        """A code for each row, differentiable, shape (n, k)."""


class Code(Word):
    """Turns the encoder's output into a distribution of codes.

    A subclass says how many numbers it wants from the encoder for k codes, what noise one draw takes, and the
    distribution itself.
    """

    is_stochastic: bool = False
    """Whether a code is drawn, so that a pass takes noise."""

    is_ordered: bool = False
    """Whether the first components are worth the most, so that a shorter code is a prefix of a longer one."""

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


class Point(Code):
    """The deterministic code z = a(f(x)).

    Parameters
    ----------
    activation : str or torch.nn.Module, optional
        Elementwise nonlinearity a of the code's units, as "sigmoid" for activities from 0 to 1; None is linear.

    Examples
    --------
    >>> import torch
    >>> Point()(torch.tensor([[1.0, 2.0]])).mean
    tensor([[1., 2.]])
    """

    def __init__(self, activation: str | nn.Module | None = None) -> None:
        super().__init__()
        self.activation = activation

    def setup(self, sizes: Sizes) -> None:
        """Make the nonlinearity."""
        self.nonlinearity = activation_module("identity" if self.activation is None else self.activation)

    def shrinkage(self, eigenvalues: Tensor) -> Tensor | None:
        """All of every direction for linear units: squared error alone is minimised by PCA (Baldi & Hornik, 1989)."""
        return torch.ones_like(eigenvalues) if self.activation in (None, "identity") else None

    def forward(self, output: Tensor) -> Delta:
        """A point mass at the activated output."""
        return Delta(output if self.activation is None else self.nonlinearity(output))


@dataclass(frozen=True)
class TruncatedDelta:
    """A point whose components past a drawn place are dropped, in training only."""

    value: Tensor

    @property
    def mean(self) -> Tensor:
        """The whole point, shape (n, k)."""
        return self.value

    def draw(self, noise: Tensor | None) -> Tensor:
        """The point, its components kept where the noise is 1."""
        return self.value if noise is None else self.value * noise


class NestedDropout(Code):
    """An ordered code: each training row keeps only its first b components, b drawn at random.

    Every prefix of the code so learns to reconstruct as well as it can alone, and one fit serves all smaller sizes
    (Rippel, Gelbart & Adams, 2014). The optimal linear components are the principal ones, in order. b is uniform on
    1..k, so that all sizes weigh the same.

    Examples
    --------
    >>> import torch
    >>> code = NestedDropout()
    >>> mask = code.draw_noise(3, 4, torch.Generator().manual_seed(0))
    >>> bool((mask.diff(dim=1) <= 0).all() and (mask[:, 0] == 1).all())
    True
    """

    is_stochastic = True
    is_ordered = True
    reweights = True

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """1 for the components kept and 0 for those dropped, shape (n, k)."""
        kept = torch.randint(n_components, (n_rows, 1), generator=generator, device=generator.device)
        return (torch.arange(n_components, device=generator.device) <= kept).float()

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """All of every direction: each prefix of PCA is the best of its size."""
        return torch.ones_like(eigenvalues)

    def forward(self, output: Tensor) -> TruncatedDelta:
        """A point that can be truncated."""
        return TruncatedDelta(output)
