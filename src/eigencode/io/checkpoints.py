"""CheckpointFolder: the states of a run in a folder, the last two of them, each a file that is whole or not there.

``fit.json`` says which fit the folder belongs to: its options, its seed and its rows. Each state is a file named by its
number of steps. The process that uses the folder has a lock on the file ``lock``, which ends with the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from eigencode import checkpoint, processes, progress
from eigencode.data.writing import atomic_write, is_lockable, make_folder
from eigencode.errors import FileAccessError, FileError, StorageError, as_path, file_error, warn
from eigencode.io import storage
from eigencode.io.decoding import typed
from eigencode.io.earlier import with_added
from eigencode.training.resuming import restore, saved_run
from eigencode.training.run import TrainingRun
from eigencode.training.state import SavedRun, Unevaluated

FIT, LOCK, ENDING = "fit.json", "lock", ".safetensors"
"""Names of the files."""

STATE = re.compile(rf"\d{{12}}{re.escape(ENDING)}")
"""The name of a state: its number of steps."""

KEPT = 2
"""States that are kept: the last one, and one in case that it is damaged."""

SHARE, LEAST_SECONDS = 0.01, 1.0
"""Share of the time that writing takes, unless the user says when to write; the least seconds between two states."""


class CheckpointFolder:
    """The recorder of a run: writes its states into a folder, which no other process uses meanwhile.

    Parameters
    ----------
    settings : Checkpoint
        The folder, and how often the state is written.

    Raises
    ------
    FileError
        If the folder cannot be used.
    """

    def __init__(self, settings: checkpoint.Checkpoint) -> None:
        self.settings, self.path = settings, as_path(settings.folder)
        make_folder(self.path)
        with self._usable():
            self._lock = open(os.path.join(self.path, LOCK), "ab")  # noqa: SIM115 (closed at the end of the run)
        self._require_alone()
        self._n_rows, self._due, self._failure = 0, 0.0, ""
        self._found: dict[str, Any] | None = None
        self._fit = ""

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Errors of the system, as for a file of another user's, are errors of this package."""
        try:
            yield
        except FileError:
            raise
        except OSError as error:
            what = f"{os.path.basename(error.filename or '')!r} in the checkpoint folder {self.path!r} cannot be used"
            got = f"the error {error.strerror or error}"
            raise file_error(error, what, got=got, hint="Give another folder") from error

    def _require_alone(self) -> None:
        """Lock the folder; the system removes the lock when the process ends, however it ends."""
        if processes.is_first() and not is_lockable(self._lock):
            self.close()
            what = f"Another run uses the checkpoint folder {self.path!r}"
            raise FileAccessError(what, hint="Wait until it has ended, or give this run another folder")

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.close()

    # -- the fit that the folder belongs to

    def begun(self) -> dict[str, Any] | None:
        """What was written about the fit when it began; None if the folder is new."""
        path = os.path.join(self.path, FIT)
        if not os.path.lexists(path):
            return None
        try:
            with self._usable(), open(path, "rb") as file:
                content = file.read()
            found: dict[str, Any] = typed(dict[str, Any], json.loads(content), FIT)
            self._fit = _hash_of(content)
            return found
        except (ValueError, RecursionError) as error:
            raise StorageError(f"{path!r} is damaged", got=f"the error {error}", hint="Give another folder") from error

    def begin(self, fit: Mapping[str, Any]) -> None:
        """Write what the fit is."""
        content = json.dumps(fit, indent=1).encode()
        with atomic_write(os.path.join(self.path, FIT)) as file:
            file.write(content)
        self._fit = _hash_of(content)

    # -- reading

    def recording(self, run: TrainingRun) -> TrainingRun:
        """A run at its start whose states go into this folder; its clock counts the seconds of earlier attempts."""
        self._found = processes.agreed(self._last(str(run.device)) if processes.is_first() else None)
        seconds = 0.0 if self._found is None else self._found["seconds"]
        return replace(run, recorder=self, clock=run.clock.resumed(seconds))

    def not_recording(self, run: TrainingRun) -> TrainingRun:
        """A run that is not trained, since an interruption ended what comes before it."""
        self.close()
        return run

    def resume(self, run: TrainingRun) -> bool:
        """Set a run at its start to the last state in the folder; return False if there is none."""
        if self._found is None:
            return False
        restore(run, with_added(self._found, run.state.buffers))
        self._found = None
        self._n_rows, self._due = run.state.rows, time.monotonic() + self._wait(0.0)
        if self.settings.verbose and processes.is_first():
            done = "is finished: nothing is trained" if run.state.finished else f"goes on from step {run.state.step:,}"
            progress.say(f"The fit in {self.path!r} {done}.")
        return True

    def _last(self, device: str) -> dict[str, Any] | None:
        """The last state that is not damaged; None if there is none."""
        for path in (paths := self._states()):
            try:
                found = storage.read_value(path, SavedRun, device)
                if found["fit"] != self._fit:
                    raise StorageError(f"{path!r} is a state of another fit than that in {FIT!r}")
            except StorageError as error:
                damage = str(StorageError(error.what, got=error.got))  # no advice on models
                continue
            if path != paths[0]:
                warn(f"{damage} Training goes on from {path!r}, the one before.")
            return found
        if paths:
            hint = "Give another folder to begin again"
            raise StorageError(f"No state in {self.path!r} can be used", got=damage, hint=hint)
        return None

    def _states(self) -> list[str]:
        """The files of the states, the last one first; other files, as a model that was saved here, are left alone."""
        with self._usable():
            names = [name for name in os.listdir(self.path) if STATE.fullmatch(name)]
        return [os.path.join(self.path, name) for name in sorted(names, reverse=True)]

    # -- writing

    def offer(self, run: TrainingRun, unevaluated: Callable[[], Unevaluated]) -> None:
        """Write the state if it is time to, or if a signal asks for it; `KeyboardInterrupt` if one asks to stop."""
        requests = checkpoint.REQUESTS
        if requests.to_write or requests.to_stop or self._is_due(run):
            requests.to_write = False
            self.write(run, unevaluated())
        requests.obey()

    def _is_due(self, run: TrainingRun) -> bool:
        rows = self.settings.rows
        return time.monotonic() >= self._due or (rows is not None and run.state.rows >= self._n_rows + rows)

    def write(self, run: TrainingRun, unevaluated: Unevaluated | None = None) -> None:
        """Write the state; a failure is a warning, since the run is worth more than a state of it."""
        try:
            self.write_first(run, unevaluated)
        except FileError as error:
            self._say(error)

    def write_first(self, run: TrainingRun, unevaluated: Unevaluated | None = None) -> None:
        """Write the state, and remove all but the last two; `FileError` if it cannot be written.

        Of several processes, all of which have the same state, the first one writes. Weights that are not finite are
        not worth it: a run that goes on from the state before comes to them, too, and then back to its best ones.
        """
        if not (processes.is_first() and run.state.is_finite):
            return
        began = time.monotonic()
        path = os.path.join(self.path, f"{run.state.step:012}{ENDING}")
        try:
            storage.write_value(path, saved_run(run, unevaluated or run.state.unevaluated, self._fit))
            self._sync()
            with self._usable():
                for path in self._states()[KEPT:]:
                    os.unlink(path)
        finally:
            self._n_rows, now = run.state.rows, time.monotonic()
            self._due = now + self._wait(now - began)

    def _wait(self, cost: float) -> float:
        """Seconds to the next state, if the last one took ``cost``."""
        if self.settings.minutes is not None:
            return 60 * self.settings.minutes
        return max(cost / SHARE, LEAST_SECONDS) if self.settings.rows is None else float("inf")

    def _sync(self) -> None:
        """Have the names of the files on the disk, before earlier files are removed."""
        with suppress(OSError):  # a folder cannot be opened on some systems
            number = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)

    def _say(self, error: FileError) -> None:
        """Warn of a failure to write, once for each kind."""
        if str(error.got) != self._failure:
            self._failure = str(error.got)
            names = [os.path.basename(path) for path in self._states()[:1]]
            last = f"the last state is {names[0]}" if names else "there is no state"
            warn(f"{error} The fit goes on, and {last}.")


def _hash_of(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
