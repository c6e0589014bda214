"""A fit with a checkpoint that is killed at any moment, and begun again by the same call, gives the same bits."""

import itertools

import numpy as np
import pytest

from eigencode import Autoencoder, Checkpoint
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


KINDS = {
    "adam": lambda: Autoencoder(3, optimizer="adam", **QUICK),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_killed_fit_goes_on_to_the_same_bits(name, X, tmp_path, kill):
    whole = KINDS[name]().fit(X)
    n_steps = whole.history_[-1]["step"]
    made = kill(2, 5, 8, 9, 14, 20)
    model = fitted(KINDS[name], lambda model: model.fit(X, checkpoint=Checkpoint(tmp_path / "run", rows=1)), made)
    assert_same(model, whole, X)
    assert made == [1, 2, 2, 0, 4, 5, n_steps - 14]  # no step is made twice
