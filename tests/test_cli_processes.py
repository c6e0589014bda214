"""--processes: commands that start themselves in several processes."""

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from together import rows

import eigencode
from eigencode import Autoencoder

FIT = ["--processes", "2", "--hidden", "8", "--n-components", "2", "--optimizer", "adam", "--random-state", "0"]


def start(folder, *arguments):
    """The program in a folder that has rows."""
    names = ",".join("abcdef")
    np.savetxt(folder / "rows.csv", rows(), delimiter=",", header=names, comments="", fmt="%.17g")
    command = [sys.executable, "-m", "eigencode", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_fit_in_two_processes_writes_one_model(tmp_path):
    fit = start(tmp_path, "fit", "rows.csv", "-o", "model.safetensors", *FIT, "--max-epochs", "3")
    said, errors = fit.communicate(timeout=100)
    assert (fit.returncode, errors) == (0, "")
    assert said.count("The model is in model.safetensors") == 1
    alone = Autoencoder(2, hidden=(8,), optimizer="adam", max_epochs=3, random_state=0).fit(rows())
    found = eigencode.load(tmp_path / "model.safetensors")
    for name, tensor in alone.composition_.state_dict().items():
        torch.testing.assert_close(found.composition_.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


TERMINATING = """
import os, signal
from eigencode.parts import Point
from eigencode.training.runner import SingleRunner

class Own(Point):
    pass

draw = SingleRunner.draw

def terminating(self, batch):
    if os.environ["RANK"] == "1" and self._run.state.step == 20:
        os.kill(os.getppid(), signal.SIGTERM)
    return draw(self, batch)

SingleRunner.draw = terminating
"""


@pytest.mark.slow
def test_a_signal_ends_all_processes_and_the_model_is_saved(tmp_path):
    (tmp_path / "terminating.py").write_text(TERMINATING)
    limits = ["--max-epochs", "1000000", "--patience", "1000000", "--parts", "terminating.py"]
    fit = start(tmp_path, "fit", "rows.csv", "-o", "model.safetensors", *FIT, *limits)
    _, errors = fit.communicate(timeout=100)
    assert fit.returncode == 128 + signal.SIGTERM
    assert errors.count("Training was interrupted") == 1
    assert eigencode.load(tmp_path / "model.safetensors").history_[-1]["epoch"] > 1


@pytest.mark.slow
def test_an_error_is_said_once(tmp_path):
    fit = start(tmp_path, "fit", "rows.csv", "-o", "model.safetensors", *FIT, "--likelihood", "bernoulli")
    said, errors = fit.communicate(timeout=100)
    assert (fit.returncode, said) == (1, "")
    assert errors.count("\n") == 1


def test_standard_input_is_refused(tmp_path):
    fit = start(tmp_path, "fit", "-", "-o", "model.safetensors", *FIT)
    _, errors = fit.communicate(timeout=100)
    assert fit.returncode == 1
    assert errors.startswith("Several processes cannot read standard input.")
