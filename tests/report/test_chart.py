"""The drawing of a sweep: what stands where."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gradcli.comparison import Sweep
from gradcli.report.chart import HEIGHT, MARGIN, WIDEST, chart
from tests.report import examples

KNOWN, UNKNOWN = examples.swept().sweeps


def cells(sweep: Sweep, width: int = 80) -> list[str]:
    """The lines above the axis of steps, without the axis of errors."""
    return [line[MARGIN:] for line in chart(sweep, width).splitlines()[:HEIGHT]]


def lowest(lines: list[str], letters: str) -> tuple[int, int]:
    """Line and column of the lowest of these letters, the leftmost of equal ones."""
    row = max(k for k, line in enumerate(lines) if any(c in line for c in letters))
    return row, min(k for k, c in enumerate(lines[row]) if c in letters)


@pytest.mark.parametrize("width", [40, 57, 80, 200])
def test_it_is_ascii_and_fits(width):
    text = chart(KNOWN, width)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= min(width, WIDEST)
    assert len(text.splitlines()) == HEIGHT + 3


def test_the_two_formulas_make_a_v_each_and_the_central_one_is_deeper_and_to_the_right():
    lines = cells(KNOWN)
    (forward, left), (central, right) = lowest(lines, "f"), lowest(lines, "c")
    assert central > forward + 2
    assert right > left + 10
    assert lowest(lines, "L")[0] > central


def test_capitals_mark_the_steps_that_cross_a_kink():
    lines = cells(KNOWN)
    starts = [min(k for line in lines for k, c in enumerate(line) if c == x) for x in "FC"]
    plain = [max(k for line in lines for k, c in enumerate(line) if c == x) for x in "fc"]
    assert min(starts) > max(plain)
    smooth = tuple(replace(p, ahead=False, behind=False) for p in KNOWN.points)
    assert not {"F", "C"} & set("".join(cells(replace(KNOWN, points=smooth))))


def test_where_both_are_at_one_place_a_star_stands():
    points = tuple(replace(p, central=p.forward) for p in KNOWN.points)
    drawn = "".join(cells(replace(KNOWN, points=points)))
    assert "*" in drawn
    assert not {"f", "c"} & set(drawn)


def test_the_textbook_s_steps_are_marked_below_the_axis():
    marks = chart(KNOWN, 80).splitlines()[-2]
    labels = chart(KNOWN, 80).splitlines()[-1]
    assert marks.count("^") == 2
    assert abs(marks.index("^") - (labels.index("1e-7") - 4)) < 6
    assert abs(marks.rindex("^") - labels.index("1e-5")) < 4


def test_an_error_of_nothing_is_at_the_bottom_and_none_is_nowhere():
    first, *rest = KNOWN.points
    lost = replace(first, forward=math.inf, central=math.nan)
    assert "F" not in "".join(
        line[-1:] for line in cells(replace(KNOWN, points=(lost, *rest))) if len(line) > 70
    )
    exact = replace(first, central=0.0)
    assert cells(replace(KNOWN, points=(exact, *rest)))[-1].rstrip().endswith("C")


def test_a_sweep_of_which_nothing_is_known_is_not_drawn():
    assert "nothing to draw" in chart(UNKNOWN, 80)
