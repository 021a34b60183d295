"""Pools: the greatest or the mean of every window, or of a whole plane."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Dim, DType, Type, Var, size
from gradcli.numbers import Array, Numbers
from gradcli.ops import spatial
from gradcli.ops.card import REQUIRED, Site, Vars
from gradcli.ops.kinds import batch_fold, composite, custom, linear
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
    """y_bar divided by what its window's sum was divided by."""
    whole = float(size(spatial.kernel(axes)))
    if all(isinstance(a.size, int) for a in axes):
        counts = _counts(axes, s["count_include_pad"], dict(s.attrs))
        if np.all(counts == whole):
            return y_bar * (1.0 / whole)
        # A window of padding alone divides by 0; what it sends back lands on the padding.
        return y_bar * s.b.constant(1.0 / np.maximum(counts, 1.0), s.x.dtype)
    padded = any(spatial.pads(axes))
    if not padded or (s["count_include_pad"] and not s["ceil_mode"]):
        return y_bar * (1.0 / whole)
    if s["count_include_pad"]:
        raise UnsupportedError(
            "AveragePool with ceil_mode and count_include_pad over sizes known only at run time",
            "give the input's shape, so that the graph can be specialised to it",
        )
    # The mean of ones that also counts the padding is the share of each window that lies inside.
    inside = s.again(s.b.full_like(s.x, 1.0), count_include_pad=1)
    return y_bar / (inside * whole)


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
)
