"""What a derivative's file is held against, and what that costs."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import gradcli
from gradcli import api, exporting
from gradcli.engines.complex_step import ComplexStep
from gradcli.errors import CannotError
from gradcli.exporting import proof
from gradcli.ops import OPS
from tests.cli.support import PHYSICS, POINT, SAMPLES

FLOAT = int(TensorProto.FLOAT)
SMALL = np.array([0.1, 0.7, 1.3], np.float32)


@pytest.fixture
def doubted(monkeypatch):
    """How often the complex step was asked how sure it is."""
    asked = []
    doubts = ComplexStep._doubts

    def counted(self, *operands):
        asked.append(self)
        return doubts(self, *operands)

    monkeypatch.setattr(ComplexStep, "_doubts", counted)
    return asked


def exported(problem):
    return exporting.exported(problem, "vjp", lambda _: problem, exporting.Form(), None, "0")


def with_tanh_s_rule_times(factor):
    problem = api.ask(PHYSICS, dict(np.load(POINT)), operator="jacobian")
    tanh = OPS["Tanh"]
    rule = tanh.vjp
    assert rule is not None
    wrong = replace(tanh, vjp=lambda s, bars: [b and b * factor for b in rule(s, bars)])
    return replace(problem, table=OPS.replace(wrong))


def test_a_witness_that_agrees_is_not_asked_how_sure_it_is(doubted):
    """Which costs four times as much as its numbers."""
    for operator in ("jvp", "vjp", "jacobian"):
        gradcli.export(str(SAMPLES / "digits.onnx"), operator=operator, of="logits[:,0]")
    assert not doubted


def test_a_witness_that_does_not_agree_is_asked_how_sure_it_is(doubted):
    with pytest.raises(CannotError, match="off from complex-step"):
        exported(with_tanh_s_rule_times(1.001))
    assert doubted


@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_rules_that_give_no_number_do_not_hold(factor):
    with pytest.raises(CannotError, match=r"off from complex-step by inf|sure of it to inf only"):
        exported(with_tanh_s_rule_times(factor))


def test_rounding_is_measured_until_it_explains_the_file(monkeypatch):
    """(x + 2^18) - 2^18: float32 keeps a digit or two of it."""
    runs = []
    measured = proof._roundings

    def counted(*operands):
        for rounding in measured(*operands):
            runs.append(rounding)
            yield rounding

    monkeypatch.setattr(proof, "_roundings", counted)
    model = cancelling()
    made = gradcli.export(model, operator="vjp", inputs={"x": SMALL})
    assert made.proof.is_rounding
    assert any("float32 rounds much" in note for note in made.notes)
    assert 1 <= len(runs) < proof.SHAKES
    monkeypatch.setattr(proof, "NOISE", 0.0)
    runs.clear()
    with pytest.raises(CannotError, match="onnxruntime computes it with an error"):
        gradcli.export(model, operator="vjp", inputs={"x": SMALL})
    assert len(runs) >= proof.SHAKES


def cancelling():
    nodes = [
        helper.make_node("Add", ["x", "far"], ["a"]),
        helper.make_node("Sub", ["a", "far"], ["b"]),
        helper.make_node("Mul", ["b", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", FLOAT, [3])],
        [helper.make_tensor_value_info("y", FLOAT, [3])],
        [numpy_helper.from_array(np.array(262144.0, np.float32), "far")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString()
