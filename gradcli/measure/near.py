"""What lies around the point: kinks and edges in float64, and exactly where that is in doubt."""

from __future__ import annotations

import time
from dataclasses import replace

from gradcli.deadline import until
from gradcli.engines.base import COUNT, Survey, Watch, decide, reaches, suspects
from gradcli.errors import GradcliError
from gradcli.measure.certify import PASSES, References, price
from gradcli.measure.clock import Clock
from gradcli.problem import Problem

SHARE = 0.05
"""The part of the budget that deciding may take; what distances take, again."""

EVALUATIONS = 40
"""Evaluations of the primal that distances are worth."""


def look_around(problem: Problem, seen: Watch, which: References, clock: Clock) -> Survey:
    """Survey the point; what balls can decide of a tie in time, they do; and how far kinks are.

    Args:
        problem: The question.
        seen: What was seen at the point.
        which: The kind of reference that was asked for: `float64` wants no balls.
        clock: The budget.
    """
    found = _decided(problem, seen, which, clock)
    share = min(clock.budget * SHARE, clock.left())
    if clock.primal * EVALUATIONS > share:
        return found
    try:
        with until(time.perf_counter() + share):
            return replace(found, reach=reaches(problem, seen))
    except (GradcliError, MemoryError):
        return found


def _decided(problem: Problem, seen: Watch, which: References, clock: Clock) -> Survey:
    plain = seen.survey(COUNT)
    share = min(clock.budget * SHARE, clock.left())
    if which == "float64" or problem.straight_through or not suspects(seen, problem):
        return plain
    if price(problem) / PASSES > share:
        return plain
    try:
        with until(time.perf_counter() + share):
            return decide(problem, seen)
    except (GradcliError, MemoryError):
        return plain  # without flint, in no time, or where an operator has no enclosure
