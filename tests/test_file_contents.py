"""What files of models contain: nothing that the page of promises does not name."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors

from eigencode import (
    AnomalyDetector,
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)

pytestmark = pytest.mark.versions

QUICK = {"max_epochs": 1, "random_state": 0}
SHAPES = {"tuple", "list", "items", "array", "tensor", "elements", "float", "fitted_estimator", "fitted", "prefix"}
"""Keys of the format, which are no names of entries."""

NESTED = {"baseline", "autoencoder_", "model_", "layers_", "folds_", "autoencoder"}
"""Entries that are models again, or of folds."""


def rows(n=120):
    z = np.random.default_rng(0).normal(size=(n, 1))
    return z * np.arange(1.0, 5.0) + np.random.default_rng(1).normal(size=(n, 4))


def frame(n=300):
    """Columns of all kinds."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    return pd.DataFrame(
        {
            "real": np.where(rng.random(n) < 0.1, np.nan, z),
            "price": np.round(np.exp(2 * z + 3), 1),
            "count": rng.poisson(3, n),
            "share": rng.random(n),
            "zeros": np.where(rng.random(n) < 0.6, 0, np.exp(z)),
            "flag": z > 0,
            "label": np.where(z > 0, "x", "y"),
            "many": [f"m{number}" for number in rng.integers(0, 150, n)],
            "size": pd.Categorical(rng.choice(["s", "m", "l"], n), ["s", "m", "l", "xl"], ordered=True),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 999, n), unit="D"),
            "took": pd.to_timedelta(rng.integers(0, 999, n), unit="s"),
            "id": np.arange(n),
            "text": [f"a sentence with the number {number} in it" for number in range(n)],
            "one": "k",
        }
    )


def gaps():
    found = rows()
    found[::7, 1] = np.nan
    return found


LABELS = np.where(rows()[:, 0] > 0, "yes", "no")
MODELS = {
    "plain": lambda folder: Autoencoder(2, **QUICK).fit(rows()),
    "images": lambda folder: Autoencoder(2, image_shape="auto", **QUICK).fit(rows().reshape(-1, 2, 2)),
    "gaps": lambda folder: LinearAutoencoder(2).fit(gaps()),
    "table": lambda folder: Autoencoder(2, **QUICK).fit(frame()),
    "checkpoint": lambda folder: Autoencoder(2, **QUICK).fit(rows(), checkpoint=folder / "run"),
    "stream": lambda folder: SparseAutoencoder(6, **QUICK).partial_fit(rows()),
    "variational": lambda folder: VariationalAutoencoder(2, **QUICK).fit(rows()),
    "stacked": lambda folder: StackedAutoencoder(2, **QUICK).fit(rows()),
    "classifier": lambda folder: AutoencoderClassifier(LinearAutoencoder(2)).fit(rows(), LABELS),
    "regressor": lambda folder: AutoencoderRegressor(LinearAutoencoder(2)).fit(rows(), rows()[:, 0]),
    "detector": lambda folder: AnomalyDetector(autoencoder=LinearAutoencoder(2), random_state=0).fit(frame()),
    "folds": lambda folder: AnomalyDetector(0.03, autoencoder=LinearAutoencoder(2), random_state=0).fit(rows()),
}


def named():
    """The fields that the page names of each entry; None where there may be any."""
    page = (Path(__file__).parent.parent / "docs" / "promises.md").read_text()
    table = page[page.index("| entry of the file |") :].split("\n:::")[0].splitlines()[2:]
    found = {}
    for line in table:
        entries, fields, _ = line.strip("| ").split(" | ") if "| |" not in line else [*line.split("|")[1:2], "", ""]
        own = None if fields == "any" else set(re.findall("`(.*?)`", fields))
        found |= dict.fromkeys(re.findall("`(.*?)`", entries), own)
    return found


def paths(value, path=()):
    """The names on the way to each value of a description."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from paths(item, path if key in SHAPES else (*path, key))
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        for item in value:
            yield from paths(item, path)
    else:
        yield path


def entries(path):
    """The entry and the last field of each value and tensor of a model file."""
    with safetensors.safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["eigencode"])["model"]
        tensors = [tuple(name for name in key.split(".") if not name.isdigit()) for key in file.keys()]  # noqa: SIM118
    for found in (*paths(description), *tensors):
        own = [name.rstrip("_") if name.endswith("__") else name for name in found if name != "values"]
        while len(own) > 1 and own[0] in NESTED:
            own = own[1:]
        yield own[0], own[-1] if len(own) > 1 else None


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_has_no_entry_that_the_page_does_not_name(kind, tmp_path):
    MODELS[kind](tmp_path).save(tmp_path / "m.safetensors")
    known, found = named(), set(entries(tmp_path / "m.safetensors"))
    assert len(found) > 20
    unnamed = [
        (entry, field)
        for entry, field in found
        if entry not in known or (known[entry] is not None and field is not None and field not in known[entry])
    ]
    assert unnamed == []
