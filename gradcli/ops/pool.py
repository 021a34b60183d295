"""Pools: the greatest, the mean or the norm of every window, or of a whole plane."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, DType, Type, Var, size
from gradcli.numbers import Array, Numbers
from gradcli.ops import spatial
from gradcli.ops.axes import INDEX, SHAPE, product, shape_part
from gradcli.ops.axes import dims as shape_tensor
from gradcli.ops.card import REQUIRED, Site, Vars
from gradcli.ops.kinds import batch_fold, composite, custom, linear
from gradcli.ops.reduce import fold_origin, fold_signs, graph_powers, graph_root, powers, root
from gradcli.ops.spatial import Axes

POOL_ATTRS: dict[str, Any] = {
    "auto_pad": "NOTSET",
    "ceil_mode": 0,
    "dilations": None,
    "kernel_shape": REQUIRED,
    "pads": None,
    "strides": None,
}


def _axes(sizes: Sequence[Dim], kernel_shape: Sequence[int], **how: Any) -> Axes:
    keys = ("strides", "dilations", "pads", "auto_pad", "ceil_mode")
    return spatial.windows(sizes, kernel_shape, centred=True, **{key: how[key] for key in keys})


def _site_axes(s: Site) -> Axes:
    assert s.x.shape is not None
    return _axes(s.x.shape[2:], **s.attrs)


def _pool_types(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None), (DType.INT64, None)]
    shape = spatial.dims(s.b, (*s.x.shape[:2], *(a.output for a in _site_axes(s))))
    return [(s.x.dtype, shape), (DType.INT64, shape)]


def _is_wide(axes: Axes) -> bool:
    """Whether windows have so many elements that one reduction beats one step for each of them."""
    return size(spatial.kernel(axes)) > 64


# ---- MaxPool -------------------------------------------------------------------------------------


def _max_pool(n: Numbers, x: Array, *, storage_order: int, **how: Any) -> tuple[Array, Any]:
    axes = _axes(x.shape[2:], **how)
    lowest = -np.inf if n.is_number(x) else np.array(np.iinfo(x.dtype).min, x.dtype)
    view = spatial.cut(n, x, axes, lowest)
    if _is_wide(axes):
        y = n.max(view, range(x.ndim, view.ndim), keepdims=False)
    else:
        y = reduce(n.maximum, spatial.taps(n, view, len(axes)))
    return y, lambda: _places(n, x.shape, view, axes, storage_order)


def _places(
    n: Numbers, shape: tuple[int, ...], view: Array, axes: Axes, storage_order: int
) -> np.ndarray:
    """Where in the flattened operand the first greatest element of each window stands."""
    k = len(axes)
    winner = n.argmax(n.reshape(view, (*view.shape[: 2 + k], -1)), -1)
    plane = np.arange(size(shape[2:])).reshape(shape[2:], order="F" if storage_order else "C")
    # Padding never wins against a number; where all are -inf, its place is that of a neighbour.
    places = spatial.cut_places(n, plane, axes)
    places = places.reshape(*places.shape[:k], -1)
    chosen = np.take_along_axis(places[None, None], winner[..., None], axis=-1)[..., 0]
    planes = np.arange(shape[0] * shape[1]).reshape(shape[:2]) * size(shape[2:])
    return (chosen + planes.reshape(*shape[:2], *(1,) * k)).astype(np.int64)


def _indices(s: Site) -> Var:
    """The row-major places of the greatest elements: this node's own, or those of a twin."""
    own = s.outputs[1] if len(s.outputs) > 1 else None
    if own is not None and not s["storage_order"]:
        return own
    attrs = {**s.attrs, "storage_order": 0}
    return s.b.ops("MaxPool", s.x, outputs=2, **attrs)[1]


def _max_pool_jvp(s: Site, dots: Vars) -> Vars:
    (x_dot,) = dots
    assert x_dot is not None
    indices = _indices(s)
    flat = s.b.reshape(x_dot, [-1])
    chosen = s.b.op("GatherElements", flat, s.b.reshape(indices, [-1]), axis=0)
    return [s.b.reshape_like(chosen, s.y), None]


def _max_pool_vjp(s: Site, bars: Vars) -> Vars:
    y_bar = bars[0]
    if y_bar is None:
        return [None]
    indices = s.b.reshape(_indices(s), [-1])
    zeros = s.b.zeros_like(s.b.reshape(s.x, [-1]))
    updates = s.b.reshape(y_bar, [-1])
    flat = s.b.op("ScatterElements", zeros, indices, updates, axis=0, reduction="add")
    return [s.b.reshape_like(flat, s.x)]


def max_pool_values(s: Site) -> Sequence[Var]:
    """MaxPool's values alone, by comparisons: each element against the greatest before it.

    For number systems in which nobody can tell the place of the greatest; its rules agree with the
    convention. Shapes are known.
    """
    b, axes = s.b, _site_axes(s)
    k = len(axes)
    padding = spatial.pads(axes)
    x = s.x
    if any(padding):
        lowest = b.constant(np.array(-np.inf), x.dtype)
        x = b.op("Pad", x, b.ints([0, 0, *padding[:k], 0, 0, *padding[k:]]), lowest)

    def tap(at: tuple[int, ...]) -> Var:
        starts = [i * a.dilation for i, a in zip(at, axes, strict=True)]
        ends = [
            start + (int(a.output or 0) - 1) * a.stride + 1
            for start, a in zip(starts, axes, strict=True)
        ]
        cut = (starts, ends, range(2, k + 2), spatial.strides(axes))
        return b.op("Slice", x, *map(b.ints, cut))

    def greater(top: Var, one: Var) -> Var:
        # The first of those that tie stays.
        return b.op("Where", b.op("Less", top, one), one, top)

    return [reduce(greater, map(tap, np.ndindex(*spatial.kernel(axes))))]


def _gap(windows: np.ndarray) -> np.ndarray:
    """The greatest less the second greatest along the last axis; infinite for a single one."""
    if windows.shape[-1] < 2:
        return np.full(windows.shape[:-1], np.inf)
    top = np.partition(windows, -2, axis=-1)[..., -2:]
    return top[..., 1] - top[..., 0]


def _max_pool_kinks(n: Numbers, x: Array, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    how.pop("storage_order")
    axes = _axes(x.shape[2:], **how)
    view = spatial.cut(n, x, axes, -np.inf)
    flat = np.real(view).reshape(*view.shape[: x.ndim], -1)
    return _gap(flat), np.argmax(flat, axis=-1)


# ---- AveragePool ---------------------------------------------------------------------------------


def _average_pool(n: Numbers, x: Array, *, count_include_pad: int, **how: Any) -> Array:
    axes = _axes(x.shape[2:], **how)
    view = spatial.cut(n, x, axes, 0.0)
    if _is_wide(axes):
        total = n.sum(view, range(x.ndim, view.ndim), keepdims=False)
    else:
        total = reduce(add, spatial.taps(n, view, len(axes)))
    return total / n.lift(_counts(axes, count_include_pad, how))


def _counts(axes: Axes, count_include_pad: int, how: dict[str, Any]) -> np.ndarray:
    """By what each window's sum is divided, [out1..outk].

    Padding counts where asked for, but never what ceil_mode adds behind it.
    """
    none = tuple((0, 0) for _ in axes)
    return spatial.counts(axes, _stated_padding(axes, how) if count_include_pad else none)


def _stated_padding(axes: Axes, how: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    if how["auto_pad"] == "VALID":
        return tuple((0, 0) for _ in axes)
    k = len(axes)
    ends = tuple(how["pads"] or (0,) * 2 * k) if how["auto_pad"] == "NOTSET" else spatial.pads(axes)
    return tuple(zip(ends[:k], ends[k:], strict=True))


def _average_pool_in_x(s: Site, y_bar: Var) -> Var:
    assert s.x.shape is not None
    channels, axes = s.x.shape[1], _site_axes(s)
    if not isinstance(channels, int):
        raise UnsupportedError(
            "AveragePool over a number of channels that is known only at run time",
            "give the input's shape, so that the graph can be specialised to it",
        )
    ones = s.b.constant(np.ones((channels, 1, *spatial.kernel(axes))), s.x.dtype)
    return spatial.spread(s.b, _per_element(s, y_bar, axes), ones, axes, channels, like=s.x)


def _per_element(s: Site, y_bar: Var, axes: Axes) -> Var:
    """y_bar divided by what its window's sum was divided by; of 1 / 3 no float is left."""
    whole = float(size(spatial.kernel(axes)))
    if all(isinstance(a.size, int) for a in axes):
        counts = _counts(axes, s["count_include_pad"], dict(s.attrs))
        if np.all(counts == whole):
            return y_bar / whole
        # A window of padding alone divides by 0; what it sends back lands on the padding.
        return y_bar / s.b.constant(np.maximum(counts, 1.0), s.x.dtype)
    padded = any(spatial.pads(axes))
    if not padded or (s["count_include_pad"] and not s["ceil_mode"]):
        return y_bar / whole
    if s["count_include_pad"]:
        raise UnsupportedError(
            "AveragePool with ceil_mode and count_include_pad over sizes known only at run time",
            "give the input's shape, so that the graph can be specialised to it",
        )
    # The mean of ones that also counts the padding is the share of each window that lies inside.
    inside = s.again(s.b.full_like(s.x, 1.0), count_include_pad=1)
    return y_bar / (inside * whole)


# ---- LpPool --------------------------------------------------------------------------------------


def _check_order(s: Site) -> None:
    if s["p"] < 1:
        raise ValueError(f"{s.key} of order {s['p']}: at least 1 is wanted")


def _lp_pool_types(s: Site) -> Sequence[Type]:
    _check_order(s)
    return _pool_types(s)[:1]


def _lp_pool(n: Numbers, x: Array, *, p: int, **how: Any) -> Array:
    axes = _axes(x.shape[2:], **how)
    view = spatial.cut(n, powers(n, x, p), axes, 0.0)
    return root(n, reduce(add, spatial.taps(n, view, len(axes))), p)


def _lp_pool_expansion(s: Site) -> Sequence[Var]:
    b, p, axes = s.b, s["p"], _site_axes(s)
    k = len(axes)
    ends = spatial.pads(axes)
    # What no window reaches would make one more of them where ceil_mode left one out.
    behind = [
        end - min(end, a.slack or 0) if end > 0 else end
        for end, a in zip(ends[k:], axes, strict=True)
    ]
    x = graph_powers(b, s.x, p)
    if any(ends[:k]) or any(behind):
        x = b.op("Pad", x, b.ints([0, 0, *ends[:k], 0, 0, *behind]))
    mean = b.op(
        "AveragePool",
        x,
        kernel_shape=spatial.kernel(axes),
        strides=spatial.strides(axes),
        dilations=spatial.dilations(axes),
    )
    return [graph_root(b, mean * float(size(spatial.kernel(axes))), p)]


def _lp_pool_kinks(
    n: Numbers, x: np.ndarray, *, p: int, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Padding does not move: a window of nothing else has no kink."""
    axes = _axes(x.shape[2:], **how)
    inner = tuple(range(x.ndim, x.ndim + len(axes)))
    view = spatial.cut(n, np.real(x), axes, np.inf if p == 1 else 0.0)
    margin, branch = (fold_signs if p == 1 else fold_origin)(n, view, inner, keepdims=False)
    moves = spatial.counts(axes, tuple((0, 0) for _ in axes)) > 0
    return np.where(moves, margin, np.inf), branch


# ---- MaxUnpool -----------------------------------------------------------------------------------
#
# An index counts places of the result, as MaxPool's own Indices do and onnxruntime reads them; the
# reference evaluator counts those of the result that the windows alone would make.


def _unpooled(s: Site) -> list[tuple[int, int]]:
    """For each spatial axis: stride, and what is added to (size - 1) * stride."""
    k = len(s["kernel_shape"])
    if s.x.shape is not None and s.x.rank != k + 2:
        raise ValueError(f"a kernel of {k} axes for {s.x.rank} dimensions")
    strides, pads = s["strides"] or (1,) * k, s["pads"] or (0,) * 2 * k
    return [
        (stride, width - before - after)
        for stride, width, before, after in zip(
            strides, s["kernel_shape"], pads[:k], pads[k:], strict=True
        )
    ]


def _unpool_types(s: Site) -> Sequence[Type]:
    steps = _unpooled(s)
    if s.has(2):
        asked = s.ints(2)
        return [(s.x.dtype, s.b.fresh(len(steps) + 2) if asked is None else asked)]
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    known = [
        (d - 1) * stride + rest if isinstance(d, int) else None
        for d, (stride, rest) in zip(s.x.shape[2:], steps, strict=True)
    ]
    return [(s.x.dtype, spatial.dims(s.b, (*s.x.shape[:2], *known)))]


def _max_unpool(
    n: Numbers,
    x: Array,
    indices: np.ndarray,
    output_shape: np.ndarray | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
) -> Array:
    k = len(kernel_shape)
    if output_shape is None:
        strides, pads = strides or (1,) * k, pads or (0,) * 2 * k
        given = zip(x.shape[2:], strides, kernel_shape, pads[:k], pads[k:], strict=True)
        shape = (*x.shape[:2], *((d - 1) * s + w - p - q for d, s, w, p, q in given))
    else:
        shape = tuple(output_shape.tolist())
    zeros = n.full((size(shape),), 0.0)
    places = (indices.reshape(-1),)
    return n.reshape(n.scatter(zeros, places, n.reshape(x, (-1,)), "none"), shape)


def _max_unpool_expansion(s: Site) -> Sequence[Var]:
    b = s.b
    if s.has(2):
        shape = s.input(2)
    else:
        steps = _unpooled(s)
        inner = shape_part(b, s.x, 2, s.x.rank) - b.ints([1] * len(steps))
        grown = inner * b.ints([stride for stride, _ in steps]) + b.ints([r for _, r in steps])
        shape = shape_tensor(b, shape_part(b, s.x, 0, 2), grown)
    places, x = b.reshape(s.x1, [-1]), b.reshape(s.x, [-1])
    count = product(b, shape)
    if not _distinct(places):
        x = b.where(_last(b, places, count), x, 0.0)
    zeros = b.op("ConstantOfShape", count, value=np.zeros(1, s.x.dtype.np))
    y = b.op("ScatterElements", zeros, places, x, axis=0, reduction="add")
    return [b.op("Reshape", y, shape, allowzero=1)]


def _distinct(places: Var) -> bool:
    known = places.const
    return known is not None and len(np.unique(known)) == known.size


def _last(b: Builder, places: Var, count: Var) -> Var:
    """Which places no later one repeats: those that are not written over."""
    total = b.op("Squeeze", b.op("Shape", places), b.ints([0]))
    own = b.op("Range", b.constant(np.int64(0)), total, b.constant(np.int64(1)))
    nobody = b.op("ConstantOfShape", count, value=np.zeros(1, np.int64))
    writer = b.op("ScatterElements", nobody, places, own, axis=0)
    return b.op("Equal", b.op("GatherElements", writer, places, axis=0), own)


# ---- over a whole plane --------------------------------------------------------------------------


def _plane_types(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    return [(s.x.dtype, None if shape is None else (*shape[:2], *(1,) * (len(shape) - 2)))]


def _plane(rank: int) -> range:
    return range(2, rank)


def _global_average(n: Numbers, x: Array) -> Array:
    total = n.sum(x, _plane(x.ndim), keepdims=True)
    return total / n.full((), float(size(x.shape[2:])))


def _global_kinks(n: Numbers, x: Array) -> tuple[np.ndarray, np.ndarray]:
    flat = np.real(x).reshape(*x.shape[:2], -1)
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2))
    return _gap(flat).reshape(shape), np.argmax(flat, axis=-1).reshape(shape)


def _global_norm(n: Numbers, x: Array, *, p: int) -> Array:
    return root(n, n.sum(powers(n, x, p), _plane(x.ndim), keepdims=True), p)


def _global_norm_types(s: Site) -> Sequence[Type]:
    _check_order(s)
    return _plane_types(s)


def _global_norm_expansion(s: Site) -> Sequence[Var]:
    total = s.b.sum(graph_powers(s.b, s.x, s["p"]), axes=_plane(s.x.rank), keepdims=True)
    return [graph_root(s.b, total, s["p"])]


def _global_norm_kinks(n: Numbers, x: np.ndarray, *, p: int) -> tuple[np.ndarray, np.ndarray]:
    fold = fold_signs if p == 1 else fold_origin
    return fold(n, np.real(x), tuple(_plane(x.ndim)), keepdims=True)


NORM = "0 for a window of zeros, and the slope of |x| at 0 is 0"

CARDS = (
    custom(
        "MaxPool",
        _max_pool,
        _max_pool_jvp,
        _max_pool_vjp,
        inputs=("X",),
        outputs=("Y", "Indices"),
        infer=_pool_types,
        attrs={**POOL_ATTRS, "storage_order": 0},
        kinks=_max_pool_kinks,
        convention="the first of the greatest elements, in row-major order, takes all",
        rounds=False,
    ),
    linear(
        "AveragePool",
        _average_pool,
        _average_pool_in_x,
        inputs=("X",),
        infer=lambda s: _pool_types(s)[:1],
        batch=batch_fold(1),
        attrs={**POOL_ATTRS, "count_include_pad": 0},
    ),
    composite(
        "GlobalAveragePool",
        _global_average,
        lambda s: [s.b.op("ReduceMean", s.x, s.b.ints(_plane(s.x.rank)), keepdims=1)],
        inputs=("X",),
        infer=_plane_types,
    ),
    composite(
        "GlobalMaxPool",
        lambda n, x: n.max(x, _plane(x.ndim), keepdims=True),
        lambda s: [s.b.op("ReduceMax", s.x, s.b.ints(_plane(s.x.rank)), keepdims=1)],
        inputs=("X",),
        infer=_plane_types,
        kinks=_global_kinks,
        convention="elements that tie share evenly, as in ReduceMax",
        rounds=False,
    ),
    composite(
        "LpPool",
        _lp_pool,
        _lp_pool_expansion,
        inputs=("X",),
        infer=_lp_pool_types,
        attrs={**POOL_ATTRS, "p": 2},
        kinks=_lp_pool_kinks,
        convention=NORM,
    ),
    composite(
        "GlobalLpPool",
        _global_norm,
        _global_norm_expansion,
        inputs=("X",),
        infer=_global_norm_types,
        attrs={"p": 2},
        kinks=_global_norm_kinks,
        convention=NORM,
    ),
    composite(
        "MaxUnpool",
        _max_unpool,
        _max_unpool_expansion,
        inputs=("X", "I", "output_shape?"),
        infer=_unpool_types,
        attrs={"kernel_shape": REQUIRED, "pads": None, "strides": None},
        flat={"I": INDEX, "output_shape": SHAPE},
        rounds=False,
    ),
)
