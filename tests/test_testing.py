"""The conformance tests: our parts pass them, and each broken promise is caught and named."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import eigencode.parts
from eigencode import Autoencoder, Objective, VariationalAutoencoder
from eigencode.errors import OptionError
from eigencode.parts import (
    BernoulliLikelihood,
    Code,
    Corruption,
    Delta,
    DiagonalGaussian,
    Distribution,
    Gaussian,
    GaussianLikelihood,
    GaussianNoise,
    LaplaceLikelihood,
    Likelihood,
    NegativeBinomialLikelihood,
    NestedDropout,
    Penalty,
    Point,
    Poisson,
    PoissonLikelihood,
    StudentTLikelihood,
)
from eigencode.parts.likelihoods.activated import ActivatedLikelihood
from eigencode.parts.likelihoods.categorical import CategoricalLikelihood
from eigencode.parts.likelihoods.closed_forms import CountExpansion, GaussianExpansion
from eigencode.parts.likelihoods.columns import ColumnsLikelihood
from eigencode.parts.likelihoods.discrete import BinaryCodeLikelihood
from eigencode.parts.likelihoods.expansion import Expansion
from eigencode.parts.likelihoods.ordinal import OrdinalLikelihood
from eigencode.parts.supervised import LastColumns
from eigencode.testing import check_code, check_corruption, check_likelihood, check_penalty

LIKELIHOODS = [
    GaussianLikelihood(),
    GaussianLikelihood(2.0),
    GaussianLikelihood("learned"),
    GaussianLikelihood("per_feature"),
    LaplaceLikelihood(),
    LaplaceLikelihood("learned"),
    LaplaceLikelihood("per_feature"),
    StudentTLikelihood(),
    StudentTLikelihood(degrees=2.5, scale=0.5),
    StudentTLikelihood(scale="per_feature"),
    BernoulliLikelihood(),
    BinaryCodeLikelihood(),
    PoissonLikelihood(),
    NegativeBinomialLikelihood(),
    NegativeBinomialLikelihood("learned"),
    NegativeBinomialLikelihood(0.3),
]
CODES = {Point(): {}, NestedDropout(): {"unbiased": False}}
CORRUPTIONS = [GaussianNoise(), GaussianNoise(variance=2.0)]


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_our_likelihoods_keep_every_promise(likelihood):
    check_likelihood(likelihood)
    check_likelihood(likelihood, n_features=1)
    assert list(likelihood.parameters()) == [], "the instance given is left as it is"


@pytest.mark.parametrize("code", CODES, ids=repr)
def test_our_codes_keep_every_promise(code):
    check_code(code, **CODES[code])


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=repr)
def test_our_corruptions_keep_every_promise(corruption):
    check_corruption(corruption)


def public_parts(kind):
    found = (getattr(eigencode.parts, name) for name in eigencode.parts.__all__)
    return {part for part in found if isinstance(part, type) and issubclass(part, kind) and part is not kind}


def test_no_public_likelihood_is_left_out():
    # Those of classes, of several blocks and of activated outputs are not cell by cell, and have tests of their own.
    others = {CategoricalLikelihood, LastColumns, ActivatedLikelihood, OrdinalLikelihood, ColumnsLikelihood}
    assert public_parts(Likelihood) - others == {type(part) for part in LIKELIHOODS}


# -- broken likelihoods


@dataclass(frozen=True)
class Changed(Distribution):
    """A normal with some of its answers replaced."""

    location: torch.Tensor
    variance: float = 0.5
    log_prob_of: object = None
    row_log_prob_of: object = None
    mean_of: object = None
    sample_of: object = None

    @property
    def right(self):
        return Gaussian(self.location, self.variance)

    @property
    def mean(self):
        return self.mean_of(self.right) if self.mean_of else self.right.mean

    def log_prob(self, x):
        return self.log_prob_of(self.right, x) if self.log_prob_of else self.right.log_prob(x)

    def row_log_prob(self, x):
        return self.row_log_prob_of(self.right, x) if self.row_log_prob_of else super().row_log_prob(x)

    def sample(self, generator):
        return self.sample_of(self.right, generator) if self.sample_of else self.right.sample(generator)


def likelihood_with(**changes):
    class Broken(Likelihood):
        def forward(self, output):
            return Changed(output, **changes)

    return Broken()


def clipped(right, x):
    return right.log_prob(x) if (x - right.location).abs().max() < 3 else right.log_prob(x) * 1.0


BROKEN_DISTRIBUTIONS = {
    "probabilities must add up to 1": {"log_prob_of": lambda p, x: p.log_prob(x) + 0.01},
    "row_log_prob must be the sum of log_prob": {"row_log_prob_of": lambda p, x: p.log_prob(x).mean(-1)},
    "the mean must be the mean of draws": {"mean_of": lambda p: p.mean + 0.05},
    r"log_prob must have shape \(6, 3\)": {"log_prob_of": lambda p, x: p.log_prob(x).sum(1)},
    "a draw must have shape": {"sample_of": lambda p, g: p.sample(g)[0]},
    "draws from equal generators must be equal": {
        "sample_of": lambda p, g: p.location + torch.randn(p.location.shape, dtype=p.location.dtype)
    },
    "draws from different generators must differ": {"sample_of": lambda p, g: p.location.clone()},
    "row i of log_prob must depend on row i only": {"log_prob_of": lambda p, x: p.log_prob(x - x.mean(0))},
    "log_prob of a cell must not depend on other cells": {
        "log_prob_of": lambda p, x: p.log_prob(x - 0.1 * x.mean(1, keepdim=True))
    },
    "must run under torch.func.vmap": {"log_prob_of": clipped},
    "log_prob must have a gradient": {"log_prob_of": lambda p, x: p.log_prob(x).detach()},
    "the mean of float32 outputs must be float32": {"mean_of": lambda p: p.mean.double()},
    "draws must follow log_prob": {"log_prob_of": lambda p, x: p.log_prob(x - 0.5)},
}  # fmt: skip


@pytest.mark.draws_globally
@pytest.mark.parametrize("promise", BROKEN_DISTRIBUTIONS)
def test_a_broken_distribution_is_caught(promise):
    with pytest.raises(AssertionError, match=f"Broken: .*{promise}"):
        check_likelihood(likelihood_with(**BROKEN_DISTRIBUTIONS[promise]))


def test_a_wrong_gradient_is_caught():
    class Twice(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, gradient):
            return 2 * gradient

    with pytest.raises(AssertionError, match="the gradient of log_prob must be the numerical one"):
        check_likelihood(likelihood_with(log_prob_of=lambda p, x: Twice.apply(p.log_prob(x))))


@pytest.mark.draws_globally
def test_draws_from_a_global_generator_are_caught_even_where_they_do_no_harm():
    class Reads(GaussianLikelihood):
        numbers = ()

        def forward(self, output):
            np.random.random()  # noqa: NPY002
            return super().forward(output)

    with pytest.raises(AssertionError, match="a draw from a global generator"):
        check_likelihood(Reads())


def test_a_density_may_be_declared_unnormalised():
    shifted = likelihood_with(log_prob_of=lambda p, x: p.log_prob(x) + 0.01)
    check_likelihood(shifted, normalised=False)


def test_a_wrong_constant_for_counts_is_caught():
    class Means(CountExpansion):
        def constant(self, batch):
            return self.target(batch).x.mean(0)

    class Forgets(PoissonLikelihood):
        expansion_type = Means

    with pytest.raises(AssertionError, match="constant must be the best output"):
        check_likelihood(Forgets())


def test_a_forgotten_calibration_is_caught():
    class Idle(GaussianExpansion):
        def calibrate(self, batch, output):
            pass

    class Forgets(GaussianLikelihood):
        expansion_type = Idle

    check_likelihood(Forgets())
    with pytest.raises(AssertionError, match="calibrate must set parameters to their best values; 'log_excess'"):
        check_likelihood(Forgets("learned"))


def test_a_variance_without_a_floor_is_caught():
    class Residuals(Expansion):
        @torch.no_grad()
        def calibrate(self, batch, output):
            self.likelihood.log_variance.copy_((batch.x - output).square().mean(0).log())

    class Floorless(Likelihood):
        expansion_type = Residuals

        def setup(self, sizes):
            super().setup(sizes)
            self.log_variance = torch.nn.Parameter(torch.zeros(sizes.n_features))

        def forward(self, output):
            return DiagonalGaussian(output, self.log_variance.exp())

    with pytest.raises(AssertionError, match="log_prob must be finite for constant columns"):
        check_likelihood(Floorless())


def test_an_unbounded_exponent_is_caught():
    class Unbounded(PoissonLikelihood):
        def forward(self, output):
            return Poisson(3 * output)

    with pytest.raises(AssertionError, match="log_prob must be finite for constant columns, at outputs 60"):
        check_likelihood(Unbounded())


def test_a_constructor_that_changes_its_arguments_is_caught():
    class Squares(GaussianLikelihood):
        def __init__(self, variance=0.5):
            super().__init__()
            self.variance = variance**2

    with pytest.raises(AssertionError, match="Squares: a copy must have the same repr"):
        check_likelihood(Squares(0.1))


def test_an_argument_that_cannot_be_saved_is_caught():
    class Takes(GaussianLikelihood):
        def __init__(self, function=None):
            super().__init__()
            self.function = function

    with pytest.raises(AssertionError, match="the argument 'function' must be storable as JSON"):
        check_likelihood(Takes(math.sqrt))


# -- broken codes


@dataclass(frozen=True)
class Noisy:
    """A normal code with unit variance, or something near it."""

    mean: torch.Tensor
    shift: float = 0.0
    detached: bool = False
    mixed: bool = False

    def draw(self, noise):
        mean = self.mean.detach() if self.detached else self.mean
        mean = mean - 0.1 * mean.mean(0) if self.mixed else mean
        return self.mean if noise is None else mean + noise.to(self.mean) + self.shift


class NoisyCode(Code):
    is_stochastic = is_elementwise = is_identity = True
    changes: dict = {}  # noqa: RUF012

    def draw_noise(self, n_rows, n_components, generator):
        return torch.randn(n_rows, n_components, generator=generator)

    def forward(self, output):
        return Noisy(output, **self.changes)


def test_a_sound_stochastic_code_passes():
    check_code(NoisyCode())


@pytest.mark.parametrize(
    ("promise", "changes"),
    {
        "the mean must be the mean of draws": {"shift": 0.1},
        "a draw must have a gradient": {"detached": True},
        "row i must depend on row i only": {"mixed": True},
    }.items(),
)
def test_a_broken_code_is_caught(promise, changes):
    class Broken(NoisyCode):
        pass

    Broken.changes = changes
    with pytest.raises(AssertionError, match=promise):
        check_code(Broken())


@pytest.mark.draws_globally
def test_a_code_that_draws_for_itself_is_caught():
    class Own(Point):
        def forward(self, output):
            return Delta(output + torch.randn_like(output))

    with pytest.raises(AssertionError, match="two draws with the same noise must be equal"):
        check_code(Own())


def test_a_code_that_hides_its_noise_is_caught():
    class Hides(NoisyCode):
        is_stochastic = False

    with pytest.raises(AssertionError, match="must declare is_stochastic = True"):
        check_code(Hides())


class Squashed(Code):
    """A code by the function given to the test, of which nothing is declared."""

    function = staticmethod(torch.tanh)

    def forward(self, output):
        return Delta(self.function(output))


class Sloped(Squashed):
    """A code with a slope that is used as the test says."""

    is_elementwise = True

    def __init__(self, slope=0.5):
        super().__init__()
        self.slope = slope

    def forward(self, output):
        return Delta(output.sign() * output.abs() ** self.slope)


WRONG_DECLARATIONS = {
    r"is_elementwise = True means that component j of the mean depends on output j": (
        Squashed,
        {"function": staticmethod(lambda a: a.softmax(-1)), "is_elementwise": True},
    ),
    "is_identity = True means that the mean is the first outputs as they are": (
        Squashed,
        {"is_identity": True, "is_elementwise": True},
    ),
    r"declare is_elementwise = True \(or False\), since component j": (Squashed, {}),
    r"declare is_identity = True \(or False\), since the mean is": (
        Squashed,
        {"function": staticmethod(lambda a: a * 1), "is_elementwise": True},
    ),
    "the mean must allow any number of axes before the last": (
        Squashed,
        {"function": staticmethod(lambda a: torch.einsum("ij->ij", a).tanh()), "is_elementwise": True},
    ),
    "the mean must be the same for rows with another axis before them": (
        Squashed,
        {"function": staticmethod(lambda a: a.softmax(1))},
    ),
    r"declare in numbers the arguments .* Got no declaration for slope": (Sloped, {}),
    r"numbers must name arguments of the constructor. Got \['slop'\]": (Sloped, {"numbers": ("slop",)}),
    "'slope' is declared in numbers, so it must be used in arithmetic on tensors only": (
        Sloped,
        {"numbers": ("slope",), "is_elementwise": True, "forward": lambda self, o: Delta(o * math.exp(self.slope))},
    ),
}


@pytest.mark.parametrize("promise", WRONG_DECLARATIONS)
def test_a_declaration_that_is_wrong_or_missing_is_caught(promise):
    parent, members = WRONG_DECLARATIONS[promise]
    with pytest.raises(AssertionError, match=f"Own: {promise}"):
        check_code(type("Own", (parent,), members)())


def test_declared_codes_pass():
    for parent, members in [
        (Squashed, {"is_elementwise": True}),
        (Squashed, {"is_elementwise": False}),
        (Sloped, {"numbers": ("slope",)}),
        (Sloped, {"numbers": ()}),
    ]:
        check_code(type("Own", (parent,), members)())


# -- broken corruptions


class Corrupt(Corruption):
    """Corrupts by the function given to the test."""

    damage = staticmethod(lambda x, noise: x + noise)

    def draw_noise(self, n_rows, n_features, generator):
        return torch.randn(n_rows, n_features, generator=generator)

    def forward(self, x, noise):
        return self.damage(x, noise.to(x.dtype))


BROKEN_CORRUPTIONS = {
    "the same noise must give the same rows": lambda x, noise: x + torch.randn(x.shape),
    "other noise must give other rows": lambda x, noise: 0.9 * x,
    "row i must depend on row i and its noise only": lambda x, noise: x + noise.roll(1, 0),
    "row i must depend on row i and its noise": lambda x, noise: x + noise - x.mean(0),
    "the corrupted rows must have shape": lambda x, noise: (x + noise)[:, :2],
    "the clean rows must not be changed": lambda x, noise: x.add_(noise),
    "corrupted rows in torch.float64 must have this type": lambda x, noise: (x + noise).float(),
    "the corrupted rows must be finite": lambda x, noise: x / (noise > 0),
}


@pytest.mark.draws_globally
@pytest.mark.parametrize("promise", BROKEN_CORRUPTIONS)
def test_a_broken_corruption_is_caught(promise):
    check_corruption(Corrupt())

    class Broken(Corrupt):
        damage = staticmethod(BROKEN_CORRUPTIONS[promise])

    with pytest.raises(AssertionError, match=f"Broken: {promise}"):
        check_corruption(Broken())


@pytest.mark.draws_globally
def test_noise_from_a_global_generator_is_caught():
    class Global(Corrupt):
        def draw_noise(self, n_rows, n_features, generator):
            return torch.from_numpy(np.random.normal(size=(n_rows, n_features))).float()  # noqa: NPY002

    with pytest.raises(AssertionError, match="noise must be the same from the same generator"):
        check_corruption(Global())


# -- penalties


class Term(Penalty):
    """A penalty by the function given to the test."""

    value = staticmethod(lambda trace, model: trace.z.square().sum(1))

    def forward(self, trace, composition):
        return self.value(trace, composition)


def contraction(trace, model):
    """The encoder's squared Jacobian by torch.func, as a contractive penalty takes it."""
    jacobian = torch.func.vmap(torch.func.jacrev(model.encoder))(trace.x)
    return jacobian.square().sum((1, 2))


@pytest.mark.parametrize(
    "value",
    [
        Term.value,
        contraction,
        lambda trace, model: trace.z.mean(0).square().sum(),
        lambda trace, model: model.encoder.output_bias.square().sum() + model.decoder.last.weight.abs().sum(),
    ],
)
def test_sound_penalties_pass(value):
    class Sound(Term):
        pass

    Sound.value = staticmethod(value)
    check_penalty(Sound())


BROKEN_PENALTIES = {
    "row i must depend on row i only": lambda trace, model: (trace.z - trace.z.mean(0)).square().sum(1),
    "a penalty must be one number for each row, or a scalar": lambda trace, model: trace.z.square(),
    "a gradient must reach the weights. Got a value without": lambda trace, model: trace.z.detach().square().sum(1),
    "a gradient must reach the weights. Got zeros only": lambda trace, model: 0 * trace.z.sum(1),
    "the same batch must give the same penalty": lambda trace, model: trace.z.sum(1) * torch.rand(len(trace.z)),
    "a penalty must run under torch.func.vmap": lambda trace, model: (
        trace.z.sum(1) if trace.z.max() > 99 else trace.z.square().sum(1)
    ),
    "the gradient must be the numerical one": lambda trace, model: (trace.z * trace.z.detach()).sum(1),
    "a penalty must be finite": lambda trace, model: trace.z.sum(1).log(),
}


@pytest.mark.draws_globally
@pytest.mark.parametrize("promise", BROKEN_PENALTIES)
def test_a_broken_penalty_is_caught(promise):
    class Broken(Term):
        value = staticmethod(BROKEN_PENALTIES[promise])

    with pytest.raises(AssertionError, match=f"Broken: {promise}"):
        check_penalty(Broken())


class AlongRows(Penalty):
    """Wrong: its answer has one number for each component."""

    def forward(self, trace, composition):
        return trace.z.square()


class FirstAxis(Penalty):
    """The README's, with axes counted from the front."""

    def forward(self, trace, composition):
        return trace.z.diff(dim=1).square().sum(1)


class Weighed(Penalty):
    """A penalty with a weight, and noise where the test says so."""

    def __init__(self, weight=0.5):
        super().__init__()
        self.weight = weight

    def forward(self, trace, composition, noise=None):
        return self.weight * trace.z.square().sum(-1)


WRONG_PENALTIES = {
    "declare in numbers the arguments": {},
    "a penalty must declare is_stochastic = True if it draws noise, and only then": {
        "numbers": ("weight",),
        "draw_noise": lambda self, n, model, source: torch.randn(n, generator=source),
    },
    "a penalty must declare is_stochastic = True if it draws noise": {"numbers": ("weight",), "is_stochastic": True},
    "'weight' is declared in numbers, so it must": {
        "numbers": ("weight",),
        "forward": lambda self, trace, model: trace.z.square().sum(-1) * (2 if self.weight > 1 else 1),
    },
    "ignores_idle_components = True means": {
        "numbers": ("weight",),
        "ignores_idle_components": True,
        "forward": lambda self, trace, model: self.weight * (trace.z - 1).square().sum(-1),
    },
}


@pytest.mark.parametrize(("promise", "members"), WRONG_PENALTIES.items())
def test_a_penalty_with_a_wrong_declaration_is_caught(promise, members):
    with pytest.raises(AssertionError, match=f"Own: {promise}"):
        check_penalty(type("Own", (Weighed,), members)())
    check_penalty(type("Right", (Weighed,), {"numbers": ("weight",), "ignores_idle_components": True})())


def test_a_penalty_written_for_one_code_a_row_works_for_several():
    check_penalty(FirstAxis())
    X = np.random.default_rng(0).normal(size=(60, 5))
    options = {"n_draws": 2, "max_epochs": 1, "hidden": (4,), "random_state": 0}
    model = VariationalAutoencoder(3, penalties=[FirstAxis()], **options).fit(X)
    composition = model.composition_.eval()
    x = torch.from_numpy(model.scaler_.transform(X)).float()
    trace = composition(x, composition.draw_noise(len(x), torch.Generator().manual_seed(0)))
    expected = trace.z.diff(dim=-1).square().sum(-1).mean(0)
    torch.testing.assert_close(Objective().terms(composition, trace)["FirstAxis"], expected)


def test_a_term_of_another_shape_is_refused_by_the_name_of_its_part():
    X = np.random.default_rng(0).normal(size=(60, 5))
    with pytest.raises(OptionError, match=r"AlongRows must give one number a row.*shape \(\d+, 2\)"):
        Autoencoder(2, penalties=[AlongRows()], max_epochs=1, init="random").fit(X)
    with pytest.raises(AssertionError, match="AlongRows: a penalty must be one number for each row"):
        check_penalty(AlongRows())
