"""Rows of large tables, whose cells are made or read a batch at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eigencode.data.block_sources import StreamedCells
from eigencode.data.compact_rows import CompactRows
from eigencode.data.mapped_rows import JoinedArrays, MappedRows, is_mapped
from eigencode.data.once_rows import OnceRows
from eigencode.data.streamed_rows import StreamedRows
from eigencode.data.tables.compact import CompactCells

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.data.rows import Rows
    from eigencode.data.scaling import Scaler
    from eigencode.fitting.table import TrainingTable


def large_rows(table: TrainingTable, weight: Tensor | None, scaler: Scaler, dtype: torch.dtype) -> Rows | None:
    """The rows of a source, of a memory map, or of a large frame, with their weights; None for other tables."""
    split: dict[str, Any] = {
        "validation_numbers": table.validation_numbers,
        "is_separate": table.is_separate,
        "weight": weight,
    }
    if isinstance(table.array, StreamedCells):
        apart = None if table.validation is None else np.asarray(table.validation)
        return StreamedRows.of(table.array, scaler, dtype, apart=apart, **split)
    if is_mapped(table.array):
        array = table.array if table.validation is None else JoinedArrays(table.array, table.validation)
        return MappedRows(array, scaler, dtype, **split)
    if isinstance(table.array, CompactCells):
        is_training = np.isin(np.arange(len(table.array)), table.validation_numbers.numpy(), invert=True)
        split["training"] = torch.from_numpy(np.flatnonzero(is_training))
        return CompactRows.of(table.array, scaler, dtype, table.validation, **split)
    return None


def with_rest(rows: Rows, table: TrainingTable, scaler: Scaler) -> Rows:
    """The rows of a table, with those of a stream that come after them."""
    return rows if table.rest is None else OnceRows(rows, table.rest, scaler)
