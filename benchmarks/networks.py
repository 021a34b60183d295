"""Networks of well-known sizes, as an ONNX file and as the same function in torch.

Weights are random (He), inputs are standard normal; what is timed does not depend on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Network:
    """One network in two forms.

    Attributes:
        name: What reports call it.
        model: The ONNX file's bytes.
        inputs: An array by input name.
        torch: The same function of torch tensors, in the order of `inputs`.
    """

    name: str
    model: bytes
    inputs: dict[str, np.ndarray]
    torch: Callable[..., Any]


class _File:
    """Collects nodes and weights of one ONNX file."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def node(self, op: str, *inputs: str, **attrs: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        name = f"w{len(self.weights)}"
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        spread = np.sqrt(2.0 / fan_in) if scale is None else scale
        self.weights[name] = (self.rng.standard_normal(shape) * spread).astype(np.float32)
        return name

    def finish(self, x: tuple[int, ...], output: str) -> bytes:
        graph = helper.make_graph(
            self.nodes,
            "benchmark",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            [numpy_helper.from_array(w, n) for n, w in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return model.SerializeToString()


def mlp(batch: int) -> Network:
    """784-512-512-10 with ReLU."""
    file = _File()
    sizes = (784, 512, 512, 10)
    h = "x"
    layers = []
    for k, (m, n) in enumerate(itertools.pairwise(sizes)):
        w, b = file.weight(n, m), file.weight(n, scale=0.01)
        layers.append((w, b))
        h = file.node("Gemm", h, w, b, transB=1)
        h = file.node("Relu", h) if k < len(sizes) - 2 else h

    def run(x: Any) -> Any:
        import torch
        from torch.nn.functional import linear

        for k, (w, b) in enumerate(layers):
            x = linear(x, tensors[w], tensors[b])
            x = torch.relu(x) if k < len(layers) - 1 else x
        return x

    tensors = _Tensors(file.weights)
    x = file.rng.standard_normal((batch, sizes[0])).astype(np.float32)
    return Network(f"MLP 784-512-512-10, batch {batch}", file.finish(x.shape, h), {"x": x}, run)


def resnet18(batch: int, size: int = 224) -> Network:
    """ResNet-18: convolutions with their normalisation folded in, pools, additions and head."""
    file = _File()
    steps: list[tuple[Any, ...]] = []

    def conv(h: str, cin: int, cout: int, k: int, stride: int) -> tuple[str, str, str]:
        w, b = file.weight(cout, cin, k, k), file.weight(cout, scale=0.01)
        pad = k // 2
        out = file.node("Conv", h, w, b, strides=[stride] * 2, pads=[pad] * 4, kernel_shape=[k, k])
        return out, w, b

    h, w0, b0 = conv("x", 3, 64, 7, 2)
    h = file.node("Relu", h)
    h = file.node("MaxPool", h, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, out in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            skip, down = h, None
            y, w1, b1 = conv(h, channels, out, 3, stride)
            y = file.node("Relu", y)
            y, w2, b2 = conv(y, out, out, 3, 1)
            if stride != 1 or channels != out:
                skip, wd, bd = conv(h, channels, out, 1, stride)
                down = (wd, bd)
            h = file.node("Relu", file.node("Add", y, skip))
            steps.append((w1, b1, w2, b2, down, stride))
            channels = out
    h = file.node("GlobalAveragePool", h)
    h = file.node("Flatten", h)
    wf, bf = file.weight(1000, 512), file.weight(1000, scale=0.01)
    h = file.node("Gemm", h, wf, bf, transB=1)
    t = _Tensors(file.weights)

    def run(x: Any) -> Any:
        from torch.nn.functional import adaptive_avg_pool2d, conv2d, linear, max_pool2d, relu

        y = max_pool2d(relu(conv2d(x, t[w0], t[b0], 2, 3)), 3, 2, 1)
        for w1, b1, w2, b2, down, stride in steps:
            skip = y if down is None else conv2d(y, t[down[0]], t[down[1]], stride)
            y = relu(conv2d(relu(conv2d(y, t[w1], t[b1], stride, 1)), t[w2], t[b2], 1, 1) + skip)
        return linear(adaptive_avg_pool2d(y, 1).flatten(1), t[wf], t[bf])

    x = file.rng.standard_normal((batch, 3, size, size)).astype(np.float32)
    return Network(f"ResNet-18, batch {batch}", file.finish(x.shape, h), {"x": x}, run)


class _Tensors(dict[str, Any]):
    """Weights as torch tensors, converted when first used."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        self._arrays = arrays

    def __missing__(self, name: str) -> Any:
        import torch

        self[name] = torch.from_numpy(self._arrays[name])
        return self[name]
