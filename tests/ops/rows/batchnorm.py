"""How the operator of gradcli/ops/batchnorm.py is tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.table import Case, Row, normal, shape


def draw_batch_norm(rng: np.random.Generator) -> Case:
    """From [N, C] to three spatial axes, statistics as they may be, or those of the batch."""
    training = rng.random() < 0.4
    dims = shape(rng, rank=int(rng.integers(2, 6)), low=2 if training else 1)
    scale, bias, mean = (normal(rng, dims[1:2]) for _ in range(3))
    variance = rng.uniform(0.2, 3.0, dims[1:2])
    attrs: dict[str, Any] = {}
    if training or rng.random() < 0.5:
        attrs["epsilon"] = float(rng.choice([1e-3, 0.1]))
    if training:
        attrs |= {"training_mode": 1, "momentum": float(rng.choice([0.9, 0.25]))}
    operands = (normal(rng, dims), scale, bias, mean, variance)
    return Case(operands, attrs, outputs=3 if training else 1)


ROWS: tuple[Row, ...] = (Row("BatchNormalization", draw_batch_norm, dynamic="all"),)
