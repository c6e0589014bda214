"""A fit with a checkpoint that is killed at any moment, and begun again by the same call, gives the same bits."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from eigencode import (
    AnomalyDetector,
    Autoencoder,
    AutoencoderClassifier,
    Checkpoint,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
    load,
)
from eigencode.io import checkpoints
from eigencode.io.earlier import filled
from eigencode.parts import GaussianNoise
from eigencode.training.resuming import saved_run
from eigencode.training.runner import SingleRunner

QUICK = {"hidden": (8,), "max_epochs": 4, "batch_size": 64, "random_state": 0}


class Killed(BaseException):
    """Ends a fit as a signal would that cannot be handled."""


@pytest.fixture
def X(digits):
    return digits[:300]


@pytest.fixture
def kill(monkeypatch):
    """Let the process be killed in a step, counted over all attempts; gives the steps that each attempt has made."""
    step, made = SingleRunner.step, []

    def at(*numbers):
        counter = itertools.count(1)

        def killing(*given):
            if next(counter) in numbers:
                raise Killed
            made[-1] += 1
            return step(*given)

        monkeypatch.setattr(SingleRunner, "step", killing)
        return made

    return at


def fitted(make, fit, made):
    """The model after as many attempts as it takes."""
    while True:
        made.append(0)
        model = make()
        try:
            return fit(model)
        except Killed:
            continue


def answers(model, X):
    return np.concatenate([p.detach().numpy().ravel() for p in model.composition_.parameters()]), model.transform(X)


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def untimed(model):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in model.history_]


def assert_same(one, other, X):
    for first, second in zip(answers(one, X), answers(other, X), strict=True):
        np.testing.assert_array_equal(first, second)
    assert untimed(one) == untimed(other)
    assert (one.best_epoch_, one.best_objective_, one.notes_) == (
        other.best_epoch_,
        other.best_objective_,
        other.notes_,
    )


def dropout():
    """The user's own network; in training it draws from torch's global generator."""
    return torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.Dropout(0.2), torch.nn.Tanh(), torch.nn.Linear(8, 3))


KINDS = {
    "adam": lambda: Autoencoder(3, optimizer="adam", **QUICK),
    "L-BFGS": lambda: Autoencoder(3, optimizer="lbfgs", **QUICK),
    "noise": lambda: VariationalAutoencoder(3, optimizer="adam", **QUICK),
    "states": lambda: SparseAutoencoder(12, **QUICK),
    "own": lambda: Autoencoder(3, encoder=seeded(dropout), **QUICK),
    "blows up": lambda: Autoencoder(3, optimizer="adam", learning_rate=1e6, **QUICK),
    "float64": lambda: Autoencoder(3, precision="float64", corruption=GaussianNoise(0.1), optimizer="adam", **QUICK),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_fit_goes_on_to_the_same_bits(name, X, tmp_path, kill):
    whole = KINDS[name]().fit(X)
    n_steps = whole.history_[-1]["step"]
    made = kill(2, 5, 8, 9, 14)
    model = fitted(KINDS[name], lambda model: model.fit(X, checkpoint=Checkpoint(tmp_path / "run", rows=1)), made)
    assert_same(model, whole, X)
    assert made == [1, 2, 2, 0, 4, n_steps - 9]  # no step is made twice


def test_steps_after_the_last_writing_are_made_again(X, tmp_path, kill):
    make = KINDS["adam"]
    whole = make().fit(X)
    made = kill(14)
    model = fitted(make, lambda model: model.fit(X, checkpoint=Checkpoint(tmp_path / "run", rows=300)), made)
    assert_same(model, whole, X)
    n_steps, last = whole.history_[-1]["step"], 12  # of 54 rows each
    assert made == [13, n_steps - last]


def test_a_finished_fit_is_not_trained_again(X, tmp_path, kill):
    make, made = KINDS["adam"], kill()
    first, again = (fitted(make, lambda model: model.fit(X, checkpoint=tmp_path / "run"), made) for _ in range(2))
    assert_same(first, again, X)
    assert made[0] > 0
    assert made[1] == 0


def test_an_iterator_that_is_left_goes_on(X, tmp_path):
    make = KINDS["adam"]
    whole, given = make().fit(X), Checkpoint(tmp_path / "run", minutes=60)
    n_rows = []
    for n_epochs in (1, 2, 9):
        model = make()
        rows = itertools.islice(model.iter_fit(X, checkpoint=given), n_epochs)
        n_rows.append([row["epoch"] for row in rows])
        del rows
    assert_same(model, whole, X)
    assert n_rows == [[1], [2, 3], [4]]


def composed(name):
    few = {"autoencoder": Autoencoder(3, optimizer="adam", **QUICK)}
    if name == "stack":
        return StackedAutoencoder(layers=(8, 3), max_epochs=3, batch_size=64, optimizer="adam", random_state=0)
    if name == "labels":
        return AutoencoderClassifier(max_epochs=3, batch_size=64, optimizer="adam", random_state=0, **few)
    return AnomalyDetector(neighbors=False, random_state=0, **few)


@pytest.mark.parametrize("name", ["stack", "labels", "detector"])
def test_models_of_several_are_not_fitted_again(name, digits, tmp_path, kill):
    X, y = digits[:300], np.arange(300) % 3
    made = kill()
    whole = fitted(lambda: composed(name), lambda model: model.fit(X, y), made)
    n_steps = made.pop()
    kill(7, 14, 23)
    given = Checkpoint(tmp_path / "run", rows=1)
    model = fitted(lambda: composed(name), lambda model: model.fit(X, y, checkpoint=given), made)
    answer = "score_samples" if name == "detector" else "transform" if name == "stack" else "predict_proba"
    np.testing.assert_array_equal(getattr(model, answer)(X), getattr(whole, answer)(X))
    assert made[:2] == [6, 6]
    assert sum(made) == n_steps


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_stream_goes_on_after_each_block_was_saved(optimizer, X, tmp_path):
    """From the first block on, with weights and with gaps."""
    blocks = [X[:150], X[150:220], X[220:]]
    blocks[2] = np.where(np.random.default_rng(0).random(blocks[2].shape) < 0.1, np.nan, blocks[2])
    model = Autoencoder(3, optimizer=optimizer, corruption=GaussianNoise(0.1), hidden=(8,), random_state=0)
    again = clone(model)
    for block in blocks:
        weights = np.linspace(1, 2, len(block))
        model.partial_fit(block, sample_weight=weights)
        again.partial_fit(block, sample_weight=weights).save(tmp_path / "stream.safetensors")
        again = load(tmp_path / "stream.safetensors")
    for first, second in zip(answers(model, X), answers(again, X), strict=True):
        np.testing.assert_array_equal(first, second)
    assert untimed(model) == untimed(again)


def with_other_indices(saved):
    """What an earlier version has saved of a run: other numbers of columns that are evaluated as one, or none."""
    if not isinstance(saved, dict):
        return saved
    found = {name: with_other_indices(value) for name, value in saved.items()}
    if "buffers" in saved:
        kept = {name: value for name, value in saved["buffers"].items() if ".bundles." not in name}
        found["buffers"] = kept | {"likelihood.bundles._made.9.padded": torch.zeros(5)}
    return found


@pytest.mark.versions
def test_tensors_of_a_network_with_parts_of_the_same_name_are_those_of_the_file():
    """Only what follows from the columns is not read."""
    name, derived = "encoder.network.bundles.0.mean", "likelihood.bundles._in_order.numbers"
    saved, own = ({name: torch.tensor([value]), derived: torch.tensor([value])} for value in (1.0, 2.0))
    assert {name: value.item() for name, value in filled(saved, own).items()} == {name: 1.0, derived: 2.0}


def test_streams_and_checkpoints_of_mixed_columns_of_earlier_versions_go_on(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"count{i}": rng.negative_binomial(1, 0.2, 200) for i in range(2)})
    frame = frame.assign(a=rng.choice(list("xyz"), 200), number=rng.normal(size=200), b=rng.choice(list("uv"), 200))
    options = {"hidden": (8,), "max_epochs": 4, "random_state": 0}
    stream = Autoencoder(2, **options).partial_fit(frame)
    assert any(".bundles." in name for name in stream.stream_state_["buffers"])
    stream.stream_state_ = with_other_indices(stream.stream_state_)
    stream.save(tmp_path / "stream.safetensors")
    again = load(tmp_path / "stream.safetensors").partial_fit(frame)
    expected = Autoencoder(2, **options).partial_fit(frame).partial_fit(frame)
    np.testing.assert_array_equal(again.transform(frame), expected.transform(frame))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "saved_run", lambda *run: with_other_indices(saved_run(*run)))
        for row in Autoencoder(2, **options).iter_fit(frame, checkpoint=tmp_path / "fit"):
            if row["epoch"] == 2:
                break
    model = Autoencoder(2, **options).fit(frame, checkpoint=tmp_path / "fit")
    expected = Autoencoder(2, **options).fit(frame)
    np.testing.assert_array_equal(model.transform(frame), expected.transform(frame))
