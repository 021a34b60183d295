"""FlexAttention: its bodies become part of the graph, captured values and all."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node as node

from gradcli import onnxfile, runtime
from gradcli.errors import ModelError
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import vjp
from tests.installed import need_form

RANDOM = np.random.default_rng(3)
Q, K, V = (
    RANDOM.standard_normal(shape).astype(np.float32)
    for shape in ((2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6))
)
BIAS = RANDOM.standard_normal((3, 5)).astype(np.float32)


def body(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    def info(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4)

    return helper.make_graph(list(nodes), "body", [info("s")], [info("t")])


def proto(dims: bool = True, **bodies: onnx.GraphProto) -> bytes:
    need_form("FlexAttention", 1, domain="ai.onnx.preview")
    flex = node("FlexAttention", ["q", "k", "v"], ["y"], "flex", domain="ai.onnx.preview", **bodies)
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, x.shape if dims else [None] * 4)
        for n, x in (("q", Q), ("k", K), ("v", V))
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)
    bias = onnx.numpy_helper.from_array(BIAS, "bias")
    graph = helper.make_graph([flex], "g", inputs, [y], [bias])
    opsets = [helper.make_opsetid("", 25), helper.make_opsetid("ai.onnx.preview", 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=12).SerializeToString()
    return model


def expected() -> np.ndarray:
    k, v = np.repeat(K, 2, 1), np.repeat(V, 2, 1)
    e = np.exp(Q @ k.transpose(0, 1, 3, 2) / np.sqrt(8) + BIAS)
    return np.tanh(e / e.sum(-1, keepdims=True)) @ v


@pytest.mark.parametrize("dims", [True, False])
def test_its_bodies_become_part_of_the_graph(dims):
    score = body(node("Add", ["s", "bias"], ["t"]))
    prob = body(node("Tanh", ["s"], ["u"]), node("Identity", ["u"], ["t"]))
    graph = onnxfile.read(proto(dims, score_mod=score, prob_mod=prob), OPS).graph
    feeds = {"q": Q, "k": K, "v": V}
    np.testing.assert_allclose(interpret(graph, feeds)["y"], expected(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        runtime.prepare(graph).run(feeds)["y"], expected(), rtol=1e-4, atol=1e-5
    )
    assert {n.origin or n.name for n in graph.nodes} == {"flex"}
    assert set(vjp(graph).results) == {"q", "k", "v"}


def test_what_cannot_be_put_in_place_is_refused_by_name():
    branch = helper.make_graph(
        [node("Exp", ["s"], ["r"])],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    inner = body(
        node("Constant", [], ["c"], value=yes),
        node("If", ["c"], ["t"], then_branch=branch, else_branch=branch),
    )
    with pytest.raises(ModelError) as caught:
        onnxfile.read(proto(score_mod=inner), OPS)
    assert "'flex'" in caught.value.message
    assert "a score_mod with bodies of its own (in If)" in caught.value.message
