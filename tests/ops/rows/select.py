"""How the operators of gradcli/ops/select.py are tested."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.ops.rows.index import ints, some_axis
from tests.ops.rows.reduce import apart
from tests.ops.table import Case, Kink, Row, normal, shape


def draw_compress(rng: np.random.Generator) -> Case:
    """Along any axis, or of all elements; the mask may be shorter than what it chooses from."""
    dims = shape(rng, int(rng.integers(1, 4)))
    axis = some_axis(rng, len(dims)) if rng.random() < 0.6 else None
    most = math.prod(dims) if axis is None else dims[axis]
    mask = rng.random(int(rng.integers(1, most + 1))) < 0.6
    return Case((normal(rng, dims), mask), {} if axis is None else {"axis": axis})


def draw_unique(rng: np.random.Generator) -> Case:
    """All elements, or slices along an axis; by size or as they come. No two are alike."""
    dims = shape(rng, int(rng.integers(1, 4)))
    attrs: dict[str, Any] = {"sorted": int(rng.integers(0, 2))}
    if rng.random() < 0.5:
        attrs["axis"] = some_axis(rng, len(dims))
    return Case((apart(rng, dims),), attrs, outputs=int(rng.integers(1, 5)))


def draw_non_max(rng: np.random.Generator) -> Case:
    """Corners in any order, or centres; with thresholds or without."""
    batch, labels, count = (int(v) for v in rng.integers(1, (3, 3, 7)))
    boxes = rng.uniform(0.0, 1.0, (batch, count, 4))
    scores = apart(rng, (batch, labels, count))
    limits = [np.array(v) for v in (rng.uniform(0.0, 0.6), rng.uniform(-0.3, 0.1))]
    given = (ints(int(rng.integers(1, 5))), *limits)[: int(rng.integers(1, 4))]
    return Case((boxes, scores, *given), {"center_point_box": int(rng.integers(0, 2))})


BOXES = np.array([[[0.0, 0.0, 1.0, 1.0], [2.0, 2.0, 3.0, 3.0]]])
TIED = np.array([2.0, 3.0, 3.0, 1.0])

ROWS = (
    Row("Compress", draw_compress, dynamic="free"),
    Row(
        "Unique",
        draw_unique,
        kinks=(Kink(Case((TIED,)), 0, np.array([1.0, 1.0, 0.0, 1.0])),),
        dynamic="free",
        data_dependent=True,
    ),
    Row(
        "NonMaxSuppression",
        draw_non_max,
        kinks=(Kink(Case((BOXES, np.array([[[0.5, 0.5]]]), ints(2))), 1, np.zeros((1, 1, 2))),),
        data_dependent=True,
    ),
)
