"""What two models have in common, and where they part: rows and sentences, on a screen too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gradcli.comparison import Policy
from gradcli.contrast import Block, Contrast, Departure
from gradcli.report.cells import ABSENT, Column, Fact, Row, Tone, listed_names, ratio, scientific
from gradcli.report.rows import Detail
from gradcli.report.shortening import shortener
from gradcli.report.terminal import facts, laid_out, tables

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 3
"""Names that are given of many."""

WORST = 8
"""Tensors of which the worst element is told."""

COLUMNS = (
    Column("name", ("tensor",), "both", right=False),
    Column("verdict", ("is",), "both", right=False),
    Column("size", ("largest", "element"), "accuracy"),
    Column("difference", ("off", "by"), "accuracy"),
    Column("share", ("of the", "largest"), "accuracy"),
    Column("excess", ("×", "allowed"), "accuracy"),
    Column("cosine", ("cosine",), "cost"),
    Column("signs", ("signs", "changed"), "cost"),
    Column("top", ("largest", "kept"), "cost"),
)
"""Of tensors: how far they are off, and what that did to the sensitivities."""


@dataclass(frozen=True)
class Told:
    """All that is said of two models; formats only dress it.

    Attributes:
        headline: The verdict in one sentence.
        above: Which models.
        rows: A row for each tensor, by COLUMNS.
        below: The worst elements, where the models part, and what is odd.
    """

    headline: Fact
    above: tuple[Fact, ...]
    rows: tuple[Row, ...]
    below: tuple[Fact, ...]


def told(
    found: Contrast,
    *,
    policy: Policy | None = None,
    detail: Detail = "normal",
    failures_only: bool = False,
) -> Told:
    """What is said.

    Args:
        found: What was found.
        policy: What counts as a failure.
        detail: `verbose`: names whole, and all of them.
        failures_only: Whether tensors that are the same are left out.
    """
    every = detail == "verbose"
    parts = [part for part in all_parts(found) if not (failures_only and agrees(part[1]))]
    whole = Told(
        headline(found, policy or Policy()),
        (Fact("first", found.first), Fact("second", found.second)),
        tuple(_row(name, block, sensitive=block not in found.primal) for name, block in parts),
        (
            *_worst(parts, every),
            *_parting(found, every),
            *(Fact("note", note, "odd") for note in found.notes),
        ),
    )
    return whole if every else _shortened(whole, found)


def contrast_text(
    found: Contrast,
    *,
    width: int = 80,
    color: bool = False,
    policy: Policy | None = None,
    detail: Detail = "normal",
    failures_only: bool = False,
) -> str:
    """Two models, held against each other, for a screen.

    Args:
        found: What was found.
        width: Columns of the screen.
        color: Whether to colour it with ANSI codes.
        policy: What counts as a failure.
        detail: `quiet`: the headline alone; `verbose`: names whole, and all of them.
        failures_only: Whether tensors that are the same are left out.
    """
    said = told(found, policy=policy, detail=detail, failures_only=failures_only)
    parts: list[RenderableType] = [facts([said.headline], bold=True)]
    if detail != "quiet":
        parts.append(facts(said.above))
        parts += tables(COLUMNS, said.rows, width) if said.rows else []
        parts += [facts(said.below)] if said.below else []
    return laid_out(*parts, width=width, color=color)


# ---- a row a tensor ------------------------------------------------------------------------------


def all_parts(found: Contrast) -> list[tuple[str, Block]]:
    """Outputs, then blocks of the derivative, and what a reader calls each."""
    outputs = [(f"output {block.of}", block) for block in found.primal]
    return outputs + [(f"{found.operator} {_of(block)}", block) for block in found.derivative]


def _of(block: Block) -> str:
    """What is differentiated, and with respect to what; either may be all of it."""
    return " / ".join(filter(None, (block.of, block.wrt)))


def _row(name: str, block: Block, *, sensitive: bool) -> Row:
    told = {
        "cosine": _cosine(block.cosine),
        "signs": f"{block.sign_changes:,}",
        "top": f"{block.overlap}/{block.top}" if block.top else ABSENT,
    }
    cells = {
        "name": name,
        "verdict": "unclear" if block.unclear else "same" if block.same else "DIFFERS",
        "size": scientific(block.size),
        "difference": scientific(block.difference),
        "share": scientific(block.share),
        "excess": _times(block.excess),
        **(told if sensitive else dict.fromkeys(told, ABSENT)),
    }
    return Row(cells, "odd" if block.unclear else "good" if block.same else "bad")


def agrees(block: Block) -> bool:
    """Whether it is the same, for certain."""
    return block.same and not block.unclear


def _times(excess: float) -> str:
    """With digits where it is near 1, where it matters on which side."""
    return ratio(excess) if 0.01 <= excess < 1000 else scientific(excess)


def _cosine(cosine: float) -> str:
    """All its digits near 1, where they say how far it is from that; none where one is 0."""
    if math.isnan(cosine):
        return ABSENT
    return f"1-{1 - cosine:.0e}".replace("e-0", "e-") if 0 < 1 - cosine < 1e-4 else f"{cosine:.4f}"


# ---- sentences -----------------------------------------------------------------------------------


def headline(found: Contrast, policy: Policy) -> Fact:
    """All in one sentence, and what it counts as."""
    code = exit_code(found, policy)
    if found.verdict == "SAME":
        rest = max((b.share for b in (*found.primal, *found.derivative)), default=0.0)
        most = f" ({scientific(rest)} of the largest element at most)" if rest else ""
        what = "tolerance" if found.rtol else "rounding"
        said = f"outputs and {found.operator} are the same, but for {what}{most}"
    elif found.verdict == "UNDECIDED":
        said = found.undecided
    else:
        outputs = "outputs" if any(not b.same for b in found.primal) else ""
        derivative = found.operator if any(not b.same for b in found.derivative) else ""
        said = f"{' and '.join(filter(None, (outputs, derivative)))} differ"
        said += "" if outputs else "s"
        if (d := found.value or found.cotangent) is not None:
            said += f", from node {d.node} ({d.op}) on"
    tone: Tone = {"SAME": "good", "DIFFER": "bad", "UNDECIDED": "odd"}[found.verdict]  # type: ignore[assignment] # mypy reads str
    return Fact(found.verdict, f"{said} (exit {code})", tone)


def exit_code(found: Contrast, policy: Policy) -> int:
    """What the verdict counts as for this user."""
    return policy.code(found.exit_code, undecided=found.verdict == "UNDECIDED")


def _worst(parts: Sequence[tuple[str, Block]], every: bool) -> Iterator[Fact]:
    bad = [(name, block) for name, block in parts if not agrees(block)]
    for name, block in bad if every else bad[:WORST]:
        yield Fact("worst", f"{name}{worst(block)}", "bad")
    if not every and len(bad) > WORST:
        yield Fact("worst", f"and of {len(bad) - WORST:,} more", "bad")


def worst(block: Block) -> str:
    """The element that is furthest off: where it is, in both models, and what is allowed."""
    at = str(list(block.index)).replace(" ", "") if block.index else ""
    return (
        f"{at}: {block.first:.7g} in the first, {block.second:.7g} in the second, allowed"
        f" {scientific(block.tolerance)} (rounding: {scientific(block.uncertainty)})"
    )


def _parting(found: Contrast, every: bool) -> Iterator[Fact]:
    if found.verdict == "SAME":
        return
    if found.value is None and found.cotangent is None:
        if not all(block.same for block in (*found.primal, *found.derivative)):
            said = f"of the {found.common:,} tensors inside that have an equal, none departs"
            yield Fact("inside", said)
        return
    for d in filter(None, (found.value, found.cotangent)):
        for sentence in parting(d, None if every else SHOWN):
            yield Fact(f"{d.what}s part", sentence)


def parting(d: Departure, shown: int | None = SHOWN) -> Iterator[str]:
    """Where something departs, and what is known of it.

    Args:
        d: What departs.
        shown: Names that are given of many; None for all.
    """
    place = d.other_node and (d.other_node, d.other) != (d.node, d.op)
    other = f", in the second {d.other_node} ({d.other})" if place else ""
    yield f"first at node {d.node} ({d.op}){other}: {d.tensor}{_by(d)}"
    if d.constants:
        names = listed_names(d.constants, shown or len(d.constants))
        yield f"of its constant {names} the second has no equal"
    if d.after and d.equals != (d.after,):
        same = f"{d.after} is still equal to {listed_names(d.equals, shown or len(d.equals))}"
        yield f"{same} of the second" + (", whose axes stand in another order" if d.turned else "")


def _by(d: Departure) -> str:
    if math.isnan(d.difference):
        return ", of which the second has no equal"
    share = f", {scientific(d.difference / d.size)} of its largest element" if d.size else ""
    return f" differs by {scientific(d.difference)}{share}"


# ---- long names ----------------------------------------------------------------------------------


def _shortened(said: Told, found: Contrast) -> Told:
    texts = [fact.text for fact in (said.headline, *said.below)]
    short = shortener(_names(found), [*texts, *(row.cells["name"] for row in said.rows)])
    return replace(
        said,
        headline=_with(said.headline, short),
        rows=tuple(
            replace(row, cells={**row.cells, "name": short(row.cells["name"])}) for row in said.rows
        ),
        below=tuple(_with(fact, short) for fact in said.below),
    )


def _with(fact: Fact, short: Callable[[str], str]) -> Fact:
    return replace(fact, text=short(fact.text))


def _names(found: Contrast) -> Iterator[str]:
    """Tensors and nodes that are named."""
    for block in (*found.primal, *found.derivative):
        yield from (block.of, block.wrt)
    for d in filter(None, (found.value, found.cotangent)):
        yield from (d.tensor, d.node, d.other_node, d.after, *d.constants, *d.equals)
