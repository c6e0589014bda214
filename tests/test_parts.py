"""Each part against its formula, and the contract all parts share."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import Seen
from sklearn.base import clone
from torch import nn

from eigencode import Autoencoder, Composition, Objective
from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.parts import (
    MLP,
    BernoulliLikelihood,
    Contractive,
    Custom,
    Delta,
    GaussianCode,
    GaussianLikelihood,
    GaussianNoise,
    GaussianWeights,
    KLSparsity,
    LaplacePrior,
    LinearPath,
    Masking,
    Part,
    Penalty,
    Point,
    Prior,
    SaltAndPepper,
)
from eigencode.parts.networks.base import GELU

PARTS = [
    MLP(hidden=(3, 2), activation="tanh"),
    LinearPath(MLP(hidden=(3,))),
    Point(),
    GaussianNoise(variance=0.3),
    GaussianLikelihood(variance=2.0),
    LaplacePrior(rate=3.0),
    Composition(MLP((4,)), MLP((4,)), likelihood=GaussianLikelihood(0.1)),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: type(part).__name__)
def test_a_part_is_its_arguments(part):
    again = clone(part)
    assert again is not part
    assert repr(again) == repr(part)
    assert eval(repr(part), dict(globals())).get_params().keys() == (part.get_params().keys())


def test_nested_parameters_are_read_and_set():
    model = Composition(MLP((4,)), MLP((4,)), corruption=GaussianNoise(0.1))
    assert model.get_params()["corruption__variance"] == 0.1
    model.set_params(corruption__variance=0.5, encoder__hidden=(7,))
    assert (model.corruption.variance, model.encoder.hidden) == (0.5, (7,))
    with pytest.raises(OptionError, match="Composition has no option 'colour'. Got colour=1"):
        model.set_params(colour=1)
    with pytest.raises(OptionError, match="'prior__rate' is an option of 'prior', which has no options"):
        model.set_params(prior__rate=1)


def test_a_clone_shares_no_tensor():
    network = MLP((4,))
    network.setup(3, 2, generator())
    assert list(clone(network).parameters()) == []


@pytest.mark.parametrize("variance", [0.5, 3.0])
def test_gaussian_likelihood_is_scipys(variance):
    mean, x = np.random.default_rng(0).normal(size=(2, 5, 3))
    p = GaussianLikelihood(variance)(torch.from_numpy(mean))
    expected = scipy.stats.norm(mean, math.sqrt(variance)).logpdf(x)
    np.testing.assert_allclose(p.log_prob(torch.from_numpy(x)).numpy(), expected, rtol=1e-12)


def test_gaussian_likelihood_samples_have_its_moments():
    p = GaussianLikelihood(2.0)(torch.full((40_000, 1), 3.0, dtype=torch.float64))
    draws = p.sample(generator())
    assert abs(draws.mean() - 3) < 4 * math.sqrt(2 / 40_000)
    assert abs(draws.var() - 2) < 4 * 2 * math.sqrt(2 / 40_000)


def test_variance_one_half_makes_the_loss_squared_error_plus_a_constant():
    x, output = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator())
    loss = -GaussianLikelihood()(output).log_prob(x).sum(1)
    constant = 4 * 0.5 * math.log(math.pi)
    torch.testing.assert_close(loss, (x - output).square().sum(1) + constant)


def test_laplace_prior_is_scipys():
    z = np.random.default_rng(0).normal(size=(5, 3))
    expected = -scipy.stats.laplace(scale=1 / 2.5).logpdf(z).sum(1)
    found = -LaplacePrior(2.5).log_prob(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_draws_from_a_laplace_prior_have_its_distribution():
    draws = LaplacePrior(rate=3.0).sample(10_000, 2, generator()).flatten()
    farthest = scipy.stats.kstest(draws.numpy(), scipy.stats.laplace(scale=1 / 3).cdf).statistic
    assert farthest < math.sqrt(math.log(2e9) / 2 / len(draws))  # exceeded with probability 1e-9 (Massart, 1990)


def test_a_variational_model_with_a_laplace_prior_draws_from_it():
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = Autoencoder(1, code=GaussianCode(), prior=LaplacePrior(3.0), max_epochs=1, random_state=0).fit(X)
    drawn = torch.cat(list(model._drawn_codes(20_000, seed=1))).flatten()
    assert abs(float(drawn.abs().mean()) - 1 / 3) < 6 / 3 / math.sqrt(len(drawn))  # six standard errors
    assert np.isfinite(model.sample(5, random_state=0)).all()


def test_a_prior_that_cannot_draw_says_what_to_do():
    class Cauchy(Prior):
        def log_prob(self, z):
            return -(1 + z.square()).log().sum(-1) - z.shape[-1] * math.log(math.pi)

    X = np.random.default_rng(0).normal(size=(60, 3))
    model = Autoencoder(1, code=GaussianCode(), prior=Cauchy(), max_epochs=1, random_state=0).fit(X)
    with pytest.raises(OptionError, match="Cauchy has no method 'sample' to draw codes with. Write it, or call"):
        model.sample(5)
    assert np.isfinite(model.fit_density(X).sample(5, random_state=0)).all()


def test_gaussian_noise_has_its_variance_and_no_mean():
    part = GaussianNoise(variance=0.25)
    x = torch.zeros(50_000, 2)
    damage = part(x, part.draw_noise(50_000, 2, generator()))
    assert damage.mean().abs() < 4 * 0.5 / math.sqrt(100_000)
    assert damage.var().item() == pytest.approx(0.25, rel=4 * math.sqrt(2 / 100_000))


def test_layers_start_with_xaviers_variance_and_no_bias():
    network = MLP((400,), "relu")
    network.setup(300, 10, generator())
    first = network.layers[0]
    assert first.weight.var().item() == pytest.approx(2 / 700, rel=0.02)
    assert not first.bias.any()


def test_a_linear_path_starts_as_its_linear_map_alone():
    network = LinearPath(MLP((16,), "gelu"))
    network.setup(5, 3, generator())
    x = torch.randn(7, 5, generator=generator(1))
    torch.testing.assert_close(network(x), x @ network.linear.weight.T + network.linear.bias, rtol=0, atol=0)
    network.network.last.weight.data.fill_(0.1)
    assert (network(x) != network.linear(x)).all()


def test_an_mlp_is_its_formula():
    network = MLP((4, 3), "tanh")
    network.setup(5, 2, generator())
    network.double()
    x = torch.randn(7, 5, dtype=torch.float64, generator=generator(1))
    w = dict(network.named_parameters())
    h = torch.tanh(x @ w["layers.0.weight"].T + w["layers.0.bias"])
    h = torch.tanh(h @ w["layers.2.weight"].T + w["layers.2.bias"])
    torch.testing.assert_close(network(x), h @ w["layers.4.weight"].T + w["layers.4.bias"])


def test_a_foreign_module_must_fit_the_widths():
    network = Custom(nn.utils.skip_init(nn.Linear, 5, 2))
    network.setup(5, 2, generator())
    with pytest.raises(OptionError, match="must map rows of 5 numbers to rows of 3"):
        network.setup(5, 3, generator())
    with pytest.raises(OptionError, match="Linear cannot take rows of 4 numbers"):
        network.setup(4, 2, generator())


@pytest.mark.parametrize("n_rows", [1, 3, 300])
def test_gelu_is_the_same_function_by_either_kernel_with_its_derivatives(n_rows):
    x = torch.linspace(-4, 4, 64 * n_rows, dtype=torch.float64).reshape(n_rows, 64).requires_grad_()
    share = (1 + torch.erf(x / 2**0.5)) / 2
    density = torch.exp(-(x**2) / 2) / (2 * torch.pi) ** 0.5
    for is_training in (True, False):
        found = GELU().train(is_training)(x)
        (slope,) = torch.autograd.grad(found.sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x)
        for given, expected in ((found, x * share), (slope, share + x * density), (curvature, (2 - x**2) * density)):
            torch.testing.assert_close(given, expected, rtol=1e-12, atol=1e-14)
        assert found.is_contiguous()
        # In float32 the kernels differ: by 1e-6 from the function, less than five last digits of the largest number.
        torch.testing.assert_close(GELU().train(is_training)(x.float()).double(), x * share, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("shape", "is_training", "calls_library"),
    [((32, 64), True, False), ((32, 64), False, True), ((256, 64), True, False), ((257, 64), True, True),
     ((2, 3, 4), True, True)],
)  # fmt: skip
def test_few_numbers_in_training_take_torchs_own_kernel_of_gelu(shape, is_training, calls_library):
    with Seen() as seen:
        GELU().train(is_training)(torch.ones(shape))
    read = [args[0].is_contiguous() for function, args in seen.calls if function is torch.ops.aten.gelu.default]
    assert read == [calls_library]  # torch gives contiguous numbers to oneDNN


def test_an_unknown_activation_is_named_with_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'sigmoid'"):
        MLP((3,), "sigmoide").setup(2, 1, generator())


class Twice(Penalty):
    """A penalty whose value is known."""

    def forward(self, trace, composition):
        return 2 * trace.z.sum(1)


@pytest.fixture
def composition():
    model = Composition(MLP((4,), "tanh"), MLP((4,), "tanh"), corruption=GaussianNoise(0.1), prior=LaplacePrior(2.0))
    model.setup(3, 2, generator())
    return model.double()


def test_the_objective_is_the_sum_of_its_literal_terms(composition):
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator(1))
    noise = composition.draw_noise(6, generator(2))
    trace = composition(x, noise)
    x_tilde = x + math.sqrt(0.1) * noise.corruption.double()
    z = composition.encoder(x_tilde)
    output = composition.decoder(z)
    expected = torch.zeros(6, dtype=torch.float64)
    for i in range(6):
        squared_error = sum((x[i, j] - output[i, j]) ** 2 + 0.5 * math.log(math.pi) for j in range(3))
        laplace = sum(2.0 * abs(z[i, j]) - math.log(2.0 / 2) for j in range(2))
        expected[i] = squared_error + 0.7 * laplace + 2 * z[i].sum()
    composition.penalties = (Twice(),)
    torch.testing.assert_close(Objective(0.7)(composition, trace), expected)
    composition.penalties = (Twice(), Twice())
    assert set(Objective(0.7).terms(composition, trace)) == {
        "reconstruction", "divergence", "Twice", "Twice_1",
    }  # fmt: skip


def test_without_noise_nothing_is_corrupted_and_the_loss_looks_at_the_clean_row(composition):
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator(1))
    assert composition(x).x_tilde is x
    trace = composition(x, composition.draw_noise(6, generator(2)))
    assert trace.x is x
    assert (trace.x_tilde != x).all()


def test_unobserved_cells_count_for_nothing(composition):
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator(1))
    observed = torch.ones_like(x, dtype=torch.bool)
    observed[:, 1] = False
    other = x.clone()
    other[:, 1] = 99.0
    objective = Objective()
    losses = [objective(composition, composition(Batch(rows, observed))) for rows in (x, other)]
    torch.testing.assert_close(losses[0], losses[1])


class Shifted:
    """Not a part: a method that a class may take before a part's own."""

    def forward(self, output):
        return Delta(output - output.mean(-1, keepdim=True))


class Mixed(Shifted, Point):
    """A part by a mixin."""


class Silent(KLSparsity):
    """A penalty that is computed in another way, and says nothing of it."""

    def forward(self, trace, composition):
        return self.weight * (trace.z.mean(0) - self.activity).abs().sum()


class Said(Silent):
    numbers = ("weight",)


class Blurred(GaussianNoise):
    """A subclass that computes what its parent does."""


@pytest.mark.parametrize(
    ("cls", "name", "expected"),
    [
        (Point, "is_elementwise", True),
        (Mixed, "is_elementwise", False),
        (Mixed, "is_identity", False),
        (Mixed, "ignores_idle_components", False),
        (KLSparsity, "numbers", ("activity", "weight")),
        (Silent, "numbers", ()),
        (Said, "numbers", ("weight",)),
        (Blurred, "numbers", ("variance",)),
        (Masking, "numbers", ("fraction", "value")),
        (SaltAndPepper, "numbers", ("fraction",)),
        (GaussianWeights, "ignores_idle_components", True),
        (BernoulliLikelihood, "ignores_idle_components", True),
        (type("Own", (Contractive,), {"forward": lambda *_: None}), "sees_draws", True),
    ],
)
def test_what_is_declared_of_a_method_does_not_outlive_it(cls, name, expected):
    assert getattr(cls(), name) == expected


def test_all_public_parts_are_documented_with_an_example():
    import eigencode.parts

    for name in eigencode.parts.__all__:
        assert getattr(eigencode.parts, name).__doc__, name
    assert issubclass(MLP, Part)
