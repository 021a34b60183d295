"""What the conventions of several kinks may compose to, where the point lies on any."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from gradcli.deadline import until
from gradcli.engines import conventions
from gradcli.engines.base import Arrays, Fans, Probes
from gradcli.errors import CannotError, OutOfTimeError
from gradcli.measure.clock import Clock
from gradcli.measure.sides import put
from gradcli.problem import Problem

SHARE = 0.05
"""The part of the budget that fans may take."""

TRIFLE = 1e-12
"""A fan narrower than this part of the largest slope is rounding."""


def fans(problem: Problem, sample: Probes, clock: Clock) -> Fans | None:
    """The intervals that conventions may come to, by coordinate; None where no tie matters.

    A random direction tells whether any does: branches that tie have the same slope along it only
    where they have it along all.
    """
    middle, half = (
        {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys} for _ in range(2)
    )
    rng = np.random.default_rng(problem.seed)
    try:
        with until(time.perf_counter() + min(clock.budget * SHARE, clock.left())):
            along = conventions(problem)
            if problem.operator == "jvp":
                found = along(problem.tangents)
                for blocks, part in zip((middle, half), found, strict=True):
                    blocks.update({(of, ""): part[of] for of in problem.of})
                return Fans(middle, half) if _matter(*found) else None
            if not _matter(*along({x: rng.standard_normal(problem.shape(x)) for x in problem.wrt})):
                return None
            for name, index in _coordinates(problem, sample):
                direction = {x: np.zeros(problem.shape(x)) for x in problem.wrt}
                direction[name].reshape(-1)[index] = 1.0
                for blocks, part in zip((middle, half), along(direction), strict=True):
                    put(problem, blocks, name, index, part, absolute=blocks is half)
    except (OutOfTimeError, CannotError):
        # Out of time, or an operator has no fan: fewer, or none.
        pass
    return Fans(middle, half)


def _matter(middle: Arrays, half: Arrays) -> bool:
    """Whether a fan is wider than rounding; where it is no number nobody knows."""
    size = max(float(np.max(np.abs(np.nan_to_num(m)), initial=0.0)) for m in middle.values())
    return any(np.any(~(width <= TRIFLE * size)) for width in half.values())


def _coordinates(problem: Problem, sample: Probes) -> Iterator[tuple[str, int]]:
    """All coordinates, the sampled ones first."""
    for name in problem.wrt:
        rest = np.ones(int(np.prod(problem.shape(name))), bool)
        for index in (*sample.wrt[name], *range(len(rest))):
            if rest[index]:
                rest[index] = False
                yield name, int(index)
