"""Carry a graph over to another float width, keeping the roundings that its author asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from weakref import ref

import numpy as np

from gradcli.graph import DType, Graph, Node, Value, Var, burst, is_static
from gradcli.ops import OPS, Table
from gradcli.ops.quantize import dequantize_in_floats, quantize_in_floats
from gradcli.transform.rewrite import Rewriter, site

_SINGLE: Mapping[str, tuple[int, ...]] = {"NonMaxSuppression": (0, 1, 3, 4), "Resize": (2,)}
"""Operands that are float32 by the standard, whatever the width of the others."""


@burst()
def cast(graph: Graph, dtype: DType, table: Table = OPS, *, arithmetic: bool = False) -> Graph:
    """The graph with every float tensor in one width.

    Constants are converted exactly when widening. A Cast of the file to a narrower float is a
    rounding that is part of the function: it stays, followed by a Cast to the new width. A Cast
    that widens, or converts integers to floats, goes straight to the new width.

    Args:
        graph: A primal graph. A derivative is taken of the result, not carried over itself: its own
            constants were rounded to the narrow type.
        dtype: The float width, usually FLOAT64.
        table: Cards, for types.
        arithmetic: Whether a Cast to a width that networks compute in, 16 bits and more, counts as
            a choice of arithmetic. It then rounds no more than other operators do, whose rounding
            is no part of the function; what stays are the 8 and 4 bits of quantisation.
    """
    r = Rewriter(graph, table)
    r.adopt_inputs(lambda v: (dtype if v.dtype.is_float else v.dtype, v.shape))
    for value, array in graph.constants.items():
        if value.dtype.is_float and value.dtype is not dtype:
            new = Value(value.name, dtype, value.shape)
            del r.b.constants[value]
            r.env[value] = r.b.adopt_constant(new, _converted(array, dtype))
    for node in graph.nodes:
        if node.op in ("Cast", "CastLike") and not node.domain:
            _cast_node(r, node, dtype, arithmetic)
        elif node.key in ("QuantizeLinear", "DequantizeLinear") and _in_floats(node):
            _quantisation(r, node, dtype)
        else:
            _copy(r, _retyped(node, dtype), dtype, _singles(r, node, graph, dtype))
    return r.finish()


def _singles(r: Rewriter, node: Node, graph: Graph, dtype: DType) -> dict[int, Var]:
    """The operands that stay float32 where the rest is narrower: of a constant all its digits."""
    kept: dict[int, Var] = {}
    if dtype.np.itemsize >= DType.FLOAT32.np.itemsize or node.domain:
        return kept
    for k in _SINGLE.get(node.op, ()):
        x = node.inputs[k] if k < len(node.inputs) else None
        if x is not None and x in graph.constants:
            kept[k] = r.b.constant(graph.constants[x], DType.FLOAT32)
        elif x is not None:
            kept[k] = r.b.cast(r.env[x], DType.FLOAT32)
    return kept


def _cast_node(r: Rewriter, node: Node, dtype: DType, arithmetic: bool) -> None:
    source, target = node.inputs[0], node.outputs[0]
    if source is None or target is None:
        return
    x = r.env[source]
    narrows = (
        source.dtype.is_float
        and target.dtype.is_float
        and target.dtype.np.itemsize < source.dtype.np.itemsize
        and not (arithmetic and target.dtype.np.itemsize > 1)
    )
    saturate = node.attrs.get("saturate", 1)
    if narrows:
        x = r.b.op("Cast", x, to=target.dtype.value, saturate=saturate)
    to = dtype if target.dtype.is_float else target.dtype
    attrs = {"saturate": 1, "to": to.value}  # only what narrows to 8 bits may say otherwise
    plain = Node("Cast", (x.value,), (target,), attrs, name=node.name, origin=node.origin)
    r.become(node, r.b.copy(plain, [x]))


def _in_floats(node: Node) -> bool:
    """Whether the quanta are floats, whose type the carried graph would not tell."""
    quanta = node.inputs[0] if node.op == "DequantizeLinear" else node.outputs[0]
    return quanta is not None and quanta.dtype.is_float


def _quantisation(r: Rewriter, node: Node, dtype: DType) -> None:
    """Quantisation to 8-bit floats as the division and the rounding that it is; and back."""
    s = site(r.b, node)
    s.inputs = tuple(r.operands(node))
    with r.b.serving(node.origin or node.name):
        if node.op == "DequantizeLinear":
            made = dequantize_in_floats(s)
        else:
            target = node.outputs[0]
            assert target is not None
            made = r.b.op("Cast", quantize_in_floats(s, target.dtype), to=dtype.value)
    r.become(node, [made])


def _copy(r: Rewriter, node: Node, dtype: DType, singles: Mapping[int, Var]) -> None:
    """Carry a node over to its operands' width, with what is known of its shapes from elsewhere."""
    made = r.b.copy(node, [singles.get(k, x) for k, x in enumerate(r.operands(node))])
    values = [
        None
        if x is None or old is None
        else x.value
        if is_static(x.shape) or not is_static(old.shape)
        else Value(old.name, x.dtype, old.shape)
        for old, x in zip(node.outputs, made, strict=True)
    ]
    narrow = [v is not None and _is_narrower(v.dtype, dtype) for v in values]
    inner = [
        Value(r.b.name(v.name), v.dtype, v.shape) if v is not None and is_narrow else v
        for v, is_narrow in zip(values, narrow, strict=True)
    ]
    last = r.b.nodes[-1]
    r.b.nodes[-1] = last.on(last.inputs, inner)
    r.become(node, [None if v is None else r.b.var(v) for v in inner])
    for k, is_narrow in enumerate(narrow):
        source, target = inner[k], node.outputs[k]
        if is_narrow and source is not None and target is not None:
            # Made of strings or integers: no operand was wide enough to say how wide it is.
            widen = {"saturate": 1, "to": dtype.value}
            plain = Node("Cast", (source,), (target,), widen, name=target.name, origin=node.origin)
            r.env[target] = r.b.copy(plain, [r.b.var(source)])[0]  # type: ignore[assignment] # one output


def _is_narrower(a: DType, b: DType) -> bool:
    return a.is_float and a.np.itemsize < b.np.itemsize


def _retyped(node: Node, dtype: DType) -> Node:
    """The node with those attributes changed that fix a float width."""
    changes: dict[str, Any] = {}
    for name, attr in node.attrs.items():
        if isinstance(attr, np.ndarray) and attr.dtype.kind == "f":
            changes[name] = _frozen(attr.astype(dtype.np))
        elif name == "dtype" and isinstance(attr, str) and DType(attr).is_float:
            changes[name] = dtype.value
    return replace(node, attrs={**node.attrs, **changes}) if changes else node


_CONVERTED: dict[tuple[int, DType], tuple[ref[np.ndarray], ref[np.ndarray]]] = {}
"""Large weights in another width, for as long as both are in use: a network that is cast for one
question after another, at one size after another, then has them twice and not ever more often."""

_LARGE = 1 << 20


def _converted(array: np.ndarray, dtype: DType) -> np.ndarray:
    if array.nbytes < _LARGE or array.flags.writeable:
        return _frozen(array.astype(dtype.np))
    key = id(array), dtype
    found = _CONVERTED.get(key)
    if found and found[0]() is array and (made := found[1]()) is not None:
        return made
    new = _frozen(array.astype(dtype.np))
    _CONVERTED[key] = ref(array, lambda _: _CONVERTED.pop(key, None)), ref(new)
    return new


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
