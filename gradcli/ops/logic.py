"""Comparisons, truth values, the choice by them, and steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.graph import Type, Var, broadcast
from gradcli.numbers import Array, Mask, Numbers
from gradcli.ops.card import Card, Site, Vars
from gradcli.ops.kinds import batch_elementwise, flat, linear, same, truth

BINARY = ("A", "B")

# ---- comparisons --------------------------------------------------------------------------------


def _equal(n: Numbers, a: Array, b: Array) -> Mask:
    if n.is_mask(a):
        return n.logical_not(_xor(n, a, b))
    return n.equal(a, b)


def _jump(n: Numbers, a: Array, b: Array) -> tuple[np.ndarray, np.ndarray]:
    """Comparisons jump where the operands are equal; those of integers have no neighbours."""
    difference = np.subtract(a, b, dtype=np.float64)
    margin = (
        np.abs(difference) if np.asarray(a).dtype.kind == "f" else np.full(difference.shape, np.inf)
    )
    return margin, np.sign(difference)


def _comparison(op: str, impl: Callable[..., Mask]) -> Card:
    reason = "true or false: constant until it jumps"
    return flat(op, impl, reason, inputs=BINARY, outputs=("C",), infer=truth, kinks=_jump)


COMPARISONS = (
    _comparison("Equal", _equal),
    _comparison("Greater", lambda n, a, b: n.less(b, a)),
    _comparison("Less", lambda n, a, b: n.less(a, b)),
    # Not "not less": that would hold where either is NaN.
    _comparison("GreaterOrEqual", lambda n, a, b: n.logical_or(n.less(b, a), n.equal(a, b))),
    _comparison("LessOrEqual", lambda n, a, b: n.logical_or(n.less(a, b), n.equal(a, b))),
)


def _is_inf(n: Numbers, x: Array, detect_negative: int, detect_positive: int) -> Mask:
    found = n.is_infinite(x)
    if not detect_negative:
        found = n.logical_and(found, n.less(n.zero, x))
    if not detect_positive:
        found = n.logical_and(found, n.less(x, n.zero))
    return found


FINITENESS = (
    flat(
        "IsNaN",
        lambda n, x: n.is_nan(x),
        "true or false",
        inputs=("X",),
        infer=truth,
    ),
    flat(
        "IsInf",
        _is_inf,
        "true or false",
        inputs=("X",),
        infer=truth,
        attrs={"detect_negative": 1, "detect_positive": 1},
    ),
)

# ---- truth values -------------------------------------------------------------------------------


def _xor(n: Numbers, a: Mask, b: Mask) -> Mask:
    return n.logical_and(n.logical_or(a, b), n.logical_not(n.logical_and(a, b)))


def _connective(op: str, impl: Callable[..., Mask], inputs: Sequence[str] = BINARY) -> Card:
    return flat(op, impl, "truth values have no derivative", inputs=inputs, infer=truth)


CONNECTIVES = (
    _connective("And", lambda n, a, b: n.logical_and(a, b)),
    _connective("Or", lambda n, a, b: n.logical_or(a, b)),
    _connective("Xor", _xor),
    _connective("Not", lambda n, x: n.logical_not(x), inputs=("X",)),
)

# ---- choice -------------------------------------------------------------------------------------


def _where(n: Numbers, condition: Mask, x: Array, y: Array) -> Array:
    if n.is_mask(x):
        chosen = n.logical_and(condition, x)
        return n.logical_or(chosen, n.logical_and(n.logical_not(condition), y))
    return n.where(condition, x, y)


def _where_types(s: Site) -> Sequence[Type]:
    condition, x, y = (s.input(k) for k in range(3))
    return [(x.dtype, broadcast(condition.shape, x.shape, y.shape))]


def _where_transpose(s: Site, z_bar: Var) -> Vars:
    condition, x, y = (s.input(k) for k in range(3))
    return [
        None,
        s.b.unbroadcast(s.b.where(condition, z_bar, 0.0), like=x) if s.wants(1) else None,
        s.b.unbroadcast(s.b.where(condition, 0.0, z_bar), like=y) if s.wants(2) else None,
    ]


CHOICE = (
    linear(
        "Where",
        _where,
        _where_transpose,
        inputs=("condition", "X", "Y"),
        infer=_where_types,
        batch=batch_elementwise,
        over=(1, 2),
        flat={"condition": "true or false"},
        rounds=False,
    ),
)

# ---- steps --------------------------------------------------------------------------------------


def _round(n: Numbers, x: Array) -> Array:
    """To the nearest integer, halves to the even one."""
    below = n.floor(x)
    part = x - below  # exact: both are multiples of x's last bit
    half = n.full((), 0.5)
    even = n.floor((below + 1.0) / 2.0) * 2.0
    return n.where(n.less(part, half), below, n.where(n.less(half, part), below + 1.0, even))


def _step(op: str, impl: Callable[..., Array], shift: float) -> Card:
    """A staircase with a jump at every integer plus `shift`."""

    def kinks(n: Numbers, x: Array, **_: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.abs(x - shift - np.round(x - shift)), impl(n, x)

    return flat(
        op, impl, "a staircase: constant until it jumps", inputs=("X",), infer=same, kinks=kinks
    )


STEPS = (
    _step("Floor", lambda n, x: n.floor(x), 0.0),
    _step("Ceil", lambda n, x: -n.floor(-x), 0.0),
    _step("Round", _round, 0.5),
    flat(
        "Sign",
        lambda n, x: n.sign(x) if n.is_number(x) else np.sign(x),
        "a step: constant until it jumps",
        inputs=("input",),
        infer=same,
        kinks=lambda n, x: (np.abs(x), np.sign(x)),
    ),
)

CARDS = (*COMPARISONS, *FINITENESS, *CONNECTIVES, *CHOICE, *STEPS)
