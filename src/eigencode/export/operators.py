"""Operators that ONNX does not have, or not as exactly, made of those that it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.expm1.default: expm1,
    aten.lgamma.default: lgamma,
    aten.log1p.default: log1p,
}
"""Operators of torch, each with a function of operators that ONNX has."""
