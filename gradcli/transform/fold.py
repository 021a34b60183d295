"""Compute what is already known: a node on constants becomes constants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcli.errors import GradcliError
from gradcli.graph import Builder, Node, Type, Var, is_static
from gradcli.graph.dtypes import size
from gradcli.interpret import evaluate
from gradcli.numbers import real
from gradcli.ops import Table

ALWAYS = 1 << 20
"""Bytes up to which a result is kept, however small its operands were."""

HEAVY = 1 << 26
"""Bytes of operands from which nothing is computed here: it is done in float64, on copies."""

NEVER = frozenset(
    (
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    )
)
"""Operators whose result is another one every time."""


def fold(
    b: Builder,
    node: Node,
    operands: Sequence[Var | None],
    table: Table,
    limit: int = ALWAYS,
    grown: bool = True,
) -> tuple[np.ndarray | None, ...] | None:
    """The node's results, when all operands are constants (or only their known shape matters).

    Numbers are computed in float64 and rounded once to the result's type.

    Args:
        b: The Builder of the new graph, for types.
        node: The node.
        operands: What its inputs are in the new graph.
        table: Cards.
        limit: Bytes that each result may have.
        grown: Whether results may also be as large as the operands together.

    Returns:
        None when it cannot or should not be folded. A result that is not wanted is None.
    """
    if node.key in ("Shape", "Size"):
        return _of_shape(node, operands[0])
    known = []
    for x in operands:
        array = None if x is None else x.const
        if x is not None and array is None:
            return None
        known.append(array)
    card = table.get(node.key)
    if card is None or card.impl is None or node.key in NEVER or node.subgraphs():
        return None
    taken = sum(a.nbytes for a in known if a is not None)
    room = max(limit, taken) if grown else limit
    try:
        types = _types(b, node, operands, table)
        # Asked before anything is computed: a file of a few bytes can ask for gigabytes.
        if taken > HEAVY or any(_least(kind) > room for kind in types):
            return None
        made = evaluate(node, [None if a is None else real.lift(a) for a in known], real, table)
    except (GradcliError, NotImplementedError, ValueError, IndexError):
        # What cannot be computed here is left for the run, where its error names the node.
        return None
    with np.errstate(all="ignore"):
        results = tuple(
            None if value is None else np.asarray(array).astype(kind.np)
            for value, array, (kind, _) in zip(node.outputs, made, types, strict=False)
        )
    return None if any(a is not None and a.nbytes > room for a in results) else results


def _types(b: Builder, node: Node, operands: Sequence[Var | None], table: Table) -> Sequence[Type]:
    """What is known of the results from the operands alone; what a file declares may be untrue."""
    given = [None if x is None else x.value for x in operands]
    return table.infer(b, node.key, given, node.attrs)


def _least(kind: Type) -> int:
    """The bytes of a result as far as its shape is known: other shapes hang on elements."""
    dtype, shape = kind
    return size(shape) * dtype.np.itemsize if shape is not None and is_static(shape) else 0


def _of_shape(node: Node, x: Var | None) -> tuple[np.ndarray | None, ...] | None:
    if x is None or x.shape is None:
        return None
    if node.op == "Size":
        return (np.array(size(x.shape), np.int64),) if is_static(x.shape) else None
    part = x.shape[node.attrs["start"] : node.attrs["end"]]
    return (np.array(part, np.int64),) if is_static(part) else None
