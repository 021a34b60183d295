"""The error of finite differences against their step, drawn in letters on logarithmic axes.

Letters, because they say what they stand for and look the same in a pipe, without colour, and where
there is nothing but ASCII.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from gradcli.comparison import Sweep

HEIGHT = 18
"""Lines between the axes."""

WIDEST = 100
"""Columns, at most."""

MARGIN = 7
"""Columns left of the drawing: 1e-16, and the axis."""

LOWEST, HIGHEST = -17, 1
"""Powers of ten that an axis of errors shows, at most."""

DECADES = 4
"""That it shows at least."""

LEGEND = (
    "f forward, c central, * both, L the ladder's choice; capitals where the step crosses a kink;"
    " dots are the rounding of the function over h; ^ below the axis the steps of textbooks, 1.5e-8"
    " forward and 6.1e-6 central"
)
"""What the letters stand for."""


class _Canvas:
    """Letters at points of a logarithmic plane.

    Args:
        width: Columns.
        left: The power of ten at the left edge.
        right: That at the right edge.
        low: That at the bottom.
        high: That at the top.
    """

    def __init__(self, width: int, left: float, right: float, low: float, high: float) -> None:
        self._width, self._left, self._right = width, left, right
        self._low, self._high = low, high
        self._cells = [[" "] * width for _ in range(HEIGHT)]

    def column(self, x: float) -> int:
        """Where a step stands."""
        share = (math.log10(x) - self._left) / (self._right - self._left)
        return min(self._width - 1, max(0, round(share * (self._width - 1))))

    def row(self, power: float) -> int:
        """Where a power of ten stands, from the top; below or above the axis at its end."""
        share = (self._high - power) / (self._high - self._low)
        return min(HEIGHT - 1, max(0, round(share * (HEIGHT - 1))))

    def put(self, x: float, y: float, letter: str) -> None:
        """A letter at a point; of two formulas at one place a star."""
        if not y >= 0 or math.isinf(y):
            return
        row = self.row(math.log10(y) if y else self._low)
        line, column = self._cells[row], self.column(x)
        there = line[column]
        both = {there.lower(), letter.lower()} == {"f", "c"}
        line[column] = "*" if both or there == "*" else letter

    def lines(self) -> Iterator[str]:
        """The drawing, with the axis of errors."""
        labels = {
            self.row(p): p for p in range(math.ceil(self._low), math.floor(self._high) + 1, 2)
        }
        for k, cells in enumerate(self._cells):
            label = f"1e{labels[k]}" if k in labels else ""
            yield f"{label:>{MARGIN - 2}} {'+' if label else '|'}{''.join(cells)}".rstrip()

    def axis(self, marks: Iterable[float]) -> Iterator[str]:
        """The axis of steps, with its labels and marks below."""
        ticks = range(math.ceil(self._left), math.floor(self._right) + 1, 2)
        line, text, below = ["-"] * self._width, "", [" "] * self._width
        for power in ticks:
            at = self.column(10.0**power)
            line[at] = "+"
            label = f"1e{power}"
            start = at - len(label) // 2
            # Labels that would touch the one before are left out.
            if start > len(text) and start + len(label) <= self._width:
                text = text.ljust(start) + label
        for x in marks:
            below[self.column(x)] = "^"
        pad = " " * (MARGIN - 1)
        yield f"{pad}+{''.join(line)}"
        yield f"{pad} {''.join(below)}".rstrip()
        yield f"{pad} {text}"


def chart(sweep: Sweep, width: int) -> str:
    """A sweep as lines of ASCII.

    Args:
        sweep: What to draw.
        width: Columns of the screen.
    """
    points = sweep.points
    errors = [e for p in points for e in (p.forward, p.central) if 0 < e < math.inf]
    if not errors:
        return f"every difference in {sweep.dtype} is exact, or unknown: there is nothing to draw"
    low = max(LOWEST, math.floor(math.log10(min(*errors, sweep.ladder_error or math.inf))) - 1)
    high = min(HIGHEST, math.ceil(math.log10(max(errors))))
    left, right = (math.log10(points[k].step) for k in (-1, 0))
    room = min(width, WIDEST) - MARGIN - 2
    canvas = _Canvas(room, left, right, min(low, high - DECADES), high)
    for p in points:
        # Where noise is outside the drawing it says nothing.
        if 10.0**low < sweep.noise / p.step < 10.0**high:
            canvas.put(p.step, sweep.noise / p.step, ".")
    for p in points:
        canvas.put(p.step, p.forward, "F" if p.ahead else "f")
        canvas.put(p.step, p.central, "C" if p.ahead or p.behind else "c")
    if sweep.ladder_step is not None and sweep.ladder_error is not None:
        canvas.put(sweep.ladder_step, sweep.ladder_error, "L")
    marks = [formula.textbook_step for formula in sweep.formulas]
    return "\n".join([*canvas.lines(), *canvas.axis(marks)])
