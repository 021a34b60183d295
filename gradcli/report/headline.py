"""The answer in one sentence: the first line of every report for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradcli.comparison import Cause, Comparison, Judgement, Reference, Verdict, Worst
from gradcli.report.cells import Fact, Tone, apart, listed_names, scientific, tally, value

GRAVITY = (Cause.RULE, Cause.RUNTIME, Cause.STEP, Cause.ROUNDING)
"""Causes of a disagreement, the gravest first."""

TONES: dict[Verdict, Tone] = {Verdict.AGREE: "good", Verdict.DISAGREE: "bad"}


def verdict_tone(verdict: Verdict) -> Tone:
    """How a verdict sounds."""
    return TONES.get(verdict, "odd")


def headline(c: Comparison) -> Fact:
    """The verdict, and why in a sentence: the worst element and its node, the exit code."""
    told = c.verdict if c.primal.matches else None
    others = {name: n for name, n in c.counts.items() if n and name != told}
    rest = f"; {tally(others)}" if others else ""
    text = f"{_sentence(c)}{rest} (exit {c.exit_code})"
    return Fact(str(c.verdict), text, verdict_tone(c.verdict))


def _sentence(c: Comparison) -> str:
    computed = [j for j in c.methods if j.status == "computed"]
    if empty := [j.detail for j in computed if j.verdict is None]:
        return empty[0]
    lost = next((k for k in c.kinks if k.kind == "lost"), None)
    if not c.primal.matches and lost is not None and not math.isfinite(c.primal.max_abs_error):
        return f"numbers are lost at node {lost.node} ({lost.op}): {lost.what}"
    if not c.primal.matches:
        return "gradcli and onnxruntime compute different outputs from this file"
    if not c.methods:
        return "no method was run"
    concerned = [j for j in computed if j.verdict is c.verdict]
    if c.verdict is Verdict.AGREE:
        nothing = ", which is 0 here" if any(map(all_zero, concerned)) else ""
        return f"{_methods(concerned)} with {_trusted(c.reference)}{nothing}"
    if not concerned:
        return "nothing could be decided"
    if c.verdict is Verdict.DISAGREE:
        several = f"{_methods(concerned)}; " if len(concerned) > 1 else ""
        return several + _worst(min(concerned, key=_gravity))
    if c.verdict is Verdict.KINK:
        return _kink(c, concerned)
    if c.verdict is Verdict.STAIRCASE:
        return "the function jumps here, and a difference across a jump measures no derivative"
    return f"nothing could be decided by {listed_names(j.method for j in concerned)}"


def _methods(methods: Sequence[Judgement]) -> str:
    """Three methods agree; one of them by its name."""
    word = "agree" if methods[0].verdict is Verdict.AGREE else "disagree"
    if len(methods) == 1:
        return f"{methods[0].method} {word}s"
    return f"{len(methods)} methods {word}"


def _trusted(r: Reference) -> str:
    """What they agree with, in few words."""
    if r.kind == "certified":
        return "the certified derivative"
    if r.witness and r.witness != r.kind:
        return f"{r.kind} and {r.witness}"
    return r.kind


def all_zero(j: Judgement) -> bool:
    """Whether a method has looked at every element, and the reference of each is zero within u."""
    return not j.sampled and 0 < sum(j.counts.values()) == j.zero


def _gravity(j: Judgement) -> tuple[int, float]:
    grave = GRAVITY.index(j.cause) if j.cause in GRAVITY else len(GRAVITY)
    return grave, -(j.max_rel_error or 0.0)


def _worst(j: Judgement) -> str:
    """How far off the worst of them is, where, and by whose fault."""
    off = ""
    if j.worst is None:
        off = "" if j.max_rel_error is None else f" by {scientific(j.max_rel_error)} relative"
    elif j.worst.reference and math.isfinite(j.worst.reference) and math.isfinite(j.worst.value):
        relative = abs(j.worst.value / j.worst.reference - 1.0)
        off = f" by {scientific(relative)} relative"
    at = f" at {place(j.worst)}: {apart(j.worst.value, j.worst.reference)}" if j.worst else ""
    node = f", node {j.worst.node}" if j.worst and j.worst.node else ""
    cause = f", cause {j.cause}" if j.cause else ""
    return f"{j.method} is off{off}{at}{node}{cause}"


def _kink(c: Comparison, concerned: Sequence[Judgement]) -> str:
    """What the derivative is on both sides, or that only conventions make two of one."""
    active = [k for k in c.kinks if k.active and k.kind == "kink"]
    if not active:
        return (
            f"only conventions at ties differ here, in {listed_names(j.method for j in concerned)}"
        )
    if leaps := next((k for k in active if k.what), None):
        return f"an output jumps here, at node {leaps.node} ({leaps.op})"
    two = "the derivative has two sides here"
    jump = next(((k, k.jump) for k in active if k.jump), None)
    if jump is None:
        return two
    kink, j = jump
    at = f"{j.name}[{', '.join(map(str, j.index))}]" if j.index else j.name
    return f"{two}: {at} is {value(j.below)} or {value(j.above)}, by node {kink.node} ({kink.op})"


def place(w: Worst) -> str:
    """The name of an element, or of what it stands for."""
    return f"{w.name}[{', '.join(map(str, w.index))}]" if w.index else w.name or "a direction"
