"""The scores of the benchmarks have the values that closed forms give."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def table(script):
    """Two numbers and two categories, with gaps."""
    frame = pd.DataFrame(
        {
            "size": [1.0, np.nan, 3.0, 8.0],
            "colour": ["red", "blue", None, "red"],
            "sold": [True, False, True, True],
            "count": [4, 5, 6, 7],
        }
    )
    mixed_tables = script("mixed_tables")
    return mixed_tables.Table("shop", frame, [mixed_tables.values_of(frame[name]) for name in frame])


def test_a_table_as_a_matrix_and_as_cells(script, table):
    matrix = table.matrix(table.frame)
    expected = [[1, 1, 1, 4], [np.nan, 0, 0, 5], [3, np.nan, 1, 6], [8, 1, 1, 7]]
    np.testing.assert_array_equal(matrix, expected)
    cells = script("mixed_tables").Cells(table, matrix)
    encoded = cells.encode(matrix)
    np.testing.assert_array_equal(encoded[:, 1:5], [[0, 1, 0, 1], [1, 0, 1, 0], [np.nan, np.nan, 0, 1], [0, 1, 0, 1]])
    assert encoded[:, 5].mean() == pytest.approx(0)
    assert encoded[:, 5].std() == pytest.approx(1)
    np.testing.assert_allclose(cells.decode(encoded)[[0, 3]], matrix[[0, 3]])
    np.testing.assert_allclose(cells.raw(cells.standardised(matrix)), matrix)


def test_a_file_without_a_header(script, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("25, Private, <=50K\n38, ?, >50K\n?, State-gov, <=50K\n40, Private, >50K\n")
    (table,) = script("mixed_tables").tables([str(path)])
    assert table.values == [None, ["Private", "State-gov"], ["<=50K", ">50K"]]
    np.testing.assert_array_equal(table.matrix(table.frame)[:3], [[25, 0, 0], [38, np.nan, 1], [np.nan, 1, 0]])


def test_the_energy_score_of_a_point_is_the_absolute_error(script):
    truth, hidden = np.array([[1.0], [2.0], [5.0]]), np.array([[True], [True], [False]])
    found = script("imputation").energy_score(np.array([[[3.0], [1.5], [0.0]]]), truth, hidden)
    assert found == pytest.approx((2 + 0.5) / 2)


def test_the_energy_score_of_draws(script):
    """Of two draws E|X - y| - |a - b| / 2; of many normal ones the closed form; of two cells the distance."""
    score, all_hidden = script("imputation").energy_score, np.array([[True]])
    assert score(np.array([[[0.0]], [[4.0]]]), np.array([[1.0]]), all_hidden) == pytest.approx((1 + 3) / 2 - 4 / 2)
    draws = norm.ppf((np.arange(400) + 0.5) / 400)[:, None, None]
    expected = 0.7 * (2 * norm.cdf(0.7) - 1) + 2 * norm.pdf(0.7) - np.pi**-0.5
    assert score(draws, np.array([[0.7]]), all_hidden) == pytest.approx(expected, abs=0.01)
    point, hidden = np.array([[[3.0, 4.0, 9.0]]]), np.array([[True, True, False]])
    assert score(point, np.zeros((1, 3)), hidden) == pytest.approx(5 / np.sqrt(2))


def test_the_log_loss_of_frequencies(script):
    imputation = script("imputation")
    shares = imputation.frequencies(np.array([[0, 2], [0, 1], [1, 1]]), 3)
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3, 0], [0, 2 / 3, 1 / 3]])
    found = imputation.log_loss(shares, np.array([0.5, 0.25, 0.25]), np.array([0.0, 0.0]), 3)
    np.testing.assert_allclose(found, [-np.log((2 + 0.5) / 4), -np.log(0.5 / 4)])


def test_em_is_the_closed_form_where_one_column_has_gaps(script):
    """The maximum likelihood of a monotone pattern (Anderson 1957): a regression from the complete rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    x[150:, 1] = np.nan
    mean, covariance = script("imputation").expectation_maximization(x, 1000, 1e-10)
    slope, intercept = np.polyfit(x[:150, 0], x[:150, 1], 1)
    rest = np.var(x[:150, 1] - slope * x[:150, 0] - intercept)
    variance = np.var(x[:, 0])
    np.testing.assert_allclose(mean, [x[:, 0].mean(), intercept + slope * x[:, 0].mean()], atol=1e-5)
    expected = [[variance, slope * variance], [slope * variance, rest + slope**2 * variance]]
    np.testing.assert_allclose(covariance, expected, atol=1e-5)


def test_large_values_are_hidden_more_often(script):
    matrix = np.random.default_rng(0).permuted(np.tile(np.arange(4000.0), (2, 1)).T, axis=0)
    matrix[:100, 0] = np.nan
    hidden = script("imputation").hide(matrix, 0.3, "value", np.random.default_rng(1))
    assert not hidden[:100, 0].any()
    assert hidden.mean() == pytest.approx(0.3, abs=0.02)
    assert hidden[matrix > 3800].mean() == pytest.approx(0.6 * 3900 / 4000, abs=0.05)
    assert hidden[matrix < 200].mean() < 0.04


def test_a_forest_tells_only_what_differs(script):
    auc, rng = script("sampling").auc, np.random.default_rng(0)
    drawn, real = rng.normal(size=(2, 150, 3))
    assert auc(drawn, real, 0) == pytest.approx(0.5, abs=0.1)
    assert auc(drawn[:30] + 9, real[:30], 0) == 1


def test_marginals_and_pairs(script):
    sampling = script("sampling")
    assert sampling.total_variation(np.array([0.0, 0, 1, 1]), np.array([0.0, 2, 2, 2]), 3) == pytest.approx(0.75)
    groups, number = np.repeat([0.0, 1, 2], 50), np.repeat([5.0, 1, 7], 50)
    assert sampling.related(groups, groups, False, False) == pytest.approx(1)
    assert sampling.related(groups, np.tile([0.0, 1], 75), False, False) == pytest.approx(0)
    assert sampling.related(number, groups, True, False) == pytest.approx(1)
    assert sampling.related(number, -2 * number, True, True) == pytest.approx(-1)
    assert sampling.related(np.ones(150), groups, True, False) == 0


def test_drawn_numbers_are_rounded_as_the_data_are(script):
    real = np.array([[1.0, 0.25], [4.0, 0.5]])
    found = script("sampling").rounded(np.array([[3.7, 0.258], [9.0, 0.1]]), real)
    np.testing.assert_allclose(found, [[4, 0.26], [4, 0.25]])


def test_a_copula_keeps_marginals_and_correlation(script, table):
    rng = np.random.default_rng(0)
    a = rng.exponential(size=4000)
    matrix = np.column_stack([a, a > 1, rng.random(4000) < 0.2, a + 0.1 * rng.random(4000)]).astype(float)
    drawn = script("sampling").copula(table, None, matrix, 4000, 0)
    np.testing.assert_allclose(drawn.mean(0), matrix.mean(0), atol=0.06)
    assert set(drawn[:, 0]) <= set(a)
    assert np.corrcoef(drawn[:, 0], drawn[:, 3])[0, 1] > 0.98
