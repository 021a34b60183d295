"""One method's row: its elements against the truth, their verdict and its cause."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradcli.comparison.facts import (
    Cause,
    Judgement,
    Part,
    Primal,
    Reference,
    Verdict,
    Worst,
)
from gradcli.comparison.field import (
    EPS,
    RTOL,
    Field,
    band_of,
    field_of,
    gap_of,
    label,
    largest,
    least_of,
    place_of,
    size_of,
    tolerance_of,
)
from gradcli.comparison.truth import (
    ROUNDING_FACTOR,
    active_on,
    conventions_on,
    defined_on,
    free_on,
    settled_on,
    sides_of,
)
from gradcli.engines.base import Estimate, Evidence, Near, Outcome
from gradcli.graph import DType

STAIRCASE = (
    "the function jumps within the step: what is measured is a jump over the step, which grows as"
    " 1/h; between its jumps the derivative is what the reference says"
)

COMPOSED = (
    "its conventions at several ties come to a slope beyond both sides, as conventions may together"
)

NOTHING = "there is nothing to compare: the derivative has no elements"

BLUR = 8.0
"""A kink within this many roundings of an operand may be on either side of the point."""


def not_against_itself(judgement: Judgement, reference: Reference) -> Judgement:
    """Without the digits that a method would have against itself: all of them."""
    same = f"{judgement.dtype}-{judgement.method}" == reference.kind
    if judgement.correct_digits is None or not (same or judgement.method == reference.kind):
        return judgement
    note = "it is the reference itself, and has no digits to count"
    return _with(judgement, correct_digits=None, notes=(*judgement.notes, note))


def judgement_of(
    evidence: Evidence,
    outcome: Outcome,
    primal: Primal,
    truth: Field | None,
    rtol: float | None,
    atol: float,
    left_out: np.ndarray,
) -> Judgement:
    """One method's row: what it cost, and what its numbers are worth.

    Args:
        evidence: All that was measured.
        outcome: The method's run.
        primal: Whether the function matches.
        truth: What it is held against.
        rtol: Relative tolerance; by default that of the method's arithmetic.
        atol: Absolute tolerance.
        left_out: Elements of which nothing is to be claimed.
    """
    base = Judgement(
        outcome.method,
        outcome.status,
        outcome.reason,
        outcome.level,
        outcome.dtype.value,
        prepare=outcome.prepare,
        run=outcome.run,
        evaluations=outcome.evaluations,
        sampled=outcome.sampled,
    )
    if outcome.estimate is None:
        return _with(base, prepare=None)
    if primal.forward is not None and outcome.run is not None:
        base = _with(base, times_forward=outcome.run.median / primal.forward.median)
    base = _with(base, notes=outcome.estimate.notes)
    if not primal.matches:
        detail = "the primal does not match the file"
        if lost := _lost(evidence):
            detail = f"{detail}; {lost}"
        return _with(base, verdict=Verdict.INCONCLUSIVE, detail=detail)
    if not any(np.prod(evidence.problem.block_shape(k)) for k in evidence.problem.keys):
        return _with(base, detail=NOTHING)
    if truth is None:
        return _with(base, verdict=Verdict.INCONCLUSIVE, detail="there is no reference")
    own = field_of(evidence, outcome.estimate)
    # Of what its arithmetic has no normal numbers for, a method knows nothing.
    below = np.where(_tiny(truth, outcome.dtype), outcome.dtype.tiny, 0.0)
    own = replace(own, u=own.u + below)
    tolerance = rtol if rtol is not None else tolerance_of(outcome)
    least = least_of(evidence, outcome, truth)
    verdicts = _elements(evidence, own, truth, tolerance, atol, least)
    verdicts = np.where(left_out, _UNKNOWN, verdicts)
    if np.any(left_out) and np.all(verdicts == _UNKNOWN):
        detail = "every element lies on an active kink, and is left out"
        return _with(base, verdict=Verdict.INCONCLUSIVE, detail=detail)
    band = band_of(evidence, own.value, truth, tolerance, atol, least)
    base = _with(base, rtol=tolerance)
    return _with(base, **_summary(_Facing(evidence, outcome, own, truth, verdicts, band, atol)))


@dataclass(frozen=True)
class _Facing:
    """A method's elements beside the truth.

    Attributes:
        evidence: All that was measured.
        outcome: The method's run.
        own: Its elements.
        truth: What they are held against.
        verdicts: Of each element, an index of _CODES; -1 where either side is not known.
        band: How far each may be off.
        atol: The absolute part of that.
    """

    evidence: Evidence
    outcome: Outcome
    own: Field
    truth: Field
    verdicts: np.ndarray
    band: np.ndarray
    atol: float

    def gap(self) -> np.ndarray:
        """How far each element is off; infinite where that is no number."""
        return np.asarray(np.nan_to_num(gap_of(self.own.value, self.truth.value), nan=np.inf))


_CODES = (
    *(Verdict.AGREE, Verdict.DISAGREE, Verdict.KINK, Verdict.INCONCLUSIVE, Verdict.STAIRCASE),
)
_UNKNOWN = -1


def _elements(
    evidence: Evidence,
    own: Field,
    truth: Field,
    rtol: float,
    atol: float,
    least: np.ndarray | float = 0.0,
) -> np.ndarray:
    """The verdict of every element, as an index of _CODES; -1 where either side is not known."""
    a, r = own.value, truth.value
    u = own.u + truth.u
    band = band_of(evidence, a, truth, rtol, atol, least)
    known = own.known & truth.known
    gap = gap_of(a, r)
    agree = (gap <= band) & (u <= band)
    # A method that does not know, or a truth that nobody knows, is contradicted by nothing.
    disagree = ~(gap <= band + u) & np.isfinite(u) & ~np.isnan(r)
    disagree &= settled_on(evidence) & defined_on(evidence)
    # At the edge of a domain a slope may be infinite, or end: no difference reaches that.
    endless = bool(evidence.survey.rim) & ~(np.isfinite(a) & np.isfinite(r))
    verdicts = np.where(disagree & ~endless, 1, np.where(agree, 0, 3))
    free = free_on(evidence)
    if np.any(free):
        active = active_on(evidence)
        low, high, sure = conventions_on(evidence, band + own.u)
        inside = (a >= low) & (a <= high)
        outside = np.where((sure | ~np.isfinite(a)) & ~endless, 1, 3)
        verdicts = np.where(active, np.where(inside, 2, outside), verdicts)
        verdicts = np.where(free & (verdicts != 0) & inside, 2, verdicts)
        known = known | (active & own.known)
    # Whatever a difference across a jump comes to, it is the jump over the step: no derivative.
    leaps = (own.jumps > band) | ((own.jumps > 0) & (verdicts != 0))
    verdicts = np.where(leaps, 4, verdicts)
    # Of an output that is no number there is no derivative to agree with.
    verdicts = np.where(defined_on(evidence, infinite=True), verdicts, 3)
    return np.where(known, verdicts, _UNKNOWN)


def _summary(f: _Facing) -> dict[str, object]:
    own, verdicts = f.own, f.verdicts
    counts = _counted(verdicts)
    verdict = _method_verdict(counts)
    parts = _parts(f)
    found: dict[str, object] = {
        "verdict": verdict,
        "counts": counts,
        **{name: _most(getattr(part, name) for part in parts) for name in _LARGEST},
        "correct_digits": min(
            (d for p in parts if (d := p.correct_digits) is not None), default=None
        ),
        "zero": sum(part.zero for part in parts),
        "parts": tuple(part for part in parts if part.name),
        "worst": _worst(f),
    }
    if verdict is Verdict.STAIRCASE:
        found |= {"detail": STAIRCASE}
    if verdict is Verdict.KINK and _composed(f):
        found |= {"detail": COMPOSED}
    rim = f.evidence.survey.rim
    open_ = np.isin(verdicts, _SMOOTH) & ~np.isfinite(own.value)
    if verdict is Verdict.INCONCLUSIVE and np.any(open_) and rim:
        found |= {"detail": described(rim[0])}
    elif verdict is Verdict.INCONCLUSIVE and np.any(open_):
        found |= {"detail": _lost(f.evidence)}
    elif verdict is Verdict.INCONCLUSIVE:
        found |= {"detail": _underflow(f)}
    if verdict is Verdict.DISAGREE:
        cause, detail = _cause(f)
        found |= {"cause": cause, "detail": detail}
    return found


def _composed(f: _Facing) -> bool:
    """Whether an element on a kink is off both sides, or off the one slope that there is."""
    left, right = sides_of(f.evidence) or (f.truth, f.truth)
    a, b = (np.where(np.isnan(s.value), f.truth.value, s.value) for s in (left, right))
    slack = f.band + f.own.u + np.where(np.isnan(left.value), f.truth.u, left.u)
    beyond = (f.own.value < np.fmin(a, b) - slack) | (f.own.value > np.fmax(a, b) + slack)
    return bool(np.any((f.verdicts == _CODES.index(Verdict.KINK)) & beyond))


_LARGEST = ("max_abs_error", "max_rel_error", "uncertainty", "needed_rtol")
"""Of a method, the largest of its parts."""

_SMOOTH = (0, 1, 3)
"""Verdicts of elements that have one derivative and a number for it."""


def _most(numbers: Iterable[float | None]) -> float | None:
    return max((x for x in numbers if x is not None), default=None)


def _counted(verdicts: np.ndarray) -> dict[str, int]:
    return {str(v): int(np.sum(verdicts == k)) for k, v in enumerate(_CODES)}


def _parts(f: _Facing) -> list[Part]:
    """The numbers of each block, and last of the sampled directions, whose part has no name."""
    names = [label(key) for key in f.evidence.problem.keys]
    gap, u = f.gap(), f.own.u + f.truth.u
    size = size_of(f.evidence, f.own.value, f.truth, least_of(f.evidence, f.outcome, f.truth))
    parts = []
    for name, block in zip([*names, ""], f.truth.blocks, strict=True):
        smooth = np.isin(f.verdicts[block], _SMOOTH)
        counts = _counted(f.verdicts[block])
        verdict, cause = _method_verdict(counts), None
        if name and verdict is Verdict.DISAGREE:
            here = np.full(len(f.verdicts), _UNKNOWN)
            here[block] = f.verdicts[block]
            cause, _ = _cause(replace(f, verdicts=here))
        off, r, doubt = gap[block][smooth], f.truth.value[block][smooth], u[block][smooth]
        sizable = (np.abs(r) > doubt) & np.isfinite(r)
        relative = off[sizable] / np.abs(r[sizable])
        needed = _needed(np.fmax(off, doubt) - f.atol, size[block][smooth])
        known = bool(off.size)
        # Of a sample too, an error is one of the whole block.
        whole = largest(f.truth.value[block][np.isin(f.verdicts[block], (*_SMOOTH, _UNKNOWN))])
        parts.append(
            Part(
                name,
                verdict,
                cause,
                counts,
                float(np.max(off)) if known else None,
                float(np.max(relative)) if relative.size else None,
                _digits(float(np.max(off)), whole) if known else None,
                float(np.max(doubt)) if known else None,
                int(np.sum(np.abs(r) <= doubt)),
                float(np.max(needed)) if known else None,
            )
        )
    return parts


def _needed(off: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The relative tolerance that makes a band of this width, of each element; a touch more."""
    return np.asarray(np.where(off <= 0, 0.0, off / size) * (1.0 + 4 * EPS))


def _beside(f: _Facing) -> str:
    """The kink, if any, that is so near that the method's arithmetic may be on its other side.

    Whether it is, and whether that matters, only a walk over the nodes tells.
    """
    width = f.outcome.dtype
    for near in f.evidence.survey.nearest:
        blurred = BLUR * width.eps * near.widest
        if near.kind == "kink" and not near.touched and near.margin <= blurred:
            return (
                f", and may be on the other side of the kink of node {near.node!r} ({near.op}),"
                f" within {near.margin:.1g}"
            )
    return ""


def _lost(evidence: Evidence) -> str:
    """The first node that makes of numbers what is none, or too large."""
    lost = next((near for near in evidence.survey.nearest if near.kind == "lost"), None)
    return described(lost) if lost else ""


def _underflow(f: _Facing) -> str:
    """That what is undecided is too small for the method's arithmetic, if that is all."""
    dtype, undecided = f.outcome.dtype, f.verdicts == _CODES.index(Verdict.INCONCLUSIVE)
    if np.any(undecided & ~(f.band < dtype.tiny)) or not np.all(_tiny(f.truth, dtype)[undecided]):
        return ""
    wider = "" if dtype is DType.FLOAT64 else "; --dtype float64 has"
    return f"{dtype.value} has no normal numbers below {dtype.tiny:.1e}{wider}"


def _tiny(truth: Field, dtype: DType) -> np.ndarray:
    """What an arithmetic may lose a part of, as it lies near the least of its normal numbers."""
    size = np.abs(truth.value)
    return np.asarray((size > 0) & (size < dtype.tiny / EPS))


def described(near: Near) -> str:
    """An edge that the point is on, or what is lost there, in words."""
    index = f", element [{', '.join(map(str, near.index))}]" if near.index else ""
    node = f"node {near.node!r} ({near.op}){index}"
    if near.kind == "lost":
        return f"{node}: {near.what}"
    edge = f"is exactly at the edge of its domain, {near.what}"
    return f"{node}{',' * bool(index)} {edge}: a slope there is infinite, or ends"


def _digits(error: float, norm: float) -> float | None:
    if not math.isfinite(error):
        return 0.0
    if norm == 0.0:
        return None if error else 17.0
    return min(17.0, max(0.0, -math.log10(error / norm))) if error else 17.0


def _method_verdict(counts: Mapping[str, int]) -> Verdict:
    order = Verdict.DISAGREE, Verdict.STAIRCASE, Verdict.KINK, Verdict.INCONCLUSIVE
    for verdict in order:
        if counts[verdict]:
            return verdict
    return Verdict.AGREE if counts[Verdict.AGREE] else Verdict.INCONCLUSIVE


def _worst(f: _Facing) -> Worst | None:
    problem, own, truth, verdicts = f.evidence.problem, f.own, f.truth, f.verdicts
    known = verdicts != _UNKNOWN
    if not np.any(known):
        return None
    on_kink = verdicts == _CODES.index(Verdict.KINK)
    sides = sides_of(f.evidence)
    if sides is not None and not np.any(np.isin(verdicts, (1, 4))):
        left, right = sides[0].value, sides[1].value
        on_kink &= np.isfinite(left) & np.isfinite(right)
    if np.any(on_kink) and sides is not None and not np.any(np.isin(verdicts, (1, 4))):
        place = int(np.argmax(np.where(on_kink, np.nan_to_num(gap_of(left, right)), -1.0)))
        name, index = place_of(problem, place)
        both = float(left[place]), float(right[place])
        return Worst(name, index, float(own.value[place]), float(truth.value[place]), sides=both)
    gap = f.gap()
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(gap == 0, 0.0, gap / f.band)
    # Disagreements first: inside a kink's interval an element may be far off and right.
    first = next((code for code in (1, 4) if np.any(verdicts == code)), None)
    pool = known if first is None else verdicts == first
    place = int(np.argmax(np.where(pool, np.nan_to_num(excess, nan=np.inf), -1.0)))
    name, index = place_of(problem, place)
    return Worst(name, index, float(own.value[place]), float(truth.value[place]))


def _cause(f: _Facing) -> tuple[Cause | None, str]:
    """Why a method disagrees: its float64 twin tells a rule from the arithmetic."""
    evidence, outcome, truth = f.evidence, f.outcome, f.truth
    if outcome.method.startswith("finite"):
        return Cause.STEP, "the step is too long or too short for this function"
    lost = _lost(evidence)
    if lost and not np.any(np.isfinite(f.own.value[f.verdicts == 1])):
        return Cause.ROUNDING, f"{lost}; what is infinite times 0 is no number"
    twin = evidence.twins.get(outcome.method)
    spread = evidence.rounding_of(outcome.method).double
    if outcome.dtype is DType.FLOAT64:
        if spread is not None and _by_rounding(f, f.gap(), f.band, f.verdicts == 1, spread):
            return Cause.ROUNDING, "float64 is too coarse here"
        return Cause.RULE, "its derivative is wrong in float64 too"
    exact = None if twin is None else field_of(evidence, twin)
    bad = (f.verdicts == 1) & (exact.known if exact else False)
    if exact is None or not np.any(bad):
        return None, "the same graph in float64 was not run on these elements"
    again = _elements(evidence, exact, truth, RTOL[DType.FLOAT64], f.atol)
    if np.any(wrong := bad & (again == 1)):
        off = np.nan_to_num(gap_of(exact.value, truth.value), nan=np.inf)
        band = band_of(evidence, exact.value, truth, RTOL[DType.FLOAT64], f.atol)
        # Beside a kink rounding may come to anything; a value outside both sides is still wrong.
        excused = spread is not None and not np.any(wrong & active_on(evidence))
        if spread is None or not excused or not _by_rounding(f, off, band, wrong, spread):
            return Cause.RULE, "the same graph in float64 is wrong too"
        return Cause.ROUNDING, f"{outcome.dtype.value} is too coarse here, and float64 is too"
    coarse = f"the same graph in float64 agrees; {outcome.dtype.value} is too coarse here"
    # On which side of a kink the arithmetic ends up is no kernel's fault.
    beside = _beside(f)
    rounding = evidence.rounding_of(outcome.method).narrow
    if (
        rounding is None
        or beside
        or _by_rounding(f, f.gap(), f.band, bad, rounding, outcome.dtype.tiny)
    ):
        return Cause.ROUNDING, f"{coarse}{beside}"
    return (
        Cause.RUNTIME,
        "the same graph in float64 agrees, and rounding does not explain the difference",
    )


def _by_rounding(
    f: _Facing,
    gap: np.ndarray,
    band: np.ndarray,
    bad: np.ndarray,
    spread: Estimate,
    lost: float = 0.0,
) -> bool:
    """Whether rounding errors, of which this is the spread, explain such gaps."""
    model = field_of(f.evidence, spread, signed=False).value
    allowed = np.empty(len(model))
    for block in f.truth.blocks:
        allowed[block] = ROUNDING_FACTOR * np.fmax(
            np.nan_to_num(model[block], posinf=np.inf), 0.1 * largest(model[block])
        )
    # A spread that is no number has shown that anything may come of rounding.
    allowed = np.where(np.isinf(model), np.inf, allowed) + lost
    return bool(np.all((gap <= allowed + band)[bad]))


def _with(judgement: Judgement, **changes: object) -> Judgement:
    return replace(judgement, **changes)  # type: ignore[arg-type] # fields of Judgement
