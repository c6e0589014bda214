"""Shorter steps for weights of outputs that are known precisely, and of wide layers; a decay beside a linear path."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eigencode.model.composition import Composition

WIDE = 128
"""Inputs of a layer beside a linear path from which its steps are shorter, and its decay is whole."""

DECAY = 0.3
"""Decay of the weights of wide layers, as a share of them for a step of size 1."""

ENOUGH_CELLS = 100
"""Cells of the training rows for each weight of the model, with more of which weights decay less."""


@torch.no_grad()
def step_factors(composition: Composition) -> Tensor | None:
    """Factors of Adam's step size for all weights that are trained, in their order, shape (P,); None if all are 1."""
    outputs, layers = _of_outputs(composition), _of_wide_layers(composition)
    if not outputs and all(factor == 1 for factor in layers.values()):
        return None
    factors = torch.cat(
        [(torch.ones_like(p) * outputs.get(p, 1.0) * layers.get(p, 1.0)).reshape(-1) for p in _trained(composition)]
    )
    return None if bool((factors == 1).all()) else factors


@torch.no_grad()
def weight_decay(composition: Composition, n_rows: int | None) -> Tensor | None:
    r"""Decay of all weights that are trained, in their order, shape (P,), as a share for a step of size 1; None if 0.

    Steps of Adam have about the same length however little a weight matters, so weights that matter little grow with
    the number of steps, by chance, and the model learns its rows by heart. Weights of layers of n inputs beside a
    linear path therefore decay, apart from their gradient, by

    .. math:: 0.3 \min(n / 128, 1) \min(100 P / (N d), 1)

    of themselves for a step of size 1; of a transposed convolution, n is the number of weights of one input. Narrow
    layers have few weights, with which columns may be rebuilt exactly. N rows of d columns that are many beside all P
    weights of the model cannot be learned by heart; if N is not known, the last factor is 1. The linear path has no
    decay, since the model is then what its start is, nor has a model with a prior of its weights, whose objective says
    how large they are.
    """
    if composition.weight_prior is not None:
        return None
    networks = (composition.encoder, composition.decoder)
    beside = {p for n in networks if n.affine is not None for p in set(n.parameters()) - set(n.affine.parameters())}
    trained = _trained(composition)
    n_weights, n_cells = sum(p.numel() for p in trained), (n_rows or 0) * composition.n_features
    whole = DECAY * min(ENOUGH_CELLS * n_weights / max(n_cells, 1), 1.0)
    shares = {p: whole * min(p[0].numel() / WIDE, 1.0) for p in beside if p.dim() > 1}
    decay = torch.cat([torch.full_like(p, shares.get(p, 0.0)).reshape(-1) for p in trained])
    return decay if bool(decay.any()) else None


def _trained(composition: Composition) -> list[nn.Parameter]:
    """The parameters that are trained, in their order."""
    return [parameter for parameter in composition.parameters() if parameter.requires_grad]


def _of_outputs(composition: Composition) -> dict[nn.Parameter, Tensor]:
    r"""Factors of the last layers' weights, of the weights' shapes.

    Adam moves each weight by about the step size, however precisely its output is known. A column whose noise has a
    standard deviation of .01 is then wrong by many deviations after one step, and so is a code whose posterior is
    narrow, from which such columns are decoded. So the rows of the last layers step in these units,

    .. math:: \min(\sqrt{v_j}, 1) \text{ in the decoder}, \qquad \min(\sigma_i, 1) \text{ in the encoder's means},

    for variances v of the columns that are learned, and sigma of q(z|x) at the mean row, both as they are at the start.
    """
    encoder, deviations = composition.encoder, composition.likelihood.deviations
    if encoder.affine is None or deviations is None:
        return {}
    variance = composition.code(encoder.affine.bias[None]).variance
    if variance is None:
        return {}
    inner = torch.ones_like(encoder.affine.bias)
    inner[: composition.n_components] = variance[0].sqrt().clamp(max=1)
    return {
        parameter: factors.view(-1, *[1] * (parameter.dim() - 1)).expand_as(parameter)
        for network, factors in ((encoder, inner), (composition.decoder, deviations.clamp(max=1)))
        for layer in network.output_layers
        for parameter in layer.parameters()
    }


def _of_wide_layers(composition: Composition) -> dict[nn.Parameter, float]:
    r"""Factors of the weights of an encoder's layers beside its linear path.

    Adam moves all weights of a unit by about the step size at once, and so its input by that times the sum of the
    activations before it. Those layers start without an effect, and their first gradients say little more than that
    less of them were better: with some hundred inputs the units are below the range of their activation within 30
    steps, where their gradients are zero, so that they never learn. Layers of n inputs step by

    .. math:: \min(128 / n, 1).

    The decoder's layers need no shorter steps, since rows cannot be reconstructed without them, and the weights of a
    tied encoder are the decoder's.
    """
    path = composition.encoder.affine
    if path is None or composition.decoder.is_tied:
        return {}
    layers = set(composition.encoder.parameters()) - set(path.parameters())
    return {p: min(WIDE / p[0].numel(), 1.0) for p in layers if p.dim() > 1}
