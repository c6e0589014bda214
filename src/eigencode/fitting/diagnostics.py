"""Notes on possible problems of a finished run, each with a hint."""

from __future__ import annotations

import math

import torch

from eigencode.batch import Batch
from eigencode.data.once_rows import OnceRows
from eigencode.model.composition import Composition
from eigencode.model.pca import SEARCHED_DIRECTIONS
from eigencode.parts.codes.point import Point
from eigencode.parts.likelihoods.base import SpreadLikelihood
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.run import TrainingRun
from eigencode.training.state import TrainingState
from eigencode.words import percent

NO_GAIN = 1e-4
"""Relative gain over the baseline up to which the nonlinear part counts as useless."""

LATE_GAIN = 0.02
"""A run has not converged if its last tenth has at least this share of the whole gain."""

TENTHS = 10
"""Evaluations of which the last tenth is at least one."""

STEADY_GAIN = 0.05
"""A run has perhaps not converged if the last quarter before the decay of the step size has this share of the gain."""

DEAD = 1e-6
"""A component of the code is dead if its spread is at most this share of the widest component's."""

NARROW = 4.0
"""A learned spread is at its smallest value if it is at most so many times that."""

SAMPLE_ROWS = 4096
"""Number of rows on which dead components are counted."""


READ_ONCE = "the rows could be read once, so training was one pass; scale, start and validation are of the first ones"
"""The note on a stream that does not fit into memory."""

MOST_COUNTED = 2**24
"""Steps that Adam counts exactly, in float32."""

INTERRUPTED = "training was interrupted"
"""The beginning of the note on an interruption."""


def notes(run: TrainingRun, gained_over: float | None, explained: tuple[float, float] | None) -> list[str]:
    """Sentences about a finished run whose model has the best weights.

    ``gained_over`` is the baseline's objective on the validation rows, ``explained`` the share of the variance along
    the code's principal directions, and the share asked for, if one was.
    """
    state = run.state
    found = [
        _divergence(state),
        _skipped(state),
        _ended_early(run),
        READ_ONCE if isinstance(run.rows, OnceRows) else None,
        _ended_before_limit(run) or _convergence(run),
        _dead_units(state.composition, run.rows.sample(SAMPLE_ROWS).to(run.device)),
        _degenerate(run),
        _overcomplete(state.composition),
        _too_few_directions(state.composition.n_components, explained),
        _in_doubt(run) or _linear_would_do(state, gained_over),
    ]
    return [*warnings_about(state.composition), *(note for note in found if note is not None)]


def warnings_about(composition: Composition, *, is_trained: bool = True) -> list[str]:
    """Warnings of a model's terms: of their combination, and of their states if the model is trained."""
    found = [term.warn_about(composition) for term in composition.terms]
    found += [term.warn_after_training() for term in composition.terms if is_trained]
    return [note for note in found if note is not None]


def _divergence(state: TrainingState) -> str | None:
    if not math.isfinite(state.history[-1]["validation_objective"]):
        return f"diverged in epoch {state.epoch}, and the best weights before it are kept; try a smaller learning_rate"
    if not state.n_retreats:
        return None
    times = "once" if state.n_retreats == 1 else f"{state.n_retreats} times"
    return (
        f"diverged {times} and continued from the best weights with a smaller step size; try learning_rate="
        f"{state.schedule.peak:.2g}"
    )


def _skipped(state: TrainingState) -> str | None:
    """A note if gradients were not finite, with which Adam makes no step."""
    if not (isinstance(state.optimizer, ClippedAdam) and state.is_recorded and state.step < MOST_COUNTED):
        return None
    n_skipped = state.step - int(state.optimizer.n_steps)
    if n_skipped <= 0:
        return None
    what = f"the gradient was not finite in {n_skipped:,} of {state.step:,} steps, which left the weights as they were"
    return f"{what}; look for extreme rows, or for a part of the model that has no derivative"


def _ended_early(run: TrainingRun) -> str | None:
    """A note if training was ended by an interruption, the time limit or a caller that stopped iterating."""
    state = run.state
    if not is_ended_early(state):
        return None
    at_most = "" if run.n_epochs is None else f" of at most {run.n_epochs}"
    so_far = f"after {state.rows:,} rows, in epoch {state.epoch}{at_most}"
    if state.interrupted:
        return f"{INTERRUPTED} {so_far if state.step else 'before its first step'}"
    if state.ended_by == "time":
        if not run.clock.has_time:
            return f"the preparation took all of max_seconds, which ended training {so_far}; try a larger max_seconds"
        best = ", and the last evaluation was the best" if _is_last_best(state) else ""
        return f"stopped by max_seconds {so_far}, while it still made progress{best}; try a larger max_seconds"
    return f"the iterator was left {so_far}, while it still made progress"


def _is_last_best(state: TrainingState) -> bool:
    return state.best is not None and 0 < state.best.step == state.step


def _ended_before_limit(run: TrainingRun) -> str | None:
    """A note if the number of epochs ended a run that had time left, and its last weights are the best."""
    if run.clock.ends is None or is_ended_early(run.state) or run.state.ended_by != "epochs":
        return None
    if not _is_last_best(run.state) or not run.n_epochs:
        return None
    so_far = f"max_epochs={run.n_epochs} ended the training before max_seconds, and the last evaluation was the best"
    return f"{so_far}; try a larger max_epochs"


def is_ended_early(state: TrainingState) -> bool:
    """Whether a run was ended by something other than a lack of progress or its number of epochs."""
    return state.interrupted or state.ended_by == "time" or not state.finished


def _convergence(run: TrainingRun) -> str | None:
    """A note if training reached its largest number of epochs while it still made progress."""
    state = run.state
    if state.epoch == 0 or state.best is None or is_ended_early(state) or state.ended_by != "epochs":
        return None
    longer = "a larger max_epochs" if run.n_epochs else "more rows"
    objectives = [row["validation_objective"] for row in state.history]
    n = len(objectives) - 1
    gained = objectives[0] - state.best.objective
    if gained <= 0:
        return None
    late = min(objectives[: int(0.9 * n) + 1]) - state.best.objective  # the gain of the last tenth of the evaluations
    if late >= LATE_GAIN * gained:
        when = "objective was still falling at the last evaluation"
        if n >= TENTHS:
            when = f"last tenth of {state.epoch} epochs had {percent(late / gained)} of the whole gain"
        return f"not converged: the {when}; try {longer}"
    # The decay of the step size always gains something, so progress is measured before it.
    n_before = sum(0 < row["step"] <= state.schedule.decay_from for row in state.history)
    steady = min(objectives[: 3 * n_before // 4 + 1]) - min(objectives[: n_before + 1])
    if state.best.step < 0.9 * state.step or steady < STEADY_GAIN * gained:
        return None
    return (
        f"perhaps not converged: of {state.epoch} epochs, epoch {state.best.epoch} was the best, and the objective was "
        f"still falling when the step size began to decay; try {longer}"
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


def _degenerate(run: TrainingRun) -> str | None:
    """A note if a density of rows is only large because it is narrow, or much larger on rows that it was fitted to."""
    composition = run.state.composition
    part = composition.likelihood
    if not (composition.code.is_stochastic and isinstance(part, SpreadLikelihood) and part.is_learned):
        return None
    varies = run.rows.sample(SAMPLE_ROWS).to(run.device).x.std(0, correction=0) > 0
    spread = part.current_spread(part.log_excess.detach())
    narrow = torch.nonzero((spread <= NARROW * part.floor) & varies).flatten().tolist()
    if narrow:
        shown = ", ".join(map(str, narrow[:8])) + (" and more" if len(narrow) > 8 else "")
        return (
            f"the noise of {len(narrow)} of {len(varies)} columns is at its smallest value: {shown}; densities may be "
            "very large for rows like those fitted and very small for others; try fewer components, or leave out "
            "columns that are functions of others"
        )
    gap = _gap_of_densities(run.state)
    if gap is None or gap <= len(varies):
        return None
    return (
        f"rows for validation are {gap:.3g} nats less likely than training rows, so densities are not to be trusted; "
        "try fewer components, or more rows"
    )


def _gap_of_densities(state: TrainingState) -> float | None:
    """The validation rows' objective at the best weights minus that of the training rows."""
    rows = [row for row in state.history if state.best is not None and row["step"] == state.best.step]
    if not rows or "training_objective" not in rows[-1]:
        return None
    return rows[-1]["validation_objective"] - rows[-1]["training_objective"]


def _overcomplete(composition: Composition) -> str | None:
    regularised = (
        composition.corruption or composition.prior or composition.penalties or composition.weight_prior
    ) or type(composition.code) is not Point
    if regularised or composition.n_components < composition.n_features:
        return None
    return (
        f"overcomplete: {composition.n_components} components for {composition.n_features} columns and no "
        "regularisation, so the code may copy its input; try fewer components, noise, or a penalty"
    )


def _too_few_directions(n_components: int, explained: tuple[float, float] | None) -> str | None:
    """A note if n_components was chosen by a share of the variance that the computed directions do not reach."""
    if explained is None or n_components < SEARCHED_DIRECTIONS or explained[0] > explained[1] - 1e-6:
        return None
    kept, wanted = explained
    return (
        f"n_components was chosen from the first {n_components} principal directions only, which have {percent(kept)} "
        f"of the variance and not {percent(wanted)}; give n_components as a larger number"
    )


def _in_doubt(run: TrainingRun) -> str | None:
    """A note if few validation rows left it in doubt that training improved on the linear start."""
    state, n_rows = run.state, run.rows.n_validation
    if state.start is None or state.best is not state.start or state.epoch == 0 or is_ended_early(state):
        return None
    return (
        f"the linear start was kept: {n_rows} validation rows do not tell for certain that training improved on it; "
        "try more rows, or validation_fraction=0 to keep the weights that fit the training rows best"
    )


def _linear_would_do(state: TrainingState, baseline: float | None) -> str | None:
    if baseline is None or state.best is None or state.epoch == 0 or is_ended_early(state):
        return None
    if baseline - state.best.objective > NO_GAIN * abs(baseline):
        return None
    return "the nonlinear part is no better than the linear baseline: a LinearAutoencoder is enough"
