"""Likelihoods of codes: squared error of an activated output."""

from __future__ import annotations

from torch import Tensor, nn

from eigencode.parts.base import Sizes
from eigencode.parts.distributions import Gaussian
from eigencode.parts.likelihoods.base import Likelihood
from eigencode.parts.likelihoods.closed_forms import ActivatedExpansion
from eigencode.parts.networks.base import activation_module


class ActivatedLikelihood(Likelihood):
    r"""Normal around an activated output, for rows that are themselves activities of units.

    .. math:: -\log p(x|z) = \sum_j (x_j - a(g_j(z)))^2 + \mathrm{const}

    The codes of a layer of a stack are in the range of its activation a, and so is their reconstruction by the layer
    above: the "affine and squashing" decoder of Vincent et al. (2010). The unrolled decoder has the same nonlinearities
    as the encoder.

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
    expansion_type = ActivatedExpansion

    def __init__(self, activation: str | nn.Module = "relu") -> None:
        super().__init__()
        self.activation = activation

    def setup(self, sizes: Sizes) -> None:
        super().setup(sizes)
        self.nonlinearity = activation_module(self.activation)

    def forward(self, output: Tensor) -> Gaussian:
        return Gaussian(self.nonlinearity(output), 0.5)
