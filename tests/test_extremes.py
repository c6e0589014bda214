"""Extremes: tables of very large and very small numbers, constant columns, hardly any rows, and what answers take."""

import copy
import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

import eigencode
from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.errors import DataError, ResultWarning
from eigencode.parts import GaussianLikelihood, NegativeBinomialLikelihood


def layer(n_inputs, n_outputs):
    """A linear layer of one's own, whose weights are the same at every call."""
    made = torch.nn.utils.skip_init(torch.nn.Linear, n_inputs, n_outputs)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    return made


FEW = {"max_epochs": 3, "random_state": 0}

REAL = {
    "plain": Autoencoder(2, hidden=(8,), init="random", **FEW),
    "linear path": Autoencoder(2, hidden=(8,), **FEW),
    "tied": Autoencoder(2, hidden=(8,), tied=True, **FEW),
    "ordered": Autoencoder(2, hidden=(8,), ordered=True, **FEW),
    "own networks": Autoencoder(2, encoder=layer(8, 2), decoder=layer(2, 8), **FEW),
    "float64": Autoencoder(2, hidden=(8,), precision="float64", **FEW),
    "linear": LinearAutoencoder(2, random_state=0),
    "linear by gradient": LinearAutoencoder(2, solver="gradient", **FEW),
    "l1": SparseAutoencoder(4, active=2, **FEW),
    "kl": SparseAutoencoder(4, active=0.3, sparsity="kl", **FEW),
    "top_k": SparseAutoencoder(4, active=2, sparsity="top_k", **FEW),
    "gaussian noise": DenoisingAutoencoder(2, hidden=(8,), noise="gaussian", **FEW),
    "salt and pepper": DenoisingAutoencoder(2, hidden=(8,), noise="salt_and_pepper", **FEW),
    "masking": DenoisingAutoencoder(2, hidden=(8,), noise="masking", **FEW),
    "contractive": ContractiveAutoencoder(2, **FEW),
    "variational": VariationalAutoencoder(2, **FEW),
    "stacked": StackedAutoencoder(2, hidden=(4, 3), **FEW),
    "laplace": Autoencoder(2, hidden=(8,), likelihood="laplace", **FEW),
    "student_t": Autoencoder(2, hidden=(8,), likelihood="student_t", **FEW),
    "per_feature": Autoencoder(2, hidden=(8,), likelihood=GaussianLikelihood("per_feature"), **FEW),
}

CONSTANTS = [3, 0, 1e9, 1e-9, -0.1]


def varying(n=60, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 0.1 * rng.normal(size=(n, d)) + 2


def with_constants(rows, dtype=np.float64, constants=CONSTANTS):
    return np.column_stack([rows, np.tile(constants, (len(rows), 1))]).astype(dtype)


def quietly(function):
    """Call where a warning about the result is not the matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResultWarning)
        return function()


def assert_constants_are_exact(model, X, constant=slice(3, None)):
    expected = X[:, constant]
    np.testing.assert_array_equal(model.reconstruct(X)[:, constant], expected)
    np.testing.assert_array_equal(model.inverse_transform(model.transform(X))[:, constant], expected)
    everything = [model.reconstruct(X)[:, :3], X[:, :3]]
    gaps = np.square(np.subtract(*[rows.astype(np.float64) for rows in everything])).sum(1)
    np.testing.assert_allclose(model.reconstruction_error(X), gaps, rtol=1e-3, atol=1e-6)


# -- constant columns


@pytest.mark.parametrize("scale", ["common", "standard"])
@pytest.mark.parametrize("kind", REAL)
def test_every_kind_rebuilds_a_constant_column_exactly(kind, scale, tmp_path):
    X = with_constants(varying(), np.float32 if scale == "standard" else np.float64)
    model = clone(REAL[kind]).set_params(scale=scale)
    quietly(lambda: model.fit(X))
    assert_constants_are_exact(model, X)
    loaded = copy.deepcopy(model)
    if kind != "own networks":
        model.save(tmp_path / "model.safetensors")
        loaded = eigencode.load(tmp_path / "model.safetensors")
    assert_constants_are_exact(loaded, X)
    if kind == "linear":
        return  # it has no steps to take
    quietly(lambda: loaded.partial_fit(X))
    assert_constants_are_exact(loaded, X)
    stream = clone(model)
    quietly(lambda: stream.partial_fit(X).partial_fit(X[::-1]))
    assert_constants_are_exact(stream, X)


@pytest.mark.parametrize("kind", ["plain", "linear path", "contractive", "variational", "stacked"])
def test_codes_and_jacobians_ignore_what_a_constant_column_becomes(kind):
    X = with_constants(varying())
    model = quietly(lambda: clone(REAL[kind]).fit(X))
    other = X.copy()
    other[:, 3:] += [5, -1e3, 1, 1e6, 0.1]
    np.testing.assert_array_equal(model.transform(other), model.transform(X))
    np.testing.assert_array_equal(model.reconstruct(other), model.reconstruct(X))
    assert (model.jacobian(X)[:, :, 3:] == 0).all()
    gained = model.reconstruction_error(other) - model.reconstruction_error(X)
    np.testing.assert_allclose(gained, np.square(other - X).sum(1), rtol=1e-6)


@pytest.mark.parametrize(
    ("likelihood", "values"),
    [
        ("bernoulli", [0, 1, 0.3]),
        ("poisson", [0, 3, 10_000]),
        ("negative_binomial", [0, 3, 10_000]),
        (NegativeBinomialLikelihood("learned"), [0, 3, 10_000]),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_likelihoods_in_units_of_their_own_rebuild_constant_columns(likelihood, values, dtype, tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, size=(60, 3)) if likelihood == "bernoulli" else rng.poisson(4, size=(60, 3))
    X = with_constants(rows, dtype, values)
    model = quietly(lambda: Autoencoder(2, hidden=(8,), likelihood=likelihood, **FEW).fit(X))
    assert_constants_are_exact(model, X)
    assert np.isfinite(model.score_samples(X)).all()
    model.save(tmp_path / "model.safetensors")
    assert_constants_are_exact(eigencode.load(tmp_path / "model.safetensors"), X)
    draws = model.fit_density(X).sample(20, random_state=0)
    np.testing.assert_array_equal(draws[:, 3:].astype(dtype), X[:20, 3:])


@pytest.mark.parametrize("kind", ["linear path", "variational"])
def test_samples_have_the_value_of_a_constant_column(kind):
    X = with_constants(varying())
    model = quietly(lambda: clone(REAL[kind]).fit(X).fit_density(X))
    for mean in (False, True):
        np.testing.assert_array_equal(model.sample(20, mean=mean, random_state=0)[:, 3:], X[:20, 3:])


def test_a_column_that_varies_in_a_later_block_is_learned():
    rng = np.random.default_rng(0)
    code = rng.normal(size=(4000, 1))
    X = np.hstack([code, -code, code]) + 0.01 * rng.normal(size=(4000, 3))
    first = X[:200].copy()
    first[:, 2] = 0
    model = LinearAutoencoder(1, solver="gradient", scale="none", random_state=0).partial_fit(first)
    assert (model.reconstruct(X)[:, 2] == 0).all()
    for _ in range(10):
        model.partial_fit(X)
    assert model.scaler_.constant == []
    assert np.corrcoef(model.reconstruct(X)[:, 2], X[:, 2])[0, 1] > 0.9


@pytest.mark.parametrize("value", [3.0, -0.1, 1e9])
def test_a_regressor_says_a_constant_label_exactly(value):
    X = varying()
    y = np.column_stack([X @ [1.0, 2.0, 3.0], np.full(len(X), value)])
    model = quietly(lambda: AutoencoderRegressor(autoencoder=Autoencoder(2, **FEW), **FEW).fit(X, y))
    np.testing.assert_array_equal(model.predict(X)[:, 1], y[:, 1])


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize(
    "X",
    [
        pytest.param(np.full((5, 8), 3.0), id="constant"),
        pytest.param(varying(2, 8), id="two rows"),
        pytest.param(np.zeros((2, 8)), id="zeros", marks=pytest.mark.slow),
        pytest.param(varying(5, 8), id="few rows", marks=pytest.mark.slow),
        pytest.param(np.tile(varying(3, 8), (20, 1)), id="duplicates", marks=pytest.mark.slow),
        pytest.param(np.tile(varying(30, 1), (1, 8)), id="equal columns", marks=pytest.mark.slow),
    ],
)
def test_answers_about_poor_tables_are_finite(kind, X):
    model = quietly(lambda: clone(REAL[kind]).fit(X))
    for name in ("transform", "reconstruct", "reconstruction_error", "score_samples", "jacobian"):
        assert np.isfinite(getattr(model, name)(X)).all(), name


@pytest.mark.parametrize("kind", [kind for kind in REAL if kind != "own networks"])
def test_a_table_of_one_column_is_answered(kind):
    X = varying(30, 1)
    model = clone(REAL[kind])
    if model.n_components == 2:
        model.set_params(n_components=1)
    quietly(lambda: model.fit(X))
    for name in ("transform", "reconstruct", "reconstruction_error", "score_samples", "jacobian"):
        assert np.isfinite(getattr(model, name)(X)).all(), name


# -- numbers of any size


def close_for_most(found, expected, rtol=0.05, atol=0.1):
    """Three numbers in four are near: rounded rows are other rows, and in the end a deep network is another one."""
    off = np.abs(found - expected) / (atol + rtol * np.abs(expected))
    assert np.quantile(off, 0.75) <= 1, np.sort(off.ravel())[-10:]


SIZES = [(1e-27, np.float32), (1e30, np.float32), (1e-170, np.float64), (1e160, np.float64), (1e300, np.float64)]


@pytest.mark.parametrize(
    ("size", "dtype"),
    [*SIZES[1:3], *(pytest.param(*case, marks=pytest.mark.slow) for case in (*SIZES[:1], *SIZES[3:]))],
)
@pytest.mark.parametrize("kind", REAL)
def test_every_kind_learns_tables_of_any_size_as_those_near_one(kind, size, dtype):
    usual = varying(d=8)
    X = (usual * size).astype(dtype)
    expected = quietly(lambda: clone(REAL[kind]).fit(usual))
    model = quietly(lambda: clone(REAL[kind]).fit(X))
    close_for_most(model.reconstruct(X) / size, expected.reconstruct(usual))
    close_for_most(model.reconstruction_error(X, scaled=True), expected.reconstruction_error(usual, scaled=True))
    scores = model.score_samples(X)
    close_for_most(scores + 8 * np.log(size), expected.score_samples(usual), rtol=2e-2, atol=0.2)
    assert model.score(X) == pytest.approx(scores.mean())
    for name in ("jacobian", "jacobian_spectrum"):
        assert np.isfinite(getattr(model, name)(X[:3])).all()
    errors = quietly(lambda: model.reconstruction_error(X))
    if 1e-100 < size < 1e100:
        close_for_most(errors / size / size, expected.reconstruction_error(usual))
    else:
        with pytest.warns(ResultWarning, match="outside float64's range.*scaled=True"):
            model.reconstruction_error(X)


def test_columns_of_very_different_sizes_are_all_rebuilt():
    sizes = np.array([1e-27, 1e-10, 1.0, 1e20, 1e30])
    rows = varying(d=5)
    X = (rows * sizes).astype(np.float32)
    model = quietly(lambda: LinearAutoencoder(3, random_state=0).fit(X))
    expected = quietly(lambda: LinearAutoencoder(3, scale="standard", random_state=0).fit(rows))
    np.testing.assert_allclose(model.reconstruct(X) / sizes, expected.reconstruct(rows), rtol=1e-3, atol=1e-3)
    errors = np.square(X.astype(np.float64) - model.reconstruct(X)).sum(1)
    np.testing.assert_allclose(model.reconstruction_error(X), errors, rtol=1e-3, atol=1e-3 * errors.mean())
    np.testing.assert_allclose(
        model.reconstruction_error(X, scaled=True), expected.reconstruction_error(rows, scaled=True), rtol=1e-3
    )


def test_a_column_whose_squares_count_nothing_leaves_the_error_a_number():
    sizes = np.array([1e-300, 1e-30, 1.0, 1e30, 1e140])
    X = varying(d=5) * sizes
    model = quietly(lambda: LinearAutoencoder(3, random_state=0).fit(X))
    for rows in (X, np.ones((2, 5)), np.full((2, 5), 1e100)):
        gaps = (rows - model.reconstruct(rows))[:, -1]
        np.testing.assert_allclose(model.reconstruction_error(rows), gaps**2, rtol=1e-6)


def test_derivatives_by_columns_of_denormal_size_are_given_in_scaled_units_only():
    X = varying(d=5) * 1e-320
    model = quietly(lambda: LinearAutoencoder(2, random_state=0).fit(X))
    with pytest.raises(DataError, match="too small for derivatives by them: use scaled=True"):
        model.jacobian(X)
    assert np.isfinite(model.jacobian(X, scaled=True)).all()


def test_a_step_size_beyond_float32_is_no_foreign_error():
    model = quietly(lambda: Autoencoder(2, learning_rate=1e300, max_epochs=2, random_state=0).fit(varying(d=5)))
    assert model.optimizer_ == "lbfgs"
    assert np.isfinite(model.reconstruct(varying(d=5))).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_small_tables_are_learned_with_weights_and_in_blocks(weighted):
    usual = varying(d=5)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(usual)) if weighted else None
    expected = clone(REAL["plain"]).partial_fit(usual, sample_weight=weights).partial_fit(usual)
    X = usual * 1e-170
    model = clone(REAL["plain"]).partial_fit(X, sample_weight=weights).partial_fit(X)
    np.testing.assert_allclose(model.reconstruct(X) / 1e-170, expected.reconstruct(usual), rtol=1e-3, atol=1e-3)


def test_rows_far_from_all_that_were_fitted_are_ranked():
    """Where float32 has no squares of them."""
    X = varying(d=4).astype(np.float32)
    model = quietly(lambda: LinearAutoencoder(2, random_state=0).fit(X))
    wild = X[:3] * np.array([[1e20], [1e22], [1e25]], np.float32)
    for answer in (model.reconstruction_error(wild), -model.score_samples(wild)):
        assert np.isfinite(answer).all()
        assert (np.diff(answer) > 0).all()


def test_a_classifier_learns_tables_of_any_size():
    rows = np.concatenate([varying(seed=0), varying(seed=0) + 3])
    y = np.repeat([0, 1], 60)
    for size, dtype in SIZES:
        model = AutoencoderClassifier(autoencoder=LinearAutoencoder(2, random_state=0), max_epochs=20, random_state=0)
        assert quietly(lambda m=model, s=size, t=dtype: m.fit((rows * s).astype(t), y)).score(rows * size, y) > 0.95


# -- memory

MEASURED = """
import numpy as np
from eigencode import Autoencoder, VariationalAutoencoder

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

rng = np.random.default_rng(0)
rows = rng.normal(size=(300, 50)).astype(np.float32)
FEW = {"hidden": (16,), "max_epochs": 1, "random_state": 0}
"""


def measured(code):
    """What a program of its own prints: megabytes."""
    program = MEASURED + textwrap.dedent(code)
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    return [float(number) for number in found.stdout.split()]


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's account of a process")


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="Linux sets the peak back, not every one does")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Autoencoder", "VariationalAutoencoder"])
def test_an_answer_takes_little_memory_beside_itself(kind):
    """Less than half a copy of it: blocks of rows, and of rows drawn their codes of 20 MB."""
    found = measured(
        f"""
        model = {kind}(8, **FEW).fit(rows).fit_density(rows)
        X = np.tile(rows, (1000, 1))
        Z = np.ones((len(X), 8), np.float32)
        for ask in (
            lambda X, Z: model.reconstruct(X),
            lambda X, Z: model.inverse_transform(Z),
            lambda X, Z: model.sample(len(X), random_state=0),
        ):
            ask(X[:20_000], Z[:20_000])
            open("/proc/self/clear_refs", "w").write("5")  # the peak is the present memory again
            before = peak()
            answer = ask(X, Z)
            print(answer.nbytes / 2**20, peak() - before)
            del answer
        """
    )
    answers, grown = np.reshape(found, (3, 2)).T
    assert (answers > 50).all()
    assert (grown - answers < [25, 25, 55]).all(), found


@linux
@pytest.mark.slow
def test_weights_take_no_more_memory_than_their_rows_do():
    def grown(weights):
        (found,) = measured(
            f"""
            wide = rng.normal(size=(200, 8000)).astype(np.float32)
            weights = {weights}
            Autoencoder(8, **FEW).fit(wide[:, :50], sample_weight=weights)
            before = peak()
            Autoencoder(8, **FEW).fit(wide, sample_weight=weights)
            print(peak() - before)
            """
        )
        return found

    assert grown("rng.uniform(0.5, 2, size=200)") < grown("None") + 100
