"""One question at several points: the worst of them is the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from gradcli.api.judging import Interrupted, judged
from gradcli.api.settings import Settings
from gradcli.comparison import At, Comparison, how_bad, worst_of
from gradcli.problem import Problem

LEAST = 0.05
"""Seconds of budget that a point has at least."""


def judged_at(
    count: int,
    problems: Iterable[tuple[str, Problem]],
    settings: Settings,
    *,
    progress: Callable[[str], None] | None = None,
    so_far: Callable[[Callable[[], Comparison]], None] | None = None,
) -> Comparison:
    """Answer a question at several points by several methods.

    Args:
        count: How many points there are; at least one.
        problems: What each is called, and the question there. Each has its share of what is left
            of the budget.
        settings: See `judged`.
        progress: Called with a few words before each step.
        so_far: Called whenever a method is done, with what makes a comparison of all that is known.

    Returns:
        The comparison at the worst point; of several, with those at all of them.

    Raises:
        Interrupted: With what is known, when a KeyboardInterrupt comes.
    """
    end = time.perf_counter() + settings.budget
    found: list[At] = []
    worst = 0

    def tell(label: str) -> Callable[[str], None] | None:
        if progress is None or not label:
            return progress
        return lambda what: progress(f"{label} of {count}: {what}")

    def partly(label: str) -> Callable[[Callable[[], Comparison]], None] | None:
        if so_far is None:
            return None
        return lambda part: so_far(lambda: worst_of([*found, At(label, part())]))

    try:
        for label, problem in problems:
            left = (end - time.perf_counter()) / (count - len(found))
            own = replace(settings, budget=max(left, LEAST)) if count > 1 else settings
            done = judged(problem, own, progress=tell(label), so_far=partly(label))
            worst = _with(found, At(label, done), worst)
    except Interrupted as error:
        raise Interrupted(worst_of([*found, At(label, error.comparison)])) from error
    except KeyboardInterrupt as error:
        if not found:
            raise
        raise Interrupted(worst_of(found)) from error
    return worst_of(found)


def _with(found: list[At], at: At, worst: int) -> int:
    """Add a point, and say which is the worst now; no other keeps its elements, which are many."""
    found.append(at)
    new = len(found) - 1
    if new == 0:
        return 0
    before, now = found[worst], found[new]
    worse = how_bad(now.comparison) > how_bad(before.comparison)
    lesser = worst if worse else new
    found[lesser] = replace(
        found[lesser], comparison=replace(found[lesser].comparison, elements=())
    )
    return new if worse else worst
