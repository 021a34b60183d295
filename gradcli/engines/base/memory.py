"""How much memory a graph's enclosures take, told before they are computed."""

from __future__ import annotations

from dataclasses import dataclass

from gradcli.errors import CannotError
from gradcli.graph import Graph, Value, is_static, size
from gradcli.problem import machine_memory

MOVES = frozenset(
    (
        "Cast",
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    )
)
"""Operators whose results are their operands' numbers: only places for them are taken."""

PLACE = 8
"""Bytes of a place in an array."""

BALL = 64
"""Bytes of a ball whose midpoint has at most 128 bits; a longer one has its bits beside it."""

GIB = 1 << 30

WORK = 1 << 29
"""Bytes beside what is kept: of matrices in the making, and of flint itself."""

MOST = 8 * GIB
"""Bytes that enclosures may take on any machine."""

SHARE = 0.5
"""The part of a machine's memory that they may take."""


def room(graph: Graph, bits: int, terms: int = 1) -> int:
    """Bytes that an evaluation of a graph takes in balls, roughly; unknown sizes count as nothing.

    Args:
        graph: What is evaluated, each value freed after its last reader.
        bits: The precision.
        terms: How many balls a number has: 2 in a power series.
    """
    ball = BALL + (16 + bits // 8 if bits > 128 else 0)
    owners: dict[Value, tuple[Value, ...]] = {}
    last: dict[Value, int] = {}
    end = len(graph.nodes)
    for k, node in enumerate(graph.nodes):
        for v in node.makes():
            moved = node.op in MOVES and v.dtype.is_float
            sources = [x for x in node.reads() if x.dtype.is_float] if moved else []
            owners[v] = tuple(dict.fromkeys(o for x in sources for o in owners.get(x, (x,)))) or (
                v,
            )
        for v in (*node.reads(), *node.makes()):
            last.update(dict.fromkeys((v, *owners.get(v, (v,))), k))
    for v in graph.outputs:
        last.update(dict.fromkeys((v, *owners.get(v, (v,))), end))
    dying: dict[int, list[Value]] = {}
    for v, k in last.items():
        dying.setdefault(k, []).append(v)

    def weight(v: Value) -> int:
        if v in graph.constants:  # lifted twice: for the reverse graph, and for power series
            return 2 * (PLACE + BALL) * graph.constants[v].size * v.dtype.is_float
        if not v.dtype.is_float or v.shape is None or not is_static(v.shape):
            return 0
        own = terms * ball if owners.get(v, (v,)) == (v,) else 0
        return size(v.shape) * (terms * PLACE + own)

    alive = sum(map(weight, (*graph.inputs, *graph.constants)))
    most = alive
    for k, node in enumerate(graph.nodes):
        alive += sum(map(weight, node.makes()))
        most = max(most, alive)
        alive -= sum(weight(v) for v in dying.get(k, ()) if v not in graph.constants)
    return most + WORK


@dataclass(frozen=True)
class Space:
    """The memory that enclosures may take.

    Attributes:
        limit: In bytes.
    """

    limit: int

    @classmethod
    def here(cls) -> Space:
        """As much as this machine has for them."""
        return cls(min(MOST, int(SHARE * machine_memory())))

    def holds(self, graph: Graph, bits: int, terms: int = 1) -> bool:
        """Whether an evaluation fits."""
        return room(graph, bits, terms) <= self.limit

    def copies(self, graph: Graph, bits: int) -> int:
        """How many evaluations of one precision fit side by side, at least one."""
        return max(1, (self.limit - WORK) // max(1, room(graph, bits) - WORK))

    def demand(self, graph: Graph, bits: int, terms: int = 1) -> None:
        """Make sure that an evaluation fits.

        Raises:
            CannotError: When it does not.
        """
        if not self.holds(graph, bits, terms):
            raise CannotError(
                f"its enclosures would take some {room(graph, bits, terms) / GIB:.1f} GiB of"
                f" memory, more than the {self.limit / GIB:.1f} that they may",
                "ask for less with --wrt and --of, or take smaller inputs",
            )
