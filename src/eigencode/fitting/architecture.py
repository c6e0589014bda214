"""The encoder and the decoder for given options, as networks without tensors."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from sklearn.base import clone
from torch import Tensor, nn

from eigencode.data.memory import require_memory
from eigencode.errors import OptionError
from eigencode.fitting.step_size import power_of_two
from eigencode.options import given_or
from eigencode.parts.input_dropout import InputDropout
from eigencode.parts.networks.base import Network, activation_module
from eigencode.parts.networks.completing import Completing
from eigencode.parts.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from eigencode.parts.networks.custom import as_network
from eigencode.parts.networks.dense import MLP, LinearPath, Tied

if TYPE_CHECKING:
    from eigencode.data.rows import Rows
    from eigencode.fitting.data import Data
    from eigencode.options import AutoencoderOptions

DEEPEST = 16
"""Largest depth; a larger number was probably meant as a width, hidden=(100,)."""

STAGES, FIRST_CHANNELS = 2, 32
"""Number of convolutional stages, and channels of the first; they double from stage to stage."""

PATH_WEIGHTS = 2**23
"""Most weights of a linear path parallel to layers, as of 10 components and 500 x 500 pixels in 3 channels."""


def networks_of(
    options: AutoencoderOptions,
    hidden: tuple[int, ...],
    images: tuple[int, ...],
    sizes: tuple[int, int],
    starts_linear: bool,
) -> tuple[Network, Network]:
    """The encoder and the decoder, with parallel linear paths if they can start as a linear map.

    ``hidden`` are the widths of the hidden layers, from the data to the code, ``images`` channels, height and width of
    the images fitted, ``sizes`` the numbers of columns and of components.
    """
    if options.tied and options.decoder is not None:
        raise OptionError("Set either 'tied' or 'decoder', not both", got=f"tied=True and decoder={options.decoder!r}")
    shape = images if options.image_shape == "auto" else options.image_shape
    is_small = sizes[0] * sizes[1] <= PATH_WEIGHTS or not hidden
    path = starts_linear and options.init != "random" and is_small
    layers = _layers(hidden, options.activation, shape, ConvolutionalEncoder)
    encoder = _network(options.encoder, layers, path, gated=options.tied)
    if options.tied:
        return encoder, Tied()
    layers = _layers(hidden[::-1], options.activation, shape, ConvolutionalDecoder)
    return encoder, _network(options.decoder, layers, path)


def with_gaps(
    encoder: Network, indicates: bool, terms: Mapping[str, Any], data: Data
) -> tuple[Network, InputDropout | None]:
    """The encoder of rows with gaps, and the cells that are hidden from it in training; unchanged without gaps.

    Nothing is hidden from an encoder whose code has a variance: its objective is a bound on the density of the known
    cells, and hidden ones are far less certain than a code that is made for all cells says.
    """
    if data.gaussian is None:
        return encoder, None
    if encoder.sees_gaps:
        return encoder, None
    blocks = terms["likelihood"].block_widths(data.rows.n_features)
    widths = None if set(blocks) == {1} else blocks
    input_dropout = InputDropout(block_widths=widths) if terms["code"].width(1) == 1 else None
    return Completing(encoder, data.gaussian.rank, widths, indicates), input_dropout


def widths_of(options: AutoencoderOptions, sizes: tuple[int, int], rows: Rows) -> tuple[int, ...]:
    """Widths of the hidden layers, or channels of the stages for images; () if both networks are the user's.

    An error if the weights, with gradients and optimiser states, would not fit into memory.
    """
    n_stages = STAGES if options.hidden == "auto" else options.hidden
    if options.encoder is not None and (options.decoder is not None or options.tied):
        hidden: tuple[int, ...] = ()
    elif options.image_shape is not None and isinstance(n_stages, int):
        hidden = tuple(FIRST_CHANNELS * 2**stage for stage in range(n_stages))
    else:
        hidden = hidden_of(options.hidden, *sizes, rows.n_usable)
    widths = [sizes[0], *hidden, sizes[1]]
    layers = sum(a * b for a, b in pairwise(widths)) + widths[0] * widths[-1]
    # Weights, gradient, two moments or the history of L-BFGS, the best weights, and temporary copies of these.
    copies = 8 if options.optimizer != "lbfgs" else 110
    activations = 4 * sum(widths) * given_or(options.batch_size, 256)
    n_bytes = rows.dtype.itemsize * (2 * layers * copies + activations)
    require_memory(n_bytes, "The network", "Try narrower hidden layers, or smaller batches")
    return hidden


def geometric_widths(n_features: int, n_components: int, depth: int) -> tuple[int, ...]:
    """Widths of ``depth`` hidden layers that fall (or rise) geometrically from the data to the code."""
    ratio = n_components / n_features
    return tuple(max(round(n_features * ratio ** (i / (depth + 1))), 1) for i in range(1, depth + 1))


def hidden_widths(n_features: int, n_components: int, n_rows: int) -> tuple[int, ...]:
    """Widths of the encoder's hidden layers.

    Two layers, the second one narrower, if there are enough rows to train them, else one.
    """
    first = power_of_two(4 * n_features, 32, 512)
    if n_rows < 5_000:
        return (min(first, 128),)
    return (first, max(first // 2, power_of_two(n_components, 16, 512)))


def hidden_of(asked: Any, n_features: int, n_components: int, n_rows: int) -> tuple[int, ...]:
    """Widths of the hidden layers: as given, of the given depth, or derived from the data."""
    if asked == "auto":
        return hidden_widths(n_features, n_components, n_rows)
    if isinstance(asked, Integral):
        if int(asked) > DEEPEST:
            raise OptionError(
                "One number for 'hidden' is a depth",
                got=f"{asked} layers",
                hint=f"For one layer write hidden=({asked},)",
            )
        return geometric_widths(n_features, n_components, int(asked))
    return tuple(int(width) for width in asked)


def _layers(
    hidden: tuple[int, ...],
    activation: Any,
    image_shape: tuple[int, ...] | None,
    convolutional: type[ConvolutionalEncoder | ConvolutionalDecoder],
) -> Network:
    """Layers of the given widths, convolutional ones for images."""
    for width in hidden:
        _require_elementwise(activation, width)
    if image_shape is None or not hidden:
        return MLP(hidden, activation)
    return convolutional(tuple(image_shape), hidden, activation)


def _network(given: Any, layers: Network, linear_path: bool, gated: bool = False) -> Network:
    """The user's network, or the given layers, with a parallel linear path if ``linear_path``."""
    if given is not None:
        if not isinstance(given, nn.Module):
            raise OptionError("A network must be a part or a torch module", got=f"{given!r} instead")
        return as_network(clone(given, safe=False))
    return LinearPath(layers, gated=gated) if linear_path and not layers.has_linear_path else layers


def _require_elementwise(activation: Any, width: int) -> None:
    """Raise an error if an activation does not work elementwise on rows of a width."""
    if isinstance(activation, str):
        return  # a name, which the options have checked
    found: Any = None
    try:
        if isinstance(activation, nn.Module):
            probe = torch.zeros(2, width, dtype=next((p.dtype for p in activation.parameters()), torch.float32))
            with torch.no_grad():
                found = activation_module(activation).eval()(probe)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        found = error
    if not isinstance(found, Tensor) or found.shape != (2, width):
        raise OptionError(
            "The activation must be a known name or an elementwise torch module",
            got=f"{activation!r} instead" + (f", and the error {found}" if isinstance(found, Exception) else ""),
        )
