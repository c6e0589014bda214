"""Signals while a command runs: what was learned is saved, the exit code is the signal's, and handlers are put back."""

import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import eigencode
from eigencode import Autoencoder, io, training
from eigencode.checkpoint import SIGNALS
from eigencode.cli import fit_commands, main
from eigencode.cli.interruptions import Interruptions
from eigencode.training.runner import SingleRunner

FIT = "fit rows.npy --output model.safetensors --hidden 16 --n-components 4 --max-epochs 3 --batch-size 32"


pytestmark = pytest.mark.usefixtures("usual_handlers")


@pytest.fixture
def folder(tmp_path, monkeypatch, digits):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", digits[:900])
    return tmp_path


@pytest.fixture
def send(monkeypatch):
    """Send signals to this process when a function is called for the nth time, before what it does."""

    def at(owner, name, call, *numbers):
        function, calls = getattr(owner, name), itertools.count(1)

        def sending(*args, **options):
            if next(calls) == call:
                for number in numbers:
                    signal.raise_signal(number)
            return function(*args, **options)

        monkeypatch.setattr(owner, name, sending)

    return at


def run(line):
    """The exit code; handlers are as before afterwards."""
    before = [signal.getsignal(number) for number in SIGNALS]
    with warnings.catch_warnings(action="default"):
        code = main(shlex.split(line))
    assert [signal.getsignal(number) for number in SIGNALS] == before
    return code


@pytest.mark.parametrize("number", SIGNALS)
def test_the_weights_of_an_interrupted_first_epoch_are_saved(number, folder, send, capsys):
    send(SingleRunner, "draw", 20, number)
    assert run(f"{FIT} --optimizer adam --random-state 0") == 128 + number
    out, err = capsys.readouterr()
    assert err == "Warning: Training was interrupted; the best weights so far are kept.\n"
    model = eigencode.load("model.safetensors")
    assert (model.history_[-1]["epoch"], model.best_epoch_) == (1, 1)
    assert model.best_objective_ < model.history_[0]["validation_objective"]
    assert "training was interrupted after" in out
    assert run("describe model.safetensors") == 0
    assert "training was interrupted after" in capsys.readouterr().out


def test_the_exit_code_in_the_last_epoch_is_the_signals(folder, send):
    send(SingleRunner, "evaluate", 4, signal.SIGTERM)  # the start, and the third epoch
    assert run(f"{FIT} --optimizer adam") == 143
    assert eigencode.load("model.safetensors").history_[-1]["epoch"] == 3


@pytest.mark.parametrize("number", SIGNALS)
def test_an_interruption_before_training_writes_nothing(number, folder, send, capsys):
    for owner, name in [(fit_commands, "read_rows"), (training, "begin")]:
        with pytest.MonkeyPatch.context():
            send(owner, name, 1, number)
            assert run(FIT) == 128 + number
        assert capsys.readouterr() == ("", "Interrupted.\n")
        assert sorted(path.name for path in folder.iterdir()) == ["rows.npy"]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_model_that_is_being_written_is_written(number, folder, send):
    send(io, "save", 1, number)
    assert run(FIT) == 128 + number
    assert eigencode.load("model.safetensors").history_[-1]["epoch"] == 3


def test_only_a_second_ctrl_c_ends_the_evaluation(folder, send):
    """A terminal that closes sends several signals; whoever types Ctrl-C again does not want to wait."""
    several = [number for number in SIGNALS if number != signal.SIGINT] * 2
    send(SingleRunner, "draw", 20, several[0])
    send(SingleRunner, "evaluate", 2, *several)
    assert run(f"{FIT} --optimizer adam") == 128 + several[0]
    assert eigencode.load("model.safetensors").history_[-1]["epoch"] == 1


def test_a_second_ctrl_c_ends_at_once(folder, send):
    send(SingleRunner, "draw", 20, signal.SIGINT)
    send(SingleRunner, "evaluate", 2, signal.SIGINT)
    assert run(f"{FIT} --optimizer adam") == 130
    model = eigencode.load("model.safetensors")
    assert len(model.history_) == 1
    assert any(note.startswith("training was interrupted") for note in model.notes_)


def test_a_sweep_saves_the_choice_that_was_being_fitted(folder, send):
    line = FIT.replace("fit", "sweep").replace("--n-components 4", "--over n_components=2,4 --folds 2")
    send(Autoencoder, "_end", 5, signal.SIGTERM)  # four fits of the search, and that of the choice
    assert run(f"{line} --optimizer adam") == 143
    assert any(note.startswith("training was interrupted") for note in eigencode.load("model.safetensors").notes_)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_signals_that_the_parent_ignores_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruptions() as interruptions:
            signal.raise_signal(signal.SIGHUP)
        assert interruptions.exit_code is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the signals are POSIX's")
@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.long)])
def test_an_interrupted_process_saves_its_best_weights(name, tmp_path):
    """In the middle of a first epoch of minutes, from outside, as by a scheduler, or by a terminal that is closed."""
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(400_000, 20)).astype(np.float32))
    line = [sys.executable, "-m", "eigencode", "fit", "rows.npy", "--output", "m.safetensors", "--batch-size", "32"]
    program = subprocess.Popen([*line, "--verbose"], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    seen = b""
    while b"rows/s" not in seen:
        seen += program.stderr.read1(4096)
    time.sleep(1)
    program.send_signal(getattr(signal, name))
    _, err = program.communicate(timeout=300)
    assert program.returncode == 128 + getattr(signal, name)
    assert b"Traceback" not in err
    model = eigencode.load(tmp_path / "m.safetensors")
    assert model.history_[-1]["epoch"] == 1
    assert 0 < model.history_[-1]["step"] < 360_000 / 32


def test_an_interrupted_import_shows_no_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.safetensors").touch()

    def load(*_, **__):
        # As extension modules do, whose loading a signal stops in the middle.
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise AttributeError("partially initialized module") from None

    monkeypatch.setattr("eigencode.io.read", load)
    assert main(["describe", "m.safetensors"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "Interrupted.\n"
