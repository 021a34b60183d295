"""Remove what costs and says nothing: dead code, known values, repetitions, operators without effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcli.graph import Graph, Node, Value, Var, is_static
from gradcli.ops import OPS, Table
from gradcli.transform.fold import NEVER, fold
from gradcli.transform.rewrite import Rewriter


def simplify(graph: Graph, table: Table = OPS) -> Graph:
    """The same function, bit for bit on what remains, in fewer nodes. Names of outputs stay.

    Args:
        graph: Any graph.
        table: Cards.
    """
    s = _Simplifier(prune(graph), table)
    for node in s.old.nodes:
        s.visit(node)
    return prune(s.finish())


def prune(graph: Graph) -> Graph:
    """The graph without the nodes and constants that no output needs; inputs stay."""
    live = set(graph.outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if any(v in live for v in node.makes()):
            live.update(node.reads())
            nodes.append(node)
    constants = {v: a for v, a in graph.constants.items() if v in live}
    if len(nodes) == len(graph.nodes) and len(constants) == len(graph.constants):
        return graph
    return replace(graph, nodes=tuple(reversed(nodes)), constants=constants)


class _Simplifier(Rewriter):
    def __init__(self, graph: Graph, table: Table) -> None:
        super().__init__(graph, table)
        self.adopt_inputs()
        self._seen: dict[Any, int] = {}

    def visit(self, node: Node) -> None:
        operands = self.operands(node)
        same = _without_effect(node, operands, self.b.nodes)
        if same is not None:
            self.become(node, [same])
            return
        if (arrays := fold(node, operands, self.table)) is not None:
            self.become(node, [self._constant(v, a) for v, a in zip(node.outputs, arrays, strict=False)])
            return
        key = _key(node, operands)
        place = self._seen.get(key)
        if place is not None and key is not None:
            self._merge(node, place)
            return
        if key is not None:
            self._seen[key] = len(self.b.nodes)
        self.copy(node)

    def _constant(self, value: Value | None, array: np.ndarray) -> Var | None:
        return None if value is None else self.b.constant(array, value.dtype)

    def _merge(self, node: Node, place: int) -> None:
        """Let the node's twin at `place` stand for it, with such further outputs as only this one has."""
        twin = self.b.nodes[place]
        outputs = list(twin.outputs) + [None] * (len(node.outputs) - len(twin.outputs))
        for k, value in enumerate(node.outputs):
            if value is not None and outputs[k] is None:
                outputs[k] = value
        if tuple(outputs) != twin.outputs:
            self.b.nodes[place] = replace(twin, outputs=tuple(outputs))
        self.become(node, [None if v is None else self.b.var(v) for v in outputs])


def _without_effect(node: Node, operands: Sequence[Var | None], made: Sequence[Node]) -> Var | None:
    """The operand that the node hands on unchanged, if it does."""
    if node.domain or not operands or operands[0] is None:
        return None
    x, y = operands[0], node.outputs[0]
    if node.op == "Identity":
        return x
    if y is None:
        return None
    if node.op == "Cast" and x.dtype is y.dtype:
        return x
    if node.op in ("Reshape", "Expand", "Squeeze", "Unsqueeze", "Flatten", "Tile") and is_static(y.shape):
        return x if x.shape == y.shape else None
    if node.op == "Transpose" and node.attrs["perm"] == tuple(range(x.rank)):
        return x
    return None


def _key(node: Node, operands: Sequence[Var | None]) -> Any:
    """Equal for two nodes that compute the same; None for a node that must not be merged."""
    if node.op in NEVER or any(node.subgraphs()):
        return None
    values = tuple(None if x is None else x.value for x in operands)
    return node.key, values, _frozen(node.attrs)


def _frozen(attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        (k, (v.dtype.str, v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v)
        for k, v in sorted(attrs.items())
    )
