"""A derivative graph as a linear map: what forward and reverse AD have in common."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gradcli.engines.base.program import Arrays, Images, Run, chunk_width, compile_graph
from gradcli.errors import CannotError
from gradcli.graph import DType
from gradcli.problem import Problem
from gradcli.transform import Derivative, vmap
from gradcli.transform.inside import Inside, inside, limit

INWARD = {DType.FLOAT64: (2.0**-300, 2.0**-400), DType.FLOAT32: (2.0**-38, 2.0**-50)}
"""Two distances from the edge of a domain: roots of them are rounding, their squares are numbers.

float16 has no room for that: there a derivative at an edge stays what it is.
"""

OUTWARD = 2.2, 2.0
"""What stands beside each for a number beyond an edge: neither does a slope there stay the same,
nor does it grow or shrink, so that it comes to nothing."""

SAME = {DType.FLOAT64: 1e-6, DType.FLOAT32: 1e-3}
"""By how much, relatively, a derivative that does not hang on that distance may differ."""

AT_THE_EDGE = (
    "at the edge of a domain a slope is infinite: what came to 0 times infinity is the derivative's"
    " limit from inside"
)


class Linearised:
    """The map of a Derivative, one direction at a time or in chunks.

    Where 0 times an infinite slope has made NaN of an element, the element is what it comes to on
    the way to that edge: its value where it does not hang on the slope, else an infinity.

    Args:
        problem: Width, threads and point.
        derivative: Of `problem.own`.
        directions: How many will be asked for in a run; more than one are carried together along
            a leading axis where every operator can carry it.
    """

    def __init__(self, problem: Problem, derivative: Derivative, directions: int) -> None:
        self._derivative = derivative
        self._dtype = problem.dtype.np
        graph = derivative.graph
        self._inputs = [
            v.name for v in graph.inputs if v.name not in derivative.directions.values()
        ]
        self._outputs = [v.name for v in graph.outputs if v.name not in derivative.results.values()]
        self.width = chunk_width(graph, directions)
        if self.width > 1:
            try:
                graph = vmap(graph, derivative.directions.values(), self.width, problem.table)
            except CannotError:
                self.width = 1
        self.pads = True
        self._problem, self._graph = problem, graph
        self._run = compile_graph(problem, graph)
        self._casts = {
            v.name: v.dtype.np for v in derivative.graph.inputs if v.name in self._inputs
        }
        self._point: Arrays | None = None
        self._feeds: dict[str, np.ndarray] = {}

    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map. The inputs are cast once for each `point` object."""
        count = len(next(iter(directions.values())))
        if point is not self._point:
            with np.errstate(over="ignore"):  # what a narrower width does not reach is infinite
                self._feeds = {
                    name: np.asarray(point[name]).astype(self._casts[name], copy=False)
                    for name in self._inputs
                }
            self._point = point
        feeds = dict(self._feeds)
        for name, given in self._derivative.directions.items():
            feeds[given] = self._fit(np.asarray(directions[name], self._dtype))
        out = self._run(feeds)
        values = self._results(out, count)
        notes: tuple[str, ...] = ()
        if any(np.isnan(y).any() for y in values.values()) and self._inside is not None:
            mended = self._mended(values, feeds, self._defined(out, directions), count)
            if any(np.isnan(values[k]).sum() > np.isnan(mended[k]).sum() for k in values):
                values, notes = mended, (AT_THE_EDGE,)
        return Images(values, primal={k: np.asarray(out[k]) for k in self._outputs}, notes=notes)

    def _results(self, out: Arrays, count: int) -> dict[str, np.ndarray]:
        return {
            name: self._images(np.asarray(out[result]), count)
            for name, result in self._derivative.results.items()
        }

    @cached_property
    def _inside(self) -> tuple[Run, Inside] | None:
        """The same map a little inside the domains."""
        made = inside(self._graph, self._problem.table) if self._problem.dtype in INWARD else None
        return None if made is None else (compile_graph(self._problem, made.graph), made)

    def _defined(self, out: Arrays, directions: Arrays) -> dict[str, np.ndarray]:
        """Which images there are: an output that is no number has no derivative."""
        if not directions.keys() <= set(self._outputs):
            return {name: ~np.isnan(out[name])[None] for name in self._derivative.results}
        lost = [
            np.any((x != 0) & np.isnan(out[name]), axis=tuple(range(1, x.ndim)))
            for name, x in directions.items()
        ]
        rows = ~np.logical_or.reduce(lost)
        shapes = {name: self._problem.shape(name) for name in self._derivative.results}
        return {name: rows.reshape(-1, *(1 for _ in shape)) for name, shape in shapes.items()}

    def _mended(
        self, values: Arrays, feeds: Arrays, defined: Arrays, count: int
    ) -> dict[str, np.ndarray]:
        """The images with limits in the place of what is not a number."""
        assert self._inside is not None
        run, made = self._inside
        dtype = self._problem.dtype
        far, near = (
            self._results(
                run({**feeds, made.inward: np.float64(x), made.outward: np.float64(y)}), count
            )
            for x, y in zip(INWARD[dtype], OUTWARD, strict=True)
        )
        return {
            k: np.where(np.isnan(y) & defined[k], limit(far[k], near[k], SAME[dtype]), y)
            for k, y in values.items()
        }

    def _fit(self, x: np.ndarray) -> np.ndarray:
        """Directions as the graph takes them: without the axis, or filled up to the width."""
        if self.width == 1:
            only: np.ndarray = x[0]
            return only
        missing = self.width - len(x)
        return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x

    def _images(self, y: np.ndarray, count: int) -> np.ndarray:
        return y[None] if self.width == 1 else y[:count]
