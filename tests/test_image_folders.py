"""Folders of images that do not fit into memory: read a batch at a time, with the answers of images in memory."""

import math
import os

import numpy as np
import pytest
from PIL import Image

from eigencode import Autoencoder
from eigencode.cli import main
from eigencode.data import named_files
from eigencode.data.rows_by_number import RowsByNumber
from eigencode.errors import DataError, FileError

pytestmark = pytest.mark.versions


@pytest.fixture
def folder(tmp_path):
    """60 pictures of 8 x 6 pixels in colour."""
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    shades = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 144))
    for number, row in enumerate((128 + 40 * shades).clip(0, 255).astype(np.uint8)):
        Image.fromarray(row.reshape(6, 8, 3)).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def answers(model, X):
    return [model.transform(X), model.reconstruct(X), model.score_samples(X), model.impute(X)]


@pytest.mark.parametrize("options", [{}, {"hidden": (4,), "max_epochs": 3}], ids=["linear", "network"])
def test_a_folder_of_images_gives_the_bits_of_images_in_memory(folder, options, monkeypatch):
    in_memory = Autoencoder(2, random_state=0, **options).fit(folder)
    expected = answers(in_memory, folder)
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    streamed = Autoencoder(2, random_state=0, **options).fit(folder)
    assert streamed.image_shape_ == in_memory.image_shape_ == (3, 6, 8)
    assert streamed.pixel_range_ == in_memory.pixel_range_
    for found, known in zip(answers(streamed, folder), expected, strict=True):
        np.testing.assert_array_equal(found.reshape(60, -1), known.reshape(60, -1))


def test_images_are_read_a_batch_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    rows = named_files.opened(folder)
    most, make = [], rows.make
    object.__setattr__(rows, "make", lambda numbers: most.append(len(numbers)) or make(numbers))
    Autoencoder(2, hidden=(4,), max_epochs=2, batch_size=10).fit(rows)
    assert most.count(9) >= 12


@pytest.mark.slow
def test_the_pixels_asked_for_at_a_time_are_bounded(tmp_path):
    """By a number of cells, not by the number of images, whatever a fit and the answers ask for."""
    n, shape = 1500, (3, 64, 64)
    codes, pictures = (np.random.default_rng(0).normal(size=size) for size in [(n, 2), (2, math.prod(shape))])
    asked = []

    def make(numbers):
        asked.append(len(numbers) * math.prod(shape))
        return (128 + 40 * codes[numbers] @ pictures).clip(0, 255).astype(np.uint8)

    rows = RowsByNumber(make, (n, math.prod(shape)), np.dtype(np.uint8), shape)
    model = Autoencoder(2, hidden=(4,), max_epochs=1, batch_size=32, random_state=0).fit(rows)
    assert sum(asked) >= 2 * n * math.prod(shape)
    assert max(asked) <= 2**24 < n * math.prod(shape)
    asked.clear()
    model.transform(rows, output=tmp_path / "codes.npy")
    assert sum(asked) == n * math.prod(shape)
    assert max(asked) <= 2**23


def test_answers_about_images_are_written_to_a_file(folder, monkeypatch):
    model = Autoencoder(2, random_state=0).fit(folder)
    expected = model.transform(folder)
    for _ in ("in memory", "in their files"):
        model.transform(folder, output=folder.parent / "codes.npy")
        np.testing.assert_array_equal(np.load(folder.parent / "codes.npy"), expected)
        monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)


def test_the_command_line_reads_many_images_from_their_files(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)

    def run(name):
        given = ["--n-components", "2", "--max-epochs", "2", "--hidden", "4", "--quiet"]
        assert main(["fit", "pictures", "--output", f"{name}.safetensors", *given]) == 0
        assert main(["transform", f"{name}.safetensors", "pictures", "--output", f"{name}.npy", "--quiet"]) == 0
        assert main(["reconstruct", f"{name}.safetensors", "pictures", "--output", f"{name}.png", "--quiet"]) == 0
        return np.load(f"{name}.npy"), np.asarray(Image.open(f"{name}.png"))

    expected = run("whole")
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    for found, known in zip(run("parts"), expected, strict=True):
        np.testing.assert_array_equal(found, known)


def test_an_image_that_changes_or_goes_after_the_first_pass_is_refused(folder, monkeypatch):
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    model = Autoencoder(2, random_state=0).fit(folder)
    rows = named_files.opened(folder)
    Image.new("RGB", (5, 5)).save(folder / "7.png")
    with pytest.raises(FileError, match=r"7\.png' has changed since it was opened"):
        model.transform(rows)
    with pytest.raises(DataError, match="one size"):
        model.transform(folder)
    os.remove(folder / "7.png")
    with pytest.raises(FileError, match=r"Cannot read .*7\.png"):
        model.transform(rows)


def test_images_of_another_shape_are_refused(folder, monkeypatch):
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    model = Autoencoder(2, random_state=0).fit(folder)
    for path in folder.iterdir():
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(path)
    with pytest.raises(DataError, match=r"\(3, 6, 8\)"):
        model.transform(folder)
