"""How the operators of gradcli/ops/attention.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.table import Case, Row, normal


def draw_attention(rng: np.random.Generator) -> Case:
    """Three or four axes, shared heads, each kind of mask, caches, windows, and every result."""
    batch, queries, keys, size, wide = (int(d) for d in rng.integers(1, 4, 5))
    heads, shared = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    attrs: dict[str, Any] = {"qk_matmul_output_mode": int(rng.choice([0, 1, 3]))}
    if rng.random() < 0.5:
        attrs["scale"] = float(rng.choice([0.25, 2.0]))
    if rng.random() < 0.3:
        attrs["softcap"] = 1.5
    if rng.random() < 0.4:
        attrs["is_causal"] = 1
    if rng.random() < 0.3:
        attrs["left_window_size"] = int(rng.integers(0, 3))
        attrs["right_window_size"] = int(rng.integers(-1, 2))
    q, k, v = (
        normal(rng, (batch, count, length, width))
        for count, length, width in (
            (heads * shared, queries, size),
            (heads, keys, size),
            (heads, keys, wide),
        )
    )
    past: list[np.ndarray | None] = [None, None]
    lengths = None
    if (chance := rng.random()) < 0.3:
        before = int(rng.integers(1, 3))
        past = [normal(rng, (batch, heads, before, width)) for width in (size, wide)]
        keys += before
    elif chance < 0.6:
        lengths = rng.integers(1, keys + 1, batch)
    if rng.random() < 0.5:
        attrs |= {"q_num_heads": heads * shared, "kv_num_heads": heads}
        q, k, v = (x.transpose(0, 2, 1, 3).reshape(batch, x.shape[2], -1) for x in (q, k, v))
    dims = [(queries, keys), (1, queries, keys), (batch, heads * shared, queries, keys), (keys,)]
    mask: np.ndarray | None = None
    fixed: tuple[int, ...] = ()
    if (chance := rng.random()) < 0.3:
        mask = normal(rng, dims[rng.integers(4)])
    elif chance < 0.6:
        mask = rng.random(dims[rng.integers(4)]) < 0.6
    elif chance < 0.8:
        mask, fixed = np.where(rng.random(dims[rng.integers(4)]) < 0.5, 0.0, -np.inf), (3,)
    outputs = 1 if lengths is not None else int(rng.choice([1, 3, 4]))
    return Case((q, k, v, mask, *past, lengths), attrs, outputs, fixed)


def draw_rotary(rng: np.random.Generator) -> Case:
    """Both layouts, halves or pairs, all of a head or its beginning, positions given or not."""
    batch, heads, length = (int(d) for d in rng.integers(1, 4, 3))
    size = int(rng.choice([4, 6]))
    width = int(rng.choice([0, 2, 4, size]))
    attrs = {"interleaved": int(rng.integers(2)), "rotary_embedding_dim": width}
    half = (width or size) // 2
    x = normal(rng, (batch, heads, length, size))
    if rng.random() < 0.5:
        attrs["num_heads"] = heads
        x = normal(rng, (batch, length, heads * size))
    if rng.random() < 0.5:
        ids = rng.integers(0, 5, (batch, length))
        return Case((x, normal(rng, (5, half)), normal(rng, (5, half)), ids), attrs)
    return Case((x, *(normal(rng, (batch, length, half)) for _ in range(2))), attrs)


def draw_tensor_scatter(rng: np.random.Generator) -> Case:
    """Any axis but the first, from the beginning, from each sample's own place, or around."""
    rank = int(rng.integers(2, 5))
    dims = [int(d) for d in rng.integers(1, 4, rank)]
    axis = int(rng.integers(1, rank))
    longest = dims[axis] + int(rng.integers(0, 3))
    update = normal(rng, tuple(dims))
    cache = normal(rng, (*dims[:axis], longest, *dims[axis + 1 :]))
    attrs = {"axis": int(rng.choice([axis, axis - rank]))}
    if (chance := rng.random()) < 0.3:
        return Case((cache, update), attrs)
    if chance < 0.6:
        return Case((cache, update, rng.integers(0, longest - dims[axis] + 1, dims[0])), attrs)
    return Case((cache, update, rng.integers(0, longest, dims[0])), attrs | {"mode": "circular"})


ROWS: tuple[Row, ...] = (
    # onnxruntime rounds the scale to float32, whatever the operands are.
    Row("Attention", draw_attention, dynamic="free", tolerance=1e-6),
    Row("RotaryEmbedding", draw_rotary, dynamic="free"),
    Row("TensorScatter", draw_tensor_scatter, dynamic="free"),
)
