"""A Comparison as cells and sentences, made once: every human format only lays them out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from gradcli.comparison import (
    Blame,
    Cause,
    Comparison,
    Explanation,
    Formula,
    Judgement,
    Jump,
    KinkAt,
    Primal,
    Reference,
    Room,
    Subject,
    Sweep,
    Verdict,
    What,
    Worst,
)
from gradcli.engines.base import Unsteady

Tone = Literal["plain", "good", "bad", "odd", "faint"]
"""How a cell or a sentence should sound; formats without colour ignore it."""

ABSENT = "–"
LISTED = 8
"""Kinks and names beyond this many are counted, not listed; the JSON has all of them."""

NEAR = 1e-6
"""How near a kink or a domain edge must be to be odd, in units of its operand."""


@dataclass(frozen=True)
class Column:
    """One column of the table of methods.

    Attributes:
        key: What it is called in code.
        heading: Its heading, in up to two parts that may stand above each other.
        side: What it is about, for layouts that need two narrower tables.
        right: Whether its cells are numbers, aligned at their ends.
    """

    key: str
    heading: tuple[str, ...]
    side: Literal["both", "accuracy", "cost"]
    right: bool = True

    @property
    def name(self) -> str:
        """The heading in one line."""
        return " ".join(self.heading).replace("- ", "")


COLUMNS = (
    Column("method", ("method",), "both", right=False),
    Column("verdict", ("verdict",), "accuracy", right=False),
    Column("digits", ("correct", "digits"), "accuracy"),
    Column("error", ("max rel", "error"), "accuracy"),
    Column("uncertainty", ("u",), "accuracy"),
    Column("evaluations", ("evalu-", "ations"), "cost"),
    Column("prepare", ("prepare",), "cost"),
    Column("run", ("run",), "cost"),
    Column("times_forward", ("×", "forward"), "cost"),
)


BLAMED = (
    Column("share", ("share of", "the error"), "both"),
    Column("ulps", ("result", "off, ulp"), "both"),
    Column("error", ("slope", "off by"), "both"),
    Column("condition", ("condi-", "tion"), "both"),
    Column("what", ("what it is",), "both", right=False),
    Column("node", ("node",), "both", right=False),
)

NODES = 10
"""Nodes beyond this many are not listed; the JSON has all of them."""

TOLD = 3
"""Of so many nodes it is said what to do."""

SMALL = 0.02
"""The share of an error below which it is not said of a node what to do."""


@dataclass(frozen=True)
class Row:
    """One method, or one node: a cell for every column, by its key."""

    cells: Mapping[str, str]
    tone: Tone


@dataclass(frozen=True)
class Fact:
    """One labelled sentence."""

    label: str
    text: str
    tone: Tone = "plain"


@dataclass(frozen=True)
class Screen:
    """All that a report for people says, in order.

    Attributes:
        above: What was differentiated, and what the methods were held against.
        rows: The methods.
        nodes: The nodes that an error comes from, worst first; empty where that was not asked for.
        beside: What is said of those.
        below: What is odd, the advice, and last the verdict.
    """

    above: tuple[Fact, ...]
    rows: tuple[Row, ...]
    below: tuple[Fact, ...]
    nodes: tuple[Row, ...] = ()
    beside: tuple[Fact, ...] = ()


def screen(comparison: Comparison) -> Screen:
    """The whole report."""
    return Screen(
        tuple(_above(comparison)),
        tuple(row(judgement) for judgement in comparison.methods),
        tuple(_below(comparison)),
        tuple(map(partial(blame_row, comparison.explanation), listed(comparison.explanation))),
        tuple(_explained(comparison)),
    )


# ---- numbers as text -----------------------------------------------------------------------------


def scientific(x: float | None) -> str:
    """Two digits and the shortest exponent: 1.2e-7."""
    if x is None:
        return ABSENT
    if x == 0 or not math.isfinite(x):
        return f"{x:.0f}"
    mantissa, exponent = f"{x:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def seconds(t: float | None) -> str:
    """Three digits and a unit: 12.3 µs, 1.50 ms, 250 s."""
    if t is None:
        return ABSENT
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if t * scale >= 0.9995:
            return f"{_three(t * scale)} {unit}"
    return f"{t * 1e9:.0f} ns"


def _three(x: float) -> str:
    """Three digits of a number of at least 1, which rounding may have brought to the next ten."""
    decimals = 2 if x < 9.995 else 1 if x < 99.95 else 0
    return f"{x:.{decimals}f}"


def ratio(x: float | None) -> str:
    """Two decimals while they matter, none when they do not."""
    if x is None:
        return ABSENT
    if not math.isfinite(x) or x >= 99.95:
        return f"{x:.0f}"
    return f"{x:.1f}" if x >= 9.995 else f"{x:.2f}"


def value(x: float) -> str:
    """As many digits as tell a float32 from its neighbours."""
    return f"{x:.9g}"


def apart(x: float, reference: float) -> str:
    """Two numbers, with as many digits as tell them apart."""
    texts = value(x), value(reference)
    if texts[0] == texts[1] and x != reference:
        texts = f"{x:.17g}", f"{reference:.17g}"
    return f"{texts[0]} against {texts[1]}"


def tensor(name: str, shape: Sequence[int]) -> str:
    """A name and its shape, which never breaks at the end of a line: x (1×2)."""
    return f"{name} ({'×'.join(map(str, shape))})" if shape else name


# ---- the table -----------------------------------------------------------------------------------


def row(judgement: Judgement) -> Row:
    """The cells of one method."""
    j = judgement
    computed = j.status == "computed"
    cells = {
        "method": j.method,
        "verdict": str(j.verdict) if j.verdict else j.status,
        "digits": ABSENT if j.correct_digits is None else f"{j.correct_digits:.1f}",
        "error": scientific(j.max_rel_error),
        "uncertainty": scientific(j.uncertainty),
        "evaluations": str(j.evaluations) if computed else ABSENT,
        "prepare": seconds(j.prepare),
        "run": seconds(j.run.median if j.run else None),
        "times_forward": ratio(j.times_forward),
    }
    return Row(cells, _tone(j))


def _tone(j: Judgement) -> Tone:
    if j.status == "failed":
        return "bad"
    if j.verdict is None:
        return "faint"
    return _verdict_tone(j.verdict)


def _verdict_tone(verdict: Verdict) -> Tone:
    tones: dict[Verdict, Tone] = {Verdict.AGREE: "good", Verdict.DISAGREE: "bad"}
    return tones.get(verdict, "odd")


# ---- the nodes -----------------------------------------------------------------------------------


def listed(e: Explanation | None) -> tuple[Blame, ...]:
    """The nodes to list: the worst ones, and none that add nothing."""
    if e is None:
        return ()
    return tuple(b for b in e.nodes[:NODES] if b.what is not What.EXACT)


def blame_row(e: Explanation | None, b: Blame) -> Row:
    """The cells of one node."""
    share = b.shares.get(e.method) if e else None
    own = b.errors.get(e.method) if e else None
    op = f"{b.op}: {b.inner}" if b.inner else b.op
    cells = {
        "share": percent(share),
        "ulps": scientific(b.ulps) if b.ulps >= 1000 else f"{b.ulps:.1f}",
        "error": scientific(max(b.errors.values(), default=None) if own is None else own),
        "condition": scientific(b.condition) if b.condition >= 1000 else f"{b.condition:.1f}",
        "what": str(b.what),
        "node": f"{b.node} ({op})",
    }
    return Row(cells, _blame_tone(b))


def percent(x: float | None) -> str:
    """Per cent, with a decimal while they are few."""
    if x is None:
        return ABSENT
    if abs(x) >= 100:
        return f"{scientific(100 * x)} %"
    return f"{100 * x:.1f} %" if abs(x) < 0.0995 else f"{100 * x:.0f} %"


def _blame_tone(b: Blame) -> Tone:
    if b.what in (What.RULE, What.KERNEL):
        return "bad"
    return "plain" if b.what is What.ROUNDING else "odd"


def _explained(c: Comparison) -> Iterator[Fact]:
    """What the table is of, and what to do."""
    if (e := c.explanation) is None:
        return
    yield Fact("explained", _followed(c, e))
    if (more := len(e.nodes) - len(listed(e))) > 0:
        yield Fact("explained", f"{more:,} more node{'s' * (more > 1)} in --format json")
    for b in [b for b in listed(e) if b.todo and _stands_out(c, e, b)][:TOLD]:
        yield Fact("to do", f"{b.node}: {b.todo}", _blame_tone(b))
    for note in e.notes:
        yield Fact("note", note, "odd")


def _followed(c: Comparison, e: Explanation) -> str:
    """The number whose error it is, and whether the nodes add up to it."""
    error, part = e.errors.get(e.method), e.explained.get(e.method)
    verdict = _verdict_on(c, e.method)
    what = f"{e.of} by {e.method}" if e.method and e.method != "outputs" else e.of
    if verdict is Verdict.KINK:
        return f"{what}: on a kink, where a convention is no error"
    if error is None:
        return f"{what}: shares are of all that the nodes add"
    off = f"{what}, which is off by {scientific(abs(error))}"
    if verdict is Verdict.AGREE:
        return f"{off}: rounding"
    return off + (f"; to first order the nodes make {percent(part)} of that" if part else "")


def _verdict_on(c: Comparison, method: str) -> Verdict | None:
    return next((m.verdict for m in c.methods if m.method == method), None)


def _stands_out(c: Comparison, e: Explanation, b: Blame) -> bool:
    if b.what not in (What.ROUNDING, What.STAIRCASE, What.CANCELLATION):
        return True
    matters = _verdict_on(c, e.method) is not Verdict.AGREE
    return matters and abs(b.shares.get(e.method) or 0.0) >= SMALL


# ---- the sweep -----------------------------------------------------------------------------------

SWEEP_COLUMNS = (
    Column("method", ("method",), "both", right=False),
    Column("best_step", ("best", "step"), "both"),
    Column("best_error", ("its", "error"), "both"),
    Column("textbook_step", ("textbook", "step"), "both"),
    Column("textbook_error", ("its", "error"), "both"),
    Column("order", ("falls", "as"), "both"),
    Column("kink", ("kinks", "from"), "both"),
)
"""Of the table of a sweep."""

ON_IT = 1e-10
"""Steps so short that a kink which they cross is where the point is, or as good as there."""


def sweep_rows(sweep: Sweep) -> tuple[Row, ...]:
    """The two formulas and the ladder."""
    ladder = {
        "method": "finite (ladder)",
        "best_step": scientific(sweep.ladder_step),
        "best_error": scientific(sweep.ladder_error),
        **dict.fromkeys(("textbook_step", "textbook_error", "order", "kink"), ABSENT),
    }
    return (*(_formula(f) for f in sweep.formulas), Row(ladder, "plain"))


def _formula(f: Formula) -> Row:
    error = f.textbook_error if math.isfinite(f.textbook_error) else None
    cells = {
        "method": f.method,
        "best_step": scientific(f.best_step),
        "best_error": scientific(f.best_error),
        "textbook_step": scientific(f.textbook_step),
        "textbook_error": scientific(error),
        "order": ABSENT if f.order is None else f"h^{f.order:.1f}",
        "kink": "all" if f.kink and f.kink < ON_IT else scientific(f.kink),
    }
    return Row(cells, "plain")


def sweep_facts(c: Comparison, sweep: Sweep) -> Iterator[Fact]:
    """What the table and the drawing of a sweep mean, in sentences."""
    ways = []
    if sweep.directions:
        some = f"{sweep.directions} coordinate{'s' * (sweep.directions != 1)}"
        ways.append("the tangent" if c.subject.operator == "jvp" else some)
    ways += ["a random direction"] * bool(sweep.along)
    worst = f"the worst of {sweep.elements:,} elements" if sweep.elements > 1 else "the element"
    relative = "relative to the largest" if sweep.elements > 1 else "relative"
    yield Fact(
        "sweep",
        f"{sweep.dtype}, along {' and '.join(ways)}, against the {c.reference.kind} reference;"
        f" errors are those of {worst}, {relative}; steps h are relative to max(1, |x|)",
    )
    for f in sweep.formulas:
        if (text := _reading(f)) and f.best_step is not None:
            yield Fact("sweep", f"{f.method}: {text}")
    if sweep.ladder_step is None:
        yield Fact("sweep", "the ladder finds no step that crosses no kink", "odd")


def _reading(f: Formula) -> str:
    """Where which error rules."""
    parts = []
    if f.kink is not None and f.kink < ON_IT:
        return "every step crosses a kink, so that none is better than another"
    if f.best_step is not None:
        parts.append(f"below {scientific(f.best_step)} noise rules, and the error grows as 1/h")
    if f.order is not None:
        parts.append(f"above it truncation, which falls as h^{f.order:.1f}")
    if f.kink is not None:
        parts.append(f"from {scientific(f.kink)} on steps cross a kink")
    if f.best_error and math.isfinite(f.textbook_error):
        worse = f.textbook_error / f.best_error
        parts.append(
            f"the textbook step {scientific(f.textbook_step)} is"
            f" {f'{_times(worse)} times worse' if worse > 1.05 else 'as good as the best'}"
        )
    elif not math.isfinite(f.textbook_error):
        parts.append(f"the textbook step {scientific(f.textbook_step)} does not move the input")
    return "; ".join(parts)


def _times(x: float) -> str:
    return scientific(x) if x >= 1e4 else ratio(x)


# ---- what was asked ------------------------------------------------------------------------------


def _above(c: Comparison) -> Iterator[Fact]:
    s = c.subject
    yield Fact("model", f"{s.path}  (sha256 {s.sha256[:12]})")
    yield Fact("question", question(s))
    for note in c.notes:
        yield Fact("note", note, "odd")
    yield Fact("between", _between(s))
    yield Fact("arithmetic", _arithmetic(c))
    yield _primal(c.primal)
    yield _reference(c.reference)


def question(s: Subject) -> str:
    """What was differentiated, as a sentence."""
    of = f"the output {_listed(tensor(n, d) for n, d in s.of.items())}"
    wrt = f"the input {_listed(tensor(n, d) for n, d in s.wrt.items())}"
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


def _arithmetic(c: Comparison) -> str:
    by_dtype: dict[str, list[str]] = {}
    for j in c.methods:
        if j.status == "computed":
            by_dtype.setdefault(j.dtype, []).append(j.method)
    widths = "; ".join(f"{', '.join(names)} in {dtype}" for dtype, names in by_dtype.items())
    s = c.subject
    threads = f"{s.threads} thread{'s' * (s.threads != 1)}"
    return f"{widths or s.dtype}; {s.provider.removesuffix('ExecutionProvider')}, {threads}"


def _primal(p: Primal) -> Fact:
    where = f" in {p.output}" if p.output else ""
    forward = f"; one forward pass takes {seconds(p.forward.median)}" if p.forward else ""
    if p.matches:
        close = (
            f"to {scientific(p.max_rel_error)} relative{where}" if p.max_rel_error else "exactly"
        )
        return Fact("primal", f"matches onnxruntime {close}{forward}")
    reason = f": {p.reason}" if p.reason else ""
    if math.isinf(p.max_abs_error):
        return Fact("primal", f"CANNOT BE HELD AGAINST onnxruntime{reason}", "bad")
    errors = f"off by {scientific(p.max_abs_error)} ({scientific(p.max_rel_error)} relative){where}"
    return Fact("primal", f"DOES NOT MATCH onnxruntime, {errors}{reason}", "bad")


def _reference(r: Reference) -> Fact:
    reason = f": {r.reason}" if r.reason else ""
    if not r.elements:
        return Fact("reference", "none is needed: the derivative has no elements")
    if r.kind == "none":
        return Fact("reference", f"none{reason}", "odd")
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
    opened = f"; open which way {_listed(r.opened)} goes" if r.opened else ""
    return (
        f"{r.confirmed:,} of {r.elements:,} elements of the saved function in exact arithmetic,"
        f" {digits} at {r.bits} bits, confirmed by power series of the primal{opened}"
    )


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    extra = len(every) - LISTED
    return ", ".join(every[:LISTED]) + (f" and {extra:,} more" if extra > 0 else "")


# ---- what came of it -----------------------------------------------------------------------------


def _below(c: Comparison) -> Iterator[Fact]:
    yield from _grouped(c.methods)
    yield from _kinks(c.kinks, c.room)
    yield from (Fact("note", unsteady_sentence(u), "odd") for u in c.unsteady)
    for advice in c.advice:
        yield Fact("advice", advice.text)
    yield _verdict(c)


def _verdict(c: Comparison) -> Fact:
    of_nothing = [j.detail for j in c.methods if j.status == "computed" and j.verdict is None]
    if of_nothing:
        return Fact("verdict", f"{of_nothing[0]} (exit {c.exit_code})")
    counts = tally(c.counts) or "no method"
    return Fact("verdict", f"{c.verdict}: {counts} (exit {c.exit_code})", _verdict_tone(c.verdict))


REMARKS = (*map(str, Verdict), "failed", "skipped", "zero", "sample", "way", "note")
"""Labels of what is said of single methods, in order; under a label, methods keep theirs."""


def _grouped(methods: Sequence[Judgement]) -> Iterator[Fact]:
    """Remarks by label; methods of which the same is said share one."""
    groups: dict[Fact, list[str]] = {}
    for j in methods:
        for remark in _remarks(j):
            groups.setdefault(remark, []).append(j.method)
    for fact in sorted(groups, key=lambda fact: REMARKS.index(fact.label)):
        yield Fact(fact.label, f"{', '.join(groups[fact])}: {fact.text}", fact.tone)


def _remarks(j: Judgement) -> Iterator[Fact]:
    """What is said of a method, without its name."""
    if j.status != "computed":
        yield Fact(j.status, j.reason, _tone(j))
        return
    if j.verdict is not None and j.verdict is not Verdict.AGREE:
        yield Fact(str(j.verdict), _why(j), _tone(j))
    if j.max_rel_error is None and j.max_abs_error is not None:
        yield Fact("zero", "every element of the reference is zero within u")
    if j.level:
        yield Fact("way", j.level)
    if j.sampled:
        yield Fact("sample", "computed a sample, and the times are the sample's")
    for note in dict.fromkeys(j.notes):
        yield Fact("note", note)


def _why(j: Judgement) -> str:
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
        parts.append(f"in {_listed(p.name for p in j.parts if p.verdict is j.verdict)}")
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
    at = f"{w.name}[{', '.join(map(str, w.index))}]" if w.index else w.name or "a direction"
    node = f", node {w.node}" if w.node else ""
    if w.sides is None:
        return f"worst at {at}: {apart(w.value, w.reference)}{node}"
    left, right = map(value, w.sides)
    return f"takes {value(w.value)} at {at}{node}, between one-sided {left} and {right}"


def _kinks(kinks: Sequence[KinkAt], room: Sequence[Room]) -> Iterator[Fact]:
    """Those at the point, in full; of those further off only the nearest."""
    at = [k for k in kinks if k.margin <= NEAR or k.touched]
    for kink in at[:LISTED]:
        yield Fact(kink.kind, kink_sentence(kink), "odd" if kink.active else "plain")
    if (extra := len(at) - LISTED) > 0:
        yield Fact("kink", f"and {extra:,} more; --format json lists them all")
    jump = next((k.jump for k in kinks if k.jump), None)
    if jump is not None:
        yield Fact("jump", jump_sentence(jump), "odd")
    off = [k for k in kinks if k.kind == "kink" and k.margin > NEAR and not k.touched]
    for r in room[:LISTED]:
        index = f", element [{', '.join(map(str, r.index))}]" if r.index else ""
        where = f"node {r.node} ({r.op}){index}"
        yield Fact("room", f"{r.wrt} meets a kink after {scientific(r.distance)}, at {where}")
    if off and not room:
        yield Fact("kink", f"nearest: {kink_sentence(min(off, key=lambda k: k.margin))}")


def kink_sentence(kink: KinkAt) -> str:
    """Where it is, how near, and whether it matters here."""
    index = f", element [{', '.join(map(str, kink.index))}]" if kink.index else ""
    at = f"node {kink.node} ({kink.op}){index}"
    near = _nearness(kink)
    if kink.kind == "lost":
        return f"{at}: {kink.what}"
    if kink.kind == "edge":
        slopes = _slopes(kink) if kink.margin == 0 else ""
        return f"{at}: {near}{': ' + kink.what if kink.what else ''}{slopes}"
    if not kink.touched:
        return f"{at}: {near}"
    matters = {
        True: "the one-sided derivatives of the output with respect to the input differ",
        False: "the derivative of the output with respect to the input is smooth here all the same",
        None: "whether the one-sided derivatives differ was not decided",
    }[kink.active]
    convention = f"; convention: {kink.convention}" if kink.convention else ""
    return f"{at}: {near}; {matters}{_slopes(kink) or convention}"


def _nearness(kink: KinkAt) -> str:
    """How near the point is, by float64 and exactly."""
    if kink.decided == "on":
        return "exactly on it"
    if kink.decided == "open":
        return f"within {scientific(kink.within)} of it, a tie not excluded"
    if kink.decided == "off":
        far = f"within {scientific(kink.within)} of it, not on it"
        return f"{far}: a tie of float64 alone" if kink.margin == 0 else far
    return "on it" if kink.margin == 0 else f"{scientific(kink.margin)} away"


def _slopes(kink: KinkAt) -> str:
    """The slopes that are taken there, side by side."""
    places = []
    for t in kink.taken:
        known = (("gradcli", t.gradcli), ("PyTorch", t.pytorch), ("JAX", t.jax))
        places.append(
            f"{t.at} "
            + ", ".join(f"{who} {slope:.4g}" for who, slope in known if slope is not None)
        )
    return f"; slope {'; '.join(places)}" if places else ""


def jump_sentence(jump: Jump) -> str:
    """Where the derivative jumps most, and between what."""
    at = f"{jump.name}[{', '.join(map(str, jump.index))}]" if jump.index else jump.name
    sure = ", both certified" if jump.certified else ""
    return f"most at {at}: {value(jump.below)} from below, {value(jump.above)} from above{sure}"


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


WORDS = {
    "AGREE": "agree",
    "DISAGREE": "disagree",
    "KINK": "at a kink",
    "STAIRCASE": "on a staircase",
    "INCONCLUSIVE": "inconclusive",
}


def tally(counts: Mapping[str, int]) -> str:
    """Methods or elements by verdict, in words: 5 agree, 1 at a kink, 1 skipped."""
    return ", ".join(f"{n:,} {WORDS.get(name, name)}" for name, n in counts.items() if n)
