"""Forward AD: the jvp graph, tangents pushed in chunks."""

from __future__ import annotations

from gradcli.engines.base import Engine, Linearised, Options
from gradcli.problem import Problem
from gradcli.transform import jvp


def _prepare(problem: Problem, options: Options) -> Linearised:
    derivative = jvp(problem.own, problem.wrt, problem.of, problem.table)
    directions = 1 if problem.operator == "jvp" else problem.columns
    return Linearised(problem, derivative, min(directions, options.width))


ENGINE = Engine(
    name="forward",
    about="forward AD: tangents pushed through the jvp of every operator",
    mode="push",
    prepare=_prepare,
    uses="jvp",
    exact=False,
)
