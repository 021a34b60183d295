"""Series hold the slope along a line: of every operator, and one-sided at kinks."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcli.errors import CannotError
from gradcli.interpret import interpret
from gradcli.numbers import Ball, Series
from gradcli.ops import OPS
from gradcli.transform import jvp
from tests.ops import checks
from tests.ops.rows import ROWS

EVALUATED = [row for row in ROWS if OPS[row.op].impl is not None]
MOVING = [row for row in EVALUATED if OPS[row.op].kind not in ("flat", "opaque")]
FINE = Ball(1024)
STEP = 2.0**-300


def each(rows: Any, trials: int) -> Any:
    cases = [pytest.param(row, k, id=f"{row.op}-{k}") for row in rows for k in range(trials)]
    return pytest.mark.parametrize(("row", "trial"), cases)


def along(n, a, directions):
    """The outputs of a drawn case on x + t d."""
    feeds = {
        name: n.lift_along(x, directions[name]) if name in directions else n.lift(x)
        for name, x in a.feeds.items()
    }
    return interpret(a.graph, feeds, n)


def line(x, d):
    """x + t d as series."""
    return Series().lift_along(np.array(x, float), np.array(d, float))


def slopes(x):
    return x.n.ball.lower(x.n.slope(x)).tolist()


def values(x):
    return x.n.lower(x).tolist()


def contains(slope, ahead, here, step=STEP):
    """Whether each slope is finite and contains a quotient of differences, to 40 digits."""
    quotient = (ahead - here) / FINE.full((), step)
    slack = FINE.lift(np.array(2.0**-130)) * (quotient * quotient + FINE.full((), 1.0))
    pad = FINE.box(np.frompyfunc(lambda s: FINE.arb(0, s), 1, 1)(np.asarray(slack)))
    pairs = zip(np.asarray(slope).flat, np.asarray(quotient + pad).flat, strict=True)
    return all(s.is_finite() and s.rad() < 1e-20 and s.overlaps(q) for s, q in pairs)


# ---- every operator -----------------------------------------------------------------------------

ON_AN_EDGE = {"NonZero"}
"""Drawn with zeros, which move away from 0."""


@each(EVALUATED, 3)
def test_the_slope_is_what_other_witnesses_say(row, trial):
    a = checks.draw(row, trial)
    n = Series()
    v = a.directions(list(a.feeds), 21)
    if row.op in ON_AN_EDGE:
        v = {name: d * (a.feeds[name] != 0) for name, d in v.items()}
    out, primal = along(n, a, v), a.primal()
    d = jvp(a.graph)
    rules = interpret(d.graph, a.feeds | checks.rename(d.directions, v))
    steps = checks.complex_step(a, v) if a.card.holomorphic else {}
    assert n.undecided == 0
    for name, y in primal.items():
        if name not in a.smooth:
            np.testing.assert_array_equal(n.lower(out[name]), y)
            continue
        slope = n.slope(out[name])
        checks.close(n.lower(out[name]), y, 1e-11, name)
        wanted = checks.zero_where_absent(d, rules, name, y.shape)
        checks.close(n.ball.lower(slope), wanted, 1e-11, f"slope of {name} by the rules")
        if name in steps:
            checks.close(n.ball.lower(slope), steps[name], 1e-11, f"slope of {name} by steps")
        assert np.all(n.ball.radius(slope) <= 1e-20 * np.abs(wanted).max(initial=1.0))


@each(MOVING, 1)
def test_the_slope_at_a_ball_encloses_those_at_its_points(row, trial):
    a = checks.draw(row, trial)
    n, fine = Series(), Series(256)
    rng = np.random.default_rng([zlib.crc32(row.op.encode()), 5])
    v = a.directions(list(a.feeds), 22)
    radius = 2.0**-20
    wide = {name: n.lift_along(widened(n, x, radius), v[name]) for name, x in a.feeds.items()}
    inside = {name: x + radius * rng.uniform(-1, 1, x.shape) for name, x in a.feeds.items()}
    found = interpret(a.graph, wide, n)
    true = along(fine, replace(a, feeds=inside), v)
    for name in a.smooth:
        for part in (Series.value, Series.slope):
            pairs = zip(part(n, found[name]).flat, part(fine, true[name]).flat, strict=True)
            assert all(x.overlaps(y) for x, y in pairs)


def widened(n, x, radius):
    balls = (n.ball.arb(v, radius * 1.001) for v in np.ravel(x).tolist())
    return n.ball.box(np.fromiter(balls, object, np.size(x)).reshape(np.shape(x)))


# ---- kinks --------------------------------------------------------------------------------------

TOO_SHORT = {
    *("LpPool", "GlobalLpPool", "LpNormalization", "MeanVarianceNormalization"),
    *("ReduceL2", "ReduceLogSumExp", "ai.onnx.ml::Normalizer"),
}
"""Roots of sums of squares at 0, which are 0 up to t^2, and a sum over nothing but -inf."""

KINKS = [
    pytest.param(row, k, sign, id=f"{row.op}-{k}{sign}")
    for row in EVALUATED
    for k in range(len(row.kinks))
    for sign in "+-"
]


@pytest.mark.parametrize(("row", "k", "sign"), KINKS)
def test_the_slope_at_a_kink_is_the_one_just_after_it(row, k, sign):
    kink = row.kinks[k]
    a = checks.applied(row, kink.case)
    wrt = f"x{kink.wrt}"
    v = checks.unit_length(a.directions([wrt], 23))
    v = v if sign == "+" else {wrt: -v[wrt]}

    def at(t):
        moved = FINE.lift(a.feeds[wrt]) + FINE.lift(v[wrt]) * FINE.full((), t)
        return interpret(a.graph, a.feeds | {wrt: moved}, FINE)

    n = Series()
    out, here, near, far = along(n, a, v), at(0.0), at(STEP), at(2 * STEP)
    for name in a.smooth:
        slope = n.slope(out[name])
        if row.op in TOO_SHORT and not np.all(np.isfinite(n.ball.lower(slope))):
            continue
        assert contains(slope, far[name], near[name])
        if not n.undecided:
            assert contains(slope, near[name], here[name]), "a jump that is not counted"
        if not n.undecided and not n.ties:
            behind, before = at(-STEP), at(-2 * STEP)
            assert contains(slope, behind[name], before[name]), "a kink that is not counted"


# ---- functions ----------------------------------------------------------------------------------

FUNCTIONS = {
    **dict.fromkeys(("exp", "expm1", "tanh", "sigmoid", "softplus", "erf", "erfc"), (-9.0, 9.0)),
    **dict.fromkeys(("sin", "cos", "tan", "atan", "sinh", "cosh", "asinh"), (-9.0, 9.0)),
    **dict.fromkeys(("asin", "acos", "atanh"), (-0.99, 0.99)),
    **dict.fromkeys(("log", "sqrt"), (0.01, 90.0)),
    "log1p": (-0.9, 9.0),
    "acosh": (1.01, 9.0),
    "abs": (-9.0, -0.1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_slope_of_a_function_is_its_quotient_of_differences(name):
    x = np.random.default_rng(3).uniform(*FUNCTIONS[name], 20)
    n = Series()
    y = getattr(n, name)(n.lift_along(x, np.full(20, -2.0)))
    here, ahead = (getattr(FINE, name)(FINE.lift(x) - FINE.full((), h)) for h in (0.0, 2 * STEP))
    assert contains(n.slope(y), ahead, here)
    wrong = n.slope(y) * (n.ball.full((), 1.0) + n.ball.full((), 2.0**-90))
    assert not contains(wrong, ahead, here)


def test_the_slope_of_a_power_is_that_in_both():
    x, y = line([2.0, 2.0, 0.5], [1.0, 0.0, 1.0]), line([3.0, 3.0, -1.5], [0.0, 1.0, 2.0])
    n = x.n
    log2 = np.log(2.0)
    wanted = [12.0, 8 * log2, -1.5 * 0.5**-2.5 - 2 * log2 * 0.5**-1.5]
    np.testing.assert_allclose(slopes(n.power(x, y)), wanted, rtol=1e-14)
    assert slopes(
        n.power(line([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]), line([2.0, 1.0, 1.5], [0, 0, 5]))
    ) == [0, 1, 0]
    assert slopes(n.power(line([-3.0], [1.0]), 2)) == [-6.0]
    assert slopes(n.power(line([0.0], [1.0]), n.full((), 0.5))) == [np.inf]


def test_vertical_tangents_are_infinite_inwards():
    edge = line([0.0, 0.0, 0.0, 4.0], [1.0, -1.0, 0.0, 1.0])
    assert slopes(edge.n.sqrt(edge))[0] == np.inf
    assert np.isnan(slopes(edge.n.sqrt(edge))[1])
    assert slopes(edge.n.sqrt(edge))[2:] == [0.0, 0.25], "0 that does not move"
    ends = line([1.0, -1.0, 1.0], [-1.0, 1.0, 1.0])
    np.testing.assert_array_equal(slopes(ends.n.asin(ends)), [-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(slopes(ends.n.acos(ends)), [np.inf, -np.inf, np.nan])
    ends = line([1.0, 1.0], [1.0, -1.0])
    np.testing.assert_array_equal(slopes(ends.n.acosh(ends)), [np.inf, np.nan])
    assert np.isnan(slopes(edge.n.log(edge))[0])


# ---- what does not move -------------------------------------------------------------------------


def test_constants_have_no_slope_whatever_becomes_of_them():
    n = Series()
    x = n.lift(np.array([0.0, -1.0, 2.0]))
    for y in (n.sqrt(x), n.log(x), x / x, n.floor(x), n.sum(x, (0,), True)):
        assert set(slopes(y)) == {0.0}
        assert y.is_still
    assert n.undecided == 0


def test_a_constant_0_stops_what_moves():
    x, zero = line([3.0, 3.0], [1.0, 1.0]), Series().full((), 0.0)
    n = x.n
    product = x * zero
    assert product.is_still
    assert not (x * 2.0).is_still
    assert (zero / x).is_still
    relu = n.maximum(line([-1.0, 4.0], [1.0, 1.0]), n.zero)
    assert slopes(n.sqrt(relu * x)) == [0.0, 0.5 * (3 + 4) / np.sqrt(12.0)]


def test_lift_along_wants_a_direction_of_the_same_shape():
    with pytest.raises(ValueError, match="direction of shape"):
        line([1.0, 2.0], 1.0)
    assert line([1.0, 2.0], [0.0, 1.0]).moves.tolist() == [False, True]


# ---- choices ------------------------------------------------------------------------------------


def test_what_holds_just_after_a_tie_decides():
    x = line([0.0, 0.0, 1.0, -1.0], [1.0, -1.0, -1.0, 1.0])
    n = x.n
    mask = n.less(x, n.zero)
    assert n.is_mask(mask)
    assert slopes(n.where(mask, -x, x * 3.0)) == [3.0, 1.0, -3.0, -1.0]
    assert n.undecided == 0, "the branches meet"
    assert values(n.where(n.logical_not(mask), x, n.zero)) == [0.0, 0.0, 1.0, 0.0]
    same = n.equal(x, n.zero)
    assert values(n.where(same, n.full((), 7.0), n.zero)) == [0.0] * 4
    assert n.undecided == 2, "a jump"


@pytest.mark.parametrize(
    ("name", "smooth", "tie"),
    [
        ("abs", [1.0, -2.0], 0.0),
        ("floor", [1.5], 1.0),
        ("sqrt", [2.0], 0.0),
        ("asin", [0.5], 1.0),
    ],
)
def test_ties_are_counted(name, smooth, tie):
    x = line(smooth, np.ones(len(smooth)))
    getattr(x.n, name)(x)
    assert x.n.ties == 0
    x = line([tie, tie], [1.0, 0.0])
    getattr(x.n, name)(x)
    assert x.n.ties == 1
    assert x.n.max(line([2.0, 2.0], [0.0, 0.0]), (0,), False).is_still


def test_orders_and_comparisons_count_ties():
    x = line([2.0, 2.0, 5.0], [1.0, 2.0, 1.0])
    n = x.n
    n.less(x, n.full((), 3.0))
    assert n.argmax(x, 0) == 2
    assert n.argsort(line([1.0, 2.0], [1.0, 1.0]), 0).tolist() == [0, 1]
    n.max(x, (0,), False)
    assert n.ties == 0
    n.less(x, n.full((), 2.0))
    assert n.ties == 2
    n.argsort(x, 0)
    assert n.ties == 3
    n.max(-x + 7.0, (0,), False)
    assert n.ties == 4


def test_branches_that_do_not_meet_are_a_jump():
    x = line([0.0, 0.0, 5.0], [1.0, -1.0, 1.0])
    n = x.n
    y = n.where(n.less(x, n.zero), n.full((), 1.0), x)
    assert values(y) == [0.0, 1.0, 5.0]
    assert slopes(y) == [1.0, 0.0, 1.0]
    assert n.undecided == 1
    assert n.mask_to_number(n.less(x, n.zero)).is_still
    assert n.undecided == 2
    assert n.where(n.less(x, n.zero), np.array(3), np.array(4)).tolist() == [4, 3, 4]
    assert n.undecided == 3


def test_a_tie_that_slopes_do_not_end_is_open():
    x, y = line([1.0, 1.0], [2.0, 2.0]), line([1.0, 1.0], [2.0, 2.0])
    n = x.n
    mask = n.less(x, y)
    assert set(slopes(n.where(mask, x, y))) == {2.0}
    assert n.undecided == 0, "both branches are alike"
    both = n.where(mask, x * 2.0, y)
    assert n.undecided == 2
    assert all(s.contains(2) and s.contains(4) for s in n.slope(both).flat)
    assert n.where(n.equal(x, x), np.array(1), np.array(2)).tolist() == [1, 1]
    with pytest.raises(CannotError):
        n.where(mask, np.array(1), np.array(2))


def test_open_choices_take_the_hull_of_both_slopes():
    n = Series()
    straddling = n.lift_along(widened(n, [0.0], 0.5), np.array([1.0]))
    for y in (
        n.maximum(straddling, n.zero),
        n.where(n.less(straddling, n.zero), n.zero, straddling),
        n.max(n.concat([straddling, n.full((1,), 0.0)], 0), (0,), True),
    ):
        assert all(s.contains(0) and s.contains(1) for s in n.slope(y).flat)
    assert n.undecided == 3
    (fold,) = n.slope(n.abs(straddling)).flat
    assert fold.contains(-1)
    assert fold.contains(1)
    assert n.undecided == 4


def test_maxima_at_a_tie_take_the_steepest():
    x = line([[2.0, 2.0, 1.0], [0.0, 0.0, 0.0]], [[3.0, -1.0, 9.0], [-1.0, -2.0, 0.0]])
    n = x.n
    assert slopes(n.max(x, (1,), False)) == [3.0, 0.0]
    assert slopes(-n.max(-x, (1,), True)) == [[9.0], [-2.0]]
    assert slopes(n.minimum(x, n.zero)) == [[0.0, 0.0, 0.0], [-1.0, -2.0, 0.0]]
    assert slopes(n.abs(line([0.0, -0.0, -1.0], [-2.0, 3.0, 4.0]))) == [2.0, 3.0, -4.0]
    assert n.undecided == 0


# ---- steps and integers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at", "before", "on", "behind"),
    [
        ("floor", 2.0, 1.0, 2.0, 2.0),
        ("floor", -2.0, -3.0, -2.0, -2.0),
        ("sign", 0.0, -1.0, 0.0, 1.0),
        ("round_to", 1.0 + 2.0**-24, 1.0, 1.0, 1.0 + 2.0**-23),
        ("to_integer", 2.0, 1, 2, 2),
        ("to_integer", -2.0, -2, -2, -1),
        ("to_integer", 0.0, 0, 0, 0),
    ],
)
def test_steps_are_left_at_once_and_counted(name, at, before, on, behind):
    x = line([at, at, at, at + 0.3], [-1.0, 0.0, 1.0, 1.0])
    n = x.n
    dtypes = {"round_to": np.dtype(np.float32), "to_integer": np.dtype(np.int64)}
    y = getattr(n, name)(x, *(dtype for key, dtype in dtypes.items() if key == name))
    assert n.lower(y).tolist()[:3] == [before, on, behind]
    assert n.undecided == (before != on) + (on != behind)
    if n.is_number(y):
        assert y.is_still


def test_a_step_whose_side_is_unknown_is_the_hull():
    x = line([2.0], [1.0])
    n = x.n
    (y,) = n.value(n.floor(x * x - x * 4.0)).flat  # -4 up to t^2
    assert y.contains(-5)
    assert y.contains(-4)
    assert n.undecided == 1
    with pytest.raises(CannotError):
        n.to_integer(x * x - x * 4.0, np.dtype(np.int64))


def test_orders_are_those_just_after():
    x = line([[1.0, 3.0, 3.0], [1.0, 2.0, 3.0]], [[0.0, -1.0, 1.0], [1.0, 1.0, 1.0]])
    n = x.n
    assert n.argsort(x, 1).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert n.undecided == 0
    assert n.argmax(x, 1).tolist() == [2, 2]
    assert n.undecided == 1
    assert n.argsort(-x, 1).tolist() == [[2, 1, 0], [2, 1, 0]]
    assert n.undecided == 3
    with pytest.raises(CannotError):
        n.argmax(n.lift_along(np.array([1.0, 1.0]), widened(n, [1.0, 1.0], 0.5)), 0)
    assert n.argmax(line([3.0, 1.0, 3.0, 3.0], [0.0, 0.0, 1.0, -1.0]), 0) == 2
    assert n.argmax(line([3.0, 1.0, 3.0], [0.0, 0.0, -1.0]), 0) == 0
    before = n.undecided
    assert n.argmax(n.lift_along(np.array([1.0, 1.0]), np.array([2.0, 2.0])), 0) == 0
    assert n.undecided == before + 1, "they may part in higher orders"


def test_arrays_do_only_arithmetic():
    x = line([1.0], [1.0])
    n = x.n
    for other in (2.0, np.float64(2.0), np.array([2.0]), n.full((), 2.0)):
        for y in (x + other, other + x, x - other, other - x, x * other, other / x, x / other):
            assert n.is_number(y)
            assert not y.is_still
    with pytest.raises(TypeError):
        np.exp(x)
