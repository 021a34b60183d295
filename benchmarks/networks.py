"""Networks of well-known sizes, each written once and built in ONNX, torch and JAX.

A network is a function of a `Kit` and its input; a kit is a set of layers. The ONNX kit writes a
file, the others compute. Weights are random (He) and the same in every kit: what is timed does not
depend on them. Normalisation layers behind convolutions are folded into them, as exporters do.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Build = Callable[["Kit", Any], Any]


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        name: What reports call it.
        build: Its layers.
        shape: Of its input.
    """

    name: str
    build: Build
    shape: tuple[int, ...]

    def input(self) -> np.ndarray:
        """A standard-normal input."""
        return np.random.default_rng(1).standard_normal(self.shape).astype(np.float32)

    def file(self) -> bytes:
        """The network as an ONNX file, of input x."""
        kit = OnnxKit()
        return kit.finish(self.shape, self.build(kit, "x"))


class Kit:
    """Layers, and the weights that they take one after another."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._kept: list[Any] = []
        self._next = 0

    def restart(self) -> None:
        """Give the same weights again from the first on."""
        self._next = 0

    def weight(self, *shape: int, scale: float | None = None) -> Any:
        """The next weight: He's normal distribution by its fan-in, or of this spread."""
        if self._next == len(self._kept):
            fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
            spread = math.sqrt(2.0 / fan_in) if scale is None else scale
            array = (self._rng.standard_normal(shape) * spread).astype(np.float32)
            self._kept.append(self.take(array))
        self._next += 1
        return self._kept[self._next - 1]

    def take(self, array: np.ndarray) -> Any:
        """An array as the kit has weights."""
        raise NotImplementedError

    def linear(self, x: Any, m: int, n: int) -> Any:
        """x W + b over the last axis, from m to n."""
        raise NotImplementedError


class OnnxKit(Kit):
    """Writes the nodes of a file; values are their names."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def take(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        name = f"{op.lower()}_{len(self.nodes)}"
        names = [name, *(f"{name}_{k}" for k in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attrs))
        return name if outputs == 1 else names

    def number(self, x: float) -> str:
        return self.take(np.array(x, np.float32))

    def ints(self, *x: int) -> str:
        return self.take(np.array(x, np.int64))

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

    def linear(self, x: str, m: int, n: int) -> str:
        w = self.weight(m, n, scale=math.sqrt(2.0 / m))
        return self.node("Add", self.node("MatMul", x, w), self.weight(n, scale=0.01))

    def conv(self, x: str, m: int, n: int, k: int, stride: int = 1, group: int = 1) -> str:
        w, b = self.weight(n, m // group, k, k), self.weight(n, scale=0.01)
        how: dict[str, Any] = {"strides": [stride] * 2, "pads": [k // 2] * 4, "group": group}
        return self.node("Conv", x, w, b, kernel_shape=[k, k], **how)

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def relu6(self, x: str) -> str:
        return self.node("Clip", x, self.number(0.0), self.number(6.0))

    def gelu(self, x: str) -> str:
        erf = self.node("Erf", self.node("Div", x, self.number(math.sqrt(2.0))))
        both = self.node("Mul", x, self.node("Add", erf, self.number(1.0)))
        return self.node("Mul", both, self.number(0.5))

    def add(self, x: str, y: str) -> str:
        return self.node("Add", x, y)

    def max_pool(self, x: str, k: int, stride: int, pad: int) -> str:
        return self.node("MaxPool", x, kernel_shape=[k] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def mean_over_plane(self, x: str) -> str:
        return self.node("Flatten", self.node("GlobalAveragePool", x))

    def flatten(self, x: str) -> str:
        return self.node("Flatten", x)

    def layer_norm(self, x: str, n: int) -> str:
        return self.node(
            "LayerNormalization", x, self.weight(n, scale=1.0), self.weight(n), axis=-1
        )

    def attention(self, x: str, batch: int, t: int, d: int, heads: int) -> str:
        def split(y: str, perm: Sequence[int]) -> str:
            y = self.node("Reshape", y, self.ints(batch, t, heads, d // heads))
            return self.node("Transpose", y, perm=list(perm))

        q, k, v = (self.linear(x, d, d) for _ in range(3))
        scores = self.node("MatMul", split(q, (0, 2, 1, 3)), split(k, (0, 2, 3, 1)))
        scaled = self.node("Mul", scores, self.number(1.0 / math.sqrt(d // heads)))
        mixed = self.node("MatMul", self.node("Softmax", scaled, axis=-1), split(v, (0, 2, 1, 3)))
        joined = self.node("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.linear(self.node("Reshape", joined, self.ints(batch, t, d)), d, d)

    def lstm(self, x: str, m: int, n: int) -> str:
        """[T, B, m] to [T, B, n]; gates in ONNX's order."""
        w, r, b = self.weight(1, 4 * n, m), self.weight(1, 4 * n, n), self.weight(1, 8 * n)
        y, _, _ = self.node("LSTM", x, w, r, b, outputs=3, hidden_size=n)
        return self.node("Squeeze", y, self.ints(1))

    def last(self, x: str) -> str:
        return self.node("Gather", x, self.take(np.array(-1)), axis=0)


class TorchKit(Kit):
    """Computes with torch."""

    _lstm: list[Any] | None = None

    def take(self, array: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(array)

    def linear(self, x: Any, m: int, n: int) -> Any:
        w = self.weight(m, n, scale=math.sqrt(2.0 / m))
        return x @ w + self.weight(n, scale=0.01)

    def conv(self, x: Any, m: int, n: int, k: int, stride: int = 1, group: int = 1) -> Any:
        from torch.nn.functional import conv2d

        w, b = self.weight(n, m // group, k, k), self.weight(n, scale=0.01)
        return conv2d(x, w, b, stride, k // 2, 1, group)

    def relu(self, x: Any) -> Any:
        return x.relu()

    def relu6(self, x: Any) -> Any:
        return x.clamp(0.0, 6.0)

    def gelu(self, x: Any) -> Any:
        from torch.nn.functional import gelu

        return gelu(x)

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def max_pool(self, x: Any, k: int, stride: int, pad: int) -> Any:
        from torch.nn.functional import max_pool2d

        return max_pool2d(x, k, stride, pad)

    def mean_over_plane(self, x: Any) -> Any:
        return x.mean((2, 3))

    def flatten(self, x: Any) -> Any:
        return x.flatten(1)

    def layer_norm(self, x: Any, n: int) -> Any:
        from torch.nn.functional import layer_norm

        return layer_norm(x, (n,), self.weight(n, scale=1.0), self.weight(n))

    def attention(self, x: Any, batch: int, t: int, d: int, heads: int) -> Any:
        from torch.nn.functional import scaled_dot_product_attention

        def split(y: Any) -> Any:
            return y.reshape(batch, t, heads, d // heads).transpose(1, 2)

        q, k, v = (split(self.linear(x, d, d)) for _ in range(3))
        mixed = scaled_dot_product_attention(q, k, v)
        return self.linear(mixed.transpose(1, 2).reshape(batch, t, d), d, d)

    def lstm(self, x: Any, m: int, n: int) -> Any:
        import torch

        w, r, b = self.weight(1, 4 * n, m), self.weight(1, 4 * n, n), self.weight(1, 8 * n)
        if self._lstm is None:
            # ONNX orders the gates input, output, forget, cell; torch input, forget, cell, output.
            order = torch.cat([torch.arange(n) + k * n for k in (0, 2, 3, 1)])
            self._lstm = [w[0][order], r[0][order], b[0, : 4 * n][order], b[0, 4 * n :][order]]
        zero = x.new_zeros(1, x.shape[1], n)
        return torch.lstm(x, (zero, zero), self._lstm, True, 1, 0.0, False, False, False)[0]

    def last(self, x: Any) -> Any:
        return x[-1]


class JaxKit(Kit):
    """Computes with JAX; to be traced once."""

    def take(self, array: np.ndarray) -> Any:
        return array

    def linear(self, x: Any, m: int, n: int) -> Any:
        w = self.weight(m, n, scale=math.sqrt(2.0 / m))
        return x @ w + self.weight(n, scale=0.01)

    def conv(self, x: Any, m: int, n: int, k: int, stride: int = 1, group: int = 1) -> Any:
        from jax.lax import conv_general_dilated

        w, b = self.weight(n, m // group, k, k), self.weight(n, scale=0.01)
        pads = [(k // 2, k // 2)] * 2
        y = conv_general_dilated(x, w, (stride, stride), pads, feature_group_count=group)
        return y + b[:, None, None]

    def relu(self, x: Any) -> Any:
        from jax.nn import relu

        return relu(x)

    def relu6(self, x: Any) -> Any:
        from jax.nn import relu6

        return relu6(x)

    def gelu(self, x: Any) -> Any:
        from jax.nn import gelu

        return gelu(x, approximate=False)

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def max_pool(self, x: Any, k: int, stride: int, pad: int) -> Any:
        from jax import lax

        sizes, strides = (1, 1, k, k), (1, 1, stride, stride)
        pads = ((0, 0), (0, 0), (pad, pad), (pad, pad))
        return lax.reduce_window(x, -np.inf, lax.max, sizes, strides, pads)

    def mean_over_plane(self, x: Any) -> Any:
        return x.mean((2, 3))

    def flatten(self, x: Any) -> Any:
        return x.reshape(x.shape[0], -1)

    def layer_norm(self, x: Any, n: int) -> Any:
        import jax.numpy as jnp

        scale, bias = self.weight(n, scale=1.0), self.weight(n)
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale + bias

    def attention(self, x: Any, batch: int, t: int, d: int, heads: int) -> Any:
        import jax.numpy as jnp
        from jax.nn import softmax

        def split(y: Any) -> Any:
            return y.reshape(batch, t, heads, d // heads).transpose(0, 2, 1, 3)

        q, k, v = (split(self.linear(x, d, d)) for _ in range(3))
        weights = softmax(jnp.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(d // heads))
        mixed = jnp.einsum("bhqk,bhkd->bhqd", weights, v)
        return self.linear(mixed.transpose(0, 2, 1, 3).reshape(batch, t, d), d, d)

    def lstm(self, x: Any, m: int, n: int) -> Any:
        import jax.numpy as jnp
        from jax import lax
        from jax.nn import sigmoid

        w, r, b = self.weight(1, 4 * n, m)[0], self.weight(1, 4 * n, n)[0], self.weight(1, 8 * n)[0]

        def step(state: Any, gates_x: Any) -> Any:
            h, c = state
            i, o, f, g = jnp.split(gates_x + h @ r.T, 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
            h = sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[1], n), x.dtype)
        return lax.scan(step, (zero, zero), x @ w.T + (b[: 4 * n] + b[4 * n :]))[1]

    def last(self, x: Any) -> Any:
        return x[-1]


# ---- the networks -------------------------------------------------------------------------------


def mlp(batch: int) -> Network:
    """784-512-512-10 with ReLU."""
    sizes = (784, 512, 512, 10)

    def build(kit: Any, x: Any) -> Any:
        for k, (m, n) in enumerate(itertools.pairwise(sizes)):
            x = kit.linear(kit.relu(x) if k else x, m, n)
        return x

    return Network(f"MLP 784-512-512-10, batch {batch}", build, (batch, sizes[0]))


def lenet(batch: int) -> Network:
    """Two convolutions of 5 x 5 with pools, and three dense layers, on 28 x 28."""

    def build(kit: Any, x: Any) -> Any:
        x = kit.max_pool(kit.relu(kit.conv(x, 1, 6, 5)), 2, 2, 0)
        x = kit.max_pool(kit.relu(kit.conv(x, 6, 16, 5)), 2, 2, 0)
        x = kit.relu(kit.linear(kit.flatten(x), 784, 120))
        return kit.linear(kit.relu(kit.linear(x, 120, 84)), 84, 10)

    return Network(f"LeNet, batch {batch}", build, (batch, 1, 28, 28))


def resnet18(batch: int, size: int = 224) -> Network:
    """ResNet-18 (He et al. 2015)."""

    def build(kit: Any, x: Any) -> Any:
        x = kit.max_pool(kit.relu(kit.conv(x, 3, 64, 7, 2)), 3, 2, 1)
        m = 64
        for stage, n in enumerate((64, 128, 256, 512)):
            for block in range(2):
                stride = 2 if stage and not block else 1
                y = kit.conv(kit.relu(kit.conv(x, m, n, 3, stride)), n, n, 3)
                x = kit.relu(kit.add(y, x if m == n else kit.conv(x, m, n, 1, stride)))
                m = n
        return kit.linear(kit.mean_over_plane(x), 512, 1000)

    return Network(f"ResNet-18, batch {batch}", build, (batch, 3, size, size))


def mobilenet_v2(batch: int, size: int = 224) -> Network:
    """MobileNetV2 of width 1 (Sandler et al. 2018)."""
    stages = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def build(kit: Any, x: Any) -> Any:
        x = kit.relu6(kit.conv(x, 3, 32, 3, 2))
        m = 32
        for expansion, n, repeats, first in stages:
            for k in range(repeats):
                stride, wide = first if k == 0 else 1, expansion * m
                y = kit.relu6(kit.conv(x, m, wide, 1)) if expansion > 1 else x
                y = kit.relu6(kit.conv(y, wide, wide, 3, stride, wide))
                y = kit.conv(y, wide, n, 1)
                x = kit.add(x, y) if stride == 1 and m == n else y
                m = n
        x = kit.mean_over_plane(kit.relu6(kit.conv(x, m, 1280, 1)))
        return kit.linear(x, 1280, 1000)

    return Network(f"MobileNetV2, batch {batch}", build, (batch, 3, size, size))


def encoder(batch: int, layers: int = 4, d: int = 256, t: int = 64, heads: int = 4) -> Network:
    """A transformer encoder, normalised after each sum (Vaswani et al. 2017), with Gelu."""

    def build(kit: Any, x: Any) -> Any:
        for _ in range(layers):
            x = kit.layer_norm(kit.add(x, kit.attention(x, batch, t, d, heads)), d)
            y = kit.linear(kit.gelu(kit.linear(x, d, 4 * d)), 4 * d, d)
            x = kit.layer_norm(kit.add(x, y), d)
        return x

    return Network(f"encoder {layers} x {d}, {t} tokens, batch {batch}", build, (batch, t, d))


def lstm(batch: int, t: int = 64, m: int = 64, n: int = 128) -> Network:
    """One LSTM over a sequence, and a dense layer on its last state."""

    def build(kit: Any, x: Any) -> Any:
        return kit.linear(kit.last(kit.lstm(x, m, n)), n, 10)

    return Network(f"LSTM {m}-{n}, {t} steps, batch {batch}", build, (t, batch, m))


ALL: tuple[Network, ...] = tuple(
    make(batch)
    for make, batches in (
        (mlp, (1, 32)),
        (lenet, (1, 32)),
        (resnet18, (1, 8)),
        (mobilenet_v2, (1, 8)),
        (encoder, (1, 8)),
        (lstm, (1, 32)),
    )
    for batch in batches
)
