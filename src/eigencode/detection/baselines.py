"""Baselines: simple methods beside a detector, on the same rows."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

KEPT_VARIANCE = 0.9
"""Share of the variance that the principal components keep."""

ERRORS = 3.0
"""By so many standard errors a method has to be better."""


def baseline_scores(train: np.ndarray, rows: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The scores of simple methods, each of shape (n,), higher for anomalies.

    Parameters
    ----------
    train, rows : ndarray of shape (m, d) and (n, d)
        Scaled rows to fit, and to score, without gaps.
    seed : int
        Of the isolation forest.
    """
    centered = train - train.mean(0)
    pca = PCA(KEPT_VARIANCE, svd_solver="full").fit(centered) if centered.any() else None
    moved = rows - train.mean(0)
    residuals = moved if pca is None else moved - pca.inverse_transform(pca.transform(moved))
    return {
        "PCA": np.square(residuals).sum(1),
        "the norm": np.linalg.norm(moved, axis=1),
        "the Mahalanobis distance": _mahalanobis(centered, moved),
        "the nearest row": NearestNeighbors(n_neighbors=1).fit(train).kneighbors(rows)[0][:, 0],
        "IsolationForest": -IsolationForest(random_state=seed % 2**32).fit(train).score_samples(rows),
    }


def _mahalanobis(train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The squared Mahalanobis distances of rows from the mean of others, all less that mean.

    Directions in which the others do not vary have the smallest variance that rounding leaves: rows that differ there
    are far. A pseudo-inverse would have infinite or negative variances there, and distances that are not numbers.
    """
    train = train.astype(np.float64)
    values, vectors = np.linalg.eigh(train.T @ train / len(train))
    smallest = len(values) * np.finfo(values.dtype).eps * values[-1]
    found: np.ndarray = np.square(rows @ vectors) @ (1 / values.clip(min=smallest if smallest > 0 else 1.0))
    return found


def areas(scores: dict[str, np.ndarray], are_odd: np.ndarray) -> dict[str, float]:
    """The area under the ROC curve of each method."""
    return {name: float(roc_auc_score(are_odd, values)) for name, values in scores.items()}


def better(own: np.ndarray, others: dict[str, np.ndarray], are_odd: np.ndarray) -> list[str]:
    """The methods that rank better by more than three standard errors, over the anomalies, of the difference.

    Examples
    --------
    >>> are_odd = np.repeat([False, True], 20)
    >>> better(np.tile(np.arange(20.0), 2), {"other": are_odd * 1.0}, are_odd)
    ['other']
    """
    found = []
    for name, scores in others.items():
        ahead = _shares_below(scores, are_odd) - _shares_below(own, are_odd)
        if ahead.mean() > ERRORS * ahead.std() / len(ahead) ** 0.5:
            found.append(name)
    return found


def _shares_below(scores: np.ndarray, are_odd: np.ndarray) -> np.ndarray:
    """For each anomaly the share of the other rows that score less, of which the mean is the area."""
    normal = np.sort(scores[~are_odd])
    low, high = (np.searchsorted(normal, scores[are_odd], side=side) for side in ("left", "right"))
    found: np.ndarray = (low + high) / (2 * len(normal))
    return found


def with_faults(rows: np.ndarray, columns: list[slice], rng: np.random.Generator) -> np.ndarray:
    """Rows of which each has the cells of one column from another row."""
    found, donors = rows.copy(), np.roll(np.arange(len(rows)), 1)
    for row, column in enumerate(rng.integers(len(columns), size=len(rows))):
        found[row, columns[column]] = rows[donors[row], columns[column]]
    return found
