"""Balls contain what mpmath, at a much higher precision, finds at points inside their operands."""

from fractions import Fraction
from typing import Any

import flint
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcli.errors import CannotError
from gradcli.numbers import Ball, real
from gradcli.numbers.ball import OPEN

TRUE_BITS = 600


STRADDLING = flint.arb(0.0, 0.5)


def arb(middle, radius=0.0):
    return flint.arb(middle, radius)


def balls(n, *elements):
    return n.lift(np.array([*elements, None], object)[:-1])


def element(x):
    return np.asarray(x).reshape(-1)[0]


def contains(ball, true):
    """Whether a ball contains an mpf that is itself known to about 500 bits."""
    with mp.workprec(TRUE_BITS):
        slack = abs(true) * mp.mpf(2) ** -500
    before, flint.ctx.prec = flint.ctx.prec, TRUE_BITS
    try:
        return ball.overlaps(flint.arb(true, slack))
    finally:
        flint.ctx.prec = before


def inside(middle, radius, share):
    """A point of a ball, exactly."""
    point = Fraction(middle) + Fraction(radius) * Fraction(share)
    with mp.workprec(TRUE_BITS):
        return mp.mpf(point.numerator) / point.denominator


def within(low, high):
    return st.floats(low, high, allow_subnormal=False)


radii = st.sampled_from([0.0, 0.0, 2.0**-70, 2.0**-30, 2.0**-6, 0.75])
shares = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0])

UNARY = {
    "exp": (mp.exp, -600.0, 600.0),
    "expm1": (mp.expm1, -600.0, 600.0),
    "log": (mp.log, 1.0, 1e300),
    "log1p": (mp.log1p, 0.0, 1e300),
    "sqrt": (mp.sqrt, 1.0, 1e300),
    "tanh": (mp.tanh, -800.0, 800.0),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), -800.0, 800.0),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), -600.0, 600.0),
    "erf": (mp.erf, -30.0, 30.0),
    "erfc": (mp.erfc, -30.0, 30.0),
    "sin": (mp.sin, -1e6, 1e6),
    "cos": (mp.cos, -1e6, 1e6),
    "tan": (mp.tan, -1e6, 1e6),
    "asin": (mp.asin, -0.999, 0.999),
    "acos": (mp.acos, -0.999, 0.999),
    "atan": (mp.atan, -1e300, 1e300),
    "sinh": (mp.sinh, -600.0, 600.0),
    "cosh": (mp.cosh, -600.0, 600.0),
    "asinh": (mp.asinh, -1e300, 1e300),
    "acosh": (mp.acosh, 1.001, 1e300),
    "atanh": (mp.atanh, -0.999, 0.999),
    "abs": (abs, -5.0, 5.0),
    "sign": (mp.sign, -5.0, 5.0),
    "floor": (mp.floor, -5.0, 5.0),
}


@pytest.mark.parametrize("name", UNARY)
@given(data=st.data(), radius=radii, share=shares, bits=st.sampled_from([53, 128, 320]))
def test_elementwise_encloses(name, data, radius, share, bits):
    function, low, high = UNARY[name]
    middle = data.draw(within(low, high))
    n = Ball(bits)
    found = element(getattr(n, name)(balls(n, arb(middle, radius))))
    with mp.workprec(TRUE_BITS):
        true = function(inside(middle, radius, share))
        if isinstance(true, mp.mpc):  # beyond the domain
            assert not found.is_finite()
        else:
            assert contains(found, true)
    if radius == 0.0 and name not in ("sin", "cos", "tan"):  # whose zeros are no floats
        assert found.rel_accuracy_bits() > bits - 20


BINARY: dict[str, tuple[Any, Any]] = {
    "add": (lambda _, x, y: x + y, lambda x, y: x + y),
    "sub": (lambda _, x, y: x - y, lambda x, y: x - y),
    "mul": (lambda _, x, y: x * y, lambda x, y: x * y),
    "div": (lambda _, x, y: x / (y + 7.0), lambda x, y: x / (y + 7)),
    "maximum": (lambda n, x, y: n.maximum(x, y), max),
    "minimum": (lambda n, x, y: n.minimum(x, y), min),
    "where": (
        lambda n, x, y: n.where(n.less(x, y), x * 2.0, y),
        lambda x, y: 2 * x if x < y else y,
    ),
    "power": (lambda n, x, y: n.power(x + 7.0, y), lambda x, y: (x + 7) ** y),
    "square": (lambda n, x, _: n.power(x, n.full((1,), 2.0)), lambda x, _: x * x),
    "inverse": (lambda n, x, _: n.power(x + 7.0, n.full((1,), -3.0)), lambda x, _: (x + 7) ** -3),
}


@pytest.mark.parametrize("name", BINARY)
@given(
    x=within(-5.0, 5.0),
    y=within(-5.0, 5.0),
    rx=radii,
    ry=radii,
    sx=shares,
    sy=shares,
    tie=st.booleans(),
)
def test_two_operands_enclose(name, x, y, rx, ry, sx, sy, tie):
    y = x if tie else y
    ours, true = BINARY[name]
    n = Ball()
    found = element(ours(n, balls(n, arb(x, rx)), balls(n, arb(y, ry))))
    with mp.workprec(TRUE_BITS):
        assert contains(found, true(inside(x, rx, sx), inside(y, ry, sy)))
    assert found.is_finite()


@given(st.integers(0, 2**32))
def test_matrix_products_and_sums_enclose_rationals(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 4, 2))
    true: Any = [
        [
            [sum(Fraction(v) * Fraction(w) for v, w in zip(r, c, strict=True)) for c in b[k].T]
            for r in a[k]
        ]
        for k in range(2)
    ]
    n = Ball(64)
    product = n.matmul(n.lift(a), n.lift(b))
    total = n.sum(n.lift(a) * n.lift(a), (0, 2), False)
    with mp.workprec(TRUE_BITS):
        for found, q in zip(np.asarray(product).flat, np.ravel(true), strict=True):
            assert contains(found, mp.mpf(q.numerator) / q.denominator)
        for found, slice_ in zip(np.asarray(total).flat, np.moveaxis(a, 1, 0), strict=True):
            square = sum((Fraction(v) ** 2 for v in slice_.flat), Fraction(0))
            assert contains(found, mp.mpf(square.numerator) / square.denominator)


SIZES = [(1, 300, 1), (20, 70, 30), (64, 64, 17), (15, 90, 90), (70, 16, 66), (100, 30, 2)]


@pytest.mark.parametrize("bits", [64, 192, 700])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matrix_products_of_all_sizes_enclose_and_are_narrow(sizes, bits):
    m, k, n = sizes
    rng = np.random.default_rng(m)
    a, b = rng.standard_normal((m, k)), np.exp(9 * rng.standard_normal((k, n)))
    rough, fine = Ball(bits), Ball(1500)
    third = [x.full((), 1.0) / x.full((), 3.0) for x in (rough, fine)]
    found, true = (
        x.matmul(x.lift(a), x.lift(b) * t) for x, t in zip((rough, fine), third, strict=True)
    )
    assert found.shape == (m, n)
    assert rough.overlap(found, true).all()
    assert fine.radius(true).max() < 1e-300
    size = np.abs(a) @ (b / 3)
    assert np.all(rough.radius(found) <= size * 2.0 ** (12 - bits))


def test_matrices_are_known_again_only_as_they_are():
    n = Ball()
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 4, 4)), rng.standard_normal((4, 4))
    weight = n.lift(b)
    for precision in (128, 300):
        n.bits = precision
        for x in a:
            for left, right in ((n.lift(x), weight), (n.lift(x), n.transpose(weight, (1, 0)))):
                true = n.lower(left) @ n.lower(right)
                np.testing.assert_allclose(n.lower(n.matmul(left, right)), true, rtol=1e-13)
    part = n.slice(weight, [slice(1, 3)])
    np.testing.assert_allclose(n.lower(n.matmul(part, weight)), b[1:3] @ b, rtol=1e-13)
    with pytest.raises(ValueError, match="read-only"):
        weight[0, 0] = weight[1, 1]


def test_only_so_many_matrices_are_kept(monkeypatch):
    monkeypatch.setattr("gradcli.numbers.ball.REMEMBERED", 40)
    n = Ball()
    x = np.arange(16.0).reshape(4, 4)
    for k in range(5):
        kept = n.lift(x + k)
        np.testing.assert_array_equal(n.lower(n.matmul(kept, kept)), (x + k) @ (x + k))
        assert n.remembered <= 40


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(x=st.floats(allow_nan=False, allow_infinity=False))
def test_lift_and_lower_are_exact(dtype, x):
    with np.errstate(over="ignore"):
        x = np.array([x], dtype)
    n = Ball(32)  # fewer bits than the floats have
    lifted = n.lift(x)
    assert element(lifted).is_exact()
    assert n.lower(lifted) == x.astype(np.float64)


# ---- precision ----------------------------------------------------------------------------------


def test_one_and_the_same_number_equals_itself_and_another_in_the_same_ball_does_not():
    n = Ball()
    x = balls(n, arb(3.0, 0.5), arb(2.0, 0.25))
    assert n.equal(x, n.max(x, (0,), keepdims=True)).tolist() == [True, False]
    assert not np.any(n.less(x, x).tolist())
    with pytest.raises(CannotError):
        bool(n.equal(balls(n, arb(3.0, 0.5)), balls(n, arb(3.0, 0.5))))
    with pytest.raises(CannotError):
        bool(n.equal(unknown := balls(n, arb("nan")), unknown))


def test_precision_is_each_systems_own():
    before = flint.ctx.prec
    few, many = Ball(64), Ball(1000)
    third = [element(n.full((), 1.0) / n.full((), 3.0)) for n in (few, many)]
    assert third[0].rel_accuracy_bits() < 70
    assert third[1].rel_accuracy_bits() > 990
    assert flint.ctx.prec == before
    assert (many.radius(balls(many, third[1])) < 1e-299).all()
    with pytest.raises(CannotError):
        few.argmax(balls(few, STRADDLING, -STRADDLING), 0)
    assert flint.ctx.prec == before


def test_pi_is_enclosed():
    n = Ball()
    with mp.workprec(TRUE_BITS):
        assert contains(element(n.pi), +mp.pi)
    assert n.radius(n.pi) < 1e-30


def test_radius_is_an_upper_bound():
    n = Ball()
    assert n.radius(balls(n, arb(1.0, 0.1))) > 0.1
    assert n.radius(n.full((2,), 1.0)).max() < 1e-300


# ---- what is open -------------------------------------------------------------------------------


def test_comparisons_have_three_answers():
    n = Ball()
    x = balls(n, arb(-1.0), arb(1.0), STRADDLING, arb(0.0))
    assert list(n.less(x, n.zero)) == [True, False, OPEN, False]
    assert list(n.equal(x, n.zero)) == [False, False, OPEN, True]
    decided = n.less(n.lift(np.array([1.0, 2.0])), n.lift(np.array([2.0, 1.0])))
    assert decided.dtype == bool


def test_open_truth_follows_kleene():
    n = Ball()
    open_ = n.less(balls(n, STRADDLING, STRADDLING), n.zero)
    assert n.is_mask(open_)
    known = np.array([True, False])
    assert list(n.logical_not(open_)) == [OPEN, OPEN]
    assert list(n.logical_and(open_, known)) == [OPEN, False]
    assert list(n.logical_or(open_, known)) == [True, OPEN]
    assert list(n.equal(open_, known)) == [OPEN, OPEN]
    assert list(n.where(open_, known, known)) == [True, False]
    assert list(n.where(open_, known, ~known)) == [OPEN, OPEN]


def test_an_open_choice_is_the_hull_and_is_counted():
    n = Ball()
    x = balls(n, STRADDLING, arb(2.0))
    y = n.where(n.less(n.zero, x), n.full((2,), 3.0), n.full((2,), -1.0))
    assert n.undecided == 1
    assert element(y[:1]).contains(arb(3.0))
    assert element(y[:1]).contains(arb(-1.0))
    assert n.lower(y)[1] == 3.0
    alike = n.where(n.less(n.zero, x), n.zero, n.zero)
    assert n.undecided == 1, "both branches are the same number"
    assert n.lower(alike).tolist() == [0.0, 0.0]
    n.mask_to_number(n.less(x, n.zero))
    assert n.undecided == 2


@pytest.mark.parametrize("name", ["abs", "sign", "floor"])
def test_kinks_and_steps_are_counted_where_open(name):
    n = Ball()
    getattr(n, name)(balls(n, STRADDLING, arb(0.0), arb(1.5), arb(-1.5, 0.25)))
    assert n.undecided == 1


@pytest.mark.parametrize("name", ["sigmoid", "softplus"])
def test_what_is_smooth_has_no_open_choice(name):
    n = Ball()
    getattr(n, name)(balls(n, STRADDLING))
    assert n.undecided == 0


def test_only_rivals_for_the_maximum_count():
    n = Ball()
    row = (arb(1.0, 0.1), arb(1.0, 0.1), arb(5.0))
    assert n.lower(n.max(balls(n, *row), (0,), False)) == 5.0
    assert n.undecided == 0
    n.max(balls(n, *row[:2]), (0,), False)
    assert n.undecided == 1
    n.max(n.full((3,), 2.0), (0,), False)
    assert n.undecided == 1, "an exact tie is decided"


def test_structure_does_not_hang_on_open_choices():
    n = Ball()
    row = balls(n, arb(1.0), arb(3.0, 0.5), arb(3.0, 0.25))
    open_ = n.less(balls(n, STRADDLING), n.zero)
    assert n.argmax(balls(n, arb(1.0), arb(3.0), arb(3.0)), 0) == 1
    assert n.argmax(balls(n, arb(1.0, 0.5), arb(1.0, 0.5), arb(3.0, 0.5), arb(2.0)), 0) == 2
    for structural in (
        lambda: n.argmax(row, 0),
        lambda: n.argsort(row, 0),
        lambda: bool(open_),
        lambda: n.where(open_, np.array([1]), np.array([2])),
        lambda: n.to_integer(row, np.dtype(np.int64)),
        lambda: n.to_bits(row, np.dtype(np.float32), np.dtype(np.int32)),
    ):
        with pytest.raises(CannotError):
            structural()


def test_arrays_do_only_arithmetic():
    n = Ball()
    x, y = n.full((2,), 1.0), n.full((2,), 2.0)
    for question in (
        lambda: x > y,
        lambda: x == y,
        lambda: np.maximum(x, y),
        lambda: np.max(x),
        lambda: np.exp(x),
        lambda: bool(n.zero),
    ):
        with pytest.raises(TypeError):
            question()
    assert n.is_number(n.zero * n.zero), "an array without dimensions stays one"


def test_anchor_is_exact_and_finite():
    n = Ball()
    x = n.lift(np.array([[1.0, -np.inf], [-np.inf, -np.inf]])) + n.full((2, 1), 1.0) / 3.0
    anchor = n.anchor(x, 1)
    assert anchor.shape == (2, 1)
    assert (n.radius(anchor) < 1e-300).all()
    np.testing.assert_allclose(n.lower(anchor), [[4 / 3], [0.0]])


# ---- rounding -----------------------------------------------------------------------------------


@given(x=st.floats(-60000, 60000), dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_round_to_of_a_float_is_numpys(x, dtype):
    n = Ball()
    x = np.array([x])
    assert n.lower(n.round_to(n.lift(x), np.dtype(dtype))) == x.astype(dtype)


@given(x=within(1.0, 1e4), y=within(1.0, 1e4))
def test_round_to_of_a_quotient_is_correct(x, y):
    n = Ball()
    quotient = n.lift(np.array([x])) / n.lift(np.array([y]))
    rounded = n.lower(n.round_to(quotient, np.dtype(np.float32)))
    exact = Fraction(x) / Fraction(y)
    spacing = Fraction(float(np.spacing(np.float32(rounded[0]))))
    assert abs(Fraction(rounded[0]) - exact) <= spacing / 2


def test_rounding_twice_is_avoided():
    n = Ball()
    x = n.full((1,), 1.0) + n.full((1,), 2.0**-24) + n.full((1,), 2.0**-80)
    assert n.lower(n.round_to(x, np.dtype(np.float32))) == 1.0 + 2.0**-23
    assert n.undecided == 0


def test_round_to_is_the_hull_at_a_step():
    n = Ball()
    step = 1.0 + 2.0**-24
    y = n.round_to(balls(n, arb(step, 2.0**-40)), np.dtype(np.float32))
    assert n.undecided == 1
    assert element(y).contains(arb(1.0))
    assert element(y).contains(arb(1.0 + 2.0**-23))


def test_powers_of_balls_around_zero():
    n = Ball()
    x = balls(n, arb(0.0, 0.1))
    assert n.radius(n.power(x, n.full((), 2.0))) < 0.011
    assert n.lower(n.power(n.zero, n.full((), 0.5))) == 0.0
    assert n.lower(n.power(n.zero, n.zero)) == 1.0
    assert n.lower(n.power(n.full((), -2.0), n.full((), 3.0))) == -8.0
    assert n.lower(n.power(n.full((), 4.0), n.full((), -0.5))) == 0.5


def test_integers_of_balls():
    n = Ball()
    x = n.lift(np.array([-1.5, 1.5, 3.0])) + n.full((), 1.0) / 1e20
    assert n.to_integer(x, np.dtype(np.int32)).tolist() == [-1, 1, 3]
    assert real.to_integer(np.array([-1.5]), np.dtype(np.int32)).tolist() == [-1]
