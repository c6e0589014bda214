"""AnomalyDetector: what it measures, the rate of false alarms that it keeps, far rows, and files."""

import json
import math
import re
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import estimator_checks

import eigencode
from eigencode import (
    AnomalyDetector,
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.cli import main
from eigencode.data import named_files
from eigencode.data.containers import NamedArray
from eigencode.detection import index
from eigencode.detection.baselines import baseline_scores, with_faults
from eigencode.detection.calibration import Calibration
from eigencode.detection.extent import beyond
from eigencode.detection.index import NearestIndex
from eigencode.detection.neighbors import KnownRows, Neighbors
from eigencode.errors import DataError, OptionError, ResultWarning, StorageError
from eigencode.estimators.cell_density import cell_density
from eigencode.estimators.inputs import read_rows
from eigencode.estimators.members import _standardised, held_out
from eigencode.export.choice import graph_of


def rows_of(n_rows, seed=0):
    """Rows of five columns in different units, about a plane, with one constant column."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(n_rows, 2)) @ np.array([[1.0, 2, 0, 1], [0, 1, 3, -1]])
    noisy = (plane + 0.2 * rng.normal(size=plane.shape)) * [1, 100, 0.01, 1] + [0, 5, 1, -3]
    return np.column_stack([noisy, np.full(n_rows, 7.0)])


@pytest.fixture(scope="module")
def X():
    return rows_of(400)


@pytest.fixture(scope="module")
def fitted(X):
    return AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(X)


@pytest.mark.versions
@pytest.mark.draws_globally
def test_scikit_learns_checks_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tables with a few rows
        estimator_checks.check_estimator(AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0))


# -- what is measured


def test_it_measures_residuals_in_units_of_the_noise_and_the_density_of_codes(X, fitted):
    model, unlikeness = fitted.autoencoder_, fitted.unlikeness_
    z, residuals = model.transform(X), (X - model.reconstruct(X)) / model.scaler_.divisor
    density = sum(
        w * scipy.stats.multivariate_normal(m, c).pdf(z)
        for w, m, c in zip(
            unlikeness.row_nats.mixture.weights,
            unlikeness.row_nats.mixture.means,
            unlikeness.row_nats.mixture.covariances,
            strict=True,
        )
    )
    literal = (residuals**2 / (2 * unlikeness.row_nats.noise)).sum(1) - np.log(density)
    literal -= 5 * np.log(1 - 1 / (321 - fitted.n_trimmed_ + 1.5))  # no gap in these rows
    np.testing.assert_allclose(unlikeness.row_nats(model, read_rows(fitted, X)), literal, rtol=1e-6)
    # 4 columns of noise 0.2, in units of their deviations, beside a plane: 2 directions of 5 are left.
    deviations = np.delete(X.std(0) / [1, 100, 0.01, 1, 1], 4)
    assert unlikeness.row_nats.noise[0] == pytest.approx(0.04 * (1 / deviations**2).mean() * 2 / 3, rel=0.15)


def test_the_score_joins_the_tails_and_what_far_rows_get(X, fitted):
    model, unlikeness = fitted.autoencoder_, fitted.unlikeness_
    known = unlikeness.known
    new = np.concatenate([rows_of(20, seed=1), 5 * rows_of(5, seed=2)])
    scaled, n = model.scaler_.transform(new), len(known.spacings)
    distances = np.sqrt(((scaled[:, None] - known.rows) ** 2).sum(2))
    to_fitted, numbers = np.sort(distances[:, :n], axis=1), np.argsort(distances[:, :n], axis=1)
    sums = unlikeness.tail(unlikeness.row_nats(model, read_rows(fitted, new))) + known.nearest_tail(distances.min(1))
    sums += 2 * known.group_tail(to_fitted[:, : n // 20].mean(1))
    least = 1e-3 * known.spacings.mean()
    around = known.spacings[numbers[:, :5]].mean(1)
    sums += known.local_tail(np.log((to_fitted[:, :5].mean(1) + least) / (around + least)))
    h = unlikeness.highest
    literal = np.where(sums > h, h * (2 - h / sums), sums) + h * beyond(
        np.linalg.norm(scaled, axis=1) / unlikeness.radius
    )
    np.testing.assert_allclose(-fitted.score_samples(new), literal, rtol=1e-9)
    assert (sums > h).any()
    assert (sums < h).any()


@pytest.mark.parametrize("n_columns", [3, 40])  # few columns are searched by a tree, many by products
def test_known_rows_are_compared_with_the_others(n_columns):
    rng = np.random.default_rng(0)
    rows, held_out = rng.normal(size=(50, n_columns)), rng.normal(size=(10, n_columns))
    rows[1] = rows[0]
    held_out[0], held_out[1] = rows[2], held_out[2]
    known = KnownRows.of(rows, held_out)
    everything = np.concatenate([rows, held_out])

    def literal(row, others):
        """The distance to the nearest of some rows, of which one that is equal does not count."""
        distances = np.sort(np.linalg.norm(others - row, axis=1))
        return distances[1] if distances[0] == 0 else distances[0]

    new = rng.normal(size=(5, n_columns))
    expected = [literal(row, everything) for row in np.concatenate([rows, new])]
    found = known.measures(np.concatenate([rows, new]))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[0] == 0 < found[3]  # the first is there twice
    expected = [literal(held_out[i], np.delete(everything, 50 + i, axis=0)) for i in range(1, 10)]
    np.testing.assert_allclose(known.measures(held_out, np.ones(10, dtype=bool))[0][1:], expected, rtol=1e-6)


def test_an_index_finds_nearly_all_neighbors():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(3, 12))
    rows, new = (rng.normal(size=(n, 3)) @ plane + 0.3 * rng.normal(size=(n, 12)) for n in (20_000, 300))
    by_cells, exact = NearestIndex(rows, 6), NearestNeighbors(n_neighbors=6, algorithm="brute").fit(rows)
    (distances, numbers), (nearest, expected) = by_cells.kneighbors(new), exact.kneighbors(new)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(numbers, expected, strict=True)]) > 0.97
    np.testing.assert_allclose(distances, np.linalg.norm(new[:, None] - rows[numbers], axis=2), rtol=1e-12)
    assert (distances >= nearest * (1 - 1e-6)).all()
    assert np.isfinite(by_cells.kneighbors(1e80 * new)[0]).all()


def test_a_detector_with_an_index_answers_as_one_without(X, monkeypatch, tmp_path):
    pytest.importorskip("faiss")
    exact = AnomalyDetector(autoencoder=LinearAutoencoder(2), random_state=0).fit(X)
    monkeypatch.setattr(index, "MOST_EXACT", 200)
    by_index = AnomalyDetector(autoencoder=LinearAutoencoder(2), random_state=0).fit(X)
    new = rows_of(100, seed=1)
    np.testing.assert_allclose(by_index.score_samples(new), exact.score_samples(new), rtol=1e-6)
    by_index.save(tmp_path / "d")
    np.testing.assert_array_equal(eigencode.load(tmp_path / "d").score_samples(new), by_index.score_samples(new))


def test_more_known_rows_take_faiss(X, monkeypatch):
    model = AnomalyDetector(autoencoder=LinearAutoencoder(2), known_rows=100, random_state=0).fit(X)
    assert len(model.unlikeness_.known.rows) == 100
    monkeypatch.setattr(index, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"more than 10,000 rows take faiss.*pip install 'eigencode\[index\]'"):
        clone(model).set_params(known_rows=20_000).fit(X)


def test_rows_beside_a_dense_group_are_local_anomalies():
    rng = np.random.default_rng(0)
    dense, sparse = 0.05 * rng.normal(size=(200, 2)), [6, 0] + 2 * rng.normal(size=(200, 2))
    known = KnownRows.of(rng.permutation(np.concatenate([dense, sparse])), np.zeros((0, 2)))
    beside, within = np.array([[0.0, 0.4]]), rng.permutation([6, 0] + 2 * rng.normal(size=(60, 2)))
    nearest, _, local = known.measures(np.concatenate([beside, within]))
    assert nearest[0] < nearest[1:].max()
    assert local[0] > local[1:].max() + 0.3


def test_a_row_held_out_with_a_value_of_its_own_scores_below_far_rows(X):
    X = X.copy()
    apart = held_out(len(X), 0.1, 0)[0]
    X[apart[0], 4] += 3  # the column is constant otherwise
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(X)
    scaler = model.autoencoder_.scaler_
    farthest = np.linalg.norm(scaler.transform(X), axis=1).max()
    directions = np.concatenate([np.eye(5), -np.eye(5)])
    far = model.score_samples(2 * farthest * directions * scaler.divisor + scaler.center)
    assert far.max() < model.score_samples(X).min()


@pytest.mark.parametrize("neighbors", [True, False])
@pytest.mark.parametrize("autoencoder", [LinearAutoencoder(2), Autoencoder(2, max_epochs=20)])
@pytest.mark.parametrize("is_dirty", [False, True])
def test_far_rows_score_above_all_rows_fitted_in_every_direction(X, neighbors, autoencoder, is_dirty):
    if is_dirty:  # rows far off the plane, which are not the farthest from the centre
        X = X.copy()
        X[:8, 3] -= [9, 10, 11, 12, -9, -10, -11, -12]
        X[8:12] = 2 * X[8:12] - X.mean(0)
    model = AnomalyDetector(neighbors=neighbors, autoencoder=autoencoder, random_state=0).fit(X)
    scaler = model.autoencoder_.scaler_
    scaled = scaler.transform(X)
    farthest, worst = np.linalg.norm(scaled, axis=1).max(), model.score_samples(X).min()
    rng = np.random.default_rng(1)
    in_plane = np.linalg.svd(scaled, full_matrices=False)[2][:2]
    directions = np.concatenate([in_plane, -in_plane, np.eye(5), rng.normal(size=(20, 5)) * scaled.std(0)])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    before = np.full(len(directions), worst)
    for times in (2.0, 10.0, 1e6):
        scores = model.score_samples(times * farthest * directions * scaler.divisor + scaler.center)
        assert (scores < before).all()
        assert np.isfinite(scores).all()
        before = scores


def test_far_rows_score_above_all_rows_fitted_though_one_held_out_is_far_out_in_one_column(X):
    X = X.copy()
    X[held_out(len(X), 0.1, 0)[0][0]] = X.mean(0) + 9 * X.std(0) * (np.arange(5) == 2)
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(X)
    spread = np.where(X.std(0) > 0, X.std(0), 1.0)  # of all rows: those fitted have a smaller one
    directions = np.random.default_rng(1).normal(size=(300, 5)) * [1, 1, 1, 1, 0]
    directions = np.concatenate([directions, np.eye(5)[:4], -np.eye(5)[:4]])
    directions *= np.linalg.norm((X - X.mean(0)) / spread, axis=1).max() / np.linalg.norm(directions, axis=1)[:, None]
    for times in (2, 10, 1e6):
        assert model.score_samples(X.mean(0) + times * directions * spread).max() < model.score_samples(X).min()


def test_far_numbers_of_a_frame_score_above_all_rows_fitted_though_they_are_logarithms_or_impossible(X):
    """In both directions of each column, in the column's own units."""
    frame = pd.DataFrame({"x": X[:, 0], "z": X[:, 3], "positive": np.exp(X[:, 1] / 50)})
    frame["label"] = np.where(X[:, 2] > np.median(X[:, 2]), "a", "b")
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(frame)
    assert model.columns_.columns[2].kind.kind == "positive"
    numbers = frame.iloc[:, :3].to_numpy()
    directions = np.concatenate([np.eye(3), -np.eye(3), np.random.default_rng(1).normal(size=(100, 3))])
    standardised = np.linalg.norm((numbers - numbers.mean(0)) / numbers.std(0), axis=1)
    directions *= standardised.max() / np.linalg.norm(directions, axis=1)[:, None] * numbers.std(0)
    worst = model.score_samples(frame).min()
    for times in (2, 10, 1e6):
        far = pd.DataFrame(numbers.mean(0) + times * directions, columns=frame.columns[:3]).assign(label="a")
        assert model.score_samples(far).max() < worst


@pytest.mark.parametrize("dtype", [np.float32, bool])
def test_a_row_by_itself_scores_as_among_others(dtype):
    """Many rows are equally far from each other, if they are of booleans."""
    rows = np.random.default_rng(0).normal(size=(200, 30))
    rows[:, 15:] += rows[:, :15]
    X = rows.astype(np.float32) if dtype is np.float32 else rows > 0.5
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(X)
    scores = model.score_samples(X)
    np.testing.assert_array_equal(scores[:40], [model.score_samples(X[i : i + 1])[0] for i in range(40)])
    np.testing.assert_array_equal(scores, model.score_samples(X.astype(np.float64)))


def test_scores_of_many_rows_take_memory_for_a_block():
    """Copies in float64 of all rows at once were six; the cells of a block are an eighth of these."""
    X = np.random.default_rng(0).normal(size=(80_000, 100)).astype(np.float32)
    model = AnomalyDetector(autoencoder=LinearAutoencoder(2, random_state=0), random_state=0).fit(X[:300])
    tracemalloc.start()
    try:
        found = model.score_samples(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * X.size * 8
    np.testing.assert_allclose(found[-9000:], model.score_samples(X[-9000:]), rtol=0, atol=1e-9)


def test_all_rows_as_far_as_the_fifth_are_about_a_row():
    rows = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1], [2, 0], [0, 2], [-2, 0], [0, -2], [5, 5], [9, 9]])
    values, row = np.arange(10.0), np.zeros((1, 2))
    neighbors = Neighbors(rows, 5)
    assert neighbors.mean_about(values, row, *neighbors.all(row)) == values[:8].mean()
    assert neighbors.mean_about(values, rows[8:9], *neighbors.all(rows[8:9])) == values[[9, 0, 1, 4, 5]].mean()
    several = np.concatenate([np.zeros((9, 2)), rows])
    neighbors = Neighbors(several, 5)
    values = np.arange(19.0)
    assert neighbors.mean_about(values, row, *neighbors.all(row)) in [
        values[:9][values[:9] != i].mean() for i in range(9)
    ]


@pytest.mark.versions
def test_a_lazy_frame_is_refused_with_a_hint(X, fitted):
    lazy = pl.DataFrame(X, [f"x{j}" for j in range(5)]).lazy()
    for ask in (fitted.score_samples, fitted.explain):
        with pytest.raises(DataError, match="collect"):
            ask(lazy)


def test_no_rows_are_kept_without_neighbors(X, fitted, tmp_path):
    model = clone(fitted).set_params(neighbors=False).fit(X)
    assert model.unlikeness_.known is None
    sizes = {}
    for name, saved in (("with", fitted), ("without", model)):
        saved.save(tmp_path / name)
        sizes[name] = (tmp_path / name).stat().st_size
    assert sizes["with"] - sizes["without"] > fitted.unlikeness_.known.rows.nbytes


def test_a_detector_says_what_it_keeps(X, fitted, tmp_path, capsys):
    for neighbors in (True, False):
        path = tmp_path / f"{neighbors}.safetensors"
        clone(fitted).set_params(neighbors=neighbors, trim=False).fit(X).save(path)
        kept = "400 rows of the fit, in the file too" if neighbors else "none"
        assert main(["describe", str(path)]) == 0
        printed = capsys.readouterr().out
        assert re.search(rf"keeps rows +{kept}", printed)
        assert re.search(r"false alarms +0.1 of normal rows, by 79 rows held out", printed)
        assert re.search(r"promise +on average over fits, at most 0.1 of new normal rows are alarms", printed)
        assert main(["describe", str(path), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["kind"], facts["n_kept"]) == ("AnomalyDetector", 400 * neighbors)


# -- the rate of false alarms


def test_the_rate_of_false_alarms_is_kept_on_new_rows():
    """The rate of one fit is Beta(k, m + 1 - k), so the mean over 24 fits has a known standard error."""
    p, drift = [], []
    for seed in range(24):  # 39 rows are held out
        model = AnomalyDetector(autoencoder=LinearAutoencoder(2), random_state=seed).fit(rows_of(200, seed))
        p.append(model.p_values(rows_of(200, 1000 + seed)))
        drift.append(model.calibration_.drift(p[-1]))
    assert (np.array(drift) < 0.1).sum() <= scipy.stats.binom(24, 0.1).isf(1e-4)
    for level in (0.05, 0.1, 0.5):
        k = math.floor(level * 40)
        beta = scipy.stats.beta(k, 40 - k)
        error = math.sqrt((beta.var() + level * (1 - level) / 200) / 24)
        assert abs((np.array(p) <= level).mean() - beta.mean()) < 4 * error


def test_alarms_are_rows_with_a_p_value_of_at_most_the_rate(X, fitted):
    new = np.concatenate([rows_of(100, seed=1), 1.5 * rows_of(100, seed=2)])
    assert ((fitted.predict(new) == -1) == (fitted.p_values(new) <= 0.1)).all()
    assert fitted.false_alarms_ == 0.1
    assert len(fitted.calibration_.scores) == 79


def test_too_few_rows_for_the_rate_are_noted(X):
    with pytest.warns(
        ResultWarning, match=r"15 rows held out are too few .* of 0.05, which takes 19: the rate is 0.06"
    ):
        model = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(X[:15])
    assert model.false_alarms_ == 1 / 16
    assert "too few" in model.notes_[0]
    assert (model.predict(rows_of(50) * 3) == -1).any()
    with pytest.raises(DataError, match="at least 4 rows of a weight above 0"):
        model.fit(X[:3])


# -- few rows


@pytest.fixture(scope="module")
def crossed(X):
    return AnomalyDetector(0.01, autoencoder=LinearAutoencoder(2), random_state=0).fit(X[:120])


def test_five_models_are_fitted_where_a_fifth_of_the_rows_is_too_few(X, crossed, tmp_path):
    """Each row is scored by the model that has not seen it, and p-values compare it with new rows under that model."""
    known = crossed.calibration_
    assert len(crossed.folds_) == 5
    assert len(known.scores) == 99  # with 120 rows, p-values of at most 0.01 are those of 1 row in 121
    assert crossed.false_alarms_ == 0.01
    assert "at most 0.096" in crossed.notes_[0]
    assert crossed.calibration_.proved(0.01) == pytest.approx(2 * (1 + 4) / 104)
    new = np.concatenate([rows_of(30, seed=5), 2 * rows_of(30, seed=6)])
    scores = np.stack([member.scores(NamedArray(new)) for member in crossed.folds_], axis=1)
    literal = [(1 + sum(s >= row[k] for s, k in zip(known.scores, known.models, strict=True))) / 100 for row in scores]
    np.testing.assert_allclose(crossed.p_values(new), literal)
    assert ((crossed.predict(new) == -1) == (crossed.p_values(new) <= 0.01)).all()
    assert 0 < (crossed.predict(new) == -1).sum() < 60
    crossed.save(tmp_path / "detector")
    again = eigencode.load(tmp_path / "detector")
    np.testing.assert_array_equal(again.decision_function(new), crossed.decision_function(new))
    assert crossed.drift(rows_of(200, seed=7)) > 0.01


def test_the_rate_of_false_alarms_holds_for_few_rows():
    """By cross-conformal prediction it is about the rate; proved is twice the rate."""
    shares = []
    for seed in range(8):
        model = AnomalyDetector(0.05, autoencoder=LinearAutoencoder(2), random_state=seed).fit(rows_of(60, seed))
        shares.append((model.predict(rows_of(300, 1000 + seed)) == -1).mean())
        assert len(model.folds_) == 5
    assert np.mean(shares) < 0.05 + 3 * np.std(shares) / math.sqrt(8)
    assert np.mean(shares) > 0.01


# -- weights, and rows that are not normal


def test_weights_hold_the_rate_for_new_rows_of_another_distribution():
    """Of the rows fitted 30 % are noisy, of new ones 95 %."""
    plain, weighted = [], []
    for seed in range(8):
        X, new, rng = rows_of(400, seed), rows_of(400, 500 + seed), np.random.default_rng(seed)
        X[280:] += rng.normal(size=(120, 5)) * [1, 100, 0.01, 1, 0]
        new[20:] += rng.normal(size=(380, 5)) * [1, 100, 0.01, 1, 0]
        weights = np.repeat([0.05 / 0.7, 0.95 / 0.3], [280, 120])
        for shares, given in ((plain, None), (weighted, weights)):
            model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=seed)
            shares.append((model.fit(X, density_ratio=given).predict(new) == -1).mean())
    assert np.mean(weighted) < 0.1 + 3 * np.std(weighted) / math.sqrt(8)
    assert np.mean(weighted) > 0.02
    assert np.mean(plain) > 0.2


def test_rows_of_weight_zero_do_not_count(X, fitted):
    model = clone(fitted).fit(np.concatenate([X, 9 * X[:50]]), density_ratio=np.repeat([1.0, 0.0], [400, 50]))
    assert (fitted.p_values(X) == clone(fitted).fit(X, density_ratio=np.ones(400)).p_values(X)).all()
    np.testing.assert_allclose(model.score_samples(X), fitted.score_samples(X), rtol=1e-6)


def test_a_group_of_anomalies_among_the_rows_is_found():
    """Without trimming they make each other normal."""
    X, bad = rows_of(500), rows_of(12, seed=9)
    bad[:, 3] += 4
    bad[:, 0] -= 3
    bad = bad[:1] + 0.05 * (bad - bad[:1])
    rows, found = np.concatenate([X, bad]), {}
    for trim in (True, False):
        model = AnomalyDetector(autoencoder=LinearAutoencoder(3), trim=trim, random_state=0).fit(rows)
        found[trim] = model
    assert found[True].n_trimmed_ >= 8
    assert "left out of the fit" in found[True].notes_[-1]
    assert found[False].n_trimmed_ == 0
    assert (found[True].predict(bad) == -1).mean() > (found[False].predict(bad) == -1).mean() + 0.5


def test_discoveries_hold_the_share_of_false_ones(X, fitted):
    bad = rows_of(20, seed=3)
    bad[:, 0] += 8
    found = fitted.discoveries(np.concatenate([rows_of(30, seed=4), bad]), 0.2)
    assert found[30:].mean() > 0.9
    assert found[:30].mean() < 0.25
    with pytest.raises(DataError, match="at least 999 rows held out"):
        fitted.discoveries(X, 0.001)


def test_drift_is_reported(fitted):
    assert fitted.drift(rows_of(100, seed=5)) > 0.01
    with pytest.warns(ResultWarning, match="no longer holds"):
        assert fitted.drift(rows_of(100, seed=5) * [1, 1, 1, 2, 1]) < 0.01
    few = rows_of(100, seed=5)
    few[:25] *= 5
    assert fitted.drift(few, anomalies=0.25) > 0.01
    with pytest.warns(ResultWarning, match="More than 10 % of the new rows"):
        fitted.drift(few * [1, 1, 1, 2, 1], anomalies=0.1)
    with pytest.raises(OptionError, match="'anomalies' must be a share"):
        fitted.drift(few, anomalies=1.0)


def test_windows_that_overlap_count_once_for_drift():
    t = np.arange(1200)
    series = np.column_stack([np.sin(t / 3), np.cos(t / 5)]) + 0.3 * np.random.default_rng(0).normal(size=(1200, 2))
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(4), window=6, random_state=0).fit(series[:800])
    p = model.p_values(series[800:])
    assert model.drift(series[800:]) == model.calibration_.drift(p[5::6])


# -- files and options


def test_a_file_gives_the_same_answers(X, fitted, tmp_path):
    fitted.save(tmp_path / "detector.safetensors")
    again = eigencode.load(tmp_path / "detector.safetensors")
    assert type(again) is AnomalyDetector
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    nats = again.unlikeness_.row_nats
    fewer = replace(nats, surprise_tails=replace(nats.surprise_tails, own=nats.surprise_tails.own[:4]))
    again.unlikeness_ = replace(again.unlikeness_, row_nats=fewer)
    again.save(tmp_path / "damaged")
    with pytest.raises(StorageError, match="what is measured"):
        eigencode.load(tmp_path / "damaged")


def test_the_same_seed_gives_the_same_bits(X, fitted):
    np.testing.assert_array_equal(clone(fitted).fit(X).score_samples(X), fitted.score_samples(X))


def test_a_fitted_autoencoder_is_used_as_it_is(X):
    autoencoder = LinearAutoencoder(2).fit(X[:100])
    model = AnomalyDetector(autoencoder=autoencoder, random_state=0).fit(X[100:])
    np.testing.assert_array_equal(model.autoencoder_.transform(X), autoencoder.transform(X))


@pytest.mark.versions
def test_gaps_and_mixed_columns_are_rows_too(X):
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"]).assign(kind=np.where(X[:, 0] > 0, "high", "low"))
    frame.loc[::7, "b"] = np.nan
    model = AnomalyDetector(autoencoder=Autoencoder(2, max_epochs=20), random_state=0).fit(frame)
    wrong = frame.assign(kind=np.where(X[:, 0] > 0, "low", "high"))
    far = np.abs(X[:, 0]) > 1
    assert (model.predict(wrong) == -1)[far].mean() > 0.5
    assert (model.predict(frame) == -1).mean() < 0.15


@pytest.mark.parametrize(
    "autoencoder",
    [
        VariationalAutoencoder(2, max_epochs=5),
        DenoisingAutoencoder(2, max_epochs=5),
        SparseAutoencoder(4, max_epochs=5),
        ContractiveAutoencoder(2, max_epochs=5),
        StackedAutoencoder(2, hidden=(4,), max_epochs=5),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_kind_finds_broken_correlations(X, autoencoder):
    model = AnomalyDetector(0.1, autoencoder=autoencoder, random_state=0).fit(X)
    new = rows_of(100, seed=1)
    wrong = new.copy()
    wrong[:, 1] = new[::-1, 1]
    scores = -model.score_samples(np.concatenate([new, wrong]))
    assert roc_auc_score(np.repeat([0, 1], 100), scores) > 0.7
    reasons = model.explain(wrong)
    nats = model.unlikeness_.row_nats(model.autoencoder_, read_rows(model, wrong))
    np.testing.assert_allclose(reasons.groupby("row").contribution.sum(), nats, rtol=1e-6)
    if isinstance(autoencoder, VariationalAutoencoder):
        bounds = -model.autoencoder_.score_samples(wrong)  # by 64 codes, beside the mean of the code
        assert scipy.stats.spearmanr(nats, bounds).statistic > 0.98
        np.testing.assert_allclose(np.median(nats), np.median(bounds), rtol=0.1)


def test_a_column_may_be_constant_in_nearly_all_rows():
    """A mixture is singular where it is constant in the part of the rows fitted to, and others are copies."""
    X = np.random.default_rng(0).normal(size=(400, 4))
    X[:, 2], X[:, 3] = np.arange(400) == 7, X[:, 0]
    model = LinearAutoencoder(1).fit(X)
    for seed in range(20):
        assert cell_density(model, X, seed).is_sound


# -- beside simple methods


def test_notes_say_when_a_simple_method_ranks_better(X, fitted):
    """A code of one number cannot follow a plane of two, which principal components do."""
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(1), neighbors=False, random_state=0).fit(X)
    assert any("ranked better by PCA" in note for note in model.notes_)
    assert not any("ranked better" in note for note in fitted.notes_)


def test_compare_gives_the_areas_of_simple_methods(X, fitted):
    new, wrong = rows_of(100, seed=1), rows_of(50, seed=2)
    wrong[:, 3] += 3
    rows, y = np.concatenate([new, wrong]), np.repeat([0, 1], [100, 50])
    found = fitted.compare(rows, y)
    assert found["detector"] == roc_auc_score(y, -fitted.score_samples(rows))
    known, scaled = fitted.unlikeness_.known.rows, fitted.autoencoder_.scaler_.transform(rows)
    distance = np.sqrt(((scaled[:, None] - known) ** 2).sum(2)).min(1)
    assert found["the nearest row"] == pytest.approx(roc_auc_score(y, distance))
    assert set(found) == {
        "detector",
        "PCA",
        "the norm",
        "the Mahalanobis distance",
        "the nearest row",
        "IsolationForest",
    }
    with pytest.raises(DataError, match="y must be 1"):
        fitted.compare(rows, np.zeros(150))


def test_the_mahalanobis_distance_is_that_of_the_inverse_covariance():
    rng = np.random.default_rng(0)
    train, rows = rng.normal(3, 2, size=(100, 5)).astype(np.float32), rng.normal(size=(20, 5))
    found = baseline_scores(train, rows, seed=0)["the Mahalanobis distance"]
    away = rows - train.mean(0)
    inverse = np.linalg.inv(np.cov(train.T.astype(float), bias=True))
    np.testing.assert_allclose(found, np.einsum("ij,jk,ik->i", away, inverse, away), rtol=1e-4)


@pytest.mark.parametrize("n_different", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_copies_of_few_rows_have_scores_by_all_simple_methods(n_different, seed):
    rng = np.random.default_rng(seed)
    train = rng.normal(size=(n_different, 6))[rng.integers(n_different, size=300)]
    train -= train.mean(0)
    faulty = with_faults(train, [slice(i, i + 1) for i in range(6)], rng)
    for name, scores in baseline_scores(train, faulty, seed).items():
        assert np.isfinite(scores).all(), name
    new = rng.normal(size=(20, 6))
    distances = baseline_scores(train, np.concatenate([train, new]), seed)["the Mahalanobis distance"]
    assert distances[300:].min() > distances[:300].max()


@pytest.mark.parametrize("level", [0, 1, -0.5, "auto"])
def test_a_rate_outside_0_and_1_is_refused(X, level):
    with pytest.raises(OptionError, match="false_alarms"):
        AnomalyDetector(level).fit(X)


def test_numbers_whose_squares_overflow_are_alarms():
    X = rows_of(200)
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(2), random_state=0).fit(X)
    far = np.repeat(X[:1], 3, axis=0)
    far[0, 0], far[1, 1], far[2, 2] = 1e160, -1e300, 1e308
    assert (detector.predict(far) == -1).all()
    assert np.isfinite(detector.score_samples(far)).all()
    assert np.isfinite(detector.explain(far)["contribution"]).all()


def test_rows_unlike_equal_ones_are_alarms():
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(np.ones((100, 3)))
    rows = np.array([[1.0, 1.0, 1.0], [1.5, 1.0, 1.0], [9.0, -9.0, 1.0]])
    assert detector.predict(rows).tolist() == [1, -1, -1]
    assert np.isfinite(detector.score_samples(rows)).all()


def test_alarms_are_the_rows_whose_p_value_is_at_most_the_rate():
    """Also where the product of the rate and the number of rows is rounded down: 0.29 times 100."""
    known = Calibration(np.arange(99.0), np.ones(99), np.arange(99) % 2)
    scores = np.repeat(np.arange(0.5, 99)[:, None], 2, axis=1)
    p = known.p_values(scores)
    for level in (0.07, 0.29, 0.57, 0.58):
        np.testing.assert_array_equal(known.margins(scores, level) > 0, p <= level)


def test_a_note_on_few_rows_does_not_contradict_itself_where_rows_have_weights():
    weights = np.ones(200)
    weights[::10] = 100
    with pytest.warns(ResultWarning, match="rows held out are too few for a rate .*, by their weights: the rate is"):
        AnomalyDetector(autoencoder=LinearAutoencoder(2), random_state=0).fit(rows_of(200), density_ratio=weights)


def test_a_column_without_values_outside_the_held_out_rows_gives_no_stray_warning():
    rows = np.random.default_rng(0).normal(size=(60, 2))
    rows[1:, 1] = np.nan
    assert (_standardised(rows, np.arange(1, 60))[1:, 1] == 0).all()


@pytest.mark.parametrize("is_frame", [False, True])
def test_a_column_whose_values_are_all_held_out_is_named(X, is_frame):
    rows = X[:60].copy()
    rows[1:, 2] = np.nan
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0)
    given = pd.DataFrame(rows, columns=list("abcde")) if is_frame else rows
    for seed in range(20):
        if 0 in held_out(60, 0.1, seed)[0]:
            with pytest.raises(DataError, match=r"held out of the fit. Got column ('c'|2) with values in 1 of 60 rows"):
                clone(model).set_params(random_state=seed).fit(given)
            break


def labelled(n_rows, seed, share=0.1):
    """Two columns that agree, and labels: a or b, but in a share of the rows one that no other row has."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n_rows)
    own = np.char.add("id ", rng.permutation(10**6)[:n_rows].astype(str))
    label = np.where(rng.random(n_rows) < share, own, rng.choice(["a", "b"], n_rows))
    return pd.DataFrame({"x": x, "y": x + 0.3 * rng.normal(size=n_rows), "label": label})


@pytest.mark.parametrize(("rate", "share"), [(0.1, 0.2), (0.1, 0.45), (0.02, 0.45)])
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_a_label_that_only_held_out_rows_have_scores_as_one_never_seen(rate, share, tmp_path):
    """Rare labels have a cell each, or codes; of one model, or of five, each of which knows other labels."""
    frame = labelled(200, 0, share)
    detector = AnomalyDetector(rate, autoencoder=LinearAutoencoder(1), random_state=0)
    detector.fit(frame).save(tmp_path / "d.safetensors")
    apart = held_out(200, rate, 0)
    assert len(apart) == len(detector._members) == (1 if rate == 0.1 else 5)
    for number, rows in enumerate(apart):
        held = frame.loc[rows][~frame.label.loc[rows].isin(frame.label.drop(index=rows))]
        assert len(held) > 0
        found = detector._found(held)[:, number]
        calibrated = detector.calibration_.scores[detector.calibration_.models == number]
        assert np.isin(found, calibrated).all()
        for answers, given in (
            (detector, held.assign(label="never")),
            (detector, held.assign(label="never").to_numpy(object)),
            (eigencode.load(tmp_path / "d.safetensors"), held),
        ):
            np.testing.assert_array_equal(answers._found(given)[:, number], found)
    if rate == 0.02:
        graph, given = graph_of(detector), frame.assign(label=["never", *frame.label[1:]])
        scores = graph(torch.from_numpy(graph.columns.numbers(given)))["score_samples"].numpy()
        differences = np.abs(scores - detector.score_samples(given))
        assert max(differences[0], np.quantile(differences, 0.95)) < 1e-3  # near equal rows, rounding counts more
    else:
        assert (detector.explain(held, n_columns=3).query("column == 'label'").direction == "unseen").all()


def test_ranges_that_only_held_out_rows_have_are_those_of_new_rows():
    """A zero in a column of positive numbers, and a number beyond those fitted."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=100), "size": np.exp(rng.normal(size=100))})
    apart = held_out(100, 0.1, 0)[0]
    frame.loc[apart[0], "size"] = 0.0
    frame.loc[apart[1], "size"] = 1e3
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(1), random_state=0).fit(frame)
    kind = model.columns_.columns[1].kind
    assert kind.kind == "positive"
    assert kind.shift == 0.0
    assert kind.high == frame["size"].drop(index=apart).max()
    assert model.explain(frame.loc[apart[:1]], n_columns=1)["column"][0] == "size"


def test_the_rate_holds_where_many_rows_have_labels_of_their_own():
    """Held-out rows are like new ones; where their labels counted as known, the share was .11 +- .003."""
    shares = []
    for seed in range(6):
        model = AnomalyDetector(0.05, autoencoder=LinearAutoencoder(1), random_state=seed)
        shares.append((model.fit(labelled(300, seed)).predict(labelled(600, 100 + seed)) == -1).mean())
    # A share of .05 among 59 rows held out varies by .028.
    assert np.mean(shares) < 0.05 + 3 * 0.028 / math.sqrt(6)


def test_what_only_rows_held_out_have_is_unusual(X):
    """A label, and a value of a column that is constant in the rows fitted."""
    apart = held_out(400, 0.1, 0)[0]
    frame = pd.DataFrame(X, columns=list("abcde")).assign(kind=np.tile(["low", "high"], 200))
    frame.loc[apart[:2], "kind"], frame.loc[apart[2:4], "e"] = "rare", 7.5
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(frame)
    new = frame.drop(index=apart).iloc[:3].copy()
    assert model.predict(new).tolist() == [1, 1, 1]
    new.iloc[0, 5], new.iloc[1, 4], new.iloc[2, 5] = "rare", 7.5, "unseen"
    assert model.predict(new).tolist() == [-1, -1, -1]


def test_another_value_of_a_constant_column_is_as_unlikely_as_an_unseen_label(X):
    """But for the rounding of 32-bit numbers; in its graph too."""
    rows, other = X.copy(), X.copy()
    rows[:, 4], other[:, 4] = 0.1, 0.2
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(rows)
    row_nats = model.unlikeness_.row_nats
    assert row_nats.constant.tolist() == [4]
    given = (NamedArray(each) for each in (rows, other, rows.astype(np.float32)))
    usual, unlikely, copied = (row_nats.of_states(model.autoencoder_, each)[:, 4] for each in given)
    assert (usual < 0.01).all()
    np.testing.assert_allclose(unlikely, -np.log(row_nats.impossible))
    np.testing.assert_array_equal(copied, usual)
    assert (model.explain(other, n_columns=1)["column"] == "x4").mean() > 0.9
    found = graph_of(model)(torch.from_numpy(other))["score_samples"].numpy()
    assert np.quantile(np.abs(found - model.score_samples(other)), 0.95) < 1e-3
    varied = AnomalyDetector(0.1, autoencoder=model.autoencoder_, random_state=0).fit(X + rows)
    assert not len(varied.unlikeness_.row_nats.constant)


def test_what_no_row_fitted_has_does_not_outrank_everything(X):
    """An unseen label, or another value of a constant column, has no size; a number far away has one."""
    frame = pd.DataFrame(X, columns=list("abcde")).assign(kind=np.tile(["low", "high"], 200))
    frame.loc[held_out(400, 0.1, 0)[0][:2], "kind"] = "rare"
    model = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), random_state=0).fit(frame)
    new = frame.iloc[:5].copy()
    new.loc[0, "a"], new.loc[1, "kind"], new.loc[2, "kind"], new.loc[3, "e"] = 1e4, "rare", "unseen", 7.5
    scores = model.score_samples(new)
    assert (scores[0] < scores[1:4]).all()
    assert (scores[1:4] < model.score_samples(frame.drop(index=held_out(400, 0.1, 0)[0])).min()).all()


@pytest.mark.parametrize("autoencoder", [Autoencoder(2, max_epochs=2), VariationalAutoencoder(2, max_epochs=2)])
def test_a_count_below_zero_is_a_reason_for_every_kind(X, autoencoder):
    """Not an error, though the likelihood has no such number."""
    counts = np.random.default_rng(0).poisson(np.exp(X[:, 0] / 2))
    frame = pd.DataFrame(X[:, :3], columns=list("abc")).assign(count=counts)
    model = AnomalyDetector(0.1, autoencoder=autoencoder, random_state=0).fit(frame)
    assert model.columns_.columns[3].kind.kind == "count"
    wrong = frame[counts == 0].assign(count=-1)
    assert (model.score_samples(wrong) < model.score_samples(frame[counts == 0])).mean() > 0.9
    assert (model.explain(wrong, n_columns=1)["column"] == "count").mean() > 0.9


def test_32_bit_copies_of_rows_score_as_the_rows(X, fitted):
    """Those fitted too: they are not their own nearest rows."""
    rows = np.concatenate([X[:200], rows_of(200, seed=1)])
    found, copied = fitted.score_samples(rows), fitted.score_samples(rows.astype(np.float32))
    assert np.abs(copied - found).max() < 1e-3
    again = clone(fitted).fit(X.astype(np.float32)).score_samples(rows)
    assert np.abs(again - found).max() < 1e-2


@pytest.mark.parametrize("given", [[-1.0] * 400, [1.0] * 20, ["a"] * 400, [[1.0, 2.0]] * 400])
def test_errors_of_density_ratios_name_them(X, given):
    with pytest.raises(DataError, match=r"(?i)density.ratio") as found:
        AnomalyDetector(autoencoder=LinearAutoencoder(1)).fit(X, density_ratio=given)
    assert "sample_weight" not in str(found.value)


def test_a_table_that_stays_in_its_files_is_scored_and_not_fitted(tmp_path, monkeypatch):
    rows = pd.DataFrame(rows_of(100), columns=list("abcde"))
    rows.to_parquet(tmp_path / "rows.parquet")
    detector = AnomalyDetector(autoencoder=LinearAutoencoder(2), random_state=0).fit(rows)
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1)
    assert (detector.predict(tmp_path / "rows.parquet") == detector.predict(rows)).all()
    with pytest.raises(DataError, match="AnomalyDetector needs all rows in memory. Got a table of 100 rows and 5"):
        AnomalyDetector(autoencoder=LinearAutoencoder(2)).fit(tmp_path / "rows.parquet")


def test_rows_of_other_columns_than_a_fitted_autoencoder_are_refused():
    """Of numbers and of mixed columns, with more and with fewer columns; with windows there are several rows in one."""
    frame = pd.DataFrame(rows_of(60), columns=list("abcde")).assign(label=np.tile(["x", "y"], 30))
    for rows, more in ((frame, frame.assign(f=1.0)), (frame, frame[["a"]]), (rows_of(60)[:, :2], rows_of(60))):
        fitted = LinearAutoencoder(1, random_state=0).fit(rows)
        with pytest.raises(DataError, match=rf"X has {more.shape[1]} features, but LinearAutoencoder is expecting"):
            AnomalyDetector(autoencoder=fitted).fit(more)
    series = rows_of(200)
    windows = AnomalyDetector(autoencoder=LinearAutoencoder(2), window=3, random_state=0).fit(series)
    again = AnomalyDetector(autoencoder=windows.autoencoder_, window=3, random_state=0).fit(series)
    assert again.n_features_in_ == 5


@pytest.mark.versions
def test_a_frame_is_scored_and_explained_a_block_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": rng.normal(size=150), "c": rng.choice(list("abc"), 150), "t": pd.date_range("2020", periods=150)},
        index=[f"row {i}" for i in range(150)],
    )
    model = AnomalyDetector(autoencoder=Autoencoder(2, max_epochs=1), random_state=0).fit(frame)
    score, reasons = model.score_samples(frame), model.explain(frame)
    sizes = []

    def read(model, X, **options):
        sizes.append(len(X))
        return read_rows(model, X, **options)

    monkeypatch.setattr("eigencode.data.block_sources.rows_of_block", lambda n_columns: 64)
    monkeypatch.setattr("eigencode.estimators.anomaly.read_rows", read)
    np.testing.assert_array_equal(model.score_samples(frame), score)
    pd.testing.assert_frame_equal(model.explain(frame), reasons)
    assert sizes == [64, 64, 22] * 2
