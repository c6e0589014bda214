"""Reasons for anomalies: suspicious cells beside a literal version, contributions that add up, planted faults."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import eigencode
from eigencode import AnomalyDetector, Autoencoder, LinearAutoencoder
from eigencode.detection.suspicion import LEVEL, NormalDensity

D, N_FACTORS, NOISE = 8, 2, 0.3


def rows_of(n_rows, seed):
    """Rows of eight columns about a plane, in different units."""
    loadings = np.random.default_rng(7).normal(size=(N_FACTORS, D))
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, N_FACTORS)) @ loadings + NOISE * rng.normal(size=(n_rows, D))
    return rows * np.logspace(-2, 2, D) + 50


@pytest.fixture(scope="module")
def fitted():
    return AnomalyDetector(autoencoder=LinearAutoencoder(N_FACTORS), random_state=0).fit(rows_of(600, 0))


def literal(x, center, covariance):
    """The suspicious cells of one row, and what is expected of each cell, by conditional normal densities."""

    def conditional(j, known):
        others = [i for i in known if i != j]
        gain = covariance[j, others] @ np.linalg.inv(covariance[np.ix_(others, others)])
        return center[j] + gain @ (x[others] - center[others]), covariance[j, j] - gain @ covariance[others, j]

    hidden, known = [], list(range(len(x)))
    while len(hidden) < min(5, len(x) // 2):
        means, variances = np.array([conditional(j, known) for j in known]).T
        squares = (x[known] - means) ** 2 / variances
        if squares.max() <= scipy.stats.chi2.isf(LEVEL / len(x), 1):
            break
        hidden.append(known.pop(int(squares.argmax())))
    return hidden, [conditional(j, known)[0] for j in range(len(x))]


def test_suspicious_cells_are_those_of_conditional_densities():
    rng = np.random.default_rng(0)
    loadings, noise, center = rng.normal(size=(6, 3)), rng.uniform(0.05, 0.2, size=6), rng.normal(size=6)
    density = NormalDensity(center, loadings, noise)
    rows = rng.multivariate_normal(center, density.covariance, size=60)
    rows[:30, 2] += 6
    rows[15:45, 4] -= 7
    rows[20:25, 0] += 9
    found = density.suspicious_cells(rows)
    for x, hidden, expected in zip(rows, found.hidden, found.expected, strict=True):
        columns, means = literal(x, center, density.covariance)
        assert hidden[hidden >= 0].tolist() == columns
        np.testing.assert_allclose(expected, means, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:X has gaps")
def test_contributions_add_up(fitted):
    rows = np.concatenate([rows_of(30, 1), 3 * rows_of(10, 2), rows_of(1, 3) * 1e4])
    rows[3, 2] = np.nan
    found = fitted.explain(rows)
    nats = fitted.unlikeness_.nats(fitted.autoencoder_, rows)
    np.testing.assert_allclose(found.groupby("row").contribution.sum(), nats, rtol=1e-9)
    np.testing.assert_allclose(found.groupby("row").nats.first(), nats, rtol=1e-9)
    scores = found.groupby("row")[["nats_tail", "neighbors", "beyond"]].first().sum(axis=1)
    np.testing.assert_allclose(scores, -fitted.score_samples(rows), rtol=1e-9)


def planted(kind, n_rows, seed):
    """Rows with one fault each, and the columns that are wrong."""
    rng = np.random.default_rng(seed)
    rows, spread = rows_of(n_rows, seed), rows_of(5000, 99).std(0)
    wrong = rng.integers(D, size=n_rows)
    every = np.arange(n_rows)
    if kind == "correlation":  # the cell of another row, which is far enough from its own to be told
        other = rows_of(50 * n_rows, seed + 1).reshape(n_rows, 50, D)[every, :, wrong]
        far = np.abs(other - rows[every, wrong][:, None])
        rows[every, wrong] = other[every, far.argmax(1)]
        return rows, wrong[:, None]
    shift = 5 * spread * rng.choice([-1, 1], size=(n_rows, 1))
    rows[every, wrong] += shift[every, wrong]
    second = (wrong + 1 + rng.integers(D - 1, size=n_rows)) % D
    if kind == "two":
        rows[every, second] += shift[every, second]
        return rows, np.stack([wrong, second], 1)
    return rows, wrong[:, None]


@pytest.mark.parametrize("kind", ["one", "two", "correlation"])
def test_the_first_reasons_are_the_planted_columns(fitted, kind):
    rows, wrong = planted(kind, 200, 5)
    found = fitted.explain(rows, n_columns=wrong.shape[1])
    columns = found.column.str.removeprefix("x").astype(int).to_numpy().reshape(200, -1)
    assert (np.sort(columns, 1) == np.sort(wrong, 1)).all(1).mean() > 0.9
    clean = rows_of(200, 5)
    firsts = found[found["rank"] == 1]
    units = np.logspace(-2, 2, D)[columns[:, 0]]
    errors = (firsts.expected - clean[np.arange(200), columns[:, 0]]) / units
    assert np.median(np.abs(errors)) < 2 * NOISE
    assert (firsts.direction == np.where(firsts.observed > firsts.expected, "above", "below")).all()


def test_the_frame_has_the_rows_and_columns_of_the_data():
    frame = pd.DataFrame(rows_of(200, 1)[:, :3], columns=["a", "b", "c"], index=np.arange(200) + 1000)
    model = AnomalyDetector(autoencoder=Autoencoder(1, max_epochs=5), random_state=0).fit(frame)
    found = model.explain(frame[:5])
    assert found["row"].tolist() == np.repeat(np.arange(1000, 1005), 3).tolist()
    assert found["rank"].tolist() == [1, 2, 3] * 5
    assert set(found["column"]) == {"a", "b", "c"}
    assert (found.groupby("row").contribution.diff().dropna() <= 0).all()
    first = found.iloc[0]
    assert first.observed == frame.loc[1000, first.column]


def mixed(n_rows, seed):
    """Two numbers, a category and a boolean that follow one factor."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n_rows)
    kind = np.where(z > 0.5, "high", np.where(z < -0.5, "low", "mid"))
    return pd.DataFrame({"a": z, "b": 2 * z + 0.3 * rng.normal(size=n_rows), "kind": kind, "ok": z > 0, "one": 1})


def test_a_wrong_label_is_the_first_reason_of_its_row():
    model = AnomalyDetector(autoencoder=Autoencoder(2, max_epochs=20), random_state=0).fit(mixed(500, 0))
    clean = mixed(300, 1)
    clean = clean[clean.kind != "mid"]
    wrong = clean.assign(kind=clean.kind.map({"low": "high", "high": "low"}))
    first = model.explain(wrong, n_columns=1).set_index("row")
    assert (first.column == "kind").mean() > 0.9
    is_found = first.column == "kind"
    assert np.mean(first.expected[is_found].to_numpy() == clean.kind[is_found].to_numpy(object)) > 0.9
    assert first.observed[is_found].tolist() == wrong.kind[is_found].tolist()
    assert (first.direction[is_found] == "other").mean() > 0.9
    unseen = model.explain(clean.assign(kind="alien"), n_columns=1)
    assert (unseen.column == "kind").mean() > 0.9
    found = model.explain(wrong)
    assert set(found.column) == {"a", "b", "kind", "ok", "one"}
    np.testing.assert_allclose(found.groupby("row").contribution.sum(), found.groupby("row").nats.first(), rtol=1e-9)


def test_what_is_expected_of_a_block_is_its_conditional_mean():
    rng = np.random.default_rng(0)
    density = NormalDensity(rng.normal(size=5), rng.normal(size=(5, 2)), rng.uniform(0.1, 1, size=5))
    rows, known = rng.normal(size=(4, 5)), [0, 3, 4]
    covariance = density.covariance
    gain = covariance[1:3, known] @ np.linalg.inv(covariance[np.ix_(known, known)])
    literal = density.center[1:3] + (rows[:, known] - density.center[known]) @ gain.T
    np.testing.assert_allclose(density.expected_without(rows, slice(1, 3)), literal, rtol=1e-9)


def test_reasons_are_the_same_after_loading(fitted, tmp_path):
    fitted.save(tmp_path / "detector.safetensors")
    again = eigencode.load(tmp_path / "detector.safetensors")
    pd.testing.assert_frame_equal(again.explain(rows_of(9, 1)), fitted.explain(rows_of(9, 1)))
