"""Rows that stay in a file: a memory map of which each batch is read, and scaled, when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from eigencode.batch import Batch
from eigencode.data.permutation import Permutation
from eigencode.data.rows import BLOCK_CELLS
from eigencode.data.scaling import Scaler
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

MAPPED_FROM = 2**26
"""Cells of a memory map from which its rows stay in the file; a smaller one is read as a whole, 256 MB at most."""

REPRESENTATIVE_CELLS = 2**23
"""Cells of the rows that a start is made of: 32 MB."""


@dataclass(frozen=True, eq=False)
class MappedRows:
    """Rows of a memory map, scaled a batch at a time. They are never read as a whole.

    Which rows are for validation, and the order of each epoch, are computed and not stored, so that memory does not
    grow with the number of rows.

    Attributes
    ----------
    array : ndarray of shape (n, d)
        The map.
    scaler : Scaler
        What scales its rows.
    dtype : torch.dtype
        Of the scaled cells.
    n_validation : int
        Rows for validation.
    seed : int
        Names which they are.
    weight : Tensor or None
        Weight of each row, shape (n,), mean 1.
    """

    array: np.ndarray
    scaler: Scaler
    dtype: torch.dtype
    n_validation: int
    seed: int
    weight: Tensor | None = None

    @property
    def home(self) -> torch.device:
        """Where batches are made."""
        return torch.device("cpu")

    @property
    def n_features(self) -> int:
        """Columns."""
        return self.array.shape[1]

    @property
    def n_training(self) -> int:
        """Rows to learn from."""
        return len(self.array) - self.n_validation

    @property
    def n_bytes(self) -> int:
        """What all cells take."""
        return self.array.size * self.dtype.itemsize

    def to(self, device: torch.device) -> MappedRows:
        """The same: they stay in the file."""
        return self

    @cached_property
    def _split(self) -> Permutation:
        """The order in which the rows for validation come first."""
        return Permutation(len(self.array), self.seed)

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All rows to learn from, once, in a random order."""
        order = Permutation(self.n_training, int(torch.randint(2**31, (1,), generator=generator)))
        for positions in _ranges(self.n_training, ceil(self.n_training / batch_size)):
            yield self._gathered(self._split(order(positions) + self.n_validation))

    def validation(self, n_rows: int) -> Iterator[Batch]:
        """The rows for validation, or else those to learn from."""
        n = self.n_validation or self.n_training
        for positions in _ranges(n, ceil(n / n_rows)):
            yield self._gathered(self._split(positions))

    def blocks(self) -> Iterator[Batch]:
        """All rows in order."""
        n = len(self.array)
        for rows in _ranges(n, ceil(n * self.n_features / BLOCK_CELLS)):
            yield self._gathered(rows)

    def sample(self, n_rows: int) -> Batch:
        """Every so-many-th row."""
        return self._gathered(torch.arange(0, len(self.array), max(ceil(len(self.array) / n_rows), 1)))

    def representative(self) -> Batch:
        """Rows evenly spread over all, as many as take little memory."""
        return self.sample(max(REPRESENTATIVE_CELLS // self.n_features, 256))

    def _gathered(self, numbers: Tensor) -> Batch:
        """The rows of some numbers, in the file's order, scaled."""
        numbers = numbers.sort().values
        kind = np.float64 if self.dtype == torch.float64 else np.float32
        chunks = list(self.scaler.chunks(self.array[numbers.numpy()], kind))
        scaled = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        return Batch(torch.from_numpy(scaled), weight=None if self.weight is None else self.weight[numbers])


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is so large a part of a file that its rows are to stay there."""
    base: object = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap) and array.ndim == 2 and array.size >= MAPPED_FROM


def _ranges(n: int, n_parts: int) -> Iterator[Tensor]:
    """0, ..., n - 1 in order, in parts as equal as can be."""
    for part in range(n_parts):
        yield torch.arange(n * part // n_parts, n * (part + 1) // n_parts)
