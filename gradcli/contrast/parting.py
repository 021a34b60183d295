"""Where two models part: the first node whose result the other model does not have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradcli.contrast.facts import Departure
from gradcli.contrast.inside import Trace, Twin, excess, thinned, twins
from gradcli.contrast.judge import Judge, difference, size
from gradcli.engines.base import Arrays, Part, cotangents, tangents
from gradcli.graph import Graph, Node, Value
from gradcli.interpret import Evaluator
from gradcli.ops import Table
from gradcli.problem import Problem
from gradcli.transform import written_out

SHAKES = 4
"""Evaluations with random roundings."""

FINER = 12
"""How often a quarter is tried of what may differ: on the way to an output, differences fade."""


@dataclass(frozen=True)
class Parted:
    """Where values and cotangents first depart, and how many inner tensors are equal."""

    value: Departure | None
    cotangent: Departure | None
    common: int


def parted_at(
    first: Problem,
    second: Problem,
    names: Mapping[str, str],
    table: Table,
    judge: Judge,
    tell: Callable[[str], None] = lambda _: None,
) -> Parted:
    """Where two models part.

    A tensor of the one is known in the other by its numbers (`inside`), so nodes may be fused,
    split or named anew. What the second has no equal of is rewritten where all that is made of it
    has an equal again; it has departed where a way leads from it to an output that differs, and
    nothing on that way has an equal. The first such node is the one.

    Args:
        first: The question, of the one model.
        second: The same question, of the other.
        names: By names of the first's `wrt` and `of`: those of the second.
        table: Cards that round at random, as the coarser of both models does.
        judge: What may differ by how much.
        tell: Called with a few words before each step.
    """
    rng = np.random.default_rng(first.seed)
    bars = first.cotangents or {k: rng.standard_normal(first.shape(k)) for k in first.of}
    dots = first.tangents or {k: rng.standard_normal(first.shape(k)) for k in first.wrt}
    tell(Part("the tensors inside", 1, SHAKES + 2))
    ours = _traced(first, bars, dots)
    tell(Part("the tensors inside", 2, SHAKES + 2))
    theirs = _traced(
        second,
        {names[k]: x.reshape(second.shape(names[k])) for k, x in bars.items()},
        {names[k]: x for k, x in dots.items()},
    )
    restless = replace(first, table=table)
    runs = []
    for k in range(SHAKES):
        tell(Part("the tensors inside", k + 3, SHAKES + 2))
        runs.append(_traced(restless, bars, dots))
    ends = {name: names[name] for name in first.of}
    found = twins(ours, theirs, runs, judge, tell)
    tell("where they part")
    look = _Look(first, second, ours, theirs, runs, judge, found)
    made = {v.name for node in ours.graph.nodes for v in node.makes()}
    value = look.value(ends)
    return Parted(value, look.cotangent(by_number=value is None), len(made & look.known.keys()))


def _traced(problem: Problem, bars: Arrays, dots: Arrays) -> Trace:
    graph, point = _plain(problem), problem.point
    wanted = {v.name for v in graph.values()}
    kept = Evaluator(graph, table=problem.table).run(point, keep=sorted(wanted))
    arrays = {k: np.asarray(x) for k, x in kept.items() if k in wanted}
    arrays = {k: x for k, x in arrays.items() if x.dtype.kind in "fiub"}
    return Trace(
        graph,
        {k: x.shape for k, x in arrays.items()},
        {k: thinned(x) for k, x in arrays.items()},
        {k: thinned(x) for k, x in tangents(problem, wanted, graph)(point, dict(dots)).items()},
        {k: thinned(x) for k, x in cotangents(problem, wanted, graph)(point, dict(bars)).items()},
    )


def _plain(problem: Problem) -> Graph:
    """The exact graph, its composites written out: of a fused node each step can have an equal.

    What a composite made keeps its name.
    """
    graph, became = written_out(problem.exact, table=problem.table)
    taken = {v.name for v in graph.values()}
    ends = {*graph.inputs, *graph.outputs}
    new = {
        v: Value(old.name, v.dtype, v.shape)
        for old, v in became.items()
        if old.name not in taken and v not in ends
    }

    def now(values: Iterable[Value | None]) -> list[Value | None]:
        return [None if v is None else new.get(v, v) for v in values]

    nodes = tuple(node.on(now(node.inputs), now(node.outputs)) for node in graph.nodes)
    constants = {new.get(v, v): array for v, array in graph.constants.items()}
    return replace(graph, nodes=nodes, constants=constants)


class _Look:
    """Two models' tensors, and which of one are which of the other's."""

    def __init__(
        self,
        first: Problem,
        second: Problem,
        ours: Trace,
        theirs: Trace,
        runs: Sequence[Trace],
        judge: Judge,
        valued: Mapping[str, tuple[Twin, ...]],
    ) -> None:
        self._first, self._second = first, second
        self._ours, self._theirs, self._runs, self._judge = ours, theirs, runs, judge
        self._valued = valued
        equal = {name: tuple(t for t in some if t.apart <= 1.0) for name, some in valued.items()}
        self.known = {name: some for name, some in equal.items() if some}

    # ---- from the inputs on ----

    def value(self, ends: Mapping[str, str]) -> Departure | None:
        """The first node whose result departs on the way to an output that differs."""
        named = self._named()
        for finer in range(FINER + 1):
            most = 0.25**finer
            parted = {
                name: other for name, other in ends.items() if not self._equal(name, other, most)
            }
            if seeds := {**named, **parted} if finer == 0 else parted:
                return self._start(seeds, most)
        return None

    def _equal(self, name: str, other: str, most: float) -> bool:
        return any(t.name == other and t.apart <= most for t in self.known.get(name, ()))

    def _named(self) -> dict[str, str]:
        """Tensors of one name, made by one operator, that are not equal, nor is any other."""
        ours, theirs = (_makers(trace.graph) for trace in (self._ours, self._theirs))
        return {
            name: name
            for name, node in ours.items()
            if name in theirs
            and theirs[name].key == node.key
            and name not in self.known
            and self._ours.shapes.get(name) == self._theirs.shapes.get(name, ())
        }

    def _start(self, seeds: Mapping[str, str], most: float) -> Departure:
        known = {k: [t for t in some if t.apart <= most] for k, some in self.known.items()}
        found = {t.name for some in known.values() for t in some}
        node = next(_starts(self._ours.graph, seeds, {k for k, some in known.items() if some}))
        starts = list(_starts(self._theirs.graph, seeds.values(), found))
        reads = [(v.name, known.get(v.name, [])) for v in _operands(self._ours.graph, node)]
        equals = {t.name for _, some in reads for t in some}
        other = next(
            (n for n in starts if equals & {v.name for v in _operands(self._theirs.graph, n)}),
            starts[0] if starts else None,
        )
        after, same = next(((k, some) for k, some in reversed(reads) if some), ("", []))
        return self._departure(node, other, after, same)

    def _departure(
        self, node: Node, other: Node | None, after: str, same: Sequence[Twin]
    ) -> Departure:
        made = node.makes()[0].name
        value = self._ours.values.get(made, np.zeros(0))
        theirs = [v.name for v in other.makes()] if other else []
        place = made if made in theirs else next(iter(theirs), "")
        valued = [t.name for t in self._valued.get(made, ())]
        if valued and place not in valued:
            place = valued[0]
        arrays = self._ours.tangents if valued else self._ours.values
        others = self._theirs.tangents if valued else self._theirs.values
        beside = others.get(place, np.zeros(value.size if valued else 0))
        mine = arrays.get(made, np.zeros_like(value))
        comparable = beside.size == mine.size and self._laid_alike(made, place)
        gap = float(np.max(difference(mine, beside), initial=0.0)) if comparable else np.nan
        exact = [t for t in same if t.name == after] or [t for t in same if not t.turned] or same
        return Departure(
            "slope" if valued else "value",
            made,
            *_asked(self._first, node),
            *_asked(self._second, other),
            self._lacking(node, other),
            after,
            tuple(t.name for t in exact),
            bool(exact) and all(t.turned for t in exact),
            gap,
            size(mine),
        )

    def _laid_alike(self, name: str, other: str) -> bool:
        """Whether two tensors have the same axes, those of length 1 left out."""
        ours, theirs = self._ours.shapes.get(name, ()), self._theirs.shapes.get(other, ())
        return [n for n in ours if n != 1] == [n for n in theirs if n != 1]

    def _lacking(self, node: Node, other: Node | None) -> tuple[str, ...]:
        """Constants of a node that have no equal, where the other has one of that size as well."""
        if other is None or other.key != node.key:
            return ()
        sizes = {self._theirs.values[name].size for name in _constants(self._theirs.graph, other)}
        ours = _constants(self._ours.graph, node)
        return tuple(k for k in ours if k not in self.known and self._ours.values[k].size in sizes)

    # ---- from the outputs back ----

    def cotangent(self, *, by_number: bool) -> Departure | None:
        """The first tensor whose cotangent departs, of those of one name.

        Args:
            by_number: Whether also of those that are known by their numbers alone. Where values
                depart, their cotangents only tell of that.
        """
        shapes = self._theirs.shapes
        pairs = {k: k for k, shape in self._ours.shapes.items() if shapes.get(k) == shape}
        if by_number:
            pairs |= self._unmistaken()
        makers, others = _makers(self._ours.graph), _makers(self._theirs.graph)
        ours, theirs = self._ours.cotangents, self._theirs.cotangents
        for name in reversed(makers):
            place = pairs.get(name, "")
            if name not in ours or place not in theirs or ours[name].size != theirs[place].size:
                continue
            allowed = self._judge.allowed(ours[name], [run.cotangents[name] for run in self._runs])
            if excess(ours[name], theirs[place], allowed) > 1.0:
                node, other = makers[name], others.get(place)
                return Departure(
                    "cotangent",
                    name,
                    *_asked(self._first, node),
                    *_asked(self._second, other),
                    (),
                    "",
                    (place,),
                    False,
                    float(np.max(difference(ours[name], theirs[place]), initial=0.0)),
                    size(ours[name]),
                )
        return None

    def _unmistaken(self) -> dict[str, str]:
        """Tensors that are equal to only one, as that is to only them, axes in their order."""
        times = Counter(twin.name for some in self.known.values() for twin in some)
        return {
            name: some[0].name
            for name, some in self.known.items()
            if len(some) == 1 and times[some[0].name] == 1 and not some[0].turned
        }


# ---- ways through a graph ------------------------------------------------------------------------


def _asked(problem: Problem, node: Node | None) -> tuple[str, str]:
    """The user's node, and its operator; of none, nothing.

    What a composite was written out into, or the straight-through estimator of it, has its name.
    """
    if node is None:
        return "", ""
    name = node.origin or node.name
    files = problem.model.graph.nodes if problem.model is not None else ()
    return name, next((n.key for n in (*files, *problem.exact.nodes) if n.name == name), node.key)


def _makers(graph: Graph) -> dict[str, Node]:
    """By the name of each tensor that is computed: the node that computes it, in order."""
    return {v.name: node for node in graph.nodes for v in node.makes()}


def _operands(graph: Graph, node: Node) -> list[Value]:
    """What a node reads that is no constant."""
    return [v for v in node.reads() if v not in graph.constants]


def _constants(graph: Graph, node: Node) -> list[str]:
    return [v.name for v in node.reads() if v in graph.constants]


def _starts(graph: Graph, seeds: Iterable[str], known: Container[str]) -> Iterator[Node]:
    """Where what departs begins: nodes on the ways back from `seeds`, all operands of them known.

    A way ends at what is known, and at the inputs.
    """
    makers = _makers(graph)
    left, seen = [name for name in seeds if name in makers], set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        left += [
            v.name
            for v in _operands(graph, makers[name])
            if v.name in makers and v.name not in known
        ]
    for node in graph.nodes:
        if any(v.name in seen for v in node.makes()) and not any(
            v.name in seen for v in _operands(graph, node)
        ):
            yield node
