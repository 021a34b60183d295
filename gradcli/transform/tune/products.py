"""Products, and sums of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradcli.graph import DType, Node, Value, Var
from gradcli.transform.tune.tuner import Row, Tuner


@dataclass(frozen=True)
class _Product:
    """Tensors of one shape and a number, multiplied."""

    tensors: tuple[Value, ...]
    number: float = 1.0

    def without(self, factor: Value) -> _Product:
        """The product of the others."""
        k = self.tensors.index(factor)
        return _Product(self.tensors[:k] + self.tensors[k + 1 :], self.number)

    def emit(self, t: Tuner) -> Var | float:
        """The product in the new graph; the number goes to the first tensor."""
        if not self.tensors:
            return self.number
        first, *others = (t.env[v] for v in self.tensors)
        made = first if self.number == 1.0 else first * self.number
        for other in others:
            made = made * other
        return made


def _factors(t: Tuner, value: Value) -> _Product:
    """The factors of a value, through products that nobody else reads."""
    node = t.made_by(value, "Mul")
    if node is None or t.reads[value] != 1:
        return _Product((value,))
    tensors: tuple[Value, ...] = ()
    number = 1.0
    for operand in node.inputs:
        array = t.constant(operand)
        if array is not None and array.size == 1 and operand.shape != value.shape:  # type: ignore[union-attr] # a constant
            number *= float(array.reshape(()))
        elif operand is None or operand.shape != value.shape:
            return _Product((value,))
        else:
            inner = _factors(t, operand)
            tensors, number = tensors + inner.tensors, number * inner.number
    return _Product(tensors, number)


def _common_factor(t: Tuner, node: Node) -> Var | None:
    """d * a + d * b * c, as the derivative of x * f(x) comes: d * (a + b * c)."""
    p, q = node.inputs
    if p is None or q is None or p is q or p.dtype is not DType.FLOAT32 or p.shape != q.shape:
        return None
    if p.shape is None or t.constant(p) is not None or t.constant(q) is not None:
        return None
    products = _factors(t, p), _factors(t, q)
    common = [v for v in products[0].tensors if v in products[1].tensors]
    if not common or not any(len(one.tensors) > 1 for one in products):
        return None
    a, b = (one.without(common[0]) for one in products)
    if not all(math.isfinite(one.number) for one in (a, b)):
        return None
    total = b.emit(t) + a.emit(t)
    return t.env[common[0]] * total


COMMON_FACTOR = Row(
    "a common factor of a sum, once",
    "whole gradient of an encoder 67.0 against 69.1 ms (4 layers of 256, 8 x 64 tokens)",
    "the order of multiplication: a product may overflow, or be lost, where it did not",
    _common_factor,
)
