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
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from eigencode.model.composition import Composition, Noise
from eigencode.model.objective import Objective
from eigencode.parts.base import Part
from eigencode.training import loop
from eigencode.training.cuda_graphs import Recorded
from eigencode.training.execution import Execution, threads_for
from eigencode.training.loop import Work
from eigencode.training.optimizers import ClippedAdamOfRows
from eigencode.training.prefetch import on_device
from eigencode.training.rng import generator
from eigencode.training.state import TrainingState

TORCHS_OWN = frozenset(vars(nn.Module()))
"""Attributes of every module."""

PROBE_ROWS = 16
"""Rows on which a program has to agree with its models before it takes their place."""


class NotBatchable(Exception):
    """Models that cannot be one program, and why."""


class _Judged(nn.Module):
    """A composition and what it is judged by, as one module."""

    def __init__(self, composition: Composition, objective: Objective) -> None:
        super().__init__()
        self.composition = composition
        self.objective = objective

    def forward(
        self, x: Tensor, weights: Tensor | None, noise: tuple[Tensor | None, ...], beside: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The batch's mean objective, and every term's state after the step."""
        trace = self.composition(x, Noise.of(*noise))
        rows = replace(self.objective, **beside)(self.composition, trace)
        with torch.no_grad():
            state = {name: value.detach() for name, value in self.composition.next_state(trace).items()}
        return (rows if weights is None else rows * weights).mean(), state

    def look(self, x: Tensor, noise: tuple[Tensor | None, ...], beside: Mapping[str, Any], review: bool) -> Tensor:
        """The objective of each row; where asked for, the terms take notice before it."""
        trace = self.composition(x, Noise.of(*noise))
        if review and self.composition.review(trace):
            trace = self.composition(x, Noise.of(*noise))
        return replace(self.objective, **beside)(self.composition, trace).expand(len(x))


class BatchedTraining:
    """K runs of one structure, trained in lock step.

    Parameters
    ----------
    states : sequence of TrainingState
        At their beginning, with `structure` the same.
    works : sequence of Work
        What each trains on.

    Raises
    ------
    Unlike
        If one pass for all does not give each model what a pass of its own does.
    """

    def __init__(self, states: Sequence[TrainingState], works: Sequence[Work]) -> None:
        self.states, self.works = list(states), list(works)
        compositions = [state.composition for state in states]
        self._numbers, self._beside = _differing(compositions), _differing_fields(works)
        self._judged = _Judged(copy.deepcopy(compositions[0]), works[0].objective)
        self._modules = dict(self._judged.composition.named_modules())
        named = [dict(c.named_parameters()) for c in compositions]
        trained = [name for name, p in named[0].items() if p.requires_grad]
        shapes = {name: _hull([n[name].shape for n in named]) for name in trained}
        self._places = [_places(c, shapes) for c in compositions]
        like = states[0].parameters.vector
        size = sum(math.prod(shape) for shape in shapes.values())
        matrix = like.new_zeros(len(states), size)
        for row, state, places in zip(matrix, states, self._places, strict=True):
            row[places] = state.parameters.vector.detach()
        self._is_padded = any(len(places) < size for places in self._places)
        self._noise_widths: dict[int, int] = {}
        self._shapes = shapes
        frozen = [name for name in named[0] if name not in shapes]
        self._fixed = {name: torch.stack([n[name].detach() for n in named]) for name in frozen}
        self._buffers = {
            name: torch.stack([c.get_buffer(name) for c in compositions]) for name, _ in compositions[0].named_buffers()
        }
        self._adopt(matrix)
        self._aside, self._shows_average = matrix.clone(), False
        self._optimizer = ClippedAdamOfRows(self._matrix, self._gradient, list(map(len, self._places)))
        self._probe()

    # -- the weights

    def _adopt(self, matrix: Tensor) -> None:
        """Let views of the matrix be the models' weights."""
        self._matrix, self._gradient = matrix, torch.zeros_like(matrix)
        self._weights, offset = {}, 0
        for name, shape in self._shapes.items():
            place, offset = slice(offset, offset + math.prod(shape)), offset + math.prod(shape)
            self._weights[name] = matrix[:, place].unflatten(1, shape).detach().requires_grad_()
        self._mask = None
        if self._is_padded:
            self._mask = torch.zeros_like(matrix)
            for row, places in zip(self._mask, self._places, strict=True):
                row[places] = 1.0
        is_on_gpu = matrix.device.type == "cuda"
        self._update = Recorded(self._update_all) if is_on_gpu else self._update_all

    def _keep(self, chosen: Sequence[int]) -> None:
        """Go on with some of the models only."""
        index = torch.tensor(chosen, device=self._matrix.device)
        self.states, self.works = [self.states[k] for k in chosen], [self.works[k] for k in chosen]
        self._places = [self._places[k] for k in chosen]
        for tensors in (self._buffers, self._fixed, self._beside, self._numbers):
            for name, value in tensors.items():
                tensors[name] = value.index_select(0, index)  # type: ignore[index]
        self._adopt(self._matrix.index_select(0, index))
        self._aside = self._aside.index_select(0, index)
        self._optimizer = self._optimizer.of(index, self._matrix, self._gradient)

    @torch.no_grad()
    def _write_back(self) -> None:
        """Give every model its own weights and state."""
        for k, (state, places) in enumerate(zip(self.states, self._places, strict=True)):
            state.parameters.vector.copy_(self._matrix[k, places])
            for name, value in self._buffers.items():
                state.composition.get_buffer(name).copy_(value[k])

    @torch.no_grad()
    def _take_average(self) -> None:
        """Take every model's present weights into its average."""
        shares = [state.advance_average() for state in self.states]
        self._aside.lerp_(self._matrix, on_device(shares, self._matrix.dtype, self._matrix.device)[:, None])

    @torch.no_grad()
    def _exchange(self) -> None:
        """Let the models have the averages, or again the weights that steps are made with."""
        shown = self._matrix.clone()
        self._matrix.copy_(self._aside)
        self._aside = shown
        self._shows_average = not self._shows_average

    @torch.no_grad()
    def _take_back(self, changed: Sequence[int]) -> None:
        """Take the weights and states of models that went back to earlier ones."""
        for k in changed:
            state = self.states[k]
            for matrix in (self._matrix, self._aside):
                matrix[k, self._places[k]] = state.parameters.vector
            for name, value in self._buffers.items():
                value[k] = state.composition.get_buffer(name)

    # -- one pass for all

    def _arguments(self) -> dict[str, Tensor]:
        tensors = {**self._weights, **self._fixed, **self._buffers}
        return {f"composition.{name}": value for name, value in tensors.items()}

    def _for_all(self, method: Any, *inputs: Any) -> Any:
        """Apply a method of a judged model to all of them; only inputs with an axis of models are given one each."""

        def of_one(tensors: Any, numbers: Any, *given: Any) -> Any:
            with self._numbers_in_place(numbers):
                return functional_call(_Calling(self._judged, method), _prefixed(tensors), given)

        values, axes = zip(*inputs, strict=True)
        return vmap(of_one, in_dims=(0, 0, *axes))(self._arguments(), self._numbers, *values)

    @contextmanager
    def _numbers_in_place(self, numbers: Mapping[tuple[str, str], Tensor]) -> Iterator[None]:
        """Let one model's numbers be those of the parts."""
        before = {place: getattr(self._modules[place[0]], place[1]) for place in numbers}
        try:
            for (module, name), value in numbers.items():
                setattr(self._modules[module], name, value)
            yield
        finally:
            for (module, name), value in before.items():
                setattr(self._modules[module], name, value)

    def _drawn(self, purpose: str, place: int | None, n_rows: int) -> tuple[Tensor | None, ...]:
        """The leaves of the noise of a pass, each model's by its own seed."""
        first = self.states[0].composition
        if not first.is_stochastic:  # and so is none of its structure
            return Noise(penalties=(None,) * len(first.penalties)).leaves
        all_leaves = []
        for state in self.states[:1] if self._draws_alike else self.states:
            counter = state.step if place is None else place
            source = partial(generator, state.seed, purpose, counter, device=self._matrix.device)
            all_leaves.append(loop.draw_noise(state.composition, n_rows, source).leaves)
        leaves = tuple(self._as_wide_as_before(place, leaf) for place, leaf in enumerate(zip(*all_leaves, strict=True)))
        if self._draws_alike:
            return tuple(None if leaf is None else leaf[0] for leaf in leaves)
        return leaves

    def _noise_of_models(self, leaves: tuple[Tensor | None, ...]) -> tuple[Any, Any]:
        """The leaves of a pass's noise, and the axis of models in each."""
        return leaves, tuple(None if leaf is None or self._draws_alike else 0 for leaf in leaves)

    def _as_wide_as_before(self, place: int, leaf: Sequence[Tensor | None]) -> Tensor | None:
        """One leaf of all models' noise: the weights keep the width of the widest model when that one has ended."""
        stacked = _stacked(leaf, self._noise_widths.get(place, 0))
        if stacked is not None:
            self._noise_widths[place] = stacked.shape[-1]
        return stacked

    @property
    def _draws_alike(self) -> bool:
        """Whether one draw serves all models."""
        return not self._numbers and not self._is_padded and len({state.seed for state in self.states}) == 1

    def _rows(self, places: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Rows and their weights at each model's places, with a first axis of models unless they are the same."""
        alike = all(work.rows is self.works[0].rows for work in self.works)
        one_weight = all(work.weights is self.works[0].weights for work in self.works)
        if alike and one_weight and all(place is places[0] for place in places):
            work = self.works[0]
            return work.rows_of(places[0]), work.weights_of(places[0])
        if alike:
            flat = torch.cat(list(places))
            x = self.works[0].rows_of(flat).unflatten(0, (len(places), -1))
        else:
            # Models of one fold see the same rows: each batch is gathered once.
            keys = [(id(work.rows), id(place)) for work, place in zip(self.works, places, strict=True)]
            first = {key: k for k, key in reversed(list(enumerate(keys)))}
            gathered = {key: self.works[k].rows_of(places[k]) for key, k in first.items()}
            x = torch.stack([gathered[key] for key in keys])
        weights = [work.weights_of(place) for work, place in zip(self.works, places, strict=True)]
        return x, _stacked(weights, 0)

    # -- training

    def epochs(self) -> Iterator[list[tuple[TrainingState, dict[str, float]]]]:
        """Train until every schedule has ended, yielding the row of history of each model that made an epoch.

        An interruption is as in `loop.epochs`.
        """
        self.works = [replace(work, clock=work.clock.restarted()) for work in self.works]
        while True:
            chosen = [k for k, state in enumerate(self.states) if not state.finished]
            if not chosen:
                return
            if len(chosen) < len(self.states):
                self._keep(chosen)
            try:
                with self.execution.threads():
                    rows = self._one_epoch()
            except KeyboardInterrupt:
                with suppress(KeyboardInterrupt), self.execution.threads():
                    self._judge_what_was_learned()
                raise
            yield list(zip(self.states, rows, strict=True))

    @property
    def execution(self) -> Execution:
        """Where and how all models run: their steps are one, and so is the work that asks for threads."""
        return replace(self.works[0].execution, n_threads=threads_for(sum(work.step_work for work in self.works)))

    def _one_epoch(self) -> list[dict[str, float]]:
        self._pass_over()
        rows = self._record()
        self._exchange()
        return rows

    def _pass_over(self) -> None:
        """Train every model on its rows once, and let the averages be shown."""
        self._judged.train()
        self._totals = torch.zeros(len(self.states), dtype=torch.float64, device=self._matrix.device)
        self._n_seen = [0] * len(self.states)
        for state in self.states:
            state.epoch += 1
            state.composition.train()
        for places in zip(*self._batches(), strict=True):
            active = [not state.finished for state in self.states]
            if not any(active):
                break
            losses = self._step(places, active)
            self._totals += torch.where(on_device(active, torch.bool, losses.device), losses, 0.0) * len(places[0])
            for k, state in enumerate(self.states):
                if active[k]:
                    state.step += 1
                    self._n_seen[k] += len(places[0])
                    loop.obey(state, self.works[k].clock)
            if any(s.is_average_due for s, is_active in zip(self.states, active, strict=True) if is_active):
                self._take_average()
        self._take_average()
        self._exchange()

    def _record(self) -> list[dict[str, float]]:
        """Judge the averages, and keep the best of each model; models that went back to earlier weights go on there."""
        objectives = self._judge(review=True)
        self._write_back()
        before = [state.n_retreats for state in self.states]
        met = [total / max(n, 1) for total, n in zip(self._totals.tolist(), self._n_seen, strict=True)]
        rows = [
            state.history[-1] if state.is_recorded else loop.record(state, work, objective, mean)
            for state, work, objective, mean in zip(self.states, self.works, objectives, met, strict=True)
        ]
        self._take_back([k for k, state in enumerate(self.states) if state.n_retreats > before[k]])
        return rows

    def _judge_what_was_learned(self) -> None:
        """Judge the averages of an epoch that was interrupted, unless there is nothing new."""
        if all(state.is_recorded for state in self.states):
            return
        if not self._shows_average:
            self._take_average()
            self._exchange()
        self._record()

    def _batches(self) -> list[Sequence[Tensor]]:
        """Each model's batches; one list for those that see the same rows in the same order."""
        made: dict[tuple[int, int], Sequence[Tensor]] = {}
        found = []
        for state, work in zip(self.states, self.works, strict=True):
            key = (id(work.training), state.seed)
            if key not in made:
                made[key] = work.batches(state.seed, state.epoch)
            found.append(made[key])
        return found

    def _step(self, places: Sequence[Tensor], active: list[bool]) -> Tensor:
        """One step of every active model; returns the mean objective of each batch before it."""
        x, weights = self._rows(places)
        rates = [
            s.schedule.rate(s.step) if is_active else 0.0 for s, is_active in zip(self.states, active, strict=True)
        ]
        given = on_device(rates, x.dtype, x.device), on_device(active, torch.bool, x.device)
        return self._update(x, weights, *given, *self._drawn("step", None, x.shape[-2]))

    def _update_all(
        self, x: Tensor, weights: Tensor | None, rates: Tensor, active: Tensor, *noise: Tensor | None
    ) -> Tensor:
        """Move the weights and states of all active models, in place and without waiting for the device."""
        losses, moved = self._backward(x, weights, noise)
        self._optimizer.step(rates)
        with torch.no_grad():
            for name, value in moved.items():
                buffer = self._buffers[name]
                buffer.copy_(torch.where(active.view(-1, *[1] * (value.dim() - 1)), value, buffer))
        return losses

    def _backward(
        self, x: Tensor, weights: Tensor | None, noise: tuple[Tensor | None, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objectives and next states of all models, their gradients left in the matrix of gradients."""
        each = None if weights is None or weights.dim() == 1 else 0
        with self.execution.autocast():
            losses, moved = self._for_all(
                _Judged.forward, _rows_of_models(x), (weights, each), self._noise_of_models(noise), (self._beside, 0)
            )
        # Each objective depends on its own model's weights only, and so does its share of the sum's gradient.
        gradients = torch.autograd.grad(losses.sum(), list(self._weights.values()), materialize_grads=True)
        torch.cat([gradient.flatten(1) for gradient in gradients], dim=1, out=self._gradient)
        if self._mask is not None:
            self._gradient.mul_(self._mask)
        return losses.detach(), moved

    def _judge(self, review: bool) -> list[float]:
        """The mean objective of each model on the rows that judge it."""
        self._judged.eval()
        judges: dict[int, Tensor] = {}
        own = [judges.setdefault(id(w.held_out if len(w.held_out) else w.training), w.judges) for w in self.works]
        found = []
        with torch.inference_mode():
            for place, parts in enumerate(zip(*(loop.blocks_of(rows) for rows in own), strict=True)):
                x, _ = self._rows(_one_each(parts, own))
                noise = self._noise_of_models(self._drawn("evaluation", place, x.shape[-2]))
                found.append(self._for_all(_Judged.look, _rows_of_models(x), noise, (self._beside, 0), (review, None)))
        objectives = torch.cat(found, dim=1)
        return [
            loop.weighted_mean(row, work.weights, rows)
            for row, work, rows in zip(objectives, self.works, own, strict=True)
        ]

    # -- trust

    def _probe(self) -> None:
        """Compare objective and gradient of a few rows with those of each model by itself."""
        self._judged.train()
        places = [work.training[:PROBE_ROWS].to(work.rows.device) for work in self.works]
        tolerance = 1e-8 if self._matrix.dtype == torch.float64 else 1e-3
        execution, self.works[0] = self.works[0].execution, replace(self.works[0], execution=_exact(self.execution))
        try:
            x, weights = self._rows(places)
            losses, _ = self._backward(x, weights, self._drawn("step", None, x.shape[-2]))
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError) as error:
            raise NotBatchable(f"one of their parts cannot be vectorised ({type(error).__name__})") from error
        finally:
            self.works[0] = replace(self.works[0], execution=execution)
        for k, (state, work) in enumerate(zip(self.states, self.works, strict=True)):
            loss, gradient = _alone(state, work, places[k])
            got = self._gradient[k, self._places[k]]
            is_near = abs(float(losses[k] - loss)) <= tolerance * (1 + abs(float(loss)))
            if not is_near or not (got - gradient).norm() <= tolerance * (1 + gradient.norm()):
                raise NotBatchable("one pass for all is not the same as one each")


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


def _alone(state: TrainingState, work: Work, places: Tensor) -> tuple[Tensor, Tensor]:
    """A model's objective on some rows, and its gradient, by a pass of its own."""
    state.composition.train()
    x = work.rows_of(places)
    noise = loop.draw_noise(
        state.composition, len(x), lambda: generator(state.seed, "step", state.step, device=x.device)
    )
    trace = state.composition(x, noise)
    loss = loop.mean_of_rows(work.objective(state.composition, trace), work.weights_of(places))
    state.parameters.differentiate(loss)
    return loss.detach(), state.parameters.gradient


def _rows_of_models(x: Tensor) -> tuple[Tensor, int | None]:
    """Rows, and the axis of models in them if each model has its own."""
    return x, None if x.dim() == 2 else 0


def _one_each(parts: Sequence[Tensor], own: Sequence[Tensor]) -> list[Tensor]:
    """The same object for models that share their rows, so that they are gathered once."""
    first: dict[int, Tensor] = {}
    return [first.setdefault(id(rows), part) for rows, part in zip(own, parts, strict=True)]


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


def _differing_fields(works: Sequence[Work]) -> dict[str, Tensor]:
    """The fields of the objectives that are not the same in all models, each of shape (K,)."""
    found = {}
    for name in vars(works[0].objective):
        values = [float(getattr(work.objective, name)) for work in works]
        if len(set(values)) > 1:
            found[name] = torch.tensor(values, device=works[0].device)
    return found


def _hull(shapes: Sequence[torch.Size]) -> tuple[int, ...]:
    """The smallest shape that holds all."""
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))


def _places(composition: Composition, shapes: Mapping[str, tuple[int, ...]]) -> Tensor:
    """Where a model's weights lie in the row of a matrix that holds weights of the given shapes."""
    device = next(composition.parameters()).device
    found, offset = [], 0
    n_blocks = composition.code.width(1)
    for name, shape in shapes.items():
        places = torch.arange(math.prod(shape), device=device).view(shape) + offset
        offset += places.numel()
        own = composition.get_parameter(name).shape
        for axis, (size, full) in enumerate(zip(own, shape, strict=True)):
            # An encoder's output of several numbers a component is laid out in blocks, each with room at its end.
            is_code = name.startswith("encoder") and size == composition.code.width(composition.n_components)
            blocks = n_blocks if is_code and size < full else 1
            kept = torch.arange(full, device=device).view(blocks, -1)[:, : size // blocks].reshape(-1)
            places = places.index_select(axis, kept)
        found.append(places.reshape(-1))
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
