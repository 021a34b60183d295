"""Every upgrade of an old form, against onnxruntime or the reference on the original file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gradcli import onnxfile, runtime
from gradcli.errors import ModelError
from gradcli.onnxfile import canonical, schemas
from gradcli.ops import OPS
from gradcli.transform import expand
from tests.installed import need_evaluator, need_every_form, need_form
from tests.onnxfile.models import NoCards, code, info, model

FLOAT = np.float32
RANDOM = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(FLOAT)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Row:
    """One application of an old form."""

    op: str
    opset: int
    feeds: Sequence[np.ndarray]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    constants: Sequence[np.ndarray | None] = ()
    outputs: int = 1
    reference: bool = False
    """Whether onnx's own evaluator is the oracle, where onnxruntime has no kernel."""
    dynamic: bool = False
    """Whether the file hides the inputs' sizes."""

    def __str__(self) -> str:
        attrs = ",".join(f"{k}={v}" for k, v in self.attrs.items())
        return f"{self.op}-{self.opset}({attrs}){'?' if self.dynamic else ''}"

    def proto(self) -> onnx.ModelProto:
        names = [f"x{k}" for k in range(len(self.feeds))]
        held = {f"c{k}": c for k, c in enumerate(self.constants) if c is not None}
        operands = names + ["" if c is None else f"c{k}" for k, c in enumerate(self.constants)]
        results = [f"y{k}" for k in range(self.outputs)]
        inputs = [
            info(n, [None] * a.ndim if self.dynamic else a.shape, code(a))
            for n, a in zip(names, self.feeds, strict=True)
        ]
        node = helper.make_node(self.op, operands, results, name="the node", **self.attrs)
        return model([node], inputs, results, held, opset=self.opset, ir=8)

    def expected(self) -> list[np.ndarray]:
        given = {f"x{k}": a for k, a in enumerate(self.feeds)}
        proto = self.proto()
        if self.reference:
            from onnx.reference import ReferenceEvaluator

            return list(ReferenceEvaluator(proto).run(None, given))
        read = onnxfile.read(proto.SerializeToString(), NoCards())
        return list(runtime.prepare(read, optimisation="off").run(given).values())


X = normal(2, 3, 4)
IMAGE = normal(2, 4, 5, 6)
QUANTA = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
GRID = np.clip(normal(2, 3, 3, 2), -1.2, 1.2)
REDUCE = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]


def channel(k: int) -> np.ndarray:
    return np.abs(normal(k)) + FLOAT(0.5)


ROWS = [
    *[
        Row(op, opset, [np.abs(X)], attrs)
        for op in REDUCE
        for opset in ((7, 11) if op == "ReduceSum" else (7, 11, 13))
        for attrs in ({}, {"axes": [1], "keepdims": 0}, {"axes": [0, 2]})
    ],
    Row("ReduceMax", 12, [X], {"axes": [-1]}),
    Row("ReduceMin", 12, [X], {"axes": [-1]}),
    *[
        Row(
            "QuantizeLinear",
            opset,
            [X],
            attrs,
            [np.array(0.37, FLOAT), np.array(3, np.uint8)],
            reference=opset > 24,
        )
        for opset in (10, 13, 19, 21, 23, 24, 25, 28)
        for attrs in ({}, *([{"precision": TensorProto.FLOAT}] if opset > 21 else []))
    ],
    *[
        Row(
            "DequantizeLinear",
            opset,
            [QUANTA],
            attrs,
            [np.array(0.37, FLOAT), np.array(3, np.uint8)],
            reference=opset > 24,
        )
        for opset in (10, 13, 19, 21, 23, 24, 25, 28)
        for attrs in ({}, *([{"output_dtype": TensorProto.FLOAT}] if opset > 21 else []))
    ],
    Row("DequantizeLinear", 13, [QUANTA], {"axis": 1}, [channel(3), np.arange(3, dtype=np.uint8)]),
    *[
        Row(op, opset, [X], {} if axis is None else {"axis": axis}, dynamic=dynamic)
        for op in ("Softmax", "LogSoftmax", "Hardmax")
        for opset in (7, 11)
        for axis in (None, 0, 1, 2)
        for dynamic in (False, True)
    ],
    Row("Softmax", 11, [X], {"axis": -2}),
    Row("Softmax", 11, [normal(2, 0, 3)], {"axis": 1}),
    Row("Squeeze", 7, [normal(1, 3, 1)], {"axes": [0]}),
    Row("Squeeze", 11, [normal(1, 3, 1)], {"axes": [-1]}),
    Row("Squeeze", 7, [normal(1, 3, 1)]),
    Row("Unsqueeze", 7, [X], {"axes": [0, 3]}),
    Row("Unsqueeze", 11, [X], {"axes": [-1]}),
    Row("Slice", 7, [X], {"starts": [0, 1], "ends": [2, -1]}),
    Row("Slice", 7, [X], {"starts": [-3], "ends": [1000], "axes": [2]}),
    Row("Slice", 10, [X], {}, [ints(3), ints(-5), ints(2), ints(-1)]),
    Row("Pad", 7, [X], {"pads": [0, 1, 2, 0, 0, 1], "value": 2.5}),
    Row("Pad", 7, [X], {"pads": [0, 1, 2, 0, 0, 1], "mode": "reflect"}),
    Row("Pad", 7, [X], {"pads": [0, -1, 0, 0, 0, -2], "mode": "edge"}),
    Row("Pad", 11, [X], {}, [ints(0, 1, 2, 0, 0, 1), np.array(3, FLOAT)]),
    Row("Clip", 7, [X], {"min": -0.5, "max": 0.25}),
    Row("Clip", 7, [X], {"max": 0.25}),
    Row("Clip", 7, [X]),
    Row("Clip", 11, [X], {}, [None, np.array(0.25, FLOAT)]),
    Row("Split", 7, [X], {"axis": 2}, outputs=2),
    Row("Split", 7, [X], {"axis": 2, "split": [1, 3]}, outputs=2),
    Row("Split", 11, [X], {"axis": -2, "split": [1, 1, 1]}, outputs=3),
    Row("Split", 13, [X], {"axis": 1}, outputs=3),
    Row("Split", 13, [X], {"axis": 1}, [ints(1, 2)], outputs=2),
    Row("TopK", 7, [X], {"k": 2}, outputs=2),
    Row("TopK", 7, [X], {"k": 2, "axis": 1}, outputs=2),
    Row("TopK", 10, [X], {}, [ints(3)], outputs=2),
    Row("Dropout", 7, [X], {"ratio": 0.3}),
    Row("Dropout", 10, [X]),
    Row("Dropout", 12, [X], {}, [np.array(0.2, FLOAT)], outputs=2),
    Row("DFT", 17, [normal(2, 8, 1)], {"axis": 1}, reference=True),
    *[
        Row(
            op,
            opset,
            [normal(3, 2, 2), *(normal(1, gates * 4, k) for k in (2, 4))],
            {"hidden_size": 4, **({"layout": 1} if opset >= 14 else {})},
            outputs=2,
            # Only onnx's own evaluator takes layout 1.
            reference=opset >= 14,
        )
        for op, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4))
        for opset in (7, 14, 22)
    ],
    Row("DFT", 17, [normal(2, 8, 1)], {"onesided": 1}, reference=True),
    *[
        Row("BatchNormalization", opset, [IMAGE], {"epsilon": 1e-3}, [channel(4)] * 4)
        for opset in (7, 9, 14)
    ],
    *[
        Row("BatchNormalization", opset, [IMAGE], {"training_mode": 1}, [channel(4)] * 4, outputs=3)
        for opset in (14, 15)
    ],
    Row("Upsample", 7, [IMAGE], {"scales": [1.0, 1.0, 2.0, 3.0]}),
    Row("Upsample", 7, [IMAGE], {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "linear"}),
    Row("Upsample", 9, [IMAGE], {}, [np.array([1, 1, 1.5, 2], FLOAT)]),
    Row("Upsample", 9, [IMAGE], {"mode": "linear"}, [np.array([1, 1, 2, 2], FLOAT)]),
    Row("Resize", 10, [IMAGE], {}, [np.array([1, 1, 2, 3], FLOAT)]),
    Row("Resize", 10, [IMAGE], {}, [np.array([1, 1, 0.6, 0.5], FLOAT)]),
    Row("Resize", 10, [IMAGE], {"mode": "linear"}, [np.array([1, 1, 0.6, 2], FLOAT)]),
    Row("Resize", 10, [IMAGE], {}, [np.array([1, 1, 0.5, 1.7], FLOAT)]),
    Row("Resize", 10, [IMAGE, np.array([1, 1, 1.7, 0.4], FLOAT)]),
    Row("Resize", 11, [IMAGE], {}, [np.zeros(0, FLOAT), np.array([1, 1, 0.6, 2], FLOAT)]),
    *[
        Row(
            "Resize",
            opset,
            [IMAGE],
            {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"},
            [np.zeros(0, FLOAT), np.zeros(0, FLOAT), ints(2, 4, *sizes)],
        )
        for opset in (11, 18, 19)
        for sizes in ((10, 9), (3, 2), (7, 4))
    ],
    Row(
        "Resize",
        11,
        [IMAGE],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        [np.zeros(0, FLOAT), np.zeros(0, FLOAT), ints(2, 4, 7, 3)],
    ),
    Row("Resize", 13, [IMAGE], {"mode": "cubic"}, [None, None, ints(2, 4, 7, 3)]),
    *[
        Row("GridSample", 16, [IMAGE, GRID], {"mode": mode})
        for mode in ("bilinear", "bicubic", "nearest")
    ],
    Row("GridSample", 16, [IMAGE, GRID]),
    Row(
        "RoiAlign",
        10,
        [IMAGE, np.array([[0.5, 0.5, 4, 3]], FLOAT), ints(1)],
        {"output_height": 2, "output_width": 2},
    ),
    *[
        Row(
            "GroupNormalization",
            18,
            [IMAGE],
            {"num_groups": 2},
            [channel(2), channel(2)],
            dynamic=dynamic,
            reference=True,
        )
        for dynamic in (False, True)
    ],
    *[
        Row("SpaceToDepth", 28, [normal(2, 3, 4, 6)], {"blocksize": 2, **mode}, dynamic=dynamic)
        for mode in ({}, {"mode": "DCR"}, {"mode": "CRD"})
        for dynamic in (False, True)
    ],
    Row("Scatter", 9, [X, np.zeros((1, 3, 4), np.int64), normal(1, 3, 4)], {"axis": 0}),
    # Forms that only grew: nothing may happen to them.
    Row("Reshape", 7, [X], {}, [ints(0, -1)]),
    Row("Flatten", 7, [X], {"axis": 2}),
    Row("Gemm", 7, [normal(2, 3), normal(3, 4), normal(4)], {"alpha": 0.5}),
    Row("MaxPool", 7, [IMAGE], {"kernel_shape": [2, 2]}),
    Row("MaxPool", 8, [IMAGE], {"kernel_shape": [2, 2]}, outputs=2),
    Row("AveragePool", 7, [IMAGE], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    Row("AveragePool", 10, [IMAGE], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    Row("Conv", 7, [IMAGE, normal(3, 4, 2, 2)], {"auto_pad": "SAME_UPPER"}),
    *[
        Row("LpPool", opset, [IMAGE], {"kernel_shape": [2, 3], "p": 3, "strides": [1, 2]})
        for opset in (7, 11, 18)
    ],
    Row("GlobalLpPool", 7, [IMAGE], {"p": 3}),
    Row("LpNormalization", 7, [X], {"p": 1, "axis": 1}),
    Row("MeanVarianceNormalization", 9, [IMAGE], {"axes": [0, 2]}),
    Row("MeanVarianceNormalization", 9, [IMAGE]),
    Row("LRN", 7, [IMAGE], {"size": 3, "alpha": 0.5}),
    Row("InstanceNormalization", 7, [IMAGE], {}, [channel(4), channel(4)]),
    Row("ConvTranspose", 7, [IMAGE, normal(4, 3, 2, 2)], {"strides": [2, 2]}),
    Row("Cast", 7, [X], {"to": TensorProto.INT32}),
    Row("ArgMax", 7, [X], {"axis": 1, "keepdims": 0}),
    Row("Shape", 7, [X]),
    Row("Gather", 7, [X], {"axis": 1}, [ints(2, 0)]),
    Row("Max", 8, [X, normal(3, 1), normal(1)]),
    Row("Min", 7, [X, normal(2, 3, 4)]),
    Row("Sum", 7, [X, normal(2, 3, 4)]),
    Row("Pow", 7, [np.abs(X), normal(4)]),
    Row("Equal", 7, [np.array([1, 2], np.int32), np.array([1, 3], np.int32)]),
    Row("ScatterElements", 11, [X, np.zeros((1, 3, 4), np.int64), normal(1, 3, 4)]),
    Row("ScatterND", 11, [X, np.array([[1]], np.int64), normal(1, 3, 4)]),
    Row("PRelu", 7, [X, normal(4)]),
    Row("LRN", 7, [IMAGE], {"size": 3}),
    Row("DepthToSpace", 7, [IMAGE], {"blocksize": 2}),
    Row("DepthToSpace", 11, [IMAGE], {"blocksize": 2, "mode": "CRD"}),
    Row("DepthToSpace", 28, [IMAGE], {"blocksize": 2, "mode": "CRD"}),
    Row("SpaceToDepth", 7, [normal(2, 3, 4, 6)], {"blocksize": 2}),
    Row("Compress", 9, [X], {"axis": 1}, [np.array([True, False, True])]),
    Row("Unique", 11, [np.array([2, 1, 1, 3], FLOAT)], outputs=4),
    Row("GatherND", 11, [X], {}, [np.array([[1, 2]], np.int64)]),
    Row(
        "NonMaxSuppression",
        10,
        [np.abs(normal(1, 5, 4)), normal(1, 2, 5)],
        {},
        [ints(3), np.array([0.3], FLOAT)],
    ),
    Row("ScatterElements", 16, [X, np.zeros((1, 3, 4), np.int64), X[:1]], {"reduction": "mul"}),
    Row("ScatterND", 16, [X, np.zeros((2, 1), np.int64), X], {"reduction": "mul"}),
    Row("CumSum", 11, [X], {"exclusive": 1}, [np.array(1, np.int64)]),
    Row("ReverseSequence", 28, [X, ints(2, 1, 2)]),
    Row("InstanceNormalization", 7, [IMAGE], {}, [channel(4), channel(4)]),
    Row("Range", 11, [np.array(1, FLOAT), np.array(9, FLOAT), np.array(2, FLOAT)]),
    Row("OneHot", 9, [ints(1, 0)], {}, [ints(3), np.array([0, 1], FLOAT)]),
]


QUERIES, KEYS = normal(2, 4, 3, 8), normal(2, 2, 5, 8)

LATER = [
    Row("Attention", 23, [QUERIES, KEYS, KEYS], {"is_causal": 1, "softcap": 2.0}),
    Row("Attention", 24, [QUERIES, KEYS, KEYS], {}, [None, None, None, ints(4, 3)]),
    Row("Attention", 25, [QUERIES, KEYS, KEYS], {"left_window_size": 1, "right_window_size": 0}),
]
"""Operators born after the canonical opset, in forms that differ."""


@pytest.mark.parametrize("row", LATER, ids=str)
def test_an_operator_born_later_keeps_its_form_and_has_an_expansion(row):
    need_form(row.op, row.opset, row.attrs)
    graph = onnxfile.read(row.proto().SerializeToString(), OPS).graph
    older = expand(graph)
    assert [o.version for o in onnx.load_from_string(onnxfile.write(older)).opset_import] == [21]
    given = {f"x{k}": a for k, a in enumerate(row.feeds)}
    for g in (graph, older):
        (found,) = runtime.prepare(g, optimisation="off").run(given).values()
        np.testing.assert_allclose(found, row.expected()[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("table", [OPS, NoCards()], ids=["cards", "no cards"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_canonical_graph_computes_what_the_file_does(row, table):
    need_form(row.op, row.opset, row.attrs)
    need_evaluator(row.attrs if row.reference else ())
    graph = onnxfile.read(row.proto().SerializeToString(), table).graph
    data = onnxfile.write(graph)
    assert [o.version for o in onnx.load_from_string(data).opset_import] == [21]
    given = {f"x{k}": a for k, a in enumerate(row.feeds)}
    if row.op == "DFT":  # onnxruntime's takes no axis input of int64 before it is a constant
        from onnx.reference import ReferenceEvaluator

        found = ReferenceEvaluator(onnx.load_from_string(data)).run(None, given)
    else:
        found = list(runtime.prepare(graph, optimisation="off").run(given).values())
    expected = row.expected()
    assert len(found) == len(expected)
    for value, a, e in zip(graph.outputs, found, expected, strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)
        if value.shape is not None:
            assert len(value.shape) == a.ndim
            assert all(
                d == n for d, n in zip(value.shape, a.shape, strict=True) if isinstance(d, int)
            )


def test_every_row_of_the_table_is_tested():
    need_every_form()
    tested = {
        (row.op, found.since) for row in ROWS if (found := schemas.form(row.op, "", row.opset))
    }
    elsewhere = {("Scan", 8), ("Upsample", 10), ("Scatter", 11)}
    assert set(canonical.TABLE) - tested == elsewhere


def test_every_old_form_is_known_or_reads_the_same():
    """No attribute or input can be lost: what is not upgraded must still mean the same today."""
    silent = []
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain or not reachable(schema) or schema.deprecated:
            continue
        now = schemas.canonical(schema.name, "", onnxfile.MAX_OPSET)
        if (schema.name, schema.since_version) in canonical.TABLE or now is None:
            continue
        if schema.since_version <= now.since:
            gone = set(schema.attributes) - set(now.attributes)
            lost = [p.name for p in schema.inputs][len(now.schema.inputs) :]
            if gone or lost:
                silent.append((schema.name, schema.since_version, gone, lost))
    assert silent == []


def reachable(schema: Any) -> bool:
    """Whether a file of opset 7 or later can use this form."""
    found = schemas.form(schema.name, "", max(onnxfile.MIN_OPSET, schema.since_version))
    return found is not None and found.since == schema.since_version


@pytest.mark.parametrize(("opset", "mask"), [(7, "float32"), (10, "bool"), (12, "bool")])
def test_the_mask_of_dropout_has_the_type_that_its_form_says(opset, mask):
    # Its values mean nothing in inference: onnxruntime's old kernels leave it zero.
    graph = onnxfile.read(Row("Dropout", opset, [X], outputs=2).proto().SerializeToString(), OPS)
    found = runtime.prepare(graph.graph).run({"x0": X})
    np.testing.assert_array_equal(found["y0"], X)
    assert found["y1"].dtype == mask


@pytest.mark.parametrize("opset", [7, 8])
def test_batch_normalization_of_every_element(opset):
    x, stats = normal(3, 4, 5), [channel(20).reshape(4, 5) for _ in range(4)]
    row = Row("BatchNormalization", opset, [x], {"spatial": 0}, stats)
    graph = onnxfile.read(row.proto().SerializeToString(), OPS).graph
    scale, bias, mean, var = stats
    (found,) = runtime.prepare(graph).run({"x0": x}).values()
    np.testing.assert_allclose(
        found, (x - mean) / np.sqrt(var + 1e-5) * scale + bias, rtol=1e-5, atol=1e-6
    )
    assert {node.origin for node in graph.nodes[:-1]} == {"the node"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row("BatchNormalization", 9, [IMAGE], {}, [channel(4)] * 4, 3), "in training mode"),
        (Row("Softmax", 11, [X], {"axis": 5}), "has axis 5"),
        (Row("Slice", 7, [X], {"starts": [0], "ends": [1, 2]}), "different lengths"),
        (
            Row(
                "Resize",
                11,
                [IMAGE],
                {"coordinate_transformation_mode": "tf_half_pixel_for_nn"},
                [np.zeros(0, FLOAT), np.array([1, 1, 2, 2], FLOAT)],
            ),
            "in an old form",
        ),
    ],
    ids=str,
)
def test_what_has_no_canonical_form_is_refused_by_name(row, said):
    with pytest.raises(ModelError) as caught:
        onnxfile.read(row.proto().SerializeToString(), OPS)
    assert said in caught.value.message
    assert f"node 'the node' ({row.op}, opset {row.opset})" in caught.value.message


def test_attributes_born_later_are_dropped_at_their_default_and_kept_otherwise():
    def nodes(opset: int, **attrs: Any) -> Any:
        node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT16, **attrs)
        proto = model([node], [info("x", [2, 3])], opset=opset)
        return onnxfile.read(proto.SerializeToString(), NoCards()).graph

    plain, default, other = nodes(19), nodes(24, round_mode="up"), nodes(24, round_mode="down")
    assert "round_mode" not in {**plain.nodes[0].attrs, **default.nodes[0].attrs}
    assert other.nodes[0].attrs["round_mode"] == "down"
    written = [onnx.load_from_string(onnxfile.write(g)) for g in (default, other)]
    assert [m.opset_import[0].version for m in written] == [21, 24]


def test_a_form_born_after_the_canonical_opset_stays_and_raises_the_file_s():
    proto = model([helper.make_node("Swish", ["x"], ["y"])], opset=24)
    graph = onnxfile.read(proto.SerializeToString(), NoCards()).graph
    assert graph.nodes[0].attrs == {"alpha": 1.0}
    assert onnx.load_from_string(onnxfile.write(graph)).opset_import[0].version == 24


def test_dtype_attributes_are_names():
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("EyeLike", ["h"], ["y"], dtype=TensorProto.DOUBLE),
    ]
    graph = onnxfile.read(model(nodes).SerializeToString(), OPS).graph
    assert [n.attrs.get("to", n.attrs.get("dtype")) for n in graph.nodes] == ["float16", "float64"]
    back = onnx.load_from_string(onnxfile.write(graph)).graph.node
    assert [a.i for n in back for a in n.attribute if a.name in ("to", "dtype")] == [10, 11]
