r"""Networks for images: convolutions that halve the image, and transposed convolutions that double it.

Rows are flat: an image of shape (c, h, w) is a row of d = c h w numbers in that order, so that scaling, likelihoods,
closed-form starts and files need no code for images. Each stage of the encoder is a convolution of stride 2,

.. math:: y_{o, i, j} = a \Bigl( b_o + \sum_{c, k, l} W_{o, c, k, l} \, x_{c, \, 2 i + k - 1, \, 2 j + l - 1} \Bigr)

(-2 instead of -1 along an odd side), and each stage of the decoder is the transpose of one. The kernel is 4 x 4: a
multiple of the stride, so that each pixel of the larger image is reached equally often; 3 x 3 kernels give checkerboard
patterns (Odena et al., 2016). A side of n becomes one of n / 2, rounded up; a side of one pixel is not changed and has
a kernel of 1.

The memory layout is channels last, which is faster for convolutions on processors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from eigencode.errors import OptionError, is_int
from eigencode.parts.networks.base import (
    EndsLinear,
    Network,
    Undrawn,
    activation_module,
    draw_weights,
    in_parts,
    is_elementwise,
    linear_layer,
)

STRIDE = 2
"""Each stage halves the image."""

KERNEL = 4
"""A multiple of the stride, so that a transposed convolution reaches all pixels equally often."""

PADDING = (KERNEL - STRIDE) // 2
"""Zero padding of an even side, with which n becomes n / 2; an odd side has one more pixel, and n / 2 is rounded up."""


class _Convolutional(Network):
    """Common arguments, and their checks, of the encoder and the decoder."""

    def __init__(
        self, image_shape: Sequence[int], channels: Sequence[int], activation: str | nn.Module = "gelu"
    ) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.channels = channels
        self.activation = activation

    def _image(self) -> tuple[int, ...]:
        """Check and return (channels, height, width)."""
        shape = self._positive_integers("image_shape", "three positive integers (channels, height, width)")
        if len(shape) != 3:
            raise OptionError(
                f"The 'image_shape' parameter of {type(self).__name__} must be three numbers (channels, height, width)",
                got=f"{self.image_shape!r} instead",
                hint=f"Use image_shape=(1, {shape[0]}, {shape[1]}) for images of one channel"
                if len(shape) == 2
                else None,
            )
        return shape

    def _widths(self) -> tuple[int, ...]:
        """Check and return the channels of each stage."""
        widths = self._positive_integers("channels", "at least one positive integer, one a stage")
        if not widths:
            raise OptionError(
                f"The 'channels' parameter of {type(self).__name__} must name at least one stage",
                got="none",
                hint="Use an MLP for networks without convolutions",
            )
        return widths

    direction: ClassVar[int]
    """1 if images shrink from stage to stage, -1 if they grow."""

    @property
    def multiply_adds(self) -> int:
        """The weights of each convolution times the pixels of the smaller of its two images."""
        _, height, width = self._image()
        sizes = _halved_sizes((height, width), len(self._widths()))[1:][:: self.direction]
        kernels = (p.numel() for p in self.parameters() if p.dim() == 4)
        dense = sum(p.numel() for p in self.parameters() if p.dim() == 2)
        return dense + sum(n * math.prod(size) for n, size in zip(kernels, sizes, strict=True))

    def _in_parts(self, network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Apply the whole network, to a part of the rows at a time if that is of no consequence."""
        return in_parts(network, rows, self._largest) if is_elementwise(self.activation) else network(rows)

    @property
    def _largest(self) -> int:
        """Most numbers in the images that one row becomes."""
        (channels, height, width), widths = self.image_shape, self.channels
        sizes = _halved_sizes((height, width), len(widths))[1:][:: self.direction]
        largest = max(n * math.prod(size) for n, size in zip(widths, sizes, strict=True))
        return max(channels * height * width, largest)

    def _positive_integers(self, name: str, wanted: str) -> tuple[int, ...]:
        value: Any = getattr(self, name)
        is_sequence = isinstance(value, Sequence) and not isinstance(value, str)
        if not is_sequence or not all(_is_positive_integer(n) for n in value):
            raise OptionError(
                f"The {name!r} parameter of {type(self).__name__} must be {wanted}", got=f"{value!r} instead"
            )
        return tuple(int(n) for n in value)


def _is_positive_integer(n: Any) -> bool:
    return is_int(n) and int(n) > 0


class ConvolutionalEncoder(EndsLinear, _Convolutional):
    r"""Convolutions that halve the image in each stage, and a linear layer to the code.

    .. math:: f(x) = W \, a(C_m \cdots a(C_1 x + b_1) \cdots + b_m) + b

    C_i is a convolution of stride 2 with a 4 x 4 kernel (LeCun et al., 1989), and b_i has one number a channel.

    Parameters
    ----------
    image_shape : (int, int, int)
        Channels, height and width; a row has the image's numbers in this order, and their product is the number of
        columns.
    channels : sequence of int
        Channels after each stage, one for each stage. A side of one pixel is not halved any more.
    activation : str or torch.nn.Module
        Elementwise nonlinearity.

    Raises
    ------
    OptionError
        In ``setup``, if the shape or the channels are not positive integers, or the rows have another length.

    Examples
    --------
    >>> import torch
    >>> encoder = ConvolutionalEncoder(image_shape=(1, 28, 28), channels=(8, 16))
    >>> encoder.setup(784, 10, torch.Generator().manual_seed(0))
    >>> encoder(torch.zeros(4, 784)).shape
    torch.Size([4, 10])
    """

    direction = 1

    def __init__(
        self, image_shape: Sequence[int], channels: Sequence[int] = (32, 64), activation: str | nn.Module = "gelu"
    ) -> None:
        super().__init__(image_shape, channels, activation)

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the convolutions, input first, and the layer to the code."""
        shape, widths = self._image(), self._widths()
        if n_inputs != math.prod(shape):
            raise OptionError(
                f"Images of {' x '.join(map(str, shape))} are rows of {math.prod(shape)} numbers",
                got=f"rows of {n_inputs}",
                hint="Give image_shape as (channels, height, width) of the rows",
            )
        sizes = _halved_sizes((shape[1], shape[2]), len(widths))
        stages: list[nn.Module] = []
        for (before, after), size in zip(pairwise((shape[0], *widths)), sizes[:-1], strict=True):
            stages += [_convolution(before, after, size, generator), activation_module(self.activation)]
        self.stages = nn.Sequential(*stages)
        self.last = linear_layer(widths[-1] * math.prod(sizes[-1]), n_outputs, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Codes, shape (..., n_outputs), of rows of shape (..., n_inputs)."""
        return self._in_parts(self._codes, x)

    def _codes(self, x: Tensor) -> Tensor:
        n_channels, height, width = self.image_shape
        pixels = x.reshape(-1, n_channels, height * width).transpose(1, 2)
        features = self.stages(_channels_last(pixels, (height, width, n_channels)))
        # The features are flattened in memory order (channels last), which avoids a copy.
        features = features.permute(0, 2, 3, 1)
        return self.last(features.reshape(*x.shape[:-1], self.last.in_features))


class ConvolutionalDecoder(_Convolutional):
    r"""A linear layer from the code to a small image, and transposed convolutions that double it in each stage.

    .. math:: g(z) = C_m^\top a(C_{m-1}^\top \cdots a(W z + b_0) \cdots + b_{m-1}) + b

    It has the stages of a `ConvolutionalEncoder` in reverse order, with its own weights. The last bias has one number
    for each cell and not for each channel, so that it can be a constant image, such as the mean of the rows.

    Parameters
    ----------
    image_shape : (int, int, int)
        Channels, height and width of the encoder's rows.
    channels : sequence of int
        Channels before each stage, one for each stage: the encoder's in reverse order.
    activation : str or torch.nn.Module
        Elementwise nonlinearity.

    Raises
    ------
    OptionError
        In ``setup``, if the shape or the channels are not positive integers, or the output is not whole images.

    Examples
    --------
    >>> import torch
    >>> decoder = ConvolutionalDecoder(image_shape=(1, 28, 28), channels=(16, 8))
    >>> decoder.setup(10, 784, torch.Generator().manual_seed(0))
    >>> decoder(torch.zeros(4, 10)).shape
    torch.Size([4, 784])
    """

    direction = -1

    def __init__(
        self, image_shape: Sequence[int], channels: Sequence[int] = (64, 32), activation: str | nn.Module = "gelu"
    ) -> None:
        super().__init__(image_shape, channels, activation)

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        """Make the layer from the code and the transposed convolutions, input first."""
        (_, height, width), widths = self._image(), self._widths()
        if n_outputs < 1 or n_outputs % (height * width):
            raise OptionError(
                f"A decoder of images of {height} x {width} gives a multiple of {height * width} numbers a row",
                got=f"{n_outputs}",
                hint="Give image_shape as (channels, height, width) of the rows",
            )
        sizes = _halved_sizes((height, width), len(widths))[::-1]
        self._smallest = (*sizes[0], widths[0])
        self.first = linear_layer(n_inputs, math.prod(self._smallest), generator)
        stages: list[nn.Module] = []
        for (before, after), size in zip(pairwise((*widths, n_outputs // (height * width))), sizes[1:], strict=True):
            stages += [activation_module(self.activation), _transposed_convolution(before, after, size, generator)]
        self.stages = nn.Sequential(*stages)
        self.last.bias = None
        self.bias: Tensor | None = nn.Parameter(torch.zeros(n_outputs))

    @property
    def last(self) -> nn.ConvTranspose2d:
        """The last convolution."""
        return self.stages[-1]  # type: ignore[return-value]

    @property
    def output_bias(self) -> Tensor | None:  # type: ignore[override]
        """The bias of each cell, shape (n_outputs,)."""
        return self.bias

    def silence(self) -> None:
        """Set the last convolution and the cells' biases to zero."""
        nn.init.zeros_(self.last.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def drop_output_bias(self) -> None:
        """Remove the biases of the cells."""
        self.bias = None

    def forward(self, z: Tensor) -> Tensor:
        """Rows, shape (..., n_outputs), of codes of shape (..., n_inputs)."""
        return self._in_parts(self._rows, z)

    def _rows(self, z: Tensor) -> Tensor:
        images = self.stages(_channels_last(self.first(z), self._smallest))
        rows = images.reshape(*z.shape[:-1], math.prod(images.shape[1:]))
        return rows if self.bias is None else rows + self.bias


def _channels_last(pixels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images of shape (n, c, h, w) with the memory layout (n, h, w, c), from pixels in the latter order.

    ``contiguous(memory_format=torch.channels_last)`` does not work under ``torch.func.vmap``, and does not change
    images of one channel, for which torch would then use slower convolutions.
    """
    rows = pixels.reshape(-1, math.prod(shape))  # flat, so that torch also gives a single channel stride 1
    return rows.reshape(-1, *shape).permute(0, 3, 1, 2)


def _halved_sizes(size: tuple[int, int], n_stages: int) -> list[tuple[int, int]]:
    """(height, width) before the first stage and after each."""
    sizes = [size]
    for _ in range(n_stages):
        height, width = sizes[-1]
        sizes.append((-(-height // STRIDE), -(-width // STRIDE)))
    return sizes


def _window(size: tuple[int, int]) -> dict[str, Any]:
    """Kernel, stride and padding that halve an image of a (height, width); a side of one pixel is not halved."""
    sides = [(KERNEL, STRIDE, PADDING + side % STRIDE) if side > 1 else (1, 1, 0) for side in size]
    return dict(zip(("kernel_size", "stride", "padding"), zip(*sides, strict=True), strict=True))


class Convolution(Undrawn, nn.Conv2d):
    """A convolution without initial weights."""


class TransposedConvolution(Undrawn, nn.ConvTranspose2d):
    """A transposed convolution without initial weights."""


def _convolution(n_inputs: int, n_outputs: int, size: tuple[int, int], generator: torch.Generator) -> nn.Conv2d:
    """A convolution that halves images of a (height, width)."""
    window = _window(size)
    layer = Convolution(n_inputs, n_outputs, **window)
    seen, reached = _connections(window)
    draw_weights(layer, n_inputs * seen, n_outputs * reached, generator)
    return layer


def _transposed_convolution(
    n_inputs: int, n_outputs: int, size: tuple[int, int], generator: torch.Generator
) -> nn.ConvTranspose2d:
    """A transposed convolution that gives images of a (height, width) from halved ones."""
    window = _window(size)
    rest = tuple(side % stride for side, stride in zip(size, window["stride"], strict=True))
    layer = TransposedConvolution(n_inputs, n_outputs, output_padding=rest, **window)
    reached, seen = _connections(window)
    draw_weights(layer, n_inputs * seen, n_outputs * reached, generator)
    return layer


def _connections(window: dict[str, Any]) -> tuple[int, int]:
    """Pixels of the larger image that are connected to one of the smaller, and the reverse."""
    n_larger = math.prod(window["kernel_size"])
    return n_larger, n_larger // math.prod(window["stride"])
