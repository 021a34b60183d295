"""Reverse mode, graph to graph: x_bar = y_bar J, one pass against the order of the primal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from gradcli.errors import InternalError
from gradcli.graph import Builder, Graph, Value, Var, burst
from gradcli.ops import OPS, Table
from gradcli.transform.derivative import Derivative, at_node, pick, rule_card
from gradcli.transform.expand import shadowed
from gradcli.transform.rewrite import active_values, site


@burst()
def vjp(
    graph: Graph,
    wrt: Sequence[str] | None = None,
    of: Sequence[str] | None = None,
    table: Table = OPS,
    *,
    inner: bool = False,
) -> Derivative:
    """The graph that also pulls cotangents back.

    Args:
        graph: The primal.
        wrt: Names of the graph inputs whose cotangents are wanted (default: all float ones); they
            come out as `<name>_bar`.
        of: Names of the graph outputs that carry a cotangent (default: all float ones). Each gets
            an input of its own shape called `<name>_bar`.
        table: Cards with the rules.
        inner: Whether what comes back to the results of nodes is wanted too, of a graph without
            composites; `results` then has those by name.

    Raises:
        UnsupportedError: When an operator on the way has no rule; it names the node.
    """
    graph, twins = shadowed(graph, table)
    b = Builder(table, start=graph)
    inputs = pick(graph.inputs, wrt, "inputs")
    outputs = pick(graph.outputs, of, "outputs")
    active = active_values(graph, inputs, table)
    bars: dict[Value, list[Var]] = {}
    drops: dict[Value, list[Var | None]] = {}
    directions: dict[str, str] = {}
    met: dict[Value, Var] = {}
    for y in outputs:
        y_bar = b.input(b.free(f"{y.name}_bar"), y.dtype, y.shape)
        directions[y.name] = y_bar.value.name
        bars.setdefault(y, []).append(y_bar)
        drops.setdefault(y, []).append(None)

    for node in reversed(graph.nodes):
        if found := [y for y in node.makes() if y in twins]:
            for y in found:
                bars.setdefault(twins[y], []).extend(bars.pop(y, ()))
                drops.setdefault(twins[y], []).extend(drops.pop(y, ()))
            continue
        cotangents = [None if y is None else _collect(b, bars, y) for y in node.outputs]
        if inner:
            pairs = zip(node.outputs, cotangents, strict=True)
            met.update((y, y_bar) for y, y_bar in pairs if y is not None and y_bar is not None)
        wanted = [v is not None and v in active for v in node.inputs]
        if not any(x is not None for x in cotangents) or not any(y in active for y in node.makes()):
            continue
        card = rule_card(node, table)
        if card.is_flat:
            continue
        if card.vjp is None:
            raise InternalError(f"{card.op} ({card.kind}) has no vjp rule")
        with at_node(node), b.serving(node.origin or node.name):
            one = node.outputs[0] if len(node.outputs) == 1 else None
            s = site(b, node, wanted, None if one is None else _dropped(b, drops.pop(one, ())))
            made = card.vjp(s, cotangents)
        for k, (x, x_bar, wants) in enumerate(zip(node.inputs, made, wanted, strict=False)):
            if x is not None and x_bar is not None and wants:
                bars.setdefault(x, []).append(x_bar)
                drops.setdefault(x, []).append(s.drops.get(k))

    results: dict[str, str] = {}
    ends: list[Var] = []
    for x in inputs:
        x_bar = _collect(b, bars, x)
        if x_bar is not None:
            end = b.op("Identity", x_bar, name=f"{x.name}_bar")
            results[x.name] = end.value.name
            ends.append(end)
    for y, y_bar in met.items():
        end = b.op("Identity", y_bar)
        results[y.name] = end.value.name
        ends.append(end)
    return Derivative(b.graph([*map(b.var, outputs), *ends], graph.name), directions, results)


def _dropped(b: Builder, masks: Sequence[Var | None]) -> Var | None:
    """Where every reader of a value drops it; None for nowhere."""
    some = [mask for mask in masks if mask is not None]
    if not some or len(some) < len(masks):
        return None
    return reduce(lambda one, other: b.op("And", one, other), some)


def _collect(b: Builder, bars: dict[Value, list[Var]], value: Value) -> Var | None:
    """The sum of what has come back to a value so far."""
    return b.total(bars.pop(value, ()))
