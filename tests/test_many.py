"""Many models as one program: each is what it would be by itself."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from eigencode import (
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
    fit_many,
)
from eigencode.errors import DataError, OptionError
from eigencode.parts import GaussianLikelihood, GaussianNoise, GaussianWeights, Penalty, StandardNormalPrior
from eigencode.training import grouping, loop
from eigencode.training.batched_runner import BatchedRunner
from eigencode.training.execution import THREADS_FROM
from eigencode.training.grouping import group_runs, share_tensors

pytestmark = pytest.mark.slow

X = load_digits().data[:360]
OPTIONS = {"max_epochs": 8, "batch_size": 32, "precision": "float64", "optimizer": "adam", "random_state": 0}


def models(cls, *settings, **shared_settings):
    return [cls(**{**OPTIONS, **shared_settings, **own}) for own in settings]


FAMILIES = {
    "seeds": lambda: models(Autoencoder, *({"random_state": seed} for seed in range(3)), n_components=4),
    "step sizes": lambda: models(Autoencoder, *({"learning_rate": r} for r in (1e-3, 4e-3, 1e-2)), n_components=4),
    "widths": lambda: models(
        Autoencoder,
        {"n_components": 8, "hidden": (20, 10)},
        {"n_components": 3, "hidden": (12, 24)},
        {"n_components": 5, "hidden": (16, 16)},
        activation="sigmoid",
    ),
    "tied": lambda: models(Autoencoder, *({"hidden": (h,)} for h in (8, 16)), n_components=4, tied=True),
    "noise": lambda: models(Autoencoder, *({"corruption": GaussianNoise(v)} for v in (0.1, 0.5)), n_components=4),
    "masks": lambda: models(DenoisingAutoencoder, *({"n_components": k} for k in (2, 5)), noise="masking", tied=False),
    "beta": lambda: models(
        VariationalAutoencoder,
        {"n_components": 6, "beta": 0.5},
        {"n_components": 3},
        {"n_components": 4, "beta": 2.0},
        prior=StandardNormalPrior(),
    ),
    "contraction": lambda: models(ContractiveAutoencoder, *({"weight": w} for w in (0.1, 1.0)), n_components=4),
    "deep contraction": lambda: models(
        ContractiveAutoencoder, *({"n_components": k, "hidden": (12, 9)} for k in (3, 5)), max_epochs=10
    ),
    "sparsity": lambda: models(SparseAutoencoder, *({"active": a} for a in (2, 4)), n_components=16),
    "rates": lambda: models(SparseAutoencoder, *({"weight": w} for w in (0.5, 2.0)), n_components=16),
    "top-k": lambda: models(
        SparseAutoencoder, *({"random_state": s} for s in (1, 2)), n_components=16, sparsity="top_k"
    ),
    "decay": lambda: models(
        LinearAutoencoder,
        *({"weight_prior": GaussianWeights(v)} for v in (0.01, 1)),
        n_components=4,
        solver="gradient",
    ),
    "learned noise": lambda: models(
        Autoencoder, {"n_components": 2}, {"n_components": 4}, likelihood=GaussianLikelihood("per_feature")
    ),
    "images": lambda: models(
        Autoencoder,
        *({"random_state": s} for s in (1, 2)),
        n_components=4,
        image_shape=(1, 8, 8),
        hidden=(4,),
        max_epochs=2,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_program_trains_each_model_as_it_would_be_by_itself(family):
    """72 steps in float64: weights, state, history and answers to 1e-8, and one program for all."""
    alone, company = FAMILIES[family](), FAMILIES[family]()
    for model in alone:
        model.fit(X)
    assert fit_many(company, X) == [f"{len(company)} models in one program"]
    for one, other in zip(alone, company, strict=True):
        assert one.best_epoch_ == other.best_epoch_
        assert one.notes_ == other.notes_
        ours, theirs = one.composition_.state_dict(), other.composition_.state_dict()
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, rtol=1e-8, atol=1e-8, msg=name)
        for row, their_row in zip(one.history_, other.history_, strict=True):
            assert their_row | {"seconds": row["seconds"]} == pytest.approx(row, rel=1e-8)
        np.testing.assert_allclose(other.transform(X), one.transform(X), rtol=1e-8, atol=1e-8)


def test_each_model_stops_by_itself():
    """Runs that end at different epochs, one of them in the middle of one, and go on without those that ended."""

    def made():
        settings = [{"max_epochs": 5}, {"max_epochs": 12}, {"max_epochs": 60, "patience": 2}]
        return models(Autoencoder, *settings, n_components=4, learning_rate=0.02)

    alone, company = [model.fit(X) for model in made()], made()
    assert fit_many(company, X) == ["3 models in one program"]
    lengths = [len(model.history_) for model in company]
    assert lengths == [len(model.history_) for model in alone]
    assert len(set(lengths)) == 3
    assert [m.history_[-1]["step"] for m in company] == [m.history_[-1]["step"] for m in alone]
    for one, other in zip(alone, company, strict=True):
        np.testing.assert_allclose(other.transform(X), one.transform(X), rtol=1e-7, atol=1e-8)


def test_weights_of_rows_count_in_programs():
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    alone, company = FAMILIES["widths"](), FAMILIES["widths"]()
    fit_many(company, X, sample_weight=weights)
    for one, other in zip(alone, company, strict=True):
        one.fit(X, sample_weight=weights)
        np.testing.assert_allclose(other.transform(X), one.transform(X), rtol=1e-8, atol=1e-8)
    assert np.abs(company[0].transform(X) - FAMILIES["widths"]()[0].fit(X).transform(X)).max() > 1e-3


def test_a_model_that_breaks_leaves_the_others_alone():
    settings = [{"learning_rate": 1e-3}, {"learning_rate": 1e300}, {"learning_rate": 2e-3}, {"learning_rate": 0.5}]
    company = models(Autoencoder, *settings, n_components=4, max_epochs=5)
    assert fit_many(company, X) == ["4 models in one program"]
    assert any("diverged" in note for note in company[1].notes_)
    assert any("a smaller step size" in note for note in company[3].notes_)
    assert np.isfinite(company[1].transform(X)).all()
    for model, own in zip(company[::2], settings[::2], strict=True):
        alone = Autoencoder(4, **{**OPTIONS, "max_epochs": 5, **own}).fit(X)
        np.testing.assert_allclose(model.transform(X), alone.transform(X), rtol=1e-8, atol=1e-8)
    wild = Autoencoder(4, **{**OPTIONS, "max_epochs": 5, "learning_rate": 0.5}).fit(X)
    assert [row["learning_rate"] for row in company[3].history_] == [row["learning_rate"] for row in wild.history_]


class Pointed(Penalty):
    """A penalty that looks at a value, which no vectorised pass can."""

    numbers = ("weight",)

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, trace, composition):
        size = trace.z.square().sum(-1)
        return self.weight * size if float(size.detach().sum()) > 0 else size


class Normalised(nn.Module):
    """A layer whose outputs depend on how many there are, so that padding would change them."""

    def forward(self, x):
        return x - x.mean(-1, keepdim=True)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            lambda: models(Autoencoder, {"penalties": [Pointed(0.1)]}, {"penalties": [Pointed(0.2)]}, n_components=3),
            "2 separately: one of their parts cannot be vectorised (RuntimeError)",
        ),
        (
            lambda: models(Autoencoder, {"hidden": (8,)}, {"hidden": (12,)}, n_components=3, activation=Normalised()),
            "2 separately: one pass for all is not the same as one each",
        ),
        (
            lambda: models(Autoencoder, {}, {"activation": "tanh"}, n_components=3),
            "2 separately: no other is like it",
        ),
        (
            lambda: models(Autoencoder, {}, {"n_components": 4}, n_components=3, optimizer="lbfgs"),
            "2 separately: L-BFGS looks at one model at a time",
        ),
        (
            lambda: models(Autoencoder, {}, {"random_state": 1}, n_components=3, activation=nn.Dropout(0.1)),
            "2 separately: its networks draw noise of their own",
        ),
    ],
)
def test_what_cannot_be_one_program_is_trained_by_itself_with_the_reason(made, expected):
    alone, company = made(), made()
    for model in (*alone, *company):
        model.set_params(max_epochs=3)
    for model in alone:
        model.fit(X)
    assert fit_many(company, X) == [expected]
    for one, other in zip(alone, company, strict=True):
        np.testing.assert_allclose(other.transform(X), one.transform(X), rtol=1e-8, atol=1e-8)


def test_closed_forms_have_nothing_to_train():
    company = [LinearAutoencoder(3), LinearAutoencoder(4)]
    assert fit_many(company, X) == ["2 separately: there is nothing to train"]
    np.testing.assert_array_equal(company[0].transform(X), LinearAutoencoder(3).fit(X).transform(X))


def test_shapes_that_cannot_be_padded_are_a_program_each():
    settings = [{"hidden": (h,), "random_state": s} for h in (8, 12) for s in (0, 1)]
    company = models(Autoencoder, *settings, n_components=3, activation=Normalised(), max_epochs=3)
    assert fit_many(company, X) == ["2 models in one program", "2 models in one program"]


def test_large_steps_and_full_programs_are_told_apart(monkeypatch):
    monkeypatch.setattr(grouping, "PROGRAM_WORK", 2.5 * 32 * 2 * (64 * 10 + 10 * 3 + 64 * 3))
    company = models(Autoencoder, *({"random_state": s} for s in range(5)), n_components=3, hidden=(10,), max_epochs=2)
    assert fit_many(company, X) == ["2 models in one program"] * 2 + ["1 separately: no other is like it"]
    monkeypatch.setattr(grouping, "ALONE_FROM", 10)
    found = fit_many(models(Autoencoder, {}, {"beta": 2.0}, n_components=3, max_epochs=1), X)
    assert found == ["2 separately: its steps are large enough to fill the processor"]


def test_threads_go_by_the_work_of_the_whole_program(monkeypatch):
    """The steps of three models are one step of three times the work."""
    runs = share_tensors([model._begin(X) for model in FAMILIES["seeds"]()])
    runs = [replace(run, step_work=0.4 * THREADS_FROM) for run in runs]
    # Models of one structure keep company, whatever each would have had by itself.
    runs[0] = replace(runs[0], execution=replace(runs[0].execution, n_threads=7))
    (group,) = group_runs(runs)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr("eigencode.training.execution.processors", lambda: 8)
    assert group.runner.execution.n_threads == 4
    group.runner.runs[1].state.schedule.end = 0
    assert group.runner.keep_unfinished()
    assert [run.state.seed for run in group.runner.runs] == [0, 2]
    assert group.runner.execution.n_threads == 1


def test_stacked_models_fine_tune_together():
    company = models(StackedAutoencoder, *({"random_state": s} for s in (1, 2)), layers=(12, 4), max_epochs=3)
    assert fit_many(company, X) == ["2 models in one program"]


class Calls(TorchDispatchMode):
    """Counts operator calls."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count = getattr(self, "count", 0) + 1
        return function(*args, **(kwargs or {}))


def calls_of_a_step(n_models):
    runs = [m._begin(X) for m in models(Autoencoder, *({"random_state": s} for s in range(n_models)), n_components=4)]
    program = BatchedRunner(share_tensors(runs))
    next(program.batches)  # the first of an epoch shuffles each model's rows
    batch = next(program.batches)
    program._update = program._move  # as it is written, without the operations of a recording
    with Calls() as calls:
        program.step(batch, [True] * n_models)
    return calls.count


def test_a_step_of_many_models_takes_as_many_operations_as_one_of_few():
    few, most = calls_of_a_step(2), calls_of_a_step(12)
    assert most <= few + 8 * 10  # the optimiser's step of each model, which a recording has as one
    assert few < 230


def test_one_table_is_kept_once():
    runs = share_tensors([model._begin(X) for model in FAMILIES["step sizes"]()])
    assert len({id(run.rows.source) for run in runs}) == len({id(run.rows.training) for run in runs}) == 1
    other = share_tensors([runs[0], Autoencoder(4, **OPTIONS)._begin(X[::-1].copy())])
    assert other[0].rows.source is not other[1].rows.source


def test_a_fit_that_cannot_begin_raises_its_error_and_the_others_are_made():
    company = models(Autoencoder, {"n_components": 4}, {"n_components": 4, "likelihood": "bernoulli"}, max_epochs=2)
    with pytest.raises(DataError, match="likelihood"):
        fit_many(company, X)
    assert len(company[0].history_) == 3
    with pytest.raises(OptionError, match="once"):
        fit_many([company[0]] * 2, X)
    with pytest.raises(OptionError, match="must be a list of autoencoders"):
        fit_many(Autoencoder(2), np.ones((5, 3)))
    with pytest.raises(OptionError, match="Only autoencoders"):
        fit_many([nn.Identity()], X)


def test_time_limits_begin_with_the_program(monkeypatch, ticking):
    """However long the other models' preparation took, each has its own time."""
    company = models(Autoencoder, *({"random_state": s} for s in range(2)), n_components=4, max_seconds=0.5)
    for model in company:
        model.set_params(max_epochs=100_000, patience=100_000)
    runs = [model._begin(X) for model in company]
    monkeypatch.setattr(time, "monotonic", lambda: ticking() + 1000)
    (group,) = group_runs(runs)
    began = ticking()
    assert sum(1 for _ in loop.train_all(group.runner)) >= 1
    assert 0.4 < ticking() - began < 0.6
    assert all(run.state.finished for run in runs)


class Counting(nn.Module):
    """A user's network that counts its passes, and uses the number."""

    def __init__(self, n_inputs, n_outputs, as_list):
        super().__init__()
        self.layer = nn.Linear(n_inputs, n_outputs)
        self.seen = [] if as_list else 0

    def forward(self, x):
        n_seen = self.seen if isinstance(self.seen, int) else len(self.seen)
        self.seen = self.seen + 1 if isinstance(self.seen, int) else self._longer()
        return self.layer(x) * (1 + 1 / (1 + n_seen))

    def _longer(self):
        self.seen.append(1)  # the same object, with other contents
        return self.seen


@pytest.mark.parametrize("as_list", [False, True])
def test_networks_that_change_their_own_attributes_are_trained_one_by_one(as_list):
    """In a program the attributes would change once for all models; one by one they are those of separate fits."""

    def made(seed):
        torch.manual_seed(0)
        encoder, decoder = Counting(8, 3, as_list), nn.Linear(3, 8)
        return Autoencoder(3, encoder=encoder, decoder=decoder, **OPTIONS | {"random_state": seed, "max_epochs": 2})

    with torch.random.fork_rng():
        together, alone = ([made(seed) for seed in range(2)] for _ in range(2))
    assert "changes its own attributes" in fit_many(together, X[:, :8])[0]
    for one, other in zip(together, alone, strict=True):
        other.fit(X[:, :8])
        assert one.best_objective_ == other.best_objective_
        seen = [model.composition_.encoder for model in (one, other)]
        counters = [next(m.seen for m in each.modules() if isinstance(m, Counting)) for each in seen]
        assert counters[0] == counters[1]


def test_narrow_models_go_on_when_the_widest_has_ended():
    together, alone = (
        models(
            VariationalAutoencoder,
            {"n_components": 2, "max_epochs": 6},
            {"n_components": 5, "max_epochs": 2},
            prior=StandardNormalPrior(),
        )
        for _ in range(2)
    )
    assert fit_many(together, X) == ["2 models in one program"]
    for one, same in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.transform(X), same.fit(X).transform(X), rtol=1e-6, atol=1e-8)
    assert [one.history_[-1]["epoch"] for one in together] == [6, 2]


class Declared(Penalty):
    """A penalty of a user's, whose argument may be written in any type."""

    numbers = ("weight",)

    def __init__(self, weight=0.1, squared=True):
        super().__init__()
        self.weight = weight
        self.squared = squared

    def forward(self, trace, composition):
        steps = trace.z.diff(dim=-1)
        return self.weight * (steps.square() if self.squared else steps.abs()).sum(-1)


def test_the_type_in_which_a_number_is_written_changes_nothing():
    X = np.random.default_rng(0).normal(size=(100, 6))

    def model(weight, **given):
        options = {"hidden": (4,), "optimizer": "adam", "max_epochs": 2, "random_state": 0}
        return Autoencoder(3, penalties=[Declared(weight, **given)], **options)

    weights = [0.1, 0.2, 1, 2, np.float32(3), np.int64(4), np.float64(5)]
    models = [model(weight) for weight in weights]
    assert fit_many(models, X) == ["7 models in one program"]
    alone = model(2.0).fit(X)
    np.testing.assert_allclose(models[3].transform(X), alone.transform(X), atol=1e-4)
    assert fit_many([model(1), model(1.0)], X) == ["2 models in one program"]
    apart = [model(1, squared=True), model(2, squared=True), model(1, squared=False), model(2.0, squared=False)]
    assert fit_many(apart, X) == ["2 models in one program"] * 2


def test_decays_of_models_of_several_widths_are_a_few_pieces_of_the_matrix():
    settings = [{"n_components": k, "hidden": (width,)} for k, width in [(2, 5), (3, 9), (6, 7)]]
    together, alone = ([model._begin(X) for model in models(Autoencoder, *settings)] for _ in range(2))
    program = BatchedRunner(share_tensors(together))
    n_parameters = len(list(together[0].state.composition.parameters()))
    assert 0 < len(program._optimizer._decays) <= n_parameters
    rates = [0.5, 0.25, 0.0]
    program._optimizer.shrink(torch.tensor(rates, dtype=torch.float64))
    program.write_back()
    for run, same, rate in zip(together, alone, rates, strict=True):
        same.state.optimizer.shrink(rate)
        torch.testing.assert_close(run.state.parameters.vector, same.state.parameters.vector)
