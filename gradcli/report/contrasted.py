"""What two models have in common, and where they part: for a screen and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from gradcli.contrast import Block, Contrast, Departure
from gradcli.report.cells import Fact, Tone, scientific
from gradcli.report.jsonform import dumps
from gradcli.report.terminal import facts, laid_out

SCHEMA_VERSION = 2

SHOWN = 3
"""Names that are given of many."""


def contrast_text(found: Contrast, *, width: int = 80, color: bool = False) -> str:
    """Two models, held against each other, for a screen.

    Args:
        found: What was found.
        width: Columns of the screen.
        color: Whether to colour it with ANSI codes.
    """
    head = [Fact("first", found.first), Fact("second", found.second)]
    primal = [fact for block in found.primal for fact in _block("output", block)]
    blocks = [fact for block in found.derivative for fact in _block(found.operator, block)]
    tail = [*_parting(found), *(Fact("note", note, "odd") for note in found.notes)]
    parts = [facts([_headline(found)], bold=True), facts(head), facts(primal), facts(blocks)]
    return laid_out(*parts, *([facts(tail)] if tail else []), width=width, color=color)


def _name(block: Block) -> str:
    return " / ".join(filter(None, (block.of, f"d {block.wrt}" if block.wrt else "")))


def _block(label: str, block: Block) -> Iterator[Fact]:
    dims = "×".join(map(str, block.shape)) or "a number"
    what = "same" if block.same else "DIFFERS"
    measured = (
        f"off by {scientific(block.difference)}; allowed {scientific(block.tolerance)}, of which"
        f" rounding {scientific(block.uncertainty)}; largest element {scientific(block.size)}"
    )
    tone: Tone = "plain" if block.same else "bad"
    if math.isinf(block.difference) and not block.index and block.shape:
        yield Fact(label, f"{_name(block)} ({dims}): DIFFERS, of another size in the second", tone)
        return
    yield Fact(label, f"{_name(block)} ({dims}): {what}, {measured}", tone)
    if block.same:
        return
    at = f" at {list(block.index)}" if block.index else ""
    yield Fact("", f"worst{at}: {block.first:.7g} in the first, {block.second:.7g} in the second")
    if block.wrt or label == "jvp":
        changed = f"{block.sign_changes:,} sign{'' if block.sign_changes == 1 else 's'} changed"
        still = f"; of the {block.top} largest elements {block.overlap} are still among them"
        said = f"cosine {_cosine(block.cosine)}; {changed}"
        yield Fact("", said + (still if block.top else ""))


def _cosine(cosine: float) -> str:
    """All its digits near 1, where they say how far it is from that."""
    if math.isnan(cosine):
        return "none, as one of both is 0 or no number"
    return f"1 - {1 - cosine:.1e}" if 0.0 < 1 - cosine < 1e-4 else f"{cosine:.6f}"


def _parting(found: Contrast) -> Iterator[Fact]:
    if found.verdict == "SAME":
        return
    if found.value is None and found.cotangent is None:
        if all(block.same for block in (*found.primal, *found.derivative)):
            return
        yield Fact("parting", f"no node departs of the {found.common:,} that have an equal")
    if (d := found.value) is not None:
        yield Fact("parting", f"{d.what}s first depart {_at(d)}{_by(d)}")
        if d.constants:
            yield Fact("", f"of its constant {_some(d.constants)} the second has no equal")
        if d.after and d.equals != (d.after,):
            same = f"{d.after} is still equal to {_some(d.equals)} of the second"
            yield Fact("", same + (", whose axes stand in another order" if d.turned else ""))
    if (d := found.cotangent) is not None:
        yield Fact("parting", f"on the way back, cotangents first depart {_at(d)}{_by(d)}")


def _at(d: Departure) -> str:
    place = d.other_node and (d.other_node, d.other) != (d.node, d.op)
    other = f", in the second {d.other_node!r} ({d.other})" if place else ""
    return f"at node {d.node!r} ({d.op}){other}: {d.tensor}"


def _by(d: Departure) -> str:
    if math.isnan(d.difference):
        return ", of which the second has no equal"
    return f" differs by {scientific(d.difference)} of {scientific(d.size)}"


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _headline(found: Contrast) -> Fact:
    if found.verdict == "SAME":
        said = f"outputs and {found.operator} are the same, but for rounding"
    elif found.verdict == "UNDECIDED":
        said = found.undecided
    else:
        outputs = "outputs" if any(not b.same for b in found.primal) else ""
        derivative = found.operator if any(not b.same for b in found.derivative) else ""
        said = f"{' and '.join(filter(None, (outputs, derivative)))} differ"
        said += "" if outputs else "s"
        if (d := found.value or found.cotangent) is not None:
            said += f", from node {d.node} ({d.op}) on"
    tone: Tone = "good" if found.exit_code == 0 else "bad" if found.exit_code == 1 else "odd"
    return Fact(found.verdict, f"{said} (exit {found.exit_code})", tone)


def contrast_json(found: Contrast) -> str:
    """The same as JSON, raw and unrounded."""
    return dumps(
        {
            "schema_version": SCHEMA_VERSION,
            **asdict(found),
            "verdict": found.verdict,
            "exit_code": found.exit_code,
        }
    )
