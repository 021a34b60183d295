"""Batch the directions of a derivative graph: a leading axis that only linear operands carry."""

from __future__ import annotations

from collections.abc import Collection

from gradcli.errors import CannotError
from gradcli.graph import Graph, Value, burst
from gradcli.ops import OPS, Table
from gradcli.transform.derivative import at_node
from gradcli.transform.rewrite import Rewriter, site

BATCH = "directions"
"""The symbol of the leading axis, when its size is left open."""


@burst()
def vmap(
    graph: Graph, batched: Collection[str], size: int | str = BATCH, table: Table = OPS
) -> Graph:
    """The graph applied to many directions at once, the primal computed once at its own size.

    Args:
        graph: A derivative graph.
        batched: Names of the inputs that get a leading axis: directions, in which the graph is
            linear.
        size: The size of that axis, or a symbol.
        table: Cards with the batching rules.

    Returns:
        The graph whose outputs that depend on those inputs carry the leading axis too. An output
        that does not depend on them is as before.

    Raises:
        CannotError: When an operator cannot carry such an axis; it names the node.
    """
    r = Rewriter(graph, table)
    names = set(batched)
    carrying: set[Value] = {v for v in graph.inputs if v.name in names}
    r.adopt_inputs(
        lambda v: (v.dtype, v.shape if v.name not in names or v.shape is None else (size, *v.shape))
    )
    for node in graph.nodes:
        if not any(v in carrying for v in node.reads()):
            r.copy(node)
            continue
        card = table.get(node.key)
        if card is None or card.batch is None:
            raise CannotError(
                f"node {node.name!r}: {node.key} cannot carry several directions at once"
            )
        s = site(r.b, node)
        s.inputs = tuple(r.operands(node))
        marks = [v is not None and v in carrying for v in node.inputs]
        try:
            with at_node(node), r.b.serving(node.origin):
                made = card.batch(s, marks)
        except NotImplementedError as error:
            raise CannotError(f"node {node.name!r} ({node.key}): {error}") from error
        r.become(node, made)
        if not card.is_flat:  # the shape of a batched value is that of one direction's share
            carrying.update(node.makes())
    return r.finish()
