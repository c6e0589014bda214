r"""The runner of several models that are trained in one batch (one program).

Models of the same structure may differ in their weights, seeds, rows, step sizes, widths, and in the numbers of their
terms: a noise level, the weight of a penalty, beta. Their weights are the rows of one matrix. One vectorised pass
computes the objectives of all models, one backward pass their gradients, and one step of the optimiser clips and scales
each gradient separately. A step of thirty small models takes the time of a few steps of one, since most of that is the
dispatch of operations and not arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.training.batched_inputs import BatchedInputs
from eigencode.training.cpu_graphs import recorded
from eigencode.training.evaluation import EVALUATION_ROWS, joined
from eigencode.training.execution import Execution, threads_for
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.padding import Layout, NotBatchable
from eigencode.training.prefetch import on_device
from eigencode.training.run import TrainingRun
from eigencode.training.runner import Runner, SingleRunner
from eigencode.training.structure import described, differing, differing_fields, in_full
from eigencode.training.vectorized import Leaves, Pass, with_axes

Block = tuple[Any, Any]
"""Tensors of a batch and of its noise, both with their axes of models."""


class BatchedRunner(Runner):
    """Trains the models of K runs of the same structure in one batch.

    Parameters
    ----------
    runs : sequence of TrainingRun
        Runs that have not started, with the same `structure`.

    Raises
    ------
    NotBatchable
        If the vectorised pass does not give the same results as a separate pass of each model.
    """

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        super().__init__([replace(run, clock=run.clock.restarted()) for run in runs])
        compositions = [run.state.composition for run in runs]
        self._pass = Pass(compositions[0], runs[0].objective)
        self._numbers, self._differing = differing(compositions), differing_fields(runs)
        self._layout = Layout.of(compositions)
        self.rows: BatchedInputs = BatchedInputs(self.runs, are_alike=not self._numbers and not self._layout.is_padded)
        named = [dict(c.named_parameters()) for c in compositions]
        frozen = [name for name in named[0] if name not in self._layout.shapes]
        self._fixed = {name: torch.stack([n[name].detach() for n in named]) for name in frozen}
        self._buffers = {
            name: torch.stack([c.get_buffer(name) for c in compositions]) for name, _ in compositions[0].named_buffers()
        }
        self._adopt(self._layout.filled([run.state.parameters.vector for run in runs]))
        self._aside, self._has_average = self._matrix.clone(), False
        self._active: list[bool] = []
        self._terms: list[str] = []
        n_weights = list(map(len, self._layout.columns))
        self._optimizer = ClippedAdam(
            self._matrix, self._gradient, n_weights, self._of_each("factors", 1.0), self._of_each("decay", 0.0)
        )
        self._probe()

    @property
    def execution(self) -> Execution:
        """Device, precision and threads of all models; the threads are chosen for the work of all of them."""
        return replace(self.runs[0].execution, n_threads=threads_for(sum(run.step_work for run in self.runs)))

    # -- the weights

    def _of_each(self, name: str, default: float) -> Tensor | None:
        """A number of the optimiser for each weight of each model; None if no model has any."""
        given = [getattr(run.state.optimizer, name) for run in self.runs]
        if all(own is None for own in given):
            return None
        others = [self._matrix.new_full((len(columns),), default) for columns in self._layout.columns]
        found = self._layout.filled([other if own is None else own for own, other in zip(given, others, strict=True)])
        return self._layout.continued(found)

    def _adopt(self, matrix: Tensor) -> None:
        """Use views of the matrix as the models' weights."""
        self._matrix, self._gradient = matrix, torch.zeros_like(matrix)
        self._weights, self._mask = self._layout.views(matrix), self._layout.mask(matrix)
        work = sum(run.step_work for run in self.runs)
        n_rows = min(max(run.rows.n_validation for run in self.runs), EVALUATION_ROWS)
        of_rows = work * n_rows / self.runs[0].batch_size
        is_foreign, n_models = self.runs[0].state.may_draw_globally, len(self.runs)
        self._update = recorded(self._move, self.device, work, is_foreign, n_models)
        self._evaluation = recorded(self._terms_of_rows, self.device, of_rows, is_foreign, n_models)

    def keep_unfinished(self) -> bool:
        self.rows.rates.clear()  # schedules change at evaluations
        chosen = [k for k, run in enumerate(self.runs) if not run.state.finished]
        if chosen and len(chosen) < len(self.runs):
            self._keep(chosen)
        return bool(chosen)

    def _keep(self, chosen: Sequence[int]) -> None:
        """Keep only some of the models."""
        index = torch.tensor(chosen, device=self._matrix.device)
        self.runs = self.rows.runs = [self.runs[k] for k in chosen]
        self._layout = self._layout.of_models(chosen)
        for tensors in (self._buffers, self._fixed, self._differing, self._numbers):
            for name, value in tensors.items():
                tensors[name] = value.index_select(0, index)  # type: ignore[index]
        self._adopt(self._matrix.index_select(0, index))
        self._aside = self._aside.index_select(0, index)
        self._optimizer = self._optimizer.of_models(index, self._matrix, self._gradient)

    @torch.no_grad()
    def write_back(self) -> None:
        states, rows = [run.state for run in self.runs], self._matrix.unbind()
        if self._layout.is_padded:
            rows = tuple(row[own] for row, own in zip(rows, self._layout.columns, strict=True))
        copy_each([state.parameters.vector for state in states], rows)
        copy_each([state.optimizer.n_steps for state in states], self._optimizer.n_steps.unbind())  # type: ignore[attr-defined]
        owned = [state.buffers for state in states]
        for name, value in self._buffers.items():
            copy_each([own[name] for own in owned], value.unbind())

    @torch.no_grad()
    def reload(self, changed: Sequence[int]) -> None:
        for k in changed:
            state = self.runs[k].state
            for matrix in (self._matrix, self._aside):
                matrix[k, self._layout.columns[k]] = state.parameters.vector
            for name, value in self._buffers.items():
                value[k] = state.composition.get_buffer(name)

    @torch.no_grad()
    def take_average(self) -> None:
        shares = [run.state.advance_average() for run in self.runs]
        self._aside.lerp_(self._matrix, on_device(shares, self._matrix.dtype, self.device)[:, None])

    def decay_weights(self) -> None:
        if self._optimizer.decay is not None:
            steps = [run.state.recent_rates for run in self.runs]
            self._optimizer.shrink(on_device(steps, self._matrix.dtype, self.device))

    @torch.no_grad()
    def show(self, average: bool) -> None:
        """Set the matrix to the averages, or to the weights of the last step."""
        if average != self._has_average:
            shown = self._matrix.clone()
            self._matrix.copy_(self._aside)
            self._aside = shown
            self._has_average = average

    # -- training

    def step(self, batch: Batch, active: Sequence[bool]) -> Tensor:
        if not self._pass.training:
            self._pass.train()
        if active != self._active:
            self._active, self._are_active = list(active), on_device(active, torch.bool, self.device)
        return self._update(
            *batch.tensors, self.rows.next_rates(), self._are_active, *self.rows.draw("step", None, len(batch))
        )

    def _move(
        self,
        x: Tensor,
        observed: Tensor | None,
        weight: Tensor | None,
        rates: Tensor,
        active: Tensor,
        *noise: Tensor | None,
    ) -> Tensor:
        """Update the weights and states of all active models in place, without synchronising with the device."""
        losses, moved = self._backward(Batch(x, observed, weight), noise, self.execution)
        self._optimizer.step(rates)
        with torch.no_grad():
            for name, value in moved.items():
                buffer = self._buffers[name]
                buffer.copy_(torch.where(active.view(-1, *[1] * (value.dim() - 1)), value, buffer))
        return losses

    def _backward(self, batch: Batch, noise: Leaves, execution: Execution) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the gradients of all models (into the gradient matrix); return their objectives and next states."""
        inputs = with_axes(*batch.tensors), self.rows.with_axes(noise), (self._differing, 0)
        given = self._tensors, self._numbers, *inputs
        losses, moved, gradients = self._pass.differentiate(list(self._weights.values()), execution.autocast(), *given)
        torch.cat([gradient.flatten(1) for gradient in gradients], dim=1, out=self._gradient)
        if self._mask is not None:
            self._gradient.mul_(self._mask)
        return losses.detach(), moved

    @property
    def _tensors(self) -> dict[str, Tensor]:
        """All parameters and buffers by name."""
        return {**self._weights, **self._fixed, **self._buffers}

    @torch.inference_mode()
    def learn_from_validation(self) -> None:
        if not self._pass.composition.learns_from_validation:
            return
        self._pass.eval()
        found = [
            self._pass.for_all(Pass.validation_statistics, self._tensors, self._numbers, *given)
            for given in self._validation_blocks()
        ]
        seen = joined(found, dim=1), 0
        for name, value in self._pass.for_all(Pass.validation_state, self._tensors, self._numbers, seen).items():
            self._buffers[name].copy_(value)

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        self._pass.eval()
        found = [
            (self._evaluation(*batch.tensors, *self.rows.draw("evaluation", counter, len(batch))), batch.weight)
            for counter, batch in enumerate(self.rows.validation())
        ]
        blocks, weights = zip(*found, strict=True)
        values = torch.cat(blocks, dim=-1).double()
        if weights[0] is None:
            means = values.mean(-1)
        else:
            weight = torch.cat(weights, dim=-1).to(values)
            means = (values * weight).sum(-1) / weight.sum(-1)
        return [dict(zip(self._terms, own, strict=True)) for own in means.T.tolist()]

    def _terms_of_rows(
        self, x: Tensor, observed: Tensor | None, weight: Tensor | None, *noise: Tensor | None
    ) -> Tensor:
        """The terms of the objective of each row of each model, by the names in ``_terms``, shape (terms, K, n)."""
        given = with_axes(x, observed, weight), self.rows.with_axes(noise), (self._differing, 0)
        found = self._pass.terms_of_all(self._tensors, self._numbers, *given)
        self._terms = list(found)
        return torch.stack(list(found.values()))

    def _validation_blocks(self) -> Iterator[Block]:
        """The models' validation rows and their noise, both with their axes of models."""
        for counter, batch in enumerate(self.rows.validation()):
            noise = self.rows.draw("evaluation", counter, len(batch))
            yield with_axes(*batch.tensors), self.rows.with_axes(noise)

    # -- the check

    def _probe(self) -> None:
        """Compare objectives and gradients for a few rows with those of each model separately."""
        self._pass.train()
        execution = _exact(self.execution)
        tolerance = 1e-8 if self._matrix.dtype == torch.float64 else 1e-3
        batch, own_batches = self.rows.probe()
        before = described(self._pass.composition)
        try:
            losses, _ = self._backward(batch, self.rows.draw("step", None, len(batch)), execution)
        except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError) as error:
            raise NotBatchable(f"one of their parts cannot be vectorised ({type(error).__name__})") from error
        if described(self._pass.composition) != before:
            raise NotBatchable("one of their parts changes its own attributes, once for all models")
        # Models of the same widths and numbers differ in weights and rows only: one of them is enough.
        chosen = {in_full(run): k for k, run in enumerate(self.runs)}.values()
        for k, run, own in [(k, self.runs[k], own_batches[k]) for k in chosen]:
            run.state.composition.train()
            with closing(SingleRunner(replace(run, execution=execution))) as alone:
                loss, _ = alone.differentiate(own, alone.draw(own))
            gradient, got = run.state.parameters.gradient, self._gradient[k, self._layout.columns[k]]
            is_near = abs(float(losses[k] - loss)) <= tolerance * (1 + abs(float(loss)))
            if not is_near or not (got - gradient).norm() <= tolerance * (1 + gradient.norm()):
                raise NotBatchable("one pass for all is not the same as one each")


def copy_each(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy each value into its target, in one call."""
    torch._foreach_copy_(list(targets), list(values))


def _exact(execution: Execution) -> Execution:
    """The same in float32 instead of bfloat16, in which two ways to compute a sum differ too much to be compared."""
    return replace(execution, precision="float32") if execution.precision == "bfloat16" else execution
