"""Forward mode, graph to graph: y_dot = J x_dot, one pass in the order of the primal."""

from __future__ import annotations

from collections.abc import Sequence

from gradcli.errors import InternalError
from gradcli.graph import Builder, Graph, Value, Var, burst
from gradcli.ops import OPS, Table
from gradcli.transform.derivative import Derivative, at_node, pick, rule_card
from gradcli.transform.expand import shadowed
from gradcli.transform.rewrite import active_values, site


@burst()
def jvp(
    graph: Graph,
    wrt: Sequence[str] | None = None,
    of: Sequence[str] | None = None,
    table: Table = OPS,
    *,
    inner: bool = False,
) -> Derivative:
    """The graph that also pushes tangents forward.

    Args:
        graph: The primal.
        wrt: Names of the graph inputs that carry a tangent (default: all float ones). Each gets an
            input of its own shape called `<name>_dot`.
        of: Names of the graph outputs whose tangents are wanted (default: all float ones); they
            come out as `<name>_dot`.
        table: Cards with the rules.
        inner: Whether the tangents of the results of nodes are wanted too, of a graph without
            composites; `results` then has those by name.

    Raises:
        UnsupportedError: When an operator on the way has no rule; it names the node.
    """
    graph, twins = shadowed(graph, table)
    b = Builder(table, start=graph)
    inputs = pick(graph.inputs, wrt, "inputs")
    outputs = pick(graph.outputs, of, "outputs")
    dots: dict[Value, Var] = {}
    directions: dict[str, str] = {}
    for x in inputs:
        dots[x] = b.input(b.free(f"{x.name}_dot"), x.dtype, x.shape)
        directions[x.name] = dots[x].value.name
    active = active_values(graph, inputs, table)

    for node in graph.nodes:
        if found := [y for y in node.makes() if y in twins]:
            dots.update((y, dots[twins[y]]) for y in found if twins[y] in dots)
            continue
        if not any(v in active for v in node.makes()) or not any(v in dots for v in node.reads()):
            continue
        card = rule_card(node, table)
        if card.is_flat:
            continue
        if card.jvp is None:
            raise InternalError(f"{card.op} ({card.kind}) has no jvp rule")
        tangents = [None if v is None else dots.get(v) for v in node.inputs]
        with at_node(node), b.serving(node.origin or node.name):
            made = card.jvp(site(b, node), tangents)
        pairs = zip(node.outputs, made, strict=False)
        dots.update((y, y_dot) for y, y_dot in pairs if y is not None and y_dot is not None)

    results: dict[str, str] = {}
    ends: list[Var] = []
    for y in outputs:
        if y in dots:
            end = b.op("Identity", dots[y], name=f"{y.name}_dot")
            results[y.name] = end.value.name
            ends.append(end)
    for y in (v for node in graph.nodes if inner for v in node.makes()):
        if y in dots and y.name not in results:
            end = b.op("Identity", dots[y])
            results[y.name] = end.value.name
            ends.append(end)
    return Derivative(b.graph([*map(b.var, outputs), *ends], graph.name), directions, results)
