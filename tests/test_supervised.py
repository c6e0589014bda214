"""Supervised heads: labels are the formula's columns, predicted from the code of an autoencoder."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import untimed
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import eigencode
from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    Composition,
    DenoisingAutoencoder,
    LinearAutoencoder,
    Objective,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.batch import Batch
from eigencode.errors import DataError, OptionError
from eigencode.parts import (
    MLP,
    CategoricalLikelihood,
    FineTunedWeights,
    FirstColumns,
    GaussianLikelihood,
    HeadWeights,
    LastColumns,
    PoissonLikelihood,
    Reconstruction,
    Sizes,
    Units,
)
from eigencode.plots import TrainingDisplay

EXACT = {"fine_tune": False, "validation_fraction": 0.0, "optimizer": "lbfgs", "precision": "float64"}
QUICK = {"max_epochs": 2, "random_state": 0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    """Images of digits to learn from and to test on, with their labels."""
    return train_test_split(*load_digits(return_X_y=True), test_size=500, random_state=0)


@pytest.fixture(scope="module")
def autoencoder(images):
    """One that is fitted to the images; tests must not change it."""
    return Autoencoder(12, hidden=(64,), max_epochs=25, random_state=0).fit(images[0])


@pytest.fixture(scope="module")
def small(cancer):
    """Rows, overlapping labels, a small fitted autoencoder."""
    rows = cancer[:200]
    rng = np.random.default_rng(0)
    labels = np.digitize(rows[:, 0] + 4 * rng.normal(size=200), [13, 17])
    return rows, labels, LinearAutoencoder(3).fit(rows)


def weights(model):
    return {name: value.clone() for name, value in model.composition_.state_dict().items()}


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


# -- the parts


def test_a_categorical_is_the_literal_cross_entropy():
    output = torch.randn(5, 4, dtype=torch.float64, generator=generator())
    classes = [2, 0, 3, 3, 1]
    p = CategoricalLikelihood()(output)
    terms = p.log_prob(torch.eye(4, dtype=torch.float64)[classes])
    for i, k in enumerate(classes):
        literal = output[i, k] - sum(output[i, j].exp() for j in range(4)).log()
        torch.testing.assert_close(terms[i].sum(), literal, rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(p.mean[i, k], literal.exp())
    # For shares in place of one class it is least at the shares themselves.
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    best = CategoricalLikelihood()(shares.log()).log_prob(shares).sum()
    assert all(best > CategoricalLikelihood()(row[None]).log_prob(shares).sum() for row in output)


def test_categorical_draws_have_its_probabilities():
    output = torch.tensor([[0.0, 1.0, -1.0]])
    p = CategoricalLikelihood()(output.expand(40_000, 3))
    draws = p.sample(generator())
    assert bool((draws.sum(1) == 1).all())
    mean = p.mean[0]
    assert bool(((draws.mean(0) - mean).abs() < 4 * (mean * (1 - mean) / 40_000).sqrt()).all())
    assert torch.equal(draws, p.sample(generator()))


def test_the_best_constant_is_the_classes_shares():
    part = CategoricalLikelihood()
    part.setup(Sizes(3, 1, units=Units(torch.full((3,), 0.3), torch.full((3,), 2.0))))
    x = torch.eye(3)[[0, 0, 1, 2, 2, 2]]
    scaled = (x - 0.3) / 2
    torch.testing.assert_close(part.target(scaled), x)
    torch.testing.assert_close(part(part.expansion.constant(Batch(scaled))).mean, x.mean(0))


def test_first_and_last_columns_see_no_others():
    network, likelihood = FirstColumns(MLP((3,)), 2), LastColumns(PoissonLikelihood(), 2)
    network.setup(4, 1, generator())
    units = Units(torch.arange(4.0), torch.arange(1.0, 5.0))
    likelihood.setup(Sizes(4, 1, units=units))
    x = torch.randn(5, 4, generator=generator(1))
    torch.testing.assert_close(network(x), network.network(x[:, :2]))
    counts = torch.randint(9, (5, 2), generator=generator(2)).float()
    rows = torch.cat([x[:, :2], (counts - units.center[2:]) / units.divisor[2:]], 1)
    assert likelihood.in_data_units
    torch.testing.assert_close(likelihood.target(rows), counts)
    torch.testing.assert_close(likelihood.expansion.constant(Batch(rows)), counts.mean(0).log())
    p = likelihood(likelihood.expansion.constant(Batch(rows)).expand(5, 2))
    torch.testing.assert_close(likelihood.scaled(p.mean), ((p.mean - units.center[2:]) / units.divisor[2:]))


def test_the_objective_is_the_sum_of_its_literal_terms():
    """-log p(y|z) - w log p(x|z) + ||head||^2 / (2 n v), term by term, for rows (x, y)."""
    model = Composition(
        FirstColumns(MLP((4,), "tanh"), 3),
        MLP(),
        likelihood=LastColumns(CategoricalLikelihood(), 2),
        penalties=[Reconstruction(MLP((4,), "tanh"), GaussianLikelihood(), 3, weight=0.3)],
        weight_prior=HeadWeights(0.7),
    )
    model.setup(5, 2, generator())
    model.double()
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator(1))
    y = torch.eye(2, dtype=torch.float64)[[0, 1, 1, 0, 1, 0]]
    found = Objective(n_rows=11)(model, model(torch.cat([x, y], 1)))
    z = model.encoder.network(x)
    rebuilt = model.penalties[0].decoder(z)
    decay = (model.decoder.last.weight**2).sum() / (2 * 0.7 * 11)
    for i in range(6):
        cross_entropy = -torch.log_softmax(model.decoder(z)[i], 0)[y[i].argmax()]
        squared_error = ((x[i] - rebuilt[i]) ** 2).sum() + 3 * 0.5 * np.log(np.pi)
        torch.testing.assert_close(found[i], cross_entropy + 0.3 * squared_error + decay)


def test_the_prior_of_fine_tuning_is_its_literal_sum():
    """The squares of the head's matrices, and of the changes of all weights of the encoder."""
    prior = FineTunedWeights(0.7)
    model = Composition(FirstColumns(MLP((4,)), 3), MLP((3,)), likelihood=LastColumns(CategoricalLikelihood(), 2))
    model.weight_prior = prior
    model.setup(5, 2, generator())
    before = [p.detach().clone() for p in model.encoder.parameters()]
    model.begin(torch.zeros(2, 5))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator(p.numel())))
    after = [p.detach() for p in model.encoder.parameters()]
    head = sum(float((p.detach() ** 2).sum()) for p in model.decoder.parameters() if p.dim() > 1)
    moved = sum(float(((b - a) ** 2).sum()) for a, b in zip(before, after, strict=True))
    assert prior.cost(model).item() == pytest.approx((head + moved) / (2 * 0.7), rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 14, 17])
def test_weights_stay_of_a_bounded_size_where_classes_are_separable(seed, tmp_path):
    """The objective cannot be above that of the start, log 2 for two classes: ||w||^2 <= 2 n v log 2."""
    rng, labels = np.random.default_rng(seed), np.arange(40) % 2
    rows = np.c_[rng.normal(size=40) + 3 * labels, 2 * rng.normal(size=40) + labels]
    autoencoder = Autoencoder(random_state=seed).fit(rows)
    start = weights(autoencoder)
    model = AutoencoderClassifier(autoencoder, validation_fraction=0.0, random_state=seed).fit(rows, labels)
    after = weights(model.autoencoder_)
    moved = sum(float((after[name] - start[name]).square().sum()) for name in start if name.startswith("encoder."))
    head = sum(float(p.detach().square().sum()) for p in model.composition_.decoder.parameters() if p.dim() > 1)
    assert 0 < moved + head <= 2 * 40 * np.log(2)
    model.save(tmp_path / "model.safetensors")
    read = eigencode.load(tmp_path / "model.safetensors")
    assert_same_bits(weights(read), weights(model))


# -- what a frozen code makes exact


@pytest.mark.parametrize("variance", [1.0, 0.1, None])
def test_a_linear_head_on_a_frozen_code_is_logistic_regression(small, variance):
    rows, labels, autoencoder = small
    model = AutoencoderClassifier(autoencoder, head_variance=variance, max_epochs=60, **EXACT).fit(rows, labels)
    codes = StandardScaler().fit_transform(autoencoder.transform(rows))
    reference = LogisticRegression(C=np.inf if variance is None else variance, tol=1e-9, max_iter=10_000)
    np.testing.assert_allclose(model.predict_proba(rows), reference.fit(codes, labels).predict_proba(codes), atol=1e-5)
    np.testing.assert_array_equal(model.predict(rows), model.classes_[model.predict_proba(rows).argmax(1)])
    assert model.score(rows, labels) > 0.55


@pytest.mark.parametrize("variance", [1.0, 0.1, None])
def test_a_linear_head_on_a_frozen_code_is_ridge_regression(small, variance):
    rows, _, autoencoder = small
    y = 1000 * rows[:, [2, 5]] + [3, -70]
    model = AutoencoderRegressor(autoencoder, head_variance=variance, max_epochs=60, **EXACT).fit(rows, y)
    codes = StandardScaler().fit_transform(autoencoder.transform(rows))
    # Squared error of standardised labels + ||w||^2 / (2 v), which is sklearn's sum of squares + alpha ||w||^2.
    reference = Ridge(alpha=0 if variance is None else 1 / (2 * variance)).fit(codes, y)
    np.testing.assert_allclose(model.predict(rows), reference.predict(codes), rtol=1e-6)
    one = AutoencoderRegressor(autoencoder, head_variance=variance, max_epochs=60, **EXACT).fit(rows, y[:, 1])
    np.testing.assert_allclose(one.predict(rows), reference.predict(codes)[:, 1], rtol=1e-6)


def test_a_frozen_encoder_keeps_its_bits(images, autoencoder):
    X, _, y, _ = images
    before = weights(autoencoder)
    model = AutoencoderClassifier(autoencoder, fine_tune=False, max_epochs=3, random_state=0).fit(X, y)
    assert_same_bits(weights(autoencoder), before)
    assert_same_bits(weights(model.autoencoder_), before)
    encoder = model.composition_.encoder.network.network.network.state_dict()
    assert_same_bits(encoder, autoencoder.composition_.encoder.state_dict())
    assert model.best_epoch_ > 0
    assert not any(p.requires_grad for p in model.composition_.encoder.parameters())


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_frozen_encoder_in_float64_keeps_its_bits(small, precision):
    rows, labels, autoencoder = small
    model = AutoencoderClassifier(autoencoder, fine_tune=False, precision=precision, **QUICK).fit(rows, labels)
    assert_same_bits(weights(model.autoencoder_), weights(autoencoder))
    encoder = model.composition_.encoder.network.network.network
    dtype = torch.float64 if precision == "auto" else torch.float32
    torch.testing.assert_close(
        encoder.last.weight, autoencoder.composition_.encoder.last.weight.to(dtype), rtol=0, atol=0
    )


# -- learning


def test_fine_tuning_reaches_more_than_logistic_regression_on_the_codes(images, autoencoder):
    X, X_test, y, y_test = images
    before = weights(autoencoder)
    model = AutoencoderClassifier(autoencoder, max_epochs=40, random_state=0).fit(X, y)
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(autoencoder.transform(X), y)
    accuracy = model.score(X_test, y_test)
    assert accuracy > 0.95
    assert accuracy >= reference.score(autoencoder.transform(X_test), y_test)
    # The autoencoder given is as it was, and a copy has the encoder as it is now.
    assert_same_bits(weights(autoencoder), before)
    tuned = model.autoencoder_.transform(X_test)
    assert not np.allclose(tuned, autoencoder.transform(X_test))
    scaling, head = model.composition_.decoder.networks
    z = torch.from_numpy(tuned)
    logits = head.double()((z - scaling.before.double()) * scaling.factor.double())
    np.testing.assert_allclose(logits.softmax(1).detach().numpy(), model.predict_proba(X_test), rtol=1e-4, atol=1e-6)
    head.float()
    # Held-out rows chose the epoch, and the start was the classes' shares.
    history = [row["validation_objective"] for row in model.history_]
    assert model.best_epoch_ == int(np.argmin(history)) > 0
    assert history[0] == pytest.approx(np.log(10), abs=0.02)


def test_alpha_keeps_the_reconstruction(images, autoencoder):
    X, X_test, y, y_test = images
    free, kept = (
        AutoencoderClassifier(autoencoder, alpha=alpha, max_epochs=10, random_state=0).fit(X, y) for alpha in (0, 0.1)
    )
    before = autoencoder.reconstruction_error(X_test).mean()
    assert kept.autoencoder_.reconstruction_error(X_test).mean() < 1.1 * before
    assert free.autoencoder_.reconstruction_error(X_test).mean() > 2 * before
    assert kept.score(X_test, y_test) > 0.9


def test_rows_without_labels_help():
    """A direction that 30 rows of 100 columns do not show is plain in 1500.

    The best accuracy there is is Phi(2) = .977; with 1500 rows .97, with 500 test rows' standard error of .008.
    """
    accuracies = np.array([accuracies_with_and_without(np.random.default_rng(seed)) for seed in range(3)])
    assert (accuracies[:, 1] > accuracies[:, 0]).all()
    assert accuracies[:, 1].mean() > 0.95


def accuracies_with_and_without(rng):
    """Accuracy on rows never seen of a head on one code, which 30 rows settle, and which these and 1470 others do."""
    y, direction = rng.random(2000) < 0.5, rng.normal(size=100)
    X = rng.normal(size=(2000, 100)) + np.where(y, 2.0, -2.0)[:, None] * direction / np.linalg.norm(direction)
    labelled, test = slice(30), slice(1500, None)
    spec = Autoencoder(1, hidden=(), max_epochs=0)
    return [
        AutoencoderClassifier(clone(spec).fit(X[rows]), fine_tune=False, random_state=0)
        .fit(X[labelled], y[labelled])
        .score(X[test], y[test])
        for rows in (labelled, slice(1500))
    ]


@pytest.mark.parametrize(
    "spec",
    [
        None,
        DenoisingAutoencoder(4, hidden=(8,), max_epochs=2),
        VariationalAutoencoder(4, hidden=(8,), max_epochs=2),
        StackedAutoencoder(layers=(8, 4), max_epochs=2),
        Autoencoder(4, hidden=(8,), tied=True, max_epochs=2),
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_any_autoencoder_is_fitted_on_the_way(small, spec):
    rows, *_ = small
    y = np.array(["low", "mid", "high"], dtype=object)[np.digitize(rows[:, 0], [13, 17])]
    model = AutoencoderClassifier(spec, hidden=(6,), max_epochs=15, random_state=0).fit(rows, y)
    assert model.classes_.tolist() == ["high", "low", "mid"]
    assert model.score(rows, y) > 0.6  # most often .98, at worst .87 in 25 runs; .39 without learning
    assert spec is None or not hasattr(spec, "history_")
    again = clone(model).fit(rows, y)
    np.testing.assert_array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert model.autoencoder_.seed_ != model.model_.seed_


def test_a_codes_mean_is_what_a_head_reads(small):
    """A stochastic code hands on its mean, with no noise in training."""
    rows, labels, _ = small
    autoencoder = VariationalAutoencoder(3, hidden=(), max_epochs=2, random_state=0).fit(rows)
    model = AutoencoderClassifier(autoencoder, fine_tune=False, **QUICK).fit(rows, labels)
    assert not model.composition_.is_stochastic
    x = torch.from_numpy(autoencoder.scaler_.transform(rows)).float()
    codes = model.composition_.encode(x).mean.detach().numpy()
    np.testing.assert_allclose(codes, autoencoder.transform(rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("likelihood", ["poisson", "student_t", "laplace"])
def test_a_regressors_likelihood_is_any(small, likelihood):
    rows, _, autoencoder = small
    y = np.round(rows[:, 0] ** 2 / 30)
    model = AutoencoderRegressor(autoencoder, likelihood=likelihood, max_epochs=40, random_state=0).fit(rows, y)
    assert model.score(rows, y) > 0.7
    assert (model.predict(rows) > 0).all() or likelihood != "poisson"


def test_predictions_follow_the_units_of_the_labels(small):
    rows, _, autoencoder = small
    y = rows[:, 3]
    one, other = (
        AutoencoderRegressor(autoencoder, max_epochs=5, precision="float64", random_state=0).fit(rows, target)
        for target in (y, 1e6 * y - 3e7)
    )
    np.testing.assert_allclose(other.predict(rows), 1e6 * one.predict(rows) - 3e7, rtol=1e-6)
    # Large labels keep their digits beside small numbers of few.
    far = AutoencoderRegressor(autoencoder, max_epochs=5, precision="float64", random_state=0)
    far.fit(rows.astype("float32").astype("float16"), np.float64(1e12) + np.round(y))
    assert np.ptp(far.predict(rows)) > 0.5 * np.ptp(y)


def test_rows_that_weigh_nothing_are_as_if_they_were_not_there(small):
    rows, labels, autoencoder = small
    kept = np.arange(200) % 3 > 0
    model = AutoencoderClassifier(autoencoder, **QUICK)
    weighted = clone(model).set_params(autoencoder=autoencoder).fit(rows, labels, sample_weight=kept.astype(float))
    fewer = model.fit(rows[kept], labels[kept])
    np.testing.assert_array_equal(weighted.predict_proba(rows), fewer.predict_proba(rows))
    with pytest.raises(DataError, match="All sample weights are zero"):
        model.fit(rows, labels, sample_weight=np.zeros(200))
    # A class that counts for ten is predicted more often.
    heavy = AutoencoderClassifier(autoencoder, **EXACT).fit(rows, labels, sample_weight=1.0 + 9 * (labels == 2))
    plain = AutoencoderClassifier(autoencoder, **EXACT).fit(rows, labels)
    assert heavy.predict_proba(rows)[:, 2].mean() > 1.2 * plain.predict_proba(rows)[:, 2].mean()


# -- the estimator's face


@pytest.mark.versions
@pytest.mark.parametrize("fine_tune", [True, False])
def test_copies_and_files_give_the_same_answers(small, tmp_path, fine_tune):
    rows, labels, autoencoder = small
    frame = pd.DataFrame(rows).add_prefix("c")
    names = np.array(["a", "bb", "c"])[labels]
    fitted = clone(autoencoder).fit(frame)
    classifier = AutoencoderClassifier(fitted, fine_tune=fine_tune, alpha=0.1, hidden=(4,), **QUICK).fit(frame, names)
    regressor = AutoencoderRegressor(LinearAutoencoder(3), fine_tune=fine_tune, **QUICK).fit(frame, rows[:, :2])
    for model, question in ((classifier, "predict_proba"), (classifier, "predict"), (regressor, "predict")):
        model.save(tmp_path / "m.safetensors")
        read = eigencode.load(tmp_path / "m.safetensors")
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), read):
            np.testing.assert_array_equal(getattr(other, question)(frame), getattr(model, question)(frame))
            assert untimed(other.history_) == untimed(model.history_)
            assert repr(other) == repr(model)
            assert other.feature_names_in_.tolist() == frame.columns.tolist()
            np.testing.assert_array_equal(other.autoencoder_.transform(frame), model.autoencoder_.transform(frame))
    assert classifier.predict(frame.astype("float32")).dtype == names.dtype
    assert classifier.predict_proba(frame.astype("float32")).dtype == "float32"


@pytest.mark.versions
def test_a_frozen_estimator_survives_cloning(small, tmp_path):
    rows, labels, autoencoder = small
    model = AutoencoderClassifier(FrozenEstimator(autoencoder), fine_tune=False, **QUICK)
    assert clone(model).autoencoder.estimator is autoencoder
    fitted = clone(model).fit(rows, labels)
    assert_same_bits(weights(fitted.autoencoder_), weights(autoencoder))
    assert cross_val_score(model, rows, labels, cv=3).shape == (3,)
    fitted.save(tmp_path / "m.safetensors")
    read = eigencode.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(read.predict_proba(rows), fitted.predict_proba(rows))


def test_iterating_and_fitting_are_the_same(small):
    rows, labels, autoencoder = small
    fitted = AutoencoderClassifier(autoencoder, **QUICK).fit(rows, labels)
    model = AutoencoderClassifier(autoencoder, **QUICK)
    assert untimed(model.iter_fit(rows, labels)) == untimed(fitted.history_[1:])
    assert model.best_objective_ == min(row["validation_objective"] for row in fitted.history_)
    assert model.baseline_ is None
    assert TrainingDisplay.from_estimator(model).ax_.lines
    np.testing.assert_array_equal(model.predict_proba(rows), fitted.predict_proba(rows))


def test_a_refused_fit_leaves_a_fitted_model_as_it_was(small):
    rows, labels, autoencoder = small
    model = AutoencoderClassifier(autoencoder, **QUICK).fit(rows, labels)
    before = model.predict_proba(rows)
    for bad_rows, bad_labels, message in [
        (rows[:, :5], labels, "5 features"),
        (rows, labels[:-1], "inconsistent numbers of samples"),
        (rows, np.zeros(200), "at least two classes"),
        (rows, rows[:, 0], "Unknown label type"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(bad_rows, bad_labels)
        np.testing.assert_array_equal(model.predict_proba(rows), before)
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        model.fit(rows, labels, sample_weight=-np.ones(200))
    np.testing.assert_array_equal(model.predict_proba(rows), before)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (AutoencoderClassifier(LogisticRegression()), "must be an autoencoder of this package"),
        (
            AutoencoderClassifier(Autoencoder(2, tied=True, max_epochs=0), alpha=0.5),
            "A tied decoder cannot be trained",
        ),
        (
            AutoencoderClassifier(StackedAutoencoder(layers=(4, 2), tied=True, max_epochs=0), alpha=0.5),
            "A tied decoder",
        ),
        (AutoencoderClassifier(alpha=-1), "'alpha' parameter of AutoencoderClassifier must be"),
        (AutoencoderRegressor(Autoencoder(2, max_epochs=0), likelihood="poisson"), "PoissonLikelihood"),
    ],
)
def test_what_makes_no_sense_is_refused(small, model, message):
    rows, labels, _ = small
    with pytest.raises((OptionError, DataError), match=message):
        model.fit(rows, labels - 0.5 if isinstance(model, AutoencoderRegressor) else labels)
