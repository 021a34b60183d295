"""What jvp and vjp return: a graph, and which of its inputs and outputs are the derivative's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gradcli.errors import InternalError, UnsupportedError
from gradcli.graph import Graph, Node, Value
from gradcli.ops import Card, Table


@dataclass(frozen=True)
class Derivative:
    """A primal graph together with its derivative, as one ordinary graph.

    The graph's inputs are the primal's, then the directions; its outputs are the primal's `of`,
    then the results. Applying jvp or vjp to it again gives higher derivatives.

    Attributes:
        graph: The graph.
        directions: For jvp: wrt name -> name of its tangent input. For vjp: of name -> name of its
            cotangent input.
        results: For jvp: of name -> name of its tangent output. For vjp: wrt name -> name of its
            cotangent output. A name is absent where the derivative is zero for structural reasons.
    """

    graph: Graph
    directions: Mapping[str, str]
    results: Mapping[str, str]


def pick(values: Sequence[Value], names: Sequence[str] | None, role: str) -> list[Value]:
    """The float values of these names, each once, or all float ones when no names are given.

    Raises:
        InternalError: When a name is not among the values.
    """
    known = {v.name: v for v in values}
    if names is None:
        return [v for v in known.values() if v.dtype.is_float]
    if missing := [name for name in names if name not in known]:
        raise InternalError(f"{', '.join(missing)}: not {role} of this graph")
    return [known[name] for name in dict.fromkeys(names)]


def rule_card(node: Node, table: Table) -> Card:
    """The card whose rule differentiates this node.

    Raises:
        UnsupportedError: When there is no card, or it is opaque.
    """
    card = table.get(node.key)
    if card is None:
        raise UnsupportedError(
            f"node {node.name!r}: gradcli has no card for the operator {node.key}",
            "differentiate with respect to a tensor after it (--wrt), or of one before it (--of)",
        )
    if card.kind == "opaque":
        raise UnsupportedError(f"node {node.name!r} ({node.key}): {card.reason}")
    return card


@contextmanager
def at_node(node: Node) -> Iterator[None]:
    """Whatever fails within it bears a note that names the node."""
    try:
        yield
    except Exception as error:
        error.add_note(f"node {(node.origin or node.name)!r} ({node.key})")
        raise
