"""One-sided derivatives where the point lies on a kink or on the edge of a domain."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from gradcli.deadline import until
from gradcli.engines import one_sided
from gradcli.engines.base import Arrays, Estimate, Outcome, Probes, Sides
from gradcli.errors import CannotError, OutOfTimeError
from gradcli.measure.clock import Clock
from gradcli.problem import Key, Problem

SIDES_SHARE = 0.1
"""The part of the budget that one-sided derivatives may take."""

SURE = 1e-6
"""A witness more certain of an element than this, relative, sees no kink there."""


def sides(problem: Problem, seen: Sequence[Outcome], sample: Probes, clock: Clock) -> Sides | None:
    """One-sided derivatives along the coordinates at which somebody is not sure of one slope.

    None where there was no time for any; where everybody is sure, none is taken.
    """
    left = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    right = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    doubt = {key: np.full(problem.block_shape(key), np.nan) for key in problem.keys}
    found = Sides(left, right, doubt)
    try:
        with until(time.perf_counter() + min(clock.budget * SIDES_SHARE, clock.left())):
            along = one_sided(problem, problem.point)
            if problem.operator == "jvp":
                for blocks, side in zip((left, right, doubt), along(problem.tangents), strict=True):
                    blocks.update({(of, ""): side[of] for of in problem.of})
                return found
            unsure = list(_unsure(problem, [o.estimate for o in seen if o.estimate], sample))
            if not unsure:
                return found
            for name, index in unsure:
                direction = {n: np.zeros(problem.shape(n)) for n in problem.wrt}
                direction[name].reshape(-1)[index] = 1.0
                for blocks, side in zip((left, right, doubt), along(direction), strict=True):
                    put(problem, blocks, name, index, side, absolute=blocks is doubt)
    except (OutOfTimeError, CannotError):
        # Out of time, or the model has no neighbourhood there: fewer sides, or none.
        pass
    return found if any(np.any(np.isfinite(block)) for block in left.values()) else None


def _unsure(
    problem: Problem, seen: Sequence[Estimate], sample: Probes
) -> Iterator[tuple[str, int]]:
    """Coordinates, the sampled ones first, whose derivatives are not well known to some method."""
    for name in problem.wrt:
        columns = int(np.prod(problem.shape(name)))
        unsure = np.full(columns, not seen)
        for estimate in seen:
            for key in problem.keys:
                if key[1] == name:
                    unsure |= np.any(_vague(estimate, key).reshape(-1, columns), axis=0)
        for index in (*sample.wrt[name], *np.flatnonzero(unsure)):
            if unsure[index]:
                unsure[index] = False
                yield name, int(index)


def _vague(seen: Estimate, key: Key) -> np.ndarray:
    """Elements of a block that were computed, and are uncertain by more than a trifle."""
    value, doubt = seen.blocks[key], seen.uncertainty.get(key)
    known = np.ones(value.shape, bool) if seen.known is None else seen.known[key]
    if doubt is None:
        return np.zeros(value.shape, bool)
    finite = known & np.isfinite(value)
    largest = np.max(np.abs(value), where=finite, initial=0.0)
    size = np.where(finite, np.abs(value), 0.0)
    return np.asarray(known & ~(doubt <= SURE * np.maximum(size, 1e-3 * largest)))


def put(
    problem: Problem,
    blocks: dict[tuple[str, str], np.ndarray],
    name: str,
    index: int,
    side: Arrays,
    *,
    absolute: bool,
) -> None:
    """Write what holds along a coordinate into the blocks of the answer.

    Args:
        problem: The question.
        blocks: Of the answer.
        name: Which of `wrt`.
        index: Which of its elements, flat.
        side: An array for each of `of`.
        absolute: Whether they are bounds, which no cotangent takes the sign of.
    """
    columns = int(np.prod(problem.shape(name)))
    if problem.operator == "jacobian":
        for of in problem.of:
            blocks[of, name].reshape(-1, columns)[:, index] = np.reshape(side[of], -1)
        return
    total = 0.0
    for of, weights in problem.cotangents.items():
        w = np.abs(weights) if absolute else weights
        total += float(np.sum(w * side[of]))
    blocks["", name].reshape(-1)[index] = total
