"""Operators that pick and place elements by index: gathers, hot places, the greatest few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.graph import Dim, DType, Shape, Type, Var, is_static
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import (
    INDEX,
    dims,
    shape_part,
)
from gradcli.ops.card import Site, Vars
from gradcli.ops.kinds import axis_of, custom, flat, linear
from gradcli.ops.places import (
    addressed,
    along_batch,
    as_column,
    as_rows,
    full_places,
    last_batch,
    places_in,
    ravel,
)

# ---- gathers -------------------------------------------------------------------------------------


def _gather_infer(s: Site) -> Sequence[Type]:
    shape, at = s.x.shape, s.x1.shape
    if shape is None or at is None:
        return [(s.x.dtype, None)]
    axis = axis_of(s["axis"], len(shape))
    return [(s.x.dtype, (*shape[:axis], *at, *shape[axis + 1 :]))]


def _gather_transpose(s: Site, y_bar: Var) -> Var:
    b, at = s.b, s.x1
    axis = axis_of(s["axis"], s.x.rank)
    before, after = shape_part(b, s.x, 0, axis), shape_part(b, s.x, axis + 1, s.x.rank)
    if at.rank == 1:
        updates = y_bar
    elif at.rank == 0:
        updates = b.unsqueeze(y_bar, [axis])
    else:
        count = [math.prod(at.shape)] if is_static(at.shape) else b.reshape(b.op("Size", at), [1])  # type: ignore[arg-type] # static
        updates = b.op("Reshape", y_bar, dims(b, before, count, after), allowzero=1)
    column = b.reshape(at, [*[1] * axis, -1, *[1] * (s.x.rank - axis - 1)])
    indices = b.expand_like(column, updates)
    return b.op("ScatterElements", b.zeros_like(s.x), indices, updates, axis=axis, reduction="add")


def _gather_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    return [s.again(s.x, s.x1, axis=axis_of(s["axis"], s.x.rank - 1) + 1)]


def _gather_elements(n: Numbers, x: Array, indices: np.ndarray, *, axis: int) -> Array:
    axis = axis_of(axis, x.ndim)
    if x.ndim != indices.ndim:
        raise ValueError(f"indices of rank {indices.ndim} into rank {x.ndim}")
    # Elsewhere than along the axis, indices may stop short of x; NumPy would want equal sizes.
    cuts = [slice(None) if a == axis else slice(0, d) for a, d in enumerate(indices.shape)]
    return n.take_along(n.slice(x, cuts), indices, axis)


def _gather_elements_transpose(s: Site, y_bar: Var) -> Var:
    return s.b.op(
        "ScatterElements", s.b.zeros_like(s.x), s.x1, y_bar, axis=s["axis"], reduction="add"
    )


def _gather_nd_infer(s: Site) -> Sequence[Type]:
    shape, at = s.x.shape, s.x1.shape
    if shape is None or at is None or not isinstance(at[-1], int):
        return [(s.x.dtype, None)]
    return [(s.x.dtype, (*at[:-1], *shape[s["batch_dims"] + at[-1] :]))]


def _gather_nd(n: Numbers, x: Array, indices: np.ndarray, *, batch_dims: int) -> Array:
    places = full_places(indices, batch_dims)
    if not places:
        return n.broadcast_to(x, (*indices.shape[:-1], *x.shape))
    rows = math.prod(x.shape[: len(places)])
    flat_x = n.reshape(x, (rows, *x.shape[len(places) :]))
    return n.take(flat_x, ravel(places, x.shape[: len(places)]), 0)


def _gather_nd_transpose(s: Site, y_bar: Var) -> Var:
    """As flat indices, so that repeated ones are summed by ScatterElements."""
    b, lead = s.b, s.x1.rank - 1
    place = places_in(b, s.x, s.x1, s["batch_dims"])
    if place is None:
        return b.sum(y_bar, range(lead), keepdims=False)
    updates = as_rows(y_bar, lead)
    zeros = b.zeros_like(as_rows(s.x, addressed(s.x1, s["batch_dims"])))
    at = as_column(place, updates)
    summed = b.op("ScatterElements", zeros, at, updates, axis=0, reduction="add")
    return b.reshape_like(summed, s.x)


# ---- OneHot, NonZero, TopK -----------------------------------------------------------------------


def _one_hot_infer(s: Site) -> Sequence[Type]:
    depth = s.ints(1)
    if s.x.shape is None:
        return [(s.input(2).dtype, None)]
    axis = axis_of(s["axis"], s.x.rank + 1)
    classes: Shape = depth if depth is not None else s.b.fresh(1)
    return [(s.input(2).dtype, (*s.x.shape[:axis], *classes, *s.x.shape[axis:]))]


def _one_hot(n: Numbers, indices: Array, depth: Array, values: Array, *, axis: int) -> Array:
    count = _whole(n, depth)
    at = _whole_numbers(n, indices)
    axis = axis_of(axis, at.ndim + 1)
    inside = (at >= -count) & (at < count)
    at = np.where(inside, at % max(count, 1), -1)
    steps = np.arange(count).reshape([-1 if a == axis else 1 for a in range(at.ndim + 1)])
    hot = (np.expand_dims(at, axis) == steps).astype(np.int64)
    return n.take(values, hot, 0)


def _whole_numbers(n: Numbers, x: Array) -> np.ndarray:
    """Indices, which some operators allow to be floats."""
    return n.to_integer(x, np.dtype(np.int64)) if n.is_number(x) else np.asarray(x)


def _whole(n: Numbers, x: Array) -> int:
    return int(_whole_numbers(n, x).reshape(()))


def _one_hot_transpose(s: Site, y_bar: Var) -> Var:
    """What stands at hot places belongs to the on-value, all else to the off-value."""
    b = s.b
    kind = s.input(2).dtype
    sides = [
        b.sum(y_bar * s.again(s.x, s.x1, b.constant(pair, kind)), None, keepdims=False)
        for pair in ([1, 0], [0, 1])
    ]
    return b.op("Concat", *(b.unsqueeze(side, [0]) for side in sides), axis=0)


def _one_hot_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """y = off + hot * (on - off), with values [directions, 2]."""
    b, values = s.b, s.input(2)
    hot = b.unsqueeze(s.again(s.x, s.x1, b.constant([0, 1], values.dtype)), [0])
    tail = [-1, *[1] * s.y.rank]
    off, on = (
        b.reshape(b.op("Gather", values, b.constant(np.int64(k)), axis=1), tail) for k in (0, 1)
    )
    return [b.where(hot > 0.5, on, off)]


def _nonzero(n: Numbers, x: Array) -> np.ndarray:
    signs = n.to_integer(n.sign(x), np.dtype(np.int64)) if n.is_number(x) else x
    return np.array(np.nonzero(signs), np.int64).reshape(x.ndim, -1)


def _top_k_infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None), (DType.INT64, None)]
    axis = axis_of(s["axis"], s.x.rank)
    count: Shape = s.ints(1) or s.b.fresh(1)
    _check_count(count[0], s.x.shape[axis])
    shape = (*s.x.shape[:axis], *count, *s.x.shape[axis + 1 :])
    return [(s.x.dtype, shape), (DType.INT64, shape)]


def _check_count(count: Dim, size: Dim) -> None:
    if isinstance(count, int) and isinstance(size, int) and not 0 <= count <= size:
        raise ValueError(f"the {count} greatest of {size} elements")


def _top_k(
    n: Numbers,
    x: Array,
    k: np.ndarray,
    *,
    axis: int,
    largest: int,
    sorted: int,  # noqa: A002 # ONNX's name
) -> tuple[Array, np.ndarray]:
    axis, count = axis_of(axis, x.ndim), int(k.reshape(()))
    _check_count(count, x.shape[axis])
    if n.is_number(x):
        at = _order(n, x if largest else -x, count, axis)
    else:
        rank = np.argsort(x, axis=axis, kind="stable")
        if largest:  # of equal elements the first comes first
            flipped = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
            rank = x.shape[axis] - 1 - np.flip(flipped, axis)
        at = np.take(rank, np.arange(count), axis)
    return n.ordered(x, at, axis), at


def _order(n: Numbers, x: Array, count: int, axis: int) -> np.ndarray:
    """Where the greatest, the second greatest, ... stand: each found among those that are left."""
    left = np.broadcast_to(
        np.arange(x.shape[axis]).reshape([-1 if a == axis else 1 for a in range(x.ndim)]), x.shape
    )
    found = []
    for _ in range(count):
        best = np.expand_dims(n.argmax(n.take_along(x, left, axis), axis), axis)
        found.append(np.take_along_axis(left, best, axis))
        size = left.shape[axis]
        steps = np.arange(size - 1).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
        left = np.take_along_axis(left, steps + (steps >= best), axis)
    shape = [0 if a == axis else d for a, d in enumerate(x.shape)]
    return np.concatenate([np.zeros(shape, np.int64), *found], axis=axis)


def _places(s: Site) -> Var:
    """Where a TopK found its values."""
    if len(s.outputs) > 1 and s.outputs[1] is not None:
        return s.outputs[1]
    return s.b.ops("TopK", *s.inputs, outputs=2, **s.attrs)[1]


def _top_k_jvp(s: Site, dots: Vars) -> Vars:
    if dots[0] is None:
        return [None, None]
    return [s.b.op("GatherElements", dots[0], _places(s), axis=s["axis"]), None]


def _top_k_vjp(s: Site, bars: Vars) -> Vars:
    if bars[0] is None:
        return [None]
    return [
        s.b.op(
            "ScatterElements",
            s.b.zeros_like(s.x),
            _places(s),
            bars[0],
            axis=s["axis"],
            reduction="add",
        )
    ]


def _top_k_kinks(
    n: Numbers, x: np.ndarray, k: np.ndarray, *, axis: int, **attrs: Any
) -> tuple[np.ndarray, np.ndarray]:
    """How far each chosen element is from its neighbours in order, chosen or not."""
    count = int(k.reshape(()))
    every = np.array(x.shape[axis])
    ranked, at = _top_k(n, x, every, axis=axis, **attrs)
    gaps = np.abs(np.diff(np.moveaxis(ranked, axis, -1), axis=-1))
    edge = np.full((*gaps.shape[:-1], 1), np.inf)
    margin = np.minimum(np.append(edge, gaps, -1), np.append(gaps, edge, -1))[..., :count]
    return np.moveaxis(margin, -1, axis), np.take(at, np.arange(count), axis)


TOP_K_ATTRS = {"axis": -1, "largest": 1, "sorted": 1}

CARDS = (
    linear(
        "Gather",
        lambda n, x, indices, axis: n.take(x, indices, axis),
        _gather_transpose,
        inputs=("data", "indices"),
        infer=_gather_infer,
        batch=_gather_batch,
        attrs={"axis": 0},
        flat={"indices": INDEX},
        rounds=False,
    ),
    linear(
        "GatherElements",
        _gather_elements,
        _gather_elements_transpose,
        inputs=("data", "indices"),
        infer=lambda s: [(s.x.dtype, s.x1.shape)],
        batch=along_batch,
        attrs={"axis": 0},
        flat={"indices": INDEX},
        rounds=False,
    ),
    linear(
        "GatherND",
        _gather_nd,
        _gather_nd_transpose,
        inputs=("data", "indices"),
        infer=_gather_nd_infer,
        batch=last_batch,
        attrs={"batch_dims": 0},
        flat={"indices": INDEX},
        rounds=False,
    ),
    linear(
        "OneHot",
        _one_hot,
        _one_hot_transpose,
        inputs=("indices", "depth", "values"),
        infer=_one_hot_infer,
        batch=_one_hot_batch,
        over=(2,),
        attrs={"axis": -1},
        flat={"indices": INDEX, "depth": INDEX},
        rounds=False,
    ),
    flat(
        "NonZero",
        _nonzero,
        "places of elements are whole numbers",
        inputs=("X",),
        infer=lambda s: [
            (DType.INT64, (s.x.rank if s.x.shape is not None else "?", *s.b.fresh(1)))
        ],
    ),
    custom(
        "TopK",
        _top_k,
        _top_k_jvp,
        _top_k_vjp,
        inputs=("X", "K"),
        outputs=("Values", "Indices"),
        infer=_top_k_infer,
        attrs=TOP_K_ATTRS,
        batch=None,
        flat={"K": INDEX},
        kinks=_top_k_kinks,
        convention="of elements that tie, the first",
        rounds=False,
    ),
)
