"""Warnings in words: what a fitted model's user should know, and what to try."""

from __future__ import annotations

import math

import torch

from eigencode.batch import Batch
from eigencode.model.composition import Composition
from eigencode.model.pca import SEARCHED_DIRECTIONS
from eigencode.parts.codes.point import Point
from eigencode.training.run import TrainingRun
from eigencode.training.state import TrainingState

NOTHING = 1e-4
"""Share of what the start left to gain, up to which a gain is none."""

LATE_GAIN = 0.02
"""Share of the whole gain that the last tenth of a run that has not converged brings."""

STEADY_GAIN = 0.05
"""Share of the whole gain that the last quarter before the decay of the step size brings, if there is more to gain."""

DEAD = 1e-6
"""Spread of a code's component, against the widest, up to which it is dead."""

SAMPLE_ROWS = 4096
"""Rows that show whether a component is in use."""


INTERRUPTED = "training was interrupted"
"""What a note of an interruption begins with."""


def notes(run: TrainingRun, gained_over: float | None, explained: tuple[float, float] | None) -> list[str]:
    """Sentences about a finished run.

    Parameters
    ----------
    run : TrainingRun
        With the best weights in place; a sample of its rows is encoded.
    gained_over : float or None
        The baseline's objective on the rows that judged.
    explained : (float, float) or None
        Share of the variance along the code's principal directions, and the share asked for, if one was.
    """
    state = run.state
    found = [
        _divergence(state),
        _cut_off(run),
        _convergence(run),
        _dead_units(state.composition, run.rows.sample(SAMPLE_ROWS).to(run.device)),
        _overcomplete(state.composition),
        _too_few_directions(state.composition.n_components, explained),
        _linear_would_do(state, gained_over),
    ]
    return [*warnings_about(state.composition), *(note for note in found if note is not None)]


def warnings_about(composition: Composition) -> list[str]:
    """What the terms of a model, put together as they are, have to be known for before any training."""
    found = [term.warn_about(composition) for term in composition.terms]
    return [caution for caution in found if caution is not None]


def _divergence(state: TrainingState) -> str | None:
    if not math.isfinite(state.history[-1]["validation_objective"]):
        return f"diverged in epoch {state.epoch}, and the best weights before it are kept; try a smaller learning_rate"
    if not state.n_retreats:
        return None
    times = "once" if state.n_retreats == 1 else f"{state.n_retreats} times"
    return (
        f"blew up {times} and went on from the best weights with half the step size; try learning_rate="
        f"{state.schedule.peak:.2g}"
    )


def _cut_off(run: TrainingRun) -> str | None:
    """Training that something outside ended: an interruption, the time limit, whoever iterates."""
    state = run.state
    if not is_cut_off(state):
        return None
    n_rows = state.rows
    so_far = f"after {n_rows:,} rows, in epoch {state.epoch} of at most {state.schedule.n_steps // run.n_batches}"
    if state.interrupted:
        return f"{INTERRUPTED} {so_far if state.step else 'before its first step'}"
    if state.ended_by == "time":
        return f"stopped by max_seconds {so_far}, before its progress had ended; try a larger max_seconds"
    return f"the iterator was left {so_far}, before its progress had ended"


def is_cut_off(state: TrainingState) -> bool:
    """Whether something else than its own progress or its number of epochs ended a run."""
    return state.interrupted or state.ended_by == "time" or not state.finished


def _convergence(run: TrainingRun) -> str | None:
    """Training that was cut off by its largest number of epochs while it still made progress."""
    state = run.state
    if state.epoch == 0 or state.best is None or is_cut_off(state) or state.ended_by != "epochs":
        return None
    met = [row["validation_objective"] for row in state.history]
    n = len(met) - 1
    gained, late = met[0] - state.best.objective, met[int(0.9 * n) :]
    if gained <= 0 or not late:
        return None
    if late[0] - min(late) >= LATE_GAIN * gained:
        return (
            f"not converged: the last tenth of {state.epoch} epochs still brought "
            f"{(late[0] - min(late)) / gained:.0%} of the whole gain; try a larger max_epochs"
        )
    # The decay of the step size always brings something in the end, so what counts is the time before it.
    n_before = sum(0 < row["step"] <= state.schedule.decay_from for row in state.history)
    steady = min(met[: 3 * n_before // 4 + 1]) - min(met[: n_before + 1])
    if state.best.step < 0.9 * state.step or steady < STEADY_GAIN * gained:
        return None
    return (
        f"perhaps not converged: of the {state.epoch} epochs allowed, {state.best.epoch} was the best, and progress "
        "had not stopped when the step size began to fall; try a larger max_epochs"
    )


def _dead_units(composition: Composition, sample: Batch) -> str | None:
    with torch.inference_mode():
        spread = composition.encode(sample.x, sample.observed).mean.std(0, correction=0)
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


def _too_few_directions(n_components: int, explained: tuple[float, float] | None) -> str | None:
    """A size by a share of the variance, kept and wanted, that a bounded search for directions cut short."""
    if explained is None or n_components < SEARCHED_DIRECTIONS or explained[0] > explained[1] - 1e-6:
        return None
    kept, wanted = explained
    return (
        f"n_components by a share of the variance looked at {n_components} principal directions only, which keep "
        f"{kept:.0%} of it and not {wanted:.0%}; try a larger number"
    )


def _linear_would_do(state: TrainingState, baseline: float | None) -> str | None:
    if baseline is None or state.best is None or state.epoch == 0 or is_cut_off(state):
        return None
    if baseline - state.best.objective > NOTHING * abs(baseline):
        return None
    return "the nonlinear part won nothing over the linear baseline: a LinearAutoencoder would do"
