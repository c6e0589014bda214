"""The state of a run as plain values and tensors, from which a run in another process goes on."""

from __future__ import annotations

from typing import Any

from eigencode.training.run import TrainingRun
from eigencode.training.state import Snapshot, Unevaluated


def saved_run(run: TrainingRun, unevaluated: Unevaluated, fit: str) -> dict[str, Any]:
    """A `SavedRun` as plain values and tensors."""
    start = run.state.start
    return {
        "state": run.state.state_dict(),
        "start": None if start is None else vars(start).copy(),
        "unevaluated": vars(unevaluated).copy(),
        "seconds": run.clock.elapsed,
        "fit": fit,
    }


def restore(run: TrainingRun, saved: dict[str, Any]) -> None:
    """Set a run to a state that was saved; `DataError` if that is another model's."""
    run.state.load_state_dict(saved["state"])
    run.state.start = None if saved["start"] is None else Snapshot(**saved["start"])
    run.state.unevaluated = Unevaluated(**saved["unevaluated"])
