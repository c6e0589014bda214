"""Reasons for anomalies: faults put into clean rows, and the share of rows whose first reason is the wrong column.

    python benchmarks/planted.py FILES... [--rows 200] [--seeds 1] [--shap]
    python benchmarks/planted.py --windows [6 12 24] [--seeds 1]

FILES are ``.npz`` files of ADBench, whose normal rows are taken, or tables (CSV). Half of the rows, at most 2,000,
train; faults are put into some of the others:

- one: a number is moved by five deviations of its column;
- two: two numbers are;
- correlation: a number is replaced by one between the 5 % and the 95 % quantile of its column, which is at least five
  deviations of the residual away from what a random forest expects of it by the other columns, without the one that
  tells most; only columns of which the forest explains half of the variance. Where two columns agree with each other
  only, nobody can tell which of them is wrong;
- gap: a cell is missing, of a column in which at most 1 % are;
- category: a label that no row fitted has.

Beside `AnomalyDetector.explain`: the column with the largest z-score, and with ``--shap`` (rows of numbers; takes
shap) the column with the largest Shapley value of the detector's score, for 50 rows.

With ``--windows``, faults of six sensors in time, which follow three slow causes: a spike of four deviations, an offset
of two, and a sensor that stands still. The answer for a row some rows after the beginning of the fault is taken: the
share of alarms at a rate of 0.05, and of rows whose first reason is the sensor. This is for windows of several lengths,
without and with a column for each sensor of how much it has moved in the last rows (`movements`).
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from mixed_tables import from_file
from scipy.signal import lfilter
from sklearn.ensemble import RandomForestRegressor

from eigencode import AnomalyDetector

MOST_TRAINING = 2000
SHIFT = 5.0
PREDICTABLE = 0.5
SHAP_ROWS = 50

SENSORS, CAUSES, MEMORY, NOISE = 6, 3, 0.95, 0.3
SERIES_ROWS, N_FAULTS, SPACE = 4000, 60, 60
MOVED_IN = 6


@dataclass
class Planted:
    """Rows with faults, and which cells are wrong, shape (n, d)."""

    frame: pd.DataFrame
    is_wrong: np.ndarray


class Planter:
    """Puts faults into clean rows."""

    def __init__(self, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> None:
        self.train, self.test, self.rng = train, test, np.random.default_rng(seed)
        kinds = [
            pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
            for name, kind in test.dtypes.items()
        ]
        varies = [train[name].nunique() > 2 for name in train]
        self.numbers = np.flatnonzero(np.array(kinds) & varies)
        self.labels = np.flatnonzero([not pd.api.types.is_numeric_dtype(kind) for kind in test.dtypes])

    def planted(self, kind: str) -> Planted | None:
        """The rows with a fault of a kind, None where the table has no column for it."""
        found: Planted | None = getattr(self, f"_{kind}")()
        return found

    def _one(self, n_columns: int = 1) -> Planted | None:
        if len(self.numbers) < n_columns:
            return None
        frame, is_wrong = self.test.copy(), np.zeros(self.test.shape, dtype=bool)
        for row in range(len(frame)):
            is_wrong[row, self.rng.choice(self.numbers, n_columns, replace=False)] = True
        is_wrong &= frame.notna().to_numpy()
        for j in self.numbers:
            signs = self.rng.choice([-1, 1], size=int(is_wrong[:, j].sum()))
            cells = frame.iloc[:, j].to_numpy(dtype=float, copy=True)
            cells[is_wrong[:, j]] += SHIFT * self.train.iloc[:, j].std() * signs
            frame.isetitem(j, cells)
        return self._kept(frame, is_wrong)

    def _two(self) -> Planted | None:
        return self._one(2)

    def _correlation(self) -> Planted | None:
        frame, is_wrong = self.test.copy(), np.zeros(self.test.shape, dtype=bool)
        cells = {}
        for j in self.numbers:
            expected, spread = self._expected(j)
            if spread is None:
                continue
            pool = self.train.iloc[:, j].dropna().to_numpy(float)
            low, high = np.quantile(pool, [0.05, 0.95])
            draws = self.rng.choice(pool[(pool >= low) & (pool <= high)], size=(len(frame), 100))
            own = frame.iloc[:, j].to_numpy(float)[:, None]
            is_far = np.minimum(np.abs(draws - expected[:, None]), np.abs(draws - own)) > SHIFT * spread
            cells[j] = np.where(is_far.any(1), draws[np.arange(len(frame)), is_far.argmax(1)], np.nan)
        for row in range(len(frame)):
            if possible := [j for j in cells if not np.isnan(cells[j][row])]:
                is_wrong[row, self.rng.choice(possible)] = True
        for j in cells:
            frame.isetitem(j, np.where(is_wrong[:, j], cells[j], frame.iloc[:, j].to_numpy(float)))
        return self._kept(frame, is_wrong)

    def _expected(self, j: int) -> tuple[np.ndarray, float | None]:
        """What a forest expects of a column of the test rows, and its error; no error where it explains too little.

        The column that tells it most is left out: two columns that agree with each other only cannot be told apart.
        """
        inputs = [_coded(frame.drop(columns=frame.columns[j])) for frame in (self.train, self.test)]
        target = self.train.iloc[:, j].to_numpy(float)
        known = ~np.isnan(target)
        best = _forest(inputs[0][known], target[known]).feature_importances_.argmax()
        train, test = (np.delete(table, best, axis=1) for table in inputs)
        forest = _forest(train[known], target[known])
        error = float((target[known] - forest.oob_prediction_).std())
        return forest.predict(test), error if error**2 < PREDICTABLE * target[known].var() else None

    def _gap(self) -> Planted | None:
        full = np.flatnonzero(self.train.isna().mean() <= 0.01)
        frame, is_wrong = self.test.copy(), np.zeros(self.test.shape, dtype=bool)
        is_wrong[np.arange(len(frame)), self.rng.choice(full, len(frame))] = True
        is_wrong &= frame.notna().to_numpy()
        return self._kept(frame.mask(is_wrong), is_wrong)

    def _category(self) -> Planted | None:
        if not len(self.labels):
            return None
        frame, is_wrong = self.test.copy(), np.zeros(self.test.shape, dtype=bool)
        is_wrong[np.arange(len(frame)), self.rng.choice(self.labels, len(frame))] = True
        return self._kept(frame.mask(is_wrong, "never seen"), is_wrong)

    def _kept(self, frame: pd.DataFrame, is_wrong: np.ndarray) -> Planted | None:
        has_fault = is_wrong.any(1)
        return Planted(frame[has_fault].reset_index(drop=True), is_wrong[has_fault]) if has_fault.sum() > 9 else None


def _forest(rows: np.ndarray, target: np.ndarray) -> RandomForestRegressor:
    return RandomForestRegressor(50, min_samples_leaf=3, oob_score=True, random_state=0).fit(rows, target)


def _coded(frame: pd.DataFrame) -> np.ndarray:
    """Numbers as they are, labels as their codes."""
    coded = [
        frame[name] if pd.api.types.is_numeric_dtype(frame[name]) else frame[name].astype("category").cat.codes
        for name in frame
    ]
    return np.nan_to_num(np.column_stack(coded).astype(float), nan=-1.0)


def by_z_score(train: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """The number of the column with the largest distance from its mean, in deviations."""
    numbers = [j for j, kind in enumerate(train.dtypes) if pd.api.types.is_numeric_dtype(kind)]
    known = train.iloc[:, numbers].to_numpy(float)
    spread = np.nanstd(known, 0)
    scores = np.abs(rows.iloc[:, numbers].to_numpy(float) - np.nanmean(known, 0)) / np.where(spread > 0, spread, np.inf)
    return np.array(numbers)[np.nan_to_num(scores).argmax(1)]


def by_reasons(model: AnomalyDetector, rows: pd.DataFrame, n_columns: int = 1) -> np.ndarray:
    """The numbers of the first columns of `explain`, shape (n, n_columns)."""
    found = model.explain(rows, n_columns=n_columns)["column"].to_numpy()
    index = {name: j for j, name in enumerate(rows.columns)}
    return np.array([index[name] for name in found]).reshape(len(rows), -1)


def by_shap(model: AnomalyDetector, train: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """The number of the column with the largest Shapley value of the score."""
    import shap

    def score(X: np.ndarray) -> np.ndarray:
        return -model.score_samples(pd.DataFrame(X, columns=rows.columns))

    background = shap.maskers.Independent(train.to_numpy(float), max_samples=50)
    explainer = shap.PermutationExplainer(score, background, seed=0)
    return explainer(rows.to_numpy(float), max_evals=4 * rows.shape[1] + 2, silent=True).values.argmax(1)


def clean(path: Path, seed: int, n_rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows to train with, and rows to put faults into."""
    if path.suffix == ".npz":
        found = np.load(path)
        X = found["X"][~found["y"].astype(bool)].astype(float)
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    else:
        frame = from_file(path, None).frame
    frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    half = len(frame) // 2
    return frame[: min(half, MOST_TRAINING)], frame[half : half + n_rows].reset_index(drop=True)


KINDS = ("one", "two", "correlation", "gap", "category")


def shares(path: Path, seed: int, n_rows: int, with_shap: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """For each kind of fault, the share of rows whose first reason is right, by each method."""
    train, test = clean(path, seed, n_rows)
    model = AnomalyDetector(random_state=seed).fit(train)
    planter = Planter(train, test, seed)
    for kind in KINDS:
        planted = planter.planted(kind)
        if planted is None:
            continue
        rows, is_wrong = planted.frame, planted.is_wrong
        everyone, most = np.arange(len(rows)), is_wrong.sum(1).max()
        first = by_reasons(model, rows, most)
        found = {"reasons": is_wrong[everyone, first[:, 0]].mean(), "n": len(rows)}
        if kind in ("one", "two", "correlation"):
            found["z-scores"] = is_wrong[everyone, by_z_score(train, rows)].mean()
        if kind == "two":
            both = is_wrong.sum(1) == 2
            found["both"] = is_wrong[everyone[both, None], first[both]].all(1).mean()
        if with_shap and kind in ("one", "two", "correlation") and path.suffix == ".npz":
            few = everyone[:SHAP_ROWS]
            found["shap"] = is_wrong[few, by_shap(model, train, rows[: len(few)])].mean()
        yield kind, found


def series(n_rows: int, seed: int) -> pd.DataFrame:
    """Sensors in time that follow a few causes, each an autoregressive series."""
    rng, loadings = np.random.default_rng(seed), np.random.default_rng(11).normal(size=(CAUSES, SENSORS))
    steps = (1 - MEMORY**2) ** 0.5 * rng.normal(size=(n_rows + 200, CAUSES))
    causes = lfilter([1.0], [1.0, -MEMORY], steps, axis=0)[200:]
    rows = causes @ loadings / np.linalg.norm(loadings, axis=0) + NOISE * rng.normal(size=(n_rows, SENSORS))
    return pd.DataFrame(rows, columns=[f"s{j}" for j in range(SENSORS)])


def movements(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with further columns: the logarithm of the deviation of each sensor in the last `MOVED_IN` rows."""
    spread = rows.rolling(MOVED_IN).std().bfill().clip(lower=0)
    return rows.join(np.log(spread + 0.01 * rows.std()).add_prefix("movement of "))


def faulty_series(kind: str, length: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A series with faults, the rows whose answers are taken, and the sensor that is wrong in each."""
    rows, rng = series((N_FAULTS + 1) * SPACE, seed), np.random.default_rng(seed)
    starts, wrong = SPACE * np.arange(1, N_FAULTS + 1), rng.integers(SENSORS, size=N_FAULTS)
    for start, j in zip(starts, wrong, strict=True):
        part = slice(start, start + 1 if kind == "spike" else start + length + 1)
        cells = rows.iloc[part, j]
        sizes = {"spike": 4.0, "offset": 2.0}
        rows.iloc[part, j] = rows.iloc[start - 1, j] if kind == "stuck" else cells + sizes[kind] * rng.choice([-1, 1])
    return rows, starts if kind == "spike" else starts + length, wrong


def of_windows(widths: list[int], n_seeds: int) -> None:
    """Print what is found of faults in time."""
    faults = [("spike", 0), ("offset", 5), ("stuck", 5), ("stuck", 10), ("stuck", 20)]
    print(f"{'alarms, first reason':<34}" + "".join(f"{f'{kind} {n or str()}':>14}" for kind, n in faults) + "   false")
    for width in widths:
        for columns in (pd.DataFrame, movements):
            found = np.zeros((n_seeds, len(faults), 2))
            false = []
            for seed in range(n_seeds):
                model = AnomalyDetector(window=width, random_state=seed).fit(columns(series(SERIES_ROWS, seed)))
                for number, (kind, length) in enumerate(faults):
                    rows, at, wrong = faulty_series(kind, length, seed + 1000)
                    reasons = model.explain(columns(rows), n_columns=1)["column"].to_numpy()[at]
                    is_right = [f"s{j}[" in f"{name}[" for j, name in zip(wrong, map(str, reasons), strict=True)]
                    found[seed, number] = (model.predict(columns(rows))[at] == -1).mean(), np.mean(is_right)
                false.append((model.predict(columns(series(SERIES_ROWS, seed + 2000))) == -1).mean())
            name = f"window {width}" + (", with movements" if columns is movements else "")
            cells = "".join(f"{a:>8.2f}{b:>6.2f}" for a, b in found.mean(0))
            print(f"{name:<34}{cells}{np.mean(false):>8.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--shap", action="store_true")
    parser.add_argument("--windows", type=int, nargs="*")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.windows is not None:
        return of_windows(options.windows or [6, 12, 24], options.seeds)
    columns = ["reasons", "z-scores", "both", *(["shap"] if options.shap else [])]
    print(f"{'':<20}{'fault':<12}{'rows':>6}" + "".join(f"{name:>10}" for name in columns))
    every: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for path in options.files:
        for seed in range(options.seeds):
            for kind, found in shares(path, seed, options.rows, options.shap):
                values = [found.get(name, np.nan) for name in columns]
                every[kind].append(values)
                print(f"{path.stem:<20}{kind:<12}{found['n']:>6}" + "".join(f"{v:>10.3f}" for v in values), flush=True)
    for kind, rows in every.items():
        if rows:
            print(f"{'mean':<20}{kind:<12}{'':>6}" + "".join(f"{v:>10.3f}" for v in np.nanmean(rows, 0)))


if __name__ == "__main__":
    main()
