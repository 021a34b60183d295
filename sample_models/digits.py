"""Networks that tell digits: convolutional, with attention, and recurrent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from training import (
    SKLEARN_LICENCE,
    Facts,
    Sample,
    check_same,
    digits_split,
    fit,
    float32,
    hits,
    run,
    share_right,
    tensor,
)
from writing import GraphWriter


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
