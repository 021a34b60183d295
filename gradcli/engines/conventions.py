"""What the conventions of several kinks may compose to, by the primal alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcli.engines.base import Arrays
from gradcli.interpret import Evaluator
from gradcli.numbers import Fan
from gradcli.problem import Problem

BLUR = 2.0**-49
"""Numbers that are this close, relative to the largest of their tensor, tie in float64."""


def conventions(problem: Problem) -> Callable[[Arrays], tuple[Arrays, Arrays]]:
    """The slopes along a direction that conventions at ties may come to: an interval each.

    Args:
        problem: What is differentiated, and where.

    Returns:
        A function of a direction, an array for each of `wrt`. It gives the middles of the intervals
        and half of their widths, which is 0 where no tie matters: each an array for each of `of`.
    """
    n = Fan(BLUR)
    f = Evaluator(problem.exact, n, problem.table)

    def along(direction: Arrays) -> tuple[Arrays, Arrays]:
        moved = {x: n.lift_along(problem.point[x], direction[x]) for x in problem.wrt}
        out = f.run({**problem.point, **moved})
        found = {of: n.number(out[of]) for of in problem.of}
        middle = {of: np.array(y.slope) for of, y in found.items()}
        return middle, {of: np.array(y.spread) for of, y in found.items()}

    return along
