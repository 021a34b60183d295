"""Operators that pick, place and repeat elements: joins, cuts, gathers, scatters, borders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, DType, Shape, Type, Var, is_static
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import (
    AXES,
    EVERYTHING,
    INDEX,
    axes_of,
    dims,
    directions,
    length,
    product,
    shape_part,
    shifted,
    stretch,
    unstretch,
    with_directions,
)
from gradcli.ops.card import REQUIRED, Card, Site, Vars
from gradcli.ops.kinds import axis_of, custom, flat, linear, same

# ---- Concat and Split ----------------------------------------------------------------------------


def _concat_infer(s: Site) -> Sequence[Type]:
    shapes = [x.shape for x in s.inputs if x is not None and x.shape is not None]
    if len(shapes) < len(s.inputs):
        return [(s.x.dtype, shapes[0] and s.b.fresh(len(shapes[0])) if shapes else None)]
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(f"operands of different rank: {', '.join(map(str, shapes))}")
    axis = axis_of(s["axis"], len(shapes[0]))
    out = [_agreed([shape[a] for shape in shapes]) for a in range(len(shapes[0]))]
    out[axis] = _total([shape[axis] for shape in shapes], s.b)
    return [(s.x.dtype, tuple(out))]


def _agreed(sizes: Sequence[Dim]) -> Dim:
    """The one size that all of these must be."""
    return next((d for d in sizes if isinstance(d, int)), sizes[0])


def _total(sizes: Sequence[Dim], b: Builder) -> Dim:
    """The sum of sizes; zeros leave a symbol as it is."""
    some = [d for d in sizes if d != 0]
    if all(isinstance(d, int) for d in some):
        return sum(d for d in some if isinstance(d, int))
    return some[0] if len(some) == 1 else b.fresh(1)[0]


def _concat_transpose(s: Site, y_bar: Var) -> Vars:
    """Each operand's cotangent is its own part."""
    axis = axis_of(s["axis"], s.y.rank)
    parts = [x for x in s.inputs if x is not None]
    if len(parts) == 1:
        return [y_bar]
    sizes = dims(s.b, *(shape_part(s.b, x, axis, axis + 1) for x in parts))
    return s.b.ops("Split", y_bar, sizes, outputs=len(parts), axis=axis)


def _concat_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    count = directions(s, batched)
    parts = [
        x if x is None or is_batched else with_directions(s.b, x, count)
        for x, is_batched in zip(s.inputs, batched, strict=True)
    ]
    return [s.again(*parts, axis=axis_of(s["axis"], s.y.rank) + 1)]


def _sizes(s: Site) -> list[Dim] | None:
    """The sizes of a Split's parts, where their number is known."""
    if s.has(1):
        given, count = s.ints(1), length(s.x1)
        if given is not None:
            return list(given)
        return None if count is None else list(s.b.fresh(count))
    if not s["num_outputs"]:
        raise UnsupportedError("Split needs sizes or num_outputs")
    whole = None if s.x.shape is None else s.x.shape[axis_of(s["axis"], s.x.rank)]
    if isinstance(whole, int):
        return list(_even(whole, s["num_outputs"]))
    return [whole] if whole and s["num_outputs"] == 1 else list(s.b.fresh(s["num_outputs"]))


def _even(whole: int, count: int) -> tuple[int, ...]:
    """Equal parts, of which the last may be smaller."""
    part = -(-whole // count)
    return tuple(max(0, min(part, whole - k * part)) for k in range(count))


def _split_infer(s: Site) -> Sequence[Type]:
    sizes = _sizes(s)
    if sizes is None:
        raise UnsupportedError("Split into a number of parts that is computed at run time")
    if s.x.shape is None:
        return [(s.x.dtype, None) for _ in sizes]
    axis = axis_of(s["axis"], s.x.rank)
    return [(s.x.dtype, (*s.x.shape[:axis], d, *s.x.shape[axis + 1 :])) for d in sizes]


def _split(
    n: Numbers, x: Array, sizes: np.ndarray | None = None, *, axis: int, num_outputs: int | None
) -> tuple[Array, ...]:
    axis = axis_of(axis, x.ndim)
    parts = _even(x.shape[axis], num_outputs or 1) if sizes is None else sizes.tolist()
    if sum(parts) != x.shape[axis]:
        raise ValueError(f"sizes {tuple(parts)} do not add up to {x.shape[axis]}")
    ends = np.cumsum([0, *parts]).tolist()
    before = [slice(None)] * axis
    return tuple(n.slice(x, [*before, slice(a, z)]) for a, z in itertools.pairwise(ends))


def _split_again(s: Site, x: Var, axis: int) -> tuple[Var, ...]:
    attrs = {**s.attrs, "axis": axis}
    return s.b.ops("Split", x, *s.inputs[1:2], outputs=len(s.outputs), **attrs)


def _split_jvp(s: Site, dots: Vars) -> Vars:
    if dots[0] is None:
        return [None] * len(s.outputs)
    return _split_again(s, dots[0], s["axis"])


def _split_vjp(s: Site, bars: Vars) -> Vars:
    """The parts joined, zeros where nothing came back."""
    parts = s.outputs
    if any(y is None and bar is None for y, bar in zip(parts, bars, strict=True)):
        parts = _split_again(s, s.x, s["axis"])  # a part that nobody reads still has a size
    whole = [
        s.b.zeros_like(y) if bar is None and y is not None else bar
        for y, bar in zip(parts, bars, strict=True)
    ]
    return [s.b.op("Concat", *whole, axis=s["axis"])]


def _split_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    return _split_again(s, s.x, axis_of(s["axis"], s.x.rank - 1) + 1)


# ---- Slice ---------------------------------------------------------------------------------------


def _cuts(s: Site) -> dict[int, slice] | None:
    """For each axis that is cut, its (start, end, step) as given; None where not all are known."""
    starts, ends, axes, steps = (s.ints(k) for k in (1, 2, 3, 4))
    if starts is None or ends is None:
        return None
    if (s.has(3) and axes is None) or (s.has(4) and steps is None):
        return None
    along = axes_of(range(len(starts)) if axes is None else axes, s.x.rank)
    pace = (1,) * len(starts) if steps is None else steps
    return {a: slice(*cut) for a, *cut in zip(along, starts, ends, pace, strict=True)}


def _reach(cut: slice, size: int) -> range:
    """The indices that a cut picks, by ONNX's rules: ends are clamped, -1 - size is before 0."""
    step = cut.step
    start = cut.start + size if cut.start < 0 else cut.start
    end = cut.stop + size if cut.stop < 0 else cut.stop
    low, high = (0, size) if step > 0 else (-1, size - 1)
    first = min(max(start, 0), high)
    return range(first, min(max(end, low), high), step) if size else range(0)


def _slice_infer(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    if shape is None:
        return [(s.x.dtype, None)]
    cuts = _cuts(s)
    if cuts is None:
        axes = s.ints(3)
        count = length(s.x1)
        along: Sequence[int] = range(len(shape))
        if s.has(3) and axes is not None:
            along = axes_of(axes, len(shape))
        elif not s.has(3) and count is not None:
            along = range(count)
        fresh = s.b.fresh(len(shape))
        return [(s.x.dtype, tuple(fresh[a] if a in along else d for a, d in enumerate(shape)))]
    out = tuple(_cut_dim(d, cuts.get(a), s.b) for a, d in enumerate(shape))
    return [(s.x.dtype, out)]


def _cut_dim(dim: Dim, cut: slice | None, b: Builder) -> Dim:
    if cut is None or (cut.start == 0 and cut.step == 1 and cut.stop >= EVERYTHING // 2**32):
        return dim
    return len(_reach(cut, dim)) if isinstance(dim, int) else b.fresh(1)[0]


def _slice(
    n: Numbers,
    x: Array,
    starts: np.ndarray,
    ends: np.ndarray,
    axes: np.ndarray | None = None,
    steps: np.ndarray | None = None,
) -> Array:
    along = axes_of(range(len(starts)) if axes is None else axes.tolist(), x.ndim)
    pace = [1] * len(starts) if steps is None else steps.tolist()
    cuts = [slice(None)] * x.ndim
    for axis, *cut in zip(along, starts.tolist(), ends.tolist(), pace, strict=True):
        cuts[axis] = _as_slice(_reach(slice(*cut), x.shape[axis]))
    return n.slice(x, cuts)


def _as_slice(reach: range) -> slice:
    """A range of indices as Python slices write it: before 0 is None."""
    if not reach:
        return slice(0, 0)
    return slice(reach.start, reach.stop if reach.stop >= 0 else None, reach.step)


def _slice_transpose(s: Site, y_bar: Var) -> Var:
    """Zeros around what was cut out, and between what was skipped."""
    cuts = _cuts(s)
    if s.x.shape is None or cuts is None or not is_static(tuple(s.x.shape[a] for a in cuts)):
        return scatter_back(s, y_bar)
    b, x_bar = s.b, y_bar
    pads: dict[int, tuple[int, int]] = {}
    for axis, cut in cuts.items():
        size = s.x.shape[axis]
        assert isinstance(size, int)
        reach = _reach(cut, size) or range(0)
        if reach.step < 0:
            x_bar = b.op("Slice", x_bar, *map(b.ints, ([-1], [-EVERYTHING], [axis], [-1])))
            reach = reach[::-1]
        if reach.step > 1 and len(reach) > 1:
            wide = len(reach) * reach.step
            x_bar = _interleave(x_bar, axis, reach.step, wide)
            reach = range(reach.start, reach.start + wide)
        pads[axis] = (reach.start, size - reach.start - len(reach))
    pads = {axis: pad for axis, pad in pads.items() if pad != (0, 0)}
    if not pads:
        return x_bar
    widths = [pad[side] for side in (0, 1) for pad in pads.values()]
    return b.op("Pad", x_bar, b.ints(widths), None, b.ints(pads))


def _interleave(x: Var, axis: int, step: int, size: int) -> Var:
    """step - 1 zeros behind every element along an axis, which has this size then."""
    b = x.b
    wide = b.op("Pad", b.unsqueeze(x, [axis + 1]), b.ints([0, step - 1]), None, b.ints([axis + 1]))
    before, after = shape_part(b, x, 0, axis), shape_part(b, x, axis + 1, x.rank)
    return b.op("Reshape", wide, dims(b, before, [size], after), allowzero=1)


def _slice_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    if s.has(3):
        axes = shifted(s.b, s.input(3))
    else:
        count = length(s.x1)
        if count is None:
            raise NotImplementedError("no axes given, and their number is not known")
        axes = s.b.ints(range(1, 1 + count))
    return [s.again(s.x, s.x1, s.input(2), axes, *s.inputs[4:])]


# ---- any operator that only moves elements -------------------------------------------------------


def scatter_back(s: Site, y_bar: Var) -> Var:
    """The transpose of an operator that moves elements: each cotangent goes where its element was.

    The operator itself is applied to the numbers 0, 1, 2, ... in x's shape, which says for every
    element of the result which one of x it is. Elements that appear several times are summed.
    """
    b = s.b
    count = b.op("Size", s.x)
    zero, one = b.constant(np.int64(0)), b.constant(np.int64(1))
    places = b.op("Reshape", b.op("Range", zero, count, one), b.shape_of(s.x))
    home = b.reshape(s.again(places, *s.inputs[1:]), [-1])
    flat_zeros = b.reshape(b.zeros_like(s.x), [-1])
    summed = b.op(
        "ScatterElements", flat_zeros, home, b.reshape(y_bar, [-1]), axis=0, reduction="add"
    )
    return b.reshape_like(summed, s.x)


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


def _check_reduction(s: Site) -> None:
    if s["reduction"] not in ("none", "add"):
        raise UnsupportedError(f"{s.key} with reduction {s['reduction']!r} has no derivative rule")


def _scatter_jvp(s: Site, dots: Vars) -> Vars:
    _check_reduction(s)
    data, _, updates = dots
    if data is None and updates is None:
        return [None]
    return [s.again(data or s.b.zeros_like(s.x), s.x1, updates or s.b.zeros_like(s.input(2)))]


def _scatter_vjp(gather: str, *attributes: str) -> Callable[[Site, Vars], Vars]:
    """What was overwritten gets nothing, and what was written gets what stands there."""

    def vjp(s: Site, bars: Vars) -> Vars:
        _check_reduction(s)
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
        same,
        impl,
        jvp=_scatter_jvp,
        vjp=_scatter_vjp(gather, *attributes),
        flat={"indices": INDEX},
        **facets,
    )


# ---- Pad and Tile --------------------------------------------------------------------------------


def _widths(pads: Sequence[int], axes: Sequence[int] | None, rank: int) -> list[tuple[int, int]]:
    """How many elements come before and after, for each axis; negative numbers cut off."""
    along = axes_of(range(rank) if axes is None else axes, rank)
    if len(pads) != 2 * len(along):
        raise ValueError(f"{len(pads)} pads for {len(along)} axes")
    out = [(0, 0)] * rank
    for k, axis in enumerate(along):
        out[axis] = (pads[k], pads[len(along) + k])
    return out


def _pad_infer(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    if shape is None:
        return [(s.x.dtype, None)]
    pads, axes = s.ints(1), s.ints(3)
    if s.has(3) and axes is None:
        return [(s.x.dtype, s.b.fresh(len(shape)))]
    if pads is None:
        along = axes_of(range(len(shape)) if axes is None else axes, len(shape))
        fresh = s.b.fresh(len(shape))
        return [(s.x.dtype, tuple(fresh[a] if a in along else d for a, d in enumerate(shape)))]
    widths = _widths(pads, axes, len(shape))
    return [(s.x.dtype, tuple(_wider(d, w, s.b) for d, w in zip(shape, widths, strict=True)))]


def _wider(dim: Dim, width: tuple[int, int], b: Builder) -> Dim:
    if width == (0, 0):
        return dim
    if not isinstance(dim, int):
        return b.fresh(1)[0]
    if dim + sum(width) < 0:
        raise ValueError(f"pads {width} leave less than nothing of {dim}")
    return dim + sum(width)


def _pad(
    n: Numbers,
    x: Array,
    pads: np.ndarray,
    value: Array | None = None,
    axes: np.ndarray | None = None,
    *,
    mode: str,
) -> Array:
    widths = _widths(pads.tolist(), None if axes is None else axes.tolist(), x.ndim)
    if mode == "constant":
        cuts = [
            slice(max(-a, 0), d - max(-z, 0)) for d, (a, z) in zip(x.shape, widths, strict=True)
        ]
        grown = [(max(a, 0), max(z, 0)) for a, z in widths]
        fill = n.zero_of(x) if value is None else n.reshape(value, ())
        return n.pad(n.slice(x, cuts), grown, fill)
    for axis, (before, after) in enumerate(widths):
        if (before, after) != (0, 0):
            x = n.take(x, _mirrored(x.shape[axis], before, after, mode), axis)
    return x


def _mirrored(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Which element stands at each place of a padded axis."""
    inside = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
    grown = (max(before, 0), max(after, 0))
    return np.pad(inside, grown, mode=mode)  # type: ignore[call-overload,no-any-return] # mode is one of NumPy's


def _pad_jvp(s: Site, dots: Vars) -> Vars:
    data, _, value, _ = (*dots, None, None)[:4]
    if s["mode"] != "constant":
        value = None
    if data is None and value is None:
        return [None]
    return [s.again(data or s.b.zeros_like(s.x), s.x1, value, *s.inputs[3:])]


def _pad_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    out: list[Var | None] = [None] * len(s.inputs)
    axes = s.inputs[3:]
    if s["mode"] != "constant":
        out[0] = scatter_back(s, y_bar) if s.wants(0) else None
        return out
    if s.wants(0):
        pads = s.ints(1)
        back = -s.x1 if pads is None else s.b.ints(-p for p in pads)
        out[0] = s.again(y_bar, back, None, *axes)
    if s.wants(2):
        border = s.b.op("Pad", s.b.zeros_like(s.x), s.x1, s.b.like(1.0, s.x), *axes)
        total = s.b.sum(s.b.where(border > 0.5, y_bar, 0.0), None, keepdims=False)
        out[2] = s.b.reshape_like(total, s.input(2))
    return out


def _pad_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """The axes are named, so that none stands for the directions."""
    b, rank = s.b, s.y.rank
    axes = shifted(b, s.input(3)) if s.has(3) else b.ints(range(1, 1 + rank))
    value = s.inputs[2] if s.has(2) else None
    if not (len(batched) > 2 and batched[2]):
        return [s.again(s.x, s.x1, value, axes)]
    # Each direction has a border of its own: zeros for a border, plus the border alone.
    count = directions(s, batched)
    x = s.x if batched[0] else with_directions(b, s.x, count)
    assert value is not None
    ones = b.op("Pad", b.zeros_like(x), s.x1, b.like(1.0, x), axes)
    own = b.reshape(value, [-1, *[1] * rank])
    return [s.again(x, s.x1, None, axes) + b.where(ones > 0.5, own, 0.0)]


def _tile_infer(s: Site) -> Sequence[Type]:
    shape, repeats = s.x.shape, s.ints(1)
    if shape is None:
        return [(s.x.dtype, None)]
    if repeats is None:
        return [(s.x.dtype, s.b.fresh(len(shape)))]
    return [(s.x.dtype, tuple(_repeated(d, r, s.b) for d, r in zip(shape, repeats, strict=True)))]


def _repeated(dim: Dim, count: int, b: Builder) -> Dim:
    if count == 1:
        return dim
    return dim * count if isinstance(dim, int) else b.fresh(1)[0]


def _tile(n: Numbers, x: Array, repeats: np.ndarray) -> Array:
    shape, counts = x.shape, repeats.tolist()
    thin = n.reshape(x, [d for pair in zip([1] * len(shape), shape, strict=True) for d in pair])
    wide = n.broadcast_to(thin, [d for pair in zip(counts, shape, strict=True) for d in pair])
    return n.reshape(wide, [r * d for r, d in zip(counts, shape, strict=True)])


def _tile_transpose(s: Site, y_bar: Var) -> Var:
    """The copies apart, then their sum."""
    b, rank = s.b, s.x.rank
    pairs = b.op("Concat", *(b.unsqueeze(v, [1]) for v in (s.x1, b.shape_of(s.x))), axis=1)
    repeats = s.ints(1)
    if repeats is not None and s.x.shape is not None and is_static(s.x.shape):
        pairs = b.ints(d for pair in zip(repeats, s.x.shape, strict=True) for d in pair)  # type: ignore[misc] # static
    apart = b.op("Reshape", y_bar, b.reshape(pairs, [2 * rank]))
    return b.sum(apart, range(0, 2 * rank, 2), keepdims=False)


def _tile_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    return [s.again(s.x, dims(s.b, [1], s.x1))]


# ---- Trilu, OneHot, NonZero, TopK ----------------------------------------------------------------


def _trilu(n: Numbers, x: Array, k: np.ndarray | None = None, *, upper: int) -> Array:
    offset = 0 if k is None else int(k.reshape(()))
    rows, columns = x.shape[-2:]
    below = np.tri(rows, columns, offset - bool(upper), dtype=bool)  # upper keeps the diagonal too
    places = np.nonzero(np.broadcast_to(below if upper else ~below, x.shape))
    return n.scatter(x, places, n.zero_of(x), "none")


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
        "Concat",
        lambda n, *parts, axis: n.concat(parts, axis),
        _concat_transpose,
        inputs=("inputs*",),
        infer=_concat_infer,
        batch=_concat_batch,
        over=None,
        attrs={"axis": REQUIRED},
    ),
    Card(
        "Split",
        "linear",
        ("input", "split?"),
        _split_infer,
        _split,
        ("outputs*",),
        attrs={"axis": 0, "num_outputs": None},
        jvp=_split_jvp,
        vjp=_split_vjp,
        batch=_split_batch,
        flat={"split": INDEX},
    ),
    linear(
        "Slice",
        _slice,
        _slice_transpose,
        inputs=("data", "starts", "ends", "axes?", "steps?"),
        infer=_slice_infer,
        batch=_slice_batch,
        flat={"starts": INDEX, "ends": INDEX, "axes": AXES, "steps": INDEX},
    ),
    linear(
        "Gather",
        lambda n, x, indices, axis: n.take(x, indices, axis),
        _gather_transpose,
        inputs=("data", "indices"),
        infer=_gather_infer,
        batch=_gather_batch,
        attrs={"axis": 0},
        flat={"indices": INDEX},
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
    Card(
        "Pad",
        "linear",
        ("data", "pads", "constant_value?", "axes?"),
        _pad_infer,
        _pad,
        attrs={"mode": "constant"},
        jvp=_pad_jvp,
        vjp=_pad_vjp,
        batch=_pad_batch,
        flat={"pads": INDEX, "axes": AXES},
    ),
    linear(
        "Tile",
        _tile,
        _tile_transpose,
        inputs=("input", "repeats"),
        infer=_tile_infer,
        batch=_tile_batch,
        flat={"repeats": INDEX},
    ),
    linear(
        "Trilu",
        _trilu,
        lambda s, y_bar: s.again(y_bar, *s.inputs[1:]),
        inputs=("input", "k?"),
        infer=same,
        batch=lambda s, batched: [s.again(s.x, *s.inputs[1:])],
        attrs={"upper": 1},
        flat={"k": INDEX},
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
    ),
)
