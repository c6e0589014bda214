"""The spectrum, however it is found, and what the linear start makes of it."""

import numpy as np
import pytest
import torch
from conftest import evaluated

from eigencode import Autoencoder, Composition, LinearAutoencoder, Objective, VariationalAutoencoder, training
from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.fitting import data, start
from eigencode.model import pca
from eigencode.model.initialization import STEPS, backtrack, linear_problem, linear_start
from eigencode.model.pca import spectrum
from eigencode.parts import (
    MLP,
    BernoulliLikelihood,
    Contractive,
    GaussianCode,
    GaussianLikelihood,
    GaussianNoise,
    GaussianWeights,
    LaplaceLikelihood,
    LaplacePrior,
    LinearPath,
    Network,
    Penalty,
    Sizes,
    StandardNormalPrior,
)
from eigencode.parts.likelihoods import closed_forms
from eigencode.parts.networks.base import linear_layer


def centred(n, d, seed=0):
    array = np.random.default_rng(seed).normal(size=(n, d)) * 0.8 ** np.arange(d)
    return torch.from_numpy(array - array.mean(0))


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 300), (3, 5), (2, 2)])
def test_the_spectrum_is_numpys_svd(n, d):
    rows = centred(n, d)
    found = spectrum(Batch(rows), None, seed=0)
    _, singular, right = np.linalg.svd(rows.numpy(), full_matrices=False)
    values = singular**2 / n
    rank = int((values > 1e-10 * values[0]).sum())
    np.testing.assert_allclose(found.eigenvalues[:rank], values[:rank], rtol=1e-8)
    np.testing.assert_allclose(
        abs((found.directions[:, :rank].numpy() * right[:rank].T).sum(0)), 1, atol=1e-6
    )  # the same directions up to sign
    assert found.total == pytest.approx(values.sum())


def test_a_large_problem_is_solved_at_random_and_agrees(monkeypatch):
    rows = centred(300, 40)
    exact = spectrum(Batch(rows), 5, seed=0)
    monkeypatch.setattr(pca, "EXACT_SIZE", 10)
    found = spectrum(Batch(rows), 5, seed=0)
    assert len(found.eigenvalues) == 5
    np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues[:5], rtol=1e-6)
    np.testing.assert_allclose(found.directions, exact.directions[:, :5], atol=1e-4)
    assert found.total == pytest.approx(exact.total)


def test_few_of_many_directions_are_those_of_all():
    rows = centred(600, 300)
    every, few = spectrum(Batch(rows), None, seed=0), spectrum(Batch(rows), 10, seed=0)
    assert len(every.eigenvalues) == 300
    assert few.directions.shape == (300, 10)
    torch.testing.assert_close(few.eigenvalues, every.eigenvalues[:10], rtol=1e-10, atol=0)
    torch.testing.assert_close(few.directions, every.directions[:, :10], rtol=0, atol=1e-8)
    assert few.total == pytest.approx(every.total)


def test_the_bias_of_a_rare_column_is_found_from_a_far_one():
    part = BernoulliLikelihood()
    part.setup(Sizes(2, 1))
    x = torch.zeros(4000, 2, dtype=torch.float64)
    x[:4, 0], x[:3000, 1] = 1, 1
    output = 0.1 * torch.randn(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bias = part.expansion.intercept(Batch(x), output, torch.tensor([-20.0, 6.0], dtype=torch.float64))
    found = (output + bias).sigmoid().mean(0)
    torch.testing.assert_close(found, torch.tensor([0.001, 0.75], dtype=torch.float64), rtol=1e-3, atol=0)


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_the_last_newton_step_of_a_bias_leaves_next_to_nothing_to_gain(spread, monkeypatch):
    """In nats of a row of 20 columns, rare ones and frequent ones, beside as many steps as it takes."""
    steps, moments = [], closed_forms._sigmoid_moments
    monkeypatch.setattr(closed_forms, "_sigmoid_moments", lambda *given: steps.append(1) or moments(*given))
    generator = torch.Generator().manual_seed(0)
    output = spread * torch.randn(2000, 20, dtype=torch.float64, generator=generator)
    p = (output + torch.linspace(-7, 3, 20, dtype=torch.float64)).sigmoid()
    x = torch.rand(p.shape, dtype=torch.float64, generator=generator).lt(p).double()
    part = BernoulliLikelihood()
    part.setup(Sizes(20, 1))
    start = x.mean(0).clamp(min=closed_forms.SMALLEST_MEAN).logit()

    def found():
        steps.clear()
        bias = part.expansion.intercept(Batch(x), output, start)
        return part(output + bias).log_prob(x).sum(1).mean(), len(steps)

    likelihood, n_steps = found()
    monkeypatch.setattr(closed_forms, "SMALLEST_GAIN", 0)
    monkeypatch.setattr(closed_forms, "INTERCEPT_STEPS", 50)
    best, _ = found()
    assert abs(best - likelihood) < 1e-6
    assert n_steps <= 4


def test_the_model_takes_what_the_baseline_took_from_all_rows(cancer, monkeypatch):
    asked, prepare = [], GaussianLikelihood.prepare
    monkeypatch.setattr(GaussianLikelihood, "prepare", lambda part, *given: asked.append(part) or prepare(part, *given))
    Autoencoder(2, max_epochs=0, random_state=0).fit(cancer)
    assert len(asked) == 1


def test_large_covariances_are_accumulated_in_the_rows_precision_and_agree(monkeypatch):
    rows = centred(500, 20)
    exact = spectrum(Batch(rows), None, seed=0)
    monkeypatch.setattr(pca, "EXACT_PRODUCTS", 0)
    np.testing.assert_allclose(
        spectrum(Batch(rows.float()), None, 0).eigenvalues, exact.eigenvalues, rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("with_gaps", [False, True])
def test_the_covariance_is_made_in_blocks_of_columns(with_gaps, monkeypatch):
    monkeypatch.setattr(pca, "BLOCK", 3)
    rows = centred(50, 8)
    observed = torch.rand(50, 8, generator=torch.Generator().manual_seed(0)) < 0.7 if with_gaps else None
    known = torch.ones(50, 8, dtype=torch.float64) if observed is None else observed.double()
    found = pca.second_moment(rows * known, observed, chunk=20)
    torch.testing.assert_close(found, (rows * known).T @ (rows * known) / (known.T @ known), rtol=1e-6, atol=1e-12)
    assert torch.equal(found, found.T)


@pytest.mark.parametrize("wanted", [(4, None), (200, None), (None, 0.5), (None, 0.9999), (None, None)])
@pytest.mark.parametrize("shape", [(700, 300), (300, 400), (40, 90)], ids=["rows", "columns", "few"])
def test_only_the_directions_asked_for_are_kept_and_are_those_of_all(shape, wanted):
    """By the singular values of the rows themselves."""
    n, d = shape
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n, d, dtype=torch.float64, generator=generator)
    rows += 3 * rows[:, :1] + torch.linspace(0, 1, n)[:, None]
    rows -= rows.mean(0)
    found, (count, share) = spectrum(Batch(rows), wanted[0], 0, wanted[1]), wanted
    values = torch.linalg.svdvals(rows).square() / n
    if share is not None:
        count = int((values.cumsum(0) / values.sum() < share).sum()) + 1
    # Beyond the rank of rows with many columns there are none.
    most = d if d <= 256 or n > d else int((values > 1e-12 * values[0]).sum())
    m = min(count or most, most)
    assert len(found.eigenvalues) == m
    known = min(m, len(values))
    torch.testing.assert_close(found.eigenvalues[:known], values[:known], rtol=1e-9, atol=1e-9)
    assert found.total == pytest.approx(float(values.sum()))
    v = found.directions
    torch.testing.assert_close(v.T @ v, torch.eye(m, dtype=v.dtype), rtol=0, atol=1e-9)
    torch.testing.assert_close(rows.T @ (rows @ v) / n, v * found.eigenvalues, rtol=0, atol=1e-9)
    assert (v.gather(0, v.abs().argmax(0, keepdim=True)) > 0).all()
    if share is not None:
        assert found.n_components_for(share) == m


@pytest.mark.parametrize("wanted", [(3, None), (280, None), (None, 0.9)])
def test_a_second_moment_is_the_same_after_its_directions_are_known(wanted, monkeypatch):
    """Though they are computed in its own memory; an error in between changes nothing either."""
    moment = pca.second_moment(centred(900, 300))
    before = moment.clone()
    pca.spectrum_of_moment(moment, *wanted)
    assert torch.equal(moment, before)
    decompose = pca.scipy.linalg.eigh

    def failing(*arguments, **options):
        decompose(*arguments, **options)
        assert not torch.equal(moment, before), "it was overwritten"
        raise np.linalg.LinAlgError

    monkeypatch.setattr(pca.scipy.linalg, "eigh", failing)
    with pytest.raises(np.linalg.LinAlgError):
        pca.spectrum_of_moment(moment, *wanted)
    assert torch.equal(moment, before)


class Straight(Network):
    """A linear map, and beside it another that does not start at zero."""

    has_linear_path = True

    def setup(self, n_inputs, n_outputs, generator):
        self.path, self.beside = (linear_layer(n_inputs, n_outputs, generator) for _ in range(2))

    @property
    def affine(self):
        return self.path

    def forward(self, x):
        return self.path(x) + self.beside(x)


@pytest.mark.parametrize("encoder", [None, Straight()], ids=["starts as its path", "does not"])
def test_the_noise_of_the_start_is_that_of_the_models_own_outputs(encoder):
    """It is found from the linear baseline only where that has the same outputs."""
    rows = centred(300, 8).float().numpy()
    model = Autoencoder(2, hidden=(8,), encoder=encoder, likelihood=LaplaceLikelihood("learned"), max_epochs=0)
    model.set_params(validation_fraction=0.0, random_state=0).fit(rows)
    composition, x = model.composition_, torch.from_numpy(model.scaler_.transform(rows)).float()
    with torch.no_grad():
        p = composition.reconstruct(x)
        own, of_baseline = (
            (m.reconstruct(x).mean - x).abs().mean() for m in (composition, model.baseline_.composition_)
        )
        spread = (p.log_prob(p.mean)[0, 0].exp() * 2).reciprocal()  # the density at its mean is 1 / (2 scale)
    torch.testing.assert_close(spread, own, rtol=1e-3, atol=0)
    assert (encoder is None) == torch.allclose(own, of_baseline, rtol=1e-3)


LIKELIHOODS = {"normal": "auto", "bits": "bernoulli", "counts": "poisson", "laplace": LaplaceLikelihood("learned")}


def counted(likelihood, seed=0):
    """Counts that two directions explain, or whether they are above 1."""
    draw = np.random.default_rng(seed)
    X = draw.poisson(np.exp(draw.normal(size=(400, 2)) @ draw.normal(size=(2, 8)) / 2)).clip(0, 9)
    return (X > 1 if likelihood == "bernoulli" else X).astype(float)


@pytest.mark.parametrize("likelihood", LIKELIHOODS.values(), ids=LIKELIHOODS)
def test_a_network_starts_as_its_linear_baseline(likelihood, monkeypatch):
    """What was found for the baseline is not found again, and their common objective is evaluated once."""
    model = VariationalAutoencoder(2, hidden=(16,), likelihood=likelihood, random_state=0)
    n_evaluated = []
    monkeypatch.setattr(training, "evaluate", lambda *given: n_evaluated.append(1))
    run = model._begin(counted(likelihood))
    assert run.alike is model.baseline_.composition_
    assert not n_evaluated
    assert evaluated(run, model.seed_) == pytest.approx(run.state.history[0]["validation_objective"], rel=1e-5)
    monkeypatch.undo()
    monkeypatch.setattr(start, "begin_as", lambda *given: False)
    own = VariationalAutoencoder(2, hidden=(16,), likelihood=likelihood, random_state=0)._begin(counted(likelihood))
    assert own.alike is None
    for name, value in own.state.composition.state_dict().items():
        torch.testing.assert_close(run.state.composition.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


class Watching(LinearPath):
    """A network that sees the rows before training."""

    def first_state(self, batch, composition):
        self.n_seen = len(batch)
        return {}


def test_networks_see_as_many_rows_at_a_start_from_the_baseline_as_at_others():
    rows = centred(300, 8).float().numpy()
    networks = [
        Autoencoder(2, encoder=Watching(MLP((16,))), max_epochs=0, init=init).fit(rows) for init in ("linear", "random")
    ]
    assert [model.composition_.encoder.n_seen for model in networks] == [300, 300]


def test_a_model_whose_terms_see_all_weights_has_an_objective_of_its_own():
    """The prior on weights counts those of the layers, which the linear baseline does not have."""
    model = Autoencoder(2, hidden=(16,), weight_prior=GaussianWeights(0.01), random_state=0)
    run = model._begin(centred(300, 8).float().numpy())
    assert run.alike is None
    assert evaluated(run, model.seed_) == pytest.approx(run.state.history[0]["validation_objective"], rel=1e-6)
    assert model.history_[0]["validation_objective"] > 1.01 * model.baseline_.history_[0]["validation_objective"]


@pytest.mark.parametrize("seed", range(4))
def test_the_step_is_the_best_of_all_lengths(seed, monkeypatch):
    """The search ends at the first length that is worse than the one before it."""
    model = VariationalAutoencoder(2, hidden=(), likelihood="bernoulli", max_epochs=0, validation_fraction=0.0)
    X, lengths = counted("bernoulli", seed), []
    monkeypatch.setattr(start, "backtrack", lambda *given: lengths.append(backtrack(*given)) or lengths[-1])
    composition = model.set_params(random_state=0).fit(X).composition_
    rows = Batch(torch.from_numpy(model.scaler_.transform(X)).float())
    affine, own = composition.decoder.affine.weight.detach().clone(), likelihood_of(composition, rows)
    others = [length / lengths[0] for length in STEPS if length != lengths[0]]
    assert all(likelihood_at(composition, rows, affine, factor) < own + 1e-4 for factor in others)


def likelihood_of(composition, rows):
    with torch.no_grad():
        return float(composition.reconstruct(rows.x).log_prob(composition.likelihood.target(rows.x)).sum(1).mean())


def likelihood_at(composition, rows, affine, factor):
    """The likelihood at the means of the codes with the decoder's weights times a factor, and the best bias."""
    with torch.no_grad():
        composition.decoder.affine.weight.copy_(factor * affine)
        bias = composition.decoder.output_bias
        output = composition.encode(rows.x).mean @ composition.decoder.affine.weight.T
        bias.copy_(composition.likelihood.expansion.intercept(rows, output, bias))
    return likelihood_of(composition, rows)


@pytest.mark.parametrize("seed", range(3))
def test_the_start_on_some_rows_has_nearly_the_bound_of_the_start_on_all(seed, monkeypatch):
    """An approximation of the objective needs no more rows; PCA and factor analysis, which are optima, have all."""
    draw = np.random.default_rng(seed)
    codes = draw.normal(size=(6000, 3))
    X = (draw.random((6000, 40)) < 1 / (1 + np.exp(-codes @ draw.normal(size=(3, 40)) - draw.normal(size=40)))) * 1.0

    def begun(cells, likelihood):
        monkeypatch.setattr(data, "START_CELLS", cells)
        monkeypatch.setattr(data, "CALIBRATION_ROWS", 1024)
        options = {"prior": StandardNormalPrior(), "max_epochs": 0, "random_state": 0}
        return VariationalAutoencoder(3, hidden=(), likelihood=likelihood, **options).fit(X[:5000])

    few, every = (begun(cells, "bernoulli") for cells in (40 * 1500, 2**23))
    assert (few.composition_.encoder.affine.weight != every.composition_.encoder.affine.weight).any()
    of_few, of_every, of_none = (model.elbo(X[5000:], 8).mean() for model in (few, every, constant(X[:5000])))
    assert of_few > of_every - 0.1 * (of_every - of_none)  # eight seeds: .00 to .03 of the gain are lost
    exact = [begun(cells, "auto").composition_.encoder.affine.weight for cells in (40 * 1500, 2**23)]
    assert torch.equal(*exact)


def constant(X):
    """A model that knows the columns' means alone."""
    return VariationalAutoencoder(1, hidden=(), likelihood="bernoulli", max_epochs=0, beta=1e3, random_state=0).fit(X)


def test_signs_are_settled_by_the_largest_entry():
    directions = spectrum(Batch(centred(50, 8)), None, seed=0).directions
    peaks = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    assert (peaks > 0).all()


def test_the_smallest_number_of_components_that_keeps_a_share():
    rows = torch.eye(4, dtype=torch.float64) * torch.tensor([4.0, 3.0, 2.0, 1.0]).double().sqrt()
    found = spectrum(Batch(rows), None, seed=0)  # shares .4 .3 .2 .1
    assert [found.n_components_for(share) for share in (0.1, 0.4, 0.41, 0.7, 0.9, 0.91, 1.0)] == [1, 1, 2, 2, 3, 4, 4]
    assert spectrum(Batch(torch.zeros(3, 2)), None, seed=0).n_components_for(0.9) == 1


def test_a_closed_form_is_claimed_only_where_one_is_known():
    rows = torch.eye(2, dtype=torch.float64) * torch.tensor([4.0, 2.0]).double().sqrt()  # covariance diag(2, 1)
    ones = torch.ones(2)

    def kept(**filled):
        model = Composition(MLP(), MLP(), **filled)
        model.setup(2, 2, torch.Generator())
        start = linear_start(linear_problem(Batch(rows), spectrum(Batch(rows), 2, 0), model, Objective(), (ones, ones)))
        return None if start is None else (start.decoder @ start.encoder).diagonal()

    assert kept().tolist() == [1, 1]
    torch.testing.assert_close(kept(corruption=GaussianNoise(1.0)), torch.tensor([2 / 3, 1 / 2]).double())
    assert kept(prior=LaplacePrior()) is None
    assert kept(corruption=GaussianNoise(1.0), prior=LaplacePrior()) is None
    assert kept(corruption=GaussianNoise(1.0), weight_prior=GaussianWeights()) is None


class Pull(Penalty):
    """A penalty of a user's, without a closed form."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight

    def forward(self, trace, composition):
        return self.weight * (trace.z.norm(dim=-1) - 1).square()


ROWS = np.random.default_rng(0).normal(size=(120, 2)) @ np.random.default_rng(1).normal(size=(2, 6))
ROWS = ROWS + 0.2 * np.random.default_rng(2).normal(size=(120, 6))
NOW = {"max_epochs": 0, "random_state": 0, "hidden": (8,)}


def test_a_penalty_that_weighs_nothing_starts_at_pca():
    plain = Autoencoder(2, **NOW).fit(ROWS)
    assert plain.has_closed_form_
    for init in ("auto", "linear"):
        model = Autoencoder(2, penalties=[Pull(1e-9)], init=init, **NOW).fit(ROWS)
        assert (model.init_, model.has_closed_form_) == ("linear", False)
        assert model.best_objective_ == pytest.approx(plain.best_objective_, abs=1e-6)
        assert model.baseline_.best_objective_ == pytest.approx(plain.best_objective_, abs=1e-6)
        np.testing.assert_allclose(model.reconstruct(ROWS), plain.reconstruct(ROWS), atol=1e-5)


@pytest.mark.filterwarnings("ignore::eigencode.errors.ResultWarning")
@pytest.mark.parametrize(
    "filled",
    [
        {"likelihood": "laplace"},
        {"likelihood": "student_t"},
        {"prior": LaplacePrior(0.5)},
        {"corruption": GaussianNoise(0.3), "weight_prior": GaussianWeights(1.0)},
        {"tied": True, "corruption": GaussianNoise(0.3), "penalties": [Contractive(0.1)]},
        {"tied": True, "likelihood": "laplace"},
        {"code": GaussianCode(), "prior": StandardNormalPrior(), "likelihood": "laplace"},
        {"code": GaussianCode(n_draws=2), "prior": StandardNormalPrior(), "penalties": [Pull(0.1)]},
        {"code": GaussianCode()},
        {"ordered": True, "corruption": GaussianNoise(0.3)},
        {"penalties": [Pull(30.0)]},
    ],
    ids=str,
)
def test_every_composition_starts_at_a_linear_map_no_worse_than_at_random(filled):
    model = Autoencoder(2, **filled, **NOW).fit(ROWS)
    plain = Autoencoder(2, **filled, **NOW, init="random").fit(ROWS)
    assert (model.init_, model.has_closed_form_) == ("linear", False)
    assert model.baseline_.init_ == "linear"
    assert model.best_objective_ <= plain.best_objective_
    # The model has layers beside its linear path, which a prior on weights charges for.
    assert model.baseline_.best_objective_ <= model.best_objective_ + 1e-4 * abs(model.best_objective_)


def test_the_exact_solver_refuses_what_has_no_closed_form():
    with pytest.raises(OptionError, match="known in closed form"):
        LinearAutoencoder(2, penalties=[Pull(1e-9)]).fit(ROWS)


class Inner(Penalty):
    """A penalty that only a user's own encoder can be asked about."""

    def forward(self, trace, composition):
        return composition.encoder.module[0].weight.square().sum()


@pytest.mark.draws_globally  # torch's own layer
def test_a_penalty_on_networks_of_ones_own_has_no_linear_baseline():
    encoder = torch.nn.Sequential(torch.nn.Linear(6, 2))
    options = {"max_epochs": 1, "random_state": 0, "optimizer": "adam"}
    model = Autoencoder(2, encoder=encoder, penalties=[Inner()], **options).fit(ROWS)
    assert (model.init_, model.baseline_) == ("random", None)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.98])
def test_shares_and_rare_pixels_start_no_worse_than_at_random(share):
    rng = np.random.default_rng(0)
    logit = np.log(share / (1 - share)) + 2 * rng.normal(size=(300, 1)) * rng.normal(size=(1, 12))
    p = 1 / (1 + np.exp(-logit))
    for X in (p, (rng.random(p.shape) < p).astype(float)):
        model = Autoencoder(2, likelihood="bernoulli", **NOW).fit(X)
        plain = Autoencoder(2, likelihood="bernoulli", **NOW, init="random").fit(X)
        assert model.init_ == "linear"
        assert model.score(X) >= plain.score(X)
