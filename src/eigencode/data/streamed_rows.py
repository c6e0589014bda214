"""Rows of a source that is read a block at a time, as table files: shuffled by groups and in a bounded buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from eigencode.batch import Batch, equal_parts
from eigencode.data.mapped_rows import REPRESENTATIVE_CELLS, scaled_batch
from eigencode.data.read_ahead import read_ahead
from eigencode.data.sources import BLOCK_CELLS, chunk_rows, kept_rows, numbers_without
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.data.block_sources import StreamedCells
    from eigencode.data.scaling import Scaler

BUFFER_CELLS = 2**24
"""Cells of the rows that are shuffled together: 64 MB. There are two such buffers."""


@dataclass(frozen=True, eq=False)
class StreamedRows:
    """Scaled rows of a source. Each epoch reads groups of rows in a random order, a few in turn, into a buffer.

    The order of rows is a function of the seed, the epoch and the sizes of the groups.

    Attributes
    ----------
    cells : StreamedCells
        The rows in the data's units.
    scaler : Scaler
        The scaler of these rows.
    dtype : torch.dtype
        Type of the scaled cells.
    validation_numbers : Tensor
        Numbers of the validation rows, in ascending order; those of other data are counted after the source's.
    held_out, chosen : Batch
        The validation rows, and rows at equal distances among those from which a start may be computed.
    is_separate : bool
        Whether nothing is computed from the validation rows, neither a scale nor a start.
    weight : Tensor or None
        Weight of each row, shape (n,), mean 1.
    """

    cells: StreamedCells
    scaler: Scaler
    dtype: torch.dtype
    validation_numbers: Tensor
    held_out: Batch
    chosen: Batch
    is_separate: bool = False
    weight: Tensor | None = None

    @classmethod
    def of(
        cls,
        cells: StreamedCells,
        scaler: Scaler,
        dtype: torch.dtype,
        validation_numbers: Tensor,
        is_separate: bool = False,
        weight: Tensor | None = None,
        apart: np.ndarray | None = None,
    ) -> StreamedRows:
        """Read the source once for the rows that are kept in memory; ``apart`` are validation rows of other data."""
        empty = Batch(torch.empty((0, cells.n_cells), dtype=dtype))
        rows = cls(cells, scaler, dtype, validation_numbers, empty, empty, is_separate, weight)
        own, usable = rows._own_validation, representative_numbers(cells, rows._own_validation, is_separate)
        numbers = np.union1d(own, usable)
        found = cells[numbers]
        held_out = found[np.searchsorted(numbers, own)] if apart is None else apart
        return replace(
            rows,
            held_out=rows._scaled(held_out, validation_numbers.numpy()),
            chosen=rows._scaled(found[np.searchsorted(numbers, usable)], usable),
        )

    @property
    def device(self) -> torch.device:
        """The device on which batches are made."""
        return torch.device("cpu")

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.cells.n_cells

    @property
    def n_validation(self) -> int:
        """Number of validation rows."""
        return len(self.validation_numbers)

    @property
    def _own_validation(self) -> np.ndarray:
        """Numbers of the validation rows that are rows of the source."""
        numbers = self.validation_numbers.numpy()
        return numbers[numbers < len(self.cells)]

    @property
    def n_training(self) -> int:
        """Number of training rows."""
        return len(self.cells) - len(self._own_validation)

    @property
    def n_bytes(self) -> int:
        """Bytes of all scaled cells."""
        return self.cells.size * self.dtype.itemsize

    def to(self, device: torch.device) -> StreamedRows:
        """The same rows, which stay where they are."""
        return self

    @property
    def n_usable(self) -> int:
        """Number of rows of which a start may be made."""
        return self.n_training if self.is_separate else len(self.cells)

    def _usable(self, positions: np.ndarray) -> np.ndarray:
        """Numbers of the rows of which a start may be made, at some positions among them."""
        return numbers_without(self._own_validation if self.is_separate else np.empty(0, np.int64), positions)

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All training rows, once, in a random order."""
        random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=generator)))
        sizes = (part.stop - part.start for part in equal_parts(self.n_training, batch_size))
        left = Batch(torch.empty((0, self.n_features), dtype=self.dtype))
        size = next(sizes)
        for rows in read_ahead(self._buffers(random)):
            order, done = torch.from_numpy(random.permutation(len(rows))), 0
            while len(left) + len(rows) - done >= size > 0:
                last = done + size - len(left)
                found = chosen_rows(rows, order[done:last])
                yield joined([left, found]) if len(left) else found
                left, done, size = left.map(lambda tensor: tensor[:0]), last, next(sizes, 0)
            rest = chosen_rows(rows, order[done:])
            left = joined([left, rest]) if len(left) else rest

    def _buffers(self, random: np.random.Generator) -> Iterator[Batch]:
        """All training rows, groups in a random order, as many at a time as are shuffled together."""
        order = random.permutation(len(self.cells.source.groups)).tolist()
        most = max(BUFFER_CELLS // self.n_features, 1)
        buffer: list[Batch] = []
        for block, first in self.cells.source.in_turn(order):
            kept = kept_rows(self._own_validation, first, len(block))
            buffer.append(self._scaled(self.cells.cells(block)[kept], kept + first))
            if sum(map(len, buffer)) >= most:
                yield joined(buffer)
                buffer = []
        if buffer:
            yield joined(buffer)

    def validation(self, n_rows: int) -> Iterator[Batch]:
        """The validation rows; without any, the training rows in order. Blocks of wide rows are smaller."""
        n_rows = min(n_rows, chunk_rows(self.n_features))
        if self.n_validation:
            yield from self.held_out.split(n_rows)
        else:
            yield from self._in_order(n_rows)

    def blocks(self) -> Iterator[Batch]:
        """All usable rows in order."""
        return self._in_order(max(BLOCK_CELLS // self.n_features, 1))

    def _in_order(self, n_rows: int) -> Iterator[Batch]:
        without, done = self._own_validation if self.is_separate else np.empty(0, np.int64), 0
        for chunk in read_ahead(self.cells.read_chunks(n_rows, without)):
            yield self._scaled(chunk, self._usable(np.arange(done, done + len(chunk))))
            done += len(chunk)

    def sample(self, n_rows: int) -> Batch:
        """About ``n_rows`` of the rows that are kept in memory."""
        return self.chosen.thinned(n_rows)

    def second_moment(self) -> Tensor | None:
        """The mean of z z^T over all usable rows z, in float64, if the pass for the scale has found it."""
        survey = self.cells.survey
        moment = None if survey is None or self.weight is not None else survey.second_moment(self.scaler)
        return None if moment is None else torch.from_numpy(moment)

    def representative(self) -> Batch:
        """Rows at equal distances, as many as take little memory."""
        return self.chosen

    @property
    def has_gaps(self) -> bool:
        """Whether cells were missing in the rows that the scaler has seen."""
        return self.scaler.has_gaps

    @property
    def has_more(self) -> bool:
        """Whether the source has more rows than are representative."""
        return self.n_usable > len(self.chosen)

    def _scaled(self, cells: np.ndarray, numbers: np.ndarray) -> Batch:
        """Rows with their weights, scaled."""
        weight = None if self.weight is None else self.weight[numbers]
        return scaled_batch(self.scaler, cells, self.dtype, weight)


def representative_numbers(cells: StreamedCells, own_validation: np.ndarray, is_separate: bool) -> np.ndarray:
    """Numbers of usable rows at equal distances, as many as take little memory."""
    without = own_validation if is_separate else own_validation[:0]
    n_usable = len(cells) - len(without)
    step = max(-(-n_usable // max(REPRESENTATIVE_CELLS // cells.n_cells, 256)), 1)
    return numbers_without(without, np.arange(0, n_usable, step))


def chosen_rows(rows: Batch, numbers: Tensor) -> Batch:
    """Some rows, by their numbers."""
    return rows.map(lambda tensor: tensor.index_select(0, numbers))


def joined(batches: list[Batch]) -> Batch:
    """The rows of batches of one form, one after the other."""
    tensors = zip(*(batch.tensors for batch in batches), strict=True)
    return Batch(*(None if own[0] is None else torch.cat(own) for own in tensors))  # type: ignore[arg-type]
