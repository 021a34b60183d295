"""How the operators of gradcli/ops/linear_attention.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.table import Case, Row, normal


def draw_causal_conv(rng: np.random.Generator) -> Case:
    """Short and long kernels, bias, state and activation there or not, both results."""
    batch, channels, length = (int(d) for d in rng.integers(1, 4, 3))
    taps = int(rng.integers(1, 5))
    bias = normal(rng, (channels,)) if rng.random() < 0.5 else None
    past = normal(rng, (batch, channels, taps - 1)) if rng.random() < 0.5 and taps > 1 else None
    attrs = {"activation": str(rng.choice(["none", "silu", "swish"]))}
    x, w = normal(rng, (batch, channels, length)), normal(rng, (channels, 1, taps))
    return Case((x, w, bias, past), attrs, outputs=2)


def draw_linear_attention(rng: np.random.Generator) -> Case:
    """Every rule, shared states, a decay for each head or each of its rows, a state before."""
    batch, length, heads, shared, high, wide = (int(d) for d in rng.integers(1, 4, 6))
    rule = str(rng.choice(["linear", "gated", "delta", "gated_delta"]))
    attrs: dict[str, Any] = {"kv_num_heads": heads, "q_num_heads": heads * shared}
    if rule != "gated_delta" or rng.random() < 0.5:
        attrs["update_rule"] = rule
    if rng.random() < 0.5:
        attrs["scale"] = 0.5
    q = normal(rng, (batch, length, heads * shared * high))
    k, v = (normal(rng, (batch, length, heads * d)) for d in (high, wide))
    past = normal(rng, (batch, heads, high, wide)) if rng.random() < 0.5 else None
    decay = beta = None
    if rule.startswith("gated"):
        decay = -np.abs(normal(rng, (batch, length, heads * int(rng.choice([1, high])))))
    if rule.endswith("delta"):
        beta = rng.uniform(0.2, 0.9, (batch, length, int(rng.choice([1, heads]))))
    return Case((q, k, v, past, decay, beta), attrs, outputs=2)


ROWS: tuple[Row, ...] = (
    Row("CausalConvWithState", draw_causal_conv),
    Row("LinearAttention", draw_linear_attention, tolerance=1e-6),
)
