"""What a tensor holds at the point, while the graph that it stands in is still being made."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Graph, Node, Value
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, real
from gradcli.ops import Table
from gradcli.transform import cast

MOST = 1 << 31
"""Bytes that may be computed to find out which way control flow goes."""


class Finder:
    """Evaluates, in float64, what a choice hangs on; whatever it has computed it computes once.

    So the conditions of a loop of n trips cost n trips.

    Args:
        feeds: The inputs of the whole model.
        table: Cards.
    """

    def __init__(self, feeds: Mapping[str, np.ndarray], table: Table) -> None:
        self._feeds = feeds
        self._table = table
        self._known: dict[Value, Array] = {}
        self._makers: dict[Value, int] = {}
        self._seen = 0
        self._bytes = 0

    def __call__(self, b: Builder, value: Value) -> np.ndarray | None:
        """The numbers in a value; None after an operator that cannot be evaluated."""
        for place in range(self._seen, len(b.nodes)):
            self._makers.update((v, place) for v in b.nodes[place].makes())
        self._seen = len(b.nodes)
        nodes = self._before(b, value)
        if any(not _can(node, self._table) for node in nodes):
            return None
        if nodes:
            self._evaluate(b, nodes)
        return np.asarray(self._given(b, value))

    def _before(self, b: Builder, value: Value) -> list[Node]:
        """The nodes that have yet to be evaluated for a value, in their order."""
        places: set[int] = set()
        ahead = [value]
        while ahead:
            v = ahead.pop()
            place = None if v in self._known else self._makers.get(v)
            if place is not None and place not in places:
                places.add(place)
                ahead += b.nodes[place].reads()
        return [b.nodes[place] for place in sorted(places)]

    def _evaluate(self, b: Builder, nodes: list[Node]) -> None:
        made = [v for node in nodes for v in node.makes()]
        inner = set(made)
        read = dict.fromkeys(v for node in nodes for v in node.reads() if v not in inner)
        constants = {v: b.constants[v] for v in read if not v.dtype.is_float and v in b.constants}
        inputs = tuple(v for v in read if v not in constants)
        part = cast(Graph(inputs, tuple(made), tuple(nodes), constants), DType.FLOAT64, self._table)
        out = Evaluator(part, table=self._table).run({v.name: self._given(b, v) for v in inputs})
        for v in made:
            self._known[v] = out[v.name]
            self._bytes += np.asarray(out[v.name]).nbytes
        if self._bytes > MOST:
            raise UnsupportedError(
                f"node {nodes[-1].name!r}: {self._bytes:,} bytes were computed to find out which"
                " way control flow goes, and no end is in sight",
                "differentiate at inputs that need fewer trips",
            )

    def _given(self, b: Builder, value: Value) -> Array:
        if value not in self._known:
            array = b.constants.get(value)
            self._known[value] = real.lift(self._feeds[value.name] if array is None else array)
        return self._known[value]


def _can(node: Node, table: Table) -> bool:
    return node.key in table and table[node.key].impl is not None
