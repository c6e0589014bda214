"""Likelihoods: each against scipy's density, its draws' moments, its best constant, and whole fits with it."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.optimize
import scipy.stats
import torch

import eigencode
from eigencode import Autoencoder, Composition
from eigencode.batch import Batch
from eigencode.data.sources import ArraySource
from eigencode.data.support import ColumnSupport, check_support
from eigencode.errors import DataError, OptionError
from eigencode.fitting.terms import LIKELIHOODS
from eigencode.options import LikelihoodName
from eigencode.parts import (
    MLP,
    ActivatedLikelihood,
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    LaplaceLikelihood,
    NegativeBinomial,
    NegativeBinomialLikelihood,
    Poisson,
    PoissonLikelihood,
    StudentTLikelihood,
)
from eigencode.parts.base import Sizes, Units
from eigencode.parts.distributions import Gaussian

D = 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def ready(part, spread=None, dtype=torch.float64):
    """A part with its tensors made, and its learned spread set where it has one."""
    part.setup(Sizes(D, 2))
    part.to(dtype)
    if spread is not None:
        with torch.no_grad():
            part.log_excess.copy_((torch.tensor(spread, dtype=dtype) - part.floor).log())
    return part


SPREADS = np.array([0.05, 0.4, 1.0, 7.0])
# Each with scipy's distribution of the same outputs.
PEERS = [
    (ready(GaussianLikelihood(0.3)), lambda o: scipy.stats.norm(o, math.sqrt(0.3))),
    (ready(GaussianLikelihood("learned"), [0.2]), lambda o: scipy.stats.norm(o, math.sqrt(0.2))),
    (ready(GaussianLikelihood("per_feature"), SPREADS), lambda o: scipy.stats.norm(o, np.sqrt(SPREADS))),
    (ready(LaplaceLikelihood()), lambda o: scipy.stats.laplace(o, 1)),
    (ready(LaplaceLikelihood("per_feature"), SPREADS), lambda o: scipy.stats.laplace(o, SPREADS)),
    (ready(StudentTLikelihood(5.0, 0.7)), lambda o: scipy.stats.t(5.0, o, 0.7)),
    (ready(StudentTLikelihood(6.5, "per_feature"), SPREADS), lambda o: scipy.stats.t(6.5, o, SPREADS)),
    (ready(BernoulliLikelihood()), lambda o: scipy.stats.bernoulli(1 / (1 + np.exp(-o)))),
    (ready(PoissonLikelihood()), lambda o: scipy.stats.poisson(np.exp(o))),
    (ready(NegativeBinomialLikelihood(0.3)), lambda o: scipy.stats.nbinom(1 / 0.3, 1 / (1 + 0.3 * np.exp(o)))),
    (
        ready(NegativeBinomialLikelihood(), SPREADS),
        lambda o: scipy.stats.nbinom(1 / SPREADS, 1 / (1 + SPREADS * np.exp(o))),
    ),
]
NAMES = [repr(part) for part, _ in PEERS]


def of_peer(peer, x):
    return (peer.logpmf if hasattr(peer.dist, "logpmf") else peer.logpdf)(x)


@pytest.mark.parametrize(("part", "peer"), PEERS, ids=NAMES)
def test_densities_are_scipys(part, peer):
    rng = np.random.default_rng(0)
    for size in (0.5, 2.0, 4.0):
        output = rng.normal(scale=size, size=(50, D))
        p = part(torch.from_numpy(output))
        x = peer(output).rvs(random_state=rng).astype(float)
        np.testing.assert_allclose(p.log_prob(torch.from_numpy(x)).detach(), of_peer(peer(output), x), 1e-9, 1e-10)
        np.testing.assert_allclose(p.mean.detach(), peer(output).mean(), 1e-10, 1e-10)


@pytest.mark.parametrize(("part", "peer"), PEERS, ids=NAMES)
def test_gradients_are_numerical_ones(part, peer):
    output = torch.randn(5, D, dtype=torch.float64, generator=generator())
    x = part(output).sample(generator(1)).detach()
    parameters = dict(part.named_parameters())

    def log_prob(output, *values):
        own = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(part, own, (output,)).log_prob(x)

    values = [value.detach().clone().requires_grad_() for value in parameters.values()]
    assert torch.autograd.gradcheck(log_prob, (output.requires_grad_(), *values))


@pytest.mark.parametrize(("part", "peer"), PEERS, ids=NAMES)
def test_draws_have_the_distributions_moments(part, peer):
    n = 40_000
    output = np.array([[-1.0, 0.3, 1.0, 0.0]])
    draws = part(torch.from_numpy(output).expand(n, -1)).sample(generator(1)).detach().numpy()
    mean, variance = (value[0] for value in peer(output).stats("mv"))
    assert (np.abs(draws.mean(0) - mean) < 4 * np.sqrt(variance / n)).all()
    squares = (draws - mean) ** 2
    assert (np.abs(squares.mean(0) - variance) < 4 * squares.std(0) / math.sqrt(n) + 1e-12).all()


@pytest.mark.parametrize(("part", "peer"), PEERS, ids=NAMES)
def test_draws_have_the_distributions_shape(part, peer):
    """Beyond two moments: the share of draws up to each of several values."""
    n = 40_000
    output = np.array([[-1.0, 0.3, 1.0, 0.0]])
    draws = part(torch.from_numpy(output).expand(n, -1)).sample(generator(2)).detach().numpy()
    for level in (0.02, 0.3, 0.7, 0.99):
        value = peer(output).ppf(level)
        expected = peer(output).cdf(value)[0]
        error = np.sqrt(expected * (1 - expected) / n) + 1e-9
        assert (np.abs((draws <= value).mean(0) - expected) < 4.5 * error).all()


@pytest.mark.parametrize("dispersion", [1e-6, 1e-4, 1 / 16.1, 1 / 15.9, 1.0, 100.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_negative_binomial_is_its_product_for_any_dispersion(dispersion, dtype, tolerance):
    counts, means = np.meshgrid([0, 1, 3, 40, 500], [1e-3, 1.0, 30.0, 700.0])
    expected = [
        math.fsum(math.log1p(dispersion * i) for i in range(x))
        - math.lgamma(x + 1)
        + x * math.log(m)
        - (x + 1 / dispersion) * math.log1p(dispersion * m)
        for x, m in zip(counts.ravel(), means.ravel(), strict=True)
    ]
    log_mean, x = torch.tensor(means, dtype=dtype).log(), torch.tensor(counts, dtype=dtype)
    found = NegativeBinomial(log_mean, torch.tensor(dispersion, dtype=dtype)).log_prob(x)
    np.testing.assert_allclose(found.ravel(), expected, rtol=tolerance, atol=tolerance)


def test_negative_binomial_without_dispersion_is_the_poisson():
    log_mean, x = torch.tensor([[0.5, 2.0, 5.0]]).double(), torch.tensor([[0.0, 9.0, 140.0]]).double()
    nearly = NegativeBinomial(log_mean, torch.tensor(1e-12, dtype=torch.float64)).log_prob(x)
    torch.testing.assert_close(nearly, Poisson(log_mean).log_prob(x), rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_nothing_overflows_in_float32(name):
    part = ready(LIKELIHOODS[name](), dtype=torch.float32)
    output = torch.tensor([[-1e4, -100.0, 100.0, 1e4]]).requires_grad_()
    for x in (torch.zeros(1, D), torch.ones(1, D)):
        cells = part(output).log_prob(x)
        (gradient,) = torch.autograd.grad(cells.sum(), output)
        assert cells.isfinite().all()
        assert gradient.isfinite().all()
    assert part(output).mean.isfinite().all()


def test_a_count_s_mean_is_the_exponential_up_to_a_bound_and_then_a_line():
    output = torch.tensor([[-2.0, 29.0, 30.0, 32.0]], dtype=torch.float64)
    expected = [math.exp(-2), math.exp(29), math.exp(30), 3 * math.exp(30)]
    np.testing.assert_allclose(ready(PoissonLikelihood())(output).mean[0], expected)


ALL = [*(part for part, _ in PEERS), ready(CategoricalLikelihood()), ready(ActivatedLikelihood("tanh"))]


@pytest.mark.parametrize("part", ALL, ids=repr)
def test_any_number_of_axes_may_come_before_rows_and_columns(part):
    """Rows of shape (n, d) beside outputs of shape (m, n, d) are asked about each of the m."""
    outputs = torch.randn(3, 5, D, dtype=torch.float64, generator=generator())
    x = part(outputs[0]).sample(generator(1)).detach()
    p, each = part(outputs), [part(output) for output in outputs]
    torch.testing.assert_close(p.log_prob(x), torch.stack([one.log_prob(x) for one in each]))
    torch.testing.assert_close(p.mean, torch.stack([one.mean for one in each]))
    assert p.sample(generator(2)).shape == outputs.shape
    torch.testing.assert_close(part.target(x.expand(3, 5, D)), part.target(x).expand(3, 5, D))


def test_logarithms_may_be_taken_of_some_columns_only():
    counts = torch.tensor([[0.0, 3.0, 7.0], [2.0, 0.0, 1000.0]], dtype=torch.float64)
    units = Units(torch.tensor([0.5, 1.0, 2.0]), torch.tensor([2.0, 1.0, 0.7]), torch.tensor([True, False, True]))
    logs = torch.stack([(counts[:, 0] + 0.5).log(), counts[:, 1], (counts[:, 2] + 0.5).log()], dim=1)
    scaled = (logs - units.center) / units.divisor
    part = PoissonLikelihood()
    part.setup(Sizes(3, 2, units=units))
    torch.testing.assert_close(part.target(scaled), counts, rtol=0, atol=0)
    torch.testing.assert_close(part.scaled(part(counts.log()).mean), scaled, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(units.scaled(units.in_data_units(scaled)), scaled)


@pytest.mark.parametrize(
    ("part", "fill"), [(GaussianLikelihood(), 0.0), (BernoulliLikelihood(), 0.5), (PoissonLikelihood(), 0.0)], ids=repr
)
def test_a_hidden_cell_of_a_target_is_within_the_support(part, fill):
    observed = torch.tensor([[True, False, True, False]])
    part.setup(Sizes(D, 2, units=Units(torch.full((D,), 1.0), torch.full((D,), 1.0))))
    found = part.target(torch.zeros(1, D), observed)
    known = 1.0 if part.in_data_units else 0.0
    assert found.tolist() == [[known, fill, known, fill]]


# -- starts and floors

SKEWED = torch.from_numpy(np.random.default_rng(3).gamma(0.7, size=(301, D)) * [1, 2, 3, 4])


@pytest.mark.parametrize("spread", ["fixed", "learned", "per_feature"])
@pytest.mark.parametrize("kind", [GaussianLikelihood, LaplaceLikelihood, StudentTLikelihood])
def test_the_start_on_the_line_is_the_optimum_that_scipy_finds(kind, spread):
    part = kind(**{kind.spread_name: 0.8 if spread == "fixed" else spread})
    ready(part)
    constant = part.expansion.constant(Batch(SKEWED))
    part.expansion.calibrate(Batch(SKEWED), constant.expand(len(SKEWED), -1))
    width = {"fixed": 0, "learned": 1, "per_feature": D}[spread]

    def loss(v):
        own = {"log_excess": torch.from_numpy(v[D:])} if width else {}
        p = torch.func.functional_call(part, own, (torch.from_numpy(v[:D]).expand(len(SKEWED), -1),))
        return -float(p.log_prob(SKEWED).mean().detach())

    ours = np.concatenate([constant.numpy(), part.log_excess.detach().numpy() if width else []])
    found = scipy.optimize.minimize(loss, ours + 0.05, method="Nelder-Mead", options={"maxfev": 4000, "fatol": 1e-9})
    assert loss(ours) <= found.fun + 1e-7


def test_the_start_of_counts_and_shares_is_the_link_of_the_mean():
    rng = np.random.default_rng(0)
    units = Units(torch.tensor([2.0, 0.0, 1.0, 5.0]), torch.tensor([3.0, 1.0, 2.0, 0.5]))
    counts = torch.from_numpy(rng.poisson(3.0, size=(200, D)).astype(float))
    shares = torch.from_numpy(rng.random((200, D)))
    for part, data, link in [
        (PoissonLikelihood(), counts, torch.log),
        (NegativeBinomialLikelihood(), counts, torch.log),
        (BernoulliLikelihood(), shares, torch.logit),
    ]:
        part.setup(Sizes(D, 2, units=units))
        part.double()
        torch.testing.assert_close(
            part.expansion.constant(Batch((data - units.center) / units.divisor)), link(data.mean(0))
        )


def test_the_dispersion_is_calibrated_to_the_counts():
    rng = np.random.default_rng(0)
    true = np.array([0.01, 0.3, 1.0, 4.0])
    counts = torch.from_numpy(rng.negative_binomial(1 / true, 1 / (1 + 20 * true), size=(20_000, D)).astype(float))
    part = ready(NegativeBinomialLikelihood())
    part.expansion.calibrate(Batch(counts), counts.mean(0).log().expand(len(counts), -1))
    np.testing.assert_allclose(part.current_spread(counts).detach(), true, rtol=0.15)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "student_t"])
@pytest.mark.parametrize("spread", ["learned", "per_feature"])
def test_a_column_rebuilt_to_the_last_bit_stays_finite(name, spread):
    part = LIKELIHOODS[name]()
    ready(part.set_params(**{part.spread_name: spread}), dtype=torch.float32)
    x = torch.randn(50, D, generator=generator())
    part.expansion.calibrate(Batch(x), x)
    with torch.no_grad():
        part.log_excess.sub_(100.0)  # however far training goes on
    cells = part(x).log_prob(x)
    assert cells.isfinite().all()
    assert cells.max() < -math.log(part.floor)
    cells.sum().backward()
    assert part.log_excess.grad.isfinite().all()


def test_constant_columns_of_counts_and_shares_start_finite():
    for part, value in [(PoissonLikelihood(), 0.0), (BernoulliLikelihood(), 0.0), (BernoulliLikelihood(), 1.0)]:
        constant = ready(part, dtype=torch.float32).expansion.constant(Batch(torch.full((9, D), value)))
        assert constant.isfinite().all()
        assert part(constant.expand(1, -1)).log_prob(torch.full((1, D), value)).min() > -1e-5


def test_scaling_s_rounding_is_taken_off_the_targets():
    counts = np.random.default_rng(0).poisson(10_000, size=(200, D))
    center, divisor = counts.mean(0), counts.std(0)
    scaled = torch.from_numpy(((counts - center) / divisor).astype(np.float32))
    part = PoissonLikelihood()
    part.setup(Sizes(D, 2, units=Units(torch.from_numpy(center), torch.from_numpy(divisor))))
    assert (part.float().target(scaled).numpy() == counts).all()
    part = BernoulliLikelihood()
    part.setup(Sizes(D, 2, units=Units(torch.full((D,), 0.3), torch.full((D,), 0.7))))
    edge = part.target(torch.full((1, D), 0.7 / 0.7 + 1e-6))
    assert (edge == 1).all()


@pytest.mark.parametrize(
    "part",
    [
        GaussianLikelihood("learnt"),
        GaussianLikelihood(0.0),
        GaussianLikelihood(None),
        LaplaceLikelihood(-1.0),
        StudentTLikelihood(scale=float("nan")),
        StudentTLikelihood(degrees=0.0),
        StudentTLikelihood(degrees=math.inf),
        NegativeBinomialLikelihood("feature"),
    ],
    ids=repr,
)
def test_spreads_outside_their_domain_are_refused(part):
    with pytest.raises(OptionError, match=f"parameter of {type(part).__name__} must be"):
        part.setup(Sizes(D, 2))
    with pytest.raises(OptionError):
        GaussianLikelihood("per-feature").setup(Sizes(D, 2))


def test_a_misspelt_spread_is_put_right():
    with pytest.raises(OptionError, match="Did you mean 'per_feature'"):
        GaussianLikelihood("per_features").setup(Sizes(D, 2))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_network_is_fast_and_the_likelihood_exact(name):
    model = Composition(MLP((8,)), MLP((8,)), likelihood=LIKELIHOODS[name]())
    model.setup(D, 2, generator())
    x = torch.randn(6, D, generator=generator(1))
    with torch.autocast("cpu", torch.bfloat16):
        trace = model(x)
        assert model.decoder(trace.z).dtype == torch.bfloat16
    assert trace.p.mean.dtype == torch.float32
    assert trace.p.log_prob(trace.target.abs()).dtype == torch.float32


# -- support


def test_each_column_s_support_is_found_chunk_by_chunk():
    x = np.zeros((20_000, 5))
    x[19_999] = [0.5, 3, -1, 1.5, np.nan]
    x[19_998, 2] = -2
    found = ColumnSupport.of(ArraySource(x))
    assert found.within("real").all()
    assert found.within("unit interval").tolist() == [True, False, False, False, True]
    assert found.within("counts").tolist() == [False, True, False, False, True]
    assert found.outside["counts"][[0, 2, 3]].tolist() == [0.5, -2, 1.5]
    for other in (x[:, :4].astype(np.float32), (x[:, :2] > 0), np.arange(6, dtype=np.uint8).reshape(3, 2)):
        assert ColumnSupport.of(ArraySource(other)).within("counts").shape == (other.shape[1],)
    check_support(ArraySource(x > 0), "unit interval")


@pytest.mark.versions
def test_support_errors_name_the_column_and_a_remedy():
    frame = pd.DataFrame({"age": [1.0, 2.0, 3.0], "balance": [0.0, -2.5, 1.0], "rate": [0.5, -1.0, 0.2]})
    message = (
        r"PoissonLikelihood needs counts \(0, 1, 2, \.\.\.\), but not all of column 'balance' are \(nor those of 1 "
        r"more\)\. Got -2\.5 there\. Use likelihood='gaussian'\."
    )
    with pytest.raises(DataError, match=message):
        Autoencoder(1, likelihood="poisson").fit(frame)
    with pytest.raises(DataError, match="not all of column 1 are.*likelihood='gaussian'"):
        Autoencoder(1, likelihood=PoissonLikelihood()).fit(frame.to_numpy())
    counts = np.array([[0, 1], [2, 5], [1, 1]])
    with pytest.raises(
        DataError, match="needs numbers from 0 to 1, but not all of column 0.*Got 2 .*likelihood='poisson'"
    ):
        Autoencoder(1, likelihood="bernoulli").fit(counts)
    with pytest.raises(DataError, match="Got 0.2 there.*likelihood='bernoulli'"):
        Autoencoder(1, likelihood="negative_binomial").fit(counts / 10)


# -- whole fits


def latent(n_features=8, n_rows=400):
    rng = np.random.default_rng(5)
    return rng, 0.8 * rng.normal(size=(n_rows, 2)) @ rng.normal(size=(2, n_features))


def rows_for(name):
    rng, eta = latent()
    if name == "bernoulli":
        return (rng.random(eta.shape) < 1 / (1 + np.exp(-2 * eta))).astype(float)
    if name == "poisson":
        return rng.poisson(np.exp(1 + eta)).astype(float)
    if name == "negative_binomial":
        return rng.poisson(np.exp(1 + eta) * rng.gamma(2, 0.5, size=eta.shape)).astype(float)
    return eta + 0.2 * rng.standard_t(3, size=eta.shape)


@pytest.fixture(scope="module")
def fits():
    common = {"n_components": 2, "max_epochs": 40, "random_state": 0, "hidden": (16,), "learning_rate": 1e-2}
    return {name: Autoencoder(likelihood=name, **common).fit(rows_for(name)) for name in LIKELIHOODS}


def test_the_knob_names_every_likelihood():
    assert set(LikelihoodName.__args__) == set(LIKELIHOODS)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_each_likelihood_learns_more_than_its_constant(fits, name):
    X, model = rows_for(name), fits[name]
    kept = min(row["validation_objective"] for row in model.history_)
    likelihood = model.composition_.likelihood
    scaled = torch.from_numpy(model.scaler_.transform(X)).float()
    output = likelihood.expansion.constant(Batch(scaled)).expand(len(X), -1)
    best = type(likelihood)(**likelihood.get_params())
    best.setup(Sizes(X.shape[1], 2, units=Units.of(model.scaler_)))
    best.float()
    best.expansion.calibrate(Batch(scaled), output)
    constant = -best(output).log_prob(best.target(scaled)).sum(1).mean().item()
    assert kept < constant - 0.5
    assert kept <= model.history_[0]["validation_objective"]
    jacobian = 0.0 if likelihood.in_data_units else model.scaler_.log_jacobian.sum()
    assert model.score(X) > -constant + jacobian + 0.5


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_saved_and_loaded_a_model_answers_the_same(fits, name, tmp_path):
    X, model = rows_for(name), fits[name]
    model.save(tmp_path / "model.safetensors")
    again = eigencode.load(tmp_path / "model.safetensors")
    for answer in ("transform", "reconstruct", "score_samples"):
        np.testing.assert_array_equal(getattr(again, answer)(X), getattr(model, answer)(X))


@pytest.mark.parametrize("name", ["gaussian", "laplace", "student_t", "negative_binomial"])
def test_learned_spreads_are_saved(name, tmp_path):
    X = rows_for(name)
    likelihood = LIKELIHOODS[name]()
    likelihood.set_params(**{likelihood.spread_name: "per_feature"})
    model = Autoencoder(2, likelihood=likelihood, hidden=(4,), max_epochs=2, random_state=0).fit(X)
    model.save(tmp_path / "model.safetensors")
    again = eigencode.load(tmp_path / "model.safetensors")
    assert repr(again.likelihood) == repr(likelihood)
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    assert list(likelihood.parameters()) == []


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_reconstruct_is_the_mean_in_the_data_s_units(fits, name):
    X, model = rows_for(name), fits[name]
    found = model.reconstruct(X)
    scaled = torch.from_numpy(model.scaler_.transform(X))
    composition = Autoencoder._model_in(model, np.dtype(np.float64))
    with torch.no_grad():
        p = composition.reconstruct(scaled)
    expected = (
        p.mean.numpy() if composition.likelihood.in_data_units else model.scaler_.inverse_transform(p.mean.numpy())
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    if name == "bernoulli":
        assert ((found >= 0) & (found <= 1)).all()
    # Counts by their logarithms: the mean of a heavy tail is nothing to measure by.
    seen, rebuilt = (np.log1p(X), np.log1p(found)) if composition.likelihood.support == "counts" else (X, found)
    assert ((rebuilt - seen) ** 2).mean() < seen.var()
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), found, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "negative_binomial"])
def test_scores_of_counts_and_shares_are_in_the_data_s_units(fits, name):
    """The log-probability that scipy gives the rows under the means reconstructed, with no Jacobian in it."""
    X, model = rows_for(name), fits[name]
    mean = model.reconstruct(X)
    peer = {"bernoulli": lambda: scipy.stats.bernoulli(mean), "poisson": lambda: scipy.stats.poisson(mean)}
    if name == "negative_binomial":
        dispersion = model.composition_.likelihood.current_spread(torch.empty(0)).detach().double().numpy()
        peer[name] = lambda: scipy.stats.nbinom(1 / dispersion, 1 / (1 + dispersion * mean))
    np.testing.assert_allclose(model.score_samples(X), peer[name]().logpmf(X).sum(1), rtol=1e-5)
    with pytest.raises(DataError, match="but not all of column 0 are"):
        model.score_samples(X - 0.5)
    assert model.transform(X - 0.5).shape == (len(X), 2)


@pytest.mark.parametrize("name", ["gaussian", "laplace", "student_t"])
def test_scores_of_measures_gain_the_logarithm_of_a_change_of_units(name):
    X, factors = rows_for(name)[:, :4], np.array([8.0, 0.25, 1.0, 1024.0])
    options = {"likelihood": name, "scale": "standard", "hidden": (4,), "max_epochs": 3, "random_state": 0}
    first, second = (Autoencoder(2, **options).fit(rows) for rows in (X, X * factors))
    difference = first.score_samples(X) - second.score_samples(X * factors)
    np.testing.assert_allclose(difference, np.log(factors).sum(), rtol=1e-9)


def test_a_learned_variance_finds_the_noise(fits):
    rng, eta = latent(n_rows=2000)
    X = eta + 0.3 * rng.normal(size=eta.shape)
    options = {"n_components": 2, "hidden": (), "max_epochs": 30, "random_state": 0, "scale": "none"}
    model = Autoencoder(likelihood=GaussianLikelihood("learned"), **options).fit(X)
    assert model.init_ == "linear"
    variance = model.composition_.likelihood.current_spread(torch.empty(0)).item()
    # Probabilistic PCA's maximum with the codes free: the discarded eigenvalues over all 8 columns, 6 / 8 of the noise.
    assert variance == pytest.approx(0.09 * 6 / 8, rel=0.05)
    fixed = Autoencoder(**options).fit(X)
    assert model.score(X) > fixed.score(X) + 1


def outlying(seed):
    """Rows on a plane with a little noise, the same with 2 % of the cells far off, and which rows have none."""
    rng = np.random.default_rng(seed)
    _, eta = latent(n_rows=500)
    rows = eta + 0.1 * rng.normal(size=eta.shape)
    wild = rng.random(rows.shape) < 0.02
    return rows, rows + 40 * wild * rng.choice([-1, 1], rows.shape), ~wild.any(1)


def test_student_t_lets_outliers_go():
    """The squared error of clean rows beside a Gaussian's: .01 to .28 of it, by the seed (eight of them)."""
    options = {"n_components": 2, "hidden": (), "max_epochs": 150, "learning_rate": 1e-2, "scale": "none"}
    ratios = []
    for seed in range(3):
        rows, dirty, is_clean = outlying(seed)
        errors = [
            np.median(model.fit(dirty).reconstruction_error(rows[is_clean]))
            for model in (
                Autoencoder(likelihood=kind, random_state=seed, **options) for kind in ("student_t", "gaussian")
            )
        ]
        ratios.append(errors[0] / errors[1])
    assert np.median(ratios) < 0.4


def test_the_start_of_heavy_tails_follows_the_clean_cells():
    """Few directions of the plane are lost, where PCA of all cells follows the outliers."""
    for seed in range(3):
        rows, dirty, _ = outlying(seed)
        model = Autoencoder(2, likelihood="student_t", hidden=(), max_epochs=0, scale="none").fit(dirty)
        plane = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:2]
        found = np.linalg.qr(model.composition_.decoder.affine.weight.detach().numpy())[0]
        assert np.linalg.svd(plane @ found)[1].min() > 0.9  # the cosine of the larger angle between the planes


def test_training_in_bfloat16_learns_too():
    X = rows_for("poisson")
    gains = []
    for seed in range(3):  # in one of them ten epochs may find nothing better than the start
        options = {"hidden": (16,), "max_epochs": 10, "precision": "bfloat16", "random_state": seed}
        objectives = [
            row["validation_objective"] for row in Autoencoder(2, likelihood="poisson", **options).fit(X).history_
        ]
        gains.append(objectives[0] - min(objectives))
    assert np.median(gains) > 0


def test_counts_too_large_for_float32_keep_their_last_digit():
    part = PoissonLikelihood()
    counts = torch.tensor([[2.0**24 + 1], [2.0**24 + 3]], dtype=torch.float64)
    center, divisor = counts.mean(0), counts.std(0, correction=0)
    part.setup(Sizes(1, 1, units=Units(center, divisor)))
    part.float().double()  # as a model kept in float32 is asked in float64
    torch.testing.assert_close(part.target((counts - center) / divisor), counts, rtol=0, atol=0)


def test_rows_have_the_sum_over_their_cells_and_its_gradient():
    source = torch.Generator().manual_seed(0)
    x, output = torch.randn(2, 4, 3, dtype=torch.float64, generator=source)
    for variance in (0.5, 2.0):
        p = GaussianLikelihood(variance)(output.requires_grad_())
        sums = p.row_log_prob(x), p.log_prob(x).sum(-1)
        torch.testing.assert_close(*sums, rtol=1e-12, atol=0)
        torch.testing.assert_close(*(torch.autograd.grad(one.sum(), output)[0] for one in sums), rtol=1e-12, atol=0)


def test_a_distribution_with_cells_of_its_own_does_not_inherit_the_sum_of_others():
    class Steeper(Gaussian):
        def log_prob(self, x):
            return 2 * Gaussian.log_prob(self, x)

    class Twice:
        log_prob = Steeper.log_prob

    class Mixed(Twice, Gaussian):
        pass

    x = torch.ones(2, 3)
    wanted = 2 * Gaussian(0 * x, 0.5).log_prob(x).sum(-1)
    assert torch.equal(Mixed(0 * x, 0.5).row_log_prob(x), wanted)
    assert torch.equal(Steeper(0 * x, 0.5).row_log_prob(x), wanted)
