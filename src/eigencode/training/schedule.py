"""The step size: warm-up, stable, decay.

The decay begins when progress on the held-out rows stops, when time is up, or so late that it ends with the last
step allowed, whichever comes first: an early stop never cuts the annealing off, where much of the gain lies.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Schedule:
    """A plain value: two numbers of it change when the decay is called for early.

    Attributes
    ----------
    peak : float
        Step size between warm-up and decay.
    warmup : int
        Steps of linear warm-up.
    decay_from, end : int
        The steps between which the size falls linearly to zero.
    decay_share : float
        Share of all steps that is decay.
    n_steps : int
        Steps allowed; ``end`` is earlier where the decay was called for.
    """

    peak: float
    warmup: int
    decay_from: int
    end: int
    decay_share: float
    n_steps: int

    @classmethod
    def over(cls, n_steps: int, peak: float, warmup: int, decay_share: float) -> Schedule:
        """The schedule that uses all of ``n_steps``."""
        return cls(peak, min(warmup, n_steps // 4), round(n_steps * (1 - decay_share)), n_steps, decay_share, n_steps)

    def rate(self, step: int) -> float:
        """Step size of one step, counted from 0."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        fall = 1.0 if step < self.decay_from else (self.end - step) / max(self.end - self.decay_from, 1)
        return self.peak * rise * max(fall, 0.0)

    def begin_decay(self, step: int) -> None:
        """Start the decay at this step, for its share of the steps made by its end.

        Nothing happens once it has started.
        """
        if step < self.decay_from:
            self.decay_from = step
            self.end = min(self.end, round(step / (1 - self.decay_share)))
