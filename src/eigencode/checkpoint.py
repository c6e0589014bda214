"""Checkpoint: where and how often a fit writes its state; and signals that wait until it is written."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

from eigencode.errors import OptionError, as_path


@dataclass(frozen=True)
class Checkpoint:
    """The folder in which a fit keeps its state, so that the same call goes on there after the process was killed.

    The result is that of a fit that was not killed: on the same processor the same bits. A time limit counts the
    seconds of all attempts. When the fit is finished the same call does not train again.

    Parameters
    ----------
    folder : path-like
        Made if it does not exist. It belongs to one fit: other options or rows are an error.
    minutes : float, optional
        Minutes from one writing to the next.
    rows : int, optional
        Training rows from one writing to the next. Without both, the state is written as often as takes one percent of
        the time, and not more than once a second.
    verbose : bool, default False
        Whether to say on standard error from where a fit goes on.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import Autoencoder, Checkpoint
    >>> X, folder = load_wine().data, tempfile.mkdtemp()
    >>> checkpoint = Checkpoint(folder, minutes=5)
    >>> model = Autoencoder(2, random_state=0).fit(X, checkpoint=checkpoint)
    >>> # finished: nothing is trained
    >>> again = Autoencoder(2, random_state=0).fit(X, checkpoint=folder)
    >>> bool((again.transform(X) == model.transform(X)).all())
    True
    """

    folder: str | os.PathLike[str]
    minutes: float | None = None
    rows: int | None = None
    verbose: bool = False
    is_derived: bool = False
    """Whether the rows are made by another model, whose own folder says from which rows."""

    def __post_init__(self) -> None:
        as_path(self.folder)
        _check_positive("minutes", self.minutes, Real, "a number")
        _check_positive("rows", self.rows, Integral, "a whole number")

    @classmethod
    def of(cls, given: Any) -> Checkpoint | None:
        """A checkpoint, or that of a folder; None for None."""
        return given if given is None or isinstance(given, cls) else cls(given)

    def within(self, name: str, is_derived: bool = False) -> Checkpoint:
        """The checkpoint of a model that is fitted as a part of this one."""
        return replace(self, folder=os.path.join(as_path(self.folder), name), is_derived=is_derived)


def _check_positive(name: str, value: Any, kind: type, described: str) -> None:
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    if value is not None and not (is_number and 0 < value < float("inf")):
        raise OptionError(f"{name!r} of a checkpoint must be {described} above 0, or None", got=f"{value!r}")


@dataclass
class Requests:
    """What signals ask of the run in the main thread; it looks after each step, writes its state, and then obeys.

    Attributes
    ----------
    to_write, to_stop : bool
        Whether the state is to be written, and whether training is to end after that.
    are_heard : bool
        Whether a run looks.
    """

    to_write: bool = False
    to_stop: bool = False
    are_heard: bool = False

    @contextmanager
    def heard(self, looks: bool) -> Iterator[None]:
        """Steps of a run, which looks if it has a checkpoint."""
        self.are_heard = looks and threading.current_thread() is threading.main_thread()
        try:
            yield
        finally:
            self.are_heard = self.to_stop = False

    def write(self) -> None:
        """Ask for the state to be written."""
        self.to_write = True

    def stop(self) -> bool:
        """Ask a run to stop; return whether one looks."""
        self.to_stop = self.are_heard
        return self.are_heard

    def obey(self) -> None:
        """Raise `KeyboardInterrupt` if the run is to stop."""
        if self.to_stop:
            self.to_stop = False
            raise KeyboardInterrupt


SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that interrupt training, as far as the system has them."""

REQUESTS = Requests()
"""The requests of the signals of this process."""
