"""States of terms: what they learn from batches and from rows for validation, whoever trains."""

import copy

import numpy as np
import pytest
import torch

import eigencode.parts
from eigencode import Autoencoder, Composition
from eigencode.parts import (
    MLP,
    AdaptiveKLSparsity,
    AdaptiveLaplace,
    AuxiliaryLoss,
    Dictionary,
    GaussianCode,
    GaussianNoise,
    KLSparsity,
    Masking,
    MixturePrior,
    Sigmoid,
    Sizes,
    StandardNormalPrior,
    Term,
    ThresholdedReLU,
    TopK,
)
from eigencode.training import batched_inputs, loop, runner
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.runner import SingleRunner

N, D, K = 24, 5, 6
X = np.random.default_rng(0).normal(size=(330, 8)) * np.linspace(2, 0.5, 8)
OPTIONS = {"hidden": (), "optimizer": "adam", "precision": "float64", "batch_size": 64, "random_state": 0}
RUNNERS = {"alone": SingleRunner, "in a program": lambda run: BatchedRunner([run])}

each_runner = pytest.mark.parametrize("runner_of", RUNNERS.values(), ids=RUNNERS)

TARGETS = {
    "l1": lambda **options: Autoencoder(
        12, code=ThresholdedReLU(2.0), prior=AdaptiveLaplace(2.0), decoder=Dictionary(), **OPTIONS, **options
    ),
    "kl": lambda **options: Autoencoder(
        12, code=Sigmoid(0.1), penalties=[AdaptiveKLSparsity(0.1)], **OPTIONS, **options
    ),
}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def buffers(run):
    return {name: value.clone() for name, value in run.state.composition.named_buffers()}


def assert_near(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-12, msg=name)


# -- batches


STATEFUL = {
    "l1": lambda: Composition(
        MLP(), Dictionary(), ThresholdedReLU(2.0), prior=AdaptiveLaplace(2.0), penalties=[AuxiliaryLoss(n_units=2)]
    ),
    "kl": lambda: Composition(
        MLP(), MLP(), Sigmoid(0.1), corruption=Masking(0.3), penalties=[KLSparsity(0.1), AdaptiveKLSparsity(0.1)]
    ),
    "top-k": lambda: Composition(MLP(), Dictionary(), TopK(2), penalties=[AuxiliaryLoss(window=0.5)]),
    "warm-up": lambda: Composition(MLP(), MLP(), GaussianCode(), prior=StandardNormalPrior(warmup=2.0)),
    "mixture": lambda: Composition(MLP(), MLP(), GaussianCode(), prior=MixturePrior(warmup=2.0)),
    "draws": lambda: Composition(MLP(), MLP(), GaussianCode(n_draws=3), prior=AdaptiveLaplace(2.0)),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_statistics_of_parts_of_a_batch_add_up(name):
    """A batch in two parts, their statistics summed, moves every state as the whole batch does."""
    model = STATEFUL[name]()
    model.setup(D, K, generator(0), Sizes(D, K, n_rows=100))
    model.double().train()
    x = torch.randn(N, D, dtype=torch.float64, generator=generator(1))
    model.begin(x)
    noise = model.draw_noise(N, generator(2))

    def statistics(rows):
        axes = {2: 0, 3: 1}  # draws of a code have an axis of their own before the rows'
        leaves = [None if leaf is None else leaf.movedim(axes[leaf.dim()], 0)[rows] for leaf in noise.leaves]
        leaves = [leaf if leaf is None or leaf.dim() == 2 else leaf.movedim(0, 1) for leaf in leaves]
        return model.statistics(model(x[rows], type(noise).of(*leaves)))

    whole, parts = statistics(slice(None)), [statistics(slice(9)), statistics(slice(9, None))]
    expected = model.next_state(whole, N)
    found = model.next_state({key: parts[0][key] + parts[1][key] for key in whole}, N)
    assert found.keys() == expected.keys()
    assert any(not torch.equal(value, model.get_buffer(key)) for key, value in expected.items())
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], rtol=1e-12, atol=1e-12, msg=key)


def test_no_term_with_a_state_is_left_out():
    public = {getattr(eigencode.parts, name) for name in eigencode.parts.__all__}
    terms = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Term)}
    stateful = {kind for kind in terms if kind.next_state is not Term.next_state}
    abstract = {kind for kind in stateful if any(issubclass(other, kind) and other is not kind for other in stateful)}
    assert stateful - abstract <= {type(term) for make in STATEFUL.values() for term in make().terms}


@pytest.mark.parametrize("kind", TARGETS)
def test_the_activity_fitted_is_of_clean_rows_by_the_weights_before_the_step(kind):
    """With a corruption too, and by whatever runner: states and weights are the same."""
    runs = {}
    for name, runner_of in RUNNERS.items():
        run = TARGETS[kind](corruption=GaussianNoise(0.5), max_epochs=3)._begin(X)
        composition, batch = run.state.composition, run.rows.gather(run.rows.training[:64])
        (target,) = (term for term in composition.terms if hasattr(term, "fitted"))
        active = target.activity_of(composition.encode(batch.x).mean).mean()
        expected = 0.8 * target.fitted + 0.2 * active  # five batches are remembered
        one = runner_of(run)
        one.step(batch, [True])
        one.write_back()
        torch.testing.assert_close(target.fitted, expected.detach(), rtol=1e-10, atol=0)
        runs[name] = TARGETS[kind](corruption=GaussianNoise(0.5), max_epochs=3)._begin(X)
        list(loop.train_all(runner_of(runs[name])))
    alone, together = runs.values()
    assert_near(buffers(together), buffers(alone))
    torch.testing.assert_close(together.state.parameters.vector, alone.state.parameters.vector, rtol=1e-8, atol=1e-10)


# -- rows for validation


@each_runner
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("share", [0.3, 0], ids=["validation", "rows fitted"])
def test_what_is_learned_from_validation_rows_does_not_depend_on_blocks(kind, runner_of, share, monkeypatch):
    """One block or several: the same objective, and the thresholds are moved as far."""
    run = TARGETS[kind](validation_fraction=share, max_epochs=2)._begin(X)
    one = runner_of(run)
    for step in range(3):
        one.step(next(one.batches), [True])
        run.state.step = step + 1
    one.write_back()
    before, found = buffers(run), []
    for n_rows in (8192, 30):
        monkeypatch.setattr(runner, "EVALUATION_ROWS", n_rows)
        monkeypatch.setattr(batched_inputs, "EVALUATION_ROWS", n_rows)
        run.state.composition.take(copy.deepcopy(before))
        one.reload([0])
        one.learn_from_validation()
        objectives = [found["objective"] for found in one.evaluate()]
        one.write_back()
        found.append((objectives, buffers(run)))
    (whole, expected), (in_blocks, states) = found
    assert in_blocks == pytest.approx(whole, rel=1e-10)
    assert_near(states, expected)
    (shift,) = (name for name in before if name.endswith("threshold_shift"))
    assert abs(expected[shift] - before[shift]) > 1e-3
