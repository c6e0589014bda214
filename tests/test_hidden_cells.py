"""Cells that are not observed: whatever is written there changes no bit of anything."""

import copy

import pytest
import torch
from torch import nn

import eigencode.parts
from eigencode import Composition, Objective
from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.parts import (
    MLP,
    ActivatedLikelihood,
    AdaptiveKLSparsity,
    AdaptiveLaplace,
    AuxiliaryLoss,
    BernoulliLikelihood,
    CallableCorruption,
    Chain,
    Contractive,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    Custom,
    Decoding,
    Dictionary,
    Encoding,
    FirstColumns,
    Frozen,
    GaussianCode,
    GaussianLikelihood,
    GaussianNoise,
    GaussianWeights,
    HeadWeights,
    KLSparsity,
    LaplaceLikelihood,
    LaplacePrior,
    LinearPath,
    Masking,
    NegativeBinomialLikelihood,
    NestedDropout,
    OptimalCode,
    Part,
    Point,
    PoissonLikelihood,
    Rescaling,
    SaltAndPepper,
    Sigmoid,
    StandardNormalPrior,
    StudentTLikelihood,
    ThresholdedReLU,
    Tied,
    TopK,
)
from eigencode.parts.likelihoods.categorical import CategoricalLikelihood
from eigencode.parts.supervised import Reconstruction

N, D, K = 12, 5, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mlp():
    return MLP((6,), "tanh")


def affine(n_inputs, n_outputs):
    """A torch module of a user's."""
    module = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)
    with torch.no_grad():
        module.weight.uniform_(-1, 1, generator=generator(7))
        module.bias.zero_()
    return module


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
    "contractive, deep": lambda: Composition(LinearPath(MLP((6, 5))), mlp(), penalties=[Contractive(0.5, "exact")]),
    "contractive, hidden layer": lambda: Composition(mlp(), mlp(), penalties=[Contractive(0.5)]),
    "tied": lambda: Composition(MLP(), Tied(), weight_prior=GaussianWeights(2.0)),
    "images": lambda: Composition(ConvolutionalEncoder((1, 1, D), (3,)), ConvolutionalDecoder((1, 1, D), (3,))),
    "stack": lambda: Composition(
        Chain([Rescaling(), Encoding(mlp(), Point("relu")), Frozen(MLP())], widths=(D, 3)),
        Chain([MLP(), Decoding(mlp(), BernoulliLikelihood())], widths=(3,)),
        likelihood=ActivatedLikelihood("softplus"),
    ),
    "own network": lambda: Composition(Custom(affine(D, K)), Custom(affine(K, D))),
    "optimal": lambda: Composition(OptimalCode(20), Dictionary(), prior=LaplacePrior(0.4)),
    "revival of logits": lambda: sparse(
        code=TopK(2), likelihood=BernoulliLikelihood(), penalties=[AuxiliaryLoss()], corruption=Masking(0.2, 3.0)
    ),
    "head": lambda: Composition(FirstColumns(mlp(), 3), mlp(), weight_prior=HeadWeights(1.0)),
    "features": lambda: Composition(
        mlp(), mlp(), penalties=[Reconstruction(mlp(), LaplaceLikelihood(), n_columns=3, weight=0.5)]
    ),
}


def everything(model, x, observed):
    """Terms, gradients, and states of a step of training and of a look at held-out rows."""
    model = copy.deepcopy(model).train()
    trace = model(Batch(x, observed), model.draw_noise(N, generator(3)))
    objective = Objective()
    found = objective.terms(model, trace) | {"x": trace.x, "x_tilde": trace.x_tilde, "z": trace.z}
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(
        objective(model, trace).sum(), list(weights.values()), allow_unused=True, materialize_grads=True
    )
    found |= dict(zip(weights, gradients, strict=True))
    statistics = model.statistics(trace)
    found |= statistics | model.next_state(statistics, N)
    model.advance(statistics, N)
    model.take(model.validation_state(model.validation_statistics(trace)))
    model.eval()
    clean = model(Batch(x, observed))
    found |= {f"judged {name}": term for name, term in objective.terms(model, clean).items()}
    found |= {f"state {name}": value for name, value in model.named_buffers()}
    found["codes"] = model.encode(x, observed).mean
    return {name: value.detach() for name, value in found.items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_hidden_cell_changes_no_bit_of_anything(name):
    model = MODELS[name]()
    model.setup(D, K, generator())
    x = torch.randint(0, 2, (N, D), generator=generator(1)).float()
    model.eval().begin(x)
    observed = torch.rand(N, D, generator=generator(2)) < 0.6
    observed[0] = False  # a row of which nothing is known
    expected = everything(model, torch.where(observed, x, 0.0), observed)
    assert all(value.isfinite().all() for value in expected.values())
    for wild in (99.0, 1e30, torch.inf, -torch.inf, torch.nan):
        found = everything(model, torch.where(observed, x, wild), observed)
        assert found.keys() == expected.keys()
        for key, value in found.items():
            assert torch.equal(value, expected[key]), f"{key} with {wild} in the hidden cells"


def test_a_mask_is_of_type_bool():
    """A float or a NaN is no answer to whether a cell is known."""
    with pytest.raises(OptionError, match="of type bool"):
        Batch(torch.zeros(2, 3), torch.ones(2, 3))


def test_no_part_is_left_out():
    public = {getattr(eigencode.parts, name) for name in eigencode.parts.__all__}
    parts = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Part)}
    abstract = {kind for kind in parts if any(issubclass(other, kind) and other is not kind for other in parts)}
    tried = {type(module) for make in MODELS.values() for module in make().modules()}
    # Labels stand in columns of their own, and its likelihood is of those alone.
    assert parts - abstract - tried == {eigencode.parts.LastColumns}
