"""Storage: one ``.safetensors`` file of weights and JSON, written whole or not at all; never pickle.

The header's JSON names each part by its class and gives its constructor's arguments. Loading looks these names up
among this package's parts and those the caller names, so that no code is run, or imported, because a file says so.
"""

from __future__ import annotations

import copy
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from eigencode import parts as own_parts
from eigencode._version import __version__
from eigencode.composition import Composition
from eigencode.data.outputs import atomic_file
from eigencode.data.scaling import Scaler
from eigencode.errors import FileError, StorageError, did_you_mean
from eigencode.objectives import Objective
from eigencode.parts.base import Part
from eigencode.training.execution import Execution, resolve_device

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

FORMAT = 1
"""Number of the file's layout; a later version reads all earlier ones."""

HEADER = "eigencode"
"""Key of the JSON in the safetensors header."""

PLAIN_ATTRIBUTES = (
    "n_features_in_",
    "n_components_",
    "hidden_",
    "start_",
    "scale_",
    "optimizer_",
    "seed_",
    "explained_variance_ratio_",
    "history_",
    "best_epoch_",
    "best_objective_",
    "notes_",
)
"""Fitted attributes that JSON holds as they are."""

ACTIVATION_MODULES = {name: getattr(nn, name) for name in [*nn.modules.activation.__all__, "Identity"]}
"""Torch's activations, which a file may name."""


# -- saving


def save(model: BaseAutoencoder, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to one file, replacing it only when the new one is whole.

    Parameters
    ----------
    model : estimator
        A fitted autoencoder.
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
    check_is_fitted(model)
    description, tensors = _describe(model)
    if model.baseline_ is not None:
        description["baseline"], more = _describe(model.baseline_)
        tensors |= {f"baseline.{name}": value for name, value in more.items()}
    header = {HEADER: json.dumps({"format": FORMAT, "version": __version__, "model": description})}
    with atomic_file(path) as file:
        file.write(safetensors.torch.save(tensors, header))


def _describe(model: BaseAutoencoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A model's JSON and its tensors."""
    names = getattr(model, "feature_names_in_", None)
    description = {
        "class": type(model).__name__,
        "parameters": {name: _encoded(name, value) for name, value in model.get_params(deep=False).items()},
        "composition": _encoded("composition", model.composition_),
        "objective": {name: _encoded(name, value) for name, value in vars(model.objective_).items()},
        "scaler": {"kind": model.scaler_.kind, "limit": model.scaler_.limit},
        "execution": vars(model.execution_),
        "fitted": {name: getattr(model, name) for name in PLAIN_ATTRIBUTES},
        "feature_names": None if names is None else list(names),
    }
    tensors = {f"composition.{name}": value for name, value in model.composition_.state_dict().items()}
    tensors |= {f"scaler.{name}": torch.from_numpy(getattr(model.scaler_, name)) for name in ("center", "divisor")}
    if hasattr(model, "stream_state_"):
        description["stream"] = _tree(model.stream_state_, "stream", tensors)
    # Views of one vector would be refused, or written many times over.
    return description, {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}


def _tree(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Nested values as JSON, whose tensors go to ``tensors`` under the path that leads to them."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[key, _tree(item, f"{name}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_tree(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
    return _encoded(name, value)


def _from_tree(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Nested values from their JSON and tensors."""
    if isinstance(value, list):
        return [_from_tree(item, tensors) for item in value]
    if not isinstance(value, Mapping):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _from_tree(item, tensors) for key, item in value["items"]}


def _encoded(name: str, value: Any) -> Any:
    """A parameter as JSON."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple | np.ndarray):
        return [_encoded(name, item) for item in value]
    if isinstance(value, Part):
        params = value.get_params(deep=False)
        return {"part": type(value).__name__, "arguments": {key: _encoded(key, item) for key, item in params.items()}}
    if isinstance(value, nn.Module):
        return _encoded_module(name, value)
    if isinstance(value, np.random.Generator | np.random.RandomState):
        # Its state went into ``seed_``; a generator that goes on drawing has no place in a file.
        return None
    raise StorageError(
        f"The parameter {name!r} cannot be saved without pickle",
        got=f"{value!r}",
        hint="Write it as a subclass of a part from eigencode.parts",
    )


def _encoded_module(name: str, module: nn.Module) -> dict[str, Any]:
    """A torch module: an activation by its constants, any other by its class's name alone."""
    arguments = {key: getattr(module, key) for key in getattr(module, "__constants__", ())}
    if ACTIVATION_MODULES.get(type(module).__name__) is type(module):
        return {"torch": type(module).__name__, "arguments": {k: _encoded(name, v) for k, v in arguments.items()}}
    return {"module": type(module).__name__}


# -- loading


def load(
    path: str | os.PathLike[str],
    parts: Iterable[type[Part] | nn.Module] = (),
    device: str = "auto",
) -> BaseAutoencoder:
    """Read a model that ``save`` wrote.

    Parameters
    ----------
    path : path-like
        A ``.safetensors`` file.
    parts : iterable
        Your own part classes that the model uses, and, for a torch module of your own, an instance of the same
        architecture, into a copy of which the saved weights are loaded; several of one class in the order encoder,
        decoder.
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
    header, tensors = _read(Path(path))
    known = _Known(parts)
    description = header["model"]
    device = resolve_device(device)
    model = _rebuilt(description, {n: t for n, t in tensors.items() if not n.startswith("baseline.")}, known, device)
    model.baseline_ = None
    if "baseline" in description:
        prefix = "baseline."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        model.baseline_ = _rebuilt(description["baseline"], own, known, device)
        model.baseline_.baseline_ = None
    return model


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
    header, _ = _read(Path(path))
    return str(header["version"])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a model file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise FileError(f"There is no model file {str(path)!r}") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise StorageError(
            f"{str(path)!r} is not a whole safetensors file", got=f"the error {error}", hint="Save the model again"
        ) from error
    if HEADER not in metadata:
        raise StorageError(f"{str(path)!r} was not written by eigencode", got=f"the header {sorted(metadata)}")
    try:
        header = json.loads(metadata[HEADER])
        is_newer = header["format"] > FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"The description in {str(path)!r} is damaged", got=f"the error {error!r}") from error
    if is_newer:
        raise StorageError(
            f"{str(path)!r} is in format {header['format']}, newer than this version reads ({FORMAT})",
            hint=f"It was written by eigencode {header['version']}: upgrade to that or later",
        )
    return header, tensors


class _Known:
    """The names a file may use: this package's parts, torch's activations, and what the caller names."""

    def __init__(self, parts: Iterable[type[Part] | nn.Module]) -> None:
        given = list(parts)
        self.parts: dict[str, type[Part]] = {name: getattr(own_parts, name) for name in own_parts.__all__}
        self.parts["Composition"] = Composition
        self.parts |= {item.__name__: item for item in given if isinstance(item, type)}
        self.modules: dict[str, list[nn.Module]] = {}
        for item in given:
            if isinstance(item, nn.Module):
                self.modules.setdefault(type(item).__name__, []).append(item)
        self._taken: Counter[str] = Counter()

    def decoded(self, value: Any) -> Any:
        """A parameter from its JSON."""
        if isinstance(value, list):
            return tuple(self.decoded(item) for item in value)
        if not isinstance(value, Mapping):
            return value
        arguments = {name: self.decoded(item) for name, item in value.get("arguments", {}).items()}
        if "torch" in value:
            return self._named(ACTIVATION_MODULES, value["torch"], "torch module")(**arguments)
        if "part" in value:
            return self._named(self.parts, value["part"], "part")(**arguments)
        # Modules of one class are taken in the order given, encoder before decoder, and never shared.
        instances = self._named(self.modules, value["module"], "module")
        place = self._taken[value["module"]] % len(instances)
        self._taken[value["module"]] += 1
        return copy.deepcopy(instances[place])

    def estimator(self, name: str) -> type[BaseAutoencoder]:
        """An estimator's class by its name."""
        from eigencode import estimators

        return self._named({name: getattr(estimators, name) for name in estimators.__all__}, name, "estimator")

    def _named(self, known: Mapping[str, Any], name: str, kind: str) -> Any:
        if name not in known:
            raise StorageError(
                f"The model uses the {kind} {name!r}, which is not part of this version of eigencode",
                hint=f"If it is your own, load with parts=[{name if kind == 'part' else f'{name}(...)'}]. "
                f"{did_you_mean(name, known) or ''}".strip(". "),
            )
        return known[name]


def _rebuilt(description: dict[str, Any], tensors: dict[str, Tensor], known: _Known, device: str) -> BaseAutoencoder:
    """A fitted model from its JSON and its tensors."""
    fitted = description["fitted"]
    parameters = {name: known.decoded(value) for name, value in description["parameters"].items()}
    model: BaseAutoencoder = known.estimator(description["class"])(**parameters)
    for name in PLAIN_ATTRIBUTES:
        setattr(model, name, fitted[name])
    model.hidden_ = tuple(fitted["hidden_"])
    if description["feature_names"] is not None:
        model.feature_names_in_ = np.array(description["feature_names"], dtype=object)
    model.scaler_ = Scaler(
        description["scaler"]["kind"],
        tensors["scaler.center"].numpy(),
        tensors["scaler.divisor"].numpy(),
        description["scaler"]["limit"],
    )
    composition = known.decoded(description["composition"])
    composition.setup(fitted["n_features_in_"], fitted["n_components_"], torch.Generator())
    weights = {n.removeprefix("composition."): t for n, t in tensors.items() if n.startswith("composition.")}
    dtype = next((t.dtype for t in weights.values() if t.is_floating_point()), torch.float32)
    try:
        composition.to(dtype).load_state_dict(weights)
    except RuntimeError as error:
        raise StorageError("The model's weights do not fit its parts", got=f"the error {error}") from error
    model.composition_ = composition.to(device).eval()
    model.objective_ = Objective(**{name: known.decoded(value) for name, value in description["objective"].items()})
    if "stream" in description:
        model.stream_state_ = _from_tree(description["stream"], tensors)
    execution = {**description["execution"], "device": device}
    model.execution_ = Execution(**execution)
    return model
