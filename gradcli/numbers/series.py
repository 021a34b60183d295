"""Power series in t, cut after t, with balls as coefficients: a value and its slope along a line.

An operator's `impl` on x + t d gives f(x) and the derivative of f along d, both rigorously
enclosed, and by none of the operators' rules: only by those of the number system's own few
functions, which stand here.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.numbers.base import Array
from gradcli.numbers.boxed import plain
from gradcli.numbers.floats import real
from gradcli.numbers.jets import SeriesArray
from gradcli.numbers.sided import Sided


class Series(Sided):
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

    # ---- reductions and products ----------------------------------------------------------------

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return real.sum(x, axes, keepdims)
        value = self.ball.sum(x.value, axes, keepdims)
        if x.is_still:
            return self._constant(value)
        moves = np.any(x.moves, axis=tuple(axes), keepdims=keepdims)
        return SeriesArray(self, value, self.ball.sum(x.slope, axes, keepdims), np.asarray(moves))

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
