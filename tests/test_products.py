"""Products of many models are the same sums, made the way round that is fast."""

import pytest
import torch

from eigencode import Autoencoder, fit_many
from eigencode.training import cpu_graphs, vectorized
from eigencode.training.products import BiasApart, FastProducts, is_faster_transposed


@pytest.mark.parametrize(("n", "inputs", "outputs"), [(31, 64, 8), (31, 8, 64), (124, 64, 32), (5, 3, 2), (7, 7, 7)])
def test_a_layer_and_its_gradients_are_those_of_separate_products(n, inputs, outputs):
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(3, n, inputs, generator=generator), torch.randn(3, outputs, inputs, generator=generator)
    x, weights = (one.double().requires_grad_() for one in (x, weights))
    with FastProducts():
        output = torch.bmm(x, weights.mT)
        found = torch.autograd.grad((-output.square()).sum(), [x, weights])
    for k in range(3):
        alone, own = x[k].detach(), weights[k].detach()
        torch.testing.assert_close(output[k], alone @ own.T)
        torch.testing.assert_close(found[0][k], -2 * alone @ own.T @ own)
        torch.testing.assert_close(found[1][k], -2 * own @ alone.T @ alone)


@pytest.mark.parametrize("n_rows", [100, 32, 16])
def test_gradients_of_weights_have_the_layout_of_the_weights(n_rows):
    x, weights = torch.ones(2, n_rows, 40), torch.ones(2, 30, 40, requires_grad=True)
    with FastProducts():
        (gradient,) = torch.autograd.grad(torch.bmm(x, weights.mT).sum(), [weights])
    assert gradient.is_contiguous()


def test_few_columns_become_many():
    assert is_faster_transposed(torch.ones(1, 100, 20), torch.ones(1, 20, 8))
    assert not is_faster_transposed(torch.ones(1, 8, 20), torch.ones(1, 20, 100))
    assert not is_faster_transposed(torch.ones(1, 100, 20), torch.ones(1, 20, 50))


def test_multiples_of_an_expanded_tensor_are_made_once():
    cells = torch.arange(6.0).view(2, 3, 1).expand(2, 3, 4)
    with FastProducts():
        found = torch.ops.aten.mul.Scalar(cells, -2.0)
    assert torch.equal(found, -2 * cells.contiguous())
    assert found.untyped_storage().nbytes() == 6 * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bias_added_apart_is_that_of_the_layer(dtype):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in ((2, 5, 3), (4, 3), 4))
    linear = torch.nn.functional.linear
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        expected, without = linear(x, weight, bias), linear(x, weight)
        with BiasApart():
            found = linear(x, weight, bias), linear(x, bias=bias, weight=weight)
            assert torch.equal(linear(x, weight), without)
    for one in found:
        assert one.dtype == dtype
        # The product alone is rounded once more.
        torch.testing.assert_close(
            one, expected, rtol=2 * torch.finfo(dtype).eps, atol=0.02 if dtype is torch.bfloat16 else 1e-6
        )


def test_a_step_of_a_program_multiplies_nothing_by_one(monkeypatch):
    """Nor does a replay make what is the same each time, such as the gradient of the sum of the objectives."""
    kept = []
    monkeypatch.setattr(
        cpu_graphs,
        "in_little_memory",
        lambda given, output, own=cpu_graphs.in_little_memory: kept.append(given) or own(given, output),
    )
    rows = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)).numpy()
    fit_many([Autoencoder(3, hidden=(20,), max_epochs=3, optimizer="adam", random_state=s) for s in range(3)], rows)
    assert kept
    for operations in kept:
        numbers = [one.given[1] for one in operations if one.function is torch.ops.aten.mul.Scalar]
        assert 1 not in numbers
        assert not cpu_graphs.CONSTANTS & {one.function for one in operations}


def test_programs_make_products_this_way(monkeypatch):
    """A program that is made the usual way ends with the same weights up to rounding."""
    rows = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)).numpy()
    used = []

    class Counted(FastProducts):
        def __enter__(self):
            used.append(self)
            return super().__enter__()

    def fitted():
        models = [Autoencoder(3, hidden=(20,), max_epochs=3, optimizer="adam", random_state=seed) for seed in range(3)]
        assert fit_many(models, rows) == ["3 models in one program"]
        return models

    monkeypatch.setattr(vectorized, "FastProducts", Counted)
    one = fitted()
    assert used
    monkeypatch.setattr(vectorized, "FastProducts", torch.enable_grad)
    for model, other in zip(one, fitted(), strict=True):
        assert model.best_objective_ == pytest.approx(other.best_objective_, rel=1e-4)
