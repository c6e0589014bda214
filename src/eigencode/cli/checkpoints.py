"""The flags of what a fit keeps beside its model: the state of the training, and the log of its history."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from eigencode import data, progress, tracking
from eigencode.checkpoint import Checkpoint
from eigencode.cli.flags import FILES, INT, PATHS
from eigencode.cli.interruptions import heard
from eigencode.errors import InterruptedWarning, OptionError, warn

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

FLAG = Parameter(show_default=False, group=FILES)


@dataclass(frozen=True)
class StateFlags:
    """Where the state of the training is kept, and how often it is written."""

    checkpoint: Annotated[
        Path | None,
        PATHS,
        FLAG,
        Parameter(
            help="Folder for the state of the training: after a kill the same command goes on there, and gives the "
            "same model. SIGUSR1 has it written at once."
        ),
    ] = None
    checkpoint_minutes: Annotated[
        float | None, FLAG, Parameter(help="Minutes from one writing to the next; by default 1 % of the time is spent.")
    ] = None
    checkpoint_rows: Annotated[int | None, INT, FLAG, Parameter(help="Rows from one writing to the next.")] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The argument of ``fit``, checked: a folder that can be written to."""
        if self.checkpoint is None:
            if self.checkpoint_minutes is not None or self.checkpoint_rows is not None:
                raise OptionError("--checkpoint-minutes and --checkpoint-rows need a folder", hint="Give --checkpoint")
            return {}
        settings = Checkpoint(self.checkpoint, self.checkpoint_minutes, self.checkpoint_rows, verbose=True)
        data.make_folder(self.checkpoint)
        return {"checkpoint": settings}

    @contextmanager
    def signals(self) -> Iterator[None]:
        """The context of a fit: with a folder, SIGUSR1 asks for the state instead of ending the process."""
        if self.checkpoint is None:
            yield
            return
        try:
            with heard():
                yield
        except KeyboardInterrupt:  # before there was a model, as in the folds of a sweep
            progress.say("The same command goes on from its checkpoint.")
            raise


@dataclass(frozen=True)
class CheckpointFlags(StateFlags):
    """Where the state of the training is kept, and where its history is logged."""

    log: Annotated[
        str | None, FLAG, Parameter(help="Where to log the history while training: tensorboard:DIR or mlflow:URI.")
    ] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The argument of ``fit``, as without a log, which is checked first."""
        if self.log is not None:
            tracking.system_of(self.log)
        return super().arguments

    def fit(self, model: BaseAutoencoder, X: Any, arguments: Mapping[str, Any]) -> None:
        """Fit a model; an interruption of a fit that is logged keeps the best weights so far, as without a log."""
        if self.log is None:
            model.fit(X, **arguments)
            return
        with progress.stage(f"training, logged to {self.log}"):
            epochs = model.iter_fit(X, **arguments)
            try:
                deque(tracking.tracked(epochs, self.log, model.get_params(deep=False)), maxlen=0)
            except KeyboardInterrupt:
                with suppress(KeyboardInterrupt):
                    epochs.throw(KeyboardInterrupt)  # sets the best weights
                warn(InterruptedWarning.of_fit(self.checkpoint is not None))


NONE = CheckpointFlags()
NO_STATE = StateFlags()
