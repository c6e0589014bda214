"""Denoising: each corruption against its definition, the closed-form denoisers, and the score of the data's density."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

import eigencode
from eigencode import Autoencoder, DenoisingAutoencoder, LinearAutoencoder
from eigencode.errors import OptionError, StorageError
from eigencode.parts import (
    CallableCorruption,
    Corruption,
    GaussianLikelihood,
    GaussianNoise,
    LaplaceLikelihood,
    Masking,
    SaltAndPepper,
    Sizes,
    Units,
)
from eigencode.parts.corruptions import uniform_noise
from eigencode.testing import check_corruption

pytestmark = pytest.mark.slow

EXACT = {"precision": "float64", "validation_fraction": 0, "scale": "none", "random_state": 0}
D = 6

CELLWISE = [
    GaussianNoise(0.3),
    SaltAndPepper(0.2),
    SaltAndPepper(0.9),
    Masking(0.3),
    Masking(0.3, value=4.0),
    Masking(0.6, value=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def rows():
    """Correlated, skewed rows off centre, so that no column's extremes lie evenly about its mean."""
    rng = np.random.default_rng(0)
    return rng.exponential(size=(200, D)) @ rng.normal(size=(D, D)) + 5.0


def sizes_of(rows):
    """What a corruption knows of rows that are centred and not divided."""
    center = torch.from_numpy(rows.mean(0))
    x = torch.from_numpy(rows) - center
    return x, Sizes(D, 2, len(rows), Units(center, torch.ones_like(center)), x.amin(0), x.amax(0))


def set_up(part, rows):
    """A corruption of its own tensors, and the centred rows."""
    x, sizes = sizes_of(rows)
    part = eigencode.parts.Part.__sklearn_clone__(part)
    part.setup(sizes)
    return part.double(), x


# -- what a corruption does


@pytest.mark.parametrize(
    "part", [*CELLWISE, CallableCorruption(torch.mul)], ids=lambda part: repr(part).partition(" of type")[0]
)
def test_corruptions_keep_the_promises_of_all_parts(part):
    if isinstance(part, CallableCorruption):  # its function is what no file can hold
        with pytest.raises(AssertionError, match="the argument 'function' must be storable"):
            check_corruption(part, n_features=D)
    else:
        check_corruption(part, n_features=D)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_salt_and_pepper_sets_the_fraction_to_either_extreme(rows, fraction):
    part, x = set_up(SaltAndPepper(fraction), rows)
    x = x.repeat(500, 1)
    found = part(x, part.draw_noise(len(x), D, generator()))
    is_between = (x > x.amin(0)) & (x < x.amax(0))  # where a replaced cell can be told from one that was left
    low, high, same = ((found == value)[is_between].double() for value in (x.amin(0), x.amax(0), x))
    for share, expected in [(low, fraction / 2), (high, fraction / 2), (same, 1 - fraction)]:
        assert abs(share.mean() - expected) < 4 * (expected * (1 - expected) / len(share)) ** 0.5
    assert bool((low + high + same == 1).all())


@pytest.mark.parametrize(
    ("value", "expected"),
    [("mean", None), (7, [7.0] * D), ((1, 2, 3, 4, 5, 6), [1, 2, 3, 4, 5, 6]), (np.arange(6.0), range(6))],
)
def test_masking_takes_its_value_in_the_datas_units(rows, value, expected):
    part = Masking(0.4, value)
    divisor = torch.linspace(0.5, 3, D, dtype=torch.float64)
    center = torch.from_numpy(rows.mean(0))
    part.setup(Sizes(D, 2, len(rows), Units(center, divisor)))
    x = torch.from_numpy(rows - rows.mean(0)).repeat(100, 1) / divisor
    found = part(x, part.draw_noise(len(x), D, generator())) * divisor + center
    is_masked = found != x * divisor + center
    assert abs(is_masked.double().mean() - 0.4) < 4 * (0.24 / x.numel()) ** 0.5
    filling = torch.from_numpy(rows.mean(0)) if expected is None else torch.tensor(list(expected)).double()
    torch.testing.assert_close(found[is_masked], filling.expand_as(found)[is_masked])


def test_a_function_of_rows_and_uniform_noise_is_a_corruption():
    seen = []
    part = CallableCorruption(lambda x, noise: seen.append(noise) or x.mul_(1 + torch.special.ndtri(noise)))
    part.setup(Sizes(3, 2))
    x = torch.ones(200_000, 3)
    noise = part.draw_noise(len(x), 3, generator())
    found = part(x, noise)
    assert bool((x == 1).all()), "a function that writes into its rows gets a copy"
    assert 0 < noise.min() < noise.max() < 1
    assert abs(noise.mean() - 0.5) < 4 / np.sqrt(12 * noise.numel())
    assert abs(found.mean() - 1) < 4 / np.sqrt(found.numel())
    assert abs(found.var() - 1) < 4 * np.sqrt(2 / found.numel())
    assert part(x.double(), noise).dtype == seen[-1].dtype == torch.float64


def test_quantiles_of_uniform_noise_are_finite(monkeypatch):
    """A generator draws an exact zero about once in 16 million times; the noise has the smallest number instead."""
    expected = torch.rand(3, 2, generator=generator())
    torch.testing.assert_close(uniform_noise(3, 2, generator()), expected, rtol=0, atol=0)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    assert bool(torch.special.ndtri(uniform_noise(3, 2, generator())).isfinite().all())


def test_cells_and_models_are_corrupted_apart(rows):
    """Many models are one program: corruptions nest in vmap, each with noise of its own."""
    for part in CELLWISE:
        ready, x = set_up(part, rows)
        noise = torch.stack([ready.draw_noise(len(x), D, generator(seed)) for seed in range(3)])
        parameters, buffers = stack_module_state([ready] * 3)

        def corrupted(p, b, n, ready=ready, x=x):
            return functional_call(ready, (p, b), (x, n))

        in_dims = (0, 0 if buffers else None, 0)  # of no buffers, none has a model's axis
        found = vmap(corrupted, (None, *in_dims[1:]))(parameters, buffers, noise)
        torch.testing.assert_close(found, torch.stack([ready(x, n) for n in noise]), rtol=0, atol=0)


@pytest.mark.parametrize("part", CELLWISE, ids=repr)
def test_the_moments_of_a_cell_are_those_of_draws(rows, part):
    """E[x~ | x] = q x + c and the mean of Var[x~ | x] is D, in each column, within 4 standard errors."""
    ready, x = set_up(part, rows)
    gain, offset, residual = ready.cell_moments(x.square().mean(0))
    draws = torch.stack([ready(x, ready.draw_noise(len(x), D, generator(seed))) for seed in range(2000)])
    gap = draws - (gain * x + offset)
    error = gap.std(0) / len(draws) ** 0.5
    assert bool((gap.mean(0).abs() <= 4.5 * error).all()), "of 1200 cells, one lies past 4 in 16 times"
    squares = gap.square().mean(1)
    deviation = (squares.mean(0) - residual).abs()
    assert bool((deviation <= 4 * squares.std(0) / len(draws) ** 0.5 + 1e-12).all())


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (SaltAndPepper(1.5), "'fraction' parameter of SaltAndPepper must be .* at least 0 and at most 1.*Got 1.5"),
        (Masking(-0.1), "'fraction' parameter of Masking"),
        (Masking(0.1, value="median"), "'value' parameter of Masking must be 'mean'.*Got 'median'"),
        (Masking(0.1, value=(1.0, 2.0)), "one for each column.*for 6 columns"),
        (Masking(0.1, value=float("nan")), "a finite number"),
        (CallableCorruption(3), "must be a part or a function"),
        (CallableCorruption(lambda x, noise: x[:1]), r"of the shape of its first argument. Got shape \(1, 6\)"),
        (CallableCorruption(lambda x, noise: 0.0), "Got float"),
    ],
)
def test_senseless_arguments_are_refused(part, message):
    with pytest.raises(OptionError, match=message):
        part.setup(Sizes(D, 2))


def test_the_torch_generator_of_the_process_is_left_alone(rows):
    before = torch.get_rng_state()
    for noise in ("gaussian", "salt_and_pepper", "masking", lambda x, noise: x * (noise > 0.1)):
        DenoisingAutoencoder(2, noise=noise, max_epochs=1, hidden=(4,), random_state=0).fit(rows)
    assert torch.equal(torch.get_rng_state(), before)


# -- the closed-form linear denoisers


def linear_map(model, dimensions=D):
    """W and c of x^ - mu = W (x - mu) + c, read off the public answers."""
    center = model.scaler_.center
    origin = model.reconstruct(center[None])[0] - center
    return (model.reconstruct(center + np.eye(dimensions)) - center - origin).T, origin


def covariance_of(rows):
    return np.cov(rows.T, ddof=0)


@pytest.mark.parametrize("k", [2, D])
@pytest.mark.parametrize("variance", [0.05, 1.0])
def test_gaussian_noise_keeps_l_over_l_plus_v(rows, k, variance):
    model = LinearAutoencoder(k, corruption=GaussianNoise(variance), **EXACT).fit(rows)
    values, vectors = np.linalg.eigh(covariance_of(rows))
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    np.testing.assert_allclose(linear_map(model)[0], vectors * (values / (values + variance)) @ vectors.T, atol=1e-10)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_masking_is_the_marginalised_denoiser(rows, fraction):
    """Chen et al. (2012): W = (q S) Q^-1, Q_ij = q^2 S_ij off the diagonal and q S_ii on it."""
    model = LinearAutoencoder(D, corruption=Masking(fraction), **EXACT).fit(rows)
    q, s = 1 - fraction, covariance_of(rows)
    noisy = q**2 * s
    np.fill_diagonal(noisy, q * s.diagonal())
    w, origin = linear_map(model)
    np.testing.assert_allclose(w, q * s @ np.linalg.inv(noisy), atol=1e-8)
    np.testing.assert_allclose(origin, 0, atol=1e-8)


def test_masking_by_zeros_has_the_second_moment_of_the_rows_themselves(rows):
    """Cells set to 0 in the data's units: the best affine map by least squares on every corrupted row at once."""
    fraction = 0.4
    model = LinearAutoencoder(D, corruption=Masking(fraction, value=0.0), **EXACT).fit(rows)
    q, s, mean = 1 - fraction, covariance_of(rows), rows.mean(0)
    noisy = q**2 * s
    np.fill_diagonal(noisy, q * s.diagonal() + q * (1 - q) * mean**2)
    w, origin = linear_map(model)
    np.testing.assert_allclose(w, q * s @ np.linalg.inv(noisy), atol=1e-8)
    np.testing.assert_allclose(origin, w @ (fraction * mean), atol=1e-8)  # masked cells lie below the mean


def expected_loss(a, b, bias, covariance, moments):
    """E|B (A x~ + bias) - x|^2 over centred rows and all corruptions, by the exact moments of x~ = q x + c + r."""
    gain, offset, residual = moments
    gap = gain * b @ a - torch.eye(D, dtype=torch.float64)
    noise = ((b @ a).square() * residual).sum()
    return torch.trace(gap @ covariance @ gap.T) + noise + (b @ (a @ offset + bias)).square().sum()


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("part", CELLWISE, ids=repr)
def test_the_start_is_the_best_denoiser_of_its_rank(rows, part, k):
    """The exact expected loss has no gradient there, and L-BFGS, from there or from elsewhere, finds no better map."""
    model = LinearAutoencoder(k, corruption=part, **EXACT).fit(rows)
    ready, x = set_up(part, rows)
    moments = ready.cell_moments(x.square().mean(0))
    layers = model.composition_.encoder.affine, model.composition_.decoder.affine
    maps = [p.detach().clone().requires_grad_() for p in (layers[0].weight, layers[1].weight, layers[0].bias)]

    def loss():
        return expected_loss(*maps, x.T @ x / len(x), moments)

    start = loss()
    assert max(g.abs().max() for g in torch.autograd.grad(start, maps)) < 1e-8 * start
    found = []
    for seed in (None, 1, 2, 3):
        if seed is not None:
            for p in maps:
                p.data = torch.randn(p.shape, dtype=p.dtype, generator=generator(seed))
        optimizer = torch.optim.LBFGS(maps, max_iter=150, line_search_fn="strong_wolfe")

        def closure(optimizer=optimizer):
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        optimizer.step(closure)
        found.append(loss().item())
    assert min(found) >= start.item() * (1 - 1e-9), "a better map of this rank"
    # From elsewhere one search in some ten ends at another minimum, or on the way.
    assert min(found[1:]) <= start.item() * 1.001, "L-BFGS had little chance to find one"


def test_noise_of_no_size_is_no_noise(rows):
    plain = LinearAutoencoder(3, **EXACT).fit(rows).reconstruct(rows)
    for part in (GaussianNoise(0.0), SaltAndPepper(0.0), Masking(0.0)):
        model = LinearAutoencoder(3, corruption=part, **EXACT).fit(rows)
        np.testing.assert_allclose(model.reconstruct(rows), plain, atol=1e-8)
    flat = np.repeat(rows[:, :1], 3, axis=1)
    model = LinearAutoencoder(2, corruption=GaussianNoise(0.0), **EXACT).fit(flat)
    np.testing.assert_allclose(model.reconstruct(flat), flat, atol=1e-8)
    constant = np.ones((9, 2))
    model = LinearAutoencoder(2, corruption=GaussianNoise(0.0), **EXACT).fit(constant)
    np.testing.assert_array_equal(model.reconstruct(constant), constant)


def test_masked_constant_columns_are_rebuilt():
    rows = np.column_stack([np.full(30, 7.0), np.arange(30.0), np.arange(30.0) * 2])
    model = LinearAutoencoder(2, corruption=Masking(0.3), **EXACT).fit(rows)
    np.testing.assert_allclose(model.reconstruct(rows)[:, 0], 7.0)
    np.testing.assert_allclose(
        LinearAutoencoder(1, corruption=Masking(0.3)).fit(np.ones((9, 2))).reconstruct([[1, 1]]), 1
    )


# -- the estimator


@pytest.mark.parametrize(
    ("noise", "level", "expected"),
    [
        ("gaussian", "auto", "GaussianNoise(variance=0.0625)"),
        ("gaussian", 0.5, "GaussianNoise(variance=0.25)"),
        ("salt_and_pepper", "auto", "SaltAndPepper()"),
        ("masking", 0.1, "Masking(fraction=0.1)"),
        (Masking(0.2, value=3.0), "auto", "Masking(fraction=0.2, value=3.0)"),
    ],
)
def test_noise_and_level_name_a_corruption(rows, noise, level, expected):
    model = DenoisingAutoencoder(2, noise=noise, level=level, max_epochs=0, **EXACT).fit(rows)
    assert repr(model.composition_.corruption) == expected
    assert model.init_ == "linear"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "gausian"}, "Did you mean 'gaussian'"),
        ({"noise": None}, "must be a name, a Corruption part from eigencode.parts, or a function"),
        ({"noise": GaussianLikelihood()}, "must be a name, a Corruption part"),
        ({"noise": GaussianNoise}, "must be a name, a Corruption part"),
        ({"noise": GaussianNoise(0.1), "level": 0.5}, "'level' belongs to a noise given by name"),
        ({"corruption": GaussianNoise(0.1)}, "either 'noise' or 'corruption', not both"),
        (
            {"noise": "masking", "level": 1.5},
            "'level' parameter must be a share of the cells, from 0 to 1, for noise='m",
        ),
        ({"level": -1.0}, "'level' parameter of DenoisingAutoencoder"),
    ],
)
def test_senseless_options_are_refused(rows, options, message):
    with pytest.raises(OptionError, match=message):
        DenoisingAutoencoder(2, max_epochs=0, **options).fit(rows)


def test_it_is_the_plain_one_with_one_term_changed(rows):
    options = {"hidden": (8,), "max_epochs": 4, "random_state": 0}
    named = DenoisingAutoencoder(2, noise="masking", level=0.3, **options).fit(rows)
    general = Autoencoder(2, corruption=Masking(0.3), **options).fit(rows)
    np.testing.assert_array_equal(named.reconstruct(rows), general.reconstruct(rows))
    np.testing.assert_array_equal(named.denoise(rows), named.reconstruct(rows))
    np.testing.assert_array_equal(named.transform(rows), named.transform(rows))


@pytest.mark.parametrize(("noise", "level"), [("gaussian", 0.6), ("salt_and_pepper", 0.2), ("masking", 0.4)])
def test_denoising_beats_its_linear_start_and_the_plain_autoencoder(noise, level):
    digits = load_digits().data
    training, test = digits[:1200], digits[1200:]
    options = {"hidden": (64,), "max_epochs": 8, "random_state": 0}
    model = DenoisingAutoencoder(16, noise=noise, level=level, **options).fit(training)
    plain = Autoencoder(16, **options).fit(training)
    part, scaler = model.composition_.corruption, model.scaler_
    x = torch.from_numpy(scaler.transform(test)).float()
    noisy = scaler.inverse_transform(part(x, part.draw_noise(len(x), 64, generator(1))).numpy())
    rebuilt = {
        "denoised": model.denoise(noisy),
        "by the linear denoiser": model.baseline_.denoise(noisy),
        "without training on noise": plain.reconstruct(noisy),
        "left as it is": noisy,
    }
    denoised, *others = (np.square(found - test).sum(1).mean() for found in rebuilt.values())
    assert denoised < 0.95 * min(others), dict(zip(rebuilt, (denoised, *others), strict=True))


class Damage(Corruption):
    """A corruption of a user's own: rows lose their sign or keep it."""

    def draw_noise(self, n_rows, n_features, generator):
        return torch.rand((n_rows, 1), generator=generator)

    def forward(self, x, noise):
        return torch.where(noise.to(x.dtype) < 0.5, x, -x)


class Stripes(nn.Module):
    """A corruption of a user's own as a torch module."""

    def forward(self, x, noise):
        return x * (noise > 0.2)


def test_models_are_saved_with_their_corruption(rows, tmp_path):
    path = tmp_path / "model.safetensors"
    options = {"hidden": (4,), "max_epochs": 1, "random_state": 0}
    for noise, parts in [(Masking(0.2, value=(1, 2, 3, 4, 5, 6)), []), ("salt_and_pepper", []), (Damage(), [Damage])]:
        model = DenoisingAutoencoder(2, noise=noise, **options).fit(rows)
        model.save(path)
        again = eigencode.load(path, parts=parts)
        np.testing.assert_array_equal(again.denoise(rows), model.denoise(rows))
        corruption, saved = again.composition_.corruption, model.composition_.corruption
        assert repr(corruption) == repr(saved)
        x = torch.randn(5, D, generator=generator())
        noise = saved.draw_noise(5, D, generator())
        torch.testing.assert_close(corruption(x, noise), saved(x, noise), rtol=0, atol=0)
    by_function = DenoisingAutoencoder(2, noise=lambda x, noise: x * (noise > 0.2), **options).fit(rows)
    with pytest.raises(StorageError, match="'noise' cannot be saved without pickle.*subclass"):
        by_function.save(path)
    by_module = DenoisingAutoencoder(2, noise=Stripes(), **options).fit(rows)
    np.testing.assert_array_equal(by_module.denoise(rows), by_function.denoise(rows))
    by_module.save(path)
    np.testing.assert_array_equal(eigencode.load(path, parts=[Stripes()]).denoise(rows), by_module.denoise(rows))


# -- the score


@pytest.mark.parametrize("scale", ["none", "common", "standard"])
def test_the_linear_score_is_that_of_the_noisy_gaussian(rows, scale):
    """-(S + s2 D^2)^-1 (x - mu), with the noise in units of the scaled columns and the score in the data's."""
    rows = rows * np.geomspace(0.1, 10, D)
    level = 0.7
    model = DenoisingAutoencoder(D, level=level, hidden=(), max_epochs=0, **{**EXACT, "scale": scale}).fit(rows)
    divisor = model.scaler_.divisor
    noisy = covariance_of(rows) + level**2 * np.diag(divisor**2)
    x = rows + np.random.default_rng(1).normal(size=rows.shape) * divisor
    expected = -(x - rows.mean(0)) @ np.linalg.inv(noisy)
    np.testing.assert_allclose(model.score_function(x) * divisor, expected * divisor, atol=1e-10)
    assert model.score_function(x.astype(np.float32)).dtype == np.float32


MEANS = np.array([[-2.0, 0.0], [1.5, 1.5], [1.0, -2.0]])
COVARIANCES = np.array([[[0.3, 0.1], [0.1, 0.2]], [[0.2, -0.1], [-0.1, 0.4]], [[0.5, 0.0], [0.0, 0.1]]])
SHARES = np.array([0.4, 0.35, 0.25])


def mixture(n, rng):
    """Draws from three normals in the plane."""
    which = rng.choice(3, n, p=SHARES)
    return MEANS[which] + np.einsum("nij,nj->ni", np.linalg.cholesky(COVARIANCES)[which], rng.normal(size=(n, 2)))


def mixture_score(x, variance):
    """The gradient of the log-density of the mixture with noise: each normal's own, by its responsibility."""
    gaps = x[:, None] - MEANS
    precisions = np.linalg.inv(COVARIANCES + variance * np.eye(2))
    pulls = np.einsum("cij,ncj->nci", precisions, gaps)
    logs = np.log(SHARES) + 0.5 * np.linalg.slogdet(precisions)[1] - 0.5 * (gaps * pulls).sum(2)
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return -((shares / shares.sum(1, keepdims=True))[:, :, None] * pulls).sum(1)


def test_the_nonlinear_score_is_that_of_a_mixture():
    """Tweedie's formula, to some 8 % in relative L2 under the noisy density, where the linear denoiser is far off."""
    rng, level = np.random.default_rng(0), 0.5
    model = DenoisingAutoencoder(
        8, hidden=(64, 64), level=level, scale="none", max_epochs=30, random_state=0
    ).fit(mixture(8000, rng))  # fmt: skip
    x = mixture(4000, rng) + level * rng.normal(size=(4000, 2))
    expected = mixture_score(x, level**2)

    def error(found):
        return np.linalg.norm(found - expected) / np.linalg.norm(expected)

    assert error(model.score_function(x)) < 0.15  # over seeds .08, with a spread of .02
    assert error(model.baseline_.score_function(x)) > 0.8


def test_only_gaussian_noise_and_means_have_a_score(rows):
    for options in ({"noise": "masking"}, {"level": 0.0}):
        model = DenoisingAutoencoder(2, max_epochs=0, **options).fit(rows)
        with pytest.raises(OptionError, match="Gaussian noise only.*Fit with noise='gaussian'"):
            model.score_function(rows)
    model = DenoisingAutoencoder(2, likelihood=LaplaceLikelihood(), max_epochs=0).fit(rows)
    with pytest.raises(OptionError, match="a reconstruction that is a mean"):
        model.score_function(rows)
