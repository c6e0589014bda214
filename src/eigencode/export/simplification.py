"""Shorter graphs with the same answers: what torch's exporter does takes milliseconds for each operator of a graph."""

from __future__ import annotations

from typing import Any

import torch

aten: Any = torch.ops.aten

CHECKS = {aten._assert_tensor_metadata.default}
"""Operators that have no answer."""

IDENTITIES = {aten.detach.default, aten.detach_.default, aten.lift_fresh_copy.default}
"""Operators whose answer is their argument, where nothing is changed in place and no gradient is asked for."""

CASTS = {aten.to.device, aten.to.dtype, aten.to.dtype_layout}
"""Operators whose answer is their argument, if it has the wanted type and layout; graphs are of one device."""


def simplify_program(program: Any) -> None:
    """Leave out of a recorded program what it computes twice or for nothing; if it changes tensors in place, nothing.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        The program; it is changed.
    """
    module = program.graph_module
    graphs = [part.graph for part in module.modules() if isinstance(part, torch.fx.GraphModule)]  # loops have their own
    if any(_changes_tensors(node) for graph in graphs for node in graph.nodes):
        return
    graph, known = module.graph, dict[tuple[Any, str, str], Any]()
    for node in list(graph.nodes):
        if node.target in CHECKS:
            graph.erase_node(node)
        elif node.op == "call_function" and not _is_answer(node) and not _is_random(node):
            # As text, since 1, 1.0 and True are equal, as are 0.0 and -0.0, and operators tell them apart.
            computation = node.target, str(node.args), str(node.kwargs)
            other = node.args[0] if _is_identity(node) else known.setdefault(computation, node)
            if other is not node:
                node.replace_all_uses_with(other)
                graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()


def _changes_tensors(node: Any) -> bool:
    """Whether an operator changes an argument."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and node.target not in IDENTITIES


def _is_answer(node: Any) -> bool:
    """Whether the program returns what an operator computes: each answer has a name of its own."""
    return any(user.op == "output" for user in node.users)


def _is_random(node: Any) -> bool:
    """Whether an operator draws numbers, other ones each time."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _is_identity(node: Any) -> bool:
    """Whether an operator's answer is its argument."""
    return node.target in IDENTITIES or (node.target in CASTS and _layout(node) == _layout(node.args[0]))


def _layout(node: Any) -> tuple[torch.dtype, str]:
    """The type of the numbers of an operator's answer and its strides, which can depend on the number of rows."""
    found = node.meta["val"]
    return found.dtype, str(found.stride())


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
