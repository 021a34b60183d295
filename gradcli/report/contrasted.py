"""What two models have in common, and where they part: for a screen and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict

from gradcli.contrast import Block, Contrast, Departure
from gradcli.report.cells import Fact, Tone, scientific
from gradcli.report.jsonform import dumps
from gradcli.report.terminal import facts, laid_out

SCHEMA_VERSION = 1


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
    yield Fact(label, f"{_name(block)} ({dims}): {what}, {measured}", tone)
    if block.same:
        return
    at = f" at {list(block.index)}" if block.index else ""
    yield Fact("", f"worst{at}: {block.first:.7g} in the first, {block.second:.7g} in the second")
    if block.wrt or label == "jvp":
        cosine = "none" if math.isnan(block.cosine) else f"{block.cosine:.6f}"
        yield Fact(
            "",
            f"cosine {cosine}; {block.sign_changes:,} signs changed; of the {block.top} largest"
            f" elements {block.overlap} are still among them",
        )


def _parting(found: Contrast) -> Iterator[Fact]:
    if found.verdict == "SAME":
        return
    if found.value is None and found.cotangent is None:
        what = f"none of the {found.common:,} inner tensors that both have by name departs"
        yield Fact("parting", what if found.common else "no inner tensor has a name in both")
    if found.value is not None:
        yield Fact("parting", f"values first depart {_departure(found.value)}")
    if found.cotangent is not None:
        yield Fact(
            "parting", f"on the way back, cotangents first depart {_departure(found.cotangent)}"
        )


def _departure(d: Departure) -> str:
    other = f", {d.other} in the second" if d.other != d.op else ""
    return (
        f"at node {d.node!r} ({d.op}{other}): {d.tensor} differs by {scientific(d.difference)} of"
        f" {scientific(d.size)}"
    )


def _headline(found: Contrast) -> Fact:
    if found.verdict == "SAME":
        said = f"outputs and {found.operator} are the same, but for rounding"
    elif found.verdict == "UNDECIDED":
        said = found.undecided
    else:
        outputs = "outputs" if any(not b.same for b in found.primal) else ""
        derivative = found.operator if any(not b.same for b in found.derivative) else ""
        said = f"{' and '.join(filter(None, (outputs, derivative)))} differ"
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
