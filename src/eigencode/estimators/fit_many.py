"""Fitting many estimators, those of the same structure in one vectorised program."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from eigencode import progress
from eigencode.errors import EigencodeError, InterruptedWarning, OptionError, warn
from eigencode.estimators.base import BaseAutoencoder
from eigencode.training import loop
from eigencode.training.grouping import RunGroup, group_runs, share_tensors
from eigencode.training.progress import show
from eigencode.training.run import TrainingRun
from eigencode.training.runner import Runner

Estimator = TypeVar("Estimator", bound=BaseAutoencoder)


@dataclass
class Job:
    """One estimator, its rows, and its run or its error."""

    model: BaseAutoencoder
    X: Any
    sample_weight: Any = None
    groups: Any = None
    checkpoint: Any = None
    error: EigencodeError | None = None
    run: TrainingRun | None = field(default=None, repr=False)
    begun_at: float = 0.0
    """The share of its steps, or of its time limit, from which this process trains it."""
    is_ended: bool = False
    """Whether a round ended it."""

    def begin(self) -> TrainingRun:
        """The run at its start, or where it has a checkpoint."""
        run = self.model._begin(self.X, self.sample_weight, groups=self.groups, checkpoint=self.checkpoint)
        self.begun_at = max(_share_of_steps(run), run.clock.trained_share)
        return run

    def was_beyond(self, share: float) -> bool:
        """Whether an earlier process has trained it beyond a share of its steps, or of its time limit."""
        return self.run is not None and self.begun_at > share

    def attempt(self, action: Callable[[], Any]) -> Any:
        """Call a function, and keep an `EigencodeError` that it raises."""
        try:
            return action()
        except EigencodeError as error:
            self.error = error
            return None


class Rounds(Protocol):
    """Models that are trained in rounds, after each of which some are ended.

    Attributes
    ----------
    shares : sequence of float
        The shares of all steps, or of the time limit, after which models are compared, in ascending order.
    """

    shares: Sequence[float]

    def poor(self, share: float) -> Iterable[Job]:
        """The jobs that end now."""


def fit_many(estimators: Sequence[Estimator], X: Any, sample_weight: Any = None, *, verbose: bool = False) -> list[str]:
    r"""Fit many estimators to one table, those of the same structure in one vectorised program.

    Models in one program may differ in seed, step size, widths, code size, and numbers such as a noise level, the
    weight of a penalty, or beta; each stops by itself. The result is that of separate fits up to rounding; with small
    networks it takes a fraction of the time. Models of other structures, with large networks, or with L-BFGS are
    trained one after the other.

    Parameters
    ----------
    estimators : sequence of autoencoders
        Not yet fitted; each is fitted in place.
    X : array-like of shape (n, d)
        As for an estimator's ``fit``.
    sample_weight : array-like of shape (n,), optional
        As for an estimator's ``fit``.
    verbose : bool, default False
        Whether to show a progress bar.

    Returns
    -------
    list of str
        How the models were trained: how many in one program, and how many separately, with the reason.

    Raises
    ------
    EigencodeError
        The error of the first estimator that could not be fitted; the others are fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from eigencode import Autoencoder, fit_many
    >>> models = [
    ...     Autoencoder(k, hidden=(32,), max_epochs=5, random_state=0) for k in (2, 4, 8)
    ... ]
    >>> fit_many(models, load_digits().data)
    ['3 models in one program']
    >>> errors = [model.best_objective_ for model in models]
    >>> errors == sorted(errors, reverse=True)
    True
    """
    if not isinstance(estimators, list | tuple):
        raise OptionError("The estimators must be a list of autoencoders", got=f"{estimators!r}")
    for model in estimators:
        if not isinstance(model, BaseAutoencoder):
            raise OptionError("Only autoencoders can be fitted together", got=f"{model!r}")
    if len({id(model) for model in estimators}) < len(estimators):
        raise OptionError("Each estimator can be fitted once", got="one of them twice", hint="Use sklearn.base.clone")
    jobs = [Job(model, X, sample_weight) for model in estimators]
    programs = []
    try:
        programs = fit_jobs(jobs, verbose=verbose)
    except KeyboardInterrupt:
        warn(InterruptedWarning.of_fit())
    for job in jobs:
        if job.error is not None:
            raise job.error
    return programs


def fit_jobs(jobs: Sequence[Job], *, verbose: bool = False, rounds: Rounds | None = None) -> list[str]:
    """Fit the model of each job, or keep its error; return how the models were trained.

    After an interruption each model whose training began has its best weights. With ``rounds`` some end early.
    """
    done: list[tuple[int, str | None]] = []
    try:
        with progress.stage("preparing", verbose):
            for job in jobs:
                job.run = job.attempt(partial(job.begin))
        runs = share_tensors([job.run for job in jobs if job.run is not None])
        for job, run in zip([job for job in jobs if job.run is not None], runs, strict=True):
            job.run = run  # so that equal tables are in memory once
        with show("models", runs, verbose):
            groups = group_runs([run for run in runs if run.recorder is None or not run.state.finished])
            train = _train if rounds is None else partial(_train_in_rounds, rounds=rounds)
            train(groups, done)
    except KeyboardInterrupt:
        for job in jobs:
            if job.run is not None and not job.run.state.finished:
                job.run.state.interrupted = True
        raise
    finally:
        for job in jobs:
            if job.run is not None:
                job.model._end(job.run, gives_answers=not job.is_ended)
                job.run = None
                job.attempt(job.model._require_finite)
    return _summary(done)


Done = list[tuple[int, str | None]]
"""Numbers of models that were trained together, or the reason why one was trained separately."""


def _train(groups: Iterable[RunGroup], done: Done) -> None:
    """Train group after group; each is made when it is needed."""
    for group in groups:
        done.append((len(group.runner.runs), group.reason))
        deque(loop.train_all(group.runner), maxlen=0)


class _Turns:
    """The training of one group, which is left for others and gone on with; their time is not counted in its own."""

    def __init__(self, runner: Runner) -> None:
        self._runner, self._training, self._left = runner, loop.train_all(runner), time.monotonic()

    def go_on(self, share: float) -> None:
        """Train up to a share of all steps, or of the time limit."""
        self._come_back()
        while any(not run.state.finished and _share(run) < share for run in self._runner.runs):
            if next(self._training, None) is None:
                break
        self._left = time.monotonic()

    def end(self, ended: Sequence[TrainingRun]) -> None:
        """End the training of some runs, also for later processes."""
        self._come_back()
        states = [run.state for run in ended]
        for run in self._runner.runs:
            if not run.state.finished and any(run.state is one for one in states):
                run.state.schedule.end, run.state.ended_by = run.state.step, "search"
                if run.recorder is not None:
                    run.recorder.write(run)

    def _come_back(self) -> None:
        """Do not count the time since it was left."""
        now = time.monotonic()
        self._runner.wait(now - self._left)
        self._left = now


def _train_in_rounds(groups: Iterable[RunGroup], done: Done, rounds: Rounds) -> None:
    """Train all groups to a share of their steps, end the poor models, and go on with the others."""
    all_groups = list(groups)
    turns = [_Turns(group.runner) for group in all_groups]
    done.extend((len(group.runner.runs), group.reason) for group in all_groups)
    for share in (*rounds.shares, math.inf):
        for one in turns:
            one.go_on(share)
        poor = list(rounds.poor(share)) if share < 1 else []
        for job in poor:
            job.is_ended = True
        for one in turns:
            one.end([job.run for job in poor if job.run is not None])


def _share(run: TrainingRun) -> float:
    """The share of its steps that a run has made, or of its time limit that has passed if that is more."""
    return max(_share_of_steps(run), run.clock.share)


def _share_of_steps(run: TrainingRun) -> float:
    """The share of its steps that a run has made; 0 if it has none to make."""
    return run.state.step / max(run.state.schedule.n_steps, 1)


def _summary(done: Sequence[tuple[int, str | None]]) -> list[str]:
    """How models were trained: the size of each program, and the reasons for separate training."""
    sizes = [n for n, reason in done if reason is None]
    alone: dict[str, int] = {}
    for n, reason in done:
        if reason is not None:
            alone[reason] = alone.get(reason, 0) + n
    programs = [f"{n} models in one program" for n in sizes]
    return [*programs, *(f"{n} separately: {reason}" for reason, n in alone.items())]
