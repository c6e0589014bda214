"""The memory that a plain model takes beside its rows and its answer, as multiples of the size of the rows.

    python benchmarks/memory.py [--rows 2000000] [--columns 50]

Prints the largest sum of anonymous and swapped memory of fit, transform, reconstruct and score_samples, less what the
process had before and less the answer; the exit code is 1 if one is above its bound. What the C library keeps of
earlier work is given back before each. The fit has two epochs: all later ones take the same memory. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from eigencode import Autoencoder

BOUNDS = {"fit": 1.2, "transform": 0.2, "reconstruct": 0.2, "score_samples": 0.1}


def own_memory() -> float:
    """Bytes of this process without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) * 1024.0


def most_of(work: Callable[[], object]) -> tuple[float, float, object]:
    """Bytes that some work takes at most, the seconds, and its answer."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = own_memory()
    most, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            most[0] = max(most[0], own_memory())

    thread, began = threading.Thread(target=watch, daemon=True), time.perf_counter()
    thread.start()
    answer = work()
    done.set()
    thread.join()
    return most[0] - before, time.perf_counter() - began, answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--columns", type=int, default=50)
    chosen = parser.parse_args()
    random = np.random.default_rng(0)
    rows = random.normal(size=(chosen.rows, chosen.columns)).astype(np.float32)
    rows[:, 1:] += rows[:, :1]
    model = Autoencoder(8, max_epochs=2, random_state=0)
    Autoencoder(8, max_epochs=1, random_state=0).fit(rows[:1000]).score_samples(rows[:1000])  # what imports take
    missed = 0
    for name, bound in BOUNDS.items():
        taken, seconds, answer = most_of(lambda name=name: getattr(model, name)(rows))
        beside = (taken - getattr(answer, "nbytes", 0)) / rows.nbytes
        missed += beside > bound
        print(f"{name:<14} {seconds:7.1f} s, {beside:5.2f} times the rows (bound {bound})", flush=True)
        del answer
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
