"""The contractive penalty against its closed forms, its linear optimum, and the geometry of fitted codes."""

import json
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine

import eigencode
from eigencode import (
    Autoencoder,
    Composition,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    fit_many,
)
from eigencode.batch import Batch
from eigencode.errors import NetworkError, OptionError, ResultWarning
from eigencode.model.initialization import linear_problem
from eigencode.model.jacobians import jacobian, squared_frobenius
from eigencode.model.objective import Objective
from eigencode.model.pca import spectrum
from eigencode.parts import (
    MLP,
    Code,
    Contractive,
    Delta,
    GaussianLikelihood,
    GaussianNoise,
    GaussianWeights,
    LaplacePrior,
    LinearPath,
    Masking,
    Penalty,
    Point,
    Tied,
)
from eigencode.testing import check_penalty

pytestmark = pytest.mark.slow

EXACT = {"precision": "float64", "validation_fraction": 0, "scale": "none", "random_state": 0}
D, K, N = 6, 3, 40


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def composed(encoder, decoder=None, d=D, k=K, **filled):
    """A composition in float64 whose every parameter is far from zero."""
    model = Composition(encoder, decoder or MLP((4,), "tanh"), **filled)
    model.setup(d, k, generator())
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator(1))
    return model


def batch(n=N, d=D):
    return torch.randn(n, d, dtype=torch.float64, generator=generator(2))


@pytest.fixture(scope="module")
def rows():
    """Rows with a clear spectrum: eigenvalues fall by a constant factor, in a random basis, off centre."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    return rng.normal(size=(300, 8)) * 0.7 ** np.arange(8) @ basis + 5.0


@pytest.fixture(scope="module")
def digits():
    return load_digits().data[:900]


# -- the penalty


def test_one_sigmoid_layer_is_rifais_formula_and_autograds():
    """||J||^2 = sum_j (h_j (1 - h_j))^2 ||W_j||^2."""
    model, x = composed(MLP(), code=Point("sigmoid"), penalties=[Contractive(0.7)]), batch()
    (penalty,) = model.penalties
    found = penalty(model(x), model)
    h = model.encode(x).mean
    lengths = model.encoder.affine.weight.square().sum(1)
    torch.testing.assert_close(found, 0.7 * ((h * (1 - h)).square() * lengths).sum(1), rtol=1e-10, atol=1e-10)
    one_row = [torch.autograd.functional.jacobian(lambda r: model.encode(r[None]).mean[0], row) for row in x]
    torch.testing.assert_close(found, 0.7 * torch.stack(one_row).square().sum((1, 2)), rtol=1e-10, atol=1e-10)


def test_a_linear_encoder_is_weight_decay_on_the_encoder():
    model, x = composed(MLP()), batch()
    expected = (0.2 * model.encoder.affine.weight.square().sum()).expand(N)
    torch.testing.assert_close(Contractive(0.2)(model(x), model), expected, rtol=1e-12, atol=0)


ENCODERS = [
    MLP(),
    MLP((7,), "tanh"),
    MLP((7, 5), "gelu"),
    LinearPath(MLP((7, 5), "silu")),
]


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
@pytest.mark.parametrize("estimate", ["auto", "hutchinson"])
@pytest.mark.parametrize("code", [Point(), Point("sigmoid")], ids=repr)
def test_the_penalty_keeps_the_promises_of_its_kind(encoder, estimate, code):
    """Among them: rows apart, many models in one program, and the gradient by all weights is the numerical one."""
    check_penalty(Contractive(0.5, estimate), Composition(encoder, MLP((4,), "tanh"), code=code))


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
def test_hutchinsons_estimate_is_unbiased(encoder):
    penalty = Contractive(0.5, "hutchinson")
    model, x = composed(encoder, code=Point("tanh"), penalties=[penalty]), batch(5)
    exact = penalty(model(x), model)
    noise = penalty.draw_noise(5 * 4000, model, generator())
    assert set(noise.unique().tolist()) == {-1.0, 1.0}
    draws = penalty(model(x.repeat(4000, 1)), model, noise).reshape(4000, 5)
    assert bool((draws.std(0) > 1e-3).all())
    assert bool(((draws.mean(0) - exact).abs() < 4 * draws.std(0) / 4000**0.5).all())


def test_noise_is_drawn_outside_and_reaches_the_penalty_through_the_objective():
    penalty = Contractive(0.5, "hutchinson")
    filled = {"corruption": GaussianNoise(0.1), "penalties": [Contractive(0.3, "exact"), penalty]}
    model, x = composed(MLP((7, 5)), **filled), batch()
    assert model.is_stochastic
    noise = model.draw_noise(N, generator())
    assert noise.penalties[0] is None
    again = model.draw_noise(N, generator())
    assert torch.equal(noise.penalties[1], again.penalties[1])
    terms = Objective().terms(model, model(x, noise))
    torch.testing.assert_close(terms["Contractive_1"], penalty(model(x, noise), model, noise.penalties[1]))
    norm = squared_frobenius(model, x)
    torch.testing.assert_close(terms["Contractive"], 0.3 * norm)
    without_noise = Objective().terms(model, model(x))
    torch.testing.assert_close(without_noise["Contractive_1"], 0.5 * norm)


class Jitter(Penalty):
    """A penalty of a user's own that draws noise of its own."""

    is_stochastic = True

    def draw_noise(self, n_rows, composition, generator):
        return torch.randn(n_rows, composition.n_components, generator=generator)

    def forward(self, trace, composition, noise=None):
        return trace.z.square().sum(1) if noise is None else (trace.z + 0.1 * noise).square().sum(1)


def test_penalties_of_ones_own_may_draw_noise(rows):
    check_penalty(Jitter())
    options = {"hidden": (4,), "penalties": [Jitter()], "max_epochs": 3, "random_state": 0}
    fits = [Autoencoder(2, **options).fit(rows) for _ in range(2)]
    np.testing.assert_array_equal(fits[0].transform(rows), fits[1].transform(rows))
    assert fits[0].optimizer_ == "adam", "an objective with noise is not for a line search"


def test_it_is_taken_at_the_clean_row_and_at_what_is_known_of_it():
    model, x = composed(MLP((7,), "tanh"), corruption=Masking(0.5), penalties=[Contractive(1.0)]), batch()
    (penalty,) = model.penalties
    noise = model.draw_noise(N, generator())
    torch.testing.assert_close(penalty(model(x, noise), model), squared_frobenius(model, x))
    observed = torch.rand(N, D, generator=generator(5)) < 0.6
    other = torch.where(observed, x, 99.0)
    found, same = (penalty(model(Batch(rows, observed)), model) for rows in (x, other))
    assert torch.equal(found, same)
    known_columns = jacobian(model, x * observed) * observed[:, None]
    torch.testing.assert_close(found, known_columns.square().sum((1, 2)))


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
@pytest.mark.parametrize("code", [Point(), Point("sigmoid")], ids=repr)
def test_hidden_columns_are_not_charged(encoder, code):
    """The map is x -> f(x with zeros in hidden cells): its Jacobian by autograd, a row at a time."""
    penalty = Contractive(0.7, "exact")
    model, x = composed(encoder, code=code, penalties=[penalty]), batch()
    observed = torch.rand(N, D, generator=generator(5)) < 0.6
    observed[0] = False
    expected = []
    for row, known in zip(x, observed, strict=True):
        code_of = partial(lambda k, r: model.encode(torch.where(k, r, 0.0)[None]).mean[0], known)
        expected.append(0.7 * torch.autograd.functional.jacobian(code_of, row).square().sum())
    found = penalty(model(Batch(torch.where(observed, x, torch.nan), observed)), model)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-10)
    assert found[0] == 0, "nothing is known of this row"


def test_the_estimate_of_a_masked_norm_is_unbiased():
    penalty = Contractive(0.5, "hutchinson")
    model, x = composed(MLP((7, 5)), penalties=[penalty]), batch(5)
    observed = torch.rand(5, D, generator=generator(5)) < 0.6
    exact = penalty(model(Batch(x, observed)), model)
    noise = penalty.draw_noise(5 * 4000, model, generator())
    many = model(Batch(x.repeat(4000, 1), observed.repeat(4000, 1)))
    draws = penalty(many, model, noise).reshape(4000, 5)
    assert bool(((draws.mean(0) - exact).abs() < 4 * draws.std(0) / 4000**0.5 + 1e-12).all())


@pytest.mark.parametrize(
    ("encoder", "k", "code", "expected"),
    [
        (MLP(), 30, Point("sigmoid"), "exact, in closed form"),
        (MLP((16,)), 30, Point(), "exact, in closed form"),
        (MLP((16, 16)), 8, Point(), "exact, in 8 passes a batch"),
        (MLP((16, 16)), 9, Point(), "by Hutchinson's estimate, one pass a batch"),
        (MLP((16,)), 9, Point("sigmoid"), "by Hutchinson's estimate, one pass a batch"),
    ],
)
def test_auto_is_exact_where_that_is_cheap(encoder, k, code, expected):
    penalty = Contractive()
    model = composed(encoder, d=40, k=k, code=code, penalties=[penalty])
    assert penalty.describe(model) == expected
    assert (
        model.is_stochastic == ("Hutchinson" in expected) == (model.draw_noise(4, generator()).penalties[0] is not None)
    )
    assert Contractive(estimate="exact").describe(model).startswith("exact")
    estimated = Contractive(estimate="hutchinson")
    estimated.join(model)
    assert estimated.is_stochastic


def test_a_wide_code_of_few_columns_takes_as_many_passes_as_columns():
    assert Contractive().describe(composed(MLP((5, 5)), d=4, k=20)) == "exact, in 4 passes a batch"


@pytest.mark.parametrize(
    ("penalty", "message"),
    [
        (Contractive(-1.0), "'weight' parameter of Contractive must be a finite number at least 0"),
        (Contractive(1.0, "exakt"), "'estimate' parameter of Contractive.*Did you mean 'exact'"),
    ],
)
def test_senseless_arguments_are_refused(penalty, message):
    with pytest.raises(OptionError, match=message):
        composed(MLP(), penalties=[penalty])


# -- the linear optimum


def shares_of(rows, k, decay):
    values, vectors = np.linalg.eigh(np.cov(rows.T, ddof=0))
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    return np.maximum(1 - decay / (2 * values), 0), values, vectors


@pytest.mark.parametrize("weight", [0.01, 0.3])
@pytest.mark.parametrize("variance", [0.5, 2.0])
def test_tied_linear_maps_start_at_their_optimum(rows, weight, variance):
    """s_i = (1 - lambda / 2l)+ with lambda = 2 v weight, in units of the squared error."""
    likelihood = GaussianLikelihood(variance)
    options = {**EXACT, "hidden": (), "max_epochs": 0, "likelihood": likelihood}
    model = ContractiveAutoencoder(5, weight=weight, **options).fit(rows)
    shares, _, vectors = shares_of(rows, 5, 2 * variance * weight)
    assert (shares == 0).any() == (weight * variance > 0.1)
    encoder = model.composition_.encoder.affine.weight.detach().numpy()
    np.testing.assert_allclose(encoder.T @ encoder, vectors * shares @ vectors.T, atol=1e-10)
    assert model.init_ == "linear"
    named = LinearAutoencoder(5, tied=True, penalties=[Contractive(weight)], likelihood=likelihood, **EXACT).fit(rows)
    np.testing.assert_allclose(named.reconstruct(rows), model.reconstruct(rows), atol=1e-10)


@pytest.mark.parametrize("weight", [0.05, 0.3])
def test_the_gradient_finds_the_same_optimum(rows, weight):
    options = {**EXACT, "tied": True, "penalties": [Contractive(weight)], "max_epochs": 2000, "patience": 200}
    model = LinearAutoencoder(4, solver="gradient", **options).fit(rows)
    shares, values, vectors = shares_of(rows, 4, weight)
    encoder = model.composition_.encoder.affine.weight.detach().numpy()
    np.testing.assert_allclose(encoder.T @ encoder, vectors * shares @ vectors.T, atol=1e-6)
    total = np.cov(rows.T, ddof=0).trace()
    loss = model.reconstruction_error(rows).mean() + weight * np.square(encoder).sum()
    expected = total - values.sum() + (values * (1 - shares) ** 2 + weight * shares).sum()
    assert loss == pytest.approx(expected, rel=1e-10)


def test_no_optimum_is_claimed_where_none_is_known(rows):
    x = torch.from_numpy(rows - rows.mean(0))

    def start(decoder, likelihood=None):
        model = composed(MLP(), decoder, d=8, penalties=[Contractive(0.1)], likelihood=likelihood)
        ones = torch.ones(8)
        batch = Batch(x)
        problem = linear_problem(batch, spectrum(batch, 3, 0), model, Objective(), (ones, ones))
        return model.penalties[0].linear_start(problem)

    assert start(Tied()) is not None
    assert start(MLP()) is None
    assert start(Tied(), GaussianLikelihood("learned")) is None


# -- no minimum


def test_untied_maps_can_lower_the_penalty_without_end():
    """Halving the codes and doubling the decoder leaves the reconstruction, and a quarter of the penalty."""
    model, x = composed(MLP(), MLP(), penalties=[Contractive(1.0)]), batch()
    before = Objective().terms(model, model(x))
    with torch.no_grad():
        for p in model.encoder.parameters():
            p /= 2
        model.decoder.affine.weight *= 2
    after = Objective().terms(model, model(x))
    torch.testing.assert_close(after["reconstruction"], before["reconstruction"])
    torch.testing.assert_close(after["Contractive"], before["Contractive"] / 4)


def test_layers_tied_beside_a_linear_path_can_too():
    """W/c^2 for the gate and c W for the last layer: the decoder's layers see the same, of codes c times smaller."""
    model, x = composed(LinearPath(MLP((7,)), gated=True), Tied(), penalties=[Contractive(1.0)]), batch()
    with torch.no_grad():
        model.encoder.linear.weight.zero_()
    before = Objective().terms(model, model(x))
    with torch.no_grad():
        model.encoder.linear.bias /= 2
        model.encoder.gate /= 4
        model.encoder.network.last.weight *= 2
    after = Objective().terms(model, model(x))
    torch.testing.assert_close(after["reconstruction"], before["reconstruction"])
    torch.testing.assert_close(after["Contractive"], before["Contractive"] / 4)


NO_MINIMUM = {"hidden": (4,), "max_epochs": 1, "random_state": 0}


@pytest.mark.parametrize(
    "model",
    [
        ContractiveAutoencoder(2, tied=False, **NO_MINIMUM),
        ContractiveAutoencoder(2, init="linear", **NO_MINIMUM),
        Autoencoder(2, penalties=[Contractive()], **{**NO_MINIMUM, "hidden": ()}),
        Autoencoder(2, penalties=[Contractive()], tied=True, **NO_MINIMUM),
        Autoencoder(2, penalties=[Contractive()], code=Point("relu"), **NO_MINIMUM),
        Autoencoder(2, penalties=[Contractive()], prior=LaplacePrior(0.1), **NO_MINIMUM),
    ],
    ids=repr,
)
def test_a_penalty_without_a_minimum_is_warned_of(rows, model):
    with pytest.warns(ResultWarning, match="the contractive penalty has no minimum.*; try "):
        model.fit(rows)
    assert "no minimum" in model.notes_[0]


@pytest.mark.parametrize(
    "model",
    [
        ContractiveAutoencoder(2, **NO_MINIMUM),
        ContractiveAutoencoder(2, **{**NO_MINIMUM, "hidden": ()}),
        Autoencoder(2, penalties=[Contractive(0.0)], **NO_MINIMUM),
        Autoencoder(2, penalties=[Contractive()], weight_prior=GaussianWeights(), **NO_MINIMUM),
        Autoencoder(2, penalties=[Contractive()], code=Point("sigmoid"), **NO_MINIMUM),
    ],
    ids=repr,
)
def test_others_are_not(rows, model):
    assert not [note for note in model.fit(rows).notes_ if "no minimum" in note]  # warnings are errors here


def test_a_closed_form_cannot_be_had_for_untied_maps(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResultWarning)
        with pytest.raises(OptionError, match="linear optimum is known in closed form"):
            LinearAutoencoder(2, penalties=[Contractive()]).fit(rows)


# -- the estimator


def test_it_is_the_plain_one_with_one_term_changed(rows):
    options = {"hidden": (8,), "tied": True, "init": "random", "max_epochs": 3, "random_state": 0}
    named = ContractiveAutoencoder(2, weight=0.4, hidden=(8,), max_epochs=3, random_state=0).fit(rows)
    general = Autoencoder(2, penalties=[Contractive(0.4)], **options).fit(rows)
    np.testing.assert_array_equal(named.transform(rows), general.transform(rows))
    np.testing.assert_array_equal(named.transform(rows), named.transform(rows))
    with pytest.raises(OptionError, match="'penalties' parameter must be a sequence"):
        ContractiveAutoencoder(2, penalties=Contractive()).fit(rows)


def test_larger_penalties_make_smaller_jacobians(digits):
    """By default most singular values on digits are below one, where the plain one's lie about it."""
    options = {"hidden": (64,), "max_epochs": 25, "random_state": 0}
    plain = Autoencoder(12, tied=True, init="random", **options).fit(digits)
    models = [ContractiveAutoencoder(12, weight=w, **options).fit(digits) for w in (0.3, 3.0)]
    spectra = [model.jacobian_spectrum(digits) for model in (plain, *models)]
    norms = [np.square(s).sum(1).mean() for s in spectra]
    assert norms[1] < 0.8 * norms[0]
    assert norms[2] < 0.5 * norms[1]
    assert (spectra[0] < 1).mean() < 0.6 < 0.75 < (spectra[1] < 1).mean() < 0.95 < (spectra[2] < 1).mean()
    dimensions = [model.local_dimension(digits).mean() for model in models]
    assert dimensions[1] < dimensions[0] < 12


def test_both_estimates_train_to_the_same_norm(digits):
    options = {"hidden": (32, 24), "max_epochs": 15, "random_state": 0, "weight": 1.0}
    norms = []
    for estimate in ("exact", "hutchinson"):
        model = ContractiveAutoencoder(10, estimate=estimate, **options).fit(digits)
        norms.append(np.square(model.jacobian_spectrum(digits)).sum(1).mean())
    assert norms[1] == pytest.approx(norms[0], rel=0.1)


def test_sparse_denoising_and_contractive_at_once(digits):
    filled = {"prior": LaplacePrior(0.05), "penalties": [Contractive(0.1)], "tied": True, "init": "random"}
    model = DenoisingAutoencoder(12, noise="masking", level=0.3, hidden=(32,), max_epochs=8, random_state=0, **filled)
    model.fit(digits)
    assert model.best_objective_ < model.history_[0]["validation_objective"]
    composition = model.composition_
    x = torch.from_numpy(model.scaler_.transform(digits)).float()
    trace = composition(x, composition.draw_noise(len(x), generator()))
    assert set(model.objective_.terms(composition, trace)) == {"reconstruction", "divergence", "Contractive"}
    assert bool((trace.x_tilde != x).any())
    np.testing.assert_array_equal(model.transform(digits), model.transform(digits))


def test_the_choice_of_estimate_is_told(rows, tmp_path, capsys):
    from eigencode.cli import main

    path = str(tmp_path / "model.safetensors")
    model = ContractiveAutoencoder(2, hidden=(6, 4), weight=0.5, max_epochs=1, random_state=0).fit(rows)
    model.save(path)
    again = eigencode.load(path)
    np.testing.assert_array_equal(again.jacobian_spectrum(rows), model.jacobian_spectrum(rows))
    main(["describe", path])
    assert "Contractive(weight=0.5) (exact, in 2 passes a batch)" in capsys.readouterr().out
    main(["describe", path, "--json"])
    assert "in 2 passes" in json.loads(capsys.readouterr().out)["penalties"][0]


# -- geometry


@pytest.mark.parametrize("scale", ["none", "standard"])
def test_jacobians_are_those_of_transform_in_the_datas_units(scale):
    X = load_wine().data[:20]
    model = Autoencoder(3, hidden=(5,), scale=scale, precision="float64", max_epochs=20, random_state=0).fit(X)
    found = model.jacobian(X)
    assert found.shape == (20, 3, 13)
    step = 1e-5 * model.scaler_.divisor
    for j in range(13):
        move = np.eye(13)[j] * step[j]
        numeric = (model.transform(X + move) - model.transform(X - move)) / (2 * step[j])
        np.testing.assert_allclose(
            found[:, :, j] * model.scaler_.divisor[j], numeric * model.scaler_.divisor[j], atol=1e-7
        )
    np.testing.assert_allclose(model.jacobian(X, scaled=True), found * model.scaler_.divisor, rtol=1e-10)
    np.testing.assert_allclose(
        model.jacobian_spectrum(X, scaled=False), np.linalg.svd(found, compute_uv=False), rtol=1e-8
    )
    np.testing.assert_allclose(
        model.jacobian_spectrum(X), np.linalg.svd(found * model.scaler_.divisor, compute_uv=False), rtol=1e-8
    )


def test_a_linear_code_has_one_spectrum_and_one_dimension(rows):
    model = LinearAutoencoder(4, tied=True, penalties=[Contractive(0.1)], **EXACT).fit(rows)
    shares = shares_of(rows, 4, 0.1)[0]
    np.testing.assert_allclose(model.jacobian_spectrum(rows), np.tile(np.sqrt(shares), (len(rows), 1)), atol=1e-10)
    kept = np.cumsum(shares) / shares.sum()
    for share in (0.3, 0.6, 0.95, 1.0):
        expected = np.argmax(kept >= share - 1e-12) + 1
        np.testing.assert_array_equal(model.local_dimension(rows, share=share), expected)
    with pytest.raises(OptionError, match="share of the squared norm"):
        model.local_dimension(rows, share=0.0)


def test_answers_come_in_the_rows_type_and_order(rows):
    model = ContractiveAutoencoder(2, hidden=(4,), max_epochs=2, random_state=0).fit(rows)
    for method in (model.jacobian, model.jacobian_spectrum):
        assert method(rows.astype(np.float32)).dtype == np.float32
        assert method(rows).dtype == np.float64
        np.testing.assert_allclose(method(rows)[5:7], method(rows[5:7]), rtol=1e-12)


def test_a_cell_past_the_clipping_limit_moves_no_code(rows):
    model = ContractiveAutoencoder(2, hidden=(4,), max_epochs=2, random_state=0).fit(rows)
    extreme = rows[:3].copy()
    extreme[:, 1] = 1e6
    found = model.jacobian(extreme)
    assert (found[:, :, 1] == 0).all()
    assert (found[:, :, 0] != 0).all()


def test_large_answers_are_found_in_pieces(rows, monkeypatch):
    model = ContractiveAutoencoder(2, hidden=(4,), max_epochs=2, random_state=0).fit(rows)
    whole = model.jacobian_spectrum(rows)
    monkeypatch.setattr(eigencode.model.jacobians, "NUMBERS_A_CHUNK", 50)
    monkeypatch.setattr(eigencode.data.sources, "CHUNK_ROWS", 70)
    np.testing.assert_allclose(model.jacobian_spectrum(rows), whole, rtol=1e-12)


class Softmax(Code):
    """A code with an attribute of that name that is no elementwise function."""

    activation = torch.nn.Softmax(dim=-1)

    def forward(self, output):
        return Delta(output.softmax(-1))


class SoftmaxPoint(Point):
    """What a class says of itself is not true of a subclass with another map."""

    def forward(self, output):
        return Delta(output.softmax(-1))


@pytest.mark.parametrize(
    ("encoder", "code"),
    [
        (MLP(), Softmax()),
        (MLP(), SoftmaxPoint()),
        (MLP(), Point(torch.nn.Softmax(dim=-1))),
        (MLP((6,), torch.nn.Softmax(dim=-1)), Point()),
        (MLP((6,), torch.nn.LayerNorm(6, elementwise_affine=False)), Point()),
    ],
    ids=str,
)
def test_what_is_exact_is_declared_and_never_guessed_from_a_name(encoder, code):
    model = Composition(encoder, MLP(), code, penalties=[Contractive(1.0)])
    model.setup(D, 3, generator(0))
    model.double()
    x = torch.randn(200, D, dtype=torch.float64, generator=generator(1))
    each = [torch.autograd.functional.jacobian(lambda row: model.encode(row[None]).mean[0], row) for row in x[:20]]
    expected = torch.stack([jacobian.square().sum() for jacobian in each])
    assert expected.min() > 1e-6
    torch.testing.assert_close(squared_frobenius(model, x)[:20], expected)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_an_activation_without_second_derivatives_is_refused(rows, optimizer):
    model = ContractiveAutoencoder(2, activation=torch.nn.Hardsigmoid(), optimizer=optimizer, max_epochs=1)
    with pytest.raises(NetworkError, match="no gradient in torch. Got derivative for .*hardsigmoid.* Try another act"):
        model.fit(rows)
    with pytest.raises(NetworkError, match="Try another activation"):
        fit_many([clone(model), clone(model)], rows)
