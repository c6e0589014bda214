"""The largest numbers of each row, found by numpy on a processor: torch's selections loop over single numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigencode.whole_operations import as_one_operation


def is_largest(sizes: Tensor, k: int) -> Tensor:
    """1 where a number is one of the k largest of its row, elsewhere 0, without a derivative.

    No number may be negative. Zeros may be among the k or left out, since sizes are multiplied by the answer. Of
    equal numbers the first ones are among the k on a processor, and any elsewhere, as in a graph that is exported.

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
    numbers, marks, one = (_as_numpy(tensor) for tensor in (sizes, found, found.new_ones(1)))
    threshold = _kth_largest(_candidates(numbers, k), k)
    chosen = (numbers >= threshold[:, None]) & (numbers > 0)
    excess = chosen.sum(1, dtype=np.int32) - k
    if (excess > 0).any():  # the last of those that are equal are left out
        rows, columns = np.nonzero(chosen & (numbers == np.where(excess > 0, threshold, -1)[:, None]))
        n_later = np.searchsorted(rows, rows, side="right") - 1 - np.arange(len(rows))
        is_left_out = n_later < excess[rows]
        chosen[rows[is_left_out], columns[is_left_out]] = False
    np.multiply(chosen, one, out=marks)


def _kth_largest(numbers: np.ndarray, k: int) -> np.ndarray:
    """The k-th largest number of each row, shape (n,)."""
    position = numbers.shape[1] - k
    return np.partition(numbers, position, axis=1)[:, position]


def _candidates(numbers: np.ndarray, k: int) -> np.ndarray:
    """The positive numbers that may be among the k largest of their rows, filled up with zeros.

    The k-th largest of the maxima of groups is a lower bound, and few numbers more than k are as large.
    """
    n, n_numbers = numbers.shape
    size = n_numbers // (4 * k)
    if size < 2:
        return numbers
    maxima = numbers[:, : n_numbers // size * size].reshape(n, size, -1).max(1)
    is_candidate = (numbers >= _kth_largest(maxima, k)[:, None]) & (numbers > 0)
    counts = is_candidate.sum(1, dtype=np.int64)
    flat, width = np.flatnonzero(is_candidate), max(counts.max(initial=0), k)
    starts = np.arange(n) * width - counts.cumsum() + counts
    found = np.zeros(n * width, dtype=numbers.dtype)
    found[np.arange(len(flat)) + starts.repeat(counts)] = numbers.reshape(-1)[flat]
    return found.reshape(n, width)


def _as_numpy(numbers: Tensor) -> np.ndarray:
    """The rows as a matrix of numpy, which has no bfloat16: positive ones are ordered as the integers of their bits."""
    found: np.ndarray = (numbers if numbers.element_size() > 2 else numbers.view(torch.int16)).numpy()
    return found.reshape(-1, found.shape[-1])
