"""Which rows are for validation: a share drawn at random, the last ones, whole groups, or rows given apart."""

import numpy as np
import pytest
import torch
from conftest import untimed

import eigencode
import eigencode.training
from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    LinearAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.descriptions import outcome, summary
from eigencode.errors import DataError, OptionError
from eigencode.fitting import splits
from eigencode.fitting.table import TrainingTable
from eigencode.plots import TrainingDisplay

OPTIONS = {"hidden": (6,), "max_epochs": 3, "optimizer": "adam", "random_state": 0}


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return rng.normal(size=(120, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(120, 5))


def fitted_split(model, *args, **given):
    """A model's fit, with the rows of its run: scaled, to learn from and for validation."""
    rows = model._begin(*args, **given).rows
    return rows.all_rows.x[rows.training], rows.all_rows.x[rows.validation_numbers]


def test_the_last_rows_are_for_validation(X):
    model = Autoencoder(2, **OPTIONS, validation="last", validation_fraction=0.25)
    training, validation = fitted_split(model, X)
    scaled = torch.from_numpy(model.scaler_.transform(X)).float()
    torch.testing.assert_close(training, scaled[:90])
    torch.testing.assert_close(validation, scaled[90:])


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_together(X, seed):
    groups = np.repeat(np.arange(12), 10)[np.random.default_rng(seed).permutation(120)]
    numbers = splits.by_groups(groups, 30, seed).tolist()
    held_out = set(groups[numbers])
    assert not held_out & set(np.delete(groups, numbers))
    assert len(held_out) == 3
    assert numbers == sorted(set(numbers))


def test_other_names_of_the_groups_are_the_same_split():
    groups = np.random.default_rng(0).integers(0, 12, 120)
    names = np.array(list("lkjihgfedcba"))
    for seed in range(5):
        numbers = splits.by_groups(groups, 30, seed)
        assert torch.equal(splits.by_groups(names[groups], 30, seed), numbers)
        assert torch.equal(splits.by_groups(-groups, 30, seed), numbers)


def test_groups_of_any_size_leave_some_to_learn_from():
    for seed in range(5):
        assert splits.by_groups(np.array(["a"] * 99 + ["b"]), 10, seed).tolist() == [99]
        assert len(splits.by_groups(np.repeat(np.arange(4), [60, 20, 10, 10]), 20, seed)) in (20, 30)
    with pytest.raises(DataError, match="at least two groups"):
        splits.by_groups(np.array(["a"] * 9), 1, seed=0)
    table = TrainingTable(np.ones((9, 2)), groups=np.array(["a"] * 9), fraction=0.0)
    assert len(table.validation_numbers) == 0


@pytest.mark.parametrize("options", [{}, {"takes_last": True}, {"groups": np.arange(2000) // 4}])
def test_validation_rows_that_are_wide_take_a_bounded_number_of_cells(options, monkeypatch):
    monkeypatch.setattr(splits, "MOST_VALIDATION_CELLS", 30_000)
    wide, narrow = (np.broadcast_to(np.float32(0), (2000, width)) for width in (100, 10))
    assert len(TrainingTable(wide, fraction=0.5, **options).validation_numbers) == 300
    assert len(TrainingTable(narrow, fraction=0.5, **options).validation_numbers) == 1000


def test_groups_reach_the_fit_by_name_and_follow_rows_without_weight(X):
    groups = np.array([f"g{i % 4}" for i in range(120)])
    weights = np.ones(120)
    weights[groups == "g1"] = 0
    model = Autoencoder(2, **OPTIONS, validation_fraction=0.3)
    run = model._begin(X, weights, groups=groups)
    left = groups[weights > 0]
    assert len(set(left[run.rows.validation_numbers.numpy()])) == 1
    assert len(set(left[run.rows.training.numpy()])) == 2


@pytest.mark.parametrize("cls", [Autoencoder, VariationalAutoencoder, LinearAutoencoder, StackedAutoencoder])
def test_nothing_is_learned_from_validation_data(X, cls):
    """Other rows for validation change what is kept at most: scale, start and the objective met in training are the
    same."""
    given = {"max_epochs": 3, "random_state": 0, "optimizer": "adam"}
    options = {"solver": "gradient"} if cls is LinearAutoencoder else {}
    first, other = (cls(2, **given, **options).fit(X[:80], validation_data=apart) for apart in (X[80:100], 5 * X[100:]))
    np.testing.assert_array_equal(first.scaler_.center, other.scaler_.center)
    np.testing.assert_array_equal(first.scaler_.divisor, other.scaler_.divisor)
    met = [[row.get("training_objective") for row in model.history_] for model in (first, other)]
    assert met[0][:2] == met[1][:2]
    assert first.history_[0]["validation_objective"] != other.history_[0]["validation_objective"]
    if cls is not StackedAutoencoder:
        rows = cls(2, **given, **options)._begin(X[:80], validation_data=X[80:100]).rows
        assert (rows.n_training, rows.n_validation) == (80, 20)


def test_the_weights_kept_are_the_best_on_validation_data(X):
    model = Autoencoder(2, **{**OPTIONS, "max_epochs": 8, "learning_rate": 0.05}).fit(X[:60], validation_data=X[60:])
    best = min(model.history_, key=lambda row: row["validation_objective"])
    assert model.best_objective_ == best["validation_objective"]
    x = torch.from_numpy(model.scaler_.transform(X[60:])).float()
    with torch.no_grad():
        found = model.objective_(model.composition_.eval(), model.composition_(x)).mean().item()
    assert found == pytest.approx(model.best_objective_, rel=1e-5)


def test_the_number_of_validation_rows_is_what_happened(X, tmp_path):
    options = {"hidden": (4,), "max_epochs": 2, "random_state": 0}
    cases = [
        (LinearAutoencoder(2).fit(X, validation_data=X[:7]), 7, "validation"),
        (LinearAutoencoder(2).fit(X), 0, "training"),
        (Autoencoder(2, **options).fit(X[:4]), 0, "training"),
        (Autoencoder(2, **options, validation_fraction=0.2).fit(X), round(0.2 * len(X)), "validation"),
        (Autoencoder(2, **options).fit(X).partial_fit(X), 12, "training"),
        (Autoencoder(2, **options).partial_fit(X), 0, "training"),
    ]
    for model, n_rows, name in cases:
        model.save(tmp_path / "m.safetensors")
        for same in (model, eigencode.load(tmp_path / "m.safetensors")):
            assert same.n_validation_ == n_rows
            facts = summary(same)
            assert facts["objective_of"] == name
            # After a stream the objective is of a block, and the baseline's is not.
            assert ("linear baseline" in outcome(facts)) is not hasattr(model, "stream_state_")
            if not hasattr(model, "stream_state_") and model.history_[-1]["epoch"]:
                labels = [line.get_label() for line in TrainingDisplay.from_estimator(same).ax_.get_lines()]
                assert f"{name} rows, after the epoch" in labels


def test_iter_fit_takes_the_same(X):
    given = {"validation_data": X[100:]}
    rows = list(Autoencoder(2, **OPTIONS).iter_fit(X[:100], **given))
    assert untimed(rows) == untimed(Autoencoder(2, **OPTIONS).fit(X[:100], **given).history_[1:])


def test_columns_of_validation_data_are_checked(X):
    with pytest.raises(ValueError, match="In 'validation_data': X has 4 features"):
        Autoencoder(2, **OPTIONS).fit(X, validation_data=X[:, :4])
    with pytest.raises(DataError, match="no number"):
        Autoencoder(2, **OPTIONS).fit(X, validation_data=np.full((3, 5), np.nan))
    with pytest.raises(DataError, match="In 'validation_data': PoissonLikelihood needs counts"):
        Autoencoder(2, likelihood="poisson", **OPTIONS).fit(np.abs(X).round(), validation_data=X)
    with pytest.raises(DataError, match="In 'validation_data': X has 4 features"):
        AutoencoderRegressor(Autoencoder(2), **OPTIONS).fit(X, X[:, 0], validation_data=(X[:, :4], X[:, 0]))
    with pytest.raises(OptionError, match="not both"):
        Autoencoder(2, **OPTIONS).fit(X, validation_data=X, groups=np.arange(120))
    with pytest.raises(DataError, match="groups"):
        Autoencoder(2, **OPTIONS).fit(X, groups=np.arange(119))
    with pytest.raises(DataError, match="groups has gaps"):
        Autoencoder(2, **OPTIONS).fit(X, groups=[None, *range(119)])


def test_supervised_models_take_rows_with_labels(X):
    labels = np.array(["a", "b"])[(X[:, 0] > 0).astype(int)]
    model = AutoencoderClassifier(Autoencoder(2, **OPTIONS), max_epochs=3, head_variance=None, random_state=0)
    model.fit(X[:80], labels[:80], validation_data=(X[80:], labels[80:]))
    p = model.predict_proba(X[80:])[np.arange(40), (labels[80:] == "b").astype(int)]
    assert model.best_objective_ == pytest.approx(-np.log(p).mean(), rel=1e-4)
    with pytest.raises(DataError, match="labels that y does not have"):
        model.fit(X[:80], labels[:80], validation_data=(X[80:], np.full(40, "c")))
    with pytest.raises(OptionError, match="pair of rows and labels"):
        model.fit(X[:80], labels[:80], validation_data=X[80:])
    regressor = AutoencoderRegressor(LinearAutoencoder(2), max_epochs=2, random_state=0)
    regressor.fit(X[:80], X[:80, 0], groups=np.arange(80) // 8)
    assert len(regressor.history_) >= 2


SPLITS = {
    "data": lambda X: ((X[:90],), {"validation_data": X[90:]}, {}),
    "groups": lambda X: ((X,), {"groups": np.arange(120) // 10}, {"validation_fraction": 0.25}),
    "last": lambda X: ((X,), {}, {"validation": "last", "validation_fraction": 0.25}),
}


@pytest.mark.parametrize("name", SPLITS)
def test_separate_rows_move_neither_scale_nor_start(X, name):
    """Validation rows of any other size: the scale and the weights of the start are the same, bit for bit."""
    args, given, options = SPLITS[name](X)
    model = Autoencoder(2, **OPTIONS, **options)
    run = model._begin(*args, **given)
    assert run.rows.n_validation == 30
    numbers = np.arange(90, 120) if name == "data" else run.rows.validation_numbers.numpy()
    other = X.copy()
    other[numbers] = 100 + 7 * other[numbers]
    args, given, options = SPLITS[name](other)
    again = Autoencoder(2, **OPTIONS, **options)
    moved = again._begin(*args, **given)
    np.testing.assert_array_equal(again.scaler_.center, model.scaler_.center)
    np.testing.assert_array_equal(again.scaler_.divisor, model.scaler_.divisor)
    assert torch.equal(run.state.parameters.vector, moved.state.parameters.vector)
    assert again.hidden_ == model.hidden_


def rows_of_all(monkeypatch, fit):
    """The validation rows of every run that a fit begins, as sets of the rows' first cells in the data's units."""
    seen, begin = [], eigencode.training.begin

    def watched(run):
        seen.append((run.rows.n_training, run.rows.validation_numbers.tolist()))
        begin(run)

    monkeypatch.setattr("eigencode.training.begin", watched)
    fit()
    return seen


@pytest.mark.parametrize("name", ["random", "groups", "last"])
def test_models_trained_one_after_the_other_share_their_validation_rows(X, name, monkeypatch):
    """No layer, and no autoencoder before a head, is trained on rows that decide later which weights are kept."""
    given = {"groups": np.arange(120) // 10} if name == "groups" else {}
    options = {"max_epochs": 1, "random_state": 0} | ({"validation": "last"} if name == "last" else {})
    stack = StackedAutoencoder(layers=[Autoencoder(4, hidden=(), max_epochs=1), 2], **options)
    found = rows_of_all(monkeypatch, lambda: stack.fit(X, **given))
    assert len(found) == 3
    assert found[0][1]
    assert all(one == found[0] for one in found)
    labels = (X[:, 0] > 0).astype(int)
    classifier = AutoencoderClassifier(Autoencoder(2, max_epochs=1), **options)
    found = rows_of_all(monkeypatch, lambda: classifier.fit(X, labels, **given))
    assert len(found) == 2
    assert found[0] == found[1]
