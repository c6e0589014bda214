"""From scores to alarms: p-values, false discoveries and drift beside literal versions; tails beside their formula."""

import math

import numpy as np
import pytest
import scipy.stats

from eigencode.detection import conformal
from eigencode.detection.tails import Tail, pareto
from eigencode.errors import DataError, OptionError

LEVELS = [0.01, 0.05, 0.07, 0.1, 0.29, 0.5]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def literal_p_value(score, held_out, weights, own):
    above = sum(w for s, w in zip(held_out, weights, strict=True) if s >= score)
    return (own + above) / (own + sum(weights))


# -- p-values


def test_p_values_count_the_held_out_rows_that_score_as_much(rng):
    held_out, scores = rng.integers(0, 9, 40).astype(float), np.arange(-1, 10) / 1.0
    found = conformal.p_values(scores, held_out)
    assert found == pytest.approx([literal_p_value(s, held_out, np.ones(40), 1) for s in scores], abs=1e-12)
    assert found[0] == 1
    assert found[-1] == 1 / 41


def test_weighted_p_values_sum_the_weights(rng):
    held_out, scores, weights = rng.normal(size=30), rng.normal(size=8), rng.uniform(size=30)
    own = rng.uniform(size=8)
    literal = [literal_p_value(s, held_out, weights, w) for s, w in zip(scores, own, strict=True)]
    assert conformal.p_values(scores, held_out, weights, own) == pytest.approx(literal, abs=1e-12)
    largest = [literal_p_value(s, held_out, weights, weights.max()) for s in scores]
    assert conformal.p_values(scores, held_out, weights) == pytest.approx(largest, abs=1e-12)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n_rows", [99, 100, 19])
def test_a_score_above_the_threshold_has_a_p_value_of_at_most_the_level(rng, level, n_rows):
    held_out = rng.integers(0, 60, n_rows).astype(float)
    scores = np.concatenate([held_out, held_out + 0.5, [-1.0, 100.0]])
    limit = conformal.threshold(held_out, level)
    assert ((scores > limit) == (conformal.p_values(scores, held_out) <= level)).all()


def test_the_rate_of_false_alarms_is_exact_in_the_mean(rng):
    """For scores without ties, P(p <= a) = floor(a (m + 1)) / (m + 1), whatever their distribution."""
    n_fits, m, n_new = 400, 50, 50
    for level in (0.05, 0.1):
        rates = []
        for _ in range(n_fits):
            held_out, new = rng.lognormal(size=m), rng.lognormal(size=n_new)
            rates.append(float((conformal.p_values(new, held_out) <= level).mean()))
        expected = math.floor(level * (m + 1)) / (m + 1)
        assert abs(np.mean(rates) - expected) < 4 * np.std(rates) / math.sqrt(n_fits)


def test_weights_correct_a_known_shift(rng):
    """Held-out rows from U(0, 1), new ones with the density 2x: weights x give the level, equal weights do not."""
    weighted, plain = [], []
    for _ in range(300):
        x, new = rng.uniform(size=100), np.sqrt(rng.uniform(size=50))
        weighted.append(float((conformal.p_values(new, x, x, new) <= 0.1).mean()))
        plain.append(float((conformal.p_values(new, x) <= 0.1).mean()))
    error = np.std(weighted) / math.sqrt(300)
    assert np.mean(weighted) < 0.1 + 4 * error
    assert np.mean(weighted) > 0.1 - 1 / 50 - 4 * error  # the mean weight of one row
    assert np.mean(plain) > 0.15


@pytest.mark.parametrize(("level", "n_rows"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.5, 1), (0.3, 3), (1 / 49, 48)])
def test_so_many_rows_are_needed_for_a_level(level, n_rows):
    assert conformal.rows_needed(level) == n_rows
    conformal.require_level(level, n_rows)
    assert conformal.smallest_level(n_rows) <= level < conformal.smallest_level(n_rows - 1)
    with pytest.raises(DataError, match=f"at least {n_rows} rows held out .*Got {n_rows - 1}"):
        conformal.require_level(level, n_rows - 1)
    assert conformal.threshold(np.arange(n_rows - 1.0), level) == math.inf


@pytest.mark.parametrize("level", [0.01, 0.03, 0.05, 0.07, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("about", [1, 20, 333])
def test_a_level_is_attained_with_a_suitable_number_of_rows(level, about):
    m = conformal.rows_near(about, level)
    attained = (conformal.p_values(np.arange(m + 1) - 0.5, np.arange(m)) <= level).mean()  # each gap is as likely
    assert level - level / (m + 1) < attained <= level
    assert abs(m - about) <= 0.5 / level + 1 or m == conformal.rows_needed(level)


@pytest.mark.parametrize("level", [0.0, 1.0, -1, math.nan])
def test_a_rate_is_a_probability(level):
    with pytest.raises(OptionError, match="between 0 and 1"):
        conformal.require_level(level, 1000)


# -- batches


def test_discoveries_are_those_of_benjamini_and_hochberg(rng):
    p = np.concatenate([rng.uniform(size=30), rng.uniform(high=0.02, size=10)])
    ascending = np.sort(p)
    k = max((i for i in range(1, 41) if ascending[i - 1] <= i * 0.1 / 40), default=0)
    found = conformal.discoveries(p, 0.1)
    assert found.sum() == k > 5
    assert p[found].max() == ascending[k - 1]
    assert not conformal.discoveries([], 0.1).size


def test_the_share_of_false_discoveries_is_at_most_the_rate(rng):
    shares = []
    for _ in range(200):
        held_out = rng.normal(size=200)
        new = np.concatenate([rng.normal(size=80), rng.normal(5, 1, size=20)])
        found = conformal.discoveries(conformal.p_values(new, held_out), 0.2)
        shares.append(found[:80].sum() / max(found.sum(), 1))
    assert np.mean(shares) < 0.2 * 80 / 100 + 4 * np.std(shares) / math.sqrt(200)
    assert np.mean(shares) > 0.08  # and it reports rows


def test_drift_is_found_and_the_held_out_rows_are_not_taken_for_the_whole_distribution(rng):
    p = [conformal.drift(rng.normal(size=500), rng.normal(size=50)) for _ in range(200)]
    assert np.mean(np.array(p) < 0.1) < 0.1 + 4 * math.sqrt(0.1 * 0.9 / 200)
    assert conformal.drift(rng.normal(1, 1, size=100), rng.normal(size=50)) < 1e-3


# -- tails


def test_a_tail_counts_the_rows_that_score_as_much(rng):
    scores = rng.integers(0, 30, 200).astype(float)
    literal = [-math.log((scores >= s).sum() / 201) for s in scores]
    assert Tail.of(scores)(scores) == pytest.approx(literal, abs=1e-12)


def test_a_tail_is_the_survival_function_of_the_pareto_distribution_beyond_the_largest(rng):
    scores = rng.standard_t(3, size=500)
    tail = Tail.of(scores)
    assert tail.shape > 0
    far = scores.max() * np.array([1.0, 1.5, 4.0, 100.0])
    survival = scipy.stats.genpareto(tail.shape, loc=tail.start, scale=tail.scale).logsf(far)
    assert tail(far) - math.log(501) == pytest.approx(survival[0] - survival, abs=1e-9)


@pytest.mark.parametrize("shape", [0.0, 0.3])
def test_the_estimated_tail_is_that_of_the_distribution(rng, shape):
    """Over 100 samples, the mean of the estimates differs from the truth by at most 4 standard errors and the bias."""
    samples = scipy.stats.genpareto(shape, scale=2.0).rvs((100, 2000), random_state=rng)
    shapes, scales = np.array([pareto(sample) for sample in samples]).T
    assert abs(shapes.mean() - shape) < 4 * shapes.std() / 10 + 0.02
    assert abs(scales.mean() - 2.0) < 4 * scales.std() / 10 + 0.05


@pytest.mark.parametrize(
    "scores",
    [
        np.random.default_rng(1).normal(size=300),
        np.random.default_rng(1).standard_cauchy(size=300),
        np.random.default_rng(1).uniform(size=300),
        np.zeros(50),
        np.full(50, 1e-7),
        np.array([1.0, 2.0]),
        np.array([0.0, 0.0, 0.0, 1e5]),
        np.full(20, -3.0),
    ],
)
def test_no_two_far_rows_tie_and_none_is_infinite(scores):
    far = scores.max() + np.concatenate([[0.0], np.geomspace(1e-3, 1e200, 300)])
    values = Tail.of(scores)(far)
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()
    assert values[0] == pytest.approx(math.log((len(scores) + 1) / (scores == scores.max()).sum()))
