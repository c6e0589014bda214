"""Thirteen fits whose weights and results are stored, to check that a change of the code does not change them.

    python benchmarks/golden.py --write FILE.npz      before the change
    python benchmarks/golden.py --compare FILE.npz    after it, on the same machine: lists the differences

The seven kinds at their defaults; `Autoencoder` ordered, tied, with counts and with L-BFGS; a classifier and a
regressor. Rows and labels are scikit-learn's.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

import eigencode

KINDS = [
    "LinearAutoencoder",
    "Autoencoder",
    "SparseAutoencoder",
    "DenoisingAutoencoder",
    "ContractiveAutoencoder",
    "VariationalAutoencoder",
    "StackedAutoencoder",
]
OPTIONS = {"ordered": {"ordered": True}, "tied": {"tied": True}, "lbfgs": {"optimizer": "lbfgs"}}


def fits() -> dict[str, Callable[[], tuple[Any, np.ndarray]]]:
    """Each fit by name, as a function that returns the fitted model and rows for its methods."""
    table = load_breast_cancer().data[:400]
    counts = np.random.default_rng(0).poisson(np.exp(table[:, :8] / table[:, :8].max(0) * 2)).astype(float)

    def fitted(name: str, rows: np.ndarray, **options: Any) -> tuple[Any, np.ndarray]:
        return getattr(eigencode, name)(n_components=4, random_state=0, **options).fit(rows), rows

    def supervised(name: str, data: Any) -> tuple[Any, np.ndarray]:
        rows, labels = data
        return getattr(eigencode, name)(random_state=0).fit(rows, labels), rows

    found = {name: lambda name=name: fitted(name, table) for name in KINDS}
    found |= {name: lambda given=given: fitted("Autoencoder", table, **given) for name, given in OPTIONS.items()}
    found["poisson"] = lambda: fitted("Autoencoder", counts, likelihood="poisson")
    found["classifier"] = lambda: supervised("AutoencoderClassifier", load_wine(return_X_y=True))
    found["regressor"] = lambda: supervised("AutoencoderRegressor", load_diabetes(return_X_y=True))
    return found


def answers(name: str, fit: Callable[[], tuple[Any, np.ndarray]]) -> dict[str, np.ndarray]:
    """The weights of a fit, its objectives and its results for rows, by name."""
    model, rows = fit()
    inner = getattr(model, "model_", model)
    found = {
        f"{name}/weight {i}": value.detach().cpu().numpy()
        for i, value in enumerate(inner.composition_.state_dict().values())
    }
    found[f"{name}/objectives"] = np.array([list(row.values())[-1] for row in inner.history_])
    methods = ["predict"] if inner is not model else ["transform", "reconstruct", "score_samples"]
    return found | {f"{name}/{method}": np.asarray(getattr(model, method)(rows)) for method in methods}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FILE", help="store the results of the current code")
    parser.add_argument("--compare", metavar="FILE", help="compare with stored results")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the fits")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = {name: fit for name, fit in fits().items() if not given.only or name in given.only}
    found: dict[str, np.ndarray] = {}
    for name, fit in chosen.items():
        found |= answers(name, fit)
    if given.write:
        np.savez(given.write, **found)
    if not given.compare:
        return 0
    kept = {key: value for key, value in np.load(given.compare).items() if key.partition("/")[0] in chosen}
    other = sorted(found.keys() ^ kept.keys())
    print(*(f"{key}: only {'now' if key in found else 'before'}" for key in other), sep="\n", end="\n" if other else "")
    n_same = 0
    for key in sorted(found.keys() & kept.keys()):
        a, b = found[key], kept[key]
        if a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes():
            n_same += 1
        else:
            off = np.abs(a - b).max() if a.shape == b.shape else np.nan
            print(f"{key}: {a.dtype}{a.shape} beside {b.dtype}{b.shape}, differs by at most {off:g}")
    print(f"{n_same} of {len(kept)} arrays are the same, bit for bit")
    return int(n_same < len(kept) or bool(other))


if __name__ == "__main__":
    sys.exit(main())
