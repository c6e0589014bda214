"""The mixture of Gaussians on codes: against scipy's densities, its own samples, and codes that break naive fits."""

import dataclasses
import json
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from scipy.stats import multivariate_normal

from eigencode.errors import DataError, OptionError
from eigencode.model import density, expectation_maximisation
from eigencode.model.density import Mixture, fit_mixture
from eigencode.model.expectation_maximisation import Gaussians, Products, improved


def gaussian(n, k=3, seed=0):
    """Correlated normal rows, away from zero."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, k)) @ draw.normal(size=(k, k)) + 5


def clusters(m, n=600, gap=12.0, seed=0):
    """m clusters of unit variance on a grid, and the cluster of each row."""
    draw = np.random.default_rng(seed)
    centers = gap * np.stack(np.divmod(np.arange(m), 3), axis=1)
    cluster = draw.integers(m, size=n)
    return centers[cluster] + draw.normal(size=(n, 2)), cluster


@pytest.fixture
def three():
    """A mixture of three in four columns, with nothing symmetric about it."""
    draw = np.random.default_rng(1)
    roots = draw.normal(size=(3, 4, 4))
    return Mixture([0.5, 0.2, 0.3], 2 * draw.normal(size=(3, 4)), roots @ roots.transpose(0, 2, 1) + 0.1 * np.eye(4))


# -- the density and its draws


def test_the_density_is_scipys(three):
    codes = 3 * np.random.default_rng(2).normal(size=(50, 4))
    parts = zip(three.weights, three.means, three.covariances, strict=True)
    each = [math.log(w) + scipy.stats.multivariate_normal(mean, cov).logpdf(codes) for w, mean, cov in parts]
    np.testing.assert_allclose(three.log_prob(codes), scipy.special.logsumexp(each, axis=0), rtol=1e-10)


def test_the_density_far_from_all_components_is_finite(three):
    assert np.isfinite(three.log_prob(np.full((1, 4), 1e6))).all()
    impossible = Mixture([1.0, 0.0], [[0.0], [5.0]], [[[1.0]], [[1.0]]])
    np.testing.assert_allclose(impossible.log_prob([[5.0]]), scipy.stats.norm.logpdf(5.0), rtol=1e-12)


def test_samples_have_the_mixtures_mean_and_covariance(three):
    n = 40_000
    codes = three.sample(n, np.random.default_rng(3))
    mean = three.weights @ three.means
    gaps = three.means - mean
    covariance = np.einsum("c,cij->ij", three.weights, three.covariances + gaps[:, :, None] * gaps[:, None, :])
    assert (abs(codes.mean(0) - mean) < 4 * np.sqrt(np.diag(covariance) / n)).all()
    products = (codes - mean)[:, :, None] * (codes - mean)[:, None, :]
    assert (abs(products.mean(0) - covariance) < 4 * products.std(0) / math.sqrt(n)).all()


def test_samples_are_shuffled_and_in_proportion_to_the_weights():
    mixture = Mixture([0.25, 0.75], [[-50.0], [50.0]], np.ones((2, 1, 1)))
    first = mixture.sample(4000, np.random.default_rng(0))[:, 0] < 0
    assert abs(first.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4 / math.sqrt(4000)


def test_a_sample_is_determined_by_its_generator(three):
    first, again, other = (three.sample(5, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    assert three.sample(0, np.random.default_rng(0)).shape == (0, 4)


def test_a_mixture_is_restored_from_its_fields(three):
    codes = three.means + 0.5
    as_json = json.loads(json.dumps({name: value.tolist() for name, value in dataclasses.asdict(three).items()}))
    np.testing.assert_array_equal(Mixture(**as_json).log_prob(codes), three.log_prob(codes))
    with pytest.raises(ValueError, match="read-only"):
        three.means[0] = 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([1.0], [[0.0]], [[1.0]]), "must have shapes"),
        (([1.0], [0.0], [[[1.0]]]), "must have shapes"),
        (([0.5, 0.4], [[0.0], [1.0]], [[[1.0]], [[1.0]]]), "probabilities that sum to 1"),
        (([1.5, -0.5], [[0.0], [1.0]], [[[1.0]], [[1.0]]]), "probabilities that sum to 1"),
        (([1.0], [[0.0]], [[[-1.0]]]), "positive definite"),
        (([1.0], [[math.nan]], [[[1.0]]]), "finite"),
    ],
)
def test_fields_that_are_not_a_mixture_are_refused(fields, message):
    with pytest.raises(DataError, match=message):
        Mixture(*fields)


def test_codes_of_another_width_are_refused(three):
    with pytest.raises(DataError, match="over codes of 4 numbers"):
        three.log_prob(np.zeros((2, 3)))


# -- the fit


@pytest.mark.parametrize("choice_rows", [100, 10_000])
def test_one_component_is_the_mean_and_covariance_of_all_rows(monkeypatch, choice_rows):
    monkeypatch.setattr(density, "CHOICE_ROWS", choice_rows)
    codes = gaussian(500)
    mixture = fit_mixture(codes, 0, n_components=1)
    covariance = np.cov(codes.T, ddof=0)
    np.testing.assert_allclose(mixture.means[0], codes.mean(0), rtol=1e-10)
    expected = covariance + 1e-6 * np.diag(np.diag(covariance))
    np.testing.assert_allclose(mixture.covariances[0], expected, rtol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_gaussian_codes_get_one_component(seed):
    assert fit_mixture(gaussian(600, seed=seed), seed).n_components == 1


@pytest.mark.parametrize("m", [2, 4, 8])
def test_well_separated_clusters_are_found(m):
    """In at least two of three draws: in about one of thirty, the validation codes favour one component more."""
    n_counted = 0
    for seed in range(3):
        codes, cluster = clusters(m, seed=seed)
        mixture = fit_mixture(codes, seed)
        assert (np.diff(mixture.weights) <= 0).all()
        if mixture.n_components == m:
            n_counted += 1
            check_found(mixture, codes, cluster)
    assert n_counted >= 2


def check_found(mixture, codes, cluster):
    """Each cluster's own mean, covariance and share are those of a component."""
    for c in np.unique(cluster):
        own = codes[cluster == c]
        c = np.linalg.norm(mixture.means - own.mean(0), axis=1).argmin()
        np.testing.assert_allclose(mixture.means[c], own.mean(0), atol=1e-3)
        np.testing.assert_allclose(mixture.covariances[c], np.cov(own.T, ddof=0), atol=1e-2)
        assert mixture.weights[c] == pytest.approx(len(own) / len(codes), abs=1e-4)


def test_a_mixture_is_likelier_than_one_gaussian_on_unseen_codes():
    train, _ = clusters(8, seed=1)
    unseen, _ = clusters(8, seed=2)
    eight, single = (fit_mixture(train, 0, n_components=m) for m in (8, 1))
    assert eight.log_prob(unseen).mean() > single.log_prob(unseen).mean() + 1


def test_copies_of_a_row_are_not_split():
    """Each row ten times: were copies split between both sides, components on single rows would win.

    One draw in eight looks like two components, with copies or without.
    """
    for n_copies in (1, 10):
        rows = [np.tile(gaussian(80, seed=seed), (n_copies, 1)) for seed in range(5)]
        assert np.median([fit_mixture(each, 0).n_components for each in rows]) == 1


def test_a_fit_is_determined_by_its_seed():
    codes, _ = clusters(4, n=200, gap=2)
    first, again = (fit_mixture(codes, 7, n_components=4) for _ in range(2))
    for name in ("weights", "means", "covariances"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (fit_mixture(codes, 8, n_components=4).means != first.means).any()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1024.0, 1e30])
def test_the_codes_units_do_not_matter(scale):
    codes, _ = clusters(4, n=200, gap=5)
    codes[:, 1] *= 0.01
    mixture, scaled = fit_mixture(codes, 0), fit_mixture(scale * codes, 0)
    tolerance = 0 if scale == 1024 else 1e-7  # a power of two rounds nothing
    np.testing.assert_allclose(scaled.means, scale * mixture.means, rtol=tolerance)
    np.testing.assert_allclose(scaled.covariances, scale**2 * mixture.covariances, rtol=tolerance, atol=0)
    shift = codes.shape[1] * math.log(scale)
    np.testing.assert_allclose(scaled.log_prob(scale * codes), mixture.log_prob(codes) - shift, rtol=1e-6)


def test_full_covariances_need_enough_rows(monkeypatch):
    def is_full(codes, m):
        covariances = fit_mixture(codes, 0, n_components=m).covariances
        return bool((abs(covariances - covariances * np.eye(covariances.shape[1])) > 0).any())

    assert is_full(gaussian(100, k=10), 2)
    assert not is_full(gaussian(99, k=10), 2)
    monkeypatch.setattr(density, "FULL_PRODUCTS", 100 * 2 * 10**2 - 1)
    assert not is_full(gaussian(100, k=10), 2)


# -- weights of rows


def test_a_row_occurs_in_proportion_to_its_weight():
    weights = np.random.default_rng(0).exponential(size=200) * (np.arange(200) % 3 > 0)
    counts = np.bincount(density.systematic(weights), minlength=200)
    n = np.count_nonzero(weights)
    wanted = n * weights / weights.sum()
    assert counts.sum() == n
    assert ((counts == np.floor(wanted)) | (counts == np.ceil(wanted))).all()


def test_equal_weights_change_nothing():
    codes, _ = clusters(2, n=100)
    for name in ("weights", "means", "covariances"):
        plain, weighted = (fit_mixture(codes, 0, 2, weight) for weight in (None, np.full(100, 0.3)))
        np.testing.assert_array_equal(getattr(plain, name), getattr(weighted, name))


def test_rows_without_weight_are_ignored():
    codes, cluster = clusters(2, n=200)
    for name in ("weights", "means", "covariances"):
        without = fit_mixture(codes[cluster == 1], 0, 2)
        weighted = fit_mixture(codes, 0, 2, sample_weight=2.5 * (cluster == 1))
        np.testing.assert_array_equal(getattr(weighted, name), getattr(without, name))


def test_weights_move_the_components_weights():
    codes, cluster = clusters(2, n=400)
    weights = np.where(cluster == 0, 9.0, 1.0) / np.bincount(cluster)[cluster]
    np.testing.assert_allclose(fit_mixture(codes, 0, sample_weight=weights).weights, [0.9, 0.1], atol=0.02)


# -- codes that break naive fits


def sparse(n=300, k=6):
    draw = np.random.default_rng(0)
    return np.maximum(draw.normal(size=(n, k)) - 0.8, 0) * draw.integers(2, size=(n, k))


HARD = {
    "a constant column": lambda: np.column_stack([gaussian(200), np.full(200, 3.0)]),
    "a column of zeros": lambda: np.column_stack([gaussian(200), np.zeros(200)]),
    "a nearly constant column": lambda: np.column_stack([gaussian(200), 3 + 1e-9 * gaussian(200, 1)]),
    "a constant column with float32's rounding": lambda: np.column_stack(
        [gaussian(200), np.float32(0.1) + np.float32(1e-8) * np.arange(200) % 3]
    ),
    "a tiny column": lambda: gaussian(200) * [1, 1e-12, 1e12],
    "constant columns alone": lambda: np.full((50, 3), 0.7),
    "zeros alone": lambda: np.zeros((50, 3)),
    "columns that are the same": lambda: np.tile(gaussian(200, 1), (1, 4)),
    "a few rows many times": lambda: np.tile(gaussian(3), (50, 1)),
    "exact zeros": sparse,
    "zeros nearly everywhere": lambda: sparse() * (np.arange(300) % 40 == 0)[:, None],
    "one column": lambda: gaussian(100, 1),
    "one row": lambda: gaussian(1),
    "two rows": lambda: gaussian(2),
    "three rows": lambda: gaussian(3),
    "more columns than rows": lambda: gaussian(20, 60),
    "an outlier": lambda: np.vstack([gaussian(200), np.full((1, 3), 1e9)]),
    "far from zero": lambda: gaussian(200) + 1e9,
    "heavy tails": lambda: np.random.default_rng(0).standard_cauchy((300, 2)),
    "whole numbers": lambda: np.random.default_rng(0).integers(3, size=(200, 2)),
    "single precision": lambda: gaussian(200).astype(np.float32),
    "as large as may be": lambda: gaussian(50) * 1e98,
    "smaller than anything": lambda: gaussian(50) * 1e-200,
}


@pytest.mark.parametrize("codes", HARD.values(), ids=HARD)
@pytest.mark.parametrize("n_components", ["auto", 4])
def test_degenerate_codes_have_a_mixture(codes, n_components):
    """A warning is an error here, and a draw from a global generator too."""
    codes = codes()
    mixture = fit_mixture(codes, 0, n_components)
    assert mixture.n_components <= len(np.unique(codes, axis=0))
    assert np.isfinite(mixture.log_prob(codes)).all()
    samples = mixture.sample(1000, np.random.default_rng(0))
    mean = mixture.weights @ mixture.means
    error = codes.std(0) / math.sqrt(1000)
    nothing = 1e-100 if codes.any() else 1e-7  # zeros have no size to be small against
    assert (abs(samples.mean(0) - mean) <= 5 * error + 1e-5 * abs(mean) + 1e-4 * codes.std() + nothing).all()
    np.testing.assert_allclose(mean, codes.mean(0), atol=1e-6 * abs(codes).max() + nothing)


def test_a_constant_column_stays_nearly_constant():
    codes = np.column_stack([gaussian(200), np.full(200, 3.0)])
    samples = fit_mixture(codes, 0).sample(500, np.random.default_rng(0))
    assert abs(samples[:, 3] - 3).max() < 1e-4
    np.testing.assert_allclose(samples[:, :3].std(0), codes[:, :3].std(0), rtol=0.2)


def test_exact_zeros_are_drawn_as_often_as_they_occur():
    draw = np.random.default_rng(0)
    codes = np.column_stack([draw.normal(3, 0.5, size=600) * (draw.random(600) < 0.3), draw.normal(size=600)])
    samples = fit_mixture(codes, 0).sample(2000, np.random.default_rng(1))
    share, drawn = (codes[:, 0] == 0).mean(), (abs(samples[:, 0]) < 0.01).mean()
    assert abs(drawn - share) < 4 * math.sqrt(share * (1 - share) / 2000)


def test_large_numbers_of_components_are_bounded_by_the_rows():
    assert fit_mixture(gaussian(5), 0, n_components=8).n_components == 5
    assert fit_mixture(np.tile(gaussian(3), (10, 1)), 0, n_components=8).n_components == 3


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros(3), "table of rows and columns"),
        (np.zeros((3, 0)), "table of rows and columns"),
        (np.zeros((0, 3)), "at least one code"),
        (np.full((3, 2), np.nan), "finite numbers"),
        (np.full((3, 2), np.inf), "finite numbers"),
        (np.full((3, 2), 1e200), "finite numbers"),
    ],
)
def test_codes_that_are_not_a_table_are_refused(codes, message):
    with pytest.raises(DataError, match=message):
        fit_mixture(codes, 0)


@pytest.mark.parametrize("weights", [np.ones(2), -np.ones(3), np.zeros(3), [1, 2, np.nan]])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(DataError, match="sample_weight must be 3 finite numbers"):
        fit_mixture(np.zeros((3, 1)), 0, sample_weight=weights)


@pytest.mark.parametrize(
    "options",
    [{"n_components": 0}, {"n_components": True}, {"n_components": 1.5}, {"n_components": "many"}]
    + [{"validation_fraction": value} for value in (0, 1, "half")],
)
def test_options_outside_their_domain_are_refused(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        fit_mixture(np.zeros((3, 1)), 0, **options)


def test_few_codes_have_the_number_of_gaussians_with_the_least_bic():
    """Twelve validation rows of 60 do not tell four clumps beside each other from one Gaussian."""
    rng = np.random.default_rng(1)
    centers = np.array([[0.0, 0.0], [3.0, 0.0], [1.5, 2.5], [4.5, 2.5]])
    rows = centers[rng.integers(4, size=60)] + 0.6 * rng.normal(size=(60, 2))

    def bic(m):
        found = fit_mixture(rows, 0, n_components=m)
        return (6 * m - 1) * np.log(len(rows)) - 2 * found.log_prob(rows).sum()

    least = min((1, 2, 4), key=bic)
    assert fit_mixture(rows, 0, bic_rows=60).n_components == least == 4
    assert fit_mixture(rows, 0, bic_rows=59).n_components == 1


def test_independent_columns_have_the_density_of_the_formula_for_all():
    """Where a covariance is diagonal, rows are divided by deviations instead of solving a system."""
    draw = np.random.default_rng(0)
    means, variances, codes = draw.normal(size=(2, 5)), draw.uniform(0.1, 2, size=(2, 5)), draw.normal(size=(20, 5))
    found = Mixture([0.3, 0.7], means, variances[:, None] * np.eye(5)).log_prob(codes)
    each = [scipy.stats.norm(m, np.sqrt(v)).logpdf(codes).sum(1) for m, v in zip(means, variances, strict=True)]
    np.testing.assert_allclose(found, np.logaddexp(np.log(0.3) + each[0], np.log(0.7) + each[1]), rtol=1e-12)


@pytest.mark.parametrize("changes", [{"KEPT_CELLS": 0, "PART_CELLS": 1, "LEAST_ROWS": 70}, {"MOST_PAIRS": 1}])
def test_products_that_are_not_kept_or_too_many_change_nothing(monkeypatch, changes):
    """They are computed in each iteration then, or rows are whitened for each Gaussian."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(150, 3)), 3 + rng.normal(size=(150, 3)) @ rng.normal(size=(3, 3))])
    rows = (rows - rows.mean(0)) / rows.std(0)
    shares = torch.from_numpy(rng.dirichlet(np.ones(2), 300).T.copy())
    expected = improved(Products(torch.from_numpy(rows), True), [shares], 1, 0.0)
    for name, value in changes.items():
        monkeypatch.setattr(expectation_maximisation, name, value)
    products = Products(torch.from_numpy(rows), True)
    literal = [np.cov(rows.T, aweights=share, bias=True) + 1e-6 * np.eye(3) for share in shares.numpy()]
    np.testing.assert_allclose(Gaussians.of(products, shares).covariances.numpy(), literal, rtol=1e-10, atol=1e-12)
    joint = [
        math.log(w) + multivariate_normal(mean, covariance).logpdf(rows)
        for w, mean, covariance in zip(
            expected.weights.numpy(), expected.means.numpy(), expected.covariances.numpy(), strict=True
        )
    ]
    assert [part.is_kept for part in products.parts] == ([False] * 5 if "KEPT_CELLS" in changes else [True])
    np.testing.assert_allclose(expected.log_joint(products).numpy(), joint, rtol=1e-9)
    np.testing.assert_allclose(expected.score_samples(rows), np.logaddexp(*joint), rtol=1e-9)


@pytest.mark.parametrize("is_full", [True, False])
def test_the_criterion_is_schwarz_s(is_full):
    """-2 log L + p log n, with p the means, the weights but one, and the covariances' different numbers."""
    rows = np.random.default_rng(1).normal(size=(60, 3))
    found = Gaussians.of(Products(torch.from_numpy(rows), is_full), torch.full((2, 60), 0.5, dtype=torch.float64))
    literal = -2 * found.score_samples(rows).sum() + (2 * 3 + 1 + 2 * (6 if is_full else 3)) * math.log(60)
    assert found.bic(rows) == pytest.approx(literal)


def test_shares_that_are_next_to_nothing_are_cut_at_a_number_that_changes_no_other():
    """The smaller share is e^(30 x - 450), from e^-450 to 1; smaller ones than e^-60 = 9e-27 become that."""
    rows, means = np.linspace(0, 30, 121)[:, None], [0.0, 30.0]
    half, ones = torch.full((2,), 0.5, dtype=torch.float64), torch.ones(2, 1, 1, dtype=torch.float64)
    found = Gaussians(half, torch.tensor(means, dtype=torch.float64)[:, None], ones, True)
    shares, densities = found.of_part(Products(torch.from_numpy(rows), True))
    joint = np.log(0.5) + np.stack([scipy.stats.norm(mean).logpdf(rows[:, 0]) for mean in means])
    np.testing.assert_allclose(shares.numpy(), scipy.special.softmax(joint, axis=0), rtol=1e-10, atol=1e-26)
    np.testing.assert_allclose(densities.numpy(), scipy.special.logsumexp(joint, axis=0), rtol=1e-11, atol=1e-11)
    assert shares.min() > 1e-30
