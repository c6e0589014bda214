"""Cells that are not observed, in what a start asks: they change no bit, and what is left gives the right values."""

import pytest
import torch
from sklearn.base import clone
from torch.nn.functional import softplus

from eigencode import Composition, Objective
from eigencode.batch import Batch
from eigencode.model.initialization import backtrack, linear_problem, linear_starts, set_linear
from eigencode.model.pca import spectrum
from eigencode.parts import (
    MLP,
    ActivatedLikelihood,
    BernoulliLikelihood,
    CategoricalLikelihood,
    ColumnsLikelihood,
    DiagonalGaussian,
    Gaussian,
    GaussianLikelihood,
    LaplaceLikelihood,
    LastColumns,
    Likelihood,
    NegativeBinomialLikelihood,
    OrdinalLikelihood,
    PoissonLikelihood,
    Sizes,
    StudentTLikelihood,
    Units,
)
from eigencode.parts.likelihoods.closed_forms import GaussianExpansion
from eigencode.parts.likelihoods.discrete import CountLikelihood
from eigencode.parts.likelihoods.observed import evenly_sampled

D, K, ROWS = 5, 2, 40
SPREAD_KINDS = [GaussianLikelihood, LaplaceLikelihood, StudentTLikelihood, NegativeBinomialLikelihood]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed):
    return torch.randn(shape, dtype=torch.float64, generator=generator(seed))


class TwoHeads(Likelihood):
    """A likelihood of a user's: a normal with a mean and a variance for each cell."""

    def n_outputs(self, n_features):
        return 2 * n_features

    def forward(self, output):
        mean, spread = output.chunk(2, dim=-1)
        return DiagonalGaussian(mean, softplus(spread) + 1e-6)


ASKED = [
    *(kind(spread) for kind in (GaussianLikelihood, LaplaceLikelihood) for spread in (0.7, "learned", "per_feature")),
    *(StudentTLikelihood(4.0, spread) for spread in (0.7, "learned", "per_feature")),
    BernoulliLikelihood(),
    PoissonLikelihood(),
    *(NegativeBinomialLikelihood(spread) for spread in (0.5, "learned", "per_feature")),
    CategoricalLikelihood(),
    OrdinalLikelihood(),
    ActivatedLikelihood("sigmoid"),
    LastColumns(GaussianLikelihood("per_feature"), n_columns=2),
    TwoHeads(),
    ColumnsLikelihood(
        [
            (GaussianLikelihood("per_feature"), 1),
            (LaplaceLikelihood("learned"), 1),
            (NegativeBinomialLikelihood(), 1),
            (CategoricalLikelihood(), 2),
        ]
    ),
]


def units_of(likelihood):
    """Units of each column's own; every other column of counts is scaled by its logarithms."""
    counts = torch.tensor([cell.is_logarithmic for cell in likelihood.cells(D)])
    logarithmic = counts & torch.tensor([True, False, True, False, True])
    center, divisor = torch.linspace(0.4, 0.6, D), torch.linspace(0.3, 0.5, D)
    return Units(center, divisor, logarithmic if counts.any() else None)


def made(likelihood, columns=slice(None)):
    """A likelihood for some of the columns, with units of each column's own where it has any."""
    part = clone(likelihood)
    units = units_of(part).of_columns(columns)
    part.setup(Sizes(len(units.center), K, units=units))
    return part.double()


def gappy(part):
    """Scaled rows that the likelihood may be asked about, with gaps; nothing is known of the last row."""
    supports = [cell.support for cell in part.cells(D)]
    n_classes = torch.tensor([7 if support == "counts" else 2 for support in supports])
    rows = torch.randint(0, 42, (ROWS, D), generator=generator(1)) % n_classes
    is_real = torch.tensor([support == "real" for support in supports])
    x = torch.where(is_real, normal(ROWS, D, seed=1) + 0.3, part.scaled(rows.double()))
    observed = torch.rand(ROWS, D, generator=generator(2)) < 0.6
    observed[-1] = False
    return x, observed


def asked(likelihood, x, observed):
    """Everything that a start asks, by name."""
    part, batch = made(likelihood), Batch(x, observed)
    n_outputs = part.n_outputs(D)
    output = normal(len(x), n_outputs, seed=3)
    found = {"constant": part.expansion.constant(batch), "sampled": evenly_sampled(batch, 60).x}
    found["intercept"] = part.expansion.intercept(batch, output, torch.zeros(n_outputs, dtype=torch.float64))
    for number, units in enumerate(part.expansion.working_units(batch)):
        found |= {f"working units {number}": torch.stack(units)}
    part.expansion.calibrate(batch, output)
    return found | {name: value.detach() for name, value in part.named_parameters()}


def started(likelihood, x, observed):
    """The weights of a model at two of its linear starts, after the search for the best step."""
    batch = Batch(x, observed)
    model = Composition(MLP(), MLP(), likelihood=clone(likelihood))
    model.setup(D, K, generator(), Sizes(D, K, units=units_of(likelihood)))
    model.double().eval()
    found = {}
    for inward, outward in model.likelihood.expansion.working_units(batch):
        principal = spectrum(Batch(x * inward, observed), None, 0)
        problem = linear_problem(batch, principal, model, Objective(), (inward, outward))
        for start in linear_starts(problem)[:2]:
            assert not start.is_optimum
            set_linear(model, start)
            backtrack(model, batch)
            found |= {f"{len(found)} {name}": value.detach().clone() for name, value in model.named_parameters()}
    return found


def named(value):
    return getattr(value, "__name__", None) or repr(value)


STARTED = [part for part in ASKED if part.expansion.has_linear_start]


@pytest.mark.parametrize(
    ("answers", "likelihood"),
    [*((asked, part) for part in ASKED), *((started, part) for part in STARTED)],
    ids=lambda value: getattr(value, "__name__", repr(value)),  # a function's repr is another in each process
)
def test_a_hidden_cell_changes_no_bit_of_a_start(answers, likelihood):
    x, observed = gappy(made(likelihood))
    expected = answers(likelihood, x.where(observed, 0.0), observed)
    assert expected
    assert all(value.isfinite().all() for value in expected.values())
    for wild in (1e30, torch.nan):
        found = answers(likelihood, x.where(observed, wild), observed)
        for name, value in found.items():
            assert torch.equal(value, expected[name]), f"{name} with {wild} in the hidden cells"


BY_COLUMN = [
    part
    for part in ASKED
    if getattr(part, "spread", None) != "learned"
    and not isinstance(part, CategoricalLikelihood | ColumnsLikelihood | LastColumns | OrdinalLikelihood)
]


@pytest.mark.parametrize("likelihood", BY_COLUMN, ids=repr)
def test_each_column_is_asked_about_its_observed_cells(likelihood):
    """As a table of that column alone, which has the rows that know it and no gaps."""
    x, observed = gappy(made(likelihood))
    found = asked(likelihood, x, observed)
    n_outputs = made(likelihood).n_outputs(D)
    output = normal(len(x), n_outputs, seed=3)
    close = {"rtol": 1e-3, "atol": 1e-3} if isinstance(likelihood, TwoHeads) else {"rtol": 1e-6, "atol": 1e-9}
    for j in range(D):
        part, known = made(likelihood, slice(j, j + 1)), observed[:, j]
        cells, own = Batch(x[known, j : j + 1]), slice(j, None, D)
        torch.testing.assert_close(found["constant"][own], part.expansion.constant(cells), **close)
        own_output, zeros = output[known][:, own], torch.zeros(n_outputs // D, dtype=torch.float64)
        if not isinstance(likelihood, TwoHeads):  # a few steps only
            own_intercept = part.expansion.intercept(cells, own_output, zeros)
            torch.testing.assert_close(found["intercept"][own], own_intercept, rtol=0, atol=1e-5)
        if not isinstance(likelihood, BernoulliLikelihood | CountLikelihood):  # columns' curvatures have a common floor
            for number, units in enumerate(part.expansion.working_units(cells)):
                torch.testing.assert_close(found[f"working units {number}"][:, j : j + 1], torch.stack(units), **close)
        part.expansion.calibrate(cells, own_output)
        for name, value in part.named_parameters():
            torch.testing.assert_close(found[name][j : j + 1], value.detach(), **close)


@pytest.mark.parametrize(
    "kind", [GaussianLikelihood, LaplaceLikelihood, StudentTLikelihood, NegativeBinomialLikelihood]
)
def test_a_spread_of_all_columns_is_that_of_all_observed_cells(kind):
    likelihood = kind(**{kind.spread_name: "learned"})
    x, observed = gappy(made(likelihood))
    output = normal(*x.shape, seed=3)
    part = made(likelihood)
    part.expansion.calibrate(Batch(x, observed), output)
    single = clone(likelihood)
    single.setup(Sizes(1, K))
    single.double().expansion.calibrate(Batch(part.target(x)[observed][:, None]), output[observed][:, None])
    torch.testing.assert_close(part.log_excess.detach(), single.log_excess.detach())


def test_working_units_of_shares_and_counts_are_those_of_the_observed_cells():
    """Counts: every other column is scaled by its logarithms, whose response is weighed; of others it is a residual."""
    for likelihood in (BernoulliLikelihood(), PoissonLikelihood(), NegativeBinomialLikelihood()):
        part = made(likelihood)
        x, observed = gappy(part)
        inward, outward = part.expansion.working_units(Batch(x, observed))[0]
        for j in range(D):
            cells = part.target(x)[observed[:, j], j].numpy()
            m, a = cells.mean(), max(cells.var() - cells.mean(), 0) / cells.mean() ** 2
            inflation = 1 + a * m * isinstance(likelihood, NegativeBinomialLikelihood)
            curvature = m * (1 - m) if isinstance(likelihood, BernoulliLikelihood) else m / inflation
            factor = 1 / inflation / curvature**0.5 if likelihood.support == "counts" else 1 / curvature**0.5
            if part.cells(D)[0].is_logarithmic and part.logarithmic[j]:
                factor = curvature**0.5
            assert float(outward[j]) == pytest.approx(curvature**-0.5)
            assert float(inward[j]) == pytest.approx(float(part.divisor[j]) * factor)


def test_covariances_are_over_the_rows_that_know_both_cells():
    x = (
        torch.randn(60, 4, dtype=torch.float64, generator=generator(1))
        @ torch.randn(4, 4, generator=generator(4)).double()
    )
    observed = torch.rand(60, 4, generator=generator(2)) < 0.7
    expected = torch.empty(4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            both = observed[:, i] & observed[:, j]
            expected[i, j] = (x[both, i] * x[both, j]).mean()
    found = spectrum(Batch(x, observed), None, 0)
    values, _ = torch.linalg.eigh(expected)
    torch.testing.assert_close(found.eigenvalues, values.flip(0).clamp(min=0))
    assert found.total == pytest.approx(float(values.clamp(min=0).sum()))


@pytest.mark.parametrize("n_columns", [30, 300])
def test_a_start_with_gaps_is_better_than_pca_of_the_filled_rows(n_columns):
    factors = normal(200, 3, seed=1)
    x = factors @ normal(3, n_columns, seed=4)
    x = x + 0.3 * normal(*x.shape, seed=5)
    x = x / x.std(0)
    observed = torch.rand(x.shape, generator=generator(2)) < torch.linspace(0.3, 0.9, n_columns)
    batch = Batch(x, observed)
    model = Composition(MLP(), MLP())
    model.setup(n_columns, 3, generator())
    model.double()
    ones = torch.ones(n_columns)

    def cost(principal, number):
        problem = linear_problem(batch, principal, model, Objective(), (ones, ones))
        set_linear(model, linear_starts(problem)[number])
        return float(Objective()(model, model(batch)).mean().detach())

    filled = cost(spectrum(Batch(batch.x), 3, 0), 1)
    best = cost(spectrum(batch, 3, 0), 0)
    assert best < filled - 0.05 * abs(filled)


SPREADS = [kind(**{kind.spread_name: "per_feature"}) for kind in SPREAD_KINDS]


@pytest.mark.parametrize("likelihood", SPREADS, ids=repr)
def test_a_column_of_which_nothing_is_known_has_a_spread_of_one(likelihood):
    part = made(likelihood)
    x, observed = gappy(part)
    observed[:, 2] = False
    batch = Batch(x, observed)
    constant = part.expansion.constant(batch)
    part.expansion.calibrate(batch, constant.expand(x.shape))
    spread = part.current_spread(x).detach()
    assert constant.isfinite().all()
    assert spread.isfinite().all()
    assert float(spread[2]) == pytest.approx(1, rel=1e-5)


class Trap(Gaussian):
    """A normal that finds cells of exactly 0, which only hidden ones are here, the likelier the longer the step."""

    def log_prob(self, x):
        return super().log_prob(x) + torch.where(x == 0, 1e3 * self.location.square(), 0.0)


class Trapped(GaussianLikelihood):
    expansion_type = GaussianExpansion

    def forward(self, output):
        return Trap(output, 0.5)


def test_the_length_of_a_step_is_settled_by_observed_cells():
    lengths = []
    for likelihood in (GaussianLikelihood(), Trapped()):
        x, observed = gappy(made(likelihood))
        batch = Batch(x, observed)
        model = Composition(MLP(), MLP(), likelihood=likelihood)
        model.setup(D, K, generator())
        model.double()
        ones = torch.ones(D)
        problem = linear_problem(batch, spectrum(batch, K, 0), model, Objective(), (ones, ones))
        set_linear(model, linear_starts(problem)[0])
        backtrack(model, batch)
        lengths.append(float(model.decoder.affine.weight.detach().norm()))
    assert lengths[0] == lengths[1]
