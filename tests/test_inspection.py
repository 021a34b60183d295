"""What is said of a model without running it, held against models whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from gradcli.inspection import coverage, inspect, nature
from gradcli.onnxfile import MAX_OPSET, Model
from gradcli.ops import OPS
from gradcli.ops.control import CONTROL
from tests.onnxfile import models

NODE = helper.make_node
F32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def network() -> Model:
    """a = tanh(x w), reached; b = floor(x), flat; c = onehot-like of the place, no floats on it."""
    nodes = [
        NODE("MatMul", ["x", "w"], ["h"], name="first"),
        NODE("Tanh", ["h"], ["a"], name="bend"),
        NODE("Floor", ["x"], ["f"], name="steps"),
        NODE("Exp", ["f"], ["b"], name="late"),
        NODE("ArgMax", ["x"], ["i"], name="place", axis=1),
        NODE("Gather", ["w", "i"], ["c"], name="pick"),
        NODE("Relu", ["z"], ["d"], name="other"),
    ]
    inputs = [models.info("x", [2, 3]), models.info("z", [2]), models.info("n", [1], INT64)]
    outputs = ("a", "b", "c", "d")
    constants = {"w": np.ones((3, 4), np.float32)}
    return models.read(models.model(nodes, inputs, outputs, constants))


def test_what_a_model_is_made_of():
    found = inspect(network())
    assert [(t.name, t.dtype.value, t.shape) for t in found.inputs] == [
        ("x", "float32", (2, 3)),
        ("z", "float32", (2,)),
        ("n", "int64", (1,)),
    ]
    assert [t.name for t in found.outputs] == ["a", "b", "c", "d"]
    assert (found.nodes, found.parameters, found.parameter_bytes) == (7, 12, 48)
    assert found.opsets[""] == 21
    assert {u.op: u.nature for u in found.operators} == {
        "MatMul": "smooth",
        "Tanh": "smooth",
        "Floor": "flat",
        "Exp": "smooth",
        "ArgMax": "flat",
        "Gather": "smooth",
        "Relu": "kinked",
    }
    assert all(u.why for u in found.operators if u.nature != "smooth")


def test_where_a_derivative_dies_and_why():
    x, z, n = inspect(network()).flows
    assert (x.reaches, x.misses, x.independent) == (("a",), ("b", "c"), ("d",))
    assert [(d.node, d.op, d.operand) for d in x.deaths] == [
        ("steps", "Floor", "X"),
        ("place", "ArgMax", "data"),
    ]
    assert all(d.why for d in x.deaths)
    assert (z.reaches, z.misses, z.independent) == (("d",), (), ("a", "b", "c"))
    assert (n.reaches, n.misses) == ((), ())
    assert "int64" in n.why


def test_an_operand_that_carries_nothing_is_named_with_its_reason():
    nodes = [
        NODE("Cast", ["x"], ["s"], name="whole", to=INT64),
        NODE("Expand", ["one", "s"], ["y"], name="wide"),
    ]
    constants = {"one": np.ones(1, np.float32)}
    model = models.read(models.model(nodes, [models.info("x", [2])], constants=constants))
    (flow,) = inspect(model).flows
    assert flow.misses == ("y",)
    (death,) = flow.deaths
    assert (death.node, death.op) == ("whole", "Cast")
    assert "floats" in death.why


def test_what_gradcli_does_not_know_is_said():
    nodes: list[NodeProto] = [NODE("Odd", ["x"], ["y"], domain="their", name="odd")]
    model = models.read(models.model(nodes, [models.info("x", [2])], imports=[("their", 1)]))
    found = inspect(model)
    assert [(u.op, u.nature) for u in found.operators] == [("their::Odd", "no card")]
    assert found.flows[0].unknown == ("their::Odd",)


def test_nodes_and_constants_of_bodies_count():
    def body(op: str) -> object:
        return helper.make_graph([NODE(op, ["x"], [op])], op, [], [models.info(op, [2])])

    fork = NODE("If", ["c"], ["y"], then_branch=body("Tanh"), else_branch=body("Exp"))
    inputs = [models.info("x", [2]), models.info("c", [], BOOL)]
    found = inspect(models.read(models.model([fork], inputs)))
    assert found.nodes == 3
    assert {u.op: u.nature for u in found.operators}["If"] == "control flow"
    assert found.flows[0].reaches == ("y",)


def test_every_card_is_covered_with_its_versions():
    known = coverage()
    names = {c.op if c.domain == "ai.onnx" else f"{c.domain}::{c.op}" for c in known}
    assert names == {*OPS, *CONTROL}
    for c in known:
        assert c.nature == nature(c.op if c.domain == "ai.onnx" else f"{c.domain}::{c.op}")
        if c.domain == "ai.onnx":
            assert c.versions or c.op not in ("Add", "Conv")
            assert all(version <= MAX_OPSET for version in c.versions)
        if c.nature in ("flat", "opaque"):
            assert c.differentiable == ()
            assert list(c.flat) == [""]
            assert c.flat[""]
    by_name = {c.op: c for c in known if c.domain == "ai.onnx"}
    assert by_name["Softmax"].versions[:3] == (1, 11, 13)
    assert by_name["Relu"].convention == "0 at 0"
    assert by_name["Dropout"].differentiable == ("data",)
    assert by_name["Loop"].differentiable == ("v_initial", "captured")
    assert by_name["SequenceAt"].nature == "control flow"
    assert by_name["SequenceLength"].nature == "flat"


def named(name: str) -> ValueInfoProto:
    return ValueInfoProto(name=name)


def test_an_output_that_is_a_sequence_is_said_to_be_one():
    branch = helper.make_graph([NODE("SequenceConstruct", ["x"], ["q"])], "b", [], [named("q")])
    carry = [NODE("SequenceInsert", ["s", "x"], ["s2"])]
    given = [models.info("i", [], 7), models.info("go", [], BOOL), named("s")]
    trip = helper.make_graph(carry, "t", given, [named("go"), named("s2")])
    nodes = [
        NODE("If", ["c"], ["one"], then_branch=branch, else_branch=branch),
        NODE("Loop", ["", "c", "one"], ["all"], body=trip),
        NODE("SequenceAt", ["all", "n"], ["y"]),
    ]
    inputs = [models.info("x", [2]), models.info("c", [], BOOL), models.info("n", [], 7)]
    found = inspect(models.read(models.model(nodes, inputs, ("one", "all", "y"))))
    assert [t.sequence for t in found.outputs] == [True, True, False]


def test_loops_and_sequences_are_said_to_be_what_stands_in_their_place():
    nodes = [
        NODE("SequenceConstruct", ["x", "x"], ["q"]),
        NODE("SequenceLength", ["q"], ["n"]),
        NODE("Cast", ["n"], ["u"], to=1),
        NODE("ConcatFromSequence", ["q"], ["y"], axis=0),
    ]
    found = inspect(models.read(models.model(nodes, outputs=("y", "u"))))
    why = {u.op: (u.nature, u.why) for u in found.operators}
    assert why["SequenceConstruct"] == (
        "control flow",
        "differentiated as the tensors that it holds at the point",
    )
    assert why["SequenceLength"] == ("flat", "a number of tensors is whole")
    (flow,) = found.flows
    assert (flow.reaches, flow.misses) == (("y",), ("u",))
    assert [(d.op, d.why) for d in flow.deaths] == [
        ("SequenceLength", "a number of tensors is whole")
    ]


@pytest.mark.parametrize("op", ["Relu", "MaxPool", "Clip"])
def test_operators_with_kinks_are_kinked(op):
    assert nature(op) == "kinked"
