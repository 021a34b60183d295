"""Rewrite a canonical graph into the formulations that onnxruntime runs fastest.

One row a rewrite: what it matches, what it makes of it, its conditions, and the figure that earns
it its place (onnxruntime 1.32, one thread, x86-64 with AVX2). A row applies only where the result
is the same function; where it differs at all (the sign of a zero, a product of 0 and infinity) the
row says so, and the tests hold it to that. The result is only for running: differentiating it is an
error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gradcli.errors import InternalError
from gradcli.graph import DType, Graph, Node, Value, Var, burst, is_static, size
from gradcli.ops import OPS, Table, spatial
from gradcli.transform.rewrite import Rewriter
from gradcli.transform.simplify import simplify

STEP_SLOPE = 2.0**127
"""The slope that makes HardSigmoid a step: 1 from the smallest normal float32 on."""

BOUND_SLOPE = 2.0**60
"""The slope of such a step at a bound other than 0: steep enough for the next float32 there."""

BLOCKED_CHANNELS = 8
"""Channels from which onnxruntime's blocked convolution (NCHWc) pays."""


@burst()
def tune(graph: Graph, table: Table = OPS, *, one_thread: bool = False) -> Graph:
    """The same function in faster operators, for onnxruntime only; never differentiated again.

    Args:
        graph: A simplified graph.
        table: Cards.
        one_thread: Whether it will run on the CPU on one thread, and on no more.
    """
    t = _Tuner(graph, table, one_thread)
    for node in graph.nodes:
        for row in ROWS.get(node.key, ()):
            made = row.rewrite(t, node)
            if made is not None:
                t.become(node, [made])
                break
        else:
            t.copy(node)
    return simplify(t.finish(), table)


class _Tuner(Rewriter):
    """A Rewriter that also looks at what made a value, and at what else was made of it."""

    def __init__(self, graph: Graph, table: Table, one_thread: bool) -> None:
        super().__init__(graph, table)
        self.one_thread = one_thread
        self.adopt_inputs()
        self.producers = graph.producers()
        self.relus = {n.inputs[0]: n.outputs[0] for n in graph.nodes if n.key == "Relu"}
        self.tanhs = {n.inputs[0]: n.outputs[0] for n in graph.nodes if n.key == "Tanh"}
        self._primal = {n.name: n for n in graph.nodes if not n.origin}

    def served(self, node: Node) -> Node | None:
        """The primal node that a derived node serves; None where it is unknown."""
        return self._primal.get(node.origin) if node.origin else None

    def serves(self, node: Node) -> str:
        """The operator of the primal node that a derived node serves; empty where it is unknown."""
        primal = self.served(node)
        return primal.key if primal else ""

    def may_multiply(self, node: Node) -> bool:
        """Whether a mask may be a product: 0 * infinity is NaN, and the mask may be there for that.

        A network's own Where often keeps away what is infinite or NaN on the other branch, a
        logarithm or a quotient; so does the Where that carries its tangents.
        """
        return self.serves(node) not in ("", "Where")

    def made_by(self, value: Value | None, op: str) -> Node | None:
        """The node that makes this value, if it is this operator."""
        node = None if value is None else self.producers.get(value)
        return node if node is not None and node.key == op else None

    def constant(self, value: Value | None) -> np.ndarray | None:
        """The array of a constant."""
        return None if value is None else self.old.constants.get(value)

    def is_number(self, value: Value | None, number: float) -> bool:
        """Whether this is a constant filled with one number."""
        array = self.constant(value)
        if array is not None:
            return array.size > 0 and bool(np.all(array == number))
        made = self.made_by(value, "ConstantOfShape")
        return made is not None and bool(np.all(made.attrs["value"] == number))


@dataclass(frozen=True)
class Row:
    """One rewrite.

    Attributes:
        name: What it does.
        figure: What it gained when it was measured.
        differs: Where its result is not bit for bit that of the canonical form.
        rewrite: The result in the new graph, or None where the row does not apply.
    """

    name: str
    figure: str
    differs: str
    rewrite: Callable[[_Tuner, Node], Var | None]


# ---- masks ---------------------------------------------------------------------------------------


def _relu_mask(t: _Tuner, node: Node) -> Var | None:
    """Where(x > 0, d, 0) beside y = Relu(x): d * HardSigmoid(y), which stays in blocked layout."""
    mask, d, zero = node.inputs
    compare = t.made_by(mask, "Greater") if t.may_multiply(node) else None
    if compare is None or d is None or d.dtype is not DType.FLOAT32 or not t.is_number(zero, 0.0):
        return None
    x, bound = compare.inputs
    y, out = t.relus.get(x), node.outputs[0]
    if y is None or y not in t.env or out is None or y.shape != out.shape:
        return None
    if not t.is_number(bound, 0.0):
        return None
    step = t.b.op("HardSigmoid", t.env[y], alpha=STEP_SLOPE, beta=0.0)
    return t.env[d] * step


def _pooled_relu_mask(t: _Tuner, node: Node) -> Var | None:
    """The same mask behind a MaxPool of y: applied to what the pool sends back, unspread."""
    mask, d, zero = node.inputs
    compare, sent = t.made_by(mask, "Greater"), _sent_back(t, d)
    if compare is None or sent is None or not t.may_multiply(node) or not t.is_number(zero, 0.0):
        return None
    top = sent.pool.outputs[0]
    if top is None or not t.is_number(compare.inputs[1], 0.0):
        return None
    if sent.pool.inputs[0] is not t.relus.get(compare.inputs[0]):
        return None
    step = t.b.op("HardSigmoid", t.env[top], alpha=STEP_SLOPE, beta=0.0)
    kept = t.env[sent.y_bar] * t.b.reshape_like(step, t.env[sent.y_bar])
    return sent.spread(t, kept)


def _clip_mask(t: _Tuner, node: Node) -> Var | None:
    """Where(low < x < high, d, 0) beside y = Clip(x): d times a step of y at either bound."""
    mask, d, zero = node.inputs
    if not t.may_multiply(node) or d is None or d.dtype is not DType.FLOAT32:
        return None
    both, out = t.made_by(mask, "And"), node.outputs[0]
    sides = [t.producers.get(v) for v in (both.inputs if both else (mask,)) if v is not None]
    if not all(side is not None and side.key in ("Greater", "Less") for side in sides):
        return None
    # Its own Clip, since others of the same x have other bounds.
    clip = t.served(node)
    if clip is None or clip.key != "Clip" or not t.is_number(zero, 0.0):
        return None
    x, y = clip.inputs[0], clip.outputs[0]
    if y is None or y not in t.env or out is None or y.shape != out.shape:
        return None
    made = t.env[d]
    for side in sides:
        assert side is not None
        bound = t.constant(side.inputs[1])
        if side.inputs[0] is not x or bound is None or bound.size != 1:
            return None
        step = _step(float(bound.reshape(())), 1.0 if side.key == "Greater" else -1.0)
        if step is None:
            return None
        made = made * t.b.op("HardSigmoid", t.env[y], alpha=step[0], beta=step[1])
    return made


def _step(bound: float, sign: float) -> tuple[float, float] | None:
    """alpha and beta with which HardSigmoid is 0 at a bound and 1 from the next float32 on.

    None where they would not be exact: alpha * y must be a change of exponent, and beta a float32.
    """
    if bound == 0.0:
        return sign * STEP_SLOPE, 0.0
    if not 2.0**-30 <= abs(bound) <= 2.0**30:
        return None
    return sign * BOUND_SLOPE, -sign * BOUND_SLOPE * bound


def _mask(t: _Tuner, node: Node) -> Var | None:
    """Where(mask, d, 0): d * Cast(mask)."""
    mask, d, zero = node.inputs
    if mask is None or d is None or not t.is_number(zero, 0.0) or not t.may_multiply(node):
        return None
    if d.dtype is not DType.FLOAT32 or d.shape != node.outputs[0].shape:  # type: ignore[union-attr] # Where has an output
        return None
    return t.env[d] * t.b.cast(t.env[mask], d.dtype)


# ---- max pooling ---------------------------------------------------------------------------------


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

    def spread(self, t: _Tuner, y_bar: Var) -> Var:
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


def _sent_back(t: _Tuner, x_bar: Value | None) -> _Sent | None:
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


def _max_unpool(t: _Tuner, node: Node) -> Var | None:
    """What a MaxPool without overlaps sends back: MaxUnpool."""
    sent = _sent_back(t, node.outputs[0])
    if sent is None or not _apart(sent.pool):
        return None
    return sent.spread(t, t.env[sent.y_bar])


# ---- rows that are summed by places --------------------------------------------------------------


def _rows_added(t: _Tuner, node: Node) -> Var | None:
    """Rows added at places that are spread over their elements: ScatterND, of the rows themselves.

    On one thread only: on several it loses updates, see `gradcli/ops/places.py`. There they are
    added as elements of a flat tensor; a place counted from the end stays one.
    """
    data, indices, updates = node.inputs
    spread = t.made_by(indices, "Expand")
    if spread is None or data is None or data.shape is None or len(data.shape) < 2:
        return None
    if data.dtype is not DType.FLOAT32:
        return None
    at, rank = spread.inputs[0], len(data.shape)
    if node.attrs["reduction"] != "add" or node.attrs["axis"] % rank:
        return None
    if at is None or at.shape is None or updates is None or updates.shape is None:
        return None
    # The rules spread a place for each row; of a network's own places, shapes must say so.
    ours = t.serves(node) not in ("", "ScatterElements")
    whole = at.shape[:1] == updates.shape[:1] and updates.shape[1:] == data.shape[1:]
    if not (ours or whole) or at.shape[1:] != (1,) * (rank - 1):
        return None
    column = t.b.reshape(t.b.cast(t.env[at], DType.INT64), [-1, 1])
    if t.one_thread:
        return t.b.op("ScatterND", t.env[data], column, t.env[updates], reduction="add")
    if not is_static(data.shape[1:]):
        return None
    width = size(data.shape[1:])
    places = column * t.b.ints([width]) + t.b.ints(range(width))
    flat = [t.b.reshape(x, [-1]) for x in (t.env[data], places, t.env[updates])]
    added = t.b.op("ScatterElements", *flat, axis=0, reduction="add")
    return t.b.reshape_like(added, t.env[data])


# ---- slopes of smooth functions ------------------------------------------------------------------


def _tanh_slope(t: _Tuner, node: Node) -> Var | None:
    """4 sigma(2x) sigma(-2x) beside y = Tanh(x): 1 - y * y."""
    product, four = node.inputs
    both = t.made_by(product, "Mul") if t.serves(node) == "Tanh" else None
    if both is None or both.outputs[0].dtype is not DType.FLOAT32 or not t.is_number(four, 4.0):  # type: ignore[union-attr] # Mul has an output
        return None
    up, down = (t.made_by(v, "Sigmoid") for v in both.inputs)
    if up is None or down is None:
        return None
    twice, back = t.made_by(up.inputs[0], "Mul"), t.made_by(down.inputs[0], "Neg")
    if twice is None or back is None or back.inputs[0] is not up.inputs[0]:
        return None
    x, two = twice.inputs
    y = t.tanhs.get(x)
    if y is None or y not in t.env or not t.is_number(two, 2.0):
        return None
    return 1.0 - t.env[y] * t.env[y]


def _hard_swish_slope(t: _Tuner, node: Node) -> Var | None:
    """Where(abs(x) < 3, x / 3 + 1/2, x > 0): the slope of x cut off, less the jumps at the ends."""
    mask, middle, _ = node.inputs
    less = t.made_by(mask, "Less") if t.serves(node) == "HardSwish" else None
    size = None if less is None else t.made_by(less.inputs[0], "Abs")
    if less is None or size is None or not t.is_number(less.inputs[1], 3.0):
        return None
    x = size.inputs[0]
    if x is None or x.dtype is not DType.FLOAT32 or t.made_by(middle, "Add") is None:
        return None
    ends = [t.b.constant(end, x.dtype) for end in (-3.0, 3.0)]
    line = t.b.op("Clip", t.env[x], *ends) * (1 / 3) + 0.5
    # x > -3 and x < 3 as steps, see `_step`.
    steps = [
        t.b.op("HardSigmoid", t.env[x], alpha=sign * BOUND_SLOPE, beta=3.0 * BOUND_SLOPE)
        for sign in (1.0, -1.0)
    ]
    return line + (steps[1] - steps[0]) * 0.5


def _gelu_tail(t: _Tuner, node: Node) -> Var | None:
    """Where(x < -1, Gelu(x) / x, Phi(x)): Phi(x), which float32's own Gelu has no better there."""
    mask, quotient, cumulative = node.inputs
    compare, ratio = t.made_by(mask, "Less"), t.made_by(quotient, "Div")
    if t.serves(node) != "Gelu" or compare is None or ratio is None or cumulative is None:
        return None
    y, x = ratio.inputs
    bounded, bound = compare.inputs
    gelu = t.made_by(y, "Gelu")
    if gelu is None or gelu.inputs[0] is not x or bounded is not x or not t.is_number(bound, -1.0):
        return None
    return t.env[cumulative] if cumulative.dtype is DType.FLOAT32 else None


# ---- convolutions --------------------------------------------------------------------------------


def _conv_transpose(t: _Tuner, node: Node) -> Var | None:
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


def _unpool(t: _Tuner, node: Node) -> Var | None:
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


# ---- faults of onnxruntime that a rewrite goes around --------------------------------------------


def _pad_axes(t: _Tuner, node: Node) -> Var | None:
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


def _idle_ceil_mode(t: _Tuner, node: Node) -> Var | None:
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


def _scatter_of_halves(t: _Tuner, node: Node) -> Var | None:
    """A scatter of float16 that reduces: in float32, rounded once."""
    data, indices, updates = (None if v is None else t.env[v] for v in node.inputs)
    if data is None or updates is None or data.dtype is not DType.FLOAT16:
        return None
    if node.attrs["reduction"] == "none":
        return None
    data, updates = (t.b.cast(v, DType.FLOAT32) for v in (data, updates))
    y = t.b.op(node.key, data, indices, updates, **node.attrs)
    return t.b.cast(y, DType.FLOAT16)


_SCATTER_OF_HALVES = Row(
    "float16 scattered in float32",
    "none: onnxruntime 1.32 refuses the sum, when it runs",
    "rounded once where indices repeat",
    _scatter_of_halves,
)


# ---- the table -----------------------------------------------------------------------------------

ROWS: dict[str, Sequence[Row]] = {
    "Where": (
        Row(
            "ReLU mask before a MaxPool",
            "a mask of the pooled size: 1 ms less for 64x112x112",
            "0 * infinity and NaN, also in x, give NaN; 0 may be -0; a subnormal x passes in part",
            _pooled_relu_mask,
        ),
        Row(
            "ReLU mask as a step",
            "0.38 ms against 4.7 for Where (64x112x112)",
            "0 * infinity and NaN, also in x, give NaN; 0 may be -0; a subnormal x passes in part",
            _relu_mask,
        ),
        Row(
            "Clip's mask as steps",
            "1.1 ms against 5.1 for two comparisons, And, Cast and Mul (96x112x112)",
            "0 * infinity and NaN, also in x, give NaN; 0 may be -0; a subnormal x passes in part",
            _clip_mask,
        ),
        Row(
            "HardSwish's slope as a line and steps",
            "8.7 ms against 21 for two Wheres (96x112x112, forward and slope)",
            "NaN in x gives NaN; up to 2e-7 of the slope at 0, from the product with a third",
            _hard_swish_slope,
        ),
        Row(
            "mask as a product",
            "0.4 ms against 4.7 for Where (64x112x112)",
            "0 * infinity and NaN give NaN; 0 may be -0",
            _mask,
        ),
        Row(
            "Gelu's slope without its left tail apart",
            "2.6 ms against 5.3 with Where (512x1024, forward and slope)",
            "below -1, up to 3e-7 of the slope at 0",
            _gelu_tail,
        ),
    ),
    "Mul": (
        Row(
            "Tanh's slope from its result",
            "0.92 ms against 1.80 from two Sigmoids (512x1024, forward and slope)",
            "up to 3e-7 of the slope at 0, which is all of it where |x| > 8",
            _tanh_slope,
        ),
    ),
    "Reshape": (
        Row(
            "what a MaxPool sends back, where windows do not overlap",
            "0.37 ms for MaxUnpool against 1.03 (64x112x112)",
            "nothing",
            _max_unpool,
        ),
    ),
    "Pad": (
        Row(
            "padding given for all axes",
            "none: onnxruntime 1.32 moves a Transpose through Pad as if `axes` were not there, and"
            " then reads out of bounds",
            "nothing",
            _pad_axes,
        ),
    ),
    "ScatterElements": (
        _SCATTER_OF_HALVES,
        Row(
            "rows added as rows, or as elements of a flat tensor",
            "0.11 ms by ScatterND, 0.77 flat, against 1.9 (16384 rows of 16 into 4096)",
            "nothing",
            _rows_added,
        ),
    ),
    "ScatterND": (_SCATTER_OF_HALVES,),
    "AveragePool": (
        Row(
            "no ceil_mode where it adds no window",
            "none: onnxruntime 1.32, when it infers the shape, counts a window of padding alone,"
            " which its kernel leaves out, and then refuses a Reshape of what it makes",
            "nothing",
            _idle_ceil_mode,
        ),
    ),
    "ConvTranspose": (
        Row(
            "transposed convolution of stride 1 as a convolution",
            "whole ResNet-18 gradient 94 against 109 ms",
            "the order of summation",
            _conv_transpose,
        ),
        Row(
            "unpooling by repetition",
            "0.30 ms against 1.04 for ConvTranspose",
            "nothing",
            _unpool,
        ),
    ),
}
"""Rewrites by the operator that they replace, tried in order."""
