"""Live: the decoder as steps that a few lines of JavaScript take, so that a page decodes without Python.

Torch records the decoder's operations for one code. What does not depend on the code is computed here. What only moves
values, as slices, transposes and concatenations, becomes a list of positions. The rest are products of a vector and a
matrix, convolutions, and functions of single values. All values are flat lists of numbers.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from eigencode import export
from eigencode.data.tables.kinds import Kind
from eigencode.data.tables.times import UNITS, Time
from eigencode.data.tables.types import class_of
from eigencode.errors import EigencodeError
from eigencode.export.files import quiet

MOST_NUMBERS = 700_000
"""Weights of the largest decoder that a page has."""

MOST_PRODUCTS = 2 * 10**7
"""Most products of a convolution: a browser takes a tenth of a second for them."""

aten: Any = torch.ops.aten

UNARY = {
    "gelu", "sigmoid", "exp", "log1p", "expm1", "log", "relu", "tanh", "sqrt", "rsqrt", "round", "neg", "abs",
    "softplus", "floor", "erf", "reciprocal", "sin", "cos", "silu", "isnan", "logical_not",
}  # fmt: skip
"""Functions of one number, by their names in torch and in the page."""

BINARY = {
    "add", "sub", "mul", "div", "maximum", "minimum", "ge", "gt", "le", "lt", "eq", "pow", "logical_and", "logical_or",
}  # fmt: skip
"""Functions of two numbers."""

MOVING = {
    "view", "reshape", "_unsafe_view", "clone", "_to_copy", "permute", "transpose", "t", "unsqueeze", "squeeze",
    "select", "slice", "expand", "alias", "detach", "flip", "index_select", "repeat",
}  # fmt: skip
"""Operations that only move values."""

REDUCING = {"sum", "mean", "prod", "amax", "amin", "argmax"}

FEW = 4096
"""Constants of at most so many numbers are kept in float64: the units of times and amounts take its digits."""


class NotLiveError(Exception):
    """The decoder has an operation that the page does not know, or is too large."""


def steps(model: Any) -> dict[str, Any]:
    """The steps from a code to a row, as JSON values.

    Parameters
    ----------
    model : autoencoder
        A fitted one.

    Returns
    -------
    dict
        ``steps``: lists with the name of an operation and its arguments, where a number is the result of the step of
        this number, counted from 1, 0 is the code, and a text as "c3" is a constant; ``constants``: for each its bytes
        a number, 4 or 8, and base64; ``output``: the number of the last step; ``columns``, ``kinds``, ``labels``: what
        the row's numbers are.

    Raises
    ------
    NotLiveError
        With the reason.
    """
    try:
        graph = export.graph_of(model, "inverse_transform")
        example = torch.from_numpy(graph.example()[:1]).double()
        with torch.no_grad(), quiet():
            program = torch.export.export(graph, (example,)).run_decompositions()
    except (EigencodeError, RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        raise NotLiveError(str(error).splitlines()[0]) from error
    recorder = Recorder(program.graph_module, program)
    output = recorder.record(example)
    return {**recorder.as_json(output), **_meaning(model, graph)}


def _meaning(model: Any, graph: Any) -> dict[str, Any]:
    """What the numbers of a row are."""
    if graph.columns is None:
        names = getattr(model, "feature_names_in_", None)
        if names is None:  # names of a frame may be numbers
            names = model.columns_.names if model.columns_ else [f"x{number}" for number in range(graph.n_columns)]
        return {"columns": list(map(str, names)), "kinds": ["real"] * len(names), "labels": {}}
    parts = [column for column, _ in graph.columns.parts]
    kinds = ["date" if _is_date(column.kind) else column.kind.kind for column in parts]
    labels = {str(name): labels for name, labels in graph.columns.labels.items()}
    binary = [column for column in parts if column.kind.kind == "boolean" and class_of(column.arrow) == "number"]
    labels |= {str(column.name): ["0", "1"] for column in binary}
    return {"columns": [str(column.name) for column in parts], "kinds": kinds, "labels": labels}


def _is_date(kind: Kind) -> bool:
    """Whether a column has whole days."""
    return isinstance(kind, Time) and kind.unit == UNITS[0]


class Recorder:
    """Follows a recorded program with one code, and writes down the steps that depend on it."""

    def __init__(self, module: fx.GraphModule, program: Any) -> None:
        self.module, self.program = module, program
        self.constants: list[np.ndarray] = []
        self.taken: list[tuple[list[Any], int]] = []
        self.known: dict[fx.Node, Any] = {}
        self.at: dict[fx.Node, int] = {}
        """For each node that depends on the code, the number of the step that gives it; 0 is the code."""
        self.parts: dict[fx.Node, list[int]] = {}
        """The same for tensors that are split."""

    def record(self, code: Tensor) -> int:
        """Take all steps; return the number of the last one's result."""
        inputs = iter(self.program.graph_signature.input_specs)
        output = -1
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self._take_input(node, next(inputs), code)
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                (result,) = node.args[0]
                output = self.at[result]
        return output

    def _take_input(self, node: fx.Node, spec: Any, code: Tensor) -> None:
        kinds = type(spec.kind)
        if spec.kind == kinds.USER_INPUT:
            self.known[node], self.at[node] = code, 0
        else:
            held = self.program.state_dict if spec.target in self.program.state_dict else self.program.constants
            self.known[node] = held[spec.target].detach()

    def _call(self, node: fx.Node) -> None:
        values = fx.node.map_arg((node.args, node.kwargs), lambda given: self.known[given])
        with torch.no_grad():
            self.known[node] = found = node.target(*values[0], **values[1])  # type: ignore[operator]
        moving = [given for given in node.all_input_nodes if given in self.at or given in self.parts]
        name = getattr(node.target, "__name__", "").partition(".")[0]
        if not moving or name == "_assert_tensor_metadata":
            return
        if name == "getitem":
            self.at[node] = self.parts[moving[0]][node.args[1]]  # type: ignore[index]
        elif isinstance(found, Tensor):
            self.at[node] = self._step(name, node, values, found)
        else:
            numbers = torch.arange(self.known[moving[0]].numel()).view(self.known[moving[0]].shape)
            parts = node.target(numbers, *node.args[1:], **node.kwargs)  # type: ignore[operator]
            self.parts[node] = [self._gathered(self.at[moving[0]], part) for part in parts]

    def _step(self, name: str, node: fx.Node, values: Any, found: Tensor) -> int:
        handler: Callable[..., int] | None = getattr(self, f"_{name.lstrip('_')}_step", None)
        if handler is not None:
            return handler(node, values, found)
        if name in MOVING:
            return self._moved(node, values, found)
        if name in UNARY:
            return self._emit([name, self._flat(node.args[0], found)], found.numel())
        if name in BINARY:
            first, second = node.args[0], node.args[1] if len(node.args) > 1 else node.kwargs["other"]
            if node.kwargs.get("alpha", 1) != 1:
                raise NotLiveError("an addition with a factor")
            number = self._emit([name, self._flat(first, found), self._flat(second, found)], found.numel())
            is_whole = node.kwargs.get("rounding_mode") == "floor"
            return self._emit(["floor", number], found.numel()) if is_whole else number
        if name in REDUCING:
            return self._reduced(name, node, found)
        raise NotLiveError(f"the operation {name}")

    def _emit(self, step: list[Any], size: int) -> int:
        self.taken.append((step, size))
        return len(self.taken)

    def _constant(self, value: Any, like: Tensor) -> str:
        """A constant of a shape, by its number."""
        tensor = torch.as_tensor(value, dtype=torch.float64)
        flat = tensor.expand(like.shape).reshape(-1) if tensor.numel() > 1 else tensor.reshape(-1)
        self.constants.append(flat.numpy())
        return f"c{len(self.constants) - 1}"

    def _flat(self, given: Any, like: Tensor) -> Any:
        """An operand, of the result's shape: the number of a step, or a constant."""
        if isinstance(given, fx.Node) and given in self.at:
            number, own = self.at[given], self.known[given]
            if own.shape == like.shape or own.numel() == 1:
                return number
            return self._gathered(number, torch.arange(own.numel()).view(own.shape).expand(like.shape))
        return self._constant(self.known[given] if isinstance(given, fx.Node) else given, like)

    def _gathered(self, number: int, positions: Tensor) -> int:
        flat = positions.reshape(-1).tolist()
        if flat == list(range(len(flat))) and (number == 0 or self.taken[number - 1][1] == len(flat)):
            return number
        return self._emit(["gather", number, flat], len(flat))

    def _moved(self, node: fx.Node, values: Any, found: Tensor) -> int:
        (source,) = (given for given in node.all_input_nodes if given in self.at)
        own = self.known[source]
        numbers = torch.arange(own.numel()).view(own.shape)
        options = {key: value for key, value in values[1].items() if key not in ("dtype", "device", "memory_format")}
        if node.target is aten._to_copy.default:
            return self.at[source]
        return self._gathered(self.at[source], node.target(numbers, *values[0][1:], **options))  # type: ignore[operator]

    def _cat_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        first, positions, parts = 0, [], []
        joining: Any = node.args[0]
        for given in joining:
            own = self.known[given]
            positions.append(torch.arange(first, first + own.numel()).view(own.shape))
            parts.append(self._flat(given, own))
            first += own.numel()
        joined = self._emit(["concat", *parts], first)
        return self._gathered(joined, torch.cat(positions, *values[0][1:], **values[1]))

    def _mm_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        x, matrix = node.args
        if x not in self.at or matrix in self.at or found.shape[0] != 1:
            raise NotLiveError("a product of two values that depend on the code")
        weights = self.known[matrix].double()  # type: ignore[index]
        return self._product(self.at[x], weights)  # type: ignore[index]

    def _product(self, number: int, weights: Tensor) -> int:
        n_in, n_out = weights.shape
        self.constants.append(weights.reshape(-1).numpy())
        return self._emit(["product", number, f"c{len(self.constants) - 1}", n_in, n_out], n_out)

    def _addmm_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        bias, x, matrix = node.args[:3]
        if x not in self.at or matrix in self.at or found.shape[0] != 1 or node.kwargs:
            raise NotLiveError("a product of two values that depend on the code")
        product = self._product(self.at[x], self.known[matrix].double())  # type: ignore[index]
        return self._emit(["add", product, self._flat(bias, found)], found.numel())

    def _clamp_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        low, high = (*values[0][1:], None, None)[:2]
        low, high = values[1].get("min", low), values[1].get("max", high)
        number = self._flat(node.args[0], found)
        for name, end in (("maximum", low), ("minimum", high)):
            if end is not None:
                number = self._emit([name, number, self._constant(end, found)], found.numel())
        return int(number)

    _clamp_min_step = _clamp_max_step = _clamp_step

    def _where_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        return self._emit(["where", *(self._flat(given, found) for given in node.args)], found.numel())

    def _leaky_relu_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        slope = values[0][1] if len(values[0]) > 1 else 0.01
        number = self._flat(node.args[0], found)
        steep = self._emit(["mul", number, self._constant(slope, found)], found.numel())
        return self._emit(["maximum", number, steep], found.numel())

    def _elu_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        if len(values[0]) > 1 and tuple(values[0][1:]) != (1.0,):
            raise NotLiveError("an ELU with a factor")
        return self._emit(["elu", self._flat(node.args[0], found)], found.numel())

    def _softmax_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        dim = values[0][1] % found.ndim
        order = torch.arange(found.numel()).view(found.shape).movedim(dim, -1)
        moved = self._gathered(self._flat(node.args[0], found), order)
        done = self._emit(["softmax", moved, found.shape[dim]], found.numel())
        return self._gathered(done, order.reshape(-1).argsort().view(found.shape))

    def _log_softmax_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        return self._emit(["log", self._softmax_step(node, values, found)], found.numel())

    def _reduced(self, name: str, node: fx.Node, found: Tensor) -> int:
        own = self.known[node.args[0]]  # type: ignore[index]
        dims: Any = node.args[1] if len(node.args) > 1 else None
        given: Any = range(own.ndim) if dims is None else dims
        dims = [given] if isinstance(given, int) else list(given)
        order = torch.arange(own.numel()).view(own.shape).movedim(dims, list(range(-len(dims), 0)))
        width = int(np.prod([own.shape[dim] for dim in dims]))
        moved = self._gathered(self._flat(node.args[0], own), order)
        return self._emit([name, moved, width], found.numel())

    def _convolution_step(self, node: fx.Node, values: Any, found: Tensor) -> int:
        x, weight, bias, stride, padding, dilation, transposed, _, groups = values[0]
        source = node.args[0]
        if source not in self.at or groups != 1 or list(dilation) != [1, 1] or x.ndim != 4:
            raise NotLiveError("a convolution with groups or dilation")
        if weight.numel() * (x if transposed else found).shape[2:].numel() > MOST_PRODUCTS:
            raise NotLiveError("a convolution of too many products")
        self.constants.append(weight.double().reshape(-1).numpy())
        sizes = [*x.shape[1:], *found.shape[1:], *weight.shape[2:], *stride, *padding]
        name = "convolve_transposed" if transposed else "convolve"
        step = [name, self.at[source], f"c{len(self.constants) - 1}", *map(int, sizes)]  # type: ignore[index]
        number = self._emit(step, found.numel())
        if bias is None:
            return number
        return self._emit(["add", number, self._constant(bias.view(1, -1, 1, 1), found)], found.numel())

    def as_json(self, output: int) -> dict[str, Any]:
        """The steps, and their constants as one text."""
        n_numbers = sum(map(len, self.constants))
        if n_numbers > MOST_NUMBERS:
            raise NotLiveError(f"its decoder has {n_numbers:,} weights, and a page at most {MOST_NUMBERS:,}")
        constants = [_text(constant, "<f8" if len(constant) <= FEW else "<f4") for constant in self.constants]
        return {"constants": constants, "steps": [step for step, _ in self.taken], "output": output}


def _text(constant: np.ndarray, kind: str) -> list[Any]:
    """An array as bytes a number, and base64."""
    return [np.dtype(kind).itemsize, base64.b64encode(constant.astype(kind).tobytes()).decode()]
