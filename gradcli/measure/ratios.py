"""What a derivative costs beside a forward pass, to be held against what it costs another day.

Both are taken by turns, so that whatever else the machine does strikes both alike, and in processor
time, which stands still while another process runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from gradcli import runtime
from gradcli.engines import ENGINES
from gradcli.engines.base import Options, Program
from gradcli.errors import GradcliError
from gradcli.measure.clock import Progress
from gradcli.problem import Problem

TURNS = 15
"""Turns of each method, at most."""

FEWEST = 3
"""Turns without which nothing is claimed."""

BLOCK = 0.004
"""Seconds of processor time that one turn takes at the least: clocks are no finer than that, and
beside so many calls it is of no account what another process threw out of the caches."""


def ratios(
    problem: Problem,
    methods: Mapping[str, float],
    step: float | None = None,
    *,
    seconds: float = 1.0,
    progress: Progress | None = None,
) -> dict[str, tuple[float, ...]]:
    """By method, its processor time over that of a forward pass, once for each turn.

    Args:
        problem: With a model.
        methods: Of which one answer is whole; by name, the seconds that it takes.
        step: Of finite differences.
        seconds: For the turns of each method; one that is too slow for a few is left out.
        progress: Called with a few words before each method.
    """
    if problem.model is None:
        return {}
    session = runtime.prepare(problem.model, threads=problem.threads, provider=problem.provider)

    def forward() -> object:
        return session.run(problem.feeds)

    found = {}
    for name, one in methods.items():
        if FEWEST * one > seconds:
            continue
        (progress or (lambda _: None))(f"cost of {name}")
        try:
            program = Program(ENGINES[name], problem, Options(step=step))
            program.judging(False)
            turns = by_turns(forward, partial(program.run, point={}), seconds)
        except GradcliError:
            continue  # a row of the comparison says why
        if len(turns) >= FEWEST:
            found[name] = turns
    return found


def by_turns(
    forward: Callable[[], object], method: Callable[[], object], seconds: float
) -> tuple[float, ...]:
    """The quotients of their processor times, each between two forward passes.

    Args:
        forward: A forward pass.
        method: A derivative.
        seconds: For all turns.
    """
    end = time.perf_counter() + seconds
    repeats = [_repeats(forward), _repeats(method)]
    before = _took(forward, repeats[0])
    turns: list[float] = []
    while len(turns) < TURNS and (len(turns) < FEWEST or time.perf_counter() < end):
        middle = _took(method, repeats[1])
        after = _took(forward, repeats[0])
        if before + after > 0:
            turns.append(2.0 * middle / (before + after))
        before = after
        if time.perf_counter() > end + seconds:
            break
    return tuple(turns)


def _took(call: Callable[[], object], repeats: int) -> float:
    """Processor time of one call, in the mean; the first after another's turn is not counted.

    It finds the caches full of something else and may cost what ten others do. One that fills a
    block alone is too long for that to matter.
    """
    if repeats > 1:
        call()
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats


def _repeats(call: Callable[[], object]) -> int:
    """How many calls fill a block, by one that they did fill."""
    call()
    repeats = 1
    while _took(call, repeats) * repeats < BLOCK and repeats < 1 << 16:
        repeats *= 2
    return repeats


def percentile(turns: Sequence[float], share: float) -> float:
    """The turn below which this share of them lies, between neighbours in proportion."""
    ordered = sorted(turns)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
