"""Whether a kink matters: what becomes of the answer when that kink alone goes to its other side.

A random direction tells, with probability 1: two linear maps that agree along it agree. Along the
direction the tie's operator has two slopes, one behind and one ahead; every other tie of the graph
is held on the side ahead. Where the two slopes are the same, or nothing of the answer hangs on
them, the tie is smooth to whoever asked. In float64 one pass ahead and one back say so of all ties
together; in power series of balls it takes a pass for each, and is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcli.engines.base.inner import cotangents, tangents
from gradcli.engines.base.part import Part
from gradcli.engines.base.primal import EPS
from gradcli.engines.base.program import Arrays
from gradcli.engines.base.watch import SAME, Near, Tied, Watch
from gradcli.errors import OutOfTimeError
from gradcli.graph import Node
from gradcli.interpret import Evaluator, evaluate
from gradcli.numbers import Array, Series, real
from gradcli.problem import Problem

ASIDE = 2.0**-26
"""How far along the direction the other ties are told apart, relative to max(1, |x|)."""

SHORT = 2.0**-26
"""How far an operator's operands go to show its two slopes, relative to the largest of them."""

STRIDE = 2.0**-17
"""How far to either side outputs are looked at for their slope, with a step held on one side."""

EQUAL = 1e-6
"""Slopes that differ by less than this part of themselves are the same."""

NOTHING = 1e-12
"""A part of the largest that is rounding."""

BITS = 128
NARROW = 1e-20
"""How narrow a slope must be, relative to its terms, to be certain of it."""


def weigh(problem: Problem, watch: Watch, ties: Sequence[Near]) -> dict[str, Tied]:
    """What each of the nodes with ties means for the answer, in float64, by the node's name.

    Args:
        problem: The question.
        watch: What was seen at its point.
        ties: The kinks that the point lies on.

    Raises:
        OutOfTimeError: When a deadline passes.
        UnsupportedError: When an operator has no rule.
    """
    found = dict(_stepped(problem, watch, ties))
    nodes = _tied_nodes(problem, watch, ties)
    if not nodes:
        return found
    at: dict[Node, Sequence[Array]] = {}
    Evaluator(problem.exact, real, problem.table).run(
        problem.point, lambda n, xs, _: at.update({n: xs}) if n in nodes else None
    )
    passes = _Passes(problem, nodes)
    for sign in (1.0, -1.0):
        dots, bars = passes.along(sign)
        for node, near in nodes.items():
            seen = _both(problem, watch, node, at[node], near, (dots, bars))
            before = found.get(node.name)
            found[node.name] = seen if before is None or seen.many > before.many else before
    return found


def _tied_nodes(problem: Problem, watch: Watch, ties: Sequence[Near]) -> dict[Node, Near]:
    named = {near.node: near for near in ties}
    return {
        node: named[node.name]
        for node in watch.margins
        if node.name in named
        and not problem.table[node.key].steps
        and all(v.dtype.is_float for v in node.makes()[:1])
    }


def _stepped(problem: Problem, watch: Watch, ties: Sequence[Near]) -> Iterator[tuple[str, Tied]]:
    """What steps mean whose results jump at the point: what becomes of outputs and their slopes."""
    named = {near.node: near for near in ties}
    nodes = [n for n in watch.margins if n.name in named and problem.table[n.key].steps]
    if not nodes:
        return
    run, rng = Evaluator(problem.exact, real, problem.table), np.random.default_rng(problem.seed)
    along = {w: rng.standard_normal(problem.shape(w)) for w in problem.wrt} | dict(problem.tangents)

    def at(t: float, held: tuple[Node, tuple[Array, ...]] | None = None, **how: Any) -> np.ndarray:
        point = {**problem.point, **{w: problem.point[w] + t * v for w, v in along.items()}}
        adjust = None if held is None else lambda n, made: held[1] if n is held[0] else made
        out = run.run(point, adjust=adjust, **how)
        return np.concatenate([np.reshape(out[of], -1) for of in problem.of]).astype(float)

    beside: list[dict[Node, tuple[Array, ...]]] = []
    for sign in (1.0, -1.0):
        made: dict[Node, tuple[Array, ...]] = {}
        at(
            sign * ASIDE,
            observe=lambda n, _, y, made=made: made.update({n: tuple(y)}) if n in nodes else None,
        )
        beside.append(made)
    for node in nodes:
        near, count = named[node.name], max(1, int(np.sum(watch.margins[node] == 0)))
        both = [(node, made[node]) for made in beside]
        here = [at(0.0, side) for side in both]
        ahead, behind = ([at(t, side) for side in both] for t in (STRIDE, -STRIDE))
        slopes = [(a - b) / (2 * STRIDE) for a, b in zip(ahead, behind, strict=True)]
        noise = EPS * float(np.max(np.abs(here), where=np.isfinite(here), initial=0.0))
        jumps = _apart(here[0], here[1], noise)
        turns = _apart(slopes[0], slopes[1], noise / STRIDE)
        yield node.name, Tied(jumps or turns, near.index, count, jumps=jumps)


@np.errstate(all="ignore")
def _apart(a: np.ndarray, b: np.ndarray, noise: float) -> bool:
    size = np.nan_to_num(np.maximum(np.abs(a), np.abs(b)), posinf=0.0)
    return bool(np.any(np.nan_to_num(np.abs(a - b)) > EQUAL * size + 64 * noise))


class _Passes:
    """Tangents of what the nodes read, and cotangents of what they make."""

    def __init__(self, problem: Problem, nodes: Mapping[Node, Near]) -> None:
        self.p = problem
        rng = np.random.default_rng(problem.seed)
        self._dots = {w: rng.standard_normal(problem.shape(w)) for w in problem.wrt}
        self._dots |= {w: np.asarray(x, np.float64) for w, x in problem.tangents.items()}
        self._bars = {k: rng.standard_normal(problem.shape(k)) for k in problem.of}
        self._bars |= {k: np.asarray(x, np.float64) for k, x in problem.cotangents.items()}
        self._push = tangents(problem, {v.name for node in nodes for v in node.reads()})
        self._pull = cotangents(problem, {v.name for node in nodes for v in node.makes()})

    def along(self, sign: float) -> tuple[Arrays, Arrays]:
        """By name of a value, with the other ties on that side of the point."""
        p = self.p
        aside = dict(p.point)
        for w, v in self._dots.items():
            x = np.asarray(p.point[w], np.float64)
            aside[w] = x + sign * ASIDE * np.maximum(1.0, np.abs(x)) * np.sign(v)
            if p.operator == "jvp":
                scale = float(np.max(np.abs(v), initial=0.0)) or 1.0
                aside[w] = x + sign * ASIDE * max(1.0, float(np.max(np.abs(x)))) * v / scale
        return self._push(aside, self._dots), self._pull(aside, self._bars)


def _both(
    problem: Problem,
    watch: Watch,
    node: Node,
    operands: Sequence[Array],
    near: Near,
    ways: tuple[Arrays, Arrays],
) -> Tied:
    """One node between its two sides."""
    dots, bars = ways
    margin = watch.margins[node]
    widest = float(np.max(margin, where=np.isfinite(margin), initial=0.0))
    tied = margin <= max(near.margin, SAME * widest)
    count = max(1, int(np.sum(tied)))
    moves = [None if v is None else dots.get(v.name) for v in node.inputs]
    sizes = [float(np.max(np.abs(x))) for x, m in zip(operands, moves, strict=True) if _is(m, x)]
    speed = max((float(np.max(np.abs(m))) for m in moves if m is not None and m.size), default=0.0)
    if not sizes or speed == 0.0:
        return Tied(False, near.index, count, 0)
    off = float(np.min(margin, where=~tied & np.isfinite(margin), initial=np.inf))
    # Beyond the ties, and where there is room short of the next kink.
    least, room = 16 * near.margin, 0.25 * off
    length = max(SHORT * max([*sizes, 2.0**-60]), least)
    h = (min(length, room) if room > least else length) / speed
    here = evaluate(node, operands, real, problem.table)
    ahead, behind = (_moved(problem, node, operands, moves, t) for t in (h, -h))
    worst, place, many, parts = 0.0, near.index, 0, []
    for value, y, up, down in zip(node.outputs, here, ahead, behind, strict=False):
        if value is None or value.name not in bars or not np.any(bars[value.name]):
            continue
        bar = np.abs(bars[value.name])
        right, left = (up - y) / h, (y - down) / h
        steep = np.nan_to_num(np.maximum(np.abs(right), np.abs(left)))
        noise = 64 * EPS * np.nan_to_num(np.abs(y)) / h + 1e-10 * float(np.max(steep, initial=0.0))
        jump = np.nan_to_num(np.abs(right - left))
        jump = np.where(jump > EQUAL * steep + noise, jump, 0.0)
        if np.shape(tied) == np.shape(y):
            jump = np.where(tied, jump, 0.0)
        parts.append((bar * jump, float(np.max(bar * steep, initial=0.0))))
    whole = max((size for _, size in parts), default=0.0)
    for felt, _ in parts:
        mask = felt > NOTHING * whole
        many = max(many, int(np.sum(mask)))
        if np.any(mask) and float(np.max(felt)) > worst:
            worst = float(np.max(felt))
            if felt.shape == np.shape(tied):
                place = tuple(int(i) for i in np.unravel_index(int(np.argmax(felt)), felt.shape))
    return Tied(many > 0, place, count, min(many, count))


def _is(move: np.ndarray | None, x: Array) -> bool:
    return move is not None and x is not None and real.is_number(x) and bool(np.size(x))


def _moved(
    problem: Problem,
    node: Node,
    operands: Sequence[Array],
    moves: Sequence[np.ndarray | None],
    t: float,
) -> tuple[Array, ...]:
    moved = [x if m is None else x + t * m for x, m in zip(operands, moves, strict=True)]
    return evaluate(node, moved, real, problem.table)


# ---- and for certain -----------------------------------------------------------------------------


def certainly(
    problem: Problem,
    watch: Watch,
    ties: Sequence[Near],
    found: Mapping[str, Tied],
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Tied]:
    """The same by power series of balls, for as many nodes as there is time for.

    Each is evaluated with its slopes turned to those behind, and all others as they are ahead.

    Args:
        problem: The question.
        watch: What was seen at its point.
        ties: The kinks that the point lies on.
        found: What `weigh` said; those that it says to matter come first.
        tell: Called with a few words before each step.

    Raises:
        MissingExtraError: Without python-flint.
        CannotError: When an operator has no enclosure here.
    """
    sure = dict(found)
    nodes = [node for node in _tied_nodes(problem, watch, ties) if node.name in found]
    nodes.sort(key=lambda node: not found[node.name].matters)
    proof = _Proof(problem, set(nodes))
    try:
        answers = {sign: proof.ahead(sign) for sign in (1.0, -1.0)}
        for k, node in enumerate(nodes):
            tell(Part("kinks: what each of them means", k + 1, len(nodes)))
            says = [proof.same(node, sign, answer) for sign, answer in answers.items()]
            if False in says or all(says):
                sure[node.name] = replace(found[node.name], matters=False in says, certified=True)
    except OutOfTimeError:
        pass
    return sure


class _Proof:
    """The answer in power series along a direction, with one node turned round or none."""

    def __init__(self, problem: Problem, nodes: set[Node]) -> None:
        self.p, self.n, self._nodes = problem, Series(BITS), nodes
        rng = np.random.default_rng(problem.seed)
        self._dots = {w: rng.standard_normal(problem.shape(w)) for w in problem.wrt}
        self._dots |= {w: np.asarray(x, np.float64) for w, x in problem.tangents.items()}
        self._bars = {k: rng.standard_normal(problem.shape(k)) for k in problem.of}
        self._bars |= {k: np.asarray(x, np.float64) for k, x in problem.cotangents.items()}
        self._run = Evaluator(problem.exact, self.n, problem.table)
        self._behind: dict[float, dict[Node, tuple[Array, ...]]] = {}

    def ahead(self, sign: float) -> list[Array]:
        """The slopes of the answer, with every node as it is ahead; keeps what it is behind."""
        behind: dict[Node, tuple[Array, ...]] = {}

        def look(node: Node, operands: Sequence[Array], results: Sequence[Array]) -> None:
            if node not in self._nodes:
                return
            back = [self._turned(x) for x in operands]
            made = evaluate(node, back, self.n, self.p.table)
            turned = tuple(self._turned(y) for y in made)
            if not all(self._alike(a, b) for a, b in zip(results, turned, strict=False)):
                behind[node] = turned

        answer = self._answer(sign, look)
        self._behind[sign] = behind
        return answer

    def same(self, node: Node, sign: float, answer: Sequence[Array]) -> bool | None:
        """Whether the answer is the same with this node as it is behind; None where open."""
        turned = self._behind[sign].get(node)
        if turned is None:
            return True
        other = self._answer(sign, None, lambda n, made: turned if n is node else made)
        verdicts = [self._meets(a, b) for a, b in zip(answer, other, strict=True)]
        return False if False in verdicts else None if None in verdicts else True

    def _answer(
        self,
        sign: float,
        observe: Callable[[Node, Sequence[Array], Sequence[Array]], None] | None,
        adjust: Callable[[Node, tuple[Array, ...]], tuple[Array, ...]] | None = None,
    ) -> list[Array]:
        p, n = self.p, self.n
        along = {w: n.lift_along(p.point[w], sign * v) for w, v in self._dots.items()}
        out = self._run.run({**p.point, **along}, observe, adjust=adjust)
        ball = n.ball
        total = ball.full((1, 1), 0.0)
        for of, bar in self._bars.items():
            slope = n.number(out[of]).slope.reshape(1, -1)
            total = total + ball.matmul(slope, ball.lift(np.reshape(bar, (-1, 1))))
        return [total]

    def _turned(self, x: Array) -> Array:
        """The same series for t of the other sign."""
        if x is None or not self.n.is_number(x):
            return x
        y = self.n.number(x)
        return self.n.made(y.value, (y.moves, lambda: -y.slope))

    def _alike(self, a: Array, b: Array) -> bool:
        """Whether two results have the same slopes for certain: then nothing hangs on the tie."""
        if a is None or b is None or not self.n.is_number(a):
            return a is b or not self.n.is_number(a)
        gap = self.n.number(a).slope - self.n.number(b).slope
        return bool(np.all((self.n.ball.lower(gap) == 0) & (self.n.ball.radius(gap) == 0)))

    def _meets(self, a: Array, b: Array) -> bool | None:
        ball = self.n.ball
        if not ball.overlap(a, b).item():
            return False
        wide = float(max(ball.radius(a).item(), ball.radius(b).item()))
        size = max(abs(float(ball.lower(a).item())), abs(float(ball.lower(b).item())))
        return True if wide <= NARROW * size or wide == 0.0 else None
