"""A part of one's own with outputs of the wrong form is refused before training; the error names what is wrong."""

import numpy as np
import pytest
import torch
from torch.nn.functional import softplus

from eigencode import Autoencoder, Composition, ContractiveAutoencoder
from eigencode.errors import OptionError
from eigencode.parts import MLP, Code, Delta, DiagonalGaussian, Likelihood

X = np.random.default_rng(0).normal(size=(40, 6))


class TwoHeads(Likelihood):
    """A normal with a mean and a variance for each cell."""

    n = staticmethod(lambda n_features: 2 * n_features)

    def n_outputs(self, n_features):
        return self.n(n_features)

    def forward(self, output):
        mean, spread = output.chunk(2, dim=-1)
        return DiagonalGaussian(mean, softplus(spread) + 1e-6)


def asking_for(n):
    """A likelihood that asks for a number of outputs."""
    return type("Own", (TwoHeads,), {"n": staticmethod(lambda n_features: n)})()


class Bare(Likelihood):
    def forward(self, output):
        return output


class FirstTwo(Likelihood):
    def forward(self, output):
        return DiagonalGaussian(output[..., :2], torch.ones_like(output[..., :2]))


class Summed(DiagonalGaussian):
    def log_prob(self, x):
        return super().log_prob(x).sum(-1)


class Rows(Likelihood):
    def forward(self, output):
        return Summed(output, torch.ones_like(output))


class BareCode(Code):
    def forward(self, output):
        return output.tanh()


class HalfWidth(Code):
    def width(self, n_components):
        return 1.5 * n_components

    def forward(self, output):
        return Delta(output)


class FirstOnly(Code):
    def forward(self, output):
        return Delta(output[..., :1])


WRONG = [
    ({"likelihood": Bare()}, "forward method of Bare must return a distribution .* Got a Tensor"),
    ({"likelihood": FirstTwo()}, r"mean of a likelihood's .* shape \(2, 6\) .*: FirstTwo. Got the shape \(2, 2\)"),
    ({"likelihood": Rows()}, r"log_prob of a likelihood's .* shape \(2, 6\) .*: Rows. Got the shape \(2,\)"),
    ({"likelihood": asking_for(12.0)}, r"Own.n_outputs\(6\) must be a positive whole number. Got 12.0"),
    ({"likelihood": asking_for(None)}, r"Own.n_outputs\(6\) must be a positive whole number. Got None"),
    ({"likelihood": asking_for(0)}, r"Own.n_outputs\(6\) must be a positive whole number. Got 0"),
    ({"likelihood": asking_for(1)}, "Own failed for 1 outputs a row, as many as it asks for. Got the error ValueError"),
    ({"likelihood": asking_for(6)}, r"Own. Got the shape \(2, 3\). Its forward gets 6 numbers a row, as its n_outputs"),
    ({"likelihood": asking_for(14)}, r"Own. Got the shape \(2, 7\). Its forward gets 14 numbers"),
    ({"code": BareCode()}, "forward method of BareCode must return a distribution .* Got a Tensor"),
    ({"code": HalfWidth()}, r"HalfWidth.width\(2\) must be a positive whole number. Got 3.0"),
    ({"code": FirstOnly()}, r"mean of a code's .* shape \(2, 2\) .*: FirstOnly. Got the shape \(2, 1\)"),
]


@pytest.mark.parametrize(("terms", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_a_part_whose_outputs_have_the_wrong_form_is_refused(terms, message):
    with pytest.raises(OptionError, match=message):
        Autoencoder(2, hidden=(8,), max_epochs=1, **terms).fit(X)
    with pytest.raises(OptionError, match=message):
        Composition(MLP(), MLP(), **terms).setup(6, 2, torch.Generator().manual_seed(0))


def test_the_form_is_checked_at_the_start_and_not_in_each_step():
    rows = []

    class Counted(TwoHeads):
        def forward(self, output):
            rows.append(tuple(output.shape))
            return super().forward(output)

    counts = []
    for n_epochs in (1, 3):
        rows.clear()
        Autoencoder(2, hidden=(8,), max_epochs=n_epochs, likelihood=Counted(), random_state=0).fit(X)
        counts.append(rows.count((2, 12)))
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    "model",
    [
        Autoencoder(2, hidden=(8,), tied=True, likelihood=TwoHeads()),
        Autoencoder(2, hidden=(), tied=True, likelihood=TwoHeads()),
        ContractiveAutoencoder(2, likelihood=TwoHeads()),
    ],
    ids=["layers", "linear", "contractive"],
)
def test_tied_weights_give_one_output_a_column(model):
    message = r"Tied weights give one output a column.* Got 12 outputs for 6 columns. Use tied=False"
    with pytest.raises(OptionError, match=message):
        model.fit(X)
