"""What a report is made of: cells, sentences, and numbers as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["plain", "good", "bad", "odd", "faint"]
"""How a cell or a sentence should sound; formats without colour ignore it."""

ABSENT = "–"

LISTED = 8
"""Kinks and names beyond this many are counted, not listed; the JSON has all of them."""


@dataclass(frozen=True)
class Column:
    """One column of the table of methods.

    Attributes:
        key: What it is called in code.
        heading: Its heading, in up to two parts that may stand above each other.
        side: What it is about, for layouts that need two narrower tables.
        right: Whether its cells are numbers, aligned at their ends.
        bar: Whether its cells are bars: they show what another column says, and may be left out.
    """

    key: str
    heading: tuple[str, ...]
    side: Literal["both", "accuracy", "cost"]
    right: bool = True
    bar: bool = False

    @property
    def name(self) -> str:
        """The heading in one line."""
        return " ".join(self.heading).replace("- ", "")


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


def scientific(x: float | None) -> str:
    """Two digits and the shortest exponent, none of 0 or 1: 1.2e-7, 1.2, 12."""
    if x is None:
        return ABSENT
    if x == 0 or not math.isfinite(x):
        return f"{x:.0f}"
    mantissa, exponent = f"{x:.1e}".split("e")
    if int(exponent) in (0, 1):
        return f"{x:.{1 - int(exponent)}f}"
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


CELLS = 8
"""The length of a bar, in characters."""

EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float) -> str:
    """A share of 1 as a bar, to an eighth of a character; at least a trace."""
    eighths = max(1, round(8 * CELLS * min(max(share, 0.0), 1.0)))
    full, rest = divmod(eighths, 8)
    return f"{EIGHTHS[8] * full}{EIGHTHS[rest] if rest else ''}"


def axis(low: str, high: str) -> str:
    """What stands above bars: the numbers at their ends."""
    return f"{low}{high:>{CELLS - len(low)}}"


def percent(x: float | None) -> str:
    """Per cent, with a decimal while they are few; no sign of a zero."""
    if x is None:
        return ABSENT
    if abs(x) >= 100:
        return f"{scientific(100 * x)} %"
    return f"{round(100 * x, 1) + 0.0:.1f} %" if abs(x) < 0.0995 else f"{100 * x:.0f} %"


def value(x: float) -> str:
    """As many digits as tell a float32 from its neighbours; no sign of a zero."""
    return f"{x + 0.0:.9g}"


def apart(x: float, reference: float) -> str:
    """Two numbers, with as many digits as tell them apart."""
    texts = value(x), value(reference)
    if texts[0] == texts[1] and x != reference:
        texts = f"{x:.17g}", f"{reference:.17g}"
    return f"{texts[0]} against {texts[1]}"


def tensor(name: str, shape: Sequence[int]) -> str:
    """A name and its shape, which never breaks at the end of a line: x (1×2)."""
    return f"{name} ({'×'.join(map(str, shape))})" if shape else name


def listed_names(names: Iterable[str], shown: int = LISTED) -> str:
    """The first of them, and how many more there are."""
    every = list(names)
    extra = len(every) - shown
    return ", ".join(every[:shown]) + (f" and {extra:,} more" if extra > 0 else "")


WORDS = {
    "AGREE": "agree",
    "DISAGREE": "disagree",
    "KINK": "at a kink",
    "STAIRCASE": "on a staircase",
    "INCONCLUSIVE": "inconclusive",
}


def tally(counts: Mapping[str, int]) -> str:
    """Methods or elements by verdict, in words: 5 agree, 1 at a kink, 1 skipped."""
    return ", ".join(f"{n:,} {_word(name, n)}" for name, n in counts.items() if n)


def _word(name: str, n: int) -> str:
    word = WORDS.get(name, name)
    return f"{word}s" if n == 1 and word.endswith("agree") else word
