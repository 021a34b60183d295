"""What the sample models share: their data, training, checks and provenance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import datasets
from torch import Tensor, nn

SEED = 20
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
