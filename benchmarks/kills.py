"""A fit that is killed many times at random moments, beside the same fit without kills.

    python benchmarks/kills.py [--kills 100] [--seconds 12] [--rows 100000] [--columns 32] [--epochs 60] [--fork]

Each attempt is a process that gets SIGKILL after a random time, uniform from 0 to twice ``--seconds``; the last ends by
itself. Prints whether the weights are the same bits, the files that could not be read after a kill, and the time of
all attempts, without their start-ups and the steps that were made twice, as a multiple of the fit without kills: wall
time, and CPU time. With ``--fork`` attempts are copies of a process that has imported everything. Unix only.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import signal
import struct
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors

import eigencode
from eigencode.training.runner import SingleRunner


@dataclass
class Shared:
    """What the attempts tell, in memory that outlives them: steps made, and the seconds in which they were made."""

    memory: mmap.mmap
    began: tuple[float, float] | None = None
    before: tuple[float, ...] = ()

    @property
    def values(self) -> tuple[float, ...]:
        """Steps, seconds and seconds of CPU of all attempts."""
        return struct.unpack("ddd", self.memory[:24])

    def count(self) -> None:
        """Count a step of this process."""
        if self.began is None:
            self.began, self.before = (time.perf_counter(), time.process_time()), self.values
        spent = (time.perf_counter() - self.began[0], time.process_time() - self.began[1])
        steps = self.values[0] + 1
        self.memory[:24] = struct.pack("ddd", steps, self.before[1] + spent[0], self.before[2] + spent[1])


def fit(options: argparse.Namespace, output: Path, checkpoint: Path | None, shared: Shared) -> None:
    """Fit the model and save it."""
    step = SingleRunner.step

    def counted(*given: object) -> object:
        shared.count()
        return step(*given)  # type: ignore[arg-type]

    SingleRunner.step = counted  # type: ignore[assignment, method-assign]
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
        os.execv(options.python, [options.python, __file__, *line, *own])
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
    defaults = {"kills": 100, "seconds": 12.0, "rows": 100_000, "columns": 32, "width": 128, "epochs": 60, "seed": 0}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument("--fork", action="store_true")
    parser.add_argument("--attempt", nargs="+", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp()) if options.attempt is None else options.attempt[0].parent
    with open(folder / "counter", "ab+") as file:
        file.truncate(24)
        shared = Shared(mmap.mmap(file.fileno(), 24))
    if options.attempt is not None:
        fit(options, options.attempt[0], options.attempt[1] if len(options.attempt) > 1 else None, shared)
        return True
    return compare(options, folder, shared)


def compare(options: argparse.Namespace, folder: Path, shared: Shared) -> bool:
    """Fit without kills and with them, and print what differs."""
    os.waitpid(attempt(options, folder / "whole.safetensors", None, shared), 0)
    n_steps, *alone = shared.values
    shared.memory[:24] = bytes(24)
    chance, checkpoint, killed, damaged = random.Random(options.seed), folder / "run", 0, []
    while True:
        process = attempt(options, folder / "killed.safetensors", checkpoint, shared)
        end = time.monotonic() + chance.uniform(0, 2 * options.seconds)
        while (ended := os.waitpid(process, os.WNOHANG)[0]) == 0 and (
            killed >= options.kills or time.monotonic() < end
        ):
            time.sleep(0.002)
        if ended:
            break
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        killed, damaged = killed + 1, damaged + unreadable(checkpoint)
    made, *spent = shared.values
    first, second = (eigencode.load(folder / f"{name}.safetensors") for name in ("whole", "killed"))
    pairs = zip(first.composition_.state_dict().values(), second.composition_.state_dict().values(), strict=True)
    is_same = all(bool((a == b).all()) for a, b in pairs) and first.history_ == second.history_
    print(f"{killed} kills, {n_steps:.0f} steps, {made - n_steps:.0f} of them made twice; same bits: {is_same}")
    print(f"damaged files: {damaged or 'none'}")
    for name, without, seconds in zip(("wall", "CPU"), alone, spent, strict=True):
        own = seconds * n_steps / made
        print(f"{name}: steps in {without:.1f} s without kills, {own:.1f} s with kills: {own / without:.3f} times")
    return is_same and not damaged


if __name__ == "__main__":
    raise SystemExit(0 if main() else 1)
