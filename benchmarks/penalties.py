"""Claim: penalties and sparse codes take little time compared with the rest of a step.

    python benchmarks/penalties.py [--rounds 9] [--columns 784] [--units 1000]

Ratios of the processor's time for a training step of 256 rows of 784 columns on one thread, in bfloat16 if the
processor has units for it and the step is long enough: the contractive penalty of one layer of 1000 sigmoid units in
closed form (target 1.3) and by Hutchinson's estimate (2.5), of a deep encoder 784-512-32 (reported), and the top 25 of
1000 units compared with ReLU (1.15), alone and with the other terms of `SparseAutoencoder`: atoms of unit length and
the auxiliary loss for dead units (reported). Then codes that are found by an iteration, `code="optimal"`, beside those
of an encoder (3).
"""

import argparse
import statistics
import time

import numpy as np
import torch

from eigencode import Autoencoder, ContractiveAutoencoder, SparseAutoencoder
from eigencode.parts import Point, TopK
from eigencode.training.runner import SingleRunner

ROWS = 256

SHARED = {"init": "random", "scale": "none", "optimizer": "adam", "batch_size": ROWS, "random_state": 0}
DEEP = {"n_components": 32, "hidden": (512,), **SHARED}


def models(n_units):
    """The models by name, with so many units in the one layer of those that have one."""
    layer = {"n_components": n_units, "hidden": (), **SHARED}
    sparse = {**layer, "sparsity": "top_k", "active": min(25, n_units // 4)}
    return {
        "sigmoid": Autoencoder(**layer, code=Point("sigmoid")),
        "closed form": ContractiveAutoencoder(**layer, code=Point("sigmoid"), estimate="exact"),
        "Hutchinson": ContractiveAutoencoder(**layer, code=Point("sigmoid"), estimate="hutchinson"),
        "deep": Autoencoder(**DEEP),
        "deep, exact": ContractiveAutoencoder(**DEEP, estimate="exact"),
        "deep, Hutchinson": ContractiveAutoencoder(**DEEP, estimate="hutchinson"),
        "ReLU": Autoencoder(**layer, code=Point("relu")),
        "top-k": Autoencoder(**layer, code=TopK(sparse["active"])),
        "top-k, unit atoms, revival": SparseAutoencoder(**sparse),
        "top-k, optimal": SparseAutoencoder(**sparse, code="optimal"),
        "L1": SparseAutoencoder(**layer, sparsity="l1"),
        "L1, optimal": SparseAutoencoder(**layer, sparsity="l1", code="optimal"),
    }


CLAIMS = [
    ("closed form", "sigmoid", 1.3),
    ("Hutchinson", "sigmoid", 2.5),
    ("deep, exact", "deep", None),
    ("deep, Hutchinson", "deep", None),
    ("top-k", "ReLU", 1.15),
    ("top-k, unit atoms, revival", "ReLU", None),
    ("top-k, optimal", "top-k, unit atoms, revival", 3),
    ("L1, optimal", "L1", 3),
]


def main():
    """Print the ratios and their targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--columns", type=int, default=784)
    parser.add_argument("--units", type=int, default=1000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(3000, options.columns)).astype(np.float32)
    runs = {name: model._begin(X) for name, model in models(options.units).items()}
    runners = {name: SingleRunner(run) for name, run in runs.items()}
    seconds = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            for numbers in run.rows.training[: 3 * ROWS].split(ROWS):
                began = time.process_time()
                runners[name].step(run.rows.gather(numbers))
                seconds[name].append(time.process_time() - began)
    medians = {name: statistics.median(values[3:]) for name, values in seconds.items()}
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, 1 thread")
    for name, plain, target in CLAIMS:
        bound = "reported" if target is None else f"target {target}"
        print(f"{name:>27} over {plain:26} {medians[name] / medians[plain]:5.2f} ({bound})")


if __name__ == "__main__":
    main()
