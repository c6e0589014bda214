"""The classes that a model file may name. Loading a file makes objects of these only, and imports nothing."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from sklearn.base import BaseEstimator
from torch import nn

from eigencode import parts
from eigencode.errors import OptionError, StorageError
from eigencode.model.composition import Composition

ACTIVATION_MODULES = {name: getattr(nn, name) for name in [*nn.modules.activation.__all__, "Identity"]}
"""Torch's activations."""


class Known:
    """The classes that a file may name: this package's parts and estimators, torch's activations, and the caller's.

    ``given`` has the caller's part and estimator classes, and instances of torch modules.
    """

    def __init__(self, given: Iterable[Any], estimators: Mapping[str, type]) -> None:
        own = {name: getattr(parts, name) for name in dir(parts)}
        self.parts: dict[str, Any] = {name: part for name, part in own.items() if issubclass(part, parts.Part)}
        self.parts["Composition"] = Composition
        self.estimators: dict[str, Any] = dict(estimators)
        self.modules: dict[str, list[nn.Module]] = {}
        self._taken: Counter[str] = Counter()
        if not isinstance(given, Iterable) or isinstance(given, str):
            raise OptionError("'parts' must be a list", got=f"{given!r}", hint="Write parts=[...] around the classes")
        for item in given:
            if isinstance(item, nn.Module):
                self.modules.setdefault(type(item).__name__, []).append(item)
            elif isinstance(item, type) and issubclass(item, nn.Module):
                self.parts[item.__name__] = item
            elif isinstance(item, type) and issubclass(item, BaseEstimator):
                self.estimators[item.__name__] = item
            else:
                what = "'parts' must be classes of parts or estimators, or instances of torch modules"
                raise OptionError(what, got=f"{item!r}")

    def part(self, name: str) -> Any:
        """A part's class."""
        return _named(self.parts, name, "part", f"parts=[{name}]")

    def activation(self, name: str) -> Any:
        """The class of an activation."""
        return _named(ACTIVATION_MODULES, name, "torch module", f"parts=[{name}(...)]")

    def estimator(self, name: str, kind: Any = None) -> Any:
        """An estimator's class: a known one, or one in the declared type ``kind`` of the attribute."""
        return _named(self.estimators | dict(_classes_of(kind)), name, "estimator", f"parts=[{name}]")

    def module(self, name: str) -> nn.Module:
        """A copy of an instance; those of one class are taken in the order given, encoder before decoder."""
        instances = _named(self.modules, name, "module", f"parts=[{name}(...)]")
        index = self._taken[name] % len(instances)
        self._taken[name] += 1
        return copy.deepcopy(instances[index])


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
            hint=f"If it is your own, load with {wanted}",
        )
    return known[name]
