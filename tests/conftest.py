"""Data and models that several tests share."""

import os
import random
import signal
import time
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import rich.style  # noqa: F401  (draws from the global generator when it is first imported, by some versions of cyclopts)
import torch
from sklearn.datasets import load_breast_cancer, load_digits

from eigencode import Autoencoder, estimators
from eigencode.batch import Batch
from eigencode.checkpoint import SIGNALS
from eigencode.data.rows import ResidentRows
from eigencode.fitting import splits
from eigencode.fitting.data import Data
from eigencode.fitting.model import describe
from eigencode.fitting.run import make_run
from eigencode.fitting.start import find_start
from eigencode.options import AutoencoderOptions
from eigencode.parts import Units
from eigencode.training.cpu_graphs import Operators
from eigencode.training.evaluation import EVALUATION_ROWS, evaluate
from eigencode.training.run import TrainingRun

# Tests use no GPU, so that they have the bits of a processor everywhere; benchmarks/gpu_kinds.py checks GPUs. With
# CUDA_VISIBLE_DEVICES=0 they do use one.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

AUTOENCODERS = [getattr(estimators, name) for name in dir(estimators) if name.endswith("Autoencoder")]
"""The named autoencoders, as classes."""


def prepared(
    options: AutoencoderOptions, rows: torch.Tensor, seed: int = 0, weights: np.ndarray | None = None
) -> TrainingRun:
    """A run on scaled rows that is ready to begin."""
    n_validation = splits.validation_size(*rows.shape, options.validation_fraction)
    validation = splits.at_random(len(rows), n_validation, seed)
    training = torch.from_numpy(np.delete(np.arange(len(rows)), validation.numpy()))
    weight = None if weights is None else torch.from_numpy(weights).to(rows.dtype)
    units = Units(torch.zeros(rows.shape[1]), torch.ones(rows.shape[1]))
    return run_on(options, Data(ResidentRows(Batch(rows, weight=weight), training, validation), units), seed)


def run_on(options: AutoencoderOptions, data: Data, seed: int = 0) -> TrainingRun:
    """A run on given data that is ready to begin."""
    model = describe(options, data, seed)
    start = find_start(options, model, data, seed)
    return make_run(options, data, model, start, seed, time.monotonic())


def untimed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Rows of history without the seconds, which no two runs have alike."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def evaluated(run: TrainingRun, seed: int = 0) -> float:
    """The objective of the rows for validation with a run's present weights."""
    return evaluate(run.state.composition, run.objective, run.rows.validation(EVALUATION_ROWS), seed)


class Seen(Operators):
    """The operators that are run, each with its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable, tuple]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls.append((function, args))
        return function(*args, **(kwargs or {}))


def pytest_collection_modifyitems(items):
    """What is long is slow, too."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def cancer() -> np.ndarray:
    """Breast cancer: 569 rows of 30 columns in different units."""
    return load_breast_cancer().data


@pytest.fixture(scope="session")
def digits() -> np.ndarray:
    """Digits: 1797 images of 8 x 8 pixels from 0 to 16."""
    return load_digits().data


@pytest.fixture(scope="session")
def fitted(cancer) -> Autoencoder:
    """A small model that has really been trained; tests must not change it."""
    return Autoencoder(n_components=4, hidden=(16,), max_epochs=20, random_state=0).fit(cancer)


@pytest.fixture
def ticking(monkeypatch) -> Callable[[], float]:
    """A clock that goes on by a millisecond at each look, so that it is all the same how busy the machine is."""
    n_looks = 0

    def look() -> float:
        nonlocal n_looks
        n_looks += 1
        return n_looks / 1000

    monkeypatch.setattr(time, "monotonic", look)
    return look


@pytest.fixture(autouse=True)
def global_generators_stay_untouched(request):
    """No call may read or seed a global generator, so every test leaves all three as it found them.

    Their states before a test are its own, so that what one test seeds cannot hide that another does.
    """
    own = zlib.crc32(request.node.nodeid.encode())
    random.seed(own)
    np.random.seed(own)  # noqa: NPY002 (the legacy state is the one meant)
    torch.random.default_generator.manual_seed(own)
    before = generator_states()
    yield
    if not request.node.get_closest_marker("draws_globally"):
        assert generator_states() == before, "a global generator was read or seeded"


def generator_states():
    """The states of Python's, NumPy's and torch's global generators."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (the legacy state is the one meant)
    return random.getstate(), (name, keys.tobytes(), *rest), torch.get_rng_state().numpy().tobytes()


@pytest.fixture
def usual_handlers(monkeypatch):
    """Handlers of signals as in a program that a user starts; what runs in the background may have Ctrl-C ignored.

    After SIGHUP a program's streams lead nowhere; those of the tests are pytest's, and stay open.
    """
    monkeypatch.setattr("eigencode.cli.entry.discard", lambda stream: None)
    usual = dict.fromkeys(SIGNALS, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
