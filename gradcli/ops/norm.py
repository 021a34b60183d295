"""Normalisations: of layers, instances, groups of channels, and by a norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.graph import Dim, DType, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import axes_of, dims, shape_part
from gradcli.ops.card import REQUIRED, Card, Site, Vars
from gradcli.ops.kinds import axis_of, composite, custom, same, same_with_axis
from gradcli.ops.reduce import fold_signs, graph_powers, graph_root, powers, root, safe_root

# ---- LayerNormalization --------------------------------------------------------------------------


def _layer_axes(axis: int, rank: int) -> tuple[int, ...]:
    return tuple(range(axis_of(axis, rank), rank))


def _mean(s: Site, x: Var) -> Var:
    return s.b.op("ReduceMean", x, s.b.ints(_layer_axes(s["axis"], s.x.rank)), keepdims=1)


def _layer_norm_types(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    narrow: tuple[Dim, ...] | None = None
    if shape is not None:
        axes = _layer_axes(s["axis"], len(shape))
        narrow = tuple(1 if a in axes else d for a, d in enumerate(shape))
    # The statistics are never narrower than float32, however narrow x is.
    wide = s.x.dtype if s.x.dtype is DType.FLOAT64 else DType.FLOAT32
    return [(s.x.dtype, shape), (wide, narrow), (wide, narrow)]


def _layer_norm(
    n: Numbers,
    x: Array,
    scale: Array,
    b: Array | None = None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> tuple[Array, Array, Array]:
    axes = _layer_axes(axis, x.ndim)
    mean, centred, variance = moments(n, x, axes)
    inverse = n.full((), 1.0) / n.sqrt(variance + epsilon)
    y = centred * inverse * scale
    return y if b is None else y + b, mean, inverse


def _average(n: Numbers, x: Array, axes: Sequence[int]) -> Array:
    """The mean over these axes, kept with size 1."""
    count = math.prod(x.shape[a] for a in axes)
    return n.sum(x, axes, keepdims=True) / n.full((), float(count))


def moments(n: Numbers, x: Array, axes: Sequence[int]) -> tuple[Array, Array, Array]:
    """The mean, x less the mean, and the variance."""
    mean = _average(n, x, axes)
    centred = x - mean
    # Of the centred values: E[x*x] - mean*mean would cancel.
    return mean, centred, _average(n, centred * centred, axes)


def _standardised(s: Site) -> tuple[Var, Var]:
    """(x - mean) / deviation, and 1 / deviation: from this node's own statistics or a twin's."""
    mean, inverse = (*s.outputs, None, None, None)[1:3]
    if s.x.dtype is DType.FLOAT64:
        # ONNX knows those two results in float32 at most.
        return _statistics(s)[1:]
    if mean is None or inverse is None:
        _, mean, inverse = s.b.ops(s.key, *s.inputs, outputs=3, **s.attrs)
    mean, inverse = s.b.cast(mean, s.x.dtype), s.b.cast(inverse, s.x.dtype)
    return (s.x - mean) * inverse, inverse


def _statistics(s: Site) -> tuple[Var, Var, Var]:
    """The mean, (x - mean) / deviation, and 1 / deviation."""
    mean = _mean(s, s.x)
    centred = s.x - mean
    inverse = 1.0 / s.b.op("Sqrt", _mean(s, centred * centred) + s["epsilon"])
    return mean, centred * inverse, inverse


def project(v: Var, h: Var, r: Var, mean: Callable[[Var], Var]) -> Var:
    """What standardising makes of a tangent, and sends back of a cotangent: J is symmetric."""
    return r * (v - mean(v) - h * mean(h * v))


def _layer_norm_jvp(s: Site, dots: Vars) -> Vars:
    x_dot, scale_dot, b_dot = (*dots, None)[:3]
    h, r = _standardised(s)
    terms: list[Var | None] = [None, None, b_dot]
    mean_dot = r_dot = None
    if x_dot is not None:
        mean_dot = _mean(s, x_dot)
        terms[0] = project(x_dot, h, r, lambda v: _mean(s, v)) * s.x1
        r_dot = -(r * r) * _mean(s, h * x_dot)
    if scale_dot is not None:
        terms[1] = h * scale_dot
    y_dot = s.b.total(terms)
    return [None if y_dot is None else s.b.expand_like(y_dot, s.x), *_stashed(s, mean_dot, r_dot)]


def _stashed(s: Site, *statistics: Var | None) -> Vars:
    """Tangents of Mean and InvStdDev in those outputs' own dtype."""
    wide = _layer_norm_types(s)[1][0]
    return [None if v is None else s.b.cast(v, wide) for v in statistics]


def _layer_norm_vjp(s: Site, bars: Vars) -> Vars:
    y_bar, mean_bar, r_bar = (*bars, None, None)[:3]
    b = s.b
    h, r = _standardised(s)
    out: list[Var | None] = [None] * len(s.inputs)
    terms: list[Var | None] = []
    count = b.count(s.x, _layer_axes(s["axis"], s.x.rank))
    if y_bar is not None:
        if s.wants(1):
            out[1] = b.unbroadcast(y_bar * h, like=s.x1)
        if s.wants(2):
            out[2] = b.unbroadcast(y_bar, like=s.input(2))
        h_bar = y_bar * s.x1
        terms.append(project(h_bar, h, r, lambda v: _mean(s, v)))
    if mean_bar is not None:
        terms.append(b.expand_like(b.cast(mean_bar, s.x.dtype) / count, s.x))
    if r_bar is not None:
        terms.append(-h * (r * r * b.cast(r_bar, s.x.dtype) / count))
    out[0] = b.total(terms) if s.wants(0) else None
    return out


def _layer_norm_expansion(s: Site) -> Sequence[Var]:
    mean, h, inverse = _statistics(s)
    y = h * s.x1
    return [
        y + s.input(2) if s.has(2) else y,
        *(v for v in _stashed(s, mean, inverse) if v is not None),
    ]


# ---- of instances and of groups of channels ------------------------------------------------------


def _channel_types(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    if shape is not None and len(shape) < 3:
        raise ValueError(f"{s.key} of {len(shape)} dimensions: [N, C, D1..Dk] is wanted")
    return same(s)


def _by_channel(n: Numbers, v: Array, rank: int) -> Array:
    """A vector over channels as it meets [N, C, D1..Dk]."""
    return n.reshape(v, (-1, *(1,) * (rank - 2)))


def per_channel(s: Site, v: Var) -> Var:
    """A vector over channels, or one per direction, as it meets [N, C, D1..Dk]."""
    return s.b.unsqueeze(v, range(1, s.x.rank - 1))


def _instance_norm(n: Numbers, x: Array, scale: Array, b: Array, *, epsilon: float) -> Array:
    _, centred, variance = moments(n, x, range(2, x.ndim))
    scale, b = (_by_channel(n, v, x.ndim) for v in (scale, b))
    return centred * (scale / n.sqrt(variance + epsilon)) + b


def _standard_rows(s: Site, x: Var, axis: int) -> Var:
    """x less its mean, over its deviation, both along the axes from `axis` on."""
    one = s.b.constant(np.ones(1), x.dtype)
    return s.b.op("LayerNormalization", x, one, axis=axis, epsilon=s["epsilon"])


def _scaled(s: Site, h: Var) -> Var:
    return h * per_channel(s, s.x1) + per_channel(s, s.input(2))


def _group_types(s: Site) -> Sequence[Type]:
    shape, groups = s.x.shape, s["num_groups"]
    if shape is not None and isinstance(shape[1], int) and (groups < 1 or shape[1] % groups):
        raise ValueError(f"{shape[1]} channels in {groups} groups")
    return _channel_types(s)


def _group_norm(
    n: Numbers,
    x: Array,
    scale: Array,
    bias: Array,
    *,
    epsilon: float,
    num_groups: int,
    stash_type: int,
) -> Array:
    groups = n.reshape(x, (x.shape[0], num_groups, -1))
    _, centred, variance = moments(n, groups, (2,))
    h = n.reshape(centred / n.sqrt(variance + epsilon), x.shape)
    return h * _by_channel(n, scale, x.ndim) + _by_channel(n, bias, x.ndim)


def _group_norm_expansion(s: Site) -> Sequence[Var]:
    groups = dims(s.b, shape_part(s.b, s.x, 0, 1), [s["num_groups"], -1])
    h = _standard_rows(s, s.b.op("Reshape", s.x, groups), 2)
    return [_scaled(s, s.b.reshape_like(h, s.x))]


# ---- by a norm -----------------------------------------------------------------------------------


def _rms_norm(
    n: Numbers, x: Array, scale: Array, *, axis: int, epsilon: float, stash_type: int
) -> Array:
    mean_square = _average(n, x * x, _layer_axes(axis, x.ndim))
    return x / n.sqrt(mean_square + epsilon) * scale


def _rms_norm_expansion(s: Site) -> Sequence[Var]:
    # As in LayerNormalization, statistics are never narrower than float32.
    x = s.x if s.x.dtype is DType.FLOAT64 else s.b.cast(s.x, DType.FLOAT32)
    inverse = 1.0 / s.b.op("Sqrt", _mean(s, x * x) + s["epsilon"])
    return [s.b.cast(x * inverse, s.x.dtype) * s.x1]


def _lp_types(s: Site) -> Sequence[Type]:
    if s["p"] not in (1, 2):
        raise ValueError(f"LpNormalization of order {s['p']}: only 1 and 2 exist")
    return same_with_axis(s)


def _lp_total(n: Numbers, x: Array, axis: int, p: int) -> Array:
    return n.sum(powers(n, x, p), [axis_of(axis, x.ndim)], keepdims=True)


def _lp_normalised(n: Numbers, x: Array, *, axis: int, p: int) -> Array:
    nothing, norm = safe_root(n, _lp_total(n, x, axis, p), p)
    return n.where(nothing, n.zero, x / norm)


def _lp_expansion(s: Site) -> Sequence[Var]:
    b, p = s.b, s["p"]
    norm = graph_root(b, b.sum(graph_powers(b, s.x, p), axes=[s["axis"]], keepdims=True), p)
    nothing = b.op("Equal", norm, b.like(0.0, norm))
    return [b.where(nothing, 0.0, s.x / b.where(nothing, 1.0, norm))]


def _lp_kinks(n: Numbers, x: np.ndarray, *, axis: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Order 1 has a kink wherever an element is 0."""
    if p == 1:
        return fold_signs(n, x, (axis_of(axis, x.ndim),), keepdims=True)
    smooth = np.zeros((1,) * x.ndim)
    return smooth + np.inf, smooth.astype(np.int64)


def _mean_variance(n: Numbers, x: Array, *, axes: Sequence[int]) -> Array:
    _, centred, variance = moments(n, x, axes_of(axes, x.ndim))
    return centred / (root(n, variance, 2) + MVN_EPSILON)


def _mean_variance_expansion(s: Site) -> Sequence[Var]:
    axes = s.b.ints(s["axes"])
    centred = s.x - s.b.op("ReduceMean", s.x, axes, keepdims=1)
    deviation = graph_root(s.b, s.b.op("ReduceMean", centred * centred, axes, keepdims=1), 2)
    return [centred / (deviation + MVN_EPSILON)]


MVN_EPSILON = 1e-9
"""What the standard adds to the deviation."""


# ---- LRN -----------------------------------------------------------------------------------------


def _neighbours(size: int) -> tuple[int, int]:
    """How many channels before and behind each make up its window."""
    return (size - 1) // 2, size // 2


def _lrn_base(n: Numbers, x: Array, *, alpha: float, beta: float, bias: float, size: int) -> Array:
    """bias + alpha * the mean of squares over each channel's window, 0 beyond the ends."""
    around = [(0, 0)] * x.ndim
    around[1] = _neighbours(size)
    squares = n.pad(x * x, around, 0.0)
    total = n.take(squares, np.arange(x.shape[1]), 1)
    for k in range(1, size):
        total = total + n.take(squares, np.arange(k, x.shape[1] + k), 1)
    return total / float(size) * alpha + bias


def _lrn(n: Numbers, x: Array, **attrs: Any) -> Array:
    return x / n.power(_lrn_base(n, x, **attrs), n.full((), attrs["beta"]))


def _lrn_expansion(s: Site) -> Sequence[Var]:
    b = s.b
    # The channels as rows of an image of one channel: then their windows are those of a pool.
    plane = b.unsqueeze(b.reshape(s.x, [0, 0, -1]), [1])
    before, behind = _neighbours(s["size"])
    mean = b.op(
        "AveragePool",
        plane * plane,
        kernel_shape=(s["size"], 1),
        pads=(before, 0, behind, 0),
        count_include_pad=1,
    )
    base = b.reshape_like(mean, s.x) * s["alpha"] + s["bias"]
    return [s.x * b.op("Pow", base, b.like(-s["beta"], s.x))]


CARDS: tuple[Card, ...] = (
    custom(
        "LayerNormalization",
        _layer_norm,
        _layer_norm_jvp,
        _layer_norm_vjp,
        inputs=("X", "Scale", "B?"),
        outputs=("Y", "Mean", "InvStdDev"),
        infer=_layer_norm_types,
        attrs={"axis": -1, "epsilon": 1e-5, "stash_type": 1},
        expand=_layer_norm_expansion,
    ),
    composite(
        "InstanceNormalization",
        _instance_norm,
        lambda s: [_scaled(s, _standard_rows(s, s.x, 2))],
        inputs=("input", "scale", "B"),
        infer=_channel_types,
        attrs={"epsilon": 1e-5},
    ),
    composite(
        "GroupNormalization",
        _group_norm,
        _group_norm_expansion,
        inputs=("X", "scale", "bias"),
        infer=_group_types,
        attrs={"epsilon": 1e-5, "num_groups": REQUIRED, "stash_type": 1},
    ),
    composite(
        "RMSNormalization",
        _rms_norm,
        _rms_norm_expansion,
        inputs=("X", "scale"),
        infer=same_with_axis,
        attrs={"axis": -1, "epsilon": 1e-5, "stash_type": 1},
        since=23,
    ),
    composite(
        "LpNormalization",
        _lp_normalised,
        _lp_expansion,
        inputs=("input",),
        infer=_lp_types,
        attrs={"axis": -1, "p": 2},
        kinks=_lp_kinks,
        convention="0 at a vector of zeros, and the slope of |x| at 0 is 0",
        edges=lambda n, x, axis, p: root(n, _lp_total(n, x, axis, p), p),
        edge="a vector of zeros has no direction",
    ),
    composite(
        "MeanVarianceNormalization",
        _mean_variance,
        _mean_variance_expansion,
        inputs=("X",),
        infer=same,
        attrs={"axes": (0, 2, 3)},
        convention="the deviation's slope is 0 where all elements are equal",
    ),
    composite(
        "LRN",
        _lrn,
        _lrn_expansion,
        inputs=("X",),
        infer=same,
        attrs={"alpha": 1e-4, "beta": 0.75, "bias": 1.0, "size": REQUIRED},
        edges=_lrn_base,
        edge="a power of 0",
    ),
)
