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

A finite difference across a jump of the function (quantisation, rounding, a tree) is a STAIRCASE:
the jump over the step, which grows as 1/h. It neither agrees nor is it at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from gradcli.comparison.advice import advise
from gradcli.comparison.facts import (
    Comparison,
    Judgement,
    Room,
    Subject,
    Verdict,
)
from gradcli.comparison.field import RTOL, Field
from gradcli.comparison.method import judgement_of, not_against_itself
from gradcli.comparison.primal import primal_of
from gradcli.comparison.sweep import sweeps_of
from gradcli.comparison.truth import active_on, kinks_of, truth_of
from gradcli.engines.base import Evidence
from gradcli.graph import DType
from gradcli.problem import Problem

AtKink = Literal["report", "skip", "fail", "nudge"]
"""What becomes of elements on an active kink: a verdict of their own, none, or the exit code 1; or
the point is moved off its kinks before anything is measured."""


@np.errstate(all="ignore")
def judge(
    evidence: Evidence,
    rtol: float | None = None,
    atol: float = 0.0,
    at_kink: AtKink = "report",
) -> Comparison:
    """Hold every method against the best reference there is.

    Args:
        evidence: What was measured.
        rtol: Relative tolerance for all methods; default by each one's arithmetic (RTOL).
        atol: Absolute tolerance.
        at_kink: What becomes of elements on an active kink.
    """
    problem = evidence.problem
    primal = primal_of(evidence)
    truth, reference = truth_of(evidence)
    active = active_on(evidence)
    kinks = kinks_of(evidence, active)
    left_out = active & (at_kink == "skip")
    methods = tuple(
        not_against_itself(
            judgement_of(evidence, outcome, primal, truth, rtol, atol, left_out), reference
        )
        for outcome in evidence.outcomes
    )
    counts = _counts(methods)
    confirmed = truth is not None and bool(reference.confirmed)
    decided = primal.matches and (confirmed or not reference.elements)
    verdict, exit_code = _overall(counts, decided)
    if at_kink == "fail" and np.any(active):
        exit_code = 1
    if np.any(left_out) and verdict is Verdict.INCONCLUSIVE and not exit_code:
        exit_code = 3
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
        (
            *problem.notes,
            *_sample_notes(evidence),
            *_kink_notes(evidence, active, at_kink),
            *_sweep_notes(evidence, truth),
            *evidence.notes,
        ),
        counts,
        verdict,
        exit_code,
        (*evidence.unsteady, *(u for o in evidence.outcomes for u in o.unsteady)),
        tuple(
            Room(wrt, r.distance, r.near.node, r.near.op, r.near.index, r.near.margin, r.estimated)
            for wrt, r in evidence.survey.reach.items()
        ),
        sweeps=sweeps_of(evidence, truth),
        unfinished=evidence.unfinished,
        environment=evidence.environment,
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


def _kink_notes(evidence: Evidence, active: np.ndarray, at_kink: AtKink) -> tuple[str, ...]:
    problem = evidence.problem
    elements = sum(int(np.prod(problem.block_shape(key))) for key in problem.keys)
    count = int(np.sum(active[:elements]))
    if not count or at_kink not in ("skip", "fail"):
        return ()
    are = f"{count:,} of {elements:,} elements {'lies' if count == 1 else 'lie'} on an active kink"
    done = "and nothing is claimed of them" if at_kink == "skip" else "which is asked to fail"
    return (f"{are}, {done} (--at-kink {at_kink})",)


def _counts(methods: tuple[Judgement, ...]) -> dict[str, int]:
    counts = {str(v): sum(m.verdict is v for m in methods) for v in Verdict}
    counts["skipped"] = sum(m.status == "skipped" for m in methods)
    counts["failed"] = sum(m.status == "failed" for m in methods)
    return counts


def _overall(counts: Mapping[str, int], decided: bool) -> tuple[Verdict, int]:
    """The verdict on the whole and its exit code; a method that broke is never passed over."""
    broken = 70 if counts["failed"] else 0
    if counts[Verdict.DISAGREE]:
        return Verdict.DISAGREE, 1
    if not decided:
        return Verdict.INCONCLUSIVE, broken or 3
    for verdict in (Verdict.KINK, Verdict.AGREE):
        if counts[verdict]:
            return verdict, broken
    if counts[Verdict.STAIRCASE]:
        return Verdict.STAIRCASE, broken or 3
    return Verdict.INCONCLUSIVE, broken


def _sample_notes(evidence: Evidence) -> list[str]:
    probes = evidence.probes
    if probes is None:
        return []
    taken = [o.method for o in evidence.outcomes if o.sampled]
    if not taken:
        return []
    parts = [
        f"{len(v)} of {int(np.prod(evidence.problem.shape(k))):,} coordinates of {k}"
        for k, v in probes.wrt.items()
    ]
    along = f" and {probes.directions} random directions" if probes.directions else ""
    drawn = f"at most {', '.join(parts)}{along} (seed {evidence.problem.seed})"
    return [f"sampled by {', '.join(taken)}: {drawn}; their times are the sample's"]


def _sweep_notes(evidence: Evidence, truth: Field | None) -> list[str]:
    unknown = "there is no reference" if evidence.swept and truth is None else ""
    return [f"no sweep: {why}" for why in (evidence.unswept, unknown) if why]


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
