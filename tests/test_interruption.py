"""An interruption at any moment of a fit: what was learned is evaluated, kept if it is the best, and noted."""

import itertools
import warnings

import numpy as np
import pytest
from sklearn.base import clone

from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderSearch,
    StackedAutoencoder,
    fit_many,
    training,
)
from eigencode.errors import InterruptedWarning, ResultWarning, TrainingError
from eigencode.estimators import streaming
from eigencode.model.composition import Composition
from eigencode.training import loop
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.runner import SingleRunner
from eigencode.training.state import TrainingState

OPTIONS = {"hidden": (16,), "max_epochs": 3, "batch_size": 32, "optimizer": "adam", "random_state": 0}


@pytest.fixture(scope="module")
def X(digits):
    return digits[:900]


@pytest.fixture
def interrupt(monkeypatch):
    """Interrupt a method at one of its calls; counted over all objects."""

    def at(owner, name, call, times=1):
        method, calls = getattr(owner, name), itertools.count(1)

        def interrupting(*args, **options):
            if call <= next(calls) < call + times:
                raise KeyboardInterrupt
            return method(*args, **options)

        monkeypatch.setattr(owner, name, interrupting)

    return at


def is_noted(model):
    return any(note.startswith("training was interrupted") for note in model.notes_)


def test_what_a_first_epoch_has_learned_is_kept(X, interrupt):
    """The average over the steps made is better than the start after most of an epoch, and is the model."""
    interrupt(TrainingState, "average", 6)  # of 7 in an epoch of 26 steps
    model = Autoencoder(4, **OPTIONS)
    with pytest.warns(InterruptedWarning, match="interrupted"):
        model.fit(X)
    start, last = model.history_
    assert (last["epoch"], last["step"], model.best_epoch_) == (1, 24, 1)
    assert last["validation_objective"] < start["validation_objective"]
    assert model.best_objective_ == last["validation_objective"]
    n_rows = round(24 * 810 / 26)
    assert f"training was interrupted after {n_rows} rows, in epoch 1 of at most 3" in model.notes_
    assert not any("would do" in note for note in model.notes_)
    assert not model.composition_.training


def test_the_weights_kept_are_the_average_that_was_evaluated(X, interrupt, monkeypatch):
    interrupt(SingleRunner, "draw", 38)  # within a step of the second epoch
    kept = []
    record = loop.record

    def recording(run, objective, training_objective):
        row = record(run, objective, training_objective)
        kept.append(run.state.snapshot(0))
        return row

    monkeypatch.setattr(loop, "record", recording)
    model = Autoencoder(4, **OPTIONS)
    with pytest.warns(InterruptedWarning):
        model.fit(X)
    vector = np.concatenate([p.detach().numpy().ravel() for p in model.composition_.parameters()])
    np.testing.assert_array_equal(vector, kept[model.best_epoch_].vector.numpy())
    assert [row["epoch"] for row in model.history_] == [0, 1, 2]


def test_a_second_interruption_ends_at_once_with_the_best_so_far(X, interrupt):
    interrupt(SingleRunner, "evaluate", 3, times=2)  # after the start and epoch 1
    model = Autoencoder(4, **OPTIONS)
    with pytest.warns(InterruptedWarning):
        model.fit(X)
    assert [row["epoch"] for row in model.history_] == [0, 1]
    assert model.best_epoch_ == 1
    assert is_noted(model)


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 6, 9, 30, 55])
@pytest.mark.parametrize("owner_and_name", [(Composition, "forward"), (TrainingState, "show"), (loop, "record"),
                                            (TrainingState, "snapshot"), (TrainingState, "restore_best")])  # fmt: skip
def test_every_moment_leaves_a_whole_model(owner_and_name, moment, X, interrupt):
    """A model that was interrupted is as good as the best row of its history says, and never worse than its start."""
    interrupt(*owner_and_name, moment)
    model = Autoencoder(4, **OPTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterruptedWarning)
        try:
            model.fit(X)
        except KeyboardInterrupt:
            assert not hasattr(model, "history_")  # before the training: nothing is changed
            return
    objectives = [row["validation_objective"] for row in model.history_]
    assert model.best_objective_ == min(objectives) == objectives[model.best_epoch_]
    assert not model.composition_.training
    assert np.isfinite(model.reconstruct(X[:5])).all()


def test_between_two_epochs_it_is_noted_too(X, monkeypatch):
    train_all = training.train_all

    def interrupted(runner):
        epochs = train_all(runner)
        yield next(epochs)
        try:
            raise KeyboardInterrupt
        finally:
            epochs.close()

    monkeypatch.setattr("eigencode.training.train_all", interrupted)
    model = Autoencoder(4, **OPTIONS)
    with pytest.warns(InterruptedWarning):
        model.fit(X)
    assert [row["epoch"] for row in model.history_] == [0, 1]
    assert is_noted(model)


def test_an_iterator_tells_its_caller_and_leaves_a_whole_model(X, interrupt):
    interrupt(SingleRunner, "draw", 38)
    model = Autoencoder(4, **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        list(model.iter_fit(X))
    assert [row["epoch"] for row in model.history_] == [0, 1, 2]
    assert is_noted(model)


def test_an_iterator_that_is_left_is_noted_and_no_verdict_on_the_network(X):
    model = Autoencoder(4, **OPTIONS)
    for _ in model.iter_fit(X):
        break
    assert any(
        note.startswith("the iterator was left after 810 rows, in epoch 1 of at most 3") for note in model.notes_
    )
    assert not any("would do" in note or "not converged" in note for note in model.notes_)


def test_an_iterator_that_is_held_at_exit_ends_with_the_best_weights(X):
    held = Autoencoder(4, **OPTIONS)
    rows = held.iter_fit(X)
    next(rows)
    streaming._close_unfinished()
    assert held.notes_[0].startswith("the iterator was left after 810 rows")
    assert next(rows, None) is None


def test_an_error_in_ending_an_iterator_that_is_dropped_is_a_warning():
    def rows():
        try:
            yield {}
        finally:
            raise TrainingError("It cannot be ended")

    held = streaming.FitIterator(rows())
    next(held)
    with pytest.warns(ResultWarning, match="It cannot be ended"):
        del held


@pytest.mark.parametrize(
    ("owner", "name", "call", "n_models"),
    [
        (BatchedRunner, "step", 20, 3),
        (BatchedRunner, "evaluate", 2, 3),
        (loop, "record", 5, 3),
        (SingleRunner, "step", 20, 1),
        (SingleRunner, "evaluate", 3, 1),
        (loop, "record", 2, 1),
    ],
)
def test_each_of_some_models_keeps_what_it_has_learned(owner, name, call, n_models, X, interrupt):
    interrupt(owner, name, call)
    models = [Autoencoder(4, **{**OPTIONS, "learning_rate": rate}) for rate in (1e-3, 3e-3, 6e-3)[:n_models]]
    with pytest.warns(InterruptedWarning):
        fit_many(models, X)
    for model in models:
        objectives = [row["validation_objective"] for row in model.history_]
        assert len(objectives) == {"step": 2, "evaluate": 3, "record": 2}[name]
        assert model.best_objective_ == min(objectives) == objectives[model.best_epoch_]
        assert objectives[1] < objectives[0]
        assert is_noted(model)
        assert np.isfinite(model.reconstruct(X[:5])).all()


def test_an_interrupted_search_has_no_choice(X, interrupt):
    interrupt(BatchedRunner, "step", 20)
    search = AutoencoderSearch(Autoencoder(4, **OPTIONS), {"n_components": [2, 4]}, cv=2, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert not hasattr(search, "best_params_")


def test_a_stack_that_is_interrupted_in_its_first_layer(X, interrupt):
    interrupt(SingleRunner, "draw", 38)
    model = StackedAutoencoder(layers=(20, 8), max_epochs=3, batch_size=32, optimizer="adam", random_state=0)
    with pytest.warns(InterruptedWarning) as warned:
        model.fit(X)
    assert len(warned) == 1
    assert [layer.history_[-1]["epoch"] for layer in model.layers_] == [2, 0]
    assert model.history_[-1]["epoch"] == 0
    assert model.notes_[0].startswith("training was interrupted in layer 1 of 2; neither")
    assert np.isfinite(model.reconstruct(X[:5])).all()


@pytest.mark.parametrize(
    ("call", "epochs", "says"), [(2, [3, 0], "in layer 2 of 2; the network"), (3, [3, 3], "after the last layer; the")]
)
@pytest.mark.parametrize("folder", [None, "run"])
def test_a_stack_that_is_interrupted_before_a_training_begins(call, epochs, says, folder, X, interrupt, tmp_path):
    interrupt(training, "begin", call)
    model = StackedAutoencoder(layers=(20, 8), max_epochs=3, batch_size=32, optimizer="adam", random_state=0)
    with pytest.warns(InterruptedWarning) as warned:
        model.fit(X, checkpoint=folder and tmp_path / folder)
    assert len(warned) == 1
    assert ("goes on from its checkpoint" in str(warned[0].message)) == (folder is not None)
    assert [layer.history_[-1]["epoch"] for layer in model.layers_] == epochs
    assert model.history_[-1]["epoch"] == 0
    assert model.notes_[0].startswith(f"training was interrupted {says}")
    assert np.isfinite(model.reconstruct(X[:5])).all()
    if folder is not None:
        again, whole = clone(model).fit(X, checkpoint=tmp_path / folder), clone(model).fit(X)
        np.testing.assert_array_equal(again.transform(X), whole.transform(X))


def test_labels_are_not_begun_after_an_interruption_in_the_autoencoder(digits, interrupt):
    interrupt(SingleRunner, "draw", 38)
    autoencoder = Autoencoder(4, **OPTIONS)
    model = AutoencoderClassifier(autoencoder=autoencoder, max_epochs=3, random_state=0)
    with pytest.warns(InterruptedWarning) as warned:
        model.fit(digits[:900], np.arange(900) % 3)
    assert len(warned) == 1
    assert model.autoencoder_.history_[-1]["epoch"] == 2
    assert model.history_[-1]["epoch"] == 0
    assert model.notes_[0].startswith("training was interrupted in the autoencoder, before the labels were learned")
    again = AutoencoderClassifier(autoencoder=model.autoencoder_, max_epochs=3, random_state=0)
    assert again.fit(digits[:900], np.arange(900) % 3).history_[-1]["epoch"] == 3


def test_labels_keep_what_was_learned(digits, interrupt):
    autoencoder = Autoencoder(4, **OPTIONS).fit(digits[:900])
    interrupt(SingleRunner, "draw", 38)
    model = AutoencoderClassifier(autoencoder=autoencoder, max_epochs=9, batch_size=32, random_state=0)
    with pytest.warns(InterruptedWarning):
        model.fit(digits[:900], np.arange(900) % 3)
    assert model.history_[-1]["epoch"] == 2
    assert is_noted(model)
