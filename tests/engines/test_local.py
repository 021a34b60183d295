"""A wrong rule is found at the node where it is used, and no right one is accused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradcli.engines.base import wrong_rule
from gradcli.onnxfile import read
from gradcli.ops import OPS, Site, Table
from gradcli.ops.card import Vars
from gradcli.problem import Problem, check_feeds, pose

SAMPLES = Path(__file__).parents[2] / "sample_models"


def posed(name: str, table: Table = OPS) -> Problem:
    model = read(SAMPLES / f"{name}.onnx", OPS)
    feeds, _ = check_feeds(model, dict(np.load(SAMPLES / f"{name}.npz")))
    return pose(model, feeds, table=table)


@pytest.mark.parametrize("name", ["physics", "diabetes", "digits", "attention", "kinked"])
def test_no_right_rule_is_accused(name: str):
    problem = posed(name)
    assert wrong_rule(problem, "jvp") is None
    assert wrong_rule(problem, "vjp") is None


@pytest.mark.parametrize(
    ("name", "op", "node"),
    [
        ("physics", "Tanh", "hidden"),
        ("digits", "Conv", "conv1"),
        ("attention", "Softmax", "block1.weights"),
        ("attention", "LayerNormalization", "block1.norm1"),
    ],
)
@pytest.mark.parametrize("rule", ["jvp", "vjp"])
def test_a_wrong_rule_is_found_at_its_first_node(name: str, op: str, node: str, rule: str):
    card = OPS[op]
    right = card.jvp if rule == "jvp" else card.vjp
    assert right is not None

    def wrong(s: Site, given: Vars) -> Vars:
        return [None if x is None else x * (1 + 1e-6) for x in right(s, given)]

    wrong_card = replace(card, jvp=wrong) if rule == "jvp" else replace(card, vjp=wrong)
    problem = posed(name, OPS.replace(wrong_card))
    found = wrong_rule(problem, "jvp" if rule == "jvp" else "vjp")
    assert found is not None
    assert (found.node, found.op) == (node, op)
    assert wrong_rule(problem, "vjp" if rule == "jvp" else "jvp") is None
