"""Scaling: statistics, the rule for one scale or many, and the inverse."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris, load_wine

from eigencode.batch import Batch
from eigencode.data.scaling import ColumnStatistics, Scaler, columns_are_commensurate
from eigencode.data.sources import CHUNK_ROWS, ArraySource


def statistics(array):
    return ColumnStatistics.of(ArraySource(np.asarray(array)))


def fit(array, scale="auto"):
    return Scaler.fit(ArraySource(np.asarray(array)), scale)


def test_statistics_merge_over_chunks_as_if_read_at_once():
    array = np.random.default_rng(0).normal(3, 2, size=(2 * CHUNK_ROWS + 17, 4))
    found = statistics(array)
    np.testing.assert_allclose(found.mean, array.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.deviation, array.std(0), rtol=1e-12)
    assert (found.minimum == array.min(0)).all()
    assert (found.maximum == array.max(0)).all()


@pytest.mark.parametrize("dtype", ["?", "i1", "u8", "f2", "f4", ">f4", "f8", "g"])
def test_statistics_are_in_float64(dtype):
    array = np.random.default_rng(0).integers(0, 9, size=(1000, 3)).astype(dtype)
    found = statistics(array)
    assert {values.dtype for values in (found.mean, found.deviation, found.minimum, found.maximum)} == {np.dtype("f8")}
    np.testing.assert_allclose(found.deviation, array.astype("f8").std(0), rtol=1e-12)
    assert (found.maximum == array.max(0)).all()


def test_a_large_offset_costs_no_precision():
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(3 * CHUNK_ROWS, 2))
    np.testing.assert_allclose(statistics(spread + 1e6).deviation, spread.std(0), rtol=1e-9)


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
def test_the_inverse_is_exact_and_has_the_jacobian(cancer, scale):
    scaler = fit(cancer, scale)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(cancer)), cancer, rtol=1e-12, atol=1e-15)
    assert scaler.log_jacobian == pytest.approx(-np.log(scaler.divisor))


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, 0.0, -3])
@pytest.mark.parametrize("scale", ["auto", "common", "standard", "none"])
def test_a_constant_column_is_not_divided_by_a_small_number(value, scale):
    array = np.column_stack([np.full(20_000, value), np.random.default_rng(0).normal(size=20_000)])
    assert statistics(array).constant.tolist() == [True, False]
    scaler = fit(array, scale)
    assert np.isfinite(scaler.transform(array)).all()
    assert scaler.divisor[0] > 0.1


@pytest.mark.parametrize("value", [3.0, -1e16, 1.7e18, 1e40, 1e300])
def test_rounding_in_a_constant_column_does_not_change_a_common_divisor(value):
    array = np.random.default_rng(0).normal(size=(60, 5))
    array[:, 2] = 0.0
    divisor = fit(array, "common").divisor
    array[:, 2] = value
    np.testing.assert_array_equal(fit(array, "common").divisor, divisor)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, bool])
def test_every_numeric_type_scales_as_float64_does(dtype):
    array = np.random.default_rng(0).integers(0, 2, size=(50, 3)).astype(dtype)
    np.testing.assert_allclose(fit(array).transform(array), fit(array.astype(float)).transform(array.astype(float)))


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-170, 1e-100, 1e100, 1e160, 1e300])
@pytest.mark.parametrize("scale", ["auto", "common", "standard"])
def test_columns_of_any_size_are_scaled(scale, size):
    """As their copies near 1 are, up to the digits that numbers of such a size have."""
    usual = np.random.default_rng(0).normal(3, 2, size=(2 * CHUNK_ROWS, 3)).round(1) * 10
    array = usual * size
    digits = 1e-12 if size > 1e-300 else 0.2 if size == 5e-324 else 1e-9
    rounding = max(1e-323, 1e-14 * np.abs(array).max())
    scaler = fit(array, scale)
    assert scaler.constant == []
    assert np.isfinite(scaler.limit)
    np.testing.assert_allclose(scaler.transform(array), fit(usual, scale).transform(usual), atol=8 * digits)
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(array)), array, rtol=1e-12, atol=rounding)
    weights = np.random.default_rng(1).uniform(0.5, 2, len(array))
    weighted = Scaler.fit(ArraySource(array), scale, weights)
    expected = Scaler.fit(ArraySource(usual), scale, weights)
    np.testing.assert_allclose(weighted.transform(array), expected.transform(usual), atol=8 * digits)


def test_a_column_may_change_its_size_from_chunk_to_chunk():
    array = np.ones((3 * CHUNK_ROWS, 2))
    array[:, 0] = np.repeat([1e-200, 1e-120, 1e-190], CHUNK_ROWS)
    array[:, 1] = np.repeat([0.0, 1e250, -1e170], CHUNK_ROWS)
    found = statistics(array)
    np.testing.assert_allclose(found.mean, np.array([1e-120, 1e250]) / 3, rtol=1e-12)
    np.testing.assert_allclose(found.deviation, np.array([1e-120, 1e250]) * np.std([0, 0, 1]), rtol=1e-12)


def test_the_largest_numbers_of_both_signs_are_scaled():
    array = np.array([[-1.7e308, 1.0], [1.7e308, 2.0], [1.7e308, 3.0]])
    scaled = fit(array, "standard").transform(array)
    np.testing.assert_allclose(scaled.std(0), 1)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-15)


def test_columns_of_very_different_sizes_are_scaled_together():
    sizes = np.array([1e-300, 1e-27, 1.0, 1e30, 1e300])
    array = np.random.default_rng(0).normal(size=(50, 5)) * sizes
    scaler = fit(array)
    assert scaler.kind == "standard"
    np.testing.assert_allclose(scaler.transform(array).std(0), 1)


def test_the_limit_clips_no_fitted_row(cancer):
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
def test_divisors_beyond_float32s_range_are_applied_in_float64(size):
    rows = (np.random.default_rng(0).normal(size=(50, 3)) * size).astype(np.float32)
    scaler = Scaler("standard", np.zeros(3), np.full(3, size), 10.0)
    got = np.concatenate(list(scaler.chunks(rows, np.float32)))
    np.testing.assert_allclose(got, rows.astype(np.float64) / size, rtol=1e-6)


# -- constant columns


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("value", [3, 0, 1e9, 1e-9, -0.1, 1e300, 5e-324])
def test_a_constant_column_comes_back_as_its_value_whatever_the_network_says(value, dtype):
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(dtype)
    with np.errstate(over="ignore"):
        rows[:, 1] = np.array(value).astype(dtype) if abs(value) < 1e30 else 7
    scaler = fit(rows)
    answer_type = np.float32 if dtype == np.float32 else np.float64
    assert 1 in scaler.constant
    assert (scaler.transform(rows)[:, 1] == 0).all()
    rebuilt = scaler.inverse_transform(np.full((50, 3), 0.3, np.float32), answer_type)
    assert (rebuilt[:, 1] == rows[:, 1]).all()


def test_rounding_in_a_constant_column_is_not_taken_for_a_value():
    """Beside a column of far smaller spread, which divides both."""
    rows = np.random.default_rng(0).normal(size=(50, 2)) * 1e-12
    rows[:, 1] = 1e9
    rows[::2, 1] = np.nextafter(1e9, 2e9)
    scaler = fit(rows, "common")
    assert scaler.constant == [1]
    assert (scaler.transform(rows)[:, 1] == 0).all()
    assert scaler.limit < 100


def test_a_column_that_varies_later_is_no_longer_constant():
    rows = np.array([[1.0, 0.1, 3.0], [2.0, 0.1, 3.0]])
    scaler = fit(rows)
    assert scaler.constant == [1, 2]
    assert scaler.updated(rows) == scaler
    assert scaler.updated(rows.astype(np.float32)).constant == [1, 2]
    rows[1, 2] = 3.5
    assert scaler.updated(rows).constant == [1]


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (7, 3), (341, 3), (343, 3), (1000, 1), (5, 600), (2000, 20)])
def test_the_ends_of_columns_are_those_of_rows_taken_one_by_one(shape):
    numbers = np.arange(shape[0])[:, None]
    rows = np.where(numbers % 2, -numbers, numbers) + np.random.default_rng(0).random(shape)  # the last are the ends
    rows[np.random.default_rng(1).random(shape) < 0.2] = np.nan
    low, high = np.full(shape[1], np.inf), np.full(shape[1], -np.inf)
    for row in rows:
        low, high = np.fmin(low, row), np.fmax(high, row)
    found = statistics(rows)
    known = ~np.isnan(rows).all(0)
    assert np.array_equal(found.minimum, np.where(known, low, 0.0))
    assert np.array_equal(found.maximum, np.where(known, high, 0.0))
    for x, observed in ((np.nan_to_num(rows), None), (rows, ~np.isnan(rows))):
        if len(rows):
            ends = Batch(torch.from_numpy(x), None if observed is None else torch.from_numpy(observed)).range()
            expected = (x.min(0), x.max(0)) if observed is None else (found.minimum, found.maximum)
            assert all(np.array_equal(one.numpy(), other) for one, other in zip(ends, expected, strict=True))
