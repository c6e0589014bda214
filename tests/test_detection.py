"""From scores to alarms: p-values, false discoveries and drift beside literal versions; tails beside their formula."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from eigencode.detection import conformal
from eigencode.detection.calibration import Calibration
from eigencode.detection.tails import ColumnTails, Tail, pareto
from eigencode.errors import DataError, OptionError

quick = settings(max_examples=60, derandomize=True, deadline=None)

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


@settings(quick)
@given(rows=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=2, max_size=12))
def test_p_values_are_at_most_a_level_no_more_often_than_it_says(rows):
    """Each of some rows, which may be equal, is the new one with a probability in proportion to its weight."""
    scores, weights = np.array(rows, dtype=float).T
    for given_weights in (np.ones(len(rows)), weights):
        p, own = np.empty(len(rows)), given_weights / given_weights.sum()
        for new in range(len(rows)):
            others, its = np.delete(scores, new), np.delete(given_weights, new)
            (p[new],) = conformal.p_values(scores[new : new + 1], others, its, given_weights[new : new + 1])
            (largest,) = conformal.p_values(scores[new : new + 1], others, its)
            assert given_weights[new] > its.max() or largest >= p[new]
        for level in p:
            assert own[p <= level].sum() <= level + 1e-12
        if given_weights is not weights and len(set(scores)) == len(scores):
            np.testing.assert_allclose(np.sort(p), np.arange(1, len(p) + 1) / len(p))


@settings(quick, max_examples=20)
@given(rows=st.lists(st.integers(-9, 9), min_size=5, max_size=5), weight=st.floats(-1, 2))
def test_p_values_of_several_models_keep_what_is_proved(rows, weight):
    """Over all orders of five rows, of which the last one is new, and each of two models leaves two others out."""

    def scored(row, learned):
        return abs(row - weight * np.mean(learned))

    parts, p = ((0, 1), (2, 3)), []
    for order in itertools.permutations(rows):
        learned = [[order[i] for i in range(4) if i not in part] for part in parts]
        scores = np.array([scored(order[i], learned[k]) for k, part in enumerate(parts) for i in part])
        known = np.argsort(scores, kind="stable")
        calibration = Calibration(scores[known], np.ones(4), np.array([0, 0, 1, 1])[known])
        p.append(calibration.p_values(np.array([[scored(order[4], learned[k]) for k in range(2)]]))[0])
    for level in {*p}:
        assert (np.array(p) <= level).mean() <= calibration.proved(level) + 1e-12


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


@pytest.mark.parametrize("level", [0.01, 0.03, 0.05, 0.07, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("most", [1, 20, 178, 333])
def test_a_level_is_attained_with_the_most_rows_that_use_it_up(level, most):
    def attained(m):
        return max(k for k in range(m + 1) if k / (m + 1) <= level) / (m + 1)

    m = conformal.rows_within(most, level)
    if most < conformal.rows_needed(level):
        assert m == most
    else:
        assert level - level / (m + 1) < attained(m) <= level
        assert all(attained(more) <= attained(m) for more in range(m + 1, most + 1))


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


def test_several_models_hold_the_share_of_false_discoveries(rng):
    """Nothing is proved of it; here each of five models is a mean and a covariance of four fifths of 100 rows."""
    shares, found = [], []
    for _ in range(100):
        rows, new = rng.standard_t(5, size=(100, 4)), rng.standard_t(5, size=(100, 4))
        new[80:] += 8
        parts, scores, own = np.array_split(np.arange(100), 5), np.empty((100, 5)), np.empty(100)
        for k, part in enumerate(parts):
            learned = np.delete(rows, part, axis=0)
            inverse = np.linalg.inv(np.cov(learned.T))
            both = np.concatenate([rows[part], new]) - learned.mean(0)
            distances = np.einsum("ij,jk,ik->i", both, inverse, both)
            own[part], scores[:, k] = distances[: len(part)], distances[len(part) :]
        order = np.argsort(own)
        reported = Calibration(own[order], np.ones(100), order // 20).discoveries(scores, 0.2)
        shares.append(reported[:80].sum() / max(reported.sum(), 1))
        found.append(reported[80:].mean())
    assert np.mean(shares) < 0.2 * 80 / 100 + 4 * np.std(shares) / 10
    assert np.mean(found) > 0.5


# -- drift


def calibrated(scores, weights=None):
    order = np.argsort(scores)
    weights = np.ones(len(scores)) if weights is None else weights
    return Calibration(scores[order], weights[order], np.zeros(len(scores), dtype=int))


def test_drift_is_found_from_p_values_as_from_scores(rng):
    """Only at the scores of the held-out rows are both distribution functions compared."""
    for _ in range(20):
        held_out, new = rng.normal(size=50), rng.normal(0.5, 1, size=70)
        known = calibrated(held_out)
        literal = max(
            abs((held_out >= s).mean() - (new > np.append(-np.inf, np.sort(held_out))[i]).mean())
            for i, s in enumerate(np.sort(held_out))
        )
        found = scipy.stats.ks_2samp(known.p_values(new[:, None]), known.p_values(held_out[:, None])).statistic
        assert found == pytest.approx(literal)
        assert found <= scipy.stats.ks_2samp(held_out, new).statistic <= found + 1 / 50 + 1e-12
        assert known.drift(known.p_values(new[:, None])) >= scipy.stats.ks_2samp(held_out, new).pvalue
    assert known.drift(known.p_values(rng.normal(1, 1, size=(100, 1)))) < 1e-3


@pytest.mark.parametrize("anomalies", [0.0, 0.1])
@pytest.mark.parametrize("digits", [0, 9])
def test_unchanged_rows_give_warnings_no_more_often_than_promised(rng, anomalies, digits):
    """Held-out rows are not taken for the whole distribution; equal scores and a share of anomalies are no drift."""
    p = []
    for _ in range(200):
        known, new = calibrated(rng.normal(size=60).round(digits)), rng.normal(size=(400, 1)).round(digits)
        new[: round(anomalies * 400)] += 9
        p.append(known.drift(known.p_values(new), anomalies))
    for level in (0.01, 0.1):
        assert np.mean(np.array(p) < level) < level + 4 * math.sqrt(level * (1 - level) / 200)
    assert known.drift(known.p_values(new + 9), anomalies) < 1e-3


def test_many_batches_give_a_warning_no_more_often_than_the_sum_of_their_levels(rng):
    """All are compared with the same held-out rows, so warnings of one fit come together."""
    warned = []
    for _ in range(100):
        known = calibrated(rng.normal(size=60))
        p = [known.drift(known.p_values(rng.normal(size=(50, 1)))) for _ in range(10)]
        warned.append([each < 0.05 / 10 for each in p])
    has_any = np.any(warned, axis=1)
    assert has_any.mean() < 0.05 + 4 * math.sqrt(0.05 * 0.95 / 100)


def test_weights_are_part_of_what_is_unchanged(rng):
    """Held-out rows from U(0, 1), new ones with the density 2x."""
    weighted, plain = [], []
    for _ in range(200):
        x, new = rng.uniform(size=200), np.sqrt(rng.uniform(size=(100, 1)))
        for found, known in ((weighted, calibrated(x, x)), (plain, calibrated(x))):
            found.append(known.drift(known.p_values(new)))
    assert np.mean(np.array(weighted) < 0.1) < 0.1 + 4 * math.sqrt(0.1 * 0.9 / 200)
    assert np.mean(np.array(plain) < 0.1) > 0.9
    assert known.drift(known.p_values(rng.uniform(size=(100, 1)) / 2)) < 1e-3


# -- tails


def test_a_tail_counts_the_rows_that_score_as_much(rng):
    scores = rng.integers(0, 30, 200).astype(float)
    literal = [-math.log((scores >= s).sum() / 201) for s in scores]
    assert Tail.of(scores)(scores) == pytest.approx(literal, abs=1e-12)


@pytest.mark.parametrize("values", [np.arange(30.0), np.arange(-2.0, 3.0), np.zeros(3), 1e-9 * np.arange(4.0)])
def test_a_tail_does_not_tell_equal_scores_apart_that_were_rounded(values, rng):
    """As distances between rows of whole numbers are."""
    scores = rng.choice(values, 400)
    size = np.maximum(np.abs(scores), np.abs(values).max())
    tail = Tail.of(scores + 1e-13 * size * rng.uniform(-1, 1, 400))
    exact = Tail.of(scores)(scores)
    for _ in range(3):
        np.testing.assert_allclose(tail(scores + 1e-13 * size * rng.uniform(-1, 1, 400)), exact, atol=1e-5)


def test_scores_near_to_each_other_keep_their_order(rng):
    """Beside their size they differ by less than rounding is thought to be, but their tail is not flat."""
    scores = 1e4 + rng.uniform(size=5000)
    exact = -np.log((scores <= scores[:, None]).mean(0))
    assert np.exp(-Tail.of(scores)(scores)) == pytest.approx(np.exp(-exact), abs=0.03)


def test_a_tail_is_the_survival_function_of_the_pareto_distribution_beyond_the_largest(rng):
    scores = rng.standard_t(3, size=500)
    tail = Tail.of(scores)
    assert tail.shape > 0
    far = scores.max() * np.array([1.0, 1.5, 4.0, 100.0])
    survival = scipy.stats.genpareto(tail.shape, loc=tail.start, scale=tail.scale).logsf(far)
    assert tail(far) - math.log(501) == pytest.approx(survival[0] - survival, abs=1e-9)


def test_a_surprise_is_as_rare_as_one_in_any_column(rng):
    """The share of rows with one of c independent columns as surprising, if all columns are alike."""
    known, new = rng.exponential(size=(1000, 7)), rng.exponential(size=(4000, 7))
    tails = ColumnTails.of(known)
    largest = tails(new).max(1)
    shares = [(largest >= level).mean() for level in (0.5, 1.0, 2.0, 3.0)]
    np.testing.assert_allclose(shares, np.exp([-0.5, -1.0, -2.0, -3.0]), atol=0.05)
    assert (np.diff(tails(np.repeat(np.linspace(0, 1e3, 500)[:, None], 7, axis=1)), axis=0) > 0).all()
    heavy = ColumnTails.of(known * [30, 1, 1, 1, 1, 1, 1])(np.full((1, 7), 20.0))[0]
    assert heavy[0] < heavy[1:].min() - 0.5


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
