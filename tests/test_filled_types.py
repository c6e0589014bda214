"""Types of columns whose gaps are filled, and values that are given for rows to be drawn."""

import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from eigencode import Autoencoder
from eigencode.data.tables import Schema, types
from eigencode.data.tables.types import numbers_as
from eigencode.errors import DataError

pytestmark = pytest.mark.versions

CODES = [1, 2, 3, 2, 1, 3]

LABELS = {
    "text": pd.Series([str(code) for code in CODES], dtype="string"),
    "object": pd.Series([str(code) for code in CODES], dtype=object),
    "categories": pd.Series([str(code) for code in CODES]).astype("category"),
    "int": pd.Series(CODES, dtype="Int16"),
    "int of arrow": pd.Series(CODES).astype("int64[pyarrow]"),
    "categories of int": pd.Series(CODES).astype("category"),
}


def is_text(labels):
    return isinstance(labels.iloc[1], str)


@pytest.mark.parametrize("given", LABELS)
@pytest.mark.parametrize("fitted", LABELS)
def test_labels_are_filled_in_the_type_in_which_they_are_given(fitted, given):
    schema = Schema.infer(pd.DataFrame({"c": LABELS[fitted]}), {"c": "category"})
    labels = LABELS[given].copy()
    labels[0] = None
    if is_text(labels) and not is_text(LABELS[fitted]):
        with pytest.raises(DataError, match="'c' should have number, as in fitting"):
            schema.encode(pd.DataFrame({"c": labels}))
        return
    filled = schema.filled(pd.DataFrame({"c": labels}), schema.encode(pd.DataFrame({"c": LABELS[fitted]})))["c"]
    assert filled.tolist() == LABELS[given].tolist()
    assert {type(label) for label in filled} <= ({str} if is_text(labels) else {int, np.int16, np.int64})
    assert isinstance(filled.dtype, pd.CategoricalDtype) == isinstance(labels.dtype, pd.CategoricalDtype)


def test_whole_numbers_that_are_floats_by_their_gaps_may_be_given_for_text_of_digits():
    schema = Schema.infer(pd.DataFrame({"c": LABELS["text"]}), {"c": "category"})
    labels = pd.Series(CODES, dtype=float).where(lambda code: code.index > 0)
    cells = schema.encode(pd.DataFrame({"c": LABELS["text"]}))
    filled = schema.filled(pd.DataFrame({"c": labels}), cells)["c"]
    assert filled.tolist() == CODES
    with pytest.raises(DataError, match="'c' should have text"):
        schema.encode(pd.DataFrame({"c": labels + 0.5}))


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("is_ordered", [False, True])
def test_a_label_that_was_not_fitted_stays_when_gaps_are_filled(library, is_ordered):
    given = pd.DataFrame({"c": pd.Categorical(["new", None, "a"], ["a", "new"], ordered=is_ordered)})
    fitted = pd.DataFrame({"c": pd.Categorical(["a", "b", "a"], ["b", "a"], ordered=is_ordered)})
    if library == "polars":
        given, fitted = pl.from_pandas(given), pl.from_pandas(fitted)
    schema = Schema.infer(fitted)
    filled = schema.filled(given, schema.encode(fitted))["c"]
    assert list(filled) == ["new", "b", "a"]
    if library == "pandas":
        assert list(filled.cat.categories) == ["b", "a", "new"]
        assert filled.cat.ordered == is_ordered


@pytest.mark.parametrize("has_gap", [False, True])
def test_a_frame_of_another_library_is_filled_in_the_types_fitted(has_gap):
    fitted = pd.DataFrame({"i": [1, 2, 9], "x": [0.5, 1.5, 2.5], "b": [True, False, True], "c": ["u", "v", "u"]})
    fitted["k"] = fitted["c"].astype("category")
    schema = Schema.infer(fitted)
    given = pl.from_pandas(fitted)
    if has_gap:
        given = given.with_columns(pl.when(pl.int_range(3) == 1).then(None).otherwise(pl.all()).name.keep())
    filled = schema.filled(given, schema.encode(fitted))
    pd.testing.assert_frame_equal(filled, fitted)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b"], 60)
    frame = pd.DataFrame({"x": rng.normal(size=60), "n": rng.poisson(2, 60), "c": labels})
    return frame.assign(k=pd.Categorical(labels, ["a", "b", "unused"]))


@pytest.fixture(scope="module")
def model(frame):
    return Autoencoder(2, max_epochs=2, random_state=0).fit(frame)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"c": ["a", "new"]}, "Column 'c', category: .*'new' in row 1. Known labels: (a, b|b, a)"),
        ({"k": ["unused"]}, "Column 'k', category: .*'unused' in row 0. Known labels"),
        ({"n": [1, -3]}, "Column 'n', count: .*-3 in row 1"),
    ],
)
def test_values_that_cannot_be_are_refused_where_rows_are_drawn_given_them(model, given, what):
    with pytest.raises(DataError, match=what):
        model.sample(given=pd.DataFrame(given), random_state=0)


def test_rows_drawn_given_labels_of_another_type_have_the_types_fitted(model, frame):
    drawn = model.sample(given=pl.DataFrame({"k": ["b", "a"], "c": [None, "b"]}), random_state=0)
    assert drawn.dtypes.to_dict() == frame.dtypes.to_dict()
    assert drawn["k"].tolist() == ["b", "a"]
    assert drawn["c"][1] == "b"


def test_values_that_stand_for_gaps_are_drawn(frame):
    rows = frame.drop(columns="k").assign(c=frame["c"].where(frame.index > 5, "?"))
    model = Autoencoder(1, max_epochs=1, missing_values=["?"], random_state=0).fit(rows)
    drawn = model.sample(given=pd.DataFrame({"c": ["?", "b"]}), random_state=0)
    assert drawn["c"][0] in ("a", "b")
    assert drawn["c"][1] == "b"


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.struct([("a", pa.int8()), ("b", pa.string())]),
        pa.map_(pa.string(), pa.timestamp("ms", "UTC")),
        pa.list_(pa.float32(), 3),
        pa.month_day_nano_interval(),
        pa.decimal128(9, 2),
    ],
    ids=str,
)
def test_columns_of_nested_types_have_their_type_in_rows_drawn(kind):
    table = pa.table({"n": pa.nulls(30, kind), "x": np.arange(30.0) % 7})
    schema = Schema.infer(table, {"n": "text"})
    assert schema.decode(np.zeros((2, 1))).schema == table.schema


def test_a_damaged_nested_type_is_an_error_of_ours():
    for text in ("schema:", "schema:%%", "schema:AAAA"):
        with pytest.raises(DataError, match="a type that is not known"):
            types.type_of(text)


def test_categories_that_are_tuples_or_intervals_come_back():
    categories = pd.Index([("a", 1), "b"], dtype=object, tupleize_cols=False)
    frame = pd.DataFrame({"c": pd.Categorical.from_codes([0, 1, 0], categories), "x": [0.5, 1.5, 2.5]})
    schema = Schema.infer(frame)
    assert schema.decode(schema.encode(frame))["c"].tolist() == [("a", 1), "b", ("a", 1)]
    frame["c"] = pd.IntervalIndex.from_breaks([0.0, 1.0, 2.0, 3.0])
    schema = Schema.infer(frame, {"c": "text"})
    assert schema.decode(np.zeros((2, 1)))["c"].dtype == frame["c"].dtype
    table = pa.Table.from_pandas(frame.assign(c=pd.Categorical(frame["c"])))
    assert Schema.infer(table).columns[0].kind.kind == "text"


def test_numbers_alone_may_be_given_for_a_column_of_several_types():
    fitted = pd.DataFrame({"m": [1, "a", 2.5, True, 3.0]})
    schema = Schema.infer(fitted)
    cells = schema.encode(pd.DataFrame({"m": [1, 2.5, 3.0]}))  # Arrow has floats for them
    np.testing.assert_array_equal(cells, schema.encode(fitted)[[0, 2, 4]])


def test_numbers_with_too_many_digits_are_the_largest_decimals():
    """Arrow itself makes 0 of them."""
    for type_ in (pa.decimal128(3, 2), pa.decimal128(17, 2), pa.decimal128(38, 0), pa.decimal128(38, 38)):
        low, high, gap = numbers_as(np.array([-1e60, 1e60, np.nan]), type_).to_pylist()
        assert float(high) == pytest.approx(10.0 ** (type_.precision - type_.scale), rel=2e-3)
        assert (float(low), gap) == (-float(high), None)


@pytest.mark.filterwarnings("ignore:X (has gaps|does not have valid)")
@pytest.mark.parametrize("has_category", [False, True])
@pytest.mark.parametrize("as_array", [False, True])
def test_known_cells_stay_bit_for_bit_where_the_type_fitted_has_fewer_digits(has_category, as_array):
    x = np.random.default_rng(0).normal(size=40)
    frame = pd.DataFrame(
        {
            "price": [decimal.Decimal(f"{cell:.2f}") for cell in x],
            "short": x.astype(np.float32),
            "count": np.arange(40, dtype=np.uint8) % 9,
            "real": x**2,
        }
    )
    if has_category:
        frame["c"] = ["a", "b"] * 20
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(frame)
    given = pd.DataFrame({"price": x * 1e4 + 1 / 3, "short": x + 1e-12, "count": x * 1e3, "real": x**2})
    given.iloc[:5, :] = given.iloc[:5, :].mask(np.eye(5, 4) > 0)
    given = given.assign(c=frame["c"]) if has_category else given
    filled = model.impute(given.to_numpy() if as_array else given)
    assert list(filled) == list(given)
    assert not filled.isna().any().any()
    for name in ("price", "short", "count", "real"):
        known = given[name].notna()
        assert filled[name][known].tolist() == given[name][known].tolist()
    if as_array:  # what the types fitted can hold has them
        rows = frame.astype({"price": float}).to_numpy()
        assert model.impute(rows).dtypes.to_dict() == frame.dtypes.to_dict()


@pytest.mark.parametrize("gap", [np.nan, None, pd.NA], ids=["floats", "objects", "pd.NA"])
def test_a_column_of_gaps_has_the_type_fitted_when_it_is_filled(gap):
    """pandas makes floats of a column that `reindex` adds, and of one that is empty in a file."""
    fitted = pd.DataFrame(
        {
            "text": ["u", "v", "u"],
            "category": pd.Categorical(["u", "v", "u"]),
            "number": pd.Categorical([1, 2, 1]),
            "int": [1, 2, 9],
            "boolean": [True, False, True],
            "mixed": [1, "v", 1],
            "time": pd.to_datetime(["2020-01-01", "2020-03-01", "2020-02-01"]),
            "as text": ["01.02.2020", "02.02.2020", "03.02.2020"],
            "duration": pd.to_timedelta([1, 2, 9], "h"),
            "period": pd.period_range("2020-01", periods=3, freq="M"),
            "interval": pd.cut([1.0, 2.0, 9.0], 3),
        }
    )
    schema = Schema.infer(fitted, {"as text": "time"})
    cells, given = schema.encode(fitted), pd.DataFrame(dict.fromkeys(fitted, gap), index=fitted.index)
    assert np.isnan(schema.encode(given)).all()
    pd.testing.assert_frame_equal(schema.filled(given, cells), fitted)
