"""Rows drawn from frames: within what was fitted, with its distributions, and given some of the columns."""

import numpy as np
import pandas as pd
import pytest

from eigencode import Autoencoder, LinearAutoencoder, VariationalAutoencoder, load
from eigencode.data.marginals import Marginals
from eigencode.model import Mixture, fit_density, fit_mixture

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


def test_columns_of_drawn_rows_have_the_distributions_fitted(model, frame):
    drawn = model.sample(4000, random_state=0)
    for name in ("price", "share", "number"):
        levels = np.linspace(0.1, 0.9, 9)
        ranks = np.searchsorted(np.sort(frame[name]), drawn[name].quantile(levels)) / len(frame)
        np.testing.assert_allclose(ranks, levels, atol=0.05)
    assert abs((drawn["count"] == 0).mean() - (frame["count"] == 0).mean()) < 0.05


def test_drawn_rows_given_columns_are_within_what_was_fitted(model, frame):
    given = frame[["label", "count"]].iloc[:100]
    drawn = model.sample(given=given, random_state=0)
    pd.testing.assert_frame_equal(drawn[["label", "count"]], given)
    assert drawn["price"].between(frame["price"].min(), frame["price"].max()).all()


def test_a_file_draws_what_the_model_does(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    pd.testing.assert_frame_equal(again.sample(50, random_state=1), model.sample(50, random_state=1))


def test_rows_drawn_given_others_are_those_of_the_normal_density():
    """Codes have a normal density, and residuals their own variances, so two columns given the others are normal."""
    rng = np.random.default_rng(0)
    loadings = np.array([[1.0, 0.0], [0.6, 0.6], [0.0, 1.0], [0.7, -0.7]])
    X = rng.normal(size=(4000, 2)) @ loadings.T + 0.3 * rng.normal(size=(4000, 4))
    model = LinearAutoencoder(2).fit(X)
    given = np.tile([1.0, np.nan, -0.5, np.nan], (800, 1))
    drawn = model.sample(given=given, random_state=0)
    covariance = np.cov(model.reconstruct(X).T) + np.diag(model.noise_ * model.scaler_.divisor**2)
    np.testing.assert_allclose(np.diag(covariance), X.var(0), rtol=0.01)
    known, missing = [0, 2], [1, 3]
    gain = covariance[np.ix_(missing, known)] @ np.linalg.inv(covariance[np.ix_(known, known)])
    left = covariance[np.ix_(missing, missing)] - gain @ covariance[np.ix_(known, missing)]
    np.testing.assert_array_equal(drawn[:, known], given[:, known])
    np.testing.assert_allclose(drawn[:, missing].mean(0), gain @ [1.0, -0.5], atol=0.12)
    np.testing.assert_allclose(np.cov(drawn[:, missing].T), left, atol=0.08)


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


def test_numbers_beside_categories_have_the_spread_of_their_residuals(frame):
    """The constant variance, half of a column's own, would hide what columns have to do with each other."""
    given = frame[["share", "number", "label"]]
    drawn = Autoencoder(2, max_epochs=40, random_state=0).fit(given).sample(2000, random_state=0)
    assert drawn["share"].corr(drawn["number"], method="spearman") > 0.9
