"""Completing: an encoder of rows with gaps, which are filled by their conditional mean and indicated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.parts.networks.base import Network
from eigencode.parts.networks.chains import Within
from eigencode.parts.networks.hidden_cells import Covariance, covariance_times


class Completing(Within):
    r"""A network of rows with gaps: cells filled by their mean given the known ones, and which were missing.

    Under a normal density of rows with mean m and covariance W W' + D, where D is diagonal, and with o for the known
    cells of a row, the conditional mean of all cells is

    .. math:: m + W (I + W_o^\top D_o^{-1} W_o)^{-1} W_o^\top D_o^{-1} (x_o - m_o)

    Known cells stay as they are. The network's inputs are the d cells and one indicator for each block of columns, 1
    where it is missing. The density is estimated before training (`eigencode.model.gaussian`), and not trained.

    Parameters
    ----------
    network : Network
        The network of the completed rows.
    rank : int
        Number of columns of W.
    block_widths : sequence of int, optional
        Numbers of neighbouring columns that are known or missing together; None if each is by itself.
    indicates : bool, default True
        Whether the network gets the indicators.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import MLP
    >>> network = Completing(MLP(), rank=1)
    >>> network.setup(2, 1, torch.Generator().manual_seed(0))
    >>> network.describe_by(
    ...     torch.zeros(2), torch.tensor([[1.0], [2.0]]), torch.tensor([1e-6, 1e-6])
    ... )
    >>> network.completed(torch.tensor([[3.0, torch.nan]])).round(decimals=3)
    tensor([[3., 6.]])
    """

    sees_gaps = True

    center: Tensor
    loadings: Tensor
    noise: Tensor
    first: Tensor

    def __init__(
        self, network: Network, rank: int, block_widths: Sequence[int] | None = None, indicates: bool = True
    ) -> None:
        super().__init__()
        self.network = network
        self.rank = rank
        self.block_widths = block_widths
        self.indicates = indicates

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the network's tensors, and a density of independent columns."""
        widths = torch.tensor((1,) * n_inputs if self.block_widths is None else tuple(self.block_widths))
        self.register_buffer("first", widths.cumsum(0) - widths, persistent=False)
        self.register_buffer("center", torch.zeros(n_inputs))
        self.register_buffer("loadings", torch.zeros(n_inputs, self.rank))
        self.register_buffer("noise", torch.ones(n_inputs))
        self.network.setup(n_inputs + self.indicates * len(widths), n_outputs, generator)

    def describe_by(self, center: Tensor, loadings: Tensor, noise: Tensor) -> None:
        """Set the density: the mean, shape (d,), W, shape (d, rank), and the diagonal of D, shape (d,)."""
        self.center.copy_(center)
        self.loadings.copy_(loadings)
        self.noise.copy_(noise)

    @property
    def has_linear_path(self) -> bool:  # type: ignore[override]
        """Whether the network has a linear path."""
        return self.network.has_linear_path

    @property
    def affine(self) -> torch.nn.Linear | None:  # type: ignore[override]
        """The network's linear path."""
        return self.network.affine

    def completed(self, x: Tensor) -> Tensor:
        """Rows of shape (..., n, d) with a number for each NaN."""
        missing = x.isnan()
        center, loadings, noise = (tensor.double() for tensor in (self.center, self.loadings, self.noise))
        cells = torch.where(missing, center, x.double()) - center
        moved = covariance_times(missing, Covariance(loadings, noise).pull(cells), loadings, noise)
        return torch.where(missing, (center + moved).to(x.dtype), x)

    def conditional(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each cell of rows of shape (n, d), given the cells that are not NaN."""
        covariance = Covariance(self.loadings.double(), self.noise.double())
        # The shapes in a graph do not depend on the rows' gaps.
        variances = covariance.variances_by_codes if torch.compiler.is_compiling() else covariance.variances
        return self.completed(x), variances(x.isnan()).to(x.dtype)

    def conditional_noise(self, rows: Batch, n_draws: int, generator: torch.Generator) -> Tensor:
        """Draws from the normal density given the known cells, minus its conditional mean, shape (m, n, d).

        A row drawn from the whole density minus its own conditional mean has the conditional covariance.
        """
        like = rows.x
        options: dict[str, Any] = {"generator": generator, "device": rows.x.device, "dtype": rows.x.dtype}
        codes = torch.randn((n_draws, len(rows), self.rank), **options)
        noise = torch.randn((n_draws, *like.shape), **options)
        drawn = self.center.to(like) + codes @ self.loadings.T.to(like) + noise * self.noise.sqrt().to(like)
        return drawn - self.completed(drawn if rows.observed is None else drawn.where(rows.observed, torch.nan))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network to rows of shape (..., n, d), with NaN in gaps."""
        completed = self.completed(x)
        if not self.indicates:
            return self.network(completed)
        return self.network(torch.cat([completed, x[..., self.first].isnan().to(x.dtype)], dim=-1))
