"""Rows of a stream that can be read once: the first ones are in memory, all others come up one time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from eigencode.batch import Batch
from eigencode.data.mapped_rows import scaled_batch
from eigencode.data.read_ahead import read_ahead
from eigencode.data.streamed_rows import BUFFER_CELLS, chosen_rows, joined
from eigencode.errors import DataError
from eigencode.lazy import torch

if TYPE_CHECKING:
    from eigencode.data.rows import Rows
    from eigencode.data.scaling import Scaler


@dataclass(frozen=True, eq=False)
class OnceRows:
    """Scaled rows of a stream, whose number is not known. The rows of a bounded buffer are shuffled together.

    Attributes
    ----------
    known : Rows
        The first rows, in memory: the validation rows and those of which a start is made are among them.
    rest : iterator of ndarray
        The cells of all others, a block at a time.
    scaler : Scaler
        The scaler of the first rows.
    """

    known: Rows
    rest: Iterator[np.ndarray]
    scaler: Scaler
    n_training: None = None
    n_bytes: int = 0
    _begun: list[bool] = field(default_factory=list)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.known.n_features

    @property
    def n_validation(self) -> int:
        """Number of validation rows."""
        return self.known.n_validation

    @property
    def dtype(self) -> torch.dtype:
        """Type of the scaled cells."""
        return self.known.dtype

    @property
    def device(self) -> torch.device:
        """The device on which batches are made."""
        return torch.device("cpu")

    @property
    def n_usable(self) -> int:
        """Number of rows of which a start may be made."""
        return self.known.n_usable

    @property
    def has_gaps(self) -> bool:
        """Whether cells are missing in the first rows."""
        return self.known.has_gaps

    @property
    def has_more(self) -> bool:
        """Whether there are more of the first rows than are representative."""
        return self.known.has_more

    def to(self, device: torch.device) -> OnceRows:
        """The same rows, which stay where they are."""
        return self

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """The training rows among the first ones, and all others; nothing when they were read before."""
        if self._begun:
            return
        self._begun.append(True)
        yield from self.known.batches(generator, batch_size)
        left: list[Batch] = []
        for rows in read_ahead(self._buffers()):
            shuffled = torch.randperm(len(rows), generator=generator)
            for numbers in shuffled.split(batch_size):
                batch = chosen_rows(rows, numbers)
                if len(batch) < batch_size:
                    left.append(batch)
                else:
                    yield batch
        if left:
            yield from joined(left).split(batch_size)

    def _buffers(self) -> Iterator[Batch]:
        """Scaled rows, as many at a time as are shuffled together."""
        waiting: list[Batch] = []
        for number, cells in enumerate(self.rest):
            found = scaled_batch(self.scaler, cells, self.dtype)
            if found.observed is not None and not self.scaler.has_gaps:
                got = f"the first in block {number} after those"
                hint = "Give blocks with gaps first, or fill them"
                raise DataError("The stream has gaps (NaN), and its first rows had none", got=got, hint=hint)
            waiting.append(found)
            if sum(map(len, waiting)) * self.n_features >= BUFFER_CELLS:
                yield joined(waiting)
                waiting = []
        if waiting:
            yield joined(waiting)

    def validation(self, n_rows: int) -> Iterator[Batch]:
        """The validation rows."""
        return self.known.validation(n_rows)

    def blocks(self) -> Iterator[Batch]:
        """The first rows in order."""
        return self.known.blocks()

    def sample(self, n_rows: int) -> Batch:
        """Every so-many-th of the first rows."""
        return self.known.sample(n_rows)

    def representative(self) -> Batch:
        """The first rows."""
        return self.known.representative()
