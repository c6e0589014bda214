"""Weights of rows, tied weights, ordered codes, time, and notes."""

import copy
import math
import os
import pickle
import subprocess
from dataclasses import replace

import copies
import numpy as np
import pytest
import scipy.stats
import torch
from conftest import evaluated, prepared
from torch import nn

from eigencode import Autoencoder, LinearAutoencoder
from eigencode.data.scaling import ColumnStatistics
from eigencode.data.sources import CHUNK_ROWS, ArraySource
from eigencode.errors import DataError, OptionError, ResultWarning, TrainingError
from eigencode.fitting import diagnostics
from eigencode.fitting.architecture import geometric_widths
from eigencode.model import pca
from eigencode.parts import (
    MLP,
    GaussianLikelihood,
    GaussianNoise,
    GaussianWeights,
    LaplacePrior,
    LinearPath,
    Penalty,
)
from eigencode.training import cpu_graphs, loop
from eigencode.training import rng as noise
from eigencode.training.runner import SingleRunner
from eigencode.words import percent

# -- weights of rows


def test_weighted_statistics_are_numpys():
    rng = np.random.default_rng(0)
    array, weights = rng.normal(size=(CHUNK_ROWS + 50, 3)), rng.uniform(0.1, 3, size=CHUNK_ROWS + 50)
    found = ColumnStatistics.of(ArraySource(array), weights)
    mean = np.average(array, axis=0, weights=weights)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    variance = np.average((array - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(found.deviation**2, variance, rtol=1e-10)


@pytest.mark.parametrize("scale", ["common", "standard", "none"])
def test_a_weighted_row_counts_like_that_many_rows(cancer, scale):
    repeats = np.random.default_rng(0).integers(0, 4, size=len(cancer))
    weighted = LinearAutoencoder(3, scale=scale).fit(cancer, sample_weight=repeats)
    repeated = LinearAutoencoder(3, scale=scale).fit(np.repeat(cancer, repeats, axis=0))
    np.testing.assert_allclose(weighted.reconstruct(cancer), repeated.reconstruct(cancer), rtol=1e-7)


def test_the_weighted_gradient_is_unbiased(cancer, monkeypatch):
    """The mean over all batches of an epoch is the gradient of the weighted objective."""
    monkeypatch.setattr(cpu_graphs, "WARM_UP", 10)  # no step of the ten is recorded
    weights = np.random.default_rng(0).uniform(0.1, 5, size=320)
    weights /= weights.mean()
    rows = torch.from_numpy((cancer[:320] - cancer.mean(0)) / cancer.std(0))
    model = Autoencoder(2, hidden=(4,), init="random", batch_size=32, optimizer="adam", precision="float64",
                        validation_fraction=0, random_state=0)  # fmt: skip
    run = prepared(model, rows, weights=weights)
    gradients = []
    parameters = run.state.parameters
    run.state.optimizer.step = lambda *_: gradients.append(parameters.gradient.clone())
    loop.one_pass(run)
    losses = run.objective(run.state.composition, run.state.composition(rows))
    run.state.parameters.differentiate((losses * torch.from_numpy(weights)).sum().div(len(rows)))
    assert len(gradients) == 10
    torch.testing.assert_close(torch.stack(gradients).mean(0), run.state.parameters.gradient)


def test_equal_weights_change_nothing_and_zero_weights_remove(cancer):
    model = Autoencoder(2, hidden=(4,), max_epochs=3, random_state=0)
    expected = model.fit(cancer[:300]).transform(cancer)
    np.testing.assert_array_equal(model.fit(cancer[:300], sample_weight=np.full(300, 7.0)).transform(cancer), expected)
    weights = np.zeros(len(cancer))
    weights[:300] = 1
    np.testing.assert_array_equal(model.fit(cancer, sample_weight=weights).transform(cancer), expected)


def test_heavy_rows_are_rebuilt_better(cancer):
    weights = np.where(np.arange(len(cancer)) < 100, 50.0, 1.0)
    plain = LinearAutoencoder(2, scale="standard").fit(cancer)
    weighted = LinearAutoencoder(2, scale="standard").fit(cancer, sample_weight=weights)
    errors = [(((m.reconstruct(cancer) - cancer) / cancer.std(0))[:100] ** 2).sum(1).mean() for m in (weighted, plain)]
    assert errors[0] < 0.95 * errors[1]


@pytest.mark.parametrize("weights", [[-1.0] + [1.0] * 29, [0.0] * 29 + [1.0], [1.0] * 29])
def test_weights_that_cannot_be_used_are_refused(cancer, weights):
    with pytest.raises(ValueError, match="egative|two rows of positive weight|shape"):
        Autoencoder(2).fit(cancer[:30], sample_weight=weights)


@pytest.mark.parametrize("weight", [1e308, 5e-324])
def test_only_the_ratios_of_weights_matter_however_large_or_small(cancer, weight):
    ratios = np.where(np.arange(len(cancer)) < 100, 1.0, 0.0 if weight < 1 else 0.5)
    expected, found = (LinearAutoencoder(2).fit(cancer, sample_weight=w * ratios) for w in (1.0, weight))
    np.testing.assert_allclose(found.reconstruct(cancer), expected.reconstruct(cancer), rtol=1e-9)
    wide = np.where(np.arange(len(cancer)) < 300, 1e308, 1e-308)
    np.testing.assert_allclose(
        LinearAutoencoder(2).fit(cancer, sample_weight=wide).reconstruct(cancer),
        LinearAutoencoder(2).fit(cancer[:300]).reconstruct(cancer),
        rtol=1e-7,
    )


# -- tied weights


@pytest.mark.parametrize("hidden", [(), (64,), (64, 16)])
def test_tied_weights_are_tied_before_and_after_training(digits, hidden):
    model = Autoencoder(3, hidden=hidden, tied=True, max_epochs=60, random_state=0).fit(digits)
    encoder, decoder = model.composition_.encoder, model.composition_.decoder
    own = sum(hidden) + 64 + (64 if hidden else 0)  # biases, and a gate beside the linear path
    assert sum(p.numel() for p in decoder.parameters()) == own
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    mlp = encoder.network if isinstance(encoder, LinearPath) else encoder
    first, *others = [layer.weight for layer in mlp.layers if isinstance(layer, nn.Linear)][::-1]
    x = z @ first
    for bias, weight in zip(decoder.biases, others, strict=True):
        x = nn.functional.gelu(x + bias) @ weight
    if hidden:
        x = z @ encoder.linear.weight + decoder.gate * x
    torch.testing.assert_close(decoder(z), x + decoder.bias)
    assert model.init_ == "linear"
    assert model.best_epoch_ > 0 or not hidden


def test_tied_weights_survive_saving(cancer, tmp_path):
    import eigencode

    model = Autoencoder(3, hidden=(8,), tied=True, max_epochs=3, random_state=0).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.reconstruct(cancer), model.reconstruct(cancer))
    again.composition_.encoder.linear.weight.data.mul_(2)
    assert not np.array_equal(again.reconstruct(cancer), model.reconstruct(cancer))


def test_tied_layers_start_at_pca_whatever_the_activation(cancer):
    model = Autoencoder(3, hidden=(8,), tied=True, activation="sigmoid", max_epochs=0).fit(cancer)
    np.testing.assert_allclose(model.reconstruct(cancer), model.baseline_.reconstruct(cancer), rtol=1e-5)


# -- ordered codes


def test_one_fit_serves_every_smaller_size(digits):
    training, test = digits[:1400], digits[1400:]
    model = Autoencoder(8, ordered=True, max_epochs=60, random_state=0).fit(training)
    errors = model.reconstruction_error_by_size(test)
    baseline = model.baseline_.reconstruction_error_by_size(test)
    assert (np.diff(errors) < 0).all()
    assert (errors < baseline).all()
    np.testing.assert_array_equal(model.transform(test, n_components=3), model.transform(test)[:, :3])
    gap = test - model.reconstruct(test, n_components=3)
    assert (gap**2).sum(1).mean() == pytest.approx(errors[2], rel=1e-5)
    assert model.reconstruction_error(test).mean() == pytest.approx(errors[-1], rel=1e-6)


def test_only_an_ordered_code_can_be_cut(cancer, fitted):
    assert fitted.best_epoch_ > 0
    for call in (fitted.transform, fitted.reconstruct):
        with pytest.raises(OptionError, match="ordered=True"):
            call(cancer, n_components=2)
    linear = LinearAutoencoder(3).fit(cancer)
    assert linear.transform(cancer, n_components=2).shape == (569, 2)
    with pytest.raises(OptionError, match="must be an int from 1 to 3"):
        linear.transform(cancer, n_components=4)


# -- linear


def test_the_exact_solver_needs_a_closed_form(cancer):

    with pytest.raises(OptionError, match="known in closed form"):
        LinearAutoencoder(2, prior=LaplacePrior()).fit(cancer)
    with pytest.raises(OptionError, match="no hidden layers"):
        LinearAutoencoder(2, hidden=(3,)).fit(cancer)
    with pytest.raises(OptionError, match="one variance of weights for each of the 2 components"):
        LinearAutoencoder(2, weight_prior=GaussianWeights([3.0, 2.0, 1.0])).fit(cancer)
    with pytest.raises(OptionError, match="needs a linear encoder"):
        Autoencoder(2, hidden=(4,), weight_prior=GaussianWeights([2.0, 1.0])).fit(cancer)


# -- shapes, time, notes


def test_a_depth_becomes_widths_that_fall_geometrically():
    assert geometric_widths(1000, 1, 2) == (100, 10)
    assert geometric_widths(64, 4, 3) == (32, 16, 8)
    assert geometric_widths(5, 5, 0) == ()


def test_a_depth_is_an_option(cancer):
    assert Autoencoder(2, hidden=2, max_epochs=0).fit(cancer).hidden_ == (12, 5)
    with pytest.raises(OptionError, match=r"write hidden=\(128,\)"):
        Autoencoder(2, hidden=128).fit(cancer)


def test_time_that_is_up_ends_an_annealed_run(digits, ticking):
    began = ticking()
    model = Autoencoder(2, max_seconds=1.0, max_epochs=100_000, patience=100_000, random_state=0).fit(digits)
    assert 0.9 < ticking() - began < 1.1
    rates = [row["learning_rate"] for row in model.history_]
    assert rates[-1] < 0.2 * max(rates)
    assert model.best_epoch_ > 0


def test_notes_say_what_to_try(cancer, digits):
    def notes(model, rows=cancer):
        return " ".join(model.fit(rows).notes_)

    assert "overcomplete" in notes(Autoencoder(40, hidden=(4,), max_epochs=1, random_state=0))
    assert "overcomplete" not in notes(Autoencoder(40, corruption=GaussianNoise(0.1), max_epochs=1, random_state=0))
    assert "no better than the linear" in notes(Autoencoder(2, learning_rate=1e-9, optimizer="adam", random_state=0))
    assert "not converged" in notes(Autoencoder(4, max_epochs=5, random_state=0), digits)
    killed = LinearAutoencoder(5, weight_prior=GaussianWeights(2e-4))
    assert "components are dead" in notes(killed)
    assert notes(Autoencoder(2, random_state=0)) == ""


def test_the_share_of_the_gain_is_of_the_best_weights(digits):
    run = Autoencoder(2, hidden=(4,), max_epochs=30, optimizer="adam", random_state=0)._begin(digits)
    state = run.state

    def notes(objectives):
        state.history = [{"validation_objective": value, "step": i} for i, value in enumerate(objectives)]
        state.epoch, state.step = len(objectives) - 1, state.schedule.end
        state.best = replace(state.snapshot(min(objectives)), epoch=state.epoch, step=state.step)
        return " ".join(diagnostics.notes(run, None, None))

    # The evaluation at which the last tenth begins is worse than the start, and so not what was gained over.
    assert notes([10, *[5] * 8, 12, 4]) == (
        "not converged: the last tenth of 10 epochs had 17 % of the whole gain; try a larger max_epochs"
    )
    assert "not converged" not in notes([10, 4, *[5] * 7, 12, 4])
    few = "not converged: the objective was still falling at the last evaluation; try a larger max_epochs"
    assert notes([10, 11, 9.5, 8]) == few


def test_a_size_that_a_bounded_search_cut_short_is_noted(monkeypatch):
    """Where rows and columns are many, 'auto' sees the leading directions only."""
    monkeypatch.setattr(pca, "EXACT_SIZE", 16)
    rows = np.random.default_rng(0).normal(size=(2500, 400)).astype(np.float32)
    model = LinearAutoencoder(precision="float32").fit(rows)
    kept = sum(model.explained_variance_ratio_)
    assert model.n_components_ == 256
    assert 0.7 < kept < 0.9
    assert (
        f"first 256 principal directions only, which have {percent(kept)} of the variance and not 90 %"
        in model.notes_[0]
    )
    assert not LinearAutoencoder(256, precision="float32").fit(rows).notes_
    assert "directions" not in str(LinearAutoencoder().fit(np.ones((10, 3))).notes_)  # no variance to keep
    assert not LinearAutoencoder(precision="float32").fit(rows * np.r_[np.ones(200), np.zeros(200)]).notes_


def test_layers_that_are_not_made_have_no_widths(cancer):
    def network(n_inputs, n_outputs):
        return nn.Sequential(nn.utils.skip_init(nn.Linear, n_inputs, 5), nn.utils.skip_init(nn.Linear, 5, n_outputs))

    encoder, decoder = network(30, 2), network(2, 30)
    for p in [*encoder.parameters(), *decoder.parameters()]:
        nn.init.normal_(p, std=0.3, generator=torch.Generator().manual_seed(0))

    def widths(**options):
        return Autoencoder(2, max_epochs=0, random_state=0, **options).fit(cancer).hidden_

    assert widths() == (128,)
    assert widths(encoder=encoder) == widths(decoder=MLP((3,))) == (128,)  # the other network's
    assert widths(encoder=encoder, decoder=decoder) == ()
    assert widths(encoder=MLP((7,)), tied=True) == ()


def test_verbose_says_the_notes(cancer, capsys):
    Autoencoder(40, hidden=(4,), max_epochs=1, verbose=True, random_state=0).fit(cancer)
    assert "note: overcomplete" in "".join(capsys.readouterr())


def test_a_fit_that_cannot_fit_into_memory_is_refused_before_it_begins(cancer):
    with pytest.raises(DataError, match=r"needs about .* GB.*Try"):
        Autoencoder(2, hidden=(10_000_000,), max_epochs=1).fit(cancer)


def test_large_offsets_are_centred_before_the_networks_precision():
    """In bfloat16 a million and a million and one are the same number; after centring they are not."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(size=600), rng.normal(size=600)]) @ rng.normal(size=(2, 5))
    options = {"hidden": (8,), "precision": "bfloat16", "max_epochs": 5, "scale": "none", "random_state": 0}
    plain, moved = Autoencoder(2, **options).fit(rows), Autoencoder(2, **options).fit(rows + 1e6)
    assert moved.reconstruction_error(rows + 1e6).mean() < 0.01 * rows.var(0).sum()
    np.testing.assert_allclose(moved.transform(rows + 1e6), plain.transform(rows), atol=1e-2)


# -- what is refused, interrupted or overtaken leaves nothing half done


@pytest.mark.parametrize(
    "options",
    [{"prior": LinearPath}, {"device": "nope"}, {"likelihood": "poisson"}, {"tied": True, "decoder": nn.Identity()}],
    ids=str,
)
def test_a_refused_fit_changes_nothing(cancer, options):
    model = Autoencoder(2, hidden=(4,), max_epochs=2, random_state=0).partial_fit(cancer)
    before, answers = set(vars(model)), model.transform(cancer)
    with pytest.raises((OptionError, DataError)):
        model.set_params(**options).fit(cancer[:, :5] * 3 - 100)
    assert set(vars(model)) == before
    np.testing.assert_array_equal(model.transform(cancer), answers)


def test_options_and_rows_are_checked_before_the_first_epoch(cancer):
    with pytest.raises(OptionError):
        Autoencoder(0).iter_fit(cancer)
    with pytest.raises(ValueError, match="without any number"):
        Autoencoder(2).iter_fit(np.full((5, 3), np.nan))


def test_a_copy_made_inside_the_loop_is_a_model_of_its_own(cancer):
    model = Autoencoder(2, hidden=(64,), max_epochs=4, random_state=0)
    for row in model.iter_fit(cancer):
        if row["epoch"] == 2:
            pickled = pickle.dumps(model)
            copies = copy.deepcopy(model), pickle.loads(pickled)
            expected, best = model.transform(cancer), model.best_epoch_
    assert len(pickled) < 1.3 * len(pickle.dumps(model))  # the weights are written once, though they are views
    assert np.array_equal(model.transform(cancer), expected) == (model.best_epoch_ == 2)
    for other in copies:
        np.testing.assert_array_equal(other.transform(cancer), expected)
        assert (other.best_epoch_, len(other.history_)) == (best, 3)
        assert not np.array_equal(other.partial_fit(cancer).transform(cancer), expected)


class Shaky(nn.Module):
    """A network whose training and evaluation modes differ, and whose buffers move."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(30)
        self.linear = nn.utils.skip_init(nn.Linear, 30, 2)
        nn.init.constant_(self.linear.weight, 0.1)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.linear(self.norm(x))


def test_an_interruption_ends_the_training_mode_and_restores_buffers(cancer, monkeypatch):
    model = Autoencoder(2, encoder=Shaky(), max_epochs=9, optimizer="adam", random_state=0)
    buffers, step = {}, SingleRunner.step

    def interrupted(self, batch, active):
        state = self.runs[0].state
        if state.epoch == 3:
            state.best = state.snapshot(-1e9)
            buffers.update({name: value.clone() for name, value in state.composition.named_buffers()})
        if state.epoch == 5:
            raise KeyboardInterrupt
        return step(self, batch, active)

    monkeypatch.setattr(SingleRunner, "step", interrupted)
    threads = torch.get_num_threads()
    with pytest.warns(ResultWarning, match="interrupted"):
        model.fit(cancer)
    assert not model.composition_.training
    assert torch.get_num_threads() == threads
    for name, value in model.composition_.named_buffers():
        torch.testing.assert_close(value, buffers[name])
    np.testing.assert_array_equal(model.transform(cancer), model.transform(cancer))


def test_an_old_iterator_does_not_reach_into_a_newer_fit(cancer):
    model = Autoencoder(2, hidden=(4,), max_epochs=9, random_state=0)
    old = model.iter_fit(cancer)
    next(old)
    model.set_params(max_epochs=0).fit(cancer)
    answers = model.transform(cancer)
    old.close()
    assert (model.best_epoch_, len(model.history_)) == (0, 1)
    np.testing.assert_array_equal(model.transform(cancer), answers)


class Nowhere(Penalty):
    """A penalty that no weights can pay."""

    def forward(self, trace, composition):
        return torch.full((len(trace.x),), math.nan) + trace.z.sum(1)


def test_training_without_a_finite_objective_is_an_error_and_divergence_a_note(cancer):
    with pytest.raises(TrainingError, match="no weights with a finite objective"):
        Autoencoder(2, penalties=[Nowhere()], max_epochs=2, random_state=0).fit(cancer)
    model = Autoencoder(2, learning_rate=1e30, optimizer="adam", max_epochs=5, random_state=0).fit(cancer)
    assert any("diverged" in note for note in model.notes_)
    assert np.isfinite(model.transform(cancer)).all()


def test_each_epoch_has_an_order_of_its_own_and_every_evaluation_the_same_noise(cancer):
    rows = torch.from_numpy(cancer - cancer.mean(0)).float()
    model = Autoencoder(2, hidden=(4,), corruption=GaussianNoise(1.0), max_epochs=2, random_state=0)
    run = prepared(model, rows)
    objectives = [evaluated(run) for _ in range(2)]
    assert objectives[0] == objectives[1]
    assert objectives[0] != evaluated(run, 1)
    epochs = [
        torch.randperm(50, generator=noise.generator(run.state.seed, "shuffle", epoch)).tolist() for epoch in (1, 2)
    ]
    assert epochs[0] != epochs[1]


def test_a_saved_model_keeps_its_clip_and_its_prior(cancer, tmp_path):
    import eigencode

    model = LinearAutoencoder(2, weight_prior=GaussianWeights(0.1)).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    assert again.scaler_.limit == model.scaler_.limit
    prior, own = again.composition_.weight_prior, model.composition_.weight_prior
    assert prior.log_prob(again.composition_).item() == own.log_prob(model.composition_).item()


def test_two_networks_of_one_class_stay_two(cancer, tmp_path):
    import eigencode

    def network(n_inputs, n_outputs, value):
        linear = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)
        nn.init.constant_(linear.weight, value)
        nn.init.zeros_(linear.bias)
        return nn.Sequential(linear)

    encoder, decoder = network(30, 30, 0.01), network(30, 30, 0.02)
    model = Autoencoder(30, encoder=encoder, decoder=decoder, max_epochs=2, random_state=0).fit(cancer)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors", parts=[encoder, decoder])
    assert again.composition_.encoder.module is not again.composition_.decoder.module
    np.testing.assert_array_equal(again.reconstruct(cancer), model.reconstruct(cancer))


# -- closed forms are claimed only where they hold


def test_two_terms_that_weigh_directions_have_no_closed_form(cancer):
    for options in (
        {"ordered": True, "weight_prior": GaussianWeights(0.1)},
        {"ordered": True, "corruption": GaussianNoise(0.1)},
        {"likelihood": GaussianLikelihood("learned"), "corruption": GaussianNoise(0.1)},
    ):
        with pytest.raises(OptionError, match="closed form"):
            LinearAutoencoder(2, **options).fit(cancer)
    with pytest.raises(OptionError, match="largest first"):
        LinearAutoencoder(2, weight_prior=GaussianWeights([0.1, 0.2])).fit(cancer)


def test_an_overcomplete_map_under_a_prior_has_no_spare_weights():
    rows = np.random.default_rng(0).normal(size=(100, 3))
    model = LinearAutoencoder(6, weight_prior=GaussianWeights(0.1)).fit(rows)
    assert not model.composition_.encoder.affine.weight[3:].any()


def test_unequal_variances_know_rows_from_columns_in_a_square_map(cancer):
    variances = [0.7, 0.3, 0.1]
    model = LinearAutoencoder(3, weight_prior=GaussianWeights(variances)).fit(cancer[:, :3])
    weights = [model.composition_.encoder.affine.weight, model.composition_.decoder.affine.weight.T]
    scales = np.sqrt(variances)[:, None]
    expected = sum(scipy.stats.norm(0, scales).logpdf(w.detach().numpy()).sum() for w in weights)
    found = model.composition_.weight_prior.log_prob(model.composition_).item()
    assert found == pytest.approx(expected, rel=1e-10)


def test_learned_variance_counts_rows_by_their_weight():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(300, 4)), rng.normal(size=(60, 4)) * 8])
    weights = np.repeat([4, 1], [300, 60])
    options = {"likelihood": GaussianLikelihood("learned"), "scale": "none"}
    weighted = LinearAutoencoder(2, **options).fit(rows, sample_weight=weights)
    repeated = LinearAutoencoder(2, **options).fit(np.repeat(rows, weights, axis=0))
    assert weighted.score(rows) == pytest.approx(repeated.score(rows), rel=0.02)


def test_a_program_may_end_with_a_fit_half_done():
    """At the interpreter's end torch is taken apart, after which nothing can be put right any more."""
    script = (
        "import numpy as np, eigencode\n"
        "rows = np.random.default_rng(0).normal(size=(60, 4))\n"
        "model = eigencode.Autoencoder(2, random_state=0)\n"
        "epochs = model.iter_fit(rows)\n"
        "next(epochs)\n"
    )
    whole = os.environ | copies.WHOLE_END
    done = subprocess.run([copies.python(), "-c", script], capture_output=True, text=True, check=False, env=whole)
    assert (done.returncode, done.stderr) == (0, "")
