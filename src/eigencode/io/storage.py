"""Storage: one ``.safetensors`` file of weights and JSON, written whole or not at all; never pickle.

The header's JSON names each part by its class and gives its constructor's arguments. Loading looks these names up
among this package's parts and those the caller names, so that no code is run, or imported, because a file says so.
Whatever is wrong with a file is a `StorageError`.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from eigencode.data.outputs import atomic_file
from eigencode.data.rows import ResidentRows
from eigencode.data.scaling import Scaler
from eigencode.domains import Count
from eigencode.errors import FileError, FileIsFolderError, MissingFileError, StorageError, as_path, file_error
from eigencode.io.allocation import BoundedAllocation
from eigencode.io.earlier import upgraded
from eigencode.io.serialization import LONGEST, Decoder, Encoder, Known, is_optional, typed
from eigencode.model.composition import Composition
from eigencode.model.objective import Objective
from eigencode.options import check_options
from eigencode.parts.base import Sizes, Units
from eigencode.training.execution import Execution, resolve_device
from eigencode.training.rng import resolve_seed
from eigencode.training.state import SavedState

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

FORMAT = 2
"""Number of the file's layout; a later version reads all earlier ones."""

HEADER = "eigencode"
"""Key of the JSON in the safetensors header."""


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
    require_finite_state(model.composition_)
    weights = model.composition_.state_dict()
    if foreign := [name for name, value in weights.items() if not isinstance(value, Tensor)]:
        raise StorageError("The model has a state that is no tensor", got=f"{foreign}")
    tensors = {f"composition.{name}": value for name, value in weights.items()}
    tensors |= {f"scaler.{name}": torch.from_numpy(getattr(model.scaler_, name)) for name in ("center", "divisor")}
    encoder.tensors.update({f"{encoder.prefix}{name}": value for name, value in tensors.items()})
    names = getattr(model, "feature_names_in_", None)
    description = {
        "composition": encoder.argument("composition", model.composition_),
        "objective": {name: encoder.argument(name, value) for name, value in vars(model.objective_).items()},
        "scaler": _describe_scaler(model.scaler_),
        "execution": vars(model.execution_),
        "feature_names": None if names is None else list(names),
    }
    if hasattr(model, "stream_state_"):
        description["stream"] = encoder.attribute("stream", model.stream_state_)
    if model.baseline_ is not None:
        description["baseline"] = _describe(model.baseline_, encoder.tensors, f"{encoder.prefix}baseline.")
    return description


def _describe_scaler(scaler: Scaler) -> dict[str, Any]:
    """What a scaler has beyond its tensors; columns scaled by their logarithms are named where there are any."""
    named = {"logarithmic": list(scaler.logarithmic)} if any(scaler.logarithmic) else {}
    return {**{name: getattr(scaler, name) for name in ("kind", "limit", "constant")}, **named}


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

    own = {name: getattr(estimators, name) for name in dir(estimators)}
    known = Known(parts, own | {"FrozenEstimator": FrozenEstimator})
    header, tensors = _read(as_path(path))
    loading = _Loading(tensors, known, resolve_device(device), BoundedAllocation(tensors.values()))
    try:
        return loading.estimator(upgraded(header["model"], header["format"]), "")
    except StorageError:
        raise
    except Exception as error:  # whatever may become of a description that nobody wrote like this
        got = f"the error {error!r}"[:LONGEST]
        raise StorageError(f"The model in {as_path(path)!r} cannot be rebuilt from its description", got=got) from error


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
    with _opened(as_path(path)) as file:
        return str(_header(as_path(path), file)["version"])


def _read(path: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The header and the tensors of a model file."""
    with _opened(path) as file:
        header = _header(path, file)
        # Copied, since they may be a map of the file, which somebody else may write over.
        return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A safetensors file whose description and tensors can be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = FileIsFolderError if os.path.isdir(path) else StorageError
            raise kind(f"{path!r} is no model file", got="no ordinary file")
        with open(path, "rb"):  # the reader calls each file missing that it cannot open
            pass
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no model file {path!r}") from error
    except FileError:
        raise
    except OSError as error:
        raise file_error(error, f"Cannot read {path!r}", got=f"the error {error.strerror or error}") from error
    except Exception as error:  # the reader has several kinds of its own for what is damaged
        what = f"{path!r} is not a whole safetensors file"
        if not path.endswith(".safetensors"):
            hint = "Name a file that eigencode fit or model.save wrote; commands take it before the rows"
            raise StorageError(what, hint=hint) from error
        raise StorageError(what, got=f"the error {error}"[:LONGEST], hint="Save the model again") from error


def _header(path: str, file: Any) -> dict[str, Any]:
    """The description of a model in an open file."""
    metadata = file.metadata() or {}
    if HEADER not in metadata:
        raise StorageError(f"{path!r} was not written by eigencode", got=f"the header {sorted(metadata)}"[:LONGEST])
    try:
        header = json.loads(metadata[HEADER], parse_constant=_no_number, parse_float=_finite)
        format_, version = typed(Count, header["format"], "format"), str(header["version"])
        header["model"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        got = f"the error {error!r}"[:LONGEST]
        raise StorageError(f"The description in {path!r} is damaged", got=got) from error
    if format_ > FORMAT:
        raise StorageError(
            f"{path!r} is in format {format_}, newer than this version reads ({FORMAT})",
            hint=f"It was written by eigencode {version}: upgrade to that or later",
        )
    return header


def _finite(text: str) -> float:
    """A number of the description; what is none is written in another way there."""
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no finite number")


@dataclass(frozen=True)
class _Loading:
    """Makes the fitted estimators of one file.

    Attributes
    ----------
    tensors : dict of str to Tensor
        All tensors of the file.
    known : Known
        The names that the file may use.
    device : str
        Where the models are to answer.
    allocation : BoundedAllocation
        The context in which parts are made.
    """

    tensors: dict[str, Tensor]
    known: Known
    device: str
    allocation: BoundedAllocation

    def estimator(self, description: dict[str, Any], prefix: str, kind: Any = None) -> Any:
        """A fitted estimator from its JSON and from those tensors whose names begin with ``prefix``."""
        from eigencode.estimators.base import BaseAutoencoder

        decoder = Decoder(self.tensors, prefix, self.known, self.estimator, self.allocation)
        with self.allocation:
            parameters = {name: decoder.argument(value) for name, value in description["parameters"].items()}
            model = self.known.estimator(description["class"], kind)(**parameters)
        check_options(model)
        self._set_attributes(model, description, decoder)
        if isinstance(model, BaseAutoencoder):
            self._restore_composition(model, description, decoder)
            model.baseline_ = None
            if "baseline" in description:
                model.baseline_ = self.estimator(description["baseline"], f"{prefix}baseline.", BaseAutoencoder)
        for misfit in getattr(model, "_misfits", tuple)():
            raise StorageError(f"The {type(model).__name__} in the file is damaged: {misfit} does not fit the rest")
        return model

    def _set_attributes(self, model: Any, description: dict[str, Any], decoder: Decoder) -> None:
        """Set the plain fitted attributes."""
        from eigencode.estimators.base import BaseAutoencoder

        is_baseline = decoder.prefix.endswith("baseline.")  # it is made before a subclass sets attributes of its own
        fitted = description["fitted"]
        for name, kind in model.saved_attributes.items():
            if name in fitted:
                setattr(model, name, decoder.attribute(name, fitted[name], kind))
            elif not is_optional(kind) and not (is_baseline and name not in BaseAutoencoder.saved_attributes):
                raise StorageError(f"The description of a {type(model).__name__} lacks {name!r}")

    def _restore_composition(self, model: BaseAutoencoder, description: dict[str, Any], decoder: Decoder) -> None:
        """What an autoencoder has beyond its parameters and plain attributes."""
        d, names = model.n_features_in_, description["feature_names"]
        if names is not None:
            model.feature_names_in_ = np.array(typed(list[str], names, "feature_names"), dtype=object)
        scaler = {name: decoder.tensor(f"scaler.{name}").numpy() for name in ("center", "divisor")}
        model.scaler_ = typed(Scaler, {**description["scaler"], **scaler}, "scaler")
        if any(len(values) != d for values in (*scaler.values(), names if names is not None else range(d))):
            raise StorageError("The model's columns do not fit its scale", got=f"{d} columns")
        own = {**description["execution"], "device": self.device}
        execution = typed(Execution, own, "execution")
        # Threads beyond the machine's would only wait for each other.
        model.execution_ = replace(execution, n_threads=min(execution.n_threads, os.cpu_count() or 1))
        model.objective_ = typed(Objective, description["objective"], "objective")
        resolve_seed(model.seed_)  # refuses what is none
        model.composition_ = self._composition(model, description, decoder).to(self.device)
        if "stream" in description:
            _restore_stream(model, decoder.attribute("stream", description["stream"], dict[str, Any]))

    def _composition(self, model: BaseAutoencoder, description: dict[str, Any], decoder: Decoder) -> Composition:
        """The networks and other parts, with their weights."""
        own = f"{decoder.prefix}composition."
        weights = {name.removeprefix(own): value for name, value in self.tensors.items() if name.startswith(own)}
        with self.allocation:
            composition = typed(Composition, decoder.argument(description["composition"]), "composition")
            sizes = Sizes(model.n_features_in_, model.n_components_, units=Units.of(model.scaler_))
            composition.setup(sizes.n_features, sizes.n_components, torch.Generator(), sizes)
            composition.to(model.execution_.dtype)
        _require_fitting(composition.state_dict(), weights)
        composition.load_state_dict(weights)
        require_finite_state(composition)
        _try_out(composition.eval())
        return composition


def _require_fitting(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the parts, by name, shape and type."""
    for name in sorted({*own, *saved}):
        wanted, found = (
            f"{str(side[name].dtype).removeprefix('torch.')} of shape {tuple(side[name].shape)}" if name in side else ""
            for side in (own, saved)
        )
        if wanted != found:
            got = f"{found or 'nothing'} for {name!r}, which should be {wanted or 'nothing'}"
            raise StorageError("The model's weights do not fit its parts", got=got)


def require_finite_state(composition: Composition) -> None:
    """Refuse weights that are no finite numbers, as training may leave them where it fails.

    Buffers of modules that are not of this package may have what they like: a running minimum begins at infinity.
    """
    tensors: dict[str, Tensor] = dict(composition.named_parameters())
    for name, module in composition.named_modules():
        if type(module).__module__.partition(".")[0] == "eigencode":
            tensors |= {f"{name}.{inner}": value for inner, value in module.named_buffers(recurse=False)}
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise StorageError("The model has weights that are no finite numbers", got=f"some in {name!r}")


@torch.no_grad()
def _try_out(composition: Composition) -> None:
    """Refuse a model that has no finite answer to the mean row, or to rows a scale away from it."""
    d = composition.n_features
    dtype = next((p.dtype for p in composition.parameters()), torch.float32)
    rows = torch.tensor([0.0, 1.0, -1.0], dtype=dtype)[:, None].expand(3, d).contiguous()
    try:
        trace = composition(rows)
        answers = trace.z, trace.p.mean, trace.p.log_prob(trace.target)[:1].sum(-1)
    except (RuntimeError, KeyError) as error:
        raise StorageError("The model's weights do not fit its parts", got=f"the error {error}") from error
    if not all(answer.isfinite().all() for answer in answers):
        raise StorageError("The model's answers are no finite numbers, even for a mean row")


def _restore_stream(model: BaseAutoencoder, saved: dict[str, Any]) -> None:
    """The state of a stream, tried out on a copy of the model."""
    from eigencode.fitting.run import stream

    typed(SavedState, saved, "stream")
    dtype = model.execution_.dtype
    stream(
        model, model, ResidentRows.of(torch.zeros(1, model.n_features_in_, dtype=dtype)), saved
    )  # refuses what does not fit
    model.stream_state_ = saved
