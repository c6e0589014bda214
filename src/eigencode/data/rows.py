"""Rows: scaled rows for training and validation, and batches of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol, Self

from eigencode.batch import Batch, equal_parts
from eigencode.data.sources import BLOCK_CELLS, chunk_rows
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class Rows(Protocol):
    """Scaled rows for training and for validation.

    The order in which rows are read is the implementation's; callers of ``batches`` do not depend on it.
    """

    @property
    def n_features(self) -> int:
        """Columns."""

    @property
    def n_training(self) -> int | None:
        """Number of training rows; None if it is not known before they are read, and then `validation` has others."""

    @property
    def n_validation(self) -> int:
        """Number of validation rows; if it is 0, the training rows are used for evaluation."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the cells."""

    @property
    def device(self) -> torch.device:
        """The device on which batches are gathered."""

    @property
    def n_bytes(self) -> int:
        """Bytes of all cells."""

    def to(self, device: torch.device) -> Rows:
        """The same rows on a device, if they can be moved; else unchanged."""

    @property
    def n_usable(self) -> int:
        """Number of rows from which the start may be computed: without the validation rows if these are separate."""

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All training rows once, in a random order; nothing if they can be read only once and were read before."""

    def validation(self, n_rows: int) -> Iterator[Batch]:
        """The validation rows (without any, the training rows), in a fixed order, in blocks of at most ``n_rows``."""

    def blocks(self) -> Iterator[Batch]:
        """All rows in order, including those for validation."""

    def sample(self, n_rows: int) -> Batch:
        """Every m-th row, about ``n_rows`` in total."""

    def representative(self) -> Batch:
        """Rows from which the start is computed: all rows if they are in memory, else a sample."""

    @property
    def has_gaps(self) -> bool:
        """Whether cells may be missing."""

    @property
    def has_more(self) -> bool:
        """Whether there are more rows than the representative ones; ``blocks`` has all."""


class NumberedRows(ABC):
    """Rows that can be gathered by number, in any order, so that several models can have different batches.

    Attributes
    ----------
    training, validation_numbers : Tensor
        Numbers of the training rows and of the validation rows, each in ascending order.
    """

    training: Tensor
    validation_numbers: Tensor

    @property
    @abstractmethod
    def source(self) -> object:
        """The object that has the cells: objects with the same source have the same rows for the same numbers."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device on which batches are gathered."""

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Columns."""

    @abstractmethod
    def gather(self, numbers: Tensor) -> Batch:
        """The rows of some numbers, which may have any shape: x of shape (*numbers.shape, d)."""

    @property
    def n_training(self) -> int:
        """Rows to learn from."""
        return len(self.training)

    @property
    def n_validation(self) -> int:
        """Rows for validation."""
        return len(self.validation_numbers)

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Shuffled numbers of the training rows."""
        order = torch.randperm(self.n_training, generator=generator, dtype=self.training.dtype)
        return self.training.index_select(0, order)

    def order(self, generator: torch.Generator, batch_size: int) -> Sequence[Tensor]:
        """The same in batches of about equal size, on the rows' device: a small batch would be too noisy."""
        shuffled, is_gpu = self.shuffled(generator), self.device.type == "cuda"
        # From pinned memory, so that the host does not wait for the steps before.
        shuffled = (shuffled.pin_memory() if is_gpu else shuffled).to(self.device, non_blocking=is_gpu)
        return [shuffled[part] for part in equal_parts(self.n_training, batch_size)]

    @property
    def evaluated(self) -> Tensor:
        """Numbers of the validation rows, or of the training rows if there are none."""
        return self.validation_numbers if self.n_validation else self.training

    def validation_order(self, n_rows: int) -> Sequence[Tensor]:
        """The same in blocks of about equal size, smaller ones of wide rows, on the rows' device."""
        numbers = self.evaluated.to(self.device)
        return [numbers[part] for part in equal_parts(len(numbers), min(n_rows, chunk_rows(self.n_features)))]

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All training rows once, in a random order."""
        return map(self.gather, self.order(generator, batch_size))

    def validation(self, n_rows: int) -> Iterator[Batch]:
        """The validation rows, or the training rows if there are none."""
        return map(self.gather, self.validation_order(n_rows))


@dataclass(frozen=True, eq=False)
class ResidentRows(NumberedRows):
    """Rows in memory, the host's or a device's, as one tensor of cells.

    Attributes
    ----------
    all_rows : Batch
        All rows, x of shape (n, d).
    training, validation_numbers : Tensor
        Numbers of the training rows and of the validation rows.
    is_separate : bool
        Whether the validation rows are separate data, from which nothing is computed, not even the start.

    Examples
    --------
    >>> rows = ResidentRows(
    ...     Batch(torch.arange(6.0).view(3, 2)), torch.tensor([0, 2]), torch.tensor([1])
    ... )
    >>> rows.gather(torch.tensor([2, 0])).x
    tensor([[4., 5.],
            [0., 1.]])
    """

    all_rows: Batch
    training: Tensor
    validation_numbers: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    is_separate: bool = False

    @classmethod
    def of(cls, rows: Batch) -> ResidentRows:
        """Training rows, none for validation."""
        return cls(rows, torch.arange(len(rows)))

    @property
    def n_features(self) -> int:
        """Columns."""
        return self.all_rows.x.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the cells."""
        return self.all_rows.x.dtype

    @property
    def source(self) -> Batch:
        """All rows."""
        return self.all_rows

    @property
    def device(self) -> torch.device:
        return self.all_rows.x.device

    @property
    def n_bytes(self) -> int:
        """What all cells take."""
        return self.all_rows.x.nbytes

    def to(self, device: torch.device) -> Self:
        """The same rows on a device."""
        numbers = self.validation_numbers.to(device)
        return replace(self, all_rows=self.all_rows.to(device), validation_numbers=numbers)

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All training rows once, in a random order, by one operation a tensor."""
        for numbers in self.order(generator, batch_size):
            yield self.all_rows.map(partial(torch.index_select, dim=0, index=numbers))

    def gather(self, numbers: Tensor) -> Batch:
        """The rows of some numbers."""
        flat = numbers.flatten()
        return self.all_rows.map(lambda tensor: tensor.index_select(0, flat).unflatten(0, numbers.shape))

    def blocks(self) -> Iterator[Batch]:
        """All rows in order."""
        yield from self.all_rows.split(max(BLOCK_CELLS // max(self.n_features, 1), 1))

    def sample(self, n_rows: int) -> Batch:
        """Every so-many-th row."""
        return self.all_rows.thinned(n_rows)

    def representative(self) -> Batch:
        """All rows, without the validation rows if these are separate."""
        if not self.is_separate:
            return self.all_rows
        n = self.n_training
        if n and int(self.training[-1]) == n - 1:  # the numbers ascend, so these are the first rows
            return self.all_rows.map(itemgetter(slice(n)))
        return self.gather(self.training.to(self.device))

    @property
    def has_gaps(self) -> bool:
        """Whether cells are missing."""
        return self.all_rows.observed is not None

    @property
    def has_more(self) -> bool:
        """False: all rows from which anything may be computed are representative."""
        return False

    @property
    def n_usable(self) -> int:
        """Number of rows from which the start may be computed."""
        return self.n_training if self.is_separate else len(self.all_rows)
