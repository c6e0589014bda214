"""Rows: where scaled rows lie, how batches of them are gathered, and which of them decide what is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import TYPE_CHECKING, Protocol, Self

from eigencode.batch import Batch
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_CELLS = 2**22
"""Cells of a block at most, where all rows are passed over in order."""


class Rows(Protocol):
    """Scaled rows to learn from, and rows for validation.

    A source decides itself in which order its rows are best read. Whoever takes a batch does not know where it comes
    from.
    """

    @property
    def n_features(self) -> int:
        """Columns."""

    @property
    def n_training(self) -> int:
        """Rows to learn from."""

    @property
    def n_validation(self) -> int:
        """Rows that decide which weights are kept; 0 where those learned from do."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the cells."""

    @property
    def home(self) -> torch.device:
        """The device on which batches are gathered."""

    @property
    def n_bytes(self) -> int:
        """What all cells take."""

    def to(self, device: torch.device) -> Rows:
        """The same rows on a device, where they can be moved; else as they are."""

    @property
    def n_usable(self) -> int:
        """Number of rows of which a start may be made: without the validation rows if these are separate."""

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All rows to learn from, once, in a random order."""

    def validation(self, n_rows: int) -> Iterator[Batch]:
        """The rows for validation, or else those to learn from, always in one order, at most so many at a time."""

    def blocks(self) -> Iterator[Batch]:
        """All rows in order, those for validation too."""

    def sample(self, n_rows: int) -> Batch:
        """Rows evenly spread over all, about so many at most."""

    def representative(self) -> Batch:
        """What a start is made of: all rows where they lie in memory, else as many as can stand for them."""

    @property
    def has_more(self) -> bool:
        """Whether there are rows beyond the representative ones, of which ``blocks`` tell."""


class NumberedRows(ABC):
    """Rows that can be reached by number, in any order: what several models can take different batches of.

    Attributes
    ----------
    training, validation_numbers : Tensor
        Numbers of the rows to learn from, and of those for validation, each in order.
    """

    training: Tensor
    validation_numbers: Tensor

    @property
    @abstractmethod
    def source(self) -> object:
        """What rows are gathered from: two values with the same source gather the same rows by the same numbers."""

    @property
    @abstractmethod
    def home(self) -> torch.device:
        """The device on which batches are gathered."""

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

    def order(self, generator: torch.Generator, batch_size: int) -> Sequence[Tensor]:
        """Numbers of the training rows, shuffled. Batches are as equal as can be: one of a few rows steps on noise."""
        shuffled = self.training[torch.randperm(self.n_training, generator=generator)]
        return shuffled.to(self.home).tensor_split(ceil(self.n_training / batch_size))

    def validation_order(self, n_rows: int) -> Sequence[Tensor]:
        """Numbers of the rows for validation, in blocks as equal as can be: one of a few rows shows little."""
        numbers = (self.validation_numbers if self.n_validation else self.training).to(self.home)
        return numbers.tensor_split(max(ceil(len(numbers) / n_rows), 1))

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All rows to learn from, once, in a random order."""
        return map(self.gather, self.order(generator, batch_size))

    def validation(self, n_rows: int) -> Iterator[Batch]:
        """The rows for validation, or else those to learn from."""
        return map(self.gather, self.validation_order(n_rows))


@dataclass(frozen=True, eq=False)
class ResidentRows(NumberedRows):
    """Rows that lie in memory, the host's or a device's, as one tensor of cells.

    Attributes
    ----------
    every : Batch
        All rows, x of shape (n, d).
    training, validation_numbers : Tensor
        Numbers of the rows to learn from, and of those for validation.
    is_separate : bool
        Whether nothing at all is to be learned from the rows for validation, not even a start.

    Examples
    --------
    >>> rows = ResidentRows(Batch(torch.arange(6.0).view(3, 2)), torch.tensor([0, 2]), torch.tensor([1]))
    >>> rows.gather(torch.tensor([2, 0])).x
    tensor([[4., 5.],
            [0., 1.]])
    """

    every: Batch
    training: Tensor
    validation_numbers: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    is_separate: bool = False

    @classmethod
    def of(cls, x: Tensor, weight: Tensor | None = None) -> ResidentRows:
        """Rows of shape (n, d) to learn from, none for validation."""
        return cls(Batch(x, weight=weight), torch.arange(len(x)))

    @property
    def n_features(self) -> int:
        """Columns."""
        return self.every.x.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the cells."""
        return self.every.x.dtype

    @property
    def source(self) -> Batch:
        """All rows."""
        return self.every

    @property
    def home(self) -> torch.device:
        """The device of the cells."""
        return self.every.x.device

    @property
    def n_bytes(self) -> int:
        """What all cells take."""
        return self.every.x.nbytes

    def to(self, device: torch.device) -> Self:
        """The same rows on a device."""
        numbers = self.validation_numbers.to(device)
        return replace(self, every=self.every.to(device), validation_numbers=numbers)

    def gather(self, numbers: Tensor) -> Batch:
        """The rows of some numbers."""
        if numbers.dim() == 1:
            return self.every.map(lambda tensor: tensor.index_select(0, numbers))
        flat = numbers.flatten()
        return self.every.map(lambda tensor: tensor.index_select(0, flat).unflatten(0, numbers.shape))

    def blocks(self) -> Iterator[Batch]:
        """All rows in order."""
        yield from self.every.split(max(BLOCK_CELLS // max(self.n_features, 1), 1))

    def sample(self, n_rows: int) -> Batch:
        """Every so-many-th row."""
        return self.every.thinned(n_rows)

    def representative(self) -> Batch:
        """All rows, but for those for validation where these are apart."""
        return self.gather(self.training.to(self.home)) if self.is_separate else self.every

    @property
    def has_more(self) -> bool:
        """Nothing: whatever may be learned from is representative."""
        return False

    @property
    def n_usable(self) -> int:
        """Number of rows of which a start may be made."""
        return self.n_training if self.is_separate else len(self.every)
