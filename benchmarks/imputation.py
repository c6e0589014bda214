"""Claims: on breast cancer with half of the cells missing, the squared error of what is imputed is at most .235 of the
variance and at most that of the Gaussian from EM; on mixed tables with 30 % missing, numbers have a smaller error than
with IterativeImputer (BayesianRidge, and 100 extremely randomised trees), categories are right more often than with the
mode and with those trees, in a tenth of the trees' time.

    python benchmarks/imputation.py [breast_cancer titanic.csv ...] [--data FOLDER] [--rows 5000] [--masks 5]

A name is one of scikit-learn's sets, an array that is standardised with all its values; a file is a frame as pandas
reads it. Cells are hidden at random, or by value: large numbers more often, and categories with a large index. Gaps
that the table has are given to all methods as gaps, and are not scored. Each method is fitted to the rows whose gaps it
fills.

Printed for each method are, over hidden cells: the root of the mean squared error of numbers in units of their column's
standard deviation, and its square; the energy score of a row's hidden numbers, of `--draws` draws (for a method without
draws, the distance), over the root of how many there are; the share of categories that are right; their log-loss in
nats, for methods with draws or probabilities; CPU seconds to fit and impute, and further ones for the draws.

missForest (`pip install missforest`; it also learns from the cells that it filled, unlike the published method) and
miceforest (`pip install miceforest "lightgbm<4.7"`) are run if they can be imported. Methods that take long are given
the first `--slow-masks` masks only; a comparison is over the masks that both methods had.
"""

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch  # noqa: F401  (what a library takes to be imported is no time of its first fit)
from mixed_tables import Cells, tables
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.linear_model import BayesianRidge

from eigencode import Autoencoder, VariationalAutoencoder

RIDGE = 1e-6
"""Added to the variances of the Gaussian, since the indicators of a category are collinear."""


@dataclass
class Imputed:
    """The matrix with its gaps filled; a function of m that gives m draws; probabilities {column: (n, n_values)}."""

    matrix: np.ndarray
    draw: Any = None
    probabilities: dict | None = None


# Methods: each is a function of the table, of its matrix with gaps, and of a seed.


def mean_and_mode(table, matrix, seed):
    rng = np.random.default_rng(seed)
    observed = [column[~np.isnan(column)] for column in matrix.T]
    centre = [c.mean() if n else np.bincount(c.astype(int)).argmax() for c, n in zip(observed, table.is_number)]  # noqa: B905

    def draw(m):
        return [fill(matrix, np.column_stack([rng.choice(c, len(matrix)) for c in observed])) for _ in range(m)]

    return Imputed(fill(matrix, np.array(centre)), draw)


def nearest_neighbours(table, matrix, seed):
    cells = Cells(table, matrix)
    filled = KNNImputer().fit_transform(cells.encode(matrix))
    return Imputed(fill(matrix, cells.decode(filled)), probabilities=cells.shares(filled))


def iterative_ridge(table, matrix, seed):
    cells = Cells(table, matrix)

    def imputed(seed, posterior):
        model = IterativeImputer(BayesianRidge(), sample_posterior=posterior, random_state=seed)
        return fill(matrix, cells.raw(model.fit_transform(cells.standardised(matrix))))

    return Imputed(imputed(seed, False), lambda m: [imputed(seed + i, True) for i in range(m)])


def iterative_trees(table, matrix, seed):
    cells = Cells(table, matrix)
    model = IterativeImputer(ExtraTreesRegressor(100, random_state=seed), max_iter=10, random_state=seed)
    return Imputed(fill(matrix, cells.raw(model.fit_transform(cells.standardised(matrix)))))


def miss_forest(table, matrix, seed):
    from missforest import MissForest

    frame = pd.DataFrame(matrix).rename(columns=str)
    categorical = [name for name, number in zip(frame, table.is_number, strict=True) if not number]
    forests = RandomForestClassifier(random_state=seed), RandomForestRegressor(random_state=seed)
    model = MissForest(*forests, categorical=categorical or None, verbose=0)
    return Imputed(fill(matrix, model.fit_transform(frame)[list(frame)].to_numpy(dtype=float)))


def mice_forest(table, matrix, seed, n_sets=5):
    """Its point is the mean or the mode of its data sets; they are its draws too."""
    from miceforest import ImputationKernel

    frame = pd.DataFrame(matrix).rename(columns=str)
    categorical = [name for name, number in zip(frame, table.is_number, strict=True) if not number]
    kernel = ImputationKernel(frame.astype(dict.fromkeys(categorical, "category")), n_sets, random_state=seed)
    kernel.mice(5, num_threads=1)
    sets = np.array([fill(matrix, kernel.complete_data(i).to_numpy(dtype=float)) for i in range(n_sets)])
    point = sets.mean(0)
    for j in np.flatnonzero(~table.is_number):
        point[:, j] = frequencies(sets[:, :, j], len(table.values[j])).argmax(1)
    return Imputed(fill(matrix, point), lambda m: sets)


def gaussian(table, matrix, seed):
    """Conditional means and draws of a Gaussian with any covariance, of standardised numbers and indicators."""
    cells, rng = Cells(table, matrix), np.random.default_rng(seed)
    x = cells.encode(matrix)
    mean, covariance = expectation_maximization(x)

    def draw(m):
        return [fill(matrix, cells.decode(conditional(x, mean, covariance, rng)[0])) for _ in range(m)]

    return Imputed(fill(matrix, cells.decode(conditional(x, mean, covariance)[0])), draw)


def expectation_maximization(x, rounds=200, tolerance=1e-3):
    """Mean and covariance of a Gaussian from rows with gaps."""
    mean, covariance = np.nanmean(x, 0), np.diag(np.nanvar(x, 0))
    before = np.inf
    for _ in range(rounds):
        filled, spread = conditional(x, mean, covariance)
        mean, covariance = filled.mean(0), np.cov(filled.T, bias=True) + spread / len(x)
        if np.mean((filled - before) ** 2) < tolerance**2:
            break
        before = filled
    return mean, covariance


def conditional(x, mean, covariance, rng=None):
    """Rows with their gaps filled by the conditional mean, or by a draw; and the sum of the conditional covariances."""
    filled, spread = x.copy(), np.zeros_like(covariance)
    patterns, which = np.unique(np.isnan(x), axis=0, return_inverse=True)
    order = np.split(np.argsort(which, kind="stable"), np.cumsum(np.bincount(which))[:-1])
    for m, rows in zip(patterns, order, strict=True):
        o, hidden = ~m, np.ix_(m, m)
        gain = np.linalg.solve(covariance[np.ix_(o, o)] + RIDGE * np.eye(o.sum()), covariance[np.ix_(o, m)])
        rest = covariance[hidden] - covariance[np.ix_(m, o)] @ gain
        spread[hidden] += len(rows) * rest
        found = mean[m] + (x[np.ix_(rows, o)] - mean[o]) @ gain
        if rng is not None and m.any():
            root = np.linalg.cholesky(rest + 10 * RIDGE * np.eye(m.sum()))
            found += rng.standard_normal(found.shape) @ root.T
        filled[np.ix_(rows, m)] = found
    return filled, spread


def eigencode(kind, table, matrix, seed):
    gaps = np.isnan(matrix)
    rows = matrix if table.is_array else table.frame.mask(gaps)
    model = kind(random_state=seed).fit(rows)

    def back(found):
        return found if table.is_array else table.matrix(found)

    return Imputed(
        back(model.impute(rows)), lambda m: [back(found) for found in model.impute(rows, n_draws=m, random_state=seed)]
    )


METHODS = {
    "mean, mode": mean_and_mode,
    "5 neighbours": nearest_neighbours,
    "ridge": iterative_ridge,
    "trees": iterative_trees,
    "missforest": miss_forest,
    "miceforest": mice_forest,
    "Gaussian": gaussian,
    "eigencode": partial(eigencode, Autoencoder),
    "variational": partial(eigencode, VariationalAutoencoder),
}
OPTIONAL = ("missforest", "miceforest")
SLOW = ("trees", *OPTIONAL)


def fill(matrix, found):
    return np.where(np.isnan(matrix), found, matrix)


# What is hidden, and the scores.


def hide(matrix, share, how, rng):
    """Cells that are hidden: a share of the observed ones at random, or the larger ones more often."""
    observed = ~np.isnan(matrix)
    chance = np.full(matrix.shape, share)
    if how == "value":
        ranks = rankdata(matrix, axis=0, nan_policy="omit") / observed.sum(0)
        chance = np.minimum(2 * share * ranks, 1)
    return observed & (rng.random(matrix.shape) < chance)


def energy_score(draws, truth, hidden):
    """Mean over rows of E||X - y|| - E||X - X'|| / 2 over hidden cells, divided by the root of how many there are.

    For one cell this is the continuous ranked probability score; for one draw, the distance. Lower is better.
    """
    n_hidden = hidden.sum(1)
    rows = n_hidden > 0
    draws, truth, hidden = draws[:, rows], truth[rows], hidden[rows]

    def distance(a, b):
        return np.sqrt(np.where(hidden, a - b, 0) ** 2 @ np.ones(truth.shape[1])) / np.sqrt(n_hidden[rows])

    score = np.mean([distance(draw, truth) for draw in draws], 0)
    if (m := len(draws)) > 1:
        pairs = sum(distance(draws[i], draws[j]) for i in range(m) for j in range(i))
        score = score - pairs / (m * (m - 1))
    return score.mean()


def frequencies(draws, n_values):
    """Shares of each value among draws (m, n); (n, n_values)."""
    return (draws[:, :, None] == np.arange(n_values)).mean(0)


def log_loss(shares, marginal, truth, n_draws):
    """Mean of -log of the share of the true value, with one further draw that follows the column's frequencies."""
    smoothed = (n_draws * shares + marginal) / (n_draws + 1)
    return -np.log(np.take_along_axis(smoothed, truth.astype(int)[:, None], 1)[:, 0])


def scores(table, matrix, hidden, imputed, draws):
    """A dict of the scores of a method; NaN if it has no such answer."""
    truth, scale = table.matrix(table.frame), np.nanstd(table.matrix(table.frame), 0)
    numbers = table.is_number
    error = ((imputed.matrix - truth) / scale)[:, numbers][hidden[:, numbers]]
    found = {"MSE": (error**2).mean() if numbers.any() else np.nan}
    points = imputed.matrix[None] if draws is None else draws
    found["energy"] = np.nan
    if numbers.any():
        z = (points / scale)[:, :, numbers], (truth / scale)[:, numbers]
        found["energy"] = energy_score(*z, hidden[:, numbers])
    right, losses = [np.empty(0)], [np.empty(0)]
    for j in np.flatnonzero(~numbers):
        rows, n = hidden[:, j], len(table.values[j])
        right.append(imputed.matrix[rows, j] == truth[rows, j])
        marginal = np.bincount(matrix[~np.isnan(matrix[:, j]), j].astype(int), minlength=n) + 0.5
        shares = None if draws is None else frequencies(draws[:, rows, j], n)
        if imputed.probabilities is not None:
            shares = imputed.probabilities[j][rows]
        if shares is not None:
            m = 20 if draws is None else len(draws)
            losses.append(log_loss(shares, marginal / marginal.sum(), truth[rows, j], m))
    right, losses = np.concatenate(right), np.concatenate(losses)
    found |= {"accuracy": right.mean() if len(right) else np.nan, "log-loss": losses.mean() if len(losses) else np.nan}
    found["columns"] = by_column(table, imputed.matrix, truth, scale, hidden)
    return found


def by_column(table, found, truth, scale, hidden):
    """Root of the mean squared error of each number, accuracy of each category; (d,)."""
    error = np.where(table.is_number, ((found - truth) / scale) ** 2, found == truth)
    mean = np.nansum(np.where(hidden, error, 0), 0) / hidden.sum(0).clip(1)
    return np.where(table.is_number, np.sqrt(mean), mean)


def measured(name, table, matrix, hidden, seed, n_draws):
    """Scores and CPU seconds of a method, or None if it cannot be imported, or if an optional one fails."""
    began = time.process_time()
    try:
        imputed = METHODS[name](table, matrix, seed)
    except Exception as error:
        if name not in OPTIONAL:
            raise
        print(f"{name} is left out: {type(error).__name__}: {error}")
        return None
    seconds = time.process_time() - began
    draws = np.array(imputed.draw(n_draws)) if imputed.draw and n_draws else None
    return scores(table, matrix, hidden, imputed, draws) | {
        "s": seconds,
        "draws, s": time.process_time() - began - seconds,
    }


# The table that is printed, and the claims.

SHOWN = {"MSE": ".4f", "energy": ".4f", "accuracy": ".4f", "log-loss": ".3f", "s": ".2f", "draws, s": ".2f"}


def compare(table, how, share, options):
    """Measure all methods at some masks, print a line for each; {method: list of scores}."""
    print(f"\n{table.name}, {share:.0%} missing {'at random' if how == 'random' else 'by value'}")
    print(f"{'':14}{'masks':>6}{'RMSE':>9}" + "".join(f"{title:>10}" for title in SHOWN))
    complete, found = table.matrix(table.frame), {}
    for name in options.methods:
        runs = []
        for mask in range(min(options.masks, options.slow_masks) if name in SLOW else options.masks):
            hidden = hide(complete, share, how, np.random.default_rng([mask, 7]))
            run = measured(name, table, np.where(hidden, np.nan, complete), hidden, mask, options.draws)
            if run is None:
                break
            runs.append(run)
        if runs:
            found[name] = runs
            means = {title: np.mean([run[title] for run in runs]) for title in SHOWN}
            line = "".join("         -" if np.isnan(means[t]) else f"{means[t]:10{form}}" for t, form in SHOWN.items())
            print(f"{name:14}{len(runs):6d}{np.sqrt(means['MSE']):9.4f}{line}", flush=True)
    if options.by_mask:
        for mask in range(options.masks):
            runs = {name: runs[mask] for name, runs in found.items() if mask < len(runs)}
            print(f"  mask {mask}  " + "  ".join(f"{name} {run['MSE']:.4f}" for name, run in runs.items()))
    if options.by_column:
        for j, name in enumerate(table.frame.columns):
            line = "  ".join(
                f"{method} {np.mean([run['columns'][j] for run in runs]):.3f}" for method, runs in found.items()
            )
            print(f"  {name:16} {'RMSE' if table.is_number[j] else 'accuracy':8}  {line}")
    return found


def claims(table, how, share, found):
    """(claim, whether it holds) for what is claimed of this table."""

    def means(title, other):
        pairs = list(zip(found["eigencode"], found[other], strict=False))
        return np.mean([[run[title] for run in pair] for pair in pairs], 0)

    if how == "value" or "eigencode" not in found:
        return
    if table.name == "breast_cancer" and share == 0.5:
        ours = np.mean([run["MSE"] for run in found["eigencode"]])
        yield f"MSE {ours:.4f}, at most .235", ours <= 0.235
        if "Gaussian" in found:
            ours, other = means("MSE", "Gaussian")
            yield f"MSE {ours:.4f}, at most the Gaussian's {other:.4f}", ours <= other
    if table.is_array or share != 0.3:
        return
    for other in {"ridge", "trees"} & set(found):
        ours, theirs = np.sqrt(means("MSE", other))
        yield f"RMSE {ours:.4f}, below {theirs:.4f} ({other})", ours < theirs
    for other in {"mean, mode", "trees"} & set(found):
        ours, theirs = means("accuracy", other)
        yield f"accuracy {ours:.4f}, above {theirs:.4f} ({other})", ours > theirs
    if "trees" in found:
        ours, theirs = means("s", "trees")
        yield f"{ours:.1f} s, at most a tenth of {theirs:.1f} s (trees)", ours <= theirs / 10


def main():
    """Print the scores of each table, and whether the claims hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "tables", nargs="*", help="names of scikit-learn's sets, or CSV files; breast_cancer by default"
    )
    parser.add_argument("--data", help="a folder: all its CSV files")
    parser.add_argument("--rows", type=int, default=5000, help="rows of each table, drawn at random")
    parser.add_argument("--masks", type=int, default=5)
    parser.add_argument("--slow-masks", type=int, default=1, help=f"masks for {', '.join(SLOW)}")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--missing", nargs="+", choices=["random", "value"], default=["random", "value"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--draws", type=int, default=20, help="draws for energy score and log-loss; 0: points only")
    parser.add_argument("--by-mask", action="store_true", help="also print the MSE of each mask")
    parser.add_argument("--by-column", action="store_true", help="also print the error of each column")
    options = parser.parse_args()
    # Ten rounds are what is claimed of, whether they converge or not.
    warnings.filterwarnings("ignore", module="sklearn|miceforest|missforest")
    names = options.tables or ([] if options.data else ["breast_cancer"])
    missed = 0
    for table in tables(names, options.data, options.rows):
        for how in options.missing:
            for share in options.shares:
                found = compare(table, how, share, options)
                for claim, holds in claims(table, how, share, found):
                    print(f"{'' if holds else 'MISSED: '}{claim}")
                    missed += not holds
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
