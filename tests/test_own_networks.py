"""Networks of the user's own: what they may return, and the errors of those that fail."""

import numpy as np
import pytest
import torch
from torch import nn

from eigencode import Autoencoder, AutoencoderClassifier, LinearAutoencoder, fit_many
from eigencode.errors import NetworkError, OptionError

X = np.random.default_rng(0).normal(size=(41, 4))
QUICK = {"max_epochs": 2, "optimizer": "adam", "random_state": 0}


@pytest.fixture(autouse=True)
def own_generator():
    """Modules draw their first weights from torch's global generator."""
    with torch.random.fork_rng():
        yield


class Own(nn.Module):
    """A linear map with something done to its answer."""

    def __init__(self, change):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.change = change

    def forward(self, x):
        return self.change(self.linear(x), self.training)


def fail(error):
    raise error


def normalised(n_inputs=4, n_outputs=2):
    return nn.Sequential(nn.Linear(n_inputs, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, n_outputs))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.LSTM(4, 2), "LSTM must return a tensor. Got a tuple. Wrap it"),
        (nn.GRU(4, 2), "GRU must return a tensor. Got a tuple"),
        (Own(lambda y, training: [y]), "must return a tensor. Got a list"),
        (Own(lambda y, training: None), "must return a tensor. Got a NoneType"),
        (Own(lambda y, training: y.detach().numpy()), "must return a tensor. Got a ndarray"),
        (Own(lambda y, training: y.long()), "floating-point numbers. Got the type torch.int64"),
        (
            Own(lambda y, training: fail(KeyError("here"))),
            "Own cannot take rows of 4 .*KeyError: 'here'",
        ),
        (nn.Linear(4, 3), r"must map rows of 4 numbers to rows of 2. Got an output of shape \(2, 3\)"),
        (nn.Linear(5, 2), "Linear cannot take rows of 4 numbers"),
    ],
)
def test_networks_that_cannot_be_used_are_refused_when_fitted(module, message):
    with pytest.raises(OptionError, match=message):
        Autoencoder(2, encoder=module, **QUICK).fit(X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda y, training: fail(KeyError("here")) if training else y,
            "Own failed for .* rows.*KeyError",
        ),
        (lambda y, training: y[:1] if training else y, "must return a tensor of shape"),
        (lambda y, training: y[:, :1] if training else y, r"must return a tensor of shape \(\d+, 2\)"),
        (lambda y, training: (y,) if training else y, "Got a tuple"),
    ],
)
def test_networks_that_fail_in_training_are_named(change, message):
    with pytest.raises(NetworkError, match=message) as caught:
        Autoencoder(2, encoder=Own(change), **QUICK).fit(X)
    assert "KeyError" not in message or isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("change", [torch.Tensor.double, torch.Tensor.half], ids=["float64", "float16"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_networks_may_answer_in_another_float_type(change, precision):
    model = Autoencoder(2, encoder=Own(lambda y, training: change(y)), precision=precision, **QUICK).fit(X)
    assert model.transform(X).dtype == np.float64
    assert np.isfinite(model.history_[-1]["validation_objective"])


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_batches_of_one_row_are_normalised_by_what_was_learned(side):
    module = normalised() if side == "encoder" else normalised(2, 4)
    model = Autoencoder(2, batch_size=1, **QUICK, **{side: module}).fit(X)
    assert np.isfinite(model.transform(X[:1])).all()
    for name in ("partial_fit", "fit"):  # and with blocks of one row
        model = Autoencoder(2, **QUICK, **{side: module}).partial_fit(X[:20])
        getattr(model, name)(X[20:21] if name == "partial_fit" else X)
        assert np.isfinite(model.transform(X)).all()


def test_one_row_moves_weights_but_no_statistics():
    model = Autoencoder(2, encoder=normalised(), **QUICK).partial_fit(X[:20])
    statistics = model.composition_.encoder.module[1]
    before = statistics.running_mean.clone(), model.composition_.encoder.module[0].weight.detach().clone()
    model.partial_fit(X[20:21])
    after = model.composition_.encoder.module
    assert torch.equal(after[1].running_mean, before[0])
    assert not torch.equal(after[0].weight, before[1])
    assert not after[1].training


def test_other_ways_of_fitting_take_them_too():
    models = [Autoencoder(2, encoder=normalised(), batch_size=1, **QUICK) for _ in range(2)]
    fit_many(models, X)
    y = X[:, 0] > 0
    inner = Autoencoder(2, encoder=normalised(), batch_size=1, **QUICK)
    assert AutoencoderClassifier(inner, batch_size=1, max_epochs=1, random_state=0).fit(X, y).score(X, y) > 0.3


def test_tensors_with_a_history_are_rows_labels_codes_and_weights():
    rows = torch.tensor(X, requires_grad=True)
    model = LinearAutoencoder(2).fit(rows, sample_weight=rows[:, 0].exp())
    codes = torch.tensor(model.transform(rows), requires_grad=True)
    np.testing.assert_allclose(model.inverse_transform(codes * 1.0), model.reconstruct(X))
    classifier = AutoencoderClassifier(LinearAutoencoder(2), max_epochs=1, random_state=0)
    classifier.fit(rows, (rows[:, 0] > 0).double().requires_grad_())
    assert classifier.predict(rows).shape == (41,)
