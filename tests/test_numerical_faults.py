"""A fit ends with a usable model or a clear error, whatever is not finite on the way."""

import math
import warnings

import numpy as np
import pytest
import torch

from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
    fit_many,
)
from eigencode.errors import ResultWarning, TrainingError

QUICK = {"hidden": (8,), "max_epochs": 8, "batch_size": 64, "random_state": 0, "optimizer": "adam"}
KINDS = {
    "plain": Autoencoder,
    "variational": VariationalAutoencoder,
    "sparse": SparseAutoencoder,
    "contractive": ContractiveAutoencoder,
    "denoising": DenoisingAutoencoder,
}
LIKELIHOODS = ["gaussian", "laplace", "student_t", "poisson", "negative_binomial"]
FAULTS = {
    "far too large steps": (1.0, {"learning_rate": 1e6}),
    "far too large steps in bfloat16": (1.0, {"learning_rate": 1e6, "precision": "bfloat16"}),
    "large numbers": (1e30, {}),
    "large numbers in bfloat16": (1e30, {"precision": "bfloat16"}),
}


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return np.tanh(rng.normal(size=(300, 2)) @ rng.normal(size=(2, 6))) + 0.1 * rng.normal(size=(300, 6))


def quietly(fit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResultWarning)
        return fit()


def assert_usable(model, X):
    assert math.isfinite(model.best_objective_)
    assert model.best_objective_ <= model.history_[0]["validation_objective"]
    for answer in (model.transform(X), model.reconstruct(X), model.score_samples(X)):
        assert np.isfinite(answer).all()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_usable_after_faults(kind, fault, X):
    factor, options = FAULTS[fault]
    model = quietly(lambda: KINDS[kind](3, **QUICK | options).fit(X * factor))
    assert_usable(model, X * factor)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood_is_usable_after_faults(likelihood, fault, X):
    factor, options = FAULTS[fault]
    is_count = likelihood in ("poisson", "negative_binomial")
    rows = np.round(np.exp(X) * min(factor, 1e9)) if is_count else X * factor
    model = quietly(lambda: Autoencoder(3, likelihood=likelihood, **QUICK | options).fit(rows))
    assert_usable(model, rows)


def test_steps_a_million_times_too_large_are_mended(digits):
    """By half the step size each time none of the fits would leave its start."""
    shares = []
    for seed in range(3):
        options = QUICK | {"max_epochs": 16, "random_state": seed}
        model = quietly(lambda: SparseAutoencoder(16, learning_rate=1e6, **options).fit(digits[:600]))  # noqa: B023
        shares.append(model.best_objective_ / model.history_[0]["validation_objective"])
        assert any("continued from the best weights with a smaller step size" in note for note in model.notes_)
    assert np.median(shares) < 0.95  # of four seeds .74 to .89


class Faulty(torch.nn.Module):
    """A network with a fault in training from one call on: NaN, infinity, or a value without a derivative."""

    def __init__(self, n_inputs, n_outputs, how, after, every=1):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.inner = torch.nn.Sequential(
                torch.nn.Linear(n_inputs, 8), torch.nn.Tanh(), torch.nn.Linear(8, n_outputs)
            )
        self.how, self.after, self.every, self.n_calls = how, after, every, 0

    def forward(self, x):
        z = self.inner(x)
        if not self.training:
            return z
        self.n_calls += 1
        if self.n_calls <= self.after or self.n_calls % self.every:
            return z
        if self.how == "no derivative":
            return z + (z - z.detach()).abs().sqrt()
        return z * math.nan if self.how == "NaN" else z + math.inf


@pytest.mark.parametrize("how", ["NaN", "infinity", "no derivative"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_network_with_a_fault_from_a_step_on(how, optimizer, X):
    model = Autoencoder(2, encoder=Faulty(6, 2, how, after=20), **QUICK | {"optimizer": optimizer}).fit(X)
    assert_usable(model, X)
    if optimizer == "adam":
        assert model.best_objective_ < model.history_[0]["validation_objective"]
        n_steps = model.history_[-1]["step"]
        said = f"the gradient was not finite in {n_steps - 20} of {n_steps} steps, which left the weights as they were"
        assert any(note.startswith(said) for note in model.notes_)
    else:
        assert any(note.startswith("diverged") for note in model.notes_)


def test_a_fault_now_and_then_costs_these_steps_only(X):
    model = Autoencoder(2, encoder=Faulty(6, 2, "NaN", after=0, every=5), **QUICK).fit(X)
    whole = Autoencoder(2, encoder=Faulty(6, 2, "NaN", after=10**9), **QUICK).fit(X)
    gains = [m.history_[0]["validation_objective"] - m.best_objective_ for m in (model, whole)]
    assert gains[0] > 0.5 * gains[1] > 0
    assert any(note.startswith("the gradient was not finite in 8 of 40 steps") for note in model.notes_)
    assert not any("not finite" in note for note in whole.notes_)


def test_models_of_one_program_count_their_own_gradients(X):
    models = [Autoencoder(2, **QUICK | {"learning_rate": rate, "max_epochs": 3}) for rate in (1e-3, 3e-3)]
    assert fit_many(models, X) == ["2 models in one program"]
    assert not any("not finite" in note for model in models for note in model.notes_)


def test_a_network_that_is_never_finite_is_an_error(X):
    class Never(Faulty):
        def forward(self, x):
            return self.inner(x) * math.nan

    model = Autoencoder(2, encoder=Never(6, 2, "NaN", 0), **QUICK)
    with pytest.raises(TrainingError, match="Training found no weights with a finite objective"):
        model.fit(X)


def test_labels_are_predicted_after_faults(X):
    y = np.arange(300) % 2
    model = quietly(lambda: AutoencoderClassifier(max_epochs=4, learning_rate=1e6, random_state=0).fit(X, y))
    assert np.isfinite(model.predict_proba(X)).all()
