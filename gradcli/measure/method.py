"""One method, on the whole answer or on the sample of it that fits into its share of the budget."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gradcli.deadline import until
from gradcli.engines.base import (
    CHUNK,
    EPS,
    Engine,
    Estimate,
    Options,
    Outcome,
    Probes,
    Program,
    Times,
    Unsteady,
    unsteady,
)
from gradcli.errors import CannotError, GradcliError, OutOfTimeError, UnsupportedError
from gradcli.graph import DType
from gradcli.measure.clock import Clock, timed
from gradcli.measure.primal import other_threads
from gradcli.measure.sample import SMALLEST, fewer, reached
from gradcli.problem import Key, Problem

REPEATING = 1.0
"""Seconds after which a method is not run again just to be timed."""

SLOW = 0.05
"""Seconds of a direction from which on its cost is arithmetic, and known before trying."""

TRIAL = 0.2
"""The part of a share that trying a few directions may take."""

JUDGED = 0.75
"""The part of a share in which a method also estimates its errors; the rest times it without."""


def outcome(
    engine: Engine,
    problem: Problem,
    options: Options,
    sample: Probes,
    share: float,
    clock: Clock,
    runs: int,
    warmup: int,
) -> Outcome:
    """A method prepared, run and timed within `share` seconds. When it breaks, a row says how."""

    def make() -> Outcome:
        for library in engine.imports:
            importlib.import_module(library)
        end = time.perf_counter() + share
        made, program, probes = computed(engine, problem, options, sample, share, clock)
        program.judging(False)
        left = min(REPEATING, end - time.perf_counter())
        if (not program.judges and seconds(made) > left) or (made.sampled and probes is None):
            # It has been timed already, once; there is no time for more.
            return made
        again: list[Estimate] = []

        def run() -> None:
            again[:] = [program.run(probes, point={})]

        times = timed(run, left, runs, warmup)
        made = replace(made, run=times)
        if engine.exact or problem.dtype is DType.FLOAT64:
            return made  # not by onnxruntime
        return replace(made, unsteady=_changes(made, again[0], program, probes, end))

    return caught(engine.name, make)


def _changes(
    made: Outcome, again: Estimate, program: Program, probes: Probes | None, end: float
) -> tuple[Unsteady, ...]:
    """What came out otherwise in the last timed run; if nothing did, on other threads.

    The latter only where it costs little of what is left until `end`.
    """
    assert made.estimate is not None
    problem, first = program.problem, made.estimate
    own, other = problem.threads, other_threads(problem)
    if (apart := _apart(made.method, (own, own), first, again)) is not None:
        return (apart,)
    if made.prepare + seconds(made) > 0.25 * (end - time.perf_counter()):
        return ()
    elsewhere = replace(problem, threads=other, tuned=own)
    there = caught(
        made.method,
        lambda: replace(made, estimate=Program(program.engine, elsewhere).run(probes)),
    ).estimate
    apart = None if there is None else _apart(made.method, (own, other), first, there)
    return () if apart is None else (apart,)


def _apart(
    method: str, threads: tuple[int, int], first: Estimate, second: Estimate
) -> Unsteady | None:
    """What differs among the elements that both know."""
    names = {key: "/".join(filter(None, key)) for key in first.blocks}
    both = {key: _known(first, key) & _known(second, key) for key in first.blocks}
    a, b = (
        {name: np.where(both[key], e.blocks[key], 0.0) for key, name in names.items()}
        for e in (first, second)
    )
    return unsteady(method, threads, a, b)


def _known(estimate: Estimate, key: Key) -> np.ndarray | bool:
    return True if estimate.known is None else estimate.known[key]


def caught(name: str, make: Callable[[], Outcome]) -> Outcome:
    """What comes of a method. When it breaks, that is a row that says how; the others go on."""
    try:
        return make()
    except (CannotError, UnsupportedError) as error:
        return Outcome(name, "skipped", error.message)
    except MemoryError:
        return Outcome(name, "skipped", "it does not fit into memory")
    except GradcliError as error:
        return Outcome(name, "failed", error.message)
    except Exception as error:  # noqa: BLE001 # whatever is wrong with a method, the report says it
        return Outcome(name, "failed", f"{type(error).__name__}: {error}")


def computed(
    engine: Engine,
    problem: Problem,
    options: Options,
    sample: Probes,
    share: float,
    clock: Clock,
    most: int | None = None,
    patience: float = 0.0,
) -> tuple[Outcome, Program, Probes | None]:
    """A method prepared and run once.

    Args:
        engine: The method.
        problem: The question.
        options: What the user set.
        sample: What to take where the whole does not fit.
        share: Seconds.
        clock: For prices.
        most: Directions above which a sample is taken even where the whole fits.
        patience: Seconds beyond its share that the first direction may take.

    Returns:
        What came of it, the program, and what was sampled; None where the answer is whole.

    Raises:
        CannotError: When not even a small sample fits, besides what the method itself cannot do.
    """
    start = time.perf_counter()
    if share <= 0:
        raise CannotError("out of time: nothing of the budget is left for it", "raise --budget")
    unit = clock.direction(engine, problem)
    if unit > 0:
        options = replace(options, width=max(1, min(CHUNK, int(TRIAL * share / unit))))
    end = start + share
    count = 0
    try:
        with until(end + patience):
            program = Program(engine, problem, options)
            prepared = time.perf_counter()
            count = program.count()
            end -= (1.0 - JUDGED) * (end - prepared) if program.judges else 0.0
            probes = _affordable(program, sample, end - prepared, unit, most, patience)
            running = time.perf_counter()
            estimate = program.run(probes, deadline=end)
    except OutOfTimeError as error:
        raise _too_late(count, share) from error
    took = time.perf_counter() - running
    if probes is not None and program.evaluations < program.count(probes):
        probes = reached(probes, len(estimate.along), program.evaluations)
    made = Outcome(
        engine.name,
        "computed",
        estimate=estimate,
        level=program.level,
        dtype=DType.FLOAT64 if engine.exact else problem.dtype,
        prepare=prepared - start,
        run=Times((took,)),
        evaluations=program.evaluations,
        sampled=estimate.known is not None,
        reach=engine.reach if options.step is None else min(engine.reach, EPS),
    )
    return made, program, probes


def _too_late(count: int, share: float) -> CannotError:
    of = f"the first of the {count:,} directions of the answer" if count > 1 else "it"
    return CannotError(
        f"out of time: {of} was not done when its share of the budget, {share:.2g} s, was over",
        "raise --budget",
    )


def _affordable(
    program: Program, sample: Probes, share: float, unit: float, most: int | None, patience: float
) -> Probes | None:
    """None when the whole answer fits into `share` seconds, else the sample that may.

    Args:
        program: The method.
        sample: The largest sample.
        share: Seconds from now.
        unit: Seconds that a direction costs at the least.
        most: See `computed`.
        patience: Likewise.

    Raises:
        CannotError: When not even a small sample fits.
    """
    start = time.perf_counter()
    count, chunk = program.count(), program.map.width if program.map.pads else 1
    if unit > SLOW and unit * min(count, chunk) > share + patience:
        raise _hopeless(count, unit, share)
    if count <= max(chunk, 1):
        # Finding out what a part costs would cost as much.
        return None
    if share <= 0:
        raise CannotError("out of time: nothing of the budget is left for it", "raise --budget")
    if unit > SLOW and unit > 0.5 * TRIAL * share:
        # Trying would take too much of it. As many as may fit at best; the deadline does the rest.
        return fewer(sample, max(SMALLEST, int(share / unit)), program.engine.mode)
    one, warm = _unit_seconds(program, sample, share)
    left = share - (time.perf_counter() - start)
    if math.ceil(count / chunk) * one <= left and (most is None or count <= most):
        return None
    sampled = program.count(sample)
    fitting = chunk * int(left / one) if one > 0 else sampled
    if unit > SLOW and not warm:
        # It may have been the price of the first one only.
        return fewer(sample, max(SMALLEST, fitting), program.engine.mode)
    if fitting < SMALLEST:
        which = "one" if chunk == 1 else f"{chunk} at once"
        raise CannotError(
            f"out of time: of the {count:,} directions of the answer {which} took {one:.2g} s, and "
            f"its share of the budget is {share:.2g} s",
            "raise --budget",
        )
    return sample if sampled <= fitting else fewer(sample, fitting, program.engine.mode)


def _hopeless(count: int, unit: float, share: float) -> CannotError:
    directions = "direction" if count == 1 else "directions"
    return CannotError(
        f"out of time: the answer has {count:,} {directions}, one takes {unit:.2g} s at the least, "
        f"and its share of the budget is {max(share, 0.0):.2g} s",
        "raise --budget",
    )


def _unit_seconds(program: Program, sample: Probes, share: float) -> tuple[float, bool]:
    """The time of one direction, or of one chunk of them, and whether it was the second one.

    The second run counts: what a method does once for a point is done then.
    """
    name, of = program.problem.wrt[0], program.problem.of[0]
    small = Probes({name: sample.wrt[name][:1]}, {of: sample.of[of][:1]})
    taken = []
    for _ in range(2):
        start = time.perf_counter()
        program.run(small)
        taken.append(time.perf_counter() - start)
        if taken[0] > 0.5 * share:
            break
    return min(taken), len(taken) > 1


def is_dear(made: Outcome) -> bool:
    """Whether it could not be run, or takes so long that it is not run again."""
    return made.status != "computed" or seconds(made) > REPEATING


def seconds(made: Outcome) -> float:
    """Of one run."""
    return made.run.median if made.run else 0.0
