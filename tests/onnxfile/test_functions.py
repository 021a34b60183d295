"""Local functions: inlined as the standard says, and counted before."""

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.helper import make_node as node

from gradcli import runtime
from gradcli.onnxfile import Budget
from tests.onnxfile.models import ONES, both_agree, info, model, read, refusal

RELU = node("Relu", ["x"], ["y"], name="r")


def function(name: str, nodes, inputs=("a",), outputs=("b",), attributes=(), defaults=(), opset=21):
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, inputs, outputs, nodes, imports, attributes, defaults)


def calling(*functions, nodes=None, **options) -> onnx.ModelProto:
    calls = nodes or [node(functions[0].name, ["x"], ["y"], domain="f", name="call")]
    return model(calls, functions=functions, imports=[("f", 1)], **options)


def referring(op: str, inputs, outputs, **references: str) -> onnx.NodeProto:
    made = node(op, inputs, outputs)
    kinds = {"alpha": 1, "to": 2, "axis": 2}
    for name, reference in references.items():
        made.attribute.add(name=name, ref_attr_name=reference, type=kinds[name])
    return made


def test_functions_are_inlined_under_the_caller_s_names():
    inner = function("F", [node("Tanh", ["a"], ["t"], name="n"), node("Neg", ["t"], ["b"])])
    proto = calling(
        inner,
        nodes=[
            node("F", ["x"], ["h"], domain="f", name="one"),
            node("F", ["h"], ["y"], domain="f"),
        ],
    )
    graph = both_agree(proto, x=ONES).graph
    assert [n.name for n in graph.nodes] == ["one/n", "h", "y/n", "y"]
    assert [v.name for v in graph.values()] == ["x", "one/t", "h", "y/t", "y"]


def test_functions_take_attributes_with_and_without_defaults():
    body = [
        referring("LeakyRelu", ["a"], ["t"], alpha="slope"),
        referring("Cast", ["t"], ["b"], to="kind"),
    ]
    default = helper.make_attribute("slope", 0.25)
    inner = function("F", body, attributes=["kind"], defaults=[default])
    for given, slope in (({}, 0.25), ({"slope": 0.75}, 0.75)):
        call = node("F", ["x"], ["y"], domain="f", kind=TensorProto.DOUBLE)
        call.attribute.extend(helper.make_attribute(k, v) for k, v in given.items())
        graph = both_agree(calling(inner, nodes=[call]), x=-ONES).graph
        assert [n.attrs.get("alpha", n.attrs.get("to")) for n in graph.nodes] == [slope, "float64"]
    assert "lacks the attribute kind" in refusal(calling(inner)).message
    wrong = node("F", ["x"], ["y"], domain="f", kind=1, other=1)
    assert "unknown attribute other" in refusal(calling(inner, nodes=[wrong])).message


def test_an_attribute_that_refers_to_one_not_given_takes_the_operator_s_default():
    inner = function("F", [referring("Softmax", ["a"], ["b"], axis="axis")])
    inner.attribute_proto.add(name="axis", type=2, i=0)
    outer = function("G", [node("F", ["a"], ["b"], domain="f")])
    assert both_agree(calling(outer, inner), x=ONES).graph.nodes[0].attrs["axis"] == 0


def test_functions_have_their_own_opset_and_optional_parameters():
    inner = function("F", [node("ReduceSum", ["a"], ["b"], axes=[1])], opset=11)
    assert read(calling(inner)).graph.nodes[0].inputs[1] is not None
    clip = function("C", [node("Clip", ["a", "l", "h"], ["b"])], inputs=["a", "l", "h"])
    call = node("C", ["x", "", "m"], ["y"], domain="f")
    both_agree(calling(clip, nodes=[call], constants={"m": np.array(0.5, np.float32)}), x=ONES)


def test_functions_may_hand_parameters_through_and_give_one_value_twice():
    inner = function("F", [node("Neg", ["a"], ["t"])], outputs=["a", "t", "t"])
    call = node("F", ["x"], ["y", "z", "w"], domain="f")
    proto = calling(inner, nodes=[call], outputs=["y", "z", "w"])
    found = runtime.prepare(read(proto).graph).run({"x": ONES})
    assert {name: value[0, 0] for name, value in found.items()} == {"y": 1, "z": -1, "w": -1}


def test_functions_hold_constants_and_control_flow():
    branch = helper.make_graph([node("Mul", ["a", "k"], ["t"])], "t", [], [info("t", None)])
    body = [
        node("Constant", [], ["k"], value_float=3.0),
        node("Constant", [], ["p"], value=onnx.numpy_helper.from_array(np.array(True))),
        node("If", ["p"], ["b"], then_branch=branch, else_branch=branch),
    ]
    both_agree(calling(function("F", body)), x=ONES)


def test_a_function_stands_before_an_operator_of_its_name():
    inner = helper.make_function(
        "", "Relu", ["a"], ["b"], [node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 21)]
    )
    graph = read(model([RELU], functions=[inner])).graph
    assert [n.op for n in graph.nodes] == ["Neg"]


def test_doubling_functions_are_counted_not_inlined():
    functions = [function("F0", [node("Neg", ["a"], ["b"])])]
    for k in range(1, 40):
        name = f"F{k - 1}"
        halves = [node(name, ["a"], ["t"], domain="f"), node(name, ["t"], ["b"], domain="f")]
        functions.append(function(f"F{k}", halves))
    call = [node("F39", ["x"], ["y"], domain="f")]
    start = time.perf_counter()
    message = refusal(calling(*functions, nodes=call), budget=Budget(depth=64)).message
    assert time.perf_counter() - start < 5
    assert "549,755,813,888 nodes once its functions are inlined" in message


def test_functions_that_repeat_what_they_hold_are_refused():
    held = [
        node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.ones(10**6))),
        node("Identity", ["a"], ["b"]),
    ]
    listed = [node("Held", ["a"], ["b"], domain="f2", k=[1] * 10**6)]
    for body in (held, listed):
        functions = [function("F0", body)]
        for k in range(1, 11):
            halves = [
                node(f"F{k - 1}", ["a"], ["t"], domain="f"),
                node(f"F{k - 1}", ["t"], ["b"], domain="f"),
            ]
            functions.append(function(f"F{k}", halves))
        call = [node("F10", ["x"], ["y"], domain="f")]
        proto = calling(*functions, nodes=call)
        proto.opset_import.add(domain="f2", version=1)
        assert "far more than the file itself" in refusal(proto).message


def test_functions_that_call_themselves_are_refused():
    one = function("F", [node("G", ["a"], ["b"], domain="f")])
    two = function("G", [node("F", ["a"], ["b"], domain="f")])
    assert "calls itself" in refusal(calling(one, two)).message


def test_functions_that_nest_too_deep_or_are_defined_twice_are_refused():
    functions = [function("F0", [node("Neg", ["a"], ["b"])])]
    functions += [
        function(f"F{k}", [node(f"F{k - 1}", ["a"], ["b"], domain="f")]) for k in range(1, 5000)
    ]
    call = [node("F4999", ["x"], ["y"], domain="f")]
    assert "nest more than 32 deep" in refusal(calling(*functions, nodes=call)).message
    assert "defined twice" in refusal(calling(functions[0], functions[0])).message


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (function("F", [node("Neg", ["x"], ["b"])]), "reads 'x', which nothing makes"),
        (function("F", [node("Neg", ["a"], ["a"])]), "as another value already is"),
        (function("F", [node("Neg", ["a"], ["t"])]), "never makes its output 'b'"),
        (function("F", [node("Neg", ["a"], ["b"])], inputs=["a", "a"]), "a function's parameter"),
    ],
)
def test_malformed_functions_are_refused(inner, said):
    assert said in refusal(calling(inner)).message


def test_a_call_with_too_many_operands_is_refused():
    call = node("F", ["x", "x"], ["y"], domain="f")
    inner = function("F", [node("Neg", ["a"], ["b"])])
    assert "more inputs or outputs" in refusal(calling(inner, nodes=[call])).message
