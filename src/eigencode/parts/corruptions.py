"""Corruptions: C(x~|x), what is done to the network's input while the target stays clean."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.parts.base import Sizes, Word

if TYPE_CHECKING:
    from eigencode.starts import LinearProblem, LinearStart


class Corruption(Word):
    """Damages the input from noise that is drawn outside."""

    @abstractmethod
    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """The noise of one batch."""

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The corrupted input x~, shape (n, d)."""

    def cell_moments(self, variance: Tensor) -> tuple[float, Tensor, Tensor] | None:
        """q, c, D with E[x~_j | x] = q x_j + c_j and mean residual variance D_j, for scaled columns of a variance.

        None where cells are not corrupted independently, or not known to be.
        """
        return None

    def linear_start(self, problem: LinearProblem) -> LinearStart | None:
        """The best linear denoiser of its rank, where the corruption's moments are known."""
        variance = problem.rows.square().mean(0, dtype=torch.float64)
        moments = self.cell_moments(variance)
        return None if moments is None else problem.denoised(*moments)


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
    >>> noise = GaussianNoise(variance=0.25)
    >>> noise(torch.zeros(1, 2), torch.tensor([[1.0, -2.0]]))
    tensor([[ 0.5000, -1.0000]])
    """

    def __init__(self, variance: float = 0.1) -> None:
        super().__init__()
        self.variance = variance

    def setup(self, sizes: Sizes) -> None:
        """Check the variance."""
        self.require_number("variance", closed=True)

    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """Standard normal noise, shape (n, d)."""
        return torch.randn((n_rows, n_features), generator=generator, device=generator.device)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """The corrupted input x~, shape (n, d)."""
        return torch.add(x, noise.to(x.dtype), alpha=self.variance**0.5)

    def cell_moments(self, variance: Tensor) -> tuple[float, Tensor, Tensor]:
        """The cell itself, and v around it."""
        return 1.0, torch.zeros_like(variance), torch.full_like(variance, self.variance)
