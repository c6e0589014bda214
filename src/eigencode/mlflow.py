"""A flavour of MLflow: models are logged, and loaded again, without pickle.

This module takes ``pip install 'eigencode[mlflow]'``. A logged model is a folder with the model file of
`eigencode.save`, which is data and never code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eigencode._version import __version__
from eigencode.errors import FileError, FileIsFolderError, OptionError, as_path, did_you_mean
from eigencode.estimators.loading import load

if TYPE_CHECKING:
    from torch import nn

    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.estimators.persistence import Saved

try:
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, infer_signature
except ImportError as error:
    raise OptionError(
        "eigencode.mlflow needs MLflow", got=error.msg, hint="Install it with: pip install 'eigencode[mlflow]'"
    ) from None

FILE = "model.safetensors"
"""Name of the model file in a logged model."""

METHODS = ("predict", "transform", "predict_proba", "score_samples", "decision_function", "reconstruct", "impute")
"""Answers that a loaded ``pyfunc`` model gives; the first that a model has is its default."""


def save_model(model: Saved, path: str | os.PathLike[str], mlflow_model: Any = None, input_example: Any = None) -> None:
    """Write a fitted model as a folder in MLflow's format.

    Parameters
    ----------
    model : estimator
        A fitted model.
    path : path-like
        A new folder.
    mlflow_model : mlflow.models.Model, optional
        The description to extend, as MLflow gives it to a flavour.
    input_example : array or DataFrame, optional
        Rows from which the signature is inferred; they are not stored.
    """
    folder = Path(as_path(path))
    if folder.exists():
        raise FileIsFolderError(f"{str(folder)!r} exists already", hint="Name a new folder")
    described = Model() if mlflow_model is None else mlflow_model
    default = _methods(model)[0]
    if input_example is not None:
        answer = getattr(model, default)(input_example)
        described.signature = infer_signature(input_example, answer, params={"method": default})
    folder.mkdir(parents=True)
    model.save(folder / FILE)
    (folder / "requirements.txt").write_text(f"eigencode=={__version__}\n")
    described.add_flavor("eigencode", model=FILE, version=__version__, kind=type(model).__name__)
    mlflow.pyfunc.add_to_model(described, loader_module=__name__, data=FILE)
    described.save(str(folder / "MLmodel"))


def log_model(model: Saved, name: str = "model", input_example: Any = None, **options: Any) -> Any:
    """Log a fitted model in the active run of MLflow.

    Parameters
    ----------
    model : estimator
        A fitted model.
    name : str
        The model's name in the run.
    input_example : array or DataFrame, optional
        Rows from which the signature is inferred; they are not stored.
    **options : object
        Options of ``mlflow.models.Model.log``, as ``registered_model_name``.

    Returns
    -------
    mlflow.models.model.ModelInfo
        Its ``model_uri`` is what `load_model` takes.
    """
    given = {"model": model, "input_example": input_example, **options}
    try:
        return Model.log(artifact_path=None, name=name, flavor=sys.modules[__name__], **given)
    except MlflowException as error:
        raise FileError("The model cannot be logged", got=str(error).splitlines()[0][:200]) from error


def load_model(model_uri: str, parts: Iterable[type | nn.Module] = (), device: str = "auto") -> BaseAutoencoder:
    """Read a model that `log_model` or `save_model` wrote.

    Parameters
    ----------
    model_uri : str
        An address of MLflow, as ``models:/name/1``, or a folder.
    parts, device : object
        As in `eigencode.load`.

    Returns
    -------
    estimator
        The fitted model.
    """
    try:
        folder = mlflow.artifacts.download_artifacts(model_uri)
    except (MlflowException, OSError) as error:
        got = str(error).splitlines()[0][:200]
        raise FileError(f"There is no model to read at {model_uri!r}", got=got) from error
    return load(Path(folder) / FILE, parts, device)


class _Answers:
    """A model as ``mlflow.pyfunc`` asks it."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, rows: Any, params: dict[str, Any] | None = None) -> Any:
        """The answer of one of the model's methods, ``params={"method": ...}``."""
        known = _methods(self.model)
        method = (params or {}).get("method", known[0])
        if method not in known:
            raise OptionError(
                "This model has no such method", got=f"method={method!r}", hint=did_you_mean(str(method), known)
            )
        return getattr(self.model, method)(rows)


def _load_pyfunc(path: str) -> _Answers:
    """What ``mlflow.pyfunc.load_model`` calls, with the path of the model file."""
    return _Answers(load(path))


def _methods(model: Saved) -> list[str]:
    """The methods of a model that answer about rows, the default first."""
    return [name for name in METHODS if hasattr(model, name)]
