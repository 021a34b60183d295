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


WINDOWS = [  # kernel, strides, pads, size of the operand, ceil_mode
    ((3, 3), 2, (1, 1, 1, 1), (8, 12), 0),
    ((3, 3), 2, (1, 1, 0, 0), (8, 12), 0),
    ((3, 3), 2, (0, 0, 1, 1), (8, 12), 0),
    ((3, 3), 2, (0, 0, 0, 0), (8, 12), 1),
    ((3, 3), 1, (1, 1, 1, 1), (7, 6), 0),
    ((3, 2), 1, (1, 0, 1, 1), (7, 6), 0),
    ((2, 2), 1, (1, 1, 0, 0), (7, 6), 0),
    ((1, 3), 1, (0, 1, 0, 1), (7, 6), 0),
]


@pytest.mark.parametrize(("kernel", "stride", "pads", "size", "ceil"), WINDOWS)
def test_overlapping_windows_behind_a_relu_send_back_exactly_the_same(
    kernel: tuple[int, int], stride: int, pads: tuple[int, ...], size: tuple[int, int], ceil: int
):
    """Numbers are small and whole: sums are exact, and the first of equal elements has all."""
    b = Builder(OPS)
    x = b.op("Relu", b.input("x", DType.FLOAT32, (2, 16, *size)))
    how = {"kernel_shape": kernel, "strides": (stride,) * 2, "pads": pads, "ceil_mode": ceil}
    d = vjp(b.graph([b.op("MaxPool", x, name="y", **how)]))
    plain = simplify(d.graph)
    fast = tune(plain, cpu_threads=1)
    assert not {"ScatterElements", "Where"} & {node.op for node in fast.nodes}
    assert all(len(node.outputs) == 1 for node in fast.nodes if node.op == "MaxPool")
    rng = np.random.default_rng(0)
    feeds = {}
    for v in d.graph.inputs:
        shape = [int(n) for n in v.shape or ()]
        feeds[v.name] = rng.integers(-3, 4, shape).astype(np.float32)
    want, got = (runtime.prepare(g).run(feeds)[d.results["x"]] for g in (plain, fast))
    np.testing.assert_array_equal(got, want)
    assert np.any(want)


def test_places_that_are_read_stay():
    b = Builder(OPS)
    x = b.input("x", DType.FLOAT32, (1, 16, 4, 4))
    y, places = b.ops("MaxPool", b.op("Relu", x), outputs=2, kernel_shape=(2, 2))
    z = y + b.cast(places, y.dtype)
    fast = tune(simplify(vjp(b.graph([b.rename(z, "z")])).graph), cpu_threads=1)
    (pool,) = (node for node in fast.nodes if node.op == "MaxPool")
    assert len(pool.outputs) == 2


@pytest.mark.parametrize(
    ("kernel", "pad", "channels", "cpu_threads", "expected"),
    [
        (3, 1, 16, 1, True),
        (3, 1, 16, None, False),  # only onnxruntime's CPU provider has the fused convolution
        (3, 1, 12, 1, False),  # not a whole number of blocks
        (5, 2, 16, 1, False),  # many places
        (3, 0, 16, 1, False),  # not a whole number of strides
    ],
)
def test_windows_are_taken_apart_only_where_it_pays(
    kernel: int, pad: int, channels: int, cpu_threads: int | None, expected: bool
):
    b = Builder(OPS)
    x = b.op("Relu", b.input("x", DType.FLOAT32, (2, channels, 8, 8)))
    how = {"kernel_shape": (kernel,) * 2, "strides": (2, 2), "pads": (pad,) * 4}
    d = vjp(b.graph([b.op("MaxPool", x, name="y", **how)]))
    ops = {node.op for node in tune(simplify(d.graph), cpu_threads=cpu_threads).nodes}
    assert ("FusedConv" in ops) is expected
    assert ("ScatterElements" in ops) is not expected


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
