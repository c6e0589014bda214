"""Candidates of a search that end early, since others with the same objective are ahead of them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eigencode.estimators.base import BaseAutoencoder
from eigencode.estimators.fit_many import Job
from eigencode.options import options_of
from eigencode.training.run import TrainingRun


def comparable(estimator: BaseAutoencoder, candidates: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The numbers of the candidates that have the same objective, as groups: they differ in layers and steps alone.

    Examples
    --------
    >>> from eigencode import Autoencoder
    >>> candidates = [
    ...     {"n_components": 2, "learning_rate": 1e-3},
    ...     {"n_components": 4, "learning_rate": 1e-3},
    ...     {"n_components": 2, "learning_rate": 1e-2},
    ... ]
    >>> comparable(Autoencoder(), candidates)
    [[0, 2], [1]]
    """
    groups: dict[str, list[int]] = {}
    for number, (objective, _) in enumerate(_divided(estimator, candidates)):
        groups.setdefault(objective, []).append(number)
    return list(groups.values())


def settings_of(estimator: BaseAutoencoder, candidates: Sequence[Mapping[str, Any]]) -> list[str]:
    """The layers and steps of each candidate, which candidates with other objectives may have too.

    Examples
    --------
    >>> from eigencode import Autoencoder
    >>> settings_of(Autoencoder(), [{"n_components": 2, "learning_rate": 1e-3}])
    ["[('learning_rate', 0.001)]"]
    """
    return [setting for _, setting in _divided(estimator, candidates)]


def _divided(estimator: BaseAutoencoder, candidates: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What determines the objective of each candidate, and the others of its settings."""
    kind: Any = type(estimator)
    free = {option.name for option in options_of(kind) if option.info.keeps_objective}

    def part(params: Mapping[str, Any], is_free: bool) -> str:
        return repr(sorted(one for one in params.items() if (one[0].partition("__")[0] in free) == is_free))

    return [(part(params, False), part(params, True)) for params in candidates]


@dataclass
class Halving:
    """Rounds of successive halving (Jamieson & Talwalkar, 2016) among candidates with the same objective.

    After a fifth of the steps the best of each group go on, 1/sqrt(f) of them, and 1/f after half of the steps: by the
    lowest objective of validation rows so far, which training computes anyway. A single round after a fifth ends some
    that would have been the best. Objectives of different groups are not compared: early on, larger codes are ahead
    whatever the true dimension. But a layer or a step size that is good for one size is often good for others, so each
    candidate is ranked by the sum of what it lacks, as a share of the gain of the best of its group, and of the mean of
    this over all groups' candidates with the same settings. A candidate has a job for each fold, and ends with all of
    them. Those whose training is complete are not ended: they cost nothing more. Those that an earlier process let go
    on do so again, and those that it ended in the same round end.

    Attributes
    ----------
    factor : int
        f.
    jobs : sequence of Job
        The folds of the first candidate, of the second, and so on.
    groups : sequence of sequence of int
        The numbers of the candidates of each group.
    settings : sequence of hashable
        What candidates of different groups have in common, for each candidate.
    shares : sequence of float
        The shares of the steps after which candidates end.
    """

    factor: int
    jobs: Sequence[Job]
    groups: Sequence[Sequence[int]]
    settings: Sequence[Hashable]
    shares: Sequence[float] = (0.2, 0.5)

    def __post_init__(self) -> None:
        self.budgets = np.ones(sum(map(len, self.groups)))
        self._n_folds = len(self.jobs) // len(self.budgets)

    def poor(self, share: float) -> list[Job]:
        """The jobs of the candidates that end after a share of the steps, and only keep their budget."""
        ranks = self._ranks(share)
        ended = [candidate for group in self.groups for candidate in self._poor_of(group, share, ranks)]
        self.budgets[ended] = share
        return [job for candidate in ended for job in self._of(candidate)]

    def _poor_of(self, group: Sequence[int], share: float, ranks: Mapping[int, Any]) -> list[int]:
        """The candidates of a group that end now."""
        alive = [candidate for candidate in group if candidate in ranks]
        n_rounds = sum(one <= share for one in self.shares)
        n_kept = math.ceil(len(group) / self.factor ** (n_rounds / len(self.shares)) - 1e-9)
        return [c for c in sorted(alive, key=lambda c: ranks[c])[n_kept:] if not self._is_complete(c)]

    def _ranks(self, share: float) -> dict[int, tuple[int, float]]:
        """What the candidates are sorted by that have not been ended, the best first."""
        lags: dict[int, float] = {}
        of_setting: dict[Hashable, list[float]] = {}
        for group in self.groups:
            alive = [candidate for candidate in group if self.budgets[candidate] == 1]
            found = np.array([self._objectives(candidate) for candidate in alive]).reshape(-1, 2)
            lags |= zip(alive, lags_behind_best(*found.T), strict=True)
        for candidate, lag in lags.items():
            if math.isfinite(lag):
                of_setting.setdefault(self.settings[candidate], []).append(min(lag, 1.0))
        means = {setting: float(np.mean(own)) for setting, own in of_setting.items()}
        return {c: (self._before(c, share), lag + means.get(self.settings[c], 0.0)) for c, lag in lags.items()}

    def _before(self, candidate: int, share: float) -> int:
        """What an earlier process decided in this round: -1 if the candidate went on, 1 if it ended, 0 if nothing."""
        own = self._of(candidate)
        if self._is_complete(candidate) and all(job.was_beyond(share) for job in own):
            return -1
        following = min((one for one in self.shares if one > share), default=1.0)
        was_ended = [job.run is not None and job.run.state.ended_by == "search" for job in own]
        return int(all(was_ended) and all(job.begun_at < following for job in own))

    def _of(self, candidate: int) -> Sequence[Job]:
        return self.jobs[candidate * self._n_folds : (candidate + 1) * self._n_folds]

    def _is_complete(self, candidate: int) -> bool:
        """Whether the training of all its models has ended by itself, with the decay of their step sizes."""
        states = [job.run.state for job in self._of(candidate) if job.run is not None]
        ended = [s.finished and s.schedule.decay_from <= s.step and s.ended_by != "search" for s in states]
        return len(ended) == self._n_folds and all(ended)

    def _objectives(self, candidate: int) -> tuple[float, float]:
        """The objective at the start, and the lowest one after it, as means over folds; infinite if a fit failed."""
        own = self._of(candidate)
        runs = [job.run for job in own if job.error is None and job.run is not None]
        if len(runs) < len(own):
            return math.inf, math.inf
        start, lowest = np.mean([_start_and_lowest(run) for run in runs], axis=0)
        return start, lowest


def lags_behind_best(starts: np.ndarray, lowest: np.ndarray) -> np.ndarray:
    """What each objective lacks of the best, as a share of the gain of the best; infinite if it is not finite.

    Examples
    --------
    >>> lags_behind_best(np.array([5.0, 5.0, 5.0]), np.array([1.0, 2.0, 5.0]))
    array([0.  , 0.25, 1.  ])
    """
    is_known, begun = np.isfinite(lowest), starts[np.isfinite(starts)]
    lags = np.full(len(lowest), np.inf)
    if is_known.any():
        best = lowest[is_known].min()
        behind = lowest[is_known] - best
        gain = np.median(begun) - best if len(begun) else 0.0
        # Where no candidate is better than its start, the worst one is the unit.
        lags[is_known] = behind / (gain if gain > 0 else max(behind.max(), np.finfo(float).tiny))
    return lags


def _start_and_lowest(run: TrainingRun) -> tuple[float, float]:
    """The objective of the validation rows at the start, and the lowest one after it if there is one.

    Many have the same start, so it would tell nothing about those whose objective has not fallen below it yet.
    """
    objectives = [row["validation_objective"] for row in run.state.history]
    return objectives[0], float(np.fmin.reduce(objectives[1:] or objectives))
