"""One trial: a pair, perhaps with a fault, and what the verdicts made of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gradcli.comparison import RTOL, Cause, Comparison, Verdict, judge
from gradcli.comparison.field import Field, band_of, field_of, gap_of, least_of, tolerance_of
from gradcli.comparison.truth import (
    ROUNDING_FACTOR,
    active_on,
    conventions_on,
    free_on,
    truth_of,
)
from gradcli.engines import ENGINES, Program
from gradcli.engines.base import Evidence, Outcome
from gradcli.graph import DType
from gradcli.measure import References, measure
from gradcli.problem import Problem
from tests.campaign.faults import GUILTY, IN_RULES, KINDS, chosen, wanted
from tests.campaign.named import named
from tests.campaign.pairs import Pair, drawn

METHODS = (
    *("forward", "reverse", "finite-forward", "finite-central", "finite", "complex-step"),
    "symbolic",
)
FEW = ("forward", "reverse", "complex-step", "symbolic")
"""Of a faulty pair: those that can be at fault, and one that no rule can reach."""

FELT = 3.0
"""Bands by which a fault has to move an element before it must be found."""


UNDERFLOW = 2.0**-126

TRIES = 200
"""Pairs that are drawn until one has a place for a fault."""


@dataclass(frozen=True)
class Said:
    """What was said of one method.

    Attributes:
        method: Its name.
        verdict: Of it.
        cause: Of a disagreement.
        moved: By how many bands its worst element lies off the truth, its sides on a kink.
        dtype: The width it computed in.
    """

    method: str
    verdict: str
    cause: str
    moved: float
    dtype: str


@dataclass(frozen=True)
class Trial:
    """What happened.

    Attributes:
        index: Of the trial: with the campaign's seed it can be had again.
        pair: In words.
        fault: In words; empty without one.
        kind: Of the fault.
        stage: Likewise.
        reference: `certified` or `float64`, as asked for.
        kinked: Whether the point lies on a kink, or at the edge of a domain.
        matched: Whether the primal was found to be that of the file.
        moved: Of a runtime fault: by how many bands it moves the derivative of the file.
        said: Of every method that computed.
        guilty: Methods that stand on the fault.
        seconds: What it took.
        broken: What went wrong with the trial itself.
        own: Of a fault in rules: by how many bands the reference of their own making is off.
        named: What --explain puts first of a fault that is felt; empty where it was not asked.
    """

    index: int
    pair: str
    fault: str = ""
    kind: str = ""
    stage: str = ""
    reference: str = ""
    kinked: bool = False
    matched: bool = True
    moved: float = 0.0
    said: tuple[Said, ...] = ()
    guilty: tuple[str, ...] = ()
    seconds: float = 0.0
    broken: str = ""
    own: float = 0.0
    named: str = ""
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def felt(self) -> bool:
        """Whether it moves an element of a guilty method, or of the file, by 3 bands."""
        if self.stage == "runtime":
            return self.moved >= FELT
        return any(s.method in self.guilty and s.moved >= FELT for s in self.said)

    @property
    def blames(self) -> bool:
        """Whether there is a node to be named for it: a rule, or a kernel of the file's."""
        if self.stage == "witness" or self.missed:
            return False
        return self.felt or self.own >= FELT

    @property
    def missed(self) -> list[str]:
        """Methods that are off by 3 bands by a fault of theirs and were not named."""
        if self.stage == "runtime":
            return ["runtime"] if self.matched and self.moved >= FELT else []
        return [
            s.method
            for s in self.said
            if s.method in self.guilty and s.moved >= FELT and s.verdict != Verdict.DISAGREE
        ]

    @property
    def false(self) -> list[str]:
        """Methods that were named although they are right, or for what is not their fault."""
        return [s.method for s in self.said if s.verdict == Verdict.DISAGREE and self._wrongly(s)]

    def _wrongly(self, s: Said) -> bool:
        if s.method in self.guilty:
            return s.moved <= 1.0
        # That a number of few digits is off by more than the band is true, if it is.
        return not (s.cause == Cause.ROUNDING and s.moved > 1.0)


def trial(
    seed: int,
    index: int,
    *,
    faulty: bool,
    stages: Sequence[str] = tuple(GUILTY),
    samples: float = 0,
    explain: bool = False,
    even: bool = False,
) -> Trial:
    """Draw and judge one pair.

    Args:
        seed: Of the campaign.
        index: Of the trial.
        faulty: Whether to plant a fault.
        stages: Where.
        samples: The share of sample models.
        explain: Whether to ask which node it is, where the fault is felt.
        even: Whether each kind of fault has its share, not what networks happen to have room for.
    """
    start = time.perf_counter()
    rng = np.random.default_rng([seed, index])
    pair = drawn(rng, samples)
    kinds: Sequence[str] = KINDS
    if faulty and even:
        stage, kind = wanted(rng, stages)
        stages, kinds = (stage,), (kind,)
        pair = _with_room(rng, pair, stages, kinds, samples)
    reference: References = "certified" if rng.random() < 0.5 else "float64"
    try:
        made = (
            _faulty(index, rng, pair, reference, stages, kinds, explain)
            if faulty
            else _sound(index, rng, pair, reference)
        )
    except Exception as error:  # noqa: BLE001 # it is told in the table, and fails the campaign
        made = Trial(index, pair.name, broken=f"{type(error).__name__}: {error}")
    return replace(made, seconds=time.perf_counter() - start)


def _with_room(
    rng: np.random.Generator,
    pair: Pair,
    stages: Sequence[str],
    kinds: Sequence[str],
    samples: float,
) -> Pair:
    """This pair, or the first of some others that has a place for such a fault."""
    for _ in range(TRIES):
        if chosen(rng, pair.posed(), stages, kinds):
            break
        pair = drawn(rng, samples)
    return pair


def measured(problem: Problem, methods: Sequence[str], reference: References) -> Evidence:
    return measure(problem, methods, runs=1, warmup=0, reference=reference)


def _sound(index: int, rng: np.random.Generator, pair: Pair, reference: References) -> Trial:
    methods = METHODS if rng.random() < 0.25 else METHODS[:-1]
    evidence = measured(pair.posed(), methods, reference)
    found = judge(evidence)
    said = _said(found, evidence, evidence)
    return Trial(
        index,
        pair.name,
        reference=reference,
        kinked=_on_kink(evidence),
        matched=found.primal.matches,
        said=said,
        skipped=_skipped(found),
    )


def _faulty(
    index: int,
    rng: np.random.Generator,
    pair: Pair,
    reference: References,
    stages: Sequence[str],
    kinds: Sequence[str],
    asked: bool,
) -> Trial:
    problem = pair.posed()
    fault = chosen(rng, problem, stages, kinds)
    if fault is None:
        return Trial(index, pair.name, stage="none")
    # Without rules that can be wrong, only what is certain can say of a witness that it is.
    if fault.stage == "witness":
        reference = "certified"
    methods: Sequence[str]
    methods = FEW if rng.random() < 0.7 or fault.stage == "witness" else (*FEW, "finite")
    if fault.stage == "reverse" and rng.random() < 0.2:
        methods = tuple(m for m in methods if m != "reverse")  # the reference's own rules only
    sound = measured(problem, ("reverse",), reference)
    if fault.stage == "witness" and not _certified(sound):
        return Trial(index, pair.name, stage="none")
    wrong = fault.planted(problem)
    evidence = measured(wrong, methods, reference)
    found = judge(evidence)
    moved = _moved_file(wrong, sound, pair) if fault.stage == "runtime" else 0.0
    withdrawn = found.reference.kind == found.reference.witness
    made = Trial(
        index,
        pair.name,
        str(fault),
        fault.kind,
        fault.stage,
        reference,
        _on_kink(sound),
        found.primal.matches,
        moved,
        _said(found, evidence, sound),
        GUILTY[fault.stage],
        own=_off_reference(evidence, sound) if withdrawn and fault.stage in IN_RULES else 0.0,
        skipped=_skipped(found),
    )
    if not asked or not made.blames:
        return made
    if made.own < FELT and fault.stage != "runtime" and not _moves(evidence, problem, made):
        return made  # it is rounding that is felt
    return replace(made, named=named(fault, evidence, found, methods))


def _certified(evidence: Evidence) -> bool:
    """Whether everything is certain: then a wrong witness can be told from wrong rules."""
    return truth_of(evidence)[1].kind == "certified" and all(
        np.all(known)
        for known in (evidence.certificate.known.values() if evidence.certificate else ())
    )


def _skipped(found: Comparison) -> dict[str, str]:
    return {m.method: f"{m.status}: {m.reason}" for m in found.methods if m.status != "computed"}


def _on_kink(evidence: Evidence) -> bool:
    return not evidence.survey.is_smooth


# ---- the truth, which the fault does not reach ---------------------------------------------------


def _said(found: Comparison, evidence: Evidence, sound: Evidence) -> tuple[Said, ...]:
    outcomes = {o.method: o for o in evidence.outcomes}
    return tuple(
        Said(
            m.method,
            str(m.verdict),
            str(m.cause or ""),
            _off(
                field_of(evidence, estimate),
                sound,
                tolerance_of(outcomes[m.method]),
                outcomes[m.method],
            ),
            m.dtype,
        )
        for m in found.methods
        if (estimate := outcomes[m.method].estimate) is not None
    )


@np.errstate(all="ignore")
def _off(own: Field, sound: Evidence, rtol: float, outcome: Outcome | None = None) -> float:
    """By how many bands the worst element lies off what is known to be true."""
    truth, _ = truth_of(sound)
    if truth is None:
        return 0.0
    size = min(len(own.value), len(truth.value))
    a = np.full(len(truth.value), np.nan)
    a[:size] = own.value[:size]
    least = least_of(sound, outcome, truth) if outcome is not None else 0.0
    band = band_of(sound, a, truth, rtol, 0.0, least)
    # What float32 has no normal numbers for is nothing to any method.
    gap = gap_of(a, truth.value) - truth.u - UNDERFLOW
    # A value that is no number where the truth is one is off by any measure.
    gap = np.where(~np.isfinite(a) & np.isfinite(truth.value), np.inf, gap)
    if np.any(free := free_on(sound)):
        low, high, sure = conventions_on(sound, 0.0)
        outside = np.where(sure, np.fmax(np.fmax(low - a, a - high), 0.0), 0.0)
        gap = np.where(free, np.where(active_on(sound), outside, np.fmin(gap, outside)), gap)
    known = np.zeros(len(a), bool)
    known[:size] = own.known[:size]
    known &= truth.known & np.isfinite(truth.u)
    # A method that says that it does not know has not been wrong.
    known[:size] &= np.isfinite(own.u[:size])
    excess = np.where(known & ~np.isnan(gap), gap / band, 0.0)
    return float(np.max(excess, initial=0.0))


def _moves(evidence: Evidence, problem: Problem, made: Trial) -> bool:
    """Whether a guilty method says something else without the fault."""
    felt = {s.method for s in made.said if s.method in made.guilty and s.moved >= FELT}
    for outcome in (o for o in evidence.outcomes if o.method in felt and o.estimate):
        estimate = Program(ENGINES[outcome.method], problem).run(evidence.probes)
        right = field_of(evidence, estimate).value
        assert outcome.estimate is not None
        wrong = field_of(evidence, outcome.estimate).value
        if not np.allclose(wrong, right, rtol=RTOL[problem.dtype], atol=0.0, equal_nan=True):
            return True
    return False


def _off_reference(evidence: Evidence, sound: Evidence) -> float:
    """By how many bands the float64 graph that rules make is off."""
    estimate = evidence.reference.estimate
    return _off(field_of(evidence, estimate), sound, RTOL[DType.FLOAT64]) if estimate else 0.0


def _moved_file(wrong: Problem, sound: Evidence, pair: Pair) -> float:
    """By how many bands the derivative of what the faulty runtime computes is another one."""
    assert wrong.model is not None
    there = replace(pair, model=wrong.model).posed()
    there = replace(there, dtype=sound.reference.dtype)
    made = field_of(sound, Program(ENGINES["reverse"], there).run())
    # Less what rounding makes of either: by that much two derivatives that are 0 may differ.
    plain = sound.reference.estimate
    if plain is None or not plain.uncertainty:
        return 0.0
    noise = ROUNDING_FACTOR * field_of(sound, plain).u
    right = field_of(sound, plain).value
    moved = np.where(np.abs(made.value - right) <= 2 * noise, right, made.value)
    return _off(replace(made, value=moved), sound, RTOL[sound.problem.dtype])
