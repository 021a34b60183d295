"""The sample that stands for an answer too large or too dear to compute whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gradcli.engines.base import Probes
from gradcli.problem import Problem

SAMPLE = 64
"""Coordinates of each tensor in a sample."""

ALONG = 8
"""Random directions in a sample."""

SMALLEST = 2
"""Directions below which a sample says nothing: one coordinate and one random direction."""


def draw(problem: Problem) -> Probes:
    """The sample that every method which must sample takes (the first so many of each)."""
    rng = np.random.default_rng(problem.seed)
    wrt = {n: _some(rng, int(np.prod(problem.shape(n)))) for n in problem.wrt}
    of = {n: _some(rng, int(np.prod(problem.shape(n)))) for n in problem.of}
    along = {}
    if problem.operator in ("gradient", "vjp"):
        along = {n: rng.standard_normal((ALONG, *problem.shape(n))) for n in problem.wrt}
    return Probes(wrt, of, along)


def _some(rng: np.random.Generator, size: int) -> np.ndarray:
    return rng.permutation(size)[:SAMPLE] if size < 1 << 20 else rng.integers(0, size, SAMPLE)


def fewer(probes: Probes, count: int, mode: str) -> Probes:
    """A part of a sample that takes at most about `count` directions when pushed, or pulled."""
    tensors = max(1, len(probes.wrt if mode == "push" else probes.of))
    along = min(probes.directions, max(1, count // 4)) if probes.directions else 0
    each = max(1, (count - along) // tensors)
    return Probes(
        {k: v[:each] for k, v in probes.wrt.items()},
        {k: v[:each] for k, v in probes.of.items()},
        {k: v[:along] for k, v in probes.along.items()},
    )


def reached(probes: Probes, along: int, evaluations: int) -> Probes:
    """The part of a sample that a run took before its deadline.

    Args:
        probes: The sample.
        along: How many random directions were taken.
        evaluations: How many directions were taken in all.
    """
    return Probes(
        _first(probes.wrt, evaluations - along),
        _first(probes.of, evaluations - along),
        {k: v[:along] for k, v in probes.along.items()},
    )


def _first(indices: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """So many of them, tensor by tensor, as a run visits them."""
    out = {}
    for name, some in indices.items():
        out[name] = some[: max(0, count)]
        count -= len(some)
    return out
