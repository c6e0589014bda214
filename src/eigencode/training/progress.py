"""The progress bar of training: steps, time left, rows per second, the last objective."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eigencode.progress import Line, is_shown, leaves, say
from eigencode.training.schedule import ENDLESS
from eigencode.words import clock, counted, duration

if TYPE_CHECKING:
    from eigencode.training.run import TrainingRun

MEASURED = 1.0
"""Seconds of steps after which the remaining time is estimated."""

WIDE = 100
"""Columns of a terminal from which rows per second are shown as well."""

WITH_TOTAL, WITHOUT_TOTAL = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}", "{desc}: {elapsed}{postfix}"
"""Formats of the line, if the number of steps is known and if it is not."""

SHORT = 5.0
"""The expected time is shown if it is longer than so many seconds."""


def show(title: str, runs: Sequence[TrainingRun], verbose: bool = False) -> AbstractContextManager[Any]:
    """Show the progress of one or more models while they are trained."""
    if not is_shown(verbose) or not runs:
        return nullcontext()
    return Line(Look(runs, leaves()), 0.0, desc=title, leave=leaves(), total=1, bar_format=WITH_TOTAL)


@dataclass
class Look:
    """Updates a progress bar from the counters of models in training.

    Attributes
    ----------
    runs : sequence of TrainingRun
        The models.
    tells : bool
        Whether to show once how long training is expected to take.
    """

    runs: Sequence[TrainingRun]
    tells: bool = True
    _first: tuple[float, int] | None = None
    _is_told: bool = False

    def __call__(self, bar: Any) -> None:
        """Set the numbers of a tqdm bar, and show once how long training is expected to take."""
        elapsed, made = bar.format_dict["elapsed"], sum(run.state.step for run in self.runs)
        pace = self._pace(elapsed, made)
        end = max(self._end(made, pace), made, 1)
        left = None if pace is None or end >= ENDLESS else (end - made) / pace
        if left is not None and not self._is_told:
            self._is_told = True
            if self.tells and left > SHORT:
                say(f"{duration(left)}: {self._plan()}")
        bar.n, bar.total, bar.bar_format = made, end, WITH_TOTAL if end < ENDLESS else WITHOUT_TOTAL
        is_wide = (bar.format_dict.get("ncols") or WIDE) >= WIDE
        bar.set_postfix_str(", ".join(self._facts(made, elapsed if is_wide else 0.0, left)), refresh=False)

    def _pace(self, elapsed: float, made: int) -> float | None:
        """Steps per second after the first step, which is slow; None after too few steps."""
        if self._first is None and made:
            self._first = elapsed, made
        if self._first is None or made == self._first[1] or elapsed < self._first[0] + MEASURED:
            return None
        return (made - self._first[1]) / (elapsed - self._first[0])

    def _end(self, made: int, pace: float | None) -> float:
        """Total number of steps: those allowed, or those possible in the time limit."""
        end = sum(run.state.schedule.end for run in self.runs)
        limit = self._limit
        return end if limit is None or pace is None else min(end, made + max(limit - time.monotonic(), 0) * pace)

    @property
    def _limit(self) -> float | None:
        """The end of the time limit, for a single model with one."""
        return self.runs[0].clock.ends if len(self.runs) == 1 else None

    def _plan(self) -> str:
        """A description of the allowed steps."""
        if len(self.runs) > 1:
            return f"{counted(len(self.runs), 'model')}; each ends earlier if its progress stops"
        return f"{', '.join(self._limits())}; training ends earlier if progress stops"

    def _limits(self) -> Iterator[str]:
        """What ends the training of a model at the latest."""
        run = self.runs[0]
        if run.n_epochs is not None:
            of_steps = "" if run.n_batches is None else f" of {counted(run.n_batches, 'step')}"
            yield f"at most {counted(run.n_epochs, 'epoch')}{of_steps}"
        if self._limit is not None:
            yield "as far as the time limit allows"

    def _facts(self, made: int, elapsed: float, left: float | None) -> Iterator[str]:
        if any(run.state.interrupted for run in self.runs):
            yield "interrupted: evaluating what was learned"
            return
        if left:
            yield f"{clock(left)} left"
        if len(self.runs) > 1:
            yield f"{sum(run.state.finished for run in self.runs)} of {counted(len(self.runs), 'model')} done"
        else:
            yield from self._facts_of_one(self.runs[0])
        if made and elapsed > 0:
            rows = sum(run.state.rows for run in self.runs)
            yield f"{rows / elapsed:,.0f} rows/s"

    def _facts_of_one(self, run: TrainingRun) -> Iterator[str]:
        state = run.state
        yield f"epoch {max(state.epoch, 1)}" + ("" if run.n_epochs is None else f"/{run.n_epochs}")
        if state.history:
            name = "validation" if run.rows.n_validation else "training"
            yield f"{name} {state.history[-1]['validation_objective']:.5g}"
