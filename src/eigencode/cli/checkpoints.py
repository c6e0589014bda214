"""The flags of a fit's checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from eigencode import data
from eigencode.checkpoint import Checkpoint
from eigencode.cli.flags import FILES, PATHS
from eigencode.cli.interruptions import heard
from eigencode.errors import OptionError

FLAG = Parameter(show_default=False, group=FILES)


@dataclass(frozen=True)
class CheckpointFlags:
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
    checkpoint_rows: Annotated[int | None, FLAG, Parameter(help="Rows from one writing to the next.")] = None

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

    @property
    def signals(self) -> AbstractContextManager[None]:
        """The context of a fit: with a folder, SIGUSR1 asks for the state instead of ending the process."""
        return nullcontext() if self.checkpoint is None else heard()


NONE = CheckpointFlags()
"""No checkpoint."""
