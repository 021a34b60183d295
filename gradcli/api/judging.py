"""A question at one point, answered by several methods, each judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gradcli import comparison, measure
from gradcli.api.settings import Settings
from gradcli.comparison import Comparison
from gradcli.engines import Options
from gradcli.engines.base import Evidence
from gradcli.problem import Problem


class Interrupted(KeyboardInterrupt):
    """Somebody interrupted a comparison.

    Attributes:
        comparison: Of the methods that were done.
    """

    def __init__(self, done: Comparison) -> None:
        super().__init__()
        self.comparison = done


def judged(
    problem: Problem,
    settings: Settings | None = None,
    *,
    progress: Callable[[str], None] | None = None,
    so_far: Callable[[Callable[[], Comparison]], None] | None = None,
) -> Comparison:
    """Answer a question by several methods.

    Args:
        problem: The question.
        settings: How; by default as `compare` does.
        progress: Called with a few words before each step.
        so_far: Called whenever a method is done, with what makes a comparison of all that is known.
            Its time is not taken from the methods'.

    Raises:
        Interrupted: When a KeyboardInterrupt comes after the reference is known.
    """
    how = settings or Settings()
    start = time.perf_counter()
    if how.at_kink == "nudge":
        problem = measure.nudged(problem)

    def judge(evidence: Evidence) -> Comparison:
        found = comparison.judge(evidence, rtol=how.rtol, atol=how.atol, at_kink=how.at_kink)
        if not how.elements:
            return found
        return replace(found, elements=comparison.elements_of(evidence))

    known: list[Evidence] = []

    def keep(evidence: Evidence) -> None:
        known[:] = [evidence]
        if so_far is not None:
            so_far(partial(judge, evidence))

    try:
        measure.measure(
            problem,
            how.methods,
            Options(step=how.step),
            budget=how.budget * (1.0 - measure.EXPLAINING) if how.explain else how.budget,
            runs=how.runs,
            warmup=how.warmup,
            reference=how.reference,
            sweep=how.sweep,
            narrow=how.narrow,
            progress=progress,
            so_far=keep,
        )
        (evidence,) = known
        return _named(evidence, judge(evidence), how, start + how.budget, progress)
    except KeyboardInterrupt as error:
        if not known:
            raise
        raise Interrupted(judge(known[0])) from error


def _named(
    evidence: Evidence,
    found: Comparison,
    how: Settings,
    end: float,
    progress: Callable[[str], None] | None,
) -> Comparison:
    """The comparison with the nodes that errors come from, as far as there is time until `end`."""
    left = end - time.perf_counter()
    if how.explain:
        focus = comparison.focus_of(evidence, found)
        methods = comparison.rules_of(evidence, found, how.methods or measure.METHODS)
        walk = measure.explain(evidence.problem, focus, methods, left, progress)
        return comparison.explained(evidence, found, walk)
    causes = {m.method: m.cause.value for m in found.methods if m.cause is not None}
    nodes = measure.culprits(evidence.problem, causes, left) if causes else {}
    return comparison.name_nodes(found, nodes)
