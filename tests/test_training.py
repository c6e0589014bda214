"""The loop, its state, its schedule and its optimiser."""

import contextlib
import copy
import gc
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import evaluated, prepared, untimed
from sklearn.base import clone
from sklearn.datasets import load_wine
from torch import nn

from eigencode import (
    Autoencoder,
    LinearAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
    fit_many,
    load,
)
from eigencode.batch import Batch
from eigencode.errors import NetworkError, OptionError
from eigencode.fitting import data as fitted_data
from eigencode.fitting import start
from eigencode.fitting.step_size import RECIPES
from eigencode.parts import Contractive, GaussianLikelihood, GaussianNoise, GaussianWeights, LaplacePrior
from eigencode.parts.likelihoods.closed_forms import GaussianExpansion
from eigencode.training import evaluation, loop, optimizers
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.execution import choose_execution, has_bfloat16_units
from eigencode.training.optimizers import BETAS, CLIP_FACTOR, EPSILON, MOST_PIECES, ClippedAdam
from eigencode.training.rng import generator, may_draw_globally, resolve_seed
from eigencode.training.runner import SingleRunner
from eigencode.training.schedule import ENDLESS, Schedule
from eigencode.training.state import AVERAGE_EVERY, MOST_RETREATS, FlatParameters


def rows(n=200):
    """Points near a curve in six dimensions, which a nonlinear code follows better than any plane."""
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, size=n)
    curve = np.column_stack([np.cos(t), np.sin(t), np.cos(2 * t), np.sin(2 * t), np.cos(3 * t), t / 4])
    return torch.from_numpy(curve - curve.mean(0)).float()


def ready(**options):
    """A run of a small model."""
    return prepared(Autoencoder(2, **{"hidden": (8,), "batch_size": 32, "random_state": 0, **options}), rows())


def train_to_the_end(run):
    """Evaluate the start, and train."""
    loop.begin(run)
    list(loop.train_all(SingleRunner(run)))


RUNNERS = {"alone": SingleRunner, "in a program": lambda run: BatchedRunner([run])}

each_runner = pytest.mark.parametrize("runner_of", RUNNERS.values(), ids=RUNNERS)
"""What the loop promises holds for one model as for many."""


# -- schedule


def test_the_schedule_warms_up_stays_and_decays_to_nothing():
    schedule = Schedule.over(100, peak=2.0, warmup=9, decay_share=0.5)
    rates = [schedule.rate(step) for step in range(100)]
    np.testing.assert_allclose(rates[:10], 2.0 * np.arange(1, 11) / 10)
    assert rates[9:51] == [2.0] * 42
    np.testing.assert_allclose(np.diff(rates[50:]), -2.0 / 50)
    assert schedule.rate(100) == 0


def test_an_early_decay_is_whole_and_starts_once():
    schedule = Schedule.over(1000, peak=1.0, warmup=0, decay_share=0.5)
    schedule.begin_decay(100)
    assert (schedule.decay_from, schedule.end) == (100, 200)
    assert schedule.rate(150) == pytest.approx(0.5)
    schedule.begin_decay(120)
    assert (schedule.decay_from, schedule.end) == (100, 200)


def test_a_decay_never_outlasts_the_steps_allowed():
    schedule = Schedule.over(1000, peak=1.0, warmup=0, decay_share=0.2)
    schedule.begin_decay(799)
    assert schedule.end == 999
    assert Schedule.over(0, 1.0, 50, 0.5).end == 0


def test_a_decay_is_laid_to_end_with_a_time_limit_by_its_own_pace():
    schedule = Schedule.endless(peak=1.0, warmup=0, decay_share=0.5)
    schedule.begin_decay(100)
    assert schedule.end == 200
    schedule.end_with(100, left=1.0)  # no pace yet
    assert schedule.end == 200
    schedule.end_with(110, left=0.6)  # slower than before: 10 steps took .4 of the time
    assert (schedule.end, schedule.rate(110)) == (125, pytest.approx(0.6))
    schedule.end_with(120, left=0.5)
    assert (schedule.end, schedule.rate(120)) == (140, pytest.approx(0.5))
    allowed = Schedule.over(130, peak=1.0, warmup=0, decay_share=0.2)
    allowed.begin_decay(100)
    allowed.end_with(110, left=0.9)
    assert allowed.end == 130


def test_a_stream_warms_up_from_where_it_begins_and_never_decays():
    schedule = Schedule.endless(peak=2.0, warmup=9, begins=30)
    rates = [schedule.rate(step) for step in range(30, 50)]
    np.testing.assert_allclose(rates[:10], 2.0 * np.arange(1, 11) / 10)
    assert set(rates[9:]) == {schedule.rate(ENDLESS - 1)} == {2.0}
    assert Schedule.endless(2.0, 9).rate(0) == pytest.approx(0.2)


@each_runner
def test_a_plateau_during_the_warm_up_starts_no_decay(runner_of):
    run = ready(batch_size=200, optimizer="adam", patience=1, learning_rate=1e-12, max_epochs=1000)
    assert (run.n_batches, run.state.schedule.warmup) == (1, 50)
    loop.begin(run)
    list(loop.train_all(runner_of(run)))
    assert 50 <= run.state.schedule.decay_from <= 52
    assert run.state.step == run.state.schedule.end < 100


# -- noise


def test_noise_depends_on_its_name_and_number_alone():
    def draw(*key):
        return torch.rand(3, generator=generator(*key)).tolist()

    assert draw(0, "step", 3) == draw(0, "step", 3)
    assert len({tuple(draw(*key)) for key in itertools.product((0, 1), ("step", "shuffle"), (1, 2))}) == 8


def test_a_seed_is_resolved_from_every_kind_of_random_state():
    assert resolve_seed(5) == 5
    assert resolve_seed(np.random.default_rng(1)) == resolve_seed(np.random.default_rng(1))
    assert resolve_seed(np.random.RandomState(1)) == resolve_seed(np.random.RandomState(1))
    assert resolve_seed(None) != resolve_seed(None)
    assert resolve_seed(np.int64(7)) == 7
    for other in ([1, 2], -1, 1.5, True, "0", np.random):
        with pytest.raises(OptionError, match="non-negative int or a NumPy random generator"):
            resolve_seed(other)


def layers_with(*between):
    """Two linear layers, and what stands between them."""
    layers = [nn.utils.skip_init(nn.Linear, *sizes) for sizes in ((6, 8), (8, 2))]
    for layer in layers:
        nn.init.uniform_(layer.weight, -0.5, 0.5, generator=torch.Generator().manual_seed(layer.in_features))
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], *between, layers[1])


class OwnDropout(nn.Module):
    """Dropout of the user's own making."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.4, self.training)


@pytest.mark.parametrize("layer", [nn.Dropout(0.4), nn.AlphaDropout(0.4), nn.RReLU(), OwnDropout()], ids=repr)
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_layers_that_draw_are_given_noise_of_the_runs_own(layer, optimizer):
    """A run is the same whatever the global generator's state, leaves that alone, and differs between seeds."""

    def vector(seed, state):
        options = {"encoder": layers_with(layer, nn.Tanh()), "likelihood": GaussianLikelihood("learned")}
        with torch.random.fork_rng([]):
            torch.default_generator.manual_seed(state)
            before = torch.get_rng_state()
            run = prepared(Autoencoder(2, max_epochs=2, optimizer=optimizer, **options), rows(60), seed)
            loop.begin(run)
            list(loop.train_all(SingleRunner(run)))
            assert torch.equal(torch.get_rng_state(), before)
        return run.state.parameters.vector

    first = vector(0, 1)
    assert torch.equal(first, vector(0, 2))
    assert not torch.equal(first, vector(1, 1))


def test_each_step_has_a_draw_of_its_own_and_each_evaluation_of_a_step_the_same():
    run = prepared(Autoencoder(2, encoder=layers_with(nn.Dropout(0.4)), batch_size=200), rows())
    losses = []
    run.state.optimizer.step = lambda rate, loss, recompute: losses.append([loss.item(), recompute().item()])
    runner = SingleRunner(run)
    for step in range(3):
        run.state.step = step
        runner.step(Batch(rows()))
    assert all(one == again for one, again in losses)
    assert len({one for one, _ in losses}) == 3


def test_models_without_such_layers_pay_nothing_for_them(monkeypatch):
    run = ready(max_epochs=1)
    monkeypatch.setattr(evaluation, "own_global_generator", None)
    train_to_the_end(run)
    assert not may_draw_globally(layers_with(nn.PReLU(), nn.BatchNorm1d(8)))
    assert prepared(Autoencoder(2, encoder=layers_with(nn.Dropout(0.1))), rows(60)).optimizer == "adam"
    assert prepared(Autoencoder(2, encoder=layers_with(nn.Tanh())), rows(60)).optimizer == "lbfgs"


# -- weights as one vector


def test_flat_parameters_are_views_both_ways_until_released():
    module = nn.Sequential(nn.utils.skip_init(nn.Linear, 3, 2), nn.utils.skip_init(nn.Linear, 2, 1))
    for p in module.parameters():
        nn.init.constant_(p, 1.0)
    flat = FlatParameters(module)
    flat.vector.data.mul_(2)
    assert all((p == 2).all() for p in module.parameters())
    loss = module(torch.ones(1, 3)).sum()
    by_hand = torch.cat(
        [g.reshape(-1) for g in torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)]
    )
    flat.differentiate(loss)
    assert torch.equal(flat.gradient, by_hand)
    assert by_hand.any()
    flat.release()
    flat.vector.data.zero_()
    assert all((p == 2).all() for p in module.parameters())
    assert len({p.untyped_storage().data_ptr() for p in module.parameters()}) == 4


# -- optimiser


def literal_adam(gradients, rate, dtype):
    """The weights after steps by these gradients, written out (Kingma & Ba, 2015, algorithm 1)."""
    w, m, v = (torch.zeros_like(gradients[0]) for _ in range(3))
    running = torch.linalg.vector_norm(gradients[0])
    for t, g in enumerate(gradients, start=1):
        norm = torch.linalg.vector_norm(g)
        clipped = g * min(1.0, float(CLIP_FACTOR * running / norm))
        running = running + 0.02 * (torch.linalg.vector_norm(clipped) - running)
        g = clipped / (running / len(g) ** 0.5)
        m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g**2
        w = w - rate * m / (1 - BETAS[0] ** t) / ((v / (1 - BETAS[1] ** t)).sqrt() + EPSILON)
    return w


@pytest.fixture(params=["of a processor", "of a GPU"])
def step_of(request, monkeypatch):
    """Adam's step in both forms; both run on the processor here."""
    if request.param == "of a GPU":
        monkeypatch.setattr(ClippedAdam, "_step_each", ClippedAdam._step_all)


@pytest.mark.usefixtures("step_of")
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_models", [None, 1, 3])
def test_clipped_adam_is_adam_in_the_unit_of_the_gradients_mean_length(dtype, scale, n_models):
    """So the unit of the objective changes nothing; each of several models has the step of one."""
    rng = np.random.default_rng(0)
    gradients = [torch.tensor(rng.normal(size=5) * [1, 1, 1, 0.1, 1e-4], dtype=dtype) for _ in range(20)]
    gradients[7] *= 40  # clipped
    shape = (5,) if n_models is None else (n_models, 5)
    weights = nn.Parameter(torch.zeros(shape, dtype=dtype))
    optimizer = ClippedAdam(weights, n_weights=None if n_models is None else [5] * n_models)
    rate = 0.1 if n_models is None else torch.full((n_models,), 0.1)
    for gradient in gradients:
        weights.grad = (gradient * scale).expand(shape).clone()
        optimizer.step(rate)
    expected = literal_adam([g.double() for g in gradients], 0.1, dtype).expand(shape)
    torch.testing.assert_close(weights.detach().double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_stepped_by_one_call_have_the_bits_of_steps_of_their_own(dtype):
    """Also those of other step sizes, and beside a model whose gradient is not finite, which is not moved by it."""
    gradients = torch.randn(6, 4, 9, dtype=dtype, generator=torch.Generator().manual_seed(0))
    gradients[3] *= 40  # clipped
    gradients[0, 1, 5], gradients[4, 2, 0] = torch.nan, torch.inf
    rates = [0.1, 0.2, 0.1, 0.1]
    together = nn.Parameter(torch.ones(4, 9, dtype=dtype))
    alone = [nn.Parameter(torch.ones(9, dtype=dtype)) for _ in rates]
    program, steppers = ClippedAdam(together, n_weights=[9] * 4), list(map(ClippedAdam, alone))
    for gradient in gradients:
        together.grad = gradient.clone()
        program.step(torch.tensor(rates, dtype=torch.float64))
        for own, stepper, rate, weights in zip(gradient, steppers, rates, alone, strict=True):
            weights.grad = own.clone()
            stepper.step(rate)
    assert torch.equal(together, torch.stack(alone))
    assert program.n_steps.flatten().tolist() == [6, 5, 5, 6]
    for name, value in program.state_dict().items():
        assert torch.equal(value, torch.stack([stepper.state_dict()[name] for stepper in steppers])), name


@pytest.mark.usefixtures("step_of")
@pytest.mark.parametrize("n_models", [None, 3])
@pytest.mark.parametrize("own", [torch.tensor([1.0, 0.25, 0.25, 0.0]), torch.linspace(0, 1, 2 * MOST_PIECES)])
def test_factors_multiply_the_step_size_of_each_weight(n_models, own):
    """Whether the weights have a few pieces of one factor each, or many."""
    shape = own.shape if n_models is None else (n_models, len(own))
    factors = own.expand(shape)
    rate = 0.1 if n_models is None else torch.full((n_models,), 0.1)
    moved = []
    for given in (None, factors):
        weights = nn.Parameter(torch.zeros(shape))
        optimizer = ClippedAdam(weights, n_weights=None if n_models is None else [len(own)] * n_models, factors=given)
        for gradient in (1.0, -3.0, 2.0):
            weights.grad = torch.full(shape, gradient)
            optimizer.step(rate)
        moved.append(weights.detach())
    assert (moved[0] != 0).all()
    torch.testing.assert_close(moved[1], factors * moved[0])


def test_a_single_model_on_a_gpu_is_stepped_by_one_kernel(monkeypatch):
    """Kernels of pieces are too small for the device; the factors blend the whole step with the weights before."""
    calls = []
    monkeypatch.setattr(optimizers, "fused_adam", lambda *_, **__: calls.append(1))
    weights, factors = torch.zeros(6, device="meta"), torch.tensor([1.0, 1, 1, 0.5, 0.5, 1])
    for device, n_calls in (("meta", 1), ("cpu", 2)):
        given = nn.Parameter(weights if device == "meta" else torch.zeros(6))
        given.grad = torch.ones_like(given)
        ClippedAdam(given, factors=factors.to(device)).step(0.1)
        assert len(calls) == n_calls, device
        calls.clear()


def test_each_model_of_a_program_has_factors_of_its_own():
    factors = torch.tensor([[1.0, 0.5, 0.5], [0.25, 0.25, 1.0], [1.0, 1.0, 1.0]])
    weights = nn.Parameter(torch.zeros(3, 3))
    optimizer = ClippedAdam(weights, n_weights=[3] * 3, factors=factors)
    chosen = optimizer.of_models(torch.tensor([0, 1]), nn.Parameter(torch.zeros(2, 3)), torch.ones(2, 3))
    for one, models in ((optimizer, factors), (chosen, factors[:2])):
        one._weights.grad = torch.ones(models.shape)
        one.step(torch.full((len(models),), 0.1))
        torch.testing.assert_close(one._weights.detach() / one._weights.detach().min(), models)


def test_weights_that_hardly_any_row_concerns_are_moved_less_far():
    weights = nn.Parameter(torch.zeros(3))
    optimizer = ClippedAdam(weights)
    for _ in range(10):
        weights.grad = torch.tensor([1.0, -1.0, 1e-3 * EPSILON])
        optimizer.step(0.1)
    moved = weights.detach().abs()
    assert moved[0] == pytest.approx(moved[1])
    assert moved[2] < 0.01 * moved[0]


@pytest.mark.usefixtures("step_of")
def test_an_outlying_gradient_is_shortened_and_a_broken_one_moves_nothing():
    weights = nn.Parameter(torch.zeros(2))
    optimizer = ClippedAdam(weights)
    weights.grad = torch.tensor([1.0, 0.0])
    optimizer.step(0.1)
    first_moment = optimizer.mean.clone()
    weights.grad = torch.tensor([1e6, 0.0])
    optimizer.step(0.1)
    # Adam's first moment shows the gradient it was given, 0.9 m + 0.1 g, in units of its mean length.
    seen = (optimizer.mean - 0.9 * first_moment) / 0.1 * optimizer.running / 2**0.5
    assert seen[0] == pytest.approx(CLIP_FACTOR, rel=1e-4)
    before = weights.detach().clone()
    weights.grad = torch.tensor([math.nan, 1.0])
    optimizer.step(0.1)
    assert torch.equal(weights.detach(), before)
    assert all(value.isfinite().all() for value in optimizer.state_dict().values())


@pytest.mark.usefixtures("step_of")
@pytest.mark.parametrize("n_models", [None, 2])
def test_weights_do_not_decay_for_steps_that_are_skipped(n_models):
    """Beside a model whose gradients are finite, and after a state was saved between a step and the decay."""
    shape = (3,) if n_models is None else (n_models, 3)
    rates = [0.1, 0.2, 0.3, 0.4]
    moved = []
    for broken in ([], [1, 3]):
        weights = nn.Parameter(torch.zeros(shape))
        count = None if n_models is None else [3] * n_models
        optimizer = ClippedAdam(weights, n_weights=count, decay=torch.full(shape, 0.25))
        for number, rate in enumerate(rates):
            weights.grad = torch.ones(shape)
            if number in broken:
                weights.grad.view(-1)[1] = math.nan
            optimizer.step(rate if n_models is None else torch.full((n_models,), rate, dtype=torch.float64))
        again = ClippedAdam(weights, n_weights=count, decay=torch.full(shape, 0.25))
        again.load_state_dict(optimizer.state_dict())
        with torch.no_grad():
            weights.fill_(1.0)
        for _ in range(2):  # the second one is for steps after the first one
            again.shrink(sum(rates) if n_models is None else torch.full((n_models,), sum(rates)))
        moved.append(weights.detach().clone().view(-1, 3))
    whole = (1 - 0.25 * 1.0) ** 2
    torch.testing.assert_close(moved[0], torch.full_like(moved[0], whole))
    torch.testing.assert_close(moved[1][0], torch.full((3,), (1 - 0.25 * 0.4) * (1 - 0.25 * 1.0)))
    torch.testing.assert_close(moved[1][1:], moved[0][1:])


def test_a_state_that_does_not_say_what_was_skipped_is_read():
    weights = nn.Parameter(torch.zeros(3))
    optimizer, again = ClippedAdam(weights), ClippedAdam(weights)
    weights.grad = torch.ones(3)
    optimizer.step(0.1)
    earlier = {name: value for name, value in optimizer.state_dict().items() if name != "skipped"}
    again.load_state_dict(earlier)
    for name, value in again.state_dict().items():
        assert torch.equal(value, earlier.get(name, torch.zeros(1)))


@pytest.mark.usefixtures("step_of")
def test_gradients_of_zero_move_nothing():
    weights = nn.Parameter(torch.ones(2))
    optimizer = ClippedAdam(weights)
    for _ in range(3):
        weights.grad = torch.zeros(2)
        optimizer.step(0.1)
    assert torch.equal(weights.detach(), torch.ones(2))


# -- loop


@pytest.mark.parametrize("period", [4, 6, 7], ids=lambda steps: f"evaluated every {steps} steps")
def test_a_resumed_run_is_the_same_run_bit_for_bit(period):
    """Also where it is saved within an epoch, which has 6 steps."""
    options = {"max_epochs": 6, "corruption": GaussianNoise(0.2)}
    whole = replace(ready(**options), period=period)
    train_to_the_end(whole)

    first = replace(ready(**options), period=period)
    loop.begin(first)
    for _ in itertools.islice(loop.train_all(SingleRunner(first)), 3):
        pass
    saved = copy.deepcopy(first.state.state_dict())
    second = replace(ready(**options), period=period)
    second.state.load_state_dict(saved)
    list(loop.train_all(SingleRunner(second)))

    assert untimed(second.state.history) == untimed(whole.state.history)
    assert torch.equal(second.state.parameters.vector, whole.state.parameters.vector)
    assert torch.equal(second.state.best.vector, whole.state.best.vector)
    assert first.state.history != whole.state.history


def test_epochs_are_counted_alike_alone_and_in_a_program_that_a_model_leaves():
    """A model that ends within an epoch does not begin the next one, which the others do."""
    runs, alone = (
        [replace(ready(max_epochs=n, random_state=n, optimizer="adam"), period=4) for n in (2, 5)] for _ in range(2)
    )
    for run in (*runs, *alone):
        loop.begin(run)
    list(loop.train_all(BatchedRunner(runs)))
    for run in alone:
        list(loop.train_all(SingleRunner(run)))
    counters = [[(r["epoch"], r["step"], r["rows"]) for r in run.state.history] for run in (*runs, *alone)]
    assert counters[:2] == counters[2:]
    assert [run.state.epoch for run in runs] == [2, 5]


@each_runner
def test_the_average_is_over_the_steps_and_recent_ones_count_most(runner_of, monkeypatch):
    run = ready(max_epochs=9, optimizer="adam")  # 6 batches an epoch: every second one ends between two looks
    loop.begin(run)
    runner = runner_of(run)

    def weights():
        runner.write_back()
        return run.state.parameters.vector.detach().clone()

    taken, step = [weights()], runner.step

    def watched(batch, active):
        found = step(batch, active)
        taken.append(weights())
        return found

    monkeypatch.setattr(runner, "step", watched)
    list(loop.train_all(runner))
    n_steps, looks = len(taken) - 1, sorted({*range(0, len(taken), AVERAGE_EVERY), *range(0, len(taken), 6)})
    power = 1 / run.state.optimizer.memory
    expected = sum(
        ((look / n_steps) ** power - (before / n_steps) ** power) * taken[look].double()
        for before, look in itertools.pairwise(looks)
    )
    assert (run.n_batches, n_steps) == (6, 54)
    assert run.state.averaged_to == n_steps
    torch.testing.assert_close(weights().double(), expected, rtol=1e-6, atol=1e-6)
    runner.show(average=False)
    assert torch.equal(weights(), taken[-1])


@each_runner
def test_an_epoch_goes_on_from_the_last_weights_and_not_from_their_average(runner_of, monkeypatch):
    def last_weights():
        run = ready(max_epochs=4, optimizer="adam")
        loop.begin(run)
        runner = runner_of(run)
        list(loop.train_all(runner))
        runner.show(average=False)
        runner.write_back()
        return run.state.parameters.vector.detach().clone()

    averaged = last_weights()
    monkeypatch.setattr(ClippedAdam, "memory", 0.0)
    assert torch.equal(averaged, last_weights())


@pytest.mark.parametrize("n_epochs", [5, 10])
def test_before_the_decay_the_average_is_worth_more_than_the_last_weights(digits, n_epochs):
    for seed in range(3):
        scaled = torch.from_numpy((digits - digits.mean(0)) / digits.std()).float()
        run = prepared(Autoencoder(8, hidden=(128,), max_epochs=100), scaled, seed)
        loop.begin(run)
        *_, (row,) = itertools.islice(loop.train_all(SingleRunner(run)), n_epochs)
        run.state.show(average=False)
        last = evaluated(run, seed)
        start = run.state.history[0]["validation_objective"]
        assert start - row["validation_objective"] > 1.04 * (start - last)


def test_lbfgs_keeps_its_last_weights():
    run = ready(max_epochs=5, optimizer="lbfgs")
    train_to_the_end(run)
    assert torch.equal(run.state.aside, run.state.parameters.vector)


@each_runner
def test_every_row_is_seen_once_an_epoch_in_batches_as_equal_as_can_be(runner_of, monkeypatch):
    run, seen = ready(max_epochs=1, validation_fraction=0.1, optimizer="adam"), []
    loop.begin(run)
    runner = runner_of(run)
    move = runner._update
    monkeypatch.setattr(runner, "_update", lambda x, *others: (seen.append(x), move(x, *others))[1])
    list(loop.train_all(runner))
    fitted = run.rows.all_rows.x[run.rows.training]
    assert sorted(torch.cat(seen).tolist()) == sorted(fitted.tolist())
    assert {len(batch) for batch in seen} == {30}
    everything = torch.cat([run.rows.training, run.rows.validation_numbers])
    assert everything.sort().values.tolist() == list(range(200))
    assert run.rows.n_validation == 20


def test_the_best_weights_are_kept_and_never_worse_than_the_start():
    model = Autoencoder(2, hidden=(64,), learning_rate=0.5, max_epochs=8, random_state=0).fit(rows().numpy())
    held_out = [row["validation_objective"] for row in model.history_]
    assert max(held_out[1:]) > held_out[0]  # so large a step does harm
    best = min(held_out)
    assert model.history_[model.best_epoch_]["validation_objective"] == best
    order = torch.randperm(200, generator=generator(model.seed_, "split"))[:20]
    kept = -(model.score_samples(rows().numpy()[order]) - model.scaler_.log_jacobian.sum()).mean()
    assert kept == pytest.approx(best, rel=1e-5)


def test_weights_that_became_worse_are_not_kept():
    x = np.random.default_rng(0).normal(size=(60, 5))  # noise, which a large network learns by heart
    options = {"optimizer": "adam", "learning_rate": 0.02, "patience": 10**6}
    model = Autoencoder(2, hidden=(128,), max_epochs=200, batch_size=16, random_state=0, **options).fit(x)
    held_out = [row["validation_objective"] for row in model.history_]
    assert held_out[-1] > min(held_out) + 0.05
    order = torch.randperm(60, generator=generator(model.seed_, "split"))[: model.n_validation_]
    kept = -(model.score_samples(x[order]) - model.scaler_.log_jacobian.sum()).mean()
    # The start is kept too where so few rows do not tell for certain.
    assert kept == pytest.approx(min(held_out) if model.best_epoch_ else held_out[0], rel=1e-5)


def test_the_best_epoch_is_chosen_by_weight():
    x, weights = rows().numpy(), np.random.default_rng(0).uniform(0, 1, size=200) ** 8
    model = Autoencoder(2, hidden=(64,), learning_rate=0.1, max_epochs=8, random_state=0).fit(x, sample_weight=weights)
    order = torch.randperm(200, generator=generator(model.seed_, "split"))[:20]
    costs = model.scaler_.log_jacobian.sum() - model.score_samples(x[order])
    best = min(row["validation_objective"] for row in model.history_)
    assert best == model.best_objective_ == pytest.approx(np.average(costs, weights=weights[order]), rel=1e-5)
    assert best != pytest.approx(costs.mean(), rel=1e-2)


@pytest.mark.parametrize("n", [30, 99, 1000, 1049])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_bounded_sample_settles_a_likelihood(monkeypatch, n, weighted):
    seen, calibrate = [], GaussianExpansion.calibrate
    monkeypatch.setattr(fitted_data, "CALIBRATION_ROWS", 50)
    monkeypatch.setattr(start, "CALIBRATION_ROWS", 50)
    monkeypatch.setattr(
        GaussianExpansion,
        "calibrate",
        lambda self, batch, output: (seen.append(len(batch)), calibrate(self, batch, output)),
    )
    weights = np.random.default_rng(0).uniform(0.5, 1.5, size=n) if weighted else None
    prepared(Autoencoder(2, hidden=(4,), likelihood=GaussianLikelihood("learned")), rows(n), weights=weights)
    assert seen
    assert min(n, 50) <= max(seen) < 100


def test_a_plateau_starts_the_decay_and_ends_the_run_early():
    model = Autoencoder(2, hidden=(8,), optimizer="adam", patience=3, max_epochs=10_000, random_state=0).fit(
        rows().numpy()
    )
    rates = [row["learning_rate"] for row in model.history_]
    assert len(rates) < 1000
    # The run ends annealed, not at full rate.
    assert rates[-1] < 0.02 * max(rates)


def test_small_tables_get_a_useful_number_of_steps():
    for n in (10, 200, 5000):
        run = prepared(Autoencoder(2, optimizer="adam", random_state=0), rows(n))
        assert run.state.schedule.end >= 2000


def test_small_tables_without_noise_are_fitted_all_rows_at_once():
    def optimizer(n, **options):
        return prepared(Autoencoder(2, random_state=0, **options), rows(n)).optimizer

    assert optimizer(100) == "lbfgs"
    assert optimizer(1000) == "adam"
    assert optimizer(100, corruption=GaussianNoise(0.1)) == "adam"
    assert optimizer(100, precision="bfloat16") == "adam"
    assert optimizer(100, optimizer="adam") == "adam"
    assert optimizer(100, batch_size=89) == "adam"  # of 90 training rows
    assert optimizer(100, batch_size=90) == "lbfgs"
    assert optimizer(1000, batch_size=900) == "adam"


class WithoutDerivative(nn.Module):
    """A function that torch cannot differentiate, said in other words than of one that has no second derivative."""

    def forward(self, x):
        return torch.igamma(x.square() + 2, x.square() + 1)


def test_a_function_without_derivative_is_refused():
    with pytest.raises(NetworkError, match="no gradient in torch. Got the derivative for 'igamma.*Try another act"):
        Autoencoder(2, activation=WithoutDerivative(), max_epochs=1).fit(load_wine().data)


SMALL_BATCHES = [Autoencoder(2), StackedAutoencoder(2), LinearAutoencoder(2, solver="gradient")]


@pytest.mark.parametrize("estimator", SMALL_BATCHES, ids=lambda estimator: type(estimator).__name__)
def test_batches_are_for_adam(estimator):
    with_batches = clone(estimator).set_params(batch_size=16, max_epochs=2, random_state=0).fit(load_wine().data)
    assert with_batches.optimizer_ == "adam"
    assert with_batches.best_objective_ < np.inf


@pytest.mark.parametrize(
    ("batch_size", "n_weights", "expected"),
    [
        *[(8, 10**6, 0.002), (32, 10**6, 0.002), (128, 10**6, 0.004), (4096, 10**6, 0.006)],
        *[(32, 16 * 10**6, 0.001), (32, 10**6 // 16, 0.004), (4096, 1, 0.024)],
    ],
)
def test_the_peak_step_size_grows_with_the_batch_and_falls_with_the_weights(batch_size, n_weights, expected):
    assert RECIPES["adam"].learning_rate(batch_size, n_weights) == pytest.approx(expected)
    assert RECIPES["lbfgs"].learning_rate(batch_size, n_weights) == 1


def test_the_peak_step_size_is_by_the_weights_that_learn():
    run = ready(optimizer="adam")
    assert run.state.schedule.peak == RECIPES["adam"].learning_rate(32, len(run.state.parameters.vector))
    assert run.state.schedule.peak < RECIPES["adam"].largest_rate


@pytest.mark.usefixtures("step_of")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_without_a_gradient_or_a_step_size_stays_and_the_others_step(dtype):
    """The step of many models at once, whose denominators hold each one's own step size."""
    matrix, gradient = torch.ones(3, 5, dtype=dtype), torch.ones(3, 5, dtype=dtype)
    gradient[1] = math.nan
    gradient[:, 4] = 0  # as of weights that a narrow model lacks
    optimizer = ClippedAdam(matrix, gradient, [5, 5, 5])
    optimizer.step(torch.tensor([0.1, 0.1, 0.0]))
    assert torch.equal(matrix[1:], torch.ones(2, 5, dtype=dtype))
    assert matrix[0, 4] == 1
    assert (matrix[0, :4] < 0.95).all()
    gradient.fill_(1.0)
    optimizer.step(torch.tensor([0.1, 0.1, 0.0]))
    assert (matrix[1] < 0.95).all()
    assert torch.equal(matrix[2], torch.ones(5, dtype=dtype))


def spoil(runner, harm):
    """Let a runner's one model, and its average, be nothing but one number."""
    (run,) = runner.runs
    for vector in (run.state.parameters.vector.data, run.state.aside):
        vector.fill_(harm)
    runner.reload([0])


@pytest.mark.parametrize(
    ("optimizer", "runner_of"),
    [("adam", SingleRunner), ("lbfgs", SingleRunner), ("adam", RUNNERS["in a program"])],
    ids=["adam", "lbfgs", "in a program"],
)
@pytest.mark.parametrize("harm", [math.nan, 1e6])
def test_a_run_that_blows_up_goes_on_from_the_best_weights_with_half_the_step_size(optimizer, harm, runner_of):
    run = ready(max_epochs=50, init="random", patience=50, optimizer=optimizer)
    loop.begin(run)
    peak, runner = run.state.schedule.peak, runner_of(run)
    for (row,) in loop.train_all(runner):
        if row["epoch"] == 5:
            spoil(runner, harm)
        if row["epoch"] == 6:
            assert not row["validation_objective"] < run.state.history[0]["validation_objective"]
            runner.write_back()
            assert torch.equal(run.state.parameters.vector, run.state.best.vector)
            assert (run.state.schedule.peak, run.state.n_retreats) == (peak / 2, 1)
    assert run.state.epoch == 50
    assert run.state.best.epoch > 6


@each_runner
def test_a_run_that_always_blows_up_is_given_up(runner_of):
    run = ready(max_epochs=50, init="random", optimizer="adam")
    loop.begin(run)
    runner = runner_of(run)
    for _ in loop.train_all(runner):
        spoil(runner, math.nan)
    assert run.state.n_retreats == MOST_RETREATS + 1
    assert run.state.epoch == 1 + MOST_RETREATS + 1
    run.state.restore_best()
    assert run.state.parameters.vector.isfinite().all()


def test_a_step_size_far_too_large_is_mended_and_noted(digits):
    shares = []
    for seed in range(3):  # how far one run comes that was so wild is the last bit's choice
        wild = Autoencoder(8, learning_rate=1.0, max_epochs=30, random_state=seed).fit(digits)
        shares.append(wild.best_objective_ / wild.history_[0]["validation_objective"])
        assert any("a smaller step size" in note for note in wild.notes_)
    assert max(shares) < 1
    assert np.median(shares) < 0.95
    calm = Autoencoder(8, max_epochs=3, random_state=0).fit(digits)
    assert not any("a smaller step size" in note for note in calm.notes_)


def test_inside_the_loop_the_current_weights_answer_and_afterwards_the_best():
    x = rows().numpy()
    model = Autoencoder(2, hidden=(8,), max_epochs=12, random_state=0)
    codes = []
    for row in model.iter_fit(x):
        codes.append(model.transform(x))
        if row["epoch"] == 3:
            break
    assert not np.array_equal(codes[1], codes[2])
    assert len(model.history_) == 4
    best = model.best_epoch_
    assert best > 0
    np.testing.assert_array_equal(model.transform(x), codes[best - 1])


def test_looks_within_an_epoch_change_nothing(tmp_path):
    """The same history and weights, bit for bit, also of a fit that goes on in another process after a look."""
    x = rows(1000).numpy()
    options = {"hidden": (8,), "max_epochs": 3, "batch_size": 32, "random_state": 0}
    model, expected = Autoencoder(2, **options), Autoencoder(2, **options).fit(x)
    met = list(model.iter_fit(x, every=200))
    looks = [row for row in met if "validation_objective" not in row]
    assert [row["step"] for row in looks] == [8, 16, 24, 32, 40, 48, 56, 64, 72, 80]  # of 29 steps an epoch
    assert all(31 <= row["rows"] / row["step"] <= 32 for row in looks)
    assert untimed(row for row in met if row not in looks) == untimed(model.history_[1:])
    assert untimed(model.history_) == untimed(expected.history_)
    np.testing.assert_array_equal(model.transform(x), expected.transform(x))
    for row in Autoencoder(2, **options).iter_fit(x, every=200, checkpoint=tmp_path):
        if row["step"] == 40:
            break  # which writes the state, with the sums since the last evaluation
    resumed = Autoencoder(2, **options).fit(x, checkpoint=tmp_path)
    assert untimed(resumed.history_) == untimed(expected.history_)
    np.testing.assert_array_equal(resumed.transform(x), expected.transform(x))


def test_at_a_look_the_average_answers():
    x, options = rows(1000).numpy(), {"hidden": (8,), "batch_size": 32, "random_state": 0}
    model, shown = Autoencoder(2, max_epochs=2, **options), {}
    for row in model.iter_fit(x, every=128):
        assert row["training_objective"] > 0
        shown[row["step"]] = model.transform(x)
    assert not np.array_equal(shown[4], shown[8])
    # All 900 rows in 12 steps of 75, whose third look is the first evaluation.
    options["batch_size"] = 75
    model, evaluated = Autoencoder(2, max_epochs=2, **options), Autoencoder(2, max_epochs=2, **options)
    looks = {row["step"]: model.transform(x) for row in model.iter_fit(x, every=300)}
    for row in evaluated.iter_fit(x):
        np.testing.assert_array_equal(looks[row["step"]], evaluated.transform(x))


def test_dropout_is_off_at_a_look_and_on_in_the_steps_after_it():
    x, activation = rows(400).numpy(), nn.Sequential(nn.Tanh(), nn.Dropout(0.5))
    options = {"hidden": (8,), "activation": activation, "max_epochs": 2, "batch_size": 32, "random_state": 0}
    model, expected = Autoencoder(2, **options), Autoencoder(2, **options).fit(x)
    for _ in model.iter_fit(x, every=64):
        np.testing.assert_array_equal(model.transform(x), model.transform(x))
    assert untimed(model.history_) == untimed(expected.history_)


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt])
def test_a_fit_left_after_a_look_has_the_weights_of_it(tmp_path, end):
    """Not those of the start, if that is what was evaluated before; nor is the look lost for a fit that goes on."""
    x, options = rows(1000).numpy(), {"hidden": (8,), "max_epochs": 2, "batch_size": 32, "random_state": 0}
    model, expected = Autoencoder(2, **options), Autoencoder(2, **options).fit(x)
    looks = model.iter_fit(x, every=128, checkpoint=tmp_path)
    for row in looks:
        if row["step"] == 24:
            break
    codes, met = model.transform(x), row["training_objective"]
    with contextlib.suppress(end):
        looks.throw(end)
    assert model.best_objective_ < model.history_[0]["validation_objective"]
    assert [row["step"] for row in model.history_] == [0, 24]
    assert model.history_[-1]["training_objective"] == met
    np.testing.assert_array_equal(model.transform(x), codes)
    resumed = Autoencoder(2, **options).fit(x, checkpoint=tmp_path)
    assert untimed(resumed.history_) == untimed(expected.history_)


def test_a_model_is_saved_at_a_look(tmp_path):
    x = rows(1000).numpy()
    model = Autoencoder(2, hidden=(8,), batch_size=32, random_state=0)
    for row in model.iter_fit(x, every=128):
        model.save(tmp_path / "model.eig")
        np.testing.assert_array_equal(load(tmp_path / "model.eig").transform(x), model.transform(x))
        if row["step"] == 36:  # in the second epoch
            break


@pytest.mark.parametrize("every", [0, -5, 2.5, True, "100"])
def test_a_number_of_rows_between_looks_is_a_positive_int(every):
    with pytest.raises(OptionError, match="'every' must be a positive int"):
        Autoencoder(2).iter_fit(rows().numpy(), every=every)


def test_no_thread_setting_is_held_across_a_yield():
    torch.set_num_threads(2)
    try:
        for _ in Autoencoder(2, hidden=(4,), max_epochs=2, random_state=0).iter_fit(rows().numpy()):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(2)


@pytest.mark.parametrize("weights", [None, np.linspace(0.2, 2, 200)], ids=["alike", "weighted"])
def test_the_history_has_each_term_of_an_objective_of_several(weights):
    x, own = rows().double().numpy(), {"hidden": (8,), "max_epochs": 4, "precision": "float64", "random_state": 0}
    several = Autoencoder(
        2, penalties=[Contractive(0.1)], weight_prior=GaussianWeights(1.0), beta=0.5, prior=LaplacePrior(), **own
    ).fit(x, sample_weight=weights)
    terms = [f"validation_{name}" for name in ("reconstruction", "divergence", "Contractive", "weights")]
    for row in several.history_:
        assert [name for name in row if name.startswith("validation")] == [*terms, "validation_objective"]
        assert sum(row[name] for name in terms) == pytest.approx(row["validation_objective"], rel=1e-12)
    assert np.ptp([[row[name] for name in terms] for row in several.history_], axis=0).min() > 0
    one = Autoencoder(2, **own).fit(x, sample_weight=weights)
    assert not any("reconstruction" in name for row in one.history_ for name in row)


# -- execution


def test_precision_and_threads_follow_the_rule():
    small, large = (choose_execution("cpu", "auto", work) for work in (1e3, 1e12))
    assert (small.precision, small.n_threads) == ("float32", 1)
    assert large.precision == ("bfloat16" if has_bfloat16_units("cpu") else "float32")
    assert large.n_threads == torch.get_num_threads()


def test_bfloat16_trains_networks_fast_and_keeps_weights_in_float32():
    x = rows().numpy()
    options = {"hidden": (16,), "optimizer": "adam", "max_epochs": 30}
    exact, fast = (
        [Autoencoder(2, precision=p, random_state=seed, **options).fit(x) for seed in range(4)]
        for p in ("float32", "bfloat16")
    )
    assert all(p.dtype == torch.float32 for p in fast[0].composition_.parameters())
    assert not np.array_equal(exact[0].transform(x), fast[0].transform(x))
    losses = [np.mean([model.reconstruction_error(x).mean() for model in models]) for models in (exact, fast)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


@pytest.mark.parametrize("kind", [Autoencoder, VariationalAutoencoder])
def test_after_a_fit_only_the_model_has_its_weights(kind):
    """Gradients, moments and averages are gone at once, not when Python next looks for cycles of references."""
    x = rows(600).numpy()
    model_options = {"hidden": (40,), "max_epochs": 2, "batch_size": 32, "random_state": 0}
    model = kind(2, **model_options)
    gc.collect()
    gc.disable()
    try:
        model.fit(x)
        model.partial_fit(x)
        list(model.iter_fit(x))
        fit_many([kind(2, **model_options), kind(2, **{**model_options, "random_state": 1})], x)
        n_weights = sum(parameter.numel() for parameter in model.composition_.parameters())
        alive = [one for one in gc.get_objects() if type(one) in (torch.Tensor, nn.Parameter)]
        assert not [one for one in alive if one.numel() in (n_weights, 2 * n_weights)]
    finally:
        gc.enable()


@pytest.mark.parametrize("shape", [(5,), (2, 5)])
def test_a_copied_optimiser_goes_on_as_the_first_one_and_changes_nothing_of_it(shape):
    def stepped(optimizer, n_steps):
        for number in range(n_steps):
            gradient = torch.linspace(-1, 1, math.prod(shape)).view(shape) * (number + 1)
            optimizer._gradient.copy_(gradient)
            optimizer.step(0.1 if len(shape) == 1 else torch.full(shape[:1], 0.1))
        return [one.clone() for one in (optimizer._weights, *optimizer.state_dict().values())]

    first = ClippedAdam(torch.zeros(shape), torch.zeros(shape))
    kept = stepped(first, 3)
    other = copy.deepcopy(first)
    later = stepped(other, 3)
    assert all(map(torch.equal, stepped(first, 0), kept))
    assert not torch.equal(later[0], kept[0])
    assert all(map(torch.equal, stepped(first, 3), later))
