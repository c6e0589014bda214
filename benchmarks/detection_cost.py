"""Seconds of processor time that a detector of anomalies takes, beside what its parts must take.

    python benchmarks/detection_cost.py [--rows 100000] [--columns 20] [--fitted 5000] [--kinds plain few variational]

A plain detector, one of five models (few rows: 80 are fitted), and one with a variational autoencoder are fitted to
rows about a plane. Then 5 % of new rows get a fault, and these are done with all of them:

- forward: the bare reconstruction by each model that scores;
- search: the distances to the known rows;
- score: `score_samples`, and its ratio to three times the forward passes and the search;
- explain: the reasons, all columns, and the first five.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np

from eigencode import AnomalyDetector, Autoencoder, VariationalAutoencoder
from eigencode.estimators.unlikeness import scaled_cells

FEW = 80
MOST_SECONDS = 60
KINDS = {"plain": Autoencoder(), "few": Autoencoder(), "variational": VariationalAutoencoder(max_epochs=20)}


def rows_about_a_plane(n_rows: int, n_columns: int, seed: int) -> np.ndarray:
    rng, map_ = np.random.default_rng(seed), np.random.default_rng(0).normal(size=(n_columns // 4, n_columns))
    return rng.normal(size=(n_rows, len(map_))) @ map_ + 0.5 * rng.normal(size=(n_rows, n_columns))


def seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def costs(kind: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of each step."""
    n_fitted = FEW if kind == "few" else options.fitted
    model = AnomalyDetector(autoencoder=KINDS[kind], random_state=0)
    fitted = seconds(lambda: model.fit(rows_about_a_plane(n_fitted, options.columns, 1)))
    X = rows_about_a_plane(options.rows, options.columns, 2)
    bad = np.arange(0, len(X), 20)
    X[bad, np.random.default_rng(3).integers(options.columns, size=len(bad))] += 15
    members = model._members
    members[0].autoencoder.reconstruct(X)  # what is set up once
    forward = sum(seconds(lambda m=m: m.autoencoder.reconstruct(X)) for m in members)
    cells = [scaled_cells(m.autoencoder, X) for m in members]
    search = sum(seconds(lambda m=m, c=c: m.unlikeness.known.tails(c)) for m, c in zip(members, cells, strict=True))
    score = seconds(lambda: model.score_samples(X))
    return {
        "fit": fitted,
        "forward": forward,
        "search": search,
        "score": score,
        "ratio": score / (3 * forward + search),
        "explain": seconds(lambda: model.explain(X)),
        "explain 5": seconds(lambda: model.explain(X, n_columns=5)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--fitted", type=int, default=5_000)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    is_met = True
    for number, kind in enumerate(options.kinds):
        found = costs(kind, options)
        if not number:
            print(f"{'':<12}" + "".join(f"{name:>11}" for name in found))
        print(f"{kind:<12}" + "".join(f"{value:>11.2f}" for value in found.values()), flush=True)
        is_met &= found["ratio"] <= 1 and found["explain"] < MOST_SECONDS
    print(f"targets: a ratio of at most 1, and less than {MOST_SECONDS} seconds for the reasons")
    sys.exit(0 if is_met else 1)


if __name__ == "__main__":
    main()
