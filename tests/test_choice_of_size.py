"""The score by which sizes of codes are compared: cells predicted from the other cells of their row."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from eigencode import Autoencoder, AutoencoderSearch, LinearAutoencoder, VariationalAutoencoder
from eigencode.data import named_files

CANCER = load_breast_cancer().data


def noisy(n_components, seed, n_rows=600, n_features=20, curved=False):
    """Rows of so many hidden numbers and normal noise, .3 times as large as the signal of each column."""
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(n_rows, n_components))
    if curved:
        z = np.tanh(z @ generator.normal(size=(n_components, 30)))
    signal = z @ generator.normal(size=(z.shape[1], n_features))
    return signal / signal.std(0) + 0.3 * generator.normal(size=signal.shape)


def noise_without_own(model, X):
    """The noise of each column, from cells that are compared with the value that the model gives back unchanged."""
    cells, noise = model.scaler_.transform(X), []
    for j in range(X.shape[1]):
        low, high, predicted = X.copy(), X.copy(), X.copy()
        low[:, j], high[:, j] = 0.0, 1.0
        at_0, at_1 = (model.reconstruct(rows)[:, j] for rows in (low, high))
        predicted[:, j] = at_0 / (1 - (at_1 - at_0))  # t = r(t), a line in t
        np.testing.assert_allclose(model.reconstruct(predicted)[:, j], predicted[:, j], atol=1e-9)
        noise.append(np.sqrt(np.mean((cells[:, j] - model.scaler_.transform(predicted)[:, j]) ** 2)))
    return np.array(noise)


@pytest.mark.parametrize("n_components", [1, 3])
def test_a_linear_model_predicts_each_cell_from_the_others(n_components):
    rows = noisy(2, seed=0, n_features=6)
    model = LinearAutoencoder(n_components, scale="standard").fit(rows[:300])
    held_out = rows[300:]
    score = model.leave_one_out_score(held_out).mean()
    cells = model.scaler_.transform(held_out - model.reconstruct(held_out) + model.scaler_.center)
    own = -0.5 * np.log(2 * np.pi * np.e * np.mean(cells**2, axis=0)).sum()
    literal = own - np.log(noise_without_own(model, held_out) / np.sqrt(np.mean(cells**2, axis=0))).sum()
    assert score == pytest.approx(literal + model.scaler_.log_jacobian.sum(), rel=1e-6)


def test_degrees_of_freedom_are_the_trace_of_the_derivatives():
    X = CANCER[:40]
    model = Autoencoder(3, hidden=(8,), max_epochs=2, random_state=0).fit(CANCER)
    trace, steps = np.zeros(len(X)), 1e-6 * CANCER.std(0)
    for j, step in enumerate(steps):
        up, down = X.copy(), X.copy()
        up[:, j] += step
        down[:, j] -= step
        trace += (model.reconstruct(up) - model.reconstruct(down))[:, j] / (2 * step)
    np.testing.assert_allclose(model.degrees_of_freedom(X), trace, rtol=1e-5)


def test_many_columns_have_estimated_degrees_of_freedom():
    X = load_digits().data.repeat(2, axis=1)[:100]
    model = LinearAutoencoder(5).fit(X)
    found = model.degrees_of_freedom(X)
    # A row's estimate has a variance of 2 * 5 / 64, so their mean one of 2 * 5 / 6400: four times its root.
    assert abs(found.mean() - 5) < 4 * np.sqrt(2 * 5 / 6400)
    np.testing.assert_array_equal(found, model.degrees_of_freedom(X))


def test_counts_and_labels_lose_their_degrees_of_freedom():
    counts = np.random.default_rng(0).poisson(np.exp(noisy(2, seed=1, n_features=8)))
    model = Autoencoder(2, likelihood="poisson", max_epochs=2, random_state=0).fit(counts)
    left = model.score_samples(counts) - model.leave_one_out_score(counts)
    np.testing.assert_allclose(left, model.degrees_of_freedom(counts), atol=1e-4)


def test_tables_with_gaps_have_the_score():
    frame = pd.DataFrame(noisy(2, seed=2, n_features=4), columns=list("abcd"))
    frame["label"] = np.where(frame["a"] > 0, "yes", "no")
    frame.loc[::7, "b"] = np.nan
    model = Autoencoder(2, max_epochs=2, random_state=0).fit(frame)
    found = model.leave_one_out_score(frame)
    assert np.isfinite(found).all()
    assert (found[::7] > found[1::7].mean() - 50).all()


def test_columns_with_a_learned_spread_have_the_score():
    rows = noisy(2, seed=4, n_features=6)
    model = Autoencoder(2, likelihood="student_t", max_epochs=2, random_state=0).fit(rows)
    assert np.isfinite(model.leave_one_out_score(rows)).all()


def test_a_copy_of_the_row_predicts_no_better_than_the_mean_of_each_column():
    rows = noisy(2, seed=3, n_features=5)
    copied, mean = (LinearAutoencoder(k).fit(rows).leave_one_out_score(rows).mean() for k in (5, 2))
    assert copied < mean
    cells = (rows - rows.mean(0)) / rows.std(0)
    by_mean = -0.5 * np.log(2 * np.pi) * 5 - 0.5 * np.square(cells).sum(1).mean() - np.log(rows.std(0)).sum()
    assert copied == pytest.approx(by_mean, abs=0.01)


@pytest.mark.parametrize("n_components", [2, 4])
def test_a_search_finds_the_true_number_of_components(n_components):
    grid = {"n_components": [1, 2, 3, 4, 6, 12]}
    options = {"cv": 2, "refit": False, "random_state": 0}
    for seed in range(3):
        search = AutoencoderSearch(LinearAutoencoder(), grid, **options).fit(noisy(n_components, seed))
        assert search.scoring_ == "leave_one_out"
        assert search.best_params_["n_components"] == n_components
    greedy = AutoencoderSearch(LinearAutoencoder(), grid, scoring="log_likelihood", **options)
    assert greedy.fit(noisy(n_components, 0)).best_params_["n_components"] == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_components", "sizes", "n_folds"),
    [
        (2, [1, 2, 4], 2),
        pytest.param(2, [1, 2, 3, 4, 6, 8], 3, marks=pytest.mark.long),
        pytest.param(4, [1, 2, 3, 4, 6, 8], 3, marks=pytest.mark.long),
    ],
)
def test_networks_find_the_true_number_of_components_of_curved_rows(n_components, sizes, n_folds):
    grid = {"n_components": sizes}
    chosen = []
    for seed in range(3):
        rows = noisy(n_components, seed, n_rows=800, curved=True)
        search = AutoencoderSearch(Autoencoder(random_state=0), grid, cv=n_folds, refit=False, random_state=0).fit(rows)
        chosen.append(search.best_params_["n_components"])
    assert sorted(chosen)[1] == n_components, chosen


def test_kinds_with_a_density_are_compared_by_it():
    model = VariationalAutoencoder(hidden=(8,), max_epochs=2, random_state=0)
    search = AutoencoderSearch(model, {"n_components": [1, 2]}, cv=2, refit=False, random_state=0).fit(CANCER[:200])
    assert search.scoring_ == "log_likelihood"


@pytest.mark.versions
def test_rows_that_stay_in_their_file_have_the_same_score(tmp_path, monkeypatch):
    frame = pd.DataFrame(noisy(2, seed=4, n_features=4), columns=list("abcd"))
    frame.loc[::7, "b"] = np.nan
    frame.to_parquet(tmp_path / "rows.parquet")
    model = Autoencoder(2, max_epochs=2, random_state=0).fit(frame)
    expected = model.leave_one_out_score(frame)
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    np.testing.assert_array_equal(model.leave_one_out_score(tmp_path / "rows.parquet"), expected)
