"""How the operators of gradcli/ops/scatter.py are tested."""

from __future__ import annotations

import math

import numpy as np

from tests.ops.rows.index import indices_into, nd_places, some_axis
from tests.ops.rows.reduce import apart
from tests.ops.table import Case, Kink, Row, normal, shape

REDUCTIONS = ("none", "add", "mul", "max", "min")


def numbers(rng: np.random.Generator, reduction: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    """Data and updates; no two alike where that would be a tie."""
    if reduction not in ("max", "min"):
        return [normal(rng, dims) for dims in shapes]
    sizes = [math.prod(dims) for dims in shapes]
    parts = np.split(apart(rng, (sum(sizes),)), np.cumsum(sizes)[:-1])
    return [part.reshape(dims) for part, dims in zip(parts, shapes, strict=True)]


def draw_scatter_elements(rng: np.random.Generator) -> Case:
    """Written at distinct indices; added, multiplied or compared at any."""
    dims = shape(rng, int(rng.integers(1, 4)))
    axis = some_axis(rng, len(dims))
    reach = [int(rng.integers(1, d + 1)) for d in dims]
    reduction = str(rng.choice(REDUCTIONS))
    if reduction == "none":
        order = np.argsort(rng.random(dims), axis)
        indices = order[tuple(slice(0, d) for d in reach)].astype(np.int64)
    else:
        reach[axis] = int(rng.integers(1, 6))
        indices = indices_into(rng, dims[axis], tuple(reach))
    x, updates = numbers(rng, reduction, dims, tuple(reach))
    return Case((x, indices, updates), {"axis": axis, "reduction": reduction})


def draw_scatter_nd(rng: np.random.Generator) -> Case:
    """Written at distinct indices; added, multiplied or compared at any; elements or slices."""
    dims = shape(rng, int(rng.integers(1, 4)))
    count = int(rng.integers(1, len(dims) + 1))
    reduction = str(rng.choice(REDUCTIONS))
    rows = nd_places(rng, dims, count, repeat=reduction != "none")
    x, updates = numbers(rng, reduction, dims, (*rows.shape[:-1], *dims[count:]))
    return Case((x, rows, updates), {"reduction": reduction})


X = np.array([1.0, 2.0, 3.0])
UPDATES = np.array([1.0, 5.0, 5.0, 2.0])
AT = np.array([0, 1, 1, -1], np.int64)
SHARES = (np.array([0.5, 0.0, 1.0]), np.array([0.5, 0.5, 0.5, 0.0]))
"""Of the greatest at each place: a tie with the data, one between updates, and none."""


def ties(sign: float, reduction: str, indices: np.ndarray) -> tuple[Kink, ...]:
    """The same points for max, and turned round for min."""
    case = Case((sign * X, indices, sign * UPDATES), {"reduction": reduction})
    return tuple(Kink(case, 2 * k, share) for k, share in enumerate(SHARES))


ROWS = (
    Row(
        "ScatterElements",
        draw_scatter_elements,
        kinks=(*ties(1.0, "max", AT), *ties(-1.0, "min", AT)),
        dynamic="free",
    ),
    Row(
        "ScatterND",
        draw_scatter_nd,
        kinks=(*ties(1.0, "max", AT[:, None]), *ties(-1.0, "min", AT[:, None])),
        dynamic="free",
    ),
)
