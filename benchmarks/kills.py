"""A fit that is killed many times at random moments, beside the same fit without kills.

    python benchmarks/kills.py [--kills 100] [--seconds 12] [--rows 100000] [--columns 32] [--epochs 60]
                               [--steps 500] [--fork]

Both run at the same time, so that they share what else the machine does. Each attempt is a process that gets SIGKILL
after a random time, uniform from 0 to twice ``--seconds``, or after a random number of steps, uniform from 0 to twice
``--steps``, if that comes first, both counted from its first step, so that the kills are spread over the run on a busy
machine too, where a start-up can take longer than ``--seconds``; the last ends by itself. Prints whether the
weights are the same bits, the files that could not be read after a kill, and the time of all attempts, without their
start-ups and the steps that were made twice, as a multiple of the fit without kills: wall time, and CPU time. It prints
the share of the CPU time that writing checkpoints took, too: with ``--kills 0`` that of a fit that nothing interrupts.
With ``--fork`` attempts are copies of a process that has imported everything. Unix only.
"""

from __future__ import annotations

import argparse
import math
import mmap
import os
import random
import signal
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors

import eigencode
from eigencode.io.checkpoints import CheckpointFolder
from eigencode.training.runner import SingleRunner


@dataclass
class Shared:
    """What the attempts tell, in memory that outlives them: steps made, and the seconds in which they were made."""

    memory: mmap.mmap
    began: tuple[float, float] | None = None
    before: tuple[float, ...] = ()
    writing: float = 0.0

    @classmethod
    def beside(cls, output: Path) -> Shared:
        """What the attempts that are to write ``output`` tell."""
        with open(output.with_suffix(".counter"), "ab+") as file:
            file.truncate(32)
            return cls(mmap.mmap(file.fileno(), 32))

    @property
    def values(self) -> tuple[float, ...]:
        """Steps, seconds, seconds of CPU, and those of them that writing took, of all attempts."""
        return struct.unpack("dddd", self.memory[:32])

    def count(self) -> None:
        """Count a step of this process."""
        if self.began is None:
            self.began, self.before = (time.perf_counter(), time.process_time()), self.values
            self.writing = 0.0  # what was written before the first step is not among the seconds of steps either
        spent = (time.perf_counter() - self.began[0], time.process_time() - self.began[1], self.writing)
        seconds = [before + own for before, own in zip(self.before[1:], spent, strict=True)]
        self.memory[:32] = struct.pack("dddd", self.values[0] + 1, *seconds)


def fit(options: argparse.Namespace, output: Path, checkpoint: Path | None, shared: Shared) -> None:
    """Fit the model and save it."""
    step, write = SingleRunner.step, CheckpointFolder.write_first

    def counted(*given: object) -> object:
        shared.count()
        return step(*given)  # type: ignore[arg-type]

    def timed(*given: object) -> None:
        began = time.process_time()
        write(*given)  # type: ignore[arg-type]
        shared.writing += time.process_time() - began

    SingleRunner.step, CheckpointFolder.write_first = counted, timed  # type: ignore[assignment, method-assign]
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(options.rows, 4)).astype(np.float32)
    X = np.tanh(codes @ rng.normal(size=(4, options.columns)).astype(np.float32))
    X += 0.1 * rng.normal(size=X.shape).astype(np.float32)
    model = eigencode.VariationalAutoencoder(
        8, hidden=(options.width,), max_epochs=options.epochs, patience=10**6, optimizer="adam", random_state=0
    )
    model.fit(X, checkpoint=checkpoint).save(output)


def attempt(options: argparse.Namespace, output: Path, checkpoint: Path | None, shared: Shared) -> int:
    """The number of a new process that fits the model."""
    if (number := os.fork()) == 0:
        if options.fork:
            fit(options, output, checkpoint, shared)
            os._exit(0)
        line = [
            str(value)
            for name in ("rows", "columns", "width", "epochs")
            for value in (f"--{name}", vars(options)[name])
        ]
        own = ["--attempt", str(output), *([str(checkpoint)] if checkpoint else [])]
        os.execv(sys.executable, [sys.executable, __file__, *line, *own])
    return number


def unreadable(folder: Path) -> list[str]:
    """The files of a checkpoint that are not whole."""
    found = []
    for path in folder.glob("*.safetensors"):
        try:
            with safetensors.safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    file.get_tensor(name)
        except Exception as error:
            found.append(f"{path.name}: {error}")
    return found


def main() -> bool:
    """Run it; whether all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {
        "kills": 100,
        "seconds": 12.0,
        "rows": 100_000,
        "columns": 32,
        "width": 128,
        "epochs": 60,
        "steps": 500,
        "seed": 0,
    }
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--fork", action="store_true")
    parser.add_argument("--attempt", nargs="+", type=Path)
    options = parser.parse_args()
    if options.attempt is not None:
        fit(
            options,
            options.attempt[0],
            options.attempt[1] if options.attempt[1:] else None,
            Shared.beside(options.attempt[0]),
        )
        return True
    return compare(options, Path(tempfile.mkdtemp()))


def kill_often(options: argparse.Namespace, output: Path, checkpoint: Path, shared: Shared) -> tuple[int, list[str]]:
    """Fit with kills; the number of kills, and the damaged files that were found after them."""
    chance, killed = random.Random(options.seed), 0
    damaged: list[str] = []
    while True:
        process = attempt(options, output, checkpoint, shared)
        first, end = shared.values[0], math.inf
        seconds, steps = chance.uniform(0, 2 * options.seconds), chance.uniform(0, 2 * options.steps)
        while (ended := os.waitpid(process, os.WNOHANG)[0]) == 0 and (
            killed >= options.kills or (time.monotonic() < end and shared.values[0] < first + max(1, steps))
        ):
            if end == math.inf and shared.values[0] > first:
                end = time.monotonic() + seconds
            time.sleep(chance.uniform(0, 0.01))
        if ended:
            return killed, damaged
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        killed, damaged = killed + 1, damaged + unreadable(checkpoint)


def compare(options: argparse.Namespace, folder: Path) -> bool:
    """Fit without kills and with them, and print what differs."""
    outputs = [folder / "whole.safetensors", folder / "killed.safetensors"]
    whole, shared = (Shared.beside(output) for output in outputs)
    alone = attempt(options, outputs[0], None, whole)
    killed, damaged = kill_often(options, outputs[1], folder / "run", shared)
    os.waitpid(alone, 0)
    n_steps, *without, _ = whole.values
    made, *spent, writing = shared.values
    first, second = (eigencode.load(output) for output in outputs)
    pairs = zip(first.composition_.state_dict().values(), second.composition_.state_dict().values(), strict=True)
    is_same = all(bool((a == b).all()) for a, b in pairs) and first.history_ == second.history_
    print(f"{killed} kills, {n_steps:.0f} steps, {made - n_steps:.0f} of them made twice; same bits: {is_same}")
    print(f"damaged files: {damaged or 'none'}")
    for name, seconds, total in zip(("wall", "CPU"), without, spent, strict=True):
        own = total * n_steps / made
        print(f"{name}: steps in {seconds:.1f} s without kills, {own:.1f} s with kills: {own / seconds:.3f} times")
    print(f"writing checkpoints: {100 * writing / spent[1]:.2f} % of the CPU time of the steps")
    return is_same and not damaged


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
