"""The sample that stands for an answer too large or too dear to compute whole."""

from __future__ import annotations

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


def fewer(probes: Probes, count: int) -> Probes:
    """A part of a sample that takes at most about `count` directions."""
    tensors = max(1, len(probes.wrt), len(probes.of))
    along = min(probes.directions, max(1, count // 4)) if probes.directions else 0
    each = max(1, (count - along) // tensors)
    return Probes(
        {k: v[:each] for k, v in probes.wrt.items()},
        {k: v[:each] for k, v in probes.of.items()},
        {k: v[:along] for k, v in probes.along.items()},
    )
