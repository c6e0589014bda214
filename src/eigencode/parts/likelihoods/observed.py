"""Statistics of columns over their observed cells; 0 for a column without any."""

from __future__ import annotations

import torch
from torch import Tensor

from eigencode.batch import Batch

SAMPLE_CELLS = 2**20
"""Cells from which numbers are estimated by iteration, in less than a second."""


def mean(cells: Tensor, observed: Tensor | None) -> Tensor:
    """Means of columns, for cells of shape (n, d); shape (d,)."""
    if observed is None:
        return cells.mean(0)
    return cells.where(observed, 0.0).sum(0) / observed.sum(0).clamp(min=1)


def overall_mean(cells: Tensor, observed: Tensor | None) -> Tensor:
    """The mean of all cells, a scalar."""
    if observed is None:
        return cells.mean()
    return cells.where(observed, 0.0).sum() / observed.sum().clamp(min=1)


def variance(cells: Tensor, observed: Tensor | None) -> Tensor:
    """Variances of columns, over n and not n - 1; shape (d,)."""
    if observed is None:
        return cells.var(0, correction=0)
    return mean((cells - mean(cells, observed)).square(), observed)


def median(cells: Tensor, observed: Tensor | None) -> Tensor:
    """Medians of columns, the lower one of an even number of cells; shape (d,)."""
    if observed is None:
        return cells.median(0).values
    return cells.where(observed, torch.nan).nanmedian(0).values.nan_to_num(0.0)


def stride(batch: Batch, n_cells: int = SAMPLE_CELLS) -> int:
    """The step m for which every m-th row has about ``n_cells`` cells in total."""
    return max(batch.x.numel() // n_cells, 1)


def evenly_sampled(batch: Batch, n_cells: int = SAMPLE_CELLS) -> Batch:
    """Every m-th row, with about ``n_cells`` cells in total."""
    step = stride(batch, n_cells)
    return batch.map(lambda tensor: tensor[::step])
