"""How the operators of gradcli/ops/softmax.py are tested."""

from __future__ import annotations

import numpy as np

from tests.ops.table import Case, Kink, Row, normal, shape


def draw_softmax(rng: np.random.Generator) -> Case:
    """Any axis, counted from either end, or left at the last; logits that spread far."""
    dims = shape(rng, rank=int(rng.integers(1, 5)))
    attrs = {} if rng.random() < 0.3 else {"axis": int(rng.integers(-len(dims), len(dims)))}
    return Case((normal(rng, dims) * rng.choice([0.1, 1.0, 4.0]),), attrs)


FAR = np.array([[1000.0, 0.0, -1000.0]])
"""Logits whose exponentials overflow: one probability is 1, the others are 0."""

ROWS: tuple[Row, ...] = (
    Row("Softmax", draw_softmax, kinks=(Kink(Case((FAR,)), 0, np.zeros((1, 3))),), dynamic="all"),
    Row(
        "LogSoftmax",
        draw_softmax,
        kinks=(Kink(Case((FAR,)), 0, np.array([[-2.0, 1.0, 1.0]])),),
        dynamic="all",
    ),
)
