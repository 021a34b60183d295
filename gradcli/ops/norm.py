"""Normalisations: of batches, of layers, and to probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from gradcli.errors import UnsupportedError
from gradcli.graph import Dim, DType, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Site, Vars
from gradcli.ops.kinds import axis_of, custom, same

# ---- Softmax -------------------------------------------------------------------------------------


def _softmax(n: Numbers, x: Array, *, axis: int) -> Array:
    e = n.exp(x - n.anchor(x, axis))
    return e / n.sum(e, [axis], keepdims=True)


def _log_softmax(n: Numbers, x: Array, *, axis: int) -> Array:
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
    return [s.y * (v - _total(s, s.y * v))]


def _log_softmax_jvp(s: Site, dots: Vars) -> Vars:
    (x_dot,) = dots
    assert x_dot is not None
    return [x_dot - _total(s, s.b.op("Exp", s.y) * x_dot)]


def _log_softmax_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    return [y_bar - s.b.op("Exp", s.y) * _total(s, y_bar)]


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
    count = 1
    for a in axes:
        count *= x.shape[a]
    divisor = n.full((), float(count))
    mean = n.sum(x, axes, keepdims=True) / divisor
    centred = x - mean
    # Of the centred values: E[x*x] - mean*mean would cancel.
    variance = n.sum(centred * centred, axes, keepdims=True) / divisor
    inverse = n.full((), 1.0) / n.sqrt(variance + epsilon)
    y = centred * inverse * scale
    return y if b is None else y + b, mean, inverse


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


def _layer_norm_jvp(s: Site, dots: Vars) -> Vars:
    x_dot, scale_dot, b_dot = (*dots, None)[:3]
    h, r = _standardised(s)
    terms: list[Var | None] = [None, None, b_dot]
    mean_dot = r_dot = None
    if x_dot is not None:
        mean_dot = _mean(s, x_dot)
        along = _mean(s, h * x_dot)
        terms[0] = r * (x_dot - mean_dot - h * along) * s.x1
        r_dot = -(r * r) * along
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
        terms.append(r * (h_bar - _mean(s, h_bar) - h * _mean(s, h_bar * h)))
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
    if s["training_mode"]:
        raise UnsupportedError(
            "BatchNormalization in training mode takes its statistics from the batch",
            "export the model in evaluation mode",
        )
    return [(s.x.dtype, s.x.shape)]


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
) -> Array:
    if training_mode:
        raise NotImplementedError("BatchNormalization in training mode")
    shape = (-1, *(1,) * (x.ndim - 2))
    scale, b, mean, var = (n.reshape(v, shape) for v in (scale, b, mean, var))
    return (x - mean) * (scale / n.sqrt(var + epsilon)) + b


def _per_channel(s: Site, v: Var) -> Var:
    """A vector over channels, or one per direction, as it meets [N, C, D1..Dk]."""
    return s.b.unsqueeze(v, range(1, s.x.rank - 1))


def _inverse_deviation(s: Site) -> Var:
    return 1.0 / s.b.op("Sqrt", s.input(4) + s["epsilon"])


def _batch_norm_jvp(s: Site, dots: Vars) -> Vars:
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
    total = s.b.sum(x, axes=[a for a in range(s.x.rank) if a != 1], keepdims=False)
    return s.b.reshape_like(total, s.x1)


def _batch_norm_expansion(s: Site) -> Sequence[Var]:
    centred = s.x - _per_channel(s, s.input(3))
    return [centred * _per_channel(s, s.x1 * _inverse_deviation(s)) + _per_channel(s, s.input(2))]


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
        _log_softmax,
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
        infer=_batch_norm_types,
        attrs={"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0},
        expand=_batch_norm_expansion,
    ),
)
