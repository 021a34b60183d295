"""The straight-through estimator: a convention that takes rounding for the identity.

It is not the derivative, which is 0 between the jumps of a staircase. What is rounded passes a
tangent on as it came, and drops it where it saturates (Bengio, Leonard and Courville 2013,
"Estimating or propagating gradients through stochastic neurons"). The function stays as it is:
`straighten` carries its whole numbers as floats, so that tangents have a place, and `straight`
exchanges the rules of what rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradcli.graph import DType, Graph, Node, Value, Var
from gradcli.numbers import Array, Numbers, complex_
from gradcli.ops import OPS, Card, Site, Table
from gradcli.ops.card import Vars
from gradcli.ops.kinds import elementwise
from gradcli.ops.quantize import beside, limits
from gradcli.transform.expand import expand
from gradcli.transform.rewrite import Rewriter, site

CONVENTION = "straight-through: the identity, 0 where it saturates"

ALMOST = 0.4999
"""How far beyond the ends of its range a number may lie to be rounded into it."""

ENDS = 1.0
"""Up to which size a Sign passes: beyond it the estimator counts it as saturated."""

_FIRST = (0,)
_ALL: tuple[int, ...] = ()

ALIKE: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        ("Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"), _FIRST
    ),
    **dict.fromkeys(("Slice", "Expand", "Gather", "GatherElements", "GatherND", "Tile"), _FIRST),
    **dict.fromkeys(("Split", "DepthToSpace", "SpaceToDepth", "MaxPool", "Relu", "Neg"), _FIRST),
    **dict.fromkeys(("ReduceMax", "ReduceMin"), _FIRST),
    **dict.fromkeys(("Concat", "Max", "Min", "Clip"), _ALL),
    "Pad": (0, 2),
    "Where": (1, 2),
}
"""Operators that give the same whole numbers when these operands (none: all) hold them as floats.
"""

SUMS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("Add", "Sub", "Mul"), _ALL),
    "ReduceSum": _FIRST,
}
"""Likewise unless they wrap around, as they do in 8 or 16 bits; sums of quanta fit into more."""

# ---- rules ---------------------------------------------------------------------------------------


def straight(table: Table = OPS) -> Table:
    """The table whose rounding operators pass tangents straight through.

    In the complex step what is rounded keeps its imaginary part, so that it witnesses the same
    convention without any rule.
    """
    rounding = [_rounding(table[op]) for op in ("Round", "Floor", "Ceil", "Sign")]
    cast = table["Cast"]
    cast = replace(
        cast, impl=_kept(cast), jvp=_cast_jvp, vjp=_cast_vjp, kinks=None, convention=CONVENTION
    )
    return table.replace(*rounding, cast)


def _rounding(card: Card) -> Card:
    partial = _within if card.op == "Sign" else 1.0
    return elementwise(card.op, _kept(card), partial, inputs=card.inputs, convention=CONVENTION)


def _within(s: Site) -> Var:
    return s.b.op("LessOrEqual", s.b.op("Abs", s.x), s.b.like(ENDS, s.x))


def _kept(card: Card) -> Callable[..., Any]:
    """The operator, that keeps the imaginary part of what it rounds."""
    step = card.impl
    assert step is not None

    def impl(n: Numbers, x: Array, **attrs: Any) -> Array:
        y = step(n, x, **attrs)
        if n.name != complex_.name or not (n.is_number(x) and n.is_number(y)):
            return y
        passes = np.ones(np.shape(x), bool)
        if most := _most(attrs) if "to" in attrs else ENDS if card.op == "Sign" else 0.0:
            passes = np.abs(np.real(x)) <= most
        return np.real(y) + 1j * np.where(passes, np.imag(x), 0.0)

    return impl


def _most(attrs: Any) -> float:
    """Beyond what number a Cast saturates; 0 where it does not."""
    to = DType(attrs["to"])
    narrow = to.is_float and to.np.itemsize == 1 and attrs["saturate"]
    return to.greatest if narrow else 0.0


def _through(s: Site, direction: Var) -> Var:
    """A tangent or cotangent in the wider of the two types, 0 where the Cast saturates."""
    if most := _most(s.attrs):
        inside = s.b.op("LessOrEqual", s.b.op("Abs", s.x), s.b.like(most, s.x))
        return s.b.where(inside, direction, 0.0)
    return direction


def _narrow(dtype: DType) -> bool:
    return dtype.is_float and dtype.np.itemsize == 1


def _cast_jvp(s: Site, dots: Vars) -> Vars:
    (x_dot,) = dots
    to = DType(s["to"])
    if x_dot is None or not to.is_float:
        return [None]
    # Nothing of 8 bits carries a tangent: it would be rounded itself.
    return [_through(s, x_dot) if _narrow(to) else s.b.cast(x_dot, to)]


def _cast_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    y_bar = _through(s, y_bar)
    return [y_bar if _narrow(s.x.dtype) else s.b.cast(y_bar, s.x.dtype)]


# ---- whole numbers as floats ---------------------------------------------------------------------


def straighten(graph: Graph, table: Table = OPS) -> Graph:
    """The same function, with the whole numbers that come of rounding carried as floats.

    Args:
        graph: A primal graph. Integers that are made of integers, such as indices, stay integers.
        table: Cards.
    """
    graph = expand(graph, _quantises, table)
    return _Straightener(graph, table).run()


def _quantises(node: Node, card: Card) -> bool:
    """Whether an operator that is others put together may round in between, or begins as quanta."""
    whole = any(v is not None and v.dtype.is_integer for v in node.inputs)
    return card.is_flat or card.jumps or (card.kind == "composite" and whole)


class _Straightener:
    def __init__(self, graph: Graph, table: Table) -> None:
        self.r = Rewriter(graph, table)
        self.r.adopt_inputs()
        self.whole: dict[Value, Var] = {}
        self.makers = {v: node for node in graph.nodes for v in node.makes()}

    def run(self) -> Graph:
        for node in self.r.old.nodes:
            rule = RULES.get(node.key)
            with self.r.b.serving(node.origin or node.name):
                made = self._alike(node) if rule is None else rule(self, node)
                if made is None:
                    self.r.copy(node)
                    continue
                values = [made] if isinstance(made, Var) else made
                pairs = zip(node.outputs, values, strict=False)
                self.r.become(node, [self._named(y, v) for y, v in pairs])
        return self.r.finish()

    def site(self, node: Node) -> Site:
        """The node on the operands that it has by now."""
        s = site(self.r.b, node)
        s.inputs = tuple(self.r.operands(node))
        return s

    def is_whole(self, value: Value) -> bool:
        """Whether floats are known to hold whole numbers: what was just rounded, or bounded."""
        maker = self.makers.get(value)
        if maker is not None and maker.op == "Clip" and maker.inputs[0] is not None:
            return self.is_whole(maker.inputs[0])
        return maker is not None and maker.op in ("Round", "Floor", "Ceil")

    def number(self, node: Node, k: int, like: Var | None = None) -> Var:
        """An operand as floats: those that it is carried by, or itself."""
        value = node.inputs[k]
        assert value is not None
        dtype = like.dtype if like is not None else DType.FLOAT32
        return self.r.b.cast(self.whole.get(value, self.r.env[value]), dtype)

    def _named(self, y: Value | None, made: Var) -> Var:
        """What stands for a result: floats, or integers whose floats are kept beside."""
        if y is None or y.dtype.is_float:
            return made
        self.whole[y] = made
        return self.r.b.cast(made, y.dtype)

    def _alike(self, node: Node) -> Sequence[Var] | None:
        """The same operator on floats, where an operand is carried as floats."""
        y = node.outputs[0]
        places = ALIKE.get(node.key)
        if y is not None and y.dtype.is_integer and y.dtype.np.itemsize >= 4:
            places = SUMS.get(node.key, places)
        if places is None or (node.key == "MaxPool" and len(node.outputs) > 1):
            return None
        places = places or tuple(range(len(node.inputs)))
        carried = [self.whole[v] for k in places if (v := _input(node, k)) in self.whole]
        if not carried:
            return None
        operands = [
            x if x is None or k not in places else self.number(node, k, carried[0])
            for k, x in enumerate(self.r.operands(node))
        ]
        return self.r.b.ops(node.key, *operands, outputs=len(node.outputs), **node.attrs)


def _saturated(t: _Straightener, u: Var, zero: Var | None, dtype: DType) -> Var:
    """Bounded before it is rounded, so that the first and the last number are within."""
    b = t.r.b
    low, high = limits(dtype)
    ends = (b.like(low - ALMOST, u), b.like(high + ALMOST, u))
    least, most = ends if zero is None else (end - zero for end in ends)
    q = b.op("Round", b.op("Min", b.op("Max", u, least), most))
    return q if zero is None else q + zero


def _input(node: Node, k: int) -> Value | None:
    return node.inputs[k] if k < len(node.inputs) else None


def _has(node: Node, k: int) -> bool:
    return _input(node, k) is not None


def _quantize(t: _Straightener, node: Node) -> Var | None:
    y = node.outputs[0]
    if y is None or not y.dtype.is_integer:
        return None
    s = t.site(node)
    place = s["axis"], s["block_size"]
    zero = None
    if _has(node, 2):
        zero = beside(s.b, t.number(node, 2, s.x), s.x, *place)
    return _saturated(t, s.x / beside(s.b, s.x1, s.x, *place), zero, y.dtype)


def _dequantize(t: _Straightener, node: Node) -> Var | None:
    if not any(v in t.whole for v in node.inputs):
        return None
    s = t.site(node)
    place = s["axis"], s["block_size"]
    x = t.number(node, 0, s.x1)
    if _has(node, 2):
        x = x - beside(s.b, t.number(node, 2, s.x1), x, *place)
    return x * beside(s.b, s.x1, x, *place)


def _cast(t: _Straightener, node: Node) -> Var | None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    assert y is not None
    b = t.r.b
    if x in t.whole:
        # Between integer types it wraps around where it does not fit, which nobody relies upon.
        return b.cast(t.whole[x], y.dtype) if y.dtype.is_float else t.whole[x]
    if not x.dtype.is_float or not y.dtype.is_integer:
        return None
    value = t.r.env[x]
    if t.is_whole(x):
        return value
    return b.where(value < 0.0, b.op("Ceil", value), b.op("Floor", value))


def _less(t: _Straightener, node: Node, k: int, zero: int, shape: tuple[int, ...] = ()) -> Var:
    """An operand less its zero point, as floats; one of each slice in this shape."""
    x = t.number(node, k)
    return x - _each(t, t.number(node, zero), shape) if _has(node, zero) else x


def _each(t: _Straightener, p: Var, shape: tuple[int, ...]) -> Var:
    if p.rank != 1 or not shape:
        return p
    return t.r.b.reshape(p, shape if p.shape != (1,) else [1] * len(shape))


def _product(t: _Straightener, node: Node) -> Var | None:
    if not any(v in t.whole for v in node.inputs):
        return None
    return t.r.b.op("MatMul", _less(t, node, 0, 2, (-1, 1)), _less(t, node, 1, 3))


def _convolution(t: _Straightener, node: Node) -> Var | None:
    if not any(v in t.whole for v in node.inputs):
        return None
    x, w = t.number(node, 0), t.number(node, 1)
    shape = (-1, *[1] * (w.rank - 1))
    left, right = _less(t, node, 0, 2, (1,) * x.rank), _less(t, node, 1, 3, shape)
    return t.r.b.op("Conv", left, right, **node.attrs)


def _qlinear(op: str) -> Callable[[_Straightener, Node], Var | None]:
    def rule(t: _Straightener, node: Node) -> Var | None:
        y = node.outputs[0]
        if y is None or not any(v in t.whole for v in node.inputs):
            return None
        w = t.number(node, 3)
        if op == "MatMul":
            total = t.r.b.op(op, _less(t, node, 0, 2, (-1, 1)), _less(t, node, 3, 5))
            scales: tuple[tuple[int, ...], ...] = ((-1, 1), (), ())
        else:
            tall = (-1, *[1] * (w.rank - 2))
            first = _less(t, node, 0, 2, (1,) * w.rank)
            second = _less(t, node, 3, 5, (-1, *[1] * (w.rank - 1)))
            bias = t.number(node, 8) if _has(node, 8) else None
            total = t.r.b.op(op, first, second, bias, **node.attrs)
            scales = tall, tall, tall
        a, b, c = (_each(t, t.number(node, k), to) for k, to in zip((1, 4, 6), scales, strict=True))
        zero = _each(t, t.number(node, 7), scales[2])
        return _saturated(t, total * (a * b / c), zero, y.dtype)

    return rule


RULES: dict[str, Callable[[_Straightener, Node], Var | None]] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Cast": _cast,
    "MatMulInteger": _product,
    "ConvInteger": _convolution,
    "QLinearMatMul": _qlinear("MatMul"),
    "QLinearConv": _qlinear("Conv"),
}
