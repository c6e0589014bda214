"""How sparse codes come to be as sparse as wanted, and what their parts promise; the identities are next door."""

import copy
import math
import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from conftest import untimed
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import Lasso
from torch import nn

import eigencode
from eigencode import Autoencoder, AutoencoderClassifier, Composition, Objective, SparseAutoencoder
from eigencode.batch import Batch
from eigencode.errors import OptionError
from eigencode.parts import (
    MLP,
    AdaptiveKLSparsity,
    AdaptiveLaplace,
    AuxiliaryLoss,
    BernoulliLikelihood,
    CategoricalLikelihood,
    Chain,
    DiagonalGaussian,
    Dictionary,
    Frozen,
    GaussianLikelihood,
    GaussianNoise,
    KLSparsity,
    LaplaceLikelihood,
    LaplacePrior,
    Likelihood,
    NegativeBinomialLikelihood,
    OptimalCode,
    Point,
    PoissonLikelihood,
    Sigmoid,
    Sizes,
    SparseDelta,
    StandardNormalPrior,
    ThresholdedReLU,
    TopK,
)
from eigencode.parts.adaptive_sparsity import mean_given
from eigencode.parts.codes.selection import is_largest
from eigencode.parts.codes.sparse import exceeded_by
from eigencode.parts.networks import splitting
from eigencode.parts.networks.dictionaries import principal_directions
from eigencode.parts.networks.splitting import Splitting, ridge_regression
from eigencode.parts.penalties.activity import bernoulli_divergence
from eigencode.parts.priors import soft_threshold
from eigencode.testing import check_code, check_penalty
from eigencode.training.evaluation import EVALUATION_ROWS, evaluate, evaluate_terms, learn_from_validation

pytestmark = pytest.mark.slow

KINDS = {
    "l1": {"active": 3},
    "l1, weight": {"weight": 2.0},
    "top_k": {"sparsity": "top_k", "active": 3},
    "kl": {"sparsity": "kl", "active": 0.1},
    "kl, weight": {"sparsity": "kl", "active": 0.1, "weight": 3.0},
    "l1, optimal": {"code": "optimal", "active": 3},
    "top_k, optimal": {"code": "optimal", "sparsity": "top_k", "active": 3},
}


class TwoOutputs(Likelihood):
    """A normal whose mean and log-variance are both the decoder's: two numbers a column."""

    def n_outputs(self, n_features):
        return 2 * n_features

    def forward(self, output):
        mean, log_variance = output.chunk(2, dim=-1)
        return DiagonalGaussian(mean, log_variance.exp())


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def built(n_features=4, n_components=3, n_rows=1, **filled):
    """A composition with its tensors, in float64 and in training mode."""
    model = Composition(filled.pop("encoder", MLP()), filled.pop("decoder", MLP()), **filled)
    model.setup(n_features, n_components, torch.Generator().manual_seed(0), Sizes(n_features, n_components, n_rows))
    return model.double().train()


def next_state(term, trace, model):
    """A term's state after a step that met this trace."""
    return term.next_state(term.statistics(trace, model), len(trace.x))


@pytest.fixture(scope="module")
def blocks():
    """Rows made of 3 of 16 atoms each, with positive coefficients and a little noise: 900 of 12 columns."""
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(16, 12))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    active = rng.permuted(np.tile(np.arange(16), (900, 1)), axis=1) < 3
    return (active * (0.5 + rng.exponential(size=(900, 16)))) @ atoms + 0.02 * rng.normal(size=(900, 12))


# -- codes


def test_codes_pass_the_conformance_suite():
    for code in (TopK(1), TopK(2), TopK(3, signed=True), ThresholdedReLU(2.0), Sigmoid(0.3)):
        check_code(code)


def test_top_k_is_a_sort_of_each_row():
    output = noise(50, 7)
    for k in (1, 3, 7):
        slow, slow_signed = torch.zeros_like(output), torch.zeros_like(output)
        for i, row in enumerate(output.tolist()):
            for j in sorted(range(7), key=lambda j: -row[j])[:k]:
                slow[i, j] = max(row[j], 0.0)
            for j in sorted(range(7), key=lambda j: -abs(row[j]))[:k]:
                slow_signed[i, j] = row[j]
        assert torch.equal(TopK(k)(output).mean, slow)
        assert torch.equal(TopK(k, signed=True)(output).mean, slow_signed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_largest_are_those_of_a_sort_alone_and_for_several_models(dtype):
    sizes = torch.randn(3, 20, 7, generator=torch.Generator().manual_seed(0)).to(dtype).relu()
    sizes[0, 0], sizes[1, 2] = 1.0, torch.tensor([0.0, 2.0, 1.0, 2.0, 2.0, 3.0, 1.0])  # equal ones
    for k in (1, 2, 4, 7):
        order = sizes.sort(descending=True, stable=True).indices[..., :k]
        expected = torch.zeros_like(sizes).scatter(-1, order, 1.0) * (sizes > 0)
        assert torch.equal(is_largest(sizes, k), expected)
        of_members = torch.func.vmap(lambda x, k=k: is_largest(x, k), in_dims=1)(sizes)
        assert torch.equal(of_members, expected.transpose(0, 1))
    many = torch.randn(30, 50, generator=torch.Generator().manual_seed(1)).to(dtype).relu()
    many[0, 1:], many[1:4] = 0.0, many[1:4].round()
    for k in (1, 3, 6, 9):
        order = many.sort(descending=True, stable=True).indices[:, :k]
        assert torch.equal(is_largest(many, k), torch.zeros_like(many).scatter(-1, order, 1.0) * (many > 0))
    slope = torch.func.jvp(lambda x: x * is_largest(x, 2), (sizes,), (torch.ones_like(sizes),))[1]
    assert torch.equal(slope, is_largest(sizes, 2))


def test_the_proximal_operator_of_top_k_is_its_code():
    z = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    for code in (TopK(1), TopK(4), TopK(9), TopK(3, signed=True)):
        assert torch.equal(code.proximal(z), code(z).mean)
    assert TopK(1).proximal(torch.tensor([[2.0, 2.0, 1.0]])).tolist() == [[2.0, 0.0, 0.0]]


def test_about_as_many_values_exceed_a_threshold_as_were_asked_for():
    values = noise(101, 5)
    for number in (0, 1, 10, 100):
        assert ((values > exceeded_by(values, number)).sum(0) == number).all()
    assert ((values > exceeded_by(values, 500)).sum(0) == 100).all(), "one is the threshold itself"


def test_rectified_units_begin_equally_active_and_follow_the_shift():
    model = built(code=ThresholdedReLU(1.5), prior=AdaptiveLaplace(1.5))
    x = noise(400, 4)
    model.begin(x)
    code, prior = model.code, model.prior
    counts = (model.encode(x).mean != 0).sum(0)
    assert (counts - 200).abs().max() <= 1, "each of three units has half of the rows"
    spread = model.encoder(x).std(0, correction=0)
    prior.threshold_shift.fill_(0.3)
    expected = (model.encoder(x) - code.threshold - 0.3 * spread).relu()
    torch.testing.assert_close(model.encode(x).mean, expected)
    with pytest.raises(OptionError, match="needs a term that moves its thresholds"):
        built(code=ThresholdedReLU(1.0), prior=LaplacePrior()).begin(x)


@pytest.mark.parametrize(
    ("filled", "wanted"),
    [
        ({"code": ThresholdedReLU(1.0), "prior": AdaptiveLaplace(1.0)}, 0.7),
        ({"code": ThresholdedReLU(1.0), "prior": AdaptiveLaplace(1.0)}, 2.4),
        ({"code": Sigmoid(0.1), "penalties": [AdaptiveKLSparsity(0.1)]}, 0.03),
        ({"code": Sigmoid(0.1), "penalties": [AdaptiveKLSparsity(0.1)]}, 0.9),
    ],
)
def test_a_shift_gives_exactly_the_activity_asked_for(filled, wanted):
    model = built(**filled)
    x = 3 * noise(500, 4)
    model.begin(x)
    (adaptive,) = (term for term in model.terms if hasattr(term, "threshold_shift"))
    adaptive.threshold_shift += model.code.shift_for(model.code.inputs_of(model.encode(x)), wanted).detach()
    found = adaptive.activity_of(model.encode(x).mean).mean().item()
    assert found == pytest.approx(wanted, abs=1.5 / 500 if filled.get("prior") else 1e-6), "counts are whole"


# -- adaptive sparsity


def test_a_step_pushes_towards_the_aim_and_states_are_returned_not_changed():
    model = built(code=Point("relu"), prior=AdaptiveLaplace(1.0))
    prior = model.prior
    trace = model(noise(64, 4))
    count = (trace.z != 0).double().sum(1).mean()
    before = {name: value.clone() for name, value in prior.named_buffers()}
    new, again = next_state(prior, trace, model), next_state(prior, trace, model)
    assert all(torch.equal(value, before[name]) for name, value in prior.named_buffers())
    assert all(torch.equal(new[name], again[name]) for name in new)
    assert new["rate"].item() == pytest.approx(math.exp(0.05 * min(math.log(count), 1.0)), rel=1e-6)
    assert new["fitted"].item() == pytest.approx(0.8 + 0.2 * count.item(), rel=1e-6), "a fifth of what it remembers"
    assert new["threshold_shift"].item() == pytest.approx(math.log(new["rate"]), rel=1e-6)
    assert not new["rate"].requires_grad
    prior.aim.copy_(2 * count)
    assert next_state(prior, trace, model)["rate"] < prior.rate


def test_the_rate_starts_at_the_slopes_that_as_many_units_exceed():
    """For an orthonormal dictionary that makes the optimal code as active as wanted at once."""
    model = built(6, 6, encoder=OptimalCode(), decoder=Dictionary(principal=True), prior=AdaptiveLaplace(2.0))
    x = noise(300, 6) * torch.tensor([3.0, 2.0, 2.0, 1.0, 1.0, 0.5])
    model.begin(x - x.mean(0))
    slopes = 2 * (x - x.mean(0)) @ model.decoder.columns
    ordered = slopes.abs().flatten().sort(descending=True).values
    assert ordered[600] <= model.prior.rate <= ordered[599]
    codes = model.eval().encode(x - x.mean(0)).mean
    assert (codes != 0).double().sum(1).mean().item() == pytest.approx(2.0, abs=1e-9)


def test_the_aim_is_what_the_rows_fitted_have_when_validation_rows_are_as_active_as_wanted():
    model = built(code=Point("relu"), prior=AdaptiveLaplace(1.0)).eval()
    prior = model.prior
    x = noise(500, 4)
    model.begin(x)
    for n in (500, 20):
        active = (model(x[:n]).z != 0).double().sum(1)
        prior.fitted.copy_(active.mean() / 1.3)
        expected = mean_given(active, x[:n].norm(dim=1), x.norm(dim=1).mean())
        aim = prior.validation_state(prior.validation_statistics(model(x[:n]), model), model)["aim"].item()
        assert aim == pytest.approx((prior.fitted / expected).item(), rel=1e-6)
    prior.fitted.fill_(1e-9)
    seen = prior.validation_statistics(model(x), model)
    assert prior.validation_state(seen, model)["aim"].item() == pytest.approx(0.2), "a gap has an end"


@pytest.mark.parametrize("kind", ["l1", "kl"])
def test_a_look_at_held_out_rows_sets_their_activity_and_its_own_evaluation_sees_it(kind):
    """With the length of all rows, the mean activity of the validation rows is the one wanted after a look."""
    filled = (
        {"code": ThresholdedReLU(1.2), "prior": AdaptiveLaplace(1.2)}
        if kind == "l1"
        else {"code": Sigmoid(0.2), "penalties": [AdaptiveKLSparsity(0.2)]}
    )
    model = built(**filled).eval()
    model.begin(noise(400, 4))
    x = 1.7 * noise(4000, 4, seed=1)
    (adaptive,) = (term for term in model.terms if hasattr(term, "threshold_shift"))
    adaptive.length.copy_(x.norm(dim=1).mean())
    adaptive.fitted.copy_(adaptive.activity_of(model.encode(x).mean).mean())
    assert abs(adaptive.activity_of(model(x).z).mean() / adaptive.wanted - 1) > 0.005, "there was something to do"
    blocks = list(Batch(x).split(EVALUATION_ROWS))
    learn_from_validation(model, blocks, seed=0)
    found = evaluate(model, Objective(), blocks, seed=0)
    trace = model(x)
    assert adaptive.activity_of(trace.z).mean().item() == pytest.approx(adaptive.wanted.item(), rel=1e-3)
    assert adaptive.cost_of_missing == 0
    assert found == pytest.approx(Objective().mean(model, trace).item(), rel=1e-12), "evaluated as it is kept"


def test_the_regression_estimator_takes_out_what_a_covariate_explains():
    lengths = noise(4000).abs() + 1
    values = 3 * lengths + 0.1 * noise(4000, seed=1)
    sample = slice(0, 40)
    mean = mean_given(values[sample], lengths[sample], lengths.mean())
    # The residuals' standard deviation is 0.1, and its mean over 40 has 0.016.
    assert abs(mean - values.mean()) < 4 * 0.016
    # Against least squares by NumPy.
    design = np.column_stack([np.ones(40), lengths[sample]])
    coefficients = np.linalg.lstsq(design, values[sample].numpy(), rcond=None)[0]
    assert mean.item() == pytest.approx(coefficients @ [1, lengths.mean()], rel=1e-10)
    few = mean_given(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.1]), torch.tensor(9.0))
    assert few == 3.0, "two rows may say anything of others: half of their mean at most"
    assert mean_given(values[:1], lengths[:1], lengths.mean()) == values[0]


def test_weights_are_evaluated_by_what_missing_the_activity_costs():
    model = built(code=Point("relu"), prior=AdaptiveLaplace(2.0)).eval()
    x = noise(30, 4)
    model.begin(x)
    prior = model.prior
    stake = x.square().sum(1).mean().item()
    for reached, cost in ((2.0, 0), (2.09, 0), (2.2, 0.5 * stake), (1.8, 0.5 * stake), (4.0, stake)):
        prior.fitted.fill_(reached)
        assert Objective().terms(model, model(x))["divergence"].item() == pytest.approx(cost, rel=1e-5, abs=1e-9)
    prior.fitted.fill_(2.1)
    assert prior.warn_after_training() is None
    prior.fitted.fill_(2.5)
    assert "about 2.5, not 2" in prior.warn_after_training()


def activities(rows, n_training, kind, active, n_seeds, **options):
    """Activity of rows never seen over the one asked for, one number a seed, each with a split of its own."""
    found = []
    for seed in range(n_seeds):
        order = np.random.default_rng(seed).permutation(len(rows))
        model = SparseAutoencoder(sparsity=kind, active=active, random_state=seed, **options)
        codes = model.fit(rows[order[:n_training]]).transform(rows[order[n_training:]])
        found.append((codes.mean() if kind == "kl" else (codes != 0).sum(1).mean()) / active)
        assert not any("activity" in note for note in model.notes_)
        adaptive = model.composition_.prior or model.composition_.penalties[0]
        assert adaptive.cost_of_missing == 0, "the kept epoch is one that meets it"
    return np.array(found)


def error_of_mean(found):
    """The standard error of a mean."""
    return found.std(ddof=1) / math.sqrt(len(found))


@pytest.mark.parametrize("n_seeds", [6, pytest.param(30, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["l1", "kl"])
def test_rows_never_seen_are_as_active_as_asked_without_bias(cancer, kind, n_seeds):
    """Within 3 % in the mean, and twice the mean's own standard error: .8 % for thirty seeds, 2 % for six."""
    active = 8 if kind == "l1" else 0.1
    found = activities(cancer, 400, kind, active, n_seeds, n_components=40, max_epochs=30)
    assert abs(found.mean() - 1) < 0.03 + 2 * error_of_mean(found)
    assert error_of_mean(found) < 0.08 / math.sqrt(n_seeds), "single runs have a spread of 5 %"


@pytest.mark.parametrize(
    ("kind", "active"),
    [("l1", 2.5), ("l1", 10), ("kl", 0.2)],
)
def test_any_activity_is_met_on_rows_never_seen_of_a_dictionary(blocks, kind, active):
    """In the mean of four seeds: single runs have a spread of 6 %, since 45 rows set the thresholds."""
    found = activities(blocks, 450, kind, active, 4, n_components=24, max_epochs=60)
    assert abs(found.mean() - 1) < 0.03 + 3 * 0.06 / math.sqrt(4)


def test_the_optimal_code_is_steered_too(blocks):
    # The sampling error of 135 rows held out is 3 %, and iterations stop earlier in training than in answers.
    options = {"max_epochs": 8, "validation_fraction": 0.3, "random_state": 0}
    model = SparseAutoencoder(16, code="optimal", active=4, **options).fit(blocks[:450])
    codes = model.transform(blocks[450:])
    assert (codes != 0).sum(1).mean() == pytest.approx(4, rel=0.15)
    assert (codes < 0).any(), "its signs are free"


@pytest.mark.parametrize("seed", range(3))
def test_epochs_of_optimal_codes_are_better_than_their_start(digits, seed):
    """Each has about the wanted activity; a cost of a wrong one made the start the best of all epochs.

    Iterations are few here, so that the codes of training rows have a share of the activity that changes.
    """
    composition = Composition(OptimalCode(4), Dictionary(), prior=AdaptiveLaplace(10))
    options = {"scale": "none", "batch_size": 64, "max_epochs": 5, "random_state": seed}
    model = Autoencoder(
        200, **{name: getattr(composition, name) for name in ("encoder", "decoder", "prior")}, **options
    )
    found = [row["validation_objective"] for row in model.fit(digits[:600] / 16).history_]
    assert max(np.diff(found)) < 0.01 * found[0]
    assert found[-1] < found[0] - 1


def test_the_rate_is_corrected_where_the_activity_of_new_rows_is_far_from_the_wanted_one():
    """By their quotient; outputs of an encoder that reads the rate are then not kept for the evaluation."""
    model = optimal(1.0, n_features=30, n_components=60, prior=AdaptiveLaplace(6))
    model.begin(noise(300, 30))
    rows = [Batch(noise(200, 30, seed=1))]
    before = float(model.prior.rate)
    active = (model.eval().encode(rows[0].x).mean != 0).sum(1).double().mean()
    model.prior.length.copy_(rows[0].x.norm(dim=1).mean())
    for wanted, is_far in ((active / 2, True), (active * 2, True), (active * 1.04, False)):
        model.prior.rate.fill_(before)
        for name in ("wanted", "aim", "fitted"):
            getattr(model.prior, name).copy_(wanted)
        outputs = learn_from_validation(model, rows, 0)
        expected = before * float(active / wanted) if is_far else before
        assert float(model.prior.rate) == pytest.approx(expected, rel=1e-5)
        assert (outputs is None) == is_far
        assert float(model.prior.reached / wanted) == pytest.approx(1 if is_far else 1 / 1.04, rel=1e-5)


@pytest.mark.parametrize(("active", "fitted", "factor"), [(0, 0, 1 / 5), (4, 0, 1 / 5), (0, 4, 1 / 5), (60, 400, 5)])
def test_one_correction_of_the_rate_is_limited(active, fitted, factor):
    """Codes of training rows that are all zero, for example, say nothing of the rate that is needed."""
    prior = optimal(1.0, n_components=60, prior=AdaptiveLaplace(4)).prior
    prior.fitted.fill_(fitted)
    model = Composition(OptimalCode(), Dictionary(), prior=prior)
    model.encoder.join(model)
    found = prior.validation_state({"active": torch.full((9,), float(active)), "length": torch.ones(9)}, model)
    assert float(found["rate"] / prior.rate) == pytest.approx(factor)
    assert all(value.isfinite() for value in found.values())


def test_the_rate_is_not_corrected_for_an_encoder_that_does_not_read_it():
    """Its codes would stay as active as they are, and the model would say that they are not."""
    model = built(30, 60, encoder=MLP(), decoder=Dictionary(), prior=AdaptiveLaplace(6))
    assert list(model.prior.validation_state({"active": torch.ones(9), "length": torch.ones(9)}, model)) == ["aim"]


@pytest.mark.parametrize("seed", range(3))
def test_a_start_of_another_activity_is_not_the_best_epoch(seed):
    """Half of the 20 units are active there, which costs the rows' whole variance."""
    x = np.random.default_rng(seed).normal(size=(300, 10))
    terms = {"code": Point("relu"), "encoder": MLP(), "decoder": Dictionary(), "prior": AdaptiveLaplace(2)}
    model = Autoencoder(20, **terms, init="random", max_epochs=20, random_state=seed).fit(x)
    start = model.history_[0]
    assert start["validation_divergence"] == pytest.approx(float(model.composition_.prior.stake), rel=1e-5)
    assert model.best_epoch_ > 0
    assert 0.5 < (model.transform(x) != 0).sum(1).mean() < 6


def test_a_network_reads_what_the_networks_within_it_read():
    model = optimal(1.0, prior=AdaptiveLaplace(4))
    for network in (Frozen(model.encoder), Chain([MLP(), model.encoder], [5])):
        (read,) = network.terms_read
        assert read is model.prior.rate
    assert optimal(1.0).encoder.terms_read == ()


def test_noise_on_the_input_does_not_shift_the_activity_of_clean_rows(blocks):
    options = {"max_epochs": 60, "validation_fraction": 0.3, "random_state": 0}
    model = SparseAutoencoder(24, active=5, corruption=GaussianNoise(0.5), **options)
    codes = model.fit(blocks[:450]).transform(blocks[450:])
    assert (codes != 0).sum(1).mean() == pytest.approx(5, rel=0.1)
    assert model.reconstruction_error(blocks[450:]).mean() < 0.6 * blocks[450:].var(0).sum()


# -- penalties on the mean activity


def test_kl_sparsity_passes_the_conformance_suite():
    model = Composition(MLP(), MLP(), code=Sigmoid(0.2))
    check_penalty(KLSparsity(0.2, weight=2.0), model)
    check_penalty(AdaptiveKLSparsity(0.2), model)


def test_the_divergence_of_activities_is_zero_at_its_target_and_finite_at_the_ends():
    q = torch.tensor([0.0, 1e-30, 0.3, 1 - 1e-17, 1.0], dtype=torch.float64)
    found = bernoulli_divergence(0.3, q)
    assert found.isfinite().all()
    assert found[2] == 0
    assert (found[[0, 1, 3, 4]] > 1).all()


def test_a_running_mean_has_the_value_of_many_batches_and_the_derivative_of_one():
    penalty = KLSparsity(0.2)
    model = built(code=Sigmoid(0.2), penalties=[penalty])
    batches = [noise(16, 4, seed=seed) for seed in range(5)]
    means = []
    for x in batches:
        trace = model(x)
        means.append(trace.z.mean(0))
        found = penalty.mean_activity(trace.z)
        expected = torch.stack(means).mean(0)
        torch.testing.assert_close(found, expected, msg="five batches are within memory, and weigh the same")
        jacobian = torch.func.jacrev(penalty.mean_activity)(trace.z.detach())
        torch.testing.assert_close(jacobian, torch.func.jacrev(lambda z: z.mean(0))(trace.z.detach()))
        model.advance(model.statistics(trace), len(trace.x))
    model.eval()
    torch.testing.assert_close(penalty.mean_activity(trace.z), trace.z.mean(0))


# -- revival


def test_units_that_never_fire_come_back_with_revival_only(digits):
    """Half of the units start with a bias that keeps them silent; without a gradient there is no way back."""

    class HalfSilent(MLP):
        def setup(self, n_inputs, n_outputs, generator):
            super().setup(n_inputs, n_outputs, generator)
            with torch.no_grad():
                self.last.bias[::2] = -10.0

    def n_dead(penalties):
        filled = {"code": TopK(4), "decoder": Dictionary(), "penalties": penalties, "encoder": HalfSilent()}
        model = Autoencoder(64, hidden=(), **filled, max_epochs=25, batch_size=32, learning_rate=0.02, random_state=0)
        return int((model.fit(digits[:800]).transform(digits) == 0).all(0).sum())

    assert n_dead(()) >= 32
    assert n_dead([AuxiliaryLoss()]) <= 16


def test_revival_is_the_squared_error_of_the_top_dead_units_on_the_residual():
    penalty = AuxiliaryLoss(weight=0.7, n_units=2)
    model = built(4, 6, code=TopK(2), decoder=Dictionary(), penalties=[penalty])
    penalty.idle.copy_(torch.tensor([0.0, 1, 1, 0, 1, 1]))
    trace = model(noise(5, 4))
    found = penalty(trace, model).tolist()
    columns = model.decoder.columns
    for i in range(5):
        dead = sorted((1, 2, 4, 5), key=lambda j: -trace.q.output[i, j])[:2]
        rebuilt = sum(trace.q.output[i, j] * columns[:, j] for j in dead)
        expected = 0.7 * (trace.x[i] - trace.p.mean[i] - rebuilt).square().sum()
        assert found[i] == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("decoder", [Dictionary(), MLP((5,), "tanh")], ids=repr)
@pytest.mark.parametrize(
    "likelihood",
    [
        BernoulliLikelihood(),
        PoissonLikelihood(),
        NegativeBinomialLikelihood(),
        LaplaceLikelihood("learned"),
        CategoricalLikelihood(),
        TwoOutputs(),
    ],
    ids=repr,
)
def test_revival_for_other_likelihoods_is_what_the_change_of_the_output_adds(likelihood, decoder):
    """In the units of the likelihood, whatever the decoder's width; only the dead units and the decoder learn of it."""
    penalty = AuxiliaryLoss(weight=0.7, n_units=2)
    model = built(4, 6, code=TopK(2), decoder=copy.deepcopy(decoder), likelihood=likelihood, penalties=[penalty])
    penalty.idle.copy_(torch.tensor([0.0, 1, 1, 0, 1, 1]))
    x = (noise(5, 4) > 0).double()
    observed = noise(5, 4, seed=3) > -0.5
    trace = model(Batch(x, observed))
    found = penalty(trace, model)
    change_by = model.decoder.change_by
    for i in range(5):
        dead = sorted((1, 2, 4, 5), key=lambda j: -trace.q.output[i, j])[:2]
        change = change_by(torch.tensor([dead]), trace.q.output[i : i + 1, dead], 6)
        output = model.decoder(trace.z[i : i + 1])
        before, after = (model.likelihood(o).log_prob(trace.target[i : i + 1])[0] for o in (output, output + change))
        expected = 0.7 * sum(before[j] - after[j] for j in range(4) if observed[i, j])
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    own = list(likelihood.parameters())
    gradients = torch.autograd.grad(found.sum(), [*own, model.encoder.last.weight], materialize_grads=True)
    assert all((gradient == 0).all() for gradient in gradients[:-1])
    assert (gradients[-1] != 0).any()


def test_revival_says_who_is_dead_and_is_silent_where_nobody_is_or_nothing_is_learned():
    penalty = AuxiliaryLoss(window=2.0)
    model = built(4, 6, n_rows=10, code=TopK(2), decoder=Dictionary(), penalties=[penalty])
    assert (penalty.dead == 1).all(), "before the first step all are"
    ages = torch.full((6,), 20)
    for seed in range(6):
        trace = model(noise(5, 4, seed=seed))
        state = {name: value.clone() for name, value in penalty.named_buffers()}
        new = next_state(penalty, trace, model)
        assert all(torch.equal(value, state[name]) for name, value in penalty.named_buffers())
        ages = torch.where((trace.z != 0).any(0), 0, (ages + 5).clamp(max=20))
        assert torch.equal(new["idle"], ages.double())
        model.advance(model.statistics(trace), len(trace.x))
    penalty.idle.zero_()
    silent = penalty(trace, model)
    assert (silent == 0).all()
    gradients = torch.autograd.grad(silent.sum(), list(model.parameters()), materialize_grads=True)
    assert all((gradient == 0).all() for gradient in gradients)
    penalty.idle.fill_(20)
    assert (penalty(trace, model) > 0).all()
    model.eval()
    assert (penalty(trace, model) == 0).all()
    with pytest.raises(OptionError, match="keeps the inputs of its units"):
        built(penalties=[AuxiliaryLoss()]).begin(noise(5, 4))


# -- dictionaries and the optimal code


def test_a_dictionarys_columns_keep_unit_length_whatever_the_optimiser_does():
    decoder = Dictionary()
    decoder.setup(5, 4, torch.Generator().manual_seed(0))
    decoder.double()
    optimizer = torch.optim.SGD(decoder.parameters(), lr=1.0)
    z, x = noise(20, 5), noise(20, 4, seed=1)
    for _ in range(3):
        optimizer.zero_grad()
        (decoder(z) - x).square().sum().backward()
        along = (decoder.directions.grad * decoder.directions).sum(0)
        torch.testing.assert_close(along, torch.zeros(5, dtype=torch.float64), atol=1e-10, rtol=0)
        optimizer.step()
        torch.testing.assert_close(decoder.columns.norm(dim=0), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(decoder(z), z @ decoder.columns.T + decoder.bias)


def test_a_dictionary_starts_as_the_transpose_of_a_linear_encoder():
    model = built(5, 7, decoder=Dictionary())
    expected = nn.functional.normalize(model.encoder.affine.weight.T, dim=0)
    torch.testing.assert_close(model.decoder.columns, expected)
    deep = built(5, 7, encoder=MLP((4,)), decoder=Dictionary())
    torch.testing.assert_close(deep.decoder.columns.norm(dim=0), torch.ones(7, dtype=torch.float64))


def test_principal_directions_are_pcas_and_only_as_many_as_there_are(digits):
    x = torch.from_numpy(digits)
    found = principal_directions(x, 5).numpy()
    expected = PCA(5).fit(digits).components_.T
    np.testing.assert_allclose(abs((found * expected).sum(0)), 1, atol=1e-8)
    assert (np.take_along_axis(found, abs(found).argmax(0)[None], 0) > 0).all()
    assert principal_directions(x, 64).shape == (64, 61), "three pixels never change"


def optimal(rate, n_features=6, n_components=9, variance=0.5, n_steps=15, **filled):
    filled = {"prior": LaplacePrior(rate), "likelihood": GaussianLikelihood(variance), **filled}
    return built(n_features, n_components, encoder=OptimalCode(n_steps), decoder=Dictionary(), **filled).eval()


@pytest.mark.parametrize(("rate", "ridge"), [(0.01, 0.1), (0.7, 0.7), (50.0, 2.0)])
def test_the_splitting_starts_from_ridge_regression(rate, ridge):
    """Its codes, divided by a mean of what it keeps of a unit's own code and of what it keeps for orthonormal atoms."""
    encoder = (model := optimal(rate)).encoder
    columns, x = model.decoder.columns.detach(), noise(5, 6)
    rho = encoder._ridge(columns)
    assert float(rho) == pytest.approx(ridge)
    gram = columns.T @ columns
    inverse = torch.linalg.inv(gram + rho * torch.eye(9, dtype=gram.dtype))
    codes = x @ columns @ inverse * ((1 + rho) / (inverse @ gram).diagonal()).sqrt()
    expected = (codes + (rho - 1) * soft_threshold(codes, torch.tensor(rate / 2))) / rho
    found, kept = ridge_regression(columns, x, rho)
    torch.testing.assert_close(encoder._first(found, kept, rho), expected)


def test_the_optimal_code_minimises_the_objective_itself():
    """Against scipy from many starts, at another variance than 1/2, by the model's own -log p(h, x)."""
    model = optimal(0.9, variance=0.2)
    x = 1.5 * noise(2, 6)
    codes = model.encode(x).mean.detach()

    @torch.no_grad()
    def cost(h, row):
        h = torch.from_numpy(h)[None]
        return float(-model.decode(h).log_prob(row[None]).sum() - model.prior.log_prob(h)[0])

    for row, code in zip(x, codes, strict=True):
        found = cost(code.numpy(), row)
        for seed in range(2):
            start = np.random.default_rng(seed).normal(size=9)
            other = minimize(cost, start, args=(row,), method="Powell", options={"xtol": 1e-8, "ftol": 1e-12})
            assert found <= other.fun + 1e-9
    # Optimal: slopes of size lambda at active units, with their sign, and no larger at the others.
    slopes = (x - codes @ model.decoder.columns.T - model.decoder.bias) @ model.decoder.columns / 0.2
    active = codes != 0
    torch.testing.assert_close(slopes[active], 0.9 * codes[active].sign(), atol=1e-6, rtol=0)
    assert (slopes[~active].abs() < 0.9 + 1e-6).all()


def test_the_optimal_code_of_atoms_that_are_alike_is_optimal():
    """The slopes of 200 atoms in one orthant, whose products have a condition number of thousands."""
    model = optimal(2.0, n_features=64, n_components=200)
    with torch.no_grad():
        model.decoder.directions.abs_()
    x = noise(40, 200, seed=2).relu() @ model.decoder.columns.detach().T / 10
    codes = model.encode(x).mean.detach()
    slopes = 2 * (x - codes @ model.decoder.columns.detach().T) @ model.decoder.columns.detach()
    active = codes != 0
    assert active.any(1).all()
    torch.testing.assert_close(slopes[active], 2.0 * codes[active].sign(), atol=1e-4, rtol=0)
    assert (slopes[~active].abs() < 2.0 + 1e-4).all()


def test_the_optimal_code_iterates_no_longer_than_it_takes():
    prior = LaplacePrior(0.9)
    model = optimal(0.9, prior=prior)
    calls = []
    prior.proximal = lambda z, step: calls.append(len(z)) or LaplacePrior.proximal(prior, z, step)
    model.encode(torch.zeros(3, 6, dtype=torch.float64))
    assert len(calls) == model.encoder.n_steps + 2, "zero is the code of zero rows"
    calls.clear()
    model.encode(noise(20, 6))
    assert len(calls) < 1500
    # Those of many models in one program end when all are done.
    x = noise(2, 5, 6)
    calls.clear()
    together = torch.func.vmap(lambda rows: model.encode(rows).mean)(x)
    assert len(calls) < 1500
    calls.clear()
    model.encode(x.flatten(0, 1))
    n_alone = len(calls)
    calls.clear()
    twice = torch.func.vmap(torch.func.vmap(lambda row: model.encode(row[None]).mean[0]))(x)
    assert len(calls) < 1.3 * n_alone  # the last digits are rounded otherwise
    torch.testing.assert_close(twice, together, atol=1e-7, rtol=0)
    torch.testing.assert_close(together, torch.stack([model.encode(rows).mean for rows in x]), atol=1e-7, rtol=0)


@pytest.mark.parametrize("terms", [{"prior": LaplacePrior(0.9)}, {"prior": None, "code": TopK(3, signed=True)}])
def test_rows_whose_codes_are_found_are_left_out_of_the_iteration(terms):
    model = optimal(0.9, n_features=30, n_components=60, **terms)
    x = noise(40, 30)
    x[::3] = 0  # rows that are done at once, between the others
    sizes, moved = [], Splitting.moved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Splitting, "moved", lambda self, w, h: sizes.append(len(w)) or moved(self, w, h))
        together = model.encode(x).mean
    assert sizes[0] == 40
    assert sizes[-1] <= 20
    assert sizes == sorted(sizes, reverse=True)
    torch.testing.assert_close(together, torch.cat([model.encode(row).mean for row in x[:, None]]), atol=1e-7, rtol=0)


@pytest.mark.parametrize("n_features", [6, 10, 30])
@pytest.mark.parametrize("shared", [0.0, 10.0])
def test_the_optimal_code_for_a_small_rate_is_optimal(n_features, shared):
    """Also for atoms that are nearly parallel; scikit-learn's objective is half of ours, over the number of cells."""
    model = optimal(0.1, n_features=n_features, n_components=40)
    directions = noise(n_features, 40, seed=3) + shared * noise(n_features, 1, seed=4)
    with torch.no_grad():
        model.decoder.directions.copy_(directions)
    x, columns = noise(10, n_features, seed=5), model.decoder.columns.detach().numpy()
    codes = model.encode(x).mean.detach().numpy()
    lasso = Lasso(0.1 / 2 / n_features, fit_intercept=False, max_iter=200_000, tol=1e-12, random_state=0)
    best = np.stack([lasso.fit(columns, row).coef_ for row in x.numpy()])
    found, least = (((x.numpy() - h @ columns.T) ** 2).sum(1) + 0.1 * np.abs(h).sum(1) for h in (codes, best))
    np.testing.assert_allclose(found, least, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.05, 0.4, 1.3])
def test_one_iteration_is_enough_for_orthonormal_atoms(rate):
    model = optimal(rate, n_features=9, n_components=6, n_steps=1).train()
    atoms = torch.linalg.qr(noise(9, 6, seed=3)).Q
    with torch.no_grad():
        model.decoder.directions.copy_(atoms)
    x = noise(20, 9, seed=4)
    expected = soft_threshold(x @ atoms, rate / 2)
    torch.testing.assert_close(model.encoder(x), expected, atol=1e-12, rtol=0)


def test_the_number_of_further_iterations_does_not_grow_with_that_in_training(monkeypatch):
    monkeypatch.setattr(splitting, "MOST_FURTHER", 7)
    prior = LaplacePrior(0.1)
    model = optimal(0.1, n_features=30, n_components=60, prior=prior, n_steps=40)
    calls = []
    prior.proximal = lambda z, step: calls.append(len(z)) or LaplacePrior.proximal(prior, z, step)
    model.encode(noise(20, 30))
    assert len(calls) == 40 + 7 + 2


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (1, 3)])
def test_ridge_regression_is_that_of_either_size(shape):
    columns, x = 3 * noise(*shape), noise(4, shape[0], seed=1)
    eye = torch.eye(shape[1], dtype=torch.float64)
    for ridge, bound in ((0.3, 1e-12), (torch.tensor(1.0).double(), 1e-13)):
        inverse = torch.linalg.inv(columns.T @ columns + ridge * eye)
        codes, share = ridge_regression(columns, x, ridge)
        torch.testing.assert_close(codes, x @ columns @ inverse, atol=bound, rtol=0)
        torch.testing.assert_close(share, columns.T @ columns @ inverse, atol=bound, rtol=0)
    codes, share = ridge_regression(columns.float(), x.float())
    torch.testing.assert_close(codes, (x @ columns @ inverse).float(), atol=1e-5, rtol=0)
    torch.testing.assert_close(share, (columns.T @ columns @ inverse).float(), atol=1e-5, rtol=0)


def test_few_iterations_come_near_the_optimum_for_atoms_that_are_alike():
    """For three seeds they leave .0054 at most; with the start for orthonormal atoms .0073 to .0095."""
    model = optimal(1.7, n_features=40, n_components=60, n_steps=8)
    directions = noise(40, 60, seed=3) + 2 * noise(40, 3, seed=4) @ noise(3, 60, seed=5)
    with torch.no_grad():
        model.decoder.directions.copy_(directions)
        x = 2 * noise(100, 60, seed=6) @ model.decoder.columns.T / math.sqrt(60)

        def cost(h):
            return (x - h @ model.decoder.columns.T).square().sum() + 1.7 * h.abs().sum()

        excess = (cost(model.train().encoder(x)) - cost(model.eval().encoder(x))) / x.square().sum()
    assert 0 < excess < 6.4e-3


def test_in_evaluation_units_are_chosen_after_more_iterations_than_in_training():
    code = TopK(3, signed=True)
    model = optimal(1.0, n_features=30, n_components=60, prior=None, code=code, n_steps=3)
    found, calls = TopK.proximal, []
    code.proximal = lambda z, step=1.0: calls.append(len(z)) or found(code, z, step)
    model.encoder(noise(20, 30))
    n_in_evaluation = len(calls)
    calls.clear()
    model.train().encoder(noise(20, 30))
    assert (len(calls), n_in_evaluation) == (2 + 1, 10 + 1), "free iterations, and the choice"


def test_a_trained_models_optimal_code_can_be_differentiated():
    """On the active units dh/dx = (D'D)^-1 D', as for least squares."""
    model = optimal(0.9)
    x = 1.5 * noise(6)
    code = model.encode(x[None]).mean[0]
    active = code != 0
    jacobian = torch.func.jacrev(lambda row: model.encode(row[None]).mean[0])(x)
    columns = model.decoder.columns[:, active].detach()
    torch.testing.assert_close(jacobian[active], torch.linalg.pinv(columns), atol=1e-5, rtol=0)
    assert (jacobian[~active] == 0).all()
    model.train()
    assert not model.encode(x[None].requires_grad_()).mean.requires_grad


def test_the_dictionarys_gradient_is_that_of_the_optimal_value():
    """The envelope theorem: min_h F(h, D) has the derivative of F at the minimiser."""
    model = optimal(0.9, n_steps=100)
    x = 1.5 * noise(8, 6)

    def value(directions):
        with torch.no_grad():
            model.decoder.directions.copy_(directions)
            return Objective()(model, model(x)).sum()

    directions = model.decoder.directions.detach().clone()
    model.train()
    (gradient,) = torch.autograd.grad(Objective()(model, model(x)).sum(), model.decoder.directions)
    model.eval()
    way, step = noise(6, 9, seed=5), 1e-5
    numeric = (value(directions + step * way) - value(directions - step * way)) / (2 * step)
    assert (gradient * way).sum().item() == pytest.approx(numeric.item(), rel=1e-4)


def test_the_k_best_numbers_are_a_fixed_point_that_no_single_unit_improves_on():
    model = optimal(1.0, prior=None, code=TopK(3, signed=True))
    x = noise(10, 6)
    codes = model.encode(x).mean.detach()
    assert ((codes != 0).sum(1) == 3).all()
    columns = model.decoder.columns.detach()
    for row, code in zip(x, codes, strict=True):
        chosen = code != 0
        best = torch.linalg.lstsq(columns[:, chosen], row[:, None]).solution[:, 0]
        torch.testing.assert_close(code[chosen], best, atol=1e-5, rtol=0)


def test_an_unsigned_optimal_code_has_the_best_positive_numbers():
    model = optimal(1.0, prior=None, code=TopK(3))
    x = noise(10, 6)
    codes = model.encode(x).mean.detach()
    assert (codes >= 0).all()
    assert ((codes != 0).sum(1) <= 3).all()
    slopes = (x - codes @ model.decoder.columns.detach().T) @ model.decoder.columns.detach()
    torch.testing.assert_close(slopes[codes != 0], torch.zeros(int((codes != 0).sum())).double(), atol=1e-5, rtol=0)


def test_the_k_units_leave_less_than_those_of_gradient_steps():
    """Iterative hard thresholding; no choice leaves less than the best of all 84."""
    left, of_steps = [], []
    for seed in range(3):
        model = optimal(1.0, prior=None, code=TopK(3, signed=True))
        columns = nn.functional.normalize(noise(6, 9, seed=seed), dim=0)
        with torch.no_grad():
            model.decoder.directions.copy_(columns)
        x = noise(200, 6, seed=seed + 3)
        left.append((x - model.encode(x).mean.detach() @ columns.T).square().sum(1))
        bases = [torch.linalg.qr(columns[:, list(chosen)]).Q for chosen in combinations(range(9), 3)]
        best = torch.stack([(x - x @ basis @ basis.T).square().sum(1) for basis in bases]).amin(0)
        assert (left[-1] > best - 1e-9).all()
        step, h = 1 / torch.linalg.matrix_norm(columns, ord=2).square(), torch.zeros(200, 9, dtype=x.dtype)
        for _ in range(1000):
            h = model.code.proximal(h + step * (x - h @ columns.T) @ columns)
        of_steps.append((x - h @ columns.T).square().sum(1))
    assert torch.cat(left).mean() < 0.85 * torch.cat(of_steps).mean()


@pytest.mark.parametrize("code", ["learned", "optimal"])
def test_validation_rows_are_encoded_once_for_learning_and_evaluation(blocks, code, monkeypatch):
    model = SparseAutoencoder(12, code=code, active=3, max_epochs=2, random_state=0).fit(blocks[:200])
    composition, objective = model.composition_, Objective()
    rows = [
        Batch(torch.as_tensor(model.scaler_.transform(part), dtype=torch.float32))
        for part in (blocks[:50], blocks[50:90])
    ]
    calls, encoded = [], Composition.encoder_output
    monkeypatch.setattr(Composition, "encoder_output", lambda *given: calls.append(1) or encoded(*given))
    outputs = learn_from_validation(composition, rows, seed=0)
    found = evaluate_terms(composition, objective, rows, 0, outputs)
    assert len(calls) == len(rows)
    assert found == evaluate_terms(composition, objective, rows, 0)
    assert len(calls) == 2 * len(rows)


@pytest.mark.parametrize("sparsity", ["l1", "top_k"])
def test_the_optimal_code_of_rows_with_gaps_is_that_of_the_completed_rows(blocks, sparsity):
    gappy = np.where(np.random.default_rng(0).random(blocks.shape) < 0.2, np.nan, blocks)
    model = SparseAutoencoder(16, code="optimal", sparsity=sparsity, active=4, max_epochs=3, random_state=0).fit(gappy)
    completing = model.composition_.encoder
    with torch.no_grad():
        completed = completing.completed(torch.as_tensor(model.scaler_.transform(gappy[:50]), dtype=torch.float32))
        assert not completed.isnan().any()
        np.testing.assert_allclose(model.transform(gappy[:50]), completing.network(completed), atol=1e-3)


def test_a_classifier_of_optimal_codes_is_refused(blocks):
    sparse = SparseAutoencoder(4, code="optimal", max_epochs=1, random_state=0)
    with pytest.raises(OptionError, match="OptimalCode needs a Dictionary.*Got Chain, LastColumns, Point, None. For l"):
        AutoencoderClassifier(sparse, random_state=0).fit(blocks[:50], np.arange(50) % 2)


def test_the_optimal_code_refuses_what_it_does_not_know():
    for filled in (
        {"decoder": MLP()},
        {"prior": None},
        {"prior": StandardNormalPrior()},
        {"code": Point("relu")},
        {"likelihood": GaussianLikelihood("learned")},
    ):
        with pytest.raises(OptionError, match="OptimalCode needs a Dictionary"):
            built(**{"encoder": OptimalCode(), "decoder": Dictionary(), "prior": LaplacePrior(1.0), **filled})


# -- the estimator


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_the_same_bits_and_a_file_keeps_them(blocks, tmp_path, kind):
    rows = blocks[:120]
    model = SparseAutoencoder(14, **KINDS[kind], max_epochs=2, random_state=3).fit(rows)
    again = clone(model).fit(rows)
    model.save(tmp_path / "m.safetensors")
    for other in (again, copy.deepcopy(model), eigencode.load(tmp_path / "m.safetensors")):
        np.testing.assert_array_equal(other.transform(rows), model.transform(rows))
        assert untimed(other.history_) == untimed(model.history_)
        for name, value in other.composition_.named_buffers():
            assert torch.equal(value, dict(model.composition_.named_buffers())[name]), name
    np.testing.assert_allclose(model.transform(rows[5:6]), model.transform(rows)[5:6], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_other_units_of_the_data_change_nothing(blocks, kind):
    rows = blocks[:120]
    options = {**KINDS[kind], "max_epochs": 3, "random_state": 3}
    plain, scaled = (SparseAutoencoder(14, **options).fit(c * rows).transform(c * rows) for c in (1, 100))
    np.testing.assert_allclose(scaled, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_of_blocks_trains_and_keeps_its_state(blocks, kind):
    model = SparseAutoencoder(14, **KINDS[kind], random_state=3)
    n_passes = 6 if "kl" in kind else 1  # sigmoid units begin with next to nothing to say
    for block in n_passes * np.array_split(blocks, 3):
        model.partial_fit(block)
    assert model.history_[-1]["epoch"] == 3 * n_passes
    assert model.reconstruction_error(blocks).mean() < ((blocks - blocks.mean(0)) ** 2).sum(1).mean()


def test_the_experts_weight_is_lambda_of_the_squared_error(blocks):
    """The objective is ||x - D h - b||^2 + lambda |h|_1, up to the densities' constants."""
    options = {"validation_fraction": 0, "precision": "float64", "scale": "none", "max_epochs": 2, "random_state": 0}
    for code in ("learned", "optimal"):
        model = SparseAutoencoder(9, weight=0.4, code=code, **options).fit(blocks)
        h = model.transform(blocks)
        cost = model.reconstruction_error(blocks).mean() + 0.4 * abs(h).sum(1).mean()
        constant = 0.5 * 12 * math.log(math.pi) - 9 * math.log(0.4 / 2)
        assert model.best_objective_ == pytest.approx(cost + constant, rel=1e-6)
    stronger = SparseAutoencoder(9, weight=1.6, **options).fit(blocks).transform(blocks)
    weaker = SparseAutoencoder(9, weight=0.4, **options).fit(blocks).transform(blocks)
    assert abs(stronger).sum() < abs(weaker).sum()


def test_the_textbooks_kl_penalty_is_evaluated_with_its_weight(blocks):
    options = {"validation_fraction": 0, "precision": "float64", "scale": "none", "max_epochs": 2, "random_state": 0}
    model = SparseAutoencoder(9, sparsity="kl", active=0.1, weight=5.0, **options).fit(blocks)
    rho = model.transform(blocks).mean(0)
    divergence = (0.1 * np.log(0.1 / rho) + 0.9 * np.log(0.9 / (1 - rho))).sum()
    cost = model.reconstruction_error(blocks).mean() + 5 * divergence + 0.5 * 12 * math.log(math.pi)
    assert model.best_objective_ == pytest.approx(cost, rel=1e-6)


@pytest.mark.parametrize(("kind", "share"), [("top_k", 0.7), ("l1", 1.0), ("kl", 0.6)])
def test_a_tenth_of_a_hundred_units_rebuilds_digits_better_than_ten_components(digits, kind, share):
    """On rows never seen; sigmoid units have a mean activity of a tenth, which need not be ten units a row."""
    training, test = digits[::2], digits[1::2]
    pca = PCA(10).fit(training)
    pca_error = ((pca.inverse_transform(pca.transform(test)) - test) ** 2).sum(1).mean()
    active = 0.1 if kind == "kl" else 10
    model = SparseAutoencoder(100, sparsity=kind, active=active, max_epochs=30, random_state=0).fit(training)
    codes = model.transform(test)
    found = codes.mean() if kind == "kl" else (codes != 0).sum(1).mean()
    assert found == pytest.approx(active, rel=0.0 if kind == "top_k" else 0.1)
    assert model.reconstruction_error(test).mean() < share * pca_error


def test_more_units_than_columns_is_the_default_and_no_cause_for_a_note(blocks):
    for kind in ("l1", "top_k", "kl"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = SparseAutoencoder(sparsity=kind, max_epochs=1, random_state=0).fit(blocks[:100])
        assert model.n_components_ == 24
        assert not any("overcomplete" in note for note in model.notes_)
    assert model.composition_.code.activity == 0.05
    top = SparseAutoencoder(sparsity="top_k", max_epochs=1, random_state=0).fit(blocks[:100])
    assert top.composition_.code.k == 2, "a tenth of the units"


def test_other_options_are_used(blocks):
    rows = blocks[:100]
    options = {"max_epochs": 1, "random_state": 0}
    deep = SparseAutoencoder(14, hidden=(9,), **options).fit(rows).composition_
    assert [type(layer).__name__ for layer in deep.encoder.layers] == ["Linear", "GELU", "Linear"]
    assert isinstance(deep.decoder, Dictionary)
    tied = SparseAutoencoder(14, tied=True, sparsity="top_k", active=2, **options).fit(rows).composition_
    assert tied.decoder.is_tied
    own = SparseAutoencoder(14, decoder=MLP((5,)), sparsity="top_k", active=2, **options).fit(rows).composition_
    assert own.decoder.hidden == (5,)
    several = SparseAutoencoder(14, sparsity="top_k", active=2, penalties=[AuxiliaryLoss(window=9.0)], **options).fit(
        rows
    )
    assert [penalty.window for penalty in several.composition_.penalties] == [9.0, 1.0]
    assert isinstance(several.composition_.encode(torch.zeros(1, 12)), SparseDelta)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"active": 2, "weight": 1.0}, "Set either 'active' or 'weight', not both"),
        ({"active": 25}, "more active units than units"),
        ({"sparsity": "top_k", "active": 2.5}, "a whole number of units"),
        ({"sparsity": "top_k", "weight": 1.0}, "no penalty to weigh"),
        ({"sparsity": "top_k", "active": 0.5}, "a whole number of units"),
        ({"sparsity": "kl", "active": 3}, "mean activity of units from 0 to 1.*try active=0.12"),
        ({"ordered": True}, "The code of a SparseAutoencoder is fixed. Got ordered=True. Use Autoencoder"),
        ({"sparsity": "kl", "code": "optimal"}, "no optimal code"),
        ({"code": "optimal", "hidden": (5,)}, "has no encoder"),
        ({"code": "optimal", "tied": True}, "has no encoder"),
        ({"code": "optimal", "likelihood": "laplace"}, "OptimalCode needs a Dictionary"),
        ({"prior": LaplacePrior()}, "With sparsity='l1' the prior is fixed"),
        ({"beta": 2.0}, "With sparsity='l1' the prior is fixed"),
        ({"penalties": None}, "must be a sequence of parts"),
        ({"code": Point()}, "The 'code' parameter of SparseAutoencoder must be 'learned' or 'optimal'"),
        ({"active": 0}, "The 'active' parameter"),
    ],
)
def test_contradictions_are_refused(blocks, options, message):
    with pytest.raises(OptionError, match=message):
        SparseAutoencoder(24, **options).fit(blocks[:50])


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (TopK(0), "'k' parameter"),
        (TopK(4), "'k' parameter"),
        (TopK(True), "'k' parameter"),
        (ThresholdedReLU(0.0), "'active' parameter"),
        (ThresholdedReLU(4.0), "'active' parameter"),
        (Sigmoid(1.0), "'activity' parameter"),
        (AdaptiveLaplace(-1.0), "'active' parameter"),
        (KLSparsity(0.0), "'activity' parameter"),
        (KLSparsity(0.5, weight=-1.0), "'weight' parameter"),
        (AdaptiveKLSparsity(1.5), "'activity' parameter"),
        (AuxiliaryLoss(weight=-1.0), "'weight' parameter"),
        (AuxiliaryLoss(n_units=0), "'n_units' parameter"),
        (AuxiliaryLoss(window=0.0), "'window' parameter"),
    ],
    ids=repr,
)
def test_parts_check_their_arguments(part, message):
    with pytest.raises(OptionError, match=message):
        part.setup(Sizes(5, 3))
    assert clone(part).get_params() == part.get_params()


def test_steps_must_be_a_whole_number():
    with pytest.raises(OptionError, match="'n_steps' parameter"):
        built(encoder=OptimalCode(0), decoder=Dictionary(), prior=LaplacePrior(1.0))
