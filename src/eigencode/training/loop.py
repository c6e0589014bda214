"""The loop: a thin generator over an explicit state. It knows no kind of autoencoder.

One epoch is a shuffle, one gather and one optimiser's step a batch, and one look at the held-out rows. Nothing waits
for the device before the epoch's end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from eigencode.model.composition import SILENCE, Composition, Noise, Trace
from eigencode.model.objective import Objective
from eigencode.training.cuda_graphs import Recorded
from eigencode.training.execution import Execution
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.prefetch import feed
from eigencode.training.rng import generator, may_draw_globally, own_global_generator
from eigencode.training.state import TrainingState

EVALUATION_ROWS = 8192
"""Rows a pass when nothing is learned: bounds the memory that activations take."""

Step = Callable[[Tensor, Tensor | None], Tensor]
"""From the rows of a batch and their weights to the mean objective before the step that they caused."""


@dataclass(frozen=True)
class Clock:
    """The time a run may take; without a limit no clock is read.

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
        if self.ends is None:
            return self
        now = time.monotonic()
        return Clock(self.ends + now - self.begins, self.decay_begins + now - self.begins, now)

    @classmethod
    def starting_at(cls, began: float, max_seconds: float | None, decay_share: float) -> Clock:
        """The clock of a run whose preparation began at a time and has just ended."""
        if max_seconds is None:
            return cls()
        now, ends = time.monotonic(), began + max_seconds
        return cls(ends, now + (1 - decay_share) * (ends - now), now)

    def is_time_to_end(self) -> bool:
        """Whether the decay has to begin now."""
        return self.ends is not None and time.monotonic() >= self.decay_begins

    def is_up(self) -> bool:
        """Whether the run must stop."""
        return self.ends is not None and time.monotonic() >= self.ends


@dataclass(frozen=True)
class Work:
    """What a run trains on and how, fixed from beginning to end.

    Attributes
    ----------
    rows : Tensor
        All scaled rows, shape (n, d): on the device where they fit, else on the host.
    training, held_out : Tensor
        Row numbers. Without held-out rows the training rows judge.
    objective : Objective
        What is minimised.
    execution : Execution
        Device, precision, threads.
    batch_size : int
        Rows a step.
    patience : int
        Epochs without progress before the decay; twice as many where the start was not improved on yet, since the way
        from a good start may lead over worse weights.
    progress : float
        What counts as progress: an improvement by more than this share of all that was gained since the start.
    clock : Clock
        When time is up.
    weights : Tensor or None
        Weight of each row, mean 1, shape (n,), beside the rows.
    step_work : float
        Multiply-adds of one step's forward pass.
    """

    rows: Tensor
    training: Tensor
    held_out: Tensor
    objective: Objective
    execution: Execution
    batch_size: int
    patience: int
    progress: float
    clock: Clock
    weights: Tensor | None = None
    step_work: float = 0.0

    @property
    def n_batches(self) -> int:
        """Steps an epoch."""
        return math.ceil(len(self.training) / self.batch_size)

    @property
    def device(self) -> torch.device:
        """Where the arithmetic runs."""
        return torch.device(self.execution.device)

    def rows_of(self, batch: Tensor) -> Tensor:
        """Some rows, on the device."""
        return self.rows.index_select(0, batch).to(self.device, non_blocking=True)

    def weights_of(self, batch: Tensor) -> Tensor | None:
        """The weights of some rows, on the device, or None."""
        if self.weights is None:
            return None
        return self.weights.index_select(0, batch).to(self.device, non_blocking=True)

    @property
    def judges(self) -> Tensor:
        """Numbers of the rows that judge, on the rows' device."""
        return (self.held_out if len(self.held_out) else self.training).to(self.rows.device)

    def batches(self, seed: int, epoch: int) -> Sequence[Tensor]:
        """The row numbers of each step of an epoch, in an order of the epoch's own.

        Batches are as equal as can be: a last one of a few rows would step on noise.
        """
        shuffle = torch.randperm(len(self.training), generator=generator(seed, "shuffle", epoch))
        return self.training[shuffle].to(self.rows.device).tensor_split(self.n_batches)


def begin(state: TrainingState, work: Work) -> None:
    """Judge the start, so that it is kept unless training improves on it."""
    with work.execution.threads():
        _judge(state, work, training_objective=None)


@dataclass
class Tally:
    """What one pass over the rows has met so far: the sum of the objectives, in float64, and the number of rows."""

    total: Tensor
    n_rows: int = 0

    @classmethod
    def on(cls, device: torch.device) -> Tally:
        """Nothing yet; the sum is on the device, so that no step waits for it."""
        return cls(torch.zeros((), dtype=torch.float64, device=device))

    @property
    def mean(self) -> float:
        """The mean objective of the rows met."""
        return float(self.total) / max(self.n_rows, 1)


def epochs(state: TrainingState, work: Work) -> Iterator[dict[str, float]]:
    """Train until the schedule ends, yielding one row of history an epoch.

    Whatever moment a `KeyboardInterrupt` comes at, what was learned since the last row of history is evaluated and kept
    if it is the best, before the interruption goes on to the caller. A second one ends that evaluation.
    """
    step = stepper(state, work)
    while not state.finished:
        tally = Tally.on(work.device)
        try:
            with work.execution.threads():
                _pass_over(state, work, step, tally)
                row = _judge(state, work, tally.mean)
        except KeyboardInterrupt:
            state.interrupted = True
            with suppress(KeyboardInterrupt), work.execution.threads():
                _judge_what_was_learned(state, work, tally)
            raise
        yield row


def _judge_what_was_learned(state: TrainingState, work: Work, tally: Tally) -> None:
    """Evaluate the average of an epoch that was interrupted, unless there is nothing new."""
    if state.is_recorded:
        return
    if not state.shows_average:
        state.average()
        state.show(average=True)
    _judge(state, work, tally.mean)


def one_pass(state: TrainingState, work: Work) -> dict[str, float]:
    """One pass over the rows without a judge: the step of a stream, whose last average is what to keep."""
    tally = Tally.on(work.device)
    with work.execution.threads():
        _pass_over(state, work, stepper(state, work), tally)
    row = {"epoch": state.epoch, "step": state.step, "training_objective": tally.mean}
    state.history.append(row)
    return row


def evaluate(
    composition: Composition,
    objective: Objective,
    rows: Tensor,
    seed: int,
    witness: Callable[[Trace], bool] | None = None,
) -> Tensor:
    """The objective of each row, shape (n,), under noise that is the same at every call.

    A witness is shown what happened to each block of rows, before it is judged, and says whether it changed the model.
    """
    composition.eval()
    found = []
    device = next(composition.parameters(), rows).device
    with torch.inference_mode(), _global_draws(may_draw_globally(composition), device, seed, "evaluation"):
        for place, block in enumerate(blocks_of(rows)):
            part = block.to(device, non_blocking=True)
            source = partial(generator, seed, "evaluation", place, device=device)
            noise = draw_noise(composition, len(part), source)
            trace = composition(part, noise)
            if witness is not None and witness(trace):
                trace = composition(part, noise)
            found.append(objective(composition, trace).expand(len(part)))
    return torch.cat(found)


def blocks_of(rows: Tensor) -> Sequence[Tensor]:
    """Rows as the passes of an evaluation take them, in blocks as equal as can be: one of a few rows shows little."""
    return rows.tensor_split(max(math.ceil(len(rows) / EVALUATION_ROWS), 1))


def evaluate_mean(
    composition: Composition, work: Work, seed: int, witness: Callable[[Trace], bool] | None = None
) -> float:
    """The mean objective of the rows that judge a run, and what a witness makes of them."""
    rows = work.rows.index_select(0, work.judges)
    return weighted_mean(evaluate(composition, work.objective, rows, seed, witness), work.weights, work.judges)


def weighted_mean(objectives: Tensor, weights: Tensor | None, places: Tensor) -> float:
    """The mean over rows at some places, in float64, each by its weight if it has one."""
    objectives = objectives.double()
    if weights is None:
        return float(objectives.mean())
    weights = weights.index_select(0, places).to(objectives)
    return float((objectives * weights).sum() / weights.sum())


def draw_noise(composition: Composition, n_rows: int, source: Callable[[], torch.Generator]) -> Noise:
    """The noise of one pass; no generator is made where nothing is random."""
    return composition.draw_noise(n_rows, source()) if composition.is_stochastic else SILENCE


def _global_draws(
    expected: bool, device: torch.device, seed: int, purpose: str, *counters: int
) -> AbstractContextManager[None]:
    """What modules draw that take no generator as an argument; nothing is done where none is expected."""
    return own_global_generator(device, seed, purpose, *counters) if expected else nullcontext()


def _pass_over(state: TrainingState, work: Work, step: Step, tally: Tally) -> None:
    """Train on every row once, in an order of the epoch's own; the tally takes in what is met on the way."""
    state.epoch += 1
    state.show(average=False)
    state.composition.train()
    batches = work.batches(state.seed, state.epoch)
    for batch, x in zip(batches, feed(work.rows, batches, work.device), strict=True):
        if state.finished:
            break
        tally.total += step(x, work.weights_of(batch)) * len(batch)
        tally.n_rows += len(batch)
        obey(state, work.clock)
    state.average()
    state.show(average=True)


def obey(state: TrainingState, clock: Clock) -> None:
    """Let the time limit, if there is one, call for the decay or the end."""
    if clock.is_time_to_end():
        state.decay("time")
    if clock.is_up() and not state.finished:
        state.schedule.end = state.step
        state.ended_by = "time"


def stepper(state: TrainingState, work: Work) -> Step:
    """One optimiser's step of a run, from a batch's rows and their weights to its mean objective before it."""
    update: Callable[..., Tensor] = partial(_update, state, work)
    if _may_record(state, work):
        update = Recorded(update)

    def step(x: Tensor, weights: Tensor | None) -> Tensor:
        source = partial(generator, state.seed, "step", state.step, device=x.device)
        noise = draw_noise(state.composition, len(x), source)
        loss = update(x, weights, state.schedule.rate(state.step), *noise.leaves)
        state.step += 1
        if state.is_average_due:
            state.average()
        return loss

    return step


def _may_record(state: TrainingState, work: Work) -> bool:
    """Whether a GPU may replay the step: not if it looks at its numbers, as L-BFGS does, or draws by itself."""
    is_blind = isinstance(state.optimizer, ClippedAdam) and not state.may_draw_globally
    return work.device.type == "cuda" and is_blind


def _update(
    state: TrainingState, work: Work, x: Tensor, weights: Tensor | None, rate: float, *noise: Tensor | None
) -> Tensor:
    """Move weights and states by one batch, whose randomness is given, in place and without waiting for the device."""
    drawn = Noise.of(*noise)
    trace: Trace

    def closure() -> Tensor:
        nonlocal trace
        # Every evaluation of one step draws the same, so that a line search compares like with like.
        with _global_draws(state.may_draw_globally, x.device, state.seed, "layers", state.step):
            with work.execution.autocast():
                trace = state.composition(x, drawn)
            loss = mean_of_rows(work.objective(state.composition, trace), weights)
            state.parameters.differentiate(loss)
        return loss.detach()

    loss = state.optimizer.step(closure, rate)
    state.composition.advance(trace)
    return loss


def mean_of_rows(per_row: Tensor, weights: Tensor | None) -> Tensor:
    """The batch's mean objective. Weights have mean 1 over all rows, so each batch's gradient is unbiased."""
    return per_row.mean() if weights is None else (per_row * weights).mean()


def _judge(state: TrainingState, work: Work, training_objective: float | None) -> dict[str, float]:
    """Evaluate the present weights and record what they are worth."""
    # The start is judged only: nothing is known yet of the rows fitted that the judges could add to.
    witness = None if training_objective is None else state.composition.review
    return record(state, work, evaluate_mean(state.composition, work, state.seed, witness), training_objective)


def record(
    state: TrainingState, work: Work, objective: float, training_objective: float | None = None
) -> dict[str, float]:
    """Keep the best weights, and call for the decay where progress has stopped; returns the row of history.

    A run whose weights have become far worse than its start goes back to the best ones, with half the step size.
    """
    row = {"epoch": state.epoch, "step": state.step, "learning_rate": state.schedule.rate(max(state.step - 1, 0))}
    if training_objective is not None:
        row["training_objective"] = training_objective
    row["validation_objective"] = objective
    # In this order: a run that is interrupted in between has not recorded what it has not kept.
    if state.best is None or objective < state.best.objective or not math.isfinite(state.best.objective):
        state.best = state.snapshot(objective)
    state.history.append(row)
    gained = state.history[0]["validation_objective"] - state.progress_mark
    if not math.isfinite(gained) or objective < state.progress_mark - work.progress * gained:
        state.progress_mark, state.stale_epochs = objective, 0
    elif state.step >= state.schedule.warmup:
        state.stale_epochs += 1
    if _has_blown_up(state, objective):
        state.retreat()
    elif state.stale_epochs >= (work.patience if state.best.epoch else 2 * work.patience):
        state.decay("plateau")
    return row


def _has_blown_up(state: TrainingState, objective: float) -> bool:
    """Whether weights became far worse than the start was: by more than all that was gained, and than its own size."""
    start = state.history[0].get("validation_objective", math.nan)
    best = math.nan if state.best is None else state.best.objective
    return not objective <= start + max(start - best, abs(start))
