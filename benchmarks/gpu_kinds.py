"""Claim: every kind trains on a GPU by recorded steps, and ends as on the processor.

    python benchmarks/gpu_kinds.py [--device cuda] [--epochs 40]

Breast cancer's 569 rows, in float32: for each kind the objective of the validation rows at the end on the processor and
on the device, the largest difference of codes of the start, seconds, and warnings, such as of a step that cannot be
recorded.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer

from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)

KINDS = {
    "plain": Autoencoder(4),
    "ordered": Autoencoder(4, ordered=True),
    "tied": Autoencoder(4, tied=True),
    "student_t": Autoencoder(4, likelihood="student_t"),
    "linear": LinearAutoencoder(4, solver="gradient"),
    "sparse": SparseAutoencoder(8),
    "denoising": DenoisingAutoencoder(4),
    "contractive": ContractiveAutoencoder(4),
    "variational": VariationalAutoencoder(4),
    "stacked": StackedAutoencoder(layers=(16, 4)),
    "gaps": Autoencoder(4),
    "variational, gaps": VariationalAutoencoder(4),
    "classifier": AutoencoderClassifier(Autoencoder(4)),
}


def fitted(model, arguments, device, epochs):
    """A fitted copy, the seconds that it took, and what it warned of."""
    copy = type(model)(**model.get_params(deep=False)).set_params(random_state=0)
    for name, value in {"device": device, "max_epochs": epochs, "optimizer": "adam", "precision": "float32"}.items():
        for key in (name, f"autoencoder__{name}"):
            if key in copy.get_params():
                copy.set_params(**{key: value})
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        copy.fit(*arguments)
    return copy, time.perf_counter() - began, {str(warning.message)[:90] for warning in caught}


def main():
    """Print one line a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()
    X, y = load_breast_cancer(return_X_y=True)
    hidden = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
    name = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    print(f"torch {torch.__version__}, {name}\n")
    print("| kind | start, processor | start, device | end, processor | end, device | s | s | warnings on the device |")
    print("|---|---|---|---|---|---|---|---|")
    fitted(Autoencoder(2), (X,), options.device, 2)  # libraries are loaded
    for name, model in KINDS.items():
        arguments = (hidden if "gaps" in name else X, y)
        found = [fitted(model, arguments, device, options.epochs) for device in ("cpu", options.device)]
        starts = [f"{model.history_[0]['validation_objective']:.4f}" for model, *_ in found]
        ends = [f"{model.best_objective_:.4f}" for model, *_ in found]
        times = [f"{seconds:.1f}" for _, seconds, _ in found]
        notes = "; ".join(sorted(found[1][2] - found[0][2])) or "-"
        print(f"| {name} | {' | '.join(starts + ends + times)} | {notes} |", flush=True)


if __name__ == "__main__":
    main()
