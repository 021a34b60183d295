"""At the edge of a domain a slope is infinite; all that does not hang on it is what it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from gradcli import api
from gradcli.comparison.facts import Verdict
from gradcli.engines.base import Linearised, linearised
from gradcli.engines.symbolic.factored import Factored
from gradcli.graph import Builder, DType, Var
from gradcli.onnxfile import write
from gradcli.ops import OPS
from gradcli.problem import Problem
from tests.engines.problems import Function, estimate, problem

INF, NAN = np.inf, np.nan


def unary(op: str) -> Function:
    return lambda b, x: b.op(op, x)


def c(b: Builder, x: Var, value: ArrayLike) -> Var:
    return b.constant(np.asarray(value, np.float64), x.dtype)


def to_the(power: float) -> Function:
    return lambda b, x: b.op("Pow", x, c(b, x, power))


def after(f: Function, *rest: Function) -> Function:
    """The functions one after another."""
    if not rest:
        return f
    return lambda b, x: after(*rest)(b, f(b, x))


def clip(low: float, high: float) -> Function:
    return lambda b, x: b.op("Clip", x, c(b, x, low), c(b, x, high))


def norm(p: float) -> Function:
    def f(b: Builder, x: Var) -> Var:
        total = b.op("ReduceSum", to_the(p)(b, b.op("Abs", x)), b.ints([-1]), keepdims=0)
        return to_the(1.0 / p)(b, total)

    return f


def distances(p: float) -> Function:
    return lambda b, x: norm(p)(b, b.unsqueeze(x, [1]) - b.unsqueeze(x, [0]))


def deviation(b: Builder, x: Var) -> Var:
    d = x - b.op("ReduceMean", x, b.ints([-1]))
    return b.op("Sqrt", b.op("ReduceMean", d * d, b.ints([-1]), keepdims=0))


def twice(f: Function) -> Function:
    """f(x) f(x)."""

    def square(b: Builder, x: Var) -> Var:
        y = f(b, x)
        return y * y

    return square


def two(b: Builder, x: Var) -> list[Var]:
    """The two halves of a vector of six."""
    return [b.op("Slice", x, b.ints([k]), b.ints([k + 3]), b.ints([0])) for k in (0, 3)]


def masked(b: Builder, x: Var) -> Var:
    """All of x but its first element at -inf."""
    return b.where(b.constant(np.array([[True, False], [False, False]])), x, -INF)


def diagonal(*slopes: float) -> np.ndarray:
    return np.diag(slopes)


HALF = np.sqrt(0.125)
FURTHER = np.array([1.0, 4.0, 9.0]) / 36.0 ** (2 / 3)
"""The slope of a norm of order 3 at (1, 2, 3)."""

CASES: dict[str, tuple[Function, ArrayLike, Any]] = {
    # Each operator with an edge, alone and behind what keeps it there.
    "Sqrt": (unary("Sqrt"), [0, 2, 4], diagonal(INF, HALF, 0.25)),
    "Log": (unary("Log"), [0, 2, 4], diagonal(INF, 0.5, 0.25)),
    "Reciprocal": (unary("Reciprocal"), [0, 2, 4], diagonal(-INF, -0.25, -0.0625)),
    "Div": (lambda b, x: c(b, x, 1.0) / x, [0, 2, 4], diagonal(-INF, -0.25, -0.0625)),
    "Div by 0": (lambda b, x: x / c(b, x, [0, 2, 4]), [1, 1, 1], diagonal(INF, 0.5, 0.25)),
    "Pow 0.5": (to_the(0.5), [0, 2, 4], diagonal(INF, HALF, 0.25)),
    "Pow 0.25": (to_the(0.25), [0, 1, 16], diagonal(INF, 0.25, 1 / 32)),
    "Pow -1": (to_the(-1.0), [0, 2, 4], diagonal(-INF, -0.25, -0.0625)),
    "Pow 0": (to_the(0.0), [0, 2, 4], np.zeros((3, 3))),
    "Pow 3": (to_the(3.0), [-2, 0, 4], diagonal(12, 0, 48)),
    "Asin": (after(clip(-1, 1), unary("Asin")), [2, 0, -1], diagonal(0, 1, 0)),
    "Acos": (unary("Acos"), [1, 0, -1], diagonal(-INF, -1, -INF)),
    "Atanh": (unary("Atanh"), [1, 0, -1], diagonal(INF, 1, INF)),
    "Acosh": (unary("Acosh"), [1, np.sqrt(2), 3], diagonal(INF, 1, np.sqrt(0.125))),
    "ReduceLogSum": (
        lambda b, x: b.op("ReduceLogSum", x, b.ints([-1]), keepdims=0),
        [[0, 0], [1, 3]],
        [[INF, INF, 0, 0], [0, 0, 0.25, 0.25]],
    ),
    # Whole small networks.
    "root of Relu": (after(unary("Relu"), unary("Sqrt")), [-1, 2, 4], diagonal(0, HALF, 0.25)),
    "root of Max": (
        lambda b, x: b.op("Sqrt", b.op("Max", x, c(b, x, 0.0))),
        [-1, 2, 4],
        diagonal(0, HALF, 0.25),
    ),
    "root of Clip": (after(clip(0, 1), unary("Sqrt")), [-1, 0.25, 4], diagonal(0, 1, 0)),
    "log of Relu": (after(unary("Relu"), unary("Log")), [-1, 2, 4], diagonal(0, 0.5, 0.25)),
    "their sum": (
        lambda b, x: b.op("ReduceSum", b.op("Sqrt", b.op("Relu", x)), keepdims=0),
        [-1, 2, 4],
        [0, HALF, 0.25],
    ),
    "roots of sums": (
        lambda b, x: b.op("Sqrt", b.op("MatMul", c(b, x, [[0, 0, 1], [1, 0, 0]]), x)),
        [0, 1, 4],
        [[0, 0, 0.25], [INF, 0, 0]],
    ),
    "one root of two": (
        lambda b, x: b.op("Gather", b.op("Sqrt", x), b.ints([1])),
        [0, 4],
        [0, 0.25],
    ),
    "no weight": (lambda b, x: b.op("Sqrt", x) * c(b, x, [0, 1]), [0, 4], diagonal(0, 0.25)),
    "norm 3": (norm(3), [[0, 0, 0], [1, 2, 3]], [[0] * 6, [0, 0, 0, *FURTHER]]),
    "norm 1.5": (norm(1.5), [[0, 0], [1, 1]], [[0] * 4, [0, 0, *[2 ** (-1 / 3)] * 2]]),
    "distances": (
        distances(3),
        [[0, 1], [1, 1]],
        np.reshape([[0] * 4, [-1, 0, 1, 0], [-1, 0, 1, 0], [0] * 4], (2, 2, 4)),
    ),
    "deviation": (
        deviation,
        [[1, 1, 1], [1, 2, 3]],
        [[0] * 6, [0, 0, 0, -np.sqrt(1 / 6), 0, np.sqrt(1 / 6)]],
    ),
    "root of a square": (after(twice(unary("Identity")), unary("Sqrt")), [0, 2], diagonal(0, 1)),
    "square of a root": (twice(unary("Sqrt")), [0, 2], np.eye(2)),
    "exp of log": (after(unary("Log"), unary("Exp")), [0, 2], np.eye(2)),
    "log of a choice": (
        lambda b, x: b.where(x > 0.0, b.op("Log", x), c(b, x, 0.0)),
        [0, 1, 2],
        diagonal(0, 1, 0.5),
    ),
    "log of a sum of nothing": (
        lambda b, x: b.op("Log", b.op("ReduceSum", b.op("Exp", masked(b, x)), b.ints([-1]))),
        [[1, 2], [3, 4]],
        [[[1, 0, 0, 0]], [[0, 0, 0, 0]]],
    ),
    # Powers: 0 to the exponent, of which the slope is 0 where it is 0 on both sides.
    "exponents": (
        lambda b, x: b.op("Pow", c(b, x, [0, 0, 1]), x),
        [1, 0, 2],
        diagonal(0, -INF, 0),
    ),
    "base and exponent": (
        lambda b, x: b.op("Pow", *two(b, x)),
        [-2, 0, 1, 2, 2, -1],
        np.hstack([diagonal(-4, 0, -1), diagonal(NAN, 0, 0)]),
    ),
}


def narrow(f: Function, x: ArrayLike) -> Problem:
    """The same question in float32, for onnxruntime."""
    b = Builder(OPS)
    point = np.asarray(x, np.float32)
    y = b.rename(f(b, b.input("x", DType.FLOAT32, point.shape)), "y")
    return api.ask(write(b.graph([y])), {"x": point}, operator="jacobian")


@pytest.mark.parametrize("method", ["forward", "reverse"])
@pytest.mark.parametrize("name", CASES)
def test_what_does_not_hang_on_an_infinite_slope_is_what_it_is(name, method):
    f, x, wanted = CASES[name]
    for asked, rtol in ((problem(f, x), 1e-12), (narrow(f, x), 1e-5)):
        found = estimate(method, asked).blocks["y", "x"]
        np.testing.assert_allclose(found.reshape(np.shape(wanted)), wanted, rtol=rtol)


@pytest.mark.parametrize("name", CASES)
def test_no_method_is_at_fault_at_an_edge(name):
    """Many say nothing there; nobody is contradicted, and none breaks."""
    f, x, _ = CASES[name]
    found = api.judged(narrow(f, x), api.Settings(runs=1, warmup=0))
    wrong = [m for m in found.methods if m.verdict is Verdict.DISAGREE or m.status == "failed"]
    assert wrong == []
    assert found.exit_code in (0, 3)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        *((name, "AGREE") for name in ("root of Relu", "their sum", "one root of two")),
        *((name, "AGREE") for name in ("distances", "no weight", "log of a sum of nothing")),
        *((name, "KINK") for name in ("norm 3", "deviation", "root of a square")),
        *((name, "INCONCLUSIVE") for name in ("Sqrt", "Log", "Reciprocal", "roots of sums")),
    ],
)
def test_the_verdict_at_an_edge(name, verdict):
    f, x, _ = CASES[name]
    found = api.judged(narrow(f, x), api.Settings(("forward", "reverse"), runs=1, warmup=0))
    assert [str(m.verdict) for m in found.methods] == [verdict] * 2
    if verdict == "INCONCLUSIVE":
        assert "edge of its domain" in found.methods[0].detail
        edge = next(near for near in found.kinks if near.kind == "edge")
        assert (edge.margin, edge.what in found.methods[0].detail) == (0.0, True)


@pytest.mark.parametrize("method", ["forward", "reverse", "symbolic"])
def test_an_output_without_weight_has_no_say(method):
    x = np.array([0.0, 4.0])
    asked = problem(unary("Sqrt"), x, "vjp", cotangents={"y": np.array([0.0, 1.0])})
    np.testing.assert_array_equal(estimate(method, asked).blocks["", "x"], [0.0, 0.25])


@pytest.mark.parametrize(
    "name", ["Sqrt", "Log", "Div", "Acos", "roots of sums", "norm 3", "deviation", "root of Relu"]
)
def test_symbols_node_by_node_are_right_too(name):
    f, x, wanted = CASES[name]
    asked = problem(f, x)
    whole = np.eye(np.size(x)).reshape(-1, *np.shape(x))
    found = Factored(asked, len(whole)).apply(asked.point, {"x": whole}).values["y"]
    found = np.moveaxis(found, 0, -1).reshape(np.shape(wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.parametrize("method", ["forward", "reverse"])
def test_what_is_no_number_has_no_derivative(method):
    """x mod 0, and the rest of x that is not 0; x / x at 0, of which the limit would be 0."""

    def f(b: Builder, x: Var) -> Var:
        return b.op("Concat", b.op("Mod", c(b, x, [1, 7]), x, fmod=1), x / x, axis=0)

    found = estimate(method, problem(f, [0.0, 3.0])).blocks["y", "x"]
    np.testing.assert_array_equal(found[[1, 3]], [[0.0, -2.0], [0.0, 0.0]])
    assert np.isnan(found[[0, 2], 0]).all()


def test_an_operator_at_an_edge_is_said_so():
    at, off = (estimate("forward", problem(unary("Sqrt"), [x, 1.0])) for x in (0.0, 1.0))
    assert "edge of a domain" in " ".join(at.notes)
    assert off.notes == ()


def test_beyond_an_edge_there_is_nothing():
    """The root of -1 is no number, and stays none, in every column that it has a say in."""
    found = estimate("forward", problem(unary("Sqrt"), [-1.0, 0.0])).blocks["y", "x"]
    np.testing.assert_array_equal(found, [[NAN, NAN], [0.0, INF]])


def test_a_graph_off_all_edges_is_run_once(monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Linearised, "_mended", never)
    monkeypatch.setattr(linearised, "inside", never)
    found = estimate("reverse", problem(unary("Sqrt"), [1.0, 4.0])).blocks["y", "x"]
    np.testing.assert_array_equal(found, [[0.5, 0.0], [0.0, 0.25]])
