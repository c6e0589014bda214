"""The k-th largest number of each row, found by numpy on a processor: torch's selections loop over single numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigencode.whole_operations import as_one_operation


def kth_largest(numbers: Tensor, k: int) -> Tensor:
    """The k-th largest number along the last axis, shape (..., 1), without a derivative.

    Examples
    --------
    >>> kth_largest(torch.tensor([[3.0, -4.0, 1.0], [0.0, 2.0, 2.0]]), 2)
    tensor([[1.],
            [2.]])
    """
    if torch.compiler.is_compiling() or numbers.device.type != "cpu" or numbers.dtype == torch.bfloat16:
        return numbers.detach().topk(k, dim=-1).values[..., -1:]
    found: Tensor = _KthLargest.apply(numbers.detach(), k)
    return found


class _KthLargest(torch.autograd.Function):
    """The same for the members of a vmap too, as further rows."""

    @staticmethod
    def forward(numbers: Tensor, k: int) -> Tensor:
        found = numbers.new_empty(*numbers.shape[:-1], 1)
        as_one_operation(_select, numbers, found, k)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], numbers: Tensor, k: int) -> tuple[Tensor, int]:
        return _KthLargest.apply(numbers.movedim(in_dims[0] or 0, 0), k), 0


def _select(numbers: Tensor, found: Tensor, k: int) -> None:
    """Write the k-th largest numbers into a tensor, by a partial sort, of many numbers at once if the processor can."""
    position = numbers.shape[-1] - k
    found.numpy()[...] = np.partition(numbers.numpy(), position, axis=-1)[..., position, None]
