"""Descriptions of fitted models, as printed facts and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO, cast

from eigencode.errors import enumerated
from eigencode.options import AutoencoderOptions, options_of
from eigencode.words import counted, form

if TYPE_CHECKING:
    import numpy as np

    from eigencode.estimators.anomaly import AnomalyDetector
    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.estimators.supervised import SupervisedAutoencoder
    from eigencode.model.composition import Composition
    from eigencode.parts.base import Term

SCALES = {
    "common": "one scale for all columns",
    "standard": "each column by its standard deviation",
    "none": "columns centred only",
}
MAY_BE_ANOMALIES = 0.1
"""Share of new rows that may be anomalies before a change of the normal rows is told."""

LISTED_AT_MOST = 8
"""Names of columns or classes that are printed."""

TERMS = ("code", "likelihood", "corruption", "prior", "weight_prior")
"""Terms of the formula for which a model has at most one part."""

INITS = {
    "linear": "a linear map computed from the rows",
    "random": "random weights",
    "pretrained": "layers fitted one after the other",
}


def print_facts(facts: Mapping[str, str], file: TextIO | None = None) -> None:
    """Print each fact after its name, with all its lines aligned; on standard output by default."""
    width = max(map(len, facts))
    for name, fact in facts.items():
        first, *others = fact.split("\n")
        print(f"{name:<{width}}  {first}", file=file)
        for line in others:
            print(f"{'':<{width}}  {line}", file=file)


def print_json(facts: Mapping[str, Any]) -> None:
    """Print one line of strict JSON, in which NaN and infinite numbers are null."""
    print(json.dumps(finite(facts), allow_nan=False))


def finite(value: Any) -> Any:
    """A JSON value with null for NaN and infinite numbers."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary(model: BaseAutoencoder | SupervisedAutoencoder | AnomalyDetector) -> dict[str, Any]:
    """A fitted model as a JSON object; objectives are in nats per row of scaled data."""
    if is_detector(model):
        return _detector_summary(cast("AnomalyDetector", model))
    if not is_supervised(model):
        return _summary(cast("BaseAutoencoder", model))
    supervised = cast("SupervisedAutoencoder", model)
    facts = _summary(supervised.model_)
    own = {
        "kind": type(model).__name__,
        "n_features_in": supervised.n_features_in_,
        "feature_names": fitted_names(model),
        "hidden": [int(width) for width in supervised.autoencoder_.hidden_],
        "options": own_options(model),
        "labels": supervised.classes_.tolist() if hasattr(supervised, "classes_") else supervised.n_outputs_,
        "autoencoder": type(supervised.autoencoder_).__name__,
    }
    return {**facts, **own}


def _detector_summary(model: AnomalyDetector) -> dict[str, Any]:
    known = model.unlikeness_.known
    own = {
        "kind": type(model).__name__,
        "options": own_options(model),
        "autoencoder": type(model.autoencoder_).__name__,
        "false_alarms": model.false_alarms_,
        "n_held_out": len(model.calibration_.scores),
        "guarantee": model.guarantee_,
        "n_kept": 0 if known is None else len(known.rows),
        "notes": list(model.notes_),
        "seed": model.seed_,
    }
    return {**_summary(model.autoencoder_), **own}


def is_detector(model: Any) -> bool:
    """Whether a model finds anomalies, as it says itself."""
    return bool(model.__sklearn_tags__().estimator_type == "outlier_detector")


def is_supervised(model: object) -> bool:
    """Whether a model predicts labels."""
    return hasattr(model, "predict")


def predictions(model: Any, X: Any) -> dict[str, np.ndarray]:
    """Columns of predictions for rows: labels or numbers, and the probability of each class."""
    if not hasattr(model, "classes_"):
        columns = model.predict(X).reshape(len(X), -1).T
        names = ["prediction"] if len(columns) == 1 else [f"prediction{j}" for j in range(len(columns))]
        return dict(zip(names, columns, strict=True))
    shares = model.predict_proba(X)
    named = {f"probability_{label}": share for label, share in zip(model.classes_, shares.T, strict=True)}
    return {"prediction": model.classes_[shares.argmax(1)], **named}


def _summary(model: BaseAutoencoder) -> dict[str, Any]:
    composition, execution, baseline = model.composition_, model.execution_, model.baseline_
    is_stream = hasattr(model, "stream_state_")
    terms = {name: getattr(composition, name) for name in TERMS}
    return {
        "kind": type(model).__name__,
        "n_components": model.n_components_,
        "n_features_in": model.n_features_in_,
        "n_left_out": 0 if model.columns_ is None else len(model.columns_.optional),
        "feature_names": fitted_names(model),
        "columns": None if model.columns_ is None else [column.facts for column in model.columns_.columns],
        "image_shape": list(model.image_shape_) or None,
        "hidden": [int(width) for width in model.hidden_],
        "n_weights": sum(weight.numel() for weight in composition.parameters()),
        "options": own_options(model),
        **{name: None if term is None else str(term) for name, term in terms.items()},
        "penalties": [_with_choice(penalty, composition) for penalty in composition.penalties],
        "scale": model.scale_,
        "init": model.init_,
        "optimizer": model.optimizer_,
        "n_epochs": model.history_[-1]["epoch"],
        "best_epoch": model.best_epoch_,
        "objective_of": "validation" if model._has_validation and not is_stream else "training",
        "objective": model.best_objective_,
        "baseline_objective": None if baseline is None or is_stream else baseline.history_[0]["validation_objective"],
        "is_stream": is_stream,
        "notes": list(model.notes_),
        "seed": model.seed_,
        "precision": execution.precision,
        "device": execution.device,
        "n_threads": execution.n_threads,
    }


def outcome(facts: Mapping[str, Any]) -> dict[str, str]:
    """The result of a fit, and of the linear model of the same kind."""
    linear = facts["baseline_objective"]
    beside = {"linear baseline": "there is none for this kind" if linear is None else f"{linear:.5g}"}
    return {
        f"{facts['objective_of']} objective": f"{facts['objective']:.5g} nats a row of scaled data (lower is better)",
        **({} if facts["is_stream"] else beside),  # a stream's objective is of other rows
        **({"note": "\n".join(facts["notes"])} if facts["notes"] else {}),
    }


def description(facts: Mapping[str, Any]) -> dict[str, str]:
    """A fitted model as named facts, for printing."""
    hidden = " x ".join(map(str, facts["hidden"]))
    own = facts["options"]
    return {
        "kind": facts["kind"],
        **({"options": ", ".join(f"{name}={value!r}" for name, value in own.items())} if own else {}),
        "code size": f"{facts['n_components']}, from {columns_of(facts)}",
        **({"images": _images(facts["image_shape"])} if facts["image_shape"] else {}),
        "hidden layers": f"{hidden}, mirrored in the decoder" if hidden else "none",
        **_label_facts(facts),
        **_detector_facts(facts),
        "weights": f"{facts['n_weights']:,}",
        **{name.replace("_", " "): facts[name] for name in TERMS if facts[name] is not None},
        **({"penalties": ", ".join(facts["penalties"])} if facts["penalties"] else {}),
        "scale": f"{facts['scale']}: {SCALES[facts['scale']]}",
        "init": f"{facts['init']}: {INITS[facts['init']]}",
        "training": f"up to epoch {facts['n_epochs']} by {facts['optimizer']}; the weights kept are of epoch "
        f"{facts['best_epoch']}",
        **outcome(facts),
        "seed": f"{facts['seed']}",
        "arithmetic": f"{facts['precision']} on {facts['device']}, {counted(facts['n_threads'], 'thread')}",
        "columns": _columns(facts),
        "written by": f"eigencode {facts['version']}",
    }


def columns_of(facts: Mapping[str, Any]) -> str:
    """How many columns a model was fitted to, and how many of them it does not use."""
    whole, left = counted(facts["n_features_in"], "column"), facts["n_left_out"]
    return f"{whole}, of which {left} {form(left, 'is', 'are')} left out" if left else whole


def _columns(facts: Mapping[str, Any]) -> str:
    """The columns of a frame on a line each, with what they are and why; else their names."""
    lines = [
        f"{column['name']}: {column['kind']}, {column['values']} ({column['reason']})"
        for column in facts["columns"] or ()
    ]
    return "\n".join(lines) or enumerated(
        facts["feature_names"] or ["without names: matched by position"], LISTED_AT_MOST
    )


def _label_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a model predicts, if it predicts labels."""
    if "labels" not in facts:
        return {}
    labels = facts["labels"]
    predicted = [counted(labels, "number")] if isinstance(labels, int) else [str(label) for label in labels]
    return {"predicts": enumerated(predicted, LISTED_AT_MOST), "autoencoder": facts["autoencoder"]}


def _detector_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """What a detector of anomalies promises and keeps."""
    if "false_alarms" not in facts:
        return {}
    n_kept, by = facts["n_kept"], counted(facts["n_held_out"], "row")
    return {
        "false alarms": f"{facts['false_alarms']:.3g} of normal rows, by {by} held out",
        "promise": facts["guarantee"],
        "keeps rows": f"{n_kept:,} rows of the fit, in the file too" if n_kept else "none",
        "autoencoder": facts["autoencoder"],
    }


def own_options(model: BaseAutoencoder | SupervisedAutoencoder | AnomalyDetector) -> dict[str, Any]:
    """The options that a model's kind has beyond the common ones, as JSON values."""
    cls: type = type(model)
    common = {option.name for option in options_of(AutoencoderOptions)}
    own = {option.name: getattr(model, option.name) for option in options_of(cls) if option.name not in common}
    return {name: value if _is_plain(value) else repr(value) for name, value in own.items()}


def fitted_names(model: object) -> list[str] | None:
    """Names of the columns that a model was fitted on, None if they had no names."""
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else list(names)


def _with_choice(term: Term, composition: Composition) -> str:
    """The repr of a term, with the values that it chose in fitting."""
    choice = term.describe(composition)
    return repr(term) if choice is None else f"{term!r} ({choice})"


def _is_plain(value: Any) -> bool:
    """Whether a value is one of JSON; parts and functions of users are not."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _images(shape: list[int]) -> str:
    n_channels, height, width = shape
    return f"{width}x{height} pixels, {counted(n_channels, 'channel')}"
