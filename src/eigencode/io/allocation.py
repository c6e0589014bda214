"""A bound on the memory that building a model from a file may take.

A short description in a file can ask for a network of any size. A valid file has the network's weights too, so building
it takes about as many numbers and tensors as the file has. An error is raised before more are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from eigencode.errors import StorageError

FREE_NUMBERS, NUMBERS_A_NUMBER = 2**23, 16
"""Numbers that may be made: a fixed number, and so many per number in the file, since a setup has temporary tensors."""

FREE_STEPS, STEPS_A_TENSOR = 2000, 100
"""Parts and tensors that may be made: so many for any file, and so many for each tensor in it."""

OF_SHAPE = {torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn} | {
    Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.repeat, Tensor.tile
}  # fmt: skip
"""Functions whose numeric arguments are all sizes."""

OF_FIRST_SHAPE = {torch.full, torch.randint, torch.empty_strided, torch.normal, Tensor.new_full}
"""Functions with a sequence of sizes among other numeric arguments."""

OF_LENGTH = {torch.arange, torch.linspace, torch.logspace, torch.randperm, torch.range}
"""Functions whose largest numeric argument is the size."""


class BoundedAllocation(TorchFunctionMode):
    """A context in which making too many parts or too large tensors for a file, which has these tensors, is an error.

    Examples
    --------
    >>> with BoundedAllocation([torch.zeros(3)]):
    ...     made = torch.zeros(1000)
    ...     try:
    ...         torch.empty(10**6, 10**6)
    ...     except StorageError as error:
    ...         print(error.what)
    The model asks for far more numbers than its file holds
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        sizes = [tensor.numel() for tensor in tensors]
        self._numbers: float = FREE_NUMBERS + NUMBERS_A_NUMBER * sum(sizes)
        self._steps = FREE_STEPS + STEPS_A_TENSOR * len(sizes)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch; raise an error if its result would be too large."""
        kwargs = kwargs or {}
        n_numbers = _n_made(func, args, kwargs)
        if n_numbers is not None:
            self.step()
            self._numbers -= n_numbers
            if self._numbers < 0:
                raise StorageError("The model asks for far more numbers than its file holds", got=f"{n_numbers:.3g}")
        return func(*args, **kwargs)

    def step(self) -> None:
        """Count one part or tensor."""
        self._steps -= 1
        if self._steps < 0:
            raise StorageError("The model asks for far more parts than its file holds tensors")


def _n_made(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> float | None:
    """Size of the tensor that a function would make; None for a function that computes it from other tensors."""
    if func in OF_SHAPE:
        return _product(_whole_numbers([*args, kwargs.get("size"), kwargs.get("repeats"), kwargs.get("dims")]))
    if func in OF_FIRST_SHAPE:
        shape = next((item for item in [*args, *kwargs.values()] if isinstance(item, tuple | list)), ())
        return _product(_whole_numbers(shape))
    if func in OF_LENGTH:
        return max([abs(number) for number in _whole_numbers([*args, *kwargs.values()])], default=0)
    if func is torch.eye:
        sizes = [*_whole_numbers([*args, *(kwargs.get(name) for name in ("n", "m"))])]
        return _product(sizes * 2 if len(sizes) == 1 else sizes)
    return None


def _whole_numbers(values: Iterable[Any]) -> Iterator[int]:
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            yield value
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from _whole_numbers(value)


def _product(sizes: Iterable[int]) -> float:
    return math.prod(float(min(abs(size), 2**62)) for size in sizes)
