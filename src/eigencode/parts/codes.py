"""Codes: what the encoder's output means, q(z|x)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
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

    is_ordered: bool = False
    """Whether the first components are worth the most, so that a shorter code is a prefix of a longer one."""

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
