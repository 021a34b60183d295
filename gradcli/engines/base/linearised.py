"""A derivative graph as a linear map: what forward and reverse AD have in common."""

from __future__ import annotations

import numpy as np

from gradcli.engines.base.program import Arrays, Images, chunk_width, compile_graph
from gradcli.errors import CannotError
from gradcli.problem import Problem
from gradcli.transform import Derivative, vmap


class Linearised:
    """The map of a Derivative, one direction at a time or in chunks.

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
        values = {
            name: self._images(np.asarray(out[result]), count)
            for name, result in self._derivative.results.items()
        }
        return Images(values, primal={name: np.asarray(out[name]) for name in self._outputs})

    def _fit(self, x: np.ndarray) -> np.ndarray:
        """Directions as the graph takes them: without the axis, or filled up to the width."""
        if self.width == 1:
            only: np.ndarray = x[0]
            return only
        missing = self.width - len(x)
        return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) if missing else x

    def _images(self, y: np.ndarray, count: int) -> np.ndarray:
        return y[None] if self.width == 1 else y[:count]
