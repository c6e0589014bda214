"""Graphs of many columns: no longer than those of few, with the same answers."""

import numpy as np
import pandas as pd
import pytest
import torch

from eigencode import Autoencoder
from eigencode.data.tables import Schema
from eigencode.export import graph_of
from eigencode.export.columns import TableColumns
from eigencode.export.files import _program
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


class Repeating(torch.nn.Module):
    """Computes a sum twice, and changes one of the two where it is asked to."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """2 x + 1, and the same or 0."""
        constant = torch.tensor([1.0])
        one, other = x.to(torch.float32) * 2 + constant, x * 2 + constant
        return one.to(torch.float64), other.zero_() if self.in_place else other


@pytest.mark.parametrize("in_place", [False, True])
def test_simpler_programs_have_the_same_answers(in_place):
    x = torch.arange(3.0)
    program = torch.export.export(Repeating(in_place), (x,))
    before, expected = len(program.graph.nodes), Repeating(in_place)(x)
    simplify_program(program)
    found = program.module()(x)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=0)
    assert len(program.graph.nodes) == before if in_place else len(program.graph.nodes) < before - 3
