"""Images sampled at places that are computed: by grids, in regions, and at offsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import DType, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops import sampling
from gradcli.ops.axes import INDEX, SHAPE, length
from gradcli.ops.card import REQUIRED, Card, Site
from gradcli.ops.kinds import composite
from gradcli.ops.sampling import Computed, Emitted, Medium

# ---- where onnxruntime has a kernel that is faster than the expansion ----------------------------


def _has_kernel(s: Site) -> bool:
    """For images in the wider floats."""
    return s.x.dtype in (DType.FLOAT32, DType.FLOAT64) and s.x.shape is not None and s.x.rank == 4


def _has_fast_kernel(s: Site) -> bool:
    """0.18 ms against 0.55 for 16x64x64; with any other mode or padding 0.4 to 2.3, and slower."""
    plain = s["mode"] == "linear" and s["padding_mode"] == "zeros"
    return plain and _has_kernel(s)


# ---- GridSample and AffineGrid -------------------------------------------------------------------


def _grid_sample(
    m: Medium, x: Any, grid: Any, *, mode: str, padding_mode: str, align_corners: int
) -> Any:
    sizes, rank = m.sizes(x), m.rank(x)
    spatial = sizes[2:]
    axes = []
    columns = m.unstack(grid, len(spatial), rank - 1)  # the last axis comes first
    for g, size in zip(reversed(columns), spatial, strict=True):
        at = _unnormalised(m, g, size, bool(align_corners))
        axes.append(sampling.taps(m, at, size, mode, padding_mode, bool(align_corners)))
    first = m.steps(sizes[0]) * sampling.times(spatial)
    first = m.reshape(first, [sizes[0], *[1] * len(spatial)])
    elements = sampling.terms(m, sampling.table(m, x), first, spatial, axes)
    y = m.sum(elements, range(len(spatial)))
    return m.transpose(y, (0, rank - 1, *range(1, rank - 1)))


def _unnormalised(m: Medium, g: Any, size: Any, corners: bool) -> Any:
    """-1 and 1 are the ends of an image: its outermost elements' centres, or their outer edges."""
    if corners:
        return (g + 1.0) * ((m.number(size) - 1.0) / 2.0)
    return ((g + 1.0) * m.number(size) - 1.0) / 2.0


def _grid_sample_types(s: Site) -> Sequence[Type]:
    x, grid = s.x.shape, s.x1.shape
    if x is None or grid is None:
        return [(s.x.dtype, None)]
    if len(x) != len(grid) or (isinstance(grid[-1], int) and grid[-1] != len(x) - 2):
        raise ValueError(f"a grid of shape {grid} for an image of shape {x}")
    return [(s.x.dtype, (x[0], x[1], *grid[1:-1]))]


def _grid_sample_kinks(
    n: Numbers, x: Array, grid: Array, *, mode: str, align_corners: int, **__: Any
) -> tuple[np.ndarray, np.ndarray]:
    """In units of the grid, how far the nearest element is; of `nearest`, the nearest edge."""
    margins, branches = [], []
    for axis, size in enumerate(x.shape[2:]):
        g = np.real(grid)[..., x.ndim - 3 - axis]
        at = _unnormalised(Computed(n), g, size, bool(align_corners))
        unit = max(size - 1 if align_corners else size, 1) / 2.0
        shift = 0.5 if mode == "nearest" else 0.0
        gap, side = _to_whole(n, at + shift)
        if mode == "cubic":  # smooth
            gap, side = np.full(at.shape, np.inf), np.zeros(at.shape)
        margins.append(gap / unit)
        branches.append(side)
    weights = 1000.0 ** np.arange(len(branches))
    branch = np.tensordot(weights, np.array(branches), 1)
    return np.min(margins, axis=0)[:, None], branch[:, None]


def _to_whole(n: Numbers, x: Array) -> tuple[np.ndarray, np.ndarray]:
    """How far numbers are from whole ones, and those below."""
    return np.abs(x - n.floor(x + 0.5)), n.floor(x)


def _affine_grid(m: Medium, theta: Any, sizes: Sequence[Any], align_corners: int) -> Any:
    spatial, k = list(sizes[2:]), len(sizes) - 2
    columns = []
    for axis, size in reversed(list(enumerate(spatial))):
        at = m.as_numbers(m.steps(size))
        many = m.number(size)
        if not align_corners:
            at = (at * 2.0 + 1.0) / many - 1.0
        elif isinstance(size, Var) or size > 1:
            at = at * 2.0 / (many - 1.0) - 1.0
        columns.append(m.reshape(at, [size if a == axis else 1 for a in range(k)]))
    y: Any = None
    for column, at in enumerate([*columns, None]):
        factor = m.take(theta, column, 2)  # [N, k]
        factor = m.reshape(factor, [sizes[0], *[1] * k, k])
        term = factor if at is None else factor * m.apart(at, [0, k + 1])
        y = term if y is None else y + term
    return y


def _affine_grid_types(s: Site) -> Sequence[Type]:
    sizes = s.ints(1)
    if sizes is not None:
        return [(s.x.dtype, (sizes[0], *sizes[2:], len(sizes) - 2))]
    count = length(s.x1)
    if count is None:
        return [(s.x.dtype, None)]
    batch = s.x.shape[0] if s.x.shape is not None else s.b.fresh(1)[0]
    return [(s.x.dtype, (batch, *s.b.fresh(count - 2), count - 2))]


def _affine_grid_nodes(s: Site) -> Sequence[Var]:
    m, b = Emitted(s.x), s.b
    known = s.ints(1)
    if known is not None:
        return [_affine_grid(m, s.x, known, s["align_corners"])]
    count = length(s.x1)
    if count is None:
        raise UnsupportedError("AffineGrid whose number of dimensions is computed at run time")
    sizes = [b.op("Slice", s.x1, b.ints([k]), b.ints([k + 1]), b.ints([0])) for k in range(count)]
    return [_affine_grid(m, s.x, sizes, s["align_corners"])]


# ---- regions: RoiAlign and MaxRoiPool ------------------------------------------------------------

LEAST = float(np.finfo(np.float32).min)
"""Below whatever an image holds; finite, so that no difference of it is not a number."""


@dataclass(frozen=True)
class _Bins:
    """One axis of all regions, divided into bins, with samples in each.

    Attributes:
        at: Where the samples are [regions, bins, samples].
        count: How many of them each bin of a region has [regions]; an int where all have all.
        length: The region's extent before anything is done to it [regions].
        inside: Where the samples count at all.
    """

    at: Any
    count: Any
    length: Any
    inside: Any


def _bins(m: Medium, start: Any, end: Any, size: Any, bins: int, ratio: int, least: bool) -> _Bins:
    length = end - start
    extent = m.most(length, 1.0) if least else length
    each = m.apart(extent / float(bins), [1, 2])
    place = m.apart(m.as_numbers(m.steps(bins)), [0, 2])
    if ratio > 0:
        count: Any = ratio
        sample = (m.as_numbers(m.steps(ratio)) + 0.5) / float(ratio)
        at = m.apart(start, [1, 2]) + each * (place + m.apart(sample, [0, 1]))
    else:
        count = -m.floor(-(extent / float(bins)))
        sample = m.apart(m.as_numbers(m.steps(m.widest(count))), [0, 1])
        among = m.apart(count, [1, 2])
        at = m.apart(start, [1, 2]) + each * (place + (sample + 0.5) / m.most(among, 1.0))
    inside = m.within(at, -1.0, m.number(size))
    if ratio <= 0:
        inside = m.both(inside, m.between(among - sample, 0.5, math.inf))
    return _Bins(at, count, length, inside)


def _roi_bins(m: Medium, x: Any, rois: Any, **how: Any) -> list[_Bins]:
    half = how["coordinate_transformation_mode"] == "half_pixel"
    corners = m.unstack(rois * how["spatial_scale"] - (0.5 if half else 0.0), 4, 1)
    sizes, ratio = m.sizes(x), how["sampling_ratio"]
    return [
        _bins(m, corners[1], corners[3], sizes[2], how["output_height"], ratio, not half),
        _bins(m, corners[0], corners[2], sizes[3], how["output_width"], ratio, not half),
    ]


def _roi_terms(m: Medium, x: Any, at: Any, two: Sequence[_Bins], mode: str) -> Any:
    """The weighted corners of every sample: [2, 2, regions, rows, columns, sy, sx, C]."""
    sizes, axes = m.sizes(x), []
    for axis, (bins, size) in enumerate(zip(two, sizes[2:], strict=True)):
        spread = ([3, 5], [2, 4])[axis]
        places = bins.at
        if mode == "max":  # the greatest of the corners, each with its weight: of those inside
            places = m.least(m.most(places, 0.0), m.number(size) - 1.0)
        near, weights = sampling.taps(m, places, size, "linear", "border")
        weights = m.apart(m.only(bins.inside, weights), spread)
        axes.append((m.apart_whole(near, spread), weights))
    first = m.apart(at * sampling.times(sizes[2:]), [1, 2, 3, 4])
    return sampling.terms(m, sampling.table(m, x), first, sizes[2:], axes)


def _roi_align(m: Medium, x: Any, rois: Any, at: Any, *, mode: str, **how: Any) -> Any:
    two = _roi_bins(m, x, rois, **how)
    corners = _roi_terms(m, x, at, two, mode)
    ratio = how["sampling_ratio"]
    if mode == "max":
        best = m.max(corners, [0, 1])
        if ratio <= 0:
            best = m.choose(m.both(*_live(m, two)), best, LEAST)
        y = m.max(best, [3, 4])
        if ratio <= 0:
            full = m.apart(m.between(two[0].count * two[1].count, 0.5, 1e18), [1, 2, 3])
            y = m.choose(full, y, 0.0)
    elif mode == "avg":
        y = m.sum(m.sum(corners, [0, 1]), [3, 4])
        if ratio > 0:
            y = y * (1.0 / ratio**2)
        else:
            y = y / m.apart(m.most(two[0].count * two[1].count, 1.0), [1, 2, 3])
    else:
        raise UnsupportedError(f"RoiAlign with mode {mode!r}")
    return m.transpose(y, (0, 3, 1, 2))


def _live(m: Medium, two: Sequence[_Bins]) -> list[Any]:
    """Which samples there are, of rows and of columns, shaped as `_roi_terms` has them."""
    out = []
    for axis, bins in enumerate(two):
        samples = m.sizes(bins.at)[2]
        steps = m.apart(m.as_numbers(m.steps(samples)), [0, 1])
        left = m.apart(bins.count, [1, 2]) - steps
        spread = ([2, 4, 5], [1, 3, 5])[axis]
        out.append(m.between(m.apart(left, spread), 0.5, math.inf))
    return out


def _roi_types(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    regions = s.b.fresh(1)[0] if s.x1.shape is None else s.x1.shape[0]
    sizes = s.attrs.get("pooled_shape") or (s.attrs["output_height"], s.attrs["output_width"])
    return [(s.x.dtype, (regions, s.x.shape[1], *sizes))]


def _roi_align_kinks(
    n: Numbers, x: np.ndarray, rois: np.ndarray, at: np.ndarray, *, mode: str, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """How far samples are from elements, counts from jumps, and of `max` the best from the next."""
    m = Computed(n)
    two = _roi_bins(m, x, rois, **how)
    scale = max(how["spatial_scale"], 1e-30)
    margin = np.full((len(rois), 1, 1, 1), np.inf)
    branch = np.zeros((len(rois), 1, 1, 1))
    for bins, many in zip(two, (how["output_height"], how["output_width"]), strict=True):
        parts = [bins.at.reshape(len(rois), -1)]
        if how["sampling_ratio"] <= 0:
            parts.append(bins.length[:, None] / many)
        if how["coordinate_transformation_mode"] != "half_pixel":
            parts.append(np.minimum(bins.length[:, None], 1.5))
        flat = np.concatenate(parts, axis=1)
        gaps, below = _to_whole(n, flat)
        gap = np.min(gaps, axis=1) / scale
        margin = np.minimum(margin, gap[:, None, None, None])
        branch = 31.0 * branch + np.sum(below, axis=1)[:, None, None, None]
    if mode == "max":
        corners = np.moveaxis(_roi_terms(m, x, at, two, mode), (-1, 0, 1), (1, -2, -1))
        ranked = np.sort(corners.reshape(*corners.shape[:4], -1), axis=-1)
        margin = np.minimum(margin, ranked[..., -1] - ranked[..., -2])
        branch = branch + np.argmax(corners.reshape(ranked.shape), axis=-1)
    return np.broadcast_arrays(margin, branch)[0], np.broadcast_arrays(margin, branch)[1]


def _max_roi_pool(m: Medium, x: Any, rois: Any, **how: Any) -> Any:
    elements, filled = _in_bins(m, x, rois, **how)
    return m.transpose(m.choose(filled, m.max(elements, [3, 4]), 0.0), (0, 3, 1, 2))


def _max_roi_pool_kinks(
    n: Numbers, x: Array, rois: Array, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """How far the greatest element of each bin is ahead of the next."""
    elements, _ = _in_bins(Computed(n), x, rois, **how)
    bins = np.transpose(np.real(elements), (0, 5, 1, 2, 3, 4))
    flat = bins.reshape(*bins.shape[:-2], -1)
    if flat.shape[-1] < 2:
        return np.full(flat.shape[:-1], np.inf), np.zeros(flat.shape[:-1], np.int64)
    top = np.partition(flat, -2, axis=-1)
    empty = top[..., -1] == LEAST
    return np.where(empty, np.inf, top[..., -1] - top[..., -2]), np.argmax(flat, axis=-1)


def _in_bins(
    m: Medium, x: Any, rois: Any, *, pooled_shape: Sequence[int], spatial_scale: float
) -> tuple[Any, Any]:
    """The elements of every bin over axes 3 and 4, LEAST behind them, and which bins have any."""
    sizes = m.sizes(x)
    corner = [m.floor(m.take(rois, k, 1) * spatial_scale + 0.5) for k in range(1, 5)]
    places, alive, filled = [], [], []
    for axis, (size, bins) in enumerate(zip(sizes[2:], pooled_shape, strict=True)):
        start, end = m.apart(corner[1 - axis], [1]), m.apart(corner[3 - axis], [1])
        extent = m.most(end - start + 1.0, 1.0)
        k = m.apart(m.as_numbers(m.steps(bins)), [0])
        ends = m.floor(k * extent / float(bins)), -m.floor(-(k + 1.0) * extent / float(bins))
        low, high = (m.least(m.most(e + start, 0.0), m.number(size)) for e in ends)
        count = high - low
        steps = m.as_numbers(m.steps(m.widest(count)))
        at = m.apart(low, [2]) + m.apart(steps, [0, 1])
        spread = ([0, 3, 5], [0, 2, 4])[axis]
        inside = m.least(at, m.number(size) - 1.0)
        places.append((m.apart_whole(m.whole(inside), spread), None))
        left = m.apart(count, [2]) - m.apart(steps, [0, 1])
        alive.append(m.between(m.apart(left, ([2, 4, 5], [1, 3, 5])[axis]), 0.5, math.inf))
        filled.append(m.between(m.apart(count, ([2, 3], [1, 3])[axis]), 0.5, math.inf))
    rows = sampling.table(m, x)
    first = m.apart(m.whole(m.take(rois, 0, 1)) * sampling.times(sizes[2:]), [1, 2, 3, 4])
    elements = sampling.terms(m, rows, first, sizes[2:], places)
    return m.choose(m.both(*alive), m.sum(elements, [0, 1]), LEAST), m.both(*filled)


# ---- DeformConv ----------------------------------------------------------------------------------


def _deformed(m: Medium, w: Any, offset: Any, **how: Any) -> tuple[list[int], list[Any]]:
    """The kernel, and where each tap reads: for each axis [N, offset groups, taps, out1..outk]."""
    kernel = m.sizes(w)[2:]
    if any(isinstance(d, Var) for d in m.sizes(w)):
        raise UnsupportedError("DeformConv whose weight has a shape that is computed at run time")
    k, taps = len(kernel), int(np.prod(kernel))
    samples, *outputs = (m.sizes(offset)[a] for a in (0, *range(2, 2 + k)))
    moved = m.reshape(offset, [samples, how["offset_group"], taps, k, *outputs])
    strides, dilations = (tuple(how[name] or (1,) * k) for name in ("strides", "dilations"))
    pads = tuple(how["pads"] or (0,) * 2 * k)
    within = np.indices(kernel).reshape(k, taps)
    places = []
    for axis, shift in enumerate(m.unstack(moved, k, 3)):
        window = m.as_numbers(m.steps(outputs[axis])) * float(strides[axis])
        tap = m.constant(within[axis] * dilations[axis] - pads[axis])
        column = m.apart(window, [a for a in range(3 + k) if a != 3 + axis])
        base = column + m.apart(tap, [a for a in range(3 + k) if a != 2])
        places.append(shift + base)
    return kernel, places


def _deform_conv(
    m: Medium,
    x: Any,
    w: Any,
    offset: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    group: int,
    offset_group: int,
    **how: Any,
) -> Any:
    kernel, places = _deformed(m, w, offset, offset_group=offset_group, **how)
    made, inner = m.sizes(w)[:2]
    k, taps, channels = len(kernel), int(np.prod(kernel)), inner * group
    sizes = m.sizes(x)
    samples, outputs = sizes[0], m.sizes(offset)[2:]
    images = m.reshape(x, [-1, channels // offset_group, *sizes[2:]])
    first = m.steps(samples * offset_group) * sampling.times(sizes[2:])
    first = m.reshape(first, [samples, offset_group, *[1] * (k + 1)])
    axes = [
        sampling.taps(m, at, size, "linear", "zeros")
        for at, size in zip(places, sizes[2:], strict=True)
    ]
    elements = sampling.terms(m, sampling.table(m, images), first, sizes[2:], axes)
    read = m.sum(elements, range(k))
    if mask is not None:
        read = read * m.reshape(mask, [samples, offset_group, taps, *outputs, 1])
    read = m.transpose(read, (0, 1, 3 + k, 2, *range(3, 3 + k)))
    columns = m.reshape(read, [samples, group, inner * taps, sampling.times(outputs)])
    weights = m.reshape(w, [group, made // group, inner * taps])
    y = m.reshape(m.matmul(weights, columns), [samples, made, *outputs])
    return y if bias is None else y + m.apart(bias, range(1, 1 + k))


def _deform_conv_types(s: Site) -> Sequence[Type]:
    w, offset = s.x1.shape, s.input(2).shape
    if w is None or offset is None or s.x.shape is None:
        return [(s.x.dtype, None)]
    return [(s.x.dtype, (s.x.shape[0], w[0], *offset[2:]))]


def _deform_conv_kinks(
    n: Numbers, x: np.ndarray, w: np.ndarray, offset: np.ndarray, *rest: Any, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    how.pop("group")
    _, places = _deformed(Computed(n), w, np.real(offset), **how)
    at = np.concatenate([p.reshape(len(p), -1, *p.shape[3:]) for p in places], axis=1)
    gaps, below = _to_whole(n, at)
    return np.min(gaps, axis=1, keepdims=True), np.sum(below, axis=1, keepdims=True)


CARDS: tuple[Card, ...] = (
    composite(
        "GridSample",
        lambda n, x, grid, **how: _grid_sample(Computed(n), x, grid, **how),
        lambda s: [_grid_sample(Emitted(s.x), s.x, s.x1, **s.attrs)],
        inputs=("X", "grid"),
        infer=_grid_sample_types,
        attrs={"align_corners": 0, "mode": "linear", "padding_mode": "zeros"},
        keeps=_has_fast_kernel,
        kinks=_grid_sample_kinks,
        convention="of the two sides of an element, the one behind it",
    ),
    composite(
        "AffineGrid",
        lambda n, theta, size, align_corners: _affine_grid(
            Computed(n), theta, size.tolist(), align_corners
        ),
        _affine_grid_nodes,
        inputs=("theta", "size"),
        infer=_affine_grid_types,
        attrs={"align_corners": 0},
        flat={"size": SHAPE},
    ),
    composite(
        "RoiAlign",
        lambda n, x, rois, at, **how: _roi_align(Computed(n), x, rois, at, **how),
        lambda s: [_roi_align(Emitted(s.x), s.x, s.x1, s.input(2), **s.attrs)],
        inputs=("X", "rois", "batch_indices"),
        infer=_roi_types,
        attrs={
            "coordinate_transformation_mode": "half_pixel",
            "mode": "avg",
            "output_height": 1,
            "output_width": 1,
            "sampling_ratio": 0,
            "spatial_scale": 1.0,
        },
        flat={"batch_indices": INDEX},
        keeps=_has_kernel,
        kinks=_roi_align_kinks,
        convention="of the two sides of an element, the one behind it; what ties for the greatest "
        "shares evenly",
    ),
    composite(
        "MaxRoiPool",
        lambda n, x, rois, **how: _max_roi_pool(Computed(n), x, rois, **how),
        lambda s: [_max_roi_pool(Emitted(s.x), s.x, s.x1, **s.attrs)],
        inputs=("X", "rois"),
        infer=_roi_types,
        attrs={"pooled_shape": REQUIRED, "spatial_scale": 1.0},
        flat={"rois": "a region is rounded to whole elements"},
        kinks=_max_roi_pool_kinks,
        convention="elements that tie share evenly, as in ReduceMax",
        rounds=False,
    ),
    composite(
        "DeformConv",
        lambda n, x, w, offset, b=None, mask=None, **how: _deform_conv(
            Computed(n), x, w, offset, b, mask, **how
        ),
        lambda s: [_deform_conv(Emitted(s.x), *s.inputs, **s.attrs)],
        inputs=("X", "W", "offset", "B?", "mask?"),
        infer=_deform_conv_types,
        attrs={
            "dilations": None,
            "group": 1,
            "kernel_shape": None,
            "offset_group": 1,
            "pads": None,
            "strides": None,
        },
        keeps=_has_kernel,
        kinks=_deform_conv_kinks,
        convention="of the two sides of an element, the one behind it",
    ),
)
