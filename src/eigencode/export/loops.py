"""Operators on matrices that ONNX does not have, as loops of ONNX; imported where onnxscript is installed."""

# mypy: ignore-errors
# onnxscript reads the loops, and never runs them.

from __future__ import annotations

from typing import Any

import torch
from onnxscript import DOUBLE, INT64, script
from onnxscript import opset18 as op


@script()
def _cholesky(a: DOUBLE) -> DOUBLE:
    """The lower Cholesky factors of matrices of shape (n, r, r), a column at a time."""
    r = op.Squeeze(op.Shape(a, start=-1))
    index = op.Range(0, r, 1)
    rest = a
    factor = a - a
    for j in range(r):
        column = op.Gather(rest, j, axis=-1)
        pivot = op.Unsqueeze(op.Sqrt(op.Gather(column, j, axis=-1)), [-1])
        column = op.Where(index < j, op.CastLike(0.0, a), column / pivot)
        tall = op.Unsqueeze(column, [-1])
        factor = factor + tall * op.CastLike(index == j, a)
        rest = rest - tall * op.Unsqueeze(column, [-2])
    return factor


@script()
def _substituted(a: DOUBLE, b: DOUBLE, order: INT64) -> DOUBLE:
    """The solutions x of a x = b for triangular matrices of shape (n, r, r), a row at a time in an order."""
    r = op.Squeeze(op.Shape(a, start=-1))
    index = op.Unsqueeze(op.Range(0, r, 1), [-1])
    rest = b
    found = b - b
    for i in range(r):
        j = op.Gather(order, i)
        row = op.Gather(rest, j, axis=-2) / op.Unsqueeze(op.Gather(op.Gather(a, j, axis=-1), j, axis=-1), [-1])
        wide = op.Unsqueeze(row, [-2])
        found = found + op.CastLike(index == j, a) * wide
        rest = rest - op.Unsqueeze(op.Gather(a, j, axis=-1), [-1]) * wide
    return found


def _cholesky_ex(a: Any, upper: bool = False, check_errors: bool = False) -> tuple[Any, Any]:
    return _cholesky(a), op.Shape(a)


def _solve_triangular(a: Any, b: Any, upper: bool = False, left: bool = True, unitriangular: bool = False) -> Any:
    r = op.Squeeze(op.Shape(a, start=-1))
    forward = op.Range(0, r, 1)
    return _substituted(a, b, r - 1 - forward if upper else forward)


TRANSLATIONS: dict[Any, Any] = {
    torch.ops.aten.linalg_cholesky_ex.default: _cholesky_ex,
    torch.ops.aten.linalg_solve_triangular.default: _solve_triangular,
}
"""Operators of torch, each with a function of ONNX."""
