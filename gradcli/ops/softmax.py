"""Softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Sequence

from gradcli.graph import Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Card, Site, Vars
from gradcli.ops.kinds import axis_of, custom, same_with_axis, without


def softmax(n: Numbers, x: Array, *, axis: int) -> Array:
    """exp(x) along an axis, over its sum there; without overflow."""
    e = n.exp(x - n.anchor(x, axis))
    return e / n.sum(e, [axis], keepdims=True)


def log_softmax(n: Numbers, x: Array, *, axis: int) -> Array:
    """The logarithm of a softmax along an axis, without underflow."""
    z = x - n.anchor(x, axis)
    return z - n.log(n.sum(n.exp(z), [axis], keepdims=True))


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


CARDS: tuple[Card, ...] = (
    custom(
        "Softmax",
        softmax,
        _softmax_rule,
        _softmax_rule,
        inputs=("input",),
        infer=same_with_axis,
        attrs={"axis": -1},
        expand=_softmax_expansion,
    ),
    custom(
        "LogSoftmax",
        log_softmax,
        _log_softmax_jvp,
        _log_softmax_vjp,
        inputs=("input",),
        infer=same_with_axis,
        attrs={"axis": -1},
        expand=_log_softmax_expansion,
    ),
)
