"""Faults of onnxruntime that a rewrite goes around."""

from __future__ import annotations

import numpy as np

from gradcli.graph import Node, Var, is_static
from gradcli.ops import spatial
from gradcli.transform.tune.tuner import Row, Tuner


def _pad_axes(t: Tuner, node: Node) -> Var | None:
    """Pad over some axes: Pad over all of them."""
    x, pads, fill, axes = (*node.inputs, None, None, None)[:4]
    amounts, places = t.constant(pads), t.constant(axes)
    if x is None or x.shape is None or amounts is None or places is None:
        return None
    rank, k = len(x.shape), len(places)
    whole = np.zeros(2 * rank, np.int64)
    for i, axis in enumerate(places):
        whole[axis % rank], whole[axis % rank + rank] = amounts[i], amounts[i + k]
    value = None if fill is None else t.env[fill]
    return t.b.op("Pad", t.env[x], t.b.constant(whole), value, mode=node.attrs["mode"])


def _idle_ceil_mode(t: Tuner, node: Node) -> Var | None:
    """AveragePool with a ceil_mode that adds no window: without it."""
    x, a = node.inputs[0], node.attrs
    if x is None or x.shape is None or not a["ceil_mode"] or a["auto_pad"] != "NOTSET":
        return None
    sizes, kernel, pads = x.shape[2:], a["kernel_shape"], a["pads"] or (0,) * 2 * len(x.shape[2:])
    if not is_static(sizes):
        return None
    how = {name: a[name] for name in ("strides", "dilations", "ceil_mode")}
    if spatial.pads(spatial.windows(sizes, kernel, pads=pads, **how)) != tuple(pads):
        return None
    return t.b.op("AveragePool", t.env[x], **{**a, "ceil_mode": 0})


PAD_AXES = Row(
    "padding given for all axes",
    "none: onnxruntime 1.32 moves a Transpose through Pad as if `axes` were not there, and"
    " then reads out of bounds",
    "nothing",
    _pad_axes,
)

IDLE_CEIL_MODE = Row(
    "no ceil_mode where it adds no window",
    "none: onnxruntime 1.32, when it infers the shape, counts a window of padding alone,"
    " which its kernel leaves out, and then refuses a Reshape of what it makes",
    "nothing",
    _idle_ceil_mode,
)
