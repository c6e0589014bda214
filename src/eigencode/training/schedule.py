"""The step size: warm-up, stable, decay.

The decay begins when progress on the held-out rows stops, when time is up, or so late that it ends with the last
step allowed, whichever comes first: an early stop never cuts the annealing off, where much of the gain lies. A stream
has no last step and never decays.
"""

from __future__ import annotations

from dataclasses import dataclass

from eigencode.domains import Index, NotNegative, Share

ENDLESS = 2**62
"""Steps of a run without a known end."""


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
    begins : int
        The step that the warm-up starts from: 0, or where an earlier run left off.
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
    def endless(cls, peak: float, warmup: int, begins: int = 0) -> Schedule:
        """The schedule of a stream: after the warm-up the step size stays."""
        return cls(peak, warmup, ENDLESS, ENDLESS, decay_share=0.0, n_steps=ENDLESS, begins=begins)

    def rate(self, step: int) -> float:
        """Step size of one step, counted from 0."""
        rise = min(1.0, (step - self.begins + 1) / (self.warmup + 1))
        fall = 1.0 if step < self.decay_from else (self.end - step) / max(self.end - self.decay_from, 1)
        return self.peak * rise * max(fall, 0.0)

    def begin_decay(self, step: int) -> bool:
        """Start the decay at this step, for its share of the steps made by its end; returns whether it started now.

        Nothing happens once it has started.
        """
        if step >= self.decay_from:
            return False
        self.decay_from = step
        self.end = min(self.end, round(step / (1 - self.decay_share)))
        return True
