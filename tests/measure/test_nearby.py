"""What the point itself hides of a wrong operator is seen at a point nearby."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gradcli.comparison import judge
from gradcli.graph import Builder, DType, Var
from gradcli.measure import measure
from gradcli.onnxfile import Model, read, write
from gradcli.ops import OPS
from gradcli.problem import pose
from tests.problem.test_point import forked

Body = Callable[[Builder, Var], Var]

ZERO = np.zeros(3, np.float32)


def model(body: Body) -> Model:
    b = Builder(OPS)
    y = body(b, b.input("x", DType.FLOAT32, (3,)))
    return read(write(b.graph([b.rename(y, "y")])), OPS)


HIDDEN: dict[str, tuple[Body, Body]] = {
    "a factor of nothing": (lambda _, x: x * 2.0, lambda _, x: x * 2.02),
    "where it is flat": (
        lambda b, x: b.op("Cos", b.rename(b.op("Sin", x), "inner")),
        lambda b, x: b.op("Cos", b.rename(b.op("Sin", x) * 1.001, "inner")),
    ),
    "the other factor": (lambda b, x: x * b.op("Exp", x), lambda b, x: x * b.op("Sigmoid", x)),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_fault_that_the_point_hides_is_seen_nearby(name: str):
    right, wrong = map(model, HIDDEN[name])
    asked = pose(right, {"x": ZERO}, operator="vjp")
    found = judge(measure(replace(asked, model=wrong), ["reverse"], runs=1, reference="float64"))
    assert not found.primal.matches
    assert found.primal.reason.startswith("at a point nearby, ")
    assert found.exit_code == 3
    assert judge(measure(asked, ["reverse"], runs=1, reference="float64")).primal.matches


STEPS: dict[str, Body] = {
    "rounded": lambda b, x: b.op("Round", x * 10.0) * 0.1,
    "quantised": lambda b, x: b.op(
        "DequantizeLinear",
        b.op("QuantizeLinear", x, b.constant(np.float32(0.1)), b.constant(np.uint8(128))),
        b.constant(np.float32(0.1)),
        b.constant(np.uint8(128)),
    ),
    "an overflow": lambda b, x: b.op("Exp", x * 120.0),
    "the end of a domain": lambda b, x: b.op("Sqrt", x),
}


@pytest.mark.parametrize("name", STEPS)
def test_ties_overflows_and_domains_nearby_are_no_fault(name: str):
    made = model(STEPS[name])
    for seed in range(10):
        asked = pose(made, {"x": ZERO + 0.05}, operator="vjp", seed=seed)
        assert judge(measure(asked, ["reverse"], runs=1, reference="float64")).primal.matches


def test_where_the_budget_is_short_nobody_looks_nearby(monkeypatch: pytest.MonkeyPatch):
    made = model(lambda b, x: b.op("Tanh", x))
    asked = pose(made, {"x": ZERO}, operator="vjp")
    assert len(measure(asked, ["reverse"], runs=1, reference="float64").nearby) == 2
    monkeypatch.setattr("gradcli.measure.nearby.SHARE", 0.0)
    assert not measure(asked, ["reverse"], runs=1, reference="float64").nearby


def test_on_the_other_side_of_a_choice_nothing_is_compared():
    x = np.full((2, 3), -1.0, np.float32)
    x[0, 0] = 1e-3
    for seed in range(4):
        asked = pose(forked(), {"x": x}, operator="vjp", seed=seed)
        evidence = measure(asked, ["reverse"], runs=1, reference="float64")
        assert judge(evidence).primal.matches
