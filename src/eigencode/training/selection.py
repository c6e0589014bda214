"""Selection between the start and the best weights, where few validation rows have to tell which is better.

The best of many evaluations on five rows is often no better on others, while a linear start is determined by all rows.
So the start is kept unless the mean gain of the validation rows is positive and Wilcoxon's signed-rank test of their
gains is significant (one-sided); it is one of ranks, since the gains of rows have heavy tails.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.stats
import torch

from eigencode.training.evaluation import EVALUATION_ROWS, terms_of_rows
from eigencode.training.run import TrainingRun
from eigencode.training.state import Snapshot

FEW_ROWS = 10
"""With more validation rows their mean objective decides: by default, of tables of more than a hundred rows."""

SIGNIFICANT = 0.02
"""Largest p-value of a gain; the best weights were chosen by the same rows. With fewer than six rows there is none."""


def remember_start(run: TrainingRun) -> None:
    """Keep the weights of a linear start beside the best ones, if there are few validation rows."""
    best, n_rows = run.state.best, run.rows.n_validation
    is_finite = best is not None and math.isfinite(best.objective)
    run.state.start = best if run.starts_linear and is_finite and 0 < n_rows <= FEW_ROWS else None


def keep_start_if_in_doubt(run: TrainingRun) -> None:
    """Make the remembered start the best weights, unless the validation rows tell that training improved on it."""
    state = run.state
    if state.start is None or state.best is None or state.best.step == 0:
        return
    best = state.best
    (at_start, weights), (at_best, _) = _objectives(run, state.start), _objectives(run, best)
    state.best = best if _is_clear(at_start - at_best, weights) else state.start


def _objectives(run: TrainingRun, snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """Objectives and weights of the validation rows at some weights, which stay the model's."""
    run.state.best = snapshot
    run.state.restore_best()
    terms, weights = terms_of_rows(
        run.state.composition, run.objective, run.rows.validation(EVALUATION_ROWS), run.state.seed
    )
    found = terms["objective"]
    weights = torch.ones_like(found) if weights is None else weights
    return found.double().cpu().numpy(), weights.double().cpu().numpy()


def _is_clear(gains: np.ndarray, weights: np.ndarray) -> bool:
    """Whether the gains of rows are positive by their weighted mean and by the test of ranks."""
    if not np.isfinite(gains).all() or not weights @ gains > 0:
        return False
    return bool(scipy.stats.wilcoxon(gains[gains != 0], alternative="greater").pvalue <= SIGNIFICANT)
