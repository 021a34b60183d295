"""How far each input may be moved before it meets a kink, to first order.

The margin of an element, over the length of its gradient with respect to the input. The smallest
margin need not be the nearest kink, so all are looked at: each one's gradient has about the length
that random directions show, and the nearest by that get their own. What a margin takes of its
operands is found by moving these; from there the gradient is a vjp in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcli.engines.base.inner import tangents
from gradcli.engines.base.program import Arrays
from gradcli.engines.base.watch import SAME, Near, Reach, Watch
from gradcli.errors import OutOfTimeError
from gradcli.graph import Node
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, real
from gradcli.problem import Problem
from gradcli.transform import Element, expose, simplify, vjp

FEW = 24
"""Of how many kinks the distance is taken: of all, where there are no more."""

DRAWS = 4
"""Random directions that show how fast margins shrink, for each of `wrt`."""

SHORT = 2.0**-24
"""How far operands go along those, relative to the largest of them."""

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


def reaches(problem: Problem, watch: Watch, nearest: Sequence[Near] = ()) -> dict[str, Reach]:
    """The nearest kink of each of `wrt`, off the point.

    How fast every margin of the graph shrinks is first estimated, by a few random directions; of
    the elements that are nearest by that, the distance is then taken. Where a deadline passes on
    the way, what was found by then is said.

    Args:
        problem: The question.
        watch: What was seen at its point.
        nearest: Kinks near it: of those that are certain to be off, however little, it is their
            distance that counts, where float64 alone would take them for rounding.

    Raises:
        OutOfTimeError: When a deadline passes before anything was found.
        UnsupportedError: When an operator has no rule.
    """
    off = dict(_off(problem, watch, {near.node: near for near in nearest}))
    total = sum(int(np.sum(np.isfinite(margin))) for margin in off.values())
    found: dict[str, Reach] = {}
    try:
        guesses = list(_guessed(problem, off)) if total > FEW else []
        chosen = _nearest(off, guesses)
        for wrt, distances in guesses:
            # Where no gradient can be taken in time, the guess stands.
            distance, node, index = _least(distances)
            if node is not None:
                near = watch.kink(node, index, float(off[node][index]))
                found[wrt] = Reach(distance, near, estimated=True)
        guessed, first = dict(found), dict[str, Reach]()
        margins = _margins(problem, off, chosen)
        taken = {(m.node.name, m.index) for m in margins}
        for margin, gradient in zip(margins, _pulled(problem, margins), strict=True):
            for name, g in gradient.items():
                length = float(np.linalg.norm(np.reshape(g, -1)))
                if not (np.isfinite(length) and length > 0):
                    continue
                distance = margin.size / length
                if name not in first or distance < first[name].distance:
                    near = watch.kink(margin.node, margin.index, margin.size)
                    first[name] = Reach(distance, near, estimated=total > FEW)
                    found[name] = _nearer(first[name], guessed.get(name), taken)
    except OutOfTimeError:
        if not found:
            raise
    return found


def _nearer(first: Reach, guess: Reach | None, taken: set[tuple[str, tuple[int, ...]]]) -> Reach:
    """A distance, or a guess of another kink's that is smaller and could not be taken."""
    if guess is None or (guess.near.node, guess.near.index) in taken:
        return first
    return min(first, guess, key=lambda r: r.distance)


def _off(
    problem: Problem, watch: Watch, nearest: Mapping[str, Near]
) -> Iterator[tuple[Node, np.ndarray]]:
    """The margins of elements that are not on their kink; infinite for those that are."""
    for node, margin in watch.margins.items():
        if problem.table[node.key].steps or not margin.size:
            continue
        finite = np.isfinite(margin)
        least = SAME * float(np.max(margin, where=finite, initial=0.0))
        found = np.where(finite & (margin > least), margin, np.inf)
        near = nearest.get(node.name)
        if near is not None and near.decided == "off" and near.margin > 0.0:
            found[near.index] = near.within
        if np.any(np.isfinite(found)):
            yield node, found


_Distances = Mapping[Node, np.ndarray]


def _guessed(problem: Problem, off: _Distances) -> Iterator[tuple[str, _Distances]]:
    """For each of `wrt`, about how far every element's kink is: the margin over its speed.

    The mean square of its slopes along random directions is that of its gradient's length.
    """
    at: dict[Node, Sequence[Array]] = {}
    Evaluator(problem.exact, real, problem.table).run(
        problem.point, lambda node, xs, _: at.update({node: xs}) if node in off else None
    )
    push = tangents(problem, {v.name for node in off for v in node.reads()})
    rng = np.random.default_rng(problem.seed)
    still = {w: np.zeros(problem.shape(w)) for w in problem.wrt}
    for wrt in problem.wrt:
        squares = {node: np.zeros(margin.shape) for node, margin in off.items()}
        for _ in range(DRAWS):
            dots = push(problem.point, still | {wrt: rng.standard_normal(problem.shape(wrt))})
            for node in squares:
                squares[node] += np.square(_shrinks(problem, node, at[node], dots)) / DRAWS
        with np.errstate(divide="ignore"):
            yield wrt, {node: off[node] / np.sqrt(total) for node, total in squares.items()}


@np.errstate(all="ignore")
def _shrinks(problem: Problem, node: Node, operands: Sequence[Array], dots: Arrays) -> np.ndarray:
    """How fast each margin of a node changes along tangents of its operands."""
    kinks = problem.table[node.key].kinks
    assert kinks is not None
    moves = [None if v is None else dots.get(v.name) for v in node.inputs]
    pairs = [(x, m) for x, m in zip(operands, moves, strict=True) if m is not None and m.size]
    speed = max((float(np.max(np.abs(m))) for _, m in pairs), default=0.0)
    size = max((float(np.max(np.abs(x))) for x, _ in pairs), default=0.0)
    here = np.asarray(kinks(real, *operands, **node.attrs)[0])
    if not (np.isfinite(speed) and speed > 0):
        return np.zeros(here.shape)
    h = SHORT * max(size, SHORT) / speed
    rates = []
    for t in (h, -h):
        moved = [x if m is None else x + t * m for x, m in zip(operands, moves, strict=True)]
        there = np.asarray(kinks(real, *moved, **node.attrs)[0])
        rates.append(np.nan_to_num(np.abs(there - here) / h, posinf=0.0))
    # One of the two does not cross the kink.
    return np.asarray(np.maximum(*rates))


def _least(distances: _Distances) -> tuple[float, Node | None, tuple[int, ...]]:
    best: tuple[float, Node | None, tuple[int, ...]] = (np.inf, None, ())
    for node, each in distances.items():
        place = int(np.argmin(each))
        if each.flat[place] < best[0]:
            index = tuple(int(i) for i in np.unravel_index(place, each.shape))
            best = float(each.flat[place]), node, index
    return best


def _nearest(
    off: _Distances, guesses: Sequence[tuple[str, _Distances]]
) -> dict[Node, list[tuple[int, ...]]]:
    """The elements that are nearest by a guess, a few for each of `wrt`; all where they are few."""
    chosen: dict[Node, list[tuple[int, ...]]] = {}
    for distances in [d for _, d in guesses] or [off]:
        near = []
        for node, each in distances.items():
            flat = each.reshape(-1)
            first = np.argpartition(flat, FEW)[:FEW] if flat.size > FEW else range(flat.size)
            near += [(float(flat[k]), node, int(k)) for k in first if np.isfinite(flat[k])]
        near.sort(key=lambda found: found[0])
        for _, node, k in near[: max(1, FEW // max(1, len(guesses)))]:
            index = tuple(int(i) for i in np.unravel_index(k, off[node].shape))
            if index not in chosen.setdefault(node, []):
                chosen[node].append(index)
    return chosen


def _margins(
    problem: Problem, off: _Distances, chosen: dict[Node, list[tuple[int, ...]]]
) -> list[_Margin]:
    """The chosen margins with their slopes, where those hang on few enough elements."""
    found = []

    def look(node: Node, operands: Sequence[Array], _: Sequence[Array]) -> None:
        for index in chosen.get(node, ()):
            slopes = _slopes(problem, node, operands, index)
            if slopes is not None:
                found.append(_Margin(node, index, float(off[node][index]), slopes))

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
