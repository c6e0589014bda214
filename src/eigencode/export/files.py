"""Writing graphs: ONNX and `torch.export` files, compared with the model before they are written."""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eigencode import export
from eigencode._version import __version__
from eigencode.data.writing import atomic_write, check_output, known_ending
from eigencode.errors import DataError, OptionError
from eigencode.export.choice import graph_of
from eigencode.export.graph import Graph
from eigencode.export.operators import DECOMPOSITIONS
from eigencode.export.simplification import simplify_model, simplify_program

TOLERANCE = 1e-4
"""Largest difference between a graph's answers and the model's, in units of the largest deviation in a column."""

FEW = 0.05
"""Share of rows whose answers may be a step away, by rounding, and no farther."""

LEAST_NATS = 0.1
"""Smallest deviation of scores to which differences are compared: those of a model that says nearly nothing are
differences of larger numbers, which are rounded."""

INSTALL = "Install them with: pip install 'eigencode[export]'"


def write(model: Any, path: str | os.PathLike[str], methods: Sequence[str] | str | None = None) -> None:
    """Write a fitted model as ``.onnx``, or as ``.pt2`` for `torch.export.load`, by the path's ending.

    Raises
    ------
    FileError
        If the path has another ending, or no file can be written there.
    OptionError
        If packages are missing, or an operation of the model has no counterpart.
    DataError
        If the graph's answers are not the model's.
    """
    check_output(path, WRITERS)
    graph = graph_of(model, methods)
    with quiet():
        content, answer = WRITERS[known_ending(Path(path), WRITERS)](graph)
        _compare(graph, answer)
    with atomic_write(path) as file:
        file.write(content)


def _program(graph: Graph) -> Any:
    """The graph as recorded by torch, for any number of rows."""
    example = torch.from_numpy(graph.example())
    try:
        with torch.no_grad():
            graph(example)  # what is computed once is known when the graph is recorded
            return torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except Exception as error:
        raise _refused(error) from error


def _torch_file(graph: Graph) -> tuple[bytes, Callable[[np.ndarray], Mapping[str, np.ndarray]]]:
    program, content = _program(graph), io.BytesIO()
    torch.export.save(program, content, extra_files={"eigencode.json": json.dumps(metadata(graph), allow_nan=False)})
    module = program.module()

    def answer(rows: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: found.numpy() for name, found in module(torch.from_numpy(rows)).items()}

    return content.getvalue(), answer


def _onnx_file(graph: Graph) -> tuple[bytes, Callable[[np.ndarray], Mapping[str, np.ndarray]]]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
        from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unknown
    except ImportError as error:
        raise OptionError(
            "Export to ONNX needs onnx, onnxscript and onnxruntime", got=error.msg, hint=INSTALL
        ) from None
    names, content = list(graph.methods), _onnx_content(graph)
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Unknown:  # it has some operators, as convolutions, in float32 only
        if graph.precision == torch.float32:
            raise
        graph.compute_in(torch.float32)
        return _onnx_file(graph)

    def answer(rows: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {graph.input_name: rows}), strict=True))

    return content, answer


def _onnx_content(graph: Graph) -> bytes:
    import onnx

    program = _program(graph)
    simplify_program(program)
    # The exporter replaces operators of a program once; ours are replaced with those, since each time takes seconds.
    program.run_decompositions = partial(_with_ours, program.run_decompositions)
    given: dict[str, Any] = {
        "input_names": [graph.input_name],
        "custom_translation_table": export.TRANSLATIONS,
    }
    try:
        exported: Any = torch.onnx.export(program, verbose=False, optimize=False, **given)
        simplify_model(exported.model)
        # Last: a tensor that is the answer of two methods has one name until it is simplified.
        for output, name in zip(exported.model.graph.outputs, graph.methods, strict=True):
            output.name = name
        found = exported.model_proto
    except Exception as error:
        raise _refused(error) from error
    onnx.helper.set_model_props(found, {"eigencode": json.dumps(metadata(graph), allow_nan=False)})
    content: bytes = found.SerializeToString()
    return content


def _with_ours(replace_operators: Callable[..., Any], table: Mapping[Any, Any]) -> Any:
    """A program whose operators are replaced by those of a table of the exporter and by ours, which come first."""
    return replace_operators({**table, **DECOMPOSITIONS})


WRITERS = {".onnx": _onnx_file, ".pt2": _torch_file}
"""The formats by the endings of files: each gives the file's content, and a function that answers from it."""


def metadata(graph: Graph) -> dict[str, Any]:
    """What a reader of the file has to know, as JSON values."""
    names, classes = (getattr(graph.estimator, name, None) for name in ("feature_names_in_", "classes_"))
    table = graph.columns
    names = names if table is None else [column.name for column, _ in table.parts]
    return {
        "version": __version__,
        "class": type(graph.estimator).__name__,
        "methods": list(graph.methods),
        "columns": None if names is None else list(names),
        "kinds": None if table is None else [column.kind.kind for column, _ in table.parts],
        "labels": None if table is None else table.labels,
        "window": getattr(graph.estimator, "window", None),
        "classes": None if classes is None else classes.tolist(),
        "image_shape": list(graph.autoencoder.image_shape_),
    }


def _compare(graph: Graph, answer: Callable[[np.ndarray], Mapping[str, np.ndarray]]) -> None:
    """Raise `DataError` where a file's answers are not the model's."""
    rows = graph.example()
    for name, found in answer(rows).items():
        expected = graph.expected(name, rows)
        if hasattr(graph.estimator, "classes_") and name == "predict":
            found = graph.estimator.classes_[found]
        if name in graph.with_steps:
            worst = max(float((np.abs(found - expected) > TOLERANCE).mean()) - FEW, 0.0)
        elif expected.dtype.kind != "f":
            worst = float((found != expected).mean())
        else:
            spread = np.abs(expected - np.median(expected, 0)).max(0) + 1e-30
            if name == "score_samples":
                spread = np.maximum(spread, LEAST_NATS)
            if graph.columns is None and expected.shape[1:] == graph.scaler.divisor.shape:
                spread = np.maximum(spread, graph.scaler.divisor)
            rounding = np.spacing(np.abs(expected))  # a model may answer in float32 what a graph answers in float64
            differences = (np.abs(found - expected) - rounding) / spread
            shares = np.maximum((~(differences <= TOLERANCE)).mean(0) - FEW, 0.0)  # NaN differs too
            types = graph.table.types if graph.table is not None and name in graph.of_rows else None
            has_steps = False if types is None else types.have_steps
            if types is not None:  # few rows, and these by one step at most
                widths = np.where(has_steps, types.steps(expected), 0.0) / spread
                shares = np.maximum(shares, (differences - widths).max(0))
            worst = float(np.where(has_steps, shares, differences.max(0)).max())
        if not worst <= TOLERANCE:
            raise DataError(
                f"The exported graph does not answer {name!r} as the model does",
                got=f"a difference of {worst:.2g} times the column's largest deviation",
            )


def _refused(error: Exception) -> OptionError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return OptionError(
        "This model cannot be exported: torch cannot record one of its operations",
        got=lines[0][:200],
        hint="A part of your own has to consist of torch operations that do not depend on the values of the rows",
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and messages of the exporter, which are for its own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
