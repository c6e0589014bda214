"""What a start asks of a likelihood is fitted to its density where no closed form is known, and comes to the same."""

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from eigencode import Autoencoder, VariationalAutoencoder
from eigencode.batch import Batch
from eigencode.parts import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    DiagonalGaussian,
    GaussianLikelihood,
    LaplaceLikelihood,
    Likelihood,
    NegativeBinomialLikelihood,
    Poisson,
    PoissonLikelihood,
    Sizes,
    StudentTLikelihood,
    Units,
)
from eigencode.parts.likelihoods import observed
from eigencode.parts.likelihoods.expansion import FittedExpansion
from eigencode.testing import check_likelihood

D, N = 4, 300


def made(part):
    center, divisor = torch.tensor([0.4, 0.0, 0.5, 1.0]), torch.tensor([0.5, 1.0, 2.0, 0.3])
    part.setup(Sizes(D, 2, units=Units(center, divisor)))
    return part.double()


def rows_for(part):
    rng = np.random.default_rng(0)
    if part.support == "real":
        return torch.from_numpy(rng.standard_t(5, size=(N, D)) * [1, 2, 0.5, 1] + [0, 1, 0, -1])
    if part.support == "counts":
        data = rng.poisson([1.0, 3.0, 10.0, 0.5] * rng.gamma(2, 0.5, size=(N, D)))
    else:
        data = (rng.random((N, D)) < [0.1, 0.5, 0.7, 0.3]).astype(float)
    return part.units.scaled(torch.from_numpy(data).double())


KNOWN = [
    GaussianLikelihood(0.7),
    GaussianLikelihood("learned"),
    GaussianLikelihood("per_feature"),
    StudentTLikelihood(4.0, "per_feature"),
    BernoulliLikelihood(),
    PoissonLikelihood(),
    NegativeBinomialLikelihood(),
]


@pytest.mark.parametrize("part", KNOWN, ids=repr)
def test_what_is_fitted_is_the_closed_form(part):
    batch = Batch(rows_for(made(part)))
    fitted, known = FittedExpansion(part), part.expansion
    close = {"rtol": 2e-3, "atol": 2e-3}
    constant = known.constant(batch)
    torch.testing.assert_close(fitted.constant(batch), constant, **close)
    output = constant + 0.2 * torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    bias = torch.zeros(D, dtype=torch.float64)
    if isinstance(part, BernoulliLikelihood | PoissonLikelihood):
        expected = known.intercept(batch, output, bias)
        torch.testing.assert_close(fitted.intercept(batch, output, bias), expected, **close)
        inward, outward = fitted.working_units(batch)[0]
        mean = part.target(batch.x).mean(0)
        curvature = mean * (1 - mean) if isinstance(part, BernoulliLikelihood) else mean
        torch.testing.assert_close(outward, curvature.rsqrt(), rtol=1e-2, atol=0)
        torch.testing.assert_close(inward, part.divisor * curvature.rsqrt(), rtol=1e-2, atol=0)
    known.calibrate(batch, output)
    expected = [value.detach().clone() for value in part.parameters()]
    for value in part.parameters():
        value.data.zero_()
    fitted.calibrate(batch, output)
    for value, best in zip(part.parameters(), expected, strict=True):
        torch.testing.assert_close(value.detach(), best, rtol=5e-3, atol=5e-3)


class TwoHeads(Likelihood):
    """A normal with a mean and a variance for each cell."""

    def n_outputs(self, n_features):
        return 2 * n_features

    def forward(self, output):
        mean, spread = output.chunk(2, dim=-1)
        return DiagonalGaussian(mean, softplus(spread) + 1e-6)


class TwoHeadsInDataUnits(TwoHeads):
    in_data_units = True


class Tripled(PoissonLikelihood):
    def forward(self, output):
        return Poisson(3 * output)


class OwnScale(Likelihood):
    """A normal in the data's units, with a variance of the likelihood's own."""

    in_data_units = True

    def setup(self, sizes):
        super().setup(sizes)
        self.log_variance = torch.nn.Parameter(torch.zeros(()))

    def forward(self, output):
        return DiagonalGaussian(output, self.log_variance.exp() + 1e-6)


@pytest.mark.parametrize("kind", [TwoHeads, TwoHeadsInDataUnits])
def test_two_outputs_a_column_pass_the_suite(kind):
    check_likelihood(kind())


def test_the_best_constant_of_two_outputs_is_the_mean_and_the_variance():
    for part in (made(TwoHeads()), made(TwoHeadsInDataUnits())):
        x = rows_for(part)
        data = part.target(x)
        p = part(part.expansion.constant(Batch(x)))
        torch.testing.assert_close(p.mean, data.mean(0), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(p.variance, data.var(0, correction=0), rtol=1e-2, atol=1e-3)


class Floorless(TwoHeads):
    def forward(self, output):
        mean, spread = output.chunk(2, dim=-1)
        return DiagonalGaussian(mean, spread.exp())


def test_a_column_that_never_varies_leaves_a_variance_finite():
    """It is as narrow as those whose floor is their own: 1e-3 of a scaled unit."""
    part = made(Floorless())
    x = torch.zeros(N, D, dtype=torch.float64)
    variance = part(part.expansion.constant(Batch(x))).variance.detach()
    torch.testing.assert_close(variance, torch.full_like(variance, 1e-6), rtol=0.05, atol=0)


def test_a_forward_of_its_own_leaves_what_was_known_of_the_other_behind():
    part = made(Tripled())
    x = rows_for(part)
    assert type(part.expansion) is FittedExpansion
    torch.testing.assert_close(
        part.expansion.constant(Batch(x)), part.target(x).mean(0).log() / 3, rtol=1e-3, atol=1e-3
    )


class Gained(Likelihood):
    """A factor in the mean, which is a weight, and a variance."""

    def setup(self, sizes):
        super().setup(sizes)
        self.gain = torch.nn.Parameter(torch.full((sizes.n_features,), 2.0))
        self.log_variance = torch.nn.Parameter(torch.zeros(sizes.n_features))

    def forward(self, output):
        return DiagonalGaussian(self.gain * output, self.log_variance.exp() + 1e-6)


def test_parameters_that_move_the_mean_are_left_to_training():
    part = made(Gained())
    x = rows_for(part)
    constant = part.expansion.constant(Batch(x))
    torch.testing.assert_close(2 * constant, x.mean(0), rtol=1e-3, atol=1e-3)
    part.expansion.calibrate(Batch(x), constant.expand(x.shape))
    assert (part.gain == 2).all()
    torch.testing.assert_close(part.log_variance.detach().exp(), x.var(0, correction=0), rtol=1e-2, atol=0)


def table(n=200, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 2)) @ rng.normal(size=(2, 6)) + 0.2 * rng.normal(size=(n, 6))
    return rows * [1, 10, 0.1, 5, 1, 1] + [0, 100, 0, -3, 0, 7]


NOW = {"max_epochs": 0, "random_state": 0, "hidden": (8,)}


@pytest.mark.parametrize("kind", [TwoHeads, TwoHeadsInDataUnits, OwnScale])
def test_any_likelihood_starts_at_a_linear_map(kind):
    """Two outputs a column: about as good as the one with a variance for each column, whose closed form it has not."""
    X = table()
    model = Autoencoder(2, likelihood=kind(), **NOW).fit(X)
    random = Autoencoder(2, likelihood=kind(), init="random", **NOW).fit(X)
    assert (model.init_, model.has_closed_form_, model.baseline_.init_) == ("linear", False, "linear")
    assert model.score(X) > random.score(X) + 1
    if kind is TwoHeads:
        known = Autoencoder(2, likelihood=GaussianLikelihood("per_feature"), **NOW).fit(X)
        assert model.score(X) == pytest.approx(known.score(X), abs=0.05)
        second = model.composition_.decoder.affine.weight[6:]
        assert (second == 0).all()


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [3, 1, 5, 0, 2, 4], [5, 4, 3, 2, 1, 0]], ids=str)
def test_two_outputs_a_column_start_at_the_optimum_in_each_order_of_the_columns(order):
    """With constant second outputs it is the model with a variance for each column, whose optimum is known."""
    rng = np.random.default_rng(0)  # this very seed: the optimum of its rows is a number below
    codes = rng.normal(size=(300, 2))
    X = (np.tanh(codes @ rng.normal(size=(2, 6))) + 0.1 * rng.normal(size=(300, 6))) * [1, 2, 3, 4, 5, 6] + 10
    options = {"hidden": (), "max_epochs": 0, "random_state": 0, "validation_fraction": 0}
    best = Autoencoder(2, likelihood=GaussianLikelihood("per_feature"), **options).fit(X).score(X)
    assert best == pytest.approx(-2.44989, abs=1e-4)
    found = Autoencoder(2, likelihood=TwoHeads(), **options).fit(X[:, order]).score(X[:, order])
    assert found == pytest.approx(best, abs=1e-3)


def test_classes_start_at_a_linear_map():
    rng = np.random.default_rng(0)
    X = np.eye(5)[rng.integers(0, 5, size=200)]
    model = Autoencoder(3, likelihood=CategoricalLikelihood(), **NOW).fit(X)
    random = Autoencoder(3, likelihood=CategoricalLikelihood(), init="random", **NOW).fit(X)
    assert model.init_ == "linear"
    assert model.score(X) > random.score(X) + 0.1


@pytest.mark.parametrize("likelihood", [StudentTLikelihood(), LaplaceLikelihood("per_feature")], ids=repr)
def test_a_spread_that_no_closed_form_settles_is_calibrated(likelihood):
    """It was taken from the prior's start, which knew nothing of it: 1 for every column."""
    X = table()
    model = VariationalAutoencoder(2, likelihood=likelihood, **NOW).fit(X)
    part = model.composition_.likelihood
    x = torch.from_numpy(model.scaler_.transform(X)).to(part.log_excess)
    before = part.log_excess.detach().clone()
    with torch.no_grad():
        output = model.composition_.decoder(model.composition_.encode(x).mean)
    part.expansion.calibrate(Batch(x), output)
    torch.testing.assert_close(part.log_excess.detach(), before, rtol=1e-3, atol=1e-3)
    assert not model.has_closed_form_


def test_a_variance_of_all_cells_is_settled_by_probabilistic_pca():
    assert VariationalAutoencoder(2, likelihood=GaussianLikelihood("learned"), **NOW).fit(table()).has_closed_form_


def test_candidates_for_a_start_are_fitted_roughly(monkeypatch):
    """The start is as good as by exact fits of every candidate, at a fraction of the cells."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 3)) @ rng.normal(size=(3, 10)) + (0.05 + 0.5 * rng.random(10)) * rng.normal(
        size=(5000, 10)
    )
    n_cells, cells = [0], FittedExpansion._cells

    def counted(self, batch, *args):
        n_cells[0] += batch.x.numel()
        return cells(self, batch, *args)

    monkeypatch.setattr(FittedExpansion, "_cells", counted)
    found = []
    for _ in range(2):
        n_cells[0] = 0
        model = Autoencoder(3, likelihood=TwoHeads(), hidden=(), max_epochs=0, random_state=0).fit(X)
        found.append((model.best_objective_, n_cells[0] / X.size))
        monkeypatch.setattr(FittedExpansion, "rough", property(lambda self: self))
    (objective, n_passes), (exact, n_exact_passes) = found
    assert objective < exact + 1e-3
    assert n_passes < n_exact_passes / 2


def test_the_step_to_a_start_of_many_columns_is_chosen_from_fewer_rows():
    """A search over lengths reads the cells a dozen times; a million of them choose the same one."""
    expansion = BernoulliLikelihood().expansion
    many = Batch(torch.zeros(6_000, 1_000))
    assert 1024 <= len(expansion.few(many)) < 2 * 1049
    assert len(expansion.few(Batch(torch.zeros(6_000, 10)))) == 6_000
    assert len(expansion.few(Batch(torch.zeros(900, 5_000)))) == 900


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_means_of_large_tables_are_those_in_double_precision(dtype, monkeypatch):
    """Also where rows are a part of others, and with the slope of a mean if one is wanted."""
    monkeypatch.setattr(observed, "LARGE_CELLS", 1000)
    monkeypatch.setattr(observed, "SAMPLE_CELLS", 8 * 7 * observed.WIDE)
    made, large = [], observed._large_mean
    monkeypatch.setattr(observed, "_large_mean", lambda cells: made.append(len(cells)) or large(cells))
    cells = (5 + torch.randn(101, 2 * observed.WIDE, generator=torch.Generator().manual_seed(0))).to(dtype)
    for part in (cells, cells[:, : observed.WIDE], cells[1::2]):
        found = observed.mean(part, None)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), part.double().mean(0), rtol=2 * torch.finfo(dtype).eps, atol=0)
    assert made == ([] if dtype == torch.bfloat16 else [101, 101, 50])
    weights = cells.clone().requires_grad_()
    (slope,) = torch.autograd.grad(observed.mean(weights, None).sum(), weights)
    torch.testing.assert_close(slope, torch.full_like(slope, 1 / 101))
