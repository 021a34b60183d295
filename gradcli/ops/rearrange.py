"""Operators that move blocks, sequences and images: depth to space, reversal, crops, columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, Type, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops import spatial
from gradcli.ops.axes import INDEX, SHAPE, axes_of, dims, shape_part, stretch, unstretch
from gradcli.ops.card import REQUIRED, Site
from gradcli.ops.kinds import axis_of, composite, linear, same
from gradcli.ops.spatial import Axes

# ---- DepthToSpace and SpaceToDepth ---------------------------------------------------------------

PERM = {"DCR": (0, 3, 4, 1, 5, 2), "CRD": (0, 1, 4, 2, 5, 3)}
"""From depth split in three, to [N, C, H, block, W, block]."""


def _larger(dim: Dim, by: int, b: Builder) -> Dim:
    return dim * by if isinstance(dim, int) else b.fresh(1)[0]


def _smaller(dim: Dim, by: int, b: Builder) -> Dim:
    if isinstance(dim, int) and dim % by:
        raise ValueError(f"{dim} is no multiple of {by}")
    return dim // by if isinstance(dim, int) else b.fresh(1)[0]


def _depth_to_space_infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    batch, depth, high, wide = s.x.shape
    size, b = s["blocksize"], s.b
    shape = (batch, _smaller(depth, size * size, b), _larger(high, size, b), _larger(wide, size, b))
    return [(s.x.dtype, shape)]


def _depth_to_space(n: Numbers, x: Array, *, blocksize: int, mode: str) -> Array:
    batch, depth, high, wide = x.shape
    channels = depth // blocksize**2
    block = (blocksize, blocksize)
    split = (*block, channels) if mode == "DCR" else (channels, *block)
    apart = n.transpose(n.reshape(x, (batch, *split, high, wide)), PERM[mode])
    return n.reshape(apart, (batch, channels, high * blocksize, wide * blocksize))


def _depth_to_space_expand(s: Site) -> Sequence[Var]:
    b, size = s.b, s["blocksize"]
    batch, depth, high, wide = (shape_part(b, s.x, a, a + 1) for a in range(4))
    channels = _times(b, depth, 1, size * size)
    split = ([size, size], channels) if s["mode"] == "DCR" else (channels, [size, size])
    apart = b.op("Reshape", s.x, dims(b, batch, *split, high, wide), allowzero=1)
    moved = b.transpose(apart, PERM[s["mode"]])
    shape = dims(b, batch, channels, _times(b, high, size), _times(b, wide, size))
    return [b.op("Reshape", moved, shape, allowzero=1)]


def _times(b: Builder, dim: Var, by: int, over: int = 1) -> Var:
    """A dimension, int64[1], times one number and divided by another."""
    if dim.const is not None:
        return b.ints((dim.const * by // over).tolist())
    return b.op("Div", b.op("Mul", dim, b.ints([by])), b.ints([over]))


def _space_to_depth_infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    batch, depth, high, wide = s.x.shape
    size, b = s["blocksize"], s.b
    shape = (
        batch,
        _larger(depth, size * size, b),
        _smaller(high, size, b),
        _smaller(wide, size, b),
    )
    return [(s.x.dtype, shape)]


def _space_to_depth(n: Numbers, x: Array, *, blocksize: int) -> Array:
    batch, depth, high, wide = x.shape
    low, thin = high // blocksize, wide // blocksize
    apart = n.reshape(x, (batch, depth, low, blocksize, thin, blocksize))
    moved = n.transpose(apart, (0, 3, 5, 1, 2, 4))
    return n.reshape(moved, (batch, depth * blocksize**2, low, thin))


def _space_to_depth_expand(s: Site) -> Sequence[Var]:
    b, size = s.b, s["blocksize"]
    batch, depth, high, wide = (shape_part(b, s.x, a, a + 1) for a in range(4))
    low, thin = _times(b, high, 1, size), _times(b, wide, 1, size)
    apart = b.op("Reshape", s.x, dims(b, batch, depth, low, [size], thin, [size]), allowzero=1)
    moved = b.transpose(apart, (0, 3, 5, 1, 2, 4))
    shape = dims(b, batch, _times(b, depth, size * size), low, thin)
    return [b.op("Reshape", moved, shape, allowzero=1)]


# ---- ReverseSequence -----------------------------------------------------------------------------


def _reverse_sequence(
    n: Numbers, x: Array, lengths: np.ndarray, *, batch_axis: int, time_axis: int
) -> Array:
    batch, time = axis_of(batch_axis, x.ndim), axis_of(time_axis, x.ndim)

    def along(axis: int, values: np.ndarray) -> np.ndarray:
        return values.reshape([-1 if a == axis else 1 for a in range(x.ndim)])

    steps, reach = along(time, np.arange(x.shape[time])), along(batch, lengths)
    return n.take_along(x, np.where(steps < reach, reach - 1 - steps, steps), time)


# ---- CenterCropPad -------------------------------------------------------------------------------


def _crop_axes(axes: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    return tuple(range(rank)) if axes is None else axes_of(axes, rank)


def _crop_infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    axes = _crop_axes(s["axes"], s.x.rank)
    sizes: Sequence[Dim] = s.ints(1) or s.b.fresh(len(axes))
    given = dict(zip(axes, sizes, strict=True))
    return [(s.x.dtype, tuple(given.get(a, d) for a, d in enumerate(s.x.shape)))]


def _crop(n: Numbers, x: Array, shape: np.ndarray, *, axes: Sequence[int] | None) -> Array:
    cuts, widths = [slice(None)] * x.ndim, [(0, 0)] * x.ndim
    for axis, size in zip(_crop_axes(axes, x.ndim), shape.tolist(), strict=True):
        missing = size - x.shape[axis]
        before = abs(missing) // 2  # of an odd number the greater half is behind
        if missing < 0:
            cuts[axis] = slice(before, before + size)
        else:
            widths[axis] = (before, missing - before)
    return n.pad(n.slice(x, cuts), widths, n.zero_of(x))


def _crop_transpose(s: Site, y_bar: Var) -> Var:
    """Back to the old size: what was cut off becomes zeros, and what was added is cut off."""
    axes = _crop_axes(s["axes"], s.x.rank)
    return s.again(y_bar, dims(s.b, *(shape_part(s.b, s.x, a, a + 1) for a in axes)))


def _crop_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    axes = tuple(a + 1 for a in _crop_axes(s["axes"], s.y.rank))
    return [s.again(s.x, s.x1, axes=axes)]


# ---- Col2Im --------------------------------------------------------------------------------------


def _image(
    image: Sequence[int],
    block: Sequence[int],
    *,
    strides: Sequence[int] | None,
    pads: Sequence[int] | None,
    dilations: Sequence[int] | None,
) -> Axes:
    return spatial.windows(image, block, strides=strides, pads=pads, dilations=dilations)


def _counts(axes: Axes) -> tuple[int, ...]:
    """How many blocks fit along each axis."""
    return tuple(int(a.output or 0) for a in axes)


def _col2im_infer(s: Site) -> Sequence[Type]:
    image, block = s.ints(1), s.ints(2)
    if s.x.shape is None and image is None:
        return [(s.x.dtype, None)]
    batch, rows = (s.x.shape or s.b.fresh(2))[:2]
    size = None if block is None else int(np.prod(block))
    channels = s.b.fresh(1)[0] if size is None else _smaller(rows, size, s.b)
    rank = s.x1.shape[0] if image is None and s.x1.shape else None
    if image is None and not isinstance(rank, int):
        return [(s.x.dtype, None)]
    return [(s.x.dtype, (batch, channels, *(image or s.b.fresh(int(rank or 0)))))]


def _col2im(n: Numbers, x: Array, image: np.ndarray, block: np.ndarray, **how: Any) -> Array:
    axes, kernel = _image(image.tolist(), block.tolist(), **how), tuple(block.tolist())
    k, channels = len(kernel), x.shape[1] // int(np.prod(kernel))
    apart = n.reshape(x, (x.shape[0], channels, *kernel, *_counts(axes)))
    blocks = n.transpose(apart, (0, 1, *range(2 + k, 2 + 2 * k), *range(2, 2 + k)))
    ends = spatial.pads(axes)
    sizes = [int(d) + ends[i] + ends[k + i] for i, d in enumerate(image.tolist())]
    total = n.overlap_add(blocks, sizes, spatial.strides(axes), spatial.dilations(axes))
    cuts = [slice(ends[i], ends[i] + int(d)) for i, d in enumerate(image.tolist())]
    return n.slice(total, [slice(None), slice(None), *cuts])


def _col2im_expand(s: Site) -> Sequence[Var]:
    """A transposed convolution with one kernel for each place in a block: 1 there, else 0."""
    b, image, block = s.b, s.ints(1), s.ints(2)
    if image is None or block is None:
        raise UnsupportedError(
            "Col2Im to an image or from blocks whose size is computed at run time"
        )
    axes, size = _image(image, block, **s.attrs), int(np.prod(block))
    kernels = b.constant(np.eye(size).reshape(size, 1, *block), s.x.dtype)
    planes = b.op("Reshape", s.x, b.ints([-1, size, *_counts(axes)]))
    batch, rows = shape_part(b, s.x, 0, 1), shape_part(b, s.x, 1, 2)
    y = spatial.spread(b, planes, kernels, axes, 1, like=planes)
    return [b.op("Reshape", y, dims(b, batch, _times(b, rows, 1, size), image), allowzero=1)]


CARDS = (
    composite(
        "DepthToSpace",
        _depth_to_space,
        _depth_to_space_expand,
        inputs=("input",),
        infer=_depth_to_space_infer,
        attrs={"blocksize": REQUIRED, "mode": "DCR"},
        rounds=False,
    ),
    composite(
        "SpaceToDepth",
        _space_to_depth,
        _space_to_depth_expand,
        inputs=("input",),
        infer=_space_to_depth_infer,
        attrs={"blocksize": REQUIRED},
        rounds=False,
    ),
    linear(
        "ReverseSequence",
        _reverse_sequence,
        lambda s, y_bar: s.again(y_bar, s.x1),  # done twice, all is as before
        inputs=("input", "sequence_lens"),
        infer=same,
        # The two axes must be the first ones: the directions go last.
        batch=lambda s, batched: [stretch(s.b, s.again(unstretch(s.b, s.x), s.x1))],
        attrs={"batch_axis": 1, "time_axis": 0},
        flat={"sequence_lens": INDEX},
        rounds=False,
    ),
    linear(
        "CenterCropPad",
        _crop,
        _crop_transpose,
        inputs=("input_data", "shape"),
        infer=_crop_infer,
        batch=_crop_batch,
        attrs={"axes": None},
        flat={"shape": SHAPE},
        rounds=False,
    ),
    composite(
        "Col2Im",
        _col2im,
        _col2im_expand,
        inputs=("input", "image_shape", "block_shape"),
        infer=_col2im_infer,
        attrs={"dilations": None, "pads": None, "strides": None},
        flat={"image_shape": SHAPE, "block_shape": SHAPE},
    ),
)
