"""Fits that meet: overtaken iterators, threads that draw; and subclasses with constructors of their own."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import untimed
from sklearn.base import clone
from torch import nn

import eigencode
from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderSearch,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
    fit_many,
)

X, Y = np.random.default_rng(0).normal(size=(2, 60, 4))


def model():
    return Autoencoder(2, hidden=(4,), optimizer="adam", max_epochs=4, random_state=0)


def same(model, other):
    """Whether two fitted models say the same of themselves and of rows."""
    assert (model.best_epoch_, model.best_objective_) == (other.best_epoch_, other.best_objective_)
    assert untimed(model.history_) == untimed(other.history_)
    assert model.notes_ == other.notes_
    for name in ("transform", "reconstruct", "score_samples"):
        np.testing.assert_array_equal(getattr(model, name)(Y), getattr(other, name)(Y))
    return True


def refit(model):
    return model.fit(Y)


def refit_otherwise(model):
    return model.set_params(max_epochs=2, hidden=(3,)).fit(Y)


def block(model):
    return model.partial_fit(Y)


def exhausted(model):
    list(model.iter_fit(Y))
    return model


@pytest.mark.parametrize("action", [refit, refit_otherwise, exhausted], ids=lambda action: action.__name__)
@pytest.mark.parametrize("n_epochs", [0, 1, 3])
def test_an_overtaken_iterator_changes_nothing(action, n_epochs):
    one = model()
    iterator = one.iter_fit(X)
    for _ in range(n_epochs):
        next(iterator)
    action(one)
    assert list(iterator) == [] or n_epochs == 0
    assert same(one, action(model()))


def test_a_block_overtakes_an_iterator_too():
    one = model()
    iterator = one.iter_fit(X)
    next(iterator)
    one.partial_fit(Y)
    expected = one.transform(Y), one.history_, one.best_epoch_
    assert list(iterator) == []
    np.testing.assert_array_equal(one.transform(Y), expected[0])
    assert (one.history_, one.best_epoch_) == expected[1:]


def test_of_two_iterators_the_later_one_counts(tmp_path):
    one = model()
    first = one.iter_fit(X)
    next(first)
    second = one.iter_fit(Y)
    while next(second, None) and next(first, True):
        pass
    assert same(one, model().fit(Y))
    one.save(tmp_path / "m.safetensors")
    list(first)
    assert same(eigencode.load(tmp_path / "m.safetensors"), one)


def test_a_refused_fit_overtakes_nothing():
    one, rows = model(), []
    for row in one.iter_fit(X):
        rows.append(row)
        with pytest.raises(ValueError, match="infinite"):
            one.fit(np.where(X > 2, np.inf, X))
    assert len(rows) == 4
    assert same(one, model().fit(X))


def test_a_classifier_refitted_keeps_its_new_encoder():
    one = AutoencoderClassifier(LinearAutoencoder(2), max_epochs=3, random_state=0)
    y = (X[:, 0] > 0).astype(int)
    iterator = one.iter_fit(X, y)
    next(iterator)
    one.fit(Y, y)
    list(iterator)
    np.testing.assert_array_equal(one.predict_proba(X), clone(one).fit(Y, y).predict_proba(X))


# -- threads


class Drawing(nn.Module):
    """A network of the user's that draws from torch's global generator."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        nn.init.ones_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.linear(x + 0.1 * torch.randn_like(x) if self.training else x)


@pytest.mark.parametrize("make", [lambda: nn.Sequential(Drawing(), nn.Dropout(0.3)), Drawing], ids=["dropout", "own"])
def test_networks_that_draw_learn_the_same_in_threads_as_alone(make):
    def fit(seed):
        one = Autoencoder(2, encoder=network, optimizer="adam", max_epochs=3, batch_size=8, random_state=seed)
        return one.fit(X).transform(X)

    with torch.random.fork_rng():
        network = make()
    seeds = [0, 1, 2]
    alone = {each: fit(each) for each in seeds}
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fit, seeds * 4))
    assert torch.equal(torch.get_rng_state(), before)
    for each, codes in zip(seeds * 4, together, strict=True):
        np.testing.assert_array_equal(codes, alone[each])


# -- subclasses


class Small(Autoencoder):
    """scikit-learn's idiom: a constructor that fixes some options."""

    def __init__(self, n_components=2, random_state=None):
        super().__init__(n_components=n_components, hidden=(4,), max_epochs=2, random_state=random_state)


class SmallLinear(LinearAutoencoder):
    def __init__(self, n_components=2):
        super().__init__(n_components, scale="none")


class SmallDenoising(DenoisingAutoencoder):
    def __init__(self, level=0.1, random_state=None):
        super().__init__(2, hidden=(4,), level=level, max_epochs=2, random_state=random_state)


class SmallSparse(SparseAutoencoder):
    def __init__(self, n_components=4, random_state=None):
        super().__init__(n_components, active=1, max_epochs=2, random_state=random_state)


class SmallVariational(VariationalAutoencoder):
    def __init__(self, n_components=2, random_state=None):
        super().__init__(n_components, hidden=(4,), max_epochs=2, random_state=random_state)


class SmallContractive(ContractiveAutoencoder):
    def __init__(self, weight=0.1, random_state=None):
        super().__init__(2, hidden=(4,), weight=weight, max_epochs=2, random_state=random_state)


class SmallStacked(StackedAutoencoder):
    def __init__(self, n_components=2, random_state=None):
        super().__init__(n_components, hidden=(3,), max_epochs=2, random_state=random_state)


class WithParameter(Autoencoder):
    """A constructor with a parameter more."""

    def __init__(self, n_components=2, strength=1.0, random_state=None):
        super().__init__(n_components, hidden=(4,), beta=strength, max_epochs=2, random_state=random_state)
        self.strength = strength


@dataclass(eq=False, repr=False)
class WithField(Autoencoder):
    """A dataclass with a field more, which is no option."""

    strength: float = 1.0
    max_epochs: int = 2


class SmallClassifier(AutoencoderClassifier):
    def __init__(self, head_variance=1.0, random_state=None):
        autoencoder = LinearAutoencoder(2)
        super().__init__(autoencoder, head_variance=head_variance, max_epochs=2, random_state=random_state)


SUBCLASSES = [
    Small,
    SmallLinear,
    SmallDenoising,
    SmallSparse,
    SmallVariational,
    SmallContractive,
    SmallStacked,
    WithParameter,
    WithField,
]


@pytest.mark.parametrize("cls", SUBCLASSES)
def test_subclasses_with_constructors_of_their_own_do_all_that_their_base_does(cls, tmp_path):
    one = cls(**({} if cls is SmallLinear else {"random_state": 0})).fit(X)
    assert type(one) is cls
    twin = clone(one).fit(X)
    assert twin.get_params() == one.get_params()
    np.testing.assert_array_equal(twin.transform(X), one.transform(X))
    one.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors", parts=[cls])
    assert type(again) is cls
    assert again.get_params() == one.get_params()
    np.testing.assert_array_equal(again.transform(X), one.transform(X))
    if one.baseline_ is not None:
        np.testing.assert_array_equal(again.baseline_.transform(X), one.baseline_.transform(X))
        assert clone(one.baseline_).fit(X).hidden_ == ()
    if cls is not SmallLinear:
        again.partial_fit(X)
        fit_many([clone(one), clone(one).set_params(random_state=1)], X)


def test_a_subclass_can_be_searched():
    search = AutoencoderSearch(Small(random_state=0), {"n_components": [1, 3]}, cv=2, random_state=0).fit(X)
    assert type(search.best_estimator_) is Small
    search = AutoencoderSearch(WithParameter(random_state=0), {"strength": [0.5, 1.0]}, cv=2, random_state=0).fit(X)
    assert search.best_estimator_.strength == search.best_params_["strength"]


def test_a_classifier_may_be_a_subclass(tmp_path):
    y = (X[:, 0] > 0).astype(int)
    one = SmallClassifier(random_state=0).fit(X, y)
    np.testing.assert_array_equal(clone(one).fit(X, y).predict_proba(X), one.predict_proba(X))
    one.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors", parts=[SmallClassifier])
    np.testing.assert_array_equal(again.predict_proba(X), one.predict_proba(X))
