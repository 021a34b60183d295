"""Where a domain ends and where numbers overflow: named before anything becomes NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcli import api
from gradcli.comparison import Comparison, Verdict
from gradcli.report.headline import headline
from tests.test_at_kink import model, node

QUICK: dict[str, Any] = {"runs": 1, "warmup": 0, "methods": ["forward", "reverse", "finite"]}


def compared(nodes: list[Any], x: list[float], *constants: Any) -> Comparison:
    return api.compare(model(nodes, [len(x)], *constants), np.array(x, np.float32), **QUICK)


def named(found: Comparison, kind: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(k.op, k.index) for k in found.kinks if k.kind == kind]


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Reciprocal"])
def test_an_edge_is_named(op):
    found = compared([node(op, ["x"], "y")], [1.0, 0.0])
    assert named(found, "edge") == [(op, (1,))]
    assert named(found, "lost") == []
    assert found.counts["DISAGREE"] == 0


def test_0_by_0_is_named():
    found = compared([node("Div", ["x", "x"], "y")], [1.0, 0.0])
    assert named(found, "edge") == [("Div", (1,))]
    assert found.counts["DISAGREE"] == 0


@pytest.mark.parametrize(("op", "x"), [("Log", -1.0), ("Sqrt", -1.0), ("Acos", 2.0)])
def test_beyond_an_edge_there_is_no_number_and_nothing_agrees(op, x):
    found = compared([node(op, ["x"], "y")], [0.5, x])
    assert named(found, "lost") == [(op, (1,))]
    assert {m.verdict for m in found.methods} == {Verdict.INCONCLUSIVE}
    assert all(m.counts["INCONCLUSIVE"] == 2 for m in found.methods)


def test_an_overflow_of_the_file_s_own_width_is_named():
    found = compared([node("Exp", ["x"], "y")], [1.0, 100.0])
    (kink,) = [k for k in found.kinks if k.kind == "lost"]
    assert kink.what == "it overflows float32, whose largest number is 3.4e+38"
    assert found.exit_code == 3
    assert headline(found).text.startswith("numbers are lost at node exp (Exp): it overflows")
    assert found.primal.reason == "1 element is infinite or no number in onnxruntime only"
    assert all(
        "node 'exp' (Exp), element [1]: it overflows float32" in m.detail for m in found.methods
    )


def test_an_overflow_of_float64_is_named_as_the_cause():
    found = compared([node("Exp", ["x"], "y")], [1.0, 800.0])
    assert named(found, "lost") == [("Exp", (1,))]
    (reverse,) = [m for m in found.methods if m.method == "reverse"]
    assert reverse.verdict is Verdict.DISAGREE  # it says NaN where the derivative is 0
    assert "node 'exp' (Exp), element [1]: it overflows" in reverse.detail
    assert str(reverse.cause) == "rounding"


@pytest.mark.parametrize(("op", "x"), [("Log", -1.0), ("Sqrt", -2.0), ("Exp", 1000.0)])
def test_in_a_branch_that_is_not_taken_it_is_named_and_harmless(op, x):
    nodes = [
        node("Greater", ["x", "zero"], "positive"),
        node(op, ["x"], "f"),
        node("Where", ["positive", *(("x", "f") if x > 0 else ("f", "x"))], "y"),
    ]
    found = compared(nodes, [x, x / 2], ("zero", np.zeros((), np.float32)))
    assert {m.verdict for m in found.methods} == {Verdict.AGREE}
    assert [op for op, _ in named(found, "lost")] == [op]


def test_infinities_that_are_given_are_not_lost():
    nodes = [
        node("Greater", ["x", "zero"], "positive"),
        node("Where", ["positive", "x", "least"], "masked"),
        node("Softmax", ["masked"], "y"),
    ]
    least = ("least", np.array(-np.inf, np.float32))
    found = compared(nodes, [1.0, -1.0, 2.0], ("zero", np.zeros((), np.float32)), least)
    assert named(found, "lost") == []
    assert found.verdict is Verdict.AGREE


@pytest.mark.parametrize(
    ("op", "x", "what"),
    [
        ("Log", 0.0, "the logarithm of 0"),
        ("Log", -1.0, "no number"),
        ("Exp", 100.0, "it overflows float32"),
        ("Reciprocal", 1e-42, "it overflows float32"),
    ],
)
def test_a_derivative_that_is_no_number_says_which_node_and_what_helps(op, x, what):
    asked = api.ask(model([node(op, ["x"], "y")], [2]), np.array([1.0, x], np.float32))
    notes = api.derive(asked).notes
    (note,) = [n for n in notes if "node" in n]
    assert f"node '{op.lower()}' ({op}), element [1]" in note
    assert what in note
    assert "; x: " in note


def test_a_report_says_what_helps_the_operand():
    found = compared([node("Exp", ["x"], "h"), node("Log", ["h"], "y")], [1.0, -1000.0])
    (edge,) = [k for k in found.kinks if k.kind == "edge"]
    assert (edge.op, edge.operand, edge.todo) == ("Log", "h", "clip it, or add a small constant")


def test_where_a_branch_ends_at_its_tie_the_jump_is_named_and_no_slope_is_certified():
    """log x where x > 0, else 0, at 0: it falls to minus infinity on one side."""
    found = compared(
        [
            node("Greater", ["x", "zero"], "c"),
            node("Log", ["x"], "log"),
            node("Where", ["c", "log", "zero"], "y"),
        ],
        [0.0, 1.0],
        ("zero", np.array(0.0, np.float32)),
    )
    assert named(found, "edge") == [("Log", (0,))]
    (tie,) = [k for k in found.kinks if k.kind == "kink"]
    assert (tie.op, tie.active, tie.what) == ("Greater", True, "an output jumps there")
    assert found.reference.confirmed < found.reference.elements == 4
    assert found.counts["DISAGREE"] == 0


def test_at_an_edge_the_report_says_so_and_not_that_time_was_short():
    found = compared([node("Log", ["x"], "y")], [0.0, 1.0])
    assert found.reference.uncertified == (
        "the point lies on the edge of a domain: the logarithm of 0"
    )


def test_a_row_that_is_masked_as_a_whole_is_named():
    """A Softmax of nothing but minus infinity is no number."""
    found = compared(
        [node("Add", ["x", "mask"], "a"), node("Softmax", ["a"], "y")],
        [1.0, 2.0],
        ("mask", np.full(2, -np.inf, np.float32)),
    )
    assert named(found, "lost") == [("Softmax", (0,))]
    masked = compared(
        [node("Add", ["x", "mask"], "a"), node("Softmax", ["a"], "y")],
        [1.0, 2.0],
        ("mask", np.array([0.0, -np.inf], np.float32)),
    )
    assert named(masked, "lost") == []
