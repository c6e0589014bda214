"""Likelihoods of codes: squared error of an activated output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eigencode.parts.base import Sizes
from eigencode.parts.distributions import Gaussian
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.networks.base import activation_module

FARTHEST = 8.0
"""Where bounded activations have come to their ends, but for a thousandth."""


class ActivatedLikelihood(Likelihood):
    r"""Normal around an activated output, for rows that are themselves activities of units.

    .. math:: -\log p(x|z) = \sum_j (x_j - a(g_j(z)))^2 + \mathrm{const}

    The codes of a layer of a stack have the range of its activation a, and so has the reconstruction that the layer
    above makes of them: the "affine and squashing" decoder of Vincent et al. (2010). Unrolled, the decoder is as
    nonlinear as the encoder.

    Parameters
    ----------
    activation : str or torch.nn.Module
        The units' nonlinearity a.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import Sizes
    >>> likelihood = ActivatedLikelihood("relu")
    >>> likelihood.setup(Sizes(n_features=2, n_components=1))
    >>> likelihood(torch.tensor([[-3.0, 2.0]])).mean
    tensor([[0., 2.]])
    """

    in_data_units = True

    def __init__(self, activation: str | nn.Module = "relu") -> None:
        super().__init__()
        self.activation = activation

    def setup(self, sizes: Sizes) -> None:
        """Make the nonlinearity."""
        super().setup(sizes)
        self.nonlinearity = activation_module(self.activation)

    def constant(self, x: Tensor) -> Tensor:
        """Where the activation takes the columns' means, by bisection: activations rise."""
        mean = self.target(x).mean(0)
        low, high = torch.full_like(mean, -FARTHEST), torch.maximum(mean, mean.new_tensor(FARTHEST))
        for _ in range(60):
            middle = (low + high) / 2
            is_below = self.nonlinearity(middle) < mean
            low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
        return (low + high) / 2

    def forward(self, output: Tensor) -> Gaussian:
        """A normal around each activated cell of the output."""
        return Gaussian(self.nonlinearity(output), 0.5)
