"""Inputs that callers pass and outputs they get, for every estimator."""

import re

import conftest
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

import eigencode
from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    AutoencoderSearch,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.cli import main
from eigencode.errors import DataError, OptionError

SMALL = {"max_epochs": 1, "random_state": 0}
OWN = {LinearAutoencoder: {}, SparseAutoencoder: {"n_components": 4, "active": 1, **SMALL}}
AUTOENCODERS = [cls(**{"n_components": 2, **OWN.get(cls, {"hidden": (4,), **SMALL})}) for cls in conftest.AUTOENCODERS]
SEARCH = AutoencoderSearch(LinearAutoencoder(), {"n_components": [1, 2]}, cv=2, random_state=0)

TRANSFORMERS = [*AUTOENCODERS, SEARCH]

CLASSIFIER = AutoencoderClassifier(LinearAutoencoder(2), max_epochs=2, random_state=0)
REGRESSOR = AutoencoderRegressor(LinearAutoencoder(2), max_epochs=2, random_state=0)


def by_class(estimator):
    return type(estimator).__name__


def labels(n_rows):
    """Two classes, which are numbers too."""
    return np.arange(n_rows) % 2


def fit(estimator, X, **weights):
    """A clone fitted to rows, and to labels where it learns these."""
    given = (labels(40),) if hasattr(estimator, "predict") else ()
    return clone(estimator).fit(X, *given, **weights)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(40, 3)) @ np.diag([3.0, 1.0, 0.5]) + [0.0, 10.0, 5.0]


@pytest.fixture
def frame(rows):
    return pd.DataFrame(rows, columns=["a", "b", "c"], index=[f"row {i}" for i in range(len(rows))])


# -- what transform gives


@pytest.mark.draws_globally
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_set_output_transform,
        pytest.param(estimator_checks.check_set_output_transform_pandas, marks=pytest.mark.versions),
        estimator_checks.check_set_output_transform_polars,
        estimator_checks.check_global_output_transform_pandas,
        estimator_checks.check_global_set_output_transform_polars,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=by_class)
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_scikit_learns_checks_of_set_output(estimator, check):
    check(by_class(estimator), estimator)


@pytest.mark.versions
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=by_class)
def test_a_frame_of_codes_has_the_rows_index_and_the_components_names(estimator, frame):
    model = clone(estimator).set_output(transform="pandas")
    for codes in (model.fit_transform(frame), model.transform(frame)):
        assert isinstance(codes, pd.DataFrame)
        assert codes.index.equals(frame.index)
        assert list(codes.columns) == list(model.get_feature_names_out())
        np.testing.assert_array_equal(codes, clone(estimator).fit(frame).transform(frame))
    assert isinstance(model.set_output(transform="polars").transform(frame), pl.DataFrame)
    assert isinstance(model.set_output(transform="default").transform(frame), np.ndarray)


@pytest.mark.versions
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=by_class)
def test_a_context_and_a_pipeline_ask_for_frames_too(estimator, frame):
    model = clone(estimator).fit(frame)
    with sklearn.config_context(transform_output="polars"):
        codes = model.transform(frame)
    assert isinstance(codes, pl.DataFrame)
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).set_output(transform="pandas").fit(frame)
    assert pipeline.transform(frame).index.equals(frame.index)
    assert list(pipeline.transform(frame).columns) == list(pipeline[-1].get_feature_names_out())


@pytest.mark.versions
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_the_first_components_of_an_ordered_code_have_their_names(container, frame):
    model = Autoencoder(3, hidden=(4,), ordered=True, max_epochs=2, random_state=0).fit(frame)
    expected = model.transform(frame)[:, :2]
    first = model.set_output(transform=container).transform(frame, n_components=2)
    assert list(first.columns) == ["autoencoder0", "autoencoder1"]
    np.testing.assert_array_equal(first, expected)
    assert list(model.transform(frame, n_components=1).columns) == ["autoencoder0"]


@pytest.mark.versions
@pytest.mark.parametrize("estimator", AUTOENCODERS, ids=by_class)
def test_whatever_the_container_of_codes_the_other_answers_are_arrays(estimator, frame):
    model = clone(estimator).set_output(transform="pandas").fit(frame)
    codes = model.transform(frame)
    np.testing.assert_allclose(model.inverse_transform(codes), model.reconstruct(frame), rtol=1e-6)
    assert model.fit_density(frame).sample(3).shape == (3, 3)


# -- the containers that rows come in


def _frames(frame):
    """One table as every kind of frame."""
    return {
        "pandas": frame,
        "polars": pl.DataFrame(frame),
        "arrow": pa.Table.from_pandas(frame, preserve_index=False),
        "record batch": pa.RecordBatch.from_pandas(frame, preserve_index=False),
        "narwhals": nw.from_native(pl.DataFrame(frame)),
    }


KINDS_OF_FRAME = ["pandas", "polars", "arrow", "record batch", "narwhals"]


@pytest.mark.versions
@pytest.mark.parametrize("kind", KINDS_OF_FRAME)
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=by_class)
def test_every_frame_gives_the_codes_of_its_array(estimator, kind, frame, rows):
    model = clone(estimator).fit(_frames(frame)[kind])
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    expected = clone(estimator).fit(rows).transform(rows)
    np.testing.assert_allclose(model.transform(_frames(frame)[kind]), expected, rtol=1e-6)


@pytest.mark.versions
@pytest.mark.parametrize("kind", KINDS_OF_FRAME)
@pytest.mark.parametrize("estimator", [*TRANSFORMERS, CLASSIFIER, REGRESSOR], ids=by_class)
def test_columns_in_another_order_are_refused_and_named(estimator, kind, frame):
    model = fit(estimator, frame)
    answer = model.predict if hasattr(model, "predict") else model.transform
    with pytest.raises(DataError, match="same order as they were in fit. Got 'c' where 'a' was"):
        answer(_frames(frame[["c", "b", "a"]])[kind])
    with pytest.raises(DataError, match="unseen at fit time:\n- z\n(.*\n)+- a"):
        answer(_frames(frame.rename(columns={"a": "z"}))[kind])


FLOAT32 = {
    "array": lambda frame: frame.to_numpy("float32"),
    "float16": lambda frame: frame.to_numpy("float16"),
    "pandas": lambda frame: frame.astype("Float32"),
    "pandas on Arrow": lambda frame: frame.astype(pd.ArrowDtype(pa.float32())),
    "pandas, sparse": lambda frame: frame.astype(pd.SparseDtype("float32", 0.0)),
    "polars": lambda frame: pl.DataFrame(frame).cast(pl.Float32),
    "arrow": lambda frame: pa.Table.from_pandas(frame.astype("float32"), preserve_index=False),
    "tensor": lambda frame: torch.tensor(frame.to_numpy(), dtype=torch.float32, requires_grad=True),
    "bfloat16": lambda frame: torch.tensor(frame.to_numpy(), dtype=torch.bfloat16),
}


@pytest.mark.parametrize("kind", FLOAT32)
@pytest.mark.parametrize("estimator", AUTOENCODERS, ids=by_class)
def test_answers_are_in_the_float_type_of_the_rows(estimator, kind, frame):
    X = FLOAT32[kind](frame)
    model = clone(estimator).fit(X)
    for name in ("transform", "jacobian"):
        assert getattr(model, name)(X).dtype == np.float32, name
    rebuilt = model.reconstruct(X)
    if model.columns_ is None:
        assert rebuilt.dtype == np.float32
    else:
        assert nw.from_native(rebuilt).schema == nw.from_native(X).schema
        assert not hasattr(X, "dtypes") or list(rebuilt.dtypes) == list(X.dtypes)  # narwhals knows no sparse ones
    for name in ("reconstruction_error", "score_samples"):  # squares and sums need more room than the rows do
        assert getattr(model, name)(X).dtype == np.float64, name
    codes = pd.DataFrame(model.transform(X))
    for container in (codes.astype("Float32"), pl.DataFrame(codes), torch.tensor(codes.to_numpy(), requires_grad=True)):
        decoded = model.inverse_transform(container)
        if model.columns_ is None:
            assert decoded.dtype == np.float32
        else:
            assert nw.from_native(decoded).schema == nw.from_native(rebuilt).schema
        np.testing.assert_allclose(np.asarray(decoded, float), np.asarray(rebuilt, float), rtol=1e-4, atol=1e-4)


@pytest.mark.versions
def test_codes_of_a_frame_are_decoded_by_their_names(frame):
    model = LinearAutoencoder(2).set_output(transform="polars").fit(frame)
    codes = model.transform(frame)
    np.testing.assert_allclose(model.inverse_transform(codes), model.reconstruct(frame))
    with pytest.raises(DataError, match="codes' columns are in another order"):
        model.inverse_transform(codes[:, ::-1])


DAYS = pd.date_range("2020-01-01", periods=40)
NANOSECONDS = DAYS.to_numpy().astype("M8[ns]")  # which NumPy gives out as integers

REFUSED = {
    "text": (
        lambda f: f.assign(b="Oslo").to_numpy(),
        r"not numbers. Got column 1 \(as 'Oslo' in row 0\). Pass a data frame, .* or leave them out",
    ),
    "a mark for gaps": (lambda f: f.assign(b=["1", "?"] * 20).to_numpy(), r"column 1 \(as '\?' in row 1\)"),
    "numerals": (lambda f: f.assign(b="1.5").to_numpy(), r"written as text. Got column 1.*astype\(float\)"),
    "an array of dates": (lambda f: np.array([DAYS, DAYS]).T.astype("M8[D]"), "dates or times. Got column 0"),
    "a list of dates": (lambda f: [[1, d] for d in DAYS], "dates or times. Got column 1"),
    "infinite": (lambda f: f.replace(f.iloc[5, 1], np.inf), r"infinite cells.*Got 1 in column 'b' \(row 5"),
    "large": (
        lambda f: [[1, 2**70], [1, 2]],
        r"too large for 64 bits. Got column 1 \(as 1180591620717411303424 in row 0",
    ),
    "complex": (lambda f: f.to_numpy() + 1j, r"complex numbers. Got column 0 \(as \([-0-9.]*\+1j\) in row 0"),
    "objects": (lambda f: [[1, {}], [2, {}]], r"not numbers. Got column 1 \(as \{\} in row 0\)"),
    "ragged": (lambda f: [[1, 2], [3]], "1 cells in row 1, and 2 in row 0"),
    "twins": (lambda f: f.set_axis(["a", "a", "c"], axis=1), "Two columns have the same name.*Got 'a'. Rename one"),
    "a query": (lambda f: pl.DataFrame(f).lazy(), r"Use X.collect\(\)"),
    "a generator of rows": (lambda f: (row for row in f.to_numpy()), r"Block 0 of a generator.*the shape \(3,\)"),
    "a sparse tensor": (lambda f: torch.ones(3, 3).to_sparse(), r"to_dense\(\)"),
    "a tensor without values": (lambda f: torch.ones(3, 3, device="meta"), "whose values cannot be read"),
    "a class": (lambda f: type(f), "a class, not a table"),
    "a mapping": (lambda f: {"a": [1, 2]}, "pandas.DataFrame"),
    "a list of mappings": (lambda f: [{"a": 1}, {"a": 2}], r"pandas.DataFrame\(X\)"),
    "nothing": (lambda f: None, "Pass a NumPy array"),
    "a structure": (lambda f: np.zeros(3, [("a", float)]), "structured_to_unstructured"),
}


@pytest.mark.versions
@pytest.mark.parametrize("kind", REFUSED)
def test_unreadable_containers_are_refused_with_a_hint(kind, frame):
    make, message = REFUSED[kind]
    with pytest.raises(DataError, match=message):
        LinearAutoencoder(1).fit(make(frame))


def test_text_for_a_model_of_numbers_is_not_sent_to_a_frame(frame):
    model, rows = LinearAutoencoder(1).fit(frame), frame.to_numpy()
    only_numbers = r"\(as 'x' in row 0\)\. Only numbers can be used here: correct these cells, or leave them out\.$"
    with pytest.raises(DataError, match=only_numbers):
        model.transform(frame.assign(b="x"))
    with pytest.raises(DataError, match=only_numbers):
        LinearAutoencoder(1).fit(rows, sample_weight=["x"] * len(rows))
    with pytest.raises(DataError, match=r"Pass a data frame, as of pandas\.DataFrame\(X\)"):
        LinearAutoencoder(1).fit([["x", 1], ["y", 2]])


@pytest.mark.versions
def test_columns_with_other_names_are_listed_as_scikit_learn_lists_them(frame):
    """Its text, with our advice after it."""
    unseen, missing = (
        "Feature names unseen at fit time:\n- B\n",
        "Feature names seen at fit time, yet now missing:\n- b",
    )
    with pytest.raises(DataError) as found:
        LinearAutoencoder(1).fit(frame).transform(frame.rename(columns={"b": "B"}))
    first = "The feature names should match those that were passed during fit.\n"
    assert str(found.value).startswith(f"{first}{unseen}{missing}. Rename columns, or add what is ")


def test_names_of_a_hundred_thousand_columns_are_compared_quickly():
    """A comparison of each with each would take minutes."""
    names = [f"column {j}" for j in range(100_000)]
    with pytest.raises(DataError, match="Got 'column 7'"):
        LinearAutoencoder(1).fit(pa.table([pa.array([1.0, 2.0])] * 100_001, names=[*names, "column 7"]))


@pytest.mark.parametrize("kind", ["text", "a list of dates", "infinite", "a query"])
@pytest.mark.parametrize("estimator", [*TRANSFORMERS, CLASSIFIER, REGRESSOR], ids=by_class)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_every_estimator_and_method_raises_the_same_message(estimator, kind, frame):
    make, message = REFUSED[kind]
    bad = make(frame)
    with pytest.raises(DataError, match=message):
        fit(estimator, bad)
    model = fit(estimator, frame)
    names = ["transform", "reconstruct", "reconstruction_error", "score_samples", "predict", "predict_proba", "score"]
    for name in (name for name in names if hasattr(model, name)):
        with pytest.raises(DataError, match=message):
            getattr(model, name)(*([bad] if name != "score" or not hasattr(model, "predict") else [bad, labels(40)]))


@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR], ids=by_class)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda y: pd.Series(y, dtype="Int64").mask(y == 1), "y has gaps"),
        (lambda y: np.ma.masked_equal(y, 1), "y has gaps"),
        (lambda y: np.where(y == 1, np.nan, y), "y has gaps"),
        (lambda y: y + 1j, "complex numbers"),
        (lambda y: y[:9], "inconsistent numbers of samples"),
        (lambda y: None, "requires y to be passed"),
        (lambda y: pl.DataFrame({"y": y}).lazy(), r"X.collect\(\)"),
    ],
)
def test_unreadable_labels_are_refused_with_a_hint(estimator, make, message, rows):
    with pytest.raises(DataError, match=message):
        clone(estimator).fit(rows, make(labels(40)))


def test_labels_must_not_be_dates_and_a_regressors_must_be_numbers(rows):
    for estimator in (REGRESSOR, CLASSIFIER):
        for days in (
            DAYS,
            pd.Series(DAYS),
            pl.Series(DAYS.to_list()),
            pa.array(DAYS),
            [d.date() for d in DAYS],
            NANOSECONDS,
        ):
            with pytest.raises(DataError, match="y has columns of dates or times. Got a cell"):
                estimator.fit(rows, days)
        for named in (pd.DataFrame({"when": DAYS}), pd.Series(DAYS, name="when"), pa.table({"when": DAYS})):
            with pytest.raises(DataError, match=r"y has columns of dates or times. Got column 'when' \(as 2020|'2020"):
                estimator.fit(rows, named)
    with pytest.raises(DataError, match=r"y has columns of dates or times. Got column 'when' \(as 2020-01-01"):
        REGRESSOR.fit(rows, pd.DataFrame({"n": range(40), "when": DAYS}))
    with pytest.raises(DataError, match="y has columns that are not numbers"):
        REGRESSOR.fit(rows, ["a", "b"] * 20)


LABELS = [
    list,
    np.asarray,
    pd.Series,
    lambda y: pd.Series(y, dtype="Int64"),
    lambda y: pd.Series(y, dtype=pd.ArrowDtype(pa.int64())),
    pl.Series,
    pa.array,
    lambda y: pa.chunked_array([y]),
    torch.tensor,
    lambda y: torch.tensor(y, dtype=torch.bfloat16, requires_grad=True),
    np.ma.masked_array,
]


@pytest.mark.versions
@pytest.mark.parametrize("make", LABELS)
@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR], ids=by_class)
def test_labels_may_come_in_any_container(estimator, make, rows):
    expected = clone(estimator).fit(rows, labels(40)).predict(rows)
    np.testing.assert_allclose(clone(estimator).fit(rows, make(labels(40))).predict(rows), expected)


@pytest.mark.versions
@pytest.mark.parametrize("make", LABELS[:-2])
def test_weights_may_come_in_any_container(make, rows):
    weights = 1 + labels(40)
    model = LinearAutoencoder(1).fit(rows, sample_weight=make(weights))
    expected = LinearAutoencoder(1).fit(rows, sample_weight=weights)
    np.testing.assert_array_equal(model.transform(rows), expected.transform(rows))


@pytest.mark.parametrize("make", [lambda w: torch.tensor(w, dtype=torch.float64, requires_grad=True)])
@pytest.mark.parametrize("estimator", [*TRANSFORMERS, CLASSIFIER, REGRESSOR], ids=by_class)
def test_every_estimator_takes_weights_from_other_containers(estimator, make, rows):
    weights = 1 + labels(40)
    expected = fit(estimator, rows, sample_weight=weights)
    answer = "predict" if hasattr(expected, "predict") else "transform"
    model = fit(estimator, rows, sample_weight=make(weights))
    np.testing.assert_array_equal(getattr(model, answer)(rows), getattr(expected, answer)(rows))


def test_unusable_weights_are_refused_with_a_hint(rows):
    for weights, message in [
        (np.ones(9), "inconsistent numbers"),
        (np.where(np.arange(40) == 3, np.nan, 1), "sample_weight has gaps.*row 3"),
        (np.where(np.arange(40) == 3, -1, 1), "Negative values.*row 3"),
        (np.ones((40, 2)), "1D array or scalar"),
        (np.zeros(40), "All sample weights are zero"),
        (["a"] * 40, "sample_weight has columns that are not numbers"),
    ]:
        with pytest.raises(DataError, match=message):
            LinearAutoencoder(1).fit(rows, sample_weight=weights)


# -- precision of labels


@pytest.mark.parametrize("x_type", ["uint8", "int16", "float16", "float32", "int64"])
@pytest.mark.parametrize(("y_type", "worst"), [("float64", 1e-5), ("int64", 1e-5), ("float32", 1e-4)])
def test_labels_far_from_zero_are_distinguished(x_type, y_type, worst, tmp_path):
    """Labels near 1.6e9, where float32 counts in steps of 128, differ by a few thousand.

    Noise leaves 1e-7 of their variance, and twenty epochs 1e-7 to 2e-6 by the seed and the processor.
    """
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, size=(200, 4)).astype(x_type)
    y = (1.6e9 + X.astype(float) @ [10, 20, 30, 40] + rng.normal(size=200)).astype(y_type)
    model = AutoencoderRegressor(LinearAutoencoder(4), max_epochs=20, random_state=0).fit(X, y)
    assert model.score(X, y) > 1 - worst
    is_narrow = y_type == "float32" and x_type != "int64"
    assert model.predict(X).dtype == (np.float32 if is_narrow else np.float64)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(eigencode.load(tmp_path / "m.safetensors").predict(X), model.predict(X))


def test_codes_of_integers_far_from_zero_are_distinguished():
    X = 1_600_000_000 + np.random.default_rng(0).integers(0, 50, size=(100, 3))
    model = LinearAutoencoder(3, scale="none").fit(X)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-3)


# -- weights


@pytest.mark.parametrize("factor", [2.0, 1e-3])
@pytest.mark.parametrize("estimator", [CLASSIFIER, REGRESSOR, *AUTOENCODERS], ids=by_class)
def test_only_the_ratios_of_weights_matter(estimator, factor, rows):
    weights = np.random.default_rng(1).uniform(0.5, 2, size=40)
    one, other = (fit(estimator, rows, sample_weight=w) for w in (weights, factor * weights))
    answer = "predict" if hasattr(one, "predict") else "transform"
    np.testing.assert_allclose(getattr(one, answer)(rows), getattr(other, answer)(rows), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("estimator", [*TRANSFORMERS, CLASSIFIER, REGRESSOR], ids=by_class)
def test_a_score_counts_each_row_by_its_weight(estimator, rows):
    model = fit(estimator, rows)
    y = [labels(40)] if hasattr(model, "predict") else []
    twice = np.repeat(np.arange(40), labels(40) + 1)
    expected = model.score(rows[twice], *(labels_[twice] for labels_ in y))
    assert model.score(rows, *y, sample_weight=torch.tensor(labels(40) + 1)) == pytest.approx(expected)
    with pytest.raises(DataError, match="All sample weights are zero"):
        model.score(rows, *y, sample_weight=np.zeros(40))


# -- advice


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"activation": "Relu"}, "Did you mean 'relu'?"),
        ({"activation": "LeakyReLU"}, "Did you mean 'leaky_relu'?"),
        ({"likelihood": "Gaussian"}, "Did you mean 'gaussian'?"),
        ({"scale": "STANDARD"}, "Did you mean 'standard'?"),
        ({"n_components": 1.0}, "an int in the range [1, inf), a float in the range (0, 1) or 'auto'"),
        ({"n_components": 0.0}, "a float in the range (0, 1)"),
    ],
)
def test_options_that_are_nearly_right_get_a_hint(options, advice, rows):
    with pytest.raises(OptionError, match=re.escape(advice)):
        Autoencoder(**options).fit(rows)


@pytest.mark.parametrize(
    ("cells", "expected_text"),
    [
        ([[0, 255], [3, 128]], "Got 3 there. Divide them by 255 first, or use likelihood='poisson'"),
        (np.array([[0, 200], [3, 128]], dtype=np.uint8), "Divide them by 255 first"),
        (np.array([[0, 50_000], [3, 128]], dtype=np.uint16), "Divide them by 65535 first"),
        ([[0, 1000], [3, 12]], "Use likelihood='poisson'"),
        ([[0, 16], [3, 12]], "Divide them by 16 first"),
        ([[0, 1.0000001], [0.5, 1]], "Got 1.0000001 there. They are shares up to rounding: clip them"),
        ([[-1e-9, 1], [0.5, 1]], "Got -1e-09 there. They are shares up to rounding"),
        ([[-3.5, 1], [0.5, 1]], "Got -3.5 there. Use likelihood='gaussian'"),
        ([[0, 70000], [3, 128]], "Got 3 there. Use likelihood='poisson'"),
    ],
)
def test_cells_that_are_not_shares_are_shown_with_all_digits(cells, expected_text):
    with pytest.raises(DataError, match=re.escape(expected_text)):
        Autoencoder(1, likelihood="bernoulli").fit(cells)


# -- a size by the share of the variance


def test_the_variational_default_keeps_all_but_a_thousandth_of_the_variance():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 12)) * 0.8 ** np.arange(12) @ rng.normal(size=(12, 12))
    options = {"max_epochs": 1, "likelihood": eigencode.parts.GaussianLikelihood(), "random_state": 0}
    sizes = [VariationalAutoencoder(n_components=n, **options).fit(X).n_components_ for n in ("auto", 0.999, 0.99)]
    assert sizes[0] == sizes[1] > sizes[2]


@pytest.mark.parametrize("share", [0.5, 0.9, np.float32(0.97), 0.999])
@pytest.mark.parametrize("make", [LinearAutoencoder, lambda k, **o: Autoencoder(k, max_epochs=1, **o)])
def test_a_share_of_the_variance_gives_the_size_that_pca_gives(share, make, cancer):
    rows = StandardScaler().fit_transform(cancer)
    model = make(share, scale="none").fit(rows)
    assert model.n_components_ == PCA(float(share)).fit(rows).n_components_
    assert sum(model.explained_variance_ratio_) >= share > sum(model.explained_variance_ratio_[:-1])
    assert clone(model).n_components == share


def test_auto_is_the_share_that_it_says(cancer):
    assert LinearAutoencoder("auto").fit(cancer).n_components_ == LinearAutoencoder(0.9).fit(cancer).n_components_


@pytest.mark.parametrize(
    "kind", [DenoisingAutoencoder, ContractiveAutoencoder, VariationalAutoencoder, StackedAutoencoder]
)
def test_every_kind_of_bottleneck_takes_a_share(kind, rows, tmp_path):
    model = kind(0.7, hidden=(4,), max_epochs=1, random_state=0).fit(rows)
    assert 1 <= model.n_components_ <= 3
    model.save(tmp_path / "m.safetensors")
    assert eigencode.load(tmp_path / "m.safetensors").n_components == 0.7


def test_a_dictionary_has_a_number_of_units_and_no_share(rows):
    with pytest.raises(OptionError, match="'n_components' parameter of SparseAutoencoder must be an int"):
        SparseAutoencoder(0.9).fit(rows)


def test_the_shell_takes_a_share(rows, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", rows)
    model = str(tmp_path / "m.safetensors")
    assert main(["fit", str(tmp_path / "rows.npy"), "--output", model, "--n-components", "0.9", "--quiet"]) == 0
    assert eigencode.load(tmp_path / "m.safetensors").n_components == 0.9
