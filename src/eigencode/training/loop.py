"""The training loop: a generator over a runner, which does not depend on the kind or the number of models.

Steps are made until the next evaluation. Then the model gets the average over recent weights, the validation rows are
evaluated, and the best weights so far are kept. Between evaluations there is no synchronisation with the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import torch
from torch import Tensor

from eigencode.checkpoint import REQUESTS
from eigencode.data.memory import told_of_shortage
from eigencode.training.distributed_runner import runner_of
from eigencode.training.prefetch import on_device
from eigencode.training.run import TrainingRun
from eigencode.training.runner import Runner, SingleRunner
from eigencode.training.selection import remember_start
from eigencode.training.state import TrainingState, Unevaluated

Row = dict[str, Any]
"""A row of history."""


class Tally:
    """The sum of the objectives and the number of rows in the steps since the last evaluation, for each model."""

    def __init__(self, runner: Runner) -> None:
        self._states = [run.state for run in runner.runs]
        begun = [state.unevaluated for state in self._states]  # by another process
        # In float64, and on the device, so that no step has to synchronise.
        self.totals = torch.tensor([one.total for one in begun], dtype=torch.float64, device=runner.device)
        self._from = [state.rows - one.n_rows for state, one in zip(self._states, begun, strict=True)]
        self.n_steps = begun[0].n_steps
        for state in self._states:
            state.unevaluated = Unevaluated()

    def add(self, losses: Tensor, n_rows: int, active: Sequence[bool]) -> None:
        """Add the mean objective of each active model's batch, shape (K,)."""
        if not all(active):
            losses = torch.where(on_device(active, torch.bool, losses.device), losses, 0.0)
        self.totals += losses * n_rows
        self.n_steps += 1

    @property
    def n_rows(self) -> list[int]:
        """Number of rows of each model, those of steps that were counted."""
        return [state.rows - begun for state, begun in zip(self._states, self._from, strict=True)]

    def unevaluated(self) -> Unevaluated:
        """The sums of the first model, as values."""
        return Unevaluated(float(self.totals[0]), self.n_rows[0], self.n_steps)

    @property
    def means(self) -> list[float]:
        """The mean objective of the rows of each model."""
        return [total / max(n, 1) for total, n in zip(self.totals.tolist(), self.n_rows, strict=True)]


class Active:
    """The models whose schedules have not ended, found again only after steps that may have ended one.

    Attributes
    ----------
    flags : list of bool
        Whether each model of the runner is one of them.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._find()

    def _find(self) -> None:
        runs = self._runner.runs
        self.flags = [not run.state.finished for run in runs]
        self._runs = [run for run, is_active in zip(runs, self.flags, strict=True) if is_active]
        self._timed = [run for run in self._runs if run.clock.ends is not None]
        self._n_alike = min((run.state.schedule.end - run.state.step for run in self._runs), default=0)

    def __bool__(self) -> bool:
        return bool(self._runs)

    def count(self, n_rows: int) -> None:
        """Count a step of each; take their averages and let weights decay if that is due, and obey their clocks."""
        for run in self._runs:
            run.state.count_step(n_rows)
        if self._runs[0].state.is_average_due:  # all have made the same steps
            self._runner.take_average()
            self._runner.decay_weights()
        for run in self._timed:
            _obey_clock(run)
        self._n_alike -= 1
        if self._timed or not self._n_alike:
            self._find()


def begin(run: TrainingRun) -> None:
    """Evaluate the start, so that it is kept unless training improves on it; or go on from a recorded state."""
    if run.recorder is not None and run.recorder.resume(run):
        return
    with closing(runner_of(run)) as runner, runner.at_work():
        _evaluate(runner, None)
    remember_start(run)
    if run.recorder is not None:
        run.recorder.write_first(run)


def train_all(
    runner: Runner, conclude: Callable[[Runner, Sequence[float]], list[Row]] | None = None
) -> Iterator[list[Row]]:
    """Train until all schedules end; after each evaluation, yield a row of history for each model still in training.

    A run with looks also yields how far it is at each of them; its model has the average then, as after an evaluation.

    After a `KeyboardInterrupt` at any moment the current weights are evaluated, and kept if they are the best, before
    the exception is raised. A second one ends that evaluation. ``conclude`` is another function than the evaluation.
    """
    conclude, recorder = conclude or _evaluate, runner.recorder
    with closing(runner):
        while runner.keep_unfinished():
            tally, due = Tally(runner), runner.runs[0].steps_to_evaluation
            try:
                with (
                    told_of_shortage(),
                    runner.at_work(),
                    REQUESTS.heard(recorder is not None and runner.hears_signals),
                ):
                    runner.show(average=False)
                    active = Active(runner)
                    until = min(due, tally.n_steps + runner.runs[0].steps_to_look)
                    while tally.n_steps < until:
                        batch = next(runner.batches, None) if active else None
                        if batch is None:
                            _end_schedules(runner)
                            break
                        losses = runner.step(batch, active.flags)
                        n_rows = runner.n_rows(batch)
                        tally.add(losses, n_rows, active.flags)
                        active.count(n_rows)
                        if recorder is not None:
                            recorder.offer(runner.runs[0], tally.unevaluated)
                    if tally.n_steps == until < due and active:  # fewer steps if there are no more rows
                        rows = _look(runner, tally)
                    else:
                        rows = _conclude(runner, tally, conclude)
                        _record_finished(runner)
            except KeyboardInterrupt:
                for run in runner.runs:
                    run.state.interrupted = True
                with suppress(KeyboardInterrupt), runner.at_work():
                    if not all(run.state.is_recorded for run in runner.runs):
                        _conclude(runner, tally, conclude)
                raise
            if rows:
                yield rows


def _record_finished(runner: Runner) -> None:
    """Let the state be kept after an evaluation, and that of each of several runs that it has finished."""
    for run in runner.runs:
        if run.recorder is not None and run.state.finished:
            run.recorder.write(run)
    if runner.recorder is not None:
        runner.recorder.offer(runner.runs[0], Unevaluated)


def one_pass(run: TrainingRun) -> Row:
    """One pass over the rows of a stream's block, without evaluation; the average at its end is kept."""
    return next(train_all(SingleRunner(run), _row_of_block))[0]


def _row_of_block(runner: Runner, means: Sequence[float]) -> list[Row]:
    """The row of history of a block of a stream."""
    (run,) = runner.runs
    row = _progress(run)
    # Weights of a block are in units of an earlier one's, and the mean over the block is not.
    weight = run.rows.representative().weight
    row["training_objective"] = means[0] / (1.0 if weight is None else float(weight.mean(dtype=torch.float64)))
    run.state.history.append(row)
    return [row]


def _progress(run: TrainingRun) -> Row:
    """How far a run is: the beginning of a row of history."""
    state = run.state
    return {"epoch": state.epoch, "step": state.step, "rows": state.rows, "seconds": run.clock.elapsed}


def _end_schedules(runner: Runner) -> None:
    """End the runs: their schedules have ended, or there are no more rows."""
    for run in runner.runs:
        run.state.schedule.end = min(run.state.schedule.end, run.state.step)


def _conclude(runner: Runner, tally: Tally, conclude: Callable[[Runner, Sequence[float]], list[Row]]) -> list[Row]:
    """Set the averages as weights, and evaluate these if there was a step."""
    runner.take_average()  # nothing, if it was taken after the last step
    runner.show(average=True)
    return conclude(runner, tally.means) if any(tally.n_rows) else []


def _look(runner: Runner, tally: Tally) -> list[Row]:
    """Set the average as weights, and keep the sums for the next evaluation; return how far the run is.

    The model may be asked before the next step, which is when layers such as dropout are in training again.
    """
    (run,) = runner.runs
    run.state.composition.eval()
    run.state.unevaluated = tally.unevaluated()
    runner.take_average()
    runner.show(average=True)
    return [{**_progress(run), "training_objective": tally.means[0]}]


def conclude_look(run: TrainingRun) -> None:
    """Evaluate the average of a run that was left after a look, as steps were made since the last evaluation."""
    if run.state.unevaluated.n_rows:
        with closing(runner_of(run)) as runner, runner.at_work():
            _conclude(runner, Tally(runner), _evaluate)


def _obey_clock(run: TrainingRun) -> None:
    """Begin the decay, or end the run, if the time limit requires it."""
    if run.clock.is_time_to_end():
        run.state.decay("time")
        if run.state.ended_by == "time":
            run.state.schedule.end_with(run.state.step, run.clock.decay_left)
    if run.clock.is_up() and not run.state.finished:
        run.state.schedule.end = run.state.step
        run.state.ended_by = "time"


def _evaluate(runner: Runner, met: Sequence[float] | None) -> list[Row]:
    """Evaluate the models' weights, keep the best ones of each model, and record the objectives.

    Models that are reset to earlier weights continue from these.
    """
    if met is not None:  # at the start there are no training statistics yet, on which those of terms depend
        runner.learn_from_validation()
    found = runner.evaluate()
    runner.write_back()
    before = [run.state.n_retreats for run in runner.runs]
    means: Sequence[float | None] = [None] * len(found) if met is None else met
    rows = [
        run.state.history[-1] if run.state.is_recorded else record(run, evaluated, mean)
        for run, evaluated, mean in zip(runner.runs, found, means, strict=True)
    ]
    runner.reload([k for k, run in enumerate(runner.runs) if run.state.n_retreats > before[k]])
    return rows


def record(run: TrainingRun, evaluated: Mapping[str, float], training_objective: float | None = None) -> Row:
    """Keep the best weights, and begin the decay if there is no progress; return the row of history.

    ``evaluated`` has the mean objective of the validation rows and, before it, the means of its terms.

    A run whose weights have become far worse than its start is reset to the best ones, with a smaller step size.
    """
    state, objective = run.state, evaluated["objective"]
    row = _progress(run)
    row["learning_rate"] = state.schedule.rate(max(state.step - 1, 0))
    if training_objective is not None:
        row["training_objective"] = training_objective
    row |= {f"validation_{name}": value for name, value in evaluated.items()}
    # In this order, so that a run interrupted in between has no row of history for weights that were not kept.
    if state.best is None or objective < state.best.objective or not math.isfinite(state.best.objective):
        state.best = state.snapshot(objective)
    state.history.append(row)
    gained = state.history[0]["validation_objective"] - state.progress_mark
    if 0 < state.step <= run.early_step:
        pass  # too early to say anything about progress
    elif not math.isfinite(gained) or objective < state.progress_mark - run.progress * gained:
        state.progress_mark, state.n_stale = objective, 0
    elif state.step >= state.schedule.warmup:
        state.n_stale += 1
    if _has_blown_up(state, objective):
        state.retreat()
    elif state.n_stale >= (run.patience if state.best.epoch else 2 * run.patience):
        state.decay("plateau")
    return row


def _has_blown_up(state: TrainingState, objective: float) -> bool:
    """Whether the objective is worse than at the start by more than the whole gain and its absolute value there."""
    start = state.history[0].get("validation_objective", math.nan)
    best = math.nan if state.best is None else state.best.objective
    return not objective <= start + max(start - best, abs(start))
