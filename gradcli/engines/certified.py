"""Certified derivatives: balls that contain the truth, made narrower until every element is known.

The saved function is taken at its word: weights and inputs are exact numbers, and arithmetic is
exact. Its reverse graph, evaluated in balls, encloses that function's derivative if gradcli's rules
are right; its primal alone, evaluated in power series of balls, encloses directional derivatives
with no rule at all. Where the two meet, narrow as they are, both are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from gradcli.engines.base import (
    NARROW,
    Arrays,
    Certificate,
    Enclosure,
    Part,
    Probes,
    Sides,
    Space,
    as_saved,
    chunk_width,
)
from gradcli.errors import CannotError, OutOfTimeError, UndecidedError
from gradcli.graph import Graph, Node
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, Ball, Series
from gradcli.problem import Key, Problem
from gradcli.transform import simplify, vjp, vmap

NEEDED = 67
"""Bits of that, and some."""

FIRST = 128
"""The precision that is tried first."""

LAST = 1536
"""The precision at which it is given up: piecewise linear networks of 40 layers need as much."""

STEP = 8
"""Bits that every raise must gain while choices stay open."""

PATIENCE = 2
"""Raises in a row that may gain nothing."""

BEYOND = 32
"""Bits that a reverse graph loses more than power series of its primal, where they lose many."""

SPARE = 16
"""Bits beyond what is needed and what was lost."""

FAINT = 2.0**-40
"""A block whose share of an inner product is smaller than this is not confirmed by it."""

ROWS = 16
"""Rows of a Jacobian to take at once."""

WHOLE = 256
"""Rows of a Jacobian, or coordinates on a kink, above which a sample is taken."""

HALF_ULP = 2.0**-53
EPS = 2.0**-52


# ---- climbing ---------------------------------------------------------------------------------


Tell = Callable[[str], None]
"""Is told in a few words what is done next, or by a Part how far along it is."""


class _Climbing:
    """A graph in balls whose precision rises until all that is evaluated is narrow.

    Attributes:
        n: The number system; it keeps its precision from one evaluation to the next.
        opened: The nodes where a choice stayed open in the last evaluation.
        doing: What it climbs for, in words.
    """

    doing = ""

    def __init__(self, n: Ball, graph: Graph, space: Space, tell: Tell, terms: int = 1) -> None:
        space.demand(graph, n.bits, terms)
        self.n, self._tell = n, tell
        self._fits: Callable[[int], bool] = lambda bits: space.holds(graph, bits, terms)
        self.opened: dict[str, None] = {}
        self._at = self._nodes = 0

    def climbs(self, what: str) -> None:
        """Say what for."""
        self.doing = what
        self._tell(what)

    def _higher(self, bits: int) -> bool:
        """Take so many bits, if memory holds them."""
        bits = min(LAST, bits)
        if fits := self._fits(bits):
            self.n.bits = bits
        return fits

    def climb(self, evaluate: Callable[[], Mapping[str, Array]]) -> dict[str, Enclosure]:
        """The narrowest enclosures there are, by name."""
        before: tuple[int, tuple[str, ...]] | None = None
        best, idle, refused = -math.inf, 0, 0
        while True:
            self.opened = {}
            self.n.undecided = self._at = 0
            try:
                found = {name: Enclosure.of(self.n, x) for name, x in evaluate().items()}
            except UndecidedError:
                if refused == PATIENCE or self.n.bits >= LAST or not self._higher(2 * self.n.bits):
                    raise
                refused += 1
                self.n.alike = True
                continue
            good = min((e.good_bits() for e in found.values()), default=math.inf)
            nothing = any(not np.all(np.isfinite(e.rad)) for e in found.values())
            # What is no number although every choice was made will never be one.
            done = math.isinf(good) and not (nothing and self.n.undecided)
            state = self.n.undecided, tuple(self.opened)
            # Two numbers that are equal by another road than their value stay so at any precision.
            score = -math.inf if nothing else good
            same = self.n.undecided > 0 and state == before and not score > best + STEP
            before, best = state, max(best, score)
            if same and not done and not self.n.alike:
                # What no precision tells apart may be equal by construction.
                self.n.alike = True
                continue
            idle = idle + 1 if same else 0
            if done or idle == PATIENCE or self.n.bits >= LAST:
                return found
            need = NEEDED + SPARE + self.n.bits - good if math.isfinite(good) else 0.0
            if not self._higher(max(64 * math.ceil(need / 64), self.n.bits * 3 // 2)):
                return found

    def start_beyond(self, other: _Climbing) -> None:
        """Start where another one ended that had to climb, and a step above: less is in vain."""
        if other.n.bits > FIRST:
            self._higher(other.n.bits + BEYOND)
        self.n.alike = other.n.alike

    def watch(self, node: Node, _: Sequence[Array], __: Sequence[Array]) -> None:
        """Called after each node: whose choices stay open?"""
        if self.n.undecided > self._open:
            self.opened[node.origin or node.name] = None
        self._open = self.n.undecided
        self._at += 1
        self._tell(Part(f"{self.doing}, {self.n.bits} bits", self._at, self._nodes))

    _open = 0


class _Pulled(_Climbing):
    """The reverse graph in balls: what cotangents come to, `width` of them at once."""

    def __init__(self, problem: Problem, rows: int, space: Space, tell: Tell) -> None:
        derivative = vjp(problem.own, problem.wrt, problem.of, problem.table)
        graph = simplify(derivative.graph, problem.table, exact=True)
        super().__init__(Ball(FIRST), graph, space, tell)
        self.width = chunk_width(graph, min(rows, ROWS, space.copies(graph, FIRST)))
        if self.width > 1:
            try:
                graph = vmap(graph, derivative.directions.values(), self.width, problem.table)
            except CannotError:
                self.width = 1
        self._problem, self._derivative = problem, derivative
        self._evaluator = Evaluator(graph, self.n, problem.table)
        self._nodes = len(graph.nodes)

    def back(self, bars: Arrays) -> dict[str, Enclosure]:
        """Enclosures [width, *shape] for each of `wrt`, from at most `width` cotangents."""
        feeds = dict(self._problem.point)
        for of, given in self._derivative.directions.items():
            missing = np.zeros((self.width - len(bars[of]), *bars[of].shape[1:]))
            filled = np.concatenate([bars[of], missing])
            feeds[given] = filled if self.width > 1 else filled[0]
        return self.climb(lambda: self._run(feeds))

    def _run(self, feeds: Arrays) -> dict[str, Array]:
        out = self._evaluator.run(feeds, self.watch)
        made = {}
        for wrt in self._problem.wrt:
            shape = (self.width, *self._problem.shape(wrt))
            result = self._derivative.results.get(wrt)
            made[wrt] = self.n.full(shape, 0.0) if result is None else out[result].reshape(shape)
        return made


class _Pushed(_Climbing):
    """The primal in power series of balls: what a tangent comes to, with no rule at all.

    Attributes:
        primal: The outputs of the last evaluation, to the nearest float64.
    """

    primal: Arrays = MappingProxyType({})

    def __init__(self, problem: Problem, space: Space, tell: Tell) -> None:
        self._series = Series(FIRST)
        super().__init__(self._series.ball, problem.exact, space, tell, terms=2)
        self._problem = problem
        self._evaluator = Evaluator(problem.exact, self._series, problem.table)
        self._nodes = len(problem.exact.nodes)

    def ahead(self, dots: Arrays) -> dict[str, Enclosure]:
        """Enclosures for each of `of` of the derivative in a direction, on that side of a kink."""
        p = self._problem
        moved = {wrt: self._series.lift_along(p.point[wrt], dots[wrt]) for wrt in p.wrt}

        def run() -> dict[str, Array]:
            self._series.ties = 0
            out = self._evaluator.run({**p.point, **moved}, self.watch)
            self.primal = {of: self.n.lower(self._series.number(out[of]).value) for of in p.of}
            return {of: self._series.number(out[of]).slope for of in p.of}

        return self.climb(run)

    def both_sides(self, dots: Arrays) -> tuple[dict[str, Enclosure], dict[str, Enclosure]]:
        """The derivative in a direction from behind and from ahead; off kinks they are the same."""
        ahead = self.ahead(dots)
        if not self.n.undecided and not self._series.ties:
            return ahead, ahead
        behind = self.ahead({wrt: -d for wrt, d in dots.items()})
        return {of: e.negated() for of, e in behind.items()}, ahead


# ---- the certificate -----------------------------------------------------------------------------


def certify(
    problem: Problem,
    sample: Probes,
    tell: Callable[[str], None] = lambda _: None,
    memory: int | None = None,
) -> Certificate:
    """Enclose a derivative, or a sample of it, and hold it against power series of the primal.

    Where a deadline passes on the way, what is known by then is what is certified.

    Args:
        problem: The question.
        sample: Which rows of a Jacobian, and which coordinates on a kink, to take where there are
            many.
        tell: Called with a few words before each step.
        memory: Bytes that the enclosures may take, roughly: fewer rows of a Jacobian are taken at
            once, and precision rises as far as that. None for half of the machine's, or 8 GiB.

    Raises:
        MissingExtraError: Without python-flint.
        CannotError: When an operator has no enclosure here, or memory does not do.
        OutOfTimeError: When a deadline of `deadline.until` passed before anything was known.
    """
    space = Space.here() if memory is None else Space(memory)
    notary = _Notary(as_saved(problem), sample, space, tell)
    try:
        if problem.operator == "jvp":
            notary.push()
        else:
            notary.pull()
    except OutOfTimeError:
        if not notary.taken:
            raise
    return notary.certificate()


@dataclass(frozen=True)
class _Row:
    """A cotangent, and the part of the answer that it comes to.

    Attributes:
        bars: The cotangent, for each of `of`.
        of: The output whose row it is; empty where all outputs are summed up.
        index: Which row, flat.
    """

    bars: Arrays
    of: str = ""
    index: int = 0


class _Notary:
    """One certificate in the making."""

    def __init__(self, problem: Problem, sample: Probes, space: Space, tell: Tell) -> None:
        self.p, self.sample, self.space, self.tell = problem, sample, space, tell
        self.rng = np.random.default_rng(problem.seed)
        self.blocks, self.doubts, self.left, self.right, self.wide = (
            {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
            for _ in range(5)
        )
        self.known = {key: np.zeros(problem.block_shape(key), bool) for key in problem.keys}
        self.below = self.taken = self.bits = 0
        self.confirmed = self.contradicted = self.kinked = 0
        self.digits: float = math.inf
        self.opened: dict[str, None] = {}
        self.primal: Arrays = {}

    # ---- a jvp: the series answer, and the reverse graph confirms --------------------------------

    def push(self) -> None:
        """Certify a jvp."""
        p, push = self.p, _Pushed(self.p, self.space, self.tell)
        push.climbs("certified reference: the tangent ahead")
        behind, ahead = push.both_sides(p.tangents)
        smooth = {of: push.n.overlap(behind[of].balls, ahead[of].balls) for of in p.of}
        for of in p.of:
            self._put((of, ""), _ALL, ahead[of], smooth[of])
            if not np.all(smooth[of]):
                self.kinked += 1
                self._side((of, ""), _ALL, behind[of], ahead[of])
        self._keep(push)
        # What has two slopes is not what the reverse graph has one of.
        bars = {of: self.rng.standard_normal(p.shape(of)) * smooth[of] for of in p.of}
        pull = _Pulled(p, 1, self.space, self.tell)
        pull.climbs("certified reference: a cotangent back")
        pull.start_beyond(push)
        back = pull.back({of: bar[None] for of, bar in bars.items()})
        n = pull.n if pull.n.bits >= push.n.bits else push.n
        product, size = _product(n, {w: e.row(0) for w, e in back.items()}, p.tangents)
        other, _ = _product(n, ahead, bars)
        if behind is ahead or n.overlap(product, other).item():
            self._meet(n, product, other, size)

    # ---- everything else: the reverse graph answers, and the series confirm ----------------------

    def pull(self) -> None:
        """Certify a gradient, a vjp or a Jacobian."""
        p, rows = self.p, self._rows()
        dots = {wrt: self.rng.standard_normal(p.shape(wrt)) for wrt in p.wrt}
        pull = _Pulled(p, len(rows), self.space, self.tell)
        push = _Pushed(p, self.space, self.tell)
        push.climbs("certified reference: a direction ahead")
        behind, ahead = push.both_sides(dots)
        self._keep(push)
        if not any(np.any(side.known()) for side in ahead.values()):
            return  # there is nothing to confirm anything with
        pull.start_beyond(push)
        suspects: list[tuple[_Row, Mapping[str, Enclosure]]] = []
        faint: list[tuple[_Row, str, Enclosure]] = []
        for start in range(0, len(rows), pull.width):
            chunk = rows[start : start + pull.width]
            pull.climbs(f"certified reference: row {start + 1} of {len(rows)} back")
            back = pull.back({of: np.stack([row.bars[of] for row in chunk]) for of in p.of})
            self._keep(pull)
            for k, row in enumerate(chunk):
                mine = {wrt: e.row(k) for wrt, e in back.items()}
                n = pull.n if pull.n.bits >= push.n.bits else push.n
                product, size = _product(n, mine, dots)
                two = [_product(n, side, row.bars)[0] for side in (behind, ahead)]
                # At a tie conventions may compose to another slope than the one there is.
                taken = behind is ahead or n.overlap(product, two[0]).item()
                # What ends at this point, on one side, overlaps with everything.
                ends = behind is not ahead and not np.all(np.isfinite([*map(n.radius, two)]))
                if not n.overlap(*two).item() or not taken or ends:
                    self.kinked += 1
                    suspects.append((row, mine))
                    continue
                self._meet(n, product, two[0], size)
                for wrt in p.wrt:
                    self._put((row.of, wrt), (row.index, slice(None)), mine[wrt])
                    if 0.0 < _share(mine[wrt], dots[wrt]) < FAINT * size:
                        faint.append((row, wrt, mine[wrt]))
        self._alone(push, dots, faint)
        if suspects:
            self._along_coordinates(push, suspects)
        elif len(rows) == 1 and not self.confirmed and not self.contradicted:
            self._beside_what_is_open(push, rows[0], mine)

    def _alone(
        self, push: _Pushed, dots: Arrays, faint: Sequence[tuple[_Row, str, Enclosure]]
    ) -> None:
        """Confirm the blocks that are as nothing beside others, each along itself only."""
        for wrt in dict.fromkeys(wrt for _, wrt, _ in faint):
            self.tell(f"certified reference: a direction ahead, along {wrt} alone")
            along = {name: dot * (name == wrt) for name, dot in dots.items()}
            behind, ahead = push.both_sides(along)
            for row, of_row, e in faint:
                if of_row != wrt:
                    continue
                product, size = _product(push.n, {wrt: e}, along)
                other, _ = _product(push.n, ahead, row.bars)
                if behind is ahead or push.n.overlap(product, other).item():
                    self._meet(push.n, product, other, size)
                else:
                    self._view(self.known, (row.of, wrt))[row.index] = False

    def _beside_what_is_open(self, push: _Pushed, row: _Row, mine: Mapping[str, Enclosure]) -> None:
        """Confirm the elements that are known, where others are not: along them only."""
        known = {wrt: e.known() for wrt, e in mine.items()}
        if not any(np.any(k) for k in known.values()):
            return
        push.climbs("certified reference: beside what stays open")
        dots = {wrt: self.rng.standard_normal(k.shape) * k for wrt, k in known.items()}
        behind, ahead = push.both_sides(dots)
        n, zero = push.n, push.n.full((), 0.0)
        sure = {
            wrt: replace(e, balls=n.where(known[wrt], e.balls, zero)) for wrt, e in mine.items()
        }
        product, size = _product(n, sure, dots)
        for side in (behind, ahead):
            self._meet(n, product, _product(n, side, row.bars)[0], size)

    def _rows(self) -> list[_Row]:
        p = self.p
        if p.operator != "jacobian":
            return [_Row(p.cotangents)]
        rows = []
        for of in p.of:
            size = int(np.prod(p.shape(of)))
            for index in range(size) if p.rows <= WHOLE else self.sample.of[of]:
                bars = {name: np.zeros(p.shape(name)) for name in p.of}
                bars[of].reshape(-1)[index] = 1.0
                rows.append(_Row(bars, of, int(index)))
        return rows

    def _along_coordinates(
        self, push: _Pushed, rows: Sequence[tuple[_Row, Mapping[str, Enclosure]]]
    ) -> None:
        """On a kink: which elements have two slopes, coordinate by coordinate.

        What conventions of several ties compose to may be another slope than the one there is;
        there the series answer.
        """
        p = self.p
        found = [{wrt: np.array(e.balls) for wrt, e in mine.items()} for _, mine in rows]
        looked = {
            (row.of, wrt): np.zeros_like(self._view(self.known, (row.of, wrt)))
            for row, _ in rows
            for wrt in p.wrt
        }
        for wrt in p.wrt:
            size = int(np.prod(p.shape(wrt)))
            for index in range(size) if p.columns <= WHOLE else self.sample.wrt[wrt]:
                push.climbs(f"certified reference: both sides of {wrt}, element {index}")
                dots = {name: np.zeros(p.shape(name)) for name in p.wrt}
                dots[wrt].reshape(-1)[index] = 1.0
                behind, ahead = push.both_sides(dots)
                for (row, mine), balls in zip(rows, found, strict=True):
                    sides = [_product(push.n, side, row.bars)[0] for side in (behind, ahead)]
                    # Where a choice stayed open two hulls overlap, which says nothing.
                    wide = float(max(push.n.radius(side).item() for side in sides))
                    narrow = wide <= NARROW * mine[wrt].size
                    smooth = narrow and push.n.overlap(*sides).item()
                    where = (row.index, int(index))
                    own = mine[wrt].balls.reshape(-1)[int(index) : int(index) + 1]
                    if smooth and not push.n.overlap(sides[1], own).item():
                        balls[wrt].reshape(-1)[int(index)] = np.asarray(sides[1]).item()
                    elif smooth:
                        scale = abs(float(mine[wrt].mid.reshape(-1)[int(index)]))
                        self._meet(push.n, sides[1], own, scale)
                    self._side((row.of, wrt), where, *(Enclosure.of(push.n, x) for x in sides))
                    looked[row.of, wrt][where] = smooth
        self._keep(push)
        for (row, _), balls in zip(rows, found, strict=True):
            for wrt in p.wrt:
                here = looked[row.of, wrt][row.index]
                made = Enclosure.of(push.n, push.n.box(balls[wrt]))
                self._put((row.of, wrt), (row.index, slice(None)), made, here)

    # ---- what is noted down ----------------------------------------------------------------------

    def _view(self, blocks: Mapping[Key, np.ndarray], key: Key) -> np.ndarray:
        """A block as a matrix: one row for each element of `of`, one column for each of `wrt`."""
        of, wrt = key
        rows = int(np.prod(self.p.shape(of))) if of else 1
        columns = int(np.prod(self.p.shape(wrt))) if wrt else 1
        return blocks[key].reshape(rows, columns)

    def _put(
        self, key: Key, where: _Where, found: Enclosure, smooth: np.ndarray | bool = True
    ) -> None:
        """Elements of the answer, those that are known and have one slope."""
        blocks = (self._view(b, key) for b in (self.blocks, self.doubts, self.known))
        value, doubt, known = blocks
        one = smooth if np.ndim(smooth) == 0 else np.reshape(smooth, found.mid.shape)
        sure = found.known() & one
        value[where] = np.where(sure, found.mid, np.nan).reshape(value[where].shape)
        bound = found.rad * (1.0 + EPS) + HALF_ULP * np.abs(found.mid)
        doubt[where] = np.where(sure, bound, np.inf).reshape(value[where].shape)
        known[where] = np.reshape(sure, value[where].shape)
        self.taken += found.mid.size
        self.below += int(np.sum(found.below() & one))
        self.digits = min(self.digits, found.digits())

    def _side(self, key: Key, where: _Where, behind: Enclosure, ahead: Enclosure) -> None:
        """One-sided derivatives of elements."""
        left, right, wide = (self._view(b, key) for b in (self.left, self.right, self.wide))
        left[where] = behind.mid.reshape(left[where].shape)
        right[where] = ahead.mid.reshape(left[where].shape)
        bound = np.maximum(behind.rad, ahead.rad) + EPS * np.abs(ahead.mid)
        wide[where] = bound.reshape(left[where].shape)

    def _meet(self, n: Ball, product: Array, other: Array, size: float) -> None:
        """An inner product by the reverse graph, and by power series."""
        if not n.overlap(product, other).item():
            self.contradicted += 1
        elif float(max(n.radius(product).item(), n.radius(other).item())) <= NARROW * size:
            self.confirmed += 1

    def _keep(self, climbed: _Climbing) -> None:
        """How high it went, and what stayed open there."""
        self.bits = max(self.bits, climbed.n.bits)
        if isinstance(climbed, _Pushed):
            self.primal = climbed.primal
        self.opened.update(climbed.opened)

    def certificate(self) -> Certificate:
        """What is known by now."""
        sides = Sides(self.left, self.right, self.wide) if self.kinked else None
        return Certificate(
            self.blocks,
            self.doubts,
            self.known,
            self.below,
            self.taken,
            self.bits,
            self.digits,
            self.confirmed,
            self.contradicted,
            self.p.operator == "jvp",
            sides,
            tuple(self.opened),
            self.primal,
        )


_Where = Any
"""An index into a matrix."""

_ALL: _Where = (slice(None), slice(None))


def _share(e: Enclosure, weights: np.ndarray) -> float:
    """The sum of an inner product's terms' sizes."""
    return float(np.nan_to_num(np.abs(e.mid)).reshape(-1) @ np.abs(weights).reshape(-1))


def _product(n: Ball, found: Mapping[str, Enclosure], weights: Arrays) -> tuple[Array, float]:
    """The inner product of enclosed tensors with exact ones, and the sum of its terms' sizes."""
    total, size = n.full((1, 1), 0.0), 0.0
    for name, e in found.items():
        w = np.asarray(weights[name], np.float64).reshape(-1)
        total = total + n.matmul(e.balls.reshape(1, -1), n.lift(w[:, None]))
        size += _share(e, w)
    return total, size
