"""The step size: warm-up, stable, decay.

The decay begins when progress on the validation rows stops, when the time limit requires it, or so late that it ends
with the last allowed step, whichever is first. An early stop therefore always includes the decay, which gives much of
the gain. A stream has no last step and no decay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eigencode.domains import Index, NotNegative, Share

ENDLESS = 2**62
"""Steps of a run without a known end."""


@dataclass
class Schedule:
    """The step size as a function of the step; two of its numbers change if the decay begins early.

    Attributes
    ----------
    peak : float
        Step size between warm-up and decay.
    warmup : int
        Steps of linear warm-up.
    decay_from, end : int
        The steps between which the size falls linearly to zero.
    decay_share : float
        Share of the decay in all steps.
    n_steps : int
        Steps allowed; ``end`` is earlier if the decay began early.
    begins : int
        The first step of the warm-up: 0, or the last step of an earlier run.
    """

    peak: NotNegative
    warmup: Index
    decay_from: Index
    end: Index
    decay_share: Share
    n_steps: Index
    begins: Index = 0

    @classmethod
    def over(cls, n_steps: int, peak: float, warmup: int, decay_share: float) -> Schedule:
        """The schedule that uses all of ``n_steps``."""
        return cls(peak, min(warmup, n_steps // 4), round(n_steps * (1 - decay_share)), n_steps, decay_share, n_steps)

    @classmethod
    def endless(cls, peak: float, warmup: int, begins: int = 0, decay_share: float = 0.0) -> Schedule:
        """The schedule of a stream: after the warm-up the step size is constant, unless a decay is begun."""
        return cls(peak, warmup, ENDLESS, ENDLESS, decay_share, n_steps=ENDLESS, begins=begins)

    def rate(self, step: int) -> float:
        """Step size of one step, counted from 0."""
        rise = min(1.0, (step - self.begins + 1) / (self.warmup + 1))
        fall = 1.0 if step < self.decay_from else (self.end - step) / max(self.end - self.decay_from, 1)
        return self.peak * rise * max(fall, 0.0)

    def begin_decay(self, step: int) -> bool:
        """Begin the decay at this step, with its share of all steps; return whether it began now.

        Nothing happens if it has begun before.
        """
        if step >= self.decay_from:
            return False
        self.decay_from = step
        self.end = min(self.end, round(step / (1 - self.decay_share)))
        return True

    def end_with(self, step: int, left: float) -> None:
        """Lay a decay that has begun so that a given share of it is left at this step: it ends with a time limit.

        The number of steps in the time left is not known, but their pace in the decay so far is.
        """
        if self.decay_from < step < self.end and 0 < left < 1:
            whole = math.ceil((step - self.decay_from) / (1 - left))
            self.end = min(max(self.decay_from + whole, step + 1), self.n_steps)


def rates(schedules: Sequence[Schedule], step: int, n_steps: int) -> np.ndarray:
    """The step sizes of several schedules in the steps from ``step`` on, of shape (steps, schedules), 0 after the end.

    Examples
    --------
    >>> schedules = [Schedule.over(4, peak, 0, 0.5) for peak in (1.0, 2.0)]
    >>> rates(schedules, 1, 4).tolist()
    [[1.0, 2.0], [1.0, 2.0], [0.5, 1.0], [0.0, 0.0]]
    """
    steps = np.arange(step, step + n_steps, dtype=np.float64)[:, None]
    numbers = [(s.peak, s.warmup, s.decay_from, s.end, s.begins) for s in schedules]
    peak, warmup, decay_from, end, begins = np.array(numbers, dtype=np.float64).T
    rise = np.minimum((steps - begins + 1) / (warmup + 1), 1.0)
    fall = np.where(steps < decay_from, 1.0, (end - steps) / np.maximum(end - decay_from, 1))
    return np.where(steps < end, peak * rise * np.maximum(fall, 0.0), 0.0)
