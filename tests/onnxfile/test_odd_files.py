"""Files that are odd and valid: names, what is an output of what, sizes of 0, types on the side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gradcli import api
from gradcli.errors import ModelError, UnsupportedError
from tests.onnxfile.models import info, model, refusal

NODE = helper.make_node
F16, F64, BF16 = TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16
INT64, BOOL, STRING = TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING

W = np.linspace(-0.5, 0.5, 6, dtype=np.float32).reshape(3, 2)
X = np.array([[0.3, -0.7, 1.1], [0.2, 0.9, -0.4]], np.float32)


class Odd(NamedTuple):
    proto: onnx.ModelProto
    feeds: Mapping[str, np.ndarray]
    verdict: int = 0


def tanh(x: str = "x", y: str = "y") -> onnx.NodeProto:
    return NODE("Tanh", [x], [y])


def matmul(x: str = "x", y: str = "h", w: str = "w") -> onnx.NodeProto:
    return NODE("MatMul", [x, w], [y])


def body(op: str, result: str) -> onnx.GraphProto:
    return helper.make_graph([NODE(op, ["x"], [result])], result, [], [info(result, [2, 3])])


BRANCHES = {"then_branch": body("Tanh", "t"), "else_branch": body("Exp", "e")}


def mixed(code: int) -> Odd:
    nodes = [NODE("Cast", ["x"], ["c"], to=code), NODE("Exp", ["c"], ["e"])]
    nodes = [*nodes, NODE("Cast", ["e"], ["f"], to=TensorProto.FLOAT), tanh("f")]
    return Odd(model(nodes), {"x": X})


def swish() -> Odd:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    one = [NODE("Sigmoid", ["a"], ["s"]), NODE("Mul", ["a", "s"], ["b"])]
    two = [NODE("One", ["a"], ["s"], domain="my"), NODE("One", ["s"], ["b"], domain="my")]
    functions = [
        helper.make_function("my", name, ["a"], ["b"], nodes, opsets)
        for name, nodes in (("One", one), ("Two", two))
    ]
    calls = [NODE("Two", ["x"], ["h"], domain="my"), NODE("One", ["h"], ["y"], domain="my")]
    return Odd(model(calls, functions=functions, imports=[("my", 1)]), {"x": X})


def condition_from_a_shape() -> Odd:
    nodes = [NODE("Shape", ["x"], ["s"]), NODE("Gather", ["s", "0"], ["n"])]
    nodes = [*nodes, NODE("Equal", ["n", "2"], ["c"]), NODE("If", ["c"], ["y"], **BRANCHES)]
    constants = {"0": np.array(0), "2": np.array(2)}
    return Odd(model(nodes, [info("x", ["N", 3])], constants=constants), {"x": X})


ODD = {
    "names with slashes, colons, spaces, letters of everywhere": Odd(
        model(
            [matmul("a/b:0", "h:1/é x", "w w/ü"), tanh("h:1/é x", "out [0]/:")],
            [info("a/b:0", [2, 3])],
            ["out [0]/:"],
            {"w w/ü": W},
        ),
        {"a/b:0": X},
    ),
    "names that look like options, elements, markup": Odd(
        model(
            [matmul("x=y[0]", "[bold]h[/bold]"), tanh("[bold]h[/bold]", "-y")],
            [info("x=y[0]", [2, 3])],
            ["-y", "[bold]h[/bold]"],
            {"w": W},
        ),
        {"x=y[0]": X},
    ),
    "an optional input left out by an empty name": Odd(
        model([NODE("Clip", ["x", "", "m"], ["y"])], constants={"m": np.array(0.5, np.float32)}),
        {"x": X},
    ),
    "an initializer used twice": Odd(
        model(
            [matmul(), NODE("MatMul", ["h", "v"], ["g"]), matmul("g", "y")],
            constants={"w": W, "v": np.ascontiguousarray(W.T)},
        ),
        {"x": X},
    ),
    "an output that is an input": Odd(model([tanh()], outputs=["y", "x"]), {"x": X}),
    "no node at all": Odd(model([], outputs=["x"]), {"x": X}),
    "an output that is an initializer": Odd(
        model([matmul(y="y")], outputs=["y", "w"], constants={"w": W}), {"x": X}
    ),
    "an output given twice": Odd(model([tanh()], outputs=["y", "y"]), {"x": X}),
    "nothing in the batch": Odd(
        model([matmul(), tanh("h")], [info("x", ["N", 3])], constants={"w": W}),
        {"x": X[:0]},
    ),
    "the sum of nothing": Odd(
        model([NODE("ReduceSum", ["x"], ["y"], keepdims=0)], [info("x", ["N", 3])]), {"x": X[:0]}
    ),
    "joined to nothing": Odd(
        model([NODE("Concat", ["x", "e"], ["h"], axis=0), tanh("h")], constants={"e": X[:0]}),
        {"x": X},
    ),
    "a scalar": Odd(model([tanh()], [info("x", [])]), {"x": np.array(0.3, np.float32)}),
    "indices and masks as inputs": Odd(
        model(
            [NODE("Gather", ["x", "i"], ["g"]), NODE("Where", ["m", "g", "z"], ["y"])],
            [info("x", [2, 3]), info("i", ["K"], INT64), info("m", ["K", 1], BOOL)],
            constants={"z": np.array(0, np.float32)},
        ),
        {"x": X, "i": np.array([1, 0, 1]), "m": np.array([[True], [False], [True]])},
    ),
    "float16": Odd(
        model([matmul(), tanh("h")], [info("x", [2, 3], F16)], constants={"w": W.astype("f2")}),
        {"x": X.astype(np.float16)},
    ),
    "float64": Odd(
        model([matmul(), tanh("h")], [info("x", [2, 3], F64)], constants={"w": W.astype("f8")}),
        {"x": X.astype(np.float64)},
    ),
    # onnxruntime computes almost nothing in bfloat16, so nobody can say that the primal is right.
    "bfloat16": Odd(
        model(
            [matmul(), NODE("Relu", ["h"], ["y"])],
            [info("x", [2, 3], BF16)],
            constants={"w": W.astype(ml_dtypes.bfloat16)},
        ),
        {"x": X.astype(ml_dtypes.bfloat16)},
        verdict=3,
    ),
    "float16 within float32": mixed(F16),
    "bfloat16 within float32": mixed(BF16)._replace(verdict=3),
    "float64 within float32": mixed(F64),
    "inputs that nothing reads": Odd(
        model([tanh()], [info("x", [2, 3]), info("u", [4]), info("k", [1], INT64)]),
        {"x": X, "u": np.ones(4, np.float32), "k": np.array([1])},
    ),
    "a string that nothing reads": Odd(
        model([tanh()], [info("x", [2, 3]), info("s", [1], STRING)]),
        {"x": X, "s": np.array(["a"], object)},
    ),
    "an If on a constant": Odd(
        model([NODE("If", ["c"], ["y"], **BRANCHES)], constants={"c": np.array(True)}), {"x": X}
    ),
    "an If on an input": Odd(
        model([NODE("If", ["c"], ["y"], **BRANCHES)], [info("x", [2, 3]), info("c", [], BOOL)]),
        {"x": X, "c": np.array(False)},
    ),
    "an If on a shape": condition_from_a_shape(),
    "functions that call functions": swish(),
    "an input of unknown rank": Odd(model([tanh()], [info("x", None)]), {"x": X}),
    "an initializer that is an input too": Odd(
        model([matmul(y="y")], [info("x", [2, 3]), info("w", [3, 2])], constants={"w": W}),
        {"x": X},
    ),
    "an output whose declared shape is untrue": Odd(
        model([tanh()], [info("x", ["N", 3])], [info("y", [7, 7])]), {"x": X}
    ),
    "outputs of shapes and indices": Odd(
        model(
            [NODE("Shape", ["x"], ["s"]), NODE("ArgMax", ["x"], ["i"]), tanh()],
            outputs=["s", "i", "y"],
        ),
        {"x": X},
    ),
    "a dimension of -1": Odd(model([tanh()], [info("x", [2, -1])]), {"x": X}),
    "the domain spelt out": Odd(model([NODE("Tanh", ["x"], ["y"], domain="ai.onnx")]), {"x": X}),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_compared_like_any_other(name: str) -> None:
    odd = ODD[name]
    found = api.compare(odd.proto.SerializeToString(), odd.feeds, runs=1, warmup=0, budget=30)
    assert found.exit_code == odd.verdict


def test_a_graph_without_outputs_is_refused() -> None:
    assert "no outputs" in refusal(model([tanh()], outputs=[])).message


def test_a_condition_that_hangs_on_data_is_decided_at_the_point() -> None:
    nodes = [NODE("ReduceMax", ["x"], ["m"], keepdims=0), NODE("Cast", ["m"], ["c"], to=BOOL)]
    nodes.append(NODE("If", ["c"], ["y"], name="fork", **BRANCHES))
    found = api.compare(model(nodes).SerializeToString(), {"x": X}, budget=20)
    assert found.exit_code == 0
    assert found.counts["AGREE"] >= 5


def test_every_operator_without_a_card_is_named_at_once() -> None:
    nodes = [NODE("Foo", ["x"], ["a"], name="foo", domain="their"), tanh("a", "b")]
    nodes.append(NODE("Bar", ["b"], ["y"], name="bar", domain="their"))
    proto = model(nodes, imports=[("their", 1)])
    with pytest.raises((ModelError, UnsupportedError)) as caught:
        api.compare(proto.SerializeToString(), {"x": X})
    assert "their::Bar (node 'bar'); their::Foo (node 'foo')" in caught.value.message
