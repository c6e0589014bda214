"""The mixture that a prior starts at: its quick fit against scipy's densities, and against the thorough fit."""

import numpy as np
import pytest
import scipy.stats
import torch

from eigencode.errors import DataError
from eigencode.model import code_priors, expectation_maximisation
from eigencode.model.code_priors import _without_noise, mixture_prior, rough_mixture
from eigencode.model.codes import standards
from eigencode.model.density import can_be_full, fit_mixture
from eigencode.model.expectation_maximisation import REGULARISATION, Fits, Gaussians, Products, improved


def clumps(n, k, m, seed, gap=1.5):
    """Codes of m clumps with covariances of their own."""
    draw = np.random.default_rng(seed)
    roots = np.eye(k) + 0.3 * draw.normal(size=(m, k, k))
    cluster = draw.integers(m, size=n)
    noise = np.einsum("nij,nj->ni", roots[cluster], draw.normal(size=(n, k)))
    return gap * draw.normal(size=(m, k))[cluster] + noise


@pytest.mark.parametrize("is_full", [True, False])
def test_an_iteration_is_the_literal_one(is_full):
    draw = np.random.default_rng(0)
    x, shares = clumps(60, 4, 3, 0), draw.dirichlet(np.ones(3), size=60)
    products = Products(torch.from_numpy(x), is_full)
    found = Gaussians.of(products, torch.from_numpy(shares.T.copy()))
    joint = found.log_joint(products).numpy().T
    for c in range(3):
        mean = np.average(x, axis=0, weights=shares[:, c])
        covariance = np.cov(x.T, aweights=shares[:, c], bias=True) * (1 if is_full else np.eye(4))
        covariance = covariance + REGULARISATION * np.eye(4)
        np.testing.assert_allclose(found.means[c], mean, rtol=1e-9)
        np.testing.assert_allclose(found.covariances[c], covariance, rtol=1e-9, atol=1e-12)
        density = np.log(shares[:, c].mean()) + scipy.stats.multivariate_normal(mean, covariance).logpdf(x)
        np.testing.assert_allclose(joint[:, c], density, rtol=1e-9)


def test_an_iteration_never_lowers_the_likelihood_and_one_that_gains_little_is_the_last():
    products = Products(torch.from_numpy(clumps(2000, 5, 4, 0)), True)
    first = products.split(torch.nn.functional.one_hot(products.rows[:, :4].argmax(1), 4).T.double())
    likelihoods = [
        improved(products, first, n, -np.inf).log_joint(products).logsumexp(0).mean().item() for n in range(40)
    ]
    gains = np.diff(likelihoods)
    assert (gains > 0).all()
    assert gains[0] > 0.02 > gains[-1]
    ended = improved(products, first, 40, 0.02).log_joint(products).logsumexp(0).mean().item()
    assert ended == likelihoods[np.flatnonzero(gains < 0.02)[0] + 2]  # that of the iteration too, and of the next one


def test_the_mixture_is_the_most_likely_one_for_the_last_shares_of_all_rows_after_each_part(monkeypatch):
    """Two iterations over three parts of 21 and 20 rows, by scipy's densities and numpy's covariances."""
    monkeypatch.setattr(expectation_maximisation, "PART_CELLS", 1)
    monkeypatch.setattr(expectation_maximisation, "LEAST_ROWS", 21)
    draw = np.random.default_rng(0)
    x, shares = clumps(61, 3, 2, 0), draw.dirichlet(np.ones(2), size=61)
    products = Products(torch.from_numpy(x), True)
    assert [len(part.rows) for part in products.parts] == [21, 20, 20]
    found = improved(products, products.split(torch.from_numpy(shares.T.copy())), 2, -np.inf)

    def of_shares():
        covariances = [np.cov(x.T, aweights=own, bias=True) + REGULARISATION * np.eye(3) for own in shares.T]
        return shares.mean(0), shares.T @ x / shares.sum(0)[:, None], covariances

    weights, means, covariances = of_shares()
    for rows in 2 * [slice(0, 21), slice(21, 41), slice(41, 61)]:
        gaussians = map(scipy.stats.multivariate_normal, means, covariances)
        joint = weights * np.stack([gaussian.pdf(x[rows]) for gaussian in gaussians], axis=1)
        shares[rows] = joint / joint.sum(1, keepdims=True)
        weights, means, covariances = of_shares()
    np.testing.assert_allclose(found.weights, weights, rtol=1e-9)
    np.testing.assert_allclose(found.means, means, rtol=1e-9)
    np.testing.assert_allclose(found.covariances, covariances, rtol=1e-9, atol=1e-12)


def test_a_gaussian_without_rows_changes_no_density():
    products = Products(torch.from_numpy(clumps(60, 3, 2, 0)), True)
    shares = torch.full((1, 60), 1.0, dtype=torch.float64)
    found = Gaussians.of(products, torch.cat([shares, 0 * shares]))
    densities = found.of_part(products)[1]
    torch.testing.assert_close(densities, Gaussians.of(products, shares).log_joint(products)[0])


@pytest.mark.parametrize("is_full", [True, False])
def test_a_gaussian_that_loses_all_its_rows_is_that_of_its_shares(is_full, monkeypatch):
    """Two points, each with a narrow Gaussian: a third, broad one keeps a hundredth of its rows in an iteration."""
    monkeypatch.setattr(expectation_maximisation, "PART_CELLS", 1)
    x = np.random.default_rng(0).integers(2, size=(5000, 2)) * np.array([1.0, 0.0]) + np.array([-0.3, 0.1])
    products = Products(torch.from_numpy(x), is_full)
    assert len(products.parts) > 5
    first = torch.from_numpy(np.stack([x[:, 0] < 0, x[:, 0] > 0, np.ones(5000)], dtype=np.float64)) / 2
    for n in range(1, 12):
        found = improved(products, products.split(first), n, -np.inf)
        weight, mean, covariance = found.weights[2].item(), found.means[2].numpy(), found.covariances[2].numpy()
        # Sizes of nothing are replaced by a tiny one, so that the Gaussian is somewhere between its rows and zero.
        assert 0 < weight < 0.05**n
        assert -0.3 - 1e-9 <= mean[0] <= 0.7 + 1e-9
        assert 1e-6 - 1e-12 <= covariance[0, 0] <= 0.25 + 1e-5
        assert 1e-6 - 1e-12 <= covariance[1, 1] <= 0.0025 + 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("is_full", [True, False])
def test_a_negative_variance_is_an_error_and_no_density(dtype, is_full):
    """Rounding makes it of equal rows far from zero: their mean square is nearly the square of their mean."""
    rows, variances = torch.ones(7, 2, dtype=dtype), torch.tensor([-1e-9, 1.0], dtype=torch.float64)
    found = Gaussians(torch.ones(1).double(), torch.zeros(1, 2).double(), variances.diag()[None], is_full)
    with pytest.raises(DataError, match="positive definite"):
        found.log_joint(Products(rows, is_full))


def test_a_far_clump_of_equal_rows_in_many_columns_has_a_gaussian():
    """In float32 its variances would be negative, and all mixtures but one Gaussian would have no density."""
    draw = np.random.default_rng(0)
    codes = draw.normal(size=(1000, 70))
    codes[::50] = 100 * draw.normal(size=70)
    single = fit_mixture(codes, 0, n_components=1, validation_fraction=0.2)
    found = rough_mixture(codes, 16)
    assert found.n_components > 1
    assert found.log_prob(codes).mean() > single.log_prob(codes).mean() + 5


def test_rows_in_parts_have_the_shares_and_densities_of_all(monkeypatch):
    x = clumps(100, 3, 2, 0, gap=200.0)  # so far apart that most shares are next to nothing
    products = Products(torch.from_numpy(x), True)
    labels = torch.from_numpy(x @ (x[0] - x.mean(0)) > x.mean(0) @ (x[0] - x.mean(0))).long()
    mixture = Gaussians.of(products, torch.nn.functional.one_hot(labels, 2).T.double())
    joint = mixture.log_joint(products)
    assert (joint.softmax(0) < 1e-30).any()
    monkeypatch.setattr(expectation_maximisation, "PART_CELLS", 1)
    monkeypatch.setattr(expectation_maximisation, "LEAST_ROWS", 30)
    parted = Products(torch.from_numpy(x), True)
    assert len(parted.parts) == 4
    shares = torch.cat([mixture.of_part(part)[0] for part in parted.parts], 1)
    torch.testing.assert_close(shares, joint.softmax(0), rtol=1e-12, atol=1e-25)
    np.testing.assert_allclose(mixture.score_samples(x), joint.logsumexp(0).numpy(), rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_single_precision_has_the_density_of_double(seed, monkeypatch):
    codes = clumps(6000, 6, 4, seed)
    seen, rough = [], code_priors._rough
    monkeypatch.setattr(code_priors, "_rough", lambda rows, most, dtype: seen.append(dtype) or rough(rows, most, dtype))
    single = rough_mixture(codes, 8)
    assert seen == [torch.float32]
    monkeypatch.setattr(code_priors, "_rough", lambda rows, most, dtype: rough(rows, most, torch.float64))
    double = rough_mixture(codes, 8)
    assert single.n_components == double.n_components >= 4
    np.testing.assert_allclose(single.log_prob(codes), double.log_prob(codes), atol=0.02)


def test_narrow_gaussians_are_fitted_in_double_precision(monkeypatch):
    """Codes on two lines: in float32 their covariances could not be told from singular ones."""
    draw = np.random.default_rng(0)
    line = draw.normal(size=(5000, 1)) * np.ones(3) + 1e-4 * draw.normal(size=(5000, 3))
    codes = line + 6 * draw.integers(2, size=(5000, 1)) * np.array([1.0, -1.0, 0.0])
    seen, rough = [], code_priors._rough
    monkeypatch.setattr(code_priors, "_rough", lambda rows, most, dtype: seen.append(dtype) or rough(rows, most, dtype))
    found = rough_mixture(codes, 4)
    assert seen == [torch.float32, torch.float64]
    assert found.log_prob(codes).mean() > fit_mixture(codes, 0, n_components=1).log_prob(codes).mean() + 1


def test_a_quick_fit_loses_little_on_other_rows():
    """Over several seeds: of the gain of the thorough fit over one Gaussian, at most a twentieth."""
    lost = []
    for seed in range(4):
        codes = clumps(12_000, 10, 6, seed)
        train, other = codes[:6000], codes[6000:]
        quick, thorough = (
            found.log_prob(other).mean() for found in (rough_mixture(train, 16), fit_mixture(train, 0, most=16))
        )
        single = fit_mixture(train, 0, n_components=1).log_prob(other).mean()
        lost.append((thorough - quick) / (thorough - single))
    assert np.mean(lost) < 0.05


def test_a_lattice_of_few_columns_is_fitted_as_well_as_by_many_iterations():
    """It needs many iterations, which are cheap there: over several seeds, nothing is lost in the mean."""
    lost = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        codes = rng.integers(4, size=(6_000, 5)) + 0.02 * rng.standard_normal((6_000, 5))
        quick, thorough = rough_mixture(codes, 16), fit_mixture(codes, 0, most=16)
        lost.append(np.mean(thorough.log_prob(codes) - quick.log_prob(codes)))
    assert np.mean(lost) < 0.1, lost


def test_priors_of_many_rows_are_made_by_few_iterations_however_few_components_there_are(monkeypatch):
    """A fit to the end takes seconds, as long as hundreds of steps of training."""
    monkeypatch.setattr(code_priors, "fit_mixture", None)
    for k in (1, 3, 20):
        codes = clumps(1_000, k, 4, 0)
        found = mixture_prior(codes / codes.std(0), np.full(k, 0.05), 16)
        assert found is not None
        assert found.n_components > 1


def test_gaussians_are_full_where_the_rows_are_enough_for_so_many():
    """Of one Gaussian they are, of the many of the best mixture they are not."""
    codes = clumps(600, 8, 16, 0, gap=8.0)
    assert can_be_full(480, 1, 8, 600)
    assert not can_be_full(480, 16, 8, 600)
    found = rough_mixture(codes, 16)
    assert found.n_components == 16
    assert (found.covariances == found.covariances * np.eye(8)).all()
    assert (rough_mixture(codes[:, :2], 2).covariances != 0).all()


def test_the_noise_is_subtracted_from_independent_columns_as_from_others():
    draw = np.random.default_rng(0)
    variances, noise = draw.uniform(0.2, 3, size=(3, 4)), draw.uniform(0.1, 1, size=4)
    rotation = np.linalg.qr(draw.normal(size=(4, 4)))[0]
    found = _without_noise(variances[:, None] * np.eye(4), noise)
    np.testing.assert_allclose(found, np.maximum(variances - noise, 0.5 * noise)[:, None] * np.eye(4), rtol=1e-12)
    # A noise that is the same in all directions has no axes, so that the covariances may be turned.
    turned = _without_noise(rotation @ (variances[:, None] * np.eye(4)) @ rotation.T, np.full(4, 0.7))
    plain = _without_noise(variances[:, None] * np.eye(4), np.full(4, 0.7))
    np.testing.assert_allclose(turned, rotation @ plain @ rotation.T, atol=1e-12)


@pytest.mark.parametrize("k", [8, 80])
def test_the_prior_of_clumps_makes_rows_likelier_than_a_standard_normal(k):
    codes = clumps(5000, k, 3, 0, gap=2.0)
    variances = np.full(k, 0.3)
    found = mixture_prior((1 - variances) * codes, variances, 16)
    assert found is not None
    assert found.n_components >= 2
    noise = np.eye(k) * 0.3 / 0.7
    joint = [
        np.log(w) + scipy.stats.multivariate_normal(m, c + noise).logpdf(codes)
        for w, m, c in zip(found.weights, found.means, found.covariances, strict=True)
    ]
    normal = scipy.stats.multivariate_normal(np.zeros(k), np.eye(k) + noise).logpdf(codes)
    assert np.logaddexp.reduce(joint).mean() > normal.mean() + 1


@pytest.mark.parametrize(("gain", "bound"), [(0.0, 1e-3), (2**-22, 2**-22 * 3000 * 27)])
def test_iterations_on_all_rows_end_at_a_gain_for_each_product(gain, bound):
    """With the iteration after the first that gains less; each row has 6 values and 21 products."""
    products = Products(torch.from_numpy(clumps(3000, 6, 8, 0)), True)
    first = torch.nn.functional.one_hot((3 * products.rows[:, :4]).argmax(1), 4).T.double()
    found = Gaussians.of(products, first)
    shares = products.split(found.of_part(products)[0])
    scores = [improved(products, shares, n, -np.inf).score_samples(products.rows.numpy()).mean() for n in range(80)]
    n = np.flatnonzero(np.diff(scores) < bound)[0] + 2
    ended = Fits(lambda n, m: True).further(found, products.rows.numpy(), gain)
    assert ended.score_samples(products.rows.numpy()).mean() == pytest.approx(scores[n], abs=1e-12)


def test_after_the_last_iteration_of_a_prior_another_gains_less_than_its_bound():
    """And not much less, as after the iterations of a density, which take longer: a twelfth of the bound."""
    gains = []
    for seed in range(3):
        codes = clumps(20_000, 6, 16, seed, gap=1.0)
        center, divisor = standards(codes)
        rows = (codes - center) / divisor
        found = code_priors._rough(rows, 16, torch.float64)
        products = Products(torch.from_numpy(rows), found.is_full)
        another = improved(products, (found.of_part(part)[0] for part in products.parts), 1, -np.inf)
        gains.append(np.mean(another.score_samples(rows) - found.score_samples(rows)))
    bound = code_priors.GAIN * 20_000 * 27
    assert bound / 6 < np.median(gains) < bound


@pytest.mark.parametrize(("limits", "expected"), [((2, 3, 2**21), 3), ((1, 10, 2000), 4), ((2, 100, 499), 2)])
def test_all_products_are_computed_as_often_as_a_number_of_them_allows(limits, expected):
    products = Products(torch.zeros(100, 2), is_full=True)  # of 2 columns and 3 products of them
    assert expectation_maximisation.number_within(products, *limits) == expected
