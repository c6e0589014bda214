"""Grouping runs of the same structure, so that each group is trained in one batch (one program)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.data.rows import NumberedRows, ResidentRows, Rows
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.padding import NotBatchable
from eigencode.training.rng import has_random_layers
from eigencode.training.run import TrainingRun
from eigencode.training.runner import Runner, SingleRunner
from eigencode.training.structure import in_full, structure

ALONE_FROM = 5e7
"""Multiply-adds of a step from which training models in one batch saves no time."""

PROGRAM_WORK = 1e9
"""Most multiply-adds of a step of all models of one program, which bounds the memory of their activations."""


@dataclass(frozen=True)
class RunGroup:
    """The runner of a group of runs; for a single run, also the reason why it is not batched."""

    runner: Runner
    reason: str | None = None


def group_runs(runs: Sequence[TrainingRun]) -> Iterator[RunGroup]:
    """Yield groups of runs, as few as possible. The runs must not have started.

    Each group is made when it is needed, so that finished ones do not take memory.
    """
    alike: dict[Any, list[TrainingRun]] = {}
    for run in runs:
        reason = reason_not_batchable(run)
        if reason is not None:
            yield _alone(run, reason)
        else:
            alike.setdefault(structure(run), []).append(run)
    for group in alike.values():
        yield from _arranged(group)


def _alone(run: TrainingRun, reason: str) -> RunGroup:
    """A group of one run, whose clock starts now."""
    return RunGroup(SingleRunner(replace(run, clock=run.clock.restarted())), reason)


def _arranged(runs: Sequence[TrainingRun], reason: str | None = None) -> Iterator[RunGroup]:
    """Runs of the same structure as one group; if that fails, a group for each of their shapes; else single runs.

    ``reason`` is the reason why a larger group failed, None for the first attempt.
    """
    for chunk in _chunks(runs):
        if len(chunk) == 1:
            yield _alone(chunk[0], reason or "no other is like it")
            continue
        try:
            program = BatchedRunner(chunk)
        except NotBatchable as why:
            if reason is not None:
                yield from (_alone(run, str(why)) for run in chunk)
                continue
            same: dict[Any, list[TrainingRun]] = {}
            for run in chunk:
                same.setdefault(in_full(run), []).append(run)
            for fewer in same.values():
                yield from _arranged(fewer, str(why))
        else:
            yield RunGroup(program)


def _chunks(runs: Sequence[TrainingRun]) -> Iterator[Sequence[TrainingRun]]:
    """Split runs into chunks of the size that one program can have."""
    size = max(int(PROGRAM_WORK / max(runs[0].step_work, 1)), 1)
    for first in range(0, len(runs), size):
        yield runs[first : first + size]


def _is_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same in all respects."""
    is_alike = (one.dtype, one.device, one.shape) == (other.dtype, other.device, other.shape)
    return one is other or (is_alike and torch.equal(one, other))


def share_tensors(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """Replace equal tensors of different runs by one tensor, so that a table is in memory once."""
    tensors: dict[Any, list[Tensor]] = {}
    batches: list[Batch] = []

    def same(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        known = tensors.setdefault((tensor.shape, str(tensor.sum())), [])
        found = next((other for other in known if _is_equal(other, tensor)), None)
        if found is None:
            known.append(tensor)
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
        return replace(rows, all_rows=same_batch(rows.all_rows), **numbers)  # type: ignore[arg-type]

    return [replace(run, rows=of(run.rows)) for run in runs]


def reason_not_batchable(run: TrainingRun) -> str | None:
    """The reason why a run cannot be batched, None if it can."""
    if run.state.finished:
        return "there is nothing to train"
    if run.step_work > ALONE_FROM:
        return "its steps are large enough to fill the processor"
    if not isinstance(run.state.optimizer, ClippedAdam):
        return "L-BFGS looks at one model at a time"
    if not isinstance(run.rows, NumberedRows):
        return "its rows come in an order of their own"
    # Users' modules that draw random numbers are found by the check of `BatchedRunner`, where drawing is an error.
    return "its networks draw noise of their own" if has_random_layers(run.state.composition) else None
