"""One walk over the nodes: the values at the point, what hangs on them, and a look at each node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradcli import onnxfile, runtime
from gradcli.deadline import check
from gradcli.engines.base.alone import BITS, Alone, LocalError, finite, known
from gradcli.engines.base.nodeat import Focus, NodeAt
from gradcli.engines.base.program import Arrays, Engine, as_run
from gradcli.engines.base.rounding import ABSOLUTE
from gradcli.errors import GradcliError, MissingExtraError, OutOfTimeError
from gradcli.graph import DType, Graph, Node, Value
from gradcli.interpret import Evaluator, evaluate
from gradcli.numbers import Array, Ball, real
from gradcli.ops import Card
from gradcli.problem import Problem
from gradcli.transform import Derivative, cast, jvp, simplify, vjp, written_out
from gradcli.transform.rewrite import active_values, carriers, felt_values

NUDGE = 2.0**-20
"""The relative change of operands that shows the condition of a node."""

SUMS = ("Conv", "ConvTranspose", "MatMul")
"""Operators whose results are sums of products of an element of each operand."""

DRAWS = 4
"""How often operands are changed, to know of every element how far it moves."""

FEW_DRAWS = 1
"""How often, to know it of all elements together."""

UNDERFLOW = 2.0**-126
"""What float32 may lose of a number because it has no smaller normal ones."""

INDIRECT = 0.01
"""What an error counts that may be made of several nodes' errors."""

RECURRENT = ("LSTM", "GRU", "RNN")
"""Operators that add up the absolute errors of fast kernels over their steps."""

FINE = 16.0
"""Errors of so many units of the last place need no explanation."""


@dataclass(frozen=True)
class _Held:
    """A node's results, and how far they are off; None where that is not to be known."""

    results: Sequence[Array]
    off: Sequence[np.ndarray | None]
    enclosed: bool


@dataclass(frozen=True)
class _Off:
    """How far they are off: in units of the last place, and in what rounding would make.

    Attributes:
        ulps: The former.
        misfit: The latter.
        spreads: How far each result moves with the operands, where that was needed to know.
    """

    ulps: float
    misfit: float
    spreads: Sequence[np.ndarray] | None


class Walker:
    """The values at the point, how the focus hangs on them, and a look at one node."""

    def __init__(
        self,
        problem: Problem,
        focus: Focus,
        methods: Sequence[Engine],
        worth: Callable[[Node], bool],
    ) -> None:
        self.p, self.focus, self.methods, self._worth = problem, focus, methods, worth
        self.graph, self._became = written_out(problem.exact, table=problem.table)
        self.wholes = [
            node.on(self._now(node.inputs), self._now(node.outputs))
            for node in problem.exact.nodes
            if (card := problem.table.get(node.key)) is not None and card.kind == "composite"
        ]
        self._makers = self.graph.producers()
        self._written = {_user(node) for node in self.wholes}
        self.rng = np.random.default_rng(problem.seed)
        inputs = [v for v in self.graph.inputs if v.name in set(problem.wrt)]
        self._active = active_values(self.graph, inputs, problem.table)
        self._felt = felt_values(self.graph, self.graph.outputs, problem.table)
        self._eps = problem.dtype.eps
        self._ball = _balls()
        self.enclosed = self._ball is not None
        # By value: as the methods compute it, and as the file does.
        self._own: dict[Value, Array] = {}
        self._file: dict[Value, Array] = {}
        self._own_loose: dict[Value, str] = {}
        self._file_loose: dict[Value, str] = {}
        self._tied: dict[str, list[np.ndarray]] = {}
        self._alike: set[Node] = set()
        self._own_held: dict[Node, _Held] = {}
        self._own_made: Arrays = {}
        self._file_made: Arrays = {}
        self.dots: Arrays = {}
        self.bars: Arrays = {}
        self.slopes: Arrays = {}

    def prepare(self) -> None:
        """Compute all values, and what hangs on them."""
        self.values()
        self._sensitivities()

    def values(self) -> None:
        """Compute all values, and give those of inputs and constants."""
        self._own_made = self._run_own()
        # A method's error is none of the file's own run.
        asked = self.focus.primal or not self.focus.method or not self._own_made
        self._file_made = self._run_file() if asked else {}
        for graph, made in ((self.graph, self._own), (self.p.exact, self._file)):
            made.update((v, _wide(np.asarray(self.p.point[v.name]))) for v in graph.inputs)
            made.update(graph.constants)

    def _run_own(self) -> Arrays:
        """Everything that a node makes, in the model's width; none in float64, which is ours."""
        if self.p.dtype is DType.FLOAT64:
            return {}
        try:
            return self._shown(cast(self.graph, self.p.dtype, self.p.table), self.p.point)
        except GradcliError:
            return {}

    def _run_file(self) -> Arrays:
        """Those of them that the file has, by its original bytes."""
        model = self.p.model
        if model is None or self.p.straight_through:
            return {}
        values = (v for node in self.p.exact.nodes for v in node.makes())
        made = {v.name for v in values if v.dtype is not DType.STRING}
        quantised = any(node.op == "DequantizeLinear" for node in model.graph.nodes)
        try:
            outputs = {v.name for v in model.graph.outputs}
            extra = sorted((made & onnxfile.tensors_of(model)) - outputs)
            session = runtime.prepare(
                model,
                threads=self.p.threads,
                provider=self.p.provider,
                extra_outputs=extra,
                optimisation="off" if quantised else None,
            )
            out = session.run(self.p.feeds)
        except GradcliError:
            return {}
        return {k: x for k, x in out.items() if k in made}

    def _sensitivities(self) -> None:
        """Tangents and cotangents of all values, and how the focus hangs on their errors."""
        p, graph = self.p, self.graph
        given = {**p.point}
        try:
            ahead = jvp(graph, p.wrt, p.of, p.table, inner=True)
            feeds = given | {d: self.focus.tangents[k] for k, d in ahead.directions.items()}
            back = vjp(graph, p.wrt, p.of, p.table, inner=True)
            bars = given | {d: self.focus.cotangents[k] for k, d in back.directions.items()}
            self.bars = self._results(back, bars)
        except OutOfTimeError:
            raise
        except Exception:  # noqa: BLE001 # a rule that breaks: then what hangs on what is not known
            return
        try:
            ends = [ahead.results[k] for k in p.of if k in ahead.results]
            twice = vjp(ahead.graph, None, ends, p.table, inner=True)
            of = {v: k for k, v in ahead.results.items()}
            feeds |= {d: self.focus.cotangents[of[k]] for k, d in twice.directions.items()}
            graph = simplify(twice.graph, p.table)
            out = Evaluator(graph, table=p.table).run(feeds)
            self.slopes = {name: finite(out[made]) for name, made in twice.results.items()}
            pushed = {name: finite(out[made]) for name, made in ahead.results.items()}
        except OutOfTimeError:
            raise
        except Exception:  # noqa: BLE001 # likewise, of the second derivative
            pushed = dict(self._results(ahead, feeds))
        self.dots = {**pushed, **self.focus.tangents}

    def _results(self, derivative: Derivative, feeds: Mapping[str, np.ndarray]) -> Arrays:
        graph = simplify(derivative.graph, self.p.table)
        out = Evaluator(graph, table=self.p.table).run(feeds)
        return {name: finite(out[made]) for name, made in derivative.results.items()}

    def kernels_of(self, method: Engine) -> Iterator[tuple[str, float]]:
        """How far the operators that a method runs are off, by the user's node that they serve.

        In units of what rounding would make, each on the operands that it has there.
        """
        p = self.p
        if p.dtype is DType.FLOAT64 or method.uses == "impl":
            return
        try:
            made_of = jvp if method.uses == "jvp" else vjp
            derivative = made_of(p.own, p.wrt, p.of, p.table)
            graph = as_run(p, derivative.graph)
            feeds = dict(p.point)
            known_ways = {**self.focus.tangents, **self.focus.cotangents}
            for name, given in derivative.directions.items():
                feeds[given] = known_ways.get(name, self.rng.standard_normal(p.shape(name)))
            made = self._shown(graph, feeds)
        except GradcliError:
            return
        env: dict[Value, Array] = dict(graph.constants)
        env |= {v: _wide(np.asarray(feeds[v.name])) for v in graph.inputs}
        worst: dict[str, float] = {}
        users = {node.name for node in self.graph.nodes} | {n.origin for n in self.graph.nodes}
        owner: dict[Value, str] = {}
        for node in graph.nodes:
            check()
            operands = [None if v is None else env[v] for v in node.inputs]
            name = node.origin or node.name
            if name not in users:
                # What serves several nodes is put down to the last of them.
                name = next((owner[v] for v in reversed(node.reads()) if v in owner), name)
            owner.update(dict.fromkeys(node.makes(), name))
            try:
                held = self._held(node, operands, made, enclosed=False)
                off = self._off(node, operands, held, made)
            except OutOfTimeError:
                raise
            except GradcliError:
                # What the interpreter does not know is taken as it comes.
                env |= {v: _wide(made[v.name]) for v in node.makes()}
                continue
            env |= {v: x for v, x in zip(node.outputs, held.results, strict=False) if v is not None}
            worst[name] = max(worst.get(name, 0.0), off.misfit)
        yield from worst.items()

    def _shown(self, graph: Graph, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Everything that the nodes of a graph make, by onnxruntime."""
        made = [v for node in graph.nodes for v in node.makes() if v.dtype is not DType.STRING]
        shown = replace(graph, outputs=tuple(dict.fromkeys(made)))
        session = runtime.prepare(shown, threads=self.p.threads, provider=self.p.provider)
        with np.errstate(over="ignore"):
            return session.run(
                {v.name: np.asarray(feeds[v.name]).astype(v.dtype.np) for v in shown.inputs}
            )

    # ---- one node --------------------------------------------------------------------------------

    def result_of(self, node: Node) -> NodeAt:
        """How far its result is off as methods compute it; kept for those after it."""
        check()
        operands = [None if v is None else self._own[v] for v in node.inputs]
        held = self._held(node, operands, self._own_made, self.enclosed and self._worth(node))
        self._own.update((v, y) for v, y in zip(node.outputs, held.results, strict=False) if v)
        if self._file_made:
            self._own_held[node] = held
        off = self._off(node, operands, held, self._own_made)
        return NodeAt(
            _user(node),
            node.key,
            ulps=off.ulps,
            misfit=off.misfit * self._direct(node, self._own_made, self._own_loose),
            condition=self._condition(node, held.results, off.spreads or ()),
            primal_share=_weighed(self.slopes, node.outputs, held.off),
            balls=held.enclosed,
        )

    def in_file(self) -> Iterator[NodeAt]:
        """How far the results of the file's own nodes are off, as onnxruntime runs it."""
        for node in self.p.exact.nodes if self._file_made else ():
            check()
            operands = [None if v is None else self._file[v] for v in node.inputs]
            now = self._now(node.outputs)
            held = self._as_own(node, operands)
            off = _Off(0.0, 0.0, None)
            if held is None:
                enclosed = self.enclosed and self._worth(node)
                held = self._held(node, operands, self._file_made, enclosed)
                off = self._off(node, operands, held, self._file_made)
            self._file.update((v, y) for v, y in zip(node.outputs, held.results, strict=False) if v)
            yield NodeAt(
                _user(node),
                node.key,
                ulps=off.ulps,
                misfit=off.misfit * self._direct(node, self._file_made, self._file_loose),
                output_share=_weighed(self.bars, now, held.off),
                balls=held.enclosed,
            )

    def _as_own(self, node: Node, operands: Sequence[Array]) -> _Held | None:
        """What was found of the node that methods run, if the file's made the same of the same."""
        now = self._now(node.outputs)
        own = next((self._makers.get(v) for v in now if v is not None), None)
        if own is None or own.key != node.key or own not in self._own_held:
            return None
        pairs = zip(operands, own.inputs, strict=True)
        same = all(_same(x, None if v is None else self._own[v]) for x, v in pairs)
        made = zip(node.outputs, now, strict=True)
        same &= all(
            _same(self._file_made.get(old.name), self._own_made.get(new.name))
            for old, new in made
            if old is not None and new is not None
        )
        return self._own_held[own] if same else None

    def _now(self, values: Sequence[Value | None]) -> list[Value | None]:
        """What values of the user's graph are in the one with composites written out."""
        return [None if v is None else self._became[v] for v in values]

    def _direct(self, node: Node, made: Arrays, loose: dict[Value, str]) -> float:
        """1 where a node's operands are those that it had, or its own making; else less.

        What the runtime did not give back, gradcli computed: what comes of it has the roundings of
        every node in between.
        """
        name = _user(node)
        loose.update((v, name) for v in node.makes() if v.name not in made)
        return 1.0 if all(loose.get(v, name) == name for v in node.reads()) else INDIRECT

    def derivative_of(self, node: Node, found: NodeAt) -> NodeAt:
        """What its result hangs on, and what the methods make of its derivative."""
        check()
        card = self.p.table[node.key]
        own = [None if v is None else self._own[v] for v in node.inputs]
        moves = any(v in self._active for v in node.reads())
        tied, edge = self._singular(card, node, own)
        if tied is not None:
            self._tied.setdefault(_user(node), []).append(tied)
        steps = moves and card.steps and any(v.dtype.is_float for v in node.makes())
        found = replace(found, tie=tied is not None, edge=edge, steps=steps)
        if node.subgraphs() or not any(v.dtype.is_float for v in node.makes()):
            return found
        if not found.condition:
            spreads = self._spreads(node, own, FEW_DRAWS)
            results = [None if v is None else self._own[v] for v in node.outputs]
            found = replace(found, condition=self._condition(node, results, spreads))
        if not any(v in self._felt for v in node.makes()):
            return found
        methods = [m for m in self.methods if m.uses != "impl" or _user(node) not in self._written]
        ties = [] if tied is None else [tied]
        made = self._derivatives(node, methods, own, found.balls, ties, quiet=bool(edge))
        return replace(found, derivatives=made)

    def whole_of(self, node: Node, parts: Sequence[NodeAt]) -> NodeAt:
        """What methods make of a composite that do not see what it is written out in.

        Args:
            node: One of `wholes`.
            parts: What was found of what it is written out in.
        """
        check()
        found = NodeAt(_user(node), node.key, balls=all(part.balls for part in parts))
        if not any(v in self._felt for v in node.makes()):
            return found
        own = [None if v is None else self._own[v] for v in node.inputs]
        ties = self._tied.get(_user(node), [])
        quiet = any(part.edge for part in parts)
        methods = [m for m in self.methods if m.uses == "impl"]
        made = self._derivatives(node, methods, own, found.balls, ties, quiet=quiet)
        return replace(found, derivatives=made)

    def _held(self, node: Node, operands: Sequence[Array], made: Arrays, enclosed: bool) -> _Held:
        """A node's results to go on with, and how far they are off."""
        exact: Sequence[Array] | None = None
        n = self._ball
        if enclosed and n is not None:
            try:
                exact = evaluate(node, [_lifted(n, x) for x in operands], n, self.p.table)
            except OutOfTimeError:
                raise
            except (GradcliError, MemoryError):
                exact = None
        plain = evaluate(node, operands, real, self.p.table)
        results: list[Array] = []
        off: list[np.ndarray | None] = []
        for value, y, y0 in zip(node.outputs, exact or plain, plain, strict=False):
            actual = None if value is None else made.get(value.name)
            fits = actual is not None and np.shape(actual) == np.shape(y0)
            seen = _wide(actual) if fits and actual is not None else y0
            results.append(seen)
            if value is None or not real.is_number(y0) or (exact is None and not fits):
                off.append(None)
                continue
            with np.errstate(invalid="ignore"):
                gap = seen - y0 if exact is None or n is None else n.lower(n.lift(seen) - y)
            same = (seen == y0) | (np.isnan(seen) & np.isnan(y0))
            off.append(np.where(same & ~np.isfinite(seen), 0.0, gap))
        return _Held(results, off, exact is not None)

    def _off(self, node: Node, operands: Sequence[Array], held: _Held, made: Arrays) -> _Off:
        """By how far its results are off, all things considered."""
        ulps = misfit = 0.0
        spreads: Sequence[np.ndarray] | None = None
        for k, (value, y, gap) in enumerate(
            zip(node.outputs, held.results, held.off, strict=False)
        ):
            if value is None or gap is None or not gap.size:
                continue
            seen = made.get(value.name)
            eps = DType.of(seen).eps if seen is not None else 2.0**-52
            with np.errstate(all="ignore"):
                size = np.nan_to_num(np.abs(y - gap), posinf=0.0)
                # A kernel that overflows where float64 does not is at the end of its range.
                lost = np.where(np.isinf(y), 0.0, np.where(np.isfinite(gap), np.abs(gap), np.inf))
                floor = eps * float(np.max(size)) + UNDERFLOW
                here = float(np.max(lost / (eps * np.maximum(size, floor))))
                ulps, rest = max(ulps, here), here
                if here > FINE:
                    spreads = spreads or self._spreads(node, operands)
                    scale = eps * (size + np.nan_to_num(spreads[k], posinf=np.inf)) + UNDERFLOW
                    absolute = node.key in ABSOLUTE or node.op in RECURRENT
                    rest = float(np.max(lost / (scale + (eps if absolute else 0.0))))
                misfit = max(misfit, rest)
        return _Off(ulps, misfit, spreads)

    def _spreads(
        self, node: Node, operands: Sequence[Array], draws: int = DRAWS
    ) -> list[np.ndarray]:
        """How far the results move when each element of the operands moves by itself, unscaled."""
        if node.key in SUMS:
            # Constants of a graph in float32 are that, and count too.
            terms = [None if x is None else np.square(np.asarray(x, float)) for x in operands]
            # Of each product both factors move.
            return [np.sqrt(2.0 * y) for y in evaluate(node, terms, real, self.p.table)]
        plain = evaluate(node, operands, real, self.p.table)
        squares = [np.zeros(np.shape(y)) for y in plain]
        if self.p.table[node.key].steps:
            return squares
        for _ in range(draws):
            moved = [
                x * (1 + NUDGE * self.rng.standard_normal(x.shape)) if _is_float(x) else x
                for x in operands
            ]
            try:
                again = evaluate(node, moved, real, self.p.table)
            except OutOfTimeError:
                raise
            except GradcliError:
                return squares
            for k, (y, z) in enumerate(zip(plain, again, strict=True)):
                if _is_float(y) and np.shape(y) == np.shape(z):
                    with np.errstate(all="ignore"):
                        squares[k] += np.nan_to_num(np.square((z - y) / NUDGE), posinf=1e300)
        return [np.sqrt(s / draws) for s in squares]

    def _condition(
        self, node: Node, results: Sequence[Array], spreads: Sequence[np.ndarray]
    ) -> float:
        """|operands| |partials| against |result|, each element as much as the focus hangs on it."""
        above = below = 0.0
        for value, y, wide in zip(node.outputs, results, spreads, strict=False):
            if value is None or not _is_float(y) or not y.size:
                continue
            slope = self.slopes.get(value.name)
            weight = np.ones(y.shape) if slope is None or not np.any(slope) else np.abs(slope)
            above += float(np.sum(weight * wide))
            below += float(np.sum(weight * np.abs(np.nan_to_num(y))))
        return above / below if below else 0.0

    def _singular(
        self, card: Card, node: Node, operands: Sequence[Array]
    ) -> tuple[np.ndarray | None, str]:
        """Which elements are exactly on a kink, and what lies at the edge that one is on."""
        tied, edge = None, ""
        with np.errstate(all="ignore"):
            if card.kinks is not None:
                margin, _ = card.kinks(real, *operands, **node.attrs)
                tied = np.asarray(margin) == 0
                if np.any(tied) and len(set(node.reads())) < len(node.reads()):
                    # What is tied with itself stays so, wherever it goes.
                    margin, _ = card.kinks(real, *self._moved(node, operands), **node.attrs)
                    if np.any(tied & (np.asarray(margin) == 0)):
                        self._alike.add(node)
                    tied &= np.asarray(margin) != 0
            if card.edges is not None and card.edge_of < len(operands):
                margin = card.edges(real, *operands, **node.attrs)
                edge = card.edge if np.any(np.asarray(margin) == 0) else ""
        return (tied if tied is not None and np.any(tied) else None), edge

    def _moved(self, node: Node, operands: Sequence[Array]) -> list[Array]:
        """Operands a random way off, those that are one value together."""
        away = {
            v: x + self.rng.standard_normal(np.shape(x))
            for v, x in zip(node.inputs, operands, strict=True)
            if _is_float(x)
        }
        return [away.get(v, x) for v, x in zip(node.inputs, operands, strict=True)]

    def _derivatives(
        self,
        node: Node,
        methods: Sequence[Engine],
        operands: Sequence[Array],
        enclosed: bool,
        ties: Sequence[np.ndarray],
        *,
        quiet: bool,
    ) -> dict[str, LocalError]:
        """These methods' derivatives of the node alone, held against one that uses no rule."""
        card = self.p.table[node.key]
        places = [
            k for k, v in enumerate(node.inputs) if v in self._active and v in carriers(node, card)
        ]
        found: dict[str, LocalError] = {}
        if not places:
            return found
        try:
            local = Alone(
                self.p,
                node,
                operands,
                places,
                (self.dots, self.bars),
                self.rng,
                self._ball if enclosed else None,
                ties,
                alike=node in self._alike,
            )
        except OutOfTimeError:
            raise
        except (GradcliError, MemoryError):
            return found
        for engine in methods:
            if engine.uses in ("jvp", "vjp") and getattr(card, engine.uses) is None:
                continue
            try:
                made = (
                    local.by_program(engine)
                    if engine.uses == "impl"
                    else local.by_rule("jvp" if engine.uses == "jvp" else "vjp")
                )
            except OutOfTimeError:
                raise
            except Exception:  # noqa: BLE001, S112 # what cannot be looked at alone is not accused
                continue
            if made is not None:
                # On a kink or an edge a convention decides, which nobody can call wrong.
                no_say = quiet or local.tied_all
                found[engine.name] = replace(made, error=0.0, exact=None) if no_say else made
        return found


def _user(node: Node) -> str:
    """The name of the user's node that a node is of."""
    return node.origin or node.name


def _balls() -> Ball | None:
    try:
        return Ball(BITS)
    except MissingExtraError:
        return None


def _weighed(
    weights: Arrays, values: Sequence[Value | None], gaps: Sequence[np.ndarray | None]
) -> float | None:
    """A node's errors, each as much as something hangs on it; None where nothing is known."""
    if not weights:
        return None
    total = 0.0
    for value, gap in zip(values, gaps, strict=False):
        if value is None or gap is None or value.name not in weights:
            continue
        w = weights[value.name]
        with np.errstate(all="ignore"):
            total += float(np.sum(np.where(w == 0, 0.0, w * gap)))
    return known(total)


def _lifted(n: Ball, x: Array) -> Array:
    return None if x is None else n.lift(np.asarray(x))


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64) if DType.of(x).is_float else x


def _same(a: Array, b: Array) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or np.array_equal(a, b)


def _is_float(x: Array) -> bool:
    return x is not None and real.is_number(x)
