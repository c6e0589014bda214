"""Shorter steps of some layers: an encoder's wide ones beside its linear path."""

import numpy as np
import pytest
import torch

from eigencode import Autoencoder, fit_many
from eigencode.model.composition import Composition
from eigencode.parts.networks.dense import MLP, LinearPath, Tied
from eigencode.training import state
from eigencode.training.step_factors import step_factors


def built(encoder, decoder, n_features=300):
    model = Composition(encoder, decoder)
    model.setup(n_features, 2, torch.Generator().manual_seed(0))
    return model


def test_wide_layers_of_an_encoder_beside_a_linear_path_step_by_the_inverse_of_their_inputs():
    model = built(LinearPath(MLP((256, 4))), LinearPath(MLP((512, 256))))
    factors = step_factors(model).split([p.numel() for p in model.parameters()])
    found = {name: own.unique().tolist() for (name, _), own in zip(model.named_parameters(), factors, strict=True)}
    expected = {"encoder.network.layers.0.weight": 128 / 300, "encoder.network.layers.2.weight": 0.5}
    assert found == {name: [pytest.approx(expected.get(name, 1.0))] for name in found}


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        (MLP((512,)), LinearPath(MLP((512,)))),
        (LinearPath(MLP((512,)), gated=True), Tied()),
        (MLP(), LinearPath(MLP((512,)))),
        (LinearPath(MLP((128,))), LinearPath(MLP((512,)))),
    ],
)
def test_all_other_layers_have_the_whole_step(encoder, decoder):
    assert step_factors(built(encoder, decoder, n_features=128)) is None


@pytest.mark.parametrize("widths", [(100, 200), (200, 100), (200, 300)])
def test_models_with_and_without_shorter_steps_train_together(widths):
    X = np.random.default_rng(0).normal(size=(200, 6))
    options = {"max_epochs": 3, "precision": "float64", "optimizer": "adam", "batch_size": 32, "random_state": 0}
    alone, company = ([Autoencoder(2, hidden=(width, 8), **options) for width in widths] for _ in range(2))
    fit_many(company, X)
    for own, other in zip(alone, company, strict=True):
        own.fit(X)
        objectives = [[row["validation_objective"] for row in model.history_] for model in (own, other)]
        np.testing.assert_allclose(*objectives, rtol=1e-10)


def last_activations(factors, monkeypatch):
    """Largest activations of the units of the encoder's last hidden layer, after an epoch of 200 wide steps."""
    monkeypatch.setattr(state, "step_factors", factors)
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(3_000, 8, generator=generator)
    X = torch.tanh(draw @ torch.randn(8, 400, generator=generator)).numpy()
    options = {"hidden": (512, 256), "batch_size": 128, "learning_rate": 0.006, "max_epochs": 4, "random_state": 0}
    model = Autoencoder(4, precision="float32", **options).fit(X)
    x = torch.from_numpy(X[:500] - X.mean(0)) / float(X.std())
    with torch.no_grad():
        return model.composition_.encoder.network.layers[:-1](x).abs().amax(0)


def test_units_of_wide_layers_stay_within_the_range_of_their_activation(monkeypatch):
    """With the whole step most are below it after the warm-up, and never learn again."""
    assert (last_activations(step_factors, monkeypatch) > 0.1).float().mean() > 0.9
    assert (last_activations(lambda composition: None, monkeypatch) > 0.1).float().mean() < 0.5
