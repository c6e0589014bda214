"""Held-out objectives of two versions on twenty tables: no worse in the mean, nor on a table by more than its spread.

    PYTHONPATH=OLD/src python benchmarks/held_out.py --data FOLDER --write before.json
    python benchmarks/held_out.py --data FOLDER --write now.json
    python benchmarks/held_out.py --compare before.json now.json

The folder has ``tables/`` (adult-train, diamonds, penguins, titanic as CSV) and ``adbench/`` (NPZ files with an array
``X``); rows with gaps are left out, and a category is a column for each label. Each set is divided into four fifths for
training (2,000 rows at most) and one for testing (1,000 at most), once for each seed, and fitted with defaults. The
objective is minus the mean log-likelihood of a test row given its own code, in nats; beside it stands the squared
error.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn import datasets

from eigencode import Autoencoder

TRAINING, TEST = 2_000, 1_000
"""Most rows of each."""


def sets(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Twenty tables by name."""
    for name in ("digits", "breast_cancer", "wine", "diabetes", "iris"):
        yield name, getattr(datasets, f"load_{name}")().data
    for name in ("adult-train", "diamonds", "penguins", "titanic"):
        frame = pd.read_csv(folder / "tables" / f"{name}.csv", skipinitialspace=True)
        few = [
            column for column in frame if pd.api.types.is_numeric_dtype(frame[column]) or frame[column].nunique() < 50
        ]
        yield name, pd.get_dummies(frame[few].dropna()).to_numpy(float)
    for path in sorted((folder / "adbench").glob("*.npz")):
        yield path.stem, np.load(path)["X"]
    yield "roll", datasets.make_swiss_roll(2000, noise=0.3, random_state=0)[0]


def objectives(rows: np.ndarray, seed: int) -> dict[str, float]:
    """Held-out objective and squared error of a default fit, and processor seconds of it."""
    order = np.random.default_rng(seed).permutation(len(rows))
    n_test = min(len(rows) // 5, TEST)
    test, training = rows[order[:n_test]], rows[order[n_test:][:TRAINING]]
    began = time.process_time()
    model = Autoencoder(random_state=seed).fit(training)
    seconds = time.process_time() - began
    squared = float(model.reconstruction_error(test, scaled=True).mean())
    return {"objective": -float(model.score_samples(test).mean()), "squared": squared, "seconds": seconds}


def compare(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Print a line for each set; return whether the mean is no worse and no set is by more than its spread."""
    print(f"{'set':>16} {'before':>10} {'now':>10} {'change':>8} {'spread':>7} {'squared':>8} {'seconds':>8}")
    changes, passed = [], True
    for name in [name for name in before if name in now]:
        one, other = (
            {key: np.array([row[key] for row in results[name]]) for key in results[name][0]}
            for results in (before, now)
        )
        gap = other["objective"] - one["objective"]
        # What the seeds differ by in what the change is: the splits are the same in both.
        spread = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else np.nan
        ratio = other["squared"].mean() / one["squared"].mean()
        seconds = other["seconds"].mean() / one["seconds"].mean()
        is_worse = gap.mean() > max(2 * spread, 1e-3 * abs(one["objective"].mean()))
        print(
            f"{name:>16} {one['objective'].mean():10.4f} {other['objective'].mean():10.4f} {gap.mean():8.4f} "
            f"{spread:7.4f} {ratio:8.4f} {seconds:8.2f} {'worse' if is_worse else ''}"
        )
        changes.append(gap.mean())
        passed &= not is_worse
    print(f"mean change {np.mean(changes):.4f} nats (median {np.median(changes):.4f}) of {len(changes)} sets")
    return passed and float(np.mean(changes)) <= 0


def main() -> None:
    """Write the objectives of this version, or compare those of two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "NOW"))
    options = parser.parse_args()
    if options.compare:
        sys.exit(0 if compare(*(json.loads(path.read_text()) for path in options.compare)) else 1)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, rows in sets(options.data):
        found[name] = [objectives(rows, seed) for seed in range(options.seeds)]
        print(name, *(f"{row['objective']:.4f} ({row['seconds']:.1f} s)" for row in found[name]), flush=True)
        options.write.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
