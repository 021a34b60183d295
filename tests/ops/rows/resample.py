"""How the operators of gradcli/ops/resample.py are tested."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradcli.numbers import real
from gradcli.ops import OPS
from tests.ops.table import Case, Kink, Row, normal


def draw_grid_sample(rng: np.random.Generator) -> Case:
    """Images and volumes, sampled inside and outside, between elements."""
    k = int(rng.choice([2, 2, 3]))
    mode = str(rng.choice(["nearest", "linear", "cubic"] if k == 2 else ["nearest", "linear"]))
    align = int(rng.integers(0, 2))
    attrs = {
        "mode": mode,
        "padding_mode": str(rng.choice(["zeros", "border", "reflection"])),
        "align_corners": align,
    }
    n, c = (int(d) for d in rng.integers(1, 3, size=2))
    sizes = [int(d) for d in rng.integers(2, 5, size=k)]
    places = [int(d) for d in rng.integers(1, 4, size=k)]
    grid = np.empty((n, *places, k))
    for axis, size in enumerate(sizes):
        # Off the elements' centres and off the edges between them.
        at = rng.integers(-4, 2 * size + 4, size=(n, *places)) / 2.0
        at = at + rng.uniform(0.1, 0.4, size=at.shape)
        grid[..., k - 1 - axis] = 2 * at / (size - 1) - 1 if align else (2 * at + 1) / size - 1
    return Case((normal(rng, (n, c, *sizes)), grid), attrs)


def draw_affine_grid(rng: np.random.Generator) -> Case:
    """Grids over planes and volumes."""
    k, n = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    sizes = np.array([n, *rng.integers(2, 5, size=k + 1)], np.int64)
    return Case((normal(rng, (n, k, k + 1)), sizes), {"align_corners": int(rng.integers(0, 2))})


def draw_roi_align(rng: np.random.Generator) -> Case:
    """Averages and maxima over given and adaptive numbers of samples, off every kink."""
    attrs = {
        "mode": str(rng.choice(["avg", "max"])),
        "coordinate_transformation_mode": str(rng.choice(["half_pixel", "output_half_pixel"])),
        "output_height": int(rng.integers(1, 4)),
        "output_width": int(rng.integers(1, 3)),
        "sampling_ratio": int(rng.integers(0, 3)),
        "spatial_scale": float(rng.choice([1.0, 0.5])),
    }
    images, regions = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    at = rng.integers(0, images, size=regions)
    while True:
        x = normal(rng, (images, int(rng.integers(1, 3)), 4, 5))
        start = rng.uniform(-1, 4, size=(regions, 2))
        rois = np.concatenate([start, start + rng.uniform(0.3, 4, size=(regions, 2))], axis=1)
        rois /= attrs["spatial_scale"]
        full = OPS.attributes("RoiAlign", attrs)
        kinks = OPS["RoiAlign"].kinks
        assert kinks is not None
        if np.all(kinks(real, x, rois, at, **full)[0] > 0.011):
            return Case((x, rois, at), attrs)


def draw_max_roi_pool(rng: np.random.Generator) -> Case:
    """Regions of whole elements, some of them outside."""
    images, regions = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    count = images * 2 * 5 * 6
    x = (rng.permutation(count) * 0.1 - count * 0.05).reshape(images, 2, 5, 6)
    start = rng.integers(0, 5, size=(regions, 2))
    rois = np.concatenate([start, start + rng.integers(0, 5, size=(regions, 2))], axis=1)
    at = rng.integers(0, images, size=(regions, 1))
    scale = float(rng.choice([1.0, 0.5]))
    rois = np.concatenate([at, (rois + rng.uniform(-0.3, 0.3, size=rois.shape)) / scale], axis=1)
    pooled = tuple(int(d) for d in rng.choice([1, 2, 4], size=2))
    return Case((x, rois.astype(np.float32)), {"pooled_shape": pooled, "spatial_scale": scale})


TIED_REGION = Kink(
    Case(
        (np.array([[[[3.0, 1.0], [3.0, 2.0]]]]), np.array([[0, 0, 0, 1, 1]], np.float32)),
        {"pooled_shape": (1, 1)},
        fixed=(1,),
    ),
    0,
    np.array([[[[0.5, 0.0], [0.5, 0.0]]]]),
)


def draw_deform_conv(rng: np.random.Generator) -> Case:
    """Groups of channels and of offsets, with and without bias and mask."""
    group, inner, made, og = (int(rng.integers(1, 3)) for _ in range(4))
    kernel = [int(d) for d in rng.integers(1, 3, size=2)]
    attrs: dict[str, Any] = {"group": group, "offset_group": og}
    strides, dilations = ([int(d) for d in rng.integers(1, 3, size=2)] for _ in range(2))
    pads = [int(d) for d in rng.integers(0, 2, size=4)]
    attrs |= {"strides": tuple(strides), "dilations": tuple(dilations), "pads": tuple(pads)}
    attrs["kernel_shape"] = tuple(kernel)
    sizes = [
        (k - 1) * d + 1 + int(rng.integers(1, 4)) for k, d in zip(kernel, dilations, strict=True)
    ]
    outputs = [
        (size + pads[a] + pads[a + 2] - (kernel[a] - 1) * dilations[a] - 1) // strides[a] + 1
        for a, size in enumerate(sizes)
    ]
    n, taps = int(rng.integers(1, 3)), int(np.prod(kernel))
    shape = (n, 2 * og * taps, *outputs)
    offset = rng.integers(-2, 3, size=shape) + rng.uniform(0.1, 0.9, size=shape)
    bias = normal(rng, (group * made,)) if rng.random() < 0.5 else None
    mask = normal(rng, (n, og * taps, *outputs)) if rng.random() < 0.5 else None
    x = normal(rng, (n, group * inner * og, *sizes))
    w = normal(rng, (group * made, inner * og, *kernel))
    return Case((x, w, offset, bias, mask), attrs)


PLANE = np.array([[[[0.0, 1.0, 4.0], [2.0, 8.0, 1.0], [3.0, 0.0, 5.0]]]])


ROWS: tuple[Row, ...] = (
    Row(
        "GridSample",
        draw_grid_sample,
        kinks=(
            # On the middle element: towards the right 8 -> 1, downwards 8 -> 0.
            Kink(
                Case((PLANE, np.zeros((1, 1, 1, 2))), {"align_corners": 1}),
                1,
                np.array([[[[-7.0, -8.0]]]]),
            ),
        ),
        dynamic="free",
    ),
    Row("AffineGrid", draw_affine_grid),
    Row(
        "RoiAlign",
        draw_roi_align,
        kinks=(
            # One sample, on the middle element; the corners of the region move it by halves.
            Kink(
                Case(
                    (PLANE, np.array([[0.5, 0.5, 2.5, 2.5]]), np.array([0])),
                    {"sampling_ratio": 1},
                ),
                1,
                np.array([[-3.5, -4.0, -3.5, -4.0]]),
            ),
        ),
    ),
    Row("MaxRoiPool", draw_max_roi_pool, (TIED_REGION,)),
    Row(
        "DeformConv",
        draw_deform_conv,
        kinks=(
            Kink(
                Case((PLANE, np.ones((1, 1, 1, 1)), np.zeros((1, 2, 3, 3)))),
                2,
                np.array(
                    [
                        [
                            [[2, 7, -3], [1, -8, 4], [-3, 0, -5]],
                            [[1, 3, -4], [6, -7, -1], [-3, 5, -5]],
                        ]
                    ],
                    float,
                ),
            ),
        ),
    ),
)
