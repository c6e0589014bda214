"""The likelihood of mixed columns: the sum of its blocks, each in its own units."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from eigencode import Autoencoder, VariationalAutoencoder, load
from eigencode.batch import Batch
from eigencode.errors import DataError, OptionError
from eigencode.parts import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    ColumnsLikelihood,
    DiagonalGaussian,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    NegativeBinomialLikelihood,
    Sizes,
    Units,
)
from eigencode.testing import check_likelihood

N, D = 30, 8
"""Rows and columns of the blocks below."""


class TwoHeads(Likelihood):
    """A normal with a mean and a variance for each cell, which are two outputs a column."""

    def n_outputs(self, n_features):
        return 2 * n_features

    def forward(self, output):
        mean, spread = output.chunk(2, dim=-1)
        return DiagonalGaussian(mean, spread.exp() + 1e-3)


BLOCKS = [
    (GaussianLikelihood("per_feature"), 2),
    (CategoricalLikelihood(), 3),
    (TwoHeads(), 1),
    (BernoulliLikelihood(), 1),
    (NegativeBinomialLikelihood(), 1),
]
OUTPUTS = [[0, 1], [2, 3, 4], [5, 8], [6], [7]]
"""The outputs of each block: locations in the order of the columns, then what a block has besides."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sizes_of(*columns):
    """Units of each column's own; the last one is scaled by its logarithm."""
    units = Units(torch.linspace(0.4, 0.6, D), torch.linspace(0.3, 0.5, D), torch.arange(D) == D - 1)
    return Sizes(D, 2, units=units).of_columns(slice(*columns))


def made():
    part = ColumnsLikelihood([(clone(likelihood), width) for likelihood, width in BLOCKS])
    part.setup(sizes_of(None))
    return part.double()


def alone(number):
    """The likelihood of a block by itself, and its columns."""
    first = sum(width for _, width in BLOCKS[:number])
    part = clone(BLOCKS[number][0])
    part.setup(sizes_of(first, first + BLOCKS[number][1]))
    return part.double(), slice(first, first + BLOCKS[number][1])


def table(n_rows=300, seed=0):
    """Two numbers that depend on a category of three classes, a share that is 0 or 1, and a count."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(3, n_rows, p=[0.6, 0.3, 0.1])
    numbers = np.array([0.0, 3.0, -2.0])[classes][:, None] + rng.normal(size=(n_rows, 2))
    is_high = (classes == 1) ^ (rng.random(n_rows) < 0.1)
    counts = rng.poisson(np.exp(0.5 * numbers[:, 0]))
    return np.column_stack([1000 * numbers[:, 0], numbers[:, 1], np.eye(3)[classes], is_high, counts])


def mixed():
    return ColumnsLikelihood(
        [
            (GaussianLikelihood(), 2),
            (CategoricalLikelihood(), 3),
            (BernoulliLikelihood(), 1),
            (NegativeBinomialLikelihood(), 1),
        ]
    )


def test_the_density_mean_and_draw_are_those_of_the_blocks():
    part, output = made(), torch.randn(N, D + 1, dtype=torch.float64, generator=generator())
    assert part.n_outputs(D) == D + 1
    p, x = part(output), torch.randn(N, D, dtype=torch.float64, generator=generator(1))
    target, draws, source = part.target(x), p.sample(generator(2)), generator(2)
    for number, columns in enumerate(OUTPUTS):
        own, cells = alone(number)
        q = own(output[:, columns])
        assert torch.equal(target[:, cells], own.target(x[:, cells]))
        assert torch.equal(p.log_prob(target)[:, cells], q.log_prob(own.target(x[:, cells])))
        assert torch.equal(p.mean[:, cells], q.mean)
        assert torch.equal(part.scaled(p.mean)[:, cells], own.scaled(q.mean))
        assert torch.equal(draws[:, cells], q.sample(source))


def test_a_start_asks_each_block():
    part, output = made(), torch.randn(N, D + 1, dtype=torch.float64, generator=generator())
    batch = Batch(part.scaled(part(output).sample(generator(3)).detach()))
    constant, zeros = part.expansion.constant(batch), torch.zeros(D + 1, dtype=torch.float64)
    intercept = part.expansion.intercept(batch, output, zeros)
    for number, columns in enumerate(OUTPUTS):
        own, cells = alone(number)
        rows = Batch(batch.x[:, cells])
        assert torch.equal(constant[columns], own.expansion.constant(rows))
        assert torch.equal(intercept[columns], own.expansion.intercept(rows, output[:, columns], zeros[columns]))


def test_the_blocks_are_said_a_column():
    part = made()
    assert part.block_widths(D) == (1, 1, 3, 1, 1, 1)
    assert [cell.in_data_units for cell in part.cells(D)] == [False] * 2 + [True] * 3 + [False] + [True] * 2
    assert [cell.is_logarithmic for cell in part.cells(D)] == [False] * 7 + [True]


@pytest.mark.parametrize(
    "blocks",
    [
        BLOCKS[:1] + BLOCKS[3:],
        [(LaplaceLikelihood("learned"), 1), (NegativeBinomialLikelihood("learned"), 2)],
        [(TwoHeads(), 2), (BernoulliLikelihood(), 1)],
        BLOCKS,
    ],
    ids=["elementwise", "spreads", "two heads", "classes"],
)
def test_it_keeps_every_promise_of_likelihoods(blocks):
    is_normalised = blocks is not BLOCKS
    check_likelihood(ColumnsLikelihood(blocks), n_features=sum(n for _, n in blocks), normalised=is_normalised)


@pytest.mark.parametrize("kind", [Autoencoder, VariationalAutoencoder])
def test_rows_come_back_in_their_own_units(kind, tmp_path):
    x = table()
    model = kind(2, likelihood=mixed(), max_epochs=20, random_state=0).fit(x)
    rebuilt = model.reconstruct(x)
    assert np.abs(rebuilt[:, 0] - x[:, 0]).mean() < 0.5 * x[:, 0].std(), "a number of its own size"
    np.testing.assert_allclose(rebuilt[:, 2:5].sum(1), 1, rtol=1e-6)
    assert ((rebuilt[:, 2:6] >= 0) & (rebuilt[:, 2:6] <= 1)).all()
    assert (rebuilt[:, 6] > 0).all()
    errors = model.reconstruction_error(x)
    np.testing.assert_allclose(errors, np.square(x - rebuilt).sum(1), rtol=1e-4)
    again = load(model.save(tmp_path / "model.safetensors") or tmp_path / "model.safetensors")
    assert repr(again.composition_.likelihood) == repr(model.composition_.likelihood)
    np.testing.assert_array_equal(again.reconstruct(x), rebuilt)


def test_draws_of_counts_and_classes_are_counts_and_classes():
    model = Autoencoder(2, likelihood=mixed(), max_epochs=5, random_state=0).fit(table())
    draws = model.fit_density(table()).sample(500)
    assert set(np.unique(draws[:, 2:6])) == {0.0, 1.0}
    assert (draws[:, 2:5].sum(1) == 1).all()
    assert (draws[:, 6] == draws[:, 6].round()).all()
    assert draws[:, 0].std() > 500


def test_scores_are_nats_in_the_units_of_the_data():
    """Only the numbers have a density, which changes with the unit; another unit changes the score by its logarithm."""
    x, stretched = table(), table() * np.array([1e-3, 1, 1, 1, 1, 1, 1])
    options = {"likelihood": mixed(), "max_epochs": 2, "random_state": 0}
    found = [Autoencoder(2, **options).fit(rows).score_samples(rows) for rows in (x, stretched)]
    np.testing.assert_allclose(found[1] - found[0], np.log(1e3), rtol=1e-3)


def test_wrong_blocks_and_values_are_named():
    with pytest.raises(OptionError, match=r"as many columns as the rows\. Got 7 columns in 4 blocks for rows of 5"):
        Autoencoder(2, likelihood=mixed()).fit(table()[:, :5])
    with pytest.raises(OptionError, match=r"positive whole numbers\. Got \[2, 0\]"):
        ColumnsLikelihood([(GaussianLikelihood(), 2), (BernoulliLikelihood(), 0)]).setup(Sizes(2, 1))
    x = table()
    x[3, 5] = 2.0
    with pytest.raises(DataError, match="needs numbers from 0 to 1, but not all of column 5 are. Got 2 there"):
        Autoencoder(2, likelihood=mixed()).fit(x)
