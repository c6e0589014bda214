"""AutoencoderSearch: every candidate on every fold, one choice by a rule."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, ParameterGrid, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import eigencode
from eigencode import Autoencoder, AutoencoderSearch, LinearAutoencoder
from eigencode.errors import DataError, EigencodeError, OptionError
from eigencode.estimators.fit_many import Job, fit_jobs
from eigencode.parts import GaussianNoise
from eigencode.search_rounds import Halving

X = load_digits().data[:300]
QUICK = {"hidden": (12,), "max_epochs": 4, "optimizer": "adam", "random_state": 0, "precision": "float64"}
GRID = {"n_components": [2, 4, 6], "learning_rate": [2e-3, 8e-3]}


@pytest.fixture(scope="module")
def search():
    return AutoencoderSearch(Autoencoder(**QUICK), GRID, cv=3, random_state=1).fit(X)


def test_scores_are_those_of_single_fits_on_the_same_folds(search):
    folds = list(KFold(3, shuffle=True, random_state=1).split(X))
    for i, params in enumerate(search.cv_results_["params"]):
        scores = [Autoencoder(**QUICK, **params).fit(X[a]).leave_one_out_score(X[b]) for a, b in folds]
        over_rows = np.concatenate([part - part.mean() for part in scores]).std() / len(X) ** 0.5
        scores = [part.mean() for part in scores]
        found = [search.cv_results_[f"split{fold}_test_score"][i] for fold in range(3)]
        np.testing.assert_allclose(found, scores, rtol=1e-8)
        assert search.cv_results_["mean_test_score"][i] == pytest.approx(np.mean(scores))
        assert search.cv_results_["standard_error"][i] == pytest.approx(max(np.std(scores, ddof=1) / 3**0.5, over_rows))
    assert search.trained_ == ["18 models in one program"]
    assert search.n_splits_ == 3


@pytest.mark.versions
def test_results_are_a_table(search):
    table = pd.DataFrame(search.cv_results_)
    assert list(table["param_n_components"]) == [p["n_components"] for p in search.cv_results_["params"]]
    assert table["rank_test_score"].min() == 1
    assert table.loc[table["rank_test_score"] == 1, "mean_test_score"].item() == table["mean_test_score"].max()
    assert (table["n_components"] == table["param_n_components"]).all()
    weights = 2 * 64 * 12 + 12 + 12 + 12 * 4 * 2 + 64 * 4 * 2 + 4 + 64
    assert set(table.loc[table["n_components"] == 4, "n_weights"]) == {weights}
    assert (table["mean_fit_time"] > 0).all()


def test_the_choice_is_fitted_to_all_rows(search):
    alone = Autoencoder(**QUICK, **search.best_params_).fit(X)
    np.testing.assert_array_equal(search.transform(X), alone.transform(X))
    np.testing.assert_array_equal(search.reconstruct(X), alone.reconstruct(X))
    np.testing.assert_array_equal(search.inverse_transform(search.transform(X)), alone.reconstruct(X))
    np.testing.assert_array_equal(search.score_samples(X), alone.score_samples(X))
    assert search.score(X) == pytest.approx(alone.leave_one_out_score(X).mean())
    assert list(search.get_feature_names_out()) == list(alone.get_feature_names_out())


RESULTS = {
    "mean_test_score": np.array([-9.0, -5.2, -5.1, -5.0, np.nan]),
    "standard_error": np.array([0.1, 0.1, 0.1, 0.15, 0.1]),
    "n_components": np.array([1.0, 4.0, 2.0, 8.0, 1.0]),
    "n_weights": np.array([9.0, 9.0, 9.0, 9.0, 1.0]),
    "budget": np.ones(5),
}


@pytest.mark.parametrize(
    ("rule", "changed", "chosen"),
    [
        ("best", {}, 3),
        ("one_standard_error", {}, 2),
        ("one_standard_error", {"standard_error": np.array([0.1, 0.1, 0.1, 0.05, 0.1])}, 3),
        ("one_standard_error", {"standard_error": np.array([0.1, 0.1, 0.1, 5.0, 0.1])}, 0),
        ("one_standard_error", {"n_components": np.array([1.0, 2.0, 2.0, 2.0, 1.0])}, 3),
        ("one_standard_error", {"n_components": np.full(5, 2.0), "n_weights": np.array([1.0, 9, 5, 9, 1])}, 2),
    ],
)
def test_the_rule_takes_the_simplest_within_one_standard_error(rule, changed, chosen):
    search = AutoencoderSearch(Autoencoder(), GRID, rule=rule)
    assert search._choose({**RESULTS, **changed}) == chosen


def test_the_standard_error_of_one_split_is_over_its_rows():
    search = AutoencoderSearch(
        Autoencoder(**QUICK), {"n_components": [3]}, cv=ShuffleSplit(1, test_size=0.2, random_state=0)
    ).fit(X)
    ((a, b),) = ShuffleSplit(1, test_size=0.2, random_state=0).split(X)
    scores = Autoencoder(**QUICK, n_components=3).fit(X[a]).leave_one_out_score(X[b])
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(scores.mean())
    assert search.cv_results_["standard_error"][0] == pytest.approx(scores.std() / len(scores) ** 0.5)


def test_weights_apply_to_fits_and_scores():
    weights = np.where(np.arange(len(X)) % 3 == 0, 0.0, 2.0)
    kept = np.flatnonzero(weights)
    given = AutoencoderSearch(Autoencoder(**QUICK), {"n_components": [3]}, cv=[(np.arange(200), np.arange(200, 300))])
    given.fit(X, sample_weight=weights)
    model = Autoencoder(**QUICK, n_components=3).fit(X[kept[kept < 200]])
    assert given.best_score_ == pytest.approx(model.leave_one_out_score(X[kept[kept >= 200]]).mean(), rel=1e-6)


def test_scores_other_than_the_likelihood():
    model = Autoencoder(**QUICK)
    by_error = AutoencoderSearch(model, {"n_components": [3]}, cv=2, scoring="reconstruction", random_state=0).fit(X)
    folds = KFold(2, shuffle=True, random_state=0).split(X)
    errors = [Autoencoder(**QUICK, n_components=3).fit(X[a]).reconstruction_error(X[b]).mean() for a, b in folds]
    assert by_error.best_score_ == pytest.approx(-np.mean(errors))
    assert by_error.score(X) == pytest.approx(-by_error.best_estimator_.reconstruction_error(X).mean())
    halves = AutoencoderSearch(model, {"n_components": [3]}, cv=2, scoring=lambda m, rows: np.full(len(rows), 0.5))
    assert halves.fit(X).best_score_ == pytest.approx(0.5)


def test_arguments_of_parts_are_searched_without_changing_the_estimator():
    noise = GaussianNoise(0.1)
    estimator = Autoencoder(**QUICK, n_components=3, corruption=noise)
    search = AutoencoderSearch(estimator, {"corruption__variance": [0.01, 2.0]}, cv=2, random_state=0).fit(X)
    assert search.trained_ == ["4 models in one program"]
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] > scores[1]
    assert noise.variance == 0.1
    assert not hasattr(estimator, "history_")


@pytest.mark.versions
def test_several_grids_and_frames():
    frame = pd.DataFrame(X[:, 10:20], columns=[f"pixel{i}" for i in range(10)])
    grids = [{"n_components": [2]}, {"n_components": [3], "activation": ["tanh"]}]
    search = AutoencoderSearch(Autoencoder(**QUICK), grids, cv=2, random_state=0).fit(frame)
    assert list(search.cv_results_["param_activation"].mask) == [True, False]
    assert list(search.feature_names_in_) == list(frame.columns)
    search.set_output(transform="pandas")
    assert search.transform(frame).shape == (300, search.best_params_["n_components"])
    make_pipeline(StandardScaler(), AutoencoderSearch(Autoencoder(**QUICK), grids[0], cv=2)).fit(frame)


def test_candidates_that_cannot_be_fitted_are_scored_nan():
    grid = {"likelihood": ["gaussian", "bernoulli"]}
    with pytest.warns(FitFailedWarning, match="2 of 4 fits failed"):
        search = AutoencoderSearch(Autoencoder(**QUICK, n_components=2), grid, cv=2).fit(X)
    assert np.isnan(search.cv_results_["mean_test_score"][1])
    assert search.best_params_ == {"likelihood": "gaussian"}
    assert list(search.cv_results_["rank_test_score"]) == [1, 2]
    with pytest.raises(DataError, match="likelihood"):
        AutoencoderSearch(Autoencoder(**QUICK), {"likelihood": ["bernoulli"]}, cv=2).fit(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": Ridge()}, "GridSearchCV"),
        ({"rule": "one_standard_eror"}, "one_standard_error"),
        ({"scoring": "likelihood"}, "log_likelihood"),
        ({"param_grid": {"n_component": [2]}}, "n_component"),
        ({"param_grid": {}}, None),
        ({"param_grid": {"n_components": 3}}, "cannot be searched"),
        ({"param_grid": {"n_components": []}}, "cannot be searched"),
        ({"cv": 1}, "cv=1"),
        ({"cv": 301}, "cv=301"),
        ({"cv": "three"}, "cannot split"),
        ({"cv": [(np.arange(200), np.arange(0))]}, "validation rows"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    given = {"estimator": Autoencoder(**QUICK, n_components=2), "param_grid": {"n_components": [2]}, "cv": 2, **options}
    search = AutoencoderSearch(**given)
    if message is None:  # a grid of nothing is the estimator as it is
        assert search.fit(X).best_params_ == {}
        return
    with pytest.raises(EigencodeError, match=message):
        search.fit(X)


def test_an_interrupted_search_is_not_fitted(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    search = AutoencoderSearch(Autoencoder(**QUICK), {"n_components": [2]}, cv=2)
    monkeypatch.setattr("eigencode.estimators.fit_many.group_runs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert not [name for name in vars(search) if name.endswith("_")]


def test_without_a_refit_there_is_a_choice_but_no_model():
    search = AutoencoderSearch(Autoencoder(**QUICK), {"n_components": [2]}, cv=2, refit=False)
    with pytest.raises(NotFittedError):
        search.transform(X)
    assert search.fit(X).best_params_ == {"n_components": 2}
    with pytest.raises(OptionError, match="refit=True"):
        search.transform(X)


@pytest.mark.versions
@pytest.mark.draws_globally
@parametrize_with_checks([AutoencoderSearch(LinearAutoencoder(), {"n_components": [1]}, cv=2, random_state=0)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_the_search_has_all_methods_of_the_choice(search, tmp_path):
    best = search.best_estimator_
    for name in ("reconstruction_error", "jacobian_spectrum", "local_dimension", "jacobian"):
        np.testing.assert_array_equal(getattr(search, name)(X[:20]), getattr(best, name)(X[:20]))
    np.testing.assert_array_equal(search.inverse_transform(X=search.transform(X=X)), best.reconstruct(X))
    drawn = search.fit_density(X).sample(3, random_state=0)
    np.testing.assert_array_equal(drawn, best.sample(3, random_state=0))
    search.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(eigencode.load(tmp_path / "m.safetensors").transform(X), best.transform(X))


def test_a_number_of_folds_keeps_groups_together(monkeypatch):
    """No group is on both sides of a fold, nor of the validation rows of a fit."""
    groups, seen = np.arange(len(X)) // 25, []
    begin = LinearAutoencoder._begin

    def watched(model, *args, **given):
        run = begin(model, *args, **given)
        seen.append((given["groups"], run.rows.validation_numbers))
        return run

    monkeypatch.setattr(LinearAutoencoder, "_begin", watched)
    estimator = LinearAutoencoder(validation_fraction=0.2)
    search = AutoencoderSearch(estimator, {"n_components": [1, 2]}, cv=3, random_state=0)
    folds = search._folds(X, None, groups, 0)
    search.set_params(refit=False).fit(X, groups=groups)
    assert sorted(np.concatenate([fold.validation for fold in folds])) == list(range(len(X)))
    assert [own.tolist() for own, _ in seen] == 2 * [groups[fold.training].tolist() for fold in folds]
    for own, numbers in seen:
        assert len(own) > len(numbers) > 0
        assert not {*own[numbers]} & {*np.delete(own, numbers)}
    for fold in folds:
        assert not {*groups[fold.training]} & {*groups[fold.validation]}
    with pytest.raises(OptionError, match="cannot split"):
        search.set_params(cv=13).fit(X, groups=groups)
    search.set_params(cv=2).fit(X, groups=np.arange(len(X)) % 2)  # each fold learns from one group


@pytest.mark.versions
def test_groups_stay_together():
    groups = np.arange(len(X)) % 7
    kept = AutoencoderSearch(LinearAutoencoder(), {"n_components": [2, 4]}, cv=GroupKFold(3)).fit(X, groups=groups)
    folds = list(GroupKFold(3).split(X, groups=groups))
    scores = [LinearAutoencoder(2).fit(X[a]).leave_one_out_score(X[b]).mean() for a, b in folds]
    found = [kept.cv_results_[f"split{fold}_test_score"][0] for fold in range(3)]
    np.testing.assert_allclose(found, scores, rtol=1e-8)
    series = AutoencoderSearch(LinearAutoencoder(), {"n_components": [2, 4]}, cv=GroupKFold(3))
    assert series.fit(X, groups=pd.Series(groups)).best_score_ == kept.best_score_
    with pytest.raises(OptionError, match="'cv' cannot split the rows"):
        AutoencoderSearch(LinearAutoencoder(), {"n_components": [2]}, cv=GroupKFold(3)).fit(X)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_column_of_one_value_does_not_count(value):
    varied = X[:, X.std(0) > 0.5]
    wide = np.column_stack([varied, np.full(len(X), value)])
    scores = [
        LinearAutoencoder(2, scale="none").fit(rows[:200]).leave_one_out_score(rows[200:]) for rows in (varied, wide)
    ]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-6)


def test_a_refused_fit_does_not_change_a_search(search):
    before = dict(vars(search))
    with pytest.raises(DataError, match="infinite"):
        search.fit(np.where(X > 15, np.inf, X))
    assert vars(search) == before


@pytest.mark.parametrize(
    ("name", "values", "chosen", "says"),
    [
        ("n_components", [2, 4, 8], 8, "n_components=8 is the largest value tried"),
        ("n_components", [2, 4, 8], 2, "n_components=2 is the smallest value tried"),
        ("n_components", [2, 4, 8], 4, None),
        ("n_components", [2, 30], 30, None),  # as many as there are columns
        ("n_components", [1, 2, 4], 1, None),  # there are no fewer
        ("n_components", [8], 8, None),
        ("n_components", ["auto", 8], 8, None),
        ("n_components", [4, 8, "auto"], "auto", None),
        ("n_components", np.array([2, 4]), 4, "n_components=4 is the largest"),
        ("learning_rate", [1e-3, 1e-2], 1e-3, "learning_rate=0.001 is the smallest"),
        ("hidden", [(8,), (32,), (64, 32)], (32,), "hidden=32 is the largest"),
        ("hidden", [(8,), (32,), (64, 32)], (64, 32), None),
        ("beta", [0, 1, 2], 0, None),  # the end of its range
        ("validation_fraction", [0.1, 0.2], 0.2, "validation_fraction=0.2 is the largest"),
        ("random_state", [0, 1], 1, None),
        ("tied", [False, True], True, None),
        ("activation", ["gelu", "tanh"], "tanh", None),
        ("corruption__variance", [0.0, 0.1], 0.0, None),
        ("corruption__variance", [0.0, 0.1], 0.1, "corruption__variance=0.1 is the largest"),
    ],
)
def test_a_choice_at_the_edge_of_the_grid_is_noted(name, values, chosen, says):
    from eigencode.search import _edges

    candidates = [{name: value} for value in values]
    found = _edges(Autoencoder(), candidates, {name: chosen}, n_features=30)
    assert len(found) == (says is not None)
    assert says is None or (found[0].startswith(says) and "try" in found[0])


@pytest.mark.parametrize("options", [{"hidden": ()}, {"hidden": (4,), "max_epochs": 0}])
def test_candidates_whose_training_is_complete_are_not_ended(options, tmp_path):
    """They cost nothing more, and the best may be among them; a later call says the same."""
    rows = np.random.default_rng(0).normal(size=(80, 3)) @ np.random.default_rng(1).normal(size=(3, 6))
    rows += 0.1 * np.random.default_rng(2).normal(size=rows.shape)
    grid = {"learning_rate": [1e-3, 1e-2, 3e-2]}
    search = AutoencoderSearch(Autoencoder(2, random_state=0, **options), grid, cv=2, factor=3)
    for _ in range(2):
        search.set_params(random_state=0, refit=False).fit(rows, checkpoint=tmp_path)
        assert search.cv_results_["budget"].tolist() == [1, 1, 1]


def test_poor_candidates_end_within_a_time_limit(ticking):
    """With a time limit and no number of epochs the limit is divided as the steps are."""
    rows = np.tanh(3 * np.random.default_rng(0).normal(size=(600, 2)) @ np.random.default_rng(1).normal(size=(2, 6)))
    grid = {"n_components": [1, 2, 4], "activation": ["tanh", "relu", "gelu"]}  # three programs
    estimator = Autoencoder(hidden=(9,), optimizer="adam", batch_size=32, max_seconds=0.9, patience=999, random_state=0)
    search = AutoencoderSearch(estimator, grid, cv=2, factor=3, refit=False, random_state=0)
    began = ticking()
    search.fit(rows)
    assert sorted(search.cv_results_["budget"]) == [0.2] * 3 + [0.5] * 3 + [1] * 3
    assert ticking() - began < 3 * 0.9 + 1  # preparation looks at the clock, too


class OneRound:
    """After half of the steps some jobs end."""

    shares = (0.5,)

    def __init__(self, *ended):
        self.ended = ended

    def poor(self, share):
        return self.ended


def timed_jobs(rows, folder=None):
    """Two programs of two models each, with a time limit."""
    options = {"hidden": (9,), "optimizer": "adam", "batch_size": 32, "max_seconds": 2.0, "patience": 999}
    given = [("tanh", 0), ("tanh", 1), ("gelu", 0), ("gelu", 1)]
    models = [Autoencoder(2, activation=a, random_state=seed, **options) for a, seed in given]
    return [Job(model, rows, checkpoint=folder and folder / str(i)) for i, model in enumerate(models)]


def test_the_time_in_which_other_programs_train_is_not_counted(ticking):
    """With a round between them two programs make as many steps in their time limit as without one."""
    rows = np.tanh(np.random.default_rng(0).normal(size=(200, 6)))
    n_steps = []
    for rounds in (None, OneRound()):
        jobs = timed_jobs(rows)
        fit_jobs(jobs, rounds=rounds)
        n_steps.append([job.model.history_[-1]["step"] for job in jobs])
        assert all(job.model.history_[-1]["seconds"] < 2.2 for job in jobs)
    np.testing.assert_allclose(n_steps[1], n_steps[0], rtol=0.15)


def test_models_that_end_early_keep_the_seconds_of_their_own_training(ticking, tmp_path):
    rows = np.tanh(np.random.default_rng(0).normal(size=(200, 6)))
    jobs = timed_jobs(rows, tmp_path)
    fit_jobs(jobs, rounds=OneRound(jobs[1], jobs[3]))
    for number, (job, later) in enumerate(zip(jobs, timed_jobs(rows, tmp_path), strict=True)):
        later.run = later.begin()
        later.run.recorder.close()
        own, trained = job.model.history_[-1]["seconds"], later.run.clock.trained
        assert 0.9 < own < 1.25 if number in (1, 3) else own > 1.5, number
        assert abs(trained - own) < 0.2, number
        assert later.was_beyond(0.4), number
        assert later.was_beyond(0.7) == (number in (0, 2)), number
        # Those that a round ended are compared no more, and give no answers.
        assert hasattr(job.model, "noise_") == (number in (0, 2)), number
        assert job.model.best_objective_ == min(row["validation_objective"] for row in job.model.history_)


def test_a_model_that_a_round_ended_is_not_complete_though_its_step_size_had_begun_to_decay(tmp_path):
    rows = np.random.default_rng(0).normal(size=(200, 6))

    def jobs():
        models = [Autoencoder(2, hidden=(9,), optimizer="adam", max_epochs=20, random_state=seed) for seed in (0, 1)]
        return [Job(model, rows, checkpoint=tmp_path / str(i)) for i, model in enumerate(models)]

    class Round:
        shares = (0.5,)

        def poor(self, share):
            for job in first:
                job.run.state.decay("plateau")
            return first[:1]

    first = jobs()
    fit_jobs(first, rounds=Round())
    later = jobs()
    for job in later:
        job.run = job.begin()
        job.run.recorder.close()
    assert all(job.run.state.finished for job in later)
    halving = Halving(2, later, [range(2)], ["one", "two"])
    assert [halving._is_complete(number) for number in (0, 1)] == [False, True]


def _reached(model, rows, n_epochs):
    """The lowest objective of validation rows in the first epochs of a fit."""
    history = model.fit(rows).history_
    return min(row["validation_objective"] for row in history if 0 < row["epoch"] <= n_epochs)


def test_a_round_keeps_a_share_of_all_candidates_of_a_group(monkeypatch):
    monkeypatch.setattr(Halving, "_objectives", lambda self, candidate: (99.0, float(candidate)))
    monkeypatch.setattr(Halving, "_is_complete", lambda self, candidate: False)
    monkeypatch.setattr(Halving, "_before", lambda self, candidate, share: 0)
    halving = Halving(4, range(20), [range(16), range(16, 20)], range(20))
    assert halving.poor(0.2) == [*range(8, 16), 18, 19]
    assert halving.poor(0.5) == [*range(4, 8), 17]
    assert np.flatnonzero(halving.budgets == 1).tolist() == [0, 1, 2, 3, 16]


def test_settings_that_are_good_for_other_sizes_are_kept(monkeypatch):
    """Of two settings the first is worse at one size by .3 of the gain, and better at two others by .5 of it."""
    lowest = [1.3, 1.0, 10.0, 15.0, np.nan, 100.0, 100.0, 150.0]  # the units of each size are its own
    starts = [2.0, 2.0, 20.0, 20.0, 200.0, 200.0, 200.0, 200.0]
    monkeypatch.setattr(Halving, "_objectives", lambda self, candidate: (starts[candidate], lowest[candidate]))
    monkeypatch.setattr(Halving, "_is_complete", lambda self, candidate: False)
    monkeypatch.setattr(Halving, "_before", lambda self, candidate, share: 0)
    groups = [range(0, 2), range(2, 4), range(4, 6), range(6, 8)]
    # What the first lacks at the first size and on average: .3 + .1 of the gain; the second 0 + (.5 + .5) / 4.
    halving = Halving(4, range(8), groups, ["one", "two"] * 4)
    ranks = halving._ranks(0.2)
    np.testing.assert_allclose([ranks[0][1], ranks[1][1]], [0.3 + 0.1, 0.25])
    lowest[:2] = 1.1, 1.0
    assert halving.poor(0.2) == [1, 3, 4, 7]
    assert Halving(4, range(8), groups, range(8)).poor(0.2) == [0, 3, 4, 7]


def test_candidates_that_an_earlier_process_ended_end_in_the_same_round(monkeypatch):
    """Their settings may look better in a later process, in which the others have been trained further."""
    monkeypatch.setattr(Halving, "_is_complete", lambda self, candidate: False)
    monkeypatch.setattr(Halving, "_objectives", lambda self, candidate: (9.0, [1.0, 3.0, 2.0, 4.0][candidate]))

    def job(begun_at, ended_by):
        return SimpleNamespace(begun_at=begun_at, run=SimpleNamespace(state=SimpleNamespace(ended_by=ended_by)))

    # Ended after half, ended after a fifth, not yet compared, not yet compared.
    jobs = [job(0.5, "search"), job(0.21, "search"), job(0.1, None), job(0.1, None)]
    halving = Halving(4, jobs, [range(4)], range(4))
    assert [halving._before(number, 0.2) for number in range(4)] == [0, 1, 0, 0]
    assert [halving._before(number, 0.5) for number in range(4)] == [1, 1, 0, 0]
    halving.poor(0.2)
    halving.poor(0.5)
    assert halving.budgets.tolist() == [0.5, 0.2, 1.0, 0.2]


def test_lags_have_the_unit_of_the_gain_or_else_of_the_worst():
    from eigencode.search_rounds import lags_behind_best

    np.testing.assert_allclose(lags_behind_best(np.array([np.nan, 6.0]), np.array([2.0, 3.0])), [0, 0.25])
    np.testing.assert_allclose(lags_behind_best(np.full(3, 1.0), np.array([2.0, 3.0, 6.0])), [0, 0.25, 1])
    np.testing.assert_allclose(lags_behind_best(np.full(2, 1.0), np.array([1.0, 1.0])), [0, 0])
    np.testing.assert_allclose(lags_behind_best(np.full(2, np.nan), np.array([np.nan, 1.0])), [np.inf, 0])
    np.testing.assert_allclose(lags_behind_best(np.full(1, 3.0), np.array([np.inf])), [np.inf])
    # One that starts far away, as with other layers, does not make the gain larger.
    np.testing.assert_allclose(lags_behind_best(np.array([2.0, 2.0, 90.0]), np.array([1.0, 1.5, 1.9])), [0, 0.5, 0.9])


def test_the_lowest_objective_is_one_after_the_start():
    from eigencode.search_rounds import _start_and_lowest

    def found(*objectives):
        history = [{"validation_objective": objective} for objective in objectives]
        return _start_and_lowest(SimpleNamespace(state=SimpleNamespace(history=history)))

    assert found(1.0, 3.0, np.nan, 2.0) == (1.0, 2.0)
    assert found(1.0) == (1.0, 1.0)


def test_one_size_at_which_settings_fail_does_not_outweigh_the_others(monkeypatch):
    """They lack at most all that the best has gained."""
    lowest = [1.0, 1.4, 1.0, 1.4, 99.0, 1.0]
    monkeypatch.setattr(Halving, "_objectives", lambda self, candidate: (2.0, lowest[candidate]))
    monkeypatch.setattr(Halving, "_is_complete", lambda self, candidate: False)
    monkeypatch.setattr(Halving, "_before", lambda self, candidate, share: 0)
    halving = Halving(4, range(6), [range(0, 2), range(2, 4), range(4, 6)], ["one", "two"] * 3)
    ranks = halving._ranks(0.2)
    np.testing.assert_allclose([ranks[0][1], ranks[1][1]], [1 / 3, 0.4 + 0.8 / 3])
    assert halving.poor(0.2) == [1, 3, 4]


def test_poor_candidates_end_early_and_the_others_go_on_from_where_they_are(tmp_path):
    """Of three step sizes of each size two go on after a fifth, and one after half, which ends as without rounds."""
    rows = np.tanh(3 * np.random.default_rng(0).normal(size=(600, 2)) @ np.random.default_rng(1).normal(size=(2, 6)))
    grid = {"n_components": [1, 2, 4], "learning_rate": [1e-3, 1e-2, 3e-2]}
    estimator = Autoencoder(hidden=(9,), optimizer="adam", batch_size=32, max_epochs=10, patience=99, random_state=0)
    full, halved = (
        AutoencoderSearch(estimator, grid, cv=2, factor=factor, refit=False, random_state=0) for factor in (None, 3)
    )
    full.fit(rows)
    halved.fit(rows, checkpoint=tmp_path)
    budgets = halved.cv_results_["budget"]
    folds = list(KFold(2, shuffle=True, random_state=0).split(rows))
    candidates = list(ParameterGrid(grid))

    def reached(number, n_epochs):
        model = clone(estimator).set_params(**candidates[number])
        return np.mean([_reached(model, rows[a], n_epochs) for a, _ in folds])

    of_size = [[i for i, one in enumerate(candidates) if one["n_components"] == k] for k in grid["n_components"]]
    halfway = [sorted(own, key=lambda i: reached(i, 2))[:2] for own in of_size]
    ahead = [min(own, key=lambda i: reached(i, 5)) for own in halfway]
    assert np.flatnonzero(budgets >= 0.5).tolist() == sorted(i for own in halfway for i in own)
    assert np.flatnonzero(budgets == 1).tolist() == sorted(ahead)
    assert set(budgets) == {0.2, 0.5, 1}
    assert (full.cv_results_["budget"] == 1).all()
    found, expected = (each.cv_results_["mean_test_score"] for each in (halved, full))
    np.testing.assert_allclose(found[budgets == 1], expected[budgets == 1], rtol=1e-4)
    assert np.isnan(found[budgets < 1]).all()
    assert halved.best_index_ in ahead
    again = clone(halved).fit(rows, checkpoint=tmp_path)  # every model is in its folder
    np.testing.assert_allclose(again.cv_results_["mean_test_score"], found, rtol=1e-6)
    np.testing.assert_array_equal(again.cv_results_["budget"], budgets)
    with pytest.raises(OptionError, match="'factor'"):
        AutoencoderSearch(estimator, grid, factor=1).fit(rows)
