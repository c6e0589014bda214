"""Encoding: values as JSON and tensors.

Values that JSON cannot represent are objects with a special key: ``{"part": name, "arguments": ...}``, ``{"array": name
of a tensor}``, ``{"float": "nan"}`` and so on. A JSON array is a tuple in the arguments of constructors and a list in
fitted attributes; the other kind is written as ``{"list": ...}`` or ``{"tuple": ...}``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from eigencode.errors import StorageError
from eigencode.io.known import ACTIVATION_MODULES
from eigencode.options import check_options
from eigencode.parts.base import Part

TAGS = {"part", "torch", "module", "estimator", "fitted_estimator", "arguments"} | {
    "prefix", "float", "list", "tuple", "items", "tensor", "array", "elements", "dtype"
}  # fmt: skip
"""The special keys. Mappings that have such a key themselves are written as lists of pairs."""


@dataclass(frozen=True)
class Encoder:
    """Converts values to JSON; tensors and arrays are collected by their names, which begin with a prefix."""

    tensors: dict[str, Tensor]
    prefix: str = ""

    def model(self, model: Any, name: str = "") -> dict[str, Any]:
        """A fitted estimator of this package; the names of its tensors begin with ``name``."""
        check_is_fitted(model)
        encoder = replace(self, prefix=self.prefix + name)
        parameters = {key: encoder.argument(key, value) for key, value in model.get_params(deep=False).items()}
        check_options(model)
        return {
            "class": type(model).__name__,
            "parameters": parameters,
            "fitted": {key: encoder.attribute(key, value) for key, value in model._saved_values().items()},
            **model._describe(encoder),
        }

    def keep(self, tensors: Mapping[str, Tensor]) -> None:
        """Collect tensors under the given names."""
        self.tensors.update({f"{self.prefix}{name}": tensor for name, tensor in tensors.items()})

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
            items = [self._encoded(f"{name}.{index}", item, bare) for index, item in enumerate(value)]
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
            # Its state went into ``seed_``; a generator that goes on drawing is not kept.
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
        if all(isinstance(key, str) and key not in TAGS for key in value):
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
        """A part by its arguments, an activation by its constants, any other module by its class name only."""
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
        """An estimator by its arguments, a fitted one of this package with its weights and attributes."""
        if hasattr(type(estimator), "saved_attributes") and estimator.__sklearn_is_fitted__():
            return {"fitted_estimator": self.model(estimator, f"{name}."), "prefix": f"{name}."}
        arguments = estimator.get_params(deep=False)
        encoded = {key: self.argument(f"{name}.{key}", item) for key, item in arguments.items()}
        return {"estimator": type(estimator).__name__, "arguments": encoded}

    def _kept(self, name: str, tensor: Tensor) -> str:
        """Collect a tensor under a name that is not used yet, and return the name without the prefix."""
        name = f"values.{name}"  # so that it differs from the names of weights
        while f"{self.prefix}{name}" in self.tensors:
            name += "_"
        self.tensors[f"{self.prefix}{name}"] = tensor
        return name
