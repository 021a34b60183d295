"""What a MaxPool sends back."""

from __future__ import annotations

from dataclasses import dataclass

from gradcli.errors import InternalError
from gradcli.graph import DType, Node, Value, Var
from gradcli.transform.tune.tuner import STEP_SLOPE, Row, Tuner


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


def _pooled_relu_mask(t: Tuner, node: Node) -> Var | None:
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
