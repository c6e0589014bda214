"""The estimator's face: scikit-learn's contract, determinism, units, and errors that name what was wrong."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from conftest import untimed
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

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
from eigencode.errors import DataError, OptionError, ResultWarning
from eigencode.parts import MLP, GaussianLikelihood, GaussianNoise, LaplacePrior, Penalty

ANSWERS = ["transform", "reconstruct", "reconstruction_error", "score_samples"]


# Whole numbers of a frame are counts else, and of an array not: their models need not agree, as a check asks.
PLAIN = Autoencoder(hidden=(), likelihood="gaussian", max_epochs=0, random_state=0)


@pytest.mark.versions
@pytest.mark.draws_globally
@parametrize_with_checks(
    [
        Autoencoder(hidden=(), max_epochs=0, tied=True),
        LinearAutoencoder(),
        AutoencoderRegressor(LinearAutoencoder(), max_epochs=5, random_state=0),
        AutoencoderClassifier(PLAIN, max_epochs=5, random_state=0),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    require_checked(estimator, check)


@pytest.mark.draws_globally
@parametrize_with_checks(
    [
        Autoencoder(max_epochs=1, random_state=0),
        LinearAutoencoder(solver="gradient", max_epochs=1, random_state=0),
        DenoisingAutoencoder(max_epochs=1, random_state=0),
        DenoisingAutoencoder(noise="masking", hidden=(), max_epochs=0),
        ContractiveAutoencoder(max_epochs=1, random_state=0),
        VariationalAutoencoder(max_epochs=1, random_state=0),
        StackedAutoencoder(max_epochs=1, random_state=0),
        AutoencoderClassifier(Autoencoder(likelihood="gaussian", max_epochs=1), max_epochs=20, random_state=0),
        AutoencoderRegressor(Autoencoder(max_epochs=1), max_epochs=20, random_state=0),
        SparseAutoencoder(4, active=1, max_epochs=1, random_state=0),
        SparseAutoencoder(4, active=1, sparsity="top_k", max_epochs=1, random_state=0),
        SparseAutoencoder(4, active=0.2, sparsity="kl", max_epochs=1, random_state=0),
    ],
)
def test_scikit_learns_own_checks_of_kinds_that_are_trained(estimator, check):
    require_checked(estimator, check)


def require_checked(estimator, check):
    is_exact = getattr(estimator, "solver", None) == "exact"
    if check.func.__name__.startswith("check_sample_weight_equivalence_on_") and not is_exact:
        pytest.skip("repeated rows make other batches, and round otherwise: whether they agree is the processor's")
    check(estimator)


# -- quality


@pytest.mark.parametrize("load", [load_wine, load_diabetes, load_breast_cancer, load_digits])
def test_held_out_error_is_at_most_pcas(load):
    """One split here; `benchmarks/small_tables.py` has ten splits and three code sizes."""
    training, test = train_test_split(load().data, test_size=0.2, random_state=0)
    model = Autoencoder(4, random_state=0).fit(training)
    scale = model.scaler_.transform
    pca = PCA(4).fit(scale(training))
    pca_error = ((pca.inverse_transform(pca.transform(scale(test))) - scale(test)) ** 2).sum(1).mean()
    assert model.reconstruction_error(test, scaled=True).mean() <= pca_error * (1 + 1e-6)


def test_it_beats_pca_on_digits_by_a_margin(digits):
    training, test = digits[:1400], digits[1400:]
    model = Autoencoder(4, max_epochs=60, random_state=0).fit(training)
    pca = PCA(4).fit(training)
    pca_error = ((pca.inverse_transform(pca.transform(test)) - test) ** 2).sum(1).mean()
    assert model.reconstruction_error(test).mean() < 0.75 * pca_error
    # The baseline inside agrees with scikit-learn's PCA outside.
    assert model.baseline_.reconstruction_error(test).mean() == pytest.approx(pca_error, rel=1e-5)


# -- the same bits


def test_one_seed_gives_the_same_bits(cancer, fitted, tmp_path):
    again = clone(fitted).fit(cancer)
    twin = copy.deepcopy(fitted)
    unpickled = pickle.loads(pickle.dumps(fitted))
    for other in (again, twin, unpickled):
        for name in ANSWERS:
            np.testing.assert_array_equal(getattr(other, name)(cancer), getattr(fitted, name)(cancer))
        assert untimed(other.history_) == untimed(fitted.history_)


def test_another_seed_gives_another_model(cancer, fitted):
    other = clone(fitted).set_params(random_state=1).fit(cancer)
    assert not np.array_equal(other.transform(cancer), fitted.transform(cancer))


def test_fresh_entropy_is_kept_so_that_it_can_be_used_again(cancer):
    first = Autoencoder(2, hidden=(8,), max_epochs=2).fit(cancer)
    again = Autoencoder(2, hidden=(8,), max_epochs=2, random_state=first.seed_).fit(cancer)
    np.testing.assert_array_equal(first.transform(cancer), again.transform(cancer))


def test_iterating_and_fitting_are_the_same(cancer, fitted):
    model = clone(fitted)
    rows = list(model.iter_fit(cancer))
    assert untimed(rows) == untimed(fitted.history_[1:])
    assert [row["epoch"] for row in rows] == list(range(1, 21))
    np.testing.assert_array_equal(model.transform(cancer), fitted.transform(cancer))


def test_a_row_is_answered_at_its_own_index_whatever_its_neighbours(cancer, fitted):
    order = np.random.default_rng(0).permutation(len(cancer))
    for name in ANSWERS:
        whole = getattr(fitted, name)(cancer)
        np.testing.assert_allclose(getattr(fitted, name)(cancer[order]), whole[order], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(getattr(fitted, name)(cancer[7:8]), whole[7:8], rtol=1e-9, atol=1e-9)


def test_long_inputs_are_answered_in_chunks_without_a_seam(cancer, fitted):
    many = np.tile(cancer, (30, 1))
    np.testing.assert_allclose(fitted.transform(many), np.tile(fitted.transform(cancer), (30, 1)), rtol=1e-9, atol=1e-9)


# -- types and units


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("float64", "float64"),
        ("float32", "float32"),
        ("float16", "float32"),
        ("uint8", "float32"),
        ("int64", "float64"),
    ],
)
def test_answers_have_the_rows_float_type(digits, given, expected):
    model = Autoencoder(2, max_epochs=0).fit(digits)
    rows = digits[:5].astype(given)
    for name in ("transform", "reconstruct"):
        assert getattr(model, name)(rows).dtype == expected, name
    for name in ("reconstruction_error", "score_samples"):  # squares and sums need more room than the rows do
        assert getattr(model, name)(rows).dtype == np.float64, name
    np.testing.assert_allclose(model.transform(rows), model.transform(digits[:5]), rtol=1e-5, atol=1e-5)


@pytest.mark.versions
def test_tables_of_every_kind_give_the_same_codes(cancer):
    names = [f"c{i}" for i in range(30)]
    frame = pd.DataFrame(cancer, columns=names)
    model = Autoencoder(2, likelihood="gaussian", hidden=(4,), max_epochs=2, random_state=0).fit(frame)
    expected = model.transform(frame)
    assert model.feature_names_in_.tolist() == names
    np.testing.assert_array_equal(model.transform(pl.DataFrame(cancer, schema=names)), expected)
    nameless = Autoencoder(2, likelihood="gaussian", hidden=(4,), max_epochs=2, random_state=0).fit(cancer)
    for rows in (
        cancer,
        torch.from_numpy(cancer),
        np.asfortranarray(cancer),
        cancer[:, ::-1][:, ::-1],
        cancer.tolist(),
    ):
        np.testing.assert_array_equal(nameless.transform(rows), expected)
    with pytest.raises(ValueError, match="feature names"):
        model.transform(frame[names[::-1]])


@pytest.mark.versions
def test_read_only_memory_maps_are_welcome(cancer, tmp_path):
    np.save(tmp_path / "rows.npy", cancer)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    model = Autoencoder(2, hidden=(4,), max_epochs=2, random_state=0)
    np.testing.assert_array_equal(model.fit(mapped).transform(mapped), clone(model).fit(cancer).transform(cancer))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("cell", "text"),
    [(np.inf, "infinite cells .inf.. Got 1 in column 1"), (-np.inf, "infinite cells")],
)
@pytest.mark.parametrize("question", ["transform", "reconstruct", "reconstruction_error", "score_samples"])
def test_a_cell_that_is_no_number_is_found_in_every_block_of_rows(question, cell, text, dtype):
    rows = np.random.default_rng(0).normal(size=(9000, 3)).astype(dtype)
    model = Autoencoder(1, hidden=(), max_epochs=0, random_state=0).fit(rows)
    for row in (0, 8500):
        broken = rows.copy()
        broken[row, 1] = cell
        with pytest.raises(ValueError, match=text):
            getattr(model, question)(broken)


def test_log_likelihoods_follow_a_change_of_units_exactly(cancer):
    c = 1000.0
    model, other = (
        Autoencoder(3, hidden=(4,), max_epochs=2, scale="standard", random_state=0).fit(rows)
        for rows in (cancer, cancer / c)
    )
    np.testing.assert_allclose(other.score_samples(cancer / c) - model.score_samples(cancer), 30 * np.log(c), rtol=1e-5)
    assert model.score(cancer) == pytest.approx(model.score_samples(cancer).mean())


def test_score_samples_is_the_literal_gaussian_density(cancer, fitted):
    scaled, rebuilt = (fitted.scaler_.transform(rows) for rows in (cancer[:9], fitted.reconstruct(cancer[:9])))
    density = np.exp(-((scaled - rebuilt) ** 2)) / np.sqrt(np.pi) / fitted.scaler_.divisor
    np.testing.assert_allclose(fitted.score_samples(cancer[:9]), np.log(density).sum(1), rtol=1e-10)


def test_reconstruction_error_in_both_units(cancer, fitted):
    gap = cancer - fitted.reconstruct(cancer)
    np.testing.assert_allclose(fitted.reconstruction_error(cancer), (gap**2).sum(1), rtol=1e-8)
    scaled = ((gap / fitted.scaler_.divisor) ** 2).sum(1)
    np.testing.assert_allclose(fitted.reconstruction_error(cancer, scaled=True), scaled, rtol=1e-8)


def test_decoding_the_codes_is_reconstructing(cancer, fitted):
    np.testing.assert_allclose(
        fitted.inverse_transform(fitted.transform(cancer)), fitted.reconstruct(cancer), rtol=1e-12
    )
    with pytest.raises(DataError, match="Codes of this Autoencoder have 4 columns"):
        fitted.inverse_transform(np.zeros((3, 5)))


def test_extreme_rows_are_clipped_for_the_network_only(cancer, fitted):
    extreme = cancer[:1].copy()
    extreme[0, 3] = 1e30
    code = fitted.transform(extreme)
    assert np.isfinite(code).all()
    extreme[0, 3] = 1e35
    np.testing.assert_array_equal(fitted.transform(extreme), code)
    assert fitted.reconstruction_error(extreme)[0] == pytest.approx(1e70, rel=1e-3)


# -- starts and baseline


def test_auto_components_keep_nine_tenths_of_the_variance(cancer):
    model = Autoencoder(max_epochs=0).fit(cancer)
    ratios = PCA().fit((cancer - cancer.mean(0)) / cancer.std(0)).explained_variance_ratio_
    assert model.n_components_ == int((ratios.cumsum() < 0.9).sum()) + 1 == 7
    np.testing.assert_allclose(model.explained_variance_ratio_, ratios[:7], rtol=1e-6)


def test_the_baseline_is_a_fitted_linear_model(cancer, fitted):
    baseline = fitted.baseline_
    scaled = fitted.scaler_.transform(cancer)
    pca = PCA(4).fit(scaled)
    expected = fitted.scaler_.inverse_transform(pca.inverse_transform(pca.transform(scaled)))
    np.testing.assert_allclose(baseline.reconstruct(cancer), expected, rtol=1e-3, atol=1e-4)
    assert (baseline.hidden_, baseline.baseline_) == ((), None)
    assert fitted.history_[0]["validation_objective"] == pytest.approx(baseline.history_[0]["validation_objective"])


def test_a_plain_start_is_random_and_still_has_the_baseline(cancer):
    model = Autoencoder(2, hidden=(8,), init="random", max_epochs=0, random_state=0).fit(cancer)
    assert model.init_ == "random"
    assert model.history_[0]["validation_objective"] > model.baseline_.history_[0]["validation_objective"]


def test_overcomplete_codes_start_at_the_identity(cancer):
    model = Autoencoder(50, max_epochs=0, random_state=0).fit(cancer)
    np.testing.assert_allclose(model.reconstruct(cancer), cancer, rtol=1e-3, atol=1e-3)
    assert model.transform(cancer).std(0).min() > 0


def test_parts_without_a_closed_form_start_at_pca_and_say_that_it_is_not_their_optimum(cancer):
    options = {"n_components": 2, "hidden": (4,), "prior": LaplacePrior(0.1), "max_epochs": 1, "random_state": 0}
    for start in ("auto", "linear"):
        model = Autoencoder(**options, init=start).fit(cancer)
        assert (model.init_, model.has_closed_form_) == ("linear", False)
        assert model.history_[0]["validation_objective"] == pytest.approx(model.baseline_.best_objective_, rel=1e-6)
    assert Autoencoder(2, hidden=(4,), max_epochs=1, random_state=0).fit(cancer).has_closed_form_


# -- other answers


class Smoothness(Penalty):
    """Neighbouring codes should differ little."""

    def __init__(self, weight=0.1):
        super().__init__()
        self.weight = weight

    def forward(self, trace, composition):
        return self.weight * trace.z.diff(dim=1).square().sum(1)


def test_a_penalty_of_ones_own_trains_and_does_its_work(cancer):
    def roughness(weight):
        model = Autoencoder(4, hidden=(8,), penalties=[Smoothness(weight)], max_epochs=60, random_state=0).fit(cancer)
        return np.square(np.diff(model.transform(cancer), axis=1)).sum(1).mean()

    assert roughness(1.0) < 0.5 * roughness(1e-6)


def test_noise_makes_the_codes_shrink_and_leaves_answers_deterministic(cancer):
    model = Autoencoder(4, hidden=(8,), corruption=GaussianNoise(0.5), max_epochs=3, random_state=0).fit(cancer)
    np.testing.assert_array_equal(model.transform(cancer), model.transform(cancer))
    assert model.baseline_.transform(cancer).std() < Autoencoder(4, max_epochs=0).fit(cancer).transform(cancer).std()


def test_networks_of_ones_own_are_copied_and_trained(cancer):
    encoder = nn.Sequential(nn.utils.skip_init(nn.Linear, 30, 6), nn.Tanh(), nn.utils.skip_init(nn.Linear, 6, 2))
    for p in encoder.parameters():
        p.data.normal_(generator=torch.Generator().manual_seed(0)).mul_(0.3)
    before = copy.deepcopy(encoder.state_dict())
    model = Autoencoder(2, encoder=encoder, decoder=MLP((6,), "tanh"), max_epochs=30, random_state=0).fit(cancer)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert model.history_[-1]["validation_objective"] < model.history_[0]["validation_objective"] - 5
    with pytest.raises(OptionError, match="must map rows of 30 numbers to rows of 3"):
        Autoencoder(3, encoder=encoder).fit(cancer)


def test_buffers_of_ones_own_networks_are_kept_with_the_best_weights(cancer):
    encoder = nn.Sequential(nn.BatchNorm1d(30), nn.utils.skip_init(nn.Linear, 30, 2))
    nn.init.ones_(encoder[1].weight)
    nn.init.zeros_(encoder[1].bias)
    model = Autoencoder(2, encoder=encoder, learning_rate=0.3, max_epochs=6, random_state=0).fit(cancer)
    assert model.best_epoch_ > 0
    scaled = torch.from_numpy(model.scaler_.transform(cancer)).float()
    norm = model.composition_.encoder.module[0]
    assert norm.running_mean.abs().sum() > 0
    torch.testing.assert_close(norm(scaled[:3]), norm(scaled)[:3])  # evaluation mode


# -- scikit-learn around it


@pytest.mark.versions
def test_in_a_pipeline_under_a_grid_search(cancer):
    y = load_breast_cancer().target
    pipeline = make_pipeline(Autoencoder(max_epochs=2, hidden=(4,), random_state=0), LogisticRegression())
    search = GridSearchCV(pipeline, {"autoencoder__n_components": [1, 5]}, cv=2).fit(cancer, y)
    assert search.best_params_ == {"autoencoder__n_components": 5}
    assert search.best_score_ > 0.9


@pytest.mark.versions
def test_a_parts_argument_is_a_parameter_of_the_estimator(cancer):
    model = Autoencoder(2, likelihood=GaussianLikelihood(), hidden=(4,), max_epochs=1, random_state=0)
    search = GridSearchCV(model, {"likelihood__variance": [0.01, 0.5]}, cv=2).fit(cancer)
    assert set(search.cv_results_["param_likelihood__variance"]) == {0.01, 0.5}
    assert search.best_estimator_.composition_.likelihood.variance == search.best_params_["likelihood__variance"]


@pytest.mark.versions
def test_codes_come_as_a_named_frame(cancer):
    codes = Autoencoder(2, max_epochs=0).set_output(transform="pandas").fit_transform(cancer)
    assert codes.columns.tolist() == ["autoencoder0", "autoencoder1"]


# -- bad input


def test_options_outside_their_domain_are_named(cancer):
    cases = {
        "'n_components' parameter of Autoencoder must be an int in the range \\[1, inf\\), a float.*or 'auto'.*Got 0": {
            "n_components": 0
        },
        "Did you mean 'common'": {"scale": "comon"},
        "'hidden' parameter": {"hidden": (8, 0)},
        "'validation_fraction'.*\\[0, 1\\)": {"validation_fraction": 1.0},
        "'learning_rate'.*\\(0, inf\\)": {"learning_rate": -1},
        "'penalties' parameter must be a Penalty part": {"penalties": [MLP()]},
        "'prior' parameter must be a Prior part": {"prior": MLP()},
        "There is no device 'gpu'. Try 'cpu'": {"device": "gpu"},
    }
    for message, options in cases.items():
        with pytest.raises(OptionError, match=message):
            Autoencoder(**options).fit(cancer)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.empty((0, 3)), "0 sample"),
        (np.ones((1, 3)), "minimum of 2"),
        (np.array([[1.0, np.nan], [2.0, np.nan]]), "without any number. Got column 1"),
        (np.array([[1.0, np.inf], [2.0, 3.0]]), "infinite cells"),
        (np.array([["a", "b"], ["c", "d"]]), "columns that are not numbers"),
        (np.arange(3.0), "1D array"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        Autoencoder(2).fit(rows)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((5, 3)),
        np.random.default_rng(0).normal(size=(2, 3)),
        np.random.default_rng(0).normal(size=(20, 1)),
        np.random.default_rng(0).normal(size=(20, 3)) * 1e30,
        np.random.default_rng(0).normal(size=(20, 3)) + 1e6,
        np.random.default_rng(0).integers(0, 2, size=(20, 3)).astype(bool),
        np.column_stack([np.full(20, 7.0), np.arange(20.0)]),
    ],
    ids=["constant", "two rows", "one column", "huge", "offset", "boolean", "constant column"],
)
def test_odd_but_usable_rows_are_used(rows):
    model = Autoencoder(2, max_epochs=3, random_state=0).fit(rows)
    rebuilt = model.reconstruct(rows)
    assert np.isfinite(rebuilt).all()
    spread = rows.astype(float).std(0)
    error = np.sqrt(((rebuilt - rows.astype(float)) ** 2).mean(0))
    assert (error <= spread + 1e-6).all()


def test_the_wrong_width_is_named(cancer, fitted):
    with pytest.raises(ValueError, match="29 features.*expecting 30"):
        fitted.transform(cancer[:, 1:])


def test_an_interrupted_fit_keeps_the_best_so_far(cancer, monkeypatch):
    model = Autoencoder(2, hidden=(8,), max_epochs=50, random_state=0)
    from eigencode.training import loop

    record = loop.record

    def interrupted(run, objective, training_objective):
        if run.state.epoch == 4:
            raise KeyboardInterrupt
        return record(run, objective, training_objective)

    monkeypatch.setattr(loop, "record", interrupted)
    with pytest.warns(ResultWarning, match="interrupted"):
        model.fit(cancer)
    assert len(model.history_) == 4
    assert model.score(cancer) >= model.baseline_.score(cancer)


def test_a_worker_among_several_takes_its_share_of_the_threads(digits):
    """Two workers on the machine's cores must not each start a thread for every core."""
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=1):
        found = Parallel(n_jobs=2)(delayed(threads_of_a_large_fit)(digits) for _ in range(2))
    assert found == [1, 1]


def threads_of_a_large_fit(rows):
    """Threads chosen where the work of a step would take as many as there are."""
    model = Autoencoder(2, hidden=(2048, 2048), batch_size=1000, max_epochs=0, random_state=0).fit(rows)
    return model.execution_.n_threads


@pytest.mark.versions
def test_inside_a_column_transformer_and_as_polars(cancer):
    from sklearn.compose import ColumnTransformer

    frame = pd.DataFrame(cancer).add_prefix("c")
    columns = ColumnTransformer(
        [
            ("size", Autoencoder(2, max_epochs=0), ["c0", "c2", "c3"]),
            ("shape", Autoencoder(1, max_epochs=0), ["c5", "c6"]),
        ]
    ).set_output(transform="polars")
    codes = columns.fit_transform(frame)
    assert codes.columns == ["size__autoencoder0", "size__autoencoder1", "shape__autoencoder0"]


@pytest.mark.versions
def test_it_shows_itself_as_html(fitted):
    assert "Autoencoder" in fitted._repr_html_()
