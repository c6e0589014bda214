"""What the mathematics says exactly, asked of the public class in float64."""

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.decomposition import PCA

from eigencode import Autoencoder, LinearAutoencoder
from eigencode.parts import MLP, GaussianLikelihood, GaussianNoise, GaussianWeights

EXACT = {"precision": "float64", "validation_fraction": 0, "scale": "none", "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    """Rows with a clear spectrum: eigenvalues fall by a constant factor, in a random basis, off centre."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    return rng.normal(size=(400, 8)) * 0.7 ** np.arange(8) @ basis + 5.0


def eigen(rows):
    """Eigenvalues, largest first, and eigenvectors of the covariance (divided by n)."""
    values, vectors = np.linalg.eigh(np.cov(rows.T, ddof=0))
    return values[::-1], vectors[:, ::-1]


def projector(matrix):
    """The orthogonal projector onto a matrix's columns."""
    q, _ = np.linalg.qr(matrix)
    return q @ q.T


def decoder_weight(model):
    """The matrix of a linear decoder."""
    return model.composition_.decoder.affine.weight.detach().numpy()


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("init", ["random", "linear"])
def test_linear_autoencoder_learns_the_subspace_of_pca(rows, k, init):
    model = Autoencoder(k, hidden=(), optimizer="lbfgs", init=init, **EXACT).fit(rows)
    values, vectors = eigen(rows)
    loss = model.reconstruction_error(rows).mean()
    assert loss == pytest.approx(values[k:].sum(), rel=1e-8)
    product = decoder_weight(model) @ model.composition_.encoder.affine.weight.detach().numpy()
    np.testing.assert_allclose(product, vectors[:, :k] @ vectors[:, :k].T, atol=1e-5)


def test_the_start_alone_is_pca_to_rounding(rows):
    model = Autoencoder(3, max_epochs=0, **EXACT).fit(rows)
    pca = PCA(3).fit(rows)
    np.testing.assert_allclose(model.reconstruct(rows), pca.inverse_transform(pca.transform(rows)), atol=1e-10)
    np.testing.assert_allclose(abs(model.transform(rows)), abs(pca.transform(rows)), atol=1e-10)


def test_principal_components_can_be_read_off_a_rotated_linear_decoder(rows):
    model = Autoencoder(3, hidden=(), optimizer="lbfgs", init="random", **EXACT).fit(rows)
    q, _ = np.linalg.qr(decoder_weight(model))
    _, rotation = np.linalg.eigh(q.T @ np.cov(rows.T, ddof=0) @ q)
    found = q @ rotation[:, ::-1]
    cosines = abs((found * eigen(rows)[1][:, :3]).sum(0))
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_a_linear_decoder_suffices(rows):
    """With squared error and a linear decoder, a nonlinear encoder gains nothing and the decoder spans PCA's space."""
    model = Autoencoder(
        2, hidden=(16,), activation="tanh", decoder=MLP(hidden=()), optimizer="lbfgs", init="random", max_epochs=300,
        **EXACT,
    ).fit(rows)  # fmt: skip
    values, vectors = eigen(rows)
    loss = model.reconstruction_error(rows).mean()
    assert values[2:].sum() * (1 - 1e-12) <= loss <= values[2:].sum() * (1 + 1e-4)
    np.testing.assert_allclose(projector(decoder_weight(model)), projector(vectors[:, :2]), atol=2e-2)


@pytest.mark.parametrize("max_epochs", [0, 3])
def test_linear_denoising_keeps_l_over_l_plus_v_of_each_direction(rows, max_epochs):
    variance = 0.2
    model = Autoencoder(
        3, hidden=(), corruption=GaussianNoise(variance), max_epochs=max_epochs, **EXACT
    ).fit(rows)  # fmt: skip
    values, vectors = eigen(rows)
    shares = values[:3] / (values[:3] + variance)
    product = decoder_weight(model) @ model.composition_.encoder.affine.weight.detach().numpy()
    tolerance = 1e-10 if max_epochs == 0 else 0.05
    np.testing.assert_allclose(product, vectors[:, :3] * shares @ vectors[:, :3].T, atol=tolerance)


def test_the_denoising_start_is_a_stationary_point_of_the_expected_loss(rows):
    """E||B A (x + e) - x||^2 = ||(B A - I) x||^2 + v ||B A||^2 has no gradient at the closed form."""
    variance = 0.2
    model = Autoencoder(3, hidden=(), corruption=GaussianNoise(variance), max_epochs=0, **EXACT).fit(rows)
    a = model.composition_.encoder.affine.weight.detach().clone().requires_grad_()
    b = model.composition_.decoder.affine.weight.detach().clone().requires_grad_()
    covariance = torch.from_numpy(np.cov(rows.T, ddof=0))
    gap = b @ a - torch.eye(8, dtype=torch.float64)
    loss = torch.trace(gap @ covariance @ gap.T) + variance * (b @ a).square().sum()
    loss.backward()
    assert a.grad.abs().max() < 1e-10
    assert b.grad.abs().max() < 1e-10


# -- weight decay as a prior on the weights


def shrunk(rows, k, decay):
    """The optimum of identity 2: loss and product of the maps for weight decay lambda (one, or one a component)."""
    values, vectors = eigen(rows)
    decay = np.broadcast_to(decay, k)
    shares = np.maximum(1 - decay / values[:k], 0)
    kept = shares > 0
    loss = np.where(kept, 2 * decay - decay**2 / values[:k], values[:k]).sum() + values[k:].sum()
    return loss, vectors[:, :k] * shares @ vectors[:, :k].T, shares


def prior_for(decay, n):
    """The prior whose weight decay is lambda = sigma_D^2 / (n sigma_w^2) at sigma_D^2 = 1/2."""
    return GaussianWeights((0.5 / (n * np.asarray(decay))).tolist())


@pytest.mark.parametrize("solver", ["exact", "gradient"])
@pytest.mark.parametrize("decay", [0.02, 0.15])
def test_weight_decay_shrinks_each_direction_and_kills_the_weak(rows, solver, decay):
    options = {**EXACT, "max_epochs": 400 if solver == "gradient" else 0}
    model = LinearAutoencoder(4, weight_prior=prior_for(decay, len(rows)), solver=solver, **options).fit(rows)
    loss, product, shares = shrunk(rows, 4, decay)
    assert (shares == 0).any() == (decay == 0.15)
    encoder = model.composition_.encoder.affine.weight.detach().numpy()
    decoder = decoder_weight(model)
    squared_error = model.reconstruction_error(rows).mean()
    assert squared_error + decay * ((encoder**2).sum() + (decoder**2).sum()) == pytest.approx(loss, rel=1e-8)
    np.testing.assert_allclose(decoder @ encoder, product, atol=1e-4)
    np.testing.assert_allclose(decoder.T, encoder, atol=1e-3)


def test_the_prior_counts_once_for_all_rows(rows):
    """For a sum over rows lambda = sigma_D^2 / sigma_w^2, so s_i = 1 - sigma_D^2 / (sigma_w^2 n l_i)."""
    sigma_d2, sigma_w2 = 0.3, 0.01
    model = LinearAutoencoder(
        2, likelihood=GaussianLikelihood(sigma_d2), weight_prior=GaussianWeights(sigma_w2), **EXACT
    ).fit(rows)
    values, vectors = eigen(rows)
    shares = 1 - sigma_d2 / (sigma_w2 * len(rows) * values[:2])
    product = decoder_weight(model) @ model.composition_.encoder.affine.weight.detach().numpy()
    np.testing.assert_allclose(product, vectors[:, :2] * shares @ vectors[:, :2].T, atol=1e-10)


@pytest.mark.parametrize("solver", ["exact", "gradient"])
def test_unequal_weight_decay_finds_the_ordered_components(rows, solver):
    decay = np.array([0.01, 0.03, 0.06])
    options = {**EXACT, "max_epochs": 2000, "patience": 100} if solver == "gradient" else EXACT
    model = LinearAutoencoder(3, weight_prior=prior_for(decay, len(rows)), solver=solver, **options).fit(rows)
    values, vectors = eigen(rows)
    expected = np.sqrt(1 - decay / values[:3]) * vectors[:, :3]
    found = decoder_weight(model)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-9 if solver == "exact" else 1e-3)


def test_tied_maps_pay_half(rows):
    decay = 0.04
    model = LinearAutoencoder(3, tied=True, weight_prior=prior_for(decay, len(rows)), **EXACT).fit(rows)
    values, vectors = eigen(rows)
    encoder = model.composition_.encoder.affine.weight.detach().numpy()
    shares = 1 - decay / (2 * values[:3])
    np.testing.assert_allclose(encoder.T @ encoder, vectors[:, :3] * shares @ vectors[:, :3].T, atol=1e-10)
    by_gradient = LinearAutoencoder(
        3, tied=True, weight_prior=prior_for(decay, len(rows)), solver="gradient", **EXACT
    ).fit(rows)
    found = by_gradient.composition_.encoder.affine.weight.detach().numpy()
    np.testing.assert_allclose(found.T @ found, encoder.T @ encoder, atol=1e-5)


def test_the_weights_density_is_scipys(rows):
    model = LinearAutoencoder(2, weight_prior=GaussianWeights(0.7), **EXACT).fit(rows)
    composition = model.composition_
    prior = composition.weight_prior
    expected = sum(
        scipy.stats.norm(0, np.sqrt(0.7)).logpdf(layer.affine.weight.detach().numpy()).sum()
        for layer in (composition.encoder, composition.decoder)
    )
    assert prior.log_prob(composition).item() == pytest.approx(expected, rel=1e-10)
    unequal = LinearAutoencoder(2, weight_prior=GaussianWeights([0.7, 0.2]), **EXACT).fit(rows)
    weights = [unequal.composition_.encoder.affine.weight.detach().numpy(), decoder_weight(unequal).T]
    expected = sum(scipy.stats.norm(0, np.sqrt([[0.7], [0.2]])).logpdf(w).sum() for w in weights)
    found = unequal.composition_.weight_prior.log_prob(unequal.composition_).item()
    assert found == pytest.approx(expected, rel=1e-10)


# -- ordered codes


@pytest.mark.parametrize("max_epochs", [0, 30])
def test_nested_dropout_learns_every_prefix_of_pca(rows, max_epochs):
    model = Autoencoder(4, hidden=(), ordered=True, max_epochs=max_epochs, learning_rate=1e-3, **EXACT).fit(rows)
    values, _ = eigen(rows)
    expected = [values[k:].sum() for k in range(1, 5)]
    np.testing.assert_allclose(
        model.reconstruction_error_by_size(rows), expected, rtol=1e-8 if not max_epochs else 0.03
    )


def test_nested_dropout_orders_components_from_a_random_start(rows):
    """With enough noisy steps each prefix spans the leading directions, which a plain code's does not."""
    options = {**EXACT, "hidden": (), "init": "random", "max_epochs": 300, "batch_size": 50, "learning_rate": 1e-2}
    model = Autoencoder(3, ordered=True, **options).fit(rows)
    values, _ = eigen(rows)
    expected = np.array([values[k:].sum() for k in range(1, 4)])
    np.testing.assert_allclose(model.reconstruction_error_by_size(rows), expected, rtol=0.05)
