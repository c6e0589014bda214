"""Run: a model with its start, rows, optimiser, schedule and device, as the training loop takes it."""

from __future__ import annotations

import copy
import math
import time
from typing import TYPE_CHECKING, Any

import torch

from eigencode.data.rows import Rows
from eigencode.errors import known_length
from eigencode.fitting.data import Data
from eigencode.fitting.model import Model
from eigencode.fitting.start import Start
from eigencode.fitting.step_size import RECIPES, choose_optimizer, recipe_of
from eigencode.model.composition import Composition
from eigencode.options import given_or
from eigencode.training import (
    Clock,
    Schedule,
    TrainingRun,
    TrainingState,
    choose_execution,
    fit_on,
    has_random_layers,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eigencode.model.objective import Objective
    from eigencode.options import AutoencoderOptions
    from eigencode.training import Execution

MOST_STEPS = 1024
"""Most steps between two evaluations: a quarter of a million rows, for batches of 256. Smaller data are evaluated after
each epoch."""


FIRST_LOOK = 80
"""Steps before the first evaluation of long epochs: 50 of warm-up, and some after it."""


def make_run(
    options: AutoencoderOptions, data: Data, model: Model, start: Start, seed: int, began: float
) -> TrainingRun:
    """Return the run that trains a model from its start.

    ``began`` is the time at which the preparation began; a time limit counts from there.
    """
    composition = start.composition
    is_noisy = composition.is_stochastic or has_random_layers(composition) or options.precision == "bfloat16"
    n_rows = data.rows.n_training
    optimizer = given_or(options.optimizer, choose_optimizer(n_rows, is_noisy, options.batch_size))
    _require_length(data.rows, optimizer)
    recipe = recipe_of(optimizer, composition.input_dropout is not None)
    precision = "float32" if options.precision == "auto" and optimizer == "lbfgs" else options.precision
    batch_size = given_or(options.batch_size, recipe.batch_size(n_rows))
    step_work = batch_size * (composition.encoder.multiply_adds + composition.decoder.multiply_adds)
    execution = choose_execution(options.device, precision, step_work)
    clock = Clock.starting_at(began, options.max_seconds, recipe.decay_share)
    n_batches = None if n_rows is None else math.ceil(n_rows / batch_size)
    n_weights = _n_learned(composition)
    peak = float(given_or(options.learning_rate, recipe.learning_rate(batch_size, n_weights)))
    # A time limit is the only limit, unless the number of epochs is given too.
    max_epochs = None if options.max_seconds is not None and options.max_epochs == "auto" else options.max_epochs
    schedule = recipe.schedule(peak, recipe.most_steps(n_rows, batch_size, n_weights, max_epochs))
    device = torch.device(execution.device)
    return TrainingRun(
        state=TrainingState.beginning(composition, optimizer, schedule, seed, execution.device, n_rows),
        rows=_near(data.rows, device),
        objective=model.objective,
        execution=execution,
        batch_size=batch_size,
        period=min(n_batches or MOST_STEPS, MOST_STEPS),
        first_look=FIRST_LOOK,
        patience=given_or(options.patience, recipe.patience),
        progress=recipe.progress,
        clock=clock,
        step_work=step_work,
        max_epochs=given_or(options.max_epochs, None) if n_batches is None else None,
        starts_linear=start.init == "linear",
        alike=None if start.alike is None else start.alike.to(device),
    )


def _n_learned(composition: Composition) -> int:
    """The number of weights that training changes, at least 1."""
    return max(sum(p.numel() for p in composition.parameters() if p.requires_grad), 1)


def _require_length(rows: Rows, optimizer: str) -> None:
    """Refuse rows whose number is not known where it is needed."""
    if optimizer == "lbfgs":
        known_length(rows.n_training, "optimizer='lbfgs', which takes all rows in each step,")
    if not rows.n_validation:
        known_length(rows.n_training, "Training without rows for validation")


def make_stream_run(
    options: AutoencoderOptions,
    block: Rows,
    composition: Composition,
    objective: Objective,
    execution: Execution,
    optimizer: str,
    seed: int,
    history: Sequence[dict[str, float]] = (),
    saved: dict[str, Any] | None = None,
) -> TrainingRun:
    """Return the run of one pass over a block of scaled rows, for a copy of a composition.

    Batch size and step size are chosen for each block. The steps of Adam do not depend on the size of the gradient, so
    the step size is multiplied by the mean weight of the block's rows if that is below 1. The model and its settings
    are those of the first block, ``saved`` is the ``state_dict`` after the earlier blocks, None for the first one.
    """
    recipe, n_rows = RECIPES[optimizer], known_length(block.n_training, "A block of a stream")
    batch_size = given_or(options.batch_size, recipe.batch_size(n_rows))
    peak = float(given_or(options.learning_rate, recipe.learning_rate(batch_size, _n_learned(composition))))
    peak *= _heaviness(block)
    last = history[-1] if history else {"step": 0}
    schedule = Schedule.endless(peak, recipe.warmup, int(last["step"]))
    state = TrainingState.beginning(copy.deepcopy(composition), optimizer, schedule, seed, execution.device, n_rows)
    if saved is None and history:
        state.epoch, state.step, state.history = int(last["epoch"]), int(last["step"]), [row.copy() for row in history]
        state.rows = int(last.get("rows", 0))
        state.averaged_from = state.averaged_to = state.step
    elif saved is not None:
        state.load_state_dict(saved)
        state.schedule.peak = peak
        state.steps_in_epoch = 0  # each block is an epoch of its own
    return TrainingRun(
        state=state,
        rows=_near(block, torch.device(execution.device)),
        objective=objective,
        execution=execution,
        batch_size=batch_size,
        period=math.ceil(n_rows / batch_size),
        patience=given_or(options.patience, recipe.patience),
        progress=recipe.progress,
        clock=Clock(begins=time.monotonic()),
    )


def _heaviness(block: Rows) -> float:
    """The mean weight of a block's rows, at most 1."""
    weight = block.representative().weight
    return 1.0 if weight is None else min(float(weight.mean()), 1.0)


def _near(rows: Rows, device: torch.device) -> Rows:
    """Rows on the training device, if they fit into its memory."""
    return rows.to(device) if fit_on(device, rows.n_bytes) else rows
