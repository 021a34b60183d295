"""One node by itself: its derivative by the rules of a method, against one that uses no rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from gradcli.engines.base.program import Arrays, Engine, Program, Run, compile_graph
from gradcli.engines.base.rounding import shaken
from gradcli.errors import GradcliError, OutOfTimeError
from gradcli.graph import Builder, DType, Graph, Node, Value, Var
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, Ball, Series, complex_, real
from gradcli.ops import Table
from gradcli.problem import Problem
from gradcli.transform import Derivative, cast, jvp, simplify, vjp

STEP = 1e-30
"""Of the complex step, relative to nothing: there is no subtraction in it."""

WRONG = 1e-8
"""A relative difference that no float64 rounding of a single operator makes."""

CERTAIN = 1e-13
"""One that enclosures do not forgive: constants of a rule are rounded to float64."""

BITS = 128
"""The precision of balls: a single node loses few digits."""

NARROW = 1e-12
"""How narrow an enclosure must be, relatively, to accuse a rule."""

MISFIT = 250.0
"""Above so many times what rounding makes, an error is none of rounding."""

HUGE = 1e150
"""What may be squared, and stands for an error without bounds."""

EPS = 2.0**-52

DRAWS = 4
"""How often roundings are made at random."""

Rule = Literal["jvp", "vjp"]


@dataclass(frozen=True)
class LocalError:
    """What a method makes of one node's derivative.

    Attributes:
        error: Of w.(J v) along random v and w, in the method's own arithmetic, relative to the sum
            of its terms' sizes.
        exact: Likewise in exact arithmetic: 0 where the enclosures meet; None where not looked at.
        noise: How large rounding makes it.
        share: What the method adds at this node to the error of the focus; None where not known.
    """

    error: float
    exact: float | None = None
    noise: float = 0.0
    share: float | None = None

    @property
    def misfits(self) -> bool:
        """Whether the arithmetic, and not the rule, is off by more than rounding."""
        return self.exact is not None and self.noise > 0.0 and self.error > MISFIT * self.noise


class Alone:
    """One node as a graph of its own, and its derivative along a random and along the true way.

    Args:
        problem: Width and table.
        node: The node.
        operands: Its operands.
        places: Of those, the ones that carry a derivative.
        along: Tangents and cotangents of the whole graph's values, by name.
        rng: Of the random way.
        n: Balls to hold it against; None for float64.
        tied: Which elements are on a kink, where a convention decides, which nobody can call wrong:
            masks of operands' or results' shapes. The random way leaves them out.
        alike: Whether operands that are one value move as one.

    Attributes:
        tied_all: Whether it cannot.
    """

    def __init__(
        self,
        problem: Problem,
        node: Node,
        operands: Sequence[Array],
        places: Sequence[int],
        along: tuple[Arrays, Arrays],
        rng: np.random.Generator,
        n: Ball | None,
        tied: Sequence[np.ndarray] = (),
        *,
        alike: bool = False,
    ) -> None:
        self.p, self.table, self.eps, self._ball = problem, problem.table, problem.dtype.eps, n
        self.graph, self.point = node_graph(node, operands, places, self.table, alike=alike)
        width = problem.dtype.np
        with np.errstate(all="ignore"):
            self._y = Evaluator(self.graph, real, self.table).run(self.point)
        self.v = {k: _drawn(rng, np.shape(x), width) for k, x in self.point.items()}
        self.w = {k: _drawn(rng, np.shape(y), width) for k, y in self._y.items()}
        self.tied_all = not all(_leave_out(t, self.w) | _leave_out(t, self.v) for t in tied)
        dots, bars = along
        operand = {name: node.inputs[int(name[1:])] for name in self.point}
        result = dict(zip(self._y, (v for v in node.makes() if v.dtype.is_float), strict=True))
        self.dots = {
            k: _rounded(_of(dots, operand[k]), np.shape(x), width) for k, x in self.v.items()
        }
        self.bars = {
            k: _rounded(_of(bars, result[k]), np.shape(x), width) for k, x in self.w.items()
        }
        card = self.table[node.key]
        self._straight = card.kind == "linear" or (card.kind == "bilinear" and len(places) == 1)

    @cached_property
    def slopes(self) -> Arrays:
        """J v, by no rule."""
        return self._ahead(self.v)

    @cached_property
    def focused(self) -> float:
        """What the focus has of this node: cotangents times its Jacobian times tangents."""
        y_dot = self._ahead(self.dots)
        return sum(float(np.sum(self.bars[k] * finite(y_dot[k]))) for k in self.bars)

    def _ahead(self, dots: Arrays) -> Arrays:
        """The derivative along tangents: of what is straight a difference, else a complex step."""
        if self._straight:
            moved = {k: x + dots[k] for k, x in self.point.items()}
            out = Evaluator(self.graph, real, self.table).run(moved)
            return {k: y - self._y[k] for k, y in out.items()}
        moved = {k: x + 1j * STEP * dots[k] for k, x in self.point.items()}
        out = Evaluator(self.graph, complex_, self.table).run(moved)
        return {k: np.imag(y) / STEP for k, y in out.items()}

    @cached_property
    def truth(self) -> tuple[float, float]:
        """w.(J v), and the sum of its terms' sizes."""
        terms = [self.w[k] * y for k, y in self.slopes.items()]
        return sum(float(np.sum(t)) for t in terms), sum(float(np.sum(np.abs(t))) for t in terms)

    @cached_property
    def series(self) -> Array | None:
        """w.(J v) by power series of the operator itself, enclosed; None where they do not tell."""
        if self._ball is None:
            return None
        n = Series(BITS)
        moved = {k: n.lift_along(x, self.v[k]) for k, x in self.point.items()}
        try:
            out = Evaluator(self.graph, n, self.table).run(moved)
            slopes = {k: n.number(y).slope for k, y in out.items()}
            return _product(self._ball, slopes, self.w)
        except OutOfTimeError:
            raise
        except (GradcliError, MemoryError):
            return None

    def by_program(self, engine: Engine) -> LocalError | None:
        """A method without rules of operators, asked about this node."""
        true, size = self.truth
        if not np.isfinite(true) or size == 0.0:
            return None
        of = tuple(self.w)
        alone = Problem(
            None,
            self.graph,
            tuple(self.point),
            of,
            "jvp",
            self.point,
            self.v,
            {},
            DType.FLOAT64,
            table=self.table,
        )
        program = Program(engine, alone)
        blocks = program.run().blocks
        ours = sum(float(np.sum(self.w[k] * blocks[k, ""])) for k in of)
        error = _relative(ours, true, size)
        flown = program.run(tangents=self.dots).blocks
        share = sum(float(np.sum(self.bars[k] * flown[k, ""])) for k in of) - self.focused
        exact = error if error > WRONG else 0.0
        if exact:
            # Beside others its terms may cancel to what no float64 has digits of.
            wide = self._derivative("jvp", self.graph)
            runs = self._shaken("jvp", wide, EPS)
            told = bool(np.all(np.isfinite(runs)))
            if not told or error <= MISFIT * float(np.ptp(runs)) / size:
                exact = 0.0
        return LocalError(error, exact, 0.0, known(share))

    def by_rule(self, rule: Rule) -> LocalError | None:
        """A rule in the model's width, and in exact arithmetic."""
        true, size = self.truth
        if not np.isfinite(true) or size == 0.0:
            return None
        wide = self._derivative(rule, self.graph)
        precise: Run = Evaluator(wide.graph, real, self.table).run
        in_double = _relative(self._contracted(rule, wide, precise, self.v, self.w), true, size)
        exact = self._exactly(rule, wide, size)
        if exact is None:
            exact = in_double if in_double > WRONG else 0.0
        if self.p.dtype is DType.FLOAT64:
            derivative, run, error = wide, precise, in_double
        else:
            derivative = self._derivative(rule, cast(self.graph, self.p.dtype, self.table))
            run = compile_graph(self.p, derivative.graph)
            error = _relative(self._contracted(rule, derivative, run, self.v, self.w), true, size)
        share = self._contracted(rule, derivative, run, self.dots, self.bars) - self.focused
        noise = self._noise(rule, wide, size) if error > 16 * self.eps else self.eps
        if self.p.straight_through:
            exact = None
        return LocalError(error, exact, noise, known(share))

    def _derivative(self, rule: Rule, graph: Graph) -> Derivative:
        made = (jvp if rule == "jvp" else vjp)(graph, list(self.point), table=self.table)
        ends = set(made.results.values())
        if not ends:
            return made  # a rule that says nothing, and is held against what it should say
        # Of the primal only what the derivative reads.
        wanted = tuple(v for v in made.graph.outputs if v.name in ends)
        return replace(
            made, graph=simplify(replace(made.graph, outputs=wanted), self.table, exact=True)
        )

    def _contracted(
        self,
        rule: Rule,
        derivative: Derivative,
        run: Run,
        dots: Arrays,
        bars: Arrays,
    ) -> float:
        """The rule's derivative along some tangents, summed with some cotangents."""
        given, other = (dots, bars) if rule == "jvp" else (bars, dots)
        feeds = {**self.point, **{d: given[k] for k, d in derivative.directions.items()}}
        types = {v.name: v.dtype.np for v in derivative.graph.inputs}
        with np.errstate(all="ignore"):
            out = run({k: np.asarray(x).astype(types[k], copy=False) for k, x in feeds.items()})
            return sum(
                float(np.sum(other[k] * np.asarray(out[made], np.float64)))
                for k, made in derivative.results.items()
            )

    def _exactly(self, rule: Rule, derivative: Derivative, size: float) -> float | None:
        """The rule's relative error in balls: 0 where it meets the series; None where open."""
        n, truth = self._ball, self.series
        if n is None or truth is None:
            return None
        given = self.v if rule == "jvp" else self.w
        feeds = {**self.point, **{d: given[k] for k, d in derivative.directions.items()}}
        try:
            out = Evaluator(derivative.graph, n, self.table).run(feeds)
        except OutOfTimeError:
            raise
        except (GradcliError, MemoryError):
            return None
        other = self.w if rule == "jvp" else self.v
        ours = _product(n, {k: out[made] for k, made in derivative.results.items()}, other)
        wide = float(max(n.radius(ours).item(), n.radius(truth).item()))
        if not wide <= NARROW * size:
            return None
        if n.overlap(ours, truth).item():
            return 0.0
        error = abs(float(n.lower(ours - truth).item())) / size
        return error if error > CERTAIN else 0.0

    def _noise(self, rule: Rule, derivative: Derivative, size: float) -> float:
        """How far rounding alone moves it, relatively."""
        true, _ = self.truth
        runs = self._shaken(rule, derivative, self.eps)
        gaps = [min(_relative(ours, true, size), HUGE) for ours in runs]
        return float(np.sqrt(np.mean(np.square(gaps)))) + self.eps

    def _shaken(self, rule: Rule, derivative: Derivative, eps: float) -> list[float]:
        """What it comes to with every rounding made at random, a few times."""
        rng = np.random.default_rng(self.p.seed)
        run = Evaluator(derivative.graph, real, shaken(self.table, rng, eps, kernels=eps > EPS)).run
        return [self._contracted(rule, derivative, run, self.v, self.w) for _ in range(DRAWS)]


def node_graph(
    node: Node,
    operands: Sequence[Array],
    places: Sequence[int],
    table: Table,
    *,
    alike: bool = False,
) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph of this node only, these operands as inputs, and the point it is at.

    Args:
        node: The node.
        operands: Its operands.
        places: Of those, the ones that are inputs.
        table: Cards.
        alike: Whether operands that are one value are one input.
    """
    b = Builder(table)
    point: dict[str, np.ndarray] = {}
    given: list[Var | None] = []
    for k, x in enumerate(operands):
        first = node.inputs.index(node.inputs[k])
        if x is None:
            given.append(None)
        elif alike and first < k and first in places:
            given.append(given[first])
        elif k in places:
            point[f"x{k}"] = np.asarray(x)
            given.append(b.input(f"x{k}", DType.FLOAT64, np.shape(x)))
        else:
            given.append(b.constant(np.asarray(x)))
    made = b.ops(node.key, *given, outputs=len(node.outputs), **node.attrs)
    wanted = [y for y, old in zip(made, node.outputs, strict=True) if old is not None]
    return b.graph([y for y in wanted if y.dtype.is_float]), point


def _product(n: Ball, found: Mapping[str, Array], weights: Arrays) -> Array:
    """The inner product of enclosed tensors with exact ones."""
    total = n.full((1, 1), 0.0)
    for name, balls in found.items():
        w = np.asarray(weights[name], np.float64).reshape(-1)
        total = total + n.matmul(balls.reshape(1, -1), n.lift(w[:, None]))
    return total


def _relative(ours: float, true: float, size: float) -> float:
    return abs(ours - true) / size if np.isfinite(ours) else float("inf")


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], width: np.dtype[Any]) -> np.ndarray:
    return rng.standard_normal(shape).astype(width).astype(np.float64)


def _rounded(x: np.ndarray | None, shape: tuple[int, ...], width: np.dtype[Any]) -> np.ndarray:
    """As the method's width holds it."""
    with np.errstate(over="ignore"):
        return np.zeros(shape) if x is None else finite(x.astype(width).astype(np.float64))


def _leave_out(tied: np.ndarray, ways: dict[str, np.ndarray]) -> bool:
    """Set elements to 0 in tensors of their shape; False where there is none."""
    some = [x for x in ways.values() if x.shape == tied.shape]
    for x in some:
        x[tied] = 0.0
    return bool(some)


def _of(found: Arrays, value: Value | None) -> np.ndarray | None:
    return None if value is None else found.get(value.name)


def known(x: float) -> float | None:
    """x, unless it is no number."""
    return x if np.isfinite(x) else None


def finite(x: Array) -> np.ndarray:
    """x in float64, with 0 for what is no number."""
    return np.nan_to_num(np.asarray(x, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
