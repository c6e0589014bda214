"""Warnings name the line of the user's program, whichever function of the package they come from."""

import copy
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import eigencode
from eigencode import AnomalyDetector, Autoencoder, LinearAutoencoder
from eigencode.parts import Contractive

pytestmark = pytest.mark.versions

ROWS = np.random.default_rng(0).normal(size=(60, 3))
FRAME = pd.DataFrame(ROWS, columns=list("abc"))
WEIGHTS = np.where(np.arange(60) % 10, 1.0, 100.0)
WITH_A_GAP = np.where(np.eye(60, 3) * [1, 0, 0] > 0, np.nan, ROWS)


@pytest.fixture(scope="module")
def model():
    return Autoencoder(2, hidden=(), max_epochs=1, random_state=0).fit(ROWS)


@pytest.fixture(scope="module")
def named():
    """A model of columns with names."""
    return Autoencoder(2, hidden=(), max_epochs=1, random_state=0).fit(FRAME)


def odd_fit(model, named, folder):
    """A penalty that has no minimum."""
    Autoencoder(2, hidden=(), max_epochs=1, penalties=[Contractive()], random_state=0).fit(ROWS)


def fit_of_a_file(model, named, folder):
    """A first column without a name."""
    path = folder / "rows.csv"
    FRAME.to_csv(path)
    Autoencoder(2, hidden=(), max_epochs=1, random_state=0).fit(path)


def few_rows_held_out(model, named, folder):
    """A rate of false alarms that so few rows cannot promise."""
    AnomalyDetector(autoencoder=LinearAutoencoder(2), random_state=0).fit(ROWS, density_ratio=WEIGHTS)


ODD = {
    "fit": odd_fit,
    "fit of a file": fit_of_a_file,
    "detector": few_rows_held_out,
    "transform": lambda model, named, folder: model.transform(WITH_A_GAP),
    "fit_predict": lambda model, named, folder: AnomalyDetector(
        autoencoder=LinearAutoencoder(2), random_state=0
    ).fit_predict(ROWS, density_ratio=WEIGHTS),
    "score": lambda model, named, folder: model.score(WITH_A_GAP),
    "set_output": lambda model, named, folder: (
        copy.deepcopy(model).set_output(transform="pandas").transform(WITH_A_GAP)
    ),
    "names": lambda model, named, folder: named.transform(ROWS),
    "names, scores": lambda model, named, folder: named.score_samples(ROWS),
    "no names": lambda model, named, folder: model.reconstruct(FRAME),
}
"""What is answered with a warning."""


@pytest.mark.parametrize("name", ODD)
def test_the_line_is_the_users(name, model, named, tmp_path):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        ODD[name](model, named, tmp_path)
    assert found
    assert {warning.filename for warning in found} == {__file__}


def test_no_module_counts_the_calls_between():
    """All warn by `eigencode.errors.warn`."""
    files = Path(eigencode.__file__).parent.rglob("*.py")
    assert [path.name for path in files if "stacklevel" in path.read_text("utf-8")] == ["errors.py"]
