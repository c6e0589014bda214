"""The variational autoencoder against probabilistic PCA, Monte Carlo and literal formulas."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch
from sklearn.base import clone
from sklearn.datasets import load_wine, make_moons
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

import eigencode
from eigencode import Autoencoder, Composition, Noise, Objective, VariationalAutoencoder
from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.fitting import baseline
from eigencode.model import factor_analysis, initialization, pca
from eigencode.parts import (
    MLP,
    BernoulliLikelihood,
    GaussianCode,
    GaussianLikelihood,
    GaussianNoise,
    LaplaceLikelihood,
    LaplacePrior,
    LinearPath,
    MixturePrior,
    Sizes,
    StandardNormalPrior,
    StudentTLikelihood,
)
from eigencode.testing import check_code
from eigencode.training.state import FlatParameters
from eigencode.training.step_factors import step_factors

pytestmark = pytest.mark.slow

EXACT = {
    "hidden": (),
    "max_epochs": 0,
    "precision": "float64",
    "scale": "none",
    "prior": StandardNormalPrior(),
    "random_state": 0,
}
K = 4


@pytest.fixture(scope="module")
def rows(cancer):
    X = cancer[:, :10]
    return (X - X.mean(0)) / X.std(0)


def test_rows_of_the_last_layers_step_in_units_of_noise_and_posterior():
    """At most 1: a column has unit variance, and a code its prior's."""
    model = Composition(LinearPath(MLP((4,))), MLP((4,)), GaussianCode(), GaussianLikelihood("per_feature"))
    model.setup(3, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.likelihood.log_excess.copy_(torch.tensor([1e-4, 0.25, 9.0]).log())
        model.encoder.affine.bias.copy_(torch.tensor([5.0, 5.0, math.log(0.01), math.log(4)]))
    found = FlatParameters(model)
    found.vector.data.copy_(step_factors(model))
    noise, posterior = torch.tensor([0.01, 0.5, 1.0]), torch.tensor([0.1, 1.0, 1.0, 1.0])
    expected = {
        "encoder.linear.weight": posterior[:, None],
        "encoder.linear.bias": posterior,
        "encoder.network.layers.2.weight": posterior[:, None],
        "decoder.layers.2.weight": noise[:, None],
        "decoder.layers.2.bias": noise,
    }
    for name, parameter in model.named_parameters():
        wanted = expected.get(name, torch.ones(1)).expand_as(parameter)
        torch.testing.assert_close(parameter.detach(), wanted, rtol=0, atol=0.005)


def test_a_point_code_and_a_fixed_variance_have_the_same_step_for_all_weights():
    for code, likelihood in ((None, GaussianLikelihood("per_feature")), (GaussianCode(), GaussianLikelihood())):
        model = Composition(MLP(), MLP(), code, likelihood)
        model.setup(3, 2, torch.Generator().manual_seed(0))
        assert step_factors(model) is None


@pytest.mark.parametrize("seed", range(3))
def test_training_does_not_diverge_on_columns_that_are_nearly_functions_of_others(cancer, seed):
    """The noise of radius and perimeter has a deviation of .01 here; with one step size for all weights it diverged."""
    model = VariationalAutoencoder(max_epochs=4, random_state=seed).fit(cancer)
    assert not [note for note in model.notes_ if "diverged" in note]


@pytest.fixture(scope="module")
def eigenvalues(rows):
    return np.linalg.eigvalsh(rows.T @ rows / len(rows))[::-1]


@pytest.fixture(scope="module")
def linear(rows):
    return VariationalAutoencoder(K, likelihood=GaussianLikelihood("learned"), **EXACT).fit(rows)


@pytest.fixture(scope="module")
def trained(rows):
    return VariationalAutoencoder(2, hidden=(16,), max_epochs=40, random_state=0).fit(rows)


# -- probabilistic PCA


def test_the_linear_model_is_probabilistic_pca(linear, rows, eigenvalues):
    (n, d), kept = rows.shape, eigenvalues[:K]
    s2 = eigenvalues[K:].mean()
    exact = -0.5 * (d * math.log(2 * math.pi) + np.log(kept).sum() + (d - K) * math.log(s2) + d)
    assert linear.log_likelihood(rows, 1).mean() == pytest.approx(exact, abs=1e-8)
    assert linear.score(rows) == pytest.approx(exact, abs=1e-8)
    # scikit-learn divides by n - 1.
    assert PCA(K).fit(rows).score(rows) == pytest.approx(exact, abs=1.1 * d / (4 * n**2))
    W = linear.composition_.decoder.affine.weight.detach().numpy()
    np.testing.assert_allclose(np.linalg.svd(W, compute_uv=False) ** 2, kept - s2, rtol=1e-8)
    precision = W.T @ W + s2 * np.eye(K)
    mean, deviation = linear.posterior(rows)
    np.testing.assert_allclose(mean, rows @ W @ np.linalg.inv(precision), atol=1e-8)
    np.testing.assert_allclose(deviation**2, np.tile(np.diag(s2 * np.linalg.inv(precision)), (n, 1)), rtol=1e-8)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("variance", [0.3, 1.2, "learned"])
def test_the_start_is_a_stationary_point_with_the_active_units_the_formula_counts(rows, eigenvalues, variance, beta):
    model = VariationalAutoencoder(6, likelihood=GaussianLikelihood(variance), beta=beta, **EXACT).fit(rows)
    composition = model.composition_
    s2 = float(composition.likelihood.current_spread(torch.zeros(1, dtype=torch.float64)).detach())
    weights = composition.decoder.affine.weight.detach().numpy()
    expected = np.clip(eigenvalues[:6] - beta * s2, 0, None)
    np.testing.assert_allclose(np.linalg.svd(weights, compute_uv=False) ** 2, expected, atol=1e-8)
    assert model.active_units(rows, 1e-6).sum() == (eigenvalues[:6] > beta * s2).sum()
    # Cubature points make every expectation exact, so that the gradient of the whole objective must vanish.
    points = math.sqrt(6) * torch.cat([torch.eye(6), -torch.eye(6)]).double()
    x = torch.from_numpy(rows)
    losses = [model.objective_(composition, composition(x, Noise(code=point.expand(len(x), 6)))) for point in points]
    torch.stack(losses).mean().backward()
    gradients = torch.cat([p.grad.reshape(-1) for p in composition.parameters()])
    assert gradients.abs().max() < 1e-8


def test_collapse_is_an_integer(rows, eigenvalues):
    for variance in (0.05, 0.5, 2.0):
        model = VariationalAutoencoder(8, likelihood=GaussianLikelihood(variance), **EXACT).fit(rows)
        assert model.active_units(rows, 1e-6).sum() == min(8, (eigenvalues > variance).sum())


# -- factor analysis


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_default_start_is_factor_analysis(cancer, k):
    X = (cancer - cancer.mean(0)) / cancer.std(0)
    model = VariationalAutoencoder(k, **EXACT).fit(X)
    peer = FactorAnalysis(k, tol=1e-4, max_iter=20_000, svd_method="lapack").fit(X)
    assert model.has_closed_form_
    density = scipy.stats.multivariate_normal(np.zeros(X.shape[1]), model_covariance(model))
    np.testing.assert_allclose(model.score_samples(X), density.logpdf(X), atol=1e-8)
    # With one factor there is a better optimum than the peer's; with five a noise of the peer's is below our smallest.
    assert model.score(X) > peer.score(X) - 1e-4
    if k == 2:
        assert model.score(X) == pytest.approx(peer.score(X), abs=1e-5)


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_the_start_with_column_noise_is_a_stationary_point(beta):
    rows = StandardScaler().fit_transform(load_wine().data)
    model = VariationalAutoencoder(2, beta=beta, **EXACT).fit(rows)
    composition, x = model.composition_, torch.from_numpy(rows)
    points = math.sqrt(2) * torch.cat([torch.eye(2), -torch.eye(2)]).double()
    losses = [model.objective_(composition, composition(x, Noise(code=point.expand(len(x), 2)))) for point in points]
    torch.stack(losses).mean().backward()
    gradients = torch.cat([p.grad.reshape(-1) for p in composition.parameters()])
    assert gradients.abs().max() < 1e-4


# -- bounds


@pytest.mark.parametrize("n_draws", [1, 5, 50])
def test_with_the_exact_posterior_every_bound_is_the_likelihood(linear, rows, n_draws):
    density = scipy.stats.multivariate_normal(np.zeros(rows.shape[1]), model_covariance(linear))
    for seed in (0, 1):
        estimate, error = linear.log_likelihood(rows, n_draws, return_error=True, random_state=seed)
        np.testing.assert_allclose(estimate, density.logpdf(rows), atol=1e-9)
        assert n_draws == 1 or error.max() < 1e-9


def model_covariance(model):
    W = model.composition_.decoder.affine.weight.detach().numpy()
    noise = model.composition_.likelihood.current_spread(torch.zeros(1, dtype=torch.float64)).detach()
    return W @ W.T + noise.numpy() * np.eye(len(W))


def test_with_another_posterior_more_draws_tighten_the_bound(rows):
    model = VariationalAutoencoder(K, **EXACT).fit(rows)
    with torch.no_grad():
        model.composition_.encoder.affine.bias[K:] += 1.0  # a posterior wider than the exact one
    exact = scipy.stats.multivariate_normal(np.zeros(rows.shape[1]), model_covariance(model)).logpdf(rows)
    bounds = [model.elbo(rows, 400).mean(), *(model.log_likelihood(rows, m).mean() for m in (5, 50, 2000))]
    assert bounds[0] < bounds[1] < bounds[2] < bounds[3] < exact.mean() + 5e-3
    assert exact.mean() - bounds[3] < 0.01


def integrated(model, X, k):
    """Log p(x) of rows by a sum over a grid of codes."""
    axis = torch.linspace(-7, 7, 20001 if k == 1 else 601, dtype=torch.float64)
    codes = torch.cartesian_prod(*[axis] * k).reshape(-1, k)
    composition = model.composition_
    with torch.inference_mode():
        p, prior = composition.decode(codes[:, None]), composition.prior.log_prob(codes)
        cells = [p.log_prob(torch.from_numpy(x)[None]).sum(-1)[:, 0] for x in model.scaler_.transform(X)]
    volume = k * math.log(14 / (len(axis) - 1))
    return (
        np.array([float((found + prior).logsumexp(0)) for found in cells])
        + volume
        - np.log(model.scaler_.divisor).sum()
    )


@pytest.mark.parametrize("k", [1, 2])
def test_the_score_is_below_the_density_and_near_it_where_the_decoder_is_nonlinear(k):
    X = make_moons(400, noise=0.1, random_state=0)[0]
    model = VariationalAutoencoder(k, max_epochs=60, precision="float64", random_state=0).fit(X)
    exact, score = integrated(model, X[:100], k), model.score_samples(X[:100])
    assert model.best_epoch_ > 0
    assert score.mean() < exact.mean() + 5e-3
    assert score.mean() > exact.mean() - 0.02
    assert (score < exact + 0.1).all()
    assert abs(model.log_likelihood(X[:100], 5000).mean() - exact.mean()) < 0.01


def test_the_error_of_one_draw_is_unknown(trained, rows):
    estimate, error = trained.log_likelihood(rows[:5], 1, return_error=True)
    assert np.isfinite(estimate).all()
    assert np.isnan(error).all()


def test_both_forms_of_the_bound_agree(rows):
    """Under a standard normal prior, whose divergence has a closed form."""
    prior, m = StandardNormalPrior(), 400
    trained = VariationalAutoencoder(2, hidden=(16,), max_epochs=40, prior=prior, random_state=0).fit(rows)
    forms = [trained.elbo(rows, m, form=form) for form in ("divergence", "joint")]
    # Over the draws of one row the difference is log p(z) + H + KL, of variance at most that of log p(z).
    q_mean, q_deviation = trained.posterior(rows)
    spread = np.sqrt((q_deviation**2 * q_mean**2 + 0.5 * q_deviation**4).sum(1) / m)
    assert (np.abs(forms[0] - forms[1]) < 5 * spread + 1e-9).all()
    with pytest.raises(OptionError, match="'divergence' or 'joint'"):
        trained.elbo(rows, form="both")


def divergence_by_quadrature(mean, deviation):
    q, p = scipy.stats.norm(mean, deviation), scipy.stats.norm()
    return scipy.integrate.quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -15, 15)[0]


def test_the_divergence_is_scipys_integral():
    output = torch.tensor([[0.7, -1.1, -0.4, 0.9]], dtype=torch.float64)
    q, prior = GaussianCode()(output), StandardNormalPrior()
    means, deviations = output[0, :2].tolist(), output[0, 2:].mul(0.5).exp().tolist()
    expected = sum(divergence_by_quadrature(*pair) for pair in zip(means, deviations, strict=True))
    assert prior.divergence(q, q.mean).item() == pytest.approx(expected, abs=1e-9)
    z = q.draw(torch.randn(200_000, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    terms = (q.log_prob(z) - prior.log_prob(z))[:, 0]
    assert abs(terms.mean().item() - expected) < 4 * terms.std().item() / len(terms) ** 0.5
    assert q.entropy.item() == pytest.approx(-q.log_prob(z).mean().item(), abs=0.01)
    # Of a point the divergence is -log p.
    assert Autoencoder(2, prior=StandardNormalPrior()).prior.divergence(_point(z[0]), z[0]).item() == pytest.approx(
        -scipy.stats.norm.logpdf(z[0].numpy()).sum()
    )


def _point(z):
    from eigencode.parts import Delta

    return Delta(z)


def test_importance_weights_are_their_literal_formula():
    model = Composition(MLP((5,)), MLP((5,)), code=GaussianCode(3), prior=StandardNormalPrior())
    model.setup(4, 2, torch.Generator().manual_seed(0))
    model.double()
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    noise = model.draw_noise(6, torch.Generator().manual_seed(2))
    found = Objective(beta=0.7)(model, model(x, noise))
    output = model.encoder(x)
    mean, deviation = output[:, :2], (0.5 * output[:, 2:]).exp()
    for i in range(6):
        weights = []
        for j in range(3):
            z = mean[i] + deviation[i] * noise.code[j, i].double()
            rebuilt = model.decoder(z[None])[0]
            log_p = scipy.stats.norm.logpdf(x[i], rebuilt.detach(), math.sqrt(0.5)).sum()
            log_ratio = (scipy.stats.norm.logpdf(z.detach()) - scipy.stats.norm.logpdf(
                z.detach(), mean[i].detach(), deviation[i].detach())).sum()  # fmt: skip
            weights.append(math.exp(log_p + 0.7 * log_ratio))
        assert found[i].item() == pytest.approx(-math.log(np.mean(weights)), abs=1e-10)


def test_the_error_is_the_spread_of_repeated_estimates(trained, rows):
    some = rows[:40]
    repeats = [trained.log_likelihood(some, 50, return_error=True, random_state=seed) for seed in range(40)]
    spread = np.std([estimate for estimate, _ in repeats], axis=0)
    reported = np.mean([error for _, error in repeats], axis=0)
    assert 0.7 < np.median(spread / reported) < 1.4


# -- answers


def test_a_row_s_score_depends_on_it_alone_and_is_near_the_density(trained, rows):
    np.testing.assert_allclose(trained.score_samples(rows)[5:9], trained.score_samples(rows[5:9]), rtol=1e-6)
    assert abs(trained.score(rows) - trained.log_likelihood(rows, 500).mean()) < 0.1
    assert trained.score(rows) > trained.elbo(rows, 200).mean()


def test_other_units_change_densities_by_the_logarithm(rows):
    models = [VariationalAutoencoder(2, max_epochs=3, random_state=0).fit(c * rows) for c in (1.0, 100.0)]
    for ask in ("score_samples", "elbo", "log_likelihood"):
        one, other = (getattr(model, ask)(c * rows) for model, c in zip(models, (1.0, 100.0), strict=True))
        np.testing.assert_allclose(one - other, rows.shape[1] * math.log(100), atol=1e-4)


def test_samples_have_the_model_s_moments(linear):
    draws = linear.sample(100_000, random_state=0)
    covariance = model_covariance(linear)
    error = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / len(draws))
    assert (np.abs(np.cov(draws.T) - covariance) < 4.5 * error).all()
    assert (np.abs(draws.mean(0)) < 4.5 * np.sqrt(np.diag(covariance) / len(draws))).all()
    W = linear.composition_.decoder.affine.weight.detach().numpy()
    smooth = linear.sample(100_000, mean=True, random_state=0)
    np.testing.assert_allclose(np.cov(smooth.T), W @ W.T, atol=0.1)
    np.testing.assert_array_equal(draws[:9000], linear.sample(100_000, random_state=0)[:9000])
    assert not (draws[0] == linear.sample(1, random_state=1)).any()


def test_draws_from_the_posterior_have_its_moments(trained, rows):
    mean, deviation = trained.posterior(rows[:5])
    draws = trained.sample_posterior(rows[:5], 20_000, random_state=0)
    assert (np.abs(draws.mean(0) - mean) < 4.5 * deviation / math.sqrt(20_000)).all()
    np.testing.assert_allclose(draws.std(0), deviation, rtol=0.03)
    np.testing.assert_array_equal(trained.transform(rows[:5]), mean)


def test_points_have_a_density_that_is_fitted_when_it_is_needed(rows, tmp_path):
    model = Autoencoder(2, max_epochs=2, random_state=0).fit(rows)
    assert not hasattr(model, "mixture_")
    draws = clone(model).fit(rows).sample(20_000, random_state=0)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.sample(20_000, random_state=0), draws)
    fitted = clone(model).fit(rows).fit_density(rows).sample(20_000, random_state=0)
    np.testing.assert_allclose(draws, fitted, rtol=1e-3, atol=1e-5)  # of codes in float32 and in float64


def test_draws_have_the_spread_of_the_rows_for_a_likelihood_with_a_constant_one(rows):
    """Its constant sets the unit of the objective, and says nothing of residuals."""
    for likelihood in (GaussianLikelihood(), LaplaceLikelihood(), StudentTLikelihood(scale=1.0)):
        model = Autoencoder(2, likelihood=likelihood, max_epochs=2, random_state=0).fit(rows)
        ratios = model.sample(20_000, random_state=0).std(0) / rows.std(0)
        assert abs(ratios.mean() - 1) < 0.1
        np.testing.assert_allclose(ratios, 1, rtol=0.3)
    given = VariationalAutoencoder(2, likelihood=GaussianLikelihood(0.5), max_epochs=2, random_state=0).fit(rows)
    assert not hasattr(given, "noise_")


def test_a_degenerate_density_is_noted():
    rng = np.random.default_rng(0)
    t = rng.normal(size=(200, 1))
    X = np.hstack([t, 2 * t, rng.normal(size=(200, 2))])  # two columns that are one
    model = VariationalAutoencoder(2, max_epochs=2, random_state=0).fit(X)
    assert any("of 4 columns is at its smallest value: 0" in note for note in model.notes_)
    honest = VariationalAutoencoder(1, max_epochs=2, random_state=0).fit(X[:, 1:] + 0.5 * rng.normal(size=(200, 3)))
    assert not any("smallest value" in note for note in honest.notes_)


def test_learning_beats_the_start_and_the_file_keeps_it(trained, rows, tmp_path):
    assert trained.init_ == "linear"
    # Over seeds the first gain is 0.4 with a spread of 0.2, the second 0.5 with one of 0.15.
    assert trained.best_objective_ < trained.history_[0]["validation_objective"]
    assert trained.log_likelihood(rows).mean() > trained.baseline_.log_likelihood(rows).mean() + 0.05
    trained.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    for ask in ("transform", "score_samples", "log_likelihood"):
        np.testing.assert_array_equal(getattr(again, ask)(rows), getattr(trained, ask)(rows))
    np.testing.assert_array_equal(again.sample(3, random_state=0), trained.sample(3, random_state=0))


def test_importance_weighting_trains_a_tighter_bound(rows):
    model = VariationalAutoencoder(2, hidden=(16,), n_draws=5, max_epochs=10, random_state=0).fit(rows)
    assert model.best_objective_ < model.history_[0]["validation_objective"]
    single = VariationalAutoencoder(2, hidden=(16,), max_epochs=0, random_state=0).fit(rows)
    several = VariationalAutoencoder(2, hidden=(16,), max_epochs=0, n_draws=50, random_state=0).fit(rows)
    assert abs(several.best_objective_ - single.best_objective_) < 0.5  # one bound, at the exact posterior


# -- starts away from the normal


def test_a_newton_step_starts_nearer_than_the_constant(digits):
    bits = (digits > 7).astype(float)
    common = {"likelihood": "bernoulli", "max_epochs": 0, "random_state": 0}
    stepped = VariationalAutoencoder(8, **common).fit(bits)
    constant = VariationalAutoencoder(8, init="random", hidden=(), **common).fit(bits)
    p = bits.mean(0).clip(1e-6, 1 - 1e-6)
    entropy = -(bits * np.log(p) + (1 - bits) * np.log(1 - p)).sum(1).mean()
    assert stepped.init_ == "linear"
    assert stepped.best_objective_ < entropy - 2
    assert stepped.best_objective_ < constant.best_objective_


def test_the_newton_step_is_the_literal_one():
    rng = np.random.default_rng(0)
    x = (rng.random((300, 5)) < [0.5, 0.4, 0.6, 0.3, 0.5]).astype(float)
    part = BernoulliLikelihood()
    from eigencode.parts import Units

    center, divisor = torch.from_numpy(x.mean(0)), torch.from_numpy(x.std(0))
    part.setup(Sizes(5, 2, units=Units(center, divisor)))
    ((inward, outward),) = part.expansion.working_units(Batch((torch.from_numpy(x) - center) / divisor))
    p = x.mean(0)
    residual = (x - p) / x.std(0)  # scaled
    # gradient / curvature = the Newton step in each logit alone
    np.testing.assert_allclose(residual * (inward * outward).numpy(), (x - p) / (p * (1 - p)), rtol=1e-10)


# -- training


def test_the_warmup_raises_the_weight_in_training_only():
    prior = StandardNormalPrior(warmup=2.0)
    model = Composition(MLP(), MLP(), code=GaussianCode(), prior=prior)
    model.setup(3, 2, torch.Generator().manual_seed(0), Sizes(3, 2, n_rows=100))
    trace = model(torch.ones(50, 3), model.draw_noise(50, torch.Generator().manual_seed(1)))
    whole = prior.eval().divergence(trace.q, trace.z)
    prior.train()
    shares = []
    for _ in range(6):
        shares.append((prior.divergence(trace.q, trace.z) / whole).mean().item())
        model.advance(model.statistics(trace), len(trace.x))
    np.testing.assert_allclose(shares, [1 / 201, 51 / 201, 101 / 201, 151 / 201, 1, 1], rtol=1e-5)


def test_the_code_passes_the_suite_and_combines(rows):
    check_code(GaussianCode())
    model = VariationalAutoencoder(2, corruption=GaussianNoise(0.1), max_epochs=3, random_state=0).fit(rows)
    assert model.init_ == "linear"
    assert not model.has_closed_form_
    assert model.best_objective_ < model.history_[0]["validation_objective"]
    sparse = Autoencoder(2, code=GaussianCode(), prior=LaplacePrior(), max_epochs=3, random_state=0).fit(rows)
    assert np.isfinite(sparse.best_objective_)
    with pytest.raises(OptionError, match="code of a VariationalAutoencoder is fixed"):
        VariationalAutoencoder(2, ordered=True).fit(rows)


def test_same_seed_same_bits(rows):
    answers = [VariationalAutoencoder(2, max_epochs=3, random_state=7).fit(rows).log_likelihood(rows) for _ in range(2)]
    np.testing.assert_array_equal(*answers)


# -- a mixture as the prior


def clusters(n, seed=0):
    """Rows of three clusters in two of five dimensions."""
    rng = np.random.default_rng(seed)
    codes = np.array([[-4.0, 0.0], [4.0, 0.0], [0.0, 5.0]])[rng.integers(3, size=n)] + rng.normal(size=(n, 2)) * [
        1,
        0.3,
    ]
    return codes @ np.random.default_rng(9).normal(size=(2, 5)) + 0.3 * rng.normal(size=(n, 5))


def test_clusters_are_denser_under_a_mixture_than_under_a_normal_prior():
    X, new = clusters(600), clusters(400, seed=1)
    start = {"max_epochs": 0, "precision": "float64", "random_state": 0}
    mixed = VariationalAutoencoder(2, **start).fit(X)
    normal = VariationalAutoencoder(2, prior=StandardNormalPrior(), **start).fit(X)
    assert mixed.score(new) > normal.score(new) + 0.5
    peer = GaussianMixture(3, random_state=0).fit(X)
    assert mixed.score(new) > peer.score(new) - 0.1
    np.testing.assert_allclose(mixed.log_likelihood(new[:20], 20_000), integrated(mixed, new[:20], 2), atol=0.05)
    draws = mixed.sample(5000, random_state=0)
    assert peer.score(draws) > peer.score(new) - 0.3


def test_a_prior_is_a_mixture_where_rows_are_likelier_under_it():
    """Of wine it is, by the exact likelihood; posteriors under a standard normal are too wide for this mixture."""
    X = StandardScaler().fit_transform(load_wine().data)
    start = {"max_epochs": 0, "precision": "float64", "scale": "none", "random_state": 0}
    model = VariationalAutoencoder(13, **start).fit(X)
    decoder, prior = model.composition_.decoder, model.composition_.prior
    weights, means, covariances = (part.detach().numpy() for part in prior.gaussians)
    W, bias = decoder.affine.weight.detach().numpy(), decoder.output_bias.detach().numpy()
    noise = model.composition_.likelihood.current_spread(decoder.output_bias).detach().numpy()
    each = [
        np.log(weight) + scipy.stats.multivariate_normal(W @ mean + bias, W @ own @ W.T + np.diag(noise)).logpdf(X)
        for weight, mean, own in zip(weights, means, covariances, strict=True)
    ]
    normal = VariationalAutoencoder(13, prior=StandardNormalPrior(), **start).fit(X)
    assert scipy.special.logsumexp(each, axis=0).mean() > normal.score(X) + 0.1


def test_rows_without_clusters_keep_the_standard_normal_prior():
    X = np.random.default_rng(0).normal(size=(300, 2)) @ np.random.default_rng(1).normal(size=(2, 5))
    X += 0.5 * np.random.default_rng(2).normal(size=X.shape)
    model = VariationalAutoencoder(2, max_epochs=0, precision="float64", random_state=0).fit(X)
    z = torch.randn(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = scipy.stats.norm.logpdf(z.numpy()).sum(1)
    np.testing.assert_allclose(model.composition_.prior.log_prob(z).detach(), expected, atol=1e-12)


def test_a_mixture_prior_is_its_literal_formula():
    prior = MixturePrior(size=3)
    prior.setup(Sizes(5, 2))
    prior.double()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for tensor in (prior.logits, prior.means, prior.roots):
            tensor.copy_(torch.from_numpy(rng.normal(size=tensor.shape)))
    z = rng.normal(size=(4, 6, 2))
    weights = prior.logits.detach().softmax(0).numpy()
    roots = [np.tril(root, -1) + np.diag(np.exp(np.diag(root))) for root in prior.roots.detach().numpy()]
    each = [
        math.log(weight) + scipy.stats.multivariate_normal(mean, np.linalg.inv(root.T @ root)).logpdf(z)
        for weight, mean, root in zip(weights, prior.means.detach().numpy(), roots, strict=True)
    ]
    np.testing.assert_allclose(prior.log_prob(torch.from_numpy(z)).detach(), scipy.special.logsumexp(each, 0))
    draws = prior.sample(200_000, 2, torch.Generator().manual_seed(0)).detach().numpy()
    np.testing.assert_allclose(draws.mean(0), weights @ prior.means.detach().numpy(), atol=0.05)


def test_the_mixture_trains_and_the_file_keeps_it(tmp_path):
    X = clusters(300)
    model = VariationalAutoencoder(2, hidden=(8,), max_epochs=20, random_state=0).fit(X)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    with pytest.raises(OptionError, match="Give 'warmup' to the prior itself"):
        VariationalAutoencoder(2, prior=MixturePrior(4), warmup=2.0).fit(X)


def test_factor_analysis_of_many_columns_takes_few_eigendecompositions(monkeypatch):
    """The best of three first variances goes on alone; its likelihood is no worse than that of any of them."""
    covariance = torch.from_numpy(np.cov(np.random.default_rng(0).normal(size=(300, 40)), rowvar=False))
    decompositions, eigh = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: decompositions.append(len(matrix)) or eigh(matrix))
    exact = factor_analysis.factor_analysis(covariance, 20)
    monkeypatch.setattr(factor_analysis, "MOST_PRODUCTS", 20.0 * 40**3)
    decompositions.clear()
    found = factor_analysis.factor_analysis(covariance, 20)
    assert len(decompositions) <= 20 + 8  # line searches end after their last one; three are not of the search

    def cost(noise):
        root = noise.sqrt()
        kept = (eigh(covariance / torch.outer(root, root))[0].flip(0)[:20] - 1).clamp(min=0)
        return float(noise.log().sum() + (covariance.diagonal() / noise).sum() - (kept - kept.log1p()).sum())

    assert cost(found.noise) <= cost(covariance.diagonal())
    assert cost(found.noise) <= cost(exact.noise) + 0.5


def test_the_second_moments_of_rows_are_computed_once(cancer, monkeypatch):
    computed, second_moment = [], pca.second_moment

    def counted(rows, *arguments):
        computed.append(len(rows))
        return second_moment(rows, *arguments)

    for module in (pca, initialization, baseline):
        monkeypatch.setattr(module, "second_moment", counted)
    VariationalAutoencoder(3, max_epochs=1, random_state=0).fit(cancer)
    assert computed == [len(cancer)]
