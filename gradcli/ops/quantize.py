"""Quantised tensors and integer arithmetic.

    quantise     q = saturate(round(x / scale) + zero)      a staircase: flat
    dequantise   x = (q - zero) * scale                     linear in the scale

A scale and a zero point are of the whole tensor, of each slice along an axis, or of each block of
slices. What is computed in integers is constant until it jumps, whatever feeds it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Type, Var
from gradcli.numbers import Array, Numbers, real
from gradcli.ops.axes import dims, shape_part
from gradcli.ops.card import Card, Site
from gradcli.ops.conv import CONV_ATTRS, conv, conv_types
from gradcli.ops.kinds import axis_of, composite, flat, linear
from gradcli.ops.linalg import matmul_types
from gradcli.ops.logic import rounded

WHOLE = "whole numbers: nothing flows through them"
STAIRS = "a staircase: constant until the next whole number is nearer"

# ---- scales and zero points beside their tensor --------------------------------------------------


def _beside(n: Numbers, p: Array, shape: Sequence[int], axis: int, block_size: int) -> Array:
    """A scale or zero point, so that it broadcasts to a tensor of this shape."""
    if block_size and p.ndim == len(shape):
        axis = axis_of(axis, len(shape))
        return n.take(p, np.arange(shape[axis]) // block_size, axis)
    if p.ndim == 1 and p.shape[0] > 1:
        axis = axis_of(axis, len(shape))
        return n.reshape(p, (-1, *(1,) * (len(shape) - 1 - axis)))
    return n.reshape(p, ()) if p.ndim <= 1 else p


def _numbers(n: Numbers, x: Array, zero: Array | None, *place: Any) -> Array:
    """x less its zero point, as numbers of n."""
    if n.is_number(x):
        return x if zero is None else x - _beside(n, zero, x.shape, *place)
    whole = x.astype(np.float64)
    if zero is not None:
        whole = whole - _beside(real, zero.astype(np.float64), x.shape, *place)
    return n.lift(whole)


def limits(dtype: DType) -> tuple[int, int]:
    """The least and the greatest number of an integer type."""
    signed, bits = dtype.value.startswith("int"), int(dtype.value.lstrip("uint"))
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _saturated(n: Numbers, u: Array, zero: Array | float, dtype: DType) -> np.ndarray:
    """The nearest whole number, halves to the even one, moved by a zero point and kept in range."""
    n.lower(u)  # refuses free symbols, which decide no integer, before rounding them takes ages
    low, high = (n.full((), float(end)) for end in limits(dtype))
    return n.to_integer(n.minimum(n.maximum(rounded(n, u) + zero, low), high), dtype.np)


# ---- QuantizeLinear ------------------------------------------------------------------------------


def _quantized_type(s: Site) -> DType:
    """The element type that a QuantizeLinear makes."""
    if s.has(2):
        return s.input(2).dtype
    return DType(s["output_dtype"]) if s["output_dtype"] else DType.UINT8


def _quantize(
    n: Numbers,
    x: Array,
    scale: Array,
    zero: Array | None = None,
    *,
    axis: int,
    block_size: int,
    output_dtype: str | None,
    saturate: int,
) -> np.ndarray:
    del saturate  # of 8-bit floats, which are a division and a Cast by the time of evaluation
    if zero is None:
        dtype = DType(output_dtype or "uint8")
    else:
        dtype = DType.FLOAT64 if n.is_number(zero) else DType.of(zero)
    if not dtype.is_integer:
        raise UnsupportedError("QuantizeLinear to floats; carry the graph over to one width first")
    u = x / _beside(n, scale, x.shape, axis, block_size)
    moved: Array = 0.0
    if zero is not None:
        moved = n.lift(_beside(real, zero.astype(np.float64), x.shape, axis, block_size))
    return _saturated(n, u, moved, dtype)


def quantize_jumps(
    n: Numbers, x: Array, scale: Array, zero: Array | None = None, **attrs: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The quanta jump half-way between whole numbers, up to where they saturate."""
    made = _quantize(n, x, scale, zero, **attrs)
    place = attrs["axis"], attrs["block_size"]
    width = _beside(n, scale, x.shape, *place)
    offset = 0.0 if zero is None else _beside(n, zero.astype(np.float64), x.shape, *place)
    low, high = limits(DType.of(made))
    u = x / width + offset
    edge = np.clip(np.floor(u) + 0.5, low + 0.5, high - 0.5)
    return np.abs((u - edge) * width), made


def quantize_in_floats(s: Site, dtype: DType) -> Var:
    """x / scale rounded to an 8-bit float: what a QuantizeLinear to such a type means."""
    place = s["axis"], s["block_size"]
    u = s.x / beside(s.b, s.x1, s.x, *place)
    return s.b.op("Cast", u, to=dtype.value, saturate=s["saturate"])


# ---- DequantizeLinear: linear in the scale -------------------------------------------------------


def _dequantize(
    n: Numbers, x: Array, scale: Array, zero: Array | None = None, *, axis: int, block_size: int
) -> Array:
    place = axis, block_size
    return _numbers(n, x, zero, *place) * _beside(n, scale, x.shape, *place)


def beside(b: Builder, p: Var, x: Var, axis: int, block_size: int, lead: int = 0) -> Var:
    """A scale or zero point, so that it broadcasts to x; `lead` axes of directions in front."""
    rank = p.rank - lead
    if block_size and rank == x.rank:
        axis = axis_of(axis, x.rank)
        size = shape_part(b, x, axis, axis + 1)
        at = b.op("Range", b.constant(np.int64(0)), b.op("Squeeze", size), b.constant(np.int64(1)))
        return b.op("Gather", p, b.op("Div", at, b.ints([block_size])), axis=axis + lead)
    if rank == 0 or p.shape is None or p.shape[-1] == 1:
        return b.op("Reshape", p, b.ints([0] * lead + [1] * x.rank))
    axis = axis_of(axis, x.rank)
    behind = x.rank - 1 - axis
    return b.op(
        "Reshape", p, b.ints([0] * lead + [1] * (axis if lead else 0) + [-1] + [1] * behind)
    )


def dequantize_in_floats(s: Site) -> Var:
    """(x - zero) * scale, of operands that are floats already."""
    place = s["axis"], s["block_size"]
    x = s.b.cast(s.x, s.x1.dtype)
    if s.has(2):
        x = x - beside(s.b, s.b.cast(s.input(2), s.x1.dtype), s.x, *place)
    return x * beside(s.b, s.x1, s.x, *place)


def _unscaled(s: Site, scale: Var) -> Var:
    """x less its zero point, as floats; `scale` is of the scale's shape."""
    return s.again(s.x, s.b.full_like(scale, 1.0), *s.inputs[2:])


def _scale_bar(s: Site, y_bar: Var) -> Var:
    b, scale = s.b, s.x1
    y_bar = y_bar * _unscaled(s, scale)
    if s["block_size"] and scale.rank == s.x.rank:
        axis, block = axis_of(s["axis"], s.x.rank), s["block_size"]
        blocks = shape_part(b, scale, axis, axis + 1)
        # The last block may be short.
        missing = blocks * b.ints([block]) - shape_part(b, s.x, axis, axis + 1)
        none = b.ints([0])
        y_bar = b.op("Pad", y_bar, b.op("Concat", none, missing, axis=0), None, b.ints([axis]))
        front, behind = shape_part(b, s.x, 0, axis), shape_part(b, s.x, axis + 1, s.x.rank)
        y_bar = b.op("Reshape", y_bar, dims(b, front, blocks, [block], behind))
        return b.sum(y_bar, axes=[axis + 1], keepdims=False)
    if scale.rank == 0 or (scale.shape or ())[-1:] == (1,):
        return b.reshape_like(b.sum(y_bar, axes=None, keepdims=False), scale)
    axis = axis_of(s["axis"], s.x.rank)
    return b.sum(y_bar, axes=[a for a in range(s.x.rank) if a != axis], keepdims=False)


def _dequantize_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    del batched  # the scale's directions are all there can be
    one = s.b.op("Gather", s.x1, s.b.constant(np.int64(0)), axis=0)
    return [_unscaled(s, one) * beside(s.b, s.x1, s.x, s["axis"], s["block_size"], lead=1)]


# ---- DynamicQuantizeLinear -----------------------------------------------------------------------

DYNAMIC = DType.UINT8
LEVELS = 255.0
DYNAMIC_CONVENTION = "of the scale, what ReduceMax and ReduceMin say where elements tie"


def _range(n: Numbers, x: Array) -> tuple[Array, Array]:
    """The scale, and the least element; 0 is always within the range."""
    axes = tuple(range(x.ndim))
    low = n.minimum(n.min(x, axes, False), n.zero)
    width = n.maximum(n.max(x, axes, False), n.zero) - low
    # Of nothing but zeros the scale is 1, as onnxruntime has it.
    return n.where(n.less(n.zero, width), width / LEVELS, n.full((), 1.0)), low


def dynamic_quantize(n: Numbers, x: Array) -> tuple[Array, ...]:
    """The quanta, their size, and the zero point."""
    n.lower(x)  # as there: a range of free symbols is a question that SymPy takes ages over
    scale, low = _range(n, x)
    zero = _saturated(n, -low / scale, 0.0, DYNAMIC)
    return _saturated(n, x / scale, n.lift(zero.astype(np.float64)), DYNAMIC), scale, zero


def _dynamic_written_out(s: Site) -> Sequence[Var]:
    b, x = s.b, s.x
    low = b.op("Min", b.op("ReduceMin", x, keepdims=0), b.like(0.0, x))
    width = b.op("Max", b.op("ReduceMax", x, keepdims=0), b.like(0.0, x)) - low
    scale = b.where(width > 0.0, width / LEVELS, 1.0)
    zero = b.op("Clip", b.op("Round", -low / scale), b.like(0.0, x), b.like(LEVELS, x))
    zero = b.cast(zero, DYNAMIC)
    return [b.op("QuantizeLinear", x, scale, zero), scale, zero]


def dynamic_jumps(n: Numbers, x: Array) -> tuple[np.ndarray, np.ndarray]:
    """Jumps of the quanta and of the zero point, and kinks of the extrema that set the scale."""
    y, scale, zero = dynamic_quantize(n, x)
    attrs: dict[str, Any] = {"axis": 1, "block_size": 0, "output_dtype": None, "saturate": 1}
    margin, _ = quantize_jumps(n, x, scale, zero, **attrs)
    flat_x = np.sort(np.append(np.reshape(x, -1), 0.0))
    low, high = flat_x[0], flat_x[-1]
    # Where 0 is one end, the zero point is the first or the last quantum whatever the other end.
    shift = np.inf
    if low < 0.0 < high:
        shift = float(quantize_jumps(n, np.asarray(-low), scale, None, **attrs)[0])
    # The extrema themselves jump with the zero point only: they carry the steps along.
    margin = np.where((x == low) | (x == high), np.inf, margin)
    alone = min(high - flat_x[-2], flat_x[1] - low) if flat_x.size > 1 else np.inf
    extreme = (x == high) + 2 * (x == low)
    branch = y.astype(np.int64) + 256 * (zero.astype(np.int64) + 256 * extreme)
    return np.minimum(margin, min(shift, float(alone))), branch


def together(jumps: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """One margin and one branch of all elements, for results that each hang on all of them."""
    margin = min((float(np.min(m, initial=np.inf)) for m, _ in jumps), default=np.inf)
    branch = zlib.crc32(b"".join(np.ascontiguousarray(b).tobytes() for _, b in jumps))
    return np.asarray(margin), np.asarray(branch)


# ---- integer products ----------------------------------------------------------------------------


def _less(x: np.ndarray, zero: np.ndarray | None, *, rows: bool = False) -> np.ndarray:
    """Integers less their zero point, in float64, which holds every product and sum exactly."""
    whole = x.astype(np.float64)
    return whole if zero is None else whole - _column(zero.astype(np.float64), rows)


def _column(p: Any, rows: bool) -> Any:
    """A parameter of each row as a column."""
    return p.reshape((-1, 1)) if rows and p.ndim == 1 and p.size > 1 else p


def _wrapped(total: np.ndarray) -> np.ndarray:
    """As int32, which wraps around."""
    return np.asarray(total.astype(np.int64).astype(np.int32))


def _matmul_integer(
    n: Numbers,
    a: np.ndarray,
    b: np.ndarray,
    a_zero: np.ndarray | None = None,
    b_zero: np.ndarray | None = None,
) -> np.ndarray:
    del n
    return _wrapped(np.matmul(_less(a, a_zero, rows=True), _less(b, b_zero)))


def _channels(p: Any, rank: int) -> Any:
    """A parameter of each of a weight's first axis, beside a tensor of this rank."""
    return p.reshape((-1, *(1,) * (rank - 1))) if p.ndim == 1 and p.size > 1 else p.reshape(())


def _conv_sum(
    x: np.ndarray, w: np.ndarray, x_zero: Any = None, w_zero: Any = None, **how: Any
) -> np.ndarray:
    data = _less(x, None if x_zero is None else x_zero.reshape(()))
    weight = _less(w, None if w_zero is None else _channels(w_zero, w.ndim))
    return np.asarray(conv(real, data, weight, **how))


def _conv_integer(n: Numbers, *operands: Any, **how: Any) -> np.ndarray:
    del n
    return _wrapped(_conv_sum(*operands, **how))


def _qlinear_matmul(
    n: Numbers,
    a: np.ndarray,
    a_scale: Array,
    a_zero: np.ndarray,
    b: np.ndarray,
    b_scale: Array,
    b_zero: np.ndarray,
    y_scale: Array,
    y_zero: np.ndarray,
) -> np.ndarray:
    if a_scale.ndim == 1 and a_scale.shape[0] > 1:
        a_scale = n.reshape(a_scale, (-1, 1))
    total = n.lift(np.matmul(_less(a, a_zero, rows=True), _less(b, b_zero)))
    u = total * (a_scale * b_scale / y_scale)
    return _saturated(n, u, n.lift(y_zero.astype(np.float64)), DType.of(y_zero))


def _qlinear_conv(
    n: Numbers,
    x: np.ndarray,
    x_scale: Array,
    x_zero: np.ndarray,
    w: np.ndarray,
    w_scale: Array,
    w_zero: np.ndarray,
    y_scale: Array,
    y_zero: np.ndarray,
    bias: np.ndarray | None = None,
    **how: Any,
) -> np.ndarray:
    total = _conv_sum(x, w, x_zero, w_zero, **how)
    tail = (1,) * (x.ndim - 2)
    if bias is not None:
        total = total + bias.astype(np.float64).reshape((-1, *tail))
    w_scale = n.reshape(w_scale, (-1, *tail)) if w_scale.shape and w_scale.shape[0] > 1 else w_scale
    w_scale = n.reshape(w_scale, ()) if w_scale.shape == (1,) else w_scale
    u = n.lift(total) * (n.reshape(x_scale, ()) * w_scale / n.reshape(y_scale, ()))
    zero = n.lift(y_zero.astype(np.float64).reshape(()))
    return _saturated(n, u, zero, DType.of(y_zero))


def _of(s: Site, first: int, second: int) -> Site:
    """The two factors alone, as those operators have them that do not quantise."""
    return Site(s.b, s.key, [s.input(first), s.input(second)], s.attrs)


def _typed(types: Sequence[Type], dtype: DType) -> Sequence[Type]:
    return [(dtype, shape) for _, shape in types]


CARDS: tuple[Card, ...] = (
    flat(
        "QuantizeLinear",
        _quantize,
        STAIRS,
        inputs=("x", "y_scale", "y_zero_point?"),
        outputs=("y",),
        infer=lambda s: [(_quantized_type(s), s.x.shape)],
        attrs={"axis": 1, "block_size": 0, "output_dtype": None, "saturate": 1},
        kinks=quantize_jumps,
    ),
    linear(
        "DequantizeLinear",
        _dequantize,
        lambda s, y_bar: [None, _scale_bar(s, y_bar) if s.wants(1) else None, None][
            : len(s.inputs)
        ],
        inputs=("x", "x_scale", "x_zero_point?"),
        outputs=("y",),
        infer=lambda s: [(s.x1.dtype, s.x.shape)],
        batch=_dequantize_batch,
        over=(1,),
        attrs={"axis": 1, "block_size": 0},
        flat={"x": WHOLE, "x_zero_point": WHOLE},
    ),
    composite(
        "DynamicQuantizeLinear",
        dynamic_quantize,
        _dynamic_written_out,
        inputs=("x",),
        outputs=("y", "y_scale", "y_zero_point"),
        infer=lambda s: [(DYNAMIC, s.x.shape), (s.x.dtype, ()), (DYNAMIC, ())],
        kinks=dynamic_jumps,
        jumps=True,
        convention=DYNAMIC_CONVENTION,
    ),
    flat(
        "MatMulInteger",
        _matmul_integer,
        WHOLE,
        inputs=("A", "B", "a_zero_point?", "b_zero_point?"),
        infer=lambda s: _typed(matmul_types(s), DType.INT32),
    ),
    flat(
        "ConvInteger",
        _conv_integer,
        WHOLE,
        inputs=("x", "w", "x_zero_point?", "w_zero_point?"),
        outputs=("y",),
        infer=lambda s: _typed(conv_types(s), DType.INT32),
        attrs=CONV_ATTRS,
    ),
    flat(
        "QLinearMatMul",
        _qlinear_matmul,
        STAIRS,
        inputs=(
            *("a", "a_scale", "a_zero_point", "b", "b_scale", "b_zero_point"),
            *("y_scale", "y_zero_point"),
        ),
        outputs=("y",),
        infer=lambda s: _typed(matmul_types(_of(s, 0, 3)), s.input(7).dtype),
    ),
    flat(
        "QLinearConv",
        _qlinear_conv,
        STAIRS,
        inputs=(
            *("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point"),
            *("y_scale", "y_zero_point", "B?"),
        ),
        outputs=("y",),
        infer=lambda s: _typed(conv_types(_of(s, 0, 3)), s.input(7).dtype),
        attrs=CONV_ATTRS,
    ),
)
