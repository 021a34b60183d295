"""What lies around the point: kinks and edges in float64, and exactly where that is in doubt."""

from __future__ import annotations

import time
from dataclasses import replace

from gradcli.deadline import until
from gradcli.engines.base import (
    COUNT,
    Survey,
    Watch,
    certainly,
    decide,
    reaches,
    suspects,
    weigh,
)
from gradcli.errors import GradcliError
from gradcli.measure.certify import PASSES, References, price
from gradcli.measure.clock import Clock, Progress
from gradcli.problem import Problem

SHARE = 0.05
"""The part of the budget that deciding may take; what distances take, again."""

PASSES_OF_TIES = 12
"""Evaluations of the primal that it takes to say in float64 which ties matter."""

SERIES = 1.0
"""Certificates that two answers by power series, and one more for a node, are worth."""

EVALUATIONS = 40
"""Evaluations of the primal that distances are worth."""


def look_around(
    problem: Problem,
    seen: Watch,
    which: References,
    clock: Clock,
    tell: Progress = lambda _: None,
) -> Survey:
    """Survey the point; what balls can decide of a tie in time, they do; and how far kinks are.

    Args:
        problem: The question.
        seen: What was seen at the point.
        which: The kind of reference that was asked for: `float64` wants no balls.
        clock: The budget.
        tell: Called with a few words before each step.
    """
    found = _weighed(problem, seen, which, clock, tell, _decided(problem, seen, which, clock))
    share = min(clock.budget * SHARE, clock.left())
    if clock.primal * EVALUATIONS > share:
        return found
    try:
        with until(time.perf_counter() + share):
            return replace(found, reach=reaches(problem, seen, found.nearest))
    except (GradcliError, MemoryError):
        return found


def _weighed(
    problem: Problem,
    seen: Watch,
    which: References,
    clock: Clock,
    tell: Progress,
    found: Survey,
) -> Survey:
    """Which of the ties matter: in float64, and for certain where the time allows."""
    share = min(clock.budget * SHARE, clock.left())
    if not found.ties or problem.straight_through or clock.primal * PASSES_OF_TIES > 2 * share:
        return found
    try:
        with until(time.perf_counter() + 2 * share):
            found = replace(found, tied=weigh(problem, seen, found.ties))
    except Exception:  # noqa: BLE001 # a rule that breaks is a method's fault, told there
        return found
    if which == "float64" or not found.tied or SERIES * price(problem) > share:
        return found
    try:
        with until(time.perf_counter() + share):
            return replace(found, tied=certainly(problem, seen, found.ties, found.tied, tell))
    except (GradcliError, MemoryError):
        return found


def _decided(problem: Problem, seen: Watch, which: References, clock: Clock) -> Survey:
    plain = seen.survey(COUNT)
    share = min(clock.budget * SHARE, clock.left())
    if which == "float64" or problem.straight_through or not suspects(seen):
        return plain
    if price(problem) / PASSES > share:
        return plain
    try:
        with until(time.perf_counter() + share):
            return decide(problem, seen)
    except (GradcliError, MemoryError):
        return plain  # without flint, in no time, or where an operator has no enclosure
