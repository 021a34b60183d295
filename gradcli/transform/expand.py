"""Write composite operators out in other operators, so that only those need rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gradcli.errors import InternalError
from gradcli.graph import Builder, Graph, Node, Value, Var
from gradcli.ops import OPS, Card, Table
from gradcli.transform.rewrite import Rewriter, site


def is_composite(_: Node, card: Card) -> bool:
    """Whether an operator has no rules of its own."""
    return card.kind == "composite"


def expand(
    graph: Graph,
    which: Callable[[Node, Card], bool] = is_composite,
    table: Table = OPS,
) -> Graph:
    """The graph with certain nodes replaced by their cards' expansions, to any depth.

    Args:
        graph: Any graph.
        which: Chooses the nodes to expand; by default all composite ones.
        table: Cards.
    """
    return written_out(graph, which, table)[0]


def written_out(
    graph: Graph, which: Callable[[Node, Card], bool] = is_composite, table: Table = OPS
) -> tuple[Graph, Mapping[Value, Value]]:
    """What `expand` makes of a graph, and what each of its values has become there."""

    def chosen(node: Node) -> bool:
        card = table.get(node.key)
        return card is not None and card.expand is not None and which(node, card)

    became = {v: v for v in graph.values()}
    while any(chosen(node) for node in graph.nodes):
        graph, env = _once(graph, chosen, table)
        became = {v: env[now].value for v, now in became.items()}
    return graph, became


def shadowed(graph: Graph, table: Table = OPS) -> tuple[Graph, Mapping[Value, Value]]:
    """The graph with composites expanded, those that stay having their expansion beside them.

    An expansion gathers, weighs and sums what the operator's own kernel does in a pass; so where
    its rules are all that is wanted of it, its result is left for `simplify` to drop.

    Returns:
        The graph, and for each result of an operator that stays the value, earlier in the graph,
        whose derivative is its own.
    """

    def stays(node: Node) -> bool:
        card = table.get(node.key)
        if card is None or card.keeps is None:
            return False
        b = Builder(table)
        b.constants.update(graph.constants)
        return card.keeps(site(b, node))

    graph = expand(graph, lambda node, card: card.kind == "composite" and not stays(node), table)
    twins: dict[Value, Value] = {}
    if not any(map(stays, graph.nodes)):
        return graph, twins
    r = Rewriter(graph, table)
    r.adopt_inputs()
    for node in graph.nodes:
        made = _expansion(r, node) if stays(node) else ()
        r.copy(node)
        results = (y if y is None else r.env[y].value for y in node.outputs)
        twins |= {y: twin.value for y, twin in zip(results, made, strict=False) if y and twin}
    return r.finish(), twins


def _once(
    graph: Graph, chosen: Callable[[Node], bool], table: Table
) -> tuple[Graph, Mapping[Value, Var]]:
    r = Rewriter(graph, table)
    r.adopt_inputs()
    for node in graph.nodes:
        if not chosen(node):
            r.copy(node)
            continue
        r.become(node, _expansion(r, node))
    return r.finish(), r.env


def _expansion(r: Rewriter, node: Node) -> Sequence[Var | None]:
    """A node of the old graph written out in the new one."""
    rule = r.table[node.key].expand
    if rule is None:
        raise InternalError(f"{node.key} has no expansion")
    old = site(r.b, node)
    old.inputs = tuple(r.operands(node))
    with r.b.serving(node.origin or node.name):
        return rule(old)
