"""Cells that are not observed: whatever is written there changes no bit of anything."""

import copy

import pytest
import torch

from eigencode import Composition, Objective
from eigencode.parts import (
    MLP,
    AdaptiveKLSparsity,
    AdaptiveLaplace,
    AuxiliaryLoss,
    BernoulliLikelihood,
    CallableCorruption,
    Contractive,
    Dictionary,
    GaussianCode,
    GaussianLikelihood,
    GaussianNoise,
    KLSparsity,
    LaplaceLikelihood,
    LaplacePrior,
    LinearPath,
    Masking,
    NegativeBinomialLikelihood,
    NestedDropout,
    Point,
    PoissonLikelihood,
    SaltAndPepper,
    Sigmoid,
    StandardNormalPrior,
    StudentTLikelihood,
    ThresholdedReLU,
    TopK,
)
from eigencode.parts.likelihoods.categorical import CategoricalLikelihood
from eigencode.parts.supervised import Reconstruction

N, D, K = 12, 5, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mlp():
    return MLP((6,), "tanh")


def sparse(**words):
    return Composition(mlp(), Dictionary(), **words)


MODELS = {
    "gaussian": lambda: Composition(LinearPath(mlp()), mlp()),
    "learned variance": lambda: Composition(mlp(), mlp(), likelihood=GaussianLikelihood("per_feature")),
    "laplace": lambda: Composition(mlp(), mlp(), likelihood=LaplaceLikelihood(), prior=LaplacePrior(0.3)),
    "student": lambda: Composition(mlp(), mlp(), likelihood=StudentTLikelihood(), corruption=GaussianNoise(0.3)),
    "bernoulli": lambda: Composition(mlp(), mlp(), likelihood=BernoulliLikelihood(), corruption=Masking(0.3)),
    "poisson": lambda: Composition(mlp(), mlp(), likelihood=PoissonLikelihood(), corruption=SaltAndPepper(0.3)),
    "negative binomial": lambda: Composition(mlp(), mlp(), likelihood=NegativeBinomialLikelihood()),
    "categorical": lambda: Composition(mlp(), mlp(), likelihood=CategoricalLikelihood()),
    "function": lambda: Composition(mlp(), mlp(), corruption=CallableCorruption(lambda x, noise: x * 2 + noise)),
    "variational": lambda: Composition(mlp(), mlp(), GaussianCode(), prior=StandardNormalPrior(warmup=2.0)),
    "importance": lambda: Composition(mlp(), mlp(), GaussianCode(n_draws=3), prior=StandardNormalPrior()),
    "ordered": lambda: Composition(mlp(), mlp(), NestedDropout(), penalties=[Contractive(0.5)]),
    "contractive": lambda: Composition(MLP(), MLP(), Point("tanh"), penalties=[Contractive(0.5, "hutchinson")]),
    "top-k": lambda: sparse(code=TopK(2), penalties=[AuxiliaryLoss()]),
    "l1": lambda: sparse(code=ThresholdedReLU(2.0), prior=AdaptiveLaplace(2.0), penalties=[AuxiliaryLoss(n_units=2)]),
    "kl": lambda: Composition(MLP(), MLP(), Sigmoid(0.1), penalties=[KLSparsity(0.1), AdaptiveKLSparsity(0.1)]),
    "features": lambda: Composition(
        mlp(), mlp(), penalties=[Reconstruction(mlp(), LaplaceLikelihood(), n_columns=3, weight=0.5)]
    ),
}


def everything(model, x, observed):
    """Terms, gradients, and states of a step of training and of a look at held-out rows."""
    model = copy.deepcopy(model).train()
    trace = model(x, model.draw_noise(N, generator(3)), observed=observed)
    objective = Objective()
    found = objective.terms(model, trace) | {"x": trace.x, "x_tilde": trace.x_tilde, "z": trace.z}
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(
        objective(model, trace).sum(), list(weights.values()), allow_unused=True, materialize_grads=True
    )
    found |= dict(zip(weights, gradients, strict=True)) | model.next_state(trace)
    model.advance(trace)
    model.review(trace)
    model.eval()
    clean = model(x, observed=observed)
    found |= {f"judged {name}": term for name, term in objective.terms(model, clean).items()}
    found |= {f"state {name}": value for name, value in model.named_buffers()}
    found["codes"] = model.encode(x, observed).mean
    return {name: value.detach() for name, value in found.items()}


@pytest.mark.parametrize("mask", [torch.float32, torch.bool, torch.int64], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_hidden_cell_changes_no_bit_of_anything(name, mask):
    model = MODELS[name]()
    model.setup(D, K, generator())
    x = torch.randint(0, 2, (N, D), generator=generator(1)).float()
    model.eval().begin(x)
    observed = torch.rand(N, D, generator=generator(2)) < 0.6
    observed[0] = False  # a row of which nothing is known
    expected = everything(model, torch.where(observed, x, 0.0), observed.to(mask))
    assert all(value.isfinite().all() for value in expected.values())
    for wild in (99.0, 1e30, torch.inf, -torch.inf, torch.nan):
        found = everything(model, torch.where(observed, x, wild), observed.to(mask))
        assert found.keys() == expected.keys()
        for key, value in found.items():
            assert torch.equal(value, expected[key]), f"{key} with {wild} in the hidden cells"
