"""Claim: a network of sigmoid units has the smallest error after stacked denoising, a larger one after plain stacking,
and the largest without pretraining. For 10,000 digits, Vincent et al. (2010) report 2.84 % and 3.46 % for the first
two.

    python benchmarks/stacked.py FILE [--full]

FILE is MNIST as `mnist.npz` with `xtr`, `ytr`, `xte` and `yte`. Training uses only the first 10,000 training images and
their labels; the error is that of the 10,000 test images. The layers have 256 units, and 1,000 with --full, which takes
hours. Every network is trained to the end of its schedule, without validation rows; the one without pretraining has
twice the epochs, after which its training error is zero.
"""

import argparse
import sys
import time

import numpy as np

from eigencode import AutoencoderClassifier, StackedAutoencoder
from eigencode.parts import Point, SaltAndPepper

KINDS = {
    "no pretraining": {"pretrain": False},
    "stacked plain": {},
    "stacked denoising": {"corruption": SaltAndPepper(0.4)},
}


def digits(path, n_rows):
    """Training rows of pixels in [0, 1] with their labels, and test rows with theirs."""
    with np.load(path) as arrays:
        x, x_test = (arrays[name].reshape(-1, 784) / np.float32(255) for name in ("xtr", "xte"))
        return x[:n_rows], arrays["ytr"][:n_rows], x_test, arrays["yte"]


def test_error(data, kind, widths, epochs, seed):
    """Percentage of test images that fine-tuned sigmoid layers and a softmax classify wrongly."""
    x, y, x_test, y_test = data
    shared = {"batch_size": 100, "learning_rate": 1e-3, "precision": "float32", "random_state": seed}
    stack = StackedAutoencoder(
        layers=widths,
        activation="sigmoid",
        code=Point("sigmoid"),
        likelihood="bernoulli",
        scale="none",
        max_epochs=epochs[0],
        fine_tune=False,
        **shared,
        **KINDS[kind],
    ).fit(x)
    n_epochs = epochs[1] if stack.pretrain else 2 * epochs[1]
    schedule = {"max_epochs": n_epochs, "patience": n_epochs, "validation_fraction": 0.0}
    model = AutoencoderClassifier(stack, **schedule, **shared).fit(x, y)
    return 100 * (1 - model.score(x_test, y_test))


def main():
    """Print a table, and exit with 1 if the order does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    data = digits(options.file, options.rows)
    widths, epochs = ((1000,) * 3, (30, 50)) if options.full else ((256,) * 3, (10, 30))
    means = {}
    for kind in KINDS:
        began = time.perf_counter()
        errors = [test_error(data, kind, widths, epochs, seed) for seed in range(options.seeds)]
        means[kind] = np.mean(errors)
        shown = ", ".join(f"{error:.2f}" for error in errors)
        print(f"{kind:18} {means[kind]:.2f} % ({shown}), {time.perf_counter() - began:.0f} s", flush=True)
    sys.exit(0 if list(means.values()) == sorted(means.values(), reverse=True) else 1)


if __name__ == "__main__":
    main()
