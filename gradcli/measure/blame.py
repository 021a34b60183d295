"""Which of the user's nodes is behind a disagreement."""

from __future__ import annotations

import time
from collections.abc import Mapping

from gradcli.deadline import until
from gradcli.engines import ENGINES
from gradcli.engines.base import coarse_node, wrong_kernel, wrong_rule
from gradcli.errors import OutOfTimeError
from gradcli.problem import Problem


def culprits(problem: Problem, causes: Mapping[str, str], seconds: float) -> dict[str, str]:
    """The user's nodes behind disagreements, where they can be found in time.

    Args:
        problem: The question.
        causes: By method: `rule`, `runtime` or `rounding`; other causes have no node.
        seconds: For the search.

    Returns:
        By method: the node whose rule or kernel is wrong, or whose rounding matters most.
    """
    searches: dict[str, list[str]] = {}
    for method, cause in causes.items():
        uses = ENGINES[method].uses
        if cause == "rounding":
            searches.setdefault("rounding", []).append(method)
        elif cause == "runtime":
            searches.setdefault(method, []).append(method)
        elif cause == "rule" and uses != "impl":
            searches.setdefault(uses, []).append(method)
    nodes: dict[str, str] = {}
    try:
        with until(time.perf_counter() + seconds):
            # Wrong rules first: a search for rounding may take all the time there is.
            for what in sorted(searches, key=lambda what: what == "rounding"):
                node = _search(problem, what)
                nodes.update(dict.fromkeys(searches[what], node) if node else {})
    except OutOfTimeError:
        pass
    return nodes


def _search(problem: Problem, what: str) -> str | None:
    if what in ENGINES:
        return wrong_kernel(problem, ENGINES[what])
    if what == "rounding":
        return coarse_node(problem, problem.dtype.eps)
    found = wrong_rule(problem, "jvp" if what == "jvp" else "vjp")
    return found.node if found else None
