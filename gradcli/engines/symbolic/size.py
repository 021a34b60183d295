"""How large a network would be as expressions, counted in floats before SymPy sees any of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradcli.graph import Node
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, Real
from gradcli.problem import Problem

_LARGEST = 20_000
"""Elements of all tensors together beyond which nothing is counted any more."""


@dataclass(frozen=True)
class Size:
    """A network as expressions.

    Attributes:
        parameters: Float constants.
        operations: Elements made, products and sums counted term by term.
        sweeps: Passes through them that a Jacobian takes: rows or columns, whichever are fewer.
    """

    parameters: int
    operations: int
    sweeps: int

    @property
    def work(self) -> int:
        """What has to be differentiated and accumulated, roughly."""
        return self.operations * (1 + self.sweeps)

    def __str__(self) -> str:
        return f"{count(self.parameters)} parameters, {count(self.operations)} operations"


def count(number: int) -> str:
    """A number to two or three digits, as people read sizes: 105, 3.4k, 12M."""
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if number >= unit:
            return f"{number / unit:.{1 if number < 10 * unit else 0}f}{letter}"
    return str(number)


def measure(problem: Problem) -> Size | None:
    """The size of a network, or None where it is far beyond any expression."""
    graph = problem.exact
    parameters = sum(a.size for v, a in graph.constants.items() if v.dtype.is_float)
    elements = sum(
        int(np.prod([d for d in v.shape or () if isinstance(d, int)])) for v in graph.values()
    )
    if elements > _LARGEST:
        return None
    n = _Counting()

    def observe(node: Node, _operands: Sequence[Array], results: Sequence[Array]) -> None:
        made = (x for v, x in zip(node.outputs, results, strict=False) if v and v.dtype.is_float)
        n.operations += sum(np.size(x) for x in made)

    Evaluator(graph, n, problem.table).run(problem.point, observe)
    return Size(parameters, n.operations, min(problem.rows, problem.columns))


class _Counting(Real):
    """Floats, with a count of the terms that products and sums are made of."""

    def __init__(self) -> None:
        self.operations = 0

    def matmul(self, a: Array, b: Array) -> Array:
        y = super().matmul(a, b)
        self.operations += y.size * a.shape[-1]
        return y

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        self.operations += x.size
        return super().sum(x, axes, keepdims)

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        y = super().max(x, axes, keepdims)
        # Every candidate is compared with all others.
        self.operations += x.size * x.size // max(np.size(y), 1)
        return y
