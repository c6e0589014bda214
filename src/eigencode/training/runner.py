"""The interface of runners, which train models for the loop, and the runner of a single model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count, islice
from typing import Protocol

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.model.composition import SILENCE, Noise
from eigencode.training.cpu_graphs import recorded
from eigencode.training.evaluation import (
    EVALUATION_ROWS,
    draw_noise,
    evaluate_terms,
    global_draws,
    learn_from_validation,
)
from eigencode.training.execution import Execution
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.prefetch import Prefetched, is_same
from eigencode.training.rng import generator
from eigencode.training.run import Recorder, TrainingRun


class TrainingRows(Protocol):
    """What a runner asks of rows: `eigencode.data.Rows`, or those of several models."""

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """All training rows once, in a random order."""


class Runner(ABC):
    """Trains the models of some runs in parallel: each step is one step of each model.

    Attributes
    ----------
    runs : list of TrainingRun
        The runs still in training.
    rows : TrainingRows
        The rows of the models.
    batches : iterator of Batch
        The batches to come, one epoch after the other.
    """

    rows: TrainingRows

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self.runs = list(runs)
        self.batches = self._batches()

    def _batches(self) -> Generator[Batch]:
        """The batches of one epoch after the other, each in a different order, until the rows have no more."""
        run, first = self.runs[0], self.runs[0].state
        # A state that was saved within an epoch goes on behind the batches that it has seen.
        n_seen = first.steps_in_epoch
        for epoch in islice(count(1), first.epoch - bool(n_seen), run.max_epochs):
            states = [run.state for run in self.runs if not run.state.finished]
            for state in states:
                state.epoch = epoch
            n = 0
            for n, batch in enumerate(self.rows.batches(states[0].shuffle, run.batch_size), 1):
                if n > n_seen:
                    yield batch
            n_seen = 0
            for state in states:
                state.steps_in_epoch, state.epoch = 0, epoch if n else epoch - 1
            if not n:
                return

    @property
    @abstractmethod
    def execution(self) -> Execution:
        """Where and how the arithmetic runs."""

    @property
    def device(self) -> torch.device:
        """Where the arithmetic runs."""
        return torch.device(self.execution.device)

    @property
    def recorder(self) -> Recorder | None:
        """What keeps the state after each step."""
        return None

    hears_signals = True
    """Whether signals ask this process alone to stop."""

    def at_work(self) -> AbstractContextManager[None]:
        """The context of steps and evaluations."""
        return self.execution.threads()

    def wait(self, seconds: float) -> None:
        """Do not count some seconds, in which others were trained, in the runs' time limits."""
        self.runs[:] = [replace(run, clock=run.clock.after(-seconds)) for run in self.runs]

    def close(self) -> None:
        """End the batches, for which a thread may read ahead, and forget what was recorded.

        It refers to its runner, so that the runs would stay in memory until Python looks for cycles of references.
        """
        self.batches.close()
        for name in ("_update", "_evaluation"):
            vars(self).pop(name, None)

    def n_rows(self, batch: Batch) -> int:
        """Number of rows of a batch."""
        return len(batch)

    @abstractmethod
    def keep_unfinished(self) -> bool:
        """Remove the models whose schedules have ended; return whether any is left."""

    @abstractmethod
    def step(self, batch: Batch, active: Sequence[bool]) -> Tensor:
        """Update each active model by a batch of ``batches``.

        Return the mean objective of each model's batch before the step, of a shape that broadcasts to (K,).
        """

    @abstractmethod
    def take_average(self) -> None:
        """Add the current weights of each model to its average."""

    @abstractmethod
    def decay_weights(self) -> None:
        """Let the weights of each model decay, for the steps between two weights of its average."""

    @abstractmethod
    def show(self, average: bool) -> None:
        """Set the models' weights to their averages, or to the weights of the last step."""

    @abstractmethod
    def learn_from_validation(self) -> None:
        """Update the states of those terms that learn from validation rows."""

    @abstractmethod
    def evaluate(self) -> list[dict[str, float]]:
        """The mean objective of each model on its validation rows, and the means of its terms."""

    def require_agreement(self, leaves: bool) -> None:  # noqa: B027
        """Raise an error if some of several processes leave a loop over the training, and others go on."""

    def write_back(self) -> None:  # noqa: B027 (nothing to do where the states' weights are the models')
        """Copy the weights from the batched vectors to each run's state."""

    def reload(self, changed: Sequence[int]) -> None:  # noqa: B027
        """Read the weights of runs whose states were reset to earlier weights."""


class SingleRunner(Runner):
    """Trains one model.

    Parameters
    ----------
    run : TrainingRun
        The model's run.
    """

    def __init__(self, run: TrainingRun) -> None:
        super().__init__([run])
        self._run = run
        self._outputs: list[Tensor] | None = None  # of validation rows, between the two passes over them
        is_here = is_same(run.rows.device, self.device)
        self.rows = run.rows if is_here else Prefetched(run.rows, self.device)
        self._is_stochastic = run.state.composition.is_stochastic
        self._update: Callable[..., Tensor] = self._move
        if self._may_be_recorded:
            self._update = recorded(self._move, self.device, run.step_work, run.state.may_draw_globally)

    @property
    def execution(self) -> Execution:
        return self._run.execution

    @property
    def recorder(self) -> Recorder | None:
        return self._run.recorder

    @property
    def _may_be_recorded(self) -> bool:
        """Whether the step may be replayed: not if it depends on values, as L-BFGS does, or draws random numbers."""
        state = self._run.state
        return isinstance(state.optimizer, ClippedAdam) and not state.may_draw_globally

    @contextmanager
    def hears_changes(self) -> Iterator[None]:
        """Run all steps as they are written from now on, if the context changes an attribute of the model's modules.

        A recorded step has the numbers of the parts in it, and a loop that changes them does so more than once.
        """
        before = self._run.state.contents  # kept, so that no new object has the identity of an old one
        yield
        if list(map(id, before)) != list(map(id, self._run.state.contents)):
            self._update = self._move

    @property
    def _counters(self) -> tuple[int, ...]:
        """The numbers of the noise of random layers."""
        return (self._run.state.step,)

    def keep_unfinished(self) -> bool:
        """Whether the schedule has not ended."""
        return not self._run.state.finished

    def step(self, batch: Batch, active: Sequence[bool] = (True,)) -> Tensor:
        state = self._run.state
        if not state.composition.training:
            state.composition.train()
        return self._update(*batch.tensors, state.schedule.rate(state.step), *self.draw(batch).leaves)

    def draw(self, batch: Batch) -> Noise:
        """The noise of the next step."""
        if not self._is_stochastic:
            return SILENCE
        state = self._run.state
        source = partial(generator, state.seed, "step", state.step, device=batch.x.device)
        return draw_noise(state.composition, self.n_rows(batch), source)

    def _move(
        self, x: Tensor, observed: Tensor | None, weight: Tensor | None, rate: float, *noise: Tensor | None
    ) -> Tensor:
        """Update weights and states in place by one batch with given noise, without synchronising with the device."""
        batch, drawn, state = Batch(x, observed, weight), Noise.of(*noise), self._run.state
        loss, statistics = self.differentiate(batch, drawn)
        state.optimizer.step(rate, loss, lambda: self.differentiate(batch, drawn)[0])
        state.composition.advance(statistics, self.n_rows(batch))
        return loss

    def differentiate(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the gradient (into the state's gradient vector); return the mean objective and the terms' statistics.

        All calls in one step have the same noise, as a line search requires.
        """
        state = self._run.state
        with global_draws(state.may_draw_globally, batch.x.device, state.seed, "layers", *self._counters):
            with self.execution.autocast():
                trace = state.composition(batch, noise)
            loss = self._run.objective.mean(state.composition, trace, batch.weight)
            statistics = state.composition.statistics(trace)
            state.parameters.differentiate(loss)
        return loss.detach(), statistics

    def take_average(self) -> None:
        self._run.state.average()

    def decay_weights(self) -> None:
        self._run.state.optimizer.shrink(self._run.state.recent_rates)

    def show(self, average: bool) -> None:
        self._run.state.show(average)

    def learn_from_validation(self) -> None:
        run, blocks = self._run, self._run.rows.validation(EVALUATION_ROWS)
        self._outputs = learn_from_validation(run.state.composition, blocks, run.state.seed)

    def evaluate(self) -> list[dict[str, float]]:
        run, blocks = self._run, self._run.rows.validation(EVALUATION_ROWS)
        outputs, self._outputs = self._outputs, None
        composition = run.state.composition if run.alike is None or run.state.step else run.alike
        return [evaluate_terms(composition, run.objective, blocks, run.state.seed, outputs)]
