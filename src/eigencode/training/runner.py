"""Runners: what the loop asks of models in training, and the runner of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.model.composition import Noise
from eigencode.training.cuda_graphs import Recorded
from eigencode.training.evaluation import EVALUATION_ROWS, draw_noise, evaluate, global_draws
from eigencode.training.execution import Execution
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.prefetch import feed
from eigencode.training.rng import generator
from eigencode.training.run import TrainingRun


class Runner(ABC):
    """Trains the models of some runs in lock step: a step of each at a time.

    Attributes
    ----------
    runs : list of TrainingRun
        Those still in training.
    """

    runs: list[TrainingRun]

    @property
    @abstractmethod
    def execution(self) -> Execution:
        """Where and how the arithmetic runs."""

    @property
    def device(self) -> torch.device:
        """Where the arithmetic runs."""
        return torch.device(self.execution.device)

    @abstractmethod
    def keep_unfinished(self) -> bool:
        """Let go of the models whose schedules have ended; whether any is left."""

    @abstractmethod
    def step(self, active: Sequence[bool]) -> tuple[Tensor, int]:
        """Move the active models by their next batches.

        Returns the mean objective of each model's batch before the step, of a shape that broadcasts to (K,), and the
        rows of a batch.
        """

    @abstractmethod
    def take_average(self) -> None:
        """Take the present weights of each model into its average."""

    @property
    @abstractmethod
    def shows_average(self) -> bool:
        """Whether the models have their averages now, and not the weights that steps are made with."""

    @abstractmethod
    def show(self, average: bool) -> None:
        """Let the models have their averages, or the weights that steps are made with."""

    @abstractmethod
    def evaluate(self, is_validation: bool) -> list[float]:
        """The mean objective of each model on its rows for validation, which may move the states of its terms."""

    @abstractmethod
    def write_back(self) -> None:
        """Give every run's state its own weights, where they are kept elsewhere."""

    @abstractmethod
    def take_back(self, changed: Sequence[int]) -> None:
        """Take the weights of runs whose states went back to earlier ones."""


class SingleRunner(Runner):
    """Trains one model.

    Parameters
    ----------
    run : TrainingRun
        The model's.
    """

    def __init__(self, run: TrainingRun) -> None:
        self.runs, self._run = [run], run
        self._batches = self._endless_batches()
        self._update: Callable[..., Tensor] = self._move
        if self._may_be_recorded:
            self._update = Recorded(self._move)

    @property
    def execution(self) -> Execution:
        """Where and how the arithmetic runs."""
        return self._run.execution

    @property
    def _may_be_recorded(self) -> bool:
        """Whether a GPU may replay the step: not if it looks at its numbers, as L-BFGS does, or draws by itself."""
        state = self._run.state
        is_blind = isinstance(state.optimizer, ClippedAdam) and not state.may_draw_globally
        return self.device.type == "cuda" and is_blind

    def keep_unfinished(self) -> bool:
        """Whether the schedule has not ended."""
        return not self._run.state.finished

    def _endless_batches(self) -> Iterator[Batch]:
        """Batches of one epoch after the other, each in an order of its own."""
        run, state = self._run, self._run.state
        while True:
            done = state.steps_in_epoch if state.steps_in_epoch < run.n_batches else 0
            if not done:
                state.epoch, state.steps_in_epoch = state.epoch + 1, 0
            shuffle = generator(state.seed, "shuffle", state.epoch)
            batches = run.rows.batches(shuffle, run.batch_size)
            # A state that was saved within an epoch goes on behind the batches that it has seen.
            yield from feed(islice(batches, done, None), self.device)

    def step(self, active: Sequence[bool] = (True,)) -> tuple[Tensor, int]:
        """Move the model by its next batch."""
        batch = next(self._batches)
        return self.step_on(batch), len(batch)

    def step_on(self, batch: Batch) -> Tensor:
        """Move the model by a batch; returns its mean objective before the step."""
        state = self._run.state
        if not state.composition.training:
            state.composition.train()
        return self._update(*batch.tensors, state.schedule.rate(state.step), *self.draw(batch).leaves)

    def draw(self, batch: Batch) -> Noise:
        """The noise of the next step."""
        state = self._run.state
        source = partial(generator, state.seed, "step", state.step, device=batch.x.device)
        return draw_noise(state.composition, len(batch), source)

    def _move(
        self, x: Tensor, observed: Tensor | None, weight: Tensor | None, rate: float, *noise: Tensor | None
    ) -> Tensor:
        """Move weights and states by one batch, whose randomness is given, in place and without waiting."""
        batch, drawn, state = Batch(x, observed, weight), Noise.of(*noise), self._run.state
        statistics: dict[str, Tensor]

        def closure() -> Tensor:
            nonlocal statistics
            loss, statistics = self.differentiate(batch, drawn)
            return loss

        loss = state.optimizer.step(closure, rate)
        state.composition.advance(statistics, len(batch))
        return loss

    def differentiate(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean objective, its gradient left in the state's, and what the terms' states want to know.

        Every call for one step draws the same, so that a line search compares like with like.
        """
        state = self._run.state
        with global_draws(state.may_draw_globally, batch.x.device, state.seed, "layers", state.step):
            with self.execution.autocast():
                trace = state.composition(batch, noise)
            loss = self._run.objective.mean(state.composition, trace, batch.weight)
            with torch.no_grad():
                statistics = state.composition.statistics(trace)
            state.parameters.differentiate(loss)
        return loss.detach(), statistics

    def take_average(self) -> None:
        """Take the present weights into the average."""
        self._run.state.average()

    @property
    def shows_average(self) -> bool:
        """Whether the model has the average now."""
        return self._run.state.shows_average

    def show(self, average: bool) -> None:
        """Let the model have the average, or the weights that steps are made with."""
        self._run.state.show(average)

    def evaluate(self, is_validation: bool) -> list[float]:
        """The mean objective of the rows for validation."""
        run, blocks = self._run, self._run.rows.validation(EVALUATION_ROWS)
        return [evaluate(run.state.composition, run.objective, blocks, run.state.seed, is_validation)]

    def write_back(self) -> None:
        """Nothing: the state's weights are the model's."""

    def take_back(self, changed: Sequence[int]) -> None:
        """Nothing: the state's weights are the model's."""
