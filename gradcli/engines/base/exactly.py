"""Whether a point really lies on a kink: what float64 suspects, balls decide.

A tie of float64 may be rounding, and one that float64 misses may be exact. So wherever a margin is
small, the primal is evaluated in balls, and the margins are taken of their midpoints, in as many
bits. What stays open at the last precision is said to be open: no precision excludes a tie of two
numbers that are equal for a reason which arithmetic does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.engines.base.watch import COUNT, Decision, Survey, Watch, around
from gradcli.errors import OutOfTimeError, UndecidedError
from gradcli.graph import Node
from gradcli.interpret import Evaluator
from gradcli.numbers import Array, Ball, Points
from gradcli.numbers.boxed import plain
from gradcli.ops import Card
from gradcli.problem import Problem

CLOSE = 2.0**-30
"""A margin below this part of a node's widest one is looked at again, exactly."""

PRECISIONS = (128, 256, 512, 1024, 1536)
"""In bits, one after another, until nothing is open."""


def suspects(watch: Watch) -> list[Node]:
    """The nodes with an element so near to a kink or a jump that float64 may be wrong about it."""
    found = []
    for node, margin in watch.margins.items():
        finite = margin[np.isfinite(margin)]
        if finite.size and float(np.min(finite)) <= CLOSE * float(np.max(finite)):
            found.append(node)
    return found


def decide(problem: Problem, watch: Watch | None = None, count: int = COUNT) -> Survey:
    """Look around a problem's point, in float64, and exactly where that is in doubt.

    Args:
        problem: The question.
        watch: What was seen there, where somebody has looked.
        count: See `survey`.

    Where a deadline passes on the way, what was decided by then is said.

    Raises:
        MissingExtraError: Without python-flint, where something is in doubt.
        CannotError: When an operator has no enclosure here.
        OutOfTimeError: When a deadline passes before anything was decided.
    """
    watch = watch or around(problem)
    doubtful = set(suspects(watch))
    decisions: dict[Node, Decision] = {}
    for bits in PRECISIONS:
        if not doubtful:
            break
        n = Ball(bits)

        def look(node: Node, operands: Sequence[Array], _: Sequence[Array], n: Ball = n) -> None:
            if node not in doubtful:
                return
            found = _decision(n, node, problem.table[node.key], operands)
            if found is None:
                doubtful.discard(node)
                return
            decisions[node] = found
            if found.decided != "open":
                doubtful.discard(node)

        try:
            Evaluator(problem.exact, n, problem.table).run(problem.point, look)
        except OutOfTimeError:
            if not decisions:
                raise
            break
    return watch.survey(count, decisions)


def _decision(n: Ball, node: Node, card: Card, operands: Sequence[Array]) -> Decision | None:
    """What one precision says of a node; None where its margins cannot be taken exactly."""
    # A margin moves by no more than its operand, or two of them; a norm by less than all together.
    radii = [n.radius(x) for x in operands if n.is_number(x)]
    reach = max((2.0 * r.size * float(np.max(r, initial=0.0)) for r in radii), default=0.0)
    margin = _margin(n, node, card, [_middles(n, x) for x in operands])
    if margin is None:
        return None
    low, high = (_floats(end, margin) for end in (lambda v: v.abs_lower(), lambda v: v.abs_upper()))
    near = low <= reach
    if np.any(near):
        exact = _is_zero(n, margin)
        if np.any(exact):
            # What is 0 by its midpoints alone is so no more when those are moved.
            finer, rng = Ball(2 * n.bits), np.random.default_rng(n.bits)
            moved = _margin(finer, node, card, [_moved(n, x, finer, rng) for x in operands])
            exact &= moved is not None and _is_zero(n, moved)
        if np.any(exact):
            return Decision("on", _first(exact))
        return Decision("open", _first(near), float(np.max(high[near])) + reach)
    place = int(np.argmin(low))
    return Decision("off", _index(place, low.shape), float(low.flat[place]))


def _margin(n: Ball, node: Node, card: Card, operands: Sequence[Array]) -> np.ndarray | None:
    """The margins of a node on numbers of no radius; None where they would be rounded."""
    assert card.kinks is not None
    try:
        with n.working():
            margin = np.asarray(card.kinks(Points(n.bits), *operands, **node.attrs)[0])
    except (TypeError, ValueError, AttributeError, UndecidedError):
        return None  # it needs what only floats have
    rounded = [not isinstance(v, n.arb) and np.isfinite(v) for v in margin.flat]
    return None if any(rounded) else margin


def _floats(end: Callable[[Any], Any], margin: np.ndarray) -> np.ndarray:
    """One end of each margin; infinite where there is no kink."""

    def number(v: Any) -> float:
        x = float(v if isinstance(v, float) else end(v))
        return np.inf if np.isnan(x) else x

    return np.asarray(np.frompyfunc(number, 1, 1)(margin), np.float64)


def _is_zero(n: Ball, margin: np.ndarray) -> np.ndarray:
    zero = np.frompyfunc(lambda v: isinstance(v, n.arb) and bool(v.is_zero()), 1, 1)
    return np.asarray(zero(margin), bool)


def _middles(n: Ball, x: Array) -> Array:
    """The midpoints of balls, as balls of no radius; whatever else as it is."""
    if not n.is_number(x):
        return x
    return np.asarray(np.frompyfunc(lambda v: v.mid(), 1, 1)(plain(x)), object)


def _moved(n: Ball, x: Array, finer: Ball, rng: np.random.Generator) -> Array:
    """Other numbers in the same balls, each somewhere else; exact numbers stay."""
    if not n.is_number(x):
        return x

    def within(v: Any) -> Any:
        return v.mid() if v.is_exact() else v.mid() + v.rad() * n.arb(float(rng.uniform(0.5, 1.0)))

    with finer.working():
        moved = np.asarray(np.frompyfunc(within, 1, 1)(plain(x)), object)
    return _middles(n, n.box(moved))


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return _index(int(np.argmax(mask)), mask.shape)


def _index(place: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(place, shape))
