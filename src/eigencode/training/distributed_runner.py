"""The runner of one model in several processes: each differentiates its part of a batch, and the gradients are added.

The batches, and the noise of their rows, are those of a single process: each process draws the noise of the whole batch
and takes its rows' part of it. So the number of processes changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from typing import cast

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from eigencode import processes
from eigencode.batch import Batch
from eigencode.data.rows import NumberedRows, Rows
from eigencode.errors import OptionError, TrainingError
from eigencode.model.composition import Noise
from eigencode.training.agreement import Agreement
from eigencode.training.evaluation import EVALUATION_ROWS, terms_of_rows
from eigencode.training.prefetch import Prefetched, is_same
from eigencode.training.rng import RANDOM_LAYERS, generator
from eigencode.training.run import TrainingRun
from eigencode.training.runner import SingleRunner

LOOK_EVERY = 64
"""Steps after which a GPU's decisions are looked at: each look waits for the device."""

PROBE_ROWS = 8
"""Rows of each process by which a user's own parts are tried."""


def runner_of(run: TrainingRun) -> SingleRunner:
    """The runner of one model in this process, or in all that train together."""
    group = processes.group()
    return SingleRunner(run) if group is None else DistributedRunner(run, group)


@dataclass(frozen=True)
class PartOfBatch(Batch):
    """The rows of one process in a batch of several.

    Attributes
    ----------
    first : int
        Number of the first of them in the whole batch.
    n_whole : int
        Number of rows of the whole batch.
    share : float
        This process's share in the rows; 0 if the batch has too few, and then it has the first row.
    """

    first: int = 0
    n_whole: int = 0
    share: float = 0.0


@dataclass(frozen=True)
class PartsOfBatches:
    """The rows of one process: its part of each batch of all rows.

    Rows that can be reached by number are gathered only for this process; others are all read.
    """

    rows: Rows
    group: processes.Group

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """The part of each batch, in the order of a single process."""
        rows = self.rows
        if isinstance(rows, NumberedRows):
            for numbers in rows.order(generator, batch_size):
                own = self._numbers(len(numbers))
                yield self._part(rows.gather(numbers[own]), own.start, len(numbers))
        else:
            for batch in rows.batches(generator, batch_size):
                yield self.of(batch)

    def of(self, batch: Batch) -> PartOfBatch:
        """The part of a whole batch."""
        own = self._numbers(len(batch))
        return self._part(batch.map(itemgetter(own)), own.start, len(batch))

    def _numbers(self, n_whole: int) -> slice:
        """The rows of this process in a batch of ``n_whole`` rows; the first one, if it has none."""
        own = self.group.part(n_whole)
        return own if own.start < own.stop else slice(0, 1)

    def _part(self, batch: Batch, first: int, n_whole: int) -> PartOfBatch:
        own = self.group.part(n_whole)
        return PartOfBatch(*batch.tensors, first, n_whole, (own.stop - own.start) / n_whole)


class DistributedRunner(SingleRunner):
    """Trains one model in several processes, all of which have the same rows and options.

    Parameters
    ----------
    run : TrainingRun
        The model's run in this process.
    group : Group
        The processes.

    Raises
    ------
    OptionError
        If the processes have different rows or options, or if rows of a batch depend on each other, as by a user's
        batch normalisation.
    """

    hears_signals = False

    def __init__(self, run: TrainingRun, group: processes.Group) -> None:
        self._group, self._agreement = group, Agreement(run.clock, group.rank == 0)
        super().__init__(replace(run, clock=self._agreement.clock))
        parts = PartsOfBatches(run.rows, group)
        is_here = is_same(run.rows.device, self.device)
        self._parts = parts
        self.rows = parts if is_here else Prefetched(cast(Rows, parts), self.device)
        self._part = PartOfBatch(torch.empty(0, 0))
        require_same(run, group)
        state = run.state
        for tensor in (state.parameters.vector.data, state.aside, *state.composition.buffers()):
            group.share(tensor)
        self._require_independent_rows()

    @property
    def _may_be_recorded(self) -> bool:
        """False: a recorded step would have to contain the sum over processes."""
        return False

    @property
    def _counters(self) -> tuple[int, ...]:
        """Random layers draw for the rows of their own process."""
        return self._run.state.step, self._group.rank

    def n_rows(self, batch: Batch) -> int:
        """Number of rows of the whole batch."""
        return self._part.n_whole

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The context of steps and evaluations, in which the processes wait for each other."""
        with self.execution.threads(), self._agreement.deferred():
            try:
                yield
            except BaseException as error:
                if not (isinstance(error, KeyboardInterrupt) and self._agreement.is_interrupted):
                    processes.leave(error)
                raise

    def step(self, batch: Batch, active: Sequence[bool] = (True,)) -> Tensor:
        self._agreement.obey(self.recorder is not None)
        self._part = cast(PartOfBatch, batch)
        return super().step(batch)

    def draw(self, batch: Batch) -> Noise:
        """The noise of the whole batch, for the rows of this process."""
        whole = super().draw(batch)
        if not self._is_stochastic:
            return whole
        leaves = zip(whole.leaves, self._axes_of_rows, strict=True)
        return Noise.of(*(_part_of(leaf, axis, self._part) for leaf, axis in leaves))

    @cached_property
    def _axes_of_rows(self) -> list[int | None]:
        """For each leaf of the noise the axis that has the rows, None if it has none."""
        draw, device = self._run.state.composition.draw_noise, self.device
        two, three = (draw(n, generator(0, "probe", device=device)).leaves for n in (2, 3))
        return [None if a is None or b is None else _differing_axis(a, b) for a, b in zip(two, three, strict=True)]

    def differentiate(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        """The same of the whole batch: gradients, objectives and statistics of all processes in one sum."""
        gradient, share = self._run.state.parameters.gradient, self._part.share
        with processes.sharing(self._group, share):
            loss, statistics = super().differentiate(batch, noise)
        wishes = gradient.new_tensor(self._agreement.wishes)
        means = [gradient * share, loss.reshape(1).to(gradient) * share]
        sums = [(value if share else value * 0).reshape(-1).to(gradient) for value in statistics.values()]
        total = self._group.total(torch.cat([*means, wishes, *sums]))
        joined, loss, wishes, *sums = total.split([len(gradient), 1, len(wishes), *map(len, sums)])
        gradient.copy_(joined)
        self._settle(wishes)
        named = zip(statistics.items(), sums, strict=True)
        return loss[0], {name: own.view(like.shape).to(like.dtype) for (name, like), own in named}

    def _settle(self, wishes: Tensor) -> None:
        """Obey what the processes want; on a GPU, look at it from time to time."""
        if wishes.device.type == "cpu" or self._run.state.step % LOOK_EVERY == 0:
            self._agreement.settle(wishes.tolist())

    def require_agreement(self, leaves: bool) -> None:
        (n_leaving,) = self._group.totals([float(leaves)])
        if 0 < n_leaving < self._group.size:
            raise TrainingError(
                "All processes must leave a loop over iter_fit at the same row",
                got=f"{n_leaving:.0f} of {self._group.size} that left it",
                hint="Decide by what all have, as the numbers of a row of history but its seconds",
            )

    def evaluate(self) -> list[dict[str, float]]:
        self._outputs = None  # of all validation rows, of which this process evaluates some
        found, weight = self._terms_of_own_rows()
        weight = (torch.ones_like(found["objective"]) if weight is None else weight).double().to(self.device)
        sums = [(value.double().to(self.device) * weight).sum() for value in found.values()]
        *totals, n = self._group.total(torch.stack([*sums, weight.sum()])).tolist()
        return [{name: total / n for name, total in zip(found, totals, strict=True)}]

    def _terms_of_own_rows(self) -> tuple[dict[str, Tensor], Tensor | None]:
        """The terms of this process's validation rows, and their weights."""
        run, group = self._run, self._group

        def of(every: slice) -> tuple[dict[str, Tensor], Tensor | None]:
            blocks = run.rows.validation(EVALUATION_ROWS)
            return terms_of_rows(run.state.composition, run.objective, blocks, run.state.seed, every)

        found, weight = of(slice(group.rank, None, group.size))
        if found:
            return found, weight
        # Fewer blocks than processes: the names of the terms are those of other rows.
        return {name: rows[:0] for name, rows in of(slice(1))[0].items()}, None

    # -- checks

    def _require_independent_rows(self) -> None:
        """Raise an error if a user's own part mixes the rows of a batch, found by a few rows, whole and in parts."""
        state = self._run.state
        layers = list(state.composition.modules())
        if named := sorted({type(layer).__name__ for layer in layers if isinstance(layer, _BatchNorm)}):
            raise _mixes_rows(", ".join(named))
        if not state.may_draw_globally:
            return
        buffers = {name: value.clone() for name, value in state.composition.named_buffers()}
        state.composition.train()
        for layer in layers:
            layer.train(not isinstance(layer, RANDOM_LAYERS))
        rows = self._run.rows.sample(PROBE_ROWS * self._group.size).to(self.device)
        whole = PartOfBatch(*rows.tensors, 0, len(rows), 1.0)
        found = []
        for batch, differentiate in (
            (whole, super().differentiate),
            (self._parts.of(rows), self.differentiate),
        ):
            self._part = batch
            loss, _ = differentiate(batch, self.draw(batch))
            found.append(torch.cat([state.parameters.gradient.clone(), loss.reshape(1)]))
        state.composition.take(buffers)
        if not (found[0] - found[1]).norm() <= PROBE_TOLERANCE[found[0].dtype] * (1 + found[0].norm()):
            raise _mixes_rows("a part of the model")


PROBE_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
"""Largest relative difference between a gradient and the sum of its parts, by rounding."""


def _mixes_rows(what: str) -> OptionError:
    return OptionError(
        "Several processes can train a model only if the rows of a batch do not depend on each other",
        got=f"{what}, which does not give each row an answer of its own",
        hint="Use nn.LayerNorm or nn.GroupNorm instead of batch normalisation, or train in one process",
    )


def require_same(run: TrainingRun, group: processes.Group) -> None:
    """Raise an error if the processes have different rows or options."""
    cells = run.rows.sample(256).x.double()
    facts = {
        "training rows": run.rows.n_training or 0,
        "validation rows": run.rows.n_validation,
        "columns": run.rows.n_features,
        "weights": len(run.state.parameters.vector),
        "rows a step": run.batch_size,
        "steps": run.state.schedule.n_steps,
        "seeds": run.state.seed,
        "cells": float(cells.mean()) + float(cells.square().mean()),
    }
    own = torch.tensor(list(facts.values()), dtype=torch.float64, device=run.device)
    spread = group.spread(own)
    differing = [name for name, other in zip(facts, (spread > 1e-6 * own.abs()).tolist(), strict=True) if other]
    if differing:
        raise OptionError(
            "All processes must have the same rows and options: each takes its own part of every batch",
            got=f"different {', '.join(differing)}",
            hint="Give each process all rows",
        )


def _part_of(leaf: Tensor | None, axis: int | None, part: PartOfBatch) -> Tensor | None:
    """The noise of the rows of a part of a batch, which are along an axis; all of it without one."""
    return leaf if leaf is None or axis is None else leaf.narrow(axis, part.first, len(part))


def _differing_axis(a: Tensor, b: Tensor) -> int | None:
    """The first axis in which the shapes of two tensors differ."""
    return next((axis for axis, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)) if m != n), None)
