"""Points on several kinks at once: what conventions compose to is nobody's fault, a factor is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradcli.comparison import judge
from gradcli.comparison.facts import Verdict
from gradcli.graph import Builder, DType, Var
from gradcli.measure import measure
from gradcli.onnxfile import read, write
from gradcli.ops import OPS, Table
from gradcli.problem import Problem, pose

Body = Callable[[Builder, Var], Var]

NETWORKS: dict[str, tuple[Body, list[float]]] = {
    "relu(x) - relu(-x)": (lambda b, x: b.op("Relu", x) - b.op("Relu", -x), [0.0, 1.0]),
    "|x| - 2 relu(x)": (lambda b, x: b.op("Abs", x) - b.op("Relu", x) * 2.0, [0.0, 1.0]),
    "three equal": (lambda b, x: b.op("Max", x, b.op("Sin", x), x * 2.0), [0.0, 1.0]),
    "relu of relu": (lambda b, x: b.op("Relu", b.op("Relu", x)), [0.0, 1.0]),
    "abs of relu": (lambda b, x: b.op("Abs", b.op("Relu", x)), [0.0, 1.0]),
    "relu of abs": (lambda b, x: b.op("Relu", b.op("Abs", x)), [0.0, 1.0]),
    "a window of relus": (
        lambda b, x: b.op("MaxPool", b.reshape(b.op("Relu", x), [1, 1, 2]), kernel_shape=(2,)),
        [0.0, 0.0],
    ),
    "a window of relus, one behind": (
        lambda b, x: b.op("MaxPool", b.reshape(b.op("Relu", x), [1, 1, 2]), kernel_shape=(2,)),
        [0.0, -1.0],
    ),
}

METHODS = ("forward", "reverse", "symbolic", "complex-step", "finite")


def posed(name: str, operator: str, table: Table = OPS) -> Problem:
    body, point = NETWORKS[name]
    b = Builder(OPS)
    y = body(b, b.input("x", DType.FLOAT64, (2,)))
    model = read(write(b.graph([b.rename(y, "y")])), OPS)
    return pose(model, {"x": np.array(point)}, operator=operator, table=table)


@pytest.mark.parametrize("reference", ["float64", "certified"])
@pytest.mark.parametrize("operator", ["vjp", "jvp", "jacobian"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_convention_is_a_fault(name: str, operator: str, reference: Any):
    if reference == "certified":
        pytest.importorskip("flint", reason="needs python-flint, which an extra brings")
    found = judge(measure(posed(name, operator), METHODS, runs=1, reference=reference))
    assert {m.verdict for m in found.methods} <= {Verdict.AGREE, Verdict.KINK}
    assert found.exit_code == 0


@pytest.mark.parametrize("name", ["relu(x) - relu(-x)", "|x| - 2 relu(x)"])
@pytest.mark.parametrize("operator", ["vjp", "jvp", "jacobian"])
def test_where_the_slope_is_one_alone_who_has_it_agrees(name: str, operator: str):
    found = judge(measure(posed(name, operator), METHODS, runs=1, reference="float64"))
    verdicts = {m.method: m.verdict for m in found.methods}
    assert verdicts["finite"] is Verdict.AGREE
    assert verdicts["reverse"] is Verdict.KINK
    details = {m.method: m.detail for m in found.methods}
    assert "several ties" in details["reverse"]


@pytest.mark.parametrize("name", ["relu of relu", "three equal", "a window of relus"])
def test_a_slope_that_no_convention_comes_to_is_a_fault(name: str):
    op = "Max" if name == "three equal" else "Relu"
    rule = OPS[op].vjp
    assert rule is not None
    wrong = replace(OPS[op], vjp=lambda s, bars: [x_bar and x_bar + 9.0 for x_bar in rule(s, bars)])
    asked = posed(name, "vjp", OPS.replace(wrong))
    found = judge(measure(asked, ["forward", "reverse"], runs=1, reference="float64"))
    assert [m.verdict for m in found.methods] == [Verdict.KINK, Verdict.DISAGREE]
