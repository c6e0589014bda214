"""The likelihood of mixed columns: the sum of its blocks, each in its own units."""

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.base import clone

from eigencode import Autoencoder, VariationalAutoencoder, fit_many, load
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
    OrdinalLikelihood,
    PoissonLikelihood,
    Sizes,
    StudentTLikelihood,
    Units,
)
from eigencode.parts.likelihoods.columns import ColumnsExpansion
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


def wide_table(seed, n_rows=400):
    """Five numbers and four categories that depend on two factors, one with a class in a hundred rows."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_rows, 2))
    numbers = factors @ rng.normal(size=(2, 5)) + 0.5 * rng.normal(size=(n_rows, 5))
    edges = ([0.0], [-1.0, 1.0], [-0.5, 0.0, 0.5], [-2.3, 0.0])
    scores = factors @ rng.normal(size=(2, 4)) / 1.5 + 0.3 * rng.normal(size=(n_rows, 4))
    classes = [np.digitize(score, edge) for score, edge in zip(scores.T, edges, strict=True)]
    blocks = [(GaussianLikelihood(), 5), *((CategoricalLikelihood(), len(edge) + 1) for edge in edges)]
    cells = [np.eye(len(edge) + 1)[labels] for labels, edge in zip(classes, edges, strict=True)]
    return np.column_stack([numbers * [1, 10, 100, 1, 1], *cells]), blocks


def at_the_start(x, blocks, k=2, **options):
    """The validation objective before training."""
    options = {"scale": "standard", "hidden": (), "max_epochs": 0, "random_state": 0} | options
    return Autoencoder(k, likelihood=ColumnsLikelihood(blocks), **options).fit(x).history_[0]["validation_objective"]


@pytest.mark.parametrize("seed", range(3))
def test_the_start_is_better_than_random_weights_and_than_pca_of_the_cells(seed, monkeypatch):
    x, blocks = wide_table(seed)
    found = at_the_start(x, blocks)
    constant = at_the_start(x, blocks, init="random", k=1)
    assert found < constant - 1, "random weights are about as good as a constant"
    units = ColumnsExpansion.working_units
    monkeypatch.setattr(ColumnsExpansion, "working_units", lambda part, batch: units(part, batch)[1:])
    assert found < at_the_start(x, blocks) + 0.01 * abs(found)


def test_working_units_of_classes_are_those_of_correspondence_analysis():
    """The variances along the principal directions of one block are 1, as of a sphere: no class counts more."""
    rows = torch.from_numpy(np.eye(3)[np.repeat([0, 1, 2], [50, 30, 20])])
    part = CategoricalLikelihood()
    part.setup(Sizes(3, 1))
    inward, outward = part.expansion.working_units(Batch(rows))[0]
    working = (rows - rows.mean(0)) * inward
    variances = torch.linalg.eigvalsh(working.T @ working / 100)
    torch.testing.assert_close(variances, torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64))
    step = (rows - rows.mean(0)) * inward * outward
    torch.testing.assert_close(step, (rows - rows.mean(0)) / rows.mean(0))


def test_blocks_are_compared_by_what_a_unit_costs():
    """A Gaussian with half the variance counts twice in the working columns."""
    rows = Batch(torch.randn(100, 2, dtype=torch.float64, generator=generator()))
    part = ColumnsLikelihood([(GaussianLikelihood(0.5), 1), (GaussianLikelihood(0.25), 1)])
    part.setup(Sizes(2, 1))
    ((inward, outward),) = part.expansion.working_units(rows)
    torch.testing.assert_close(inward, torch.tensor([2.0, 4.0], dtype=torch.float64).sqrt())
    torch.testing.assert_close(inward * outward, torch.ones(2, dtype=torch.float64))


def ordinal(n_classes=4):
    part = OrdinalLikelihood()
    part.setup(Sizes(n_classes, 1))
    return part.double()


def test_ordered_classes_have_the_probabilities_of_cumulative_logits():
    part, thresholds = ordinal(), np.array([-1.5, 0.0, 4.0])
    part.set_thresholds(torch.from_numpy(thresholds))
    scores = np.array([-30.0, -2.0, 0.3, 5.0])
    output = torch.from_numpy(scores)[:, None] * torch.tensor([-0.5, 0.0, 0.25, 0.25])
    edges = np.concatenate([[-np.inf], thresholds, [np.inf]])
    # From the nearer end, since near 1 a distribution function has few digits.
    below, above = (scipy.stats.logistic.cdf(sign * (edges - scores[:, None])) for sign in (1, -1))
    expected = np.where(edges[1:] < scores[:, None], np.diff(below), -np.diff(above))
    np.testing.assert_allclose(part(output).mean.detach(), expected, rtol=1e-6)
    np.testing.assert_allclose(part(output).log_prob(torch.ones(4)).detach(), np.log(expected), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("n_features", [2, 3, 6])
def test_ordered_classes_keep_every_promise_of_likelihoods(n_features):
    check_likelihood(OrdinalLikelihood(), n_features=n_features, normalised=False)


def test_thresholds_give_the_classes_their_shares_whatever_the_scores():
    part, source = ordinal(), np.random.default_rng(0)
    labels = source.choice(4, 500, p=[0.1, 0.5, 0.399, 0.001])
    rows = Batch(torch.eye(4, dtype=torch.float64)[labels])
    output = torch.from_numpy(3 * source.normal(size=(500, 4)))
    part.expansion.calibrate(rows, output)
    torch.testing.assert_close(part(output).mean.mean(0).detach(), rows.x.mean(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("likelihood", "cells", "expected"),
    [
        (GaussianLikelihood(), [[1.0], [-1.0]], 1.0),
        (GaussianLikelihood(0.25), [[1.0], [-1.0]], 2.0),
        (CategoricalLikelihood(), np.eye(2)[[0, 0, 0, 1]], -0.75 * np.log(0.75) - 0.25 * np.log(0.25)),
        (OrdinalLikelihood(), np.eye(2)[[0, 0, 0, 1]], -0.75 * np.log(0.75) - 0.25 * np.log(0.25)),
        (BernoulliLikelihood(), [[0.0], [0.0], [0.0], [1.0]], -0.75 * np.log(0.75) - 0.25 * np.log(0.25)),
        (PoissonLikelihood(), [[0.0], [4.0]], 2 * np.log(2.0)),
        (NegativeBinomialLikelihood(), [[0.0], [4.0]], 2 * np.log(2.0) / (1 + 0.5 * 2)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Likelihood) else "",
)
def test_what_a_column_can_gain_is_known_in_nats(likelihood, cells, expected):
    """A squared error: half the variance over v; classes: the entropy; counts: half the deviance."""
    part, cells = clone(likelihood), torch.tensor(np.asarray(cells))
    part.setup(Sizes(cells.shape[1], 1))
    found = part.expansion.explainable(Batch(cells))
    torch.testing.assert_close(found, torch.full_like(found, expected))


def test_balanced_columns_can_gain_one_each_and_scores_stay_nats():
    x, blocks = wide_table(0)
    fitted = {
        weights: Autoencoder(2, likelihood=ColumnsLikelihood(blocks), column_weights=weights, max_epochs=0).fit(x)
        for weights in ("balanced", "nats")
    }
    part = fitted["balanced"].composition_.likelihood
    assert fitted["nats"].composition_.likelihood.column_weights is None
    cells = Batch(torch.from_numpy(fitted["balanced"].scaler_.transform(x)))
    gains = torch.cat(
        [
            own.expansion.explainable(rows)
            for own, rows in zip(part.likelihoods, part.expansion._split(cells), strict=True)
        ]
    )
    torch.testing.assert_close(gains * part.column_weights, torch.ones_like(gains), rtol=0.02, atol=0.02)
    for model in fitted.values():
        trace = model.composition_(cells.map(torch.Tensor.float))
        nats = trace.p.log_prob(trace.target).sum(-1).detach().numpy() + model._log_derivatives.sum()
        np.testing.assert_allclose(model.score_samples(x), nats, rtol=1e-3, atol=1e-3)


def test_weights_of_blocks_may_be_given_and_bounds_are_nats():
    x, blocks = wide_table(0)
    given = ColumnsLikelihood(blocks, weights=[1, 2, 3, 4, 5])
    found = Autoencoder(2, likelihood=given, max_epochs=0).fit(x).composition_.likelihood.column_weights
    assert found.tolist() == [1.0] * 5 + [2.0] * 2 + [3.0] * 3 + [4.0] * 4 + [5.0] * 3
    variational = VariationalAutoencoder(2, likelihood=ColumnsLikelihood(blocks), max_epochs=0).fit(x)
    assert variational.composition_.likelihood.column_weights is None
    with pytest.raises(OptionError, match=r"one positive number for each block\. Got \[1, 0\] for 5 blocks"):
        Autoencoder(2, likelihood=ColumnsLikelihood(blocks, weights=[1, 0])).fit(x)


def test_a_category_of_few_nats_is_not_ignored():
    """One class in 14 is told by a number that nothing else depends on; by its weight it gets the only component."""
    rng = np.random.default_rng(0)
    rare = rng.random(600) < 0.07
    common = rng.choice(3, 600)
    x = np.column_stack([np.eye(3)[common], np.eye(2)[rare.astype(int)], rng.normal(size=600)])
    blocks = [(CategoricalLikelihood(), 3), (CategoricalLikelihood(), 2), (GaussianLikelihood(), 1)]
    errors = {}
    for weights in ("balanced", "nats"):
        options = {"column_weights": weights, "scale": "standard", "max_epochs": 0, "hidden": ()}
        model = Autoencoder(3, likelihood=ColumnsLikelihood(blocks), **options).fit(x)
        errors[weights] = (model.reconstruct(x)[:, 3:5].argmax(1) != rare).mean()
    assert errors["balanced"] < 0.01 < errors["nats"]


def test_many_models_of_mixed_columns_are_one_program():
    x, blocks = wide_table(0)
    ordered = [*blocks[:3], (OrdinalLikelihood(), 4), *blocks[4:]]
    options = {"likelihood": ColumnsLikelihood(ordered), "max_epochs": 2, "optimizer": "adam"}
    company, alone = ([Autoencoder(2, random_state=seed, **options) for seed in range(2)] for _ in range(2))
    assert fit_many(company, x) == ["2 models in one program"]
    for model, own in zip(company, alone, strict=True):
        np.testing.assert_allclose(model.reconstruct(x), own.fit(x).reconstruct(x), rtol=1e-3, atol=1e-3)


def test_the_start_does_not_depend_on_the_order_or_the_units_of_columns():
    x, blocks = wide_table(1)
    edges = np.cumsum([0, *(width for _, width in blocks)])
    order = [3, 0, 4, 2, 1]
    moved = np.concatenate([x[:, edges[i] : edges[i + 1]] for i in order], axis=1)
    stretched = x * np.where(np.arange(x.shape[1]) < 5, 1e3, 1.0)
    expected = at_the_start(x, blocks)
    assert at_the_start(moved, [blocks[i] for i in order]) == pytest.approx(expected, rel=1e-6)
    assert at_the_start(stretched, blocks) == pytest.approx(expected, rel=1e-6)


def test_blocks_with_learned_spreads_are_evaluated_as_each_by_itself():
    """The same densities, means and gradients, those of the spreads too, in the order of the columns."""
    kinds = [NegativeBinomialLikelihood, lambda: GaussianLikelihood("per_feature"), StudentTLikelihood]
    kinds += [lambda: LaplaceLikelihood("per_feature"), lambda: StudentTLikelihood(3.0, "per_feature")]
    blocks = [(kind(), width) for width in (2, 1, 3) for kind in kinds]
    joined, n_columns = ColumnsLikelihood(blocks), 6 * len(kinds)
    joined.setup(Sizes(n_columns, 1))
    joined.double()
    assert len(joined.bundles.likelihoods) == 4 + 3  # one spread for the columns of a block, "learned", is its own
    assert len(list(joined.parameters())) == len(blocks)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for spread in joined.parameters():
            spread.copy_(torch.randn(spread.shape, generator=generator))
    output = torch.randn(50, n_columns, generator=generator, dtype=torch.float64, requires_grad=True)
    x, found = torch.poisson(torch.full((50, n_columns), 3.0), generator=generator).double(), joined(output)
    widths = [width for _, width in blocks]
    parts = [part(own) for (part, _), own in zip(blocks, output.split(widths, dim=-1), strict=True)]
    log_prob = torch.cat([part.log_prob(own) for part, own in zip(parts, x.split(widths, dim=-1), strict=True)], dim=-1)
    torch.testing.assert_close(found.log_prob(x), log_prob, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.mean, torch.cat([part.mean for part in parts], dim=-1), rtol=1e-12, atol=1e-12)
    wanted = [output, *joined.parameters()]
    gradients = [torch.autograd.grad(cells.sum(), wanted, retain_graph=True) for cells in (found.log_prob(x), log_prob)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-11)
    assert found.sample(generator).shape == x.shape


def test_blocks_of_a_kind_are_evaluated_as_each_by_itself():
    """The same densities, means and gradients, in the order of the columns."""
    blocks = [(BernoulliLikelihood(), 1), (CategoricalLikelihood(), 3), (GaussianLikelihood(), 2)]
    blocks += [(CategoricalLikelihood(), 2), (BernoulliLikelihood(), 1), (GaussianLikelihood(), 1)]
    joined = ColumnsLikelihood(blocks)
    joined.setup(Sizes(10, 1))
    assert len(joined.bundles.likelihoods) == 3
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(50, 10, generator=generator, dtype=torch.float64, requires_grad=True)
    x, found = torch.rand(50, 10, generator=generator, dtype=torch.float64), joined(output)
    widths = [width for _, width in blocks]
    parts = [part(own) for (part, _), own in zip(blocks, output.split(widths, dim=-1), strict=True)]
    log_prob = torch.cat([part.log_prob(own) for part, own in zip(parts, x.split(widths, dim=-1), strict=True)], dim=-1)
    torch.testing.assert_close(found.log_prob(x), log_prob, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.mean, torch.cat([part.mean for part in parts], dim=-1), rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(cells.sum(), output, retain_graph=True)[0] for cells in (found.log_prob(x), log_prob)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    draws = found.sample(generator)
    assert (draws[:, 1:4].sum(1) == 1).all()
    assert (draws[:, 6:8].sum(1) == 1).all()
