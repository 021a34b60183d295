"""What the table of rows cannot ask of comparisons and choices: NaN, truth values, infinities."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.numbers import Numbers, complex_, real
from gradcli.ops import OPS
from gradcli.transform import vjp
from tests.ops.recorder import opened, recorder

SYSTEMS = pytest.mark.parametrize("n", [real, complex_, recorder], ids=lambda n: n.name)


@SYSTEMS
@pytest.mark.parametrize("op", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_no_comparison_holds_with_nan(op: str, n: Numbers):
    b = Builder(OPS)
    x, y = (b.input(name, DType.FLOAT64, (3,)) for name in "xy")
    graph = b.graph([b.op(op, x, y, name="z")])
    feeds = {"x": np.array([np.nan, 1.0, np.nan]), "y": np.array([1.0, np.nan, np.nan])}
    assert not np.any(opened(interpret(graph, feeds, n)["z"]))


@SYSTEMS
def test_where_chooses_truth_values_too(n: Numbers):
    # onnxruntime has no kernel for this one.
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (4,))
    masks = [x > 0.0, x > 1.0, x < 2.0]
    graph = b.graph([b.op("Where", *masks, name="z")])
    out = interpret(graph, {"x": np.array([-1.0, 0.5, 1.5, 3.0])}, n)["z"]
    np.testing.assert_array_equal(opened(out), [True, False, True, True])


def test_what_is_not_chosen_may_be_infinite():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (2,))
    safe = b.where(x > 0.0, b.op("Log", x), 0.0)
    d = vjp(b.graph([b.op("Identity", safe, name="y")]))
    out = interpret(d.graph, {"x": np.array([-0.0, 2.0]), "y_bar": np.ones(2)})
    assert out["y"].tolist() == [0.0, np.log(2.0)]
    # No product with the cotangent 0 that reaches Log, which times 1/0 would be NaN.
    assert out["x_bar"].tolist() == [0.0, 0.5]


@pytest.mark.parametrize(
    ("signs", "wanted"),
    [({}, [1, 1, 0]), ({"detect_negative": 0}, [1, 0, 0]), ({"detect_positive": 0}, [0, 1, 0])],
)
def test_infinities_by_sign(signs: dict[str, int], wanted: list[int]):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (3,))
    graph = b.graph([b.op("IsInf", x, name="y", **signs)])
    out = interpret(graph, {"x": np.array([np.inf, -np.inf, 1.0])})["y"]
    assert out.tolist() == [bool(w) for w in wanted]


@SYSTEMS
def test_round_takes_halves_to_even_and_misses_nothing_near_them(n: Numbers):
    b = Builder(OPS)
    points = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999999999999994, 2.0**52 + 1, np.inf])
    x = b.input("x", DType.FLOAT64, points.shape)
    out = opened(interpret(b.graph([b.op("Round", x, name="y")]), {"x": points}, n)["y"])
    np.testing.assert_array_equal(np.real(out), np.round(points))


@pytest.mark.parametrize(
    ("direction", "wanted"), [("LEFT", [-2, -10, 0, 0]), ("RIGHT", [63, -3, -1, 0])]
)
def test_a_shift_keeps_the_sign_and_may_be_by_too_much_or_negative(direction, wanted):
    b = Builder(OPS)
    x = b.constant(np.array([127, -5, -5, 5], np.int8))
    y = b.constant(np.array([1, 1, 8, -1], np.int8))
    out = interpret(b.graph([b.op("BitShift", x, y, direction=direction, name="z")]), {})["z"]
    assert out.dtype == np.int8
    assert out.tolist() == wanted


@pytest.mark.parametrize(
    ("source", "to"), [(DType.FLOAT16, "bfloat16"), (DType.INT32, "str"), (DType.FLOAT16, "int16")]
)
def test_a_bit_cast_that_numbers_cannot_follow_is_refused(source, to):
    b = Builder(OPS)
    x = b.constant(np.ones(2, source.np))
    with pytest.raises(UnsupportedError, match="BitCast"):
        interpret(b.graph([b.op("BitCast", x, to=to, name="z")]), {})
