"""Deterministic codes: the point, and the ordered point of nested dropout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eigencode.parts.base import Sizes
from eigencode.parts.codes.base import Code
from eigencode.parts.distributions import Delta
from eigencode.parts.networks.base import activation_module, is_elementwise


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

    ignores_idle_components = True

    def __init__(self, activation: str | nn.Module | None = None) -> None:
        super().__init__()
        self.activation = activation

    @property
    def is_elementwise(self) -> bool:  # type: ignore[override]
        """Whether the activation is known to be an elementwise function."""
        return self.activation is None or is_elementwise(self.activation)

    @property
    def is_identity(self) -> bool:  # type: ignore[override]
        """Whether there is no activation."""
        return self.activation in (None, "identity")

    def setup(self, sizes: Sizes) -> None:
        self.nonlinearity = activation_module("identity" if self.activation is None else self.activation)

    def shrinkage(self, eigenvalues: Tensor) -> Tensor | None:
        """1 for linear units: squared error alone is minimised by PCA (Baldi & Hornik, 1989)."""
        return torch.ones_like(eigenvalues) if self.is_identity else None

    def forward(self, output: Tensor) -> Delta:
        """A point mass at the activated output."""
        return Delta(output if self.activation is None else self.nonlinearity(output))


@dataclass(frozen=True)
class TruncatedDelta(Delta):
    """A point whose components after a drawn number of them are set to zero, in training only."""

    def draw(self, noise: Tensor | None) -> Tensor:
        """The point times the noise, which is 1 for components kept and 0 for the others."""
        return self.value if noise is None else self.value * noise


class NestedDropout(Code):
    """An ordered code: each training row keeps only its first b components, b drawn at random.

    So the first m components learn to reconstruct without the others, for each m, and one fit gives codes of all
    smaller sizes (Rippel, Gelbart & Adams, 2014). The best linear components are the principal ones, in order. b is
    uniform on 1..k, so that all sizes have the same weight.

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
    is_elementwise = True
    is_identity = True
    reweights = True

    def draw_noise(self, n_rows: int, n_components: int, generator: torch.Generator) -> Tensor:
        """1 for the components kept and 0 for those dropped, shape (n, k)."""
        kept = torch.randint(n_components, (n_rows, 1), generator=generator, device=generator.device)
        return (torch.arange(n_components, device=generator.device) <= kept).float()

    def shrinkage(self, eigenvalues: Tensor) -> Tensor:
        """1 for each direction: the first m components of PCA are the best linear code of size m."""
        return torch.ones_like(eigenvalues)

    def forward(self, output: Tensor) -> TruncatedDelta:
        """The point at the output, truncated by noise."""
        return TruncatedDelta(output)
