"""Train the sample models and write them as small, readable ONNX files.

Every model is trained on data that ships inside scikit-learn, or on a physical law, so nothing is
downloaded. The graphs are written node by node from the trained weights, which keeps value names
meaningful, and each written file is checked against the network it came from.

Usage:
    python sample_models/make.py [--out DIR] [--only NAME]
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

try:
    import sklearn
    import torch
    from sklearn import datasets
    from torch import Tensor, nn
    from torch.nn import functional
except ImportError as error:
    raise SystemExit(
        f"make.py trains the sample models and needs '{error.name}', which gradcli itself does "
        'not use.\nInstall it with:  pip install "gradcli[samples]"'
    ) from error

SEED = 20
BATCH = "N"
IR_VERSION = 8
PRODUCER = "gradcli-samples"
HELD_OUT_SHARE = 0.2
FLOAT32_TOLERANCE = 1e-4
SKLEARN_LICENCE = "scikit-learn, BSD-3-Clause"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Facts:
    """What a reader should know about one model; stored as metadata in its file.

    Attributes:
        what: One phrase saying what the network computes.
        data: Where the training data come from, with package and licence.
        training: How it was trained.
        sample: Which point the input file holds.
        accuracy: What the written file reaches on data it was not trained on.
    """

    what: str
    data: str
    training: str
    sample: str
    accuracy: str


@dataclass(frozen=True)
class Sample:
    """A finished model and the input committed beside it.

    Attributes:
        model: The ONNX model.
        inputs: One array for each graph input, by name.
        facts: The provenance of the model.
    """

    model: onnx.ModelProto
    inputs: dict[str, Array]
    facts: Facts


@dataclass(frozen=True)
class Split:
    """Training and held-out rows of one data set."""

    train_x: NDArray[np.float64]
    train_y: NDArray[np.float64]
    test_x: NDArray[np.float64]
    test_y: NDArray[np.float64]


class GraphWriter:
    """Collects nodes and weights of one graph, each under a name chosen by the caller."""

    def __init__(self, name: str, opset: int) -> None:
        self._name = name
        self._opset = opset
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, *shape: int) -> str:
        """Declare a float32 input whose first dimension is the free batch size."""
        self._inputs.append(_value(name, shape))
        return name

    def weight(self, name: str, value: Tensor | ArrayLike) -> str:
        """Store a float32 constant and return its name."""
        data = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        self._weights.append(numpy_helper.from_array(data.astype(np.float32), name))
        return name

    def shape(self, name: str, value: Sequence[int]) -> str:
        """Store an int64 constant (a shape or a list of axes) and return its name."""
        self._weights.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
        return name

    def node(self, op: str, output: str, *inputs: str, **attributes: Any) -> str:
        """Append a node named after its only output and return that name."""
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def gemm(self, output: str, value: str, layer: nn.Linear) -> str:
        """Append a linear layer on rows, keeping the trained [out, in] weight layout."""
        weight = self.weight(f"{output}.weight", layer.weight)
        bias = self.weight(f"{output}.bias", layer.bias)
        return self.node("Gemm", output, value, weight, bias, transB=1)

    def matmul(self, output: str, value: str, layer: nn.Linear) -> str:
        """Append a linear layer on the last axis of a token sequence."""
        weight = self.weight(f"{output}.weight", layer.weight.T)
        bias = self.weight(f"{output}.bias", layer.bias)
        product = self.node("MatMul", f"{output}.product", value, weight)
        return self.node("Add", output, product, bias)

    def conv(self, output: str, value: str, layer: nn.Conv2d) -> str:
        """Append a 3x3 convolution that keeps the image size."""
        weight = self.weight(f"{output}.weight", layer.weight)
        bias = self.weight(f"{output}.bias", layer.bias)
        return self.node(
            "Conv", output, value, weight, bias, kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )

    def lstm(self, output: str, value: str, *weights: str, **attributes: Any) -> str:
        """Append an LSTM over [steps, batch, features] of which only the last states are read."""
        results = ["", output]
        self._nodes.append(
            helper.make_node("LSTM", [value, *weights], results, name=output, **attributes)
        )
        return output

    def finish(self, output: str, *shape: int) -> onnx.ModelProto:
        """Close the graph with one float32 output and return the checked model."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, [_value(output, shape)], self._weights
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self._opset)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])


def split(x: ArrayLike, y: ArrayLike) -> Split:
    """Shuffle the rows with a fixed seed and hold out the last share of them."""
    rows, targets = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    order = np.random.default_rng(SEED).permutation(len(rows))
    cut = len(rows) - round(HELD_OUT_SHARE * len(rows))
    train, test = order[:cut], order[cut:]
    return Split(rows[train], targets[train], rows[test], targets[test])


def digits_split(*shape: int) -> Split:
    """Return the bundled digits, pixels 0..16, each image reshaped to `shape`."""
    data = datasets.load_digits()
    return split(data.data.reshape(-1, *shape), data.target)


def tensor(value: ArrayLike, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Copy an array into a tensor."""
    return torch.tensor(np.asarray(value), dtype=dtype)


def batches(count: int, size: int, epochs: int) -> Iterator[Tensor]:
    """Yield index batches of shuffled epochs from a generator with a fixed seed."""
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(epochs):
        yield from torch.randperm(count, generator=generator).split(size)


def fit(
    net: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    batch: int,
    rate: float,
    decay: float,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Train with AdamW under a cosine schedule.

    Args:
        net: The network, trained in place.
        loss_of: Loss of a prediction and a target.
        x: Inputs, one row a sample.
        y: Targets.
        epochs: Passes over the data.
        batch: Rows in a step.
        rate: Learning rate at the start.
        decay: Weight decay.
        after_step: Called after each step, for constraints on the weights.
    """
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
    steps = epochs * math.ceil(len(x) / batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for rows in batches(len(x), batch, epochs):
        optimizer.zero_grad()
        loss_of(net(x[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
        after_step()


def linear(net: nn.Sequential, index: int) -> nn.Linear:
    """Return a layer of a network, known to be linear."""
    layer = net[index]
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"layer {index} is a {type(layer).__name__}")
    return layer


def run(model: onnx.ModelProto, inputs: Mapping[str, ArrayLike]) -> Array:
    """Evaluate a model with one output in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {name: float32(value) for name, value in inputs.items()})[0]


def float32(value: ArrayLike) -> Array:
    """Return a contiguous float32 copy."""
    return np.ascontiguousarray(value).astype(np.float32)


def check_same(model: onnx.ModelProto, inputs: Mapping[str, ArrayLike], expected: Tensor) -> None:
    """Fail unless the written graph computes what the trained network computes."""
    got, want = run(model, inputs), expected.detach().numpy()
    scale = max(1.0, float(np.abs(want).max()))
    error = float(np.abs(got - want).max()) / scale
    if not error < FLOAT32_TOLERANCE:
        raise RuntimeError(f"{model.graph.name}: graph and network differ by {error:.2e}")


def hits(logits: Array, labels: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows are classified correctly."""
    return logits.argmax(axis=1) == labels


def share_right(logits: Array, labels: NDArray[np.float64]) -> str:
    """Word the accuracy on held-out rows."""
    right = hits(logits, labels)
    return f"{100 * right.mean():.1f}% of {len(right)} held-out rows right"


def r_squared(predicted: ArrayLike, wanted: NDArray[np.float64]) -> float:
    """Return the share of the variance that a prediction explains."""
    error = np.asarray(predicted, dtype=np.float64) - wanted
    return 1 - float((error**2).mean() / wanted.var())


def linear_regression(parts: Split) -> NDArray[np.float64]:
    """Predict the held-out rows by least squares, as a yardstick."""
    train, test = (np.column_stack((x, np.ones(len(x)))) for x in (parts.train_x, parts.test_x))
    return test @ np.linalg.lstsq(train, parts.train_y, rcond=None)[0]


def make_diabetes() -> Sample:
    """Regress disease progression from ten raw clinical measurements; smooth everywhere."""
    data = datasets.load_diabetes(scaled=False)
    parts = split(data.data, data.target)
    mean, std = parts.train_x.mean(0), parts.train_x.std(0)
    centre, spread = float(parts.train_y.mean()), float(parts.train_y.std())
    net = nn.Sequential(
        nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 8), nn.Softplus(), nn.Linear(8, 1)
    )
    scaled_x = tensor((parts.train_x - mean) / std)
    scaled_y = tensor((parts.train_y - centre) / spread)[:, None]
    fit(net, functional.mse_loss, scaled_x, scaled_y, epochs=40, batch=32, rate=3e-3, decay=0.3)

    graph = GraphWriter("diabetes", opset=13)
    row = graph.input("patient", 10)
    centred = graph.node("Sub", "centred", row, graph.weight("feature_mean", mean))
    value = graph.node("Div", "standardised", centred, graph.weight("feature_std", std))
    value = graph.node("Tanh", "hidden1", graph.gemm("linear1", value, linear(net, 0)))
    value = graph.node("Softplus", "hidden2", graph.gemm("linear2", value, linear(net, 2)))
    value = graph.gemm("score", value, linear(net, 4))
    value = graph.node("Mul", "scaled_score", value, graph.weight("target_std", [spread]))
    value = graph.node("Add", "progression", value, graph.weight("target_mean", [centre]))
    model = graph.finish(value, 1)

    check_same(model, {row: parts.train_x}, net(scaled_x) * spread + centre)
    predicted = run(model, {row: parts.test_x})[:, 0]
    plain = linear_regression(parts)
    facts = Facts(
        what="10-16-8-1 MLP (tanh, softplus): raw clinical measurements to disease progression; "
        "standardisation inside the graph",
        data=f"load_diabetes(scaled=False), 442 patients ({SKLEARN_LICENCE})",
        training="AdamW, 40 epochs, mean squared error, 80/20 split",
        sample="first held-out patient",
        accuracy=f"R² {r_squared(predicted, parts.test_y):.3f} on {len(predicted)} held-out rows "
        f"(linear regression: {r_squared(plain, parts.test_y):.3f})",
    )
    return Sample(model, {row: float32(parts.test_x[:1])}, facts)


class DigitsNet(nn.Module):
    """Two convolutions with max pooling, for 8x8 images with pixels 0..16."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.head = nn.Linear(64, 10)

    def stages(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return both pre-activations and the logits."""
        first = self.conv1(image / 16)
        second = self.conv2(functional.max_pool2d(torch.relu(first), 2))
        pooled = functional.max_pool2d(torch.relu(second), 2)
        return first, second, self.head(pooled.flatten(1))

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        return self.stages(image)[2]

    def keep_background_silent(self) -> None:
        """Hold the convolution biases below zero.

        A black patch makes a convolution return its bias. A positive one would pass the ReLU and
        leave equal candidates in every pooling window over the background: a tie, hence a kink, in
        every image. A negative one is cut by the ReLU with slope zero.
        """
        with torch.no_grad():
            self.conv1.bias.clamp_(max=-0.02)
            self.conv2.bias.clamp_(max=-0.02)

    def kink_distance(self, image: Tensor) -> Tensor:
        """Return, for each image, the least gap to a ReLU or pooling switch."""
        first, second, _ = self.stages(image)
        gaps = [gap for stage in (first, second) for gap in (stage.abs(), _pool_gap(stage))]
        return torch.stack([gap.flatten(1).amin(1) for gap in gaps]).amin(0)


def _pool_gap(stage: Tensor) -> Tensor:
    """Return how far the winner of each 2x2 window leads, infinite where ReLU silences it."""
    windows = torch.relu(stage).unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    best = windows.topk(2, dim=-1).values
    silent = torch.full_like(best[..., 0], math.inf)
    return torch.where(best[..., 0] > 0, best[..., 0] - best[..., 1], silent)


def make_digits() -> Sample:
    """Classify hand-written digits with a small convolutional network."""
    parts = digits_split(1, 8, 8)
    net = DigitsNet()
    images, labels = tensor(parts.train_x), tensor(parts.train_y, dtype=torch.long)
    fit(
        net, functional.cross_entropy, images, labels,
        epochs=40, batch=32, rate=5e-3, decay=1e-2, after_step=net.keep_background_silent,
    )  # fmt: skip

    graph = GraphWriter("digits", opset=13)
    image = graph.input("image", 1, 8, 8)
    value = graph.node("Div", "scaled", image, graph.weight("pixel_max", 16.0))
    for index, layer in enumerate((net.conv1, net.conv2), start=1):
        value = graph.node("Relu", f"hidden{index}", graph.conv(f"conv{index}", value, layer))
        value = graph.node("MaxPool", f"pool{index}", value, kernel_shape=[2, 2], strides=[2, 2])
    value = graph.gemm("logits", graph.node("Flatten", "features", value, axis=1), net.head)
    model = graph.finish(value, 10)

    check_same(model, {image: parts.train_x}, net(images))
    logits = run(model, {image: parts.test_x})
    with torch.no_grad():
        distance = net.kink_distance(tensor(parts.test_x)).numpy()
    chosen = int(np.where(hits(logits, parts.test_y), distance, -1.0).argmax())
    facts = Facts(
        what="CNN with two 3x3 convolutions (8 and 16 channels): 8x8 image, pixels 0..16, "
        "to 10 class logits",
        data=f"load_digits(), 1797 images ({SKLEARN_LICENCE})",
        training="AdamW, 40 epochs, cross entropy, convolution biases kept below zero, 80/20 split",
        sample=f"the held-out digit furthest from any ReLU or pooling switch, "
        f"a {int(parts.test_y[chosen])}",
        accuracy=share_right(logits, parts.test_y),
    )
    return Sample(model, {image: float32(parts.test_x[chosen : chosen + 1])}, facts)


class Block(nn.Module):
    """One pre-norm encoder block: self-attention, then a GELU MLP, both with a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.mix = nn.Linear(width, width), nn.Linear(width, width)
        self.expand, self.shrink = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def split_heads(self, tokens: Tensor) -> Tensor:
        """Turn [N, tokens, width] into [N, heads, tokens, depth]."""
        return tokens.unflatten(2, (self.heads, self.depth)).transpose(1, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens after attention and MLP."""
        normed = self.norm1(tokens)
        layers = (self.query, self.key, self.value)
        query, key, value = (self.split_heads(layer(normed)) for layer in layers)
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(self.depth), dim=-1)
        tokens = tokens + self.mix((weights @ value).transpose(1, 2).flatten(2))
        hidden = functional.gelu(self.expand(self.norm2(tokens)))
        return tokens + self.shrink(hidden)


class AttentionNet(nn.Module):
    """An encoder that reads an 8x8 digit as eight tokens, one a pixel row."""

    def __init__(self, width: int = 16, heads: int = 2, blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        self.blocks = [Block(width, heads) for _ in range(blocks)]
        # torch finds the parameters of a plain list only when it is registered too.
        self.registered = nn.ModuleList(self.blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits."""
        tokens = self.embed(rows / 16) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens).mean(1))


def write_norm(graph: GraphWriter, output: str, value: str, layer: nn.LayerNorm) -> str:
    """Append a layer normalisation over the last axis."""
    scale = graph.weight(f"{output}.scale", layer.weight)
    bias = graph.weight(f"{output}.bias", layer.bias)
    return graph.node("LayerNormalization", output, value, scale, bias, axis=-1, epsilon=layer.eps)


def write_attention(graph: GraphWriter, prefix: str, tokens: str, block: Block) -> str:
    """Append the self-attention half of a block, without its residual."""

    def heads_of(name: str, layer: nn.Linear, order: Sequence[int]) -> str:
        value = graph.matmul(f"{prefix}.{name}", normed, layer)
        parts = graph.node("Reshape", f"{prefix}.{name}.heads", value, "split_heads")
        return graph.node("Transpose", f"{prefix}.{name}.by_head", parts, perm=list(order))

    normed = write_norm(graph, f"{prefix}.norm1", tokens, block.norm1)
    query = heads_of("query", block.query, (0, 2, 1, 3))
    key = heads_of("key", block.key, (0, 2, 3, 1))
    value = heads_of("value", block.value, (0, 2, 1, 3))
    product = graph.node("MatMul", f"{prefix}.product", query, key)
    scores = graph.node("Mul", f"{prefix}.scores", product, "score_scale")
    weights = graph.node("Softmax", f"{prefix}.weights", scores, axis=-1)
    context = graph.node("MatMul", f"{prefix}.context.by_head", weights, value)
    context = graph.node("Transpose", f"{prefix}.context.heads", context, perm=[0, 2, 1, 3])
    context = graph.node("Reshape", f"{prefix}.context", context, "merge_heads")
    return graph.matmul(f"{prefix}.mix", context, block.mix)


def write_gelu(graph: GraphWriter, output: str, value: str) -> str:
    """Append the exact GELU, x * (1 + erf(x / sqrt 2)) / 2, in elementary operators."""
    ratio = graph.node("Div", f"{output}.ratio", value, "sqrt_two")
    erf = graph.node("Erf", f"{output}.erf", ratio)
    gate = graph.node("Add", f"{output}.gate", erf, "one")
    return graph.node("Mul", output, graph.node("Mul", f"{output}.gated", value, gate), "one_half")


def write_block(graph: GraphWriter, prefix: str, tokens: str, block: Block) -> str:
    """Append one encoder block."""
    attended = write_attention(graph, prefix, tokens, block)
    tokens = graph.node("Add", f"{prefix}.attended", tokens, attended)
    normed = write_norm(graph, f"{prefix}.norm2", tokens, block.norm2)
    expanded = graph.matmul(f"{prefix}.expand", normed, block.expand)
    hidden = write_gelu(graph, f"{prefix}.gelu", expanded)
    shrunk = graph.matmul(f"{prefix}.shrink", hidden, block.shrink)
    return graph.node("Add", prefix, tokens, shrunk)


def write_attention_net(net: AttentionNet) -> onnx.ModelProto:
    """Write the whole encoder, with the constants its blocks share."""
    block = net.blocks[0]
    # ReduceMean takes its axes as an input only from opset 18 on.
    graph = GraphWriter("attention", opset=18)
    rows = graph.input("rows", 8, 8)
    graph.shape("split_heads", [0, 8, block.heads, block.depth])
    graph.shape("merge_heads", [0, 8, block.heads * block.depth])
    graph.weight("score_scale", 1 / math.sqrt(block.depth))
    graph.weight("sqrt_two", math.sqrt(2))
    graph.weight("one", 1.0)
    graph.weight("one_half", 0.5)
    value = graph.node("Div", "scaled", rows, graph.weight("pixel_max", 16.0))
    value = graph.matmul("embedded", value, net.embed)
    value = graph.node("Add", "tokens", value, graph.weight("position", net.position))
    for index, layer in enumerate(net.blocks, start=1):
        value = write_block(graph, f"block{index}", value, layer)
    value = write_norm(graph, "normed", value, net.norm)
    value = graph.node("ReduceMean", "pooled", value, graph.shape("token_axis", [1]), keepdims=0)
    return graph.finish(graph.gemm("logits", value, net.head), 10)


def make_attention() -> Sample:
    """Classify digits read as a sequence of pixel rows with a self-attention encoder."""
    parts = digits_split(8, 8)
    net = AttentionNet()
    rows, labels = tensor(parts.train_x), tensor(parts.train_y, dtype=torch.long)
    fit(
        net, functional.cross_entropy, rows, labels,
        epochs=60, batch=32, rate=5e-3, decay=5e-2,
    )  # fmt: skip
    model = write_attention_net(net)

    check_same(model, {"rows": parts.train_x}, net(rows))
    logits = run(model, {"rows": parts.test_x})
    chosen = int(hits(logits, parts.test_y).argmax())
    facts = Facts(
        what="self-attention encoder, 2 pre-norm blocks, width 16, 2 heads, GELU MLP: 8 pixel "
        "rows of a digit as tokens to 10 class logits",
        data=f"load_digits(), 1797 images ({SKLEARN_LICENCE})",
        training="AdamW, 60 epochs, cross entropy, 80/20 split",
        sample=f"first held-out digit classified correctly, a {int(parts.test_y[chosen])}",
        accuracy=share_right(logits, parts.test_y),
    )
    return Sample(model, {"rows": float32(parts.test_x[chosen : chosen + 1])}, facts)


class SequenceNet(nn.Module):
    """A bidirectional LSTM that reads an 8x8 digit pixel row by pixel row."""

    def __init__(self, hidden: int = 12) -> None:
        super().__init__()
        self.hidden = hidden
        self.lstm = nn.LSTM(8, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 10)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the logits, from the last state of either direction."""
        _, (last, _) = self.lstm(rows / 16)
        return self.head(last.transpose(0, 1).flatten(1))


def lstm_gates(value: Tensor) -> Tensor:
    """Reorder the gates from torch (input, forget, cell, output) to ONNX (i, o, f, c)."""
    i, f, c, o = value.chunk(4)
    return torch.cat((i, o, f, c))


def lstm_weights(layer: nn.LSTM, stem: str) -> Tensor:
    """Stack a weight of both directions."""
    names = (f"{stem}_l0", f"{stem}_l0_reverse")
    return torch.stack([lstm_gates(getattr(layer, name)) for name in names])


def make_sequence() -> Sample:
    """Classify digits read as a sequence of pixel rows, with recurrence in both directions."""
    parts = digits_split(8, 8)
    net = SequenceNet()
    rows, labels = tensor(parts.train_x), tensor(parts.train_y, dtype=torch.long)
    fit(
        net, functional.cross_entropy, rows, labels,
        epochs=40, batch=32, rate=1e-2, decay=1e-2,
    )  # fmt: skip

    graph = GraphWriter("sequence", opset=14)
    pixels = graph.input("rows", 8, 8)
    value = graph.node("Div", "scaled", pixels, graph.weight("pixel_max", 16.0))
    value = graph.node("Transpose", "steps", value, perm=[1, 0, 2])
    biases = [lstm_weights(net.lstm, f"bias_{k}") for k in ("ih", "hh")]
    value = graph.lstm(
        "states",
        value,
        graph.weight("lstm.W", lstm_weights(net.lstm, "weight_ih")),
        graph.weight("lstm.R", lstm_weights(net.lstm, "weight_hh")),
        graph.weight("lstm.B", torch.cat(biases, 1)),
        hidden_size=net.hidden,
        direction="bidirectional",
    )
    value = graph.node("Transpose", "by_sample", value, perm=[1, 0, 2])
    value = graph.node("Flatten", "features", value, axis=1)
    model = graph.finish(graph.gemm("logits", value, net.head), 10)

    check_same(model, {pixels: parts.train_x}, net(rows))
    logits = run(model, {pixels: parts.test_x})
    chosen = int(hits(logits, parts.test_y).argmax())
    facts = Facts(
        what="bidirectional LSTM, 12 units each way: 8 pixel rows of a digit as a sequence to "
        "10 class logits",
        data=f"load_digits(), 1797 images ({SKLEARN_LICENCE})",
        training="AdamW, 40 epochs, cross entropy, 80/20 split",
        sample=f"first held-out digit classified correctly, a {int(parts.test_y[chosen])}",
        accuracy=share_right(logits, parts.test_y),
    )
    return Sample(model, {pixels: float32(parts.test_x[chosen : chosen + 1])}, facts)


DIFFUSIVITY = 0.1
PHYSICS_UNITS = 6
PHYSICS_DECIMALS = 3
# Slopes are larger than values and would otherwise outweigh them.
VALUE_WEIGHT = 3.0
# Large weights that cancel each other would not survive rounding.
WEIGHT_PENALTY = 1e-6


def heat(x: Tensor, t: Tensor) -> Tensor:
    """Return u with u_t = DIFFUSIVITY * u_xx, u(x, 0) = sin(pi x), u = 0 at both ends."""
    return torch.exp(-DIFFUSIVITY * math.pi**2 * t) * torch.sin(math.pi * x)


def value_and_slopes(function: Callable[[Tensor, Tensor], Tensor], points: Tensor) -> Tensor:
    """Return u, u_x and u_t side by side at each (x, t) row."""
    x = points[:, :1].clone().requires_grad_()
    t = points[:, 1:].clone().requires_grad_()
    u = function(x, t)
    slopes = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    return torch.cat((u, *slopes), dim=1)


def grid(steps: int, margin: float) -> Tensor:
    """Return the points of a square grid on [margin, 1 - margin] in x and t."""
    line = torch.linspace(margin, 1 - margin, steps, dtype=torch.float64)
    return torch.cartesian_prod(line, line)


def fit_heat(net: nn.Sequential) -> None:
    """Fit value and slopes to the law, so that the derivatives mean something too."""
    points = grid(17, 0.0)
    wanted = value_and_slopes(heat, points).detach()
    importance = torch.tensor([VALUE_WEIGHT, 1.0, 1.0], dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        net.parameters(), max_iter=3000, max_eval=6000, tolerance_change=1e-12,
        tolerance_grad=1e-9, history_size=30, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        got = value_and_slopes(lambda x, t: net(torch.cat((x, t), dim=1)), points)
        penalty = sum(parameter.square().sum() for parameter in net.parameters())
        loss = ((got - wanted) * importance).square().mean() + WEIGHT_PENALTY * penalty
        loss.backward()
        return loss

    optimizer.step(closure)


def make_physics() -> Sample:
    """Imitate the heat equation on a rod with a network small enough to read."""
    net = nn.Sequential(nn.Linear(2, PHYSICS_UNITS), nn.Tanh(), nn.Linear(PHYSICS_UNITS, 1))
    net = net.double()
    fit_heat(net)
    # Short decimals keep the closed-form derivative on one screen.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.round(decimals=PHYSICS_DECIMALS))

    graph = GraphWriter("physics", opset=13)
    x, t = graph.input("x", 1), graph.input("t", 1)
    value = graph.node("Concat", "point", x, t, axis=1)
    value = graph.node("Tanh", "hidden", graph.gemm("linear", value, linear(net, 0)))
    model = graph.finish(graph.gemm("u", value, linear(net, 2)), 1)

    # Cell centres lie off the training grid.
    points = grid(16, 1 / 32)
    x_column, t_column = points.numpy()[:, :1], points.numpy()[:, 1:]
    check_same(model, {"x": x_column, "t": t_column}, net(points))
    got = value_and_slopes(lambda x, t: net(torch.cat((x, t), dim=1)), points)
    worst = (got - value_and_slopes(heat, points)).abs().amax(0).tolist()
    facts = Facts(
        what=f"2-{PHYSICS_UNITS}-1 tanh network: position x and time t to temperature u of a rod",
        data="no data set: a physical law, the heat equation u_t = 0.1 u_xx with "
        "u(x, 0) = sin(pi x) and u = 0 at both ends, on the unit square",
        training=f"L-BFGS in float64 on u, u_x and u_t at 17x17 points, then weights rounded to "
        f"{PHYSICS_DECIMALS} decimals",
        sample="x = 0.25, t = 0.5",
        accuracy="worst error at 256 points between the training points: "
        "u {:.4f}, u_x {:.3f}, u_t {:.3f}".format(*worst),
    )
    return Sample(model, {"x": float32([[0.25]]), "t": float32([[0.5]])}, facts)


KINKED_UNITS = 6
HIDDEN_STEP = 2.0**-8
LOGIT_STEP = 2.0**-4
MIN_SLOPE_JUMP = 0.1
MIN_OTHER_GAP = 0.25


@dataclass(frozen=True)
class KinkedWeights:
    """Weights of a one-hidden-layer ReLU network, all multiples of a power of two."""

    hidden: NDArray[np.float64]
    hidden_bias: NDArray[np.float64]
    logits: NDArray[np.float64]
    logits_bias: NDArray[np.float64]

    def pre_activation(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the hidden pre-activations; exact for integer rows."""
        return x @ self.hidden.T + self.hidden_bias

    def output(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits."""
        return np.maximum(self.pre_activation(x), 0) @ self.logits.T + self.logits_bias


def to_step(value: Tensor | NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Round to multiples of `step`."""
    data = value.detach().numpy() if isinstance(value, Tensor) else value
    return np.round(data.astype(np.float64) / step) * step


def fit_kinked(parts: Split) -> KinkedWeights:
    """Train on standardised rows, fold the scaling into the weights and round them."""
    mean, std = parts.train_x.mean(0), parts.train_x.std(0)
    net = nn.Sequential(nn.Linear(4, KINKED_UNITS), nn.ReLU(), nn.Linear(KINKED_UNITS, 3))
    fit(
        net, functional.cross_entropy, tensor((parts.train_x - mean) / std),
        tensor(parts.train_y, dtype=torch.long), epochs=150, batch=16, rate=1e-2, decay=1e-2,
    )  # fmt: skip
    hidden = linear(net, 0).weight.detach().numpy() / std
    bias = linear(net, 0).bias.detach().numpy() - hidden @ mean
    return KinkedWeights(
        to_step(hidden, HIDDEN_STEP),
        to_step(bias, HIDDEN_STEP),
        to_step(linear(net, 2).weight, LOGIT_STEP),
        to_step(linear(net, 2).bias, LOGIT_STEP),
    )


def place_kink(weights: KinkedWeights, parts: Split) -> tuple[KinkedWeights, int]:
    """Move one bias by the least amount that puts a held-out row exactly on a kink.

    Args:
        weights: Rounded weights.
        parts: The data; rows of integers.

    Returns:
        The weights with one hidden bias changed, and the index of the held-out row.
    """
    pre = weights.pre_activation(parts.test_x)
    distance = np.abs(pre)
    jump = np.abs(weights.logits).max(0) * np.abs(weights.hidden).max(1)
    right = hits(weights.output(parts.test_x).astype(np.float32), parts.test_y)
    others = np.sort(distance, axis=1)[:, 1]
    # A kink is worth showing where it bends the output visibly and no second unit is near its own.
    usable = (jump >= MIN_SLOPE_JUMP)[None, :] & (right & (others >= MIN_OTHER_GAP))[:, None]
    cost = np.where(usable, distance, np.inf)
    row, unit = np.unravel_index(int(cost.argmin()), cost.shape)
    if not np.isfinite(cost[row, unit]):
        raise RuntimeError("kinked: no held-out row can be put on a kink")
    bias = weights.hidden_bias.copy()
    bias[unit] -= pre[row, unit]
    return replace(weights, hidden_bias=bias), int(row)


def make_kinked() -> Sample:
    """Classify irises with a ReLU network and stop exactly on one of its kinks."""
    data = datasets.load_iris()
    # Millimetres are whole numbers, so that every product and sum is exact in float32.
    parts = split(np.round(10 * data.data), data.target)
    weights, chosen = place_kink(fit_kinked(parts), parts)

    graph = GraphWriter("kinked", opset=13)
    value = flower = graph.input("flower_mm", 4)
    for name, weight, bias in (
        ("pre_activation", weights.hidden, weights.hidden_bias),
        ("logits", weights.logits, weights.logits_bias),
    ):
        names = graph.weight(f"{name}.weight", weight), graph.weight(f"{name}.bias", bias)
        value = graph.node("Gemm", name, value, *names, transB=1)
        value = graph.node("Relu", "hidden", value) if name == "pre_activation" else value
    model = graph.finish(value, 3)

    sample = parts.test_x[chosen : chosen + 1]
    zeros = int((weights.pre_activation(sample) == 0).sum())
    if zeros != 1:
        raise RuntimeError(f"kinked: {zeros} pre-activations are zero, one is wanted")
    check_same(model, {flower: parts.test_x}, torch.tensor(weights.output(parts.test_x)))
    facts = Facts(
        what=f"4-{KINKED_UNITS}-3 ReLU network: sepal and petal sizes in millimetres to 3 class "
        "logits; the input puts one pre-activation at exactly zero",
        data=f"load_iris(), 150 flowers, centimetres turned into whole millimetres "
        f"({SKLEARN_LICENCE})",
        training="AdamW, 150 epochs, cross entropy, 80/20 split; weights rounded to multiples of "
        "2^-8 and 2^-4, then one hidden bias moved to place the kink",
        sample="a held-out flower, the one that needs the smallest move of a bias",
        accuracy=share_right(run(model, {flower: parts.test_x}), parts.test_y),
    )
    return Sample(model, {flower: float32(sample)}, facts)


RECIPES: Mapping[str, Callable[[], Sample]] = {
    "diabetes": make_diabetes,
    "digits": make_digits,
    "attention": make_attention,
    "sequence": make_sequence,
    "physics": make_physics,
    "kinked": make_kinked,
}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, then move it into place."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".make-") as folder:
        # numpy appends .npz to names that lack it, so the temporary name keeps the suffix.
        draft = Path(folder) / path.name
        write(draft)
        draft.replace(path)


def save(name: str, sample: Sample, out: Path) -> None:
    """Write the model, with its facts as metadata, and its input."""
    torch_version = torch.__version__.split("+")[0]
    toolchain = f"make.py, torch {torch_version}, scikit-learn {sklearn.__version__}"
    model = onnx.ModelProto()
    model.CopyFrom(sample.model)
    model.doc_string = sample.facts.what
    helper.set_model_props(model, {**vars(sample.facts), "made_by": toolchain})
    content = model.SerializeToString(deterministic=True)
    write_atomically(out / f"{name}.onnx", lambda path: path.write_bytes(content))
    write_atomically(out / f"{name}.npz", lambda path: np.savez(path, **sample.inputs))


PROVENANCE_HEAD = """\
# Where the sample models come from

Written by `make.py` from the metadata inside each file; run it again instead of editing this table.
Every model has its input beside it in `NAME.npz`. The data stay in the packages named here; besides
what training left in the weights, only the one input row is taken from them.

| name | what | data | training | input | opset | bytes | accuracy | made by |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def provenance_row(path: Path) -> str:
    """Return the table row of one model file."""
    model = onnx.load(path)
    facts = {item.key: item.value for item in model.metadata_props}
    cells = (
        path.name,
        *(facts[key] for key in ("what", "data", "training", "sample")),
        str(model.opset_import[0].version),
        str(path.stat().st_size),
        facts["accuracy"],
        facts["made_by"],
    )
    return "| " + " | ".join(cells) + " |\n"


def write_provenance(out: Path) -> None:
    """Write the table of the model files present, in the order of the recipes."""
    paths = [out / f"{name}.onnx" for name in RECIPES]
    text = PROVENANCE_HEAD + "".join(provenance_row(path) for path in paths if path.exists())
    write_atomically(out / "PROVENANCE.md", lambda path: path.write_text(text, encoding="utf-8"))


def make(name: str, out: Path) -> None:
    """Train one model from its own seed and write it."""
    torch.manual_seed(SEED)
    sample = RECIPES[name]()
    save(name, sample, out)
    size = (out / f"{name}.onnx").stat().st_size
    print(f"{name}: {sample.facts.accuracy} ({size} bytes)", flush=True)


def main() -> None:
    """Read the command line and make the models it asks for."""
    parser = argparse.ArgumentParser(description="Train and write the sample models.")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="folder for the files"
    )
    parser.add_argument("--only", choices=sorted(RECIPES), help="make this model alone")
    options = parser.parse_args()
    # More threads could change the order of sums, and with it the bytes.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else RECIPES:
        make(name, options.out)
    write_provenance(options.out)


if __name__ == "__main__":
    main()
