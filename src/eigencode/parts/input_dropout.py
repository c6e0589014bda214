"""InputDropout: known cells that the encoder does not see in training, so that it learns to impute."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eigencode.parts.base import Sizes, Term


class InputDropout(Term):
    r"""Hides known cells from the encoder in training, while the objective counts them.

    A share of each row is drawn uniformly between 0 and ``most``, and each block of columns is hidden with this
    probability, so that the encoder learns the code of rows with few and with many gaps.

    Parameters
    ----------
    most : float, default 0.5
        Largest share of a row that is hidden.
    block_widths : sequence of int, optional
        Numbers of neighbouring columns that are hidden together; None if each is by itself.

    Examples
    --------
    >>> import torch
    >>> dropout = InputDropout(most=1.0)
    >>> dropout.setup(Sizes(n_features=2, n_components=1))
    >>> dropout(torch.tensor([[True, True]]), torch.tensor([[0.5, 0.4, 0.6]]))
    tensor([[False,  True]])
    """

    ignores_idle_components = True
    is_stochastic = True
    numbers = ("most",)

    block: Tensor

    def __init__(self, most: float = 0.5, block_widths: Sequence[int] | None = None) -> None:
        super().__init__()
        self.most = most
        self.block_widths = block_widths

    def setup(self, sizes: Sizes) -> None:
        """Check the share, and number the blocks."""
        self.require_number("most", 0, 1, closed=True)
        widths = torch.tensor((1,) * sizes.n_features if self.block_widths is None else tuple(self.block_widths))
        self.register_buffer("block", torch.arange(len(widths)).repeat_interleave(widths), persistent=False)

    def draw_noise(self, n_rows: int, n_features: int, generator: torch.Generator) -> Tensor:
        """Uniform noise, one number a row and one for each of its blocks, shape (n, 1 + blocks)."""
        shape = n_rows, 2 + int(self.block[-1])
        return torch.rand(shape, generator=generator, device=generator.device)

    def forward(self, observed: Tensor, noise: Tensor) -> Tensor:
        """Which cells the encoder sees: True for known cells that are not hidden, shape (n, d)."""
        hidden = noise[..., 1:] < self.most * noise[..., :1]
        return observed & ~hidden[..., self.block]

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """1 for each direction: completed rows are encoded as known ones are."""
        return torch.ones_like(eigenvalues)
