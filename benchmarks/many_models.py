"""Claim: training thirty-two small models together takes a sixth to a quarter of the processor time of one by one.

    python benchmarks/many_models.py [--models 32] [--rounds 3]

Each is 64-32-8 on scikit-learn's 1797 digits, with its own seed, with batch size 32 and 'auto', for about 200 steps, by
one thread. Only the training is timed, not starts, PCA and scaling; the time of these is printed too.
"""

import argparse
import statistics
import time

import torch
from sklearn.datasets import load_digits

from eigencode import Autoencoder
from eigencode.training import loop
from eigencode.training.grouping import group_runs, share_tensors
from eigencode.training.runner import SingleRunner

EPOCHS = {32: 4, "auto": 15}
"""Epochs of about 200 steps, by the batch size; 'auto' is 128."""


def runs(rows, seeds, batch_size):
    """Prepared models before the first step."""
    options = {"hidden": (32,), "batch_size": batch_size, "max_epochs": EPOCHS[batch_size]}
    models = [Autoencoder(8, random_state=seed, **options) for seed in seeds]
    return [model._begin(rows) for model in models]


def one_by_one(begun):
    """Train them one after the other."""
    for run in begun:
        for _ in loop.train_all(SingleRunner(run)):
            pass


def as_one(begun):
    """Train them together."""
    (group,) = group_runs(share_tensors(begun))
    for _ in loop.train_all(group.runner):
        pass


def seconds(train, begun, clock=time.perf_counter):
    """Seconds that a function takes."""
    began = clock()
    train(begun)
    return clock() - began


def main():
    """Print the ratios of times, and the largest difference of weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = load_digits().data
    for batch_size in EPOCHS:
        times = {"prepared": [], "one by one": [], "one program": []}
        for _ in range(options.rounds):
            began = time.process_time()
            alone = runs(rows, range(options.models), batch_size)
            times["prepared"].append(time.process_time() - began)
            together = runs(rows, range(options.models), batch_size)
            times["one by one"].append(seconds(one_by_one, alone, time.process_time))
            times["one program"].append(seconds(as_one, together, time.process_time))
            vectors = [[run.state.parameters.vector for run in begun] for begun in (alone, together)]
            gaps = [a - b for a, b in zip(*vectors, strict=True)]
            apart = max(float(gap.detach().abs().max()) for gap in gaps)
        medians = {name: statistics.median(values) for name, values in times.items()}
        prepared, steps = medians.pop("prepared") / options.models, alone[0].state.step * options.models
        figures = ", ".join(f"{name} {1e6 * value / steps:.0f}" for name, value in medians.items())
        print(
            f"batch size {alone[0].batch_size}: us a step and model: {figures}; program against one by one "
            f"{medians['one by one'] / medians['one program']:.1f} (target 8); prepared in {1e3 * prepared:.0f} ms a "
            f"model; weights apart by {apart:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
