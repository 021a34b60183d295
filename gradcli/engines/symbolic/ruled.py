"""A network and its Jacobian as assignments, by the rules of the operators.

The derivative is the graph that `transform.vjp` or `transform.jvp` makes, whichever has fewer
directions, evaluated over expressions. So a formula takes at a kink what reverse mode takes there,
and its products and shifts are those that keep their digits. It is written for people and for
compilers; the symbolic engine, which is to know no rule, has no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import sympy

from gradcli.engines.symbolic.expanded import Named, Written, inputs, naming
from gradcli.errors import CannotError
from gradcli.graph import Graph, Node
from gradcli.interpret import Evaluator
from gradcli.numbers import Array
from gradcli.numbers.boxed import plain
from gradcli.ops import Card
from gradcli.ops.pool import max_pool_values
from gradcli.problem import Problem
from gradcli.transform import Derivative, expand, jvp, simplify, vjp, vmap


class sigmoid(sympy.Function):  # type: ignore[misc]  # noqa: N801 # as people and programs call it
    """The logistic function, by its name: nothing here asks SymPy for its derivative."""


class Readable(Named):
    """Expressions that nobody differentiates any more: functions go by the names people know."""

    def sigmoid(self, x: Array) -> Array:
        def of(v: Any) -> Any:
            if v.is_Number:
                return self._element(1.0 / (1.0 + math.exp(-self._float(v))))
            return sigmoid(v, evaluate=False)

        return self._map(of, x)


def write(problem: Problem) -> Written:
    """The network and its Jacobian written out.

    Raises:
        CannotError: When something in it has no expression.
        UnsupportedError: When an operator has no rule, or no `impl`.
    """
    n = Readable()
    arguments, feeds = inputs(problem, n)
    with _in_the_users_words(problem):
        back = problem.rows <= problem.columns
        primal = _by_values(problem)
        derive = vjp if back else jvp
        derivative = derive(primal, problem.wrt, problem.of, problem.table)
        ys, images = _run(problem, n, derivative, feeds, back)
    steps = _bells(n.lines.steps)
    jacobian = images if back else images.T
    return Written(arguments, steps, jacobian.tolist(), ys)


def _by_values(problem: Problem) -> Graph:
    """The primal with MaxPool by comparisons: its rules go by places, which expressions hide."""
    table = problem.table
    asked = tuple(v for v in problem.exact.outputs if v.name in problem.of)
    graph = simplify(replace(problem.exact, outputs=asked), table)
    read = {v for node in graph.nodes for v in node.reads()} | set(asked)

    def bare(node: Node) -> Node:
        unread = node.key == "MaxPool" and read.isdisjoint(node.makes()[1:])
        return replace(node, outputs=node.outputs[:1]) if unread else node

    def has_values_alone(node: Node, _card: Card) -> bool:
        return node.key == "MaxPool" and len(node.outputs) == 1

    graph = replace(graph, nodes=tuple(map(bare, graph.nodes)))
    written_out = replace(table["MaxPool"], expand=max_pool_values)
    return expand(graph, has_values_alone, table.replace(written_out))


@contextmanager
def _in_the_users_words(problem: Problem) -> Iterator[None]:
    """Errors name the node of the file where it is one of those that have no expression."""
    try:
        yield
    except CannotError:
        n = Readable()
        Evaluator(problem.exact, n, naming(problem.table)).run(inputs(problem, n)[1])
        raise


def _run(
    problem: Problem, n: Readable, derivative: Derivative, feeds: Mapping[str, Any], back: bool
) -> tuple[list[Any], np.ndarray]:
    """The outputs' elements, and the images of all unit directions, a row each."""
    given, found = (problem.of, problem.wrt) if back else (problem.wrt, problem.of)
    sizes = [math.prod(problem.shape(name)) for name in given]
    starts = np.cumsum([0, *sizes])
    units = np.eye(starts[-1])
    directions = {
        derivative.directions[name]: units[:, a : a + size].reshape(
            len(units), *problem.shape(name)
        )
        for name, a, size in zip(given, starts, sizes, strict=False)
        if name in derivative.directions
    }
    if not directions or not derivative.results or not starts[-1]:
        runs = [(_evaluated(problem, n, problem.exact, feeds), len(units))]
    else:
        runs = _runs(problem, n, derivative, feeds, directions)
    rows = [
        np.concatenate([_image(problem, n, derivative, out, name, count) for name in found], axis=1)
        for out, count in runs
    ]
    primal = runs[0][0]
    ys = [y for name in problem.of for y in n.lift(primal[name]).reshape(-1).tolist()]
    return ys, np.concatenate(rows)


def _runs(
    problem: Problem,
    n: Readable,
    derivative: Derivative,
    feeds: Mapping[str, Any],
    directions: Mapping[str, np.ndarray],
) -> list[tuple[Mapping[str, Array], int]]:
    """All directions in one run, or where an operator cannot carry them, one after the other."""
    count = len(next(iter(directions.values())))
    try:
        graph = simplify(vmap(derivative.graph, directions, count, problem.table), problem.table)
    except CannotError:
        alone = [{k: v[i] for k, v in directions.items()} for i in range(count)]
        return [(_evaluated(problem, n, derivative.graph, {**feeds, **one}), 1) for one in alone]
    return [(_evaluated(problem, n, graph, {**feeds, **directions}), count)]


def _evaluated(
    problem: Problem, n: Readable, graph: Graph, feeds: Mapping[str, Any]
) -> Mapping[str, Array]:
    return Evaluator(graph, n, naming(problem.table)).run(feeds)


def _image(
    problem: Problem,
    n: Readable,
    derivative: Derivative,
    out: Mapping[str, Array],
    name: str,
    count: int,
) -> np.ndarray:
    """What `count` directions come to in one tensor, a row each; zeros where nothing gets there."""
    size = math.prod(problem.shape(name))
    at = derivative.results.get(name, "")
    found = n.lift(out[at]) if at in out else n.full((count, size), 0.0)
    return np.asarray(plain(found).reshape(count, size))


def _bells(steps: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The steps with the rule of tanh, 4 sigmoid(2z) sigmoid(-2z), written as sech(z)^2."""
    means = dict(steps)

    def bell(e: Any) -> Any:
        four, symbol = e.as_coeff_Mul()
        product = means.get(symbol)
        if four != 4 or product is None or not product.is_Mul or len(product.args) != 2:
            return e
        one, other = (means.get(s) for s in product.args)
        if not isinstance(one, sigmoid) or not isinstance(other, sigmoid):
            return e
        (w,), (minus_w,) = one.args, other.args
        if w != -minus_w:
            return e
        w = minus_w if w.as_coeff_Mul()[0] == -1 else w
        two, z = means.get(w, w).as_coeff_Mul()
        return sympy.sech(z) ** 2 if two == 2 else e

    return [(symbol, bell(e)) for symbol, e in steps]
