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
    from eigencode.parts.likelihoods.base import Likelihood


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
    alike : Composition or None
        The linear baseline, if it has the same objective at each row; it is evaluated in less time.
    """

    composition: Composition
    init: str
    alike: Composition | None = None

    def __repr__(self) -> str:
        n_weights = sum(tensor.numel() for tensor in self.composition.state_dict().values())
        return f"Start({self.init}, {n_weights} numbers)"


def build(composition: Composition, data: Data, n_components: int, seed: int) -> None:
    """Make the composition's tensors at random, in the rows' precision, and the decoder's bias the best constant."""
    make(composition, data, n_components, seed)
    set_constants(composition, data)


def make(composition: Composition, data: Data, n_components: int, seed: int) -> None:
    """Make the composition's tensors at random, in the rows' precision."""
    composition.setup(data.rows.n_features, n_components, generator(seed, "weights"), data.sizes)
    composition.to(data.rows.dtype).eval()
    if data.gaussian is not None and isinstance(composition.encoder, Completing):
        composition.encoder.describe_by(*vars(data.gaussian).values())


def set_constants(composition: Composition, data: Data) -> None:
    """Set what the likelihood takes from all rows, and the decoder's bias to the best constant."""
    composition.likelihood.prepare(data.typical, data.n_represented)
    bias = composition.decoder.output_bias
    if bias is not None:
        with torch.no_grad():
            bias.copy_(composition.likelihood.expansion.constant(data.typical))


def begin_at(
    composition: Composition, data: Data, start: LinearStart | None, is_newton: bool, is_rough: bool = False
) -> float | None:
    """Set a model's weights to a start, and calibrate it, roughly if it is one of many; return the step's length."""
    if start is not None:
        set_linear(composition, start)
    return calibrate(composition, data.typical, start, is_newton, is_rough=is_rough)


@torch.no_grad()
def calibrate(
    composition: Composition,
    batch: Batch,
    start: LinearStart | None = None,
    is_newton: bool = False,
    is_pretrained: bool = False,
    is_rough: bool = False,
) -> float | None:
    """Estimate from rows what a start does not give: the length of a Newton step, states of terms, the noise's scale.

    Parameters of a pretrained likelihood are kept, unless they are nothing but the scale of the noise.
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
    elif _has_parameters(composition.likelihood) and not (is_pretrained and expansion.moves_means):
        expansion.calibrate(sample, _outputs(composition, sample))
    return length


def _has_parameters(likelihood: Likelihood) -> bool:
    """Whether there is anything to calibrate."""
    return next(likelihood.parameters(), None) is not None


@torch.no_grad()
def begin_as(composition: Composition, linear: Composition, data: Data) -> bool:
    """Set a model's linear paths and terms to those of a linear model; return whether it then has the same outputs.

    What the likelihood and the decoder's bias take from all rows is the linear model's too. A network beside its linear
    path starts at zero, so that what `calibrate` found for the linear model holds for it.
    """
    for own, other in zip(_of_start(composition), _of_start(linear), strict=True):
        if own.shape != other.shape:
            return False
        own.copy_(other)
    composition.likelihood.load_state_dict(linear.likelihood.state_dict())  # the networks' first states may need it
    sample = data.sample.to(next(composition.parameters()).device)
    composition.begin(sample, linear)
    few = sample.thinned(FEW_ROWS)
    return torch.allclose(_outputs(linear, few), _outputs(composition, few))


def _of_start(composition: Composition) -> list[Tensor]:
    """The linear paths and the decoder's bias."""
    affine, bias = (composition.encoder.affine, composition.decoder.affine), composition.decoder.output_bias
    return [*(tensor for path in affine if path for tensor in path.parameters()), *([] if bias is None else [bias])]


def _outputs(composition: Composition, rows: Batch) -> Tensor:
    """What the decoder makes of the mean codes of rows."""
    return composition.decoder(composition.encode(*rows.cells).mean)


def find_start(options: AutoencoderOptions, model: Model, data: Data, seed: int) -> Start:
    """The baseline's linear map if the model can start as one, else random weights around the best constant."""
    composition, linear = model.made(data, seed), None
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
    alike = None if linear is None or model.baseline is None else model.baseline.composition
    if alike is not None and not begin_as(composition, alike, data):
        composition, alike = model.made(data, seed), None
    if alike is None:
        set_constants(composition, data)
        begin_at(composition, data, linear, model.has_working_units)
    # The others may depend on weights that the linear model does not have.
    has_same_objective = not composition.penalties and composition.weight_prior is None
    return Start(composition, "random" if linear is None else "linear", alike if has_same_objective else None)
