"""Comparisons, truth values, the choice by them, steps, and bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Type, Var, broadcast
from gradcli.numbers import Array, Mask, Numbers
from gradcli.ops.card import REQUIRED, Card, Site, Vars
from gradcli.ops.kinds import axis_of, batch_elementwise, either, flat, joint, linear, same, truth

BINARY = ("A", "B")

# ---- comparisons --------------------------------------------------------------------------------


def _equal(n: Numbers, a: Array, b: Array) -> Mask:
    if n.is_mask(a):
        return n.logical_not(_xor(n, a, b))
    return n.equal(a, b)


def _jump(n: Numbers, a: Array, b: Array) -> tuple[np.ndarray, np.ndarray]:
    """Comparisons jump where the operands are equal; those of integers have no neighbours."""
    if n.is_number(a):
        difference = a - b
        return np.abs(difference), (difference > 0) * 1 - (difference < 0) * 1
    difference = np.subtract(a, b, dtype=np.float64)
    return np.full(difference.shape, np.inf), np.sign(difference)


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
    if s.wants(1):
        s.drop(1, either(s.dropped, s.b.op("Not", condition)))
    if s.wants(2):
        s.drop(2, either(s.dropped, condition))
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


def rounded(n: Numbers, x: Array) -> Array:
    """To the nearest integer, halves to the even one."""
    # Of a ball around an integer, too, this floor is decided. The sum may round up to the next one.
    near = n.floor(x + 0.5)
    ahead = near - x
    half = n.full((), 0.5)
    even = n.floor(near / 2.0) * 2.0
    return n.where(n.less(ahead, half), near, n.where(n.less(half, ahead), near - 1.0, even))


def _step(op: str, impl: Callable[..., Array], shift: float) -> Card:
    """A staircase with a jump at every integer plus `shift`."""

    def kinks(n: Numbers, x: Array, **_: Any) -> tuple[np.ndarray, np.ndarray]:
        return np.abs(x - shift - n.floor(x - shift + 0.5)), impl(n, x)

    return flat(
        op, impl, "a staircase: constant until it jumps", inputs=("X",), infer=same, kinks=kinks
    )


STEPS = (
    _step("Floor", lambda n, x: n.floor(x), 0.0),
    _step("Ceil", lambda n, x: -n.floor(-x), 0.0),
    _step("Round", rounded, 0.5),
    flat(
        "Sign",
        lambda n, x: n.sign(x) if n.is_number(x) else np.sign(x),
        "a step: constant until it jumps",
        inputs=("input",),
        infer=same,
        kinks=lambda n, x: (np.abs(x), np.sign(x)),
    ),
)

# ---- one hot ------------------------------------------------------------------------------------


def _hardmax(n: Numbers, x: Array, axis: int) -> Array:
    axis = axis_of(axis, x.ndim)
    top = np.expand_dims(n.argmax(x, axis), axis)
    places = np.arange(x.shape[axis]).reshape(-1, *(1,) * (x.ndim - 1 - axis))
    return n.mask_to_number(places == top)


def _hardmax_kinks(n: Numbers, x: Array, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """How far the greatest element of a row is ahead of the next."""
    if x.shape[axis] < 2:
        return np.full(x.shape, np.inf), np.zeros(x.shape, np.int64)
    ranked = np.moveaxis(np.sort(x, axis=axis), axis, -1)
    lead = np.expand_dims(ranked[..., -1] - ranked[..., -2], axis)
    top = np.argmax(x, axis=axis, keepdims=True)
    return np.broadcast_to(lead, x.shape), np.broadcast_to(top, x.shape)


HARDMAX = flat(
    "Hardmax",
    _hardmax,
    "1 at the greatest element and 0 elsewhere, until another is the greatest",
    inputs=("input",),
    infer=same,
    attrs={"axis": -1},
    kinks=_hardmax_kinks,
)

# ---- bits ---------------------------------------------------------------------------------------


def _bits(op: str, impl: Callable[..., np.ndarray], *inputs: str, **facets: Any) -> Card:
    """An operator on integers, which are plain arrays in every number system."""
    reason = "integers have no derivative"
    return flat(op, impl, reason, inputs=inputs, infer=joint, **facets)


def _shift(n: Numbers, x: np.ndarray, y: np.ndarray, direction: str) -> np.ndarray:
    if direction not in ("LEFT", "RIGHT"):
        raise UnsupportedError(f"BitShift with direction {direction!r}: it is LEFT or RIGHT")
    # NumPy too takes a shift by a negative number, or by the width and more, as one by all bits.
    return np.asarray(np.left_shift(x, y) if direction == "LEFT" else np.right_shift(x, y))


def _bit_cast_infer(s: Site) -> Sequence[Type]:
    to = DType(s["to"])
    if DType.STRING in (s.x.dtype, to):
        raise UnsupportedError("BitCast of strings, which have no bits of one width")
    if s.x.dtype.is_float and to.is_float:
        raise UnsupportedError("BitCast from one float type to another")
    return [(to, s.x.shape)]


_FLOATS: Mapping[int, np.dtype[Any]] = {4: np.dtype(np.float32), 8: np.dtype(np.float64)}
"""By bytes. Numbers do not remember how wide the file had them, so that two types of the same width
could not be told apart."""


def _bit_cast(n: Numbers, x: Array, to: str) -> Array:
    target = DType(to)
    if n.is_number(x):
        source = _FLOATS.get(target.np.itemsize)
        if source is None:
            raise UnsupportedError(f"BitCast of floats to {to}: only 32 and 64 bits wide")
        return n.to_bits(x, source, target.np)
    if x.dtype.itemsize != target.np.itemsize or x.dtype.kind == "V" or target.np.kind == "V":
        raise UnsupportedError(f"BitCast from {x.dtype} to {to}")
    return n.lift(x.view(target.np))


BITS = (
    _bits("BitwiseAnd", lambda n, a, b: np.bitwise_and(a, b), "A", "B", outputs=("C",)),
    _bits("BitwiseOr", lambda n, a, b: np.bitwise_or(a, b), "A", "B", outputs=("C",)),
    _bits("BitwiseXor", lambda n, a, b: np.bitwise_xor(a, b), "A", "B", outputs=("C",)),
    _bits("BitwiseNot", lambda n, x: np.invert(x), "X"),
    _bits("BitShift", _shift, "X", "Y", outputs=("Z",), attrs={"direction": REQUIRED}),
    flat(
        "BitCast",
        _bit_cast,
        "the bits of a number, read as another type, are a staircase",
        inputs=("input",),
        outputs=("output",),
        infer=_bit_cast_infer,
        attrs={"to": REQUIRED},
        since=26,
    ),
)

CARDS = (HARDMAX, *BITS, *COMPARISONS, *FINITENESS, *CONNECTIVES, *CHOICE, *STEPS)
