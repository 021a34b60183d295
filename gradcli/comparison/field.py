"""The answer as flat arrays, their sizes and their bands: what comparing is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradcli.engines.base import Estimate, Evidence, Outcome
from gradcli.graph import DType
from gradcli.problem import Key, Problem

RTOL: Mapping[DType, float] = {
    DType.FLOAT64: 1e-6,
    DType.FLOAT32: 3e-3,
    DType.FLOAT16: 3e-1,
    DType.BFLOAT16: 3e-1,
}
"""Default relative tolerance by the arithmetic that a method computed in."""

EPS = 2.0**-52

MARGIN = 2.5e4
"""Of the default tolerance, in units of what a method can come to. Float32's, as it happens."""

FLOOR = 1e-3
"""Elements smaller than this part of the largest are held to its absolute band."""


@dataclass(frozen=True)
class Field:
    """The answer as flat arrays, one element after another, sampled directions last.

    Attributes:
        value: Elements; NaN where not known, or where NaN is what a method says.
        u: Their uncertainties.
        known: Which elements were computed.
        jumps: The part of each that is jumps of the function; 0 where it does not jump.
        blocks: Where each block of the answer lies, and last the sampled directions.
    """

    value: np.ndarray
    u: np.ndarray
    known: np.ndarray
    jumps: np.ndarray
    blocks: tuple[slice, ...]


def flatten(problem: Problem, estimate: Estimate, directions: int) -> Field:
    """An estimate's elements in the one order that all of them share."""
    values, doubts, known, jumps, blocks, start = [], [], [], [], [], 0
    for key in problem.keys:
        block = np.asarray(estimate.blocks[key], np.float64).reshape(-1)
        here = (
            np.ones(block.size, bool) if estimate.known is None else estimate.known[key].reshape(-1)
        )
        values.append(np.where(here, block, np.nan))
        doubt = estimate.uncertainty.get(key)
        doubts.append(np.zeros(block.size) if doubt is None else np.reshape(doubt, -1))
        known.append(here)
        jump = estimate.jumps.get(key)
        jumps.append(np.zeros(block.size) if jump is None else np.reshape(jump, -1))
        blocks.append(slice(start, start + block.size))
        start += block.size
    missing = directions - len(estimate.along)
    doubt = estimate.along_uncertainty if len(estimate.along_uncertainty) else 0 * estimate.along
    leap = estimate.along_jumps if len(estimate.along_jumps) else np.zeros(len(estimate.along))
    return Field(
        np.concatenate([*values, estimate.along, np.full(missing, np.nan)]),
        np.nan_to_num(
            np.concatenate([*doubts, doubt, np.zeros(missing)]), nan=np.inf, posinf=np.inf
        ),
        np.concatenate([*known, np.ones(len(estimate.along), bool), np.zeros(missing, bool)]),
        np.concatenate([*jumps, leap, np.zeros(missing)]),
        (*blocks, slice(start, start + directions)),
    )


def _along(evidence: Evidence, estimate: Estimate, *, signed: bool = True) -> Estimate:
    """The estimate with its inner products along the sampled directions, where it is whole."""
    problem, probes = evidence.problem, evidence.probes
    whole = estimate.known is None and problem.operator in ("gradient", "vjp")
    if probes is None or not probes.directions or not whole or len(estimate.along):
        return estimate
    along, doubt, leap = (np.zeros(probes.directions) for _ in range(3))
    for (of, wrt), block in estimate.blocks.items():
        weights = np.reshape(probes.along[wrt], (probes.directions, -1))
        along += (weights if signed else np.abs(weights)) @ np.reshape(block, -1)
        if (of, wrt) in estimate.uncertainty:
            doubt += np.abs(weights) @ np.reshape(estimate.uncertainty[of, wrt], -1)
        if (of, wrt) in estimate.jumps:
            leap += np.abs(weights) @ np.reshape(estimate.jumps[of, wrt], -1)
    return replace(estimate, along=along, along_uncertainty=doubt, along_jumps=leap)


def field_of(evidence: Evidence, estimate: Estimate, *, signed: bool = True) -> Field:
    """An estimate of this evidence as flat arrays, sampled directions last."""
    directions = evidence.probes.directions if evidence.probes else 0
    return flatten(evidence.problem, _along(evidence, estimate, signed=signed), directions)


def tolerance_of(outcome: Outcome) -> float:
    """The default relative tolerance of a method.

    That of its arithmetic; of a formula that comes to fewer digits, the same part of its own.
    """
    return max(RTOL[outcome.dtype], MARGIN * outcome.reach)


def largest(r: np.ndarray) -> float:
    """The largest finite size among some numbers; 0 when there is none."""
    return float(np.max(np.abs(r), where=np.isfinite(r), initial=0.0))


def least_of(evidence: Evidence, outcome: Outcome, truth: Field) -> np.ndarray | float:
    """The least size of a method's elements: of a difference of outputs, a part of the outputs.

    What moves them by next to nothing of themselves over a step is lost in their rounding. A step
    is as long as max(1, |x|) here, as all of them are relative to that. Where outputs are sums that
    cancel, their rounding is that of the terms; so is what is lost beside other elements, but a
    derivative that is lost as a whole is not known, whatever the terms.
    """
    if outcome.reach == 0.0:
        return 0.0
    outputs = _over_a_step(evidence, {of: _finite(y) for of, y in evidence.exact_primal.items()})
    noise = evidence.exact_noise or {}
    terms = _over_a_step(evidence, {of: _finite(u) / (3 * EPS) for of, u in noise.items()})
    return np.asarray(np.fmax(outputs, np.fmin(terms, _block_sizes(evidence, truth))))


def _over_a_step(evidence: Evidence, outputs: Mapping[str, np.ndarray]) -> np.ndarray | float:
    """Of each element, the part of outputs of these sizes that a derivative has to move by."""
    p = evidence.problem
    if not outputs:
        return 0.0
    inverse = {name: 1.0 / np.maximum(1.0, np.abs(_plain(p.point[name]))) for name in p.wrt}
    weighed = sum(float(np.sum(_finite(w * outputs[of]))) for of, w in p.cotangents.items())
    parts = []
    for of, wrt in p.keys:
        size = largest(outputs[of]) if of else weighed
        rows = int(np.prod(p.shape(of), dtype=int)) if of else 1
        along = inverse[wrt] if wrt else np.full(1, _steepest(p.tangents, inverse))
        parts.append(size * np.tile(along, rows))
    if evidence.probes:
        given = evidence.probes.along
        each = ({k: v[d] for k, v in given.items()} for d in range(evidence.probes.directions))
        parts.append(weighed * np.array([_steepest(d, inverse) for d in each]))
    return FLOOR * np.concatenate(parts)


def _plain(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64).reshape(-1)


def _steepest(direction: Mapping[str, np.ndarray], inverse: Mapping[str, np.ndarray]) -> float:
    """How many steps long a direction is, by the coordinate that goes furthest."""
    return max((largest(_plain(v) * inverse[name]) for name, v in direction.items()), default=0.0)


def size_of(
    evidence: Evidence, a: np.ndarray, truth: Field, least: np.ndarray | float = 0.0
) -> np.ndarray:
    """What an element's error is relative to: it, or a part of the largest of its block."""
    floor = np.fmax(FLOOR * _block_sizes(evidence, truth), least)
    return np.asarray(np.fmax(np.fmax(_finite(a), _finite(truth.value)), floor))


def _block_sizes(evidence: Evidence, truth: Field) -> np.ndarray:
    """Of each element, the size of its block.

    A block that is zero within its uncertainty has no size of its own; it gets that of the whole
    answer, and an answer that is zero within its uncertainty that of the outputs.
    """
    r = truth.value
    whole = largest(np.where(np.abs(r) > truth.u, r, 0.0)) or max(largest(r), _outputs(evidence))
    sizes = np.zeros(len(r))
    for block in truth.blocks:
        own = largest(r[block])
        sizes[block] = own if own > largest(truth.u[block]) else max(own, whole)
    return sizes


def _outputs(evidence: Evidence) -> float:
    """The size of the outputs; 1 when they are all 0, or as good as 0."""
    noise = evidence.primal_noise or {}
    sizes = [
        largest(np.where(np.abs(y) > noise.get(name, 0.0), y, 0.0))
        for name, y in evidence.exact_primal.items()
    ]
    return max(sizes, default=0.0) or 1.0


def _finite(x: np.ndarray) -> np.ndarray:
    """Sizes; 0 for what has none."""
    return np.where(np.isfinite(x), np.abs(x), 0.0)


def band_of(
    evidence: Evidence,
    a: np.ndarray,
    truth: Field,
    rtol: float,
    atol: float,
    least: np.ndarray | float = 0.0,
) -> np.ndarray:
    """How far from the truth a method's elements may lie: rtol of their size, and atol."""
    return rtol * size_of(evidence, a, truth, least) + atol


def gap_of(a: np.ndarray, r: np.ndarray) -> np.ndarray:
    """|a - r|; 0 for the same infinity twice, NaN where it would not be finite."""
    with np.errstate(invalid="ignore"):
        gap = np.where(a == r, 0.0, np.abs(a - r))
    return np.where(np.isinf(gap), np.nan, gap)


def place_of(problem: Problem, place: int) -> tuple[str, tuple[int, ...]]:
    """The block and the index within it of a flat element."""
    for key in problem.keys:
        shape = problem.block_shape(key)
        size = int(np.prod(shape))
        if place < size:
            return label(key), tuple(int(i) for i in np.unravel_index(place, shape))
        place -= size
    return f"random direction {place}", ()


def label(key: Key) -> str:
    """A block's name: `x`, `y`, or `y/x`."""
    return "/".join(part for part in key if part)
