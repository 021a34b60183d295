"""The nodes that an error comes from, as cells and sentences."""

from __future__ import annotations

from collections.abc import Iterator

from gradcli.comparison import Blame, Comparison, Explanation, Verdict, What
from gradcli.report.cells import Column, Fact, Row, Tone, percent, scientific

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

LONG = 24
"""Letters of a name from which on its end will do; the JSON has all of it."""

SMALL = 0.02
"""The share of an error below which it is not said of a node what to do."""


def listed(e: Explanation | None) -> tuple[Blame, ...]:
    """The nodes to list: the worst ones, and none that add nothing."""
    if e is None:
        return ()
    return tuple(b for b in e.nodes[:NODES] if b.what is not What.EXACT)


def short(e: Explanation | None, name: str) -> str:
    """A node's name, or of a long one as much of its path's end as is short and no other's."""
    if len(name) <= LONG or e is None:
        return name
    others = [b.node for b in e.nodes if b.node != name]
    parts = name.rpartition(";")[2].split("/")
    ends = ["/".join(parts[k:]) for k in range(len(parts))]
    own = [
        f"…/{end}"
        for end in ends
        if len(end) + 2 < len(name)
        and not any(other == end or other.endswith((f"/{end}", f";{end}")) for other in others)
    ]
    return next((end for end in own if len(end) <= LONG), own[-1] if own else name)


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
        "node": f"{short(e, b.node)} ({op})",
    }
    return Row(cells, _blame_tone(b))


def _blame_tone(b: Blame) -> Tone:
    if b.what in (What.RULE, What.KERNEL):
        return "bad"
    return "plain" if b.what is What.ROUNDING else "odd"


def explained(c: Comparison) -> Iterator[Fact]:
    """What the table is of, and what to do."""
    if (e := c.explanation) is None:
        return
    yield Fact("explained", _followed(c, e))
    if e.looked:
        yield Fact("explained", _looked(e))
    if (more := len(e.nodes) - len(listed(e))) > 0:
        yield Fact("explained", f"{more:,} more node{'s' * (more > 1)} in --format json")
    helps: dict[tuple[str, Tone], list[str]] = {}
    for b in [b for b in listed(e) if b.todo and _stands_out(c, e, b)][:TOLD]:
        helps.setdefault((b.todo, _blame_tone(b)), []).append(short(e, b.node))
    for (todo, tone), names in helps.items():
        for long in (b.node for b in e.nodes if len(b.node) > LONG and b.node in todo):
            todo = todo.replace(long, short(e, long))  # noqa: PLW2901 # the same, shorter
        yield Fact("to do", f"{', '.join(names)}: {todo}", tone)
    for note in e.notes:
        yield Fact("note", note, "odd")


def _looked(e: Explanation) -> str:
    """How many were looked at, and how closely."""
    whole = e.looked + e.left
    count = f"all {whole:,}" if not e.left else f"{e.looked:,} of {whole:,}"
    balls = sum(b.held == "balls" for b in e.nodes)
    held = "enclosures" if balls == len(e.nodes) else f"enclosures ({balls:,} nodes) or float64"
    if not balls:
        held = "float64"
    one = whole == 1
    looked = "its one operator was" if one else f"{count} operators were"
    return f"{looked} looked at {'by itself' if one else 'by themselves'}, against {held}"


def _followed(c: Comparison, e: Explanation) -> str:
    """The number whose error it is, and whether the nodes add up to it."""
    error, part = e.errors.get(e.method), e.explained.get(e.method)
    verdict = _verdict_on(c, e.method)
    what = f"{e.of} by {e.method}" if e.method and e.method != "outputs" else e.of
    if verdict is Verdict.KINK:
        return f"{what}: on a kink, where a convention is no error"
    if error is None:
        return f"{what}: shares are of all that the nodes add"
    if error == 0:
        return f"{what}, which is exact"
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
