"""Estimators on arrays of images: rows within, images outside."""

import numpy as np
import pytest
import torch

import eigencode
from eigencode import Autoencoder, AutoencoderSearch, VariationalAutoencoder
from eigencode.errors import DataError, OptionError, StorageError
from eigencode.plots import ReconstructionDisplay

QUICK = {"hidden": (8,), "max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def grey(digits):
    return (digits[:120].reshape(-1, 8, 8) * 15).astype(np.uint8)


@pytest.fixture(scope="module")
def colour(grey):
    return np.stack([grey, 255 - grey, grey // 2], axis=-1)


def test_images_are_flattened_channels_first_and_returned_as_images(grey, colour):
    rows = grey.reshape(len(grey), -1)
    flat, model = Autoencoder(3, **QUICK).fit(rows), Autoencoder(3, **QUICK).fit(grey)
    assert (model.transform(grey) == flat.transform(rows)).all()
    assert (model.reconstruct(grey) == flat.reconstruct(rows).reshape(grey.shape)).all()
    assert (model.reconstruct(rows) == flat.reconstruct(rows)).all()
    assert (model.reconstruction_error(grey) == flat.reconstruction_error(rows)).all()
    assert (model.score_samples(grey) == flat.score_samples(rows)).all()
    assert (model.image_shape_, model.pixel_range_) == ((1, 8, 8), (0.0, 255.0))
    assert (flat.image_shape_, flat.pixel_range_) == ((), ())
    model = Autoencoder(3, **QUICK).fit(colour)
    rows = np.moveaxis(colour, -1, 1).reshape(len(colour), -1)
    assert model.image_shape_ == (3, 8, 8)
    assert (model.transform(colour) == model.transform(rows)).all()
    assert (model.reconstruct(colour) == model.as_images(model.reconstruct(rows))).all()


@pytest.mark.parametrize("form", ["tensor", "list", "channels first", "one channel", "bool"])
def test_forms_of_the_same_images(grey, colour, form):
    model = Autoencoder(2, **QUICK).fit(colour if form == "channels first" else grey)
    if form == "channels first":
        first = np.ascontiguousarray(np.moveaxis(colour, -1, 1))
        assert (model.transform(first) == model.transform(colour)).all()
        assert model.reconstruct(torch.from_numpy(first)).shape == first.shape
        return
    given = {
        "tensor": lambda: torch.from_numpy(grey),
        "list": lambda: list(grey),
        "one channel": lambda: grey[..., None],
        "bool": lambda: grey > 100,
    }[form]()
    expected = grey > 100 if form == "bool" else grey
    assert (model.transform(given) == model.transform(expected.reshape(len(grey), -1))).all()
    assert Autoencoder(2, **QUICK).fit(given).image_shape_ == (1, 8, 8)


def test_other_types_are_images_if_image_shape_is_given(grey):
    shares = grey / 255
    with pytest.raises(ValueError, match=r"(?i)3D|dim 3"):
        Autoencoder(2, **QUICK).fit(shares)
    model = Autoencoder(2, image_shape=(1, 8, 8), likelihood="bernoulli", **QUICK).fit(shares)
    assert model.reconstruct(shares).shape == shares.shape
    assert (model.transform(shares) == model.transform(shares.reshape(len(shares), -1))).all()
    assert model.pixel_range_ == (0.0, float(shares.max()))


def test_auto_makes_the_networks_convolutional(grey):
    told, found = (Autoencoder(2, image_shape=shape, **QUICK).fit(grey) for shape in ((1, 8, 8), "auto"))
    assert (told.transform(grey) == found.transform(grey)).all()
    assert "Convolutional" in repr(found.composition_)
    assert found.image_shape == "auto"
    with pytest.raises(OptionError, match="image_shape='auto' is for arrays and files of images"):
        Autoencoder(2, image_shape="auto", **QUICK).fit(grey.reshape(len(grey), -1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:, :7], r"\(c, h, w\) = \(3, 8, 8\).*Got the shape \(120, 7, 8, 3\)"),
        (lambda X: X[..., 0], r"\(c, h, w\) = \(3, 8, 8\)"),
        (lambda X: X[..., :2], r"\(c, h, w\) = \(3, 8, 8\)"),
    ],
)
def test_images_of_another_shape_are_refused(colour, change, message):
    model = Autoencoder(2, **QUICK).fit(colour)
    with pytest.raises(DataError, match=message):
        model.transform(change(colour))


def test_a_single_image_is_refused_with_a_hint(grey, colour):
    for images in (grey, colour):
        model = Autoencoder(2, **QUICK).fit(images)
        with pytest.raises(DataError, match=r"one image.*Pass X\[None\]"):
            model.transform(images[0])
        # The result of one row alone may differ in the last bits from its result among others.
        np.testing.assert_allclose(model.transform(images[0][None]), model.transform(images)[:1], rtol=1e-4, atol=1e-4)


def test_a_model_of_rows_refuses_images(colour):
    model = Autoencoder(2, **QUICK).fit(colour.reshape(len(colour), -1))
    with pytest.raises(DataError, match="fitted on rows, not on images"):
        model.transform(colour)
    with pytest.raises(DataError, match="fitted on rows, not on images"):
        model.as_images(colour.reshape(len(colour), -1))


def test_images_of_several_shapes_are_refused(grey):
    with pytest.raises(DataError, match=r"cannot be read as an array. Got 7 cells in row 1, and 8 in row 0"):
        Autoencoder(2, **QUICK).fit([grey[0], grey[1][:7]])


def test_streams_searches_and_samples_of_images(grey):
    stream = Autoencoder(2, **QUICK).partial_fit(grey).partial_fit(grey[:1])
    assert stream.image_shape_ == (1, 8, 8)
    assert stream.pixel_range_ == (0.0, 255.0)
    search = AutoencoderSearch(Autoencoder(image_shape="auto", **QUICK), {"n_components": [1, 2]}, cv=2, random_state=0)
    assert search.fit(grey).transform(grey).shape[0] == len(grey)
    assert search.best_estimator_.image_shape_ == (1, 8, 8)
    model = VariationalAutoencoder(2, **QUICK).fit(grey)
    assert model.as_images(model.sample(5, random_state=0)).shape == (5, 8, 8)


def test_a_file_keeps_the_shape_of_the_images(grey, tmp_path):
    model = Autoencoder(2, image_shape="auto", **QUICK).fit(grey)
    model.save(tmp_path / "m.safetensors")
    again = eigencode.load(tmp_path / "m.safetensors")
    assert (again.image_shape_, again.pixel_range_) == ((1, 8, 8), (0.0, 255.0))
    assert (again.reconstruct(grey) == model.reconstruct(grey)).all()
    shape, limits = "the shape of the images", "the range of the pixels"
    for name, value, message in [
        ("image_shape_", (1, 8, 9), shape),
        ("image_shape_", (64,), shape),
        ("pixel_range_", (1.0, 1.0), limits),
        ("pixel_range_", (-1e308, 1.7e308), limits),
    ]:
        before = getattr(model, name)
        setattr(model, name, value)
        model.save(tmp_path / "bad.safetensors")
        with pytest.raises(StorageError, match=message):
            eigencode.load(tmp_path / "bad.safetensors")
        setattr(model, name, before)


def test_a_classifier_takes_images(grey, digits):
    labels = (grey.reshape(len(grey), -1).mean(1) > 70).astype(int)
    model = eigencode.AutoencoderClassifier(Autoencoder(4, **QUICK), max_epochs=5, random_state=0).fit(grey, labels)
    rows = grey.reshape(len(grey), -1)
    assert (model.predict_proba(grey) == model.predict_proba(rows)).all()
    assert model.autoencoder_.image_shape_ == (1, 8, 8)


def test_masked_pixels_are_gaps(grey):
    masked = np.ma.masked_array(grey, grey > 200)
    masked[0] = grey[0]  # no column is all gaps
    images = grey.astype(float)
    images[masked.mask] = np.nan
    first, second = (Autoencoder(2, image_shape="auto", **QUICK).fit(rows) for rows in (masked, images))
    assert first.pixel_range_ == second.pixel_range_ == (0, masked.max())
    np.testing.assert_array_equal(first.reconstruct(images), second.reconstruct(images))


def test_images_can_be_drawn_beside_their_reconstructions(grey):
    rebuilt = Autoencoder(2, **QUICK).fit(grey).reconstruct(grey)
    shown = ReconstructionDisplay.from_predictions(grey, {"model": rebuilt}, shape=(8, 8)).images
    np.testing.assert_array_equal(shown["model"], rebuilt)
