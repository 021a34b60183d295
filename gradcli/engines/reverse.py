"""Reverse AD: the vjp graph, cotangents pulled back, several rows of a Jacobian at once."""

from __future__ import annotations

from gradcli.engines.base import Engine, Linearised, Options
from gradcli.problem import Problem
from gradcli.transform import vjp


def _prepare(problem: Problem, options: Options) -> Linearised:
    derivative = vjp(problem.own, problem.wrt, problem.of, problem.table)
    directions = problem.rows if problem.operator in ("jacobian", "jvp") else 1
    return Linearised(problem, derivative, min(directions, options.width))


ENGINE = Engine(
    name="reverse",
    about="reverse AD: cotangents pulled back through the vjp of every operator",
    mode="pull",
    prepare=_prepare,
    uses="vjp",
    exact=False,
)
