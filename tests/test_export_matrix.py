"""Export: each kind with each likelihood that it takes, of arrays and of tables, as a graph, a program and as ONNX.

Each pair of a kind and of rows is asked as a graph. A file is that graph as another program reads it: `make test` asks
a few, and `make long` each kind and each likelihood in both forms, and not each pair of them.
"""

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
FILES = ["program", "onnx"]


SHORT = [
    ("tied", "bernoulli", "onnx"),
    ("linear", "gaps", "onnx"),
    ("variational", "negative_binomial", "onnx"),
    ("variational", "negative_binomial", "program"),
    ("sparse", "laplace", "onnx"),
    ("stacked", "gaussian", "onnx"),
]
"""Files in `make test`; tables are in those of the types of columns and of a detector."""


def marked(cells):
    """The cells, of which files that are not short are for `make long`."""
    return [
        cell if cell[-1] == "graph" or cell in SHORT else pytest.param(*cell, marks=pytest.mark.long) for cell in cells
    ]


def in_forms(pairs):
    """Each pair as a graph; as each file every fourth pair, so that each kind and each sort of rows is among them."""
    kinds, rows = (list(dict.fromkeys(names)) for names in zip(*pairs, strict=True))
    found = [(*pair, "graph") for pair in pairs]
    for first, form in enumerate(FILES):
        chosen = [pair for pair in pairs if (kinds.index(pair[0]) + rows.index(pair[1])) % 4 == 2 * first]
        for place, names in enumerate((kinds, rows)):
            missing = [name for name in names if all(pair[place] != name for pair in chosen)]
            chosen += [next(pair for pair in pairs if pair[place] == name) for name in missing]
        found += [(*pair, form) for pair in dict.fromkeys(chosen)]
    return marked(dict.fromkeys([*found, *SHORT]))


def of_detectors():
    """Each kind with each sort of rows as a graph; as each file, one kind for each sort of rows.

    What a detector adds to its autoencoder's graph is the same for all kinds.
    """
    rows = ["gaussian", "gaps", "table"]
    graphs = [(kind, name, "graph") for kind in KINDS for name in rows]
    kinds = iter(["plain", "variational", "linear", "sparse", "ordered", "tied"])
    files = [(next(kinds), name, form) for form in FILES for name in rows]
    return marked([*graphs, *files])


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:X has gaps")]


def asking(form, fitted, folder):
    """A function from rows to what the graph answers: by itself, as a file of `torch.export`, or of ONNX."""
    if form == "graph":
        return lambda X: answered(graph_of(fitted), X)
    if form == "onnx":
        fitted.export(folder / "m.onnx")
        return lambda X: answers(folder / "m.onnx", X)
    fitted.export(folder / "m.pt2")
    program = torch.export.load(folder / "m.pt2").module()
    return lambda X: {name: answer.numpy() for name, answer in program(torch.from_numpy(X)).items()}


def require_close(answer, expected, spread):
    """Answers that differ by less than 1e-5 of each column's spread, or of the answer's distance from the median.

    Of columns of whole numbers (counts, days, labels), 2 in 1,000 may be rounded to another one, in float32.
    """
    size = np.maximum(spread, np.abs(expected - np.median(expected, 0))) + 1e-30
    assert answer.shape == expected.shape
    differ = np.abs(answer - expected) / size >= 1e-5
    most = np.where((expected == np.round(expected)).all(0), 0.002, 0.0)
    assert (differ.mean(0) <= most).all()


@pytest.mark.parametrize(("kind", "rows", "form"), in_forms(PAIRS))
def test_a_graph_answers_as_its_model(kind, rows, form, tmp_path):
    X = ROWS_OF[rows]
    model = KINDS[kind](**{} if kind in FIXED or rows in ("gaps", "table") else {"likelihood": rows}).fit(X)
    ask = asking(form, model, tmp_path)
    if rows == "table":
        columns = graph_of(model).columns
        new = table(1000, seed=1)
        unseen = new.set_column(1, "category", pa.array(["new"] * 1000))
        for given in (new, unseen):
            for name, answer in ask(columns.numbers(given)).items():
                expected = getattr(model, name)(given)
                expected = columns.numbers(expected) if isinstance(expected, pa.Table) else expected
                require_close(answer, expected, expected.std(0))
        return
    given = asked(model, X)
    for name, answer in ask(given).items():
        expected = getattr(model, name)(given)
        require_close(answer, expected, np.nanstd(X, 0) if answer.shape == given.shape else expected.std(0))


@pytest.mark.parametrize(("kind", "rows", "form"), of_detectors())
def test_a_graph_raises_the_alarms_of_its_detector(kind, rows, form, tmp_path):
    X = ROWS_OF[rows]
    detector = AnomalyDetector(autoencoder=KINDS[kind](), random_state=0)
    if rows == "table":
        numbers = graph_of(detector.fit(X)).columns.numbers(X)
    else:
        numbers = X.astype(np.float64)
        detector.fit(numbers)
    found = asking(form, detector, tmp_path)(numbers)
    # In float32, a tied model rounds a date to another day than its graph, which changes a score.
    require_same_alarms(detector, X, found, 1e-4 if (kind, rows) == ("tied", "table") else 1e-5)
