"""Of several points the worst stands for all."""

from dataclasses import replace

import pytest

from gradcli.comparison import At, worst_of
from gradcli.report import table
from tests.report import examples


def at(exit_code, needed=None):
    """A comparison of one method, that needs so many times the tolerance it was held to."""
    c = examples.smooth()
    method = replace(c.methods[0], rtol=1e-6, needed_rtol=needed and needed * 1e-6)
    return At("somewhere", replace(c, exit_code=exit_code, methods=(method,)))


@pytest.mark.parametrize(
    ("found", "worst"),
    [
        ([at(0), at(3), at(1), at(70)], 2),
        ([at(0), at(3), at(70)], 2),
        ([at(0), at(3), at(0)], 1),
        ([at(0, 0.1), at(0, 0.5), at(0, 0.2)], 1),
        ([at(1, 1e9), at(1, float("inf"))], 1),
        ([at(0), at(0)], 0),
    ],
)
def test_the_worst_stands_for_all(found, worst):
    made = worst_of(found)
    assert made.worst_point == worst
    assert made.exit_code == found[worst].comparison.exit_code
    assert [p.comparison.exit_code for p in made.points] == [p.comparison.exit_code for p in found]


def test_one_point_is_no_list():
    one = at(1)
    assert worst_of([one]) is one.comparison


def test_the_report_says_which_point_it_shows():
    made = worst_of([At("point 0 (line 2)", examples.smooth()), *[at(1), at(1)]])
    text = " ".join(table(made, width=80).split())
    assert "points 3: " in text
    assert "what follows is of the worst, somewhere" in text
