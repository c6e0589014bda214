"""Jacobians against torch's own in a slow loop, closed forms against both, estimates against what they estimate."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, stack_module_state, vmap

from eigencode import Composition
from eigencode.errors import OptionError
from eigencode.model import jacobians
from eigencode.model.jacobians import (
    diagonal,
    diagonal_through,
    hutchinson,
    is_one_layer,
    jacobian,
    local_dimension,
    n_passes,
    one_layer_squared_frobenius,
    singular_values,
    slope,
    squared_frobenius,
)
from eigencode.parts import MLP, Custom, LinearPath, NestedDropout, Point
from eigencode.parts.codes.base import Code
from eigencode.parts.distributions import Delta

D, K, N = 6, 3, 5
ACTIVATIONS = ["sigmoid", "tanh", "gelu", "softplus", "silu", "elu", "relu"]


class Activated(Code):
    """A point code with an elementwise activation."""

    is_elementwise = True

    def __init__(self, activation):
        super().__init__()
        self.activation = activation

    def forward(self, output):
        return Delta(self.activation(output))


class Doubled(Code):
    """A code that asks for twice as many numbers as it has components, as a Gaussian one does."""

    activation = None

    def width(self, n_components):
        return 2 * n_components

    def forward(self, output):
        return Delta(output[:, : output.shape[1] // 2])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=N, d=D, seed=1):
    return torch.randn(n, d, dtype=torch.float64, generator=generator(seed))


def composed(encoder, code=None, d=D, k=K, decoder=None, seed=0):
    """A composition whose every parameter is far from zero, in float64."""
    model = Composition(copy.deepcopy(encoder), decoder or MLP((4,), "tanh"), code=copy.deepcopy(code))
    model.setup(d, k, generator(seed))
    model.double()
    noise = generator(seed + 100)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=noise)
    return model


def layer(dtype=None):
    """A linear module of no library's initial values, to be moved away from zero."""
    module = nn.utils.skip_init(nn.Linear, D, K, dtype=dtype)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return module


def slow_jacobians(function, x):
    """torch.autograd.functional.jacobian, a row at a time."""
    one = [torch.autograd.functional.jacobian(lambda row: function(row[None])[0], row) for row in x]
    return torch.stack(one).detach()


def mean_code(model):
    return lambda x: model.encode(x).mean


def close(found, expected, tolerance=1e-10):
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=tolerance, atol=tolerance)


ENCODERS = {
    "linear": MLP(),
    **{f"one hidden {name}": MLP((7,), name) for name in ACTIVATIONS},
    "two hidden": MLP((5, 4), "gelu"),
    "three hidden": MLP((5, 8, 4), "tanh"),
    "linear path": LinearPath(MLP((7,), "tanh")),
    "gated linear path": LinearPath(MLP((7,), "gelu"), gated=True),
    "deep linear path": LinearPath(MLP((5, 4), "gelu")),
    "foreign": Custom(nn.Sequential(layer(), nn.LayerNorm(K), nn.Softmax(1))),
}
CODES = {"point": Point(), "ordered": NestedDropout(), "sigmoid": Point("sigmoid"), "own": Activated(torch.atan)}
MODELS = [pytest.param(e, c, id=f"{m}, {n}") for m, e in ENCODERS.items() for n, c in CODES.items()]


@pytest.mark.parametrize(("encoder", "code"), MODELS)
@pytest.mark.parametrize("n", [1, 40])
def test_jacobians_and_norms_are_torchs(encoder, code, n):
    """Few rows and many take different ways to the norm; both are exact."""
    model, x = composed(encoder, code), rows(n)
    expected = slow_jacobians(mean_code(model), x)
    close(jacobian(model, x), expected)
    close(squared_frobenius(model, x), expected.square().sum((1, 2)))


@pytest.mark.parametrize("encoder", [MLP(), MLP((5,), "tanh"), MLP((5, 4), "gelu")], ids=["0", "1", "2"])
def test_codes_longer_than_rows_are_found_forward(encoder, monkeypatch):
    monkeypatch.setattr(jacobians, "_backward_passes", None)  # would be the dearer way
    model, x = composed(encoder, Activated(torch.tanh), d=2, k=7), rows(d=2)
    expected = slow_jacobians(mean_code(model), x)
    close(jacobian(model, x), expected)
    close(squared_frobenius(model, x), expected.square().sum((1, 2)))
    close(singular_values(model, x), torch.linalg.svdvals(expected))


def test_codes_shorter_than_rows_are_found_backward(monkeypatch):
    monkeypatch.setattr(jacobians, "_forward_passes", None)
    jacobian(composed(MLP((5, 4))), rows())


@pytest.mark.parametrize("numbers", [1, 2 * K * D, 10**6])
def test_chunks_change_nothing(monkeypatch, numbers):
    model, x = composed(MLP((5, 4))), rows()
    expected = slow_jacobians(mean_code(model), x)
    sizes = []
    passes = jacobians._backward_passes
    monkeypatch.setattr(jacobians, "_backward_passes", lambda f, x: (sizes.append(len(x)), passes(f, x))[1])
    monkeypatch.setattr(jacobians, "NUMBERS_A_CHUNK", numbers)
    close(jacobian(model, x), expected)
    assert sizes == {1: [1] * 5, 2 * K * D: [2, 2, 1], 10**6: [5]}[numbers]
    close(squared_frobenius(model, x), expected.square().sum((1, 2)))
    close(singular_values(model, x), torch.linalg.svdvals(expected))


def test_layers_have_few_rows_at_once_without_gradients(monkeypatch):
    """With gradients they are kept anyway."""
    model, x, seen = composed(MLP((5, 4), "tanh")), rows(), []
    forward = nn.Tanh.forward
    monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: seen.append(len(x)) or forward(self, x))
    monkeypatch.setattr(jacobians, "ROWS_A_CHUNK", 2)
    expected = squared_frobenius(model, x)
    assert max(seen) == N
    seen.clear()
    with torch.no_grad():
        found = squared_frobenius(model, x)
    assert max(seen) == 2
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("encoder", [MLP(), MLP((5,)), MLP((5, 4))], ids=["0", "1", "2"])
def test_no_rows_are_no_jacobians(encoder):
    model = composed(encoder)
    assert jacobian(model, rows(0)).shape == (0, K, D)
    assert squared_frobenius(model, rows(0)).shape == (0,)


def test_the_reconstruction_through_the_code_is_torchs():
    model, x = composed(MLP((5,), "tanh")), rows()
    expected = slow_jacobians(lambda x: model.reconstruct(x).mean, x)
    close(jacobian(lambda x: model.reconstruct(x).mean, x), expected)


# -- closed forms


def test_one_sigmoid_layer_is_rifais_formula():
    model, x = composed(MLP(), Point("sigmoid")), rows()
    weight, bias = model.encoder.affine.weight, model.encoder.affine.bias
    expected = torch.zeros(N, dtype=torch.float64)
    for i in range(N):
        for j in range(K):
            h = 1 / (1 + math.exp(-(weight[j] @ x[i] + bias[j]).item()))
            expected[i] += (h * (1 - h)) ** 2 * weight[j].square().sum().item()
    close(squared_frobenius(model, x), expected)
    close(one_layer_squared_frobenius(weight, x @ weight.T + bias, torch.sigmoid), expected)


def test_the_closed_form_of_one_layer_leaves_hidden_columns_out():
    model, x = composed(MLP(), Point("sigmoid")), rows()
    observed = torch.rand(N, D, generator=generator(3)) < 0.5
    weight, bias = model.encoder.affine.weight, model.encoder.affine.bias
    expected = torch.zeros(N, dtype=torch.float64)
    for n, j, i in itertools.product(range(N), range(K), range(D)):
        h = torch.sigmoid(sum(weight[j, c] * x[n, c] for c in range(D) if observed[n, c]) + bias[j])
        expected[n] += (h * (1 - h)).square() * weight[j, i].square() * observed[n, i]
    close(squared_frobenius(model, x, observed=observed), expected)
    close(squared_frobenius(mean_code(model), x, observed=observed), expected)
    linear = one_layer_squared_frobenius(weight, x @ weight.T, observed=observed)
    close(linear, (observed * weight.square().sum(0)).sum(1))


def test_a_linear_maps_norm_is_its_weights():
    model, x = composed(MLP()), rows()
    weight = model.encoder.affine.weight
    close(squared_frobenius(model, x), weight.square().sum().expand(N))
    close(one_layer_squared_frobenius(weight, x @ weight.T), weight.square().sum().expand(N))


@pytest.mark.parametrize("module", [nn.Sigmoid(), nn.GELU(), nn.PReLU(3, dtype=torch.float64), nn.SiLU(inplace=True)])
def test_the_slope_of_any_elementwise_module_is_its_derivative(module):
    a = rows(4, 3)
    step = 1e-6
    with torch.no_grad():
        expected = (module(a + step) - module(a - step)) / (2 * step)
    close(slope(module, a), expected, 1e-8)
    close(a, rows(4, 3), 0)


def test_one_layer_is_recognised():
    assert is_one_layer(composed(MLP()))
    assert is_one_layer(composed(MLP(), NestedDropout()))
    assert is_one_layer(composed(MLP(), Point("sigmoid")))
    assert is_one_layer(composed(MLP(), Activated(torch.sigmoid)))
    assert not is_one_layer(composed(MLP((7,))))
    assert not is_one_layer(composed(MLP(), Doubled()))
    assert not is_one_layer(composed(LinearPath(MLP((7,)))))
    assert not is_one_layer(composed(Custom(layer())))


def test_an_unknown_code_takes_no_closed_form():
    """Its mean is the first half of the encoder's output, so neither layer's closed form would be right."""
    for encoder in (MLP(), MLP((5,), "tanh"), LinearPath(MLP((5,), "tanh"))):
        model, x = composed(encoder, Doubled()), rows(40)
        close(squared_frobenius(model, x), slow_jacobians(mean_code(model), x).square().sum((1, 2)))


def test_closed_forms_are_not_found_by_passes(monkeypatch):
    monkeypatch.setattr(jacobians, "_jacobians", None)
    for encoder in (MLP(), MLP((7,)), LinearPath(MLP((7,)))):
        for code in (Point(), Point("identity")):
            squared_frobenius(composed(encoder, code), rows(40))
    squared_frobenius(composed(MLP(), Point("sigmoid")), rows(40))


@pytest.mark.parametrize(("encoder", "code"), MODELS)
@pytest.mark.parametrize("n", [1, 40])
def test_the_number_of_passes_is_what_is_taken(encoder, code, n, monkeypatch):
    model, taken = composed(encoder, code), []
    passes = jacobians._backward_passes
    monkeypatch.setattr(jacobians, "_backward_passes", lambda f, x: (taken.append(K), passes(f, x))[1])
    squared_frobenius(model, rows(n))
    assert sum(taken) == n_passes(model, n)


# -- estimates


@pytest.mark.parametrize("encoder", [MLP(), MLP((5,), "tanh"), MLP((5, 4))], ids=["0", "1", "2"])
def test_a_full_basis_as_noise_adds_up_to_the_norm(encoder):
    model, x = composed(encoder, Activated(torch.sigmoid)), rows()
    expected = slow_jacobians(mean_code(model), x).square().sum((1, 2))
    close(sum(hutchinson(model, x, unit.expand(N, K)) for unit in torch.eye(K, dtype=torch.float64)), expected)


def test_the_mean_and_variance_over_all_signs_are_exact():
    model, x = composed(MLP((5, 4))), rows()
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=K)), dtype=torch.float64)
    found = torch.stack([hutchinson(model, x, v.expand(N, K)) for v in signs])
    j = slow_jacobians(mean_code(model), x)
    gram = j @ j.mT
    close(found.mean(0), j.square().sum((1, 2)))
    off_diagonal = gram - torch.diag_embed(gram.diagonal(dim1=1, dim2=2))
    close(found.var(0, correction=0), 2 * off_diagonal.square().sum((1, 2)))


def test_normal_noise_is_unbiased_within_four_standard_errors():
    model, x = composed(MLP((5, 4))), rows(1)
    n = 20_000
    found = hutchinson(model, x.expand(n, D), rows(n, K, seed=3))
    gram = jacobian(model, x)[0] @ jacobian(model, x)[0].T
    variance = 2 * gram.square().sum()
    assert abs(found.mean() - gram.trace()) < 4 * (variance / n).sqrt()
    assert found.var().item() == pytest.approx(variance.item(), rel=0.2)


def test_noise_of_another_shape_is_refused():
    with pytest.raises(OptionError, match="The noise must have one number for each of"):
        hutchinson(composed(MLP()), rows(), rows(N, 1))


# -- gradients


QUANTITIES = {
    "norm": lambda m, x: squared_frobenius(m, x),
    "jacobian": lambda m, x: jacobian(m, x),
    "back": lambda m, x: hutchinson(m, x, NOISE[: len(x), : m.n_components]),
    "masked": lambda m, x: squared_frobenius(m, x, observed=(NOISE[: len(x), : m.n_features] > -0.3)),
}
NOISE = rows(N, D, seed=5)


@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=QUANTITIES)
@pytest.mark.parametrize(
    ("encoder", "code", "sizes"),
    [
        (MLP(), Activated(torch.sigmoid), (3, 2)),
        (MLP((3,), "tanh"), None, (3, 2)),
        (LinearPath(MLP((3,), "gelu"), gated=True), None, (3, 2)),
        (MLP((3, 2), "gelu"), None, (3, 2)),
        (MLP((3, 2), "silu"), Activated(torch.tanh), (2, 3)),
    ],
    ids=["one layer", "one hidden", "path", "deep", "forward passes"],
)
def test_gradients_with_respect_to_the_parameters_are_finite_differences(quantity, encoder, code, sizes):
    d, k = sizes
    model, x = composed(encoder, code, d, k), rows(4, d)
    names, values = zip(*((n, p.detach()) for n, p in model.encoder.named_parameters()), strict=True)

    def of(*values):
        assigned = {f"encoder.{name}": value for name, value in zip(names, values, strict=True)}
        return functional_call(_Asked(model, quantity), {f"model.{n}": v for n, v in assigned.items()}, (x,))

    assert torch.autograd.gradcheck(of, tuple(value.clone().requires_grad_() for value in values))


class _Asked(nn.Module):
    """A quantity of a model as a module's call, for functional_call."""

    def __init__(self, model, quantity):
        super().__init__()
        self.model, self.quantity = model, quantity

    def forward(self, x):
        return self.quantity(self.model, x)


@pytest.mark.parametrize("encoder", [MLP((3,), "tanh"), MLP((3, 2), "tanh")], ids=["one hidden", "deep"])
def test_a_step_down_the_gradient_contracts(encoder):
    model, x = composed(encoder), rows(20)
    before = squared_frobenius(model, x).mean()
    before.backward()
    with torch.no_grad():
        for p in model.encoder.parameters():
            p -= 1e-3 * (0 if p.grad is None else p.grad)
    after = slow_jacobians(mean_code(model), x).square().sum((1, 2)).mean()
    slope_ = sum(p.grad.square().sum() for p in model.encoder.parameters() if p.grad is not None)
    assert (before - after).item() == pytest.approx(1e-3 * slope_.item(), rel=0.1)


@pytest.mark.parametrize("encoder", [MLP(), MLP((5,)), LinearPath(MLP((5,))), MLP((5, 4))], ids=["0", "1", "path", "2"])
@pytest.mark.parametrize("quantity", [*QUANTITIES.values(), singular_values])
def test_gradients_may_be_off(encoder, quantity):
    model, x = composed(encoder), rows()
    expected = quantity(model, x)
    with torch.no_grad():
        found = quantity(model, x)
    assert not found.requires_grad
    close(found, expected)
    with torch.inference_mode():
        made_inside = x.clone()
        close(quantity(model, x), expected)
        close(quantity(model, made_inside), expected)
    assert made_inside.is_inference()
    found = quantity(model, made_inside)
    close(found, expected)
    assert found.requires_grad  # the parameters can still be learned
    with torch.no_grad():
        close(quantity(model, made_inside), expected)


@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_forward_products_are_those_of_the_whole_jacobian(context):
    """With constants, of which nothing is a derivative, and where the function does not depend on its argument."""
    model = composed(LinearPath(MLP((5, 4), "gelu")), Activated(torch.tanh), d=2, k=7)
    expected = slow_jacobians(mean_code(model), rows(d=2))
    with context():
        x, v = rows(d=2), rows(7, 2, seed=2)
        close(jacobian(model, x), expected)
        close(
            diagonal(lambda x: mean_code(model)(x)[:, :2], x, 2**0.5 * torch.eye(2).to(x)), expected[:, [0, 1], [0, 1]]
        )
        assert not diagonal(torch.ones_like, x, v[:, None]).any()


@pytest.mark.parametrize("encoder", [MLP(), MLP((5,)), MLP((5, 4))], ids=["0", "1", "2"])
@pytest.mark.parametrize("quantity", QUANTITIES.values(), ids=QUANTITIES)
def test_many_models_are_one_program(encoder, quantity):
    models = [composed(encoder, Activated(torch.tanh), seed=seed) for seed in range(3)]
    parameters, buffers = stack_module_state(models)
    x = rows()

    def of(parameters, buffers):
        parameters = {f"model.{name}": value for name, value in parameters.items()}
        return functional_call(_Asked(models[0], quantity), (parameters, buffers), (x,))

    for found, model in zip(vmap(of)(parameters, buffers), models, strict=True):
        close(found, quantity(model, x))


# -- singular values and dimension


def test_singular_values_are_numpys():
    model, x = composed(MLP((5, 4))), rows()
    expected = [np.linalg.svd(j, compute_uv=False) for j in slow_jacobians(mean_code(model), x).numpy()]
    close(singular_values(model, x), torch.from_numpy(np.array(expected)))


def test_a_dead_unit_has_no_direction():
    model = composed(MLP(), Activated(torch.relu))
    with torch.no_grad():
        model.encoder.affine.bias[0] = -1e3
    values = singular_values(model, rows())
    assert (values[:, -1] < 1e-12).all()
    assert (local_dimension(values, share=1.0) < K).all()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95, 1.0])
def test_the_local_dimension_is_the_smallest_number_that_keeps_the_share(share):
    values = rows(50, 6).abs().sort(1, descending=True).values
    found = local_dimension(values, share)
    for row, m in zip(values.square(), found.tolist(), strict=True):
        assert row[:m].sum() >= share * row.sum() * (1 - 1e-9)
        assert row[: m - 1].sum() < share * row.sum()


def test_the_local_dimension_counts_exactly():
    values = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert local_dimension(values, 0.8).tolist() == [1, 3, 1, 0]
    assert local_dimension(values, 0.81).tolist() == [2, 3, 1, 0]
    assert local_dimension(values, 1.0).tolist() == [2, 3, 1, 0]
    for share in (0, 1.1, float("nan")):
        with pytest.raises(OptionError, match="The share of the squared norm"):
            local_dimension(values, share)


def test_a_map_onto_a_line_has_one_dimension():
    direction = rows(1, D)
    values = singular_values(lambda x: torch.tanh(x @ direction.T) @ direction, rows())
    assert local_dimension(values, 1 - 1e-6).tolist() == [1] * N


# -- what the norm is for


def test_small_noise_costs_the_norm_of_the_reconstructions_jacobian():
    r"""E||r(x+e) - x||^2 = ||r(x) - x||^2 + v (||J_r||_F^2 - (x - r(x)) . Lap r(x)) + O(v^2).

    The expectation over Gaussian e is a product of Gauss-Hermite sums, exact to rounding at these variances; halving v
    quarters what the formula leaves over.
    """
    d = 3
    model, x = composed(MLP((4,), "tanh"), d=d, k=2, decoder=MLP((4,), "tanh")), rows(4, d)

    def r(x):
        return model.reconstruct(x).mean

    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    grid = torch.tensor(list(itertools.product(nodes, repeat=d)))
    share = torch.tensor(list(itertools.product(weights / weights.sum(), repeat=d))).prod(1)

    def expected_error(v):
        moved = r((x[:, None] + math.sqrt(v) * grid).reshape(-1, d)).reshape(len(x), -1, d)
        return ((moved - x[:, None]).square().sum(2) * share).sum(1)

    laplacian = torch.stack([hessian(lambda row: r(row[None])[0])(row).diagonal(dim1=1, dim2=2).sum(1) for row in x])
    slope_ = jacobian(r, x).square().sum((1, 2)) - ((x - r(x)) * laplacian).sum(1)
    start = (r(x) - x).square().sum(1)
    with torch.no_grad():
        left_over = [(expected_error(v) - start - v * slope_) for v in (2e-4, 1e-4)]
        size = left_over[0].abs().max()
        assert size < 0.02 * 2e-4 * slope_.abs().max()
        # In a row whose term in v^2 is small by chance the next one shows, which the largest row's term exceeds.
        torch.testing.assert_close(left_over[0] / size, 4 * left_over[1] / size, atol=0.05, rtol=0)


def test_the_diagonal_through_a_code_is_that_of_the_whole_map():
    x = torch.rand(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a, b = (torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    f, g = (lambda x: torch.tanh(x @ a)), (lambda z: torch.sin(z @ b.T))
    found = diagonal_through(f, g, x)
    torch.testing.assert_close(found, diagonal(lambda x: g(f(x)), x, 5**0.5 * torch.eye(5, dtype=torch.float64)))


def test_forward_products_can_be_differentiated_and_are_one_program():
    models = [composed(MLP((3,), "tanh"), Activated(torch.tanh), d=2, k=3, seed=seed) for seed in range(2)]
    x = rows(4, 2)

    def of(parameters, buffers):
        parameters = {f"model.{name}": value for name, value in parameters.items()}
        return functional_call(_Asked(models[0], jacobian), (parameters, buffers), (x,))

    parameters, buffers = stack_module_state(models)
    for found, model in zip(vmap(of)(parameters, buffers), models, strict=True):
        close(found, slow_jacobians(mean_code(model), x))
    names = list(parameters)
    values = tuple(value.detach()[0].requires_grad_() for value in parameters.values())
    assert torch.autograd.gradcheck(lambda *values: of(dict(zip(names, values, strict=True)), {}), values)


@pytest.mark.parametrize("at_once", [1, 50, 2**18])
def test_the_diagonal_is_the_same_by_any_number_of_derivatives_at_once(monkeypatch, at_once):
    monkeypatch.setattr(jacobians, "TANGENTS_AT_ONCE", at_once)
    x = torch.rand(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    calls = []

    def g(z):
        calls.append(len(z))
        return torch.sin(z @ a.T)

    literal = jacobian(lambda x: torch.sin(torch.tanh(x @ a) @ a.T), x).diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonal_through(lambda x: torch.tanh(x @ a), g, x), literal)
    assert calls == [7]  # the function itself is evaluated once
    probes = (5**0.5 * v for v in torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(diagonal(lambda x: g(torch.tanh(x @ a)), x, probes), literal)
    assert calls == [7, 7]
