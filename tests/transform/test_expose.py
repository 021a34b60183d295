"""Exposing: what is differentiated becomes an input, what is asked for an output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcli.errors import InternalError, UnsupportedError
from gradcli.graph import Builder, DType, Graph, Node, Value
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import Element, depends, expose, vjp

F64 = DType.FLOAT64
W = np.array([2.0, -3.0])


def chain() -> Graph:
    """y = exp(t), t = tanh(h), h = x * w; z = sin(u) beside it."""
    b = Builder(OPS)
    x, u = b.input("x", F64, (2,)), b.input("u", F64, (2,))
    h = b.op("Mul", x, b.constant(W, F64, name="w"), name="h")
    t = b.op("Tanh", h, name="t")
    return b.graph([b.op("Exp", t, name="y"), b.op("Sin", u, name="z")], "mine")


def operators(g: Graph) -> list[str]:
    return [n.op for n in g.nodes]


def names(g: Graph) -> list[str]:
    return [v.name for v in g.inputs]


PARTS: list[tuple[Sequence[str], Sequence[str], list[str], list[str]]] = [
    (["x"], ["y"], ["x"], ["Mul", "Tanh", "Exp"]),
    (["w"], ["y"], ["x", "w"], ["Mul", "Tanh", "Exp"]),
    (["h"], ["y"], ["h"], ["Tanh", "Exp"]),
    (["h"], ["t"], ["h"], ["Tanh"]),
    (["x"], ["h"], ["x"], ["Mul"]),
    (["u"], ["y"], ["x", "u"], ["Mul", "Tanh", "Exp"]),
    (["x"], ["y", "z"], ["x", "u"], ["Mul", "Tanh", "Exp", "Sin"]),
    (["y"], ["y"], ["y"], []),
    (["x"], ["x"], ["x"], []),
    (["w"], ["w"], ["w"], []),
    (["y"], ["t"], ["x", "y"], ["Mul", "Tanh"]),
    ([], ["t"], ["x"], ["Mul", "Tanh"]),
    (["x"], ["w"], ["x"], []),
]


@pytest.mark.parametrize(("wrt", "of", "inputs", "left"), PARTS)
def test_only_what_lies_between_is_left(wrt, of, inputs, left):
    g = chain()
    part = expose(g, wrt, [Element(name) for name in of])
    assert names(part) == inputs
    assert operators(part) == left
    assert [v.name for v in part.outputs] == list(of)
    assert part.name == "mine"
    at = {"x": np.array([0.3, 0.4]), "u": np.array([0.5, 0.6])}
    whole = interpret(g, at, keep=["x", "u", "w", "h", "t", "y", "z"])
    got = interpret(part, {name: whole[name] for name in inputs})
    for name in of:
        np.testing.assert_array_equal(got[name], whole[name])


def test_an_order_of_outputs_is_kept_and_an_output_may_come_twice():
    part = expose(chain(), ["x"], [Element("y"), Element("h"), Element("y", (0,), "y[0]")])
    assert [v.name for v in part.outputs] == ["y", "h", "y[0]"]


def test_a_tensor_that_is_not_there():
    with pytest.raises(InternalError, match="'q'"):
        expose(chain(), ["x"], [Element("q")])


def test_what_depends_on_what():
    g = chain()
    assert depends(g, ["x", "w", "u"]) == set()
    assert depends(g, ["h"]) == set()
    assert depends(g, ["x", "h"]) == {"h"}
    assert depends(g, ["w", "t", "h"]) == {"h", "t"}
    assert depends(g, ["y", "z"]) == set()
    assert depends(g, ["u", "z", "x"]) == {"z"}


def test_steps_make_nothing_depend():
    b = Builder(OPS)
    x = b.input("x", F64, (2,))
    g = b.graph([b.op("Exp", b.op("Floor", x, name="f"), name="y")])
    assert depends(g, ["x", "f"]) == set()
    assert depends(g, ["f", "y"]) == {"y"}


def test_an_anchor_makes_an_offset_of_the_input():
    g, at = chain(), {"x": np.array([0.3, 0.4])}
    h = at["x"] * W
    part = expose(g, ["x", "h"], [Element("y")], {"h": h})
    assert names(part) == ["x", "h"]
    np.testing.assert_allclose(interpret(part, at | {"h": h})["y"], np.exp(np.tanh(h)))
    moved = interpret(part, {"x": at["x"] + 0.1, "h": h - 0.2})["y"]
    np.testing.assert_allclose(moved, np.exp(np.tanh((at["x"] + 0.1) * W - 0.2)), rtol=1e-14)
    d = vjp(part, ["x", "h"])
    out = interpret(d.graph, at | {"h": h} | {d.directions["y"]: np.ones(2)})
    slope = (1 - np.tanh(h) ** 2) * np.exp(np.tanh(h))
    np.testing.assert_allclose(out[d.results["h"]], slope, rtol=1e-12)
    np.testing.assert_allclose(out[d.results["x"]], slope * W, rtol=1e-12)


def test_an_anchored_tensor_may_be_asked_for_too():
    g, at = chain(), {"x": np.array([0.3, 0.4])}
    h = at["x"] * W
    part = expose(g, ["x", "h"], [Element("h")], {"h": h})
    d = vjp(part, ["x", "h"])
    (y,) = d.directions
    out = interpret(d.graph, at | {"h": h} | {d.directions[y]: np.ones(2)})
    np.testing.assert_allclose(out[y], h, rtol=1e-14)
    np.testing.assert_array_equal(out[d.results["h"]], np.ones(2))
    np.testing.assert_array_equal(out[d.results["x"]], W)


def test_one_of_several_results_of_a_node():
    b = Builder(OPS)
    x = b.input("x", F64, (4,))
    one, two = b.ops("Split", x, None, outputs=2, axis=0, num_outputs=2, name="part")
    g = b.graph([b.op("Mul", one, two, name="y")])
    cut = one.value.name
    part = expose(g, [cut], [Element("y")])
    assert names(part) == ["x", cut]
    at = np.array([1.0, 2.0, 3.0, 4.0])
    out = interpret(part, {"x": at, cut: np.array([10.0, 20.0])})
    np.testing.assert_array_equal(out["y"], [30.0, 80.0])


def test_operators_without_a_card_are_carried_over():
    x, y, z = (Value(name, F64, (2,)) for name in "xyz")
    nodes = (Node("Mystery", (x,), (y,), domain="theirs"), Node("Mystery", (y,), (z,)))
    part = expose(Graph((x,), (z,), nodes), ["y"], [Element("z")])
    assert names(part) == ["y"]
    assert operators(part) == ["Mystery"]


# ---- parts --------------------------------------------------------------------------------------

AT = st.one_of(
    st.none() | st.integers(-7, 7),
)


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
    """An index that NumPy takes and that leaves something."""
    out: list[int | slice] = []
    for dim in shape[: draw(st.integers(1, len(shape)))]:
        if draw(st.booleans()):
            out.append(draw(st.integers(-dim, dim - 1)))
            continue
        step = draw(st.sampled_from([None, 1, 2, 3, -1, -2, -5]))
        cut = slice(draw(AT), draw(AT), step)
        out.append(cut if len(range(dim)[cut]) else slice(None, None, step))
    return tuple(out)


@given(index=indices((4, 3, 5)), known=st.booleans())
def test_parts_are_what_numpy_means(index, known):
    b = Builder(OPS)
    x = b.input("x", F64, (4, 3, 5))
    g = expose(b.graph([b.op("Exp", x, name="y")]), ["x"], [Element("y", index, "the part")])
    array = np.random.default_rng(0).standard_normal((4, 3, 5))
    got = interpret(g, {"x": array})["the part"]
    want = np.exp(array)[index]
    np.testing.assert_array_equal(got, want)
    assert g.outputs[0].shape == want.shape


@pytest.mark.parametrize("index", [(1,), (-1,), (slice(1, None),), (slice(None, None, -1), 0)])
def test_parts_where_sizes_are_not_known(index):
    b = Builder(OPS)
    x = b.input("x", F64, ("N", "M"))
    g = expose(b.graph([b.op("Exp", x, name="y")]), ["x"], [Element("y", index, "part")])
    array = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_array_equal(interpret(g, {"x": array})["part"], np.exp(array)[index])


def test_a_part_of_what_has_no_known_rank_is_refused():
    x = Value("x", F64, None)
    with pytest.raises(UnsupportedError, match="'x'"):
        expose(Graph((x,), (x,), ()), ["x"], [Element("x", (0,), "x[0]")])


def test_a_label_that_a_tensor_has_already_is_made_free():
    b = Builder(OPS)
    x = b.input("x", F64, (2,))
    b.op("Sin", x, name="y[0]")
    g = b.graph([b.op("Exp", x, name="y")])
    part = expose(g, ["x"], [Element("y", (0,), "y[0]"), Element("y", (slice(0, 1),), "y")])
    assert len({v.name for v in part.outputs}) == 2
