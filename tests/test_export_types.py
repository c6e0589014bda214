"""Export: graphs answer in the types of a table's columns, as their models do."""

import decimal
import math
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from test_export import answers

from eigencode import Autoencoder, LinearAutoencoder
from eigencode.errors import DataError
from eigencode.export import files, graph_of
from eigencode.export.columns import TableColumns

TYPES = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "uint8": pa.uint8(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "decimal": pa.decimal128(9, 2),
    "whole decimal": pa.decimal128(9, 0),
    "other": pa.float64(),
}


def table(names, n=200, seed=0):
    """Related columns of these types, no number below 0, those of small integers at the ends of their types."""
    rng = np.random.default_rng(seed)
    z, columns = rng.normal(size=(n, 1)), {}
    for name in names:
        x = 60 * (z[:, 0] + 0.2 * rng.normal(size=n)) + {"int8": 70, "uint8": 200}.get(name, 80)
        kind = TYPES[name]
        if name == "bool":
            cells = pa.array(x > 80)
        elif pa.types.is_integer(kind):
            cells = pa.array(np.round(x).clip(0, {"int8": 127, "uint8": 255}.get(name, 1000))).cast(kind)
        else:
            places = 0 if name == "whole decimal" else 2
            cells = pa.array(np.round(x.clip(0), places)).cast(kind, safe=False)
        columns[name] = cells
    return pa.table(columns)


def require_alike(model, given, found):
    """Rows in the columns' types, but for numbers that rounding moves a step."""
    columns = TableColumns(model.columns_)
    expected = columns.numbers(model.reconstruct(given))
    spread = np.abs(expected - np.median(expected, 0)).max(0)
    differ = np.abs(found - expected) > 1e-4 * spread
    assert differ.mean(0).max() <= 0.02
    return expected


@pytest.mark.versions
@pytest.mark.parametrize("name", list(TYPES)[:-1])
@pytest.mark.parametrize("options", [{"likelihood": "gaussian"}, {}], ids=["plain", "mixed"])
def test_a_graph_answers_in_the_type_of_each_column(name, options):
    rows = table([name, "other"])
    model = Autoencoder(1, max_epochs=0, random_state=0, **options).fit(rows)
    graph = graph_of(model, ["reconstruct", "impute"])
    far = pa.concat_tables([rows, rows])
    X = graph.table.numbers(far)
    X[len(rows) :, 1] = np.linspace(-2000, 2000, len(rows))  # reconstructions beyond the ends of the types
    with torch.no_grad():
        found = graph(torch.from_numpy(X.astype(graph.example().dtype)))["reconstruct"].double().numpy()
    given = far.set_column(1, "other", pa.array(X[:, 1]))
    expected = require_alike(model, given, found)
    kind = TYPES[name]
    limits = (0, 1) if name == "bool" else (0, {"int8": 127, "uint8": 255}.get(name, np.inf))
    assert expected[:, 0].min() >= limits[0]
    assert expected[:, 0].max() <= limits[1]
    assert pa.types.is_floating(kind) or name == "decimal" or (found[:, 0] == np.round(found[:, 0])).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "options"), [("pt2", {"likelihood": "gaussian"}), ("onnx", {})], ids=["plain", "mixed"]
)
def test_a_table_of_all_types_is_exported(form, options, tmp_path):
    rows = table(TYPES)
    model = Autoencoder(2, max_epochs=1, hidden=(8,), random_state=0, **options).fit(rows)
    model.export(tmp_path / f"m.{form}", "reconstruct")
    graph = graph_of(model, "reconstruct")
    X = graph.table.numbers(rows).astype(graph.example().dtype)
    if form == "onnx":
        found = answers(tmp_path / "m.onnx", X)
    else:
        found = torch.export.load(tmp_path / "m.pt2").module()(torch.from_numpy(X))
    require_alike(model, rows, np.asarray(found["reconstruct"], np.float64))


def test_codes_are_decoded_in_the_type_of_each_column(tmp_path):
    rows = table(TYPES)
    model = LinearAutoencoder(2).fit(rows)
    model.export(tmp_path / "d.pt2", "inverse_transform")
    codes = model.transform(rows)
    found = torch.export.load(tmp_path / "d.pt2").module()(torch.from_numpy(codes))["inverse_transform"].numpy()
    expected = TableColumns(model.columns_).numbers(model.inverse_transform(codes))
    assert (np.abs(found - expected) > 1e-4 * expected.std(0)).mean(0).max() <= 0.02


@pytest.mark.filterwarnings("ignore:X ")
def test_a_graph_may_be_a_step_away_in_few_rows_only():
    rows = table(["int64", "other"])
    graph = graph_of(LinearAutoencoder(1).fit(rows), "reconstruct")
    expected = graph.expected("reconstruct", graph.example())

    def answer(n_rows, wrong=1.0):
        found = expected.copy()
        found[:n_rows, 0] += wrong
        return lambda _: {"reconstruct": found}

    files._compare(graph, answer(len(expected) // 25))
    with pytest.raises(DataError, match="does not answer 'reconstruct' as the model does"):
        files._compare(graph, answer(len(expected) // 15))
    for wrong in (np.nan, 7.0):
        with pytest.raises(DataError, match="does not answer 'reconstruct' as the model does"):
            files._compare(graph, answer(1, wrong))


N = 60
STEPS = {
    "int": (np.arange(N) % 9, 1.0),
    "boolean": (np.arange(N) % 3 > 0, 1.0),
    "decimal": ([decimal.Decimal(i) / 100 for i in range(N)], 0.01),
    "float32": (np.linspace(1, 1.9, N, dtype=np.float32), 2.0**-23),
    "date": (pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(N) * 7 % 50, unit="D"), 86_400.0),
    "text": (["a", "b", "c", "d"] * (N // 4), math.inf),
}


@pytest.mark.filterwarnings("ignore:X ")
@pytest.mark.parametrize("name", STEPS)
def test_few_answers_are_a_step_away_and_no_farther(name):
    column, step = STEPS[name]
    frame = pd.DataFrame({"x": np.arange(N) / 7, "odd": column})
    graph = graph_of(Autoencoder(1, max_epochs=0, random_state=0).fit(frame), "reconstruct")
    assert graph.table.types.steps(np.full((1, 2), 1.5)).tolist() == [[0.0, step]]
    expected = graph.expected("reconstruct", graph.example())
    place = [each.name for each, _ in graph.table.parts].index("odd")
    spread = np.abs(expected[:, place] - np.median(expected[:, place])).max()
    for n_steps in (0, 1, 3, 1e6):
        is_allowed, added = n_steps <= 1 or math.isinf(step), n_steps * (1.0 if math.isinf(step) else step)
        if not is_allowed and added < 1e-3 * spread:
            continue  # less than the tolerance of any column
        found = expected.copy()
        found[0, place] += added
        with nullcontext() if is_allowed else pytest.raises(DataError, match="does not answer 'reconstruct'"):
            files._compare(graph, lambda rows, found=found: {"reconstruct": found})
