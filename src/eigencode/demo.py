"""The demonstration: handwritten digits in a few numbers each, against principal components.

The data come with scikit-learn: 1797 grey images of 8 x 8 pixels with values from 0 to 16 (Alpaydin & Kaynak, 1998).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from eigencode import progress
from eigencode.data.files import Table, write_columns
from eigencode.data.outputs import atomic_file, check_output
from eigencode.errors import FileError
from eigencode.estimators.autoencoder import Autoencoder
from eigencode.invocation import command
from eigencode.plots import plot_codes, plot_history, plot_reconstructions

CODE_SIZES = (2, 4, 8)
SHAPE = (8, 8)
DPI = 200


@dataclass(frozen=True)
class Digits:
    """The images as rows, their classes, and which of them are kept from fitting."""

    rows: np.ndarray
    classes: np.ndarray
    names: list[str]
    training: np.ndarray
    held_out: np.ndarray

    @classmethod
    def load(cls) -> Digits:
        """Hold a fifth of each class out."""
        data = load_digits()
        training, held_out = train_test_split(
            np.arange(len(data.data)), test_size=0.2, stratify=data.target, random_state=0
        )
        return cls(data.data, data.target, list(data.feature_names), training, held_out)

    def frame(self, places: np.ndarray | slice) -> object:
        """Some of the images, with the names of their pixels."""
        return Table(self.rows[places], self.names).frame


def run_demo(folder: str | os.PathLike[str]) -> None:
    """Fit autoencoders to images of digits, compare them with PCA, and leave model, data and pictures in a folder.

    Parameters
    ----------
    folder : path-like
        Where to; it is made if it is not there. Files of an earlier run are replaced.

    Raises
    ------
    FileError
        If the folder cannot be made or written to.
    """
    folder = _made(Path(folder))
    digits = Digits.load()
    print(f"Squared error an image on {len(digits.held_out)} digits held out; {len(digits.training)} were fitted.\n")
    print("codes      PCA   autoencoder    gain")
    with progress.leaving_nothing():  # the table is what stays
        models = {size: _compared(digits, size) for size in CODE_SIZES}
    with progress.stage("drawing"):
        _leave(folder, digits, models[8], models[2])
    print(f"\n{folder} holds the model of 8 codes, the digits, their codes and three pictures. Go on with:\n")
    for line in next_commands(folder):
        print(f"  {line}")


def next_commands(folder: Path) -> list[str]:
    """Three commands to try next, as typed into a shell."""
    model, rows, codes, own = (
        str(folder / name) for name in ("model.safetensors", "digits.parquet", "codes.csv", "own.safetensors")
    )
    return [
        command(["describe", model]),
        command(["transform", model, rows, "--output", codes]),
        command(["fit", rows, "--output", own, "--n-components", "4", "--hidden", "64", "32"]),
    ]


def _made(folder: Path) -> Path:
    """The folder, known to be writable before any work is done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"Cannot make the folder {str(folder)!r}", got=f"the error {error.strerror}") from error
    check_output(folder / "digits.parquet", [".parquet"])
    return folder


def _compared(digits: Digits, size: int) -> Autoencoder:
    """An autoencoder of some code size, after a line on what it makes of the held-out images, and what PCA does."""
    model = Autoencoder(n_components=size, random_state=0).fit(digits.frame(digits.training))
    error = model.reconstruction_error(digits.frame(digits.held_out)).mean()
    linear = np.square(digits.rows[digits.held_out] - _by_pca(digits, size)).sum(1).mean()
    print(f"{size:5} {linear:8.1f} {error:13.1f} {1 - error / linear:6.0%}", flush=True)
    return model


def _by_pca(digits: Digits, size: int) -> np.ndarray:
    """The held-out images, reconstructed from principal components of the same training images."""
    pca = PCA(size, svd_solver="full").fit(digits.rows[digits.training])
    return pca.inverse_transform(pca.transform(digits.rows[digits.held_out]))


def _leave(folder: Path, digits: Digits, model: Autoencoder, flat: Autoencoder) -> None:
    """Write the model with its data and codes, and the pictures; the map is of the model with two codes."""
    model.save(folder / "model.safetensors")
    write_columns(folder / "digits.parquet", dict(zip(digits.names, digits.rows.T, strict=True)))
    everything = digits.frame(slice(None))
    codes = dict(zip(model.get_feature_names_out(), model.transform(everything).T, strict=True))
    write_columns(folder / "codes.parquet", {**codes, "label": digits.classes})
    _draw(folder / "reconstructions.png", _reconstructions(digits, model))
    _draw(folder / "codes.png", plot_codes(flat.transform(everything), digits.classes))
    _draw(folder / "training.png", plot_history(model))


def _reconstructions(digits: Digits, model: Autoencoder) -> Figure:
    """The first held-out image of each class."""
    _, first = np.unique(digits.classes[digits.held_out], return_index=True)
    shown = digits.held_out[first]
    return plot_reconstructions(
        digits.rows[shown],
        model.reconstruct(digits.frame(shown)),
        SHAPE,
        baseline=_by_pca(digits, model.n_components_)[first],
        names=("original", "autoencoder", "PCA"),
    )


def _draw(path: Path, figure: Figure) -> None:
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=DPI)
