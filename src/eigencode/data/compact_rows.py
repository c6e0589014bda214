"""Rows of a large frame: numbers scaled, categories as small integers, expanded to cells a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from eigencode.batch import Batch, equal_parts
from eigencode.data.gaps import hide_gaps
from eigencode.data.mapped_rows import REPRESENTATIVE_CELLS, require_finite
from eigencode.data.rows import NumberedRows
from eigencode.data.sources import BLOCK_CELLS
from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.data.scaling import Scaler
    from eigencode.data.tables.compact import CompactCells


@dataclass(frozen=True, eq=False)
class CompactRows(NumberedRows):
    """Scaled rows in memory, in which a category is a small integer. Batches are those of `ResidentRows`.

    Attributes
    ----------
    numbers : Tensor
        Scaled cells of columns of numbers, shape (n, a).
    codes : Tensor
        For each row and each other column, a number of a row of its table, shape (n, c).
    table : Tensor
        The scaled cells of all tables, shape (m,).
    first, width, column : Tensor
        For each cell of the other columns, shape (b,): the index in ``table`` for code 0, the distance from one code to
        the next, and the number of its column in ``codes``.
    permutation : Tensor
        For each of the d = a + b cells of a row its index among those of numbers and, behind them, the others.
    training, validation_numbers : Tensor
        Numbers of the training rows and of the validation rows.
    has_gaps : bool
        Whether cells are missing.
    is_separate : bool
        Whether nothing is computed from the validation rows, not even the start.
    weight : Tensor or None
        Weight of each row, shape (n,), mean 1.
    """

    numbers: Tensor
    codes: Tensor
    table: Tensor
    first: Tensor
    width: Tensor
    column: Tensor
    permutation: Tensor
    training: Tensor
    validation_numbers: Tensor
    has_gaps: bool
    is_separate: bool = False
    weight: Tensor | None = None

    @classmethod
    def of(
        cls,
        cells: CompactCells,
        scaler: Scaler,
        dtype: torch.dtype,
        apart: CompactCells | np.ndarray | None = None,
        **given: Any,
    ) -> Self:
        """The scaled rows of cells, and those apart behind them; ``given`` are their split and their weights."""
        kind, done, has_gaps = np.float64 if dtype == torch.float64 else np.float32, 0, False
        every: list[Any] = [cells] if apart is None else [cells, apart]
        numbers = np.empty((sum(map(len, every)), len(cells.numbered)), kind)
        for chunk in chain.from_iterable(scaler.chunks(rows, kind) for rows in every):
            batch = hide_gaps(torch.from_numpy(chunk))
            require_finite(batch.x)
            has_gaps = has_gaps or batch.observed is not None
            numbers[done : done + len(chunk)] = chunk[:, cells.numbered]
            done += len(chunk)
        codes = cells.codes
        if apart is not None:
            cells, beside = cells.with_values_of(apart)
            codes = np.concatenate([cells.codes, beside])
        examples = np.concatenate([np.empty((0, cells.shape[1]), kind), *scaler.chunks(cells.examples, kind)])
        widths = [part.stop - part.start for part, _ in cells.tables]
        tables = [examples[: len(table), part].ravel() for part, table in cells.tables]
        begins = np.cumsum([0, *map(len, tables)])
        return cls(
            numbers=torch.from_numpy(numbers),
            codes=torch.from_numpy(codes),
            table=torch.from_numpy(np.concatenate([np.empty(0, kind), *tables])),
            first=torch.tensor([b + i for b, width in zip(begins, widths, strict=False) for i in range(width)]).long(),
            width=torch.tensor([width for width in widths for _ in range(width)]).long(),
            column=torch.tensor([column for column, width in enumerate(widths) for _ in range(width)]).long(),
            permutation=torch.from_numpy(np.concatenate([cells.numbered, cells.tabled]).argsort()),
            has_gaps=has_gaps,
            **given,
        )

    @property
    def source(self) -> Tensor:
        """The numbers."""
        return self.numbers

    @property
    def n_features(self) -> int:
        """Columns."""
        return len(self.permutation)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the cells."""
        return self.numbers.dtype

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.numbers.device

    @property
    def n_bytes(self) -> int:
        """What the rows take."""
        return self.numbers.nbytes + self.codes.nbytes

    def to(self, device: torch.device) -> Self:
        """The same rows on a device."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "training"}
        tensors = {name: value for name, value in own.items() if isinstance(value, torch.Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})  # type: ignore[arg-type]

    def gather(self, numbers: Tensor) -> Batch:
        """The rows of some numbers."""
        flat = numbers.flatten()
        codes = self.codes.index_select(0, flat).long().index_select(1, self.column)
        tabled = self.table.take(codes.mul_(self.width).add_(self.first))
        x = torch.cat([self.numbers.index_select(0, flat), tabled], 1).index_select(1, self.permutation)
        weight = None if self.weight is None else self.weight.index_select(0, flat)
        found = Batch(x, ~x.isnan() if self.has_gaps else None, weight)
        return found if numbers.dim() == 1 else found.map(lambda tensor: tensor.unflatten(0, numbers.shape))

    @cached_property
    def _usable(self) -> Tensor:
        """Numbers of the rows from which the start may be computed."""
        return self.training if self.is_separate else torch.arange(len(self.numbers))

    @property
    def n_usable(self) -> int:
        """Number of rows from which the start may be computed."""
        return len(self._usable)

    def blocks(self) -> Iterator[Batch]:
        """All usable rows in order."""
        for part in equal_parts(self.n_usable, max(BLOCK_CELLS // self.n_features, 1)):
            yield self.gather(self._usable[part].to(self.device))

    def sample(self, n_rows: int) -> Batch:
        """Every so-many-th row, of wide rows fewer."""
        n, n_rows = len(self.numbers), min(n_rows, 2 * self._n_representative)
        return self.gather(torch.arange(0, n, max(n // n_rows, 1), device=self.device))

    def representative(self) -> Batch:
        """Usable rows at equal distances, all if they are few."""
        return self._representative

    @cached_property
    def _representative(self) -> Batch:
        return self.gather(self._usable[:: ceil(self.n_usable / self._n_representative)].to(self.device))

    @property
    def _n_representative(self) -> int:
        return max(REPRESENTATIVE_CELLS // self.n_features, 256)

    @property
    def has_more(self) -> bool:
        """Whether there are more rows than are representative."""
        return self.n_usable > self._n_representative
