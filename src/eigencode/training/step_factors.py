"""Shorter steps for weights of outputs that are known precisely."""

from __future__ import annotations

import torch
from torch import Tensor

from eigencode.model.composition import Composition


@torch.no_grad()
def step_factors(composition: Composition) -> Tensor | None:
    r"""Factors of Adam's step size for all weights that are trained, in their order, shape (P,); None if all are 1.

    Adam moves each weight by about the step size, however precisely its output is known. A column whose noise has a
    standard deviation of .01 is then wrong by many deviations after one step, and so is a code whose posterior is
    narrow, from which such columns are decoded. So the rows of the last layers step in these units,

    .. math:: \min(\sqrt{v_j}, 1) \text{ in the decoder}, \qquad \min(\sigma_i, 1) \text{ in the encoder's means},

    for variances v of the columns that are learned, and sigma of q(z|x) at the mean row, both as they are at the start.
    """
    encoder, deviations = composition.encoder, composition.likelihood.deviations
    if encoder.affine is None or deviations is None:
        return None
    variance = composition.code(encoder.affine.bias[None]).variance
    if variance is None:
        return None
    inner = torch.ones_like(encoder.affine.bias)
    inner[: composition.n_components] = variance[0].sqrt().clamp(max=1)
    found = {
        parameter: factors.view(-1, *[1] * (parameter.dim() - 1)).expand_as(parameter)
        for network, factors in ((encoder, inner), (composition.decoder, deviations.clamp(max=1)))
        for layer in network.output_layers
        for parameter in layer.parameters()
    }
    trained = [parameter for parameter in composition.parameters() if parameter.requires_grad]
    return torch.cat([found.get(parameter, torch.ones_like(parameter)).reshape(-1) for parameter in trained])
