"""The demonstration: autoencoders of handwritten digits, compared with PCA.

The data are part of scikit-learn: 1797 grey images of 8 x 8 pixels with values from 0 to 16 (Alpaydin & Kaynak, 1998).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from eigencode import progress
from eigencode.data.files import Table, write_columns
from eigencode.data.writing import atomic_write, check_output, make_folder
from eigencode.estimators.autoencoder import Autoencoder
from eigencode.invocation import command
from eigencode.plots import CodeDisplay, ReconstructionDisplay, TrainingDisplay
from eigencode.plots.display import Display

CODE_SIZES = (2, 4, 8)
SHAPE = (8, 8)
DPI = 200


@dataclass(frozen=True)
class Digits:
    """The images as rows, their classes, the names of the pixels, and the row numbers for training and testing."""

    rows: np.ndarray
    classes: np.ndarray
    names: list[str]
    training: np.ndarray
    test: np.ndarray

    @classmethod
    def load(cls) -> Digits:
        """Load the digits, with a fifth of each class for testing."""
        data = load_digits()
        training, test = train_test_split(
            np.arange(len(data.data)), test_size=0.2, stratify=data.target, random_state=0
        )
        return cls(data.data, data.target, list(data.feature_names), training, test)

    def frame(self, index: np.ndarray | slice) -> object:
        """Some of the images, with the names of their pixels."""
        return Table(self.rows[index], self.names).frame


def run_demo(folder: str | os.PathLike[str]) -> None:
    """Fit autoencoders to images of digits, compare them with PCA, and write model, data and pictures into a folder.

    The folder is created if it does not exist; files of an earlier run are replaced. `FileError` if that is not
    possible.
    """
    make_folder(folder)
    folder = Path(folder)
    check_output(folder / "digits.parquet", [".parquet"])
    digits = Digits.load()
    print(f"Squared error per image on {len(digits.test)} held-out digits; {len(digits.training)} were fitted.\n")
    print("codes      PCA   autoencoder    gain")
    with progress.leaving_nothing():  # only the table stays
        models = {size: _compare(digits, size) for size in CODE_SIZES}
    with progress.stage("drawing"):
        _write_files(folder, digits, models[8], models[2])
    print(f"\n{folder} has the model with 8 codes, the digits, their codes and three pictures. Next commands to try:\n")
    for line in next_commands(folder):
        print(f"  {line}")


def next_commands(folder: Path) -> list[str]:
    """Three shell commands to try next."""
    model, rows, codes, own = (
        str(folder / name) for name in ("model.safetensors", "digits.parquet", "codes.csv", "own.safetensors")
    )
    return [
        command(["describe", model]),
        command(["transform", model, rows, "--output", codes]),
        command(
            ["fit", rows, "--output", own, "--n-components", "4", "--hidden", "64", "32", "--likelihood", "gaussian"]
        ),
    ]


def _compare(digits: Digits, size: int) -> Autoencoder:
    """Fit an autoencoder with this code size, and print its error on the test images beside PCA's."""
    # Pixels are taken as plain numbers; as a table of counts they would have a likelihood of counts.
    model = Autoencoder(n_components=size, likelihood="gaussian", random_state=0).fit(digits.frame(digits.training))
    error = model.reconstruction_error(digits.frame(digits.test)).mean()
    pca_error = np.square(digits.rows[digits.test] - _pca_reconstructions(digits, size)).sum(1).mean()
    print(f"{size:5} {pca_error:8.1f} {error:13.1f} {1 - error / pca_error:6.0%}", flush=True)
    return model


def _pca_reconstructions(digits: Digits, size: int) -> np.ndarray:
    """The test images, reconstructed from principal components of the same training images."""
    pca = PCA(size, svd_solver="full").fit(digits.rows[digits.training])
    return pca.inverse_transform(pca.transform(digits.rows[digits.test]))


def _write_files(folder: Path, digits: Digits, model: Autoencoder, two_codes: Autoencoder) -> None:
    """Write a model, its data and codes, and three pictures; the map of codes is of the model with two codes."""
    model.save(folder / "model.safetensors")
    write_columns(folder / "digits.parquet", dict(zip(digits.names, digits.rows.T, strict=True)))
    everything = digits.frame(slice(None))
    codes = dict(zip(model.get_feature_names_out(), model.transform(everything).T, strict=True))
    write_columns(folder / "codes.parquet", {**codes, "label": digits.classes})
    _draw(folder / "reconstructions.png", _reconstructions(digits, model))
    _draw(folder / "codes.png", CodeDisplay.from_estimator(two_codes, everything, digits.classes))
    _draw(folder / "training.png", TrainingDisplay.from_estimator(model))


def _reconstructions(digits: Digits, model: Autoencoder) -> Display:
    """A picture of the first test image of each class and its reconstructions."""
    _, first = np.unique(digits.classes[digits.test], return_index=True)
    shown = digits.test[first]
    rebuilt = {
        "autoencoder": model.reconstruct(digits.frame(shown)),
        "PCA": _pca_reconstructions(digits, model.n_components_)[first],
    }
    return ReconstructionDisplay.from_predictions(digits.rows[shown], rebuilt, shape=SHAPE)


def _draw(path: Path, display: Display) -> None:
    with atomic_write(path) as file:
        display.figure_.savefig(file, format="png", dpi=DPI)
