"""A number system whose arrays are values of a graph: what an `impl` computes, it then emits.

Where an operator is nothing but arithmetic that ONNX has too, its `impl` is its expansion: the same
lines, given an `Emit` in place of numbers, write the nodes. So the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.graph import Builder, DType, Type, Var
from gradcli.ops.card import Expand, Infer, Site


class Emit:
    """The methods of a number system that an `impl` may use to be an expansion as well.

    Args:
        b: Where nodes go.
        dtype: The element type of numbers.
    """

    def __init__(self, b: Builder, dtype: DType) -> None:
        self.b = b
        self.dtype = dtype

    def lift(self, x: Any) -> Var:
        """An array as a constant, floats in the numbers' width; a value as numbers."""
        if isinstance(x, Var):
            return self.b.cast(x, self.dtype)
        array = np.asarray(x)
        return self.b.constant(array, self.dtype if array.dtype.kind == "f" else None)

    def full(self, shape: Sequence[int], number: float) -> Var:
        """An array of one number."""
        return self.lift(np.full(tuple(shape), float(number)))

    def is_number(self, x: Var) -> bool:
        """Whether x holds floats."""
        return x.dtype.is_float

    @property
    def zero(self) -> Var:
        """The number 0."""
        return self.full((), 0.0)

    def exp(self, x: Var) -> Var:
        """e to the x."""
        return self.b.op("Exp", x)

    def log(self, x: Var) -> Var:
        """The natural logarithm."""
        return self.b.op("Log", x)

    def sqrt(self, x: Var) -> Var:
        """The square root."""
        return self.b.op("Sqrt", x)

    def tanh(self, x: Var) -> Var:
        """The hyperbolic tangent."""
        return self.b.op("Tanh", x)

    def sigmoid(self, x: Var) -> Var:
        """1 / (1 + exp(-x))."""
        return self.b.op("Sigmoid", x)

    def softmax(self, x: Var) -> Var:
        """Along the last axis."""
        return self.b.op("Softmax", x, axis=-1)

    def abs(self, x: Var) -> Var:
        """The distance to zero."""
        return self.b.op("Abs", x)

    def power(self, x: Var, y: Var) -> Var:
        """x to the y."""
        return self.b.op("Pow", x, y)

    def maximum(self, x: Var, y: Var) -> Var:
        """The greater of the two."""
        return self.b.op("Max", x, y)

    def minimum(self, x: Var, y: Var) -> Var:
        """The smaller of the two."""
        return self.b.op("Min", x, y)

    def less(self, x: Var, y: Var) -> Var:
        """Where x < y."""
        return self.b.op("Less", x, y)

    def equal(self, x: Var, y: Var) -> Var:
        """Where x == y."""
        return self.b.op("Equal", x, y)

    def is_nan(self, x: Var) -> Var:
        """Where x is not a number."""
        return self.b.op("IsNaN", x)

    def where(self, mask: Var, x: Any, y: Any) -> Var:
        """x where the mask holds, else y."""
        chosen = [v if isinstance(v, Var) else self.lift(v) for v in (x, y)]
        return self.b.op("Where", mask, *chosen)

    def logical_or(self, a: Var, b: Var) -> Var:
        """Where either holds."""
        return self.b.op("Or", a, b)

    def mask_to_number(self, mask: Var) -> Var:
        """1 where the mask holds, else 0."""
        return self.b.cast(mask, self.dtype)

    def sum(self, x: Var, axes: Sequence[int], keepdims: bool) -> Var:
        """The sum over these axes."""
        return self.b.sum(x, axes, keepdims)

    def max(self, x: Var, axes: Sequence[int], keepdims: bool) -> Var:
        """The greatest element over these axes."""
        return self.b.op("ReduceMax", x, self.b.ints(axes), keepdims=int(keepdims))

    def anchor(self, x: Var, axis: int) -> Var:
        """The maximum along an axis: what it adds to a derivative is taken away again."""
        return self.max(x, [axis], keepdims=True)

    def argmax(self, x: Var, axis: int) -> Var:
        """Where the first greatest element stands along an axis, the axis dropped."""
        return self.b.op("ArgMax", x, axis=axis, keepdims=0)

    def matmul(self, x: Var, y: Var) -> Var:
        """The matrix product over the last two axes."""
        return self.b.op("MatMul", x, y)

    def reshape(self, x: Var, shape: Sequence[int]) -> Var:
        """x in another shape."""
        return self.b.reshape(x, shape)

    def transpose(self, x: Var, perm: Sequence[int]) -> Var:
        """x with its axes permuted."""
        return self.b.transpose(x, perm)

    def concat(self, parts: Sequence[Var], axis: int) -> Var:
        """The parts one after another along an axis."""
        return self.b.op("Concat", *parts, axis=axis)

    def pad(self, x: Var, widths: Sequence[tuple[int, int]], fill: float) -> Var:
        """x with numbers around it, by (before, after) for each axis."""
        before, after = zip(*widths, strict=True)
        return self.b.op("Pad", x, self.b.ints((*before, *after)), self.full((), fill))

    def take(self, x: Any, indices: Any, axis: int) -> Var:
        """The slices of x at these indices of an axis."""
        data, at = (v if isinstance(v, Var) else self.lift(v) for v in (x, indices))
        return self.b.op("Gather", data, at, axis=axis)


def rank(x: Any) -> int:
    """The number of dimensions of an array, or of a value of a graph."""
    return x.rank if isinstance(x, Var) else x.ndim


def emitted(impl: Callable[..., Any]) -> Expand:
    """An `impl` as an expansion."""

    def expand(s: Site) -> Sequence[Var]:
        floats = [x.dtype for x in s.inputs if x is not None and x.dtype.is_float]
        n = Emit(s.b, floats[0] if floats else DType.FLOAT32)
        made = impl(n, *s.inputs, **s.attrs)
        results = made if isinstance(made, tuple) else (made,)
        return [y() if callable(y) else y for y in results]

    return expand


def typed(expand: Expand, outputs: int = 1) -> Infer:
    """Types as an expansion has them, tried out on the side.

    Args:
        expand: The expansion.
        outputs: How many results there are, where not even the operands' ranks are known.
    """

    def infer(s: Site) -> Sequence[Type]:
        given = [x for x in s.inputs if x is not None]
        if any(x.shape is None for x in given):
            return [(s.x.dtype, None)] * outputs
        aside = Builder(s.b.table)
        operands = [
            None
            if x is None
            else aside.adopt_input(x.value)
            if x.const is None
            else aside.adopt_constant(x.value, x.const)
            for x in s.inputs
        ]
        known = {d for x in given for d in x.shape or ()}
        made = expand(Site(aside, s.key, operands, s.attrs))
        # A symbol that was made up there may stand for something else here.
        return [
            (
                y.dtype,
                tuple(
                    d if isinstance(d, int) or d in known else s.b.fresh(1)[0]
                    for d in y.shape or ()
                ),
            )
            for y in made
        ]

    return infer
