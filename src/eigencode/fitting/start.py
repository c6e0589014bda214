"""Start: the weights that training begins with, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.fitting.data import CALIBRATION_ROWS, Data
from eigencode.model.composition import Composition
from eigencode.model.initialization import LinearStart, backtrack, set_linear
from eigencode.parts.networks.completing import Completing
from eigencode.training.rng import generator

if TYPE_CHECKING:
    from eigencode.fitting.model import Model
    from eigencode.options import AutoencoderOptions


FEW_ROWS = 64
"""Rows by which two models are compared."""


@dataclass(frozen=True, eq=False)
class Start:
    """The weights that training begins with, and why.

    Attributes
    ----------
    composition : Composition
        The model with these weights, which the run takes over.
    init : {"linear", "random", "pretrained"}
        Their origin: a linear map, random numbers, or models that were trained before.
    """

    composition: Composition
    init: str

    def __repr__(self) -> str:
        n_weights = sum(tensor.numel() for tensor in self.composition.state_dict().values())
        return f"Start({self.init}, {n_weights} numbers)"


def build(composition: Composition, data: Data, n_components: int, seed: int) -> None:
    """Make the composition's tensors at random, in the rows' precision, and the decoder's bias the best constant."""
    composition.setup(data.rows.n_features, n_components, generator(seed, "weights"), data.sizes)
    composition.to(data.rows.dtype).eval()
    composition.likelihood.prepare(data.typical)
    if data.gaussian is not None and isinstance(composition.encoder, Completing):
        composition.encoder.describe_by(*vars(data.gaussian).values())
    bias = composition.decoder.output_bias
    if bias is not None:
        with torch.no_grad():
            bias.copy_(composition.likelihood.expansion.constant(data.typical))


def begin_at(
    composition: Composition,
    data: Data,
    start: LinearStart | None,
    is_newton: bool,
    is_rough: bool = False,
    alike: Composition | None = None,
) -> float | None:
    """Set a model's weights to a start, and calibrate it, roughly if it is one of many; return the step's length."""
    if start is not None:
        set_linear(composition, start)
    return calibrate(composition, data.typical, start, is_newton, is_rough=is_rough, alike=alike)


@torch.no_grad()
def calibrate(
    composition: Composition,
    batch: Batch,
    start: LinearStart | None = None,
    is_newton: bool = False,
    is_pretrained: bool = False,
    is_rough: bool = False,
    alike: Composition | None = None,
) -> float | None:
    """Estimate from rows what a start does not give: the length of a Newton step, states of terms, the noise's scale.

    Parameters of a pretrained likelihood are kept, unless they are nothing but the scale of the noise. A smaller model
    ``alike`` gives the outputs in less time, where they are the same.
    """
    sample = batch.thinned(CALIBRATION_ROWS).to(next(composition.parameters(), batch.x).device)
    expansion = composition.likelihood.expansion.rough if is_rough else composition.likelihood.expansion
    sample = expansion.few(sample) if is_rough else sample
    noise = None if start is None else start.noise_variance
    is_given = isinstance(noise, Tensor) or (noise is not None and expansion.variance is None)
    length = None
    if start is not None and is_newton and not is_given:
        length = backtrack(composition, sample, is_rough, start.length)
    composition.begin(sample)
    if noise is not None and is_given:
        expansion.set_spread(noise)
    elif not (is_pretrained and expansion.moves_means):
        few = sample.thinned(FEW_ROWS)
        is_alike = alike is not None and torch.allclose(_outputs(alike, few), _outputs(composition, few))
        expansion.calibrate(sample, _outputs(alike if alike is not None and is_alike else composition, sample))
    return length


def _outputs(composition: Composition, rows: Batch) -> Tensor:
    """What the decoder makes of the mean codes of rows."""
    return composition.decoder(composition.encode(*rows.cells).mean)


def find_start(options: AutoencoderOptions, model: Model, data: Data, seed: int) -> Start:
    """The baseline's linear map if the model can start as one, else random weights around the best constant."""
    composition, linear = model.built(data, seed), None
    if model.baseline is not None and composition.encoder.has_linear_path and composition.decoder.has_linear_path:
        linear = model.baseline.start
    if options.init == "linear" and linear is None:
        raise OptionError(
            "init='linear' needs a code that is the encoder's output, a likelihood with one output for each column, "
            "and networks with a linear path",
            got=f"{composition!r}",
            hint="Use init='auto' or init='random'",
        )
    # Convolutional networks learn less from the linear start than from random weights (docs/log.md).
    if options.init == "random" or (options.init == "auto" and options.image_shape is not None):
        linear = None
    # Beside its linear path a network starts at zero, so the baseline has the same outputs.
    alike = None if linear is None or model.baseline is None else model.baseline.composition
    begin_at(composition, data, linear, model.has_working_units, alike=alike)
    return Start(composition, "random" if linear is None else "linear")
