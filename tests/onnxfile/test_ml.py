"""Files of ai.onnx.ml: every version of its operators, integers for numbers, ZipMap bypassed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gradcli import api, onnxfile, runtime
from gradcli.comparison import Verdict
from gradcli.errors import ModelError
from gradcli.graph import DType
from gradcli.interpret import interpret
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from gradcli.transform import cast
from tests.onnxfile.models import code, info, model

X = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 3.0]], np.float32)

STUMPS: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0, 1, 1, 1],
    "nodes_nodeids": [0, 1, 2, 0, 1, 2],
    "nodes_featureids": [0, 0, 0, 1, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
    "nodes_truenodeids": [1, 0, 0] * 2,
    "nodes_falsenodeids": [2, 0, 0] * 2,
}
LEAVES: dict[str, Any] = {
    "target_treeids": [0, 0, 1, 1],
    "target_nodeids": [1, 2, 1, 2],
    "target_ids": [0, 0, 0, 0],
    "n_targets": 1,
}
SPLITS = [0.25, 0.0, 0.0, 0.5, 0.0, 0.0]
HEIGHTS = [1.0, 2.0, 10.0, 20.0]


def file(
    op: str, version: int, x: np.ndarray, outputs: int = 1, opset: int = 15, **attrs: Any
) -> Model:
    """A file of one operator."""
    names = ["y", "z"][:outputs]
    node = helper.make_node(op, ["x"], names, name="the node", domain="ai.onnx.ml", **attrs)
    inputs = [info("x", x.shape, code(x) if x.dtype != object else TensorProto.STRING)]
    proto = model([node], inputs, names, opset=opset, ir=8, imports=[("ai.onnx.ml", version)])
    return onnxfile.read(proto.SerializeToString(), OPS)


def check(read: Model, x: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime computes of the file, of what was read, and the interpreter, is the same."""
    wanted = list(runtime.prepare(read).run({"x": x}).values())
    ours = list(runtime.prepare(read.graph).run({"x": x}).values())
    exact = list(interpret(cast(read.graph, DType.FLOAT64), {"x": x}).values())
    for value, y, again, interpreted in zip(read.graph.outputs, wanted, ours, exact, strict=True):
        assert DType.of(y) is value.dtype
        np.testing.assert_array_equal(y, again)
        if value.dtype.is_float:
            np.testing.assert_allclose(interpreted, y, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(interpreted, y)
    return wanted


def test_label_encoder_1_goes_both_ways():
    words = np.array(["b", "a", "?"], object)
    check(file("LabelEncoder", 1, words, classes_strings=["a", "b"], default_int64=7), words)
    numbers = np.array([1, 0, 5], np.int64)
    check(file("LabelEncoder", 1, numbers, classes_strings=["a", "b"]), numbers)


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_label_encoder_2_and_4(version: int):
    words = np.array(["b", "a", "?"], object)
    read = file("LabelEncoder", version, words, keys_strings=["a", "b"], values_floats=[0.5, 1.5])
    (y,) = check(read, words)
    np.testing.assert_array_equal(y, np.array([1.5, 0.5, -0.0], np.float32))


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_trees_by_nodes(version: int, dtype: Any):
    x = X.astype(dtype)
    attrs = {**STUMPS, **LEAVES, "nodes_values": SPLITS, "target_weights": HEIGHTS}
    check(file("TreeEnsembleRegressor", version, x, **attrs), x)


def test_trees_by_nodes_3_with_tensors():
    x = X.astype(np.float64)
    tensors = {
        "nodes_values_as_tensor": onnx.numpy_helper.from_array(np.array(SPLITS)),
        "target_weights_as_tensor": onnx.numpy_helper.from_array(np.array(HEIGHTS)),
    }
    check(file("TreeEnsembleRegressor", 3, x, **STUMPS, **LEAVES, **tensors), x)


def test_trees_by_nodes_that_were_taken_back_are_read():
    attrs = {**STUMPS, **LEAVES, "nodes_values": SPLITS, "target_weights": HEIGHTS}
    read = file("TreeEnsembleRegressor", 5, X, **attrs)
    np.testing.assert_array_equal(interpret(read.graph, {"x": X})["y"], [[12.0], [12.0], [21.0]])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float64])
@pytest.mark.parametrize(
    ("op", "outputs", "attrs"),
    [
        ("Scaler", 1, {"offset": [0.5, 1], "scale": [0.1, 2.0]}),
        ("Normalizer", 1, {"norm": "L2"}),
        ("FeatureVectorizer", 1, {"inputdimensions": [2]}),
        (
            "LinearClassifier",
            2,
            {"coefficients": [0.5, -1, 2, 1], "intercepts": [0.0, 1], "classlabels_ints": [3, 5]},
        ),
        (
            "SVMClassifier",
            2,
            {
                "coefficients": [0.5, -1],
                "support_vectors": [1.0, 2, 3, 4],
                "vectors_per_class": [1, 1],
                "rho": [0.5],
                "kernel_type": "RBF",
                "kernel_params": [0.1, 0.0, 3.0],
                "classlabels_strings": ["no", "yes"],
            },
        ),
    ],
)
def test_what_is_no_float32_is_converted_as_onnxruntime_does(
    op: str, outputs: int, attrs: dict[str, Any], dtype: Any
):
    x = (3 * X).astype(dtype)
    y = check(file(op, 1, x, outputs, **attrs), x)
    assert y[-1].dtype == np.float32


@pytest.mark.parametrize("opset", [9, 15, 21])
@pytest.mark.parametrize("labels", [{"classlabels_int64s": [4, 2]}, {"classlabels_strings": "ab"}])
def test_zipmap_is_bypassed_and_said(labels: dict[str, Any], opset: int):
    zipped: dict[str, Any] = {k: list(v) for k, v in labels.items()}
    ints: dict[str, Any] = {k.replace("int64s", "ints"): v for k, v in zipped.items()}
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=[0.5, -1.0, 2.0, 1.0],
            intercepts=[0.25, -0.5],
            post_transform="SOFTMAX",
            **ints,
        ),
        helper.make_node("ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", **zipped),
    ]
    key = TensorProto.INT64 if "classlabels_int64s" in labels else TensorProto.STRING
    maps = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs: Any = [
        "label",
        helper.make_value_info("probabilities", helper.make_sequence_type_proto(maps)),
    ]
    proto = model(nodes, [info("x", ["N", 2])], outputs, opset=opset, imports=[("ai.onnx.ml", 1)])
    proto.ir_version = 8
    read = onnxfile.read(proto.SerializeToString(), OPS)
    assert read.unzipped == ("probabilities",)
    run = runtime.prepare(read).run({"x": X})
    scores = X @ np.array([[0.5, 2.0], [-1.0, 1.0]]) + np.array([0.25, -0.5])
    wanted = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(run["probabilities"], wanted, rtol=1e-6)
    comparison = api.compare(read, {"x": X[:1]}, dtype="float64", methods=["reverse", "finite"])
    assert {m.verdict for m in comparison.methods} == {Verdict.AGREE}
    assert any("probabilities: the tensor" in note for note in comparison.notes)


def test_a_file_of_machine_learning_alone_needs_no_other_operators():
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    proto = model([node], [info("x", [3, 2])], ["y"], ir=8, imports=[("ai.onnx.ml", 1)])
    del proto.opset_import[0]
    read = onnxfile.read(proto.SerializeToString(), OPS)
    np.testing.assert_array_equal(runtime.prepare(read).run({"x": X})["y"], X)


def test_long_lists_are_arrays_and_come_back():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5000)).astype(np.float32)
    read = file("Scaler", 1, x, offset=[0.0] * 5000, scale=rng.standard_normal(5000).tolist())
    assert isinstance(read.graph.nodes[0].attrs["scale"], np.ndarray)
    check(read, x)


def test_what_fits_one_machine_only_is_refused_with_the_way_out():
    node = helper.make_node("Conv", ["x", "w"], ["y"], domain="com.microsoft.nchwc")
    weights = {"w": np.ones((8, 3, 1, 1), np.float32)}
    imports = [("com.microsoft.nchwc", 1)]
    proto = model([node], [info("x", [1, 3, 4, 4])], ["y"], weights, imports=imports)
    with pytest.raises(ModelError, match="blocks of channels") as refused:
        onnxfile.read(proto.SerializeToString(), OPS)
    assert "'extended'" in refused.value.hint
