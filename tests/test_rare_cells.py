"""Variances of columns that are known from few cells: pixels that are nearly always the same."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eigencode import VariationalAutoencoder, load
from eigencode.batch import Batch
from eigencode.data import mapped_rows
from eigencode.io import checkpoints
from eigencode.io.weights import restore_weights
from eigencode.model.factor_analysis import factor_analysis
from eigencode.parts import GaussianLikelihood
from eigencode.parts.base import Sizes, Units
from eigencode.parts.likelihoods import observed
from eigencode.parts.likelihoods.observed import variance_of_one_cell
from eigencode.training.resuming import saved_run


@pytest.fixture
def rows():
    """Normal columns, one with five cells of 2, one with a cell of 3, one with tails, a constant, and gaps."""
    random = np.random.default_rng(0)
    x = np.zeros((400, 6))
    x[:, :2] = random.normal(size=(400, 2))
    x[:5, 2], x[7, 3] = 2, 3
    x[:, 4] = random.standard_t(3, 400)
    return x, random.random(x.shape) < 0.8


@pytest.mark.parametrize("has_gaps", [False, True])
@pytest.mark.parametrize("cells", [10, 2**20])
def test_the_variance_of_one_cell_is_the_formula(rows, has_gaps, cells, monkeypatch):
    monkeypatch.setattr(observed, "SAMPLE_CELLS", cells)
    x, is_known = rows
    wanted = []
    for column, known in zip(x.T, is_known.T, strict=True):
        own = column[known] if has_gaps else column
        gaps = own - own.mean()
        wanted.append((np.mean(gaps**2), np.mean(gaps**4), len(own)))
    second, fourth, n = np.array(wanted).T
    with np.errstate(invalid="ignore"):
        excess = np.where(second > 0, np.maximum(fourth / second - 3 * second, 0), second.mean())
    batch = Batch(torch.from_numpy(x), torch.from_numpy(is_known) if has_gaps else None)
    found = variance_of_one_cell(batch).numpy()
    np.testing.assert_allclose(found, excess / n, rtol=1e-9)
    # Five cells of 400 are 2: one more would add 4 / 400, beside the normal part.
    assert found[2] == pytest.approx(4 / n[2], rel=0.1)


@pytest.mark.parametrize("n_constant", [0, 1, 6])
def test_columns_of_one_variance_share_no_unit(rows, n_constant):
    x = rows[0][:, :5] / rows[0][:, :5].std(0)
    x = torch.from_numpy(np.concatenate([x, np.zeros((400, n_constant))], axis=1)[:, -6:])
    assert (variance_of_one_cell(Batch(x)) == 0).all()


def prepared(divisor, rows):
    part = GaussianLikelihood("per_feature")
    part.setup(Sizes(rows.shape[1], 2, units=Units(torch.zeros(6), torch.tensor(divisor))))
    part.prepare(Batch(torch.from_numpy(rows)), len(rows))
    return part


def test_columns_with_units_of_their_own_keep_the_smallest_variance(rows):
    part = prepared([1.0, 1.0, 2.0, 1.0, 1.0, 1.0], rows[0])
    assert (part.smallest == part.floor).all()
    assert (prepared([1.0] * 6, rows[0]).smallest == part.floor).all()
    shared = prepared([2.0] * 6, rows[0])
    torch.testing.assert_close(
        shared.smallest.double() - shared.floor, variance_of_one_cell(Batch(torch.from_numpy(rows[0])))
    )


def test_no_variance_of_factor_analysis_is_below_the_smallest():
    loadings = torch.tensor([[1.0], [1.0], [1.0], [0.5]], dtype=torch.float64)
    covariance = loadings @ loadings.T + torch.diag(torch.tensor([0.0, 1e-4, 0.3, 0.2], dtype=torch.float64))
    smallest = torch.tensor([0.05, 0.01, 0.01, 0.01], dtype=torch.float64)
    noise = factor_analysis(covariance, 1, smallest=smallest).noise
    assert (noise >= smallest * (1 - 1e-9)).all()
    assert noise[0] == pytest.approx(0.05)
    assert factor_analysis(covariance, 1).noise[0] < 1e-3


def test_a_pixel_that_is_never_lit_in_training_costs_little_when_it_is():
    random = np.random.default_rng(0)
    images = random.normal(size=(500, 3)) @ random.normal(size=(3, 10)) + 0.3 * random.normal(size=(500, 10))
    images[:, 4] = 0
    model = VariationalAutoencoder(3, max_epochs=5, scale="common", random_state=0).fit(images)
    lit = images[:50].copy()
    lit[:, 4] = images.std()
    loss = model.elbo(images[:50], 20, random_state=0).mean() - model.elbo(lit, 20, random_state=0).mean()
    # With the mean variance over n it is about n / 2 nats; with the smallest variance, 1e-6, about 500,000.
    assert 0 < loss < 1_000


def test_other_images_are_about_as_likely_as_those_that_were_fitted():
    digits = load_digits().data
    gaps = []
    for seed in range(5):
        training, test = train_test_split(digits, test_size=600, random_state=seed)
        model = VariationalAutoencoder(10, max_epochs=15, random_state=seed).fit(training)
        gaps.append(model.elbo(training, 5).mean() - model.elbo(test, 5).mean())
    # 4 to 6, and 37 where a pixel is lit for the first time; with the smallest variance 6, and 35 to 69.
    assert np.median(gaps) < 20, gaps


def test_a_file_without_smallest_variances_has_the_constant_ones():
    digits = load_digits().data[:300]
    model = VariationalAutoencoder(4, max_epochs=0, random_state=0).fit(digits)
    likelihood = model.composition_.likelihood
    assert likelihood.rare.max() > 0
    weights = {name: value for name, value in model.composition_.state_dict().items() if not name.endswith(".rare")}
    likelihood.rare.zero_()
    restore_weights(model.composition_, weights)
    assert (likelihood.smallest == likelihood.floor).all()
    torch.testing.assert_close(likelihood.log_excess.data, weights["likelihood.log_excess"])


def without_rare(saved):
    """What an earlier version has saved of a run."""
    if not isinstance(saved, dict):
        return saved
    return {name: without_rare(value) for name, value in saved.items() if not name.endswith(".rare")}


def test_streams_and_checkpoints_without_smallest_variances_go_on_with_the_constant_ones(tmp_path, monkeypatch):
    digits, options = load_digits().data[:300], {"hidden": (8,), "max_epochs": 4, "batch_size": 64, "random_state": 0}
    stream = VariationalAutoencoder(4, **options).partial_fit(digits)
    stream.composition_.likelihood.rare.zero_()
    stream.stream_state_ = without_rare(stream.stream_state_)
    stream.save(tmp_path / "stream.safetensors")
    again = load(tmp_path / "stream.safetensors").partial_fit(digits)
    assert (again.composition_.likelihood.smallest == again.composition_.likelihood.floor).all()

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "saved_run", lambda *run: without_rare(saved_run(*run)))
        for row in VariationalAutoencoder(4, **options).iter_fit(digits, checkpoint=tmp_path / "fit"):
            if row["epoch"] == 2:
                break
    model = VariationalAutoencoder(4, **options).fit(digits, checkpoint=tmp_path / "fit")
    assert model.history_[-1]["epoch"] == 4
    assert (model.composition_.likelihood.smallest == model.composition_.likelihood.floor).all()


def smallest(rows, weights=None):
    model = VariationalAutoencoder(4, hidden=(), max_epochs=0, random_state=0)
    return model.fit(rows, sample_weight=weights).composition_.likelihood.rare


def test_the_smallest_variances_of_weighted_rows_are_those_of_as_many_that_say_as_much():
    digits = load_digits().data[:300]
    nearly_equal = np.where(np.arange(300) == 7, 1.001, 1.0)
    torch.testing.assert_close(smallest(digits, nearly_equal), smallest(digits), rtol=0.05, atol=1e-4)
    a_third = np.where(np.arange(300) % 3 == 2, 1.0, 1e-9)
    torch.testing.assert_close(smallest(digits, a_third), smallest(digits[2::3]), rtol=0.05, atol=1e-4)


def test_the_smallest_variances_of_a_large_file_are_those_of_all_its_rows(tmp_path, monkeypatch):
    """A sample of a file stands for all of it: here each image is in it as often as any other."""
    digits = np.tile(load_digits().data[:63], (40, 1))
    np.save(tmp_path / "digits.npy", digits)
    monkeypatch.setattr(mapped_rows, "MAPPED_FROM", 1000)
    monkeypatch.setattr(mapped_rows, "REPRESENTATIVE_CELLS", 64 * 252)  # each tenth row, of 2,520
    of_file = smallest(np.load(tmp_path / "digits.npy", mmap_mode="r"))
    torch.testing.assert_close(of_file, smallest(digits), rtol=1e-3, atol=1e-6)
