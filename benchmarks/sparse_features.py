"""Claim: with the k largest of 1000 units as features of MNIST, a linear classifier has less than half the error that
it has with pixels; the best k is neither the smallest nor the largest (Makhzani & Frey, 2014).

    python benchmarks/sparse_features.py mnist.npz [--rows 20000] [--ks 10 25 40 100 400] [--epochs 15]

The file has `xtr`, `ytr`, `xte`, `yte`. As in the paper, the classifier gets more active units than training (--spread
times as many). Its penalty is chosen on a fifth of the training rows, also for pixels. With all 60,000 rows, the paper
reports 1.35 % for k = 25, and 7.20 % for pixels.
"""

import argparse
import sys
import time

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from eigencode import SparseAutoencoder

PENALTIES = (0.01, 0.1, 1.0)


def images(path, rows, seed):
    """Some training rows and all test rows as pixels in [0, 1], each with its labels."""
    with np.load(path) as arrays:
        training, labels, test, answers = (arrays[name] for name in ("xtr", "ytr", "xte", "yte"))
    chosen = np.random.default_rng(seed).permutation(len(training))[:rows]
    as_pixels = [part.reshape(len(part), -1) / np.float32(255) for part in (training[chosen], test)]
    return as_pixels[0], labels[chosen], as_pixels[1], answers


def error(training, labels, test, answers):
    """Test error of logistic regression, its penalty chosen on the last fifth of the training rows."""
    unit = np.sqrt((training**2).mean())
    training, test = (csr_matrix(part / unit) for part in (training, test))
    first = len(labels) * 4 // 5

    def fitted(c, rows):
        return LogisticRegression(C=c, max_iter=200, tol=1e-3).fit(training[rows], labels[rows])

    scores = [fitted(c, slice(first)).score(training[first:], labels[first:]) for c in PENALTIES]
    return 1 - fitted(PENALTIES[int(np.argmax(scores))], slice(None)).score(test, answers)


def features(model, rows, k):
    """Codes with k active units, for any number in training."""
    code = model.composition_.code
    fitted_with = code.k
    code.set_params(k=k)
    codes = model.transform(rows)
    code.set_params(k=fitted_with)
    return codes


def main():
    """Print the errors, and whether the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--ks", type=int, nargs="+", default=[10, 25, 40, 100, 400])
    parser.add_argument("--spread", type=float, default=2.0)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    training, labels, test, answers = images(options.file, options.rows, options.seed)
    pixels = error(training, labels, test, answers)
    print(f"{len(training)} training rows, {len(test)} test rows; pixels: {pixels:.2%}", flush=True)
    found = {}
    for k in options.ks:
        began = time.perf_counter()
        model = SparseAutoencoder(
            options.units, sparsity="top_k", active=k, max_epochs=options.epochs, random_state=options.seed
        ).fit(training)
        seconds = time.perf_counter() - began
        kept = min(round(options.spread * k), options.units)
        codes, test_codes = features(model, training, kept), features(model, test, kept)
        found[k] = error(codes, labels, test_codes, answers)
        rebuilt = model.reconstruction_error(test).mean()
        used = int((codes != 0).any(0).sum())
        print(
            f"k {k:4d}: {found[k]:.2%}   ({kept} kept, {used} units in use, squared error {rebuilt:.2f} an image, "
            f"{seconds:.0f} s)",
            flush=True,
        )
    best = min(found, key=found.get)
    is_between = min(options.ks) < best < max(options.ks)
    print(f"best at k = {best}: {found[best] / pixels:.2f} of the pixels' error (target: below .50, k in between)")
    sys.exit(0 if is_between and found[best] < 0.5 * pixels else 1)


if __name__ == "__main__":
    main()
