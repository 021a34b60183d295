"""An output that does not move at all, beside one that does."""

import numpy as np
import pytest

from gradcli.comparison import judge
from gradcli.comparison.facts import Verdict
from gradcli.graph import Builder, DType
from gradcli.measure import measure
from gradcli.onnxfile import read, write
from gradcli.ops import OPS
from gradcli.problem import check_feeds, pose


@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_a_block_of_zeros_agrees_with_its_rounding_errors(size):
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (3,))
    h = b.op("MatMul", x, b.constant(np.float32(np.full((3, 2), size))))
    moves = b.rename(b.op("Tanh", h), "moves")
    low = b.op("Sub", b.op("Sigmoid", h), b.constant(np.float32(2)))
    dead = b.rename(b.op("Relu", low), "dead")
    model = read(write(b.graph([moves, dead])), OPS)
    point = {"x": np.array([0.1, 0.2, -0.3], np.float32) / np.float32(size)}
    problem = pose(model, check_feeds(model, point)[0], operator="jacobian")
    asked = ["forward", "reverse", "symbolic", "finite", "complex-step"]
    found = judge(measure(problem, asked, budget=20, runs=1, warmup=0))
    assert found.reference.confirmed == 12
    assert {m.method: m.verdict for m in found.methods} == dict.fromkeys(asked, Verdict.AGREE)


@pytest.mark.parametrize("operator", ["jacobian", "vjp"])
@pytest.mark.parametrize("op", ["Softmax", "LpNormalization", "LayerNormalization"])
def test_an_answer_that_cancels_agrees_with_its_rounding_errors(op, operator):
    """What is the same for every input: a sum of probabilities, a length of 1, a mean of 0."""
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (2, 5))
    weights = [b.constant(np.ones(5, np.float32))] if op == "LayerNormalization" else []
    h = b.op(op, x, *weights)
    total = b.op("ReduceSum", h * h if op == "LpNormalization" else h, b.ints([1]), name="y")
    model = read(write(b.graph([total])), OPS)
    point = {"x": np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)}
    problem = pose(model, check_feeds(model, point)[0], operator=operator)
    asked = ["forward", "reverse", "symbolic", "finite", "complex-step"]
    found = judge(measure(problem, asked, budget=20, runs=1, warmup=0))
    assert {m.method: m.verdict for m in found.methods} == dict.fromkeys(asked, Verdict.AGREE)
