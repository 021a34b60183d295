"""The complex step: Im f(x + i h v) / h, with h so small that nothing is left of the truncation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from gradcli.engines.base import (
    CHUNK,
    EPS,
    Arrays,
    Engine,
    Images,
    Line,
    Options,
    Point,
    Primal,
    chunk_width,
    spread,
)
from gradcli.errors import CannotError
from gradcli.graph import Graph
from gradcli.numbers import complex_
from gradcli.ops import Table
from gradcli.problem import Problem
from gradcli.transform.rewrite import active_values

STEP = 2.0**-400
"""Relative to max(1, |x|). Its cube is 0 in float64, and so is truncation; 1e-180 of it is not."""

LOST = 2.0**-640
"""What may be lost on the way because its product with STEP is too small for float64."""

ENDLESS = 2.0**100
"""A slope that is steeper than that at the edge of a domain is infinite: it grows with 1 / STEP."""

SHAKES = 4
"""Runs with random roundings."""

ASIDE = 2.0**-36
"""How far beside a kink, or the edge of a domain, either side of it is looked at."""


class ComplexStep:
    """The complex step as a linear map, one direction after another.

    Args:
        problem: What is differentiated.
        width: Directions to take at once, at most.

    Attributes:
        judge: Whether uncertainties are estimated: by the spread of runs whose roundings are made
            at random, and at a point exactly on a kink or an edge by looking at both sides.

    Raises:
        CannotError: When an operator on the way is not analytic, not even piece by piece.
    """

    def __init__(self, problem: Problem, width: int = CHUNK) -> None:
        _refuse(problem.exact, problem.wrt, problem.table)
        self._real = Primal(problem)
        self._f = Primal(problem, complex_)
        self.judge = True
        self.width = (
            chunk_width(problem.graph, min(problem.columns, width)) if self._f.is_wide else 1
        )
        self.pads = False

    @cached_property
    def _shaking(self) -> Primal:
        problem = self._f.problem
        return Primal(problem, complex_, np.random.default_rng(problem.seed))

    @np.errstate(all="ignore")  # at the edge of a domain f(x) may be infinite
    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map. What belongs to the point is computed once for each `point` object."""
        here = self._real.at(point)
        lines = here.lines(directions)
        values, primal = self._along(self._f, here, np.stack([line.x for line in lines]), lines)
        ties = here.kinks.ties() if self.judge else []
        return Images(
            self._f.outputs(values),
            self._f.outputs(self._doubts(here, lines, values)) if self.judge else {},
            self._f.outputs(primal[0]),
            tuple(
                f"node {tie.node!r} ({tie.op}) is exactly on a kink at {list(tie.index)}: "
                "the complex step takes one side"
                for tie in ties
            ),
        )

    def _along(
        self, f: Primal, here: Point, xs: np.ndarray, lines: Sequence[Line]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The derivatives along lines, and the primal, one a row."""
        y = f.many(xs + 1j * (STEP * np.stack([line.v for line in lines])), here.arrays)
        # Dividing by the scale first would lose what is below the smallest float.
        values = y.imag / STEP / _scales(lines)
        if here.singular:
            values = np.where(np.abs(values) > ENDLESS, np.copysign(np.inf, values), values)
            # What is no number may be one just beside, where only the imaginary part moves.
            values = np.where(np.isfinite(here.y), values, np.nan)
        return np.where(np.isfinite(y.real), values, np.nan), y.real

    def _doubts(self, here: Point, lines: Sequence[Line], values: np.ndarray) -> np.ndarray:
        xs = np.stack([line.x for line in lines])
        runs = (self._along(self._shaking, here, xs, lines)[0] for _ in range(SHAKES))
        doubts = np.maximum(spread(runs, values), EPS * np.abs(values))
        doubts = doubts + LOST / _scales(lines)
        if here.singular:
            for t in (-ASIDE, ASIDE):
                aside = np.stack([line.step(t)[0] for line in lines])
                beside = self._along(self._f, here, aside, lines)[0]
                doubts = np.maximum(doubts, np.abs(beside - values))
        return np.asarray(doubts)


def _scales(lines: Sequence[Line]) -> np.ndarray:
    return np.array([[line.scale or 1.0] for line in lines])


def _refuse(graph: Graph, wrt: tuple[str, ...], table: Table) -> None:
    active = active_values(graph, [v for v in graph.inputs if v.name in wrt], table)
    for node in graph.nodes:
        if not table[node.key].holomorphic and any(v in active for v in node.inputs):
            raise CannotError(
                f"node {node.name!r}: {node.key} is not analytic, so the complex step cannot pass",
                "use --method finite",
            )


def _prepare(problem: Problem, options: Options) -> ComplexStep:
    return ComplexStep(problem, options.width)  # the step is too small to matter


ENGINE = Engine(
    name="complex-step",
    about="the complex step, Im f(x + ih) / h, in complex128",
    mode="push",
    prepare=_prepare,
    uses="impl",
    price=4.0,
)
