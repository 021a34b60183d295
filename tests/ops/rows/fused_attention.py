"""How the operators of gradcli/ops/fused_attention.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.contrib import MS
from tests.ops.table import Case, Row, normal

Maybe = np.ndarray | None


def _sizes(rng: np.random.Generator) -> list[int]:
    """Samples, heads, tokens, tokens before, the width of a head."""
    return [int(d) for d in (*rng.integers(1, 4, 3), rng.integers(0, 3), rng.integers(1, 4))]


def _attrs(rng: np.random.Generator, heads: int) -> dict[str, Any]:
    # The default, -10000, would round away what differences are made of.
    attrs: dict[str, Any] = {"num_heads": heads, "mask_filter_value": -64.0}
    if rng.random() < 0.4:
        attrs["unidirectional"] = 1
    if rng.random() < 0.4:
        attrs["scale"] = 0.5
    return attrs


def _mask(rng: np.random.Generator, batch: int, queries: int, keys: int, forms: int = 5) -> Maybe:
    """Of every form, some key always open."""
    form = int(rng.integers(forms))
    if form == 0:
        return None
    if form in (1, 2):
        mask = rng.integers(0, 2, (batch, queries, keys) if form == 2 else (batch, keys))
        mask[..., 0] = 1
        return mask.astype(np.int32)
    ends = rng.integers(1, keys + 1, batch)
    starts = np.zeros(batch) if form == 3 else rng.integers(0, ends)
    return np.concatenate([ends, starts][: form - 2]).astype(np.int32)


def _bias(rng: np.random.Generator, dims: tuple[int, int], queries: int, keys: int) -> Maybe:
    if rng.random() < 0.6:
        return None
    return normal(rng, (*(d if rng.random() < 0.5 else 1 for d in dims), queries, keys))


def draw_attention(rng: np.random.Generator) -> Case:
    """Every form of a mask, values of a width of their own, what was before, a bias."""
    batch, heads, length, before, size = _sizes(rng)
    wide = size if before else int(rng.integers(1, 4))
    attrs = _attrs(rng, heads)
    if wide != size:
        attrs["qkv_hidden_sizes"] = (heads * size, heads * size, heads * wide)
    hidden, into = 3, heads * (2 * size + wide)
    past = normal(rng, (2, batch, heads, before, size)) if before else None
    inputs: list[Maybe] = [
        normal(rng, (batch, length, hidden)),
        normal(rng, (hidden, into)),
        normal(rng, (into,)),
        _mask(rng, batch, length, before + length),
        past,
        None if before else _bias(rng, (batch, heads), length, length),
    ]
    return Case(tuple(inputs), attrs, outputs=2 if before else 1)


def draw_quantised(rng: np.random.Generator) -> Case:
    """Scales of the whole or of each column, zero points or none."""
    batch, heads, length, before, size = _sizes(rng)
    hidden, into = 3, 3 * heads * size
    columns = (into,) if rng.random() < 0.5 else ()
    zeros: tuple[Maybe, Maybe] = (None, None)
    if rng.random() < 0.6:
        zeros = np.array(2, np.uint8), rng.integers(-1, 2, columns).astype(np.int8)
    inputs: list[Maybe] = [
        rng.integers(0, 4, (batch, length, hidden)).astype(np.uint8),
        rng.integers(-2, 3, (hidden, into)).astype(np.int8),
        normal(rng, (into,)),
        np.array(0.25),
        rng.uniform(0.25, 1.0, columns),
        _mask(rng, batch, length, before + length),
        *zeros,
        normal(rng, (2, batch, heads, before, size)) if before else None,
    ]
    return Case(tuple(inputs), _attrs(rng, heads), outputs=2 if before else 1)


def draw_multi_head(rng: np.random.Generator) -> Case:
    """Keys of another length, or split by heads already, a bias for each, what was before."""
    batch, heads, length, before, size = _sizes(rng)
    keys, wide = int(rng.integers(1, 4)), size if before else int(rng.integers(1, 4))
    attrs = _attrs(rng, heads)
    if attrs.get("unidirectional"):
        keys = length
    q = normal(rng, (batch, length, heads * size))
    k, v = (normal(rng, (batch, keys, heads * d)) for d in (size, wide))
    b = normal(rng, (heads * (2 * size + wide),)) if rng.random() < 0.5 else None
    past: tuple[Maybe, Maybe] = (None, None)
    if before:
        past = normal(rng, (batch, heads, before, size)), normal(rng, (batch, heads, before, wide))
    elif rng.random() < 0.3:
        k, v = (normal(rng, (batch, heads, keys, d)) for d in (size, wide))
        b = None
    every = before + keys
    mask, bias = _mask(rng, batch, length, every, 4), _bias(rng, (batch, heads), length, every)
    return Case((q, k, v, b, mask, bias, *past), attrs, outputs=3 if before else 1)


ROWS = (
    Row(MS + "Attention", draw_attention),
    Row(MS + "QAttention", draw_quantised),
    Row(MS + "MultiHeadAttention", draw_multi_head),
)
