"""What the table of rows cannot ask of elementwise operators: tails, element types, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Graph
from gradcli.interpret import interpret
from gradcli.numbers import Ball, Symbol, complex_, real
from gradcli.ops import OPS
from gradcli.transform import jvp, vjp
from tests.ops.recorder import opened, recorder

TAIL = [1e-310, 1e-200, 1e-30, 1e-9, 0.1, 1.0, 2.5, 6.0, 13.0, 20.0, 30.0, 37.5]
POINTS = np.array([0.0, *TAIL, *(-x for x in TAIL)])
FAR = np.array([-800.0, 800.0, -1e6, 1e6])
SMALLEST = 1e-290
"""What is smaller than this may have been through numbers below the least normal float."""


def unary(op: str, dtype: DType = DType.FLOAT64, **attrs: object) -> Graph:
    b = Builder(OPS)
    return b.graph([b.op(op, b.input("x", dtype, (len(POINTS),)), name="y", **attrs)])


def slope(op: str, points: np.ndarray, **attrs: object) -> tuple[np.ndarray, np.ndarray]:
    """y and dy/dx of a unary operator at these points, by its rules."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, points.shape)
    d = jvp(b.graph([b.op(op, x, name="y", **attrs)]))
    out = interpret(d.graph, {"x": points, "x_dot": np.ones(points.shape)})
    return out["y"], out["y_dot"]


def gelu_tanh(x):
    scale = mpmath.sqrt(2 / mpmath.pi)
    return x / (1 + mpmath.exp(-2 * scale * (x + mpmath.mpf("0.044715") * x**3)))


SMOOTH: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "Exp": (mpmath.exp, {}),
    "Tanh": (mpmath.tanh, {}),
    "Sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), {}),
    "Erf": (mpmath.erf, {}),
    "Softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), {}),
    "Gelu": (lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2, {}),
    "Gelu, tanh": (gelu_tanh, {"approximate": "tanh"}),
    "Mish": (lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))), {}),
    "Swish": (lambda x: x / (1 + mpmath.exp(-2 * x)), {"alpha": 2.0}),
    "Celu": (lambda x: x if x > 0 else mpmath.expm1(x * 2) / 2, {"alpha": 0.5}),
    "Sin": (mpmath.sin, {}),
    "Cos": (mpmath.cos, {}),
    "Tan": (mpmath.tan, {}),
    "Atan": (mpmath.atan, {}),
    "Sinh": (mpmath.sinh, {}),
    "Cosh": (mpmath.cosh, {}),
    "Asinh": (mpmath.asinh, {}),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_every_digit_is_right_in_the_tails(name):
    function, attrs = SMOOTH[name]
    y, dy = slope(name.split(",")[0], POINTS, **attrs)
    with mpmath.workdps(400):  # differences of a function near 1 lose hundreds of digits
        for x, got_y, got_dy in zip(POINTS, y, dy, strict=True):
            at = mpmath.mpf(float(x))
            for got, wanted in ((got_y, function(at)), (got_dy, mpmath.diff(function, at))):
                error = abs(mpmath.mpf(float(got)) - wanted)
                assert error <= 1e-12 * abs(wanted) + SMALLEST, (x, got, mpmath.nstr(wanted, 17))


FLAT_LEFT = ("Tanh", "Sigmoid", "Erf", "Softplus", "Gelu", "Gelu, tanh", "Mish", "Swish", "Celu")


@pytest.mark.parametrize("name", FLAT_LEFT)
def test_far_out_a_slope_is_its_limit(name):
    _, dy = slope(name.split(",")[0], FAR, **SMOOTH[name][1])
    right = 1.0 if name not in ("Tanh", "Sigmoid", "Erf") else 0.0
    np.testing.assert_array_equal(dy, [0.0, right, 0.0, right])


INSIDE = np.array([0.0, *TAIL[:5], *(1.0 - 2.0 ** np.arange(-50, -1, 7.0))])
BOUNDED = {
    "Asin": (mpmath.asin, np.concatenate([INSIDE, -INSIDE])),
    "Acos": (mpmath.acos, np.concatenate([INSIDE, -INSIDE])),
    "Atanh": (mpmath.atanh, np.concatenate([INSIDE, -INSIDE])),
    "Acosh": (mpmath.acosh, 1.0 + np.concatenate([2.0 ** np.arange(-50, 3, 7.0), [1e3, 1e9]])),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_every_digit_is_right_near_the_end_of_the_domain(name):
    function, points = BOUNDED[name]
    y, dy = slope(name, points)
    with mpmath.workdps(60):
        for x, got_y, got_dy in zip(points, y, dy, strict=True):
            at = mpmath.mpf(float(x))
            step = mpmath.mpf(10) ** -25
            wanted = (function(at + step) - function(at - step)) / (2 * step)
            assert abs(mpmath.mpf(float(got_y)) - function(at)) <= 1e-14 * abs(function(at))
            assert abs(mpmath.mpf(float(got_dy)) - wanted) <= 1e-14 * abs(wanted)


@pytest.mark.parametrize("n", [real, complex_], ids=["real", "complex"])
def test_nothing_overflows_far_out(n):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, FAR.shape)
    ops = ["Tanh", "Sigmoid", "Erf", "Softplus", "Gelu", "Mish", "Swish", "Celu", "Selu", "Asinh"]
    graph = b.graph([b.op(op, x, name=op) for op in ops])
    for name, y in interpret(graph, {"x": FAR}, n).items():
        assert np.all(np.isfinite(y)), name


@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.FLOAT32, DType.BFLOAT16])
def test_a_rounding_is_rounded_and_its_derivative_is_one(dtype):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2,))
    graph = b.graph([b.op("Cast", x, to=dtype.value, name="y")])
    point = np.array([1.0 + 2.0**-30, 1 / 3])
    forward, back = jvp(graph), vjp(graph)
    out = interpret(forward.graph, {"x": point, "x_dot": np.array([1.0, -2.0])})
    np.testing.assert_array_equal(out["y"], point.astype(dtype.np).astype(np.float64))
    np.testing.assert_array_equal(out["y_dot"], [1.0, -2.0])
    assert {v.name: v.dtype for v in forward.graph.outputs}["y_dot"] is dtype
    out = interpret(back.graph, {"x": point, "y_bar": np.array([4.0, 8.0])})
    np.testing.assert_array_equal(out["x_bar"], [4.0, 8.0])
    assert {v.name: v.dtype for v in back.graph.outputs}["x_bar"] is DType.FLOAT64


@pytest.mark.parametrize("to", ["int64", "bool"])
def test_no_derivative_passes_an_integer_or_a_truth_value(to):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2,))
    back = b.op("Cast", b.op("Cast", x, to=to), to="float64", name="y")
    assert jvp(b.graph([back])).results == {}
    assert vjp(b.graph([back])).results == {}


@pytest.mark.parametrize("to", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_no_derivative_passes_a_rounding_to_eight_bits(to):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2,))
    back = b.op("Cast", b.op("Cast", x, to=to), to="float64", name="y")
    assert jvp(b.graph([back])).results == {}
    assert vjp(b.graph([back])).results == {}


def test_cast_cuts_off_towards_zero():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (4,))
    out = interpret(
        b.graph([b.op("Cast", x, to="int32", name="y")]), {"x": np.array([1.9, -1.9, 0.5, -3.0])}
    )
    assert out["y"].dtype == np.int32
    np.testing.assert_array_equal(out["y"], [1, -1, 0, -3])


@pytest.mark.parametrize("training", [True, None], ids=["on", "computed"])
def test_dropout_in_training_is_refused(training):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (2,))
    mode = b.input("mode", DType.BOOL, ()) if training is None else b.constant(np.array(True))
    with pytest.raises(UnsupportedError, match="random"):
        b.op("Dropout", x, b.constant(np.float32(0.5)), mode)


SYSTEMS = pytest.mark.parametrize(
    "n", [real, complex_, recorder, Ball(), Symbol()], ids=lambda n: n.name
)
INTEGERS = {
    "Add": [5, -9, 9],
    "Sub": [9, -5, -5],
    "Mul": [-14, 14, 14],
    "Div": [-3, 3, 0],
    "Mod": [-1, -1, 2],
    "Max": [7, -2, 7],
    "Min": [-2, -7, 2],
}


@SYSTEMS
@pytest.mark.parametrize("op", INTEGERS)
def test_integers_stay_integers(op, n):
    b = Builder(OPS)
    x, y = b.ints([7, -7, 2]), b.ints([-2, -2, 7])
    out = interpret(b.graph([b.op(op, x, y, name="z")]), {}, n)["z"]
    assert out.dtype == np.int64
    np.testing.assert_array_equal(out, INTEGERS[op])


@SYSTEMS
def test_integers_of_one_operand_stay_integers(n):
    b = Builder(OPS)
    x, zero = b.ints([7, -7, 0]), b.constant(0)
    made = {
        "Neg": ([-7, 7, 0], b.op("Neg", x)),
        "Abs": ([7, 7, 0], b.op("Abs", x)),
        "Sign": ([1, -1, 0], b.op("Sign", x)),
        "Relu": ([7, 0, 0], b.op("Relu", x)),
        "Clip": ([3, -2, 0], b.op("Clip", x, b.constant(-2), b.constant(3))),
        "Cast": ([1, 1, 0], b.op("Cast", b.op("Cast", x, to="bool"), to="int64")),
        "Where": ([7, 0, 0], b.op("Where", b.op("Greater", x, zero), x, zero)),
    }
    out = interpret(b.graph([y for _, y in made.values()]), {}, n)
    for op, (wanted, y) in made.items():
        assert out[y.value.name].dtype == np.int64, op
        np.testing.assert_array_equal(out[y.value.name], wanted, err_msg=op)


@pytest.mark.parametrize("fmod", [0, 1])
@SYSTEMS
def test_mod_of_an_infinite_divisor(fmod, n):
    b = Builder(OPS)
    x, y = (b.input(name, DType.FLOAT64, (6,)) for name in "xy")
    big = np.inf
    points = {
        "x": np.array([2.0, -2.0, 2.0, -2.0, 0.0, big]),
        "y": np.array([big, -big, -big, big, big, big]),
    }
    z = interpret(b.graph([b.op("Mod", x, y, fmod=fmod, name="z")]), points, n)["z"]
    same_sign, other_sign, rest = [2.0, -2.0], [-big, big], [0.0, np.nan]
    wanted = [*same_sign, *(same_sign if fmod else other_sign), *rest]
    np.testing.assert_array_equal(np.real(opened(n.lower(z))), wanted)


def test_one_operand_is_its_own_maximum():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2,))
    d = vjp(b.graph([b.op("Max", x, name="y")]))
    out = interpret(d.graph, {"x": np.ones(2), "y_bar": np.array([2.0, 3.0])})
    np.testing.assert_array_equal(out["x_bar"], [2.0, 3.0])


def test_a_mask_stops_infinities_that_a_product_would_turn_into_nan():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2,))
    d = vjp(b.graph([b.op("Relu", x, name="y")]))
    out = interpret(d.graph, {"x": np.array([-1.0, 1.0]), "y_bar": np.array([np.inf, np.inf])})
    np.testing.assert_array_equal(out["x_bar"], [0.0, np.inf])
