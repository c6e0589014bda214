"""The memory that a model takes beside a frame of a million mixed rows, in fitting and in answers.

    python benchmarks/table_memory.py [--rows 1000000] [--columns 30] [--library pandas] [--steps 200]

A third of the columns are numbers, a third categories, the others counts, booleans, times and skewed amounts; one in
five has gaps. Prints the size of the frame, and the largest sum of anonymous and swapped memory since it was made, as
a multiple of that size; the exit code is 1 if one is above the bound of 3. What the C library keeps of earlier work is
given back before each. With ``--steps 0`` the model is prepared and not trained. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import narwhals as nw
import numpy as np
import pyarrow as pa

from eigencode import Autoencoder

BOUND = 3.0


def own_memory() -> float:
    """MB of this process without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) / 1e3


@contextmanager
def peak(name: str, before: float, size: float, above: list[str]) -> Iterator[None]:
    """Print the most memory within the block, beside what there was before the frame; note what is above the bound."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    most, done = [own_memory()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], own_memory())

    thread, began = threading.Thread(target=watch, daemon=True), time.perf_counter()
    thread.start()
    yield
    done.set()
    thread.join()
    times = (most[0] - before) / size
    seconds = time.perf_counter() - began
    above += [name] if times > BOUND else []
    print(f"{name:<12} {seconds:6.1f} s, {most[0] - before:6.0f} MB with the frame, {times:.2f} times", flush=True)


def column(number: int, n: int, rng: np.random.Generator) -> pa.Array:
    """A column of some type."""
    makers: list[Callable[[], pa.Array]] = [
        lambda: pa.array(rng.normal(size=n)),
        lambda: labels(rng, n, 2 + number),
        lambda: pa.array(rng.normal(size=n).astype(np.float32)),
        lambda: labels(rng, n, 3 + number // 2),
        lambda: pa.array(rng.lognormal(8, 2, n) * (rng.random(n) < 0.3)),
        lambda: pa.array(rng.random(n) < 0.2),
        lambda: pa.array(rng.normal(50, 9, n).round(1)),
        lambda: labels(rng, n, 4),
        lambda: pa.array(rng.poisson(3, n).astype(np.int32)),
        lambda: pa.array(np.datetime64("2020-01-01", "s") + rng.integers(0, 10**8, n)),
    ]
    made = makers[number % len(makers)]()
    if number % 5:
        return made
    return pa.compute.if_else(pa.array(rng.random(n) < 0.1), pa.scalar(None, made.type), made)


def labels(rng: np.random.Generator, n: int, n_labels: int) -> pa.Array:
    """A categorical column, as bytes and a dictionary."""
    indices = pa.array(rng.integers(0, n_labels, n).astype(np.int8))
    return pa.DictionaryArray.from_arrays(indices, [f"label {label}" for label in range(n_labels)])


def frame_of(n: int, n_columns: int, library: str) -> nw.DataFrame:
    """A frame of mixed columns."""
    rng = np.random.default_rng(0)
    table = pa.table({f"column {number}": column(number, n, rng) for number in range(n_columns)})
    if library == "pandas":
        return nw.from_native(table.to_pandas(split_blocks=True, self_destruct=True))
    return nw.from_arrow(table, backend=library)


def size_of(frame: nw.DataFrame) -> float:
    """MB of a frame."""
    native = frame.to_native()
    if hasattr(native, "memory_usage"):
        return float(native.memory_usage(deep=True).sum() / 1e6)
    return float(frame.to_arrow().nbytes / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--library", default="pandas", choices=["pandas", "polars", "pyarrow"])
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    options = {"n_components": 8, "hidden": (64,), "random_state": 0, "batch_size": 1024}
    warm = frame_of(2000, given.columns, given.library).to_native()
    Autoencoder(max_epochs=1, **options).fit(warm).impute(warm)
    before = own_memory()
    frame = frame_of(given.rows, given.columns, given.library)
    size, native = size_of(frame), frame.to_native()
    print(f"{given.rows:,} x {given.columns} ({given.library}): {size:.0f} MB; bound {BOUND} times with the frame")
    before = own_memory() - size
    above: list[str] = []
    with peak("fit", before, size, above):
        for row in (model := Autoencoder(max_epochs=min(given.steps, 1), **options)).iter_fit(native):
            print(f"  step {row['step']}: {row['rows'] / max(row['seconds'], 1e-9):,.0f} rows/s")
            if row["step"] >= given.steps:
                break
    print(f"  {model.columns_.n_cells} cells")
    answers = {
        "transform": lambda: model.transform(native),
        "score_samples": lambda: model.score_samples(native),
        "reconstruct": lambda: model.reconstruct(native),
        "impute": lambda: model.impute(native),
        "sample": lambda: model.sample(given.rows),
    }
    for name, answer in answers.items():
        with peak(name, before, size, above):
            answer()
    if above:
        sys.exit(f"above the bound: {', '.join(above)}")


if __name__ == "__main__":
    main()
