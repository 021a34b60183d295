"""Where a network is not smooth: which piece every element is on, and how far the next one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gradcli.graph import DType, Graph, Node, Value
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, real
from gradcli.ops import OPS, Card, Table
from gradcli.ops.peers import Taken, taken
from gradcli.problem import Problem
from gradcli.transform.rewrite import active_values

SAME = 2.0**-48
"""Margins below this part of a node's widest one are rounding, not distance."""

COUNT = 8
"""How many of the nearest kinks and edges a survey keeps."""


KEEP_OFF = "clip it, or add a small constant"
OUTSIDE = "clip it to where the operator is defined"
SHIFT = "clip it, or shift it first, as a Softmax is by its largest element"
WIDEN = "scale or clip it, or store the model in float64"
"""What helps the operand of a node at the edge of its domain."""


@dataclass(frozen=True)
class Near:
    """A place near the point where an operator is not smooth.

    Attributes:
        node: The node's name in the user's file.
        op: Its operator.
        index: Which element, in the shape of the margins.
        margin: How far that element is from it, in units of the operand; 0 for an exact tie.
        kind: `kink` where the derivative jumps, `edge` where the function ends or has none, `lost`
            where numbers become none, or infinite, or more than the file's own width holds.
        convention: At a kink: what the rules take for the derivative.
        what: At an edge: what lies there. Of what is lost: what becomes of it.
        decided: What exact arithmetic says: `on` it exactly, `off` it whatever float64 says, or
            `open`, a tie that no precision excluded; empty where only float64 was asked.
        within: Where that is `off`, how far it really is; where `open`, a bound of that.
        taken: The conventions of the operator, gradcli's and others'.
        widest: Of a kink: the size of what it compares: the node's widest margin, or its largest
            operand, as all of them may lie near a threshold.
        operand: Of an edge: the name of what comes to it. Of what is lost: of what it is made.
        todo: Of either: what helps.
    """

    node: str
    op: str
    index: tuple[int, ...]
    margin: float
    kind: Literal["kink", "edge", "lost"]
    convention: str = ""
    what: str = ""
    decided: Literal["", "on", "off", "open"] = ""
    within: float = 0.0
    taken: tuple[Taken, ...] = ()
    widest: float = 0.0
    operand: str = ""
    todo: str = ""

    @property
    def touched(self) -> bool:
        """Whether the point lies on it in float64 or exactly, or may do so."""
        return self.margin == 0 or self.decided in ("on", "open")


@dataclass(frozen=True)
class Reach:
    """How far a tensor may be moved before the nearest kink, to first order.

    Attributes:
        distance: Its length, elements taken as coordinates.
        near: The kink.
        estimated: Whether another one may be nearer: not of every element the distance was taken.
    """

    distance: float
    near: Near
    estimated: bool = False


@dataclass(frozen=True)
class Tied:
    """What a node's kinks at the point mean for what was asked.

    Attributes:
        matters: Whether that changes when this node alone goes to its other side.
        index: The element that it hangs on most.
        ties: How many elements are on a kink.
        many: How many of those matter; 0 where they were not told apart.
        certified: Whether power series of balls say so, not only float64.
        jumps: Whether what changes is an output itself, and not only its derivative.
    """

    matters: bool
    index: tuple[int, ...]
    ties: int = 1
    many: int = 0
    certified: bool = False
    jumps: bool = False


@dataclass(frozen=True)
class Survey:
    """What lies around a point.

    Attributes:
        nearest: The nearest kinks and domain edges, nearest first, one for each node and kind.
        ties: The kinks that the point lies on: exactly, in float64, or for all that is known.
        reach: By name of `wrt`: how far it is to the nearest kink off the point.
        tied: By name of a node with ties: whether they matter; without those not looked at.
    """

    nearest: tuple[Near, ...] = ()
    ties: tuple[Near, ...] = ()
    reach: Mapping[str, Reach] = field(default_factory=dict)
    tied: Mapping[str, Tied] = field(default_factory=dict)

    @property
    def rim(self) -> tuple[Near, ...]:
        """The domain edges that the point lies on exactly."""
        return tuple(near for near in self.nearest if near.kind == "edge" and near.margin == 0)

    @property
    def is_smooth(self) -> bool:
        """Whether the point lies neither on a kink nor on the edge of a domain."""
        return not self.ties and not self.rim


class Watch:
    """Observes an evaluation in `real`, and keeps margins and branches of the operators with kinks.

    Pass it to `Evaluator.run(observe=...)`, a new one for each run. Only nodes that `wrt` can
    reach are watched: the others never move.

    Args:
        graph: What is evaluated.
        wrt: The names of the inputs that move.
        table: Cards.
        edges: Whether to keep the distances to domain edges too.
        widths: By name of a value, its dtype in the file: given, numbers that are lost are looked
            for.
    """

    def __init__(
        self,
        graph: Graph,
        wrt: Sequence[str],
        table: Table = OPS,
        *,
        edges: bool = False,
        widths: Mapping[str, DType] | None = None,
    ) -> None:
        moving = active_values(graph, [v for v in graph.inputs if v.name in set(wrt)], table)
        self._table = table
        self._kinked = {n for n in graph.nodes if _reached(n, moving) and table[n.key].kinks}
        # Steps that do not say how far they are from their next jump show it by their results.
        self._stepped = {
            n for n in graph.nodes if _reached(n, moving) and table[n.key].is_flat
        } - self._kinked
        self._edged = {n for n in graph.nodes if edges and _approaches(n, table[n.key], moving)}
        self._widths = widths or {}
        self._moving = {n for n in graph.nodes if widths and _reached(n, moving)}
        self.lost: list[Near] = []
        self.margins: dict[Node, np.ndarray] = {}
        self.branches: dict[Node, np.ndarray] = {}
        self.distances: dict[Node, np.ndarray] = {}
        self.results: dict[Node, tuple[np.ndarray, ...]] = {}
        self.sizes: dict[Node, float] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._kinked or self._edged or self._stepped)

    def again(self) -> Watch:
        """A Watch like this one that has seen nothing yet."""
        other = object.__new__(Watch)
        other._table, other._kinked, other._edged = self._table, self._kinked, self._edged
        other._stepped = self._stepped
        other._widths, other._moving, other.lost = {}, set(), []
        other.margins, other.branches, other.distances, other.results = {}, {}, {}, {}
        other.sizes = {}
        return other

    def __call__(self, node: Node, operands: Sequence[Array], results: Sequence[Array]) -> None:
        """What the Evaluator calls after each node."""
        if node in self._stepped:
            self.results[node] = tuple(np.asarray(x) for x in results if x is not None)
        if node in self._kinked:
            kinks = self._table[node.key].kinks
            assert kinks is not None
            margin, branch = kinks(real, *operands, **node.attrs)
            self.margins[node], self.branches[node] = np.asarray(margin), np.asarray(branch)
            self.sizes[node] = max((_widest(np.abs(x)) for x in _floats(operands)), default=0.0)
        if node in self._edged:
            edges = self._table[node.key].edges
            assert edges is not None
            self.distances[node] = np.asarray(edges(real, *operands, **node.attrs))
        if node in self._moving and not any(np.any(np.isnan(x)) for x in _floats(operands)):
            finite = all(np.all(np.isfinite(x)) for x in _floats(operands))
            self._lose(node, results, finite=finite)

    def _lose(self, node: Node, results: Sequence[Array], *, finite: bool) -> None:
        """Note where operands give a result that is none, or that its width cannot hold.

        What is infinite may stay so, as a mask does; that it becomes no number is told.
        """
        at_edge = node in self.distances and np.any(self.distances[node] == 0)
        for value, result in zip(node.outputs, results, strict=False):
            width = self._widths.get(value.name) if value is not None else None
            if width is None or not width.is_float or result is None:
                continue
            y = np.asarray(result)
            for mask, what, todo in (
                (np.isnan(y), "its result is no number", OUTSIDE),
                (np.isinf(y), "it overflows: its result is infinite in float64 too", SHIFT),
                (
                    np.isfinite(y) & (np.abs(y) > width.greatest),
                    f"it overflows {width.value}, whose largest number is {width.greatest:.1e}",
                    WIDEN,
                ),
            ):
                # At an edge that is said already.
                if np.any(mask) and not at_edge and (finite or todo is OUTSIDE):
                    index = np.unravel_index(int(np.argmax(mask)), y.shape)
                    place = tuple(int(i) for i in index)
                    self.lost.append(
                        Near(
                            *(node.name, node.op, place, 0.0, "lost"),
                            what=what,
                            operand=_name(node),
                            todo=todo,
                        )
                    )
                    return

    def crossing(self, moved: Watch, *, ties: bool = True) -> float:
        """Where on the way to another evaluation the first kink was crossed.

        Args:
            moved: The other evaluation.
            ties: Whether kinks that the point itself lies on count.

        Returns:
            A part of the way, between 0 (the point is on the kink) and 1, by linear interpolation
            of the margins; infinity where every element is still on its piece.
        """
        first = np.inf
        for node, branch in self.branches.items():
            other = moved.branches[node]
            changed = branch != other
            if branch.dtype.kind == "f":
                changed &= ~(np.isnan(branch) & np.isnan(other))
            if not np.any(changed):
                continue
            here, there = self.margins[node][changed], moved.margins[node][changed]
            # Elements that tie before and after move together: whichever wins is rounding.
            away = np.maximum(here, there) if ties else here
            apart = away > SAME * _widest(self.margins[node])
            if np.any(apart):
                here, there = here[apart], there[apart]
                first = min(first, float(np.min(here / (here + there))))
        if any(self._changed(node, moved) for node in self.results):
            # Somewhere on the way: half of it is as good a guess as any.
            first = min(first, 0.5)
        return first

    def jumped(self, moved: Watch) -> list[Node]:
        """The nodes whose results jump on the way to another evaluation."""
        steps = (node for node in (*self.branches, *self.results) if self._table[node.key].steps)
        return [node for node in steps if self._changed(node, moved)]

    def _changed(self, node: Node, moved: Watch) -> bool:
        if node in self.results:
            pairs = zip(self.results[node], moved.results[node], strict=True)
            return not all(_same(a, b) for a, b in pairs)
        return not _same(self.branches[node], moved.branches[node])

    def near(self, decisions: Mapping[Node, Decision] | None = None) -> list[Near]:
        """The nearest kink and the nearest edge of each node, nearest first.

        Args:
            decisions: What exact arithmetic says of some nodes' kinks.
        """
        found = []
        for node, margin in self.margins.items():
            decision = (decisions or {}).get(node)
            place = _least(margin)
            if decision is not None:
                place = decision.index, float(margin[decision.index])
            if place is not None:
                found.append(self.kink(node, *place, decision))
        for node, distance in self.distances.items():
            if (place := _least(distance)) is not None:
                edge = self._table[node.key].edge
                takes = taken(node.key, node.attrs)
                found.append(
                    Near(
                        *(node.name, node.op, *place, "edge"),
                        what=edge,
                        taken=takes,
                        operand=_name(node, self._table[node.key].edge_of),
                        todo=KEEP_OFF,
                    )
                )
        return sorted((*self.lost, *found), key=lambda near: near.margin)

    def kink(
        self, node: Node, index: tuple[int, ...], margin: float, decision: Decision | None = None
    ) -> Near:
        """A kink of a node, described."""
        return Near(
            node.name,
            node.op,
            index,
            margin,
            "kink",
            self._table[node.key].convention,
            decided=decision.decided if decision else "",
            within=decision.within if decision else 0.0,
            taken=taken(node.key, node.attrs),
            widest=max(_widest(self.margins[node]), self.sizes.get(node, 0.0)),
        )

    def ties(self) -> list[Near]:
        """The nodes with an element that is exactly on a kink."""
        return [near for near in self.near() if near.kind == "kink" and near.margin == 0]

    def rim(self) -> list[Near]:
        """The nodes with an element that is exactly on the edge of its domain."""
        return [near for near in self.near() if near.kind == "edge" and near.margin == 0]

    def survey(self, count: int, decisions: Mapping[Node, Decision] | None = None) -> Survey:
        """The nearest kinks and edges, and all that the point lies on."""
        near = self.near(decisions)
        rest = [place for place in near if not place.touched]
        touched = [place for place in near if place.touched]
        nearest = (*touched, *rest[: max(0, count - len(touched))])
        return Survey(nearest, tuple(place for place in touched if place.kind == "kink"))


@dataclass(frozen=True)
class Decision:
    """What exact arithmetic says of a node's kinks; see Near.

    Attributes:
        decided: Of the element that is nearest.
        index: Which element that is.
        within: How far it is, or may be.
    """

    decided: Literal["on", "off", "open"]
    index: tuple[int, ...]
    within: float = 0.0


def survey(problem: Problem, count: int = COUNT) -> Survey:
    """Look around a problem's point, in float64.

    Args:
        problem: The question.
        count: How many of the nearest kinks and edges to keep, besides all ties.
    """
    return around(problem).survey(count)


def around(problem: Problem, point: Mapping[str, np.ndarray] | None = None) -> Watch:
    """What a Watch sees at a problem's point, or at another one, in float64, edges included."""
    widths = {v.name: v.dtype for v in problem.graph.values()}
    watch = Watch(problem.exact, problem.wrt, problem.table, edges=True, widths=widths)
    Evaluator(problem.exact, real, problem.table).run(point or problem.point, watch)
    return watch


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _floats(operands: Sequence[Array]) -> list[np.ndarray]:
    arrays = (np.asarray(x) for x in operands if x is not None)
    return [x for x in arrays if x.dtype.kind == "f"]


def _reached(node: Node, moving: set[Value]) -> bool:
    return any(v in moving for v in node.inputs)


def _name(node: Node, place: int | None = None) -> str:
    """The name of an operand: of the one at this place, or of the first float one."""
    values = node.inputs if place is None else node.inputs[place : place + 1]
    return next((v.name for v in values if v is not None and v.dtype.is_float), "")


def _approaches(node: Node, card: Card, moving: set[Value]) -> bool:
    """Whether the node has a domain edge that it may come nearer to."""
    if card.edges is None or card.edge_of >= len(node.inputs):  # an optional operand left out
        return False
    return node.inputs[card.edge_of] in moving


def _widest(margin: np.ndarray) -> float:
    return float(np.max(margin, where=np.isfinite(margin), initial=0.0))


def _least(margin: np.ndarray) -> tuple[tuple[int, ...], float] | None:
    """Where the least margin is, and what it is; None where there is none."""
    if not np.any(np.isfinite(margin)):
        return None
    index = np.unravel_index(np.nanargmin(margin), margin.shape)
    return tuple(int(i) for i in index), float(margin[index])
