"""Expressions: every number is a SymPy expression, to be differentiated by SymPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import CannotError
from gradcli.numbers.base import Array, Mask
from gradcli.numbers.boxed import Boxed
from gradcli.numbers.floats import real

_LARGEST_INTEGER = 2.0**20


class Symbol(Boxed):
    """SymPy expressions over real symbols.

    Floats become SymPy floats of 53 bits, which hold every float64 exactly and fold as float64
    does (exact rationals grow by a weight's 24 bits with every layer), and small whole floats
    become integers, so that 0, 1 and whole exponents simplify. Sigmoid, softplus and erfc come in
    forms whose derivatives, as SymPy writes them, neither overflow nor cancel in the tails
    (that of tanh, 1 - tanh(x)^2, does cancel). Choices are Piecewise, since the derivatives of
    Max, Abs and sign are Heaviside and DiracDelta.
    """

    name = "symbol"

    def __init__(self) -> None:
        import sympy
        from sympy.codegen import cfunctions

        self._sympy: Any = sympy
        self._log1p = cfunctions.log1p
        self._expm1 = cfunctions.expm1
        self._erfc = _tail_erfc(sympy)

    def symbols(self, name: str, shape: Sequence[int]) -> Array:
        """An array of real symbols: `x_0_1` stands at [0, 1]; `x` alone has no dimensions."""
        out = np.empty(tuple(shape), object)
        for i in np.ndindex(*shape):
            out[i] = self._sympy.Symbol("_".join((name, *map(str, i))), real=True)
        return self.box(out)

    # ---- elementwise ----------------------------------------------------------------------------

    def _function(self, function: Callable[..., Any], x: Array) -> Array:
        """A function of expressions; of a number, its value to 53 bits."""

        def of(v: Any) -> Any:
            # Unevaluated: SymPy would ask long sums for their sign, 20 ms each at 32 terms.
            y = function(v, evaluate=False)
            if not v.is_Number:
                return y
            return self._constant(y.doit() if v.is_Rational else y)

        return self._map(of, x)

    def _by_floats(self, name: str, x: Array) -> Array:
        """SymPy's function of this name; of a number, what floats give.

        SymPy's own would fold numbers into fractions of pi, or raise at infinity.
        """
        function, of_float = getattr(self._sympy, name), getattr(real, name)

        def of(v: Any) -> Any:
            if v.is_Number:
                return self._element(float(of_float(np.float64(self._float(v)))))
            return function(v, evaluate=False)

        return self._map(of, x)

    def _constant(self, x: Any) -> Any:
        """A constant as one number: rational where it is so, else a float or nan."""
        if x.is_Rational:
            return x
        if x.is_Number or x.is_extended_real:
            return x.evalf()
        return self._sympy.nan

    def _is(self, x: Array, number: int) -> Mask:
        """Where x is this very constant."""
        return self._truth(lambda v: bool(v.is_Number and v == number), x)

    def exp(self, x: Array) -> Array:
        return self._function(self._sympy.exp, x)

    def log(self, x: Array) -> Array:
        y = self._function(self._sympy.log, x)
        return self.where(self._is(x, 0), self.full((), -np.inf), y)

    def log1p(self, x: Array) -> Array:
        # SymPy's own stays unevaluated at infinity.
        y = self.where(self.is_infinite(x), self.log(x), self._function(self._log1p, x))
        return self.where(self._is(x, -1), self.full((), -np.inf), y)

    def expm1(self, x: Array) -> Array:
        finite = self._function(self._expm1, x)
        return self.where(self.is_infinite(x), self.exp(x) - self.full((), 1.0), finite)

    def sqrt(self, x: Array) -> Array:
        return self.power(x, self.full((), 0.5))

    def tanh(self, x: Array) -> Array:
        return self._function(self._sympy.tanh, x)

    def sigmoid(self, x: Array) -> Array:
        # Each form stays finite on its own side, and so does its derivative.
        right = 1 / (1 + self.exp(-x))
        left = self.exp(x) / (1 + self.exp(x))
        return self.where(self.less(x, self.zero), left, right)

    def erf(self, x: Array) -> Array:
        return self._function(self._sympy.erf, x)

    def erfc(self, x: Array) -> Array:
        return self._function(self._erfc, x)

    def sin(self, x: Array) -> Array:
        return self._function(self._sympy.sin, x)

    def cos(self, x: Array) -> Array:
        return self._function(self._sympy.cos, x)

    def tan(self, x: Array) -> Array:
        return self._by_floats("tan", x)

    def asin(self, x: Array) -> Array:
        return self._by_floats("asin", x)

    def acos(self, x: Array) -> Array:
        return self._by_floats("acos", x)

    def atan(self, x: Array) -> Array:
        return self._by_floats("atan", x)

    def sinh(self, x: Array) -> Array:
        return self._by_floats("sinh", x)

    def cosh(self, x: Array) -> Array:
        return self._by_floats("cosh", x)

    def asinh(self, x: Array) -> Array:
        return self._by_floats("asinh", x)

    def acosh(self, x: Array) -> Array:
        return self._by_floats("acosh", x)

    def atanh(self, x: Array) -> Array:
        return self._by_floats("atanh", x)

    def power(self, x: Array, y: Array) -> Array:
        def power(v: Any, w: Any) -> Any:
            # A half as a rational: SymPy knows sqrt(x), and not that x**0.5 is the same.
            if w.is_Float and (2 * float(w)).is_integer():
                w = self._sympy.Rational(int(2 * w), 2)
            if v.is_zero and w.free_symbols:
                # Its derivative in w would be 0**w log 0.
                pieces = (1, self._sympy.Eq(w, 0)), (0, w > 0), (self._sympy.oo, True)
                return self._sympy.Piecewise(*pieces)
            y = v**w
            return self._constant(y) if v.is_Number and w.is_Number else y

        return self._map(power, x, y)

    def sign(self, x: Array) -> Array:
        zero = self._sympy.Integer(0)

        def sign(v: Any) -> Any:
            if v.is_Number:
                return self._sympy.sign(v)
            pieces = (-1, self._less(v, zero)), (1, self._less(zero, v)), (zero, True)
            return self._sympy.Piecewise(*pieces, evaluate=False)

        return self._map(sign, x)

    def floor(self, x: Array) -> Array:
        return self._map(self._sympy.floor, x)

    def round_to(self, x: Array, dtype: np.dtype[Any]) -> Array:
        def rounded(v: Any) -> Any:
            if v.free_symbols:
                raise CannotError("a symbol cannot be rounded to a narrower float type")
            return self._element(float(np.float64(self._float(v)).astype(dtype)))

        return self._map(rounded, x)

    def to_integer(self, x: Array, dtype: np.dtype[Any]) -> np.ndarray:
        return np.asarray(np.trunc(self.lower(x)).astype(dtype))

    def is_nan(self, x: Array) -> Mask:
        return self._truth(lambda v: v is self._sympy.nan, x)

    def is_infinite(self, x: Array) -> Mask:
        infinities = (self._sympy.oo, -self._sympy.oo, self._sympy.zoo)
        return self._truth(lambda v: v in infinities, x)

    # ---- single elements ------------------------------------------------------------------------

    def _element(self, number: float) -> Any:
        if number.is_integer() and abs(number) <= _LARGEST_INTEGER:
            return self._sympy.Integer(int(number))
        return self._sympy.Float(number)

    def _is_element(self, x: Any) -> bool:
        return isinstance(x, self._sympy.Expr)

    def _float(self, x: Any) -> float:
        if x.free_symbols:
            raise CannotError("an expression with free symbols has no value")
        if x.is_extended_real is False or x is self._sympy.nan:
            return float("nan")
        try:
            return float(x)
        except OverflowError:
            return float("inf") if x > 0 else float("-inf")

    def _less(self, x: Any, y: Any) -> Any:
        if x == y:
            return False
        return self._relation(self._sympy.StrictLessThan, x, y)

    def _equal(self, x: Any, y: Any) -> Any:
        return True if x == y else self._relation(self._sympy.Equality, x, y)

    def _relation(self, kind: Any, x: Any, y: Any) -> Any:
        # Unevaluated where symbols are involved: SymPy would prove or refute it, slowly.
        if not (x.is_Number and y.is_Number):
            return kind(x, y, evaluate=False)
        return self._sympy.nan not in (x, y) and bool(kind(x, y))

    def _not(self, a: Any) -> Any:
        return not a if isinstance(a, bool) else self._sympy.Not(a)

    def _and(self, a: Any, b: Any) -> Any:
        return self._all([a, b])

    def _all(self, truths: list[Any]) -> Any:
        """Unevaluated too, but for what is decided."""
        if False in truths:
            return False
        rest = [a for a in dict.fromkeys(truths) if a is not True]
        if len(rest) < 2:
            return rest[0] if rest else True
        return self._sympy.And(*rest, evaluate=False)

    def _choose(self, truth: Any, x: Any, y: Any) -> Any:
        return x if x == y else self._sympy.Piecewise((x, truth), (y, True), evaluate=False)

    def _total(self, terms: list[Any]) -> Any:
        return self._sympy.Add(*terms)

    def _greatest(self, terms: list[Any]) -> Any:
        # Flat, each candidate against those after it: nested maxima would double at every step.
        terms = list(dict.fromkeys(terms))
        pieces = []
        for k, x in enumerate(terms[:-1]):
            beaten = [self._not(self._less(x, y)) for y in terms[k + 1 :]]
            condition = self._all(beaten)
            if condition is not False:
                pieces.append((x, condition))
            if condition is True:
                break
        else:
            pieces.append((terms[-1], True))
        if len(pieces) == 1:
            return pieces[0][0]
        return self._sympy.Piecewise(*pieces, evaluate=False)

    def maximum(self, x: Array, y: Array) -> Array:
        if not self.is_number(x) and not self.is_number(y):
            return super().maximum(x, y)
        return self._map(lambda a, b: self._greatest([a, b]), x, y)

    def _product(self, a: np.ndarray, b: np.ndarray) -> list[Any]:
        columns = b.T.tolist()
        return [
            self._sympy.Add(*(v * w for v, w in zip(row, column, strict=True)))
            for row in a.tolist()
            for column in columns
        ]

    def anchor(self, x: Array, axis: int) -> Array:
        shape = list(x.shape)
        shape[axis] = 1
        return self.full(shape, 0.0)


def _tail_erfc(sympy: Any) -> Any:
    """SymPy's erfc, but erfc(-x) is left alone: as 2 - erfc(x) it would cancel for large x."""

    class erfc(sympy.erfc):  # type: ignore[misc]  # noqa: N801  (printers go by this name)
        @classmethod
        def eval(cls, x: Any) -> Any:
            return sympy.erfc(x) if x.is_Number else None

    return erfc
