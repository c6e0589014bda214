"""Steps have no subnormal numbers, of which some processors take a hundred times as long to add and multiply."""

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from eigencode import Autoencoder, DenoisingAutoencoder, VariationalAutoencoder
from eigencode.model.pca import second_moment, spectrum_of_moment
from eigencode.parts import Masking, MixturePrior, Sizes
from eigencode.training import runner
from eigencode.training.cpu_graphs import Operators


class Subnormal(Operators):
    """Counts the subnormal numbers in the results of operators, by the operator's name and the result's shape."""

    def __init__(self):
        super().__init__()
        self.found, self.n_operators = {}, 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        self.n_operators += 1
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                size = tensor.detach().abs()
                n = int(((size > 0) & (size < torch.finfo(size.dtype).tiny)).sum())
                if n:
                    key = str(function), tuple(size.shape)
                    self.found[key] = self.found.get(key, 0) + n
        return result


def clusters(n, d):
    """Rows of six clusters in three dimensions, far from each other, with noise; every ninth column is constant."""
    rng = np.random.default_rng(0)
    centers = 20 * rng.normal(size=(6, 3))
    factors = centers[rng.integers(6, size=n)] + rng.normal(size=(n, 3))
    rows = factors @ rng.normal(size=(3, d)) + 0.1 * rng.normal(size=(n, d))
    rows[:, ::9] = 0
    return rows.astype(np.float32)


@pytest.mark.parametrize(
    "model",
    [
        Autoencoder(8, hidden=(32,)),
        Autoencoder(8, hidden=(32,), activation="sigmoid"),
        DenoisingAutoencoder(8, hidden=(32,)),
        DenoisingAutoencoder(8, hidden=(32,), noise=Masking(0.3)),
        VariationalAutoencoder(3, hidden=(32,)),
        VariationalAutoencoder(80, hidden=(96,)),
    ],
    ids=repr,
)
def test_a_step_has_no_subnormal_numbers(model, monkeypatch):
    monkeypatch.setattr(runner, "recorded", lambda move, *_: move)
    counted, move = Subnormal(), runner.SingleRunner._move

    def watched(self, *arguments):
        with counted:
            return move(self, *arguments)

    monkeypatch.setattr(runner.SingleRunner, "_move", watched)
    model.set_params(max_epochs=2, precision="float32", random_state=0).fit(clusters(600, 300))
    assert counted.n_operators > 200
    assert counted.found == {}


def test_the_gradient_of_a_mixture_is_that_of_its_formula_without_far_gaussians():
    """Gaussians at distances up to 30: log-densities and gradients are those of float64 by the plain formula."""
    z = torch.linspace(-30, 30, 200)[:, None] * torch.ones(2)
    found = {}
    for dtype in (torch.float32, torch.float64):
        prior = MixturePrior(size=31)
        prior.setup(Sizes(5, 2))
        with torch.no_grad():
            prior.means.copy_(torch.linspace(-30, 30, 31)[:, None] * torch.ones(2))
        prior.to(dtype)
        rows = z.to(dtype).requires_grad_()
        if dtype == torch.float32:
            value = prior.log_prob(rows)
        else:
            squares = (rows[:, None] - prior.means).square().sum(-1)
            value = (prior.logits.log_softmax(0) - 0.5 * squares - np.log(2 * np.pi)).logsumexp(-1)
        with Subnormal() as counted:
            gradients = torch.autograd.grad(value.mean(), [rows, prior.logits, prior.means])
        found[dtype] = [value.detach(), *gradients]
        assert dtype == torch.float64 or counted.found == {}
    for ours, literal in zip(*found.values(), strict=True):
        torch.testing.assert_close(ours.double(), literal, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("d", [40, 300, 784])
def test_directions_are_zero_at_constant_columns_only(d):
    """Eigenvectors of many columns have entries of 1e-40 at those that are constant; a tiny column is none of these."""
    rows = torch.from_numpy(clusters(1000, d)).double()
    constant, tiny = list(range(0, d, 9)), 1
    rows[:, tiny] *= 1e-17
    moment = second_moment(rows - rows.mean(0))
    found = spectrum_of_moment(moment, 3)
    assert bool((found.directions[constant] == 0).all())
    assert bool((found.directions[tiny] != 0).any())
    products = moment @ found.directions
    torch.testing.assert_close(products, found.directions * found.eigenvalues, rtol=1e-9, atol=1e-9 * found.total)
    torch.testing.assert_close(found.directions.T @ found.directions, torch.eye(3, dtype=torch.float64))
