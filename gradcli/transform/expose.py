"""Make what is differentiated a graph input, and what is asked for a graph output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradcli.errors import InternalError
from gradcli.graph import Graph, Node, Value, Var
from gradcli.ops import OPS, Table
from gradcli.transform.rewrite import Rewriter, active_values


@dataclass(frozen=True)
class Element:
    """A tensor of the graph, or a part of it.

    Attributes:
        tensor: The tensor's name.
        index: One int or slice for each leading axis; empty for the whole tensor.
        label: What the graph output is called: as the user wrote it.
    """

    tensor: str
    index: tuple[int | slice, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """The name of the graph output."""
        return self.label or self.tensor


def depends(graph: Graph, wrt: Sequence[str], table: Table = OPS) -> set[str]:
    """Those of `wrt` that are computed from another of them."""
    named = {v.name: v for v in graph.values() if v.name in set(wrt)}
    out = set()
    for name, value in named.items():
        others = [v for v in named.values() if v is not value]
        if value in active_values(graph, others, table) and value not in others:
            out.add(name)
    return out


def expose(
    graph: Graph,
    wrt: Sequence[str],
    of: Sequence[Element],
    anchors: Mapping[str, np.ndarray] | None = None,
    table: Table = OPS,
) -> Graph:
    """The part of the graph from `wrt` to `of`, with just these outputs and those inputs it needs.

    A constant or an intermediate value in `wrt` becomes an input; what computed it falls away. An
    intermediate value that itself depends on another of `wrt` needs its value at the point in
    `anchors`: it becomes an offset, `computed + (input - anchor)`, so that the derivative with
    respect to the earlier tensor still counts the whole way through.

    Args:
        graph: The primal.
        wrt: Names of tensors.
        of: What becomes the outputs.
        anchors: Values at the point, for those names that `depends` gives.
        table: Cards, for types.
    """
    anchors = anchors or {}
    targets = set(wrt)
    r = Rewriter(graph, table)
    needed = _needed(graph, targets - anchors.keys(), {e.tensor for e in of})
    for value in graph.inputs:
        if value in needed or value.name in targets:
            r.env[value] = r.b.adopt_input(value)
    for value, array in graph.constants.items():
        if value.name in targets:
            r.env[value] = r.b.adopt_input(value)
        elif value in needed:
            r.env[value] = r.b.adopt_constant(value, array)
    for node in graph.nodes:
        cut = [v for v in node.makes() if v.name in targets]
        for value in cut:
            r.env[value] = r.b.adopt_input(value)
        if any(v in needed for v in node.makes()):
            if cut:
                _carry(r, node, cut, anchors)
            else:
                r.copy(node)
    return r.b.graph([_part(r, _find(graph, e.tensor), e) for e in of], graph.name)


def _needed(graph: Graph, cut: set[str], ends: set[str]) -> set[Value]:
    """The values that must be computed for `ends`, when those named in `cut` are given."""
    needed = {v for v in graph.values() if v.name in ends and v.name not in cut}
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.makes()):
            needed.update(v for v in node.reads() if v.name not in cut)
    return needed


def _carry(
    r: Rewriter, node: Node, cut: Sequence[Value], anchors: Mapping[str, np.ndarray]
) -> None:
    """Copy a node with outputs that are cut: the input stands for each, or is added as an offset."""
    renamed = [
        Value(r.b.name(f"{v.name}_computed"), v.dtype, v.shape) if v and v in cut else v
        for v in node.outputs
    ]
    made = r.b.copy(r.rebound(node.on(node.inputs, renamed)), r.operands(node))
    for old, new in zip(node.outputs, made, strict=True):
        if old is None or new is None:
            continue
        if old not in cut:
            r.env[old] = new
        elif old.name in anchors:
            r.env[old] = new + (r.env[old] - r.b.constant(anchors[old.name], old.dtype))


def _find(graph: Graph, name: str) -> Value:
    value = graph.value(name)
    if value is None:
        raise InternalError(f"no tensor {name!r} in the graph")
    return value


def _part(r: Rewriter, value: Value, element: Element) -> Var:
    """The tensor or its part as an output, under its name."""
    x = r.env[value]
    if not element.index:
        return x if x.value.name == element.name else r.b.rename(x, r.b.free(element.name))
    b = r.b
    starts, ends, dropped = [], [], []
    for axis, i in enumerate(element.index):
        if isinstance(i, int):
            starts.append(i)
            ends.append(i + 1 if i != -1 else np.iinfo(np.int64).max)
            dropped.append(axis)
        else:
            starts.append(0 if i.start is None else i.start)
            ends.append(np.iinfo(np.int64).max if i.stop is None else i.stop)
    x = b.op("Slice", x, b.ints(starts), b.ints(ends), b.ints(range(len(starts))))
    return (
        b.op("Squeeze", x, b.ints(dropped), name=element.name)
        if dropped
        else b.rename(x, element.name)
    )
