"""Comparisons at several points: the worst stands for all, and has all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradcli.comparison.facts import At, Comparison, Verdict
from gradcli.comparison.policy import undecided

_GRAVITY = {1: 3, 70: 2, 3: 1, 0: 0}
"""Exit codes by how bad they are."""


def worst_of(found: Sequence[At]) -> Comparison:
    """The comparison at the worst point, with those at all points; of one point, that one.

    The worst is where a method disagrees, else broke, else nothing could be decided, else where the
    point is on a kink; among equals where the largest tolerance is needed, relative to the one
    applied.
    """
    if len(found) == 1:
        return found[0].comparison
    at = max(range(len(found)), key=lambda k: how_bad(found[k].comparison))
    return replace(found[at].comparison, points=tuple(found), worst_point=at)


def how_bad(c: Comparison) -> tuple[int, bool, bool, float]:
    """By what points are ordered, the worst last; see `worst_of`."""
    needed = [j.needed_rtol / j.rtol for j in c.methods if j.needed_rtol is not None and j.rtol]
    kinked = c.verdict is Verdict.KINK
    return _GRAVITY.get(c.exit_code, 2), undecided(c), kinked, max(needed, default=0.0)


def at_points(c: Comparison) -> tuple[At, ...]:
    """What was found at every point that was asked; of one point, that, without a label."""
    return c.points or (At("", c),)
