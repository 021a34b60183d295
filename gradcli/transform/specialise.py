"""Fix the shapes of a graph to those of given inputs, and compute what follows from them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradcli.errors import ModelError
from gradcli.graph import Graph, Node, Value, Var
from gradcli.graph.dtypes import DType, Shape
from gradcli.ops import OPS, Table
from gradcli.transform.fold import fold
from gradcli.transform.rewrite import Rewriter

SMALL = 1 << 16
"""Bytes up to which floats are folded too: scales and sizes computed on the way to a shape."""


def specialise(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    values: Mapping[str, np.ndarray] | None = None,
    table: Table = OPS,
) -> Graph:
    """The graph for inputs of these shapes: every type inferred anew, shape arithmetic done.

    What the file declares of shapes is dropped: only what the cards infer counts. Names of values and
    nodes stay; a computed value becomes a constant of its own name.

    Args:
        graph: The graph as read.
        shapes: By input name.
        values: Inputs that become constants: integers that structure may hang on.
        table: Cards. A node without one is carried over as it is.

    Raises:
        ModelError: When shapes do not fit together; it names the node.
    """
    values = values or {}
    r = Rewriter(graph, table)

    def retype(v: Value) -> tuple[DType, Shape | None]:
        return v.dtype, shapes.get(v.name, v.shape)

    r.adopt_inputs(retype)
    for value in graph.inputs:
        if value.name in values:
            _fix(r, value, values[value.name])
    for node in graph.nodes:
        arrays = fold(node, r.operands(node), table, SMALL)
        if arrays is not None:
            r.become(node, [_named(r, v, a) for v, a in zip(node.outputs, arrays, strict=False)])
        elif node.key in table:
            _copy(r, node)
        else:
            _carry(r, node)
    return r.finish()


def _fix(r: Rewriter, value: Value, array: np.ndarray) -> None:
    r.b.inputs = [v for v in r.b.inputs if v.name != value.name]
    fixed = np.ascontiguousarray(array).astype(value.dtype.np)
    fixed.setflags(write=False)
    r.env[value] = r.b.adopt_constant(Value(value.name, value.dtype, fixed.shape), fixed)


def _named(r: Rewriter, value: Value | None, array: np.ndarray) -> Var | None:
    """A constant under the value's own name, so that it can still be found."""
    if value is None:
        return None
    array = np.array(array)
    array.setflags(write=False)
    return r.b.adopt_constant(Value(value.name, value.dtype, array.shape), array)


def _copy(r: Rewriter, node: Node) -> None:
    try:
        r.copy(node)
    except (ValueError, IndexError, AssertionError) as error:
        shapes = ", ".join("absent" if x is None else str(x.shape) for x in r.operands(node))
        raise ModelError(
            f"node {node.name!r} ({node.key}) cannot take operands of shape {shapes}: {error}",
            "check that the inputs have the shapes that the model was made for",
        ) from error


def _carry(r: Rewriter, node: Node) -> None:
    """A node without a card, with the types that the file gave it."""
    operands = [None if x is None else x.value for x in r.operands(node)]
    outputs = tuple(
        None if v is None else Value(v.name, v.dtype, None) for v in node.outputs
    )
    carried = Node(
        node.op, tuple(operands), outputs, node.attrs, node.domain, node.name, node.origin
    )
    r.b.emit(carried)
    r.become(node, [None if v is None else r.b.var(v) for v in outputs])
