"""A derivative at the edge of a domain, where a slope is infinite, from a little inside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradcli.graph import DType, Graph, Node, Value
from gradcli.ops import OPS, Table
from gradcli.transform.rewrite import Rewriter

EDGED = {"Sqrt": 0, "Log": 0, "Pow": 0, "Reciprocal": 0, "Div": 1, "Mod": 1}
"""Operators with an infinite value or slope at 0, and which operand that is.

Rules are written in these, so of all other operators with an edge the slopes are made of them.
"""

ENDING = ("Sqrt", "Log", "Pow")
"""Those of them that are no numbers below 0."""


@dataclass(frozen=True)
class Inside:
    """A graph that is never at the edge of a domain.

    Attributes:
        graph: It has two inputs more, float64 scalars.
        inward: Of these, the one that stands for each 0 at an edge: a small number.
        outward: The one that stands for what is beyond: any positive number.
    """

    graph: Graph
    inward: str
    outward: str


def inside(graph: Graph, table: Table = OPS) -> Inside | None:
    """The graph with other numbers wherever an operator is at the edge of its domain, or beyond.

    Args:
        graph: A derivative graph.
        table: Cards.

    Returns:
        The graph; None where no operator has an edge.
    """
    if not any(_edged(graph, node) for node in graph.nodes):
        return None
    r = Rewriter(graph, table)
    r.adopt_inputs()
    inward, outward = (
        r.b.input(r.b.free(name), DType.FLOAT64, ()) for name in ("inward", "outward")
    )
    for node in graph.nodes:
        value = _edged(graph, node)
        if value is None:
            r.copy(node)
            continue
        x = r.env[value]
        zero = r.b.like(0.0, x)
        moved = r.b.where(r.b.op("Equal", x, zero), r.b.cast(inward, x.dtype), x)
        if _ends(graph, node):
            moved = r.b.where(x < zero, r.b.cast(outward, x.dtype), moved)
        operands = r.operands(node)
        operands[EDGED[node.op]] = moved
        r.become(node, r.place(node, operands))
    return Inside(r.finish(), inward.value.name, outward.value.name)


def _edged(graph: Graph, node: Node) -> Value | None:
    """The operand that may be 0 where the node has an edge; None where it cannot be."""
    if node.domain or node.op not in EDGED:
        return None
    value = node.inputs[EDGED[node.op]]
    if value is None or not value.dtype.is_float:
        return None
    array = graph.constants.get(value)
    if array is not None and np.all(array > 0):
        return None
    if node.op != "Pow":
        return value
    exponent = _exponent(graph, node)
    smooth = exponent is not None and np.all((exponent >= 0) & _is_whole(exponent))
    return None if smooth else value


def _ends(graph: Graph, node: Node) -> bool:
    """Whether the node is no number below 0."""
    if node.op != "Pow":
        return node.op in ENDING
    exponent = _exponent(graph, node)
    return exponent is not None and not np.any(_is_whole(exponent))


def _exponent(graph: Graph, node: Node) -> np.ndarray | None:
    """The exponent of a power, where it is known."""
    return None if node.inputs[1] is None else graph.constants.get(node.inputs[1])


def _is_whole(x: np.ndarray) -> np.ndarray:
    return np.asarray(x == np.round(x))


SHRINKS, GROWS = 0.5, 1.2
"""How a vanishing and a growing quantity change on the way: a logarithm grows by a third."""


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
