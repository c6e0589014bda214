"""TrainingState: everything a run needs to go on, as a plain value."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from eigencode.domains import Index, Interval, OneOf
from eigencode.errors import DataError, OptionError
from eigencode.model.composition import Composition
from eigencode.training.optimizers import OPTIMIZERS, Optimizer, copy_alike
from eigencode.training.rng import may_draw_globally
from eigencode.training.schedule import Schedule

MOST_RETREATS = 6
"""A run that blows up more often than this is given up."""

AVERAGE_EVERY = 4
"""Steps from one look at the weights to the next, for their average: neighbours are much alike."""


class FlatParameters:
    """All weights of a module as one vector, and all their gradients as another.

    The module's parameters become views of the vector, and their gradients are gathered into one. Norm, clipping, the
    optimiser's step and a copy of the best weights are then one operation each, whatever the number of layers, which is
    what small networks' time goes into.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self.vector = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in self._parameters]))
        self.gradient = torch.zeros_like(self.vector)
        self.vector.grad = self.gradient
        offset = 0
        for parameter in self._parameters:
            place = slice(offset, offset + parameter.numel())
            shape = parameter.shape
            parameter.data = self.vector.data[place].view(shape)
            parameter.grad = None
            offset = place.stop

    def differentiate(self, loss: Tensor) -> None:
        """Let the gradient of a scalar be the vector's: one copy, where adding to zeros would take three passes."""
        found = torch.autograd.grad(loss, self._parameters, materialize_grads=True)
        torch.cat([gradient.reshape(-1) for gradient in found], out=self.gradient)

    def release(self) -> None:
        """Give every parameter storage of its own again, without a gradient, and end the training mode."""
        self.module.eval()
        for parameter in self._parameters:
            parameter.data = parameter.data.clone()
            parameter.grad = None


@dataclass
class Snapshot:
    """The weights of one moment, and what they were worth."""

    objective: float
    epoch: int
    step: int
    vector: Tensor
    buffers: dict[str, Tensor]


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
    ended_by: Annotated[str, OneOf(["epochs", "plateau", "time"])]


@dataclass(frozen=True)
class SavedState:
    """What `TrainingState.state_dict` gives, with the types of its values."""

    vector: Tensor
    aside: Tensor
    buffers: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: Schedule
    counters: SavedCounters
    best: Snapshot | None
    history: list[dict[str, float]]


@dataclass
class TrainingState:
    r"""Weights, optimiser, schedule, counters, and the best weights so far.

    The weights that answer and are judged are an average over those that the steps were made with, in which recent ones
    count most: after t steps

    .. math:: \bar w_t = \frac{p}{t^p} \sum_{s \le t} s^{p - 1} w_s, \qquad \frac1p = \text{memory},

    but for lower orders of 1/t (Shamir and Zhang, 2013). It lies where single batches' noise would only let a far
    smaller step size come to, and forgets the start as the run grows.

    Attributes
    ----------
    composition : Composition
        The model in training; its parameters are views of ``parameters.vector``.
    parameters : FlatParameters
        All weights as one vector: the average where ``shows_average``, else those that steps are made with.
    optimizer : Optimizer
        Steps the vector.
    schedule : Schedule
        Step size by step.
    seed : int
        Names every random draw of the run.
    epoch, step, rows : int
        Epochs begun, steps made, and rows seen in these.
    steps_in_epoch : int
        Steps made in the present epoch.
    n_stale : int
        Evaluations since the held-out objective last made progress.
    n_retreats : int
        Times that the run went back to its best weights, with half the step size.
    progress_mark : float
        The held-out objective that the next progress is measured against.
    best : Snapshot or None
        The weights to keep.
    history : list of dict
        One row an epoch, the start's first.
    aside : Tensor
        The average's vector, or that of the steps: the one which the model has not.
    shows_average : bool
        Whether the model has the average now.
    averaged_from, averaged_to : int
        The steps which the average is of.
    ended_by : {"epochs", "plateau", "time"}
        What called for the decay: the number of epochs allowed, progress that had stopped, or the time limit.
    interrupted : bool
        Whether a `KeyboardInterrupt` ended the run.
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
    history: list[dict[str, float]] = field(default_factory=list)
    aside: Tensor = field(init=False)
    shows_average: bool = False
    averaged_from: int = 0
    averaged_to: int = 0
    ended_by: Literal["epochs", "plateau", "time"] = "epochs"
    interrupted: bool = False

    def __post_init__(self) -> None:
        self.aside = self.parameters.vector.detach().clone()

    @classmethod
    def beginning(
        cls, composition: Composition, optimizer: str, schedule: Schedule, seed: int, device: str
    ) -> TrainingState:
        """A state without a past, on a device."""
        if not any(parameter.requires_grad for parameter in composition.parameters()):
            raise OptionError(
                "There are no weights to learn",
                got=f"the encoder {composition.encoder!r} and the decoder {composition.decoder!r}",
                hint="Give one of them layers, or leave one to 'hidden'",
            )
        parameters = FlatParameters(composition.to(device))
        return cls(composition, parameters, OPTIMIZERS[optimizer](parameters.vector), schedule, seed)

    @property
    def finished(self) -> bool:
        """Whether the schedule has come to its end."""
        return self.step >= self.schedule.end

    @property
    def is_recorded(self) -> bool:
        """Whether the last row of history has all steps made."""
        return bool(self.history) and self.history[-1]["step"] == self.step

    def decay(self, reason: Literal["plateau", "time"]) -> None:
        """Let the step size decay from now on, unless it does so already."""
        if self.schedule.begin_decay(self.step):
            self.ended_by = reason

    @cached_property
    def may_draw_globally(self) -> bool:
        """Whether a pass may read torch's global generator."""
        return may_draw_globally(self.composition)

    @property
    def is_average_due(self) -> bool:
        """Whether the average looks at the weights after this step."""
        return self.step % AVERAGE_EVERY == 0

    @torch.no_grad()
    def average(self) -> None:
        """Take the present weights into the average, for all steps since the last time."""
        self.aside.lerp_(self.parameters.vector, self.advance_average())

    def advance_average(self) -> float:
        """Let the average be of all steps made; returns what the present weights are of it then."""
        made, before = self.step - self.averaged_from, self.averaged_to - self.averaged_from
        self.averaged_to = self.step
        if made == before:
            return 0.0
        return 1 - (before / made) ** (1 / self.optimizer.memory) if self.optimizer.memory else 1.0

    @torch.no_grad()
    def show(self, average: bool) -> None:
        """Let the model have the average, or the weights that steps are made with."""
        if average != self.shows_average:
            shown = self.parameters.vector.detach().clone()
            self.parameters.vector.copy_(self.aside)
            self.aside.copy_(shown)
            self.shows_average = average

    def snapshot(self, objective: float) -> Snapshot:
        """A copy of the present weights."""
        buffers = {name: value.clone() for name, value in self.composition.named_buffers()}
        return Snapshot(objective, self.epoch, self.step, self.parameters.vector.detach().clone(), buffers)

    @torch.no_grad()
    def restore_best(self) -> None:
        """Put the best weights back into the model, and make it ready to answer."""
        self.composition.eval()
        if self.best is not None:
            self.parameters.vector.copy_(self.best.vector)
            for name, value in self.composition.named_buffers():
                value.copy_(self.best.buffers[name])

    def retreat(self) -> None:
        """Go back to the best weights, with half the step size; a run that has done so too often is over."""
        self.restore_best()
        self.optimizer.restart()
        self.aside.copy_(self.parameters.vector.detach())
        self.averaged_from = self.averaged_to = self.step
        self.schedule.peak /= 2
        self.n_retreats += 1
        if self.n_retreats > MOST_RETREATS or self.best is None or not math.isfinite(self.best.objective):
            self.schedule.end = self.step

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes in a run, as plain values and tensors."""
        return {
            "vector": self.parameters.vector.detach().clone(),
            "aside": self.aside.clone(),
            "buffers": {name: value.clone() for name, value in self.composition.named_buffers()},
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "schedule": asdict(self.schedule),
            "counters": {name: getattr(self, name) for name in self._COUNTERS},
            "best": None if self.best is None else vars(self.best).copy(),
            "history": [row.copy() for row in self.history],
        }

    @torch.no_grad()
    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken; `DataError` where it is another model's."""
        copy_alike(self.parameters.vector, saved["vector"], "vector")
        copy_alike(self.aside, saved["aside"], "aside")
        self._copy_buffers(saved["buffers"])
        self.optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
        self.schedule = Schedule(**saved["schedule"])
        for name in self._COUNTERS:
            setattr(self, name, saved["counters"][name])
        self.best = None if saved["best"] is None else Snapshot(**saved["best"])
        self.history = [row.copy() for row in saved["history"]]

    def _copy_buffers(self, saved: Mapping[str, Tensor]) -> None:
        own = dict(self.composition.named_buffers())
        if own.keys() != saved.keys():
            raise DataError("The state of a stream has other tensors than its model", got=f"{sorted(saved)}")
        for name, value in own.items():
            copy_alike(value, saved[name], name, finite=False)

    _COUNTERS = (
        *("seed", "epoch", "step", "rows", "steps_in_epoch", "n_stale", "n_retreats", "progress_mark"),
        *("shows_average", "averaged_from", "averaged_to", "ended_by"),
    )
