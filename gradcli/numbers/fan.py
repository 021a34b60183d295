"""A value and a fan of slopes: every slope along a line that conventions at kinks may come to.

At a tie a rule takes the slope of one branch, or shares it out among those that tie. Whatever it
takes lies between the least and the greatest slope of the tied branches; and what the conventions
of several operators compose to lies in the interval that such intervals propagate to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.numbers.base import Array, Mask, Numbers
from gradcli.numbers.floats import complex_, real

STEP = 1e-100
"""Of the complex step that slopes of elementary functions are taken with: nothing is lost by it."""


class FanArray:
    """Numbers that move along a line, with an interval of slopes each.

    Attributes:
        n: The number system.
        value: The numbers, float64.
        slope: The middles of the intervals.
        spread: Half of their widths; 0 where no convention matters.
    """

    __array_ufunc__ = None  # NumPy's arrays leave arithmetic with these to the methods below
    __hash__ = None  # type: ignore[assignment] # whether two are equal, only `n` can say

    def __init__(self, n: Fan, value: Array, slope: Array, spread: Array) -> None:
        self.n = n
        self.value, self.slope, self.spread = np.broadcast_arrays(value, slope, spread)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def moves(self) -> np.ndarray:
        """Which numbers have any slope but 0."""
        return np.asarray((self.slope != 0) | (self.spread != 0))

    @property
    def least(self) -> np.ndarray:
        """The least slopes."""
        return np.asarray(self.slope - self.spread)

    @property
    def greatest(self) -> np.ndarray:
        """The greatest slopes."""
        return np.asarray(self.slope + self.spread)

    def times(self, value: Array, factor: Array) -> FanArray:
        """Slopes times a factor each, of this value; 0 times infinity is 0 here."""
        return FanArray(
            self.n, value, _product(factor, self.slope), _product(np.abs(factor), self.spread)
        )

    def __neg__(self) -> FanArray:
        return FanArray(self.n, -self.value, -self.slope, self.spread)

    def __add__(self, other: Any) -> FanArray:
        y = self.n.number(other)
        value, slope = self.value + y.value, self.slope + y.slope
        return FanArray(self.n, value, slope, self.spread + y.spread)

    def __sub__(self, other: Any) -> FanArray:
        return self + -self.n.number(other)

    def __mul__(self, other: Any) -> FanArray:
        y = self.n.number(other)
        product = self.value * y.value
        return self.times(product, y.value) + y.times(0.0 * product, self.value)

    def __truediv__(self, other: Any) -> FanArray:
        y = self.n.number(other)
        quotient = self.value / y.value
        mine, theirs = self.times(quotient, 1.0 / y.value), y.times(quotient, quotient / y.value)
        slope, spread = mine.slope - theirs.slope, mine.spread + theirs.spread
        return FanArray(self.n, quotient, slope, spread)

    def __radd__(self, other: Any) -> FanArray:
        return self.n.number(other) + self

    def __rsub__(self, other: Any) -> FanArray:
        return self.n.number(other) - self

    def __rmul__(self, other: Any) -> FanArray:
        return self.n.number(other) * self

    def __rtruediv__(self, other: Any) -> FanArray:
        return self.n.number(other) / self


@dataclass(frozen=True)
class FanMask:
    """Truth values, and which of them hang on a tie."""

    at: np.ndarray
    open: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.at.shape

    @property
    def ndim(self) -> int:
        return self.at.ndim


class Fan(Numbers):
    """Float64 numbers along a line, each with the interval of slopes that conventions allow.

    Values, comparisons and orders are those of `real`. Where two numbers that are compared tie, a
    choice between branches has the slopes of both and all between. Steps have the slope 0.

    Args:
        blur: Numbers closer than this part of the largest of their tensors tie: a method in a
            narrower arithmetic may see either as the greater.
    """

    name = "fan"
    dtype = np.dtype(object)

    def __init__(self, blur: float = 0.0) -> None:
        self.blur = blur

    # ---- in and out -----------------------------------------------------------------------------

    def lift(self, array: Any) -> Array:
        if isinstance(array, FanArray):
            return array
        lifted = real.lift(array)
        return self._constant(lifted) if real.is_number(lifted) else lifted

    def lift_along(self, x: Array, direction: Array) -> FanArray:
        """x + t * direction.

        Raises:
            ValueError: When the shapes differ.
        """
        value, slope = np.asarray(x, np.float64), np.asarray(direction, np.float64)
        if value.shape != slope.shape:
            raise ValueError(f"a direction of shape {slope.shape} at {value.shape}")
        return FanArray(self, value, slope, np.zeros(()))

    def lower(self, x: Array) -> np.ndarray:
        return np.asarray(x.value if isinstance(x, FanArray) else x)

    def full(self, shape: Sequence[int], number: float) -> Array:
        return self._constant(np.full(tuple(shape), number))

    def number(self, x: Any) -> FanArray:
        """An operand as numbers, integers and Python's floats too."""
        return x if isinstance(x, FanArray) else self._constant(np.asarray(x, np.float64))

    def is_number(self, x: Array) -> bool:
        return isinstance(x, FanArray)

    def is_mask(self, x: Array) -> bool:
        return isinstance(x, FanMask) or super().is_mask(x)

    def _constant(self, value: np.ndarray) -> FanArray:
        return FanArray(self, value, np.zeros(()), np.zeros(()))

    def to_integer(self, x: Array, dtype: np.dtype[Any]) -> np.ndarray:
        return real.to_integer(x.value, dtype)

    # ---- elementwise ----------------------------------------------------------------------------

    def _chain(self, x: FanArray, name: str) -> FanArray:
        """An elementary function, its slope by the complex step."""
        slope = np.imag(getattr(complex_, name)(x.value + 1j * STEP)) / STEP
        return x.times(getattr(real, name)(x.value), slope)

    def exp(self, x: Array) -> Array:
        return self._chain(x, "exp")

    def log(self, x: Array) -> Array:
        return self._chain(x, "log")

    def log1p(self, x: Array) -> Array:
        return self._chain(x, "log1p")

    def expm1(self, x: Array) -> Array:
        return self._chain(x, "expm1")

    def sqrt(self, x: Array) -> Array:
        return self._chain(x, "sqrt")

    def tanh(self, x: Array) -> Array:
        return self._chain(x, "tanh")

    def sigmoid(self, x: Array) -> Array:
        return self._chain(x, "sigmoid")

    def softplus(self, x: Array) -> Array:
        return self._chain(x, "softplus")

    def erf(self, x: Array) -> Array:
        return self._chain(x, "erf")

    def erfc(self, x: Array) -> Array:
        return self._chain(x, "erfc")

    def sin(self, x: Array) -> Array:
        return self._chain(x, "sin")

    def cos(self, x: Array) -> Array:
        return self._chain(x, "cos")

    def tan(self, x: Array) -> Array:
        return self._chain(x, "tan")

    def asin(self, x: Array) -> Array:
        return self._chain(x, "asin")

    def acos(self, x: Array) -> Array:
        return self._chain(x, "acos")

    def atan(self, x: Array) -> Array:
        return self._chain(x, "atan")

    def sinh(self, x: Array) -> Array:
        return self._chain(x, "sinh")

    def cosh(self, x: Array) -> Array:
        return self._chain(x, "cosh")

    def asinh(self, x: Array) -> Array:
        return self._chain(x, "asinh")

    def acosh(self, x: Array) -> Array:
        return self._chain(x, "acosh")

    def atanh(self, x: Array) -> Array:
        return self._chain(x, "atanh")

    def power(self, x: Array, y: Array) -> Array:
        x, y = self.number(x), self.number(y)
        value = real.power(x.value, y.value)
        of_base = np.imag(complex_.power(x.value + 1j * STEP, y.value + 0j)) / STEP
        of_exponent = np.imag(complex_.power(x.value + 0j, y.value + 1j * STEP)) / STEP
        return x.times(value, of_base) + y.times(0.0 * value, of_exponent)

    def sign(self, x: Array) -> Array:
        return self._constant(real.sign(x.value))

    def floor(self, x: Array) -> Array:
        return self._constant(real.floor(x.value))

    def round_to(self, x: Array, dtype: np.dtype[Any]) -> Array:
        return self._constant(real.round_to(x.value, dtype))

    # ---- comparisons and choice -----------------------------------------------------------------

    def less(self, x: Array, y: Array) -> Mask:
        return self._compared(real.less, x, y)

    def equal(self, x: Array, y: Array) -> Mask:
        return self._compared(real.equal, x, y)

    def _compared(self, compare: Callable[[Array, Array], np.ndarray], x: Array, y: Array) -> Mask:
        if not self.is_number(x) and not self.is_number(y):
            return self._masked(compare, x, y)
        x, y = self.number(x), self.number(y)
        return self._mask(compare(x.value, y.value), self._tied(x, y))

    def _tied(self, x: FanArray, y: FanArray) -> np.ndarray:
        """Where two numbers tie, and one of them moves."""
        size = max(_largest(x.value), _largest(y.value))
        with np.errstate(invalid="ignore"):
            near = (x.value == y.value) | (np.abs(x.value - y.value) <= self.blur * size)
        return np.asarray(near & (x.moves | y.moves))

    def _mask(self, at: np.ndarray, open_: np.ndarray) -> Mask:
        at, open_ = np.broadcast_arrays(np.asarray(at, bool), open_)
        return FanMask(at, open_) if np.any(open_) else at

    def _masked(self, function: Callable[..., np.ndarray], *masks: Mask) -> Mask:
        """A function of truth values, open where another answer of an open one would change it."""
        at = function(*map(_at, masks))
        open_ = np.zeros(np.shape(at), bool)
        for k, mask in enumerate(masks):
            if isinstance(mask, FanMask):
                other = function(*(_at(m) if j != k else ~mask.at for j, m in enumerate(masks)))
                open_ = open_ | (mask.open & (other != at)) | _both_open(masks)
        return self._mask(at, np.broadcast_to(open_, np.shape(at)))

    def logical_not(self, mask: Mask) -> Mask:
        return self._masked(np.logical_not, mask)

    def logical_and(self, a: Mask, b: Mask) -> Mask:
        return self._masked(np.logical_and, a, b)

    def logical_or(self, a: Mask, b: Mask) -> Mask:
        return self._masked(np.logical_or, a, b)

    def mask_to_number(self, mask: Mask) -> Array:
        return self._constant(real.mask_to_number(_at(mask)))

    def where(self, mask: Mask, x: Array, y: Array) -> Array:
        if self.is_mask(x) and self.is_mask(y):
            return self._masked(np.where, mask, x, y)
        if not self.is_number(x) and not self.is_number(y):
            return real.where(_at(mask), x, y)
        x, y = self.number(x), self.number(y)
        chosen = FanArray(self, *(np.where(_at(mask), a, b) for a, b in _parts(x, y)))
        return self._either(mask.open, chosen, x, y) if isinstance(mask, FanMask) else chosen

    def _either(self, where: np.ndarray, chosen: FanArray, *branches: FanArray) -> FanArray:
        """The chosen numbers, in these places with the slopes of all branches."""
        low = np.minimum.reduce([b.least for b in map(self._fit(where, chosen), branches)])
        high = np.maximum.reduce([b.greatest for b in map(self._fit(where, chosen), branches)])
        return self._between(where, chosen, low, high)

    def _fit(self, where: np.ndarray, chosen: FanArray) -> Callable[[FanArray], FanArray]:
        shape = np.broadcast_shapes(where.shape, chosen.shape)
        return lambda x: self.broadcast_to(x, shape)

    def _between(
        self, where: np.ndarray, chosen: FanArray, low: np.ndarray, high: np.ndarray
    ) -> FanArray:
        slope = np.where(where, low / 2 + high / 2, chosen.slope)
        return FanArray(
            self, chosen.value, slope, np.where(where, high / 2 - low / 2, chosen.spread)
        )

    def maximum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return real.maximum(x, y)
        x, y = self.number(x), self.number(y)
        second = (x.value < y.value) | np.isnan(y.value)
        chosen = FanArray(self, *(np.where(second, b, a) for a, b in _parts(x, y)))
        return self._either(self._tied(x, y), chosen, x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return real.minimum(x, y)
        return -self.maximum(-self.number(x), -self.number(y))

    def abs(self, x: Array) -> Array:
        return self.maximum(x, -x) if self.is_number(x) else real.abs(x)

    # ---- reductions and products ----------------------------------------------------------------

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        return self._each(lambda part: real.sum(part, axes, keepdims), x)

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return real.max(x, axes, keepdims)
        top = real.max(x.value, axes, True)
        near = top - x.value <= self.blur * _largest(x.value)
        rivals = (x.value == top) | near
        low = np.min(x.least, axis=tuple(axes), keepdims=True, where=rivals, initial=np.inf)
        high = np.max(x.greatest, axis=tuple(axes), keepdims=True, where=rivals, initial=-np.inf)
        low, high = (np.where(np.isinf(top), 0.0, end) for end in (low, high))
        made = self._between(rivals.any(tuple(axes), keepdims=True), self._constant(top), low, high)
        if keepdims:
            return made
        axes = tuple(a % x.ndim for a in axes)
        return self._each(lambda part: np.squeeze(part, axes), made)

    def argmax(self, x: Array, axis: int) -> np.ndarray:
        return real.argmax(self.lower(x), axis)

    def argsort(self, x: Array, axis: int) -> np.ndarray:
        return real.argsort(self.lower(x), axis)

    def anchor(self, x: Array, axis: int) -> Array:
        return self._constant(real.anchor(x.value, axis))

    def matmul(self, a: Array, b: Array) -> Array:
        if not self.is_number(a) and not self.is_number(b):
            return real.matmul(a, b)
        a, b = self.number(a), self.number(b)
        return FanArray(
            self,
            a.value @ b.value,
            a.slope @ b.value + a.value @ b.slope,
            a.spread @ np.abs(b.value) + np.abs(a.value) @ b.spread,
        )

    # ---- structure: the same of every part ------------------------------------------------------

    def _each(self, function: Callable[[Any], Any], x: Array) -> Array:
        if isinstance(x, FanArray):
            return FanArray(self, *map(function, (x.value, x.slope, x.spread)))
        if isinstance(x, FanMask):
            return self._mask(function(x.at), function(x.open))
        return function(x)

    def _together(self, function: Callable[..., Any], *xs: Array) -> Array:
        """A function of the parts of several arrays, part by part."""
        if any(isinstance(x, FanArray) for x in xs):
            return FanArray(self, *(function(*p) for p in _parts(*map(self.number, xs))))
        if any(isinstance(x, FanMask) for x in xs):
            return self._mask(function(*map(_at, xs)), function(*map(_open, xs)))
        return function(*xs)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return self._each(lambda part: real.reshape(part, shape), x)

    def transpose(self, x: Array, perm: Sequence[int]) -> Array:
        return self._each(lambda part: real.transpose(part, perm), x)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return self._each(lambda part: real.broadcast_to(part, shape), x)

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        return self._together(lambda *xs: real.concat(xs, axis), *parts)

    def take(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        return self._each(lambda part: real.take(part, indices, axis), x)

    def take_along(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        return self._each(lambda part: real.take_along(part, indices, axis), x)

    def ordered(self, x: Array, places: np.ndarray, axis: int) -> Array:
        made = self.take_along(x, places, axis)
        if not isinstance(x, FanArray):
            return made

        def row(part: np.ndarray) -> np.ndarray:
            return np.moveaxis(np.broadcast_to(part, x.shape), axis, -1)[..., None, :]

        # Of those that tie an order may put any there.
        value = np.moveaxis(made.value, axis, -1)[..., None]
        with np.errstate(invalid="ignore"):
            near = np.abs(value - row(x.value)) <= self.blur * _largest(x.value)
        rivals = (value == row(x.value)) | near
        low = np.min(np.where(rivals, row(x.least), np.inf), axis=-1, initial=np.inf)
        high = np.max(np.where(rivals, row(x.greatest), -np.inf), axis=-1, initial=-np.inf)
        several, low, high = (
            np.moveaxis(part, -1, axis) for part in (np.sum(rivals, axis=-1) > 1, low, high)
        )
        return self._between(several, made, low, high)

    def slice(self, x: Array, cuts: Sequence[slice]) -> Array:
        return self._each(lambda part: real.slice(part, cuts), x)

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], fill: Array) -> Array:
        return self._together(lambda part, f: real.pad(part, widths, f), x, fill)

    def windows(
        self, x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return self._each(lambda part: real.windows(part, kernel, strides, dilations), x)

    def overlap_add(
        self, x: Array, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return self._each(lambda part: real.overlap_add(part, sizes, strides, dilations), x)

    def scatter(
        self, x: Array, places: tuple[np.ndarray, ...], updates: Array, reduction: str
    ) -> Array:
        return self._together(lambda p, u: real.scatter(p, places, u, reduction), x, updates)


def _product(factor: Array, part: np.ndarray) -> np.ndarray:
    return np.where(part == 0, 0.0, factor * part)


def _parts(*xs: FanArray) -> list[tuple[np.ndarray, ...]]:
    """The parts of the same kind, side by side."""
    return list(zip(*((x.value, x.slope, x.spread) for x in xs), strict=True))


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), where=np.isfinite(x), initial=0.0))


def _at(mask: Mask) -> Mask:
    return mask.at if isinstance(mask, FanMask) else mask


def _open(mask: Mask) -> Mask:
    return mask.open if isinstance(mask, FanMask) else np.zeros(np.shape(mask), bool)


def _both_open(masks: Sequence[Mask]) -> np.ndarray | np.bool_:
    """Where more than one is open: then any answer may come."""
    count = sum(np.asarray(_open(mask), int) for mask in masks)
    return np.asarray(count > 1)
