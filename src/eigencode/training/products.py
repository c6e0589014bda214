"""Operators of a step of many models on a processor, made in the way that is fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode

from eigencode.training.cpu_graphs import Operators

NARROW = 16
"""Columns of a product below which its kernel takes up to five times as long as for its transpose."""


class FastProducts(Operators):
    """Makes batched products of few columns as the transposes of transposed products, which have many.

    The kernels take many columns at once, so a product of few columns wastes them; B'A' has the rows of AB as columns.
    The sums are the same, in another order. Gradients of weights are made in the layout of the weights: g'x for x'g.
    Multiples of expanded tensors, as of the gradient of a sum, are made once for all cells that are the same.

    Examples
    --------
    >>> x, weights = torch.ones(2, 32, 4), torch.ones(2, 4, 3)
    >>> with FastProducts():
    ...     product = torch.bmm(x, weights)
    >>> product.shape, product.mT.is_contiguous(), bool((product == 4).all())
    (torch.Size([2, 32, 3]), True, True)
    """

    def __torch_dispatch__(
        self, function: OpOverload, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator."""
        if function is torch.ops.aten.bmm.default and is_faster_transposed(*args):
            one, other = args
            return torch.bmm(other.mT, one.mT).mT
        if function is torch.ops.aten.mul.Scalar and 0 in args[0].stride():
            repeated, number = args
            once = repeated[tuple(slice(None) if stride else slice(1) for stride in repeated.stride())]
            return (once * number).expand_as(repeated)
        return function(*args, **(kwargs or {}))


class BiasApart(TorchFunctionMode):
    """Adds the bias of a linear layer to its product.

    Vectorised over models, a layer with its bias is a product, a multiple of the bias by 1, and their sum; and in the
    backward pass a multiple of the gradient by 1.

    Examples
    --------
    >>> with BiasApart():
    ...     torch.nn.functional.linear(
    ...         torch.ones(1, 3), torch.ones(2, 3), torch.tensor([0.0, 1.0])
    ...     )
    tensor([[3., 4.]])
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function."""
        if function is nn.functional.linear:
            function = _linear
        return function(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # as torch names them
    product = nn.functional.linear(input, weight)
    return product if bias is None else product + bias.to(product.dtype)


def is_faster_transposed(one: Tensor, other: Tensor) -> bool:
    """Whether the transpose of a batched product is made faster, or in the layout in which it is needed."""
    n_rows, n_columns = one.shape[1], other.shape[2]
    if min(n_rows, n_columns) < NARROW:
        return n_columns < n_rows
    # A sum over rows, x'g, of which the transpose is the gradient of weights. Transposed factors of fewer columns are
    # results of products that were made as transposes.
    return one.stride(1) == 1 < one.stride(2) and one.shape[2] >= NARROW
