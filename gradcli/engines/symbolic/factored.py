"""Symbolic differentiation of a network of any size: node by node, chains accumulated forward."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from gradcli.engines.base import Arrays, Images, chunk_width
from gradcli.engines.symbolic.local import Locals
from gradcli.engines.symbolic.tangents import Dual, Tangents, duals
from gradcli.errors import CannotError
from gradcli.interpret import Evaluator
from gradcli.numbers import Numbers, real
from gradcli.ops import Card, Table
from gradcli.problem import Problem


class Factored:
    """The derivative as a product of local ones, each found by SymPy once for each operator.

    Args:
        problem: What is differentiated.
        directions: How many directions will be asked for in a run.

    Raises:
        CannotError: When a node rounds, or does something else that has no expression.
    """

    def __init__(self, problem: Problem, directions: int) -> None:
        self._problem = problem
        self._known = Locals()
        self._table = _elementwise_whole(problem.table)
        self._evaluators: dict[int, tuple[Tangents, Evaluator]] = {}
        self.width = chunk_width(problem.exact, directions)
        self.pads = False
        # Once at the point, in one direction: every local derivative is found here, not in a run.
        self.apply(
            problem.point, {name: np.zeros((1, *problem.shape(name))) for name in problem.wrt}
        )
        self.level = (
            f"factored ({len(problem.exact.nodes)} nodes, {len(self._known)} local derivatives)"
        )

    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map."""
        count = len(next(iter(directions.values())))
        n, evaluator = self._evaluator(count)
        try:
            out = evaluator.run(duals(n, dict(point), directions.items()))
        except NotImplementedError as error:
            raise CannotError(f"an operator is out of reach: {error}") from error
        return Images(
            {name: out[name].x_dot for name in self._problem.of if isinstance(out[name], Dual)},
            primal={name: np.asarray(real.lower(n.lower(out[name]))) for name in self._problem.of},
        )

    def _evaluator(self, count: int) -> tuple[Tangents, Evaluator]:
        """For this many directions: a run asks for whole chunks, and at last for a part of one."""
        if count not in self._evaluators:
            n = Tangents(count, self._known)
            self._evaluators[count] = n, Evaluator(self._problem.exact, n, self._table)
        return self._evaluators[count]


def _elementwise_whole(table: Table) -> Table:
    """Cards whose elementwise operators are differentiated whole: Gelu as one expression."""
    cards = (c for c in table.values() if c.kind == "elementwise" and c.impl is not None)
    return table.replace(*(replace(card, impl=_whole(card)) for card in cards))


def _whole(card: Card) -> Callable[..., Any]:
    impl = card.impl

    def each(n: Numbers, *operands: Any, **attrs: Any) -> Any:
        assert isinstance(n, Tangents)
        assert impl is not None
        return n.each(card.op, impl, *operands, **attrs)

    return each
