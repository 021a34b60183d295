"""What every pass that rebuilds a graph shares: walk the nodes, map old values to new ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from gradcli.graph import Builder, DType, Graph, Node, Value, Var
from gradcli.graph.dtypes import Shape
from gradcli.ops import OPS, Card, Site, Table
from gradcli.ops.control import CONTROL

Vars = Sequence[Var | None]


class Rewriter:
    """Builds a new graph along an old one. Names of values and nodes stay as they are.

    Args:
        graph: The graph to walk; its own nodes are not touched.
        table: Cards, for types and rules.

    Attributes:
        b: The Builder of the new graph.
        env: What each value of the old graph has become.
    """

    def __init__(self, graph: Graph, table: Table = OPS) -> None:
        self.old = graph
        self.table = table
        self.b = Builder(table)
        self.b.reserve(graph)
        self.env: dict[Value, Var] = {}

    def adopt_inputs(
        self, retype: Callable[[Value], tuple[DType, Shape | None]] | None = None
    ) -> None:
        """Take over inputs and constants; with `retype`, inputs get these dtypes and shapes."""
        for value in self.old.inputs:
            kind = (value.dtype, value.shape) if retype is None else retype(value)
            same = kind == (value.dtype, value.shape)
            self.env[value] = self.b.adopt_input(value if same else Value(value.name, *kind))
        for value, array in self.old.constants.items():
            self.env[value] = self.b.adopt_constant(value, array)

    def operands(self, node: Node) -> list[Var | None]:
        """The node's operands in the new graph."""
        return [None if v is None else self.env[v] for v in node.inputs]

    def copy(self, node: Node) -> None:
        """Carry a node over; the types of an unknown operator stay."""
        self.become(node, self.place(node, self.operands(node)))

    def place(self, node: Node, operands: Vars) -> Vars:
        """Put a node on these operands: the very node, if they are its own; else with new types.

        The types of an operator without a card stay.
        """
        given = [None if x is None else x.value for x in operands]
        if given == list(node.inputs) and not node.subgraphs():
            self.b.nodes.append(node)
            return [None if v is None else self.b.var(v) for v in node.outputs]
        if node.key in self.table:
            return self.b.copy(self.rebound(node), operands)
        return self.typed(node, operands, [None if v is None else v.shape for v in node.outputs])

    def typed(self, node: Node, operands: Vars, shapes: Sequence[Shape | None]) -> Vars:
        """Put a node on these operands, with results of the dtypes that it has and these shapes."""
        given = [None if x is None else x.value for x in operands]
        made = [
            None if v is None else Value(v.name, v.dtype, shape)
            for v, shape in zip(node.outputs, shapes, strict=True)
        ]
        self.b.nodes.append(self.rebound(node).on(given, made))
        return [None if v is None else self.b.var(v) for v in made]

    def rebound(self, node: Node) -> Node:
        """The node, its bodies capturing what the captured values have become."""
        new = {name: rebind(a, self.env) for name, a in node.attrs.items() if isinstance(a, Graph)}
        return replace(node, attrs={**node.attrs, **new}) if new else node

    def become(self, node: Node, results: Vars) -> None:
        """Let these values stand for the node's outputs from here on."""
        for old, new in zip(node.outputs, results, strict=False):
            if old is not None and new is not None:
                self.env[old] = new

    def finish(self) -> Graph:
        """The new graph, its outputs under the old names."""
        outputs = []
        for old in self.old.outputs:
            new = self.env[old]
            if new.value.name != old.name:
                new = Var(self.b, self.b.copy(_output(old), [new])[0].value)  # type: ignore[union-attr] # one output
            outputs.append(new)
        return self.b.graph(outputs, self.old.name)


def rebind(body: Graph, env: Mapping[Value, Var]) -> Graph:
    """A body of If, Loop or Scan that captures what its outer values have become."""
    moved = {v: env[v] for v in body.captures if v in env and env[v].value is not v}
    if not moved:
        return body

    def now(value: Value) -> Value:
        return moved[value].value if value in moved else value

    nodes = [
        replace(
            node,
            inputs=tuple(None if v is None else now(v) for v in node.inputs),
            attrs={
                k: rebind(a, moved) if isinstance(a, Graph) else a for k, a in node.attrs.items()
            },
        )
        for node in body.nodes
    ]
    return replace(
        body,
        nodes=tuple(nodes),
        outputs=tuple(map(now, body.outputs)),
        captures=tuple(dict.fromkeys(map(now, body.captures))),
    )


def _output(value: Value) -> Node:
    """An Identity node for an output; the name of the value may be another node's."""
    return replace(identity(value), name=f"{value.name}, as an output")


def identity(value: Value) -> Node:
    """An Identity node that makes a value of this name."""
    return Node("Identity", (value,), (value,), name=value.name)


def site(b: Builder, node: Node, wanted: Sequence[bool] = (), dropped: Var | None = None) -> Site:
    """A node that already stands in the Builder's graph, as its card's rules see it."""
    return Site(
        b,
        node.key,
        [None if v is None else b.var(v) for v in node.inputs],
        node.attrs,
        [None if v is None else b.var(v) for v in node.outputs],
        wanted,
        dropped,
    )


def active_values(graph: Graph, wrt: Sequence[Value], table: Table) -> set[Value]:
    """The values that a change of `wrt` can reach along operands that carry a derivative."""
    active = set(wrt)
    for node in graph.nodes:
        if any(v in active for v in carriers(node, table.get(node.key))):
            active.update(v for v in node.makes() if v.dtype.is_float)
    return active


def felt_values(graph: Graph, of: Sequence[Value], table: Table) -> set[Value]:
    """The values whose change can reach `of` along operands that carry a derivative."""
    felt = set(of)
    for node in reversed(graph.nodes):
        if any(v in felt and v.dtype.is_float for v in node.makes()):
            felt.update(carriers(node, table.get(node.key)))
    return felt


def carriers(node: Node, card: Card | None) -> Sequence[Value]:
    """Operands (and captures) of a node through which a derivative can flow."""
    if card is None:
        return [v for v in node.reads() if v.dtype.is_float]
    if card.is_flat:
        return []
    out = []
    for k, value in enumerate(node.inputs):
        if value is not None and value.dtype.is_float and operand(card, k) not in card.flat:
            out.append(value)
    for graph in node.subgraphs():
        out += [v for v in graph.captures if v.dtype.is_float]
    return out


def ending(node: Node, active: Collection[Value], card: Card | None) -> tuple[int, str] | None:
    """The operand by which a derivative comes to a node without leaving it, and why.

    None where none comes, or one leaves.
    """
    if any(v in active for v in node.makes()):
        return None
    place = next((k for k, v in enumerate(node.inputs) if v in active), None)
    return None if place is None else (place, _why_it_ends(node, place, card))


def _why_it_ends(node: Node, place: int, card: Card | None) -> str:
    if node.key in CONTROL:
        return CONTROL[node.key].reason or "its results are no floats"
    if card is None:
        return "gradcli does not know it"
    if card.kind in ("flat", "opaque"):
        return card.reason
    if not any(v.dtype.is_float for v in node.makes()):
        return "its results are no floats"
    return card.flat.get(operand(card, place), "no derivative flows through this operand")


def operand(card: Card, place: int) -> str:
    """The name of the operand at this place."""
    return card.inputs[min(place, len(card.inputs) - 1)].rstrip("?*")
