"""How the operators of gradcli/ops/resample.py are tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.numbers import real
from gradcli.ops import OPS
from tests.ops.table import Case, Kink, Row, normal

COORDINATES = (
    *("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners"),
    *("asymmetric", "tf_crop_and_resize"),
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def draw_resize(rng: np.random.Generator) -> Case:
    """Every mode and coordinate transformation, by scales or sizes, of two axes or of all."""
    mode = str(rng.choice(["nearest", "linear", "cubic"]))
    coordinates = str(rng.choice(COORDINATES))
    attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    x = normal(rng, tuple(int(d) for d in rng.integers(1, 4, size=2)) + _sides(rng))
    if mode == "nearest":
        attrs["nearest_mode"] = str(rng.choice(NEAREST))
    elif rng.random() < 0.3 and coordinates != "tf_crop_and_resize":
        attrs["antialias"] = 1
    if mode == "cubic":
        attrs["cubic_coeff_a"] = float(rng.choice([-0.75, -0.5]))
        attrs["exclude_outside"] = int(rng.integers(0, 2))
    roi = None
    if coordinates == "tf_crop_and_resize":
        attrs["extrapolation_value"] = 0.5
        roi = np.array([0, 0, -0.2, 0.1, 1, 1, 0.7, 1.3], np.float32)
    scales = sizes = None
    if rng.random() < 0.5:
        factors = rng.choice([0.5, 0.6, 1.0, 1.7, 2.0, 3.0], size=2)
        if roi is not None:
            # onnxruntime copies an axis that keeps its size, whatever the region.
            factors = np.where(factors == 1.0, 2.0, factors)
        scales = np.array([1, 1, *factors], np.float32)
        scales[2:] = np.maximum(scales[2:], 1.0 / np.array(x.shape[2:], np.float32))
    else:
        sizes = np.array([*x.shape[:2], *rng.integers(1, 9, size=2)], np.int64)
        sizes[2:] += 9 * (roi is not None)
    if rng.random() < 0.4:
        attrs["axes"] = (2, 3) if rng.random() < 0.5 else (3, 2)
        at = np.array(attrs["axes"])
        scales = None if scales is None else scales[at]
        sizes = None if sizes is None else sizes[at]
        roi = None if roi is None else roi[np.concatenate([at, at + 4])]
        if roi is not None and not attrs.get("antialias") and mode != "nearest":
            each = [x.shape[a] for a in attrs["axes"]]
            given = np.array(each, np.float32) * scales if scales is not None else sizes
            return Case((x, _region(rng, each, np.array(given, int)), scales, sizes), attrs)
    return Case((x, roi, scales, sizes), attrs)


def _region(rng: np.random.Generator, each: Sequence[int], many: np.ndarray) -> np.ndarray:
    """The ends of a region that reads between the elements, so that it may move."""
    while True:
        ends = rng.uniform([0, 0, 0.6, 0.6], [0.3, 0.3, 0.9, 1.3])
        places = [
            np.linspace(ends[k] * (d - 1), ends[k + 2] * (d - 1), int(n))
            if n > 1
            else np.array([(ends[k] + ends[k + 2]) * (d - 1) / 2])
            for k, (d, n) in enumerate(zip(each, many, strict=True))
        ]
        if all(np.all(np.abs(at - np.round(at)) > 0.02) for at in places):
            return ends


def _sides(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(2, 6)), int(rng.integers(2, 6))


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
    Row("Resize", draw_resize, dynamic="free"),
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
