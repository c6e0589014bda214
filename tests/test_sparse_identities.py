"""Sparse codes against closed forms, and the promise of the one option."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.linear_model import Lasso
from sklearn.model_selection import train_test_split

import eigencode
from eigencode import Composition, Objective, SparseAutoencoder
from eigencode.errors import OptionError
from eigencode.parts import (
    MLP,
    AuxiliaryLoss,
    Dictionary,
    GaussianNoise,
    KLSparsity,
    LaplacePrior,
    OptimalCode,
    Sigmoid,
    TopK,
)
from eigencode.testing import check_code

pytestmark = pytest.mark.slow

EXACT = {"max_epochs": 0, "precision": "float64", "scale": "none", "random_state": 0}


@pytest.fixture(scope="module")
def halves(digits):
    return train_test_split(digits, test_size=0.3, random_state=0)


# -- identities


def test_the_sparse_objective_is_the_joint_density():
    model = Composition(MLP(), MLP(), prior=LaplacePrior(0.7))
    model.setup(3, 2, torch.Generator().manual_seed(0))
    model.double()
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    trace = model(x)
    found = Objective()(model, trace).detach()
    joint = scipy.stats.norm(trace.p.mean.detach(), math.sqrt(0.5)).logpdf(x).sum(1)
    joint += scipy.stats.laplace(scale=1 / 0.7).logpdf(trace.z.detach()).sum(1)
    np.testing.assert_allclose(found, -joint, rtol=1e-12)


def test_the_optimal_code_of_an_orthonormal_dictionary_is_the_soft_threshold(digits):
    X = digits - digits.mean(0)
    model = SparseAutoencoder(8, code="optimal", weight=3.0, **EXACT).fit(X)
    D = model.composition_.decoder.columns.detach().numpy()
    np.testing.assert_allclose(D.T @ D, np.eye(8), atol=1e-10)
    inputs = X @ D
    expected = np.sign(inputs) * np.clip(np.abs(inputs) - 3.0 / 2, 0, None)
    np.testing.assert_allclose(model.transform(X), expected, atol=1e-10)


def test_the_best_k_numbers_of_an_orthonormal_dictionary_are_the_largest(digits):
    X = digits - digits.mean(0)
    model = SparseAutoencoder(8, code="optimal", sparsity="top_k", active=3, **EXACT).fit(X)
    inputs = X @ model.composition_.decoder.columns.detach().numpy()
    smallest = -np.sort(-np.abs(inputs), axis=1)[:, 2:3]
    np.testing.assert_allclose(model.transform(X), np.where(np.abs(inputs) >= smallest, inputs, 0), atol=1e-10)


@pytest.mark.draws_globally  # scikit-learn's Lasso does
def test_the_optimal_code_of_any_dictionary_is_the_lasso():
    rng = np.random.default_rng(0)
    model = Composition(OptimalCode(), Dictionary(), prior=LaplacePrior(0.8))
    model.setup(6, 9, torch.Generator().manual_seed(0))
    model.double().eval()
    x = rng.normal(size=(4, 6)) * 2
    with torch.no_grad():
        found = model.encode(torch.from_numpy(x)).mean.numpy()
    D = model.decoder.columns.detach().numpy()
    for row, code in zip(x, found, strict=True):
        # scikit-learn divides the squared error by 2 n.
        lasso = Lasso(alpha=0.8 / 12, fit_intercept=False, tol=1e-12, max_iter=100_000).fit(D, row)
        np.testing.assert_allclose(code, lasso.coef_, atol=1e-6)


def test_the_kl_penalty_is_its_literal_sum():
    penalty = KLSparsity(activity=0.2, weight=1.7)
    model = Composition(MLP(), MLP(), code=Sigmoid(0.2), penalties=[penalty])
    model.setup(3, 2, torch.Generator().manual_seed(0))
    model.double().eval()
    trace = model(torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    expected = 0.0
    for j in range(2):
        mean = sum(float(trace.z[i, j].detach()) for i in range(7)) / 7
        expected += 0.2 * math.log(0.2 / mean) + 0.8 * math.log(0.8 / (1 - mean))
    assert penalty(trace, model).detach().item() == pytest.approx(1.7 * expected, rel=1e-12)


# -- promises


@pytest.mark.parametrize(
    ("sparsity", "active", "size"),
    [("l1", 6, 48), ("l1", 12, 96), ("top_k", 8, 96), ("kl", 0.1, 48), ("kl", 0.03, 48)],
)
def test_rows_never_seen_are_as_active_as_wanted(halves, sparsity, active, size):
    train, test = halves
    model = SparseAutoencoder(size, sparsity=sparsity, active=active, max_epochs=40, random_state=0).fit(train)
    codes = model.transform(test)
    found = codes.mean() if sparsity == "kl" else (codes != 0).sum(1).mean()
    assert abs(found / active - 1) < 0.1
    assert model.reconstruction_error(test).mean() < ((test - train.mean(0)) ** 2).sum(1).mean() / 2


def test_data_in_other_units_change_nothing(digits):
    options = {"n_components": 24, "active": 4, "max_epochs": 4, "random_state": 0}
    for sparsity in ("l1", "top_k"):
        codes = [
            SparseAutoencoder(sparsity=sparsity, **options).fit(c * digits).transform(c * digits) for c in (1, 100)
        ]
        np.testing.assert_allclose(*codes, rtol=1e-3, atol=1e-3)


def test_columns_have_unit_length_and_the_file_keeps_the_state(digits, tmp_path):
    model = SparseAutoencoder(96, sparsity="top_k", active=4, max_epochs=5, random_state=0).fit(digits)
    lengths = model.composition_.decoder.columns.norm(dim=0)
    torch.testing.assert_close(lengths, torch.ones(96), rtol=1e-5, atol=1e-5)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.transform(digits), model.transform(digits))
    state = dict(model.composition_.named_buffers())
    for name, value in again.composition_.named_buffers():
        torch.testing.assert_close(value, state[name])


def test_dead_units_are_revived_and_the_living_feel_nothing_of_it(digits):
    def n_used(penalties, seed):
        filled = {"code": TopK(2), "decoder": Dictionary(), "penalties": penalties}
        options = {"hidden": (), "max_epochs": 30, "learning_rate": 0.02, "random_state": seed}
        return (eigencode.Autoencoder(256, **options, **filled).fit_transform(digits) != 0).any(0).sum()

    used = [sum(n_used(penalties, seed) for seed in range(3)) for penalties in ([], [AuxiliaryLoss()])]
    assert used[1] > 1.15 * used[0]
    penalty = AuxiliaryLoss()
    model = Composition(MLP(), Dictionary(), code=TopK(1), penalties=[penalty])
    model.setup(3, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        penalty.idle.copy_(torch.tensor([0.0, 0.0, 1.0, 1.0]))
    model.train()
    penalty(model(torch.randn(20, 3, generator=torch.Generator().manual_seed(1))), model).sum().backward()
    rows = model.encoder.affine.weight.grad.abs().sum(1)
    assert (rows[2:] > 0).all()
    assert (rows[:2] == 0).all()
    columns = model.decoder.directions.grad.abs().sum(0)
    assert (columns[2:] > 0).all()
    assert (columns[:2] == 0).all()
    assert model.decoder.bias.grad is None or (model.decoder.bias.grad == 0).all()


def test_the_code_passes_the_suite_and_kinds_combine(digits):
    check_code(TopK(2))
    options = {"corruption": GaussianNoise(0.2), "max_epochs": 3, "random_state": 0}
    model = SparseAutoencoder(48, sparsity="top_k", active=5, **options).fit(digits)
    assert ((model.transform(digits) != 0).sum(1) <= 5).all()
    with pytest.raises(OptionError, match="Set either 'active' or 'weight', not both"):
        SparseAutoencoder(8, active=2, weight=1.0).fit(digits)
    with pytest.raises(OptionError, match="more active units than units"):
        SparseAutoencoder(8, active=9).fit(digits)
