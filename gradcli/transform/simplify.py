"""Remove what costs and says nothing: dead code, known values, repetitions, idle operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcli.graph import DType, Graph, Node, Value, Var, burst, is_static
from gradcli.ops import OPS, Table
from gradcli.transform.fold import NEVER, fold
from gradcli.transform.rewrite import Rewriter

SMALL = 1 << 10
"""Bytes up to which constants are compared element by element, to make one of equal ones."""

RESHAPING = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze"))
"""Operators that leave every element in its place in memory."""


@burst()
def simplify(
    graph: Graph, table: Table = OPS, *, exact: bool = False, most: int | None = None
) -> Graph:
    """The same function, bit for bit on what remains, in fewer nodes. Names of outputs stay.

    Args:
        graph: Any graph.
        table: Cards.
        exact: Whether floats are left to be computed when it is run, and not rounded to float64.
        most: Bytes of the largest constant to be made of others; None for as many as those have.
    """
    s = _Simplifier(prune(graph), table, exact, most)
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
    """A Rewriter that remembers what stands in the new graph already."""

    def __init__(self, graph: Graph, table: Table, exact: bool, most: int | None) -> None:
        super().__init__(graph, table)
        self._exact = exact
        self._most = most
        self.adopt_inputs()
        self._seen: dict[Any, int] = {}
        self._made: dict[Value, Node] = {}
        self._merge_constants()

    def _merge_constants(self) -> None:
        first: dict[Any, Var] = {}
        for value, array in self.old.constants.items():
            if array.nbytes <= SMALL and value.dtype is not DType.STRING:
                key = (value.dtype, array.shape, array.tobytes())
                self.env[value] = first.setdefault(key, self.env[value])
                if self.env[value].value is not value:
                    # Its name may be an output's, which an Identity will then bear.
                    del self.b.constants[value]

    def visit(self, node: Node) -> None:
        operands = self.operands(node)
        if (same := self._handed_on(node, operands)) is not None:
            self.become(node, [same])
            return
        rounded = self._exact and any(v.dtype.is_float for v in node.makes())
        if not rounded and (arrays := self._known(node, operands)) is not None:
            self.become(node, [self._constant(v, a) for v, a in _pairs(node.outputs, arrays)])
            return
        node, given = self._shorter(node, operands)
        key = _key(node, given)
        place = self._seen.get(key)
        if place is not None and key is not None:
            self._merge(node, place)
            return
        if key is not None:
            self._seen[key] = len(self.b.nodes)
        results = self.place(node, given)
        self.become(node, results)
        if given and results[0] is not None:
            self._made[results[0].value] = self.b.nodes[-1]

    def _known(
        self, node: Node, operands: Sequence[Var | None]
    ) -> tuple[np.ndarray | None, ...] | None:
        if self._most is None:
            return fold(self.b, node, operands, self.table)
        return fold(self.b, node, operands, self.table, self._most, grown=False)

    def _constant(self, value: Value | None, array: np.ndarray | None) -> Var | None:
        return None if value is None else self.b.constant(array, value.dtype)

    def _merge(self, node: Node, place: int) -> None:
        """Let the node's twin stand for it, with such further outputs as only this one has."""
        twin = self.b.nodes[place]
        outputs = list(twin.outputs) + [None] * (len(node.outputs) - len(twin.outputs))
        for k, value in enumerate(node.outputs):
            if value is not None and outputs[k] is None:
                outputs[k] = value
        if tuple(outputs) != twin.outputs:
            self.b.nodes[place] = replace(twin, outputs=tuple(outputs))
        self.become(node, [None if v is None else self.b.var(v) for v in outputs])

    def _handed_on(self, node: Node, operands: Sequence[Var | None]) -> Var | None:
        """What stands for the node's only result already: an operand, or what it was made of."""
        if node.domain or not operands or operands[0] is None:
            return None
        x, y = operands[0], node.outputs[0]
        if node.op == "Identity":
            return x
        if y is None or any(v is not None for v in node.outputs[1:]):
            return None
        if _idle(node, operands, y):
            return x
        made = self._made.get(x.value)
        source = None if made is None else made.inputs[0]
        if made is None or source is None or made.domain:
            return None
        if node.op in RESHAPING and made.op in RESHAPING:
            return self.b.var(source) if is_static(y.shape) and source.shape == y.shape else None
        if node.op == "Transpose" and made.op == "Transpose":
            perm = _joined(made, node)
            return self.b.var(source) if perm == tuple(range(len(perm))) else None
        return None

    def _shorter(
        self, node: Node, operands: Sequence[Var | None]
    ) -> tuple[Node, Sequence[Var | None]]:
        """Two moves of elements one after the other as one move."""
        x = operands[0] if operands and not node.domain else None
        made = None if x is None else self._made.get(x.value)
        if made is None or made.domain or made.inputs[0] is None:
            return node, operands
        source, y = self.b.var(made.inputs[0]), node.outputs[0]
        if node.op == "Transpose" and made.op == "Transpose":
            return replace(node, attrs={**node.attrs, "perm": _joined(made, node)}), [source]
        if node.op in RESHAPING and made.op in RESHAPING and y is not None and is_static(y.shape):
            target = self.b.ints(y.shape)  # type: ignore[arg-type] # static
            allowzero = int(0 in (y.shape or ()))
            return replace(node, op="Reshape", attrs={"allowzero": allowzero}), [source, target]
        return node, operands


def _pairs(
    values: Sequence[Value | None], arrays: Sequence[np.ndarray | None]
) -> zip[tuple[Value | None, np.ndarray | None]]:
    return zip(values, arrays, strict=False)


def _idle(node: Node, operands: Sequence[Var | None], y: Value) -> bool:
    """Whether the node's result is its first operand, element by element."""
    x = operands[0]
    assert x is not None
    unmoved = is_static(x.shape) and x.shape == y.shape
    match node.op:
        case "Cast":
            return x.dtype is y.dtype
        case "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile":
            return unmoved
        case "Concat" | "Sum" | "Max" | "Min" | "Mean":
            return len(operands) == 1
        case "Pad":
            pads = _ints(operands, 1)
            return pads is not None and not any(pads)
        case "Slice":
            steps = _ints(operands, 4) if len(operands) > 4 and operands[4] is not None else ()
            return unmoved and steps is not None and all(step > 0 for step in steps)
        case "Transpose":
            return x.shape is not None and _perm(node, len(x.shape)) == tuple(range(len(x.shape)))
    return False


def _ints(operands: Sequence[Var | None], k: int) -> list[int] | None:
    """A constant operand's elements."""
    x = operands[k]
    return None if x is None or x.const is None else [int(i) for i in x.const.reshape(-1)]


def _perm(node: Node, rank: int) -> tuple[int, ...]:
    given = node.attrs["perm"]
    return tuple(range(rank))[::-1] if given is None else tuple(given)


def _joined(first: Node, second: Node) -> tuple[int, ...]:
    """Two permutations of axes, one after the other."""
    given = first.attrs["perm"] or second.attrs["perm"]
    source = first.inputs[0]
    assert source is not None
    rank = len(given) if given is not None else len(source.shape or ())
    inner, outer = _perm(first, rank), _perm(second, rank)
    return tuple(inner[a] for a in outer)


def _key(node: Node, operands: Sequence[Var | None]) -> Any:
    """Equal for two nodes that compute the same; None for a node that must not be merged."""
    if node.op in NEVER or node.subgraphs():
        return None
    values = tuple(None if x is None else x.value for x in operands)
    return node.key, values, _frozen(node.attrs)


def _frozen(attrs: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((name, _exact(value)) for name, value in sorted(attrs.items()))


def _exact(value: Any) -> Any:
    """An attribute as something to compare by: 0.0 and -0.0 differ, and so do 1 and 1.0."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.shape, value.tobytes()
    return repr(value) if isinstance(value, float | tuple) else value
