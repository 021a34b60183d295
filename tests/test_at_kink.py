"""What becomes of a point on a kink: --at-kink, and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gradcli import api
from gradcli.comparison import Verdict
from gradcli.errors import UsageError
from tests.cli.support import SAMPLES

QUICK: dict[str, Any] = {"runs": 1, "warmup": 0, "methods": ["forward", "reverse", "finite"]}


def model(nodes, shape, *constants, out=None):
    """A model of one input x and one output y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, out or shape)
    weights = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def node(op, inputs, output, **attrs):
    return helper.make_node(op, inputs, [output], name=op.lower(), **attrs)


RELU = model([node("Relu", ["x"], "y")], [3])
POINT = np.array([0.0, 2.0, -1.0], np.float32)


def verdicts(comparison):
    return [m.verdict for m in comparison.methods]


def test_report_gives_a_verdict_of_its_own_with_both_sides_and_conventions():
    found = api.compare(RELU, POINT, **QUICK)
    assert (found.verdict, found.exit_code) == (Verdict.KINK, 0)
    (kink,) = found.kinks
    assert (kink.active, kink.touched) == (True, True)
    assert kink.jump
    assert (kink.jump.name, kink.jump.index) == ("y/x", (0, 0))
    assert (kink.jump.below, kink.jump.above) == (0.0, 1.0)
    assert [(t.at, t.gradcli, t.pytorch, t.jax) for t in kink.taken] == [("at 0", 0, 0, 0)]


def test_balls_certify_both_sides_and_the_tie():
    pytest.importorskip("flint", reason="needs the extra `certified`")
    (kink,) = api.compare(RELU, POINT, **QUICK).kinks
    assert kink.jump
    assert (kink.decided, kink.jump.certified) == ("on", True)


def test_skip_leaves_out_what_has_two_slopes_and_nothing_else():
    found = api.compare(RELU, POINT, at_kink="skip", **QUICK)
    assert (found.verdict, found.exit_code) == (Verdict.AGREE, 0)
    assert {sum(m.counts.values()) for m in found.methods} == {8}
    assert any(note.startswith("1 of 9 elements lies on an active kink") for note in found.notes)


def test_where_everything_is_skipped_nothing_is_decided():
    found = api.compare(RELU, np.zeros(3, np.float32), at_kink="skip", of="y[0]", **QUICK)
    assert found.exit_code == 0  # two of three elements are smooth
    alone = model([node("Relu", ["x"], "y")], [1])
    found = api.compare(alone, np.zeros(1, np.float32), at_kink="skip", **QUICK)
    assert (found.verdict, found.exit_code) == (Verdict.INCONCLUSIVE, 3)


def test_fail_fails_on_an_active_kink_only():
    assert api.compare(RELU, POINT, at_kink="fail", **QUICK).exit_code == 1
    inactive = model(
        [
            node("Relu", ["x"], "r"),
            node("MaxPool", ["r"], "y", kernel_shape=[2], strides=[2]),
        ],
        [1, 1, 4],
        out=[1, 1, 2],
    )
    found = api.compare(
        inactive, np.array([[[-1, -2, 0.5, 1]]], np.float32), at_kink="fail", **QUICK
    )
    assert (found.verdict, found.exit_code) == (Verdict.AGREE, 0)
    (kink,) = [k for k in found.kinks if k.touched]
    assert (kink.op, kink.active) == ("MaxPool", False)


def test_nudge_moves_the_point_off_its_kinks_and_says_how_far():
    found = api.compare(RELU, POINT, at_kink="nudge", **QUICK)
    assert (found.verdict, found.exit_code) == (Verdict.AGREE, 0)
    assert any("was moved off 1 tie, each element by at most 1 unit" in n for n in found.notes)
    assert 0 < min(k.margin for k in found.kinks) < 1e-6
    again = api.compare(RELU, POINT, at_kink="nudge", **QUICK)
    assert again.notes == found.notes


def test_nudge_leaves_a_point_off_kinks_where_it_is():
    found = api.compare(RELU, POINT + 1, at_kink="nudge", **QUICK)
    # 0 is the last element now: only points on a kink move.
    assert any("was moved off 1 tie" in n for n in found.notes)
    found = api.compare(RELU, POINT + 0.5, at_kink="nudge", **QUICK)
    assert "the point lies on no kink, and was not moved" in found.notes


def test_ties_that_move_with_the_point_are_not_left():
    tied = model([node("Relu", ["x"], "r"), node("ReduceMax", ["r"], "y", keepdims=0)], [2], out=[])
    found = api.compare(tied, np.array([-1.0, -2.0], np.float32), at_kink="nudge", **QUICK)
    assert "no kink at the point can be left: its ties move with it" in found.notes
    assert found.verdict is Verdict.AGREE


def test_only_inputs_are_nudged():
    scaled = model(
        [node("Mul", ["x", "w"], "p"), node("Relu", ["p"], "y")],
        [2],
        ("w", np.array([0.0, 1.0], np.float32)),
    )
    with pytest.raises(UsageError, match="moves inputs of the model"):
        api.compare(scaled, np.ones(2, np.float32), wrt="w", at_kink="nudge", **QUICK)


def test_other_ways_are_refused():
    with pytest.raises(UsageError, match="at_kink is 'ignore'"):
        api.compare(RELU, POINT, at_kink="ignore", **QUICK)  # type: ignore[arg-type] # on purpose


def test_a_kink_nearer_than_float32_tells_is_named_where_float32_is_on_its_other_side():
    nodes = [
        node("Add", ["x", "one"], "a"),
        node("Sub", ["a", "one"], "b"),
        node("Relu", ["b"], "y"),
    ]
    shifted = model(nodes, [2], ("one", np.ones((), np.float32)))
    found = api.compare(shifted, np.array([1e-12, 0.5], np.float32), **QUICK)
    forward = found.methods[0]
    assert (forward.verdict, str(forward.cause)) == (Verdict.DISAGREE, "rounding")
    assert "the other side of the kink of node 'relu' (Relu), within 1e-12" in forward.detail


def test_so_is_one_where_every_operand_is_at_the_threshold():
    nodes = [node("Add", ["x", "one"], "a"), node("ThresholdedRelu", ["a"], "y")]
    shifted = model(nodes, [2], ("one", np.ones((), np.float32)))
    forward = api.compare(shifted, np.array([1e-12, 2e-12], np.float32), **QUICK).methods[0]
    assert (forward.verdict, str(forward.cause)) == (Verdict.DISAGREE, "rounding")
    assert "the other side of the kink of node " in forward.detail


def test_a_tie_of_float64_alone_is_said_to_be_one():
    pytest.importorskip("flint", reason="needs the extra `certified`")
    nodes = [
        node("Add", ["x", "one"], "a"),
        node("Sub", ["a", "one"], "b"),
        node("Relu", ["b"], "y"),
    ]
    shifted = model(nodes, [1], ("one", np.ones((), np.float32)))
    found = api.compare(shifted, np.array([2.0**-60], np.float32), **QUICK)
    (kink,) = found.kinks
    assert (kink.decided, kink.margin, kink.within) == ("off", 0.0, 2.0**-60)
    # No float64 can be moved to its other side and know it: whatever lies between is accepted.
    assert (found.verdict, found.exit_code) == (Verdict.KINK, 0)


def test_on_digits_every_point_has_ties_and_none_matters():
    image = np.load(SAMPLES / "digits.npz")["image"]
    found = api.compare(SAMPLES / "digits.onnx", {"image": image}, at_kink="fail", **QUICK)
    touched = [k for k in found.kinks if k.touched]
    assert {(k.op, k.active) for k in touched} == {("MaxPool", False)}
    assert (found.verdict, found.exit_code) == (Verdict.AGREE, 0)


def test_of_three_that_tie_for_two_places_any_order_is_a_convention():
    """The second greatest of three equal ones has the slope 0 by each, and rules take 1 of one."""
    k = ("k", np.array([2], np.int64))
    top = helper.make_node("TopK", ["x", "k"], ["y", "at"], name="top")
    found = api.compare(model([top], [4], k, out=[2]), np.array([1, 1, 1, 0], np.float32), **QUICK)
    assert found.counts["DISAGREE"] == 0
    assert found.verdict is Verdict.KINK
