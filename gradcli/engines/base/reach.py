"""How far each input may be moved before it meets a kink, to first order.

The margin of an element, over the length of its gradient with respect to the input. What a margin
takes of its operands is found by moving these; from there the gradient is a vjp in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gradcli.engines.base.program import Arrays
from gradcli.engines.base.watch import SAME, Reach, Watch
from gradcli.graph import Node
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, real
from gradcli.problem import Problem
from gradcli.transform import Element, expose, simplify, vjp

FEW = 8
"""Of how many kinks the distance is taken."""

EACH = 3
"""Of how many elements of one node."""

PART = 2.0**-6
"""By which part of a margin an operand's element is moved, to see whether the margin follows."""

WIDEST = 64
"""Elements of operands above which a margin is not followed."""


@dataclass(frozen=True)
class _Margin:
    """One element's distance from a kink, and what it is made of.

    Attributes:
        node: The node.
        index: The element.
        size: The distance.
        slopes: By name of an operand: the margin's gradient with respect to it.
    """

    node: Node
    index: tuple[int, ...]
    size: float
    slopes: Arrays


def reaches(problem: Problem, watch: Watch) -> dict[str, Reach]:
    """The nearest kink of each of `wrt`, off the point, among those with the smallest margins.

    Args:
        problem: The question.
        watch: What was seen at its point.

    Raises:
        OutOfTimeError: When a deadline passes.
    """
    margins = _margins(problem, watch, _smallest(problem, watch))
    found: dict[str, Reach] = {}
    for margin, gradient in zip(margins, _pulled(problem, margins), strict=True):
        for name, g in gradient.items():
            length = float(np.linalg.norm(np.reshape(g, -1)))
            if not (np.isfinite(length) and length > 0):
                continue
            distance = margin.size / length
            if name not in found or distance < found[name].distance:
                near = watch.kink(margin.node, margin.index, margin.size)
                found[name] = Reach(distance, near)
    return found


def _smallest(problem: Problem, watch: Watch) -> dict[Node, list[tuple[int, ...]]]:
    """The elements nearest to a kink that they are not on, by node."""
    near = []
    for node, margin in watch.margins.items():
        if problem.table[node.key].steps or not margin.size:
            continue
        finite = np.isfinite(margin)
        least = SAME * float(np.max(margin, where=finite, initial=0.0))
        flat = np.where(finite & (margin > least), margin, np.inf).reshape(-1)
        for k in np.argsort(flat)[:EACH]:
            if np.isfinite(flat[k]):
                index = tuple(int(i) for i in np.unravel_index(int(k), margin.shape))
                near.append((float(flat[k]), node, index))
    near.sort(key=lambda found: found[0])
    chosen: dict[Node, list[tuple[int, ...]]] = {}
    for _, node, index in near[:FEW]:
        chosen.setdefault(node, []).append(index)
    return chosen


def _margins(
    problem: Problem, watch: Watch, chosen: dict[Node, list[tuple[int, ...]]]
) -> list[_Margin]:
    """The chosen margins with their slopes, where those hang on few enough elements."""
    found = []

    def look(node: Node, operands: Sequence[Array], _: Sequence[Array]) -> None:
        for index in chosen.get(node, ()):
            slopes = _slopes(problem, node, operands, index)
            if slopes is not None:
                found.append(_Margin(node, index, float(watch.margins[node][index]), slopes))

    if chosen:
        Evaluator(problem.exact, real, problem.table).run(problem.point, look)
    return found


def _slopes(
    problem: Problem, node: Node, operands: Sequence[Array], index: tuple[int, ...]
) -> Arrays | None:
    """The gradient of one margin with respect to the node's float operands."""
    kinks = problem.table[node.key].kinks
    assert kinks is not None
    out: dict[str, np.ndarray] = {}
    for place, value in enumerate(node.inputs):
        if value is None or value in problem.exact.constants or not value.dtype.is_float:
            continue

        def margin(moved: np.ndarray, place: int = place) -> float:
            changed = [*operands[:place], moved, *operands[place + 1 :]]
            return float(np.asarray(kinks(real, *changed, **node.attrs)[0])[index])

        slope = _slope(margin, np.asarray(operands[place], np.float64))
        if slope is None:
            return None
        out[value.name] = out.get(value.name, 0.0) + slope
    return out


def _slope(margin: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray | None:
    """The gradient of a margin, which is as good as linear within a small part of itself."""
    here = margin(x)
    step = PART * here
    elements = list(_felt(lambda moved: margin(moved) != here, x, step))
    if len(elements) > WIDEST:
        return None
    slope = np.zeros(x.shape)
    for k in elements:
        moved = x.copy()
        moved.flat[k] += step
        slope.flat[k] = (margin(moved) - here) / (moved.flat[k] - x.flat[k])
    return slope


def _felt(moves: Callable[[np.ndarray], bool], x: np.ndarray, step: float) -> Iterator[int]:
    """The elements by which something moves: halves that do not matter are left out at once."""
    # Moved by the same, the two that tie would stay as far apart.
    steps = step * np.random.default_rng(0).uniform(0.5, 1.0, x.size)
    count, todo = 0, [(0, x.size)]
    while todo and count <= WIDEST:
        start, end = todo.pop()
        moved = x.copy()
        moved.reshape(-1)[start:end] += steps[start:end]
        if start == end or not moves(moved):
            continue
        if end - start == 1:
            count += 1
            yield start
            continue
        middle = (start + end) // 2
        todo += [(middle, end), (start, middle)]


def _pulled(problem: Problem, margins: Sequence[_Margin]) -> Iterator[dict[str, np.ndarray]]:
    """Gradients of margins with respect to each of `wrt`."""
    inputs = {v.name for v in problem.exact.inputs}
    inner = list(dict.fromkeys(n for m in margins for n in m.slopes if n not in inputs))
    derivative, run = None, None
    if inner:
        graph = expose(problem.exact, problem.wrt, [Element(n) for n in inner], table=problem.table)
        derivative = vjp(graph, problem.wrt, inner, problem.table)
        run = Evaluator(simplify(derivative.graph, problem.table), real, problem.table)
    for m in margins:
        gradient = {w: m.slopes[w] for w in problem.wrt if w in m.slopes}
        if derivative is not None and run is not None and not m.slopes.keys() <= inputs:
            bars = {
                given: m.slopes[name] if name in m.slopes else np.zeros(_shape(problem, name))
                for name, given in derivative.directions.items()
            }
            out = run.run({**problem.point, **bars})
            for w, result in derivative.results.items():
                gradient[w] = gradient.get(w, 0.0) + out[result]
        yield gradient


def _shape(problem: Problem, name: str) -> tuple[int, ...]:
    value = problem.exact.value(name)
    assert value is not None
    assert value.shape is not None
    return tuple(int(d) for d in value.shape)
