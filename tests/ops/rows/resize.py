"""How the operator of gradcli/ops/resize.py is tested."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.ops.table import Case, Row, normal

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
    x = normal(rng, tuple(int(d) for d in rng.integers(1, 3, size=2)) + _sides(rng))
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


ROWS: tuple[Row, ...] = (Row("Resize", draw_resize, dynamic="free"),)
