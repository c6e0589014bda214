"""Model files of earlier formats: what has another name, or another home, since then.

A file's description is brought up to the present format before anything of it is looked up, so nothing else in the
package knows an old name.
"""

from __future__ import annotations

from typing import Any

CLASSES = {
    "Laplace": "LaplacePrior",
    "StandardNormal": "StandardNormalPrior",
    "Revival": "AuxiliaryLoss",
    "Rectified": "ThresholdedReLU",
}
"""Parts of format 1 that have another name now."""

PARAMETERS = {"start": "init"}
"""Parameters of estimators."""

ATTRIBUTES = {"start_": "init_"}
"""Fitted attributes."""

HISTORY = {"held_out_objective": "validation_objective"}
"""Keys of a row of history."""

COUNTERS = {"stale_epochs": "n_stale"}
"""Counters of a training state."""

VALUES = {("init", "plain"): "random", ("init_", "plain"): "random"}
"""Values of parameters and fitted attributes, by the present name of these."""

UNSAID = {"mean_weight_": 1.0, "image_shape_": [], "pixel_range_": []}
"""Fitted attributes that the first files of format 1 do not have, with what they were then."""

MOVED = ("penalties", "weight_prior")
"""Parts that the first files of format 1 have in the objective, and later ones in the composition."""


def upgraded(value: Any, format_: int) -> Any:
    """A description, or any value in one, in the present format."""
    return _upgraded(value) if format_ == 1 else value


def _upgraded(value: Any, is_baseline: bool = False) -> Any:
    if isinstance(value, list):
        return [_upgraded(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _upgraded(item, is_baseline=key == "baseline") for key, item in value.items()}
    match found:
        case {"part": str(name)}:
            found["part"] = CLASSES.get(name, name)
        case {"counters": dict(counters), "aside": dict()}:
            found["counters"] = {"rows": 0} | _renamed(counters, COUNTERS)
        case {"estimator": str(), "arguments": dict(arguments)}:
            found["arguments"] = _renamed(arguments, PARAMETERS)
        case {"class": str(), "parameters": dict(parameters), "fitted": dict(fitted)}:
            found["parameters"] = _renamed(parameters, PARAMETERS)
            # The first files have a baseline only where it is the optimum.
            unsaid = UNSAID | {"has_closed_form_": is_baseline or "baseline" in found}
            history = [_renamed(row, HISTORY) for row in fitted.get("history_", [])]
            found["fitted"] = unsaid | _renamed(fitted, ATTRIBUTES) | ({"history_": history} if history else {})
            found |= _moved(found)
    return found


def _renamed(mapping: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A mapping with other names for some of its keys, and for values that go with these."""
    present = ((names.get(key, key), item) for key, item in mapping.items())
    return {key: VALUES.get((key, item), item) if isinstance(item, str) else item for key, item in present}


def _moved(model: dict[str, Any]) -> dict[str, Any]:
    """The composition and the objective of a model's description, each part where it belongs now."""
    match model:
        case {"objective": dict(objective), "composition": {"arguments": dict(arguments), **told}}:
            moved = {name: part for name, part in objective.items() if name in MOVED}
            left = {name: value for name, value in objective.items() if name not in MOVED}
            return {"objective": left, "composition": {**told, "arguments": arguments | moved}}
    return {}
