"""Warnings in words: what a fitted model's user should know, and what to try."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from eigencode.composition import Composition
from eigencode.estimators.preparation import AUTO_VARIANCE
from eigencode.parts.codes import Point
from eigencode.starts import SEARCHED_DIRECTIONS
from eigencode.training.schedule import Schedule
from eigencode.training.state import TrainingState

NOTHING = 1e-4
"""Share of what the start left to gain, up to which a gain is none."""

DEAD = 1e-6
"""Spread of a code's component, against the widest, up to which it is dead."""

SAMPLE_ROWS = 4096
"""Rows that show whether a component is in use."""


def notes(state: TrainingState, rows: Tensor, gained_over: float | None, explained: float | None) -> list[str]:
    """Sentences about a finished run.

    Parameters
    ----------
    state : TrainingState
        With the best weights in place.
    rows : Tensor
        Scaled rows, a sample of which is encoded.
    gained_over : float or None
        The baseline's objective on the rows that judged.
    explained : float or None
        Share of the variance along the principal directions of a code whose size was 'auto'.
    """
    found = [
        _divergence(state),
        _convergence(state),
        _dead_units(state.composition, rows[:SAMPLE_ROWS]),
        _overcomplete(state.composition),
        _too_few_directions(state.composition.n_components, explained),
        _linear_would_do(state, gained_over),
    ]
    return [*cautions(state.composition), *(note for note in found if note is not None)]


def cautions(composition: Composition) -> list[str]:
    """What the words of a model, put together as they are, have to be known for before any training."""
    found = [word.caution(composition) for word in composition.words]
    return [caution for caution in found if caution is not None]


def _divergence(state: TrainingState) -> str | None:
    if not math.isfinite(state.history[-1]["held_out_objective"]):
        return f"diverged in epoch {state.epoch}, and the best weights before it are kept; try a smaller learning_rate"
    if not state.n_retreats:
        return None
    times = "once" if state.n_retreats == 1 else f"{state.n_retreats} times"
    return (
        f"blew up {times} and went on from the best weights with half the step size; try learning_rate="
        f"{state.schedule.peak:.2g}"
    )


def _convergence(state: TrainingState) -> str | None:
    """Training that was cut off by its largest number of epochs while it still made progress."""
    if state.epoch == 0 or state.best is None or not _ran_to_the_last_step(state.schedule):
        return None
    late = [row["held_out_objective"] for row in state.history if row["epoch"] >= int(0.9 * state.epoch)]
    gained = state.history[0]["held_out_objective"] - state.best.objective
    if gained <= 0 or not late or late[0] - min(late) < 0.02 * gained:
        return None
    return (
        f"not converged: the last tenth of {state.epoch} epochs still brought "
        f"{(late[0] - min(late)) / gained:.0%} of the whole gain; try a larger max_epochs"
    )


def _ran_to_the_last_step(schedule: Schedule) -> bool:
    return schedule.decay_from == round(schedule.n_steps * (1 - schedule.decay_share))


def _dead_units(composition: Composition, rows: Tensor) -> str | None:
    with torch.inference_mode():
        spread = composition.encode(rows).mean.std(0, correction=0)
    dead = torch.nonzero(spread <= DEAD * spread.max()).flatten().tolist()
    if not dead:
        return None
    shown = ", ".join(map(str, dead[:8])) + (" and more" if len(dead) > 8 else "")
    return (
        f"{len(dead)} of {len(spread)} code components are dead, the same for every row: {shown}; try fewer components"
    )


def _overcomplete(composition: Composition) -> str | None:
    regularised = (
        composition.corruption or composition.prior or composition.penalties or composition.weight_prior
    ) or type(composition.code) is not Point
    if regularised or composition.n_components < composition.n_features:
        return None
    return (
        f"overcomplete: {composition.n_components} components for {composition.n_features} columns and nothing that "
        "regularises, so the code may copy its input; try fewer components, noise, or a penalty"
    )


def _too_few_directions(n_components: int, explained: float | None) -> str | None:
    """A size by rule that a bounded search for directions cut short."""
    if explained is None or n_components < SEARCHED_DIRECTIONS or explained > AUTO_VARIANCE - 1e-6:
        return None
    return (
        f"n_components='auto' looked at {n_components} principal directions only, which keep {explained:.0%} of the "
        f"variance and not {AUTO_VARIANCE:.0%}; try a larger number"
    )


def _linear_would_do(state: TrainingState, baseline: float | None) -> str | None:
    if baseline is None or state.best is None or state.epoch == 0:
        return None
    if baseline - state.best.objective > NOTHING * abs(baseline):
        return None
    return "the nonlinear part won nothing over the linear baseline: a LinearAutoencoder would do"
