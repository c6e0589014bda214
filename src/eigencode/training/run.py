"""TrainingRun: one model in training, what it is trained on, and how."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch

from eigencode.data.rows import Rows
from eigencode.model.objective import Objective
from eigencode.training.execution import Execution
from eigencode.training.state import TrainingState


@dataclass(frozen=True)
class Clock:
    """The time a run takes, and may take; without a limit nothing depends on it.

    Attributes
    ----------
    ends : float or None
        ``time.monotonic()`` at which the run must be over.
    decay_begins : float
        When the decay of the step size has to begin to be whole by then.
    begins : float
        When the training begins.
    """

    ends: float | None = None
    decay_begins: float = math.inf
    begins: float = 0.0

    def restarted(self) -> Clock:
        """The same time from now on, for a run that had to wait for others."""
        now = time.monotonic()
        if self.ends is None:
            return replace(self, begins=now)
        return Clock(self.ends + now - self.begins, self.decay_begins + now - self.begins, now)

    @classmethod
    def starting_at(cls, began: float, max_seconds: float | None, decay_share: float) -> Clock:
        """The clock of a run whose preparation began at a time and has just ended."""
        now = time.monotonic()
        if max_seconds is None:
            return cls(begins=now)
        ends = began + max_seconds
        return cls(ends, now + (1 - decay_share) * (ends - now), now)

    @property
    def elapsed(self) -> float:
        """Seconds since the training began, to be told and not to decide anything by."""
        return round(time.monotonic() - self.begins, 3)

    def is_time_to_end(self) -> bool:
        """Whether the decay has to begin now."""
        return self.ends is not None and time.monotonic() >= self.decay_begins

    def is_up(self) -> bool:
        """Whether the run must stop."""
        return self.ends is not None and time.monotonic() >= self.ends


@dataclass(frozen=True)
class TrainingRun:
    """All that the loop takes. The state alone changes; what else is here is fixed from beginning to end.

    Attributes
    ----------
    state : TrainingState
        The model, its optimiser, schedule and counters.
    rows : Rows
        What is learned from, and what decides which weights are kept.
    objective : Objective
        What is minimised.
    execution : Execution
        Device, precision, threads.
    batch_size : int
        Rows a step.
    period : int
        Steps from one evaluation to the next.
    patience : int
        Evaluations without progress before the decay; twice as many where the start was not improved on yet, since the
        way from a good start may lead over worse weights.
    progress : float
        What counts as progress: an improvement by more than this share of all that was gained since the start.
    clock : Clock
        When time is up.
    step_work : float
        Multiply-adds of one step's forward pass.
    """

    state: TrainingState
    rows: Rows
    objective: Objective
    execution: Execution
    batch_size: int
    period: int
    patience: int
    progress: float
    clock: Clock
    step_work: float = 0.0

    @property
    def n_batches(self) -> int:
        """Steps an epoch."""
        return math.ceil(self.rows.n_training / self.batch_size)

    @property
    def device(self) -> torch.device:
        """Where the arithmetic runs."""
        return torch.device(self.execution.device)
