"""Attention with a state of one size, and the convolution in front of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.attention import difference, part_of
from gradcli.ops.axes import EVERYTHING, dims, shape_part
from gradcli.ops.card import REQUIRED, Card, Site
from gradcli.ops.irrational import root
from gradcli.ops.kinds import composite

# ---- CausalConvWithState -------------------------------------------------------------------------


def _causal_conv_types(s: Site) -> Sequence[Type]:
    x, w = s.x.shape, s.x1.shape
    if x is None or w is None:
        return [(s.x.dtype, None)] * 2
    kept = w[2] - 1 if isinstance(w[2], int) else s.b.fresh(1)[0]
    return [(s.x.dtype, x), (s.x.dtype, (*x[:2], kept))]


def _causal_conv(
    n: Numbers,
    x: Array,
    w: Array,
    bias: Array | None = None,
    past: Array | None = None,
    *,
    activation: str,
) -> tuple[Array, Array]:
    taps, length = w.shape[2], x.shape[2]
    before = n.full((*x.shape[:2], taps - 1), 0.0) if past is None else past
    x = n.concat([before, x], 2)
    y = n.full((1,), 0.0) if bias is None else n.reshape(bias, (-1, 1))
    for tap in range(taps):
        weight = n.slice(w, [slice(None), slice(0, 1), slice(tap, tap + 1)])
        y = y + n.reshape(weight, (-1, 1)) * n.slice(
            x, [slice(None), slice(None), slice(tap, tap + length)]
        )
    y = y * n.sigmoid(y) if activation in SWISH else y
    return y, n.slice(x, [slice(None), slice(None), slice(length, None)])


def _causal_conv_expansion(s: Site) -> Sequence[Var]:
    b, w = s.b, s.x1
    assert w.shape is not None
    if not isinstance(w.shape[0], int):
        raise UnsupportedError("CausalConvWithState of an unknown number of channels")
    if s.has(3):
        x = b.op("Concat", s.input(3), s.x, axis=2)
    else:
        widths = dims(b, difference(b, shape_part(b, w, 2, 3), b.ints([1])), [0])
        x = b.op("Pad", s.x, widths, None, b.ints([2]))
    y = b.op("Conv", x, w, s.input(2) if s.has(2) else None, group=w.shape[0])
    state = b.op("Slice", x, shape_part(b, s.x, 2, 3), b.ints([EVERYTHING]), b.ints([2]))
    return [y * b.op("Sigmoid", y) if s["activation"] in SWISH else y, state]


SWISH = ("silu", "swish")

# ---- LinearAttention -----------------------------------------------------------------------------
#
# A state S, a matrix for each head, is read and written by one token after another:
#   S <- exp(decay) S          where the rule is gated
#   v <- beta (v - S' k)       where it is a delta rule
#   S <- S + k v'
#   o = scale S' q


def _linear_attention_types(s: Site) -> Sequence[Type]:
    q, k, v = (s.input(i).shape for i in range(3))
    kind = s.input(3).dtype if s.has(3) else s.x.dtype
    if q is None or k is None or v is None:
        return [(s.x.dtype, None), (kind, None)]
    heads = s["kv_num_heads"]
    high, wide = (part_of(s.b, x[2], heads) for x in (k, v))
    out = s["q_num_heads"] * wide if isinstance(wide, int) else s.b.fresh(1)[0]
    return [(s.x.dtype, (*q[:2], out)), (kind, (q[0], heads, high, wide))]


def _linear_attention(
    n: Numbers,
    q: Array,
    k: Array,
    v: Array,
    past: Array | None = None,
    decay: Array | None = None,
    beta: Array | None = None,
    *,
    chunk_size: int,
    kv_num_heads: int,
    q_num_heads: int,
    scale: float,
    update_rule: str,
) -> tuple[Array, Array]:
    _check_rule(update_rule, decay is not None, beta is not None)
    (batch, length, _), heads = q.shape, kv_num_heads

    def split(x: Array, count: int) -> Array:
        x = n.reshape(x, (batch, length, count, x.shape[2] // count, 1))
        return n.transpose(x, (1, 0, 2, 3, 4))

    q, k, v = split(q, q_num_heads), split(k, heads), split(v, heads)
    q = q * (scale or n.full((), 1.0) / n.sqrt(n.full((), q.shape[3])))
    rates = None if beta is None else split(beta, beta.shape[2])
    fades = None if decay is None else n.exp(split(decay, heads))
    shared = np.repeat(np.arange(heads), q_num_heads // heads)
    state = n.full((batch, heads, k.shape[3], v.shape[3]), 0.0) if past is None else past
    read = []
    for at in range(length):
        key, value, query = (n.take(x, np.array(at), 0) for x in (k, v, q))
        row = n.transpose(value, (0, 1, 3, 2))
        if fades is not None:
            state = state * n.take(fades, np.array(at), 0)
        if rates is not None:
            known = n.matmul(n.transpose(key, (0, 1, 3, 2)), state)
            row = n.take(rates, np.array(at), 0) * (row - known)
        state = state + key * row
        read.append(n.sum(n.take(state, shared, 1) * query, [2], keepdims=False))
    y = n.reshape(n.concat(read, 1), (batch, length, q_num_heads * v.shape[3]))
    return y, state


def _check_rule(rule: str, decays: bool, corrects: bool) -> None:
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        raise UnsupportedError(f"LinearAttention does not know the rule {rule!r}")
    if decays != rule.startswith("gated") or corrects != rule.endswith("delta"):
        raise UnsupportedError(
            f"LinearAttention by the rule {rule!r} with operands of another",
            "A gated rule needs decay, a delta rule beta, and no other has either.",
        )


def _linear_attention_expansion(s: Site) -> Sequence[Var]:
    """One token after another: as many steps as there are tokens, whose number must be known."""
    b, heads = s.b, s["kv_num_heads"]
    _check_rule(s["update_rule"], s.has(4), s.has(5))
    length = None if s.x.shape is None else s.x.shape[1]
    if not isinstance(length, int) or length < 1:
        raise UnsupportedError("LinearAttention over an unknown number of tokens, or over none")
    narrow = s.x.dtype.np.itemsize < 4
    wide = DType.FLOAT32 if narrow else s.x.dtype

    def steps(k: int, *parts: int) -> list[Var]:
        x = b.reshape(b.cast(s.input(k), wide), [0, 0, *parts])
        return list(b.ops("Split", x, outputs=length, axis=1, num_outputs=length))

    # [batch, 1, heads, ...]: query heads of one state are the rows of a matrix.
    queries = steps(0, heads, s["q_num_heads"] // heads, -1)
    columns, rows = steps(1, heads, -1, 1), steps(1, heads, 1, -1)
    values = steps(2, heads, 1, -1)
    fades = [b.op("Exp", x) for x in steps(4, heads, -1, 1)] if s.has(4) else None
    rates = steps(5, -1, 1, 1) if s.has(5) else None
    state = b.unsqueeze(b.cast(s.input(3), wide), [1]) if s.has(3) else None
    read = []
    for at, row in enumerate(values):
        if state is not None and fades is not None:
            state = state * fades[at]
        update = row
        if rates is not None:
            known = None if state is None else b.op("MatMul", rows[at], state)
            update = rates[at] * (row if known is None else row - known)
        written = columns[at] * update
        state = written if state is None else state + written
        read.append(b.op("MatMul", queries[at], state))
    assert state is not None
    factor: Var | float = s["scale"]
    if not factor:
        high = b.count(queries[0], [4])
        factor = 1.0 / root(b, high, read[0].dtype)
    y = b.reshape(b.op("Concat", *read, axis=1) * factor, [0, 0, -1])
    state = b.op("Squeeze", state, b.ints([1]))
    kind = s.input(3).dtype if s.has(3) else s.x.dtype
    return [b.cast(y, s.x.dtype), b.cast(state, kind)]


CARDS: tuple[Card, ...] = (
    composite(
        "CausalConvWithState",
        _causal_conv,
        _causal_conv_expansion,
        inputs=("input", "weight", "bias?", "past_state?"),
        outputs=("output", "present_state"),
        infer=_causal_conv_types,
        attrs={"activation": "none"},
        since=27,
    ),
    composite(
        "LinearAttention",
        _linear_attention,
        _linear_attention_expansion,
        inputs=("query", "key", "value", "past_state?", "decay?", "beta?"),
        outputs=("output", "present_state"),
        infer=_linear_attention_types,
        attrs={
            "chunk_size": 64,
            "kv_num_heads": REQUIRED,
            "q_num_heads": REQUIRED,
            "scale": 0.0,
            "update_rule": "gated_delta",
        },
        since=27,
    ),
)
