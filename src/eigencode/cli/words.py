"""Fitted models in words, and as JSON has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from eigencode.estimators.base import BaseAutoencoder

SCALES = {
    "common": "one scale for all columns",
    "standard": "each column by its standard deviation",
    "none": "columns centred only",
}
STARTS = {"linear": "at the linear optimum of its kind", "plain": "from random weights"}


def print_facts(facts: Mapping[str, str], file: TextIO | None = None) -> None:
    """One line for each fact; on standard output by default."""
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}", file=file)


def print_json(facts: Mapping[str, Any]) -> None:
    """One line of strict JSON, in which a number that is none is null."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}
    print(json.dumps(finite, allow_nan=False))


def summary(model: BaseAutoencoder) -> dict[str, Any]:
    """A fitted model, as JSON has it; objectives are nats a row of scaled data."""
    composition, execution, baseline = model.composition_, model.execution_, model.baseline_
    is_stream = hasattr(model, "stream_state_")
    words = {name: getattr(composition, name) for name in ("code", "likelihood", "corruption", "prior")}
    return {
        "kind": type(model).__name__,
        "n_components": model.n_components_,
        "n_features_in": model.n_features_in_,
        "feature_names": fitted_names(model),
        "hidden": [int(width) for width in model.hidden_],
        "n_weights": sum(weight.numel() for weight in composition.parameters()),
        **{name: None if word is None else repr(word) for name, word in words.items()},
        "scale": model.scale_,
        "start": model.start_,
        "optimizer": model.optimizer_,
        "n_epochs": model.history_[-1]["epoch"],
        "best_epoch": model.best_epoch_,
        "judged_by": "held-out" if model.validation_fraction > 0 and not is_stream else "training",
        "objective": model.best_objective_,
        "baseline_objective": None if baseline is None else baseline.history_[0]["held_out_objective"],
        "notes": list(model.notes_),
        "seed": model.seed_,
        "precision": execution.precision,
        "device": execution.device,
        "n_threads": execution.n_threads,
    }


def outcome(facts: Mapping[str, Any]) -> dict[str, str]:
    """How a fit came out, beside the linear model of the same kind."""
    linear = facts["baseline_objective"]
    return {
        f"{facts['judged_by']} objective": f"{facts['objective']:.5g} nats a row of scaled data (lower is better)",
        "linear baseline": "no closed form is known for this kind" if linear is None else f"{linear:.5g}",
        **({"note": "; ".join(facts["notes"])} if facts["notes"] else {}),
    }


def description(facts: Mapping[str, Any]) -> dict[str, str]:
    """A fitted model, fact by fact."""
    hidden = " x ".join(map(str, facts["hidden"]))
    threads = "1 thread" if facts["n_threads"] == 1 else f"{facts['n_threads']} threads"
    return {
        "kind": facts["kind"],
        "code size": f"{facts['n_components']}, from {facts['n_features_in']} columns",
        "hidden layers": f"{hidden}, mirrored in the decoder" if hidden else "none: a linear map",
        "weights": f"{facts['n_weights']:,}",
        **{name: facts[name] for name in ("code", "likelihood", "corruption", "prior") if facts[name] is not None},
        "scale": f"{facts['scale']}: {SCALES[facts['scale']]}",
        "start": f"{facts['start']}: {STARTS[facts['start']]}",
        "training": f"{facts['n_epochs']} epochs by {facts['optimizer']}; the weights after epoch "
        f"{facts['best_epoch']} were kept",
        **outcome(facts),
        "seed": f"{facts['seed']}",
        "arithmetic": f"{facts['precision']} on {facts['device']}, {threads}",
        "columns": _enumerated(facts["feature_names"]),
        "written by": f"eigencode {facts['version']}",
    }


def fitted_names(model: BaseAutoencoder) -> list[str] | None:
    """Names of the columns a model was fitted on, where they had any."""
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else list(names)


def _enumerated(names: list[str] | None, at_most: int = 8) -> str:
    if names is None:
        return "without names: matched by place"
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
