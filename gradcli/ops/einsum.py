"""Einsum: the equation, and its product folded two operands at a time, by matrix products.

The fold is written once over a few operations on arrays, which either compute (the primal) or emit
nodes (the expansion).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from gradcli.graph import Builder, Dim, Type, Var, broadcast
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import dims, product, shape_part
from gradcli.ops.card import REQUIRED, Site
from gradcli.ops.kinds import composite

Label = str | int
"""A letter, or an axis of the ellipsis counted from behind: -1, -2, ..."""

Labels = tuple[Label, ...]


@dataclass(frozen=True)
class Equation:
    """Which label stands at which axis.

    Attributes:
        terms: Of each operand.
        output: Of the result.
    """

    terms: tuple[Labels, ...]
    output: Labels


def read(equation: str, ranks: Sequence[int]) -> Equation:
    """An equation as it applies to operands of these ranks.

    Raises:
        ValueError: When it does not fit them, or is none.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    written = left.split(",")
    if len(written) != len(ranks):
        raise ValueError(f"the equation {equation!r} is not one of {len(ranks)} operands")
    terms = tuple(_term(text, rank) for text, rank in zip(written, ranks, strict=True))
    letters = [label for term in terms for label in term if isinstance(label, str)]
    dots = tuple(sorted({label for term in terms for label in term if isinstance(label, int)}))
    if not arrow:
        once = sorted(label for label in letters if letters.count(label) == 1)
        return Equation(terms, (*dots, *once))
    output = _term(right, len(right.replace("...", "")) + len(dots) * ("..." in right))
    if len(set(output)) < len(output) or set(output) - {*letters, *dots}:
        raise ValueError(f"the result of {equation!r} repeats a label, or has one of its own")
    if set(dots) - set(output):
        raise ValueError(f"the result of {equation!r} lacks the ellipsis")
    return Equation(terms, output)


def _term(text: str, rank: int) -> Labels:
    head, dots, tail = text.partition("...")
    letters = head + tail
    rest = rank - len(letters)
    if (letters and not (letters.isascii() and letters.isalpha())) or rest < 0:
        raise ValueError(f"the term {text!r} does not fit {rank} dimensions")
    if rest and not dots:
        raise ValueError(f"the term {text!r} does not fit {rank} dimensions")
    return (*head, *range(-rest, 0), *tail)


# ---- the two ways to carry a fold out ------------------------------------------------------------


class _Tools(ABC):
    """What a fold does with arrays; a size is whatever the way itself calls one."""

    @abstractmethod
    def transpose(self, x: Any, perm: Sequence[int]) -> Any:
        """x with its axes permuted."""

    @abstractmethod
    def sum(self, x: Any, axes: Sequence[int]) -> Any:
        """The sum over these axes, dropped."""

    @abstractmethod
    def matmul(self, a: Any, b: Any) -> Any:
        """A stack of matrix products."""

    @abstractmethod
    def shape(self, x: Any, start: int, stop: int) -> Any:
        """The sizes of some axes."""

    @abstractmethod
    def product(self, sizes: Any) -> Any:
        """Sizes multiplied into one."""

    @abstractmethod
    def reshape(self, x: Any, *sizes: Any) -> Any:
        """x with these sizes one after another; plain numbers are sizes too."""

    @abstractmethod
    def diagonal(self, x: Any) -> Any:
        """The diagonal of the last two axes, as the last."""


class _Compute(_Tools):
    def __init__(self, n: Numbers) -> None:
        self.n = n

    def transpose(self, x: Any, perm: Sequence[int]) -> Any:
        return self.n.transpose(x, perm)

    def sum(self, x: Any, axes: Sequence[int]) -> Any:
        if not self.n.is_number(x):
            return np.sum(x, axis=tuple(axes), dtype=x.dtype)
        return self.n.sum(x, axes, keepdims=False)

    def matmul(self, a: Any, b: Any) -> Any:
        return self.n.matmul(a, b)

    def shape(self, x: Any, start: int, stop: int) -> Any:
        return x.shape[start:stop]

    def product(self, sizes: Any) -> Any:
        return (math.prod(sizes),)

    def reshape(self, x: Any, *sizes: Any) -> Any:
        return self.n.reshape(x, [d for part in sizes for d in part])

    def diagonal(self, x: Any) -> Any:
        count = x.shape[-1]
        flat = self.n.reshape(x, (*x.shape[:-2], count * count))
        return self.n.take(flat, np.arange(count) * (count + 1), -1)


class _Emit(_Tools):
    def __init__(self, b: Builder) -> None:
        self.b = b

    def transpose(self, x: Any, perm: Sequence[int]) -> Any:
        return self.b.transpose(x, perm)

    def sum(self, x: Any, axes: Sequence[int]) -> Any:
        return self.b.sum(x, axes=axes, keepdims=False)

    def matmul(self, a: Any, b: Any) -> Any:
        return self.b.op("MatMul", a, b)

    def shape(self, x: Any, start: int, stop: int) -> Any:
        return shape_part(self.b, x, start, stop)

    def product(self, sizes: Any) -> Any:
        return product(self.b, sizes)

    def reshape(self, x: Any, *sizes: Any) -> Any:
        return self.b.op("Reshape", x, dims(self.b, *sizes), allowzero=1)

    def diagonal(self, x: Any) -> Any:
        b = self.b
        count = shape_part(b, x, x.rank - 1, x.rank)
        flat = b.op("Reshape", x, dims(b, shape_part(b, x, 0, x.rank - 2), count * count))
        if count.const is not None:
            (known,) = count.const.tolist()
            return b.op("Gather", flat, b.ints(range(0, known * known, known + 1)), axis=-1)
        first, end, step = (b.reshape(v, []) for v in (b.ints([0]), count * count, count + 1))
        return b.op("Gather", flat, b.op("Range", first, end, step), axis=-1)


# ---- the fold ------------------------------------------------------------------------------------

Part = tuple[Any, Labels]
"""An array and the labels of its axes, none twice."""


def fold(t: _Tools, operands: Sequence[Any], equation: Equation) -> Any:
    """The sum over all labels that the output lacks, of the product of all operands."""
    given = zip(operands, equation.terms, strict=True)
    parts = _narrowed(t, [_diagonal(t, x, labels) for x, labels in given])
    sizes = {label: d for x, labels in parts for label, d in zip(labels, x.shape, strict=True)}
    while len(parts) > 1:
        i, j = _next_pair(parts, equation.output, sizes)
        rest = [part for k, part in enumerate(parts) if k not in (i, j)]
        kept = {*equation.output, *(label for _, labels in rest for label in labels)}
        first, second = parts[i], parts[j]
        first = _summed(t, first, kept | set(second[1]))
        second = _summed(t, second, kept | set(first[1]))
        parts = [*rest, _joined(t, first, second, kept)]
    x, labels = _summed(t, parts[0], set(equation.output))
    return t.transpose(x, [labels.index(label) for label in equation.output])


def _diagonal(t: _Tools, x: Any, labels: Labels) -> Part:
    """Only those elements that have one index wherever a label is repeated."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            two = [a for a, other in enumerate(labels) if other == label][:2]
            rest = [a for a in range(len(labels)) if a not in two]
            x = t.diagonal(t.transpose(x, [*rest, *two]))
            labels = (*(labels[a] for a in rest), label)
    return x, labels


def _narrowed(t: _Tools, parts: Sequence[Part]) -> list[Part]:
    """Without axes of size 1 that others have longer: such an operand does not vary along them."""
    wide = {
        label for x, labels in parts for label, d in zip(labels, x.shape, strict=True) if d != 1
    }
    out = []
    for x, labels in parts:
        gone = [a for a, d in enumerate(x.shape) if d == 1 and labels[a] in wide]
        out.append((t.sum(x, gone) if gone else x, _without(labels, gone)))
    return out


def _without(labels: Labels, axes: Sequence[int]) -> Labels:
    return tuple(label for a, label in enumerate(labels) if a not in axes)


def _summed(t: _Tools, part: Part, kept: set[Label]) -> Part:
    x, labels = part
    axes = [a for a, label in enumerate(labels) if label not in kept]
    return (t.sum(x, axes), _without(labels, axes)) if axes else part


def _next_pair(parts: Sequence[Part], output: Labels, sizes: dict[Label, Dim]) -> tuple[int, int]:
    """The two whose product is smallest, beside what they are themselves."""

    def count(labels: set[Label]) -> int:
        # Sizes that are not known count as long.
        return math.prod(d if isinstance(d, int) else 64 for d in map(sizes.__getitem__, labels))

    def growth(pair: tuple[int, int]) -> int:
        first, second = (set(parts[k][1]) for k in pair)
        others = (labels for k, (_, labels) in enumerate(parts) if k not in pair)
        kept = {*output, *(label for labels in others for label in labels)}
        return count((first | second) & kept) - count(first) - count(second)

    return min(combinations(range(len(parts)), 2), key=growth)


def _joined(t: _Tools, first: Part, second: Part, kept: set[Label]) -> Part:
    """Two multiplied, and summed over the labels of both that nobody else needs."""
    (a, of_a), (b, of_b) = first, second
    summed = tuple(label for label in of_a if label in of_b and label not in kept)
    stack = tuple(label for label in of_a if label in of_b and label in kept)
    left = tuple(label for label in of_a if label not in of_b)
    right = tuple(label for label in of_b if label not in of_a)
    if not summed or not (left or right):
        labels = (*of_a, *right)
        y = _aligned(t, a, of_a, labels) * _aligned(t, b, of_b, labels)
        return _summed(t, (y, labels), kept)
    rows = t.transpose(a, [of_a.index(label) for label in (*stack, *left, *summed)])
    columns = t.transpose(b, [of_b.index(label) for label in (*stack, *summed, *right)])
    y = t.matmul(
        _as_matrices(t, rows, len(stack), len(left), len(summed)),
        _as_matrices(t, columns, len(stack), len(summed), len(right)),
    )
    if len(left) != 1 or len(right) != 1:
        s, m = len(stack), len(left)
        last = t.shape(columns, s + len(summed), len(of_b))
        y = t.reshape(y, t.shape(y, 0, s), t.shape(rows, s, s + m), last)
    return y, (*stack, *left, *right)


def _aligned(t: _Tools, x: Any, labels: Labels, wanted: Labels) -> Any:
    """x with its axes in the wanted order, and of size 1 where it has none."""
    x = t.transpose(x, [labels.index(label) for label in wanted if label in labels])
    if len(labels) == len(wanted):
        return x
    axis, sizes = 0, []
    for label in wanted:
        sizes.append(t.shape(x, axis, axis + 1) if label in labels else (1,))
        axis += label in labels
    return t.reshape(x, *sizes)


def _as_matrices(t: _Tools, x: Any, stack: int, rows: int, columns: int) -> Any:
    """The groups of axes that stand for rows and for columns as one axis each."""
    if rows == columns == 1:
        return x
    between, end = stack + rows, stack + rows + columns
    high, wide = (t.product(t.shape(x, *at)) for at in ((stack, between), (between, end)))
    return t.reshape(x, t.shape(x, 0, stack), high, wide)


# ---- the card ------------------------------------------------------------------------------------


def _types(s: Site) -> Sequence[Type]:
    operands = [x for x in s.inputs if x is not None]
    shapes = [x.shape for x in operands if x.shape is not None]
    if len(shapes) < len(operands):
        return [(s.x.dtype, None)]
    equation = read(s["equation"], [len(shape) for shape in shapes])
    sizes: dict[Label, Dim] = {}
    for labels, shape in zip(equation.terms, shapes, strict=True):
        own: dict[Label, Dim] = {}
        for label, d in zip(labels, shape, strict=True):
            other = own.setdefault(label, d)
            if isinstance(other, int) and isinstance(d, int) and other != d:
                raise ValueError(f"a diagonal of {other} by {d} elements")
            own[label] = other if isinstance(other, int) else d
        for label, d in own.items():
            wide = broadcast((sizes.get(label, 1),), (d,))
            assert wide is not None
            sizes[label] = wide[0]
    return [(s.x.dtype, tuple(sizes[label] for label in equation.output))]


def _einsum(n: Numbers, *operands: Array, equation: str) -> Array:
    return fold(_Compute(n), operands, read(equation, [x.ndim for x in operands]))


def _expansion(s: Site) -> Sequence[Var]:
    operands = [x for x in s.inputs if x is not None]
    return [fold(_Emit(s.b), operands, read(s["equation"], [x.rank for x in operands]))]


EINSUM = composite(
    "Einsum",
    _einsum,
    _expansion,
    inputs=("Inputs*",),
    infer=_types,
    attrs={"equation": REQUIRED},
)
