"""Evaluation: the mean objective of rows, with the same noise in each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.model.composition import SILENCE, Composition, Noise
from eigencode.model.objective import Objective
from eigencode.training.rng import generator, may_draw_globally, own_global_generator

EVALUATION_ROWS = 8192
"""Rows per pass in evaluation, which bounds the memory of activations."""

EVERY = slice(None)
"""All blocks."""


def row_objectives(composition: Composition, objective: Objective, batch: Batch, noise: Noise) -> Tensor:
    """The objective of each row of a batch, shape (n,)."""
    return objective(composition, composition(batch, noise)).expand(len(batch))


def evaluate(composition: Composition, objective: Objective, blocks: Iterable[Batch], seed: int) -> float:
    """The weighted mean objective of rows, with the same noise in each call."""
    return weighted_mean([objectives_of_rows(composition, objective, blocks, seed)])


def objectives_of_rows(
    composition: Composition, objective: Objective, blocks: Iterable[Batch], seed: int, every: slice = EVERY
) -> tuple[Tensor, Tensor | None]:
    """The objective of each row, with the same noise as in `evaluate`, and the rows' weights if they have any.

    ``every`` selects some of the blocks.
    """
    with _with_noise(composition, blocks, seed, every) as given:
        found = [(row_objectives(composition, objective, *block), block[0].weight) for block in given]
    if not found:
        return torch.empty(0), None
    objectives, weights = zip(*found, strict=True)
    return torch.cat(objectives), None if weights[0] is None else torch.cat(weights)


def learn_from_validation(composition: Composition, blocks: Iterable[Batch], seed: int) -> None:
    """Update the states of those terms that learn from validation rows, as thresholds do, from all of them."""
    if composition.learns_from_validation:
        with _with_noise(composition, blocks, seed) as given:
            seen = [composition.validation_statistics(composition(*block)) for block in given]
            composition.take(composition.validation_state(joined(seen)))


@contextmanager
def _with_noise(
    composition: Composition, blocks: Iterable[Batch], seed: int, every: slice = EVERY
) -> Iterator[Iterator[tuple[Batch, Noise]]]:
    """Some of the blocks on the model's device, each with its noise, for passes without gradients."""
    composition.eval()
    device = next(composition.parameters(), torch.empty(0)).device

    def given() -> Iterator[tuple[Batch, Noise]]:
        for number, block in islice(enumerate(blocks), every.start, None, every.step):
            source = partial(generator, seed, "evaluation", number, device=device)
            yield block.to(device), draw_noise(composition, len(block), source)

    with torch.inference_mode(), global_draws(may_draw_globally(composition), device, seed, "evaluation"):
        yield given()


def joined(seen: Sequence[Mapping[str, Tensor]], dim: int = 0) -> dict[str, Tensor]:
    """The terms' statistics of several blocks, concatenated along the axis of rows."""
    return {name: torch.cat([statistics[name] for statistics in seen], dim) for name in seen[0]}


def weighted_mean(blocks: Iterable[tuple[Tensor, Tensor | None]]) -> float:
    """The weighted mean of the objectives of all rows, in float64."""
    objectives, weights = zip(*blocks, strict=True)
    found = torch.cat(objectives).double()
    if weights[0] is None:
        return float(found.mean())
    weight = torch.cat(weights).to(found)
    return float((found * weight).sum() / weight.sum())


def draw_noise(composition: Composition, n_rows: int, source: Callable[[], torch.Generator]) -> Noise:
    """The noise of one pass; no generator is made if nothing is random."""
    return composition.draw_noise(n_rows, source()) if composition.is_stochastic else SILENCE


def global_draws(
    expected: bool, device: torch.device, seed: int, purpose: str, *counters: int
) -> AbstractContextManager[None]:
    """A context with a seeded global generator, if modules are expected that take no generator, else an empty one."""
    return own_global_generator(device, seed, purpose, *counters) if expected else nullcontext()
