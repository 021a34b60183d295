"""How the error of finite differences depends on the step."""

from __future__ import annotations

import numpy as np

from gradcli.comparison.facts import Formula, Sweep, SweepPoint
from gradcli.comparison.field import Field
from gradcli.engines.base import EPS, Evidence, Swept
from gradcli.problem import Problem

FORWARD, CENTRAL = float(np.sqrt(EPS)), float(np.cbrt(EPS))
"""The steps of textbooks."""

APART = 4.0
"""How much longer than the best step one must be for its error to be truncation."""

SOUND = 0.3
"""The relative error above which a difference says nothing, not even by how much it is off."""

FALLS = 0.5
"""The power of h from which on an error is one of truncation."""

FITTED = 8
"""Steps that an order is fitted to, at most."""


def sweeps_of(evidence: Evidence, truth: Field | None) -> tuple[Sweep, ...]:
    """The sweeps' errors; none where nothing is known to be true."""
    if truth is None:
        return ()
    return tuple(_sweep(evidence.problem, swept, truth) for swept in evidence.swept)


def _sweep(problem: Problem, swept: Swept, truth: Field) -> Sweep:
    exact, doubt = _true(problem, swept, truth)
    # The first direction is a random one, and has a size of its own; where it is the only one, as a
    # tangent is, there is nothing else to be looked at.
    own, along = np.arange(len(exact))[1:], np.arange(1)
    if not len(own):
        own, along = along, own
    random = int(problem.operator != "jvp")
    size = _size(exact[own])
    ahead, behind = (np.any(crossed, axis=1) for crossed in (swept.ahead, swept.behind))
    forward, central = (_errors(d[:, own], exact[own]) for d in (swept.forward, swept.central))
    forward_along, central_along = (
        _errors(d[:, along], exact[along]) for d in (swept.forward, swept.central)
    )
    points = tuple(
        SweepPoint(
            float(h),
            float(forward[k]),
            float(forward_along[k]),
            float(central[k]),
            float(central_along[k]),
            bool(ahead[k]),
            bool(behind[k]),
        )
        for k, h in enumerate(swept.steps)
    )
    formulas = (
        _formula("finite-forward", swept.steps, forward, ahead, FORWARD),
        _formula("finite-central", swept.steps, central, ahead | behind, CENTRAL),
    )
    ladder = np.abs(swept.ladder[own] - exact[own]) / size
    known = np.isfinite(ladder) & np.isfinite(swept.rung[own])
    rungs = swept.rung[own][known]
    return Sweep(
        swept.dtype,
        len(exact) - random,
        random,
        int(np.sum(np.isfinite(exact[own]))),
        size,
        float(np.max(doubt[own] / size, initial=0.0, where=np.isfinite(doubt[own]))),
        float(np.max(swept.noise[own] / size, initial=0.0, where=np.isfinite(exact[own]))),
        float(np.exp(np.mean(np.log(rungs)))) if rungs.size else None,
        float(np.max(ladder[known])) if rungs.size else None,
        formulas,
        points,
        swept.sparse,
    )


def _true(problem: Problem, swept: Swept, truth: Field) -> tuple[np.ndarray, np.ndarray]:
    """The true slopes along the directions, [L, M], and their uncertainties; NaN where unknown."""
    count = len(next(iter(swept.directions.values())))
    sums: dict[str, np.ndarray] = {}
    doubts: dict[str, np.ndarray] = {}
    for (of, wrt), where in zip(problem.keys, truth.blocks, strict=False):
        rows = int(np.prod(problem.shape(of))) if of else 1
        r, u = (a[where].reshape(rows, -1) for a in (truth.value, truth.u))
        v = swept.directions[wrt].reshape(count, -1) if wrt else np.ones((count, 1))
        for into, block, weights in ((sums, r, v), (doubts, u, np.abs(v))):
            into[of] = into.get(of, np.zeros((count, rows))) + _product(weights, block)
    slopes, wide = (np.concatenate(list(parts.values()), axis=1) for parts in (sums, doubts))
    return (
        (slopes[:, swept.outputs], wide[:, swept.outputs]) if swept.outputs.size else (slopes, wide)
    )


def _product(v: np.ndarray, block: np.ndarray) -> np.ndarray:
    """v @ block.T, in which elements that nothing is known of do not count where v is 0."""
    return np.stack([block[:, one != 0] @ one[one != 0] for one in v])


def _size(exact: np.ndarray) -> float:
    """The largest element; 1 where all are 0, and errors are absolute."""
    return float(np.max(np.abs(exact), initial=0.0, where=np.isfinite(exact))) or 1.0


def _errors(d: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The largest error at each step, relative to the largest element; NaN where there is none."""
    known = np.isfinite(exact)
    if not np.any(known):
        return np.full(len(d), np.nan)
    return np.asarray(np.max(np.abs(d - exact)[:, known], axis=1) / _size(exact))


def _formula(
    method: str, steps: np.ndarray, errors: np.ndarray, crossed: np.ndarray, textbook: float
) -> Formula:
    usual = float(errors[np.argmin(np.abs(steps - textbook))])
    kink = float(np.min(steps[crossed])) if np.any(crossed) else None
    if not np.any(np.isfinite(errors)):
        return Formula(method, None, None, textbook, usual, None, kink)
    best = int(np.nanargmin(errors))
    there = (steps >= APART * steps[best]) & ~crossed & (errors > 0) & (errors < SOUND)
    (fitted,) = np.nonzero(there)
    fitted = fitted[-FITTED:]
    order = None
    if len(fitted) >= 3:
        slope = float(np.polyfit(np.log(steps[fitted]), np.log(errors[fitted]), 1)[0])
        # Of a function of straight pieces there is no truncation, and longer steps only err less.
        order = slope if slope > FALLS else None
    return Formula(method, float(steps[best]), float(errors[best]), textbook, usual, order, kink)
