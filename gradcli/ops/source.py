"""Operators that make a tensor out of nothing but numbers and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import SHAPE, length
from gradcli.ops.card import Site, Vars
from gradcli.ops.kinds import custom, flat

FIXED = "a constant does not depend on anything"

# ---- Constant and ConstantOfShape ----------------------------------------------------------------

_CONSTANT_DTYPES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
    "value_string": object,
    "value_strings": object,
}
_CONSTANT_ATTRS: Mapping[str, Any] = {"value": None, **dict.fromkeys(_CONSTANT_DTYPES)}


def _array(attrs: Mapping[str, Any]) -> np.ndarray:
    """The one attribute that is set, as an array."""
    given = {name: value for name, value in attrs.items() if value is not None}
    if len(given) != 1:
        raise UnsupportedError("Constant needs exactly one value")
    ((name, value),) = given.items()
    if name == "value":
        return np.asarray(value)
    return np.array(value, _CONSTANT_DTYPES[name])


def _constant_infer(s: Site) -> Sequence[Type]:
    array = _array(s.attrs)
    return [(DType.of(array), array.shape)]


def _filling(value: np.ndarray | None) -> np.ndarray:
    """The one element of the attribute, by default the float32 number 0."""
    return np.zeros((), np.float32) if value is None else value.reshape(())


def _constant_of_shape_infer(s: Site) -> Sequence[Type]:
    kind = DType.of(_filling(s["value"]))
    shape, rank = s.ints(0), length(s.x)
    if shape is not None:
        return [(kind, shape)]
    return [(kind, None if rank is None else s.b.fresh(rank))]


def _constant_of_shape(n: Numbers, shape: np.ndarray, *, value: np.ndarray | None) -> Array:
    return n.broadcast_to(n.lift(_filling(value)), shape.tolist())


# ---- Range ---------------------------------------------------------------------------------------


def _steps(start: Any, limit: Any, delta: Any) -> int:
    if delta == 0:
        raise ValueError("a Range with delta 0 never ends")
    return max(0, int(np.ceil((limit - start) / delta)))


def _range_infer(s: Site) -> Sequence[Type]:
    ends = [s.input(k).const for k in range(3)]
    known = [array.reshape(()).item() for array in ends if array is not None]
    return [(s.x.dtype, (_steps(*known),) if len(known) == len(ends) else s.b.fresh(1))]


def _range(n: Numbers, start: Array, limit: Array, delta: Array) -> Array:
    start, limit, delta = (n.reshape(x, ()) for x in (start, limit, delta))
    if not n.is_number(start):
        count = _steps(int(start), int(limit), int(delta))
        return (start + delta * np.arange(count)).astype(start.dtype)
    steps = -n.floor(n.divide(start - limit, delta))
    count = max(0, int(n.to_integer(steps, np.dtype(np.int64))))
    return start + delta * n.lift(np.arange(count, dtype=np.float64))


def _numbers(s: Site) -> Var:
    """0, 1, 2, ... as many as the result has, in its dtype."""
    b = s.b
    count = b.op("Size", s.y)
    steps = b.op("Range", b.constant(np.int64(0)), count, b.constant(np.int64(1)))
    return b.cast(steps, s.y.dtype)


def _range_jvp(s: Site, dots: Vars) -> Vars:
    """y = start + delta * (0, 1, 2, ...)."""
    start, _, delta = dots
    terms = [
        None if start is None else s.b.expand_like(start, s.y),
        None if delta is None else delta * _numbers(s),
    ]
    return [s.b.total(terms)]


def _range_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    start = s.b.sum(y_bar, None, keepdims=False) if s.wants(0) else None
    delta = s.b.sum(y_bar * _numbers(s), None, keepdims=False) if s.wants(2) else None
    return [
        None if start is None else s.b.reshape_like(start, s.x),
        None,
        None if delta is None else s.b.reshape_like(delta, s.input(2)),
    ]


# ---- EyeLike -------------------------------------------------------------------------------------


def _eye_infer(s: Site) -> Sequence[Type]:
    kind = s.x.dtype if s["dtype"] is None else DType(s["dtype"])
    return [(kind, s.x.shape)]


def _eye(n: Numbers, x: Array, *, dtype: str | None, k: int) -> Array:
    rows, columns = x.shape
    ones = np.eye(rows, columns, k)
    if dtype is None:
        return n.lift(ones) if n.is_number(x) else ones.astype(x.dtype)
    return n.lift(ones) if DType(dtype).is_float else ones.astype(DType(dtype).np)


CARDS = (
    flat(
        "Constant",
        lambda n, **attrs: n.lift(_array(attrs)),
        FIXED,
        inputs=(),
        infer=_constant_infer,
        attrs=_CONSTANT_ATTRS,
    ),
    flat(
        "ConstantOfShape",
        _constant_of_shape,
        FIXED,
        inputs=("input",),
        infer=_constant_of_shape_infer,
        attrs={"value": None},
        flat={"input": SHAPE},
    ),
    custom(
        "Range",
        _range,
        _range_jvp,
        _range_vjp,
        inputs=("start", "limit", "delta"),
        infer=_range_infer,
        flat={"limit": "it only says how many elements there are, which is a whole number"},
        edges=lambda n, start, limit, delta: np.abs(delta),
        edge="a step of 0",
        edge_of=2,
    ),
    flat(
        "EyeLike",
        _eye,
        "only the shape of the operand is read",
        inputs=("input",),
        infer=_eye_infer,
        attrs={"dtype": None, "k": 0},
    ),
)
