"""Scores of a search: what a validation row scores, and the table of all candidates on all folds."""

from __future__ import annotations

import math
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
        "rank_test_score": _ranks(mean, budgets),
        "mean_fit_time": np.full(len(candidates), seconds),
        "n_components": np.array([_mean(job.model.n_components_ for job in group) for group in fitted]),
        "n_weights": np.array([_mean(_n_weights(job.model) for job in group) for group in fitted]),
        "budget": budgets,
    }


@dataclass
class Halving:
    """Successive halving (Jamieson & Talwalkar, 2016): after 1/f^2 and 1/f of the steps the best 1/f of them go on.

    A candidate has a job for each fold, and ends with all of them. Those whose training is complete are not ended: they
    cost nothing more. Those that an earlier process let go on do so again.

    Attributes
    ----------
    factor : int
        f.
    jobs : sequence of Job
        The folds of the first candidate, of the second, and so on.
    n_folds : int
        Number of folds.
    score : callable
        The mean score of a job by its number.
    """

    factor: int
    jobs: Sequence[Job]
    n_folds: int
    score: Callable[[int], float]

    def __post_init__(self) -> None:
        self.shares: Sequence[float] = (self.factor**-2, self.factor**-1)
        self.budgets = np.ones(len(self.jobs) // self.n_folds)

    def poor(self, share: float) -> list[Job]:
        """The jobs of the candidates that end after a share of the steps, and only keep their budget."""
        alive = np.flatnonzero(self.budgets == 1).tolist()
        n_kept = math.ceil(len(alive) / self.factor)
        means = {c: self._mean(c, share) for c in alive}
        ended = [c for c in sorted(alive, key=lambda c: -means[c])[n_kept:] if not self._is_complete(c)]
        self.budgets[ended] = share
        return [job for c in ended for job in self._of(c)]

    def _of(self, candidate: int) -> Sequence[Job]:
        return self.jobs[candidate * self.n_folds : (candidate + 1) * self.n_folds]

    def _is_complete(self, candidate: int) -> bool:
        """Whether the training of all its models has ended by itself, with the decay of their step sizes."""
        states = [job.run.state for job in self._of(candidate) if job.run is not None]
        return len(states) == self.n_folds and all(s.finished and s.schedule.decay_from <= s.step for s in states)

    def _mean(self, candidate: int, share: float) -> float:
        """The mean score over folds; infinite if an earlier process let it go on, minus infinity if it failed."""
        own = self._of(candidate)
        if any(job.error is not None for job in own):
            return -math.inf
        if self._is_complete(candidate) and all(job.was_beyond(share) for job in own):
            return math.inf
        for job in own:
            job.show()
        first = candidate * self.n_folds
        found = float(np.mean([self.score(first + fold) for fold in range(self.n_folds)]))
        return found if math.isfinite(found) else -math.inf


def _ranks(mean: np.ndarray, budgets: np.ndarray) -> np.ndarray:
    """Ranks from 1: by the share of the steps, and then by the mean score; last those without a score."""
    keys = list(zip(np.where(np.isnan(mean), 0.0, budgets), np.where(np.isnan(mean), 0.0, mean), strict=True))
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
