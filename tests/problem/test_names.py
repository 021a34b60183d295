"""What can be asked about: tensors and parts of them, by name; those inside too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from gradcli.errors import UnsupportedError, UsageError
from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from tests.problem.asking import F32, NODE, X, answers, ask, loaded, network, refused


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
        {"i": ([2], TensorProto.INT64)},
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
