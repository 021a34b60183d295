"""The budget: a clock, what is known of prices, and timings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradcli.engines import Engine
from gradcli.engines.base import Times
from gradcli.graph import DType
from gradcli.problem import Problem

Progress = Callable[[str], None]
"""Is told in a few words what is done next."""

BUDGET = 60.0
RUNS = 10
WARMUP = 1

AFTERWARDS = 0.08
"""The part of the budget that is kept for naming nodes, once everything is measured."""


class Clock:
    """The budget, and what is known of prices.

    Args:
        budget: Seconds for everything, what comes after measuring included.

    Attributes:
        budget: Likewise.
        primal: Seconds of one evaluation of the primal in float64.
        forward: Seconds of one in the model's own width, by onnxruntime.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.end = time.perf_counter() + (1.0 - AFTERWARDS) * budget
        self.primal = 0.0
        self.forward = 0.0

    def left(self) -> float:
        """Seconds until measuring has to end; never negative."""
        return max(0.0, self.end - time.perf_counter())

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Within it, no time passes: what is done there is nobody's price."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.end += time.perf_counter() - start

    def direction(self, engine: Engine, problem: Problem) -> float:
        """Seconds that a direction costs at the least, by the primals that it takes."""
        in_double = engine.exact or problem.dtype is DType.FLOAT64
        return engine.price * (self.primal if in_double else self.forward)


def timed(call: Callable[[], object], seconds: float, runs: int, warmup: int) -> Times:
    """Time a call: at most `runs` times within `seconds`, after warming up; at least once."""
    end = time.perf_counter() + max(seconds, 0.0)
    for _ in range(warmup):
        if time.perf_counter() < end:
            call()
    times: list[float] = []
    while len(times) < max(1, runs):
        start = time.perf_counter()
        call()
        stop = time.perf_counter()
        times.append(stop - start)
        if stop + times[-1] > end:
            break
    return Times(tuple(times))
