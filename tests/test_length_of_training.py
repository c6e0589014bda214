"""How long training lasts: by rows seen, by a time limit, and when it is first evaluated."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from eigencode import Autoencoder
from eigencode.fitting.step_size import RECIPES
from eigencode.training.loop import begin, train_all
from eigencode.training.runner import SingleRunner


def seen(n_rows, n_weights=5_000):
    return n_rows * RECIPES["adam"].epochs(n_rows, -(-n_rows // 256), n_weights)


def test_rows_seen_grow_more_slowly_than_many_rows():
    assert seen(60_000) == 20 * 60_000
    assert seen(2**18) == 20 * 2**18
    assert 2.3 < seen(2_700_000) / seen(270_000) < 2.6
    assert seen(10**9) == 10**9  # each row once


def test_many_weights_see_many_rows_as_often_as_few():
    assert seen(2_000_000, n_weights=200_000) == 20 * 2_000_000


def test_few_rows_have_enough_steps():
    assert RECIPES["adam"].epochs(1_000, 16, 5_000) == 125


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    return np.tanh(random.normal(size=(900, 3)) @ random.normal(size=(3, 8))).astype(np.float32)


OPTIONS = {"hidden": (8,), "optimizer": "adam", "patience": 10**6, "random_state": 0}


@pytest.fixture
def short(monkeypatch):
    """The automatic number of steps is about 100."""
    monkeypatch.setitem(RECIPES, "adam", replace(RECIPES["adam"], min_steps=100, min_epochs=2))


def test_a_time_limit_is_the_only_limit(rows, short, ticking):
    assert Autoencoder(2, **OPTIONS).fit(rows).history_[-1]["step"] == 104
    model = Autoencoder(2, **OPTIONS, max_seconds=1.0).fit(rows)
    last = model.history_[-1]
    assert last["step"] > 300
    assert "stopped by max_seconds" in model.notes_[0]
    assert last["learning_rate"] < 0.05 * model.history_[1]["learning_rate"]


def test_a_time_limit_that_the_preparation_takes_is_said(rows, short, ticking):
    model = Autoencoder(2, **OPTIONS, max_seconds=1e-4).fit(rows)  # less than a look at the clock
    (note,) = [note for note in model.notes_ if "max_seconds" in note]
    assert note.startswith("the preparation took all of max_seconds, which ended training after")


def slower(monkeypatch, factor, since):
    """A clock that goes on by a millisecond at each look, and from a time on by another step."""
    now = [0.0]

    def look():
        now[0] += 0.001 * (factor if now[0] >= since else 1)
        return now[0]

    monkeypatch.setattr(time, "monotonic", look)


@pytest.mark.parametrize("factor", [0.25, 1, 4])
def test_the_decay_ends_with_the_time_also_if_the_machine_gets_slower_or_faster(rows, short, monkeypatch, factor):
    """The limit is a second, the decay begins after .6 of it, and the pace changes then."""
    slower(monkeypatch, factor, since=0.65)
    model = Autoencoder(2, **OPTIONS, max_seconds=1.0).fit(rows)
    before, last = model.history_[-2:]
    assert time.monotonic() > 0.97
    assert 0 <= last["learning_rate"] < 0.1 * model.history_[1]["learning_rate"]
    assert before["learning_rate"] > last["learning_rate"]


def test_a_plateau_still_ends_a_run_with_a_time_limit(rows, ticking):
    model = Autoencoder(2, **{**OPTIONS, "patience": 1}, max_seconds=1e6).fit(rows)
    assert not any("max_seconds" in note for note in model.notes_)


def test_a_note_says_that_epochs_ended_a_run_before_its_time(rows):
    model = Autoencoder(2, **OPTIONS, max_epochs=8, max_seconds=1e4).fit(rows)
    note = "max_epochs=8 ended the training before max_seconds, and the last evaluation was the best"
    assert any(note in found for found in model.notes_)


def test_long_epochs_are_first_evaluated_after_a_few_steps(rows):
    options = {**OPTIONS, "batch_size": 4, "max_epochs": 2}
    run = Autoencoder(2, **options)._begin(rows)
    begin(run)
    steps = [row["step"] for (row,) in train_all(SingleRunner(run))]
    assert steps == [80, 203, 406]
    assert run.state.n_stale == 2  # the first of three counts neither as progress nor as a lack of it


def test_early_evaluation_changes_no_weights(rows):
    options = {**OPTIONS, "batch_size": 4, "max_epochs": 1}
    vectors = []
    for first_look in (80, 0):
        run = Autoencoder(2, **options)._begin(rows)
        object.__setattr__(run, "first_look", first_look)
        begin(run)
        list(train_all(SingleRunner(run)))
        vectors.append(run.state.parameters.vector.detach().numpy().copy())
    np.testing.assert_array_equal(*vectors)
