"""Gaps (NaN) in the rows: what is learned of the cells that are known, and what is answered."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy.stats import multivariate_normal

import eigencode
from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.batch import Batch
from eigencode.data.gaps import find_nonfinite, hide_gaps
from eigencode.data.scaling import ColumnStatistics, Scaler
from eigencode.data.sources import ArraySource
from eigencode.errors import DataError, ResultWarning
from eigencode.model.gaussian import fit_gaussian
from eigencode.parts import MLP, Completing

QUICK = {"max_epochs": 3, "random_state": 0}
ESTIMATORS = [
    Autoencoder(2, hidden=(8,), **QUICK),
    VariationalAutoencoder(2, hidden=(8,), **QUICK),
    SparseAutoencoder(6, **QUICK),
    LinearAutoencoder(2, random_state=0),
    DenoisingAutoencoder(2, hidden=(8,), **QUICK),
    ContractiveAutoencoder(2, hidden=(8,), **QUICK),
    StackedAutoencoder(2, hidden=(8,), **QUICK),
]


def by_class(value):
    return type(value).__name__


def rows(n=80, d=5, seed=0):
    """Correlated columns of several sizes."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) * 10.0 ** np.arange(d) + rng.normal(size=(n, d)) + 3


def gapped(X, share=0.3, seed=1):
    mask = np.random.default_rng(seed).random(X.shape) < share
    mask[0] = False
    return np.where(mask, np.nan, X)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_statistics_of_columns_are_over_their_known_cells(monkeypatch, weighted):
    X = gapped(rows(500, 3))
    X[100:300, 1] = np.nan  # a chunk without any number there
    monkeypatch.setattr("eigencode.data.sources.CHUNK_ROWS", 100)
    weights = np.random.default_rng(2).random(500) + 0.1 if weighted else None
    found = ColumnStatistics.of(ArraySource(X), weights)
    assert found.has_gaps
    for j in range(3):
        known = ~np.isnan(X[:, j])
        w = np.ones(known.sum()) if weights is None else weights[known]
        mean = np.average(X[known, j], weights=w)
        np.testing.assert_allclose(found.mean[j], mean, rtol=1e-12)
        np.testing.assert_allclose(
            found.deviation[j], np.sqrt(np.average((X[known, j] - mean) ** 2, weights=w)), rtol=1e-12
        )
        assert (found.minimum[j], found.maximum[j]) == (X[known, j].min(), X[known, j].max())


def test_a_column_that_is_known_in_validation_rows_only_is_scaled_by_one():
    X = rows()
    X[:60, 2] = np.nan
    scaler = Scaler.fit(ArraySource(X[:60]), "standard")
    assert (scaler.center[2], scaler.divisor[2], scaler.constant) == (0, 1, [2])
    model = Autoencoder(2, hidden=(4,), validation="last", validation_fraction=0.25, **QUICK).fit(X)
    assert np.isfinite(model.reconstruct(X)).all()


CONTAINERS = {
    "masked": lambda X: np.ma.masked_invalid(X),
    "pandas": lambda X: pd.DataFrame(X).astype("Float64").to_numpy(object),
    "polars": lambda X: pl.DataFrame(X).fill_nan(None),
    "Arrow": lambda X: pa.table({str(j): pa.array(column, from_pandas=True) for j, column in enumerate(X.T)}),
    "lists": lambda X: [[None if np.isnan(cell) else cell for cell in row] for row in X.tolist()],
}


@pytest.mark.versions
@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_mark_of_a_gap_is_the_same(kind):
    X = gapped(rows())
    expected = Autoencoder(2, hidden=(4,), **QUICK).fit(X).reconstruct(X)
    other = CONTAINERS[kind](X)
    np.testing.assert_array_equal(Autoencoder(2, hidden=(4,), **QUICK).fit(other).reconstruct(other), expected)


@pytest.mark.versions
@pytest.mark.parametrize("cell", [-7, 3])
def test_masked_integers_are_gaps(cell):
    X = np.random.default_rng(0).integers(0, 9, (60, 3))
    hidden = gapped(X.astype(float))
    masked = np.ma.masked_array(np.where(np.isnan(hidden), cell, X), np.isnan(hidden))
    model = Autoencoder(2, hidden=(4,), **QUICK).fit(masked)
    np.testing.assert_array_equal(
        model.transform(masked), Autoencoder(2, hidden=(4,), **QUICK).fit(hidden).transform(hidden)
    )


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=by_class)
def test_every_answer_to_rows_with_gaps_is_finite_and_is_about_known_cells(estimator, tmp_path):
    X = gapped(rows())
    X[3] = np.nan  # a row of which nothing is known
    model = estimator.fit(X)
    names = ["transform", "reconstruct", "reconstruction_error", "score_samples", "jacobian"]
    answers = {name: getattr(model, name)(X) for name in names}
    assert all(np.isfinite(answer).all() for answer in answers.values())
    known = ~np.isnan(X)
    errors = np.where(known, X - answers["reconstruct"], 0.0)
    np.testing.assert_allclose(answers["reconstruction_error"], (errors**2).sum(1), rtol=1e-4)
    assert answers["reconstruction_error"][3] == 0
    assert not answers["jacobian"].transpose(0, 2, 1)[~known].any()
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.score_samples(X), answers["score_samples"])


@pytest.mark.parametrize("estimator", [ESTIMATORS[0], ESTIMATORS[1]], ids=by_class)
def test_a_log_density_follows_the_units_of_known_cells(estimator):
    X, unit = gapped(rows()), 1024.0
    estimator.set_params(scale="standard")
    scores = estimator.fit(X).score_samples(X)
    other = estimator.fit(X * unit).score_samples(X * unit)
    np.testing.assert_allclose(scores - other, (~np.isnan(X)).sum(1) * np.log(unit), rtol=1e-5)


def test_log_likelihoods_are_those_of_known_cells():
    """At the start the model is factor analysis, whose marginal densities are normal."""
    X = gapped(rows())
    model = VariationalAutoencoder(2, hidden=(8,), max_epochs=0, precision="float64", random_state=0).fit(X)
    decoder, likelihood = model.composition_.decoder, model.composition_.likelihood
    weight = decoder.affine.weight.detach().numpy()
    noise = likelihood.current_spread(decoder.output_bias).detach().numpy()
    covariance = weight @ weight.T + np.diag(np.broadcast_to(noise, 5))
    scaled = model.scaler_.transform(X) - decoder.output_bias.detach().numpy()
    known = ~np.isnan(X)
    expected = [
        multivariate_normal(cov=covariance[np.ix_(o, o)]).logpdf(row[o]) - np.log(model.scaler_.divisor[o]).sum()
        for row, o in zip(scaled, known, strict=True)
    ]
    estimate, error = model.log_likelihood(X, 4000, return_error=True)
    sure = error < 0.02  # q is narrow for a row with many gaps, so that few draws count
    assert sure.mean() > 0.6
    assert (np.abs(estimate - expected)[sure] < 6 * error[sure] + 0.01).all()
    assert (estimate - expected < 6 * error + 0.01).all()


@pytest.mark.parametrize("estimator", [AutoencoderClassifier, AutoencoderRegressor])
def test_supervised_models_take_gaps(estimator):
    X = gapped(rows())
    y = (rows()[:, 0] > 3).astype(int)
    model = estimator(Autoencoder(2, hidden=(8,), **QUICK), **QUICK).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


def test_a_column_of_gaps_is_refused_in_an_array_and_left_out_of_a_frame():
    frame = pd.DataFrame(rows(), columns=list("abcde"))
    frame["b"] = np.nan
    with pytest.raises(DataError, match="without any number. Got column 1. Leave them out"):
        Autoencoder(2).fit(frame.to_numpy())
    model, without = (Autoencoder(2, hidden=(4,), **QUICK).fit(X) for X in (frame, frame.drop(columns="b")))
    np.testing.assert_array_equal(model.transform(frame), without.transform(frame.drop(columns="b")))
    assert model.reconstruct(frame)["b"].isna().all()


def test_a_model_that_saw_no_gaps_warns_when_it_meets_them():
    X = rows()
    model = Autoencoder(2, hidden=(4,), **QUICK).fit(X)
    with pytest.warns(ResultWarning, match="the rows that the model was fitted to had none"):
        model.transform(gapped(X))
    Autoencoder(2, hidden=(4,), **QUICK).fit(gapped(X)).transform(gapped(X))


def test_a_stream_may_have_gaps_in_some_blocks():
    X = rows(200)
    model = Autoencoder(2, hidden=(4,), random_state=0).partial_fit(X[:100]).partial_fit(gapped(X[100:]))
    assert np.isfinite(model.transform(gapped(X))).all()


@pytest.mark.versions
def test_rows_in_a_file_have_gaps_as_rows_in_memory_have(tmp_path, monkeypatch):
    X = gapped(rows(400))
    X[200:] = rows(200)  # blocks without gaps
    np.save(tmp_path / "rows.npy", X)
    model = Autoencoder(2, hidden=(4,), batch_size=32, max_epochs=20, random_state=0)
    errors = [model.fit(X).reconstruction_error(X, scaled=True).mean()]
    monkeypatch.setattr("eigencode.data.mapped_rows.MAPPED_FROM", 1)
    model.fit(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    errors.append(model.reconstruction_error(X, scaled=True).mean())
    assert errors[1] == pytest.approx(errors[0], rel=0.3)


# -- the normal density of rows with gaps


def scaled(n=60, d=4, seed=0):
    """Rows in float64 and their mask, of which some are whole and one is hidden whole."""
    X = rows(n, d, seed) / 10.0 ** np.arange(d)
    observed = torch.from_numpy(~np.isnan(gapped(X, 0.4)))
    observed[5] = False
    return torch.from_numpy(X), observed


def conditional(x, observed, center, covariance):
    """Each row's mean given its known cells, and its conditional covariance, one row at a time."""
    means, spreads = x.clone(), torch.zeros(len(x), x.shape[1], x.shape[1], dtype=x.dtype)
    for row, (cells, known) in enumerate(zip(x, observed, strict=True)):
        hidden = ~known
        gain = torch.linalg.solve(covariance[known][:, known], covariance[known][:, hidden]).T
        means[row, hidden] = center[hidden] + gain @ (cells[known] - center[known])
        block = covariance[hidden][:, hidden] - gain @ covariance[known][:, hidden]
        spreads[row][torch.outer(hidden, hidden)] = block.flatten()
    return means, spreads


def literal_em(x, observed, n_steps, prior_rows=0.0):
    """The textbook's EM (Dempster, Laird & Rubin, 1977), with a prior of independent columns."""
    known = observed.double()
    center = (x * known).sum(0) / known.sum(0)
    variances = ((x - center).square() * known).sum(0) / known.sum(0)
    covariance = variances.diag()
    for _ in range(n_steps):
        means, spreads = conditional(x, observed, center, covariance)
        center = means.mean(0)
        centred = means - center
        moment = centred.T @ centred + spreads.sum(0) + prior_rows * variances.diag()
        covariance = moment / (len(x) + prior_rows)
    return center, covariance


@pytest.mark.parametrize("prior_rows", [0.0, 1.0])
def test_the_density_is_that_of_literal_em(prior_rows):
    x, observed = scaled()
    found = fit_gaussian(Batch(x, observed), prior_rows, tolerance=0.0, most=30)
    center, covariance = literal_em(x, observed, 30, prior_rows)
    torch.testing.assert_close(found.center, center, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.loadings @ found.loadings.T + found.noise.diag(), covariance, rtol=1e-9, atol=1e-9)


def completing(gaussian, d):
    network = Completing(MLP(), gaussian.rank)
    network.setup(d, 2, torch.Generator().manual_seed(0))
    network.double().describe_by(gaussian.center, gaussian.loadings, gaussian.noise)
    return network


def test_gaps_are_filled_by_the_conditional_mean():
    x, observed = scaled()
    gaussian = fit_gaussian(Batch(x, observed))
    covariance = gaussian.loadings @ gaussian.loadings.T + gaussian.noise.diag()
    expected, _ = conditional(x, observed, gaussian.center, covariance)
    found = completing(gaussian, 4).completed(torch.where(observed, x, torch.nan))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(found[observed], x[observed])


def test_the_density_of_many_columns_has_a_low_rank():
    generator = torch.Generator().manual_seed(0)
    codes, loadings = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (400, 100))
    x = codes @ loadings.T + 0.1 * torch.randn(400, 100, generator=generator, dtype=torch.float64)
    observed = torch.rand(400, 100, generator=generator) < 0.6
    gaussian = fit_gaussian(Batch(x, observed))
    assert gaussian.rank == 16
    filled = completing(gaussian, 100).completed(torch.where(observed, x, torch.nan))
    assert (filled - x)[~observed].square().mean() < 0.013  # the noise has variance 0.01


@pytest.mark.parametrize("what", ["rows", "columns"])
def test_the_density_does_not_depend_on_the_order_of_rows_or_columns(what):
    x, observed = scaled(200, 6)
    first = fit_gaussian(Batch(x, observed))
    order = torch.randperm(x.shape[what == "columns"], generator=torch.Generator().manual_seed(1))
    which = (slice(None), order) if what == "columns" else (order,)
    second = fit_gaussian(Batch(x[which], observed[which]))
    columns = order if what == "columns" else slice(None)
    covariances = [found.loadings @ found.loadings.T + found.noise.diag() for found in (first, second)]
    torch.testing.assert_close(covariances[1], covariances[0][columns][:, columns], rtol=1e-9, atol=1e-9)


def test_the_start_at_a_row_with_gaps_is_that_at_the_completed_row():
    X = gapped(rows())
    model = Autoencoder(2, hidden=(8,), max_epochs=0, precision="float64", random_state=0).fit(X)
    assert model.init_ == "linear"
    encoder = model.composition_.encoder
    completed = encoder.completed(torch.from_numpy(model.scaler_.transform(X))).numpy()
    np.testing.assert_allclose(
        model.transform(X), model.transform(model.scaler_.inverse_transform(completed)), rtol=1e-6, atol=1e-6
    )
    whole = model.reconstruct(model.scaler_.inverse_transform(completed))
    np.testing.assert_allclose(model.reconstruct(X), whole, rtol=1e-6)


# -- imputation


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=by_class)
def test_imputing_changes_no_known_bit_and_leaves_no_gap(estimator):
    X = gapped(rows()).astype(np.float32)
    before = X.copy()
    filled = estimator.fit(X).impute(X)
    np.testing.assert_array_equal(X, before)
    assert filled.dtype == X.dtype
    assert np.isfinite(filled).all()
    known = ~np.isnan(X)
    assert (filled[known].view(np.int32) == X[known].view(np.int32)).all()
    np.testing.assert_array_equal(estimator.impute(filled), filled)


def test_at_its_start_a_model_imputes_as_em_does():
    X = gapped(rows())
    model = LinearAutoencoder(2, precision="float64", random_state=0).fit(X)
    encoder = model.composition_.encoder
    completed = encoder.completed(torch.from_numpy(model.scaler_.transform(X))).numpy()
    np.testing.assert_allclose(model.impute(X), model.scaler_.inverse_transform(completed), rtol=1e-6)


def test_training_improves_on_em_where_rows_are_not_normal():
    rng = np.random.default_rng(0)
    angle = rng.uniform(-2, 2, 1500)
    X = np.stack([angle, angle**2, np.sin(2 * angle), np.cos(angle)], axis=1) + 0.02 * rng.normal(size=(1500, 4))
    G = gapped(X, 0.2)
    model = Autoencoder(3, hidden=(32,), max_epochs=60, random_state=0).fit(G)
    missing = np.isnan(G)
    errors = [np.square(filled - X)[missing].mean() for filled in (model.impute(G), model.baseline_.impute(G))]
    assert errors[0] < 0.8 * errors[1]


def test_draws_have_the_conditional_distribution():
    """Of rows that are normal, with the code as large as the rows."""
    X = rows(400, 3)
    G = gapped(X, 0.4)
    model = LinearAutoencoder(2, precision="float64", random_state=0).fit(G)
    encoder = model.composition_.encoder
    covariance = (encoder.loadings @ encoder.loadings.T + encoder.noise.diag()).double()
    x, observed = torch.from_numpy(model.scaler_.transform(np.nan_to_num(G))), torch.from_numpy(~np.isnan(G))
    means, spreads = conditional(x, observed, encoder.center, covariance)
    draws = np.stack(model.impute(G, n_draws=2000, random_state=0))
    draws = (draws - model.scaler_.center) / model.scaler_.divisor
    np.testing.assert_allclose(draws.mean(0), means, atol=0.15)
    centred = draws - draws.mean(0)
    found = np.einsum("mni,mnj->nij", centred, centred) / len(draws)
    np.testing.assert_allclose(found, spreads, atol=0.2)
    known = ~np.isnan(G)
    assert all((table[known] == G[known]).all() for table in model.impute(G, n_draws=2, random_state=0))


@pytest.mark.parametrize("kind", [LinearAutoencoder(2), Autoencoder(2, max_epochs=3, random_state=0)])
@pytest.mark.filterwarnings("ignore:X has gaps")
def test_draws_of_a_model_of_rows_without_gaps_have_the_conditional_distribution(kind):
    """x0 given x2 = x0 + e, both standard normal: mean x2 / 2, variance 1 / 2."""
    X = np.random.default_rng(0).normal(size=(600, 3))
    X[:, 2] += X[:, 0]
    G = X.copy()
    G[:, 0] = np.nan
    draws = np.stack(kind.fit(X).impute(G, n_draws=50, random_state=0))[:, :, 0]
    slope = np.polyfit(X[:, 2], draws.mean(0), 1)[0]
    assert abs(slope - 0.5) < 0.1  # the deviation of a slope of 600 rows is .02; the model's own is little more
    assert abs(draws.std(0).mean() - 0.5**0.5) < 0.15


def test_variational_draws_have_the_conditional_distribution():
    """At its start the model is factor analysis, of which rows are normal."""
    X = rows(200, 4)
    G = gapped(X, 0.4)
    model = VariationalAutoencoder(2, hidden=(8,), max_epochs=0, precision="float64", random_state=0).fit(G)
    decoder = model.composition_.decoder
    weight, bias = decoder.affine.weight.detach(), decoder.output_bias.detach()
    noise = model.composition_.likelihood.current_spread(bias).detach()
    x, observed = torch.from_numpy(model.scaler_.transform(np.nan_to_num(G))), torch.from_numpy(~np.isnan(G))
    means, spreads = conditional(x, observed, bias, weight @ weight.T + noise.diag())
    draws = (np.stack(model.impute(G, n_draws=1000, random_state=0)) - model.scaler_.center) / model.scaler_.divisor
    hidden = np.isnan(G)
    deviations = spreads.diagonal(dim1=1, dim2=2).sqrt().numpy()
    assert np.abs((draws.mean(0) - means.numpy())[hidden]).mean() < 0.2
    assert np.abs(draws.std(0)[hidden] / deviations[hidden] - 1).mean() < 0.2


CHANGES = {
    "rows": lambda X: X[np.random.default_rng(3).permutation(len(X))],
    "columns": lambda X: X[:, [3, 1, 4, 0, 2]],
    "units": lambda X: X * [1, 1e3, 1e-3, 7, 0.5] + [0, 5, -2, 0, 1e4],
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_start_does_not_depend_on_order_or_units(change):
    X, changed = gapped(rows(), 0.3), CHANGES[change]
    model = Autoencoder(2, hidden=(8,), max_epochs=0, scale="standard", precision="float64", random_state=0)
    expected = changed(model.fit(X).impute(X))
    found = model.fit(changed(X)).impute(changed(X))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * np.nanstd(expected))


def changed_in_all_ways(X):
    """Other rows first, other columns first, other units, and a constant column between them."""
    X = (CHANGES["rows"](X) * [1, 1e3, 1e-3, 7, 0.5, 2] + [0, 5, -2, 0, 1e4, 1])[:, [3, 1, 5, 4, 0, 2]]
    return np.column_stack([X[:, :2], np.full(len(X), 7.0), X[:, 2:]])


def imputation_error(change):
    """The mean squared error of imputed cells, in variances, over models trained on changed rows of four seeds."""
    errors = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        z = rng.normal(size=(300, 2))
        X = np.column_stack([z @ rng.normal(size=(2, 4)), z[:, 0] ** 2, z.prod(1)]) + 0.3 * rng.normal(size=(300, 6))
        X, G = change(X), change(gapped(X, 0.25, seed))
        model = Autoencoder(3, hidden=(16,), scale="standard", max_epochs=40, random_state=seed).fit(G)
        assert model.best_epoch_ > 0
        errors.append(np.square((model.impute(G) - X) / np.where(X.std(0) > 0, X.std(0), 1))[np.isnan(G)].mean())
    return np.mean(errors)


def test_a_trained_model_imputes_as_well_whatever_the_order_and_the_units():
    as_it_is = imputation_error(lambda X: X)
    assert imputation_error(changed_in_all_ways) == pytest.approx(as_it_is, rel=0.1)


def test_names_of_columns_change_nothing():
    frame = pd.DataFrame(gapped(rows()), columns=list("abcde"))
    other = frame.set_axis(list("vwxyz"), axis=1)
    models = [Autoencoder(2, hidden=(4,), **QUICK).fit(table) for table in (frame, other)]
    np.testing.assert_array_equal(models[0].impute(frame), models[1].impute(other))


def test_a_stream_that_begins_with_gaps_imputes():
    X = gapped(rows(300), 0.2)
    model = Autoencoder(2, hidden=(8,), random_state=0)
    for block in np.split(X, 3):
        model.partial_fit(block)
    filled = model.impute(X)
    missing = np.isnan(X)
    errors = np.square((filled - rows(300)) / rows(300).std(0))[missing]
    assert errors.mean() < 0.8  # the mean of each column has 1


def test_models_with_gaps_are_trained_as_one_program():
    X = gapped(rows())
    models = [Autoencoder(2, hidden=(8,), beta=beta, optimizer="adam", **QUICK) for beta in (0.5, 1.0)]
    assert eigencode.fit_many(models, X) == ["2 models in one program"]
    alone = Autoencoder(2, hidden=(8,), beta=0.5, optimizer="adam", **QUICK).fit(X)
    np.testing.assert_allclose(models[0].impute(X), alone.impute(X), rtol=1e-3)


@pytest.mark.parametrize("estimator", [Autoencoder, VariationalAutoencoder])
def test_normal_rows_are_imputed_about_as_well_as_by_em(estimator):
    """EM is the best that there is for them, so that what training adds should not be trusted."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 8)) + 0.5 * rng.normal(size=(300, 8))
    G = gapped(X, 0.3)
    model = estimator(3, hidden=(16,), max_epochs=40, random_state=0).fit(G)
    missing = np.isnan(G)
    completed = model.composition_.encoder.completed(torch.from_numpy(model.scaler_.transform(G))).numpy()
    errors = [
        np.square(filled - X)[missing].mean()
        for filled in (model.impute(G), model.scaler_.inverse_transform(completed))
    ]
    assert errors[0] < 1.05 * errors[1]


def test_nothing_is_hidden_where_the_objective_is_a_bound_on_known_cells():
    hides = [ESTIMATORS[number].fit(gapped(rows())).composition_.input_dropout is not None for number in (0, 1)]
    assert hides == [True, False]


IMPUTING = {
    "linear": lambda: LinearAutoencoder(2, random_state=0),
    "Autoencoder": lambda: Autoencoder(2, max_epochs=20, random_state=0),
    "variational": lambda: VariationalAutoencoder(2, max_epochs=20, random_state=0),
}


@pytest.mark.parametrize("kind", IMPUTING)
def test_imputed_intervals_cover_the_hidden_cells(kind):
    """Between the 5 and 95 % quantiles of 40 draws are .9 x 39 / 41 of the true cells; draws differ as cells do."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(600, 5))
    G = gapped(X, 0.3)
    draws = np.stack(IMPUTING[kind]().fit(G).impute(G, n_draws=40, random_state=0))
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    hidden, is_covered = np.isnan(G), (low <= X) & (high >= X)
    assert is_covered[hidden].mean() == pytest.approx(0.856, abs=0.04)
    errors = X - draws.mean(0)
    assert draws.std(0)[hidden].mean() == pytest.approx(errors[hidden].std(), rel=0.1)


def test_flat_directions_of_a_normal_density_are_noise():
    """A category's indicators sum to 1, and a copy of a column adds no direction; the variances stay those of EM."""
    rng = np.random.default_rng(0)
    labels, number = rng.integers(0, 3, 2000), rng.normal(size=2000)
    cells = np.column_stack(
        [np.eye(3)[labels] * 2, number, number + 0.01 * rng.normal(size=2000), rng.normal(size=2000)]
    )
    is_gap = (rng.random((2000, 4)) < 0.1)[:, [0, 0, 0, 1, 2, 3]]  # a category is known or missing as a whole
    found = fit_gaussian(hide_gaps(torch.from_numpy(np.where(is_gap, np.nan, cells))))
    assert found.loadings.shape == (6, 4)
    covariance = found.loadings @ found.loadings.T + found.noise.diag()
    exact = torch.from_numpy(np.cov(cells.T))
    torch.testing.assert_close(covariance.diagonal(), exact.diagonal(), rtol=0.1, atol=0)
    torch.testing.assert_close(covariance, exact, rtol=0, atol=0.1)
    assert (found.noise > 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("cell", "kind"), [(np.nan, "gaps"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_one_cell_that_is_no_finite_number_is_found_in_any_row(cell, kind, dtype):
    for n_rows, row in ((1, 0), (20_000, 0), (20_000, 19_999)):
        table = np.full((n_rows, 3), -1.0, dtype)
        assert find_nonfinite(table) == {"gaps": {}, "infinite": {}}
        table[row, 1] = cell
        assert find_nonfinite(table) == {"gaps": {}, "infinite": {}, kind: {1: (1, row)}}
    table[5, 2] = np.nan if kind == "infinite" else np.inf
    assert all(find_nonfinite(table).values())


def test_the_largest_finite_numbers_are_no_infinite_cells():
    """Their sum is infinite."""
    assert not any(find_nonfinite(np.full((10, 2), np.finfo(np.float64).max)).values())
