"""Odd columns of polars, Arrow and pandas: every answer has the types fitted, or the error is one of ours."""

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from eigencode import AnomalyDetector, Autoencoder
from eigencode.errors import DataError, OptionError

pytestmark = pytest.mark.versions

pytest.importorskip("pyarrow", minversion="20", reason="older versions cannot make all of these columns")

N = 30
DAY, HOUR = datetime.date(2020, 1, 1), datetime.timedelta(hours=1)
NOON = datetime.datetime(2020, 1, 1, 12)
NUMBERS = [i * i / 7 for i in range(N)]
TIMES = [NOON + i * HOUR for i in range(N)]
LABELS = ["a", "b", None] * (N // 3)


def with_gap(cells):
    return [None, *cells[1:]]


def frame_of(odd):
    """A frame of polars or Arrow with a column of numbers and an odd one."""
    x = [float(i % 7) for i in range(len(odd))]
    return pl.DataFrame({"x": x, "odd": odd}) if isinstance(odd, pl.Series) else pa.table({"x": x, "odd": odd})


def cells_of(frame):
    """The cells of the odd column; a NaN of polars and a missing label are None."""
    column = frame["odd"]
    found = [
        None if cell != cell else cell
        for cell in (column.to_list() if hasattr(column, "to_list") else column.to_pylist())
    ]
    return [cell.decode() if isinstance(cell, bytes) else cell for cell in found]


POLARS = {
    "one value": pl.Series([3.5] * N),
    "one value or a gap": pl.Series(with_gap([3.5] * N)),
    "one label": pl.Series(["a"] * N, dtype=pl.Categorical),
    "all gaps": pl.Series([None] * N),
    "all gaps of floats": pl.Series([None] * N, dtype=pl.Float64),
    "all gaps of text": pl.Series([None] * N, dtype=pl.String),
    "all gaps of categories": pl.Series([None] * N, dtype=pl.Categorical),
    "NaN beside nulls": pl.Series([float("nan"), None, *NUMBERS[2:]]),
    "all NaN": pl.Series([float("nan")] * N),
    "days before 1900": pl.Series([datetime.date(1700 + i, 1, 1) for i in range(N)]),
    "days with a gap": pl.Series(with_gap([DAY + i * 24 * HOUR for i in range(N)])),
    "times of Berlin": pl.Series(with_gap(TIMES)).dt.replace_time_zone("Europe/Berlin"),
    "milliseconds": pl.Series(TIMES, dtype=pl.Datetime("ms")),
    "nanoseconds": pl.Series(TIMES, dtype=pl.Datetime("ns")),
    "times of a day": pl.Series(with_gap([datetime.time(i % 24, i) for i in range(N)])),
    "durations": pl.Series(with_gap([i * HOUR for i in range(N)])),
    "durations in ms": pl.Series([i * HOUR for i in range(N)], dtype=pl.Duration("ms")),
    "booleans": pl.Series([True, False, None] * 10),
    "int8": pl.Series(with_gap(list(range(-15, 15))), dtype=pl.Int8),
    "uint64": pl.Series([2**63 + 2**40 * i * i for i in range(N)], dtype=pl.UInt64),
    "int128": pl.Series([2**80 * i for i in range(N)], dtype=pl.Int128),
    "float32": pl.Series(with_gap(NUMBERS), dtype=pl.Float32),
    "decimals": pl.Series(with_gap([decimal.Decimal(i * i) / 4 for i in range(N)])),
    "categories": pl.Series(LABELS, dtype=pl.Categorical),
    "enums": pl.Series(LABELS, dtype=pl.Enum(["z", "b", "a"])),
    "one enum": pl.Series(["a"] * N, dtype=pl.Enum(["z", "b", "a"])),
    "text": pl.Series(LABELS),
    "empty text": pl.Series(["", "a", None] * 10),
    "numerals": pl.Series([f"{i % 3}" for i in range(N)]),
    "many numerals": pl.Series(with_gap([f"{i}" for i in range(N)])),
    "text that is days": pl.Series([f"2020-01-{i + 1:02}" for i in range(N)]),
    "free text": pl.Series([f"a long text of number {i * 7 % 30}" for i in range(N)]),
    "identifiers": pl.Series([f"id{i}" for i in range(N)]),
    "bytes": pl.Series([b"a", b"b", None] * 10),
    "lists": pl.Series([[1, 2], [3], None] * 10),
    "arrays": pl.Series([[1, 2], [3, 4], None] * 10, dtype=pl.Array(pl.Int64, 2)),
    "structs": pl.Series([{"a": 1, "b": "x"}, {"a": 2, "b": None}, None] * 10),
    "objects": pl.Series([{1}, object(), None] * 10, dtype=pl.Object),
    "400 labels": pl.Series([f"label {i % 5000} {i // 10}" for i in range(400)] * 2, dtype=pl.Categorical),
}

ARROW = {
    "one value": pa.array([3.5] * N),
    "one label": pa.array(["a"] * N).dictionary_encode(),
    "all gaps": pa.nulls(N),
    "all gaps of floats": pa.nulls(N, pa.float64()),
    "all gaps of text": pa.nulls(N, pa.string()),
    "all gaps of labels": pa.nulls(N, pa.dictionary(pa.int8(), pa.string())),
    "all gaps of times": pa.nulls(N, pa.timestamp("us")),
    "NaN beside nulls": pa.array([float("nan"), None, *NUMBERS[2:]]),
    "float16": pa.array(np.arange(N).astype(np.float16) / 7),
    "float32": pa.array(with_gap(NUMBERS), pa.float32()),
    "int8": pa.array(with_gap(list(range(-15, 15))), pa.int8()),
    "uint64": pa.array([2**63 + 2**40 * i * i for i in range(N)], pa.uint64()),
    "large integers": pa.array([2**60 + i * i for i in range(N)]),
    "decimals": pa.array(with_gap([decimal.Decimal(i * i) / 4 for i in range(N)]), pa.decimal128(12, 3)),
    "large decimals": pa.array([decimal.Decimal(i) * 10**30 for i in range(N)], pa.decimal256(50, 2)),
    "days": pa.array(with_gap([datetime.date(1700 + i, 1, 1) for i in range(N)]), pa.date32()),
    "days as ms": pa.array([DAY + i * 24 * HOUR for i in range(N)], pa.date64()),
    "times in s": pa.array(with_gap(TIMES), pa.timestamp("s")),
    "times in ns": pa.array(TIMES, pa.timestamp("ns")),
    "times of Berlin": pa.array(with_gap(TIMES), pa.timestamp("us", "Europe/Berlin")),
    "times of an offset": pa.array(TIMES, pa.timestamp("ms", "+05:30")),
    "times before 1900": pa.array([datetime.datetime(1600 + i, 1, 1) for i in range(N)], pa.timestamp("us")),
    "times of a day in s": pa.array([datetime.time(i % 24, i) for i in range(N)], pa.time32("s")),
    "times of a day in ns": pa.array(with_gap([datetime.time(i % 24, i) for i in range(N)]), pa.time64("ns")),
    "durations": pa.array(with_gap([i * HOUR for i in range(N)]), pa.duration("s")),
    "intervals of months": pa.array([(i, 1, 0) for i in range(N)], pa.month_day_nano_interval()),
    "booleans": pa.array([True, False, None] * 10),
    "text": pa.array(LABELS),
    "large text": pa.array(LABELS, pa.large_string()),
    "views": pa.array(LABELS, pa.string_view()),
    "labels": pa.array(LABELS).dictionary_encode(),
    "labels by int8": pa.array(LABELS, pa.dictionary(pa.int8(), pa.string())),
    "large labels": pa.array(LABELS, pa.dictionary(pa.int32(), pa.large_string())),
    "labels with an order": pa.DictionaryArray.from_arrays([0, 2, None] * 10, ["low", "mid", "high"], ordered=True),
    "labels that are numbers": pa.array([5, 7, None] * 10).dictionary_encode(),
    "labels that are floats": pa.array([0.5, 1.5, None] * 10).dictionary_encode(),
    "labels that are times": pa.array(TIMES[:3] * 10).dictionary_encode(),
    "labels that are null": pa.DictionaryArray.from_arrays(pa.array([0, 1, 2] * 10), pa.array(["a", None, "b"])),
    "labels twice": pa.DictionaryArray.from_arrays(pa.array([0, 1, 2] * 10), pa.array(["a", "b", "a"])),
    "labels of bytes": pa.array([b"a", b"b", None] * 10).dictionary_encode(),
    "bytes": pa.array([b"a", b"b", None] * 10),
    "bytes of one length": pa.array([b"ab", b"cd", None] * 10, pa.binary(2)),
    "lists": pa.array([[1, 2], [3], None] * 10),
    "lists of one length": pa.array([[1, 2], [3, 4], None] * 10, pa.list_(pa.int64(), 2)),
    "structs": pa.array([{"a": 1}, {"a": 2}, None] * 10),
    "maps": pa.array([[("a", 1)], [("b", 2)], None] * 10, pa.map_(pa.string(), pa.int64())),
    "runs": pa.array([1.5, 2.5, 3.5] * 10).dictionary_encode().cast(pa.float64()),
    "chunks": pa.chunked_array([NUMBERS[:7], with_gap(NUMBERS[7:])]),
    "chunks of labels": pa.chunked_array([pa.array(["a", "b"] * 5).dictionary_encode(), ["c", "a"] * 10]),
    "400 labels": pa.array([f"label {i}" for i in range(400)] * 2).dictionary_encode(),
}
CASES = {
    f"{name} of {library}": odd
    for library, all_ in (("polars", POLARS), ("Arrow", ARROW))
    for name, odd in all_.items()
}
NEVER_MADE = ("lists", "arrays", "structs", "maps", "objects", "intervals", "bytes of one length")
"""Columns that are passed on in answers with the same rows; in rows drawn they are gaps without a type."""


@pytest.mark.parametrize("name", CASES)
def test_every_answer_has_the_types_fitted(name):
    frame = frame_of(CASES[name])
    if name == "int128 of polars":
        with pytest.raises(DataError, match="cannot be read"):
            Autoencoder(1).fit(frame)
        return
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(frame)
    assert len(model.transform(frame)) == len(frame)
    assert np.isfinite(model.score_samples(frame)).all()
    same = {"reconstruct": model.reconstruct(frame), "impute": model.impute(frame)}
    (same["draws"],) = model.impute(frame, n_draws=1, random_state=0)
    drawn = model.sample(5, random_state=0)
    for answer in (*same.values(), drawn):
        assert type(answer) is type(frame)
        if answer is not drawn or not name.startswith(NEVER_MADE):
            assert answer.schema == frame.schema
    known = [cell is not None for cell in cells_of(frame)]
    for name in ("impute", "draws"):
        assert [cell for cell, is_known in zip(cells_of(same[name]), known, strict=True) if is_known] == [
            cell for cell in cells_of(frame) if cell is not None
        ]


TABLES = {
    "no columns of polars": pl.DataFrame(),
    "no columns of Arrow": pa.table({}),
    "no rows of polars": pl.DataFrame({"x": [], "y": []}, schema={"x": pl.Float64, "y": pl.String}),
    "no rows of Arrow": pa.table({"x": pa.array([], pa.float64()), "y": pa.array([], pa.string())}),
    "one row of polars": pl.DataFrame({"x": [1.0], "y": ["a"]}),
    "two columns of one name": pa.table([[1.0, 2.0], ["a", "b"]], names=["x", "x"]),
    "text only": pl.DataFrame({"x": [f"a long text of number {i * 7 % 30}" for i in range(N)]}),
    "lists only": pa.table({"x": [[1], [2, 3]] * 15}),
    "gaps only": pl.DataFrame({"x": [None] * N}),
    "one value only": pa.table({"x": ["a"] * N}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_fitted_has_a_clear_error(name):
    with pytest.raises(DataError):
        Autoencoder(1, max_epochs=0).fit(TABLES[name])


@pytest.mark.parametrize("frame", [pl.DataFrame({"x": NUMBERS, "y": LABELS}), pa.table({"x": NUMBERS, "y": LABELS})])
def test_no_rows_after_a_fit_has_a_clear_error(frame):
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(frame)
    for question in (model.transform, model.reconstruct, model.impute, model.score_samples):
        with pytest.raises(DataError, match="0 sample"):
            question(frame[:0])


def test_kinds_of_columns_need_names_of_columns(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20, 2))
    np.save(tmp_path / "rows.npy", rows)
    for given in (rows, tmp_path / "rows.npy"):
        with pytest.raises(OptionError, match="'columns' needs rows whose columns have names.*Got rows without names"):
            Autoencoder(1, columns={"a": "count"}, max_epochs=1).fit(given)


def test_periods_beside_numbers_are_a_column_and_come_back_as_periods():
    rng = np.random.default_rng(0)
    months = pd.period_range("2020-01", periods=60, freq="M")
    frame = pd.DataFrame({"a": rng.normal(size=60), "month": months})
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(frame)
    assert not model.columns_.is_plain
    assert model.transform(frame).shape == (60, 1)
    drawn = model.sample(20, random_state=0)["month"]
    assert drawn.dtype == frame["month"].dtype
    assert drawn.between(months[0], months[-1]).all()
    detector = AnomalyDetector(autoencoder=Autoencoder(1, max_epochs=0), random_state=0).fit(frame)
    odd = frame[:1].assign(month=pd.period_range("2030-01", periods=1, freq="M"))
    (reason,) = detector.explain(odd, n_columns=1, output="records")[0]["reasons"]
    assert (reason["column"], reason["observed"], reason["direction"]) == ("month", "2030-01", "above")
    assert "2020-01" <= reason["expected"] <= "2024-12"
