"""Attention as com.microsoft has it: projected, masked and remembered within one operator.

Each is the standard's Attention with what stands before it, and is differentiated as that. A mask
adds a large negative number, where the standard's has minus infinity: so a row in which nothing
may be looked at is spread over all that are masked alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.numbers import Array
from gradcli.ops import attention
from gradcli.ops.attention import positions
from gradcli.ops.axes import shape_part
from gradcli.ops.card import REQUIRED, Table
from gradcli.ops.contrib import apply, composed, integer_to_float
from gradcli.ops.emit import Emit, rank

_STANDARD = Table(attention.CARDS)
_MASKED = -10000.0


def _attended(
    n: Any, qkv: Sequence[Array], bias: Array | None, past: Sequence[Array | None], **attrs: Any
) -> Sequence[Array]:
    """The standard's Attention: its result, the keys and values with those before, the scores."""
    operands = *qkv, bias, *past
    if isinstance(n, Emit):
        return n.b.ops("Attention", *operands, outputs=4, **attrs)
    impl = _STANDARD["Attention"].impl
    assert impl is not None
    made: Sequence[Array] = impl(n, *operands, **_STANDARD.attributes("Attention", attrs))
    return made


# ---- shapes --------------------------------------------------------------------------------------


def _unsqueezed(n: Any, x: Array, axes: Sequence[int]) -> Array:
    return n.b.unsqueeze(x, axes) if isinstance(n, Emit) else np.expand_dims(x, tuple(axes))


def _parts(n: Any, x: Array, sizes: Sequence[int] | None) -> Sequence[Array]:
    """The last axis in three parts: of these sizes, or as long as one another."""
    if isinstance(n, Emit):
        how: dict[str, Any] = {} if sizes else {"num_outputs": 3}
        return n.b.ops("Split", x, n.b.ints(sizes) if sizes else None, outputs=3, axis=-1, **how)
    ends = np.cumsum(sizes or [x.shape[-1] // 3] * 3).tolist()
    before = [slice(None)] * (x.ndim - 1)
    return [n.slice(x, [*before, slice(a, z)]) for a, z in zip([0, *ends], ends, strict=False)]


def _without_heads(n: Any, x: Array) -> Array:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    if rank(x) == 3:
        return x
    turned = n.transpose(x, (0, 2, 1, 3))
    if isinstance(n, Emit):
        return n.b.reshape(turned, [0, 0, -1])
    return n.reshape(turned, (*turned.shape[:2], turned.shape[2] * turned.shape[3]))


def _both(n: Any, key: Array, value: Array) -> Array:
    """Keys and values as one tensor, as the operator remembers them."""
    if isinstance(n, Emit):
        return n.concat([n.b.unsqueeze(x, [0]) for x in (key, value)], 0)
    return n.concat([n.reshape(x, (1, *x.shape)) for x in (key, value)], 0)


# ---- masks ---------------------------------------------------------------------------------------


def _places(n: Any, x: Array, past: Array | None) -> Array:
    """0, 1, 2, ... for every key there is, those before included."""
    if not isinstance(n, Emit):
        return np.arange(x.shape[1] + (0 if past is None else past.shape[-2]))
    count = shape_part(n.b, x, 1, 2)
    if past is not None:
        count = count + shape_part(n.b, past, past.rank - 2, past.rank - 1)
    return positions(n.b, count)


def _ends(n: Any, x: Array, mask: Array) -> tuple[Array, Array]:
    """Where the keys of each sample begin and end: it has all ends, and maybe all beginnings."""
    if isinstance(n, Emit):
        batch, zero = shape_part(n.b, x, 0, 1), n.b.ints([0])
        whole = n.b.op("Cast", mask, to="int64")
        padded = n.b.op("Concat", whole, whole - whole, axis=0)
        start = n.b.op("Slice", padded, batch, batch + batch, zero)
        return start, n.b.op("Slice", padded, zero, batch, zero)
    batch = x.shape[0]
    return np.concatenate([mask, np.zeros_like(mask)])[batch : 2 * batch], mask[:batch]


def _mask(n: Any, x: Array, mask: Array, past: Array | None, masked: float) -> Array:
    """What a mask adds to the scores, of four axes; `x` is what the keys are made of."""
    out = n.full((), masked)
    kind = rank(mask)
    if kind in (2, 3):
        return n.where(_unsqueezed(n, mask, [1, 2] if kind == 2 else [1]) > 0, n.zero, out)
    if kind != 1:
        raise UnsupportedError(f"a mask of {kind} axes")
    if all(isinstance(d, int) for d in (mask.shape[0], x.shape[0])) and (
        mask.shape[0] not in (x.shape[0], 2 * x.shape[0])
    ):
        raise UnsupportedError("a mask of cumulated lengths")
    start, end = (_unsqueezed(n, v, [1, 2, 3]) for v in _ends(n, x, mask))
    at = _places(n, x, past)
    return n.where(at < end, n.where(at < start, out, n.zero), out)


def _bias(mask: Array | None, more: Array | None) -> Array | None:
    if mask is None or more is None:
        return more if mask is None else mask
    return mask + more


# ---- Attention -----------------------------------------------------------------------------------


def _self_attention(
    n: Any,
    projected: Array,
    mask: Array | None,
    past: Array | None,
    bias: Array | None,
    *,
    do_rotary: int,
    mask_filter_value: float,
    num_heads: int,
    past_present_share_buffer: int,
    scale: float,
    unidirectional: int,
    qkv_hidden_sizes: Sequence[int] | None = None,
    rotary_embedding_dim: int = 0,
) -> tuple[Array, Any]:
    """Of queries, keys and values beside one another."""
    if do_rotary or past_present_share_buffer:
        raise UnsupportedError("attention with do_rotary or past_present_share_buffer")
    before: Sequence[Array | None] = (None, None)
    if past is not None:
        before = [n.take(past, np.array(k), 0) for k in (0, 1)]
    added = None if mask is None else _mask(n, projected, mask, past, mask_filter_value)
    y, key, value, _ = _attended(
        n,
        _parts(n, projected, qkv_hidden_sizes),
        _bias(added, bias),
        before,
        is_causal=unidirectional,
        q_num_heads=num_heads,
        kv_num_heads=num_heads,
        scale=scale or None,
    )
    # Keys and values of two widths make no one tensor, and onnxruntime remembers none such.
    alike = len(set((qkv_hidden_sizes or (0,))[-2:])) == 1
    return y, lambda: _both(n, key, value) if alike else n.full((0,), 0.0)


def _attention(
    n: Any,
    x: Array,
    w: Array,
    b: Array = None,
    mask: Array = None,
    past: Array = None,
    bias: Array = None,
    length: Array = None,
    **attrs: Any,
) -> tuple[Array, Any]:
    y = apply(n, "MatMul", x, w)
    return _self_attention(n, y if b is None else y + b, mask, past, bias, **attrs)


def _quantised_attention(
    n: Any,
    x: Array,
    w: Array,
    b: Array,
    x_scale: Array,
    w_scale: Array,
    mask: Array = None,
    x_zero: Array = None,
    w_zero: Array = None,
    past: Array = None,
    **attrs: Any,
) -> tuple[Array, Any]:
    y = integer_to_float(n, x, w, x_scale, w_scale, x_zero, w_zero, b)
    return _self_attention(n, y, mask, past, None, **attrs)


# ---- MultiHeadAttention --------------------------------------------------------------------------


def _shifted(n: Any, qkv: Sequence[Array], bias: Array | None) -> Sequence[Array]:
    """With their biases, which stand one after another in one tensor."""
    if bias is None:
        return qkv
    q, k, v = qkv
    if rank(k) != 3:
        raise UnsupportedError("MultiHeadAttention with a bias and keys that are split by heads")
    sizes = [
        next((d for d in ds if isinstance(d, int)), 0)
        for ds in ((q.shape[2], k.shape[2]), (k.shape[2], q.shape[2]), (v.shape[2],))
    ]
    if not all(sizes):
        raise UnsupportedError("MultiHeadAttention with a bias, of unknown width")
    return [x + part for x, part in zip(qkv, _parts(n, bias, sizes), strict=True)]


def _multi_head_attention(
    n: Any,
    q: Array,
    k: Array = None,
    v: Array = None,
    b: Array = None,
    mask: Array = None,
    bias: Array = None,
    past_key: Array = None,
    past_value: Array = None,
    length: Array = None,
    beams: Array = None,
    *,
    mask_filter_value: float,
    num_heads: int,
    scale: float,
    unidirectional: int,
) -> tuple[Array, ...]:
    if k is None or v is None or rank(q) == 5 or rank(k) == 5:
        raise UnsupportedError("MultiHeadAttention of packed queries, keys and values")
    if length is not None or beams is not None:
        raise UnsupportedError("MultiHeadAttention with a shared buffer of keys and values")
    q, k, v = _shifted(n, (q, k, v), b)
    k, v = _without_heads(n, k), _without_heads(n, v)
    added = None if mask is None else _mask(n, k, mask, past_key, mask_filter_value)
    return tuple(
        _attended(
            n,
            (q, k, v),
            _bias(added, bias),
            (past_key, past_value),
            # A single query looks at all keys.
            is_causal=int(unidirectional and q.shape[1] != 1),
            q_num_heads=num_heads,
            kv_num_heads=num_heads,
            scale=scale or None,
            qk_matmul_output_mode=2,
        )
    )


_ATTRS = {
    "mask_filter_value": _MASKED,
    "num_heads": REQUIRED,
    "scale": 0.0,
    "unidirectional": 0,
}
_SHARED = {"do_rotary": 0, "past_present_share_buffer": 0}
_WHOLE = "integers"

CARDS = (
    composed(
        "Attention",
        _attention,
        (
            *("input", "weights", "bias?", "mask_index?", "past?", "attention_bias?"),
            "past_sequence_length?",
        ),
        {**_ATTRS, **_SHARED, "qkv_hidden_sizes": None, "rotary_embedding_dim": 0},
        outputs=("output", "present"),
        flat={"mask_index": _WHOLE, "past_sequence_length": _WHOLE},
    ),
    composed(
        "QAttention",
        _quantised_attention,
        (
            *("input", "weight", "bias", "input_scale", "weight_scale", "mask_index?"),
            *("input_zero_point?", "weight_zero_point?", "past?"),
        ),
        {**_ATTRS, **_SHARED},
        outputs=("output", "present"),
        flat=dict.fromkeys(
            ("input", "weight", "mask_index", "input_zero_point", "weight_zero_point"), _WHOLE
        ),
    ),
    composed(
        "MultiHeadAttention",
        _multi_head_attention,
        (
            *("query", "key?", "value?", "bias?", "key_padding_mask?", "attention_bias?"),
            *("past_key?", "past_value?", "past_sequence_length?", "cache_indirection?"),
        ),
        _ATTRS,
        outputs=("output", "present_key", "present_value", "qk"),
        flat=dict.fromkeys(
            ("key_padding_mask", "past_sequence_length", "cache_indirection"), _WHOLE
        ),
    ),
)
