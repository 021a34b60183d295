"""A Comparison as cells and sentences, made once: every human format only lays them out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from gradcli.comparison import (
    FLOOR,
    Cause,
    Comparison,
    Judgement,
    Primal,
    Reference,
    Subject,
    Verdict,
    Worst,
)
from gradcli.engines.base import Unsteady
from gradcli.problem import DRAWN
from gradcli.report.cells import (
    ABSENT,
    LISTED,
    Column,
    Fact,
    Row,
    Tone,
    apart,
    axis,
    bar,
    listed_names,
    ratio,
    scientific,
    seconds,
    tally,
    tensor,
    value,
)
from gradcli.report.headline import all_zero, headline, place, verdict_tone
from gradcli.report.kinks import kinks_near
from gradcli.report.nodes import blame_row, explained, listed

DIGITS = 16.0
"""Correct digits that fill a bar: those of float64."""

Detail = Literal["quiet", "normal", "verbose"]
"""How much is said: the headline; what matters; everything."""


def columns(c: Comparison) -> tuple[Column, ...]:
    """The columns of the table of methods; bars of time reach to the next power of ten."""
    return (
        Column("method", ("method",), "both", right=False),
        Column("verdict", ("verdict",), "accuracy", right=False),
        Column("dtype", ("in",), "accuracy", right=False),
        Column("digits", ("correct", "digits"), "accuracy"),
        Column("digits_bar", (axis("0", f"{DIGITS:.0f}"),), "accuracy", right=False, bar=True),
        Column("error", ("max rel", "error"), "accuracy"),
        Column("uncertainty", ("u",), "accuracy"),
        Column("evaluations", ("evalu-", "ations"), "cost"),
        Column("prepare", ("prepare",), "cost"),
        Column("run", ("run",), "cost"),
        Column("times_forward", ("×", "forward"), "cost"),
        Column("time_bar", (axis("1", f"1e{_decades(c)}"),), "cost", right=False, bar=True),
    )


def _decades(c: Comparison) -> int:
    """Powers of ten that the slowest method is above a forward pass; at least one."""
    slowest = max((j.times_forward or 1.0 for j in c.methods), default=1.0)
    return max(1, math.ceil(math.log10(slowest))) if math.isfinite(slowest) else 1


@dataclass(frozen=True)
class Screen:
    """All that a report for people says, in order.

    Attributes:
        headline: The verdict, and why.
        above: What was differentiated, and what the methods were held against.
        columns: Of the table of methods.
        rows: The methods.
        nodes: The nodes that an error comes from, worst first; empty where that was not asked for.
        beside: What is said of those.
        below: What is odd, and last the advice.
        points: Of several points, what came of those where something is wrong.
    """

    headline: Fact
    above: tuple[Fact, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    below: tuple[Fact, ...]
    nodes: tuple[Row, ...] = ()
    beside: tuple[Fact, ...] = ()
    points: tuple[Fact, ...] = ()


def screen(
    comparison: Comparison, detail: Detail = "normal", *, failures_only: bool = False
) -> Screen:
    """The whole report.

    Args:
        comparison: What to say.
        detail: How much of it.
        failures_only: Whether methods that agree, or were skipped, are left out, and the advice.
    """
    c = comparison
    methods = [j for j in c.methods if not failures_only or _fails(j)]
    decades = _decades(c)
    return Screen(
        headline(c),
        tuple(_above(c, detail)),
        columns(c),
        tuple(row(j, decades) for j in methods),
        tuple(_below(c, methods, detail, advised=not failures_only)),
        tuple(map(partial(blame_row, comparison.explanation), listed(comparison.explanation))),
        tuple(explained(comparison)),
        tuple(_points(c, detail)),
    )


# ---- the table -----------------------------------------------------------------------------------


def _fails(j: Judgement) -> bool:
    return j.status == "failed" or j.verdict not in (None, Verdict.AGREE)


def row(judgement: Judgement, decades: int = 1) -> Row:
    """The cells of one method; a full bar of time is ten to the power of `decades`."""
    j = judgement
    computed = j.status == "computed"
    cells = {
        "method": j.method,
        "verdict": str(j.verdict) if j.verdict else j.status,
        "dtype": j.dtype if computed else ABSENT,
        "digits": ABSENT if j.correct_digits is None else f"{j.correct_digits:.1f}",
        "digits_bar": "" if j.correct_digits is None else bar(j.correct_digits / DIGITS),
        "error": scientific(j.max_rel_error),
        "uncertainty": scientific(j.uncertainty),
        "evaluations": str(j.evaluations) if computed else ABSENT,
        "prepare": seconds(j.prepare),
        "run": seconds(j.run.median if j.run else None),
        "times_forward": ratio(j.times_forward),
        "time_bar": bar(math.log10(j.times_forward) / decades) if j.times_forward else "",
    }
    return Row(cells, _tone(j))


def _tone(j: Judgement) -> Tone:
    if j.status == "failed":
        return "bad"
    if j.verdict is None:
        return "faint"
    return verdict_tone(j.verdict)


# ---- what was asked ------------------------------------------------------------------------------


def points_sentence(c: Comparison) -> str:
    """At how many points what came out, and at which of them it is what this report shows."""
    counts = Counter(str(at.comparison.verdict) for at in c.points)
    listed = ", ".join(f"{n:,} {verdict}" for verdict, n in sorted(counts.items()))
    label = c.points[c.worst_point].label
    return f"{len(c.points):,}: {listed}; what follows is of the worst, {label}"


def _above(c: Comparison, detail: Detail) -> Iterator[Fact]:
    s = c.subject
    yield Fact("model", f"{s.path}  (sha256 {s.sha256[:12]})")
    yield Fact("question", question(s))
    if c.points:
        yield Fact("points", points_sentence(c))
    for note in c.notes:
        yield Fact("note", note, "odd")
    if detail == "verbose":
        yield Fact("between", _between(s))
        yield Fact("arithmetic", _arithmetic(s))
    yield _primal(c.primal)
    yield _reference(c.reference)


def _points(c: Comparison, detail: Detail) -> Iterator[Fact]:
    """What came of the points where something is wrong, each in a line; of all in detail."""
    told = [at for at in c.points if detail == "verbose" or at.comparison.exit_code]
    for at in told if detail == "verbose" else told[:LISTED]:
        said = headline(at.comparison)
        yield Fact("points", f"{at.label}: {said.label}  {said.text}", said.tone)
    if detail != "verbose" and (more := len(told) - LISTED) > 0:
        yield Fact("points", f"and {more:,} more like these; -v lists all, and so do CSV and JSON")


def question(s: Subject) -> str:
    """What was differentiated, as a sentence."""
    of = f"the output {listed_names(tensor(n, d) for n, d in s.of.items())}"
    wrt = f"the input {listed_names(tensor(n, d) for n, d in s.wrt.items())}"
    sentence = f"the derivative of {of} with respect to {wrt}"
    return {
        "gradient": f"gradient: {sentence}",
        "jacobian": f"Jacobian: {sentence}, element by element",
        "jvp": f"jvp: {sentence}, along a tangent of the input",
        "vjp": f"vjp: {sentence}, summed with a cotangent of the output",
    }[s.operator]


def _between(s: Subject) -> str:
    nodes = f"{s.nodes:,} operator{'s' * (s.nodes != 1)}"
    return f"{nodes} and {s.parameters:,} constants; seed {s.seed}"


def _arithmetic(s: Subject) -> str:
    threads = f"{s.threads} thread{'s' * (s.threads != 1)}"
    rtol = ", ".join(f"{scientific(tolerance)} in {dtype}" for dtype, tolerance in s.rtol.items())
    own = f"{s.dtype} on {s.provider.removesuffix('ExecutionProvider')}, {threads}"
    return f"{own}; tolerances {rtol}, and {scientific(s.atol)} absolute"


def _primal(p: Primal) -> Fact:
    where = f" in {p.output}" if p.output else ""
    forward = f"; one forward pass takes {seconds(p.forward.median)}" if p.forward else ""
    if p.matches:
        close = (
            f"to {scientific(p.max_rel_error)} relative{where}" if p.max_rel_error else "exactly"
        )
        return Fact("primal", f"matches onnxruntime {close}{forward}")
    reason = f": {p.reason}" if p.reason else ""
    if not math.isfinite(p.max_abs_error):
        return Fact("primal", f"CANNOT BE HELD AGAINST onnxruntime{reason}", "bad")
    errors = f"off by {scientific(p.max_abs_error)} ({scientific(p.max_rel_error)} relative){where}"
    return Fact("primal", f"DOES NOT MATCH onnxruntime, {errors}{reason}", "bad")


LONGER = "raise --budget, or ask for less with --wrt, --of or --operator vjp"
"""What helps where no witness had the time."""


def _reference(r: Reference) -> Fact:
    reason = f": {r.reason}" if r.reason else ""
    if not r.elements:
        return Fact("reference", "none is needed: the derivative has no elements")
    if r.kind == "none":
        helps = f"; {LONGER}" if r.reason.startswith("out of time") else ""
        return Fact("reference", f"none{reason}{helps}", "odd")
    if r.kind == "certified":
        return Fact("reference", f"certified: {_certified(r)}{reason.replace(':', ';', 1)}")
    # A witness that stands in for a reference is confirmed by nobody.
    by = f", confirmed by {r.witness}" if r.witness != r.kind else ""
    confirmed = f"{by} on {r.confirmed:,} of {r.elements:,} elements" if r.witness else ""
    certain = f"; not certified: {r.uncertified}" if r.uncertified else ""
    text = f"{r.kind}{confirmed}{reason}{certain}"
    return Fact("reference", text, "odd" if r.reason else "plain")


def _certified(r: Reference) -> str:
    """How certain: the saved function in exact arithmetic, enclosed, and no rule believed."""
    digits = f"{math.floor(r.digits)} digits" if math.isfinite(r.digits) else "exactly"
    opened = f"; open which way {listed_names(r.opened)} goes" if r.opened else ""
    return (
        f"{r.confirmed:,} of {r.elements:,} elements of the saved function in exact arithmetic,"
        f" {digits} at {r.bits} bits, confirmed by power series of the primal{opened}"
    )


# ---- what came of it -----------------------------------------------------------------------------


MEANINGS = {
    Verdict.AGREE: "right to within the tolerance, for certain (u: by how much the number and the"
    " reference may be off)",
    Verdict.KINK: "the derivative has two sides here, and each value between them is a convention",
    Verdict.STAIRCASE: "the function jumps: a difference across a jump is no derivative",
    Verdict.INCONCLUSIVE: "neither right nor wrong is claimed: raise --budget, widen --rtol, or"
    " take another method",
}
"""What the verdicts say of a method's numbers; of DISAGREE its cause says it."""

CAUSES = {
    Cause.RULE: "a rule of differentiation is wrong: report it, and do not use the number",
    Cause.RUNTIME: "a kernel of the runtime spoils it: --explain names the node",
    Cause.ROUNDING: "the network loses digits in this width: ask with --dtype float64; --explain"
    " says where",
    Cause.STEP: "the finite difference's step does not suit: leave out --step, or look at --sweep",
}


def _meanings(methods: Sequence[Judgement]) -> Iterator[Fact]:
    """What each verdict that was given means, and what to do about it."""
    verdicts = {j.verdict for j in methods}
    causes = {j.cause for j in methods if j.verdict is Verdict.DISAGREE}
    for cause, text in CAUSES.items():
        if cause in causes:
            yield Fact("means", f"{Verdict.DISAGREE}, cause {cause}: wrong; {text}")
    if None in causes:
        yield Fact("means", f"{Verdict.DISAGREE}: wrong, by more than all that is not known")
    for verdict, text in MEANINGS.items():
        if verdict in verdicts:
            yield Fact("means", f"{verdict}: {text}")


def _below(
    c: Comparison, methods: Sequence[Judgement], detail: Detail, *, advised: bool
) -> Iterator[Fact]:
    yield from _grouped(methods, detail)
    yield from _meanings(methods)
    yield from kinks_near(c.kinks, c.room)
    yield from (Fact("note", unsteady_sentence(u), "odd") for u in c.unsteady)
    if c.unfinished:
        yield Fact("missing", f"interrupted before {listed_names(c.unfinished)}", "odd")
    if advised:
        yield from (Fact("advice", text) for text in _elsewhere(c))
        yield from (Fact("advice", advice.text) for advice in c.advice)
        yield from (Fact("advice", text) for text in _numbers_by(c))


def _elsewhere(c: Comparison) -> Iterator[str]:
    """That zeros at a random point are those of that point, where kinks are within reach."""
    if c.room and any(map(all_zero, c.methods)) and any(DRAWN in note for note in c.notes):
        yield "the derivative is 0 at this random point, and need not be at yours: --input FILE"


def _numbers_by(c: Comparison) -> Iterator[str]:
    """How to get the derivative itself, by a method that is to be trusted: reverse if it is."""
    trusted = [j for j in c.methods if j.verdict in (Verdict.AGREE, Verdict.KINK)]
    coarse = [j.method for j in c.methods if j.cause is Cause.ROUNDING and j.dtype == "float32"]
    if any(j.method == "reverse" for j in trusted):
        also = ""
    elif "reverse" in coarse:
        also = " and --dtype float64"
    elif trusted:
        best = max(trusted, key=lambda j: (not j.sampled, j.correct_digits or 0.0))
        also = f" and --method {best.method}"
    else:
        return
    yield f"the derivative itself: gradcli grad, with the same model and options{also}"


REMARKS = (*map(str, Verdict), "failed", "skipped", "zero", "small", "way", "note")
"""Labels of what is said of single methods, in order; under a label, methods keep theirs."""


def _grouped(methods: Sequence[Judgement], detail: Detail) -> Iterator[Fact]:
    """Remarks by label; methods of which the same is said share one."""
    groups: dict[Fact, list[str]] = {}
    for j in methods:
        for remark in _remarks(j, detail):
            groups.setdefault(remark, []).append(j.method)
    said = [Fact(f.label, f"{', '.join(who)}: {f.text}", f.tone) for f, who in groups.items()]
    said += _small(methods)
    yield from sorted(said, key=lambda fact: REMARKS.index(fact.label))


def _remarks(j: Judgement, detail: Detail) -> Iterator[Fact]:
    """What is said of a method, without its name; of one that agrees, less."""
    if j.status != "computed":
        yield Fact(j.status, j.reason, _tone(j))
        return
    if j.verdict is not None and j.verdict is not Verdict.AGREE:
        yield Fact(str(j.verdict), why(j), _tone(j))
    if j.max_rel_error is None and j.max_abs_error is not None and not all_zero(j):
        yield Fact("zero", "every element of the reference is zero within u")
    whole = detail == "verbose" or j.verdict is not Verdict.AGREE
    if j.level and detail == "verbose":
        yield Fact("way", j.level)
    for note in dict.fromkeys(j.notes) if whole else ():
        yield Fact("note", note)


def _small(methods: Sequence[Judgement]) -> Iterator[Fact]:
    """Of methods that agree with a relative error beyond their tolerance: whose error that is."""
    judged = [
        f"{j.method} {scientific(j.needed_rtol)}"
        for j in methods
        if j.verdict is Verdict.AGREE
        and j.max_rel_error is not None
        and j.rtol
        and j.max_rel_error > j.rtol * (1.0 + 2.0 * j.rtol)
    ]
    if judged:
        yield Fact(
            "small",
            "next to 0 a max rel error is large and tells nothing; relative to at least"
            f" {scientific(FLOOR)} of the largest, as verdicts take it: {', '.join(judged)}",
        )


def why(j: Judgement) -> str:
    """Why a method has its verdict, in a sentence: the cause, the worst element, how many."""
    parts = []
    if j.cause or j.detail:
        cause = f"cause {j.cause}" if j.cause else ""
        parts.append(f"{cause} ({j.detail})" if cause and j.detail else cause or j.detail)
    elif j.verdict is Verdict.INCONCLUSIVE:
        told = sum(j.counts.values())
        parts.append(
            "its uncertainty u is too large to tell"
            if told
            else "computed no element that was confirmed"
        )
    if j.worst:
        parts.append(_where(j.worst))
    if len(j.parts) > 1:
        parts.append(f"in {listed_names(p.name for p in j.parts if p.verdict is j.verdict)}")
    if j.cause not in (Cause.RULE, Cause.RUNTIME) and j.needed_rtol is not None:
        parts.extend(_needed(j.needed_rtol, j.rtol or 0.0))
    if elements := tally(j.counts):
        parts.append(f"elements: {elements}")
    return "; ".join(parts)


WORTH_ASKING = 0.1
"""A tolerance beyond which nothing is told by passing it."""


def _needed(rtol: float, given: float) -> Iterator[str]:
    if given < rtol <= WORTH_ASKING:
        mantissa, exponent = f"{rtol:.6e}".split("e")
        # Up, or what is printed would not do.
        yield f"--rtol {math.ceil(float(mantissa) * 10) / 10:.1f}e{int(exponent)} would pass it"


def _where(w: Worst) -> str:
    """The worst element; on a kink, the convention that the method takes there."""
    at, node = place(w), f", node {w.node}" if w.node else ""
    if w.sides is None:
        return f"worst at {at}: {apart(w.value, w.reference)}{node}"
    left, right = map(value, w.sides)
    lies = "between" if min(w.sides) <= w.value <= max(w.sides) else "beside"
    two = f"{left} and {right}" if left != right else f"{left} on both sides"
    return f"{value(w.value)} at {at}{node}, {lies} one-sided {two}"


def unsteady_sentence(u: Unsteady) -> str:
    """Which program does not always give the same results, and by how much they differ."""
    who = "the file's own forward pass" if u.program == "primal" else u.program
    own, other = u.threads
    how = (
        "gives other results when it is run again"
        if own == other
        else f"gives other results on {other} thread{'s' * (other != 1)} than on {own}"
    )
    at = f"{u.name}[{', '.join(map(str, u.index))}]" if u.index else u.name
    many = f"{u.elements:,} element{'s' * (u.elements != 1)}"
    return (
        f"{who} {how}: {many}, by at most {scientific(u.max_abs)} (at {at}),"
        f" {scientific(u.max_rel)} relative"
    )
