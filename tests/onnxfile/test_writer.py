"""Writing: what is written is valid, says the same, and appears whole or not at all."""

import stat
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_node as node

from gradcli import onnxfile, runtime
from gradcli.errors import ModelError, OutputError
from gradcli.graph import Builder, DType, Graph, Node, Value
from gradcli.ops import OPS
from tests.installed import need_form
from tests.onnxfile.models import ONES, info, model, read


def build() -> Graph:
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, ("n", 3))
    w = b.constant(np.full(3, 2, np.float32), name="w")
    return b.graph([b.op("Mul", x, w, name="y")], "net")


def weighty() -> Graph:
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (2, 300))
    w = b.constant(np.ones((300, 400), np.float32), name="w")
    small = b.constant(np.full(400, 2, np.float32), name="small")
    axes = b.constant(np.arange(400), name="index")
    y = b.op("Gather", b.op("MatMul", x, w) + small, axes, axis=1)
    return b.graph([b.rename(y, "y")])


def parsed(graph: Graph, **options) -> onnx.ModelProto:
    proto = onnx.load_from_string(onnxfile.write(graph, **options))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def test_a_file_is_valid_and_speaks_the_graph_s_names():
    proto = parsed(build(), producer="me")
    assert (proto.producer_name, proto.ir_version, proto.graph.name) == ("me", 10, "net")
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 21)]
    assert [v.name for v in (*proto.graph.input, *proto.graph.output)] == ["x", "y"]
    assert [
        d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim
    ] == [
        "n",
        3,
    ]


def test_the_same_graph_gives_the_same_bytes():
    assert onnxfile.write(build()) == onnxfile.write(build())


def test_reading_what_was_written_changes_nothing():
    data = onnxfile.write(weighty())
    assert onnxfile.write(onnxfile.read(data, OPS).graph) == data


def test_large_constants_can_stay_outside_as_inputs():
    graph = weighty()
    names = {
        embed: [v.name for v in onnxfile.left_out(graph, embed)]
        for embed in (True, False, 1600, 10**6)
    }
    assert names == {True: [], False: ["w", "small"], 1600: ["w"], 10**6: []}
    proto = parsed(graph, embed=1600)
    assert [v.name for v in proto.graph.input] == ["x", "w"]
    assert sorted(t.name for t in proto.graph.initializer) == ["index", "small"]
    x = np.ones((2, 300), np.float32)
    for embed in (None, *names):
        found = runtime.prepare(graph, embed=embed).run({"x": x})["y"]
        np.testing.assert_array_equal(found, np.full((2, 400), 302, np.float32))


def test_values_of_bodies_never_hide_values_around_them():
    x = Value("x", DType.FLOAT32, (2, 3))
    p = Value("p", DType.BOOL, ())
    inner, y = Value("x", DType.FLOAT32, (2, 3)), Value("y", DType.FLOAT32, (2, 3))
    body = Graph((), (inner,), (Node("Neg", (x,), (inner,)),), {}, (x,))
    choice = Node("If", (p,), (y,), {"then_branch": body, "else_branch": body})
    graph = Graph((x, p), (y,), (choice,))
    parsed(graph)
    found = runtime.prepare(graph).run({"x": ONES, "p": np.array(True)})
    np.testing.assert_array_equal(found["y"], -ONES)


def test_inputs_and_constants_may_be_outputs():
    x, c = Value("x", DType.FLOAT32, (2, 3)), Value("c", DType.FLOAT32, (1,))
    graph = Graph((x,), (x, c, x), (), {c: np.ones(1, np.float32)})
    found = runtime.prepare(graph).run({"x": ONES})
    assert list(found) == ["x", "c"]


def test_a_later_opset_is_declared_only_where_it_is_needed():
    x, y = (Value(n, DType.FLOAT32, (2,)) for n in "xy")

    def version(made: Node, opset: int = 21) -> int:
        data = onnxfile.write(Graph((x,), (y,), (made,)), opset=opset)
        return onnx.load_from_string(data).opset_import[0].version

    assert version(Node("Relu", (x,), (y,))) == 21
    assert version(Node("Relu", (x,), (y,)), opset=23) == 23
    assert version(Node("Swish", (x,), (y,), {"alpha": 1.0})) == 24
    half, out = (Value(n, DType.BFLOAT16, (2,)) for n in "xy")
    graph = Graph((half,), (out,), (Node("Round", (half,), (out,)),))
    assert onnx.load_from_string(onnxfile.write(graph)).opset_import[0].version == 22
    with pytest.raises(ModelError, match="cannot be written as opset 20"):
        version(Node("Relu", (x,), (y,)), opset=20)


@pytest.mark.parametrize(("attrs", "opset"), [({}, 23), ({"left_window_size": 1}, 25)])
def test_an_attribute_born_later_demands_no_opset_at_its_default(attrs, opset):
    need_form("Attention", opset, attrs)
    b = Builder(OPS)
    q, k, v = (b.input(name, DType.FLOAT32, (1, 2, 3, 4)) for name in "qkv")
    y = b.op("Attention", q, k, v, **attrs)
    assert parsed(b.graph([y])).opset_import[0].version == opset


def test_other_domains_are_imported():
    proto = model(
        [
            node("Scaler", ["x"], ["h"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0]),
            node("Gelu", ["h"], ["y"], domain="com.microsoft"),
        ],
        imports=[("ai.onnx.ml", 3), ("com.microsoft", 1)],
    )
    graph = read(proto).graph
    written = onnx.load_from_string(onnxfile.write(graph))
    assert {o.domain for o in written.opset_import} == {"", "ai.onnx.ml", "com.microsoft"}
    assert runtime.prepare(graph).run({"x": ONES})["y"].shape == (2, 3)


def test_every_kind_of_attribute_goes_out_and_back():
    proto = model(
        [
            node("Kinds", ["x"], ["y"], domain="d", i=1, f=0.5, s="ü", ints=[1, 2], floats=[0.5]),
            node(
                "More",
                ["x"],
                ["z"],
                domain="d",
                strings=["a"],
                t=onnx.numpy_helper.from_array(ONES),
            ),
        ],
        outputs=["y", "z"],
        imports=[("d", 1)],
    )
    again = onnxfile.read(onnxfile.write(read(proto).graph), OPS)
    first, second = again.graph.nodes
    assert dict(first.attrs) == {"i": 1, "f": 0.5, "s": "ü", "ints": (1, 2), "floats": (0.5,)}
    assert second.attrs["strings"] == ("a",)
    np.testing.assert_array_equal(second.attrs["t"], ONES)


def test_empty_lists_keep_the_kind_that_the_standard_says():
    proto = model([node("Identity", ["x"], ["y"])])
    graph = read(proto).graph
    (x,), (y,) = graph.inputs, graph.outputs
    made = Node("Conv", (x, x), (y,), {"pads": (), "auto_pad": "VALID"})
    data = onnxfile.write(Graph((x,), (y,), (made,)))
    kinds = {a.name: a.type for a in onnx.load_from_string(data).graph.node[0].attribute}
    assert kinds == {"pads": onnx.AttributeProto.INTS, "auto_pad": onnx.AttributeProto.STRING}


def test_more_than_two_gibibytes_do_not_go_into_one_file():
    w = Value("w", DType.FLOAT32, (2**29,))
    huge = np.broadcast_to(np.float32(0), (2**29,))
    graph = Graph((), (w,), (), {w: huge})
    with pytest.raises(ModelError, match="more than one file can hold"):
        onnxfile.write(graph)


def test_saving_replaces_the_whole_file(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    onnxfile.save(build(), path)
    assert path.read_bytes() == onnxfile.write(build())
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0


def test_nothing_is_left_behind_where_saving_fails(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    for place in (tmp_path / "none" / "net.onnx", tmp_path / "folder.onnx"):
        with pytest.raises(OutputError, match="cannot be written"):
            onnxfile.save(build(), place)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.onnx"]


def test_strings_and_narrow_integers_are_written():
    proto = model(
        [node("Identity", ["s"], ["y"]), node("Cast", ["q"], ["z"], to=TensorProto.FLOAT)],
        [info("x", [1])],
        ["y", "z"],
        constants={"s": np.array(["a", "ü"], object)},
    )
    proto.graph.initializer.append(onnx.helper.make_tensor("q", TensorProto.INT4, [3], [-8, 7, 1]))
    found = runtime.prepare(read(proto).graph).run({"x": np.ones(1, np.float32)})
    assert found["y"].tolist() == ["a", "ü"]
    assert found["z"].tolist() == [-8, 7, 1]
