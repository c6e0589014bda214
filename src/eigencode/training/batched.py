r"""Many models as one program.

Models of one structure may differ in their weights, seeds, rows, step sizes, widths, and in the numbers of their terms:
a noise level, the weight of a penalty, beta. Their weights are the rows of one matrix. One vectorised pass
(``torch.func.vmap``) gives each model its own objective, one backward pass its own gradient, one step of the optimiser
its own clipping and step size. So a step of thirty small models costs a few of one, whose time goes into the dispatch
of operations and not into arithmetic.

A narrower model is a wide one with weights at zero that never move: its own initial weights, then zeros around them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from eigencode.batch import Batch
from eigencode.data.rows import NumberedRows
from eigencode.model.composition import Composition, Noise
from eigencode.model.objective import Objective
from eigencode.parts.base import Part
from eigencode.training.cuda_graphs import Recorded
from eigencode.training.evaluation import EVALUATION_ROWS, draw_noise, joined, row_objectives, weighted_mean
from eigencode.training.execution import Execution, threads_for
from eigencode.training.optimizers import ClippedAdamOfRows
from eigencode.training.prefetch import on_device
from eigencode.training.rng import generator
from eigencode.training.run import TrainingRun
from eigencode.training.runner import Runner

TORCHS_OWN = frozenset(vars(nn.Module()))
"""Attributes of every module."""

Leaves = tuple[Tensor | None, ...]
"""The tensors of a batch, or of its noise, as vectorised functions take them."""

Axes = tuple[int | None, ...]
"""The axis of models of each of these, None where all models share it."""

PROBE_ROWS = 16
"""Rows on which a program has to agree with its models before it takes their place."""


class NotBatchable(Exception):
    """Models that cannot be one program, and why."""


class _Pass(nn.Module):
    """What is done with a composition and its objective in one pass, as one module."""

    def __init__(self, composition: Composition, objective: Objective) -> None:
        super().__init__()
        self.composition = composition
        self.objective = objective

    def step(self, batch: Leaves, noise: Leaves, differing: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch's mean objective, and every term's state after the step."""
        given = Batch(*batch)  # type: ignore[arg-type]
        trace = self.composition(given, Noise.of(*noise))
        with torch.no_grad():
            state = self.composition.next_state(self.composition.statistics(trace), len(given))
        objective = replace(self.objective, **differing)
        return objective.mean(self.composition, trace, given.weight), {name: t.detach() for name, t in state.items()}

    def look(self, batch: Leaves, noise: Leaves) -> dict[str, Tensor]:
        """What the terms want to know of rows for validation."""
        return self.composition.validation_statistics(self.composition(Batch(*batch), Noise.of(*noise)))  # type: ignore[arg-type]

    def learn(self, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms' states after a look at all rows for validation."""
        return self.composition.validation_state(statistics)

    def evaluate(self, batch: Leaves, noise: Leaves, differing: Mapping[str, Any]) -> Tensor:
        """The objective of each row."""
        objective = replace(self.objective, **differing)
        return row_objectives(self.composition, objective, Batch(*batch), Noise.of(*noise))  # type: ignore[arg-type]


class BatchedTraining(Runner):
    """Trains the models of K runs of one structure as one program.

    Parameters
    ----------
    runs : sequence of TrainingRun
        At their beginning, with `structure` the same.

    Raises
    ------
    NotBatchable
        If one pass for all does not give each model what a pass of its own does.
    """

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self.runs = [replace(run, clock=run.clock.restarted()) for run in runs]
        compositions = [run.state.composition for run in runs]
        self._numbers, self._differing = _differing(compositions), _differing_fields(runs)
        self._pass = _Pass(copy.deepcopy(compositions[0]), runs[0].objective)
        self._modules = dict(self._pass.composition.named_modules())
        named = [dict(c.named_parameters()) for c in compositions]
        trained = [name for name, p in named[0].items() if p.requires_grad]
        shapes = {name: _hull([n[name].shape for n in named]) for name in trained}
        self._indices = [_indices(c, shapes) for c in compositions]
        like = runs[0].state.parameters.vector
        size = sum(math.prod(shape) for shape in shapes.values())
        matrix = like.new_zeros(len(runs), size)
        for row, run, index in zip(matrix, runs, self._indices, strict=True):
            row[index] = run.state.parameters.vector.detach()
        self._is_padded = any(len(index) < size for index in self._indices)
        self._noise_widths: dict[int, int] = {}
        self._shapes = shapes
        frozen = [name for name in named[0] if name not in shapes]
        self._fixed = {name: torch.stack([n[name].detach() for n in named]) for name in frozen}
        self._buffers = {
            name: torch.stack([c.get_buffer(name) for c in compositions]) for name, _ in compositions[0].named_buffers()
        }
        self._adopt(matrix)
        self._aside, self._has_average = matrix.clone(), False
        self._optimizer = ClippedAdamOfRows(self._matrix, self._gradient, list(map(len, self._indices)))
        self._order = self._endless_order()
        self._probe()

    @property
    def execution(self) -> Execution:
        """Where and how all models run: their steps are one, and so is the work that asks for threads."""
        return replace(self.runs[0].execution, n_threads=threads_for(sum(run.step_work for run in self.runs)))

    # -- the weights

    def _adopt(self, matrix: Tensor) -> None:
        """Let views of the matrix be the models' weights."""
        self._matrix, self._gradient = matrix, torch.zeros_like(matrix)
        self._weights, offset = {}, 0
        for name, shape in self._shapes.items():
            columns, offset = slice(offset, offset + math.prod(shape)), offset + math.prod(shape)
            self._weights[name] = matrix[:, columns].unflatten(1, shape).detach().requires_grad_()
        self._mask = None
        if self._is_padded:
            self._mask = torch.zeros_like(matrix)
            for row, index in zip(self._mask, self._indices, strict=True):
                row[index] = 1.0
        self._update = Recorded(self._move) if self.device.type == "cuda" else self._move

    def keep_unfinished(self) -> bool:
        """Go on with the models whose schedules have not ended; whether any is left."""
        chosen = [k for k, run in enumerate(self.runs) if not run.state.finished]
        if chosen and len(chosen) < len(self.runs):
            self._keep(chosen)
        return bool(chosen)

    def _keep(self, chosen: Sequence[int]) -> None:
        """Go on with some of the models only."""
        index = torch.tensor(chosen, device=self._matrix.device)
        self.runs, self._indices = [self.runs[k] for k in chosen], [self._indices[k] for k in chosen]
        for tensors in (self._buffers, self._fixed, self._differing, self._numbers):
            for name, value in tensors.items():
                tensors[name] = value.index_select(0, index)  # type: ignore[index]
        self._adopt(self._matrix.index_select(0, index))
        self._aside = self._aside.index_select(0, index)
        self._optimizer = self._optimizer.of(index, self._matrix, self._gradient)

    @torch.no_grad()
    def write_back(self) -> None:
        """Give every run's state its own weights and its terms' states."""
        for k, (run, index) in enumerate(zip(self.runs, self._indices, strict=True)):
            run.state.parameters.vector.copy_(self._matrix[k, index])
            for name, value in self._buffers.items():
                run.state.composition.get_buffer(name).copy_(value[k])

    @torch.no_grad()
    def take_back(self, changed: Sequence[int]) -> None:
        """Take the weights and states of runs that went back to earlier ones."""
        for k in changed:
            state = self.runs[k].state
            for matrix in (self._matrix, self._aside):
                matrix[k, self._indices[k]] = state.parameters.vector
            for name, value in self._buffers.items():
                value[k] = state.composition.get_buffer(name)

    @torch.no_grad()
    def take_average(self) -> None:
        """Take every model's present weights into its average."""
        shares = [run.state.advance_average() for run in self.runs]
        self._aside.lerp_(self._matrix, on_device(shares, self._matrix.dtype, self.device)[:, None])

    @property
    def shows_average(self) -> bool:
        """Whether the matrix holds the averages now."""
        return self._has_average

    @torch.no_grad()
    def show(self, average: bool) -> None:
        """Let the models have their averages, or the weights that steps are made with."""
        if average != self._has_average:
            shown = self._matrix.clone()
            self._matrix.copy_(self._aside)
            self._aside = shown
            self._has_average = average

    # -- one pass for all

    def _arguments(self) -> dict[str, Tensor]:
        tensors = {**self._weights, **self._fixed, **self._buffers}
        return {f"composition.{name}": value for name, value in tensors.items()}

    def _for_all(self, method: Any, *inputs: Any) -> Any:
        """Apply a method of `_Pass` to all models; only inputs with an axis of models are given one each."""

        def of_one(tensors: Any, numbers: Any, *given: Any) -> Any:
            with self._numbers_in_use(numbers):
                return functional_call(_Calling(self._pass, method), _prefixed(tensors), given)

        values, axes = zip(*inputs, strict=True)
        return vmap(of_one, in_dims=(0, 0, *axes))(self._arguments(), self._numbers, *values)

    @contextmanager
    def _numbers_in_use(self, numbers: Mapping[tuple[str, str], Tensor]) -> Iterator[None]:
        """Let one model's numbers be those of the parts."""
        before = {key: getattr(self._modules[key[0]], key[1]) for key in numbers}
        try:
            for (module, name), value in numbers.items():
                setattr(self._modules[module], name, value)
            yield
        finally:
            for (module, name), value in before.items():
                setattr(self._modules[module], name, value)

    def _drawn(self, purpose: str, counter: int | None, n_rows: int) -> Leaves:
        """The leaves of the noise of a pass, each model's by its own seed and, without a counter, its own step."""
        first = self.runs[0].state.composition
        if not first.is_stochastic:  # and so is none of its structure
            return Noise(penalties=(None,) * len(first.penalties)).leaves
        all_leaves = []
        for run in self.runs[:1] if self._draws_alike else self.runs:
            state = run.state
            source = partial(
                generator, state.seed, purpose, state.step if counter is None else counter, device=self.device
            )
            all_leaves.append(draw_noise(state.composition, n_rows, source).leaves)
        leaves = tuple(self._as_wide_as_before(i, leaf) for i, leaf in enumerate(zip(*all_leaves, strict=True)))
        if self._draws_alike:
            return tuple(None if leaf is None else leaf[0] for leaf in leaves)
        return leaves

    def _with_axes(self, x: Tensor, *others: Tensor | None, noise: Leaves) -> Sequence[tuple[Leaves, Axes]]:
        """The tensors of a batch, and of its noise, each with its axis of models if every model has its own."""
        own = 0 if x.dim() > 2 else None
        axes = (own, *(None if tensor is None else own for tensor in others))
        return ((x, *others), axes), (noise, tuple(None if t is None or self._draws_alike else 0 for t in noise))

    def _as_wide_as_before(self, position: int, leaf: Sequence[Tensor | None]) -> Tensor | None:
        """One leaf of all models' noise: the weights keep the width of the widest model when that one has ended."""
        stacked = _stacked(leaf, self._noise_widths.get(position, 0))
        if stacked is not None:
            self._noise_widths[position] = stacked.shape[-1]
        return stacked

    @property
    def _draws_alike(self) -> bool:
        """Whether one draw serves all models."""
        return not self._numbers and not self._is_padded and len({run.state.seed for run in self.runs}) == 1

    # -- rows

    def _endless_order(self) -> Iterator[list[Tensor]]:
        """The numbers of each model's next batch; one tensor for those that see the same rows in the same order."""
        while True:
            made: dict[tuple[int, int], Sequence[Tensor]] = {}
            for run in self.runs:
                run.state.epoch += 1
                key = id(_numbered(run).training), run.state.seed
                if key not in made:
                    shuffle = generator(run.state.seed, "shuffle", run.state.epoch)
                    made[key] = _numbered(run).order(shuffle, run.batch_size)
            for step in range(self.runs[0].n_batches):
                yield [made[id(_numbered(run).training), run.state.seed][step] for run in self.runs]

    def _gathered(self, numbers: Sequence[Tensor]) -> Batch:
        """Each model's rows of some numbers, with a first axis of models unless all have the same batch."""
        first = _numbered(self.runs[0])
        if all(_numbered(run).source is first.source for run in self.runs):
            is_one = all(own is numbers[0] for own in numbers)
            return first.gather(numbers[0] if is_one else torch.stack(list(numbers))).to(self.device)
        # Models of one fold see the same rows: each batch is gathered once.
        keys = [(id(_numbered(run).source), id(own)) for run, own in zip(self.runs, numbers, strict=True)]
        owners = {key: k for k, key in reversed(list(enumerate(keys)))}
        gathered = {key: _numbered(self.runs[k]).gather(numbers[k]).to(self.device) for key, k in owners.items()}
        batches = [gathered[key] for key in keys]
        tensors = zip(*(batch.tensors for batch in batches), strict=True)
        return Batch(*(None if each[0] is None else torch.stack(each) for each in tensors))  # type: ignore[arg-type]

    # -- training

    def step(self, active: Sequence[bool]) -> tuple[Tensor, int]:
        """One step of every active model; returns the mean objective of each batch before it, and the rows of one."""
        self._pass.train()
        numbers = next(self._order)
        batch = self._gathered(numbers)
        rates = [
            run.state.schedule.rate(run.state.step) if is_active else 0.0
            for run, is_active in zip(self.runs, active, strict=True)
        ]
        given = on_device(rates, batch.x.dtype, self.device), on_device(active, torch.bool, self.device)
        losses = self._update(*batch.tensors, *given, *self._drawn("step", None, len(batch)))
        return losses, len(batch)

    def _move(
        self,
        x: Tensor,
        observed: Tensor | None,
        weight: Tensor | None,
        rates: Tensor,
        active: Tensor,
        *noise: Tensor | None,
    ) -> Tensor:
        """Move the weights and states of all active models, in place and without waiting for the device."""
        losses, moved = self._backward(Batch(x, observed, weight), noise)
        self._optimizer.step(rates)
        with torch.no_grad():
            for name, value in moved.items():
                buffer = self._buffers[name]
                buffer.copy_(torch.where(active.view(-1, *[1] * (value.dim() - 1)), value, buffer))
        return losses

    def _backward(self, batch: Batch, noise: Leaves) -> tuple[Tensor, dict[str, Tensor]]:
        """The objectives and next states of all models, their gradients left in the matrix of gradients."""
        with self.execution.autocast():
            losses, moved = self._for_all(
                _Pass.step, *self._with_axes(*batch.tensors, noise=noise), (self._differing, 0)
            )
        # Each objective depends on its own model's weights only, and so does its share of the sum's gradient.
        gradients = torch.autograd.grad(losses.sum(), list(self._weights.values()), materialize_grads=True)
        torch.cat([gradient.flatten(1) for gradient in gradients], dim=1, out=self._gradient)
        if self._mask is not None:
            self._gradient.mul_(self._mask)
        return losses.detach(), moved

    def evaluate(self, is_validation: bool) -> list[float]:
        """The mean objective of each model on its rows for validation."""
        self._pass.eval()
        with torch.inference_mode():
            blocks = list(self._validation_blocks())
            given = [self._with_axes(*block.tensors, noise=noise) for block, noise in blocks]
            if is_validation and self._pass.composition.learns_from_validation:
                seen = joined([self._for_all(_Pass.look, *block) for block in given], dim=1)
                for name, value in self._for_all(_Pass.learn, (seen, 0)).items():
                    self._buffers[name].copy_(value)
            found = [self._for_all(_Pass.evaluate, *block, (self._differing, 0)) for block in given]
        return [
            weighted_mean((rows[k], _of_model(block.weight, k)) for rows, (block, _) in zip(found, blocks, strict=True))
            for k in range(len(self.runs))
        ]

    def _validation_blocks(self) -> Iterator[tuple[Batch, Leaves]]:
        """The models' rows for validation, with their noise."""
        orders: dict[int, Sequence[Tensor]] = {}
        own = []
        for rows in map(_numbered, self.runs):
            key = id(rows.validation_numbers if rows.n_validation else rows.training)
            if key not in orders:
                orders[key] = rows.validation_order(EVALUATION_ROWS)
            own.append(orders[key])
        for counter, numbers in enumerate(zip(*own, strict=True)):
            batch = self._gathered(numbers)
            yield batch, self._drawn("evaluation", counter, len(batch))

    # -- trust

    def _probe(self) -> None:
        """Compare objective and gradient of a few rows with those of each model by itself."""
        self._pass.train()
        numbers = [_numbered(run).training[:PROBE_ROWS].to(run.rows.home) for run in self.runs]
        tolerance = 1e-8 if self._matrix.dtype == torch.float64 else 1e-3
        as_asked, self.runs[0] = self.runs[0], replace(self.runs[0], execution=_exact(self.execution))
        try:
            batch = self._gathered(numbers)
            losses, _ = self._backward(batch, self._drawn("step", None, len(batch)))
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError) as error:
            raise NotBatchable(f"one of their parts cannot be vectorised ({type(error).__name__})") from error
        finally:
            self.runs[0] = as_asked
        for k, run in enumerate(self.runs):
            loss, gradient = _alone(run, numbers[k])
            got = self._gradient[k, self._indices[k]]
            is_near = abs(float(losses[k] - loss)) <= tolerance * (1 + abs(float(loss)))
            if not is_near or not (got - gradient).norm() <= tolerance * (1 + gradient.norm()):
                raise NotBatchable("one pass for all is not the same as one each")


def _numbered(run: TrainingRun) -> NumberedRows:
    """The rows of a run, which can be reached by number."""
    assert isinstance(run.rows, NumberedRows)  # an obstacle otherwise
    return run.rows


def _of_model(weight: Tensor | None, k: int) -> Tensor | None:
    """One model's weights of rows, from those of all or of each."""
    return weight[k] if weight is not None and weight.dim() > 1 else weight


class _Calling(nn.Module):
    """A module whose forward pass is one of another's methods, as ``functional_call`` wants it."""

    def __init__(self, module: nn.Module, method: Any) -> None:
        super().__init__()
        self.module, self._method = module, method

    def forward(self, *inputs: Any) -> Any:
        """Call the method."""
        return self._method(self.module, *inputs)


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in tensors.items()}


def _exact(execution: Execution) -> Execution:
    """The same without a cast to bfloat16, in which two ways to one sum differ visibly."""
    return replace(execution, precision="float32") if execution.precision == "bfloat16" else execution


def _alone(run: TrainingRun, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """A model's mean objective on some rows, and its gradient, by a pass of its own."""
    state = run.state
    state.composition.train()
    batch = run.rows.gather(numbers).to(run.device)  # type: ignore[attr-defined]
    source = partial(generator, state.seed, "step", state.step, device=run.device)
    trace = state.composition(batch, draw_noise(state.composition, len(batch), source))
    loss = run.objective.mean(state.composition, trace, batch.weight)
    state.parameters.differentiate(loss)
    return loss.detach(), state.parameters.gradient


def is_number(module: nn.Module, name: str, value: Any) -> bool:
    """Whether a value is a number that models of one program may differ in: its part declares so, in ``numbers``."""
    is_real = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return is_real and isinstance(module, Part) and name in module.numbers


def _differing(compositions: Sequence[Composition]) -> dict[tuple[str, str], Tensor]:
    """The numbers of the parts that are not the same in all models, by module and attribute, each of shape (K,)."""
    like = next(compositions[0].parameters())
    found = {}
    for modules in zip(*(c.named_modules() for c in compositions), strict=True):
        name, first = modules[0]
        for attribute, value in vars(first).items():
            if attribute not in TORCHS_OWN and is_number(first, attribute, value):
                values = [float(getattr(module, attribute)) for _, module in modules]
                if len(set(values)) > 1:
                    found[name, attribute] = like.new_tensor(values)
    return found


def _differing_fields(runs: Sequence[TrainingRun]) -> dict[str, Tensor]:
    """The fields of the objectives that are not the same in all models, each of shape (K,)."""
    found = {}
    for name in vars(runs[0].objective):
        values = [float(getattr(run.objective, name)) for run in runs]
        if len(set(values)) > 1:
            found[name] = torch.tensor(values, device=runs[0].device)
    return found


def _hull(shapes: Sequence[torch.Size]) -> tuple[int, ...]:
    """The smallest shape that holds all."""
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))


def _indices(composition: Composition, shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
    """The columns of a model's weights in the row of a matrix that holds weights of the given shapes."""
    device = next(composition.parameters()).device
    found, offset = [], 0
    n_blocks = composition.code.width(1)
    for name, shape in shapes.items():
        index = torch.arange(math.prod(shape), device=device).view(shape) + offset
        offset += index.numel()
        own = composition.get_parameter(name).shape
        for axis, (size, full) in enumerate(zip(own, shape, strict=True)):
            # An encoder's output of several numbers a component is laid out in blocks, each with room at its end.
            is_code = name.startswith("encoder") and size == composition.code.width(composition.n_components)
            blocks = n_blocks if is_code and size < full else 1
            kept = torch.arange(full, device=device).view(blocks, -1)[:, : size // blocks].reshape(-1)
            index = index.index_select(axis, kept)
        found.append(index.reshape(-1))
    return torch.cat(found)


def _stacked(leaves: Sequence[Tensor | None], width: int) -> Tensor | None:
    """Noise of all models along a new first axis, at least so wide; what narrower ones lack is zero."""
    drawn = [leaf for leaf in leaves if leaf is not None]
    if not drawn:
        return None
    if len(drawn) < len(leaves):
        raise NotBatchable("some draw noise and others do not")
    *lengths, widest = _hull([leaf.shape for leaf in drawn])
    shape = (*lengths, max(widest, width))
    padding = [
        [p for axis in (-1 - i for i in range(len(shape))) for p in (0, shape[axis] - leaf.shape[axis])]
        for leaf in drawn
    ]
    return torch.stack([nn.functional.pad(leaf, room) for leaf, room in zip(drawn, padding, strict=True)])
