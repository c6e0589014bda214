"""Penalties: any further term Omega of the objective, one number a row."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.parts.base import Term

if TYPE_CHECKING:
    from eigencode.model.composition import Composition, Trace


class Penalty(Term):
    """A term added to the objective, computed from what happened to a batch.

    Examples
    --------
    A penalty of your own is one method:

    >>> from eigencode import Autoencoder
    >>> from eigencode.parts import Penalty
    >>> class Smoothness(Penalty):
    ...     numbers = ("weight",)
    ...
    ...     def __init__(self, weight=0.1):
    ...         super().__init__()
    ...         self.weight = weight
    ...
    ...     def forward(self, trace, composition):
    ...         return self.weight * trace.z.diff(dim=-1).square().sum(-1)
    >>> Autoencoder(penalties=[Smoothness(weight=0.2)])
    Autoencoder(penalties=[Smoothness(weight=0.2)])
    """

    sees_draws: bool = True
    """Whether it looks at the code drawn, or at what is decoded from it.

    Where several codes are drawn for a row, such a penalty is asked about each draw for itself, as if it were the only
    one, and counts by the mean of its answers; any other is asked once.
    """

    def draw_noise(self, n_rows: int, composition: Composition, generator: torch.Generator) -> Tensor | None:
        """The noise of one batch where the penalty declares ``is_stochastic``, else None."""
        return None

    @abstractmethod
    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """One number a row, shape (n,), or a scalar for a statistic of the whole batch.

        In the trace ``z`` has shape (n, k), and columns and components are always the last axis.
        A penalty that draws noise takes a third argument: its noise, or None where a pass is without.
        """
