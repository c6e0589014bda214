"""The memory of a process that fits a memory-mapped table of 4 GB, without the pages of the file.

    python benchmarks/mapped_rows.py [--gigabytes 4] [--columns 20] [--seconds 120] [--folder DIR]

Prints the largest sum of anonymous and swapped memory seen, sampled ten times a second, and the rows per
second. The bound is 700 MB. Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from eigencode import Autoencoder

BOUND = 700.0


def own_memory() -> float:
    """MB of this process without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) / 1e3


def write(path: Path, n_rows: int, n_columns: int) -> None:
    """Write rows near a curved surface of four dimensions, a block at a time."""
    table = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, n_columns))
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, n_columns))
    for first in range(0, n_rows, 2**16):
        rows = table[first : first + 2**16]
        rows[:] = np.tanh(rng.normal(size=(len(rows), 4)) @ weights) + 0.3 * rng.normal(size=(len(rows), n_columns))
    table.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=120.0, help="time limit of the training")
    parser.add_argument("--folder", help="folder of the file; the system's temporary folder by default")
    given = parser.parse_args()
    most, done = [own_memory()], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            most[0] = max(most[0], own_memory())

    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "rows.npy"
        write(path, int(given.gigabytes * 1e9 / 4 / given.columns), given.columns)
        table = np.load(path, mmap_mode="r")
        threading.Thread(target=watch, daemon=True).start()
        began = time.perf_counter()
        model = Autoencoder(4, max_seconds=given.seconds, random_state=0).fit(table)
        seconds = time.perf_counter() - began
        done.set()
        history = model.history_
        print(f"{table.shape[0]:,} x {table.shape[1]}, {table.nbytes / 1e9:.1f} GB: {seconds:.0f} s in all")
        start = history[0]["validation_objective"]
        print(f"validation objective {start:.3f} at the start, {model.best_objective_:.3f} at best")
        print(f"{history[-1]['rows'] / history[-1]['seconds']:,.0f} rows/s while training")
        print(f"own memory {most[0]:.0f} MB at most: {'within' if most[0] < BOUND else 'beyond'} {BOUND:.0f} MB")


if __name__ == "__main__":
    main()
