"""Estimators on frames of mixed columns: what goes in comes back in the same form."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import AUTOENCODERS
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import eigencode
from eigencode import (
    AnomalyDetector,
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    AutoencoderSearch,
    LinearAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
    fit_many,
)
from eigencode.errors import CellTypeError, DataError, OptionError
from eigencode.fitting import baseline
from eigencode.model.initialization import LinearStart

pytestmark = pytest.mark.versions

N = 90

OPTIONS = {"max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def frame():
    """Two groups of rows, which every column depends on."""
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, N)
    return pd.DataFrame(
        {
            "height": rng.normal(170 + 20 * group, 5).astype("float32"),
            "rooms": rng.integers(2, 6, N) + group,
            "visits": rng.poisson(1 + 5 * group),
            "color": np.where(group, "red", rng.choice(["green", "blue"], N)),
            "size": pd.Categorical(np.where(group, "L", "S"), categories=["S", "M", "L"], ordered=True),
            "member": group == 1,
            "born": pd.Timestamp("1999-01-01") + pd.to_timedelta(group * 1000 + rng.integers(0, 99, N), unit="D"),
            "unit": "cm",
            "name": [f"person {i}" for i in range(N)],
        },
        index=pd.Index(np.arange(N) * 7, name="key"),
    )


@pytest.mark.parametrize("estimator", AUTOENCODERS, ids=lambda cls: cls.__name__)
def test_every_autoencoder_takes_mixed_columns(estimator, frame):
    model = estimator(2, random_state=0) if estimator is LinearAutoencoder else estimator(2, **OPTIONS)
    model.fit(frame)
    assert model.n_features_in_ == frame.shape[1]
    assert model.transform(frame).shape == (N, model.n_components_)
    for rows in (model.reconstruct(frame), model.inverse_transform(model.transform(frame))):
        assert rows.dtypes.equals(frame.dtypes)
        assert list(rows.columns) == list(frame.columns)
    assert model.reconstruct(frame).index.equals(frame.index)
    assert model.reconstruct(frame)["name"].equals(frame["name"])
    assert np.isfinite(model.score_samples(frame)).all()
    assert model.reconstruction_error(frame).shape == (N,)
    assert model.fit_density(frame).sample(3, random_state=0).dtypes.equals(frame.dtypes)


def test_mixed_columns_are_learned(frame):
    """Labels better than by the mode, numbers better than by the mean, of rows that were not fitted."""
    model = Autoencoder(1, max_epochs=60, random_state=0).fit(frame[: N // 2])
    held_out = frame[N // 2 :]
    rebuilt = model.reconstruct(held_out)
    for name in ("member", "size"):
        assert (rebuilt[name] == held_out[name]).mean() > 0.9
    for name in ("height", "visits"):
        error = (rebuilt[name] - held_out[name]).pow(2).mean()
        assert error < 0.5 * held_out[name].var(ddof=0)


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_answers_are_frames_of_the_library_fitted(library, frame):
    given = pl.from_pandas(frame) if library == "polars" else pa.Table.from_pandas(frame, preserve_index=False)
    model = Autoencoder(2, **OPTIONS).fit(given)
    rebuilt = model.reconstruct(given)
    assert type(rebuilt) is type(given)
    assert rebuilt.schema == given.schema
    assert type(model.fit_density(given).sample(2)) is type(given)


def test_fitted_on_an_array_answers_are_arrays(frame):
    rows = frame[["height", "rooms"]].to_numpy()
    model = Autoencoder(1, **OPTIONS).fit(rows)
    assert model.columns_ is None
    assert isinstance(model.reconstruct(rows), np.ndarray)


def test_a_frame_of_floats_is_fitted_as_its_array(frame):
    rows = np.random.default_rng(0).normal(size=(40, 3))
    given = pd.DataFrame(rows, columns=list("abc"))
    model, plain = Autoencoder(2, **OPTIONS).fit(given), Autoencoder(2, **OPTIONS).fit(rows)
    np.testing.assert_array_equal(model.transform(given), plain.transform(rows))
    np.testing.assert_array_equal(model.reconstruct(given), plain.reconstruct(rows))


def test_score_samples_is_in_the_data_s_units():
    """The density of a logged column is a log-normal one: it integrates to 1."""
    from scipy.integrate import trapezoid

    frame = pd.DataFrame({"x": np.random.default_rng(0).lognormal(0, 2, 300)})
    model = VariationalAutoencoder(1, hidden=(), max_epochs=20, random_state=0).fit(frame)
    grid = np.exp(np.linspace(-12, 12, 4001))
    density = np.exp(model.log_likelihood(pd.DataFrame({"x": grid}), 200))
    assert model.columns_.columns[0].kind.kind == "positive"
    assert abs(trapezoid(density, grid) - 1) < 0.02


def test_codes_in_float32_give_the_same_times_and_large_numbers():
    near = np.random.default_rng(0).normal(size=(200, 2))
    times = pd.to_datetime(1e9 + 10 * near[:, 0], unit="s").astype("datetime64[ms]")
    rows = pd.DataFrame({"time": times, "large": 1e9 + near[:, 1], "near": near[:, 0]})
    model = Autoencoder(2, **OPTIONS).fit(rows)
    codes = model.transform(rows)
    exact, rounded = (model.inverse_transform(codes.astype(type_)) for type_ in ("float64", "float32"))
    assert (exact["time"] - rounded["time"]).abs().max() <= pd.Timedelta("5ms")
    assert (exact["large"] - rounded["large"]).abs().max() < 1e-5


def test_a_model_file_keeps_the_columns(frame, tmp_path):
    model = Autoencoder(2, columns={"rooms": "category"}, **OPTIONS).fit(frame)
    model.save(tmp_path / "m.safetensors")
    loaded = eigencode.load(tmp_path / "m.safetensors")
    assert loaded.columns_ == model.columns_
    pd.testing.assert_frame_equal(loaded.reconstruct(frame), model.reconstruct(frame))
    assert loaded.baseline_.columns_ == model.columns_


@pytest.mark.parametrize("change", [{"library": "fortran"}, {"library": 3}, {"columns": []}, {"kind": None}])
def test_damaged_columns_in_a_model_file(change, frame, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    Autoencoder(2, **OPTIONS).fit(frame).save(path := tmp_path / "m.safetensors")
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    (key,) = [key for key, value in metadata.items() if "columns_" in value]
    description = json.loads(metadata[key])
    found = description
    while "columns_" not in found.get("fitted", {}):
        found = found["model"]
    if "kind" in change:
        found["fitted"]["columns_"]["columns"]["tuple"][0]["kind"] = change["kind"]
    else:
        found["fitted"]["columns_"].update(change)
    save_file(tensors, path, metadata | {key: json.dumps(description)})
    with pytest.raises(eigencode.errors.StorageError):
        eigencode.load(path)


def test_a_category_that_was_not_seen(frame):
    model = Autoencoder(2, **OPTIONS).fit(frame)
    strange = frame.assign(color="violet")
    assert (model.score_samples(strange) < model.score_samples(frame)).mean() > 0.9
    assert set(model.reconstruct(strange)["color"]) <= {"red", "green", "blue"}


def test_categories_of_many_values_are_learned_by_what_goes_with_them():
    """Prices are imputed by the city, of which there are 200, each in few rows; drawn cities are real ones."""
    rng = np.random.default_rng(0)
    level, city = rng.normal(size=200), rng.integers(0, 200, 900)
    frame = pd.DataFrame({"city": np.array([f"c{i}" for i in rng.permutation(200)])[city]})
    frame["price"], frame["rent"] = level[city] + 0.2 * rng.normal(size=(2, 900))
    model = Autoencoder(4, max_epochs=2, random_state=0).fit(frame[:700])
    assert model.columns_.n_cells == 67 + 8
    known = frame[700:]
    filled = model.impute(known.assign(price=np.nan, rent=np.nan))
    assert (filled["price"] - known["price"]).pow(2).mean() < 0.4 * known["price"].var()
    assert set(model.fit_density(frame).sample(50, random_state=0)["city"]) <= set(frame["city"])
    assert np.isfinite(model.score_samples(known)).all()


def test_columns_at_predict(frame):
    """Missing, more, in another order, or of another type: each by name."""
    model = Autoencoder(2, **OPTIONS).fit(frame)
    with pytest.raises(DataError, match="now missing:\n- color"):
        model.transform(frame.drop(columns="color"))
    with pytest.raises(DataError, match="unseen at fit time:\n- more"):
        model.transform(frame.assign(more=1))
    with pytest.raises(DataError, match="same order as they were in fit. Got 'name' where 'height' was"):
        model.transform(frame[frame.columns[::-1]])
    with pytest.raises(CellTypeError, match="Column 'height' should have numbers. Got 'tall' in row 0"):
        model.transform(frame.assign(height="tall"))
    with pytest.raises(CellTypeError, match="Column 'color' should have text, as in fitting. Got 3 in row 0"):
        model.transform(frame.assign(color=3))
    with pytest.raises(CellTypeError, match="Column 'born' should have times"):
        model.transform(frame.assign(born=1.5))


def test_a_column_that_was_left_out_may_be_missing_later(frame):
    """Columns that the model does not see are not needed; the others come back as with them."""
    model = Autoencoder(2, **OPTIONS).fit(frame)
    fewer = frame.drop(columns=["name", "unit"])
    np.testing.assert_array_equal(model.transform(fewer), model.transform(frame))
    pd.testing.assert_frame_equal(model.reconstruct(fewer), model.reconstruct(frame)[fewer.columns])
    pd.testing.assert_frame_equal(model.impute(fewer), fewer)
    assert list(model.sample(given=fewer, random_state=0)) == list(frame)
    with pytest.raises(DataError, match="unseen at fit time:\\n- more"):
        model.transform(fewer.assign(more=1))


def test_a_detector_of_rows_without_the_columns_that_were_left_out(frame):
    detector = AnomalyDetector(autoencoder=Autoencoder(2, **OPTIONS), random_state=0).fit(frame)
    fewer = frame.drop(columns=["name", "unit"])
    np.testing.assert_array_equal(detector.score_samples(fewer), detector.score_samples(frame))
    assert len(detector.explain(fewer[:2])) == len(detector.explain(frame[:2]))


def test_an_array_of_the_same_columns(frame):
    model = Autoencoder(2, **OPTIONS).fit(frame)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        codes = model.transform(frame.astype(object).to_numpy())
    np.testing.assert_allclose(codes, model.transform(frame), rtol=1e-4, atol=1e-4)


def test_a_given_likelihood_is_that_of_the_numbers(frame):
    model = Autoencoder(2, likelihood="laplace", **OPTIONS).fit(frame)
    assert [(type(part).__name__, width) for part, width in model.composition_.likelihood.blocks] == [
        ("LaplaceLikelihood", 3),
        ("CategoricalLikelihood", 4),
        ("OrdinalLikelihood", 3),
        ("LaplaceLikelihood", 2),
    ]
    with pytest.raises(DataError, match="PoissonLikelihood|counts"):
        Autoencoder(2, likelihood="poisson", **OPTIONS).fit(frame)


def test_options_of_columns(frame):
    model = Autoencoder(2, columns={"rooms": "category", "color": ["blue", "green", "red"]}, **OPTIONS).fit(frame)
    kinds = {column.name: column.kind for column in model.columns_.columns}
    assert kinds["rooms"].kind == "category"
    assert kinds["color"].labels == ("blue", "green", "red")
    with pytest.raises(OptionError, match="'columns' names a column that is not there. Got 'colour'. Did you mean"):
        Autoencoder(2, columns={"colour": "category"}, **OPTIONS).fit(frame)
    with pytest.raises(OptionError, match="'columns' parameter of Autoencoder must be a dict"):
        Autoencoder(2, columns="category").fit(frame)


def test_notes_on_columns_that_are_left_out(frame):
    model = Autoencoder(2, **OPTIONS).fit(frame)
    assert "column 'name' is left out: 90 different texts in 90 rows" in model.notes_


def test_weights_validation_rows_and_groups(frame):
    rows, apart = frame[:60], frame[60:]
    model = Autoencoder(2, **OPTIONS).fit(rows, sample_weight=np.arange(60) % 3, validation_data=apart)
    assert model.n_validation_ == 30
    assert model.reconstruct(apart).shape == apart.shape
    Autoencoder(2, **OPTIONS).fit(rows, groups=rows["color"])


def test_streams_and_iterators(frame):
    model = Autoencoder(2, **OPTIONS)
    for first in range(0, N, 45):
        model.partial_fit(frame[first : first + 45])
    assert model.reconstruct(frame).dtypes.equals(frame.dtypes)
    model = Autoencoder(2, **OPTIONS)
    epochs = [row["epoch"] for row in model.iter_fit(frame)]
    assert epochs == [1, 2]
    assert model.reconstruct(frame).dtypes.equals(frame.dtypes)


def test_many_models_and_a_search(frame):
    models = [Autoencoder(k, hidden=(8,), optimizer="adam", **OPTIONS) for k in (1, 2)]
    fit_many(models, frame)
    assert all(model.reconstruct(frame).dtypes.equals(frame.dtypes) for model in models)
    search = AutoencoderSearch(Autoencoder(hidden=(8,), **OPTIONS), {"n_components": [1, 2]}, cv=2, random_state=0)
    search.fit(frame)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.reconstruct(frame).dtypes.equals(frame.dtypes)
    seen = []
    AutoencoderSearch(
        Autoencoder(1, hidden=(), **OPTIONS),
        {"init": ["linear"]},
        cv=2,
        scoring=lambda model, X: seen.append(X) or model.score_samples(X),
    ).fit(frame)
    assert all(isinstance(X, pd.DataFrame) for X in seen)


def test_a_stack_with_a_first_layer_of_its_own(frame):
    layers = [Autoencoder(4, hidden=(), max_epochs=2), Autoencoder(2, hidden=(), max_epochs=2)]
    model = StackedAutoencoder(layers=layers, **OPTIONS).fit(frame)
    assert model.layers_[0].columns_ == model.columns_
    assert model.reconstruct(frame).dtypes.equals(frame.dtypes)


@pytest.mark.parametrize("fitted", [False, True])
def test_labels_of_mixed_columns(frame, fitted, tmp_path):
    X, y = frame.drop(columns="member"), frame["member"].to_numpy().astype(int)
    inner = Autoencoder(2, hidden=(), **OPTIONS)
    model = AutoencoderClassifier(inner.fit(X) if fitted else inner, **OPTIONS).fit(X, y)
    assert model.predict(X).shape == (N,)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(eigencode.load(tmp_path / "m.safetensors").predict(X), model.predict(X))
    values = AutoencoderRegressor(Autoencoder(2, hidden=(), **OPTIONS), **OPTIONS).fit(X, frame["height"].to_numpy())
    assert values.predict(X).shape == (N,)


def test_a_good_citizen(frame):
    """In a pipeline, and beside others in a ColumnTransformer."""
    y = frame["member"]
    pipeline = make_pipeline(Autoencoder(2, **OPTIONS), LogisticRegression()).fit(frame, y)
    assert pipeline.score(frame, y) > 0.9
    beside = ColumnTransformer(
        [("numbers", StandardScaler(), ["height"])],
        remainder=Autoencoder(2, **OPTIONS),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    found = beside.fit_transform(frame)
    assert list(found.columns) == ["height", "autoencoder0", "autoencoder1"]
    assert found.index.equals(frame.index)


def test_two_columns_of_one_name(frame):
    with pytest.raises(DataError, match="Two columns have the same name.*Got 'color'"):
        Autoencoder(2, **OPTIONS).fit(frame.rename(columns={"size": "color"}))


def test_no_column_and_no_row(frame):
    with pytest.raises(DataError, match=r"0 feature\(s\)"):
        Autoencoder(2).fit(frame[[]])
    with pytest.raises(DataError, match=r"1 sample\(s\)"):
        Autoencoder(2).fit(frame[:1])
    with pytest.raises(DataError, match="No column of the table can be used. Got 'unit' is always 'cm'"):
        Autoencoder(2).fit(frame[["unit", "name"]])


def test_infinite_cells_are_named_by_their_column(frame):
    wrong = frame.assign(height=np.where(np.arange(N) == 5, np.inf, frame["height"]))
    with pytest.raises(DataError, match=r"infinite cells \(inf\). Got 1 in column 'height' \(row 5"):
        Autoencoder(2).fit(wrong)


def test_impute_fills_gaps_in_the_columns_own_kind(frame):
    given = frame.copy()
    rng = np.random.default_rng(1)
    for name in ("height", "color", "size", "born"):
        given.loc[rng.random(N) < 0.3, name] = None
    model = Autoencoder(2, max_epochs=20, random_state=0).fit(given)
    filled = model.impute(given)
    assert filled.dtypes.equals(frame.dtypes)
    assert filled.index.equals(frame.index)
    assert not filled.isna().any().any()
    for name in given:
        known = given[name].notna()
        assert (filled[name][known] == given[name][known]).all()
    gaps = given["size"].isna()
    assert (filled["size"][gaps] == frame["size"][gaps]).mean() > 0.8


def test_values_that_stand_for_gaps(frame):
    given = frame.assign(rooms=frame["rooms"].where(np.arange(N) % 4 > 0, -999))
    model = Autoencoder(2, missing_values=-999, **OPTIONS).fit(given)
    assert model.columns_.columns[1].n_gaps == 23
    assert model.impute(given)["rooms"].min() >= 1
    rows = given[["height", "rooms"]].to_numpy()
    filled = Autoencoder(1, missing_values=(-999,), **OPTIONS).fit(rows).impute(rows)
    assert filled.min() > -900
    np.testing.assert_array_equal(filled[rows > -999], rows[rows > -999])


def test_rows_are_drawn_given_some_of_their_columns(frame):
    """The others depend on these as in the rows fitted."""
    model = Autoencoder(2, max_epochs=60, random_state=0).fit(frame).fit_density(frame)
    given = pd.DataFrame({"size": frame["size"].cat.set_categories(["S", "M", "L"]), "visits": frame["visits"]})
    drawn = model.sample(given=given, random_state=0)
    assert drawn.dtypes.equals(frame.dtypes)
    assert drawn.index.equals(frame.index)
    assert (drawn["size"] == frame["size"]).all()
    assert (drawn["visits"] == frame["visits"]).all()
    assert (drawn["member"] == frame["member"]).mean() > 0.9
    between = frame.groupby("size", observed=True)["height"].mean().diff().iloc[-1]
    assert abs(drawn.groupby("size", observed=True)["height"].mean().diff().iloc[-1] - between) < 8
    pd.testing.assert_frame_equal(model.sample(given=given, random_state=0), drawn)
    with pytest.raises(DataError, match="a column that was not fitted. Got 'sise'. Did you mean 'size'"):
        model.sample(given=given.rename(columns={"size": "sise"}))


def test_draws_given_a_cell_have_the_normal_s_conditional_moments():
    """Of a pair with correlation 0.8, given the first: mean 0.8 x, variance 0.36."""
    rows = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 2000)
    model = VariationalAutoencoder(1, hidden=(), max_epochs=40, random_state=0).fit(rows)
    given = np.full((4000, 2), [1.5, np.nan])
    drawn = model.sample(given=given, random_state=0)
    assert (drawn[:, 0] == 1.5).all()
    assert abs(drawn[:, 1].mean() - 1.2) < 0.12
    assert abs(drawn[:, 1].var() - 0.36) < 0.12


def test_imputed_numbers_are_means_in_their_own_units():
    """Of independent columns it is each column's mean: not the exponential of the logarithms' mean."""
    rng = np.random.default_rng(0)
    n = 2000
    frame = pd.DataFrame(
        {
            "income": rng.lognormal(0, 1, n),
            "visits": rng.negative_binomial(1, 0.25, n).astype(float),
            "gain": np.where(rng.random(n) < 0.6, 0.0, rng.lognormal(2, 1, n)),
            "height": rng.normal(size=n),
        }
    )
    gaps = rng.random(frame.shape) < 0.2
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(frame.mask(gaps))
    assert [column.kind.kind for column in model.columns_.columns] == ["positive", "count", "zero-inflated", "real"]
    filled = model.impute(frame.mask(gaps))
    for j, name in enumerate(["income", "visits", "gain"]):
        assert filled[name][gaps[:, j]].mean() == pytest.approx(frame[name].mean(), rel=0.15)
        assert (filled[name] <= frame[name].max()).all()
    assert (filled["visits"] % 1 != 0).any()
    assert np.isfinite(model.score_samples(filled)).all()  # a mean is read as the nearest count
    draws = model.impute(frame.mask(gaps), n_draws=2, random_state=0)
    assert all((draw["visits"] % 1 == 0).all() for draw in draws)


@pytest.mark.parametrize("shift", [0.0, 1e3, -6.3])
def test_what_constant_columns_add_to_the_objective_does_not_change_which_start_is_chosen(shift, monkeypatch):
    first, second = (LinearStart(torch.ones(1, 2), torch.zeros(1), torch.ones(2, 1), False) for _ in range(2))
    found = iter([6.36 + shift, 6.28 + shift, 14.0 + shift])
    monkeypatch.setattr(baseline, "begin_at", lambda *given, **options: None)
    monkeypatch.setattr(baseline, "evaluate", lambda *given: next(found))
    data = SimpleNamespace(sample=SimpleNamespace(split=lambda n_rows: []))
    assert baseline._best(None, [first, second], data, None, False, 0) is second
