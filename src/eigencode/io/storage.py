"""Storage: one ``.safetensors`` file of weights and JSON, written completely or not at all; never pickle.

The JSON in the header has the class name and the constructor's arguments of each part. Loading accepts known class
names only, so that a file cannot run or import code. Any defect of a file raises a `StorageError`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import safetensors
import safetensors.torch
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from eigencode._version import __version__
from eigencode.data.writing import atomic_write
from eigencode.domains import Count
from eigencode.errors import FileError, StorageError, as_path, file_error
from eigencode.io.allocation import BoundedAllocation
from eigencode.io.decoding import LONGEST, Decoder, typed
from eigencode.io.earlier import upgraded, upgraded_tensors
from eigencode.io.encoding import Encoder
from eigencode.io.known import Known
from eigencode.io.paths import model_file
from eigencode.training.execution import resolve_device

FORMAT = 2
"""Version of the file format; all earlier ones can be read."""

HEADER = "eigencode"
"""Key of the JSON in the safetensors header."""


def save(model: BaseEstimator, path: str | os.PathLike[str]) -> None:
    """Write a fitted model to one file; an existing file is replaced only when the new one is complete.

    `NotFittedError` of scikit-learn if it is not fitted, `StorageError` if a parameter cannot be written without
    pickle, `FileError` if the file cannot be written.
    """
    encoder = Encoder({})
    write(path, {"model": encoder.model(model)}, encoder.tensors)


def write(path: str | os.PathLike[str], content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write JSON and tensors to one file, whole or not at all; `FileError` if it cannot be written."""
    # Copies, since the weights are views of one vector, which safetensors refuses or writes several times.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    header = {HEADER: json.dumps({"format": FORMAT, "version": __version__, **content}, allow_nan=False)}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(tensors, header))


def write_value(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value of plain values and tensors to one file, with a hash by which damage is found."""
    encoder = Encoder({})
    content = encoder.attribute("value", value)
    write(path, {"value": content, "digest": _digest(content, encoder.tensors)}, encoder.tensors)


def read_value(path: str, kind: type, device: str) -> Any:
    """Read a value of a type that ``write_value`` wrote, its tensors to a device."""
    header, found = contents(path, "value")
    if header.get("digest") != _digest(header["value"], found):
        raise StorageError(f"{path!r} is damaged", got="other bytes than were written")
    tensors = {name: tensor.to(device) for name, tensor in found.items()}
    decoder = Decoder(tensors, Known((), {}), BoundedAllocation(tensors.values()), device)
    value = decoder.attribute("value", header["value"], dict[str, Any])
    typed(kind, value, "value")
    return value


def _digest(content: Any, tensors: Mapping[str, Tensor]) -> str:
    """A hash of JSON and of tensors."""
    found = hashlib.blake2b(json.dumps(content).encode(), digest_size=16)
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read(
    path: str | os.PathLike[str], estimators: Mapping[str, type], given: Iterable[Any] = (), device: str = "auto"
) -> Any:
    """Read a model that ``save`` wrote, to a device.

    ``estimators`` are those that the file may name; ``given`` are the caller's own part and estimator classes, and
    instances of torch modules.
    """
    known = Known(given, estimators)
    header, tensors = contents(as_path(path))
    tensors = upgraded_tensors(tensors, header["format"])
    decoder = Decoder(tensors, known, BoundedAllocation(tensors.values()), resolve_device(device))
    try:
        return decoder.model(upgraded(header["model"], header["format"]))
    except StorageError:
        raise
    except Exception as error:  # an edited or damaged description may raise any error
        got = f"the error {error!r}"[:LONGEST]
        raise StorageError(f"The model in {as_path(path)!r} cannot be rebuilt from its description", got=got) from error


def version_of(path: str | os.PathLike[str]) -> str:
    """The version of eigencode that wrote a model file."""
    with _opened(as_path(path)) as file:
        return str(_header(as_path(path), file)["version"])


def contents(path: str, key: str = "model") -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """The header of a file, which has a key, and its tensors."""
    with _opened(path) as file:
        header = _header(path, file, key)
        # Copied, since they may be memory-mapped from the file, which another program may change.
        return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a safetensors file; any failure is an error of this package."""
    try:
        with safetensors.safe_open(model_file(path), framework="pt") as file:
            yield file
    except FileError:
        raise
    except OSError as error:
        raise file_error(error, f"Cannot read {path!r}", got=f"the error {error.strerror or error}") from error
    except Exception as error:  # safetensors has several error classes for damaged files
        what = f"{path!r} is not a complete safetensors file"
        if not path.endswith(".safetensors"):
            hint = "Name a file that eigencode fit or model.save wrote; commands take it before the rows"
            raise StorageError(what, hint=hint) from error
        raise StorageError(what, got=f"the error {error}"[:LONGEST], hint="Save the model again") from error


def _header(path: str, file: Any, key: str = "model") -> dict[str, Any]:
    """The description of a model in an open file."""
    metadata = file.metadata() or {}
    if HEADER not in metadata:
        raise StorageError(f"{path!r} was not written by eigencode", got=f"the header {sorted(metadata)}"[:LONGEST])
    try:
        header = json.loads(metadata[HEADER], parse_constant=_no_number, parse_float=_finite)
        format_, version = typed(Count, header["format"], "format"), str(header["version"])
        header[key]
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
    """A number of the description; NaN and infinity are written as ``{"float": ...}``, so others are damage."""
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a finite number")
