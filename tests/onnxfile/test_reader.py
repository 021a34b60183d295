"""From messages to a Graph: names, scopes, functions, bodies and every way to get them wrong."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node as node

from gradcli import onnxfile, runtime
from gradcli.errors import UnsupportedError
from gradcli.graph import DType
from gradcli.onnxfile import Budget
from gradcli.ops import OPS
from tests.onnxfile.models import ONES, NoCards, info, model, read, refusal

# ---- what a file says ----------------------------------------------------------------------------


def test_names_types_and_attributes_are_the_file_s():
    proto = model(
        [
            node("Conv", ["x", "W"], ["h"], name="first", pads=[1, 1, 1, 1]),
            node("LeakyRelu", ["h"], ["y"]),
        ],
        [info("x", ["batch", 3, 8, None])],
        constants={"W": np.ones((4, 3, 3, 3), np.float32)},
    )
    made = read(proto)
    graph = made.graph
    (x,) = graph.inputs
    assert (x.name, x.dtype) == ("x", DType.FLOAT32)
    assert x.shape is not None
    assert x.shape[:3] == ("batch", 3, 8)
    assert isinstance(x.shape[3], str)
    conv, relu = graph.nodes
    assert (conv.name, relu.name) == ("first", "y")
    assert conv.attrs["pads"] == (1, 1, 1, 1)
    assert conv.attrs["group"] == 1
    assert relu.attrs["alpha"] == np.float32(0.01)
    (h,) = conv.outputs
    assert h is not None
    assert h.name == "h"
    assert h.shape is not None
    assert h.shape[:3] == ("batch", 4, 8)
    assert [v.name for v in graph.constants] == ["W"]
    assert (made.opset, made.external, made.overridable) == (21, False, ())


def test_unknown_operators_are_read_with_the_standard_s_defaults_and_types():
    proto = model(
        [node("Celu", ["x"], ["h"]), node("MyOp", ["h"], ["y"], domain="mine", k=3)],
        imports=[("mine", 1)],
    )
    first, second = read(proto, table=NoCards()).graph.nodes
    assert dict(first.attrs) == {"alpha": 1.0}
    assert first.outputs[0].shape == (2, 3)  # type: ignore[union-attr] # it is there
    assert (second.key, dict(second.attrs)) == ("mine::MyOp", {"k": 3})
    assert second.outputs[0].shape is None  # type: ignore[union-attr] # it is there


def test_what_the_file_claims_of_intermediate_shapes_is_not_believed():
    proto = model([node("Celu", ["x"], ["h"]), node("Celu", ["h"], ["y"])])
    proto.graph.value_info.append(info("h", [7, 7, 7], TensorProto.INT8))
    graph = read(proto, table=NoCards()).graph
    assert repr(graph.outputs[0]) == "y:float32[2,3]"


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"value_float": 1.5}, np.float32(1.5)),
        ({"value_floats": [1.0, 2.0]}, np.array([1, 2], np.float32)),
        ({"value_int": 3}, np.int64(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_string": "a"}, np.array("a", object)),
        ({"value_strings": ["a", "b"]}, np.array(["a", "b"], object)),
        ({"value": onnx.numpy_helper.from_array(ONES)}, ONES),
    ],
)
def test_constant_nodes_become_constants(attrs, expected):
    proto = model([node("Constant", [], ["c"], **attrs), node("Identity", ["c"], ["y"])])
    graph = read(proto).graph
    assert len(graph.nodes) == 1
    ((value, array),) = graph.constants.items()
    assert value.name == "c"
    assert array.dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(array, expected)


def test_initializers_that_are_inputs_too_are_constants_that_a_run_may_replace():
    proto = model(
        [node("Mul", ["x", "w"], ["y"])],
        [info("x", [2, 3]), info("w", [3])],
        constants={"w": np.full(3, 2, np.float32)},
    )
    made = read(proto)
    assert [v.name for v in made.graph.inputs] == ["x"]
    assert made.overridable == ("w",)
    session = runtime.prepare(made)
    np.testing.assert_array_equal(session.run({"x": ONES})["y"], 2 * ONES)
    replaced = session.run({"x": ONES, "w": np.full(3, 5, np.float32)})
    np.testing.assert_array_equal(replaced["y"], 5 * ONES)


@pytest.mark.parametrize(
    "imports",
    [[("ai.onnx", 21)], [("unused", 7)], [("unused", 7), ("unused", 8)], [("ai.onnx.ml", 3)]],
)
def test_duplicate_and_unused_imports_are_fine(imports):
    assert read(model([node("Relu", ["x"], ["y"])], imports=imports)).graph.nodes


def test_the_standard_s_domain_has_two_names():
    proto = model([node("Relu", ["x"], ["y"], domain="ai.onnx")])
    assert read(proto).graph.nodes[0].key == "Relu"


# ---- names that attack ---------------------------------------------------------------------------

EVIL = "a\x1b[31m\x07\u202eb\u200b\x9b\x00c"


def test_names_are_printable_everywhere_and_still_run():
    names = ["x\x1b]0;owned\x07", "h\u202e", "y\n"]
    proto = model(
        [node("Relu", names[:1], names[1:2], name=EVIL), node("Neg", names[1:2], names[2:])],
        [info(names[0], [2, 3])],
        [names[2]],
    )
    proto.producer_name = EVIL
    proto.graph.name = EVIL
    made = read(proto)
    shown = [v.name for v in made.graph.values()] + [n.name for n in made.graph.nodes]
    assert all(name.isprintable() for name in [*shown, made.producer, made.graph.name])
    (x,) = made.graph.inputs
    assert x.name == "x\\x1b]0;owned\\x07"
    for source in (made, made.graph):
        assert list(runtime.prepare(source).run({x.name: ONES})) == ["y\\x0a"]
    inner = runtime.prepare(made, extra_outputs=["h\\u202e"]).run({x.name: ONES})
    np.testing.assert_array_equal(inner["h\\u202e"], ONES)


def test_names_in_any_script_stay_as_they_are():
    proto = model(
        [node("Relu", ["größe"], ["損失"], name="слой 1")], [info("größe", [1])], ["損失"]
    )
    graph = read(proto).graph
    assert [v.name for v in graph.values()] == ["größe", "損失"]
    assert graph.nodes[0].name == "слой 1"


def test_names_that_become_alike_stay_apart():
    proto = model([node("Relu", ["x"], ["\x1b"]), node("Neg", ["\x1b"], ["\\x1b"])], (), ["\\x1b"])
    names = [v.name for v in read(proto).graph.values()]
    assert len(set(names)) == 3


def test_names_that_are_no_utf8_and_endless_names():
    data = model([node("Relu", ["x"], ["y"], name="QQQQ")]).SerializeToString()
    made = onnxfile.read(data.replace(b"QQQQ", b"\xff\xfeQ\x1b"), OPS)
    assert made.graph.nodes[0].name == "\\xff\\xfeQ\\x1b"
    long = read(model([node("Relu", ["x"], ["y"], name="n" * 10**6)]))
    assert len(long.graph.nodes[0].name) < 1000
    broken = data.replace(b"\x01y", b"\x01\xff")
    assert onnxfile.read(broken, OPS).graph.outputs[0].name == "\\xff"


def test_attribute_and_operator_names_are_shown_harmless():
    for proto in (
        model([node(EVIL, ["x"], ["y"])]),
        model([helper.make_node("Relu", ["x"], ["y"], "", "", None, None, **{EVIL: 1})]),
        model([node("Relu", ["x"], ["y"], domain=EVIL)]),
        model([node("Relu", [EVIL], ["y"])]),
    ):
        assert "\\x1b" in refusal(proto).message


# ---- malformed graphs ----------------------------------------------------------------------------

RELU = node("Relu", ["x"], ["y"], name="r")

MALFORMED = {
    "unknown operator": (model([node("Rleu", ["x"], ["y"])]), "(Rleu, opset 21) is no operator"),
    "too young": (model([node("Gelu", ["x"], ["y"])], opset=13), "(Gelu, opset 13) is no operator"),
    "no import": (
        model([node("F", ["x"], ["y"], domain="d")]),
        "domain d, which the file does not",
    ),
    "old opset": (model([RELU], opset=6), "opset 6, but gradcli reads 7 to 28"),
    "future opset": (model([RELU], opset=999), "opset 999"),
    "negative opset": (model([RELU], opset=-1), "opset -1"),
    "two opsets": (model([RELU], imports=[("ai.onnx", 13)]), "both opset 21 and opset 13"),
    "no such value": (model([node("Relu", ["z"], ["y"])]), "reads 'z', which nothing makes"),
    "in a circle": (
        model([node("Relu", ["h"], ["y"]), node("Add", ["x", "y"], ["h"])]),
        "reads 'h' before it is made: the nodes go around in a circle",
    ),
    "itself": (model([node("Add", ["x", "y"], ["y"])]), "reads 'y' before it is made"),
    "made twice": (model([RELU, RELU]), "'y', as another value already is"),
    "input twice": (model([RELU], [info("x", [1]), info("x", [1])]), "a graph input is called 'x'"),
    "output is input": (model([node("Relu", ["x"], ["x"])], (), ["x"]), "as another value"),
    "no outputs": (model([RELU], (), []), "has no outputs"),
    "output missing": (model([RELU], (), ["q"]), "reads 'q', which nothing makes"),
    "too many operands": (model([node("Relu", ["x", "x"], ["y"])]), "has 2 inputs, not 1"),
    "too few operands": (model([node("Add", ["x"], ["y"])]), "has 1 inputs, not 2"),
    "too many results": (model([node("Relu", ["x"], ["y", "z"])]), "has 2 outputs, not 1"),
    "unknown attribute": (model([node("Relu", ["x"], ["y"], alpha=1.0)]), "no attribute 'alpha'"),
    "attribute of another kind": (
        model([node("LeakyRelu", ["x"], ["y"], alpha=1)]),
        "attribute 'alpha' is of kind INT, not FLOAT",
    ),
    "attribute missing": (model([node("Cast", ["x"], ["y"])]), "lacks its attribute 'to'"),
    "cast to nothing known": (model([node("Cast", ["x"], ["y"], to=77)]), "element type 77"),
    "operand left out": (model([node("Add", ["x", ""], ["y"])]), "lacks its input 'B'"),
    "shapes that do not fit": (
        model([node("Add", ["x", "c"], ["y"])], constants={"c": np.ones(5, np.float32)}),
        "(Add, opset 21)",
    ),
    "negative input size": (model([RELU], [info("x", [-5])]), "a dimension of -5"),
    "unknown input type": (model([RELU], [info("x", [1], 99)]), "unknown element type 99"),
    "reference outside a function": (
        model([helper.make_node("LeakyRelu", ["x"], ["y"])]),
        "refers to a function's attribute",
    ),
}
_ref = MALFORMED["reference outside a function"][0].graph.node[0]
_ref.attribute.add(name="alpha", ref_attr_name="a", type=1)


@pytest.mark.parametrize(("proto", "said"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_graph_is_refused_in_one_sentence(proto, said):
    error = refusal(proto)
    assert said in error.message
    assert error.message.startswith("<bytes>: ")


def test_nodes_may_stand_in_any_order_as_onnxruntime_takes_them():
    body = helper.make_graph([node("Neg", ["h"], ["z"])], "body", [], [info("z", [2, 3])])
    nodes = [
        node("If", ["c"], ["y"], then_branch=body, else_branch=body),
        node("Relu", ["g"], ["h"]),
        node("Exp", ["x"], ["g"]),
    ]
    graph = read(model(nodes, [info("x", [2, 3])], constants={"c": np.array(True)})).graph
    order = [made.key for made in graph.nodes]
    assert order.index("Exp") < order.index("Relu")


def test_of_an_operator_that_came_later_the_hint_says_when():
    assert "opset 20" in refusal(MALFORMED["too young"][0]).hint


def test_a_size_of_minus_one_is_a_size_that_is_not_known():
    (x,) = read(model([RELU], [info("x", [-1, 3])])).graph.inputs
    assert x.shape is not None
    assert isinstance(x.shape[0], str)


def test_question_marks_are_no_symbols():
    (x,) = read(model([RELU], [info("x", ["?", "?"])])).graph.inputs
    assert x.shape is not None
    assert x.shape[0] != x.shape[1]


def test_sequences_are_no_inputs():
    proto = model([node("SequenceLength", ["x"], ["y"])])
    kind = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    proto.graph.input[0].CopyFrom(kind)
    assert "declared as sequence" in refusal(proto).message


def test_an_operator_that_its_card_refuses_keeps_its_place_in_the_message():
    proto = model(
        [node("Dropout", ["x", "", "t"], ["y"], name="drop")],
        [info("x", [2, 3, 4])],
        constants={"t": np.array(True)},
    )
    with pytest.raises(UnsupportedError, match=r"node 'drop' \(Dropout, opset 21\)"):
        read(proto)


# ---- bombs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [OPS, NoCards()], ids=["cards", "no cards"])
@pytest.mark.parametrize(
    ("made", "constants"),
    [
        (
            node("Range", ["a", "n", "d"], ["y"]),
            {"a": np.array(0), "n": np.array(2**38), "d": np.array(1)},
        ),
        (node("ConstantOfShape", ["s"], ["y"]), {"s": np.array([2**38])}),
        (node("Expand", ["one", "s"], ["y"]), {"one": np.ones(1), "s": np.array([2**38])}),
        (node("Tile", ["one", "s"], ["y"]), {"one": np.ones(1), "s": np.array([2**38])}),
        (
            node("OneHot", ["i", "n", "v"], ["y"]),
            {"i": np.array([0]), "n": np.array(2**38), "v": np.ones(2)},
        ),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else "",
)
def test_values_that_would_not_fit_in_memory_are_not_made(made, constants, table):
    graph = read(model([made], constants=constants), table=table).graph
    assert sum(a.nbytes for a in graph.constants.values()) < 1000
    shape = graph.outputs[0].shape
    assert shape is None or 2**38 in shape or isinstance(shape[0], str)


def test_too_many_nodes_are_refused():
    chain = [node("Neg", [f"v{k}"], [f"v{k + 1}"]) for k in range(50)]
    proto = model(chain, [info("v0", [1])], ["v50"])
    assert read(proto, budget=Budget(nodes=50)).graph.nodes
    assert "has 50 nodes, above the limit of 49" in refusal(proto, budget=Budget(nodes=49)).message


def test_twenty_thousand_nodes_are_read_at_once():
    chain = [node("Neg", [f"v{k}"], [f"v{k + 1}"]) for k in range(20_000)]
    made = read(model(chain, [info("v0", ["n"])], ["v20000"]))
    assert len(made.graph.nodes) == 20_000
    assert made.graph.outputs[0].shape == ("n",)


def test_symbols_that_double_node_by_node_stay_short():
    nodes, last = [], "a"
    for k in range(40):
        nodes += [
            node("Add", [last, f"s{k}"], [f"t{k}"]),
            node("Add", [last, f"t{k}"], [f"v{k}"]),
        ]
        last = f"v{k}"
    inputs = [info("a", ["a"]), *(info(f"s{k}", [f"d{k}"]) for k in range(40))]
    graph = read(model(nodes, inputs, [last])).graph
    assert max(len(str(v.shape)) for v in graph.values()) < 2000


def test_a_tensor_of_a_million_dimensions_is_refused():
    proto = model(
        [node("Reshape", ["x", "s"], ["y"])],
        [info("x", [1])],
        constants={"s": np.ones(10**6, np.int64)},
    )
    assert "makes a tensor of 1,000,000 dimensions" in refusal(proto).message


def test_a_body_that_captures_very_much_is_read_in_linear_time():
    many = 20_000
    branch = onnx.helper.make_graph(
        [node("Sum", [f"v{k}" for k in range(many)], ["t"])],
        "b",
        [],
        [onnx.ValueInfoProto(name="t")],
    )
    nodes = [node("Neg", ["x"], [f"v{k}"]) for k in range(many)]
    nodes.append(node("If", ["p"], ["y"], then_branch=branch, else_branch=branch))
    proto = model(nodes, [info("x", [1]), info("p", [], TensorProto.BOOL)])
    (made,) = read(proto).graph.nodes[-1:]
    assert [len(g.captures) for g in made.subgraphs()] == [many, many]
