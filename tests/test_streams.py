"""Streams: blocks of rows learned one after the other, each whole or not at all."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import untimed
from torch import nn

import eigencode
from eigencode import Autoencoder, LinearAutoencoder
from eigencode.errors import DataError, OptionError, TrainingError
from eigencode.estimators import base, evaluation, inputs
from eigencode.estimators.base import BaseAutoencoder
from eigencode.parts import GaussianNoise, Penalty
from eigencode.training.runner import SingleRunner

QUICK = {"hidden": (8,), "batch_size": 32, "random_state": 0}


def vector(model):
    """All weights of a model as one vector."""
    return nn.utils.parameters_to_vector(model.composition_.parameters()).detach().clone()


@pytest.fixture
def steps(monkeypatch):
    """Each step taken: its size, and the rows it was taken on."""
    taken, step = [], SingleRunner.step

    def recording(self, batch, active):
        (run,) = self.runs
        taken.append((run.state.schedule.rate(run.state.step), batch.x))
        return step(self, batch, active)

    monkeypatch.setattr(SingleRunner, "step", recording)
    return taken


# -- what is learned


def test_a_stream_of_blocks_learns(digits):
    model = Autoencoder(4, hidden=(64,), random_state=0)
    for _ in range(8):
        for block in np.array_split(digits[:1400], 4):
            model.partial_fit(block)
    linear = LinearAutoencoder(4).fit(digits[:1400])
    assert model.score(digits[1400:]) > linear.score(digits[1400:])
    assert model.reconstruction_error(digits[1400:]).mean() < 0.9 * linear.reconstruction_error(digits[1400:]).mean()
    assert [row["epoch"] for row in model.history_] == list(range(1, 33))


def test_a_stream_goes_on_exactly_after_a_copy_and_starts_anew_after_fit(digits):
    one = Autoencoder(2, hidden=(8,), corruption=GaussianNoise(0.1), random_state=0).partial_fit(digits[:500])
    two = pickle.loads(pickle.dumps(one))
    for model in (one, two):
        model.partial_fit(digits[500:1000])
    np.testing.assert_array_equal(one.transform(digits), two.transform(digits))
    one.set_params(max_epochs=1).fit(digits)
    assert not hasattr(one, "stream_state_")


def test_a_stream_answers_by_the_average_over_its_steps(digits):
    model = Autoencoder(4, batch_size=64, random_state=0)
    for block in np.array_split(digits, 3):
        model.partial_fit(block)
    state = model.stream_state_
    assert torch.equal(vector(model), state["vector"])
    assert not torch.equal(vector(model), state["aside"])
    assert state["counters"]["averaged_to"] == state["counters"]["step"]


def test_a_saved_stream_goes_on_exactly(digits, tmp_path):
    model = Autoencoder(2, **QUICK).partial_fit(digits[:500], sample_weight=np.full(500, 3.0))
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    for stream in (model, again):
        stream.partial_fit(digits[500:1000], sample_weight=np.full(500, 2.0))
    np.testing.assert_array_equal(again.transform(digits), model.transform(digits))
    assert untimed(again.history_) == untimed(model.history_)


def test_every_row_of_a_block_is_learned_from_once_at_a_step_size_that_stays(digits, steps):
    model = Autoencoder(2, learning_rate=0.01, max_epochs=1, **QUICK).partial_fit(digits[:1600])
    scaled = torch.from_numpy(model.scaler_.transform(digits[:1600])).float()
    met = torch.cat([rows for _, rows in steps])
    assert sorted(met.tolist()) == sorted(scaled.tolist())
    assert model.objective_.n_rows == 1600
    for _ in range(2):
        model.partial_fit(digits[:1600])
    rates = [rate for rate, _ in steps]
    np.testing.assert_allclose(rates[:51], 0.01 * np.arange(1, 52) / 51)
    assert set(rates[50:]) == {0.01}
    assert len(rates) == 150


def test_step_and_batch_size_are_read_anew_for_each_block(digits, steps):
    model = Autoencoder(2, hidden=(8,), batch_size=10, learning_rate=0.01, random_state=0).partial_fit(digits[:600])
    model.set_params(learning_rate=0.002, batch_size=50)
    steps.clear()
    model.partial_fit(digits[600:1200])
    assert {rate for rate, _ in steps} == {0.002}
    assert {len(rows) for _, rows in steps} == {50}


class Moody(nn.Module):
    """A network whose training and evaluation modes differ, and whose buffers move."""

    def __init__(self, n_inputs=64, n_outputs=2):
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(n_inputs), nn.Dropout(0.5)
        self.linear = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)
        nn.init.constant_(self.linear.weight, 0.1)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.linear(self.dropout(self.norm(x)))


def test_a_stream_answers_in_evaluation_mode(digits):
    model = Autoencoder(2, encoder=Moody(), random_state=0)
    for block in (digits[:300], digits[300:600]):
        model.partial_fit(block)
        assert not any(module.training for module in model.composition_.modules())
        np.testing.assert_array_equal(model.transform(digits), model.transform(digits))


# -- after a fit


def test_a_stream_goes_on_from_fitted_weights(digits, steps):
    model = Autoencoder(4, max_epochs=3, **QUICK).fit(digits[:1000])
    codes, scaler, n_steps = model.transform(digits), model.scaler_, model.history_[-1]["step"]
    slow = copy.deepcopy(model).set_params(learning_rate=1e-12).partial_fit(digits[1000:])
    np.testing.assert_allclose(slow.transform(digits), codes, atol=1e-4)
    assert untimed(slow.history_[:-1]) == untimed(model.history_)
    assert (slow.history_[-1]["epoch"], slow.best_epoch_) == (4, 4)
    steps.clear()
    before = model.reconstruction_error(digits).mean()
    for _ in range(4):
        model.partial_fit(digits, sample_weight=np.ones(len(digits)))
    assert model.reconstruction_error(digits).mean() < before
    for name in ("center", "divisor"):
        np.testing.assert_array_equal(getattr(model.scaler_, name), getattr(scaler, name))
    assert model.n_components_ == 4
    rates = np.array([rate for rate, _ in steps])
    np.testing.assert_allclose(rates[:50] / rates[-1], np.arange(1, 51) / 51)  # a fresh optimiser warms up
    assert model.history_[-1]["step"] == n_steps + len(steps)


def test_a_fit_by_lbfgs_goes_on_by_adam(cancer):
    model = Autoencoder(2, hidden=(4,), max_epochs=2, random_state=0).fit(cancer[:100])
    assert model.optimizer_ == "lbfgs"
    assert model.partial_fit(cancer[100:]).optimizer_ == "adam"
    assert model.set_params(optimizer="lbfgs").fit(cancer[:100]).partial_fit(cancer[100:]).optimizer_ == "lbfgs"


def test_a_loaded_fit_and_a_baseline_can_learn_from_blocks(cancer, tmp_path):
    model = Autoencoder(2, hidden=(4,), max_epochs=2, precision="float64", random_state=0).fit(cancer[:100])
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    for stream in (model, again):
        stream.set_params(precision="auto").partial_fit(cancer[100:])  # the weights' precision is settled
    np.testing.assert_array_equal(again.transform(cancer), model.transform(cancer))
    before = model.baseline_.transform(cancer)
    assert not np.array_equal(model.baseline_.partial_fit(cancer).transform(cancer), before)


def test_a_block_inside_a_running_fit_ends_its_reach(cancer):
    model = Autoencoder(2, hidden=(4,), max_epochs=9, random_state=0)
    rows = model.iter_fit(cancer)
    next(rows)
    answers = model.partial_fit(cancer).transform(cancer)
    rows.close()
    np.testing.assert_array_equal(model.transform(cancer), answers)
    assert model.best_epoch_ == 2


def test_the_closed_form_learns_from_no_blocks(cancer):
    model = LinearAutoencoder(2)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError) as caught:
        model.partial_fit(cancer)
    assert isinstance(caught.value.__cause__, OptionError)
    assert "Use solver='gradient'" in str(caught.value.__cause__)
    by_gradient = LinearAutoencoder(2, solver="gradient", random_state=0).partial_fit(cancer)
    assert by_gradient.optimizer_ == "adam"


def test_what_was_made_of_other_weights_is_forgotten(cancer):
    model = Autoencoder(2, hidden=(4,), max_epochs=1, random_state=0).fit(cancer).fit_density(cancer)
    copy.deepcopy(model).partial_fit(cancer[:0:-1]).fit_density(cancer)
    assert not hasattr(copy.deepcopy(model).partial_fit(cancer), "mixture_")
    assert not hasattr(model.fit(cancer), "mixture_")


# -- weights of rows


def distance(model, blocks, weight):
    """How far apart two blocks of one weight lead."""
    ends = [vector(copy.deepcopy(model).partial_fit(b, sample_weight=np.full(len(b), weight))) for b in blocks]
    return float((ends[0] - ends[1]).norm())


@pytest.mark.parametrize("first", [1.0, 1e3])
def test_a_block_moves_the_weights_by_its_own_weight(digits, first):
    model = Autoencoder(2, precision="float64", **QUICK)
    model.partial_fit(digits[:500], sample_weight=np.full(500, first))
    blocks = digits[500:800], digits[800:1100]
    usual = distance(model, blocks, first)
    assert usual > 0.05
    assert distance(model, blocks, 1e-6 * first) < 1e-4 * usual
    assert distance(model, blocks, 1.0) == usual if first == 1 else distance(model, blocks, 1.0) < 0.1 * usual


def test_a_fits_weights_are_the_unit_of_later_blocks(digits):
    model = Autoencoder(2, max_epochs=1, precision="float64", **QUICK).fit(digits[:500], sample_weight=np.full(500, 5))
    blocks = digits[500:800], digits[800:1100]
    assert distance(model, blocks, 5e-6) < 1e-4 * distance(model, blocks, 5)


def test_rows_without_weights_weigh_one(digits):
    first = Autoencoder(2, **QUICK).partial_fit(digits[:500], sample_weight=np.full(500, 2.0))
    none, one, two = (
        copy.deepcopy(first).partial_fit(digits[500:800], sample_weight=weights)
        for weights in (None, np.ones(300), np.full(300, 2.0))
    )
    assert torch.equal(vector(none), vector(one))
    assert not torch.equal(vector(one), vector(two))
    plain = Autoencoder(2, **QUICK).partial_fit(digits[:500]).partial_fit(digits[500:800])
    assert torch.equal(vector(two), vector(plain))


@pytest.mark.parametrize("nothing", [0.0, 2.2e-309, 1e-45, 1e-31])
def test_a_block_that_weighs_nothing_is_passed_over(digits, nothing):
    model = Autoencoder(2, **QUICK).partial_fit(digits[:500])
    before = copy.deepcopy(model)
    model.partial_fit(digits[500:800], sample_weight=np.full(300, nothing))
    assert torch.equal(vector(model), vector(before))
    assert model.history_ == before.history_
    weights = np.repeat([nothing, 1.0], 150)
    model.partial_fit(digits[500:800], sample_weight=weights)
    assert torch.equal(vector(model), vector(before.partial_fit(digits[650:800])))
    fitted, without = Autoencoder(2, **QUICK), Autoencoder(2, **QUICK)
    fitted.fit(digits[500:800], sample_weight=weights)
    assert torch.equal(vector(fitted), vector(without.fit(digits[650:800])))
    with pytest.raises(ValueError, match="All sample weights are zero"):
        Autoencoder(2).partial_fit(digits[:9], sample_weight=np.zeros(9))


@pytest.mark.parametrize("weight", [None, [0.5]])
def test_a_later_block_may_be_one_row(digits, weight):
    model = Autoencoder(2, **QUICK).partial_fit(digits[:500])
    before = vector(model)
    model.partial_fit(digits[500:501], sample_weight=weight)
    after = vector(model)
    assert after.isfinite().all()
    assert not torch.equal(after, before)
    with pytest.raises(ValueError, match=r"minimum of 2|two rows"):
        Autoencoder(2).partial_fit(digits[:1], sample_weight=weight)


def test_weights_beyond_comparison_are_refused(digits):
    model = Autoencoder(2, **QUICK).partial_fit(digits[:100], sample_weight=np.full(100, 1e-300))
    with pytest.raises(DataError, match="comparable with those of the first"):
        model.partial_fit(digits[:100])
    model.partial_fit(digits[:100], sample_weight=np.full(100, 1e-300))


# -- what is refused leaves nothing half done


def assert_unchanged(model, before, rows):
    assert set(vars(model)) == set(vars(before))
    assert model.optimizer_ == before.optimizer_
    assert torch.equal(vector(model), vector(before))
    assert model.history_ == before.history_
    assert not model.composition_.training
    for stream in (model, before):
        stream.partial_fit(rows)
    assert torch.equal(vector(model), vector(before))


@pytest.mark.parametrize(
    ("spoil", "weights"),
    [
        (lambda block: block[:, 1:], None),
        (lambda block: np.where(block == block.max(), np.inf, block), None),
        (lambda block: block * 3, None),  # not from 0 to 1
        (lambda block: block, np.full(100, -1.0)),
        (lambda block: block, np.ones(99)),
        (lambda block: block[:0], None),
    ],
    ids=["columns", "infinite", "support", "negative weights", "fewer weights", "no rows"],
)
def test_a_refused_block_changes_nothing(digits, spoil, weights):
    shares = digits / 16
    model = Autoencoder(2, likelihood="bernoulli", **QUICK).partial_fit(shares[:300])
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match="."):
        model.partial_fit(spoil(shares[300:400]), sample_weight=weights)
    assert_unchanged(model, before, shares[400:500])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("encoder", [None, Moody()], ids=["layers", "own"])
@pytest.mark.parametrize("begin", [BaseAutoencoder.fit, BaseAutoencoder.partial_fit])
def test_a_block_that_fails_on_the_way_changes_nothing(digits, monkeypatch, begin, encoder, error):
    options = {"hidden": (8,), "max_epochs": 2, "random_state": 0}
    model = begin(Autoencoder(2, encoder=encoder, **options), digits[:300])
    model.set_params(batch_size=16)
    before, step = copy.deepcopy(model), SingleRunner.step

    def failing(self, batch, active):
        if self.runs[0].state.step % 10 == 7:
            raise error
        return step(self, batch, active)

    with monkeypatch.context() as patch:
        patch.setattr(SingleRunner, "step", failing)
        with pytest.raises(error):
            model.partial_fit(digits[300:800])
        unfitted = Autoencoder(2, encoder=encoder, batch_size=16)
        with pytest.raises(error):
            unfitted.partial_fit(digits[300:800])
    assert not [name for name in vars(unfitted) if name.endswith("_")]
    assert_unchanged(model, before, digits[800:1000])


class Brittle(Penalty):
    """A penalty that breaks on extreme rows."""

    def forward(self, trace, composition):
        return trace.z.square().sum(1) * torch.where(trace.x.abs() > 100, torch.nan, 1.0).mean(1)


def test_a_block_that_leaves_no_numbers_is_refused(cancer):
    model = Autoencoder(2, hidden=(4,), penalties=[Brittle()], optimizer="lbfgs", random_state=0)
    model.partial_fit(cancer[:200])
    before = copy.deepcopy(model)
    extreme = cancer[200:300].copy()
    extreme[0] = 1e6
    with pytest.raises(TrainingError, match="left weights that are not finite"):
        model.partial_fit(extreme)
    assert_unchanged(model, before, cancer[300:400])


# -- the rows are read once


def test_rows_are_converted_once_where_their_values_are_checked(digits, monkeypatch):
    calls, read_rows = [], inputs.read_rows

    def counted(*args, **options):
        calls.append(args)
        return read_rows(*args, **options)

    for module in (inputs, base, evaluation):
        monkeypatch.setattr(module, "read_rows", counted)
    model = Autoencoder(2, likelihood="bernoulli", **QUICK)
    for ask in (model.partial_fit, model.partial_fit, model.score_samples):
        calls.clear()
        ask(digits[:200] / 16)
        assert len(calls) == 1, ask


@pytest.mark.parametrize("heaviness", [0.01, 100.0])
def test_the_objective_of_a_weighted_block_is_a_mean_a_row(digits, heaviness):
    """Whatever the weights are counted in; the weighted mean where they differ."""
    start = Autoencoder(2, hidden=(), random_state=0, batch_size=100).partial_fit(digits[:400])
    whole = [copy.deepcopy(start).partial_fit(digits[400:500]) for _ in range(2)]
    block = copy.deepcopy(start).partial_fit(digits[400:500], sample_weight=np.full(100, heaviness))
    assert block.best_objective_ == pytest.approx(whole[0].best_objective_, rel=1e-5)
    weights = np.linspace(0.5, 1.5, 100) * heaviness
    mixed = copy.deepcopy(start).partial_fit(digits[400:500], sample_weight=weights)
    x = torch.from_numpy(start.scaler_.transform(digits[400:500])).float()
    with torch.no_grad():
        each = start.objective_(start.composition_, start.composition_(x)).numpy()
    assert mixed.best_objective_ == pytest.approx(np.average(each, weights=weights), rel=1e-4)
