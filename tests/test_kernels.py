"""Kernel densities of codes: the bandwidth by leaving out each code, beside the formula as loops."""

import numpy as np
import pytest
import scipy.special
from scipy.stats import multivariate_normal

from eigencode.model import fit_density, fit_mixture, kernels


def clumps(seed):
    """Codes in twenty clumps, some of them twice."""
    draw = np.random.default_rng(seed)
    codes = np.repeat(draw.normal(size=(20, 3)), 8, 0) + 0.02 * draw.normal(size=(160, 3))
    return np.concatenate([codes, codes[::9]])


def centers(mixture, codes, s):
    """The component of each code, and the mean of the Gaussian around it."""
    parts = zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    nearest = np.argmax([np.log(w) + multivariate_normal(mean, cov).logpdf(codes) for w, mean, cov in parts], axis=0)
    return nearest, mixture.means[nearest] + np.sqrt(1 - s**2) * (codes - mixture.means[nearest])


def gains(mixture, codes, s):
    """What each code gains over the mixture by the Gaussians of the codes that differ from it."""
    each = [
        multivariate_normal(mean, s**2 * mixture.covariances[c]).logpdf(codes)
        for c, mean in zip(*centers(mixture, codes, s), strict=True)
    ]
    is_same = (codes[:, None] == codes).all(2)
    scores = scipy.special.logsumexp(np.where(is_same, -np.inf, each), axis=0) - np.log(len(codes))
    return scores - mixture.log_prob(codes)


@pytest.mark.parametrize("seed", range(3))
def test_the_bandwidth_has_the_largest_likelihood_of_codes_left_out(seed):
    codes = clumps(seed)
    mixture = fit_mixture(codes, 0, n_components=2)
    found = kernels._smoothed(mixture, codes)
    s = max(kernels.BANDWIDTHS, key=lambda each: gains(mixture, codes, each).mean())
    of_codes = gains(mixture, codes, s)
    assert of_codes.mean() > of_codes.std() / np.sqrt(len(codes))
    nearest, means = centers(mixture, codes, s)
    np.testing.assert_allclose(found.weights, 1 / len(codes))
    np.testing.assert_allclose(found.means, means, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.covariances[found.groups], (s**2 * mixture.covariances)[nearest], rtol=1e-10)


def test_a_gain_within_its_standard_error_keeps_the_mixture():
    codes = np.random.default_rng(29).normal(size=(30, 1))  # this very seed
    mixture = fit_mixture(codes, 0, bic_rows=kernels.BIC_ROWS)
    each = [gains(mixture, codes, s) for s in kernels.BANDWIDTHS]
    best = max(each, key=np.mean)
    assert 0.001 < best.mean() < 0.9 * best.std() / np.sqrt(30)
    assert fit_density(codes, 0).n_components == mixture.n_components


def test_exponentials_that_are_cut_change_no_sum():
    logarithms = np.random.default_rng(0).uniform(-90, 0, size=(2000, 30))
    logarithms[:, :10] -= 800
    logarithms[:5] = -np.inf
    expected = scipy.special.logsumexp(logarithms, axis=0)
    np.testing.assert_allclose(kernels.log_sums(logarithms), expected, rtol=1e-14, atol=1e-13)
    lone = np.concatenate([[[0.0]], np.full((2000, 1), -1e5)])
    assert kernels.log_sums(lone) == 0.0  # 2,000 times e^-60 is less than the last digit of 1
