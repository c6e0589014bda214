"""Which graph a model has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sklearn.base import is_outlier_detector

from eigencode.errors import OptionError
from eigencode.export.detector import DetectorGraph
from eigencode.export.graph import AutoencoderGraph, DecoderGraph, Graph, LabelGraph


def graph_of(estimator: Any, methods: Sequence[str] | str | None = None) -> Graph:
    """The graph of some methods of a fitted model, by default of all that take rows."""
    wanted = None if methods is None else _named(methods)
    if hasattr(estimator, "model_"):
        return LabelGraph(estimator, wanted or [name for name in LabelGraph.known if hasattr(estimator, name)])
    if is_outlier_detector(estimator):
        return DetectorGraph(estimator, wanted or DetectorGraph.known)
    if not hasattr(estimator, "composition_"):
        raise OptionError(f"This estimator cannot be exported: {type(estimator).__name__}")
    is_decoder = wanted is not None and set(wanted) == set(DecoderGraph.known)
    graph = DecoderGraph if is_decoder else AutoencoderGraph
    return graph(estimator, wanted or graph.known)


def _named(methods: Any) -> list[str]:
    """The names of methods, each once; `OptionError` if there are none."""
    names = [methods] if isinstance(methods, str) else list(methods) if isinstance(methods, Iterable) else []
    if not names or not all(isinstance(name, str) for name in names):
        hint = "Give names, as methods=['transform'], or leave it out for all"
        raise OptionError("'methods' must be the names of methods", got=f"{methods!r}", hint=hint)
    return list(dict.fromkeys(names))
