"""Mean log-density of held-out rows, in nats, of the variational autoencoder beside other densities.

    python benchmarks/densities.py [--seeds 3] [--sets wine iris ...] [TABLE.csv SET.npz ...]

A mixture of Gaussians on the rows themselves (kind of covariance and number of components by BIC), factor analysis with
as many factors as the model's code has, the variational autoencoder with one noise for all columns and a standard
normal prior, at its default, and its default before training. Numeric columns that vary, each divided by its standard
deviation in the training rows; rows with gaps are left out. Values of tables are often rounded: a density that is large
at the possible values only may be as large as it likes, so differences of many nats on such columns mean little.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.decomposition import FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split

from eigencode import VariationalAutoencoder
from eigencode.parts import GaussianLikelihood, StandardNormalPrior

SETS = ("wine", "iris", "breast_cancer", "diabetes", "digits")


def rows_of(name: str) -> np.ndarray:
    """The numeric rows of a set of scikit-learn, of a CSV file, or of the array ``X`` of an NPZ file."""
    if name in SETS:
        return getattr(datasets, f"load_{name}")().data.astype(float)
    if Path(name).suffix == ".npz":
        return np.load(name)["X"].astype(float)
    return pd.read_csv(name).select_dtypes("number").dropna().to_numpy(float)


def divided(rows: np.ndarray, seed: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Scaled training and test rows."""
    few = rows[np.random.default_rng(seed).permutation(len(rows))[:most]]
    training, test = train_test_split(few, test_size=0.25, random_state=seed)
    varies = training.std(0) > 1e-9
    center, spread = training.mean(0)[varies], training.std(0)[varies]
    return (training[:, varies] - center) / spread, (test[:, varies] - center) / spread


def mixture_by_bic(training: np.ndarray) -> GaussianMixture:
    """The mixture with the least BIC."""
    candidates = [
        GaussianMixture(m, covariance_type=kind, random_state=0).fit(training)
        for kind in ("full", "tied", "diag")
        for m in (1, 2, 3, 4, 6, 8, 12, 16)
        if len(training) >= 5 * m
    ]
    return min(candidates, key=lambda found: found.bic(training))


def compare(training: np.ndarray, test: np.ndarray, n_components: str | int, seed: int) -> dict[str, float]:
    """Nats a test row of each density, and seconds of the default's fit."""
    began = time.perf_counter()
    model = VariationalAutoencoder(n_components, scale="none", random_state=seed).fit(training)
    seconds, k = time.perf_counter() - began, model.n_components_
    before = VariationalAutoencoder(
        k,
        likelihood=GaussianLikelihood("learned"),
        prior=StandardNormalPrior(),
        scale="none",
        random_state=seed,
    ).fit(training)
    start = VariationalAutoencoder(k, max_epochs=0, scale="none", random_state=seed).fit(training)
    return {
        "mixture": mixture_by_bic(training).score(test),
        "factors": FactorAnalysis(k, svd_method="lapack").fit(training).score(test),
        "one noise": before.score(test),
        "start": start.score(test),
        "default": model.score(test),
        "codes": k,
        "fit, s": seconds,
    }


def main() -> None:
    """Print a row for each set: means over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000, help="most rows of a set")
    parser.add_argument("--components", type=lambda text: text if text == "auto" else int(text), default="auto")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    named = False
    for name in [*options.sets, *options.files]:
        rows = rows_of(name)
        found = [compare(*divided(rows, seed, options.rows), options.components, seed) for seed in range(options.seeds)]
        if not named:
            print(f"{'set':>16}", *(f"{column:>10}" for column in found[0]))
            named = True
        means = [np.mean([each[column] for each in found]) for column in found[0]]
        print(f"{Path(name).stem:>16}", *(f"{value:10.2f}" for value in means), flush=True)


if __name__ == "__main__":
    main()
