"""Normalisations: of batches, of layers, and to probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.graph import Dim, DType, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import axes_of, dims, shape_part
from gradcli.ops.card import REQUIRED, Site, Vars
from gradcli.ops.kinds import axis_of, composite, custom, same, without
from gradcli.ops.reduce import fold_signs, graph_powers, graph_root, powers, root, safe_root

# ---- Softmax -------------------------------------------------------------------------------------


def _softmax(n: Numbers, x: Array, *, axis: int) -> Array:
    e = n.exp(x - n.anchor(x, axis))
    return e / n.sum(e, [axis], keepdims=True)


def log_softmax(n: Numbers, x: Array, *, axis: int) -> Array:
    """The logarithm of a softmax along an axis, without underflow."""
    z = x - n.anchor(x, axis)
    return z - n.log(n.sum(n.exp(z), [axis], keepdims=True))


def _axis_types(s: Site) -> Sequence[Type]:
    if s.x.shape is not None:
        axis_of(s["axis"], s.x.rank)
    return same(s)


def _total(s: Site, x: Var) -> Var:
    return s.b.sum(x, axes=[s["axis"]], keepdims=True)


def _softmax_rule(s: Site, vs: Vars) -> Vars:
    """J = diag(y) - y y', which is its own transpose."""
    (v,) = vs
    assert v is not None
    y = _without_dropped_rows(s, s.y)
    return [y * (v - _total(s, y * v))]


def _without_dropped_rows(s: Site, y: Var) -> Var:
    """y, but 0 along the axis where a choice further on has dropped every element.

    There it may be no number at all: a softmax of nothing but -inf is 0 / 0.
    """
    if s.dropped is None:
        return y
    rows, axis = s.dropped, axis_of(s["axis"], s.x.rank) - s.x.rank
    if rows.rank >= -axis and rows.shape is not None and rows.shape[axis] != 1:
        rows = s.b.op("ReduceMin", s.b.cast(rows, y.dtype), s.b.ints([axis]), keepdims=1) > 0.5
    s.drop(0, rows)
    return without(s.b, rows, y)


def _log_softmax_jvp(s: Site, dots: Vars) -> Vars:
    (x_dot,) = dots
    assert x_dot is not None
    return [x_dot - _total(s, s.b.op("Exp", s.y) * x_dot)]


def _log_softmax_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    return [y_bar - _without_dropped_rows(s, s.b.op("Exp", s.y)) * _total(s, y_bar)]


def _softmax_expansion(s: Site) -> Sequence[Var]:
    e = s.b.op("Exp", s.x)
    return [e / _total(s, e)]


def _log_softmax_expansion(s: Site) -> Sequence[Var]:
    return [s.x - s.b.op("Log", _total(s, s.b.op("Exp", s.x)))]


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
    mean, centred, variance = _moments(n, x, axes)
    inverse = n.full((), 1.0) / n.sqrt(variance + epsilon)
    y = centred * inverse * scale
    return y if b is None else y + b, mean, inverse


def _average(n: Numbers, x: Array, axes: Sequence[int]) -> Array:
    """The mean over these axes, kept with size 1."""
    count = math.prod(x.shape[a] for a in axes)
    return n.sum(x, axes, keepdims=True) / n.full((), float(count))


def _moments(n: Numbers, x: Array, axes: Sequence[int]) -> tuple[Array, Array, Array]:
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


def _project(v: Var, h: Var, r: Var, mean: Callable[[Var], Var]) -> Var:
    """What standardising makes of a tangent, and sends back of a cotangent: J is symmetric."""
    return r * (v - mean(v) - h * mean(h * v))


def _layer_norm_jvp(s: Site, dots: Vars) -> Vars:
    x_dot, scale_dot, b_dot = (*dots, None)[:3]
    h, r = _standardised(s)
    terms: list[Var | None] = [None, None, b_dot]
    mean_dot = r_dot = None
    if x_dot is not None:
        mean_dot = _mean(s, x_dot)
        terms[0] = _project(x_dot, h, r, lambda v: _mean(s, v)) * s.x1
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
        terms.append(_project(h_bar, h, r, lambda v: _mean(s, v)))
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


# ---- BatchNormalization --------------------------------------------------------------------------


def _batch_norm_types(s: Site) -> Sequence[Type]:
    running = [(v.dtype, v.shape) for v in (s.input(3), s.input(4))]
    return [(s.x.dtype, s.x.shape), *(running if s["training_mode"] else [])]


def _batch_norm(
    n: Numbers,
    x: Array,
    scale: Array,
    b: Array,
    mean: Array,
    var: Array,
    *,
    epsilon: float,
    momentum: float,
    training_mode: int,
) -> Any:
    if training_mode:
        own_mean, _, own_var = _moments(n, x, _but_channels(x.ndim))
        own = [n.reshape(v, (-1,)) for v in (own_mean, own_var)]
        held = [
            old * momentum + new * (1.0 - momentum)
            for old, new in zip((mean, var), own, strict=True)
        ]
        mean, var = own
    shape = (-1, *(1,) * (x.ndim - 2))
    scale, b, mean, var = (n.reshape(v, shape) for v in (scale, b, mean, var))
    y = (x - mean) * (scale / n.sqrt(var + epsilon)) + b
    return (y, *held) if training_mode else y


def _but_channels(rank: int) -> tuple[int, ...]:
    return tuple(a for a in range(rank) if a != 1)


def _per_channel(s: Site, v: Var) -> Var:
    """A vector over channels, or one per direction, as it meets [N, C, D1..Dk]."""
    return s.b.unsqueeze(v, range(1, s.x.rank - 1))


def _inverse_deviation(s: Site) -> Var:
    return 1.0 / s.b.op("Sqrt", s.input(4) + s["epsilon"])


def _batch_norm_jvp(s: Site, dots: Vars) -> Vars:
    if s["training_mode"]:
        return _training_jvp(s, dots)
    x_dot, scale_dot, b_dot, mean_dot, var_dot = dots
    r = _inverse_deviation(s)
    slope = _per_channel(s, s.x1 * r)
    rate = s.b.total(
        [
            None if scale_dot is None else scale_dot * r,
            None if var_dot is None else var_dot * (s.x1 * r * r * r * -0.5),
        ]
    )
    y_dot = s.b.total(
        [
            None if x_dot is None else x_dot * slope,
            None if mean_dot is None else -(_per_channel(s, mean_dot) * slope),
            None if rate is None else (s.x - _per_channel(s, s.input(3))) * _per_channel(s, rate),
            None if b_dot is None else _per_channel(s, b_dot),
        ]
    )
    return [None if y_dot is None else s.b.expand_like(y_dot, s.y)]


def _batch_norm_vjp(s: Site, bars: Vars) -> Vars:
    if s["training_mode"]:
        return _training_vjp(s, bars)
    y_bar = bars[0]
    assert y_bar is not None
    r = _inverse_deviation(s)
    out: list[Var | None] = [None] * 5
    if s.wants(0):
        out[0] = y_bar * _per_channel(s, s.x1 * r)
    if s.wants(2) or s.wants(3):
        sums = _over_channels(s, y_bar)
        out[2], out[3] = sums, -(sums * (s.x1 * r))
    if s.wants(1) or s.wants(4):
        moments = _over_channels(s, y_bar * (s.x - _per_channel(s, s.input(3))))
        out[1], out[4] = moments * r, moments * (s.x1 * r * r * r * -0.5)
    return [v if s.wants(k) else None for k, v in enumerate(out)]


def _over_channels(s: Site, x: Var) -> Var:
    """Summed to the shape of scale (an operand [N] counts as one channel)."""
    total = s.b.sum(x, axes=_but_channels(s.x.rank), keepdims=False)
    return s.b.reshape_like(total, s.x1)


def _batch_statistics(s: Site) -> tuple[Var, Var, Var, Var]:
    """In training: the batch's mean, x less it, the variance, and 1 / deviation."""
    mean = _batch_mean(s, s.x)
    centred = s.x - mean
    variance = _batch_mean(s, centred * centred)
    return mean, centred, variance, 1.0 / s.b.op("Sqrt", variance + s["epsilon"])


def _batch_mean(s: Site, x: Var) -> Var:
    return s.b.op("ReduceMean", x, s.b.ints(_but_channels(s.x.rank)), keepdims=1)


def _running(s: Site, old: Var | None, new: Var | None) -> Var | None:
    """What a running statistic becomes, or its tangent."""
    return s.b.total(
        [
            None if old is None else old * s["momentum"],
            None if new is None else s.b.reshape_like(new, s.x1) * (1.0 - s["momentum"]),
        ]
    )


def _training_jvp(s: Site, dots: Vars) -> Vars:
    x_dot, scale_dot, b_dot, mean_dot, var_dot = dots
    _, centred, _, r = _batch_statistics(s)
    h = centred * r
    terms: list[Var | None] = [
        None,
        None if scale_dot is None else h * _per_channel(s, scale_dot),
        None if b_dot is None else _per_channel(s, b_dot),
    ]
    new_mean = new_var = None
    if x_dot is not None:
        terms[0] = _project(x_dot, h, r, lambda v: _batch_mean(s, v)) * _per_channel(s, s.x1)
        new_mean, new_var = _batch_mean(s, x_dot), _batch_mean(s, centred * x_dot) * 2.0
    y_dot = s.b.total(terms)
    return [
        None if y_dot is None else s.b.expand_like(y_dot, s.x),
        _running(s, mean_dot, new_mean),
        _running(s, var_dot, new_var),
    ]


def _training_vjp(s: Site, bars: Vars) -> Vars:
    y_bar, mean_bar, var_bar = (*bars, None, None)[:3]
    b, new = s.b, 1.0 - s["momentum"]
    _, centred, _, r = _batch_statistics(s)
    h = centred * r
    out: list[Var | None] = [None] * 5
    terms: list[Var | None] = []
    count = b.count(s.x, _but_channels(s.x.rank))
    if y_bar is not None:
        out[1], out[2] = _over_channels(s, y_bar * h), _over_channels(s, y_bar)
        h_bar = y_bar * _per_channel(s, s.x1)
        terms.append(_project(h_bar, h, r, lambda v: _batch_mean(s, v)))
    if mean_bar is not None:
        out[3] = mean_bar * s["momentum"]
        terms.append(b.expand_like(_per_channel(s, mean_bar * new / count), s.x))
    if var_bar is not None:
        out[4] = var_bar * s["momentum"]
        terms.append(centred * _per_channel(s, var_bar * (2.0 * new) / count))
    out[0] = b.total(terms) if s.wants(0) else None
    return [v if s.wants(k) else None for k, v in enumerate(out)]


def _batch_norm_expansion(s: Site) -> Sequence[Var]:
    if s["training_mode"]:
        mean, centred, variance, r = _batch_statistics(s)
        y = centred * r * _per_channel(s, s.x1) + _per_channel(s, s.input(2))
        held = (_running(s, s.input(3), mean), _running(s, s.input(4), variance))
        return [y, *(v for v in held if v is not None)]
    centred = s.x - _per_channel(s, s.input(3))
    return [centred * _per_channel(s, s.x1 * _inverse_deviation(s)) + _per_channel(s, s.input(2))]


# ---- of instances and of groups of channels ------------------------------------------------------


def _channel_types(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    if shape is not None and len(shape) < 3:
        raise ValueError(f"{s.key} of {len(shape)} dimensions: [N, C, D1..Dk] is wanted")
    return same(s)


def _by_channel(n: Numbers, v: Array, rank: int) -> Array:
    """A vector over channels as it meets [N, C, D1..Dk]."""
    return n.reshape(v, (-1, *(1,) * (rank - 2)))


def _instance_norm(n: Numbers, x: Array, scale: Array, b: Array, *, epsilon: float) -> Array:
    _, centred, variance = _moments(n, x, range(2, x.ndim))
    scale, b = (_by_channel(n, v, x.ndim) for v in (scale, b))
    return centred * (scale / n.sqrt(variance + epsilon)) + b


def _standard_rows(s: Site, x: Var, axis: int) -> Var:
    """x less its mean, over its deviation, both along the axes from `axis` on."""
    one = s.b.constant(np.ones(1), x.dtype)
    return s.b.op("LayerNormalization", x, one, axis=axis, epsilon=s["epsilon"])


def _scaled(s: Site, h: Var) -> Var:
    return h * _per_channel(s, s.x1) + _per_channel(s, s.input(2))


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
    _, centred, variance = _moments(n, groups, (2,))
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
    return _axis_types(s)


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
    _, centred, variance = _moments(n, x, axes_of(axes, x.ndim))
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
    return total * (alpha / size) + bias


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


CARDS = (
    custom(
        "Softmax",
        _softmax,
        _softmax_rule,
        _softmax_rule,
        inputs=("input",),
        infer=_axis_types,
        attrs={"axis": -1},
        expand=_softmax_expansion,
    ),
    custom(
        "LogSoftmax",
        log_softmax,
        _log_softmax_jvp,
        _log_softmax_vjp,
        inputs=("input",),
        infer=_axis_types,
        attrs={"axis": -1},
        expand=_log_softmax_expansion,
    ),
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
    custom(
        "BatchNormalization",
        _batch_norm,
        _batch_norm_jvp,
        _batch_norm_vjp,
        inputs=("X", "scale", "B", "input_mean", "input_var"),
        outputs=("Y", "running_mean", "running_var"),
        infer=_batch_norm_types,
        attrs={"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0},
        expand=_batch_norm_expansion,
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
        infer=_axis_types,
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
