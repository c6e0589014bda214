"""Priors on the code, p(z), with their divergence from q(z|x)."""

from __future__ import annotations

import math
from abc import abstractmethod

from torch import Tensor

from eigencode.parts.base import Sizes, Word
from eigencode.parts.codes import Posterior


class Prior(Word):
    """A density of codes; the divergence is KL(q, p) for a stochastic code and -log p(h) for a point."""

    @abstractmethod
    def divergence(self, q: Posterior, z: Tensor) -> Tensor:
        """One number a row, in nats, shape (n,)."""


class Laplace(Prior):
    r"""Independent Laplace densities: the L1 penalty of the sparse autoencoder.

    .. math:: -\log p(h) = \lambda \sum_i |h_i| - k \log \frac{\lambda}{2}

    Parameters
    ----------
    rate : float
        lambda, in nats for each unit of code.

    Examples
    --------
    >>> import torch
    >>> h = torch.tensor([[3.0, -1.0]])
    >>> Laplace(rate=2.0).divergence(None, h)
    tensor([8.])
    """

    def __init__(self, rate: float = 1.0) -> None:
        super().__init__()
        self.rate = rate

    def setup(self, sizes: Sizes) -> None:
        """Check the rate."""
        self.require_number("rate")

    def divergence(self, q: Posterior, z: Tensor) -> Tensor:
        """-log p(z) of a point code, shape (n,)."""
        return self.rate * z.abs().sum(1) - z.shape[1] * math.log(self.rate / 2)
