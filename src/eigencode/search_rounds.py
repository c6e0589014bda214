"""Candidates of a search that end early, since others with the same objective are ahead of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    kind: Any = type(estimator)
    free = {option.name for option in options_of(kind) if option.info.keeps_objective}
    groups: dict[str, list[int]] = {}
    for number, params in enumerate(candidates):
        fixed = sorted((name, value) for name, value in params.items() if name.partition("__")[0] not in free)
        groups.setdefault(repr(fixed), []).append(number)
    return list(groups.values())


@dataclass
class Halving:
    """Rounds of successive halving (Jamieson & Talwalkar, 2016) among candidates with the same objective.

    After a fifth of the steps the best of each group go on, 1/sqrt(f) of them, and 1/f after half of the steps: those
    with the lowest objective of validation rows so far, which training computes anyway. A single round after a fifth
    ends some that would have been the best. Objectives of different groups are not compared: early on, larger codes
    are ahead whatever the true dimension. A candidate has a job for each fold, and ends with all of them. Those whose
    training is complete are not ended: they cost nothing more. Those that an earlier process let go on do so again.

    Attributes
    ----------
    factor : int
        f.
    jobs : sequence of Job
        The folds of the first candidate, of the second, and so on.
    groups : sequence of sequence of int
        The numbers of the candidates of each group.
    shares : sequence of float
        The shares of the steps after which candidates end.
    """

    factor: int
    jobs: Sequence[Job]
    groups: Sequence[Sequence[int]]
    shares: Sequence[float] = (0.2, 0.5)

    def __post_init__(self) -> None:
        self.budgets = np.ones(sum(map(len, self.groups)))
        self._n_folds = len(self.jobs) // len(self.budgets)

    def poor(self, share: float) -> list[Job]:
        """The jobs of the candidates that end after a share of the steps, and only keep their budget."""
        ended = [candidate for group in self.groups for candidate in self._poor_of(group, share)]
        self.budgets[ended] = share
        return [job for candidate in ended for job in self._of(candidate)]

    def _poor_of(self, group: Sequence[int], share: float) -> list[int]:
        """The candidates of a group that end now."""
        alive = [candidate for candidate in group if self.budgets[candidate] == 1]
        reached = {candidate: self._objective(candidate, share) for candidate in alive}
        n_rounds = sum(one <= share for one in self.shares)
        n_kept = math.ceil(len(group) / self.factor ** (n_rounds / len(self.shares)) - 1e-9)
        return [c for c in sorted(alive, key=lambda c: reached[c])[n_kept:] if not self._is_complete(c)]

    def _of(self, candidate: int) -> Sequence[Job]:
        return self.jobs[candidate * self._n_folds : (candidate + 1) * self._n_folds]

    def _is_complete(self, candidate: int) -> bool:
        """Whether the training of all its models has ended by itself, with the decay of their step sizes."""
        states = [job.run.state for job in self._of(candidate) if job.run is not None]
        ended = [s.finished and s.schedule.decay_from <= s.step and s.ended_by != "search" for s in states]
        return len(ended) == self._n_folds and all(ended)

    def _objective(self, candidate: int, share: float) -> float:
        """The mean over folds of the lowest objective after the start, which is equal for many.

        It is infinite if a fit failed, and minus infinity if an earlier process let the candidate go on.
        """
        own = self._of(candidate)
        runs = [job.run for job in own if job.error is None and job.run is not None]
        if len(runs) < len(own):
            return math.inf
        if self._is_complete(candidate) and all(job.was_beyond(share) for job in own):
            return -math.inf
        found = float(np.mean([_lowest(run) for run in runs]))
        return found if math.isfinite(found) else math.inf


def _lowest(run: TrainingRun) -> float:
    """The lowest objective of the validation rows after the start, that of the start if there is no other."""
    objectives = [row["validation_objective"] for row in run.state.history]
    return float(np.fmin.reduce(objectives[1:] or objectives))
