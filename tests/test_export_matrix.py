"""Export: each kind with each likelihood that it takes, of arrays and of tables, as a graph, a program and as ONNX."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from test_export import COUNTS, GAPS, QUICK, ROWS, SHARES, answered, answers, asked, require_same_alarms, table

from eigencode import (
    AnomalyDetector,
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.export import graph_of

QUICKER = {"max_epochs": 2, "random_state": 0}
KINDS = {
    "plain": lambda **options: Autoencoder(2, **QUICK | options),
    "tied": lambda **options: Autoencoder(2, tied=True, **QUICK | options),
    "ordered": lambda **options: Autoencoder(2, ordered=True, **QUICK | options),
    "linear": lambda **options: LinearAutoencoder(2, **options),
    "variational": lambda **options: VariationalAutoencoder(2, **QUICK | options),
    "sparse": lambda **options: SparseAutoencoder(8, **QUICKER | options),
    "contractive": lambda **options: ContractiveAutoencoder(2, **QUICK | options),
    "denoising": lambda **options: DenoisingAutoencoder(2, **QUICK | options),
    "stacked": lambda **options: StackedAutoencoder(2, **QUICKER | options),
}
ROWS_OF = {
    "gaussian": ROWS,
    "laplace": ROWS,
    "student_t": ROWS,
    "bernoulli": SHARES,
    "poisson": COUNTS,
    "negative_binomial": COUNTS,
    "gaps": GAPS,
    "table": table(),
}
FIXED = {"linear", "contractive", "stacked"}
"""Kinds whose likelihood is no option."""

PAIRS = [
    (kind, rows) for kind in KINDS for rows in ROWS_OF if kind not in FIXED or rows in ("gaussian", "gaps", "table")
]
FORMS = ["graph", "program", "onnx"]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:X has gaps")]


def answers_of(form, fitted, X, folder):
    """What the graph answers to rows: by itself, as a file of `torch.export`, or of ONNX."""
    if form == "graph":
        return answered(graph_of(fitted), X)
    if form == "onnx":
        fitted.export(folder / "m.onnx")
        return answers(folder / "m.onnx", X)
    fitted.export(folder / "m.pt2")
    found = torch.export.load(folder / "m.pt2").module()(torch.from_numpy(X))
    return {name: answer.numpy() for name, answer in found.items()}


def require_close(answer, expected, spread):
    """Answers that differ by less than 1e-5 of each column's spread, or of the answer's distance from the median."""
    size = np.maximum(spread, np.abs(expected - np.median(expected, 0))) + 1e-30
    assert answer.shape == expected.shape
    assert (np.abs(answer - expected) / size).max() < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "rows"), PAIRS)
def test_a_graph_answers_as_its_model(kind, rows, form, tmp_path):
    X = ROWS_OF[rows]
    model = KINDS[kind](**{} if kind in FIXED or rows in ("gaps", "table") else {"likelihood": rows}).fit(X)
    if rows == "table":
        columns = graph_of(model).columns
        new = table(1000, seed=1)
        unseen = new.set_column(1, "category", pa.array(["new"] * 1000))
        for given in (new, unseen):
            for name, answer in answers_of(form, model, columns.numbers(given), tmp_path).items():
                expected = getattr(model, name)(given)
                expected = columns.numbers(expected) if isinstance(expected, pa.Table) else expected
                require_close(answer, expected, expected.std(0))
        return
    given = asked(model, X)
    for name, answer in answers_of(form, model, given, tmp_path).items():
        expected = getattr(model, name)(given)
        require_close(answer, expected, np.nanstd(X, 0) if answer.shape == given.shape else expected.std(0))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", ["gaussian", "gaps", "table"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_raises_the_alarms_of_its_detector(kind, rows, form, tmp_path):
    X = ROWS_OF[rows]
    detector = AnomalyDetector(autoencoder=KINDS[kind](), random_state=0)
    if rows == "table":
        numbers = graph_of(detector.fit(X)).columns.numbers(X)
    else:
        numbers = X.astype(np.float64)
        detector.fit(numbers)
    found = answers_of(form, detector, numbers, tmp_path)
    require_same_alarms(detector, X, found)
