"""What was computed from constants, computed again: for numbers that are no floats."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gradcli.graph import Graph, Node, Value, Var
from gradcli.ops import Table
from gradcli.transform.rewrite import carriers


@dataclass
class Folded:
    """How float constants came about that a graph had to know, each rounded once to a float.

    Attributes:
        nodes: What computed them, in order.
        constants: By name, what the nodes read: value and array.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, tuple[Value, np.ndarray]] = field(default_factory=dict)

    def note(self, node: Node, operands: Sequence[Var | None], made: Sequence[Var | None]) -> None:
        """A node on constants, and the constants that stand for it now."""
        results = [None if y is None else y.value for y in made]
        if not any(v is not None and v.dtype.is_float for v in results):
            return
        for x in operands:
            if x is not None and x.const is not None:
                self.constants[x.value.name] = x.value, x.const
        self.nodes.append(node.on([None if x is None else x.value for x in operands], results))


def roots(graph: Graph, folded: Folded, table: Table) -> list[str]:
    """The folded constants of a graph that are numbers in it, and not what structure hangs on."""
    made = {v.name for node in folded.nodes for v in node.makes() if v.dtype.is_float}
    fixed: set[Value] = set()
    for node in graph.nodes:
        fixed.update(set(node.reads()) - set(carriers(node, table.get(node.key))))
        fixed.update(v for body in node.subgraphs() for v in body.captures)
    return [v.name for v in graph.constants if v.name in made and v not in fixed]


def computed(folded: Folded, names: Collection[str]) -> Graph:
    """A graph without inputs that computes these constants."""
    needed, nodes = set(names), []
    for node in reversed(folded.nodes):
        if any(v.name in needed for v in node.makes()):
            needed.update(v.name for v in node.reads())
            nodes.append(node)
    nodes.reverse()
    made = {v.name: v for node in nodes for v in node.makes()}
    known = {v.name: (v, a) for v, a in folded.constants.values() if v.name in needed - set(made)}

    def now(value: Value | None) -> Value | None:
        if value is None:
            return None
        return made[value.name] if value.name in made else known[value.name][0]

    return Graph(
        (),
        tuple(made[name] for name in names),
        tuple(node.on([now(v) for v in node.inputs], node.outputs) for node in nodes),
        dict(known.values()),
    )


def unfold(graph: Graph, part: Graph) -> Graph:
    """The graph with constants computed by the nodes of a graph without inputs, in their place."""
    stand = {v.name: v for v in graph.constants}
    taken = {v.name for v in graph.values()} - set(stand)
    ends = {v.name for v in part.outputs}
    moved: dict[Value, Value] = {}
    constants = dict(graph.constants)
    for value, array in part.constants.items():
        same = stand.get(value.name)
        if same is not None and np.array_equal(graph.constants[same], array):
            moved[value] = same
            continue
        moved[value] = replace(value, name=_free(value.name, taken, stand))
        constants[moved[value]] = array
    for value in (v for node in part.nodes for v in node.makes()):
        if value.name in ends:
            moved[value] = stand[value.name]
            del constants[stand[value.name]]
        else:
            moved[value] = replace(value, name=_free(value.name, taken, stand))
    nodes = [
        node.on(
            [None if v is None else moved[v] for v in node.inputs],
            [None if v is None else moved[v] for v in node.outputs],
        )
        for node in part.nodes
    ]
    return replace(graph, nodes=(*nodes, *graph.nodes), constants=constants)


def _free(name: str, taken: set[str], stand: Collection[str]) -> str:
    """A name that nothing bears yet."""
    while name in taken or name in stand:
        name += "'"
    taken.add(name)
    return name
