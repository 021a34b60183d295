"""What a derivative costs beside a forward pass, to be held against what it costs another day.

Both are taken by turns, so that whatever else the machine does strikes both alike, and in processor
time, which stands still while another process runs. Where onnxruntime has one thread, that is the
time of this one: NumPy's threads go on spinning for a while behind a product of matrices, and a
process is charged for that in lumps as long as a turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np

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

PATIENCE = 10
"""How much longer the fewest turns of a method may take than they should, on a busy machine."""

BLOCK = 0.004
"""Seconds of processor time that one turn takes at the least: clocks are no finer than that, and
beside so many calls it is of no account what another process threw out of the caches."""


def ratios(
    problem: Problem,
    methods: Mapping[str, float],
    step: float | None = None,
    *,
    seconds: float = 1.0,
    needed: Collection[str] = (),
    progress: Progress | None = None,
) -> dict[str, tuple[float, ...]]:
    """By method, its processor time over that of a forward pass, once for each turn.

    Args:
        problem: With a model.
        methods: Of which one answer is whole; by name, the seconds that it takes.
        step: Of finite differences.
        seconds: For the turns of each method; one that is too slow for a few is left out.
        needed: Methods of which a few are waited for all the same.
        progress: Called with a few words before each method.
    """
    if problem.model is None:
        return {}
    forward = _forward(problem)
    found = {}
    for name, one in methods.items():
        if FEWEST * one > seconds and name not in needed:
            continue
        patience = PATIENCE * FEWEST * (one + 2 * BLOCK) if name in needed else seconds
        (progress or (lambda _: None))(f"cost of {name}")
        try:
            program = Program(ENGINES[name], problem, Options(step=step))
            program.judging(False)
            turns = by_turns(
                forward, partial(program.run, point={}), seconds, _clock(problem), patience
            )
        except GradcliError:
            continue  # a row of the comparison says why
        if len(turns) >= FEWEST:
            found[name] = turns
    return found


def forward_ratio(problem: Problem, seconds: float = 1.0) -> tuple[float, ...]:
    """Processor time of a forward pass over that of a fixed piece of work, once for each turn.

    Args:
        problem: With a model; without one there are no turns.
        seconds: For all turns.
    """
    if problem.model is None:
        return ()
    return by_turns(_yardstick, _forward(problem), seconds, _clock(problem))


def _forward(problem: Problem) -> Callable[[], object]:
    """A forward pass of the file's own bytes."""
    assert problem.model is not None
    session = runtime.prepare(problem.model, threads=problem.threads, provider=problem.provider)
    return partial(session.run, problem.feeds)


def _clock(problem: Problem) -> Callable[[], float]:
    return time.thread_time if problem.threads == 1 else time.process_time


def _yardstick() -> object:
    """Work that never changes: elementwise, and a product too small for NumPy to share it out."""
    a = np.linspace(-1.0, 1.0, 4096, dtype=np.float32)
    return np.tanh(a).reshape(32, 128) @ a.reshape(128, 32)


def by_turns(
    forward: Callable[[], object],
    method: Callable[[], object],
    seconds: float,
    clock: Callable[[], float],
    patience: float = 0.0,
) -> tuple[float, ...]:
    """The quotients of their processor times, each between two forward passes.

    Args:
        forward: A forward pass.
        method: A derivative.
        seconds: For all turns.
        clock: Processor time.
        patience: Seconds that the fewest turns may take, where those are more.
    """
    start = time.perf_counter()
    end, late = start + seconds, start + max(2 * seconds, patience)
    repeats = [_repeats(forward, clock), _repeats(method, clock)]
    before = _took(forward, repeats[0], clock)
    turns: list[float] = []
    while len(turns) < TURNS and (len(turns) < FEWEST or time.perf_counter() < end):
        middle = _took(method, repeats[1], clock)
        after = _took(forward, repeats[0], clock)
        if before + after > 0:
            turns.append(2.0 * middle / (before + after))
        before = after
        if time.perf_counter() > late:
            break
    return tuple(turns)


def _took(call: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """Processor time of one call, in the mean; the first after another's turn is not counted.

    It finds the caches full of something else and may cost what ten others do. One that fills a
    block alone is too long for that to matter.
    """
    if repeats > 1:
        call()
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def _repeats(call: Callable[[], object], clock: Callable[[], float]) -> int:
    """How many calls fill a block, by one that they did fill."""
    call()
    repeats = 1
    while _took(call, repeats, clock) * repeats < BLOCK and repeats < 1 << 16:
        repeats *= 2
    return repeats


def percentile(turns: Sequence[float], share: float) -> float:
    """The turn below which this share of them lies, between neighbours in proportion."""
    ordered = sorted(turns)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])
