"""Jumps of a function within a step, found by evaluating it: no rule and no card is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcli.engines.base.primal import Line, Point
from gradcli.graph import Node

HALVINGS = 16
"""How often an interval is halved around a jump."""

FINEST = 2.0**-44
"""The shortest interval, relative to max(1, |x|), whose ends are still apart."""

GROWTH = 32.0
"""A difference that is steeper by this much over an interval 2^16 times shorter measures a jump."""

TRIFLE = 2.0**-1000
"""What stands for a jump of the function that an element was not seen to take part in."""

LISTED = 3
"""Nodes that a note names."""


def jump_between(here: Point, line: Line, start: float, end: float) -> np.ndarray:
    """Of f(end) - f(start) over their distance, the part that is the height of a jump.

    The interval is halved around its steepest half again and again. Of a function that is
    continuous the increments shrink with it; of one that jumps they do not, and their slope grows
    as 1 over the interval. No rule and no card is asked.
    """

    def f(t: float) -> np.ndarray:
        return here.seen(line.step(t)[0])[0]

    width = end - start
    left, right = f(start), f(end)
    whole = np.abs(right - left) / width
    floor = 16 * (here.noise + here.drift * width)
    for _ in range(HALVINGS):
        if end - start < FINEST:
            break
        middle = 0.5 * (start + end)
        y = f(middle)
        if _rise(left, y, floor) >= _rise(y, right, floor):
            end, right = middle, y
        else:
            start, left = middle, y
    rise = np.abs(right - left)
    found = (rise > floor) & (rise / (end - start) > GROWTH * whole)
    if not np.any(found):
        return np.zeros_like(rise)
    return np.asarray(np.where(found, rise / width, TRIFLE))


def _rise(low: np.ndarray, high: np.ndarray, floor: np.ndarray) -> float:
    """How much of an increment is more than noise."""
    return float(np.sum(np.nan_to_num(np.maximum(np.abs(high - low) - floor, 0.0))))


def at_jumps(nodes: Sequence[Node]) -> str:
    """A note on the nodes that jump."""
    named = ", ".join(f"{n.name!r} ({n.op})" for n in nodes[:LISTED])
    more = f" and {len(nodes) - LISTED} more" if len(nodes) > LISTED else ""
    return f"the function jumps within a step, at node {named}{more}"
