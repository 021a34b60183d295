"""The Builder: names, constants, operators, and what it answers about shapes, known or not."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcli.errors import InternalError, UnsupportedError
from gradcli.graph import Builder, DType, Graph, Node, Shape, Value, Var, burst
from gradcli.interpret import interpret
from gradcli.ops import OPS

F32, F64, INT64 = DType.FLOAT32, DType.FLOAT64, DType.INT64


def keys(b: Builder) -> list[str]:
    return [node.key for node in b.nodes]


def result(b: Builder, y: Var, **feeds: Any) -> np.ndarray:
    """The value of y."""
    (out,) = interpret(b.graph([y]), {k: np.asarray(v) for k, v in feeds.items()}).values()
    return np.asarray(out)


def test_a_node_for_writing_out_has_every_attribute_of_its_card():
    b = Builder(OPS)
    x = b.input("x", F32, (1, 1, 2))
    places = b.input("places", INT64, (1, 1, 2))
    b.foreign("MaxUnpool", x, places, like=(F32, (1, 1, 4)), kernel_shape=(2,), strides=(2,))
    assert b.nodes[-1].attrs == {"kernel_shape": (2,), "strides": (2,), "pads": None}


# ---- names and constants ------------------------------------------------------------------------


def test_names_are_as_asked_for_or_near():
    b = Builder(OPS)
    x = b.input("x", F64, (2,))
    assert b.op("Exp", x, name="y").value.name == "y"
    again = b.op("Exp", x, name="y").value.name
    assert again.startswith("y_")
    assert b.free("z") == "z"
    assert b.name("z") == "z"
    assert b.free("z") != "z"
    with pytest.raises(InternalError, match="'x' is taken"):
        b.input("x", F64, (2,))
    with pytest.raises(InternalError, match="'y' is taken"):
        b.rename(x, "y")
    assert b.rename(x, "end").value.name == "end"


def test_invented_names_keep_clear_of_those_that_will_come():
    other = Builder(OPS)
    x = other.input("x", F64, (2,))
    graph = other.graph([other.op("Exp", x, name="exp"), other.constant([1.0, 2.0], F64, "const")])
    b = Builder(OPS)
    b.reserve(graph)
    assert b.constant(1.0, F64).value.name not in ("const", "x", "exp")
    started = Builder(OPS, start=graph)
    assert started.nodes == list(graph.nodes)
    assert started.constants == dict(graph.constants)
    for name in ("x", "exp", "const"):
        assert started.free(name) != name


def test_equal_small_constants_are_one_value():
    b = Builder(OPS)
    one = b.constant(1.0, F64)
    assert b.constant(np.ones(()), F64).value is one.value
    others = [
        b.constant(1.0, F32),
        b.constant([1.0], F64),
        b.constant(-0.0, F64),
        b.constant(0.0, F64),
        b.constant(1, INT64),
        b.constant(1.0, F64, name="mine"),
    ]
    assert len({v.value for v in (one, *others)}) == 7
    large = np.ones(1000)
    assert b.constant(large).value is not b.constant(large).value


def test_a_constant_does_not_change_with_the_array_it_was_made_of():
    b = Builder(OPS)
    for array in (np.ones(2), np.ones(1000), np.ones((2, 3))[0], np.ones(2)[::-1]):
        x = b.constant(array)
        array[:] = 7.0
        assert x.const is not None
        assert np.all(x.const == 1.0)
        assert not x.const.flags.writeable


def test_an_array_that_cannot_change_is_not_copied():
    array = np.ones(1000)
    array.setflags(write=False)
    assert Builder(OPS).constant(array).const is array


def test_numbers_take_the_dtype_of_the_other_operand():
    b = Builder(OPS)
    x = b.input("x", F32, (2,))
    for y in (x + 0.1, 0.1 - x, x * 0.1, 0.1 / x):
        assert y.dtype is F32
    assert (x > 0.5).dtype is DType.BOOL
    assert {v.dtype for v in b.constants} == {F32}


def test_arithmetic_is_what_it_says():
    b = Builder(OPS)
    x = b.input("x", F64, (3,))
    y = (2.0 - x) / (1.0 + x * 3.0) - (-x) + 1.0 / x
    at = np.array([0.5, 2.0, 3.0])
    want = (2 - at) / (1 + at * 3) + at + 1 / at
    np.testing.assert_allclose(result(b, y, x=at), want, rtol=1e-15)
    np.testing.assert_array_equal(result(b, x < 2.0, x=at), at < 2)


def test_nothing_is_emitted_for_nothing():
    b = Builder(OPS)
    x = b.input("x", F64, (2, 3))
    idle = [x + 0, 0 + x, x - 0, x * 1, 1 * x, x / 1, b.cast(x, F64), b.transpose(x, [0, 1])]
    idle += [b.sum(x, [], keepdims=True), b.unsqueeze(x, []), b.reshape_like(x, x)]
    idle += [b.expand_like(x, x), b.unbroadcast(x, like=x)]
    assert all(y is x for y in idle)
    assert not b.nodes
    assert keys(b) == []
    assert (x * -1).value is b.nodes[-1].outputs[0]
    assert keys(b) == ["Neg"]


# ---- operators ----------------------------------------------------------------------------------


def test_attributes_are_completed_and_checked():
    b = Builder(OPS)
    x = b.input("x", F64, (2, 3))
    b.op("Softmax", x)
    assert b.nodes[-1].attrs["axis"] == -1
    with pytest.raises(UnsupportedError, match="no attribute axes"):
        b.op("Softmax", x, axes=1)


def test_absent_operands_at_the_end_are_dropped():
    b = Builder(OPS)
    x = b.input("x", F64, (2,))
    b.op("Clip", x, None, None)
    assert len(b.nodes[-1].inputs) == 1
    top = b.constant(1.0, F64)
    b.op("Clip", x, None, top)
    assert list(b.nodes[-1].inputs) == [x.value, None, top.value]


def test_nodes_serve_the_node_that_they_are_made_for():
    b = Builder(OPS)
    x = b.input("x", F64, (2,))
    with b.serving("outer"):
        b.op("Exp", x)
        with b.serving("inner"):
            b.op("Exp", x)
        b.op("Exp", x)
    b.op("Exp", x)
    assert [node.origin for node in b.nodes] == ["outer", "inner", "outer", ""]


def test_a_node_of_another_graph_gets_types_anew_and_keeps_its_names():
    x, y = Value("x", F64, (2,)), Value("y", F64, (9, 9))
    old = Node("Exp", (x,), (y,), {}, name="mine", origin="theirs")
    b = Builder(OPS)
    (made,) = b.copy(old, [b.input("x", F64, (5,))])
    assert made is not None
    assert (made.value.name, made.shape) == ("y", (5,))
    assert (b.nodes[0].name, b.nodes[0].origin) == ("mine", "theirs")


def test_an_invented_dimension_is_new():
    graph = Graph((Value("x", F64, ("?1", "?3")),), (), ())
    b = Builder(OPS, start=graph)
    dims = (*b.fresh(3), *b.fresh(2))
    assert len(set(dims) | {"?1", "?3"}) == 7


def test_the_rank_of_what_is_unknown_is_no_number():
    x = Builder(OPS).input("x", F64, None)
    with pytest.raises(InternalError, match="rank of 'x'"):
        _ = x.rank


def test_where_needs_a_type():
    b = Builder(OPS)
    mask = b.input("mask", DType.BOOL, (2,))
    with pytest.raises(InternalError, match="like"):
        b.where(mask, 1.0, 0.0)
    x = b.input("x", F32, (2,))
    assert b.where(mask, 1.0, 0.0, like=x).dtype is F32
    got = result(b, b.where(mask, x, 0.0), mask=[True, False], x=[3.0, np.nan])
    np.testing.assert_array_equal(got, [3.0, 0.0])


def test_totals():
    b = Builder(OPS)
    x = b.input("x", F64, (2,))
    assert b.total([]) is None
    assert b.total([None, None]) is None
    assert b.total([None, x, None]) is x
    y = b.total([x, None, x, x])
    assert y is not None
    np.testing.assert_array_equal(result(b, y, x=[1.0, 2.0]), [3.0, 6.0])


# ---- shapes, known and unknown ------------------------------------------------------------------


@st.composite
def broadcasts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and one that broadcasts to it."""
    wide = draw(st.lists(st.integers(0, 3), max_size=4).map(tuple))
    kept = draw(st.integers(0, len(wide)))
    tail = wide[len(wide) - kept :]
    return wide, tuple(1 if draw(st.booleans()) else d for d in tail)


def hidden(draw: st.DrawFn, shape: tuple[int, ...], stem: str) -> Shape | None:
    """What a graph may know of a shape: some dimensions only by a symbol, or nothing at all."""
    if draw(st.integers(0, 5)) == 0:
        return None
    return tuple(f"{stem}{k}" if draw(st.booleans()) else d for k, d in enumerate(shape))


def holds(known: Shape | None, actual: tuple[int, ...]) -> None:
    """What was inferred is true."""
    if known is not None:
        assert len(known) == len(actual)
        assert all(d == n for d, n in zip(known, actual, strict=True) if isinstance(d, int))


@given(broadcasts(), st.data())
def test_undoing_a_broadcast_is_its_transpose(shapes, data):
    wide, narrow = shapes
    knows = data.draw(st.booleans())
    b = Builder(OPS)
    x_bar = b.input("x_bar", F64, wide if knows else hidden(data.draw, wide, "a"))
    like = b.input("like", F64, narrow if knows else hidden(data.draw, narrow, "b"))
    y = b.unbroadcast(x_bar, like)
    if knows:
        assert not set(keys(b)) - {"ReduceSum", "Reshape"}
    rng = np.random.default_rng(0)
    array, x = rng.standard_normal(wide), rng.standard_normal(narrow)
    got = result(b, y, x_bar=array, like=x)
    assert got.shape == narrow
    holds(y.shape, narrow)
    # <broadcast(x), x_bar> = <x, unbroadcast(x_bar)>
    np.testing.assert_allclose(
        np.sum(np.broadcast_to(x, wide) * array), np.sum(x * got), atol=1e-12
    )


@given(broadcasts(), st.data())
def test_expanding_is_a_broadcast(shapes, data):
    wide, narrow = shapes
    b = Builder(OPS)
    x = b.input("x", F64, hidden(data.draw, narrow, "a"))
    like = b.input("like", F64, hidden(data.draw, wide, "b"))
    array = np.random.default_rng(0).standard_normal(narrow)
    got = result(b, b.expand_like(x, like), x=array, like=np.zeros(wide))
    np.testing.assert_array_equal(got, np.broadcast_to(array, wide))


@given(st.lists(st.integers(0, 3), max_size=4).map(tuple), st.data())
def test_reshaping_like_another(shape, data):
    b = Builder(OPS)
    other = data.draw(st.permutations(shape).map(tuple))
    x = b.input("x", F64, hidden(data.draw, other, "a"))
    like = b.input("like", F64, hidden(data.draw, shape, "b"))
    array = np.random.default_rng(0).standard_normal(other)
    y = b.reshape_like(x, like)
    got = result(b, y, x=array, like=np.zeros(shape))
    np.testing.assert_array_equal(got, array.reshape(shape))
    holds(y.shape, shape)


@given(st.lists(st.integers(0, 4), max_size=4).map(tuple), st.data())
def test_shapes_counts_and_fills(shape, data):
    b = Builder(OPS)
    x = b.input("x", F32, hidden(data.draw, shape, "a"))
    feeds = {"x": np.ones(shape, np.float32)}
    np.testing.assert_array_equal(result(b, b.shape_of(x), **feeds), shape)
    full = b.full_like(x, 2.5)
    assert full.dtype is F32
    np.testing.assert_array_equal(result(b, full, **feeds), np.full(shape, 2.5))
    np.testing.assert_array_equal(result(b, b.zeros_like(x), **feeds), np.zeros(shape))
    axes = (
        data.draw(st.none() | st.lists(st.integers(0, len(shape) - 1), unique=True))
        if shape
        else None
    )
    count = b.count(x, axes)
    want = np.prod([shape[a] for a in (range(len(shape)) if axes is None else axes)])
    if isinstance(count, Var):
        assert count.dtype is F32
        assert result(b, count, **feeds) == want
    else:
        assert isinstance(count, float)
        assert count == want


def test_what_is_known_is_a_constant():
    b = Builder(OPS)
    x = b.input("x", F64, (2, 3))
    const = b.shape_of(x).const
    assert const is not None
    np.testing.assert_array_equal(const, [2, 3])
    assert b.count(x) == 6.0
    assert b.count(x, [1]) == 3.0
    y = b.input("y", F64, ("N", 3))
    assert b.count(y, [1]) == 3.0
    assert b.count(y, []) == 1.0
    assert not b.nodes


SAME: dict[str, tuple[Shape | None, Shape | None, bool]] = {
    "known": ((2, 3), (2, 3), True),
    "symbols": (("N", 3), ("N", 3), True),
    "another symbol": (("N", 3), ("M", 3), False),
    "unknown": (None, None, False),
}


@pytest.mark.parametrize("case", SAME)
def test_same_shape_means_known_to_be(case):
    left, right, same = SAME[case]
    b = Builder(OPS)
    assert b.same_shape(b.input("x", F64, left), b.input("y", F64, right)) is same


SHORT: dict[str, tuple[Callable[[Builder, Var], Var], Callable[[np.ndarray], np.ndarray]]] = {
    "sum of all": (lambda b, x: b.sum(x, None, keepdims=False), np.sum),
    "sum, kept": (
        lambda b, x: b.sum(x, [1], keepdims=True),
        lambda x: x.sum(1, keepdims=True),
    ),
    "reshape": (lambda b, x: b.reshape(x, [0, -1, 2]), lambda x: x.reshape(2, 3, 2)),
    "transpose": (lambda b, x: b.transpose(x, [2, 0, 1]), lambda x: x.transpose(2, 0, 1)),
    "unsqueeze": (lambda b, x: b.unsqueeze(x, [0, 4]), lambda x: x[None, ..., None]),
    "cast": (lambda b, x: b.cast(x, INT64), lambda x: x.astype(np.int64)),
}


@pytest.mark.parametrize("name", SHORT)
def test_shorthands(name):
    make, want = SHORT[name]
    b = Builder(OPS)
    x = b.input("x", F64, (2, 3, 2))
    array = np.arange(12.0).reshape(2, 3, 2)
    y = make(b, x)
    assert y.shape == want(array).shape
    np.testing.assert_array_equal(result(b, y, x=array), want(array))


def test_in_a_burst_nothing_is_collected_and_afterwards_as_before():
    for before in (True, False):
        (gc.enable if before else gc.disable)()
        try:
            with burst():
                assert not gc.isenabled()
                with burst():
                    assert not gc.isenabled()
                assert not gc.isenabled()
            assert gc.isenabled() is before
        finally:
            gc.enable()


def test_a_burst_that_fails_ends_too():
    @burst()
    def fails() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 # its own
        fails()
    assert gc.isenabled()


def test_a_number_beyond_float16_is_its_largest():
    b = Builder(OPS)
    half, single = b.input("h", DType.FLOAT16, ()), b.input("s", DType.FLOAT32, ())
    assert b.like(-3.4e38, half).const == -65504
    assert b.like(math.inf, half).const == math.inf
    assert b.like(1e30, single).const == np.float32(1e30)
