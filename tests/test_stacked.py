"""Stacks: each layer fitted to the codes below, unrolled exactly, and fine-tuned from there."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import untimed
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import eigencode
from eigencode import Autoencoder, DenoisingAutoencoder, StackedAutoencoder, VariationalAutoencoder
from eigencode.errors import OptionError
from eigencode.parts import (
    MLP,
    ActivatedLikelihood,
    Chain,
    Frozen,
    Gaussian,
    GaussianLikelihood,
    GaussianNoise,
    Likelihood,
    Point,
    Rescaling,
    Sizes,
    StudentTLikelihood,
    Tied,
)
from eigencode.testing import check_likelihood


class Gained(Likelihood):
    """A likelihood of the user's own, with a learned factor in its mean."""

    def setup(self, sizes):
        self.gain = torch.nn.Parameter(torch.ones(sizes.n_features))

    def forward(self, output):
        return Gaussian(self.gain * output, 0.5)


QUICK = {"max_epochs": 2, "batch_size": 64}
LAYERS = {
    "sigmoid": [
        Autoencoder(12, hidden=(), code=Point("sigmoid"), init="random", **QUICK),
        Autoencoder(5, hidden=(), likelihood="bernoulli", **QUICK),
    ],
    "three kinds": [
        DenoisingAutoencoder(12, hidden=(16,), scale="standard", likelihood="laplace", **QUICK),
        VariationalAutoencoder(8, hidden=(10,), scale="standard", **QUICK),
        Autoencoder(4, hidden=(), corruption=GaussianNoise(0.1), scale="none", **QUICK),
    ],
    "tied": [
        Autoencoder(10, hidden=(), tied=True, code=Point("tanh"), **QUICK),
        Autoencoder(4, hidden=(6,), tied=True, **QUICK),
    ],
    "stochastic end": [
        Autoencoder(9, hidden=(), likelihood=StudentTLikelihood(), code=Point("relu"), **QUICK),
        VariationalAutoencoder(3, hidden=(), beta=0.5, likelihood=GaussianLikelihood("learned"), **QUICK),
    ],
    "a stack": [StackedAutoencoder(layers=(12, 8), **QUICK), Autoencoder(3, hidden=(), **QUICK)],
    "likelihoods of one's own": [
        Autoencoder(9, hidden=(), likelihood=Gained(), code=Point("tanh"), **QUICK),
        Autoencoder(5, hidden=(), likelihood=Gained(), code=Point("tanh"), **QUICK),
        Autoencoder(3, hidden=(), **QUICK),
    ],
    "images": [
        Autoencoder(9, image_shape=(1, 8, 8), hidden=(4,), code=Point("tanh"), **QUICK),
        Autoencoder(4, hidden=(), **QUICK),
    ],
    "alone": [Autoencoder(4, hidden=(6,), **QUICK)],
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def rows(digits):
    """A few images."""
    return digits[:120]


def stack(layers, precision="float32", **options):
    layers = [clone(layer).set_params(precision=precision) for layer in layers]
    return StackedAutoencoder(layers=layers, precision=precision, **{"random_state": 0, **QUICK, **options})


def composed(layers, rows):
    """Codes and reconstructions by the layers' own answers."""
    codes = rows
    for layer in layers:
        codes = layer.transform(codes)
    back = codes
    for layer in reversed(layers):
        back = layer.inverse_transform(back)
    return codes, back


# -- greedy pretraining


def test_each_layer_is_fitted_to_the_codes_of_the_layer_below(rows):
    weights = np.random.default_rng(0).integers(0, 3, len(rows)).astype(float)
    model = stack(LAYERS["three kinds"], fine_tune=False).fit(rows, sample_weight=weights)
    # A row of weight zero is in none of the layers' hands.
    codes, weights = rows[weights > 0], weights[weights > 0]
    for given, layer in zip(model.layers, model.layers_, strict=True):
        by_hand = clone(given).set_params(random_state=layer.random_state)
        run = by_hand._begin(codes, weights, split_seed=model.seed_)  # all share their validation rows
        with by_hand._training(run, "by hand", verbose=False) as evaluations:
            list(evaluations)
        assert untimed(by_hand.history_) == untimed(layer.history_)
        assert len(layer.history_) == 3
        # Two threads may add up products in another order.
        np.testing.assert_allclose(by_hand.transform(codes), layer.transform(codes), rtol=1e-9, atol=1e-9)
        codes = layer.transform(codes)


def test_every_layer_draws_its_own_noise_by_the_stacks_seed(rows):
    layers = [Autoencoder(6, hidden=(), corruption=GaussianNoise(0.1), random_state=5, **QUICK)] * 3
    seeds = [[layer.seed_ for layer in stack(layers, random_state=seed).fit(rows).layers_] for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1]
    assert len({*seeds[0], *seeds[2]}) == 6
    assert all(layer.random_state == 5 for layer in layers)


def test_one_seed_gives_the_same_bits(rows):
    first, again = (stack(LAYERS["sigmoid"]).fit(rows) for _ in range(2))
    np.testing.assert_array_equal(first.transform(rows), again.transform(rows))
    assert untimed(first.history_) == untimed(again.history_)
    other = stack(LAYERS["sigmoid"], random_state=1).fit(rows)
    assert not np.array_equal(first.transform(rows), other.transform(rows))


# -- unrolling


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_unrolled_network_is_the_layers_one_after_the_other(rows, kind, precision, tolerance):
    model = stack(LAYERS[kind], precision, fine_tune=False).fit(rows)
    codes, back = composed(model.layers_, rows)
    scale = {"rtol": tolerance, "atol": tolerance * np.abs(codes).max()}
    np.testing.assert_allclose(model.transform(rows), codes, **scale)
    np.testing.assert_allclose(model.reconstruct(rows), back, rtol=tolerance, atol=16 * tolerance)
    np.testing.assert_allclose(model.inverse_transform(codes), back, rtol=tolerance, atol=16 * tolerance)
    assert model.init_ == "pretrained"
    # It is one composition like any other, of the first layer's likelihood and the last one's code.
    first, last = model.layers_[0].composition_, model.layers_[-1].composition_
    assert repr(model.composition_.likelihood) == repr(first.likelihood)
    assert repr(model.composition_.code) == repr(last.code)
    assert repr(model.composition_.prior) == repr(last.prior)
    assert model.objective_.beta == model.layers_[-1].objective_.beta
    assert np.isfinite(model.score_samples(rows)).all()


def test_tied_layers_stay_tied(rows):
    model = stack(LAYERS["tied"]).fit(rows)
    matrices = [p for p in model.composition_.decoder.parameters() if p.dim() > 1]
    assert matrices == []
    before = model.inverse_transform(model.transform(rows))
    with torch.no_grad():
        next(p for p in model.composition_.encoder.parameters() if p.dim() > 1).mul_(2)
    codes = np.ones((1, 4))
    assert not np.allclose(model.inverse_transform(codes), before[:1])


# -- fine-tuning


@pytest.mark.parametrize("kind", ["sigmoid", "three kinds", "stochastic end", "tied"])
def test_fine_tuning_starts_at_the_unrolled_network_and_improves_on_it(rows, kind):
    start = stack(LAYERS[kind], fine_tune=False).fit(rows)
    tuned = stack(LAYERS[kind], max_epochs=6).fit(rows)
    assert len(start.history_) == 1
    first, other = (row | {"learning_rate": 0} for row in untimed([tuned.history_[0], start.history_[0]]))
    assert first == other
    assert tuned.best_objective_ == min(row["validation_objective"] for row in tuned.history_)
    assert tuned.best_objective_ < start.best_objective_
    assert [untimed(a.history_) for a in tuned.layers_] == [untimed(a.history_) for a in start.layers_]


def test_pretraining_matters_in_a_deep_sigmoid_network(digits):
    """A fresh sigmoid network of four layers hardly moves in the time in which the pretrained one learns."""
    training, test = digits[:500], digits[500:900]
    options = {"activation": "sigmoid", "max_epochs": 10, "batch_size": 32, "random_state": 0}
    errors = {}
    for pretrain in (True, False):
        model = StackedAutoencoder(layers=(32, 16, 8), pretrain=pretrain, **options).fit(training)
        errors[pretrain] = model.reconstruction_error(test).mean()
        assert len(model.history_) == 11
        assert len(model.layers_) == (3 if pretrain else 0)
    spread = ((test - training.mean(0)) ** 2).sum(1).mean()
    assert errors[True] < 0.75 * errors[False] < 0.75 * spread


def test_without_pretraining_it_is_the_same_network_at_random_weights(rows):
    pretrained, fresh = (stack(LAYERS["sigmoid"], pretrain=value).fit(rows) for value in (True, False))
    assert repr(fresh.composition_) == repr(pretrained.composition_)
    assert fresh.hidden_ == pretrained.hidden_ == (12,)
    assert fresh.init_ == "random"
    x = torch.randn(3, 12, generator=generator())
    torch.testing.assert_close(fresh.composition_.encoder.networks[1](x), x)


def test_the_terms_of_the_stack_are_those_of_fine_tuning(rows):
    model = stack(LAYERS["stochastic end"], corruption=GaussianNoise(0.3), max_epochs=1).fit(rows)
    assert repr(model.composition_.corruption) == "GaussianNoise(variance=0.3)"
    assert [layer.composition_.corruption for layer in model.layers_] == [None, None]


# -- layers given by width


def test_a_width_is_a_layer_with_the_units_and_the_noise_of_the_stack(rows):
    options = {"corruption": GaussianNoise(0.2), "activation": "sigmoid", "code": Point("tanh"), **QUICK}
    model = StackedAutoencoder(layers=(12, 5), random_state=0, **options).fit(rows)
    assert [layer.n_components_ for layer in model.layers_] == [12, 5]
    for layer, code, likelihood in zip(
        model.layers_, ["sigmoid", "tanh"], ["GaussianLikelihood()", "BernoulliLikelihood()"], strict=True
    ):
        composition = layer.composition_
        assert repr(composition.corruption) == "GaussianNoise(variance=0.2)"
        assert repr(composition.likelihood) == likelihood
        assert composition.code.activation == code
        assert composition.encoder.hidden == ()
        assert len(layer.history_) == 3
    # The decoder is as nonlinear as the encoder: sigmoid units in between, and a linear end.
    w = {name: p.double() for name, p in model.composition_.decoder.named_parameters()}
    z = torch.randn(4, 5, dtype=torch.float64, generator=generator())
    (first, first_bias, last, last_bias) = w.values()
    expected = torch.sigmoid(z @ first.T + first_bias) @ last.T + last_bias
    torch.testing.assert_close(model.composition_.double().decoder(z), expected)
    model.composition_.float()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_other_units_are_rebuilt_in_their_own_range(rows, activation):
    options = QUICK | {"batch_size": "auto"}
    model = StackedAutoencoder(layers=(12, 5), activation=activation, random_state=0, **options).fit(rows)
    likelihood = model.layers_[1].composition_.likelihood
    assert isinstance(likelihood, ActivatedLikelihood)
    assert likelihood.activation == activation
    codes = model.layers_[0].transform(rows)
    rebuilt = model.layers_[1].reconstruct(codes)
    assert rebuilt.min() >= {"relu": 0, "gelu": -0.17001}[activation]
    assert ((rebuilt - codes) ** 2).mean() < codes.var(0).mean()


def test_sizes_come_from_the_usual_knobs_where_no_layers_are_given(rows):
    model = StackedAutoencoder(3, hidden=(10, 6), random_state=0, **QUICK).fit(rows)
    assert [layer.n_components_ for layer in model.layers_] == [10, 6, 3]
    assert model.hidden_ == (10, 6)
    assert model.n_components_ == 3
    automatic = StackedAutoencoder(random_state=0, max_epochs=0).fit(rows)
    assert len(automatic.layers_) == 2
    assert automatic.transform(rows).shape == (len(rows), automatic.n_components_)


@pytest.mark.parametrize("share", ["auto", 0.5, 0.99])
@pytest.mark.parametrize("hidden", [(), (30,), (12, 20)])
def test_a_share_of_the_variance_is_that_of_the_rows(share, hidden):
    """And not that of the units of the layer below, which begin at random."""
    x = np.random.default_rng(0).normal(size=(400, 10)) * 0.8 ** np.arange(10)
    model = StackedAutoencoder(share, hidden=hidden, scale="none", max_epochs=0, random_state=0).fit(x)
    kept = np.cumsum(model.explained_variance_ratio_)
    asked = 0.9 if share == "auto" else share
    assert kept[-1] >= asked > kept[-2]
    alone = Autoencoder(share, scale="none", max_epochs=0, random_state=0).fit(x)
    assert model.n_components_ == len(kept) == alone.n_components_


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "a sequence of widths and autoencoders"),
        ({"layers": [4, "8"]}, "A layer must be a width or an autoencoder"),
        ({"layers": [4, 0]}, "A layer must be a width or an autoencoder"),
        ({"layers": [4], "n_components": 2}, "Set either 'layers' or 'hidden'"),
        ({"layers": [4], "hidden": (3,)}, "Set either 'layers' or 'hidden'"),
        ({"layers": [4], "encoder": MLP()}, "'encoder' belongs to the first or the last layer"),
        ({"layers": [4], "image_shape": (1, 8, 8)}, "'image_shape' belongs to the first or the last layer"),
        ({"layers": [4], "ordered": True}, "'ordered' belongs to the first or the last layer"),
        ({"layers": [Autoencoder(4)], "likelihood": "laplace"}, "'likelihood' belongs to the first or the last layer"),
        ({"layers": [Autoencoder(4)], "scale": "none"}, "'scale' belongs to the first or the last layer"),
        ({"layers": [4, Autoencoder(3)], "code": Point()}, "'code' belongs to the first or the last layer"),
    ],
)
def test_what_makes_no_sense_is_refused(rows, options, message):
    with pytest.raises(OptionError, match=message):
        StackedAutoencoder(max_epochs=0, **options).fit(rows)


# -- the estimator's face


def test_clones_copies_and_files_are_the_same_model(rows, tmp_path):
    layers = [LAYERS["three kinds"][0], 7, LAYERS["three kinds"][1]]
    model = StackedAutoencoder(layers=layers, random_state=0, **QUICK).fit(rows)
    model.save(tmp_path / "m.safetensors")
    read = eigencode.load(tmp_path / "m.safetensors")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), read, clone(model).fit(rows)):
        for name in ("transform", "reconstruct", "score_samples"):
            np.testing.assert_array_equal(getattr(other, name)(rows), getattr(model, name)(rows))
        assert untimed(other.history_) == untimed(model.history_)
        assert repr(other) == repr(model)
        for one, another in zip(model.layers_, other.layers_, strict=True):
            assert untimed(one.history_) == untimed(another.history_)
    np.testing.assert_array_equal(composed(read.layers_, rows)[1], composed(model.layers_, rows)[1])


def test_a_search_goes_over_stacks(rows):
    choices = {"layers": [(8, 4), [Autoencoder(4, hidden=(), max_epochs=0), 4]], "fine_tune": [False]}
    search = GridSearchCV(StackedAutoencoder(max_epochs=1, random_state=0), choices, cv=2).fit(rows)
    assert search.best_params_["layers"] in choices["layers"]
    assert search.best_estimator_.get_params()["layers"] is not None


def test_a_stream_is_pretrained_by_its_first_block(rows):
    model = stack(LAYERS["sigmoid"]).partial_fit(rows[:80])
    before = model.transform(rows)
    assert len(model.layers_) == 2
    model.partial_fit(rows[80:])
    assert len(model.history_) == 2
    assert not np.array_equal(model.transform(rows), before)


def test_time_is_shared_among_the_layers_and_the_whole(rows, ticking):
    began = ticking()
    model = StackedAutoencoder(layers=(30, 20), max_epochs=10**6, max_seconds=1.5, random_state=0).fit(rows)
    assert ticking() - began < 1.6
    assert [layer.max_seconds for layer in model.layers_] == [0.5, 0.5]
    assert len(model.history_) > 1


# -- the parts


def test_a_chain_is_its_networks_in_turn():
    chain = Chain([MLP((4,), "tanh"), Rescaling(), MLP()], widths=[5, 5])
    chain.setup(3, 2, generator())
    chain.networks[1].standardise(torch.full((5,), 2.0), torch.full((5,), 4.0))
    x = torch.randn(6, 3, generator=generator(1))
    first, _, last = chain.networks
    torch.testing.assert_close(chain(x), last((first(x) - 2) / 4))
    with pytest.raises(OptionError, match="3 networks has 2 widths"):
        Chain([MLP(), MLP(), MLP()], widths=[4]).setup(3, 2, generator())


def test_mirrored_chains_pair_their_networks_from_the_outside_in():
    encoder = Chain([Frozen(MLP((4,), "tanh")), MLP()], widths=[5])
    decoder = Chain([Tied(), Tied()], widths=[5])
    decoder.mirror(encoder)
    encoder.setup(3, 2, generator())
    decoder.setup(2, 3, generator())
    inner, outer = encoder.networks[1], encoder.networks[0].network
    z = torch.randn(6, 2, generator=generator(1))
    h = z @ inner.last.weight
    expected = torch.tanh(h @ outer.layers[2].weight) @ outer.layers[0].weight
    torch.testing.assert_close(decoder(z), expected)


def test_rescaling_goes_there_and_back():
    there, back = Rescaling(), Rescaling()
    center, divisor = torch.tensor([3.0, -1.0]).double(), torch.tensor([2.0, 0.1]).double()
    x = torch.randn(5, 2, dtype=torch.float64, generator=generator())
    for network, name in ((there, "standardise"), (back, "restore")):
        network.setup(2, 2, generator())
        network.double()
        torch.testing.assert_close(network(x), x, rtol=0, atol=0)
        getattr(network, name)(center, divisor)
    torch.testing.assert_close(there(x), (x - center) / divisor, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(back(there(x)), x, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "softplus", "sigmoid"])
def test_activated_likelihoods_keep_every_promise(activation):
    check_likelihood(ActivatedLikelihood(activation))


def test_an_activated_likelihood_is_squared_error_around_the_activation():
    part = ActivatedLikelihood("tanh")
    part.setup(Sizes(3, 1))
    part.double()
    x, output = torch.randn(2, 5, 3, dtype=torch.float64, generator=generator())
    loss = -part(output).log_prob(part.target(x))
    torch.testing.assert_close(loss, (x - torch.tanh(output)) ** 2 + 0.5 * np.log(np.pi))
