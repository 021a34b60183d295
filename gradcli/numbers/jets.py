"""Numbers a + b t: what holds of both coefficients alike, arithmetic and structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.numbers.ball import Ball
from gradcli.numbers.base import Array, Mask, Numbers
from gradcli.numbers.boxed import plain


class SeriesArray:
    """Numbers a + b t + O(t^2): arrays of their coefficients, side by side.

    Attributes:
        n: The number system.
        value: The coefficients a, balls.
        slope: The coefficients b, balls; exactly 0 where nothing moves.
        moves: Which numbers may hang on t at all; the others are constants, in every order of t.
    """

    __array_ufunc__ = None  # NumPy's arrays leave arithmetic with these to the methods below
    __hash__ = None  # type: ignore[assignment] # whether two are equal, only `n` can say

    def __init__(self, n: Jets, value: Array, slope: Array, moves: np.ndarray) -> None:
        self.n, self.value, self.slope, self.moves = n, value, slope, moves

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(self.value.size)

    @property
    def is_still(self) -> bool:
        """Whether all are constants."""
        return not self.moves.any()

    def is_nothing(self) -> np.ndarray:
        """Which are the constant 0, so that products with them are constant too."""
        nothing = np.array(~self.moves)
        if nothing.any():
            nothing[nothing] = self.n.answers(_is_zero, plain(self.value)[nothing])
        return nothing

    def __neg__(self) -> SeriesArray:
        return self.n.made(-self.value, (self.moves, lambda: -self.slope))

    def __add__(self, other: Any) -> SeriesArray:
        y = self.n.number(other)
        terms = (self.moves, lambda: self.slope), (y.moves, lambda: y.slope)
        return self.n.made(self.value + y.value, *terms)

    def __sub__(self, other: Any) -> SeriesArray:
        y = self.n.number(other)
        terms = (self.moves, lambda: self.slope), (y.moves, lambda: -y.slope)
        return self.n.made(self.value - y.value, *terms)

    def __mul__(self, other: Any) -> SeriesArray:
        y = self.n.number(other)
        return self.n.made(
            self.value * y.value,
            (self.moves & ~y.is_nothing(), lambda: self.slope * y.value),
            (y.moves & ~self.is_nothing(), lambda: self.value * y.slope),
        )

    def __truediv__(self, other: Any) -> SeriesArray:
        y = self.n.number(other)
        quotient = self.value / y.value
        return self.n.made(
            quotient,
            (self.moves, lambda: self.slope / y.value),
            (y.moves & ~self.is_nothing(), lambda: -quotient * y.slope / y.value),
        )

    def __radd__(self, other: Any) -> SeriesArray:
        return self.n.number(other) + self

    def __rsub__(self, other: Any) -> SeriesArray:
        return self.n.number(other) - self

    def __rmul__(self, other: Any) -> SeriesArray:
        return self.n.number(other) * self

    def __rtruediv__(self, other: Any) -> SeriesArray:
        return self.n.number(other) / self


@dataclass(frozen=True)
class SeriesMask:
    """Truth values at t = 0 and just after it, not all the same."""

    at: Mask
    after: Mask

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.at)

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Jets(Numbers):
    """Arrays of a + b t + O(t^2), their coefficients balls at a fixed precision."""

    dtype = np.dtype(object)

    def __init__(self, bits: int = 128) -> None:
        self.ball = Ball(bits)
        self.ties = 0
        self._arb = self.ball.arb
        self._nothing = plain(self.ball.zero)[()]

    @property
    def bits(self) -> int:
        """The precision of midpoints. It may be raised at any time: what was lifted is exact."""
        return self.ball.bits

    @bits.setter
    def bits(self, bits: int) -> None:
        self.ball.bits = bits

    @property
    def undecided(self) -> int:
        """How many elements have met an open choice or left an edge so far."""
        return self.ball.undecided

    @undecided.setter
    def undecided(self, count: int) -> None:
        self.ball.undecided = count

    # ---- in and out -----------------------------------------------------------------------------

    def lift(self, array: Any) -> Array:
        if isinstance(array, SeriesArray):
            return array
        lifted = self.ball.lift(array)
        return self._constant(lifted) if self.ball.is_number(lifted) else lifted

    def lift_along(self, x: Array, direction: Array) -> SeriesArray:
        """x + t * direction, floats or balls; elements whose direction is 0 are constants.

        Raises:
            ValueError: When the shapes differ.
        """
        value, slope = self.ball.lift(x), self.ball.lift(direction)
        if value.shape != slope.shape:
            raise ValueError(f"a direction of shape {slope.shape} at {value.shape}")
        moves = self.answers(lambda b: not b.is_zero(), slope)
        return SeriesArray(self, value, slope, moves)

    def value(self, x: SeriesArray) -> Array:
        """The constant terms, as balls."""
        return x.value

    def slope(self, x: SeriesArray) -> Array:
        """The coefficients of t, as balls: the derivative along the direction."""
        return x.slope

    def lower(self, x: Array) -> np.ndarray:
        return self.ball.lower(x.value if isinstance(x, SeriesArray) else x)

    def radius(self, x: SeriesArray) -> np.ndarray:
        """Upper bounds of the radii of the constant terms, as float64."""
        return self.ball.radius(x.value)

    def full(self, shape: Sequence[int], number: float) -> Array:
        return self._constant(self.ball.full(shape, number))

    def number(self, x: Any) -> SeriesArray:
        """An operand as numbers, integers and Python's floats too."""
        if isinstance(x, SeriesArray):
            return x
        return self._constant(self.ball.lift(np.asarray(x, np.float64)))

    def is_number(self, x: Array) -> bool:
        return isinstance(x, SeriesArray)

    def is_mask(self, x: Array) -> bool:
        return isinstance(x, SeriesMask) or self.ball.is_mask(x)

    @property
    def pi(self) -> Array:
        return self._constant(self.ball.pi)

    def _constant(self, value: Array) -> SeriesArray:
        shape = value.shape
        none = self.ball.box(np.broadcast_to(np.asarray(self.ball.zero), shape))
        return SeriesArray(self, value, none, np.broadcast_to(np.False_, shape))

    def made(self, value: Array, *terms: tuple[np.ndarray, Callable[[], Array]]) -> SeriesArray:
        """Numbers with these constant terms, whose slope is a sum.

        Args:
            value: The constant terms.
            terms: What adds to the slope, and where: elsewhere it adds 0 whatever it says, and it
                is not even asked when there is no such place.
        """
        shape = value.shape
        slope: Any = None
        moves: Any = False
        for where, term in terms:
            if not where.any():
                continue
            part = plain(term())
            if not where.all():
                part = np.where(where, part, self._nothing)
            slope = self.ball.box(part) if slope is None else slope + self.ball.box(part)
            moves = np.logical_or(moves, where)
        if slope is None:
            return self._constant(value)
        slope = self.ball.broadcast_to(slope, shape)
        return SeriesArray(self, value, slope, np.broadcast_to(moves, shape))

    def _arrays(self, function: Callable[..., Any], *operands: Array) -> np.ndarray:
        """A function of single elements, as an object array."""
        elementwise = np.frompyfunc(function, len(operands), 1)
        return np.asarray(self.ball.apply(elementwise, *operands), object)

    def answers(self, function: Callable[..., bool], *operands: Any) -> np.ndarray:
        """A question about single elements, as a plain boolean array."""
        return np.asarray(self._arrays(function, *operands), bool)

    def _balls(self, function: Callable[..., Any], *operands: Array) -> Array:
        elementwise = np.frompyfunc(function, len(operands), 1)
        return self.ball.box(self.ball.elementwise(elementwise, *operands))

    # ---- structure: the same of both coefficients ------------------------------------------------

    def _each(self, function: Callable[[Any], Any], x: Array) -> Array:
        if isinstance(x, SeriesArray):
            value, slope = function(x.value), function(x.slope)
            return SeriesArray(self, value, slope, function(x.moves))
        if isinstance(x, SeriesMask):
            return SeriesMask(function(x.at), function(x.after))
        return function(x)

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        return self._each(lambda part: self.ball.reshape(part, shape), x)

    def transpose(self, x: Array, perm: Sequence[int]) -> Array:
        return self._each(lambda part: self.ball.transpose(part, perm), x)

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return self._each(lambda part: self.ball.broadcast_to(part, shape), x)

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        if any(isinstance(x, SeriesMask) for x in parts):
            return self._in_pairs(lambda *parts: self.ball.concat(parts, axis), *parts)
        if not any(isinstance(x, SeriesArray) for x in parts):
            return self.ball.concat(parts, axis)
        columns = zip(*(_coefficients(self.number(x)) for x in parts), strict=True)
        return SeriesArray(self, *(self.ball.concat(column, axis) for column in columns))

    def take(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        return self._each(lambda part: self.ball.take(part, indices, axis), x)

    def take_along(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        return self._each(lambda part: self.ball.take_along(part, indices, axis), x)

    def slice(self, x: Array, cuts: Sequence[slice]) -> Array:
        return self._each(lambda part: self.ball.slice(part, cuts), x)

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], fill: Array) -> Array:
        if not isinstance(x, SeriesArray):
            return self._each(lambda part: self.ball.pad(part, widths, fill), x)
        columns = zip(_coefficients(x), _coefficients(self.number(fill)), strict=True)
        return SeriesArray(self, *(self.ball.pad(part, widths, f) for part, f in columns))

    def windows(
        self, x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return self._each(lambda part: self.ball.windows(part, kernel, strides, dilations), x)

    def overlap_add(
        self, x: Array, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return self._each(lambda part: self.ball.overlap_add(part, sizes, strides, dilations), x)

    def scatter(
        self, x: Array, places: tuple[np.ndarray, ...], updates: Array, reduction: str
    ) -> Array:
        if isinstance(x, SeriesArray):
            columns = zip(_coefficients(x), _coefficients(self.number(updates)), strict=True)
            return SeriesArray(
                self, *(self.ball.scatter(p, places, u, reduction) for p, u in columns)
            )
        if isinstance(x, SeriesMask) or isinstance(updates, SeriesMask):
            return self._in_pairs(
                lambda p, u: self.ball.scatter(p, places, u, reduction), x, updates
            )
        return self.ball.scatter(x, places, updates, reduction)

    def _in_pairs(self, function: Callable[..., Mask], *masks: Mask) -> Mask:
        """A function of masks, at t = 0 and just after."""
        if not any(isinstance(mask, SeriesMask) for mask in masks):
            return function(*masks)
        return SeriesMask(function(*map(at_0, masks)), function(*map(after_it, masks)))


def _is_zero(x: Any) -> bool:
    return bool(x.is_zero())


def _coefficients(x: SeriesArray) -> tuple[Array, Array, np.ndarray]:
    return x.value, x.slope, x.moves


def at_0(mask: Mask) -> Mask:
    """Truth values at t = 0."""
    return mask.at if isinstance(mask, SeriesMask) else mask


def after_it(mask: Mask) -> Mask:
    """Truth values just after t = 0."""
    return mask.after if isinstance(mask, SeriesMask) else mask
