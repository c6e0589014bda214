"""Evaluation: the mean objective of rows, with the same noise in each call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import islice, repeat

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.model.composition import SILENCE, Composition, Noise
from eigencode.model.objective import Objective, total
from eigencode.training.rng import generator, may_draw_globally, own_global_generator

EVALUATION_ROWS = 8192
"""Rows per pass in evaluation, which bounds the memory of activations."""

EVERY = slice(None)
"""All blocks."""


def row_terms(
    composition: Composition, objective: Objective, batch: Batch, noise: Noise, output: Tensor | None = None
) -> dict[str, Tensor]:
    """The terms of the objective by name, if there are several, and ``objective``, their sum; each of shape (n,)."""
    terms = objective.terms(composition, composition(batch, noise, output))
    shown = terms if len(terms) > 1 else {}
    return {name: term.expand(len(batch)) for name, term in {**shown, "objective": total(terms)}.items()}


def evaluate(composition: Composition, objective: Objective, blocks: Iterable[Batch], seed: int) -> float:
    """The weighted mean objective of rows, with the same noise in each call."""
    return evaluate_terms(composition, objective, blocks, seed)["objective"]


def evaluate_terms(
    composition: Composition,
    objective: Objective,
    blocks: Iterable[Batch],
    seed: int,
    outputs: Sequence[Tensor] | None = None,
) -> dict[str, float]:
    """The same, and those of its terms if there are several."""
    return weighted_means(*terms_of_rows(composition, objective, blocks, seed, EVERY, outputs))


def terms_of_rows(
    composition: Composition,
    objective: Objective,
    blocks: Iterable[Batch],
    seed: int,
    every: slice = EVERY,
    outputs: Sequence[Tensor] | None = None,
) -> tuple[dict[str, Tensor], Tensor | None]:
    """The `row_terms` of rows, with the same noise as in `evaluate`, and the rows' weights if they have any.

    ``every`` selects some of the blocks. ``outputs`` are those of the encoder for all blocks, if they are known.
    """
    with _with_noise(composition, blocks, seed, every) as given:
        known = repeat(None) if outputs is None else outputs
        each = zip(given, known, strict=outputs is not None)
        found = [(row_terms(composition, objective, *block, output), block[0].weight) for block, output in each]
    if not found:
        return {}, None
    terms, weights = zip(*found, strict=True)
    return joined(terms), None if weights[0] is None else torch.cat(weights)


def learn_from_validation(composition: Composition, blocks: Iterable[Batch], seed: int) -> list[Tensor] | None:
    """Update the states of those terms that learn from validation rows, as thresholds do, from all of them.

    Return the encoder's outputs for the blocks, for an evaluation that follows; None if no term learns, if the outputs
    depend on a state that has changed, or if an encoder that draws random numbers would draw others after it.
    """
    if not composition.learns_from_validation:
        return None
    seen, outputs = [], []
    with _with_noise(composition, blocks, seed) as given:
        for block in given:
            trace = composition(*block)
            seen.append(composition.validation_statistics(trace))
            outputs.append(trace.output)
        before = [tensor.clone() for tensor in composition.encoder.terms_read]
        composition.take(composition.validation_state(joined(seen)))
        are_same = all(map(torch.equal, before, composition.encoder.terms_read))
    return outputs if are_same and not may_draw_globally(composition) else None


@contextmanager
def _with_noise(
    composition: Composition, blocks: Iterable[Batch], seed: int, every: slice = EVERY
) -> Iterator[Iterator[tuple[Batch, Noise]]]:
    """Some of the blocks on the model's device, each with its noise, for passes without gradients."""
    composition.eval()
    device = next(composition.parameters(), torch.empty(0)).device

    def given() -> Iterator[tuple[Batch, Noise]]:
        for number, block in islice(enumerate(blocks), every.start, every.stop, every.step):
            source = partial(generator, seed, "evaluation", number, device=device)
            yield block.to(device), draw_noise(composition, len(block), source)

    with torch.inference_mode(), global_draws(may_draw_globally(composition), device, seed, "evaluation"):
        yield given()


def joined(seen: Sequence[Mapping[str, Tensor]], dim: int = 0) -> dict[str, Tensor]:
    """The terms' statistics of several blocks, concatenated along the axis of rows."""
    return {name: torch.cat([statistics[name] for statistics in seen], dim) for name in seen[0]}


def weighted_means(found: Mapping[str, Tensor], weight: Tensor | None) -> dict[str, float]:
    """The weighted means over all rows, in float64."""
    values = [value.double() for value in found.values()]
    if weight is None:
        means = [value.mean() for value in values]
    else:
        weight = weight.to(values[0])
        means = [(value * weight).sum() / weight.sum() for value in values]
    return dict(zip(found, torch.stack(means).tolist(), strict=True))


def draw_noise(composition: Composition, n_rows: int, source: Callable[[], torch.Generator]) -> Noise:
    """The noise of one pass; no generator is made if nothing is random."""
    return composition.draw_noise(n_rows, source()) if composition.is_stochastic else SILENCE


def global_draws(
    expected: bool, device: torch.device, seed: int, purpose: str, *counters: int
) -> AbstractContextManager[None]:
    """A context with a seeded global generator, if modules are expected that take no generator, else an empty one."""
    return own_global_generator(device, seed, purpose, *counters) if expected else nullcontext()
