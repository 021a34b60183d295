"""A derivative at the edge of a domain, where a slope is infinite, from a little inside it."""

from __future__ import annotations

import numpy as np

from gradcli.graph import Graph, Node, Value, Var
from gradcli.ops import OPS, Table
from gradcli.transform.rewrite import Rewriter

EDGED = {"Sqrt": 0, "Log": 0, "Reciprocal": 0, "Div": 1, "Pow": 0}
"""Operators with an infinite value or slope at 0, and which operand that is.

Rules are written in these, so of all other operators with an edge the slopes are made of them.
"""


def inside(graph: Graph, table: Table = OPS) -> tuple[Graph, str] | None:
    """The graph with an input more, a small number that stands for 0 wherever a slope is infinite.

    Args:
        graph: A derivative graph.
        table: Cards.

    Returns:
        The graph and the name of that input, a float64 scalar; None where no operator has an edge.
    """
    if not any(_edged(graph, node) for node in graph.nodes):
        return None
    r = Rewriter(graph, table)
    r.adopt_inputs()
    inward = r.b.input(r.b.free("inward"), r.b.constant(0.0).dtype, ())
    moved: dict[Value, Var] = {}
    for node in graph.nodes:
        value = _edged(graph, node)
        if value is None:
            r.copy(node)
            continue
        if value not in moved:
            x = r.env[value]
            at_edge = r.b.op("Equal", x, r.b.like(0.0, x))
            moved[value] = r.b.where(at_edge, r.b.cast(inward, x.dtype), x)
        operands = r.operands(node)
        operands[EDGED[node.op]] = moved[value]
        r.become(node, r.place(node, operands))
    return r.finish(), inward.value.name


def _edged(graph: Graph, node: Node) -> Value | None:
    """The operand that may be 0 where the node has an edge; None where it cannot be."""
    if node.domain or node.op not in EDGED:
        return None
    value = node.inputs[EDGED[node.op]]
    if value is None or not value.dtype.is_float:
        return None
    array = graph.constants.get(value)
    if array is not None and np.all(array):
        return None
    return None if node.op == "Pow" and _is_polynomial(graph, node.inputs[1]) else value


def _is_polynomial(graph: Graph, exponent: Value | None) -> bool:
    """Whether powers to this exponent are smooth everywhere."""
    array = None if exponent is None else graph.constants.get(exponent)
    return array is not None and bool(np.all((array >= 0) & (array == np.round(array))))


def limit(far: np.ndarray, near: np.ndarray, tolerance: float) -> np.ndarray:
    """What a quantity comes to on the way to an edge, from its values there and still nearer.

    Args:
        far: At some distance.
        near: At a part of that distance.
        tolerance: By how much, relatively, what does not change may differ.

    Returns:
        The value where it stays, 0 where it vanishes, an infinity where it grows; else NaN.
    """
    with np.errstate(all="ignore"):
        growth = near / far
        stays = np.abs(near - far) <= tolerance * np.abs(near)
        shrinks = (growth >= 0.0) & (growth <= SHRINKS)
        grows = (growth >= GROWS) | ~np.isfinite(near) & (growth > 0.0)
    ends = [near, np.zeros_like(near), np.copysign(np.inf, near)]
    return np.asarray(np.select([stays, shrinks, grows], ends, np.nan), near.dtype)


SHRINKS = 0.5
GROWS = 1.2
"""How a vanishing and a growing quantity change on the way: a logarithm grows by a third."""
