"""The largest numbers of each row, found by numpy on a processor: torch's selections loop over single numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigencode.whole_operations import as_one_operation


def is_largest(sizes: Tensor, k: int) -> Tensor:
    """1 where a number is one of the k largest of its row, elsewhere 0, without a derivative.

    No number may be negative. Zeros may be among the k or left out, since sizes are multiplied by the answer.

    Examples
    --------
    >>> is_largest(torch.tensor([[3.0, 4.0, 1.0], [0.0, 2.0, 2.0]]), 1)
    tensor([[0., 1., 0.],
            [0., 1., 0.]])
    """
    sizes = sizes.detach()
    if torch.compiler.is_compiling() or sizes.device.type != "cpu":
        return torch.zeros_like(sizes).scatter(-1, sizes.topk(k, dim=-1).indices, 1.0)
    found: Tensor = _IsLargest.apply(sizes, k)
    return found


class _IsLargest(torch.autograd.Function):
    """The same for the members of a vmap too, as further rows."""

    @staticmethod
    def forward(sizes: Tensor, k: int) -> Tensor:
        found = torch.zeros_like(sizes, memory_format=torch.contiguous_format)
        as_one_operation(_mark, sizes, found, k)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], sizes: Tensor, k: int) -> tuple[Tensor, int]:
        return _IsLargest.apply(sizes.movedim(in_dims[0] or 0, 0), k), 0


def _mark(sizes: Tensor, found: Tensor, k: int) -> None:
    """Write 1 where the k largest numbers are, by a partial sort, of many numbers at once if the processor can."""
    # Positive numbers of two bytes, which numpy does not have, are ordered as the integers of the same bits.
    numbers = (sizes if sizes.element_size() > 2 else sizes.view(torch.int16)).numpy()
    position = numbers.shape[-1] - k
    threshold = np.partition(numbers, position, axis=-1)[..., position, None]
    chosen = (numbers >= threshold) & (numbers > 0)
    excess = chosen.sum(-1, dtype=np.int32) > k
    if excess.any():
        above, tied = numbers[excess] > threshold[excess], numbers[excess] == threshold[excess]
        room = k - above.sum(-1, dtype=np.int32)
        chosen[excess] = above | (tied & (tied.cumsum(-1, dtype=np.int32) <= room[..., None]))
    found.copy_(torch.from_numpy(chosen))
