"""How the operators of gradcli/ops/conv.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.table import Case, Row, normal


def windows(rng: np.random.Generator, rank: int) -> tuple[list[int], dict[str, Any]]:
    """A kernel, and strides, dilations and padding of every kind, sometimes left at defaults."""
    kernel = rng.integers(1, 4, size=rank).tolist()
    attrs: dict[str, Any] = {}
    if rng.random() < 0.7:
        attrs["strides"] = tuple(rng.integers(1, 4, size=rank).tolist())
    if rng.random() < 0.5:
        attrs["dilations"] = tuple(rng.integers(1, 4, size=rank).tolist())
    padding = rng.random()
    if padding < 0.5:
        reach = [
            (k - 1) * d + 1 for k, d in zip(kernel, attrs.get("dilations", [1] * rank), strict=True)
        ]
        attrs["pads"] = tuple(int(rng.integers(0, r)) for _ in range(2) for r in reach)
    elif padding < 0.8:
        attrs["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        if attrs["auto_pad"] != "VALID":
            attrs.pop("dilations", None)  # together, onnxruntime refuses them
    if rng.random() < 0.3:
        attrs["kernel_shape"] = tuple(kernel)
    return kernel, attrs


def long_side(rng: np.random.Generator, kernel: list[int], attrs: dict[str, Any]) -> list[int]:
    """Sizes that hold at least one window, with every remainder behind the last."""
    dilations = attrs.get("dilations", [1] * len(kernel))
    return [
        (k - 1) * d + 1 + int(rng.integers(0, 5)) for k, d in zip(kernel, dilations, strict=True)
    ]


def draw_conv(rng: np.random.Generator) -> Case:
    """One to three spatial axes, groups (depthwise among them), with and without bias."""
    rank = int(rng.choice([1, 2, 2, 3]))
    kernel, attrs = windows(rng, rank)
    group, inner, made = (int(d) for d in rng.integers(1, 4, size=3))
    if group > 1 or rng.random() < 0.3:
        attrs["group"] = group
    x = normal(rng, (int(rng.integers(1, 3)), group * inner, *long_side(rng, kernel, attrs)))
    w = normal(rng, (group * made, inner, *kernel))
    bias = (normal(rng, (group * made,)),) if rng.random() < 0.5 else ()
    return Case((x, w, *bias), attrs)


def draw_conv_transpose(rng: np.random.Generator) -> Case:
    """As draw_conv, with output_padding or output_shape."""
    rank = int(rng.choice([1, 2, 2, 3]))
    kernel, attrs = windows(rng, rank)
    group, inner, made = (int(d) for d in rng.integers(1, 4, size=3))
    if group > 1:
        attrs["group"] = group
    sizes = rng.integers(1, 4, size=rank).tolist()
    strides, dilations = (attrs.get(name, [1] * rank) for name in ("strides", "dilations"))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    whole = [(o - 1) * s + r for o, s, r in zip(sizes, strides, reach, strict=True)]
    if rng.random() < 0.4:
        attrs["output_padding"] = tuple(int(rng.integers(0, s)) for s in strides)
    if rng.random() < 0.25:
        attrs.pop("pads", None)
        # Of a result smaller than the input, ONNX's own shape inference forgets the rank.
        attrs["output_shape"] = tuple(
            int(rng.integers(o, w + s)) for o, w, s in zip(sizes, whole, strides, strict=True)
        )
    elif "pads" in attrs:
        # Something must be left.
        before = [int(rng.integers(0, w)) for w in whole]
        after = [int(rng.integers(0, w - p)) for w, p in zip(whole, before, strict=True)]
        attrs["pads"] = (*before, *after)
    x = normal(rng, (int(rng.integers(1, 3)), group * inner, *sizes))
    w = normal(rng, (group * inner, made, *kernel))
    bias = (normal(rng, (group * made,)),) if rng.random() < 0.5 else ()
    return Case((x, w, *bias), attrs)


ROWS = (
    Row("Conv", draw_conv),
    Row("ConvTranspose", draw_conv_transpose),
)
