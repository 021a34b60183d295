"""Lines of text that fit a width, and never break a number."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH = 80


def filled(parts: Sequence[str], width: int, indent: str = "", *, end: bool = False) -> list[str]:
    """Parts joined by blanks, as many to a line as fit; a part that is too long gets its own.

    Args:
        parts: What may stand on a line of its own.
        width: Columns.
        indent: Of all lines but the first.
        end: Whether the sign that a part begins with ends the line before instead: in some
            languages a line that is complete ends the statement.
    """
    if end:
        parts = _signs_last(parts)
    lines: list[str] = []
    line = ""
    for part in parts:
        if line.strip() and len(line) + 1 + len(part) > width:
            lines.append(line)
            line = indent + part
        else:
            line = f"{line} {part}" if line.strip() else line + part
    return [*lines, line]


def _signs_last(parts: Sequence[str]) -> list[str]:
    """`a`, `+ b`, `- c` as `a +`, `b -`, `c`."""
    bare = [parts[0], *(part[2:] for part in parts[1:])]
    signs = [*(f" {part[0]}" for part in parts[1:]), ""]
    return [part + sign for part, sign in zip(bare, signs, strict=True)]
