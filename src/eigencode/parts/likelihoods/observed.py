"""Statistics of columns over their observed cells; 0 for a column without any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from eigencode.batch import Batch

SAMPLE_CELLS = 2**20
"""Cells from which numbers are estimated by iteration, in less than a second."""

LARGE_CELLS, WIDE = 2**23, 128
"""Cells, and columns, from which on torch reads them slowly."""

CONSTANT = 1e-12
"""A column with less than this share of the mean variance of all columns is constant, but for rounding."""

ALIKE = 2.0
"""If no column has more than so many times the variance of another, they may have been standardised."""


def mean(cells: Tensor, observed: Tensor | None) -> Tensor:
    """Means of columns, for cells of shape (n, d); shape (d,)."""
    if observed is None:
        is_large = cells.numel() > LARGE_CELLS and cells.shape[-1] >= WIDE
        return _large_mean(cells) if is_large and _is_plain(cells) else cells.mean(0)
    return cells.where(observed, 0.0).sum(0) / observed.sum(0).clamp(min=1)


def _is_plain(cells: Tensor) -> bool:
    """Whether NumPy can read the cells, and no derivative is wanted."""
    return cells.device.type == "cpu" and not cells.requires_grad and cells.dtype in (torch.float32, torch.float64)


def _large_mean(cells: Tensor) -> Tensor:
    """The same of cells that do not fit into the cache, by sums of a few rows, which are faster by NumPy."""
    sums = [part.numpy().sum(0) for part in cells.split(cached_rows(cells.shape[-1]))]
    return torch.from_numpy(np.stack(sums).sum(0, dtype=np.float64) / len(cells)).to(cells)


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


def cached_rows(n_columns: int) -> int:
    """Rows that stay in the fastest cache while several functions of their cells are computed."""
    return max(SAMPLE_CELLS // (8 * max(n_columns, 1)), 1)


def evenly_sampled(batch: Batch, n_cells: int = SAMPLE_CELLS) -> Batch:
    """Every m-th row, with about ``n_cells`` cells in total."""
    step = stride(batch, n_cells)
    return batch.map(lambda tensor: tensor[::step])


def variance_of_one_cell(batch: Batch) -> Tensor:
    r"""What one further cell could add to the variances of columns that share a unit, shape (d,), in float64.

    .. math:: \frac{1}{n} \max\left(\frac{m_4}{m_2} - 3 m_2, 0\right)

    with n observed cells of a column and their central moments m. If each cell counts by its part of the variance, the
    mean square is m_4 / m_2: 3 m_2 in a normal column, which therefore has 0, and b^2 in a column that has the value b
    in a few rows and is 0 in all others. For a constant column the mean variance of all columns stands for it.
    Columns of about the same variance may have been standardised, so that they share no unit: all have 0.

    Examples
    --------
    One cell of 100 is 2, a column is constant, and one has half of its cells at 1:

    >>> x = torch.zeros(100, 3)
    >>> x[0, 0], x[:50, 2] = 2, 1
    >>> variance_of_one_cell(Batch(x)).round(decimals=4)
    tensor([0.0376, 0.0010, 0.0000], dtype=torch.float64)
    """
    (center,) = _means(batch, lambda x: [x])

    def even_powers(x: Tensor) -> list[Tensor]:
        square = (x - center.to(x)).square_()
        return [square, square.square()]

    second, fourth = _means(batch, even_powers)
    varies = second > CONSTANT * second.mean()
    spread = second[varies]
    if not len(spread) or bool(spread.max() < ALIKE * spread.min()):
        return torch.zeros_like(second)
    excess = (fourth / second.where(varies, 1.0) - 3 * second).clamp(min=0)
    return excess.where(varies, second.mean()) / _n_cells(batch).clamp(min=1)


def _n_cells(batch: Batch) -> Tensor:
    """The number of observed cells of each column; a scalar if there are no gaps."""
    return torch.tensor(len(batch)) if batch.observed is None else batch.observed.sum(0)


def _means(batch: Batch, functions: Callable[[Tensor], list[Tensor]]) -> Tensor:
    """Means of functions of cells over the observed ones of columns, shape (m, d), in float64, few rows at a time."""
    total: Tensor = torch.zeros((), dtype=torch.float64)
    for part in batch.split(cached_rows(batch.x.shape[-1])):
        found = torch.stack([mean(cells, part.observed) for cells in functions(part.x)])
        total = total + _n_cells(part) * found.double()
    return total / _n_cells(batch).clamp(min=1)
