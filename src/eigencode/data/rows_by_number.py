"""Rows that are made when they are asked for, by their numbers: of sparse matrices, torch's datasets, image files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse

from eigencode.data.containers import as_array
from eigencode.data.sources import CellsOnDemand, chunk_rows
from eigencode.errors import DataError, EigencodeError


@dataclass(frozen=True, eq=False)
class RowsByNumber(CellsOnDemand):
    """An array of shape (n, d) whose rows are made when they are asked for.

    Attributes
    ----------
    make : callable
        Gives the rows of some numbers, an array of shape (m, d).
    shape : (int, int)
        N and d.
    dtype : numpy.dtype
        The type of the cells.
    image_shape : tuple of int
        Channels, height and width of rows that are images; () if they are none.

    Examples
    --------
    >>> rows = RowsByNumber.of(scipy.sparse.csr_array(np.diag([1.0, 2.0, 3.0])))
    >>> rows.shape, rows[1:].tolist()
    ((3, 3), [[0.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    """

    make: Callable[[np.ndarray], np.ndarray]
    shape: tuple[int, int]
    dtype: np.dtype
    image_shape: tuple[int, ...] = ()

    @classmethod
    def of(cls, X: Any) -> RowsByNumber | None:
        """The rows of a sparse matrix or of a map-style dataset of torch; None for anything else."""
        if scipy.sparse.issparse(X) and X.ndim == 2:
            rows = X.tocsr()
            return cls(lambda numbers: rows[numbers].toarray(), rows.shape, rows.dtype)
        if is_torch_dataset(X) and hasattr(X, "__len__"):
            if not len(X):
                raise DataError(f"The {type(X).__name__} has no rows")
            first = items_of(X, np.arange(1))
            return cls(partial(items_of, X), (len(X), first.shape[1]), first.dtype)
        return None

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            return self[np.arange(*rows.indices(len(self)))]
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
        return self.make(numbers) if len(numbers) else np.empty((0, self.shape[1]), self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def astype(self, dtype: Any, copy: bool = True) -> np.ndarray:
        """All rows in memory, in a type."""
        return self[:].astype(dtype, copy=copy)

    def sum(self, dtype: Any = None) -> Any:
        """The sum of all cells."""
        return sum(part.sum(dtype=dtype) for part in self._parts())

    def _parts(self) -> Iterator[np.ndarray]:
        n_rows = chunk_rows(self.shape[1])
        return (self[first : first + n_rows] for first in range(0, len(self), n_rows))


def is_torch_dataset(X: Any) -> bool:
    """Whether an object is a dataset of torch, which is imported if it is."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(X, torch.utils.data.Dataset)


def items_of(dataset: Any, numbers: np.ndarray) -> np.ndarray:
    """The rows of some numbers; of an item that is a tuple, the first part."""
    found = [_row_of(dataset, int(number)) for number in numbers]
    widths = [len(row) for row in found]
    if len(set(widths)) > 1:
        odd = next(i for i, width in enumerate(widths) if width != widths[0])
        where = f"{widths[odd]} in item {numbers[odd]}, and {widths[0]} in item {numbers[0]}"
        raise DataError(f"The items of a {type(dataset).__name__} have several numbers of cells", got=where)
    return np.stack(found)


def _row_of(dataset: Any, number: int) -> np.ndarray:
    try:
        item = dataset[number]
    except EigencodeError:
        raise
    except Exception as error:  # the user's code may raise anything
        got = f"the error {type(error).__name__}: {error}"
        raise DataError(f"Item {number} of a {type(dataset).__name__} cannot be read", got=got) from error
    return as_array(first_part(item)).reshape(-1)


def first_part(item: Any) -> Any:
    """An item, or the first part of a tuple or list of tensors or arrays, whose others are labels."""
    is_several = isinstance(item, Sequence) and len(item) > 0 and hasattr(item[0], "shape")
    return item[0] if is_several else item
