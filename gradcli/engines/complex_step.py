"""The complex step: Im f(x + i h v) / h, with h so small that nothing is left of the truncation."""

from __future__ import annotations

import numpy as np

from gradcli.engines.base import (
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

ASIDE = 2.0**-36
"""How far beside a kink the other side of it is looked at."""


class ComplexStep:
    """The complex step as a linear map, one direction after another.

    Args:
        problem: What is differentiated.

    Attributes:
        judge: Whether uncertainties are estimated: by the spread of runs whose roundings are made
            at random, and at a point exactly on a kink by looking at both sides.

    Raises:
        CannotError: When an operator on the way is not analytic, not even piece by piece.
    """

    def __init__(self, problem: Problem) -> None:
        _refuse(problem.exact, problem.wrt, problem.table)
        self._real = Primal(problem)
        self._f = Primal(problem, complex_)
        self._shaking = Primal(problem, complex_, np.random.default_rng(problem.seed))
        self._given: Arrays | None = None
        self._point: Point | None = None
        self.judge = True
        self.width = chunk_width(problem.graph, 1 if problem.operator == "jvp" else problem.columns)
        self.pads = False

    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map. What belongs to the point is computed once for each `point` object."""
        if self._point is None or point is not self._given:
            self._given, self._point = point, Point(self._real, point)
        here = self._point
        values, doubts, primal = [], [], None
        for b in range(len(next(iter(directions.values())))):
            line = Line.through(here.x, self._f.join({k: v[b] for k, v in directions.items()}))
            value, primal = self._along(self._f, here, here.x, line)
            values.append(value)
            if self.judge:
                doubts.append(self._doubt(here, line, value))
        ties = here.kinks.ties() if self.judge else []
        return Images(
            self._f.outputs(np.stack(values)),
            self._f.outputs(np.stack(doubts)) if doubts else {},
            {} if primal is None else self._f.outputs(primal),
            tuple(
                f"node {tie.node!r} ({tie.op}) is exactly on a kink at {list(tie.index)}: "
                "the complex step takes one side"
                for tie in ties
            ),
        )

    def _along(
        self, f: Primal, here: Point, x: np.ndarray, line: Line
    ) -> tuple[np.ndarray, np.ndarray]:
        """The derivative along a line, and the primal."""
        y = f(x + 1j * (STEP * line.v), here.arrays)
        # Dividing by the scale first would lose what is below the smallest float.
        value = y.imag / STEP / (line.scale or 1.0)
        return np.where(np.isfinite(y.real), value, np.nan), y.real

    def _doubt(self, here: Point, line: Line, value: np.ndarray) -> np.ndarray:
        runs = (self._along(self._shaking, here, here.x, line)[0] for _ in range(3))
        doubt = np.maximum(2 * spread(runs, value), 2 * EPS * np.abs(value))
        doubt = doubt + LOST / (line.scale or 1.0)
        if here.kinks.ties() and line.scale:
            for t in (-ASIDE, ASIDE):
                beside = self._along(self._f, here, line.step(t)[0], line)[0]
                doubt = np.maximum(doubt, np.abs(beside - value))
        return np.asarray(doubt)


def _refuse(graph: Graph, wrt: tuple[str, ...], table: Table) -> None:
    active = active_values(graph, [v for v in graph.inputs if v.name in wrt], table)
    for node in graph.nodes:
        if not table[node.key].holomorphic and any(v in active for v in node.inputs):
            raise CannotError(
                f"node {node.name!r}: {node.key} is not analytic, so the complex step cannot pass",
                "use --method finite",
            )


def _prepare(problem: Problem, options: Options) -> ComplexStep:
    del options  # the step is too small to matter
    return ComplexStep(problem)


ENGINE = Engine(
    name="complex-step",
    about="the complex step, Im f(x + ih) / h, in complex128",
    mode="push",
    prepare=_prepare,
    uses="impl",
)
