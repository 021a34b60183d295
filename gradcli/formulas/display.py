"""LaTeX that fits a page: rows of an align, broken where the line is full."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gradcli.formulas.layout import WIDTH, filled
from gradcli.formulas.names import remark

ROOM = 60
"""Letters to a line of an article in its default width, as `seen` counts them."""

_SILENT = re.compile(
    r"\\(?:operatorname|mathrm|text|dot|bar|overline|overset\{\\bullet\}|left|right|frac|begin\{\w+\}|end\{\w+\})"
    r"|[{}^_&]"
)
_OPENS = re.compile(r"\{|\\left\b|\\begin\b")
_CLOSES = re.compile(r"\}|\\right\b|\\end\b")


def seen(source: str) -> int:
    """About how many letters wide a formula is set."""
    slope = re.fullmatch(r"\\frac\{(\\partial .+)\}\{(\\partial .+)\}", source)
    if slope:
        return max(map(seen, slope.groups()))
    # First what is escaped, such as an underscore: without that, a backslash takes the next word.
    plain = re.sub(r"\\[^A-Za-z]", "o", source)
    return len(re.sub(r"\\[A-Za-z]+", "o", _SILENT.sub("", plain)))


def equations(lines: Sequence[tuple[str, Sequence[str], str]]) -> list[str]:
    """Equations that stand under one another, as rows of an align.

    Args:
        lines: Of each the left-hand side; the right-hand side, cut where a line is best broken; and
            what stands in a column of its own behind it, or an empty string.
    """
    targets = max((seen(target) for target, _, _ in lines), default=0)
    columns = max((seen(after) for _, _, after in lines), default=0)
    room = ROOM - targets - columns
    # Beside long names too little is left: each equation then begins where the page does.
    if room < ROOM // 2:
        room = ROOM - columns
        return [_rows(f"&{y} =", seen(y), terms, after, room) for y, terms, after in lines]
    return [_rows(f"{y} &=", 0, terms, after, room) for y, terms, after in lines]


def _rows(first: str, used: int, parts: Sequence[str], after: str, room: int) -> str:
    """An equation, broken into rows; its source within 80 columns."""
    rows: list[list[str]] = [[]]
    width = used
    for unit in _units(parts, room):
        if (rows[-1] or used) and width + 1 + seen(unit) > room:
            rows.append([])
            width = 0
        rows[-1].append(unit)
        width += 1 + seen(unit)
    lines = []
    for k, row in enumerate(rows):
        head = first if k == 0 else r"&\quad"
        words = [word for unit in row for word in unit.split(" ")]
        lines.append("\n".join(filled([head, *words], WIDTH, "  ")))
    return " \\\\\n".join(lines) + (f" && {after}" if after else "")


def _units(parts: Iterable[str], room: int) -> Iterable[str]:
    """The parts, and of one that is too wide its words; no bracket of TeX's own is torn."""
    for part in parts:
        if seen(part) <= room:
            yield part
            continue
        held: list[str] = []
        depth = 0
        for word in part.split(" "):
            bare = word.replace(r"\{", "").replace(r"\}", "")
            depth += len(_OPENS.findall(bare)) - len(_CLOSES.findall(bare))
            held.append(word)
            if depth == 0:
                yield " ".join(held)
                held = []
        if held:
            yield " ".join(held)


def page(source: str, said: Sequence[str], blocks: Sequence[tuple[str, Sequence[str]]]) -> str:
    """What is set: comments, then an align for each block.

    Args:
        source: What it is made from.
        said: Further comments.
        blocks: The heading of each, or an empty string, and its equations as rows.
    """
    lines = ["% " + part for part in filled(remark(source).split(" "), WIDTH - 2)]
    lines += [f"% {remark(one)}" for one in said] + ["% Needs the package amsmath."]
    lines.append(r"\begingroup\allowdisplaybreaks")
    for title, rows in blocks:
        if title:
            lines += filled([r"\par\noindent", *title.split(" ")], WIDTH)
        if rows:
            lines += [r"\begin{align*}", " \\\\\n".join(rows), r"\end{align*}"]
    return "\n".join([*lines, r"\endgroup"]) + "\n"
