"""One vectorised pass for several models of the same structure (``torch.func.vmap``)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from eigencode.batch import Batch
from eigencode.model.composition import Composition, Noise
from eigencode.model.objective import Objective
from eigencode.training.evaluation import row_terms
from eigencode.training.products import BiasApart, FastProducts

Leaves = tuple[Tensor | None, ...]
"""The tensors of a batch, or of its noise, as arguments of vectorised functions."""

Axes = tuple[int | None, ...]
"""The axis of models of each of these, None if all models share it."""


class Pass(nn.Module):
    """The passes over a composition and its objective, as one module.

    Parameters
    ----------
    composition : Composition
        The structure of all models; it is copied.
    objective : Objective
        The sum of terms that is minimised.
    """

    def __init__(self, composition: Composition, objective: Objective) -> None:
        super().__init__()
        self.composition = copy.deepcopy(composition)
        self.objective = objective
        self._by_name = dict(self.composition.named_modules())

    def for_all(
        self,
        method: Callable[..., Any],
        tensors: Mapping[str, Tensor],
        numbers: Mapping[tuple[str, str], Tensor],
        *inputs: tuple[Any, Any],
    ) -> Any:
        """Apply a method of this class to all models.

        ``tensors`` are the composition's parameters and buffers by name, with a first axis of models; ``numbers`` those
        of the parts that differ, by module and attribute, each of shape (K,); ``inputs`` the arguments, each with its
        axes of models, None if all models share it.
        """
        named = {f"module.composition.{name}": value for name, value in tensors.items()}

        def of_one(own: Any, own_numbers: Any, *given: Any) -> Any:
            with self._in_use(own_numbers):
                return functional_call(_Calling(self, method), own, given)

        values, axes = zip(*inputs, strict=True)
        return vmap(of_one, in_dims=(0, 0, *axes))(named, numbers, *values)

    def differentiate(
        self, weights: Sequence[Tensor], autocast: AbstractContextManager[Any], *given: Any
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
        """The objectives of all models, their terms' states after a step, and the gradients of the weights.

        ``given`` are the arguments of `for_all` behind the method.
        """
        is_on_cpu = weights[0].device.type == "cpu"
        with FastProducts() if is_on_cpu else nullcontext():
            with autocast, BiasApart() if is_on_cpu else nullcontext():
                losses, moved = self.for_all(Pass.step, *given)
            # Each objective depends only on the weights of its model, so the gradient of the sum has all gradients.
            gradients = torch.autograd.grad(losses.sum(), weights, materialize_grads=True)
        return losses, moved, gradients

    def terms_of_all(self, tensors: Mapping[str, Tensor], *given: Any) -> dict[str, Tensor]:
        """The objectives of rows of all models and their terms, each of shape (K, n)."""
        is_on_cpu = next(iter(tensors.values())).device.type == "cpu"
        with BiasApart() if is_on_cpu else nullcontext():
            found: dict[str, Tensor] = self.for_all(Pass.evaluate, tensors, *given)
        return found

    @contextmanager
    def _in_use(self, numbers: Mapping[tuple[str, str], Tensor]) -> Iterator[None]:
        """Set the numbers of the parts to those of one model."""
        before = {key: getattr(self._by_name[key[0]], key[1]) for key in numbers}
        try:
            for (module, name), value in numbers.items():
                setattr(self._by_name[module], name, value)
            yield
        finally:
            for (module, name), value in before.items():
                setattr(self._by_name[module], name, value)

    # -- passes of one model

    def step(self, batch: Leaves, noise: Leaves, differing: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean objective of the batch, and the terms' states after the step."""
        given = Batch(*batch)  # type: ignore[arg-type]
        trace = self.composition(given, Noise.of(*noise))
        with torch.no_grad():
            state = self.composition.next_state(self.composition.statistics(trace), len(given))
        objective = replace(self.objective, **differing)
        return objective.mean(self.composition, trace, given.weight), {name: t.detach() for name, t in state.items()}

    def validation_statistics(self, batch: Leaves, noise: Leaves) -> dict[str, Tensor]:
        """The terms' statistics of validation rows."""
        return self.composition.validation_statistics(self.composition(Batch(*batch), Noise.of(*noise)))  # type: ignore[arg-type]

    def validation_state(self, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The terms' states from the statistics of all validation rows."""
        return self.composition.validation_state(statistics)

    def evaluate(self, batch: Leaves, noise: Leaves, differing: Mapping[str, Any]) -> dict[str, Tensor]:
        """The objective of each row, and its terms."""
        objective = replace(self.objective, **differing)
        return row_terms(self.composition, objective, Batch(*batch), Noise.of(*noise))  # type: ignore[arg-type]


class _Calling(nn.Module):
    """A module whose forward pass is a method of another one, for ``functional_call``."""

    def __init__(self, module: nn.Module, method: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self._method = module, method

    def forward(self, *inputs: Any) -> Any:
        """Call the method."""
        return self._method(self.module, *inputs)


def with_axes(x: Tensor, *others: Tensor | None) -> tuple[Leaves, Axes]:
    """The tensors of a batch, and their axes of models if each model has its own batch."""
    own = 0 if x.dim() > 2 else None
    return (x, *others), (own, *(None if tensor is None else own for tensor in others))
