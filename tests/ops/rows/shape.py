"""How the operators of gradcli/ops/shape.py are tested."""

from __future__ import annotations

import math

import numpy as np

from tests.ops.table import Case, Row, narrower, normal, shape


def ints(*values: int) -> np.ndarray:
    """An operand that lists whole numbers."""
    return np.array(values, np.int64)


def split_up(rng: np.random.Generator, count: int) -> list[int]:
    """Dimensions whose product is this count."""
    out = []
    while count > 1 and rng.random() < 0.8:
        factors = [d for d in range(2, count + 1) if count % d == 0]
        out.append(int(rng.choice(factors)))
        count //= out[-1]
    return [*out, count] if count > 1 or rng.random() < 0.3 else out


def draw_reshape(rng: np.random.Generator) -> Case:
    """Dimensions given, copied (0) and inferred (-1); with allowzero, also a tensor of nothing."""
    if rng.random() < 0.1:
        return Case((np.zeros((3, 0, 2)), ints(0, 4)), {"allowzero": 1})
    dims = shape(rng)
    kept = int(rng.integers(0, len(dims) + 1))
    rest = split_up(rng, math.prod(dims[kept:]))
    target = [0 if rng.random() < 0.5 else d for d in dims[:kept]] + rest
    if target and rng.random() < 0.5:
        target[int(rng.integers(0, len(target)))] = -1
    return Case((normal(rng, dims), ints(*target)))


def draw_flatten(rng: np.random.Generator) -> Case:
    """Any axis, the one behind the last included."""
    dims = shape(rng)
    return Case((normal(rng, dims),), {"axis": int(rng.integers(-len(dims), len(dims) + 1))})


def places(rng: np.random.Generator, rank: int) -> list[int]:
    """Some axes of a tensor of this rank, in any order, negative or not."""
    axes = rng.permutation(rank)[: int(rng.integers(0, rank + 1))]
    return [int(a) if rng.random() < 0.5 else int(a) - rank for a in axes]


def draw_squeeze(rng: np.random.Generator) -> Case:
    """Named axes, or all of size 1."""
    rank = int(rng.integers(1, 5))
    axes = places(rng, rank)
    dims = [int(d) for d in rng.integers(2, 5, rank)]
    for axis in axes:
        dims[axis] = 1
    x = normal(rng, tuple(dims))
    return Case((x,) if rng.random() < 0.3 else (x, ints(*axes)))


def draw_unsqueeze(rng: np.random.Generator) -> Case:
    """Axes of the result, in any order; a single one may be a scalar, as torch writes it."""
    rank = int(rng.integers(0, 4))
    more = int(rng.integers(0, 3))
    axes = rng.permutation(rank + more)[:more]
    named = [int(a) if rng.random() < 0.5 else int(a) - rank - more for a in axes]
    axes = ints(*named)
    return Case((normal(rng, shape(rng, rank)), axes.reshape(()) if more == 1 else axes))


def draw_transpose(rng: np.random.Generator) -> Case:
    """Any order of the axes; none given turns them round."""
    dims = shape(rng)
    perm = tuple(int(a) for a in rng.permutation(len(dims)))
    return Case((normal(rng, dims),), {} if rng.random() < 0.3 else {"perm": perm})


def draw_expand(rng: np.random.Generator) -> Case:
    """The target may be the wider, the narrower, or neither."""
    wide = shape(rng)
    return Case((normal(rng, narrower(rng, wide)), ints(*narrower(rng, wide))))


def draw_shape(rng: np.random.Generator) -> Case:
    """All dimensions, or those between two places counted from either end."""
    attrs = {"start": int(rng.integers(-5, 5)), "end": int(rng.integers(-5, 5))}
    return Case((normal(rng, shape(rng)),), {} if rng.random() < 0.3 else attrs)


ROWS = (
    Row("Reshape", draw_reshape),
    Row("Flatten", draw_flatten, dynamic="free"),
    Row("Squeeze", draw_squeeze, dynamic=""),
    Row("Unsqueeze", draw_unsqueeze, dynamic="free"),
    Row("Transpose", draw_transpose, dynamic="free"),
    Row("Expand", draw_expand),
    Row("Shape", draw_shape, dynamic="free"),
    Row("Size", lambda rng: Case((normal(rng, shape(rng)),)), dynamic="free"),
)
