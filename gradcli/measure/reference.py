"""A float64 derivative graph with its rounding errors, and the rule-free witness beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from gradcli.engines import ENGINES, Engine
from gradcli.engines.base import CHUNK, Estimate, Options, Outcome, Probes
from gradcli.graph import DType
from gradcli.measure.clock import Clock
from gradcli.measure.method import caught, computed
from gradcli.measure.shaken import rounding_of
from gradcli.problem import Problem

REFERENCE_SHARE = 0.15
"""The part of the budget that the reference may take; what its rounding takes, again."""

WITNESS_SHARE = 0.25
"""The part of the budget that a witness may take."""

PATIENCE = 0.15
"""The part that either may take beyond, for one direction: without any, all is lost."""

WHOLE = 4096
"""Directions above which a witness samples, however cheap each is."""

WITNESSES = ("complex-step", "finite")
"""Rule-free methods, best first."""


def refer(
    in_double: Problem, narrow: bool, sample: Probes, clock: Clock
) -> tuple[Outcome, Estimate | None]:
    """A float64 derivative graph with its rounding errors, and those that float32 would make.

    The reverse one; for a jvp of many outputs, each of which would be a pass of its own, forward.
    """
    many = in_double.operator == "jvp" and in_double.rows > CHUNK
    engine = ENGINES["forward" if many else "reverse"]
    coarse: list[Estimate] = []

    def make() -> Outcome:
        share = min(clock.budget * REFERENCE_SHARE, clock.left())
        patience = min(clock.budget * PATIENCE, 0.5 * clock.left())
        made, program, probes = computed(
            engine, in_double, Options(), sample, share, clock, WHOLE, patience
        )
        plain = made.estimate
        assert plain is not None
        end = time.perf_counter() + min(clock.budget * REFERENCE_SHARE, 0.5 * clock.left())
        doubt = rounding_of(program, plain, probes, DType.FLOAT64.eps, end)
        if doubt is None:
            return made
        if narrow:
            found = rounding_of(program, plain, probes, DType.FLOAT32.eps, end)
            coarse.extend([found] if found else [])
        estimate = replace(plain, uncertainty=doubt.blocks, along_uncertainty=doubt.along)
        return replace(made, estimate=estimate)

    return caught(engine.name, make), next(iter(coarse), None)


def witnesses(problem: Problem, sample: Probes, clock: Clock) -> list[Outcome]:
    """Rule-free methods, best first, up to the first that works here: on the whole or a sample."""
    tried: list[Outcome] = []
    for name in WITNESSES:
        share = min(clock.budget * WITNESS_SHARE, 0.5 * clock.left())
        patience = min(clock.budget * PATIENCE, 0.5 * clock.left())
        witnessed = partial(once, ENGINES[name], problem, sample, share, clock, patience)
        tried.append(caught(name, witnessed))
        if tried[-1].estimate is not None:
            break
    return tried


def twin(
    engine: Engine,
    in_double: Problem,
    sample: Probes,
    made: Outcome,
    reference: Outcome,
    clock: Clock,
) -> Estimate | None:
    """The same method's graph in float64, to tell a wrong rule from rounding.

    Where there is none the cause of a disagreement stays open; the verdict does not depend on it.
    """
    if made.estimate is None:
        return None
    if engine.name == reference.method and not reference.sampled:
        return reference.estimate
    share = min(clock.budget * REFERENCE_SHARE, 0.5 * clock.left())
    return caught(engine.name, partial(once, engine, in_double, sample, share, clock)).estimate


def once(
    engine: Engine,
    problem: Problem,
    sample: Probes,
    share: float,
    clock: Clock,
    patience: float = 0.0,
) -> Outcome:
    """A method run once, to know rather than to be timed."""
    return computed(engine, problem, Options(), sample, share, clock, WHOLE, patience)[0]
