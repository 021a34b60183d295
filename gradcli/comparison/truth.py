"""What methods are held against: the reference, its witness, and the two sides of a kink."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcli.comparison.facts import (
    Jump,
    KinkAt,
    Reference,
)
from gradcli.comparison.field import (
    EPS,
    FLOOR,
    RTOL,
    Field,
    _finite,
    band_of,
    field_of,
    flatten,
    gap_of,
    largest,
    place_of,
)
from gradcli.engines.base import Certificate, Estimate, Evidence, Sides
from gradcli.graph import DType

CONFIRM = 1e-7
"""How close a witness must come to the float64 graph, relative, by the same band."""

ROUNDING_FACTOR = 4.0
"""How far rounding errors may exceed three standard deviations of their model."""

REFERENCE_FACTOR = 1.5
"""Likewise, of the float64 graph: calibrated, see benchmarks/calibration.py."""

RESOLVED = 1e-3
"""A witness less certain of an element than this, relative, does not confirm it."""


def truth_of(evidence: Evidence) -> tuple[Field | None, Reference]:
    """The reference's elements with their uncertainties, and what to say of it.

    What is certified is the truth; of other elements, what the float64 graph and its witness say.
    """
    field, reference = _in_floats(evidence)
    certificate = evidence.certificate
    if certificate is None or not certificate.holds or not certificate.elements:
        return field, replace(reference, uncertified=_why_not(evidence))
    sure = _certain(evidence, certificate)
    if field is not None:
        sure = Field(
            np.where(sure.known, sure.value, field.value),
            np.where(sure.known, sure.u, field.u),
            sure.known | field.known,
            field.jumps,
            field.blocks,
        )
    rest = reference.elements - certificate.elements
    also = f"{rest:,} of its elements are those of {reference.kind}" if rest else ""
    return sure, Reference(
        "certified",
        "series",
        certificate.elements,
        reference.elements,
        also,
        certificate.bits,
        certificate.digits,
        certificate.below,
        certificate.opened,
    )


def _certain(evidence: Evidence, certificate: Certificate) -> Field:
    whole = all(np.all(known) for known in certificate.known.values())
    known = None if whole else certificate.known
    return field_of(
        evidence, Estimate(certificate.blocks, known, uncertainty=certificate.uncertainty)
    )


def _why_not(evidence: Evidence) -> str:
    certificate = evidence.certificate
    if certificate is None:
        return evidence.uncertified
    if evidence.survey.rim:
        return f"the point lies on the edge of a domain: {evidence.survey.rim[0].what}"
    if certificate.contradicted:
        return "the reverse graph in balls and power series of the primal exclude each other"
    if certificate.sides is not None:
        return "the point lies on a kink, whose two sides are certain where they were taken"
    if certificate.opened and not certificate.elements:
        nodes = ", ".join(certificate.opened[:3])
        return f"at {certificate.bits} bits it is open which way {nodes} goes: a tie, or nearly one"
    if not certificate.confirmed:
        return "power series of the primal did not come as near, or not in time"
    return "no element could be enclosed"


def _in_floats(evidence: Evidence) -> tuple[Field | None, Reference]:
    """The float64 graph where its witness confirms it, else the witness."""
    elements = sum(int(np.prod(evidence.problem.block_shape(k))) for k in evidence.problem.keys)
    reference, witness = evidence.reference, evidence.witness
    graph = f"float64 {reference.method} graph"
    if witness.estimate is None:
        return None, Reference("none", witness.method, 0, elements, witness.reason)
    seen = field_of(evidence, witness.estimate)
    # What is no number, or may be anything, was looked at in vain.
    seen = replace(seen, known=seen.known & ~np.isnan(seen.value) & np.isfinite(seen.u))
    free = free_on(evidence)
    clear = seen.u <= band_of(evidence, seen.value, seen, RESOLVED, 0.0)
    sure = seen.known & (clear | active_on(evidence))
    withdrawn = Reference(witness.method, witness.method, int(np.sum(sure)), elements)
    if reference.estimate is None:
        return seen, _because(withdrawn, f"there is no {graph}: {reference.reason}")
    exact = field_of(evidence, reference.estimate)
    smooth = seen.known & exact.known & ~free
    gap = gap_of(seen.value, exact.value)
    off = smooth & ~(gap <= band_of(evidence, seen.value, exact, CONFIRM, 0.0) + seen.u)
    if np.any(off):
        return seen, _because(
            withdrawn,
            f"the {graph} and {witness.method} differ in {int(off.sum())} of "
            f"{int(smooth.sum())} elements",
        )
    if not np.any(sure & exact.known) and exact.value.size:
        return seen, _because(withdrawn, f"{witness.method} is certain of none of its elements")
    rounding = _rounding(evidence, exact)
    # What a witness knows only beside other blocks, which are far larger, it does not confirm.
    unsure = seen.known & ~(sure & (seen.u <= RESOLVED * _own_size(seen)))
    # Where conventions have their way, what the graph says is one of them, and no truth.
    exact = replace(exact, u=np.where(unsure, np.fmax(rounding, seen.u), rounding))
    return (
        _beside_conventions(evidence, exact, seen),
        Reference(
            f"float64-{reference.method}",
            witness.method,
            int(np.sum(sure & exact.known)),
            elements,
        ),
    )


def _own_size(seen: Field) -> np.ndarray:
    """Of each element what counts within its own block."""
    floor = np.zeros(len(seen.value))
    for block in seen.blocks:
        floor[block] = FLOOR * largest(seen.value[block])
    return np.asarray(np.fmax(_finite(seen.value), floor))


def _beside_conventions(evidence: Evidence, graph: Field, seen: Field) -> Field:
    """The graph's elements, but those with one slope that conventions may miss.

    Of these its two sides tell, or the witness, whichever is more certain.
    """
    here = seen.known & free_on(evidence) & ~active_on(evidence)
    value, u = seen.value, seen.u
    if (sides := sides_of(evidence)) is not None:
        left, right = sides
        doubt = left.u + right.u + gap_of(left.value, right.value)
        better = doubt < u
        value = np.where(better, left.value / 2 + right.value / 2, value)
        u = np.where(better, doubt, u)
    return replace(graph, value=np.where(here, value, graph.value), u=np.where(here, u, graph.u))


def _because(reference: Reference, reason: str) -> Reference:
    return Reference(
        reference.kind, reference.witness, reference.confirmed, reference.elements, reason
    )


def _rounding(evidence: Evidence, exact: Field) -> np.ndarray:
    """The uncertainty of the float64 graph: its rounding errors."""
    own: np.ndarray = 2 * EPS * _finite(exact.value)
    estimate = evidence.reference.estimate
    if estimate is None or not estimate.uncertainty:
        return own + 64 * EPS * largest(exact.value)
    typical = np.zeros(len(own))
    for block in exact.blocks:
        here = exact.u[block][np.isfinite(exact.u[block])]
        typical[block] = np.median(here) if here.size else 0.0
    return np.asarray(own + REFERENCE_FACTOR * np.fmax(exact.u, 0.1 * typical))


def sides_of(evidence: Evidence) -> tuple[Field, Field] | None:
    """The one-sided derivatives as flat arrays, behind and ahead; None off kinks."""
    s, directions = _two_slopes(evidence), evidence.probes.directions if evidence.probes else 0
    if s is None:
        return None
    return (
        flatten(evidence.problem, Estimate(s.left, uncertainty=s.uncertainty), directions),
        flatten(evidence.problem, Estimate(s.right, uncertainty=s.uncertainty), directions),
    )


def _two_slopes(evidence: Evidence) -> Sides | None:
    """One-sided derivatives: those that are certain, and for other elements those in floats."""
    sure = evidence.certificate.sides if evidence.certificate else None
    if sure is None or evidence.sides is None:
        return sure or evidence.sides
    taken = {key: np.isfinite(block) for key, block in sure.left.items()}
    left, right, uncertainty = (
        {key: np.where(taken[key], getattr(sure, part)[key], block) for key, block in old.items()}
        for part, old in vars(evidence.sides).items()
    )
    return Sides(left, right, uncertainty)


def active_on(evidence: Evidence) -> np.ndarray:
    """Elements whose one-sided derivatives are known to differ."""
    sides = sides_of(evidence)
    if sides is None:
        directions = evidence.probes.directions if evidence.probes else 0
        n = sum(int(np.prod(evidence.problem.block_shape(k))) for k in evidence.problem.keys)
        return np.zeros(n + directions, bool)
    left, right = sides
    gap = np.nan_to_num(gap_of(left.value, right.value))
    doubt = np.nan_to_num(left.u + right.u)
    active: np.ndarray = (
        gap > band_of(evidence, left.value, right, RTOL[DType.FLOAT64], 0.0) + doubt
    )
    # A sampled direction crosses every kink that a coordinate crosses; no side was taken along it.
    tail = len(active) - sum(
        int(np.prod(evidence.problem.block_shape(k))) for k in evidence.problem.keys
    )
    if tail and np.any(active):
        active[-tail:] = True
    return active


def fan_of(evidence: Evidence) -> Field | None:
    """What conventions may compose to: the middles of intervals, their half widths as uncertainty.

    None where no tie matters; NaN, infinitely uncertain, where nobody knows.
    """
    fans = evidence.fans
    if fans is None:
        return None
    directions = evidence.probes.directions if evidence.probes else 0
    return flatten(evidence.problem, Estimate(fans.middle, uncertainty=fans.half), directions)


def conventions_on(
    evidence: Evidence, slack: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least and the greatest value that a convention may come to, and where that is certain.

    Both sides of a direction are among them. Without a fan they are all that is known, and what
    lies outside may still be what several kinks compose to.

    Args:
        evidence: What was measured.
        slack: How far outside is still inside, beside what is uncertain.
    """
    fan, sides = fan_of(evidence), sides_of(evidence)
    ends = [side.value + sign * side.u for side in sides or () for sign in (-1.0, 1.0)]
    if fan is not None:
        ends += [np.where(np.isfinite(fan.u), fan.value + k * fan.u, np.nan) for k in (-1, 1)]
    low, high = np.fmin.reduce(ends) - slack, np.fmax.reduce(ends) + slack
    return low, high, np.isfinite(low) & (fan is not None) & np.isfinite(ends[-1])


def free_on(evidence: Evidence) -> np.ndarray:
    """Elements that conventions at ties may change, whether or not they have one slope."""
    active = active_on(evidence)
    fan = fan_of(evidence)
    if fan is None:
        return active
    wide = fan.u > band_of(evidence, fan.value, fan, RTOL[DType.FLOAT64], 0.0)
    return np.asarray(active | (wide & np.isfinite(fan.u)))


def settled_on(evidence: Evidence) -> np.ndarray:
    """Elements that can be contradicted: all, unless the point lies on a kink or an edge.

    There a convention may take one slope and another one the other, and which elements have two is
    known only of those that a method without rules has looked at: the witness, whose uncertainty
    counts, or whoever is certain of both sides.
    """
    certificate = evidence.certificate
    if certificate is not None and certificate.holds:
        known = _certain(evidence, certificate).known | active_on(evidence)
        return np.asarray(known | _settled(evidence))
    return _settled(evidence)


def _settled(evidence: Evidence) -> np.ndarray:
    if evidence.witness.estimate is None:
        return ~active_on(evidence) & evidence.survey.is_smooth
    witness = field_of(evidence, evidence.witness.estimate)
    if evidence.survey.is_smooth:
        return np.ones(len(witness.value), bool)
    settled: np.ndarray = witness.known & ~np.isnan(witness.value) & np.isfinite(witness.u)
    sides = sides_of(evidence)
    if sides is None:
        return settled
    left, right = sides
    doubt = left.u + right.u
    sure = doubt <= band_of(evidence, left.value, right, RESOLVED, 0.0)
    settled |= np.isfinite(left.value - right.value) & sure
    return np.asarray(settled | active_on(evidence))


def defined_on(evidence: Evidence, *, infinite: bool = False) -> np.ndarray:
    """Elements of outputs that are numbers: any other has no derivative to be wrong about.

    Args:
        evidence: What was measured.
        infinite: Whether an infinite output counts as one.
    """
    problem = evidence.problem
    primal = evidence.exact_primal
    lost = {
        name: np.isnan(primal[name]) if infinite else ~np.isfinite(primal[name])
        for name in problem.of
    }
    here = [
        np.repeat(~np.reshape(lost[of], -1), np.prod(problem.shape(wrt), dtype=int) if wrt else 1)
        for of, wrt in problem.keys
        if of
    ]
    directions = evidence.probes.directions if evidence.probes else 0
    if here:
        return np.concatenate([*here, np.ones(directions, bool)])
    weighed = (np.any(lost[name] & (w != 0)) for name, w in problem.cotangents.items())
    count = sum(int(np.prod(problem.block_shape(key))) for key in problem.keys)
    return np.full(count + directions, not any(weighed))


JUMPS = "an output jumps there"


def kinks_of(evidence: Evidence, active: np.ndarray) -> tuple[KinkAt, ...]:
    """The kinks and edges near the point, those on it marked where they matter."""
    survey = evidence.survey
    undecided = _two_slopes(evidence) is None
    on_kink = bool(np.any(active))
    jump = _jump_of(evidence, active) if on_kink else None
    # Where no kink alone accounts for two slopes, several do together.
    together = on_kink and not any(t.matters and not t.jumps for t in survey.tied.values())
    found = []
    for near in survey.nearest:
        here = near.kind == "kink" and near.touched
        tied = survey.tied.get(near.node) if here else None
        mine: bool | None = None
        if here and tied is not None and not together:
            mine = tied.matters and (undecided or on_kink or tied.jumps)
        elif here and not undecided:
            mine = on_kink
        found.append(
            KinkAt(
                near.node,
                near.op,
                tied.index if tied is not None else near.index,
                near.margin,
                mine,
                near.convention,
                near.kind,
                JUMPS if mine and tied is not None and tied.jumps else near.what,
                near.decided,
                near.within,
                near.taken,
                jump if mine and on_kink else None,
                tied.ties if tied is not None else 1,
                tied.many if tied is not None and mine else 0,
                tied is not None and tied.certified and not together,
                near.operand,
                near.todo,
            )
        )
    return tuple(found)


def _jump_of(evidence: Evidence, active: np.ndarray) -> Jump | None:
    """Where the derivative jumps most."""
    sides = sides_of(evidence)
    if sides is None:
        return None
    left, right = sides
    gap = np.nan_to_num(gap_of(left.value, right.value))
    place = int(np.argmax(np.where(active, gap, -1.0)))
    name, index = place_of(evidence.problem, place)
    sure = evidence.certificate.sides if evidence.certificate else None
    certified = False
    if sure is not None:
        enclosed = field_of(evidence, Estimate(sure.left)).value
        certified = bool(np.isfinite(enclosed[place]))
    return Jump(name, index, float(left.value[place]), float(right.value[place]), certified)
