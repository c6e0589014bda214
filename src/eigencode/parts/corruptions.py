"""Corruptions: C(x~|x), what is done to the network's input while the target stays clean."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from eigencode.parts.base import Part


class Corruption(Part):
    """Damages the input from noise that is drawn outside."""

    @abstractmethod
    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """The noise of one batch."""

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The corrupted input x~, shape (n, d)."""


class GaussianNoise(Corruption):
    r"""Adds independent normal noise to every cell of the scaled row.

    .. math:: \tilde x = x + \sqrt v \, \epsilon, \qquad \epsilon \sim N(0, I)

    The optimal linear denoiser keeps l / (l + v) of a direction with eigenvalue l, exactly.

    Parameters
    ----------
    variance : float
        v, in units of the scaled columns.

    Examples
    --------
    >>> import torch
    >>> GaussianNoise(variance=1.0).shrinkage(torch.tensor([3.0, 1.0]))
    tensor([0.7500, 0.5000])
    """

    def __init__(self, variance: float = 0.1) -> None:
        super().__init__()
        self.variance = variance

    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise, shape (n, d)."""
        return torch.randn((n_rows, n_features), generator=generator, device=generator.device)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The corrupted input x~, shape (n, d)."""
        return torch.add(x, noise.to(x.dtype), alpha=self.variance**0.5)

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """Keep l / (l + v) of each direction."""
        return eigenvalues / (eigenvalues + self.variance)
