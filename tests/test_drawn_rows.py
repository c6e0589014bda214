"""Rows drawn from frames: within what was fitted, with its distributions, and given some of the columns."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import multivariate_normal

from eigencode import Autoencoder, LinearAutoencoder, VariationalAutoencoder, load
from eigencode.data.marginals import Marginals
from eigencode.errors import DataError
from eigencode.model import Mixture, fit_density, fit_mixture
from eigencode.parts import LaplaceLikelihood

QUICK = {"max_epochs": 5, "random_state": 0}


@pytest.fixture(scope="module")
def frame():
    """Numbers of all kinds, which depend on each other."""
    rng = np.random.default_rng(0)
    size = rng.normal(size=400)
    price = np.exp(2 * size + rng.normal(size=400) / 5)
    return pd.DataFrame(
        {
            "price": price,
            "rounded": price.round(2),
            "count": rng.poisson(np.exp(size)),
            "gain": np.where(size > 0.7, (1000 * price).round(), 0.0),
            "share": 1 / (1 + np.exp(-size)),
            "number": (10 * size).round(1),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta((30 * size).round(), unit="D"),
            "label": np.array(["a", "b", "c"])[np.digitize(size, [-0.5, 0.5])],
            "flag": size > 0,
        }
    )


@pytest.fixture(scope="module", params=[Autoencoder, VariationalAutoencoder])
def model(request, frame):
    return request.param(**QUICK).fit(frame)


@pytest.mark.versions
def test_drawn_rows_are_within_what_was_fitted(model, frame):
    drawn = model.sample(2000, random_state=0)
    assert drawn.dtypes.equals(frame.dtypes)
    for name in frame.columns.drop(["label", "flag"]):
        assert frame[name].min() <= drawn[name].min()
        assert drawn[name].max() <= frame[name].max()
    for name in ("rounded", "number"):
        assert (drawn[name] == drawn[name].round(2)).all()
    assert set(drawn["label"]) <= set(frame["label"])
    assert (drawn["gain"] % 1 == 0).all()


def random_column(rng, n):
    """A column of a random kind, size and number of values."""
    scale, digits = 10.0 ** rng.integers(-3, 7), int(rng.integers(0, 4))
    normal = scale * (rng.normal() + rng.normal(size=n))
    labels = np.array([f"label {i}" for i in range(rng.integers(2, 9))])
    picked = labels[rng.integers(len(labels), size=n)]
    low, high = sorted(rng.choice(np.arange(-128, 128), 2, replace=False))
    kinds = (
        lambda: normal,
        lambda: normal.round(digits),
        lambda: normal.astype(np.float32),
        lambda: 100 * np.rint(normal),
        lambda: rng.integers(low, high + 1, n).astype(np.int8),
        lambda: rng.integers(0, 2**40, n),
        lambda: pd.array(np.where(rng.random(n) < 0.2, None, rng.integers(3, 50, n)), dtype="Int64"),
        lambda: rng.poisson(rng.gamma(1.0, 3.0, n)),
        lambda: np.exp(rng.normal(size=n)) * scale,
        lambda: np.where(rng.random(n) < 0.7, 0, rng.integers(1, 5000, n)),
        lambda: rng.beta(0.5, 2.0, n),
        lambda: rng.random(n) < rng.random(),
        lambda: picked,
        lambda: pd.Categorical(picked, [*labels[::-1], "never"], ordered=bool(rng.integers(2))),
        lambda: np.where(rng.random(n) < 0.3, None, picked),
        lambda: pd.Timestamp("1890-01-01") + pd.to_timedelta(rng.integers(0, 90_000, n), unit="D"),
        lambda: pd.to_timedelta(rng.integers(-500, 500, n), unit="min"),
        lambda: np.full(n, rng.integers(9)),
    )
    return pd.Series(kinds[rng.integers(len(kinds))]())


def check_kept(drawn, fitted):
    """The bounds, decimals and labels of a column fitted are those of rows drawn."""
    drawn, fitted = drawn.dropna(), fitted.dropna()
    if fitted.dtype == object or isinstance(fitted.dtype, pd.CategoricalDtype | pd.StringDtype) or fitted.dtype == bool:
        assert set(drawn) <= set(fitted)
        return
    assert fitted.min() <= drawn.min()
    assert drawn.max() <= fitted.max()
    if pd.api.types.is_numeric_dtype(fitted.dtype):
        for digits in range(4):
            is_so = [np.array_equal(x.round(digits), x) for x in (drawn.to_numpy(float), fitted.to_numpy(float))]
            assert is_so[0] or not is_so[1], f"not {digits} decimals"
    else:
        assert (drawn.dt.floor("D" if fitted.dtype.kind == "M" else "min") == drawn).all()


@pytest.mark.filterwarnings("ignore:X has gaps")
@pytest.mark.parametrize("seed", range(24))
def test_draws_of_random_tables_keep_what_was_true_of_the_rows_fitted(seed):
    """Of new rows, of rows given some of their cells, and of gaps."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 90))
    frame = pd.DataFrame({f"column {j}": random_column(rng, n) for j in range(rng.integers(2, 8))})
    model = (Autoencoder, VariationalAutoencoder)[seed % 4 == 3](max_epochs=1, random_state=seed).fit(frame)
    draws = [
        model.sample(300, random_state=seed),
        model.sample(given=frame.iloc[:10, :1], random_state=seed),
        *model.impute(frame.where(rng.random(frame.shape) < 0.5), n_draws=2, random_state=seed),
    ]
    pd.testing.assert_series_equal(draws[0].dtypes, frame.dtypes)
    for drawn in draws:
        for name in frame:
            check_kept(drawn[name], frame[name])


def test_columns_of_drawn_rows_have_the_distributions_fitted(model, frame):
    drawn = model.sample(4000, random_state=0)
    for name in ("price", "share", "number"):
        levels = np.linspace(0.1, 0.9, 9)
        ranks = np.searchsorted(np.sort(frame[name]), drawn[name].quantile(levels)) / len(frame)
        # Two samples of 400 and 4,000 from the same distribution differ by more in one of twenty cases.
        np.testing.assert_allclose(ranks, levels, atol=1.36 * math.sqrt(1 / 400 + 1 / 4000))
    assert abs((drawn["count"] == 0).mean() - (frame["count"] == 0).mean()) < 0.05


@pytest.mark.versions
def test_drawn_rows_given_columns_are_within_what_was_fitted(model, frame):
    given = frame[["label", "count"]].iloc[:100]
    drawn = model.sample(given=given, random_state=0)
    pd.testing.assert_frame_equal(drawn[["label", "count"]], given)
    assert drawn["price"].between(frame["price"].min(), frame["price"].max()).all()


@pytest.mark.versions
def test_a_file_draws_what_the_model_does(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    pd.testing.assert_frame_equal(again.sample(50, random_state=1), model.sample(50, random_state=1))


def conditional(covariance, known, missing):
    """Gain and covariance of missing cells given known ones."""
    gain = covariance[np.ix_(missing, known)] @ np.linalg.inv(covariance[np.ix_(known, known)])
    return gain, covariance[np.ix_(missing, missing)] - gain @ covariance[np.ix_(known, missing)]


NORMAL = {
    "linear": lambda k: LinearAutoencoder(k, precision="float64", random_state=0),
    "variational": lambda k: VariationalAutoencoder(k, max_epochs=0, precision="float64", random_state=0),
}


@pytest.mark.parametrize("kind", NORMAL)
@pytest.mark.parametrize(("d", "known"), [(4, [0, 2]), (12, [0, 2, 3, 5, 6, 7, 8, 9, 10, 11])])
def test_rows_drawn_given_others_are_those_of_the_normal_density(kind, d, known):
    """Also where the known cells say so much that no draw from the density of codes is near the code of the row.

    Over rows, squared distances from the true mean in true deviations have the mean 1, and covariances are the true
    ones; bounds are four standard errors and the error of a covariance of 2,000 rows.
    """
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(d, 2))
    covariance = loadings @ loadings.T + 0.05 * np.eye(d)
    rows = rng.multivariate_normal(np.zeros(d), covariance, 2000 + 500)
    model, new = NORMAL[kind](2).fit(rows[:2000]), rows[2000:]
    missing = [j for j in range(d) if j not in known]
    given = new.copy()
    given[:, missing] = np.nan
    drawn = model.sample(given=given, random_state=0)
    gain, left = conditional(covariance, known, missing)
    np.testing.assert_array_equal(drawn[:, known], new[:, known])
    whitened = np.linalg.solve(np.linalg.cholesky(left), (drawn[:, missing] - new[:, known] @ gain.T).T)
    np.testing.assert_allclose(np.cov(whitened, bias=True), np.eye(len(missing)), atol=4 * (2 / 500) ** 0.5)
    np.testing.assert_allclose(whitened.mean(1), 0, atol=4 / 500**0.5)


def test_codes_in_clumps_have_a_gaussian_around_each():
    rng = np.random.default_rng(0)
    clumps = rng.normal(size=(60, 3))[rng.integers(60, size=1500)] + 0.02 * rng.normal(size=(1500, 3))
    train, test = clumps[:1000], clumps[1000:]
    few, many = fit_mixture(train, 0), fit_density(train, 0)
    assert many.n_components == 1000
    assert many.log_prob(test).mean() > few.log_prob(test).mean() + 0.3
    draws = many.sample(100_000, np.random.default_rng(0))
    np.testing.assert_allclose(np.cov(draws.T), np.cov(train.T), atol=0.05)
    separate = Mixture(many.weights, many.means, many.covariances[many.groups])
    np.testing.assert_allclose(many.log_prob(test), separate.log_prob(test))


def test_normal_codes_have_one_gaussian():
    assert fit_density(np.random.default_rng(0).normal(size=(1000, 3)), 0).n_components == 1


def test_marginals_leave_gaps_and_columns_without_numbers():
    rows, rng = np.array([[np.nan, 1.0], [np.nan, 2.0]]), np.random.default_rng(0)
    moved = Marginals.of(rows, rows, [0]).moved(np.array([[3.0, 4.0]]), rng)
    np.testing.assert_array_equal(moved, [[3.0, 4.0]])


@pytest.mark.parametrize(("n", "moves"), [(50, False), (5000, True)])
def test_columns_that_differ_by_chance_stay_as_they_are_drawn(n, moves):
    """A shift of .15 deviations is beyond chance for many rows only."""
    rng = np.random.default_rng(0)
    marginals = Marginals.of(rng.normal(size=(n, 1)), rng.normal(0.15, size=(4096, 1)), [0])
    rows = rng.normal(size=(9, 1))
    assert np.array_equal(marginals.moved(rows, rng), rows) != moves


def test_numbers_beside_categories_have_the_spread_of_their_residuals(frame):
    """The constant variance, half of a column's own, would hide what columns have to do with each other."""
    given = frame[["share", "number", "label"]]
    drawn = Autoencoder(2, max_epochs=40, random_state=0).fit(given).sample(2000, random_state=0)
    assert drawn["share"].corr(drawn["number"], method="spearman") > 0.9


def test_draws_given_cells_are_finite_where_a_density_has_no_curvature():
    """Of Laplace's, whose second derivatives are 0, a step of Newton's method would be as long as the prior is wide."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 6)) + 0.2 * rng.normal(size=(300, 6))
    given = X.copy()
    given[:, 4:] = np.nan
    drawn = Autoencoder(2, likelihood=LaplaceLikelihood(), **QUICK).fit(X).sample(given=given, random_state=0)
    np.testing.assert_allclose(drawn.std(0), X.std(0), rtol=0.3)


def test_labels_drawn_given_numbers_have_bayes_probabilities():
    """Of labels with normal numbers each, of one covariance; and numbers given a label have its mean.

    The distance of the shares of labels from Bayes' probabilities is .11 in the mean, with a standard deviation of
    .034 over tables and seeds.
    """
    means, covariance = np.array([[0.0, 0.0], [2.0, 0.5], [1.0, 2.0]]), np.array([[1.0, 0.6], [0.6, 0.8]])
    distances = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        label = rng.choice(3, 1500, p=[0.5, 0.3, 0.2])
        rows = means[label] + rng.multivariate_normal([0, 0], covariance, 1500)
        frame = pd.DataFrame(rows, columns=["a", "b"]).assign(label=np.array(["x", "y", "z"])[label])
        model = Autoencoder(3, max_epochs=30, random_state=seed).fit(frame)
        points = rows[:12]
        logs = np.log([[0.5], [0.3], [0.2]]) + [multivariate_normal(mean, covariance).logpdf(points) for mean in means]
        given = pd.DataFrame(np.repeat(points, 100, axis=0), columns=["a", "b"])
        drawn = model.sample(given=given, random_state=0)
        shares = np.stack([(drawn["label"] == name).to_numpy().reshape(12, 100).mean(1) for name in "xyz"])
        distances.append(np.abs(shares - softmax(logs, axis=0)).sum(0).mean() / 2)
        drawn = model.sample(given=pd.DataFrame({"label": np.repeat(["x", "y", "z"], 300)}), random_state=0)
        found = drawn.groupby("label")[["a", "b"]]
        np.testing.assert_allclose(found.mean(), means, atol=0.3)
        np.testing.assert_allclose(found.std(), np.tile(covariance.diagonal() ** 0.5, (3, 1)), rtol=0.2)
    assert np.mean(distances) < 0.17


def test_given_values_are_known_in_the_units_of_the_drawn_ones():
    """So that a column that draws have with another spread is not read as far from its mean."""
    rng = np.random.default_rng(0)
    real, drawn = rng.lognormal(size=(2000, 2)), rng.normal(size=(2000, 2))
    marginals = Marginals.of(real, drawn, [0])
    given = np.array([[np.nan, 3.0], [1.0, np.nan], [real[:, 0].max() + 2, 0.0]])
    undone = marginals.undone(given, rng)
    np.testing.assert_array_equal(undone[:, 1], given[:, 1])
    assert np.isnan(undone[0, 0])
    assert undone[1, 0] == pytest.approx(0.0, abs=0.1)
    assert undone[2, 0] == pytest.approx(drawn[:, 0].max() + 2, abs=0.5)
    inner = real[(real[:, 0] > 0.1) & (real[:, 0] < 5)]
    np.testing.assert_allclose(marginals.moved(marginals.undone(inner, rng), rng)[:, 0], inner[:, 0], rtol=0.05)


def test_one_row_given_as_a_mapping_is_told_how_to_be_a_frame():
    frame = pd.DataFrame({"x": np.arange(60.0), "label": ["a", "b", "c"] * 20})
    model = Autoencoder(1, max_epochs=0).fit(frame)
    with pytest.raises(DataError, match=r"^'given' is a mapping, .* or pandas\.DataFrame\(\[X\]\) of one row"):
        model.sample(given={"label": "a"})
    assert model.sample(given=pd.DataFrame([{"label": "a"}]))["label"].tolist() == ["a"]
    with pytest.raises(DataError, match=r"of a frame take frame\[\['name'\]\] or frame\.iloc\[\[0\]\]\.$"):
        model.transform(frame.iloc[0])
    two_lines = Autoencoder(1, max_epochs=0).fit(frame.rename(columns={"x": "x\n(cm)"}))
    assert str(two_lines.columns_).splitlines()[0].startswith(r"'x\n(cm)'  real")


@pytest.mark.parametrize("seed", range(3))
def test_draws_of_large_numbers_have_the_spread_of_those_fitted(seed):
    """A frame's numbers far from zero, as times in seconds since 1970, keep differences that float32 does not have."""
    frame = pd.DataFrame(np.random.default_rng(seed).normal(size=(400, 3)), columns=list("abc"))
    times = pd.to_datetime(1e9 + 10 * frame["b"], unit="s").astype("datetime64[ms]")
    frame = frame.assign(a=frame["a"] + 1e9, b=times)
    drawn = Autoencoder(2, max_epochs=3, random_state=0).fit(frame).sample(400, random_state=0)
    for name in "ab":
        fitted, own = (table[name].astype("int64" if name == "b" else "float64") for table in (frame, drawn))
        assert own.nunique() > 300
        assert 0.75 < own.std() / fitted.std() < 1.3  # both deviations vary by 1 / sqrt(800)
