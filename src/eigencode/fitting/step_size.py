"""The step size, and what decides it: optimiser, batch size and number of steps, derived from the data where 'auto'.

Nothing depends on measured time. ``docs/log.md`` has the experiments for the constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from eigencode.options import given_or
from eigencode.training.schedule import Schedule


@dataclass(frozen=True)
class Recipe:
    """Default settings of an optimiser.

    Attributes
    ----------
    rate : float
        Peak step size for a million weights and the smallest batch.
    rate_by_batch : float
        Largest factor for larger batches; the factor is the square root of the ratio of the sizes.
    rate_by_weights : float
        The step size falls with this power of the number of weights.
    largest_rate : float
        Upper bound of the peak step size.
    warmup : int
        Steps of warm-up.
    decay_share : float
        Share of the steps in which the step size decays.
    patience : int
        Epochs without progress before the decay.
    progress : float
        An epoch makes progress if it gains at least this share of the whole gain so far.
    min_steps, min_epochs : int
        A run has at least so many steps and epochs, fewer epochs of many rows.
    many_rows : int
        Rows from which there are fewer epochs, or `ROWS_A_WEIGHT` for each weight if these are more.
    batch_share, min_batch, max_batch : float, int, int
        Rows a step: a share of the rows, as a power of two within bounds.
    """

    rate: float
    rate_by_batch: float
    rate_by_weights: float
    largest_rate: float
    warmup: int
    decay_share: float
    patience: int
    progress: float
    min_steps: int
    min_epochs: int
    many_rows: int
    batch_share: float
    min_batch: int
    max_batch: int

    def batch_size(self, n_rows: int | None) -> int:
        """Rows a step; the most if the number of rows is not known."""
        if n_rows is None:
            return self.max_batch
        return min(power_of_two(self.batch_share * n_rows, self.min_batch, self.max_batch), n_rows)

    def learning_rate(self, batch_size: int, n_weights: int) -> float:
        """Peak step size: larger for larger batches, whose gradients have less noise, and for fewer weights.

        A step of Adam moves each weight by about the step size, so a unit with more inputs changes more.
        """
        by_batch = min(max(batch_size / self.min_batch, 1.0) ** 0.5, self.rate_by_batch)
        return min(self.rate * by_batch * (1e6 / n_weights) ** self.rate_by_weights, self.largest_rate)

    def epochs(self, n_rows: int, n_batches: int, n_weights: int) -> float:
        """Passes over the rows at most, by default; a fraction of one may be the last.

        The rows seen, with repetitions, are in proportion to the number of rows up to ``many_rows``, and to its power
        of .4 above that, but every row is seen at least once.
        """
        few = min(1.0, max(self.many_rows, ROWS_A_WEIGHT * n_weights) / n_rows)
        return max(self.min_epochs * few ** (1 - SEEN_POWER), math.ceil(self.min_steps / n_batches))

    def most_steps(
        self, n_rows: int | None, batch_size: int, n_weights: int, max_epochs: int | str | None
    ) -> int | None:
        """Steps after which a run ends; None if only the rows, or a time limit, end it."""
        if n_rows is None or max_epochs is None:
            return None
        n_batches = math.ceil(n_rows / batch_size)
        return round(n_batches * given_or(max_epochs, self.epochs(n_rows, n_batches, n_weights)))

    def schedule(self, peak: float, n_steps: int | None) -> Schedule:
        """The step size at each step of a run; without an end if the number of steps is None."""
        if n_steps is None:
            return Schedule.endless(peak, self.warmup, decay_share=self.decay_share)
        return Schedule.over(n_steps, peak, self.warmup, self.decay_share)


SEEN_POWER = 0.4
"""The power of the number of rows by which those seen grow, if there are many: 2.5 times for ten times as many."""

ROWS_A_WEIGHT = 16
"""Rows for each weight up to which a model sees them as often as those of a small table."""


RECIPES = {
    "adam": Recipe(
        rate=2e-3,
        rate_by_batch=3.0,
        rate_by_weights=0.25,
        largest_rate=24e-3,
        warmup=50,
        decay_share=0.4,
        patience=10,
        progress=0.005,
        min_steps=2_000,
        min_epochs=20,
        many_rows=2**18,
        batch_share=1 / 16,
        min_batch=32,
        max_batch=256,
    ),
    "lbfgs": Recipe(
        rate=1.0,
        rate_by_batch=1.0,
        rate_by_weights=0.0,
        largest_rate=1.0,
        warmup=0,
        decay_share=0.0,
        patience=5,
        progress=0.0,
        min_steps=400,
        min_epochs=400,
        many_rows=2**62,
        batch_share=2.0,
        min_batch=2,
        max_batch=2**62,
    ),
}


DROPPING: Mapping[str, Any] = {"batch_share": 0.5, "patience": 5}
"""What differs where known cells are hidden in training: each row then takes the solution of a linear system, so that
the steps take longer, and their noise is as large for few rows as for many."""

SMALL_TABLE = 400
"""Up to this many rows, L-BFGS on all rows was better and faster than Adam on batches."""


def recipe_of(optimizer: str, drops: bool = False) -> Recipe:
    """The settings of an optimiser, and whether known cells are hidden in training."""
    return replace(RECIPES[optimizer], **DROPPING) if drops and optimizer == "adam" else RECIPES[optimizer]


def choose_optimizer(n_rows: int | None, is_noisy: bool, batch_size: int | str) -> str:
    """L-BFGS for small tables, if each step has all rows; Adam for others.

    The line search of L-BFGS needs the same objective in each step, without random noise or coarse rounding.
    """
    if n_rows is None or n_rows > SMALL_TABLE or is_noisy:
        return "adam"
    return "lbfgs" if given_or(batch_size, n_rows) >= n_rows else "adam"


def power_of_two(wanted: float, low: int, high: int) -> int:
    """The power of two nearest to a number (in ratio), within bounds."""
    return int(min(max(2 ** round(math.log2(max(wanted, 1))), low), high))
