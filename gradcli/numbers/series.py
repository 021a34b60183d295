"""Power series in t, cut after t, with balls as coefficients: a value and its slope along a line.

An operator's `impl` on x + t d gives f(x) and the derivative of f along d, both rigorously
enclosed, and by none of the operators' rules: only by those of the number system's own few
functions, which stand here.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any, NamedTuple

import numpy as np

from gradcli.errors import CannotError
from gradcli.numbers.ball import OPEN, Ball
from gradcli.numbers.base import Array, Mask, Numbers
from gradcli.numbers.boxed import as_mask, plain
from gradcli.numbers.floats import real


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

    def __init__(self, n: Series, value: Array, slope: Array, moves: np.ndarray) -> None:
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


class Series(Numbers):
    """Series a + b t + O(t^2) for t from 0 on, their coefficients balls at a fixed precision.

    Everything is as it is just after t = 0: what the constant terms decide is decided, and at an
    exact tie the slopes do. So maxima, absolute values and choices between branches that meet have
    their one-sided derivative at a tie. Where steps (a floor, a sign, a rounding, a cast, an order,
    a choice between branches that do not meet) leave an edge at t = 0, they are as they are just
    after it, and counted in `undecided`: the slope of a function that jumps there would be that
    beside the jump. What the balls leave open takes the hull of both branches and is counted too;
    where an integer hangs on it, it is refused. At a vertical tangent (the square root at 0) the
    slope is infinite, or nan where a series cut this short does not tell.

    Attributes:
        ball: The number system of the coefficients.
        ties: How many choices so far hung on the slopes. While there is none, and nothing is
            `undecided`, the slopes are those for t below 0 too. Set it to 0 to count anew.
    """

    name = "series"
    dtype = np.dtype(object)

    def __init__(self, bits: int = 128) -> None:
        self.ball = Ball(bits)
        self.ties = 0
        # Steps are looked at so close to their edges that lower precision does not tell them apart.
        self._fine = Ball()
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
        return self.ball.box(self._arrays(function, *operands))

    # ---- elementwise ----------------------------------------------------------------------------

    def _chain(self, x: SeriesArray, y: Array, partial: Callable[[Any], Any]) -> SeriesArray:
        """y = f(x), given f' as a function of single balls."""
        return self.made(y, (x.moves, lambda: self._balls(partial, x.value) * x.slope))

    def _edged(
        self, x: SeriesArray, y: Array, gap: Callable[[SeriesArray], SeriesArray]
    ) -> SeriesArray:
        """y = f(x), where f' is 1 / sqrt(gap) and the domain ends where the gap is 0."""

        def slope(left: Any, opens: Any, s: Any) -> Any:
            if not left.is_zero():
                return s * left.rsqrt()
            # From an edge inwards it is infinite; outwards there is nothing.
            self.ties += not s.is_zero()
            if not opens > 0:
                return self._arb.nan()
            return self._arb.pos_inf() if s > 0 else self._arb.neg_inf()

        def term() -> Array:
            to_edge = gap(x)
            return self._balls(slope, to_edge.value, to_edge.slope, x.slope)

        return self.made(y, (x.moves, term))

    def exp(self, x: Array) -> Array:
        return self._chain(x, self.ball.exp(x.value), lambda v: v.exp())

    def log(self, x: Array) -> Array:
        return self._chain(x, self.ball.log(x.value), lambda v: 1 / v)

    def log1p(self, x: Array) -> Array:
        return self._chain(x, self.ball.log1p(x.value), lambda v: 1 / (1 + v))

    def expm1(self, x: Array) -> Array:
        return self._chain(x, self.ball.expm1(x.value), lambda v: v.exp())

    def sqrt(self, x: Array) -> Array:
        return self._edged(x, self.ball.sqrt(x.value), lambda x: x * 4.0)

    def tanh(self, x: Array) -> Array:
        return self._chain(x, self.ball.tanh(x.value), lambda v: v.sech() ** 2)

    def sigmoid(self, x: Array) -> Array:
        return self._chain(
            x, self.ball.sigmoid(x.value), lambda v: 1 / ((1 + v.exp()) * (1 + (-v).exp()))
        )

    def softplus(self, x: Array) -> Array:
        return self._chain(x, self.ball.softplus(x.value), lambda v: 1 / (1 + (-v).exp()))

    def erf(self, x: Array) -> Array:
        return self._chain(x, self.ball.erf(x.value), self._bell)

    def erfc(self, x: Array) -> Array:
        return self._chain(x, self.ball.erfc(x.value), lambda v: -self._bell(v))

    def _bell(self, v: Any) -> Any:
        """The slope of the error function."""
        return 2 * (-v * v).exp() / self._arb.const_sqrt_pi()

    def sin(self, x: Array) -> Array:
        return self._chain(x, self.ball.sin(x.value), lambda v: v.cos())

    def cos(self, x: Array) -> Array:
        return self._chain(x, self.ball.cos(x.value), lambda v: -v.sin())

    def tan(self, x: Array) -> Array:
        return self._chain(x, self.ball.tan(x.value), lambda v: v.sec() ** 2)

    def asin(self, x: Array) -> Array:
        return self._edged(x, self.ball.asin(x.value), lambda x: 1.0 - x * x)

    def acos(self, x: Array) -> Array:
        slope = self._edged(x, x.value, lambda x: 1.0 - x * x).slope
        return self.made(self.ball.acos(x.value), (x.moves, lambda: -slope))

    def atan(self, x: Array) -> Array:
        return self._chain(x, self.ball.atan(x.value), lambda v: 1 / (1 + v * v))

    def sinh(self, x: Array) -> Array:
        return self._chain(x, self.ball.sinh(x.value), lambda v: v.cosh())

    def cosh(self, x: Array) -> Array:
        return self._chain(x, self.ball.cosh(x.value), lambda v: v.sinh())

    def asinh(self, x: Array) -> Array:
        return self._chain(x, self.ball.asinh(x.value), lambda v: (1 + v * v).rsqrt())

    def acosh(self, x: Array) -> Array:
        return self._edged(x, self.ball.acosh(x.value), lambda x: (x - 1.0) * (x + 1.0))

    def atanh(self, x: Array) -> Array:
        return self._chain(x, self.ball.atanh(x.value), lambda v: 1 / ((1 - v) * (1 + v)))

    def power(self, x: Array, y: Array) -> Array:
        x, y = self.number(x), self.number(y)
        z = self.ball.power(x.value, y.value)

        def in_x(v: Any, w: Any, s: Any) -> Any:
            if v.is_zero() and w < 1 and not w.is_zero():
                self.ties += not s.is_zero()
                return self._arb.pos_inf() if w > 0 and s > 0 else self._arb.nan()
            return s * w * self.ball.power_of(v, w - 1) if not w.is_zero() else self._nothing

        def in_y(v: Any, w: Any, p: Any, s: Any) -> Any:
            # t^w for a fixed w > 0 is o(1), whatever w does meanwhile.
            return self._nothing if v.is_zero() and w > 0 else p * v.log() * s

        return self.made(
            z,
            (x.moves, lambda: self._balls(in_x, x.value, y.value, x.slope)),
            (y.moves, lambda: self._balls(in_y, x.value, y.value, z, y.slope)),
        )

    # ---- steps ----------------------------------------------------------------------------------

    def _step(self, x: SeriesArray, step: Callable[[Ball, Array], Array]) -> SeriesArray:
        y = self._just_after(x, plain(step(self.ball, x.value)), step, self._arb.union)
        return self._constant(self.ball.box(y))

    def _just_after(
        self,
        x: SeriesArray,
        y: np.ndarray,
        step: Callable[[Ball, Array], Array],
        either: Callable[[Any, Any], Any],
    ) -> np.ndarray:
        """Steps that leave an edge at t = 0, as they are just after it, and counted.

        Args:
            x: The operand.
            y: The step's value at t = 0.
            step: The step, given a system of balls and the numbers.
            either: Of two of its values, what contains both.
        """
        exact = self.answers(
            lambda v, moves: moves and v.is_exact() and v.is_finite(), x.value, x.moves
        )
        if not exact.any():
            return y
        self._fine.bits = 4 * max(self.bits, 64)
        at = np.array(np.asarray(y)[exact])
        low, high = (
            np.asarray(plain(step(self._fine, self._beside(plain(x.value)[exact], side))))
            for side in (-1, 1)
        )
        slopes = plain(x.slope)[exact].tolist()
        for k, (here, below, above, slope) in enumerate(zip(at, low, high, slopes, strict=True)):
            if not here == below == above:
                self.ties += 1
                after = above if slope > 0 else below if slope < 0 else either(below, above)
                unchanged = bool(after == here)  # which `!=` would not deny of wide balls
                self.undecided += not unchanged
                at[k] = after
        y = np.array(y)
        y[exact] = at
        return y

    def _beside(self, exact: np.ndarray, side: int) -> Array:
        """Numbers so close to exact ones that no edge of a step lies between."""
        with self._fine.working():
            nearly = 1 + self._arb((side, -self._fine.bits // 2))
        from_0 = self._arb((side, -1 << 15))

        def move(v: Any) -> Any:
            return from_0 if v.is_zero() else v * nearly if v > 0 else v * (2 - nearly)

        return self._fine.box(self._fine.apply(np.frompyfunc(move, 1, 1), exact))

    def sign(self, x: Array) -> Array:
        return self._step(x, lambda ball, v: ball.sign(v))

    def floor(self, x: Array) -> Array:
        return self._step(x, lambda ball, v: ball.floor(v))

    def round_to(self, x: Array, dtype: np.dtype[Any]) -> Array:
        return self._step(x, lambda ball, v: ball.round_to(v, dtype))

    def to_integer(self, x: Array, dtype: np.dtype[Any]) -> np.ndarray:
        whole = self.ball.to_integer(x.value, dtype)
        return self._just_after(x, whole, lambda ball, v: ball.to_integer(v, dtype), _either)

    # ---- comparisons and choice -----------------------------------------------------------------

    def less(self, x: Array, y: Array) -> Mask:
        return self._compared(self.ball.less, x, y)

    def equal(self, x: Array, y: Array) -> Mask:
        return self._compared(self.ball.equal, x, y)

    def _compared(self, compare: Callable[..., Mask], x: Array, y: Array) -> Mask:
        if not self.is_number(x) and not self.is_number(y):
            return self._in_pairs(compare, x, y)
        x, y = self.number(x), self.number(y)
        at = compare(x.value, y.value)
        tied = self._tied(x, y)
        if x is y or not tied.any():
            return at
        self.ties += int(np.count_nonzero(tied))
        a, b = (
            self.ball.box(np.broadcast_to(np.asarray(v.slope), tied.shape)[tied]) for v in (x, y)
        )
        after = np.array(plain(at), object)
        same = _is(self.ball.equal(a, b), truth=True)
        after[tied] = np.where(same, np.array(OPEN), plain(compare(a, b)))
        return SeriesMask(at, as_mask(after))

    def _tied(self, x: SeriesArray, y: SeriesArray) -> np.ndarray:
        """Where the constant terms are exactly equal, and something moves."""
        moves = np.asarray(np.logical_or(x.moves, y.moves))
        if not moves.any():
            return moves
        return np.asarray(moves & _is(self.ball.equal(x.value, y.value), truth=True))

    def _in_pairs(self, function: Callable[..., Mask], *masks: Mask) -> Mask:
        """A function of masks, at t = 0 and just after."""
        if not any(isinstance(mask, SeriesMask) for mask in masks):
            return function(*masks)
        return SeriesMask(function(*map(_at, masks)), function(*map(_after, masks)))

    def logical_not(self, mask: Mask) -> Mask:
        return self._in_pairs(self.ball.logical_not, mask)

    def logical_and(self, a: Mask, b: Mask) -> Mask:
        return self._in_pairs(self.ball.logical_and, a, b)

    def logical_or(self, a: Mask, b: Mask) -> Mask:
        return self._in_pairs(self.ball.logical_or, a, b)

    def mask_to_number(self, mask: Mask) -> Array:
        return self.where(mask, self.full((), 1.0), self.zero)

    def where(self, mask: Mask, x: Array, y: Array) -> Array:
        if self.is_number(x) or self.is_number(y):
            return self._choice(mask, self.number(x), self.number(y))
        if self.is_mask(x) and self.is_mask(y):
            return self._in_pairs(self.ball.where, mask, x, y)
        chosen = self.ball.where(_after(mask), x, y)
        if isinstance(mask, SeriesMask):
            self.undecided += int(np.sum(chosen != self.ball.where(mask.at, x, y)))
        return chosen

    def _choice(self, mask: Mask, x: SeriesArray, y: SeriesArray) -> SeriesArray:
        at, after = (np.asarray(plain(m), object) for m in (_at(mask), _after(mask)))
        first = _is(after, truth=True)
        value, slope, moves = (
            np.where(first, a, b) for a, b in zip(_parts(x), _parts(y), strict=True)
        )
        doubtful = np.broadcast_to(_is(after, OPEN) | (at != after), value.shape)
        if not doubtful.any():
            return SeriesArray(self, self.ball.box(value), self.ball.box(slope), moves)
        x, y = (self.broadcast_to(v, value.shape) for v in (x, y))
        after = np.broadcast_to(after, value.shape)
        with self.ball.working():
            for i in np.argwhere(doubtful).tolist():
                k = tuple(i)
                v, w = _jet(x, k), _jet(y, k)
                value[k], slope[k], moves[k] = self._meeting(after[k], v, w)
        return SeriesArray(self, self.ball.box(value), self.ball.box(slope), moves)

    def _meeting(self, after: Any, x: _Jet, y: _Jet) -> _Jet:
        """What becomes of a choice that is open, or is another one just after t = 0."""
        level = x.value == y.value
        if after is OPEN:
            if level and x.slope == y.slope:
                return x._replace(moves=x.moves or y.moves)
            self.undecided += 1
            return _Jet(x.value.union(y.value), x.slope.union(y.slope), moves=True)
        self.undecided += not level
        return x if after else y

    def maximum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return super().maximum(x, y)
        x, y = self.number(x), self.number(y)
        order = self._arrays(_order, x.value, y.value).astype(np.int8)
        value, slope, moves = (
            np.where(order >= 0, a, b) for a, b in zip(_parts(x), _parts(y), strict=True)
        )
        unclear = np.broadcast_to((order == OVERLAP) | self._tied(x, y), value.shape)
        if unclear.any():
            x, y = (self.broadcast_to(v, value.shape) for v in (x, y))
            with self.ball.working():
                for i in np.argwhere(unclear).tolist():
                    k = tuple(i)
                    value[k], slope[k], moves[k] = self._greatest([_jet(x, k), _jet(y, k)])
        return SeriesArray(self, self.ball.box(value), self.ball.box(slope), moves)

    def minimum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return super().minimum(x, y)
        return -self.maximum(-self.number(x), -self.number(y))

    def abs(self, x: Array) -> Array:
        if not self.is_number(x):
            return super().abs(x)
        folded = self.maximum(x, -x)
        return SeriesArray(self, self._balls(abs, x.value), folded.slope, folded.moves)

    def _greatest(self, jets: list[_Jet]) -> _Jet:
        """The greatest of at least one, counted where that is open."""
        top = functools.reduce(self._arb.max, (x.value for x in jets))
        rivals = [x for x in jets if not x.value < top]
        slopes = [x.slope for x in rivals]
        moves = any(x.moves for x in rivals)
        if all(x.value == rivals[0].value for x in rivals[1:]):
            self.ties += moves and len(rivals) > 1
            return _Jet(rivals[0].value, functools.reduce(self._arb.max, slopes), moves)
        self.undecided += 1
        return _Jet(top, functools.reduce(self._arb.union, slopes), moves)

    # ---- reductions and products ----------------------------------------------------------------

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return real.sum(x, axes, keepdims)
        value = self.ball.sum(x.value, axes, keepdims)
        if x.is_still:
            return self._constant(value)
        moves = np.any(x.moves, axis=tuple(axes), keepdims=keepdims)
        return SeriesArray(self, value, self.ball.sum(x.slope, axes, keepdims), np.asarray(moves))

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return real.max(x, axes, keepdims)
        if x.is_still or not x.size:
            return self._constant(self.ball.max(x.value, axes, keepdims))
        axes = tuple(a % x.ndim for a in axes)
        rest = tuple(a for a in range(x.ndim) if a not in axes)
        kept = tuple(x.shape[a] for a in rest)
        rows = [
            np.transpose(part, (*rest, *axes)).reshape(int(np.prod(kept)), -1).tolist()
            for part in _parts(x)
        ]
        with self.ball.working():
            tops = [self._greatest(list(map(_Jet, *row))) for row in zip(*rows, strict=True)]
        value, slope, moves = (
            np.fromiter(column, kind, len(tops)).reshape(kept)
            for column, kind in zip(zip(*tops, strict=True), (object, object, bool), strict=True)
        )
        made = SeriesArray(self, self.ball.box(value), self.ball.box(slope), moves)
        return self._each(lambda part: np.expand_dims(part, axes), made) if keepdims else made

    def argmax(self, x: Array, axis: int) -> np.ndarray:
        if not self.is_number(x):
            return real.argmax(x, axis)
        winner = self.ball.argmax(x.value, axis)
        tied = self._tied(x, self.take_along(x, np.expand_dims(winner, axis), axis))
        if not tied.any():
            return winner
        after = np.array(winner)
        rows = [np.moveaxis(part, axis, -1) for part in (*_parts(x), tied)]
        with self.ball.working():
            for row in np.argwhere(rows[3].any(-1)).tolist():
                jets = list(map(_Jet, *(part[tuple(row)].tolist() for part in rows[:3])))
                top = winner[tuple(row)]
                for k in np.flatnonzero(rows[3][tuple(row)]).tolist():
                    if k != winner[tuple(row)] and self._order(jets[k], jets[top]) > 0:
                        top = k
                after[tuple(row)] = top
        self.undecided += int(np.sum(after != winner))
        return after

    def argsort(self, x: Array, axis: int) -> np.ndarray:
        if not self.is_number(x):
            return real.argsort(x, axis)
        order = self.ball.argsort(x.value, axis)
        low, high = (
            self.take(self.take_along(x, order, axis), np.arange(*cut), axis)
            for cut in ((x.shape[axis] - 1,), (1, x.shape[axis]))
        )
        if not self._tied(low, high).any():
            return order
        rows = [np.moveaxis(part, axis, -1) for part in _parts(x)]
        after = np.moveaxis(np.array(order), axis, -1)
        with self.ball.working():
            for row in np.ndindex(*after.shape[:-1]):
                jets = list(map(_Jet, *(part[row].tolist() for part in rows)))
                key = cmp_to_key(lambda i, j, jets=jets: self._order(jets[i], jets[j]))  # type: ignore[misc] # mypy knows no lambda's defaults
                after[row] = sorted(range(len(jets)), key=key)
        self.undecided += int(np.sum(np.moveaxis(after, -1, axis) != order))
        return np.moveaxis(after, -1, axis)

    def _order(self, x: _Jet, y: _Jet) -> int:
        """-1, 0 or 1 as x is less than, the same as or more than y just after t = 0."""
        order = _order(x.value, y.value)
        if order or not (x.moves or y.moves):
            return order
        order = _order(x.slope, y.slope)
        self.ties += 1
        if order == OVERLAP:
            raise CannotError("an order hangs on slopes that ball arithmetic cannot decide")
        # What is the same up to t^2 may be in either order after all.
        self.undecided += not order
        return order

    def anchor(self, x: Array, axis: int) -> Array:
        return self._constant(self.ball.anchor(x.value, axis))

    def matmul(self, a: Array, b: Array) -> Array:
        if not self.is_number(a) and not self.is_number(b):
            return real.matmul(a, b)
        a, b = self.number(a), self.number(b)
        value = self.ball.matmul(a.value, b.value)
        slopes = []
        if not a.is_still:
            slopes.append(self.ball.matmul(a.slope, b.value))
        if not b.is_still:
            slopes.append(self.ball.matmul(a.value, b.slope))
        if not slopes:
            return self._constant(value)
        rows = (a.moves if a.ndim > 1 else a.moves[None]).any(-1, keepdims=True)
        columns = (b.moves if b.ndim > 1 else b.moves[:, None]).any(-2, keepdims=True)
        moves = np.logical_or(rows, columns).reshape(value.shape)
        slope = np.where(moves, plain(functools.reduce(operator.add, slopes)), self._nothing)
        return SeriesArray(self, value, self.ball.box(slope), moves)

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


class _Jet(NamedTuple):
    """One number: its coefficients, and whether it moves."""

    value: Any
    slope: Any
    moves: bool


OVERLAP = 2
"""No order: two balls have common points, and are not the same number."""


def _order(x: Any, y: Any) -> int:
    """-1, 0 or 1 as x is less than, exactly or more than y."""
    if x < y:
        return -1
    if x > y:
        return 1
    return 0 if x == y else OVERLAP


def _either(*_: Any) -> Any:
    raise CannotError("an integer hangs on a step that a series cut this short does not decide")


def _is_zero(x: Any) -> bool:
    return bool(x.is_zero())


def _jet(x: SeriesArray, place: tuple[int, ...]) -> _Jet:
    return _Jet(*(part[place] for part in _parts(x)))


def _coefficients(x: SeriesArray) -> tuple[Array, Array, np.ndarray]:
    return x.value, x.slope, x.moves


def _parts(x: SeriesArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coefficients as object arrays, and what moves."""
    return plain(x.value), plain(x.slope), x.moves


def _at(mask: Mask) -> Mask:
    return mask.at if isinstance(mask, SeriesMask) else mask


def _after(mask: Mask) -> Mask:
    return mask.after if isinstance(mask, SeriesMask) else mask


def _is(mask: Mask, truth: Any) -> np.ndarray:
    """Where a mask is this truth value."""
    array = np.asarray(plain(mask))
    if array.dtype == np.bool_ and not isinstance(truth, bool):
        return np.zeros(array.shape, bool)
    return np.asarray(array == truth, bool)
