"""Tangents and cotangents of the values inside a graph, in float64."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from gradcli.engines.base.program import Arrays
from gradcli.interpret import Evaluator
from gradcli.numbers import real
from gradcli.problem import Problem
from gradcli.transform import Derivative, expand, jvp, simplify, vjp

Inner = Callable[[Arrays, Arrays], Arrays]
"""From a point and an array for each of `wrt` (or `of`) to arrays by the name of a value."""


def tangents(problem: Problem, names: Collection[str]) -> Inner:
    """What a tangent of `wrt` comes to in these values, and in `wrt`; no entry where none does.

    Raises:
        UnsupportedError: When an operator has no rule.
    """
    graph = expand(problem.exact, table=problem.table)
    return _of(problem, jvp(graph, problem.wrt, problem.of, problem.table, inner=True), names)


def cotangents(problem: Problem, names: Collection[str]) -> Inner:
    """What a cotangent of `of` comes to in these values, and in `of`; no entry where none does.

    Raises:
        UnsupportedError: When an operator has no rule.
    """
    graph = expand(problem.exact, table=problem.table)
    return _of(problem, vjp(graph, problem.wrt, problem.of, problem.table, inner=True), names)


def _of(problem: Problem, derivative: Derivative, names: Collection[str]) -> Inner:
    wanted = {made: name for name, made in derivative.results.items() if name in names}
    outputs = tuple(v for v in derivative.graph.outputs if v.name in wanted)
    graph = simplify(replace(derivative.graph, outputs=outputs), problem.table)
    evaluator = Evaluator(graph, real, problem.table)

    def run(point: Arrays, given: Arrays) -> Arrays:
        feeds = {**point, **{d: given[k] for k, d in derivative.directions.items()}}
        out = evaluator.run(feeds)
        found = {name: np.asarray(out[made]) for made, name in wanted.items() if made in out}
        return {**given, **found}

    return run
