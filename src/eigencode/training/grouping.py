"""Which of many runs become one program: those of one structure, as far as one pass for all gives each its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.data.rows import NumberedRows, ResidentRows, Rows
from eigencode.training.batched import BatchedTraining
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.padding import NotBatchable
from eigencode.training.rng import has_random_layers
from eigencode.training.run import TrainingRun
from eigencode.training.runner import Runner, SingleRunner
from eigencode.training.structure import in_full, structure

ALONE_FROM = 5e7
"""Multiply-adds of a step from which arithmetic outweighs dispatch, so that company saves nothing."""

PROGRAM_WORK = 1e9
"""Multiply-adds of a step of all models of one program, which bounds the memory of their activations."""


@dataclass(frozen=True)
class Together:
    """Some of many runs, and the program that trains them; or one run, and why it is trained by itself."""

    runner: Runner
    reason: str | None = None


def together(runs: Sequence[TrainingRun]) -> Iterator[Together]:
    """Arrange many runs, all at their beginning, into as few programs as can be.

    A program is made when it is asked for, so that those that are done with do not take memory.
    """
    alike: dict[Any, list[TrainingRun]] = {}
    for run in runs:
        reason = obstacle(run)
        if reason is not None:
            yield _alone(run, reason)
        else:
            alike.setdefault(structure(run), []).append(run)
    for group in alike.values():
        yield from _arranged(group)


def _alone(run: TrainingRun, reason: str) -> Together:
    """A run that is trained by itself, from now on."""
    return Together(SingleRunner(replace(run, clock=run.clock.restarted())), reason)


def _arranged(runs: Sequence[TrainingRun], obstacle: str | None = None) -> Iterator[Together]:
    """Runs of one structure as one program, or else as one for each of their shapes, or else one by one."""
    for chunk in _chunks(runs):
        if len(chunk) == 1:
            yield _alone(chunk[0], obstacle or "no other is like it")
            continue
        try:
            program = BatchedTraining(chunk)
        except NotBatchable as why:
            if obstacle is not None:
                yield from (_alone(run, str(why)) for run in chunk)
                continue
            same: dict[Any, list[TrainingRun]] = {}
            for run in chunk:
                same.setdefault(in_full(run), []).append(run)
            for fewer in same.values():
                yield from _arranged(fewer, str(why))
        else:
            yield Together(program)


def _chunks(runs: Sequence[TrainingRun]) -> Iterator[Sequence[TrainingRun]]:
    """As many runs at a time as a program takes."""
    size = max(int(PROGRAM_WORK / max(runs[0].step_work, 1)), 1)
    for first in range(0, len(runs), size):
        yield runs[first : first + size]


def _is_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same in all respects."""
    is_alike = (one.dtype, one.device, one.shape) == (other.dtype, other.device, other.shape)
    return one is other or (is_alike and torch.equal(one, other))


def shared(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """The same, with one tensor in the place of equal ones: many runs on one table keep it once."""
    tensors: list[Tensor] = []
    batches: list[Batch] = []

    def same(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        found = next((other for other in tensors if _is_equal(other, tensor)), None)
        if found is None:
            tensors.append(tensor)
        return tensor if found is None else found

    def same_batch(batch: Batch) -> Batch:
        own = [same(tensor) for tensor in batch.tensors]
        for other in batches:
            if all(mine is theirs for mine, theirs in zip(own, other.tensors, strict=True)):
                return other
        batches.append(batch)
        return batch

    def of(rows: Rows) -> Rows:
        if not isinstance(rows, ResidentRows):
            return rows
        numbers = {"training": same(rows.training), "validation_numbers": same(rows.validation_numbers)}
        return replace(rows, every=same_batch(rows.every), **numbers)  # type: ignore[arg-type]

    return [replace(run, rows=of(run.rows)) for run in runs]


def obstacle(run: TrainingRun) -> str | None:
    """Why a run should not be part of any program, None where nothing stands against it."""
    if run.state.finished:
        return "there is nothing to train"
    if run.step_work > ALONE_FROM:
        return "its steps are large enough to fill the processor"
    if not isinstance(run.state.optimizer, ClippedAdam):
        return "L-BFGS looks at one model at a time"
    if not isinstance(run.rows, NumberedRows):
        return "its rows come in an order of their own"
    # Code of others that draws is found out by the probe, where no draw is allowed.
    return "its networks draw noise of their own" if has_random_layers(run.state.composition) else None
