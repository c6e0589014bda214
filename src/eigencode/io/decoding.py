"""Decoding: values from JSON and tensors, checked against the types they should have."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor

from eigencode.domains import Interval, OneOf, is_optional
from eigencode.errors import StorageError
from eigencode.io.allocation import BoundedAllocation
from eigencode.io.encoding import TAGS
from eigencode.io.known import Known
from eigencode.options import check_options

DEEPEST = 100
"""Most levels of nesting in a description; a stack of ten stacks has half of that."""

MOST_LETTERS = 2**24
"""An array of text may have memory for this many more letters than it contains."""

LONGEST = 200
"""Most letters of a damaged value in an error message."""

LARGEST = 2**1023
"""The largest integer that a float can represent."""


@dataclass(frozen=True)
class Decoder:
    """Converts JSON to values, with the tensors of the file, whose names have a prefix, and the classes it may name."""

    tensors: Mapping[str, Tensor]
    known: Known
    allocation: BoundedAllocation
    device: str
    prefix: str = ""

    def model(
        self, description: Mapping[str, Any], name: str = "", kind: Any = None, required: type | None = None
    ) -> Any:
        """A fitted estimator from its JSON, which `Encoder.model` made; names of its tensors begin with ``name``.

        ``kind`` is the declared type of the attribute, whose classes may be named too; ``required`` is the class whose
        saved attributes are required, by default its own.
        """
        decoder = replace(self, prefix=self.prefix + name)
        with self.allocation:
            parameters = {key: decoder.argument(value) for key, value in description["parameters"].items()}
            model = self.known.estimator(description["class"], kind)(**parameters)
        check_options(model)
        _set_attributes(model, description["fitted"], decoder, required or type(model))
        model._restore(description, decoder)
        for misfit in model._misfits():
            raise StorageError(f"The {type(model).__name__} in the file is damaged: {misfit} does not fit the rest")
        return model

    def argument(self, value: Any) -> Any:
        """An argument of a constructor."""
        return self._decoded(value, tuple, None)

    def attribute(self, name: str, value: Any, kind: Any) -> Any:
        """A fitted attribute of a type."""
        return typed(kind, self._decoded(value, list, kind), name)

    def tensor(self, name: str) -> Tensor:
        """A tensor by its name, without the prefix."""
        if f"{self.prefix}{name}" not in self.tensors:
            raise StorageError(f"The file lacks the tensor {self.prefix + name!r}")
        return self.tensors[f"{self.prefix}{name}"]

    def tensors_of(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with a prefix, by the rest of their names."""
        whole = self.prefix + prefix
        return {name.removeprefix(whole): value for name, value in self.tensors.items() if name.startswith(whole)}

    def _decoded(self, value: Any, bare: type, kind: Any, depth: int = 0) -> Any:
        if not isinstance(value, list | dict):
            return value
        if depth > DEEPEST:
            raise StorageError("The description is nested too deep", got=f"more than {DEEPEST} levels")

        def inner(item: Any) -> Any:
            return self._decoded(item, bare, kind, depth + 1)

        if isinstance(value, list):
            return bare(map(inner, value))
        if TAGS.isdisjoint(value):
            return {key: inner(item) for key, item in value.items()}
        match value:
            case {"float": str(text)}:
                return float(text)
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
                return self.model(description, prefix, kind)
            case {"module": str(module)}:
                self.allocation.step()
                return self.known.module(module)
        raise StorageError("A value in the description is damaged", got=f"{value}"[:LONGEST])

    def _arguments(self, arguments: Mapping[str, Any], depth: int) -> dict[str, Any]:
        self.allocation.step()
        return {name: self._decoded(item, tuple, None, depth + 1) for name, item in arguments.items()}


def _set_attributes(model: Any, fitted: Mapping[str, Any], decoder: Decoder, required: Any) -> None:
    """Set the plain fitted attributes."""
    needed = required.saved_attributes()
    for name, kind in model.saved_attributes().items():
        if name in fitted:
            setattr(model, name, decoder.attribute(name, fitted[name], kind))
        elif name in needed and not is_optional(kind):
            raise StorageError(f"The description of a {type(model).__name__} lacks {name!r}")


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
        raise StorageError("An array of text asks for far more memory than it has letters", got=f"the type {dtype!r}")
    return np.array(items, dtype=dtype)


def typed(kind: Any, value: Any, name: str) -> Any:
    """Check that a value has a type, and convert lists to the type's tuples and mappings to its dataclasses."""
    if kind is Any:
        return value
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found, domain = typed(inner[0], value, name), inner[1]
        if isinstance(domain, Interval | OneOf) and found not in domain:
            raise _damaged(name, value, domain)
        return found
    if origin in (Union, types.UnionType):
        return _typed_as_one_of(inner, value, name)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(typed(inner[0], item, f"{name}.{index}") for index, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {typed(inner[0], key, name): typed(inner[1], item, f"{name}.{key}") for key, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        made: Any = kind
        hints = get_type_hints(made, include_extras=True)
        if not {field.name for field in fields(made) if _is_required(field)} <= set(value) <= set(hints):
            raise _damaged(name, str(sorted(value)), made.__name__)
        return made(**{key: typed(hints.get(key), item, f"{name}.{key}") for key, item in value.items()})
    wanted: Any = (float, int) if kind is float else kind or type(None)
    if kind is float and isinstance(value, int) and abs(value) > LARGEST:
        raise _damaged(name, value, "float")
    if origin is None and isinstance(value, wanted) and not (isinstance(value, bool) and kind is not bool):
        return value
    raise _damaged(name, value, getattr(kind, "__name__", kind))


def _is_required(field: Field[Any]) -> bool:
    """Whether a dataclass cannot be made without a field."""
    return field.init and field.default is MISSING and field.default_factory is MISSING


def _damaged(name: str, value: Any, wanted: object) -> StorageError:
    shown = f"{value!r:.60}" if isinstance(value, str | int | float | None) else type(value).__name__
    return StorageError(f"The value {name!r} in the description is damaged", got=f"{shown} for {wanted}")


def _typed_as_one_of(kinds: Iterable[Any], value: Any, name: str) -> Any:
    refusals = []
    for kind in kinds:
        try:
            return typed(kind, value, name)
        except StorageError as error:
            refusals.append(error.with_traceback(None))  # its frames would keep their callers' variables alive
    raise refusals[0]
