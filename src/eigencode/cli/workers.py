"""--processes: a command that starts itself in several processes, connected as by torchrun."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated

from cyclopts import Parameter, validators

from eigencode import invocation, processes, progress
from eigencode.cli.flags import FILES, INT, STREAM
from eigencode.cli.interruptions import Interruptions, heard
from eigencode.errors import OptionError
from eigencode.training.processors import processors

PARENT = "EIGENCODE_PARENT"
"""The variable by which a process knows the one that has started it."""

GRACE = 60.0
"""Seconds in which the other processes should notice that one has failed, before they are killed."""

_IS_LINUX = sys.platform == "linux"

Processes = Annotated[
    int | None,
    INT,
    Parameter(
        help="Processes on this machine that do the work together, with its processor cores divided among them.",
        group=FILES,
        validator=validators.Number(gte=1),
    ),
]


class StartProcesses(Exception):
    """The command has to be run in several processes."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.n = n


def divide(tables: Sequence[Path], n: int | None) -> None:
    """Go on in ``n`` processes, all of which read the tables, unless this process is one of several already."""
    if n is not None and n > 1 and processes.numbered()[1] == 1:
        if STREAM in tables:
            raise OptionError("Several processes cannot read standard input", hint="Write its rows to a file first")
        raise StartProcesses(n)


def run(n: int, tokens: Sequence[str], interruptions: Interruptions) -> int:
    """Run a command in several processes; return the exit code of the first of them that failed, else 0."""
    command = [*invocation.this_program(), *tokens]
    started = list[subprocess.Popen[bytes]]()
    with tempfile.TemporaryFile("w+") as others, tempfile.TemporaryDirectory() as folder:
        with heard(None):
            for rank in range(n):
                out, err = (None, None) if rank == 0 else (subprocess.DEVNULL, others)
                # In a session of its own, so that Ctrl-C reaches it once, by this process.
                own = {"env": _environment(rank, n, folder), "stdout": out, "stderr": err, "start_new_session": True}
                started.append(subprocess.Popen(command, **own))  # type: ignore[call-overload]
        with heard(lambda: _send(started[:1], signal.SIGUSR1)):  # the first process writes checkpoints
            return _reported(_wait(started, interruptions), others)


def _wait(started: Sequence[subprocess.Popen[bytes]], interruptions: Interruptions) -> list[int]:
    """The exit codes of processes, to which signals are passed on; if one fails, the others end soon."""
    ends = math.inf
    while True:
        try:
            while any(process.poll() is None for process in started):
                if ends == math.inf and any(0 != (process.poll() or 0) < 128 for process in started):
                    ends = time.monotonic() + GRACE
                _send(started, signal.SIGKILL if time.monotonic() > ends else 0)
                time.sleep(0.05)
            return [process.returncode for process in started]
        except KeyboardInterrupt:
            _send(started, interruptions.received[-1])


def _send(started: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    """Send a signal to the processes that run; 0 is none."""
    for process in started:
        if number and process.poll() is None:
            process.send_signal(number)


def _reported(codes: Sequence[int], others: IO[str]) -> int:
    """The exit code of all; the first process has said what it had to, the others are heard if they alone failed."""
    killed = [f"process {rank} by signal {-code}" for rank, code in enumerate(codes) if code < 0]
    if killed:
        progress.say(f"The command was ended: {', '.join(killed)}.")
    elif codes[0] == 0 and any(codes):
        others.seek(0)
        progress.say(others.read().strip())
    code = next((code for code in codes if code), 0)
    return 128 - code if code < 0 else code


def _environment(rank: int, size: int, folder: str) -> dict[str, str]:
    """The variables of a process, as torchrun sets them, and a folder by which it finds the others."""
    default = {"OMP_NUM_THREADS": max(processors() // size, 1)} | ({"GLOO_SOCKET_IFNAME": "lo"} if _IS_LINUX else {})
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, PARENT: os.getpid()}
    meeting = {processes.MEETING: os.path.join(folder, "store")}
    return {name: str(value) for name, value in {**default, **os.environ, **own, **meeting}.items()}


def end_with_parent() -> None:
    """End this process when the one that has started it was killed."""
    parent = os.environ.get(PARENT)
    if parent is not None and parent == str(os.getppid()):
        threading.Thread(target=_watch, args=[int(parent)], daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
