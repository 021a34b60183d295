"""Carrying a graph over to another width: roundings stay, integers are left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcli.graph import Builder, DType, Graph, Node, Value, Var
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import cast, vjp

BF16, F16, F32, F64 = DType.BFLOAT16, DType.FLOAT16, DType.FLOAT32, DType.FLOAT64
INT64 = DType.INT64

X = np.array([0.1, 1.0 + 2.0**-9, 70000.0, 1e-8, -1e30])


def of(make: Callable[[Builder, Var], Var], dtype: DType = F32, shape: Any = (5,)) -> Graph:
    b = Builder(OPS)
    return b.graph([make(b, b.input("x", dtype, shape))])


def widths(g: Graph) -> set[DType]:
    return {v.dtype for v in g.values() if v.dtype.is_float}


def wide(g: Graph, x: np.ndarray) -> np.ndarray:
    """The output of a graph that was carried over to float64."""
    exact = cast(g, F64)
    assert all(v.dtype is F64 for v in (*exact.inputs, *exact.outputs) if v.dtype.is_float)
    assert [v.name for v in exact.outputs] == [v.name for v in g.outputs]
    (y,) = interpret(exact, {"x": x}).values()
    return np.asarray(y)


@pytest.mark.parametrize("dtype", [F16, F32, F64])
def test_every_float_is_in_the_new_width(dtype: DType):
    g = of(
        lambda b, x: b.op("Exp", x * 0.1 + b.constant(np.full(5, 0.7), x.dtype, name="w")), dtype
    )
    for new in (F16, F32, F64):
        carried = cast(g, new)
        assert widths(carried) == {new}
        assert [n.op for n in carried.nodes] == [n.op for n in g.nodes]
        assert [v.name for v in carried.values()] == [v.name for v in g.values()]


def test_constants_are_widened_exactly():
    tenth = np.full(5, 0.1, np.float32)
    g = of(lambda b, x: x * b.constant(tenth))
    np.testing.assert_array_equal(wide(g, X), X * tenth.astype(np.float64))


@pytest.mark.parametrize(("file", "narrow"), [(F32, F16), (F32, BF16), (F64, F32), (F64, F16)])
def test_a_rounding_of_the_file_stays(file: DType, narrow: DType):
    """A Cast to fewer digits, and back, is a staircase that is part of the function."""
    g = of(lambda b, x: b.cast(b.op("Tanh", b.cast(x, narrow)), x.dtype), file)
    with np.errstate(over="ignore"):
        rounded = X.astype(narrow.np).astype(np.float64)
        # Tanh itself is computed in the wide type.
        want = np.tanh(rounded)
    got = wide(g, X)
    np.testing.assert_allclose(got, want, rtol=1e-15)
    assert not np.allclose(got, np.tanh(X), rtol=1e-12, atol=0.0)
    casts = [n for n in cast(g, F64).nodes if n.op == "Cast" and n.attrs["to"] == narrow.value]
    assert len(casts) == 1


def test_widening_rounds_nothing():
    g = of(lambda b, x: b.cast(b.op("Exp", b.cast(x, F64)), F64), F16, (2,))
    x = np.array([0.1, 0.30000001])
    np.testing.assert_array_equal(wide(g, x), np.exp(x))
    assert vjp(cast(g, F64)).results


def test_to_narrower_than_the_file():
    g = of(lambda b, x: b.cast(b.op("Exp", b.cast(x, F64)), F32), F32)
    assert widths(cast(g, F32)) == {F32}
    g = of(lambda b, x: b.op("Exp", x), F64)
    assert widths(cast(g, F32)) == {F32}


def test_integers_go_straight_to_the_new_width_and_back_as_they_were():
    n = 2**24 + 1
    b = Builder(OPS)
    i = b.input("i", INT64, (1,))
    g = b.graph([b.op("Exp", b.cast(i, F32) * 0.0, name="y"), b.cast(b.cast(i, F32), INT64)])
    carried = cast(g, F64)
    assert carried.inputs[0].dtype is INT64
    out = interpret(carried, {"i": np.array([n])})
    (integer,) = (out[v.name] for v in carried.outputs if v.dtype is INT64)
    assert integer[0] == n
    mask = of(lambda b, x: b.cast(x > 0.5, F32))
    np.testing.assert_array_equal(wide(mask, X), X > 0.5)


def test_cast_like_is_a_cast():
    x, like = Value("x", F32, (2,)), Value("like", F16, ())
    y = Value("y", F16, (2,))
    node = Node("CastLike", (x, like), (y,), {"saturate": 1}, name="mine")
    carried = cast(Graph((x, like), (y,), (node,)), F64)
    third = np.array([1 / 3, 2.0])
    out = interpret(carried, {"x": third, "like": np.zeros(())})["y"]
    np.testing.assert_array_equal(out, third.astype(np.float16).astype(np.float64))
    assert {n.name for n in carried.nodes} >= {"mine"}


SOURCES: dict[str, Callable[[Builder, Var], Var]] = {
    "ConstantOfShape": lambda b, x: b.op(
        "ConstantOfShape", b.shape_of(x), value=np.array([0.5], np.float32)
    ),
    "EyeLike": lambda b, x: b.op("EyeLike", b.reshape(x, [1, 5]), dtype="float32"),
    "EyeLike, of x": lambda b, x: b.op("EyeLike", b.reshape(x, [1, 5])),
    "Range": lambda b, x: b.op("Range", *(b.constant(v, x.dtype) for v in (0.0, 5.0, 1.0))),
}


@pytest.mark.parametrize("name", SOURCES)
def test_tensors_out_of_nothing_come_in_the_new_width(name: str):
    g = of(lambda b, x: b.op("Add", b.reshape(x, [1, 5]), SOURCES[name](b, x)))
    narrow = interpret(g, {"x": np.zeros(5)})
    for dtype in (F16, F64):
        carried = cast(g, dtype)
        assert widths(carried) == {dtype}
        for name_, y in interpret(carried, {"x": np.zeros(5)}).items():
            np.testing.assert_array_equal(y, narrow[name_])


def test_integer_tensors_out_of_nothing_stay_integers():
    def make(b: Builder, x: Var) -> Var:
        whole = b.op("ConstantOfShape", b.ints([5]), value=np.array([3], np.int64))
        count = b.op("Range", *(b.constant(np.int64(v)) for v in (0, 5, 1)))
        return b.op("Gather", x, b.op("Min", whole, count), axis=0)

    g = of(make)
    carried = cast(g, F64)
    kinds = [(v.name, v.dtype) for v in carried.values() if not v.dtype.is_float]
    assert kinds == [(v.name, v.dtype) for v in g.values() if not v.dtype.is_float]
    np.testing.assert_array_equal(wide(g, X), X[[0, 1, 2, 3, 3]])


def test_shapes_from_floats_are_the_same():
    """The size of a result may hang on floats, which the width does not move."""

    def make(b: Builder, x: Var) -> Var:
        scale = b.constant(np.array([2.5], np.float32))
        size = b.cast(b.op("Floor", b.cast(b.op("Shape", x), F32) * scale), INT64)
        return b.op("Expand", b.op("ReduceSum", x, keepdims=1), size)

    assert wide(of(make), X).shape == (12,)


@pytest.mark.parametrize("narrow", [F16, BF16, F32])
def test_a_choice_of_arithmetic_is_no_staircase(narrow: DType):
    """Mixed precision means the function that it would compute without any rounding."""
    g = of(lambda b, x: b.cast(b.op("Exp", b.cast(x, narrow)), F64), F64)
    exact = cast(g, F64, arithmetic=True)
    x = X[:2] + 1e-9
    (y,) = interpret(exact, {"x": x}).values()
    np.testing.assert_array_equal(y, np.exp(x))


def test_quantisation_is_a_staircase_in_every_arithmetic():
    eight = DType.FLOAT8E4M3FN
    exact = cast(of(lambda b, x: b.cast(b.cast(x, eight), F32)), F64, arithmetic=True)
    (y,) = interpret(exact, {"x": np.array([1.01, 1.1, 1e9, -1e9])}).values()
    np.testing.assert_array_equal(y, [1.0, 1.125, 448.0, -448.0])


def test_floats_made_of_integers_or_strings_are_widened_too():
    """float32 by the standard, whatever the width of the rest."""
    b = Builder(OPS)
    codes = b.input("x", INT64, (3,))
    hot = b.op("ai.onnx.ml::OneHotEncoder", codes, cats_int64s=(2, 0))
    exact = cast(b.graph([hot, hot * 0.5]), F64)
    assert [v.dtype for v in exact.outputs] == [F64, F64]
    assert exact.outputs[0].name == hot.value.name
    out = interpret(exact, {"x": np.array([2, 0, 1])})
    np.testing.assert_array_equal(out[hot.value.name], [[1, 0], [0, 1], [0, 0]])


@pytest.mark.parametrize("computed", [False, True])
def test_what_the_standard_has_in_float32_stays_so_among_halves(computed: bool):
    """The scales of a Resize: as halves no runtime takes them, and 4/3 gives another size."""
    scales = np.array([1.0, 1.0, 4 / 3, 1.0], np.float32)

    def resized(b: Builder, x: Var) -> Var:
        given = b.input("s", F32, (4,)) if computed else b.constant(scales)
        return b.op("Resize", x, None, given, None, mode="linear")

    g = of(resized, F16, (1, 1, 3072, 1))
    for width, kept in ((F16, F32), (F64, F64)):
        carried = cast(g, width)
        (resize,) = (n for n in carried.nodes if n.op == "Resize")
        x, _, found = resize.inputs[:3]
        assert x is not None
        assert found is not None
        assert (x.dtype, found.dtype) == (width, kept)
        if not computed:
            np.testing.assert_array_equal(carried.constants[found], scales)
            assert carried.outputs[0].shape == (1, 1, 4096, 1)


def test_large_weights_are_widened_once_for_as_long_as_they_are_in_use():
    weights = np.ones((600, 600), np.float32)
    weights.setflags(write=False)

    def graph(array: np.ndarray, rows: int) -> Graph:
        b = Builder(OPS)
        w = b.constant(array)
        return b.graph([b.op("MatMul", b.input("x", F32, (rows, 600)), w)])

    def wide(array: np.ndarray, dtype: DType = F64, rows: int = 1) -> np.ndarray:
        (found,) = cast(graph(array, rows), dtype).constants.values()
        return found

    first = wide(weights)
    assert wide(weights, rows=2) is first
    assert wide(weights, F16) is not first
    other = weights * 2
    assert np.all(wide(other) == 2)
    other *= 2  # may be written to, and was
    assert np.all(wide(other) == 4)
