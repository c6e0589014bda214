"""The rows and the noise of many models: what several of them share is gathered, and drawn, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.data.rows import NumberedRows
from eigencode.model.composition import Noise
from eigencode.training.evaluation import EVALUATION_ROWS, draw_noise
from eigencode.training.padding import stacked
from eigencode.training.rng import generator
from eigencode.training.run import TrainingRun
from eigencode.training.vectorized import Axes, Leaves

PROBE_ROWS = 16
"""Rows on which a program has to agree with its models before it is used."""


class BatchedInputs:
    """Batches and noise of many runs.

    Parameters
    ----------
    runs : list of TrainingRun
        Of one structure, their rows such as can be reached by number.
    are_alike : bool
        Whether the models have the same widths and numbers, so that with one seed they draw the same.

    Attributes
    ----------
    runs : list of TrainingRun
        Those still in training.
    """

    def __init__(self, runs: list[TrainingRun], are_alike: bool) -> None:
        self.runs, self._are_alike = runs, are_alike
        self._device = runs[0].device
        self._noise_widths: dict[int, int] = {}
        self._order = self._endless_order()

    # -- rows

    def next_batch(self) -> Batch:
        """Each model's next batch, with a first axis of models unless all have the same."""
        return self._gathered(next(self._order))

    def probe(self) -> tuple[Batch, list[Batch]]:
        """A few rows of each model, for all and one by one."""
        numbers = [_numbered(run).training[:PROBE_ROWS].to(run.rows.home) for run in self.runs]
        alone = [_numbered(run).gather(own).to(self._device) for run, own in zip(self.runs, numbers, strict=True)]
        return self._gathered(numbers), alone

    def validation(self) -> Iterator[Batch]:
        """The models' rows for validation, block by block."""
        orders: dict[int, Sequence[Tensor]] = {}
        own = []
        for rows in map(_numbered, self.runs):
            key = id(rows.validation_numbers if rows.n_validation else rows.training)
            if key not in orders:
                orders[key] = rows.validation_order(EVALUATION_ROWS)
            own.append(orders[key])
        yield from map(self._gathered, zip(*own, strict=True))

    def _endless_order(self) -> Iterator[list[Tensor]]:
        """The numbers of each model's next batch; one tensor for those that see the same rows in the same order."""
        while True:
            made: dict[tuple[int, int], Sequence[Tensor]] = {}
            epoch = max(run.state.epoch for run in self.runs) + 1
            for run in self.runs:
                if not run.state.finished:
                    run.state.epoch, run.state.steps_in_epoch = epoch, 0
                key = id(_numbered(run).training), run.state.seed
                if key not in made:
                    made[key] = _numbered(run).order(generator(run.state.seed, "shuffle", epoch), run.batch_size)
            for step in range(self.runs[0].n_batches):
                yield [made[id(_numbered(run).training), run.state.seed][step] for run in self.runs]

    def _gathered(self, numbers: Sequence[Tensor]) -> Batch:
        """Each model's rows of some numbers, with a first axis of models unless all have the same batch."""
        first = _numbered(self.runs[0])
        if all(_numbered(run).source is first.source for run in self.runs):
            is_one = all(own is numbers[0] for own in numbers)
            return first.gather(numbers[0] if is_one else torch.stack(list(numbers))).to(self._device)
        # Models of one fold see the same rows: each batch is gathered once.
        keys = [(id(_numbered(run).source), id(own)) for run, own in zip(self.runs, numbers, strict=True)]
        owners = {key: k for k, key in reversed(list(enumerate(keys)))}
        gathered = {key: _numbered(self.runs[k]).gather(numbers[k]).to(self._device) for key, k in owners.items()}
        batches = [gathered[key] for key in keys]
        tensors = zip(*(batch.tensors for batch in batches), strict=True)
        return Batch(*(None if each[0] is None else torch.stack(each) for each in tensors))  # type: ignore[arg-type]

    # -- noise

    def draw(self, purpose: str, counter: int | None, n_rows: int) -> Leaves:
        """The leaves of the noise of a pass, each model's by its own seed and, without a counter, its own step."""
        first = self.runs[0].state.composition
        if not first.is_stochastic:  # and so is none of its structure
            return Noise(penalties=(None,) * len(first.penalties)).leaves
        drawn = []
        for state in [run.state for run in (self.runs[:1] if self._draws_alike else self.runs)]:
            number = state.step if counter is None else counter
            source = partial(generator, state.seed, purpose, number, device=self._device)
            drawn.append(draw_noise(state.composition, n_rows, source).leaves)
        if self._draws_alike:
            return drawn[0]
        return tuple(self._as_wide_as_before(i, leaf) for i, leaf in enumerate(zip(*drawn, strict=True)))

    def with_axes(self, noise: Leaves) -> tuple[Leaves, Axes]:
        """The leaves of noise, each with its axis of models."""
        return noise, tuple(None if leaf is None or self._draws_alike else 0 for leaf in noise)

    def _as_wide_as_before(self, position: int, leaf: Sequence[Tensor | None]) -> Tensor | None:
        """One leaf of all models' noise: the weights keep the width of the widest model when that one has ended."""
        found = stacked(leaf, self._noise_widths.get(position, 0))
        if found is not None:
            self._noise_widths[position] = found.shape[-1]
        return found

    @property
    def _draws_alike(self) -> bool:
        """Whether one draw serves all models."""
        return self._are_alike and len({run.state.seed for run in self.runs}) == 1


def _numbered(run: TrainingRun) -> NumberedRows:
    """The rows of a run, which can be reached by number."""
    assert isinstance(run.rows, NumberedRows)  # an obstacle otherwise
    return run.rows
