"""How the operators of gradcli/ops/rearrange.py are tested."""

from __future__ import annotations

import numpy as np

from tests.ops.rows.index import ints
from tests.ops.table import Case, Row, normal, shape


def draw_depth_to_space(rng: np.random.Generator) -> Case:
    """Either order, blocks of one to three."""
    size = int(rng.integers(1, 4))
    batch, depth, high, wide = shape(rng, 4, high=3)
    mode = str(rng.choice(["DCR", "CRD"]))
    x = normal(rng, (batch, depth * size**2, high, wide))
    return Case((x,), {"blocksize": size, "mode": mode})


def draw_space_to_depth(rng: np.random.Generator) -> Case:
    """Blocks of one to three."""
    size = int(rng.integers(1, 4))
    batch, depth, high, wide = shape(rng, 4, high=3)
    return Case((normal(rng, (batch, depth, high * size, wide * size)),), {"blocksize": size})


def draw_reverse_sequence(rng: np.random.Generator) -> Case:
    """Time first or batch first, whole and partial sequences."""
    dims = shape(rng, int(rng.integers(2, 5)), high=5)
    time = int(rng.integers(0, 2))
    lengths = rng.integers(1, dims[time] + 1, dims[1 - time], dtype=np.int64)
    return Case((normal(rng, dims), lengths), {"time_axis": time, "batch_axis": 1 - time})


def draw_center_crop_pad(rng: np.random.Generator) -> Case:
    """Cut here, padded there, by even and odd numbers; some axes or all."""
    dims = shape(rng, int(rng.integers(1, 4)), high=6)
    if rng.random() < 0.4:
        return Case((normal(rng, dims), ints(*rng.integers(1, 8, len(dims)))))
    count = int(rng.integers(1, len(dims) + 1))
    axes = tuple(int(a) - len(dims) * int(rng.integers(0, 2)) for a in rng.permutation(len(dims)))
    return Case((normal(rng, dims), ints(*rng.integers(1, 8, count))), {"axes": axes[:count]})


def draw_col2im(rng: np.random.Generator) -> Case:
    """One to three axes; strides, dilations and pads, with and without remainders."""
    k = int(rng.integers(1, 4))
    image, block = rng.integers(4, 7, k), rng.integers(1, 3, k)
    strides, pads = rng.integers(1, 4, k), rng.integers(0, 2, 2 * k)
    # onnxruntime 1.32 heeds dilations only where there are two axes.
    dilations = rng.integers(1, 3, k) if k == 2 else np.ones(k, np.int64)
    room = image + pads[:k] + pads[k:] - (dilations * (block - 1) + 1)
    blocks = int(np.prod(room // strides + 1))
    batch, channels = shape(rng, 2, high=2)
    x = normal(rng, (batch, channels * int(np.prod(block)), blocks))
    attrs = {"strides": strides, "dilations": dilations, "pads": pads}
    given = {name: tuple(v.tolist()) for name, v in attrs.items()}
    return Case((x, ints(*image), ints(*block)), given)


ROWS = (
    Row("DepthToSpace", draw_depth_to_space, dynamic="free"),
    Row("SpaceToDepth", draw_space_to_depth, dynamic="free"),
    Row("ReverseSequence", draw_reverse_sequence, dynamic="free"),
    Row("CenterCropPad", draw_center_crop_pad, dynamic="free"),
    Row("Col2Im", draw_col2im, dynamic="free"),
)
