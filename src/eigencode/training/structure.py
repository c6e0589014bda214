"""What models of one program must have in common, and in which numbers they may differ, as their parts declare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigencode.model.composition import Composition
from eigencode.parts.base import Part
from eigencode.training.run import TrainingRun

TORCHS_OWN = frozenset(vars(nn.Module()))
"""Attributes of all modules."""


def structure(run: TrainingRun) -> tuple[Any, ...]:
    """What models of one program must have in common, as a hashable value."""
    composition, rows = run.state.composition, run.rows
    parameters = tuple((name, p.dim(), p.requires_grad) for name, p in composition.named_parameters())
    buffers = tuple((name, tuple(b.shape)) for name, b in composition.named_buffers())
    device = run.execution.device, run.execution.precision
    sizes = run.batch_size, rows.n_training, rows.n_validation, rows.n_features
    kinds = [tensor is None for tensor in rows.sample(1).tensors]
    return described(composition), parameters, buffers, device, sizes, type(run.objective), *kinds, run.state.step


def described(composition: Composition) -> tuple[Any, ...]:
    """The modules of a composition with their attributes, but for what may differ, as a hashable value."""
    has_idle = all(term.ignores_idle_components for term in composition.terms)
    return tuple(
        (name, type(module), tuple(sorted(_described(module, has_idle))))
        for name, module in composition.named_modules()
    )


def in_full(run: TrainingRun) -> tuple[Any, ...]:
    """The shapes and all numbers of a run, as a hashable value."""
    composition = run.state.composition
    shapes = tuple(tuple(p.shape) for p in composition.parameters())
    numbers = tuple(
        (name, attribute, float(value))
        for name, module in composition.named_modules()
        for attribute, value in vars(module).items()
        if is_number(module, attribute, value)
    )
    return shapes, numbers, tuple(vars(run.objective).values())


def is_number(module: nn.Module, name: str, value: Any) -> bool:
    """Whether models of one program may differ in a value: a number that its part declares in ``numbers``."""
    is_real = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return is_real and isinstance(module, Part) and name in module.numbers


def differing(compositions: Sequence[Composition]) -> dict[tuple[str, str], Tensor]:
    """The numbers of the parts that are not the same in all models, by module and attribute, each of shape (K,)."""
    like = next(compositions[0].parameters())
    found = {}
    for modules in zip(*(c.named_modules() for c in compositions), strict=True):
        name, first = modules[0]
        for attribute, value in vars(first).items():
            if is_number(first, attribute, value):
                values = [float(getattr(module, attribute)) for _, module in modules]
                if len(set(values)) > 1:
                    found[name, attribute] = like.new_tensor(values)
    return found


def differing_fields(runs: Sequence[TrainingRun]) -> dict[str, Tensor]:
    """The fields of the objectives that are not the same in all models, each of shape (K,)."""
    found = {}
    for name in vars(runs[0].objective):
        values = [float(getattr(run.objective, name)) for run in runs]
        if len(set(values)) > 1:
            found[name] = torch.tensor(values, device=runs[0].device)
    return found


def _described(module: nn.Module, has_idle: bool) -> Iterator[tuple[str, str]]:
    """Names and descriptions of a module's attributes; without the values in which models may differ."""
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
    """A value with all numbers in it as floats, so that 1 equals 1.0; bools are kept."""
    if isinstance(value, Real) and not isinstance(value, bool | np.bool_):
        return float(value)
    if isinstance(value, np.ndarray | Tensor):
        return type(value).__name__, str(value.dtype), value.tolist()
    if isinstance(value, list | tuple):
        return type(value).__name__, [_plain(item) for item in value]
    return value
