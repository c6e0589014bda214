"""Encoding: values as JSON and tensors, and back, checked against the types they should have.

What JSON has no word for is an object with a word of ours: ``{"part": name, "arguments": ...}``, ``{"array": name of a
tensor}``, ``{"float": "nan"}`` and so on. A plain sequence is a tuple among the arguments of constructors and a list
among fitted attributes; the other kind says its name.
"""

from __future__ import annotations

import copy
import math
import re
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from eigencode import parts as own_parts
from eigencode.domains import Interval, OneOf
from eigencode.errors import OptionError, StorageError, did_you_mean
from eigencode.io.allocation import BoundedAllocation
from eigencode.model.composition import Composition
from eigencode.parts.base import Part

ACTIVATION_MODULES = {name: getattr(nn, name) for name in [*nn.modules.activation.__all__, "Identity"]}
"""Torch's activations, which a file may name."""

WORDS = {"part", "torch", "module", "estimator", "fitted_estimator", "arguments"} | {
    "prefix", "float", "list", "tuple", "items", "tensor", "array", "elements", "dtype"
}  # fmt: skip
"""Keys that say what an object stands for; mappings with such keys of their own are written as pairs."""


DEEPEST = 100
"""Levels of nesting in a description; a stack of ten stacks has half of that."""

MOST_LETTERS = 2**24
"""Letters that an array of text may have room for beside those that it has."""

LONGEST = 200
"""Letters of a damaged value that are shown."""

LARGEST = 2**1023
"""The largest whole number that is a float too."""


def is_optional(kind: Any) -> bool:
    """Whether a type admits None."""
    return type(None) in get_args(kind)


# -- to JSON


@dataclass(frozen=True)
class Encoder:
    """Turns values into JSON; tensors and arrays are kept aside by name.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Where they are kept.
    prefix : str
        What all names begin with.
    describe : callable
        From a fitted estimator and the prefix of its tensors to its JSON.
    """

    tensors: dict[str, Tensor]
    prefix: str
    describe: Callable[[Any, dict[str, Tensor], str], dict[str, Any]]

    def argument(self, name: str, value: Any) -> Any:
        """An argument of a constructor."""
        return self._encoded(name, value, tuple)

    def attribute(self, name: str, value: Any) -> Any:
        """A fitted attribute, which may be a dataclass too."""
        return self._encoded(name, value, list)

    def _encoded(self, name: str, value: Any, bare: type) -> Any:
        if value is None or isinstance(value, bool | str | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, np.generic):
            return self._encoded(name, value.item(), bare)
        if isinstance(value, list | tuple):
            items = [self._encoded(f"{name}.{place}", item, bare) for place, item in enumerate(value)]
            return items if isinstance(value, bare) else {"list" if isinstance(value, list) else "tuple": items}
        if isinstance(value, Mapping):
            return self._encoded_mapping(name, value, bare)
        if isinstance(value, np.ndarray):
            return self._encoded_array(name, value, bare)
        if isinstance(value, Tensor):
            return {"tensor": self._kept(name, value)}
        if isinstance(value, nn.Module):
            return self._encoded_module(name, value, bare)
        if isinstance(value, BaseEstimator):
            return self._encoded_estimator(name, value)
        if isinstance(value, np.random.Generator | np.random.RandomState):
            # Its state went into ``seed_``; a generator that goes on drawing has no place in a file.
            return None
        if is_dataclass(value) and not isinstance(value, type) and bare is list:
            return {f.name: self._encoded(f"{name}.{f.name}", getattr(value, f.name), bare) for f in fields(value)}
        raise StorageError(
            f"The parameter {name!r} cannot be saved without pickle",
            got=f"{value!r}",
            hint="Write it as a subclass of a part from eigencode.parts",
        )

    def _encoded_mapping(self, name: str, value: Mapping[Any, Any], bare: type) -> Any:
        pairs = [(key, self._encoded(f"{name}.{key}", item, bare)) for key, item in value.items()]
        if all(isinstance(key, str) and key not in WORDS for key in value):
            return dict(pairs)
        return {"items": [[self._encoded(name, key, bare), item] for key, item in pairs]}

    def _encoded_array(self, name: str, value: np.ndarray, bare: type) -> Any:
        if value.dtype.kind in "biuf":
            return {"array": self._kept(name, torch.from_numpy(np.array(value, order="C")))}
        if value.ndim != 1 or value.dtype.kind not in "UO":
            raise StorageError(f"The array {name!r} cannot be saved", got=f"{value.dtype} of shape {value.shape}")
        elements = [self._encoded(name, item, bare) for item in value.tolist()]
        return {"elements": elements, "dtype": value.dtype.str if value.dtype.kind == "U" else "object"}

    def _encoded_module(self, name: str, module: nn.Module, bare: type) -> dict[str, Any]:
        """A part by its arguments, an activation by its constants, any other module by its class's name alone."""
        kind = type(module).__name__
        if isinstance(module, Part):
            arguments = module.get_params(deep=False)
        elif ACTIVATION_MODULES.get(kind) is type(module):
            arguments = {key: getattr(module, key) for key in getattr(module, "__constants__", ())}
        else:
            return {"module": kind}
        encoded = {key: self.argument(f"{name}.{key}", item) for key, item in arguments.items()}
        return {"part" if isinstance(module, Part) else "torch": kind, "arguments": encoded}

    def _encoded_estimator(self, name: str, estimator: BaseEstimator) -> dict[str, Any]:
        """An estimator by its arguments, a fitted one of ours by all that its file would hold."""
        if hasattr(type(estimator), "saved_attributes") and estimator.__sklearn_is_fitted__():
            prefix = f"{name}."
            return {
                "fitted_estimator": self.describe(estimator, self.tensors, self.prefix + prefix), "prefix": prefix
            }  # fmt: skip
        arguments = estimator.get_params(deep=False)
        encoded = {key: self.argument(f"{name}.{key}", item) for key, item in arguments.items()}
        return {"estimator": type(estimator).__name__, "arguments": encoded}

    def _kept(self, name: str, tensor: Tensor) -> str:
        """Keep a tensor under a name that is still free, and give the name without the prefix."""
        name = f"values.{name}"  # apart from the weights, whose names are paths too
        while f"{self.prefix}{name}" in self.tensors:
            name += "_"
        self.tensors[f"{self.prefix}{name}"] = tensor
        return name


# -- the names a file may use


class Known:
    """The names that a file may use: this package's, those of torch's activations, and the caller's own.

    Parameters
    ----------
    given : iterable
        Part and estimator classes, and instances of torch modules.
    estimators : mapping of str to class
        The package's own.
    """

    def __init__(self, given: Iterable[Any], estimators: Mapping[str, type]) -> None:
        own = {name: getattr(own_parts, name) for name in dir(own_parts)}
        self.parts: dict[str, Any] = {name: part for name, part in own.items() if issubclass(part, Part)}
        self.parts["Composition"] = Composition
        self.estimators: dict[str, Any] = dict(estimators)
        self.modules: dict[str, list[nn.Module]] = {}
        self._taken: Counter[str] = Counter()
        for item in given:
            if isinstance(item, nn.Module):
                self.modules.setdefault(type(item).__name__, []).append(item)
            elif isinstance(item, type) and issubclass(item, nn.Module):
                self.parts[item.__name__] = item
            elif isinstance(item, type) and issubclass(item, BaseEstimator):
                self.estimators[item.__name__] = item
            else:
                raise OptionError(
                    "'parts' are classes of parts and estimators, and instances of torch modules", got=f"{item!r}"
                )

    def part(self, name: str) -> Any:
        """A part's class."""
        return _named(self.parts, name, "part", f"parts=[{name}]")

    def activation(self, name: str) -> Any:
        """The class of an activation."""
        return _named(ACTIVATION_MODULES, name, "torch module", f"parts=[{name}(...)]")

    def estimator(self, name: str, kind: Any = None) -> Any:
        """An estimator's class: a known one, or one that the type ``kind`` of its place names."""
        return _named(self.estimators | dict(_classes_of(kind)), name, "estimator", f"parts=[{name}]")

    def module(self, name: str) -> nn.Module:
        """A copy of an instance; those of one class are taken in the order given, encoder before decoder."""
        instances = _named(self.modules, name, "module", f"parts=[{name}(...)]")
        place = self._taken[name] % len(instances)
        self._taken[name] += 1
        return copy.deepcopy(instances[place])


def _classes_of(kind: Any) -> Iterator[tuple[str, type]]:
    """The estimators' classes that a type names."""
    if isinstance(kind, type) and issubclass(kind, BaseEstimator):
        yield kind.__name__, kind
    for inner in get_args(kind):
        yield from _classes_of(inner)


def _named(known: Mapping[str, Any], name: str, kind: str, wanted: str) -> Any:
    if name not in known:
        raise StorageError(
            f"The model uses the {kind} {name!r}, which is not part of this version of eigencode",
            hint=f"If it is your own, load with {wanted}. {did_you_mean(name, known) or ''}".strip(". "),
        )
    return known[name]


# -- from JSON


@dataclass(frozen=True)
class Decoder:
    """Turns JSON into values again.

    Attributes
    ----------
    tensors : mapping of str to Tensor
        Those kept aside.
    prefix : str
        What their names begin with.
    known : Known
        The names that may be used.
    rebuild : callable
        From the JSON of a fitted estimator, the prefix of its tensors and the type wanted to the estimator.
    allocation : BoundedAllocation
        Counts the parts that are made.
    """

    tensors: Mapping[str, Tensor]
    prefix: str
    known: Known
    rebuild: Callable[[Any, str, Any], Any]
    allocation: BoundedAllocation

    def argument(self, value: Any) -> Any:
        """An argument of a constructor."""
        return self._decoded(value, tuple, None)

    def attribute(self, name: str, value: Any, kind: Any) -> Any:
        """A fitted attribute of a type."""
        return typed(kind, self._decoded(value, list, kind), name)

    def tensor(self, name: str) -> Tensor:
        """A tensor kept aside."""
        if f"{self.prefix}{name}" not in self.tensors:
            raise StorageError(f"The file lacks the tensor {self.prefix + name!r}")
        return self.tensors[f"{self.prefix}{name}"]

    def _decoded(self, value: Any, bare: type, kind: Any, depth: int = 0) -> Any:
        def inner(item: Any) -> Any:
            return self._decoded(item, bare, kind, depth + 1)

        if depth > DEEPEST:
            raise StorageError("The description is nested too deep", got=f"more than {DEEPEST} levels")

        if isinstance(value, list):
            return bare(map(inner, value))
        if not isinstance(value, dict):
            return value
        match value:
            case {"float": str(word)}:
                return float(word)
            case {"list": list(items)}:
                return list(map(inner, items))
            case {"tuple": list(items)}:
                return tuple(map(inner, items))
            case {"items": list(items)}:
                return {inner(key): inner(item) for key, item in items}
            case {"tensor": str(tensor)}:
                return self.tensor(tensor)
            case {"array": str(tensor)}:
                return self.tensor(tensor).numpy()
            case {"elements": list(items), "dtype": str(dtype)}:
                return _array_of(list(map(inner, items)), dtype)
            case {"part": str(part), "arguments": dict(arguments)}:
                return self.known.part(part)(**self._arguments(arguments, depth))
            case {"torch": str(module), "arguments": dict(arguments)}:
                return self.known.activation(module)(**self._arguments(arguments, depth))
            case {"estimator": str(estimator), "arguments": dict(arguments)}:
                return self.known.estimator(estimator)(**self._arguments(arguments, depth))
            case {"fitted_estimator": dict(description), "prefix": str(prefix)}:
                return self.rebuild(description, self.prefix + prefix, kind)
            case {"module": str(module)}:
                self.allocation.step()
                return self.known.module(module)
        if WORDS.isdisjoint(value):
            return {key: inner(item) for key, item in value.items()}
        raise StorageError("A value in the description is damaged", got=f"{value}"[:LONGEST])

    def _arguments(self, arguments: Mapping[str, Any], depth: int) -> dict[str, Any]:
        self.allocation.step()
        return {name: self._decoded(item, tuple, None, depth + 1) for name, item in arguments.items()}


def _array_of(items: list[Any], dtype: str) -> np.ndarray:
    """An array of text or of objects."""
    if dtype == "object":
        found = np.empty(len(items), dtype=object)
        found[:] = items
        return found
    n_letters = re.fullmatch(r"[<>=|]U(\d{1,9})", dtype)
    if n_letters is None or not all(isinstance(item, str) for item in items):
        raise StorageError("An array of text in the description is damaged", got=f"the type {dtype!r:.60}")
    if len(items) * int(n_letters[1]) > MOST_LETTERS + 16 * sum(map(len, items)):
        raise StorageError("An array of text asks for far more room than it has letters", got=f"the type {dtype!r}")
    return np.array(items, dtype=dtype)


def typed(kind: Any, value: Any, name: str) -> Any:
    """A value checked to be of a type, with the tuples and dataclasses made that the type asks for."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        found, domain = typed(inner[0], value, name), inner[1]
        if isinstance(domain, Interval | OneOf) and found not in domain:
            raise _damaged(name, value, domain)
        return found
    if origin in (Union, types.UnionType):
        return _typed_as_one_of(inner, value, name)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(typed(inner[0], item, f"{name}.{place}") for place, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {typed(inner[0], key, name): typed(inner[1], item, f"{name}.{key}") for key, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        made: Any = kind
        hints = get_type_hints(made, include_extras=True)
        return made(**{key: typed(hints.get(key), item, f"{name}.{key}") for key, item in value.items()})
    wanted: Any = (float, int) if kind is float else kind or type(None)
    if kind is float and isinstance(value, int) and abs(value) > LARGEST:
        raise _damaged(name, value, "float")
    if origin is None and isinstance(value, wanted) and not (isinstance(value, bool) and kind is not bool):
        return value
    raise _damaged(name, value, getattr(kind, "__name__", kind))


def _damaged(name: str, value: Any, wanted: object) -> StorageError:
    shown = f"{value!r:.60}" if isinstance(value, str | int | float | None) else type(value).__name__
    return StorageError(f"The value {name!r} in the description is damaged", got=f"{shown} for {wanted}")


def _typed_as_one_of(kinds: Iterable[Any], value: Any, name: str) -> Any:
    refusal: StorageError | None = None
    for kind in kinds:
        try:
            return typed(kind, value, name)
        except StorageError as error:
            refusal = error if refusal is None else refusal
    assert refusal is not None
    raise refusal
