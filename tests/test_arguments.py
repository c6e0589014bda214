"""Arguments that cannot be used raise an error of ours that says which and why."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from eigencode import Autoencoder, LinearAutoencoder
from eigencode.errors import DataError, OptionError
from eigencode.parts import (
    Custom,
    GaussianNoise,
    GaussianWeights,
    LaplaceLikelihood,
    LaplacePrior,
    Point,
)


class Lopsided(nn.Module):
    """No map of cells, but a sum."""

    def forward(self, x):
        return x.sum(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": None}, "'likelihood' parameter must be a name or a part"),
        ({"likelihood": LaplacePrior()}, "'likelihood' parameter must be a Likelihood part"),
        ({"likelihood": LaplaceLikelihood}, "'likelihood' parameter must be a Likelihood part"),
        ({"code": LaplacePrior()}, "'code' parameter must be a Code part"),
        ({"corruption": Point()}, "'corruption' parameter must be a Corruption part"),
        ({"prior": GaussianNoise(0.1)}, "'prior' parameter must be a Prior part"),
        ({"weight_prior": LaplacePrior()}, "'weight_prior' parameter must be a WeightPrior part"),
        ({"penalties": [LaplacePrior()]}, "'penalties' parameter must be a Penalty part"),
        ({"penalties": LaplacePrior()}, "sequence of penalty parts"),
        ({"penalties": None}, "sequence of penalty parts"),
        ({"encoder": LaplacePrior()}, "LaplacePrior cannot take rows of 30 numbers"),
        ({"encoder": Custom(3)}, "'module' parameter of Custom must be a torch module"),
        ({"encoder": [3]}, "must be a part or a torch module"),
        ({"decoder": nn.ReLU}, "must be a part or a torch module"),
        ({"activation": nn.ReLU}, "elementwise torch module"),
        ({"activation": [1]}, "elementwise torch module"),
        ({"activation": LaplacePrior()}, "elementwise torch module"),
        ({"activation": nn.Linear(3, 3, device="meta")}, "elementwise torch module"),
        ({"activation": Lopsided()}, "elementwise torch module"),
        ({"corruption": GaussianNoise(-1)}, "'variance' parameter of GaussianNoise must be a finite number"),
        ({"corruption": GaussianNoise(math.nan)}, "'variance' parameter of GaussianNoise must be a finite number"),
        ({"prior": LaplacePrior(0)}, "'rate' parameter of LaplacePrior must be a finite number above 0"),
        ({"prior": LaplacePrior(math.inf)}, "'rate' parameter of LaplacePrior must be a finite number above 0"),
        ({"weight_prior": GaussianWeights("a")}, "variances of weights must be positive numbers"),
        ({"weight_prior": GaussianWeights([[1, 2], [3]])}, "variances of weights must be positive numbers"),
        ({"weight_prior": GaussianWeights(math.inf)}, "variances of weights must be positive numbers"),
        ({"beta": math.inf}, r"'beta' parameter of Autoencoder must be a float in the range \[0, inf\)"),
        ({"learning_rate": math.inf}, "'learning_rate' parameter of Autoencoder must be a float"),
        ({"max_seconds": math.inf}, "'max_seconds' parameter of Autoencoder must be a float"),
        ({"random_state": [1, 2]}, "'random_state' must be None, a non-negative int or a NumPy random generator"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"n_components": 30, "encoder": nn.Identity(), "decoder": nn.Identity()}, "no weights to train"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_arguments_that_cannot_be_used_are_refused(cancer, options, message):
    with pytest.raises(OptionError, match=message):
        Autoencoder(**{"n_components": 2, "hidden": (4,), "max_epochs": 1, **options}).fit(cancer)


def test_values_beyond_the_weights_precision_are_refused(cancer):
    rows = np.random.default_rng(0).normal(size=(20, 3)) * 1e100
    with pytest.raises(DataError, match="too large for float32 beside the scale of their columns.*scale='standard'"):
        Autoencoder(2, scale="none").fit(rows)
    assert np.isfinite(Autoencoder(2, max_epochs=1, random_state=0).fit(rows).reconstruct(rows)).all()


def test_tensors_that_ask_for_a_gradient_are_rows_like_others(cancer):
    tensor = torch.from_numpy(cancer).requires_grad_()
    model = Autoencoder(2, hidden=(4,), max_epochs=1, random_state=0).fit(tensor)
    np.testing.assert_array_equal(model.transform(tensor), model.transform(cancer))
    assert tensor.grad is None


@pytest.mark.parametrize(
    "options",
    [
        {"init": "random"},
        {"max_epochs": 3},
        {"optimizer": "adam"},
        {"learning_rate": 0.1},
        {"batch_size": 9},
        {"patience": 3},
        {"max_seconds": 2.0},
    ],
    ids=str,
)
def test_the_exact_solver_passes_over_nothing_in_silence(cancer, options):
    (name,) = options
    with pytest.raises(OptionError, match=f"does not use '{name}'.*Use solver='gradient'"):
        LinearAutoencoder(2, **options).fit(cancer)
    assert LinearAutoencoder(2, max_epochs=0, init="linear").fit(cancer).init_ == "linear"
