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


def draw_lp_pool(rng: np.random.Generator) -> Case:
    """Orders from 1 to 4."""
    kernel, attrs = pool_attrs(rng)
    if rng.random() < 0.7:
        attrs["p"] = int(rng.integers(1, 5))
    dims = (*(int(d) for d in rng.integers(1, 4, size=2)), *long_side(rng, kernel, attrs))
    return Case((normal(rng, dims, 0.2),), attrs)


def draw_global_norm(rng: np.random.Generator) -> Case:
    """Orders from 1 to 4, up to three spatial axes."""
    dims = tuple(int(d) for d in rng.integers(1, 4, size=int(rng.integers(3, 6))))
    return Case((normal(rng, dims, 0.2),), {"p": int(rng.integers(1, 5))})


def draw_max_unpool(rng: np.random.Generator) -> Case:
    """To the size of the windows or one that is asked for; a place may be written twice."""
    rank = int(rng.integers(1, 4))
    kernel, strides = (rng.integers(1, 4, size=rank) for _ in range(2))
    dims = rng.integers(1, 4, size=rank + 2)
    attrs: dict[str, Any] = {
        "kernel_shape": tuple(kernel.tolist()),
        "strides": tuple(strides.tolist()),
    }
    wide = (*dims[:2], *((dims[2:] - 1) * strides + kernel))
    asked = np.array([*wide[:2], *(d + rng.integers(0, 3) for d in wide[2:])], np.int64)
    larger = bool(rng.integers(0, 2))
    count = int(np.prod(asked if larger else wide))
    indices = rng.choice(
        count, size=dims, replace=bool(np.prod(dims) > count or rng.random() < 0.5)
    )
    x = normal(rng, tuple(int(d) for d in dims))
    return Case((x, indices.astype(np.int64), *((asked,) if larger else ())), attrs)


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
    Row(
        "LpPool",
        draw_lp_pool,
        kinks=(
            Kink(
                Case((np.array([[[0.0, -2.0, 3.0]]]),), {"kernel_shape": (2,), "p": 1}),
                0,
                np.array([[[0.0, -2.0, 1.0]]]),
            ),
            *(
                Kink(
                    Case((np.zeros((1, 1, 3)),), {"kernel_shape": (2,), "p": p}),
                    0,
                    np.zeros((1, 1, 3)),
                )
                for p in range(1, 5)
            ),
        ),
    ),
    Row(
        "GlobalLpPool",
        draw_global_norm,
        kinks=(
            Kink(Case((np.array([[[0.0, -2.0]]]),), {"p": 1}), 0, np.array([[[0.0, -1.0]]])),
            Kink(Case((np.zeros((1, 1, 3)),)), 0, np.zeros((1, 1, 3))),
        ),
        dynamic="all",
    ),
    Row("MaxUnpool", draw_max_unpool),
)
