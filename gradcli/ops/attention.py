"""Attention, and what it comes with: rotary embeddings, and a cache of keys and values."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, DType, Shape, Type, Var
from gradcli.numbers import Array, Mask, Numbers
from gradcli.ops.axes import EVERYTHING, INDEX, dims, shape_part
from gradcli.ops.card import Card, Site
from gradcli.ops.irrational import root
from gradcli.ops.kinds import axis_of, composite, same
from gradcli.ops.linalg import swap

# ---- Attention: the types ------------------------------------------------------------------------


def part_of(b: Builder, dim: Dim, count: int | None) -> Dim:
    """A dimension divided into `count` parts."""
    if not count:
        raise UnsupportedError("attention over three dimensions needs its numbers of heads")
    return dim // count if isinstance(dim, int) else b.fresh(1)[0]


def _headed(b: Builder, shape: Shape, heads: int | None) -> Shape:
    """[batch, length, heads * size] or [batch, heads, length, size] as the latter."""
    if len(shape) == 4:
        return shape
    batch, length, hidden = shape
    return batch, heads or 0, length, part_of(b, hidden, heads)


def _sum(b: Builder, one: Dim, other: Dim) -> Dim:
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return b.fresh(1)[0]


def _attention_types(s: Site) -> Sequence[Type]:
    q, k, v = (s.input(i).shape for i in range(3))
    kinds = s.x.dtype, s.x1.dtype, s.input(2).dtype, s.x.dtype
    if q is None or k is None or v is None:
        return [(kind, None) for kind in kinds]
    if not len(q) == len(k) == len(v) in (3, 4):
        raise ValueError(f"attention over operands of shapes {q}, {k} and {v}")
    flat = len(q) == 3
    q = _headed(s.b, q, s["q_num_heads"])
    k, v = (_headed(s.b, x, s["kv_num_heads"]) for x in (k, v))
    total = k[2]
    if s.has(4):
        past = s.input(4).shape
        total = s.b.fresh(1)[0] if past is None else _sum(s.b, past[2], total)
    heads, wide = q[1], v[3]
    y: Shape = (q[0], heads, q[2], wide)
    if flat:
        known = isinstance(heads, int) and isinstance(wide, int)
        y = (q[0], q[2], heads * wide if known else s.b.fresh(1)[0])  # type: ignore[operator] # ints
    shapes = y, (*k[:2], total, k[3]), (*v[:2], total, v[3]), (*q[:3], total)
    return list(zip(kinds, shapes, strict=True))


# ---- Attention: the primal -----------------------------------------------------------------------


def _attention(
    n: Numbers,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    nonpad: np.ndarray | None = None,
    *,
    is_causal: int,
    kv_num_heads: int | None,
    left_window_size: int,
    q_num_heads: int | None,
    qk_matmul_output_mode: int,
    right_window_size: int,
    scale: float | None,
    softcap: float,
    softmax_precision: int | None,
) -> tuple[Array, ...]:
    flat = q.ndim == 3
    q = _with_heads(n, q, q_num_heads)
    k, v = (_with_heads(n, x, kv_num_heads) for x in (k, v))
    offset: int | np.ndarray = 0
    if past_key is not None:
        k, v = n.concat([past_key, k], 2), n.concat([past_value, v], 2)
        offset = past_key.shape[2]
    elif nonpad is not None:
        offset = nonpad.reshape(-1, 1, 1, 1) - q.shape[2]
    present = k, v
    if q.shape[1] != k.shape[1]:
        shared = np.repeat(np.arange(k.shape[1]), q.shape[1] // k.shape[1])
        k, v = n.take(k, shared, 1), n.take(v, shared, 1)
    factor = n.full((), 1.0) / n.sqrt(n.full((), q.shape[3])) if scale is None else scale
    seen = [n.matmul(q * factor, n.transpose(k, (0, 1, 3, 2)))]
    seen.append(n.tanh(seen[0] / softcap) * softcap if softcap else seen[0])
    ahead = np.arange(k.shape[2]) - (np.arange(q.shape[2]).reshape(-1, 1) + offset)
    allowed: Mask = _within(ahead, is_causal, left_window_size, right_window_size)
    if nonpad is not None:
        allowed = n.logical_and(allowed, np.arange(k.shape[2]) < nonpad.reshape(-1, 1, 1, 1))
    x = seen[1]
    if mask is not None:
        mask = n.lift(mask.astype(np.float64)) if _is_integer(n, mask) else mask
        short = k.shape[2] - mask.shape[-1]
        allowed = n.logical_and(allowed, _lengthened(n, _permits(n, mask), short))
        x = x if n.is_mask(mask) else x + _lengthened(n, mask, short)
    x = n.where(allowed, x, n.full((), -math.inf))
    # Of a row in which nothing is allowed all exponentials are 0, and so are its probabilities.
    count = n.sum(n.mask_to_number(allowed), [allowed.ndim - 1], keepdims=True)
    empty = n.equal(count, n.zero)
    e = n.exp(x - n.anchor(x, 3))
    p = e / n.where(empty, n.full((), 1.0), n.sum(e, [3], keepdims=True))
    y = n.matmul(p, v)
    if flat:
        y = n.transpose(y, (0, 2, 1, 3))
        y = n.reshape(y, (*y.shape[:2], y.shape[2] * y.shape[3]))
    return y, *present, (*seen, x, p)[qk_matmul_output_mode]


def _with_heads(n: Numbers, x: Array, heads: int | None) -> Array:
    if x.ndim == 4:
        return x
    assert heads
    batch, length, hidden = x.shape
    return n.transpose(n.reshape(x, (batch, length, heads, hidden // heads)), (0, 2, 1, 3))


def _within(ahead: Any, is_causal: int, left: int, right: int) -> Any:
    """Whether a query may look at the key that stands so many places ahead of its own."""
    allowed = ahead <= 0 if is_causal else np.ones(ahead.shape, np.bool_)
    if left >= 0:
        allowed = allowed & (-ahead <= left)
    return allowed & (ahead <= right) if right >= 0 else allowed


def _permits(n: Numbers, mask: Array) -> Mask:
    """Where a mask lets a key be seen; one of numbers forbids by -inf."""
    if n.is_mask(mask):
        return mask
    return n.logical_not(n.logical_and(n.is_infinite(mask), n.less(mask, n.zero)))


def _is_integer(n: Numbers, x: Array) -> bool:
    return not n.is_number(x) and not n.is_mask(x)


def _lengthened(n: Numbers, mask: Array, short: int) -> Array:
    """A mask that ends before the keys do, continued: false where it is one of truth values."""
    if short <= 0:
        return mask
    shape = (*mask.shape[:-1], short)
    more = np.zeros(shape, np.bool_) if n.is_mask(mask) else n.full(shape, 0.0)
    return n.concat([mask, more], mask.ndim - 1)


# ---- Attention: the expansion --------------------------------------------------------------------


def _split_heads(b: Builder, x: Var, heads: int | None) -> Var:
    if x.rank == 4:
        return x
    assert heads
    return b.transpose(b.reshape(x, [0, 0, heads, -1]), (0, 2, 1, 3))


def positions(b: Builder, count: Var) -> Var:
    """0, 1, 2, ... as far as a count, int64[1], goes."""
    if count.const is not None:
        return b.ints(range(int(count.const[0])))
    return b.op("Range", b.constant(np.int64(0)), b.reshape(count, []), b.constant(np.int64(1)))


def difference(b: Builder, one: Var, other: Var) -> Var:
    """The difference of sizes: a constant where they are, so that rules know it as well."""
    if one.const is None or other.const is None:
        return one - other
    return b.ints((one.const - other.const).tolist())


def _attention_expansion(s: Site) -> Sequence[Var]:
    b, kind = s.b, s.x.dtype
    q = _split_heads(b, s.x, s["q_num_heads"])
    k, v = (_split_heads(b, x, s["kv_num_heads"]) for x in (s.x1, s.input(2)))
    if s.has(4):
        k, v = b.op("Concat", s.input(4), k, axis=2), b.op("Concat", s.input(5), v, axis=2)
    factor = s["scale"]
    if factor is None:
        width = b.count(q, [3])
        factor = 1.0 / root(b, width, kind)
    seen = [_grouped_product(b, q * factor, swap(b, k))]
    softcap = s["softcap"]
    seen.append(b.op("Tanh", seen[0] / softcap) * softcap if softcap else seen[0])
    limits = _limits(s, q, k)
    x = seen[1] if limits.bias is None else seen[1] + limits.bias
    seen.append(x if limits.allowed is None else b.where(limits.allowed, x, -math.inf))
    seen.append(_probabilities(b, x, seen[2], limits))
    y = b.cast(_grouped_product(b, b.cast(seen[3], v.dtype), v), kind)
    if s.x.rank == 3:
        y = b.reshape(b.transpose(y, (0, 2, 1, 3)), [0, 0, -1])
    return [y, k, v, seen[s["qk_matmul_output_mode"]]]


def _probabilities(b: Builder, x: Var, limited: Var, limits: _Limits) -> Var:
    if limits.allowed is None or not limits.empty:
        return b.op("Softmax", limited, axis=-1)
    # Where nothing is allowed the row is made one of zeros, lest its softmax be 0 / 0.
    some = b.op("ReduceMax", b.cast(limits.allowed, x.dtype), b.ints([-1]), keepdims=1)
    fill = b.where(some > 0.5, -math.inf, 0.0, like=x)
    return b.op("Softmax", b.where(limits.allowed, x, fill), axis=-1) * some


def _grouped_product(b: Builder, one: Var, other: Var) -> Var:
    """[B, H, M, K] times [B, G, K, N], with H / G heads of one to each of the other."""
    assert one.shape is not None
    assert other.shape is not None
    if one.shape[1] == other.shape[1]:
        return b.op("MatMul", one, other)
    grouped = dims(b, [0], shape_part(b, other, 1, 2), [-1], shape_part(b, one, 2, 4))
    y = b.op("MatMul", b.op("Reshape", one, grouped), b.unsqueeze(other, [2]))
    heads, columns = shape_part(b, one, 1, 3), shape_part(b, other, 3, 4)
    return b.op("Reshape", y, dims(b, [0], heads, columns))


@dataclass(frozen=True)
class _Limits:
    """What keeps a query from looking at every key.

    Attributes:
        allowed: Truth values, broadcast to the scores: which keys may be looked at; None for all.
        bias: Numbers that are added to the scores.
        empty: Whether a query may be left without any key.
    """

    allowed: Var | None
    bias: Var | None
    empty: bool


def _limits(s: Site, q: Var, k: Var) -> _Limits:
    b = s.b
    queries, keys = shape_part(b, q, 2, 3), shape_part(b, k, 2, 3)
    causal, left, right = (s[a] for a in ("is_causal", "left_window_size", "right_window_size"))
    found: list[Var] = []
    at = positions(b, keys)
    filled = b.reshape(s.input(6), [-1, 1, 1, 1]) if s.has(6) else None
    if causal or max(left, right) >= 0:
        own = b.unsqueeze(positions(b, queries), [1])
        if s.has(4):
            own = own + shape_part(b, s.input(4), 2, 3)
        elif filled is not None:
            own = own + (filled - queries)
        ahead = at - own
        found += [ahead < 1] if causal else []
        found += [ahead > -left - 1] if left >= 0 else []
        found += [ahead < right + 1] if right >= 0 else []
    empty = filled is not None or max(left, right) >= 0
    if filled is not None:
        found.append(b.op("Less", at, filled))
    bias = None
    if s.has(3):
        mask, permits = _mask(b, s.input(3), s.x.dtype, k)
        bias = None if mask.dtype is DType.BOOL else mask
        found += [] if permits is None else [permits]
        empty = empty or permits is not None
    allowed = functools.reduce(lambda one, other: b.op("And", one, other), found) if found else None
    return _Limits(allowed, bias, empty)


def _mask(b: Builder, mask: Var, kind: DType, k: Var) -> tuple[Var, Var | None]:
    """A mask that reaches as far as the keys, and where it permits (None: everywhere)."""
    mask = mask if mask.dtype is DType.BOOL else b.cast(mask, kind)
    assert mask.shape is not None
    assert k.shape is not None
    if mask.shape[-1] != k.shape[2]:
        end = mask.rank - 1
        short = difference(b, shape_part(b, k, 2, 3), shape_part(b, mask, end, end + 1))
        fill = b.constant(mask.dtype is not DType.BOOL and -math.inf, mask.dtype)
        mask = b.op("Pad", mask, dims(b, [0], short), fill, b.ints([end]))
    if mask.dtype is DType.BOOL:
        return mask, mask
    if mask.const is not None and np.isfinite(mask.const).all():
        return mask, None
    return mask, b.op("Not", b.op("IsInf", mask, detect_positive=0))


# ---- RotaryEmbedding -----------------------------------------------------------------------------


def _rotary(
    n: Numbers,
    x: Array,
    cos: Array,
    sin: Array,
    position_ids: np.ndarray | None = None,
    *,
    interleaved: int,
    num_heads: int | None,
    rotary_embedding_dim: int,
) -> Array:
    shape = x.shape
    if position_ids is not None:
        cos, sin = n.take(cos, position_ids, 0), n.take(sin, position_ids, 0)
    heads = 1 if x.ndim == 4 else 2
    if x.ndim == 3:
        assert num_heads
        x = n.reshape(x, (*shape[:2], num_heads, shape[2] // num_heads))
    cos, sin = (n.reshape(v, (*v.shape[:heads], 1, *v.shape[heads:])) for v in (cos, sin))
    width = rotary_embedding_dim or x.shape[3]
    half = np.arange(width // 2)
    at = (2 * half, 2 * half + 1) if interleaved else (half, half + width // 2)
    one, other = (n.take(x, places, 3) for places in at)
    rest = n.take(x, np.arange(width, x.shape[3]), 3)
    turned = n.concat([one * cos - other * sin, one * sin + other * cos], 3)
    y = n.concat([n.take(turned, np.argsort(np.concatenate(at)), 3), rest], 3)
    return n.reshape(y, shape)


def _rotary_expansion(s: Site) -> Sequence[Var]:
    b, x, width = s.b, s.x, s["rotary_embedding_dim"]
    caches = [s.input(1), s.input(2)]
    if s.has(3):
        caches = [b.op("Gather", v, s.input(3), axis=0) for v in caches]
    heads = 1 if x.rank == 4 else 2
    cos, sin = (b.unsqueeze(v, [heads]) for v in caches)
    if x.rank == 3:
        if not s["num_heads"]:
            raise UnsupportedError("RotaryEmbedding over three dimensions needs its num_heads")
        x = b.reshape(x, [0, 0, s["num_heads"], -1])
    assert x.shape is not None
    whole = width in (0, x.shape[3])
    turning = x if whole else _last(b, x, 0, width)
    if s["interleaved"]:
        one, other = (_last(b, turning, k, EVERYTHING, 2) for k in (0, 1))
    else:
        one, other = b.ops("Split", turning, outputs=2, axis=3, num_outputs=2)
    turned = [one * cos - other * sin, one * sin + other * cos]
    if s["interleaved"]:
        pairs = b.op("Concat", *(b.unsqueeze(v, [4]) for v in turned), axis=4)
        turned = [b.reshape(pairs, [0, 0, 0, -1])]
    parts = turned if whole else [*turned, _last(b, x, width, EVERYTHING)]
    y = parts[0] if len(parts) == 1 else b.op("Concat", *parts, axis=3)
    return [b.reshape_like(y, s.x)]


def _last(b: Builder, x: Var, start: int, stop: int, step: int = 1) -> Var:
    """A slice of x's last axis."""
    return b.op("Slice", x, *map(b.ints, ([start], [stop], [x.rank - 1], [step])))


# ---- TensorScatter -------------------------------------------------------------------------------


def _tensor_scatter(
    n: Numbers,
    cache: Array,
    update: Array,
    write_indices: np.ndarray | None = None,
    *,
    axis: int,
    mode: str,
) -> Array:
    axis = axis_of(axis, cache.ndim)
    places = list(np.indices(update.shape, sparse=True))
    if write_indices is not None:
        places[axis] = places[axis] + write_indices.reshape(-1, *[1] * (cache.ndim - 1))
    if mode == "circular":
        places[axis] = places[axis] % cache.shape[axis]
    return n.scatter(cache, tuple(np.broadcast_arrays(*places)), update, "none")


def _tensor_scatter_expansion(s: Site) -> Sequence[Var]:
    b, axis = s.b, axis_of(s["axis"], s.x.rank)
    rest = s.x.rank - axis - 1
    at = b.reshape(positions(b, shape_part(b, s.x1, axis, axis + 1)), [-1, *[1] * rest])
    if s.has(2):
        at = at + b.reshape(s.input(2), [-1, *[1] * (s.x.rank - 1)])
    if s["mode"] == "circular":
        at = b.op("Mod", at, shape_part(b, s.x, axis, axis + 1))
    return [b.op("ScatterElements", s.x, b.expand_like(at, s.x1), s.x1, axis=axis)]


CARDS: tuple[Card, ...] = (
    composite(
        "Attention",
        _attention,
        _attention_expansion,
        inputs=("Q", "K", "V", "attn_mask?", "past_key?", "past_value?", "nonpad_kv_seqlen?"),
        outputs=("Y", "present_key", "present_value", "qk_matmul_output"),
        infer=_attention_types,
        attrs={
            "is_causal": 0,
            "kv_num_heads": None,
            "left_window_size": -1,
            "q_num_heads": None,
            "qk_matmul_output_mode": 0,
            "right_window_size": -1,
            "scale": None,
            "softcap": 0.0,
            "softmax_precision": None,
        },
        flat={"nonpad_kv_seqlen": "lengths are whole numbers"},
        since=25,
    ),
    composite(
        "RotaryEmbedding",
        _rotary,
        _rotary_expansion,
        inputs=("X", "cos_cache", "sin_cache", "position_ids?"),
        infer=same,
        attrs={"interleaved": 0, "num_heads": None, "rotary_embedding_dim": 0},
        flat={"position_ids": INDEX},
        since=23,
    ),
    composite(
        "TensorScatter",
        _tensor_scatter,
        _tensor_scatter_expansion,
        inputs=("past_cache", "update", "write_indices?"),
        outputs=("present_cache",),
        infer=same,
        attrs={"axis": -2, "mode": "linear"},
        flat={"write_indices": INDEX},
        rounds=False,
        since=24,
    ),
)
