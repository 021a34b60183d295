"""Slopes of smooth functions: tuned for float32 they lose their tails, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.graph import Builder, DType, Graph
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import jvp, simplify, tune, vjp

POINTS = np.array([0.0, -0.0, 1e-40, -1e-40, 0.3, -0.3, -1.0, -1.5, 2.0, -4.0, 9.0, -9.0])
LIMITS = np.array([np.inf, -np.inf, np.nan])


def slope(op: str, mode: str, dtype: DType = DType.FLOAT32) -> Graph:
    b = Builder(OPS)
    graph = b.graph([b.op(op, b.input("x", dtype, ("N",)), name="y")])
    return simplify((jvp if mode == "jvp" else vjp)(graph).graph)


def feeds(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": x, "x_dot": np.ones(x.shape), "y_bar": np.ones(x.shape)}


@pytest.mark.parametrize("mode", ["jvp", "vjp"])
@pytest.mark.parametrize(("op", "gone"), [("Tanh", "Sigmoid"), ("Gelu", "Where")])
def test_the_tails_are_given_up_and_nothing_else(op: str, gone: str, mode: str):
    canonical = slope(op, mode)
    tuned = tune(canonical)
    assert gone in {node.op for node in canonical.nodes}
    assert gone not in {node.op for node in tuned.nodes}
    for points in (POINTS, LIMITS):
        exact, fast = interpret(canonical, feeds(points)), interpret(tuned, feeds(points))
        for name, wanted in exact.items():
            np.testing.assert_allclose(fast[name], wanted, rtol=0, atol=3e-7)


@pytest.mark.parametrize(("op", "kept"), [("Tanh", "Sigmoid"), ("Gelu", "Where")])
def test_float64_keeps_its_tails(op: str, kept: str):
    tuned = tune(slope(op, "vjp", DType.FLOAT64))
    assert kept in {node.op for node in tuned.nodes}
