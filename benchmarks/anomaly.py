"""Detection of anomalies beside simple methods, on the tables of ADBench (Han et al., 2022).

    python benchmarks/anomaly.py FOLDER [--seeds 3] [--sets 6_cardio 14_glass] [--rates]

FOLDER has ``.npz`` files with rows ``X`` and labels ``y`` (1 for anomalies), as ADBench publishes them. Half of the
normal rows train; the other half and all anomalies are ranked. Printed are the area under the ROC curve of each method
on each set, in per cent, the mean over the sets with the standard error of the paired difference to the detector, and
seconds. Columns are standardised by the training rows for every method. With ``--rates``, the share of false alarms
on the normal rows that did not train, for rates of 0.01, 0.05 and 0.1.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from eigencode import AnomalyDetector, Autoencoder

Scores = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
RATES = (0.01, 0.05, 0.1)


def nearest(k: int) -> Scores:
    """The distance to the k-th nearest training row."""
    return lambda train, test, seed: NearestNeighbors(n_neighbors=k).fit(train).kneighbors(test)[0][:, -1]


def isolation(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Isolation forest."""
    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def pca(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """The squared error of a reconstruction from principal components that keep 0.9 of the variance."""
    model = PCA(0.9).fit(train)
    return np.square(test - model.inverse_transform(model.transform(test))).sum(1)


def mahalanobis(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """The Mahalanobis distance from the mean."""
    return EmpiricalCovariance().fit(train).mahalanobis(test)


def reconstruction(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """The squared error of `Autoencoder()`."""
    return Autoencoder(random_state=seed).fit(train).reconstruction_error(test)


def detector(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """`AnomalyDetector()`."""
    return -AnomalyDetector(random_state=seed).fit(train).score_samples(test)


METHODS: dict[str, Scores] = {
    "detector": detector,
    "reconstruction": reconstruction,
    "kNN 1": nearest(1),
    "kNN 5": nearest(5),
    "isolation": isolation,
    "PCA": pca,
    "Mahalanobis": mahalanobis,
}


def divided(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised rows to train with, rows to rank, and which of these are anomalies."""
    found = np.load(path)
    X, is_odd = found["X"].astype(float), found["y"].astype(bool)
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~is_odd))
    train, test = normal[: len(normal) // 2], np.append(normal[len(normal) // 2 :], np.flatnonzero(is_odd))
    center, spread = X[train].mean(0), X[train].std(0)
    X = (X - center) / np.where(spread > 0, spread, 1.0)
    return X[train], X[test], is_odd[test]


def ranked(path: Path, n_seeds: int) -> dict[str, tuple[float, float]]:
    """The mean area of each method on one set, in per cent, and its seconds a seed."""
    areas, seconds = {}, {}
    for name, method in METHODS.items():
        began, found = time.perf_counter(), []
        for seed in range(n_seeds):
            train, test, is_odd = divided(path, seed)
            found.append(100 * roc_auc_score(is_odd, method(train, test, seed)))
        areas[name], seconds[name] = np.mean(found), (time.perf_counter() - began) / n_seeds
    return {name: (areas[name], seconds[name]) for name in METHODS}


def false_alarms(path: Path, n_seeds: int) -> list[float]:
    """The mean share of normal rows that are alarms, for each rate; NaN where the rows are too few for it."""
    found = np.full((n_seeds, len(RATES)), np.nan)
    for seed in range(n_seeds):
        train, test, is_odd = divided(path, seed)
        model = AnomalyDetector(min(RATES), random_state=seed).fit(train)
        p = model.p_values(test[~is_odd])
        found[seed] = [(p <= rate).mean() if model.false_alarms_ <= rate else np.nan for rate in RATES]
    return list(found.mean(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", help="names of files without their ending; default: all")
    parser.add_argument("--rates", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    paths = [path for path in sorted(options.folder.glob("*.npz")) if not options.sets or path.stem in options.sets]
    if options.rates:
        print(f"{'false alarms asked':<20}" + "".join(f"{rate:>10}" for rate in RATES))
        for path in paths:
            shares = false_alarms(path, options.seeds)
            print(f"{path.stem:<20}" + "".join(f"{share:>10.3f}" for share in shares), flush=True)
        return
    print(f"{'':<20}" + "".join(f"{name:>16}" for name in METHODS))
    rows, seconds = [], np.zeros(len(METHODS))
    for path in paths:
        found = np.array(list(ranked(path, options.seeds).values()))
        rows.append(found[:, 0])
        seconds += found[:, 1]
        print(f"{path.stem:<20}" + "".join(f"{area:>16.1f}" for area in found[:, 0]), flush=True)
    areas = np.array(rows)
    behind = areas - areas[:, :1]
    errors = behind.std(0, ddof=1) / len(areas) ** 0.5 if len(areas) > 1 else behind[0]
    print(f"{'mean':<20}" + "".join(f"{mean:>16.1f}" for mean in areas.mean(0)))
    print(
        f"{'to the detector':<20}"
        + "".join(f"{d:>+9.1f} +-{e:4.1f}" for d, e in zip(behind.mean(0), errors, strict=True))
    )
    print(f"{'seconds a seed':<20}" + "".join(f"{total:>16.1f}" for total in seconds))


if __name__ == "__main__":
    main()
