"""Scores of a search: what a validation row scores, and the table of all candidates on all folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from eigencode.data.containers import NamedArray
from eigencode.estimators.base import BaseAutoencoder
from eigencode.estimators.fit_many import Job

Score = Callable[[BaseAutoencoder, Any], np.ndarray]

WeightedScore = Callable[[BaseAutoencoder, Any, Any], np.ndarray]

SCORES: dict[str, WeightedScore] = {
    "leave_one_out": lambda model, X, sample_weight: model.leave_one_out_score(X, sample_weight),
    "log_likelihood": lambda model, X, sample_weight: model.score_samples(X),
    "reconstruction": lambda model, X, sample_weight: -model.reconstruction_error(X),
}
"""The score of each row of weighted rows, shape (n,), by the name of the scoring; larger is better."""


@dataclass(frozen=True)
class Fold:
    """Row numbers for training and validation."""

    training: np.ndarray
    validation: np.ndarray

    def of_training(self, array: Any, weights: np.ndarray | None, groups: np.ndarray | None) -> tuple[Any, Any, Any]:
        """The training rows, their weights, and their groups if there are several."""
        own = None if groups is None else groups[self.training]
        own = None if own is None or (own == own[0]).all() else own
        return array[self.training], None if weights is None else weights[self.training], own


def scoring_of(scoring: str | Score, jobs: Sequence[Job]) -> str | Score:
    """What 'auto' is for the models that were fitted, and any other scoring itself."""
    if scoring != "auto":
        return scoring
    fitted = (job.model for job in jobs if job.error is None)
    return "leave_one_out" if all(model._has_point_code for model in fitted) else "log_likelihood"


def score_of(scoring: str | Score) -> WeightedScore:
    """The function of a scoring's name, or the function given, of rows with weights."""
    return SCORES[scoring] if isinstance(scoring, str) else lambda model, X, sample_weight: scoring(model, X)


def score_on(
    job: Job, fold: Fold, array: np.ndarray | NamedArray, weights: np.ndarray | None, score: WeightedScore
) -> tuple[float, float]:
    """The mean score of the fold's validation rows and its standard error, NaN if the fit failed."""
    if job.error is not None:
        return np.nan, np.nan
    rows = fold.validation if weights is None else fold.validation[weights[fold.validation] > 0]
    if not len(rows):
        return np.nan, np.nan
    given = array[rows]
    table = given.frame.to_native() if isinstance(given, NamedArray) else given
    own = None if weights is None else weights[rows]
    return _mean_and_error(score(job.model, table, own), own)


def results(
    candidates: Sequence[dict[str, Any]], jobs: Sequence[Job], scores: np.ndarray, seconds: float, budgets: np.ndarray
) -> dict[str, Any]:
    """``cv_results_`` from mean scores and standard errors, of shape (candidates, folds, 2), and budgets."""
    by_fold, errors, n_folds = scores[..., 0], scores[..., 1], scores.shape[1]
    starts = range(0, len(jobs), n_folds)
    fitted = [[job for job in jobs[start : start + n_folds] if job.error is None] for start in starts]
    with np.errstate(invalid="ignore"):  # scores of minus infinity have no spread
        mean, spread = by_fold.mean(1), by_fold.std(1)
    return {
        "params": list(candidates),
        **_columns(candidates),
        **{f"split{i}_test_score": by_fold[:, i] for i in range(n_folds)},
        "mean_test_score": mean,
        "std_test_score": spread,
        "standard_error": np.maximum(
            spread / np.sqrt(max(n_folds - 1, 1)), np.sqrt(np.square(errors).sum(1)) / n_folds
        ),
        "rank_test_score": _ranks(mean),
        "mean_fit_time": np.full(len(candidates), seconds),
        "n_components": np.array([_mean(job.model.n_components_ for job in group) for group in fitted]),
        "n_weights": np.array([_mean(_n_weights(job.model) for job in group) for group in fitted]),
        "budget": budgets,
    }


def _ranks(mean: np.ndarray) -> np.ndarray:
    """Ranks from 1 by the mean score; last those without a score."""
    keys = list(zip(~np.isnan(mean), np.where(np.isnan(mean), 0.0, mean), strict=True))
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return rankdata([-order[key] for key in keys], method="min").astype(np.int32)


def _mean_and_error(values: np.ndarray, weights: np.ndarray | None) -> tuple[float, float]:
    """The mean of a score over rows, and its standard error."""
    values = np.asarray(values, dtype=np.float64)
    if weights is None:
        weights = np.ones(len(values))
    share = weights / weights.sum()
    mean = float(share @ values)
    if not np.isfinite(mean):
        return mean, np.nan
    return mean, float(np.sqrt(share**2 @ (values - mean) ** 2))


def _columns(candidates: Sequence[Mapping[str, Any]]) -> dict[str, np.ma.MaskedArray]:
    """A column for each parameter, masked for candidates that do not set it."""
    names = dict.fromkeys(name for params in candidates for name in params)
    columns = {}
    for name in names:
        values = np.ma.MaskedArray(np.empty(len(candidates), dtype=object), mask=True)
        for i, params in enumerate(candidates):
            if name in params:
                values[i] = params[name]
        columns[f"param_{name}"] = values
    return columns


def _mean(values: Any) -> float:
    """The mean of some numbers, NaN if there are none."""
    found = list(values)
    return sum(found) / len(found) if found else np.nan


def _n_weights(model: BaseAutoencoder) -> int:
    return sum(parameter.numel() for parameter in model.composition_.parameters())
