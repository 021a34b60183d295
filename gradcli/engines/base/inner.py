"""Tangents and cotangents of the values inside a graph, in float64."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from gradcli.engines.base.program import Arrays
from gradcli.graph import Graph
from gradcli.interpret import Evaluator
from gradcli.numbers import real
from gradcli.problem import Problem
from gradcli.transform import Derivative, jvp, simplify, vjp, written_out

Inner = Callable[[Arrays, Arrays], Arrays]
"""From a point and an array for each of `wrt` (or `of`) to arrays by the name of a value."""


def tangents(problem: Problem, names: Collection[str], graph: Graph | None = None) -> Inner:
    """What a tangent of `wrt` comes to in these values, and in `wrt`; no entry where none does.

    The graph is the problem's exact one, or another form of it.

    Raises:
        UnsupportedError: When an operator has no rule.
    """
    return _of(problem, jvp, names, graph)


def cotangents(problem: Problem, names: Collection[str], graph: Graph | None = None) -> Inner:
    """What a cotangent of `of` comes to in these values, and in `of`; no entry where none does.

    The graph is the problem's exact one, or another form of it.

    Raises:
        UnsupportedError: When an operator has no rule.
    """
    return _of(problem, vjp, names, graph)


def _of(
    problem: Problem,
    rule: Callable[..., Derivative],
    names: Collection[str],
    primal: Graph | None,
) -> Inner:
    graph, became = written_out(primal or problem.exact, table=problem.table)
    derivative = rule(graph, problem.wrt, problem.of, problem.table, inner=True)
    # What an operator made that is written out now goes by the name of what makes it there.
    now = {v.name: made.name for v, made in became.items() if v.name in names}
    wanted = {name: derivative.results[k] for name, k in now.items() if k in derivative.results}
    outputs = tuple(v for v in derivative.graph.outputs if v.name in set(wanted.values()))
    graph = simplify(replace(derivative.graph, outputs=outputs), problem.table)
    evaluator = Evaluator(graph, real, problem.table)

    def run(point: Arrays, given: Arrays) -> Arrays:
        feeds = {**point, **{d: given[k] for k, d in derivative.directions.items()}}
        out = evaluator.run(feeds)
        found = {name: np.asarray(out[made]) for name, made in wanted.items() if made in out}
        known = {name: given[k] for name, k in now.items() if k in given}
        return {**given, **known, **found}

    return run
