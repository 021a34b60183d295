"""Symbols: exact constants, and derivatives by SymPy that stay finite and keep their digits."""

import mpmath as mp
import numpy as np
import pytest
import sympy

from gradcli.errors import CannotError
from gradcli.numbers import Symbol, real

n = Symbol()
EDGES = np.array(
    [-np.inf, -1000.0, -2.0, -1.0, -0.5, 0.0, 1e-20, 0.1, 1.0, 2.5, 1000.0, np.inf, np.nan]
)
FUNCTIONS = [
    "exp",
    "log",
    "log1p",
    "expm1",
    "sqrt",
    "tanh",
    "sigmoid",
    "erf",
    "erfc",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "sign",
    "floor",
    "abs",
    "is_nan",
    "is_infinite",
]


def derivative(name, at):
    """SymPy's derivative of one of n's functions, as NumPy evaluates it."""
    x = n.symbols("x", ())
    (expression,) = getattr(n, name)(x).flat
    slope = sympy.diff(expression, x.item())
    with np.errstate(all="ignore"):
        return sympy.lambdify(x.item(), slope, ["scipy", "numpy"])(np.asarray(at))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_of_constants_is_what_floats_give(name):
    with np.errstate(all="ignore"):
        expected = getattr(real, name)(EDGES)
    found = getattr(n, name)(n.lift(EDGES))
    np.testing.assert_allclose(n.lower(found), expected, rtol=1e-15, atol=0)


def test_floats_are_lifted_exactly_and_folded_as_floats():
    x = np.array([0.1, 1.0, -3.0, 1e300, 5e-324, 2.0**-30])
    lifted = n.lift(x)
    assert n.lower(lifted).tolist() == x.tolist()
    assert [v.is_Integer for v in lifted.flat] == [False, True, True, False, False, False]
    assert n.lower(lifted * lifted + lifted).tolist()[0] == 0.1 * 0.1 + 0.1
    third = n.full((), 0.1) / n.full((), 3.0)
    assert third.item().is_Float, "no fraction of two long integers"
    assert n.sqrt(n.full((), 2.0)).item().is_Float
    assert n.sqrt(n.full((), 4.0)).item() == 2


def test_symbols_are_named_by_their_place():
    assert [str(s) for s in n.symbols("x", (2, 2)).flat] == ["x_0_0", "x_0_1", "x_1_0", "x_1_1"]
    scalar = n.symbols("t", ())
    assert str(scalar.item()) == "t"
    assert n.is_number(scalar * scalar)
    assert scalar.item().is_real


SLOPES = {
    "sigmoid": lambda x: 1 / ((1 + mp.exp(-x)) * (1 + mp.exp(x))),
    "softplus": lambda x: 1 / (1 + mp.exp(-x)),
    "erfc": lambda x: -2 / mp.sqrt(mp.pi) * mp.exp(-x * x),
    "log1p": lambda x: 1 / (1 + x),
    "expm1": mp.exp,
    "sqrt": lambda x: 0.5 / mp.sqrt(x),
    "abs": mp.sign,
    "tan": lambda x: 1 / mp.cos(x) ** 2,
    "asin": lambda x: 1 / mp.sqrt(1 - x * x),
    "acos": lambda x: -1 / mp.sqrt(1 - x * x),
    "atan": lambda x: 1 / (1 + x * x),
    "sinh": mp.cosh,
    "cosh": mp.sinh,
    "asinh": lambda x: 1 / mp.sqrt(1 + x * x),
    "acosh": lambda x: 1 / mp.sqrt(x * x - 1),
    "atanh": lambda x: 1 / (1 - x * x),
}


@pytest.mark.parametrize("name", SLOPES)
def test_derivatives_by_sympy(name):
    at = np.array([-300.0, -30.0, -2.0, -0.5, 0.5, 3.0, 20.0, 300.0])
    at = at[at > 0] if name in ("sqrt", "log1p") else at
    at = at[np.abs(at) < 25] if name == "erfc" else at
    at = at[np.abs(at) < 1] if name in ("asin", "acos", "atanh") else at
    at = at[at > 1] if name == "acosh" else at
    expected = [float(SLOPES[name](mp.mpf(x))) for x in at]
    np.testing.assert_allclose(derivative(name, at), expected, rtol=2e-13)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "erf", "erfc"])
def test_derivatives_in_far_tails_are_0(name):
    assert np.abs(derivative(name, [-800.0, 800.0])).max() == 0.0


def test_steps_have_no_spikes_in_their_derivatives():
    for name, slopes in (("sign", [0.0, 0.0]), ("abs", [-1.0, 1.0])):
        for at, slope in zip([-2.0, 3.0], slopes, strict=True):
            assert derivative(name, at) == slope
    x = n.symbols("x", ())
    second = sympy.diff(n.abs(x).item() * n.sign(x).item(), x.item(), 2)
    assert not second.has(sympy.DiracDelta, sympy.Heaviside, sympy.Subs)


def test_complement_keeps_its_tail():
    x = n.symbols("x", ())
    f = sympy.lambdify(x.item(), n.erfc(-x).item(), ["scipy", "numpy"])
    np.testing.assert_allclose(f(-10.0), real.erfc(np.array(10.0)), rtol=1e-14)
    shared, (result,) = sympy.cse([n.erfc(-x).item() * sympy.exp(-x.item())])
    rebuilt = result.subs(reversed(shared))
    np.testing.assert_allclose(
        float(rebuilt.subs(x.item(), -10.0)), real.erfc(np.array(10.0)) * np.exp(10.0), rtol=1e-14
    )


@pytest.mark.parametrize("op", ["maximum", "minimum"])
def test_two_are_compared_by_pieces(op):
    x = n.symbols("x", (2,))
    (expression,) = getattr(n, op)(x[:1], x[1:]).flat
    assert expression.has(sympy.Piecewise)
    f = sympy.lambdify(list(x.flat), expression)
    for a, b in [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)]:
        assert f(a, b) == getattr(np, op)(a, b)


def test_the_greatest_of_many_is_flat():
    x = n.symbols("x", (6,))
    expression = n.max(x, (0,), False).item()
    assert len(expression.args) == 6
    assert not any(piece.expr.has(sympy.Piecewise) for piece in expression.args)
    f = sympy.lambdify([list(x.flat)], expression)
    rng = np.random.default_rng(5)
    for _ in range(30):
        row = rng.integers(0, 4, 6).tolist()
        assert f(row) == max(row)
    assert n.lower(n.max(n.lift(np.array([1.5, 7.0, 7.0])), (0,), False)) == 7.0


def test_masks_are_decided_or_relations():
    x = n.symbols("x", (2,))
    one, two = n.full((2,), 1.0), n.full((2,), 2.0)
    assert n.less(one, two).tolist() == [True, True]
    assert n.less(one, two).dtype == bool
    open_ = n.less(x, two)
    assert n.is_mask(open_)
    assert not n.is_number(open_)
    assert n.less(x, x).tolist() == [False, False]
    known = np.array([True, False])
    both = n.logical_and(open_, known)
    assert both[1] is False
    either = n.logical_or(open_, known)
    assert either[0] is True
    (chosen,) = n.where(open_[:1], x[:1], two[:1]).flat
    f = sympy.lambdify(x[0], chosen)
    assert (f(1.0), f(3.0)) == (1.0, 2.0)
    assert list(n.where(open_, one, one).flat) == [1, 1]
    negated = n.where(n.logical_not(open_), one, -one)
    assert sympy.lambdify(x[0], negated[0])(5.0) == 1


def test_structure_does_not_hang_on_symbols():
    x = n.symbols("x", (3,))
    for structural in (
        lambda: n.argmax(x, 0),
        lambda: n.argsort(x, 0),
        lambda: n.lower(x),
        lambda: n.to_integer(x, np.dtype(np.int64)),
        lambda: n.round_to(x, np.dtype(np.float32)),
    ):
        with pytest.raises(CannotError):
            structural()
    assert n.argmax(n.lift(np.array([1.0, 3.0, 3.0])), 0) == 1


def test_power_knows_halves_and_whole_exponents():
    x = n.symbols("x", ())
    assert n.power(x, n.full((), 2.0)).item() == x.item() ** 2
    assert n.power(x, n.full((), 0.5)).item() == sympy.sqrt(x.item())
    assert n.power(x, n.full((), 0.3)).item().exp == sympy.Float(0.3)
    np.testing.assert_allclose(
        n.lower(n.power(n.full((), 2.0), n.full((), 0.3))), 2.0**0.3, rtol=1e-15
    )
    assert np.isnan(n.lower(n.power(n.full((), -2.0), n.full((), 0.5))))
