"""What a choice has dropped has no say in a derivative, however infinite its slope is there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcli import runtime
from gradcli.graph import Builder, DType, Var
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import Derivative, cast, jvp, simplify, tune, vjp

F64 = DType.FLOAT64
INF = np.inf

Make = Callable[[Builder, Var], Var]


def pulled(make: Make, rows: int = 1, columns: int = 3) -> Derivative:
    b = Builder(OPS)
    x = b.input("x", F64, (rows, columns))
    return vjp(b.graph([b.rename(make(b, x), "y")]))


def gradient(d: Derivative, x: np.ndarray) -> np.ndarray:
    """d(sum of y)/dx, by the interpreter and in float32 by onnxruntime, which must agree."""
    feeds = {"x": x, d.directions["y"]: np.ones(x.shape)}
    exact = interpret(d.graph, feeds)[d.results["x"]]
    fast = tune(simplify(cast(d.graph, DType.FLOAT32)))
    narrow = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
    got = runtime.prepare(fast).run(narrow)[d.results["x"]]
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-6)
    return exact


def positive(op: str) -> Make:
    return lambda b, x: b.where(x > 0.0, b.op(op, x), 0.0)


def reciprocal(b: Builder, x: Var) -> Var:
    return b.where(b.op("Equal", x, b.like(0.0, x)), 7.0, 1.0 / x)


def power(b: Builder, x: Var) -> Var:
    return b.where(x < 1.0, x, b.op("Pow", x - 1.0, b.like(0.5, x)))


def nested(b: Builder, x: Var) -> Var:
    inner = b.where(x > -1.0, b.op("Log", x), b.op("Exp", x * -1000.0))
    return b.where(x > 0.0, inner * 2.0, x)


CASES: dict[str, tuple[Make, list[float], list[float]]] = {
    "Sqrt": (positive("Sqrt"), [0.0, -1.0, 4.0], [0.0, 0.0, 0.25]),
    "Log": (positive("Log"), [0.0, -1.0, 4.0], [0.0, 0.0, 0.25]),
    "Div": (reciprocal, [0.0, 2.0, -1.0], [0.0, -0.25, -1.0]),
    "Pow": (power, [0.5, 1.25, -3.0], [1.0, 1.0, 1.0]),
    "nested": (nested, [0.5, 0.0, -4.0], [4.0, 1.0, 1.0]),
    "Relu": (lambda b, x: b.op("Relu", b.op("Log", x)), [0.0, 0.5, 4.0], [0.0, 0.0, 0.25]),
    "two readers": (
        lambda b, x: b.where(x > 0.0, y := b.op("Sqrt", x), 0.0) + b.where(x > 1.0, y, 0.0),
        [0.0, 0.25, 4.0],
        [0.0, 1.0, 0.5],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_untaken_branch_adds_no_nan(name):
    make, x, wanted = CASES[name]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(gradient(pulled(make), np.array([x])), [wanted], rtol=1e-6)


def masked(drop: Callable[[Builder, Var, Var], Var], op: str = "Softmax") -> Make:
    """Attention over three keys as files write it: a row of which nothing is allowed becomes 0."""

    def make(b: Builder, x: Var) -> Var:
        allowed = b.constant(np.array([[False] * 3, [True, False, True]]))
        y = b.op(op, b.where(allowed, x * 2.0, -INF), axis=-1)
        y = drop(b, allowed, y)
        return y * b.constant(np.array([1.0, 2.0, 4.0]))

    return make


def by_row(b: Builder, allowed: Var, y: Var) -> Var:
    empty = b.constant(np.array([[True], [False]]))
    return b.where(empty, 0.0, b.cast(b.cast(y, DType.FLOAT32), y.dtype))


def by_element(b: Builder, allowed: Var, y: Var) -> Var:
    return b.where(allowed, y, 0.0)


def after_moves(b: Builder, allowed: Var, y: Var) -> Var:
    rows = b.unsqueeze(b.transpose(b.reshape(y, [2, 3, 1]), (2, 0, 1)), [1])
    return b.op("Squeeze", b.where(allowed, rows, 0.0), b.ints([0, 1]))


def by_nan(b: Builder, allowed: Var, y: Var) -> Var:
    return b.where(b.op("IsNaN", y), 0.0, y)


@pytest.mark.parametrize("drop", [by_row, by_element, by_nan, after_moves])
def test_a_softmax_of_nothing_adds_no_nan(drop):
    x = np.array([[0.1, 0.2, 0.3], [0.3, 5.0, -0.2]])
    with np.errstate(all="ignore"):
        got = gradient(pulled(masked(drop), rows=2), x)
    p = np.exp(2 * x[1]) * [1, 0, 1] / np.sum(np.exp(2 * x[1]) * [1, 0, 1])
    w = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(got, [np.zeros(3), 2 * p * (w - w @ p)], rtol=1e-6, atol=1e-12)


def test_a_log_softmax_of_nothing_adds_no_nan():
    x = np.array([[0.1, 0.2, 0.3], [0.3, 5.0, -0.2]])
    with np.errstate(all="ignore"):
        got = gradient(pulled(masked(by_element, "LogSoftmax"), rows=2), x)
    p = np.exp(2 * x[1]) * [1, 0, 1] / np.sum(np.exp(2 * x[1]) * [1, 0, 1])
    np.testing.assert_allclose(got, [np.zeros(3), 2 * ([1, 0, 4] - 5 * p)], rtol=1e-6, atol=1e-12)


def test_what_is_taken_keeps_its_infinite_slope():
    """Only the mask decides, never a cotangent that happens to be 0."""

    def make(b: Builder, x: Var) -> Var:
        root = b.where(x > -1.0, b.op("Sqrt", x), 0.0)
        return root * root

    with np.errstate(all="ignore"):
        d = pulled(make)
        out = interpret(
            d.graph, {"x": np.array([[0.0, 1.0, -2.0]]), d.directions["y"]: [[1.0] * 3]}
        )
    np.testing.assert_array_equal(out[d.results["x"]], [[np.nan, 1.0, 0.0]])


def test_second_order_survives_a_cotangent_of_0():
    """y = z z with z = exp(x) - 1 has second derivative 2 at 0, although z_bar is 0 there."""

    def make(b: Builder, x: Var) -> Var:
        z = b.where(x > -1.0, b.op("Exp", x) - 1.0, b.op("Log", x))
        return z * z

    d = pulled(make)
    x_bar = d.results["x"]
    feeds = {"x": np.array([[0.0, 1.0, 0.5]]), d.directions["y"]: np.ones((1, 3))}
    e = np.exp(feeds["x"])
    for second in (jvp(d.graph, ["x"], [x_bar]), vjp(d.graph, ["x"], [x_bar])):
        (name,) = second.directions.values()
        out = interpret(second.graph, {**feeds, name: np.ones((1, 3))})
        (result,) = second.results.values()
        np.testing.assert_allclose(out[result], 4 * e * e - 2 * e, rtol=1e-12)


def test_where_nothing_is_dropped_nothing_is_added():
    d = pulled(lambda b, x: b.op("Softmax", b.op("Exp", x) * x, axis=-1))
    assert "Where" not in {node.op for node in d.graph.nodes}
