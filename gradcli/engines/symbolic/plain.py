"""What people try first: SymPy's diff on the one expression that the whole network is."""

from __future__ import annotations

from typing import Any

import sympy

from gradcli.engines.base import Arrays, Images
from gradcli.engines.symbolic.expanded import Jacobian, inputs
from gradcli.engines.symbolic.local import symbols
from gradcli.engines.symbolic.size import Size, count
from gradcli.errors import CannotError
from gradcli.interpret import Evaluator
from gradcli.problem import Problem

MOST_PARAMETERS = 300
MOST_OPERATIONS = 20_000
"""Of an expression written out as a tree; its derivative is longer by about its depth."""


class Plain:
    """`sympy.diff` of every output in every input, compiled as it stands.

    Args:
        problem: What is differentiated.
        size: Of it, as expressions.

    Raises:
        CannotError: When the expression is so long that SymPy would not come to an end.
    """

    def __init__(self, problem: Problem, size: Size) -> None:
        n = symbols()
        arguments, feeds = inputs(problem, n)
        out = Evaluator(problem.exact, n, problem.table).run(feeds)
        xs = [x for name in problem.wrt for x in feeds[name].reshape(-1).tolist()]
        ys = [y for name in problem.of for y in n.lift(out[name]).reshape(-1).tolist()]
        written = sum(_tree(y) for y in ys) * len(xs)
        if written > MOST_OPERATIONS:
            raise CannotError(
                f"written out, the derivatives are of {count(written)} operations", "use symbolic"
            )
        jacobian = [[sympy.diff(y, x) for x in xs] for y in ys]
        self._call = Jacobian(problem, arguments, [], jacobian, ys)
        self.width = problem.columns
        self.level = f"plain diff ({size.parameters} parameters, {count(written)} operations written out)"

    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map."""
        return self._call(point, directions)


def _tree(expression: Any) -> int:
    """Operations of an expression written out, each shared part counted wherever it stands."""
    known: dict[Any, int] = {}

    def size(part: Any) -> int:
        if part not in known:
            known[part] = 1 + sum(map(size, part.args))
        return known[part]

    return size(expression)
