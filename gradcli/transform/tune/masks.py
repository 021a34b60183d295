"""Masks of activations, as products with steps; slopes of smooth functions."""

from __future__ import annotations

import math

import numpy as np

from gradcli.graph import DType, Node, Var
from gradcli.transform.tune.tuner import BOUND_SLOPE, STEP_SLOPE, Row, Tuner


def _relu_mask(t: Tuner, node: Node) -> Var | None:
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


def _clip_mask(t: Tuner, node: Node) -> Var | None:
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
    bounds: dict[str, float] = {}
    for side in sides:
        assert side is not None
        bound = t.constant(side.inputs[1])
        if side.inputs[0] is not x or bound is None or bound.size != 1:
            return None
        bounds[side.key] = float(bound.reshape(()))
    if t.is_blocked(y) and bounds.get("Greater") == 0.0 and _steep(bounds.get("Less", 0.0)):
        return t.env[d] * _between(t, t.env[y], bounds["Less"])
    made = t.env[d]
    for key, bound_ in bounds.items():
        step = _step(bound_, 1.0 if key == "Greater" else -1.0)
        if step is None:
            return None
        made = made * t.b.op("HardSigmoid", t.env[y], alpha=step[0], beta=step[1])
    return made


def _between(t: Tuner, y: Var, high: float) -> Var:
    """1 where 0 < y < high, else 0, for y from 0 to high: in one pass beside that of a step.

    With a scale s that brings high to 1/2 or just above, s y - s high is below 0 but for y = high,
    and above it for y = 0 too, once the step that is 1 there is added.
    """
    scale = 2.0 ** -math.frexp(high)[1]
    at_zero = t.b.op("HardSigmoid", y, alpha=-STEP_SLOPE, beta=1.0)
    step = {"activation": "HardSigmoid", "activation_params": (-BOUND_SLOPE, 0.0)}
    return t.depthwise(y, np.full((1, 1), scale), bias=-scale * high, plus=at_zero, **step)


def _step(bound: float, sign: float) -> tuple[float, float] | None:
    """alpha and beta with which HardSigmoid is 0 at a bound and 1 from the next float32 on.

    None where they would not be exact: alpha * y must be a change of exponent, and beta a float32.
    """
    if bound == 0.0:
        return sign * STEP_SLOPE, 0.0
    if not _steep(abs(bound)):
        return None
    return sign * BOUND_SLOPE, -sign * BOUND_SLOPE * bound


def _steep(bound: float) -> bool:
    """Whether BOUND_SLOPE is steep enough at a positive bound, and its product with it finite."""
    return 2.0**-30 <= bound <= 2.0**30


def _mask(t: Tuner, node: Node) -> Var | None:
    """Where(mask, d, 0): d * Cast(mask)."""
    mask, d, zero = node.inputs
    if mask is None or d is None or not t.is_number(zero, 0.0) or not t.may_multiply(node):
        return None
    if d.dtype is not DType.FLOAT32 or d.shape != node.outputs[0].shape:  # type: ignore[union-attr] # Where has an output
        return None
    return t.env[d] * t.b.cast(t.env[mask], d.dtype)


# ---- slopes of smooth functions ------------------------------------------------------------------


def _tanh_slope(t: Tuner, node: Node) -> Var | None:
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


def _hard_swish_slope(t: Tuner, node: Node) -> Var | None:
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


def _gelu_tail(t: Tuner, node: Node) -> Var | None:
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


RELU_MASK = Row(
    "ReLU mask as a step",
    "0.38 ms against 4.7 for Where (64x112x112)",
    "0 * infinity and NaN, also in x, give NaN; 0 may be -0; a subnormal x passes in part",
    _relu_mask,
)

CLIP_MASK = Row(
    "Clip's mask as steps",
    "1.1 ms against 5.1 for two comparisons, And, Cast and Mul (96x112x112); of ReLU6, in blocked"
    " layout, with one pass less: whole MobileNetV2 gradient 28.3 against 32 ms",
    "0 * infinity and NaN, also in x, give NaN; 0 may be -0; a subnormal x passes in part",
    _clip_mask,
)

HARD_SWISH_SLOPE = Row(
    "HardSwish's slope as a line and steps",
    "8.7 ms against 21 for two Wheres (96x112x112, forward and slope)",
    "NaN in x gives NaN; up to 2e-7 of the slope at 0, from the product with a third",
    _hard_swish_slope,
)

MASK = Row(
    "mask as a product",
    "0.4 ms against 4.7 for Where (64x112x112)",
    "0 * infinity and NaN give NaN; 0 may be -0",
    _mask,
)

GELU_TAIL = Row(
    "Gelu's slope without its left tail apart",
    "2.6 ms against 5.3 with Where (512x1024, forward and slope)",
    "below -1, up to 3e-7 of the slope at 0",
    _gelu_tail,
)

TANH_SLOPE = Row(
    "Tanh's slope from its result",
    "0.92 ms against 1.80 from two Sigmoids (512x1024, forward and slope)",
    "up to 3e-7 of the slope at 0, which is all of it where |x| > 8",
    _tanh_slope,
)
