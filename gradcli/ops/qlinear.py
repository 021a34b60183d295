"""Operators of com.microsoft on quantised tensors: what onnxruntime's quantiser writes.

    QLinear*    dequantise, compute in floats, quantise:    a staircase, flat
    Dynamic*    quantise an operand by its own range:       a staircase whose steps move with it

Each is written once, over numbers or over a graph, in the standard operators that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradcli.graph import DType, Type
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import REQUIRED, Card, Site
from gradcli.ops.contrib import DOMAIN, apply, centred, composed
from gradcli.ops.conv import CONV_ATTRS
from gradcli.ops.emit import Emit, emitted, rank, typed
from gradcli.ops.kinds import flat
from gradcli.ops.pool import POOL_ATTRS
from gradcli.ops.quantize import (
    DYNAMIC_CONVENTION,
    STAIRS,
    WHOLE,
    dynamic_jumps,
    dynamic_quantize,
    quantize_jumps,
    together,
)


def _flat(
    op: str,
    impl: Callable[..., Any],
    inputs: tuple[str, ...],
    attrs: Mapping[str, Any] | None = None,
    output: str = "Y",
    typed_by: int = 0,
    **facets: Any,
) -> Card:
    """A staircase; `typed_by` is the place of an operand of its result's type."""
    expand = emitted(impl)
    known = typed(expand)

    def infer(s: Site) -> Sequence[Type]:
        if any(x is not None and x.shape is None for x in s.inputs):
            return [(s.input(typed_by).dtype if s.has(typed_by) else DType.UINT8, None)]
        return known(s)

    return flat(
        DOMAIN + op,
        impl,
        STAIRS,
        inputs=inputs,
        outputs=(output,),
        infer=infer,
        expand=expand,
        attrs=attrs or {},
        **facets,
    )


def _number(n: Any, x: Array, scale: Array, zero: Array | None) -> Array:
    """A quantised tensor as numbers."""
    return apply(n, "DequantizeLinear", x, scale, zero)


def _quantised(n: Any, y: Array, like: Array, scale: Array, zero: Array | None) -> Array:
    """Numbers quantised, to the type of their zero point, or of an operand."""
    dtype = like.dtype.value if isinstance(n, Emit) else str(like.dtype)
    return apply(
        n, "QuantizeLinear", y, scale, zero, output_dtype=None if zero is not None else dtype
    )


# ---- one operand, and two ------------------------------------------------------------------------


def _one(f: Callable[..., Array]) -> Callable[..., Array]:
    """A function of one tensor, as it is of a quantised one."""

    def impl(
        n: Any,
        x: Array,
        x_scale: Array,
        x_zero: Array | None,
        y_scale: Array,
        y_zero: Array | None = None,
        **attrs: Any,
    ) -> Array:
        return _quantised(n, f(n, _number(n, x, x_scale, x_zero), **attrs), x, y_scale, y_zero)

    return impl


def _two(f: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """A function of two tensors, as it is of quantised ones."""

    def impl(
        n: Any,
        a: Array,
        a_scale: Array,
        a_zero: Array | None,
        b: Array,
        b_scale: Array,
        b_zero: Array | None,
        c_scale: Array,
        c_zero: Array | None = None,
    ) -> Array:
        y = f(_number(n, a, a_scale, a_zero), _number(n, b, b_scale, b_zero))
        return _quantised(n, y, a, c_scale, c_zero)

    return impl


def _softmax(n: Any, x: Array, *, axis: int, opset: int) -> Array:
    if opset >= 13 or axis % rank(x) == rank(x) - 1:
        return apply(n, "Softmax", x, axis=axis)
    # Then it was over all axes from this one on.
    rows = apply(n, "Flatten", x, axis=axis)
    y = apply(n, "Softmax", rows, axis=1)
    return n.b.reshape_like(y, x) if isinstance(n, Emit) else n.reshape(y, x.shape)


def _quantised_softmax(
    n: Any,
    x: Array,
    x_scale: Array,
    x_zero: Array | None,
    y_scale: Array,
    y_zero: Array,
    **how: Any,
) -> Array:
    """Probabilities in whole parts: onnxruntime's kernel takes the scale for one over an integer.

    That is the one below 1 / y_scale, a quotient in float32: hence the half spacing.
    """
    parts = (1.0 + 2.0**-25) / y_scale
    parts = n.b.op("Floor", parts) if isinstance(n, Emit) else n.floor(parts)
    y = _softmax(n, _number(n, x, x_scale, x_zero), **how)
    return _quantised(n, y, x, 1.0 / parts, y_zero)


def _pool(op: str) -> Callable[..., Array]:
    def pooled(n: Any, x: Array, *, channels_last: int, **attrs: Any) -> Array:
        if not channels_last:
            return apply(n, op, x, **attrs)
        k = rank(x)
        y = apply(n, op, n.transpose(x, [0, k - 1, *range(1, k - 1)]), **attrs)
        return n.transpose(y, [0, *range(2, k), 1])

    return pooled


def _channels_first(n: Any, x: Array) -> Array:
    k = rank(x)
    perm = [0, k - 1, *range(1, k - 1)]
    return n.transpose(x, perm) if isinstance(n, Emit) else np.transpose(x, perm)


def _channels_last(n: Any, x: Array) -> Array:
    perm = [0, *range(2, rank(x)), 1]
    return n.transpose(x, perm) if isinstance(n, Emit) else np.transpose(x, perm)


def _conv(n: Any, x: Array, *operands: Array, channels_last: int, **attrs: Any) -> Array:
    if not channels_last:
        return apply(n, "QLinearConv", x, *operands, **attrs)
    x = _channels_first(n, x)
    return _channels_last(n, apply(n, "QLinearConv", x, *operands, **attrs))


def _max_pool(n: Any, x: Array, **attrs: Any) -> Array:
    return _channels_last(n, apply(n, "MaxPool", _channels_first(n, x), **attrs))


def _where(
    n: Any,
    mask: Array,
    x: Array,
    x_scale: Array,
    x_zero: Array,
    y: Array,
    y_scale: Array,
    y_zero: Array,
    z_scale: Array,
    z_zero: Array,
) -> Array:
    z = n.where(mask, _number(n, x, x_scale, x_zero), _number(n, y, y_scale, y_zero))
    return _quantised(n, z, x, z_scale, z_zero)


def _concat(n: Any, scale: Array, zero: Array, *operands: Array, axis: int) -> Array:
    parts = [_number(n, *operands[k : k + 3]) for k in range(0, len(operands), 3)]
    return _quantised(n, apply(n, "Concat", *parts, axis=axis), zero, scale, zero)


def _gemm(
    n: Any,
    a: Array,
    a_scale: Array,
    a_zero: Array,
    b: Array,
    b_scale: Array,
    b_zero: Array,
    c: Array = None,
    y_scale: Array = None,
    y_zero: Array = None,
    *,
    alpha: float,
    **turned: int,
) -> Array:
    a, b = (
        n.transpose(x, (1, 0)) if turned[f"trans{name}"] else x
        for name, x in (("A", centred(n, a, None)), ("B", centred(n, b, None)))
    )
    a, b = a - centred(n, a_zero, None), b - centred(n, b_zero, None)
    y = n.matmul(a, b)
    if c is not None:
        y = y + centred(n, c, None)
    y = y * (a_scale * b_scale * alpha)
    return y if y_scale is None else apply(n, "QuantizeLinear", y, y_scale, y_zero)


def _gemm_jumps(n: Numbers, *operands: Any, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Those of its quantised result, in units of that; a result of floats has none."""
    y = _gemm(n, *operands[:7], **attrs)
    if len(operands) < 8 or operands[7] is None:
        return np.full(y.shape, np.inf), np.zeros(y.shape, np.int64)
    return _jumps(n, y, *operands[7:9], axis=1)


_ONE = ("X", "X_scale", "X_zero_point?", "Y_scale", "Y_zero_point?")
_POOLED = ("X", "x_scale", "x_zero_point?", "y_scale", "y_zero_point?")
_TWO = (
    *("A", "A_scale", "A_zero_point?", "B", "B_scale", "B_zero_point?"),
    *("C_scale", "C_zero_point?"),
)

QLINEAR = (
    _flat("QLinearAdd", _two(lambda a, b: a + b), _TWO, output="C"),
    _flat("QLinearMul", _two(lambda a, b: a * b), _TWO, output="C"),
    _flat("QLinearSigmoid", _one(lambda n, x: n.sigmoid(x)), _ONE),
    _flat(
        "QLinearLeakyRelu",
        _one(lambda n, x, alpha: apply(n, "LeakyRelu", x, alpha=alpha)),
        _ONE,
        {"alpha": 0.01},
    ),
    _flat(
        "QLinearSoftmax",
        _quantised_softmax,
        ("X", "X_scale", "x_zero_point?", "y_scale", "y_zero_point"),
        {"axis": -1, "opset": REQUIRED},
    ),
    _flat(
        "QLinearAveragePool",
        _one(_pool("AveragePool")),
        _POOLED,
        {
            "auto_pad": "NOTSET",
            "ceil_mode": 0,
            "channels_last": 0,
            "count_include_pad": 0,
            "kernel_shape": REQUIRED,
            "pads": None,
            "strides": None,
        },
    ),
    _flat(
        "QLinearGlobalAveragePool",
        _one(_pool("GlobalAveragePool")),
        tuple(name.rstrip("?") for name in _POOLED),
        {"channels_last": 0},
    ),
    _flat(
        "QLinearConv",
        _conv,
        (
            *("x", "x_scale", "x_zero_point", "w", "w_scale", "w_zero_point"),
            *("y_scale", "y_zero_point", "B?"),
        ),
        {**CONV_ATTRS, "channels_last": 0},
        output="y",
        typed_by=7,
    ),
    _flat("NhwcMaxPool", _max_pool, ("x",), POOL_ATTRS, output="y"),
    _flat(
        "QLinearWhere",
        _where,
        (
            *("condition", "X", "x_scale", "x_zero_point", "Y", "y_scale", "y_zero_point"),
            *("z_scale", "z_zero_point"),
        ),
        output="Z",
    ),
    _flat(
        "QLinearConcat",
        _concat,
        ("Y_scale", "Y_zero_point", "inputs*"),
        {"axis": REQUIRED},
        typed_by=1,
    ),
)

# ---- the standard's own two, as older files have them --------------------------------------------


def _quantize(
    n: Any, x: Array, scale: Array, zero: Array | None = None, *, axis: int | None
) -> Array:
    return apply(n, "QuantizeLinear", x, scale, zero, axis=1 if axis is None else axis)


def _dequantize(
    n: Any, x: Array, scale: Array, zero: Array | None = None, *, axis: int | None
) -> Array:
    return apply(n, "DequantizeLinear", x, scale, zero, axis=1 if axis is None else axis)


def _jumps(
    n: Numbers, x: Array, scale: Array, zero: Array | None = None, *, axis: int | None
) -> tuple[np.ndarray, np.ndarray]:
    return quantize_jumps(
        n,
        x,
        scale,
        zero,
        axis=1 if axis is None else axis,
        block_size=0,
        output_dtype=None,
        saturate=1,
    )


LINEAR = (
    _flat(
        "QuantizeLinear",
        _quantize,
        ("x", "y_scale", "y_zero_point?"),
        {"axis": None},
        output="y",
        typed_by=2,
        kinks=_jumps,
    ),
    composed(
        "DequantizeLinear",
        _dequantize,
        ("x", "x_scale", "x_zero_point?"),
        {"axis": None},
        outputs=("y",),
        flat={"x": WHOLE, "x_zero_point": WHOLE},
    ),
)

# ---- quantised by their own range ----------------------------------------------------------------


def dynamic(n: Any, x: Array) -> tuple[Array, Array]:
    """A tensor in 255 steps from its least element to its greatest: how many each, and the step."""
    if isinstance(n, Emit):
        q, step, zero = n.b.ops("DynamicQuantizeLinear", x, outputs=3)
        return centred(n, q, zero), step
    q, step, zero = dynamic_quantize(n, x)
    return centred(n, q, zero), step


def _dynamic_matmul(
    n: Any, a: Array, b: Array, b_scale: Array, b_zero: Array = None, bias: Array = None
) -> Array:
    steps, step = dynamic(n, a)
    y = apply(n, "MatMul", steps, centred(n, b, b_zero)) * (b_scale * step)
    return y if bias is None else y + bias


GEMM = composed(
    "QGemm",
    _gemm,
    (
        *("A", "a_scale", "a_zero_point", "B", "b_scale", "b_zero_point"),
        *("C?", "y_scale?", "y_zero_point?"),
    ),
    {"alpha": 1.0, "transA": 0, "transB": 0},
    flat=dict.fromkeys(("A", "a_zero_point", "B", "b_zero_point", "C", "y_zero_point"), WHOLE),
    kinks=_gemm_jumps,
    jumps=True,
    convention="0 where the result is quantised",
)

DYNAMICAL = (
    composed(
        "DynamicQuantizeMatMul",
        _dynamic_matmul,
        ("A", "B", "b_scale", "b_zero_point?", "bias?"),
        flat={"B": WHOLE, "b_zero_point": WHOLE},
        kinks=lambda n, a, *_: together([dynamic_jumps(n, a)]),
        jumps=True,
        convention=DYNAMIC_CONVENTION,
    ),
)

CARDS = (*QLINEAR, GEMM, *LINEAR, *DYNAMICAL)
