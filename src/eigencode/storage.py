"""Storage: one ``.safetensors`` file of weights and JSON, written whole or not at all; never pickle.

The header's JSON names each part by its class and gives its constructor's arguments. Loading looks these names up
among this package's parts and those the caller names, so that no code is run, or imported, because a file says so.
Whatever is wrong with a file is a `StorageError`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from eigencode._version import __version__
from eigencode.composition import Composition
from eigencode.data.outputs import atomic_file
from eigencode.data.scaling import Scaler
from eigencode.encoding import Decoder, Encoder, Known, is_optional, typed
from eigencode.errors import MissingFileError, StorageError, as_path, file_error
from eigencode.objectives import Objective
from eigencode.options import check_options
from eigencode.training.execution import Execution, resolve_device
from eigencode.training.noise import resolve_seed

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

FORMAT = 1
"""Number of the file's layout; a later version reads all earlier ones."""

HEADER = "eigencode"
"""Key of the JSON in the safetensors header."""

MOVED = ("penalties", "weight_prior")
"""Words that files of earlier versions have in the objective, and later ones in the composition."""

UNSAID = {"mean_weight_": 1.0}
"""Fitted attributes that files of earlier versions do not have, with what they were then."""


# -- saving


def save(model: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to one file, replacing it only when the new one is whole.

    Parameters
    ----------
    model : estimator
        A fitted estimator of this package, or a subclass of one.
    path : path-like
        Where to.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the model is not fitted.
    StorageError
        If a parameter cannot be written without pickle.
    FileError
        If the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    description = {"format": FORMAT, "version": __version__, "model": _describe(model, tensors, "")}
    # Views of one vector would be refused, or written many times over.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    header = {HEADER: json.dumps(description, allow_nan=False)}
    with atomic_file(path) as file:
        file.write(safetensors.torch.save(tensors, header))


def _describe(model: Any, tensors: dict[str, Tensor], prefix: str) -> dict[str, Any]:
    """A fitted estimator's JSON; its tensors go to ``tensors``, under names that begin with ``prefix``."""
    from eigencode.estimators.base import BaseAutoencoder

    check_is_fitted(model)
    encoder = Encoder(tensors, prefix, _describe)
    parameters = {name: encoder.argument(name, value) for name, value in model.get_params(deep=False).items()}
    check_options(model)
    own = _describe_composition(model, encoder) if isinstance(model, BaseAutoencoder) else {}
    fitted = {name: getattr(model, name) for name in model.saved_attributes if hasattr(model, name)}
    return {
        "class": type(model).__name__,
        "parameters": parameters,
        "fitted": {name: encoder.attribute(name, value) for name, value in fitted.items()},
        **own,
    }


def _describe_composition(model: BaseAutoencoder, encoder: Encoder) -> dict[str, Any]:
    """What an autoencoder has beyond its parameters and plain attributes."""
    tensors = {f"composition.{name}": value for name, value in model.composition_.state_dict().items()}
    tensors |= {f"scaler.{name}": torch.from_numpy(getattr(model.scaler_, name)) for name in ("center", "divisor")}
    encoder.tensors.update({f"{encoder.prefix}{name}": value for name, value in tensors.items()})
    names = getattr(model, "feature_names_in_", None)
    description = {
        "composition": encoder.argument("composition", model.composition_),
        "objective": {name: encoder.argument(name, value) for name, value in vars(model.objective_).items()},
        "scaler": {"kind": model.scaler_.kind, "limit": model.scaler_.limit},
        "execution": vars(model.execution_),
        "feature_names": None if names is None else list(names),
    }
    if hasattr(model, "stream_state_"):
        description["stream"] = encoder.attribute("stream", model.stream_state_)
    if model.baseline_ is not None:
        description["baseline"] = _describe(model.baseline_, encoder.tensors, f"{encoder.prefix}baseline.")
    return description


# -- loading


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
    from eigencode import estimators

    own = {name: getattr(estimators, name) for name in estimators.__all__}
    known = Known(parts, own | {"FrozenEstimator": FrozenEstimator})
    header, tensors = _read(as_path(path))
    device = resolve_device(device)
    try:
        return _rebuilt(header["model"], tensors, "", known, device)
    except StorageError:
        raise
    except Exception as error:  # whatever may become of a description that nobody wrote like this
        raise StorageError(
            f"The model in {as_path(path)!r} cannot be rebuilt from its description", got=f"the error {error!r}"
        ) from error


def version_of(path: str | os.PathLike[str]) -> str:
    """The version of eigencode that wrote a model file.

    Parameters
    ----------
    path : path-like
        A ``.safetensors`` file.

    Returns
    -------
    str
        The version.
    """
    header, _ = _read(as_path(path))
    return str(header["version"])


def _read(path: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a model file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Copied, since they may be a map of the file, which somebody else may write over.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no model file {path!r}") from error
    except (PermissionError, IsADirectoryError) as error:
        raise file_error(error, f"Cannot read {path!r}", got=f"the error {error.strerror or error}") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise StorageError(
            f"{path!r} is not a whole safetensors file", got=f"the error {error}", hint="Save the model again"
        ) from error
    if HEADER not in metadata:
        raise StorageError(f"{path!r} was not written by eigencode", got=f"the header {sorted(metadata)}")
    try:
        header = json.loads(metadata[HEADER])
        format_, version = int(header["format"]), str(header["version"])
        header["model"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StorageError(f"The description in {path!r} is damaged", got=f"the error {error!r}") from error
    if format_ > FORMAT:
        raise StorageError(
            f"{path!r} is in format {format_}, newer than this version reads ({FORMAT})",
            hint=f"It was written by eigencode {version}: upgrade to that or later",
        )
    return header, tensors


def _rebuilt(
    description: dict[str, Any], tensors: dict[str, Tensor], prefix: str, known: Known, device: str, kind: Any = None
) -> Any:
    """A fitted estimator from its JSON and from those tensors whose names begin with ``prefix``."""
    from eigencode.estimators.base import BaseAutoencoder

    def rebuild(inner: dict[str, Any], place: str, kind: Any) -> Any:
        return _rebuilt(inner, tensors, place, known, device, kind)

    decoder = Decoder(tensors, prefix, known, rebuild)
    parameters = {name: decoder.argument(value) for name, value in description["parameters"].items()}
    model = known.estimator(description["class"], kind)(**parameters)
    check_options(model)
    fitted = {**UNSAID, **description["fitted"]}
    is_baseline = prefix.endswith("baseline.")  # it is made before a subclass sets attributes of its own
    for name, its_kind in model.saved_attributes.items():
        if name in fitted:
            setattr(model, name, decoder.attribute(name, fitted[name], its_kind))
        elif not is_optional(its_kind) and not (is_baseline and name not in BaseAutoencoder.saved_attributes):
            raise StorageError(f"The description of a {type(model).__name__} lacks {name!r}")
    if isinstance(model, BaseAutoencoder):
        _restore_composition(model, description, decoder, device)
        model.baseline_ = None
        if "baseline" in description:
            model.baseline_ = rebuild(description["baseline"], f"{prefix}baseline.", type(model))
    return model


def _restore_composition(model: BaseAutoencoder, description: dict[str, Any], decoder: Decoder, device: str) -> None:
    """What an autoencoder has beyond its parameters and plain attributes."""
    from eigencode.estimators.preparation import stream

    d, names = model.n_features_in_, description["feature_names"]
    if names is not None:
        model.feature_names_in_ = np.array(typed(list[str], names, "feature_names"), dtype=object)
    scaler = {name: decoder.tensor(f"scaler.{name}").numpy() for name in ("center", "divisor")}
    model.scaler_ = typed(Scaler, {**description["scaler"], **scaler}, "scaler")
    if any(len(values) != d for values in (*scaler.values(), names if names is not None else range(d))):
        raise StorageError("The model's columns do not fit its scale", got=f"{d} columns")
    told = description["composition"]
    moved = {name: value for name, value in description["objective"].items() if name in MOVED}
    told = {**told, "arguments": {**told["arguments"], **moved}}
    resolve_seed(model.seed_)  # refuses what is none
    composition = typed(Composition, decoder.argument(told), "composition")
    composition.setup(d, model.n_components_, torch.Generator())
    own = f"{decoder.prefix}composition."
    weights = {name.removeprefix(own): value for name, value in decoder.tensors.items() if name.startswith(own)}
    dtype = next((t.dtype for t in weights.values() if t.is_floating_point()), torch.float32)
    try:
        composition.to(dtype).load_state_dict(weights)
        with torch.no_grad():
            composition.eval()(torch.zeros(1, d, dtype=dtype))
    except (RuntimeError, KeyError) as error:
        raise StorageError("The model's weights do not fit its parts", got=f"the error {error}") from error
    model.composition_ = composition.to(device)
    objective = {name: value for name, value in description["objective"].items() if name not in MOVED}
    model.objective_ = typed(Objective, objective, "objective")
    model.execution_ = typed(Execution, {**description["execution"], "device": device}, "execution")
    if "stream" in description:
        model.stream_state_ = decoder.attribute("stream", description["stream"], dict[str, Any])
        stream(model, model, torch.zeros(1, d, dtype=dtype), None, model.stream_state_)  # refuses what does not fit
