"""How the operators of gradcli/ops/index.py are tested."""

from __future__ import annotations

import numpy as np

from tests.ops.rows.reduce import apart
from tests.ops.table import Case, Kink, Row, normal, shape


def ints(*values: int) -> np.ndarray:
    """An operand that lists whole numbers."""
    return np.array(values, np.int64)


def some_axis(rng: np.random.Generator, rank: int) -> int:
    """An axis, negative or not."""
    return int(rng.integers(-rank, rank))


def indices_into(rng: np.random.Generator, size: int, dims: tuple[int, ...]) -> np.ndarray:
    """Indices of an axis, repeated and negative ones among them."""
    return rng.integers(-size, size, dims, dtype=np.int64)


def draw_gather(rng: np.random.Generator) -> Case:
    """Indices of any rank, into any axis, int32 or int64."""
    dims = shape(rng, int(rng.integers(1, 4)))
    axis = some_axis(rng, len(dims))
    indices = indices_into(rng, dims[axis], shape(rng, int(rng.integers(0, 3))))
    kind = np.int32 if rng.random() < 0.3 else np.int64
    return Case((normal(rng, dims), indices.astype(kind)), {"axis": axis})


def draw_gather_elements(rng: np.random.Generator) -> Case:
    """Indices that repeat, and that stop short of the data along other axes."""
    dims = shape(rng, int(rng.integers(1, 4)))
    axis = some_axis(rng, len(dims))
    reach = [int(rng.integers(1, d + 1)) for d in dims]
    reach[axis] = int(rng.integers(1, 6))
    indices = indices_into(rng, dims[axis], tuple(reach))
    return Case((normal(rng, dims), indices), {"axis": axis})


def nd_places(
    rng: np.random.Generator, dims: tuple[int, ...], count: int, repeat: bool
) -> np.ndarray:
    """Rows of indices [..., count] into the first axes; distinct unless they may repeat."""
    size = int(np.prod(dims[:count]))
    if repeat:
        flat = rng.integers(0, size, shape(rng, int(rng.integers(1, 3))))
    else:
        flat = rng.permutation(size)[: int(rng.integers(1, size + 1))]
    rows = np.stack(np.unravel_index(flat, dims[:count]), -1).astype(np.int64)
    return np.where(rng.random(rows.shape) < 0.3, rows - np.array(dims[:count]), rows)


def draw_gather_nd(rng: np.random.Generator) -> Case:
    """Single elements or slices, with and without batch dimensions."""
    if rng.random() < 0.5:
        dims = shape(rng, int(rng.integers(1, 4)))
        count = int(rng.integers(1, len(dims) + 1))
        return Case((normal(rng, dims), nd_places(rng, dims, count, repeat=True)))
    batch = shape(rng, int(rng.integers(1, 3)))
    dims = shape(rng, int(rng.integers(1, 3)))
    count = int(rng.integers(1, len(dims) + 1))
    rows = rng.integers(0, dims[:count], (*batch, 3, count), dtype=np.int64)
    return Case((normal(rng, batch + dims), rows), {"batch_dims": len(batch)})


def draw_one_hot(rng: np.random.Generator) -> Case:
    """Indices negative, and beyond the depth; the axis anywhere."""
    dims = shape(rng, int(rng.integers(1, 4)))
    depth = np.array(rng.integers(1, 5), np.int64)
    indices = rng.integers(-5, 6, dims, dtype=np.int64)
    axis = some_axis(rng, len(dims) + 1)
    return Case((indices, depth, normal(rng, (2,))), {"axis": axis})


def draw_nonzero(rng: np.random.Generator) -> Case:
    """Some zeros, of either sign."""
    dims = shape(rng, int(rng.integers(1, 4)))
    return Case((normal(rng, dims) * (rng.random(dims) < 0.5),))


def draw_top_k(rng: np.random.Generator) -> Case:
    """The greatest or the least, along any axis, no ties."""
    dims = shape(rng, int(rng.integers(1, 4)))
    axis = some_axis(rng, len(dims))
    k = ints(int(rng.integers(0, dims[axis] + 1)))
    attrs = {"axis": axis, "largest": int(rng.integers(0, 2))}
    return Case((apart(rng, dims), k), attrs, outputs=2)


ROWS = (
    Row("Gather", draw_gather, dynamic="free"),
    Row("GatherElements", draw_gather_elements, dynamic="free"),
    Row("GatherND", draw_gather_nd),
    Row("OneHot", draw_one_hot),
    Row("NonZero", draw_nonzero, data_dependent=True),
    Row(
        "TopK",
        draw_top_k,
        kinks=(
            Kink(
                Case((np.array([2.0, 3.0, 3.0, 1.0]), ints(1))), 0, np.array([0.0, 1.0, 0.0, 0.0])
            ),
        ),
    ),
)
