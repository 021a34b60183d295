"""What a series is just after t = 0: steps, comparisons, choices and orders."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from functools import cmp_to_key
from typing import Any, NamedTuple

import numpy as np

from gradcli.errors import UndecidedError
from gradcli.numbers.ball import OPEN, Ball
from gradcli.numbers.base import Array, Mask
from gradcli.numbers.boxed import as_mask, plain
from gradcli.numbers.floats import real
from gradcli.numbers.jets import Jets, SeriesArray, SeriesMask, after_it, at_0


class Sided(Jets):
    """Series whose choices are made as they are just after t = 0; see `Series`."""

    def __init__(self, bits: int = 128) -> None:
        super().__init__(bits)
        # Steps are looked at so close to their edges that lower precision does not tell them apart.
        self._fine = Ball()

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
        chosen = self.ball.where(after_it(mask), x, y)
        if isinstance(mask, SeriesMask):
            self.undecided += int(np.sum(chosen != self.ball.where(mask.at, x, y)))
        return chosen

    def _choice(self, mask: Mask, x: SeriesArray, y: SeriesArray) -> SeriesArray:
        at, after = (np.asarray(plain(m), object) for m in (at_0(mask), after_it(mask)))
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
        level = self.ball.same(x.value, y.value)
        if after is OPEN:
            if level and self.ball.same(x.slope, y.slope):
                return x._replace(moves=x.moves or y.moves)
            self.undecided += 1
            return _Jet(x.value.union(y.value), x.slope.union(y.slope), moves=True)
        self.undecided += not level
        return x if after else y

    def maximum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return super().maximum(x, y)
        return self._farther(self.number(x), self.number(y), self._greatest, 1)

    def minimum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return super().minimum(x, y)
        return self._farther(self.number(x), self.number(y), self._least, -1)

    def _farther(
        self, x: SeriesArray, y: SeriesArray, extreme: Callable[[list[_Jet]], _Jet], way: int
    ) -> SeriesArray:
        """The one of two numbers that is farther up, or down."""
        order = self._arrays(_order, x.value, y.value).astype(np.int8)
        value, slope, moves = (
            np.where(way * order >= 0, a, b) for a, b in zip(_parts(x), _parts(y), strict=True)
        )
        unclear = np.broadcast_to((order == OVERLAP) | self._tied(x, y), value.shape)
        if unclear.any():
            x, y = (self.broadcast_to(v, value.shape) for v in (x, y))
            with self.ball.working():
                for i in np.argwhere(unclear).tolist():
                    k = tuple(i)
                    value[k], slope[k], moves[k] = extreme([_jet(x, k), _jet(y, k)])
        return SeriesArray(self, self.ball.box(value), self.ball.box(slope), moves)

    def abs(self, x: Array) -> Array:
        if not self.is_number(x):
            return super().abs(x)
        folded = self.maximum(x, -x)
        return SeriesArray(self, self._balls(abs, x.value), folded.slope, folded.moves)

    def _greatest(self, jets: list[_Jet]) -> _Jet:
        """The greatest of at least one, counted where that is open."""
        return self._extreme(jets, self._arb.max, operator.lt)

    def _least(self, jets: list[_Jet]) -> _Jet:
        """The least of at least one, counted where that is open."""
        return self._extreme(jets, self._arb.min, operator.gt)

    def _extreme(
        self, jets: list[_Jet], fold: Callable[..., Any], behind: Callable[..., bool]
    ) -> _Jet:
        end = functools.reduce(fold, (x.value for x in jets))
        rivals = [x for x in jets if not behind(x.value, end)]
        slopes = [x.slope for x in rivals]
        moves = any(x.moves for x in rivals)
        if all(self.ball.same(x.value, rivals[0].value) for x in rivals[1:]):
            self.ties += moves and len(rivals) > 1
            return _Jet(rivals[0].value, functools.reduce(fold, slopes), moves)
        self.undecided += 1
        return _Jet(end, functools.reduce(self._arb.union, slopes), moves)

    # ---- orders ---------------------------------------------------------------------------------

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return real.max(x, axes, keepdims)
        if x.is_still or not x.size:
            return self._constant(self.ball.max(x.value, axes, keepdims))
        return self._fold(x, axes, keepdims, self._greatest)

    def min(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return super().min(x, axes, keepdims)
        if x.is_still or not x.size:
            return self._constant(self.ball.min(x.value, axes, keepdims))
        return self._fold(x, axes, keepdims, self._least)

    def _fold(
        self,
        x: SeriesArray,
        axes: Sequence[int],
        keepdims: bool,
        extreme: Callable[[list[_Jet]], _Jet],
    ) -> SeriesArray:
        """The extreme one of all that differ only in these axes."""
        axes = tuple(a % x.ndim for a in axes)
        rest = tuple(a for a in range(x.ndim) if a not in axes)
        kept = tuple(x.shape[a] for a in rest)
        rows = [
            np.transpose(part, (*rest, *axes)).reshape(int(np.prod(kept)), -1).tolist()
            for part in _parts(x)
        ]
        with self.ball.working():
            tops = [extreme(list(map(_Jet, *row))) for row in zip(*rows, strict=True)]
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
            raise UndecidedError("an order hangs on slopes that ball arithmetic cannot decide")
        # What is the same up to t^2 may be in either order after all.
        self.undecided += not order
        return order


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
    return 0 if x is y or x == y else OVERLAP


def _either(*_: Any) -> Any:
    raise UndecidedError("an integer hangs on a step that a series cut this short does not decide")


def _jet(x: SeriesArray, place: tuple[int, ...]) -> _Jet:
    return _Jet(*(part[place] for part in _parts(x)))


def _parts(x: SeriesArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The coefficients as object arrays, and what moves."""
    return plain(x.value), plain(x.slope), x.moves


def _is(mask: Mask, truth: Any) -> np.ndarray:
    """Where a mask is this truth value."""
    array = np.asarray(plain(mask))
    if array.dtype == np.bool_ and not isinstance(truth, bool):
        return np.zeros(array.shape, bool)
    return np.asarray(array == truth, bool)
