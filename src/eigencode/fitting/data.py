"""Data: what a model is fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.data.rows import Rows
from eigencode.parts.base import Sizes, Units
from eigencode.training.rng import generator

CALIBRATION_ROWS = 8192
"""Rows that determine a likelihood's own parameters at the start."""

MOST_VALIDATION_ROWS = 50_000
"""Rows for validation at most: with these the error of a mean is half a per cent of the rows' spread."""

TYPICAL_CELLS, TYPICAL_ROWS = 2**21, 256
"""Cells of the rows that represent weighted ones, a few megabytes, but at least so many rows."""


@dataclass(frozen=True, eq=False)
class Data:
    """Scaled rows, those to learn from and those for validation, and the units that they were scaled from.

    Attributes
    ----------
    rows : Rows
        Where the rows are, how they are gathered, how they are split, and what each weighs.
    units : Units
        The data's units seen from the scaled ones.
    """

    rows: Rows
    units: Units

    def __repr__(self) -> str:
        rows = self.rows
        split = f"{rows.n_training} rows to learn from, {rows.n_validation} for validation"
        return f"Data({split}, {rows.n_features} columns, {rows.dtype} on {rows.home})"

    @cached_property
    def typical(self) -> Batch:
        """Rows each as often as its weight says."""
        every = self.rows.representative()
        if every.weight is None:
            return every
        numbers = _systematic_sample(every.weight, self.rows.n_features)
        return replace(every.map(lambda tensor: tensor[numbers]), weight=None)

    @cached_property
    def weighed(self) -> Batch:
        """Rows each times the root of its weight, whose second moments are the weighted ones."""
        every = self.rows.representative()
        return every if every.weight is None else Batch(every.x * every.weight.sqrt()[:, None], every.observed)

    @property
    def sample(self) -> Batch:
        """As many rows as determine numbers of a start."""
        return self.typical.thinned(CALIBRATION_ROWS)

    @cached_property
    def sizes(self) -> Sizes:
        """What parts may know of the data."""
        every, n_rows = self.rows.representative(), self.rows.n_training
        low, high = every.range()
        return Sizes(self.rows.n_features, 1, n_rows, self.units, low, high)


def _systematic_sample(weights: Tensor, n_columns: int) -> Tensor:
    """Row numbers, each as often as its weight says, up to rounding: what a statistic of the rows should see.

    As many as there are rows, and more of few rows so that little is rounded, but no more than take little memory.
    """
    cumulative = weights.double().cumsum(0)
    n_draws = min(max(len(weights), 2 * CALIBRATION_ROWS), max(TYPICAL_CELLS // n_columns, TYPICAL_ROWS))
    positions = (torch.arange(n_draws, dtype=torch.float64) + 0.5) * (cumulative[-1] / n_draws)
    return torch.searchsorted(cumulative, positions).clamp_(max=len(weights) - 1)


def validation_size(n_rows: int, fraction: float) -> int:
    """How many rows are for validation: a share, but enough stay to learn from, and no more than show all there is."""
    return min(round(n_rows * fraction), n_rows - 1, MOST_VALIDATION_ROWS)


def split(n_rows: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the rows to learn from and of those for validation, at random; at least one stays to learn from."""
    order = torch.randperm(n_rows, generator=generator(seed, "split"))
    n_validation = validation_size(n_rows, fraction)
    return order[n_validation:].sort().values, order[:n_validation].sort().values
