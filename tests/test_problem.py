"""Posing a question: what is completed, what is refused, and what is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from gradcli.engines import ENGINES, Program
from gradcli.errors import GradcliError, InputError, UnsupportedError, UsageError
from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from gradcli.problem import (
    JACOBIAN_ROWS,
    Problem,
    check_directions,
    check_feeds,
    declared,
    pose,
)
from tests.onnxfile import models

F32 = np.float32
NODE = helper.make_node
INT64, FLOAT16, BOOL = TensorProto.INT64, TensorProto.FLOAT16, TensorProto.BOOL
DOUBLE, BFLOAT16 = TensorProto.DOUBLE, TensorProto.BFLOAT16

Shape = Sequence[int | str]


def loaded(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape | tuple[Shape, int]],
    outputs: Sequence[str] = ("y",),
    constants: Mapping[str, np.ndarray] | None = None,
    **options: Any,
) -> Model:
    """A model; an input is float32 unless a type stands beside its shape."""
    infos = [
        models.info(name, *given) if isinstance(given, tuple) else models.info(name, given)
        for name, given in inputs.items()
    ]
    return models.read(models.model(nodes, infos, outputs, constants, **options))


def network() -> Model:
    """y = tanh(x w) v on rows of 3, giving 4."""
    rng = np.random.default_rng(0)
    return loaded(
        [
            NODE("MatMul", ["x", "w"], ["h"], name="first"),
            NODE("Tanh", ["h"], ["t"], name="bend"),
            NODE("MatMul", ["t", "v"], ["y"], name="second"),
        ],
        {"x": ["N", 3]},
        constants={
            "w": rng.standard_normal((3, 5)).astype(F32),
            "v": rng.standard_normal((5, 4)).astype(F32),
        },
    )


X = np.array([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]], F32)


def ask(model: Model, feeds: Mapping[str, np.ndarray] | None = None, **question: Any) -> Problem:
    checked, notes = check_feeds(model, feeds or {})
    return pose(model, checked, notes=notes, **question)


def refused(kind: type[GradcliError], *words: str, **question: Any) -> None:
    """The network's question is refused, with these words in what is said."""
    model = question.pop("model", None) or network()
    feeds = question.pop("feeds", {"x": X})
    with pytest.raises(kind) as caught:
        ask(model, feeds, **question)
    said = f"{caught.value.message} | {caught.value.hint}"
    assert [word for word in words if word not in said] == [], said
    assert caught.value.exit_code == 2


def answers(problem: Problem) -> dict[Any, np.ndarray]:
    """The answer by reverse AD in float64, held against the complex step."""
    exact = replace(problem, dtype=DType.FLOAT64)
    reverse, witness = (
        Program(ENGINES[name], exact).run().blocks for name in ("reverse", "complex-step")
    )
    assert list(reverse) == list(problem.keys)
    for key, block in reverse.items():
        assert block.shape == problem.block_shape(key)
        np.testing.assert_allclose(block, witness[key], rtol=1e-12, atol=1e-14, err_msg=str(key))
    return dict(reverse)


# ---- what is asked ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "part"),
    [
        ("y[1,3]", np.s_[1, 3]),
        ("y[-1,-4]", np.s_[-1, -4]),
        ("y[-1]", np.s_[-1]),
        ("y[0]", np.s_[0]),
        ("y[:,2]", np.s_[:, 2]),
        ("y[:, 1:3]", np.s_[:, 1:3]),
        ("y[0,::2]", np.s_[0, ::2]),
        ("y[0,::-1]", np.s_[0, ::-1]),
        ("y[::-1, 3:0:-2]", np.s_[::-1, 3:0:-2]),
        ("y[0,-99:99]", np.s_[0, -99:99]),
        ("y[:99999999999999999999]", np.s_[:]),
        ("y[0, -2:]", np.s_[0, -2:]),
    ],
)
def test_a_part_of_a_tensor_is_what_numpy_means_by_it(of: str, part: Any):
    whole = answers(ask(network(), {"x": X}, of=["y"], operator="jacobian"))["y", "x"]
    p = ask(network(), {"x": X}, of=[of], operator="jacobian")
    assert p.of == (of,)
    np.testing.assert_array_equal(answers(p)[of, "x"], whole[part])


@pytest.mark.parametrize(
    "of", ["y[0,4]", "y[2]", "y[-3]", "y[0,0,0]", "y[0,3:1]", "y[99999999999999999999]"]
)
def test_an_element_that_is_not_there_names_the_shape(of: str):
    refused(UsageError, "'y' has shape [2, 4]", of, of=[of])


def test_a_number_has_no_elements():
    model = loaded([NODE("Exp", ["x"], ["y"])], {"x": []})
    refused(UsageError, "shape []", model=model, feeds={"x": np.array(0.5, F32)}, of=["y[0]"])


@pytest.mark.parametrize(
    "of", ["y[]", "y[,]", "y[0,]", "y[a]", "y[...]", "y[1.0]", "y[0,::0]", "y[1:2:3:4]"]
)
def test_an_index_that_is_none(of: str):
    refused(UsageError, of, "NAME[0,3]", of=[of])


@pytest.mark.parametrize(("name", "near"), [("H", "h"), ("tt", "t"), ("y[0", "y")])
@pytest.mark.parametrize("option", ["wrt", "of"])
def test_an_unknown_name_is_answered_with_near_ones(option: str, name: str, near: str):
    refused(UsageError, f"--{option}", f"did you mean {near}", **{option: [name]})


def test_an_unknown_tensor_s_element():
    refused(UsageError, "'y '", "did you mean y", of=["y [0]"])


def test_wrt_takes_whole_tensors():
    refused(UsageError, "'x[0,1]'", "whole", "--wrt 'x'", wrt=["x[0,1]"])


def test_an_unknown_name_like_no_other_is_answered_with_some():
    refused(UsageError, "'logits'", "x, w, v", wrt=["logits"])


def test_names_may_hold_brackets():
    model = loaded([NODE("Tanh", ["x[0]"], ["y[a]"])], {"x[0]": [3]}, ["y[a]"])
    feeds = {"x[0]": X[0]}
    assert ask(model, feeds).of == ("y[a]",)
    assert ask(model, feeds, of=["y[a][1]"]).of == ("y[a][1]",)
    assert answers(ask(model, feeds, of=["x[0]"]))["x[0]", "x[0]"].shape == (3, 3)
    refused(UsageError, "'y'", model=model, feeds=feeds, of=["y[1]"])


def test_tensors_without_a_derivative():
    model = loaded(
        [NODE("Shape", ["x"], ["s"]), NODE("Cast", ["s"], ["y"], to=TensorProto.FLOAT)], {"x": [3]}
    )
    feeds = {"x": X[0]}
    refused(UsageError, "--of", "'s'", "int64", model=model, feeds=feeds, of=["s"])
    refused(UsageError, "--wrt", "'s'", "int64", model=model, feeds=feeds, wrt=["s"])


def test_a_model_without_float_inputs_lists_what_could_be_asked():
    model = loaded(
        [NODE("Gather", ["e", "i"], ["rows"]), NODE("Tanh", ["rows"], ["y"])],
        {"i": ([2], INT64)},
        constants={"e": np.arange(12, dtype=F32).reshape(4, 3)},
    )
    feeds = {"i": np.array([0, 2])}
    refused(UsageError, "no float input", "--wrt", "rows, y", model=model, feeds=feeds)
    p = ask(model, feeds, wrt=["rows"])
    np.testing.assert_array_equal(p.point["rows"], [[0, 1, 2], [6, 7, 8]])
    assert answers(p)["y", "rows"].shape == (2, 3, 2, 3)
    p = ask(model, feeds, wrt=["e"])
    block = answers(p)["y", "e"]
    assert np.all(block[:, :, [1, 3]] == 0.0)
    assert np.all(block[0, 0, 0, 0] == 1.0)


def test_a_model_without_float_outputs():
    model = loaded([NODE("ArgMax", ["x"], ["y"], axis=0)], {"x": [3]})
    refused(UsageError, "no float output", "--of", model=model, feeds={"x": X[0]})


def test_operators_without_a_card_all_at_once():
    nodes = [
        NODE("Tanh", ["x"], ["a"]),
        NODE("Foo", ["a"], ["b"], domain="theirs", name="foo one"),
        NODE("Foo", ["b"], ["c"], domain="theirs", name="foo two"),
        NODE("Bar", ["c"], ["d"], domain="theirs", name="bar one"),
        NODE("Tanh", ["d"], ["y"]),
        NODE("Baz", ["x"], ["z"], domain="theirs", name="baz one"),
    ]
    model = loaded(nodes, {"x": [3]}, ["y", "z"], imports=[("theirs", 1)])
    feeds = {"x": X[0]}
    refused(
        UnsupportedError,
        *("theirs::Foo", "'foo one', 'foo two'", "theirs::Bar", "'bar one'", "'baz one'"),
        *("--wrt", "--of"),
        model=model,
        feeds=feeds,
    )
    with pytest.raises(UnsupportedError) as caught:
        ask(model, feeds, of=["y"])
    assert "baz" not in caught.value.message
    answers(ask(model, feeds, of=["a"]))


def opaque_inside() -> Model:
    """y = tanh(d x), where d is drawn at random, too narrowly to be anything but 6."""
    nodes = [
        NODE("RandomNormalLike", ["q"], ["d"], name="draw", mean=6.0, scale=1e-30),
        NODE("Mul", ["d", "x"], ["e"]),
        NODE("Tanh", ["e"], ["y"]),
    ]
    return loaded(nodes, {"q": [], "x": [3]})


@pytest.mark.parametrize("wrt", ["d", "e", "x"])
def test_a_value_after_an_operator_without_a_rule_comes_from_onnxruntime(wrt: str):
    assert OPS["RandomNormalLike"].impl is None
    model, feeds = opaque_inside(), {"q": np.array(0.0, F32), "x": X[0]}
    refused(UnsupportedError, "RandomNormalLike", "'draw'", model=model, feeds=feeds)
    if wrt == "x":
        refused(UnsupportedError, "RandomNormalLike", model=model, feeds=feeds, wrt=["x"])
        return
    p = ask(model, feeds, wrt=[wrt], operator="jacobian")
    values = {"d": np.array(6.0), "e": 6.0 * X[0]}
    np.testing.assert_allclose(p.point[wrt], values[wrt], rtol=1e-6)
    slope = 1.0 - np.tanh(6.0 * X[0].astype(np.float64)) ** 2
    want = {"d": slope * X[0], "e": np.diag(slope)}
    np.testing.assert_allclose(answers(p)["y", wrt], want[wrt], rtol=1e-5)


# ---- operators ----------------------------------------------------------------------------------


def test_one_number_gives_the_gradient():
    p = ask(network(), {"x": X}, of=["y[0,1]"])
    assert p.operator == "gradient"
    assert p.keys == (("", "x"),)
    np.testing.assert_array_equal(p.cotangents["y[0,1]"], 1.0)
    assert (p.rows, p.columns) == (1, 6)


def test_few_numbers_give_the_jacobian():
    p = ask(network(), {"x": X})
    assert p.operator == "jacobian"
    assert (p.rows, p.columns) == (8, 6)
    assert not p.tangents
    assert not p.cotangents


@pytest.mark.parametrize("rows", [JACOBIAN_ROWS, JACOBIAN_ROWS + 1])
def test_many_numbers_give_a_vjp_with_a_random_cotangent_and_say_so(rows: int):
    model = loaded([NODE("Tanh", ["x"], ["y"])], {"x": ["N"]})
    p = ask(model, {"x": np.zeros(rows, F32)})
    if rows == JACOBIAN_ROWS:
        assert p.operator == "jacobian"
        return
    assert p.operator == "vjp"
    assert any("cotangent is random" in note for note in p.notes)
    again, other = (ask(model, {"x": np.zeros(rows, F32)}, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(p.cotangents["y"], again.cotangents["y"])
    assert not np.array_equal(p.cotangents["y"], other.cotangents["y"])


def test_many_entries_give_a_vjp():
    assert ask(network_of(900, 1100), {"x": np.zeros(1100, F32)}).operator == "jacobian"
    assert ask(network_of(900, 1200), {"x": np.zeros(1200, F32)}).operator == "vjp"


def network_of(rows: int, columns: int) -> Model:
    weights = np.zeros((rows, columns), F32)
    return loaded([NODE("MatMul", ["w", "x"], ["y"])], {"x": [columns]}, constants={"w": weights})


@pytest.mark.parametrize(("what", "operator"), [("tangents", "jvp"), ("cotangents", "vjp")])
def test_a_direction_says_what_is_asked(what: str, operator: str):
    name, shape = ("x", (2, 3)) if what == "tangents" else ("y", (2, 4))
    p = ask(network(), {"x": X}, **{what: {name: np.ones(shape)}})
    assert p.operator == operator
    np.testing.assert_array_equal(getattr(p, what)[name], np.ones(shape))
    assert getattr(p, what)[name].dtype == np.float64
    assert p.notes == ()
    answers(p)


def test_a_gradient_of_several_numbers_is_refused_with_a_way_out():
    refused(UsageError, "y has 8", "--of 'y[", "jacobian", "vjp", operator="gradient")


def test_an_operator_that_is_none():
    refused(UsageError, "'hessian'", "gradient, jacobian, jvp, vjp", operator="hessian")


# ---- directions ---------------------------------------------------------------------------------

BAD: Mapping[str, tuple[Any, Sequence[str]]] = {
    "another shape": ({"x": np.ones((2, 4))}, ["'x'", "[2, 4]", "[2, 3]"]),
    "another name": ({"q": np.ones((2, 3))}, ["q", "x"]),
    "too many": ({"x": np.ones((2, 3)), "w": np.ones((3, 5))}, ["w"]),
    "none": ({}, ["'x'"]),
    "text": ({"x": np.full((2, 3), "a")}, ["<U1"]),
    "complex": ({"x": np.ones((2, 3), complex)}, ["complex128"]),
    "truth": ({"x": np.ones((2, 3), bool)}, ["bool"]),
    "not a number": ({"x": np.full((2, 3), np.nan)}, ["NaN"]),
    "infinite": ({"x": np.full((2, 3), np.inf)}, ["infinity"]),
}


@pytest.mark.parametrize("case", BAD)
def test_tangents_that_do_not_fit(case: str):
    given, words = BAD[case]
    refused(InputError, "--tangent", *words, tangents=given)
    p = ask(network(), {"x": X}, operator="jvp")
    with pytest.raises(InputError, match="--tangent"):
        check_directions(p, given, "tangent")


def test_cotangents_that_do_not_fit():
    refused(InputError, "--cotangent", "'y'", "[2, 3]", "[2, 4]", cotangents={"y": np.ones((2, 3))})


@pytest.mark.parametrize("operator", ["gradient", "jacobian", "vjp"])
def test_a_tangent_is_for_a_jvp_only(operator: str):
    ones = {"x": np.ones((2, 3))}
    refused(UsageError, "--tangent", "jvp", operator=operator, of=["y[0,0]"], tangents=ones)


def test_a_cotangent_is_for_a_vjp_only():
    refused(UsageError, "--cotangent", "vjp", operator="jvp", cotangents={"y": np.ones((2, 4))})


def test_the_empty_name_stands_for_the_only_tensor():
    p = ask(network(), {"x": X}, tangents={"": np.ones((2, 3))})
    np.testing.assert_array_equal(p.tangents["x"], np.ones((2, 3)))
    one, two = {"x": 2 * np.ones((2, 3))}, {"": np.ones((2, 3))}
    np.testing.assert_array_equal(check_directions(p, one | two, "tangent")["x"], one["x"])
    refused(InputError, "'x'", "x, w", wrt=["x", "w"], tangents={"": np.ones((2, 3))})


# ---- tensors inside -----------------------------------------------------------------------------


@pytest.mark.parametrize("wrt", [["w"], ["h"], ["t"], ["x", "w"], ["w", "v"], ["y"]])
def test_weights_and_values_inside(wrt: list[str]):
    p = ask(network(), {"x": X}, wrt=wrt, operator="jacobian")
    assert p.wrt == tuple(wrt)
    assert {v.name for v in p.graph.inputs} >= set(wrt)
    answers(p)


def test_a_value_inside_is_that_at_the_point():
    p = ask(network(), {"x": X}, wrt=["h"])
    (w,) = (a for v, a in network().graph.constants.items() if v.name == "w")
    np.testing.assert_allclose(p.point["h"], X @ w, rtol=1e-6)
    assert p.point["h"].dtype == F32
    assert "x" not in p.point


def squared() -> Model:
    """y = exp(h), h = x * x."""
    return loaded([NODE("Mul", ["x", "x"], ["h"]), NODE("Exp", ["h"], ["y"])], {"x": [1]})


@pytest.mark.parametrize("order", [["x", "h", "y"], ["y", "h", "x"]])
def test_a_tensor_that_depends_on_another_of_wrt_counts_the_whole_way(order: list[str]):
    p = ask(squared(), {"x": np.array([0.5], F32)}, wrt=order, of=["y"], operator="jacobian")
    # The derivative with respect to x goes through h, that with respect to h only from there on.
    assert p.of == ("y (computed)",)
    assert [(e.tensor, e.name) for e in p.elements] == [("y", "y (computed)")]
    e = np.exp(0.25)
    want = {"x": 2 * 0.5 * e, "h": e, "y": 1.0}
    for (_, wrt), block in answers(p).items():
        np.testing.assert_allclose(block, [[want[wrt]]], rtol=1e-6)


def test_a_tensor_with_respect_to_itself():
    for name in ("x", "h", "y"):
        p = ask(squared(), {"x": np.array([0.5], F32)}, wrt=[name], of=[name], operator="jacobian")
        np.testing.assert_array_equal(answers(p)[name, name], [[1.0]])


@pytest.mark.parametrize(("wrt", "of"), [("y", "h"), ("v", "t"), ("x", "w"), ("v", "w[0,0]")])
def test_no_way_between_them_is_zero_and_said(wrt: str, of: str):
    model = squared() if of == "h" else network()
    feeds = {"x": np.array([0.5], F32)} if of == "h" else {"x": X}
    p = ask(model, feeds, wrt=[wrt], of=[of])
    assert [n for n in p.notes if f"of {of} with respect to {wrt} is 0" in n]
    assert not any(np.any(block) for block in answers(p).values())


def test_a_way_by_steps_only_is_said_too():
    model = loaded(
        [NODE("Floor", ["x"], ["f"]), NODE("Mul", ["f", "z"], ["y"])], {"x": [3], "z": [3]}
    )
    p = ask(model, {"x": X[0], "z": X[1]})
    (note,) = p.notes
    assert "with respect to x is 0" in note
    assert "steps" in note


def test_nothing_is_said_where_there_is_a_way():
    assert ask(network(), {"x": X}).notes == ()


# ---- the point ----------------------------------------------------------------------------------


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
    model = loaded([NODE("Gather", ["x", "i"], ["y"])], {"x": [4], "i": ([2], INT64)}, imports=[])
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
        (FLOAT16, "float16", DType.FLOAT16),
        (TensorProto.FLOAT, "float32", DType.FLOAT32),
        (DOUBLE, "float64", DType.FLOAT64),
        (BFLOAT16, "bfloat16", DType.FLOAT32),
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
    model = loaded([branch], {"x": [2, 3], "c": ([], BOOL)})
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
    model = loaded([NODE("Reshape", ["x", "s"], ["y"])], {"x": [6], "s": (["R"], INT64)})
    p = ask(model, {"x": np.arange(6, dtype=F32), "s": np.array([3, 2])}, operator="vjp")
    assert p.block_shape(("", "x")) == (6,)
    assert p.cotangents["y"].shape == (3, 2)


def test_one_tensor_twice_among_the_outputs_counts_once():
    b = Builder(OPS)
    y = b.op("Exp", b.input("x", DType.FLOAT32, (3,)), name="y")
    p = ask(Model(b.graph([y, y]), "<bytes>", "", b""), {"x": X[0]})
    assert p.of == ("y",)


@st.composite
def networks(draw: st.DrawFn) -> tuple[Model, list[str], list[str]]:
    """A random network of smooth operators, some of its tensors, and some others or the same."""
    b = Builder(OPS)
    values = [b.input("a", DType.FLOAT32, (2,)), b.input("b", DType.FLOAT32, (2,))]
    values.append(b.constant(np.array([0.3, -0.7], F32), name="c"))
    for k in range(draw(st.integers(1, 7))):
        x, y = (values[draw(st.integers(0, len(values) - 1))] for _ in range(2))
        op = draw(st.sampled_from(["Sin", "Tanh", "Mul", "Add", "Floor"]))
        values.append(b.op(op, *((x,) if op in ("Sin", "Tanh", "Floor") else (x, y)), name=f"v{k}"))
    names = [v.value.name for v in values]
    some = st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True)
    wrt, of = draw(some), draw(some)
    return Model(b.graph([values[-1]]), "<bytes>", "", b""), wrt, of


@given(networks())
def test_any_tensors_with_respect_to_any_others(drawn):
    """Also of those that are computed from each other: the rules, and no rule at all, agree."""
    model, wrt, of = drawn
    feeds = {"a": np.array([0.4, 1.3], F32), "b": np.array([-0.8, 0.6], F32)}
    p = ask(model, feeds, wrt=wrt, of=of, operator="jacobian")
    blocks = answers(p)
    assert len(blocks) == len(wrt) * len(of)
    # What is asked of is what the network computes.
    values = interpret(model.graph, feeds, keep=of)
    found = interpret(p.exact, p.point)
    for name, output in zip(of, p.of, strict=True):
        np.testing.assert_allclose(found[output], values[name], rtol=1e-6, atol=1e-6)
    # Nothing is said to be 0 that is not.
    for note in p.notes:
        said = note.partition("with respect to ")[2].partition(" is 0")[0].split(", ")
        assert set(said) <= set(wrt)
        assert not any(np.any(blocks[y, name]) for y in p.of for name in said)


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
