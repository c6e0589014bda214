"""Cells that are not observed: whatever is written there changes no bit of anything."""

import copy

import pytest
import torch
from torch import nn

import eigencode.parts
from eigencode import Composition, Objective
from eigencode.batch import Batch
from eigencode.data.rows import ResidentRows
from eigencode.parts import (
    MLP,
    ActivatedLikelihood,
    AdaptiveKLSparsity,
    AdaptiveLaplace,
    AuxiliaryLoss,
    BernoulliLikelihood,
    BinaryCodeLikelihood,
    CallableCorruption,
    CategoricalLikelihood,
    Chain,
    ColumnsLikelihood,
    Completing,
    Contractive,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    Custom,
    Decoding,
    Dictionary,
    Encoding,
    FineTunedWeights,
    FirstColumns,
    Frozen,
    GaussianCode,
    GaussianLikelihood,
    GaussianNoise,
    GaussianWeights,
    HeadWeights,
    InputDropout,
    KLSparsity,
    LaplaceLikelihood,
    LaplacePrior,
    LastColumns,
    LinearPath,
    Masking,
    MixturePrior,
    NegativeBinomialLikelihood,
    NestedDropout,
    OptimalCode,
    OrdinalLikelihood,
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
from eigencode.parts.supervised import Reconstruction
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.evaluation import evaluate, learn_from_validation
from eigencode.training.execution import Execution
from eigencode.training.optimizers import ClippedAdam
from eigencode.training.run import Clock, TrainingRun
from eigencode.training.runner import SingleRunner
from eigencode.training.schedule import Schedule
from eigencode.training.state import FlatParameters, TrainingState

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


def sparse(**filled):
    return Composition(mlp(), Dictionary(), **filled)


MODELS = {
    "gaussian": lambda: Composition(LinearPath(mlp()), mlp()),
    "learned variance": lambda: Composition(mlp(), mlp(), likelihood=GaussianLikelihood("per_feature")),
    "laplace": lambda: Composition(mlp(), mlp(), likelihood=LaplaceLikelihood(), prior=LaplacePrior(0.3)),
    "student": lambda: Composition(mlp(), mlp(), likelihood=StudentTLikelihood(), corruption=GaussianNoise(0.3)),
    "bernoulli": lambda: Composition(mlp(), mlp(), likelihood=BernoulliLikelihood(), corruption=Masking(0.3)),
    "poisson": lambda: Composition(mlp(), mlp(), likelihood=PoissonLikelihood(), corruption=SaltAndPepper(0.3)),
    "negative binomial": lambda: Composition(mlp(), mlp(), likelihood=NegativeBinomialLikelihood()),
    "categorical": lambda: Composition(mlp(), mlp(), likelihood=CategoricalLikelihood()),
    "mixed columns": lambda: Composition(
        LinearPath(mlp()),
        mlp(),
        likelihood=ColumnsLikelihood(
            [
                (GaussianLikelihood("per_feature"), 1),
                (NegativeBinomialLikelihood(), 1),
                (CategoricalLikelihood(), 2),
                (BernoulliLikelihood(), 1),
            ]
        ),
    ),
    "function": lambda: Composition(mlp(), mlp(), corruption=CallableCorruption(lambda x, noise: x * 2 + noise)),
    "variational": lambda: Composition(mlp(), mlp(), GaussianCode(), prior=StandardNormalPrior(warmup=2.0)),
    "ordinal": lambda: Composition(mlp(), mlp(), likelihood=OrdinalLikelihood()),
    "binary code": lambda: Composition(mlp(), mlp(), likelihood=BinaryCodeLikelihood()),
    "mixture": lambda: Composition(mlp(), mlp(), GaussianCode(), prior=MixturePrior(3, warmup=2.0)),
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
    "completing": lambda: Composition(
        Completing(LinearPath(mlp()), 2), mlp(), penalties=[Contractive(0.5)], input_dropout=InputDropout(0.5)
    ),
    "completing blocks": lambda: Composition(
        Completing(mlp(), 2, (2, 1, 2)),
        mlp(),
        GaussianCode(),
        prior=StandardNormalPrior(),
        input_dropout=InputDropout(1.0, (2, 1, 2)),
    ),
    "completing, tied": lambda: Composition(
        Completing(MLP(), 2, indicates=False), Tied(), corruption=GaussianNoise(0.1)
    ),
    "head": lambda: Composition(FirstColumns(mlp(), 3), mlp(), weight_prior=HeadWeights(1.0)),
    "fine-tuned": lambda: Composition(FirstColumns(mlp(), 3), mlp(), weight_prior=FineTunedWeights(1.0)),
    "labels": lambda: Composition(
        FirstColumns(mlp(), 3), mlp(), likelihood=LastColumns(GaussianLikelihood("learned"), n_columns=2)
    ),
    "features": lambda: Composition(
        mlp(), mlp(), penalties=[Reconstruction(mlp(), LaplaceLikelihood(), n_columns=3, weight=0.5)]
    ),
}


def run_of(model, every):
    """A run of a model's copy: a third of the rows are for validation."""
    model = copy.deepcopy(model)
    parameters = FlatParameters(model)
    state = TrainingState(model, parameters, ClippedAdam(parameters.vector), Schedule.over(10, 0.01, 0, 0.5), seed=0)
    rows = ResidentRows(every, torch.arange(2 * N // 3), torch.arange(2 * N // 3, N))
    execution, batch_size = Execution("cpu", "float32", 1), 2 * N // 3
    return TrainingRun(state, rows, Objective(), execution, batch_size, period=1, patience=5, progress=0, clock=Clock())


MASKS = [torch.float32, torch.bool, torch.int64]
"""Types that a user's mask of known cells may have."""


def seen_in_a_pass(model, every):
    """Terms, gradients and codes."""
    model = copy.deepcopy(model).train()
    trace = model(every, model.draw_noise(N, generator(3)))
    objective = Objective()
    found = objective.terms(model, trace) | {"x": trace.x, "x_tilde": trace.x_tilde, "z": trace.z}
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(
        objective(model, trace).sum(), list(weights.values()), allow_unused=True, materialize_grads=True
    )
    found |= dict(zip(weights, gradients, strict=True)) | model.statistics(trace)
    model.eval()
    found |= {f"evaluated {name}": term for name, term in objective.terms(model, model(every)).items()}
    found |= {f"codes, {mask}": model.encode(every.x, every.observed.to(mask)).mean for mask in MASKS}
    return found | model.validation_statistics(model(every))


def seen_in_training(runner):
    """Losses, weights and states of two steps and of an evaluation."""
    (run,) = runner.runs
    losses = []
    for _ in range(2):
        losses.append(runner.step(next(runner.batches), [True]))
        run.state.step += 1
    runner.learn_from_validation()
    objectives = torch.tensor([list(found.values()) for found in runner.evaluate()])
    runner.write_back()
    states = {f"state {name}": value.clone() for name, value in run.state.composition.named_buffers()}
    found = {"losses": torch.stack(losses), "objectives": objectives, "weights": run.state.parameters.vector}
    return found | states


def everything(model, x, observed):
    """All that is seen of rows with hidden cells: by a pass, by a runner of one and of many, and by an evaluation."""
    every = Batch(x, observed)
    found = seen_in_a_pass(model, every)
    runners = {"alone": SingleRunner(run_of(model, every))}
    runners["in a program"] = BatchedRunner([run_of(model, every)])
    for name, runner in runners.items():
        found |= {f"{name}, {key}": value for key, value in seen_in_training(runner).items()}
    own, blocks = copy.deepcopy(model), list(every.split(5))
    learn_from_validation(own, blocks, 0)
    found["evaluation"] = torch.tensor(evaluate(own, Objective(), blocks, 0))
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


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["kl", "l1"])
def test_rows_that_are_hidden_whole_have_no_part_in_a_mean_activity(name, training):
    model = MODELS[name]()
    model.setup(D, K, generator())
    model.double().train(training)
    x = torch.randn(N, D, dtype=torch.float64, generator=generator(1))
    model.eval().begin(Batch(x))
    model.train(training)
    observed = torch.rand(N, D, generator=generator(2)) < 0.6
    observed[:, 0] = True
    rows = model(Batch(x, observed))
    more = model(Batch(torch.cat([x, x]), torch.cat([observed, torch.zeros_like(observed)])))
    for penalty in model.penalties:
        if isinstance(penalty, KLSparsity | AdaptiveKLSparsity):
            torch.testing.assert_close(penalty(more, model), penalty(rows, model))
    few, many = (model.next_state(model.statistics(t), len(t.x)) for t in (rows, more))
    for key in few:
        if "idle" not in key:
            torch.testing.assert_close(many[key], few[key])
    nothing = model(Batch(x, torch.zeros_like(observed)))
    for key, value in model.next_state(model.statistics(nothing), N).items():
        assert value.isfinite().all(), key


@pytest.mark.parametrize("name", MODELS)
def test_a_further_axis_before_the_rows_is_another_batch(name):
    """Networks, codes, likelihoods and priors look at the last axis, and keep those before it."""
    model = MODELS[name]()
    model.setup(D, K, generator())
    model.double().eval()
    x = torch.randint(0, 2, (2, N, D), generator=generator(1)).double()
    model.begin(Batch(x[0]))
    outputs = torch.stack([model.encoder(rows) for rows in x])
    codes = torch.stack([model.code(output).mean for output in outputs])
    decoded = torch.stack([model.decoder(z) for z in codes])
    for part, function, given in [
        ("encoder", model.encoder, x),
        ("code", lambda output: model.code(output).mean, outputs),
        ("decoder", model.decoder, codes),
        ("likelihood", lambda output: model.likelihood(output).mean, decoded),
        *([] if model.prior is None else [("prior", model.prior.log_prob, codes)]),
    ]:
        expected = torch.stack([function(each) for each in given])
        torch.testing.assert_close(function(given), expected, rtol=1e-9, atol=1e-9, msg=part)


def test_no_part_is_left_out():
    public = {getattr(eigencode.parts, name) for name in eigencode.parts.__all__}
    parts = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Part)}
    abstract = {kind for kind in parts if any(issubclass(other, kind) and other is not kind for other in parts)}
    tried = {type(module) for make in MODELS.values() for module in make().modules()}
    assert not parts - abstract - tried
