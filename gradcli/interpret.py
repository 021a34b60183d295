"""Evaluate a graph in a number system: slow next to a runtime, and independent of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from gradcli import deadline
from gradcli.errors import CannotError, GradcliError, OutOfTimeError, UnsupportedError
from gradcli.graph import Graph, Node, Value
from gradcli.numbers import Array, Numbers, real
from gradcli.ops import OPS, Table

Observe = Callable[[Node, Sequence[Array], Sequence[Array]], None]
"""Called after each node with its operands and results."""

Adjust = Callable[[Node, tuple[Array, ...]], tuple[Array, ...]]
"""Given a node and its results, what to go on with instead."""


HEAVY = 1 << 30
"""Bytes of all constants above which those that a number system copies are copied when they are
read, in each run anew: of a large network's weights there is then one copy more, and not of all."""


class Evaluator:
    """A graph ready to be evaluated again and again in one number system.

    Constants are lifted once, unless they are large. Values are freed as they die, except those
    asked for.

    Args:
        graph: What to evaluate. Its float tensors are numbers of `n`, whatever width they have in
            the file: `transform.cast` says where a narrower width rounds on purpose.
        n: The number system.
        table: Cards whose `impl` evaluates the nodes.

    Raises:
        UnsupportedError: When an operator has no card or no `impl`.
    """

    def __init__(self, graph: Graph, n: Numbers = real, table: Table = OPS) -> None:
        self.graph = graph
        self.n = n
        self._steps = [(node, _impl(node, table)) for node in graph.nodes]
        late = _late(graph, n)
        self._constants = {v: n.lift(a) for v, a in graph.constants.items() if v not in late}
        self._late = _first_readers(graph, late)
        self._dying = _last_readers(graph)

    def run(
        self,
        feeds: Mapping[str, Any],
        observe: Observe | None = None,
        keep: Sequence[str] = (),
        captured: Mapping[Value, Array] | None = None,
        adjust: Adjust | None = None,
    ) -> dict[str, Array]:
        """The outputs (and the values named in `keep`) by name, in numbers of `n`.

        Args:
            feeds: An array for each graph input, by name; floats are lifted, numbers of `n` taken
                as they are.
            observe: Called after each node.
            keep: Names of further values to return.
            captured: For a body: the outer values that it reads.
            adjust: Replaces each node's results by others, to see what hangs on them.

        Raises:
            OutOfTimeError: When a deadline passes.
        """
        env: dict[Value, Array] = dict(self._constants)
        if captured:
            env.update(captured)
        for value in self.graph.inputs:
            x = feeds[value.name]
            env[value] = x if self.n.is_number(x) else self.n.lift(np.asarray(x))
        wanted = set(keep)
        kept = {v.name: x for v, x in env.items() if v.name in wanted}
        with np.errstate(all="ignore"):
            steps = zip(self._steps, self._late, self._dying, strict=True)
            for (node, impl), late, dying in steps:
                deadline.check()
                for value in late:
                    env[value] = self.n.lift(self.graph.constants[value])
                    if value.name in wanted:
                        kept[value.name] = env[value]
                operands = [None if v is None else env[v] for v in node.inputs]
                results = _apply(self.n, node, impl, operands)
                if adjust is not None:
                    results = adjust(node, results)
                for made, x in zip(node.outputs, results, strict=False):
                    if made is not None:
                        env[made] = x
                        if made.name in wanted:
                            kept[made.name] = x
                if observe is not None:
                    observe(node, operands, results)
                for value in dying:
                    env.pop(value, None)
        return {value.name: env[value] for value in self.graph.outputs} | kept


def interpret(
    graph: Graph, feeds: Mapping[str, Any], n: Numbers = real, **how: Any
) -> dict[str, Array]:
    """Evaluate once. See Evaluator for the arguments and the result."""
    return Evaluator(graph, n).run(feeds, **how)


def evaluate(
    node: Node, operands: Sequence[Array], n: Numbers = real, table: Table = OPS
) -> tuple[Array, ...]:
    """The results of one node on these operands; None where a result is not wanted.

    Raises:
        UnsupportedError: When the operator has no card or no `impl`, or cannot take the operands.
    """
    with np.errstate(all="ignore"):
        return _apply(n, node, _impl(node, table), operands)


def _impl(node: Node, table: Table) -> Callable[..., Any]:
    card = table.get(node.key)
    if card is None or card.impl is None:
        why = "no card" if card is None else card.reason
        raise UnsupportedError(f"node {node.name!r}: cannot evaluate {node.key} ({why})")
    return card.impl


def _apply(
    n: Numbers, node: Node, impl: Callable[..., Any], operands: Sequence[Array]
) -> tuple[Array, ...]:
    try:
        made = impl(n, *operands, **node.attrs)
        results = made if isinstance(made, tuple) else (made,)
        # A result that costs something and is seldom read may be given as a function of nothing.
        return tuple(
            None if value is None else x() if callable(x) else x
            for x, value in zip_longest(results, node.outputs[: len(results)])
        )
    except OutOfTimeError:
        raise
    except CannotError as error:
        raise type(error)(
            f"node {node.name!r} ({node.key}): {error.message}", error.hint
        ) from error
    except (GradcliError, NotImplementedError):
        raise
    except MemoryError as error:
        raise UnsupportedError(
            f"node {node.name!r} ({node.key}): its results do not fit into memory",
            "ask for less at once with --wrt and --of, or take smaller inputs",
        ) from error
    except (ValueError, TypeError, IndexError, ArithmeticError) as error:
        shapes = ", ".join("absent" if x is None else str(np.shape(x)) for x in operands)
        raise UnsupportedError(
            f"node {node.name!r} ({node.key}) cannot be evaluated on operands of shape {shapes}:"
            f" {error}"
        ) from error


def _late(graph: Graph, n: Numbers) -> set[Value]:
    """The constants that are lifted when they are read."""
    if sum(array.nbytes for array in graph.constants.values()) <= HEAVY:
        return set()
    kept = {v for v, array in graph.constants.items() if n.is_number(array) or v in graph.outputs}
    return graph.constants.keys() - kept


def _first_readers(graph: Graph, values: set[Value]) -> list[list[Value]]:
    """For each node, those of these values that nothing reads before it."""
    left = set(values)
    first: list[list[Value]] = []
    for node in graph.nodes:
        first.append([v for v in dict.fromkeys(node.reads()) if v in left])
        left.difference_update(first[-1])
    return first


def _last_readers(graph: Graph) -> list[list[Value]]:
    """For each node, the values that nothing reads after it."""
    alive = set(graph.outputs)
    dying: list[list[Value]] = []
    for node in reversed(graph.nodes):
        ends = [v for v in (*node.reads(), *node.makes()) if v not in alive]
        alive.update(ends)
        dying.append(list(dict.fromkeys(ends)))
    return dying[::-1]
