"""Claim: penalties and sparse codes take little time compared with the rest of a step.

    python benchmarks/penalties.py [--rounds 9]

Ratios of the processor's time for a training step of 256 rows of 784 columns on one thread, in float32: the contractive
penalty of one layer of 1000 sigmoid units in closed form (target 1.3) and by Hutchinson's estimate (2.5), of a deep
encoder 784-512-32 (reported), and the top 25 of 1000 units compared with ReLU (1.15), alone and with the other terms of
`SparseAutoencoder`: atoms of unit length and the auxiliary loss for dead units (reported).
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

LAYER = {"n_components": 1000, "hidden": ()}
DEEP = {"n_components": 32, "hidden": (512,)}
SHARED = {"init": "random", "scale": "none", "optimizer": "adam", "batch_size": ROWS, "random_state": 0}
MODELS = {
    "sigmoid": Autoencoder(**LAYER, **SHARED, code=Point("sigmoid")),
    "closed form": ContractiveAutoencoder(**LAYER, **SHARED, code=Point("sigmoid"), estimate="exact"),
    "Hutchinson": ContractiveAutoencoder(**LAYER, **SHARED, code=Point("sigmoid"), estimate="hutchinson"),
    "deep": Autoencoder(**DEEP, **SHARED),
    "deep, exact": ContractiveAutoencoder(**DEEP, **SHARED, estimate="exact"),
    "deep, Hutchinson": ContractiveAutoencoder(**DEEP, **SHARED, estimate="hutchinson"),
    "ReLU": Autoencoder(**LAYER, **SHARED, code=Point("relu")),
    "top-k": Autoencoder(**LAYER, **SHARED, code=TopK(25)),
    "top-k, unit atoms, revival": SparseAutoencoder(**{**LAYER, "active": 25}, **SHARED, sparsity="top_k"),
}
CLAIMS = [
    ("closed form", "sigmoid", 1.3),
    ("Hutchinson", "sigmoid", 2.5),
    ("deep, exact", "deep", None),
    ("deep, Hutchinson", "deep", None),
    ("top-k", "ReLU", 1.15),
    ("top-k, unit atoms, revival", "ReLU", None),
]


def main():
    """Print the ratios and their targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(3000, 784)).astype(np.float32)
    runs = {name: model._begin(X) for name, model in MODELS.items()}
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
        print(f"{name:>27} over {plain:8} {medians[name] / medians[plain]:5.2f} ({bound})")


if __name__ == "__main__":
    main()
