"""Bodies of If, Loop and Scan: their scopes, captures and types."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node as node

from gradcli import onnxfile, runtime
from gradcli.errors import ModelError
from gradcli.graph import DType
from gradcli.onnxfile import Budget
from gradcli.ops import OPS
from tests.onnxfile.models import ONES, both_agree, info, model, read, refusal

RELU = node("Relu", ["x"], ["y"], name="r")
RELU_OUT = [onnx.ValueInfoProto(name="y")]


def body(nodes, outputs, inputs=(), constants=None) -> onnx.GraphProto:
    arrays = [onnx.numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    return helper.make_graph(nodes, "body", inputs, outputs, arrays)


def untyped(name: str) -> onnx.ValueInfoProto:
    return onnx.ValueInfoProto(name=name)


def test_branches_capture_shadowed_names_and_outer_values():
    yes = body([node("Add", ["h", "w"], ["t"])], [untyped("t")])
    no = body([node("Neg", ["x"], ["h2"]), node("Neg", ["h2"], ["t"])], [untyped("t")])
    proto = model(
        [
            node("Tanh", ["x"], ["h"]),
            node("If", ["p"], ["u"], then_branch=yes, else_branch=no),
            node("If", ["p"], ["v"], then_branch=no, else_branch=no),
            node("Add", ["u", "v"], ["y"]),
        ],
        [info("x", [2, 3]), info("p", [], TensorProto.BOOL)],
        constants={"w": np.full((40, 2, 3), 2, np.float32)},
    )
    for p in (True, False):
        graph = both_agree(proto, x=ONES, p=np.array(p)).graph
    then = graph.nodes[1].attrs["then_branch"]
    assert [v.name for v in then.captures] == ["h", "w"]


def test_a_branch_may_give_back_an_outer_value():
    # onnxruntime refuses this; written again it runs.
    branch = body([], [untyped("x")])
    made = node("If", ["p"], ["y"], then_branch=branch, else_branch=branch)
    graph = read(model([made], [info("x", [2, 3]), info("p", [], TensorProto.BOOL)])).graph
    found = runtime.prepare(graph).run({"x": ONES, "p": np.array(True)})
    np.testing.assert_array_equal(found["y"], ONES)


def loop() -> onnx.ModelProto:
    trip = body(
        [
            node("Identity", ["go"], ["on"]),
            node("Mul", ["s", "w"], ["s2"]),
            node("ReduceSum", ["s2", "axes"], ["row"], keepdims=0),
        ],
        [untyped("on"), untyped("s2"), untyped("row")],
        [info("i", [], 7), info("go", [], 9), untyped("s")],
        {"axes": np.array([0])},
    )
    return model(
        [node("Loop", ["n", "", "x"], ["y", "rows"], body=trip)],
        outputs=["y", "rows"],
        constants={"n": np.array(3), "w": np.full(3, 2, np.float32)},
    )


def test_loops_keep_their_bodies_and_types():
    graph = both_agree(loop(), x=ONES).graph
    trip = graph.nodes[0].attrs["body"]
    assert [v.dtype for v in trip.inputs] == [DType.INT64, DType.BOOL, DType.FLOAT32]
    y, rows = graph.outputs
    assert y.dtype is DType.FLOAT32
    assert rows.shape is None or len(rows.shape) == 2


def test_scans_keep_their_bodies_and_types():
    step = body(
        [node("Add", ["s", "e"], ["s2"]), node("Neg", ["s2"], ["o"])],
        [untyped("s2"), untyped("o")],
        [untyped("s"), untyped("e")],
    )
    proto = model(
        [node("Scan", ["z", "x"], ["last", "y"], body=step, num_scan_inputs=1)],
        outputs=["last", "y"],
        constants={"z": np.zeros(3, np.float32)},
    )
    both_agree(proto, x=ONES)


def test_bodies_that_nest_too_deep_are_refused():
    inner = node("Neg", ["x"], ["y"])
    for _ in range(20):
        branch = body([inner], [untyped("y")])
        inner = node("If", ["p"], ["y"], then_branch=branch, else_branch=body([RELU], RELU_OUT))
    proto = model([inner], [info("x", [1]), info("p", [], TensorProto.BOOL)])
    assert "nest more than 16 deep" in refusal(proto, budget=Budget(depth=16)).message


def test_bodies_beyond_all_reason_do_not_crash_the_parser():
    data = b""
    for field in (6, 5, 1) * 3000:  # attribute.g, node.attribute, graph.node
        length = len(data)
        size = bytes(
            (length >> 7 * k & 0x7F) | (0x80 if length >> 7 * (k + 1) else 0)
            for k in range(max(1, -(-length.bit_length() // 7)))
        )
        data = bytes([field << 3 | 2]) + size + data
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        onnxfile.read(b"\x08\x0a\x3a" + size + data, OPS)


def test_a_body_sees_only_what_does_not_hang_on_it():
    branch = body([node("Neg", ["late"], ["t"])], [untyped("t")])
    proto = model(
        [
            node("If", ["p"], ["y"], then_branch=branch, else_branch=branch),
            node("Add", ["x", "y"], ["late"]),
        ],
        [info("x", [1]), info("p", [], TensorProto.BOOL)],
    )
    assert "reads 'late' before it is made" in refusal(proto).message
