"""Euclidean norms that a file spells out: one operator each, whose derivative at zero is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcli.graph import Graph, Node, Value
from gradcli.transform.simplify import prune


def join_norms(graph: Graph) -> Graph:
    """The same function, with every Sqrt of a sum of squares as ReduceL2.

    At a vector of zeros the chain rule multiplies the root's infinite slope by 0, which is NaN,
    where the norm has a kink, and where x - x, as between a point and itself, has slope 0.

    Args:
        graph: Any graph; names of nodes and of the values that stay are kept.
    """
    makers = graph.producers()
    nodes = tuple(_joined(graph, makers, node) for node in graph.nodes)
    return graph if nodes == graph.nodes else prune(replace(graph, nodes=nodes))


def _joined(graph: Graph, makers: dict[Value, Node], node: Node) -> Node:
    total = makers.get(node.inputs[0]) if node.key == "Sqrt" and node.inputs[0] else None
    if total is None or total.key not in ("ReduceSum", "ReduceSumSquare"):
        return node
    if total.attrs["noop_with_empty_axes"]:
        return node
    x = total.inputs[0]
    if total.key == "ReduceSum":
        square = None if x is None else makers.get(x)
        x = None if square is None else _squared(graph, square)
    if x is None or not x.dtype.is_float:
        return node
    return replace(node, op="ReduceL2", inputs=(x, *total.inputs[1:]), attrs=total.attrs)


def _squared(graph: Graph, node: Node) -> Value | None:
    """x, where this node is x * x or x to the power of 2."""
    if node.key not in ("Mul", "Pow"):
        return None
    x, other = node.inputs
    if node.key == "Mul":
        return x if x is other else None
    power = None if other is None else graph.constants.get(other)
    return x if power is not None and power.size == 1 and bool(np.all(power == 2)) else None
