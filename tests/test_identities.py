"""What the mathematics says exactly, asked of the public class in float64."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from eigencode import Autoencoder
from eigencode.parts import MLP, GaussianNoise

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
@pytest.mark.parametrize("start", ["plain", "linear"])
def test_linear_autoencoder_learns_the_subspace_of_pca(rows, k, start):
    model = Autoencoder(k, hidden=(), optimizer="lbfgs", start=start, **EXACT).fit(rows)
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
    model = Autoencoder(3, hidden=(), optimizer="lbfgs", start="plain", **EXACT).fit(rows)
    q, _ = np.linalg.qr(decoder_weight(model))
    _, rotation = np.linalg.eigh(q.T @ np.cov(rows.T, ddof=0) @ q)
    found = q @ rotation[:, ::-1]
    cosines = abs((found * eigen(rows)[1][:, :3]).sum(0))
    np.testing.assert_allclose(cosines, 1, atol=1e-6)


def test_a_linear_decoder_suffices(rows):
    """With squared error and a linear decoder, a nonlinear encoder gains nothing and the decoder spans PCA's space."""
    model = Autoencoder(
        2, hidden=(16,), activation="tanh", decoder=MLP(hidden=()), optimizer="lbfgs", start="plain", max_epochs=300,
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
