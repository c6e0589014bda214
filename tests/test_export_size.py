"""Graphs of many columns: no longer than those of few, with the same answers."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from eigencode import Autoencoder
from eigencode.data.tables import Schema
from eigencode.export import graph_of
from eigencode.export.columns import TableColumns
from eigencode.export.files import _onnx_content, _program, quiet
from eigencode.export.simplification import simplify_program

N_ROWS = 300

N_ODD_ROWS = 4000


def _columns(rng: np.random.Generator) -> dict[str, object]:
    """A column of each kind."""
    normal = rng.normal(size=N_ROWS)
    return {
        "real": normal,
        "gaps": np.where(rng.random(N_ROWS) < 0.1, np.nan, normal),
        "share": rng.uniform(size=N_ROWS),
        "count": rng.negative_binomial(1, 0.2, N_ROWS),
        "positive": np.exp(2 * normal),
        "zero": np.where(rng.random(N_ROWS) < 0.7, 0.0, np.exp(normal)),
        "flag": rng.random(N_ROWS) < 0.5,
        "category": rng.choice(list("xyz"), N_ROWS),
        "day": pd.to_datetime(rng.integers(0, 1000, N_ROWS), unit="D"),
    }


def _frame(n_of_each: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    found = [{f"{name}{number}": column for name, column in _columns(rng).items()} for number in range(n_of_each)]
    return pd.DataFrame({name: column for columns in found for name, column in columns.items()})


def _labels(rng: np.random.Generator, n_frequent: int, n_rare: int, share: float) -> np.ndarray:
    """Labels, of which a share of the rows has rare ones."""
    shares = np.array([(1 - share) / n_frequent] * n_frequent + [share / max(n_rare, 1)] * n_rare)
    found = rng.choice(len(shares), N_ODD_ROWS, p=shares)
    found[: len(shares)] = np.arange(len(shares))
    return np.array([f"label {number}" for number in range(len(shares))])[found]


def _odd_frame() -> pd.DataFrame:
    """Columns of each kind that differ in what their cells, their means or their possible values depend on."""
    rng = np.random.default_rng(1)
    normal = rng.normal(size=N_ODD_ROWS)
    some_zeros = np.where(rng.random(N_ODD_ROWS) < 0.1, 0.0, np.exp(2 * normal) + 3)
    return pd.DataFrame(
        {
            "real": normal,
            "not below 0": np.abs(normal),
            "positive": np.exp(2 * normal),
            "positive with zeros": some_zeros,
            "positive with other zeros": 5 * some_zeros,
            "positive and whole": np.round(np.exp(2 * normal)).astype(int) + 1,
            "another positive": np.exp(3 * rng.normal(size=N_ODD_ROWS)) + 0.01,
            "two": _labels(rng, 2, 0, 0.0),
            "three": _labels(rng, 3, 0, 0.0),
            "three others": _labels(rng, 3, 0, 0.0),
            "two and a rare one": _labels(rng, 2, 1, 1e-9),
            "two and rare ones": _labels(rng, 2, 3, 1e-9),
            "many": _labels(rng, 64, 20, 1e-9),
            "many with a code": _labels(rng, 64, 20, 0.25),
            "ordered": pd.Categorical(_labels(rng, 3, 0, 0.0), ordered=True),
            "day": pd.to_datetime(rng.integers(0, 1000, N_ODD_ROWS), unit="D"),
            "minute": pd.to_datetime(rng.integers(0, 100_000, N_ODD_ROWS), unit="m"),
            "time": pd.to_datetime(rng.uniform(0, 1e9, N_ODD_ROWS), unit="s"),
            "flag": rng.random(N_ODD_ROWS) < 0.5,
            "count": rng.negative_binomial(1, 0.2, N_ODD_ROWS),
        }
    )


def test_a_graph_is_as_long_for_many_columns_as_for_few():
    """Two of each kind, and six."""
    lengths = []
    for n_of_each in (2, 6):
        model = Autoencoder(2, hidden=(), max_epochs=1, random_state=0).fit(_frame(n_of_each))
        nodes = _program(graph_of(model)).graph.nodes
        lengths.append(sum(node.op == "call_function" for node in nodes))
    assert lengths[1] <= 1.02 * lengths[0]


@pytest.mark.versions
def test_columns_that_are_computed_as_one_have_the_cells_and_means_of_each_by_itself():
    frame = _odd_frame()
    schema = Schema.infer(frame)
    columns = TableColumns(schema)
    numbers = torch.from_numpy(columns.numbers(frame))
    numbers[::7], numbers[1::7], numbers[2::7] = torch.nan, -1.0, 0.0
    means = (
        torch.rand(N_ODD_ROWS, schema.n_cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4 - 1
    )
    parts = columns.parts
    cells = [np.asarray(column.kind.cells(x.numpy()), float) for (column, _), x in zip(parts, numbers.T, strict=True)]
    allowed = [np.asarray(column.kind.allows(x.numpy())) for (column, _), x in zip(parts, numbers.T, strict=True)]
    own = [np.asarray(column.kind.mean(means[:, part].numpy()), float) for column, part in parts]
    assert len(columns.groups) < len(parts)
    np.testing.assert_allclose(columns.cells(numbers).numpy(), np.concatenate(cells, axis=1), rtol=1e-12)
    np.testing.assert_array_equal(columns.allowed(numbers).numpy(), np.stack(allowed, axis=1))
    rounded = columns.types.rounded(torch.from_numpy(np.stack(own, axis=1)))
    np.testing.assert_allclose(columns.columns(means).numpy(), rounded.numpy(), rtol=1e-12)


class Computing(torch.nn.Module):
    """A function of rows as a module."""

    def __init__(self, function: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Its answers."""
        return self.function(x)


def _sums(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """2 x + 1, computed twice."""
    constant = torch.tensor([1.0])
    one, other = x.to(torch.float32) * 2 + constant, x * 2 + constant
    return one.to(torch.float64), 1 * other


def _changed(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """2 x + 1, and 0."""
    one, other = _sums(x)
    return one, other.zero_()


def _changed_inside(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """2 x and 2 x + 1, which is recorded as a graph of its own."""
    one, other = x * 2, x * 2
    with torch.enable_grad():
        other.add_(1)
    return one, other


def _of_several_types(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Numbers that are equal, of several types, and zeros of both signs."""
    whole = x.long()
    ones = torch.full((3,), 1), torch.full((3,), 1.0), torch.full((3,), True)
    return *(1 * one for one in ones), 1 * (whole + 1), 1 * (whole + 1.0), 1 / (0 * x * -0.0), 1 / (0 * x * 0.0)


def _laid_out(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Rows that are repeated without memory of their own, and a copy that has it."""
    return 1 * x[:, None].expand(3, 4).to(torch.float32, copy=True).view(-1), x


def _random(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Whether two draws are equal."""
    return (torch.rand(3) == torch.rand(3)).any() & (x > 0), 1 * x


@pytest.mark.parametrize(
    ("function", "n_fewer"),
    [
        (_sums, 4),
        (_changed, 0),
        (_changed_inside, 0),
        (_of_several_types, 0),
        (_laid_out, 0),
        pytest.param(_random, 0, marks=pytest.mark.draws_globally),
    ],
)
def test_simpler_programs_have_the_same_answers(function, n_fewer):
    x = torch.arange(3.0)
    with torch.no_grad():  # as for the graphs of models
        program = torch.export.export(Computing(function), (x,))
    before, expected = len(program.graph.nodes), function(x)
    simplify_program(program)
    for own, other in zip(program.module()(x), expected, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0)
    assert before - len(program.graph.nodes) >= n_fewer
    assert program.graph_signature.user_outputs == tuple(node.name for node in program.graph.output_node().args[0])


def test_each_answer_of_a_file_has_the_name_of_its_method():
    """Also where two methods compute the same, and where one gives the tensor of another."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = Autoencoder(2, hidden=(), max_epochs=1, random_state=0).fit(np.random.default_rng(0).normal(size=(50, 4)))
    graph = graph_of(model, ["transform"])
    answers = []
    graph.again = lambda asked: answers.append(graph.transform(asked)) or answers[-1]
    graph.same = lambda asked: answers[-1]
    graph.methods = ("transform", "again", "same")
    with quiet():
        session = onnxruntime.InferenceSession(_onnx_content(graph), providers=["CPUExecutionProvider"])
    assert tuple(answer.name for answer in session.get_outputs()) == graph.methods
    rows = np.nan_to_num(graph.example())
    for found in session.run(None, {graph.input_name: rows}):
        np.testing.assert_allclose(found, model.transform(rows), rtol=1e-5, atol=1e-5)
