"""How the operators of gradcli/ops/norm.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.table import Case, Kink, Row, narrower, normal, shape


def draw_softmax(rng: np.random.Generator) -> Case:
    """Any axis, counted from either end, or left at the last; logits that spread far."""
    dims = shape(rng, rank=int(rng.integers(1, 5)))
    attrs = {} if rng.random() < 0.3 else {"axis": int(rng.integers(-len(dims), len(dims)))}
    return Case((normal(rng, dims) * rng.choice([0.1, 1.0, 4.0]),), attrs)


def draw_layer_norm(rng: np.random.Generator) -> Case:
    """Any axis, one to three results, scale and bias narrower than x or absent."""
    dims = shape(rng, rank=int(rng.integers(1, 5)), low=2)
    axis = int(rng.integers(-len(dims), len(dims)))
    attrs: dict[str, Any] = {"axis": axis}
    if rng.random() < 0.5:
        attrs["epsilon"] = float(rng.choice([1e-3, 0.5]))
    inner = dims[axis:]
    scale = normal(rng, inner if rng.random() < 0.7 else narrower(rng, inner))
    bias = (normal(rng, inner),) if rng.random() < 0.5 else ()
    return Case((normal(rng, dims), scale, *bias), attrs, outputs=int(rng.choice([1, 1, 3])))


def draw_batch_norm(rng: np.random.Generator) -> Case:
    """From [N, C] to three spatial axes, statistics as they may be."""
    dims = shape(rng, rank=int(rng.integers(2, 6)))
    scale, bias, mean = (normal(rng, dims[1:2]) for _ in range(3))
    variance = rng.uniform(0.2, 3.0, dims[1:2])
    attrs = {"epsilon": float(rng.choice([1e-3, 0.1]))} if rng.random() < 0.5 else {}
    return Case((normal(rng, dims), scale, bias, mean, variance), attrs)


FAR = np.array([[1000.0, 0.0, -1000.0]])
"""Logits whose exponentials overflow: one probability is 1, the others are 0."""

ROWS = (
    Row("Softmax", draw_softmax, kinks=(Kink(Case((FAR,)), 0, np.zeros((1, 3))),), dynamic="all"),
    Row(
        "LogSoftmax",
        draw_softmax,
        kinks=(Kink(Case((FAR,)), 0, np.array([[-2.0, 1.0, 1.0]])),),
        dynamic="all",
    ),
    # Mean and InvStdDev exist in float32 only, and a mean may cancel.
    Row("LayerNormalization", draw_layer_norm, dynamic="all", tolerance=1e-5),
    Row("BatchNormalization", draw_batch_norm, dynamic="all"),
)
