"""Where a derivative is asked for: what is completed, what is refused, what is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, TensorProto, helper, numpy_helper

from gradcli.engines import ENGINES, Program
from gradcli.errors import InputError, UnsupportedError, UsageError
from gradcli.graph import Builder, DType
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from gradcli.problem import (
    check_feeds,
    declared,
    pose,
)
from tests.onnxfile import models
from tests.problem.asking import F32, NODE, X, answers, ask, loaded, network, refused


def test_missing_floats_are_drawn_and_said():
    model = loaded([NODE("Tanh", ["x"], ["y"])], {"x": ["N", 3]})
    p = ask(model)
    assert p.point["x"].shape == (1, 3)
    assert p.point["x"].dtype == F32
    assert "x[1, 3]" in p.notes[0]
    assert "random" in p.notes[0]
    feeds, _ = check_feeds(model, {}, shapes={"x": (5, 3)}, seed=7)
    again, _ = check_feeds(model, {}, shapes={"x": (5, 3)}, seed=7)
    other, _ = check_feeds(model, {}, shapes={"x": (5, 3)}, seed=8)
    assert feeds["x"].shape == (5, 3)
    np.testing.assert_array_equal(feeds["x"], again["x"])
    assert not np.array_equal(feeds["x"], other["x"])


def test_a_symbol_is_of_one_size_in_all_inputs():
    model = loaded([NODE("Add", ["a", "b"], ["y"])], {"a": ["N", 3], "b": ["M", "N"]})
    feeds, _ = check_feeds(model, {"a": np.ones((4, 3), F32)})
    assert feeds["b"].shape == (1, 4)
    feeds, _ = check_feeds(model, {}, shapes={"b": (2, 5)})
    assert feeds["a"].shape == (5, 3)


def test_a_shape_for_drawing_must_fit_too():
    for shape in ((5, 4), (5,)):
        with pytest.raises(InputError, match=r"--shape.*\[N, 3\]"):
            check_feeds(network(), {}, shapes={"x": shape})
    with pytest.raises(InputError, match="'z'"):
        check_feeds(network(), {}, shapes={"z": (1,)})


FEEDS: Mapping[str, tuple[Any, Sequence[str]]] = {
    "rank": (np.ones(3, F32), ["'x'", "[3]", "[N, 3]"]),
    "shape": (np.ones((2, 4), F32), ["'x'", "[2, 4]", "[N, 3]"]),
    "text": (np.full((2, 3), "a"), ["float32", "<U1"]),
    "complex": (np.ones((2, 3), complex), ["float32", "complex128"]),
    "truth": (np.ones((2, 3), bool), ["float32", "bool"]),
    "not a number": (np.array([[0, 0, 0], [0, np.nan, 0]], F32), ["NaN", "[1, 1]"]),
    "infinite": (np.full((1, 3), -np.inf), ["infinity", "[0, 0]"]),
    "too large for the width": (np.full((1, 3), 1e39), ["infinity"]),
}


@pytest.mark.parametrize("case", FEEDS)
def test_arrays_that_do_not_fit(case: str):
    array, words = FEEDS[case]
    refused(InputError, *words, feeds={"x": array})


def test_an_unknown_input():
    refused(InputError, "'X'", "did you mean x", feeds={"X": X})
    refused(InputError, "'features'", "its inputs are: x", feeds={"features": X})
    refused(InputError, "'w'", feeds={"w": np.ones((3, 5), F32), "x": X})


def test_integers():
    model = loaded(
        [NODE("Gather", ["x", "i"], ["y"])], {"x": [4], "i": ([2], TensorProto.INT64)}, imports=[]
    )
    x = np.arange(4, dtype=F32)
    assert ask(model, {"x": x, "i": np.array([3, 0], np.int32)}).feeds["i"].dtype == np.int64
    block = answers(ask(model, {"x": x, "i": np.array([3, 0])}))["y", "x"]
    np.testing.assert_array_equal(block, np.eye(4)[[3, 0]])
    refused(InputError, "'i'", "int64", "--input i=", model=model, feeds={"x": x})
    for array in (np.array([0.0, 1.0]), np.array([0, 2**63], np.uint64), np.array([True, False])):
        refused(
            InputError, "'i'", "int64", str(array.dtype), model=model, feeds={"x": x, "i": array}
        )


@pytest.mark.parametrize(
    ("kind", "width", "computed"),
    [
        (TensorProto.FLOAT16, "float16", DType.FLOAT16),
        (TensorProto.FLOAT, "float32", DType.FLOAT32),
        (TensorProto.DOUBLE, "float64", DType.FLOAT64),
        (TensorProto.BFLOAT16, "bfloat16", DType.FLOAT32),
    ],
)
def test_widths(kind: int, width: str, computed: DType):
    model = loaded([NODE("Tanh", ["x"], ["y"])], {"x": ([2], kind)})
    p = ask(model, {"x": np.array([0.1, 0.2])})
    assert p.point["x"].dtype == DType(width).np
    assert p.dtype is computed
    x = p.point["x"].astype(np.float64)
    np.testing.assert_allclose(answers(p)["y", "x"], np.diag(1 - np.tanh(x) ** 2), rtol=1e-12)
    assert {v.dtype for v in p.exact.values()} == {DType.FLOAT64}
    assert {v.dtype for v in p.own.values()} == {computed}
    narrow = Program(ENGINES["reverse"], p).run().blocks["y", "x"]
    np.testing.assert_allclose(narrow, np.diag(1 - np.tanh(x) ** 2), rtol=4 * computed.eps)


def test_an_asked_width_is_taken():
    assert ask(network(), {"x": X}, dtype=DType.FLOAT64).dtype is DType.FLOAT64


def defaulted() -> Model:
    """y = w x, where w has a value in the file and may be given another."""
    return models.read(
        models.model(
            [NODE("Mul", ["x", "w"], ["y"])],
            [models.info("x", [2]), models.info("w", [2])],
            constants={"w": np.array([2.0, 3.0], F32)},
        )
    )


def test_an_input_with_a_default():
    model = defaulted()
    assert model.overridable == ("w",)
    assert list(declared(model)) == ["x", "w"]
    x, w = np.ones(2, F32), np.array([5.0, 7.0], F32)
    np.testing.assert_array_equal(answers(ask(model, {"x": x}))["y", "x"], np.diag([2.0, 3.0]))
    p = ask(model, {"x": x, "w": w})
    np.testing.assert_array_equal(answers(p)["y", "x"], np.diag([5.0, 7.0]))
    p = ask(model, {"x": 2 * x, "w": w}, wrt=["w"])
    np.testing.assert_array_equal(p.point["w"], w)
    np.testing.assert_array_equal(answers(p)["y", "w"], np.diag([2.0, 2.0]))
    for wrong in (np.ones(3, F32), np.array([1.0, np.nan], F32)):
        refused(InputError, "'w'", model=model, feeds={"x": x, "w": wrong})


def test_declared_shapes_that_lie_do_not_count():
    model = models.read(
        models.model(
            [NODE("Tanh", ["x"], ["h"]), NODE("ReduceSum", ["h"], ["y"], keepdims=0)],
            [models.info("x", ["N", 3])],
            [models.info("y", [7, 7])],
        )
    )
    p = ask(model, {"x": X})
    assert p.operator == "gradient"
    assert answers(p)["", "x"].shape == (2, 3)


def test_a_scalar():
    model = loaded([NODE("Exp", ["x"], ["y"])], {"x": []})
    p = ask(model, {"x": np.array(0.5, F32)})
    assert (p.operator, p.rows, p.columns) == ("gradient", 1, 1)
    np.testing.assert_allclose(answers(p)["", "x"], np.exp(0.5), rtol=1e-12)


@pytest.mark.parametrize("operator", ["jacobian", "jvp", "vjp"])
def test_nothing_in_a_tensor(operator: str):
    p = ask(network(), {"x": X[:0]}, operator=operator)
    assert all(block.size == 0 for block in answers(p).values())


def test_a_gradient_of_nothing_is_refused():
    refused(UsageError, "y has 0", feeds={"x": X[:0]}, operator="gradient")


def test_inputs_that_are_not_read():
    model = loaded(
        [NODE("Tanh", ["x"], ["y"]), NODE("Exp", ["u"], ["z"])], {"x": [3], "u": [2]}, ["y", "z"]
    )
    feeds = {"x": X[0], "u": np.ones(2, F32)}
    p = ask(model, feeds, of=["y[0]"])
    assert not np.any(answers(p)["", "u"])
    p = ask(model, feeds, wrt=["x"], of=["y"])
    assert [v.name for v in p.graph.inputs] == ["x"]
    assert p.feeds.keys() == {"x", "u"}


def test_shapes_that_hang_on_floats_are_those_at_the_point():
    nodes = [NODE("NonZero", ["x"], ["places"]), NODE("Cast", ["places"], ["y"], to=1)]
    p = ask(loaded(nodes, {"x": [3]}), {"x": np.array([1, 0, 2], F32)}, operator="vjp")
    assert p.cotangents["y"].shape == (1, 2)
    assert any("is 0" in note for note in p.notes)


def test_a_depth_that_is_a_float_is_no_hindrance():
    constants = {"i": np.array([2, 0]), "v": np.array([-1.0, 1.0], F32)}
    nodes = [NODE("OneHot", ["i", "d", "v"], ["hot"]), NODE("MatMul", ["hot", "x"], ["y"])]
    model = loaded(nodes, {"d": [1], "x": [3, 2]}, constants=constants)
    p = ask(model, {"d": np.array([3.0], F32), "x": np.ones((3, 2), F32)}, wrt=["x"])
    np.testing.assert_array_equal(answers(p)["y", "x"][0, 0, :, 0], [-1, -1, 1])


def body(op: str) -> GraphProto:
    return helper.make_graph([NODE(op, ["x"], [op])], op, [], [models.info(op, [2, 3])])


def test_an_if_whose_condition_is_known_is_the_branch_that_it_takes():
    branch = NODE("If", ["c"], ["y"], then_branch=body("Tanh"), else_branch=body("Exp"))
    model = loaded([branch], {"x": [2, 3], "c": ([], TensorProto.BOOL)})
    for condition, op in ((True, "Tanh"), (False, "Exp")):
        p = ask(model, {"x": X, "c": np.array(condition)})
        assert op in {node.op for node in p.graph.nodes}
        answers(p)


def forked(deep: bool = False) -> Model:
    """y = tanh(x) where the greatest element is above 0, else exp(x), or deeper another fork."""
    zero = {"zero": np.array(0.0, F32)}
    ways = [NODE("ReduceMax", ["x"], ["m"], keepdims=0), NODE("Greater", ["m", "zero"], ["c"])]
    other = body("Exp")
    if deep:
        within = [
            NODE("ReduceMin", ["x"], ["m"], keepdims=0),
            NODE("Less", ["m", "low"], ["c_in"]),
            NODE("If", ["c_in"], ["u"], then_branch=body("Sin"), else_branch=body("Cos")),
        ]
        low = numpy_helper.from_array(np.array(-1.0, F32), "low")
        other = helper.make_graph(within, "other", [], [models.info("u", [2, 3])], [low])
    fork = NODE("If", ["c"], ["y"], name="fork", then_branch=body("Tanh"), else_branch=other)
    return loaded([*ways, fork], {"x": [2, 3]}, constants=zero)


@pytest.mark.parametrize(
    ("deep", "move", "op"),
    [(False, 0.0, "Tanh"), (False, -9.0, "Exp"), (True, 0.0, "Tanh"), (True, -9.0, "Sin")],
)
def test_an_if_whose_condition_hangs_on_data_is_the_branch_that_it_takes_there(deep, move, op):
    x = (X + move).astype(F32)
    p = ask(forked(deep), {"x": x})
    assert {n.op for n in p.graph.nodes} & {"Tanh", "Exp", "Sin", "Cos", "If"} == {op}
    assert any("'fork' (If) takes its" in note for note in p.notes)
    answers(p)
    assert p.same_branches({"x": x + np.float32(1e-3)})
    assert not p.same_branches({"x": X - 9 if op == "Tanh" else X + 9})


def test_an_operator_without_a_card_before_a_condition_is_named_with_the_if():
    late = [NODE("Odd", ["x"], ["c"], domain="their")]
    branch = NODE("If", ["c"], ["y"], then_branch=body("Tanh"), else_branch=body("Exp"))
    model = loaded([*late, branch], {"x": [2, 3]}, imports=[("their", 1)])
    refused(UnsupportedError, "their::Odd", model=model, feeds={"x": X})


def test_mixed_precision_is_differentiated_like_any_other():
    nodes = [NODE("Cast", ["x"], ["h"], to=10), NODE("Tanh", ["h"], ["t"])]
    model = loaded([*nodes, NODE("Cast", ["t"], ["y"], to=1)], {"x": [2, 3]})
    block = answers(ask(model, {"x": X}))["y", "x"].reshape(6, 6)
    x = X.astype(np.float64).reshape(-1)
    np.testing.assert_allclose(np.diag(block), 1 - np.tanh(x) ** 2, rtol=1e-12)


def test_shapes_given_by_integers_are_those_at_the_point():
    model = loaded(
        [NODE("Reshape", ["x", "s"], ["y"])], {"x": [6], "s": (["R"], TensorProto.INT64)}
    )
    p = ask(model, {"x": np.arange(6, dtype=F32), "s": np.array([3, 2])}, operator="vjp")
    assert p.block_shape(("", "x")) == (6,)
    assert p.cotangents["y"].shape == (3, 2)


def test_one_tensor_twice_among_the_outputs_counts_once():
    b = Builder(OPS)
    y = b.op("Exp", b.input("x", DType.FLOAT32, (3,)), name="y")
    p = ask(Model(b.graph([y, y]), "<bytes>", "", b""), {"x": X[0]})
    assert p.of == ("y",)


def test_work_of_posing_grows_linearly():
    """Types asked for are counted, not seconds."""
    counts = []
    for length in (50, 100):
        calls = []

        class Counting(type(OPS)):  # type: ignore[misc] # the table's own class
            def infer(self, *args):
                calls.append(args[1])  # noqa: B023 # read before the next turn
                return super().infer(*args)

        b = Builder(OPS)
        x = b.input("x", DType.FLOAT32, (2,))
        for _ in range(length):
            x = b.op("Tanh", x)
        graph = b.graph([b.rename(x, "y")])
        model = Model(graph, "<bytes>", "", b"")
        names = [v.name for v in graph.values()]
        pose(
            model, {"x": np.ones(2, F32)}, wrt=names, of=["y"], table=Counting(tuple(OPS.values()))
        )
        counts.append(len(calls))
    assert counts[1] <= 2 * counts[0] + 20
