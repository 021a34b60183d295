"""Operators that pick and place elements by index: gathers, scatters, the greatest few."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Shape, Type, Var, is_static
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import (
    INDEX,
    dims,
    directions,
    product,
    shape_part,
    stretch,
    unstretch,
    with_directions,
)
from gradcli.ops.card import Card, Site, Vars
from gradcli.ops.kinds import axis_of, custom, flat, linear, same

# ---- gathers -------------------------------------------------------------------------------------
#
# Their transposes add at repeated indices. ScatterElements does so, and not ScatterND, which is
# faster: onnxruntime's CPU kernel of ScatterND(add) races when it runs on several threads and an
# index repeats, and loses updates without a word (measured with 1.32: wrong in 30 runs of 30).


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


def _along_elements_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """Operands that carry no directions, the indices among them, are repeated for each."""
    count = directions(s, batched)
    operands = [
        x if x is None or is_batched else with_directions(s.b, x, count)
        for x, is_batched in zip(s.inputs, batched, strict=True)
    ]
    rank = s.x.rank - 1 if batched[0] else s.x.rank
    return [s.again(*operands, axis=axis_of(s["axis"], rank) + 1)]


def _gather_nd_infer(s: Site) -> Sequence[Type]:
    shape, at = s.x.shape, s.x1.shape
    if shape is None or at is None or not isinstance(at[-1], int):
        return [(s.x.dtype, None)]
    return [(s.x.dtype, (*at[:-1], *shape[s["batch_dims"] + at[-1] :]))]


def _full_places(indices: np.ndarray, batch_dims: int) -> tuple[np.ndarray, ...]:
    """One index array for each axis that ND indices address, the batch axes' own among them."""
    lead: list[np.ndarray] = list(np.indices(indices.shape[:batch_dims], sparse=True))
    width = indices.ndim - 1 - batch_dims
    own = [np.reshape(i, (*i.shape, *[1] * width)) for i in lead]
    return tuple(np.broadcast_arrays(*own, *np.moveaxis(indices, -1, 0)))


def _gather_nd(n: Numbers, x: Array, indices: np.ndarray, *, batch_dims: int) -> Array:
    places = _full_places(indices, batch_dims)
    if not places:
        return n.broadcast_to(x, (*indices.shape[:-1], *x.shape))
    rows = math.prod(x.shape[: len(places)])
    flat_x = n.reshape(x, (rows, *x.shape[len(places) :]))
    return n.take(flat_x, _ravel(places, x.shape[: len(places)]), 0)


def _ravel(places: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Index arrays, possibly negative, as one index into the flattened axes."""
    for place, size in zip(places, shape, strict=True):
        if np.any((place < -size) | (place >= size)):
            raise IndexError(f"an index is outside an axis of {size}")
    inside = tuple(np.where(p < 0, p + d, p) for p, d in zip(places, shape, strict=True))
    return np.ravel_multi_index(inside, shape)


def _gather_nd_transpose(s: Site, y_bar: Var) -> Var:
    """As flat indices, so that repeated ones are summed by ScatterElements."""
    b, batch_dims = s.b, s["batch_dims"]
    if s.x1.shape is None or not isinstance(s.x1.shape[-1], int):
        raise UnsupportedError("GatherND whose indices have a length that is computed at run time")
    axes = batch_dims + s.x1.shape[-1]
    rows, slices = shape_part(b, s.x, 0, axes), shape_part(b, s.x, axes, s.x.rank)
    width = s.x1.rank - 1 - batch_dims
    place: Var | None = None
    for axis in range(axes):
        size = b.op("Squeeze", shape_part(b, s.x, axis, axis + 1), b.ints([0]))
        if axis < batch_dims:
            steps = b.op("Range", b.constant(np.int64(0)), size, b.constant(np.int64(1)))
            at = b.reshape(steps, [-1, *[1] * (batch_dims - axis - 1 + width)])
        else:
            at = b.op("Gather", s.x1, b.constant(np.int64(axis - batch_dims)), axis=-1)
            at = b.where(at < 0, at + size, at)
        place = at if place is None else place * size + at
    if place is None:
        return b.sum(y_bar, range(s.x1.rank - 1), keepdims=False)
    many, count = product(b, shape_part(b, y_bar, 0, s.x1.rank - 1)), product(b, rows)
    updates = b.op("Reshape", y_bar, dims(b, many, slices), allowzero=1)
    column = b.reshape(place, [-1, *[1] * (s.x.rank - axes)])
    zeros = b.op("ConstantOfShape", dims(b, count, slices), value=np.zeros(1, s.x.dtype.np))
    indices = b.expand_like(column, updates)
    summed = b.op("ScatterElements", zeros, indices, updates, axis=0, reduction="add")
    return b.reshape_like(summed, s.x)


def _last_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """Directions go last, where an indexed slice carries them along, and come back to the front."""
    b, count = s.b, directions(s, batched)

    def behind(x: Var | None, is_batched: bool) -> Var | None:
        if x is None or is_batched:
            return None if x is None else unstretch(b, x)
        return b.op("Expand", b.unsqueeze(x, [x.rank]), dims(b, [1] * x.rank, count))

    operands = [
        x if k == 1 else behind(x, is_batched)
        for k, (x, is_batched) in enumerate(zip(s.inputs, batched, strict=True))
    ]
    return [stretch(b, s.again(*operands))]


# ---- scatters ------------------------------------------------------------------------------------
#
# With reduction `none` an index must not repeat (ONNX leaves the result open where one does), so
# every element of the result comes from one place.


def _scatter_infer(s: Site) -> Sequence[Type]:
    if s["reduction"] not in ("none", "add"):
        raise UnsupportedError(f"gradcli does not know {s.key} with reduction {s['reduction']!r}")
    return same(s)


def _scatter_jvp(s: Site, dots: Vars) -> Vars:
    data, _, updates = dots
    if data is None and updates is None:
        return [None]
    return [s.again(data or s.b.zeros_like(s.x), s.x1, updates or s.b.zeros_like(s.input(2)))]


def _scatter_vjp(gather: str, *attributes: str) -> Callable[[Site, Vars], Vars]:
    """What was overwritten gets nothing, and what was written gets what stands there."""

    def vjp(s: Site, bars: Vars) -> Vars:
        (y_bar,) = bars
        assert y_bar is not None
        data_bar, updates_bar = None, None
        if s.wants(0):
            kept = s["reduction"] == "add"
            data_bar = y_bar if kept else s.again(y_bar, s.x1, s.b.zeros_like(s.input(2)))
        if s.wants(2):
            updates_bar = s.b.op(gather, y_bar, s.x1, **{name: s[name] for name in attributes})
        return [data_bar, None, updates_bar]

    return vjp


def _scatter_elements(
    n: Numbers, x: Array, indices: np.ndarray, updates: Array, *, axis: int, reduction: str
) -> Array:
    axis = axis_of(axis, x.ndim)
    places: list[np.ndarray] = list(np.indices(indices.shape, sparse=True))
    places[axis] = indices
    return n.scatter(x, tuple(np.broadcast_arrays(*places)), updates, reduction)


def _scatter_nd(
    n: Numbers, x: Array, indices: np.ndarray, updates: Array, *, reduction: str
) -> Array:
    return n.scatter(x, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)


def _scatter(
    op: str, impl: Callable[..., Any], gather: str, *attributes: str, **facets: Any
) -> Card:
    return Card(
        op,
        "linear",
        ("data", "indices", "updates"),
        _scatter_infer,
        impl,
        jvp=_scatter_jvp,
        vjp=_scatter_vjp(gather, *attributes),
        flat={"indices": INDEX},
        **facets,
    )


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
    shape = (*s.x.shape[:axis], *count, *s.x.shape[axis + 1 :])
    return [(s.x.dtype, shape), (DType.INT64, shape)]


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
    if not 0 <= count <= x.shape[axis]:
        raise ValueError(f"the {count} greatest of {x.shape[axis]} elements")
    if n.is_number(x):
        at = _order(n, x if largest else -x, count, axis)
    else:
        rank = np.argsort(x, axis=axis, kind="stable")
        if largest:  # of equal elements the first comes first
            flipped = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
            rank = x.shape[axis] - 1 - np.flip(flipped, axis)
        at = np.take(rank, np.arange(count), axis)
    return n.take_along(x, at, axis), at


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
        batch=_along_elements_batch,
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
        batch=_last_batch,
        attrs={"batch_dims": 0},
        flat={"indices": INDEX},
        rounds=False,
    ),
    _scatter(
        "ScatterElements",
        _scatter_elements,
        "GatherElements",
        "axis",
        attrs={"axis": 0, "reduction": "none"},
        batch=_along_elements_batch,
    ),
    _scatter(
        "ScatterND",
        _scatter_nd,
        "GatherND",
        attrs={"reduction": "none"},
        batch=_last_batch,
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
