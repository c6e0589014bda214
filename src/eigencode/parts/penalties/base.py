"""Penalty: a further term Omega of the objective, one number for each row."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.parts.base import Term

if TYPE_CHECKING:
    from eigencode.model.composition import Composition, Trace


class Penalty(Term):
    """A term added to the objective, computed from the trace of a batch.

    Examples
    --------
    Your own penalty needs one method:

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
    """Whether the penalty depends on the code drawn, or on its reconstruction.

    If several codes are drawn for a row, such a penalty is computed for each draw separately, and the mean is used; any
    other penalty is computed once.
    """

    def draw_noise(self, n_rows: int, composition: Composition, generator: torch.Generator) -> Tensor | None:
        """The noise of one batch if the penalty declares ``is_stochastic``, else None."""
        return None

    @abstractmethod
    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """One number for each row, shape (n,), or a scalar for a statistic of the whole batch.

        In the trace ``z`` has shape (n, k); columns and components are always the last axis.
        A penalty that draws noise has a third argument: its noise, or None for a pass without noise.
        """
