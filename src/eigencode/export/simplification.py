"""Shorter graphs with the same answers: what torch's exporter does takes milliseconds for each operator of a graph."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx.passes.dialect.common.cse_pass import CSEPass

aten: Any = torch.ops.aten

CHECKS = {aten._assert_tensor_metadata.default}
"""Operators that have no answer."""

IDENTITIES = {aten.detach.default, aten.detach_.default, aten.lift_fresh_copy.default}
"""Operators whose answer is their argument, where nothing is changed in place and no gradient is asked for."""

CASTS = {aten.to.device, aten.to.dtype, aten.to.dtype_layout}
"""Operators whose answer is their argument, if it has the wanted type; graphs are of one device."""


def simplify_program(program: Any) -> None:
    """Leave out of a recorded program what it computes twice or for nothing; if it changes tensors in place, nothing.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        The program; it is changed.
    """
    module, graph = program.graph_module, program.graph
    if any(_changes_tensors(node) for node in graph.nodes):
        return
    for node in list(graph.nodes):
        if node.target in CHECKS:
            graph.erase_node(node)
        elif node.target in IDENTITIES or (node.target in CASTS and _type(node) == _type(node.args[0])):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    simpler: Any = CSEPass()(module)
    simpler.graph_module.graph.eliminate_dead_code()
    module.graph = simpler.graph_module.graph


def _changes_tensors(node: Any) -> bool:
    """Whether an operator changes an argument."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and node.target not in IDENTITIES


def _type(node: Any) -> torch.dtype:
    """The type of the numbers of an operator's answer."""
    found: torch.dtype = node.meta["val"].dtype
    return found


def simplify_model(model: Any) -> None:
    """Compute what is constant in an ONNX model, and leave out what it computes twice or for nothing.

    The rules of `onnxscript.optimizer.optimize`, of which runtimes have their own, are not applied: their time grows
    with the square of the number of operators.

    Parameters
    ----------
    model : onnx_ir.Model
        The model; it is changed.
    """
    import onnx_ir.passes.common as passes
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    passes.InlinePass()(model)
    fold_constants(model)
    remove_unused_nodes(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.DeduplicateInitializersPass()(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.OutputFixPass()(model)
    passes.NameFixPass()(model)
