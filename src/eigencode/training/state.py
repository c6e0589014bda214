"""TrainingState: everything that a run needs to continue, as a plain value."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from eigencode.domains import Index, Interval, NotNegative, OneOf
from eigencode.errors import DataError, NetworkError, OptionError
from eigencode.model.composition import Composition
from eigencode.training.optimizers import OPTIMIZERS, Optimizer, copy_alike
from eigencode.training.rng import attributes, generator, may_draw_globally
from eigencode.training.schedule import Schedule
from eigencode.training.step_factors import step_factors, weight_decay

MOST_RETREATS = 6
"""A run that diverges more often than this is ended."""

AVERAGE_EVERY = 4
"""The average uses the weights of every so-many-th step, since those of neighbouring steps are similar."""


@torch.no_grad()
def swap(one: Tensor, other: Tensor, size: int = 2**20) -> None:
    """Exchange the numbers of two vectors, so many at a time: another copy of all would be as large as they are."""
    for a, b in zip(one.split(size), other.split(size), strict=True):
        before = a.clone()
        a.copy_(b)
        b.copy_(before)


class FlatParameters:
    """All weights of a module as one vector, and all their gradients as another.

    The module's parameters become views of the vector, and their gradients are copied into one vector. Norm, clipping,
    the optimiser's step and a copy of the best weights are then one operation each for any number of layers; many small
    operations would take most of the time of small networks.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self.vector = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in self._parameters]))
        self.gradient = torch.zeros_like(self.vector)
        self.vector.grad = self.gradient
        offset = 0
        for parameter in self._parameters:
            part = slice(offset, offset + parameter.numel())
            shape = parameter.shape
            parameter.data = self.vector.data[part].view(shape)
            parameter.grad = None
            offset = part.stop

    def differentiate(self, loss: Tensor) -> None:
        """Set the vector's gradient to that of a scalar by one copy; ``backward`` on zeros would take three passes."""
        try:
            found = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            raise NetworkError(
                "The objective has no gradient in torch",
                got=f"{error}",
                hint="Try another activation, such as 'gelu': a penalty on derivatives needs second ones too",
            ) from error
        torch.cat([gradient.reshape(-1) for gradient in found], out=self.gradient)

    def release(self) -> None:
        """Give each parameter its own storage again, without a gradient, and end the training mode."""
        self.module.eval()
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None


@dataclass
class Snapshot:
    """The weights at one step, and their objective."""

    objective: float
    epoch: int
    step: int
    vector: Tensor
    buffers: dict[str, Tensor]


@dataclass(frozen=True)
class Unevaluated:
    """The sum of the objectives, and the numbers of rows and steps, since the last evaluation."""

    total: float = 0.0
    n_rows: Index = 0
    n_steps: Index = 0


@dataclass(frozen=True)
class SavedCounters:
    """The counters of a saved state, with their domains."""

    seed: Annotated[int, Interval(0)]
    epoch: Index
    step: Index
    rows: Index
    steps_in_epoch: Index
    n_stale: Index
    n_retreats: Index
    progress_mark: float
    shows_average: bool
    averaged_from: Index
    averaged_to: Index
    ended_by: Annotated[str, OneOf(["epochs", "plateau", "time", "search"])]


@dataclass(frozen=True)
class SavedState:
    """The result of `TrainingState.state_dict`, with the types of its values."""

    vector: Tensor
    aside: Tensor
    buffers: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: Schedule
    counters: SavedCounters
    best: Snapshot | None
    history: list[dict[str, float]]


@dataclass(frozen=True)
class SavedRun:
    """All that a run in another process goes on from, with the types of its values.

    Attributes
    ----------
    state : SavedState
        The state.
    start : Snapshot or None
        The weights of the start, if they are kept.
    unevaluated : Unevaluated
        The steps since the last evaluation.
    seconds : float
        Seconds of training so far.
    fit : str
        A hash of the file that says which fit it is.
    """

    state: SavedState
    start: Snapshot | None
    unevaluated: Unevaluated
    seconds: NotNegative
    fit: str


@dataclass
class TrainingState:
    r"""Weights, optimiser, schedule, counters, and the best weights so far.

    The weights that are evaluated and kept are an average over those of the steps, in which recent ones have the
    largest weights: after t steps

    .. math:: \bar w_t = \frac{p}{t^p} \sum_{s \le t} s^{p - 1} w_s, \qquad \frac1p = \text{memory},

    up to terms of lower order in 1/t (Shamir and Zhang, 2013). The average removes most of the noise of single batches,
    which would otherwise need a much smaller step size, and the weight of the start in it goes to zero.

    Attributes
    ----------
    composition : Composition
        The model in training; its parameters are views of ``parameters.vector``.
    parameters : FlatParameters
        All weights as one vector: the average if ``shows_average``, else the weights of the last step.
    optimizer : Optimizer
        The optimiser of the vector.
    schedule : Schedule
        The step size of each step.
    seed : int
        The seed of all random numbers of the run.
    epoch, step, rows : int
        Epochs begun, steps made, and rows in these steps.
    steps_in_epoch : int
        Steps made in the current epoch.
    n_stale : int
        Evaluations since the held-out objective last made progress.
    n_retreats : int
        Number of resets to the best weights, with a smaller step size.
    progress_mark : float
        The held-out objective with which the next ones are compared for progress.
    best : Snapshot or None
        The best weights so far.
    start : Snapshot or None
        The weights of the start, if they are kept where few validation rows leave it in doubt that others are better.
    history : list of dict
        One row for each evaluation, the start's first.
    aside : Tensor
        The other vector: the weights of the last step if ``shows_average``, else the average.
    shows_average : bool
        Whether the model's weights are the average.
    averaged_from, averaged_to : int
        The first and last step of the average.
    ended_by : {"epochs", "plateau", "time", "search"}
        The reason for the decay: the number of epochs allowed, a lack of progress, or the time limit. 'search': others
        were better, and it ended without one.
    interrupted : bool
        Whether a `KeyboardInterrupt` ended the run.
    unevaluated : Unevaluated
        The steps since the last evaluation, where these were made by another process.
    """

    composition: Composition
    parameters: FlatParameters
    optimizer: Optimizer
    schedule: Schedule
    seed: int
    epoch: int = 0
    step: int = 0
    rows: int = 0
    steps_in_epoch: int = 0
    n_stale: int = 0
    n_retreats: int = 0
    progress_mark: float = math.inf
    best: Snapshot | None = None
    start: Snapshot | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    aside: Tensor = field(init=False)
    shows_average: bool = False
    averaged_from: int = 0
    averaged_to: int = 0
    ended_by: Literal["epochs", "plateau", "time", "search"] = "epochs"
    interrupted: bool = False
    unevaluated: Unevaluated = Unevaluated()

    def __post_init__(self) -> None:
        self.aside = self.parameters.vector.detach().clone()

    @classmethod
    def beginning(
        cls,
        composition: Composition,
        optimizer: str,
        schedule: Schedule,
        seed: int,
        device: str,
        n_rows: int | None = None,
    ) -> TrainingState:
        """The state before the first step, on a device; for training on so many rows, if their number is known."""
        if not any(parameter.requires_grad for parameter in composition.parameters()):
            raise OptionError(
                "There are no weights to train",
                got=f"the encoder {composition.encoder!r} and the decoder {composition.decoder!r}",
                hint="Give one of them layers, or leave one to 'hidden'",
            )
        parameters = FlatParameters(composition.to(device))
        factors, decay = step_factors(composition), weight_decay(composition, n_rows)
        stepper = OPTIMIZERS[optimizer](parameters.vector, factors=factors, decay=decay)
        return cls(composition, parameters, stepper, schedule, seed)

    @property
    def finished(self) -> bool:
        """Whether the schedule has ended."""
        return self.step >= self.schedule.end

    @property
    def is_finite(self) -> bool:
        """Whether all weights, and their average, are finite."""
        return bool(self.parameters.vector.isfinite().all() and self.aside.isfinite().all())

    @property
    def is_recorded(self) -> bool:
        """Whether the last row of history is of the current step."""
        return bool(self.history) and self.history[-1]["step"] == self.step

    def decay(self, reason: Literal["plateau", "time"]) -> None:
        """Begin the decay of the step size, unless it has begun."""
        if self.schedule.begin_decay(self.step):
            self.ended_by = reason

    @cached_property
    def may_draw_globally(self) -> bool:
        """Whether a pass may use torch's global generator."""
        return may_draw_globally(self.composition)

    @property
    def contents(self) -> list[Any]:
        """All objects that the model's modules have, to see whether some were replaced."""
        return [value for part in self.composition.modules() for value in (part, *attributes(part))]

    @cached_property
    def _owners(self) -> dict[str, tuple[nn.Module, str]]:
        """The module that has each buffer, and its name there: a walk through all modules takes 0.1 ms."""
        paths = [(name, *name.rpartition(".")[::2]) for name, _ in self.composition.named_buffers()]
        return {name: (self.composition.get_submodule(path), own) for name, path, own in paths}

    @property
    def buffers(self) -> dict[str, Tensor]:
        """The model's buffers by name."""
        return {name: owner.get_buffer(own) for name, (owner, own) in self._owners.items()}

    @property
    def shuffle(self) -> torch.Generator:
        """The generator of the order of rows in the current epoch."""
        return generator(self.seed, "shuffle", self.epoch)

    def count_step(self, n_rows: int) -> None:
        """Count a step on ``n_rows`` rows."""
        self.step += 1
        self.steps_in_epoch += 1
        self.rows += n_rows

    @property
    def is_average_due(self) -> bool:
        """Whether the weights after this step are added to the average."""
        return self.step % AVERAGE_EVERY == 0

    @property
    def recent_rates(self) -> float:
        """Sum of the step sizes since the average was last due; 0 after the end of the schedule."""
        schedule, first = self.schedule, max(self.step - AVERAGE_EVERY, self.schedule.begins)
        return 0.0 if self.finished else sum(schedule.rate(step) for step in range(first, self.step))

    @torch.no_grad()
    def average(self) -> None:
        """Add the current weights to the average, for all steps since the last time."""
        self.aside.lerp_(self.parameters.vector, self.advance_average())

    def advance_average(self) -> float:
        """Set the average's last step to the current one; return the current weights' share in the new average."""
        made, before = self.step - self.averaged_from, self.averaged_to - self.averaged_from
        self.averaged_to = self.step
        if made == before:
            return 0.0
        return 1 - (before / made) ** (1 / self.optimizer.memory) if self.optimizer.memory else 1.0

    @torch.no_grad()
    def show(self, average: bool) -> None:
        """Set the model's weights to the average, or to the weights of the last step."""
        if average != self.shows_average:
            swap(self.parameters.vector, self.aside)
            self.shows_average = average

    def snapshot(self, objective: float) -> Snapshot:
        """A copy of the current weights."""
        buffers = {name: value.clone() for name, value in self.buffers.items()}
        return Snapshot(objective, self.epoch, self.step, self.parameters.vector.detach().clone(), buffers)

    @torch.no_grad()
    def restore_best(self) -> None:
        """Set the model's weights to the best ones, and end the training mode."""
        self.composition.eval()
        if self.best is not None:
            self.parameters.vector.copy_(self.best.vector)
            for name, value in self.buffers.items():
                value.copy_(self.best.buffers[name])

    def retreat(self) -> None:
        """Reset to the best weights, with half the step size; end the run if that happened too often.

        The k-th time the step size is divided by 4^(k - 1), so that one that is a million times too large is mended.
        """
        self.restore_best()
        self.optimizer.restart()
        self.aside.copy_(self.parameters.vector.detach())
        self.averaged_from = self.averaged_to = self.step
        self.schedule.peak /= max(2, 4**self.n_retreats)
        self.n_retreats += 1
        if self.n_retreats > MOST_RETREATS or self.best is None or not math.isfinite(self.best.objective):
            self.schedule.end = self.step

    def state_dict(self) -> dict[str, Any]:
        """All values that change in a run, as plain values and tensors."""
        return {
            "vector": self.parameters.vector.detach().clone(),
            "aside": self.aside.clone(),
            "buffers": {name: value.clone() for name, value in self.composition.named_buffers()},
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "schedule": asdict(self.schedule),
            "counters": {counter.name: getattr(self, counter.name) for counter in fields(SavedCounters)},
            "best": None if self.best is None else vars(self.best).copy(),
            "history": [row.copy() for row in self.history],
        }

    @torch.no_grad()
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Set the state to one from ``state_dict``; `DataError` if it is another model's."""
        copy_alike(self.parameters.vector, saved["vector"], "vector")
        copy_alike(self.aside, saved["aside"], "aside")
        self._copy_buffers(saved["buffers"])
        self.optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
        self.schedule = Schedule(**saved["schedule"])
        for counter in fields(SavedCounters):
            setattr(self, counter.name, saved["counters"][counter.name])
        self.best = None if saved["best"] is None else Snapshot(**saved["best"])
        self.history[:] = [row.copy() for row in saved["history"]]

    def _copy_buffers(self, saved: Mapping[str, Tensor]) -> None:
        own = dict(self.composition.named_buffers())
        if own.keys() != saved.keys():
            raise DataError("The state of a stream has other tensors than its model", got=f"{sorted(saved)}")
        for name, value in own.items():
            copy_alike(value, saved[name], name, finite=False)
