"""Detection of anomalies beside simple methods, on the tables of ADBench (Han et al., 2022).

    python benchmarks/anomaly.py FOLDER [--everything] [--rates] [--epochs 2] [--seeds 3] [--sets A B] [--methods PCA]

FOLDER has ``.npz`` files with rows ``X`` and labels ``y`` (1 for anomalies), as ADBench publishes them. Half of the
normal rows train; the other half and all anomalies are ranked. With ``--everything`` all rows train, anomalies too, and
are ranked. Printed are the area under the ROC curve of each method on each set, in per cent; means, mean ranks and
wins; the paired difference to the detector with its standard error over the sets; and seconds. Columns are standardised
by the training rows for every method. PyOD's autoencoders are run where it is installed.

With ``--rates``, the share of false alarms on the normal rows that did not train, by detectors fitted for rates of
0.01, 0.05 and 0.1; and by the detector fitted for 0.01, in batches of 40 normal rows and 20 anomalies that did not
train, the share of false discoveries at a rate of 0.2, and of the anomalies that are found. Each has the standard error
over the splits, and how many of these errors it is above what was asked; NaN where rows are too few for the rate.
``--epochs`` trains each autoencoder for so many at most: rates have to be kept
whatever it has learned.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM

from eigencode import AnomalyDetector, Autoencoder

Scores = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
RATES = (0.01, 0.05, 0.1)
DISCOVERY_RATE = 0.2
N_BATCHES = 20
IN_BATCH = (40, 20)


def nearest(k: int) -> Scores:
    """The distance to the k-th nearest training row, of those that are another row."""

    def scores(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        index = NearestNeighbors(n_neighbors=k).fit(train)
        return index.kneighbors(None if test is train else test)[0][:, -1]

    return scores


def outlier_factor(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Local outlier factor, 20 neighbours."""
    if test is train:
        return -LocalOutlierFactor().fit(train).negative_outlier_factor_
    return -LocalOutlierFactor(novelty=True).fit(train).score_samples(test)


def one_class(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """One-class support vectors, as scikit-learn has them."""
    return -OneClassSVM().fit(train).score_samples(test)


def pyod(name: str) -> Scores:
    """One of PyOD's autoencoders, as it has them."""

    def scores(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        from pyod.models import auto_encoder, vae

        kind = {"AutoEncoder": auto_encoder.AutoEncoder, "VAE": vae.VAE}[name]
        return kind(random_state=seed, verbose=0).fit(train).decision_function(test)

    return scores


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
    "LOF": outlier_factor,
    "SVM": one_class,
}
if find_spec("pyod"):
    METHODS |= {f"PyOD {name}": pyod(name) for name in ("AutoEncoder", "VAE")}


def everything(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All rows, standardised, to train with and to rank, and which of them are anomalies."""
    found = np.load(path)
    X = found["X"].astype(float)
    spread = X.std(0)
    X = (X - X.mean(0)) / np.where(spread > 0, spread, 1.0)
    return X, X, found["y"].astype(bool)


def divided(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised rows to train with, rows to rank, and which of these are anomalies."""
    found = np.load(path)
    X, is_odd = found["X"].astype(float), found["y"].astype(bool)
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~is_odd))
    train, test = normal[: len(normal) // 2], np.append(normal[len(normal) // 2 :], np.flatnonzero(is_odd))
    center, spread = X[train].mean(0), X[train].std(0)
    X = (X - center) / np.where(spread > 0, spread, 1.0)
    return X[train], X[test], is_odd[test]


def ranked(path: Path, n_seeds: int, methods: dict[str, Scores], is_everything: bool) -> np.ndarray:
    """The mean area of each method on one set, in per cent, and its seconds a seed; shape (methods, 2)."""
    found = []
    for method in methods.values():
        areas, began = [], time.perf_counter()
        for seed in range(n_seeds):
            train, test, is_odd = everything(path) if is_everything else divided(path, seed)
            areas.append(100 * roc_auc_score(is_odd, method(train, test, seed)))
        found.append((np.mean(areas), (time.perf_counter() - began) / n_seeds))
    return np.array(found)


def kept_rates(path: Path, n_seeds: int, autoencoder: Autoencoder) -> np.ndarray:
    """For each split, shares of false alarms at each rate, of false discoveries, and of the anomalies found."""
    found = np.full((n_seeds, len(RATES) + 2), np.nan)
    for seed in range(n_seeds):
        train, test, is_odd = divided(path, seed)
        for column, rate in enumerate(RATES):
            model = AnomalyDetector(rate, autoencoder=autoencoder, random_state=seed).fit(train)
            if model.false_alarms_ <= rate:
                found[seed, column] = (model.predict(test[~is_odd]) == -1).mean()
            if rate == min(RATES):  # the most rows held out
                found[seed, len(RATES) :] = discovered(model, test[~is_odd], test[is_odd], seed)
    return found


def discovered(model: AnomalyDetector, normal: np.ndarray, odd: np.ndarray, seed: int) -> np.ndarray:
    """The share of false discoveries, and that of the anomalies that are found, over batches of both."""
    rng, shares = np.random.default_rng(seed), []
    p_normal, p_odd = model.p_values(normal), model.p_values(odd)
    for _ in range(N_BATCHES):
        p = np.concatenate([rng.permutation(each)[:n] for each, n in zip((p_normal, p_odd), IN_BATCH, strict=True)])
        reported, n_normal = model.calibration_.reported(p, DISCOVERY_RATE), min(IN_BATCH[0], len(normal))
        false, true = reported[:n_normal].sum(), reported[n_normal:]
        shares.append((false / max(reported.sum(), 1), true.mean()))
    return np.mean(shares, axis=0)


def report_rates(paths: list[Path], n_seeds: int, autoencoder: Autoencoder) -> None:
    asked = np.array([*RATES, DISCOVERY_RATE, np.nan])
    names = [*(f"alarms at {rate}" for rate in RATES), f"discoveries at {DISCOVERY_RATE}", "found"]
    print(f"{'':<20}" + "".join(f"{name:>24}" for name in names))
    means = []
    for path in paths:
        found = kept_rates(path, n_seeds, autoencoder)
        means.append(found.mean(0))
        errors = found.std(0, ddof=1) / n_seeds**0.5
        above = (means[-1] - asked) / np.maximum(errors, 1e-9)
        cells = (
            f"{m:>10.4f} +-{e:.4f} {z:>+4.1f}" for m, e, z in zip(means[-1], errors, above.clip(-99, 99), strict=True)
        )
        print(f"{path.stem:<20}" + "".join(cells), flush=True)
    print(f"{'mean':<20}" + "".join(f"{mean:>10.4f}{'':<14}" for mean in np.nanmean(means, axis=0)))


def report_areas(paths: list[Path], n_seeds: int, methods: dict[str, Scores], is_everything: bool) -> None:
    print(f"{'':<20}" + "".join(f"{name:>17}" for name in methods))
    rows, seconds = [], np.zeros(len(methods))
    for path in paths:
        found = ranked(path, n_seeds, methods, is_everything)
        rows.append(found[:, 0])
        seconds += found[:, 1]
        print(f"{path.stem:<20}" + "".join(f"{area:>17.1f}" for area in found[:, 0]), flush=True)
    areas = np.array(rows)
    behind = areas - areas[:, :1]
    errors = behind.std(0, ddof=1) / len(areas) ** 0.5 if len(areas) > 1 else behind[0]
    print(f"{'mean':<20}" + "".join(f"{mean:>17.1f}" for mean in areas.mean(0)))
    ranks = rankdata(-areas.round(1), axis=1)
    print(f"{'mean rank':<20}" + "".join(f"{rank:>17.1f}" for rank in ranks.mean(0)))
    print(f"{'wins':<20}" + "".join(f"{n:>17}" for n in (areas.round(1) == areas.round(1).max(1)[:, None]).sum(0)))
    print(
        f"{'to the first':<20}"
        + "".join(f"{d:>+10.1f} +-{e:4.1f}" for d, e in zip(behind.mean(0), errors, strict=True))
    )
    print(f"{'seconds a seed':<20}" + "".join(f"{total:>17.1f}" for total in seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", help="names of files without their ending; default: all")
    parser.add_argument("--methods", nargs="*", choices=METHODS, help="default: all")
    parser.add_argument("--everything", action="store_true")
    parser.add_argument("--rates", action="store_true")
    parser.add_argument("--epochs", type=int, help="of each autoencoder, at most")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    paths = [path for path in sorted(options.folder.glob("*.npz")) if not options.sets or path.stem in options.sets]
    if options.rates:
        report_rates(paths, options.seeds, Autoencoder(max_epochs=options.epochs or "auto"))
        return
    methods = {name: METHODS[name] for name in options.methods or METHODS}
    report_areas(paths, options.seeds, methods, options.everything)


if __name__ == "__main__":
    main()
