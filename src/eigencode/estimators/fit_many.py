"""Fitting many estimators, those of the same structure in one vectorised program."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from eigencode import progress
from eigencode.errors import EigencodeError, InterruptedWarning, OptionError
from eigencode.estimators.base import INTERRUPTION, BaseAutoencoder
from eigencode.training import loop
from eigencode.training.grouping import group_runs, share_tensors
from eigencode.training.progress import show
from eigencode.training.run import TrainingRun

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

    def begin(self) -> TrainingRun:
        """The run at its start, or where it has a checkpoint."""
        return self.model._begin(self.X, self.sample_weight, groups=self.groups, checkpoint=self.checkpoint)

    def attempt(self, action: Callable[[], Any]) -> Any:
        """Call a function, and keep an `EigencodeError` that it raises."""
        try:
            return action()
        except EigencodeError as error:
            self.error = error
            return None


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
        warnings.warn(INTERRUPTION, InterruptedWarning, stacklevel=2)
    for job in jobs:
        if job.error is not None:
            raise job.error
    return programs


def fit_jobs(jobs: Sequence[Job], *, verbose: bool = False) -> list[str]:
    """Fit the model of each job, or keep its error; return how the models were trained.

    After an interruption each model whose training began has its best weights.
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
            for group in group_runs([run for run in runs if run.recorder is None or not run.state.finished]):
                n_models = len(group.runner.runs)
                deque(loop.train_all(group.runner), maxlen=0)
                done.append((n_models, group.reason))
    except KeyboardInterrupt:
        for job in jobs:
            if job.run is not None and not job.run.state.finished:
                job.run.state.interrupted = True
        raise
    finally:
        for job in jobs:
            if job.run is not None:
                job.model._end(job.run)
                job.run = None
                job.attempt(job.model._require_finite)
    return _summary(done)


def _summary(done: Sequence[tuple[int, str | None]]) -> list[str]:
    """How models were trained: the size of each program, and the reasons for separate training."""
    sizes = [n for n, reason in done if reason is None]
    alone: dict[str, int] = {}
    for n, reason in done:
        if reason is not None:
            alone[reason] = alone.get(reason, 0) + n
    programs = [f"{n} models in one program" for n in sizes]
    return [*programs, *(f"{n} separately: {reason}" for reason, n in alone.items())]
