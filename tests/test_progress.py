"""What long work shows: nothing where it is not asked to, and the same results whether it is or not."""

import io
import sys
import threading
import time

import numpy as np
import pytest
from conftest import untimed

import eigencode
from eigencode import Autoencoder, StackedAutoencoder, fit_many, progress
from eigencode.cli import main
from eigencode.training.progress import Look
from eigencode.training.runner import SingleRunner

pytestmark = pytest.mark.versions

OPTIONS = {"hidden": (16,), "max_epochs": 3, "batch_size": 32, "optimizer": "adam", "random_state": 0}


@pytest.fixture(scope="module")
def X(digits):
    return digits[:600]


class Shown:
    """What was written to standard error so far."""

    def __init__(self, capsys):
        self._capsys, self._text = capsys, ""

    def getvalue(self):
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def shown(monkeypatch, capsys):
    """Standard error as text, with lines drawn often."""
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    return Shown(capsys)


def test_nothing_is_shown_by_default(X, shown):
    before = threading.active_count()
    Autoencoder(2, **OPTIONS).fit(X)
    assert shown.getvalue() == ""
    assert threading.active_count() == before


@pytest.mark.parametrize("fit", [
    lambda X, verbose: Autoencoder(4, **OPTIONS, verbose=verbose).fit(X),
    lambda X, verbose: StackedAutoencoder(4, **OPTIONS, verbose=verbose).fit(X),
])  # fmt: skip
def test_the_same_bits_with_and_without(fit, X, shown):
    silent, loud = fit(X, False), fit(X, True)
    assert "validation " in shown.getvalue()
    assert "epoch 3/3" in shown.getvalue()
    np.testing.assert_array_equal(silent.reconstruct(X), loud.reconstruct(X))
    assert untimed(silent.history_) == untimed(loud.history_)
    assert silent.notes_ == loud.notes_


def test_a_default_for_work_inside(X, shown):
    with progress.shown_by_default(True):
        model = Autoencoder(4, **OPTIONS).fit(X)
    assert "Autoencoder: 100%" in shown.getvalue()
    assert not model.verbose
    Autoencoder(4, **OPTIONS).fit(X)
    assert shown.getvalue().count("Autoencoder: 100%") == shown.getvalue().split("\n")[0].count("Autoencoder: 100%")


def test_it_is_updated_within_an_epoch(X, shown, monkeypatch):
    """Steps are counted while the first epoch runs."""
    step = SingleRunner.step

    def slow(self, batch, active):
        time.sleep(0.02)
        return step(self, batch, active)

    monkeypatch.setattr(SingleRunner, "step", slow)
    Autoencoder(4, **{**OPTIONS, "max_epochs": 1}, verbose=True).fit(X)
    looks = [part for part in shown.getvalue().split("\r") if "epoch 1/1" in part]
    percents = sorted({int(look.partition("%")[0].rpartition(":")[2]) for look in looks})
    assert len(percents) > 5
    assert percents[-1] == 100
    assert any("rows/s" in look for look in looks)


@pytest.mark.parametrize(("columns", "has_rate"), [(80, False), (120, True), (None, True)])
def test_a_narrow_terminal_keeps_room_for_the_bar(X, shown, monkeypatch, columns, has_rate):
    monkeypatch.setattr(progress, "_width", lambda: {"ncols": columns})
    Autoencoder(4, **OPTIONS, verbose=True).fit(X)
    assert "validation " in shown.getvalue()
    assert ("rows/s" in shown.getvalue()) == has_rate


def test_many_models_have_one_line(X, shown):
    models = [Autoencoder(4, **{**OPTIONS, "learning_rate": rate}) for rate in (1e-3, 3e-3)]
    fit_many(models, X, verbose=True)
    assert "models: 100%" in shown.getvalue()
    assert "2 of 2 models done" in shown.getvalue()


def test_a_closed_terminal_does_not_stop_the_fit(X, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    monkeypatch.setattr(sys, "stderr", Gone())
    model = Autoencoder(4, **OPTIONS, verbose=True).fit(X)
    assert len(model.history_) == 4


def test_an_inner_line_hides_the_outer(shown):
    with progress.shown_by_default(True), progress.stage("outer"):
        time.sleep(0.05)
        with progress.stage("inner"):
            seen = len(shown.getvalue())
            time.sleep(0.05)
        inside = shown.getvalue()[seen:]
        time.sleep(0.05)
        after = shown.getvalue()[seen + len(inside) :]
    assert "inner" in inside
    assert "outer" not in inside
    assert "outer" in after


class Bar:
    """A bar as a look sees it."""

    n = total = 0
    format_dict: dict = {"elapsed": 0.0}  # noqa: RUF012 (set by the test)

    def set_postfix_str(self, text, refresh):
        self.postfix = text


def test_the_time_left_is_shown_from_the_first_steps(X, shown):
    run = Autoencoder(4, **{**OPTIONS, "max_epochs": 200})._begin(X)
    state = run.state
    bar, look = Bar(), Look([run])
    for elapsed, step in [(0.0, 0), (2.0, 1), (3.5, 4), (4.0, 5)]:
        bar.format_dict, state.step, state.epoch = {"elapsed": elapsed}, step, 1
        look(bar)
    steps = 200 * run.n_batches
    # Two steps a second since the first one.
    plan = f"at most 200 epochs of {run.n_batches} steps; training ends earlier if progress stops"
    assert shown.getvalue() == f"about {round((steps - 4) / 2 / 60)} min: {plan}\n"
    assert (bar.n, bar.total) == (5, steps)
    left = round((steps - 5) / 2)
    assert f"{left // 60:02}:{left % 60:02} left" in bar.postfix
    state.interrupted = True
    look(bar)
    assert bar.postfix.endswith("interrupted: evaluating what was learned")


@pytest.mark.parametrize(("fraction", "name"), [(0, "training"), (0.2, "validation")])
def test_the_objective_is_named_by_its_rows(X, fraction, name):
    bar = Bar()
    Look([Autoencoder(4, **OPTIONS | {"validation_fraction": fraction})._begin(X)])(bar)
    assert f", {name} " in bar.postfix


def test_the_time_left_regards_the_time_limit(X, shown):
    run = Autoencoder(4, **{**OPTIONS, "max_epochs": 10**6}, max_seconds=60)._begin(X)
    bar, look = Bar(), Look([run])
    for elapsed, step in [(0.0, 0), (2.0, 1), (4.0, 5)]:
        bar.format_dict, run.state.step = {"elapsed": elapsed}, step
        look(bar)
    assert 5 + 2 * 50 < bar.total <= 5 + 2 * 60
    assert "as far as the time limit allows" in shown.getvalue()


@pytest.mark.parametrize(
    ("is_terminal", "flag", "is_shown"), [(True, "", True), (True, "-q", False), (False, "", False)]
)
def test_a_command_shows_progress_in_a_terminal(is_terminal, flag, is_shown, X, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", X)
    monkeypatch.setattr("eigencode.cli.entry._is_terminal", lambda stream: is_terminal)
    fit = ["fit", "rows.npy", "--output", "m.safetensors", "--hidden", "16", "--max-epochs", "3", "--random-state", "0"]
    assert main([*fit, *flag.split()]) == 0
    found = shown.getvalue()
    assert ("Autoencoder: 100%" in found) == is_shown
    assert is_shown or found == ""
    assert not eigencode.load("m.safetensors").verbose
