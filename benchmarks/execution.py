"""Microseconds per training step by its number of multiplications, for the rule on threads and bfloat16.

    python benchmarks/execution.py

For each network and batch, a step in float32 on one thread and on all, and in bfloat16 on all. The thresholds in
`eigencode.training.execution` should be where another choice becomes faster.
"""

import statistics
import time

import numpy as np
import torch

from eigencode import Autoencoder
from eigencode.training import execution

WORK = [
    (16, (32,), 32),
    (64, (32,), 64),
    (64, (32,), 256),
    (64, (128,), 256),
    (128, (256, 128), 128),
    (128, (256, 128), 256),
    (256, (512, 256), 256),
    (784, (512, 256), 256),
    (784, (1000, 500, 250), 1024),
]


def epochs(d, hidden, batch_size, precision, n_threads):
    """Seconds per step, for each epoch."""
    n = batch_size * 8
    rows = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    model = Autoencoder(
        8, hidden=hidden, batch_size=batch_size, precision=precision, max_epochs=10_000, patience=10_000,
        validation_fraction=1 / n, random_state=0,
    )  # fmt: skip
    chosen = execution.choose_execution
    try:
        # The rule is what is measured, so it is not used here.
        from eigencode.fitting import run as runs

        runs.choose_execution = lambda *_: execution.Execution("cpu", precision, n_threads)
        run = model.iter_fit(rows)
    finally:
        runs.choose_execution = chosen
    weights = sum(p.numel() for p in model.composition_.parameters())
    while True:
        began = time.perf_counter()
        next(run)
        yield weights * batch_size, (time.perf_counter() - began) / 8


def main():
    """Print a row for each network and batch."""
    threads = torch.get_num_threads()
    print(f"{threads} threads, bfloat16 units: {execution.has_bfloat16_units('cpu')}")
    print(f"{'multiply-adds':>14} {'1 thread':>10} {f'{threads} threads':>10} {'bfloat16':>10}  the rule")
    for d, hidden, batch_size in WORK:
        sides = [("float32", 1), ("float32", threads), ("bfloat16", threads)]
        runs = [epochs(d, hidden, batch_size, *side) for side in sides]
        times = [[], [], []]
        for _ in range(9):
            for run, found in zip(runs, times, strict=True):
                work, seconds = next(run)
                found.append(seconds)
        torch.set_num_threads(threads)
        rule = execution.choose_execution("cpu", "auto", work)
        medians = " ".join(f"{statistics.median(found[2:]) * 1e6:10.0f}" for found in times)
        print(f"{work:14.2e} {medians}  {rule.precision}, {rule.n_threads}")


if __name__ == "__main__":
    main()
