"""Specialising: types from the cards alone, shape arithmetic done, names kept, wrt untouched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcli.errors import ModelError
from gradcli.graph import Builder, DType, Graph, Node, Value, Var
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import Element, expose, specialise, vjp

F32 = DType.FLOAT32


def graph(make: Callable[[Builder, Var], Var], shape: tuple[int | str, ...]) -> Graph:
    """A graph of one input x and one output."""
    b = Builder(OPS)
    return b.graph([make(b, b.input("x", F32, shape))])


def test_a_chain_from_a_shape_becomes_constants_under_their_names():
    def flatten_by_hand(b: Builder, x: Var) -> Var:
        dims = b.op("Shape", x, name="dims")
        batch = b.op("Gather", dims, b.constant(np.int64(0)), name="batch")
        row = b.op("Unsqueeze", batch, b.ints([0]), name="row")
        target = b.op("Concat", row, b.ints([-1]), axis=0, name="target")
        return b.op("Reshape", x, target, name="flat")

    g = graph(flatten_by_hand, ("N", 3, 4))
    assert g.outputs[0].shape != (2, 12)
    s = specialise(g, {"x": (2, 3, 4)})
    assert [node.key for node in s.nodes] == ["Reshape"]
    assert s.outputs[0].shape == (2, 12)
    for name, array in {"dims": [2, 3, 4], "batch": 2, "row": [2], "target": [2, -1]}.items():
        value = s.value(name)
        assert value is not None
        np.testing.assert_array_equal(s.constants[value], array)


def test_declared_shapes_that_lie_are_dropped():
    x, y = Value("x", F32, ("N", 3)), Value("y", F32, (7, 7))
    z = Value("z", F32, None)
    g = Graph((x,), (z,), (Node("Relu", (x,), (y,)), Node("Neg", (y,), (z,))))
    s = specialise(g, {"x": (2, 3)})
    assert [v.shape for v in s.values()] == [(2, 3)] * 3


def test_names_of_nodes_and_what_they_serve_stay():
    x, y = Value("x", F32, ("N",)), Value("y", F32, None)
    g = Graph((x,), (y,), (Node("Relu", (x,), (y,), name="my relu", origin="theirs"),))
    (node,) = specialise(g, {"x": (2,)}).nodes
    assert (node.name, node.origin) == ("my relu", "theirs")


def test_a_weight_that_is_varied_is_not_folded_away():
    b = Builder(OPS)
    x = b.input("x", F32, ("N", 3))
    w = b.constant(np.arange(12, dtype=np.float32).reshape(4, 3), name="w")
    g = b.graph([b.op("MatMul", x, b.op("Transpose", w, perm=(1, 0)), name="y")])
    assert not any(n.key == "Transpose" for n in specialise(g, {"x": (2, 3)}).nodes)
    s = specialise(g, {"x": (2, 3)}, keep=["w"])
    assert [n.key for n in s.nodes] == ["Transpose", "MatMul"]
    assert vjp(expose(s, ["w"], [Element("y")]), ["w"]).results


def test_an_input_that_structure_hangs_on_becomes_a_constant():
    b = Builder(OPS)
    x, target = b.input("x", F32, (6,)), b.input("target", DType.INT64, (2,))
    g = b.graph([b.op("Reshape", x, target, name="y")])
    s = specialise(g, {"x": (6,)}, {"target": np.array([3, 2])})
    assert [v.name for v in s.inputs] == ["x"]
    assert s.outputs[0].shape == (3, 2)
    assert s.value("target") in s.constants


def test_nothing_huge_is_computed_although_the_file_says_it_is_small():
    b = Builder(OPS)
    target = b.ints([2**38]).value
    y, z = Value("y", F32, (1,)), Value("z", F32, (1,))
    made = Node("ConstantOfShape", (target,), (y,), OPS.attributes("ConstantOfShape", {}))
    g = Graph((), (z,), (made, Node("Relu", (y,), (z,))), {target: b.constants[target]})
    s = specialise(g, {})
    assert [node.key for node in s.nodes] == ["ConstantOfShape", "Relu"]
    assert s.outputs[0].shape == (2**38,)


def test_shapes_that_do_not_fit_name_the_node():
    g = graph(
        lambda b, x: b.op("MatMul", x, b.constant(np.ones((3, 2), np.float32)), name="y"), ("N", 3)
    )
    with pytest.raises(ModelError, match=r"'y' \(MatMul\).*\(2, 5\)"):
        specialise(g, {"x": (2, 5)})


def test_an_operator_without_a_card_is_carried_over_and_so_is_what_follows():
    x, y, z = Value("x", F32, (2,)), Value("y", F32, (9,)), Value("z", F32, None)
    nodes = (Node("Mystery", (x,), (y,), domain="theirs"), Node("Relu", (y,), (z,)))
    s = specialise(Graph((x,), (z,), nodes), {"x": (2,)})
    assert [(node.key, node.outputs[0].shape) for node in s.nodes if node.outputs[0]] == [
        ("theirs::Mystery", None),
        ("Relu", None),
    ]


def branches(x: Value) -> tuple[Graph, Graph]:
    """Two bodies that capture x; one has a value whose name the outer graph has too."""
    inner, out = Value("y", F32, None), Value("then", F32, None)
    doubled = Graph(
        (), (out,), (Node("Add", (x, x), (inner,)), Node("Neg", (inner,), (out,))), {}, (x,)
    )
    other = Value("else", F32, None)
    return doubled, Graph((), (other,), (Node("Abs", (x,), (other,)),), {}, (x,))


@pytest.mark.parametrize(("taken", "wanted"), [(True, [-2.0, 4.0]), (False, [1.0, 2.0])])
def test_an_if_whose_condition_is_known_is_its_branch(taken, wanted):
    x, c = Value("x", F32, ("N",)), Value("c", DType.BOOL, ())
    y, z = Value("y", F32, None), Value("z", F32, None)
    then, other = branches(x)
    attrs = {"then_branch": then, "else_branch": other}
    nodes = (Node("If", (c,), (y,), attrs, name="choice"), Node("Relu", (y,), (z,)))
    s = specialise(Graph((x, c), (y, z), nodes), {"x": (2,)}, {"c": np.array(taken)})
    assert "If" not in [node.key for node in s.nodes]
    out = interpret(s, {"x": np.array([1.0, -2.0])})
    np.testing.assert_array_equal(out["y"], wanted)
    np.testing.assert_array_equal(out["z"], np.maximum(wanted, 0.0))


def test_bodies_capture_what_the_outer_values_have_become():
    x, c = Value("x", F32, ("N",)), Value("c", DType.BOOL, ())
    y = Value("y", F32, None)
    then, other = branches(x)
    node = Node("If", (c,), (y,), {"then_branch": then, "else_branch": other})
    s = specialise(Graph((x, c), (y,), (node,)), {"x": (2,)})
    (kept,) = s.nodes
    for body in kept.subgraphs():
        assert body.captures == (s.inputs[0],)
        assert set(body.nodes[0].reads()) == {s.inputs[0]}
