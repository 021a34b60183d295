"""The verdict: Evidence in, Comparison out.

An element of a method agrees when it lies within a band around the reference and that is certain;
it disagrees when it lies outside by more than the uncertainty of the two; else nothing is claimed.

    band = rtol * max(|a|, |r|, floor * |r|_inf) + atol     u = u_method + u_reference
    DISAGREE  |a - r| > band + u       AGREE  |a - r| <= band and u <= band       else INCONCLUSIVE

|r|_inf is taken over the block that the element is in, of one output with respect to one input. A
value that is not finite disagrees where the reference is; of a reference that is no number nothing
can be said.

On an active kink, where the one-sided derivatives of the requested quantity differ, any value
between them is accepted as a convention, and one outside disagrees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradcli.comparison.advice import advise
from gradcli.comparison.facts import (
    Cause,
    Comparison,
    Judgement,
    KinkAt,
    Primal,
    Reference,
    Subject,
    Verdict,
    Worst,
)
from gradcli.engines.base import Arrays, Estimate, Evidence, Outcome
from gradcli.graph import DType
from gradcli.problem import Key, Problem

RTOL: Mapping[DType, float] = {
    DType.FLOAT64: 1e-6,
    DType.FLOAT32: 3e-3,
    DType.FLOAT16: 3e-1,
    DType.BFLOAT16: 3e-1,
}
"""Default relative tolerance by the arithmetic that a method computed in."""

FLOOR = 1e-3
"""Elements smaller than this part of the largest are held to its absolute band."""

CONFIRM = 1e-7
"""How close a witness must come to the float64 reverse graph, relative, by the same band."""

ROUNDING_FACTOR = 4.0
"""How far rounding errors may exceed three standard deviations of their model."""

RESOLVED = 1e-3
"""A witness less certain of an element than this, relative, does not confirm it."""

UNDERFLOW = 2.0**-126
"""What float32 may lose of a number because it has no smaller normal ones."""

PRIMAL_TOLERANCE = 10.0
"""Of the primal, in square roots of its type's epsilon: half of the digits, less one."""

PRIMAL_NOISE = 16.0
"""Of the primal, in three standard deviations of its rounding errors, where those were measured."""

EPS = 2.0**-52


@dataclass(frozen=True)
class _Field:
    """The answer as flat arrays, one element after another, sampled directions last.

    Attributes:
        value: Elements; NaN where not known, or where NaN is what a method says.
        u: Their uncertainties.
        known: Which elements were computed.
        blocks: Where each block of the answer lies, and last the sampled directions.
    """

    value: np.ndarray
    u: np.ndarray
    known: np.ndarray
    blocks: tuple[slice, ...]


def judge(evidence: Evidence, rtol: float | None = None, atol: float = 0.0) -> Comparison:
    """Hold every method against the best reference there is.

    Args:
        evidence: What was measured.
        rtol: Relative tolerance for all methods; default by each one's arithmetic (RTOL).
        atol: Absolute tolerance.
    """
    problem = evidence.problem
    primal = _primal(evidence)
    truth, reference = _truth(evidence)
    kinks = _kinks(evidence, _active(evidence))
    methods = tuple(
        _not_against_itself(_judgement(evidence, outcome, primal, truth, rtol, atol), reference)
        for outcome in evidence.outcomes
    )
    counts = _counts(methods)
    decided = truth is not None and primal.matches and (reference.confirmed or not truth.value.size)
    verdict, exit_code = _overall(counts, bool(decided))
    tolerances = {
        d.value: rtol if rtol is not None else RTOL[d] for d in (problem.dtype, DType.FLOAT64)
    }
    return Comparison(
        _subject(problem, tolerances, atol),
        primal,
        reference,
        methods,
        kinks,
        advise(methods),
        (*problem.notes, *_sample_notes(evidence), *evidence.notes),
        counts,
        verdict,
        exit_code,
    )


def name_nodes(comparison: Comparison, nodes: Mapping[str, str]) -> Comparison:
    """The comparison, the worst elements of these methods blamed on these nodes.

    Args:
        comparison: As judged.
        nodes: The user's node, by method.
    """
    methods = tuple(
        replace(m, worst=replace(m.worst, node=nodes[m.method]))
        if m.worst is not None and m.method in nodes
        else m
        for m in comparison.methods
    )
    return replace(comparison, methods=methods)


# ---- the primal ----------------------------------------------------------------------------------


def _primal(evidence: Evidence) -> Primal:
    """Whether onnxruntime's outputs of the original bytes are those of the float64 interpreter."""
    if evidence.primal_reason:
        return Primal(False, math.inf, math.inf, "", None, evidence.primal_reason)
    held = hold_primal(evidence.file_primal, evidence.exact_primal, evidence.primal_noise)
    return replace(held, forward=evidence.forward)


def hold_primal(file_primal: Arrays, our_primal: Arrays, noise: Arrays | None = None) -> Primal:
    """Hold outputs that gradcli computed against onnxruntime's, on the file's original bytes.

    Args:
        file_primal: onnxruntime's, by name of `of`, in the file's own widths.
        our_primal: gradcli's, likewise.
        noise: Three standard deviations of the rounding errors in the file's own width, where
            known. They tell a slightly wrong operator from rounding; without them only half of the
            digits are held against each other.
    """
    worst = Primal(True, 0.0, 0.0)
    for name, our in our_primal.items():
        if name not in file_primal:
            return Primal(False, math.inf, math.inf, name, None, "onnxruntime gave no such output")
        ours = np.asarray(our, np.float64)
        given = np.asarray(file_primal[name])
        theirs = given.astype(np.float64)
        eps = DType.of(given).eps
        if theirs.shape != ours.shape:
            return Primal(False, math.inf, math.inf, name, None, "the shapes differ")
        same = (theirs == ours) | (np.isnan(theirs) & np.isnan(ours))
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(theirs - ours))
        largest = float(np.max(gap, initial=0.0))
        size = float(np.max(np.abs(ours[np.isfinite(ours)]), initial=0.0))
        relative = largest / size if size else (0.0 if largest == 0.0 else math.inf)
        bound = PRIMAL_TOLERANCE * math.sqrt(eps) * size + 1e-30
        if noise is not None and np.all(np.isfinite(noise[name])):
            rounding = PRIMAL_NOISE * float(np.max(noise[name], initial=0.0))
            bound = rounding + 64 * eps * size + 1e-30
        if not largest <= bound:
            return Primal(
                False,
                largest,
                relative,
                name,
                None,
                "onnxruntime on the file and gradcli give different outputs",
            )
        if relative >= worst.max_rel_error:
            worst = Primal(True, largest, relative, name)
    return worst


# ---- the reference -------------------------------------------------------------------------------


def _flatten(problem: Problem, estimate: Estimate, directions: int) -> _Field:
    """An estimate's elements in the one order that all of them share."""
    values, doubts, known, blocks, start = [], [], [], [], 0
    for key in problem.keys:
        block = np.asarray(estimate.blocks[key], np.float64).reshape(-1)
        here = (
            np.ones(block.size, bool) if estimate.known is None else estimate.known[key].reshape(-1)
        )
        values.append(np.where(here, block, np.nan))
        doubt = estimate.uncertainty.get(key)
        doubts.append(np.zeros(block.size) if doubt is None else np.reshape(doubt, -1))
        known.append(here)
        blocks.append(slice(start, start + block.size))
        start += block.size
    missing = directions - len(estimate.along)
    doubt = estimate.along_uncertainty if len(estimate.along_uncertainty) else 0 * estimate.along
    return _Field(
        np.concatenate([*values, estimate.along, np.full(missing, np.nan)]),
        np.nan_to_num(np.concatenate([*doubts, doubt, np.zeros(missing)]), nan=np.inf),
        np.concatenate([*known, np.ones(len(estimate.along), bool), np.zeros(missing, bool)]),
        (*blocks, slice(start, start + directions)),
    )


def _along(evidence: Evidence, estimate: Estimate, *, signed: bool = True) -> Estimate:
    """The estimate with its inner products along the sampled directions, where it is whole."""
    problem, probes = evidence.problem, evidence.probes
    whole = estimate.known is None and problem.operator in ("gradient", "vjp")
    if probes is None or not probes.directions or not whole or len(estimate.along):
        return estimate
    along, doubt = np.zeros(probes.directions), np.zeros(probes.directions)
    for (of, wrt), block in estimate.blocks.items():
        weights = np.reshape(probes.along[wrt], (probes.directions, -1))
        along += (weights if signed else np.abs(weights)) @ np.reshape(block, -1)
        if (of, wrt) in estimate.uncertainty:
            doubt += np.abs(weights) @ np.reshape(estimate.uncertainty[of, wrt], -1)
    return replace(estimate, along=along, along_uncertainty=doubt)


def _field(evidence: Evidence, estimate: Estimate, *, signed: bool = True) -> _Field:
    directions = evidence.probes.directions if evidence.probes else 0
    return _flatten(evidence.problem, _along(evidence, estimate, signed=signed), directions)


def _largest(r: np.ndarray) -> float:
    """The largest finite size among some numbers; 0 when there is none."""
    return float(np.max(np.abs(r), where=np.isfinite(r), initial=0.0))


def _size(evidence: Evidence, a: np.ndarray, truth: _Field) -> np.ndarray:
    """What an element's error is relative to: it, or a part of the largest of its block.

    A block that is zero within its uncertainty has no size of its own; it gets that of the whole
    answer, and an answer that is all zeros that of the outputs.
    """
    r = truth.value
    whole = _largest(r) or _outputs(evidence)
    floor = np.zeros(len(r))
    for block in truth.blocks:
        own = _largest(r[block])
        floor[block] = FLOOR * (own if own > _largest(truth.u[block]) else max(own, whole))
    return np.asarray(np.fmax(np.fmax(_finite(a), _finite(r)), floor))


def _outputs(evidence: Evidence) -> float:
    """The size of the outputs; 1 when they are all 0."""
    return (
        max((_largest(np.asarray(y)) for y in evidence.exact_primal.values()), default=0.0) or 1.0
    )


def _finite(x: np.ndarray) -> np.ndarray:
    """Sizes; 0 for what has none."""
    return np.where(np.isfinite(x), np.abs(x), 0.0)


def _band(evidence: Evidence, a: np.ndarray, truth: _Field, rtol: float, atol: float) -> np.ndarray:
    return rtol * _size(evidence, a, truth) + atol


def _truth(evidence: Evidence) -> tuple[_Field | None, Reference]:
    """The reference's elements with their uncertainties, and what to say of it."""
    elements = sum(int(np.prod(evidence.problem.block_shape(k))) for k in evidence.problem.keys)
    reverse, witness = evidence.reference, evidence.witness
    if witness.estimate is None:
        return None, Reference("none", witness.method, 0, elements, witness.reason)
    seen = _field(evidence, witness.estimate)
    # What is no number, or may be anything, was looked at in vain.
    seen = replace(seen, known=seen.known & ~np.isnan(seen.value) & np.isfinite(seen.u))
    active = _active(evidence)
    sure = seen.known & ((seen.u <= _band(evidence, seen.value, seen, RESOLVED, 0.0)) | active)
    withdrawn = Reference(witness.method, witness.method, int(np.sum(sure)), elements)
    if reverse.estimate is None:
        return seen, _because(withdrawn, f"there is no float64 reverse graph: {reverse.reason}")
    exact = _field(evidence, reverse.estimate)
    smooth = seen.known & exact.known & ~active
    gap = _gap(seen.value, exact.value)
    off = smooth & ~(gap <= _band(evidence, seen.value, exact, CONFIRM, 0.0) + seen.u)
    if np.any(off):
        return seen, _because(
            withdrawn,
            f"the float64 reverse graph and {witness.method} differ in {int(off.sum())} of "
            f"{int(smooth.sum())} elements",
        )
    if not np.any(sure & exact.known) and exact.value.size:
        return seen, _because(withdrawn, f"{witness.method} is certain of none of its elements")
    rounding = _rounding(evidence, exact)
    unsure = seen.known & ~sure
    return (
        replace(exact, u=np.where(unsure, np.fmax(rounding, seen.u), rounding)),
        Reference("float64-reverse", witness.method, int(np.sum(sure & exact.known)), elements),
    )


def _because(reference: Reference, reason: str) -> Reference:
    return Reference(
        reference.kind, reference.witness, reference.confirmed, reference.elements, reason
    )


def _rounding(evidence: Evidence, exact: _Field) -> np.ndarray:
    """The uncertainty of the float64 reverse graph: its rounding errors."""
    own: np.ndarray = 8 * EPS * _finite(exact.value)
    estimate = evidence.reference.estimate
    if estimate is None or not estimate.uncertainty:
        return own + 64 * EPS * _largest(exact.value)
    typical = np.zeros(len(own))
    for block in exact.blocks:
        here = exact.u[block][np.isfinite(exact.u[block])]
        typical[block] = np.median(here) if here.size else 0.0
    return np.asarray(own + ROUNDING_FACTOR * np.fmax(exact.u, 0.1 * typical))


# ---- kinks ---------------------------------------------------------------------------------------


def _sides(evidence: Evidence) -> tuple[_Field, _Field] | None:
    if evidence.sides is None:
        return None
    s, directions = evidence.sides, evidence.probes.directions if evidence.probes else 0
    return (
        _flatten(evidence.problem, Estimate(s.left, uncertainty=s.uncertainty), directions),
        _flatten(evidence.problem, Estimate(s.right, uncertainty=s.uncertainty), directions),
    )


def _active(evidence: Evidence) -> np.ndarray:
    """Elements whose one-sided derivatives are known to differ."""
    sides = _sides(evidence)
    if sides is None:
        directions = evidence.probes.directions if evidence.probes else 0
        n = sum(int(np.prod(evidence.problem.block_shape(k))) for k in evidence.problem.keys)
        return np.zeros(n + directions, bool)
    left, right = sides
    gap = np.nan_to_num(_gap(left.value, right.value))
    doubt = np.nan_to_num(left.u + right.u)
    active: np.ndarray = gap > _band(evidence, left.value, right, RTOL[DType.FLOAT64], 0.0) + doubt
    # A sampled direction crosses every kink that a coordinate crosses; no side was taken along it.
    tail = len(active) - sum(
        int(np.prod(evidence.problem.block_shape(k))) for k in evidence.problem.keys
    )
    if tail and np.any(active):
        active[-tail:] = True
    return active


def _kinks(evidence: Evidence, active: np.ndarray) -> tuple[KinkAt, ...]:
    undecided = evidence.sides is None
    on_kink = bool(np.any(active))
    return tuple(
        KinkAt(
            near.node,
            near.op,
            near.index,
            near.margin,
            on_kink if near.kind == "kink" and near.margin == 0 and not undecided else None,
            near.convention,
            near.kind,
            near.what,
        )
        for near in evidence.survey.nearest
    )


# ---- one method ----------------------------------------------------------------------------------


def _not_against_itself(judgement: Judgement, reference: Reference) -> Judgement:
    """Without the digits that a method would have against itself: all of them."""
    same = f"{judgement.dtype}-{judgement.method}" == reference.kind
    if judgement.correct_digits is None or not (same or judgement.method == reference.kind):
        return judgement
    note = "it is the reference itself, and has no digits to count"
    return _with(judgement, correct_digits=None, notes=(*judgement.notes, note))


def _judgement(
    evidence: Evidence,
    outcome: Outcome,
    primal: Primal,
    truth: _Field | None,
    rtol: float | None,
    atol: float,
) -> Judgement:
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
        return _with(
            base, verdict=Verdict.INCONCLUSIVE, detail="the primal does not match the file"
        )
    if truth is None:
        return _with(base, verdict=Verdict.INCONCLUSIVE, detail="there is no reference")
    own = _field(evidence, outcome.estimate)
    tolerance = rtol if rtol is not None else RTOL[outcome.dtype]
    verdicts = _elements(evidence, own, truth, tolerance, atol)
    return _with(base, **_summary(evidence, outcome, own, truth, verdicts, tolerance, atol))


_CODES = (Verdict.AGREE, Verdict.DISAGREE, Verdict.KINK, Verdict.INCONCLUSIVE)
_UNKNOWN = -1


def _elements(
    evidence: Evidence, own: _Field, truth: _Field, rtol: float, atol: float
) -> np.ndarray:
    """The verdict of every element, as an index of _CODES; -1 where either side is not known."""
    a, r = own.value, truth.value
    u = own.u + truth.u
    band = _band(evidence, a, truth, rtol, atol)
    known = own.known & truth.known
    gap = _gap(a, r)
    agree = (gap <= band) & (u <= band)
    # A method that does not know, or a truth that nobody knows, is contradicted by nothing.
    disagree = ~(gap <= band + u) & np.isfinite(u) & ~np.isnan(r)
    verdicts = np.where(disagree, 1, np.where(agree, 0, 3))
    sides = _sides(evidence)
    if sides is not None:
        left, right = sides
        active = _active(evidence)
        slack = band + u + np.nan_to_num(left.u + right.u)
        low, high = (
            np.fmin(left.value, right.value) - slack,
            np.fmax(left.value, right.value) + slack,
        )
        taken = ~np.isnan(low)
        between = np.where((a >= low) & (a <= high), 2, 1)
        verdicts = np.where(active, np.where(taken, between, 3), verdicts)
        known = known | (active & own.known)
    return np.where(known, verdicts, _UNKNOWN)


def _gap(a: np.ndarray, r: np.ndarray) -> np.ndarray:
    """|a - r|; 0 for the same infinity twice, NaN where it would not be finite."""
    with np.errstate(invalid="ignore"):
        gap = np.where(a == r, 0.0, np.abs(a - r))
    return np.where(np.isinf(gap), np.nan, gap)


def _summary(
    evidence: Evidence,
    outcome: Outcome,
    own: _Field,
    truth: _Field,
    verdicts: np.ndarray,
    rtol: float,
    atol: float,
) -> dict[str, object]:
    counts = {str(v): int(np.sum(verdicts == k)) for k, v in enumerate(_CODES)}
    verdict = _method_verdict(counts)
    smooth = (verdicts != _UNKNOWN) & (verdicts != _CODES.index(Verdict.KINK))
    a, r, u = own.value[smooth], truth.value[smooth], (own.u + truth.u)[smooth]
    gap = np.nan_to_num(_gap(a, r), nan=np.inf)
    found: dict[str, object] = {"verdict": verdict, "counts": counts}
    if gap.size:
        sizable = (np.abs(r) > u) & np.isfinite(r)
        relative = gap[sizable] / np.abs(r[sizable])
        found |= {
            "max_abs_error": float(np.max(gap)),
            "max_rel_error": float(np.max(relative)) if np.any(sizable) else None,
            "correct_digits": _worst_digits(own, truth, smooth),
            "uncertainty": float(np.max(u)),
        }
    found["worst"] = _worst(evidence, own, truth, verdicts, rtol, atol)
    if verdict is Verdict.DISAGREE:
        cause, detail = _cause(evidence, outcome, own, truth, verdicts, rtol, atol)
        found |= {"cause": cause, "detail": detail}
    return found


def _worst_digits(own: _Field, truth: _Field, which: np.ndarray) -> float | None:
    """The correct digits of the block that has the fewest, relative to its largest element."""
    gap = np.nan_to_num(_gap(own.value, truth.value), nan=np.inf)
    digits = [
        _digits(float(np.max(gap[block][which[block]])), _largest(truth.value[block][which[block]]))
        for block in truth.blocks
        if np.any(which[block])
    ]
    return min((d for d in digits if d is not None), default=None)


def _digits(error: float, norm: float) -> float | None:
    if not math.isfinite(error):
        return 0.0
    if norm == 0.0:
        return None if error else 17.0
    return min(17.0, max(0.0, -math.log10(error / norm))) if error else 17.0


def _method_verdict(counts: Mapping[str, int]) -> Verdict:
    for verdict in (Verdict.DISAGREE, Verdict.KINK, Verdict.INCONCLUSIVE):
        if counts[verdict]:
            return verdict
    return Verdict.AGREE if counts[Verdict.AGREE] else Verdict.INCONCLUSIVE


def _worst(
    evidence: Evidence,
    own: _Field,
    truth: _Field,
    verdicts: np.ndarray,
    rtol: float,
    atol: float,
) -> Worst | None:
    problem = evidence.problem
    known = verdicts != _UNKNOWN
    if not np.any(known):
        return None
    on_kink = verdicts == _CODES.index(Verdict.KINK)
    sides = _sides(evidence)
    if sides is not None and np.any(on_kink) and not np.any(verdicts == 1):
        left, right = sides[0].value, sides[1].value
        place = int(np.argmax(np.where(on_kink, np.nan_to_num(_gap(left, right)), -1.0)))
        name, index = _place(problem, place)
        both = float(left[place]), float(right[place])
        return Worst(name, index, float(own.value[place]), float(truth.value[place]), sides=both)
    band = _band(evidence, own.value, truth, rtol, atol)
    gap = np.nan_to_num(_gap(own.value, truth.value), nan=np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(gap == 0, 0.0, gap / band)
    # Disagreements first: inside a kink's interval an element may be far off and right.
    pool = verdicts == 1 if np.any(verdicts == 1) else known
    place = int(np.argmax(np.where(pool, np.nan_to_num(excess, nan=np.inf), -1.0)))
    name, index = _place(problem, place)
    return Worst(name, index, float(own.value[place]), float(truth.value[place]))


def _place(problem: Problem, place: int) -> tuple[str, tuple[int, ...]]:
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


def _cause(
    evidence: Evidence,
    outcome: Outcome,
    own: _Field,
    truth: _Field,
    verdicts: np.ndarray,
    rtol: float,
    atol: float,
) -> tuple[Cause | None, str]:
    """Why a method disagrees: its float64 twin tells a rule from the arithmetic."""
    if outcome.method.startswith("finite"):
        return Cause.STEP, "the step is too long or too short for this function"
    twin = evidence.twins.get(outcome.method)
    if outcome.dtype is DType.FLOAT64:
        return Cause.RULE, "its derivative is wrong in float64 too"
    exact = None if twin is None else _field(evidence, twin)
    bad = (verdicts == 1) & (exact.known if exact else False)
    if exact is None or not np.any(bad):
        return None, "the same graph in float64 was not run on these elements"
    again = _elements(evidence, exact, truth, RTOL[DType.FLOAT64], atol)
    if np.any(bad & (again == 1)):
        return Cause.RULE, "the same graph in float64 is wrong too"
    coarse = f"the same graph in float64 agrees; {outcome.dtype.value} is too coarse here"
    if evidence.rounding is None:
        return Cause.ROUNDING, coarse
    model = _field(evidence, evidence.rounding, signed=False).value
    allowed = np.empty(len(model))
    for block in truth.blocks:
        allowed[block] = ROUNDING_FACTOR * np.fmax(
            np.nan_to_num(model[block], posinf=np.inf), 0.1 * _largest(model[block])
        )
    # A spread that is no number has shown that anything may come of rounding.
    allowed = np.where(np.isinf(model), np.inf, allowed) + UNDERFLOW
    gap = np.nan_to_num(_gap(own.value, truth.value), nan=np.inf)
    if np.all((gap <= allowed + _band(evidence, own.value, truth, rtol, atol))[bad]):
        return Cause.ROUNDING, coarse
    return (
        Cause.RUNTIME,
        "the same graph in float64 agrees, and rounding does not explain the difference",
    )


def _with(judgement: Judgement, **changes: object) -> Judgement:
    return replace(judgement, **changes)  # type: ignore[arg-type] # fields of Judgement


# ---- the whole -----------------------------------------------------------------------------------


def _counts(methods: tuple[Judgement, ...]) -> dict[str, int]:
    counts = {str(v): sum(m.verdict is v for m in methods) for v in Verdict}
    counts["skipped"] = sum(m.status == "skipped" for m in methods)
    counts["failed"] = sum(m.status == "failed" for m in methods)
    return counts


def _overall(counts: Mapping[str, int], decided: bool) -> tuple[Verdict, int]:
    if counts[Verdict.DISAGREE]:
        return Verdict.DISAGREE, 1
    if not decided:
        return Verdict.INCONCLUSIVE, 3
    if counts[Verdict.KINK]:
        return Verdict.KINK, 0
    return (Verdict.AGREE if counts[Verdict.AGREE] else Verdict.INCONCLUSIVE), 0


def _sample_notes(evidence: Evidence) -> list[str]:
    probes = evidence.probes
    if probes is None:
        return []
    taken = [o.method for o in (*evidence.outcomes,) if o.sampled]
    parts = [
        f"{len(v)} of {int(np.prod(evidence.problem.shape(k)))} coordinates of {k}"
        for k, v in probes.wrt.items()
    ]
    along = f" and {probes.directions} random directions" if probes.directions else ""
    who = f" by {', '.join(taken)}" if taken else ""
    return [f"sampled{who}: at most {', '.join(parts)}{along} (seed {evidence.problem.seed})"]


def _subject(problem: Problem, rtol: Mapping[str, float], atol: float) -> Subject:
    model = problem.model
    return Subject(
        model.path if model else "",
        model.sha256 if model else "",
        problem.operator,
        {name: problem.shape(name) for name in problem.wrt},
        {name: problem.shape(name) for name in problem.of},
        problem.dtype.value,
        len(problem.graph.nodes),
        sum(a.size for v, a in problem.graph.constants.items() if v.dtype.is_float),
        problem.seed,
        problem.threads,
        problem.provider,
        rtol,
        atol,
    )
