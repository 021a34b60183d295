"""Graphs that are never at the edge of a domain, and what their results come to on the way."""

import numpy as np
import pytest

from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform.inside import inside, limit

TINY, BEYOND = 2.0**-300, 2.2


def moved(op, x, *more, **attrs):
    """An operator inside its domain, and on its own."""
    b = Builder(OPS)
    y = b.op(op, b.input("x", DType.FLOAT64, np.shape(x)), *(b.constant(m) for m in more), **attrs)
    graph = b.graph([b.rename(y, "y")])
    made = inside(graph)
    assert made is not None
    feeds = {"x": np.asarray(x), made.inward: np.float64(TINY), made.outward: np.float64(BEYOND)}
    return interpret(made.graph, feeds)["y"], interpret(graph, {"x": np.asarray(x)})["y"]


@pytest.mark.parametrize(
    ("op", "more", "at_edge", "beyond"),
    [
        ("Sqrt", (), 2.0**-150, BEYOND**0.5),
        ("Log", (), np.log(TINY), np.log(BEYOND)),
        ("Pow", (np.float64(0.5),), 2.0**-150, BEYOND**0.5),
        ("Pow", (np.float64(-1.0),), 2.0**300, -0.25),
        ("Reciprocal", (), 2.0**300, -0.25),
    ],
)
def test_only_what_is_at_an_edge_is_moved(op, more, at_edge, beyond):
    got, plain = moved(op, [0.0, -4.0, 2.0], *more)
    np.testing.assert_allclose(got, [at_edge, beyond, plain[2]], rtol=1e-15)


@pytest.mark.parametrize("op", ["Mul", "Exp", "Softmax", "Relu"])
def test_a_graph_without_edges_stays(op):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT64, (3,))
    y = b.op(op, x, x) if op == "Mul" else b.op(op, x)
    halved = b.op("Pow", y / 2.0, b.constant(2.0))
    assert inside(b.graph([b.rename(halved, "y")])) is None


def test_integers_are_divided_as_they_are():
    b = Builder(OPS)
    y = b.op("Div", b.input("x", DType.INT64, (3,)), b.input("z", DType.INT64, (3,)))
    assert inside(b.graph([b.rename(y, "y")])) is None


def test_what_a_quantity_comes_to():
    far = np.array([3.0, 0.0, 1e-30, 1e60, -1e60, -200.0, 1.0, 2.0, 1.0, 1e300])
    near = np.array([3.0, 0.0, 1e-40, 1e80, -1e80, -270.0, -1.0, 1.8, np.nan, np.inf])
    nan, inf = np.nan, np.inf
    wanted = [3.0, 0.0, 0.0, inf, -inf, -inf, nan, nan, nan, inf]
    np.testing.assert_array_equal(limit(far, near, 1e-6), wanted)
    one = np.ones(3, np.float32)
    assert limit(one, one, 1e-3).dtype == np.float32
