"""Operators that join, cut, border and repeat tensors: every element moves whole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, Type, Var, is_static
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import (
    AXES,
    EVERYTHING,
    INDEX,
    axes_of,
    dims,
    directions,
    length,
    shape_part,
    shifted,
    with_directions,
)
from gradcli.ops.card import REQUIRED, Card, Site, Vars
from gradcli.ops.kinds import axis_of, linear, same

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
    # All of them are integers of one type.
    return [s.again(s.x, s.x1, s.input(2), s.b.cast(axes, s.x1.dtype), *s.inputs[4:])]


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


# ---- Trilu ---------------------------------------------------------------------------------------


def _trilu(n: Numbers, x: Array, k: np.ndarray | None = None, *, upper: int) -> Array:
    offset = 0 if k is None else int(k.reshape(()))
    rows, columns = x.shape[-2:]
    below = np.tri(rows, columns, offset - bool(upper), dtype=bool)  # upper keeps the diagonal too
    places = np.nonzero(np.broadcast_to(below if upper else ~below, x.shape))
    return n.scatter(x, places, n.zero_of(x), "none")


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
        rounds=False,
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
        rounds=False,
    ),
    linear(
        "Slice",
        _slice,
        _slice_transpose,
        inputs=("data", "starts", "ends", "axes?", "steps?"),
        infer=_slice_infer,
        batch=_slice_batch,
        flat={"starts": INDEX, "ends": INDEX, "axes": AXES, "steps": INDEX},
        rounds=False,
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
        rounds=False,
    ),
    linear(
        "Tile",
        _tile,
        _tile_transpose,
        inputs=("input", "repeats"),
        infer=_tile_infer,
        batch=_tile_batch,
        flat={"repeats": INDEX},
        rounds=False,
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
        rounds=False,
    ),
)
