"""Claim: a network of sigmoid units errs least after stacked denoising, more after plain stacking, and most without
pretraining. On 10,000 digits Vincent et al. (2010) have 2.84 % for the first and 3.46 % for the second.

    python benchmarks/stacked.py FILE [--full]

FILE is MNIST as `mnist.npz` with `xtr`, `ytr`, `xte` and `yte`. The first 10,000 training images, with their labels,
are all that is learned from; the 10,000 test images are judged. The layers are 256 units wide, and 1,000 with --full,
which takes hours. Every network is trained to the end of its schedule, without held-out rows; the one that is not
pretrained has twice the epochs, by when its training error is gone.
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
    """Training rows of pixels in [0, 1] and labels, and test ones."""
    with np.load(path) as arrays:
        x, x_test = (arrays[name].reshape(-1, 784) / np.float32(255) for name in ("xtr", "xte"))
        return x[:n_rows], arrays["ytr"][:n_rows], x_test, arrays["yte"]


def test_error(data, kind, widths, epochs, seed):
    """Percentage of test images classified wrongly by sigmoid layers and a softmax, all fine-tuned."""
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
    """Print a table, and exit with 1 where the order does not hold."""
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
