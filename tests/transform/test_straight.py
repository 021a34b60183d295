"""The straight-through estimator: the same function, other rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcli import api, onnxfile
from gradcli.errors import CannotError
from gradcli.graph import Builder, DType, Var
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import jvp, vjp
from gradcli.transform.straight import straight, straighten

X = np.array([0.31, -0.72, 40.0, 0.04])
SCALE = 0.1


def scalar(b: Builder, number: float, dtype: DType = DType.FLOAT64) -> Var:
    return b.constant(np.array(number), dtype)


def quantised(b: Builder, x: Var) -> Var:
    scale, zero = scalar(b, SCALE, x.dtype), scalar(b, 3, DType.INT8)
    return b.op("DequantizeLinear", b.op("QuantizeLinear", x, scale, zero), scale, zero)


def in_integers(b: Builder, x: Var) -> Var:
    q, scale, zero = b.ops("DynamicQuantizeLinear", x, outputs=3)
    weight = b.constant(np.array([[1], [2], [-3], [4]], np.int8))
    total = b.op("MatMulInteger", b.unsqueeze(q, [0]), weight, zero)
    return b.cast(total, x.dtype) * scale


def between(b: Builder, x: Var) -> Var:
    """Quanta that are stacked, moved, compared and added up before they are numbers again."""
    scale, zero = scalar(b, SCALE, x.dtype), scalar(b, 3, DType.INT8)
    q = b.op("QuantizeLinear", x, scale, zero)
    low, high = b.ops("Split", b.op("Concat", q, q, axis=0), outputs=2, axis=0, num_outputs=2)
    pooled = b.op("MaxPool", b.reshape(b.op("Relu", low), [1, 1, 4]), kernel_shape=(1,))
    total = b.cast(b.reshape(pooled, [4]), DType.INT32) + b.cast(high, DType.INT32)
    return b.cast(total - b.constant(np.array(6, np.int32)), x.dtype) * scale


def added(b: Builder, x: Var) -> Var:
    scale, zero = scalar(b, SCALE, x.dtype), scalar(b, 3, DType.INT8)
    q = b.op("QuantizeLinear", x, scale, zero)
    wide = scalar(b, 2 * SCALE, x.dtype)
    y = b.op("com.microsoft::QLinearAdd", q, scale, zero, q, scale, zero, wide, zero)
    return b.op("com.microsoft::DequantizeLinear", y, wide, zero)


def in_one(b: Builder, x: Var) -> Var:
    weight = b.constant(np.array([[1], [2], [-3], [4]], np.int8))
    row = b.unsqueeze(x, [0])
    return b.op("com.microsoft::DynamicQuantizeMatMul", row, weight, scalar(b, SCALE, x.dtype))


NETS: dict[str, tuple[Callable[[Builder, Var], Var], np.ndarray | None]] = {
    "Round": (lambda b, x: b.op("Round", x) * 2.0, np.full(4, 2.0)),
    "Floor": (lambda b, x: b.op("Floor", x) * x, np.floor(X) + X),
    "Sign": (lambda b, x: b.op("Sign", x) * 3.0, np.array([3.0, 3.0, 0.0, 3.0])),
    "Cast to int": (lambda b, x: b.cast(b.cast(x, DType.INT32), x.dtype), np.ones(4)),
    "8 bits": (
        lambda b, x: b.cast(b.cast(x * 20.0, DType.FLOAT8E4M3FN), x.dtype),
        np.array([20.0, 20.0, 0.0, 20.0]),
    ),
    "quantised": (quantised, np.array([1.0, 1.0, 0.0, 1.0])),
    "in integers": (in_integers, None),
    # The Relu drops the second quantum, which is -4, once.
    "between": (between, np.array([2.0, 1.0, 0.0, 2.0])),
    "added": (added, np.array([2.0, 2.0, 0.0, 2.0])),
    "in one": (in_one, None),
}


@pytest.mark.parametrize("name", NETS)
def test_what_is_rounded_passes_and_what_saturates_does_not(name):
    f, wanted = NETS[name]
    b = Builder(OPS)
    graph = b.graph([b.rename(f(b, b.input("x", DType.FLOAT64, (4,))), "y")])
    table = straight(OPS)
    carried = straighten(graph)
    before, after = interpret(graph, {"x": X})["y"], interpret(carried, {"x": X})["y"]
    np.testing.assert_allclose(after, before, rtol=1e-12)
    back = vjp(carried, table=table)
    assert vjp(graph).results == {} or name in ("Floor", "in integers", "in one")
    out = interpret(back.graph, {"x": X, "y_bar": np.ones(np.shape(before))})["x_bar"]
    if wanted is not None:
        np.testing.assert_allclose(out, wanted)
    ahead = jvp(carried, table=table)
    v = np.array([1.0, -2.0, 0.5, 3.0])
    out_dot = interpret(ahead.graph, {"x": X, "x_dot": v})["y_dot"]
    np.testing.assert_allclose(np.sum(out_dot), np.vdot(out, v))


@pytest.mark.parametrize("name", NETS)
def test_the_complex_step_witnesses_the_convention(name):
    f, _ = NETS[name]
    b = Builder(OPS)
    graph = b.graph([b.rename(f(b, b.input("x", DType.FLOAT32, (4,))), "y")])
    found = api.compare(
        onnxfile.write(graph),
        {"x": X.astype(np.float32)},
        methods=["forward", "reverse", "complex-step", "finite"],
        straight_through=True,
        budget=10,
    )
    by_name = {m.method: m for m in found.methods}
    assert (found.verdict, found.exit_code) == ("AGREE", 0)
    assert [by_name[m].verdict for m in ("forward", "reverse", "complex-step")] == ["AGREE"] * 3
    assert by_name["finite"].status == "skipped"
    assert "another question" in by_name["finite"].reason
    assert any("a convention, and not the derivative" in note for note in found.notes)


def test_finite_differences_do_not_answer_it():
    b = Builder(OPS)
    graph = b.graph([b.op("Round", b.input("x", DType.FLOAT32, (4,)), name="y")])
    problem = api.ask(onnxfile.write(graph), {"x": X.astype(np.float32)}, straight_through=True)
    with pytest.raises(CannotError, match="another question"):
        api.derive(problem, "finite")


def test_where_a_derivative_ends_is_said_by_default():
    b = Builder(OPS)
    graph = b.graph([b.op("Round", b.input("x", DType.FLOAT32, (4,)), name="y")])
    problem = api.ask(onnxfile.write(graph), {"x": X.astype(np.float32)})
    assert any("it ends at node 'y' (Round: a staircase" in note for note in problem.notes)


def test_where_a_derivative_ends_need_not_be_a_flat_operator():
    b = Builder(OPS)
    x, n = b.input("x", DType.FLOAT32, (4,)), b.input("n", DType.FLOAT32, ())
    whole = b.op("Cast", x, to="int64", name="whole")
    places = b.op("Range", b.constant(np.float32(0)), n, b.constant(np.float32(1)), name="places")
    made = [b.op("Cast", whole, to="float32", name="y"), b.op("Sin", places, name="z")]
    feeds = {"x": X.astype(np.float32), "n": np.array(2.5, np.float32)}
    (note,) = api.ask(onnxfile.write(b.graph(made)), feeds).notes
    assert "it ends at node 'whole' (Cast: its results are no floats), 'places' (Range: " in note
