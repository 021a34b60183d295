"""What people try first: SymPy's diff on the one expression that the whole network is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import sympy

from gradcli.engines.base import Arrays, Images
from gradcli.engines.symbolic.expanded import Jacobian, inputs
from gradcli.engines.symbolic.local import derivative
from gradcli.engines.symbolic.size import Size, count
from gradcli.errors import CannotError
from gradcli.graph import Node
from gradcli.interpret import Evaluator
from gradcli.numbers import Array
from gradcli.numbers.symbol import Symbol
from gradcli.problem import Problem

MOST_OPERATIONS = 20_000
"""Of all derivatives, each counted as long as its primal: SymPy takes up to 5 s for these."""

NO_NUMBER = (
    "what SymPy writes down is 0 / 0, or another form that is no number, in some elements; the"
    " derivative may well be one"
)

HINT = "use symbolic, which names shared subexpressions before it differentiates"


class Whole(Symbol):
    """Expressions as one would write them down, refused where SymPy's time grows exponentially."""

    def sigmoid(self, x: Array) -> Array:
        return 1.0 / (1.0 + self.exp(-x))

    def _relation(self, kind: Any, x: Any, y: Any) -> Any:
        if x.has(sympy.Piecewise) or y.has(sympy.Piecewise):
            raise CannotError("a choice (Piecewise) that hangs on other choices", HINT)
        return super()._relation(kind, x, y)

    def _greatest(self, terms: list[Any]) -> Any:
        if len(set(terms)) > 2:
            raise CannotError(f"a maximum of {len(set(terms))} expressions", HINT)
        return super()._greatest(terms)


class Plain:
    """`sympy.diff` of every output in every input, compiled as it stands.

    Args:
        problem: What is differentiated.
        size: Of it, as expressions.

    Raises:
        CannotError: When the expression is so long that SymPy would not come to an end.
    """

    def __init__(self, problem: Problem, size: Size) -> None:
        n = Whole()
        written = _Written()

        def observe(node: Node, _operands: Sequence[Array], results: Sequence[Array]) -> None:
            numbers = [y for x in results if n.is_number(x) for y in x.reshape(-1).tolist()]
            operations = max(map(written.of, numbers), default=0) * problem.columns
            if operations > MOST_OPERATIONS:
                raise CannotError(
                    f"node {node.name!r} ({node.key}): written out, the derivatives of one element "
                    f"are of {count(operations)} operations",
                    HINT,
                )

        arguments, feeds = inputs(problem, n)
        out = Evaluator(problem.exact, n, problem.table).run(feeds, observe)
        xs = [x for name in problem.wrt for x in feeds[name].reshape(-1).tolist()]
        ys = [y for name in problem.of for y in n.lift(out[name]).reshape(-1).tolist()]
        operations = sum(map(written.of, ys)) * len(xs)
        if operations > MOST_OPERATIONS:
            raise CannotError(
                f"written out, the derivatives are of {count(operations)} operations", HINT
            )
        jacobian = [[derivative(y, x) for x in xs] for y in ys]
        self._call = Jacobian(problem, arguments, [], jacobian, ys)
        self.width = max(1, problem.columns)
        self.pads = True
        self.level = (
            f"plain diff ({size.parameters} parameters, {count(operations)} operations written out)"
        )

    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map. Of what comes out as no number, nothing is claimed."""
        images = self._call(point, directions)
        if not any(np.isnan(y).any() for y in images.values.values()):
            return images
        doubt = {name: np.where(np.isnan(y), np.inf, 0.0) for name, y in images.values.items()}
        return replace(images, uncertainty=doubt, notes=(NO_NUMBER,))


class _Written:
    """How many operations expressions have, shared parts counted wherever they stand."""

    def __init__(self) -> None:
        self._known: dict[Any, int] = {}

    def of(self, expression: Any) -> int:
        """Operations of one expression, itself counted."""
        if expression not in self._known:
            self._known[expression] = 1 + sum(map(self.of, expression.args))
        return self._known[expression]
