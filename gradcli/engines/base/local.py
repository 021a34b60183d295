"""Which node it is: whose rule is wrong, and whose rounding matters most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradcli.engines.base.alone import node_graph
from gradcli.engines.base.rounding import shake
from gradcli.errors import GradcliError, OutOfTimeError
from gradcli.graph import Node
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, complex_, real
from gradcli.ops import Card, Table
from gradcli.problem import Problem
from gradcli.transform import expand, jvp, simplify, vjp

STEP = 1e-30
"""Of the complex step, relative to nothing: there is no subtraction in it."""

WRONG = 1e-8
"""A relative difference that no rounding of a single operator makes."""

Rule = Literal["jvp", "vjp"]


@dataclass(frozen=True)
class WrongRule:
    """A node whose rule does not give the derivative of its own primal.

    Attributes:
        node: The user's node.
        op: The operator whose rule it is: the node's, or one of its expansion.
        error: The relative error of the inner product of its derivative with random directions.
    """

    node: str
    op: str
    error: float


def wrong_rule(problem: Problem, rule: Rule) -> WrongRule | None:
    """The first node with a wrong jvp or vjp rule, by its own operands at the problem's point.

    Inner products w.(J v) along random v and w are held against the complex step through the
    operator's `impl`, which uses no rule. Every node is evaluated a few times, by itself.

    Args:
        problem: The question.
        rule: Which rule to look at.
    """
    rng = np.random.default_rng(problem.seed)
    for node, operands in _nodes(problem):
        card = problem.table.get(node.key)
        if card is None or getattr(card, rule) is None or _on_kink(card, node, operands):
            continue
        try:
            error = _error(node, operands, rule, problem.table, rng)
        except OutOfTimeError:
            raise
        except GradcliError:
            # A node that cannot be looked at alone is not accused.
            continue
        if error > WRONG:
            return WrongRule(node.origin or node.name, node.key, error)
    return None


def coarse_node(problem: Problem, eps: float) -> str | None:
    """The user's node whose rounding moves the derivative most, in forward and reverse together.

    Half of the nodes at a time get random relative errors of `eps`; the half that matters more is
    halved again.

    Args:
        problem: The question; a Jacobian is looked at along a random cotangent.
        eps: Of the width in question.
    """
    rng = np.random.default_rng(problem.seed)
    derivative = vjp(problem.exact, problem.wrt, problem.of, problem.table)
    program = Evaluator(simplify(derivative.graph, problem.table), table=problem.table)
    bars = problem.cotangents or {k: rng.standard_normal(problem.shape(k)) for k in problem.of}
    feeds = {**problem.point, **{d: bars[name] for name, d in derivative.directions.items()}}

    def run(shaken: set[str]) -> np.ndarray:
        def adjust(node: Node, results: tuple[Array, ...]) -> tuple[Array, ...]:
            if (node.origin or node.name) not in shaken:
                return results
            return tuple(shake(x, rng, eps) if real.is_number(x) else x for x in results)

        out = program.run(feeds, adjust=adjust)
        return np.concatenate([np.reshape(out[k], -1) for k in derivative.results.values()])

    if not derivative.results:
        return None
    plain = run(set())
    suspects = list(dict.fromkeys(node.origin or node.name for node in program.graph.nodes))
    while len(suspects) > 1:
        half = len(suspects) // 2
        parts = suspects[:half], suspects[half:]
        moved = [max(_apart(run(set(part)), plain) for _ in range(2)) for part in parts]
        suspects = parts[int(np.argmax(moved))]
    return suspects[0] if suspects else None


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        gap = float(np.max(np.abs(np.where(a == b, 0.0, a - b)), initial=0.0))
    return gap if np.isfinite(gap) else np.inf


def _nodes(problem: Problem) -> Iterator[tuple[Node, Sequence[Array]]]:
    graph = expand(problem.exact, table=problem.table)
    seen: list[tuple[Node, Sequence[Array]]] = []
    Evaluator(graph, table=problem.table).run(
        problem.point, observe=lambda node, operands, _: seen.append((node, operands))
    )
    return iter(seen)


def _on_kink(card: Card, node: Node, operands: Sequence[Array]) -> bool:
    """Whether a convention decides here, which nobody can call wrong."""
    if card.kinks is None:
        return False
    margin, _ = card.kinks(real, *operands, **node.attrs)
    return bool(np.any(np.asarray(margin) == 0))


def _error(
    node: Node, operands: Sequence[Array], rule: Rule, table: Table, rng: np.random.Generator
) -> float:
    floats = [k for k, x in enumerate(operands) if x is not None and real.is_number(x)]
    graph, point = node_graph(node, operands, floats, table)
    wrt = list(point)
    if not wrt or not any(v.dtype.is_float for v in graph.outputs):
        return 0.0
    v = {name: rng.standard_normal(x.shape) for name, x in point.items()}
    moved = {name: x + 1j * STEP * v[name] for name, x in point.items()}
    y_dot = {k: np.imag(y) / STEP for k, y in Evaluator(graph, complex_, table).run(moved).items()}
    w = {name: rng.standard_normal(np.shape(y)) for name, y in y_dot.items()}
    true = sum(float(np.sum(w[name] * y_dot[name])) for name in w)
    size = sum(float(np.sum(np.abs(w[name] * y_dot[name]))) for name in w)
    derivative = (jvp if rule == "jvp" else vjp)(graph, wrt, table=table)
    given = v if rule == "jvp" else w
    feeds = {**point, **{made: given[name] for name, made in derivative.directions.items()}}
    made = Evaluator(derivative.graph, real, table).run(feeds)
    other = w if rule == "jvp" else v
    ours = sum(float(np.sum(other[k] * made[name])) for k, name in derivative.results.items())
    if not np.isfinite(true) or size == 0.0:
        return 0.0
    return abs(ours - true) / size if np.isfinite(ours) else np.inf
