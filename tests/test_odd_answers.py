"""Answers for odd columns: written to files, in several blocks, and far from the rows fitted."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from eigencode import Autoencoder, LinearAutoencoder
from eigencode.data import block_sources
from eigencode.data.files import table_writer
from eigencode.errors import CellTypeError, DataError, FileError

pytestmark = pytest.mark.versions

N = 40
ROWS = np.random.default_rng(0).normal(size=N)
SPARSE = pd.arrays.SparseArray(np.where(ROWS > 0, ROWS, 0.0), fill_value=0.0)

COLUMNS = {
    "categories of several types": (pd.Series(pd.Categorical(["a", 1, 2.5, None] * 10)), ["a", "1", "2.5"]),
    "categories that are intervals": (pd.cut(pd.Series(ROWS), [-9, 0, 9]), ["(-9, 0]", "(0, 9]"]),
    "cells of several types": (pd.Series(["a", 1, 2.5, True] * 10, dtype=object), ["a", "1", "2.5", "True"]),
    "sets": (pd.Series([frozenset([1]), frozenset([2])] * 20), None),
    "objects": (pd.Series([object() for _ in range(N)]), None),
    "sparse floats": (pd.Series(SPARSE), None),
    "sparse integers": (pd.Series(pd.arrays.SparseArray([0, 0, 7, 8] * 10)), None),
    "sparse booleans": (pd.Series(pd.arrays.SparseArray([True, False] * 20)), None),
}


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv"])
@pytest.mark.parametrize("name", COLUMNS)
def test_columns_without_an_arrow_type_are_written(name, ending, tmp_path, monkeypatch):
    monkeypatch.setattr(block_sources, "rows_of_block", lambda n_columns: 16)
    column, texts = COLUMNS[name]
    frame = pd.DataFrame({"x": ROWS, "odd": column})
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(frame)
    path = tmp_path / f"rows.{ending}"
    for answer in (model.impute, model.reconstruct):
        answer(frame, output=path)
        read = {"parquet": pd.read_parquet, "arrow": pd.read_feather, "csv": pd.read_csv}[ending](path)
        assert list(read) == ["x", "odd"]
        assert len(read) == N
        if texts is not None:
            assert set(read["odd"]) <= set(texts)
        elif name.startswith("sparse") and answer == model.impute:
            expected = frame["odd"].tolist()
            assert read["odd"].tolist() == pytest.approx(expected, rel=1e-14)  # CSV is rounded by pandas 2.2


def test_an_npy_file_of_text_says_which_formats_have_text(tmp_path):
    frame = pd.DataFrame({"x": ROWS, "c": ["a", "b"] * 20})
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(frame)
    with pytest.raises(CellTypeError, match=r"column 'c'.*write a \.parquet"):
        model.impute(frame, output=tmp_path / "rows.npy")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:X has gaps")
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_all_blocks_are_written_in_the_types_of_the_first(ending, tmp_path, monkeypatch):
    monkeypatch.setattr(block_sources, "rows_of_block", lambda n_columns: 20)
    fitted = pd.DataFrame({"x": ROWS, "i": np.arange(N) % 7, "c": ["a", "b", "a", None] * 10})
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(fitted)
    given = fitted.astype({"i": float, "c": object})
    given.loc[[3, 33], "i"] = np.nan  # two blocks of whole numbers that are floats by their gaps
    given.loc[:19, "c"] = None  # a block without a type before one of text
    path = tmp_path / f"rows.{ending}"
    model.impute(given, output=path)
    read = (pd.read_parquet if ending == "parquet" else pd.read_feather)(path)
    assert read["i"].dtype == np.int64
    assert read["c"].tolist() == model.impute(given)["c"].tolist()


@pytest.mark.filterwarnings("ignore:X has gaps")
@pytest.mark.parametrize("ending", ["parquet", "arrow", "npy"])
def test_fractions_after_whole_numbers_make_a_column_of_floats(ending, tmp_path, monkeypatch):
    fitted = pd.DataFrame({"i": np.arange(N) % 7, "j": np.arange(N) % 5})
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(fitted)
    given = fitted.astype(float)
    given.loc[[3, 13, 23, 33], ["i", "j"]] = np.nan
    given.loc[30, "i"] = 1.5
    expected = model.impute(given)
    assert expected["i"].dtype == np.float64
    whole = given.isna() & (given.index.to_numpy()[:, None] != 33)  # filled where the block had whole numbers only
    expected = expected.where(~whole, expected.round())
    monkeypatch.setattr(block_sources, "rows_of_block", lambda n_columns: 10)
    path = tmp_path / f"rows.{ending}"
    model.impute(given, output=path)
    if ending == "npy":
        np.testing.assert_array_equal(np.load(path), expected.to_numpy())
    else:
        read = (pd.read_parquet if ending == "parquet" else pd.read_feather)(path)
        pd.testing.assert_frame_equal(read, expected)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_type_grows_only_to_one_that_holds_all_cells(ending, tmp_path):
    path = tmp_path / f"rows.{ending}"
    blocks = [pa.table({"c": pa.array(cells)}) for cells in ([None], [1, 2], [2.5], [None], [3])]
    with table_writer(path) as write:
        for block in blocks:
            write(block)
    read = (pa.parquet.read_table if ending == "parquet" else pa.feather.read_table)(path)
    assert read["c"].to_pylist() == [None, 1.0, 2.0, 2.5, None, 3.0]
    for first, then in ([2**60 + 1], [2.5]), ([1], ["a"]), ([True], ["a"]):
        with table_writer(tmp_path / f"other.{ending}") as write:
            write(pa.table({"c": pa.array(first)}))
            with pytest.raises(DataError, match="'c' has another one from row 1 on"):
                write(pa.table({"c": pa.array(then)}))


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("number", [2.0, 0.5, 2, -1])
def test_booleans_before_other_numbers_are_written_as_numbers(number, ending, tmp_path):
    """Arrow makes True of all numbers but 0 without an error."""
    path = tmp_path / f"rows.{ending}"
    with table_writer(path) as write:
        for cells in ([True, None, False], [type(number)(1), None], [number]):
            write(pa.table({"c": pa.array(cells)}))
    read = (pa.parquet.read_table if ending == "parquet" else pa.feather.read_table)(path)["c"]
    assert read.type == pa.array([number]).type
    assert read.to_pylist() == [1, None, 0, 1, None, number]


@pytest.mark.filterwarnings("ignore:X has gaps")
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_known_cells_keep_their_digits_in_later_blocks(ending, tmp_path, monkeypatch):
    """Arrow rounds floats to decimals and float32 without an error, and its floats of decimals are not the nearest."""
    cents = [f"{number / 100:.2f}" for number in range(N)]
    fitted = pa.table({"d": pa.array([Decimal(cell) for cell in cents]), "f": pa.array(ROWS, pa.float32()), "x": ROWS})
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(fitted)
    mask = np.arange(N) % 10 == 3
    decimals, floats = np.array(cents, float), ROWS.astype(np.float32).astype(float)
    decimals[-1], floats[-1] = 1.2345, 0.1
    given = pa.table({"d": pa.array(decimals, mask=mask), "f": pa.array(floats, mask=mask), "x": ROWS})
    monkeypatch.setattr(block_sources, "rows_of_block", lambda n_columns: 10)
    path = tmp_path / f"rows.{ending}"
    model.impute(given, output=path)
    read = (pa.parquet.read_table if ending == "parquet" else pa.feather.read_table)(path)
    for name, known in (("d", decimals), ("f", floats)):
        np.testing.assert_array_equal(read[name].to_numpy()[~mask], known[~mask])


def test_an_arrow_file_takes_labels_that_come_later(tmp_path):
    path = tmp_path / "labels.arrow"
    kind = pa.dictionary(pa.int8(), pa.string())
    cells = [["a", "b", None], ["z", "b", None], ["a", None, "z"]]
    with table_writer(path) as write:
        for block in cells:
            write(pa.table({"c": pa.array(block, kind)}))
    with pa.ipc.open_file(path) as file:
        found = file.read_all()
    assert found.schema.field("c").type == kind
    assert found["c"].to_pylist() == [cell for block in cells for cell in block]
    for first, then in (([None], ["a"]), ([f"{i}" for i in range(100)], [f"{i}" for i in range(100, 200)])):
        with table_writer(tmp_path / "other.arrow") as write:
            write(pa.table({"c": pa.array(first, kind)}))
            with pytest.raises(DataError, match="'c' has another one from row"):
                write(pa.table({"c": pa.array(then, kind)}))


def test_sparse_columns_come_back_sparse():
    frame = pd.DataFrame({"x": ROWS, "s": SPARSE})
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(frame)
    for answer in (model.reconstruct(frame), model.impute(frame), model.sample(3, random_state=0)):
        assert answer.dtypes.to_dict() == frame.dtypes.to_dict()


DAYS = [datetime.date(2020, 1, 1) + datetime.timedelta(days=i) for i in range(N)]
TIMES = {
    "dates": pa.array(DAYS),
    "seconds": pa.array(DAYS).cast(pa.timestamp("s")),
    "microseconds of Berlin": pa.array(DAYS).cast(pa.timestamp("us")).cast(pa.timestamp("us", "Europe/Berlin")),
    "nanoseconds": pa.array(DAYS).cast(pa.timestamp("ns")),
    "durations in ms": pa.array([datetime.timedelta(days=i) for i in range(N)], pa.duration("ms")),
    "durations in ns": pa.array([datetime.timedelta(days=i) for i in range(N)], pa.duration("ns")),
    "times of a day": pa.array([datetime.time(i % 24, i) for i in range(N)], pa.time64("us")),
    "times of a day in s": pa.array([datetime.time(i % 24, i) for i in range(N)], pa.time32("s")),
    "text": pa.array(map(str, DAYS)),
}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("name", TIMES)
def test_times_of_any_code_can_be_shown(name, library, tmp_path):
    x = np.arange(N) * 1.0
    table = pa.table({"x": x, "t": TIMES[name], "y": 2 * x})
    frame = {"pandas": table.to_pandas, "polars": lambda: pl.from_arrow(table), "pyarrow": lambda: table}[library]()
    model = LinearAutoencoder(1, random_state=0).fit(frame)
    for far in (-1e14, -1e6, -30, 30, 1e6, 1e14):
        cells = model.inverse_transform(model.transform(frame)[:1] * far)["t"]
        if name.endswith("Berlin") and library == "pandas" and cells.iloc[:1].lt(pd.Timestamp("1700", tz="UTC")).any():
            continue  # as text, it ends the process in pandas 2.2.0
        (cell,) = cells.to_pylist() if library == "pyarrow" else cells.to_list()
        assert cell is not None
        assert cell == cell
        if library == "pandas":
            assert type(cells.iloc[0]) is type(frame["t"].iloc[0])


@pytest.mark.filterwarnings("ignore:X has gaps")
@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_periods_of_a_file_come_back_as_periods(ending, tmp_path):
    frame = pd.DataFrame({"x": ROWS, "p": pd.period_range("2020-01", periods=N, freq="M")})
    path, filled = tmp_path / f"rows.{ending}", tmp_path / f"filled.{ending}"
    write, read = (getattr(pd.DataFrame, f"to_{ending}"), getattr(pd, f"read_{ending}"))
    write(frame, path)
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(path)
    given = frame.assign(p=frame["p"].where(frame.index != 3))
    write(given, path)
    model.impute(path, output=filled)
    answer = read(filled)
    assert answer["p"].dtype == "period[M]"
    assert answer["p"].notna().all()
    assert answer["p"].drop(3).equals(frame["p"].drop(3))
    assert model.impute(path).equals(pa.table(answer, schema=model.impute(path).schema))
    model.impute(path, output=tmp_path / "filled.csv")
    assert len(pd.read_csv(tmp_path / "filled.csv")) == N


def test_categories_that_pandas_cannot_read_again_are_named(tmp_path):
    frame = pd.DataFrame({"x": ROWS, "odd": pd.cut(ROWS, [-9, 0, 9])})
    frame.to_feather(tmp_path / "rows.feather")
    # Older versions of pandas read the schema, and pyarrow finds no rows.
    expected = r"are intervals.*columns 'odd'.*astype\(str\)|cannot be read as Arrow IPC"
    with pytest.raises((DataError, FileError), match=expected):
        Autoencoder(1).fit(tmp_path / "rows.feather")
