"""Steps of layers beside a linear path: shorter ones of an encoder's wide layers, and a decay of weights."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from eigencode import Autoencoder, fit_many
from eigencode.model.composition import Composition
from eigencode.parts.networks.dense import MLP, LinearPath, Tied
from eigencode.parts.weight_priors import GaussianWeights
from eigencode.training import loop, state
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.schedule import Schedule
from eigencode.training.step_factors import step_factors, weight_decay


def built(encoder, decoder, n_features=300, **terms):
    model = Composition(encoder, decoder, **terms)
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


def test_weights_beside_a_linear_path_decay_by_their_layers_inputs():
    model = built(LinearPath(MLP((64, 4))), LinearPath(MLP((512, 256))))
    decay = weight_decay(model, None).split([p.numel() for p in model.parameters()])
    found = {name: own.unique().tolist() for (name, _), own in zip(model.named_parameters(), decay, strict=True)}
    inputs = {
        **{"encoder.network.layers.0.weight": 300, "encoder.network.layers.2.weight": 64},
        **{"encoder.network.layers.4.weight": 4, "decoder.network.layers.0.weight": 2},
        **{"decoder.network.layers.2.weight": 512, "decoder.network.layers.4.weight": 256},
    }
    assert inputs.keys() <= found.keys()
    assert found == {name: [pytest.approx(0.3 * min(inputs.get(name, 0) / 128, 1))] for name in found}


@pytest.mark.parametrize("cells", [1, 100, 400, 10_000])
def test_weights_that_many_cells_determine_decay_less(cells):
    model = built(LinearPath(MLP((64,))), LinearPath(MLP((512,))))
    n_rows = cells * sum(p.numel() for p in model.parameters()) / 300
    torch.testing.assert_close(weight_decay(model, n_rows), weight_decay(model, None) * min(100 / cells, 1))


def test_a_fit_is_told_its_number_of_rows():
    X = np.random.default_rng(0).normal(size=(40_000, 5))
    few, many = (Autoencoder(2, hidden=(8,), random_state=0)._begin(rows).state.optimizer for rows in (X[:1_000], X))
    n_weights = many.decay.numel()
    torch.testing.assert_close(many.decay, few.decay * 100 * n_weights / (36_000 * 5))


@pytest.mark.parametrize(
    ("encoder", "terms"), [(MLP((512,)), {}), (LinearPath(MLP((512,))), {"weight_prior": GaussianWeights()})]
)
def test_without_a_linear_path_or_with_a_prior_no_weight_decays(encoder, terms):
    assert weight_decay(built(encoder, MLP((512,)), **terms), None) is None


def test_decay_multiplies_the_weights_of_one_model_and_of_several():
    decay, start = torch.tensor([0.0, 0.3, 0.3, 0.1]), torch.tensor([1.0, 2.0, -4.0, 8.0])
    alone = nn.Parameter(start.clone())
    ClippedAdam(alone, decay=decay).shrink(0.5)
    torch.testing.assert_close(alone.detach(), torch.tensor([1.0, 1.7, -3.4, 7.6]))
    together = nn.Parameter(start.repeat(3, 1))
    program = ClippedAdam(together, n_weights=[4] * 3, decay=torch.stack([decay, torch.zeros(4), decay]))
    program.shrink(torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(together.detach(), torch.stack([alone.detach(), start, start]))
    fewer = nn.Parameter(start.repeat(2, 1))
    program.of_models(torch.tensor([1, 0]), fewer, torch.zeros(2, 4)).shrink(torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(fewer.detach(), torch.stack([start, alone.detach()]))


def test_decay_changes_no_sign():
    alone, together = nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([[1.0, -2.0]]))
    ClippedAdam(alone, decay=torch.tensor([0.3, 0.0])).shrink(20.0)
    ClippedAdam(together, n_weights=[2], decay=torch.tensor([[0.3, 0.0]])).shrink(torch.tensor([20.0]))
    assert alone.tolist() == together[0].tolist() == [0.0, -2.0]


@pytest.mark.parametrize("begins", [0, 6])
def test_decay_is_by_the_sum_of_all_step_sizes(begins, monkeypatch):
    """Every fourth step for those since the time before; those of an earlier run are not counted again."""
    shrunk = []
    monkeypatch.setattr(ClippedAdam, "shrink", lambda self, rate: shrunk.append(rate))
    monkeypatch.setattr(Schedule, "rate", lambda self, step: 10.0**step)
    run = Autoencoder(2, hidden=(8,), max_epochs=2, batch_size=25, random_state=0, optimizer="adam")._begin(
        np.random.default_rng(0).normal(size=(111, 6))
    )
    run.state.schedule.begins, run.state.step = begins, begins
    run.state.schedule.end = run.state.schedule.decay_from = 10
    list(loop.train_all(loop.runner_of(run)))
    expected = {0: [1111.0, 1111e4], 6: [11e6]}[begins]
    assert shrunk == pytest.approx(expected)
    assert run.state.recent_rates == 0  # it has ended


def test_rows_that_were_not_fitted_are_rebuilt_better_with_decay(monkeypatch):
    """The ratio of the errors is .967 in the mean of six seeds, with a standard deviation of .0034."""
    X = load_digits().data
    rows = np.random.default_rng(0).permutation(len(X))
    options = {"hidden": (256,), "max_epochs": 60, "optimizer": "adam", "random_state": 0, "precision": "float32"}
    errors = []
    for decay in (weight_decay, lambda composition, n_rows: None):
        monkeypatch.setattr(state, "weight_decay", decay)
        errors.append(Autoencoder(8, **options).fit(X[rows[:800]]).reconstruction_error(X[rows[800:]]).mean())
    assert errors[0] < 0.985 * errors[1]


def test_factors_and_decay_of_a_model_are_known_and_take_no_memory():
    """Beside the weights a step of a large network has room for its gradient and two moments only."""
    factors, decay = torch.tensor([1.0, 0.25, 0.25, 0.1]), torch.tensor([0.0, 0.3, 0.3, 0.0])
    optimizer = ClippedAdam(nn.Parameter(torch.ones(4)), factors=factors, decay=decay)
    assert torch.equal(optimizer.factors, factors)
    assert torch.equal(optimizer.decay, decay)
    plain = ClippedAdam(nn.Parameter(torch.ones(4)))
    assert plain.factors is None
    assert plain.decay is None
    rows = np.random.default_rng(0).normal(size=(40, 6))
    run = Autoencoder(2, hidden=(256, 256), optimizer="adam", random_state=0)._begin(rows)
    assert run.state.optimizer.factors is not None
    assert run.state.optimizer.decay is not None
    n_weights, found = run.state.parameters.vector.numel(), {}
    for owner in (run.state, run.state.parameters, run.state.optimizer):
        for one in tree_leaves(vars(owner)):
            if isinstance(one, torch.Tensor) and one.numel() == n_weights:
                found[one.data_ptr()] = one
    assert len(found) == 5  # weights, their average, the gradient, the means of it and of its square


def test_the_pieces_of_many_weights_are_found_in_one_pass():
    """No operation has as many parts as there are weights, which would take seconds of a million of them."""
    decay = torch.cat([torch.zeros(400_000), torch.full((300_000,), 0.3), torch.zeros(1)])
    for shape in ((), (2,)):
        weights = nn.Parameter(torch.ones(*shape, len(decay)))
        with profile(activities=[ProfilerActivity.CPU]) as found:
            optimizer = ClippedAdam(
                weights, n_weights=[len(decay)] * 2 if shape else None, decay=decay.expand_as(weights)
            )
        assert sum(event.count for event in found.key_averages()) < 1000
        torch.testing.assert_close(optimizer.decay, decay.expand_as(weights))
        optimizer.shrink(torch.full(shape, 0.5) if shape else 0.5)
        torch.testing.assert_close(weights.detach(), (1 - 0.5 * decay).expand_as(weights))


def test_two_vectors_are_exchanged_a_part_at_a_time():
    one, other = torch.arange(10.0), torch.arange(10.0) + 100
    a, b = one.clone(), other.clone()
    state.swap(a, b, size=4)
    assert torch.equal(a, other)
    assert torch.equal(b, one)


def test_lists_of_pieces_of_many_models_do_not_become_more_and_more():
    """Models that have the same step size are stepped by one call, and which have it may change in each step."""
    n_models = 6
    weights, gradient = torch.zeros(n_models, 5), torch.ones(n_models, 5)
    optimizer = ClippedAdam(weights, gradient)
    rates = torch.rand(200, n_models, generator=torch.Generator().manual_seed(0)).mul(3).ceil() / 300
    for of_step in rates:
        gradient.fill_(1.0)
        optimizer.step(of_step)
    assert len(optimizer._lists) <= 2 * n_models
    for found, own in zip(weights, rates.T, strict=True):
        vector = torch.zeros(5)
        alone = ClippedAdam(vector, torch.ones(5))
        for rate in own.tolist():
            alone.step(rate)
        torch.testing.assert_close(found, vector)
