"""Claim: training thirty-two small models together takes a fifth of the time of one after the other, and two fifths of
that of two processes, with the same results.

    python benchmarks/many_models.py [--models 32] [--rounds 3]

Each is 64-32-8 on scikit-learn's 1797 digits, with its own seed, with batch size 32 and 'auto', for about 200 steps.
Only the training is timed, not starts, PCA and scaling. Each of two processes trains half of the models one after the
other.
"""

import argparse
import multiprocessing
import statistics
import time

from sklearn.datasets import load_digits

from eigencode import Autoencoder
from eigencode.training import loop
from eigencode.training.grouping import group_runs, share_tensors
from eigencode.training.runner import SingleRunner

EPOCHS = {32: 4, "auto": 15}
"""Epochs of about 200 steps, by the batch size; 'auto' is 128."""


def runs(seeds, batch_size):
    """Prepared models before the first step."""
    options = {"hidden": (32,), "batch_size": batch_size, "max_epochs": EPOCHS[batch_size]}
    models = [Autoencoder(8, random_state=seed, **options) for seed in seeds]
    return [model._begin(load_digits().data) for model in models]


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


def seconds(train, begun):
    """Seconds that a function takes."""
    began = time.perf_counter()
    train(begun)
    return time.perf_counter() - began


def half(connection, seeds, batch_size):
    """The work of one of two processes: prepare and train when told to, and wait otherwise."""
    while connection.recv():
        begun = runs(seeds, batch_size)
        connection.send("ready")
        connection.recv()
        one_by_one(begun)
        connection.send("done")


class TwoProcesses:
    """Two processes with half of the models each."""

    def __init__(self, n_models, batch_size):
        context = multiprocessing.get_context("spawn")
        self.pipes = [context.Pipe() for _ in range(2)]
        shares = (range(n_models // 2), range(n_models // 2, n_models))
        for (_, theirs), share in zip(self.pipes, shares, strict=True):
            context.Process(target=half, args=(theirs, share, batch_size), daemon=True).start()

    def seconds(self):
        """Seconds that both take, started at the same time."""
        for ours, _ in self.pipes:
            ours.send(True)
        for ours, _ in self.pipes:
            ours.recv()
        began = time.perf_counter()
        for ours, _ in self.pipes:
            ours.send(True)
        for ours, _ in self.pipes:
            ours.recv()
        return time.perf_counter() - began

    def end(self):
        """End both processes."""
        for ours, _ in self.pipes:
            ours.send(False)


def main():
    """Print the ratios of times, and the largest difference of weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for batch_size in EPOCHS:
        processes = TwoProcesses(options.models, batch_size)
        times = {"one by one": [], "two processes": [], "one program": []}
        for _ in range(options.rounds):
            alone, together = (runs(range(options.models), batch_size) for _ in range(2))
            times["one by one"].append(seconds(one_by_one, alone))
            times["two processes"].append(processes.seconds())
            times["one program"].append(seconds(as_one, together))
            vectors = [[run.state.parameters.vector for run in begun] for begun in (alone, together)]
            gaps = [a - b for a, b in zip(*vectors, strict=True)]
            apart = max(float(gap.detach().abs().max()) for gap in gaps)
        processes.end()
        medians = {name: statistics.median(values) for name, values in times.items()}
        steps = alone[0].state.step * options.models
        figures = ", ".join(f"{name} {1e6 * value / steps:.0f}" for name, value in medians.items())
        print(
            f"batch size {alone[0].batch_size}: us a step and model: {figures}; program against one by one "
            f"{medians['one by one'] / medians['one program']:.1f} (target 5), against two processes "
            f"{medians['two processes'] / medians['one program']:.1f} (target 2.5); weights apart by {apart:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
