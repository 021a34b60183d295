"""The walk over the nodes inside what is left of a budget."""

from __future__ import annotations

import time
from collections.abc import Sequence

from gradcli.deadline import until
from gradcli.engines import ENGINES
from gradcli.engines.base import Focus, Walk, walk
from gradcli.graph import Node
from gradcli.measure.certify import ELEMENT, PRODUCT, products_of, size_of
from gradcli.measure.clock import Progress
from gradcli.problem import Problem

EXPLAINING = 0.4
"""The part of a budget that explaining may take."""

ENCLOSING = 0.5
"""The part of that which enclosures may take."""

LOOKS = 10.0
"""Evaluations of a node that holding it against enclosures is worth: its derivatives' too."""

LOCAL = ("forward", "reverse", "symbolic")
"""Methods with a derivative of their own of every node."""


def explain(
    problem: Problem,
    focus: Focus,
    methods: Sequence[str],
    seconds: float,
    progress: Progress | None = None,
) -> Walk:
    """Look at every node by itself, against enclosures where the time allows.

    Args:
        problem: The question.
        focus: The number whose error is followed.
        methods: Those that were asked for.
        seconds: For everything.
        progress: Called with a few words before each step.
    """
    prices = {node.name: _price(node) for node in problem.exact.nodes}
    bound = _bound(sorted(prices.values()), ENCLOSING * seconds)
    engines = [ENGINES[name] for name in LOCAL if name in methods]
    start = time.perf_counter()

    def worth(node: Node) -> bool:
        # A busy machine takes longer than a price says.
        in_time = time.perf_counter() < start + ENCLOSING * seconds
        return in_time and prices.get(node.origin or node.name, _price(node)) <= bound

    with until(start + seconds):
        return walk(
            problem,
            focus,
            engines,
            worth,
            progress or (lambda _: None),
        )


def _price(node: Node) -> float:
    """Seconds that holding a node against enclosures takes, roughly."""
    elements = sum(map(size_of, (*node.reads(), *node.makes())))
    return LOOKS * (ELEMENT * elements + PRODUCT * products_of(node))


def _bound(prices: Sequence[float], seconds: float) -> float:
    """The price of the dearest node such that it and all cheaper ones fit."""
    total = bound = 0.0
    for price in prices:
        total += price
        if total > seconds:
            break
        bound = price
    return bound
