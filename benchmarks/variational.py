"""Negative log-likelihood of a variational autoencoder on statically binarised MNIST, by importance sampling.

    python benchmarks/variational.py mnist_static_binarized.npz

Claim: it is at most 90.5 nats after ten minutes. The network is 784-400-40-400-784 with a Bernoulli likelihood. The
published result for Adam at 1e-4, batches of 100 and 500 epochs is 89.9 nats with 200 importance samples (pythae:
89.78). The file has ``train`` (50,000 rows), ``valid`` and ``test`` (10,000 each) as packed bits, in Larochelle's
binarisation; the first two are given to ``fit``.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from eigencode import VariationalAutoencoder
from eigencode.parts import GaussianWeights


def main() -> None:
    """Fit, and print the negative log-likelihood of the test rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--test-rows", type=int, default=10_000)
    parser.add_argument("--init", default="auto")
    parser.add_argument("--activation", default="gelu")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--weight-variance", type=float, help="variance of a prior on the weights; none by default")
    parser.add_argument("--n-draws", type=int, default=5, help="codes per row in training; 1 is the usual bound")
    arguments = parser.parse_args()
    data = np.load(arguments.data)
    parts = {name: np.unpackbits(data[name], axis=1).astype(np.float32) for name in ("train", "valid", "test")}
    # A tenth of the rows for fit are validation rows, as by default.
    X = np.concatenate([parts["train"], parts["valid"]])
    model = VariationalAutoencoder(
        40,
        hidden=(400,),
        activation=arguments.activation,
        likelihood="bernoulli",
        init=arguments.init,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        # With large steps, pixels that are nearly always 0 get large weights from a few rows, which a prior prevents.
        weight_prior=None if arguments.weight_variance is None else GaussianWeights(arguments.weight_variance),
        n_draws=arguments.n_draws,
        max_epochs=10_000,
        max_seconds=arguments.seconds,
        patience=1_000,
        random_state=0,
    )
    began = time.monotonic()
    for row in model.iter_fit(X):
        print(
            f"{time.monotonic() - began:6.0f} s  epoch {row['epoch']:3d}  bound {row['validation_objective']:.2f}",
            flush=True,
        )
    # Every k-th row: the test rows are sorted by class.
    test = parts["test"][:: max(10_000 // arguments.test_rows, 1)]
    estimate, error = model.log_likelihood(test, arguments.draws, return_error=True)
    spread = estimate.std() / len(test) ** 0.5
    print(f"test: {-estimate.mean():.2f} nats (standard error {spread:.2f}; {error.mean():.2f} per row from draws)")
    print(f"target 90.5; {len(model.history_) - 1} epochs, {arguments.n_draws} draws per row")
    print(f"start {model.history_[0]['validation_objective']:.2f}, {model.execution_}")
    sys.exit(int(-estimate.mean() > 90.5))


if __name__ == "__main__":
    main()
