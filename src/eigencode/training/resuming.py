"""The state of a run as plain values and tensors, and a run that goes on from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eigencode.training.run import TrainingRun
from eigencode.training.state import Snapshot, Unevaluated


def saved_run(run: TrainingRun, unevaluated: Unevaluated) -> dict[str, Any]:
    """A `SavedRun` as plain values and tensors."""
    start = run.state.start
    return {
        "state": run.state.state_dict(),
        "start": None if start is None else vars(start).copy(),
        "unevaluated": vars(unevaluated).copy(),
        "seconds": run.clock.elapsed,
    }


def resumed(run: TrainingRun, saved: dict[str, Any]) -> TrainingRun:
    """A run at its start, set to a state that was saved; `DataError` if that is another model's."""
    run.state.load_state_dict(saved["state"])
    run.state.start = None if saved["start"] is None else Snapshot(**saved["start"])
    run.state.unevaluated = Unevaluated(**saved["unevaluated"])
    return replace(run, clock=run.clock.after(saved["seconds"]))
