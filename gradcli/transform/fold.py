"""Compute what is already known: a node on constants becomes constants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcli.errors import GradcliError
from gradcli.graph import Node, Var, is_static
from gradcli.graph.dtypes import size
from gradcli.interpret import evaluate
from gradcli.numbers import real
from gradcli.ops import Table

ALWAYS = 1 << 20
"""Bytes up to which a folded result is kept; a larger one only if its operands are as large."""

NEVER = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
)
"""Operators whose result is another one every time."""


def fold(
    node: Node, operands: Sequence[Var | None], table: Table, limit: int = ALWAYS
) -> tuple[np.ndarray, ...] | None:
    """The node's results, when all operands are constants (or only their known shape matters).

    Numbers are computed in float64 and rounded once to the result's type.

    Args:
        node: The node.
        operands: What its inputs are in the new graph.
        table: Cards.
        limit: Bytes of results, unless the operands are larger.

    Returns:
        None when it cannot or should not be folded.
    """
    if node.key in ("Shape", "Size"):
        return _of_shape(node, operands[0])
    card = table.get(node.key)
    known = [None if x is None else x.const for x in operands]
    given = [a for a in known if a is not None]
    if card is None or card.impl is None or node.key in NEVER or any(node.subgraphs()):
        return None
    if any(x is not None and a is None for x, a in zip(operands, known, strict=True)):
        return None
    room = max(limit, sum(a.nbytes for a in given))
    if any(_bytes(node, k) > room for k in range(len(node.outputs))):
        return None
    try:
        made = evaluate(node, [None if a is None else real.lift(a) for a in known], real, table)
    except (GradcliError, NotImplementedError):
        # What cannot be computed here is left for the run, where its error names the node.
        return None
    if sum(np.asarray(a).nbytes for a in made if a is not None) > 2 * room:
        return None
    results = []
    for value, array in zip(node.outputs, made, strict=False):
        if value is not None:
            with np.errstate(all="ignore"):
                results.append(np.asarray(array).astype(value.dtype.np))
        else:
            results.append(np.zeros(0))
    return tuple(results)


def _bytes(node: Node, k: int) -> int:
    value = node.outputs[k]
    if value is None or value.shape is None or not is_static(value.shape):
        return 0
    return size(value.shape) * 8


def _of_shape(node: Node, x: Var | None) -> tuple[np.ndarray, ...] | None:
    if x is None or not is_static(x.shape):
        return None
    shape = np.array(x.shape, np.int64)
    if node.op == "Size":
        return (np.array(np.prod(shape), np.int64),)
    end = node.attrs.get("end")
    return (shape[node.attrs.get("start") or 0 : None if end is None else end],)
