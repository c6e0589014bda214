"""The loop, its state, its schedule and its optimiser."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from eigencode import Autoencoder
from eigencode.errors import OptionError
from eigencode.fitting import preparation
from eigencode.fitting.defaults import RECIPES
from eigencode.fitting.preparation import prepare
from eigencode.parts import GaussianLikelihood, GaussianNoise
from eigencode.parts.likelihoods.closed_forms import GaussianExpansion
from eigencode.training import loop
from eigencode.training.execution import choose_execution, has_bfloat16_units
from eigencode.training.optimizers import BETAS, CLIP_FACTOR, EPSILON, ClippedAdam, ClippedAdamOfRows
from eigencode.training.rng import generator, may_draw_globally, resolve_seed
from eigencode.training.schedule import ENDLESS, Schedule
from eigencode.training.state import AVERAGE_EVERY, MOST_RETREATS, FlatParameters


def rows(n=200):
    """Points near a curve in six dimensions, which a nonlinear code follows better than any plane."""
    t = np.random.default_rng(0).uniform(0, 2 * np.pi, size=n)
    curve = np.column_stack([np.cos(t), np.sin(t), np.cos(2 * t), np.sin(2 * t), np.cos(3 * t), t / 4])
    return torch.from_numpy(curve - curve.mean(0)).float()


def prepared(**options):
    return prepare(Autoencoder(2, **{"hidden": (8,), "batch_size": 32, "random_state": 0, **options}), rows(), seed=0)


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


def test_a_stream_warms_up_from_where_it_begins_and_never_decays():
    schedule = Schedule.endless(peak=2.0, warmup=9, begins=30)
    rates = [schedule.rate(step) for step in range(30, 50)]
    np.testing.assert_allclose(rates[:10], 2.0 * np.arange(1, 11) / 10)
    assert set(rates[9:]) == {schedule.rate(ENDLESS - 1)} == {2.0}
    assert Schedule.endless(2.0, 9).rate(0) == pytest.approx(0.2)


def test_a_plateau_during_the_warm_up_starts_no_decay():
    run = prepared(batch_size=200, optimizer="adam", patience=1, learning_rate=1e-12, max_epochs=1000)
    assert (run.work.n_batches, run.state.schedule.warmup) == (1, 50)
    loop.begin(run.state, run.work)
    list(loop.epochs(run.state, run.work))
    assert 50 <= run.state.schedule.decay_from <= 52
    assert run.state.step == run.state.schedule.end < 100


# -- noise


def test_noise_depends_on_its_name_and_place_alone():
    def draw(*words):
        return torch.rand(3, generator=generator(*words)).tolist()

    assert draw(0, "step", 3) == draw(0, "step", 3)
    assert len({tuple(draw(*words)) for words in itertools.product((0, 1), ("step", "shuffle"), (1, 2))}) == 8


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
            run = prepare(Autoencoder(2, max_epochs=2, optimizer=optimizer, **options), rows(60), seed)
            loop.begin(run.state, run.work)
            list(loop.epochs(run.state, run.work))
            assert torch.equal(torch.get_rng_state(), before)
        return run.state.parameters.vector

    first = vector(0, 1)
    assert torch.equal(first, vector(0, 2))
    assert not torch.equal(first, vector(1, 1))


def test_each_step_has_a_draw_of_its_own_and_each_evaluation_of_a_step_the_same():
    run = prepare(Autoencoder(2, encoder=layers_with(nn.Dropout(0.4)), batch_size=200), rows(), seed=0)
    losses = []
    run.state.optimizer.step = lambda closure, rate: (
        losses.append([closure().item(), closure().item()]) or torch.zeros(())
    )
    run.state.composition.train()
    step = loop.stepper(run.state, run.work)
    for _ in range(3):
        step(run.work.rows_of(run.work.training), None)
    assert all(one == again for one, again in losses)
    assert len({one for one, _ in losses}) == 3


def test_models_without_such_layers_pay_nothing_for_them(monkeypatch):
    run = prepared(max_epochs=1)
    monkeypatch.setattr(loop, "own_global_generator", None)
    loop.begin(run.state, run.work)
    list(loop.epochs(run.state, run.work))
    assert not may_draw_globally(layers_with(nn.PReLU(), nn.BatchNorm1d(8)))
    assert prepare(Autoencoder(2, encoder=layers_with(nn.Dropout(0.1))), rows(60), 0).decisions.optimizer == "adam"
    assert prepare(Autoencoder(2, encoder=layers_with(nn.Tanh())), rows(60), 0).decisions.optimizer == "lbfgs"


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


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipped_adam_is_adam_in_the_unit_of_the_gradients_mean_length(dtype, scale):
    """So the unit of the objective changes nothing."""
    rng = np.random.default_rng(0)
    gradients = [torch.tensor(rng.normal(size=5) * [1, 1, 1, 0.1, 1e-4], dtype=dtype) for _ in range(20)]
    gradients[7] *= 40  # clipped
    weights = nn.Parameter(torch.zeros(5, dtype=dtype))
    optimizer, remaining = ClippedAdam(weights), iter(gradients)

    def closure():
        weights.grad = next(remaining) * scale
        return torch.zeros(())

    for _ in gradients:
        optimizer.step(closure, 0.1)
    expected = literal_adam([g.double() for g in gradients], 0.1, dtype)
    torch.testing.assert_close(weights.detach().double(), expected, rtol=1e-4, atol=1e-6)


def test_weights_that_hardly_any_row_concerns_are_moved_less_far():
    weights = nn.Parameter(torch.zeros(3))
    optimizer = ClippedAdam(weights)

    def closure():
        weights.grad = torch.tensor([1.0, -1.0, 1e-3 * EPSILON])
        return torch.zeros(())

    for _ in range(10):
        optimizer.step(closure, 0.1)
    moved = weights.detach().abs()
    assert moved[0] == pytest.approx(moved[1])
    assert moved[2] < 0.01 * moved[0]


def test_an_outlying_gradient_is_shortened_and_a_broken_one_moves_nothing():
    weights = nn.Parameter(torch.zeros(2))
    optimizer = ClippedAdam(weights)
    gradients = iter([torch.tensor([1.0, 0.0]), torch.tensor([1e6, 0.0]), torch.tensor([math.nan, 1.0])])

    def closure():
        weights.grad = next(gradients)
        return torch.zeros(())

    optimizer.step(closure, 0.1)
    first_moment = optimizer.mean.clone()
    optimizer.step(closure, 0.1)
    # Adam's first moment shows the gradient it was given, 0.9 m + 0.1 g, in units of its mean length.
    seen = (optimizer.mean - 0.9 * first_moment) / 0.1 * optimizer.running / 2**0.5
    assert seen[0] == pytest.approx(CLIP_FACTOR, rel=1e-4)
    before = weights.detach().clone()
    optimizer.step(closure, 0.1)
    assert torch.equal(weights.detach(), before)
    assert all(value.isfinite().all() for value in optimizer.state_dict().values())


def test_gradients_of_zero_move_nothing():
    weights = nn.Parameter(torch.ones(2))
    optimizer = ClippedAdam(weights)

    def closure():
        weights.grad = torch.zeros(2)
        return torch.zeros(())

    for _ in range(3):
        optimizer.step(closure, 0.1)
    assert torch.equal(weights.detach(), torch.ones(2))


# -- loop


def test_a_resumed_run_is_the_same_run_bit_for_bit():
    options = {"max_epochs": 6, "corruption": GaussianNoise(0.2)}
    whole = prepared(**options)
    loop.begin(whole.state, whole.work)
    list(loop.epochs(whole.state, whole.work))

    first = prepared(**options)
    loop.begin(first.state, first.work)
    for _ in itertools.islice(loop.epochs(first.state, first.work), 3):
        pass
    saved = copy.deepcopy(first.state.state_dict())
    second = prepared(**options)
    second.state.load_state_dict(saved)
    list(loop.epochs(second.state, second.work))

    assert second.state.history == whole.state.history
    assert torch.equal(second.state.parameters.vector, whole.state.parameters.vector)
    assert torch.equal(second.state.best.vector, whole.state.best.vector)
    assert first.state.history != whole.state.history


def test_the_average_is_over_the_steps_and_recent_ones_count_most():
    run = prepared(max_epochs=9, optimizer="adam")  # 6 batches an epoch: every second one ends between two looks
    taken = [run.state.parameters.vector.detach().clone()]
    step = run.state.optimizer.step

    def watched(closure, rate):
        loss = step(closure, rate)
        taken.append(run.state.parameters.vector.detach().clone())
        return loss

    run.state.optimizer.step = watched
    loop.begin(run.state, run.work)
    list(loop.epochs(run.state, run.work))
    n_steps, looks = len(taken) - 1, sorted({*range(0, len(taken), AVERAGE_EVERY), *range(0, len(taken), 6)})
    power = 1 / run.state.optimizer.memory
    expected = sum(
        ((look / n_steps) ** power - (before / n_steps) ** power) * taken[look].double()
        for before, look in itertools.pairwise(looks)
    )
    assert (run.work.n_batches, n_steps) == (6, 54)
    assert run.state.shows_average
    torch.testing.assert_close(run.state.parameters.vector.detach().double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(run.state.aside, taken[-1])


def test_an_epoch_goes_on_from_the_last_weights_and_not_from_their_average(monkeypatch):
    def last_weights():
        run = prepared(max_epochs=4, optimizer="adam")
        loop.begin(run.state, run.work)
        list(loop.epochs(run.state, run.work))
        run.state.show(average=False)
        return run.state.parameters.vector.detach().clone()

    averaged = last_weights()
    monkeypatch.setattr(ClippedAdam, "memory", 0.0)
    assert torch.equal(averaged, last_weights())


@pytest.mark.parametrize("n_epochs", [5, 10])
def test_before_the_decay_the_average_is_worth_more_than_the_last_weights(digits, n_epochs):
    for seed in range(3):
        run = prepare(
            Autoencoder(8, hidden=(128,), max_epochs=100),
            torch.from_numpy((digits - digits.mean(0)) / digits.std()).float(),
            seed=seed,
        )
        loop.begin(run.state, run.work)
        *_, row = itertools.islice(loop.epochs(run.state, run.work), n_epochs)
        run.state.show(average=False)
        last = loop.evaluate_mean(run.state.composition, run.work, seed)
        start = run.state.history[0]["validation_objective"]
        assert start - row["validation_objective"] > 1.04 * (start - last)


def test_lbfgs_keeps_its_last_weights():
    run = prepared(max_epochs=5, optimizer="lbfgs")
    loop.begin(run.state, run.work)
    list(loop.epochs(run.state, run.work))
    assert torch.equal(run.state.aside, run.state.parameters.vector)


def test_every_row_is_seen_once_an_epoch_in_batches_as_equal_as_can_be(monkeypatch):
    run = prepared(max_epochs=1, validation_fraction=0.1)
    seen = []
    feed = loop.feed

    def recording(rows, batches, device):
        for batch, x in zip(batches, feed(rows, batches, device), strict=True):
            seen.append(batch)
            yield x

    monkeypatch.setattr(loop, "feed", recording)
    loop.begin(run.state, run.work)
    list(loop.epochs(run.state, run.work))
    assert torch.cat(seen).sort().values.tolist() == run.work.training.tolist()
    assert {len(batch) for batch in seen} <= {30, 31, 32}
    everything = torch.cat([run.work.training, run.work.held_out])
    assert everything.sort().values.tolist() == list(range(200))
    assert len(run.work.held_out) == 20


def test_the_best_weights_are_kept_and_never_worse_than_the_start():
    model = Autoencoder(2, hidden=(64,), learning_rate=0.5, max_epochs=8, random_state=0).fit(rows().numpy())
    held_out = [row["validation_objective"] for row in model.history_]
    assert max(held_out[1:]) > held_out[0]  # so large a step does harm
    best = min(held_out)
    assert model.history_[model.best_epoch_]["validation_objective"] == best
    order = torch.randperm(200, generator=generator(model.seed_, "split"))[:20]
    kept = -(model.score_samples(rows().numpy()[order]) - model.scaler_.log_jacobian).mean()
    assert kept == pytest.approx(best, rel=1e-5)


def test_the_best_epoch_is_chosen_by_weight():
    x, weights = rows().numpy(), np.random.default_rng(0).uniform(0, 1, size=200) ** 8
    model = Autoencoder(2, hidden=(64,), learning_rate=0.1, max_epochs=8, random_state=0).fit(x, sample_weight=weights)
    order = torch.randperm(200, generator=generator(model.seed_, "split"))[:20]
    costs = model.scaler_.log_jacobian - model.score_samples(x[order])
    best = min(row["validation_objective"] for row in model.history_)
    assert best == model.best_objective_ == pytest.approx(np.average(costs, weights=weights[order]), rel=1e-5)
    assert best != pytest.approx(costs.mean(), rel=1e-2)


@pytest.mark.parametrize("n", [30, 99, 1000, 1049])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_bounded_sample_settles_a_likelihood(monkeypatch, n, weighted):
    seen, calibrate = [], GaussianExpansion.calibrate
    monkeypatch.setattr(preparation, "CALIBRATION_ROWS", 50)
    monkeypatch.setattr(
        GaussianExpansion,
        "calibrate",
        lambda self, batch, output: (seen.append(len(batch)), calibrate(self, batch, output)),
    )
    weights = np.random.default_rng(0).uniform(0.5, 1.5, size=n) if weighted else None
    prepare(Autoencoder(2, hidden=(4,), likelihood=GaussianLikelihood("learned")), rows(n), 0, None, weights)
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
        run = prepare(Autoencoder(2, optimizer="adam", random_state=0), rows(n), seed=0)
        assert run.state.schedule.end >= 2000


def test_small_tables_without_noise_are_fitted_all_rows_at_once():
    def optimizer(n, **options):
        return prepare(Autoencoder(2, random_state=0, **options), rows(n), seed=0).decisions.optimizer

    assert optimizer(100) == "lbfgs"
    assert optimizer(1000) == "adam"
    assert optimizer(100, corruption=GaussianNoise(0.1)) == "adam"
    assert optimizer(100, precision="bfloat16") == "adam"
    assert optimizer(100, optimizer="adam") == "adam"


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
    run = prepared(optimizer="adam")
    assert run.state.schedule.peak == RECIPES["adam"].learning_rate(32, len(run.state.parameters.vector))
    assert run.state.schedule.peak < RECIPES["adam"].largest_rate


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_without_a_gradient_or_a_step_size_stays_and_the_others_step(dtype):
    """The step of many models at once, whose denominators hold each one's own step size."""
    matrix, gradient = torch.ones(3, 5, dtype=dtype), torch.ones(3, 5, dtype=dtype)
    gradient[1] = math.nan
    gradient[:, 4] = 0  # as of weights that a narrow model lacks
    optimizer = ClippedAdamOfRows(matrix, gradient, [5, 5, 5])
    optimizer.step(torch.tensor([0.1, 0.1, 0.0]))
    assert torch.equal(matrix[1:], torch.ones(2, 5, dtype=dtype))
    assert matrix[0, 4] == 1
    assert (matrix[0, :4] < 0.95).all()
    gradient.fill_(1.0)
    optimizer.step(torch.tensor([0.1, 0.1, 0.0]))
    assert (matrix[1] < 0.95).all()
    assert torch.equal(matrix[2], torch.ones(5, dtype=dtype))


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("harm", [math.nan, 1e6])
def test_a_run_that_blows_up_goes_on_from_the_best_weights_with_half_the_step_size(optimizer, harm):
    run = prepared(max_epochs=50, init="random", patience=50, optimizer=optimizer)
    loop.begin(run.state, run.work)
    peak = run.state.schedule.peak
    for row in loop.epochs(run.state, run.work):
        if row["epoch"] == 5:
            for vector in (run.state.parameters.vector.data, run.state.aside):
                vector.fill_(harm)
        if row["epoch"] == 6:
            assert not row["validation_objective"] < run.state.history[0]["validation_objective"]
            assert torch.equal(run.state.parameters.vector, run.state.best.vector)
            assert (run.state.schedule.peak, run.state.n_retreats) == (peak / 2, 1)
    assert run.state.epoch == 50
    assert run.state.best.epoch > 6


def test_a_run_that_always_blows_up_is_given_up():
    run = prepared(max_epochs=50, init="random")
    loop.begin(run.state, run.work)
    for _ in loop.epochs(run.state, run.work):
        run.state.parameters.vector.data.fill_(math.nan)
    assert run.state.n_retreats == MOST_RETREATS + 1
    assert run.state.epoch == 1 + MOST_RETREATS + 1
    run.state.restore_best()
    assert run.state.parameters.vector.isfinite().all()


def test_a_step_size_far_too_large_is_mended_and_said(digits):
    shares = []
    for seed in range(3):  # how far one run comes that was so wild is the last bit's choice
        wild = Autoencoder(8, learning_rate=1.0, max_epochs=30, random_state=seed).fit(digits)
        shares.append(wild.best_objective_ / wild.history_[0]["validation_objective"])
        assert any("half the step size" in note for note in wild.notes_)
    assert max(shares) < 1
    assert np.median(shares) < 0.95
    calm = Autoencoder(8, max_epochs=3, random_state=0).fit(digits)
    assert not any("half the step size" in note for note in calm.notes_)


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


def test_no_thread_setting_is_held_across_a_yield():
    torch.set_num_threads(2)
    try:
        for _ in Autoencoder(2, hidden=(4,), max_epochs=2, random_state=0).iter_fit(rows().numpy()):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(2)


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


def test_an_evaluation_ends_with_no_small_block():
    """States are set by a look at each block, the last one's stay: of 8193 rows it must not be a single one."""
    assert [len(block) for block in loop.blocks_of(torch.zeros(8193, 1))] == [4097, 4096]
    assert [len(block) for block in loop.blocks_of(torch.zeros(8192, 1))] == [8192]
    assert [len(block) for block in loop.blocks_of(torch.zeros(0, 1))] == [0]
