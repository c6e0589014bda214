"""eigencode fit --checkpoint: signals write the state first, and the same command goes on."""

import itertools
import shlex
import signal
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

import eigencode
from eigencode.checkpoint import SIGNALS
from eigencode.cli import main, sweeps
from eigencode.cli.interruptions import heard
from eigencode.io import storage
from eigencode.training import loop
from eigencode.training.runner import SingleRunner

FIT = (
    "fit rows.npy --hidden 8 --n-components 3 --max-epochs 3 --batch-size 64 --optimizer adam --random-state 0 "
    "--checkpoint run --checkpoint-minutes 60"
)
KILLS = Path(__file__).parent.parent / "benchmarks" / "kills.py"


pytestmark = pytest.mark.usefixtures("usual_handlers")


@pytest.fixture
def folder(tmp_path, monkeypatch, digits):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", digits[:300])
    return tmp_path / "run"


@pytest.fixture
def send(monkeypatch):
    """Send a signal to this process within a step; gives the number of steps made since."""
    step, made = SingleRunner.step, []

    def in_step(at, *numbers):
        made.clear()

        def sending(*given):
            made.append(1)
            if len(made) == at:
                for number in numbers:
                    signal.raise_signal(number)
            return step(*given)

        monkeypatch.setattr(SingleRunner, "step", sending)
        return made

    return in_step


def run(line):
    with warnings.catch_warnings(action="default"):
        return main(shlex.split(line))


def states(folder):
    return sorted(int(path.stem) for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize("number", SIGNALS)
def test_after_a_signal_the_same_command_goes_on(number, folder, send, capsys):
    made = send(7, number)
    assert run(f"{FIT} --output model.safetensors") == 128 + number
    assert states(folder) == [0, 7]  # the step was made, and its state written
    assert len(made) == 7
    shown = capsys.readouterr()
    assert "training was interrupted" in shown.out
    assert "The same fit again goes on from its checkpoint." in shown.err
    made = send(0)
    assert run(f"{FIT} --output model.safetensors") == 0
    assert "The fit in 'run' goes on from step 7.\n" in capsys.readouterr().err
    n_steps = eigencode.load("model.safetensors").history_[-1]["step"]
    assert len(made) == n_steps - 7
    if number == signal.SIGTERM:
        assert run(f"{FIT} --output again.safetensors") == 0
        assert "The fit in 'run' is finished: nothing is trained.\n" in capsys.readouterr().err
        assert len(made) == n_steps - 7
        assert run(f"{FIT.partition('--checkpoint')[0]} --output whole.safetensors") == 0
        contents = {Path(f"{name}.safetensors").read_bytes() for name in ("model", "again", "whole")}
        assert len(contents) == 1


@pytest.mark.parametrize(("in_step", "written"), [(7, 7), (None, 5)])
def test_a_logged_fit_goes_on_too(in_step, written, folder, send, monkeypatch, capsys):
    line, log = f"{FIT} --log tensorboard:runs --output", []

    def logged(numbers, step):
        log.append(step)
        if len(log) == 1 and in_step is None:  # between two steps
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("eigencode.tracking.system_of", lambda to: lambda options: nullcontext(logged))
    if in_step is not None:
        send(in_step, signal.SIGTERM)
    assert run(f"{line} model.safetensors") == 143
    assert states(folder) == [0, written]
    shown = capsys.readouterr()
    assert "The same fit again goes on from its checkpoint." in shown.err
    assert "training was interrupted" in shown.out
    send(0)
    assert run(f"{line} model.safetensors") == 0
    assert log == [5, 10, 15]
    assert run(f"{FIT.partition('--checkpoint')[0]} --output whole.safetensors") == 0
    assert Path("model.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()


def test_a_second_ctrl_c_does_not_wait_for_the_step(folder, send):
    made = send(7, signal.SIGINT, signal.SIGINT)
    assert run(f"{FIT} --output model.safetensors") == 130
    assert states(folder) == [0]
    assert len(made) == 7


def test_a_signal_in_an_evaluation_waits_for_it(folder, monkeypatch):
    evaluate, numbers = SingleRunner.evaluate, itertools.count(1)

    def sending(runner):
        if next(numbers) == 2:  # after that of the start
            signal.raise_signal(signal.SIGTERM)
        return evaluate(runner)

    monkeypatch.setattr(SingleRunner, "evaluate", sending)
    assert run(f"{FIT} --output model.safetensors") == 143
    assert states(folder) == [0, 5]
    assert eigencode.load("model.safetensors").history_[-1]["step"] == 5


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
def test_sigusr1_writes_and_goes_on(folder, send, monkeypatch):
    write, steps = storage.write_value, []

    def noting(path, *given):
        steps.append(int(Path(path).stem))
        write(path, *given)

    monkeypatch.setattr(storage, "write_value", noting)
    before = signal.getsignal(signal.SIGUSR1)
    send(7, signal.SIGUSR1)
    assert run(f"{FIT} --output model.safetensors") == 0
    assert steps == [0, 7, 15]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_folder_that_cannot_be_used_is_said_first(folder, capsys):
    folder.write_text("")
    assert run(f"{FIT} --output model.safetensors") == 1
    assert "A folder is wanted. Got the file 'run'" in capsys.readouterr().err
    assert run("fit rows.npy --output model.safetensors --checkpoint-rows 3") == 1
    assert "--checkpoint-minutes and --checkpoint-rows need a folder" in capsys.readouterr().err


def test_other_options_are_named_as_flags(folder, capsys):
    assert run(f"{FIT} --output model.safetensors") == 0
    assert run(f"{FIT.replace('--hidden 8', '--hidden 9')} --output model.safetensors") == 1
    assert "is that of another fit. Got hidden was [8] and is [9]." in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize(("n_kills", "n_epochs"), [(2, 12), pytest.param(6, 40, marks=pytest.mark.long)])
def test_sigkill_at_random_moments_changes_no_bit(n_kills, n_epochs):
    line = [sys.executable, KILLS, "--fork", "--kills", str(n_kills), "--seconds", "1", "--rows", "5000"]
    line += ["--width", "16", "--epochs", str(n_epochs), "--steps", "20"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout.startswith("0 kills")
    assert "same bits: True" in done.stdout


def test_a_sweep_that_was_killed_does_not_fit_finished_candidates_again(folder, monkeypatch, capsys):
    sweep = (
        "sweep rows.npy --over n_components=2,3 --folds 2 --hidden 4 --max-epochs 2 --random-state 0 --quiet "
        "--table scores.csv --output model.safetensors"
    )
    assert run(sweep) == 0
    expected, scores = Path("model.safetensors").read_bytes(), Path("scores.csv").read_text()
    chosen, steps, count = sweeps.best_estimator, [], loop.Active.count

    def counted(*given):
        steps.append(1)
        count(*given)

    def killed(search):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Active, "count", counted)
    monkeypatch.setattr(sweeps, "best_estimator", killed)
    assert run(f"{sweep} --checkpoint run") == 130
    assert "The same command goes on from its checkpoint.\nInterrupted." in capsys.readouterr().err
    n_in_search = len(steps)
    steps.clear()
    monkeypatch.setattr(sweeps, "best_estimator", chosen)
    assert run(f"{sweep} --checkpoint run") == 0
    assert 0 < len(steps) < n_in_search
    steps.clear()
    assert run(f"{sweep} --checkpoint run") == 0
    assert not steps
    assert Path("model.safetensors").read_bytes() == expected
    assert Path("scores.csv").read_text() == scores


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
def test_processes_that_are_started_ignore_sigusr1_until_they_hear_it():
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGUSR1); print('lives')"
    with heard(None):
        ended = subprocess.run([sys.executable, "-c", kill], capture_output=True, text=True)
    assert ended.stdout == "lives\n"
    assert subprocess.run([sys.executable, "-c", kill], capture_output=True).returncode == -signal.SIGUSR1


KILLED_SWEEP = """
import os, signal, sys
from eigencode.cli import main
from eigencode.training import loop

left, count = int(sys.argv[1]), loop.Active.count

def counted(*given):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    count(*given)

loop.Active.count = counted
main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_sweep_that_gets_sigkill_at_a_random_moment_ends_with_the_same_bits(folder, monkeypatch):
    """Two programs and the fit of the choice: what was finished before the kill is not trained again."""
    sweep = (
        "sweep rows.npy --over activation=tanh,gelu --folds 2 --hidden 4 --n-components 3 --max-epochs 3 "
        "--optimizer adam --batch-size 32 --random-state 0 --quiet --table {0}.csv --output {0}.safetensors"
    )

    count, steps = loop.Active.count, []
    monkeypatch.setattr(loop.Active, "count", lambda *given: steps.append(1) or count(*given))
    assert run(sweep.format("whole")) == 0
    n_steps = len(steps)
    moment = np.random.default_rng().integers(n_steps // 3, n_steps)  # the first program is done, or nearly so
    line = sweep.format("killed") + " --checkpoint run"
    command = [sys.executable, "-c", KILLED_SWEEP, str(moment), *shlex.split(line)]
    assert subprocess.run(command, capture_output=True, timeout=280).returncode == -signal.SIGKILL
    steps.clear()
    assert run(line) == 0
    assert 0 < len(steps) < n_steps, f"killed at step {moment} of {n_steps}"
    for ending in ("csv", "safetensors"):
        same = Path(f"killed.{ending}").read_bytes() == Path(f"whole.{ending}").read_bytes()
        assert same, f"another {ending} after a kill at step {moment} of {n_steps}"
