"""BatchNormalization: by given statistics, or by those of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gradcli.graph import Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Card, Site, Vars
from gradcli.ops.kinds import custom
from gradcli.ops.norm import moments, per_channel, project


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
        own_mean, _, own_var = moments(n, x, _but_channels(x.ndim))
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


def _inverse_deviation(s: Site) -> Var:
    return 1.0 / s.b.op("Sqrt", s.input(4) + s["epsilon"])


def _batch_norm_jvp(s: Site, dots: Vars) -> Vars:
    if s["training_mode"]:
        return _training_jvp(s, dots)
    x_dot, scale_dot, b_dot, mean_dot, var_dot = dots
    r = _inverse_deviation(s)
    slope = per_channel(s, s.x1 * r)
    rate = s.b.total(
        [
            None if scale_dot is None else scale_dot * r,
            None if var_dot is None else var_dot * (s.x1 * r * r * r * -0.5),
        ]
    )
    y_dot = s.b.total(
        [
            None if x_dot is None else x_dot * slope,
            None if mean_dot is None else -(per_channel(s, mean_dot) * slope),
            None if rate is None else (s.x - per_channel(s, s.input(3))) * per_channel(s, rate),
            None if b_dot is None else per_channel(s, b_dot),
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
        out[0] = y_bar * per_channel(s, s.x1 * r)
    if s.wants(2) or s.wants(3):
        sums = _over_channels(s, y_bar)
        out[2], out[3] = sums, -(sums * (s.x1 * r))
    if s.wants(1) or s.wants(4):
        moments = _over_channels(s, y_bar * (s.x - per_channel(s, s.input(3))))
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
        None if scale_dot is None else h * per_channel(s, scale_dot),
        None if b_dot is None else per_channel(s, b_dot),
    ]
    new_mean = new_var = None
    if x_dot is not None:
        terms[0] = project(x_dot, h, r, lambda v: _batch_mean(s, v)) * per_channel(s, s.x1)
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
        h_bar = y_bar * per_channel(s, s.x1)
        terms.append(project(h_bar, h, r, lambda v: _batch_mean(s, v)))
    if mean_bar is not None:
        out[3] = mean_bar * s["momentum"]
        terms.append(b.expand_like(per_channel(s, mean_bar * new / count), s.x))
    if var_bar is not None:
        out[4] = var_bar * s["momentum"]
        terms.append(centred * per_channel(s, var_bar * (2.0 * new) / count))
    out[0] = b.total(terms) if s.wants(0) else None
    return [v if s.wants(k) else None for k, v in enumerate(out)]


def _batch_norm_expansion(s: Site) -> Sequence[Var]:
    if s["training_mode"]:
        mean, centred, variance, r = _batch_statistics(s)
        y = centred * r * per_channel(s, s.x1) + per_channel(s, s.input(2))
        held = (_running(s, s.input(3), mean), _running(s, s.input(4), variance))
        return [y, *(v for v in held if v is not None)]
    centred = s.x - per_channel(s, s.input(3))
    return [centred * per_channel(s, s.x1 * _inverse_deviation(s)) + per_channel(s, s.input(2))]


CARDS: tuple[Card, ...] = (
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
)
