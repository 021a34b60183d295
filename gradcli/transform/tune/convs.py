"""Transposed convolutions."""

from __future__ import annotations

from itertools import product

import numpy as np

from gradcli.graph import Node, Var, is_static
from gradcli.transform.tune.tuner import BLOCKED_CHANNELS, Row, Tuner

FEW = 4
"""Channels up to which a transposed convolution is mostly the adding up of windows that overlap."""

MORE = 1.7
"""How many times as many multiplications pay for adding up a quarter of the windows."""


def _conv_transpose(t: Tuner, node: Node) -> Var | None:
    """ConvTranspose of stride 1 with a constant weight: Conv with that weight turned around."""
    x, w = node.inputs[:2]
    weight, a = t.constant(w), node.attrs
    if x is None or weight is None or len(node.inputs) > 2 or not _plain(node, weight):
        return None
    group, kernel = a["group"], weight.shape[2:]
    dilations = a["dilations"] or (1,) * len(kernel)
    pads = a["pads"] or (0,) * (2 * len(kernel))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    turned = [r - p for r, p in zip((*reach, *reach), pads, strict=True)]
    made = weight.shape[1] * group
    if (
        min(turned) < 0
        or min(made // group, weight.shape[0] // group) < 1
        or made < BLOCKED_CHANNELS
    ):
        return None
    return t.b.op(
        "Conv",
        t.env[x],
        t.b.constant(_flipped(weight, group)),
        group=group,
        kernel_shape=tuple(kernel),
        dilations=tuple(dilations),
        pads=tuple(turned),
        strides=(1,) * len(kernel),
    )


def _plain(node: Node, weight: np.ndarray) -> bool:
    """Whether a ConvTranspose has stride 1, explicit pads and no extra output."""
    a = node.attrs
    return (
        a["auto_pad"] == "NOTSET"
        and all(s == 1 for s in a["strides"] or ())
        and not any(a["output_padding"] or ())
        and not a["output_shape"]
        and weight.dtype == np.float32
    )


def _flipped(weight: np.ndarray, group: int) -> np.ndarray:
    """[C, M/g, k...] as [M, C/g, k...] with every kernel axis reversed."""
    c, m, *kernel = weight.shape
    grouped = weight.reshape(group, c // group, m, *kernel)
    swapped = np.swapaxes(grouped, 1, 2).reshape(group * m, c // group, *kernel)
    return np.ascontiguousarray(np.flip(swapped, axis=tuple(range(2, swapped.ndim))))


def _unpool(t: Tuner, node: Node) -> Var | None:
    """Depthwise ConvTranspose of ones, kernel equal to stride: every value repeated, by Resize."""
    x, w = node.inputs[:2]
    weight, a = t.constant(w), node.attrs
    out = node.outputs[0]
    if x is None or weight is None or out is None or len(node.inputs) > 2 or weight.ndim != 4:
        return None
    kernel = tuple(weight.shape[2:])
    if (
        tuple(a["strides"] or (1, 1)) != kernel
        or any(a["pads"] or ())
        or any(a["output_padding"] or ())
        or a["output_shape"]
        or a["auto_pad"] != "NOTSET"
        or any(d != 1 for d in a["dilations"] or ())
        or weight.shape[1] != 1
        or a["group"] != weight.shape[0]
        or weight.dtype != np.float32
        or not np.all(weight == weight.flat[0])
        or not is_static(x.shape)
    ):
        return None
    y = t.env[x] * float(weight.flat[0])
    scales = t.b.constant(np.array([1.0, 1.0, *kernel], np.float32))
    return t.b.foreign(
        "Resize",
        y,
        None,
        scales,
        like=(out.dtype, out.shape),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


STRIDE_1 = Row(
    "transposed convolution of stride 1 as a convolution",
    "whole ResNet-18 gradient 94 against 109 ms",
    "the order of summation",
    _conv_transpose,
)

UNPOOL = Row(
    "unpooling by repetition",
    "0.30 ms against 1.04 for ConvTranspose",
    "nothing",
    _unpool,
)


def _of_phases(t: Tuner, node: Node) -> Var | None:
    """ConvTranspose of what DepthToSpace interleaves: of its parts, with longer strides.

    Part (a, b) holds elements s i + a, s j + b, and a kernel that begins r a, r b later does the
    same to them at steps of r s as the kernel does to all at steps of r.
    """
    x, weight, out = node.inputs[0], t.constant(node.inputs[1]), node.outputs[0]
    parts = None if x is None else t.interleaved.get(t.env[x].value)
    if parts is None or weight is None or out is None or len(node.inputs) > 2:
        return None
    (whole, s), a = parts, node.attrs
    kernel, (c, made) = weight.shape[2:], weight.shape[:2]
    r = a["strides"] or (1, 1)
    grown = tuple(k + d * (s - 1) for k, d in zip(kernel, r, strict=True))
    plain = a["auto_pad"] == "NOTSET" and a["group"] == 1 and not a["output_shape"]
    dilated = any(d != 1 for d in a["dilations"] or ())
    if not plain or dilated or made > FEW or np.prod(grown) > MORE * np.prod(kernel):
        return None
    spread = np.zeros((s * s * c, made, *grown), np.float32)
    for i, (p, q) in enumerate(product(range(s), repeat=2)):
        rows, columns = (slice(d * k, d * k + n) for d, k, n in zip(r, (p, q), kernel, strict=True))
        spread[i * c : (i + 1) * c, :, rows, columns] = weight
    how = {**a, "kernel_shape": grown, "strides": tuple(d * s for d in r)}
    return t.b.op("ConvTranspose", whole, t.b.constant(spread), **how)


def _into_blocks(t: Tuner, node: Node) -> Var | None:
    """ConvTranspose of another stride, its result brought into blocked layout.

    A depthwise convolution with 1 does that. Otherwise what follows, sums along a residual network
    and masks, is computed in plain layout, and all that it meets is brought there.
    """
    if not t.is_blocked(node.outputs[0]) or all(s == 1 for s in node.attrs["strides"] or (1,)):
        return None
    plain = t.b.op("ConvTranspose", *t.operands(node), **node.attrs)
    return t.depthwise(plain, np.ones((1, 1)))


OF_PHASES = Row(
    "transposed convolution of phases",
    "whole ResNet-18 gradient 453 against 465 ms at batch 8, 59.8 against 60.8 at 1",
    "the order of summation",
    _of_phases,
)

BLOCKED = Row(
    "transposed convolution of another stride into blocked layout",
    "whole gradient 27.7 against 28.3 ms (MobileNetV2), 59.9 against 60.8 (ResNet-18)",
    "nothing",
    _into_blocks,
)
