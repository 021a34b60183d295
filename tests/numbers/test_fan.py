"""A fan holds every slope that conventions at kinks may come to, and off kinks one slope alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcli.interpret import interpret
from gradcli.numbers import Fan, Series
from gradcli.ops import OPS
from gradcli.transform import jvp
from tests.ops import checks
from tests.ops.rows import ROWS

EVALUATED = [row for row in ROWS if OPS[row.op].impl is not None]
MOVING = [row for row in EVALUATED if OPS[row.op].kind not in ("flat", "opaque")]

STEPPED = {
    *("DeformConv", "GridSample", "Mod", "RoiAlign", "TopK", "Unique"),
    *("com.microsoft::DynamicQuantizeMatMul", "com.microsoft::DynamicQuantizeLSTM"),
}
"""Operators that go by an order or by a step: beside a tie they are on another piece."""

KINKS = [
    pytest.param(row, k, id=f"{row.op}-{k}") for row in EVALUATED for k in range(len(row.kinks))
]


def along(n: Any, a: Any, directions: Any) -> Any:
    feeds = {
        name: n.lift_along(x, directions[name]) if name in directions else n.lift(x)
        for name, x in a.feeds.items()
    }
    return interpret(a.graph, feeds, n)


def by_rules(a: Any, wrt: list[str], v: Any, name: str, shape: Any) -> Any:
    d = jvp(a.graph, wrt)
    rules = interpret(d.graph, a.feeds | checks.rename(d.directions, v))
    return checks.zero_where_absent(d, rules, name, shape)


@pytest.mark.parametrize("row", MOVING, ids=lambda row: row.op)
def test_off_kinks_the_slope_is_the_one_there_is(row):
    a = checks.draw(row, 0)
    v = a.directions(list(a.feeds), 22)
    primal = interpret(a.graph, a.feeds)
    for name, y in along(Fan(), a, v).items():
        np.testing.assert_array_equal(Fan().lower(y), primal[name])
        if name in a.smooth:
            wanted = by_rules(a, list(v), v, name, y.shape)
            checks.close(y.slope, wanted, 1e-11, name)
            assert np.all(y.spread <= 1e-13 * (np.abs(wanted).max(initial=1.0)))


@pytest.mark.parametrize(("row", "k"), KINKS)
def test_at_a_kink_both_sides_and_the_convention_are_in_the_fan(row, k):
    kink = row.kinks[k]
    a = checks.applied(row, kink.case)
    wrt = f"x{kink.wrt}"
    v = a.directions([wrt], 23)
    fan = along(Fan(), a, v)
    ahead, behind = (along(Series(), a, {wrt: s * v[wrt]}) for s in (1.0, -1.0))
    for name in a.smooth:
        f = fan[name]
        sides = (s * Series().ball.lower(y[name].slope) for s, y in ((1, ahead), (-1, behind)))
        slack = 1e-9 * np.max(np.abs(f.slope) + f.spread, initial=1.0)
        for slope in (*(() if row.op in STEPPED else sides), by_rules(a, [wrt], v, name, f.shape)):
            inside = (slope >= f.least - slack) & (slope <= f.greatest + slack)
            assert np.all(inside | ~np.isfinite(slope) | ~np.isfinite(f.slope))
