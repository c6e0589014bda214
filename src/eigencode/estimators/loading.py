"""Loading: model files of the estimators of this package, and of the caller's own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sklearn.frozen import FrozenEstimator

from eigencode import estimators, io
from eigencode.estimators.base import BaseAutoencoder

if TYPE_CHECKING:
    from torch import nn


def load(
    path: str | os.PathLike[str],
    parts: Iterable[type | nn.Module] = (),
    device: str = "auto",
) -> BaseAutoencoder:
    """Read a model that ``save`` wrote.

    Parameters
    ----------
    path : path-like
        A ``.safetensors`` file.
    parts : iterable
        Your own classes that the model uses: parts, and the estimator itself where it is a subclass of your own; and,
        for a torch module of your own, an instance of the same architecture, into a copy of which the saved weights
        are loaded; several of one class in the order encoder, decoder.
    device : str, default 'auto'
        Where the model is to answer.

    Returns
    -------
    estimator
        The fitted model, with the answers it gave when it was saved.

    Raises
    ------
    FileError
        If there is no such file.
    StorageError
        If it is damaged, foreign, from a newer version, or uses parts that are not known here.

    Examples
    --------
    >>> import tempfile, eigencode
    >>> from sklearn.datasets import load_wine
    >>> X = load_wine().data
    >>> model = eigencode.Autoencoder(n_components=2, max_epochs=5, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/wine.safetensors")
    ...     again = eigencode.load(f"{folder}/wine.safetensors")
    >>> bool((again.transform(X) == model.transform(X)).all())
    True
    """
    path = io.model_file(path)  # before torch is imported, which takes seconds
    named = {name: getattr(estimators, name) for name in dir(estimators)}
    own = {name: found for name, found in named.items() if isinstance(found, type)}
    own |= {"BaseAutoencoder": BaseAutoencoder, "FrozenEstimator": FrozenEstimator}
    model: BaseAutoencoder = io.read(path, own, parts, device)
    return model
