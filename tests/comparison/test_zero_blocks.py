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
