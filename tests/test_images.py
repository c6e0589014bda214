"""Rows that are images: convolutional networks through the estimators."""

from functools import partial

import numpy as np
import pytest
import torch

import eigencode
from eigencode import Autoencoder, VariationalAutoencoder
from eigencode.errors import OptionError
from eigencode.parts import GaussianLikelihood, GaussianNoise, LinearPath

SMALL = {"image_shape": (1, 8, 8), "hidden": (8, 16), "max_epochs": 2, "random_state": 0}


@pytest.mark.parametrize("kind", [Autoencoder, VariationalAutoencoder])
def test_images_start_at_the_same_linear_optimum_and_learn(digits, kind):
    # Noises of single pixels are nearly zero, and take many more epochs.
    kind = partial(kind, likelihood=GaussianLikelihood("learned")) if kind is VariationalAutoencoder else kind
    start = kind(4, init="linear", **{**SMALL, "max_epochs": 0}).fit(digits)
    assert start.init_ == "linear"
    assert isinstance(start.composition_.encoder, LinearPath)
    flat = kind(4, hidden=(), max_epochs=0, random_state=0).fit(digits)
    np.testing.assert_allclose(start.reconstruct(digits), flat.reconstruct(digits), atol=1e-3)
    model = kind(4, init="linear", **{**SMALL, "max_epochs": 8}).fit(digits)
    assert model.hidden_ == (8, 16)
    assert model.best_objective_ < start.best_objective_ - 0.3
    assert model.baseline_.best_objective_ == pytest.approx(start.best_objective_, rel=1e-5)


def test_a_convolutional_model_is_saved_and_combines_with_noise(digits, tmp_path):
    model = Autoencoder(4, corruption=GaussianNoise(0.2), **SMALL).fit(digits[:300])
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(again.reconstruct(digits[:9]), model.reconstruct(digits[:9]))
    assert again.image_shape == (1, 8, 8)


def test_depth_is_a_number_of_stages_and_wrong_shapes_are_refused(digits):
    model = Autoencoder(2, image_shape=(1, 8, 8), hidden=1, max_epochs=0).fit(digits[:50])
    assert model.hidden_ == (32,)
    with pytest.raises(OptionError, match="64"):
        Autoencoder(2, image_shape=(1, 8, 9)).fit(digits[:50])
    with pytest.raises(OptionError, match="Tied weights"):
        Autoencoder(2, image_shape=(1, 8, 8), tied=True).fit(digits[:50])


def test_by_default_images_start_at_random_weights_with_the_path_kept(digits):
    model = Autoencoder(4, **SMALL).fit(digits)
    assert model.init_ == "random"
    assert isinstance(model.composition_.decoder, LinearPath)
    assert model.best_objective_ < model.history_[0]["validation_objective"]


def test_convolutions_use_neighbouring_pixels(digits):
    """The same pixels in a shuffled order are no images: convolutions then learn less."""
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0)).numpy()
    options = {**SMALL, "init": "random", "max_epochs": 8}
    errors = [Autoencoder(8, **options).fit(rows).best_objective_ for rows in (digits, digits[:, order])]
    assert errors[0] < errors[1]
