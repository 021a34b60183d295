"""How the operators of gradcli/ops/pool.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.ops.rows.conv import long_side, windows
from tests.ops.table import Case, Kink, Row, normal


def distinct(rng: np.random.Generator, dims: tuple[int, ...]) -> np.ndarray:
    """Numbers of which no two are nearer than 0.1 to each other."""
    count = int(np.prod(dims))
    return (rng.permutation(count) * 0.1 - count * 0.05).reshape(dims)


def pool_attrs(rng: np.random.Generator) -> tuple[list[int], dict[str, Any]]:
    """A kernel and attributes that pools share with convolutions, and ceil_mode."""
    kernel, attrs = windows(rng, int(rng.choice([1, 2, 2, 3])))
    attrs["kernel_shape"] = tuple(kernel)
    if rng.random() < 0.4:
        attrs["ceil_mode"] = 1
    if "pads" in attrs:
        # Against the reach of a window ONNX says nothing; against its elements, onnxruntime does.
        attrs["pads"] = tuple(min(p, k - 1) for p, k in zip(attrs["pads"], kernel * 2, strict=True))
    strides, dilations = (attrs.get(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if any(r < s for r, s in zip(reach, strides, strict=True)):
        # Padding to the SAME size is negative then, which one of onnxruntime's kernels refuses.
        attrs.pop("auto_pad", None)
    return kernel, attrs


def draw_max_pool(rng: np.random.Generator) -> Case:
    """With and without Indices, in either storage order."""
    kernel, attrs = pool_attrs(rng)
    if rng.random() < 0.2:
        attrs["storage_order"] = 1
    dims = (*(int(d) for d in rng.integers(1, 3, size=2)), *long_side(rng, kernel, attrs))
    return Case((distinct(rng, dims),), attrs, outputs=int(rng.integers(1, 3)))


def draw_average_pool(rng: np.random.Generator) -> Case:
    """Padding counted or not."""
    kernel, attrs = pool_attrs(rng)
    if rng.random() < 0.5:
        attrs["count_include_pad"] = 1
    dims = (*(int(d) for d in rng.integers(1, 4, size=2)), *long_side(rng, kernel, attrs))
    return Case((normal(rng, dims),), attrs)


def draw_plane(rng: np.random.Generator) -> Case:
    """[N, C] and one to three spatial axes, all elements apart."""
    dims = tuple(int(d) for d in rng.integers(1, 5, size=int(rng.integers(3, 6))))
    return Case((distinct(rng, dims),))


FLAT = np.array([[[1.0, 3.0, 3.0, 0.0]]])

ROWS = (
    Row(
        "MaxPool",
        draw_max_pool,
        kinks=(
            Kink(
                Case((FLAT,), {"kernel_shape": (4,)}),
                0,
                np.array([[[0.0, 1.0, 0.0, 0.0]]]),
            ),
            Kink(
                Case((np.zeros((1, 1, 2, 2)),), {"kernel_shape": (2, 2), "pads": (1, 1, 0, 0)}),
                0,
                np.array([[[[4.0, 0.0], [0.0, 0.0]]]]),
            ),
        ),
    ),
    Row("AveragePool", draw_average_pool),
    Row("GlobalAveragePool", draw_plane, dynamic="all"),
    Row(
        "GlobalMaxPool",
        draw_plane,
        kinks=(Kink(Case((FLAT,)), 0, np.array([[[0.0, 0.5, 0.5, 0.0]]])),),
        dynamic="all",
    ),
)
