"""The values of 'auto': sizes and numbers of steps, derived from the data and never from measured time.

``docs/log.md`` has the experiments for the constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


def given_or(option: Any, automatic: Any) -> Any:
    """The option, or ``automatic`` if it is 'auto'."""
    return automatic if option == "auto" else option


def geometric_widths(n_features: int, n_components: int, depth: int) -> tuple[int, ...]:
    """Widths of ``depth`` hidden layers that fall (or rise) geometrically from the data to the code."""
    ratio = n_components / n_features
    return tuple(max(round(n_features * ratio ** (i / (depth + 1))), 1) for i in range(1, depth + 1))


def hidden_widths(n_features: int, n_components: int, n_rows: int) -> tuple[int, ...]:
    """Widths of the encoder's hidden layers.

    Two layers, the second one narrower, if there are enough rows to train them, else one.
    """
    first = _power_of_two(4 * n_features, 32, 512)
    if n_rows < 5_000:
        return (min(first, 128),)
    return (first, max(first // 2, _power_of_two(n_components, 16, 512)))


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
        A run has at least so many steps and epochs.
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
    batch_share: float
    min_batch: int
    max_batch: int

    def batch_size(self, n_rows: int | None) -> int:
        """Rows a step; the most if the number of rows is not known."""
        if n_rows is None:
            return self.max_batch
        return min(_power_of_two(self.batch_share * n_rows, self.min_batch, self.max_batch), n_rows)

    def learning_rate(self, batch_size: int, n_weights: int) -> float:
        """Peak step size: larger for larger batches, whose gradients have less noise, and for fewer weights.

        A step of Adam moves each weight by about the step size, so a unit with more inputs changes more.
        """
        by_batch = min(max(batch_size / self.min_batch, 1.0) ** 0.5, self.rate_by_batch)
        return min(self.rate * by_batch * (1e6 / n_weights) ** self.rate_by_weights, self.largest_rate)

    def n_epochs(self, n_batches: int) -> int:
        """Passes over the rows."""
        return max(self.min_epochs, math.ceil(self.min_steps / n_batches))


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
        batch_share=2.0,
        min_batch=2,
        max_batch=2**62,
    ),
}


SMALL_TABLE = 400
"""Up to this many rows, L-BFGS on all rows was better and faster than Adam on batches."""


def choose_optimizer(n_rows: int | None, is_noisy: bool) -> str:
    """L-BFGS for small tables; its line search needs an objective without random noise or coarse rounding."""
    return "lbfgs" if n_rows is not None and n_rows <= SMALL_TABLE and not is_noisy else "adam"


def _power_of_two(wanted: float, low: int, high: int) -> int:
    """The power of two nearest to a number (in ratio), within bounds."""
    return int(min(max(2 ** round(math.log2(max(wanted, 1))), low), high))
