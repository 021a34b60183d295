"""FlexAttention, whose attributes are graphs: written out while the file is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradcli.graph import CANONICAL_OPSET, DType, Graph, Value, Var
from gradcli.onnxfile.call import Call
from gradcli.onnxfile.draft import Draft
from gradcli.onnxfile.tensors import CODES


def flex_attention(d: Draft, call: Call) -> Call:
    """Y = prob_mod(softmax(score_mod(Q K' scale))) V, its two bodies in place.

    Raises:
        ModelError: For a body that is not of one tensor, or holds bodies itself.
    """
    q, k, v = (call.operand(place) for place in range(3))
    for x in (q, k, v):
        if x.shape is None or len(x.shape) != 4:
            raise call.refuse("needs operands of four known dimensions", "")
    wide = _precision(call, q.dtype)
    scale = call.attrs.get("scale")
    factor = _usual_scale(d, q) if scale is None else d.like(scale, q)
    scores = _grouped_product(d, d.op("Mul", q, factor), d.op("Transpose", k, perm=(0, 1, 3, 2)))
    scores = _modified(d, call, "score_mod", _cast(d, scores, wide))
    p = _modified(d, call, "prob_mod", d.op("Softmax", scores, axis=-1))
    y = _grouped_product(d, p, _cast(d, v, wide))
    last = call.having(y, op="Cast", to=q.dtype.value)
    return replace(last, domain="", opset=CANONICAL_OPSET)


def _precision(call: Call, given: DType) -> DType:
    number = call.attrs.get("softmax_precision")
    if number is None:
        return DType.FLOAT64 if given is DType.FLOAT64 else DType.FLOAT32
    if number not in CODES or not CODES[number].is_float:
        raise call.refuse(f"has a softmax_precision {number} that is no float type", "")
    return CODES[number]


def _cast(d: Draft, x: Var, dtype: DType) -> Var:
    return x if x.dtype is dtype else d.op("Cast", x, to=dtype.value)


def _usual_scale(d: Draft, q: Var) -> Var:
    """1 / sqrt(head size)."""
    assert q.shape is not None
    size = q.shape[3]
    if isinstance(size, int):
        return d.like(1.0 / np.sqrt(size), q)
    width = _cast(d, d.op("Shape", q, start=3, end=4), q.dtype)
    return d.op("Div", d.like(1.0, q), d.op("Sqrt", width))


def _grouped_product(d: Draft, one: Var, other: Var) -> Var:
    """[B, H, M, K] times [B, G, K, N], with H / G heads of one to each of the other."""
    if one.shape is None or other.shape is None or one.shape[1] == other.shape[1]:
        return d.op("MatMul", one, other)
    heads, matrix = d.op("Shape", other, start=1, end=2), d.op("Shape", one, start=2, end=4)
    grouped = d.op("Concat", d.ints([0]), heads, d.ints([-1]), matrix, axis=0)
    y = d.op("MatMul", d.op("Reshape", one, grouped), d.op("Unsqueeze", other, d.ints([2])))
    back = d.op("Concat", d.op("Shape", one, start=0, end=3), d.ints([-1]), axis=0)
    return d.op("Reshape", y, back)


def _modified(d: Draft, call: Call, name: str, x: Var) -> Var:
    """What a body makes of x: its nodes join the graph, named behind the node."""
    body = call.attrs.get(name)
    if body is None:
        return x
    if not isinstance(body, Graph) or len(body.inputs) != 1 or len(body.outputs) != 1:
        raise call.refuse(f"has a {name} that does not take one tensor to one tensor", "")
    env: dict[Value, Var] = {body.inputs[0]: x}
    env.update((value, d.b.constant(a, value.dtype)) for value, a in body.constants.items())
    env.update((value, d.b.var(value)) for value in body.captures)
    for node in body.nodes:
        if node.subgraphs():
            raise call.refuse(f"has a {name} with bodies of its own (in {node.op})", "")
        made = d.emit(
            Call(
                node.op,
                node.domain,
                tuple([None if v is None else env[v] for v in node.inputs]),
                node.attrs,
                tuple([None if v is None else _fresh(d, call, v) for v in node.outputs]),
                f"{call.name}/{node.name}",
                CANONICAL_OPSET,
                call.where,
            ),
            call.name,
        )
        pairs = zip(node.outputs, made, strict=True)
        env.update((old, new) for old, new in pairs if old is not None and new is not None)
    return env[body.outputs[0]]


def _fresh(d: Draft, call: Call, value: Value) -> str:
    return d.b.name(f"{call.name}/{value.name}")
