"""Which of many runs become one program: those of one structure, as far as one pass for all gives each its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigencode.training import loop
from eigencode.training.batched import TORCHS_OWN, BatchedTraining, NotBatchable, is_number
from eigencode.training.loop import Work
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.rng import has_random_layers
from eigencode.training.state import TrainingState

ALONE_FROM = 5e7
"""Multiply-adds of a step from which arithmetic outweighs dispatch, so that company saves nothing."""

PROGRAM_WORK = 1e9
"""Multiply-adds of a step of all models of one program, which bounds the memory of their activations."""


@dataclass(frozen=True)
class Together:
    """Some of many runs, and the program that trains them; or one run, and why it is trained by itself."""

    places: tuple[int, ...]
    program: BatchedTraining | None = None
    reason: str | None = None

    def epochs(
        self, states: Sequence[TrainingState], works: Sequence[Work]
    ) -> Iterator[list[tuple[TrainingState, dict[str, float]]]]:
        """Train to the end; an epoch gives the row of history of each model that made it."""
        if self.program is not None:
            yield from self.program.epochs()
            return
        for place in self.places:
            work = replace(works[place], clock=works[place].clock.restarted())
            for row in loop.epochs(states[place], work):
                yield [(states[place], row)]


def together(states: Sequence[TrainingState], works: Sequence[Work]) -> Iterator[Together]:
    """Arrange many runs, all at their beginning, into as few programs as can be.

    A program is made when it is asked for, so that those that are done with do not take memory.
    """
    alike: dict[Any, list[int]] = {}
    for place, (state, work) in enumerate(zip(states, works, strict=True)):
        reason = obstacle(state, work)
        if reason is not None:
            yield Together((place,), None, reason)
        else:
            alike.setdefault(structure(state, work), []).append(place)
    for places in alike.values():
        yield from _arranged(places, states, works)


def _arranged(
    places: Sequence[int], states: Sequence[TrainingState], works: Sequence[Work], obstacle: str | None = None
) -> Iterator[Together]:
    """Runs of one structure as one program, or else as one for each of their shapes, or else one by one."""
    for chunk in _chunks(places, works):
        if len(chunk) == 1:
            yield Together(chunk, None, obstacle or "no other is like it")
            continue
        try:
            program = BatchedTraining([states[k] for k in chunk], [works[k] for k in chunk])
        except NotBatchable as why:
            if obstacle is not None:
                yield from (Together((k,), None, str(why)) for k in chunk)
                continue
            same: dict[Any, list[int]] = {}
            for k in chunk:
                same.setdefault(_in_full(states[k], works[k]), []).append(k)
            for fewer in same.values():
                yield from _arranged(fewer, states, works, str(why))
        else:
            yield Together(chunk, program)


def _chunks(places: Sequence[int], works: Sequence[Work]) -> Iterator[tuple[int, ...]]:
    """As many runs at a time as a program takes."""
    size = max(int(PROGRAM_WORK / max(works[places[0]].step_work, 1)), 1)
    for first in range(0, len(places), size):
        yield tuple(places[first : first + size])


def _in_full(state: TrainingState, work: Work) -> tuple[Any, ...]:
    """The structure, the shapes and every number of a run."""
    composition = state.composition
    shapes = tuple(tuple(p.shape) for p in composition.parameters())
    numbers = tuple(
        (name, attribute, float(value))
        for name, module in composition.named_modules()
        for attribute, value in vars(module).items()
        if attribute not in TORCHS_OWN and is_number(module, attribute, value)
    )
    return shapes, numbers, tuple(vars(work.objective).values())


def shared(works: Sequence[Work]) -> list[Work]:
    """The same, with one tensor in the place of equal ones: many runs on one table keep it once."""
    kept: list[Tensor] = []

    def same(tensor: Tensor) -> Tensor:
        for other in kept:
            if other is tensor or (other.dtype == tensor.dtype and torch.equal(other, tensor)):
                return other
        kept.append(tensor)
        return tensor

    return [
        replace(
            work,
            rows=same(work.rows),
            training=same(work.training),
            held_out=same(work.held_out),
            weights=None if work.weights is None else same(work.weights),
        )
        for work in works
    ]


def structure(state: TrainingState, work: Work) -> tuple[Any, ...]:
    """What models of one program have in common, as a value that can be compared."""
    composition = state.composition
    has_idle = all(term.ignores_idle_components for term in composition.terms)
    modules = tuple(
        (name, type(module), tuple(sorted(_described(module, has_idle))))
        for name, module in composition.named_modules()
    )
    parameters = tuple((name, p.dim(), p.requires_grad) for name, p in composition.named_parameters())
    buffers = tuple((name, tuple(b.shape)) for name, b in composition.named_buffers())
    place = (work.execution.device, work.execution.precision)
    run = (*place, work.batch_size, len(work.training), len(work.held_out), work.rows.shape)
    return modules, parameters, buffers, run, type(work.objective), work.weights is None, state.step


def obstacle(state: TrainingState, work: Work) -> str | None:
    """Why a run should not be part of any program, None where nothing stands against it."""
    if state.finished:
        return "there is nothing to train"
    if work.step_work > ALONE_FROM:
        return "its steps are large enough to fill the processor"
    if not isinstance(state.optimizer, ClippedAdam):
        return "L-BFGS looks at one model at a time"
    # Code of others that draws is found out by the probe, where no draw is allowed.
    return "its networks draw noise of their own" if has_random_layers(state.composition) else None


def _described(module: nn.Module, has_idle: bool) -> Iterator[tuple[str, str]]:
    """A module's own attributes in words; of those that models may differ in, the kind only."""
    for name, value in vars(module).items():
        if name in TORCHS_OWN or isinstance(value, nn.Module):
            continue
        if is_number(module, name, value):
            yield name, "a number"
        elif name in getattr(type(module), "paddable", ()) and (has_idle or name != "n_components"):
            yield name, "a width" if isinstance(value, Integral) else f"{len(value)} widths"
        elif isinstance(value, Sequence) and any(isinstance(item, nn.Module) for item in value):
            yield name, f"{len(value)} modules"
        else:
            yield name, repr(_plain(value))


def _plain(value: Any) -> Any:
    """A value with every number in it as a float, whatever the type it was written in; bools are no numbers."""
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        return float(value)
    if isinstance(value, np.ndarray | Tensor):
        return type(value).__name__, str(value.dtype), value.tolist()
    if isinstance(value, list | tuple):
        return type(value).__name__, [_plain(item) for item in value]
    return value
