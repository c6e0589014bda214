"""Operators that ONNX does not have, or not as exactly, made of those that it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import torch
from numpy.polynomial import chebyshev
from scipy.special import erfcx
from torch import Tensor
from torch._decomp import get_decompositions

aten: Any = torch.ops.aten

SERIES_FROM = 8.0
"""Smallest argument of the series for the logarithm of the gamma function; its error is below 1e-12 there."""


def lgamma(x: Tensor) -> Tensor:
    r"""The logarithm of the gamma function for x > 0, by Stirling's series at x + 8.

    .. math:: \log \Gamma(x) = \log \Gamma(x + 8) - \log (x (x + 1) \cdots (x + 7))

    Examples
    --------
    >>> x = torch.tensor([0.5, 1.0, 3.0, 100.0], dtype=torch.float64)
    >>> bool((lgamma(x) - torch.lgamma(x)).abs().max() < 1e-12)
    True
    """
    exact = x.double()
    far = exact + SERIES_FROM
    square = far.square()
    rest = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / (1188 * square)) / square) / square) / square) / far
    series = (far - 0.5) * far.log() - far + 0.5 * math.log(2 * math.pi) + rest
    # In float64, where eight factors of counts that float32 can have do not overflow.
    steps = torch.stack([exact + number for number in range(int(SERIES_FROM))]).log().sum(0)
    return (series - steps).to(x.dtype)


def log1p(x: Tensor) -> Tensor:
    """log(1 + x), in float64: onnxruntime has no such operator, and 1 + x loses the digits of a small x."""
    return (1 + x.double()).log().to(x.dtype)


def expm1(x: Tensor) -> Tensor:
    """exp(x) - 1, in float64."""
    return (x.double().exp() - 1).to(x.dtype)


def log_sigmoid(x: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))), finite for each finite x: the exporter takes the logarithm of a sigmoid, which can be 0.

    Examples
    --------
    >>> log_sigmoid(torch.tensor([-1000.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    return x.clamp(max=0) - log1p((-x.abs()).exp())


def erf(x: Tensor) -> Tensor:
    r"""The error function, in float64, for which onnxruntime has none; its error is below 1e-11.

    In a graph it is 1e-8, since the exporter writes numbers in 32 bits.

    .. math:: \mathrm{erf}(x) = 1 - t P(t) e^{-x^2}, \quad t = \frac{4}{2 + x}, \quad x \geq 0

    Examples
    --------
    >>> x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    >>> bool((erf(x) - torch.erf(x)).abs().max() < 1e-11)
    True
    """
    size = x.abs()
    t = 4 / (2 + size)
    series = torch.zeros_like(t)
    for coefficient in _coefficients():
        series = series * (t - 1) + coefficient
    return x.sign() * (1 - t * series * (-size.square()).exp())


@cache
def _coefficients(degree: int = 16) -> list[float]:
    """Those of a polynomial P in t - 1, highest first, with t P(t) = exp(x^2) (1 - erf(x))."""
    found = chebyshev.chebinterpolate(lambda s: erfcx(4 / (1 + s) - 2) / (1 + s), degree)
    return chebyshev.cheb2poly(found)[::-1].tolist()


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    transposed: bool = False,
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
) -> Tensor:
    """A convolution of any number of dimensions as one product of matrices; onnxruntime has those of float32 only.

    A transposed one is a usual one, with the kernel reversed, of the input with zeros between its cells.
    """
    kernel, n = weight.shape[2:], x.shape[0]
    full = partial(_of_length, len(kernel))
    stride, padding, dilation, output_padding = map(full, (stride, padding, dilation, output_padding))
    if transposed:
        weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(list(range(2, weight.dim())))
        for axis, step in enumerate(stride, 2):
            x = x.unsqueeze(axis + 1)
            x = torch.cat([x, *[torch.zeros_like(x)] * (step - 1)], axis + 1).flatten(axis, axis + 1)
        reach = [wide * (size - 1) for wide, size in zip(dilation, kernel, strict=True)]
        before = [far - edge for far, edge in zip(reach, padding, strict=True)]
        after = [first - step + 1 + more for first, step, more in zip(before, stride, output_padding, strict=True)]
        stride = full([1])
    else:
        before = after = padding
    edges = [edge for pair in zip(reversed(before), reversed(after), strict=True) for edge in pair]
    x = torch.nn.functional.pad(x, edges)
    lengths = [
        (size - wide * (length - 1) - 1) // step + 1
        for size, wide, length, step in zip(x.shape[2:], dilation, kernel, stride, strict=True)
    ]
    shifted = []
    for position in product(*map(range, kernel)):
        ends = zip(position, dilation, lengths, stride, strict=True)
        cells = [slice(at * wide, at * wide + (length - 1) * step + 1, step) for at, wide, length, step in ends]
        shifted.append(x[(slice(None), slice(None), *cells)])
    patches = torch.stack(shifted, 2).reshape(n, groups, -1, math.prod(lengths))
    found = weight.reshape(groups, weight.shape[0] // groups, -1) @ patches
    found = found.reshape(n, weight.shape[0], *lengths)
    return found if bias is None else found + bias.view(-1, *[1] * len(kernel))


def _of_length(length: int, given: int | Sequence[int]) -> list[int]:
    """One number for each dimension, of which torch takes one for all, too."""
    numbers = [given] if isinstance(given, int) else list(given)
    return numbers * length if len(numbers) == 1 else numbers


def _in_order(names: Sequence[str], x: Tensor, weight: Tensor, *given: Any, **named: Any) -> Tensor:
    """`convolution` with the further arguments in the order of these names."""
    return convolution(x, weight, **dict(zip(names, given, strict=False)), **named)


usual_convolution = partial(_in_order, ("bias", "stride", "padding", "dilation", "groups"))
"""`convolution` with the arguments of those that are not transposed."""

transposed_convolution = partial(
    _in_order, ("bias", "stride", "padding", "output_padding", "groups", "dilation"), transposed=True
)
"""`convolution` with the arguments of transposed ones."""


def _of_float64(function: Callable[..., Any], x: Tensor, *given: Any, **named: Any) -> Any:
    """A function of float64; that of float32 is an operator of onnxruntime."""
    return function(x, *given, **named) if x.dtype == torch.float64 else NotImplemented


ACTIVATIONS: list[Any] = [
    aten.elu,
    aten.gelu,
    aten.hardsigmoid,
    aten.hardswish,
    aten.leaky_relu,
    aten.mish,
    aten.softplus,
]
"""Operators that onnxruntime has in float32 only, and torch as others."""

IN_FLOAT64: dict[Any, Callable[..., Any]] = {
    **get_decompositions(ACTIVATIONS),
    aten.erf.default: erf,
    aten.convolution.default: convolution,
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), usual_convolution),
    aten.conv_transpose1d.default: transposed_convolution,
    aten.conv_transpose2d.input: transposed_convolution,
    aten.conv_transpose3d.input: transposed_convolution,
}
"""Functions of operators that onnxruntime has in float32 only."""

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.expm1.default: expm1,
    aten.lgamma.default: lgamma,
    aten.log1p.default: log1p,
    aten.log_sigmoid.default: log_sigmoid,
    **{name: partial(_of_float64, function) for name, function in IN_FLOAT64.items()},
}
"""Operators of torch, each with a function of operators that ONNX has."""
