"""What a MaxPool sends back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from gradcli.errors import InternalError
from gradcli.graph import DType, Graph, Node, Value, Var, is_static
from gradcli.transform.tune.tuner import STEP_SLOPE, Row, Tuner

Place = tuple[int, int]
"""A row and a column."""

FAR = 2.0**100
"""What lifts the greatest element of a window out of reach, once one that equals it is found."""


@dataclass(frozen=True)
class _Sent:
    """What a MaxPool sends back: cotangents added up at the places of the greatest elements.

    Attributes:
        pool: The MaxPool, its places among its outputs.
        scatter: The ScatterElements(add) of the flat cotangents into zeros.
        y_bar: Those cotangents, flat.
        x_bar: The result, in the shape of the pool's operand.
    """

    pool: Node
    scatter: Node
    y_bar: Value
    x_bar: Value

    def spread(self, t: Tuner, y_bar: Var) -> Var:
        """The result for other cotangents: by MaxUnpool where no two windows overlap."""
        x, places = self.pool.inputs[0], self.pool.outputs[1]
        if x is None or places is None:
            raise InternalError("a MaxPool without its operand or places")
        if _apart(self.pool):
            shaped = t.b.reshape_like(y_bar, t.env[places])
            how = {k: self.pool.attrs[k] for k in ("kernel_shape", "strides")}
            size = t.b.shape_of(t.env[x])
            like = (y_bar.dtype, self.x_bar.shape)
            return t.b.foreign("MaxUnpool", shaped, t.env[places], size, like=like, **how)
        zeros, flat = (t.env[v] if v is not None else None for v in self.scatter.inputs[:2])
        added = t.b.op("ScatterElements", zeros, flat, y_bar, **self.scatter.attrs)
        return t.b.reshape_like(added, t.env[x])


def _sent_back(t: Tuner, x_bar: Value | None) -> _Sent | None:
    """How a value came back through a MaxPool, if it did."""
    shaped = t.made_by(x_bar, "Reshape")
    scatter = None if shaped is None else t.made_by(shaped.inputs[0], "ScatterElements")
    flat = None if scatter is None else t.made_by(scatter.inputs[1], "Reshape")
    pool = None if flat is None else t.made_by(flat.inputs[0], "MaxPool")
    if scatter is None or flat is None or pool is None or x_bar is None:
        return None
    zeros, _, y_bar = scatter.inputs
    whole = flat.inputs[0] is pool.outputs[1] and x_bar.shape == pool.inputs[0].shape  # type: ignore[union-attr] # a MaxPool has an operand
    if not whole or y_bar is None or x_bar.dtype is not DType.FLOAT32:
        return None
    added = scatter.attrs["reduction"] == "add" and t.is_number(zeros, 0.0)
    return _Sent(pool, scatter, y_bar, x_bar) if added and len(y_bar.shape or ()) == 1 else None


def _apart(pool: Node) -> bool:
    """Whether a pool's windows have no element in common, and none reaches beyond the operand.

    Such a last window, which ceil_mode may add, MaxUnpool takes for a part of its result.
    """
    kernel = pool.attrs["kernel_shape"]
    strides = pool.attrs["strides"] or (1,) * len(kernel)
    dilated = any(d != 1 for d in pool.attrs["dilations"] or ())
    padded = any(pool.attrs["pads"] or ()) or pool.attrs["auto_pad"] != "NOTSET"
    if dilated or padded or pool.attrs["ceil_mode"]:
        return False
    return all(k <= s for k, s in zip(kernel, strides, strict=True))


def _max_unpool(t: Tuner, node: Node) -> Var | None:
    """What a MaxPool without overlaps sends back: MaxUnpool."""
    sent = _sent_back(t, node.outputs[0])
    if sent is None or not _apart(sent.pool):
        return None
    return sent.spread(t, t.env[sent.y_bar])


def _masked(t: Tuner, node: Node) -> _Sent | None:
    """How a value came back through a MaxPool of y = Relu(x), where this Where is Relu's mask."""
    mask, d, zero = node.inputs
    compare, sent = t.made_by(mask, "Greater"), _sent_back(t, d)
    if compare is None or sent is None or not t.may_multiply(node) or not t.is_number(zero, 0.0):
        return None
    if not t.is_number(compare.inputs[1], 0.0) or sent.pool.outputs[0] is None:
        return None
    return sent if sent.pool.inputs[0] is t.relus.get(compare.inputs[0]) else None


def _above_zero(t: Tuner, y: Var) -> Var:
    """1 where y > 0, else 0."""
    return t.b.op("HardSigmoid", y, alpha=STEP_SLOPE, beta=0.0)


def _pooled_relu_mask(t: Tuner, node: Node) -> Var | None:
    """Relu's mask behind a MaxPool of y: applied to what the pool sends back, unspread."""
    sent = _masked(t, node)
    if sent is None:
        return None
    y_bar = t.env[sent.y_bar]
    step = _above_zero(t, t.env[sent.pool.outputs[0]])  # type: ignore[index] # `_masked` has looked
    return sent.spread(t, y_bar * t.b.reshape_like(step, y_bar))


def without_idle_places(graph: Graph) -> Graph:
    """The graph with no MaxPool that says where its greatest elements stand, and nobody reads it.

    Without places onnxruntime has a kernel for blocked layout: 0.2 ms against 5.4 (64x112x112).
    """
    read = {v for node in graph.nodes for v in node.reads()} | set(graph.outputs)

    def shed(node: Node) -> Node:
        if node.key != "MaxPool" or len(node.outputs) < 2 or node.outputs[1] in read:
            return node
        return replace(node, outputs=node.outputs[:1])

    return replace(graph, nodes=tuple(map(shed, graph.nodes)))


# ---- windows that overlap, in blocked layout -----------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """The windows of a MaxPool in two dimensions, which overlap, over a whole number of strides.

    Attributes:
        kernel: Sizes of a window.
        stride: The step from a window to the next, the same along both axes.
        pads: Before and behind, of each axis: as far as windows reach.
    """

    kernel: tuple[int, int]
    stride: int
    pads: tuple[int, int, int, int]

    def places(self) -> Iterator[tuple[Place, Place, Place]]:
        """Row by row, each place of a window: itself, its phase, and how many strides it is away.

        The element at place t of window i is element stride * (i + away) + phase.
        """
        for place in product(range(self.kernel[0]), range(self.kernel[1])):
            moved = [t - before for t, before in zip(place, self.pads[:2], strict=True)]
            (down, row), (right, column) = (divmod(m, self.stride) for m in moved)
            yield place, (row, column), (down, right)


def _grid(t: Tuner, pool: Node) -> _Grid | None:
    """The windows of a pool, where they can be taken apart by depthwise convolutions."""
    x, y, a = pool.inputs[0], pool.outputs[0], pool.attrs
    if x is None or y is None or x.shape is None or y.shape is None:
        return None
    if not is_static((*x.shape, *y.shape)):
        return None
    sizes, counts = x.shape[2:], map(int, y.shape[2:])
    kernel, strides = tuple(a["kernel_shape"]), tuple(a["strides"] or (1, 1))
    dilated = any(d != 1 for d in a["dilations"] or ())
    if len(kernel) != 2 or strides[0] != strides[1] or dilated or a["auto_pad"] != "NOTSET":
        return None
    if max(kernel) > 3 or not t.is_blocked(x):
        return None
    stride, before = strides[0], tuple(a["pads"] or (0,) * 4)[:2]
    if sizes != tuple(n * stride for n in counts):
        return None
    # Where the windows of a whole number of strides end, beyond the last element.
    behind = tuple(k - stride - p for k, p in zip(kernel, before, strict=True))
    if min(*before, *behind) < 0:
        return None
    return _Grid(kernel, stride, (*before, *behind))


def _overlapping(t: Tuner, node: Node) -> Var | None:
    """What windows that overlap send back, behind y = Relu(x), place of the window by place.

    Element t of a window is cut out by a depthwise convolution with a single 1 in its kernel. It
    has the window's cotangent if it equals the window's greatest element, and no element before it
    did. Padding counts as 0 here, which is as good as no element: where the greatest is 0, Relu's
    mask drops what it would be sent.
    """
    sent = _masked(t, node)
    grid = None if sent is None else _grid(t, sent.pool)
    if sent is None or grid is None or _apart(sent.pool):
        return None
    y, x = sent.pool.outputs[0], sent.pool.inputs[0]
    if y is None or x is None:
        raise InternalError("a MaxPool without its operand or result")
    top = t.env[y]
    y_bar = t.b.reshape_like(t.env[sent.y_bar], top) * _above_zero(t, top)
    bound, phases = top, dict[Place, Var]()
    for place, phase, away in grid.places():
        cut = _one(grid.kernel, place, -1.0)
        how: dict[str, Any] = {"strides": (grid.stride,) * 2, "pads": grid.pads}
        how |= {"activation": "HardSigmoid", "activation_params": (-STEP_SLOPE, 1.0)}
        first = t.depthwise(t.env[x], cut, plus=bound, **how)
        bound = t.depthwise(first, np.full((1, 1), FAR), plus=bound)
        phases[phase] = _moved(t, y_bar * first, away, phases.get(phase))
    if len(phases) == 1:
        return phases[0, 0]
    parts = [phases[i, j] for i, j in product(range(grid.stride), repeat=2)]
    whole = t.b.op("Concat", *parts, axis=1)
    made = t.b.op("DepthToSpace", whole, blocksize=grid.stride, mode="DCR")
    t.interleaved[made.value] = whole, grid.stride
    return made


def _moved(t: Tuner, z: Var, away: Place, plus: Var | None) -> Var:
    """z, so many elements further, with zeros for what comes in; and a sum with another."""
    if away == (0, 0):
        return z if plus is None else z + plus
    cut = _one((3, 3), (1 - away[0], 1 - away[1]))
    return t.depthwise(z, cut, plus=plus, pads=(1,) * 4)


def _one(kernel: Place, place: Place, number: float = 1.0) -> np.ndarray:
    """A kernel with one number in it."""
    made = np.zeros(kernel)
    made[place] = number
    return made


OVERLAPPING = Row(
    "what a MaxPool of overlapping windows behind a ReLU sends back, in blocked layout",
    "whole ResNet-18 gradient 57.4 against 60.0 ms",
    "0 * infinity and NaN, also in x, give NaN, to their neighbours too; 0 may be -0;"
    " a subnormal x passes in part; the order of summation",
    _overlapping,
)

POOLED_RELU_MASK = Row(
    "ReLU mask before a MaxPool",
    "a mask of the pooled size: 1 ms less for 64x112x112",
    "0 * infinity and NaN, also in x, give NaN; 0 may be -0; a subnormal x passes in part",
    _pooled_relu_mask,
)

MAX_UNPOOL = Row(
    "what a MaxPool sends back, where windows do not overlap",
    "0.37 ms for MaxUnpool against 1.03 (64x112x112)",
    "nothing",
    _max_unpool,
)
