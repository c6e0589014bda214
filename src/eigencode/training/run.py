"""TrainingRun: one model in training, its rows, and the settings of its training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from eigencode.data.rows import Rows
from eigencode.model.composition import Composition
from eigencode.model.objective import Objective
from eigencode.training.execution import Execution
from eigencode.training.optimizers import OPTIMIZERS
from eigencode.training.schedule import ENDLESS
from eigencode.training.state import AVERAGE_EVERY, TrainingState, Unevaluated


@dataclass(frozen=True)
class Clock:
    """The start and the time limit of a run; without a limit nothing depends on time.

    Attributes
    ----------
    ends : float or None
        ``time.monotonic()`` at which the run must be over.
    decay_begins : float
        The time at which the decay of the step size has to begin to be complete by then.
    begins : float
        The time at which training begins, earlier by what another process has trained.
    trained : float
        Seconds that another process has trained.
    """

    ends: float | None = None
    decay_begins: float = math.inf
    begins: float = 0.0
    trained: float = 0.0

    def restarted(self) -> Clock:
        """A clock with the same time limit that starts now, for a run that had to wait for others."""
        return self.after(self.begins + self.trained - time.monotonic())

    def after(self, seconds: float) -> Clock:
        """The clock of a run that has trained for so many seconds more."""
        ends = None if self.ends is None else self.ends - seconds
        return replace(self, ends=ends, decay_begins=self.decay_begins - seconds, begins=self.begins - seconds)

    def resumed(self, seconds: float) -> Clock:
        """The clock of a run that another process has trained for so many seconds."""
        return replace(self.after(seconds), trained=seconds)

    @classmethod
    def starting_at(cls, began: float, max_seconds: float | None, decay_share: float) -> Clock:
        """The clock of a run whose preparation began at a time and has just ended."""
        now = time.monotonic()
        if max_seconds is None:
            return cls(begins=now)
        ends = began + max_seconds
        return cls(ends, now + (1 - decay_share) * (ends - now), now)

    @property
    def has_time(self) -> bool:
        """Whether the preparation has left some of the time limit."""
        return self.ends is None or self.ends > self.begins

    @property
    def elapsed(self) -> float:
        """Seconds since training began, for information only."""
        return round(time.monotonic() - self.begins, 3)

    @property
    def share(self) -> float:
        """The share of the time limit that has passed, 0 without one."""
        return self._share_of(time.monotonic() - self.begins)

    @property
    def trained_share(self) -> float:
        """The share of the time limit that another process has trained, 0 without one."""
        return self._share_of(self.trained)

    def _share_of(self, seconds: float) -> float:
        left = math.inf if self.ends is None else self.ends - self.begins
        # The preparation may have taken all the time, or more.
        return seconds / left if left > 0 else float(seconds > 0)

    @property
    def decay_left(self) -> float:
        """The share of the decay's time that is left, 0 without a time limit."""
        if self.ends is None or self.decay_begins >= self.ends:
            return 0.0
        return max(self.ends - time.monotonic(), 0.0) / (self.ends - self.decay_begins)

    def is_time_to_end(self) -> bool:
        """Whether the decay of the step size has to begin."""
        return self.ends is not None and time.monotonic() >= self.decay_begins

    def is_up(self) -> bool:
        """Whether the run must stop."""
        return self.ends is not None and time.monotonic() >= self.ends


class Recorder(Protocol):
    """Keeps the state of a run, so that a later process can go on with it."""

    def resume(self, run: TrainingRun) -> bool:
        """Set a run at its start to the last state that was kept; return False if there is none."""

    def write_first(self, run: TrainingRun) -> None:
        """Keep the state at the start; an error if that is not possible."""

    def write(self, run: TrainingRun) -> None:
        """Keep the state as it is after an evaluation; a warning if that is not possible."""

    def offer(self, run: TrainingRun, unevaluated: Callable[[], Unevaluated]) -> None:
        """Keep the state if it is time to, or if a signal asks for it; `KeyboardInterrupt` if one asks to stop."""

    def close(self) -> None:
        """Let other processes use what was kept."""


@dataclass(frozen=True)
class TrainingRun:
    """The argument of the training loop. Only the state changes.

    Attributes
    ----------
    state : TrainingState
        The model, its optimiser, schedule and counters.
    rows : Rows
        The rows for training and for validation.
    objective : Objective
        The sum of terms that is minimised.
    execution : Execution
        Device, precision, threads.
    batch_size : int
        Rows per step.
    period : int
        Steps from one evaluation to the next.
    first_look : int
        Steps before a first evaluation, in periods at least twice as long. It keeps good weights, and nothing else
        depends on it.
    patience : int
        Evaluations without progress before the decay; twice as many before the first improvement on the start, since
        the objective may first rise from a good start.
    progress : float
        An evaluation makes progress if it gains more than this share of the whole gain since the start.
    clock : Clock
        The time limit.
    step_work : float
        Multiply-adds of one step's forward pass.
    max_epochs : int or None
        Epochs after which a run ends whose number of rows is not known; the schedule ends all others.
    starts_linear : bool
        Whether the start is a linear map, which is kept if few validation rows leave it in doubt.
    alike : Composition or None
        A smaller model with the same objective at the start, which is evaluated instead.
    recorder : Recorder or None
        What keeps the state for later processes.
    look : int
        Steps between looks at the average, which are not evaluations and change nothing; 0 for none. They are at its
        multiples, after which the weights of a step are added to the average anyway.
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
    first_look: int = 0
    step_work: float = 0.0
    max_epochs: int | None = None
    starts_linear: bool = False
    alike: Composition | None = None
    recorder: Recorder | None = None
    look: int = 0

    def looking(self, n_rows: int | None) -> TrainingRun:
        """The run with a look each time that so many rows have been seen; without any if None."""
        if n_rows is None:
            return self
        return replace(self, look=math.ceil(n_rows / (AVERAGE_EVERY * self.batch_size)) * AVERAGE_EVERY)

    @property
    def optimizer(self) -> str:
        """The name of the optimiser."""
        return next(name for name, kind in OPTIMIZERS.items() if kind is type(self.state.optimizer))

    @property
    def n_batches(self) -> int | None:
        """Steps per epoch; None if the number of rows is not known."""
        return None if self.rows.n_training is None else math.ceil(self.rows.n_training / self.batch_size)

    @property
    def n_epochs(self) -> int | None:
        """Epochs allowed; None without a limit."""
        n_steps = self.state.schedule.n_steps
        return self.max_epochs if self.n_batches is None or n_steps == ENDLESS else math.ceil(n_steps / self.n_batches)

    @property
    def early_step(self) -> int:
        """The step of an evaluation before the first period has ended; 0 if the period is short."""
        return self.first_look if self.period >= 2 * self.first_look else 0

    @property
    def steps_to_evaluation(self) -> int:
        """Steps from the last evaluation to the next one."""
        last = int(self.state.history[-1]["step"]) if self.early_step and self.state.history else self.period
        return self.period if last >= self.period else (self.period if last else self.early_step) - last

    @property
    def steps_to_look(self) -> int:
        """Steps to the next look, or to the next evaluation if there are no looks."""
        return self.look - self.state.step % self.look if self.look else self.steps_to_evaluation

    @property
    def device(self) -> torch.device:
        """The device of the arithmetic."""
        return torch.device(self.execution.device)
