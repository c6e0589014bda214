"""Claim: on digits, breast cancer, wine and diabetes, with 2, 4 and 8 components, the test error is at most that of PCA
on the same scaled training rows, in the mean over ten splits.

    python benchmarks/small_tables.py [--splits 10]
"""

import argparse
import sys
import time

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from eigencode import Autoencoder


def errors(rows, n_components, split):
    """Squared error per test row of the autoencoder and of PCA, in scaled units, and seconds to fit the former."""
    training, test = train_test_split(rows, test_size=0.2, random_state=split)
    began = time.perf_counter()
    model = Autoencoder(n_components, random_state=split).fit(training)
    seconds = time.perf_counter() - began
    scaled = model.scaler_.transform
    pca = PCA(n_components).fit(scaled(training))
    gap = pca.inverse_transform(pca.transform(scaled(test))) - scaled(test)
    return model.reconstruction_error(test, scaled=True).mean(), (gap**2).sum(1).mean(), seconds


def main():
    """Print a row for each set and code size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    options = parser.parse_args()
    passed = True
    print(f"{'set':>14} {'codes':>5} {'ours':>9} {'PCA':>9} {'ratio':>6} {'worst':>6} {'fit, s':>7}")
    for load in (load_digits, load_breast_cancer, load_wine, load_diabetes):
        for n_components in (2, 4, 8):
            found = np.array([errors(load().data, n_components, split) for split in range(options.splits)])
            ours, pca, seconds = found.mean(0)
            worst = (found[:, 0] / found[:, 1]).max()
            name = load.__name__.removeprefix("load_")
            print(f"{name:>14} {n_components:5d} {ours:9.4f} {pca:9.4f} {ours / pca:6.3f} {worst:6.3f} {seconds:7.2f}")
            # If the start is kept, both are PCA, except for rounding in float32.
            passed &= ours <= pca * (1 + 1e-5)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
