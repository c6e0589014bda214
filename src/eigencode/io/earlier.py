"""Model files of earlier formats: names that have changed since then.

A file's description is converted to the present format first, so that nothing else in the package knows an old name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = {
    "Laplace": "LaplacePrior",
    "StandardNormal": "StandardNormalPrior",
    "Revival": "AuxiliaryLoss",
    "Rectified": "ThresholdedReLU",
}
"""Parts that were renamed after format 1."""

PARAMETERS = {"start": "init"}
"""Parameters of estimators."""

ATTRIBUTES = {"start_": "init_"}
"""Fitted attributes."""

HISTORY = {"held_out_objective": "validation_objective"}
"""Keys of a row of history."""

COUNTERS = {"stale_epochs": "n_stale"}
"""Counters of a training state."""

VALUES = {("init", "plain"): "random", ("init_", "plain"): "random"}
"""Values of parameters and fitted attributes that were renamed; the parameters have their present names."""

UNSAID = {"mean_weight_": 1.0, "image_shape_": [], "pixel_range_": [], "n_validation_": None, "columns_": None}
"""Fitted attributes that the first files of format 1 do not have, with their values at that time."""

DROPPED = ".n_steps"
"""End of the names of terms' tensors that only files of format 1 have: counts of steps."""

ADDED = ".rare"
"""End of the names of terms' tensors that earlier files do not have, and that are 0 then, as in a new part."""

DERIVED = re.compile(r"\.bundles\._(columns|outputs|in_order|made)\.")
"""In the names of tensors that follow from the columns, and that earlier files have others of, or none."""

MOVED = ("penalties", "weight_prior")
"""Parts that were in the objective in the first files of format 1, and are in the composition now."""


def upgraded(value: Any, format_: int) -> Any:
    """Convert a description, or a value in one, to the present format."""
    return _upgraded(value) if format_ == 1 else value


def upgraded_tensors(tensors: Mapping[str, Tensor], format_: int) -> Mapping[str, Tensor]:
    """Leave out the tensors of a file's compositions that present ones do not have."""
    if format_ != 1:
        return tensors
    return {name: t for name, t in tensors.items() if not ("composition." in name and name.endswith(DROPPED))}


def filled(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, and those that earlier files do not have: tensors of 0, or the present ones, ``own``."""
    added = {name: value.new_zeros(value.shape) for name, value in own.items() if name.endswith(ADDED)}
    derived = {name: value for name, value in own.items() if DERIVED.search(name)}
    return added | {name: value for name, value in tensors.items() if not DERIVED.search(name)} | derived


def with_added(saved: Any, own: Mapping[str, Tensor]) -> Any:
    """The state of a run, or a value in one, with those buffers that earlier files do not have.

    ``own`` are the present buffers by name.
    """
    if not isinstance(saved, dict):
        return saved
    found = {key: with_added(item, own) for key, item in saved.items()}
    if isinstance(buffers := saved.get("buffers"), dict):
        found["buffers"] = filled(buffers, own)
    return found


def _upgraded(value: Any, is_baseline: bool = False) -> Any:
    if isinstance(value, list):
        return [_upgraded(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _upgraded(item, is_baseline=key == "baseline") for key, item in value.items()}
    found = {key: item for key, item in found.items() if not key.endswith(DROPPED)}
    match found:
        case {"part": str(name)}:
            found["part"] = CLASSES.get(name, name)
        case {"counters": dict(counters), "aside": dict()}:
            found["counters"] = {"rows": 0, "steps_in_epoch": 0, "ended_by": "epochs"} | _renamed(counters, COUNTERS)
        case {"estimator": str(), "arguments": dict(arguments)}:
            found["arguments"] = _renamed(arguments, PARAMETERS)
        case {"class": str(), "parameters": dict(parameters), "fitted": dict(fitted)}:
            found["parameters"] = _renamed(parameters, PARAMETERS)
            # The first files have a baseline only if it is the optimum.
            unsaid = UNSAID | {"has_closed_form_": is_baseline or "baseline" in found}
            history = [_renamed(row, HISTORY) for row in fitted.get("history_", [])]
            found["fitted"] = unsaid | _renamed(fitted, ATTRIBUTES) | ({"history_": history} if history else {})
            found |= _moved(found)
    return found


def _renamed(mapping: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A mapping with some keys renamed, and some values of renamed keys."""
    present = ((names.get(key, key), item) for key, item in mapping.items())
    return {key: VALUES.get((key, item), item) if isinstance(item, str) else item for key, item in present}


def _moved(model: dict[str, Any]) -> dict[str, Any]:
    """A model's description with penalties and weight prior moved from the objective to the composition."""
    match model:
        case {"objective": dict(objective), "composition": {"arguments": dict(arguments), **told}}:
            moved = {name: part for name, part in objective.items() if name in MOVED}
            left = {name: value for name, value in objective.items() if name not in MOVED}
            return {"objective": left, "composition": {**told, "arguments": arguments | moved}}
    return {}
