"""Tables of a hundred rows at most: the linear start is kept unless the few validation rows tell that it is worse."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine

from eigencode import Autoencoder
from eigencode.training.selection import _is_clear


def linear_rows(n, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_t(4, size=(n, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(n, 6))


def test_six_gains_are_clear_and_five_are_not():
    gains = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert _is_clear(gains, np.ones(6))  # p = 1 / 64
    assert not _is_clear(gains[:5], np.ones(5))  # p = 1 / 32
    assert not _is_clear(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, -50.0]), np.ones(10))
    assert not _is_clear(gains * [1, 1, 1, 1, -1, 1], np.ones(6))
    assert not _is_clear(np.zeros(6), np.ones(6))
    assert not _is_clear(np.full(6, np.nan), np.ones(6))


@pytest.mark.parametrize("seed", range(4))
def test_a_start_in_doubt_is_kept_and_noted(seed):
    X = linear_rows(50, seed)
    model = Autoencoder(2, random_state=seed).fit(X)
    assert model.n_validation_ == 5
    assert model.best_epoch_ == 0
    assert model.best_objective_ == model.history_[0]["validation_objective"]
    np.testing.assert_allclose(model.reconstruct(X), model.baseline_.reconstruct(X), rtol=1e-5)
    if min(row["validation_objective"] for row in model.history_) < model.best_objective_:
        assert any("5 validation rows do not tell" in note for note in model.notes_)


def test_a_clear_gain_is_taken():
    """Some starts end in a poor optimum, which ones depends on last bits; of eight, two at least do not."""
    rng = np.random.default_rng(0)
    t = rng.uniform(-2, 2, size=100)
    X = np.column_stack([t, t**2, np.sin(2 * t)]) + 0.01 * rng.normal(size=(100, 3))
    models = [Autoencoder(1, random_state=seed).fit(X) for seed in range(8)]
    taken = [model for model in models if model.best_epoch_ > 0]
    assert len(taken) >= 2
    for model in taken:
        assert model.reconstruction_error(X).mean() < 0.5 * model.baseline_.reconstruction_error(X).mean()


def test_more_rows_are_chosen_by_their_mean():
    X = load_wine().data
    model = Autoencoder(2, random_state=0).fit(X)
    assert model.n_validation_ > 10
    assert model.best_objective_ == min(row["validation_objective"] for row in model.history_)


def test_cells_far_outside_are_not_clipped_by_a_linear_start():
    X = load_iris().data[:40]
    model = Autoencoder(2, max_epochs=0, random_state=0).fit(X)
    far = X[:1] + 1000 * (X[1:2] - X[:1])
    Z = model.transform(np.vstack([X[:2], far]).astype(np.float64))
    np.testing.assert_allclose(Z[2] - Z[0], 1000 * (Z[1] - Z[0]), rtol=1e-3)
