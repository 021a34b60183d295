"""Write composite operators out in other operators, so that only those need rules."""

from __future__ import annotations

from collections.abc import Callable

from gradcli.errors import InternalError
from gradcli.graph import Graph, Node
from gradcli.ops import OPS, Card, Table
from gradcli.transform.rewrite import Rewriter, site


def expand(
    graph: Graph,
    which: Callable[[Node, Card], bool] = lambda _, card: card.kind == "composite",
    table: Table = OPS,
) -> Graph:
    """The graph with certain nodes replaced by their cards' expansions, to any depth.

    Args:
        graph: Any graph.
        which: Chooses the nodes to expand; by default all composite ones.
        table: Cards.
    """

    def chosen(node: Node) -> bool:
        card = table.get(node.key)
        return card is not None and card.expand is not None and which(node, card)

    while any(chosen(node) for node in graph.nodes):
        graph = _once(graph, chosen, table)
    return graph


def _once(graph: Graph, chosen: Callable[[Node], bool], table: Table) -> Graph:
    r = Rewriter(graph, table)
    r.adopt_inputs()
    for node in graph.nodes:
        if not chosen(node):
            r.copy(node)
            continue
        rule = table[node.key].expand
        if rule is None:
            raise InternalError(f"{node.key} has no expansion")
        old = site(r.b, node)
        old.inputs = tuple(r.operands(node))
        with r.b.serving(node.origin or node.name):
            r.become(node, rule(old))
    return r.finish()
