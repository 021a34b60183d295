"""Pools in float32: what they send back, tuned, is what the canonical graph sends back."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli import runtime
from gradcli.graph import Builder, DType, Graph
from gradcli.ops import OPS
from gradcli.transform import simplify, tune, vjp


def network(pool: str, kernel: int, stride: int, pad: int, *, relu: bool, rows: int = 9) -> Graph:
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (2, 3, rows, 8))
    w = b.constant(np.random.default_rng(0).standard_normal((8, 3, 3, 3)), DType.FLOAT32)
    h = b.op("Conv", x, w, kernel_shape=(3, 3), pads=(1, 1, 1, 1))
    h = b.op("Relu", h) if relu else h
    how = {"kernel_shape": (kernel,) * 2, "strides": (stride,) * 2, "pads": (pad,) * 4}
    return b.graph([b.op(pool, h, name="y", **how)])


def both(graph: Graph) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The cotangent of x by the canonical and by the tuned graph, and the tuned one's operators."""
    d = vjp(graph)
    plain = simplify(d.graph)
    fast = tune(plain)
    rng = np.random.default_rng(1)
    shapes = {v.name: tuple(int(n) for n in v.shape or ()) for v in d.graph.inputs}
    feeds = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    name = d.results["x"]
    a, b = (runtime.prepare(g).run(feeds)[name] for g in (plain, fast))
    return a, b, [node.op for node in fast.nodes]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 3, 0), (2, 3, 0), (3, 2, 1), (2, 2, 1)]
)
def test_a_max_pool_sends_back_the_same(kernel: int, stride: int, pad: int, relu: bool):
    plain, fast, ops = both(network("MaxPool", kernel, stride, pad, relu=relu))
    np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-6)
    apart = kernel <= stride and not pad
    assert ("MaxUnpool" in ops) is apart
    assert ("ScatterElements" in ops) is not apart
    assert ("HardSigmoid" in ops) is relu
    assert "Where" not in ops


def test_the_mask_before_a_max_pool_has_the_pooled_size():
    d = vjp(network("MaxPool", 3, 2, 1, relu=True))
    fast = tune(simplify(d.graph))
    (step,) = (node for node in fast.nodes if node.op == "HardSigmoid")
    assert step.outputs[0].shape == (2, 8, 5, 4)  # type: ignore[union-attr] # it has an output


@pytest.mark.parametrize(
    ("kernel", "stride", "rows", "resized"), [(2, 2, 8, True), (2, 2, 9, False), (3, 2, 8, False)]
)
def test_an_average_pool_sends_back_the_same(kernel: int, stride: int, rows: int, resized: bool):
    plain, fast, ops = both(network("AveragePool", kernel, stride, 0, relu=True, rows=rows))
    np.testing.assert_allclose(fast, plain, rtol=1e-5, atol=1e-6)
    assert ("Resize" in ops) is resized
