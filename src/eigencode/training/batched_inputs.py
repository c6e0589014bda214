"""The rows, the noise and the step sizes of several models; what models share is gathered, or drawn, once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from itertools import count

import torch
from torch import Tensor

from eigencode.batch import Batch, equal_parts
from eigencode.data.rows import NumberedRows, ResidentRows
from eigencode.data.sources import chunk_rows
from eigencode.model.composition import Noise
from eigencode.training.evaluation import EVALUATION_ROWS, draw_noise
from eigencode.training.padding import stacked
from eigencode.training.prefetch import on_device
from eigencode.training.rng import generator
from eigencode.training.run import TrainingRun
from eigencode.training.schedule import rates
from eigencode.training.vectorized import Axes, Leaves

PROBE_ROWS = 16
"""Number of rows on which batched training is compared with separate models before it is used."""


STEPS_AHEAD = 64
"""Steps whose sizes are computed at once."""


class BatchedInputs:
    """Batches and noise of several runs.

    Parameters
    ----------
    runs : list of TrainingRun
        Runs of the same structure, with `NumberedRows`.
    are_alike : bool
        Whether the models have the same widths and numbers, so that with the same seed they draw the same noise.

    Attributes
    ----------
    runs : list of TrainingRun
        Those still in training.
    rates : deque of Tensor
        The step sizes of the next steps, each of shape (K,); they are computed again if it is empty.
    """

    def __init__(self, runs: list[TrainingRun], are_alike: bool) -> None:
        self.runs, self._are_alike = runs, are_alike
        self._device = runs[0].device
        self._noise_widths: dict[int, int] = {}
        self.rates = deque[Tensor]()

    # -- rows

    def batches(self, generator: torch.Generator, batch_size: int) -> Iterator[Batch]:
        """The batches of an epoch, with models as the first axis unless all have the same batch.

        Each model has a generator and a batch size of its own, so the given ones are not used. Models with the same
        rows and seed have the same order, which is one tensor for a batch.
        """
        size = self.runs[0].batch_size
        return self._in_order(
            lambda run: (id(_numbered(run).training), run.state.seed),
            lambda rows, run: rows.shuffled(run.state.shuffle),
            lambda rows, run: rows.order(run.state.shuffle, size),
            size,
        )

    def probe(self) -> tuple[Batch, list[Batch]]:
        """A few rows of each model, as one batch for all models and as a batch for each."""
        numbers = [_numbered(run).training[:PROBE_ROWS].to(run.rows.device) for run in self.runs]
        alone = [_numbered(run).gather(own).to(self._device) for run, own in zip(self.runs, numbers, strict=True)]
        return self._gatherer(range(len(numbers)))(torch.stack(numbers)), alone

    def validation(self) -> Iterator[Batch]:
        """The models' validation rows, block by block."""
        n_rows = min(EVALUATION_ROWS, chunk_rows(self.runs[0].rows.n_features))
        return self._in_order(
            lambda run: id(_numbered(run).evaluated),
            lambda rows, _: rows.evaluated,
            lambda rows, _: rows.validation_order(n_rows),
            n_rows,
        )

    def _in_order(
        self,
        key: Callable[[TrainingRun], Hashable],
        whole: Callable[[NumberedRows, TrainingRun], Tensor],
        in_parts: Callable[[NumberedRows, TrainingRun], Sequence[Tensor]],
        n_rows: int,
    ) -> Iterator[Batch]:
        """The batches of the models, each in its own order, which is made once for those with the same key.

        ``whole`` gives an order of rows in memory; others are given ``in_parts``, which may be computed when needed.
        """
        # A run that has ended gets the rows of those that go on: its own epoch is an earlier one.
        first = {key(run): run for run in sorted(self.runs, key=lambda run: run.state.finished, reverse=True)}
        of = [(_numbered(run), run) for run in first.values()]
        if all(isinstance(rows, ResidentRows) for rows, _ in of):
            numbers = torch.stack([whole(*each) for each in of]).to(of[0][0].device)
            parts: Iterator[Tensor] = (numbers[:, part] for part in equal_parts(numbers.shape[1], n_rows))
        else:
            parts = map(torch.stack, zip(*(in_parts(*each) for each in of), strict=True))
        positions, runs = dict(zip(first, count())), None
        for part in parts:
            if runs is not self.runs:  # some have ended
                runs, gather = self.runs, self._gatherer([positions[key(run)] for run in self.runs])
            yield gather(part)

    def _gatherer(self, own: Sequence[int]) -> Callable[[Tensor], Batch]:
        """The function that gathers rows, with models as the first axis unless all have the same.

        It takes the numbers of several orders, of shape (orders, n); ``own`` is the order of each model.
        """
        rows = [_numbered(run) for run in self.runs]
        if any(each.source is not rows[0].source for each in rows):
            return self._gatherer_of_several(rows, own)
        if len(set(own)) == 1:
            return lambda numbers: rows[0].gather(numbers[own[0]]).to(self._device)
        index = torch.tensor(own, device=rows[0].device)
        return lambda numbers: rows[0].gather(numbers.index_select(0, index)).to(self._device)

    def _gatherer_of_several(self, rows: Sequence[NumberedRows], own: Sequence[int]) -> Callable[[Tensor], Batch]:
        """The same for models of different rows; those of one fold have the same, which are gathered once."""
        keys = [(id(each.source), order) for each, order in zip(rows, own, strict=True)]
        sources = dict(zip(keys, rows, strict=True))
        positions = dict(zip(sources, count()))
        index = [positions[key] for key in keys]

        def gather(numbers: Tensor) -> Batch:
            found = [each.gather(numbers[order]).to(self._device) for (_, order), each in sources.items()]
            tensors = zip(*(batch.tensors for batch in found), strict=True)
            return Batch(*(None if each[0] is None else torch.stack([each[i] for i in index]) for each in tensors))  # type: ignore[arg-type]

        return gather

    # -- step sizes

    def next_rates(self) -> Tensor:
        """The step size of each model in the next step, of shape (K,).

        A clock may change a schedule after each step, so with one no step is computed ahead.
        """
        if not self.rates:
            states = [run.state for run in self.runs]
            step = max((state.step for state in states if not state.finished), default=0)
            n_steps = 1 if any(run.clock.ends is not None for run in self.runs) else STEPS_AHEAD
            found = rates([state.schedule for state in states], step, n_steps)
            self.rates.extend(on_device(found, torch.float64, self._device))
        return self.rates.popleft()

    # -- noise

    def draw(self, purpose: str, counter: int | None, n_rows: int) -> Leaves:
        """The leaves of the noise of a pass, by the seed of each model and the counter, or by its step without one."""
        first = self.runs[0].state.composition
        if not first.is_stochastic:  # and so is no other model of this structure
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
        """The leaves of noise, and the axis of models of each."""
        return noise, tuple(None if leaf is None or self._draws_alike else 0 for leaf in noise)

    def _as_wide_as_before(self, position: int, leaf: Sequence[Tensor | None]) -> Tensor | None:
        """One leaf of all models' noise, as wide as the weights, also after the widest model has ended."""
        found = stacked(leaf, self._noise_widths.get(position, 0))
        if found is not None:
            self._noise_widths[position] = found.shape[-1]
        return found

    @property
    def _draws_alike(self) -> bool:
        """Whether all models have the same noise."""
        return self._are_alike and len({run.state.seed for run in self.runs}) == 1


def _numbered(run: TrainingRun) -> NumberedRows:
    """The rows of a run, which are `NumberedRows`."""
    assert isinstance(run.rows, NumberedRows)  # otherwise the run is not batchable
    return run.rows
