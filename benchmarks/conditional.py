"""Draws given some cells of a row, beside the true conditional distribution of tables that have one in closed form.

    python benchmarks/conditional.py [--rows 2000] [--seeds 2] [--tables pair wide ...] [--epochs 0]

Some cells of new rows are given, the others drawn 200 times a row, by `sample(given=...)` and, where the model was
fitted to rows with gaps, by `impute(n_draws=...)`.

mean      root mean square of the mean of the draws less the true one, in true conditional deviations
spread    mean ratio of the deviation of the draws to the true one
coverage  share of true values in the interval between the 5 and 95 % quantiles of the draws; .90 is right
labels    mean total variation between the drawn and the true probabilities of a label
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import multivariate_normal

from eigencode import Autoencoder, LinearAutoencoder, VariationalAutoencoder

DRAWS = 200
GIVEN_ROWS = 50


@dataclass
class Truth:
    """A mixture of normal densities of d numbers; with ``is_labelled`` the component is a column of its own."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    given: tuple[int, ...]
    is_labelled: bool = False

    @property
    def missing(self) -> list[int]:
        return [j for j in range(self.means.shape[1]) if j not in self.given]

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        component = rng.choice(len(self.weights), n, p=self.weights)
        roots = np.linalg.cholesky(self.covariances)
        noise = rng.normal(size=(n, self.means.shape[1]))
        return self.means[component] + np.einsum("nij,nj->ni", roots[component], noise), component

    def conditional(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probabilities of the components, and mean and variance of the missing cells, given the others."""
        o, m = list(self.given), self.missing
        logs, means, variances = [], [], []
        for weight, mean, covariance in zip(self.weights, self.means, self.covariances, strict=True):
            own = multivariate_normal(mean[o], covariance[np.ix_(o, o)])
            logs.append(np.log(weight) + own.logpdf(rows[:, o]))
            gain = covariance[np.ix_(m, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
            means.append(mean[m] + (rows[:, o] - mean[o]) @ gain.T)
            left = np.diag(covariance[np.ix_(m, m)] - gain @ covariance[np.ix_(o, m)])
            variances.append(np.tile(left, (len(rows), 1)))
        shares = softmax(np.array(logs), axis=0)
        mean = (shares[..., None] * means).sum(0)
        second = (shares[..., None] * (np.array(variances) + np.square(means))).sum(0)
        return shares.T, mean, second - mean**2


def factors(d: int, k: int, noise: float, given: int) -> Truth:
    """A normal density of d columns of variance 1 about, with k factors and independent noise."""
    loadings = np.random.default_rng(5).normal(size=(d, k)) / k**0.5
    covariance = loadings @ loadings.T + noise * np.eye(d)
    return Truth(np.ones(1), np.zeros((1, d)), covariance[None], tuple(range(given)))


def clusters(given: int) -> Truth:
    rng = np.random.default_rng(6)
    roots = rng.normal(size=(3, 5, 2))
    covariances = 0.5 * roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(5)
    return Truth(np.array([0.5, 0.3, 0.2]), 2 * rng.normal(size=(3, 5)), covariances, tuple(range(given)))


def labelled(given: int) -> Truth:
    rng = np.random.default_rng(7)
    root = rng.normal(size=(4, 2))
    covariance = root @ root.T + 0.2 * np.eye(4)
    return Truth(
        np.array([0.5, 0.3, 0.2]), rng.normal(size=(3, 4)), np.tile(covariance, (3, 1, 1)), tuple(range(given)), True
    )


TABLES: dict[str, Truth] = {
    "pair": Truth(np.ones(1), np.zeros((1, 2)), np.array([[[1, 0.8], [0.8, 1]]]), (0,)),
    "four": factors(4, 2, 0.3, 2),
    "wide": factors(12, 4, 0.2, 6),
    "exact": factors(12, 4, 0.01, 11),
    "clusters": clusters(2),
    "labels": labelled(2),
}


def table_of(truth: Truth, rows: np.ndarray, component: np.ndarray) -> np.ndarray | pd.DataFrame:
    if not truth.is_labelled:
        return rows
    frame = pd.DataFrame(rows, columns=[f"x{j}" for j in range(rows.shape[1])])
    return frame.assign(label=np.array(["a", "b", "c"])[component])


def compare(truth: Truth, model, use_gaps: bool, options: argparse.Namespace, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    table = table_of(truth, *truth.draw(options.rows, rng))
    if use_gaps:
        gaps = rng.random(table.shape) < 0.2
        table = table.mask(gaps) if truth.is_labelled else np.where(gaps, np.nan, table)
    began = time.process_time()
    model = model.fit(table)
    fitted = time.process_time()
    rows, _ = truth.draw(GIVEN_ROWS, rng)
    repeated = np.repeat(rows, DRAWS, axis=0)
    if truth.is_labelled:
        given = pd.DataFrame({f"x{j}": repeated[:, j] for j in range(rows.shape[1])}).assign(label=None)
        given.loc[:, [f"x{j}" for j in truth.missing]] = np.nan
    else:
        given = repeated.copy()
        given[:, truth.missing] = np.nan
    if use_gaps:
        drawn = model.impute(given, n_draws=1, random_state=seed)[0]
    else:
        drawn = model.sample(given=given, random_state=seed)
    seconds = time.process_time() - fitted
    numbers = np.asarray(drawn)[:, truth.missing].astype(float).reshape(GIVEN_ROWS, DRAWS, -1)
    shares, mean, variance = truth.conditional(rows)
    deviation, actual = np.sqrt(variance), rows[:, truth.missing]
    low, high = np.quantile(numbers, [0.05, 0.95], axis=1)
    found = {
        "mean": np.sqrt((np.square(numbers.mean(1) - mean) / variance).mean()),
        "spread": (numbers.std(1) / deviation).mean(),
        "coverage": ((low <= actual) & (actual <= high)).mean(),
        "labels": np.nan,
        "fit, s": fitted - began,
        "draw, s": seconds,
    }
    if truth.is_labelled:
        labels = drawn["label"].to_numpy().reshape(GIVEN_ROWS, DRAWS)
        drawn_shares = np.stack([(labels == name).mean(1) for name in "abc"], 1)
        found["labels"] = np.abs(drawn_shares - shares).sum(1).mean() / 2
    return found


def models(k: int, epochs: int | None, seed: int) -> dict[str, Callable]:
    options = {"random_state": seed} | ({} if epochs is None else {"max_epochs": epochs})
    return {
        "linear": lambda: LinearAutoencoder(k, random_state=seed),
        "Autoencoder": lambda: Autoencoder(k, **options),
        "variational": lambda: VariationalAutoencoder(k, **options),
    }


SIZES = {"pair": 1, "four": 2, "wide": 4, "exact": 4, "clusters": 3, "labels": 4}


def main() -> None:
    """Print a line for each table and model: means over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--models", nargs="+", default=["linear", "Autoencoder", "variational"])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--ways", nargs="+", choices=["given", "impute"], default=["given", "impute"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    named = False
    for name in options.tables:
        for way in options.ways:
            for kind in options.models:
                runs = [
                    compare(
                        TABLES[name], models(SIZES[name], options.epochs, seed)[kind](), way == "impute", options, seed
                    )
                    for seed in range(options.seeds)
                ]
                if not named:
                    print(f"{'':10}{'':8}{'':12}", *(f"{title:>9}" for title in runs[0]))
                    named = True
                means = pd.DataFrame(runs).mean()
                print(f"{name:10}{way:8}{kind:12}", *(f"{value:9.3f}" for value in means), flush=True)


if __name__ == "__main__":
    main()
