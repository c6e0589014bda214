"""Batch: some rows, which of their cells are known, and what each row weighs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from eigencode.errors import OptionError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Scaled rows, the argument of every function of rows.

    Attributes
    ----------
    x : Tensor
        Scaled cells, shape (..., n, d). Hidden cells are set to 0, whatever value was given (NaN and infinity too).
    observed : Tensor or None
        True where a cell is known, False where it is hidden, shape (..., n, d); None where all are known.
    weight : Tensor or None
        Weight of each row, with mean 1 over all rows, shape (..., n); None where all weigh the same.
    """

    x: Tensor
    observed: Tensor | None = None
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        if self.observed is not None:
            if str(self.observed.dtype) != "torch.bool":
                raise OptionError("The mask of observed cells must be of type bool", got=f"{self.observed.dtype}")
            # No product: NaN or infinity times 0 would be NaN. Not where(), whose number a CUDA graph cannot copy.
            object.__setattr__(self, "x", self.x.masked_fill(~self.observed, 0.0))

    @classmethod
    def of_filled(cls, x: Tensor, observed: Tensor | None, weight: Tensor | None = None) -> Self:
        """A batch of cells of which the hidden ones are 0 already, without a copy of them."""
        found = cls(x, None, weight)
        object.__setattr__(found, "observed", observed)
        return found

    def __len__(self) -> int:
        return self.x.shape[-2]

    def selected(self, cells: Tensor) -> Tensor:
        """Cells of shape (..., n, d) with 0 where the batch's are hidden."""
        return selected(cells, self.observed)

    @property
    def cells(self) -> tuple[Tensor, Tensor | None]:
        """The cells and the mask of those that are known."""
        return self.x, self.observed

    @property
    def tensors(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """x, observed and weight, as arguments of a function of tensors."""
        return self.x, self.observed, self.weight

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A batch with a function applied to each of its tensors."""
        found = object.__new__(type(self))  # hidden cells are filled already
        vars(found).update(vars(self))
        for name, tensor in zip(("x", "observed", "weight"), self.tensors, strict=True):
            object.__setattr__(found, name, None if tensor is None else function(tensor))
        return found

    def to(self, device: torch.device) -> Self:
        """The batch on a device, copied asynchronously."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def thinned(self, n_rows: int) -> Batch:
        """Every m-th row: at least ``n_rows`` of them (all, if there are fewer), and less than twice as many."""
        return self.map(itemgetter(slice(None, None, max(len(self) // n_rows, 1))))

    def range(self) -> tuple[Tensor, Tensor]:
        """The smallest and the largest known cell of each column, each of shape (d,); 0 where none is known."""
        low = high = self.x
        if self.observed is not None:
            infinity = float("inf")
            low, high = (self.x.where(self.observed, end) for end in (infinity, -infinity))
        low = over_rows(partial(_end, "min"), lambda a, b: a.minimum(b), low)
        high = over_rows(partial(_end, "max"), lambda a, b: a.maximum(b), high)
        if self.observed is None:
            return low, high
        is_known = self.observed.any(0)
        return low.where(is_known, 0.0), high.where(is_known, 0.0)

    def split(self, n_rows: int) -> Iterator[Batch]:
        """Rows of shape (n, d) in order, in blocks of at most ``n_rows`` and of about equal size."""
        for part in equal_parts(len(self), n_rows):
            yield self.map(itemgetter(part))


def _end(name: str, rows: Tensor, axis: int) -> Tensor:
    """The smallest or the largest cells along an axis; NumPy takes a third of the time."""
    if rows.device.type != "cpu":
        return getattr(rows, f"a{name}")(axis)
    return rows.new_tensor(getattr(rows.numpy(), name)(axis))


def over_rows(reduce: Callable[[Any, int], Any], pair: Callable[[Any, Any], Any], rows: Any, size: int = 512) -> Any:
    """The smallest or the largest cell of each column of rows of shape (n, d), an array or a tensor.

    ``reduce`` finds it along an axis, ``pair`` of two arrays. Short rows are reduced slowly, one after the other, so
    neighbouring ones are taken as one long row of about ``size`` cells.

    Examples
    --------
    >>> import numpy as np
    >>> over_rows(np.fmin.reduce, np.fmin, np.arange(2000.0).reshape(1000, 2) % 1000)
    array([0., 1.])
    """
    n_rows, width = rows.shape
    n_joined = max(size // max(width, 1), 1)
    n_whole = n_rows // n_joined * n_joined
    if n_joined == 1 or n_whole <= n_joined:
        return reduce(rows, 0)
    joined = reduce(rows[:n_whole].reshape(-1, n_joined * width), 0)
    found = reduce(joined.reshape(n_joined, width), 0)
    return found if n_whole == n_rows else pair(found, reduce(rows[n_whole:], 0))


def equal_parts(n: int, n_rows: int) -> Iterator[slice]:
    """Divide n rows into as few parts of at most ``n_rows`` as possible; their sizes differ by one row at most.

    Examples
    --------
    >>> list(equal_parts(7, 3))
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    n_parts = max(-(-n // n_rows), 1)
    size, n_larger = divmod(n, n_parts)
    return (slice(a, b) for a, b in pairwise(i * size + min(i, n_larger) for i in range(n_parts + 1)))


def selected(cells: Tensor, observed: Tensor | None) -> Tensor:
    """Cells with missing ones set to 0; by masked_fill() and no product, since NaN times 0 is NaN."""
    return cells if observed is None else cells.masked_fill(~observed, 0.0)
