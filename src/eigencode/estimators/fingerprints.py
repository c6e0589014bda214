"""Which fit a checkpoint folder belongs to: the estimator, its options, its seed, and a hash of its rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from eigencode import io, processes, training
from eigencode._version import __version__
from eigencode.checkpoint import Checkpoint
from eigencode.data.block_sources import StreamedCells
from eigencode.domains import Interval
from eigencode.errors import DataError, OptionError, StorageError, enumerated
from eigencode.lazy import torch

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

    from eigencode.fitting import TrainingTable
    from eigencode.io import CheckpointFolder

HASHED_BYTES = 2**28
"""Bytes up to which all cells are hashed, which takes a fifth of a second; of larger tables rows at equal distances."""

HASHED_ROWS = 2**12
"""Number of these rows."""

IGNORED = ("verbose", "device")
"""Options on which the model does not depend, or only by rounding."""


@contextmanager
def opened(checkpoint: Any, verbose: bool = False) -> Iterator[CheckpointFolder | None]:
    """The folder of a checkpoint, which stays open for the run unless the block raises an error; None for None."""
    settings = Checkpoint.of(checkpoint)
    folder = None if settings is None else io.CheckpointFolder(replace(settings, verbose=settings.verbose or verbose))
    try:
        yield folder
    except BaseException:
        if folder is not None:
            folder.close()
        raise


def begun(checkpoint: Any, estimator: BaseEstimator, random_state: Any, **rows: Any) -> tuple[int, Checkpoint | None]:
    """The seed of a fit of several models, and the checkpoint within which each has a folder; None without one."""
    seed, settings = training.seed_of_fit(random_state), Checkpoint.of(checkpoint)
    with opened(settings) as folder:
        if folder is not None:
            seed = begin(folder, estimator, rows, seed)
            folder.close()
    return seed, settings


def require_rereadable(table: TrainingTable) -> None:
    """Raise an error for rows that a run which goes on could not read again."""
    if table.rest is not None:
        what, hint = "A checkpoint needs rows that can be read again", "Write them to a Parquet file first"
        raise OptionError(what, got="rows that can be read once", hint=hint)


def begin(folder: CheckpointFolder, estimator: BaseEstimator, rows: Mapping[str, Any], seed: int) -> int:
    """The seed of the fit that a folder belongs to, which has to be this one; of a new folder the given seed.

    Parameters
    ----------
    folder : CheckpointFolder
        The folder, in which a new fit is described.
    estimator : estimator
        What is fitted.
    rows : dict
        Its rows, weights and so on, by the names in an error message.
    seed : int
        The seed of a new fit.

    Raises
    ------
    OptionError
        If the folder belongs to a fit with other options.
    DataError
        If it belongs to a fit to other rows.
    """
    return processes.agreed(_seed(folder, estimator, rows, seed) if processes.is_first() else seed)


def _seed(folder: CheckpointFolder, estimator: BaseEstimator, rows: Mapping[str, Any], seed: int) -> int:
    own: dict[str, Any] = {
        "estimator": type(estimator).__name__,
        "options": _options(estimator),
        "rows": dict(_rows(rows, folder.settings.is_derived)),
    }
    found = folder.begun()
    if found is None:
        folder.begin({"version": __version__, "seed": seed, **own})
        return seed
    _require_same(folder.path, found, own)
    kept: int = io.typed(Annotated[int, Interval(0)], found.get("seed"), "seed")
    return kept


def _require_same(path: str, found: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    what = f"The checkpoint in {path!r} is that of another fit"
    hint = "Give the same options and rows to go on, or another folder to begin again"
    for part, kind in (("estimator", OptionError), ("options", OptionError), ("rows", DataError)):
        if part not in found:
            raise StorageError(f"The file 'fit.json' in {path!r} is damaged", got=f"no {part!r}", hint=hint)
        if differences := list(_differences(part, found[part], own[part])):
            raise kind(what, got=enumerated(differences), hint=hint)


def _differences(name: str, there: Any, here: Any) -> Iterator[str]:
    """What differs, by name."""
    if isinstance(there, dict) and isinstance(here, dict) and name in ("options", "rows"):
        for key in dict.fromkeys([*there, *here]):
            yield from _differences(key, there.get(key), here.get(key))
    elif there != here:
        are_arrays = all(isinstance(each, dict) and "hash" in each for each in (there, here))
        yield f"{name} has other values" if are_arrays else f"{name} was {_short(there)} and is {_short(here)}"


def _short(value: Any) -> str:
    """A described option, as it is typed."""
    match value:
        case {"part": str(name), "arguments": dict(arguments)} | {"torch": str(name), "arguments": dict(arguments)}:
            return f"{name}({', '.join(f'{key}={_short(item)}' for key, item in arguments.items())})"
        case {"estimator": str(name)}:
            return name
        case str() | None | bool() | int() | float():
            return repr(value)
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _options(estimator: BaseEstimator) -> dict[str, Any]:
    """The options as JSON."""
    given = estimator.get_params(deep=False)
    return {name: _described_option(name, value) for name, value in given.items() if name not in IGNORED}


def _described_option(name: str, value: Any) -> Any:
    """An option as JSON, with a hash of the weights in it; of what has no JSON the name."""
    encoder = io.Encoder({})
    try:
        found = encoder.argument(name, tuple(value) if isinstance(value, list) else value)
    except StorageError:
        found = {"name": f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__name__)}"}
    if isinstance(value, torch.nn.Module) and found.keys() == {"module"}:  # the user's, whose weights are in the states
        found |= {"shapes": {key: list(tensor.shape) for key, tensor in value.named_parameters()}}
        encoder.keep({key: tensor for key, tensor in value.named_parameters() if not tensor.requires_grad})
    weights = (tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy() for tensor in encoder.tensors.values())
    return {"value": found, "hash": _hash_of(weights)} if encoder.tensors else found


def _rows(rows: Mapping[str, Any], is_derived: bool) -> Iterator[tuple[str, Any]]:
    """Rows, and what belongs to each of them, as JSON: the shapes of arrays, with hashes unless a model made them."""
    for name, value in rows.items():
        if value is None or name == "columns":
            yield name, value
            continue
        value = value if hasattr(value, "shape") else np.asarray(value)
        yield f"shape of {name}", list(value.shape)
        if not is_derived:
            yield name, {"hash": _hash_of(_chosen(value))}


def _chosen(array: Any) -> Iterator[np.ndarray]:
    """All cells of an array or, of a large one, those of rows at equal distances; of a source those of a sample."""
    if isinstance(array, StreamedCells):
        yield np.array(array.source.groups)
        yield array.cells(array.source.sample())
    elif array.size * array.dtype.itemsize <= HASHED_BYTES:
        yield np.asarray(array)
    else:
        yield array[np.linspace(0, len(array) - 1, HASHED_ROWS).astype(int)]


def _hash_of(arrays: Iterable[Any]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes() if array.dtype != object else repr(array.tolist()).encode())
    return found.hexdigest()
