"""What a saved function means in exact arithmetic, constants that it computes included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcli.errors import GradcliError, OutOfTimeError
from gradcli.graph import DType
from gradcli.interpret import Evaluator
from gradcli.numbers import Ball
from gradcli.problem import Problem
from gradcli.transform import cast, vjp
from gradcli.transform.unfold import computed, roots, unfold

BITS = 256
"""The precision in which a constant is asked whether it is the float that stands for it."""


def as_saved(problem: Problem) -> Problem:
    """The problem in float64 without a float that stands for another number.

    Constants that the file computes from others are floats where a question is posed, so that
    shapes may hang on them. Those that are no floats, a square root or a third, become nodes again,
    unless structure hangs on them, or a rule that must know them.

    Raises:
        MissingExtraError: Without python-flint, where there are any.
    """
    posed = replace(problem, dtype=DType.FLOAT64, table=problem.table.exactly())
    names = _rounded(posed)
    if not names:
        return posed
    unfolded = replace(posed, graph=unfold(posed.graph, computed(posed.folded, names)))
    try:
        vjp(unfolded.own, posed.wrt, posed.of, posed.table)
    except OutOfTimeError:
        raise
    except GradcliError:
        return posed
    return unfolded


def _rounded(problem: Problem) -> list[str]:
    """The folded constants that were rounded."""
    names = roots(problem.graph, problem.folded, problem.table)
    if not names:
        return []
    n, part = Ball(BITS), computed(problem.folded, names)
    try:
        exact = cast(part, DType.FLOAT64, problem.table, arithmetic=True)
        made = Evaluator(exact, n, problem.table).run({})
    except OutOfTimeError:
        raise
    except GradcliError:
        return []
    rounded = []
    for value, array in problem.graph.constants.items():
        if value.name in made and n.is_number(made[value.name]):
            same = n.equal(made[value.name], n.lift(array))
            certain = same.dtype == np.bool_ and bool(np.all(same))
            if not certain and np.all(np.isfinite(n.radius(made[value.name]))):
                rounded.append(value.name)
    return rounded
