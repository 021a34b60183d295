"""How the operators of gradcli/ops/arrange.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.index import ints, some_axis
from tests.ops.table import Case, Row, normal, shape


def draw_concat(rng: np.random.Generator) -> Case:
    """One to four parts, of which one may be empty."""
    dims = list(shape(rng, int(rng.integers(1, 4))))
    axis = some_axis(rng, len(dims))
    parts = []
    for _ in range(int(rng.integers(1, 5))):
        dims[axis] = int(rng.integers(0, 4))
        parts.append(normal(rng, tuple(dims)))
    return Case(tuple(parts), {"axis": axis})


def draw_split(rng: np.random.Generator) -> Case:
    """Sizes given, or a number of parts, of which the last may be smaller."""
    dims = list(shape(rng, int(rng.integers(1, 4))))
    axis = some_axis(rng, len(dims))
    parts = int(rng.integers(1, 4))
    if rng.random() < 0.5:
        sizes = [int(d) for d in rng.integers(0, 4, parts)]
        dims[axis] = sum(sizes)
        return Case((normal(rng, tuple(dims)), ints(*sizes)), {"axis": axis}, outputs=parts)
    last = int(rng.integers(1, 4))
    dims[axis] = (parts - 1) * 3 + last
    attrs = {"axis": axis, "num_outputs": parts}
    return Case((normal(rng, tuple(dims)),), attrs, outputs=parts)


def draw_slice(rng: np.random.Generator) -> Case:
    """Any axes and steps, ends beyond the tensor, empty cuts; axes and steps may be left out."""
    dims = shape(rng, int(rng.integers(1, 5)), high=6)
    count = int(rng.integers(0, len(dims) + 1))
    starts, ends = rng.integers(-8, 9, (2, count))
    far = rng.random(count) < 0.3
    steps = rng.choice([-3, -2, -1, 1, 1, 2, 3], count)
    ends = np.where(far, np.where(steps > 0, 2**63 - 1, -(2**63) + 1), ends)
    axes = rng.permutation(len(dims))[:count]
    axes = np.where(rng.random(count) < 0.5, axes, axes - len(dims))
    x = normal(rng, dims)
    width: Any = np.int64
    if rng.random() < 0.3:
        width, ends = np.int32, np.clip(ends, -(2**31) + 1, 2**31 - 1)
    whole = [a.astype(width) for a in (starts, ends, axes, steps)]
    kind = rng.random()
    if kind < 0.2:
        return Case((x, *whole[:2]))
    if kind < 0.4:
        return Case((x, *whole[:3]))
    return Case((x, *whole)) if kind < 0.8 else Case((x, *whole[:2], None, whole[3]))


def draw_pad(rng: np.random.Generator) -> Case:
    """All four modes; negative pads with a constant; some axes or all of them."""
    dims = shape(rng, int(rng.integers(1, 4)), low=3, high=5)
    mode = str(rng.choice(["constant", "constant", "reflect", "edge", "wrap"]))
    count = len(dims) if rng.random() < 0.5 else int(rng.integers(1, len(dims) + 1))
    axes = None
    if count < len(dims) or rng.random() < 0.3:
        axes = rng.permutation(len(dims))[:count].astype(np.int64)
    pads = rng.integers(-1 if mode == "constant" else 0, 3, 2 * count, dtype=np.int64)
    value = normal(rng, ()) if mode == "constant" and rng.random() < 0.6 else None
    if axes is not None:
        return Case((normal(rng, dims), pads, value, axes), {"mode": mode})
    return Case((normal(rng, dims), pads, *([] if value is None else [value])), {"mode": mode})


def draw_tile(rng: np.random.Generator) -> Case:
    """Copies along any axes."""
    dims = shape(rng)
    return Case((normal(rng, dims), rng.integers(1, 4, len(dims), dtype=np.int64)))


def draw_trilu(rng: np.random.Generator) -> Case:
    """Either triangle, any diagonal, any leading axes."""
    x = normal(rng, shape(rng, int(rng.integers(2, 5))))
    attrs = {"upper": int(rng.integers(0, 2))}
    return Case((x,) if rng.random() < 0.3 else (x, np.array(rng.integers(-4, 5), np.int64)), attrs)


ROWS = (
    Row("Concat", draw_concat),
    Row("Split", draw_split),
    Row("Slice", draw_slice, dynamic="free"),
    Row("Pad", draw_pad, dynamic="free"),
    Row("Tile", draw_tile, dynamic="free"),
    Row("Trilu", draw_trilu, dynamic="free"),
)
