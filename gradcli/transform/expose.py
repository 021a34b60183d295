"""Make what is differentiated a graph input, and what is asked for a graph output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcli.errors import InternalError, UnsupportedError
from gradcli.graph import Dim, Graph, Node, Value, Var, burst
from gradcli.ops import OPS, Table
from gradcli.transform.rewrite import Rewriter, active_values, carriers


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
    names = set(wrt)
    active = active_values(graph, [v for v in graph.values() if v.name in names], table)
    out: set[str] = set()
    for node in graph.nodes:
        if any(v in active for v in carriers(node, table.get(node.key))):
            out.update(v.name for v in node.makes() if v.name in names)
    return out


@burst()
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
    needed = needed_values(graph, targets - anchors.keys(), {e.tensor for e in of})
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


def needed_values(graph: Graph, cut: set[str], ends: set[str]) -> set[Value]:
    """The values that must be computed for `ends`, when those named in `cut` are given."""
    needed = {v for v in graph.values() if v.name in ends and v.name not in cut}
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.makes()):
            needed.update(v for v in node.reads() if v.name not in cut)
    return needed


def _carry(
    r: Rewriter, node: Node, cut: Sequence[Value], anchors: Mapping[str, np.ndarray]
) -> None:
    """Copy a node with outputs that are cut: an input stands for each, or is added as an offset."""
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
        if x.value.name == element.name:
            return x
        # Where the tensor is an input too, that has its name.
        return r.b.rename(x, r.b.free(f"{element.name} (computed)"))
    b, shape = r.b, x.shape
    if shape is None:
        raise UnsupportedError(f"the rank of {element.tensor!r} is not known before the run")
    cuts = [_cut(at, dim) for at, dim in zip(element.index, shape, strict=False)]
    starts, ends, steps = (b.ints(c[k] for c in cuts) for k in range(3))
    x = b.op("Slice", x, starts, ends, b.ints(range(len(cuts))), steps)
    dropped = [axis for axis, at in enumerate(element.index) if isinstance(at, int)]
    if not dropped:
        return b.rename(x, b.free(element.name))
    return b.op("Squeeze", x, b.ints(dropped), name=element.name)


END = int(np.iinfo(np.int64).max)


def _cut(at: int | slice, dim: Dim) -> tuple[int, int, int]:
    """An index, as NumPy means it, as Slice's start, end and step."""
    if isinstance(at, int):
        return at, (at + 1 or END), 1
    if isinstance(dim, int):
        start, stop, step = at.indices(dim)
        return start, (-END if stop < 0 else stop), step
    step = 1 if at.step is None else at.step
    first, last = (0, END) if step > 0 else (END, -END)
    start, stop = (first if at.start is None else at.start), (last if at.stop is None else at.stop)
    return max(-END, min(END, start)), max(-END, min(END, stop)), max(-END, min(END, step))
