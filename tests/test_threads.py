"""How threads wait for each other, and work with one thread."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from eigencode.lazy import SPINS
from eigencode.model import code_priors, expectation_maximisation
from eigencode.threads import one_thread

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def answer_of(program, **variables):
    """What a program prints, to standard output and to standard error, with such variables of how threads wait."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | variables
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def test_waiting_threads_sleep_soon():
    _, shown = answer_of("import eigencode, torch", OMP_DISPLAY_ENV="VERBOSE")
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch has another OpenMP here")
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in shown


@pytest.mark.parametrize(
    ("first", "variables", "expected"),
    [
        ("", {}, str(SPINS)),
        ("", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("", {"OMP_WAIT_POLICY": "active"}, "None"),
        ("import sys; sys.modules['torch'] = sys; ", {}, "None"),
    ],
    ids=["by default", "with a number of the user's", "with a policy of the user's", "after torch"],
)
def test_a_choice_of_the_user_stays(first, variables, expected):
    program = f"{first}import os, eigencode; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert answer_of(program, **variables)[0] == expected


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_and_the_caller_s_number_afterwards(two_threads):
    @one_thread()
    def failing():
        raise ValueError(f"within, with {torch.get_num_threads()} thread")

    with pytest.raises(ValueError, match="with 1 thread"):
        failing()
    assert torch.get_num_threads() == 2


def test_k_means_and_the_mixture_of_a_start_have_one_thread(monkeypatch, two_threads):
    seen = {}

    def counted(where, name):
        function = getattr(where, name)

        def wrapper(*given, **named):
            seen.setdefault(name, set()).add(torch.get_num_threads())
            return function(*given, **named)

        monkeypatch.setattr(where, name, wrapper)

    counted(expectation_maximisation.KMeans, "fit")
    counted(code_priors, "rough_mixture")
    generator = np.random.default_rng(0)
    codes = np.where(generator.random((600, 1)) < 0.5, 4.0, -4.0) + generator.normal(size=(600, 2))
    assert code_priors.mixture_prior(codes / 3, np.full(2, 0.1), 4) is not None
    assert seen == {"fit": {1}, "rough_mixture": {1}}
    assert torch.get_num_threads() == 2
