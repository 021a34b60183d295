"""How large rounding errors are in a method's graph: its results when every one is at random."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from gradcli.deadline import until
from gradcli.engines import Engine
from gradcli.engines.base import (
    Estimate,
    Evidence,
    Options,
    Outcome,
    Probes,
    Program,
    Rounding,
    shaken,
    spread,
)
from gradcli.errors import GradcliError, OutOfTimeError
from gradcli.graph import DType
from gradcli.measure.clock import Clock
from gradcli.measure.method import computed
from gradcli.problem import Key, Problem

SHAKES = 4
"""Runs of a graph with random roundings."""

SHARE = 0.1
"""The part of the budget that a method's own rounding may take, and again for another width."""

EXACT = 1e-6
"""Relative errors below are nobody's concern, in either width."""

SMALL = 1e-3
"""Elements smaller than this part of the largest of their block are held to that."""


def rounding_of(
    program: Program, plain: Estimate, probes: Probes | None, eps: float, end: float
) -> Estimate | None:
    """The spread of a method's results when every rounding is made at random.

    None when it would not be known before `end`, a reading of `time.perf_counter`.
    """
    rng = np.random.default_rng(program.problem.seed)
    table = shaken(program.problem.table, rng, eps, kernels=eps > DType.FLOAT64.eps)
    start = time.perf_counter()
    try:
        with until(end):
            restless = Program(program.engine, replace(program.problem, table=table))
            runs = [restless.run(probes)]
            if start + SHAKES * (time.perf_counter() - start) > end:
                return None
            runs += [restless.run(probes) for _ in range(SHAKES - 1)]
    except OutOfTimeError:
        return None
    blocks = {
        key: spread((run.blocks[key] for run in runs), block) for key, block in plain.blocks.items()
    }
    along = spread((run.along for run in runs), plain.along) if len(plain.along) else plain.along
    return Estimate(blocks, plain.known, along)


def own_rounding(
    engine: Engine, in_double: Problem, sample: Probes, made: Outcome, known: Evidence, clock: Clock
) -> Rounding | None:
    """The rounding errors of a method's own graph, where those of the reference's are not enough.

    They are not where a rule of one direction is wrong, and its graph another one: then what the
    other direction loses would look like a kernel's fault.

    Args:
        engine: The method.
        in_double: The question, in float64.
        sample: What to take where the whole does not fit.
        made: What came of the method.
        known: The reference, its rounding errors, and the method's graph in float64.
        clock: The budget.

    Returns:
        None where the reference's explain how far the method is off, or there is no time.
    """
    reference, modelled = known.reference.estimate, known.rounding_of(engine.name)
    exact = known.twins.get(engine.name) or made.estimate
    if made.estimate is None or exact is None or reference is None or modelled.double is None:
        return None  # nothing to hold it against, or no time to have looked at that
    narrow = made.dtype is not DType.FLOAT64
    if _explained(exact, reference, modelled.double) and (
        not narrow or modelled.narrow is None or _explained(made.estimate, exact, modelled.narrow)
    ):
        return None
    share = min(clock.budget * SHARE, 0.5 * clock.left())
    end = time.perf_counter() + 2 * share
    try:
        again, program, probes = computed(engine, in_double, Options(), sample, share, clock)
    except GradcliError:
        return None
    plain = again.estimate
    assert plain is not None
    widths = (DType.FLOAT64, made.dtype) if narrow else (DType.FLOAT64,)
    return Rounding(*(rounding_of(program, plain, probes, dtype.eps, end) for dtype in widths))


def _explained(a: Estimate, b: Estimate, spread: Estimate) -> bool:
    """Whether rounding errors of this size tell why two results are not the same."""
    return all(_within(a, b, key, wide) for key, wide in spread.blocks.items())


def _within(a: Estimate, b: Estimate, key: Key, wide: np.ndarray) -> bool:
    x, y = a.blocks[key], b.blocks[key]
    size = np.abs(y)
    least = SMALL * float(np.max(size, where=np.isfinite(size), initial=0.0))
    with np.errstate(invalid="ignore"):
        far = np.abs(x - y) > wide + EXACT * np.fmax(size, least)
    # What is not known of either is no number, and not far from anything.
    return not np.any(far)
