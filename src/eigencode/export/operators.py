"""Operators that ONNX does not have, or not as exactly, made of those that it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
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

DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.expm1.default: expm1,
    aten.lgamma.default: lgamma,
    aten.log1p.default: log1p,
    **{
        name: partial(_of_float64, function)
        for name, function in {**get_decompositions(ACTIVATIONS), aten.erf.default: erf}.items()
    },
}
"""Operators of torch, each with a function of operators that ONNX has."""
