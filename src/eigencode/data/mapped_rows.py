"""Rows in a memory-mapped file; each batch is read and scaled when it is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from eigencode.batch import Batch, equal_parts
from eigencode.data.gaps import hide_gaps
from eigencode.data.permutation import MOST_SHUFFLED_ROWS, Permutation
from eigencode.data.read_ahead import read_ahead
from eigencode.data.rows import NumberedRows
from eigencode.data.rows_by_number import RowsByNumber
from eigencode.data.scaling import Scaler
from eigencode.data.sources import BLOCK_CELLS, CHUNK_CELLS, chunk_rows, numbers_without
from eigencode.errors import DataError
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

MAPPED_FROM = 2**26
"""Cells of a memory map from which its rows stay in the file; a smaller map is read completely, at most 256 MB."""

REPRESENTATIVE_CELLS = 2**23
"""Cells of the rows from which a start is computed: 32 MB."""


@dataclass(frozen=True, eq=False)
class MappedRows(NumberedRows):
    """Rows of a memory map, which are read and scaled a batch at a time, and never all at once.

    Batches are those of rows in memory. Of more than four million rows the numbers and the order of each epoch are
    computed and not stored, so that memory does not grow with the number of rows.

    Attributes
    ----------
    array : ndarray, JoinedArrays or RowsByNumber, of shape (n, d)
        The memory map, or rows that are made when they are asked for.
    scaler : Scaler
        The scaler of its rows.
    dtype : torch.dtype
        Type of the scaled cells.
    validation_numbers : Tensor
        Numbers of the validation rows, in ascending order.
    is_separate : bool
        Whether nothing is computed from the validation rows, neither a scale nor a start.
    weight : Tensor or None
        Weight of each row, shape (n,), mean 1.
    """

    array: np.ndarray | JoinedArrays | RowsByNumber
    scaler: Scaler
    dtype: torch.dtype
    validation_numbers: Tensor
    is_separate: bool = False
    weight: Tensor | None = None

    @property
    def source(self) -> object:
        """The memory map."""
        return self.array

    @cached_property
    def training(self) -> Tensor:  # type: ignore[override]
        """Numbers of the training rows."""
        return self._training(torch.arange(self.n_training))

    @property
    def device(self) -> torch.device:
        """The device on which batches are made."""
        return torch.device("cpu")

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.array.shape[1]

    @property
    def n_validation(self) -> int:
        """Number of validation rows."""
        return len(self.validation_numbers)

    @property
    def n_training(self) -> int:
        """Number of training rows."""
        return len(self.array) - self.n_validation

    @property
    def n_bytes(self) -> int:
        """Bytes of all scaled cells."""
        return len(self.array) * self.n_features * self.dtype.itemsize

    def to(self, device: torch.device) -> MappedRows:
        """The same rows, which stay in the file."""
        return self

    @property
    def n_usable(self) -> int:
        """Number of rows of which a start may be made."""
        return self.n_training if self.is_separate else len(self.array)

    def _training(self, positions: Tensor) -> Tensor:
        """Numbers of the training rows at some positions among them."""
        return torch.from_numpy(numbers_without(self.validation_numbers.numpy(), positions.numpy()))

    def _usable(self, positions: Tensor) -> Tensor:
        """Numbers of the rows of which a start may be made, at some positions among them."""
        return self._training(positions) if self.is_separate else positions

    def order(self, generator: torch.Generator, batch_size: int) -> Sequence[Tensor]:
        """Shuffled numbers of the training rows, in batches."""
        n, parts = self.n_training, list(equal_parts(self.n_training, batch_size))
        if n <= MOST_SHUFFLED_ROWS:
            shuffled = torch.randperm(n, generator=generator)
            return ComputedOrder(parts, lambda part: self._training(shuffled[part]))
        permutation = Permutation(n, int(torch.randint(2**31, (1,), generator=generator)))
        return ComputedOrder(parts, lambda part: self._training(permutation(torch.arange(part.start, part.stop))))

    def gather(self, numbers: Tensor) -> Batch:
        """The rows of some numbers; the file is read in its own order."""
        in_file = numbers.flatten().sort()
        back = torch.empty_like(in_file.indices)
        back[in_file.indices] = torch.arange(len(back))
        return self._gathered(in_file.values).map(
            lambda tensor: tensor.index_select(0, back).unflatten(0, numbers.shape)
        )

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All training rows once, in a random order; the next batch is read while one is used."""
        return read_ahead(super().batches(generator, batch_size))

    def validation(self, n_rows: int) -> Iterator[Batch]:
        """The validation rows, or the training rows if there are none; smaller blocks of wide rows."""
        n = self.n_validation or self.n_training
        for positions in _ranges(n, min(n_rows, chunk_rows(self.n_features))):
            yield self._gathered(self.validation_numbers[positions] if self.n_validation else positions)

    def blocks(self) -> Iterator[Batch]:
        """All usable rows in order."""
        for positions in _ranges(self.n_usable, max(BLOCK_CELLS // self.n_features, 1)):
            yield self._gathered(self._usable(positions))

    def sample(self, n_rows: int) -> Batch:
        """About ``n_rows`` rows at equal distances, fewer if they are so wide that they would take much memory."""
        n_rows = min(n_rows, 2 * self._n_representative)
        return self._gathered(self._usable(torch.arange(0, self.n_usable, max(math.ceil(self.n_usable / n_rows), 1))))

    @property
    def _n_representative(self) -> int:
        """Rows that represent all."""
        return max(REPRESENTATIVE_CELLS // self.n_features, 256)

    def representative(self) -> Batch:
        """Rows evenly spread over all, as many as take little memory."""
        return self._representative

    @cached_property
    def _representative(self) -> Batch:
        return self.sample(self._n_representative)

    @property
    def has_gaps(self) -> bool:
        """Whether cells were missing in the rows that the scaler has seen."""
        return self.scaler.has_gaps

    @property
    def has_more(self) -> bool:
        """Whether the file has more rows than are representative."""
        return self.n_usable > self._n_representative

    def _gathered(self, numbers: Tensor) -> Batch:
        """The rows with these numbers, in ascending order, scaled."""
        weight = None if self.weight is None else self.weight[numbers]
        return scaled_batch(self.scaler, self.array[numbers.numpy()], self.dtype, weight)


def scaled_batch(scaler: Scaler, cells: np.ndarray, dtype: torch.dtype, weight: Tensor | None = None) -> Batch:
    """Rows in the data's units as a batch of scaled ones; all batches of one scaler have a mask, or none has."""
    kind = np.float64 if dtype == torch.float64 else np.float32
    chunks = [np.empty((0, cells.shape[1]), kind), *scaler.chunks(cells, kind)]
    scaled = chunks[1] if len(chunks) == 2 else np.concatenate(chunks)
    found = hide_gaps(torch.from_numpy(scaled), weight)
    require_finite(found.x)
    if found.observed is None and scaler.has_gaps:
        return replace(found, observed=torch.ones_like(found.x, dtype=torch.bool))
    return found


@dataclass(frozen=True, eq=False)
class JoinedArrays:
    """The rows of two arrays, one after the other, without a copy of them.

    Examples
    --------
    >>> JoinedArrays(np.zeros((2, 1)), np.ones((3, 1)))[np.array([1, 2])].tolist()
    [[0.0], [1.0]]
    """

    first: np.ndarray
    second: np.ndarray

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return len(self), self.first.shape[1]

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """The rows of some numbers, which are in ascending order."""
        n = len(self.first)
        split = int(np.searchsorted(numbers, n))
        return np.concatenate([self.first[numbers[:split]], self.second[numbers[split:] - n]])


def require_finite(x: Tensor) -> None:
    """Raise `DataError` if scaled cells are so large that their squares, summed over a chunk, would overflow."""
    largest = math.sqrt(torch.finfo(x.dtype).max / CHUNK_CELLS)
    # The smallest and the largest are NaN if any cell is.
    if len(x) and not (torch.stack(x.aminmax()).abs() <= largest).all():
        raise DataError(
            f"Some values are too large for {str(x.dtype).removeprefix('torch.')} beside the scale of their columns",
            hint="Use scale='standard' or precision='float64', or divide those columns by a constant first",
        )


def is_mapped(array: np.ndarray | RowsByNumber) -> bool:
    """Whether an array is a memory map that is so large that its rows should stay in the file, or is made on demand."""
    if isinstance(array, RowsByNumber):
        return True
    base: object = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap) and array.ndim == 2 and array.size >= MAPPED_FROM


@dataclass(frozen=True, eq=False)
class ComputedOrder(Sequence):
    """The numbers of the rows of each batch, computed when they are asked for."""

    parts: list[slice]
    at: Callable[[slice], Tensor]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, batch: Any) -> Any:
        return self.at(self.parts[batch])


def _ranges(n: int, n_rows: int) -> Iterator[Tensor]:
    """The numbers 0, ..., n - 1 in order, in parts of about equal size."""
    return (torch.arange(part.start, part.stop) for part in equal_parts(n, n_rows))
