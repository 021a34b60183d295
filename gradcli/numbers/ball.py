"""Rigorous enclosures: every number is a midpoint and a radius, by python-flint's `arb`."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np

from gradcli import deadline
from gradcli.errors import MissingExtraError, UndecidedError
from gradcli.numbers import alike
from gradcli.numbers.base import Array
from gradcli.numbers.boxed import Boxed, plain


class _Open:
    """The truth value of a comparison that the balls leave open."""

    def __bool__(self) -> bool:
        raise UndecidedError("a choice hangs on a comparison that ball arithmetic cannot decide")

    def __repr__(self) -> str:
        return "open"


OPEN = _Open()

REMEMBERED = 1 << 21
"""Elements of lifted arrays whose matrices are kept, at about 50 bytes each."""


class Ball(Boxed):
    """Balls at a fixed precision: whatever is computed contains what real numbers would give.

    A choice that the balls leave open takes the hull of both branches and is counted in
    `undecided`; where an integer hangs on it (an argmax, a cast) it is refused.
    flint's precision is global: it is set inside every operation and put back, so systems of
    different precision may alternate, but not run in threads side by side.

    Attributes:
        bits: The precision of midpoints. It may be raised at any time: what was lifted is exact.
        arb: flint's type of one ball.
        undecided: How many elements have met an open choice so far, kinks of maxima and absolute
            values included. Set it to 0 to count anew.
        remembered: How many elements of lifted arrays are kept as matrices too.
        alike: Whether results of operands that are the same stay the same object, so that numbers
            equal by construction are known to be equal, at a price of about a microsecond each.

    Raises:
        MissingExtraError: Without python-flint.
    """

    name = "ball"

    def __init__(self, bits: int = 128) -> None:
        self._flint = _import_flint()
        self.arb: Any = self._flint.arb
        self.bits = bits
        self.undecided = 0
        self.remembered = 0
        self.alike = False
        self._matrices: dict[tuple[Any, ...], tuple[np.ndarray, Any]] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        """flint's precision is `bits` inside."""
        context = self._flint.ctx
        before = context.prec
        context.prec = self.bits
        try:
            yield
        finally:
            context.prec = before

    def elementwise(self, function: Callable[..., Any], *operands: Any, **how: Any) -> np.ndarray:
        if not self.alike or how:
            return super().elementwise(function, *operands, **how)
        with self.working(), np.errstate(all="ignore"):
            deadline.check()
            return alike.each(function, self._key, *map(plain, operands))

    def _key(self, x: Any) -> Any:
        """What elements have in common that are certainly the same number."""
        exact = isinstance(x, self.arb) and x.is_exact() and x.is_finite()
        return x.man_exp() if exact else id(x)

    def radius(self, x: Array) -> np.ndarray:
        """Upper bounds of the radii, as float64; 0 for exact numbers alone."""
        radii = (
            0.0 if v.is_exact() else np.nextafter(float(v.rad()), np.inf) for v in plain(x).flat
        )
        return np.fromiter(radii, np.float64, x.size).reshape(x.shape)

    @property
    def pi(self) -> Array:
        with self.working():
            return self.box(self.arb.pi())

    # ---- elementwise ----------------------------------------------------------------------------

    def exp(self, x: Array) -> Array:
        return self._map(self.arb.exp, x)

    def log(self, x: Array) -> Array:
        return self._map(self.arb.log, x)

    def log1p(self, x: Array) -> Array:
        return self._map(self.arb.log1p, x)

    def expm1(self, x: Array) -> Array:
        return self._map(self.arb.expm1, x)

    def sqrt(self, x: Array) -> Array:
        return self._map(self.arb.sqrt, x)

    def tanh(self, x: Array) -> Array:
        return self._map(self.arb.tanh, x)

    def sigmoid(self, x: Array) -> Array:
        return self._map(lambda v: 1 / (1 + (-v).exp()), x)

    def softplus(self, x: Array) -> Array:
        # One form does for all: nothing overflows here, and a choice of forms would count as open.
        return self._map(lambda v: v.exp().log1p(), x)

    def erf(self, x: Array) -> Array:
        return self._map(self.arb.erf, x)

    def erfc(self, x: Array) -> Array:
        return self._map(self.arb.erfc, x)

    def sin(self, x: Array) -> Array:
        return self._map(self.arb.sin, x)

    def cos(self, x: Array) -> Array:
        return self._map(self.arb.cos, x)

    def tan(self, x: Array) -> Array:
        return self._map(self.arb.tan, x)

    def asin(self, x: Array) -> Array:
        return self._map(self.arb.asin, x)

    def acos(self, x: Array) -> Array:
        return self._map(self.arb.acos, x)

    def atan(self, x: Array) -> Array:
        return self._map(self.arb.atan, x)

    def sinh(self, x: Array) -> Array:
        return self._map(self.arb.sinh, x)

    def cosh(self, x: Array) -> Array:
        return self._map(self.arb.cosh, x)

    def asinh(self, x: Array) -> Array:
        return self._map(self.arb.asinh, x)

    def acosh(self, x: Array) -> Array:
        return self._map(self.arb.acosh, x)

    def atanh(self, x: Array) -> Array:
        return self._map(self.arb.atanh, x)

    def power(self, x: Array, y: Array) -> Array:
        return self._map(self.power_of, x, y)

    def sign(self, x: Array) -> Array:
        return self._map(lambda v: self._step(v.sgn()), x)

    def floor(self, x: Array) -> Array:
        return self._map(lambda v: self._step(v.floor()), x)

    def round_to(self, x: Array, dtype: np.dtype[Any]) -> Array:
        def rounded(v: Any) -> Any:
            low, high = (self._nearest(end, dtype) for end in (v.lower(), v.upper()))
            return self._step(self.arb(low).union(self.arb(high)))

        return self._map(rounded, x)

    def to_integer(self, x: Array, dtype: np.dtype[Any]) -> np.ndarray:
        def cut(v: Any) -> int:
            low, high = (end.ceil() if end < 0 else end.floor() for end in (v.lower(), v.upper()))
            whole = low.union(high).unique_fmpz()
            if whole is None:
                raise UndecidedError("ball arithmetic cannot decide an integer that is asked for")
            return int(whole)

        return np.asarray(self.apply(np.frompyfunc(cut, 1, 1), x)).astype(dtype)

    def maximum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return super().maximum(x, y)
        return self._map(self._greater, x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return super().minimum(x, y)
        return self._map(self._lesser, x, y)

    def min(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return super().min(x, axes, keepdims)

        def least(row: list[Any]) -> Any:
            return self._extreme(row, self.arb.min, operator.gt) if row else self.arb("inf")

        return self.box(self._rows(x, axes, keepdims, least))

    def abs(self, x: Array) -> Array:
        if not self.is_number(x):
            return super().abs(x)
        return self._map(lambda v: abs(v) if v >= 0 or v <= 0 else self._seen(abs(v)), x)

    # ---- single elements ------------------------------------------------------------------------

    def _element(self, number: float) -> Any:
        return self.arb(number)

    def _elements(self, numbers: list[float]) -> Iterable[Any]:
        return map(self.arb, numbers)

    def _is_element(self, x: Any) -> bool:
        return isinstance(x, self.arb)

    def _float(self, x: Any) -> float:
        return float(x)

    def _seen(self, x: Any) -> Any:
        self.undecided += 1
        return x

    def _step(self, x: Any) -> Any:
        """A step function's value, which is exact unless the step was left open."""
        return x if x.is_exact() else self._seen(x)

    def power_of(self, x: Any, y: Any) -> Any:
        """x to the y, single elements."""
        whole = y.unique_fmpz() if y.is_exact() else None
        if whole is not None and abs(whole) <= 1024:
            # By products: arb's power is nan where the base is a ball around 0.
            return _repeated(x, int(whole), self.arb(1))
        if x == 0 and y > 0:
            return self.arb(0)
        return x**y

    def _nearest(self, exact: Any, dtype: np.dtype[Any]) -> float:
        """An exact number rounded to a float type, ties to even."""
        number = float(exact)
        rest = exact - self.arb(number)
        inexact = np.isfinite(number) and not rest.is_zero()
        if dtype.itemsize < 8 and inexact and np.float64(number).view(np.int64) % 2 == 0:
            # Rounding twice is rounding once if the first time goes to the odd neighbour.
            number = float(np.nextafter(number, np.inf if rest > 0 else -np.inf))
        with np.errstate(over="ignore"):
            return float(np.float64(number).astype(dtype))

    def _less(self, x: Any, y: Any) -> Any:
        if x < y:
            return True
        return False if (x is y and x.is_finite()) or x >= y else OPEN

    def _equal(self, x: Any, y: Any) -> Any:
        if self.same(x, y):
            return True
        return False if x != y else OPEN

    def same(self, x: Any, y: Any) -> bool:
        """Whether two balls certainly enclose the same number.

        A ball that is no point still encloses one number: the very same one equals itself, as what
        a maximum has taken equals that maximum.
        """
        return bool((x is y and x.is_finite()) or x == y)

    def _not(self, a: Any) -> Any:
        return a if a is OPEN else not a

    def _and(self, a: Any, b: Any) -> Any:
        if OPEN not in (a, b):
            return bool(a and b)
        return False if a is False or b is False else OPEN

    def _choose(self, _: Any, x: Any, y: Any) -> Any:
        return x if self.same(x, y) else self._seen(x.union(y))

    def _total(self, terms: list[Any]) -> Any:
        return functools.reduce(self.arb.__add__, terms)

    def _greater(self, x: Any, y: Any) -> Any:
        if x >= y:
            return x
        return y if x < y or x is y else self._seen(x.max(y))

    def _lesser(self, x: Any, y: Any) -> Any:
        if x <= y:
            return x
        return y if x > y or x is y else self._seen(x.min(y))

    def _greatest(self, terms: list[Any]) -> Any:
        return self._extreme(terms, self.arb.max, operator.lt)

    def _extreme(
        self,
        terms: list[Any],
        fold: Callable[[Any, Any], Any],
        behind: Callable[[Any, Any], bool],
    ) -> Any:
        """The one of at least one that no other is certainly before, or what contains it."""
        end = functools.reduce(fold, terms)
        rivals = [v for v in terms if not behind(v, end)]
        tied = all(v is rivals[0] or v == rivals[0] for v in rivals[1:])
        return rivals[0] if tied and rivals else self._seen(end)

    def overlap(self, x: Array, y: Array) -> np.ndarray:
        """Where two balls have a number in common: where they may enclose the same one."""
        elementwise = np.frompyfunc(lambda a, b: a.overlaps(b), 2, 1)
        return np.asarray(self.apply(elementwise, self._number(x), self._number(y)), bool)

    def _each_row(self, function: Callable[[list[Any]], Any], rows: np.ndarray) -> np.ndarray:
        if not self.alike:
            return super()._each_row(function, rows)
        first, copies = alike.distinct(alike.named(rows, self._key))
        return np.asarray(super()._each_row(function, rows[first])[copies], object)

    def _products(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if not self.alike or 0 in (*a.shape, *b.shape):
            return super()._products(a, b)
        return alike.product(super()._products, self._key, a, b)

    def _product(self, a: np.ndarray, b: np.ndarray) -> list[Any]:
        (m, k), n = a.shape, b.shape[1]
        padded = self._padded(m, k, n)
        entries: list[Any] = (
            self._matrix(a, padded[0], padded[1]) * self._matrix(b, padded[1], padded[2])
        ).entries()
        if padded[2] > n:
            rows = (entries[r : r + n] for r in range(0, m * padded[2], padded[2]))
            return list(chain.from_iterable(rows))
        return entries[: m * n]

    def _padded(self, m: int, k: int, n: int) -> tuple[int, int, int]:
        """Sizes to multiply matrices in, with zeros behind, where that is faster.

        From 64 on flint multiplies by residues, at about a fifth of the price.
        """
        sizes = [64 if 16 <= size < 64 else size for size in (m, k, n)]
        if self.bits > 512 or math.prod(sizes) > 3 * m * k * n:
            return m, k, n
        return sizes[0], sizes[1], sizes[2]

    def _matrix(self, x: np.ndarray, rows: int, columns: int) -> Any:
        """An object array as flint's matrix, with zeros behind.

        Lifted arrays, which are never written to, are remembered, and so are their views: weights
        are used again and again, and in a recurrence making the matrix costs more than its product.
        """
        root: Any = x
        while root.base is not None:
            root = root.base
        lasting = isinstance(root, np.ndarray) and not root.flags.writeable
        key = (x.ctypes.data, x.shape, x.strides, rows, columns)
        if lasting and (known := self._matrices.pop(key, None)):
            self._matrices[key] = known
            return known[1]
        if x.shape != (rows, columns):
            wide = np.full((rows, columns), self.arb(0), object)
            wide[: x.shape[0], : x.shape[1]] = x
            x = wide
        matrix = self._flint.arb_mat(rows, columns, x.reshape(-1).tolist())
        if lasting and root.size <= REMEMBERED:
            # The array is kept too, lest another come to lie in its place.
            self._matrices[key] = root, matrix
            self.remembered += root.size
            while self.remembered > REMEMBERED:
                oldest, _ = self._matrices.pop(next(iter(self._matrices)))
                self.remembered -= oldest.size
        return matrix

    def anchor(self, x: Array, axis: int) -> Array:
        def middle(row: list[Any]) -> Any:
            top = max((v.mid() for v in row), key=float, default=self.arb(0))
            return top if top.is_finite() else self.arb(0)

        return self.box(self._rows(x, (axis,), True, middle))


class Points(Ball):
    """Balls in arrays without a class of their own, for what reads numbers and makes margins.

    Comparisons, maxima and roundings by NumPy itself are let through: they are right where no ball
    has a radius, and whoever asks looks at what comes of it.
    """

    name = "points"

    def box(self, x: Any) -> Any:
        return np.asarray(plain(super().box(x)))

    def is_number(self, x: Array) -> bool:
        return isinstance(x, np.ndarray) and x.dtype == self.dtype

    def _number(self, x: Array) -> Array:
        return x if self.is_number(x) else super()._number(x)


def _repeated(x: Any, exponent: int, one: Any) -> Any:
    """x to a whole exponent, by squaring."""
    # The inverse first: a power of a wide ball may reach 0 where the ball itself does not.
    out, square, exponent = one, x if exponent >= 0 else one / x, abs(exponent)
    while exponent:
        out = out * square if exponent & 1 else out
        exponent >>= 1
        square = square * square if exponent else square
    return out


def _import_flint() -> Any:
    try:
        import flint
    except ImportError as error:
        raise MissingExtraError(
            "rigorous enclosures need python-flint, which is not installed",
            'pip install "gradcli[certified]"',
        ) from error
    return flint
