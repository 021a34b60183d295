"""Convolution and transposed convolution: of any rank, each the other's transpose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, Type, Var, size
from gradcli.numbers import Array, Numbers
from gradcli.ops import spatial
from gradcli.ops.axes import dims, shape_part
from gradcli.ops.card import Site
from gradcli.ops.kinds import bilinear, fold, unfold
from gradcli.ops.spatial import Axes

BLOCK = 1 << 21
"""Elements of unfolded windows to hold at once: 8 MB of float64."""

CONV_ATTRS: dict[str, Any] = {
    "auto_pad": "NOTSET",
    "dilations": None,
    "group": 1,
    "kernel_shape": None,
    "pads": None,
    "strides": None,
}


# ---- shapes --------------------------------------------------------------------------------------


def _kernel(s: Site) -> tuple[int, ...] | None:
    """The kernel's size, from the weight or else from the attribute; None where neither tells."""
    shape = s.x1.shape
    known = () if shape is None else tuple(d for d in shape[2:] if isinstance(d, int))
    if shape is not None and len(known) == len(shape) - 2:
        return known
    return None if s["kernel_shape"] is None else tuple(s["kernel_shape"])


def _windows_of(s: Site) -> dict[str, Any]:
    if (kernel := _kernel(s)) is None:
        raise UnsupportedError(
            "the kernel's size is known only at run time",
            "give the input's shape, so that the graph can be specialised to it",
        )
    return {"kernel": kernel, **{a: s[a] for a in ("strides", "dilations", "pads", "auto_pad")}}


def _conv_axes(s: Site) -> Axes:
    assert s.x.shape is not None
    return spatial.windows(s.x.shape[2:], **_windows_of(s))


def _transposed_axes(s: Site) -> Axes:
    assert s.x.shape is not None
    how = {key: s[key] for key in ("output_padding", "output_shape")}
    return spatial.transposed(s.x.shape[2:], **_windows_of(s), **how)


def conv_types(s: Site) -> Sequence[Type]:
    """The type of a convolution of the first operand with the second."""
    x, w = s.x.shape, s.x1.shape
    if x is None:
        return [(s.x.dtype, None)]
    if w is not None and len(w) != len(x):
        raise ValueError(f"a weight of shape {w} for an operand of shape {x}")
    if (
        w is not None
        and isinstance(w[1], int)
        and isinstance(x[1], int)
        and w[1] * s["group"] != x[1]
    ):
        raise ValueError(f"{x[1]} channels in {s['group']} groups for a weight of shape {w}")
    channels = None if w is None else w[0]
    unknown: tuple[Dim | None, ...] = (None,) * (len(x) - 2)
    outputs = unknown if _kernel(s) is None else tuple(a.output for a in _conv_axes(s))
    shape = spatial.dims(s.b, (x[0], channels, *outputs))
    return [(s.x.dtype, shape)]


def _transposed_types(s: Site) -> Sequence[Type]:
    x, w = s.x.shape, s.x1.shape
    if x is None:
        return [(s.x.dtype, None)]
    if w is not None and len(w) != len(x):
        raise ValueError(f"a weight of shape {w} for an operand of shape {x}")
    if w is not None and isinstance(w[0], int) and isinstance(x[1], int) and w[0] != x[1]:
        raise ValueError(f"{x[1]} channels for a weight of shape {w}")
    known = w is not None and isinstance(w[1], int)
    channels = w[1] * s["group"] if w is not None and known else None
    unknown: tuple[Dim | None, ...] = (None,) * (len(x) - 2)
    outputs = unknown if _kernel(s) is None else tuple(a.size for a in _transposed_axes(s))
    shape = spatial.dims(s.b, (x[0], channels, *outputs))
    return [(s.x.dtype, shape)]


# ---- the primals ---------------------------------------------------------------------------------


def conv(
    n: Numbers, x: Array, w: Array, b: Array | None = None, *, group: int, **how: Any
) -> Array:
    """The primal of Conv."""
    how.pop("kernel_shape")
    axes = spatial.windows(x.shape[2:], w.shape[2:], **how)
    return _with_bias(n, _unfolded_product(n, x, w, axes, group), b)


def _unfolded_product(n: Numbers, x: Array, w: Array, axes: Axes, group: int) -> Array:
    """Windows unfolded into columns, then one matrix product for each sample and group."""
    view = spatial.cut(n, x, axes, 0.0)
    k = len(axes)
    (samples, channels), places = view.shape[:2], view.shape[2 : 2 + k]
    taps, spots = range(2 + k, 2 + 2 * k), range(2, 2 + k)
    rows = channels // group * size(spatial.kernel(axes))
    weights = n.reshape(w, (group, w.shape[0] // group, rows))
    # Few samples at a time, and of one large sample few places: blocks that a cache holds.
    at_once = max(1, BLOCK // max(1, group * rows * size(places)))
    span = max(1, BLOCK // max(1, group * rows * size(places[1:])))
    parts = []
    for start in range(0, max(samples, 1), at_once):
        strips = []
        for top in range(0, max(places[0], 1), span):
            cuts = [slice(start, start + at_once), slice(None), slice(top, top + span)]
            block = n.slice(view, cuts)
            count, here = block.shape[0], size(block.shape[2 : 2 + k])
            # The copy is fast where its innermost axis is long: the windows' places, or, when a
            # weight's cotangent is computed, the many elements of a window.
            if size(spatial.kernel(axes)) > 8 * here:
                block = n.transpose(block, (0, *spots, 1, *taps))
                block = n.reshape(block, (count, here, group, rows))
                block = n.transpose(block, (0, 2, 3, 1))
            else:
                block = n.transpose(block, (0, 1, *taps, *spots))
                block = n.reshape(block, (count, group, rows, here))
            strips.append(n.matmul(weights, block))
        parts.append(strips[0] if len(strips) == 1 else n.concat(strips, 3))
    y = parts[0] if len(parts) == 1 else n.concat(parts, 0)
    return n.reshape(y, (samples, w.shape[0], *places))


def _conv_transpose(
    n: Numbers, x: Array, w: Array, b: Array | None = None, *, group: int, **how: Any
) -> Array:
    how.pop("kernel_shape")
    axes = spatial.transposed(x.shape[2:], w.shape[2:], **how)
    # Places of the result that lie a multiple of the stride apart meet the same taps: together they
    # are a convolution, in which nothing is scattered and no product is held by itself.
    ways = [spatial.phases(a) for a in axes]
    parts = [_one_phase(n, x, w, phases, group) for phases in product(*ways)]
    return _with_bias(n, spatial.interleave(n, parts, axes), b)


def _one_phase(
    n: Numbers, x: Array, w: Array, phases: Sequence[spatial.Phase], group: int
) -> Array:
    """A transposed convolution's result at every place of one phase along each axis."""
    axes = tuple(p.axis for p in phases)
    made = w.shape[1] * group
    for k, phase in enumerate(phases):
        w = n.take(w, np.array(phase.taps, np.int64), 2 + k)
    rest = w.shape[2:]
    if 0 in rest:
        return n.full((x.shape[0], made, *(int(a.output or 0) for a in axes)), 0.0)
    w = n.reshape(w, (group, -1, made // group, *rest))
    w = n.transpose(w, (0, 2, 1, *range(3, 3 + len(rest))))
    return _unfolded_product(n, x, n.reshape(w, (made, -1, *rest)), axes, group)


def _with_bias(n: Numbers, y: Array, b: Array | None) -> Array:
    return y if b is None else y + n.reshape(b, (-1, *(1,) * (y.ndim - 2)))


# ---- the transposes ------------------------------------------------------------------------------


def _conv_in_x(s: Site, y_bar: Var) -> Var:
    return spatial.spread(s.b, y_bar, s.x1, _conv_axes(s), s["group"], like=s.x)


def _conv_in_w(s: Site, y_bar: Var) -> Var:
    return _correlate(s.b, s.x, y_bar, _conv_axes(s), s["group"])


def _transposed_in_x(s: Site, y_bar: Var) -> Var:
    axes = _transposed_axes(s)
    x_bar = s.b.op(
        "Conv",
        y_bar,
        s.x1,
        group=s["group"],
        kernel_shape=spatial.kernel(axes),
        pads=spatial.pads(axes),
        strides=spatial.strides(axes),
        dilations=spatial.dilations(axes),
    )
    if all(a.slack is not None and a.slack < a.stride for a in axes):
        return x_bar
    return _first(s.b, x_bar, shape_part(s.b, s.x, 2, s.x.rank))


def _transposed_in_w(s: Site, y_bar: Var) -> Var:
    return _correlate(s.b, y_bar, s.x, _transposed_axes(s), s["group"])


def _correlate(b: Builder, long: Var, short: Var, axes: Axes, group: int) -> Var:
    """The weight's cotangent: short side against long side, summed over samples and windows.

    It is a convolution in which samples and channels change places, and so do strides and
    dilations: w_bar[m, c, t] = sum over n, o of short[n, m, o] * long[n, c, o*stride + t*dilation].
    With groups, the long side's channels become (group, sample), so that each group of rows of
    `short` meets its own group of channels.

    Args:
        b: The Builder.
        long: [N, C, D1..Dk].
        short: [N, M, out1..outk].
        axes: The windows that tie one to the other.
        group: Into how many groups both C and M are divided.

    Returns:
        [M, C / group, kernel1..kernelk].
    """
    k = len(axes)
    rest = range(2, 2 + k)
    if group == 1:
        data = b.transpose(long, (1, 0, *rest))
    else:
        tail = shape_part(b, long, 2, 2 + k)
        data = b.op("Reshape", long, dims(b, [0, group, -1], tail))
        data = b.transpose(data, (2, 1, 0, *range(3, 3 + k)))
        data = b.op("Reshape", data, dims(b, [0, -1], tail))
    w_bar = b.op(
        "Conv",
        data,
        b.transpose(short, (1, 0, *rest)),
        group=group,
        pads=spatial.pads(axes),
        strides=spatial.dilations(axes),
        dilations=spatial.strides(axes),
    )
    if not all(a.slack is not None and a.slack < a.dilation for a in axes):
        w_bar = _first(b, w_bar, b.ints(spatial.kernel(axes)))
    return b.transpose(w_bar, (1, 0, *rest))


def _first(b: Builder, x: Var, sizes: Var) -> Var:
    """The first elements of x along its spatial axes."""
    axes = range(2, x.rank)
    return b.op("Slice", x, b.ints([0] * len(axes)), sizes, b.ints(axes))


# ---- a leading axis of directions ----------------------------------------------------------------


def _batch(s: Site, batched: Sequence[bool], channels: int) -> Sequence[Var]:
    """Directions on the data go into N, on the weight into its channels, on both into groups.

    Args:
        s: The convolution.
        batched: Which operands carry directions.
        channels: Which axis of the weight holds the channels that the result gets.
    """
    b, (on_x, on_w) = s.b, batched[:2]
    bias = s.input(2) if s.has(2) else None
    if not on_w:
        with_bias = bias if not (s.has(2) and batched[2]) else None
        y = s.again(fold(b, s.x) if on_x else s.x, s.x1, with_bias)
        y = unfold(b, y, s.x) if on_x else y
        bias = None if with_bias is not None else bias
    elif on_x:
        y = _batch_both(s)
    else:
        y = _batch_weight(s, channels)
    if bias is None:
        return [y]
    on_bias = int(batched[2])
    spatial_axes = range(bias.rank - on_bias, s.y.rank - 1)
    bias = b.unsqueeze(bias, [*([1] if on_bias else []), *(a + 2 * on_bias for a in spatial_axes)])
    return [y + bias]


def _batch_both(s: Site) -> Var:
    b, x, w = s.b, s.x, s.x1
    assert w.shape is not None
    count = w.shape[0]
    if not isinstance(count, int):
        raise NotImplementedError("an unknown number of directions on both data and weight")
    x = b.transpose(x, (1, 0, *range(2, x.rank)))
    x = b.op("Reshape", x, dims(b, [0, -1], shape_part(b, x, 3, x.rank)))
    w = b.op("Reshape", w, dims(b, [-1], shape_part(b, w, 2, w.rank)))
    y = s.again(x, w, group=count * s["group"])
    y = b.op("Reshape", y, dims(b, [0, count, -1], shape_part(b, y, 2, y.rank)))
    return b.transpose(y, (1, 0, *range(2, y.rank)))


def _batch_weight(s: Site, channels: int) -> Var:
    b, w, group = s.b, s.x1, s["group"]
    count, taps = shape_part(b, w, 0, 1), shape_part(b, w, 3, w.rank)
    if channels == 0:
        # [B, G*m, c] to [G*B*m, c]: within each group, the directions one after another.
        w = b.op("Reshape", w, dims(b, [0, group, -1], shape_part(b, w, 2, w.rank)))
        w = b.transpose(w, (1, 0, *range(2, w.rank)))
        w = b.op("Reshape", w, dims(b, [-1], shape_part(b, w, 3, w.rank)))
    else:
        w = b.transpose(w, (1, 0, *range(2, w.rank)))
        w = b.op("Reshape", w, dims(b, [0, -1], taps))
    y = s.again(s.x, w)
    tail = shape_part(b, y, 2, y.rank)
    y = b.op("Reshape", y, dims(b, [0, group], count, [-1], tail))
    y = b.transpose(y, (2, 0, 1, *range(3, y.rank)))
    return b.op("Reshape", y, dims(b, [0, 0, -1], tail))


# ---- the bias ------------------------------------------------------------------------------------


def _bias(s: Site, b_dot: Var) -> Var:
    return s.b.expand_like(s.b.unsqueeze(b_dot, range(1, s.y.rank - 1)), s.y)


def _unbias(s: Site, y_bar: Var) -> Var:
    return s.b.sum(y_bar, axes=(0, *range(2, y_bar.rank)), keepdims=False)


CARDS = (
    bilinear(
        "Conv",
        conv,
        (_conv_in_x, _conv_in_w),
        inputs=("X", "W", "B?"),
        infer=conv_types,
        batch=lambda s, batched: _batch(s, batched, channels=0),
        bias=_bias,
        unbias=_unbias,
        attrs=CONV_ATTRS,
    ),
    bilinear(
        "ConvTranspose",
        _conv_transpose,
        (_transposed_in_x, _transposed_in_w),
        inputs=("X", "W", "B?"),
        infer=_transposed_types,
        batch=lambda s, batched: _batch(s, batched, channels=1),
        bias=_bias,
        unbias=_unbias,
        attrs={**CONV_ATTRS, "output_padding": None, "output_shape": None},
    ),
)
