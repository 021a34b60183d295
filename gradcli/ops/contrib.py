"""Operators of com.microsoft: what onnxruntime's own optimiser writes into the files it saves.

Each is nothing but standard operators put together, and is differentiated as those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType
from gradcli.numbers import Array
from gradcli.ops import (
    activation,
    arrange,
    conv,
    elementwise,
    linalg,
    norm,
    pool,
    quantize,
    shape,
    softmax,
)
from gradcli.ops.axes import shape_part
from gradcli.ops.card import REQUIRED, Card, Table
from gradcli.ops.emit import Emit, emitted, rank, typed
from gradcli.ops.kinds import composite

DOMAIN = "com.microsoft::"

_STANDARD = Table(
    activation.CARDS,
    arrange.CARDS,
    conv.CARDS,
    elementwise.CARDS,
    linalg.CARDS,
    softmax.CARDS,
    norm.CARDS,
    pool.CARDS,
    quantize.CARDS,
    shape.CARDS,
)


def apply(n: Any, op: str, *operands: Any, **attrs: Any) -> Any:
    """A standard operator: computed in a number system, or emitted."""
    if isinstance(n, Emit):
        return n.b.op(op, *operands, **attrs)
    impl = _STANDARD[op].impl
    assert impl is not None
    made = impl(n, *operands, **_STANDARD.attributes(op, attrs))
    return made[0] if isinstance(made, tuple) else made


def composed(
    op: str,
    impl: Callable[..., Any],
    inputs: tuple[str, ...],
    attrs: Mapping[str, Any] | None = None,
    *,
    outputs: tuple[str, ...] = ("Y",),
    domain: str = DOMAIN,
    **facets: Any,
) -> Card:
    """An operator that is standard ones put together."""
    expand = emitted(impl)
    return composite(
        domain + op,
        impl,
        expand,
        inputs=inputs,
        outputs=outputs,
        infer=typed(expand, len(outputs)),
        attrs=attrs or {},
        **facets,
    )


# ---- products and convolutions with what follows them --------------------------------------------


def _turned(n: Any, x: Array, trans: int, batch: int) -> Array:
    """A factor as MatMul wants it: batches moved before the rows, rows and columns exchanged."""
    k = rank(x)
    if k < 2:
        return x
    perm = [*range(1, k - 1), 0, k - 1] if batch and k > 2 else list(range(k))
    if trans:
        perm[-2:] = perm[:-3:-1]
    return x if perm == list(range(k)) else n.transpose(x, perm)


def _fused_matmul(n: Any, a: Array, b: Array, **attrs: Any) -> Array:
    a = _turned(n, a, attrs["transA"], attrs["transBatchA"])
    b = _turned(n, b, attrs["transB"], attrs["transBatchB"])
    y = apply(n, "MatMul", a, b)
    return y if attrs["alpha"] == 1.0 else y * attrs["alpha"]


_ACTIVATIONS = frozenset(
    (
        *("Elu", "HardSigmoid", "LeakyRelu", "Relu", "Selu"),
        *("Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"),
    )
)


@dataclass(frozen=True)
class _Activation:
    """An activation as a fused operator names it.

    Attributes:
        op: Its operator; empty for none.
        operands: What it takes beside the value.
        attrs: Its attributes.
    """

    op: str
    operands: tuple[float, ...] = ()
    attrs: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def named(cls, op: str | None, parameters: Mapping[str, float | None]) -> _Activation:
        """By its name and its parameters, those that are given."""
        given = {name: value for name, value in parameters.items() if value is not None}
        if op == "Clip":
            return cls(op, tuple(given.values()))
        if op and op not in _ACTIVATIONS:
            raise UnsupportedError(f"the activation {op}")
        return cls(op or "", (), given)

    def of(self, n: Any, x: Array) -> Array:
        """Its value."""
        if not self.op:
            return x
        return apply(n, self.op, x, *(n.full((), v) for v in self.operands), **self.attrs)

    def kinks(self, n: Any, x: Array) -> tuple[np.ndarray, np.ndarray]:
        """How far each element is from where its derivative jumps, and which piece it is on."""
        kinks = _STANDARD[self.op].kinks if self.op else None
        if kinks is None:
            return np.full(np.shape(x), np.inf), np.zeros(np.shape(x), np.int64)
        attrs = _STANDARD.attributes(self.op, self.attrs)
        return kinks(n, x, *(n.full((), v) for v in self.operands), **attrs)


_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
_PARAMETERS = ("alpha", "beta", "gamma")
_GEMM_ACTIVATION = tuple(f"activation_{name}" for name in _PARAMETERS)


def _fused_gemm(
    n: Any, a: Array, b: Array, c: Array = None, **attrs: Any
) -> tuple[Array, _Activation]:
    y = apply(n, "Gemm", a, b, c, **{name: attrs[name] for name in _GEMM})
    parameters = {name: attrs[f"activation_{name}"] for name in _PARAMETERS}
    return y, _Activation.named(attrs["activation"], parameters)


def _fused_conv(
    n: Any,
    x: Array,
    w: Array,
    b: Array = None,
    z: Array = None,
    *,
    activation: str | None,
    activation_params: Any,
    **attrs: Any,
) -> tuple[Array, _Activation]:
    y = apply(n, "Conv", x, w, b, **attrs)
    parameters = dict(zip(_PARAMETERS, activation_params or (), strict=False))
    return (y if z is None else y + z), _Activation.named(activation, parameters)


def _fused(op: str, before: Callable[..., tuple[Array, _Activation]], *how: Any) -> Card:
    """An operator with an activation behind it: its kinks are the activation's."""

    def impl(n: Any, *operands: Array, **attrs: Any) -> Array:
        y, activation = before(n, *operands, **attrs)
        return activation.of(n, y)

    def kinks(n: Any, *operands: Array, **attrs: Any) -> tuple[np.ndarray, np.ndarray]:
        y, activation = before(n, *operands, **attrs)
        return activation.kinks(n, y)

    return composed(op, impl, *how, kinks=kinks, convention="that of its activation")


FUSED = (
    composed(
        "FusedMatMul",
        _fused_matmul,
        ("A", "B"),
        {"alpha": 1.0, "transA": 0, "transB": 0, "transBatchA": 0, "transBatchB": 0},
    ),
    _fused(
        "FusedGemm",
        _fused_gemm,
        ("A", "B", "C?"),
        {**_GEMM, "activation": None, **dict.fromkeys(_GEMM_ACTIVATION)},
    ),
    _fused(
        "FusedConv",
        _fused_conv,
        ("X", "W", "B?", "Z?"),
        {**conv.CONV_ATTRS, "activation": None, "activation_params": None},
    ),
)

# ---- activations ---------------------------------------------------------------------------------


def _gelu(n: Any, x: Array, bias: Array = None) -> Array:
    return apply(n, "Gelu", x if bias is None else x + bias)


def _fast_gelu(n: Any, x: Array, bias: Array = None) -> Array:
    return apply(n, "Gelu", x if bias is None else x + bias, approximate="tanh")


def _quick_gelu(n: Any, x: Array, alpha: float) -> Array:
    return x * n.sigmoid(x * alpha)


ACTIVATIONS = (
    composed("Gelu", _gelu, ("X",)),
    composed("BiasGelu", _gelu, ("A", "B"), outputs=("C",)),
    composed("FastGelu", _fast_gelu, ("X", "bias?")),
    composed("QuickGelu", _quick_gelu, ("X",), {"alpha": 1.702}),
)

# ---- normalisations with a sum before them -------------------------------------------------------


def _mean(n: Any, x: Array, axes: list[int]) -> Array:
    if isinstance(n, Emit):
        return n.b.op("ReduceMean", x, n.b.ints(axes), keepdims=1)
    return n.sum(x, axes, keepdims=True) / float(np.prod([x.shape[a] for a in axes]))


def _normalised(
    n: Any, x: Array, gamma: Array, beta: Array | None, epsilon: float
) -> tuple[Array, Array, Array]:
    """A layer's normalisation over the last axis, its mean, and 1 / its deviation."""
    y = apply(n, "LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)
    mean = _mean(n, x, [-1])
    centred = x - mean
    return y, mean, 1.0 / n.sqrt(_mean(n, centred * centred, [-1]) + epsilon)


def _skip_layer_norm(
    n: Any,
    x: Array,
    skip: Array,
    gamma: Array,
    beta: Array = None,
    bias: Array = None,
    *,
    epsilon: float,
) -> tuple[Array, Array, Array, Array]:
    total = x + skip
    total = total if bias is None else total + bias
    return *_normalised(n, total, gamma, beta, epsilon), total


def _rms(n: Any, x: Array, scale: Array, axes: list[int], epsilon: float) -> tuple[Array, Array]:
    inverse = 1.0 / n.sqrt(_mean(n, x * x, axes) + epsilon)
    return x * inverse * scale, inverse


def _skip_rms_norm(
    n: Any, x: Array, skip: Array, gamma: Array, bias: Array = None, *, epsilon: float
) -> tuple[Array, Array, Array, Array]:
    total = x + skip
    total = total if bias is None else total + bias
    y, inverse = _rms(n, total, gamma, [-1], epsilon)
    return y, inverse * 0.0, inverse, total


def _rms_norm(
    n: Any, x: Array, scale: Array, *, axis: int, epsilon: float, stash_type: int
) -> tuple[Array, Array]:
    start = axis % rank(x)
    return _rms(n, x, scale, list(range(start - rank(x), 0)), epsilon)


def _embed_layer_norm(
    n: Any,
    ids: Array,
    segments: Array | None,
    words: Array,
    places: Array,
    kinds: Array | None,
    gamma: Array,
    beta: Array,
    mask: Array = None,
    at: Array = None,
    *,
    epsilon: float,
    mask_index_type: int | None,
) -> tuple[Array, Array, Array]:
    """The sum of what words, places and kinds of segments are embedded as, normalised."""
    total = n.take(words, ids, 0) + (
        _first(n, places, ids) if at is None else n.take(places, at, 0)
    )
    if segments is not None and kinds is not None:
        total = total + n.take(kinds, segments, 0)
    y = apply(n, "LayerNormalization", total, gamma, beta, axis=-1, epsilon=epsilon)
    return y, _lengths(n, ids, mask), total


def _first(n: Any, places: Array, ids: Array) -> Array:
    """As many rows as a sentence is long."""
    if not isinstance(n, Emit):
        return n.slice(places, [slice(0, ids.shape[1])])
    zero = n.b.ints([0])
    return n.b.op("Slice", places, zero, shape_part(n.b, ids, 1, 2), zero)


def _lengths(n: Any, ids: Array, mask: Array | None) -> Array:
    """How many words of each sentence count; 0 where nobody says."""
    if not isinstance(n, Emit):
        counted = np.zeros(ids.shape, bool) if mask is None else mask == 1
        return np.sum(counted, axis=1, dtype=np.int32)
    one = n.b.constant(np.array(1, np.int32))
    counted = n.b.op("Sub", ids, ids) if mask is None else n.b.op("Equal", mask, one)
    return n.b.sum(n.b.cast(counted, DType.INT32), axes=[1], keepdims=False)


_SKIP = ("output", "mean", "inv_std_var", "input_skip_bias_sum")

NORMS = (
    composed(
        "SkipLayerNormalization",
        _skip_layer_norm,
        ("input", "skip", "gamma", "beta?", "bias?"),
        {"epsilon": 1e-12},
        outputs=_SKIP,
    ),
    composed(
        "SkipSimplifiedLayerNormalization",
        _skip_rms_norm,
        ("input", "skip", "gamma", "bias?"),
        {"epsilon": 1e-12},
        outputs=_SKIP,
    ),
    composed(
        "EmbedLayerNormalization",
        _embed_layer_norm,
        (
            *("input_ids", "segment_ids?", "word_embedding", "position_embedding"),
            *("segment_embedding?", "gamma", "beta", "mask?", "position_ids?"),
        ),
        {"epsilon": 1e-12, "mask_index_type": None},
        outputs=("output", "mask_index", "embedding_sum"),
        flat={
            **dict.fromkeys(("input_ids", "segment_ids", "position_ids"), "indices"),
            "mask": "integers",
        },
    ),
    composed(
        "SimplifiedLayerNormalization",
        _rms_norm,
        ("X", "scale"),
        {"axis": -1, "epsilon": 1e-5, "stash_type": 1},
        outputs=("Y", "inv_std_var"),
        domain="",
    ),
)

# ---- quantised products --------------------------------------------------------------------------


def _whole(n: Any, x: Array) -> Array:
    """Integers as numbers."""
    return n.lift(x if isinstance(n, Emit) else x.astype(np.float64))


def centred(n: Any, x: Array, zero: Array | None) -> Array:
    """Integers as numbers, less their zero point."""
    return _whole(n, x) if zero is None else _whole(n, x) - _whole(n, zero)


def integer_to_float(
    n: Any,
    a: Array,
    b: Array,
    a_scale: Array,
    b_scale: Array,
    a_zero: Array = None,
    b_zero: Array = None,
    bias: Array = None,
) -> Array:
    """A product of quantised matrices as numbers, with a bias."""
    y = apply(n, "MatMul", centred(n, a, a_zero), centred(n, b, b_zero)) * (a_scale * b_scale)
    return y if bias is None else y + bias


def _unpacked(packed: np.ndarray, bits: int) -> np.ndarray:
    """Numbers of a few bits, the lowest first in each byte, along the last axis."""
    each = 8 // bits
    shifts = np.arange(each, dtype=np.uint8) * bits
    parts = (packed[..., None] >> shifts) & ((1 << bits) - 1)
    return parts.reshape(*packed.shape[:-1], -1)


def _plain(n: Any, x: Any) -> np.ndarray:
    """Integers that must be a constant of the file."""
    array = x.const if isinstance(n, Emit) else x
    if array is None:
        raise UnsupportedError("packed weights that are no constants")
    return np.asarray(array)


def _matmul_nbits(
    n: Any,
    a: Array,
    b: Array,
    scales: Array,
    zeros: Array = None,
    groups: Array = None,
    bias: Array = None,
    **attrs: Any,
) -> Array:
    if groups is not None:
        raise UnsupportedError("MatMulNBits with g_idx")
    bits, rows, columns = attrs["bits"], attrs["N"], attrs["K"]
    blocks = -(-columns // attrs["block_size"])
    steps = _unpacked(_plain(n, b).reshape(rows, blocks, -1), bits).astype(np.float64)
    if zeros is None:
        centred = n.lift(steps - 2.0 ** (bits - 1))
    elif n.is_number(zeros):
        centred = n.lift(steps) - n.reshape(zeros, (rows, blocks, 1))
    else:
        packed = _unpacked(_plain(n, zeros).reshape(rows, -1), bits)[:, :blocks]
        centred = n.lift(steps - packed[..., None])
    w = n.reshape(centred * n.reshape(scales, (rows, blocks, 1)), (rows, -1))
    if blocks * attrs["block_size"] != columns:
        w = n.take(w, np.arange(columns), 1)
    y = apply(n, "MatMul", a, n.transpose(w, (1, 0)))
    return y if bias is None else y + bias


def _gather_quantised(
    n: Any,
    data: Array,
    indices: Array,
    scales: Array,
    zeros: Array = None,
    *,
    bits: int,
    block_size: int,
    gather_axis: int,
    quantize_axis: int,
) -> Array:
    """Rows of a table whose elements are steps, each block of them with its scale."""
    dtype = data.dtype.value if isinstance(n, Emit) else str(data.dtype)
    if dtype == "uint8":
        data = _unpacked(_plain(n, data), bits)
        blocks = scales.shape[-1]
        middle = np.full(scales.shape, 1 << (bits - 1), np.uint8)
        zeros = middle if zeros is None else _unpacked(_plain(n, zeros), bits)[..., :blocks]
        if isinstance(n, Emit):
            data, zeros = n.lift(data), n.lift(zeros)
    table = apply(
        n, "DequantizeLinear", data, scales, zeros, axis=quantize_axis, block_size=block_size
    )
    return n.take(table, indices, gather_axis % rank(table))


QUANTISED = (
    composed(
        "GatherBlockQuantized",
        _gather_quantised,
        ("data", "indices", "scales", "zero_points?"),
        {"bits": 4, "block_size": 128, "gather_axis": 0, "quantize_axis": 1},
        outputs=("output",),
        flat={"data": "integers", "indices": "indices", "zero_points": "integers"},
    ),
    composed(
        "MatMulIntegerToFloat",
        integer_to_float,
        ("A", "B", "a_scale", "b_scale", "a_zero_point?", "b_zero_point?", "bias?"),
        flat={
            "A": "integers",
            "B": "integers",
            "a_zero_point": "an integer",
            "b_zero_point": "an integer",
        },
    ),
    composed(
        "MatMulNBits",
        _matmul_nbits,
        ("A", "B", "scales", "zero_points?", "g_idx?", "bias?"),
        {
            "K": REQUIRED,
            "N": REQUIRED,
            "accuracy_level": 0,
            "bits": 4,
            "block_size": REQUIRED,
            "weight_prepacked": 0,
        },
        flat={"B": "integers", "g_idx": "indices"},
    ),
)

CARDS = (*FUSED, *ACTIVATIONS, *NORMS, *QUANTISED)
