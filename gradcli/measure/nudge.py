"""A point beside the one that was given, off every kink that can be left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcli.engines.base import Arrays, Watch, around
from gradcli.errors import UsageError
from gradcli.graph import Node
from gradcli.problem import Problem

SIZES = tuple(2**k for k in range(13))
"""How many units in the last place elements are moved by, tried one after another."""


def nudged(problem: Problem) -> Problem:
    """The problem at a point that is off its kinks, a few units in the last place away.

    Every element moves by up to so many units along one random direction. Ties that move with the
    point, as of a MaxPool's zeros, are no kinks that can be left, and stay.

    Raises:
        UsageError: When something is differentiated with respect to that is no input of the model.
    """
    if inner := [name for name in problem.wrt if name not in problem.feeds]:
        raise UsageError(
            f"--at-kink nudge moves inputs of the model, and {inner[0]!r} is none",
            "--at-kink report, skip or fail; or another --wrt",
        )
    here = _tied(around(problem))
    if not here:
        return _noted(problem, "the point lies on no kink, and was not moved")
    rng = np.random.default_rng(problem.seed)
    way, other = ({n: rng.uniform(-1, 1, problem.shape(n)) for n in problem.wrt} for _ in range(2))
    far = [_tied(around(problem, _moved(problem, v, SIZES[-1]).point)) for v in (way, other)]
    stuck = _both(*far)
    for size in SIZES:
        moved = _moved(problem, way, size)
        if not problem.same_branches(moved.feeds):
            continue
        left = _tied(around(problem, moved.point))
        if _count(left) == _count(_both(left, stuck)):
            break
    else:
        return _noted(problem, "the point could not be moved off its kinks: it was not moved")
    gone = _count(here) - _count(_both(here, stuck))
    if not gone:
        return _noted(problem, "no kink at the point can be left: its ties move with it")
    parts = [moved.point[n].astype(np.float64) - problem.point[n] for n in problem.wrt]
    distance = float(np.sqrt(sum(np.sum(p * p) for p in parts)))
    rest = f"; {_count(stuck):,} more move with the point" if _count(stuck) else ""
    units = f"{size} unit{'s' * (size != 1)} in the last place"
    return _noted(
        moved,
        f"the point was moved off {gone:,} tie{'s' * (gone != 1)}, each element by at most {units},"
        f" {distance:.2g} in all, along a random direction of seed {problem.seed}{rest}",
    )


Ties = dict[Node, np.ndarray]
"""By node, which elements are on a kink."""


def _tied(watch: Watch) -> Ties:
    found = {node: margin == 0 for node, margin in watch.margins.items()}
    return {node: tied for node, tied in found.items() if np.any(tied)}


def _both(one: Ties, other: Ties) -> Ties:
    # Where shapes hang on the point, nothing is known to have stayed.
    return {
        node: tied & other[node]
        for node, tied in one.items()
        if node in other and other[node].shape == tied.shape
    }


def _count(ties: Ties) -> int:
    return sum(int(np.sum(tied)) for tied in ties.values())


def _moved(problem: Problem, way: Arrays, size: int) -> Problem:
    """The problem at the point moved along a direction, in units in the last place."""
    point = {**problem.point}
    for name in problem.wrt:
        x = np.asarray(point[name])
        # An element's own unit would leave zeros where they are: they move with the largest.
        scale = np.max(np.abs(x), where=np.isfinite(x), initial=0) or np.ones((), x.dtype)
        units = np.spacing(np.where(x == 0, scale, np.abs(x)).astype(x.dtype))
        steps = np.sign(way[name]) * np.maximum(1, np.round(np.abs(way[name]) * size))
        point[name] = (x + steps * units).astype(x.dtype)
    feeds = {n: point[n].astype(x.dtype) if n in point else x for n, x in problem.feeds.items()}
    return replace(problem, point=point, feeds=feeds)


def _noted(problem: Problem, note: str) -> Problem:
    return replace(problem, notes=(*problem.notes, note))
