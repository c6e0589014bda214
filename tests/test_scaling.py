"""Scaling: statistics, the rule for one scale or many, and the way back."""

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris, load_wine

from eigencode.data.scaling import ColumnStatistics, Scaler, columns_are_commensurate
from eigencode.data.sources import CHUNK_ROWS, ArraySource
from eigencode.errors import DataError


def statistics(array):
    return ColumnStatistics.of(ArraySource(np.asarray(array)))


def fit(array, scale="auto"):
    return Scaler.fit(ArraySource(np.asarray(array)), scale)


def test_statistics_merge_over_chunks_as_if_read_at_once():
    array = np.random.default_rng(0).normal(3, 2, size=(2 * CHUNK_ROWS + 17, 4))
    found = statistics(array)
    np.testing.assert_allclose(found.mean, array.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.variance, array.var(0), rtol=1e-12)
    assert (found.minimum == array.min(0)).all()
    assert (found.maximum == array.max(0)).all()


def test_a_large_offset_costs_no_precision():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(3 * CHUNK_ROWS, 2))
    np.testing.assert_allclose(statistics(spread + 1e6).variance, spread.var(0), rtol=1e-9)


@pytest.mark.parametrize(
    ("data", "commensurate"),
    [("digits", True), ("cancer", False), (load_wine, False), (load_iris, False), (load_diabetes, True)],
)
def test_pixels_share_a_range_and_measurements_do_not(request, data, commensurate):
    array = request.getfixturevalue(data) if isinstance(data, str) else data().data
    assert columns_are_commensurate(statistics(array)) == commensurate


def test_common_keeps_the_columns_proportions(digits):
    scaler = fit(digits)
    assert scaler.kind == "common"
    scaled = scaler.transform(digits)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    assert scaled.var(0).mean() == pytest.approx(1)
    assert len(set(scaler.divisor)) == 1


def test_standard_gives_each_column_unit_variance(cancer):
    scaled = fit(cancer, "standard").transform(cancer)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.var(0), 1)


def test_none_only_centres(cancer):
    np.testing.assert_allclose(fit(cancer, "none").transform(cancer), cancer - cancer.mean(0), atol=1e-9)


@pytest.mark.parametrize("scale", ["common", "standard", "none"])
def test_the_way_back_is_exact_and_the_jacobian_is_its_own(cancer, scale):
    scaler = fit(cancer, scale)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(cancer)), cancer, rtol=1e-12, atol=1e-15)
    assert scaler.log_jacobian == pytest.approx(-np.log(scaler.divisor).sum())


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, 0.0, -3])
@pytest.mark.parametrize("scale", ["auto", "common", "standard", "none"])
def test_a_constant_column_is_divided_by_nothing_small(value, scale):
    array = np.column_stack([np.full(20_000, value), np.random.default_rng(0).normal(size=20_000)])
    assert statistics(array).constant.tolist() == [True, False]
    scaler = fit(array, scale)
    assert np.isfinite(scaler.transform(array)).all()
    assert scaler.divisor[0] > 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, bool])
def test_every_numeric_type_scales_as_float64_does(dtype):
    array = np.random.default_rng(0).integers(0, 2, size=(50, 3)).astype(dtype)
    np.testing.assert_allclose(fit(array).transform(array), fit(array.astype(float)).transform(array.astype(float)))


def test_huge_values_are_scaled_or_refused_in_words():
    array = np.random.default_rng(0).normal(size=(20, 2)) * 1e30
    np.testing.assert_allclose(fit(array).transform(array).var(0).mean(), 1)
    array[3, 1] = 1e300
    with pytest.raises(DataError, match=r"columns \[1\].*Divide those columns"):
        fit(array)


def test_the_limit_leaves_every_fitted_row_alone(cancer):
    scaler = fit(cancer)
    assert scaler.limit == pytest.approx(10 * np.abs(scaler.transform(cancer)).max())
    assert fit(np.zeros((5, 2))).limit == 10


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e6])
def test_float32_rows_are_scaled_as_well_in_float32_as_in_float64(offset):
    """To a few roundings of the result, however far the columns are from zero, in any layout."""
    rows = (np.random.default_rng(0).normal(size=(3000, 40)) * np.logspace(-3, 3, 40) + offset).astype(np.float32)
    scaler = fit(rows, "standard")
    locked = rows.copy()
    locked.setflags(write=False)
    for array in (rows, np.asfortranarray(rows), rows[::2], rows[::-1], locked):
        before = array.copy()
        got = np.concatenate(list(scaler.chunks(array, np.float32)))
        exact = (array.astype(np.float64) - scaler.center) / scaler.divisor
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, exact, rtol=4e-7, atol=4e-7)
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize("size", [1e-40, 1e36])
def test_scales_beyond_float32s_range_are_divided_by_in_float64(size):
    rows = (np.random.default_rng(0).normal(size=(50, 3)) * size).astype(np.float32)
    scaler = Scaler("standard", np.zeros(3), np.full(3, size), 10.0)
    got = np.concatenate(list(scaler.chunks(rows, np.float32)))
    np.testing.assert_allclose(got, rows.astype(np.float64) / size, rtol=1e-6)
