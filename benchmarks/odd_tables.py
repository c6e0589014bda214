"""Tables for `benchmarks/anomaly.py` that are odd in one way each: wide, tiny, discrete, heavy-tailed, with copies.

    python benchmarks/odd_tables.py FOLDER [--mnist mnist.npz] [--adult adult.csv]

Each ``.npz`` file in FOLDER has rows ``X`` and labels ``y``, 1 for anomalies. Most tables are drawn, others are of
scikit-learn's digits and wine, and, where the files are given, of MNIST (pixels, and random features of them like those
of a network) and of the adult census (labels as indicators).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_digits, load_wine

Table = tuple[np.ndarray, np.ndarray]
Rng = np.random.Generator


def joined(normal: np.ndarray, odd: np.ndarray) -> Table:
    return np.concatenate([normal, odd]), np.repeat([0, 1], [len(normal), len(odd)])


def plane(rng: Rng, n: int, d: int, k: int, noise: float = 0.3) -> np.ndarray:
    """Rows about a plane through 0, the same one for each call with an equal shape."""
    return rng.normal(size=(n, k)) @ np.random.default_rng(d).normal(size=(k, d)) + noise * rng.normal(size=(n, d))


def tiny(rng: Rng) -> Table:
    """80 rows of 19 columns, most of them with two values."""
    normal, odd = plane(rng, 67, 19, 3, 1.0), plane(rng, 13, 19, 3, 2.0)
    X, y = joined(normal, odd)
    X[:, 6:] = X[:, 6:] > 0.7
    return X, y


def wine(rng: Rng) -> Table:
    """Wine: two of the classes are normal, ten rows of the third are anomalies."""
    X, y = load_wine(return_X_y=True)
    return joined(X[y > 0], X[y == 0][:10])


def digits(rng: Rng) -> Table:
    """Digits as 64 whole numbers; those of one digit are anomalies."""
    X, y = load_digits(return_X_y=True)
    return joined(X[y != 0], X[y == 0][:150])


def two_values(rng: Rng) -> Table:
    """60 columns of 0 and 1 that depend on a class; anomalies mix two classes."""
    shares = rng.beta(0.3, 0.6, size=(6, 60))
    classes = rng.integers(6, size=1500)
    a, b = rng.integers(6, size=(2, 60))
    half = np.where(rng.random((60, 60)) < 0.5, shares[a], shares[b])
    return joined(rng.random((1500, 60)) < shares[classes], rng.random((60, 60)) < half)


def copies(rng: Rng) -> Table:
    """Three columns of few values: most rows have many copies; anomalies are a group of copies elsewhere."""
    normal = np.round(rng.lognormal(1, 0.5, size=(4000, 3)), 0)
    odd = np.round(rng.lognormal(1, 0.5, size=(40, 3)), 0) * [1, 1, 3]
    return joined(np.log1p(normal), np.log1p(odd))


def all_copies(rng: Rng) -> Table:
    """Only 30 different normal rows."""
    patterns = rng.normal(size=(30, 8)).round(1)
    return joined(patterns[rng.integers(30, size=2000)], patterns[rng.integers(30, size=50)] + rng.normal(size=(50, 8)))


def heavy_tails(rng: Rng) -> Table:
    """Student's t with 1.5 degrees of freedom about a plane; anomalies of usual size break its correlations."""
    spread = np.sqrt(1.5 / rng.chisquare(1.5, size=(3000, 1)))
    return joined(plane(rng, 3000, 10, 3) * spread, rng.permuted(plane(rng, 100, 10, 3), axis=0))


def heavy_columns(rng: Rng) -> Table:
    """Log-normal columns over several powers of ten; anomalies are 30 times as large in two columns."""
    normal, odd = rng.lognormal(0, 2, size=(3000, 12)), rng.lognormal(0, 2, size=(60, 12))
    for row in odd:
        row[rng.choice(12, 2, replace=False)] *= 30
    return joined(normal, odd)


def fraud(rng: Rng) -> Table:
    """Uncorrelated columns with heavy tails; .3 % anomalies are shifted in five of them."""
    normal, odd = rng.standard_t(4, size=(12000, 29)), rng.standard_t(4, size=(40, 29))
    odd[:, :5] += 3 * rng.choice([-1, 1], size=5)
    return joined(normal, odd)


def constant(rng: Rng) -> Table:
    """Five of 15 columns are constant in normal rows; anomalies differ a little in one of them."""
    normal, odd = plane(rng, 1000, 15, 3), plane(rng, 60, 15, 3)
    normal[:, 10:], odd[:, 10:] = 4.0, 4.0
    odd[np.arange(60), 10 + rng.integers(5, size=60)] += rng.normal(size=60)
    return joined(normal, odd)


def rare_ones(rng: Rng) -> Table:
    """1,000 columns that are 0 in nearly all rows; anomalies have more ones, and some in columns of their own."""
    rates = rng.beta(0.2, 20, size=1000) * (np.arange(1000) < 900)
    odd = rng.random((100, 1000)) < 2 * rates + 0.01 * (np.arange(1000) >= 900)
    return joined(rng.random((1500, 1000)) < rates, odd)


def words(rng: Rng) -> Table:
    """Counts of 400 words in texts of four subjects; anomalies are of a fifth one."""
    subjects = rng.dirichlet(np.full(400, 0.05), size=5)
    counts = [rng.multinomial(60, subjects[s]) for s in rng.integers(4, size=1500)]
    return joined(
        np.array(counts), np.array([rng.multinomial(60, subjects[4] / 2 + subjects[0] / 2) for _ in range(60)])
    )


def noise(rng: Rng) -> Table:
    """400 columns of noise; anomalies have a little more of it."""
    return joined(rng.normal(size=(3000, 400)), 1.05 * rng.normal(size=(60, 400)))


def few_rows_wide(rng: Rng) -> Table:
    """120 rows of 600 columns about a plane; anomalies are off it."""
    return joined(plane(rng, 120, 600, 5, 1.0), plane(rng, 12, 600, 5, 1.3))


def groups(rng: Rng) -> Table:
    """Groups of very different density; anomalies lie between them."""
    centers, spreads = 6 * rng.normal(size=(6, 8)), np.array([0.05, 0.1, 0.3, 0.6, 1.0, 2.0])
    of = rng.choice(6, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05], size=4000)
    pairs = np.array([rng.choice(6, 2, replace=False) for _ in range(80)])
    odd = centers[pairs].mean(1) + 0.5 * rng.normal(size=(80, 8))
    return joined(centers[of] + spreads[of, None] * rng.normal(size=(4000, 8)), odd)


def hole(rng: Rng) -> Table:
    """A sphere in eight columns; anomalies are inside."""
    on = rng.normal(size=(2000, 8))
    on *= (1 + 0.05 * rng.normal(size=(2000, 1))) / np.linalg.norm(on, axis=1, keepdims=True)
    return joined(on, 0.2 * rng.normal(size=(60, 8)))


def one_column(rng: Rng) -> Table:
    """A single column: two peaks, anomalies between them and far out."""
    normal = rng.normal(rng.choice([-3.0, 3.0], size=1000))
    return joined(normal[:, None], rng.choice([0.0, -9.0, 9.0], size=30)[:, None] + 0.2 * rng.normal(size=(30, 1)))


def irrelevant(rng: Rng) -> Table:
    """Anomalies are far out in 2 of 50 columns of noise."""
    normal, odd = rng.normal(size=(2000, 50)), rng.normal(size=(60, 50))
    odd[:, :2] += rng.choice([-4, 4], size=(60, 2))
    return joined(normal, odd)


def a_group(rng: Rng) -> Table:
    """Anomalies are a small dense group, nearer to each other than the others are."""
    return joined(plane(rng, 1500, 20, 4), 3 + plane(rng, 75, 20, 4) * 0.1)


MADE: tuple[Callable[[Rng], Table], ...] = (
    tiny,
    wine,
    digits,
    two_values,
    copies,
    all_copies,
    heavy_tails,
    heavy_columns,
    fraud,
    constant,
    rare_ones,
    words,
    noise,
    few_rows_wide,
    groups,
    hole,
    one_column,
    irrelevant,
    a_group,
)


def of_mnist(path: Path, rng: Rng) -> dict[str, Table]:
    """Pixels of one digit beside others, and 512 random features of them, which are mostly 0."""
    found = np.load(path)
    X, y = found["xtr"].astype(np.float64) / 255, found["ytr"]
    odd = rng.permutation(np.flatnonzero(y != 4))[:120]
    four = np.flatnonzero(y == 4)[:2400]
    even = np.concatenate([np.flatnonzero(y == digit)[:500] for digit in range(0, 10, 2)])
    odd_digits = rng.permutation(np.flatnonzero(y % 2 == 1))[:120]
    weights = rng.normal(size=(784, 1024)) / 28

    def features(rows: np.ndarray) -> np.ndarray:
        hidden = np.maximum((rows - 0.13) @ weights * 3 - 0.2, 0)
        return hidden[:, :512] - 0.5 * hidden[:, 512:]

    return {
        "mnist_four": joined(X[four], X[odd]),
        "mnist_even": joined(X[even], X[odd_digits]),
        "features_four": joined(features(X[four]), features(X[odd])),
        "features_even": joined(features(X[even]), features(X[odd_digits])),
    }


def of_adult(path: Path, rng: Rng) -> dict[str, Table]:
    """The adult census, labels as indicators: rows of high income are anomalies; and labels alone, some exchanged."""
    frame = pd.read_csv(path, header=None, skipinitialspace=True)[:8000]
    is_high, frame = frame.iloc[:, -1].str.startswith(">50K").to_numpy(), frame.iloc[:, :-1]
    X = pd.get_dummies(frame).to_numpy(float)
    labels = frame.select_dtypes(exclude="number")
    mixed = pd.DataFrame({name: rng.permutation(labels[name].to_numpy()) for name in labels}).iloc[:80]
    coded = pd.get_dummies(pd.concat([labels[:3000], mixed])).to_numpy(float)
    return {
        "adult": joined(X[~is_high][:4000], X[is_high][:200]),
        "adult_labels": (coded, np.repeat([0, 1], [3000, len(mixed)])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--adult", type=Path)
    options = parser.parse_args()
    tables = {make.__name__: make(np.random.default_rng(0)) for make in MADE}
    for read, path in ((of_mnist, options.mnist), (of_adult, options.adult)):
        tables |= read(path, np.random.default_rng(0)) if path is not None else {}
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, (X, y) in tables.items():
        np.savez_compressed(options.folder / f"{name}.npz", X=X.astype(np.float64), y=y)


if __name__ == "__main__":
    main()
