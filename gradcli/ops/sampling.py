"""Sampling images between their elements: what grids, regions and deformed windows share.

Each operator is written once, over a `Medium`: it is either computed, on arrays of a number system,
or emitted, as nodes of a graph. So the primal and the expansion are the same formula.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Var
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import dims, shape_part

Term = Any
"""An array of numbers or a Var: `+ - * /` and unary minus work on it, also with Python's floats."""

Whole = Any
"""Whole numbers: an integer array or a Var of int64."""

Size = Any
"""A dimension: an int, or, where it is known only at run time, a Var of int64[1]."""

KEYS = -0.75
"""The slope of cubic interpolation that GridSample takes."""


class Medium(ABC):
    """What a formula is written in."""

    @abstractmethod
    def sizes(self, x: Term) -> list[Size]:
        """The dimensions of x."""

    @abstractmethod
    def number(self, size: Size) -> Term:
        """A dimension as a number."""

    @abstractmethod
    def steps(self, count: Size) -> Whole:
        """0, 1, 2, ... as many as that: whole numbers [count]."""

    @abstractmethod
    def widest(self, x: Term) -> Size:
        """The greatest of numbers that are integers, as a dimension; at least 1."""

    @abstractmethod
    def constant(self, array: np.ndarray) -> Term:
        """Known numbers."""

    @abstractmethod
    def as_numbers(self, at: Whole) -> Term:
        """Whole numbers as numbers."""

    @abstractmethod
    def whole(self, x: Term) -> Whole:
        """Numbers, all of them integers, as whole numbers."""

    @abstractmethod
    def floor(self, x: Term) -> Term:
        """The greatest integer not above x."""

    @abstractmethod
    def round(self, x: Term) -> Term:
        """The nearest integer, of two the even one."""

    @abstractmethod
    def abs(self, x: Term) -> Term:
        """The distance to 0."""

    @abstractmethod
    def least(self, x: Term, bound: Term) -> Term:
        """x, or the bound where x is above it."""

    @abstractmethod
    def most(self, x: Term, bound: Term) -> Term:
        """x, or the bound where x is below it."""

    @abstractmethod
    def between(self, x: Term, low: Term, high: Term) -> Any:
        """Where low < x < high, as a mask."""

    @abstractmethod
    def within(self, x: Term, low: Term, high: Term) -> Any:
        """Where low <= x <= high, as a mask."""

    @abstractmethod
    def both(self, a: Any, b: Any) -> Any:
        """Where both masks hold."""

    @abstractmethod
    def only(self, mask: Any, x: Term | None) -> Term:
        """x (1 when None) where the mask holds, else 0."""

    @abstractmethod
    def choose(self, mask: Any, x: Term, number: float) -> Term:
        """x where the mask holds, else the number."""

    @abstractmethod
    def reshape(self, x: Term, sizes: Sequence[Size]) -> Term:
        """x in another shape; one of the sizes may be -1."""

    @abstractmethod
    def transpose(self, x: Term, perm: Sequence[int]) -> Term:
        """x with its axes permuted."""

    @abstractmethod
    def take(self, x: Term, at: Whole, axis: int) -> Term:
        """Slices of x at these places of an axis; a single place drops the axis."""

    @abstractmethod
    def sum(self, x: Term, axes: Sequence[int]) -> Term:
        """The sum over these axes, which are dropped."""

    @abstractmethod
    def max(self, x: Term, axes: Sequence[int]) -> Term:
        """The greatest element over these axes, which are dropped."""

    @abstractmethod
    def matmul(self, a: Term, b: Term) -> Term:
        """The matrix product over the last two axes."""

    def rank(self, x: Term) -> int:
        """The number of x's dimensions."""
        return len(x.shape)

    @abstractmethod
    def apart(self, x: Term, axes: Sequence[int]) -> Term:
        """x with axes of size 1 at these places of the result."""

    @abstractmethod
    def apart_whole(self, x: Whole, axes: Sequence[int]) -> Whole:
        """The same of whole numbers."""

    @abstractmethod
    def unstack(self, x: Term, count: int, axis: int) -> Sequence[Term]:
        """All slices of x along an axis of this size, without it."""

    @abstractmethod
    def stack(self, parts: Sequence[Term]) -> Term:
        """Terms of one shape along a new first axis."""


class Computed(Medium):
    """Arrays of a number system."""

    def __init__(self, n: Numbers) -> None:
        self.n = n

    def sizes(self, x: Array) -> list[Size]:
        return list(x.shape)

    def number(self, size: Size) -> Array:
        return self.n.full((), float(size))

    def steps(self, count: Size) -> np.ndarray:
        return np.arange(count)

    def widest(self, x: Array) -> Size:
        return max([1, *self.whole(x).reshape(-1).tolist()])

    def constant(self, array: np.ndarray) -> Array:
        return self.n.lift(np.asarray(array, np.float64))

    def as_numbers(self, at: np.ndarray) -> Array:
        return self.n.lift(np.asarray(at, np.float64))

    def whole(self, x: Array) -> np.ndarray:
        return self.n.to_integer(x, np.dtype(np.int64))

    def floor(self, x: Array) -> Array:
        # Decided here and now: expressions in expressions under floor would grow without end.
        return self.as_numbers(self.whole(self.n.floor(x)))

    def round(self, x: Array) -> Array:
        n, up = self.n, self.floor(x + 0.5)
        odd = up - self.floor(up / 2.0) * 2.0
        return n.where(n.equal(up - x, n.full((), 0.5)), up - odd, up)

    def abs(self, x: Array) -> Array:
        return self.n.abs(x)

    def _constant(self, x: Array | float) -> Array:
        return self.n.full((), x) if isinstance(x, float) else x

    def least(self, x: Array, bound: Array | float) -> Array:
        return self.n.minimum(x, self._constant(bound))

    def most(self, x: Array, bound: Array | float) -> Array:
        return self.n.maximum(x, self._constant(bound))

    def between(self, x: Array, low: Array | float, high: Array | float) -> Any:
        above = self.n.less(self._constant(low), x)
        return self.n.logical_and(above, self.n.less(x, self._constant(high)))

    def within(self, x: Array, low: Array | float, high: Array | float) -> Any:
        below = self.n.less(x, self._constant(low))
        return self.n.logical_not(self.n.logical_or(below, self.n.less(self._constant(high), x)))

    def both(self, a: Any, b: Any) -> Any:
        return self.n.logical_and(a, b)

    def only(self, mask: Any, x: Array | None) -> Array:
        return self.n.mask_to_number(mask) if x is None else self.choose(mask, x, 0.0)

    def choose(self, mask: Any, x: Array, number: float) -> Array:
        return self.n.where(mask, x, self.n.full((), number))

    def apart(self, x: Array, axes: Sequence[int]) -> Array:
        kept = iter(x.shape)
        shape = [1 if a in axes else next(kept) for a in range(x.ndim + len(axes))]
        return self.n.reshape(x, shape)

    def apart_whole(self, x: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        return np.expand_dims(x, tuple(axes))

    def unstack(self, x: Array, count: int, axis: int) -> Sequence[Array]:
        return [self.n.take(x, np.asarray(k), axis) for k in range(count)]

    def stack(self, parts: Sequence[Array]) -> Array:
        return self.n.concat([self.apart(x, [0]) for x in parts], 0)

    def reshape(self, x: Array, sizes: Sequence[Size]) -> Array:
        return self.n.reshape(x, sizes)

    def transpose(self, x: Array, perm: Sequence[int]) -> Array:
        return self.n.transpose(x, perm)

    def take(self, x: Array, at: Whole, axis: int) -> Array:
        return self.n.take(x, np.asarray(at), axis)

    def sum(self, x: Array, axes: Sequence[int]) -> Array:
        return self.n.sum(x, axes, keepdims=False)

    def max(self, x: Array, axes: Sequence[int]) -> Array:
        return self.n.max(x, axes, keepdims=False)

    def matmul(self, a: Array, b: Array) -> Array:
        return self.n.matmul(a, b)


class Emitted(Medium):
    """Nodes of a graph.

    Args:
        like: A value whose dtype numbers have.
    """

    def __init__(self, like: Var) -> None:
        self.b: Builder = like.b
        self.dtype = like.dtype

    def sizes(self, x: Var) -> list[Size]:
        parts = [shape_part(self.b, x, axis, axis + 1) for axis in range(x.rank)]
        return [part if part.const is None else int(part.const[0]) for part in parts]

    def number(self, size: Size) -> Term:
        return self.b.cast(size, self.dtype) if isinstance(size, Var) else float(size)

    def steps(self, count: Size) -> Var:
        if not isinstance(count, Var):
            return self.b.ints(range(count))
        ends = (self.b.constant(np.int64(k)) for k in (0, 1))
        start, step = ends
        return self.b.op("Range", start, self.b.reshape(count, []), step)

    def widest(self, x: Var) -> Size:
        one = self.constant(np.ones(1))  # where there is nothing, a maximum would fail
        every = self.b.op("Concat", self.b.reshape(x, [-1]), one, axis=0)
        return self.b.reshape(self.whole(self.max(every, [0])), [1])

    def constant(self, array: np.ndarray) -> Var:
        return self.b.constant(array, self.dtype)

    def as_numbers(self, at: Var) -> Var:
        if at.const is not None:
            return self.b.constant(at.const, self.dtype)
        return self.b.cast(at, self.dtype)

    def whole(self, x: Var) -> Var:
        # A cast cuts off: of an integer less a rounding error it would take the one below.
        return self.b.op("Cast", self.b.op("Round", x), to="int64")

    def floor(self, x: Var) -> Var:
        return self.b.op("Floor", x)

    def round(self, x: Var) -> Var:
        return self.b.op("Round", x)

    def abs(self, x: Var) -> Var:
        return self.b.op("Abs", x)

    def least(self, x: Var, bound: Var | float) -> Var:
        return self.b.op("Min", x, self.b.like(bound, x))

    def most(self, x: Var, bound: Var | float) -> Var:
        return self.b.op("Max", x, self.b.like(bound, x))

    def between(self, x: Var, low: Var | float, high: Var | float) -> Var:
        return self.b.op("And", x > low, x < high)

    def within(self, x: Var, low: Var | float, high: Var | float) -> Var:
        return self.b.op("Not", self.b.op("Or", x < low, x > high))

    def both(self, a: Var, b: Var) -> Var:
        return self.b.op("And", a, b)

    def only(self, mask: Var, x: Var | None) -> Var:
        return self.b.cast(mask, self.dtype) if x is None else self.choose(mask, x, 0.0)

    def choose(self, mask: Var, x: Var, number: float) -> Var:
        return self.b.where(mask, x, number)

    def apart(self, x: Var, axes: Sequence[int]) -> Var:
        return self.b.unsqueeze(x, axes)

    def apart_whole(self, x: Var, axes: Sequence[int]) -> Var:
        return self.b.unsqueeze(x, axes)

    def unstack(self, x: Var, count: int, axis: int) -> Sequence[Var]:
        # Not by Gather: the transpose of Split is one Concat, and not a sum by places for each.
        parts = self.b.ops("Split", x, None, outputs=count, axis=axis, num_outputs=count)
        return [self.b.op("Squeeze", part, self.b.ints([axis])) for part in parts]

    def stack(self, parts: Sequence[Var]) -> Var:
        return self.b.op("Concat", *(self.apart(x, [0]) for x in parts), axis=0)

    def reshape(self, x: Var, sizes: Sequence[Size]) -> Var:
        parts = [d if isinstance(d, Var) else [d] for d in sizes]
        shape = dims(self.b, *parts)
        zeros = shape.const is None or 0 in shape.const
        inferred = any(not isinstance(d, Var) and d == -1 for d in sizes)
        return self.b.op("Reshape", x, shape, allowzero=int(bool(zeros and not inferred)))

    def transpose(self, x: Var, perm: Sequence[int]) -> Var:
        return self.b.transpose(x, perm)

    def take(self, x: Var, at: Whole, axis: int) -> Var:
        places = at if isinstance(at, Var) else self.b.constant(np.asarray(at, np.int64))
        return self.b.op("Gather", x, places, axis=axis)

    def sum(self, x: Var, axes: Sequence[int]) -> Var:
        if x.shape is not None and all(x.shape[a] == 1 for a in axes):
            return self.b.op("Squeeze", x, self.b.ints(axes))
        return self.b.sum(x, axes, keepdims=False)

    def max(self, x: Var, axes: Sequence[int]) -> Var:
        return self.b.op("ReduceMax", x, self.b.ints(axes), keepdims=0)

    def matmul(self, a: Var, b: Var) -> Var:
        return self.b.op("MatMul", a, b)


# ---- the formulas --------------------------------------------------------------------------------


def table(m: Medium, x: Term) -> Term:
    """The elements of an image x [N, C, D1..Dk] one under another: [N*D1*..*Dk, C]."""
    channels = m.sizes(x)[1]
    last = m.transpose(x, (0, *range(2, m.rank(x)), 1))
    return m.reshape(last, [-1, channels])


def times(sizes: Sequence[Size]) -> Size:
    """The product of dimensions."""
    known = math.prod(d for d in sizes if not isinstance(d, Var))
    total: Size = known
    for d in sizes:
        if isinstance(d, Var):
            total = d * total
    return total


def reflect(m: Medium, x: Term, size: Size, corners: bool) -> Term:
    """x thrown back at both ends, as often as it takes.

    The ends are the outermost elements' centres (`corners`) or their outer edges.
    """
    low = 0.0 if corners else -0.5
    if not isinstance(size, Var) and size == 1 and corners:
        return x * 0.0
    span = m.number(size) - 1.0 if corners else m.number(size)
    if isinstance(span, Var) and corners:
        span = m.most(span, 1.0)  # of a single element, whatever comes is cut off later
    far = m.abs(x - low)
    turns = m.floor(far / span)
    rest = far - turns * span
    odd = turns - m.floor(turns / 2.0) * 2.0
    return rest + odd * (span - rest * 2.0) + low


def taps(
    m: Medium, x: Term, size: Size, mode: str, padding: str, corners: bool = False
) -> tuple[Whole, Term | None]:
    """Which elements of one axis a sample at x is made of, and their weights.

    Args:
        m: The medium.
        x: Where: 0 is the first element, size - 1 the last.
        size: Elements of the axis.
        mode: `nearest`, `linear` or `cubic`.
        padding: What lies outside: `zeros`, the last element (`border`), or a `reflection`.
        corners: Where it is reflected, see `reflect`.

    Returns:
        Places within the axis, and weights, both [taps, ...]; None for weights of 1.
    """
    # Elements are padded, not x: where x is outside, that comes to the same.
    last = m.number(size) - 1.0
    at, weights = _weights(m, x, mode)
    place = at
    if padding == "zeros":
        weights = m.only(m.between(at, -0.5, last + 0.5), weights)
    elif padding == "reflection":
        place = reflect(m, at, size, corners)
    elif padding != "border":
        raise UnsupportedError(f"padding {padding!r}")
    return m.whole(m.least(m.most(place, 0.0), last)), weights


def _weights(m: Medium, x: Term, mode: str) -> tuple[Term, Term | None]:
    """The elements around x as numbers, and their weights: [taps, ...]."""
    if mode == "nearest":
        return m.apart(m.round(x), [0]), None

    def column(*numbers: float) -> Term:
        return m.constant(np.reshape(numbers, (-1, *[1] * m.rank(x))))

    below = m.floor(x)
    r, around = x - below, m.apart(below, [0])
    if mode == "linear":
        return around + column(0.0, 1.0), m.apart(r, [0]) * column(-1.0, 1.0) + column(1.0, 0.0)
    if mode == "cubic":
        weights = (far(r + 1.0), near(r), near(1.0 - r), far(2.0 - r))
        return around + column(-1.0, 0.0, 1.0, 2.0), m.stack(weights)
    raise UnsupportedError(f"interpolation {mode!r}")


def near(x: Term, slope: float = KEYS) -> Term:
    """Keys' weight of an element at a distance of at most 1."""
    return (x * (slope + 2) - (slope + 3)) * x * x + 1.0


def far(x: Term, slope: float = KEYS) -> Term:
    """Keys' weight of an element at a distance between 1 and 2."""
    return ((x * slope - 5 * slope) * x + 8 * slope) * x - 4 * slope


def terms(
    m: Medium,
    rows: Term,
    first: Whole,
    sizes: Sequence[Size],
    axes: Sequence[tuple[Whole, Term | None]],
) -> Term:
    """The weighted elements whose sum over the leading axes is a sample: [taps1..tapsk, ..., C].

    All of them are gathered at once, and so its transpose is a single sum by places.

    Args:
        m: The medium.
        rows: Elements [all, C], see `table`.
        first: The row where each sample's image begins.
        sizes: The image's spatial dimensions.
        axes: For each of them, what `taps` says.
    """
    k = len(axes)
    place: Whole = None
    weight: Term | None = None
    for axis, (size, (at, factor)) in enumerate(zip(sizes, axes, strict=True)):
        others = [a for a in range(k) if a != axis]
        own = m.apart_whole(at, others)
        place = own if place is None else place * size + own
        if factor is not None:
            share = m.apart(factor, others)
            weight = share if weight is None else weight * share
    picked = m.take(rows, place + first, 0)
    return picked if weight is None else picked * m.apart(weight, [m.rank(weight)])
