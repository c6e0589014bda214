"""Frames as cells and back: kinds of columns, gaps, and what a model file keeps of them."""

import datetime
import decimal
import json
import re

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from eigencode.data.gaps import with_gaps
from eigencode.data.tables import Schema, hashing
from eigencode.errors import CellTypeError, DataError, OptionError
from eigencode.export.columns import TableColumns

pytestmark = pytest.mark.versions

N = 60


def made_frame():
    """Sixty rows with a column of each kind, gaps in some."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "height": rng.normal(170, 10, N),
            "rooms": rng.integers(1, 9, N).astype("int16"),
            "visits": rng.poisson(2, N) * rng.integers(1, 3, N),
            "income": rng.lognormal(3, 2, N),
            "gain": np.where(rng.random(N) < 0.7, 0.0, rng.lognormal(8, 1, N)),
            "share": rng.random(N),
            "member": rng.random(N) < 0.5,
            "paid": rng.integers(0, 2, N),
            "color": rng.choice(["red", "green", "blue"], N),
            "size": pd.Categorical(rng.choice(["S", "L"], N), categories=["S", "M", "L"], ordered=True),
            "grade": pd.Categorical(rng.choice(["b", "a"], N), categories=["c", "b", "a"]),
            "born": pd.date_range("1880-01-01", periods=N, freq="97D"),
            "seen": pd.date_range("2020-01-01", periods=N, freq="5h", tz="Europe/Berlin"),
            "wait": pd.to_timedelta(rng.integers(0, 9999, N), unit="s"),
            "unit": ["cm"] * N,
            "number": np.arange(N) + 1,
            "name": [f"person {i}" for i in range(N)],
        },
        index=pd.Index([f"row {i}" for i in range(N)], name="key"),
    )
    for column in ("height", "color", "size", "born", "seen", "wait", "gain"):
        frame.loc[frame.index[3], column] = None
    return frame


KINDS = {
    "height": "real",
    "rooms": "real",
    "visits": "count",
    "income": "positive",
    "gain": "zero-inflated",
    "share": "share",
    "member": "boolean",
    "paid": "boolean",
    "color": "category",
    "size": "ordered",
    "grade": "category",
    "born": "time",
    "seen": "time",
    "wait": "duration",
    "unit": "constant",
    "number": "identifier",
    "name": "text",
}


def kinds_of(schema):
    return {column.name: column.kind.kind for column in schema.columns}


def kind_of(cells, **options):
    """The one column's kind and reason."""
    frame = cells if isinstance(cells, pd.DataFrame) else pd.DataFrame({"x": cells})
    (column,) = Schema.infer(frame, **options).columns
    return column.kind.kind, column.reason


def there_and_back(frame):
    schema = Schema.infer(frame)
    return schema.decode(schema.encode(frame), frame)


def test_kinds_of_a_frame():
    schema = Schema.infer(made_frame())
    assert kinds_of(schema) == KINDS
    assert all(column.reason for column in schema.columns)


@pytest.mark.parametrize("library", ["pandas", "nullable", "pyarrow types", "polars", "pyarrow"])
def test_a_frame_comes_back(library):
    """Equal in type of frame, names and order of columns, types, categories, values, gaps and index."""
    frame = made_frame()
    if library == "nullable":
        frame = frame.convert_dtypes()
    if library == "pyarrow types":
        frame = frame.drop(columns=["size", "grade", "wait"]).convert_dtypes(dtype_backend="pyarrow")
    if library == "polars":
        frame = pl.from_pandas(frame)
    if library == "pyarrow":
        frame = pa.Table.from_pandas(frame, preserve_index=False)
    back = there_and_back(frame)
    assert type(back) is type(frame)
    if library == "polars":
        pl.testing.assert_frame_equal(back, frame)
    elif library == "pyarrow":
        assert back.schema.equals(frame.schema)
        pd.testing.assert_frame_equal(back.to_pandas(), frame.to_pandas(), rtol=1e-12)
    else:
        pd.testing.assert_frame_equal(back, frame, rtol=1e-12)


def test_libraries_agree():
    frame = made_frame().drop(columns=["size", "grade"])  # whose order polars does not take over
    schema = Schema.infer(frame)
    cells = schema.encode(frame)
    for other in (pl.from_pandas(frame), pa.Table.from_pandas(frame, preserve_index=False)):
        assert kinds_of(Schema.infer(other)) == kinds_of(schema)
        np.testing.assert_array_equal(Schema.infer(other).encode(other), cells)
        np.testing.assert_array_equal(schema.encode(other), cells)


def test_a_gap_is_nan_in_all_cells_of_its_block():
    frame = made_frame()
    schema = Schema.infer(frame)
    cells = schema.encode(frame)
    edges = np.cumsum([0, *(column.kind.width for column in schema.columns)])
    for column, first, last in zip(schema.columns, edges, edges[1:], strict=False):
        if last > first and column.kind.kind != "zero-inflated":
            gaps = np.isnan(cells[:, first:last])
            assert (gaps == frame[column.name].isna().to_numpy()[:, None]).all()


def test_blocks():
    families = [family for family, _ in Schema.infer(made_frame()).blocks]
    assert families == [
        "real", "real", "count", "real", "boolean", "real", "share", "boolean", "boolean",
        "category", "ordered", "category", "real", "real", "real",
    ]  # fmt: skip
    assert Schema.infer(made_frame()).n_cells == sum(width for _, width in Schema.infer(made_frame()).blocks)
    assert len(Schema.infer(made_frame()).cell_names) == Schema.infer(made_frame()).n_cells


def test_zero_inflated_cells():
    frame = pd.DataFrame({"gain": [0.0, np.e, np.nan, *([0.0] * 30), *np.exp(np.arange(12))]})
    schema = Schema.infer(frame)
    np.testing.assert_allclose(schema.encode(frame)[:3], [[1, np.nan], [0, 1], [np.nan, np.nan]])
    np.testing.assert_allclose(schema.log_jacobian(schema.encode(frame))[:3], [0, -1, 0])
    drawn = schema.decode(np.array([[0.4, 2.0], [0.6, 2.0]]))
    np.testing.assert_allclose(drawn["gain"], [np.exp(2), 0])


def test_log_jacobian_of_a_logged_column():
    """Log-densities by the logarithm's cells plus this are those of scipy's log-normal."""
    from scipy import stats

    frame = pd.DataFrame({"x": np.random.default_rng(0).lognormal(0, 2, 200)})
    schema = Schema.infer(frame)
    cells = schema.encode(frame)
    assert kinds_of(schema) == {"x": "positive"}
    found = stats.norm(0, 2).logpdf(cells[:, 0]) + schema.log_jacobian(cells)
    np.testing.assert_allclose(found, stats.lognorm(2).logpdf(frame["x"]), rtol=1e-12)


def test_an_unseen_category_and_rare_ones_share_a_cell():
    frame = pd.DataFrame({"x": ["a"] * 3000 + ["b"] * 2000 + ["rare"]})
    schema = Schema.infer(frame)
    cells = schema.encode(pd.DataFrame({"x": ["a", "b", "rare", "new", None]}))
    np.testing.assert_array_equal(cells, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [np.nan] * 3])
    assert schema.decode(cells)["x"].tolist()[:4] == ["a", "b", "rare", "rare"]
    assert schema.notes == ["1 rare category of column 'x' is taken as unseen ones are"]


def test_without_rare_categories_the_last_cell_decodes_to_none_of_its_own():
    schema = Schema.infer(pd.DataFrame({"x": ["a", "b"] * 30}))
    assert schema.decode(np.array([[0.2, 0.3, 0.5]]))["x"].tolist() == ["b"]


def test_ten_thousand_categories():
    codes = np.random.default_rng(0).zipf(1.2, 50_000) % 10_000
    frame = pd.DataFrame({"x": pd.Categorical([f"c{code}" for code in codes])})
    schema = Schema.infer(frame)
    assert schema.n_cells == 65 + 13
    assert re.search("[0-9]+ rare categories of column 'x' are told apart by 13 cells", schema.notes[0])
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame), frame), frame)
    rare = ~frame["x"].isin(schema.columns[0].kind.labels)
    assert (np.isnan(schema.encode(frame)[:, 65:]).all(1) == ~rare).all()
    unseen = schema.encode(pd.DataFrame({"x": ["new", None]}))
    assert unseen[0, 64] == 1
    assert np.isnan(unseen[:, 65:]).all()
    assert schema.decode(unseen)["x"].isna().tolist() == [False, True]
    drawn = schema.decode(np.random.default_rng(0).integers(0, 2, (999, 78)).astype(float))
    assert set(drawn["x"]) <= set(frame["x"])


def test_a_rare_category_is_as_likely_as_its_code():
    schema = Schema.infer(pd.DataFrame({"x": [f"c{i}" for i in range(80)] * 2}))
    cells = np.zeros((2, schema.n_cells))
    cells[:, 0], cells[:, 64] = 0.3, 0.7
    cells[0, 65:], cells[1, 65:] = 0.6, 0.99
    assert (schema.decode(cells)["x"] == schema.columns[0].kind.labels[0]).tolist() == [True, False]


@pytest.mark.parametrize("n_values", [1, 2, 3, 7, 8, 9, 1000, 9999])
def test_codes_are_all_different_and_every_pattern_of_bits_has_a_value(n_values):
    n_bits = (n_values - 1).bit_length()
    bits = hashing.bits_of(np.arange(n_values), n_values, n_bits)
    np.testing.assert_array_equal(hashing.numbers_of(bits, n_values), np.arange(n_values))
    numbers_in_bits = np.arange(2**n_bits)[:, None] >> np.arange(n_bits)[::-1] & 1
    assert set(hashing.numbers_of(numbers_in_bits, n_values).tolist()) == set(range(n_values))


def test_the_first_bits_of_a_code_say_what_a_category_is_like():
    """Whatever the order of the rows; without other columns the most frequent categories come first."""
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.repeat(np.arange(400), 5))
    x = rng.permutation(400)[codes] / 100 + 0.1 * rng.normal(size=2000)
    frame = pd.DataFrame({"city": [f"c{code}" for code in codes], "x": x, "y": rng.normal(size=2000)})
    kind = Schema.infer(frame).columns[0].kind
    means = frame.groupby("city")["x"].mean()[list(kind.rare)].to_numpy()
    assert means[: len(means) // 2].max() < means[len(means) // 2 :].min() + 0.2
    assert Schema.infer(frame.sample(frac=1, random_state=1)).columns[0].kind == kind
    alone = Schema.infer(frame[["city"]]).columns[0].kind
    assert alone.n_bits == kind.n_bits
    assert set(alone.rare) == set(kind.rare)


def test_numbers_written_as_text():
    text = [f"{i / 7:.4f}" for i in range(40)]
    frame = pd.DataFrame({"x": text})
    assert kind_of(frame)[0] == "real"
    assert kind_of(pd.Series([f"{i:05d}" for i in range(40)] * 3))[0] == "category"  # as postal codes
    np.testing.assert_allclose(there_and_back(frame)["x"].astype(float), frame["x"].astype(float))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1.0, 2.5], "real"),
        (["a", "b"], "category"),
        ([None, None], "constant"),
        ([np.nan] * 5, "constant"),
        (["a", "a", None], "constant"),
        ([True, None, False], "boolean"),
        ([decimal.Decimal("1.50"), None, decimal.Decimal("2.25")], "real"),
        ([datetime.date(1066, 10, 14), datetime.date(1215, 6, 15), None], "time"),
        ([datetime.time(8, 30), datetime.time(9, 0), None], "duration"),
        ([1, "a", 2.5, None, "a"], "category"),
        (["", "a", ""], "category"),
        (pd.array([1, None, 7], dtype="Int64"), "real"),
        (pd.array([True, None], dtype="boolean"), "constant"),
        (pd.arrays.SparseArray([0.0, 1.5, 0.0]), "real"),
    ],
)
def test_a_column_of_any_kind_comes_back(cells, kind):
    """In small frames, with gaps, of types with and without room for these."""
    frame = pd.DataFrame({"x": cells, "y": np.arange(len(cells)) / 3})
    schema = Schema.infer(frame)
    assert schema.columns[0].kind.kind == kind
    back = schema.decode(schema.encode(frame), frame)
    if kind == "constant":
        expected = [cell for cell in list(cells) if not pd.isna(cell)][:1] * len(cells) or [None] * len(cells)
        assert [None if pd.isna(cell) else cell for cell in back["x"]] == expected
    else:
        pd.testing.assert_frame_equal(back, frame)


def test_integers_beyond_the_floats():
    ids = np.arange(30) * 7 + 2**60
    frame = pd.DataFrame({"id": ids, "x": np.arange(30) / 3, "big": np.repeat([2**62, 1, 2**63 - 1], 10)})
    schema = Schema.infer(frame)
    assert kinds_of(schema)["id"] == "identifier"
    back = schema.decode(schema.encode(frame), frame)
    np.testing.assert_array_equal(back["id"], ids)
    assert (back["big"] == frame["big"])[:20].all()
    assert back["big"].iloc[-1] == 2**63 - 1024  # the next float


def test_drawn_rows_have_new_identifiers_and_no_text():
    frame = made_frame()
    schema = Schema.infer(frame)
    drawn = schema.decode(schema.encode(frame)[:4])
    assert drawn["number"].tolist() == [61, 62, 63, 64]
    assert drawn["name"].isna().all()
    assert list(drawn.columns) == list(frame.columns)


def test_decoded_numbers_stay_in_the_columns_bounds():
    frame = pd.DataFrame({"rooms": [1, 2, 7], "share": [0.1, 0.5, 1.0], "price": [0.0, 1.5, 2.0], "any": [-1.0, 0, 2]})
    back = Schema.infer(frame).decode(np.array([[2.6, 1.2, -0.5, -3.0], [-0.4, -0.1, 3.0, 9.0]]))
    assert back.to_dict("list") == {"rooms": [3, 1], "share": [1.0, 0.1], "price": [0.0, 2.0], "any": [-1.0, 2.0]}


def test_kinds_as_asked_for():
    frame = pd.DataFrame({"zip": [12345, 54321] * 10, "size": ["S", "M", "L", "M"] * 5, "x": np.arange(20) / 3})
    schema = Schema.infer(frame, columns={"zip": "category", "size": ["S", "M", "L"], "x": "real"})
    assert kinds_of(schema) == {"zip": "category", "size": "ordered", "x": "real"}
    assert schema.columns[1].kind.labels == ("S", "M", "L")
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame)), frame)
    assert schema.columns[0].reason == "as asked for"


def test_numbers_for_labels_that_are_numerals():
    """As of a Parquet file, where the fit read a CSV in which they were text."""
    schema = Schema.infer(pd.DataFrame({"zip": ["10115", "80331"] * 9, "x": np.arange(18) / 7}))
    cells = schema.encode(pd.DataFrame({"zip": [80331, 10115], "x": [0.5, 1]}))
    np.testing.assert_array_equal(cells[:, :3], [[0, 1, 0], [1, 0, 0]])


def test_kinds_that_cannot_be():
    frame = pd.DataFrame({"x": ["a", "b"], "y": [-1.0, 2.5]})
    with pytest.raises(OptionError, match="'columns' names a column that is not there. Got 'z'"):
        Schema.infer(frame, columns={"z": "real"})
    with pytest.raises(OptionError, match="Did you mean 'category'"):
        Schema.infer(frame, columns={"x": "categroy"})
    with pytest.raises(DataError, match="'x' should have numbers. Got 'a' in row 0"):
        Schema.infer(frame, columns={"x": "real"})
    with pytest.raises(DataError, match="Column 'y' cannot be a column of positive numbers"):
        Schema.infer(frame, columns={"y": "positive"})
    with pytest.raises(DataError, match="Column 'y' cannot be a column of counts"):
        Schema.infer(frame, columns={"y": "count"})


@pytest.mark.parametrize(("kind", "has_times"), [("timestamp[s]", True), ("duration[s]", True), ("int64", False)])
def test_cells_of_times_and_durations_are_seconds(kind, has_times):
    whole = pa.array(range(1, N, 3))
    columns = {"x": np.random.default_rng(0).normal(size=len(whole)), "y": whole.cast(pa.type_for_alias(kind))}
    assert Schema.infer(pa.table(columns)).has_times == has_times


def test_values_that_stand_for_gaps():
    frame = pd.DataFrame({"x": [1.5, -999, 2.5], "n": [1, -999, 5], "c": ["a", "?", "b"], "d": ["a", "?", "b"]})
    frame["d"] = frame["d"].astype("category")
    schema = Schema.infer(frame, missing_values=(-999, "?"))
    assert [column.n_gaps for column in schema.columns] == [1, 1, 1, 1]
    assert np.isnan(schema.encode(frame, missing_values=(-999, "?"))[1]).all()
    assert "-999" not in str(schema)


def test_a_number_stands_for_a_gap_in_columns_of_numbers_only():
    times = pd.to_datetime(["1970-01-01", "2020-01-01", "2021-01-01"])
    frame = pd.DataFrame({"x": [1.5, 0, -999], "b": [True, False, True], "t": times, "d": times - times[0]})
    schema = Schema.infer(frame, missing_values=(-999, 0))
    assert [column.n_gaps for column in schema.columns] == [2, 0, 0, 0]


def test_a_value_for_gaps_is_found_in_every_type_of_floats():
    for dtype in (np.float16, np.float32, np.float64):
        assert np.isnan(with_gaps(np.array([[-99.9, 1.0]], dtype), [-99.9])).tolist() == [[True, False]]
    infinite = np.array([[np.inf, 1.0]], np.float32)  # no gap: 1e39 has no room in float32
    assert np.isnan(with_gaps(infinite, [1e39, 1.0])).tolist() == [[False, True]]
    assert np.isnan(with_gaps(infinite, [np.inf])).tolist() == [[True, False]]
    assert with_gaps(np.array([[-99, 1]], np.int8), [-99.5, 10**6]).dtype == np.int8


def test_a_column_of_another_type_later():
    schema = Schema.infer(pd.DataFrame({"x": [1.5, 2.0, 3.5], "c": ["a", "b", "a"], "t": pd.to_datetime(["2020"] * 3)}))
    good = pd.DataFrame({"x": [1.0], "c": ["a"], "t": pd.to_datetime(["2021"])})
    assert schema.encode(good).shape == (1, 5)
    with pytest.raises(CellTypeError, match="Column 'x' should have numbers. Got 'seven' in row 1"):
        schema.encode(pd.DataFrame({"x": ["1.5", "seven"], "c": ["a", "a"], "t": pd.to_datetime(["2021"] * 2)}))
    with pytest.raises(CellTypeError, match="Column 'c' should have text, as in fitting"):
        schema.encode(good.assign(c=[3]))
    with pytest.raises(CellTypeError, match="Column 't' should have times. Got 'soon' in row 0"):
        schema.encode(good.assign(t=["soon"]))
    np.testing.assert_array_equal(schema.encode(good.assign(t=["2021-01-01"])), schema.encode(good))
    assert np.isnan(schema.encode(good.assign(c=[None], t=[None], x=[None]))).all()


@pytest.mark.parametrize("format_", ["%Y-%m-%d", "%d.%m.%Y", "%Y-%m-%dT%H:%M:%S"])
def test_times_written_as_text(format_):
    """They are times, before 1900 too, and come back as they were written; drawn ones are whole days or minutes."""
    texts = [f"{time:{format_}}" for time in pd.date_range("1850-01-31", periods=30, freq="9007min").as_unit("s")]
    frame = pd.DataFrame({"t": [None, *texts], "x": np.arange(31) / 7})
    schema = Schema.infer(frame)
    assert kinds_of(schema)["t"] == "time"
    cells = schema.encode(frame)
    pd.testing.assert_frame_equal(schema.decode(cells, frame), frame)
    unit = 60 if "T" in format_ else 86_400
    assert schema.columns[0].kind.unit == unit
    assert schema.decode(cells[[1]] + 0.4 * unit)["t"].tolist() == texts[:1]
    with pytest.raises(CellTypeError, match="'t' should have times, as .*Got 'soon' in row 1.*'missing_values'"):
        schema.encode(pd.DataFrame({"t": [texts[0], "soon"], "x": [0.5, 1]}))


def test_text_that_may_be_days_or_months_is_no_time():
    texts = [f"{1 + i % 12:02d}/{1 + i // 12:02d}/2001" for i in range(60)]
    frame = pd.DataFrame({"t": texts * 2, "x": np.arange(120) / 7})
    schema = Schema.infer(frame)
    assert kinds_of(schema)["t"] == "category"
    assert "write dates as year-month-day" in schema.notes[0]


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        ([None] * 30, "column 'odd' is left out: only gaps"),
        (
            [f"{i / 7:.3f}" for i in range(29)] + ["none"],
            "taken as text, because of 'none' in row 29: correct it",
        ),
        ([f"${i},000" for i in range(30)] * 2, r"because of '\$0,000' in row 0: write numbers without signs"),
        (["a", " a", "b"] * 10, "differ only by spaces or capitals, as ' a' and 'a'"),
        ([2**53 + 1, 2**53 + 2] * 15, "beyond 2\\*\\*53, which are rounded"),
        ([-999] * 3 + [i / 7 for i in range(27)], "is -999 in 3 rows: name it in 'missing_values'"),
        ([-99.5] * 3 + [i / 7 for i in range(27)], r"is -99\.5 in 3 rows: name it in 'missing_values'"),
        ([-99.5] * 3 + [-i / 7 for i in range(27)], r"is -99\.5 in 3 rows: name it in 'missing_values'"),
        ([-1] * 3 + [20, 21, 20] * 9, "is -1 in 3 rows: name it in 'missing_values'"),
        ([object() for _ in range(30)], "left out: cells of type object"),
        ([{i} for i in range(30)], "left out: cells of type set"),
    ],
)
def test_notes_on_odd_columns(cells, note):
    frame = pd.DataFrame({"odd": cells, "x": np.arange(len(cells)) / 7})
    assert re.search(note, " ".join(Schema.infer(frame).notes))


@pytest.mark.parametrize(
    "cells",
    [
        [-99.5] + [i / 7 for i in range(29)],  # once
        [0.0] * 3 + [20 + i / 70 for i in range(27)],  # nothing is no gap
        [-1] * 3 + [i % 5 for i in range(27)],  # near the others
        [40] * 3 + [20, 21, 20] * 9,  # others occur as often
    ],
)
def test_numbers_that_are_no_marks_of_gaps_have_no_note(cells):
    frame = pd.DataFrame({"odd": cells, "x": np.arange(len(cells)) / 7})
    assert "missing_values" not in " ".join(Schema.infer(frame).notes)


@pytest.mark.parametrize("as_text", [False, True])
def test_a_note_on_times_in_the_order_of_the_rows(as_text):
    times = pd.Series(pd.date_range("2024-01-01", periods=40, freq="h"))
    mixed = times.sample(frac=1, random_state=0, ignore_index=True)
    for seen, is_noted in [
        (times, True),
        (times[::-1], True),
        (times.where(times.dt.hour != 7), True),
        (times.dt.floor("D"), not as_text),  # two different texts are a category
        (mixed, False),
        (times[:19], False),
        (times.where(times.index % 20 == 0), False),
        (pd.Series([times[0]] * 40), False),
    ]:
        seen = seen.astype("string") if as_text else seen
        frame = pd.DataFrame({"seen": seen.array, "x": np.arange(len(seen)) / 7})
        assert any("in the order of the rows" in note for note in Schema.infer(frame).notes) == is_noted
    frame = pd.DataFrame({"seen": times, "x": np.arange(40) / 7})
    assert "in the order of the rows" not in "".join(Schema.infer(frame, columns={"seen": "identifier"}).notes)


def test_identifiers_that_are_no_floats_are_numbered_on():
    schema = Schema.infer(pd.DataFrame({"id": np.arange(30, dtype="uint64") + 2**63, "x": np.arange(30) / 7}))
    assert schema.decode(np.zeros((2, 1)))["id"].tolist() == [2**63 + 30, 2**63 + 31]
    schema = Schema.infer(pd.DataFrame({"id": np.arange(30, dtype="uint64") + (2**64 - 30), "x": np.arange(30) / 7}))
    assert schema.decode(np.zeros((2, 1)))["id"].isna().all()


def test_no_names_are_made_up_for_rows_that_are_drawn():
    schema = Schema.infer(pd.DataFrame({"id": [f"a{i}" for i in range(30)], "x": np.arange(30) / 7}))
    assert schema.columns[0].kind.kind == "identifier"
    assert schema.decode(np.zeros((2, 1)))["id"].isna().all()


def test_whole_numbers_with_gaps_are_still_whole():
    assert kind_of([1.0, np.nan, 9.0, 4.0])[0] == "real"
    frame = pd.DataFrame({"x": [1.0, np.nan, 9.0, 4.0], "y": [0.5, 1, 2, 3]})
    assert Schema.infer(frame).decode(np.array([[2.4, 2.4]])).to_numpy().tolist() == [[2.0, 2.4]]
    assert kind_of([0.0, np.nan, 1.0, 1.0])[0] == "boolean"
    assert kind_of([0.0, 0.0, 1.0, 1.0])[0] == "real"  # floats without gaps are meant as numbers


def test_no_column_that_can_be_used():
    with pytest.raises(DataError, match="No column of the table can be used. Got 'x' is no value"):
        Schema.infer(pd.DataFrame({"x": [None, None]}))


def test_cells_of_types_that_are_no_values():
    frame = pd.DataFrame({"x": [0.5, 1.5], "list": [[1], [2, 3]], "any": [object(), object()]})
    frame["period"] = pd.period_range("2020-01", periods=2, freq="M")
    schema = Schema.infer(frame)
    assert kinds_of(schema)["list"] == kinds_of(schema)["any"] == "text"
    pd.testing.assert_frame_equal(schema.decode(schema.encode(frame), frame), frame)
    assert any("'list' is left out: cells of type" in note for note in schema.notes)


def test_complex_numbers_are_refused():
    with pytest.raises(CellTypeError, match="complex numbers in column 'z'"):
        Schema.infer(pd.DataFrame({"z": [1 + 2j, 3j]}))


def test_plain_numbers():
    """Where the user says what the numbers' likelihood is, numbers and booleans are numbers."""
    frame = made_frame()[["visits", "income", "gain", "member", "share"]]
    schema = Schema.infer(frame, plain=True)
    assert set(kinds_of(schema).values()) == {"real"}
    np.testing.assert_array_equal(schema.encode(frame), frame.to_numpy(np.float64))
    assert schema.is_plain


def test_cells_are_float32_where_columns_fit():
    assert (
        Schema.infer(pd.DataFrame({"x": np.float32([0.5, 2]), "c": ["a", "b"]}))
        .encode(pd.DataFrame({"x": np.float32([0.5, 2]), "c": ["a", "b"]}))
        .dtype
        == np.float32
    )
    assert Schema.infer(pd.DataFrame({"x": [0.5, 2]})).encode(pd.DataFrame({"x": [0.5, 2]})).dtype == np.float64


def test_cells_have_the_float_type_of_the_rows_given():
    frame = pd.DataFrame({"x": np.random.default_rng(0).lognormal(0, 2, 50), "c": list("ab") * 25})
    schema = Schema.infer(frame)
    assert schema.encode(frame).dtype == schema.encode(frame.astype(object).to_numpy()).dtype == np.float64
    assert schema.encode(frame.astype({"x": "float32"})).dtype == np.float32


def test_a_description_has_a_line_a_column():
    lines = str(Schema.infer(made_frame())).splitlines()
    assert len(lines) == len(KINDS)
    assert lines[0].startswith("height  real: from 1")
    assert "1 gap, numbers" in lines[0]
    assert lines[11].startswith("born    time: from 1880-01-01 to 18")
    assert lines[14] == "unit    constant: always 'cm' (one value in all rows)"


def test_names_that_are_no_strings():
    frame = pd.DataFrame(np.arange(6).reshape(3, 2) / 7)
    pd.testing.assert_frame_equal(there_and_back(frame), frame)


def test_a_schema_is_plain_values():
    """As a model file keeps it."""
    from dataclasses import asdict

    assert json.loads(json.dumps(asdict(Schema.infer(made_frame()))))["library"] == "pandas"


@pytest.mark.parametrize("library", ["pandas", "nullable", "polars", "pyarrow"])
def test_only_gaps_are_filled(library):
    """Every other value is the same to the last bit, rare categories and logarithms too."""
    rng = np.random.default_rng(0)
    frame = made_frame().drop(columns=["unit", "wait"])
    frame["odd"] = [1, "a", None, *([2.5] * (N - 3))]
    frame["rooms"] = frame["rooms"].astype(float).where(rng.random(N) < 0.7)
    frame["income"] = frame["income"].where(rng.random(N) < 0.7)
    frame["grade"] = frame["grade"].where(rng.random(N) < 0.7)
    if library != "pandas":
        frame = frame.drop(columns="odd").convert_dtypes()
    given = {"polars": pl.from_pandas, "pyarrow": lambda f: pa.Table.from_pandas(f, preserve_index=False)}.get(
        library, lambda frame: frame
    )(frame)
    schema = Schema.infer(given)
    cells = schema.encode(given)
    filled = schema.filled(given, np.where(np.isnan(cells), 0.25, cells))
    assert type(filled) is type(given)
    if isinstance(given, pd.DataFrame):
        assert filled.dtypes.equals(given.dtypes)
    else:
        assert filled.schema == given.schema
    back = filled if isinstance(filled, pd.DataFrame) else filled.to_pandas()
    before = given if isinstance(given, pd.DataFrame) else given.to_pandas()
    assert not back.isna().any().any()
    for name in before.columns:
        known = before[name].notna()
        assert (back[name][known] == before[name][known]).all(), name
    assert back["rooms"][before["rooms"].isna()].eq(before["rooms"].min()).all()


def test_integers_that_became_floats_by_their_gaps_are_filled_as_integers():
    schema = Schema.infer(pd.DataFrame({"x": [1, 5, 9], "y": [0.5, 1, 2]}))
    filled = schema.filled(pd.DataFrame({"x": [1, np.nan], "y": [0.5, np.nan]}), np.array([[1, 0.5], [3.6, 1.5]]))
    assert filled.to_dict("list") == {"x": [1, 4], "y": [0.5, 1.5]}
    assert filled["x"].dtype == np.int64


ODD = {
    "categories of numbers": pd.Categorical([3, 1] * 15),
    "categories of several types": pd.Categorical([3, "a"] * 15, categories=["z", "a", 3], ordered=True),
    "categories of dates": pd.Categorical(pd.to_datetime(["2020", "2021"] * 15)),
    "categories of intervals": pd.cut(np.arange(30), 3),
    "intervals": pd.interval_range(0, 30),
    "periods": pd.period_range("2020", periods=30, freq="M"),
    "text of numpy": np.array(["a", "b"] * 15),
    "objects of dates": [datetime.date(1500 + i, 1, 1) for i in range(30)],
    "objects of decimals": [decimal.Decimal(i * i) / 4 for i in range(30)],
    "objects of integers": np.array([None, *range(5, 34)], dtype=object),
    "large integers": [2**70 * (i + 1) for i in range(30)],
    "sets": [{i} for i in range(30)],
    "decimals of Arrow": pd.array([decimal.Decimal(i * i) for i in range(30)], pd.ArrowDtype(pa.decimal128(10, 2))),
    "categories of Arrow": pd.array(["a", "b"] * 15, pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))),
    "seconds from 1700": pd.date_range("1700", periods=30, freq="YE").as_unit("s"),
    "half precision": np.arange(30).astype("float16") / 7,
    "unsigned": np.arange(30, dtype="uint64") * 2**58,
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_column_of_pandas_comes_back(name):
    frame = pd.DataFrame({"x": np.arange(30) / 7, "odd": ODD[name]})
    frame.columns.name = "kind"
    schema = Schema.infer(frame)
    cells = schema.encode(frame)
    pd.testing.assert_frame_equal(schema.decode(cells, frame), frame, rtol=1e-3 if name == "half precision" else 1e-9)
    filled, known = schema.filled(frame, np.zeros_like(cells)), frame["odd"].notna()
    assert (filled["odd"][known] == frame["odd"][known]).all()
    assert list(schema.decode(cells).columns) == ["x", "odd"]


ODD_ARROW = {
    **({"views": pa.array(["a", "b"] * 15, pa.string_view())} if int(pa.__version__.split(".")[0]) > 17 else {}),
    "dictionary of numbers": pa.array([5, 7] * 15).dictionary_encode(),
    "dictionary of dates": pa.array([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)] * 15).dictionary_encode(),
    "bytes": pa.array([b"ab"] * 30, pa.binary(2)),
    "times of a day": pa.array(range(30), pa.time32("s")),
    "milliseconds": pa.array([datetime.datetime(1880 + i, 1, 1) for i in range(30)], pa.date64()),
    "lists": pa.array([[i] for i in range(30)]),
    "maps": pa.array([[("a", 1)]] * 30, pa.map_(pa.string(), pa.int64())),
    "runs": pc.run_end_encode(pa.array(["a"] * 15 + ["b"] * 15)),
}


@pytest.mark.parametrize("name", ODD_ARROW)
def test_an_odd_column_of_arrow_comes_back(name):
    table = pa.table({"x": np.arange(30) / 7, "odd": ODD_ARROW[name]})
    schema = Schema.infer(table)
    assert schema.decode(schema.encode(table), table).equals(table)
    assert schema.decode(schema.encode(table)).column_names == ["x", "odd"]


def test_enums_of_polars_stay_enums():
    kind = pl.Enum(["c", "b", "a", "z"])
    frame = pl.DataFrame({"x": [0.5, 1.5, 2.5, 4], "y": pl.Series(["a", "b", None, "a"], dtype=kind), "z": [[1]] * 4})
    schema = Schema.infer(frame)
    assert schema.columns[1].kind.labels == ("b", "a")
    pl.testing.assert_frame_equal(schema.decode(schema.encode(frame), frame), frame)
    assert schema.decode(schema.encode(frame)).schema["y"] == kind


def decoded_means(column, cells):
    """A column's means from cells, as the column's own type, in a frame of it alone."""
    schema = Schema.infer(pd.DataFrame({"x": column}))
    return schema.decode(np.asarray(cells, dtype=float), mean=True)["x"].tolist()


def test_means_of_whole_numbers_are_rounded_in_columns_of_integers_only():
    whole = np.arange(60) % 7 + 20
    floats = np.r_[whole, np.nan]  # pandas makes floats of whole numbers with gaps
    assert decoded_means(whole.astype("int16"), [[22.4]]) == [22]
    assert decoded_means(floats, [[22.4]]) == [22.4]
    assert Schema.infer(pd.DataFrame({"x": floats})).decode(np.array([[22.4]]))["x"].tolist() == [22.0]


def test_the_mean_of_a_zero_inflated_number_is_its_share_times_the_exponential():
    column = np.where(np.arange(60) % 3 > 0, 0.0, 2.0 ** (np.arange(60) / 5))
    assert kind_of(column)[0] == "zero-inflated"
    assert decoded_means(column, [[0.75, np.log(8)], [1.0, np.nan]]) == pytest.approx([2.0, 0.0])


@pytest.mark.parametrize("unit", [1.0, 1e3])
def test_skewed_numbers_with_some_zeros_are_logarithms_of_shifted_ones(unit):
    column = unit * np.r_[0.0, 0.0, np.random.default_rng(0).lognormal(3, 1, 300)]
    assert kind_of(column) == ("positive", "skewed, and none below zero")
    schema = Schema.infer(pd.DataFrame({"x": column}))
    np.testing.assert_allclose(schema.decode(schema.encode(pd.DataFrame({"x": column})))["x"], column, atol=1e-9 * unit)
    below = schema.encode(pd.DataFrame({"x": [-unit]}))
    assert below == pytest.approx(np.log(schema.columns[0].kind.shift))


def test_decimals_of_a_column_of_float32_are_known():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"short": rng.normal(size=50).round(2), "long": rng.normal(size=50)}).astype("float32")
    assert [column.kind.decimals for column in Schema.infer(frame).columns] == [2, None]


def levels(n_levels):
    """A column of levels in an order, two of which do not occur."""
    names = [f"level {number}" for number in range(n_levels)]
    codes = np.arange(400) % (n_levels - 2)
    return pd.DataFrame({"x": codes + 0.5, "level": pd.Categorical.from_codes(codes, names, ordered=True)})


def test_many_ordered_categories_are_numbers_in_their_order():
    frame = levels(100)
    schema = Schema.infer(frame)
    assert kinds_of(schema)["level"] == "ranked"
    cells = schema.encode(frame)
    assert cells.shape == (400, 2)
    assert cells[:, 1].tolist() == frame["level"].cat.codes.tolist()
    pd.testing.assert_frame_equal(schema.decode(cells, frame), frame)
    found = schema.decode(np.array([[1.0, -3.0], [1.0, 41.6], [1.0, 150.0], [1.0, np.nan]]))["level"]
    assert [*found[:3], found.isna()[3]] == ["level 0", "level 42", "level 99", True]
    assert found.cat.categories.equals(frame["level"].cat.categories)
    assert found.cat.ordered


def test_all_of_few_ordered_categories_have_a_cell_however_rare():
    frame = pd.DataFrame({"x": pd.Categorical(["low", "high"] * 2000 + ["mid"], ["low", "mid", "high"], ordered=True)})
    assert Schema.infer(frame).columns[0].kind.labels == ("low", "mid", "high")


def test_values_that_an_order_lacks_are_noted():
    frame = pd.DataFrame({"size": ["S", "M", "L", "XL"] * 50})
    (column,) = Schema.infer(frame, {"size": ["S", "M", "L"]}).columns
    assert column.kind.labels == ("S", "M", "L")
    assert column.notes == ["values of column 'size' that are not in its order are taken as one: XL"]
    back = Schema((column,), "pandas")
    pd.testing.assert_frame_equal(back.decode(back.encode(frame), frame), frame)
    many = Schema.infer(frame, {"size": ["S", "M", "L", *(f"{n} L" for n in range(99))]})
    assert many.notes == ["values of column 'size' that are not in its order are gaps to the model: XL"]
    assert np.isnan(many.encode(frame))[:4, 0].tolist() == [False, False, False, True]
    with pytest.raises(DataError, match="none of its values is listed. Got the values L, M, S, XL."):
        Schema.infer(frame, {"size": ["small", "large"]})


def test_a_column_with_several_values_is_not_taken_as_constant():
    """All its cells would come back as one of them."""
    frame = pd.DataFrame({"a": [1.0, 2.0] * 9, "one": [7] * 18, "gaps": [None] * 18, "x": ["u", None] * 9})
    given = dict.fromkeys(("one", "gaps", "x"), "constant")
    assert {column.name for column in Schema.infer(frame, given).columns if column.kind.kind == "constant"} == {*given}
    with pytest.raises(DataError, match="Column 'a' cannot be a column of one value. Got 2 different values."):
        Schema.infer(frame, {"a": "constant"})


def test_a_graph_has_the_numbers_of_many_ordered_categories():
    """A file for another program gives the label that the frame's own answer has."""
    schema = Schema.infer(levels(100))
    columns = TableColumns(schema)
    numbers = torch.from_numpy(columns.numbers(levels(100)))
    assert torch.equal(columns.cells(numbers).double(), torch.from_numpy(schema.encode(levels(100))).double())
    assert columns.columns(torch.tensor([[0.5, 41.6], [0.5, 150.0]]))[:, 1].tolist() == [42.0, 99.0]
